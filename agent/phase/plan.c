/*
 * plan - which update is next.
 *
 * `decide` answers what a component should be; this asks it for every one of them, takes what weighs
 * most, and notes it, with all that goes in the same rename, as the update under way.
 */
#include "agent/phase/again.h"
#include "agent/phase/dependants.h"
#include "agent/phase/facts.h"
#include "agent/phase/manifest.h"
#include "agent/phase/node.h"
#include "agent/phase/obey.h"
#include "agent/phase/phase.h"
#include "agent/phase/turn.h"
#include "base/err.h"
#include "base/log.h"

#include <stdio.h>

/* Orders before undo before rollouts; fetching ahead last. 0: nothing to do. */
static int weight_of(const struct decision *d)
{
	if (d->kind == DECIDE_STAY || !d->version)
		return 0;
	if (d->kind == DECIDE_WAIT)
		return d->may_stage && d->version[0] ? 1 : 0;
	switch (d->cause) {
	case CAUSE_ORDER_ROLLBACK:
	case CAUSE_ORDER_PIN:
		return 5;
	case CAUSE_UNDO:
		return 4;
	case CAUSE_ROLLOUT:
		return d->rollout && d->rollout->kind == ROLLOUT_PATCH ? 3 : 2;
	case CAUSE_NONE:
		break;
	}
	return 0;
}

/* The next release of a rollout that brings several: the main one, then with[]; NULL behind the last. */
static const struct release_ref *release_at(const struct rollout *r, size_t i)
{
	return i == 0 ? &r->release : i <= r->with_count ? &r->with[i - 1] : NULL;
}

static bool is_at(const struct node *n, const struct release_ref *ref)
{
	const struct node_component *c = state_component(n->state, ref->component);

	return c && str_eq(c->version, ref->version);
}

/* It, and all that goes with it. */
static bool all_staged(struct node *n, const char *component, const struct decision *d)
{
	const struct release_ref *ref;
	bool staged = node_has_version(n, component, d->version);

	for (size_t i = 0;
	     staged && d->cause == CAUSE_ROLLOUT && d->rollout && (ref = release_at(d->rollout, i)) != NULL; i++)
		staged = is_at(n, ref) || node_has_version(n, ref->component, ref->version);
	return staged;
}

static void wake_for_turn(struct node *n, const struct decision *d)
{
	const struct known_rollout *k = d->rollout ? documents_rollout(&n->docs, d->rollout->id) : NULL;
	uint64_t at;

	if (!k || d->kind != DECIDE_WAIT || (d->reason != REASON_NOTICE && d->reason != REASON_SPREAD))
		return;
	at = d->reason == REASON_NOTICE ? turn_notice_ends(k) : turn_spread_ends(k);
	if (at < n->plan_ms)
		n->plan_ms = at;
}

/* A period that has begun goes on after a restart. */
static int remember_notice(struct node *n, const struct decision *d)
{
	const struct known_rollout *k = d->rollout ? documents_rollout(&n->docs, d->rollout->id) : NULL;

	return k && d->kind == DECIDE_WAIT && d->reason == REASON_NOTICE ? turn_remember(n, k) : 0;
}

/* What is in the store already still has to be announced here once its notice period begins. */
static bool owes_notice(struct node *n, const char *component, const struct decision *d)
{
	const struct known_rollout *k = d->rollout ? documents_rollout(&n->docs, d->rollout->id) : NULL;
	struct release release = { 0 };
	bool owes;

	if (!k || k->notified || d->reason != REASON_NOTICE ||
	    manifest_load(n, component, d->version, &release) < 0)
		return false;
	owes = release.hooks.notify.argv.count > 0;
	release_done(&release);
	return owes;
}

struct choice {
	char component[ID_MAX + 1];
	struct decision d;
	int weight;
};

static int consider(struct node *n, const char *component, struct choice *best)
{
	struct decision d = node_decide(n, component);
	uint64_t pause_ms;
	int weight, r;

	r = obey_denial(n, component, &d);
	if (r == 0)
		r = obey_refusal(n, component, &d);
	if (r < 0)
		return r;
	if (d.until > 0)
		node_plan_at(n, d.until);
	wake_for_turn(n, &d);
	r = remember_notice(n, &d);
	if (r < 0)
		return r;
	/* What waits for a lease asks again after a while, not in a circle. */
	if (d.reason == REASON_LEASE && n->lease_again_ms < n->plan_ms)
		n->plan_ms = n->lease_again_ms;
	weight = weight_of(&d);
	if (weight <= best->weight)
		return 0;
	pause_ms = again_in_ms(n, state_retry(n->state, component, d.version));
	if (pause_ms > 0) {
		node_plan_in(n, pause_ms);
		return 0;
	}
	if (weight == 1 && all_staged(n, component, &d) && !owes_notice(n, component, &d))
		return 0;
	(void) snprintf(best->component, sizeof(best->component), "%s", component);
	best->d = d;
	best->weight = weight;
	return 0;
}

static const char *source_of(const struct decision *d)
{
	if (d->cause == CAUSE_ORDER_ROLLBACK && d->order)
		return d->order->id;
	if (d->cause == CAUSE_ORDER_PIN && d->pin)
		return d->pin->id;
	return d->rollout ? d->rollout->id : "local";
}

/* An update goes by the name of its rollout's main component, as long as that has a part in it. */
static void choose_main(struct node *n, struct choice *choice)
{
	const struct rollout *r = choice->d.rollout;
	struct decision d;

	if (!r || r->with_count == 0 || (choice->d.cause != CAUSE_ROLLOUT && choice->d.cause != CAUSE_UNDO) ||
	    str_eq(choice->component, r->component))
		return;
	d = node_decide(n, r->component);
	if (d.kind != choice->d.kind || d.cause != choice->d.cause || !d.rollout || !str_eq(d.rollout->id, r->id))
		return;
	(void) snprintf(choice->component, sizeof(choice->component), "%s", r->component);
	choice->d = d;
}

static int add_with(struct node *n, const char *component, const char *to, const struct release_ref *ref)
{
	struct node_update *u = &n->state->update;
	struct node_with *w;
	struct node_component *c = NULL;
	int r = u->with_count < STATE_WITH_MAX ? state_component_add(n->state, component, &c) : -ERR_TOO_LARGE;

	if (r < 0)
		return r;
	w = &u->with[u->with_count++];
	*w = (struct node_with){ .component = "" };
	c->attempts++;
	STATE_SET(w->component, component);
	STATE_SET(w->from, c->version);
	STATE_SET(w->to, to);
	if (ref) {
		STATE_SET(w->release_path, ref->path);
		hex_encode(w->release_sha256, ref->sha256, SHA256_BYTES);
		component_joined_add(c, u->rollout);
	}
	return 0;
}

/* What the same rollout brings, or takes back, in the same rename. */
static int add_parts(struct node *n, const struct decision *d)
{
	const struct node_update *u = &n->state->update;
	const struct release_ref *ref;
	int r = 0;

	if (!d->rollout || (d->cause != CAUSE_ROLLOUT && d->cause != CAUSE_UNDO))
		return 0;
	for (size_t i = 0; r == 0 && (ref = release_at(d->rollout, i)) != NULL; i++) {
		struct decision other;

		if (str_eq(ref->component, u->component))
			continue;
		if (d->cause == CAUSE_ROLLOUT) {
			r = is_at(n, ref) ? 0 : add_with(n, ref->component, ref->version, ref);
			continue;
		}
		other = node_decide(n, ref->component);
		if (other.cause == CAUSE_UNDO && other.kind == DECIDE_TARGET && other.rollout == d->rollout)
			r = add_with(n, ref->component, other.version, NULL);
	}
	return r;
}

/* Data is put back by an order only where this node says so too. */
static void choose_data(struct node *n, const struct order_rollback *order)
{
	struct node_update *u = &n->state->update;
	char name[DATA_NAME_SIZE];

	if (!order || !order->restore_data)
		return;
	if (!config_component(n->config, u->component)->restore_data)
		STATE_SET(u->detail,
			  "the data stays as it is: components.d does not allow an order to put it back");
	else if (data_find(n->os, n->dirs, u->component, u->to, name) < 0)
		STATE_SET(u->detail, "the data stays as it is: no copy of that version's is kept here");
	else
		STATE_SET(u->data_from, name);
}

static int begin(struct node *n, const struct choice *choice)
{
	const struct decision *d = &choice->d;
	struct node_update *u = &n->state->update;
	struct node_component *c = NULL;
	int r = state_component_add(n->state, choice->component, &c);

	if (r < 0)
		return r;
	state_update_clear(n->state);
	c->attempts++;
	u->attempt = c->attempts;
	STATE_SET(u->source, source_of(d));
	STATE_SET(u->component, choice->component);
	(void) snprintf(u->id, sizeof(u->id), "%s/%s/%llu", u->source, u->component,
			(unsigned long long) u->attempt);
	u->cause = (enum node_cause) d->cause;
	STATE_SET(u->from, c->version);
	STATE_SET(u->to, d->version);
	u->started_at = n->os->clock_real(n->os);
	if (d->rollout) {
		STATE_SET(u->rollout, d->rollout->id);
		STATE_SET(u->stage, d->stage ? d->stage->name : "");
		u->seq = d->rollout->seq;
	}
	if (d->cause == CAUSE_ROLLOUT && d->release) {
		STATE_SET(u->release_path, d->release->path);
		hex_encode(u->release_sha256, d->release->sha256, SHA256_BYTES);
		component_joined_add(c, d->rollout->id);
	}
	u->deny_from = d->deny_from;
	n->attempt.started_ms = node_now_ms(n);
	if (d->cause == CAUSE_ORDER_ROLLBACK)
		choose_data(n, d->order);
	r = add_parts(n, d);
	/* A way back takes those along that came since; what brings something new breaks nobody (check). */
	if (r == 0 && d->cause != CAUSE_ROLLOUT)
		r = update_add_dependants(n, false);
	if (r < 0)
		state_update_clear(n->state);
	return r;
}

int phase_plan(struct node *n)
{
	struct string_list components = { 0 };
	struct choice best = { .weight = 0 };
	int r;

	n->replan = false;
	n->plan_ms = UINT64_MAX;
	r = obey_once(n);
	if (r >= 0)
		r = node_components(n, &components);
	for (size_t i = 0; r == 0 && i < components.count; i++)
		r = consider(n, components.items[i], &best);
	string_list_done(&components);
	if (r == 0 && best.weight > 0) {
		choose_main(n, &best);
		r = begin(n, &best);
	}
	if (r < 0) {
		log_error("plan-failed", "error=%s detail=%s", err_name(r), err_text(r));
		n->plan_ms = node_now_ms(n) + 60 * 1000;
		return PHASE_AGAIN;
	}
	return best.weight > 0 ? PHASE_DONE : PHASE_AGAIN;
}
