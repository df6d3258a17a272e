/*
 * After a restored backup nobody knows which orders were withdrawn since: each is withheld until a person confirms it,
 * by its id, or withdraws it (DESIGN.md section 4 "Versions and restored backups").
 */
#include "base/err.h"
#include "base/log.h"
#include "json/build.h"
#include "json/json.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/ingest/db.h"

#include <stdio.h>
#include <string.h>

static int write_unconfirmed(void *user, const struct db_order *row)
{
	struct json_node *o;

	if (!row->unconfirmed)
		return 0;
	o = node_object(user, NULL);
	node_string(o, "id", row->id);
	node_string(o, "node", row->node);
	node_string(o, "kind", row->kind);
	node_string(o, "component", row->component);
	node_string(o, "from", row->from);
	node_string(o, "to", row->to);
	node_string(o, "reason", row->reason);
	node_string(o, "by", row->by);
	node_time(o, "issued", row->issued);
	node_time(o, "until", row->until);
	return 0;
}

void orders_get(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct serve *s = user;
	int r = db_orders(s->db, NULL, serve_now(s), write_unconfirmed,
			  node_array(json_build_root(b), "unconfirmed"));

	if (r < 0)
		fail_database(s, rq, r);
	else
		answer(rq, 200, b);
}

struct named {
	const char *id;
	char node[ID_MAX + 1], what[300];
};

static int find_order(void *user, const struct db_order *row)
{
	struct named *n = user;

	if (!row->unconfirmed || strcmp(row->id, n->id) != 0)
		return 0;
	snprintf(n->node, sizeof(n->node), "%s", row->node);
	snprintf(n->what, sizeof(n->what), "%s %.60s: %.180s", row->kind, row->component ? row->component : "",
		 row->reason ? row->reason : "no reason given");
	return 1;
}

static int decide(struct serve *s, const struct named *n, bool confirm, const char *by)
{
	char text[500];
	unsigned count = 0;
	int r = db_begin(s->db);

	snprintf(text, sizeof(text), "an order of the restored backup is %s: %s",
		 confirm ? "confirmed and in force again" : "withdrawn", n->what);
	if (r == 0)
		r = confirm ? db_order_confirm(s->db, n->id, serve_now(s), &count)
			    : db_order_withdraw_one(s->db, n->id, by, serve_now(s), &count);
	if (r == 0)
		r = serve_record(s, "order", n->node, NULL, text, by, confirm ? "order-confirm" : "order-withdraw",
				 n->id);
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	return r;
}

void orders_post(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	struct named n = { .id = doc ? id_arg(rq, 0, "order") : NULL };
	const char *verb = web_arg(rq, 1);
	bool confirm = strcmp(verb, "confirm") == 0;
	int r;

	if (!n.id)
		return;
	if (!confirm && strcmp(verb, "withdraw") != 0) {
		web_fail(rq, 404, "an order that waits is confirmed or withdrawn, not '%s'", verb);
		return;
	}
	r = db_orders(s->db, NULL, serve_now(s), find_order, &n);
	if (r >= 0 && !n.node[0]) {
		web_fail(rq, 404, "no order '%s' waits for confirmation; selfright node confirm lists them", n.id);
		return;
	}
	if (r >= 0)
		r = decide(s, &n, confirm, by_of(doc));
	if (r < 0) {
		fail_database(s, rq, r);
		return;
	}
	log_notice("order-decided", "order=%s node=%s confirmed=%d by=%s", n.id, n.node, confirm, by_of(doc));
	node_string(json_build_root(b), "id", n.id);
	node_string(json_build_root(b), "node", n.node);
	publish_orders_and_answer(s, rq, 200, b, n.node);
}
