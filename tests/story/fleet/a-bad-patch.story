story   a patch in a hurry that crashes is halted by its first step all the same (FIELD.md section 2)
given   fleet 24
given   release 1.1.0 crashing
given   plan profile: patch
given   plan "gates": {silent_after: 1d, require: []}   # nodes of the simulation report every six hours
when    rollout 1.1.0
when    hours 5
expect  state r1 halted
expect  reached 1.1.0 2
expect  count 1.0.0 24
