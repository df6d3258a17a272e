/*
 * The timeline, which requests may wait for, and the audit trail with the proof that nobody changed it.
 */
#include "base/err.h"
#include "json/build.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/cli/serve_handlers.h"
#include "server-stub/ingest/db_audit.h"
#include "server-stub/ingest/db_events.h"

enum { EVENTS_MAX = 1000, WAIT_MAX_S = 120 };

static int write_event(void *user, const struct db_event *row)
{
	struct json_node *o = node_object(user, NULL);

	node_integer(o, "id", row->id);
	node_time(o, "at", row->at);
	node_string(o, "kind", row->kind);
	node_string(o, "node", row->node);
	node_string(o, "component", row->component);
	node_string(o, "text", row->text);
	return row->detail ? node_json(o, "detail", row->detail) : 0;
}

void events_get(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct serve *s = user;
	const char *after_text = web_query(rq, "after"), *wait_text = web_query(rq, "wait");
	uint64_t after = 0, wait = 0;
	int64_t last;
	int r;

	if ((after_text && (parse_u64(after_text, &after) < 0 || after > INT64_MAX)) ||
	    (wait_text && parse_u64(wait_text, &wait) < 0)) {
		web_fail(rq, 400, "?after= is the id of the last event seen, ?wait= seconds");
		return;
	}
	if (wait > WAIT_MAX_S)
		wait = WAIT_MAX_S;
	last = db_last_event(s->db);
	if (wait > 0 && last <= (int64_t) after && web_wait(rq, wait * 1000))
		return;
	node_integer(json_build_root(b), "last", last);
	r = db_events_after(s->db, (int64_t) after, EVENTS_MAX, write_event,
			    node_array(json_build_root(b), "events"));
	if (r < 0)
		fail_database(s, rq, r);
	else
		answer(rq, 200, b);
}

static int write_audit(void *user, const struct db_audit_entry *row)
{
	struct json_node *o = node_object(user, NULL);

	node_integer(o, "id", row->id);
	node_time(o, "at", row->at);
	node_string(o, "by", row->by);
	node_string(o, "action", row->action);
	node_string(o, "detail", row->detail);
	node_string(o, "hash", row->hash);
	return 0;
}

void audit_get(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct serve *s = user;
	const char *after_text = web_query(rq, "after");
	uint64_t after = 0, entries = 0;
	int r;

	if (after_text && (parse_u64(after_text, &after) < 0 || after > INT64_MAX)) {
		web_fail(rq, 400, "?after= is the id of the last entry seen");
		return;
	}
	r = db_audit_verify(s->db, &entries);
	node_bool(json_build_root(b), "intact", r == 0);
	node_integer(json_build_root(b), "checked", (int64_t) entries);
	if (r == 0 || r == -ERR_DIGEST)
		r = db_audit_after(s->db, (int64_t) after, EVENTS_MAX, write_audit,
				   node_array(json_build_root(b), "entries"));
	if (r < 0)
		fail_database(s, rq, r);
	else
		answer(rq, 200, b);
}
