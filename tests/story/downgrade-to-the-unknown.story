story   a downgrade to what was never good here needs somebody's approval
given   installed 1.2.0
given   good 1.2.0
given   rollout d4 seq 4 1.1.0 downgrade
given   stage d4 all open all
expect  stay lower
when    policy asks change-board downgrade
when    unapproved d4 all
expect  wait not-approved 1.1.0
when    approved d4 all
expect  target 1.1.0 rollout d4
