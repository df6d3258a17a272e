story   paused over the weekend, resumed on Monday: nobody waits for ever (FIELD.md 10)
given   fleet 24
given   release 1.1.0 fine
given   plan stages:
given   plan - {name: canary, nodes: [n00000], soak: 1h}
given   plan - {name: all, all: true}
given   plan "window": "Mon-Fri 00:00-24:00"
when    time 2028-01-07T12:00:00Z
when    rollout 1.1.0
when    minutes 30
when    paused r1
when    time 2028-01-10T08:00:00Z
expect  state r1 paused
expect  open r1 canary
when    resumed r1
when    days 1
expect  state r1 done
expect  count 1.1.0 24
