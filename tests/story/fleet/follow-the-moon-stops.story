story   what fails in one zone's night never reaches the next; a batch that is late waits for the next night
given   fleet 24
given   release 1.1.0 one-site 5
given   plan stages:
given   plan - {name: fleet, all: true, by_zone: true, first_zone: Asia/Tokyo, soak: 30m}
given   plan "window": "01:00-05:00"
when    time 2028-03-24T12:00:00Z
when    rollout 1.1.0
when    time 2028-03-24T17:30:00Z            # Tokyo from 16:00 UTC
expect  count 1.1.0 4
when    time 2028-03-25T02:00:00Z
expect  count 1.1.0 8                        # Oslo is next: the circle begins in Tokyo
when    paused r1
when    time 2028-03-26T12:00:00Z
when    resumed r1
when    minutes 30
expect  open r1 fleet-asia-tokyo,fleet-europe-oslo
expect  why r1 stage 'fleet-america-sao-paulo' opens in the window of America/Sao_Paulo, at 2028-03-27T04:00:00Z
when    time 2028-03-27T12:00:00Z
expect  count 1.1.0 20
when    time 2028-03-28T12:00:00Z            # Sydney is the last, and its site s05 does not bear it
expect  state r1 halted
expect  runs n00005 1.0.0
expect  why r1 failed, 0 are borne: n000
