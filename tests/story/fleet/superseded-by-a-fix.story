story   a halted rollout is left alone when a newer release supersedes it, also on the nodes that took the bad one
given   fleet 24
given   release 1.1.0 at-night
given   release 1.2.0 fine
given   plan stages:
given   plan - {name: canary, nodes: [n00000, n00001], soak: 1h}
given   plan - {name: all, all: true, soak: 2d}
when    time 2028-01-03T09:00:00Z
when    rollout 1.1.0
when    days 1
expect  state r1 halted
given   plan stages:
given   plan - {name: canary, nodes: [n00000, n00001], soak: 1h}
given   plan - {name: all, all: true, soak: 1h}
when    rollout 1.2.0
when    hours 6
expect  state r2 done
expect  count 1.2.0 24
