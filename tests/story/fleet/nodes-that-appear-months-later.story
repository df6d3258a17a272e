story   nodes that appear months later take what is done, and only that
given   fleet 12
given   release 1.1.0 fine
given   release 1.2.0 crashing
given   plan stages:
given   plan - {name: canary, nodes: [n00000]}
given   plan - {name: all, all: true}
when    rollout 1.1.0
when    days 1
expect  state r1 done
given   plan stages:
given   plan - {name: canary, nodes: [n00000]}
given   plan - {name: all, all: true}
when    rollout 1.2.0
when    days 80
expect  state r2 halted
when    node absent
when    node 1.0.0
when    hours 1
expect  runs n00012 1.1.0
expect  runs n00013 1.1.0
expect  reached 1.2.0 1
