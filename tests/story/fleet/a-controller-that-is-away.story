story   the controller dies in the middle of a stage: nodes finish, and it goes on where it was
given   fleet 24
given   release 1.1.0 fine
given   plan stages:
given   plan - {name: canary, nodes: [n00000, n00001], soak: 2h}
given   plan - {name: half, share: 50%, soak: 2h}
given   plan - {name: all, all: true}
when    rollout 1.1.0
when    minutes 3
when    controller away
when    days 3
expect  runs n00000 1.1.0                    # what was open is done without it
expect  open r1 canary
when    controller back
when    minutes 10
expect  open r1 canary                       # the soak counts from when it knew
when    hours 3
expect  open r1 canary,half
when    controller away
when    hours 1
when    controller back
when    days 1
expect  state r1 done
expect  count 1.1.0 24
