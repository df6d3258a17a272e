#include "server-stub/rollout/replay.h"

#include "base/err.h"
#include "base/text.h"
#include "json/build.h"
#include "json/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 32 * 1024 * 1024, VALUES_MAX = 1000000, MEMBER_VALUES = 12, MEMBER_VALUES_FIRST = 7 };

static const struct json_limits limits = { TEXT_MAX, 8, VALUES_MAX };

/* JSON as we read it has no fractions, and no number beyond 2^53. */
static void write_number(struct json_node *row, double value)
{
	char text[32];

	gate_number(text, value);
	node_string(row, NULL, text);
}

static void write_look(const struct gate_look *l, struct json_node *row)
{
	node_integer(row, NULL, l->at);
	node_string(row, NULL, gate_verdict_name(l->said));
	write_number(row, l->low);
	write_number(row, l->high);
	node_integer(row, NULL, (int64_t) l->samples);
	node_integer(row, NULL, l->since);
	node_string(row, NULL, l->text ? l->text : "");
}

static void write_gates(const struct schedule_input *in, struct json_node *o)
{
	struct json_node *list, *row, *looks;

	if (in->duty.known) {
		row = node_object(o, "duty");
		node_integer(row, "from", in->duty.from);
		node_integer(row, "until", in->duty.until);
	}
	node_integer(o, "waived", (int64_t) in->waived);
	list = node_array(o, "gates");
	for (size_t i = 0; i < in->gate_count; i++) {
		const struct gate_facts *f = &in->gates[i];

		row = node_object(list, NULL);
		node_integer(row, "gate", (int64_t) f->gate);
		node_integer(row, "due_at", f->due_at);
		node_integer(row, "asked_at", f->asked_at);
		if (f->word != GATE_NO_WORD) {
			node_string(row, "word", gate_word_name(f->word));
			node_integer(row, "word_at", f->word_at);
			node_string(row, "by", f->word_by ? f->word_by : "");
			node_string(row, "reason", f->word_reason ? f->word_reason : "");
		}
		looks = node_array(row, "looks");
		for (size_t k = 0; k < f->look_count; k++)
			write_look(&f->looks[k], node_array(looks, NULL));
	}
}

int replay_write(const struct schedule_input *in, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b), *list, *row;

	node_string(o, "state", rollout_state_name(in->state));
	node_integer(o, "now", in->now);
	node_integer(o, "listens_since", in->listens_since);
	node_integer(o, "clock_set_at", in->clock_set_at);
	list = node_array(o, "stages");
	for (size_t k = 0; k < in->plan->stage_count; k++) {
		row = node_array(list, NULL);
		node_bool(row, NULL, in->stages[k].open);
		node_integer(row, NULL, in->stages[k].opened_at);
		node_integer(row, NULL, (int64_t) in->stages[k].selected);
		node_integer(row, NULL, in->stages[k].opens_at);
	}
	/* Rows, not objects: there is one for each node, and this is kept. */
	list = node_array(o, "members");
	for (size_t i = 0; i < in->member_count; i++) {
		const struct schedule_member *m = &in->members[i];

		row = node_array(list, NULL);
		node_string(row, NULL, m->node);
		node_integer(row, NULL, (int64_t) m->stage);
		node_string(row, NULL, member_state_name(m->state));
		node_bool(row, NULL, m->silent);
		node_integer(row, NULL, m->since);
		node_integer(row, NULL, m->added_at);
		node_string(row, NULL, m->detail ? m->detail : "");
		node_integer(row, NULL, m->heard_at);
		node_string(row, NULL, m->failing ? m->failing : "");
		node_integer(row, NULL, m->failing_at);
		node_string(row, NULL, m->degraded ? m->degraded : "");
		node_integer(row, NULL, (int64_t) m->restarts);
	}
	write_gates(in, o);
	return json_build_text(b, false, out);
}

static int member_state_parse(const char *name)
{
	for (int s = 0; s < MEMBER_STATE_COUNT; s++)
		if (str_eq(name, member_state_name((enum member_state) s)))
			return s;
	return -1;
}

static int read_stages(const struct json *list, size_t count, struct schedule_stage *stages)
{
	if (json_count(list) != count)
		return -ERR_FIELD_VALUE;
	for (size_t k = 0; k < count; k++) {
		const struct json *row = json_at(list, k);
		int64_t opened = 0, selected = 0, opens = 0;

		if (!json_integer(json_at(row, 1), &opened) || !json_integer(json_at(row, 2), &selected) ||
		    selected < 0)
			return -ERR_FIELD_TYPE;
		/* What was kept before there were zones has no such moment. */
		if (json_count(row) > 3 && !json_integer(json_at(row, 3), &opens))
			return -ERR_FIELD_TYPE;
		stages[k] = (struct schedule_stage){ json_bool(json_at(row, 0), false), opened, (size_t) selected,
						     opens };
	}
	return 0;
}

static const char *text_or_none(const struct json *j)
{
	const char *text = json_string(j);

	return text && text[0] ? text : NULL;
}

static int read_health(const struct json *row, struct schedule_member *m)
{
	int64_t restarts = 0;

	if (!json_integer(json_at(row, 7), &m->heard_at) || !json_integer(json_at(row, 9), &m->failing_at) ||
	    !json_integer(json_at(row, 11), &restarts) || restarts < 0)
		return -ERR_FIELD_TYPE;
	m->failing = text_or_none(json_at(row, 8));
	m->degraded = text_or_none(json_at(row, 10));
	m->restarts = (uint64_t) restarts;
	return 0;
}

static int read_member(const struct json *row, size_t stage_count, struct schedule_member *m)
{
	int64_t stage = 0;
	int state = member_state_parse(json_string(json_at(row, 2)));

	if (json_count(row) < MEMBER_VALUES_FIRST || !json_integer(json_at(row, 1), &stage) ||
	    !json_integer(json_at(row, 4), &m->since) || !json_integer(json_at(row, 5), &m->added_at))
		return -ERR_FIELD_TYPE;
	m->node = json_string(json_at(row, 0));
	m->detail = json_string(json_at(row, 6));
	if (!m->node || !m->detail || state < 0 || stage < 0 || (uint64_t) stage >= stage_count)
		return -ERR_FIELD_VALUE;
	m->stage = (size_t) stage;
	m->state = (enum member_state) state;
	m->silent = json_bool(json_at(row, 3), false);
	if (!m->detail[0])
		m->detail = NULL;
	return json_count(row) < MEMBER_VALUES ? 0 : read_health(row, m);
}

static int read_look(const struct json *row, struct gate_look *l)
{
	int64_t samples = 0;
	int said = gate_verdict_parse(json_string(json_at(row, 1)));

	if (said < 0 || !json_integer(json_at(row, 0), &l->at) ||
	    !gate_parse_number(json_string(json_at(row, 2)), &l->low) ||
	    !gate_parse_number(json_string(json_at(row, 3)), &l->high) ||
	    !json_integer(json_at(row, 4), &samples) || samples < 0 || !json_integer(json_at(row, 5), &l->since))
		return -ERR_FIELD_VALUE;
	l->said = (enum gate_verdict) said;
	l->samples = (uint64_t) samples;
	l->text = json_string(json_at(row, 6));
	return 0;
}

static int read_gate(const struct json *o, const struct plan *plan, struct gate_facts *f, struct gate_look *looks)
{
	const struct json *list = json_get(o, "looks");
	const char *word = json_string(json_get(o, "word"));
	int64_t gate = -1;
	int spoken = word ? gate_word_parse(word) : GATE_NO_WORD, r = 0;

	if (!json_integer(json_get(o, "gate"), &gate) || gate < 0 || (uint64_t) gate >= plan->gate_count ||
	    !json_integer(json_get(o, "due_at"), &f->due_at) ||
	    !json_integer(json_get(o, "asked_at"), &f->asked_at) || spoken < 0)
		return -ERR_FIELD_VALUE;
	f->gate = (size_t) gate;
	f->word = (enum gate_word) spoken;
	(void) json_integer(json_get(o, "word_at"), &f->word_at); /* only with a word */
	f->word_by = text_or_none(json_get(o, "by"));
	f->word_reason = text_or_none(json_get(o, "reason"));
	f->looks = looks;
	f->look_count = json_count(list);
	for (size_t i = 0; r == 0 && i < f->look_count; i++)
		r = read_look(json_at(list, i), &looks[i]);
	return r;
}

/* None of it was there at first. */
static int read_gates(const struct json *doc, const struct plan *plan, struct replay *ret)
{
	const struct json *list = json_get(doc, "gates"), *duty = json_get(doc, "duty");
	size_t looks = 0;
	int64_t waived = 0;
	int r = 0;

	(void) json_integer(json_get(doc, "waived"), &waived); /* 0 without */
	ret->input.waived = (unsigned) waived;
	ret->input.duty.known = duty != NULL;
	if (duty && (!json_integer(json_get(duty, "from"), &ret->input.duty.from) ||
		     !json_integer(json_get(duty, "until"), &ret->input.duty.until)))
		return -ERR_FIELD_TYPE;
	if (json_count(list) > GATES_MAX)
		return -ERR_FIELD_VALUE;
	for (size_t i = 0; i < json_count(list); i++)
		looks += json_count(json_get(json_at(list, i), "looks"));
	ret->looks = calloc(looks + 1, sizeof(*ret->looks));
	if (!ret->looks)
		return -ENOMEM;
	looks = 0;
	for (size_t i = 0; r == 0 && i < json_count(list); i++) {
		r = read_gate(json_at(list, i), plan, &ret->gates[i], ret->looks + looks);
		looks += ret->gates[i].look_count;
	}
	ret->input.gate_count = json_count(list);
	return r;
}

int replay_read(const void *text, size_t len, const struct plan *plan, struct replay *ret)
{
	struct replay out = { .doc = NULL };
	const struct json *members;
	int64_t now = 0;
	int state, r = json_parse(text, len, &limits, &out.doc);

	if (r < 0)
		return r;
	state = rollout_state_parse(json_string(json_get(out.doc, "state")));
	members = json_get(out.doc, "members");
	if (state < 0 || !json_integer(json_get(out.doc, "now"), &now) || !json_is(members, JSON_ARRAY))
		r = -ERR_FIELD_TYPE;
	if (r == 0)
		r = read_stages(json_get(out.doc, "stages"), plan->stage_count, out.stages);
	if (r == 0) {
		out.members = calloc(json_count(members) + 1, sizeof(*out.members));
		r = out.members ? 0 : -ENOMEM;
	}
	for (size_t i = 0; r == 0 && i < json_count(members); i++)
		r = read_member(json_at(members, i), plan->stage_count, &out.members[i]);
	if (r == 0)
		r = read_gates(out.doc, plan, &out);
	if (r < 0) {
		replay_done(&out);
		return r;
	}
	*ret = out;
	/* 0 in what was kept before they were. */
	(void) json_integer(json_get(out.doc, "listens_since"), &ret->input.listens_since);
	(void) json_integer(json_get(out.doc, "clock_set_at"), &ret->input.clock_set_at);
	ret->input.plan = plan;
	ret->input.state = (enum rollout_state) state;
	ret->input.stages = ret->stages;
	ret->input.members = ret->members;
	ret->input.member_count = json_count(members);
	ret->input.now = now;
	ret->input.gates = ret->gates;
	return 0;
}

void replay_done(struct replay *r)
{
	free(r->members);
	free(r->looks);
	json_free(r->doc);
	*r = (struct replay){ .doc = NULL };
}
