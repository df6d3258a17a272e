/*
 * certificate - a small CA for nodes and servers: P-256, X.509v3, mbedTLS.
 */
#ifndef SELFRIGHT_CRYPTO_CERTIFICATE_H
#define SELFRIGHT_CRYPTO_CERTIFICATE_H

#include "base/attr.h"
#include "base/buf.h"

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
};
NODISCARD int certificate_read(const char *pem, struct certificate_info *ret);

/* Is it the certificate of this key? 0, -ERR_KEY: of another; -ERR_SYNTAX: none. */
NODISCARD int certificate_fits(const char *pem, const struct private_key *key);

#endif
