/*
 * What a rollout is: who belongs to which stage, how each node stands, and what the scheduler says of that.
 */
#include "base/err.h"
#include "conf/conf.h"
#include "json/json.h"
#include "model/labels.h"
#include "model/opening.h"
#include "server-stub/cli/serve.h"
#include "server-stub/ingest/db_members.h"
#include "server-stub/ingest/db_rollouts.h"
#include "zone/zone.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void evaluation_done(struct evaluation *e)
{
	plan_done(&e->plan);
	free(e->members);
	gates_forget(e->gates);
	*e = (struct evaluation){ 0 };
}

struct gather {
	struct serve *serve;
	const char *id;
	int64_t now;
	struct evaluation *e;
	size_t capacity;
};

static void copy(char *out, size_t size, const char *text)
{
	snprintf(out, size, "%s", text ? text : "");
}

int serve_labels(const char *text, struct labels *ret)
{
	CLEANUP(json_freep)
	struct json *j = NULL;
	int r = json_parse(text, strlen(text), &json_limits_default, &j);

	return r < 0 ? r : labels_parse(j, ret);
}

/* The first stage that selects the node; all that do are counted. */
static int find_stage(struct gather *g, const struct db_member *row, size_t *ret_stage, bool *ret_selected,
		      char zone[static ZONE_NAME_SIZE])
{
	struct labels labels = { 0 };
	uint64_t share;
	int r;

	r = plan_share(g->id, row->node, &share);
	if (r == 0)
		r = serve_labels(row->labels, &labels);
	for (size_t k = 0; r == 0 && k < g->e->plan.stage_count; k++) {
		if (!plan_stage_selects(&g->e->plan.stages[k], row->node, &labels, share))
			continue;
		g->e->stages[k].selected++;
		if (!*ret_selected)
			*ret_stage = k;
		*ret_selected = true;
	}
	copy(zone, ZONE_NAME_SIZE, labels_get(&labels, "zone"));
	labels_done(&labels);
	return r;
}

static const char *detail_of(const struct db_member *row, enum member_state state)
{
	switch (state) {
	case MEMBER_GOOD:
		return NULL;
	case MEMBER_EXCUSED:
		return row->order_reason;
	case MEMBER_SKIPPED:
		return row->skip_reason;
	case MEMBER_FAILED:
	case MEMBER_FAILED_NODE:
	case MEMBER_UNPROVEN:
		return row->result_detail && *row->result_detail ? row->result_detail : row->result_name;
	default:
		return row->why_detail && *row->why_detail ? row->why_detail : row->why;
	}
}

static struct member_facts facts_of(const struct gather *g, const struct db_member *row, const char *target,
				    int64_t opened_at)
{
	return (struct member_facts){
		.quarantined = row->quarantined,
		.excused = row->order_kind != NULL,
		.skipped_at = row->skipped_at,
		.target = target,
		.version = row->version,
		.under_way_to = row->under_way_to,
		.under_way_state = row->under_way_state,
		.why = row->why,
		.result = row->result_number,
		.result_at = row->result_at,
		.reported_at = row->reported_at,
		.opened_at = opened_at,
		.now = g->now,
		.silent_after_s = g->e->plan.silent_after_s,
		.listens_since = g->e->listens_since,
	};
}

static int gather_member(void *user, const struct db_member *row)
{
	struct gather *g = user;
	struct evaluation *e = g->e;
	struct evaluated_member *m;
	struct member_facts facts;
	struct member_verdict verdict;
	size_t stage = 0;
	char zone[ZONE_NAME_SIZE] = "";
	bool selected = false;
	int r;

	r = find_stage(g, row, &stage, &selected, zone);
	if (r == -ENOMEM)
		return r;
	if (row->is_member && row->acted) {
		/* Membership, once acted on, sticks. */
		stage = row->position < e->plan.stage_count ? row->position : 0;
		selected = true;
	}
	if (e->count == g->capacity) {
		size_t capacity = g->capacity ? 2 * g->capacity : 64;
		struct evaluated_member *members = realloc(e->members, capacity * sizeof(*members));

		if (!members)
			return -ENOMEM;
		e->members = members;
		g->capacity = capacity;
	}
	m = &e->members[e->count++];
	*m = (struct evaluated_member){ .selected = selected,
					.online = row->online,
					.reported_at = row->reported_at,
					.bytes_done = row->bytes_done,
					.bytes_total = row->bytes_total };
	m->told = row->result_number != 0;
	m->runs = str_eq(row->version, e->plan.version);
	facts = facts_of(g, row, e->plan.version,
			 selected && e->stages[stage].open ? e->stages[stage].opened_at : 0);
	verdict = member_judge(&facts);
	m->acted = row->result_number != 0 || str_eq(row->component_rollout, g->id) ||
		   (str_eq(row->under_way_to, e->plan.version) && row->is_member);
	copy(m->node, sizeof(m->node), row->node);
	copy(m->zone, sizeof(m->zone), zone);
	copy(m->version, sizeof(m->version), row->version);
	copy(m->under_way, sizeof(m->under_way), row->shown_state);
	copy(m->result, sizeof(m->result), row->result_name);
	copy(m->detail, sizeof(m->detail), detail_of(row, verdict.state));
	copy(m->failing, sizeof(m->failing), row->failing);
	copy(m->degraded, sizeof(m->degraded), row->degraded);
	/* As store_members() would write it: what was acted on stays as it is. */
	if (selected && e->stages[stage].open)
		m->stored = row->is_member && row->acted >= m->acted && (row->acted || row->position == stage);
	else
		m->stored = !row->is_member || row->acted;
	m->member = (struct schedule_member){
		.stage = stage,
		.state = verdict.state,
		.silent = verdict.silent,
		.since = verdict.since,
		.added_at = row->added_at,
		.heard_at = facts.opened_at == 0 ? 0 : member_silent_at(&facts) - (int64_t) facts.silent_after_s,
		.failing_at = row->failing_at,
		.restarts = row->restarts
	};
	return 0;
}

/* What is swapped together is judged together. */
struct gather_with {
	struct gather *g;
	const struct plan_with *with;
	size_t next;
};

static int gather_with(void *user, const struct db_member *row)
{
	struct gather_with *w = user;
	struct evaluation *e = w->g->e;
	struct evaluated_member *m = w->next < e->count ? &e->members[w->next++] : NULL;
	struct member_facts facts;
	struct member_verdict verdict;
	size_t stage;
	bool other = false;

	/* Both lists are every node by name, and nobody writes between them. */
	if (!m || strcmp(m->node, row->node) != 0)
		return -ERR_DATABASE;
	stage = m->member.stage;
	m->runs = m->runs || str_eq(row->version, w->with->version);
	facts = facts_of(w->g, row, w->with->version,
			 m->selected && e->stages[stage].open ? e->stages[stage].opened_at : 0);
	verdict = member_judge_with((struct member_verdict){ m->member.state, m->member.silent, m->member.since },
				    m->told, &facts, &other);
	m->member.state = verdict.state;
	m->member.since = verdict.since;
	if (other && detail_of(row, verdict.state))
		snprintf(m->detail, sizeof(m->detail), "%s: %s", w->with->component,
			 detail_of(row, verdict.state));
	else if (other)
		copy(m->detail, sizeof(m->detail), w->with->component);
	return 0;
}

struct stage_list {
	struct evaluation *e;
	size_t count;
};

static int gather_stage(void *user, const struct db_stage *row)
{
	struct stage_list *l = user;

	if (l->count < l->e->plan.stage_count) {
		l->e->stages[l->count].open = row->open;
		l->e->stages[l->count].opened_at = row->opened_at;
	}
	l->count++;
	return 0;
}

int evaluation_input(const struct evaluation *e, enum rollout_state state, int64_t now, struct schedule_input *ret)
{
	struct schedule_member *members = calloc(e->count ? e->count : 1, sizeof(*members));
	struct schedule_input in = {
		.plan = &e->plan,
		.state = state,
		.stages = e->stages,
		.members = members,
		.now = now,
		.listens_since = e->listens_since,
		.clock_set_at = e->clock_set_at,
	};

	if (!members)
		return -ENOMEM;
	for (size_t i = 0; i < e->count; i++) {
		const struct evaluated_member *m = &e->members[i];

		if (!m->selected)
			continue;
		members[in.member_count] = m->member;
		members[in.member_count].node = m->node;
		members[in.member_count].failing = m->failing[0] ? m->failing : NULL;
		members[in.member_count].degraded = m->degraded[0] ? m->degraded : NULL;
		members[in.member_count++].detail = m->detail[0] ? m->detail : NULL;
	}
	gates_input(e, &in);
	*ret = in;
	return 0;
}

static int decide_next(struct evaluation *e, enum rollout_state state, int64_t now)
{
	struct schedule_input in;
	int r = evaluation_input(e, state, now, &in);

	if (r < 0)
		return r;
	schedule(&in, &e->decision);
	free((void *) (uintptr_t) in.members);
	return 0;
}

int64_t evaluation_opens_at(const struct serve *s, const struct plan *p, size_t stage, int64_t from)
{
	CLEANUP(zone_freep)
	struct zone *z = NULL;
	struct rollout doc = { .id = NULL };
	struct opening opening;
	char error[200];
	int64_t at = -1;

	if (string_list_has(&p->limits.overrides, "window"))
		return from;
	if (zone_load(s->os, p->stages[stage].zone, &z) < 0)
		return -1;
	if (limits_document(&p->limits, &doc) == 0 &&
	    opening_parse(doc.window, doc.blackout, &opening, error, sizeof(error)) == 0)
		at = opening_judge(&opening, z, from).opens;
	rollout_done(&doc);
	return at > 0 ? at : -1;
}

/* Of the stage that is the next to open: the others do not matter yet. */
static void find_opening(const struct serve *s, struct evaluation *e, int64_t now)
{
	size_t k = 0;

	while (k < e->plan.stage_count && e->stages[k].open)
		k++;
	if (k < e->plan.stage_count && e->plan.stages[k].zone)
		e->stages[k].opens_at = evaluation_opens_at(s, &e->plan, k, now);
}

int evaluation_make(struct serve *s, const char *id, enum rollout_state state, const char *plan_json,
		    struct evaluation *ret)
{
	struct evaluation e = { .listens_since = s->listening.since, .clock_set_at = s->clock_set_at };
	struct gather g = { .serve = s, .id = id, .now = serve_now(s), .e = &e };
	struct stage_list stages = { &e, 0 };
	struct conf_error error;
	int r;

	r = plan_parse(plan_json, strlen(plan_json), "plan", &e.plan, &error);
	if (r < 0)
		return r;
	r = db_stages(s->db, id, gather_stage, &stages);
	if (r == 0)
		r = db_members(s->db, id, e.plan.component, g.now, gather_member, &g);
	for (size_t i = 0; r == 0 && i < e.plan.with_count; i++) {
		struct gather_with w = { &g, &e.plan.with[i], 0 };

		r = db_members(s->db, id, w.with->component, g.now, gather_with, &w);
	}
	if (r == 0)
		r = gates_remember(s, id, &e);
	if (r == 0) {
		find_opening(s, &e, g.now);
		r = decide_next(&e, state, g.now);
	}
	if (r < 0) {
		evaluation_done(&e);
		return r;
	}
	*ret = e;
	gates_moved(ret);
	return 0;
}
