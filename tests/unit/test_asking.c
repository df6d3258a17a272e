/*
 * agent/local/asking.h: each sentence of it.
 */
#include "agent/local/asking.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { HOUR = 3600 * 1000, MINUTE = 60 * 1000, QUARTER = 15 * MINUTE };

static void once_connected_it_asks_within_a_minute(void **state)
{
	const uint64_t now = 10 * HOUR, due = now + 6 * HOUR;

	(void) state;
	/* It never did, or not for as long as it would without a broker. */
	for (int i = 0; i < 2; i++) {
		const uint64_t polled = i ? now - QUARTER : 0;

		assert_int_equal(asking_when_connected(due, now, polled, QUARTER, 0), now);
		assert_int_equal(asking_when_connected(due, now, polled, QUARTER, MINUTE - 1), now + MINUTE - 1);
		for (uint64_t random = 1; random != 0; random *= 3) {
			uint64_t at = asking_when_connected(due, now, polled, QUARTER, random);

			assert_true(at >= now && at < now + MINUTE);
			if (random > UINT64_MAX / 3)
				break;
		}
	}
	assert_int_equal(asking_when_connected(due, now, now - QUARTER + 1, QUARTER, 7), due);
	/* Where it is asked for more often than that, sooner. */
	assert_int_equal(asking_when_connected(due, now, 0, 1000, 1999), now + 999);
	/* What was due before stays due. */
	assert_int_equal(asking_when_connected(now + 5, now, 0, QUARTER, 1000), now + 5);
}

static void without_the_broker_it_asks_as_often_as_without_one(void **state)
{
	const uint64_t now = 10 * HOUR, due = now + 6 * HOUR;

	(void) state;
	assert_int_equal(asking_when_lost(due, now, QUARTER, 0), now + QUARTER);
	assert_int_equal(asking_when_lost(due, now, QUARTER, QUARTER / 10), now + QUARTER - QUARTER / 10);
	assert_int_equal(asking_when_lost(due, now, QUARTER, QUARTER / 10 + 1), now + QUARTER);
	assert_int_equal(asking_when_lost(now + 5, now, QUARTER, 0), now + 5);
}

static void whoever_missed_something_asks_within_half_a_minute(void **state)
{
	const uint64_t now = 10 * HOUR, due = now + 6 * HOUR, half = MINUTE / 2;

	(void) state;
	assert_int_equal(asking_when_missed(due, now, 0, 0), now);
	assert_int_equal(asking_when_missed(due, now, now - HOUR, half - 1), now + half - 1);
	assert_int_equal(asking_when_missed(due, now, now - HOUR, half), now);
	/* Not right behind the last question, whatever goes on. */
	assert_int_equal(asking_when_missed(due, now, now, 0), now + half);
	assert_int_equal(asking_when_missed(due, now, now - 1000, 7), now - 1000 + half + 7);
	/* What was due before stays due, and a flood moves nothing forward. */
	assert_int_equal(asking_when_missed(now + 5, now, 0, 0), now + 5);
	for (uint64_t at = due, i = 0; i < 100; i++) {
		at = asking_when_missed(at, now + i, now - HOUR, half - 1 - i % half);
		assert_int_equal(at, now + half - 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(once_connected_it_asks_within_a_minute),
		cmocka_unit_test(whoever_missed_something_asks_within_half_a_minute),
		cmocka_unit_test(without_the_broker_it_asks_as_often_as_without_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
