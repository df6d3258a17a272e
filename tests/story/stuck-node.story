story   a stuck node takes no rollouts but still obeys support
given   installed 1.1.0
given   good 1.0.0
given   rollout r2 seq 2 1.2.0
given   stage r2 all open all
given   stuck
expect  wait stuck 1.2.0
when    order rollback 1.1.0 1.0.0
expect  target 1.0.0 rollback
