/*
 * After a restored backup (DESIGN.md section 4 "Versions and restored backups"): what nodes have seen and
 * this controller has not, and what becomes of rollouts and orders when it goes on.
 */
#include "base/err.h"
#include "base/log.h"
#include "json/json.h"
#include "model/report.h"
#include "model/rollout.h"
#include "os/durable.h"
#include "pack/pack.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_orders.h"
#include "server-stub/ingest/db_rollouts.h"
#include "server-stub/repo/plans.h"
#include "server-stub/repo/repo.h"
#include "server-stub/rollout/rebuild.h"
#include "server-stub/signer/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
	SEQ_GAP = 1000, /* more rollouts than a backup can have missed */
	HELD_BACK_S = 13 * 3600, /* two signings of the timestamp, six hours each, and some */
	TIMESTAMP_MAX = 16 * 1024,
	ANNOUNCEMENT_TEXT_MAX = 1024 * 1024,
};

static const struct json_limits support_limits = { SERVE_TEXT_MAX, 16, 1000000 };

/* --- what nodes have seen --- */

static void note_timestamp(void *user, const struct repo_role_info *info)
{
	if (str_eq(info->name, "timestamp"))
		*(uint64_t *) user = info->version;
}

/* Kept for `selfright repo recover --from DIR/serve/seen`. */
static int keep_proof(struct serve *s, const struct buf *text)
{
	int dirfd, r = durable_mkdir(s->os, s->serve_dirfd, "seen", 0700);

	if (r < 0)
		return r;
	dirfd = dir_open(s->os, s->serve_dirfd, "seen");
	if (dirfd < 0)
		return dirfd;
	r = durable_write_file(s->os, dirfd, "timestamp.json", text->data, text->len, 0600);
	(void) s->os->close(s->os, dirfd); /* a folder */
	return r;
}

static void tell(struct serve *s, const char *node)
{
	char text[700];
	int r;

	snprintf(text, sizeof(text),
		 "%s has metadata that this controller has never signed: it was restored from an old backup. "
		 "Nothing is signed until: selfright repo recover --from %s/serve/seen",
		 node ? node : "the broker", s->options.dir);
	log_error("backup-is-old", "%s", text);
	r = db_begin(s->db);
	if (r == 0)
		r = serve_record(s, "backup-is-old", node, NULL, text, "controller", "signer-stopped",
				 node ? node : "broker");
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	if (r < 0)
		log_error("record-failed", "%s", db_error(s->db));
}

static bool is_newer(struct serve *s, uint64_t version)
{
	uint64_t published = 0;

	if (!s->repo || !s->signer)
		return false;
	repo_each_role(s->repo, note_timestamp, &published);
	return version > published;
}

/* A timestamp that claims to be newer than what is published here: its signature decides. `node` NULL: the broker's. */
static void examine(struct serve *s, const char *node, uint64_t version, const struct buf *text)
{
	int r = signer_prove(s->signer, "timestamp", text->data, text->len);

	if (r == -ERR_STALE_STATE) {
		if (keep_proof(s, text) < 0)
			log_warning("proof-lost", "the timestamp could not be kept");
		tell(s, node);
	} else {
		/* A number alone proves nothing, and must not move ours. */
		log_warning("version-claimed", "from=%s claims timestamp %llu: %s", node ? node : "the broker",
			    (unsigned long long) version,
			    r == 0 ? "not signed by us, or known to the signer" : err_text(r));
	}
}

void restore_look(struct serve *s, const char *node, uint64_t version, const void *report, size_t len)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(TIMESTAMP_MAX);

	if (is_newer(s, version) && json_parse(report, len, &json_limits_default, &doc) == 0 &&
	    json_text(json_get(json_get(doc, "signed"), "timestamp"), &text) == 0)
		examine(s, node, version, &text);
}

void restore_look_at_timestamp(struct serve *s, const void *timestamp, size_t len)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(TIMESTAMP_MAX);
	uint64_t version = 0;

	if (json_parse(timestamp, len, &json_limits_default, &doc) == 0 &&
	    json_need_u64(json_get(doc, "signed"), "version", 1, UINT64_MAX >> 11, &version) == 0 &&
	    is_newer(s, version) && buf_add(&text, timestamp, len) == 0)
		examine(s, NULL, version, &text);
}

void restore_look_at_announcement(struct serve *s, const void *gzip, size_t len)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ANNOUNCEMENT_TEXT_MAX);
	const char *timestamp;

	/* Whatever a broker keeps there: what cannot be read proves nothing. */
	if (gzip_expand(gzip, len, &text) < 0 || json_parse(text.data, text.len, &json_limits_default, &doc) < 0)
		return;
	timestamp = json_string(json_get(json_get(doc, "files"), "timestamp.json"));
	if (timestamp)
		restore_look_at_timestamp(s, timestamp, strlen(timestamp));
}

bool restore_held_back(uint64_t timestamp, int64_t reported_at)
{
	/* Our versions are the time of their signing. */
	return timestamp > 0 && reported_at > HELD_BACK_S && timestamp < (uint64_t) (reported_at - HELD_BACK_S);
}

/* --- going on --- */

struct ids {
	char (*items)[2 * ID_MAX + 2];
	size_t count;
};

static int add_id(struct ids *l, const char *a, const char *b)
{
	void *items = realloc(l->items, (l->count + 1) * sizeof(*l->items));

	if (!items)
		return -ENOMEM;
	l->items = items;
	snprintf(l->items[l->count++], sizeof(*l->items), "%s%s%s", a, b ? " " : "", b ? b : "");
	return 0;
}

static int gather_running(void *user, const struct db_rollout *row)
{
	return str_eq(row->state, "running") ? add_id(user, row->id, NULL) : 0;
}

static int gather_order(void *user, const struct db_order *row)
{
	return add_id(user, row->node, row->kind);
}

/* --- orders that are published, but were given after the backup --- */

struct known {
	const char *id, *kind;
	bool found;
};

static int find_known(void *user, const struct db_order *row)
{
	struct known *k = user;

	if (str_eq(row->kind, k->kind) && (!k->id || str_eq(row->id, k->id)))
		k->found = true;
	return 0;
}

static bool is_known(struct serve *s, const char *node, const char *kind, const char *id)
{
	struct known k = { id, kind, false };

	/* A failure is no reason to add it twice: the id is unique, a hold is compared by its kind. */
	return db_orders(s->db, node, 0, find_known, &k) < 0 || k.found;
}

static int adopt_one(struct serve *s, struct db_order *o, const char *id)
{
	char fresh[ID_MAX + 1];
	char text[300];
	int r = 0;

	if (is_known(s, o->node, o->kind, id))
		return 0;
	if (!guard_id(id)) {
		r = serve_new_id(s, o->kind, fresh);
		id = fresh;
	}
	o->id = id;
	if (r == 0)
		r = db_order_add(s->db, o);
	snprintf(text, sizeof(text),
		 "an order that was given after the backup (%s) was found published: selfright node confirm",
		 o->kind);
	return r < 0 ? r
		     : serve_record(s, "order-to-confirm", o->node, o->component, text, "controller",
				    "order-found", id);
}

/* Otherwise it would stay published for ever, and nobody here could withdraw it. */
static int adopt_document(struct serve *s, const char *node, const char *path)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ORDER_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct node_orders orders = { 0 };
	char *error = NULL;
	int r;

	if (node_exists(s, node) < 0 || repo_read_target(s->repo, path, &text) < 0 ||
	    json_parse(text.data, text.len, &json_limits_default, &doc) < 0)
		return 0;
	r = orders_parse(doc, node, &orders, &error);
	free(error);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	for (size_t i = 0; r == 0 && i < orders.rollback_count; i++) {
		const struct order_rollback *b = &orders.rollbacks[i];
		struct db_order o = { .node = node,
				      .kind = "rollback",
				      .component = b->component,
				      .from = b->from,
				      .to = b->to,
				      .reason = b->reason,
				      .by = b->by,
				      .issued = b->issued };

		r = adopt_one(s, &o, b->id);
	}
	for (size_t i = 0; r == 0 && i < orders.pin_count; i++) {
		const struct order_pin *pin = &orders.pins[i];
		struct db_order o = { .node = node,
				      .kind = "pin",
				      .component = pin->component,
				      .to = pin->version,
				      .reason = pin->reason,
				      .by = pin->by,
				      .issued = serve_now(s) };

		r = adopt_one(s, &o, pin->id);
	}
	if (r == 0 && orders.hold.until > serve_now(s)) {
		struct db_order o = { .node = node,
				      .kind = "hold",
				      .reason = orders.hold.reason,
				      .by = orders.hold.by,
				      .issued = serve_now(s),
				      .until = orders.hold.until };

		r = adopt_one(s, &o, NULL);
	}
	orders_done(&orders);
	return r;
}

static int adopt_orders(struct serve *s)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(SERVE_TEXT_MAX);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const struct json *targets;
	int r = repo_read_role(s->repo, "support", &text);

	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = json_parse(text.data, text.len, &support_limits, &doc);
	targets = json_get(json_get(doc, "signed"), "targets");
	for (size_t i = 0; r == 0 && i < json_count(targets); i++) {
		const char *path = json_name_at(targets, i), *dot = strrchr(path, '.');
		char node[ID_MAX + 1];

		if (!str_starts(path, "nodes/") || !dot || (size_t) (dot - path) - 6 > ID_MAX)
			continue;
		snprintf(node, sizeof(node), "%.*s", (int) (dot - path) - 6, path + 6);
		if (guard_id(node))
			r = adopt_document(s, node, path);
	}
	return r;
}

/* --- rollouts as they are published: some were started, opened, halted after the backup --- */

struct adopted {
	const struct rollout *document;
	bool known, open[ROLLOUT_STAGES_MAX];
	enum rollout_state state;
	size_t stage;
};

static int find_rollout(void *user, const struct db_rollout *row)
{
	struct adopted *a = user;
	int state = rollout_state_parse(row->state);

	if (state < 0)
		return -ERR_DATABASE;
	a->known = true;
	a->state = (enum rollout_state) state;
	return 0;
}

static int find_open(void *user, const struct db_stage *row)
{
	struct adopted *a = user;

	if (a->stage < a->document->stage_count && a->stage < ROLLOUT_STAGES_MAX &&
	    str_eq(row->name, a->document->stages[a->stage].name))
		a->open[a->stage] = row->open;
	a->stage++;
	return 0;
}

/* Why a rollout that the backup does not know is as it is. */
static const char with_plan[] = "rebuilt from what is published, with its plan: look at it",
		  without_plan[] = "rebuilt from what is published: soaks and gates are not known, look at it";

/* The plan that the signed document names, if it lies there, else what the document alone says. */
static int find_plan(struct serve *s, const struct rollout *d, const char *sha256, struct buf *ret,
		     const char **ret_why)
{
	int r = sha256 ? plans_read(s->os, s->repo_dirfd, d->id, sha256, ret) : -ENOENT;

	if (r == 0 && !rebuild_agrees(d, buf_str(ret), ret->len))
		r = -ERR_DISAGREE;
	*ret_why = r == 0 ? with_plan : without_plan;
	if (r == 0 || r == -ENOMEM)
		return r;
	if (sha256)
		log_warning("plan-not-found", "rollout=%s soaks and gates are the defaults: %s", d->id,
			    err_text(r));
	buf_clear(ret);
	return rebuild_plan(d, ret);
}

static int add_rollout(struct serve *s, const struct rollout *d, const char *plan_sha256, const char **ret_why)
{
	CLEANUP(buf_done)
	struct buf plan = BUF_INIT(PLAN_FILE_MAX);
	const char *names[ROLLOUT_STAGES_MAX];
	char sha256[SHA256_HEX + 1];
	int r = find_plan(s, d, plan_sha256, &plan, ret_why);

	if (r < 0) {
		log_warning("rollout-not-rebuilt", "rollout=%s: %s; it is left out", d->id, err_text(r));
		return r == -ENOMEM ? r : -ENOENT;
	}
	hex_encode(sha256, d->release.sha256, SHA256_BYTES);
	for (size_t k = 0; k < d->stage_count; k++)
		names[k] = d->stages[k].name;
	return db_rollout_add(s->db,
			      &(struct db_rollout){
				      .id = d->id,
				      .component = d->component,
				      .version = d->release.version,
				      .kind = rollout_kind_name(d->kind),
				      .state = rollout_state_name(rebuild_state(ROLLOUT_RUNNING, d->state)),
				      .seq = d->seq,
				      .reason = *ret_why,
				      .by = "controller",
				      .created_at = serve_now(s),
				      .plan = buf_str(&plan),
				      .release_path = d->release.path,
				      .release_sha256 = sha256 },
			      names, d->stage_count);
}

static int adopt_rollout(struct serve *s, const struct rollout *d, const char *plan_sha256)
{
	CLEANUP(buf_done)
	struct buf undo = BUF_INIT(ROLLOUT_MAX_BYTES);
	struct adopted a = { .document = d, .state = ROLLOUT_RUNNING };
	enum rollout_state state;
	const char *why = NULL;
	char text[500];
	int r = db_rollouts(s->db, d->id, find_rollout, &a);

	if (r == -ENOENT)
		r = add_rollout(s, d, plan_sha256, &why);
	else if (r == 0)
		r = db_stages(s->db, d->id, find_open, &a);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	for (size_t k = 0; r == 0 && k < d->stage_count; k++)
		if (d->stages[k].open && !a.open[k])
			r = db_stage_open(s->db, d->id, k,
					  d->stages[k].opened_at ? d->stages[k].opened_at : serve_now(s));
	state = rebuild_state(a.state, d->state);
	/* Those that ran and run still are paused below, with the others. */
	if (r == 0 && a.known && state != a.state && state != ROLLOUT_PAUSED)
		r = db_rollout_set_state(s->db, d->id, rollout_state_name(state),
					 "so it was published, after the backup", "controller", serve_now(s));
	if (r == 0 && d->undo.count > 0) {
		r = rebuild_undo(&d->undo, &undo);
		if (r == 0)
			r = db_rollout_set_undo(s->db, d->id, buf_str(&undo));
	}
	if (r < 0 || a.known)
		return r;
	snprintf(text, sizeof(text), "rollout %s, which the backup does not know, is %s: %s", d->id,
		 rollout_state_name(state), why);
	return serve_record(s, "rollout-found", NULL, d->component, text, "controller", "rollout-found", d->id);
}

static int read_target(struct serve *s, const char *path, size_t max, struct json **ret)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(max);
	int r = repo_read_target(s->repo, path, &text);

	return r < 0 ? r : json_parse(text.data, text.len, &json_limits_default, ret);
}

static int adopt_listed(struct serve *s, const char *path)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct rollout d;
	char *error = NULL;
	int r = read_target(s, path, ROLLOUT_MAX_BYTES, &doc);

	if (r == 0)
		r = rollout_parse(doc, &d, &error);
	if (r < 0) {
		log_warning("rollout-not-rebuilt", "path=%s: %s; it is left out", path,
			    error ? error : err_text(r));
		free(error);
		return r == -ENOMEM ? r : 0;
	}
	r = adopt_rollout(s, &d, json_string(json_get(doc, "plan_sha256")));
	rollout_done(&d);
	return r;
}

static int adopt_rollouts(struct serve *s)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct rollout_index index;
	char *error = NULL;
	int r = read_target(s, "rollouts/index.json", INDEX_MAX_BYTES, &doc);

	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = index_parse(doc, &index, &error);
	free(error);
	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < index.entry_count; i++)
		r = adopt_listed(s, index.entries[i].path);
	index_done(&index);
	return r;
}

static int pause_all(struct serve *s, const struct ids *running, const struct ids *orders)
{
	static const char why[] = "restored from a backup: look at it, then resume or cancel it";
	char text[400];
	uint64_t floor = 0, seq;
	int r = documents_published_seq(s, &floor);

	if (r == 0)
		r = db_next_seq(s->db, floor + SEQ_GAP, &seq);
	if (r == 0)
		r = adopt_orders(s);
	if (r == 0)
		r = db_orders_unconfirm(s->db, serve_now(s));
	for (size_t i = 0; r == 0 && i < running->count; i++) {
		r = db_rollout_set_state(s->db, running->items[i], "paused", why, "controller", serve_now(s));
		snprintf(text, sizeof(text), "rollout %s is paused: %s", running->items[i], why);
		if (r == 0)
			r = serve_record(s, "rollout-stopped", NULL, NULL, text, "controller", "pause",
					 running->items[i]);
	}
	for (size_t i = 0; r == 0 && i < orders->count; i++) {
		snprintf(text, sizeof(text),
			 "an order of the backup (%s) is withheld until somebody confirms it: selfright node "
			 "confirm",
			 orders->items[i]);
		r = serve_record(s, "order-to-confirm", NULL, NULL, text, "controller", "order-to-confirm",
				 orders->items[i]);
	}
	return r;
}

void restore_tick(struct serve *s)
{
	struct ids running = { 0 }, orders = { 0 };
	struct stat st;
	int r;

	if (!s->repo || s->os->fstatat(s->os, s->serve_dirfd, "recovered", &st) < 0)
		return;
	/* One transaction: a crash in the middle finds the flag and nothing done. */
	r = db_begin(s->db);
	if (r == 0)
		r = adopt_rollouts(s);
	if (r == 0)
		r = db_rollouts(s->db, NULL, gather_running, &running);
	if (r == 0)
		r = db_orders(s->db, NULL, serve_now(s), gather_order, &orders);
	if (r == 0)
		r = pause_all(s, &running, &orders);
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	/* Only now: a crash before it pauses everything once more, which is no harm. */
	if (r == 0)
		r = s->os->unlinkat(s->os, s->serve_dirfd, "recovered", 0);
	if (r < 0)
		log_error("recover-failed", "rollouts could not be paused after the recovery: %s (%s)",
			  err_text(r), db_error(s->db));
	else
		log_notice("recovered", "rollouts=%zu orders=%zu: rollouts are paused", running.count,
			   orders.count);
	free(running.items);
	free(orders.items);
	s->publish_due = true;
}
