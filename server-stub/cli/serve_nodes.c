/*
 * The nodes as they are known: what they said last, what they were told, what came of it.
 */
#include "base/log.h"
#include "crypto/certificate.h"
#include "json/build.h"
#include "json/json.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/cli/serve_handlers.h"
#include "server-stub/ingest/db_nodes.h"
#include "server-stub/ingest/db_orders.h"
#include "server-stub/ingest/db_reports.h"
#include "server-stub/ingest/ingest.h"

#include <errno.h>
#include <string.h>

enum { RESULTS_SHOWN = 50, CERTIFICATE_MAX = 64 * 1024 };

static int write_order(void *user, const struct db_order *row)
{
	struct json_node *o = node_object(user, NULL);

	order_write(o, row);
	node_bool(o, "unconfirmed", row->unconfirmed);
	return 0;
}

struct node_list {
	struct serve *serve;
	struct json_node *array;
	bool whole;
};

static int write_component(void *user, const struct db_component *row)
{
	struct json_node *o = node_object(user, NULL);

	node_string(o, "component", row->component);
	node_string(o, "version", row->version);
	node_string(o, "previous", row->previous);
	node_string(o, "rollout", row->rollout);
	node_string(o, "stage", row->stage);
	node_string(o, "why", row->why);
	node_string(o, "why_detail", row->why_detail);
	node_string(o, "wants", row->wants);
	node_bool(o, "denies", row->denies);
	return 0;
}

/* What the node says about its components, in its own words (with what it denies). */
static int write_reported(struct json_node *o, const char *report)
{
	static const char *const members[] = {
		"components", "checks", "agent", "generation", "own_labels", "means"
	};
	CLEANUP(json_freep)
	struct json *j = NULL;
	int r = json_parse(report, strlen(report), &json_limits_default, &j);

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(members); i++)
		if (json_get(j, members[i]))
			node_copy(o, members[i], json_get(j, members[i]));
	/* `orders` are those given; this is what the node says became of them. */
	if (r == 0 && json_get(j, "orders"))
		node_copy(o, "order_results", json_get(j, "orders"));
	return r;
}

/* When the newest one ends that was made for it: told by what is kept here, so also of a node that says nothing any more. */
static int write_certificate(struct serve *s, const char *node, struct json_node *o)
{
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(CERTIFICATE_MAX);
	struct certificate_info info;
	int r = db_node_certificate(s->db, node, &pem);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	r = certificate_read(buf_str(&pem), &info);
	if (r == 0)
		node_time(o, "certificate_until", info.not_after);
	return r == -ENOMEM ? r : 0; /* what cannot be read has no date to show */
}

static int write_node(void *user, const struct db_node *row)
{
	struct node_list *l = user;
	struct json_node *o = l->whole ? l->array : node_object(l->array, NULL), *way, *two;
	int r;

	node_string(o, "node", row->node);
	r = node_json(o, "labels", row->labels);
	if (r < 0)
		return r;
	node_time(o, "added", row->added_at);
	node_bool(o, "online", row->online);
	node_time(o, "presence_at", row->presence_at);
	node_time(o, "reported", row->reported_at);
	node_integer(o, "sequence", (int64_t) row->sequence);
	node_string(o, "boot_id", row->boot_id);
	node_bool(o, "quarantined", row->quarantined);
	node_string(o, "quarantine_reason", row->quarantine_reason);
	if (ingest_two_machines(row->returned_at, row->returns_told_at, serve_now(l->serve))) {
		two = node_object(o, "two_machines");
		node_integer(two, "returns", (int64_t) row->returns);
		node_time(two, "last", row->returned_at);
	}
	node_integer(o, "timestamp", (int64_t) row->timestamp);
	node_bool(o, "held_back", restore_held_back(row->timestamp, row->reported_at));
	if (row->under_way) {
		way = node_object(o, "under_way");
		node_string(way, "component", row->under_way);
		node_string(way, "to", row->under_way_to);
		node_string(way, "state", row->under_way_state);
		node_integer(way, "bytes_done", (int64_t) row->bytes_done);
		node_integer(way, "bytes_total", (int64_t) row->bytes_total);
	}
	if (l->whole)
		r = write_certificate(l->serve, row->node, o);
	if (r < 0)
		return r;
	if (l->whole && row->report)
		r = write_reported(o, row->report);
	else
		r = db_components(l->serve->db, row->node, write_component, node_array(o, "components"));
	if (r < 0)
		return r;
	return db_orders(l->serve->db, row->node, serve_now(l->serve), write_order, node_array(o, "orders"));
}

static int write_stranger(void *user, const struct db_stranger *row)
{
	struct json_node *o = node_object(user, NULL);

	node_string(o, "name", row->name);
	node_string(o, "reason", row->reason);
	node_integer(o, "count", (int64_t) row->count);
	node_time(o, "at", row->at);
	return 0;
}

void nodes_get(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct serve *s = user;
	struct node_list l = { .serve = s, .array = node_array(json_build_root(b), "nodes") };
	int r = db_nodes(s->db, NULL, write_node, &l);

	if (r == 0)
		r = enrol_list(s, node_array(json_build_root(b), "enrolments"));
	if (r == 0)
		r = db_strangers(s->db, write_stranger, node_array(json_build_root(b), "strangers"));
	if (r < 0)
		fail_database(s, rq, r);
	else
		answer(rq, 200, b);
}

static int write_result(void *user, const struct db_result *row)
{
	struct json_node *o = node_object(user, NULL);

	node_string(o, "update", row->update);
	node_string(o, "node", row->node);
	node_string(o, "component", row->component);
	node_string(o, "from", row->from);
	node_string(o, "to", row->to);
	node_string(o, "rollout", row->rollout);
	node_string(o, "stage", row->stage);
	node_integer(o, "number", (int64_t) row->number);
	node_string(o, "name", row->name);
	node_string(o, "class", row->class);
	node_string(o, "detail", row->detail);
	node_string(o, "log_tail", row->log_tail);
	node_time(o, "at", row->at);
	node_integer(o, "duration_ms", (int64_t) row->duration_ms);
	node_integer(o, "pause_ms", (int64_t) row->pause_ms);
	return 0;
}

struct tail {
	struct json_node *array;
	size_t skip;
};

static int count_results(void *user, const struct db_result *row)
{
	(void) row;
	(*(size_t *) user)++;
	return 0;
}

static int write_tail(void *user, const struct db_result *row)
{
	struct tail *t = user;

	if (t->skip > 0) {
		t->skip--;
		return 0;
	}
	return write_result(t->array, row);
}

void node_get(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct serve *s = user;
	const char *node = id_arg(rq, 0, "node");
	struct node_list l = { .serve = s, .array = json_build_root(b), .whole = true };
	struct tail tail = { NULL, 0 };
	size_t count = 0;
	int r;

	if (!node)
		return;
	r = db_nodes(s->db, node, write_node, &l);
	if (r == -ENOENT) {
		node_fail_absent(s, rq, node);
		return;
	}
	if (r == 0)
		r = lease_show(s, node, json_build_root(b));
	if (r == 0)
		r = db_results(s->db, node, NULL, count_results, &count);
	tail.array = node_array(json_build_root(b), "results");
	tail.skip = count > RESULTS_SHOWN ? count - RESULTS_SHOWN : 0;
	if (r == 0)
		r = db_results(s->db, node, NULL, write_tail, &tail);
	if (r < 0)
		fail_database(s, rq, r);
	else
		answer(rq, 200, b);
}
