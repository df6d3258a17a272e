/*
 * server-stub/cli/canary.h: each sentence of it.
 */
#include "server-stub/cli/canary.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void what_is_kept_is_asked_for_now_and_then(void **state)
{
	struct canary c = { 0 };
	uint64_t now = 1000;

	(void) state;
	assert_int_equal(canary_step(&c, now), CANARY_NOTHING);
	canary_start(&c, now);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(canary_step(&c, now + CANARY_EVERY_MS - 1), CANARY_NOTHING);
		now += CANARY_EVERY_MS;
		assert_int_equal(canary_step(&c, now), CANARY_ASK);
		assert_int_equal(canary_step(&c, now), CANARY_NOTHING);
		now += CANARY_ANSWER_MS - 1;
		canary_heard(&c, now);
	}
}

static void what_does_not_come_is_lost(void **state)
{
	struct canary c = { 0 };

	(void) state;
	canary_start(&c, 0);
	assert_int_equal(canary_step(&c, CANARY_EVERY_MS), CANARY_ASK);
	assert_int_equal(canary_step(&c, CANARY_EVERY_MS + CANARY_ANSWER_MS - 1), CANARY_NOTHING);
	assert_int_equal(canary_step(&c, CANARY_EVERY_MS + CANARY_ANSWER_MS), CANARY_LOST);
	assert_int_equal(canary_step(&c, UINT64_MAX), CANARY_NOTHING);
	/* Too late, and nobody asked: no answer. */
	canary_heard(&c, CANARY_EVERY_MS + CANARY_ANSWER_MS + 1);
	assert_int_equal(canary_step(&c, UINT64_MAX), CANARY_NOTHING);
}

static void what_keeps_nothing_is_asked_ever_more_seldom(void **state)
{
	struct canary c = { 0 };
	uint64_t now = 0, wait = CANARY_EVERY_MS;

	(void) state;
	for (int i = 0; i < 12; i++) {
		canary_start(&c, now);
		assert_int_equal(canary_step(&c, now + wait - 1), CANARY_NOTHING);
		now += wait;
		assert_int_equal(canary_step(&c, now), CANARY_ASK);
		now += CANARY_ANSWER_MS;
		assert_int_equal(canary_step(&c, now), CANARY_LOST);
		wait = 2 * wait > CANARY_SELDOM_MS ? CANARY_SELDOM_MS : 2 * wait;
	}
	assert_int_equal(wait, CANARY_SELDOM_MS);
	/* It keeps again: as often as before. */
	canary_start(&c, now);
	assert_int_equal(canary_step(&c, now + wait), CANARY_ASK);
	canary_heard(&c, now + wait);
	assert_int_equal(canary_step(&c, now + wait + CANARY_EVERY_MS), CANARY_ASK);
	/* And a new connection is a new broker. */
	canary_stop(&c);
	assert_int_equal(canary_step(&c, UINT64_MAX), CANARY_NOTHING);
}

static void it_is_asked_as_often_as_somebody_wants(void **state)
{
	struct canary c = { .period_ms = 2000 };

	(void) state;
	for (int i = 0; i < 2; i++) {
		canary_start(&c, 0);
		assert_int_equal(canary_step(&c, 1999), CANARY_NOTHING);
		assert_int_equal(canary_step(&c, 2000), CANARY_ASK);
		canary_heard(&c, 2500);
		assert_int_equal(canary_step(&c, 4499), CANARY_NOTHING);
		assert_int_equal(canary_step(&c, 4500), CANARY_ASK);
		/* The answer has no more time than lies between two questions. */
		assert_int_equal(canary_step(&c, 6499), CANARY_NOTHING);
		assert_int_equal(canary_step(&c, 6500), CANARY_LOST);
		canary_start(&c, 6500);
		assert_int_equal(canary_step(&c, 10499), CANARY_NOTHING);
		assert_int_equal(canary_step(&c, 10500), CANARY_ASK);
		canary_stop(&c); /* a new connection is as the first was */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_kept_is_asked_for_now_and_then),
		cmocka_unit_test(what_does_not_come_is_lost),
		cmocka_unit_test(it_is_asked_as_often_as_somebody_wants),
		cmocka_unit_test(what_keeps_nothing_is_asked_ever_more_seldom),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
