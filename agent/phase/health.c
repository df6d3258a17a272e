/*
 * health - is the new version what it promised, for the whole of its probation.
 */
#include "agent/local/service.h"
#include "agent/local/witness.h"
#include "agent/phase/facts.h"
#include "agent/phase/node.h"
#include "agent/phase/outcome.h"
#include "agent/phase/phase.h"
#include "agent/phase/self.h"
#include "agent/phase/watches.h"
#include "agent/probe/probe.h"
#include "base/err.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	NONCE_AGAIN_MS = 10 * 1000,
	PROVE_LOOK_MS = 100,
	LINK_LOOK_MS = 200,
	REFRESH_WAIT_MS = 90 * 1000,
	WATCH_LOOK_MS = 60 * 1000,
};

static bool has_link_check(const struct release *rel)
{
	for (size_t i = 0; i < rel->check_count; i++)
		if (rel->checks[i].kind == CHECK_LINK)
			return true;
	return false;
}

/* Every part that has a release and none yet. */
static int begin_all(struct node *n, enum probe_mode mode)
{
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);
		int r = *p.has_release && !p.checks->set ? part_checks_begin(n, &p, mode) : 0;

		if (r < 0) {
			update_blame(n, p.component);
			return r;
		}
	}
	return 0;
}

static bool asks_for_link(struct node *n)
{
	bool asks = false;

	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		asks = asks || (*p.has_release && has_link_check(p.release));
	}
	return asks;
}

static void link_holds(struct node *n)
{
	for (size_t i = 0; i < update_part_count(n); i++)
		if (n->attempt.checks[i].set)
			probe_set_link_result(n->attempt.checks[i].set, true, NULL);
}

/* The controller must answer a question asked after the swap, over a connection made after it. */
static void follow_link(struct node *n)
{
	struct attempt *a = &n->attempt;
	uint64_t now = node_now_ms(n);

	if (self_is_updated(n)) {
		/* It is a connection of its own: the one before the swap was another process's. */
		if (self_ask_controller(n) > 0)
			link_holds(n);
		return;
	}
	if (!asks_for_link(n))
		return;
	if (a->nonce[0] && n->acked_ms >= a->nonce_ms && str_eq(n->acked_nonce, a->nonce)) {
		link_holds(n);
		return;
	}
	if (a->nonce[0] && now - a->nonce_ms < NONCE_AGAIN_MS)
		return;
	if (!a->nonce[0]) {
		n->link_restart_wanted = true;
		if (node_nonce(n, a->nonce) < 0) {
			a->nonce[0] = '\0';
			return;
		}
	}
	/* The same question again: an answer to either is an answer. */
	a->nonce_ms = now;
	n->report_wanted = true;
}

/* Support may end a probation at once. */
static int check_orders(struct node *n)
{
	struct node_update *u = &n->state->update;
	struct decision d;

	if (!n->docs.loaded || u->cause == NODE_CAUSE_ORDER_ROLLBACK || u->cause == NODE_CAUSE_LOCAL)
		return 0;
	d = node_decide(n, u->component);
	if (d.kind != DECIDE_TARGET || d.cause != CAUSE_ORDER_ROLLBACK || !str_eq(d.version, u->from))
		return 0;
	u->deny_from = true;
	return update_fail_as(n, RESULT_ROLLED_BACK, -ECANCELED, "support sent it back: %s",
			      d.order && d.order->reason ? d.order->reason : "");
}

static int fail_check(struct node *n, const struct probe_status *why)
{
	if (!why)
		return update_fail_as(n, RESULT_CHECK_FAILED, -ERR_REFUSED, "a required check failed");
	tail_add(&n->attempt.log_tail, why->detail, strlen(why->detail));
	/* A node without memory or descriptors cannot ask: that is no word against the release. */
	return update_fail_as(n, catalogue_blame(RESULT_CHECK_FAILED, why->error), -ERR_REFUSED,
			      "the check %s failed: %.300s", why->check->name, why->detail);
}

/* Who answered before the swap, by the journal; 0: nobody looked. */
static unsigned who_answered(const struct node_update *u)
{
	for (size_t i = 0; i < u->baseline_count; i++)
		if (str_eq(u->baseline[i].check, WITNESS_BASELINE))
			return witness_decode(u->baseline[i].value);
	return 0;
}

/* Our own connection fails, rather than that somebody behind it says no. */
static bool connection_fails(const struct node *n)
{
	/* A proxy that says no, or that its own connection failed, has answered (curl: "from proxy", "CONNECT tunnel failed"). */
	if (strstr(n->refresh_text, "proxy") || strstr(n->refresh_text, "CONNECT"))
		return false;
	switch (-n->refresh_error) {
	case ERR_TLS:
	case ERR_NETWORK:
	case ERR_DEADLINE:
	case ERR_PEER_GONE:
	case ERR_PROTOCOL:
		return true;
	default:
		return false;
	}
}

static int good_but_for_the_network(struct node *n, const char *fmt, const char *what)
{
	struct node_update *u = &n->state->update;

	u->result = RESULT_GOOD_UNPROVEN;
	u->network = true;
	(void) snprintf(u->detail, sizeof(u->detail),
			"the controller could not be asked again since the swap; %s%.400s", fmt, what);
	return PHASE_DONE;
}

/*
 * Only the controller is missing. Where resolver, gateway, proxy and broker answer as they
 * did before the swap and our own connection fails all the same, the release did it (a
 * trust store, a firewall, the clock). Where they do not, or where the road is fine and
 * the controller is silent, nobody knows whose fault it is, and a good release is not undone
 * for a cut cable.
 */
static int judge_link(struct node *n)
{
	struct attempt *a = &n->attempt;
	const struct node_update *u = &n->state->update;
	unsigned before = who_answered(u), now = witness_read(&a->witness);
	char text[WITNESS_TEXT_MAX];

	if (before & ~now)
		return good_but_for_the_network(n, "since then these answer no more: ",
						witness_text(before & ~now, text));
	if (before == 0 && n->refresh_error != -ERR_TLS)
		return good_but_for_the_network(n, "nobody answers", "");
	if (!connection_fails(n))
		return good_but_for_the_network(n, "the network answers, the controller does not: ",
						n->refresh_error < 0 && n->refresh_text[0] ? n->refresh_text
											   : "it is silent");
	return update_fail_as(n, RESULT_LINK_LOST, n->refresh_error,
			      "the controller could be reached before the swap and cannot be since, and %s "
			      "answers as before: %.300s",
			      witness_text(now, text), n->refresh_text);
}

static int only_link(struct node *n, uint64_t now)
{
	struct attempt *a = &n->attempt;
	int r = 0;

	a->wake_ms = now + LINK_LOOK_MS;
	if (now - a->entered_ms < n->config->link_deadline_s * 1000)
		return PHASE_AGAIN;
	/* One more try of our own, while somebody else looks at the network. */
	if (a->refresh_asked_ms == 0) {
		a->refresh_asked_ms = now;
		n->refresh_wanted = true;
		r = witness_start(n->config, n->as_root, now, &a->witness);
	}
	if (!a->witness_done && r == 0)
		r = command_step(&a->witness, now);
	if (!a->witness_done && r == 0)
		return PHASE_AGAIN;
	a->witness_done = true; /* one that failed saw nobody answer */
	if (n->refreshed_ms < a->refresh_asked_ms && now - a->refresh_asked_ms < REFRESH_WAIT_MS)
		return PHASE_AGAIN;
	return judge_link(n);
}

/*
 * One verdict of all: what failed fails it, what is not done is waited for. A component without
 * checks proves nothing and holds nothing up, if another one is proved.
 */
static enum probe_verdict verdict_of_all(struct node *n, uint64_t now, uint64_t length_ms,
					 const struct probe_status **ret_why)
{
	bool passed = false, unproven = false, waits = false, only_link = false;
	const struct probe_status *nothing = NULL;

	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		if (!p.checks->set)
			continue;
		probe_set_step(p.checks->set, now);
		switch (probe_set_verdict(p.checks->set, now, length_ms, ret_why)) {
		case PROBE_FAILED:
			update_blame(n, p.component);
			return PROBE_FAILED;
		case PROBE_PASSED:
			passed = true;
			break;
		case PROBE_UNPROVEN:
			unproven = unproven || probe_set_count(p.checks->set) > 0;
			nothing = *ret_why ? *ret_why : nothing;
			break;
		case PROBE_ONLY_LINK:
			only_link = true;
			break;
		case PROBE_IN_PROGRESS:
			waits = true;
			break;
		}
	}
	*ret_why = nothing;
	return waits		     ? PROBE_IN_PROGRESS
	       : only_link	     ? PROBE_ONLY_LINK
	       : passed && !unproven ? PROBE_PASSED
				     : PROBE_UNPROVEN;
}

/* What the checks' programs and servers say wakes the engine by itself. */
static void sleep_until_due(struct node *n, uint64_t now, uint64_t end_ms, uint64_t longest_ms)
{
	struct attempt *a = &n->attempt;
	int timeout = -1;

	for (size_t i = 0; i < update_part_count(n); i++) {
		struct pollfd fds[PROBE_FDS_PER_CHECK * RELEASE_CHECKS_MAX];

		if (a->checks[i].set)
			(void) probe_set_prepare(a->checks[i].set, fds, ARRAY_LEN(fds), now, &timeout);
	}
	a->wake_ms = now + (timeout < 0 || (uint64_t) timeout > longest_ms ? longest_ms : (uint64_t) timeout);
	if (end_ms > now && end_ms < a->wake_ms)
		a->wake_ms = end_ms;
}

/*
 * The pause ends when the new version is ready: when each required check but the link has passed
 * once. Where there are none it ended when the services ran (swap.c).
 */
static void note_ready(struct node *n, uint64_t now)
{
	struct attempt *a = &n->attempt;
	size_t required = 0, passing = 0;

	if (a->stopped_ms == 0)
		return;
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part part = update_part(n, i);

		for (size_t k = 0; part.checks->set && k < probe_set_count(part.checks->set); k++) {
			const struct probe_status *p = probe_set_at(part.checks->set, k);

			if (!p->check->required || p->check->kind == CHECK_LINK || p->state == PROBE_NOT_BLAMED)
				continue;
			required++;
			passing += p->state == PROBE_PASSING;
		}
	}
	if (required == 0 || passing < required)
		return;
	n->state->update.pause_ms = now - a->stopped_ms;
	a->stopped_ms = 0;
}

static int judge(struct node *n)
{
	struct attempt *a = &n->attempt;
	struct node_update *u = &n->state->update;
	const struct probe_status *why = NULL;
	uint64_t now = node_now_ms(n);
	enum probe_verdict verdict = verdict_of_all(n, now, u->probation_ms, &why);

	note_ready(n, now);
	switch (verdict) {
	case PROBE_PASSED:
		u->result = RESULT_GOOD;
		return PHASE_DONE;
	case PROBE_UNPROVEN:
		u->result = RESULT_GOOD_UNPROVEN;
		if (why)
			(void) snprintf(u->detail, sizeof(u->detail), "the check %s has proven nothing: %.300s",
					why->check->name, why->runs ? why->detail : "it did not run");
		return PHASE_DONE;
	case PROBE_FAILED:
		return fail_check(n, why);
	case PROBE_ONLY_LINK:
		return self_is_updated(n) ? PHASE_DONE : only_link(n, now); /* its own proof asks for more */
	case PROBE_IN_PROGRESS:
		break;
	}
	sleep_until_due(n, now, a->entered_ms + u->probation_ms, 1000);
	return PHASE_AGAIN;
}

static int check_services(struct node *n)
{
	struct attempt *a = &n->attempt;
	const char *name = "";

	(void) services_step(n->services, node_now_ms(n));
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);
		int r = services_settled(n->services, p.component, &name);

		if (r >= 0)
			continue;
		update_blame(n, p.component);
		services_log_tail(n->services, p.component, &a->log_tail);
		return update_fail_as(n, catalogue_blame(RESULT_SERVICE_FAILED, r), r,
				      "the service %s did not stay up", name);
	}
	return 0;
}

/*
 * The agent's own end of probation: it has the controller's answer, if its predecessor had it,
 * and its supervisor knows it. Only the latter makes it good: until it is noted there the old one
 * returns whatever happens to this one.
 */
static int prove(struct node *n, enum result verdict)
{
	struct attempt *a = &n->attempt;
	struct node_update *u = &n->state->update;
	uint64_t now = node_now_ms(n);
	bool answered = self_ask_controller(n) > 0;
	int r;

	a->wake_ms = now + PROVE_LOOK_MS;
	if (!answered && u->link_before) {
		if (now - a->entered_ms < u->handover_ms + u->probation_ms)
			return PHASE_AGAIN;
		u->result = 0;
		return update_fail_as(
			n, RESULT_LINK_LOST, -ERR_DEADLINE,
			"the new agent has no answer of the controller, which the old one had: %.300s",
			n->refresh_text[0] ? n->refresh_text : n->link_reason);
	}
	r = supervisor_confirm(&n->supervisor);
	if (r == 0)
		return PHASE_AGAIN;
	if (r < 0)
		return update_fail(n, r, "the supervisor could not be told that this agent works: %s",
				   err_text(r));
	u->result = answered ? RESULT_GOOD : verdict;
	return PHASE_DONE;
}

static int health_of_agent(struct node *n)
{
	struct attempt *a = &n->attempt;
	struct node_update *u = &n->state->update;
	enum result verdict;
	int r = PHASE_DONE;

	if (!self_runs(n, u->to)) {
		self_hand_over(n);
		a->wake_ms = UINT64_MAX;
		return PHASE_AGAIN;
	}
	r = begin_all(n, PROBE_PROBATION);
	if (r < 0)
		return update_fail_as(n, catalogue_blame(RESULT_CHECK_FAILED, r), r,
				      "the checks could not be prepared: %s", err_text(r));
	r = PHASE_DONE;
	follow_link(n);
	u->result = 0;
	if (u->to[0])
		r = judge(n);
	if (r < 0)
		return r;
	verdict = u->result ? (enum result) u->result : RESULT_GOOD_UNPROVEN;
	/* Nothing that was saved meanwhile says good before it is. */
	u->result = 0;
	return r == PHASE_DONE ? prove(n, verdict) : r;
}

int phase_health(struct node *n)
{
	struct node_update *u = &n->state->update;
	int r = check_orders(n);

	if (r < 0)
		return r;
	if (n->image) {
		u->result = RESULT_GOOD_UNPROVEN;
		STATE_SET(u->detail, "installed into an image: nothing of it has run yet");
		return PHASE_DONE;
	}
	if (self_is_updated(n))
		return health_of_agent(n);
	if (u->to[0] == '\0' && u->with_count == 0) {
		u->result = RESULT_GOOD; /* absent as it was asked: there is nothing to check */
		return PHASE_DONE;
	}
	r = check_services(n);
	if (r < 0)
		return r;
	r = begin_all(n, PROBE_PROBATION);
	if (r < 0)
		return update_fail_as(n, catalogue_blame(RESULT_CHECK_FAILED, r), r,
				      "the checks could not be prepared: %s", err_text(r));
	follow_link(n);
	return judge(n);
}

static bool something_is_wanted(struct node *n)
{
	struct string_list components = { 0 };
	bool wanted = false;

	if (!n->replan)
		return false;
	n->replan = false;
	wanted = node_components(n, &components) < 0;
	for (size_t i = 0; !wanted && i < components.count; i++)
		wanted = node_decide(n, components.items[i]).kind == DECIDE_TARGET;
	string_list_done(&components);
	return wanted;
}

/* It was reported as good; that it is not any more is a result of its own, with an id of its own. */
static void begin_regression(struct node *n)
{
	struct node_update *u = &n->state->update;

	u->result = RESULT_REGRESSED;
	for (size_t i = 0; i < update_part_count(n); i++) {
		struct node_component *c = state_component(n->state, update_part(n, i).component);

		if (c)
			c->attempts++; /* it was installed by this update: it is there */
		if (c && i == 0)
			u->attempt = c->attempts;
	}
	(void) snprintf(u->id, sizeof(u->id), "%s/%s/%llu", u->source, u->component,
			(unsigned long long) u->attempt);
}

/* The same checks for longer. When another update is wanted the rest of it goes on beside that (watches.h). */
int phase_watch(struct node *n)
{
	struct attempt *a = &n->attempt;
	struct node_update *u = &n->state->update;
	const struct probe_status *why = NULL;
	uint64_t now = node_now_ms(n);
	int r;

	/* That it was good is told; the next failure is the first. */
	u->result = 0;
	u->detail[0] = '\0';
	if (self_is_updated(n) && !self_runs(n, u->to))
		r = update_fail_as(n, RESULT_AGENT_FAILED, -ERR_CHILD,
				   "agent %s does not start any more; another one runs", u->to);
	else
		r = check_services(n);
	if (r == 0) {
		r = begin_all(n, PROBE_WATCH);
		if (r < 0)
			return PHASE_DONE; /* it is good already; it only goes unwatched */
	}
	if (r == 0 && verdict_of_all(n, now, u->watch_ms, &why) == PROBE_FAILED)
		r = fail_check(n, why);
	if (r < 0) {
		begin_regression(n);
		return r;
	}
	if (now - a->entered_ms >= u->watch_ms)
		return PHASE_DONE;
	if (something_is_wanted(n)) {
		for (size_t i = 0; i < update_part_count(n); i++) {
			const struct part p = update_part(n, i);

			watches_take(n, &p);
		}
		return PHASE_DONE;
	}
	sleep_until_due(n, now, a->entered_ms + u->watch_ms, WATCH_LOOK_MS);
	return PHASE_AGAIN;
}
