/*
 * health - is the new version what it promised, for the whole of its probation.
 */
#include "agent/local/service.h"
#include "agent/phase/node.h"
#include "agent/phase/phase.h"
#include "agent/phase/self.h"
#include "agent/probe/probe.h"
#include "base/err.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NONCE_AGAIN_MS = 10 * 1000, PROVE_LOOK_MS = 100 };

static bool has_link_check(const struct release *rel)
{
	for (size_t i = 0; i < rel->check_count; i++)
		if (rel->checks[i].kind == CHECK_LINK)
			return true;
	return false;
}

static int begin(struct node *n)
{
	struct attempt *a = &n->attempt;
	const struct node_update *u = &n->state->update;
	struct command_context c = { .config = n->config, .component = u->component, .version = u->to };
	int r;

	free(a->probe_root);
	a->probe_root = node_version_root(n, u->component, u->to);
	if (!a->probe_root)
		return -ENOMEM;
	c.root = a->probe_root;
	command_line_done(&a->probe_environment);
	r = command_environment(&c, &a->probe_environment);
	if (r < 0)
		return r;
	a->probe_context = (struct probe_context){
		.variables = { .vars = &n->config->vars, .node_id = n->config->node, .root = a->probe_root },
		.root = a->probe_root,
		.env = (const char *const *) a->probe_environment.env,
		.user = n->as_root ? config_component_user(n->config, u->component) : NULL,
	};
	r = probe_set_new(&a->release, &a->probe_context, PROBE_PROBATION, node_now_ms(n), &a->probes);
	if (r < 0)
		return r;
	for (size_t i = 0; i < u->baseline_count; i++)
		if (!u->baseline[i].passed)
			probe_set_was_failing(a->probes, u->baseline[i].check);
	for (size_t i = 0; !u->link_before && i < a->release.check_count; i++)
		if (a->release.checks[i].kind == CHECK_LINK)
			probe_set_was_failing(a->probes, a->release.checks[i].name);
	return 0;
}

/* The controller must answer a question asked after the swap, over a connection made after it. */
static void follow_link(struct node *n)
{
	struct attempt *a = &n->attempt;
	uint64_t now = node_now_ms(n);

	if (self_is_updated(n)) {
		/* It is a connection of its own: the one before the swap was another process's. */
		if (self_ask_controller(n) > 0 && a->probes)
			probe_set_link_result(a->probes, true, NULL);
		return;
	}
	if (!has_link_check(&a->release))
		return;
	if (a->nonce[0] && n->acked_ms >= a->nonce_ms && str_eq(n->acked_nonce, a->nonce)) {
		probe_set_link_result(a->probes, true, NULL);
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
	return update_fail_as(n, RESULT_CHECK_FAILED, -ERR_REFUSED, "the check %s failed: %.300s",
			      why->check->name, why->detail);
}

static int only_link(struct node *n, uint64_t now)
{
	struct attempt *a = &n->attempt;
	struct node_update *u = &n->state->update;

	if (now - a->entered_ms < n->config->link_deadline_s * 1000) {
		a->wake_ms = now + 1000;
		return PHASE_AGAIN;
	}
	/*
	 * Somebody answers and we cannot verify who: that is what a release does to the
	 * trust store or the clock. Where nobody answers, nobody knows whose fault it is,
	 * and a good release is not undone for a cut cable.
	 */
	if (n->refresh_error == -ERR_TLS)
		return update_fail_as(n, RESULT_LINK_LOST, -ERR_TLS,
				      "the controller could be reached before the swap and cannot be since: %s",
				      n->refresh_text);
	u->result = RESULT_GOOD_UNPROVEN;
	STATE_SET(u->detail, "the controller could not be asked again since the swap; nobody answers");
	return PHASE_DONE;
}

static int judge(struct node *n)
{
	struct attempt *a = &n->attempt;
	struct node_update *u = &n->state->update;
	const struct probe_status *why = NULL;
	uint64_t now = node_now_ms(n);
	struct pollfd fds[2 * RELEASE_CHECKS_MAX];
	int timeout = -1;

	probe_set_step(a->probes, now);
	switch (probe_set_verdict(a->probes, now, u->probation_ms, &why)) {
	case PROBE_PASSED:
		u->result = RESULT_GOOD;
		return PHASE_DONE;
	case PROBE_UNPROVEN:
		u->result = RESULT_GOOD_UNPROVEN;
		return PHASE_DONE;
	case PROBE_FAILED:
		return fail_check(n, why);
	case PROBE_ONLY_LINK:
		return self_is_updated(n) ? PHASE_DONE : only_link(n, now); /* its own proof asks for more */
	case PROBE_IN_PROGRESS:
		break;
	}
	(void) probe_set_prepare(a->probes, fds, ARRAY_LEN(fds), now, &timeout);
	a->wake_ms = now + (timeout < 0 || timeout > 1000 ? 1000 : (uint64_t) timeout);
	if (a->entered_ms + u->probation_ms > now && a->entered_ms + u->probation_ms < a->wake_ms)
		a->wake_ms = a->entered_ms + u->probation_ms;
	return PHASE_AGAIN;
}

static int check_services(struct node *n)
{
	struct attempt *a = &n->attempt;
	const struct node_update *u = &n->state->update;
	const char *name = "";
	int r;

	(void) services_step(n->services, node_now_ms(n));
	r = services_settled(n->services, u->component, &name);
	if (r >= 0)
		return 0;
	services_log_tail(n->services, u->component, &a->log_tail);
	return update_fail_as(n, RESULT_SERVICE_FAILED, r, "the service %s did not stay up", name);
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
	if (u->to[0] && !a->probes) {
		r = begin(n);
		if (r < 0)
			return update_fail_as(n, RESULT_CHECK_FAILED, r, "the checks could not be prepared: %s",
					      err_text(r));
	}
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
	struct attempt *a = &n->attempt;
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
	if (u->to[0] == '\0') {
		u->result = RESULT_GOOD; /* absent as it was asked: there is nothing to check */
		return PHASE_DONE;
	}
	r = check_services(n);
	if (r < 0)
		return r;
	if (!a->probes) {
		r = begin(n);
		if (r < 0)
			return update_fail_as(n, RESULT_CHECK_FAILED, r, "the checks could not be prepared: %s",
					      err_text(r));
	}
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
	struct node_component *c = state_component(n->state, u->component);

	u->result = RESULT_REGRESSED;
	if (!c)
		return; /* it was installed by this update: it is there */
	u->attempt = ++c->attempts;
	(void) snprintf(u->id, sizeof(u->id), "%s/%s/%llu", u->source, u->component,
			(unsigned long long) u->attempt);
}

/*
 * The same checks for longer. Another update ends it: what that one replaces needs no
 * watching, and no two updates are judged at once.
 */
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
	if (r == 0 && !a->probes) {
		r = begin(n);
		if (r < 0)
			return PHASE_DONE; /* it is good already; it only goes unwatched */
	}
	if (r == 0) {
		probe_set_step(a->probes, now);
		if (probe_set_verdict(a->probes, now, u->watch_ms, &why) == PROBE_FAILED)
			r = fail_check(n, why);
	}
	if (r < 0) {
		begin_regression(n);
		return r;
	}
	if (now - a->entered_ms >= u->watch_ms || something_is_wanted(n))
		return PHASE_DONE;
	a->wake_ms = now + 1000;
	return PHASE_AGAIN;
}
