/*
 * Thirty simulated weeks, a bad release in every sixth: what staged rollouts promise. How they compare with a plain
 * percentage on the same seeds is a figure, not a promise: tests/bench/README.md, tests/nightly.
 */
#include "tests/fleet-sim/year.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { NODES = 240, WEEKS = 30, A_FEW_WEEKS = 8 };

/* Staged with its metric gate, or without; and by percentage. */
enum way { STAGED, WITHOUT_METRICS, PERCENTAGE };

static void run(uint64_t seed, enum way way, unsigned weeks, struct year_result *ret)
{
	const struct year_options o = { .seed = seed,
					.nodes = NODES,
					.weeks = weeks,
					.percentage = way == PERCENTAGE,
					.no_metrics = way == WITHOUT_METRICS };

	assert_int_equal(year_run(&o, ret), 0);
}

static void test_bad_releases_stay_small(void **state)
{
	struct year_result staged, blind, plain;
	unsigned bad = 0;

	(void) state;
	run(1, STAGED, WEEKS, &staged);
	run(1, WITHOUT_METRICS, WEEKS, &blind);
	run(1, PERCENTAGE, WEEKS, &plain);
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
	/* What leaks slowly breaks nobody while the canaries soak; what it needs of memory gives it away there. */
	assert_int_equal(staged.kinds[SIM_LEAKING].reached_max, 2);
	assert_true(blind.kinds[SIM_LEAKING].reached_max >= 4 * staged.kinds[SIM_LEAKING].reached_max);
	assert_true(plain.kinds[SIM_LEAKING].reached > staged.kinds[SIM_LEAKING].reached);
	/* And the fine ones come through, no more of them halted by what is measured. */
	assert_true(staged.false_halts <= blind.false_halts);
	assert_true(staged.false_halts <= 2);
	assert_true(staged.finished >= staged.kinds[SIM_FINE].releases - 4);
}

static void test_a_seed_gives_the_same_year_again(void **state)
{
	struct year_result a, b, other;

	(void) state;
	run(7, STAGED, A_FEW_WEEKS, &a);
	run(7, STAGED, A_FEW_WEEKS, &b);
	run(8, STAGED, A_FEW_WEEKS, &other);
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
