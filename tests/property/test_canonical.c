/*
 * The canonical form against two other encoders: a naive one here, for values made at
 * random, and securesystemslib's, whose answers are checked in (make_canonical.py).
 */
#include "base/err.h"
#include "base/text.h"
#include "json/build.h"
#include "json/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ROUNDS = 3000, TEXT_MAX = 1024 * 1024, CHILDREN_MAX = 6, DEPTH_MAX = 5 };

struct value {
	enum json_type type;
	bool boolean;
	int64_t integer;
	char string[80];
	size_t count;
	struct value *children;
	char (*names)[80]; /* of an object's children */
};

static uint64_t random_state;

static uint64_t next_random(void)
{
	random_state += 0x9e3779b97f4a7c15u; /* splitmix64 */

	uint64_t z = random_state;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static void random_string(char out[static 80])
{
	static const char *const parts[] = {
		"\"",	"\\",	       "/", "\n",	"\x01",		"a",
		"b",	"A",	       " ", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
		"\x7f", "\xef\xbf\xbf"
	};
	size_t n = next_random() % 12, len = 0;

	for (size_t i = 0; i < n; i++) {
		const char *part = parts[next_random() % ARRAY_LEN(parts)];

		memcpy(out + len, part, strlen(part));
		len += strlen(part);
	}
	out[len] = '\0';
}

static bool has_name(const struct value *v, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(v->names[i], name) == 0)
			return true;
	return false;
}

static void random_value(struct value *v, unsigned depth)
{
	*v = (struct value){ .type = (enum json_type)(next_random() % (depth < DEPTH_MAX ? 6 : 4)) };
	if (depth == 0)
		v->type = JSON_OBJECT;
	switch (v->type) {
	case JSON_NULL:
		return;
	case JSON_BOOL:
		v->boolean = next_random() % 2;
		return;
	case JSON_INTEGER:
		v->integer = (int64_t) (next_random() >> (11 + next_random() % 50)) * (next_random() % 2 ? 1 : -1);
		return;
	case JSON_STRING:
		random_string(v->string);
		return;
	case JSON_ARRAY:
	case JSON_OBJECT:
		break;
	}
	v->count = next_random() % (CHILDREN_MAX + 1);
	v->children = calloc(v->count + 1, sizeof(*v->children));
	v->names = calloc(v->count + 1, sizeof(*v->names));
	assert_true(v->children && v->names);
	for (size_t i = 0; i < v->count; i++) {
		random_value(&v->children[i], depth + 1);
		do
			random_string(v->names[i]);
		while (has_name(v, i, v->names[i]));
	}
}

static void free_value(struct value *v)
{
	for (size_t i = 0; i < v->count; i++)
		free_value(&v->children[i]);
	free(v->children);
	free(v->names);
}

/* Plain JSON, with white space and escapes as the random numbers have it. */
static void write_string(const char *s, struct buf *out)
{
	int r = buf_add_byte(out, '"');

	for (; *s; s++) {
		unsigned char c = (unsigned char) *s;

		if (c < 0x20 || ((c == '"' || c == '\\') && next_random() % 2))
			r |= buf_addf(out, next_random() % 2 ? "\\u%04x" : "\\u%04X", c);
		else if (c == '"' || c == '\\' || (c == '/' && next_random() % 2))
			r |= buf_addf(out, "\\%c", c);
		else
			r |= buf_add_byte(out, c);
	}
	r |= buf_add_byte(out, '"');
	assert_int_equal(r, 0);
}

static void write_space(struct buf *out)
{
	static const char *const spaces[] = { "", "", "", " ", "\n", "\t\r\n " };

	assert_int_equal(buf_add_str(out, spaces[next_random() % ARRAY_LEN(spaces)]), 0);
}

static void write_plain(const struct value *v, struct buf *out)
{
	write_space(out);
	switch (v->type) {
	case JSON_NULL:
		assert_int_equal(buf_add_str(out, "null"), 0);
		break;
	case JSON_BOOL:
		assert_int_equal(buf_add_str(out, v->boolean ? "true" : "false"), 0);
		break;
	case JSON_INTEGER:
		assert_int_equal(buf_addf(out, "%lld", (long long) v->integer), 0);
		break;
	case JSON_STRING:
		write_string(v->string, out);
		break;
	case JSON_ARRAY:
	case JSON_OBJECT:
		assert_int_equal(buf_add_byte(out, v->type == JSON_OBJECT ? '{' : '['), 0);
		for (size_t i = 0; i < v->count; i++) {
			if (i > 0)
				assert_int_equal(buf_add_byte(out, ','), 0);
			if (v->type == JSON_OBJECT) {
				write_space(out);
				write_string(v->names[i], out);
				write_space(out);
				assert_int_equal(buf_add_byte(out, ':'), 0);
			}
			write_plain(&v->children[i], out);
			write_space(out);
		}
		assert_int_equal(buf_add_byte(out, v->type == JSON_OBJECT ? '}' : ']'), 0);
		break;
	}
	write_space(out);
}

/* The naive encoder: the rules of TUF's canonical form as they are written. */
static void write_naive_string(const char *s, struct buf *out)
{
	int r = buf_add_byte(out, '"');

	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			r |= buf_add_byte(out, '\\');
		r |= buf_add_byte(out, (uint8_t) *s);
	}
	r |= buf_add_byte(out, '"');
	assert_int_equal(r, 0);
}

static void write_naive(const struct value *v, struct buf *out)
{
	const char *last = NULL;

	switch (v->type) {
	case JSON_NULL:
		assert_int_equal(buf_add_str(out, "null"), 0);
		return;
	case JSON_BOOL:
		assert_int_equal(buf_add_str(out, v->boolean ? "true" : "false"), 0);
		return;
	case JSON_INTEGER:
		assert_int_equal(buf_addf(out, "%lld", (long long) v->integer), 0);
		return;
	case JSON_STRING:
		write_naive_string(v->string, out);
		return;
	case JSON_ARRAY:
		assert_int_equal(buf_add_byte(out, '['), 0);
		for (size_t i = 0; i < v->count; i++) {
			if (i > 0)
				assert_int_equal(buf_add_byte(out, ','), 0);
			write_naive(&v->children[i], out);
		}
		assert_int_equal(buf_add_byte(out, ']'), 0);
		return;
	case JSON_OBJECT:
		break;
	}
	assert_int_equal(buf_add_byte(out, '{'), 0);
	for (size_t n = 0; n < v->count; n++) {
		size_t next = v->count;

		/* The smallest name above the last one. */
		for (size_t i = 0; i < v->count; i++)
			if ((!last || strcmp(v->names[i], last) > 0) &&
			    (next == v->count || strcmp(v->names[i], v->names[next]) < 0))
				next = i;
		if (n > 0)
			assert_int_equal(buf_add_byte(out, ','), 0);
		write_naive_string(v->names[next], out);
		assert_int_equal(buf_add_byte(out, ':'), 0);
		write_naive(&v->children[next], out);
		last = v->names[next];
	}
	assert_int_equal(buf_add_byte(out, '}'), 0);
}

static void build(const struct value *v, struct json_node *parent, const char *name)
{
	struct json_node *n;

	switch (v->type) {
	case JSON_NULL:
		node_null(parent, name);
		return;
	case JSON_BOOL:
		node_bool(parent, name, v->boolean);
		return;
	case JSON_INTEGER:
		node_integer(parent, name, v->integer);
		return;
	case JSON_STRING:
		node_string(parent, name, v->string);
		return;
	case JSON_ARRAY:
	case JSON_OBJECT:
		break;
	}
	n = v->type == JSON_OBJECT ? node_object(parent, name) : node_array(parent, name);
	for (size_t i = 0; i < v->count; i++)
		build(&v->children[i], n, v->type == JSON_OBJECT ? v->names[i] : NULL);
}

static void expect_canonical(const struct json *j, const struct buf *expected)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(TEXT_MAX);

	assert_int_equal(json_canonical(j, &out), 0);
	assert_int_equal(out.len, expected->len);
	assert_memory_equal(out.data, expected->data, out.len);
}

static void test_random_values(void **state)
{
	(void) state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		CLEANUP(buf_done)
		struct buf plain = BUF_INIT(TEXT_MAX), naive = BUF_INIT(TEXT_MAX), text = BUF_INIT(TEXT_MAX);
		CLEANUP(buf_done)
		struct buf built = BUF_INIT(TEXT_MAX);
		CLEANUP(json_freep)
		struct json *j = NULL, *copy = NULL, *again = NULL;
		CLEANUP(json_build_freep)
		struct json_build *b = json_build_new();
		struct value v;

		random_state = round;
		random_value(&v, 0);
		write_plain(&v, &plain);
		write_naive(&v, &naive);
		assert_int_equal(json_parse(plain.data, plain.len, NULL, &j), 0);
		expect_canonical(j, &naive);
		assert_int_equal(json_copy(j, &copy), 0);
		expect_canonical(copy, &naive);

		/* The builder, from the value and from the tree, says the same. */
		for (size_t i = 0; i < v.count; i++)
			build(&v.children[i], json_build_root(b), v.names[i]);
		assert_int_equal(json_build_canonical(b, &built), 0);
		assert_string_equal(buf_str(&built), buf_str(&naive));
		for (size_t i = 0; i < json_count(j); i++)
			node_copy(json_build_root(b), json_name_at(j, i), json_at(j, i));
		assert_int_equal(json_build_text(b, round % 2, &text), 0);
		assert_int_equal(json_parse(text.data, text.len, NULL, &again), 0);
		expect_canonical(again, &naive);
		free_value(&v);
	}
}

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

static void test_another_implementations_answers(void **state)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(TEXT_MAX);
	CLEANUP(json_freep)
	struct json *cases = NULL;

	(void) state;
	read_data("canonical.json", &text);
	assert_int_equal(json_parse(text.data, text.len, NULL, &cases), 0);
	assert_true(json_count(cases) > 300);
	for (size_t i = 0; i < json_count(cases); i++) {
		CLEANUP(buf_done)
		struct buf expected = BUF_INIT(TEXT_MAX);
		CLEANUP(json_freep)
		struct json *j = NULL;
		const char *plain = NULL, *hex = NULL;

		assert_int_equal(json_need_string(json_at(cases, i), "text", &plain), 0);
		assert_int_equal(json_need_string(json_at(cases, i), "canonical", &hex), 0);
		assert_int_equal(hex_decode_buf(&expected, hex), 0);
		assert_int_equal(json_parse(plain, strlen(plain), NULL, &j), 0);
		expect_canonical(j, &expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_values),
		cmocka_unit_test(test_another_implementations_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
