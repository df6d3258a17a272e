story   a node that moves to another site under way stays where it began; one that has not begun follows its labels
given   fleet 24
given   release 1.1.0 fine
given   plan stages:
given   plan - {name: oslo, labels: {site: s00}, soak: 6h}
given   plan - {name: all, all: true, soak: 1h}
when    rollout 1.1.0
when    hours 1
expect  runs n00000 1.1.0
expect  runs n00005 1.0.0
when    label n00000 site s05
when    label n00005 site s00
when    hours 2
expect  runs n00000 1.1.0
expect  runs n00005 1.1.0                    # its stage is open now
expect  open r1 oslo
when    days 1
expect  state r1 done
expect  count 1.1.0 24
