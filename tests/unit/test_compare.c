#include "server-stub/rollout/compare.h"

#include "base/text.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { DAYS = 7, NOW = 24 * DAYS, HOURS_MAX = 24 * (DAYS + 4), NODES_MAX = 40 };

static const struct compare_rule rule = {
	.worse = COMPARE_HIGHER,
	.effect = 0.2,
	.relative = true,
	.min_days = 3,
	.min_hours = 3,
	.min_samples = 5,
};

struct history {
	struct compare_hour hours[HOURS_MAX];
	size_t count;
	struct compare_span span;
};

/* A day that goes up and down, a little different each day; from NOW on `factor` times as much. */
static void make(struct history *h, double factor, unsigned hours_now)
{
	*h = (struct history){ .span = { 0, NOW, NOW, NOW + hours_now } };
	for (unsigned i = 0; i < NOW + hours_now; i++) {
		double wander = 1 + 0.01 * ((double) ((i * 7919) % 11) - 5) / 5;

		h->hours[h->count++] = (struct compare_hour){
			.hour = i,
			.local = (i + 5) % 24,
			.mean = (100 + 50 * (double) (i % 24)) * wander * (i >= NOW ? factor : 1),
			.samples = 12,
		};
	}
}

static struct compare_node look(const struct compare_rule *r, const struct history *h)
{
	struct compare_node n = { .node = "n1" };

	compare_node(r, h->hours, h->count, &h->span, &n);
	return n;
}

/* --- one node --- */

static void hours_are_compared_with_the_same_hours_of_other_days(void **state)
{
	struct history h;
	struct compare_node n;

	(void) state;
	/* Between the quietest hour of the day and the busiest lies a factor of 12; none of it is a difference. */
	for (unsigned hours = 3; hours < 24; hours++) {
		make(&h, 1, hours);
		n = look(&rule, &h);
		assert_true(n.enough);
		assert_true(fabs(n.difference) < 0.02);
		assert_true(n.noise > 0 && n.noise < 0.03);
	}
	make(&h, 1.3, 6);
	n = look(&rule, &h);
	assert_true(n.difference > 0.28 && n.difference < 0.32);
	assert_string_equal(n.node, "n1");
	assert_int_equal(n.hours, 6);
}

static void an_absolute_effect_is_in_units_of_the_metric(void **state)
{
	struct compare_rule r = rule;
	struct history h;

	(void) state;
	r.relative = false;
	make(&h, 1, 4);
	for (size_t i = NOW; i < h.count; i++)
		h.hours[i].mean += 77;
	assert_true(fabs(look(&r, &h).difference - 77) < 10);
}

static void what_creeps_up_shows_in_the_newest_hours(void **state)
{
	struct history h;

	(void) state;
	make(&h, 1, 48);
	for (size_t i = NOW; i < h.count; i++)
		h.hours[i].mean *= 1 + 0.01 * (double) (i - NOW);
	/* Six hours around the 45th, not the median of the 48. */
	assert_true(look(&rule, &h).difference > 0.4);
}

static void the_order_of_hours_does_not_matter(void **state)
{
	struct history h, back;
	struct compare_node a, b;

	(void) state;
	make(&h, 1.1, 20);
	make(&back, 1.1, 20);
	for (size_t i = 0; i < h.count; i++)
		back.hours[i] = h.hours[h.count - 1 - i];
	a = look(&rule, &h);
	b = look(&rule, &back);
	assert_true(fabs(a.difference - b.difference) < 1e-12 && fabs(a.noise - b.noise) < 1e-12);
}

static void no_data_is_not_enough(void **state)
{
	struct history h;

	(void) state;
	make(&h, 1, 2); /* too few hours */
	assert_false(look(&rule, &h).enough);
	assert_int_equal(look(&rule, &h).hours, 2);
	make(&h, 1, 6);
	h.span.past_from = NOW - 48; /* too few days */
	assert_false(look(&rule, &h).enough);
	make(&h, 1, 6);
	for (size_t i = NOW; i < h.count; i++)
		h.hours[i].samples = 4; /* too few samples */
	assert_false(look(&rule, &h).enough);
	make(&h, 1, 6);
	for (size_t i = NOW; i < h.count; i++)
		h.hours[i].mean = i % 2 ? NAN : INFINITY;
	assert_false(look(&rule, &h).enough);
	make(&h, 1, 6);
	for (size_t i = 0; i < NOW; i++)
		h.hours[i].mean = 0; /* a fifth of nothing */
	assert_false(look(&rule, &h).enough);
	make(&h, 1, 6);
	for (size_t i = 0; i < h.count; i++)
		h.hours[i].local = 24; /* no hour of any day */
	assert_false(look(&rule, &h).enough);
	h.count = 0;
	assert_false(look(&rule, &h).enough);
}

/* --- the spending of alpha --- */

static void looks_spend_alpha_and_no_more(void **state)
{
	double sum = 0;

	(void) state;
	for (unsigned k = 1; k <= COMPARE_LOOKS; k++) {
		double level = compare_level(0.01, COMPARE_LOOKS, k - 1, k);

		assert_true(level > 0);
		/* Alike for each look, but for a factor of e. */
		assert_true(level <= compare_level(0.01, COMPARE_LOOKS, 0, 1));
		assert_true(level > compare_level(0.01, COMPARE_LOOKS, 0, 1) / 2.72);
		sum += level;
	}
	assert_true(fabs(sum - 0.01) < 1e-12);
	assert_true(compare_level(0.01, COMPARE_LOOKS, 0, 0) <= 0);
	assert_true(compare_level(0.01, COMPARE_LOOKS, 0, COMPARE_LOOKS + 1) <= 0);
	assert_true(fabs(compare_level(0.01, 1, 0, 1) - 0.01) < 1e-12);
	/* What was not spent, for want of data, is still there; what was spent is not. */
	assert_true(fabs(compare_level(0.01, COMPARE_LOOKS, 0, COMPARE_LOOKS) - 0.01) < 1e-12);
	assert_true(compare_level(0.01, COMPARE_LOOKS, 3, 3) <= 0);
	assert_true(compare_level(0.01, COMPARE_LOOKS, 4, 3) <= 0);
}

/* --- all of them --- */

/* `n` nodes, whose differences are around `around`, spread by `spread`, with that noise. */
static void nodes(struct compare_node *list, size_t n, double around, double spread)
{
	for (size_t i = 0; i < n; i++)
		list[i] = (struct compare_node){
			.node = "x",
			.enough = true,
			.difference = around + spread * ((double) ((i * 37) % 11) - 5) / 5,
			.noise = spread / 2,
			.now = 12,
			.past = 10,
			.hours = 6,
		};
}

static struct compare_judgement judge(const struct compare_rule *r, const struct compare_node *a, size_t n,
				      const struct compare_node *b, size_t m)
{
	struct compare_judgement j;

	assert_int_equal(compare_judge(r, a, n, b, m, 0.002, &j), 0);
	assert_true(j.why[0] != '\0');
	return j;
}

static void few_nodes_are_judged_by_their_own_past(void **state)
{
	struct compare_node a[COMPARE_GROUP], b[NODES_MAX];
	struct compare_rule r = rule;
	struct compare_judgement j;

	(void) state;
	nodes(b, NODES_MAX, 0, 0.05);
	nodes(a, 2, 0, 0.05);
	j = judge(&rule, a, 2, b, NODES_MAX);
	assert_int_equal(j.verdict, COMPARE_PASS);
	assert_int_equal(j.method, COMPARE_OWN_PAST);
	a[1].difference = 0.25;
	a[1].node = "n7";
	j = judge(&rule, a, 2, b, NODES_MAX);
	assert_int_equal(j.verdict, COMPARE_FAIL);
	assert_non_null(strstr(j.why, "n7"));
	assert_non_null(strstr(j.why, "12 instead of 10"));
	/* It is large, but that node wanders as much by itself. */
	a[1].noise = 0.1;
	assert_int_equal(judge(&rule, a, 2, b, NODES_MAX).verdict, COMPARE_INCONCLUSIVE);
	a[1].noise = 0.01;
	r.borne = 1;
	assert_int_equal(judge(&r, a, 2, b, NODES_MAX).verdict, COMPARE_PASS);
	/* No data is not good news, nor is it bad. */
	a[1].difference = 0;
	a[1].enough = false;
	j = judge(&rule, a, 2, b, NODES_MAX);
	assert_int_equal(j.verdict, COMPARE_INCONCLUSIVE);
	assert_non_null(strstr(j.why, "n7"));
	a[0].difference = 0.25; /* but one that is worse does not wait for others' data */
	assert_int_equal(judge(&rule, a, 2, b, NODES_MAX).verdict, COMPARE_FAIL);
	assert_int_equal(judge(&rule, a, 0, b, NODES_MAX).verdict, COMPARE_INCONCLUSIVE);
}

static void directions(void **state)
{
	static const struct {
		enum compare_worse worse;
		double difference;
		enum compare_verdict verdict;
	} rows[] = {
		{ COMPARE_HIGHER, 0.3, COMPARE_FAIL },	{ COMPARE_HIGHER, -0.3, COMPARE_PASS },
		{ COMPARE_LOWER, 0.3, COMPARE_PASS },	{ COMPARE_LOWER, -0.3, COMPARE_FAIL },
		{ COMPARE_BOTH, 0.3, COMPARE_FAIL },	{ COMPARE_BOTH, -0.3, COMPARE_FAIL },
		{ COMPARE_HIGHER, 0.19, COMPARE_PASS }, { COMPARE_LOWER, -0.19, COMPARE_PASS },
	};
	struct compare_node few[3], many[12], others[NODES_MAX];

	(void) state;
	nodes(others, NODES_MAX, 0, 0.05);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct compare_rule r = rule;

		r.worse = rows[i].worse;
		nodes(few, 3, rows[i].difference, 0);
		assert_int_equal(judge(&r, few, 3, others, NODES_MAX).verdict, rows[i].verdict);
		nodes(many, 12, rows[i].difference, 0.0);
		assert_int_equal(judge(&r, many, 12, others, NODES_MAX).verdict, rows[i].verdict);
	}
}

static void from_eight_on_there_is_a_test(void **state)
{
	struct compare_node a[COMPARE_GROUP], b[NODES_MAX];
	struct compare_judgement j;

	(void) state;
	nodes(a, COMPARE_GROUP, 0.3, 0.1);
	nodes(b, NODES_MAX, 0, 0.1);
	j = judge(&rule, a, COMPARE_GROUP, b, NODES_MAX);
	assert_int_equal(j.method, COMPARE_TWO_SAMPLES);
	assert_int_equal(j.verdict, COMPARE_FAIL);
	assert_true(fabs(j.difference - 0.3) < 0.02);
	assert_int_equal(j.updated, COMPARE_GROUP);
	assert_int_equal(j.others, NODES_MAX);
	/* A feast day: everybody is up by a third, and it is nobody's fault. */
	nodes(b, NODES_MAX, 0.3, 0.1);
	j = judge(&rule, a, COMPARE_GROUP, b, NODES_MAX);
	assert_int_equal(j.verdict, COMPARE_PASS);
	/* Certain, but too small to matter. */
	nodes(a, COMPARE_GROUP, 0.1, 0.0);
	nodes(b, NODES_MAX, 0, 0.0);
	j = judge(&rule, a, COMPARE_GROUP, b, NODES_MAX);
	assert_true(j.p < 1e-4);
	assert_int_equal(j.verdict, COMPARE_PASS);
	/* Large, but it may be chance. */
	nodes(a, COMPARE_GROUP, 0.3, 2);
	nodes(b, NODES_MAX, 0, 2);
	assert_int_equal(judge(&rule, a, COMPARE_GROUP, b, NODES_MAX).verdict, COMPARE_INCONCLUSIVE);
}

static void one_wild_node_does_not_move_a_test(void **state)
{
	struct compare_node a[COMPARE_GROUP + 4], b[NODES_MAX];

	(void) state;
	nodes(a, COMPARE_GROUP + 4, 0, 0.05);
	nodes(b, NODES_MAX, 0, 0.05);
	a[3].difference = 1e6;
	assert_int_equal(judge(&rule, a, COMPARE_GROUP + 4, b, NODES_MAX).verdict, COMPARE_PASS);
	nodes(a, COMPARE_GROUP + 4, 0.3, 0.05);
	b[3].difference = 1e6;
	assert_int_equal(judge(&rule, a, COMPARE_GROUP + 4, b, NODES_MAX).verdict, COMPARE_FAIL);
}

static void a_test_without_data_is_inconclusive(void **state)
{
	struct compare_node a[2 * COMPARE_GROUP + 2], b[NODES_MAX];
	struct compare_judgement j;

	(void) state;
	nodes(a, ARRAY_LEN(a), 0.3, 0.05);
	nodes(b, NODES_MAX, 0, 0.05);
	for (size_t i = 0; i < COMPARE_GROUP + 2; i++)
		a[i].enough = false; /* more than half of them */
	j = judge(&rule, a, ARRAY_LEN(a), b, NODES_MAX);
	assert_int_equal(j.verdict, COMPARE_INCONCLUSIVE);
	assert_int_equal(j.updated, COMPARE_GROUP);
}

/* In the last stage nobody is left to compare with. */
static void without_others_a_large_group_has_its_own_past(void **state)
{
	struct compare_node a[NODES_MAX];
	struct compare_judgement j;

	(void) state;
	nodes(a, NODES_MAX, 0, 0.02);
	a[5].difference = a[6].difference = 0.5; /* one in twenty is borne */
	j = judge(&rule, a, NODES_MAX, NULL, 0);
	assert_int_equal(j.method, COMPARE_OWN_PAST);
	assert_int_equal(j.verdict, COMPARE_PASS);
	a[7].difference = 0.5;
	assert_int_equal(judge(&rule, a, NODES_MAX, NULL, 0).verdict, COMPARE_FAIL);
	nodes(a, NODES_MAX, 0, 0.02);
	for (size_t i = 0; i < NODES_MAX; i++)
		a[i].enough = i < COMPARE_GROUP;
	assert_int_equal(judge(&rule, a, NODES_MAX, NULL, 0).verdict, COMPARE_INCONCLUSIVE);
}

/* By hand: U = 65 of 72 (two ties, a half each), mean 36, variance 72/12 (18 - 12/(17 16)), z = 2.74578. */
static void the_test_is_mann_and_whitney_s(void **state)
{
	static const double x[] = { 19, 22, 16, 29, 24, 31, 35, 28 }, y[] = { 20, 11, 17, 12, 18, 15, 16, 22, 9 };
	struct compare_node a[ARRAY_LEN(x)], b[ARRAY_LEN(y)];
	struct compare_rule r = rule;
	struct compare_judgement j;

	(void) state;
	r.relative = false;
	r.effect = 1;
	nodes(a, ARRAY_LEN(x), 0, 2);
	nodes(b, ARRAY_LEN(y), 0, 2);
	for (size_t i = 0; i < ARRAY_LEN(x); i++)
		a[i].difference = x[i];
	for (size_t i = 0; i < ARRAY_LEN(y); i++)
		b[i].difference = y[i];
	j = judge(&r, a, ARRAY_LEN(x), b, ARRAY_LEN(y));
	assert_true(fabs(j.p - 0.0030183544) < 1e-9);
	assert_true(fabs(j.difference - 10) < 1e-9);
	assert_int_equal(j.verdict, COMPARE_INCONCLUSIVE); /* 0.002 is this look's level */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hours_are_compared_with_the_same_hours_of_other_days),
		cmocka_unit_test(an_absolute_effect_is_in_units_of_the_metric),
		cmocka_unit_test(what_creeps_up_shows_in_the_newest_hours),
		cmocka_unit_test(the_order_of_hours_does_not_matter),
		cmocka_unit_test(no_data_is_not_enough),
		cmocka_unit_test(looks_spend_alpha_and_no_more),
		cmocka_unit_test(few_nodes_are_judged_by_their_own_past),
		cmocka_unit_test(directions),
		cmocka_unit_test(from_eight_on_there_is_a_test),
		cmocka_unit_test(one_wild_node_does_not_move_a_test),
		cmocka_unit_test(a_test_without_data_is_inconclusive),
		cmocka_unit_test(without_others_a_large_group_has_its_own_past),
		cmocka_unit_test(the_test_is_mann_and_whitney_s),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
