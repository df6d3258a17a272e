#include "crypto/digest.h"

#include "base/err.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct sha256 {
	EVP_MD_CTX *context;
};

/* libcrypto fails here only for lack of memory; its error queue is shared with libcurl and must stay empty. */
static int failed(void)
{
	ERR_clear_error();
	return -ENOMEM;
}

int sha256_new(struct sha256 **ret)
{
	CLEANUP(sha256_freep)
	struct sha256 *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->context = EVP_MD_CTX_new();
	if (!s->context || EVP_DigestInit_ex(s->context, EVP_sha256(), NULL) != 1)
		return failed();
	*ret = s;
	s = NULL;
	return 0;
}

int sha256_add(struct sha256 *s, const void *data, size_t len)
{
	return EVP_DigestUpdate(s->context, data, len) == 1 ? 0 : failed();
}

int sha256_end(struct sha256 *s, uint8_t ret[static SHA256_BYTES])
{
	return EVP_DigestFinal_ex(s->context, ret, NULL) == 1 ? 0 : failed();
}

int sha256_reset(struct sha256 *s)
{
	return EVP_DigestInit_ex(s->context, NULL, NULL) == 1 ? 0 : failed();
}

void sha256_free(struct sha256 *s)
{
	if (!s)
		return;
	EVP_MD_CTX_free(s->context);
	free(s);
}

int sha256_of(const void *data, size_t len, uint8_t ret[static SHA256_BYTES])
{
	return EVP_Digest(data, len, ret, NULL, EVP_sha256(), NULL) == 1 ? 0 : failed();
}

int sha512_of(const void *data, size_t len, uint8_t ret[static 64])
{
	return EVP_Digest(data, len, ret, NULL, EVP_sha512(), NULL) == 1 ? 0 : failed();
}

int sha256_hex(const void *data, size_t len, char ret[static SHA256_HEX + 1])
{
	uint8_t digest[SHA256_BYTES];
	int r = sha256_of(data, len, digest);

	if (r < 0)
		return r;
	hex_encode(ret, digest, sizeof(digest));
	return 0;
}

int hmac_sha256(const void *key, size_t key_len, const void *data, size_t len, uint8_t ret[static SHA256_BYTES])
{
	uint8_t mac[SHA256_BYTES];
	unsigned size = sizeof(mac);

	if (key_len > INT_MAX)
		return -ERR_TOO_LARGE;
	if (!HMAC(EVP_sha256(), key, (int) key_len, data, len, mac, &size))
		return failed();
	memcpy(ret, mac, sizeof(mac));
	return 0;
}
