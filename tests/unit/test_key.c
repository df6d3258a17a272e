/* Each sentence of crypto/key.h; signatures.json was made by another implementation (make_signatures.py). */
#include "base/err.h"
#include "crypto/key.h"
#include "json/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define P256 "ecdsa", "ecdsa-sha2-nistp256"

static void read_data(const char *name, struct buf *out)
{
	char path[512];
	FILE *f;
	size_t n;

	(void) snprintf(path, sizeof(path), "%s/unit/data/%s", TESTS_DIR, name);
	f = fopen(path, "re");
	assert_non_null(f);
	do {
		assert_int_equal(buf_reserve(out, 65536), 0);
		n = fread(out->data + out->len, 1, 65536, f);
		out->len += n;
	} while (n > 0);
	(void) fclose(f);
}

static const char *member(const struct json *j, const char *name)
{
	const char *s = NULL;

	assert_int_equal(json_need_string(j, name, &s), 0);
	return s;
}

static int run_vector(const struct json *v)
{
	CLEANUP(public_key_freep)
	struct public_key *k = NULL;
	CLEANUP(buf_done)
	struct buf message = BUF_INIT(4096), sig = BUF_INIT(4096);
	uint8_t *exact;
	int r;

	r = public_key_load(member(v, "type"), member(v, "scheme"), member(v, "public"), &k);
	assert_true((r == 0) == (k != NULL));
	if (r < 0)
		return r;
	assert_int_equal(hex_decode_buf(&message, member(v, "message")), 0);
	assert_int_equal(hex_decode_buf(&sig, member(v, "signature")), 0);
	/* A copy of exactly this size, so that a read beyond it is seen. */
	exact = malloc(sig.len ? sig.len : 1);
	assert_non_null(exact);
	if (sig.len)
		memcpy(exact, sig.data, sig.len);
	r = public_key_verify(k, message.data, message.len, exact, sig.len);
	free(exact);
	return r;
}

static void test_vectors_of_every_scheme(void **state)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(1024 * 1024);
	CLEANUP(json_freep)
	struct json *vectors = NULL;
	size_t valid = 0, invalid = 0, keys = 0;

	(void) state;
	read_data("signatures.json", &text);
	assert_int_equal(json_parse(text.data, text.len, NULL, &vectors), 0);
	for (size_t i = 0; i < json_count(vectors); i++) {
		const struct json *v = json_at(vectors, i);
		const char *expect = member(v, "expect");
		int r = run_vector(v), wanted = 0;

		if (str_eq(expect, "invalid"))
			wanted = -ERR_SIGNATURE;
		else if (str_eq(expect, "key"))
			wanted = -ERR_KEY;
		if (r != wanted)
			fail_msg("%s: %s, not %s", member(v, "name"), err_name(r), err_name(wanted));
		valid += wanted == 0;
		invalid += wanted == -ERR_SIGNATURE;
		keys += wanted == -ERR_KEY;
	}
	assert_true(valid >= 14 && invalid >= 40 && keys >= 25);
}

static void test_missing_members_load_no_key(void **state)
{
	struct public_key *k = NULL;

	(void) state;
	assert_int_equal(public_key_load(NULL, "ed25519", "00", &k), -ERR_KEY);
	assert_int_equal(public_key_load("ed25519", NULL, "00", &k), -ERR_KEY);
	assert_int_equal(public_key_load("ed25519", "ed25519", NULL, &k), -ERR_KEY);
	assert_null(k);
	public_key_free(NULL);
	private_key_free(NULL);
}

/* The public half of a private key, as a TUF client would load it. */
static struct public_key *public_of(const struct private_key *k)
{
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(4096);
	struct public_key *public = NULL;

	assert_int_equal(private_key_public_pem(k, &pem), 0);
	assert_int_equal(strlen(buf_str(&pem)), pem.len);
	assert_int_equal(public_key_load(P256, buf_str(&pem), &public), 0);
	return public;
}

static void expect_same_key(const struct private_key *a, const struct private_key *b)
{
	CLEANUP(buf_done)
	struct buf first = BUF_INIT(4096), second = BUF_INIT(4096);

	assert_int_equal(private_key_public_pem(a, &first), 0);
	assert_int_equal(private_key_public_pem(b, &second), 0);
	assert_string_equal(buf_str(&first), buf_str(&second));
}

static void test_what_is_signed_verifies(void **state)
{
	CLEANUP(private_key_freep)
	struct private_key *k = NULL, *other = NULL;
	CLEANUP(public_key_freep)
	struct public_key *public = NULL, *stranger = NULL;
	static const char message[] = "a message";

	(void) state;
	assert_int_equal(private_key_generate(&k), 0);
	assert_int_equal(private_key_generate(&other), 0);
	public = public_of(k);
	stranger = public_of(other);
	for (size_t len = 0; len < sizeof(message); len++) {
		CLEANUP(buf_done)
		struct buf sig = BUF_INIT(200);

		assert_int_equal(private_key_sign(k, message, len, &sig), 0);
		assert_int_equal(public_key_verify(public, message, len, sig.data, sig.len), 0);
		assert_int_equal(public_key_verify(stranger, message, len, sig.data, sig.len), -ERR_SIGNATURE);
		if (len > 0)
			assert_int_equal(public_key_verify(public, message, len - 1, sig.data, sig.len),
					 -ERR_SIGNATURE);
		for (size_t cut = 0; cut < sig.len; cut++)
			assert_int_equal(public_key_verify(public, message, len, sig.data, cut), -ERR_SIGNATURE);
	}
	assert_int_equal(public_key_verify(public, message, 1, NULL, 0), -ERR_SIGNATURE);
}

static void test_saved_keys_load_again(void **state)
{
	CLEANUP(private_key_freep)
	struct private_key *k = NULL, *plain = NULL, *sealed = NULL;
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(4096), secret = BUF_INIT(4096);
	struct private_key *none = NULL;

	(void) state;
	assert_int_equal(private_key_generate(&k), 0);
	assert_int_equal(private_key_save(k, NULL, &pem), 0);
	assert_int_equal(private_key_load(pem.data, pem.len, NULL, &plain), 0);
	expect_same_key(k, plain);

	assert_int_equal(private_key_save(k, "correct horse", &secret), 0);
	assert_true(str_starts(buf_str(&secret), "-----BEGIN ENCRYPTED PRIVATE KEY-----"));
	assert_int_equal(private_key_load(secret.data, secret.len, "correct horse", &sealed), 0);
	expect_same_key(k, sealed);
	assert_int_equal(private_key_load(secret.data, secret.len, "correct hors", &none), -ERR_PASSPHRASE);
	assert_int_equal(private_key_load(secret.data, secret.len, "", &none), -ERR_PASSPHRASE);
	assert_int_equal(private_key_load(secret.data, secret.len, NULL, &none), -ERR_PASSPHRASE);
	assert_null(none);
}

static void test_the_nul_may_be_counted_or_not(void **state)
{
	CLEANUP(private_key_freep)
	struct private_key *k = NULL, *with = NULL;
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(4096);

	(void) state;
	assert_int_equal(private_key_generate(&k), 0);
	assert_int_equal(private_key_save(k, NULL, &pem), 0);
	assert_int_equal(private_key_load(pem.data, pem.len + 1, NULL, &with), 0);
	expect_same_key(k, with);
}

/* Made with openssl 3.0: one P-256 key in every form, and what is none of ours. The passphrase is "geheim". */
static const char sec1[] = "-----BEGIN EC PRIVATE KEY-----\n"
			   "MHcCAQEEII6VpAGko9ADJmhxv/+klKdVkEJz7LUaOpchmhJIiGNmoAoGCCqGSM49\n"
			   "AwEHoUQDQgAEomnV8jHqCemO77C7oFywxOSe/376tK5tPGfrue9ZXO2qRJzELJmy\n"
			   "KyU26bDYTSRnuZTputOatyDsMGLvM6cTVQ==\n"
			   "-----END EC PRIVATE KEY-----\n";
static const char pkcs8[] = "-----BEGIN PRIVATE KEY-----\n"
			    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgjpWkAaSj0AMmaHG/\n"
			    "/6SUp1WQQnPstRo6lyGaEkiIY2ahRANCAASiadXyMeoJ6Y7vsLugXLDE5J7/fvq0\n"
			    "rm08Z+u571lc7apEnMQsmbIrJTbpsNhNJGe5lOm605q3IOwwYu8zpxNV\n"
			    "-----END PRIVATE KEY-----\n";
static const char pbes2[] = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
			    "MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAjwxC/Fl7ioCQICCAAw\n"
			    "DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEDtVcVA1ky421yvp2I4p1MsEgZAu\n"
			    "OPbn3Y4IpEpKY6UWJm7fcLMkCkf35+IbbF8AEcLzxqBYi2c/BanK+KeQqTTOhw5J\n"
			    "Vsq+hOBA/za8aNvy3yKN4zInaf8FwxoSQQoqhlVck0Izc+HQZMiafs5W39C6O9Tl\n"
			    "n6WInRrpe3UZU+Rt8OqSgDT0i8BatO4IfV3Ynr6T6sXkL7XvcW+QGErvvc4v7lg=\n"
			    "-----END ENCRYPTED PRIVATE KEY-----\n";
static const char legacy[] = "-----BEGIN EC PRIVATE KEY-----\n"
			     "Proc-Type: 4,ENCRYPTED\n"
			     "DEK-Info: AES-128-CBC,7B15946E0D1CE500F0B02D84B0D43148\n"
			     "\n"
			     "LrvFneN6AwdpLNE7wJ67RuHeab5xLH7QvvvPzTwTCLjpZ3ntV4h6b3iEu/39ct7p\n"
			     "v8bIz4VkA8EomszoxdtwRRroKjWFelXWcWdK6MGyDTrb7URIR8PkGNeXBlnozt6i\n"
			     "279zmGJQ25p/s3XYrRuyn90/LY9Nn3y5aL/XZCF8FkY=\n"
			     "-----END EC PRIVATE KEY-----\n";
static const char p384[] = "-----BEGIN PRIVATE KEY-----\n"
			   "MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDCIsqug/TJ9c95RTq1q\n"
			   "3reZRq/BNJpS67b3XUn9xwbLMMwnfFW7p/VMDNxRNAIIFs6hZANiAASjmp1XzKkT\n"
			   "3uOy6MoBnoMWD4+thUSjDo0Ue4YYDy2Uj0uIoUJEEClGtEgZfPCrzeKhrnTafLP9\n"
			   "SyOs+ni7MLohI0bmc86D2z/+Dw7xOgR1JLbjM6fX5HDHBaumxMUApVk=\n"
			   "-----END PRIVATE KEY-----\n";
static const char rsa[] = "-----BEGIN PRIVATE KEY-----\n"
			  "MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQClrkCTURxGOzJi\n"
			  "JBZkvE0c7KGfGFxUKA/eSS/XPPMJ6S9q5SteOfdPjjoL+Op6/uD8Ps0ENemP9d1N\n"
			  "9mAKQ5pdjw3xbdQfzuysrFF6wHgYRx4dvJRSqoMOrD/iWpI9OQt9b7JLKbmn4JG4\n"
			  "ocpp7rzXftDOFBj2wjvmIWUlyRNyJBKe8k62tXZ9V8sOobJ3CyJiuSR/EPxlW5HO\n"
			  "p/sNKpAbUDzWraYl85kkSRd86NVn4fUGB1fmVO5fnJW0YUd5P6OcRZd6cKABP7P6\n"
			  "PFwy+5IPoOONq/+uYLtHU7IVrBbfZW1q9r0kBybYoYuIOiKvgdJYWlani0iZfGS9\n"
			  "FYdA1EK9AgMBAAECggEACdre0/Rx6FqKkWxgmZ7avmLz7STzjvzwDrKPQjAJq9f/\n"
			  "Pk5B4WG0zHpjCQXGGslQ5CgvJTY4vZusDYBfb5TcWH7THz5/bOHv0YiRcyoCKr2G\n"
			  "NNIcB3vFfmiwBxyIkNQ1EwHDGvXxKWNx/4e+JMVy3aWZMXzgDEN68SIg5Fm8yp/y\n"
			  "l3KXiSNB5YfnQOtTZYNJf+ae/NhOFzFY/QmtMMAkThxFtOzBHx+YLfQogfJA5uq/\n"
			  "jiIMjP99wihCMLDZGybHHnaYUIrEL2KgO4N469GLq11my2CY4svsVp9TU/5KpLax\n"
			  "9/m5AU3E9A9uCU571uyKKQ3+ttxhaNrc+696Mjj94QKBgQDfgs025ijDV852eqQr\n"
			  "vpz2EuyvH+O5j1Q/DGpIJMyV6l+cbcUIUCzCrZAHtinH6j40M452byeP2NvpqlAj\n"
			  "EQ9nz3De8ir5FFS/2Exyo5MsR2DnKiI+zsLeqdrgOjyZNW1LgYhBV9h9jhIc01NZ\n"
			  "ZtiY69+AYDjCtAfX8NKq53FhHQKBgQC9w3588tOnjaMnLbhBh98ThnHsMDg3QwNJ\n"
			  "/9AMBv86QKm258le6hI1JBqJHLVPguIojnarL4+QCDzAAaibrlk6IEi51jODF52z\n"
			  "dFLhzvI5bX0ZJo3CKTq5Kp6yzpKZZJlXcEHHmJR/1N65JSGNQColeFsiIzKGE+6b\n"
			  "9u7kckNWIQKBgDLfreASETMtWEQldBq03zsvYYoW4xmIYy+antJe9eYlm6+aWJ+k\n"
			  "yBtjsAXhU686RQBSv9l7QXD/dkbASk9BAdWqJNHKIzfghc3I6NWrH8OTV54mO/c5\n"
			  "zqcp2DTzbHme7IqkKCRfX1psrPi8rRsLSr+76Hpq7GB849Al832NAoSNAoGBALKV\n"
			  "hDg6ng2VMfHxCPJC2CEb6aKJTp5TJolBgZ2QCCneKNnFELGOP0xbic13gvotBoF8\n"
			  "cRlxTP4TgniAFxlL3xTgxRB/EUNRukvkMQvpIfQBojVFHyuWeXlBLtC/rx9EmTq8\n"
			  "nmskoLwcrO44j3bK598TgVCDJ00e/PMyVGgRUGWBAoGBAK7eMqMqVtXaMNd/ZheJ\n"
			  "KOt5c/kmv7kiwcOJkEMHZ/tQQG9NJXlZj99vX6i+zi3hoOBDfLiQ5p5ffYD7UZ6u\n"
			  "7/70YR24HJUFNjNXOIEy3kqPtwzjvu1B6SExx9YgWNSGMOaS9K1jNifvNFLrHKyB\n"
			  "o2z1YiAjMMUf8k7R0Faxwmwt\n"
			  "-----END PRIVATE KEY-----\n";
static const char its_public[] = "-----BEGIN PUBLIC KEY-----\n"
				 "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEomnV8jHqCemO77C7oFywxOSe/376\n"
				 "tK5tPGfrue9ZXO2qRJzELJmyKyU26bDYTSRnuZTputOatyDsMGLvM6cTVQ==\n"
				 "-----END PUBLIC KEY-----\n";

static void test_foreign_forms_load(void **state)
{
	static const struct {
		const char *pem, *passphrase;
	} forms[] = { { sec1, NULL }, { pkcs8, NULL }, { sec1, "not needed" }, { pbes2, "geheim" } };

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		CLEANUP(private_key_freep)
		struct private_key *k = NULL;
		CLEANUP(buf_done)
		struct buf pem = BUF_INIT(4096);

		assert_int_equal(private_key_load(forms[i].pem, strlen(forms[i].pem), forms[i].passphrase, &k), 0);
		assert_int_equal(private_key_public_pem(k, &pem), 0);
		assert_string_equal(buf_str(&pem), its_public);
	}
}

static void test_private_keys_that_are_none_of_ours(void **state)
{
	static const char nothing[20000] = "-----BEGIN PRIVATE KEY-----";
	static const char junk[] = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
	static const char sealed_junk[] =
		"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
	static const struct {
		const char *pem;
		size_t len;
	} bad[] = {
		{ "", 0 },
		{ "hello", 5 },
		{ p384, sizeof(p384) - 1 },
		{ rsa, sizeof(rsa) - 1 },
		{ its_public, sizeof(its_public) - 1 },
		{ legacy, sizeof(legacy) - 1 },
		{ sec1, sizeof(sec1) / 2 },
		{ nothing, sizeof(nothing) },
		{ junk, sizeof(junk) - 1 },
		{ sealed_junk, sizeof(sealed_junk) - 1 },
		{ pbes2, sizeof(pbes2) - 60 },
	};
	struct private_key *k = NULL;

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		int r = private_key_load(bad[i].pem, bad[i].len, "geheim", &k);

		if (r != -ERR_KEY)
			fail_msg("row %zu: %s", i, err_name(r));
	}
	assert_null(k);
}

static void identity_of(const char *type, const char *scheme, const char *text, uint8_t ret[static SHA256_BYTES])
{
	CLEANUP(public_key_freep)
	struct public_key *k = NULL;

	assert_int_equal(public_key_load(type, scheme, text, &k), 0);
	assert_int_equal(public_key_identity(k, ret), 0);
}

static void test_identity_is_of_the_key_and_not_of_its_text(void **state)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(1024 * 1024), spaced = BUF_INIT(4096);
	CLEANUP(json_freep)
	struct json *vectors = NULL;
	uint8_t a[SHA256_BYTES], b[SHA256_BYTES];
	size_t distinct = 0, compared = 0;

	(void) state;
	identity_of(P256, its_public, a);
	identity_of("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256", its_public, b);
	assert_memory_equal(a, b, sizeof(a));
	assert_int_equal(buf_addf(&spaced, "%s\n\n", its_public), 0);
	identity_of(P256, buf_str(&spaced), b);
	assert_memory_equal(a, b, sizeof(a));

	/* Different texts of different keys never meet; those of one key (hex in both cases) do. */
	read_data("signatures.json", &text);
	assert_int_equal(json_parse(text.data, text.len, NULL, &vectors), 0);
	for (size_t i = 1; i < json_count(vectors); i++) {
		const struct json *v = json_at(vectors, i), *w = json_at(vectors, i - 1);

		if (!str_eq(member(v, "expect"), "valid") || !str_eq(member(w, "expect"), "valid"))
			continue;
		identity_of(member(v, "type"), member(v, "scheme"), member(v, "public"), a);
		identity_of(member(w, "type"), member(w, "scheme"), member(w, "public"), b);
		compared++;
		if (str_eq(member(v, "public"), member(w, "public")) ||
		    str_eq(member(v, "name"), "ed25519 upper case key") ||
		    str_eq(member(v, "name"), "ed25519 empty message")) {
			assert_memory_equal(a, b, sizeof(a));
		} else {
			assert_memory_not_equal(a, b, sizeof(a));
			distinct++;
		}
	}
	assert_true(compared > 5 && distinct > 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors_of_every_scheme),
		cmocka_unit_test(test_missing_members_load_no_key),
		cmocka_unit_test(test_what_is_signed_verifies),
		cmocka_unit_test(test_saved_keys_load_again),
		cmocka_unit_test(test_the_nul_may_be_counted_or_not),
		cmocka_unit_test(test_foreign_forms_load),
		cmocka_unit_test(test_private_keys_that_are_none_of_ours),
		cmocka_unit_test(test_identity_is_of_the_key_and_not_of_its_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
