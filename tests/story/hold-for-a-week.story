story   support holds a node for a week
given   installed 1.0.0
given   rollout r2 seq 2 1.1.0
given   stage r2 all open all
given   order hold 604800
expect  wait support-hold 1.1.0
when    time 604800
expect  target 1.1.0 rollout r2
