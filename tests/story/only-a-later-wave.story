story   "the updater is broken" was only a later wave, and why says so
given   installed 1.0.0
given   rollout r2 seq 2 1.1.0
given   stage r2 canary open nodes n7
given   stage r2 half closed share 60
given   stage r2 rest closed all
expect  wait stage-closed 1.1.0
when    open r2 half
expect  target 1.1.0 rollout r2
