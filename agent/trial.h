/*
 * trial - what the running link finds when it tries its own connection to the broker: `doctor` asks, for a second
 * connection of its own would take that one's place.
 *
 * Bounded: one at a time, and the link gives up by itself (agent/link/blobs.h); one that dies meanwhile ends it.
 */
#ifndef SELFRIGHT_AGENT_TRIAL_H
#define SELFRIGHT_AGENT_TRIAL_H

#include <stddef.h>

struct buf;
struct frame;
struct json_node;
struct node;

/* Begin one, or join the one under way; where nobody can be asked the refusal goes into `answer`. */
void trial_answer_begin(struct node *n, struct buf *answer);
/* Is it over, and what came of it? */
void trial_answer(const struct node *n, struct json_node *o);

/* LINK_TRIED. */
void trial_take(struct node *n, const struct frame *f);
/* Nobody answers any more. */
void trial_link_lost(struct node *n);
void trial_done(struct node *n);

#endif
