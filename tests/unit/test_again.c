/*
 * agent/phase/again.h: what waits does not wait for longer because somebody sets the clock.
 */
#include "agent/phase/again.h"

#include "agent/phase/node.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { NOW = 1800000000, YEARS = 10 * 365 * 86400 };

static int64_t real_s;
static uint64_t boot_ms;

static int64_t clock_real(const struct os *os)
{
	(void) os;
	return real_s;
}

static uint64_t clock_boot_ms(const struct os *os)
{
	(void) os;
	return boot_ms;
}

static int set_up(void **state)
{
	static struct os os;
	static struct node n;

	os = os_posix;
	os.clock_real = clock_real;
	os.clock_boot_ms = clock_boot_ms;
	n = (struct node){ .os = &os, .state = calloc(1, sizeof(*n.state)) };
	if (!n.state)
		return -1;
	state_init(n.state);
	real_s = NOW;
	boot_ms = 5000;
	*state = &n;
	return 0;
}

static int tear_down(void **state)
{
	struct node *n = *state;

	state_done(n->state);
	free(n->state);
	return 0;
}

static void pass(uint64_t seconds)
{
	real_s += (int64_t) seconds;
	boot_ms += seconds * 1000;
}

/* The state as the next process reads it. */
static void restart(struct node *n)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(1024 * 1024);

	assert_int_equal(state_encode(n->state, &text), 0);
	state_done(n->state);
	assert_int_equal(state_decode(text.data, text.len, n->state), 0);
}

static void what_did_not_fail_waits_for_nothing(void **state)
{
	assert_int_equal(again_in_ms(*state, NULL), 0);
}

static void a_pause_is_as_long_as_it_was_meant(void **state)
{
	struct node *n = *state;
	struct node_retry *retry = state_retry_add(n->state, "web", "1.1.0");

	again_note(n, retry, 60 * 1000);
	assert_in_range(again_in_ms(n, retry), 60 * 1000, 61 * 1000);
	assert_in_range(retry->not_before, NOW + 60, NOW + 61);
	pass(59);
	assert_true(again_in_ms(n, retry) > 0);
	pass(2);
	assert_int_equal(again_in_ms(n, retry), 0);
}

static void a_clock_put_back_keeps_nobody_waiting(void **state)
{
	struct node *n = *state;
	struct node_retry *retry = state_retry_add(n->state, "web", "1.1.0");

	real_s = (int64_t) NOW + YEARS;
	again_note(n, retry, 60 * 1000);
	pass(10);
	real_s = NOW;
	assert_in_range(again_in_ms(n, retry), 50 * 1000, 51 * 1000);
	pass(51);
	assert_int_equal(again_in_ms(n, retry), 0);
}

static void a_clock_put_forward_makes_nobody_hurry(void **state)
{
	struct node *n = *state;
	struct node_retry *retry = state_retry_add(n->state, "web", "1.1.0");

	real_s = 86400;
	again_note(n, retry, 60 * 1000);
	real_s = NOW;
	assert_in_range(again_in_ms(n, retry), 60 * 1000, 61 * 1000);
}

static void the_rest_is_kept_over_a_restart(void **state)
{
	struct node *n = *state;

	again_note(n, state_retry_add(n->state, "web", "1.1.0"), 600 * 1000);
	pass(100);
	restart(n);
	boot_ms = 1000; /* and of the machine */
	assert_in_range(again_in_ms(n, state_retry(n->state, "web", "1.1.0")), 500 * 1000, 502 * 1000);
	pass(502);
	assert_int_equal(again_in_ms(n, state_retry(n->state, "web", "1.1.0")), 0);
}

static void a_clock_put_back_over_a_restart_costs_one_more_pause(void **state)
{
	struct node *n = *state;

	real_s = (int64_t) NOW + YEARS;
	again_note(n, state_retry_add(n->state, "web", "1.1.0"), 600 * 1000);
	real_s = NOW;
	restart(n);
	assert_in_range(again_in_ms(n, state_retry(n->state, "web", "1.1.0")), 600 * 1000, 602 * 1000);
	/* And many restarts not many of them. */
	pass(400);
	restart(n);
	assert_in_range(again_in_ms(n, state_retry(n->state, "web", "1.1.0")), 200 * 1000, 202 * 1000);
}

static void what_an_older_agent_noted_is_bounded(void **state)
{
	struct node *n = *state;
	struct node_retry *retry = state_retry_add(n->state, "web", "1.1.0");

	retry->not_before = NOW + 60;
	assert_in_range(again_in_ms(n, retry), 60 * 1000, 61 * 1000);
	retry->due_ms = 0;
	retry->not_before = INT64_MAX;
	assert_in_range(again_in_ms(n, retry), 6 * 3600 * 1000 - 1, 6 * 3600 * 1000 + 1000);
	retry->due_ms = 0;
	retry->not_before = INT64_MIN;
	assert_in_range(again_in_ms(n, retry), 0, 1);
}

static void a_hold_is_as_long_as_somebody_said(void **state)
{
	struct node *n = *state;

	assert_false(again_is_held(n));
	real_s = (int64_t) NOW + YEARS;
	n->state->hold_until = real_s + 7200;
	n->state->hold_s = 7200;
	assert_true(again_is_held(n));
	real_s = NOW;
	restart(n);
	assert_true(again_is_held(n));
	assert_int_equal(n->state->hold_until, NOW + 7200);
	pass(7199);
	assert_true(again_is_held(n));
	pass(2);
	assert_false(again_is_held(n));
	assert_int_equal(n->state->hold_until, NOW + 7200); /* when it ended stays readable */
}

static void a_rest_is_never_more_than_the_whole(void **state)
{
	(void) state;
	assert_int_equal(again_rest_s(NOW + 10, NOW, 60), 10);
	assert_int_equal(again_rest_s(NOW + 61, NOW, 60), 60);
	assert_int_equal(again_rest_s(NOW, NOW, 60), 0);
	assert_int_equal(again_rest_s(NOW - 1, NOW, 60), 0);
	assert_int_equal(again_rest_s(INT64_MAX, INT64_MIN, 60), 60);
	assert_int_equal(again_rest_s(INT64_MIN, INT64_MAX, 60), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_did_not_fail_waits_for_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_pause_is_as_long_as_it_was_meant, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_clock_put_back_keeps_nobody_waiting, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_clock_put_forward_makes_nobody_hurry, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_rest_is_kept_over_a_restart, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_clock_put_back_over_a_restart_costs_one_more_pause, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(what_an_older_agent_noted_is_bounded, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_hold_is_as_long_as_somebody_said, set_up, tear_down),
		cmocka_unit_test(a_rest_is_never_more_than_the_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
