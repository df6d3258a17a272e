/* Each sentence of crypto/digest.h. Vectors: FIPS 180-4 examples. */
#include "base/text.h"
#include "crypto/digest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct {
	const char *text, *sha256, *sha512;
} vectors[] = {
	{ "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	  "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931b"
	  "d47417a81a538327af927da3e" },
	{ "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
	  "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d442"
	  "3643ce80e2a9ac94fa54ca49f" },
	{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
	  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
	  "204a8fc6dda82f0a0ced7beb8e08a41657c16ef468b228a8279be331a703c33596fd15c13b1b07f9aa1d3bea57789ca031ad85c"
	  "7a71dd70354ec631238ca3445" },
};

static void test_known_digests(void **state)
{
	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		uint8_t digest[64];
		char hex[129];

		assert_int_equal(sha256_of(vectors[i].text, strlen(vectors[i].text), digest), 0);
		hex_encode(hex, digest, SHA256_BYTES);
		assert_string_equal(hex, vectors[i].sha256);
		assert_int_equal(sha512_of(vectors[i].text, strlen(vectors[i].text), digest), 0);
		hex_encode(hex, digest, 64);
		assert_string_equal(hex, vectors[i].sha512);
		assert_int_equal(sha256_hex(vectors[i].text, strlen(vectors[i].text), hex), 0);
		assert_string_equal(hex, vectors[i].sha256);
	}
}

static void test_in_pieces_it_is_the_same(void **state)
{
	CLEANUP(sha256_freep)
	struct sha256 *s = NULL;
	uint8_t data[1000], whole[SHA256_BYTES], pieces[SHA256_BYTES];

	(void) state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t) (i * 31);
	assert_int_equal(sha256_of(data, sizeof(data), whole), 0);
	assert_int_equal(sha256_new(&s), 0);
	for (size_t step = 1; step < 130; step += 7) {
		for (size_t i = 0; i < sizeof(data); i += step) {
			size_t n = sizeof(data) - i < step ? sizeof(data) - i : step;

			assert_int_equal(sha256_add(s, data + i, n), 0);
		}
		assert_int_equal(sha256_add(s, NULL, 0), 0);
		assert_int_equal(sha256_end(s, pieces), 0);
		assert_memory_equal(pieces, whole, sizeof(whole));
		assert_int_equal(sha256_reset(s), 0);
	}
}

static void test_a_reset_forgets(void **state)
{
	CLEANUP(sha256_freep)
	struct sha256 *s = NULL;
	uint8_t digest[SHA256_BYTES];
	char hex[SHA256_HEX + 1];

	(void) state;
	assert_int_equal(sha256_new(&s), 0);
	assert_int_equal(sha256_add(s, "something", 9), 0);
	assert_int_equal(sha256_reset(s), 0);
	assert_int_equal(sha256_end(s, digest), 0);
	hex_encode(hex, digest, sizeof(digest));
	assert_string_equal(hex, vectors[0].sha256);
	sha256_free(NULL);
}

/* RFC 4231, cases 1, 2 and 6: a short key, a shorter one, and one longer than a block. */
static void test_known_macs(void **state)
{
	uint8_t long_key[131], mac[SHA256_BYTES];
	char hex[SHA256_HEX + 1];
	const struct {
		const void *key;
		size_t key_len;
		const char *data, *mac;
	} rows[] = {
		{ "\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b", 20,
		  "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7" },
		{ "Jefe", 4, "what do ya want for nothing?",
		  "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" },
		{ long_key, sizeof(long_key), "Test Using Larger Than Block-Size Key - Hash Key First",
		  "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54" },
	};

	(void) state;
	memset(long_key, 0xaa, sizeof(long_key));
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(hmac_sha256(rows[i].key, rows[i].key_len, rows[i].data, strlen(rows[i].data),
					     mac),
				 0);
		hex_encode(hex, mac, sizeof(mac));
		assert_string_equal(hex, rows[i].mac);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_digests),
		cmocka_unit_test(test_in_pieces_it_is_the_same),
		cmocka_unit_test(test_a_reset_forgets),
		cmocka_unit_test(test_known_macs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
