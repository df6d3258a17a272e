story   a patch passes a deferral it may override, and never an inhibitor or a hold
given   installed 1.0.0
given   rollout p2 seq 2 1.0.1 patch overrides deferral
given   stage p2 all open all
given   defer p2 86400
expect  target 1.0.1 rollout p2
when    inhibited
expect  wait inhibited 1.0.1 staging
when    free
when    order hold 1000
expect  wait support-hold 1.0.1
when    withdrawn hold
when    held
expect  wait local-hold 1.0.1
when    released
when    rollout p3 seq 3 1.0.2 patch       # this one may not
when    stage p3 all open all
when    defer p3 86400
expect  wait deferred 1.0.2 staging
