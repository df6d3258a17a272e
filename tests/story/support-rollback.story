story   support sends one host back and keeps it there while other rollouts go on
given   installed 1.0.0
given   good 1.0.0
given   rollout r1 seq 1 1.1.0
given   stage r1 all open all
given   moved 1.1.0 by r1 all
when    order rollback 1.1.0 1.0.0
expect  target 1.0.0 rollback
expect  denies 1.1.0
when    returned 1.0.0
when    denied 1.1.0 forced
expect  stay support-rollback
when    rollout r2 seq 2 1.2.0
when    stage r2 all open all
expect  stay support-rollback
when    withdrawn rollback                  # the stay ends, the denial remains
expect  target 1.2.0 rollout r2
when    state r2 cancelled
expect  stay halted
