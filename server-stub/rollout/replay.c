#include "server-stub/rollout/replay.h"

#include "base/err.h"
#include "base/text.h"
#include "json/build.h"
#include "json/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 32 * 1024 * 1024, VALUES_MAX = 1000000, MEMBER_VALUES = 7 };

static const struct json_limits limits = { TEXT_MAX, 8, VALUES_MAX };

int replay_write(const struct schedule_input *in, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b), *list, *row;

	node_string(o, "state", rollout_state_name(in->state));
	node_integer(o, "now", in->now);
	list = node_array(o, "stages");
	for (size_t k = 0; k < in->plan->stage_count; k++) {
		row = node_array(list, NULL);
		node_bool(row, NULL, in->stages[k].open);
		node_integer(row, NULL, in->stages[k].opened_at);
		node_integer(row, NULL, (int64_t) in->stages[k].selected);
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
	}
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
		int64_t opened = 0, selected = 0;

		if (!json_integer(json_at(row, 1), &opened) || !json_integer(json_at(row, 2), &selected) ||
		    selected < 0)
			return -ERR_FIELD_TYPE;
		stages[k] =
			(struct schedule_stage){ json_bool(json_at(row, 0), false), opened, (size_t) selected };
	}
	return 0;
}

static int read_member(const struct json *row, size_t stage_count, struct schedule_member *m)
{
	int64_t stage = 0;
	int state = member_state_parse(json_string(json_at(row, 2)));

	if (json_count(row) != MEMBER_VALUES || !json_integer(json_at(row, 1), &stage) ||
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
	return 0;
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
	if (r < 0) {
		replay_done(&out);
		return r;
	}
	*ret = out;
	ret->input = (struct schedule_input){ .plan = plan,
					      .state = (enum rollout_state) state,
					      .stages = ret->stages,
					      .members = ret->members,
					      .member_count = json_count(members),
					      .now = now };
	return 0;
}

void replay_done(struct replay *r)
{
	free(r->members);
	json_free(r->doc);
	*r = (struct replay){ .doc = NULL };
}
