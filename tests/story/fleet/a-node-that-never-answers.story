story   a node that never answers holds the rollout up, with its name, until a person skips it (FIELD.md 3)
given   fleet 12
given   release 1.1.0 fine
given   plan stages:
given   plan - {name: canary, nodes: [n00000, n00001], soak: 1h}
given   plan - {name: all, all: true}
given   plan gates: {silent_after: 1h}
when    minutes 10
when    disconnected n00001
when    rollout 1.1.0
when    hours 12
expect  state r1 running
expect  open r1 canary
expect  why r1 n00001 has not started and has been silent for longer than allowed
when    skipped n00001
when    hours 2
expect  state r1 done
expect  runs n00001 1.0.0
when    unskipped n00001
when    connected n00001
when    hours 1
expect  runs n00001 1.1.0                    # a rollout that is done stays in force
