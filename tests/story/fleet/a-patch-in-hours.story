story   a patch takes the same steps, and the whole fleet has it within five hours (FIELD.md section 2)
given   fleet 24
given   days 2                               # nodes added today prove nothing yet
given   release 1.1.0 fine
given   plan profile: patch
given   plan "gates": {silent_after: 1d, require: []}   # nodes of the simulation report every six hours
when    rollout 1.1.0
when    minutes 20
expect  open r1 first
expect  count 1.1.0 2
when    hours 1
expect  open r1 first,few
when    minutes 220
expect  state r1 done
expect  count 1.1.0 24
