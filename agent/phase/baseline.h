/*
 * baseline - how things are before the swap: what fails then is not the release's fault.
 *
 * The answers are kept with the update (state.h), where the probation finds them. Nothing is changed but that; what is
 * asked belongs to the version that runs. Both return a phase_end, PHASE_DONE when it is known, or an update_fail.
 */
#ifndef SELFRIGHT_PHASE_BASELINE_H
#define SELFRIGHT_PHASE_BASELINE_H

#include "base/attr.h"

struct node;

/* What a new agent is held to: that it reaches whom this one reaches. */
NODISCARD int baseline_controller(struct node *n);

/* The checks of every part, and who answers on the network. A first install has no before. */
NODISCARD int baseline_step(struct node *n);

#endif
