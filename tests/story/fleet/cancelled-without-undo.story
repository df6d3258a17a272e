story   cancelled: who has it keeps it, who has not begun never begins; undone later, they return
given   fleet 24
given   release 1.1.0 fine
given   plan stages:
given   plan - {name: canary, nodes: [n00000, n00001], soak: 2h}
given   plan - {name: all, all: true}
when    rollout 1.1.0
when    hours 1
when    cancelled r1
when    days 2
expect  count 1.1.0 2
when    undone r1
when    hours 1
expect  count 1.1.0 0
