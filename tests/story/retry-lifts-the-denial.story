story   after a signed retry the node takes the version it had refused
given   installed 1.0.0
given   rollout r2 seq 2 1.1.0
given   stage r2 all open all
given   failed 1.1.0 by r2 all
expect  stay denied
when    retried 1.1.0
expect  target 1.1.0 rollout r2
