/* Each sentence of json/json.h, and each row of what cJSON lets pass. */
#include "base/err.h"
#include "json/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static int parse_bytes(const void *text, size_t len)
{
	CLEANUP(json_freep)
	struct json *j = NULL;
	/* A copy of exactly this size, so that a read beyond it is seen. */
	char *exact = malloc(len ? len : 1);
	int r;

	assert_non_null(exact);
	memcpy(exact, text, len);
	r = json_parse(exact, len, NULL, &j);
	free(exact);
	assert_true((r == 0) == (j != NULL));
	return r;
}

static struct json *parsed(const char *text)
{
	struct json *j = NULL;

	assert_int_equal(json_parse(text, strlen(text), NULL, &j), 0);
	return j;
}

struct row {
	const char *text;
	size_t len;
	int result;
};
#define ROW(text, result)                                                                                         \
	{                                                                                                         \
		text, sizeof(text) - 1, result                                                                    \
	}

static void check_rows(const struct row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int r = parse_bytes(rows[i].text, rows[i].len);

		if (r != rows[i].result)
			fail_msg("row %zu, %s: %s, not %s", i, rows[i].text, err_name(r),
				 err_name(rows[i].result));
	}
}

static void test_what_cjson_lets_pass_is_refused(void **state)
{
	static const struct row rows[] = {
		ROW("{\"a\":1,\"a\":2}", -ERR_DUPLICATE_NAME),
		ROW("{\"x\":[{\"b\":1,\"a\":1,\"b\":2}]}", -ERR_DUPLICATE_NAME),
		ROW("{\"a\":1,\"\\u0061\":2}", -ERR_DUPLICATE_NAME),
		ROW("9007199254740993", -ERR_NUMBER),
		ROW("9007199254740992", -ERR_NUMBER),
		ROW("-9007199254740992", -ERR_NUMBER),
		ROW("99999999999999999999999999999999999999999999", -ERR_NUMBER),
		ROW("9007199254740991", 0),
		ROW("-9007199254740991", 0),
		ROW("1.0", -ERR_NUMBER),
		ROW("1e2", -ERR_NUMBER),
		ROW("1E2", -ERR_NUMBER),
		ROW("1.", -ERR_NUMBER),
		ROW("01", -ERR_NUMBER),
		ROW("00", -ERR_NUMBER),
		ROW("-01", -ERR_NUMBER),
		ROW("-0", -ERR_NUMBER),
		ROW("-", -ERR_NUMBER),
		ROW("1e999", -ERR_NUMBER),
		ROW("\"ab\\u0000cd\"", -ERR_ENCODING),
		ROW("{\"ab\\u0000cd\":1}", -ERR_ENCODING),
		ROW("\"a\0b\"", -ERR_ENCODING),
		ROW("\"a\nb\"", -ERR_ENCODING),
		ROW("\"a\x1f\"", -ERR_ENCODING),
		ROW("[1,\x01 2]", -ERR_SYNTAX),
		ROW("[1\x0b]", -ERR_SYNTAX),
		ROW("\x0c[1]", -ERR_SYNTAX),
		ROW("\"\xc3\"", -ERR_ENCODING),
		ROW("\"\xc0\xaf\"", -ERR_ENCODING),
		ROW("\"\xe0\x80\xaf\"", -ERR_ENCODING),
		ROW("\"\xf0\x80\x80\xaf\"", -ERR_ENCODING),
		ROW("\"\xed\xa0\x80\"", -ERR_ENCODING),
		ROW("\"\xf4\x90\x80\x80\"", -ERR_ENCODING),
		ROW("\"\xf8\x88\x80\x80\x80\"", -ERR_ENCODING),
		ROW("\"\xff\"", -ERR_ENCODING),
		ROW("\"\x80\"", -ERR_ENCODING),
		ROW("\"\xe2\x82", -ERR_ENCODING),
		ROW("\xef\xbb\xbf{}", -ERR_ENCODING),
		ROW("{} x", -ERR_TRAILING),
		ROW("{}{}", -ERR_TRAILING),
		ROW("{}\0", -ERR_TRAILING),
		ROW("{}\0 trailing", -ERR_TRAILING),
		ROW("1 2", -ERR_TRAILING),
		ROW("\"\\ud800\"", -ERR_ENCODING),
		ROW("\"\\udc00\"", -ERR_ENCODING),
		ROW("\"\\ud800\\u0041\"", -ERR_ENCODING),
		ROW("\"\\ud800x\"", -ERR_ENCODING),
		ROW("\"\\ud800\\", -ERR_ENCODING),
		ROW("\"\\ud800\\n\"", -ERR_ENCODING),
	};

	(void) state;
	check_rows(rows, ARRAY_LEN(rows));
}

static void test_bad_syntax(void **state)
{
	static const struct row rows[] = {
		ROW("", -ERR_SYNTAX),	       ROW(" ", -ERR_SYNTAX),		ROW("{", -ERR_SYNTAX),
		ROW("[", -ERR_SYNTAX),	       ROW("[1", -ERR_SYNTAX),		ROW("[1,", -ERR_SYNTAX),
		ROW("[1,]", -ERR_SYNTAX),      ROW("[,1]", -ERR_SYNTAX),	ROW("[1 2]", -ERR_SYNTAX),
		ROW("{\"a\"}", -ERR_SYNTAX),   ROW("{\"a\":}", -ERR_SYNTAX),	ROW("{\"a\":1,}", -ERR_SYNTAX),
		ROW("{a:1}", -ERR_SYNTAX),     ROW("{'a':1}", -ERR_SYNTAX),	ROW("{1:1}", -ERR_SYNTAX),
		ROW("{\"a\" 1}", -ERR_SYNTAX), ROW("\"", -ERR_SYNTAX),		ROW("\"a", -ERR_SYNTAX),
		ROW("\"\\", -ERR_SYNTAX),      ROW("\"\\x\"", -ERR_SYNTAX),	ROW("\"\\\0\"", -ERR_SYNTAX),
		ROW("\"\\u12\"", -ERR_SYNTAX), ROW("\"\\u12g4\"", -ERR_SYNTAX), ROW("\"\\u", -ERR_SYNTAX),
		ROW("tru", -ERR_SYNTAX),       ROW("True", -ERR_SYNTAX),	ROW("nul", -ERR_SYNTAX),
		ROW("NaN", -ERR_SYNTAX),       ROW("Infinity", -ERR_SYNTAX),	ROW("+1", -ERR_SYNTAX),
		ROW(".5", -ERR_SYNTAX),	       ROW("/* */1", -ERR_SYNTAX),	ROW("]", -ERR_SYNTAX),
		ROW("[1}", -ERR_SYNTAX),       ROW("{\"a\":1]", -ERR_SYNTAX),	ROW("trueish", -ERR_TRAILING),
		ROW("-a", -ERR_NUMBER),	       ROW("\0", -ERR_SYNTAX),		ROW("0x10", -ERR_TRAILING),
	};

	(void) state;
	check_rows(rows, ARRAY_LEN(rows));
}

static void test_every_prefix_of_a_document_is_refused(void **state)
{
	static const char text[] = "{\"a\":[1,-2,true,false,null,\"x\\n\\u20ac\\ud83d\\ude00\xc3\xa9\"],\"b\":{}}";

	(void) state;
	for (size_t len = 0; len < sizeof(text) - 1; len++)
		assert_true(parse_bytes(text, len) < 0);
	assert_int_equal(parse_bytes(text, sizeof(text) - 1), 0);
}

static void test_values_and_their_types(void **state)
{
	CLEANUP(json_freep)
	struct json *j = parsed(" { \"n\" : null , \"t\":true,\"f\":false,\"i\":-42,\"s\":\"x\","
				"\"a\":[1,2,3],\"o\":{\"z\":1,\"a\":2},\"e\":[],\"eo\":{ } }\r\n\t");
	int64_t i = 7;

	(void) state;
	assert_int_equal(json_type(j), JSON_OBJECT);
	assert_int_equal(json_count(j), 9);
	assert_int_equal(json_type(json_get(j, "n")), JSON_NULL);
	assert_true(json_is(json_get(j, "n"), JSON_NULL));
	assert_true(json_bool(json_get(j, "t"), false));
	assert_false(json_bool(json_get(j, "f"), true));
	assert_true(json_integer(json_get(j, "i"), &i));
	assert_int_equal(i, -42);
	assert_string_equal(json_string(json_get(j, "s")), "x");
	assert_int_equal(json_count(json_get(j, "a")), 3);
	assert_true(json_integer(json_at(json_get(j, "a"), 2), &i));
	assert_int_equal(i, 3);
	assert_null(json_at(json_get(j, "a"), 3));
	assert_string_equal(json_name_at(json_get(j, "o"), 0), "z");
	assert_string_equal(json_name_at(json_get(j, "o"), 1), "a");
	assert_null(json_name_at(json_get(j, "o"), 2));
	assert_null(json_name_at(json_get(j, "a"), 0));
	assert_true(json_integer(json_at(json_get(j, "o"), 1), &i));
	assert_int_equal(i, 2);
	assert_int_equal(json_count(json_get(j, "e")), 0);
	assert_int_equal(json_count(json_get(j, "eo")), 0);
	assert_null(json_get(json_get(j, "eo"), "a"));
	assert_null(json_get(j, "N")); /* case matters */
	assert_null(json_get(j, ""));
}

static void test_null_and_wrong_types_answer_not_there(void **state)
{
	CLEANUP(json_freep)
	struct json *j = parsed("[1]");
	int64_t i = 7;

	(void) state;
	assert_int_equal(json_type(NULL), JSON_NULL);
	assert_false(json_is(NULL, JSON_NULL));
	assert_null(json_get(NULL, "a"));
	assert_null(json_get(j, "a"));
	assert_null(json_get(j, NULL));
	assert_int_equal(json_count(NULL), 0);
	assert_int_equal(json_count(json_at(j, 0)), 0);
	assert_null(json_at(NULL, 0));
	assert_null(json_name_at(NULL, 0));
	assert_null(json_string(NULL));
	assert_null(json_string(j));
	assert_false(json_integer(NULL, &i));
	assert_false(json_integer(j, &i));
	assert_int_equal(i, 7);
	assert_true(json_bool(NULL, true));
	assert_false(json_bool(j, false));
	assert_null(json_string(json_get(json_get(NULL, "signed"), "_type")));
	json_free(NULL);
}

static void test_escapes(void **state)
{
	CLEANUP(json_freep)
	struct json *j = parsed(
		"[\"\\\"\\\\\\/"
		"\\b\\f\\n\\r\\t\",\"\\u0041\\u00e9\\u20AC\\ud83d\\uDE00\",\"\\u0001\\u007f\",\"\\ufeff\"]");

	(void) state;
	assert_string_equal(json_string(json_at(j, 0)), "\"\\/\b\f\n\r\t");
	assert_string_equal(json_string(json_at(j, 1)), "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
	assert_string_equal(json_string(json_at(j, 2)), "\x01\x7f");
	assert_string_equal(json_string(json_at(j, 3)), "\xef\xbb\xbf");
}

static void test_limits(void **state)
{
	static const struct json_limits small = { .max_bytes = 16, .max_depth = 2, .max_values = 4 };
	struct json *j = NULL;
	char deep[80] = "";

	(void) state;
	assert_int_equal(json_parse("[1,2,3]", 7, &small, &j), 0);
	json_free(j);
	j = NULL;
	assert_int_equal(json_parse("[1,2,3,4]", 9, &small, &j), -ERR_TOO_LARGE);
	assert_int_equal(json_parse("[1              ]", 17, &small, &j), -ERR_TOO_LARGE);
	assert_int_equal(json_parse("[1             ]", 16, &small, &j), 0);
	json_free(j);
	j = NULL;
	assert_int_equal(json_parse("[[1]]", 5, &small, &j), 0);
	json_free(j);
	j = NULL;
	assert_int_equal(json_parse("[[[]]]", 6, &small, &j), -ERR_TOO_DEEP);
	assert_null(j);

	for (int depth = 32; depth <= 33; depth++) {
		memset(deep, '[', (size_t) depth);
		memset(deep + depth, ']', (size_t) depth);
		assert_int_equal(parse_bytes(deep, 2 * (size_t) depth), depth == 32 ? 0 : -ERR_TOO_DEEP);
	}
	/* No caller can lift the cap under which recursion is safe. */
	assert_int_equal(json_parse(deep, 66, &(struct json_limits){ 1000, 1000, 1000 }, &j), -ERR_TOO_DEEP);
	/* Depth counts what is open, not what was. */
	assert_int_equal(json_parse("[[],[],[]]", 10, &small, &j), 0);
	json_free(j);
}

static void test_default_limits(void **state)
{
	size_t len = json_limits_default.max_bytes;
	struct json *j = NULL;
	char *text = malloc(len + 1);

	(void) state;
	assert_non_null(text);
	assert_int_equal(json_limits_default.max_depth, 32);
	assert_int_equal(len, 8 * 1024 * 1024);
	memset(text, ' ', len + 1);
	text[0] = '1';
	assert_int_equal(json_parse(text, len + 1, NULL, &j), -ERR_TOO_LARGE);
	assert_int_equal(json_parse(text, len, NULL, &j), 0);
	json_free(j);
	j = NULL;
	text[0] = '[';
	for (size_t i = 1; i < 2000000; i += 2) {
		text[i] = '1';
		text[i + 1] = ',';
	}
	text[1999997] = '1';
	text[1999998] = ']';
	text[1999999] = text[2000000] = ' ';
	assert_int_equal(json_parse(text, 2000001, NULL, &j), 0); /* 999,999 and their array */
	json_free(j);
	j = NULL;
	text[1999998] = ',';
	text[1999999] = '1';
	text[2000000] = ']';
	assert_int_equal(json_parse(text, 2000001, NULL, &j), -ERR_TOO_LARGE);
	free(text);
}

/* With a quadratic look-up or check for doubles this would take minutes. */
static void test_large_objects_are_quick(void **state)
{
	enum { MEMBERS = 200000 };
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(16 * 1024 * 1024);
	CLEANUP(json_freep)
	struct json *j = NULL;
	struct timespec start, end;
	char name[32];
	int64_t v;

	(void) state;
	assert_int_equal(buf_add_str(&text, "{"), 0);
	for (unsigned i = 0; i < MEMBERS; i++)
		assert_int_equal(buf_addf(&text, "%s\"n%u\":%u", i ? "," : "", (i * 7919u) % MEMBERS, i), 0);
	assert_int_equal(buf_add_str(&text, "}"), 0);
	/* Of the processor, whatever else runs here: what grows with the square takes minutes. */
	(void) clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
	assert_int_equal(json_parse(text.data, text.len, NULL, &j), 0);
	for (unsigned i = 0; i < MEMBERS; i++) {
		(void) snprintf(name, sizeof(name), "n%u", (i * 7919u) % MEMBERS);
		assert_true(json_integer(json_get(j, name), &v));
		assert_int_equal(v, i);
	}
	(void) clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
	assert_true(end.tv_sec - start.tv_sec < 10);
}

static void test_needed_members(void **state)
{
	CLEANUP(json_freep)
	struct json *j = parsed("{\"s\":\"x\",\"n\":5,\"neg\":-1,\"b\":true,\"null\":null,\"o\":{}}");
	const struct json *v = NULL;
	const char *s = "before";
	uint64_t n = 99;
	bool b = false;

	(void) state;
	assert_int_equal(json_need_string(j, "x", &s), -ERR_FIELD_MISSING);
	assert_int_equal(json_need_string(j, "n", &s), -ERR_FIELD_TYPE);
	assert_int_equal(json_need_string(j, "null", &s), -ERR_FIELD_TYPE);
	assert_int_equal(json_need_string(NULL, "s", &s), -ERR_FIELD_MISSING);
	assert_string_equal(s, "before");
	assert_int_equal(json_need_string(j, "s", &s), 0);
	assert_string_equal(s, "x");

	assert_int_equal(json_need_u64(j, "x", 0, 10, &n), -ERR_FIELD_MISSING);
	assert_int_equal(json_need_u64(j, "s", 0, 10, &n), -ERR_FIELD_TYPE);
	assert_int_equal(json_need_u64(j, "n", 6, 10, &n), -ERR_FIELD_VALUE);
	assert_int_equal(json_need_u64(j, "n", 0, 4, &n), -ERR_FIELD_VALUE);
	assert_int_equal(json_need_u64(j, "neg", 0, UINT64_MAX, &n), -ERR_FIELD_VALUE);
	assert_int_equal(n, 99);
	assert_int_equal(json_need_u64(j, "n", 5, 5, &n), 0);
	assert_int_equal(n, 5);

	assert_int_equal(json_need(j, "o", JSON_OBJECT, &v), 0);
	assert_ptr_equal(v, json_get(j, "o"));
	assert_int_equal(json_need(j, "o", JSON_ARRAY, &v), -ERR_FIELD_TYPE);

	s = "before";
	assert_int_equal(json_optional_string(j, "x", &s), 0);
	assert_string_equal(s, "before");
	assert_int_equal(json_optional_string(j, "n", &s), -ERR_FIELD_TYPE);
	assert_int_equal(json_optional_string(j, "s", &s), 0);
	assert_string_equal(s, "x");
	n = 99;
	assert_int_equal(json_optional_u64(j, "x", 0, 10, &n), 0);
	assert_int_equal(n, 99);
	assert_int_equal(json_optional_u64(j, "n", 6, 10, &n), -ERR_FIELD_VALUE);
	assert_int_equal(json_optional_u64(j, "n", 0, 10, &n), 0);
	assert_int_equal(n, 5);
	assert_int_equal(json_optional_bool(j, "x", &b), 0);
	assert_false(b);
	assert_int_equal(json_optional_bool(j, "n", &b), -ERR_FIELD_TYPE);
	assert_int_equal(json_optional_bool(j, "b", &b), 0);
	assert_true(b);
}

static void test_canonical_form(void **state)
{
	static const char expected[] =
		"{\"\":0,\"A\":\"/\",\"Z\":-5,\"a\":[1,true,false,null,\"q\\\"b\\\\\nn\x01\xe2\x82\xac\"],"
		"\"b\":{\"x\":[],\"y\":{}},\"\xc3\xa9\":1}";
	CLEANUP(json_freep)
	struct json *j = parsed("{ \"b\": {\"y\":{},\"x\":[]}, \"a\" : [1, "
				"true,false,null,\"q\\\"b\\\\\\nn\\u0001\\u20ac\"], \"Z\":-5,"
				"\"\\u00e9\":1, \"A\":\"\\/\", \"\":0 }");
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(1000);
	CLEANUP(buf_done)
	struct buf small = BUF_INIT(20);

	(void) state;
	assert_int_equal(json_canonical(j, &out), 0);
	assert_string_equal(buf_str(&out), expected);
	/* Appended, and on failure nothing is. */
	assert_int_equal(buf_add_str(&small, "before"), 0);
	assert_int_equal(json_canonical(j, &small), -ERR_TOO_LARGE);
	assert_string_equal(buf_str(&small), "before");
	assert_int_equal(json_canonical(json_get(j, "Z"), &small), 0);
	assert_string_equal(buf_str(&small), "before-5");
	assert_int_equal(json_canonical(NULL, &small), -ERR_FIELD_MISSING);
}

static void test_a_copy_outlives_its_document(void **state)
{
	struct json *j = parsed("{\"z\":{\"b\":[1,\"x\",{\"k\":null}],\"a\":true},\"y\":\"s\"}");
	CLEANUP(json_freep)
	struct json *copy = NULL, *scalar = NULL, *all = NULL, *none = NULL;
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(1000);

	(void) state;
	assert_int_equal(json_copy(json_get(j, "z"), &copy), 0);
	assert_int_equal(json_copy(json_get(j, "y"), &scalar), 0);
	assert_int_equal(json_copy(j, &all), 0);
	assert_int_equal(json_copy(NULL, &none), -ERR_FIELD_MISSING);
	json_free(j);
	assert_string_equal(json_string(scalar), "s");
	assert_string_equal(json_name_at(copy, 0), "b");
	assert_true(json_bool(json_get(copy, "a"), false));
	assert_int_equal(json_canonical(copy, &out), 0);
	assert_string_equal(buf_str(&out), "{\"a\":true,\"b\":[1,\"x\",{\"k\":null}]}");
	buf_clear(&out);
	assert_int_equal(json_canonical(all, &out), 0);
	assert_string_equal(buf_str(&out), "{\"y\":\"s\",\"z\":{\"a\":true,\"b\":[1,\"x\",{\"k\":null}]}}");
}

static void the_text_of_a_value_is_read_back_whatever_it_holds(void **state)
{
	static const char text[] = "{\"b\":[1,-2,true,null,\"a\\n\\u0001\\t\\\"\\\\\\u00e9\"],\"a\\n\":{}}";
	CLEANUP(json_freep)
	struct json *one = NULL;
	CLEANUP(json_freep)
	struct json *two = NULL;
	CLEANUP(buf_done)
	struct buf written = BUF_INIT(1024);
	CLEANUP(buf_done)
	struct buf first = BUF_INIT(1024);
	CLEANUP(buf_done)
	struct buf second = BUF_INIT(1024);

	(void) state;
	assert_int_equal(json_parse(text, strlen(text), &json_limits_default, &one), 0);
	assert_int_equal(json_text(one, &written), 0);
	assert_null(memchr(written.data, '\n', written.len));
	assert_int_equal(json_parse(written.data, written.len, &json_limits_default, &two), 0);
	assert_int_equal(json_canonical(one, &first), 0);
	assert_int_equal(json_canonical(two, &second), 0);
	assert_int_equal(first.len, second.len);
	assert_memory_equal(first.data, second.data, first.len);
	assert_int_equal(json_text(NULL, &written), -ERR_FIELD_MISSING);
}

static void numbers_of_others_are_taken_as_their_text(void **state)
{
	static const struct {
		const char *text, *value; /* NULL: refused */
	} rows[] = {
		{ "1.5", "1.5" },   { "-0.25e-3", "-0.25e-3" },
		{ "1E+9", "1E+9" }, { "0.0", "0.0" },
		{ "-0", "-0" },	    { "9007199254740993", "9007199254740993" },
		{ "[1.5]", NULL },  { "1.", NULL },
		{ ".5", NULL },	    { "01.5", NULL },
		{ "1e", NULL },	    { "1e+", NULL },
		{ "-", NULL },	    { "+1", NULL },
		{ "0x1", NULL },    { "NaN", NULL },
		{ "1.5x", NULL },   { "--1", NULL },
	};
	struct json *j = NULL;
	int64_t n = 0;

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int r = json_parse_foreign(rows[i].text, strlen(rows[i].text), NULL, &j);

		if (rows[i].value) {
			assert_int_equal(r, 0);
			assert_string_equal(json_string(j), rows[i].value);
			json_free(j);
			/* Our own documents hold none of them. */
			assert_true(json_parse(rows[i].text, strlen(rows[i].text), NULL, &j) < 0);
		} else if (rows[i].text[0] == '[') {
			assert_int_equal(r, 0);
			assert_string_equal(json_string(json_at(j, 0)), "1.5");
			json_free(j);
		} else if (r == 0) {
			fail_msg("%s was taken", rows[i].text);
		}
	}
	assert_int_equal(json_parse_foreign("[-7,1e1,{\"a\":0.1}]", 18, NULL, &j), 0);
	assert_true(json_integer(json_at(j, 0), &n));
	assert_int_equal(n, -7);
	assert_string_equal(json_string(json_at(j, 1)), "1e1");
	assert_string_equal(json_string(json_get(json_at(j, 2), "a")), "0.1");
	json_free(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_text_of_a_value_is_read_back_whatever_it_holds),
		cmocka_unit_test(test_what_cjson_lets_pass_is_refused),
		cmocka_unit_test(test_bad_syntax),
		cmocka_unit_test(numbers_of_others_are_taken_as_their_text),
		cmocka_unit_test(test_every_prefix_of_a_document_is_refused),
		cmocka_unit_test(test_values_and_their_types),
		cmocka_unit_test(test_null_and_wrong_types_answer_not_there),
		cmocka_unit_test(test_escapes),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_default_limits),
		cmocka_unit_test(test_large_objects_are_quick),
		cmocka_unit_test(test_needed_members),
		cmocka_unit_test(test_canonical_form),
		cmocka_unit_test(test_a_copy_outlives_its_document),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
