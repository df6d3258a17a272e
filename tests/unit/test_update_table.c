/* update.h: every state has a row, and the rows make the picture of the header. */
#include "agent/store/state.h"
#include "agent/update.h"
#include "base/attr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
/* cmocka wants the three above */
#include <cmocka.h>

static void test_names_agree(void **state)
{
	(void) state;
	for (int s = 0; s < STATE_COUNT; s++)
		assert_string_equal(update_state_name((enum update_state) s),
				    node_update_state_name((enum node_update_state) s));
}

static void test_every_state_has_a_row(void **state)
{
	(void) state;
	for (int s = 0; s < STATE_COUNT; s++) {
		const struct state_row *row = update_row((enum update_state) s);

		/* A hole would be all zero: idle to idle without a phase. */
		assert_true(row->run || s == STATE_STAGED);
		assert_in_range(row->success, 0, STATE_COUNT - 1);
		assert_in_range(row->failure, 0, STATE_COUNT - 1);
		assert_int_equal(row->wake == WAKE_IDLE, s == STATE_IDLE);
	}
}

static void test_the_straight_way(void **state)
{
	static const enum update_state way[] = { STATE_IDLE,	STATE_PLANNED,	STATE_STAGING,	STATE_STAGED,
						 STATE_WAITING, STATE_STOPPING, STATE_SWAPPING, STATE_PROBATION,
						 STATE_GOOD,	STATE_WATCH,	STATE_IDLE };

	(void) state;
	for (size_t i = 0; i + 1 < ARRAY_LEN(way); i++)
		assert_int_equal(update_row(way[i])->success, way[i + 1]);
	assert_int_equal(update_row(STATE_REBOOTING)->success, STATE_PROBATION);
}

/* Before the swap failing changes nothing; after it, it leads back; going back that fails is stuck, and stuck tries again. */
static void test_failures(void **state)
{
	static const enum update_state before[] = { STATE_PLANNED, STATE_STAGING, STATE_STAGED, STATE_WAITING,
						    STATE_STOPPING };
	static const enum update_state after[] = { STATE_SWAPPING, STATE_REBOOTING, STATE_PROBATION, STATE_WATCH };

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(before); i++) {
		assert_int_equal(update_row(before[i])->failure, STATE_FAILED);
		assert_false(update_row(before[i])->swapped);
	}
	for (size_t i = 0; i < ARRAY_LEN(after); i++) {
		assert_int_equal(update_row(after[i])->failure, STATE_ROLLING_BACK);
		assert_true(update_row(after[i])->swapped);
	}
	assert_int_equal(update_row(STATE_ROLLING_BACK)->success, STATE_ROLLED_BACK);
	assert_int_equal(update_row(STATE_ROLLING_BACK)->failure, STATE_STUCK);
	assert_int_equal(update_row(STATE_STUCK)->success, STATE_ROLLING_BACK);
	assert_int_equal(update_row(STATE_FAILED)->success, STATE_IDLE);
	assert_int_equal(update_row(STATE_ROLLED_BACK)->success, STATE_IDLE);
}

/* From every state, whatever fails on the way, idle is reached once things go well again. */
static void test_every_walk_ends(void **state)
{
	(void) state;
	for (unsigned failures = 0; failures < 1u << 12; failures++) {
		for (int first = 1; first < STATE_COUNT; first++) {
			enum update_state s = (enum update_state) first;
			int steps = 0;

			for (; s != STATE_IDLE; steps++) {
				const struct state_row *row = update_row(s);

				assert_true(steps < 40);
				s = steps < 12 && failures >> steps & 1 ? row->failure : row->success;
			}
		}
	}
}

/* What has changed nothing is planned anew; what was swapped is never forgotten. */
static void test_wake_up(void **state)
{
	(void) state;
	for (int s = 1; s < STATE_COUNT; s++) {
		const struct state_row *row = update_row((enum update_state) s);

		if (row->swapped)
			assert_int_not_equal(row->wake, WAKE_PLAN);
		if (row->wake == WAKE_PLAN)
			assert_int_equal(row->failure, STATE_FAILED);
	}
	assert_int_equal(update_row(STATE_PROBATION)->wake, WAKE_LOOK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_agree),	 cmocka_unit_test(test_every_state_has_a_row),
		cmocka_unit_test(test_the_straight_way), cmocka_unit_test(test_failures),
		cmocka_unit_test(test_every_walk_ends),	 cmocka_unit_test(test_wake_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
