#include "agent/store/state.h"

#include "base/err.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- words ------------------------------------------------------------------------------------- */

static const char *const state_names[] = {
#define STATE_NAME_(id, name) [NODE_##id] = (name),
	NODE_UPDATE_STATES(STATE_NAME_)
#undef STATE_NAME_
};
static const char *const cause_names[] = {
	[NODE_CAUSE_NONE] = "none",
	[NODE_CAUSE_ROLLOUT] = "rollout",
	[NODE_CAUSE_ORDER_ROLLBACK] = "order-rollback",
	[NODE_CAUSE_ORDER_PIN] = "order-pin",
	[NODE_CAUSE_UNDO] = "undo",
	[NODE_CAUSE_LOCAL] = "local",
	[NODE_CAUSE_WATCH] = "watch",
};
static const char *const denial_names[] = {
	[NODE_DENIED_UNFIT] = "unfit",
	[NODE_DENIED_FORCED] = "forced",
	[NODE_DENIED_UNDONE] = "undone",
};
_Static_assert(ARRAY_LEN(state_names) == NODE_UPDATE_STATE_COUNT, "the last state has a name");
_Static_assert(ARRAY_LEN(cause_names) == NODE_CAUSE_COUNT, "the last cause has a name");
_Static_assert(ARRAY_LEN(denial_names) == NODE_DENIED_COUNT, "the last denial has a name");

const char *node_update_state_name(enum node_update_state s)
{
	return (unsigned) s < ARRAY_LEN(state_names) ? state_names[s] : "unknown";
}

const char *node_cause_name(enum node_cause c)
{
	return (unsigned) c < ARRAY_LEN(cause_names) ? cause_names[c] : "unknown";
}

const char *node_denial_cause_name(enum node_denial_cause c)
{
	return (unsigned) c < ARRAY_LEN(denial_names) ? denial_names[c] : "unknown";
}

/* --- the value ---------------------------------------------------------------------------------- */

void state_init(struct node_state *s)
{
	memset(s, 0, sizeof(*s));
}

void state_done(struct node_state *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->component_count; i++)
		free(s->components[i]);
	free(s->components);
	for (size_t i = 0; i < s->result_count; i++)
		free(s->results[i]);
	state_init(s);
}

void state_set(char *field, size_t size, const char *text)
{
	size_t n = text ? strnlen(text, size) : 0;

	if (n >= size) {
		n = size - 1;
		while (n > 0 && ((unsigned char) text[n] & 0xc0) == 0x80)
			n--; /* not in the middle of a character */
	}
	if (n > 0)
		memmove(field, text, n);
	memset(field + n, 0, size - n);
}

/* Room for one more at the end of a bounded array of `size`-byte items: drops item `victim` if it is full. */
static void *list_room(void *items, size_t size, size_t *count, size_t max, size_t victim)
{
	char *base = items;

	if (*count == max) {
		memmove(base + victim * size, base + (victim + 1) * size, (max - victim - 1) * size);
		--*count;
	}
	return base + (*count)++ * size;
}

static void list_drop(void *items, size_t size, size_t *count, size_t i)
{
	char *base = items;

	memmove(base + i * size, base + (i + 1) * size, (*count - i - 1) * size);
	--*count;
	memset(base + *count * size, 0, size);
}

struct node_component *state_component(const struct node_state *s, const char *name)
{
	for (size_t i = 0; name && i < s->component_count; i++)
		if (strcmp(s->components[i]->name, name) == 0)
			return s->components[i];
	return NULL;
}

int state_component_add(struct node_state *s, const char *name, struct node_component **ret)
{
	struct node_component *c = state_component(s, name), **list;
	size_t at = 0;

	if (c) {
		*ret = c;
		return 0;
	}
	if (!guard_id(name))
		return -ERR_NAME;
	if (s->component_count >= STATE_COMPONENTS_MAX)
		return -ERR_TOO_LARGE;
	list = reallocarray(s->components, s->component_count + 1, sizeof(struct node_component *));
	if (!list)
		return -ENOMEM;
	s->components = list;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	STATE_SET(c->name, name);
	while (at < s->component_count && strcmp(list[at]->name, name) < 0)
		at++;
	memmove(list + at + 1, list + at, (s->component_count - at) * sizeof(struct node_component *));
	list[at] = c;
	s->component_count++;
	*ret = c;
	return 0;
}

void state_component_remove(struct node_state *s, const char *name)
{
	for (size_t i = 0; i < s->component_count; i++) {
		struct node_component *c = s->components[i];

		if (strcmp(c->name, name) != 0 || c->version[0] || c->denial_count > 0 || c->joined_count > 0)
			continue;
		free(c);
		memmove(s->components + i, s->components + i + 1,
			(s->component_count - i - 1) * sizeof(struct node_component *));
		s->component_count--;
		return;
	}
}

void component_good_add(struct node_component *c, const char *version)
{
	char *slot;

	for (size_t i = 0; i < c->good_count; i++)
		if (strcmp(c->good[i], version) == 0) {
			list_drop(c->good, sizeof(c->good[0]), &c->good_count, i);
			break;
		}
	slot = list_room(c->good, sizeof(c->good[0]), &c->good_count, STATE_GOOD_MAX, 0);
	state_set(slot, sizeof(c->good[0]), version);
}

bool component_was_good(const struct node_component *c, const char *version)
{
	for (size_t i = 0; i < c->good_count; i++)
		if (strcmp(c->good[i], version) == 0)
			return true;
	return false;
}

void component_deny(struct node_component *c, const char *version, enum node_denial_cause cause, uint64_t seq)
{
	struct node_denial *slot = NULL;
	size_t victim = 0;

	for (size_t i = 0; i < c->denial_count && !slot; i++)
		if (strcmp(c->denials[i].version, version) == 0)
			slot = &c->denials[i];
	for (size_t i = c->denial_count; i-- > 0;)
		if (c->denials[i].cause == NODE_DENIED_UNDONE)
			victim = i;
	if (!slot)
		slot = list_room(c->denials, sizeof(c->denials[0]), &c->denial_count, STATE_DENIALS_MAX, victim);
	STATE_SET(slot->version, version);
	slot->cause = cause;
	slot->seq = seq;
}

const struct node_denial *component_denial(const struct node_component *c, const char *version)
{
	for (size_t i = 0; i < c->denial_count; i++)
		if (strcmp(c->denials[i].version, version) == 0)
			return &c->denials[i];
	return NULL;
}

void component_undeny(struct node_component *c, const char *version)
{
	for (size_t i = c->denial_count; i-- > 0;)
		if (!version || strcmp(c->denials[i].version, version) == 0)
			list_drop(c->denials, sizeof(c->denials[0]), &c->denial_count, i);
}

void component_taken_add(struct node_component *c, const struct node_taken *t)
{
	struct node_taken copy = *t, *slot;

	for (size_t i = 0; i < c->taken_count; i++)
		if (strcmp(c->taken[i].rollout, copy.rollout) == 0) {
			list_drop(c->taken, sizeof(c->taken[0]), &c->taken_count, i);
			break;
		}
	slot = list_room(c->taken, sizeof(c->taken[0]), &c->taken_count, STATE_TAKEN_MAX, 0);
	*slot = copy;
}

const struct node_taken *component_taken(const struct node_component *c, const char *rollout)
{
	for (size_t i = c->taken_count; i-- > 0;)
		if (strcmp(c->taken[i].rollout, rollout) == 0)
			return &c->taken[i];
	return NULL;
}

bool component_has_joined(const struct node_component *c, const char *rollout)
{
	for (size_t i = 0; i < c->joined_count; i++)
		if (strcmp(c->joined[i], rollout) == 0)
			return true;
	return false;
}

void component_joined_add(struct node_component *c, const char *rollout)
{
	char *slot;

	if (component_has_joined(c, rollout))
		return;
	slot = list_room(c->joined, sizeof(c->joined[0]), &c->joined_count, STATE_JOINED_MAX, 0);
	state_set(slot, sizeof(c->joined[0]), rollout);
}

static uint64_t day_of(int64_t now)
{
	return now > 0 ? (uint64_t) now / 86400 : 0;
}

uint64_t component_swaps_today(const struct node_component *c, int64_t now)
{
	return c->swap_day == day_of(now) ? c->swap_count : 0;
}

void component_swap_count(struct node_component *c, int64_t now)
{
	c->swap_count = component_swaps_today(c, now) + 1;
	c->swap_day = day_of(now);
}

bool state_has_update(const struct node_state *s)
{
	return s->update.id[0] != '\0';
}

void state_update_clear(struct node_state *s)
{
	memset(&s->update, 0, sizeof(s->update));
}

bool node_update_is_swapped(const struct node_update *u)
{
	return u->state == NODE_SWAPPING || u->state == NODE_REBOOTING || u->state == NODE_PROBATION ||
	       u->state == NODE_ROLLING_BACK;
}

void state_order_add(struct node_state *s, const struct node_order *o)
{
	struct node_order copy = *o, *slot;

	for (size_t i = 0; i < s->order_count; i++)
		if (strcmp(s->orders[i].id, copy.id) == 0) {
			list_drop(s->orders, sizeof(s->orders[0]), &s->order_count, i);
			break;
		}
	slot = list_room(s->orders, sizeof(s->orders[0]), &s->order_count, STATE_ORDERS_MAX, 0);
	*slot = copy;
}

const struct node_order *state_order(const struct node_state *s, const char *id)
{
	for (size_t i = 0; i < s->order_count; i++)
		if (strcmp(s->orders[i].id, id) == 0)
			return &s->orders[i];
	return NULL;
}

int state_result_add(struct node_state *s, const struct node_result *result)
{
	struct node_result *copy, **slot;
	bool full = s->result_count == STATE_RESULTS_MAX;

	copy = malloc(sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	*copy = *result;
	if (full)
		free(s->results[0]);
	slot = list_room(s->results, sizeof(struct node_result *), &s->result_count, STATE_RESULTS_MAX, 0);
	*slot = copy;
	return full;
}

size_t state_results_acknowledge(struct node_state *s, uint64_t sequence)
{
	size_t dropped = 0;

	for (size_t i = s->result_count; i-- > 0;) {
		if (s->results[i]->sequence == 0 || s->results[i]->sequence > sequence)
			continue;
		free(s->results[i]);
		list_drop(s->results, sizeof(struct node_result *), &s->result_count, i);
		dropped++;
	}
	return dropped;
}

struct node_retry *state_retry(struct node_state *s, const char *component, const char *version)
{
	version = version ? version : "";
	for (size_t i = 0; i < s->retry_count; i++)
		if (strcmp(s->retries[i].component, component) == 0 && strcmp(s->retries[i].version, version) == 0)
			return &s->retries[i];
	return NULL;
}

struct node_retry *state_retry_add(struct node_state *s, const char *component, const char *version)
{
	struct node_retry *slot = state_retry(s, component, version);
	size_t victim = 0;

	version = version ? version : "";
	if (slot)
		return slot;
	for (size_t i = 1; i < s->retry_count; i++)
		if (s->retries[i].not_before < s->retries[victim].not_before)
			victim = i;
	slot = list_room(s->retries, sizeof(s->retries[0]), &s->retry_count, STATE_RETRIES_MAX, victim);
	memset(slot, 0, sizeof(*slot));
	STATE_SET(slot->component, component);
	STATE_SET(slot->version, version);
	return slot;
}

void state_retry_clear(struct node_state *s, const char *component, const char *version)
{
	for (size_t i = s->retry_count; i-- > 0;)
		if (strcmp(s->retries[i].component, component) == 0 &&
		    (!version || strcmp(s->retries[i].version, version) == 0))
			list_drop(s->retries, sizeof(s->retries[0]), &s->retry_count, i);
}

const struct node_deferral *state_deferral(const struct node_state *s, const char *component, int64_t now)
{
	const struct node_deferral *found = NULL;

	for (size_t i = 0; i < s->deferral_count; i++) {
		const struct node_deferral *d = &s->deferrals[i];

		if (d->until <= now)
			continue;
		if (strcmp(d->component, component) == 0)
			return d;
		if (d->component[0] == '\0')
			found = d;
	}
	return found;
}

void state_defer(struct node_state *s, const struct node_deferral *d, int64_t now)
{
	struct node_deferral copy = *d, *slot;

	for (size_t i = s->deferral_count; i-- > 0;)
		if (s->deferrals[i].until <= now || strcmp(s->deferrals[i].component, copy.component) == 0)
			list_drop(s->deferrals, sizeof(s->deferrals[0]), &s->deferral_count, i);
	slot = list_room(s->deferrals, sizeof(s->deferrals[0]), &s->deferral_count, STATE_DEFERRALS_MAX, 0);
	*slot = copy;
}

size_t state_undefer(struct node_state *s, const char *component)
{
	size_t before = s->deferral_count;

	for (size_t i = s->deferral_count; i-- > 0;)
		if (component[0] == '\0' || strcmp(s->deferrals[i].component, component) == 0)
			list_drop(s->deferrals, sizeof(s->deferrals[0]), &s->deferral_count, i);
	return before - s->deferral_count;
}
