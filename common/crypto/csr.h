/*
 * csr - requests for certificates (PKCS#10): P-256, a common name, nothing else; mbedTLS.
 *
 * What a request asks for besides (names, usages) is not looked at: whoever issues decides.
 */
#ifndef SELFRIGHT_CRYPTO_CSR_H
#define SELFRIGHT_CRYPTO_CSR_H

#include "base/attr.h"
#include "base/buf.h"

#include <stddef.h>

struct private_key;

enum { CSR_PEM_MAX = 4096 };

/* A request for `key`, signed by it; PEM appended. `common_name` is an id. */
NODISCARD int csr_make(const struct private_key *key, const char *common_name, struct buf *out);

struct csr_info {
	char common_name[64];
	char public_pem[512]; /* SubjectPublicKeyInfo, as private_key_public_pem() writes it */
};

/*
 * Read one and verify that its own key signed it. -ERR_SYNTAX: no request; -ERR_TOO_LARGE; -ERR_KEY: not P-256;
 * -ERR_NAME: not exactly one common name that is an id; -ERR_SIGNATURE: signed by another key, or not with SHA-256.
 */
NODISCARD int csr_read(const char *pem, struct csr_info *ret);

#endif
