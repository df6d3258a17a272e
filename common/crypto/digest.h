/*
 * digest - SHA-256 and SHA-512 with libcrypto (4 times mbedTLS 2.28's speed: PERFORMANCE.md).
 */
#ifndef SELFRIGHT_CRYPTO_DIGEST_H
#define SELFRIGHT_CRYPTO_DIGEST_H

#include "base/attr.h"
#include "base/text.h"

#include <stddef.h>
#include <stdint.h>

struct sha256;

NODISCARD int sha256_new(struct sha256 **ret);
NODISCARD int sha256_add(struct sha256 *s, const void *data, size_t len);
/* The digest of all that was added; the object may only be freed, or reset, afterwards. */
NODISCARD int sha256_end(struct sha256 *s, uint8_t ret[static SHA256_BYTES]);
NODISCARD int sha256_reset(struct sha256 *s);
void sha256_free(struct sha256 *s);
DEFINE_FREEP(struct sha256 *, sha256_free)

/* In one call. */
NODISCARD int sha256_of(const void *data, size_t len, uint8_t ret[static SHA256_BYTES]);
NODISCARD int sha512_of(const void *data, size_t len, uint8_t ret[static 64]);

/* HMAC-SHA-256 (RFC 2104) with a key of any length. */
NODISCARD int hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
			  uint8_t ret[static SHA256_BYTES]);

/* Lower-case hex in one call. */
NODISCARD int sha256_hex(const void *data, size_t len, char ret[static SHA256_HEX + 1]);

#endif
