story   a halted rollout takes the canary back, and only the canary
given   node n1
given   installed 1.0.0
given   good 1.0.0
given   rollout r2 seq 2 1.2.0
given   stage r2 canary open nodes n1
given   stage r2 rest closed all
given   moved 1.2.0 by r2 canary
when    state r2 halted undo canary
expect  target 1.0.0 undo
when    returned 1.0.0
when    denied 1.2.0 undone 2
expect  stay halted
when    rollout r3 seq 3 1.2.0              # named again on purpose
when    stage r3 all open all
expect  target 1.2.0 rollout r3
