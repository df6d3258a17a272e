/* Prometheus text, sums and rates over a selector, and bounds by the value before the swap. */
#include "agent/probe/metric.h"
#include "agent/probe/probe.h"
#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char text[] = "# HELP http_requests_total Requests.\n"
			   "# TYPE http_requests_total counter\n"
			   "http_requests_total{code=\"200\",method=\"GET\"} 1000 1395066363000\n"
			   "http_requests_total{code=\"200\",method=\"POST\"} 27\n"
			   "http_requests_total{ code = \"503\" , path=\"a\\\\b\\\"c\\n,}\" } 3\n"
			   "http_requests_total_created 1.7e9\n"
			   "\n"
			   "rpc{q=\"0.5\"} NaN\r\n"
			   "rpc{q=\"0.9\"} 4.5e-3\r\n"
			   "big +Inf\n"
			   "traced_total 7 # {trace_id=\"x\"} 1.0\n"
			   "last_line 5";

static struct metric_sample read_text(const char *select, const char *of)
{
	struct selector s, o;
	struct metric_sample ret;

	assert_int_equal(selector_parse(select, &s), 0);
	if (of)
		assert_int_equal(selector_parse(of, &o), 0);
	assert_int_equal(metric_read(text, strlen(text), &s, of ? &o : NULL, &ret, NULL), 0);
	return ret;
}

static void test_sums_over_a_selector(void **state)
{
	struct metric_sample s = read_text("http_requests_total{code=~\"5..\"}", "http_requests_total");

	(void) state;
	assert_true(s.select == 3 && s.select_series == 1);
	assert_true(s.of == 1030 && s.of_series == 3);
	assert_true(read_text("http_requests_total{code=\"200\"}", NULL).select == 1027);
	assert_true(read_text("http_requests_total{path=\"a\\\\b\\\"c\\n,}\"}", NULL).select == 3);
	assert_int_equal(read_text("nothing_of_that_name", NULL).select_series, 0);
	assert_true(read_text("rpc", NULL).select == 4.5e-3); /* NaN does not count */
	assert_int_equal(read_text("rpc", NULL).select_series, 1);
	assert_true(read_text("big", NULL).select > 1e300);
	assert_true(read_text("traced_total", NULL).select == 7);
	assert_true(read_text("last_line", NULL).select == 5);
}

static void test_a_line_that_is_none_is_named(void **state)
{
	static const char *const bad[] = { "a",		  "a{} ",	  "a{b=\"c\" 1", "a{b=c} 1",
					   "a{b=\"c} 1",  "a{b=\"c\"}",	  "a x",	 "a 1x",
					   "{a=\"b\"} 1", "9a 1",	  "<html>",	 "a{b=\"c\"d=\"e\"} 1",
					   "a=1",	  "a{b=\"c\"}} 1" };
	struct selector s;

	(void) state;
	assert_int_equal(selector_parse("a", &s), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		char two[64];
		struct metric_sample ret = { .select = 99 };
		size_t line = 0;

		(void) snprintf(two, sizeof(two), "a 1\n%s\n", bad[i]);
		if (metric_read(two, strlen(two), &s, NULL, &ret, &line) != -ERR_SYNTAX || line != 2 ||
		    ret.select != 99)
			fail_msg("'%s' was taken", bad[i]);
	}
	assert_int_equal(metric_read("a 1\0 2\n", 7, &s, NULL, &(struct metric_sample){ 0 }, NULL), -ERR_SYNTAX);
}

static void test_limits(void **state)
{
	char *long_line = malloc(METRIC_LINE_MAX + 64), labels[4096] = "a{";
	struct metric_sample ret;
	struct selector s;

	(void) state;
	assert_non_null(long_line);
	assert_int_equal(selector_parse("a", &s), 0);
	memset(long_line, 'a', METRIC_LINE_MAX);
	long_line[METRIC_LINE_MAX] = '\0';
	assert_int_equal(metric_read(long_line, METRIC_LINE_MAX, &s, NULL, &ret, NULL), -ERR_TOO_LARGE);
	assert_int_equal(metric_read(long_line, METRIC_TEXT_MAX + 1, &s, NULL, &ret, NULL), -ERR_TOO_LARGE);
	free(long_line);
	for (int i = 0; i <= METRIC_LABELS_MAX; i++)
		(void) strcat(labels, "a=\"\",");
	(void) strcat(labels, "} 1");
	assert_int_equal(metric_read(labels, strlen(labels), &s, NULL, &ret, NULL), -ERR_SYNTAX);
}

/* --- over time --- */

/* The model owns its texts, so they are not constant. */
static char text_all[] = "all", text_errors[] = "errors", text_1[] = "1", text_2_5[] = "2.5", text_1_5[] = "1.5",
	    text_10[] = "10", text_0_5[] = "0.5", text_minus_5[] = "-5";

static void add(struct metric_window *w, uint64_t at_s, double select, double of)
{
	metric_window_add(w, at_s * 1000,
			  &(struct metric_sample){
				  .select = select, .of = of, .select_series = 1, .of_series = 1 });
}

static void test_a_gauge_is_the_mean_of_its_samples(void **state)
{
	struct metric_window w = { .count = 0 };
	struct release_metric m = { .min_samples = 3 };

	(void) state;
	add(&w, 0, 10, 0);
	add(&w, 1, 20, 0);
	assert_false(metric_window_value(&w, &m).enough);
	add(&w, 2, 60, 0);
	assert_true(metric_window_value(&w, &m).enough);
	assert_true(metric_window_value(&w, &m).value == 30);
	add(&w, 3, 10, 0); /* the newest three */
	assert_true(metric_window_value(&w, &m).value == 30);
}

static void test_a_rate_is_per_second(void **state)
{
	struct metric_window w = { .count = 0 };
	struct release_metric m = { .min_samples = 1, .rate = true };

	(void) state;
	add(&w, 0, 1000, 0);
	assert_false(metric_window_value(&w, &m).enough);
	add(&w, 10, 1050, 0);
	assert_true(metric_window_value(&w, &m).value == 5);
	add(&w, 20, 1060, 0); /* the newest interval that is enough */
	assert_true(metric_window_value(&w, &m).value == 1);
	m.min_samples = 2;
	assert_true(metric_window_value(&w, &m).value == 3);
}

static void test_a_ratio_waits_for_its_samples(void **state)
{
	struct metric_window w = { .count = 0 };
	struct release_metric m = { .min_samples = 100, .of = text_all };

	(void) state;
	add(&w, 0, 7, 1000);
	add(&w, 10, 8, 1040);
	assert_false(metric_window_value(&w, &m).enough);
	assert_true(metric_window_value(&w, &m).samples == 40);
	add(&w, 20, 12, 1100);
	assert_true(metric_window_value(&w, &m).enough);
	assert_true(metric_window_value(&w, &m).value == 0.05);
	/* It started again: counters count from 0. */
	add(&w, 30, 10, 200);
	assert_true(metric_window_value(&w, &m).enough);
	assert_true(metric_window_value(&w, &m).value == 0.05);
}

/* However long it runs, the window holds and still reaches back far enough for slow traffic. */
static void test_a_long_watch_keeps_a_long_window(void **state)
{
	struct metric_window w = { .count = 0 };
	struct release_metric m = { .min_samples = 500, .of = text_all };

	(void) state;
	for (uint64_t i = 0; i <= 1000; i++)
		add(&w, i * 10, (double) i / 10, (double) i);
	assert_true(w.count <= METRIC_POINTS_MAX);
	assert_true(metric_window_value(&w, &m).enough);
	assert_true(metric_window_value(&w, &m).value > 0.099 && metric_window_value(&w, &m).value < 0.101);
}

/* --- bounds --- */

static enum run_end judge(struct release_metric m, double value, bool enough, const char *before, const char *says)
{
	CLEANUP(buf_done)
	struct buf detail = BUF_INIT(PROBE_DETAIL_MAX);
	struct metric_value v = { .value = value, .samples = 42, .enough = enough };
	enum run_end end;

	m.select = text_errors;
	end = metric_judge(&m, &v, before, &detail);
	if (!strstr(buf_str(&detail), says))
		fail_msg("\"%s\" does not hold \"%s\"", buf_str(&detail), says);
	return end;
}

static void test_bounds(void **state)
{
	struct release_metric absolute = { .min = text_1, .max = text_2_5 },
			      relative = { .max_of_before = text_1_5 },
			      both = { .max = text_10, .min_of_before = text_0_5 },
			      below_zero = { .min = text_minus_5 };

	(void) state;
	assert_int_equal(judge(absolute, 2.5, true, NULL, "is 2.5 (42 samples)"), RUN_HELD);
	assert_int_equal(judge(absolute, 2.6, true, NULL, "must be at most 2.5"), RUN_FAILED);
	assert_int_equal(judge(absolute, 0.9, true, NULL, "must be at least 1"), RUN_FAILED);
	assert_int_equal(judge(absolute, 99, false, NULL, "42 samples so far"), RUN_INCONCLUSIVE);
	assert_int_equal(judge(relative, 0.03, true, "0.02", "before the swap 0.02"), RUN_HELD);
	assert_int_equal(judge(relative, 0.031, true, "0.02", "before the swap it was 0.02"), RUN_FAILED);
	assert_int_equal(judge(relative, 0.02, true, "", "is not known"), RUN_INCONCLUSIVE);
	assert_int_equal(judge(relative, 0.02, true, NULL, "is not known"), RUN_INCONCLUSIVE);
	assert_int_equal(judge(relative, 0, true, "0", "is 0"), RUN_HELD);
	assert_int_equal(judge(relative, 0.001, true, "0", "must be at most 1.5 times"), RUN_FAILED);
	assert_int_equal(judge(relative, 1.0 / 3, true, "0.222222222", "is 0.333333"), RUN_HELD);
	assert_int_equal(judge(both, 4, true, "10", "must be at least 0.5 times"), RUN_FAILED);
	assert_int_equal(judge(both, 4, true, NULL, "is 4"), RUN_HELD); /* what can be judged is */
	assert_int_equal(judge(both, 11, true, NULL, "at most 10"), RUN_FAILED);
	assert_int_equal(judge(below_zero, -4, true, NULL, "is -4"), RUN_HELD);
	assert_int_equal(judge(below_zero, -6, true, NULL, "at least -5"), RUN_FAILED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sums_over_a_selector),
		cmocka_unit_test(test_a_line_that_is_none_is_named),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_a_gauge_is_the_mean_of_its_samples),
		cmocka_unit_test(test_a_rate_is_per_second),
		cmocka_unit_test(test_a_ratio_waits_for_its_samples),
		cmocka_unit_test(test_a_long_watch_keeps_a_long_window),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
