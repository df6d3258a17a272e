/*
 * What nodes read of what was decided: the index and the rollouts in it, and the orders to one node.
 */
#include "base/err.h"
#include "base/log.h"
#include "base/version.h"
#include "conf/conf.h"
#include "crypto/digest.h"
#include "json/json.h"
#include "model/labels.h"
#include "server-stub/cli/serve.h"
#include "server-stub/ingest/db_orders.h"
#include "server-stub/ingest/db_rollouts.h"
#include "server-stub/repo/plans.h"
#include "server-stub/repo/repo.h"
#include "server-stub/rollout/documents.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	DOCUMENTS_MAX = 4096, /* in one publication */
	ANNOUNCE_AT_ONCE = 16,
};

/* --- of any kind --- */

struct publication {
	struct serve *serve;
	struct repo_document *set;
	size_t set_count, capacity;
	char **removed;
	size_t removed_count;
};

static void publication_done(struct publication *p)
{
	for (size_t i = 0; i < p->set_count; i++) {
		free((void *) (uintptr_t) p->set[i].path);
		free((void *) (uintptr_t) p->set[i].data);
	}
	for (size_t i = 0; i < p->removed_count; i++)
		free(p->removed[i]);
	free(p->set);
	free(p->removed);
}

/* Set it, unless these very bytes are published already. */
static int set_document(struct publication *p, const char *path, const struct buf *text)
{
	CLEANUP(buf_done)
	struct buf before = BUF_INIT(INDEX_MAX_BYTES);
	void *set, *data;
	char *name;
	int r = repo_read_target(p->serve->repo, path, &before);

	if (r == 0 && before.len == text->len && memcmp(before.data, text->data, text->len) == 0)
		return 0;
	if (p->set_count == DOCUMENTS_MAX)
		return -ERR_TOO_LARGE;
	set = realloc(p->set, (p->set_count + 1) * sizeof(*p->set));
	if (!set)
		return -ENOMEM;
	p->set = set;
	name = strdup(path);
	data = malloc(text->len ? text->len : 1);
	if (!name || !data) {
		free(name);
		free(data);
		return -ENOMEM;
	}
	if (text->len)
		memcpy(data, text->data, text->len);
	p->set[p->set_count++] = (struct repo_document){ name, data, text->len };
	return 0;
}

static int remove_document(struct publication *p, const char *path)
{
	uint8_t digest[SHA256_BYTES];
	uint64_t length;
	void *removed;

	if (repo_target_info(p->serve->repo, path, &length, digest) < 0)
		return 0;
	removed = realloc(p->removed, (p->removed_count + 1) * sizeof(*p->removed));
	if (!removed)
		return -ENOMEM;
	p->removed = removed;
	p->removed[p->removed_count] = strdup(path);
	if (!p->removed[p->removed_count])
		return -ENOMEM;
	p->removed_count++;
	return 0;
}

static int publish(struct publication *p, const char *role)
{
	if (p->set_count == 0 && p->removed_count == 0)
		return 0;
	return repo_update_online(p->serve->repo, role, p->set, p->set_count, (const char *const *) p->removed,
				  p->removed_count);
}

/* --- rollouts --- */

struct listed {
	struct index_candidate candidate;
	struct document_rollout document;
	struct plan plan;
	struct string_list undo;
	bool open[PLAN_STAGES_MAX];
	int64_t opened_at[PLAN_STAGES_MAX];
	struct json *approvals[PLAN_STAGES_MAX];
	char *id, *component, *path, *plan_json;
	char plan_sha256[SHA256_HEX + 1];
};

struct listing {
	struct serve *serve;
	struct listed *items;
	size_t count;
};

static void listing_done(struct listing *l)
{
	for (size_t i = 0; i < l->count; i++) {
		plan_done(&l->items[i].plan);
		string_list_done(&l->items[i].undo);
		for (size_t k = 0; k < PLAN_STAGES_MAX; k++)
			json_free(l->items[i].approvals[k]);
		free(l->items[i].id);
		free(l->items[i].component);
		free(l->items[i].path);
		free(l->items[i].plan_json);
	}
	free(l->items);
}

static int read_undo(const char *text, struct string_list *ret)
{
	CLEANUP(json_freep)
	struct json *j = NULL;
	int r = json_parse(text, strlen(text), &json_limits_default, &j);

	for (size_t i = 0; r == 0 && i < json_count(j); i++)
		r = string_list_add(ret, json_string(json_at(j, i)));
	return r;
}

static int gather_listed(void *user, const struct db_rollout *row)
{
	struct listing *l = user;
	struct conf_error error;
	struct listed *it;
	void *items;
	int r, state = rollout_state_parse(row->state);

	items = realloc(l->items, (l->count + 1) * sizeof(*l->items));
	if (!items)
		return -ENOMEM;
	l->items = items;
	it = &l->items[l->count];
	*it = (struct listed){ 0 };
	r = state < 0 ? -ERR_DATABASE : plan_parse(row->plan, strlen(row->plan), "plan", &it->plan, &error);
	if (r < 0)
		return r;
	l->count++;
	it->id = strdup(row->id);
	it->component = strdup(row->component);
	it->path = strdup(row->release_path);
	it->plan_json = strdup(row->plan);
	if (!it->id || !it->component || !it->path || !it->plan_json)
		return -ENOMEM;
	r = read_undo(row->undo, &it->undo);
	if (r == 0)
		r = hex_decode(it->document.release_sha256, SHA256_BYTES, row->release_sha256, false);
	it->document.seq = row->seq;
	it->document.state = (enum rollout_state) state;
	it->candidate = (struct index_candidate){ .component = it->component,
						  .with = it->plan.with,
						  .with_count = it->plan.with_count,
						  .seq = row->seq,
						  .state = (enum rollout_state) state,
						  .covers_all = plan_covers_all(&it->plan),
						  .undoes = it->undo.count > 0,
						  .state_at = row->state_at };
	return r;
}

/* Nobody runs any more what the undo takes back. */
static int settle(struct serve *s, struct listed *it)
{
	struct evaluation e;
	int r;

	if (!it->candidate.undoes)
		return 0;
	r = evaluation_make(s, it->id, it->candidate.state, it->plan_json, &e);
	if (r < 0)
		return r;
	it->candidate.undo_settled = true;
	for (size_t i = 0; i < e.count; i++) {
		const struct evaluated_member *m = &e.members[i];

		if (m->acted && m->selected && string_list_has(&it->undo, e.plan.stages[m->member.stage].name) &&
		    (m->runs || m->under_way[0]))
			it->candidate.undo_settled = false;
	}
	evaluation_done(&e);
	return 0;
}

struct open_list {
	bool *open;
	int64_t *opened_at;
	size_t count;
};

static int gather_open(void *user, const struct db_stage *row)
{
	struct open_list *l = user;

	if (l->count < PLAN_STAGES_MAX) {
		l->opened_at[l->count] = row->opened_at;
		l->open[l->count++] = row->open;
	}
	return 0;
}

struct freezes {
	struct freeze *items;
	size_t count;
};

static void freezes_done(struct freezes *f)
{
	for (size_t i = 0; i < f->count; i++) {
		labels_done(&f->items[i].labels);
		string_list_done(&f->items[i].components);
		free(f->items[i].reason);
	}
	free(f->items);
}

static int gather_freeze(void *user, const struct db_freeze *row)
{
	struct freezes *f = user;
	void *items = realloc(f->items, (f->count + 1) * sizeof(*f->items));
	struct freeze *it;
	int r;

	if (!items)
		return -ENOMEM;
	f->items = items;
	it = &f->items[f->count++];
	*it = (struct freeze){ .until = row->until, .reason = strdup(row->reason) };
	if (!it->reason)
		return -ENOMEM;
	r = serve_labels(row->labels, &it->labels);
	return r < 0 ? r : read_undo(row->components, &it->components);
}

/* What a published version is never changes: its hash is the one its team signed. */
static int find_with(struct publication *p, const struct plan *plan, struct release_ref *with)
{
	for (size_t i = 0; i < plan->with_count; i++) {
		char path[ID_MAX + VERSION_MAX + 32];
		uint64_t length;
		int r;

		snprintf(path, sizeof(path), "%s/%s/release.json", plan->with[i].component, plan->with[i].version);
		with[i] = (struct release_ref){ .component = plan->with[i].component,
						.version = plan->with[i].version,
						.path = strdup(path) };
		r = with[i].path ? repo_target_info(p->serve->repo, path, &length, with[i].sha256) : -ENOMEM;
		if (r < 0)
			return r;
	}
	return 0;
}

static int add_document(struct publication *p, struct listed *it, const char *path)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ROLLOUT_MAX_BYTES);
	struct release_ref with[PLAN_WITH_MAX] = { { .path = NULL } };
	int r = find_with(p, &it->plan, with);

	it->document.with = with;
	if (r == 0)
		r = document_rollout(&it->document, &text);
	it->document.with = NULL;
	for (size_t i = 0; i < it->plan.with_count; i++)
		free(with[i].path);
	return r < 0 ? r : set_document(p, path, &text);
}

/* A full disk must not keep a halt from being published: without its plan a rollout would be rebuilt with defaults. */
static void keep_plan(struct serve *s, struct listed *it)
{
	int r = plans_keep(s->os, s->repo_dirfd, it->id, it->plan_json, strlen(it->plan_json), it->plan_sha256);

	if (r < 0)
		log_error("plan-not-kept", "rollout=%s its plan is not beside what is published: %s", it->id,
			  err_text(r));
	else
		it->document.plan_sha256 = it->plan_sha256;
}

static int add_rollout(struct publication *p, struct listed *it, struct index_entry *entry)
{
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(256);
	struct open_list open = { it->open, it->opened_at, 0 };
	int r;

	r = db_stages(p->serve->db, it->id, gather_open, &open);
	if (r < 0)
		return r;
	it->document.id = it->id;
	it->document.plan = &it->plan;
	it->document.open = it->open;
	it->document.opened_at = it->opened_at;
	it->document.release_path = it->path;
	it->document.undo = &it->undo;
	r = approvals_gather(p->serve, it->id, it->plan.stage_count, it->approvals);
	if (r < 0)
		return r;
	it->document.approvals = it->approvals;
	keep_plan(p->serve, it);
	r = document_rollout_path(it->id, &path);
	if (r == 0)
		r = add_document(p, it, buf_str(&path));
	if (r == 0)
		r = string_list_add(&entry->components, it->component);
	for (size_t i = 0; r == 0 && i < it->plan.with_count; i++)
		r = string_list_add(&entry->components, it->plan.with[i].component);
	if (r < 0)
		return r;
	entry->id = it->id;
	entry->seq = it->document.seq;
	entry->path = buf_take(&path);
	return 0;
}

static int fill_rollouts(struct publication *p, struct listing *l, struct rollout_index *index)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(INDEX_MAX_BYTES);
	struct index_candidate *all = calloc(l->count ? l->count : 1, sizeof(*all));
	int r = 0;

	if (!all)
		return -ENOMEM;
	for (size_t i = 0; i < l->count; i++)
		all[i] = l->items[i].candidate;
	for (size_t i = 0; r == 0 && i < l->count; i++) {
		CLEANUP(buf_done)
		struct buf path = BUF_INIT(256);

		if (index_lists(&all[i], all, l->count, serve_now(p->serve))) {
			r = add_rollout(p, &l->items[i], &index->entries[index->entry_count++]);
			continue;
		}
		r = document_rollout_path(l->items[i].id, &path);
		if (r == 0)
			r = remove_document(p, buf_str(&path));
	}
	free(all);
	if (r == 0)
		r = document_index(index, &text);
	return r < 0 ? r : set_document(p, "rollouts/index.json", &text);
}

static bool is_in_index(const void *user, const char *id)
{
	const struct rollout_index *index = user;

	for (size_t i = 0; i < index->entry_count; i++)
		if (str_eq(index->entries[i].id, id))
			return true;
	return false;
}

static void sweep_plans(struct serve *s, const struct rollout_index *index)
{
	int r = plans_sweep(s->os, s->repo_dirfd, is_in_index, index);

	if (r < 0)
		log_warning("plans-not-swept", "plans of rollouts that are over lie there until the next time: %s",
			    err_text(r));
}

int documents_publish_rollouts(struct serve *s)
{
	struct publication p = { .serve = s };
	struct listing l = { .serve = s };
	struct freezes f = { 0 };
	struct rollout_index index = { 0 };
	int r;

	r = db_rollouts(s->db, NULL, gather_listed, &l);
	s->undo_listed = false;
	for (size_t i = 0; r == 0 && i < l.count; i++) {
		r = settle(s, &l.items[i]);
		s->undo_listed =
			s->undo_listed || (l.items[i].candidate.undoes && !l.items[i].candidate.undo_settled);
	}
	if (r == 0)
		r = db_freezes(s->db, serve_now(s), gather_freeze, &f);
	if (r == 0) {
		index.entries = calloc(l.count ? l.count : 1, sizeof(*index.entries));
		index.freezes = f.items;
		index.freeze_count = f.count;
		r = index.entries ? fill_rollouts(&p, &l, &index) : -ENOMEM;
	}
	if (r == 0)
		r = publish(&p, "rollouts");
	if (r == 0 && p.set_count + p.removed_count > 0)
		trust_announce(s, NULL);
	/* Only when no document names them any more. */
	if (r == 0 && p.removed_count > 0)
		sweep_plans(s, &index);
	for (size_t i = 0; i < index.entry_count; i++) {
		string_list_done(&index.entries[i].components);
		free(index.entries[i].path);
	}
	free(index.entries);
	freezes_done(&f);
	listing_done(&l);
	publication_done(&p);
	return r;
}

/* --- orders --- */

struct node_list {
	char (*items)[ID_MAX + 1];
	size_t count;
};

static int gather_node(void *user, const struct db_order *row)
{
	struct node_list *l = user;
	void *items;

	if (l->count && strcmp(l->items[l->count - 1], row->node) == 0)
		return 0;
	items = realloc(l->items, (l->count + 1) * sizeof(*l->items));
	if (!items)
		return -ENOMEM;
	l->items = items;
	snprintf(l->items[l->count++], sizeof(*l->items), "%s", row->node);
	return 0;
}

static char *text_or_null(const char *text)
{
	return text ? strdup(text) : NULL;
}

static int add_order(struct node_orders *o, const struct db_order *row)
{
	void *list;

	if (row->unconfirmed)
		return 0;
	if (strcmp(row->kind, "rollback") == 0) {
		list = realloc(o->rollbacks, (o->rollback_count + 1) * sizeof(*o->rollbacks));
		if (!list)
			return -ENOMEM;
		o->rollbacks = list;
		o->rollbacks[o->rollback_count++] =
			(struct order_rollback){ .id = text_or_null(row->id),
						 .component = text_or_null(row->component),
						 .from = text_or_null(row->from),
						 .to = text_or_null(row->to),
						 .reason = text_or_null(row->reason),
						 .by = text_or_null(row->by),
						 .issued = row->issued,
						 .restore_data = row->restore_data };
	} else if (strcmp(row->kind, "pin") == 0) {
		list = realloc(o->pins, (o->pin_count + 1) * sizeof(*o->pins));
		if (!list)
			return -ENOMEM;
		o->pins = list;
		o->pins[o->pin_count++] = (struct order_pin){ .id = text_or_null(row->id),
							      .component = text_or_null(row->component),
							      .version = text_or_null(row->to),
							      .reason = text_or_null(row->reason),
							      .by = text_or_null(row->by) };
	} else if (strcmp(row->kind, "retry") == 0) {
		list = realloc(o->retries, (o->retry_count + 1) * sizeof(*o->retries));
		if (!list)
			return -ENOMEM;
		o->retries = list;
		o->retries[o->retry_count++] = (struct order_once){ .id = text_or_null(row->id),
								    .component = text_or_null(row->component),
								    .issued = row->issued,
								    .expires = row->until };
	} else if (strcmp(row->kind, "collect") == 0) {
		list = realloc(o->collects, (o->collect_count + 1) * sizeof(*o->collects));
		if (!list)
			return -ENOMEM;
		o->collects = list;
		o->collects[o->collect_count++] = (struct order_once){ .id = text_or_null(row->id),
								       .set = text_or_null(row->component),
								       .issued = row->issued,
								       .expires = row->until };
	} else if (strcmp(row->kind, "hold") == 0 && row->until > o->hold.until) {
		free(o->hold.reason);
		free(o->hold.by);
		o->hold.until = row->until;
		o->hold.reason = text_or_null(row->reason);
		o->hold.by = text_or_null(row->by);
	}
	return 0;
}

static int gather_order(void *user, const struct db_order *row)
{
	return add_order(user, row);
}

/* 1: its document changes; 0: it is published as it is. */
static int add_orders(struct publication *p, const char *node)
{
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(256), text = BUF_INIT(ORDER_MAX_BYTES);
	struct node_orders o = { .node = strdup(node) };
	size_t before = p->set_count + p->removed_count;
	int r;

	r = o.node ? db_orders(p->serve->db, node, serve_now(p->serve), gather_order, &o) : -ENOMEM;
	if (r == 0)
		r = document_orders_path(node, &path);
	if (r == 0 && o.rollback_count + o.pin_count + o.retry_count + o.collect_count == 0 && o.hold.until == 0)
		r = remove_document(p, buf_str(&path));
	else if (r == 0) {
		r = document_orders(&o, &text);
		if (r == 0)
			r = set_document(p, buf_str(&path), &text);
	}
	orders_done(&o);
	return r < 0 ? r : p->set_count + p->removed_count > before;
}

int documents_publish_orders(struct serve *s)
{
	struct publication p = { .serve = s };
	struct node_list all = { 0 }, changed = { 0 };
	int r;

	r = db_orders(s->db, NULL, 0, gather_node, &all);
	for (size_t i = 0; r == 0 && i < all.count; i++) {
		r = add_orders(&p, all.items[i]);
		if (r > 0) {
			const struct db_order row = { .node = all.items[i] };

			r = gather_node(&changed, &row);
		}
	}
	if (r == 0)
		r = publish(&p, "support");
	/* Many at once, as after a restored backup, go out in slices. */
	if (r == 0 && changed.count > ANNOUNCE_AT_ONCE) {
		s->refill = true;
		s->refilled[0] = '\0';
	}
	for (size_t i = 0; r == 0 && changed.count <= ANNOUNCE_AT_ONCE && i < changed.count; i++)
		trust_announce(s, changed.items[i]);
	free(all.items);
	free(changed.items);
	publication_done(&p);
	return r;
}

int documents_publish_orders_of(struct serve *s, const char *node)
{
	struct publication p = { .serve = s };
	int r = add_orders(&p, node);

	if (r > 0)
		r = publish(&p, "support");
	publication_done(&p);
	if (r >= 0)
		trust_announce(s, node);
	return r < 0 ? r : 0;
}

int documents_published_seq(struct serve *s, uint64_t *ret)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(INDEX_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct rollout_index index;
	char *error = NULL;
	int r;

	*ret = 0;
	r = repo_read_target(s->repo, "rollouts/index.json", &text);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = json_parse(text.data, text.len, &json_limits_default, &doc);
	if (r == 0)
		r = index_parse(doc, &index, &error);
	free(error);
	if (r < 0)
		return r;
	for (size_t i = 0; i < index.entry_count; i++)
		if (index.entries[i].seq > *ret)
			*ret = index.entries[i].seq;
	index_done(&index);
	return 0;
}
