/*
 * The metric gate's arithmetic on fleets made at random: how often it condemns a release that changes nothing, however
 * often it looks, and how often it finds one that does. Rates are measured over thousands of runs and held
 * against what compare.h promises, with three standard deviations of the measurement as slack.
 *
 * COMPARE_RUNS=N (500) in the environment asks for more runs, and then the rates are printed.
 */
#include "server-stub/rollout/compare.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { DAYS = 8, START = 24 * DAYS, HORIZON = 24, HOURS = START + HORIZON, NODES = 80 };

static uint64_t random_state;

static double uniform(void)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15u; /* splitmix64 */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return ((double) ((z ^ z >> 31) >> 11) + 0.5) / 9007199254740992.0;
}

static double normal(void)
{
	return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());
}

static unsigned runs_wanted(void)
{
	const char *s = getenv("COMPARE_RUNS");

	return s && atoi(s) > 0 ? (unsigned) atoi(s) : 500;
}

static void report(const char *what, double rate, double bound)
{
	if (getenv("COMPARE_RUNS"))
		print_message("%-66s %.4f (bound %.4f)\n", what, rate, bound);
}

/* At most `p`, as far as `runs` can tell. */
static void assert_rate_at_most(const char *what, unsigned hits, unsigned runs, double p)
{
	double rate = (double) hits / runs, bound = p + 3 * sqrt(p * (1 - p) / runs);

	report(what, rate, bound);
	assert_true(rate <= bound);
}

static void assert_rate_at_least(const char *what, unsigned hits, unsigned runs, double p)
{
	double rate = (double) hits / runs, bound = p - 3 * sqrt(p * (1 - p) / runs);

	report(what, rate, bound);
	assert_true(rate >= bound);
}

/* --- differences made directly: thousands of runs --- */

enum shape { NORMAL, WILD, SKEWED, UNEQUAL, SHAPE_COUNT };
static const char *const shape_names[] = { "normal", "wild tails", "skewed", "the updated ones noisier" };

static double draw(enum shape shape, bool updated)
{
	switch (shape) {
	case WILD:
		return tan(3.14159265358979 * (uniform() - 0.5)); /* Cauchy's: it has no mean at all */
	case SKEWED:
		return exp(normal()) - 1;
	case UNEQUAL:
		return normal() * (updated ? 3 : 1);
	default:
		return normal();
	}
}

/* Differences of this look: half of them is what was there at the last one. */
static void next_look(struct compare_node *list, size_t n, enum shape shape, bool updated, double add)
{
	for (size_t i = 0; i < n; i++) {
		double old = list[i].enough ? list[i].difference : 0;

		list[i] = (struct compare_node){ .node = "x",
						 .enough = true,
						 .difference = old / 2 + draw(shape, updated) + add / 2,
						 .noise = shape == UNEQUAL && updated ? 3 : 1,
						 .hours = 6 };
	}
}

/* Is the release condemned at one of the looks? */
static bool condemned(const struct compare_rule *rule, size_t n, size_t m, enum shape shape, double add,
		      double alpha, bool corrected)
{
	struct compare_node updated[NODES] = { { .enough = false } }, others[NODES] = { { .enough = false } };

	for (unsigned look = 1; look <= COMPARE_LOOKS; look++) {
		struct compare_judgement j;
		double level = corrected ? compare_level(alpha, COMPARE_LOOKS, look - 1, look) : alpha;

		next_look(updated, n, shape, true, add);
		next_look(others, m, shape, false, 0);
		assert_int_equal(compare_judge(rule, updated, n, others, m, level, &j), 0);
		assert_int_equal(j.method, COMPARE_TWO_SAMPLES);
		if (j.verdict == COMPARE_FAIL)
			return true;
	}
	return false;
}

/* The least effect there is, so that nothing but the test decides. */
static const struct compare_rule any_effect = {
	.worse = COMPARE_HIGHER, .effect = 1e-6, .min_days = 3, .min_hours = 3, .min_samples = 1
};

static void repeated_looks_condemn_no_more_often_than_alpha(void **state)
{
	static const struct {
		size_t updated, others;
	} sizes[] = { { 8, 8 }, { 8, 60 }, { 30, 30 }, { 60, 10 } };
	const unsigned runs = runs_wanted();

	(void) state;
	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
		for (int shape = 0; shape < SHAPE_COUNT; shape++) {
			struct compare_rule rule = any_effect;
			unsigned hits = 0;
			char what[128];

			rule.worse = shape % 2 ? COMPARE_BOTH : COMPARE_HIGHER;
			random_state = 1000 * s + (unsigned) shape + 1;
			for (unsigned i = 0; i < runs; i++)
				hits += condemned(&rule, sizes[s].updated, sizes[s].others, (enum shape) shape, 0,
						  0.05, true);
			snprintf(what, sizeof(what), "six looks at nothing, %zu against %zu, %s", sizes[s].updated,
				 sizes[s].others, shape_names[shape]);
			assert_rate_at_most(what, hits, runs, 0.05);
		}
}

/* The control: without the correction the promise would not hold, so that the test above can fail. */
static void without_the_correction_it_would(void **state)
{
	const unsigned runs = runs_wanted();
	unsigned hits = 0;

	(void) state;
	random_state = 7;
	for (unsigned i = 0; i < runs; i++)
		hits += condemned(&any_effect, 8, 60, NORMAL, 0, 0.05, false);
	assert_rate_at_least("the same without the correction", hits, runs, 0.12);
}

static void a_shift_is_found(void **state)
{
	const unsigned runs = runs_wanted() / 2;

	(void) state;
	for (int shape = 0; shape < SHAPE_COUNT; shape++) {
		struct compare_rule rule = any_effect;
		unsigned hits = 0, wrong = 0;
		char what[128];

		rule.effect = 1;
		random_state = 70 + (unsigned) shape;
		for (unsigned i = 0; i < runs; i++)
			hits += condemned(&rule, 20, 60, (enum shape) shape, shape == UNEQUAL ? 9 : 3, 0.01, true);
		snprintf(what, sizeof(what), "a shift of three of its noises, 20 against 60, %s",
			 shape_names[shape]);
		assert_rate_at_least(what, hits, runs, shape == WILD ? 0.75 : 0.95);
		/* The declared effect is not met: certain, and still no reason to halt. */
		rule.effect = 20;
		for (unsigned i = 0; i < runs; i++)
			wrong += condemned(&rule, 20, 60, (enum shape) shape, 3, 0.01, true);
		assert_int_equal(wrong, 0);
	}
}

/* --- whole histories: rhythm of the day, nodes of any size, shocks that meet all --- */

struct fleet {
	struct compare_hour hours[NODES][HOURS];
	struct compare_span span[NODES];
	size_t updated, count;
};

/* From START on the first `updated` have the release, which multiplies by `factor`. */
static void make_fleet(struct fleet *f, size_t updated, size_t count, double factor, double hourly, double daily)
{
	double all[HOURS], shared = 0;

	f->updated = updated;
	f->count = count;
	for (size_t h = 0; h < HOURS; h++) {
		shared = 0.9 * shared + 0.1 * normal();
		all[h] = exp(shared) * (h >= START ? 1.3 : 1); /* and a feast that begins with the release */
	}
	for (size_t i = 0; i < count; i++) {
		double size = exp(2 * normal()), noise = hourly * exp(0.7 * normal()), own = 0, phase = uniform();

		for (size_t h = 0; h < HOURS; h++) {
			double rhythm = 2 + cos(6.2831853 * ((double) (h % 24) / 24 + phase));

			own = h % 24 == 0 ? daily * normal() : own;
			f->hours[i][h] = (struct compare_hour){
				.hour = (int64_t) h,
				.local = (unsigned) (h + i) % 24,
				.mean = size * rhythm * all[h] * exp(own + noise * normal()) *
					(h >= START && i < updated ? factor : 1),
				.samples = 60,
			};
		}
		f->span[i] = (struct compare_span){ 0, START, START, HOURS };
	}
}

static bool fleet_condemned(const struct compare_rule *rule, struct fleet *f, double alpha, unsigned looks,
			    bool with_others)
{
	struct compare_node seen[NODES];

	for (unsigned look = 1; look <= looks; look++) {
		struct compare_judgement j;

		for (size_t i = 0; i < f->count; i++) {
			seen[i].node = "x";
			f->span[i].now_until = START + (int64_t) (HORIZON * look / looks);
			compare_node(rule, f->hours[i], HOURS, &f->span[i], &seen[i]);
		}
		assert_int_equal(compare_judge(rule, seen, f->updated, seen + f->updated,
					       with_others ? f->count - f->updated : 0,
					       compare_level(alpha, looks, look - 1, look), &j),
				 0);
		if (j.verdict == COMPARE_FAIL)
			return true;
	}
	return false;
}

static const struct compare_rule a_fifth = {
	.worse = COMPARE_HIGHER, .effect = 0.2, .relative = true, .min_days = 5, .min_hours = 3, .min_samples = 10
};

static void what_meets_all_is_nobody_s_fault(void **state)
{
	const unsigned runs = runs_wanted() / 4;
	static struct fleet f;
	struct compare_rule rule = a_fifth;
	unsigned hits = 0, found = 0;

	(void) state;
	random_state = 31;
	for (unsigned i = 0; i < runs; i++) {
		make_fleet(&f, 10, 50, 1, 0.1, 0.1);
		rule.effect = 1e-3;
		hits += fleet_condemned(&rule, &f, 0.05, COMPARE_LOOKS, true);
		make_fleet(&f, 10, 50, 1.5, 0.1, 0.1);
		found += fleet_condemned(&a_fifth, &f, 0.01, COMPARE_LOOKS, true);
	}
	assert_rate_at_most("a feast day for all, 10 against 40, any effect", hits, runs, 0.05);
	assert_rate_at_least("the same and half as much again by the release", found, runs, 0.9);
}

static void few_nodes_by_their_own_past(void **state)
{
	const unsigned runs = runs_wanted() / 2;
	static struct fleet f;
	struct compare_rule rule = a_fifth;
	unsigned any = 0, wrong = 0, found = 0;

	(void) state;
	random_state = 77;
	for (unsigned i = 0; i < runs; i++) {
		make_fleet(&f, 2, 2, 1 / 1.3, 0.05, 0.05); /* without the feast */
		rule.effect = 1e-3;
		any += fleet_condemned(&rule, &f, 0.01, HORIZON, true);
		wrong += fleet_condemned(&a_fifth, &f, 0.01, HORIZON, true);
		make_fleet(&f, 2, 2, 3 / 1.3, 0.05, 0.05);
		found += fleet_condemned(&a_fifth, &f, 0.01, HORIZON, true);
	}
	assert_rate_at_most("two nodes, 24 looks at nothing, any effect", any, runs, 0.05);
	assert_rate_at_most("two nodes, 24 looks at nothing, a fifth", wrong, runs, 0.02);
	assert_rate_at_least("two nodes, three times as much", found, runs, 0.95);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(repeated_looks_condemn_no_more_often_than_alpha),
		cmocka_unit_test(without_the_correction_it_would),
		cmocka_unit_test(a_shift_is_found),
		cmocka_unit_test(what_meets_all_is_nobody_s_fault),
		cmocka_unit_test(few_nodes_by_their_own_past),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
