/*
 * Every allocation of the readers and of the crypto layer fails once: the call answers
 * with an error, nothing is leaked, and the same call works right afterwards.
 *
 * The program brings its own malloc in front of glibc's, which a sanitizer would not
 * see through; there the test does nothing.
 */
#include "base/err.h"
#include "conf/conf.h"
#include "crypto/certificate.h"
#include "crypto/key.h"
#include "json/build.h"
#include "json/json.h"
#include "os/os.h"
#include "zone/zone.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

static size_t countdown; /* the allocation that fails, counted from 1; 0: none */
static long balance;
static bool failed;

#if !defined(SANITIZED) && defined(__GLIBC__)
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void __libc_free(void *p);

static bool fails_now(void)
{
	if (countdown == 0 || --countdown > 0)
		return false;
	failed = true;
	errno = ENOMEM;
	return true;
}

void *malloc(size_t size)
{
	void *p = fails_now() ? NULL : __libc_malloc(size);

	balance += p != NULL;
	return p;
}

void *calloc(size_t count, size_t size)
{
	void *p = fails_now() ? NULL : __libc_calloc(count, size);

	balance += p != NULL;
	return p;
}

void *realloc(void *old, size_t size)
{
	void *p = fails_now() ? NULL : __libc_realloc(old, size);

	balance += p != NULL && old == NULL;
	return p;
}

void free(void *p)
{
	balance -= p != NULL;
	__libc_free(p);
}
#define CAN_FAIL true
#else
#define CAN_FAIL false
#endif

static const char sample_text[] = "{\"b\":[1,2,{\"x\":\"y\",\"z\":[]}],\"a\":\"text\",\"c\":{\"d\":{\"e\":null}}}";
static const char conf_text_sample[] = "a: 1\nb: [x, {c: d}]\ne: {f: 'g'}\n";

static int parse_and_copy(void)
{
	CLEANUP(json_freep)
	struct json *j = NULL, *copy = NULL;
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(1000);
	int r = json_parse(sample_text, sizeof(sample_text) - 1, NULL, &j);

	if (r == 0)
		r = json_copy(j, &copy);
	if (r == 0)
		r = json_canonical(copy, &out);
	return r;
}

static int build(void)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(10000), canonical = BUF_INIT(10000);
	struct json_node *o = json_build_root(b), *list;
	char name[16];
	int r;

	for (int i = 0; i < 40; i++) {
		(void) snprintf(name, sizeof(name), "n%d", i);
		node_integer(o, name, i);
	}
	node_stringf(o, "n7", "again %d", 7);
	node_object(o, "n8");
	node_bool(o, "n8", true);
	list = node_array(o, "list");
	node_string(list, NULL, "x");
	node_null(node_object(list, NULL), "nothing");
	r = json_build_text(b, true, &out);
	if (r == 0)
		r = json_build_canonical(b, &canonical);
	if (r == 0) { /* where a library got along without, nothing may be missing */
		assert_non_null(strstr(buf_str(&canonical), "\"list\":[\"x\",{\"nothing\":null}],"));
		assert_non_null(strstr(buf_str(&canonical), "\"n7\":\"again 7\",\"n8\":true,"));
	}
	return r;
}

static int read_conf(void)
{
	CLEANUP(conf_file_freep)
	struct conf_file *f = NULL;
	struct conf_error e;
	int r = conf_parse(conf_text_sample, sizeof(conf_text_sample) - 1, "x.yaml", &f, &e);

	if (r == 0)
		(void) conf_get(conf_root(f), "not there"); /* only a suggestion is lost */
	return r;
}

static int load_zone(void)
{
	CLEANUP(zone_freep)
	struct zone *z = NULL;

	return zone_load_from(&os_posix, TESTS_DIR "/unit/data/zoneinfo/fat", "Europe/Berlin", &z);
}

static int use_keys(void)
{
	static const char ed25519[] = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
	CLEANUP(public_key_freep)
	struct public_key *public = NULL, *ed = NULL;
	CLEANUP(private_key_freep)
	struct private_key *k = NULL, *again = NULL;
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(4096), text = BUF_INIT(4096), sig = BUF_INIT(200);
	CLEANUP(buf_done)
	struct buf certificate = BUF_INIT(16384);
	struct certificate_request request = {
		.common_name = "ca", .is_ca = true, .not_before = 1, .not_after = 2
	};
	struct certificate_info info;
	int r;

	r = private_key_generate(&k);
	if (r == 0)
		r = private_key_save(k, NULL, &pem);
	if (r == 0)
		r = private_key_load(pem.data, pem.len, NULL, &again);
	if (r == 0)
		r = private_key_public_pem(again, &text);
	if (r == 0)
		r = private_key_sign(again, "x", 1, &sig);
	if (r == 0)
		r = public_key_load("ecdsa", "ecdsa-sha2-nistp256", buf_str(&text), &public);
	if (r == 0)
		r = public_key_verify(public, "x", 1, sig.data, sig.len);
	if (r == 0)
		r = public_key_load("ed25519", "ed25519", ed25519, &ed);
	request.public_pem = buf_str(&text);
	if (r == 0)
		r = certificate_issue(&request, k, NULL, &certificate);
	if (r == 0)
		r = certificate_read(buf_str(&certificate), &info);
	return r;
}

/*
 * `exact`: lack of memory must be named as such; libraries below may call it a bad key.
 * Of the first `every` allocations each one fails, after them one in 97.
 */
static void fail_each_once(int (*body)(void), bool exact, size_t every)
{
	size_t n;

	if (!CAN_FAIL)
		skip();
	assert_int_equal(body(), 0); /* libraries prepare themselves */
	assert_int_equal(body(), 0);
	for (n = 1; n < 100000; n += n < every ? 1 : 97) {
		long before = balance;
		int r;

		failed = false;
		countdown = n;
		r = body();
		countdown = 0;
		if (balance != before)
			fail_msg("allocation %zu: %ld blocks are left over", n, balance - before);
		if (!failed) {
			assert_int_equal(r, 0);
			break;
		}
		if (exact ? r != -ENOMEM && r != 0 : r > 0)
			fail_msg("allocation %zu: %s", n, err_name(r));
	}
	assert_true(n > 3 && n < 100000);
	assert_int_equal(body(), 0);
}

static void test_parsing_and_copying_json(void **state)
{
	(void) state;
	fail_each_once(parse_and_copy, true, SIZE_MAX);
}

static void test_building_json(void **state)
{
	(void) state;
	fail_each_once(build, true, SIZE_MAX);
}

static void test_reading_configuration(void **state)
{
	(void) state;
	fail_each_once(read_conf, false, SIZE_MAX);
}

static void test_loading_a_zone(void **state)
{
	(void) state;
	fail_each_once(load_zone, true, SIZE_MAX);
}

static void test_keys_and_certificates(void **state)
{
	(void) state;
	fail_each_once(use_keys, false, 200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parsing_and_copying_json), cmocka_unit_test(test_building_json),
		cmocka_unit_test(test_reading_configuration),	 cmocka_unit_test(test_loading_a_zone),
		cmocka_unit_test(test_keys_and_certificates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
