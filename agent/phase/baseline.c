#include "agent/phase/baseline.h"

#include "agent/local/service.h"
#include "agent/local/witness.h"
#include "agent/phase/lease.h"
#include "agent/phase/node.h"
#include "agent/phase/outcome.h"
#include "agent/phase/self.h"
#include "agent/probe/probe.h"
#include "base/err.h"
#include "base/log.h"

#include <poll.h>

enum {
	BASELINE_MAX_MS = 60 * 1000,
	BASELINE_MORE_MS = 10 * 1000, /* beyond what the checks may take: a busy machine */
	LEASE_MARGIN_MS = 10 * 1000, /* for what comes between the baseline and the swap */
	WITNESS_LOOK_MS = 50,
	LINK_RECENT_MS = 60 * 1000,
};

int baseline_controller(struct node *n)
{
	struct attempt *a = &n->attempt;
	struct node_update *u = &n->state->update;
	uint64_t now = node_now_ms(n);

	if (!self_is_updated(n) || n->image)
		return PHASE_DONE;
	u->link_before = (n->acked_ms > 0 && now - n->acked_ms < LINK_RECENT_MS) || self_ask_controller(n) > 0;
	if (!u->link_before && (!a->asked_ms || now - a->asked_ms < BASELINE_MAX_MS)) {
		if (!a->asked_ms)
			a->asked_ms = now;
		a->wake_ms = now + 200;
		return PHASE_AGAIN;
	}
	a->nonce[0] = '\0';
	return PHASE_DONE;
}

static void baseline_note(struct node *n, const struct part *p)
{
	struct node_update *u = &n->state->update;
	char quoted[300];

	for (size_t i = 0; i < probe_set_count(p->checks->set) && u->baseline_count < STATE_BASELINE_MAX; i++) {
		const struct probe_status *s = probe_set_at(p->checks->set, i);
		struct node_baseline *b = &u->baseline[u->baseline_count++];

		STATE_SET(b->component, p->component);
		STATE_SET(b->check, s->check->name);
		/* What says nothing before the swap is no failure; it is judged as if there were no "before". */
		b->passed = s->state == PROBE_PASSING || (s->state == PROBE_PENDING && s->runs > 0);
		STATE_SET(b->value, probe_set_value(p->checks->set, i));
		if (s->check->kind == CHECK_LINK)
			u->link_before = b->passed;
		if (!b->passed)
			log_info("check-failed-before",
				 "it is not blamed on the release: update=%s component=%s check=%s state=%s "
				 "detail=%s",
				 u->id, p->component, s->check->name, probe_state_name(s->state),
				 log_quote(quoted, sizeof(quoted), s->detail));
	}
}

/*
 * A node without memory or descriptors cannot ask how things were, and could not ask afterwards: a failure then would
 * be excused, or blamed, for nothing. Nothing has changed yet, and it is tried again later.
 */
static int could_be_asked(struct node *n, const struct part *p)
{
	for (size_t i = 0; i < probe_set_count(p->checks->set); i++) {
		const struct probe_status *s = probe_set_at(p->checks->set, i);

		if (s->check->required && s->runs == 0 && s->error < 0 && s->state == PROBE_PENDING)
			return update_fail_as(n, catalogue_blame(RESULT_CHECK_FAILED, s->error), s->error,
					      "the check %s cannot be asked before the swap: %.300s",
					      s->check->name, s->detail);
	}
	return 0;
}

/* Does it have checks, and a version that they may be asked of? */
static bool has_baseline(const struct part *p)
{
	return *p->has_release && p->release->check_count > 0 && p->from[0];
}

static int baseline_begin(struct node *n)
{
	struct attempt *a = &n->attempt;
	uint64_t now = node_now_ms(n);
	bool link = n->acked_ms > 0 && now - n->acked_ms < LINK_RECENT_MS;

	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);
		int r = has_baseline(&p) ? part_checks_begin(n, &p, PROBE_BASELINE) : 0;

		if (r < 0)
			return update_fail(n, r, "the checks of %s could not be prepared: %s", p.component,
					   err_text(r));
		if (p.checks->set && link)
			probe_set_link_result(p.checks->set, true, NULL);
		else if (p.checks->set && n->alone)
			probe_set_link_result(p.checks->set, false, "there is no link");
		else if (*p.has_release && p.release->check_count > 0 && !p.from[0])
			n->state->update.link_before = link; /* a first install has no before */
	}
	a->entered_ms = now;
	a->nonce[0] = '\0';
	if (!link && !n->alone && node_nonce(n, a->nonce) == 0) {
		a->nonce_ms = now;
		n->report_wanted = true;
	}
	return 0;
}

static bool asks_for_link(struct node *n)
{
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		for (size_t k = 0; *p.has_release && k < p.release->check_count; k++)
			if (p.release->checks[k].kind == CHECK_LINK)
				return true;
	}
	return false;
}

/* Who answers on the network before the swap. True: it is known, or cannot be. */
static bool witness_is_heard(struct node *n)
{
	struct attempt *a = &n->attempt;
	uint64_t now = node_now_ms(n);
	int r = 0;

	if (a->witness_done || !asks_for_link(n) || n->alone || self_is_updated(n))
		return true;
	if (a->witness.process.pid == 0)
		r = witness_start(n->config, n->as_root, now, &a->witness);
	if (r == 0)
		r = command_step(&a->witness, now);
	if (r == 0)
		return false;
	if (r < 0)
		log_warning("no-witness", "nobody looked at the network before the swap: %s", err_text(r));
	a->witness_done = true;
	return true;
}

static void witness_note(struct node *n)
{
	struct node_update *u = &n->state->update;
	struct node_baseline *b;

	if (!n->attempt.witness_done || u->baseline_count == STATE_BASELINE_MAX)
		return;
	b = &u->baseline[u->baseline_count++];
	STATE_SET(b->component, u->component);
	STATE_SET(b->check, WITNESS_BASELINE); /* no check has such a name */
	b->passed = true;
	witness_encode(witness_read(&n->attempt.witness), b->value);
	command_done(&n->attempt.witness);
}

int baseline_step(struct node *n)
{
	struct attempt *a = &n->attempt;
	uint64_t now = node_now_ms(n);
	bool any = false, begun = a->witness_done || a->witness.process.pid, done = true, heard, holds;
	uint64_t longest = 0;
	int timeout = -1, r;

	a->services_were_fine = true;
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		if (services_settled(n->services, p.component, NULL) != 1)
			a->services_were_fine = false;
		any = any || has_baseline(&p);
		begun = begun || p.checks->set;
	}
	if (n->image)
		return PHASE_DONE;
	if (!begun) {
		r = baseline_begin(n);
		if (r < 0)
			return r;
		now = node_now_ms(n); /* not before what it has just noted: the wait is a difference */
		if (!any)
			a->nonce[0] = '\0'; /* nobody waits for the answer */
	}
	heard = witness_is_heard(n);
	holds = a->nonce[0] && n->acked_ms >= a->nonce_ms && str_eq(n->acked_nonce, a->nonce);
	for (size_t i = 0; i < update_part_count(n); i++) {
		struct pollfd fds[PROBE_FDS_PER_CHECK * RELEASE_CHECKS_MAX];

		if (!a->checks[i].set)
			continue;
		if (holds)
			probe_set_link_result(a->checks[i].set, true, NULL);
		probe_set_step(a->checks[i].set, now);
		done = done && probe_set_done(a->checks[i].set);
		longest = probe_set_baseline_ms(a->checks[i].set) > longest
				  ? probe_set_baseline_ms(a->checks[i].set)
				  : longest;
		(void) probe_set_prepare(a->checks[i].set, fds, ARRAY_LEN(fds), now, &timeout);
	}
	/* What is not known when the leave to start runs out is judged without a "before". */
	if ((!done || !heard) && now - a->entered_ms < longest + BASELINE_MORE_MS &&
	    (!lease_is_needed(n) || now + LEASE_MARGIN_MS < a->lease_until_ms)) {
		a->wake_ms = now + (timeout < 0 || timeout > 1000 ? 1000 : (uint64_t) timeout);
		if (!heard && a->wake_ms > now + WITNESS_LOOK_MS)
			a->wake_ms = now + WITNESS_LOOK_MS;
		return PHASE_AGAIN;
	}
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		r = p.checks->set ? could_be_asked(n, &p) : 0;
		if (r < 0)
			return r;
	}
	n->state->update.baseline_count = 0;
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		if (p.checks->set)
			baseline_note(n, &p);
		part_checks_done(p.checks);
	}
	witness_note(n);
	a->nonce[0] = '\0';
	return PHASE_DONE;
}
