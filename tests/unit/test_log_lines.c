/* Which lines are errors, which are of one kind, and how many there may be. */
#include "agent/probe/log_lines.h"
#include "agent/probe/probe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t kind(const char *line)
{
	char text[LOG_LINE_MAX + 1];

	return log_line_kind(line, strlen(line), text);
}

static void test_what_changes_from_case_to_case_makes_no_new_kind(void **state)
{
	static const char *const same[][2] = {
		{ "2026/11/28 03:56:53 [error] 1234#0: *17 connect() failed (111: Connection refused), client: "
		  "10.0.0.7",
		  "2026/12/01 23:00:01 [error] 98#12: *180023 connect() failed (111: Connection refused), client: "
		  "1.2.3.4" },
		{ "Nov 28 03:56:53 host app[12]: error: worker 3 died",
		  "Dec  1 00:00:00 host app[9999]: error: worker 12 died" },
		{ "error id=550e8400-e29b-41d4-a716-446655440000",
		  "error id=00000000-aaaa-bbbb-cccc-0123456789ab" },
		{ "error at deadbeef", "error at cafebabe" },
		{ "open() \"/srv/a.html\" failed, request: \"GET /a HTTP/1.1\"",
		  "open() \"/srv/deep/b\" failed, request: \"GET /b?x=1 HTTP/1.1\"" },
		{ "cannot read /var/lib/app/one", "cannot read /var/lib/app/two/three" },
		{ "2026-11-28T03:56:53.123456Z error", "2026-11-28T03:56:53Z error" },
		{ "client: 10.0.0.7, error", "client: fe80::1, error" },
		{ "error 0x7ffd12", "error 0x1" },
	};
	static const char *const different[][2] = {
		{ "error: disk full", "error: disk gone" },
		{ "[error] upstream timed out", "[crit] upstream timed out" },
		{ "error", "errors" },
		{ "error in module auth", "error in module billing" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(same); i++)
		if (kind(same[i][0]) != kind(same[i][1])) {
			char a[LOG_LINE_MAX + 1], b[LOG_LINE_MAX + 1];

			(void) log_line_kind(same[i][0], strlen(same[i][0]), a);
			(void) log_line_kind(same[i][1], strlen(same[i][1]), b);
			fail_msg("'%s' and '%s'", a, b);
		}
	for (size_t i = 0; i < ARRAY_LEN(different); i++)
		assert_true(kind(different[i][0]) != kind(different[i][1]));
}

static struct release_log log_of(const char *match, const char *ignore, uint64_t per_minute, uint64_t new_kinds)
{
	struct release_log log = { .max_per_minute = per_minute, .max_new_kinds = new_kinds };

	assert_int_equal(string_list_add(&log.match, match), 0);
	if (ignore)
		assert_int_equal(string_list_add(&log.ignore, ignore), 0);
	return log;
}

static void log_done(struct release_log *log)
{
	string_list_done(&log->match);
	string_list_done(&log->ignore);
}

static void test_errors_in_any_case_but_for_the_ignored(void **state)
{
	struct release_log log = log_of("error", "no error", UINT64_MAX, 0);

	(void) state;
	assert_true(log_line_is_error(&log, "an ERROR here", 13));
	assert_false(log_line_is_error(&log, "an ERR", 6));
	assert_false(log_line_is_error(&log, "ended with No Error at all", 26));
	assert_false(log_line_is_error(&log, "", 0));
	assert_false(log_line_is_error(&log, "erro", 4)); /* reads no further than told */
	log_done(&log);
}

static void add(struct log_kinds *k, const struct release_log *log, const char *line)
{
	log_kinds_add(k, log, line, strlen(line));
}

static enum run_end judge(const struct log_kinds *k, const struct release_log *log, uint64_t now_ms,
			  const char *says)
{
	CLEANUP(buf_done)
	struct buf detail = BUF_INIT(PROBE_DETAIL_MAX);
	enum run_end end = log_kinds_judge(k, log, 0, now_ms, &detail);

	if (!strstr(buf_str(&detail), says))
		fail_msg("\"%s\" does not hold \"%s\"", buf_str(&detail), says);
	return end;
}

static void test_new_kinds_are_counted_apart(void **state)
{
	struct log_kinds *k = calloc(1, sizeof(*k));
	struct release_log log = log_of("error", NULL, UINT64_MAX, 1);

	(void) state;
	assert_non_null(k);
	log_kinds_learn(k, &log, "error: old 1", 12);
	log_kinds_learn(k, &log, "not of interest", 15);
	add(k, &log, "error: old 22");
	log_kinds_end_run(k, 1000);
	assert_int_equal(judge(k, &log, 1000, "0 new kinds"), RUN_HELD);
	for (int i = 0; i < 100; i++)
		add(k, &log, "error: new 7");
	log_kinds_end_run(k, 2000);
	assert_int_equal(judge(k, &log, 2000, "1 new kind"), RUN_HELD);
	add(k, &log, "error: another");
	log_kinds_end_run(k, 3000);
	assert_int_equal(judge(k, &log, 3000, "2 new kinds of error line, the newest: error: another"),
			 RUN_FAILED);
	for (int i = 0; i < 2 * LOG_NEW_MAX; i++) {
		char line[32] = "error: ";

		line[7] = (char) ('a' + i % 26);
		line[8] = (char) ('a' + i / 26);
		add(k, &log, line);
	}
	assert_int_equal(k->fresh_count, LOG_NEW_MAX);
	for (int i = 0; i < 2 * LOG_KINDS_MAX; i++) {
		char line[32];

		(void) snprintf(line, sizeof(line), "error: %c%c%c", 'a' + i % 26, 'a' + i / 26 % 26,
				'a' + i / 676);
		log_kinds_learn(k, &log, line, strlen(line));
	}
	assert_int_equal(k->known_count, LOG_KINDS_MAX);
	log_done(&log);
	free(k);
}

static void test_the_rate_is_of_the_last_minute(void **state)
{
	struct log_kinds *k = calloc(1, sizeof(*k));
	struct release_log log = log_of("error", NULL, 5, UINT64_MAX);

	(void) state;
	assert_non_null(k);
	for (int i = 0; i < 5; i++)
		add(k, &log, "error");
	log_kinds_end_run(k, 1000);
	assert_int_equal(judge(k, &log, 1000, "5 error lines"), RUN_HELD); /* not 300 a minute */
	add(k, &log, "error");
	log_kinds_end_run(k, 11000);
	assert_int_equal(judge(k, &log, 11000, "there may be 5"), RUN_FAILED);
	for (uint64_t s = 21; s <= 71; s += 10)
		log_kinds_end_run(k, s * 1000);
	assert_int_equal(judge(k, &log, 71000, "0 error lines"), RUN_HELD); /* all six are older than a minute */
	for (int i = 0; i < 3 * LOG_RATE_MAX; i++) {
		add(k, &log, "error");
		log_kinds_end_run(k, 72000 + (uint64_t) i * 100);
	}
	assert_true(log_kinds_rate(k, 0, 72000 + 3 * LOG_RATE_MAX * 100) >= LOG_RATE_MAX);
	log_done(&log);
	free(k);
}

static void test_lines_of_the_journal(void **state)
{
	static const struct {
		const char *line, *text;
		uint64_t us;
	} good[] = { { "1700000000.123456 host nginx[1]: [error] x", "nginx[1]: [error] x",
		       UINT64_C(1700000000123456) },
		     { "1700000000.000001 host", "host", UINT64_C(1700000000000001) } };
	static const char *const bad[] = {
		"",	 "    it goes on",	     "1700000000 host x", "1700000000.12x",
		"a.b c", "99999999999999999999.1 a", "-- No entries --",  "1.2 a"
	};
	const char *text;
	uint64_t us;
	size_t len;

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_true(log_journal_line(good[i].line, strlen(good[i].line), &us, &text, &len));
		assert_int_equal(us, good[i].us);
		assert_int_equal(len, strlen(good[i].text));
		assert_memory_equal(text, good[i].text, len);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (log_journal_line(bad[i], strlen(bad[i]), &us, &text, &len))
			fail_msg("'%s' was taken", bad[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_changes_from_case_to_case_makes_no_new_kind),
		cmocka_unit_test(test_errors_in_any_case_but_for_the_ignored),
		cmocka_unit_test(test_new_kinds_are_counted_apart),
		cmocka_unit_test(test_the_rate_is_of_the_last_minute),
		cmocka_unit_test(test_lines_of_the_journal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
