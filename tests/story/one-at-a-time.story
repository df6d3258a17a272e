story   one component at a time is between its swap and its verdict
given   installed 1.0.0
given   rollout r2 seq 2 1.1.0
given   stage r2 all open all
given   busy waf
expect  wait busy 1.1.0 staging
when    idle
expect  target 1.1.0 rollout r2
