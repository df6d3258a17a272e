story   an old release is not taken by accident, only by a downgrade
given   installed 1.2.0
given   good 1.1.0 1.2.0
given   rollout r3 seq 3 1.1.0
given   stage r3 all open all
expect  stay lower
when    state r3 cancelled
when    rollout d4 seq 4 1.1.0 downgrade
when    stage d4 all open all
when    window d4 stops                     # minutes, not nights
when    spread d4 stops
expect  target 1.1.0 rollout d4
when    freeze
expect  wait frozen 1.1.0
