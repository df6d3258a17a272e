#include "server-stub/cli/listening.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void it_listens_from_its_first_turn_on(void **state)
{
	struct listening l = { 0 };
	int64_t jump = 7;

	(void) state;
	for (int i = 0; i < 1000; i++)
		assert_int_equal(listening_turn(&l, 1000000 + i, 5000000 + (uint64_t) i * 1000, &jump),
				 LISTENING_ON);
	assert_int_equal(l.since, 1000000);
	assert_int_equal(jump, 7);
}

static void a_host_that_slept_listens_anew(void **state)
{
	struct listening l = { 0 };
	int64_t jump;

	(void) state;
	assert_int_equal(listening_turn(&l, 1000000, 5000, &jump), LISTENING_ON);
	assert_int_equal(listening_turn(&l, 1000000 + LISTENING_GAP_S, 5000 + LISTENING_GAP_S * 1000, &jump),
			 LISTENING_ON);
	assert_int_equal(l.since, 1000000);
	/* Both clocks went on through the night. */
	assert_int_equal(listening_turn(&l, 1030000, 30005000, &jump), LISTENING_AFTER_GAP);
	assert_int_equal(l.since, 1030000);
}

static void a_clock_that_is_set_is_told_once_each_way(void **state)
{
	struct listening l = { 0 };
	int64_t jump = 0;

	(void) state;
	assert_int_equal(listening_turn(&l, 1000000, 5000, &jump), LISTENING_ON);
	assert_int_equal(listening_turn(&l, 1000000 + 172801, 6000, &jump), LISTENING_CLOCK_SET);
	assert_int_equal(jump, 172800);
	assert_int_equal(l.since, 1172801);
	assert_int_equal(listening_turn(&l, 1172802, 7000, &jump), LISTENING_ON);
	assert_int_equal(listening_turn(&l, 1000003, 8000, &jump), LISTENING_CLOCK_SET);
	assert_int_equal(jump, -172800);
	assert_int_equal(l.since, 1000003);
	/* A virtual machine that stood still: its own clock knows nothing of it, the other is set. */
	assert_int_equal(listening_turn(&l, 1028803, 8000, &jump), LISTENING_CLOCK_SET);
	assert_int_equal(jump, 28800);
}

static void a_clock_that_drifts_is_never_set(void **state)
{
	struct listening l = { 0 };
	int64_t jump = 0;

	(void) state;
	for (int i = 0; i < 1000; i++)
		assert_int_equal(listening_turn(&l, 1000000 + 2 * i, (uint64_t) i * 1000, &jump), LISTENING_ON);
	assert_int_equal(l.since, 1000000);
	assert_int_equal(jump, 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_listens_from_its_first_turn_on),
		cmocka_unit_test(a_host_that_slept_listens_anew),
		cmocka_unit_test(a_clock_that_is_set_is_told_once_each_way),
		cmocka_unit_test(a_clock_that_drifts_is_never_set),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
