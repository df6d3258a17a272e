/*
 * fetch/retry_after.h: what an answer may ask for, and what it may not.
 */
#include "fetch/retry_after.h"

#include "base/err.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { NOW = 784111777 }; /* Sun, 06 Nov 1994 08:49:37 GMT */

static const char date[] = "Sun, 06 Nov 1994 08:49:37 GMT";

static void all_three_forms_of_a_date_are_read(void **state)
{
	static const char *const same[] = { date, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994" };
	int64_t seconds;

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(same); i++) {
		seconds = 0;
		assert_int_equal(http_date_parse(same[i], &seconds), 0);
		assert_int_equal(seconds, NOW);
	}
	assert_int_equal(http_date_parse("Friday, 21-Nov-25 09:30:00 GMT", &seconds), 0);
	assert_int_equal(seconds, 1763717400);
	assert_int_equal(http_date_parse("Sun Nov 16 08:49:37 1994", &seconds), 0);
	assert_int_equal(seconds, NOW + 10 * 86400);
	/* A leap second. */
	assert_int_equal(http_date_parse("Sat, 31 Dec 2016 23:59:60 GMT", &seconds), 0);
	assert_int_equal(seconds, 1483228799);
}

static void what_is_no_date_is_refused(void **state)
{
	static const char *const none[] = {
		"",
		"Sun",
		"Sun, ",
		"Sunday",
		"Sun, 06 Nov 1994 08:49:37",
		"Sun, 06 Nov 1994 08:49:37 GMT ",
		"Sun, 06 Nov 1994 08:49:37 CET",
		"Sun, 06 nov 1994 08:49:37 GMT",
		"Sun, 06 Nev 1994 08:49:37 GMT",
		"Sun, 32 Nov 1994 08:49:37 GMT",
		"Sun, 29 Feb 1994 08:49:37 GMT",
		"Sun, 06 Nov 1994 24:49:37 GMT",
		"Sun, 06 Nov 1994 08:60:37 GMT",
		"Sun, 06 Nov 1994 08:49:61 GMT",
		"Sun, 06 Nov 1969 08:49:37 GMT",
		"Sun, -6 Nov 1994 08:49:37 GMT",
		"Sun, 06 Nov 19940 8:49:37 GMT",
		"Sunday, 06 Nov 1994 08:49:37 GMT",
		"Sun, 06-Nov-94 08:49:37 GMT",
		"Sunday Nov  6 08:49:37 1994",
		"Sun Nov    08:49:37 1994",
		"1994-11-06T08:49:37Z",
		"Son, 06 Nov 1994 08:49:37 GMT",
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(none); i++) {
		int64_t seconds = 1;

		assert_int_equal(http_date_parse(none[i], &seconds), -ERR_SYNTAX);
		assert_int_equal(seconds, 1);
	}
}

static void seconds_are_taken_within_their_bound(void **state)
{
	static const struct {
		const char *value;
		uint64_t seconds;
	} rows[] = {
		{ "1", 1 },
		{ "120", 120 },
		{ "0120", 120 },
		{ "3600", 3600 },
		{ "3601", 3600 },
		{ "86400000", 3600 },
		{ "18446744073709551615", 3600 },
		{ "18446744073709551616", 3600 }, /* one more than a number holds */
		{ "999999999999999999999999999999", 3600 },
		{ "0", 0 },
		{ "-1", 0 },
		{ "+5", 0 },
		{ "1.5", 0 },
		{ "5 s", 0 },
		{ "0x10", 0 },
		{ "1e3", 0 },
		{ "", 0 },
		{ "soon", 0 },
		{ "5, 6", 0 },
		{ "\xff\xfe", 0 },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(retry_after_seconds(rows[i].value, date, NOW), rows[i].seconds);
}

static void a_date_is_held_against_the_servers_own(void **state)
{
	(void) state;
	assert_int_equal(retry_after_seconds("Sun, 06 Nov 1994 08:51:37 GMT", date, NOW), 120);
	/* Our clock is in 1970, or far ahead: it does not matter. */
	assert_int_equal(retry_after_seconds("Sun, 06 Nov 1994 08:51:37 GMT", date, 0), 120);
	assert_int_equal(retry_after_seconds("Sun, 06 Nov 1994 08:51:37 GMT", date, NOW + 86400), 120);
	/* Without the server's it is all there is; the bound holds. */
	assert_int_equal(retry_after_seconds("Sun, 06 Nov 1994 08:51:37 GMT", "", NOW), 120);
	assert_int_equal(retry_after_seconds("Sun, 06 Nov 1994 08:51:37 GMT", "today", NOW), 120);
	assert_int_equal(retry_after_seconds("Sun, 06 Nov 1994 08:51:37 GMT", NULL, NOW), 120);
	assert_int_equal(retry_after_seconds("Sun, 06 Nov 1994 08:51:37 GMT", NULL, 0), RETRY_AFTER_MAX_S);
	assert_int_equal(retry_after_seconds("Sun, 06 Nov 1994 08:51:37 GMT", NULL, INT64_MIN), RETRY_AFTER_MAX_S);
	assert_int_equal(retry_after_seconds("Sun, 06 Nov 1994 08:51:37 GMT", NULL, INT64_MAX), 0);
	assert_int_equal(retry_after_seconds("Fri, 31 Dec 9999 23:59:59 GMT", date, NOW), RETRY_AFTER_MAX_S);
	/* Over already. */
	assert_int_equal(retry_after_seconds(date, date, NOW), 0);
	assert_int_equal(retry_after_seconds("Sun, 06 Nov 1994 08:49:36 GMT", date, NOW), 0);
	assert_int_equal(retry_after_seconds("Thu, 01 Jan 1970 00:00:00 GMT", date, NOW), 0);
	assert_int_equal(retry_after_seconds("Sun, 06 Nov 1994 08:51:37 GMT", NULL, NOW + 86400), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_three_forms_of_a_date_are_read),
		cmocka_unit_test(what_is_no_date_is_refused),
		cmocka_unit_test(seconds_are_taken_within_their_bound),
		cmocka_unit_test(a_date_is_held_against_the_servers_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
