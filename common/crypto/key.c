#include "crypto/key.h"

#include "base/err.h"
#include "crypto/digest.h"
#include "crypto/internal.h"

#include <mbedtls/platform_util.h>
#include <mbedtls/rsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/x509.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
	RSA_BITS_MIN = 2048,
	RSA_BITS_MAX = 4096,
	PSS_SALT_BYTES = 32,
	ED25519_BYTES = 32,
	ED25519_SIGNATURE_BYTES = 64,
	EC_KEY_DER_MAX = 256, /* a P-256 key in SEC 1 is 121 bytes */
	EC_KEY_PEM_MAX = 512,
	PBKDF2_ROUNDS = 600000,
	SALT_BYTES = 16,
};

enum scheme { SCHEME_P256, SCHEME_P384, SCHEME_RSA_PSS, SCHEME_ED25519 };

struct public_key {
	enum scheme scheme;
	mbedtls_pk_context pk; /* all but Ed25519 */
	EVP_PKEY *ed25519;
	uint8_t ed25519_raw[ED25519_BYTES];
};

static const struct {
	const char *type, *scheme;
	enum scheme value;
} schemes[] = {
	{ "ecdsa", "ecdsa-sha2-nistp256", SCHEME_P256 },
	{ "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256", SCHEME_P256 }, /* the type's name before TUF 1.0.30 */
	{ "ecdsa", "ecdsa-sha2-nistp384", SCHEME_P384 },
	{ "rsa", "rsassa-pss-sha256", SCHEME_RSA_PSS },
	{ "ed25519", "ed25519", SCHEME_ED25519 },
};

/* Ed25519 by libcrypto: mbedTLS 2.28 and 3.6 have none. */
static int load_ed25519(struct public_key *k, const char *hex)
{
	int r = hex_decode(k->ed25519_raw, sizeof(k->ed25519_raw), hex, true);

	if (r < 0)
		return -ERR_KEY;
	k->ed25519 = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, k->ed25519_raw, sizeof(k->ed25519_raw));
	if (!k->ed25519) {
		ERR_clear_error(); /* libcurl reads the same queue */
		return -ENOMEM;
	}
	return 0;
}

static bool holds_what_the_scheme_claims(const struct public_key *k)
{
	switch (k->scheme) {
	case SCHEME_P256:
		return crypto_pk_has_curve(&k->pk, MBEDTLS_ECP_DP_SECP256R1);
	case SCHEME_P384:
		return crypto_pk_has_curve(&k->pk, MBEDTLS_ECP_DP_SECP384R1);
	case SCHEME_RSA_PSS:
		return mbedtls_pk_get_type(&k->pk) == MBEDTLS_PK_RSA &&
		       mbedtls_pk_get_bitlen(&k->pk) >= RSA_BITS_MIN &&
		       mbedtls_pk_get_bitlen(&k->pk) <= RSA_BITS_MAX;
	case SCHEME_ED25519:
		break;
	}
	return false;
}

int public_key_load(const char *type, const char *scheme, const char *text, struct public_key **ret)
{
	CLEANUP(public_key_freep)
	struct public_key *k = NULL;
	size_t i;
	int r;

	for (i = 0; i < ARRAY_LEN(schemes); i++)
		if (str_eq(schemes[i].type, type) && str_eq(schemes[i].scheme, scheme))
			break;
	if (i == ARRAY_LEN(schemes) || !text)
		return -ERR_KEY;
	k = calloc(1, sizeof(*k));
	if (!k)
		return -ENOMEM;
	k->scheme = schemes[i].value;
	mbedtls_pk_init(&k->pk);
	if (k->scheme == SCHEME_ED25519) {
		r = load_ed25519(k, text);
	} else {
		r = crypto_public_pem_parse(text, &k->pk);
		if (r == 0 && !holds_what_the_scheme_claims(k))
			r = -ERR_KEY;
	}
	if (r < 0)
		return r;
	*ret = k;
	k = NULL;
	return 0;
}

void public_key_free(struct public_key *k)
{
	if (!k)
		return;
	mbedtls_pk_free(&k->pk);
	EVP_PKEY_free(k->ed25519);
	free(k);
}

static int verify_ed25519(const struct public_key *k, const void *message, size_t len, const uint8_t *sig,
			  size_t sig_len)
{
	EVP_MD_CTX *context;
	int r;

	if (sig_len != ED25519_SIGNATURE_BYTES)
		return -ERR_SIGNATURE;
	context = EVP_MD_CTX_new();
	if (!context)
		return -ENOMEM;
	if (EVP_DigestVerifyInit(context, NULL, NULL, NULL, k->ed25519) != 1)
		r = -ENOMEM; /* the key is a good one */
	else
		r = EVP_DigestVerify(context, sig, sig_len, message, len) == 1 ? 0 : -ERR_SIGNATURE;
	EVP_MD_CTX_free(context);
	ERR_clear_error(); /* libcurl reads the same queue */
	return r;
}

static int sha384_of(const void *data, size_t len, uint8_t ret[static 48])
{
	if (EVP_Digest(data, len, ret, NULL, EVP_sha384(), NULL) == 1)
		return 0;
	ERR_clear_error();
	return -ENOMEM;
}

int public_key_verify(const struct public_key *k, const void *message, size_t len, const uint8_t *sig,
		      size_t sig_len)
{
	/* The salt's length is given: left open, a signature with none would pass. */
	static const mbedtls_pk_rsassa_pss_options pss = {
		.mgf1_hash_id = MBEDTLS_MD_SHA256,
		.expected_salt_len = PSS_SALT_BYTES,
	};
	/* mbedTLS takes no const here, though verifying changes nothing that shows. */
	mbedtls_pk_context *pk = (mbedtls_pk_context *) (uintptr_t) &k->pk;
	uint8_t digest[48];
	int r;

	if (sig_len == 0 || !sig)
		return -ERR_SIGNATURE;
	if (k->scheme == SCHEME_ED25519)
		return verify_ed25519(k, message, len, sig, sig_len);
	r = k->scheme == SCHEME_P384 ? sha384_of(message, len, digest) : sha256_of(message, len, digest);
	if (r < 0)
		return r;
	switch (k->scheme) {
	case SCHEME_P256:
		r = mbedtls_pk_verify(pk, MBEDTLS_MD_SHA256, digest, 32, sig, sig_len);
		break;
	case SCHEME_P384:
		r = mbedtls_pk_verify(pk, MBEDTLS_MD_SHA384, digest, 48, sig, sig_len);
		break;
	case SCHEME_RSA_PSS:
		r = mbedtls_pk_verify_ext(MBEDTLS_PK_RSASSA_PSS, &pss, pk, MBEDTLS_MD_SHA256, digest, 32, sig,
					  sig_len);
		break;
	case SCHEME_ED25519:
		return -ERR_SIGNATURE; /* not reached */
	}
	return r == 0 ? 0 : crypto_error(r, ERR_SIGNATURE);
}

/* What makes this key the one it is: the curve and point, the modulus, or the 32 bytes. */
static int public_value(const struct public_key *k, uint8_t *out, size_t size, size_t *ret_len)
{
	size_t len = mbedtls_pk_get_len(&k->pk);
	int r;

	switch (k->scheme) {
	case SCHEME_ED25519:
		memcpy(out, k->ed25519_raw, sizeof(k->ed25519_raw));
		*ret_len = sizeof(k->ed25519_raw);
		return 0;
	case SCHEME_RSA_PSS:
		/* Not the exponent: whoever holds the modulus' factors can make any number of those. */
		r = mbedtls_rsa_export_raw(mbedtls_pk_rsa(k->pk), out, len, NULL, 0, NULL, 0, NULL, 0, NULL, 0);
		*ret_len = len;
		return r == 0 ? 0 : crypto_error(r, ERR_KEY);
	case SCHEME_P256:
	case SCHEME_P384:
		break;
	}
	mbedtls_ecp_keypair *ec = mbedtls_pk_ec(k->pk);

	r = mbedtls_ecp_point_write_binary(&ec->MBEDTLS_PRIVATE(grp), &ec->MBEDTLS_PRIVATE(Q),
					   MBEDTLS_ECP_PF_UNCOMPRESSED, ret_len, out, size);
	return r == 0 ? 0 : crypto_error(r, ERR_KEY);
}

int public_key_identity(const struct public_key *k, uint8_t ret[static SHA256_BYTES])
{
	uint8_t value[1 + RSA_BITS_MAX / 8];
	size_t len;
	int r;

	value[0] = (uint8_t) k->scheme;
	r = public_value(k, value + 1, sizeof(value) - 1, &len);
	return r < 0 ? r : sha256_of(value, len + 1, ret);
}

static int new_private_key(struct private_key **ret)
{
	struct private_key *k = calloc(1, sizeof(*k));

	if (!k)
		return -ENOMEM;
	mbedtls_pk_init(&k->pk);
	*ret = k;
	return 0;
}

int private_key_generate(struct private_key **ret)
{
	CLEANUP(private_key_freep)
	struct private_key *k = NULL;
	int r;

	r = new_private_key(&k);
	if (r < 0)
		return r;
	r = mbedtls_pk_setup(&k->pk, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
	if (r == 0)
		r = mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(k->pk), crypto_random, NULL);
	if (r != 0)
		return crypto_error(r, ERR_KEY);
	*ret = k;
	k = NULL;
	return 0;
}

/* PEM (with its NUL counted) or DER, without a passphrase. */
static int parse_private(const uint8_t *data, size_t size, mbedtls_pk_context *ret)
{
	int r;

#if MBEDTLS_VERSION_NUMBER >= 0x03000000
	r = mbedtls_pk_parse_key(ret, data, size, NULL, 0, crypto_random, NULL);
#else
	r = mbedtls_pk_parse_key(ret, data, size, NULL, 0);
#endif
	return r == 0 ? 0 : crypto_error(r, ERR_KEY);
}

/* libcrypto's own would prompt on the terminal for the older, PEM-level encryption. */
static int never_ask(char *out, int size, int writing, void *user)
{
	(void) out;
	(void) size;
	(void) writing;
	(void) user;
	return -1;
}

/*
 * The encrypted form is opened and closed by libcrypto: mbedTLS writes none, and 2.28
 * reads PBES2 with DES only. What is inside goes through mbedTLS again.
 */
static int parse_encrypted(const char *pem, const char *passphrase, mbedtls_pk_context *ret)
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	X509_SIG *sealed = bio ? PEM_read_bio_PKCS8(bio, NULL, never_ask, NULL) : NULL;
	PKCS8_PRIV_KEY_INFO *opened = NULL;
	unsigned char *der = NULL;
	int len, r = bio ? -ERR_KEY : -ENOMEM;

	if (sealed) {
		opened = PKCS8_decrypt(sealed, passphrase, (int) strlen(passphrase));
		r = -ERR_PASSPHRASE;
	}
	if (opened) {
		len = i2d_PKCS8_PRIV_KEY_INFO(opened, &der);
		r = len > 0 ? parse_private(der, (size_t) len, ret) : -ENOMEM;
		if (len > 0)
			OPENSSL_clear_free(der, (size_t) len);
	}
	PKCS8_PRIV_KEY_INFO_free(opened);
	X509_SIG_free(sealed);
	BIO_free(bio);
	ERR_clear_error();
	return r;
}

static void wipe_pem(char (*pem)[PEM_TEXT_MAX + 1])
{
	mbedtls_platform_zeroize(*pem, sizeof(*pem));
}

int private_key_load(const void *pem, size_t len, const char *passphrase, struct private_key **ret)
{
	CLEANUP(private_key_freep)
	struct private_key *k = NULL;
	CLEANUP(wipe_pem)
	char text[PEM_TEXT_MAX + 1] = "";
	int r;

	if (len > 0 && ((const char *) pem)[len - 1] == '\0') /* both ways of counting are fine */
		len--;
	if (len > PEM_TEXT_MAX || memchr(pem, '\0', len))
		return -ERR_KEY;
	memcpy(text, pem, len);
	if (!strstr(text, "-----BEGIN ")) /* mbedTLS would try DER */
		return -ERR_KEY;
	r = new_private_key(&k);
	if (r < 0)
		return r;
	if (strstr(text, "-----BEGIN ENCRYPTED PRIVATE KEY-----"))
		r = passphrase ? parse_encrypted(text, passphrase, &k->pk) : -ERR_PASSPHRASE;
	else
		r = parse_private((const uint8_t *) text, len + 1, &k->pk);
	if (r < 0)
		return r;
	if (!crypto_pk_has_curve(&k->pk, MBEDTLS_ECP_DP_SECP256R1) || !crypto_pk_is_pair(&k->pk, &k->pk))
		return -ERR_KEY;
	*ret = k;
	k = NULL;
	return 0;
}

void private_key_free(struct private_key *k)
{
	if (!k)
		return;
	mbedtls_pk_free(&k->pk); /* wipes the numbers */
	mbedtls_platform_zeroize(k, sizeof(*k));
	free(k);
}

static int save_plain(const struct private_key *k, struct buf *out)
{
	unsigned char pem[EC_KEY_PEM_MAX];
	int r;

	r = mbedtls_pk_write_key_pem((mbedtls_pk_context *) (uintptr_t) &k->pk, pem, sizeof(pem));
	r = r == 0 ? buf_add_str(out, (const char *) pem) : crypto_error(r, ERR_KEY);
	mbedtls_platform_zeroize(pem, sizeof(pem));
	return r;
}

/* PKCS#8 of the key, from its SEC 1 form. */
static PKCS8_PRIV_KEY_INFO *to_pkcs8(const struct private_key *k)
{
	unsigned char der[EC_KEY_DER_MAX];
	const unsigned char *at;
	PKCS8_PRIV_KEY_INFO *info = NULL;
	EVP_PKEY *key = NULL;
	int len;

	/* It writes to the end of the buffer. */
	len = mbedtls_pk_write_key_der((mbedtls_pk_context *) (uintptr_t) &k->pk, der, sizeof(der));
	if (len > 0) {
		at = der + sizeof(der) - len;
		key = d2i_PrivateKey(EVP_PKEY_EC, NULL, &at, len);
	}
	if (key)
		info = EVP_PKEY2PKCS8(key);
	EVP_PKEY_free(key);
	mbedtls_platform_zeroize(der, sizeof(der));
	return info;
}

static int save_encrypted(const struct private_key *k, const char *passphrase, struct buf *out)
{
	PKCS8_PRIV_KEY_INFO *info = to_pkcs8(k);
	X509_ALGOR *method = NULL;
	X509_SIG *sealed = NULL;
	BIO *bio = NULL;
	char *text;
	long len;
	int r = -ENOMEM;

	/* Not PEM_write_PKCS8PrivateKey: its 2048 rounds are no obstacle today. */
	if (info)
		method = PKCS5_pbe2_set_iv(EVP_aes_256_cbc(), PBKDF2_ROUNDS, NULL, SALT_BYTES, NULL,
					   NID_hmacWithSHA256);
	if (method) {
		sealed = PKCS8_set0_pbe(passphrase, (int) strlen(passphrase), info, method);
		if (!sealed)
			X509_ALGOR_free(method);
	}
	if (sealed)
		bio = BIO_new(BIO_s_mem());
	if (bio && PEM_write_bio_PKCS8(bio, sealed) == 1) {
		len = BIO_get_mem_data(bio, &text);
		r = buf_add(out, text, (size_t) len);
	}
	BIO_free(bio);
	X509_SIG_free(sealed);
	PKCS8_PRIV_KEY_INFO_free(info);
	ERR_clear_error();
	return r;
}

int private_key_save(const struct private_key *k, const char *passphrase, struct buf *out)
{
	return passphrase ? save_encrypted(k, passphrase, out) : save_plain(k, out);
}

int private_key_public_pem(const struct private_key *k, struct buf *out)
{
	unsigned char pem[EC_KEY_PEM_MAX];
	int r;

	r = mbedtls_pk_write_pubkey_pem((mbedtls_pk_context *) (uintptr_t) &k->pk, pem, sizeof(pem));
	return r == 0 ? buf_add_str(out, (const char *) pem) : crypto_error(r, ERR_KEY);
}

int private_key_sign(const struct private_key *k, const void *message, size_t len, struct buf *ret_sig)
{
	mbedtls_pk_context *pk = (mbedtls_pk_context *) (uintptr_t) &k->pk;
	unsigned char sig[MBEDTLS_PK_SIGNATURE_MAX_SIZE];
	uint8_t digest[SHA256_BYTES];
	size_t sig_len = 0;
	int r;

	r = sha256_of(message, len, digest);
	if (r < 0)
		return r;
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
	r = mbedtls_pk_sign(pk, MBEDTLS_MD_SHA256, digest, sizeof(digest), sig, sizeof(sig), &sig_len,
			    crypto_random, NULL);
#else
	r = mbedtls_pk_sign(pk, MBEDTLS_MD_SHA256, digest, sizeof(digest), sig, &sig_len, crypto_random, NULL);
#endif
	return r == 0 ? buf_add(ret_sig, sig, sig_len) : crypto_error(r, ERR_KEY);
}
