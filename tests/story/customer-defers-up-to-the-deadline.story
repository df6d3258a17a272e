story   a deferral holds until a day before the rollout's deadline, whatever was asked
given   installed 1.0.0
given   rollout r2 seq 2 1.1.0 deadline 604800
given   stage r2 all open all
given   notice r2 stops
expect  wait notice 1.1.0 staging
when    notice r2 passes
when    defer r2 900000
expect  wait deferred 1.1.0 staging
when    time 518399
expect  wait deferred 1.1.0 staging
when    time 518400
expect  target 1.1.0 rollout r2
when    time 604800
expect  wait deadline 1.1.0
