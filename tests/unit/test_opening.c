/* Each sentence of model/opening.h: windows and blackouts at given moments. */
#include "base/err.h"
#include "base/timestamp.h"
#include "json/json.h"
#include "model/opening.h"
#include "os/os.h"
#include "zone/zone.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct json *json_of(const char *text)
{
	char quoted[1024];
	struct json *j = NULL;
	size_t n = 0;

	for (; text[n]; n++)
		quoted[n] = text[n] == '\'' ? '"' : text[n];
	assert_int_equal(json_parse(quoted, n, &json_limits_default, &j), 0);
	return j;
}

/* `text` is an object with window and blackout. */
static int parse(const char *text, struct opening *ret, char *error, size_t size)
{
	CLEANUP(json_freep)
	struct json *j = json_of(text);

	return opening_parse(json_get(j, "window"), json_get(j, "blackout"), ret, error, size);
}

static struct opening parsed(const char *text)
{
	struct opening o = { .has_window = false };
	char error[200] = "";

	if (parse(text, &o, error, sizeof(error)) < 0)
		fail_msg("%s: %s", text, error);
	return o;
}

static struct zone *zone(const char *name)
{
	struct zone *z = NULL;

	if (strcmp(name, "UTC") == 0)
		assert_int_equal(zone_load(&os_posix, name, &z), 0);
	else
		assert_int_equal(zone_load_from(&os_posix, TESTS_DIR "/unit/data/zoneinfo/fat", name, &z), 0);
	return z;
}

static int64_t at(const char *stamp)
{
	int64_t t = 0;

	assert_int_equal(timestamp_parse(stamp, &t), 0);
	return t;
}

static void judged(const char *text, const char *zone_name, const char *now, bool window, bool blackout,
		   const char *opens)
{
	struct opening o = parsed(text);
	struct zone *z = zone_name ? zone(zone_name) : NULL;
	struct opening_state s = opening_judge(&o, z, at(now));
	char have[TIMESTAMP_LEN + 1] = "never";

	if (s.opens)
		timestamp_format(have, s.opens);
	if (s.in_window != window || s.in_blackout != blackout || strcmp(have, opens) != 0)
		fail_msg("%s at %s: window %d blackout %d opens %s", text, now, s.in_window, s.in_blackout, have);
	zone_free(z);
}

static void test_without_either_it_is_always_open(void **state)
{
	(void) state;
	judged("{}", "UTC", "2026-11-21T09:30:00Z", true, false, "2026-11-21T09:30:00Z");
	judged("{}", NULL, "2026-11-21T09:30:00Z", true, false, "2026-11-21T09:30:00Z");
	judged("{'blackout':[]}", NULL, "2026-11-21T09:30:00Z", true, false, "2026-11-21T09:30:00Z");
}

/* 2026-11-21 is a Saturday; Berlin is an hour east of UTC then. */
static void test_a_window_is_read_in_the_nodes_own_time(void **state)
{
	static const char w[] = "{'window':'Mon-Fri 22:00-04:00; Sat,Sun 00:00-24:00'}";

	(void) state;
	judged(w, "UTC", "2026-11-20T21:30:00Z", false, false, "2026-11-20T22:00:00Z");
	judged(w, "Europe/Berlin", "2026-11-20T21:30:00Z", true, false, "2026-11-20T21:30:00Z");
	judged(w, "Europe/Berlin", "2026-11-20T20:59:59Z", false, false, "2026-11-20T21:00:00Z");
	judged(w, "Europe/Berlin", "2026-11-22T22:59:59Z", true, false, "2026-11-22T22:59:59Z");
	judged(w, "Europe/Berlin", "2026-11-22T23:00:00Z", false, false, "2026-11-23T21:00:00Z");
}

static void test_a_blackout_by_times(void **state)
{
	static const char b[] = "{'blackout':[{'from':'2026-12-24T00:00:00Z','until':'2026-12-27T00:00:00Z'}]}";

	(void) state;
	judged(b, NULL, "2026-12-23T23:59:59Z", true, false, "2026-12-23T23:59:59Z");
	judged(b, NULL, "2026-12-24T00:00:00Z", true, true, "2026-12-27T00:00:00Z");
	judged(b, NULL, "2026-12-26T23:59:59Z", true, true, "2026-12-27T00:00:00Z");
	judged(b, NULL, "2026-12-27T00:00:00Z", true, false, "2026-12-27T00:00:00Z");
}

static void test_a_blackout_by_windows(void **state)
{
	(void) state;
	judged("{'blackout':['Fri 12:00-24:00']}", "UTC", "2026-11-20T13:00:00Z", true, true,
	       "2026-11-21T00:00:00Z");
	/* two that follow each other are one */
	judged("{'blackout':['Fri 12:00-24:00','Sat 00:00-08:00']}", "UTC", "2026-11-20T13:00:00Z", true, true,
	       "2026-11-21T08:00:00Z");
}

static void test_it_opens_when_neither_stops(void **state)
{
	(void) state;
	/* the window opens within the blackout, which ends after it has closed: the next one */
	judged("{'window':'22:00-23:00','blackout':[{'from':'2026-11-21T00:00:00Z','until':'2026-11-21T23:30:00Z'}"
	       "]}",
	       "UTC", "2026-11-21T09:00:00Z", false, true, "2026-11-22T22:00:00Z");
	judged("{'window':'22:00-23:00','blackout':[{'from':'2026-11-21T00:00:00Z','until':'2026-11-21T22:30:00Z'}"
	       "]}",
	       "UTC", "2026-11-21T09:00:00Z", false, true, "2026-11-21T22:30:00Z");
	judged("{'window':'22:00-23:00','blackout':['00:00-24:00']}", "UTC", "2026-11-21T09:00:00Z", false, true,
	       "never");
}

static void test_without_a_zone_what_needs_one_is_closed(void **state)
{
	struct opening o;

	(void) state;
	judged("{'window':'00:00-24:00'}", NULL, "2026-11-21T09:00:00Z", false, false, "never");
	judged("{'blackout':['Mon 00:00-01:00']}", NULL, "2026-11-21T09:00:00Z", true, true, "never");
	o = parsed("{'blackout':[{'from':'2026-12-24T00:00:00Z','until':'2026-12-27T00:00:00Z'}]}");
	assert_false(opening_needs_zone(&o));
	o = parsed("{'blackout':['Mon 00:00-01:00']}");
	assert_true(opening_needs_zone(&o));
	o = parsed("{'window':'Mon 00:00-01:00'}");
	assert_true(opening_needs_zone(&o));
}

static void test_bad_ones_are_refused_with_a_sentence(void **state)
{
	static const struct {
		const char *text;
		int error;
		const char *sentence;
	} bad[] = {
		{ "{'window':7}", -ERR_FIELD_TYPE, "window: must be a text" },
		{ "{'window':'soon'}", -ERR_FIELD_VALUE, "window: must be windows" },
		{ "{'window':''}", -ERR_FIELD_VALUE, "window: must be windows" },
		{ "{'blackout':{}}", -ERR_FIELD_TYPE, "blackout: must be an array" },
		{ "{'blackout':['Mon 00:00-01:00',7]}", -ERR_FIELD_TYPE, "blackout[1]: must be a text" },
		{ "{'blackout':['xmas']}", -ERR_FIELD_VALUE, "blackout[0]: must be windows" },
		{ "{'blackout':[{'from':'2026-12-24T00:00:00Z'}]}", -ERR_FIELD_MISSING, "until is missing" },
		{ "{'blackout':[{'from':1,'until':'2026-12-24T00:00:00Z'}]}", -ERR_FIELD_TYPE,
		  "blackout[0].from: must be a time" },
		{ "{'blackout':[{'from':'2026-12-24T00:00:00+01:00','until':'2026-12-27T00:00:00Z'}]}",
		  -ERR_FIELD_VALUE, "blackout[0].from" },
		{ "{'blackout':[{'from':'2026-12-24T00:00:00Z','until':'2026-12-24T00:00:00Z'}]}",
		  -ERR_FIELD_VALUE, "until must be after from" },
		{ "{'blackout':['0','0','0','0','0','0','0','0','0','0','0','0','0','0','0','0','0']}",
		  -ERR_TOO_LARGE, "blackout: more than 16" },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct opening o = { .blackout_count = 77 };
		char error[200] = "";

		assert_int_equal(parse(bad[i].text, &o, error, sizeof(error)), bad[i].error);
		if (!strstr(error, bad[i].sentence))
			fail_msg("%s: '%s'", bad[i].text, error);
		assert_int_equal(o.blackout_count, 77); /* untouched */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_either_it_is_always_open),
		cmocka_unit_test(test_a_window_is_read_in_the_nodes_own_time),
		cmocka_unit_test(test_a_blackout_by_times),
		cmocka_unit_test(test_a_blackout_by_windows),
		cmocka_unit_test(test_it_opens_when_neither_stops),
		cmocka_unit_test(test_without_a_zone_what_needs_one_is_closed),
		cmocka_unit_test(test_bad_ones_are_refused_with_a_sentence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
