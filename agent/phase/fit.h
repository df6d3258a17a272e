/*
 * fit - does a release fit this node: what its owner allows it, and what it asks of the machine.
 *
 * Nothing is fetched for the answer, and nothing that lasts is changed. What does not fit is said with update_fail.
 */
#ifndef SELFRIGHT_PHASE_FIT_H
#define SELFRIGHT_PHASE_FIT_H

#include "base/attr.h"

struct node;
struct part;

/*
 * The part's release, which was read. PHASE_DROP: a rollout offers a version between the one that is here and
 * this one, which comes first.
 */
NODISCARD int fit_check(struct node *n, const struct part *p);

#endif
