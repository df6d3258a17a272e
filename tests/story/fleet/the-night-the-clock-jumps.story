story   on the night on which the clock skips an hour a window that begins in it opens at the jump
given   fleet 12
given   release 1.1.0 fine
given   plan stages:
given   plan - {name: oslo, labels: {zone: Europe/Oslo}}
given   plan "window": "Sun 02:30-04:00"
when    time 2028-03-26T00:00:00Z            # Sunday; 02:00 becomes 03:00 at 01:00 UTC
when    rollout 1.1.0
when    time 2028-03-26T00:50:00Z
expect  count 1.1.0 0
when    time 2028-03-26T01:50:00Z
expect  runs n00000 1.1.0
expect  runs n00006 1.1.0
