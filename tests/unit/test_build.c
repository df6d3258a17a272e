/* Each sentence of json/build.h. */
#include "base/err.h"
#include "json/build.h"
#include "json/json.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define TEXT_MAX (16 * 1024 * 1024)

static void expect_text(struct json_build *b, const char *expected)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(TEXT_MAX);

	assert_int_equal(json_build_text(b, false, &out), 0);
	assert_string_equal(buf_str(&out), expected);
}

static void test_every_kind_of_value(void **state)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b), *list;

	(void) state;
	node_string(o, "s", "a\"\\\n\x01\xc3\xa9");
	node_stringf(o, "f", "%d-%s", 5, "x");
	node_integer(o, "i", -3);
	node_bool(o, "t", true);
	node_bool(o, "u", false);
	node_null(o, "n");
	node_string(o, "absent", NULL);
	list = node_array(o, "l");
	node_integer(list, NULL, 1);
	node_string(node_object(list, NULL), "k", "v");
	node_bool(node_array(list, NULL), NULL, true);
	expect_text(
		b,
		"{\"s\":\"a\\\"\\\\\\n\\u0001\xc3\xa9\",\"f\":\"5-x\",\"i\":-3,\"t\":true,\"u\":false,\"n\":null,"
		"\"absent\":null,\"l\":[1,{\"k\":\"v\"},[true]]}");
}

/* cJSON itself prints 1e+15 here. */
static void test_large_integers_are_exact(void **state)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b);

	(void) state;
	node_integer(o, "a", 1000000000000000);
	node_integer(o, "b", 9007199254740991);
	node_integer(o, "c", -9007199254740991);
	node_integer(o, "d", 2147483648);
	expect_text(b, "{\"a\":1000000000000000,\"b\":9007199254740991,\"c\":-9007199254740991,\"d\":2147483648}");
}

static void test_errors_stick(void **state)
{
	static const int64_t beyond[] = { 9007199254740992, -9007199254740992, INT64_MAX, INT64_MIN };
	static const char *const bad[] = { "\xff", "a\xc0\xaf", "\xed\xa0\x80" };
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(1000);

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(beyond); i++) {
		CLEANUP(json_build_freep)
		struct json_build *b = json_build_new();

		node_integer(json_build_root(b), "n", beyond[i]);
		node_string(json_build_root(b), "later", "fine");
		assert_int_equal(json_build_text(b, false, &out), -ERR_NUMBER);
		assert_int_equal(json_build_canonical(b, &out), -ERR_NUMBER);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		CLEANUP(json_build_freep)
		struct json_build *value = json_build_new(), *name = json_build_new();

		node_string(json_build_root(value), "s", bad[i]);
		node_integer(json_build_root(value), "n", INT64_MAX); /* the first error stays */
		assert_int_equal(json_build_text(value, false, &out), -ERR_ENCODING);
		assert_null(node_object(json_build_root(name), bad[i]));
		assert_int_equal(json_build_text(name, false, &out), -ERR_ENCODING);
	}
	assert_int_equal(out.len, 0);
}

static void test_null_nodes_are_accepted(void **state)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(1000);

	(void) state;
	assert_null(json_build_root(NULL));
	assert_null(node_object(NULL, "a"));
	assert_null(node_array(NULL, "a"));
	node_string(NULL, "a", "b");
	node_stringf(NULL, "a", "%d", 1);
	node_integer(NULL, "a", 1);
	node_bool(NULL, "a", true);
	node_null(NULL, "a");
	node_copy(NULL, "a", NULL);
	assert_int_equal(json_build_text(NULL, false, &out), -ENOMEM);
	assert_int_equal(json_build_canonical(NULL, &out), -ENOMEM);
	json_build_free(NULL);
}

static void test_a_name_already_there_is_replaced(void **state)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b), *old;

	(void) state;
	node_integer(o, "a", 1);
	node_integer(o, "a", 2);
	old = node_object(o, "o");
	node_integer(old, "x", 1);
	node_string(o, "o", "instead");
	node_integer(old, "y", 2); /* harmless: nobody sees it any more */
	node_integer(node_object(old, "deeper"), "z", 2);
	node_integer(o, "a", 3);
	node_integer(o, "A", 4); /* another name */
	expect_text(b, "{\"o\":\"instead\",\"a\":3,\"A\":4}");
}

static void test_copies_are_deep(void **state)
{
	static const char text[] = "{\"b\":[1,\"x\",{\"k\":null,\"a\":true}],\"a\":9007199254740991}";
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json *j = NULL;

	(void) state;
	assert_int_equal(json_parse(text, strlen(text), NULL, &j), 0);
	node_copy(json_build_root(b), "copy", j);
	node_copy(node_array(json_build_root(b), "list"), NULL, json_get(j, "b"));
	node_copy(json_build_root(b), "none", NULL);
	json_free(j);
	expect_text(b, "{\"copy\":{\"b\":[1,\"x\",{\"k\":null,\"a\":true}],\"a\":9007199254740991},"
		       "\"list\":[[1,\"x\",{\"k\":null,\"a\":true}]],\"none\":null}");
}

static void test_pretty_reads_back_the_same(void **state)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf pretty = BUF_INIT(1000), canonical = BUF_INIT(1000), again = BUF_INIT(1000);
	CLEANUP(json_freep)
	struct json *j = NULL;
	struct json_node *o = json_build_root(b);

	(void) state;
	node_string(o, "pem", "-----BEGIN\nx\n");
	node_integer(node_object(o, "meta"), "version", 3);
	assert_int_equal(json_build_text(b, true, &pretty), 0);
	assert_non_null(strchr(buf_str(&pretty), '\n'));
	assert_int_equal(json_parse(pretty.data, pretty.len, NULL, &j), 0);
	assert_int_equal(json_canonical(j, &again), 0);
	assert_int_equal(json_build_canonical(b, &canonical), 0);
	assert_string_equal(buf_str(&canonical), "{\"meta\":{\"version\":3},\"pem\":\"-----BEGIN\nx\n\"}");
	assert_string_equal(buf_str(&again), buf_str(&canonical));
}

static void test_deeper_than_the_reader_goes_is_refused(void **state)
{
	for (unsigned depth = 32; depth <= 33; depth++) {
		CLEANUP(json_build_freep)
		struct json_build *b = json_build_new();
		CLEANUP(buf_done)
		struct buf out = BUF_INIT(1000);
		struct json_node *n = json_build_root(b);

		(void) state;
		for (unsigned i = 1; i < depth; i++)
			n = i % 2 ? node_array(n, "a") : node_object(n, NULL);
		assert_int_equal(json_build_text(b, false, &out), depth == 32 ? 0 : -ERR_TOO_DEEP);
		if (depth == 32)
			assert_int_equal(json_build_canonical(b, &out), 0);
	}
}

static void test_large_objects_are_quick(void **state)
{
	enum { MEMBERS = 100000 };
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(TEXT_MAX);
	struct timespec start, end;
	CLEANUP(json_freep)
	struct json *j = NULL;
	char name[32];

	(void) state;
	/* Of the processor, whatever else runs here. */
	(void) clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
	for (unsigned i = 0; i < MEMBERS; i++) {
		(void) snprintf(name, sizeof(name), "node-%u", i);
		node_integer(json_build_root(b), name, i);
	}
	assert_int_equal(json_build_canonical(b, &out), 0);
	(void) clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
	assert_true(end.tv_sec - start.tv_sec < 10);
	assert_int_equal(json_parse(out.data, out.len, NULL, &j), 0);
	assert_int_equal(json_count(j), MEMBERS);
}

/* What snprintf cut to a buffer's size may end within a character. */
static void test_a_text_cut_within_a_character_is_one_shorter(void **state)
{
	static const char *const whole[] = { "", "a", "a\xc3\xa9", "a\xe2\x82\xac", "a\xf0\x9f\x98\x80" };

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(whole); i++) {
		for (size_t cut = 0; cut <= strlen(whole[i]); cut++) {
			CLEANUP(json_build_freep)
			struct json_build *b = json_build_new();
			char text[16], expected[32];

			(void) snprintf(text, sizeof(text), "%.*s", (int) cut, whole[i]);
			node_string(node_array(json_build_root(b), "a"), NULL, text);
			(void) snprintf(expected, sizeof(expected), "{\"a\":[\"%s\"]}",
					cut == strlen(whole[i]) ? whole[i]
					: cut > 0		? "a"
								: "");
			expect_text(b, expected);
		}
	}
	/* Elsewhere it is no text at all. */
	for (size_t i = 0; i < 3; i++) {
		CLEANUP(json_build_freep)
		struct json_build *b = json_build_new();
		CLEANUP(buf_done)
		struct buf out = BUF_INIT(TEXT_MAX);

		node_string(json_build_root(b), "a", (const char *[]){ "\xc3z", "\xa9", "\xff\xc3" }[i]);
		assert_int_equal(json_build_text(b, false, &out), -ERR_ENCODING);
	}
}

static void test_a_full_buffer_is_an_error(void **state)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(5);

	(void) state;
	node_string(json_build_root(b), "a", "longer than that");
	assert_int_equal(json_build_text(b, false, &out), -ERR_TOO_LARGE);
	assert_int_equal(json_build_canonical(b, &out), -ERR_TOO_LARGE);
	assert_int_equal(out.len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_kind_of_value),
		cmocka_unit_test(test_large_integers_are_exact),
		cmocka_unit_test(test_errors_stick),
		cmocka_unit_test(test_null_nodes_are_accepted),
		cmocka_unit_test(test_a_name_already_there_is_replaced),
		cmocka_unit_test(test_copies_are_deep),
		cmocka_unit_test(test_pretty_reads_back_the_same),
		cmocka_unit_test(test_deeper_than_the_reader_goes_is_refused),
		cmocka_unit_test(test_large_objects_are_quick),
		cmocka_unit_test(test_a_text_cut_within_a_character_is_one_shorter),
		cmocka_unit_test(test_a_full_buffer_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
