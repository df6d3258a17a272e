/*
 * GET /v1/rollouts/<id>/explain?at=TIME: the decision of then, made again by the same pure function from what it was
 * given (rollout/replay.h), and the nodes it was about.
 */
#include "base/err.h"
#include "base/timestamp.h"
#include "conf/conf.h"
#include "json/build.h"
#include "json/json.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/cli/serve_handlers.h"
#include "server-stub/ingest/db_gates.h"
#include "server-stub/ingest/db_rollouts.h"
#include "server-stub/rollout/replay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct explained {
	const char *id;
	int64_t at;
	struct plan plan;
	char *plan_json;
	bool has_plan, is_running;
	struct json_node *o, *answers;
};

static int read_its_plan(void *user, const struct db_rollout *row)
{
	struct explained *x = user;
	struct conf_error error;
	int r = plan_parse(row->plan, strlen(row->plan), "plan", &x->plan, &error);

	x->has_plan = r == 0;
	x->is_running = strcmp(row->state, "running") == 0;
	x->plan_json = strdup(row->plan);
	if (!x->plan_json)
		return -ENOMEM;
	node_string(x->o, "component", row->component);
	node_string(x->o, "version", row->version);
	node_string(x->o, "state_now", row->state);
	return r;
}

static void write_members(struct json_node *o, const struct schedule_input *in, size_t stage)
{
	struct json_node *list = node_array(o, "nodes");

	for (size_t i = 0; i < in->member_count; i++) {
		const struct schedule_member *m = &in->members[i];
		struct json_node *row;

		if (m->stage != stage)
			continue;
		row = node_object(list, NULL);
		node_string(row, "node", m->node);
		node_string(row, "state", member_state_name(m->state));
		node_bool(row, "silent", m->silent);
		node_time(row, "good_since", m->since);
		node_time(row, "added", m->added_at);
		node_string(row, "detail", m->detail);
	}
}

static void write_gate(struct json_node *list, const char *name, const char *kind, const struct schedule_gate *g,
		       const struct gate_facts *f)
{
	struct json_node *o, *looks;

	if (!g->asked)
		return;
	o = node_object(list, NULL);
	node_string(o, "name", name);
	node_string(o, "kind", kind);
	node_string(o, "verdict", gate_verdict_name(g->answer.verdict));
	node_bool(o, "due", g->due);
	node_string(o, "text", g->answer.text);
	if (!f)
		return;
	node_time(o, "asked_person", f->asked_at);
	looks = node_array(o, "looks");
	for (size_t i = 0; i < f->look_count; i++) {
		const struct gate_look *l = &f->looks[i];
		struct json_node *row = node_object(looks, NULL);
		char low[32], high[32];

		gate_number(low, l->low);
		gate_number(high, l->high);
		node_time(row, "at", l->at);
		node_string(row, "said", gate_verdict_name(l->said));
		node_string(row, "low", low);
		node_string(row, "high", high);
		node_integer(row, "samples", (int64_t) l->samples);
		node_string(row, "text", l->text);
	}
}

/* Every gate's answer, and what it judged. */
static void write_gates(struct json_node *o, const struct schedule_input *in, const struct schedule_decision *d)
{
	struct json_node *list = node_array(o, "gates");

	for (unsigned b = 0; b < BUILT_IN_COUNT; b++)
		write_gate(list, schedule_built_in_name(b), "built-in", &d->built_in[b], NULL);
	for (size_t i = 0; i < in->plan->gate_count; i++) {
		const struct gate_facts *f = NULL;

		for (size_t k = 0; k < in->gate_count; k++)
			f = in->gates[k].gate == i ? &in->gates[k] : f;
		write_gate(list, in->plan->gates[i].name, gate_kind_name(in->plan->gates[i].kind), &d->gates[i],
			   f);
	}
}

static int write_answer(void *user, const struct db_gate_answer *row)
{
	struct explained *x = user;
	struct json_node *o = node_object(x->answers, NULL);

	node_time(o, "at", row->at);
	node_string(o, "stage", row->position < x->plan.stage_count ? x->plan.stages[row->position].name : NULL);
	node_string(o, "gate", row->gate);
	node_string(o, "verdict", row->verdict);
	node_string(o, "text", row->text);
	return row->data ? node_json(o, "data", row->data) : 0;
}

static const char *action_name(enum schedule_action a)
{
	static const char *const names[] = { [SCHEDULE_NOTHING] = "wait",
					     [SCHEDULE_OPEN] = "open",
					     [SCHEDULE_HALT] = "halt",
					     [SCHEDULE_PAUSE] = "pause",
					     [SCHEDULE_DONE] = "done" };

	return names[a];
}

static void write_decision(struct explained *x, const struct schedule_input *in, const struct schedule_decision *d)
{
	node_string(x->o, "action", action_name(d->action));
	node_string(x->o, "why", d->why);
	node_string(x->o, "stage", x->plan.stages[d->stage].name);
	node_time(x->o, "wake_at", d->wake_at);
	write_gates(x->o, in, d);
	/* A stage that opens does so for the one before it. */
	write_members(x->o, in, d->action == SCHEDULE_OPEN && d->stage > 0 ? d->stage - 1 : d->stage);
}

/* What is decided now needs no record. */
static int decide_now(struct serve *s, struct explained *x)
{
	struct evaluation e;
	struct schedule_input in;
	int r = evaluation_make(s, x->id, ROLLOUT_RUNNING, x->plan_json, &e);

	if (r < 0)
		return r;
	r = evaluation_input(&e, ROLLOUT_RUNNING, x->at, &in);
	if (r == 0) {
		node_time(x->o, "recorded", x->at);
		node_string(x->o, "recorded_action", action_name(e.decision.action));
		node_string(x->o, "recorded_why", e.decision.why);
		write_decision(x, &in, &e.decision);
		free((void *) (uintptr_t) in.members);
	}
	evaluation_done(&e);
	return r;
}

static int replay(void *user, const struct db_decision *row)
{
	struct explained *x = user;
	struct replay past;
	struct schedule_decision d;
	int r = replay_read(row->input, strlen(row->input), &x->plan, &past);

	if (r < 0)
		return r;
	node_time(x->o, "recorded", row->at);
	node_string(x->o, "recorded_action", row->action);
	node_string(x->o, "recorded_why", row->why);
	/* Nothing that counts was reported between the record and then. */
	past.input.now = x->at;
	schedule(&past.input, &d);
	write_decision(x, &past.input, &d);
	replay_done(&past);
	return 0;
}

void explain_get(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct serve *s = user;
	struct explained x = { .id = id_arg(rq, 0, "rollout"), .at = serve_now(s), .o = json_build_root(b) };
	const char *at = web_query(rq, "at");
	int r;

	if (!x.id)
		return;
	if (at && timestamp_parse(at, &x.at) < 0) {
		web_fail(rq, 400, "?at= is a time like 2026-11-21T18:00:00Z");
		return;
	}
	node_string(x.o, "id", x.id);
	node_time(x.o, "at", x.at);
	r = db_rollouts(s->db, x.id, read_its_plan, &x);
	if (r == -ENOENT) {
		web_fail(rq, 404, "there is no rollout '%s'; selfright rollout list shows all", x.id);
		return;
	}
	if (r == 0)
		r = !at && x.is_running ? decide_now(s, &x) : db_decision_at(s->db, x.id, x.at, replay, &x);
	if (r == 0) {
		x.answers = node_array(x.o, "answers");
		r = db_gate_answers(s->db, x.id, x.at, write_answer, &x);
	}
	if (r == -ENOENT)
		web_fail(rq, 404, "nothing was decided about '%s' before then, or it is not kept any more", x.id);
	else if (r < 0)
		fail_database(s, rq, r);
	else
		answer(rq, 200, b);
	free(x.plan_json);
	if (x.has_plan)
		plan_done(&x.plan);
}
