/*
 * Thirty simulated weeks, a bad release in every sixth: what staged rollouts promise. How they compare with a plain
 * percentage on the same seeds is a figure, not a promise: tests/bench/README.md, tests/nightly.
 */
#include "tests/fleet-sim/year.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { NODES = 240, WEEKS = 30 };

static void run(uint64_t seed, bool percentage, struct year_result *ret)
{
	const struct year_options o = { .seed = seed, .nodes = NODES, .weeks = WEEKS, .percentage = percentage };

	assert_int_equal(year_run(&o, ret), 0);
}

static void test_bad_releases_stay_small(void **state)
{
	struct year_result staged, plain;
	unsigned bad = 0;

	(void) state;
	run(1, false, &staged);
	run(1, true, &plain);
	for (int k = SIM_CRASHING; k < SIM_FAULT_COUNT; k++) {
		const struct year_kind *i = &staged.kinds[k];

		assert_true(i->releases > 0);
		assert_int_equal(plain.kinds[k].releases, i->releases);
		/* Halted, or its stage never proved: none of them reached everybody. */
		assert_int_equal(i->halted + i->held, i->releases);
		assert_true(i->reached_max < NODES / 2);
		bad += i->releases;
	}
	/* What crashes everywhere is known by the two canaries. */
	assert_int_equal(staged.kinds[SIM_CRASHING].reached_max, 2);
	assert_true(bad >= 4);
	/* And the fine ones come through. */
	assert_true(staged.false_halts <= 2);
	assert_true(staged.finished >= staged.kinds[SIM_FINE].releases - 4);
}

static void test_a_seed_gives_the_same_year_again(void **state)
{
	struct year_result a, b, other;

	(void) state;
	run(7, false, &a);
	run(7, false, &b);
	run(8, false, &other);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_memory_not_equal(&a, &other, sizeof(a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_releases_stay_small),
		cmocka_unit_test(test_a_seed_gives_the_same_year_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
