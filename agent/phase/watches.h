/*
 * watches - components that are good and still watched, while the node goes on with others.
 *
 * The update's own state `watch` watches what it brought as long as nothing else is wanted; when
 * something is, the rest of the time is spent here. One that regresses is undone alone, by a generation
 * composed of the current one (update_regress in agent/update.h).
 */
#ifndef SELFRIGHT_PHASE_WATCHES_H
#define SELFRIGHT_PHASE_WATCHES_H

#include "base/attr.h"

#include <poll.h>
#include <stddef.h>
#include <stdint.h>

struct node;
struct part;

enum { WATCHES_MAX = 8 };

/* What failed before the swap is not to be blamed on the release here either. */
void watches_take(struct node *n, const struct part *p);

/* Begin what is due, go on with the rest, end what is over. Returns when to come again (UINT64_MAX: nothing to watch). */
uint64_t watches_step(struct node *n);

/* Descriptors to wait for; lowers *timeout_ms. */
size_t watches_prepare(const struct node *n, struct pollfd *fds, size_t max, int *timeout_ms);

/* A component whose release has regressed, and in a sentence how; NULL: none. Borrowed until the next step. */
const char *watches_failed(const struct node *n, char *sentence, size_t size);

/* Keep what the checks say now (node_see_set). */
void watches_see(struct node *n);

/* Nothing is watched any more; NULL is fine. */
void watches_free(struct node *n);

#endif
