/*
 * What the gates of a rollout know (rollout/gate.h): looks and words from the database, approvals, who is on duty;
 * and what they answered, written down.
 */
#include "base/err.h"
#include "base/log.h"
#include "conf/conf.h"
#include "json/build.h"
#include "json/json.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/cli/serve_handlers.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_gates.h"
#include "server-stub/ingest/db_rollouts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct gate_memory {
	struct gate_facts facts[GATES_MAX];
	size_t count, position;
	struct gate_look *looks;
	size_t look_count, look_capacity;
	size_t first[GATES_MAX]; /* of the gate's looks */
	bool fresh[GATES_MAX]; /* its newest look was made with this question, and is not in the database yet */
	char **texts;
	size_t text_count, text_capacity;
	struct gate_duty duty;
	unsigned waived;
	const struct plan *plan;
};

void gates_forget(struct gate_memory *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->text_count; i++)
		free(m->texts[i]);
	free(m->texts);
	free(m->looks);
	free(m);
}

static int keep_text(struct gate_memory *m, const char *text, const char **ret)
{
	if (m->text_count == m->text_capacity) {
		size_t capacity = m->text_capacity ? 2 * m->text_capacity : 32;
		void *texts = realloc(m->texts, capacity * sizeof(*m->texts));

		if (!texts)
			return -ENOMEM;
		m->texts = texts;
		m->text_capacity = capacity;
	}
	m->texts[m->text_count] = strdup(text ? text : "");
	if (!m->texts[m->text_count])
		return -ENOMEM;
	*ret = m->texts[m->text_count++];
	return 0;
}

/* The gate of this name that is asked in the stage; NULL: none. */
static struct gate_facts *find_facts(struct gate_memory *m, const char *name)
{
	for (size_t i = 0; i < m->count; i++)
		if (strcmp(m->plan->gates[m->facts[i].gate].name, name) == 0)
			return &m->facts[i];
	return NULL;
}

static int add_look(struct gate_memory *m, struct gate_facts *f, const struct gate_look *look, const char *text)
{
	struct gate_look *l;
	int r;

	if (m->look_count == m->look_capacity) {
		size_t capacity = m->look_capacity ? 2 * m->look_capacity : 64;
		void *looks = realloc(m->looks, capacity * sizeof(*m->looks));

		if (!looks)
			return -ENOMEM;
		m->looks = looks;
		m->look_capacity = capacity;
	}
	l = &m->looks[m->look_count];
	*l = *look;
	r = keep_text(m, text, &l->text);
	if (r < 0)
		return r;
	if (f->look_count++ == 0)
		m->first[f - m->facts] = m->look_count;
	m->look_count++;
	return 0;
}

static int take_look(void *user, const struct db_gate_look *row)
{
	struct gate_memory *m = user;
	struct gate_facts *f = find_facts(m, row->gate);
	struct gate_look look = { .at = row->at, .samples = row->samples, .since = row->since };
	int said = gate_verdict_parse(row->said);

	/* Of a gate that is not there any more; or what this program cannot have written. */
	if (!f || said < 0 || !gate_parse_number(row->low, &look.low) || !gate_parse_number(row->high, &look.high))
		return 0;
	look.said = (enum gate_verdict) said;
	return add_look(m, f, &look, row->text);
}

/* A gate's looks stand together: one that was made just now goes behind its own, before those of the gates that follow. */
static int insert_look(struct gate_memory *m, struct gate_facts *f, const struct gate_look *look, const char *text,
		       const char *data)
{
	size_t gate = (size_t) (f - m->facts), at = m->first[gate] + f->look_count;
	bool had = f->look_count > 0;
	struct gate_look l;
	int r = add_look(m, f, look, text);

	if (r == 0)
		r = keep_text(m, data, &m->looks[m->look_count - 1].data);
	if (r < 0 || !had)
		return r;
	l = m->looks[m->look_count - 1];
	memmove(&m->looks[at + 1], &m->looks[at], (m->look_count - 1 - at) * sizeof(l));
	m->looks[at] = l;
	for (size_t i = 0; i < m->count; i++)
		if (i != gate && m->facts[i].look_count > 0 && m->first[i] >= at)
			m->first[i]++;
	return 0;
}

static int look_at_metric(struct serve *s, const struct evaluation *e, struct gate_memory *m, struct gate_facts *f)
{
	CLEANUP(buf_done)
	struct buf data = BUF_INIT(SERVE_TEXT_MAX);
	const size_t gate = (size_t) (f - m->facts);
	const struct gate_look *made = m->looks + m->first[gate];
	size_t count = f->look_count;
	struct gate_look look;
	char text[GATE_TEXT];
	int r;

	/* What was seen before this stage opened (it was closed and opened again) says nothing about it. */
	for (; count > 0 && made->at < e->stages[m->position].opened_at; made++)
		count--;
	r = metrics_look(s, e, &m->plan->gates[f->gate], m->position, made, count, &look, text, &data);
	if (r <= 0)
		return r;
	m->fresh[gate] = true;
	return insert_look(m, f, &look, text, buf_str(&data));
}

static int take_gate(void *user, const struct db_gate *row)
{
	struct gate_memory *m = user;
	struct gate_facts *f = find_facts(m, row->gate);
	int word = row->word ? gate_word_parse(row->word) : GATE_NO_WORD, r;

	if (word < 0)
		return 0;
	for (unsigned b = 0; b < BUILT_IN_COUNT; b++)
		if (word == GATE_SAYS_WAIVE && strcmp(row->gate, schedule_built_in_name(b)) == 0)
			m->waived |= 1u << b;
	if (!f)
		return 0;
	f->due_at = row->due_at;
	f->asked_at = row->asked_at;
	f->word = (enum gate_word) word;
	f->word_at = row->word_at;
	r = keep_text(m, row->word_by, &f->word_by);
	return r < 0 ? r : keep_text(m, row->word_reason, &f->word_reason);
}

/* What the policies ask for in the stage that comes next: all there, or a sentence on what is missing. */
static int look_at_approvals(struct serve *s, const char *id, const char *next, struct gate_look *ret, char *text,
			     size_t size)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf all = BUF_INIT(SERVE_TEXT_MAX);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const struct json *list;
	size_t asked = 0;
	int r = approvals_show(s, id, node_array(json_build_root(b), "approvals"));

	if (r == 0)
		r = json_build_text(b, false, &all);
	if (r == 0)
		r = json_parse(all.data, all.len, &json_limits_default, &doc);
	if (r < 0)
		return r;
	ret->said = GATE_PASS;
	list = json_get(doc, "approvals");
	for (size_t i = 0; i < json_count(list); i++) {
		const struct json *o = json_at(list, i);
		int64_t valid = 0, threshold = 0;

		if (!str_eq(json_string(json_get(o, "stage")), next))
			continue;
		asked++;
		if (json_bool(json_get(o, "met"), false) || ret->said != GATE_PASS)
			continue;
		(void) json_integer(json_get(o, "valid"), &valid); /* only shown */
		(void) json_integer(json_get(o, "threshold"), &threshold); /* the same */
		ret->said = GATE_INCONCLUSIVE;
		snprintf(text, size, "stage '%s' needs the approval of %s: %lld of %lld signatures", next,
			 json_string(json_get(o, "approver")), (long long) valid, (long long) threshold);
	}
	if (ret->said == GATE_PASS)
		snprintf(text, size,
			 asked ? "every approval for stage '%s' is there"
			       : "no approval is asked for in stage '%s'",
			 next);
	return 0;
}

/* Looks that cost nothing are taken with every question. */
static int look_inside(struct serve *s, const char *id, const struct evaluation *e, struct gate_memory *m)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->count; i++) {
		struct gate_look look = { .at = serve_now(s), .said = GATE_PASS };
		char text[GATE_TEXT] = "no stage comes after this one";

		if (m->plan->gates[m->facts[i].gate].kind == GATE_METRIC)
			r = look_at_metric(s, e, m, &m->facts[i]);
		if (m->plan->gates[m->facts[i].gate].kind != GATE_APPROVALS)
			continue;
		if (m->position + 1 < m->plan->stage_count)
			r = look_at_approvals(s, id, m->plan->stages[m->position + 1].name, &look, text,
					      sizeof(text));
		if (r == 0)
			r = add_look(m, &m->facts[i], &look, text);
	}
	return r;
}

static int remember(struct serve *s, const char *id, const struct evaluation *e, struct gate_memory *m)
{
	int r;

	for (size_t i = 0; i < m->plan->gate_count; i++)
		if (m->plan->gates[i].stage == GATE_EVERY_STAGE || m->plan->gates[i].stage == m->position)
			m->facts[m->count++] = (struct gate_facts){ .gate = i };
	if (m->count > 0)
		looks_duty(s, &m->duty);
	r = db_gates(s->db, id, m->position, take_gate, m);
	if (r == 0 && m->count > 0)
		r = db_gate_looks(s->db, id, m->position, take_look, m);
	if (r == 0)
		r = look_inside(s, id, e, m);
	for (size_t i = 0; i < m->count; i++)
		m->facts[i].looks = m->looks + m->first[i]; /* the array does not move any more */
	return r;
}

int gates_remember(struct serve *s, const char *id, struct evaluation *e)
{
	struct gate_memory *m;
	size_t open = 0;
	int r;

	while (open < e->plan.stage_count && e->stages[open].open)
		open++;
	if (open == 0)
		return 0;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->plan = &e->plan;
	m->position = open - 1;
	r = remember(s, id, e, m);
	if (r < 0) {
		gates_forget(m);
		return r;
	}
	e->gates = m;
	return 0;
}

void gates_moved(struct evaluation *e)
{
	if (e->gates)
		e->gates->plan = &e->plan;
}

void gates_input(const struct evaluation *e, struct schedule_input *in)
{
	if (!e->gates)
		return;
	in->gates = e->gates->facts;
	in->gate_count = e->gates->count;
	in->duty = e->gates->duty;
	in->waived = e->gates->waived;
}

/* --- what they answered --- */

/* The facts that were judged, as they are kept beside the answer. */
static int write_data(const struct gate_facts *f, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *list = node_array(json_build_root(b), "looks");

	for (size_t i = 0; f && i < f->look_count; i++) {
		const struct gate_look *l = &f->looks[i];
		struct json_node *o = node_object(list, NULL);
		char number[32];

		node_time(o, "at", l->at);
		node_string(o, "said", gate_verdict_name(l->said));
		gate_number(number, l->low);
		node_string(o, "low", number);
		gate_number(number, l->high);
		node_string(o, "high", number);
		node_integer(o, "samples", (int64_t) l->samples);
		node_string(o, "text", l->text);
	}
	return json_build_text(b, false, out);
}

static int note_answer(struct serve *s, const char *id, size_t position, const char *gate,
		       const struct schedule_gate *g, const struct gate_facts *f, bool *ret_news)
{
	CLEANUP(buf_done)
	struct buf data = BUF_INIT(SERVE_TEXT_MAX);
	int r = write_data(f, &data);

	if (r < 0)
		return r;
	r = db_gate_answered(s->db,
			     &(struct db_gate_answer){ .rollout = id,
						       .position = position,
						       .gate = gate,
						       .at = serve_now(s),
						       .verdict = gate_verdict_name(g->answer.verdict),
						       .text = g->answer.text,
						       .data = f && f->look_count ? buf_str(&data) : NULL });
	*ret_news = *ret_news || r > 0;
	return r < 0 ? r : 0;
}

int gates_keep_look(struct serve *s, const char *id, size_t position, const char *gate, const struct gate_look *l)
{
	char low[32], high[32];

	gate_number(low, l->low);
	gate_number(high, l->high);
	return db_gate_look_add(s->db,
				&(struct db_gate_look){ .rollout = id,
							.position = position,
							.gate = gate,
							.at = l->at,
							.said = gate_verdict_name(l->said),
							.low = low,
							.high = high,
							.samples = l->samples,
							.since = l->since,
							.text = l->text,
							.data = l->data },
				GATE_LOOKS_KEPT);
}

static int note_question(struct serve *s, const char *id, const struct evaluation *e, const struct gate *g,
			 const struct schedule_gate *asked)
{
	char text[GATE_TEXT + 3 * ID_MAX];

	snprintf(text, sizeof(text), "rollout %s asks a person about the gate %s of stage %s: %s", id, g->name,
		 e->plan.stages[e->gates->position].name, asked->answer.text);
	log_notice("gate-asks", "rollout=%s stage=%s gate=%s", id, e->plan.stages[e->gates->position].name,
		   g->name);
	return serve_record(s, "gate-asks", NULL, e->plan.component, text, "controller", "ask", id);
}

int gates_note(struct serve *s, const char *id, const struct evaluation *e, bool *ret_news)
{
	const struct schedule_decision *d = &e->decision;
	size_t position;
	int r = 0;

	if (!e->gates || !d->judged)
		return 0;
	position = e->gates->position;
	for (size_t i = 0; r == 0 && i < e->gates->count; i++) {
		const struct gate_facts *f = &e->gates->facts[i];
		const struct gate *g = &e->plan.gates[f->gate];
		const struct schedule_gate *asked = &d->gates[f->gate];
		bool first = asked->due && f->due_at == 0, person = asked->answer.asks;

		if (e->gates->fresh[i]) {
			*ret_news = true;
			r = gates_keep_look(s, id, position, g->name, &f->looks[f->look_count - 1]);
		}
		if (r < 0 || !asked->asked)
			continue;
		if (first || person)
			r = db_gate_due(s->db, id, position, g->name, first ? serve_now(s) : 0,
					person ? serve_now(s) : 0);
		if (r == 0 && person)
			r = note_question(s, id, e, g, asked);
		if (r == 0)
			r = note_answer(s, id, position, g->name, asked, f, ret_news);
	}
	for (unsigned b = 0; r == 0 && b < BUILT_IN_COUNT; b++)
		if (d->built_in[b].asked)
			r = note_answer(s, id, position, schedule_built_in_name(b), &d->built_in[b], NULL,
					ret_news);
	return r;
}

int64_t gates_look(struct serve *s, const char *id, const struct evaluation *e)
{
	if (!e->gates || e->decision.action != SCHEDULE_NOTHING)
		return INT64_MAX;
	return looks_begin(s, id, e, e->gates->position, e->gates->facts, e->gates->count);
}

/* --- the word of a person --- */

struct asked {
	struct serve *serve;
	struct plan plan;
	bool has_plan;
	char component[ID_MAX + 1], state[24];
};

static int read_rollout(void *user, const struct db_rollout *row)
{
	struct asked *a = user;
	struct conf_error error;
	int r = plan_parse(row->plan, strlen(row->plan), "plan", &a->plan, &error);

	a->has_plan = r == 0;
	snprintf(a->component, sizeof(a->component), "%s", row->component);
	snprintf(a->state, sizeof(a->state), "%s", row->state);
	return r;
}

static int count_open(void *user, const struct db_stage *row)
{
	*(size_t *) user += row->open;
	return 0;
}

/* The stage that is meant: the one named, else the one that is open last. false: a complaint was sent. */
static bool find_position(struct serve *s, struct web_request *rq, const char *id, const struct asked *a,
			  const char *stage, size_t *ret)
{
	size_t open = 0;
	int r = db_stages(s->db, id, count_open, &open);

	if (r < 0) {
		fail_database(s, rq, r);
		return false;
	}
	for (size_t k = 0; stage && k < a->plan.stage_count; k++)
		if (strcmp(a->plan.stages[k].name, stage) == 0) {
			*ret = k;
			return true;
		}
	if (stage || open == 0)
		web_fail(rq, 422, stage ? "the rollout '%s' has no stage '%s'" : "no stage of '%s' is open yet%s",
			 id, stage ? stage : "");
	*ret = open - 1;
	return !stage && open > 0;
}

/* Can this be said of this gate? false: a complaint was sent. */
static bool may_say(struct web_request *rq, const struct asked *a, size_t position, const char *gate, int word)
{
	for (unsigned b = 0; b < BUILT_IN_COUNT; b++) {
		if (strcmp(gate, schedule_built_in_name(b)) != 0)
			continue;
		if (word == GATE_SAYS_WAIVE && (b == BUILT_IN_NODE_FAILURES || b == BUILT_IN_SILENT))
			return true;
		web_fail(rq, 422,
			 "of what every stage has, node-failures and silent can be waived, and nothing else");
		return false;
	}
	for (size_t i = 0; i < a->plan.gate_count; i++)
		if (strcmp(a->plan.gates[i].name, gate) == 0 &&
		    (a->plan.gates[i].stage == GATE_EVERY_STAGE || a->plan.gates[i].stage == position))
			return true;
	web_fail(rq, 422, "stage '%s' has no gate '%s'; selfright rollout explain shows all",
		 a->plan.stages[position].name, gate);
	return false;
}

static int store_word(struct serve *s, const char *id, const struct asked *a, size_t position, const char *gate,
		      const char *word, const char *reason, const char *by)
{
	char text[1600];
	int r = db_begin(s->db);

	if (r == 0)
		r = db_gate_word(s->db, id, position, gate, word, by, reason, serve_now(s));
	snprintf(text, sizeof(text), "gate %s of stage %s of rollout %s: %s says %s: %s", gate,
		 a->plan.stages[position].name, id, by, word, reason);
	if (r == 0)
		r = serve_record(s, "gate-answered", NULL, a->component, text, by, "answer", text);
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	return r;
}

static void take_word_of(struct serve *s, struct web_request *rq, const char *id, const struct asked *a,
			 const struct json *doc)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	const char *gate = json_string(json_get(doc, "gate")), *stage = json_string(json_get(doc, "stage"));
	const char *said = json_string(json_get(doc, "answer")), *reason;
	int word = said ? gate_word_parse(said) : -1, r;
	size_t position = 0;

	if (!guard_id(gate) || word <= GATE_NO_WORD) {
		web_fail(rq, 400, "'gate' is needed, the name of one, and 'answer': pass, fail or waive");
		return;
	}
	reason = text_field(rq, doc, "reason");
	if (!reason || !find_position(s, rq, id, a, stage, &position) || !may_say(rq, a, position, gate, word))
		return;
	if (strcmp(a->state, "running") != 0 && strcmp(a->state, "paused") != 0) {
		web_fail(rq, 409, "the rollout '%s' is %s: nothing is asked any more", id, a->state);
		return;
	}
	r = store_word(s, id, a, position, gate, said, reason, by_of(doc));
	if (r < 0) {
		fail_database(s, rq, r);
		return;
	}
	log_notice("gate-answered", "rollout=%s gate=%s answer=%s", id, gate, said);
	node_string(json_build_root(b), "id", id);
	node_string(json_build_root(b), "stage", a->plan.stages[position].name);
	node_string(json_build_root(b), "gate", gate);
	node_string(json_build_root(b), "answer", said);
	publish_and_answer(s, rq, 200, b);
}

void gates_post(void *user, struct web_request *rq)
{
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	const char *id = doc ? id_arg(rq, 0, "rollout") : NULL;
	struct asked a = { .serve = s };
	int r;

	if (!doc || !id)
		return;
	r = db_rollouts(s->db, id, read_rollout, &a);
	if (r == -ENOENT)
		web_fail(rq, 404, "there is no rollout '%s'; selfright rollout list shows all", id);
	else if (r < 0)
		fail_database(s, rq, r);
	else
		take_word_of(s, rq, id, &a, doc);
	if (a.has_plan)
		plan_done(&a.plan);
}
