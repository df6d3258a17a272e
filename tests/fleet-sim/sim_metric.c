/*
 * What nodes of a simulated fleet use of memory, hour by hour, and the looks that metric gates take at it: the same
 * code as the controller's (rollout/metric.h) over a history that is made up when it is asked for.
 *
 * Nodes differ by a factor of ten and more, breathe with their own day, have good and bad days of their own, and share
 * some that are the whole fleet's. A leak doubles what is used by the moment at which it breaks the node.
 */
#include "tests/fleet-sim/internal.h"

#include "model/catalogue.h"
#include "server-stub/rollout/metric.h"
#include "zone/zone.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	HOUR_S = 3600,
	PAST_HOURS =
		7 *
		24, /* less than a controller keeps, and fewer nodes than it looks at: a year is to take seconds */
	NODES_SEEN = 24,
	HOURS_MAX = PAST_HOURS + 21 * 24
};

#define HOURLY 0.03
#define DAILY 0.04
#define SHARED 0.04

static uint64_t mix(uint64_t h)
{
	h += 0x9e3779b97f4a7c15u;
	h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
	h = (h ^ h >> 27) * 0x94d049bb133111ebu;
	return h ^ h >> 31;
}

/* Nearly normal: the sum of four that are uniform. */
static double chance(uint64_t a, uint64_t b)
{
	double sum = 0;

	for (unsigned i = 0; i < 4; i++)
		sum += (double) (mix(a ^ mix(b * 4 + i)) >> 11) / 9007199254740992.0 - 0.5;
	return sum * 1.7320508;
}

/* What ran there at that time, and since when. */
static const struct sim_life *lived(const struct sim_node *n, int64_t at)
{
	const struct sim_life *life = NULL;

	for (size_t i = 0; i < n->life_count; i++)
		if (n->lives[i].from <= at)
			life = &n->lives[i];
	return life;
}

static double memory(const struct sim *s, const struct sim_node *n, uint64_t key, int64_t hour, unsigned local,
		     const struct sim_life *life)
{
	double size = exp(chance(key, 1)), rhythm = 1 + 0.25 * sin(6.2831853 * local / 24);
	double wander = HOURLY * chance(key, (uint64_t) hour) +
			DAILY * chance(key, (uint64_t) hour / 24 + (1u << 30)) +
			SHARED * chance(s->options.seed, (uint64_t) hour / 24);

	if (life && life->runs && life->runs->fault == SIM_LEAKING) {
		double lasts = sim_leak_lasts_s(s, n, life->runs);

		rhythm *= 1 + (double) (hour * HOUR_S - life->from) / lasts;
	}
	return 100e6 * size * rhythm * exp(wander);
}

/* Until `until`, as far as it was told: agents report every quarter of an hour while they have a link. */
static size_t history(const struct sim *s, const struct sim_node *n, int64_t from, int64_t until,
		      const struct sim_release *target, struct metric_hour *out)
{
	uint64_t key = (uint64_t) (sim_luck(s, "memory", n->id, NULL) * 9007199254740992.0);
	int64_t end = n->connected ? until : n->heard.at < until ? n->heard.at : until;
	struct zone_time local = { .hour = 0 };
	size_t count = 0;

	for (int64_t hour = from / HOUR_S; hour < end / HOUR_S && count < HOURS_MAX; hour++) {
		const struct sim_life *life = lived(n, (hour + 1) * HOUR_S);
		unsigned at;

		if (hour * HOUR_S < n->added_at || !life || !life->runs)
			continue;
		/* Days on which the clock is changed are seen as whole ones. */
		if (count == 0 || hour % 24 == 0)
			if (zone_local(s->zones[n->zone], hour * HOUR_S, &local) < 0)
				continue;
		at = (unsigned) (((hour * HOUR_S + local.offset) / HOUR_S) % 24);
		out[count++] = (struct metric_hour){ .hour = hour,
						     .local = at,
						     .mean = memory(s, n, key, hour, at, life),
						     .samples = 12,
						     .target = life->runs == target };
	}
	return count;
}

/* Every node that has the release for good, or never had it. */
static size_t gather(struct sim *s, const struct sim_rollout *r, const struct gate *g, bool updated, int64_t until,
		     struct compare_node *out)
{
	static struct metric_hour hours[HOURS_MAX];
	int64_t started = r->stages[0].opened_at;
	size_t all = 0, k = 0, n = 0;

	for (int pass = 0; pass < 2; pass++)
		for (size_t i = 0; i < s->node_count; i++) {
			const struct sim_node *node = s->nodes[i];
			bool has = node->heard.version && strcmp(node->heard.version, r->release->version) == 0;
			size_t count;

			if (node->skipped_at || (updated ? r->members[i].result != RESULT_GOOD || !has
							 : r->members[i].acted || has || node->heard.to))
				continue;
			if (pass == 0) {
				all++;
				continue;
			}
			/* Evenly over the fleet, the same each time. */
			k++;
			if (all > NODES_SEEN && k * NODES_SEEN / all == (k - 1) * NODES_SEEN / all)
				continue;
			out[n] = (struct compare_node){ .node = node->id };
			count = history(s, node, started - PAST_HOURS * HOUR_S, until, r->release, hours);
			if (metric_see(g, hours, count, updated, started, until, &out[n]) == 0)
				n++;
		}
	return n;
}

static int look(struct sim *s, struct sim_rollout *r, size_t stage, size_t gate, const struct gate_look *made,
		size_t count)
{
	const struct gate *g = &r->plan.gates[gate];
	struct compare_node updated[COMPARE_NODES_MAX], others[COMPARE_NODES_MAX];
	CLEANUP(buf_done)
	struct buf data = BUF_INIT(1024 * 1024);
	struct metric_due due;
	struct sim_look *list, *l;
	size_t n, m;
	int e;

	if (!metric_look_due(g, made, count, r->stages[stage].opened_at, s->now, &due))
		return 0;
	n = gather(s, r, g, true, due.until, updated);
	m = gather(s, r, g, false, due.until, others);
	list = reallocarray(r->looks, r->look_count + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	r->looks = list;
	l = &list[r->look_count];
	*l = (struct sim_look){ .stage = stage, .gate = gate };
	e = metric_look(g, &due, updated, n, others, m, s->now, &l->look, l->text, &data);
	if (e == 0)
		r->look_count++;
	return e;
}

/* The newest looks of this gate in this stage; texts are the rollout's until its next look. */
static size_t made(const struct sim_rollout *r, size_t stage, size_t gate, struct gate_look *out)
{
	size_t n = 0, all = 0;

	for (size_t i = 0; i < r->look_count; i++)
		all += r->looks[i].stage == stage && r->looks[i].gate == gate;
	for (size_t i = 0; i < r->look_count; i++)
		if (r->looks[i].stage == stage && r->looks[i].gate == gate && all-- <= GATE_LOOKS_KEPT) {
			out[n] = r->looks[i].look;
			out[n++].text = r->looks[i].text;
		}
	return n;
}

int sim_look_at_metrics(struct sim *s, struct sim_rollout *r, struct sim_gates *ret)
{
	size_t stage = 0;

	ret->count = 0;
	while (stage < r->plan.stage_count && r->stages[stage].open)
		stage++;
	for (size_t i = 0; stage > 0 && i < r->plan.gate_count && ret->count < GATES_MAX; i++) {
		const struct gate *g = &r->plan.gates[i];
		struct gate_look *looks = ret->looks[ret->count];
		size_t n;
		int e;

		if (g->kind != GATE_METRIC || (g->stage != GATE_EVERY_STAGE && g->stage != stage - 1))
			continue;
		n = made(r, stage - 1, i, looks);
		e = look(s, r, stage - 1, i, looks, n);
		if (e < 0)
			return e;
		n = made(r, stage - 1, i, looks);
		ret->facts[ret->count++] = (struct gate_facts){ .gate = i, .looks = looks, .look_count = n };
	}
	return 0;
}
