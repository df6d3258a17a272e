/*
 * What a rollout would be before anything starts: stages by count or preference become nodes, each stage says when it
 * opens at the earliest, and the policies of the components whose approval they ask for.
 */
#include "base/err.h"
#include "base/log.h"
#include "json/build.h"
#include "json/json.h"
#include "model/release.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/ingest/db_nodes.h"
#include "server-stub/repo/repo.h"
#include "zone/zone.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct candidates {
	const char *rollout;
	const struct plan *plan;
	int64_t now;
	struct plan_candidate *items;
	struct labels *labels; /* by item */
	char (*names)[ID_MAX + 1];
	size_t count, capacity;
};

static int grow(struct candidates *c)
{
	size_t capacity = c->capacity ? 2 * c->capacity : 64;
	void *items = realloc(c->items, capacity * sizeof(*c->items)), *labels, *names;

	if (!items)
		return -ENOMEM;
	c->items = items;
	labels = realloc(c->labels, capacity * sizeof(*c->labels));
	if (!labels)
		return -ENOMEM;
	c->labels = labels;
	names = realloc(c->names, capacity * sizeof(*c->names));
	if (!names)
		return -ENOMEM;
	c->names = names;
	c->capacity = capacity;
	return 0;
}

static int add_candidate(void *user, const struct db_node *row)
{
	struct candidates *c = user;
	int r = c->count == c->capacity ? grow(c) : 0;

	if (r < 0)
		return r;
	c->labels[c->count] = (struct labels){ 0 };
	c->items[c->count] = (struct plan_candidate){
		.able = !row->quarantined && row->reported_at > 0 &&
			c->now - row->reported_at <= (int64_t) c->plan->silent_after_s &&
			c->now - row->added_at >= (int64_t) c->plan->min_age_s,
	};
	snprintf(c->names[c->count], sizeof(*c->names), "%s", row->node);
	r = plan_share(c->rollout, row->node, &c->items[c->count].share);
	if (r == 0)
		r = serve_labels(row->labels, &c->labels[c->count]);
	if (r == 0)
		c->count++;
	return r;
}

/* The zones that nodes name, and how far east each is now; one that is not known here has no batch of its own. */
static int find_zones(const struct serve *s, const struct candidates *c, struct plan_zone **ret, size_t *ret_count)
{
	struct plan_zone *zones = calloc(c->count + 1, sizeof(*zones));
	size_t n = 0;

	if (!zones)
		return -ENOMEM;
	for (size_t i = 0; i < c->count; i++) {
		CLEANUP(zone_freep)
		struct zone *z = NULL;
		const char *name = labels_get(&c->labels[i], "zone");
		struct zone_time local;
		bool known = !name;

		for (size_t k = 0; !known && k < n; k++)
			known = str_eq(zones[k].name, name);
		if (known || zone_load(s->os, name, &z) < 0 || zone_local(z, c->now, &local) < 0)
			continue;
		zones[n++] = (struct plan_zone){ name, local.offset };
	}
	*ret = zones;
	*ret_count = n;
	return 0;
}

/* False: a complaint was sent. */
static bool split_zones(struct serve *s, struct web_request *rq, const struct candidates *c, struct plan *p)
{
	struct plan_zone *zones = NULL;
	size_t count = 0, stage = 0;
	int r = find_zones(s, c, &zones, &count);

	if (r == 0)
		r = plan_split_zones(p, c->items, c->count, zones, count, &stage);
	if (r == -ENOENT)
		web_fail(rq, 422, "no node that stage '%s' selects is in the zone '%s', which is to be its first",
			 p->stages[stage].name, p->stages[stage].first_zone);
	else if (r == -ERR_TOO_LARGE)
		web_fail(rq, 422, "stage '%s' would be more batches than a rollout may have stages (%d)",
			 p->stages[stage].name, PLAN_STAGES_MAX);
	else if (r < 0)
		web_fail(rq, 500, "%s", err_text(r));
	free(zones);
	return r == 0;
}

bool plan_resolve(struct serve *s, struct web_request *rq, const char *id, struct plan *p)
{
	struct candidates c = { .rollout = id, .plan = p, .now = serve_now(s) };
	size_t stage = 0;
	int r = db_nodes(s->db, NULL, add_candidate, &c);

	/* The arrays do not move any more. */
	for (size_t i = 0; r == 0 && i < c.count; i++) {
		c.items[i].node = c.names[i];
		c.items[i].labels = &c.labels[i];
	}
	if (r == 0) {
		r = plan_choose(p, c.items, c.count, &stage);
		if (r == -ENOENT)
			web_fail(rq, 422,
				 c.count == 0 ? "stage '%s' finds no node: none has joined this fleet yet"
					      : "stage '%s' finds no node that no earlier stage has; a fleet of "
						"few nodes "
						"wants stages of its own (--stage, or a plan)",
				 p->stages[stage].name);
		else if (r == -ERR_TOO_LARGE)
			web_fail(rq, 422,
				 "stage '%s' would name more than %d nodes; leave out prefer, or use labels",
				 p->stages[stage].name, ROLLOUT_NODES_MAX);
		else if (r < 0)
			web_fail(rq, 500, "%s", err_text(r));
		else if (!split_zones(s, rq, &c, p))
			r = -EINVAL;
	} else {
		fail_database(s, rq, r);
	}
	for (size_t i = 0; i < c.count; i++)
		labels_done(&c.labels[i]);
	free(c.items);
	free(c.labels);
	free(c.names);
	return r == 0;
}

/* --- the preview --- */

/* How long a node takes to be good at the least: what the release says of its probation. */
static int64_t probation_of(struct serve *s, const struct plan *p)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(RELEASE_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	char path[ID_MAX + 96];
	uint64_t probation = 0;

	snprintf(path, sizeof(path), "%s/%s/release.json", p->component, p->version);
	if (repo_read_target(s->repo, path, &text) < 0 ||
	    json_parse(text.data, text.len, &json_limits_default, &doc) < 0 ||
	    json_optional_u64(doc, "probation", 0, 90 * 86400, &probation) < 0)
		return 0;
	return (int64_t) probation;
}

static void write_earliest(struct serve *s, struct json_node *o, const struct evaluation *e)
{
	struct json_node *list = node_array(o, "earliest");
	int64_t at = serve_now(s), probation = probation_of(s, &e->plan);

	for (size_t k = 0; k < e->plan.stage_count; k++) {
		struct json_node *stage = node_object(list, NULL);
		int64_t counts = at + probation;

		node_string(stage, "stage", e->plan.stages[k].name);
		if (e->plan.stages[k].zone) {
			int64_t night = evaluation_opens_at(s, &e->plan, k, at);

			at = night > at ? night : at;
			counts = at + probation;
		}
		node_time(stage, "opens", at);
		/* Every node of it has to be old enough to count. */
		for (size_t i = 0; i < e->count; i++) {
			int64_t old = e->members[i].member.added_at + (int64_t) e->plan.min_age_s;

			if (e->members[i].selected && e->members[i].member.stage == k && old > counts)
				counts = old;
		}
		at = counts + (int64_t) e->plan.stages[k].soak_s;
	}
}

static void write_asked(struct serve *s, struct json_node *list, const char *component, enum rollout_kind kind)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(POLICY_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct policy policy = { 0 };
	char path[ID_MAX + 32], *error = NULL;

	snprintf(path, sizeof(path), "%s/policy.json", component);
	if (repo_read_target(s->repo, path, &text) < 0 ||
	    json_parse(text.data, text.len, &json_limits_default, &doc) < 0 ||
	    policy_parse(doc, &policy, &error) < 0) {
		free(error);
		return; /* none: nobody is asked */
	}
	for (size_t i = 0; i < policy.approval_count; i++) {
		const struct approval_rule *rule = &policy.approvals[i];
		struct json_node *o;

		if (rule->kinds.count && !string_list_has(&rule->kinds, rollout_kind_name(kind)))
			continue;
		o = node_object(list, NULL);
		node_string(o, "component", component);
		node_string(o, "approver", rule->approver);
		node_string(o, "exempt_label", rule->exempt_label);
	}
	policy_done(&policy);
}

/* Which gates will be asked, and of which stage. */
static void write_gates(struct json_node *o, const struct plan *p)
{
	struct json_node *list = node_array(o, "gates");

	for (size_t i = 0; i < p->gate_count; i++) {
		const struct gate *g = &p->gates[i];
		struct json_node *row = node_object(list, NULL);

		node_string(row, "name", g->name);
		node_string(row, "kind", gate_kind_name(g->kind));
		node_string(row, "stage", g->stage == GATE_EVERY_STAGE ? NULL : p->stages[g->stage].name);
		node_string(row, "question", g->kind == GATE_PERSON ? g->u.person.question : NULL);
		gate_write(g, node_object(row, "settings"));
		node_string(row, "on_inconclusive", gate_policy_name(g->on_inconclusive));
		if (g->has_deadline)
			node_integer(row, "deadline", (int64_t) g->deadline_s);
	}
}

void plan_preview(struct serve *s, struct json_node *o, const struct evaluation *e)
{
	struct json_node *list;

	write_earliest(s, o, e);
	write_gates(o, &e->plan);
	list = node_array(o, "asks");
	write_asked(s, list, e->plan.component, e->plan.kind);
	for (size_t i = 0; i < e->plan.with_count; i++)
		write_asked(s, list, e->plan.with[i].component, e->plan.kind);
}
