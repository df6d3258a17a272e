/*
 * commit - how an update ends well, or ends before anything has changed.
 */
#include "agent/local/service.h"
#include "agent/phase/again.h"
#include "agent/phase/node.h"
#include "agent/phase/outcome.h"
#include "agent/phase/phase.h"
#include "agent/store/data.h"
#include "agent/store/seal.h"
#include "base/backoff.h"
#include "base/err.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	RETRY_BASE_MS = 5 * 1000,
	RETRY_CAP_MS = 3600 * 1000,
	REJECTED_BASE_MS = 60 * 1000,
	REJECTED_CAP_MS = 6 * 3600 * 1000
};

/* --- good --- */

static void note_taken(struct node *n, struct node_component *c, const struct part *p)
{
	const struct node_update *u = &n->state->update;
	struct node_taken t = { .seq = u->seq };

	if (u->cause != NODE_CAUSE_ROLLOUT)
		return;
	STATE_SET(t.rollout, u->rollout);
	STATE_SET(t.stage, u->stage);
	STATE_SET(t.version, p->to);
	STATE_SET(t.previous, p->from);
	component_taken_add(c, &t);
	component_joined_add(c, u->rollout);
	component_swap_count(c, node_now(n));
}

/* What sent the old version away keeps it away. */
static void deny_old(struct node *n, struct node_component *c, const struct part *p)
{
	const struct node_update *u = &n->state->update;

	if (p->from[0] == '\0')
		return;
	/* Who only goes along has done nothing wrong. */
	if (u->cause == NODE_CAUSE_UNDO ? !component_taken(c, u->rollout) : !str_eq(c->name, u->component))
		return;
	if (u->cause == NODE_CAUSE_UNDO)
		component_deny(c, p->from, NODE_DENIED_UNDONE, u->seq);
	else if (u->cause == NODE_CAUSE_LOCAL || u->deny_from)
		component_deny(c, p->from, NODE_DENIED_FORCED, u->seq);
	/* A person at the console asked for this one by name, and it has proved itself again. */
	if (u->cause == NODE_CAUSE_LOCAL)
		component_undeny(c, p->to);
}

static enum result good_result(const struct node_update *u)
{
	if (u->cause == NODE_CAUSE_ORDER_ROLLBACK || u->cause == NODE_CAUSE_UNDO || u->cause == NODE_CAUSE_LOCAL)
		return RESULT_ROLLED_BACK;
	return u->result == RESULT_GOOD_UNPROVEN ? RESULT_GOOD_UNPROVEN : RESULT_GOOD;
}

static int commit_part(struct node *n, const struct part *p)
{
	const struct node_update *u = &n->state->update;
	struct node_component *c = NULL;
	int r = state_component_add(n->state, p->component, &c);

	if (r < 0)
		return r;
	if (p->to[0])
		component_good_add(c, p->to);
	note_taken(n, c, p);
	deny_old(n, c, p);
	state_retry_clear(n->state, p->component, p->to);
	if (u->watch_ms > 0) {
		c->watch_until = n->os->clock_real(n->os) + (int64_t) (u->watch_ms / 1000);
		STATE_SET(c->watch_update, u->id);
	} else {
		c->watch_until = 0;
		c->watch_update[0] = '\0';
	}
	return 0;
}

int phase_commit(struct node *n)
{
	struct node_update *u = &n->state->update;
	int r = 0;

	for (size_t i = 0; r == 0 && i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		r = commit_part(n, &p);
	}
	n->state->stuck = false; /* whatever could not be undone here is replaced by what was just proved */
	if (r == 0)
		r = update_end(n, good_result(u), u->detail);
	if (r < 0)
		return r;
	/* It is kept for a while, but what fails from now on leaves the data as it is. */
	u->data_saved[0] = '\0';
	node_collect(n, u->watch_ms > 0 ? u->fallback_generation : 0);
	return PHASE_DONE;
}

/* --- failed: nothing has changed --- */

/* Retries of what the network or the node may heal come soon, of what somebody must publish anew late. */
static void note_retry(struct node *n, const struct part *p, enum result_class class)
{
	struct node_retry *retry;
	struct backoff b = {
		.base_ms = class == CLASS_REJECTED ? REJECTED_BASE_MS : RETRY_BASE_MS,
		.cap_ms = class == CLASS_REJECTED ? REJECTED_CAP_MS : RETRY_CAP_MS,
	};
	uint64_t random = 0, wait;

	if (class == CLASS_NONE)
		return;
	retry = state_retry_add(n->state, p->component, p->to);
	if (n->os->random(n->os, &random, sizeof(random)) < 0)
		random = UINT64_MAX; /* the longest wait */
	b.failures = retry->failures > 30 ? 30 : (unsigned) retry->failures;
	retry->failures++;
	wait = backoff_next_ms(&b, random);
	/* Full jitter may say "now"; a second attempt in the same moment helps nobody. */
	if (wait < b.base_ms / 2)
		wait = b.base_ms / 2;
	/* A server's wish, which is bounded (held.h); not all nodes that heard it in the same moment. */
	if (wait < n->attempt.leave_ms)
		wait = n->attempt.leave_ms + random % b.base_ms;
	again_note(n, retry, wait);
}

/* What was stopped for the swap that did not come runs again. */
static void restart_services(struct node *n, const struct part *p)
{
	struct command_context c = { .config = n->config, .component = p->component, .version = p->from };
	char *root;
	int r;

	if (!n->state->update.services_stopped || !*p->has_old)
		return;
	root = node_current_root(n, p->component);
	c.root = root;
	if (*p->has_release)
		node_keep_services(n, p->release, p->old); /* those that were counted as the new one's */
	r = root ? services_apply(n->services, &c, p->old) : -ENOMEM;
	free(root);
	if (r < 0)
		log_error("service-not-restarted", "component=%s reason=%s", p->component, err_text(r));
}

int phase_discard(struct node *n)
{
	struct node_update *u = &n->state->update;
	enum result number = u->result ? (enum result) u->result : RESULT_INTERNAL;
	const struct catalogue_row *row = catalogue_find(number);
	enum result_class class = row ? row->class : CLASS_NODE;
	int r;

	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		restart_services(n, &p);
		r = p.to[0] ? seal_abort(n->os, n->dirs->store, p.component, p.to) : 0;
		if (r < 0)
			log_warning("partial-stays",
				    "it is removed at the next start: component=%s version=%s reason=%s",
				    p.component, p.to, err_text(r));
	}
	if (u->data_saved[0]) {
		r = data_remove(n->os, n->dirs, u->data_saved);
		if (r < 0)
			log_warning("data-copy-stays", "it is removed later: name=%s reason=%s", u->data_saved,
				    err_text(r));
	}
	/* Each part waits: any of them would bring the others again at once. */
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		note_retry(n, &p, class);
	}
	if (update_end(n, number, u->detail) < 0)
		return -ENOMEM;
	node_collect(n, 0);
	return PHASE_DONE;
}
