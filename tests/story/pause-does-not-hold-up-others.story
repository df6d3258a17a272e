story   a stuck rollout does not block all later ones
given   installed 1.0.0
given   rollout r2 seq 2 1.1.0 paused
given   stage r2 all open all
when    rollout r3 seq 3 1.1.1
when    stage r3 all open all
expect  target 1.1.1 rollout r3
