#include "crypto/internal.h"

#include "base/err.h"
#include "base/text.h"

#include <mbedtls/entropy.h>
#include <mbedtls/md.h>
#include <mbedtls/pem.h>
#include <mbedtls/x509.h>

#include <errno.h>
#include <string.h>
#include <sys/random.h>

int crypto_random(void *unused, unsigned char *out, size_t len)
{
	(void) unused;
	/* No generator of our own in between: nothing to seed, and nothing a fork could double. */
	while (len > 0) {
		ssize_t n = getrandom(out, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return MBEDTLS_ERR_ENTROPY_SOURCE_FAILED;
		out += n;
		len -= (size_t) n;
	}
	return 0;
}

bool crypto_pk_has_curve(const mbedtls_pk_context *pk, mbedtls_ecp_group_id curve)
{
	const mbedtls_ecp_keypair *ec;

	if (mbedtls_pk_get_type(pk) != MBEDTLS_PK_ECKEY)
		return false;
	ec = mbedtls_pk_ec(*pk);
	return ec && ec->MBEDTLS_PRIVATE(grp).id == curve;
}

int crypto_public_pem_parse(const char *pem, mbedtls_pk_context *ret)
{
	size_t len = strnlen(pem, PEM_TEXT_MAX);
	int r;

	/* mbedTLS would also take DER and bare RSA keys; a TUF key and a request of ours are neither. */
	if (len == PEM_TEXT_MAX || !str_starts(pem, "-----BEGIN PUBLIC KEY-----"))
		return -ERR_KEY;
	r = mbedtls_pk_parse_public_key(ret, (const unsigned char *) pem, len + 1);
	return r == 0 ? 0 : crypto_error(r, ERR_KEY);
}

bool crypto_pk_is_pair(const mbedtls_pk_context *public_half, const mbedtls_pk_context *private_half)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
	return mbedtls_pk_check_pair(public_half, private_half, crypto_random, NULL) == 0;
#else
	return mbedtls_pk_check_pair(public_half, private_half) == 0;
#endif
}

int crypto_error(int mbedtls_error, int otherwise)
{
	/* An error is a module's number plus, in the last seven bits, that of what lies below it. */
	int low = -(-mbedtls_error & 0x7f), high = mbedtls_error - low;

	if (low == MBEDTLS_ERR_MPI_ALLOC_FAILED || low == MBEDTLS_ERR_ASN1_ALLOC_FAILED)
		return -ENOMEM;
	switch (high) {
	case MBEDTLS_ERR_PK_ALLOC_FAILED:
	case MBEDTLS_ERR_ECP_ALLOC_FAILED:
	case MBEDTLS_ERR_PEM_ALLOC_FAILED:
	case MBEDTLS_ERR_X509_ALLOC_FAILED:
	case MBEDTLS_ERR_MD_ALLOC_FAILED:
		return -ENOMEM;
	default:
		return -otherwise;
	}
}
