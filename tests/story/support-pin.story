story   a pinned component neither follows a patch nor a rollout
given   installed 1.0.0
given   good 1.0.0
given   order pin 1.0.0
given   rollout r2 seq 2 1.2.0
given   stage r2 all open all
given   rollout p3 seq 3 1.0.1 patch
given   stage p3 all open all
expect  stay support-pin
when    withdrawn pin
expect  target 1.0.1 rollout p3
