story   a release that is revoked in the middle is taken by nobody any more
given   fleet 24
given   release 1.1.0 fine
given   plan stages:
given   plan - {name: canary, nodes: [n00000, n00001], soak: 2h}
given   plan - {name: all, all: true}
when    rollout 1.1.0
when    hours 1
expect  count 1.1.0 2
when    revoked 1.1.0
when    days 2
expect  count 1.1.0 2
expect  state r1 running
