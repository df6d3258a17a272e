story   a halt without undo leaves every node where it is
given   installed 1.0.0
given   rollout r2 seq 2 1.2.0
given   stage r2 canary open nodes n1
given   stage r2 rest open nodes n7
given   moved 1.2.0 by r2 canary
when    state r2 halted
expect  stay halted
when    state r2 halted undo rest           # another stage's nodes return
expect  stay halted
