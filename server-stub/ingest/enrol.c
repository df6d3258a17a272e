#include "server-stub/ingest/enrol.h"

#include "base/err.h"
#include "crypto/certificate.h"
#include "crypto/digest.h"
#include "json/json.h"
#include "model/enrolment.h"
#include "server-stub/ingest/db_budget.h"
#include "server-stub/ingest/db_enrolments.h"
#include "server-stub/ingest/db_nodes.h"
#include "tuf/tuf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	PEM_MAX = 64 * 1024,
	DESCRIBED_MAX = 8 * 1024,
	LAG_MAX = 2, /* reports that may overtake a request on another road */
};

static const struct json_limits request_limits = { ENROLMENT_MAX_BYTES, 4, 64 };

/* What is known before anything is decided. */
struct known {
	bool node; /* it is one of the fleet's */
	bool same_identity; /* with the key that asks */
	bool quarantined;
	bool secret_fits, secret_used, secret_expired;
	bool waiting; /* the key that used the secret up is not released yet */
	bool used_by_us; /* that key is the one that asks */
	char transport_public[512];
	uint64_t sequence; /* of the node's newest report */
};

void enrol_judgement_done(struct enrol_judgement *j)
{
	if (j)
		buf_done(&j->certificate);
}

static int verdict(struct enrol_judgement *j, enum enrol_verdict v, const char *fmt, ...) PRINTF_LIKE(3, 4);
static int verdict(struct enrol_judgement *j, enum enrol_verdict v, const char *fmt, ...)
{
	va_list ap;

	j->verdict = v;
	va_start(ap, fmt);
	(void) vsnprintf(j->text, sizeof(j->text), fmt, ap); /* a longer sentence is cut */
	va_end(ap);
	return 0;
}

int enrol_secret_digest(const char *secret, char ret[static SHA256_HEX + 1])
{
	return sha256_hex(secret, strlen(secret), ret);
}

int enrol_fingerprint(const char *public_pem, char ret[static SHA256_HEX + 1])
{
	CLEANUP(buf_done)
	struct buf described = BUF_INIT(DESCRIBED_MAX);

	return tuf_key_describe(public_pem, &described, ret);
}

struct looking {
	const struct enrolment *request;
	const char *secret_sha256; /* NULL: none was given */
	int64_t now;
	struct known *known;
};

static int look_at_node(void *user, const struct db_node *row)
{
	struct looking *l = user;

	l->known->node = true;
	l->known->same_identity = str_eq(row->identity_public, l->request->identity);
	l->known->quarantined = row->quarantined;
	l->known->sequence = row->sequence;
	/* One that is cut belongs to no key, and none that is ours is so long. */
	(void) snprintf(l->known->transport_public, sizeof(l->known->transport_public), "%s",
			row->transport_public ? row->transport_public : "");
	return 0;
}

/* By its digest, so that nothing can be learnt from how long the comparison takes. */
static int look_at_secret(void *user, const struct db_enrolment *row)
{
	struct looking *l = user;

	l->known->secret_fits = l->secret_sha256 && str_eq(row->secret_sha256, l->secret_sha256);
	l->known->secret_used = row->used_at != 0;
	l->known->secret_expired = row->used_at == 0 && row->expires_at <= l->now;
	l->known->waiting = row->waiting;
	l->known->used_by_us = row->used_at != 0 && str_eq(row->identity_public, l->request->identity);
	return 0;
}

static int look(struct db *db, const struct enrolment *request, int64_t now, struct known *ret)
{
	char digest[SHA256_HEX + 1];
	struct looking l = { .request = request, .now = now, .known = ret };
	int r;

	if (request->secret[0]) {
		r = enrol_secret_digest(request->secret, digest);
		if (r < 0)
			return r;
		l.secret_sha256 = digest;
	}
	r = db_nodes(db, request->node, look_at_node, &l);
	if (r < 0 && r != -ENOENT)
		return r;
	r = db_enrolments(db, request->node, look_at_secret, &l);
	return r == -ENOENT ? 0 : r;
}

/* Both keys signed these very bytes, so neither can be put beside another's. */
static int is_signed_by_both(const void *bytes, size_t len, const struct enrolment *e,
			     const char *transport_public)
{
	const char *const keys[] = { e->identity, transport_public };

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		CLEANUP(tuf_keyring_freep)
		struct tuf_keyring *ring = NULL;
		CLEANUP(json_freep)
		struct json *doc = NULL;
		int r = tuf_keyring_single(keys[i], &ring);

		if (r == 0)
			r = tuf_envelope_open(bytes, len, ring, &doc);
		if (r < 0)
			return r;
	}
	return 0;
}

/* 0: the request proves that it has both keys; 1: it does not, and *j says how; negative: our own failure. */
static int check_proofs(const void *bytes, size_t len, const struct enrolment *e, struct enrol_judgement *j)
{
	struct csr_info request;
	int r = csr_read(e->request, &request);

	if (r == -ENOMEM)
		return r;
	if (r < 0) {
		(void) verdict(j, ENROL_MALFORMED, "'request' is no request for a P-256 key of this node: %s",
			       err_text(r));
		return 1;
	}
	if (!str_eq(request.common_name, e->node)) {
		(void) verdict(j, ENROL_MALFORMED, "'request' is for another name than the node's");
		return 1;
	}
	if (strcmp(request.public_pem, e->identity) == 0) {
		(void) verdict(j, ENROL_MALFORMED, "identity and transport are two keys; here they are one");
		return 1;
	}
	r = is_signed_by_both(bytes, len, e, request.public_pem);
	if (r == -ENOMEM)
		return r;
	if (r < 0) {
		(void) verdict(j, ENROL_MALFORMED, "it is not signed by the identity key and the transport key");
		return 1;
	}
	r = enrol_fingerprint(e->identity, j->fingerprint);
	if (r == -ENOMEM)
		return r;
	if (r < 0) {
		(void) verdict(j, ENROL_MALFORMED, "'identity' is no P-256 public key");
		return 1;
	}
	memcpy(j->transport_public, request.public_pem, sizeof(j->transport_public));
	(void) snprintf(j->identity_public, sizeof(j->identity_public), "%s",
			e->identity); /* at most 4096: a rule of the reader */
	return 0;
}

/* 1: refused, and *j says why. What is said does not tell which names there are. */
static int check_claim(const struct enrolment *e, const struct known *k, struct enrol_judgement *j)
{
	/* A node needs none, so one that it still sends from long ago keeps it from nothing. */
	if (e->secret[0] && !k->secret_fits && !(k->node && k->same_identity))
		(void) verdict(j, ENROL_REFUSED, "this secret is not valid for this name (any more)");
	else if (e->secret[0] && k->secret_used && !k->used_by_us) {
		(void) verdict(j, ENROL_REFUSED,
			       "this secret was used up by another key; make another: selfright node add %s",
			       e->node);
		j->news = true;
	} else if (e->secret[0] && k->secret_expired)
		(void) verdict(j, ENROL_REFUSED, "this secret has expired; make another: selfright node add %s",
			       e->node);
	else if (!e->secret[0] && !(k->node && k->same_identity))
		(void) verdict(j, ENROL_REFUSED, "no node of this name is known by this key");
	else
		return 0;
	return 1;
}

/* The same key again: the certificate made for it serves, unless a newer one is due by now. */
static int same_again(struct db *db, int64_t now, struct enrol_judgement *j)
{
	struct certificate_info info;
	int r;

	buf_init(&j->certificate, PEM_MAX);
	r = db_node_certificate(db, j->node, &j->certificate);
	if (r == -ENOENT)
		return verdict(j, ENROL_ISSUE, "a certificate is due");
	if (r < 0)
		return r;
	r = certificate_read(buf_str(&j->certificate), &info);
	if (r == -ENOMEM)
		return r;
	if (r < 0 || now >= info.not_before + (info.not_after - info.not_before) / 3 * 2) {
		buf_clear(&j->certificate);
		return verdict(j, ENROL_ISSUE, "a newer certificate is due");
	}
	return verdict(j, ENROL_SAME, "this key has its certificate");
}

static int decide(struct db *db, const struct enrolment *e, const struct known *k, int64_t now,
		  struct enrol_judgement *j)
{
	int r;

	if (k->node && k->same_identity) {
		if (k->quarantined)
			return verdict(j, ENROL_WAITING,
				       "this node is in quarantine: its key turned up twice; a person has to "
				       "trust it again");
		if (strcmp(k->transport_public, j->transport_public) == 0)
			return same_again(db, now, j);
		if (e->sequence > 0 && e->sequence + LAG_MAX < k->sequence)
			return verdict(j, ENROL_REFUSED,
				       "this request is older than what the node has reported since: somebody "
				       "repeats it, or the machine is a copy of an older one");
		/* Each costs a signature and a line of the audit trail; who has one node has no claim to the signer's whole rate. */
		if (!db_budget(db, DB_BUDGET_CERTIFICATES, e->node, now))
			return verdict(j, ENROL_TOO_OFTEN,
				       "too many certificates for this name; ask again in a minute");
		return verdict(j, ENROL_ISSUE, "a certificate for a newer key is due");
	}
	if (!k->node && !k->secret_used) {
		j->first = true;
		return verdict(j, ENROL_ISSUE, "enrolled");
	}
	if (!k->node || (k->secret_used && !k->waiting))
		return verdict(j, ENROL_REFUSED, "the node has been given other keys since; make another secret");
	if (!k->secret_used) {
		r = db_enrolment_use(db, e->node, e->identity, j->transport_public, true, now);
		if (r < 0)
			return r;
		j->news = true;
	}
	return verdict(j, ENROL_WAITING,
		       "the node is known by another key: a person has to release the new one (%.16s)",
		       j->fingerprint);
}

/* It costs a look-up, and a write only where a used secret came again, which is counted as far as anybody reads it. */
static int refuse_stranger(struct db *db, const struct enrolment *e, int64_t now, struct enrol_judgement *j)
{
	if (!db_budget(db, DB_BUDGET_ENROLMENTS_OF_ALL, "", now)) {
		j->news = false;
		return verdict(j, ENROL_TOO_OFTEN, "too many requests at once; ask again in a minute");
	}
	j->news = j->news && db_budget(db, DB_BUDGET_STRANGERS, "", now);
	return j->news ? db_enrolment_refused(db, e->node) : 0;
}

static int judge(struct db *db, const void *bytes, size_t len, const struct enrolment *e, int64_t now,
		 struct enrol_judgement *j)
{
	struct known k = { .node = false };
	int r;

	(void) snprintf(j->node, sizeof(j->node), "%s", e->node);
	r = look(db, e, now, &k);
	if (r < 0)
		return r;
	/* Who has no claim uses up what strangers have among them, never what the node of this name has. */
	if (check_claim(e, &k, j) == 1)
		return refuse_stranger(db, e, now, j);
	/* Signatures cost milliseconds. */
	if (!db_budget(db, DB_BUDGET_ENROLMENTS, e->node, now))
		return verdict(j, ENROL_TOO_OFTEN, "too many requests for this name; ask again in a minute");
	r = check_proofs(bytes, len, e, j);
	if (r == 0)
		r = decide(db, e, &k, now, j);
	return r < 0 ? r : 0;
}

int enrol_judge(struct db *db, const char *fleet, const void *bytes, size_t len, int64_t now,
		struct enrol_judgement *ret)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	CLEANUP(enrolment_done)
	struct enrolment e = { .fleet = "" };
	char *error = NULL;
	int r;

	*ret = (struct enrol_judgement){ .node = "" };
	buf_init(&ret->certificate, PEM_MAX);
	r = json_parse(bytes, len, &request_limits, &doc);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		return verdict(ret, ENROL_MALFORMED, "this is no enrolment: %s", err_text(r));
	r = enrolment_parse(json_get(doc, "signed"), &e, &error);
	if (r < 0 && r != -ENOMEM)
		(void) verdict(ret, ENROL_MALFORMED, "this is no enrolment: %.200s", error ? error : err_text(r));
	free(error);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	if (!str_eq(e.fleet, fleet))
		return verdict(ret, ENROL_REFUSED, "this is another fleet");
	return judge(db, bytes, len, &e, now, ret);
}

struct labels_of {
	struct buf text;
	int r;
};

static int copy_labels(void *user, const struct db_enrolment *row)
{
	struct labels_of *l = user;

	l->r = buf_add_str(&l->text, row->labels);
	return 0;
}

int enrol_issued(struct db *db, const struct enrol_judgement *j, const char *certificate, int64_t now)
{
	struct labels_of labels = { .r = 0 };
	int r = 0;

	if (j->first) {
		buf_init(&labels.text, PEM_MAX);
		r = db_enrolments(db, j->node, copy_labels, &labels);
		if (r == 0)
			r = labels.r;
		if (r == 0)
			r = db_enrolment_use(db, j->node, j->identity_public, j->transport_public, false, now);
		if (r == 0)
			r = db_node_add(db, j->node, j->identity_public, j->transport_public,
					buf_str(&labels.text), now);
		buf_done(&labels.text);
	}
	return r < 0 ? r : db_node_certify(db, j->node, j->transport_public, certificate);
}
