story   a halt takes nothing back by itself unless the plan says so: who has it keeps it until a person decides
given   fleet 24
given   release 1.1.0 one-site 5
given   plan stages:
given   plan - {name: canary, nodes: [n00000, n00001], soak: 1h}
given   plan - {name: second, nodes: [n00002, n00005], soak: 1h}
given   plan - {name: all, all: true}
when    rollout 1.1.0
when    days 3
expect  state r1 halted
expect  runs n00002 1.1.0
expect  runs n00000 1.1.0
expect  runs n00005 1.0.0
when    undone r1
when    hours 1
expect  count 1.1.0 0
