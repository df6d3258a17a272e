story   two nodes fail in the same minute: halted once, nobody else is reached (FIELD.md 5)
given   fleet 24
given   release 1.1.0 crashing
given   plan stages:
given   plan - {name: canary, nodes: [n00000, n00012], soak: 1h}
given   plan - {name: all, all: true}
when    rollout 1.1.0
when    hours 2
expect  state r1 halted
expect  open r1 canary
expect  why r1 of 24 nodes failed, 0 are borne: n000
expect  runs n00000 1.0.0
expect  runs n00012 1.0.0
expect  reached 1.1.0 2
when    days 3
expect  state r1 halted
expect  reached 1.1.0 2                      # and they do not take it again
