/*
 * turn - whose turn it is, by notice and by spread.
 *
 * Both are counted on the clock since boot, which nobody sets; the notice period goes on after a restart.
 */
#ifndef SELFRIGHT_PHASE_TURN_H
#define SELFRIGHT_PHASE_TURN_H

#include "base/attr.h"

#include <stdint.h>

struct known_rollout;
struct labels;
struct node;

/* When the notice period of a rollout began here: now, or as the state remembers. */
void turn_notice(const struct node *n, struct known_rollout *k);
/* When the spread of its stage, and a notice period that is not kept yet, began: once a stage of it is open here. */
void turn_spread(const struct node *n, const struct labels *labels, struct known_rollout *k);
/* On the clock of node_now_ms(). */
uint64_t turn_notice_ends(const struct known_rollout *k);
uint64_t turn_spread_ends(const struct known_rollout *k);
/* Keep what is known of its notice period, if the state does not know it: durable when it answers 0. */
NODISCARD int turn_remember(struct node *n, const struct known_rollout *k);

#endif
