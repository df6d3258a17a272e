story   every site is updated in its own night: Sydney and Tokyo are through while Los Angeles still waits
given   fleet 12
given   release 1.1.0 fine
given   plan stages:
given   plan - {name: all, all: true}
given   plan "window": "02:00-04:00"
when    time 2028-01-03T12:00:00Z
when    rollout 1.1.0
when    time 2028-01-03T14:30:00Z
expect  count 1.1.0 0
when    time 2028-01-03T19:30:00Z            # Sydney 15:00 UTC, Tokyo 17:00 UTC
expect  count 1.1.0 4
expect  runs n00005 1.1.0
expect  runs n00004 1.1.0
expect  runs n00000 1.0.0
when    time 2028-01-04T03:30:00Z            # Oslo 01:00 UTC
expect  runs n00000 1.1.0
expect  runs n00002 1.0.0
when    time 2028-01-04T13:00:00Z            # Los Angeles 10:00 UTC
expect  count 1.1.0 12
expect  state r1 done
