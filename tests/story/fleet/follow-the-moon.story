story   follow the moon: batches from the east to the west, each opened in its own night, when the one before is proved
given   fleet 24
given   release 1.1.0 fine
given   plan stages:
given   plan - {name: canary, nodes: [n00000], soak: 1h}
given   plan - {name: fleet, all: true, by_zone: true, soak: 30m}
given   plan "window": "01:00-05:00"
when    time 2028-01-03T22:00:00Z
when    rollout 1.1.0
when    time 2028-01-04T02:00:00Z            # Oslo from 00:00 UTC
expect  runs n00000 1.1.0
expect  open r1 canary
expect  why r1 stage 'fleet-australia-sydney' opens in the window of Australia/Sydney, at 2028-01-04T14:00:00Z
when    time 2028-01-04T13:59:00Z
expect  count 1.1.0 1
when    time 2028-01-04T15:30:00Z
expect  count 1.1.0 5
expect  runs n00005 1.1.0
expect  why r1 stage 'fleet-asia-tokyo' opens in the window of Asia/Tokyo, at 2028-01-04T16:00:00Z
when    time 2028-01-04T17:30:00Z
expect  count 1.1.0 9
when    time 2028-01-05T02:00:00Z
expect  count 1.1.0 12                       # Oslo, with the canary
when    time 2028-01-05T05:30:00Z            # Sao Paulo from 04:00 UTC
expect  count 1.1.0 16
when    time 2028-01-05T07:30:00Z            # New York from 06:00 UTC
expect  count 1.1.0 20
expect  runs n00002 1.0.0
when    time 2028-01-05T12:00:00Z            # Los Angeles from 09:00 UTC
expect  count 1.1.0 24
expect  state r1 done
