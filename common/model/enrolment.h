/*
 * enrolment - what a node asks a certificate with (DESIGN.md section 7): the signed part of
 *
 *   {"signed": {"_type": "selfright-enrolment", "format": 1, "fleet", "node", "identity", "request"[, "secret"][, "sequence"]},
 *    "signatures": [by the identity key, by the transport key]}
 *
 * `identity` is the public half of the key that signs reports, `request` a PKCS#10 request of the
 * transport key (crypto/csr.h). With `secret` it is the first time, or a machine that begins anew; without
 * it a node that is known asks for a newer certificate, and the identity key alone says who it is: an
 * expired certificate is no hindrance. `sequence` is that of the node's newest report: a request that somebody kept and
 * sends again later is older than what the node has said since, and brings an old key no new certificate.
 */
#ifndef SELFRIGHT_MODEL_ENROLMENT_H
#define SELFRIGHT_MODEL_ENROLMENT_H

#include "base/attr.h"
#include "base/text.h"

#include <stddef.h>
#include <stdint.h>

struct json;
struct json_node;

enum { ENROLMENT_FORMAT = 1, ENROLMENT_MAX_BYTES = 16 * 1024, ENROLMENT_SECRET_BYTES = 20 };

struct enrolment {
	char fleet[ID_MAX + 1], node[ID_MAX + 1];
	char secret[2 * ENROLMENT_SECRET_BYTES + 1]; /* lower-case hex; "": none */
	char *identity, *request; /* PEM */
	uint64_t sequence; /* 0: not said (older agents), or no report yet */
};

/* What is wrong in words in *ret_error. */
NODISCARD int enrolment_parse(const struct json *doc, struct enrolment *ret, char **ret_error);
void enrolment_write(const struct enrolment *e, struct json_node *object);
void enrolment_done(struct enrolment *e); /* wipes the secret */

/*
 * The answer, over TLS: {"format": 1, "state": "issued"|"waiting"|"refused", "certificate", "reason"}. The certificate is
 * believed because it fits the key, not because of who brought it.
 */
enum enrolment_state { ENROLMENT_ISSUED, ENROLMENT_WAITING, ENROLMENT_REFUSED };
struct enrolment_answer {
	enum enrolment_state state;
	char *certificate; /* PEM; only when issued */
	char reason[256]; /* in words; "" when issued */
};
NODISCARD int enrolment_answer_parse(const struct json *doc, struct enrolment_answer *ret, char **ret_error);
void enrolment_answer_write(const struct enrolment_answer *a, struct json_node *object);
void enrolment_answer_done(struct enrolment_answer *a);

#endif
