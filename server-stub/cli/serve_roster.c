/*
 * Who is of the fleet: nodes are added, removed, and trusted again.
 */
#include "base/err.h"
#include "base/log.h"
#include "json/build.h"
#include "json/json.h"
#include "model/release.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/cli/serve_handlers.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_nodes.h"
#include "server-stub/ingest/db_orders.h"
#include "server-stub/repo/repo.h"
#include "server-stub/signer/client.h"
#include "tuf/tuf.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

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
	struct buf crt = BUF_INIT(64 * 1024), ca = BUF_INIT(64 * 1024), root = BUF_INIT(SERVE_METADATA_MAX);
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

void node_delete(void *user, struct web_request *rq)
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

void node_post(void *user, struct web_request *rq)
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

void trust_post(void *user, struct web_request *rq)
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
