/*
 * A rollout is paused, resumed, halted, cancelled or undone by a person.
 */
#include "base/err.h"
#include "base/log.h"
#include "conf/conf.h"
#include "json/build.h"
#include "json/json.h"
#include "model/catalogue.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/cli/serve_handlers.h"
#include "server-stub/cli/serve_rollouts.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_reports.h"
#include "server-stub/ingest/db_rollouts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct verb {
	const char *name, *state, *past;
	unsigned from; /* bits of enum rollout_state it may come from */
	bool undoes;
};

#define FROM(state) (1u << ROLLOUT_##state)
static const struct verb verbs[] = {
	{ "pause", "paused", "paused", FROM(RUNNING), false },
	{ "resume", "running", "resumed", FROM(PAUSED), false },
	{ "halt", "halted", "halted", FROM(RUNNING) | FROM(PAUSED), false },
	{ "cancel", "cancelled", "cancelled", FROM(RUNNING) | FROM(PAUSED) | FROM(HALTED) | FROM(DONE), false },
	{ "undo", NULL, "undone", FROM(RUNNING) | FROM(PAUSED) | FROM(HALTED) | FROM(CANCELLED) | FROM(DONE),
	  true },
};

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

/* The stages to be undone: those named, or all that were opened. A complaint was sent if it is negative. */
static int undo_stages(struct web_request *rq, const struct json *doc, const struct evaluation *e, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf whole = BUF_INIT(64 * 1024);
	CLEANUP(json_freep)
	struct json *parsed = NULL;
	struct json_node *list = node_array(json_build_root(b), "undo");
	const struct json *named = json_get(doc, "stages");
	size_t count = 0;
	int r;

	for (size_t i = 0; i < json_count(named); i++) {
		const char *name = json_string(json_at(named, i));
		bool known = false;

		for (size_t k = 0; k < e->plan.stage_count; k++)
			known |= str_eq(name, e->plan.stages[k].name);
		if (!known) {
			web_fail(rq, 422, "there is no stage '%s' in this rollout", name ? name : "");
			return -EINVAL;
		}
	}
	for (size_t k = 0; k < e->plan.stage_count; k++) {
		bool wanted = named ? false : e->stages[k].open;

		for (size_t i = 0; i < json_count(named); i++)
			wanted |= str_eq(json_string(json_at(named, i)), e->plan.stages[k].name);
		if (wanted) {
			node_string(list, NULL, e->plan.stages[k].name);
			count++;
		}
	}
	if (count == 0) {
		web_fail(rq, 409, "no stage was opened, so there is nothing to undo");
		return -EINVAL;
	}
	r = json_build_text(b, false, &whole);
	if (r == 0)
		r = json_parse(whole.data, whole.len, &json_limits_default, &parsed);
	if (r == 0)
		r = json_text(json_get(parsed, "undo"), out);
	if (r < 0)
		web_fail(rq, 500, "%s", err_text(r));
	return r;
}

/* Nodes that took the release as their first version of the component: undone they are without it. */
struct bare {
	const struct evaluation *e;
	const struct json *stages; /* to be undone */
	const char *version;
	char list[600];
	size_t len, count;
};

static int find_bare(void *user, const struct db_result *row)
{
	struct bare *b = user;

	if ((row->from && *row->from) || (row->number != RESULT_GOOD && row->number != RESULT_GOOD_UNPROVEN))
		return 0;
	for (size_t i = 0; i < b->e->count; i++) {
		const struct evaluated_member *m = &b->e->members[i];
		bool undone = false;

		if (strcmp(m->node, row->node) != 0 || !m->selected || strcmp(m->version, b->version) != 0)
			continue;
		for (size_t k = 0; k < json_count(b->stages); k++)
			undone |= str_eq(json_string(json_at(b->stages, k)),
					 b->e->plan.stages[m->member.stage].name);
		if (!undone)
			continue;
		b->count++;
		if (b->len < sizeof(b->list))
			b->len += (size_t) snprintf(b->list + b->len, sizeof(b->list) - b->len, "%s%s",
						    b->len ? ", " : "", m->node);
	}
	return 0;
}

int undo_leaves_bare(struct serve *s, const char *id, const struct evaluation *e, const char *undo, char *ret_list,
		     size_t size, size_t *ret_count)
{
	CLEANUP(json_freep)
	struct json *stages = NULL;
	struct bare b = { .e = e, .version = e->plan.version };
	int r = json_parse(undo, strlen(undo), &json_limits_default, &stages);

	b.stages = stages;
	if (r == 0)
		r = db_results(s->db, NULL, id, find_bare, &b);
	snprintf(ret_list, size, "%s", b.list);
	*ret_count = b.count;
	return r;
}

/* Is what an undo leaves behind what was meant? A complaint was sent if not. */
static bool may_undo(struct serve *s, struct web_request *rq, const char *id, const struct json *doc,
		     const struct evaluation *e, const char *undo)
{
	char list[600];
	size_t count = 0;
	int r = undo_leaves_bare(s, id, e, undo, list, sizeof(list), &count);

	if (r < 0) {
		fail_database(s, rq, r);
		return false;
	}
	if (count == 0 || json_bool(json_get(doc, "yes"), false))
		return true;
	web_fail(
		rq, 409,
		"%zu node%s had no version of %s before and would be left without it: %s. --yes undoes it all the "
		"same; --stage leaves others out",
		count, count == 1 ? "" : "s", e->plan.component, list);
	return false;
}

static int change_rollout(struct serve *s, const char *id, const struct verb *verb, const char *component,
			  const char *state, const char *undo, const char *reason, const char *by)
{
	char text[1300];
	int r;

	r = db_begin(s->db);
	if (r == 0)
		r = db_rollout_set_state(s->db, id, state, reason, by, serve_now(s));
	if (r == 0 && undo)
		r = db_rollout_set_undo(s->db, id, undo);
	snprintf(text, sizeof(text), "rollout %s is %s: %s", id, verb->past, reason);
	if (r == 0)
		r = serve_record(s, "rollout-changed", NULL, component, text, by, verb->name, id);
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	return r;
}

struct outranked {
	const struct plan *plan;
	const char *id;
	uint64_t seq;
	char by[ID_MAX + 1];
	uint64_t by_seq;
};

static int find_own_seq(void *user, const struct db_rollout *row)
{
	((struct outranked *) user)->seq = row->seq;
	return 0;
}

/* A newer one that is done for every node: those nodes follow it and none before it. */
static int find_outranking(void *user, const struct db_rollout *row)
{
	struct outranked *o = user;
	struct conf_error error;
	struct plan other;

	if (strcmp(row->state, "done") != 0 || row->seq <= o->seq || row->seq <= o->by_seq ||
	    plan_parse(row->plan, strlen(row->plan), "plan", &other, &error) < 0)
		return 0;
	if (plan_covers_all(&other) && plan_concerns(&other, o->plan->component)) {
		snprintf(o->by, sizeof(o->by), "%s", row->id);
		o->by_seq = row->seq;
	}
	plan_done(&other);
	return 0;
}

/* Would nodes follow it? A complaint was sent if not. */
static bool may_resume(struct serve *s, struct web_request *rq, const char *id, const char *plan_json)
{
	struct outranked o = { .id = id };
	struct conf_error error;
	struct plan plan;
	int r = plan_parse(plan_json, strlen(plan_json), "plan", &plan, &error);

	o.plan = &plan;
	if (r == 0) {
		r = db_rollouts(s->db, id, find_own_seq, &o);
		if (r == 0)
			r = db_rollouts(s->db, NULL, find_outranking, &o);
		plan_done(&plan);
	}
	if (r < 0) {
		fail_database(s, rq, r);
		return false;
	}
	if (!o.by[0])
		return true;
	web_fail(rq, 409,
		 "nodes follow the newer rollout '%s', which is done; cancel '%s' and start it again to go on "
		 "with its "
		 "release",
		 o.by, id);
	return false;
}

void rollout_verb_post(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf undo = BUF_INIT(64 * 1024);
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	struct found_rollout f = { .serve = s };
	const char *id = doc ? id_arg(rq, 0, "rollout") : NULL, *reason, *state;
	const struct verb *verb;
	struct evaluation e = { 0 };
	int r;

	if (!doc || !id)
		return;
	verb = find_verb(web_arg(rq, 1));
	if (!verb) {
		web_fail(rq, 404, "a rollout can be paused, resumed, halted, cancelled or undone");
		return;
	}
	reason = text_field(rq, doc, "reason");
	if (!reason || !rollout_is_known(s, rq, id, &f))
		return;
	if (!(verb->from & 1u << f.state)) {
		web_fail(rq, 409, "the rollout '%s' is %s and cannot be %s%s", id, rollout_state_name(f.state),
			 verb->past,
			 f.state == ROLLOUT_HALTED ? "; publish a corrected release and start a rollout of it"
						   : "");
		free(f.plan);
		return;
	}
	if (strcmp(verb->name, "resume") == 0 && !may_resume(s, rq, id, f.plan)) {
		free(f.plan);
		return;
	}
	state = verb->state;
	if (verb->undoes) {
		r = evaluation_make(s, id, f.state, f.plan, &e);
		if (r < 0) {
			fail_database(s, rq, r);
			free(f.plan);
			return;
		}
		r = undo_stages(rq, doc, &e, &undo);
		if (r == 0 && !may_undo(s, rq, id, doc, &e, buf_str(&undo)))
			r = -EPERM;
		evaluation_done(&e);
		if (r < 0) {
			free(f.plan);
			return;
		}
		state = f.state == ROLLOUT_DONE || f.state == ROLLOUT_CANCELLED ? "cancelled" : "halted";
	}
	free(f.plan);
	r = change_rollout(s, id, verb, f.component, state, verb->undoes ? buf_str(&undo) : NULL, reason,
			   by_of(doc));
	if (r < 0) {
		fail_database(s, rq, r);
		return;
	}
	log_notice("rollout-changed", "rollout=%s state=%s", id, state);
	node_string(json_build_root(b), "id", id);
	node_string(json_build_root(b), "state", state);
	node_string(json_build_root(b), "now", verb->past);
	publish_and_answer(s, rq, 200, b);
}
