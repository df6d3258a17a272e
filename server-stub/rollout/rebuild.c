#include "server-stub/rollout/rebuild.h"

#include "base/err.h"
#include "base/timestamp.h"
#include "conf/conf.h"
#include "json/build.h"
#include "json/json.h"
#include "server-stub/rollout/plan.h"

#include <inttypes.h>
#include <string.h>

static void write_stage(const struct stage *s, struct json_node *o)
{
	node_string(o, "name", s->name);
	if (s->by_nodes) {
		struct json_node *nodes = node_array(o, "nodes");

		for (size_t i = 0; i < s->nodes.count; i++)
			node_string(nodes, NULL, s->nodes.items[i]);
		return;
	}
	if (s->labels.count == 0 && s->share == SHARE_ALL)
		node_bool(o, "all", true);
	if (s->labels.count > 0)
		labels_write(&s->labels, o, "labels");
	if (s->share != SHARE_ALL)
		node_stringf(o, "share", "%" PRIu64 ".%02" PRIu64 "%%", s->share / 100, s->share % 100);
}

static void write_limits(const struct rollout *d, struct json_node *o)
{
	char stamp[TIMESTAMP_LEN + 1];
	struct json_node *list;

	if (d->window)
		node_copy(o, "window", d->window);
	if (json_count(d->blackout) > 0)
		node_copy(o, "blackout", d->blackout);
	if (d->notice_s > 0)
		node_integer(o, "notice", (int64_t) d->notice_s);
	if (d->spread_s > 0)
		node_integer(o, "spread", (int64_t) d->spread_s);
	if (d->disruption.label) {
		list = node_object(o, "disruption");
		node_string(list, "label", d->disruption.label);
		node_integer(list, "maximum", (int64_t) d->disruption.maximum);
	}
	list = d->overrides.count ? node_array(o, "overrides") : NULL;
	for (size_t i = 0; i < d->overrides.count; i++)
		node_string(list, NULL, d->overrides.items[i]);
	if (d->deadline != 0) {
		timestamp_format(stamp, d->deadline);
		node_string(o, "deadline", stamp);
	}
}

int rebuild_plan(const struct rollout *d, struct buf *ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ROLLOUT_MAX_BYTES * 2);
	struct json_node *o = json_build_root(b), *list;
	struct conf_error e;
	struct plan plan;
	int r;

	node_string(o, "component", d->component);
	node_string(o, "version", d->release.version);
	list = d->with_count ? node_object(o, "with") : NULL;
	for (size_t i = 0; i < d->with_count; i++)
		node_string(list, d->with[i].component, d->with[i].version);
	node_string(o, "kind", rollout_kind_name(d->kind));
	list = node_array(o, "stages");
	for (size_t i = 0; i < d->stage_count; i++)
		write_stage(&d->stages[i], node_object(list, NULL));
	write_limits(d, o);
	r = json_build_text(b, false, &text);
	/* What another version of us published may be what this one does not take. */
	if (r == 0)
		r = plan_parse(text.data, text.len, "document", &plan, &e);
	if (r < 0)
		return r;
	plan_done(&plan);
	return buf_add(ret, text.data, text.len);
}

static bool same_stages(const struct rollout *d, const struct plan *p)
{
	if (d->stage_count != p->stage_count)
		return false;
	for (size_t i = 0; i < p->stage_count; i++)
		if (!str_eq(d->stages[i].name, p->stages[i].name))
			return false;
	return true;
}

static bool same_with(const struct rollout *d, const struct plan *p)
{
	if (d->with_count != p->with_count)
		return false;
	for (size_t i = 0; i < p->with_count; i++) {
		const struct release_ref *ref = rollout_release(d, p->with[i].component);

		if (!ref || !str_eq(ref->version, p->with[i].version))
			return false;
	}
	return true;
}

bool rebuild_agrees(const struct rollout *d, const char *plan, size_t len)
{
	struct conf_error e;
	struct plan p;
	bool agrees;

	if (plan_parse(plan, len, "plan", &p, &e) < 0)
		return false;
	agrees = str_eq(d->component, p.component) && str_eq(d->release.version, p.version) && d->kind == p.kind &&
		 same_stages(d, &p) && same_with(d, &p);
	plan_done(&p);
	return agrees;
}

int rebuild_undo(const struct string_list *undo, struct buf *ret)
{
	int r = buf_add_str(ret, "[");

	/* Names of stages hold no quotes (guard_id). */
	for (size_t i = 0; r == 0 && i < undo->count; i++)
		r = buf_addf(ret, "%s\"%s\"", i ? "," : "", undo->items[i]);
	return r < 0 ? r : buf_add_str(ret, "]");
}

enum rollout_state rebuild_state(enum rollout_state known, enum rollout_state published)
{
	/* From what goes on to what has ended for good. */
	static const unsigned finality[ROLLOUT_STATE_COUNT] = { [ROLLOUT_RUNNING] = 0,
								[ROLLOUT_PAUSED] = 1,
								[ROLLOUT_DONE] = 2,
								[ROLLOUT_HALTED] = 3,
								[ROLLOUT_CANCELLED] = 4 };
	enum rollout_state s = finality[published] > finality[known] ? published : known;

	return s == ROLLOUT_RUNNING ? ROLLOUT_PAUSED : s;
}
