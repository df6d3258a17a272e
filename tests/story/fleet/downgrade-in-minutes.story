story   down again in minutes: no soak, no waiting, from the copies the nodes kept
given   fleet 24
given   release 1.1.0 fine
given   plan stages:
given   plan - {name: all, all: true}
when    rollout 1.1.0
when    days 1
expect  count 1.1.0 24
given   plan profile: downgrade
when    rollout 1.0.0
when    minutes 30
expect  count 1.0.0 24
when    days 2
expect  state r2 done
expect  count 1.0.0 24                       # and they stay
