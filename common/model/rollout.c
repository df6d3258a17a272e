#include "model/rollout.h"

#include "base/err.h"
#include "base/version.h"
#include "json/build.h"
#include "json/json.h"
#include "model/field.h"
#include "model/write.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const kind_names[ROLLOUT_KIND_COUNT] = {
	[ROLLOUT_REGULAR] = "regular", [ROLLOUT_PATCH] = "patch", [ROLLOUT_DOWNGRADE] = "downgrade"
};
static const char *const state_names[ROLLOUT_STATE_COUNT] = { [ROLLOUT_RUNNING] = "running",
							      [ROLLOUT_PAUSED] = "paused",
							      [ROLLOUT_HALTED] = "halted",
							      [ROLLOUT_DONE] = "done",
							      [ROLLOUT_CANCELLED] = "cancelled" };

/* What must[] may name. */
static const char *const known_fields[] = { "format",	 "id",	     "seq",    "component",  "release",
					    "with",	 "kind",     "state",  "undo",	     "stages",
					    "window",	 "blackout", "notice", "disruption", "spread",
					    "overrides", "deadline", "must",   "opened",     NULL };

static int find_name(const char *const *names, int count, const char *name)
{
	for (int i = 0; i < count; i++)
		if (str_eq(names[i], name))
			return i;
	return -1;
}

const char *rollout_kind_name(enum rollout_kind k)
{
	return (unsigned) k < ROLLOUT_KIND_COUNT ? kind_names[k] : "unknown";
}

const char *rollout_state_name(enum rollout_state s)
{
	return (unsigned) s < ROLLOUT_STATE_COUNT ? state_names[s] : "unknown";
}

int rollout_kind_parse(const char *name)
{
	return find_name(kind_names, ROLLOUT_KIND_COUNT, name);
}

int rollout_state_parse(const char *name)
{
	return find_name(state_names, ROLLOUT_STATE_COUNT, name);
}

uint64_t share_of_digest(const uint8_t digest[static SHA256_BYTES])
{
	uint64_t v = 0;

	for (int i = 0; i < 8; i++)
		v = v << 8 | digest[i];
	return v % SHARE_ALL;
}

bool stage_selects(const struct stage *s, const char *node, const struct labels *labels, uint64_t share)
{
	if (s->by_nodes)
		return string_list_has(&s->nodes, node);
	return share < s->share && labels_match(&s->labels, labels);
}

/* --- parsing --- */

/* <component>/<version>/release.json, taken apart. */
static void take_path_apart(struct fields *f, struct release_ref *ret)
{
	const char *slash = strchr(ret->path, '/'), *last = strrchr(ret->path, '/');
	char *component, *version;

	if (!slash || last == slash || strcmp(last, "/release.json") != 0) {
		field_fail(f, -ERR_FIELD_VALUE, "path", "must be <component>/<version>/release.json");
		return;
	}
	component = strndup(ret->path, (size_t) (slash - ret->path));
	version = strndup(slash + 1, (size_t) (last - slash - 1));
	if (!component || !version)
		field_fail(f, -ENOMEM, NULL, "out of memory");
	else if (!guard_id(component) || !version_is_valid(version))
		field_fail(f, -ERR_FIELD_VALUE, "path", "must be <component>/<version>/release.json");
	ret->component = component;
	ret->version = version;
}

static void parse_release_ref(struct fields *f, const char *component, struct release_ref *ret)
{
	CLEANUP(text_freep)
	char *said = field_text(f, "component", &rule_id, false);

	field_digest(f, "sha256", ret->sha256);
	ret->path = field_text(f, "path", &rule_path, true);
	if (!ret->path)
		return;
	take_path_apart(f, ret);
	if (field_ok(f) &&
	    ((component && strcmp(component, ret->component) != 0) || (said && strcmp(said, ret->component) != 0)))
		field_fail(f, -ERR_DISAGREE, "path", "must lie below the component's own folder");
}

static void parse_with(struct fields *f, struct rollout *out)
{
	size_t n = fields_count(f, "with", 0, ROLLOUT_WITH_MAX);

	out->with = field_alloc(f, n, sizeof(*out->with));
	for (size_t i = 0; i < n && field_ok(f); i++) {
		struct fields w = field_element(f, "with", i);
		const struct release_ref *twin;

		parse_release_ref(&w, NULL, &out->with[i]);
		twin = field_ok(f) ? rollout_release(out, out->with[i].component) : NULL;
		out->with_count++;
		if (twin)
			field_fail(&w, -ERR_FIELD_VALUE, "path", "names a component twice");
	}
}

/* The stage without what opening and approving it changes. */
static struct json *bare_of(struct fields *s)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ROLLOUT_MAX_BYTES * 2);
	struct json *bare = NULL;
	int r;

	if (!field_ok(s))
		return NULL;
	for (size_t i = 0; i < json_count(s->object); i++) {
		const char *name = json_name_at(s->object, i);

		if (strcmp(name, "open") != 0 && strcmp(name, "approvals") != 0)
			node_copy(json_build_root(b), name, json_at(s->object, i));
	}
	r = json_build_text(b, false, &text);
	if (r == 0)
		r = json_parse(text.data, text.len, &json_limits_default, &bare);
	if (r < 0)
		field_fail(s, r, NULL, "cannot be copied");
	return bare;
}

static void parse_select(struct fields *stage, struct stage *ret)
{
	struct fields s = field_object(stage, "select", true);

	ret->by_nodes = field_has(&s, "nodes");
	ret->share = SHARE_ALL;
	if (ret->by_nodes && (field_has(&s, "labels") || field_has(&s, "share")))
		field_fail(&s, -ERR_FIELD_VALUE, NULL, "has nodes, or labels and share, not both");
	field_text_list(&s, "nodes", &rule_id, 0, ROLLOUT_NODES_MAX, &ret->nodes);
	field_labels(&s, "labels", &ret->labels);
	ret->share = field_u64(&s, "share", 0, SHARE_ALL, SHARE_ALL);
}

static void parse_stages(struct fields *f, struct rollout *out)
{
	size_t n = fields_count(f, "stages", 1, ROLLOUT_STAGES_MAX);

	out->stages = field_alloc(f, n, sizeof(*out->stages));
	for (size_t i = 0; i < n && field_ok(f); i++) {
		struct fields s = field_element(f, "stages", i);
		struct stage *stage = &out->stages[out->stage_count++];

		stage->name = field_text(&s, "name", &rule_id, true);
		parse_select(&s, stage);
		stage->open = field_bool(&s, "open", false);
		stage->approvals = field_copy(&s, "approvals", JSON_ARRAY);
		stage->bare = bare_of(&s);
		for (size_t k = 0; k < i && field_ok(f); k++)
			if (strcmp(out->stages[k].name, stage->name) == 0)
				field_fail(&s, -ERR_FIELD_VALUE, "name", "stands twice");
	}
}

/*
 * When each open stage was opened: beside the stages and not in them, as what stands in a stage is part of what
 * approvals sign.
 */
static void parse_opened(struct fields *f, struct rollout *out)
{
	struct fields o = field_object(f, "opened", false);

	for (size_t i = 0; i < out->stage_count && field_ok(f); i++)
		out->stages[i].opened_at = field_time(&o, out->stages[i].name, false);
}

static void parse_limits(struct fields *f, struct rollout *out)
{
	struct fields d = field_object(f, "disruption", false);

	out->window = field_copy(f, "window", JSON_STRING);
	out->blackout = field_copy(f, "blackout", JSON_ARRAY);
	out->notice_s = field_u64(f, "notice", 0, FIELD_SECONDS_MAX, 0);
	out->spread_s = field_u64(f, "spread", 0, FIELD_SECONDS_MAX, 0);
	if (field_has(f, "disruption")) {
		out->disruption.label = field_text(&d, "label", &rule_word, true);
		out->disruption.maximum = field_need_u64(&d, "maximum", 1, 1000 * 1000);
	}
	field_text_list(f, "overrides", &rule_id, 0, ROLLOUT_OVERRIDES_MAX, &out->overrides);
	out->deadline = field_time(f, "deadline", false);
}

int rollout_parse(const struct json *doc, struct rollout *ret, char **ret_error)
{
	struct field_error error = { 0 };
	struct fields f = fields_of(doc, &error), release;
	struct rollout out = { 0 };

	field_format(&f, ROLLOUT_FORMAT, known_fields);
	out.id = field_text(&f, "id", &rule_id, true);
	out.seq = field_need_u64(&f, "seq", 1, INT64_C(1) << 52);
	out.component = field_text(&f, "component", &rule_id, true);
	release = field_object(&f, "release", true);
	parse_release_ref(&release, out.component, &out.release);
	parse_with(&f, &out);
	out.kind = (enum rollout_kind) field_choice(&f, "kind", kind_names, ROLLOUT_KIND_COUNT, -1);
	out.state = (enum rollout_state) field_choice(&f, "state", state_names, ROLLOUT_STATE_COUNT, -1);
	field_text_list(&f, "undo", &rule_id, 0, ROLLOUT_STAGES_MAX, &out.undo);
	parse_stages(&f, &out);
	parse_opened(&f, &out);
	parse_limits(&f, &out);
	if (error.r < 0) {
		rollout_done(&out);
		return field_error_take(&error, ret_error);
	}
	*ret = out;
	return 0;
}

static void release_ref_done(struct release_ref *r)
{
	free(r->component);
	free(r->version);
	free(r->path);
}

void rollout_done(struct rollout *r)
{
	if (!r)
		return;
	free(r->id);
	free(r->component);
	release_ref_done(&r->release);
	for (size_t i = 0; i < r->with_count; i++)
		release_ref_done(&r->with[i]);
	free(r->with);
	string_list_done(&r->undo);
	for (size_t i = 0; i < r->stage_count; i++) {
		free(r->stages[i].name);
		string_list_done(&r->stages[i].nodes);
		labels_done(&r->stages[i].labels);
		json_free(r->stages[i].approvals);
		json_free(r->stages[i].bare);
	}
	free(r->stages);
	json_free(r->window);
	json_free(r->blackout);
	free(r->disruption.label);
	string_list_done(&r->overrides);
	*r = (struct rollout){ 0 };
}

const struct release_ref *rollout_release(const struct rollout *r, const char *component)
{
	if (str_eq(r->release.component, component))
		return &r->release;
	for (size_t i = 0; i < r->with_count; i++)
		if (str_eq(r->with[i].component, component))
			return &r->with[i];
	return NULL;
}

/* --- writing --- */

static void write_release_ref(struct json_node *o, const struct release_ref *ref)
{
	node_string(o, "component", ref->component);
	node_string(o, "path", ref->path);
	write_digest(o, "sha256", ref->sha256);
}

/* What the stage says when nobody has said it in JSON before. */
static void write_select(struct json_node *o, const struct stage *s)
{
	struct json_node *select;

	node_string(o, "name", s->name);
	select = node_object(o, "select");
	if (s->by_nodes) {
		write_list(select, "nodes", &s->nodes);
		return;
	}
	labels_write(&s->labels, select, "labels");
	write_u64(select, "share", s->share);
}

static void write_stage(struct json_node *o, const struct stage *s)
{
	/* An approval signs the bare stage: every member of it must survive, also those we do not know. */
	if (s->bare)
		for (size_t i = 0; i < json_count(s->bare); i++)
			node_copy(o, json_name_at(s->bare, i), json_at(s->bare, i));
	else
		write_select(o, s);
	node_bool(o, "open", s->open);
	if (s->approvals)
		node_copy(o, "approvals", s->approvals);
}

static void write_opened(struct json_node *object, const struct rollout *r)
{
	struct json_node *o = NULL;

	for (size_t i = 0; i < r->stage_count; i++)
		if (r->stages[i].open && r->stages[i].opened_at > 0) {
			o = o ? o : node_object(object, "opened");
			write_time(o, r->stages[i].name, r->stages[i].opened_at);
		}
}

static void write_limits(struct json_node *object, const struct rollout *r)
{
	struct json_node *d;

	if (r->window)
		node_copy(object, "window", r->window);
	if (r->blackout)
		node_copy(object, "blackout", r->blackout);
	if (r->notice_s > 0)
		write_u64(object, "notice", r->notice_s);
	if (r->spread_s > 0)
		write_u64(object, "spread", r->spread_s);
	if (r->disruption.label) {
		d = node_object(object, "disruption");
		node_string(d, "label", r->disruption.label);
		write_u64(d, "maximum", r->disruption.maximum);
	}
	write_list(object, "overrides", &r->overrides);
	if (r->deadline != 0)
		write_time(object, "deadline", r->deadline);
}

int rollout_write(const struct rollout *r, struct json_node *object)
{
	struct json_node *list;

	if (!r->id || !r->component || !r->release.path || r->stage_count == 0)
		return -ERR_FIELD_MISSING;
	node_integer(object, "format", ROLLOUT_FORMAT);
	node_string(object, "id", r->id);
	write_u64(object, "seq", r->seq);
	node_string(object, "component", r->component);
	write_release_ref(node_object(object, "release"), &r->release);
	list = node_array(object, "with");
	for (size_t i = 0; i < r->with_count; i++)
		write_release_ref(node_object(list, NULL), &r->with[i]);
	node_string(object, "kind", rollout_kind_name(r->kind));
	node_string(object, "state", rollout_state_name(r->state));
	write_list(object, "undo", &r->undo);
	list = node_array(object, "stages");
	for (size_t i = 0; i < r->stage_count; i++)
		write_stage(node_object(list, NULL), &r->stages[i]);
	write_opened(object, r);
	write_limits(object, r);
	return 0;
}
