story   a download that failed is tried again later, and a newer release at once
given   installed 1.0.0
given   rollout r2 seq 2 1.1.0
given   stage r2 all open all
given   backoff 1.1.0 600
expect  wait retry 1.1.0
when    time 600
expect  target 1.1.0 rollout r2
when    backoff 1.1.0 1800
when    rollout r3 seq 3 1.1.1
when    stage r3 all open all
expect  target 1.1.1 rollout r3
