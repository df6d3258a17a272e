/*
 * why - the one reason why a component is what it is, and the words around it, for the
 * console and for the report alike. The reason is decide()'s.
 */
#include "agent/phase/node.h"
#include "base/timestamp.h"

#include <stdio.h>
#include <string.h>

/* How far the update of this component is, in words. */
static void explain_progress(const struct node *n, char *out, size_t size)
{
	const struct node_update *u = &n->state->update;
	uint64_t now = node_now_ms(n), spent = now - n->attempt.entered_ms, of;

	if (u->state == NODE_PROBATION || u->state == NODE_WATCH) {
		of = u->state == NODE_PROBATION ? u->probation_ms : u->watch_ms;
		if (spent < of)
			(void) snprintf(out, size, "%s, %llu s of %llu s left", node_update_state_name(u->state),
					(unsigned long long) ((of - spent + 999) / 1000),
					(unsigned long long) (of / 1000));
		else
			(void) snprintf(out, size, "%s, waiting for its last checks",
					node_update_state_name(u->state));
		return;
	}
	(void) snprintf(out, size, "it is under way: %s", node_update_state_name(u->state));
}

static void explain_freeze(const struct node *n, const char *component, char *out, size_t size)
{
	struct local_facts local = { .node = n->config->node, .labels = &n->docs.labels, .now = node_now(n) };
	const struct freeze *f = n->docs.loaded ? freeze_covers(&n->docs.index, &local, component) : NULL;

	if (f && f->reason)
		(void) snprintf(out, size, "%s", f->reason);
}

static void explain_retry(const struct node_retry *retry, struct why *w)
{
	char at[TIMESTAMP_LEN + 1];

	timestamp_format(at, retry->not_before);
	w->reason = REASON_RETRY;
	w->until = retry->not_before;
	(void) snprintf(w->detail, sizeof(w->detail), "%llu attempts failed; the next is due at %s",
			(unsigned long long) retry->failures, at);
}

struct why node_why(struct node *n, const char *component)
{
	struct why w = { .d = node_decide(n, component) };
	const struct node_component *c = state_component(n->state, component);
	const struct node_deferral *deferral;
	const struct node_retry *retry;

	w.reason = w.d.reason;
	w.until = w.d.until;
	if (w.d.kind == DECIDE_TARGET) {
		retry = state_retry(n->state, component, w.d.version);
		if (retry && retry->not_before > node_now(n))
			explain_retry(retry, &w);
	}
	if (!w.detail[0] && update_concerns(n, component))
		explain_progress(n, w.detail, sizeof(w.detail));
	switch (w.reason) {
	case REASON_SUPPORT_ROLLBACK:
		if (w.d.order)
			(void) snprintf(w.detail, sizeof(w.detail), "%s (by %s)",
					w.d.order->reason ? w.d.order->reason : "",
					w.d.order->by ? w.d.order->by : "support");
		break;
	case REASON_SUPPORT_PIN:
		if (w.d.pin)
			(void) snprintf(w.detail, sizeof(w.detail), "%s (by %s)",
					w.d.pin->reason ? w.d.pin->reason : "",
					w.d.pin->by ? w.d.pin->by : "support");
		break;
	case REASON_SUPPORT_HOLD:
		(void) snprintf(w.detail, sizeof(w.detail), "%s (by %s)",
				n->docs.orders.hold.reason ? n->docs.orders.hold.reason : "",
				n->docs.orders.hold.by ? n->docs.orders.hold.by : "support");
		break;
	case REASON_FROZEN:
		explain_freeze(n, component, w.detail, sizeof(w.detail));
		break;
	case REASON_BUSY:
		(void) snprintf(w.detail, sizeof(w.detail), "%s is %s", n->state->update.component,
				node_update_state_name(n->state->update.state));
		break;
	case REASON_LOCAL_HOLD:
		(void) snprintf(w.detail, sizeof(w.detail), "%s", n->state->hold_reason);
		w.until = n->state->hold_until;
		break;
	case REASON_INHIBITED:
		node_explain_inhibitor(n, w.detail, sizeof(w.detail));
		break;
	case REASON_DEFERRED:
		deferral = state_deferral(n->state, component, node_now(n));
		if (deferral)
			(void) snprintf(w.detail, sizeof(w.detail), "%s (by %s)",
					deferral->reason[0] ? deferral->reason : "no reason given",
					deferral->by[0] ? deferral->by : "somebody here");
		break;
	case REASON_WINDOW:
		node_explain_window(n, w.d.rollout, w.detail, sizeof(w.detail));
		break;
	case REASON_NOT_APPROVED:
		node_explain_withheld(n, w.d.rollout, w.detail, sizeof(w.detail));
		break;
	case REASON_LEASE:
		(void) snprintf(w.detail, sizeof(w.detail), "%s", n->lease_refusal);
		break;
	case REASON_STALE:
		if (n->refresh_error < 0)
			(void) snprintf(w.detail, sizeof(w.detail), "%s", n->refresh_text);
		break;
	case REASON_DENIED:
		for (size_t i = 0; c && i < c->denial_count; i++)
			if (w.d.version && str_eq(c->denials[i].version, w.d.version))
				(void) snprintf(w.detail, sizeof(w.detail), "%s is denied: %s",
						c->denials[i].version,
						node_denial_cause_name(c->denials[i].cause));
		break;
	default:
		break;
	}
	return w;
}
