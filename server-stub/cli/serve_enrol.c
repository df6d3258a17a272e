#include "base/err.h"
#include "base/log.h"
#include "crypto/csr.h"
#include "json/build.h"
#include "json/json.h"
#include "model/enrolment.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/cli/serve_handlers.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_audit.h"
#include "server-stub/ingest/db_budget.h"
#include "server-stub/ingest/db_enrolments.h"
#include "server-stub/ingest/db_nodes.h"
#include "server-stub/ingest/enrol.h"
#include "server-stub/signer/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PEM_MAX = 64 * 1024, SECRET_LIFE_S = 7 * 86400, SECRET_LIFE_MAX_S = 90 * 86400, SENTENCE = 512 };

/* --- a node asks --- */

static const char *shown_name(const struct enrol_judgement *j)
{
	return j->node[0] ? j->node : "?";
}

/* What happened, where people look for it. Renewals are many and no news: the audit trail has them. */
static int record(struct serve *s, const struct enrol_judgement *j)
{
	char text[SENTENCE];

	switch (j->verdict) {
	case ENROL_ISSUE:
		if (!j->first)
			return db_audit(s->db, serve_now(s), "node", "certificate", j->node);
		snprintf(text, sizeof(text), "enrolled with the key %.16s", j->fingerprint);
		return serve_record(s, "enrolled", j->node, NULL, text, "node", "node-enrolled", j->node);
	case ENROL_WAITING:
		if (!j->news)
			return 0;
		snprintf(text, sizeof(text),
			 "a new key (%.16s) asks to be this node and waits: selfright node release %s --reason "
			 "TEXT",
			 j->fingerprint, j->node);
		return serve_record(s, "enrolment-waits", j->node, NULL, text, "node", "enrolment-waits", j->node);
	case ENROL_REFUSED:
		if (!j->news)
			return 0;
		return serve_record(
			s, "secret-used-twice", j->node, NULL,
			"its one-time secret came again with another key: two machines hold one join file", "node",
			"secret-used-twice", j->node);
	default:
		return 0;
	}
}

/* One transaction: a secret that is used up has its node and its certificate, or nothing happened. */
static int judge_and_issue(struct serve *s, const void *data, size_t len, struct enrol_judgement *j,
			   struct buf *certificate)
{
	int r = db_begin(s->db);

	if (r == 0)
		r = enrol_judge(s->db, s->fleet, data, len, serve_now(s), j);
	if (r == 0 && j->verdict == ENROL_SAME)
		r = buf_add_str(certificate, buf_str(&j->certificate));
	if (r == 0 && j->verdict == ENROL_ISSUE) {
		r = s->signer ? signer_certify_node(s->signer, j->node, j->transport_public,
						    s->options.certificate_life_s, certificate)
			      : -ERR_PEER_GONE;
		if (r == 0)
			r = enrol_issued(s->db, j, buf_str(certificate), serve_now(s));
	}
	if (r == 0)
		r = record(s, j);
	if (r == 0)
		r = db_commit(s->db); /* the fsync that makes "used up" and the kept certificate one */
	db_abort(s->db);
	return r;
}

static unsigned status_of(enum enrol_verdict v)
{
	static const unsigned statuses[] = {
		[ENROL_ISSUE] = 200,   [ENROL_SAME] = 200,	[ENROL_WAITING] = 202,
		[ENROL_REFUSED] = 403, [ENROL_MALFORMED] = 400, [ENROL_TOO_OFTEN] = 429,
	};

	return statuses[v];
}

int enrol_take(struct serve *s, const char *node, const void *data, size_t len, const char *road,
	       struct buf *ret_answer, unsigned *ret_status, char *ret_text, size_t text_size)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf certificate = BUF_INIT(PEM_MAX);
	CLEANUP(enrol_judgement_done)
	struct enrol_judgement j = { .node = "" };
	struct enrolment_answer a = { .certificate = NULL };
	int r = judge_and_issue(s, data, len, &j, &certificate);

	if (r < 0) {
		log_error("enrol-failed", "node=%s road=%s: %s (%s)", shown_name(&j), road, err_text(r),
			  s->signer ? signer_error(s->signer) : "the signer is away");
		return r;
	}
	*ret_status = status_of(j.verdict);
	snprintf(ret_text, text_size, "%s", j.text);
	if (j.verdict == ENROL_ISSUE || j.verdict == ENROL_SAME)
		log_notice("node-certificate", "node=%s road=%s key=%.16s %s", j.node, road, j.fingerprint,
			   j.text);
	else if (j.verdict == ENROL_TOO_OFTEN || j.verdict == ENROL_MALFORMED)
		log_debug("enrolment-dropped", "road=%s: %s", road,
			  j.text); /* anybody can send them, as often as he likes */
	else if (j.verdict == ENROL_WAITING || db_budget(s->db, DB_BUDGET_STRANGERS, "", serve_now(s)))
		log_warning("enrolment-not-granted", "node=%s road=%s: %s", shown_name(&j), road, j.text);
	/* Over MQTT the topic says who asks, and the answer goes to nobody else. */
	if (node && strcmp(node, j.node) != 0)
		return -ERR_DISAGREE;
	if (j.verdict == ENROL_ISSUE && j.first) {
		r = broker_access_changed(s); /* it may have been removed before */
		if (r < 0)
			log_error("broker-access", "the broker's access list is not changed yet: %s", err_text(r));
	}
	a.state = *ret_status == 200   ? ENROLMENT_ISSUED
		  : *ret_status == 202 ? ENROLMENT_WAITING
				       : ENROLMENT_REFUSED;
	if (a.state == ENROLMENT_ISSUED)
		a.certificate = (char *) (uintptr_t) buf_str(&certificate); /* only read */
	else
		(void) snprintf(a.reason, sizeof(a.reason), "%s", j.text);
	enrolment_answer_write(&a, json_build_root(b));
	return json_build_text(b, false, ret_answer);
}

void enrol_post(void *user, struct web_request *rq)
{
	CLEANUP(buf_done)
	struct buf body = BUF_INIT(2 * PEM_MAX);
	char text[256] = "";
	unsigned status = 0;
	size_t len;
	const void *data = web_body(rq, &len);

	if (enrol_take(user, NULL, data, len, "https", &body, &status, text, sizeof(text)) < 0)
		web_fail(rq, 503, "no certificate can be made now; ask again");
	else if (status == 400 || status == 429)
		web_fail(rq, status, "%s", text);
	else
		web_reply(rq, status, "application/json", body.data, body.len);
}

/* --- people --- */

static int put_secret(struct serve *s, const struct json *doc, const char *node, const char *labels, bool replaces,
		      const char *reason, uint64_t life, char secret[static 2 * ENROLMENT_SECRET_BYTES + 1])
{
	uint8_t bytes[ENROLMENT_SECRET_BYTES];
	char digest[SHA256_HEX + 1], text[1200];
	struct db_enrolment e = {
		.node = node,
		.secret_sha256 = digest,
		.labels = labels,
		.by = by_of(doc),
		.issued_at = serve_now(s),
		.expires_at = serve_now(s) + (int64_t) life,
	};
	int r = s->os->random(s->os, bytes, sizeof(bytes));

	if (r < 0)
		return r;
	hex_encode(secret, bytes, sizeof(bytes));
	explicit_bzero(bytes, sizeof(bytes));
	r = enrol_secret_digest(secret, digest);
	if (r == 0)
		r = db_begin(s->db);
	if (r == 0)
		r = db_enrolment_put(s->db, &e);
	snprintf(text, sizeof(text), replaces ? "may be replaced by another machine: %s" : "may enrol", reason);
	if (r == 0)
		r = serve_record(s, "node-added", node, NULL, text, by_of(doc),
				 replaces ? "node-replace-secret" : "node-add", node);
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	return r;
}

bool enrol_make_secret(struct serve *s, struct web_request *rq, const struct json *doc, const char *node,
		       const char *labels, struct json_node *o)
{
	bool replaces = json_bool(json_get(doc, "replace"), false);
	const char *reason = NULL;
	char secret[2 * ENROLMENT_SECRET_BYTES + 1];
	uint64_t life = SECRET_LIFE_S;
	int known = node_exists(s, node), r;

	if (json_optional_u64(doc, "secret_life", 60, SECRET_LIFE_MAX_S, &life) < 0) {
		web_fail(rq, 400, "a secret lives for one minute to 90 days");
		return false;
	}
	if (replaces) {
		reason = text_field(rq, doc, "reason");
		if (!reason)
			return false;
	}
	if (known < 0 && known != -ENOENT) {
		fail_database(s, rq, known);
		return false;
	}
	if (known == 0 && !replaces) {
		web_fail(rq, 409,
			 "the node '%s' is enrolled. If its machine or its keys are lost: selfright node add %s "
			 "--replace "
			 "--reason TEXT",
			 node, node);
		return false;
	}
	r = put_secret(s, doc, node, labels, known == 0, reason ? reason : "", life, secret);
	if (r < 0) {
		fail_database(s, rq, r);
		return false;
	}
	node_string(o, "secret", secret);
	explicit_bzero(secret, sizeof(secret));
	node_time(o, "secret_expires", serve_now(s) + (int64_t) life);
	node_bool(o, "replaces", known == 0);
	log_notice("secret-made", "node=%s%s", node, known == 0 ? " known=yes" : "");
	return true;
}

struct listing {
	struct serve *serve;
	struct json_node *array;
};

static int write_enrolment(void *user, const struct db_enrolment *row)
{
	struct listing *l = user;
	char fingerprint[SHA256_HEX + 1] = "";
	struct json_node *o;
	int r;

	if (row->used_at != 0 && !row->waiting && row->refused == 0)
		return 0; /* it is a node like the others */
	o = node_object(l->array, NULL);
	node_string(o, "node", row->node);
	node_string(o, "state",
		    row->waiting			     ? "waiting"
		    : row->used_at != 0			     ? "used"
		    : row->expires_at <= serve_now(l->serve) ? "expired"
							     : "open");
	node_string(o, "by", row->by);
	node_time(o, "issued", row->issued_at);
	node_time(o, "expires", row->expires_at);
	node_time(o, "used", row->used_at);
	node_integer(o, "refused", (int64_t) row->refused);
	if (!row->identity_public)
		return 0;
	r = enrol_fingerprint(row->identity_public, fingerprint);
	if (r < 0)
		return r;
	node_string(o, "fingerprint", fingerprint);
	return 0;
}

int enrol_list(struct serve *s, struct json_node *array)
{
	struct listing l = { s, array };

	return db_enrolments(s->db, NULL, write_enrolment, &l);
}

struct waiting_keys {
	bool waiting;
	char identity[CSR_PEM_MAX], transport[512], fingerprint[SHA256_HEX + 1];
	int r;
};

static int take_keys(void *user, const struct db_enrolment *row)
{
	struct waiting_keys *k = user;

	k->waiting = row->waiting;
	if (!row->waiting)
		return 0;
	snprintf(k->identity, sizeof(k->identity), "%s", row->identity_public);
	snprintf(k->transport, sizeof(k->transport), "%s", row->transport_public);
	k->r = enrol_fingerprint(row->identity_public, k->fingerprint);
	return 0;
}

static int refuse(struct serve *s, const char *node, const char *reason, const char *by)
{
	char text[1200];
	int r = db_begin(s->db);

	if (r == 0)
		r = db_enrolment_drop(s->db, node);
	snprintf(text, sizeof(text), "its secret, and a key that waits, are worth nothing any more: %s", reason);
	if (r == 0)
		r = serve_record(s, "enrolment-refused", node, NULL, text, by, "enrolment-refuse", node);
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	return r;
}

static int release(struct serve *s, const char *node, const struct waiting_keys *k, const char *reason,
		   const char *by)
{
	char text[1200];
	int r = db_begin(s->db);

	if (r == 0)
		r = db_node_rekey(s->db, node, k->identity, k->transport, serve_now(s));
	if (r == 0)
		r = db_enrolment_release(s->db, node);
	snprintf(text, sizeof(text), "the key %.16s is this node now: %s", k->fingerprint, reason);
	if (r == 0)
		r = serve_record(s, "enrolled", node, NULL, text, by, "node-release", node);
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	return r;
}

void enrol_release_post(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	const char *node = doc ? id_arg(rq, 0, "node") : NULL, *reason;
	struct waiting_keys k = { .waiting = false };
	bool refused;
	int r;

	if (!node)
		return;
	reason = text_field(rq, doc, "reason");
	if (!reason)
		return;
	refused = json_bool(json_get(doc, "refuse"), false);
	r = db_enrolments(s->db, node, take_keys, &k);
	if (r == 0)
		r = k.r;
	if (r == -ENOENT || (r == 0 && !k.waiting && !refused)) {
		web_fail(rq, 404, "no new key waits to be '%s'; selfright node list shows those that do", node);
		return;
	}
	if (r == 0)
		r = refused ? refuse(s, node, reason, by_of(doc)) : release(s, node, &k, reason, by_of(doc));
	if (r == -ENOENT) {
		web_fail(rq, 409, "the node '%s' was removed meanwhile; selfright node add %s makes a new secret",
			 node, node);
		return;
	}
	if (r < 0) {
		fail_database(s, rq, r);
		return;
	}
	log_notice(refused ? "enrolment-refused" : "node-released", "node=%s %s", node, reason);
	node_string(json_build_root(b), "node", node);
	node_string(json_build_root(b), "fingerprint", k.fingerprint);
	answer(rq, 200, b);
}
