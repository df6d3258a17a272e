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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(once_connected_it_asks_within_a_minute),
		cmocka_unit_test(without_the_broker_it_asks_as_often_as_without_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
