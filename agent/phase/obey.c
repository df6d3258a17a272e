#include "agent/phase/obey.h"

#include "agent/phase/node.h"
#include "agent/phase/outcome.h"
#include "base/log.h"

#include <stdio.h>

int obey_once(struct node *n)
{
	bool changed = false, retry = false;
	int r;

	for (size_t i = 0; n->docs.loaded && i < n->docs.orders.retry_count; i++) {
		const struct order_once *o = &n->docs.orders.retries[i];
		struct node_component *c = state_component(n->state, o->component);
		struct node_order done = { .result = RESULT_GOOD, .at = n->os->clock_real(n->os) };

		if (state_order(n->state, o->id) || o->expires <= node_now(n))
			continue;
		if (c)
			component_undeny(c, NULL);
		state_retry_clear(n->state, o->component, NULL);
		STATE_SET(done.id, o->id);
		STATE_SET(done.component, o->component);
		STATE_SET(done.detail, "denials and waiting times of the component are lifted");
		state_order_add(n->state, &done);
		log_notice("order-retry", "order=%s component=%s", o->id, o->component);
		n->report_wanted = changed = retry = true;
	}
	r = changed ? node_save(n) : 0;
	return r < 0 ? r : retry;
}

int obey_denial(struct node *n, const char *component, const struct decision *d)
{
	struct node_component *c = NULL;
	const struct node_denial *known;
	const char *from = d->order ? d->order->from : NULL;
	int r;

	if (!d->deny_from || !from || !from[0])
		return 0;
	r = state_component_add(n->state, component, &c);
	if (r < 0)
		return r;
	known = component_denial(c, from);
	if (known && known->cause == NODE_DENIED_FORCED)
		return 0;
	component_deny(c, from, NODE_DENIED_FORCED, c->seq);
	/* What a rollout of that number was refused for is not what support asks for: it does not wait it out. */
	if (d->kind != DECIDE_STAY && d->version)
		state_retry_clear(n->state, component, d->version);
	n->report_wanted = true;
	log_notice("version-denied", "component=%s version=%s cause=forced order=%s", component, from,
		   d->order->id);
	return node_save(n);
}

/* Why an order that is refused is: what decide() asked of its version, in words. */
static const char *order_trouble(struct node *n, const char *component, const char *version, const char *from)
{
	const struct known_policy *policy = documents_policy(&n->docs, component);
	const struct node_component *c = state_component(n->state, component);

	if (policy && policy->present && !policy_permits(&policy->policy, version))
		return "it is revoked or below the security floor";
	if (c && component_denial(c, version))
		return "it is denied here";
	if (from && str_eq(from, version))
		return "the order denies it itself";
	return "it was never good here";
}

int obey_refusal(struct node *n, const char *component, const struct decision *d)
{
	const char *id = d->order ? d->order->id : d->pin ? d->pin->id : NULL;
	const char *version = d->order ? d->order->to : d->pin ? d->pin->version : NULL;
	struct node_order done = { .result = RESULT_ORDER_REFUSED, .at = n->os->clock_real(n->os) };
	const struct node_order *told = id ? state_order(n->state, id) : NULL;
	int r;

	if (!d->order_refused || !id || !version || (told && told->result == RESULT_ORDER_REFUSED))
		return 0;
	STATE_SET(done.id, id);
	STATE_SET(done.component, component);
	(void) snprintf(done.detail, sizeof(done.detail), "order %s wants %s %s: %s", id, component, version,
			order_trouble(n, component, version, d->order ? d->order->from : NULL));
	r = update_note(n, RESULT_ORDER_REFUSED, component, NULL, done.detail);
	if (r < 0)
		return r;
	log_warning("order-refused", "order=%s detail=%s", id, done.detail);
	state_order_add(n->state, &done);
	return node_save(n);
}
