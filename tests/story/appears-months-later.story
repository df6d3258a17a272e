story   a node that appears months later follows what is done
given   absent
given   rollout r1 seq 1 1.0.0 done deadline 100
given   stage r1 canary open nodes n7
given   stage r1 all open all
given   rollout r2 seq 2 1.1.0 done deadline 200
given   stage r2 all open all
when    time 9000000
expect  target 1.1.0 rollout r2
