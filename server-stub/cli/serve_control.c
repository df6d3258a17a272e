/*
 * The loop of rollouts: those that changed, or whose time has come, are looked at; what is decided is done, and published.
 */
#include "base/err.h"
#include "base/log.h"
#include "conf/conf.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_rollouts.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_events.h"
#include "server-stub/ingest/db_members.h"
#include "server-stub/ingest/db_orders.h"
#include "server-stub/ingest/db_rollouts.h"
#include "server-stub/repo/repo.h"
#include "server-stub/rollout/replay.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	LOOK_EVERY_S = 5, /* at the most: time alone makes nodes silent */
	LOOK_AT_LEAST_S = 60,
	SILENCE_PARTS = 4, /* of the time after which a node is silent */
	BUSY_SHARE = 4, /* look again after this many times the time the last look took */
	DECISION_SPACING_S = 60,
	DECISION_ROWS = 100000, /* of members, in all kept decisions of a rollout, more or less */
	DECISIONS_LEAST = 20,
	DECISIONS_MOST = 500,
};

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
	r = evaluation_input(e, ROLLOUT_RUNNING, now, &in);
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

	r = evaluation_make(s, id, ROLLOUT_RUNNING, plan, &e);
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
	snprintf(l->items[l->count].id, sizeof(l->items->id), "%s", row->id);
	snprintf(l->items[l->count].component, sizeof(l->items->component), "%s", row->component);
	snprintf(l->items[l->count].note, sizeof(l->items->note), "%s", row->note ? row->note : "");
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
		snprintf(list[i].id, sizeof(list[i].id), "%s", l->items[i].id);
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

static int64_t next_publication(struct serve *s)
{
	int64_t now = serve_now(s), at = now + (s->undo_listed ? LOOK_EVERY_S : LOOK_AT_LEAST_S), end = 0;

	/* Without the answer it is soon enough as well. */
	return db_next_end(s->db, now, &end) == 0 && end > 0 && end < at ? end : at;
}

int control_publish_orders(struct serve *s, const char *node)
{
	/* What is due anyway comes first: it may be a halt. */
	if (s->publish_due || !s->repo || !broker_is_compared(s))
		return control_publish_now(s);
	if (documents_publish_orders_of(s, node) < 0)
		return control_publish_now(s); /* it says what is wrong, and is tried again */
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
	r = documents_publish_rollouts(s);
	if (r == 0)
		r = documents_publish_orders(s);
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

/* --- the clocks --- */

int control_begin(struct serve *s)
{
	int64_t now = serve_now(s), jump;
	int r = db_counter(s->db, "clock-set", &s->clock_set_at);

	(void) listening_turn(&s->listening, now, serve_now_ms(s), &jump); /* the first one has no news */
	/* It was ahead, and went back while nobody was here. */
	if (r == 0 && s->clock_set_at > now) {
		s->clock_set_at = now;
		r = db_counter_set(s->db, "clock-set", now);
	}
	return r;
}

/* What waits for a time was counted by another clock: everything is looked at again. */
static void clock_was_set(struct serve *s, int64_t jump)
{
	char text[160], span[40];
	int64_t now = serve_now(s);
	int r;

	cli_span(span, sizeof(span), jump < 0 ? -jump : jump);
	snprintf(text, sizeof(text), "the clock of the controller was set %s by %s: soaks that last begin again",
		 jump < 0 ? "back" : "ahead", span);
	log_warning("clock-set", "%s", text);
	s->clock_set_at = now;
	control_done(s);
	s->watched_count = 0;
	s->wake_at = s->publish_by = 0;
	/* A start must still know it; if it cannot be stored, the disk has other troubles that are told. */
	r = db_begin(s->db);
	if (r == 0)
		r = db_counter_set(s->db, "clock-set", now);
	if (r == 0)
		r = serve_record(s, "clock-set", NULL, NULL, text, "controller", "clock-set", text);
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	if (r < 0)
		log_error("clock-set", "this could not be stored: %s (%s)", err_text(r), db_error(s->db));
}

static void mind_the_clocks(struct serve *s)
{
	int64_t jump = 0;

	switch (listening_turn(&s->listening, serve_now(s), serve_now_ms(s), &jump)) {
	case LISTENING_ON:
		break;
	case LISTENING_AFTER_GAP:
		log_notice("listens-again",
			   "nobody listened here for a while: the host slept, or we were stopped");
		break;
	case LISTENING_CLOCK_SET:
		clock_was_set(s, jump);
		break;
	}
}

void control_tick(struct serve *s)
{
	uint64_t start, took;
	int64_t now;
	int r;

	mind_the_clocks(s);
	now = serve_now(s);
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
