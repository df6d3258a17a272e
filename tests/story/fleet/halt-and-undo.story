story   a release that leaks is halted by the first node that falls back; the others return when a person says so
given   fleet 24
given   release 1.1.0 leaking
given   plan stages:
given   plan - {name: canary, nodes: [n00000], soak: 1h}
given   plan - {name: half, share: 50%, soak: 3d}
given   plan - {name: all, all: true}
when    rollout 1.1.0
when    hours 4
expect  open r1 canary,half
when    hours 20
expect  state r1 halted
expect  open r1 canary,half
when    undone r1
when    hours 1
expect  count 1.1.0 0
expect  count 1.0.0 24
