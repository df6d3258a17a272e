story   a rollout that matches nobody is not done at once, it waits and says why (FIELD.md 4)
given   fleet 12
given   release 1.1.0 fine
given   plan stages:
given   plan - {name: lab, labels: {ring: lab}}
when    rollout 1.1.0
when    days 2
expect  state r1 running
expect  open r1 lab
expect  why r1 selects no node that is known here
expect  count 1.0.0 12
