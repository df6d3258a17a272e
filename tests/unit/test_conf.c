/* Each sentence of conf/conf.h. */
#include "base/err.h"
#include "base/text.h"
#include "conf/conf.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct conf_file *parsed(const char *text)
{
	struct conf_error e = { "" };
	struct conf_file *f = NULL;

	if (conf_parse(text, strlen(text), "web.yaml", &f, &e) != 0)
		fail_msg("%s", e.text);
	return f;
}

static void expect_error(int r, const struct conf_error *e, const char *text)
{
	assert_int_equal(r, -ERR_CONFIG);
	assert_string_equal(e->text, text);
}

static void expect_refused(const char *text, size_t len, const char *start)
{
	struct conf_error e = { "" };
	struct conf_file *f = NULL;
	char *exact = malloc(len ? len : 1);
	int r;

	assert_non_null(exact);
	memcpy(exact, text, len);
	r = conf_parse(exact, len, "web.yaml", &f, &e);
	free(exact);
	assert_int_equal(r, -ERR_CONFIG);
	assert_null(f);
	if (!str_starts(e.text, start))
		fail_msg("«%s» does not start with «%s»", e.text, start);
}

static void test_maps_lists_and_scalars(void **state)
{
	CLEANUP(conf_file_freep)
	struct conf_file *f = parsed("# a comment\n"
				     "team: web\n"
				     "list:\n"
				     "  - one\n"
				     "  - 'two'\n"
				     "flow: {a: 1, b: [x, y]}\n"
				     "text: |\n"
				     "  two\n"
				     "  lines\n"
				     "\"quoted key\": \"\\u00e9\\n\"\n"
				     "empty:\n");
	const struct conf *root = conf_root(f), *list = conf_get(root, "list"), *flow = conf_get(root, "flow");

	(void) state;
	assert_int_equal(conf_kind(root), CONF_MAP);
	assert_int_equal(conf_count(root), 6);
	assert_string_equal(conf_key_at(root, 0), "team");
	assert_string_equal(conf_text(conf_at(root, 0)), "web");
	assert_int_equal(conf_line(conf_at(root, 0)), 2);
	assert_int_equal(conf_kind(list), CONF_LIST);
	assert_int_equal(conf_count(list), 2);
	assert_int_equal(conf_line(list), 3);
	assert_string_equal(conf_text(conf_at(list, 1)), "two");
	assert_int_equal(conf_line(conf_at(list, 1)), 5);
	assert_false(conf_is_quoted(conf_at(list, 0)));
	assert_true(conf_is_quoted(conf_at(list, 1)));
	assert_null(conf_key_at(list, 0));
	assert_null(conf_at(list, 2));
	assert_string_equal(conf_text(conf_at(conf_get(flow, "b"), 1)), "y");
	assert_string_equal(conf_text(conf_get(root, "text")), "two\nlines\n");
	assert_string_equal(conf_text(conf_get(root, "quoted key")), "\xc3\xa9\n");
	assert_int_equal(conf_kind(conf_get(root, "empty")), CONF_SCALAR);
	assert_string_equal(conf_text(conf_get(root, "empty")), "");
}

static void test_null_answers_missing(void **state)
{
	CLEANUP(conf_file_freep)
	struct conf_file *f = parsed("a: b\n");

	(void) state;
	assert_int_equal(conf_kind(NULL), CONF_MISSING);
	assert_null(conf_root(NULL));
	assert_null(conf_get(NULL, "a"));
	assert_null(conf_get(conf_get(conf_root(f), "a"), "b"));
	assert_null(conf_get(conf_root(f), "b"));
	assert_int_equal(conf_count(NULL), 0);
	assert_null(conf_at(NULL, 0));
	assert_null(conf_key_at(NULL, 0));
	assert_null(conf_text(NULL));
	assert_null(conf_text(conf_root(f)));
	assert_false(conf_is_quoted(NULL));
	assert_int_equal(conf_line(NULL), 0);
	conf_file_free(NULL);
}

static void test_an_empty_file_is_an_empty_map(void **state)
{
	static const char *const texts[] = { "", "\n\n", "# only a comment\n", "---\n", "--- # x\n...\n", "{}" };

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		CLEANUP(conf_file_freep)
		struct conf_file *f = parsed(texts[i]);
		struct conf_error e;
		const char *s;

		assert_int_equal(conf_kind(conf_root(f)), CONF_MAP);
		assert_int_equal(conf_count(conf_root(f)), 0);
		assert_null(conf_get(conf_root(f), "a"));
		assert_int_equal(conf_reject_unknown(conf_root(f), &e), 0);
		expect_error(conf_need_text(conf_root(f), "fleet", &s, &e), &e, "web.yaml:1: 'fleet' is missing");
	}
}

#define REFUSE(text, start) expect_refused(text, sizeof(text) - 1, start)

static void test_what_yaml_has_and_we_have_not(void **state)
{
	(void) state;
	REFUSE("a: &x 1\nb: *x\n", "web.yaml:1: anchors, aliases and tags");
	REFUSE("a: 1\nb: *x\n", "web.yaml:2: anchors, aliases and tags");
	REFUSE("a: !!int 1\n", "web.yaml:1: anchors, aliases and tags");
	REFUSE("a: !x [1]\n", "web.yaml:1: anchors, aliases and tags");
	REFUSE("&a a: 1\n", "web.yaml:1: anchors, aliases and tags");
	REFUSE("*a : 1\n", "web.yaml:1: anchors, aliases and tags");
	REFUSE("!!map {a: 1}\n", "web.yaml:1: anchors, aliases and tags");
	REFUSE("%TAG ! tag:example.org,2000:\n---\na: 1\n", "web.yaml:");
	REFUSE("a: 1\n---\nb: 2\n", "web.yaml:2: a second document");
	REFUSE("a: 1\n...\n---\nb: 2\n", "web.yaml:3: a second document");
	REFUSE("a: 1\nb: 2\nc: 3\na: 4\nb: 5\n", "web.yaml:4: 'a' stands twice, first in line 1");
	REFUSE("x:\n  - {a: 1, 'a': 2}\n", "web.yaml:2: 'a' stands twice");
	REFUSE("- a\n- b\n", "web.yaml:1: expected keys");
	REFUSE("\njust text\n", "web.yaml:2: expected keys");
	REFUSE("\"\"\n", "web.yaml:1: expected keys");
	REFUSE("? [a]\n: 1\n", "web.yaml:1: a key must be");
	REFUSE("? {a: b}\n: 1\n", "web.yaml:1: a key must be");
	REFUSE("\"\": 1\n", "web.yaml:1: a key is empty");
	REFUSE("? \n: 1\n", "web.yaml:1: a key is empty");
	REFUSE("a: \"x\\0y\"\n", "web.yaml:1: a NUL byte");
	REFUSE("\"x\\0y\": 1\n", "web.yaml:1: a NUL byte");
}

static void test_malformed_text(void **state)
{
	(void) state;
	REFUSE("a: [1\n", "web.yaml:2: not valid YAML: ");
	REFUSE("a: 1\n b: 2\n", "web.yaml:2: not valid YAML: ");
	REFUSE("a:\n\tb: 2\n", "web.yaml:2: not valid YAML: ");
	REFUSE("a: 'x\n", "web.yaml:2: not valid YAML: ");
	REFUSE("a: @x\n", "web.yaml:1: not valid YAML: ");
	REFUSE("a: 1\nb: \xff\n", "web.yaml:2: not a text file in UTF-8: ");
	REFUSE("a: 1\n\nb: \xc0\xaf\n", "web.yaml:3: not a text file in UTF-8: ");
	REFUSE("a: x\x01\n", "web.yaml:1: not a text file in UTF-8: ");
	REFUSE("a: 1\nb: x\0y\n", "web.yaml:2: not a text file in UTF-8: ");
	REFUSE("\xff\xfe"
	       "a\0:\0 \0b\0",
	       "web.yaml:1: not a text file in UTF-8: ");
}

static void test_limits(void **state)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(4 * 1024 * 1024);
	CLEANUP(buf_done)
	struct buf deep = BUF_INIT(1000);
	struct conf_file *f = NULL;
	struct conf_error e;

	(void) state;
	assert_int_equal(buf_add_str(&text, "a: b\n#"), 0);
	while (text.len < 1024 * 1024)
		assert_int_equal(buf_add_byte(&text, 'x'), 0);
	assert_int_equal(conf_parse(text.data, text.len, "web.yaml", &f, &e), 0);
	conf_file_free(f);
	f = NULL;
	assert_int_equal(buf_add_byte(&text, 'x'), 0);
	expect_error(conf_parse(text.data, text.len, "web.yaml", &f, &e), &e, "web.yaml: larger than 1 MiB");

	for (unsigned depth = 16; depth <= 17; depth++) {
		buf_clear(&deep);
		assert_int_equal(buf_add_str(&deep, "a: "), 0);
		for (unsigned i = 1; i < depth; i++)
			assert_int_equal(buf_add_byte(&deep, '['), 0);
		for (unsigned i = 1; i < depth; i++)
			assert_int_equal(buf_add_byte(&deep, ']'), 0);
		if (depth == 16) {
			assert_int_equal(conf_parse(deep.data, deep.len, "web.yaml", &f, &e), 0);
			conf_file_free(f);
			f = NULL;
		} else {
			expect_error(conf_parse(deep.data, deep.len, "web.yaml", &f, &e), &e,
				     "web.yaml:1: nested deeper than 16 levels");
		}
	}

	buf_clear(&text);
	assert_int_equal(buf_add_str(&text, "a: ["), 0);
	for (unsigned i = 0; i < 100000; i++)
		assert_int_equal(buf_add_str(&text, "1,"), 0);
	assert_int_equal(buf_add_str(&text, "]"), 0);
	expect_error(conf_parse(text.data, text.len, "web.yaml", &f, &e), &e,
		     "web.yaml:1: more than 100,000 values in one file");
}

static void test_typed_members(void **state)
{
	CLEANUP(conf_file_freep)
	struct conf_file *f = parsed("text: hello\n"
				     "quoted: ''\n"
				     "nothing:\n"
				     "list: [a]\n"
				     "map: {a: b}\n"
				     "n: 8443\n"
				     "yes: yes\n"
				     "no: false\n"
				     "s: 90\n"
				     "bytes: 500K\n");
	const struct conf *root = conf_root(f);
	const char *s = "before";
	struct conf_error e;
	uint64_t n = 1;
	bool b = false;

	(void) state;
	assert_int_equal(conf_need_text(root, "text", &s, &e), 0);
	assert_string_equal(s, "hello");
	assert_int_equal(conf_need_text(root, "quoted", &s, &e), 0);
	assert_string_equal(s, "");
	expect_error(conf_need_text(root, "absent", &s, &e), &e, "web.yaml:1: 'absent' is missing");
	expect_error(conf_need_text(root, "nothing", &s, &e), &e,
		     "web.yaml:3: 'nothing' expects a text, found nothing");
	expect_error(conf_need_text(root, "list", &s, &e), &e, "web.yaml:4: 'list' expects a text, found a list");
	expect_error(conf_optional_text(root, "map", "x", &s, &e), &e,
		     "web.yaml:5: 'map' expects a text, found a map");
	assert_string_equal(s, "");
	assert_int_equal(conf_optional_text(root, "absent", "else", &s, &e), 0);
	assert_string_equal(s, "else");
	assert_int_equal(conf_optional_text(NULL, "absent", NULL, &s, &e), 0);
	assert_null(s);

	assert_int_equal(conf_optional_u64(root, "n", 1, 65535, 7, &n, &e), 0);
	assert_int_equal(n, 8443);
	expect_error(conf_optional_u64(root, "n", 1, 100, 7, &n, &e), &e,
		     "web.yaml:6: 'n' expects a number from 1 to 100, found '8443'");
	expect_error(conf_optional_u64(root, "text", 1, 100, 7, &n, &e), &e,
		     "web.yaml:1: 'text' expects a number from 1 to 100, found 'hello'");
	assert_int_equal(n, 8443);
	assert_int_equal(conf_optional_u64(root, "absent", 1, 100, 7, &n, &e), 0);
	assert_int_equal(n, 7);

	assert_int_equal(conf_optional_bool(root, "yes", false, &b, &e), 0);
	assert_true(b);
	assert_int_equal(conf_optional_bool(root, "no", true, &b, &e), 0);
	assert_false(b);
	assert_int_equal(conf_optional_bool(root, "absent", true, &b, &e), 0);
	assert_true(b);
	expect_error(conf_optional_bool(root, "n", true, &b, &e), &e,
		     "web.yaml:6: 'n' expects true or false, found '8443'");
	expect_error(conf_optional_bool(root, "list", true, &b, &e), &e,
		     "web.yaml:4: 'list' expects true or false, found a list");
}

static void test_seconds_and_bytes(void **state)
{
	static const struct {
		const char *text;
		uint64_t seconds;
	} times[] = { { "0", 0 },
		      { "90", 90 },
		      { "90s", 90 },
		      { "15m", 900 },
		      { "24h", 86400 },
		      { "7d", 604800 },
		      { "36525d", 36525ull * 86400 } };
	static const char *const bad_times[] = { "soon",
						 "-1",
						 "1.5h",
						 "1 h",
						 "h",
						 "1w",
						 "1hh",
						 "36526d",
						 "s1",
						 "+1",
						 "99999999999999999999d",
						 "18446744073709551615",
						 "''" };
	static const struct {
		const char *text;
		uint64_t bytes;
	} sizes[] = { { "0", 0 }, { "17", 17 }, { "500K", 512000 }, { "20M", 20971520 }, { "1G", 1073741824 } };
	static const char *const bad_sizes[] = { "1k",		 "1KB", "K", "1T", "9223372036854775808",
						 "99999999999G", "1.5G" };
	char text[64];
	struct conf_error e;
	uint64_t n = 1;

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(times); i++) {
		(void) snprintf(text, sizeof(text), "t: %s\n", times[i].text);
		CLEANUP(conf_file_freep)
		struct conf_file *f = parsed(text);

		assert_int_equal(conf_optional_seconds(conf_root(f), "t", 5, &n, &e), 0);
		assert_int_equal(n, times[i].seconds);
		assert_int_equal(conf_optional_seconds(conf_root(f), "x", 5, &n, &e), 0);
		assert_int_equal(n, 5);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad_times); i++) {
		(void) snprintf(text, sizeof(text), "t: %s\n", bad_times[i]);
		CLEANUP(conf_file_freep)
		struct conf_file *f = parsed(text);

		assert_int_equal(conf_optional_seconds(conf_root(f), "t", 5, &n, &e), -ERR_CONFIG);
		assert_true(
			str_starts(e.text, "web.yaml:1: 't' expects a time such as 90s, 15m, 24h or 7d, found "));
	}
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		(void) snprintf(text, sizeof(text), "t: %s\n", sizes[i].text);
		CLEANUP(conf_file_freep)
		struct conf_file *f = parsed(text);

		assert_int_equal(conf_optional_bytes(conf_root(f), "t", 5, &n, &e), 0);
		assert_int_equal(n, sizes[i].bytes);
		assert_int_equal(conf_optional_bytes(conf_root(f), "x", 5, &n, &e), 0);
		assert_int_equal(n, 5);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad_sizes); i++) {
		(void) snprintf(text, sizeof(text), "t: %s\n", bad_sizes[i]);
		CLEANUP(conf_file_freep)
		struct conf_file *f = parsed(text);

		assert_int_equal(conf_optional_bytes(conf_root(f), "t", 5, &n, &e), -ERR_CONFIG);
		assert_true(str_starts(e.text, "web.yaml:1: 't' expects a size such as "));
	}
}

static void test_unknown_keys_are_named(void **state)
{
	CLEANUP(conf_file_freep)
	struct conf_file *f = parsed("component: web\n"
				     "probtaion: 10s\n"
				     "below:\n"
				     "  anything: 1\n"
				     "xyzzy: 1\n");
	const struct conf *root = conf_root(f);
	struct conf_error e;

	(void) state;
	expect_error(conf_reject_unknown(root, &e), &e, "web.yaml:1: unknown key 'component'");
	(void) conf_get(root, "component");
	(void) conf_get(root, "probation");
	(void) conf_get(root, "port");
	(void) conf_get(root, "below");
	expect_error(conf_reject_unknown(root, &e), &e,
		     "web.yaml:2: unknown key 'probtaion', did you mean 'probation'?");
	(void) conf_get(root, "probtaion");
	expect_error(conf_reject_unknown(root, &e), &e, "web.yaml:5: unknown key 'xyzzy'"); /* nothing is near */
	(void) conf_get(root, "xyzzy");
	assert_int_equal(conf_reject_unknown(root, &e), 0); /* "not below" */
	expect_error(conf_reject_unknown(conf_get(root, "below"), &e), &e, "web.yaml:4: unknown key 'anything'");
	assert_int_equal(conf_reject_unknown(NULL, &e), 0);
	/* Looking through a map with conf_at() makes no key known. */
	assert_string_equal(conf_text(conf_at(conf_get(root, "below"), 0)), "1");
	assert_int_equal(conf_reject_unknown(conf_get(root, "below"), &e), -ERR_CONFIG);
}

static void test_where_a_path_is_written(void **state)
{
	static const struct {
		const char *path;
		unsigned line;
	} rows[] = {
		{ "risk: must be one of low, medium, high", 1 },
		{ "checks: must be a list", 2 },
		{ "checks[1].httpGet.port: must be a port", 6 },
		{ "checks[1].httpGet.nothing: is missing", 5 }, /* the closest one that is there */
		{ "checks[1].exec.command[1]: is too long", 4 },
		{ "checks[7].name: stands twice", 2 },
		{ "checks[x", 2 },
		{ "checks[0]: has two kinds", 3 },
		{ "risk.of.nothing", 1 },
		{ "", 1 },
		{ ": [.", 1 },
	};
	CLEANUP(conf_file_freep)
	struct conf_file *f = parsed("risk: none\n"
				     "checks:\n"
				     "  - name: a\n"
				     "  - name: b\n"
				     "    httpGet:\n"
				     "      port: 0\n");
	struct conf_error e;

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		(void) conf_fail(conf_nearest(conf_root(f), rows[i].path), &e, "x");
		if (strncmp(rows[i].path, "risk", 4) != 0 && rows[i].line == 1)
			continue; /* the file itself: any line is fine, as long as it is one */
		assert_int_equal(conf_line(conf_nearest(conf_root(f), rows[i].path)), rows[i].line);
	}
	/* Looking makes no key known. */
	expect_error(conf_reject_unknown(conf_root(f), &e), &e, "web.yaml:1: unknown key 'risk'");
}

static void test_suggestions(void **state)
{
	static const struct {
		const char *wrote, *meant;
	} rows[] = {
		{ "cheks", "checks" },
		{ "check", "checks" },
		{ "chcekcs", "checks" },
		{ "keep_version", "keep_versions" },
		{ "keep-versions", "keep_versions" },
		{ "url", "urls" },
		{ "Checks", "checks" },
		{ "a", NULL },
		{ "schedules", NULL },
	};
	static const char *const known[] = { "checks", "keep_versions", "urls", "max_swaps_per_day" };

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[64], expected[128];
		struct conf_error e;

		(void) snprintf(text, sizeof(text), "%s: 1\n", rows[i].wrote);
		CLEANUP(conf_file_freep)
		struct conf_file *f = parsed(text);

		for (size_t k = 0; k < ARRAY_LEN(known); k++)
			(void) conf_get(conf_root(f), known[k]);
		if (rows[i].meant)
			(void) snprintf(expected, sizeof(expected),
					"web.yaml:1: unknown key '%s', did you mean '%s'?", rows[i].wrote,
					rows[i].meant);
		else
			(void) snprintf(expected, sizeof(expected), "web.yaml:1: unknown key '%s'", rows[i].wrote);
		expect_error(conf_reject_unknown(conf_root(f), &e), &e, expected);
	}
}

static void test_complaints_are_safe_to_print(void **state)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(4096);
	struct conf_file *f;
	struct conf_error e;
	uint64_t n;

	(void) state;
	f = parsed("t: \"a\\nb\\e[31m\"\n");
	expect_error(conf_optional_seconds(conf_root(f), "t", 0, &n, &e), &e,
		     "web.yaml:1: 't' expects a time such as 90s, 15m, 24h or 7d, found 'a?b?[31m'");
	conf_file_free(f);
	/* Long values are cut, and never within a character. */
	for (size_t pad = 0; pad < 4; pad++) {
		buf_clear(&text);
		assert_int_equal(buf_add_str(&text, "t: "), 0);
		for (size_t i = 0; i < pad; i++)
			assert_int_equal(buf_add_byte(&text, 'x'), 0);
		for (size_t i = 0; i < 200; i++)
			assert_int_equal(buf_add_str(&text, "\xe2\x82\xac"), 0);
		f = parsed(buf_str(&text));
		assert_int_equal(conf_optional_seconds(conf_root(f), "t", 0, &n, &e), -ERR_CONFIG);
		assert_true(strlen(e.text) < 160);
		assert_non_null(strstr(e.text, "\xe2\x82\xac...'"));
		conf_file_free(f);
	}
	/* A sentence longer than the field is cut. */
	assert_int_equal(conf_fail(NULL, &e, "%0600d", 1), -ERR_CONFIG);
	assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
	assert_int_equal(conf_fail(NULL, &e, "plain %s", "sentence"), -ERR_CONFIG);
	assert_string_equal(e.text, "plain sentence");
}

static void test_files(void **state)
{
	char dir[] = "/tmp/conf.XXXXXX", path[64], link_path[64], fifo[64], expected[160];
	struct conf_file *f = NULL;
	struct conf_error e;
	FILE *file;

	(void) state;
	assert_non_null(mkdtemp(dir));
	(void) snprintf(path, sizeof(path), "%s/agent.yaml", dir);
	(void) snprintf(link_path, sizeof(link_path), "%s/link.yaml", dir);
	(void) snprintf(fifo, sizeof(fifo), "%s/fifo", dir);

	assert_int_equal(conf_load(path, &f, &e), -ENOENT);
	(void) snprintf(expected, sizeof(expected), "%s: cannot be read: No such file or directory", path);
	assert_string_equal(e.text, expected);
	assert_int_equal(conf_load(dir, &f, &e), -EISDIR);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(conf_load(fifo, &f, &e), -EINVAL);
	assert_null(f);

	file = fopen(path, "we");
	assert_non_null(file);
	assert_true(fputs("fleet: demo\nnode\n", file) >= 0);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(symlink("agent.yaml", link_path), 0);
	assert_int_equal(conf_load(path, &f, &e), -ERR_CONFIG);
	(void) snprintf(expected, sizeof(expected), "%s:", path);
	assert_true(str_starts(e.text, expected));

	assert_int_equal(truncate(path, 12), 0);
	assert_int_equal(conf_load(link_path, &f, &e), 0);
	assert_string_equal(conf_text(conf_get(conf_root(f), "fleet")), "demo");
	conf_file_free(f);
	f = NULL;

	assert_int_equal(truncate(path, 1024 * 1024 + 1), 0);
	(void) snprintf(expected, sizeof(expected), "%s: larger than 1 MiB", path);
	expect_error(conf_load(path, &f, &e), &e, expected);
	assert_int_equal(truncate(path, 64 * 1024 * 1024), 0);
	expect_error(conf_load(path, &f, &e), &e, expected);
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(conf_load(path, &f, &e), 0);
	assert_int_equal(conf_count(conf_root(f)), 0);
	conf_file_free(f);

	assert_int_equal(unlink(link_path), 0);
	assert_int_equal(unlink(fifo), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_maps_lists_and_scalars),
		cmocka_unit_test(test_null_answers_missing),
		cmocka_unit_test(test_an_empty_file_is_an_empty_map),
		cmocka_unit_test(test_what_yaml_has_and_we_have_not),
		cmocka_unit_test(test_malformed_text),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_typed_members),
		cmocka_unit_test(test_seconds_and_bytes),
		cmocka_unit_test(test_unknown_keys_are_named),
		cmocka_unit_test(test_where_a_path_is_written),
		cmocka_unit_test(test_suggestions),
		cmocka_unit_test(test_complaints_are_safe_to_print),
		cmocka_unit_test(test_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
