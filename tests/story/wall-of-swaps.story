story   a fleet side gone mad swaps a component six times a day and no more
given   installed 1.0.0
given   rollout r2 seq 2 1.1.0
given   stage r2 all open all
given   swaps 6
expect  wait daily-limit 1.1.0 staging
when    rollout p3 seq 3 1.0.9 patch       # an emergency is none of its business
when    stage p3 all open all
expect  target 1.0.9 rollout p3
