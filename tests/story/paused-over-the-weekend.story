story   a paused rollout is downloaded, not swapped, and goes on when resumed
given   installed 1.0.0
given   rollout r2 seq 2 1.1.0
given   stage r2 all open all
when    state r2 paused
expect  wait paused 1.1.0 staging
when    time 259200
expect  wait paused 1.1.0 staging
when    state r2 running
expect  target 1.1.0 rollout r2
