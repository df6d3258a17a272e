story   a stage that selects no node stops the rollout there and says so (FIELD.md 4)
given   fleet 12
given   release 1.1.0 fine
given   plan stages:
given   plan - {name: canary, nodes: [n00000], soak: 1h}
given   plan - {name: nowhere, labels: {site: atlantis}}
given   plan - {name: all, all: true}
when    rollout 1.1.0
when    days 5
expect  state r1 running
expect  open r1 canary,nowhere
expect  why r1 stage 'nowhere' selects no node that is known here
expect  count 1.1.0 1
when    label n00005 site atlantis           # until there is one
when    hours 2
expect  state r1 done
expect  count 1.1.0 12
