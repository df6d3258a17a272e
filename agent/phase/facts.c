#include "agent/phase/facts.h"

#include "agent/local/inhibit.h"
#include "agent/phase/again.h"
#include "agent/phase/node.h"
#include "agent/phase/turn.h"
#include "base/version.h"

#include <stdlib.h>
#include <string.h>

static size_t list_inhibitors(const struct node *n, struct inhibitor *out, size_t max)
{
	return n->inhibitors ? inhibitors_list(n->inhibitors, out, max) : 0;
}

static struct local_facts local_facts_of(const struct node *n, const char *component, int64_t now)
{
	const struct node_update *u = &n->state->update;
	bool busy = node_is_busy(n) && !update_concerns(n, component);
	struct inhibitor first;

	return (struct local_facts){
		.node = n->config->node,
		.labels = n->docs.loaded ? &n->docs.labels : &n->config->labels,
		.now = now,
		.fresh = node_is_fresh(n),
		/* Somebody stands before it with a stick: that may be what frees it. */
		.stuck = n->state->stuck && !n->bundle,
		.busy = busy ? u->component : NULL,
		.inhibited = list_inhibitors(n, &first, 1) > 0,
		.held = again_is_held(n),
		.held_until = n->state->hold_until,
		.hold_reason = n->state->hold_reason,
		.max_swaps_per_day = n->config->max_swaps_per_day,
	};
}

/* What the component should be if it were alone, and `without` (NULL: none) were not there. */
static struct decision decide_without(struct node *n, const char *component, const struct known_rollout *without)
{
	size_t count = 0;
	static const struct node_component none = { .name = "" };
	const struct node_component *c = state_component(n->state, component);
	const struct known_policy *policy = documents_policy(&n->docs, component);
	struct denial denials[STATE_DENIALS_MAX];
	struct taken taken[STATE_TAKEN_MAX];
	const char *good[STATE_GOOD_MAX], *joined[STATE_JOINED_MAX];
	struct rollout_facts *rollouts;
	struct component_facts facts;
	struct local_facts local;
	struct decision d;
	int64_t now = node_now(n);
	uint64_t now_ms = node_now_ms(n);
	const struct node_deferral *deferral = state_deferral(n->state, component, now);

	if (!c)
		c = &none;
	for (size_t i = 0; i < c->denial_count; i++)
		denials[i] = (struct denial){ .version = c->denials[i].version,
					      .cause = (enum denial_cause) c->denials[i].cause,
					      .seq = c->denials[i].seq };
	for (size_t i = 0; i < c->taken_count; i++)
		taken[i] = (struct taken){ .rollout = c->taken[i].rollout,
					   .stage = c->taken[i].stage,
					   .seq = c->taken[i].seq,
					   .version = c->taken[i].version,
					   .previous = c->taken[i].previous };
	for (size_t i = 0; i < c->good_count; i++)
		good[i] = c->good[i];
	for (size_t i = 0; i < c->joined_count; i++)
		joined[i] = c->joined[i];
	facts = (struct component_facts){
		.component = component,
		.version = c->version[0] ? c->version : NULL,
		.denials = denials,
		.denial_count = c->denial_count,
		.good = good,
		.good_count = c->good_count,
		.taken = taken,
		.taken_count = c->taken_count,
		.joined = joined,
		.joined_count = c->joined_count,
		.swaps_today = (unsigned) component_swaps_today(c, now),
		.policy = policy && policy->present ? &policy->policy : NULL,
	};
	local = local_facts_of(n, component, now);
	rollouts = calloc(n->docs.rollout_count + 1, sizeof(*rollouts));
	if (!rollouts)
		return (struct decision){ .kind = DECIDE_STAY, .reason = REASON_RETRY };
	for (size_t i = 0; i < n->docs.rollout_count; i++) {
		const struct known_rollout *k = &n->docs.rollouts[i];
		struct opening_state opening = opening_judge(&k->opening, n->docs.zone, now);

		if (k == without)
			continue;
		rollouts[count] = (struct rollout_facts){
			.rollout = &k->rollout,
			.share = k->share,
			.in_window = opening.in_window,
			.in_blackout = opening.in_blackout,
			.window_opens = opening.opens,
			.spread_passed = now_ms >= turn_spread_ends(k),
			.notice_passed = now_ms >= turn_notice_ends(k),
			.deferred_until = deferral ? deferral_end(&k->rollout, deferral->until) : 0,
			.lease_missing = k->rollout.disruption.label && now_ms < n->lease_again_ms,
		};
		rollouts[count].deferred = rollouts[count].deferred_until > now;
		memcpy(rollouts[count].approved, k->approved, sizeof(k->approved));
		memcpy(rollouts[count].up_unapproved, k->up_unapproved, sizeof(k->up_unapproved));
		count++;
	}
	d = decide(&local, &facts, rollouts, count, n->docs.loaded ? &n->docs.index : NULL,
		   n->docs.loaded ? &n->docs.orders : NULL);
	free(rollouts);
	return d;
}

static const struct known_rollout *known_of(const struct node *n, const struct rollout *r)
{
	for (size_t i = 0; i < n->docs.rollout_count; i++)
		if (&n->docs.rollouts[i].rollout == r)
			return &n->docs.rollouts[i];
	return NULL;
}

/*
 * A release that cannot be reached from here in one step is reached by another one in between, if a
 * rollout offers it: then that one first.
 */
static struct decision decide_alone(struct node *n, const char *component)
{
	const struct node_component *c = state_component(n->state, component);
	struct decision d = decide_without(n, component, NULL), step;
	const struct known_rollout *k = d.cause == CAUSE_ROLLOUT ? known_of(n, d.rollout) : NULL;

	if (!k || !c || !c->version[0] || !str_eq(k->needs_component, component) || d.kind == DECIDE_STAY ||
	    version_compare(c->version, k->needs_from) >= 0)
		return d;
	step = decide_without(n, component, k);
	if (step.kind == DECIDE_STAY || step.cause != CAUSE_ROLLOUT ||
	    version_compare(step.version, k->needs_from) < 0 || version_compare(step.version, d.version) >= 0)
		return d;
	return step;
}

/* As long as one of a rollout's components may not go, for whatever reason, the others wait with it. */
static void wait_for_others(struct node *n, const char *component, struct decision *d)
{
	const struct rollout *r = d->rollout;

	for (size_t i = 0; i <= r->with_count; i++) {
		const struct release_ref *ref = i == 0 ? &r->release : &r->with[i - 1];
		const struct node_component *c = state_component(n->state, ref->component);
		struct decision other;

		if (str_eq(ref->component, component))
			continue;
		other = decide_alone(n, ref->component);
		decide_together(d, &other, ref, c && c->version[0] ? c->version : NULL);
	}
}

struct decision node_decide(struct node *n, const char *component)
{
	struct decision d = decide_alone(n, component);

	if (d.cause == CAUSE_ROLLOUT && d.kind == DECIDE_TARGET && d.rollout->with_count > 0)
		wait_for_others(n, component, &d);
	return d;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

static int add_once(struct string_list *l, const char *s)
{
	return string_list_has(l, s) ? 0 : string_list_add(l, s);
}

int node_components(struct node *n, struct string_list *ret)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n->state->component_count; i++)
		r = add_once(ret, n->state->components[i]->name);
	for (size_t i = 0; r == 0 && i < n->docs.rollout_count; i++) {
		const struct rollout *rollout = &n->docs.rollouts[i].rollout;

		r = add_once(ret, rollout->component);
		for (size_t k = 0; r == 0 && k < rollout->with_count; k++)
			r = add_once(ret, rollout->with[k].component);
	}
	for (size_t i = 0; r == 0 && i < n->docs.orders.rollback_count; i++)
		r = add_once(ret, n->docs.orders.rollbacks[i].component);
	for (size_t i = 0; r == 0 && i < n->docs.orders.pin_count; i++)
		r = add_once(ret, n->docs.orders.pins[i].component);
	if (r == 0 && ret->count > 1)
		qsort(ret->items, ret->count, sizeof(*ret->items), compare_names);
	return r;
}
