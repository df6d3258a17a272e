story   the weekly profile by itself: two quiet nodes for half a day, eight for a day, then in thirds (FIELD.md section 2)
given   fleet 24
given   days 2                               # nodes added today prove nothing yet
given   release 1.1.0 fine
given   plan profile: weekly
given   plan "gates": {silent_after: 1d, require: []}   # nodes of the simulation report every six hours
when    rollout 1.1.0
when    hours 11
expect  open r1 first
expect  count 1.1.0 2
expect  runs n00000 1.1.0
expect  runs n00012 1.1.0
when    hours 10
expect  open r1 first,few
expect  count 1.1.0 10
when    hours 24
expect  open r1 first,few,third
when    hours 24
expect  open r1 first,few,third,two-thirds
when    hours 26
expect  state r1 done                        # nobody was asked for anything
expect  count 1.1.0 24
