story   an emergency patch goes before the weekly rollout and outside its window
given   installed 1.0.0
given   rollout r2 seq 5 1.1.0
given   stage r2 all open all
given   window r2 stops
expect  wait window 1.1.0 staging
when    rollout p1 seq 6 1.0.1 patch overrides window,spread
when    stage p1 all open all
when    window p1 stops
when    spread p1 stops
expect  target 1.0.1 rollout p1
when    moved 1.0.1 by p1 all
when    window r2 passes
when    rollout r6 seq 8 1.2.0
when    stage r6 all open all
expect  stay up-to-date                     # while the patch runs
when    state r6 cancelled
when    state p1 done
expect  stay halted                         # r2 was begun before the patch and may lack it
when    rollout r7 seq 7 1.1.1
when    stage r7 all open all
expect  target 1.1.1 rollout r7
