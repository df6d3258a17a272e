/*
 * internal - what key.c and certificate.c share; no header outside crypto includes it.
 *
 * Written for mbedTLS 2.28 and 3.x: where the two differ, the difference is here.
 */
#ifndef SELFRIGHT_CRYPTO_INTERNAL_H
#define SELFRIGHT_CRYPTO_INTERNAL_H

#include "base/attr.h"

#include <mbedtls/ecp.h>
#include <mbedtls/pk.h>
#include <mbedtls/version.h>

#include <stdbool.h>
#include <stddef.h>

#ifndef MBEDTLS_PRIVATE /* 3.x marks its private members */
#define MBEDTLS_PRIVATE(member) member
#endif

enum {
	PEM_TEXT_MAX = 16 * 1024, /* a key or certificate longer than this is none of ours */
};

struct private_key {
	mbedtls_pk_context pk; /* P-256 */
};

/* The kernel's generator, in the form mbedTLS calls. */
int crypto_random(void *unused, unsigned char *out, size_t len);

/* Is it a key on this curve? */
bool crypto_pk_has_curve(const mbedtls_pk_context *pk, mbedtls_ecp_group_id curve);

/* A SubjectPublicKeyInfo in PEM, into an initialised context. -ERR_KEY. */
NODISCARD int crypto_public_pem_parse(const char *pem, mbedtls_pk_context *ret);

/* Do the two belong together? */
bool crypto_pk_is_pair(const mbedtls_pk_context *public_half, const mbedtls_pk_context *private_half);

/* -ENOMEM if that is what mbedTLS complains about, else -otherwise. */
int crypto_error(int mbedtls_error, int otherwise);

#endif
