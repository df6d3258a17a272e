story   restored in the middle of a stage: who took it proves it again by what it runs, and failures are known by what nodes deny
given   fleet 24
given   release 1.1.0 one-site 5
given   plan stages:
given   plan - {name: canary, nodes: [n00000, n00001], soak: 1h}
given   plan - {name: half, nodes: [n00002, n00003, n00005], soak: 1h}
given   plan - {name: all, all: true}
given   plan gates: {max_failures: 2}
when    rollout 1.1.0
when    minutes 5
when    controller backed-up
when    hours 2
expect  open r1 canary,half
expect  runs n00005 1.0.0
when    controller restored
when    hours 1
expect  state r1 paused
expect  open r1 canary,half
when    resumed r1
when    days 1
expect  state r1 running                     # its result was acknowledged to the controller that is lost
expect  open r1 canary,half
expect  why r1 n00005 will not take it
when    skipped n00005
when    days 1
expect  open r1 canary,half,all
