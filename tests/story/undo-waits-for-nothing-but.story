story   an undo is not stopped by windows or freezes, but by the disruption limit
given   installed 1.0.0
given   rollout r2 seq 2 1.2.0
given   stage r2 all open all
given   moved 1.2.0 by r2 all
given   window r2 stops
given   freeze
given   held
when    state r2 cancelled undo all
expect  target 1.0.0 undo
when    lease r2 stops
expect  wait lease 1.0.0 staging
