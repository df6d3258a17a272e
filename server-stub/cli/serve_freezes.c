/*
 * Freezes: made, listed and lifted.
 */
#include "base/log.h"
#include "json/build.h"
#include "json/json.h"
#include "model/release.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/cli/serve_handlers.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_orders.h"

#include <stdio.h>

static int write_freeze(void *user, const struct db_freeze *row)
{
	struct json_node *o = node_object(user, NULL);
	int r;

	node_string(o, "id", row->id);
	r = node_json(o, "labels", row->labels);
	if (r == 0)
		r = node_json(o, "components", row->components);
	node_string(o, "reason", row->reason);
	node_string(o, "by", row->by);
	node_time(o, "at", row->at);
	node_time(o, "until", row->until);
	return r;
}

void freezes_get(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct serve *s = user;
	int r = db_freezes(s->db, serve_now(s), write_freeze, node_array(json_build_root(b), "freezes"));

	if (r < 0)
		fail_database(s, rq, r);
	else
		answer(rq, 200, b);
}

static int store_freeze(struct serve *s, const struct json *doc, struct db_freeze *f, char id[static ID_MAX + 1])
{
	char text[1200];
	int r;

	r = serve_new_id(s, "freeze", id);
	if (r == 0)
		r = db_begin(s->db);
	if (r < 0)
		return r;
	f->id = id;
	f->at = serve_now(s);
	r = db_freeze_add(s->db, f);
	snprintf(text, sizeof(text), "freeze %s: %s", id, f->reason);
	if (r == 0)
		r = serve_record(s, "freeze", NULL, NULL, text, by_of(doc), "freeze", id);
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	return r;
}

void freeze_post(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf labels = BUF_INIT(64 * 1024), components = BUF_INIT(64 * 1024);
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	struct labels parsed = { 0 };
	struct db_freeze f = { 0 };
	const struct json *list;
	char id[ID_MAX + 1];
	int r;

	if (!doc)
		return;
	f.reason = text_field(rq, doc, "reason");
	if (!f.reason)
		return;
	if (json_get(doc, "until")) {
		f.until = until_field(s, rq, doc, 10 * 365 * (int64_t) 86400);
		if (f.until == 0)
			return;
	}
	list = json_get(doc, "components");
	for (size_t i = 0; i < json_count(list); i++)
		if (!guard_id(json_string(json_at(list, i)))) {
			web_fail(rq, 400, "'components' is a list of components' names");
			return;
		}
	r = json_get(doc, "labels") ? labels_parse(json_get(doc, "labels"), &parsed) : 0;
	labels_done(&parsed);
	if (r < 0 || (list && !json_is(list, JSON_ARRAY))) {
		web_fail(rq, 400, "'labels' is an object of names and values, 'components' a list");
		return;
	}
	r = json_get(doc, "labels") ? json_text(json_get(doc, "labels"), &labels) : buf_add_str(&labels, "{}");
	if (r == 0)
		r = list ? json_text(list, &components) : buf_add_str(&components, "[]");
	f.labels = buf_str(&labels);
	f.components = buf_str(&components);
	f.by = by_of(doc);
	if (r == 0)
		r = store_freeze(s, doc, &f, id);
	if (r < 0) {
		fail_database(s, rq, r);
		return;
	}
	log_notice("freeze", "freeze=%s", id);
	node_string(json_build_root(b), "id", id);
	publish_and_answer(s, rq, 201, b);
}

void freeze_delete(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	const char *id, *reason;
	unsigned count = 0;
	char text[1200];
	int r;

	if (!doc)
		return;
	reason = text_field(rq, doc, "reason");
	if (!reason)
		return;
	id = json_string(json_get(doc, "id"));
	if (id && !guard_id(id)) {
		web_fail(rq, 400, "'id' is no freeze's id; selfright freeze list shows them");
		return;
	}
	r = db_begin(s->db);
	if (r == 0)
		r = db_freeze_lift(s->db, id, serve_now(s), &count);
	snprintf(text, sizeof(text), id ? "the freeze %s is lifted: %s" : "%s freezes are lifted: %s",
		 id ? id : "all", reason);
	if (r == 0 && count > 0)
		r = serve_record(s, "freeze", NULL, NULL, text, by_of(doc), "freeze-lift", text);
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	if (r < 0) {
		fail_database(s, rq, r);
		return;
	}
	if (count == 0) {
		web_fail(rq, 404, "no such freeze is in force; selfright freeze list shows them");
		return;
	}
	node_integer(json_build_root(b), "lifted", count);
	publish_and_answer(s, rq, 200, b);
}
