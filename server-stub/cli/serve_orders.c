/*
 * Orders of support to one node: given, replaced, withdrawn. After a restored backup nobody knows which were withdrawn
 * since: each is withheld until a person confirms it, by its id, or withdraws it (DESIGN.md section 4 "Versions and
 * restored backups").
 */
#include "base/err.h"
#include "base/log.h"
#include "base/timestamp.h"
#include "base/version.h"
#include "json/build.h"
#include "json/json.h"
#include "model/catalogue.h"
#include "model/rollout.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/cli/serve_handlers.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_nodes.h"
#include "server-stub/ingest/db_orders.h"
#include "server-stub/ingest/db_reports.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { RETRY_LIFE_S = 86400, COLLECT_LIFE_S = 7 * 86400, COLLECT_LIFE_MAX_S = 30 * 86400 };

/* --- given and withdrawn --- */

struct running_version {
	const char *component;
	char version[72];
	bool found;
};

static int find_version(void *user, const struct db_component *row)
{
	struct running_version *v = user;

	if (strcmp(row->component, v->component) != 0)
		return 0;
	v->found = true;
	snprintf(v->version, sizeof(v->version), "%s", row->version ? row->version : "");
	return 1;
}

/* The versions of a component that this node proved, as far as its reports tell. */
struct proved {
	const char *component;
	struct string_list versions;
};

static int prove(struct proved *p, const char *version)
{
	if (!version || !*version || string_list_has(&p->versions, version))
		return 0;
	return string_list_add(&p->versions, version);
}

static int prove_by_result(void *user, const struct db_result *row)
{
	struct proved *p = user;

	if (!str_eq(row->component, p->component) ||
	    (row->number != RESULT_GOOD && row->number != RESULT_GOOD_UNPROVEN))
		return 0;
	return prove(p, row->to);
}

/* What it runs and what it would fall back to was good before it was told here, perhaps at the console. */
static int prove_by_component(void *user, const struct db_component *row)
{
	struct proved *p = user;
	int r;

	if (!str_eq(row->component, p->component))
		return 0;
	r = prove(p, row->previous);
	return r < 0 ? r : prove(p, row->version);
}

static int find_proved(struct serve *s, const char *node, struct proved *p)
{
	int r = db_results(s->db, node, NULL, prove_by_result, p);

	return r < 0 ? r : db_components(s->db, node, prove_by_component, p);
}

/* May support send it there? A complaint was sent if not. `from` is left, so it is no choice. */
static bool may_go_back(struct serve *s, struct web_request *rq, const char *node, const char *component,
			const char *from, const char *to)
{
	struct proved p = { .component = component };
	char list[600] = "";
	size_t n = 0;
	bool fine;
	int r = find_proved(s, node, &p);

	fine = r == 0 && string_list_has(&p.versions, to);
	for (size_t i = 0; i < p.versions.count && n < sizeof(list); i++)
		if (strcmp(p.versions.items[i], from) != 0)
			n += (size_t) snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "",
					       p.versions.items[i]);
	string_list_done(&p.versions);
	if (r < 0)
		fail_database(s, rq, r);
	else if (!fine && n > 0)
		web_fail(rq, 409,
			 "%s was never good on '%s', so it would refuse; it may go to %s. --force sends the "
			 "order anyway",
			 to, node, list);
	else if (!fine)
		web_fail(rq, 409,
			 "%s was never good on '%s', so it would refuse, and no other version of %s was. --force "
			 "sends the order anyway",
			 to, node, component);
	return fine;
}

/* Store the order (instead of a live one of its kind and component), publish, answer. */
static void give_order(struct serve *s, struct web_request *rq, struct db_order *o, const char *text,
		       const char *action)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	char id[ID_MAX + 1];
	unsigned replaced = 0, unpinned = 0;
	int r;

	r = serve_new_id(s, o->kind, id);
	if (r == 0)
		r = db_begin(s->db);
	if (r < 0) {
		fail_database(s, rq, r);
		return;
	}
	o->id = id;
	o->issued = serve_now(s);
	r = db_order_withdraw(s->db, o->node, o->kind, o->component, o->by, o->issued, &replaced);
	/* Where it is to be at now: with a pin left behind it would move again when the rollback is withdrawn. */
	if (r == 0 && strcmp(o->kind, "rollback") == 0)
		r = db_order_withdraw(s->db, o->node, "pin", o->component, o->by, o->issued, &unpinned);
	if (r == 0)
		r = db_order_add(s->db, o);
	if (r == 0)
		r = serve_record(s, "order", o->node, o->component, text, o->by, action, text);
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	if (r < 0) {
		fail_database(s, rq, r);
		return;
	}
	log_notice("order-given", "order=%s node=%s %s", id, o->node, text);
	node_string(json_build_root(b), "id", id);
	node_string(json_build_root(b), "node", o->node);
	node_string(json_build_root(b), "component", o->component);
	node_string(json_build_root(b), "from", o->from);
	node_string(json_build_root(b), "to", o->to);
	node_time(json_build_root(b), "until", o->until);
	node_bool(json_build_root(b), "replaced", replaced > 0);
	if (unpinned > 0)
		node_bool(json_build_root(b), "pin_withdrawn", true);
	publish_orders_and_answer(s, rq, 201, b, o->node);
}

static void withdraw_order(struct serve *s, struct web_request *rq, const char *node, const char *kind,
			   const char *component, const char *by)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	char text[200];
	unsigned count = 0;
	int r;

	r = db_begin(s->db);
	if (r == 0)
		r = db_order_withdraw(s->db, node, kind, component, by, serve_now(s), &count);
	snprintf(text, sizeof(text), "%s withdrawn", kind);
	if (r == 0 && count > 0)
		r = serve_record(s, "order", node, component, text, by, "order-withdraw", kind);
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	if (r < 0) {
		fail_database(s, rq, r);
		return;
	}
	if (count == 0) {
		web_fail(rq, 404, "no %s is in force for '%s'; selfright node show %s lists its orders", kind,
			 node, node);
		return;
	}
	node_integer(json_build_root(b), "withdrawn", count);
	publish_orders_and_answer(s, rq, 200, b, node);
}

void orders_rollback_post(void *user, struct web_request *rq)
{
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	const char *node = doc ? id_arg(rq, 0, "node") : NULL, *component, *to, *from, *reason;
	struct running_version running = { 0 };
	char text[1300];
	struct db_order o;
	int r;

	if (!doc || !node_is_known(s, rq, node))
		return;
	component = json_string(json_get(doc, "component"));
	to = json_string(json_get(doc, "to"));
	from = json_string(json_get(doc, "from"));
	reason = text_field(rq, doc, "reason");
	if (!reason)
		return;
	if (!guard_id(component) || !to || !version_is_valid(to) || (from && !version_is_valid(from))) {
		web_fail(rq, 400, "'component' and 'to' (a version that was good on this node) are needed");
		return;
	}
	running.component = component;
	r = db_components(s->db, node, find_version, &running);
	if (r < 0) {
		fail_database(s, rq, r);
		return;
	}
	if (!from && (!running.found || !running.version[0])) {
		web_fail(rq, 409, "'%s' has not reported any version of %s; say which one to leave with --from",
			 node, component);
		return;
	}
	from = from ? from : running.version;
	if (strcmp(from, to) == 0) {
		web_fail(rq, 409, "'%s' runs %s %s already; hold it there with: selfright node hold %s", node,
			 component, to, node);
		return;
	}
	if (!json_bool(json_get(doc, "force"), false) && !may_go_back(s, rq, node, component, from, to))
		return;
	snprintf(text, sizeof(text), "support sends it back from %s to %s: %s", from, to, reason);
	o = (struct db_order){ .node = node,
			       .kind = "rollback",
			       .component = component,
			       .from = from,
			       .to = to,
			       .reason = reason,
			       .restore_data = json_bool(json_get(doc, "restore_data"), false),
			       .by = by_of(doc) };
	give_order(s, rq, &o, text, "node-rollback");
}

static void withdraw_of_component(struct serve *s, struct web_request *rq, const char *kind)
{
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	const char *node = doc ? id_arg(rq, 0, "node") : NULL, *component;

	if (!doc || !node_is_known(s, rq, node))
		return;
	component = json_string(json_get(doc, "component"));
	if (component && !guard_id(component)) {
		web_fail(rq, 400, "'component' is no component's name");
		return;
	}
	withdraw_order(s, rq, node, kind, component, by_of(doc));
}

void orders_rollback_delete(void *user, struct web_request *rq)
{
	withdraw_of_component(user, rq, "rollback");
}

struct live_order {
	const char *kind, *component;
	bool found;
};

static int find_live(void *user, const struct db_order *row)
{
	struct live_order *l = user;

	l->found = strcmp(row->kind, l->kind) == 0 && row->component && strcmp(row->component, l->component) == 0;
	return l->found;
}

void orders_pin_post(void *user, struct web_request *rq)
{
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	const char *node = doc ? id_arg(rq, 0, "node") : NULL, *component, *version, *reason;
	struct live_order rollback = { .kind = "rollback" };
	struct running_version running = { 0 };
	char text[1300];
	struct db_order o;
	int r;

	if (!doc || !node_is_known(s, rq, node))
		return;
	component = json_string(json_get(doc, "component"));
	version = json_string(json_get(doc, "version"));
	reason = text_field(rq, doc, "reason");
	if (!reason)
		return;
	if (!guard_id(component) || (version && !version_is_valid(version))) {
		web_fail(rq, 400, "'component' is needed, and 'version' is one that was good on this node");
		return;
	}
	running.component = rollback.component = component;
	r = db_components(s->db, node, find_version, &running);
	if (r >= 0)
		r = db_orders(s->db, node, serve_now(s), find_live, &rollback);
	if (r < 0) {
		fail_database(s, rq, r);
		return;
	}
	if (rollback.found) {
		web_fail(rq, 409,
			 "a rollback of %s is in force for '%s', and goes before a pin: end it first with: "
			 "selfright "
			 "node rollback %s %s --withdraw",
			 component, node, node, component);
		return;
	}
	if (!version && (!running.found || !running.version[0])) {
		web_fail(rq, 409, "'%s' has not reported any version of %s; say which one with --version", node,
			 component);
		return;
	}
	version = version ? version : running.version;
	if (!json_bool(json_get(doc, "force"), false) && !may_go_back(s, rq, node, component, "", version))
		return;
	snprintf(text, sizeof(text), "support pins it to %s: %s", version, reason);
	o = (struct db_order){ .node = node,
			       .kind = "pin",
			       .component = component,
			       .to = version,
			       .reason = reason,
			       .by = by_of(doc) };
	give_order(s, rq, &o, text, "node-pin");
}

void orders_pin_delete(void *user, struct web_request *rq)
{
	withdraw_of_component(user, rq, "pin");
}

void orders_hold_post(void *user, struct web_request *rq)
{
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	const char *node = doc ? id_arg(rq, 0, "node") : NULL, *reason;
	char text[1200], stamp[TIMESTAMP_LEN + 1];
	struct db_order o;
	int64_t until;

	if (!doc || !node_is_known(s, rq, node))
		return;
	reason = text_field(rq, doc, "reason");
	until = reason ? until_field(s, rq, doc, HOLD_MAX_S) : 0;
	if (until == 0)
		return;
	timestamp_format(stamp, until);
	snprintf(text, sizeof(text), "support holds it until %s: %s", stamp, reason);
	o = (struct db_order){ .node = node, .kind = "hold", .reason = reason, .by = by_of(doc), .until = until };
	give_order(s, rq, &o, text, "node-hold");
}

void orders_hold_delete(void *user, struct web_request *rq)
{
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	const char *node = doc ? id_arg(rq, 0, "node") : NULL;

	if (doc && node_is_known(s, rq, node))
		withdraw_order(s, rq, node, "hold", NULL, by_of(doc));
}

void orders_retry_post(void *user, struct web_request *rq)
{
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	const char *node = doc ? id_arg(rq, 0, "node") : NULL, *component, *reason;
	char text[1200];
	struct db_order o;

	if (!doc || !node_is_known(s, rq, node))
		return;
	component = json_string(json_get(doc, "component"));
	if (!guard_id(component)) {
		web_fail(rq, 400, "'component' is needed");
		return;
	}
	reason = text_field(rq, doc, "reason");
	if (!reason)
		return;
	snprintf(text, sizeof(text), "support lifts what it denies, to try again: %s", reason);
	o = (struct db_order){ .node = node,
			       .kind = "retry",
			       .component = component,
			       .reason = reason,
			       .by = by_of(doc),
			       .until = serve_now(s) + RETRY_LIFE_S };
	give_order(s, rq, &o, text, "node-retry");
}

/* In the place of a component stands the set's name. */
void orders_collect_post(void *user, struct web_request *rq)
{
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	const char *node = doc ? id_arg(rq, 0, "node") : NULL, *set, *reason;
	uint64_t life = COLLECT_LIFE_S;
	char text[1200];
	struct db_order o;

	if (!doc || !node_is_known(s, rq, node))
		return;
	set = json_string(json_get(doc, "set"));
	if (!guard_id(set)) {
		web_fail(rq, 400, "'set' is needed: the name of a set of files that the node's collect.d defines");
		return;
	}
	if (json_optional_u64(doc, "expires", 60, COLLECT_LIFE_MAX_S, &life) < 0) {
		web_fail(rq, 400, "'expires' is a number of seconds, from a minute to 30 days");
		return;
	}
	reason = text_field(rq, doc, "reason");
	if (!reason)
		return;
	snprintf(text, sizeof(text), "support asks for its files '%s': %s", set, reason);
	o = (struct db_order){ .node = node,
			       .kind = "collect",
			       .component = set,
			       .reason = reason,
			       .by = by_of(doc),
			       .until = serve_now(s) + (int64_t) life };
	give_order(s, rq, &o, text, "node-collect");
}

void orders_collect_delete(void *user, struct web_request *rq)
{
	withdraw_of_component(user, rq, "collect");
}

/* --- as they are told --- */

void order_write(struct json_node *o, const struct db_order *row)
{
	node_string(o, "id", row->id);
	node_string(o, "kind", row->kind);
	node_string(o, "component", row->component);
	node_string(o, "from", row->from);
	node_string(o, "to", row->to);
	node_string(o, "reason", row->reason);
	node_string(o, "by", row->by);
	node_time(o, "issued", row->issued);
	node_time(o, "until", row->until);
}

/* --- after a restored backup --- */

static int write_unconfirmed(void *user, const struct db_order *row)
{
	struct json_node *o;

	if (!row->unconfirmed)
		return 0;
	o = node_object(user, NULL);
	order_write(o, row);
	node_string(o, "node", row->node);
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
