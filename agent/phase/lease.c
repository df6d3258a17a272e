#include "agent/phase/lease.h"

#include "agent/phase/node.h"
#include "agent/phase/phase.h"
#include "base/log.h"

#include <stdio.h>

enum {
	LEASE_WAIT_MS = 30 * 1000,
	LEASE_AGAIN_MS = 4 * 1000, /* doubled with every refusal, up to a minute */
};

bool lease_is_needed(const struct node *n)
{
	const struct node_update *u = &n->state->update;
	const struct known_rollout *k = documents_rollout(&n->docs, u->rollout);

	return u->cause != NODE_CAUSE_ORDER_ROLLBACK && u->cause != NODE_CAUSE_ORDER_PIN &&
	       u->cause != NODE_CAUSE_LOCAL && k && k->rollout.disruption.label;
}

/* Asked for again soon at first, then more slowly: places are free within minutes, or somebody has to look. */
int lease_put_aside(struct node *n, const char *why)
{
	struct node_update *u = &n->state->update;
	uint64_t delay = (uint64_t) LEASE_AGAIN_MS << (n->lease_refusals < 4 ? n->lease_refusals : 4);
	uint64_t random = 0;

	if (n->os->random(n->os, &random, sizeof(random)) == 0)
		delay += random % LEASE_AGAIN_MS; /* a whole group was refused at the same moment */
	n->lease_refusals++;
	n->lease_again_ms = node_now_ms(n) + delay;
	(void) snprintf(n->lease_refusal, sizeof(n->lease_refusal), "%s", why);
	STATE_SET(u->waiting_for, reason_name(REASON_LEASE));
	log_info("update-waits", "update=%s reason=lease detail=%s", u->id, why);
	return PHASE_DROP;
}

int lease_step(struct node *n)
{
	struct attempt *a = &n->attempt;
	uint64_t now = node_now_ms(n);

	if (!lease_is_needed(n))
		return PHASE_DONE;
	/* Nobody could grant one: the person with the stick stands beside the node and knows what else is down. */
	if (n->alone)
		return PHASE_DONE;
	if (a->lease_granted && now < a->lease_until_ms) {
		n->lease_refusals = 0;
		return PHASE_DONE;
	}
	if (!a->lease_asked) {
		a->lease_asked = true;
		a->refresh_asked_ms = now; /* counts the wait from here */
		report_ask_lease(n);
	}
	if (!a->lease_granted && !a->lease_refusal[0] && now - a->refresh_asked_ms < LEASE_WAIT_MS) {
		a->wake_ms = a->refresh_asked_ms + LEASE_WAIT_MS;
		return PHASE_AGAIN;
	}
	return lease_put_aside(n, a->lease_refusal[0] ? a->lease_refusal : "no answer from the controller");
}
