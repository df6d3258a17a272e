/*
 * The rollouts as they are: all in a list, one with its stages and nodes.
 */
#include "base/err.h"
#include "json/build.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/cli/serve_handlers.h"
#include "server-stub/cli/serve_rollouts.h"
#include "server-stub/ingest/db_rollouts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int write_stage_row(void *user, const struct db_stage *row)
{
	struct json_node *o = node_object(user, NULL);

	node_string(o, "name", row->name);
	node_bool(o, "open", row->open);
	node_time(o, "opened", row->opened_at);
	return 0;
}

struct rollout_list {
	struct serve *serve;
	struct json_node *array;
};

static int write_rollout(struct serve *s, struct json_node *o, const struct db_rollout *row)
{
	(void) s;
	node_string(o, "id", row->id);
	node_integer(o, "seq", (int64_t) row->seq);
	node_string(o, "component", row->component);
	node_string(o, "version", row->version);
	node_string(o, "kind", row->kind);
	node_string(o, "state", row->state);
	node_string(o, "reason", row->reason);
	node_string(o, "by", row->by);
	node_time(o, "created", row->created_at);
	node_time(o, "state_at", row->state_at);
	return node_json(o, "undo", row->undo);
}

static int list_rollout(void *user, const struct db_rollout *row)
{
	struct rollout_list *l = user;
	struct json_node *o = node_object(l->array, NULL);
	int r = write_rollout(l->serve, o, row);

	node_string(o, "why", row->note);
	return r < 0 ? r : db_stages(l->serve->db, row->id, write_stage_row, node_array(o, "stages"));
}

void rollouts_get(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct serve *s = user;
	struct rollout_list l = { s, node_array(json_build_root(b), "rollouts") };
	int r = db_rollouts(s->db, NULL, list_rollout, &l);

	if (r < 0)
		fail_database(s, rq, r);
	else
		answer(rq, 200, b);
}

bool member_is_young(const struct serve *s, const struct evaluation *e, const struct evaluated_member *m)
{
	return serve_now(s) - m->member.added_at < (int64_t) e->plan.min_age_s;
}

static void write_member(const struct serve *s, struct json_node *nodes, const struct evaluation *e,
			 const struct evaluated_member *m)
{
	struct json_node *o = node_object(nodes, NULL);

	if (member_is_young(s, e, m)) {
		node_time(o, "added", m->member.added_at);
		node_time(o, "counts_from", m->member.added_at + (int64_t) e->plan.min_age_s);
	}

	node_string(o, "node", m->node);
	node_string(o, "state", member_state_name(m->member.state));
	node_bool(o, "silent", m->member.silent);
	node_bool(o, "online", m->online);
	node_string(o, "version", m->version[0] ? m->version : NULL);
	node_string(o, "under_way", m->under_way[0] ? m->under_way : NULL);
	if (m->bytes_total) {
		node_integer(o, "bytes_done", (int64_t) m->bytes_done);
		node_integer(o, "bytes_total", (int64_t) m->bytes_total);
	}
	node_string(o, "result", m->result[0] ? m->result : NULL);
	node_string(o, "detail", m->detail[0] ? m->detail : NULL);
	node_time(o, "reported", m->reported_at);
}

void evaluation_write(const struct serve *s, struct json_node *o, const struct evaluation *e)
{
	struct json_node *stages = node_array(o, "stages"), *with = node_array(o, "with");

	for (size_t i = 0; i < e->plan.with_count; i++) {
		struct json_node *w = node_object(with, NULL);

		node_string(w, "component", e->plan.with[i].component);
		node_string(w, "version", e->plan.with[i].version);
	}
	for (size_t k = 0; k < e->plan.stage_count; k++) {
		struct json_node *stage = node_object(stages, NULL), *nodes;

		node_string(stage, "name", e->plan.stages[k].name);
		node_bool(stage, "open", e->stages[k].open);
		node_time(stage, "opened", e->stages[k].opened_at);
		node_integer(stage, "soak", (int64_t) e->plan.stages[k].soak_s);
		node_integer(stage, "selects", (int64_t) e->stages[k].selected);
		node_string(stage, "zone", e->plan.stages[k].zone);
		nodes = node_array(stage, "nodes");
		for (size_t i = 0; i < e->count; i++)
			if (e->members[i].selected && e->members[i].member.stage == k)
				write_member(s, nodes, e, &e->members[i]);
	}
	node_string(o, "why", e->decision.why);
	node_time(o, "wake_at", e->decision.wake_at);
}

static int find_rollout(void *user, const struct db_rollout *row)
{
	struct found_rollout *f = user;
	int state = rollout_state_parse(row->state);

	if (state < 0)
		return -ERR_DATABASE;
	f->state = (enum rollout_state) state;
	f->plan = strdup(row->plan);
	if (!f->plan)
		return -ENOMEM;
	snprintf(f->component, sizeof(f->component), "%s", row->component);
	snprintf(f->undo, sizeof(f->undo), "%s", row->undo);
	return f->o ? write_rollout(f->serve, f->o, row) : 0;
}

bool rollout_is_known(struct serve *s, struct web_request *rq, const char *id, struct found_rollout *ret)
{
	int r;

	if (!id)
		return false;
	r = db_rollouts(s->db, id, find_rollout, ret);
	if (r == 0)
		return true;
	free(ret->plan);
	ret->plan = NULL;
	if (r == -ENOENT)
		web_fail(rq, 404, "there is no rollout '%s'; selfright rollout list shows all", id);
	else
		fail_database(s, rq, r);
	return false;
}

void rollout_get(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct serve *s = user;
	struct found_rollout f = { .serve = s, .o = json_build_root(b) };
	const char *id = id_arg(rq, 0, "rollout");
	struct evaluation e;
	int r;

	if (!rollout_is_known(s, rq, id, &f))
		return;
	r = evaluation_make(s, id, f.state, f.plan, &e);
	if (r == 0)
		r = node_json(f.o, "plan", f.plan);
	free(f.plan);
	if (r < 0) {
		fail_database(s, rq, r);
		return;
	}
	evaluation_write(s, f.o, &e);
	evaluation_done(&e);
	r = approvals_show(s, id, node_array(f.o, "approvals"));
	if (r < 0)
		web_fail(rq, 500, "the approvals cannot be read: %s", err_text(r));
	else
		answer(rq, 200, b);
}
