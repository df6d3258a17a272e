/* Each sentence of zone/window.h, with the zone files that are checked in. */
#include "base/err.h"
#include "base/timestamp.h"
#include "os/os.h"
#include "zone/window.h"
#include "zone/zone.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ZONEINFO TESTS_DIR "/unit/data/zoneinfo/"

static struct zone *loaded(const char *name)
{
	struct zone *z = NULL;

	assert_int_equal(zone_load_from(&os_posix, ZONEINFO "fat", name, &z), 0);
	return z;
}

static struct windows parsed(const char *text)
{
	struct windows w;

	if (windows_parse(text, &w) != 0)
		fail_msg("%s", text);
	return w;
}

static int64_t at(const char *timestamp)
{
	int64_t utc = 0;

	assert_int_equal(timestamp_parse(timestamp, &utc), 0);
	return utc;
}

static void test_texts_that_are_windows(void **state)
{
	static const struct {
		const char *text;
		size_t count;
		struct window first;
	} rows[] = {
		{ "Mon-Fri 22:00-04:00", 1, { 0x1f, 1320, 1680 } },
		{ "22:00-04:00", 1, { 0x7f, 1320, 1680 } },
		{ "00:00-24:00", 1, { 0x7f, 0, 1440 } },
		{ "Sat,Sun 00:00-24:00", 1, { 0x60, 0, 1440 } },
		{ "Fri-Mon 01:00-02:00", 1, { 0x71, 60, 120 } },
		{ "Mon-Mon 01:00-02:00", 1, { 0x01, 60, 120 } },
		{ "Mon-Wed,Fri,Sun 01:00-02:00", 1, { 0x57, 60, 120 } },
		{ "mon 23:59-00:00", 1, { 0x01, 1439, 1440 } },
		{ " \tMON - FRI , Sun  01:00 - 02:00 ", 1, { 0x5f, 60, 120 } },
		{ "Mon 01:00-02:00; Tue 03:00-04:00", 2, { 0x01, 60, 120 } },
		{ "Mon 01:00-02:00;Tue 03:00-04:00 ; ", 2, { 0x01, 60, 120 } },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct windows w = parsed(rows[i].text);

		assert_int_equal(w.count, rows[i].count);
		assert_int_equal(w.items[0].days, rows[i].first.days);
		assert_int_equal(w.items[0].from, rows[i].first.from);
		assert_int_equal(w.items[0].to, rows[i].first.to);
	}
}

static void test_texts_that_are_none(void **state)
{
	static const char *const bad[] = {
		"",
		" ",
		";",
		"Mon",
		"Mon-Fri",
		"Mon 22:00",
		"Mon 22:00-",
		"Mon 2:00-04:00",
		"Mon 22:0-04:00",
		"Mon 22:00-24:01",
		"Mon 24:00-04:00",
		"Mon 22:60-04:00",
		"Mon 25:00-04:00",
		"Mon 22:00-22:00",
		"Mon 22:00-04:000",
		"Mon,22:00-04:00",
		"Mon-22:00-04:00",
		"Montag 22:00-04:00",
		"Monday 22:00-04:00",
		"Xyz 22:00-04:00",
		"Mon Tue 22:00-04:00",
		"Mon 22:00-04:00 Tue",
		"Mon 22:00-04:00,05:00-06:00",
		"Mon 22:00-04:00;;",
		"Mon 22:00-04:00x",
		"Mon 22-04",
		"Mon 22:00–04:00",
		"-1:00-02:00",
		"24:00-24:00",
		"Mon, 01:00-02:00",
		"Mon-Fri-Sun 01:00-02:00",
		"01:00-02:00\n",
	};
	struct windows w = { .count = 99 };
	char many[1100] = "";

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (windows_parse(bad[i], &w) != -ERR_SYNTAX)
			fail_msg("«%s» was taken", bad[i]);
	for (size_t i = 0; i < WINDOWS_MAX; i++)
		memcpy(many + 12 * i, "01:00-02:00;", 13);
	assert_int_equal(windows_parse(many, &w), 0);
	assert_int_equal(w.count, WINDOWS_MAX);
	memcpy(many + 12 * WINDOWS_MAX, "01:00-02:00;", 13);
	assert_int_equal(windows_parse(many, &w), -ERR_TOO_LARGE);
	memset(many, ' ', sizeof(many) - 1);
	assert_int_equal(windows_parse(many, &w), -ERR_TOO_LARGE);
	assert_int_equal(w.count, WINDOWS_MAX);
}

/* When the windows are open, to the second, from `from` on. */
struct span {
	const char *opens, *closes;
};

static void expect_spans(const char *zone, const char *text, const char *from, const struct span *spans,
			 size_t count)
{
	CLEANUP(zone_freep)
	struct zone *z = loaded(zone);
	struct windows w = parsed(text);
	int64_t now = at(from);

	for (size_t i = 0; i < count; i++) {
		int64_t opens = 0, closes = 0;
		char got_opens[TIMESTAMP_LEN + 1], got_closes[TIMESTAMP_LEN + 1];

		assert_int_equal(windows_next(&w, z, now, &opens, &closes), 0);
		timestamp_format(got_opens, opens);
		timestamp_format(got_closes, closes);
		if (strcmp(got_opens, spans[i].opens) != 0 || strcmp(got_closes, spans[i].closes) != 0)
			fail_msg("%s %s: %s to %s, not %s to %s", zone, text, got_opens, got_closes,
				 spans[i].opens, spans[i].closes);
		assert_false(windows_contain(&w, z, opens - 1));
		assert_true(windows_contain(&w, z, opens));
		assert_true(windows_contain(&w, z, closes - 1));
		assert_false(windows_contain(&w, z, closes));
		now = closes;
	}
}
#define EXPECT(zone, text, from, ...)                                                                             \
	do {                                                                                                      \
		static const struct span spans_[] = { __VA_ARGS__ };                                              \
		expect_spans(zone, text, from, spans_, ARRAY_LEN(spans_));                                        \
	} while (0)

static void test_ordinary_weeks(void **state)
{
	(void) state;
	/* 2026-06-15 is a Monday; Berlin is two hours ahead. The last one begins on Friday and ends on Saturday. */
	EXPECT("Europe/Berlin", "Mon,Fri 22:00-04:00", "2026-06-15T00:00:00Z",
	       { "2026-06-15T20:00:00Z", "2026-06-16T02:00:00Z" },
	       { "2026-06-19T20:00:00Z", "2026-06-20T02:00:00Z" },
	       { "2026-06-22T20:00:00Z", "2026-06-23T02:00:00Z" });
	EXPECT("Asia/Kathmandu", "Wed 00:00-24:00", "2026-06-15T00:00:00Z",
	       { "2026-06-16T18:15:00Z", "2026-06-17T18:15:00Z" });
	/* A year's end. */
	EXPECT("America/New_York", "Thu 23:30-00:30", "2026-12-28T00:00:00Z",
	       { "2027-01-01T04:30:00Z", "2027-01-01T05:30:00Z" });
	/* Several: the next one counts, in whatever order they stand. */
	EXPECT("Europe/Berlin", "Wed 10:00-11:00; Mon 10:00-11:00; Tue 10:00-11:00", "2026-06-15T00:00:00Z",
	       { "2026-06-15T08:00:00Z", "2026-06-15T09:00:00Z" },
	       { "2026-06-16T08:00:00Z", "2026-06-16T09:00:00Z" },
	       { "2026-06-17T08:00:00Z", "2026-06-17T09:00:00Z" });
}

static void test_when_one_is_open_the_answer_is_now(void **state)
{
	CLEANUP(zone_freep)
	struct zone *z = loaded("Europe/Berlin");
	struct windows w = parsed("22:00-04:00; 02:00-06:00"), none = { .count = 0 };
	int64_t opens = 0, closes = 0, now = at("2026-06-16T00:30:00Z"); /* 02:30 in Berlin */

	(void) state;
	assert_int_equal(windows_next(&w, z, now, &opens, &closes), 0);
	assert_true(opens == now);
	assert_true(closes == at("2026-06-16T04:00:00Z")); /* the last of those open */
	assert_int_equal(windows_next(&w, z, now, &opens, NULL), 0);
	assert_int_equal(windows_next(&none, z, now, &opens, NULL), -ENOENT);
	assert_false(windows_contain(&none, z, now));
	assert_int_equal(windows_next(&w, z, INT64_MAX, &opens, NULL), -ERR_FIELD_VALUE);
	assert_false(windows_contain(&w, z, INT64_MAX));
}

/* Berlin, 2026-03-29: 02:00 to 03:00 does not exist (01:00 UTC). */
static void test_skipped_hours(void **state)
{
	(void) state;
	EXPECT("Europe/Berlin", "02:30-04:00", "2026-03-28T12:00:00Z",
	       { "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z" },
	       { "2026-03-30T00:30:00Z", "2026-03-30T02:00:00Z" });
	EXPECT("Europe/Berlin", "01:00-02:30", "2026-03-28T12:00:00Z",
	       { "2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z" });
	EXPECT("Europe/Berlin", "22:00-04:00", "2026-03-28T12:00:00Z",
	       { "2026-03-28T21:00:00Z", "2026-03-29T02:00:00Z" }); /* an hour shorter */
	EXPECT("Europe/Berlin", "02:15-02:45", "2026-03-28T12:00:00Z",
	       { "2026-03-30T00:15:00Z", "2026-03-30T00:45:00Z" }); /* not on that day */
	EXPECT("Europe/Berlin", "Sun 02:15-02:45", "2026-03-28T12:00:00Z",
	       { "2026-04-05T00:15:00Z", "2026-04-05T00:45:00Z" }); /* not in that week */
	EXPECT("Europe/Berlin", "02:00-03:00", "2026-03-28T12:00:00Z",
	       { "2026-03-30T00:00:00Z", "2026-03-30T01:00:00Z" });
	/* New York, 2026-03-08, at 07:00 UTC; Lord Howe jumps by half an hour: 2026-10-04 at 02:00 to 02:30. */
	EXPECT("America/New_York", "Sun 02:30-03:30", "2026-03-07T12:00:00Z",
	       { "2026-03-08T07:00:00Z", "2026-03-08T07:30:00Z" });
	EXPECT("Australia/Lord_Howe", "02:15-02:45", "2026-10-03T12:00:00Z",
	       { "2026-10-03T15:30:00Z", "2026-10-03T15:45:00Z" });
}

/* Berlin, 2026-10-25: 02:00 to 03:00 is there twice (00:00 and 01:00 UTC). */
static void test_repeated_hours(void **state)
{
	(void) state;
	EXPECT("Europe/Berlin", "02:30-04:00", "2026-10-24T12:00:00Z",
	       { "2026-10-25T00:30:00Z", "2026-10-25T03:00:00Z" },
	       { "2026-10-26T01:30:00Z", "2026-10-26T03:00:00Z" });
	EXPECT("Europe/Berlin", "22:00-02:30", "2026-10-24T12:00:00Z",
	       { "2026-10-24T20:00:00Z", "2026-10-25T00:30:00Z" },
	       { "2026-10-25T21:00:00Z", "2026-10-26T01:30:00Z" });
	EXPECT("Europe/Berlin", "02:15-02:45", "2026-10-24T12:00:00Z",
	       { "2026-10-25T00:15:00Z", "2026-10-25T00:45:00Z" },
	       { "2026-10-26T01:15:00Z", "2026-10-26T01:45:00Z" });
	EXPECT("Europe/Berlin", "22:00-04:00", "2026-10-24T12:00:00Z",
	       { "2026-10-24T20:00:00Z", "2026-10-25T03:00:00Z" }); /* an hour longer */
	EXPECT("Europe/Berlin", "02:00-03:00", "2026-10-24T12:00:00Z",
	       { "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z" });
	EXPECT("America/New_York", "Sun 01:30-03:00", "2026-10-31T12:00:00Z",
	       { "2026-11-01T05:30:00Z", "2026-11-01T08:00:00Z" });
	EXPECT("Australia/Lord_Howe", "01:45-02:15", "2026-04-04T12:00:00Z",
	       { "2026-04-04T14:45:00Z", "2026-04-04T15:45:00Z" },
	       { "2026-04-05T15:15:00Z", "2026-04-05T15:45:00Z" });
	/* Casablanca leaves its hour for Ramadan: 2026-02-15 at 03:00 back to 02:00, 2026-03-22 at 02:00 to 03:00. */
	EXPECT("Africa/Casablanca", "Sun 02:30-04:00", "2026-02-14T12:00:00Z",
	       { "2026-02-15T01:30:00Z", "2026-02-15T04:00:00Z" });
	EXPECT("Africa/Casablanca", "Sun 02:30-04:00", "2026-03-21T12:00:00Z",
	       { "2026-03-22T02:00:00Z", "2026-03-22T03:00:00Z" });
}

/* Apia went over the date line: the whole Friday of 2011-12-30 does not exist (10:00 UTC). */
static void test_a_skipped_day(void **state)
{
	(void) state;
	EXPECT("Pacific/Apia", "Fri 00:00-24:00", "2011-12-29T12:00:00Z",
	       { "2012-01-05T10:00:00Z", "2012-01-06T10:00:00Z" });
	EXPECT("Pacific/Apia", "Thu 22:00-04:00", "2011-12-29T12:00:00Z",
	       { "2011-12-30T08:00:00Z", "2011-12-30T10:00:00Z" },
	       { "2012-01-05T08:00:00Z", "2012-01-05T14:00:00Z" });
	EXPECT("Pacific/Apia", "Fri 22:00-04:00", "2011-12-29T12:00:00Z",
	       { "2011-12-30T10:00:00Z", "2011-12-30T14:00:00Z" });
	EXPECT("Pacific/Apia", "Sat 09:00-10:00", "2011-12-29T12:00:00Z",
	       { "2011-12-30T19:00:00Z", "2011-12-30T20:00:00Z" });
}

/* Minute by minute over both jumps of a year: next, contains and a simple count agree. */
static void test_next_and_contains_agree(void **state)
{
	static const char *const zones[] = { "Europe/Berlin",	  "America/New_York", "Australia/Lord_Howe",
					     "Africa/Casablanca", "America/Nuuk",     "Antarctica/Troll" };
	static const char *const texts[] = { "02:15-02:45", "Sun 01:30-03:10; 23:00-00:30",
					     "Sat-Sun 22:00-02:30" };
	static const char *const starts[] = { "2026-02-13T00:00:00Z", "2026-03-07T00:00:00Z",
					      "2026-03-28T00:00:00Z", "2026-10-03T00:00:00Z",
					      "2026-10-24T00:00:00Z" };

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(zones); i++) {
		CLEANUP(zone_freep)
		struct zone *z = loaded(zones[i]);

		for (size_t k = 0; k < ARRAY_LEN(texts) * ARRAY_LEN(starts); k++) {
			struct windows w = parsed(texts[k / ARRAY_LEN(starts)]);
			int64_t from = at(starts[k % ARRAY_LEN(starts)]), promised = 0, closes = 0;

			for (int64_t utc = from; utc < from + 3 * 86400; utc += 60) {
				bool open = windows_contain(&w, z, utc);
				int64_t opens = 0;

				assert_int_equal(windows_next(&w, z, utc, &opens, &closes), 0);
				assert_true(opens >= utc && closes > opens);
				assert_int_equal(open, opens == utc);
				if (utc > from && promised > utc - 60 && promised <= utc)
					assert_true(open); /* what was announced a minute ago */
				if (utc > from && promised > utc)
					assert_true(opens == promised);
				promised = opens;
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_texts_that_are_windows),
		cmocka_unit_test(test_texts_that_are_none),
		cmocka_unit_test(test_ordinary_weeks),
		cmocka_unit_test(test_when_one_is_open_the_answer_is_now),
		cmocka_unit_test(test_skipped_hours),
		cmocka_unit_test(test_repeated_hours),
		cmocka_unit_test(test_a_skipped_day),
		cmocka_unit_test(test_next_and_contains_agree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
