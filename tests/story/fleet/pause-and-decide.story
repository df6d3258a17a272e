story   where the plan says so a failure only pauses: a person decides, here for rolling forward (FIELD.md section 2)
given   fleet 24
given   release 1.1.0 crashing
given   release 1.2.0 fine
given   plan stages:
given   plan - {name: canary, nodes: [n00000]}
given   plan - {name: all, all: true}
given   plan "gates": {on_failure: pause}
when    rollout 1.1.0
when    days 2
expect  state r1 paused
expect  open r1 canary
expect  reached 1.1.0 1
given   plan stages:
given   plan - {name: canary, nodes: [n00000], soak: 1h}
given   plan - {name: all, all: true}
when    rollout 1.2.0
when    hours 4
expect  state r2 done
expect  count 1.2.0 24
expect  reached 1.1.0 1
