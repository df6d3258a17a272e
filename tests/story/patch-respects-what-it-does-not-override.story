story   a patch without overrides waits for the window like everybody else
given   installed 1.0.0
given   rollout p1 seq 6 1.0.1 patch
given   stage p1 all open all
given   window p1 stops
expect  wait window 1.0.1 staging
when    freeze
expect  wait frozen 1.0.1
