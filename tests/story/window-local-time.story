story   download first, install in the window
given   installed 1.0.0
given   rollout r2 seq 2 1.1.0
given   stage r2 all open all
given   window r2 stops
expect  wait window 1.1.0 staging
when    window r2 passes
when    blackout r2 stops
expect  wait window 1.1.0 staging
when    blackout r2 passes
expect  target 1.1.0 rollout r2
