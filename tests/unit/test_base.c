/* Each sentence of common/base's headers: err, buf, text, version, timestamp, backoff, log. */
#include "base/backoff.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "base/text.h"
#include "base/timestamp.h"
#include "base/version.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* --- err ------------------------------------------------------------------------------------------------- */

static void test_every_error_has_its_words(void **state)
{
	(void) state;
	for (int e = ERR_BASE_ + 1; e < ERR_END_; e++) {
		assert_true(strlen(err_text(-e)) > 3);
		assert_string_equal(err_text(-e), err_text(e));
		assert_string_equal(err_name(-e), err_name(e));
		assert_string_not_equal(err_name(e), "UNKNOWN");
		for (int other = e + 1; other < ERR_END_; other++)
			assert_string_not_equal(err_name(e), err_name(other));
	}
	assert_true(ERR_SYNTAX > 1023);
	assert_string_equal(err_name(-ERR_DIGEST), "DIGEST");
	assert_string_equal(err_name(-ENOSPC), "ENOSPC");
	assert_string_equal(err_text(-ENOENT), "No such file or directory");
	assert_non_null(err_text(-ERR_END_));
	assert_string_equal(err_name(-ERR_END_), "UNKNOWN");
	assert_string_equal(err_name(-1000), "UNKNOWN");
	assert_non_null(err_text(0));
}

static void test_classes(void **state)
{
	(void) state;
	assert_int_equal(err_class(-ENOSPC), ERR_CLASS_RETRY);
	assert_int_equal(err_class(-ERR_NETWORK), ERR_CLASS_RETRY);
	assert_int_equal(err_class(-ERR_SIGNATURE), ERR_CLASS_PERMANENT);
	assert_int_equal(err_class(-EINVAL), ERR_CLASS_PERMANENT);
	assert_int_equal(err_class(-EACCES), ERR_CLASS_OPERATOR);
	assert_int_equal(err_class(-ERR_CONFIG), ERR_CLASS_OPERATOR);
}

/* --- buf ------------------------------------------------------------------------------------------------- */

static void test_buf_grows_to_its_limit(void **state)
{
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(1000);
	char large[1001];

	(void) state;
	memset(large, 'x', sizeof(large));
	assert_null(b.data);
	assert_string_equal(buf_str(&b), "");
	assert_int_equal(buf_add(&b, NULL, 0), 0);
	assert_int_equal(buf_add(&b, large, 1001), -ERR_TOO_LARGE);
	assert_int_equal(buf_add_str(&b, "ab"), 0);
	assert_int_equal(buf_add_byte(&b, 'c'), 0);
	assert_int_equal(buf_addf(&b, "%d-%s", 7, "x"), 0);
	assert_string_equal(buf_str(&b), "abc7-x");
	assert_int_equal(buf_add(&b, large, 995), -ERR_TOO_LARGE);
	assert_string_equal(buf_str(&b), "abc7-x");
	assert_int_equal(buf_addf(&b, "%995s", ""), -ERR_TOO_LARGE);
	assert_int_equal(buf_reserve(&b, SIZE_MAX), -ERR_TOO_LARGE);
	assert_string_equal(buf_str(&b), "abc7-x");
	assert_int_equal(buf_add(&b, large, 994), 0);
	assert_int_equal(b.len, 1000);
	assert_int_equal(b.data[1000], '\0');
	assert_int_equal(buf_add_byte(&b, 'x'), -ERR_TOO_LARGE);
}

static void test_buf_consume_clear_take(void **state)
{
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(100);
	char *taken;

	(void) state;
	assert_null(buf_take(&b));
	assert_int_equal(buf_add_str(&b, "hello"), 0);
	buf_consume(&b, 2);
	assert_string_equal(buf_str(&b), "llo");
	buf_consume(&b, 99);
	assert_string_equal(buf_str(&b), "");
	assert_int_equal(buf_add_str(&b, "again"), 0);
	buf_clear(&b);
	assert_int_equal(b.len, 0);
	assert_int_equal(buf_add_str(&b, "mine"), 0);
	taken = buf_take(&b);
	assert_string_equal(taken, "mine");
	free(taken);
	assert_int_equal(buf_add_str(&b, "usable"), 0);
	buf_done(&b);
	buf_done(&b);
	buf_done(NULL);
	assert_int_equal(buf_add_str(&b, "still"), 0);
	buf_consume(&b, 0);
	assert_string_equal(buf_str(&b), "still");
}

/* --- text ------------------------------------------------------------------------------------------------- */

static void test_hex(void **state)
{
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(4);
	const uint8_t bytes[] = { 0x00, 0x9f, 0xff };
	uint8_t back[3];
	char out[7];

	(void) state;
	hex_encode(out, bytes, 3);
	assert_string_equal(out, "009fff");
	assert_int_equal(hex_decode(back, 3, out, false), 0);
	assert_memory_equal(back, bytes, 3);
	assert_int_equal(hex_decode(back, 3, "009FFF", false), -ERR_SYNTAX);
	assert_int_equal(hex_decode(back, 3, "009FFF", true), 0);
	assert_int_equal(hex_decode(back, 3, "009ff", false), -ERR_SYNTAX);
	assert_int_equal(hex_decode(back, 3, "009fff0", false), -ERR_SYNTAX);
	assert_int_equal(hex_decode(back, 3, "009ffg", false), -ERR_SYNTAX);
	assert_int_equal(hex_decode_buf(&b, "0aFF"), 0);
	assert_int_equal(b.len, 2);
	assert_int_equal(hex_decode_buf(&b, "0"), -ERR_SYNTAX);
	assert_int_equal(hex_decode_buf(&b, "0x"), -ERR_SYNTAX);
	assert_int_equal(hex_decode_buf(&b, "010203"), -ERR_TOO_LARGE);
	assert_int_equal(b.len, 2);
}

static void test_base64(void **state)
{
	/* RFC 4648, section 10. */
	static const char *const pairs[][2] = { { "", "" },
						{ "f", "Zg==" },
						{ "fo", "Zm8=" },
						{ "foo", "Zm9v" },
						{ "foob", "Zm9vYg==" },
						{ "fooba", "Zm9vYmE=" },
						{ "foobar", "Zm9vYmFy" } };
	static const char *const bad[] = { "Z",	       "Zg",   "Zg=",	"=",	"====",
					   "Zg==Zg==", "Z===", "Zm9=v", "Zm 9", "Zm9-" };

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
		CLEANUP(buf_done)
		struct buf a = BUF_INIT(100), b = BUF_INIT(100);

		assert_int_equal(base64_encode(&a, (const uint8_t *) pairs[i][0], strlen(pairs[i][0])), 0);
		assert_string_equal(buf_str(&a), pairs[i][1]);
		assert_int_equal(base64_decode(&b, pairs[i][1], strlen(pairs[i][1])), 0);
		assert_string_equal(buf_str(&b), pairs[i][0]);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		CLEANUP(buf_done)
		struct buf b = BUF_INIT(100);

		assert_int_equal(buf_add_str(&b, "kept"), 0);
		if (base64_decode(&b, bad[i], strlen(bad[i])) != -ERR_SYNTAX)
			fail_msg("'%s' was decoded", bad[i]);
		assert_int_equal(b.len, 4);
	}
	{
		CLEANUP(buf_done)
		struct buf b = BUF_INIT(100);

		assert_int_equal(base64_decode(&b, "Zm\0v", 4), -ERR_SYNTAX);
	}
}

static void test_guard_id(void **state)
{
	char id[66];

	(void) state;
	memset(id, 'a', sizeof(id));
	id[63] = '\0';
	assert_true(guard_id(id));
	id[63] = 'a';
	id[64] = '\0';
	assert_false(guard_id(id));
	for (const char *const *s = (const char *const[]){ "a", "0", "n1", "team-a-", NULL }; *s; s++)
		assert_true(guard_id(*s));
	for (const char *const *s = (const char *const[]){ "", "-a", "A", "a_b", "a.b", "a/b", "a b", "\xc3\xa4",
							   "a\n", "..", NULL };
	     *s; s++)
		assert_false(guard_id(*s));
	assert_false(guard_id(NULL));
}

static void test_guard_path(void **state)
{
	char path[1100], part[300];

	(void) state;
	for (const char *const *s =
		     (const char *const[]){ "a", "a/b", ".a", "a..", "...", "a b", "\xc3\xa4/x", NULL };
	     *s; s++)
		assert_true(guard_path(*s));
	for (const char *const *s =
		     (const char *const[]){ "", "/", "/a", "a/", "a//b", ".", "..", "a/.", "./a", "a/..", "a/../b",
					    "a\\b", "a\nb", "a\x7f", "\x01", NULL };
	     *s; s++)
		if (guard_path(*s))
			fail_msg("'%s' passed", *s);
	assert_false(guard_path(NULL));
	memset(part, 'x', sizeof(part));
	part[255] = '\0';
	assert_true(guard_path(part));
	part[255] = 'x';
	part[256] = '\0';
	assert_false(guard_path(part));
	for (size_t i = 0; i < sizeof(path); i++)
		path[i] = i % 100 == 99 ? '/' : 'x';
	path[1024] = '\0';
	assert_true(guard_path(path));
	path[1024] = 'x';
	path[1025] = '\0';
	assert_false(guard_path(path));
}

/* The definition, slow and plain. */
static bool glob_slow(const char *pattern, const char *text)
{
	if (!*pattern)
		return !*text;
	if (*pattern == '*') {
		if (glob_slow(pattern + 1, text))
			return true;
		return *text && *text != '/' && glob_slow(pattern, text + 1);
	}
	if (!*text || (*pattern == '?' ? *text == '/' : *pattern != *text))
		return false;
	return glob_slow(pattern + 1, text + 1);
}

static void test_glob(void **state)
{
	static const struct {
		const char *pattern, *text;
		bool match;
	} rows[] = {
		{ "a", "a", true },
		{ "a", "b", false },
		{ "", "", true },
		{ "*", "", true },
		{ "*", "abc", true },
		{ "*", "a/b", false },
		{ "*/*", "a/b", true },
		{ "*/*", "a/b/c", false },
		{ "web/*/release.json", "web/1.0.0/release.json", true },
		{ "web/*/release.json", "web/a/b/release.json", false },
		{ "?", "a", true },
		{ "?", "/", false },
		{ "?", "", false },
		{ "a*b*c", "axbxbxc", true },
		{ "a*b*c", "axbx/c", false },
		{ "[a]", "a", false },
		{ "[a]", "[a]", true },
		{ "\\*", "\\x", true },
		{ "*a*", "xa/a", false },
	};
	static const char alphabet[] = "ab/*?";
	char pattern[6], text[6];

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (glob_match(rows[i].pattern, rows[i].text) != rows[i].match)
			fail_msg("%s on %s", rows[i].pattern, rows[i].text);
	/* All patterns up to 4 and texts up to 4 of a small alphabet. */
	for (int p = 0; p < 5 * 5 * 5 * 5; p++)
		for (int t = 0; t < 3 * 3 * 3 * 3; t++)
			for (size_t len = 0; len <= 4; len++) {
				for (int i = 0, x = p; i < 4; i++, x /= 5)
					pattern[i] = alphabet[x % 5];
				for (int i = 0, x = t; i < 4; i++, x /= 3)
					text[i] = alphabet[x % 3];
				pattern[4] = text[len] = '\0';
				if (glob_match(pattern, text) != glob_slow(pattern, text))
					fail_msg("%s on %s", pattern, text);
			}
}

static void test_a_hostile_glob_ends(void **state)
{
	char pattern[2001], text[2001];
	clock_t start = clock();

	(void) state;
	for (size_t i = 0; i < 2000; i++) {
		pattern[i] = i % 2 ? 'a' : '*';
		text[i] = 'a';
	}
	pattern[1999] = 'b';
	pattern[2000] = text[2000] = '\0';
	assert_false(glob_match(pattern, text));
	assert_true(clock() - start < CLOCKS_PER_SEC);
}

static void test_what_no_terminal_is_to_obey(void **state)
{
	static const struct {
		const char *text, *tame;
	} rows[] = {
		{ "", "" },
		{ "plain text, \"quoted\"", "plain text, \"quoted\"" },
		{ "\x1b]0;title\x07\x1b[2J", "?]0;title??[2J" },
		{ "a\nb\tc\rd", "a\nb?c?d" },
		{ "\xc2\x9b"
		  "2J \xc2\x80\xc2\x9f",
		  "?2J ??" }, /* the same as one character */
		{ "\xc2\xa0gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x9a\x80",
		  "\xc2\xa0gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x9a\x80" },
		{ "\x9b"
		  "2J \x85",
		  "?2J ?" }, /* and as one byte */
		{ "good \xe2\x80\xaetxt.exe\xe2\x81\xa6", "good ?txt.exe?" },
		{ "\x7f", "?" },
		{ "\xe2\x80", "\xe2\x80" }, /* cut off: shown as such */
		{ "\xe2\x1b[m", "\xe2?[m" },
		{ "\xf0\x9f\xc2\x9b", "\xf0\x9f?" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[64];

		(void) snprintf(text, sizeof(text), "%s", rows[i].text);
		text_tame(text, "\n");
		assert_string_equal(text, rows[i].tame);
		text_tame(text, "\n");
		assert_string_equal(text, rows[i].tame);
	}
}

static void test_strings_and_numbers(void **state)
{
	uint64_t n = 5;

	(void) state;
	assert_true(str_eq(NULL, NULL) && str_eq("a", "a"));
	assert_false(str_eq(NULL, "") || str_eq("a", "b") || str_eq("a", NULL));
	assert_true(str_starts("abc", "ab") && str_starts("abc", ""));
	assert_false(str_starts("a", "ab") || str_starts(NULL, "a"));
	assert_int_equal(parse_u64("0", &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(parse_u64("18446744073709551615", &n), 0);
	assert_true(n == UINT64_MAX);
	for (const char *const *s = (const char *const[]){ "", "-1", "+1", " 1", "1 ", "1x", "0x1", "1.0",
							   "18446744073709551616", "99999999999999999999", NULL };
	     *s; s++)
		assert_int_equal(parse_u64(*s, &n), -ERR_NUMBER);
	assert_int_equal(parse_u64(NULL, &n), -ERR_NUMBER);
	assert_true(n == UINT64_MAX);
}

/* --- version ----------------------------------------------------------------------------------------------- */

static void test_versions_in_order(void **state)
{
	/* semver.org 2.0.0 section 11, and an epoch before everything. */
	static const char *const order[] = { "0.0.0",	      "0.0.1",
					     "0.10.0",	      "1.0.0-alpha",
					     "1.0.0-alpha.1", "1.0.0-alpha.beta",
					     "1.0.0-beta",    "1.0.0-beta.2",
					     "1.0.0-beta.11", "1.0.0-rc.1",
					     "1.0.0",	      "1.0.1",
					     "1.2.0",	      "1.10.0",
					     "2.0.0",	      "9.99999999999999999999.0",
					     "10.0.0",	      "1~0.0.1",
					     "2~0.0.1-a",     "10~0.0.0" };

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(order); i++) {
		assert_true(version_is_valid(order[i]));
		for (size_t k = 0; k < ARRAY_LEN(order); k++) {
			int c = version_compare(order[i], order[k]);

			if ((c > 0) != (i > k) || (c < 0) != (i < k))
				fail_msg("%s and %s", order[i], order[k]);
		}
	}
	assert_int_equal(version_compare("0~1.0.0", "1.0.0"), 0);
	assert_true(version_compare("1.0.0--", "1.0.0-a") < 0);
	assert_true(version_compare("1.0.0-1", "1.0.0-a") < 0);
	assert_true(version_compare("1.0.0-a", "1.0.0-a.b") < 0);
}

static void test_what_is_no_version(void **state)
{
	char version[70];

	(void) state;
	for (const char *const *s =
		     (const char *const[]){ "",		"1",	   "1.0",	"1.0.0.0",    "01.0.0",
					    "1.00.0",	"1.0.0-",  "1.0.0-01",	"1.0.0-a..b", "1.0.0+build",
					    "v1.0.0",	" 1.0.0",  "1.0.0 ",	"1.0.0-a_b",  "~1.0.0",
					    "1~",	"a~1.0.0", "1~2~1.0.0", "01~1.0.0",   "-1.0.0",
					    "1.0.0-a.", "1..0",	   "1.0.0\n",	"1.0.0/x",    NULL };
	     *s; s++)
		if (version_is_valid(*s))
			fail_msg("'%s' passed", *s);
	assert_false(version_is_valid(NULL));
	assert_true(version_is_valid("1.0.0-0a") && version_is_valid("1.0.0--") && version_is_valid("1.0.0-0"));
	(void) snprintf(version, sizeof(version), "1.0.0-%058d", 0);
	version[6] = 'a';
	assert_int_equal(strlen(version), VERSION_MAX);
	assert_true(version_is_valid(version));
	(void) snprintf(version, sizeof(version), "1.0.0-%059d", 0);
	version[6] = 'a';
	assert_false(version_is_valid(version));
}

static void test_ranges(void **state)
{
	static const struct {
		const char *version, *range;
		bool in;
	} rows[] = {
		{ "1.4.0", "*", true },
		{ "1.4.0", "=1.4.0", true },
		{ "1.4.0", "1.4.0", true },
		{ "1.4.1", "=1.4.0", false },
		{ "1.4.0", ">=1.2.0 <2.0.0", true },
		{ "2.0.0", ">=1.2.0 <2.0.0", false },
		{ "1.2.0", ">=1.2.0 <2.0.0", true },
		{ "1.1.9", ">=1.2.0 <2.0.0", false },
		{ "1.2.0", ">1.2.0", false },
		{ "1.2.0", "<=1.2.0", true },
		{ "1.2.0", "<1.2.0", false },
		{ "1.2.0", ">=1.2.0  <2.0.0", true },
		{ "1~1.0.0", "<2.0.0", false },
		{ "x", "*", false },
		{ "1.0.0", "", false },
		{ "1.0.0", ">=", false },
		{ "1.0.0", "=>1.0.0", false },
		{ "1.0.0", ">= 1.0.0", false },
		{ "1.0.0", "==1.0.0", false },
		{ "1.0.0", ">=1.0.0 x", false },
		{ "1.0.0", "* *", false },
		{ "1.0.0", "<>1.0.0", false },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (version_in_range(rows[i].version, rows[i].range) != rows[i].in)
			fail_msg("%s in %s", rows[i].version, rows[i].range);
	assert_false(version_range_is_valid(NULL));
	assert_true(version_range_is_valid("*") && version_range_is_valid(">=1.0.0 <2.0.0"));
}

/* --- timestamp ---------------------------------------------------------------------------------------------- */

static void test_timestamps_both_ways(void **state)
{
	char text[TIMESTAMP_LEN + 1];
	int64_t t;

	(void) state;
	assert_int_equal(timestamp_parse("2026-11-21T09:30:00Z", &t), 0);
	assert_int_equal(t, 1795253400);
	/* Against the C library, over all years, at odd steps. */
	for (int64_t s = 0; s <= 253402300799; s += 86400 * 97 + 12345) {
		time_t seconds = (time_t) s;
		char expected[32];
		struct tm tm;

		assert_non_null(gmtime_r(&seconds, &tm));
		assert_true(strftime(expected, sizeof(expected), "%Y-%m-%dT%H:%M:%SZ", &tm) > 0);
		timestamp_format(text, s);
		assert_string_equal(text, expected);
		assert_int_equal(timestamp_parse(text, &t), 0);
		assert_true(t == s);
	}
	timestamp_format(text, -1);
	assert_string_equal(text, "1970-01-01T00:00:00Z");
	timestamp_format(text, INT64_MAX);
	assert_string_equal(text, "9999-12-31T23:59:59Z");
}

static void test_what_is_no_timestamp(void **state)
{
	int64_t t = 5;

	(void) state;
	for (const char *const *s =
		     (const char *const[]){ "", "2026-11-21", "2026-11-21T09:30:00", "2026-11-21T09:30:00z",
					    "2026-11-21 09:30:00Z", "2026-11-21T09:30:00+00:00",
					    "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-02-29T00:00:00Z",
					    "1900-02-28T00:00:00Z", "2026-04-31T00:00:00Z", "2026-01-00T00:00:00Z",
					    "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z", "2026-01-01T00:00:60Z",
					    "2026-01-01T00:00:00.5Z", " 026-01-01T00:00:00Z",
					    "2100-02-29T00:00:00Z", NULL };
	     *s; s++)
		if (timestamp_parse(*s, &t) != -ERR_SYNTAX)
			fail_msg("'%s' passed", *s);
	assert_int_equal(timestamp_parse(NULL, &t), -ERR_SYNTAX);
	assert_int_equal(t, 5);
	assert_int_equal(timestamp_parse("2000-02-29T00:00:00Z", &t), 0);
	assert_int_equal(timestamp_parse("2028-02-29T00:00:00Z", &t), 0);
}

/* --- backoff ------------------------------------------------------------------------------------------------ */

static void test_backoff_doubles_to_its_cap(void **state)
{
	struct backoff b = { .base_ms = 100, .cap_ms = 1000 };
	static const uint64_t limits[] = { 100, 200, 400, 800, 1000, 1000 };

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
		struct backoff same = b;

		/* `limit` itself as the random number gives the limit, one more gives nothing. */
		assert_int_equal(backoff_next_ms(&same, limits[i]), limits[i]);
		assert_int_equal(backoff_next_ms(&b, limits[i] + 1), 0);
	}
	for (int i = 0; i < 200; i++)
		assert_true(backoff_next_ms(&b, UINT64_MAX - (uint64_t) i) <= 1000);
	backoff_reset(&b);
	assert_int_equal(backoff_next_ms(&b, 100), 100);
}

static void test_backoff_at_the_edges(void **state)
{
	struct backoff none = { .base_ms = 0, .cap_ms = 0 }, endless = { .base_ms = 1, .cap_ms = UINT64_MAX },
		       above = { .base_ms = 50, .cap_ms = 10 };

	(void) state;
	assert_int_equal(backoff_next_ms(&none, 77), 0);
	for (int i = 0; i < 100; i++)
		(void) backoff_next_ms(&endless, UINT64_MAX);
	assert_true(backoff_next_ms(&endless, UINT64_MAX) == UINT64_MAX);
	assert_int_equal(backoff_next_ms(&above, 10), 10);
}

/* --- log ---------------------------------------------------------------------------------------------------- */

struct line {
	enum log_level level;
	char event[64], text[8192];
	unsigned count;
};

static void keep_line(void *user, enum log_level level, const char *event, const char *text)
{
	struct line *l = user;

	l->level = level;
	(void) snprintf(l->event, sizeof(l->event), "%s", event);
	(void) snprintf(l->text, sizeof(l->text), "%s", text);
	l->count++;
}

static void test_log_lines_reach_the_sink(void **state)
{
	static struct line l;
	static char large[6000];

	(void) state;
	log_set(keep_line, &l, LOG_LEVEL_NOTICE);
	log_notice("update-verified", "update=%s version=%d", "7f3a", 5);
	assert_int_equal(l.level, LOG_LEVEL_NOTICE);
	assert_string_equal(l.event, "update-verified");
	assert_string_equal(l.text, "update=7f3a version=5");
	log_info("quiet", "not shown");
	log_debug("quiet", "not shown");
	assert_int_equal(l.count, 1);
	/* One event is one line, and no terminal's order. */
	log_error("from-outside", "detail=%s",
		  "no\n2026-11-28T00:00:00Z notice good: all \x1b[8m\xc2\x9b"
		  "8m");
	assert_string_equal(l.text, "detail=no?2026-11-28T00:00:00Z notice good: all ?[8m?8m");
	l.count = 1;
	memset(large, 'x', sizeof(large) - 1);
	log_error("large", "%s", large);
	assert_int_equal(l.count, 2);
	assert_true(strlen(l.text) < 5000);
	log_set(NULL, NULL, LOG_LEVEL_INFO);
}

static void test_log_lines_can_be_limited(void **state)
{
	static struct line l;
	const struct timespec pause = { .tv_nsec = 150 * 1000 * 1000 };

	(void) state;
	log_set(keep_line, &l, LOG_LEVEL_NOTICE);
	log_limit(3, 0);
	for (int i = 0; i < 100; i++)
		log_warning("noise", "line %d", i);
	assert_int_equal(l.count, 3);
	assert_string_equal(l.text, "line 2");
	log_warning("news", "of another event");
	assert_int_equal(l.count, 4);
	log_limit(1, 600); /* ten a second */
	l.count = 0;
	for (int i = 0; i < 10000; i++)
		log_warning("noise", "again");
	assert_true(l.count < 10000);
	nanosleep(&pause, NULL);
	log_warning("noise", "later");
	assert_non_null(strstr(l.text, "later (and "));
	assert_non_null(strstr(l.text, " more like it, left out)"));
	for (int i = 0; i < 1000; i++) {
		char event[64];

		(void) snprintf(event, sizeof(event), "event-%d-with-a-name-that-is-longer-than-most-are", i);
		log_warning(event, "more events than fit");
	}
	log_limit(0, 0);
	l.count = 0;
	for (int i = 0; i < 100; i++)
		log_warning("noise", "%d", i);
	assert_int_equal(l.count, 100);
	log_set(NULL, NULL, LOG_LEVEL_INFO);
}

static void test_standard_error(void **state)
{
	static char large[6000], out[16384];
	int fds[2], saved = dup(STDERR_FILENO);
	ssize_t n;

	(void) state;
	assert_int_equal(pipe(fds), 0);
	assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
	memset(large, 'x', sizeof(large) - 1);
	log_set_program("selfright-test");
	log_warning("went-on", "a=%d", 1);
	log_error("large", "%s", large);
	log_set_program(NULL);
	(void) dup2(saved, STDERR_FILENO);
	(void) close(saved);
	(void) close(fds[1]);
	n = read(fds[0], out, sizeof(out) - 1);
	(void) close(fds[0]);
	assert_true(n > 0);
	out[n] = '\0';
	assert_non_null(strstr(out, "Z selfright-test warning went-on: a=1\n"));
	assert_int_equal(out[n - 1], '\n');
	assert_int_equal(out[4], '-'); /* 2026-... */
}

static void test_log_quote(void **state)
{
	char out[32], tiny[8], none[4];

	(void) state;
	assert_string_equal(log_quote(out, sizeof(out), "a \"b\" \\ \n\x7f"), "\"a \\\"b\\\" \\\\ \\x0a\\x7f\"");
	assert_string_equal(log_quote(out, sizeof(out), NULL), "\"\"");
	(void) log_quote(out, sizeof(out), "a very long text that cannot fit in here at all");
	assert_true(strlen(out) < sizeof(out));
	assert_int_equal(out[strlen(out) - 1], '"');
	assert_true(strlen(log_quote(tiny, sizeof(tiny), "\n\n\n")) < sizeof(tiny));
	assert_string_equal(log_quote(none, sizeof(none), "x"), "");
	for (size_t size = 8; size < 32; size++)
		assert_true(strlen(log_quote(out, size, "\x01\x02\"\\\x03 text \x04\x05\x06")) < size);
}

static void test_all_of_a_stream(void **state)
{
	struct buf b = BUF_INIT(10000), small = BUF_INIT(3);
	char text[9000];
	int fds[2];

	(void) state;
	memset(text, 'x', sizeof(text));
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], text, sizeof(text)), sizeof(text));
	assert_int_equal(close(fds[1]), 0);
	assert_int_equal(buf_add_str(&b, "before"), 0);
	assert_int_equal(buf_read(&b, fds[0]), 0);
	assert_int_equal(b.len, sizeof(text) + 6);
	assert_int_equal(close(fds[0]), 0);
	assert_int_equal(buf_read(&b, fds[0]), -EBADF);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], "four", 4), 4);
	assert_int_equal(buf_read(&small, fds[0]), -ERR_TOO_LARGE);
	assert_int_equal(small.len, 0);
	assert_int_equal(close(fds[0]), 0);
	assert_int_equal(close(fds[1]), 0);
	buf_done(&b);
	buf_done(&small);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_of_a_stream),
		cmocka_unit_test(test_every_error_has_its_words),
		cmocka_unit_test(test_classes),
		cmocka_unit_test(test_buf_grows_to_its_limit),
		cmocka_unit_test(test_buf_consume_clear_take),
		cmocka_unit_test(test_hex),
		cmocka_unit_test(test_base64),
		cmocka_unit_test(test_guard_id),
		cmocka_unit_test(test_guard_path),
		cmocka_unit_test(test_glob),
		cmocka_unit_test(test_a_hostile_glob_ends),
		cmocka_unit_test(test_what_no_terminal_is_to_obey),
		cmocka_unit_test(test_strings_and_numbers),
		cmocka_unit_test(test_versions_in_order),
		cmocka_unit_test(test_what_is_no_version),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_timestamps_both_ways),
		cmocka_unit_test(test_what_is_no_timestamp),
		cmocka_unit_test(test_backoff_doubles_to_its_cap),
		cmocka_unit_test(test_backoff_at_the_edges),
		cmocka_unit_test(test_log_lines_reach_the_sink),
		cmocka_unit_test(test_log_lines_can_be_limited),
		cmocka_unit_test(test_standard_error),
		cmocka_unit_test(test_log_quote),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
