#include "base/err.h"
#include "base/log.h"
#include "base/timestamp.h"
#include "base/version.h"
#include "conf/conf.h"
#include "json/build.h"
#include "json/json.h"
#include "model/catalogue.h"
#include "model/collection.h"
#include "model/enrolment.h"
#include "model/release.h"
#include "model/report.h"
#include "mqtt/mqtt.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/ingest.h"
#include "server-stub/repo/advice.h"
#include "server-stub/repo/repo.h"
#include "server-stub/rollout/preflight.h"
#include "server-stub/signer/signer.h"
#include "server-stub/signer/client.h"
#include "tuf/tuf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	BODY_MAX = 1024 * 1024,
	LEASE_BODY_MAX = 16 * 1024,
	METADATA_MAX = 8 * 1024 * 1024,
	EVENTS_MAX = 1000,
	BATCH_WAIT_MS = 5000, /* it ends with this round of the loop */
	WAIT_MAX_S = 120,
	RESULTS_SHOWN = 50,
	ID_TAIL = 8,
};

/* --- for nodes --- */

static void get_metadata(void *user, struct web_request *rq)
{
	struct serve *s = user;
	char path[1100];

	snprintf(path, sizeof(path), "metadata/%s", web_arg(rq, 0));
	web_file(rq, s->repo_dirfd, path);
}

static void get_targets(void *user, struct web_request *rq)
{
	struct serve *s = user;
	char path[1100];

	snprintf(path, sizeof(path), "targets/%s", web_arg(rq, 0));
	web_file(rq, s->repo_dirfd, path);
}

static void write_ack(const void *what, struct json_node *object)
{
	ack_write(what, object);
}

int serve_store_report(struct serve *s, const char *node, const void *data, size_t len, const char *road,
		       struct ingest_outcome *ret, bool *ret_refused)
{
	struct ingest_outcome o;
	int r = ingest_report(s->db, s->fleet, node, data, len, serve_now(s), &o);

	if (r < 0) {
		log_error("ingest-failed", "a report was not stored: node=%s error=%s", node, db_error(s->db));
		return r;
	}
	*ret = o;
	if (o.timestamp)
		restore_look(s, node, o.timestamp, data, len);
	*ret_refused = o.verdict == INGEST_UNKNOWN || o.verdict == INGEST_UNSIGNED ||
		       o.verdict == INGEST_MALFORMED || o.verdict == INGEST_QUARANTINED;
	if (*ret_refused)
		log_warning("report-refused", "node=%s road=%s verdict=%s: %s", node, road,
			    ingest_verdict_name(o.verdict), o.text);
	else
		log_debug("report-taken", "node=%s road=%s verdict=%s news=%u", node, road,
			  ingest_verdict_name(o.verdict), o.news);
	return 0;
}

int serve_sign_ack(struct serve *s, const struct ack *ack, struct buf *ret)
{
	int r = trust_sign(s, write_ack, ack, ret);

	if (r < 0)
		log_error("ack-failed", "a report is stored, but its answer was not signed: node=%s error=%s",
			  ack->node, s->signer ? signer_error(s->signer) : "the signer is away");
	return r;
}

/* A report that waits for the end of its batch. */
struct posted {
	bool stored;
	uint64_t batch; /* 0: it is on the disk already */
	struct ingest_outcome outcome;
};

static void answer_posted(struct serve *s, struct web_request *rq, const struct posted *p)
{
	CLEANUP(buf_done)
	struct buf ack = BUF_INIT(16 * 1024);

	if ((p->batch && p->batch == s->failed_batch) ||
	    (p->outcome.acknowledge && serve_sign_ack(s, &p->outcome.ack, &ack) < 0))
		web_fail(rq, 503, "the report cannot be answered now; send it again");
	else if (ack.len == 0)
		web_fail(rq, 409, "%s", p->outcome.text);
	else
		web_reply(rq, 200, "application/json", ack.data, ack.len);
}

/* Stored at the first call; answered once it, and what came with it, is on the disk. */
static void post_report(void *user, struct web_request *rq)
{
	struct serve *s = user;
	const char *node = id_arg(rq, 0, "node");
	struct posted *p = node ? web_note(rq, sizeof(*p)) : NULL;
	bool refused = false;
	const void *body;
	size_t len;

	if (!node)
		return;
	if (!p) {
		web_fail(rq, 503, "the report cannot be answered now; send it again");
		return;
	}
	if (!p->stored) {
		body = web_body(rq, &len);
		broker_begin_batch(s);
		if (serve_store_report(s, node, body, len, "https", &p->outcome, &refused) < 0) {
			web_fail(rq, 503, "the report cannot be answered now; send it again");
			return;
		}
		if (refused) {
			web_fail(rq, 403, "%s", p->outcome.text);
			return;
		}
		p->stored = true;
		p->batch = s->batch ? s->batches : 0;
		if (p->batch && web_wait(rq, BATCH_WAIT_MS)) {
			s->posted = true;
			return;
		}
	}
	if (p->batch == s->batches)
		broker_settle(s);
	answer_posted(s, rq, p);
}

/* Of a stick, by hand: the same rules, and in words what came of it. Whoever sent it hears it the next time it is connected. */
static void post_report_of_stick(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct ingest_outcome o = { .news = 0 };
	const char *node = id_arg(rq, 0, "node");
	bool refused = false;
	const void *body;
	size_t len;
	int r;

	if (!node)
		return;
	body = web_body(rq, &len);
	r = serve_store_report(user, node, body, len, "stick", &o, &refused);
	if (r < 0) {
		fail_database(user, rq, r);
		return;
	}
	node_string(json_build_root(b), "node", node);
	node_string(json_build_root(b), "verdict", ingest_verdict_name(o.verdict));
	node_bool(json_build_root(b), "taken", !refused);
	node_integer(json_build_root(b), "news", o.news);
	node_string(json_build_root(b), "text", o.text);
	answer(rq, 200, b);
}

static int add_file(void *user, const char *role, const void *bytes, size_t len)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(METADATA_MAX);
	int r = buf_add(&text, bytes, len);

	if (r == 0)
		node_string(user, role, buf_str(&text));
	return r;
}

/* {"valid": seconds}: what is published, signed for that long; `selfright bundle` packs it. */
static void post_bundle(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	uint64_t valid = 0;
	int r;

	if (!doc || !trust_is_there(s, rq))
		return;
	if (json_need_u64(doc, "valid", 3600, SIGNER_BUNDLE_LIFE_MAX, &valid) < 0) {
		web_fail(rq, 400, "'valid' is a number of seconds, from an hour to 366 days");
		return;
	}
	r = repo_sign_bundle(s->repo, valid, add_file, node_object(json_build_root(b), "files"));
	if (r < 0) {
		web_fail(rq, r == -ERR_REFUSED ? 403 : 503, "%s", repo_error(s->repo));
		return;
	}
	trust_announce(s, NULL);
	log_notice("bundle-signed", "seconds=%llu", (unsigned long long) valid);
	answer(rq, 200, b);
}

/* --- status, uploads, publication --- */

struct counts {
	unsigned nodes, online, quarantined, silent, running;
	int64_t now;
};

static int count_node(void *user, const struct db_node *row)
{
	struct counts *c = user;

	c->nodes++;
	c->online += row->online;
	c->quarantined += row->quarantined;
	c->silent += row->reported_at == 0 || c->now - row->reported_at > 86400;
	return 0;
}

static int count_rollout(void *user, const struct db_rollout *row)
{
	struct counts *c = user;

	c->running += strcmp(row->state, "running") == 0;
	return 0;
}

static int count_all(struct serve *s, struct counts *c)
{
	int r;

	*c = (struct counts){ .now = serve_now(s) };
	r = db_nodes(s->db, NULL, count_node, c);
	return r < 0 ? r : db_rollouts(s->db, NULL, count_rollout, c);
}

static void get_status(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b);
	struct serve *s = user;
	struct counts c;
	int r = count_all(s, &c);

	if (r < 0) {
		fail_database(s, rq, r);
		return;
	}
	node_string(o, "fleet", s->fleet);
	node_string(o, "version", SELFRIGHT_VERSION);
	node_integer(o, "https_port", s->https_port);
	node_integer(o, "broker_port", s->broker_port);
	node_bool(o, "broker_connected", s->mqtt && s->past_is_over && mqtt_is_connected(s->mqtt));
	node_bool(o, "signer_connected", s->repo != NULL);
	node_bool(o, "publish_due", s->publish_due);
	node_integer(o, "nodes", c.nodes);
	node_integer(o, "online", c.online);
	node_integer(o, "quarantined", c.quarantined);
	node_integer(o, "rollouts_running", c.running);
	node_integer(o, "last_event", db_last_event(s->db));
	answer(rq, 200, b);
}

static void get_metrics(void *user, struct web_request *rq)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(64 * 1024);
	struct serve *s = user;
	struct web_stats web;
	struct mqtt_stats mqtt = { 0 };
	struct counts c;
	int r = count_all(s, &c);

	web_stats(s->web, &web);
	if (s->mqtt)
		mqtt_stats(s->mqtt, &mqtt);
	if (r == 0)
		r = buf_addf(&text,
			     "# TYPE selfright_nodes gauge\nselfright_nodes %u\n"
			     "# TYPE selfright_nodes_online gauge\nselfright_nodes_online %u\n"
			     "# TYPE selfright_nodes_quarantined gauge\nselfright_nodes_quarantined %u\n"
			     "# TYPE selfright_nodes_silent_1d gauge\nselfright_nodes_silent_1d %u\n"
			     "# TYPE selfright_rollouts_running gauge\nselfright_rollouts_running %u\n"
			     "# TYPE selfright_broker_connected gauge\nselfright_broker_connected %d\n"
			     "# TYPE selfright_broker_messages_in counter\nselfright_broker_messages_in %" PRIu64
			     "\n"
			     "# TYPE selfright_broker_messages_out counter\nselfright_broker_messages_out %" PRIu64
			     "\n"
			     "# TYPE selfright_http_requests counter\nselfright_http_requests %" PRIu64 "\n"
			     "# TYPE selfright_http_failures counter\nselfright_http_failures %" PRIu64 "\n"
			     "# TYPE selfright_http_connections gauge\nselfright_http_connections %u\n",
			     c.nodes, c.online, c.quarantined, c.silent, c.running,
			     s->mqtt && mqtt_is_connected(s->mqtt), mqtt.messages_in, mqtt.messages_out,
			     web.requests, web.failures, web.connections);
	if (r < 0)
		fail_database(s, rq, r);
	else
		web_reply(rq, 200, "text/plain; version=0.0.4", text.data, text.len);
}

static void put_upload(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();

	(void) user;
	node_string(json_build_root(b), "sha256", web_arg(rq, 0));
	answer(rq, 201, b);
}

static void post_publish(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	const char *role, *metadata;
	char text[300];
	int r;

	if (!doc || !trust_is_there(s, rq))
		return;
	role = json_string(json_get(doc, "role"));
	metadata = json_string(json_get(doc, "metadata"));
	if (!guard_id(role) || !metadata) {
		web_fail(rq, 400, "'role' and 'metadata' (the signed file as text) are needed");
		return;
	}
	r = repo_publish_role(s->repo, role, metadata, strlen(metadata));
	if (r < 0) {
		web_fail(rq, err_class(r) == ERR_CLASS_RETRY ? 503 : 422, "%s", repo_error(s->repo));
		return;
	}
	snprintf(text, sizeof(text), "new metadata of the role %s is published", role);
	r = serve_record(s, "published", NULL, NULL, text, by_of(doc), "publish-role", role);
	if (r < 0)
		log_error("record-failed", "a publication is not in the timeline: %s", db_error(s->db));
	trust_announce(s, NULL);
	log_notice("role-published", "role=%s", role);
	node_string(json_build_root(b), "role", role);
	answer(rq, 200, b);
}

static void get_target(void *user, struct web_request *rq)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(SERVE_TEXT_MAX);
	struct serve *s = user;
	const char *path = web_query(rq, "path");
	int r;

	if (!guard_path(path)) {
		web_fail(rq, 400, "?path= names a target, e.g. web/policy.json");
		return;
	}
	if (!trust_is_there(s, rq))
		return;
	r = repo_read_target(s->repo, path, &text);
	if (r == -ENOENT)
		web_fail(rq, 404, "no trusted role lists %s", path);
	else if (r < 0)
		web_fail(rq, 500, "%s", repo_error(s->repo));
	else
		web_reply(rq, 200, "application/json", text.data, text.len);
}

/* --- nodes --- */

static int write_order(void *user, const struct db_order *row)
{
	struct json_node *o = node_object(user, NULL);

	node_string(o, "id", row->id);
	node_string(o, "kind", row->kind);
	node_string(o, "component", row->component);
	node_string(o, "from", row->from);
	node_string(o, "to", row->to);
	node_string(o, "reason", row->reason);
	node_string(o, "by", row->by);
	node_time(o, "issued", row->issued);
	node_time(o, "until", row->until);
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

static int write_node(void *user, const struct db_node *row)
{
	struct node_list *l = user;
	struct json_node *o = l->whole ? l->array : node_object(l->array, NULL), *way;
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

static void get_nodes(void *user, struct web_request *rq)
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

static void get_node(void *user, struct web_request *rq)
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
		web_fail(rq, 404, "there is no node '%s'; selfright node list shows all, node add makes one",
			 node);
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

static bool usable_identity(const char *pem)
{
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;

	return pem && strlen(pem) < 4096 && tuf_keyring_single(pem, &ring) == 0;
}

/* What a join file holds besides keys; `transport` NULL: no certificate, the node asks for it itself. */
static int join_answer(struct serve *s, const char *node, const char *transport, struct json_node *o)
{
	CLEANUP(buf_done)
	struct buf crt = BUF_INIT(64 * 1024), ca = BUF_INIT(64 * 1024), root = BUF_INIT(METADATA_MAX);
	struct json_node *broker;
	int r = 0;

	if (transport)
		r = signer_certify_node(s->signer, node, transport, s->options.certificate_life_s, &crt);
	if (r == 0)
		r = repo_ca_pem(s->repo, &ca);
	if (r == 0)
		r = repo_read_role(s->repo, "root", &root);
	if (r < 0)
		return r;
	node_string(o, "fleet", s->fleet);
	node_string(o, "node", node);
	if (transport)
		node_string(o, "transport_crt", buf_str(&crt));
	node_string(o, "ca", buf_str(&ca));
	node_string(o, "root", buf_str(&root));
	node_stringf(node_array(o, "urls"), NULL,
		     strchr(serve_public_host(s), ':') ? "https://[%s]:%u/" : "https://%s:%u/",
		     serve_public_host(s), s->https_port);
	broker = node_object(o, "broker");
	node_string(broker, "host", s->options.broker_host ? s->options.nodes_host : serve_public_host(s));
	node_integer(broker, "port", s->options.broker_host ? s->options.nodes_port : s->broker_port);
	return 0;
}

/* Orders in force, so that each is withdrawn and its document taken back before the node is forgotten. */
static int withdraw_all(struct serve *s, const char *node, const char *by)
{
	static const char *const kinds[] = { "rollback", "pin", "hold", "retry", "collect" };
	unsigned count = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(kinds); i++)
		r = db_order_withdraw(s->db, node, kinds[i], NULL, by, serve_now(s), &count);
	return r == 0 ? control_publish_now(s) : r;
}

/* What the broker keeps of it would come back as a stranger's with every start. */
static void clear_retained(struct serve *s, const char *node)
{
	static const char *const kinds[] = { "report", "presence", "announce" };
	char topic[TOPIC_MAX];

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		snprintf(topic, sizeof(topic), "node/%s/%s", node, kinds[i]);
		broker_publish(s, topic, "", 0, true);
	}
}

/* Forget a node; one that is replaced and not there is fine. False: a complaint was sent. */
static bool remove_node(struct serve *s, struct web_request *rq, const char *node, const char *reason,
			const char *by, bool must_exist)
{
	char text[1200];
	int r;

	if (!reason)
		return false;
	r = withdraw_all(s, node, by);
	if (r < 0) {
		web_fail(rq, 503, "its orders cannot be taken back now: %s",
			 s->repo ? repo_error(s->repo) : "the signer is away");
		return false;
	}
	snprintf(text, sizeof(text), "%s: %s", must_exist ? "removed from the fleet" : "gets new keys", reason);
	r = db_begin(s->db);
	if (r == 0)
		r = db_node_remove(s->db, node, serve_now(s));
	if (r == 0)
		r = serve_record(s, "node-removed", node, NULL, text, by,
				 must_exist ? "node-remove" : "node-replace", node);
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	if (r == -ENOENT && !must_exist)
		return true;
	if (r == -ENOENT)
		web_fail(rq, 404, "there is no node '%s'; selfright node list shows all", node);
	else if (r < 0)
		fail_database(s, rq, r);
	if (r < 0)
		return false;
	clear_retained(s, node);
	collect_forget(s, node);
	log_notice("node-removed", "node=%s %s", node, text);
	return true;
}

static void delete_node(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	const char *node = doc ? id_arg(rq, 0, "node") : NULL;
	int r;

	if (!node || !trust_is_there(s, rq) ||
	    !remove_node(s, rq, node, text_field(rq, doc, "reason"), by_of(doc), true))
		return;
	r = broker_access_changed(s);
	if (r < 0)
		log_error("broker-access", "the broker's access list is not changed yet: %s", err_text(r));
	node_string(json_build_root(b), "node", node);
	node_bool(json_build_root(b), "external_broker", s->options.broker_host != NULL);
	publish_and_answer(s, rq, 200, b);
}

static void post_node(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_build_freep)
	struct json_build *labels_build = json_build_new();
	CLEANUP(buf_done)
	struct buf labels_text = BUF_INIT(64 * 1024);
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	struct labels labels = { 0 };
	const char *node, *identity, *transport;
	CLEANUP(json_freep)
	struct json *wrapped = NULL;
	CLEANUP(buf_done)
	struct buf whole = BUF_INIT(64 * 1024);
	bool secret;
	int r;

	if (!doc || !trust_is_there(s, rq))
		return;
	node = json_string(json_get(doc, "node"));
	identity = json_string(json_get(doc, "identity_public"));
	transport = json_string(json_get(doc, "transport_public"));
	if (!guard_id(node)) {
		web_fail(rq, 400, "a node's name is lower-case letters, digits and '-', at most 63, e.g. oslo-1");
		return;
	}
	/* On a broker the controller has this name. */
	if (str_starts(node, "selfright-") && strcmp(node + strlen("selfright-"), s->fleet) == 0) {
		web_fail(rq, 400, "the controller itself is '%s' at the broker; choose another name", node);
		return;
	}
	secret = !json_get(doc, "identity_public") && !json_get(doc, "transport_public");
	if (!secret && (!usable_identity(identity) || !usable_identity(transport))) {
		web_fail(rq, 400, "'identity_public' and 'transport_public' are P-256 public keys in PEM");
		return;
	}
	r = json_get(doc, "labels") ? labels_parse(json_get(doc, "labels"), &labels) : 0;
	if (r < 0) {
		web_fail(rq, 400, "'labels' is an object of names and values: %s", err_text(r));
		return;
	}
	labels_write(&labels, json_build_root(labels_build), "labels");
	labels_done(&labels);
	r = json_build_text(labels_build, false, &whole);
	if (r == 0)
		r = json_parse(whole.data, whole.len, &json_limits_default, &wrapped);
	if (r == 0)
		r = json_text(json_get(wrapped, "labels"), &labels_text);
	if (r == 0 && secret) {
		if (!enrol_make_secret(s, rq, doc, node, buf_str(&labels_text), json_build_root(b)))
			return;
		r = join_answer(s, node, NULL, json_build_root(b));
		if (r == 0)
			answer(rq, 201, b);
		else
			web_fail(rq, 500, "the join file cannot be made: %s", err_text(r));
		return;
	}
	if (r == 0 && json_bool(json_get(doc, "replace"), false) &&
	    !remove_node(s, rq, node, text_field(rq, doc, "reason"), by_of(doc), false))
		return;
	if (r == 0)
		r = db_begin(s->db);
	if (r == 0)
		r = db_node_add(s->db, node, identity, transport, buf_str(&labels_text), serve_now(s));
	if (r == -EEXIST) {
		db_abort(s->db);
		web_fail(rq, 409,
			 "the node '%s' is enrolled with other keys; its join file was made before. If that is "
			 "lost: "
			 "selfright node add %s --replace --reason TEXT",
			 node, node);
		return;
	}
	if (r == 0)
		r = serve_record(s, "node-added", node, NULL, "added to the fleet", by_of(doc), "node-add", node);
	if (r == 0)
		r = join_answer(s, node, transport, json_build_root(b));
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	/* It may have been removed before. */
	if (r == 0)
		r = broker_access_changed(s);
	if (r < 0) {
		log_error("node-add-failed", "node=%s: %s (%s)", node, err_text(r), signer_error(s->signer));
		web_fail(rq, 500, "the node cannot be added: %s (%s)", err_text(r), signer_error(s->signer));
		return;
	}
	answer(rq, 201, b);
}

static void delete_lease(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	const char *node = doc ? id_arg(rq, 0, "node") : NULL, *reason;
	unsigned count = 0;
	int r;

	if (!doc || !node_is_known(s, rq, node))
		return;
	reason = text_field(rq, doc, "reason");
	if (!reason)
		return;
	r = lease_release(s, node, reason, by_of(doc), &count);
	if (r < 0) {
		fail_database(s, rq, r);
	} else if (count == 0) {
		web_fail(rq, 409, "%s holds no place: nothing waits for it", node);
	} else {
		node_string(json_build_root(b), "node", node);
		answer(rq, 200, b);
	}
}

static void post_trust(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	const char *node = doc ? id_arg(rq, 0, "node") : NULL, *reason;
	char text[1200];
	int r;

	if (!doc || !node_is_known(s, rq, node))
		return;
	reason = text_field(rq, doc, "reason");
	if (!reason)
		return;
	snprintf(text, sizeof(text), "trusted again: %s", reason);
	r = db_begin(s->db);
	if (r == 0)
		r = db_node_trust(s->db, node);
	if (r == 0)
		r = serve_record(s, "trusted", node, NULL, text, by_of(doc), "node-trust", node);
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	if (r < 0) {
		fail_database(s, rq, r);
		return;
	}
	node_string(json_build_root(b), "node", node);
	answer(rq, 200, b);
}

/* --- rollouts --- */

static int write_stage_row(void *user, const struct db_stage *row)
{
	struct json_node *o = node_object(user, NULL);

	node_string(o, "name", row->name);
	node_bool(o, "open", row->open);
	node_time(o, "opened", row->opened_at);
	return 0;
}

struct rollout_list {
	struct serve *serve;
	struct json_node *array;
};

static int write_rollout(struct serve *s, struct json_node *o, const struct db_rollout *row)
{
	(void) s;
	node_string(o, "id", row->id);
	node_integer(o, "seq", (int64_t) row->seq);
	node_string(o, "component", row->component);
	node_string(o, "version", row->version);
	node_string(o, "kind", row->kind);
	node_string(o, "state", row->state);
	node_string(o, "reason", row->reason);
	node_string(o, "by", row->by);
	node_time(o, "created", row->created_at);
	node_time(o, "state_at", row->state_at);
	return node_json(o, "undo", row->undo);
}

static int list_rollout(void *user, const struct db_rollout *row)
{
	struct rollout_list *l = user;
	struct json_node *o = node_object(l->array, NULL);
	int r = write_rollout(l->serve, o, row);

	node_string(o, "why", row->note);
	return r < 0 ? r : db_stages(l->serve->db, row->id, write_stage_row, node_array(o, "stages"));
}

static void get_rollouts(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct serve *s = user;
	struct rollout_list l = { s, node_array(json_build_root(b), "rollouts") };
	int r = db_rollouts(s->db, NULL, list_rollout, &l);

	if (r < 0)
		fail_database(s, rq, r);
	else
		answer(rq, 200, b);
}

/* Successes of nodes that joined a moment ago do not count yet. */
static bool is_young(const struct serve *s, const struct evaluation *e, const struct evaluated_member *m)
{
	return serve_now(s) - m->member.added_at < (int64_t) e->plan.min_age_s;
}

static void write_member(const struct serve *s, struct json_node *nodes, const struct evaluation *e,
			 const struct evaluated_member *m)
{
	struct json_node *o = node_object(nodes, NULL);

	if (is_young(s, e, m)) {
		node_time(o, "added", m->member.added_at);
		node_time(o, "counts_from", m->member.added_at + (int64_t) e->plan.min_age_s);
	}

	node_string(o, "node", m->node);
	node_string(o, "state", member_state_name(m->member.state));
	node_bool(o, "silent", m->member.silent);
	node_bool(o, "online", m->online);
	node_string(o, "version", m->version[0] ? m->version : NULL);
	node_string(o, "under_way", m->under_way[0] ? m->under_way : NULL);
	if (m->bytes_total) {
		node_integer(o, "bytes_done", (int64_t) m->bytes_done);
		node_integer(o, "bytes_total", (int64_t) m->bytes_total);
	}
	node_string(o, "result", m->result[0] ? m->result : NULL);
	node_string(o, "detail", m->detail[0] ? m->detail : NULL);
	node_time(o, "reported", m->reported_at);
}

static void write_evaluation(const struct serve *s, struct json_node *o, const struct evaluation *e)
{
	struct json_node *stages = node_array(o, "stages"), *with = node_array(o, "with");

	for (size_t i = 0; i < e->plan.with_count; i++) {
		struct json_node *w = node_object(with, NULL);

		node_string(w, "component", e->plan.with[i].component);
		node_string(w, "version", e->plan.with[i].version);
	}
	for (size_t k = 0; k < e->plan.stage_count; k++) {
		struct json_node *stage = node_object(stages, NULL), *nodes;

		node_string(stage, "name", e->plan.stages[k].name);
		node_bool(stage, "open", e->stages[k].open);
		node_time(stage, "opened", e->stages[k].opened_at);
		node_integer(stage, "soak", (int64_t) e->plan.stages[k].soak_s);
		node_integer(stage, "selects", (int64_t) e->stages[k].selected);
		node_string(stage, "zone", e->plan.stages[k].zone);
		nodes = node_array(stage, "nodes");
		for (size_t i = 0; i < e->count; i++)
			if (e->members[i].selected && e->members[i].member.stage == k)
				write_member(s, nodes, e, &e->members[i]);
	}
	node_string(o, "why", e->decision.why);
	node_time(o, "wake_at", e->decision.wake_at);
}

struct found_rollout {
	struct serve *serve;
	struct json_node *o;
	char *plan;
	char component[ID_MAX + 1], undo[4096];
	enum rollout_state state;
};

static int find_rollout(void *user, const struct db_rollout *row)
{
	struct found_rollout *f = user;
	int state = rollout_state_parse(row->state);

	if (state < 0)
		return -ERR_DATABASE;
	f->state = (enum rollout_state) state;
	f->plan = strdup(row->plan);
	if (!f->plan)
		return -ENOMEM;
	snprintf(f->component, sizeof(f->component), "%s", row->component);
	snprintf(f->undo, sizeof(f->undo), "%s", row->undo);
	return f->o ? write_rollout(f->serve, f->o, row) : 0;
}

/* Found, or a complaint was sent (false). */
static bool rollout_is_known(struct serve *s, struct web_request *rq, const char *id, struct found_rollout *ret)
{
	int r;

	if (!id)
		return false;
	r = db_rollouts(s->db, id, find_rollout, ret);
	if (r == 0)
		return true;
	free(ret->plan);
	ret->plan = NULL;
	if (r == -ENOENT)
		web_fail(rq, 404, "there is no rollout '%s'; selfright rollout list shows all", id);
	else
		fail_database(s, rq, r);
	return false;
}

static void get_rollout(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct serve *s = user;
	struct found_rollout f = { .serve = s, .o = json_build_root(b) };
	const char *id = id_arg(rq, 0, "rollout");
	struct evaluation e;
	int r;

	if (!rollout_is_known(s, rq, id, &f))
		return;
	r = control_evaluate(s, id, f.state, f.plan, &e);
	if (r == 0)
		r = node_json(f.o, "plan", f.plan);
	free(f.plan);
	if (r < 0) {
		fail_database(s, rq, r);
		return;
	}
	write_evaluation(s, f.o, &e);
	evaluation_done(&e);
	r = approvals_show(s, id, node_array(f.o, "approvals"));
	if (r < 0)
		web_fail(rq, 500, "the approvals cannot be read: %s", err_text(r));
	else
		answer(rq, 200, b);
}

struct conflict {
	const struct plan *plan;
	bool replaces; /* whoever starts it says so: then nothing stands beside it */
	char id[ID_MAX + 1];
	struct string_list preempted; /* regular ones that a patch goes before */
};

/* An unfinished rollout of one of the same components. */
static int find_conflict(void *user, const struct db_rollout *row)
{
	struct conflict *c = user;
	struct plan other = { 0 };
	struct conf_error error;
	bool conflicts;

	if (strcmp(row->state, "running") != 0 && strcmp(row->state, "paused") != 0)
		return 0;
	conflicts = plan_concerns(c->plan, row->component);
	if (!conflicts && plan_parse(row->plan, strlen(row->plan), "plan", &other, &error) == 0) {
		for (size_t i = 0; i < other.with_count; i++)
			conflicts = conflicts || plan_concerns(c->plan, other.with[i].component);
		plan_done(&other);
	}
	if (!conflicts)
		return 0;
	if (!c->replaces && c->plan->kind == ROLLOUT_PATCH && strcmp(row->kind, "regular") == 0)
		return string_list_add(&c->preempted, row->id);
	snprintf(c->id, sizeof(c->id), "%s", row->id);
	return 1;
}

/* "web-1-1-0", cut to leave room for a number. */
static void name_rollout(const struct plan *p, unsigned attempt, char out[static ID_MAX + 1])
{
	char text[ID_MAX + VERSION_MAX + 2];
	size_t n = 0;

	snprintf(text, sizeof(text), "%s-%s", p->component, p->version);
	for (const char *c = text; *c && n < ID_MAX - ID_TAIL; c++) {
		if (*c >= 'A' && *c <= 'Z')
			out[n++] = (char) (*c - 'A' + 'a');
		else if ((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9'))
			out[n++] = *c;
		else
			out[n++] = '-';
	}
	out[n] = '\0';
	if (attempt > 1)
		snprintf(out + n, ID_TAIL, "-%u", attempt % 1000000);
}

static int ignore_rollout(void *user, const struct db_rollout *row)
{
	(void) user;
	(void) row;
	return 0;
}

/* The id asked for, or the first free one made of component and version. */
static int choose_id(struct serve *s, const struct plan *p, const char *wish, char out[static ID_MAX + 1])
{
	int r = -EEXIST;

	if (wish) {
		if (!guard_id(wish) || strcmp(wish, "index") == 0)
			return -ERR_NAME;
		snprintf(out, ID_MAX + 1, "%s", wish);
		r = db_rollouts(s->db, out, ignore_rollout, NULL);
		return r == -ENOENT ? 0 : r == 0 ? -EEXIST : r;
	}
	for (unsigned attempt = 1; attempt < 10000; attempt++) {
		name_rollout(p, attempt, out);
		r = db_rollouts(s->db, out, ignore_rollout, NULL);
		if (r == -ENOENT)
			return 0;
		if (r < 0)
			return r;
	}
	return -EEXIST;
}

/* Is every node that is named known? Otherwise a complaint was sent. */
static bool nodes_are_known(struct serve *s, struct web_request *rq, const struct plan *p)
{
	for (size_t k = 0; k < p->stage_count; k++)
		for (size_t i = 0; i < p->stages[k].nodes.count; i++) {
			const char *node = p->stages[k].nodes.items[i];
			int r = node_exists(s, node);

			if (r == -ENOENT) {
				web_fail(rq, 422, "stage '%s' names the node '%s', which is not in this fleet",
					 p->stages[k].name, node);
				return false;
			}
			if (r < 0) {
				fail_database(s, rq, r);
				return false;
			}
		}
	return true;
}

struct new_rollout {
	struct plan plan;
	char id[ID_MAX + 1], path[ID_MAX + VERSION_MAX + 32], sha256[SHA256_HEX + 1], replaces[ID_MAX + 1];
	struct buf plan_text;
	const char *plan_json, *by, *plan_file, *override_reason;
	struct check_answer check;
	struct string_list preempted; /* rollouts that stop while this patch runs */
};

/* A patch goes before it: it stands until a person resumes or cancels it, and both say why. */
static int preempt(struct serve *s, const struct new_rollout *n, const char *id)
{
	char text[600], overrides[200] = "";
	size_t len = 0;
	int r;

	for (size_t i = 0; i < n->plan.limits.overrides.count && len < sizeof(overrides); i++)
		len += (size_t) snprintf(overrides + len, sizeof(overrides) - len, "%s%s", i ? ", " : "",
					 n->plan.limits.overrides.items[i]);
	snprintf(text, sizeof(text), "the patch %s goes before it%s%s", n->id, len ? ", and overrides " : "",
		 overrides);
	r = db_rollout_set_state(s->db, id, "paused", text, n->by, serve_now(s));
	snprintf(text, sizeof(text), "rollout %s is paused: the patch %s goes before it%s%s", id, n->id,
		 len ? ", and overrides " : "", overrides);
	return r < 0 ? r
		     : serve_record(s, "rollout-stopped", NULL, n->plan.component, text, n->by, "pre-empt", text);
}

static int store_rollout(struct serve *s, struct new_rollout *n, uint64_t *ret_seq)
{
	const char *names[PLAN_STAGES_MAX];
	char text[400];
	struct db_rollout row;
	uint64_t floor;
	int r;

	r = control_published_seq(s, &floor);
	if (r == 0)
		r = db_begin(s->db);
	if (r == 0)
		r = db_next_seq(s->db, floor, ret_seq);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n->plan.stage_count; i++)
		names[i] = n->plan.stages[i].name;
	if (n->replaces[0]) {
		snprintf(text, sizeof(text), "replaced by %s", n->id);
		r = db_rollout_set_state(s->db, n->replaces, "cancelled", text, n->by, serve_now(s));
		if (r == 0)
			r = serve_record(s, "rollout-stopped", NULL, n->plan.component, text, n->by, "cancel",
					 n->replaces);
	}
	for (size_t i = 0; r == 0 && i < n->preempted.count; i++)
		r = preempt(s, n, n->preempted.items[i]);
	row = (struct db_rollout){ .id = n->id,
				   .component = n->plan.component,
				   .version = n->plan.version,
				   .kind = rollout_kind_name(n->plan.kind),
				   .state = "running",
				   .seq = *ret_seq,
				   .by = n->by,
				   .created_at = serve_now(s),
				   .plan = n->plan_json,
				   .release_path = n->path,
				   .release_sha256 = n->sha256 };
	if (r == 0)
		r = db_rollout_add(s->db, &row, names, n->plan.stage_count);
	snprintf(text, sizeof(text), "rollout %s of %s %s starts", n->id, n->plan.component, n->plan.version);
	if (r == 0)
		r = serve_record(s, "rollout-started", NULL, n->plan.component, text, n->by, "rollout-start",
				 n->id);
	for (size_t i = 0; r == 0 && i < n->check.overridden.count; i++) {
		char what[ID_MAX + 1200];

		snprintf(what, sizeof(what), "%s: %s: %s", n->id, n->check.overridden.items[i],
			 n->override_reason);
		r = serve_record(s, "preflight-overridden", NULL, n->plan.component, what, n->by, "override",
				 what);
	}
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	return r;
}

/* Everything a new rollout needs is there; otherwise a complaint was sent. */
static bool prepare_rollout(struct serve *s, struct web_request *rq, const struct json *doc, struct new_rollout *n)
{
	uint8_t sha256[SHA256_BYTES];
	struct conflict conflict = { .plan = &n->plan, .replaces = json_bool(json_get(doc, "replace"), false) };
	const char *wish = json_string(json_get(doc, "id"));
	uint64_t length;
	int r;

	snprintf(n->path, sizeof(n->path), "%s/%s/release.json", n->plan.component, n->plan.version);
	r = repo_target_info(s->repo, n->path, &length, sha256);
	if (r == -ENOENT) {
		web_fail(rq, 422,
			 "%s %s is not published; publish it first: selfright publish FOLDER --version %s",
			 n->plan.component, n->plan.version, n->plan.version);
		return false;
	}
	if (r < 0) {
		web_fail(rq, 500, "%s", repo_error(s->repo));
		return false;
	}
	hex_encode(n->sha256, sha256, sizeof(sha256));
	for (size_t i = 0; i < n->plan.with_count; i++) {
		const struct plan_with *w = &n->plan.with[i];
		char path[sizeof(n->path)];

		snprintf(path, sizeof(path), "%s/%s/release.json", w->component, w->version);
		r = repo_target_info(s->repo, path, &length, sha256);
		if (r == 0)
			continue;
		if (r == -ENOENT)
			web_fail(rq, 422, "%s %s is not published, so it cannot be swapped together with %s",
				 w->component, w->version, n->plan.component);
		else
			web_fail(rq, 500, "%s", repo_error(s->repo));
		return false;
	}
	if (!nodes_are_known(s, rq, &n->plan))
		return false;
	r = choose_id(s, &n->plan, wish, n->id);
	if (r == -EEXIST || r == -ERR_NAME) {
		web_fail(rq, r == -EEXIST ? 409 : 400,
			 r == -EEXIST
				 ? "the rollout id '%s' is taken; choose another or leave it out"
				 : "'%s' is no id for a rollout: lower-case letters, digits and '-', at most 63",
			 wish ? wish : "");
		return false;
	}
	if (r == 0)
		r = db_rollouts(s->db, NULL, find_conflict, &conflict);
	n->preempted = conflict.preempted;
	if (r < 0) {
		fail_database(s, rq, r);
		return false;
	}
	if (conflict.id[0] && !json_bool(json_get(doc, "replace"), false) &&
	    !json_bool(json_get(doc, "dry_run"), false)) {
		web_fail(rq, 409,
			 "the rollout '%s' of %s is not finished; cancel it, or start this one in its place with "
			 "--replace",
			 conflict.id, n->plan.component);
		return false;
	}
	snprintf(n->replaces, sizeof(n->replaces), "%s", conflict.id);
	return true;
}

/* What whoever starts it should know before he wonders why nothing happens. */
static int write_warnings(struct serve *s, struct json_node *o, const struct new_rollout *n, bool would_conflict,
			  const struct evaluation *e)
{
	CLEANUP(buf_done)
	struct buf release = BUF_INIT(RELEASE_MAX_BYTES);
	struct json_node *list = node_array(o, "warnings");
	struct string_list advice = { 0 };
	size_t young = 0;
	char span[40];
	int r;

	for (size_t i = 0; i < n->preempted.count; i++)
		node_stringf(list, NULL,
			     "the rollout '%s' of %s is not finished; the patch goes before it, and it is paused",
			     n->preempted.items[i], n->plan.component);
	if (would_conflict)
		node_stringf(list, NULL,
			     "the rollout '%s' of %s is not finished; this one starts only in its place, with "
			     "--replace, or after it",
			     n->replaces, n->plan.component);
	r = repo_read_target(s->repo, n->path, &release);
	if (r == 0)
		r = release_advice_text(release.data, release.len, &advice);
	for (size_t i = 0; r == 0 && i < advice.count; i++)
		node_string(list, NULL, advice.items[i]);
	string_list_done(&advice);
	for (size_t k = 0; k < e->plan.stage_count; k++)
		if (e->stages[k].selected == 0)
			node_stringf(list, NULL,
				     "stage '%s' selects no node that is known here: the next one waits for it",
				     e->plan.stages[k].name);
	for (size_t i = 0; i < e->count; i++)
		young += e->members[i].selected && is_young(s, e, &e->members[i]);
	if (young > 0)
		node_stringf(
			list, NULL,
			"%zu of the nodes %s added less than %s ago (min_age) and cannot prove a stage before",
			young, young == 1 ? "was" : "were",
			cli_span(span, sizeof(span), (int64_t) e->plan.min_age_s));
	return r;
}

/* What is stored is what was understood, and chosen. */
static bool resolve_rollout(struct serve *s, struct web_request *rq, struct new_rollout *n)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	int r;

	if (!looks_possible(s, rq, &n->plan) || !plan_resolve(s, rq, n->id, &n->plan))
		return false;
	plan_write(&n->plan, json_build_root(b));
	r = json_build_text(b, false, &n->plan_text);
	n->plan_json = buf_str(&n->plan_text);
	if (r < 0)
		web_fail(rq, 500, "%s", err_text(r));
	return r == 0;
}

/* May it go there? `e` is what it would be. Otherwise a complaint was sent, but for a dry run, which only says so. */
static bool passes_preflight(struct serve *s, struct web_request *rq, const struct json *doc,
			     struct new_rollout *n, struct json_node *o)
{
	struct check_request q = { .component = n->plan.component,
				   .version = n->plan.version,
				   .plan = &n->plan,
				   .kind = n->plan.kind,
				   .plan_file = n->plan_file,
				   .overrides = json_get(doc, "preflight_override") };
	struct evaluation e;
	int r;

	for (size_t i = 0; i < json_count(q.overrides); i++)
		if (preflight_item_parse(json_string(json_at(q.overrides, i))) < 0) {
			web_fail(rq, 400, "'preflight_override' names what preflight does not know");
			return false;
		}
	if (json_count(q.overrides) > 0) {
		n->override_reason = text_field(rq, doc, "override_reason");
		if (!n->override_reason)
			return false;
	}
	r = control_evaluate(s, n->id, ROLLOUT_RUNNING, n->plan_json, &e);
	if (r < 0) {
		fail_database(s, rq, r);
		return false;
	}
	q.evaluation = &e;
	r = check_judge(s, &q, o, &n->check);
	evaluation_done(&e);
	if (r < 0) {
		check_fail(s, rq, &n->check, r);
		return false;
	}
	if (!n->check.failed || json_bool(json_get(doc, "dry_run"), false))
		return true;
	web_fail(rq, 422,
		 "%s %s is not ready: %s. selfright check says more; --override ITEM --reason TEXT starts it all "
		 "the "
		 "same",
		 n->plan.component, n->plan.version, buf_str(&n->check.reasons));
	return false;
}

static void start_rollout(struct serve *s, struct web_request *rq, const struct json *doc, struct new_rollout *n)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b);
	bool dry_run = json_bool(json_get(doc, "dry_run"), false);
	struct evaluation e;
	uint64_t seq = 0;
	int r;

	if (!prepare_rollout(s, rq, doc, n) || !resolve_rollout(s, rq, n) ||
	    !passes_preflight(s, rq, doc, n, node_object(o, "preflight")))
		return;
	r = dry_run ? 0 : store_rollout(s, n, &seq);
	if (r < 0) {
		fail_database(s, rq, r);
		return;
	}
	if (!dry_run)
		control_tick(s); /* opens the first stage and publishes */
	r = control_evaluate(s, n->id, ROLLOUT_RUNNING, n->plan_json, &e);
	if (r < 0) {
		fail_database(s, rq, r);
		return;
	}
	node_string(o, "id", n->id);
	if (!dry_run)
		node_integer(o, "seq", (int64_t) seq);
	node_bool(o, "dry_run", dry_run);
	node_string(o, "component", n->plan.component);
	node_string(o, "version", n->plan.version);
	write_evaluation(s, o, &e);
	if (dry_run)
		plan_preview(s, o, &e);
	r = write_warnings(s, o, n, dry_run && n->replaces[0] && !json_bool(json_get(doc, "replace"), false), &e);
	if (r < 0)
		log_warning("release-advice", "the release of rollout %s could not be looked at: %s", n->id,
			    err_text(r));
	evaluation_done(&e);
	if (dry_run) {
		answer(rq, 200, b);
		return;
	}
	log_notice("rollout-started", "rollout=%s seq=%" PRIu64 " component=%s version=%s", n->id, seq,
		   n->plan.component, n->plan.version);
	publish_and_answer(s, rq, 201, b);
}

static void post_rollout(void *user, struct web_request *rq)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(BODY_MAX);
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	struct new_rollout n = { .plan_text = BUF_INIT(BODY_MAX), .check = CHECK_ANSWER_INIT };
	struct conf_error error = { "" };
	int r;

	if (!doc || !trust_is_there(s, rq))
		return;
	if (!json_is(json_get(doc, "plan"), JSON_OBJECT)) {
		web_fail(rq, 400, "'plan' is needed, an object with component, version and stages");
		return;
	}
	r = json_text(json_get(doc, "plan"), &text);
	if (r == 0)
		r = plan_parse(text.data, text.len, "plan", &n.plan, &error);
	if (r < 0) {
		web_fail(rq, 422, "%s", error.text[0] ? error.text : err_text(r));
		return;
	}
	n.by = by_of(doc);
	n.plan_file = check_lines(doc, &n.plan);
	start_rollout(s, rq, doc, &n);
	string_list_done(&n.preempted);
	buf_done(&n.plan_text);
	check_answer_done(&n.check);
	plan_done(&n.plan);
}

struct verb {
	const char *name, *state, *past;
	unsigned from; /* bits of enum rollout_state it may come from */
	bool undoes;
};

#define FROM(state) (1u << ROLLOUT_##state)
static const struct verb verbs[] = {
	{ "pause", "paused", "paused", FROM(RUNNING), false },
	{ "resume", "running", "resumed", FROM(PAUSED), false },
	{ "halt", "halted", "halted", FROM(RUNNING) | FROM(PAUSED), false },
	{ "cancel", "cancelled", "cancelled", FROM(RUNNING) | FROM(PAUSED) | FROM(HALTED) | FROM(DONE), false },
	{ "undo", NULL, "undone", FROM(RUNNING) | FROM(PAUSED) | FROM(HALTED) | FROM(CANCELLED) | FROM(DONE),
	  true },
};

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

/* The stages to be undone: those named, or all that were opened. A complaint was sent if it is negative. */
static int undo_stages(struct web_request *rq, const struct json *doc, const struct evaluation *e, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf whole = BUF_INIT(64 * 1024);
	CLEANUP(json_freep)
	struct json *parsed = NULL;
	struct json_node *list = node_array(json_build_root(b), "undo");
	const struct json *named = json_get(doc, "stages");
	size_t count = 0;
	int r;

	for (size_t i = 0; i < json_count(named); i++) {
		const char *name = json_string(json_at(named, i));
		bool known = false;

		for (size_t k = 0; k < e->plan.stage_count; k++)
			known |= str_eq(name, e->plan.stages[k].name);
		if (!known) {
			web_fail(rq, 422, "there is no stage '%s' in this rollout", name ? name : "");
			return -EINVAL;
		}
	}
	for (size_t k = 0; k < e->plan.stage_count; k++) {
		bool wanted = named ? false : e->stages[k].open;

		for (size_t i = 0; i < json_count(named); i++)
			wanted |= str_eq(json_string(json_at(named, i)), e->plan.stages[k].name);
		if (wanted) {
			node_string(list, NULL, e->plan.stages[k].name);
			count++;
		}
	}
	if (count == 0) {
		web_fail(rq, 409, "no stage was opened, so there is nothing to undo");
		return -EINVAL;
	}
	r = json_build_text(b, false, &whole);
	if (r == 0)
		r = json_parse(whole.data, whole.len, &json_limits_default, &parsed);
	if (r == 0)
		r = json_text(json_get(parsed, "undo"), out);
	if (r < 0)
		web_fail(rq, 500, "%s", err_text(r));
	return r;
}

/* Nodes that took the release as their first version of the component: undone they are without it. */
struct bare {
	const struct evaluation *e;
	const struct json *stages; /* to be undone */
	const char *version;
	char list[600];
	size_t len, count;
};

static int find_bare(void *user, const struct db_result *row)
{
	struct bare *b = user;

	if ((row->from && *row->from) || (row->number != RESULT_GOOD && row->number != RESULT_GOOD_UNPROVEN))
		return 0;
	for (size_t i = 0; i < b->e->count; i++) {
		const struct evaluated_member *m = &b->e->members[i];
		bool undone = false;

		if (strcmp(m->node, row->node) != 0 || !m->selected || strcmp(m->version, b->version) != 0)
			continue;
		for (size_t k = 0; k < json_count(b->stages); k++)
			undone |= str_eq(json_string(json_at(b->stages, k)),
					 b->e->plan.stages[m->member.stage].name);
		if (!undone)
			continue;
		b->count++;
		if (b->len < sizeof(b->list))
			b->len += (size_t) snprintf(b->list + b->len, sizeof(b->list) - b->len, "%s%s",
						    b->len ? ", " : "", m->node);
	}
	return 0;
}

int undo_leaves_bare(struct serve *s, const char *id, const struct evaluation *e, const char *undo, char *ret_list,
		     size_t size, size_t *ret_count)
{
	CLEANUP(json_freep)
	struct json *stages = NULL;
	struct bare b = { .e = e, .version = e->plan.version };
	int r = json_parse(undo, strlen(undo), &json_limits_default, &stages);

	b.stages = stages;
	if (r == 0)
		r = db_results(s->db, NULL, id, find_bare, &b);
	snprintf(ret_list, size, "%s", b.list);
	*ret_count = b.count;
	return r;
}

/* Is what an undo leaves behind what was meant? A complaint was sent if not. */
static bool may_undo(struct serve *s, struct web_request *rq, const char *id, const struct json *doc,
		     const struct evaluation *e, const char *undo)
{
	char list[600];
	size_t count = 0;
	int r = undo_leaves_bare(s, id, e, undo, list, sizeof(list), &count);

	if (r < 0) {
		fail_database(s, rq, r);
		return false;
	}
	if (count == 0 || json_bool(json_get(doc, "yes"), false))
		return true;
	web_fail(
		rq, 409,
		"%zu node%s had no version of %s before and would be left without it: %s. --yes undoes it all the "
		"same; --stage leaves others out",
		count, count == 1 ? "" : "s", e->plan.component, list);
	return false;
}

static int change_rollout(struct serve *s, const char *id, const struct verb *verb, const char *component,
			  const char *state, const char *undo, const char *reason, const char *by)
{
	char text[1300];
	int r;

	r = db_begin(s->db);
	if (r == 0)
		r = db_rollout_set_state(s->db, id, state, reason, by, serve_now(s));
	if (r == 0 && undo)
		r = db_rollout_set_undo(s->db, id, undo);
	snprintf(text, sizeof(text), "rollout %s is %s: %s", id, verb->past, reason);
	if (r == 0)
		r = serve_record(s, "rollout-changed", NULL, component, text, by, verb->name, id);
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	return r;
}

struct outranked {
	const struct plan *plan;
	const char *id;
	uint64_t seq;
	char by[ID_MAX + 1];
	uint64_t by_seq;
};

static int find_own_seq(void *user, const struct db_rollout *row)
{
	((struct outranked *) user)->seq = row->seq;
	return 0;
}

/* A newer one that is done for every node: those nodes follow it and none before it. */
static int find_outranking(void *user, const struct db_rollout *row)
{
	struct outranked *o = user;
	struct conf_error error;
	struct plan other;

	if (strcmp(row->state, "done") != 0 || row->seq <= o->seq || row->seq <= o->by_seq ||
	    plan_parse(row->plan, strlen(row->plan), "plan", &other, &error) < 0)
		return 0;
	if (plan_covers_all(&other) && plan_concerns(&other, o->plan->component)) {
		snprintf(o->by, sizeof(o->by), "%s", row->id);
		o->by_seq = row->seq;
	}
	plan_done(&other);
	return 0;
}

/* Would nodes follow it? A complaint was sent if not. */
static bool may_resume(struct serve *s, struct web_request *rq, const char *id, const char *plan_json)
{
	struct outranked o = { .id = id };
	struct conf_error error;
	struct plan plan;
	int r = plan_parse(plan_json, strlen(plan_json), "plan", &plan, &error);

	o.plan = &plan;
	if (r == 0) {
		r = db_rollouts(s->db, id, find_own_seq, &o);
		if (r == 0)
			r = db_rollouts(s->db, NULL, find_outranking, &o);
		plan_done(&plan);
	}
	if (r < 0) {
		fail_database(s, rq, r);
		return false;
	}
	if (!o.by[0])
		return true;
	web_fail(rq, 409,
		 "nodes follow the newer rollout '%s', which is done; cancel '%s' and start it again to go on "
		 "with its "
		 "release",
		 o.by, id);
	return false;
}

static void post_rollout_verb(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf undo = BUF_INIT(64 * 1024);
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	struct found_rollout f = { .serve = s };
	const char *id = doc ? id_arg(rq, 0, "rollout") : NULL, *reason, *state;
	const struct verb *verb;
	struct evaluation e = { 0 };
	int r;

	if (!doc || !id)
		return;
	verb = find_verb(web_arg(rq, 1));
	if (!verb) {
		web_fail(rq, 404, "a rollout can be paused, resumed, halted, cancelled or undone");
		return;
	}
	reason = text_field(rq, doc, "reason");
	if (!reason || !rollout_is_known(s, rq, id, &f))
		return;
	if (!(verb->from & 1u << f.state)) {
		web_fail(rq, 409, "the rollout '%s' is %s and cannot be %s%s", id, rollout_state_name(f.state),
			 verb->past,
			 f.state == ROLLOUT_HALTED ? "; publish a corrected release and start a rollout of it"
						   : "");
		free(f.plan);
		return;
	}
	if (strcmp(verb->name, "resume") == 0 && !may_resume(s, rq, id, f.plan)) {
		free(f.plan);
		return;
	}
	state = verb->state;
	if (verb->undoes) {
		r = control_evaluate(s, id, f.state, f.plan, &e);
		if (r < 0) {
			fail_database(s, rq, r);
			free(f.plan);
			return;
		}
		r = undo_stages(rq, doc, &e, &undo);
		if (r == 0 && !may_undo(s, rq, id, doc, &e, buf_str(&undo)))
			r = -EPERM;
		evaluation_done(&e);
		if (r < 0) {
			free(f.plan);
			return;
		}
		state = f.state == ROLLOUT_DONE || f.state == ROLLOUT_CANCELLED ? "cancelled" : "halted";
	}
	free(f.plan);
	r = change_rollout(s, id, verb, f.component, state, verb->undoes ? buf_str(&undo) : NULL, reason,
			   by_of(doc));
	if (r < 0) {
		fail_database(s, rq, r);
		return;
	}
	log_notice("rollout-changed", "rollout=%s state=%s", id, state);
	node_string(json_build_root(b), "id", id);
	node_string(json_build_root(b), "state", state);
	node_string(json_build_root(b), "now", verb->past);
	publish_and_answer(s, rq, 200, b);
}

/* --- freezes --- */

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

static void get_freezes(void *user, struct web_request *rq)
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

static void post_freeze(void *user, struct web_request *rq)
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

static void delete_freeze(void *user, struct web_request *rq)
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

/* --- the timeline --- */

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

static void get_events(void *user, struct web_request *rq)
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

static void get_audit(void *user, struct web_request *rq)
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

void serve_before(void *user, const struct web_route *route)
{
	if (route->handler != post_report)
		broker_settle(user);
}

const struct web_route serve_routes[] = {
	{ "GET", "/metadata/**", WEB_ANY, 0, get_metadata, 0 },
	{ "GET", "/targets/**", WEB_ANY, 0, get_targets, 0 },
	{ "POST", "/v1/node/*/report", WEB_ANY, REPORT_MAX_BYTES, post_report, 0 },
	{ "POST", "/v1/node/*/lease", WEB_ANY, LEASE_BODY_MAX, lease_post, 0 },
	{ "POST", "/v1/enrol", WEB_ANY, ENROLMENT_MAX_BYTES, enrol_post, 0 },
	{ "POST", "/v1/node/*/put", WEB_ANY, PUT_MESSAGE_MAX, collect_put, 0 },
	{ "GET", "/v1/status", WEB_UNIX, 0, get_status, 0 },
	{ "GET", "/metrics", WEB_UNIX, 0, get_metrics, 0 },
	{ "PUT", "/v1/upload/*", WEB_UNIX, 0, put_upload, WEB_UPLOAD },
	{ "POST", "/v1/bundle", WEB_UNIX, BODY_MAX, post_bundle, 0 },
	{ "POST", "/v1/publish", WEB_UNIX, METADATA_MAX, post_publish, 0 },
	{ "GET", "/v1/target", WEB_UNIX, 0, get_target, 0 },
	{ "POST", "/v1/check", WEB_UNIX, BODY_MAX, check_post, 0 },
	{ "GET", "/v1/releases/*/*", WEB_UNIX, 0, release_get, 0 },
	{ "POST", "/v1/releases/*/*/evidence", WEB_UNIX, BODY_MAX, evidence_post, 0 },
	{ "GET", "/v1/broker", WEB_UNIX, 0, broker_get, 0 },
	{ "POST", "/v1/broker", WEB_UNIX, BODY_MAX, broker_post, 0 },
	{ "GET", "/v1/nodes", WEB_UNIX, 0, get_nodes, 0 },
	{ "POST", "/v1/nodes", WEB_UNIX, BODY_MAX, post_node, 0 },
	{ "GET", "/v1/held", WEB_UNIX, 0, held_get, 0 },
	{ "GET", "/v1/nodes/*", WEB_UNIX, 0, get_node, 0 },
	{ "DELETE", "/v1/nodes/*", WEB_UNIX, BODY_MAX, delete_node, 0 },
	{ "POST", "/v1/nodes/*/rollback", WEB_UNIX, BODY_MAX, orders_rollback_post, 0 },
	{ "DELETE", "/v1/nodes/*/rollback", WEB_UNIX, BODY_MAX, orders_rollback_delete, 0 },
	{ "POST", "/v1/nodes/*/pin", WEB_UNIX, BODY_MAX, orders_pin_post, 0 },
	{ "DELETE", "/v1/nodes/*/pin", WEB_UNIX, BODY_MAX, orders_pin_delete, 0 },
	{ "POST", "/v1/nodes/*/hold", WEB_UNIX, BODY_MAX, orders_hold_post, 0 },
	{ "DELETE", "/v1/nodes/*/hold", WEB_UNIX, BODY_MAX, orders_hold_delete, 0 },
	{ "DELETE", "/v1/nodes/*/lease", WEB_UNIX, BODY_MAX, delete_lease, 0 },
	{ "GET", "/v1/orders", WEB_UNIX, 0, orders_get, 0 },
	{ "POST", "/v1/orders/*/*", WEB_UNIX, BODY_MAX, orders_post, 0 },
	{ "POST", "/v1/nodes/*/retry", WEB_UNIX, BODY_MAX, orders_retry_post, 0 },
	{ "POST", "/v1/nodes/*/report", WEB_UNIX, REPORT_MAX_BYTES, post_report_of_stick, 0 },
	{ "POST", "/v1/nodes/*/collect", WEB_UNIX, BODY_MAX, orders_collect_post, 0 },
	{ "DELETE", "/v1/nodes/*/collect", WEB_UNIX, BODY_MAX, orders_collect_delete, 0 },
	{ "GET", "/v1/nodes/*/collections", WEB_UNIX, 0, collections_get, 0 },
	{ "GET", "/v1/nodes/*/collections/*", WEB_UNIX, 0, collection_get, 0 },
	{ "POST", "/v1/nodes/*/trust", WEB_UNIX, BODY_MAX, post_trust, 0 },
	{ "POST", "/v1/nodes/*/release", WEB_UNIX, BODY_MAX, enrol_release_post, 0 },
	{ "GET", "/v1/rollouts", WEB_UNIX, 0, get_rollouts, 0 },
	{ "POST", "/v1/rollouts", WEB_UNIX, BODY_MAX, post_rollout, 0 },
	{ "GET", "/v1/rollouts/*", WEB_UNIX, 0, get_rollout, 0 },
	{ "GET", "/v1/rollouts/*/explain", WEB_UNIX, 0, explain_get, 0 },
	{ "POST", "/v1/rollouts/*/approvals", WEB_UNIX, BODY_MAX, approvals_post, 0 },
	{ "POST", "/v1/rollouts/*/answer", WEB_UNIX, BODY_MAX, gates_post, 0 },
	{ "POST", "/v1/rollouts/*/skip", WEB_UNIX, BODY_MAX, skip_post, 0 },
	{ "POST", "/v1/rollouts/*/*", WEB_UNIX, BODY_MAX, post_rollout_verb, 0 },
	{ "GET", "/v1/freeze", WEB_UNIX, 0, get_freezes, 0 },
	{ "POST", "/v1/freeze", WEB_UNIX, BODY_MAX, post_freeze, 0 },
	{ "DELETE", "/v1/freeze", WEB_UNIX, BODY_MAX, delete_freeze, 0 },
	{ "GET", "/v1/events", WEB_UNIX, 0, get_events, 0 },
	{ "GET", "/v1/audit", WEB_UNIX, 0, get_audit, 0 },
	{ NULL, NULL, 0, 0, NULL, 0 },
};
