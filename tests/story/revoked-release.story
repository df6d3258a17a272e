story   a revoked version is not taken, and an older good one is no way out
given   installed 1.0.0
given   rollout r1 seq 1 1.1.0 done
given   stage r1 all open all
given   rollout r2 seq 2 1.2.0
given   stage r2 all open all
given   policy revokes 1.2.0
expect  target 1.1.0 rollout r1
when    policy floor 1.3.0
expect  stay floor
