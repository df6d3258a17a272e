story   a host asleep for two months waits for fresh metadata instead of giving up
given   installed 1.0.0
given   good 1.0.0
given   rollout r2 seq 2 1.1.0
given   stage r2 all open all
given   stale
expect  wait stale 1.1.0
when    fresh
expect  target 1.1.0 rollout r2
