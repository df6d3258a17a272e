/*
 * lease - leave to start, where a rollout limits how many of a group may be down at once.
 *
 * The controller grants it for a while; orders and what people do at the node need none.
 */
#ifndef SELFRIGHT_PHASE_LEASE_H
#define SELFRIGHT_PHASE_LEASE_H

#include "base/attr.h"

#include <stdbool.h>

struct node;

/* Does the update under way need one? */
bool lease_is_needed(const struct node *n);

/*
 * Ask for it, and wait for the answer: a phase_end. PHASE_DONE: it is there, or none is needed; PHASE_DROP: it was
 * refused or nobody answered, and the update is put aside until it is time to ask again.
 */
NODISCARD int lease_step(struct node *n);

/* Put the update aside for want of one, with the sentence why: PHASE_DROP. */
NODISCARD int lease_put_aside(struct node *n, const char *why);

#endif
