/*
 * The first byte picks what the rest is taken for: a public key of one scheme, a private
 * key, a certificate; with a digit it is PEM, with a letter DER that is wrapped first.
 */
#include "crypto/certificate.h"
#include "crypto/key.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds)
{
	if (!holds)
		abort();
}

static void try_public(const char *type, const char *scheme, const char *text)
{
	static const uint8_t sig[512] = { 0x30, 6, 2, 1, 1, 2, 1, 1 };
	CLEANUP(public_key_freep)
	struct public_key *k = NULL;
	uint8_t identity[SHA256_BYTES];

	if (public_key_load(type, scheme, text, &k) < 0)
		return;
	expect(public_key_identity(k, identity) == 0);
	expect(public_key_verify(k, "x", 1, sig, 0) < 0);
	expect(public_key_verify(k, "x", 1, sig, 8) < 0);
	expect(public_key_verify(k, "x", 1, sig, 64) < 0);
	expect(public_key_verify(k, "x", 1, sig, 256) < 0);
}

static void try_private(const char *data, size_t size)
{
	CLEANUP(private_key_freep)
	struct private_key *k = NULL;
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(4096);

	if (private_key_load(data, size, NULL, &k) < 0)
		return;
	expect(private_key_public_pem(k, &out) == 0);
}

/* As the C string that the functions take. */
static void to_text(const uint8_t *data, size_t size, const char *label, struct buf *out)
{
	if (!label) {
		expect(buf_add(out, data, size) == 0);
		return;
	}
	expect(buf_addf(out, "-----BEGIN %s-----\n", label) == 0);
	expect(base64_encode(out, data, size) == 0);
	expect(buf_addf(out, "\n-----END %s-----\n", label) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(1 << 24);
	static const char *const labels[] = { "PUBLIC KEY", "PUBLIC KEY",  "PUBLIC KEY",
					      NULL,	    "PRIVATE KEY", "CERTIFICATE" };
	struct certificate_info info;
	const char *text;
	bool wrapped;

	if (size == 0)
		return 0;
	wrapped = data[0] >= 'a' && data[0] <= 'f';
	to_text(data + 1, size - 1, wrapped ? labels[data[0] - 'a'] : NULL, &pem);
	text = buf_str(&pem);
	switch (wrapped ? data[0] - 'a' + '1' : data[0]) {
	case '1':
		try_public("ecdsa", "ecdsa-sha2-nistp256", text);
		break;
	case '2':
		try_public("ecdsa", "ecdsa-sha2-nistp384", text);
		break;
	case '3':
		try_public("rsa", "rsassa-pss-sha256", text);
		break;
	case '4':
		try_public("ed25519", "ed25519", text);
		break;
	case '5':
		try_private(text, pem.len);
		break;
	default:
		(void) certificate_read(text, &info); /* either answer is right */
		break;
	}
	return 0;
}
