story   a soak over the end of February is as long as it says in a leap year
given   fleet 12
given   release 1.1.0 fine
given   plan stages:
given   plan - {name: canary, nodes: [n00000], soak: 2d}
given   plan - {name: all, all: true}
when    time 2028-02-28T06:00:00Z
when    rollout 1.1.0
when    time 2028-03-01T06:00:00Z            # two days later: 29 February is between
expect  open r1 canary
when    time 2028-03-01T08:00:00Z
expect  open r1 canary,all
expect  state r1 done
