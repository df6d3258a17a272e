/* When somebody is on duty: zones, summer time, holidays, several teams. */
#include "base/err.h"
#include "base/timestamp.h"
#include "conf/conf.h"
#include "os/os.h"
#include "server-stub/rollout/staffed.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct staffed *calendar(const char *text)
{
	struct conf_error e = { "" };
	struct staffed *s = NULL;

	if (staffed_parse(&os_posix, text, strlen(text), "calendar.yaml", &s, &e) < 0)
		fail_msg("%s", e.text);
	return s;
}

static void expect(const struct staffed *s, const char *at, const char *from, const char *until)
{
	char stamp[2][TIMESTAMP_LEN + 1];
	int64_t utc, a = 0, b = 0;

	assert_int_equal(timestamp_parse(at, &utc), 0);
	if (!from) {
		assert_int_equal(staffed_next(s, utc, &a, &b), -ENOENT);
		return;
	}
	assert_int_equal(staffed_next(s, utc, &a, &b), 0);
	timestamp_format(stamp[0], a);
	timestamp_format(stamp[1], b);
	if (strcmp(stamp[0], from) != 0 || strcmp(stamp[1], until) != 0)
		fail_msg("at %s: from %s until %s", at, stamp[0], stamp[1]);
}

static void working_hours_follow_the_clock_there(void **state)
{
	struct staffed *s =
		calendar("zone: Europe/Oslo\nhours: Mon-Fri 08:00-17:00\nholidays: [2026-12-25, 2027-01-01]\n");

	(void) state;
	/* Winter, a Friday; then the weekend. */
	expect(s, "2026-11-27T06:59:59Z", "2026-11-27T07:00:00Z", "2026-11-27T16:00:00Z");
	expect(s, "2026-11-27T12:00:00Z", "2026-11-27T12:00:00Z", "2026-11-27T16:00:00Z");
	expect(s, "2026-11-27T16:00:00Z", "2026-11-30T07:00:00Z", "2026-11-30T16:00:00Z");
	/* Summer time begins on the 29th of March: the same hours are an hour earlier. */
	expect(s, "2026-03-27T17:00:00Z", "2026-03-30T06:00:00Z", "2026-03-30T15:00:00Z");
	/* And ends on the 25th of October. */
	expect(s, "2026-10-23T16:00:00Z", "2026-10-26T07:00:00Z", "2026-10-26T16:00:00Z");
	/* Christmas is a Friday that year: from Thursday evening on to Monday. */
	expect(s, "2026-12-24T16:00:00Z", "2026-12-28T07:00:00Z", "2026-12-28T16:00:00Z");
	expect(s, "2026-12-25T12:00:00Z", "2026-12-28T07:00:00Z", "2026-12-28T16:00:00Z");
	staffed_free(s);
}

static void a_holiday_ends_a_night_shift(void **state)
{
	struct staffed *s =
		calendar("zone: Europe/Oslo\nhours: 22:00-06:00\nholidays: [2026-12-25, 2026-12-26]\n");

	(void) state;
	expect(s, "2026-12-24T21:30:00Z", "2026-12-24T21:30:00Z", "2026-12-24T23:00:00Z");
	/* The shift that began on the holiday goes on when it has ended. */
	expect(s, "2026-12-24T23:00:00Z", "2026-12-26T23:00:00Z", "2026-12-27T05:00:00Z");
	staffed_free(s);
}

static void one_team_after_the_other(void **state)
{
	struct staffed *s =
		calendar("teams:\n  - {name: oslo, zone: Europe/Oslo, hours: Mon-Fri 08:00-17:00}\n"
			 "  - {zone: Asia/Tokyo, hours: Mon-Fri 09:00-18:00, holidays: [2026-11-23]}\n");

	(void) state;
	/* Tokyo from midnight to 9 by UTC, Oslo from 7 to 16. */
	expect(s, "2026-11-24T00:00:00Z", "2026-11-24T00:00:00Z", "2026-11-24T09:00:00Z");
	expect(s, "2026-11-24T08:00:00Z", "2026-11-24T08:00:00Z", "2026-11-24T16:00:00Z");
	expect(s, "2026-11-24T16:00:00Z", "2026-11-25T00:00:00Z", "2026-11-25T09:00:00Z");
	expect(s, "2026-11-22T20:00:00Z", "2026-11-23T07:00:00Z", "2026-11-23T16:00:00Z");
	staffed_free(s);
}

static void always_but_for_holidays(void **state)
{
	struct staffed *s = calendar("zone: UTC\nhours: 00:00-24:00\nholidays: [2028-02-29]\n");

	(void) state;
	expect(s, "2028-02-28T12:00:00Z", "2028-02-28T12:00:00Z", "2028-02-29T00:00:00Z");
	expect(s, "2028-02-29T12:00:00Z", "2028-03-01T00:00:00Z", "2028-03-02T00:00:00Z");
	staffed_free(s);
}

static void nobody_within_reach(void **state)
{
	char text[4096] = "zone: UTC\nhours: 08:00-17:00\nholidays: [";
	struct staffed *s;

	(void) state;
	for (int day = 1; day <= 28; day++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "2026-02-%02d, ", day);
	snprintf(text + strlen(text), sizeof(text) - strlen(text), "2026-03-01]\n");
	s = calendar(text);
	expect(s, "2026-02-01T00:00:00Z", "2026-03-02T08:00:00Z", "2026-03-02T17:00:00Z");
	staffed_free(s);
	/* Hours of which the clock jumps over every one there is. */
	s = calendar("zone: Europe/Oslo\nhours: Sun 02:15-02:45\nholidays: [2026-03-22, 2026-04-05]\n");
	expect(s, "2026-03-22T00:00:00Z", "2026-04-12T00:15:00Z", "2026-04-12T00:45:00Z");
	staffed_free(s);
}

static void a_bad_calendar_is_complained_of(void **state)
{
	static const struct {
		const char *text, *expected;
	} rows[] = {
		{ "hours: 08:00-17:00\n", "zone" },
		{ "zone: Europe/Oslo\n", "hours" },
		{ "{zone: Europe/Atlantis, hours: 08:00-17:00}\n", "like Europe/Oslo" },
		{ "{zone: ../../etc/passwd, hours: 08:00-17:00}\n", "like Europe/Oslo" },
		{ "{zone: UTC, hours: nine to five}\n", "expected hours" },
		{ "{zone: UTC, hours: '08:00-17:00', holidays: 2026-12-25}\n", "a list" },
		{ "{zone: UTC, hours: '08:00-17:00', holidays: [2026-02-29]}\n", "expected a day" },
		{ "{zone: UTC, hours: '08:00-17:00', holidays: [25.12.2026]}\n", "expected a day" },
		{ "{zone: UTC, hours: '08:00-17:00', staff: 2}\n", "staff" },
		{ "{teams: []}\n", "list of 1" },
		{ "{teams: [oslo]}\n", "expected a team" },
		{ "{teams: [{zone: UTC, hours: '08:00-17:00', at: x}]}\n", "at" },
		{ "{}\n", "zone" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct conf_error e = { "" };
		struct staffed *s = NULL;

		if (staffed_parse(&os_posix, rows[i].text, strlen(rows[i].text), "calendar.yaml", &s, &e) !=
			    -ERR_CONFIG ||
		    !strstr(e.text, "calendar.yaml:") || !strstr(e.text, rows[i].expected))
			fail_msg("%s: %s", rows[i].text, e.text);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(working_hours_follow_the_clock_there),
		cmocka_unit_test(a_holiday_ends_a_night_shift),
		cmocka_unit_test(one_team_after_the_other),
		cmocka_unit_test(always_but_for_holidays),
		cmocka_unit_test(nobody_within_reach),
		cmocka_unit_test(a_bad_calendar_is_complained_of),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
