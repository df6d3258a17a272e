story   a forced rollback skips windows, spread, freezes and holds
given   installed 1.0.0
given   good 1.0.0
given   rollout r1 seq 1 1.1.0
given   stage r1 all open all
given   moved 1.1.0 by r1 all
given   window r1 stops
given   spread r1 stops
given   lease r1 stops
given   freeze
given   held
given   stale
given   stuck
when    order rollback 1.1.0 1.0.0
expect  target 1.0.0 rollback
when    inhibited                           # only a running workload may ask for patience
expect  wait inhibited 1.0.0 staging
