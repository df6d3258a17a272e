story   a rolled-back node does not take the bad version again
given   installed 1.0.0
given   good 1.0.0
given   rollout r1 seq 1 1.0.0 done
given   stage r1 all open all
given   rollout r2 seq 2 1.1.0
given   stage r2 all open all
expect  target 1.1.0 rollout r2
when    failed 1.1.0 by r2 all
expect  stay denied
when    rollout r3 seq 3 1.1.0              # the same release, rolled out once more
when    stage r3 all open all
expect  stay denied
when    rollout r4 seq 4 1.1.1              # the repaired one
when    stage r4 all open all
expect  target 1.1.1 rollout r4
