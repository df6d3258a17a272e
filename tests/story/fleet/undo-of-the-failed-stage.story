story   a plan may let what failed return by itself: the failed stage alone, the others are left for a person
given   fleet 24
given   release 1.1.0 one-site 5
given   plan stages:
given   plan - {name: canary, nodes: [n00000, n00001], soak: 1h}
given   plan - {name: second, nodes: [n00002, n00003, n00005], soak: 1h}
given   plan - {name: all, all: true}
given   plan gates: {undo: failed-stage}
when    rollout 1.1.0
when    hours 6
expect  state r1 halted
expect  open r1 canary,second
expect  runs n00005 1.0.0                    # by itself
expect  runs n00002 1.0.0
expect  runs n00003 1.0.0
expect  runs n00000 1.1.0                    # nothing failed there
expect  runs n00001 1.1.0
when    undone r1
when    hours 1
expect  count 1.1.0 0
