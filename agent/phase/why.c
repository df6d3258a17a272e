#include "agent/phase/why.h"

#include "agent/local/inhibit.h"
#include "agent/phase/again.h"
#include "agent/phase/facts.h"
#include "agent/phase/node.h"
#include "base/err.h"
#include "base/timestamp.h"
#include "json/json.h"

#include <errno.h>
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

static void explain_retry(const struct node *n, const struct node_retry *retry, uint64_t in_ms, struct why *w)
{
	char at[TIMESTAMP_LEN + 1];

	w->reason = REASON_RETRY;
	w->until = node_now(n) + (int64_t) (in_ms + 999) / 1000;
	timestamp_format(at, w->until);
	(void) snprintf(w->detail, sizeof(w->detail), "%llu attempts failed; the next is due at %s",
			(unsigned long long) retry->failures, at);
}

/* Who holds an inhibitor, since when and why; "" if nobody does. */
static void explain_inhibitor(const struct node *n, char *out, size_t size)
{
	struct inhibitor list[INHIBIT_LIST_MAX];
	size_t count = n->inhibitors ? inhibitors_list(n->inhibitors, list, ARRAY_LEN(list)) : 0;
	char since[TIMESTAMP_LEN + 16] = "", at[TIMESTAMP_LEN + 1], more[32] = "";

	out[0] = '\0';
	if (count == 0)
		return;
	if (list[0].since > 0) {
		timestamp_format(at, list[0].since);
		(void) snprintf(since, sizeof(since), ", since %s", at);
	}
	if (count > 1)
		(void) snprintf(more, sizeof(more), "; and %zu more", count - 1);
	(void) snprintf(out, size, "%s (%s%s)%s", list[0].why[0] ? list[0].why : "no reason given", list[0].who,
			since, more);
}

/* For a rollout that waits for an approval: the file of its team that no road brings; else `out` stays as it is. */
static void explain_withheld(const struct node *n, const struct rollout *r, char *out, size_t size)
{
	const struct known_rollout *k = r ? documents_rollout(&n->docs, r->id) : NULL;
	const char *component = NULL;

	for (size_t i = 0; r && !component && i <= r->with_count; i++) {
		const struct release_ref *ref = i == 0 ? &r->release : &r->with[i - 1];
		const struct known_policy *p = documents_policy(&n->docs, ref->component);

		if (p && p->withheld)
			component = ref->component;
	}
	if (!component && k && k->withheld)
		component = r->component;
	if (component)
		(void) snprintf(out, size, "what the team of %s signed cannot be fetched: %s", component,
				n->refresh_text[0] ? n->refresh_text : "it is asked for again");
}

/* Why this rollout's window or blackout stops it, where and until when. */
static void explain_window(const struct node *n, const struct rollout *r, char *out, size_t size)
{
	const struct known_rollout *k = r ? documents_rollout(&n->docs, r->id) : NULL;
	struct opening_state s;
	char when[TIMESTAMP_LEN + 80] = "", at[TIMESTAMP_LEN + 1];

	if (!k)
		return;
	if (!n->docs.zone && opening_needs_zone(&k->opening)) {
		(void) snprintf(out, size, "the zone '%s' of the label `zone` cannot be used here: %s",
				n->docs.zone_name,
				n->docs.zone_error == -ENOPKG	? "there is no zone database (install tzdata)"
				: n->docs.zone_error == -ENOENT ? "no such zone"
								: err_text(n->docs.zone_error));
		return;
	}
	s = opening_judge(&k->opening, n->docs.zone, node_now(n));
	if (s.opens > 0) {
		timestamp_format(at, s.opens);
		(void) snprintf(when, sizeof(when), "; it may go on at %s", at);
	}
	if (node_zone_is_stale(n))
		(void) snprintf(when + strlen(when), sizeof(when) - strlen(when), " (by old zone data, %s)",
				n->docs.zone_edition);
	if (s.in_blackout)
		(void) snprintf(out, size, "a blackout of the rollout, in the zone %s%s", n->docs.zone_name, when);
	else
		(void) snprintf(out, size, "outside the window %s in the zone %s%s",
				k->opening.has_window ? json_string(k->rollout.window) : "", n->docs.zone_name,
				when);
}

struct why node_why(struct node *n, const char *component)
{
	struct why w = { .d = node_decide(n, component) };
	const struct node_component *c = state_component(n->state, component);
	const struct node_deferral *deferral;
	struct node_retry *retry;
	uint64_t pause_ms;

	w.reason = w.d.reason;
	w.until = w.d.until;
	if (w.d.kind == DECIDE_TARGET) {
		retry = state_retry(n->state, component, w.d.version);
		pause_ms = again_in_ms(n, retry);
		if (pause_ms > 0)
			explain_retry(n, retry, pause_ms, &w);
	}
	if (!w.detail[0] && update_concerns(n, component))
		explain_progress(n, w.detail, sizeof(w.detail));
	switch (w.reason) {
	case REASON_SUPPORT_ROLLBACK:
		if (w.d.order)
			(void) snprintf(w.detail, sizeof(w.detail), "support keeps it here: %s (by %s)",
					w.d.order->reason ? w.d.order->reason : "",
					w.d.order->by ? w.d.order->by : "support");
		break;
	case REASON_SUPPORT_PIN:
		if (w.d.pin)
			(void) snprintf(w.detail, sizeof(w.detail), "pinned by support: %s (by %s)",
					w.d.pin->reason ? w.d.pin->reason : "",
					w.d.pin->by ? w.d.pin->by : "support");
		break;
	case REASON_SUPPORT_HOLD:
		(void) snprintf(w.detail, sizeof(w.detail), "held by support: %s (by %s)",
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
		(void) snprintf(w.detail, sizeof(w.detail), "held at the console: %s", n->state->hold_reason);
		w.until = n->state->hold_until;
		break;
	case REASON_INHIBITED:
		explain_inhibitor(n, w.detail, sizeof(w.detail));
		break;
	case REASON_DEFERRED:
		deferral = state_deferral(n->state, component, node_now(n));
		if (deferral)
			(void) snprintf(w.detail, sizeof(w.detail), "deferred: %s (by %s)",
					deferral->reason[0] ? deferral->reason : "no reason given",
					deferral->by[0] ? deferral->by : "somebody here");
		break;
	case REASON_WINDOW:
		explain_window(n, w.d.rollout, w.detail, sizeof(w.detail));
		break;
	case REASON_NOT_APPROVED:
		explain_withheld(n, w.d.rollout, w.detail, sizeof(w.detail));
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
