story   serial: one node after the other, and the first that fails stops it (FIELD.md section 2)
given   fleet 12
given   release 1.1.0 one-site 2
given   plan stages:
given   plan - {name: a, nodes: [n00000]}
given   plan - {name: b, nodes: [n00001]}
given   plan - {name: c, nodes: [n00002]}
given   plan - {name: d, nodes: [n00003]}
when    rollout 1.1.0
when    minutes 3
expect  open r1 a
expect  count 1.1.0 1
when    hours 2
expect  state r1 halted
expect  open r1 a,b,c
expect  runs n00002 1.0.0                    # it went back by itself
expect  runs n00001 1.1.0
expect  reached 1.1.0 3
