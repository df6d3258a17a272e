/*
 * A look of a metric gate (rollout/metric.h): which nodes are in it, and what they reported, from the database.
 */
#include "base/err.h"
#include "server-stub/cli/serve.h"
#include "server-stub/ingest/db_metrics.h"
#include "server-stub/rollout/metric.h"
#include "zone/zone.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HOUR_S = 3600, ZONES_MAX = 64 };

/* Nodes share few zones; what is not kept is loaded again. */
struct zones {
	struct {
		char name[ZONE_NAME_SIZE];
		struct zone *zone; /* NULL: there is none of this name */
	} list[ZONES_MAX];
	size_t count;
};

static void zones_done(struct zones *z)
{
	for (size_t i = 0; i < z->count; i++)
		zone_free(z->list[i].zone);
}

/* NULL: UTC. */
static const struct zone *zone_of(struct serve *s, struct zones *z, const char *name)
{
	struct zone *zone = NULL;

	if (!name[0])
		return NULL;
	for (size_t i = 0; i < z->count; i++)
		if (strcmp(z->list[i].name, name) == 0)
			return z->list[i].zone;
	if (z->count == ZONES_MAX)
		return NULL;
	if (zone_load(s->os, name, &zone) < 0)
		zone = NULL; /* the node says itself that it does not know its zone; its days are compared in UTC */
	snprintf(z->list[z->count].name, sizeof(z->list[0].name), "%s", name);
	z->list[z->count++].zone = zone;
	return zone;
}

struct history {
	const struct zone *zone;
	const char *target;
	struct metric_hour *hours;
	size_t count, capacity;
};

static int see_hour(void *user, const char *version, const struct db_hour *row)
{
	struct history *h = user;
	struct zone_time local = { .hour = (int) (row->hour % 24) };
	struct metric_hour *hours;

	if (h->count == h->capacity) {
		size_t capacity = h->capacity ? 2 * h->capacity : 512;

		hours = realloc(h->hours, capacity * sizeof(*hours));
		if (!hours)
			return -ENOMEM;
		h->hours = hours;
		h->capacity = capacity;
	}
	if (h->zone && zone_local(h->zone, row->hour * HOUR_S, &local) < 0)
		return 0;
	h->hours[h->count++] = (struct metric_hour){ .hour = row->hour,
						     .local = (unsigned) local.hour,
						     .mean = row->mean,
						     .samples = row->samples,
						     .target = strcmp(version, h->target) == 0 };
	return 0;
}

/* The one it has, and has proved; or nothing of it, and nothing under way. */
static bool is_in(const struct evaluated_member *m, bool updated)
{
	if (updated)
		return m->selected && m->member.state == MEMBER_GOOD;
	return !m->runs && !m->told &&
	       (m->member.state == MEMBER_WAITING || m->member.state == MEMBER_BLOCKED ||
		m->member.state == MEMBER_EXCUSED || m->member.state == MEMBER_SKIPPED);
}

static const char *version_of(const struct plan *p, const char *component)
{
	for (size_t i = 0; i < p->with_count; i++)
		if (strcmp(p->with[i].component, component) == 0)
			return p->with[i].version;
	return p->version;
}

struct looking {
	struct serve *serve;
	const struct evaluation *e;
	const struct gate *gate;
	const char *component;
	struct zones zones;
	struct history history;
	int64_t until;
};

static int see_nodes(struct looking *l, bool updated, struct compare_node *out, size_t *ret_count)
{
	const struct evaluation *e = l->e;
	int64_t started = e->stages[0].opened_at;
	size_t all = 0, k = 0;

	for (size_t i = 0; i < e->count; i++)
		all += is_in(&e->members[i], updated);
	for (size_t i = 0; i < e->count; i++) {
		const struct evaluated_member *m = &e->members[i];
		int r;

		if (!is_in(m, updated) || !metric_picks(k++, all))
			continue;
		l->history.count = 0;
		l->history.zone = zone_of(l->serve, &l->zones, m->zone);
		out[*ret_count] = (struct compare_node){ .node = m->node };
		r = db_metrics(l->serve->db, m->node, l->component, l->gate->u.metric.check,
			       started / HOUR_S - METRIC_PAST_DAYS * 24, see_hour, &l->history);
		if (r == 0)
			r = metric_see(l->gate, l->history.hours, l->history.count, updated, started, l->until,
				       &out[*ret_count]);
		if (r < 0)
			return r;
		(*ret_count)++;
	}
	return 0;
}

int metrics_look(struct serve *s, const struct evaluation *e, const struct gate *g, size_t stage,
		 const struct gate_look *made, size_t count, struct gate_look *ret, char text[static GATE_TEXT],
		 struct buf *data)
{
	struct compare_node updated[COMPARE_NODES_MAX], others[COMPARE_NODES_MAX];
	struct looking l = { .serve = s,
			     .e = e,
			     .gate = g,
			     .component = g->u.metric.component ? g->u.metric.component : e->plan.component };
	size_t n = 0, m = 0;
	struct metric_due due;
	int r;

	if (!metric_look_due(g, made, count, e->stages[stage].opened_at, serve_now(s), &due))
		return 0;
	l.until = due.until;
	l.history.target = version_of(&e->plan, l.component);
	r = see_nodes(&l, true, updated, &n);
	if (r == 0)
		r = see_nodes(&l, false, others, &m);
	if (r == 0)
		r = metric_look(g, &due, updated, n, others, m, serve_now(s), ret, text, data);
	zones_done(&l.zones);
	free(l.history.hours);
	return r < 0 ? r : 1;
}
