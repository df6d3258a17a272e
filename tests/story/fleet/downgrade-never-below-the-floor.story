story   a downgrade below the security floor moves nobody, whoever wants it
given   fleet 12
given   release 1.1.0 fine
given   plan stages:
given   plan - {name: all, all: true}
when    rollout 1.1.0
when    days 1
expect  count 1.1.0 12
when    floor 1.1.0
given   plan profile: downgrade
when    rollout 1.0.0
when    days 3
expect  count 1.1.0 12
expect  state r2 running
expect  why r2 will not take it
