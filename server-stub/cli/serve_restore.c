/*
 * After a restored backup (DESIGN.md section 4 "Versions and restored backups"): what nodes have seen and
 * this controller has not, and what becomes of rollouts and orders when it goes on.
 */
#include "base/err.h"
#include "base/log.h"
#include "json/json.h"
#include "model/report.h"
#include "os/durable.h"
#include "server-stub/cli/serve.h"
#include "server-stub/ingest/db.h"
#include "server-stub/repo/repo.h"
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
};

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
		 "%s trusts metadata that this controller has never signed: it was restored from an old backup. "
		 "Nothing is signed until: selfright repo recover --from %s/serve/seen",
		 node, s->options.dir);
	log_error("backup-is-old", "%s", text);
	r = db_begin(s->db);
	if (r == 0)
		r = serve_record(s, "backup-is-old", node, NULL, text, "controller", "signer-stopped", node);
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	if (r < 0)
		log_error("record-failed", "%s", db_error(s->db));
}

void restore_look(struct serve *s, const char *node, uint64_t version, const void *report, size_t len)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(TIMESTAMP_MAX);
	uint64_t published = 0;
	int r;

	if (!s->repo || !s->signer)
		return;
	repo_each_role(s->repo, note_timestamp, &published);
	if (version <= published)
		return;
	r = json_parse(report, len, &json_limits_default, &doc);
	if (r == 0)
		r = json_text(json_get(json_get(doc, "signed"), "timestamp"), &text);
	if (r == 0)
		r = signer_prove(s->signer, "timestamp", text.data, text.len);
	if (r == -ERR_STALE_STATE) {
		if (keep_proof(s, &text) < 0)
			log_warning("proof-lost", "the node's timestamp could not be kept");
		tell(s, node);
	} else {
		/* A number alone proves nothing, and must not move ours. */
		log_warning("version-claimed", "node=%s claims timestamp %llu, newest published %llu: %s", node,
			    (unsigned long long) version, (unsigned long long) published,
			    r == 0 ? "not signed by us, or known to the signer" : err_text(r));
	}
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

static int pause_all(struct serve *s, const struct ids *running, const struct ids *orders)
{
	static const char why[] = "restored from a backup: look at it, then resume or cancel it";
	char text[400];
	uint64_t floor = 0, seq;
	int r = control_published_seq(s, &floor);

	if (r == 0)
		r = db_next_seq(s->db, floor + SEQ_GAP, &seq);
	for (size_t i = 0; r == 0 && i < running->count; i++) {
		r = db_rollout_set_state(s->db, running->items[i], "paused", why, "controller", serve_now(s));
		snprintf(text, sizeof(text), "rollout %s is paused: %s", running->items[i], why);
		if (r == 0)
			r = serve_record(s, "rollout-stopped", NULL, NULL, text, "controller", "pause",
					 running->items[i]);
	}
	for (size_t i = 0; r == 0 && i < orders->count; i++) {
		snprintf(text, sizeof(text),
			 "an order is in force as the backup had it (%s): confirm it, or withdraw it with "
			 "selfright "
			 "node",
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
	r = db_rollouts(s->db, NULL, gather_running, &running);
	if (r == 0)
		r = db_orders(s->db, NULL, serve_now(s), gather_order, &orders);
	if (r == 0)
		r = db_begin(s->db);
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
