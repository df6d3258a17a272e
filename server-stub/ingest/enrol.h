/*
 * enrol - who gets a certificate (DESIGN.md sections 7 and 8): requests of nodes judged against one-time secrets
 * and against the keys that are known.
 *
 * A secret is kept as its SHA-256. It is used up by one identity key; the same request again gets the same certificate,
 * which is what a node needs whose answer was lost. Another key is refused, and people are told: two machines hold one
 * join file. A node that is known and comes with a new key waits in quarantine until a person releases
 * it; until then its old key is in force. Without a secret a node that is known asks with the key it is known by.
 *
 *   r = enrol_judge(db, fleet, bytes, len, now, &j);
 *   if (j.verdict == ENROL_ISSUE) -> certificate for j.node and j.transport_public -> enrol_issued(db, &j, pem, now)
 *
 * within one transaction of the caller's: either the secret is used up and the certificate kept, or nothing happened.
 * Hostile bytes are a verdict, never an error; a negative return is our own failure.
 */
#ifndef SELFRIGHT_INGEST_ENROL_H
#define SELFRIGHT_INGEST_ENROL_H

#include "base/attr.h"
#include "base/buf.h"
#include "base/text.h"
#include "crypto/csr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct db;

enum enrol_verdict {
	ENROL_ISSUE, /* a certificate is due: make it, then enrol_issued() */
	ENROL_SAME, /* it was made before: `certificate` */
	ENROL_WAITING, /* until a person releases it */
	ENROL_REFUSED, /* this request will never be granted */
	ENROL_MALFORMED, /* it is none */
	ENROL_TOO_OFTEN, /* ask later */
};

struct enrol_judgement {
	enum enrol_verdict verdict;
	char node[ID_MAX + 1];
	char fingerprint[SHA256_HEX + 1]; /* of the identity key that asks, as people compare it */
	bool first; /* ISSUE: the node is not known yet and becomes so */
	bool news; /* worth a line of the timeline: used a second time, waits since now */
	char identity_public[CSR_PEM_MAX]; /* as it stands in the request */
	char transport_public[512];
	struct buf certificate; /* of ENROL_SAME */
	char text[256]; /* the verdict in words */
};
void enrol_judgement_done(struct enrol_judgement *j);

NODISCARD int enrol_judge(struct db *db, const char *fleet, const void *bytes, size_t len, int64_t now,
			  struct enrol_judgement *ret);

/* The certificate for a judgement of ENROL_ISSUE exists: use up the secret, know the node, keep the certificate. */
NODISCARD int enrol_issued(struct db *db, const struct enrol_judgement *j, const char *certificate, int64_t now);

/* SHA-256 of a secret, as the database keeps it. */
NODISCARD int enrol_secret_digest(const char *secret, char ret[static SHA256_HEX + 1]);

/* What people compare: SHA-256 of the TUF key object, the keyid. -ERR_KEY. */
NODISCARD int enrol_fingerprint(const char *public_pem, char ret[static SHA256_HEX + 1]);

#endif
