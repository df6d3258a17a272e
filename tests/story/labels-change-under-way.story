story   a node whose label changes under way stays with the rollout it began
given   node n1 site=oslo
given   installed 1.0.0
given   good 1.0.0
given   rollout r2 seq 2 1.1.0
given   stage r2 oslo open labels site=oslo
given   moved 1.1.0 by r2 oslo
when    node n1 site=rome
expect  stay up-to-date
when    state r2 halted undo oslo
expect  target 1.0.0 undo
