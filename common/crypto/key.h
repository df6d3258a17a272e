/*
 * key - signatures: verify any scheme of TUF 1.0.34 we take, sign ECDSA P-256.
 *
 * Schemes taken: ecdsa-sha2-nistp256, ecdsa-sha2-nistp384, rsassa-pss-sha256
 * (2048 to 4096 bits, MGF1-SHA-256, salt 32), ed25519 (libcrypto: TUF.md section
 * 8). mbedTLS 2.28 and 3.x do the others. The algorithm comes from the trusted
 * key, never from the signature.
 */
#ifndef SELFRIGHT_CRYPTO_KEY_H
#define SELFRIGHT_CRYPTO_KEY_H

#include "base/attr.h"
#include "base/buf.h"
#include "base/text.h"

#include <stddef.h>
#include <stdint.h>

struct public_key;
struct private_key;

/*
 * From the members of a TUF key object: `type` (ecdsa, ecdsa-sha2-nistp256, rsa,
 * ed25519), `scheme`, `text` (PEM, or hex for ed25519). -ERR_KEY if the PEM does
 * not hold the type and curve the scheme claims, or the scheme is none we take.
 */
NODISCARD int public_key_load(const char *type, const char *scheme, const char *text, struct public_key **ret);
void public_key_free(struct public_key *k);
DEFINE_FREEP(struct public_key *, public_key_free)

/* 0, or -ERR_SIGNATURE (also for an empty or malformed one). */
NODISCARD int public_key_verify(const struct public_key *k, const void *message, size_t len, const uint8_t *sig,
				size_t sig_len);

/* A digest of the key itself (of the public point or modulus), to count distinct keys whatever their ids. */
NODISCARD int public_key_identity(const struct public_key *k, uint8_t ret[static SHA256_BYTES]);

/* A new P-256 key. */
NODISCARD int private_key_generate(struct private_key **ret);

/* From PEM: PKCS#8 or SEC 1, plain; or our encrypted form (below). -ERR_PASSPHRASE, -ERR_KEY. */
NODISCARD int private_key_load(const void *pem, size_t len, const char *passphrase, struct private_key **ret);
void private_key_free(struct private_key *k); /* wipes */
DEFINE_FREEP(struct private_key *, private_key_free)

/* PEM (its NUL is there and not counted); plain SEC 1, or encrypted with PKCS#5 (PBES2: PBKDF2-HMAC-SHA256, AES-256-CBC) PKCS#8 if a passphrase is given. */
NODISCARD int private_key_save(const struct private_key *k, const char *passphrase, struct buf *out);

/* The SubjectPublicKeyInfo PEM: the `public` member of a TUF key. */
NODISCARD int private_key_public_pem(const struct private_key *k, struct buf *out);

/* An ASN.1 DER ECDSA signature over SHA-256 of the message. */
NODISCARD int private_key_sign(const struct private_key *k, const void *message, size_t len, struct buf *ret_sig);

#endif
