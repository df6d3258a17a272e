/* The application's own word, in its three forms. */
#include "agent/probe/probe.h"
#include "agent/probe/status.h"
#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_words(void **state)
{
	static const struct {
		const char *text, *message;
		enum status_word word;
	} cases[] = {
		{ "ready", "", STATUS_READY },
		{ "OK\n", "", STATUS_READY },
		{ "\n  degraded: one of three disks is gone\nmore\n", "one of three disks is gone",
		  STATUS_DEGRADED },
		{ "failed, licence", "licence", STATUS_FAILED },
		{ "starting up", "up", STATUS_STARTING },
		{ "stopping\r\n", "", STATUS_STOPPING },
		{ "{\"status\":\"ready\"}", "", STATUS_READY },
		{ "{\"uptime\":1.5e3,\"a\":{\"status\":\"failed\",\"b\":[1,\"}\"]},\"status\":\"Degraded\","
		  "\"message\":\"slow \\\"db\\\"\",\"x\":null} \n",
		  "slow \"db\"", STATUS_DEGRADED },
		{ "READY=1\nSTATUS=Serving\n", "Serving", STATUS_READY },
		{ "STATUS=Loading\n", "Loading", STATUS_STARTING },
		{ "READY=1\nRELOADING=1", "", STATUS_STARTING },
		{ "ERRNO=2\nREADY=1\nSTATUS=No file", "No file", STATUS_FAILED },
		{ "READY=1\nSTOPPING=1", "", STATUS_STOPPING },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		CLEANUP(buf_done)
		struct buf message = BUF_INIT(512);
		enum status_word word = STATUS_WORD_COUNT;

		if (status_read(cases[i].text, strlen(cases[i].text), &word, &message) < 0 ||
		    word != cases[i].word || strcmp(buf_str(&message), cases[i].message) != 0)
			fail_msg("%s: %s, %s", cases[i].text, status_word_name(word), buf_str(&message));
	}
}

static void test_what_is_no_word(void **state)
{
	static const char *const bad[] = { "",
					   "\n\n",
					   "healthy",
					   "readyish",
					   "{",
					   "{}",
					   "{\"a\":1}",
					   "{\"status\":1}",
					   "{\"status\":\"x\"}",
					   "{\"status\":\"ready\"",
					   "{\"a\":{\"status\":\"ready\"}}",
					   "{\"status\" \"ready\"}",
					   "{\"a\":]},\"status\":\"ready\"}",
					   "STAT=1" };
	char *large = malloc(STATUS_TEXT_MAX + 2);
	CLEANUP(buf_done)
	struct buf message = BUF_INIT(512);
	enum status_word word = STATUS_WORD_COUNT;

	(void) state;
	assert_non_null(large);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (status_read(bad[i], strlen(bad[i]), &word, &message) != -ERR_SYNTAX)
			fail_msg("'%s' was taken", bad[i]);
	memset(large, ' ', STATUS_TEXT_MAX + 1);
	memcpy(large, "ready", 5);
	assert_int_equal(status_read(large, STATUS_TEXT_MAX + 1, &word, &message), -ERR_SYNTAX);
	assert_int_equal(status_read("ready\0x", 7, &word, &message), -ERR_SYNTAX);
	assert_int_equal(word, STATUS_WORD_COUNT);
	free(large);
}

static void test_what_it_means(void **state)
{
	static const struct {
		const char *text, *detail;
		bool accept_degraded;
		enum run_end end;
	} cases[] = { { "ready", "it says ready", false, RUN_HELD },
		      { "degraded: slow", "it says degraded: slow", false, RUN_FAILED },
		      { "degraded: slow", "it says degraded: slow", true, RUN_HELD },
		      { "starting", "it says starting", false, RUN_INCONCLUSIVE },
		      { "stopping", "it says stopping", false, RUN_INCONCLUSIVE },
		      { "failed: no licence", "it says failed: no licence", true, RUN_FAILED },
		      { "fine", "it says none of", true, RUN_FAILED } };

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		CLEANUP(buf_done)
		struct buf detail = BUF_INIT(PROBE_DETAIL_MAX);

		assert_int_equal(status_judge(cases[i].text, strlen(cases[i].text), cases[i].accept_degraded,
					      &detail),
				 cases[i].end);
		assert_non_null(strstr(buf_str(&detail), cases[i].detail));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_what_is_no_word),
		cmocka_unit_test(test_what_it_means),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
