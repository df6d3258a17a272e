story   the customer's deferral and hold are respected, and named
given   installed 1.0.0
given   rollout r2 seq 2 1.1.0
given   stage r2 all open all
given   deferral r2 stops
expect  wait deferred 1.1.0 staging
when    deferral r2 passes
when    held
expect  wait local-hold 1.1.0
when    released
when    inhibited
expect  wait inhibited 1.1.0 staging
when    free
expect  target 1.1.0 rollout r2
