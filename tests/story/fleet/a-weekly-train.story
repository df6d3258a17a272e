story   the train: dev on Wednesday, staging, a canary in production, then everybody in their own night (FIELD.md section 2)
given   fleet 12
given   days 2                               # nodes added today prove nothing yet
given   label n00000 env dev
given   label n00006 env dev
given   label n00001 env staging
given   label n00002 env production
given   label n00003 env production
given   label n00004 env production
given   label n00005 env production
when    time 2028-01-11T20:00:00Z            # Tuesday evening
given   release 1.1.0 fine
given   plan profile: train
given   plan "gates": {silent_after: 1d, require: []}   # nodes of the simulation report every six hours
when    rollout 1.1.0
when    time 2028-01-12T06:00:00Z            # Oslo's night is over
expect  open r1 dev,staging
expect  runs n00000 1.1.0
expect  runs n00006 1.1.0
expect  count 1.1.0 2
when    time 2028-01-12T12:00:00Z            # so is New York's
expect  runs n00001 1.1.0
expect  open r1 dev,staging
when    time 2028-01-13T00:00:00Z
expect  open r1 dev,staging,canary
when    time 2028-01-13T23:00:00Z
expect  count 1.1.0 5                        # two in production, each in its own night
when    time 2028-01-15T23:00:00Z
expect  state r1 done
expect  count 1.1.0 12
