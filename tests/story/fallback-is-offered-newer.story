story   a host that fell back on its own is offered the next version
given   installed 1.0.0
given   rollout r1 seq 1 1.1.0 done
given   stage r1 all open all
given   failed 1.1.0 by r1 all
expect  stay denied
when    rollout r2 seq 2 1.2.0
when    stage r2 all closed all
expect  wait stage-closed 1.2.0
when    open r2 all
expect  target 1.2.0 rollout r2
