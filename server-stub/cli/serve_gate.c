/*
 * What the gates of a rollout know (rollout/gate.h): looks and words from the database, approvals, who is on duty;
 * and what they answered, written down.
 */
#include "base/err.h"
#include "base/log.h"
#include "json/build.h"
#include "json/json.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/ingest/db.h"

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
static int look_inside(struct serve *s, const char *id, struct gate_memory *m)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->count; i++) {
		struct gate_look look = { .at = serve_now(s), .said = GATE_PASS };
		char text[GATE_TEXT] = "no stage comes after this one";

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

static int remember(struct serve *s, const char *id, struct gate_memory *m)
{
	int r;

	for (size_t i = 0; i < m->plan->gate_count; i++)
		if (m->plan->gates[i].stage == GATE_EVERY_STAGE || m->plan->gates[i].stage == m->position)
			m->facts[m->count++] = (struct gate_facts){ .gate = i };
	r = db_gates(s->db, id, m->position, take_gate, m);
	if (r == 0 && m->count > 0)
		r = db_gate_looks(s->db, id, m->position, take_look, m);
	if (r == 0)
		r = look_inside(s, id, m);
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
	r = remember(s, id, m);
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
		       const struct schedule_gate *g, const struct gate_facts *f)
{
	CLEANUP(buf_done)
	struct buf data = BUF_INIT(SERVE_TEXT_MAX);
	int r = write_data(f, &data);

	if (r < 0)
		return r;
	return db_gate_answered(s->db,
				&(struct db_gate_answer){ .rollout = id,
							  .position = position,
							  .gate = gate,
							  .at = serve_now(s),
							  .verdict = gate_verdict_name(g->answer.verdict),
							  .text = g->answer.text,
							  .data = f && f->look_count ? buf_str(&data) : NULL });
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

int gates_note(struct serve *s, const char *id, const struct evaluation *e)
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

		if (!asked->asked)
			continue;
		if (first || person)
			r = db_gate_due(s->db, id, position, g->name, first ? serve_now(s) : 0,
					person ? serve_now(s) : 0);
		if (r == 0 && person)
			r = note_question(s, id, e, g, asked);
		if (r == 0)
			r = note_answer(s, id, position, g->name, asked, f);
	}
	for (unsigned b = 0; r == 0 && b < BUILT_IN_COUNT; b++)
		if (d->built_in[b].asked)
			r = note_answer(s, id, position, schedule_built_in_name(b), &d->built_in[b], NULL);
	return r;
}
