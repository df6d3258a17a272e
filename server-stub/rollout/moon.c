/* plan_split_zones(): the batches of a stage that follows the night around the world. */
#include "base/err.h"
#include "conf/conf.h"
#include "json/build.h"
#include "server-stub/rollout/gate.h"
#include "server-stub/rollout/plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_ROOM = 4 /* "-31" and the end */, GATE_TEXT_MAX = 64 * 1024 };

static int from_the_east(const void *a, const void *b)
{
	const struct plan_zone *x = a, *y = b;

	if (x->offset != y->offset)
		return x->offset > y->offset ? -1 : 1;
	return strcmp(x->name, y->name);
}

static bool is_free(const struct plan *p, size_t before, const struct plan_candidate *c)
{
	for (size_t k = 0; k < before; k++)
		if (plan_stage_selects(&p->stages[k], c->node, c->labels, c->share))
			return false;
	return true;
}

/* Those of the zones in which a node waits for this stage, in their order; *ret is the caller's. */
static int zones_of(const struct plan *p, size_t k, const struct plan_candidate *list, size_t count,
		    const struct plan_zone *zones, size_t zone_count, struct plan_zone **ret, size_t *ret_count)
{
	struct plan_zone *found = calloc(zone_count + 1, sizeof(*found));
	size_t n = 0;

	if (!found)
		return -ENOMEM;
	for (size_t z = 0; z < zone_count; z++) {
		bool wanted = false;

		for (size_t i = 0; !wanted && i < count; i++)
			wanted = str_eq(labels_get(list[i].labels, "zone"), zones[z].name) &&
				 plan_stage_selects(&p->stages[k], list[i].node, list[i].labels, list[i].share) &&
				 is_free(p, k, &list[i]);
		if (wanted)
			found[n++] = zones[z];
	}
	qsort(found, n, sizeof(*found), from_the_east);
	*ret = found;
	*ret_count = n;
	return 0;
}

/* "fleet" and "America/New_York" make "fleet-america-new-york". */
static void batch_name(const char *stage, const char *zone, char out[static ID_MAX + 1])
{
	size_t n = (size_t) snprintf(out, ID_MAX + 1 - NUMBER_ROOM, "%s-", stage);

	if (n > ID_MAX - NUMBER_ROOM)
		n = ID_MAX - NUMBER_ROOM;
	for (const char *c = zone; *c && n < ID_MAX - NUMBER_ROOM; c++) {
		if (*c >= 'A' && *c <= 'Z')
			out[n++] = (char) (*c - 'A' + 'a');
		else
			out[n++] = (*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') ? *c : '-';
	}
	out[n] = '\0';
}

static bool name_is_taken(const struct plan *p, const char *name)
{
	for (size_t k = 0; k < p->stage_count; k++)
		if (str_eq(p->stages[k].name, name))
			return true;
	return false;
}

static int make_batch(const struct plan *p, const struct plan_stage *s, const char *zone, struct plan_stage *ret)
{
	char name[ID_MAX + 1];
	size_t len;
	int r;

	batch_name(s->name, zone, name);
	len = strlen(name);
	for (unsigned i = 2; name_is_taken(p, name) && i < 100; i++)
		(void) snprintf(name + len, NUMBER_ROOM, "-%u", i);
	*ret = (struct plan_stage){ .share = s->share, .soak_s = s->soak_s, .line = s->line };
	ret->name = strdup(name);
	ret->zone = strdup(zone);
	r = ret->name && ret->zone ? labels_copy(&s->labels, &ret->labels) : -ENOMEM;
	return r < 0 ? r : labels_set(&ret->labels, "zone", zone);
}

/* The gate as it is, of another stage. */
static int copy_gate(const struct gate *g, size_t stage, struct gate *ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(GATE_TEXT_MAX);
	CLEANUP(conf_file_freep)
	struct conf_file *f = NULL;
	struct conf_error e;
	int r;

	gate_write(g, json_build_root(b));
	r = json_build_text(b, false, &text);
	if (r == 0)
		r = conf_parse(text.data, text.len, "gate", &f, &e);
	return r < 0 ? r : gate_read(conf_root(f), stage, ret, &e);
}

/* Stage `k` moves behind `added` batches: what is asked of it is asked of each of them. */
static int move_gates(struct plan *p, size_t k, size_t added)
{
	size_t before = p->gate_count, own = 0;
	struct gate *gates;
	int r = 0;

	for (size_t i = 0; i < before; i++) {
		own += p->gates[i].stage == k;
		if (p->gates[i].stage != GATE_EVERY_STAGE && p->gates[i].stage >= k)
			p->gates[i].stage += added;
	}
	if (own == 0)
		return 0;
	if (before + own * added > GATES_MAX)
		return -ERR_TOO_LARGE;
	gates = reallocarray(p->gates, before + own * added, sizeof(*gates));
	if (!gates)
		return -ENOMEM;
	p->gates = gates;
	for (size_t batch = 0; batch < added; batch++)
		for (size_t i = 0; r == 0 && i < before; i++)
			if (gates[i].stage == k + added)
				r = copy_gate(&gates[i], k + batch, &gates[p->gate_count++]);
	return r;
}

/* Batches stand before the stage they are of, which is left for the others. */
static int split(struct plan *p, size_t k, const struct plan_zone *zones, size_t zone_count, size_t first)
{
	struct plan_stage *stages = reallocarray(p->stages, p->stage_count + zone_count, sizeof(*stages));
	int r = 0;

	if (!stages)
		return -ENOMEM;
	p->stages = stages;
	for (size_t i = 0; r == 0 && i < zone_count; i++, k++) {
		struct plan_stage batch;

		r = make_batch(p, &p->stages[k], zones[(first + i) % zone_count].name, &batch);
		memmove(&p->stages[k + 1], &p->stages[k], (p->stage_count - k) * sizeof(*stages));
		p->stages[k] = batch;
		p->stage_count++;
	}
	return r;
}

static int split_stage(struct plan *p, size_t k, const struct plan_candidate *list, size_t count,
		       const struct plan_zone *zones, size_t zone_count, size_t *ret_added)
{
	struct plan_stage *s = &p->stages[k];
	struct plan_zone *found;
	size_t n, first = 0;
	int r = zones_of(p, k, list, count, zones, zone_count, &found, &n);

	*ret_added = 0;
	if (r < 0)
		return r;
	while (s->first_zone && first < n && !str_eq(found[first].name, s->first_zone))
		first++;
	if (s->first_zone && first == n)
		r = -ENOENT;
	else if (p->stage_count + n > PLAN_STAGES_MAX)
		r = -ERR_TOO_LARGE;
	if (r == 0) {
		s->by_zone = false;
		free(s->first_zone);
		s->first_zone = NULL;
		r = move_gates(p, k, n);
		if (r == 0)
			r = split(p, k, found, n, first);
		*ret_added = n;
	}
	free(found);
	return r;
}

int plan_split_zones(struct plan *p, const struct plan_candidate *list, size_t count,
		     const struct plan_zone *zones, size_t zone_count, size_t *ret_stage)
{
	int r = 0;

	for (size_t k = 0, added = 0; r == 0 && k < p->stage_count; k += 1 + added) {
		added = 0;
		if (!p->stages[k].by_zone)
			continue;
		*ret_stage = k;
		r = split_stage(p, k, list, count, zones, zone_count, &added);
	}
	return r;
}
