story   an order to a version that is not permitted only denies, and says so
given   installed 1.1.0
given   good 1.0.0
given   policy floor 1.1.0
given   order rollback 1.1.0 1.0.0
expect  stay order-refused
expect  refused
expect  denies 1.1.0
when    rollout r2 seq 2 1.2.0
when    stage r2 all open all
expect  target 1.2.0 rollout r2
expect  refused
