/*
 * anchors - the CAs that TLS trusts here follow what top-level targets say (agent/local/ca.h, agent/README.md).
 *
 * A new one is added at once. One that is to go goes when the link has got through without it: it is started
 * again with ca-next.crt, and where it does not get through the old one stays, which is said, and it is tried again.
 */
#ifndef SELFRIGHT_AGENT_ANCHORS_H
#define SELFRIGHT_AGENT_ANCHORS_H

#include "base/backoff.h"

#include <stdbool.h>
#include <stdint.h>

struct node;

struct anchors {
	struct node *node;
	int dirfd; /* the folder of agent.yaml; -1: closed */
	bool looked; /* at the targets of version: */
	uint64_t targets;
	bool offered; /* ca-next.crt waits to be tried */
	bool trying, tried; /* the link is to use it, and does */
	bool had_link, had_metadata; /* what got through before: it has to again */
	uint64_t offered_ms, trial_began_ms, trial_ends_ms, try_at_ms;
	struct backoff trial_backoff, disk_backoff;
	uint64_t again_at_ms; /* after a disk that refused */
	int said; /* the last failure that was logged */
};

/* Look at what is there. Before the link is started. A disk that refuses is said, and is no reason not to start. */
void anchors_open(struct anchors *a, struct node *n);
void anchors_close(struct anchors *a);

/* Is the link to trust only what is offered? It is being started. */
bool anchors_tries_next(struct anchors *a);

/* Do what is due; returns when to come again. Never during an update, nor while `other_trial` uses the link. */
uint64_t anchors_step(struct anchors *a, bool other_trial);

#endif
