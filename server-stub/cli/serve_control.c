#include "base/err.h"
#include "base/log.h"
#include "base/timestamp.h"
#include "base/version.h"
#include "conf/conf.h"
#include "crypto/digest.h"
#include "json/json.h"
#include "model/opening.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_rollouts.h"
#include "server-stub/ingest/db.h"
#include "server-stub/repo/repo.h"
#include "server-stub/rollout/documents.h"
#include "server-stub/rollout/replay.h"
#include "zone/zone.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	LOOK_EVERY_S = 5, /* at the most: time alone makes nodes silent */
	LOOK_AT_LEAST_S = 60,
	SILENCE_PARTS = 4, /* of the time after which a node is silent */
	BUSY_SHARE = 4, /* look again after this many times the time the last look took */
	DOCUMENTS_MAX = 4096, /* in one publication */
	ANNOUNCE_AT_ONCE = 16,
	DECISION_SPACING_S = 60,
	DECISION_ROWS = 100000, /* of members, in all kept decisions of a rollout, more or less */
	DECISIONS_LEAST = 20,
	DECISIONS_MOST = 500,
};

/* --- evaluation --- */

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

static int parse_labels(const char *text, struct labels *ret)
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
		r = parse_labels(row->labels, &labels);
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
	m->member = (struct schedule_member){ .stage = stage,
					      .state = verdict.state,
					      .silent = verdict.silent,
					      .since = verdict.since,
					      .added_at = row->added_at,
					      .heard_at = facts.opened_at == 0		       ? 0
							  : row->reported_at > facts.opened_at ? row->reported_at
											       : facts.opened_at,
					      .failing_at = row->failing_at,
					      .restarts = row->restarts };
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

int control_input(const struct evaluation *e, enum rollout_state state, int64_t now, struct schedule_input *ret)
{
	struct schedule_member *members = calloc(e->count ? e->count : 1, sizeof(*members));
	struct schedule_input in = {
		.plan = &e->plan, .state = state, .stages = e->stages, .members = members, .now = now
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
	int r = control_input(e, state, now, &in);

	if (r < 0)
		return r;
	schedule(&in, &e->decision);
	free((void *) (uintptr_t) in.members);
	return 0;
}

int64_t control_opens_at(const struct serve *s, const struct plan *p, size_t stage, int64_t from)
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
		e->stages[k].opens_at = control_opens_at(s, &e->plan, k, now);
}

int control_evaluate(struct serve *s, const char *id, enum rollout_state state, const char *plan_json,
		     struct evaluation *ret)
{
	struct evaluation e = { 0 };
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

/* --- what happens --- */

/* Remember who is in which open stage: with it `acted` sticks although labels change. */
static int store_members(struct serve *s, const char *id, const struct evaluation *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < e->count; i++) {
		const struct evaluated_member *m = &e->members[i];

		if (m->stored)
			continue;
		if (m->selected && e->stages[m->member.stage].open)
			r = db_member_put(s->db, id, m->node, m->member.stage, m->acted);
		else
			r = db_member_drop(s->db, id, m->node);
	}
	return r;
}

static int set_state(struct serve *s, const char *id, const char *component, const char *state, const char *why)
{
	char text[640];
	int r;

	r = db_rollout_set_state(s->db, id, state, why, "controller", serve_now(s));
	if (r < 0)
		return r;
	snprintf(text, sizeof(text), "rollout %s is %s: %s", id, state, why);
	return serve_record(s, strcmp(state, "done") == 0 ? "rollout-done" : "rollout-stopped", NULL, component,
			    text, "controller", state, id);
}

static int open_stage(struct serve *s, const char *id, const struct evaluation *e)
{
	size_t k = e->decision.stage, own = 0;
	char text[640];
	int r;

	r = db_stage_open(s->db, id, k, serve_now(s));
	if (r < 0)
		return r;
	for (size_t i = 0; i < e->count; i++)
		own += e->members[i].selected && e->members[i].member.stage == k;
	snprintf(text, sizeof(text), "rollout %s opens stage %s for %zu node%s", id, e->plan.stages[k].name, own,
		 own == 1 ? "" : "s");
	return serve_record(s, "stage", NULL, e->plan.component, text, "controller", "open-stage", id);
}

/* The plan says that what failed returns by itself; where that would leave nodes without anything a person is asked. */
static int undo_by_itself(struct serve *s, const char *id, const struct evaluation *e)
{
	CLEANUP(buf_done)
	struct buf list = BUF_INIT(64 * 1024);
	char text[1300], bare[600];
	size_t count = 0;
	bool first = true;
	int r = buf_add_str(&list, "[");

	/* Names of stages hold no quotes. */
	for (size_t k = 0; r == 0 && k < e->plan.stage_count; k++)
		if (e->decision.undo & UINT32_C(1) << k) {
			r = buf_addf(&list, "%s\"%s\"", first ? "" : ",", e->plan.stages[k].name);
			first = false;
		}
	if (r == 0)
		r = buf_add_str(&list, "]");
	if (r == 0)
		r = undo_leaves_bare(s, id, e, buf_str(&list), bare, sizeof(bare), &count);
	if (r < 0)
		return r;
	if (count > 0) {
		snprintf(text, sizeof(text),
			 "rollout %s is not undone by itself, as these nodes had no version before: %s", id, bare);
		return serve_record(s, "rollout-stopped", NULL, e->plan.component, text, "controller", "ask", id);
	}
	r = db_rollout_set_undo(s->db, id, buf_str(&list));
	snprintf(text, sizeof(text), "rollout %s is undone in its failed stages, as its plan says: %.900s", id,
		 buf_str(&list));
	return r < 0 ? r
		     : serve_record(s, "rollout-changed", NULL, e->plan.component, text, "controller", "undo", id);
}

struct last_decision {
	int64_t at;
	bool waited;
};

static int note_decision(void *user, const struct db_decision *row)
{
	*(struct last_decision *) user = (struct last_decision){ row->at, strcmp(row->action, "wait") == 0 };
	return 0;
}

/*
 * Kept for `rollout explain`: what is done always, also that a gate changed its answer; what is waited for when it is
 * something else, and not more than once a minute, as every report of a node changes the sentence.
 */
static int keep_decision(struct serve *s, const char *id, struct evaluation *e, const char *note, bool news)
{
	static const char *const names[] = { [SCHEDULE_NOTHING] = "wait",
					     [SCHEDULE_OPEN] = "open",
					     [SCHEDULE_HALT] = "halt",
					     [SCHEDULE_PAUSE] = "pause",
					     [SCHEDULE_DONE] = "done" };
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(SERVE_TEXT_MAX);
	struct schedule_input in;
	size_t keep = DECISION_ROWS / (e->count + 1);
	struct last_decision last = { 0, false };
	int64_t now = serve_now(s);
	int r;

	if (e->decision.action == SCHEDULE_NOTHING) {
		r = db_decision_at(s->db, id, INT64_MAX, note_decision, &last);
		if (r < 0 && r != -ENOENT)
			return r;
		if (!news && last.waited &&
		    (strcmp(note, e->decision.why) == 0 || now - last.at < DECISION_SPACING_S))
			return 0;
	}
	r = control_input(e, ROLLOUT_RUNNING, now, &in);
	if (r < 0)
		return r;
	r = replay_write(&in, &text);
	free((void *) (uintptr_t) in.members);
	if (r == 0)
		r = db_decision_add(s->db,
				    &(struct db_decision){ .rollout = id,
							   .at = now,
							   .action = names[e->decision.action],
							   .why = e->decision.why,
							   .input = buf_str(&text) },
				    keep < DECISIONS_LEAST  ? DECISIONS_LEAST
				    : keep > DECISIONS_MOST ? DECISIONS_MOST
							    : (unsigned) keep);
	return r;
}

/* When time alone may change the answer: a soak or an age ends, a node turns silent. */
static int64_t next_look(const struct serve *s, const struct evaluation *e)
{
	int64_t span = (int64_t) (e->plan.silent_after_s / SILENCE_PARTS), now = serve_now(s);

	span = span < LOOK_EVERY_S ? LOOK_EVERY_S : span > LOOK_AT_LEAST_S ? LOOK_AT_LEAST_S : span;
	return e->decision.wake_at > now && e->decision.wake_at < now + span ? e->decision.wake_at : now + span;
}

/* 1: something was done (look again); 0: nothing to do; negative. */
static int step(struct serve *s, const char *id, const char *component, const char *plan, const char *note,
		int64_t *ret_look_at)
{
	struct evaluation e;
	bool news = false;
	int r;

	r = control_evaluate(s, id, ROLLOUT_RUNNING, plan, &e);
	if (r < 0)
		return r;
	*ret_look_at = next_look(s, &e);
	r = db_begin(s->db);
	if (r == 0)
		r = store_members(s, id, &e);
	if (r == 0)
		r = gates_note(s, id, &e, &news);
	if (r == 0)
		r = keep_decision(s, id, &e, note, news);
	if (r == 0) {
		switch (e.decision.action) {
		case SCHEDULE_NOTHING:
			if (strcmp(note, e.decision.why) != 0)
				r = db_rollout_set_note(s->db, id, e.decision.why);
			break;
		case SCHEDULE_OPEN:
			r = open_stage(s, id, &e);
			break;
		case SCHEDULE_HALT:
			r = set_state(s, id, component, "halted", e.decision.why);
			if (r == 0 && e.decision.undo)
				r = undo_by_itself(s, id, &e);
			break;
		case SCHEDULE_PAUSE:
			r = set_state(s, id, component, "paused", e.decision.why);
			break;
		case SCHEDULE_DONE:
			r = set_state(s, id, component, "done", e.decision.why);
			break;
		}
	}
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	if (r == 0 && e.decision.action != SCHEDULE_NOTHING) {
		log_notice("rollout-step", "rollout=%s action=%d stage=%zu why=%s", id, (int) e.decision.action,
			   e.decision.stage, e.decision.why);
		s->publish_due = true;
		r = e.decision.action == SCHEDULE_OPEN;
	}
	if (r == 0) {
		int64_t next = gates_look(s, id, &e);

		*ret_look_at = next < *ret_look_at ? next : *ret_look_at;
	}
	evaluation_done(&e);
	return r;
}

struct watched {
	char id[ID_MAX + 1];
	int64_t look_at;
};

struct running {
	struct serve *serve;
	struct {
		char id[ID_MAX + 1], component[ID_MAX + 1], note[512];
		char *plan; /* NULL: neither time nor a change asks for a look */
		int64_t look_at;
	} * items;
	size_t count;
};

static int64_t watched_until(const struct serve *s, const char *id)
{
	for (size_t i = 0; i < s->watched_count; i++)
		if (strcmp(s->watched[i].id, id) == 0)
			return s->watched[i].look_at;
	return 0;
}

/* A rollout of several components is one of each of them. */
static bool is_touched(const struct serve *s, const struct db_rollout *row)
{
	struct conf_error error;
	struct plan plan;
	bool touched = db_touched(s->db, row->component);

	if (touched || !strstr(row->plan, "\"with\"") ||
	    plan_parse(row->plan, strlen(row->plan), "plan", &plan, &error) < 0)
		return touched;
	for (size_t i = 0; i < plan.with_count; i++)
		touched = touched || db_touched(s->db, plan.with[i].component);
	plan_done(&plan);
	return touched;
}

static int gather_running(void *user, const struct db_rollout *row)
{
	struct running *l = user;
	void *items;

	if (strcmp(row->state, "running") != 0)
		return 0;
	items = realloc(l->items, (l->count + 1) * sizeof(*l->items));
	if (!items)
		return -ENOMEM;
	l->items = items;
	copy(l->items[l->count].id, sizeof(l->items->id), row->id);
	copy(l->items[l->count].component, sizeof(l->items->component), row->component);
	copy(l->items[l->count].note, sizeof(l->items->note), row->note);
	l->items[l->count].look_at = watched_until(l->serve, row->id);
	l->items[l->count].plan = NULL;
	l->count++;
	if (serve_now(l->serve) < l->items[l->count - 1].look_at && !is_touched(l->serve, row))
		return 0;
	l->items[l->count - 1].plan = strdup(row->plan);
	return l->items[l->count - 1].plan ? 0 : -ENOMEM;
}

static int remember_looks(struct serve *s, const struct running *l)
{
	struct watched *list = calloc(l->count + 1, sizeof(*list));

	if (!list)
		return -ENOMEM;
	s->wake_at = serve_now(s) + LOOK_AT_LEAST_S;
	for (size_t i = 0; i < l->count; i++) {
		copy(list[i].id, sizeof(list[i].id), l->items[i].id);
		list[i].look_at = l->items[i].look_at;
		if (list[i].look_at < s->wake_at)
			s->wake_at = list[i].look_at;
	}
	free(s->watched);
	s->watched = list;
	s->watched_count = l->count;
	return 0;
}

void control_done(struct serve *s)
{
	free(s->watched);
	s->watched = NULL;
}

static int look(struct serve *s)
{
	struct running l = { .serve = s };
	int r;

	r = db_rollouts(s->db, NULL, gather_running, &l);
	for (size_t i = 0; i < l.count; i++) {
		int done = 0;

		/* Opening a stage whose nodes have it all already leads to the next at once. */
		for (size_t k = 0; r == 0 && l.items[i].plan && k <= PLAN_STAGES_MAX; k++) {
			done = step(s, l.items[i].id, l.items[i].component, l.items[i].plan, l.items[i].note,
				    &l.items[i].look_at);
			if (done <= 0)
				break;
		}
		if (done < 0 && r == 0)
			r = done;
		free(l.items[i].plan);
	}
	if (r == 0)
		r = remember_looks(s, &l);
	/* What was done here was looked at here. After a failure everything is looked at again. */
	if (r == 0)
		db_untouch(s->db);
	free(l.items);
	return r;
}

/* --- publication --- */

struct publication {
	struct serve *serve;
	struct repo_document *set;
	size_t set_count, capacity;
	char **removed;
	size_t removed_count;
};

static void publication_done(struct publication *p)
{
	for (size_t i = 0; i < p->set_count; i++) {
		free((void *) (uintptr_t) p->set[i].path);
		free((void *) (uintptr_t) p->set[i].data);
	}
	for (size_t i = 0; i < p->removed_count; i++)
		free(p->removed[i]);
	free(p->set);
	free(p->removed);
}

/* Set it, unless these very bytes are published already. */
static int set_document(struct publication *p, const char *path, const struct buf *text)
{
	CLEANUP(buf_done)
	struct buf before = BUF_INIT(INDEX_MAX_BYTES);
	void *set, *data;
	char *name;
	int r = repo_read_target(p->serve->repo, path, &before);

	if (r == 0 && before.len == text->len && memcmp(before.data, text->data, text->len) == 0)
		return 0;
	if (p->set_count == DOCUMENTS_MAX)
		return -ERR_TOO_LARGE;
	set = realloc(p->set, (p->set_count + 1) * sizeof(*p->set));
	if (!set)
		return -ENOMEM;
	p->set = set;
	name = strdup(path);
	data = malloc(text->len ? text->len : 1);
	if (!name || !data) {
		free(name);
		free(data);
		return -ENOMEM;
	}
	if (text->len)
		memcpy(data, text->data, text->len);
	p->set[p->set_count++] = (struct repo_document){ name, data, text->len };
	return 0;
}

static int remove_document(struct publication *p, const char *path)
{
	uint8_t digest[SHA256_BYTES];
	uint64_t length;
	void *removed;

	if (repo_target_info(p->serve->repo, path, &length, digest) < 0)
		return 0;
	removed = realloc(p->removed, (p->removed_count + 1) * sizeof(*p->removed));
	if (!removed)
		return -ENOMEM;
	p->removed = removed;
	p->removed[p->removed_count] = strdup(path);
	if (!p->removed[p->removed_count])
		return -ENOMEM;
	p->removed_count++;
	return 0;
}

static int publish(struct publication *p, const char *role)
{
	if (p->set_count == 0 && p->removed_count == 0)
		return 0;
	return repo_update_online(p->serve->repo, role, p->set, p->set_count, (const char *const *) p->removed,
				  p->removed_count);
}

struct listed {
	struct index_candidate candidate;
	struct document_rollout document;
	struct plan plan;
	struct string_list undo;
	bool open[PLAN_STAGES_MAX];
	int64_t opened_at[PLAN_STAGES_MAX];
	struct json *approvals[PLAN_STAGES_MAX];
	char *id, *component, *path, *plan_json;
};

struct listing {
	struct serve *serve;
	struct listed *items;
	size_t count;
};

static void listing_done(struct listing *l)
{
	for (size_t i = 0; i < l->count; i++) {
		plan_done(&l->items[i].plan);
		string_list_done(&l->items[i].undo);
		for (size_t k = 0; k < PLAN_STAGES_MAX; k++)
			json_free(l->items[i].approvals[k]);
		free(l->items[i].id);
		free(l->items[i].component);
		free(l->items[i].path);
		free(l->items[i].plan_json);
	}
	free(l->items);
}

static int read_undo(const char *text, struct string_list *ret)
{
	CLEANUP(json_freep)
	struct json *j = NULL;
	int r = json_parse(text, strlen(text), &json_limits_default, &j);

	for (size_t i = 0; r == 0 && i < json_count(j); i++)
		r = string_list_add(ret, json_string(json_at(j, i)));
	return r;
}

static int gather_listed(void *user, const struct db_rollout *row)
{
	struct listing *l = user;
	struct conf_error error;
	struct listed *it;
	void *items;
	int r, state = rollout_state_parse(row->state);

	items = realloc(l->items, (l->count + 1) * sizeof(*l->items));
	if (!items)
		return -ENOMEM;
	l->items = items;
	it = &l->items[l->count];
	*it = (struct listed){ 0 };
	r = state < 0 ? -ERR_DATABASE : plan_parse(row->plan, strlen(row->plan), "plan", &it->plan, &error);
	if (r < 0)
		return r;
	l->count++;
	it->id = strdup(row->id);
	it->component = strdup(row->component);
	it->path = strdup(row->release_path);
	it->plan_json = strdup(row->plan);
	if (!it->id || !it->component || !it->path || !it->plan_json)
		return -ENOMEM;
	r = read_undo(row->undo, &it->undo);
	if (r == 0)
		r = hex_decode(it->document.release_sha256, SHA256_BYTES, row->release_sha256, false);
	it->document.seq = row->seq;
	it->document.state = (enum rollout_state) state;
	it->candidate = (struct index_candidate){ .component = it->component,
						  .with = it->plan.with,
						  .with_count = it->plan.with_count,
						  .seq = row->seq,
						  .state = (enum rollout_state) state,
						  .covers_all = plan_covers_all(&it->plan),
						  .undoes = it->undo.count > 0,
						  .state_at = row->state_at };
	return r;
}

/* Nobody runs any more what the undo takes back. */
static int settle(struct serve *s, struct listed *it)
{
	struct evaluation e;
	int r;

	if (!it->candidate.undoes)
		return 0;
	r = control_evaluate(s, it->id, it->candidate.state, it->plan_json, &e);
	if (r < 0)
		return r;
	it->candidate.undo_settled = true;
	for (size_t i = 0; i < e.count; i++) {
		const struct evaluated_member *m = &e.members[i];

		if (m->acted && m->selected && string_list_has(&it->undo, e.plan.stages[m->member.stage].name) &&
		    (m->runs || m->under_way[0]))
			it->candidate.undo_settled = false;
	}
	evaluation_done(&e);
	return 0;
}

struct open_list {
	bool *open;
	int64_t *opened_at;
	size_t count;
};

static int gather_open(void *user, const struct db_stage *row)
{
	struct open_list *l = user;

	if (l->count < PLAN_STAGES_MAX) {
		l->opened_at[l->count] = row->opened_at;
		l->open[l->count++] = row->open;
	}
	return 0;
}

struct freezes {
	struct freeze *items;
	size_t count;
};

static void freezes_done(struct freezes *f)
{
	for (size_t i = 0; i < f->count; i++) {
		labels_done(&f->items[i].labels);
		string_list_done(&f->items[i].components);
		free(f->items[i].reason);
	}
	free(f->items);
}

static int gather_freeze(void *user, const struct db_freeze *row)
{
	struct freezes *f = user;
	void *items = realloc(f->items, (f->count + 1) * sizeof(*f->items));
	struct freeze *it;
	int r;

	if (!items)
		return -ENOMEM;
	f->items = items;
	it = &f->items[f->count++];
	*it = (struct freeze){ .until = row->until, .reason = strdup(row->reason) };
	if (!it->reason)
		return -ENOMEM;
	r = parse_labels(row->labels, &it->labels);
	return r < 0 ? r : read_undo(row->components, &it->components);
}

/* What a published version is never changes: its hash is the one its team signed. */
static int find_with(struct publication *p, const struct plan *plan, struct release_ref *with)
{
	for (size_t i = 0; i < plan->with_count; i++) {
		char path[ID_MAX + VERSION_MAX + 32];
		uint64_t length;
		int r;

		snprintf(path, sizeof(path), "%s/%s/release.json", plan->with[i].component, plan->with[i].version);
		with[i] = (struct release_ref){ .component = plan->with[i].component,
						.version = plan->with[i].version,
						.path = strdup(path) };
		r = with[i].path ? repo_target_info(p->serve->repo, path, &length, with[i].sha256) : -ENOMEM;
		if (r < 0)
			return r;
	}
	return 0;
}

static int add_document(struct publication *p, struct listed *it, const char *path)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ROLLOUT_MAX_BYTES);
	struct release_ref with[PLAN_WITH_MAX] = { { .path = NULL } };
	int r = find_with(p, &it->plan, with);

	it->document.with = with;
	if (r == 0)
		r = document_rollout(&it->document, &text);
	it->document.with = NULL;
	for (size_t i = 0; i < it->plan.with_count; i++)
		free(with[i].path);
	return r < 0 ? r : set_document(p, path, &text);
}

static int add_rollout(struct publication *p, struct listed *it, struct index_entry *entry)
{
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(256);
	struct open_list open = { it->open, it->opened_at, 0 };
	int r;

	r = db_stages(p->serve->db, it->id, gather_open, &open);
	if (r < 0)
		return r;
	it->document.id = it->id;
	it->document.plan = &it->plan;
	it->document.open = it->open;
	it->document.opened_at = it->opened_at;
	it->document.release_path = it->path;
	it->document.undo = &it->undo;
	r = approvals_gather(p->serve, it->id, it->plan.stage_count, it->approvals);
	if (r < 0)
		return r;
	it->document.approvals = it->approvals;
	r = document_rollout_path(it->id, &path);
	if (r == 0)
		r = add_document(p, it, buf_str(&path));
	if (r == 0)
		r = string_list_add(&entry->components, it->component);
	for (size_t i = 0; r == 0 && i < it->plan.with_count; i++)
		r = string_list_add(&entry->components, it->plan.with[i].component);
	if (r < 0)
		return r;
	entry->id = it->id;
	entry->seq = it->document.seq;
	entry->path = buf_take(&path);
	return 0;
}

static int fill_rollouts(struct publication *p, struct listing *l, struct rollout_index *index)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(INDEX_MAX_BYTES);
	struct index_candidate *all = calloc(l->count ? l->count : 1, sizeof(*all));
	int r = 0;

	if (!all)
		return -ENOMEM;
	for (size_t i = 0; i < l->count; i++)
		all[i] = l->items[i].candidate;
	for (size_t i = 0; r == 0 && i < l->count; i++) {
		CLEANUP(buf_done)
		struct buf path = BUF_INIT(256);

		if (index_lists(&all[i], all, l->count, serve_now(p->serve))) {
			r = add_rollout(p, &l->items[i], &index->entries[index->entry_count++]);
			continue;
		}
		r = document_rollout_path(l->items[i].id, &path);
		if (r == 0)
			r = remove_document(p, buf_str(&path));
	}
	free(all);
	if (r == 0)
		r = document_index(index, &text);
	return r < 0 ? r : set_document(p, "rollouts/index.json", &text);
}

static int publish_rollouts(struct serve *s)
{
	struct publication p = { .serve = s };
	struct listing l = { .serve = s };
	struct freezes f = { 0 };
	struct rollout_index index = { 0 };
	int r;

	r = db_rollouts(s->db, NULL, gather_listed, &l);
	s->undo_listed = false;
	for (size_t i = 0; r == 0 && i < l.count; i++) {
		r = settle(s, &l.items[i]);
		s->undo_listed =
			s->undo_listed || (l.items[i].candidate.undoes && !l.items[i].candidate.undo_settled);
	}
	if (r == 0)
		r = db_freezes(s->db, serve_now(s), gather_freeze, &f);
	if (r == 0) {
		index.entries = calloc(l.count ? l.count : 1, sizeof(*index.entries));
		index.freezes = f.items;
		index.freeze_count = f.count;
		r = index.entries ? fill_rollouts(&p, &l, &index) : -ENOMEM;
	}
	if (r == 0)
		r = publish(&p, "rollouts");
	if (r == 0 && p.set_count + p.removed_count > 0)
		trust_announce(s, NULL);
	for (size_t i = 0; i < index.entry_count; i++) {
		string_list_done(&index.entries[i].components);
		free(index.entries[i].path);
	}
	free(index.entries);
	freezes_done(&f);
	listing_done(&l);
	publication_done(&p);
	return r;
}

/* --- orders --- */

struct node_list {
	char (*items)[ID_MAX + 1];
	size_t count;
};

static int gather_node(void *user, const struct db_order *row)
{
	struct node_list *l = user;
	void *items;

	if (l->count && strcmp(l->items[l->count - 1], row->node) == 0)
		return 0;
	items = realloc(l->items, (l->count + 1) * sizeof(*l->items));
	if (!items)
		return -ENOMEM;
	l->items = items;
	copy(l->items[l->count++], sizeof(*l->items), row->node);
	return 0;
}

static char *text_or_null(const char *text)
{
	return text ? strdup(text) : NULL;
}

static int add_order(struct node_orders *o, const struct db_order *row)
{
	void *list;

	if (row->unconfirmed)
		return 0;
	if (strcmp(row->kind, "rollback") == 0) {
		list = realloc(o->rollbacks, (o->rollback_count + 1) * sizeof(*o->rollbacks));
		if (!list)
			return -ENOMEM;
		o->rollbacks = list;
		o->rollbacks[o->rollback_count++] =
			(struct order_rollback){ .id = text_or_null(row->id),
						 .component = text_or_null(row->component),
						 .from = text_or_null(row->from),
						 .to = text_or_null(row->to),
						 .reason = text_or_null(row->reason),
						 .by = text_or_null(row->by),
						 .issued = row->issued,
						 .restore_data = row->restore_data };
	} else if (strcmp(row->kind, "pin") == 0) {
		list = realloc(o->pins, (o->pin_count + 1) * sizeof(*o->pins));
		if (!list)
			return -ENOMEM;
		o->pins = list;
		o->pins[o->pin_count++] = (struct order_pin){ .id = text_or_null(row->id),
							      .component = text_or_null(row->component),
							      .version = text_or_null(row->to),
							      .reason = text_or_null(row->reason),
							      .by = text_or_null(row->by) };
	} else if (strcmp(row->kind, "retry") == 0) {
		list = realloc(o->retries, (o->retry_count + 1) * sizeof(*o->retries));
		if (!list)
			return -ENOMEM;
		o->retries = list;
		o->retries[o->retry_count++] = (struct order_once){ .id = text_or_null(row->id),
								    .component = text_or_null(row->component),
								    .issued = row->issued,
								    .expires = row->until };
	} else if (strcmp(row->kind, "collect") == 0) {
		list = realloc(o->collects, (o->collect_count + 1) * sizeof(*o->collects));
		if (!list)
			return -ENOMEM;
		o->collects = list;
		o->collects[o->collect_count++] = (struct order_once){ .id = text_or_null(row->id),
								       .set = text_or_null(row->component),
								       .issued = row->issued,
								       .expires = row->until };
	} else if (strcmp(row->kind, "hold") == 0 && row->until > o->hold.until) {
		free(o->hold.reason);
		free(o->hold.by);
		o->hold.until = row->until;
		o->hold.reason = text_or_null(row->reason);
		o->hold.by = text_or_null(row->by);
	}
	return 0;
}

static int gather_order(void *user, const struct db_order *row)
{
	return add_order(user, row);
}

/* 1: its document changes; 0: it is published as it is. */
static int add_orders(struct publication *p, const char *node)
{
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(256), text = BUF_INIT(ORDER_MAX_BYTES);
	struct node_orders o = { .node = strdup(node) };
	size_t before = p->set_count + p->removed_count;
	int r;

	r = o.node ? db_orders(p->serve->db, node, serve_now(p->serve), gather_order, &o) : -ENOMEM;
	if (r == 0)
		r = document_orders_path(node, &path);
	if (r == 0 && o.rollback_count + o.pin_count + o.retry_count + o.collect_count == 0 && o.hold.until == 0)
		r = remove_document(p, buf_str(&path));
	else if (r == 0) {
		r = document_orders(&o, &text);
		if (r == 0)
			r = set_document(p, buf_str(&path), &text);
	}
	orders_done(&o);
	return r < 0 ? r : p->set_count + p->removed_count > before;
}

static int publish_orders(struct serve *s)
{
	struct publication p = { .serve = s };
	struct node_list all = { 0 }, changed = { 0 };
	int r;

	r = db_orders(s->db, NULL, 0, gather_node, &all);
	for (size_t i = 0; r == 0 && i < all.count; i++) {
		r = add_orders(&p, all.items[i]);
		if (r > 0) {
			const struct db_order row = { .node = all.items[i] };

			r = gather_node(&changed, &row);
		}
	}
	if (r == 0)
		r = publish(&p, "support");
	/* Many at once, as after a restored backup, go out in slices. */
	if (r == 0 && changed.count > ANNOUNCE_AT_ONCE) {
		s->refill = true;
		s->refilled[0] = '\0';
	}
	for (size_t i = 0; r == 0 && changed.count <= ANNOUNCE_AT_ONCE && i < changed.count; i++)
		trust_announce(s, changed.items[i]);
	free(all.items);
	free(changed.items);
	publication_done(&p);
	return r;
}

static int64_t next_publication(struct serve *s)
{
	int64_t now = serve_now(s), at = now + (s->undo_listed ? LOOK_EVERY_S : LOOK_AT_LEAST_S), end = 0;

	/* Without the answer it is soon enough as well. */
	return db_next_end(s->db, now, &end) == 0 && end > 0 && end < at ? end : at;
}

int control_publish_orders(struct serve *s, const char *node)
{
	struct publication p = { .serve = s };
	int r;

	/* What is due anyway comes first: it may be a halt. */
	if (s->publish_due || !s->repo || !broker_is_compared(s))
		return control_publish_now(s);
	r = add_orders(&p, node);
	if (r > 0)
		r = publish(&p, "support");
	publication_done(&p);
	if (r < 0)
		return control_publish_now(s); /* it says what is wrong, and is tried again */
	trust_announce(s, node);
	s->publish_by = next_publication(s); /* the order may be the first to end */
	return 0;
}

int control_publish_now(struct serve *s)
{
	uint64_t jitter = 0;
	int r;

	s->publish_due = true;
	if (!s->repo || !broker_is_compared(s))
		return -ERR_PEER_GONE;
	r = publish_rollouts(s);
	if (r == 0)
		r = publish_orders(s);
	if (r == 0) {
		s->publish_due = false;
		s->publish_by = next_publication(s);
		backoff_reset(&s->publish_backoff);
		return 0;
	}
	log_error("publish-failed", "what was decided is not published yet: %s (%s)", err_text(r),
		  repo_error(s->repo));
	(void) s->os->random(s->os, &jitter, sizeof(jitter)); /* without it all wait equally long */
	s->publish_retry_ms = serve_now_ms(s) + backoff_next_ms(&s->publish_backoff, jitter);
	return r;
}

void control_tick(struct serve *s)
{
	uint64_t start, took;
	int64_t now = serve_now(s);
	int r;

	restore_tick(s);
	start = serve_now_ms(s);
	if ((db_generation(s->db) != s->generation || now >= s->wake_at) && start >= s->look_again_ms) {
		r = look(s);
		if (r < 0) {
			log_error("control-failed", "a rollout could not be looked at: %s (%s)", err_text(r),
				  db_error(s->db));
			s->wake_at = now + LOOK_EVERY_S;
		}
		s->generation = db_generation(s->db);
		took = serve_now_ms(s) - start;
		s->look_again_ms = serve_now_ms(s) + BUSY_SHARE * took;
	}
	/* Freezes, holds and retries end by time, undo settles by reports. */
	if (now >= s->publish_by)
		s->publish_due = true;
	if (s->publish_due && serve_now_ms(s) >= s->publish_retry_ms) {
		r = control_publish_now(s);
		(void) r; /* logged there, and tried again */
	}
	if (db_last_event(s->db) != s->events_told) {
		s->events_told = db_last_event(s->db);
		web_wake(s->web);
	}
}

void control_shorten(const struct serve *s, int *timeout_ms)
{
	uint64_t now = serve_now_ms(s), due;

	if (db_generation(s->db) != s->generation) {
		due = s->look_again_ms > now ? s->look_again_ms - now : 0;
		if (due < (uint64_t) *timeout_ms)
			*timeout_ms = (int) due;
	}
	if (db_last_event(s->db) != s->events_told || s->refilled[0])
		*timeout_ms = 0;
}

int control_published_seq(struct serve *s, uint64_t *ret)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(INDEX_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct rollout_index index;
	char *error = NULL;
	int r;

	*ret = 0;
	r = repo_read_target(s->repo, "rollouts/index.json", &text);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = json_parse(text.data, text.len, &json_limits_default, &doc);
	if (r == 0)
		r = index_parse(doc, &index, &error);
	free(error);
	if (r < 0)
		return r;
	for (size_t i = 0; i < index.entry_count; i++)
		if (index.entries[i].seq > *ret)
			*ret = index.entries[i].seq;
	index_done(&index);
	return 0;
}
