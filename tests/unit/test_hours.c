#include "agent/probe/hours.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct hours h;

static int setup(void **state)
{
	(void) state;
	h = (struct hours){ .count = 0 };
	return 0;
}

static double mean(const struct hours_series *s, size_t i)
{
	return s->hours[i].sum / s->hours[i].samples;
}

static void values_weigh_by_what_stands_behind_them(void **state)
{
	(void) state;
	/* Two errors in a hundred requests, none in three hundred: half a percent, not one. */
	hours_add(&h, "web", "1.0.0", "errors", 100, 0.02, 100);
	hours_add(&h, "web", "1.0.0", "errors", 100, 0, 300);
	assert_int_equal(h.count, 1);
	assert_int_equal(h.series[0].count, 1);
	assert_true(fabs(mean(&h.series[0], 0) - 0.005) < 1e-12);
}

static void versions_and_names_are_kept_apart(void **state)
{
	(void) state;
	hours_add(&h, "web", "1.0.0", "errors", 100, 1, 1);
	hours_add(&h, "web", "1.1.0", "errors", 100, 2, 1);
	hours_add(&h, "web", "1.1.0", "memory", 100, 3, 1);
	hours_add(&h, "waf", "1.1.0", "memory", 100, 4, 1);
	assert_int_equal(h.count, 4);
	for (size_t i = 0; i < 4; i++)
		assert_true(fabs(mean(&h.series[i], 0) - (double) (i + 1)) < 1e-12);
}

static void the_newest_hours_are_kept_in_order(void **state)
{
	(void) state;
	for (int64_t hour = 1; hour <= 40; hour++)
		hours_add(&h, "web", "1.0.0", "errors", hour, (double) hour, 1);
	assert_int_equal(h.series[0].count, REPORT_METRIC_HOURS_MAX);
	for (size_t i = 0; i < REPORT_METRIC_HOURS_MAX; i++) {
		assert_int_equal(h.series[0].hours[i].hour, 40 - REPORT_METRIC_HOURS_MAX + 1 + (int64_t) i);
		assert_true(fabs(mean(&h.series[0], i) - (double) h.series[0].hours[i].hour) < 1e-12);
	}
	/* The clock was set back: into an hour that is kept, and before them all. */
	hours_add(&h, "web", "1.0.0", "errors", 35, 0, 1);
	hours_add(&h, "web", "1.0.0", "errors", 2, 0, 1);
	assert_int_equal(h.series[0].count, REPORT_METRIC_HOURS_MAX);
	for (size_t i = 1; i < REPORT_METRIC_HOURS_MAX; i++)
		assert_true(h.series[0].hours[i].hour > h.series[0].hours[i - 1].hour);
}

static void a_gap_is_filled_where_it_belongs(void **state)
{
	(void) state;
	hours_add(&h, "web", "1.0.0", "errors", 10, 1, 1);
	hours_add(&h, "web", "1.0.0", "errors", 14, 3, 1);
	hours_add(&h, "web", "1.0.0", "errors", 12, 2, 1);
	assert_int_equal(h.series[0].count, 3);
	assert_int_equal(h.series[0].hours[1].hour, 12);
	assert_true(fabs(mean(&h.series[0], 1) - 2) < 1e-12);
	assert_true(fabs(mean(&h.series[0], 2) - 3) < 1e-12);
}

static void no_number_and_nothing_behind_it_count_for_nothing(void **state)
{
	char longest[HOURS_VERSION_SIZE + 1];

	(void) state;
	memset(longest, '1', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	hours_add(&h, "web", "1.0.0", "errors", 100, NAN, 1);
	hours_add(&h, "web", "1.0.0", "errors", 100, INFINITY, 1);
	hours_add(&h, "web", "1.0.0", "errors", 100, 1, 0);
	hours_add(&h, "web", "1.0.0", "errors", 100, 1, NAN);
	hours_add(&h, "web", "1.0.0", "errors", 0, 1, 1); /* a clock in 1970 */
	hours_add(&h, "web", longest, "errors", 100, 1, 1);
	assert_int_equal(h.count, 0);
}

static void what_is_oldest_makes_room(void **state)
{
	char name[16];

	(void) state;
	for (int i = 0; i < REPORT_METRICS_MAX; i++) {
		snprintf(name, sizeof(name), "m%d", i);
		hours_add(&h, "web", "1.0.0", name, 100 + (i != 7), 1, 1);
	}
	assert_int_equal(h.count, REPORT_METRICS_MAX);
	hours_add(&h, "web", "1.0.0", "new", 101, 1, 1);
	assert_string_equal(h.series[7].name, "new");
	/* All are of this hour: what is one too many is not told. */
	hours_add(&h, "web", "1.0.0", "newer", 101, 1, 1);
	for (size_t i = 0; i < h.count; i++)
		assert_string_not_equal(h.series[i].name, "newer");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(values_weigh_by_what_stands_behind_them, setup),
		cmocka_unit_test_setup(versions_and_names_are_kept_apart, setup),
		cmocka_unit_test_setup(the_newest_hours_are_kept_in_order, setup),
		cmocka_unit_test_setup(a_gap_is_filled_where_it_belongs, setup),
		cmocka_unit_test_setup(no_number_and_nothing_behind_it_count_for_nothing, setup),
		cmocka_unit_test_setup(what_is_oldest_makes_room, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
