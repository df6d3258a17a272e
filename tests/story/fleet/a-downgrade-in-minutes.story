story   back to the version that was approved before: minutes, not days, and no step between (FIELD.md section 2)
given   fleet 24
given   days 2                               # nodes added today prove nothing yet
given   release 1.1.0 fine
given   plan profile: patch
given   plan "gates": {silent_after: 1d, require: []}   # nodes of the simulation report every six hours
when    rollout 1.1.0
when    days 1
expect  count 1.1.0 24
given   plan profile: downgrade
when    rollout 1.0.0
when    minutes 15
expect  count 1.0.0 24
