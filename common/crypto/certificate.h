/*
 * certificate - a small CA for nodes and servers: P-256, X.509v3, mbedTLS.
 */
#ifndef SELFRIGHT_CRYPTO_CERTIFICATE_H
#define SELFRIGHT_CRYPTO_CERTIFICATE_H

#include "base/attr.h"
#include "base/buf.h"
#include "crypto/digest.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct private_key;

struct certificate_request {
	const char *common_name; /* guard_id()ed by the caller, or a host name */
	const char *public_pem; /* SubjectPublicKeyInfo of the holder */
	const char *const *names; /* subject alternative names: "DNS:x" or "IP:1.2.3.4" or "IP:::1" */
	size_t name_count;
	bool is_ca, server, client; /* basic constraints, extended key usage */
	int64_t not_before, not_after; /* seconds since 1970 */
};

/* Issue a certificate signed by `ca_key` with the subject of `ca_pem` as issuer; ca_pem NULL: self-signed. PEM appended to `out`. */
NODISCARD int certificate_issue(const struct certificate_request *request, const struct private_key *ca_key,
				const char *ca_pem, struct buf *out);

/* Read back from PEM what we need of a certificate. */
struct certificate_info {
	char common_name[128];
	int64_t not_before, not_after;
	bool is_ca; /* it may sign others */
};
NODISCARD int certificate_read(const char *pem, struct certificate_info *ret);

/* Is it the certificate of this key? 0, -ERR_KEY: of another; -ERR_SYNTAX: none. */
NODISCARD int certificate_fits(const char *pem, const struct private_key *key);

/* Did the holder of this CA's key issue it? 0 whatever the dates say; -ERR_SIGNATURE: no; -ERR_SYNTAX. */
NODISCARD int certificate_is_of(const char *pem, const char *ca_pem);

/*
 * Several certificates in one PEM text, as a CA file holds them; what stands between them is passed over. They are not
 * read beyond their bytes: one of a kind we do not know may be an administrator's own.
 */
enum { CERTIFICATE_BUNDLE_MAX = 32 };
struct bundled_certificate {
	char *pem; /* from BEGIN to END, ended by a line's end */
	char sha256[SHA256_HEX + 1]; /* of its DER bytes: what `openssl x509 -fingerprint -sha256` prints */
};
struct certificate_bundle {
	struct bundled_certificate items[CERTIFICATE_BUNDLE_MAX];
	size_t count;
};
/* -ERR_SYNTAX: one is torn or no base64; -ERR_TOO_LARGE: too many. Without any it is empty. */
NODISCARD int certificate_bundle_read(const char *text, struct certificate_bundle *ret);
void certificate_bundle_done(struct certificate_bundle *b);
/* NULL: it is not among them. Borrowed. */
const struct bundled_certificate *certificate_bundle_find(const struct certificate_bundle *b, const char *sha256);
/* One of them, appended. */
NODISCARD int certificate_bundle_write(const struct bundled_certificate *c, struct buf *out);

#endif
