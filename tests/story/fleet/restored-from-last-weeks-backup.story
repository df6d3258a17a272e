story   the controller comes back from last week's backup: what stopped stays stopped, nothing goes on by itself, nothing is taken back
given   fleet 24
given   release 1.1.0 fine
given   release 1.2.0 crashing
given   release 1.3.0 fine
given   plan stages:
given   plan - {name: canary, nodes: [n00000, n00001], soak: 1d}
given   plan - {name: half, share: 50%, soak: 1d}
given   plan - {name: all, all: true, soak: 1d}
when    rollout 1.1.0
when    hours 6
expect  open r1 canary
when    controller backed-up
when    days 4
expect  state r1 done
given   plan stages:
given   plan - {name: canary, nodes: [n00000, n00001]}
given   plan - {name: all, all: true}
when    rollout 1.2.0
when    hours 12
expect  state r2 halted
given   plan stages:
given   plan - {name: canary, nodes: [n00000, n00001], soak: 3d}
given   plan - {name: all, all: true}
when    rollout 1.3.0
when    hours 12
expect  open r3 canary
when    days 2
when    controller restored
when    days 5
expect  state r1 done                        # published so, although the backup has it running
expect  state r2 halted                      # the backup does not know it
expect  state r3 paused                      # nor this one, which ran
expect  open r3 canary
expect  count 1.1.0 22
expect  count 1.3.0 2
expect  reached 1.2.0 2
when    node 1.0.0
when    hours 2
expect  runs n00024 1.1.0                    # what is done is in force again
when    resumed r3
when    days 5
expect  state r3 done
expect  count 1.3.0 25
