#include "server-stub/rollout/documents.h"

#include "base/err.h"
#include "json/build.h"
#include "json/json.h"

#include <errno.h>
#include <stdlib.h>

enum { UNDO_KEPT_S = 90 * 86400 };

int document_rollout_path(const char *id, struct buf *out)
{
	return guard_id(id) ? buf_addf(out, "rollouts/%s.json", id) : -ERR_NAME;
}

int document_orders_path(const char *node, struct buf *out)
{
	return guard_id(node) ? buf_addf(out, "nodes/%s.json", node) : -ERR_NAME;
}

/* The stage without `open` and `approvals`: what an approval signs, and what a node compares. */
static int bare_stage(const struct plan_stage *s, struct json **ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ROLLOUT_MAX_BYTES);
	struct json_node *o = json_build_root(b), *select;
	int r;

	node_string(o, "name", s->name);
	select = node_object(o, "select");
	if (s->by_nodes) {
		struct json_node *nodes = node_array(select, "nodes");

		for (size_t i = 0; i < s->nodes.count; i++)
			node_string(nodes, NULL, s->nodes.items[i]);
	} else {
		labels_write(&s->labels, select, "labels");
		node_integer(select, "share", (int64_t) s->share);
	}
	r = json_build_text(b, false, &text);
	return r < 0 ? r : json_parse(text.data, text.len, &json_limits_default, ret);
}

int document_rollout(const struct document_rollout *in, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	const struct plan *plan = in->plan;
	struct stage *stages;
	struct rollout limits = { 0 };
	struct rollout doc = {
		/* The writer only reads; the casts drop const for a struct that otherwise owns its strings. */
		.id = (char *) (uintptr_t) in->id,
		.seq = in->seq,
		.component = plan->component,
		.release = { .component = plan->component,
			     .version = plan->version,
			     .path = (char *) (uintptr_t) in->release_path },
		.with = (struct release_ref *) (uintptr_t) in->with,
		.with_count = plan->with_count,
		.kind = plan->kind,
		.state = in->state,
	};
	int r = 0;

	stages = calloc(plan->stage_count, sizeof(*stages));
	if (!stages)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < plan->stage_count; i++) {
		const struct plan_stage *s = &plan->stages[i];

		stages[i] = (struct stage){ .name = s->name,
					    .nodes = s->nodes,
					    .labels = s->labels,
					    .share = s->share,
					    .by_nodes = s->by_nodes,
					    .open = in->open[i],
					    .opened_at = in->opened_at ? in->opened_at[i] : 0,
					    .approvals = in->approvals ? in->approvals[i] : NULL };
		r = bare_stage(s, &stages[i].bare);
	}
	doc.stages = stages;
	doc.stage_count = plan->stage_count;
	for (size_t i = 0; i < SHA256_BYTES; i++)
		doc.release.sha256[i] = in->release_sha256[i];
	if (in->undo)
		doc.undo = *in->undo;
	if (r == 0)
		r = limits_document(&plan->limits, &limits);
	doc.window = limits.window;
	doc.blackout = limits.blackout;
	doc.notice_s = limits.notice_s;
	doc.spread_s = limits.spread_s;
	doc.disruption.label = limits.disruption.label;
	doc.disruption.maximum = limits.disruption.maximum;
	doc.overrides = limits.overrides;
	doc.deadline = limits.deadline;
	if (r == 0)
		r = rollout_write(&doc, json_build_root(b));
	if (in->plan_sha256)
		node_string(json_build_root(b), "plan_sha256", in->plan_sha256);
	if (r == 0)
		r = json_build_text(b, false, out);
	for (size_t i = 0; i < plan->stage_count; i++)
		json_free(stages[i].bare);
	free(stages);
	rollout_done(&limits);
	return r;
}

int document_index(const struct rollout_index *index, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();

	index_write(index, json_build_root(b));
	return json_build_text(b, false, out);
}

int document_orders(const struct node_orders *orders, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();

	orders_write(orders, json_build_root(b));
	return json_build_text(b, false, out);
}

static bool brings(const struct index_candidate *c, const char *component)
{
	for (size_t i = 0; i < c->with_count; i++)
		if (str_eq(c->with[i].component, component))
			return true;
	return str_eq(c->component, component);
}

static bool is_superseded(const struct index_candidate *c, const char *component,
			  const struct index_candidate *all, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (all[i].state == ROLLOUT_DONE && all[i].covers_all && all[i].seq > c->seq &&
		    brings(&all[i], component))
			return true;
	return false;
}

/* For each of its components. */
static bool superseded(const struct index_candidate *c, const struct index_candidate *all, size_t count)
{
	for (size_t i = 0; i < c->with_count; i++)
		if (!is_superseded(c, c->with[i].component, all, count))
			return false;
	return is_superseded(c, c->component, all, count);
}

bool index_lists(const struct index_candidate *c, const struct index_candidate *all, size_t count, int64_t now)
{
	switch (c->state) {
	case ROLLOUT_RUNNING:
	case ROLLOUT_PAUSED:
		return true;
	case ROLLOUT_DONE:
		return !superseded(c, all, count);
	case ROLLOUT_HALTED:
	case ROLLOUT_CANCELLED:
		if (now - c->state_at >= UNDO_KEPT_S)
			return false;
		if (c->undoes)
			return !c->undo_settled;
		return c->state == ROLLOUT_HALTED && !superseded(c, all, count);
	default:
		return false;
	}
}
