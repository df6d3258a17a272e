#include "server-stub/rollout/compare.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HOURS = 24, NOW_MAX = 48 };

/* A normal distribution's standard deviation in medians of absolute deviations. */
#define SIGMA_OF_MAD 1.4826
/* The least noise that is believed, in effects: a metric that never moved says nothing of how far it might. */
#define LEAST_NOISE 0.1
/* Beside `borne`, this share of a large group that has nobody to be compared with may be worse. */
#define BORNE_ONE_IN 20

static const char *const worse_names[] = {
	[COMPARE_HIGHER] = "higher",
	[COMPARE_LOWER] = "lower",
	[COMPARE_BOTH] = "both",
};
_Static_assert(sizeof(worse_names) / sizeof(worse_names[0]) == COMPARE_WORSE_COUNT, "every direction has a name");

const char *compare_worse_name(enum compare_worse w)
{
	return worse_names[w];
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *) a, y = *(const double *) b;

	return (x > y) - (x < y);
}

static double middle(const double *sorted, size_t n)
{
	return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

static double median(double *values, size_t n)
{
	qsort(values, n, sizeof(*values), by_value);
	return middle(values, n);
}

/* --- one node --- */

/* Values of one hour of the day, sorted once they are all there. */
struct bucket {
	double values[COMPARE_DAYS_MAX];
	size_t count;
};

static bool counts(const struct compare_rule *rule, const struct compare_hour *h)
{
	return h->local < HOURS && h->samples > 0 && h->samples >= rule->min_samples && isfinite(h->mean);
}

static void fill(const struct compare_rule *rule, const struct compare_hour *hours, size_t count,
		 const struct compare_span *span, struct bucket buckets[HOURS])
{
	for (size_t i = 0; i < count; i++) {
		struct bucket *b = &buckets[hours[i].local % HOURS];

		if (counts(rule, &hours[i]) && hours[i].hour >= span->past_from &&
		    hours[i].hour < span->past_until && b->count < COMPARE_DAYS_MAX)
			b->values[b->count++] = hours[i].mean;
	}
	for (size_t i = 0; i < HOURS; i++)
		qsort(buckets[i].values, buckets[i].count, sizeof(double), by_value);
}

/* In the rule's unit; false: there is none. */
static bool differ(const struct compare_rule *rule, double value, double base, double *ret)
{
	if (rule->relative && base == 0)
		return false;
	*ret = rule->relative ? (value - base) / fabs(base) : value - base;
	return isfinite(*ret);
}

/* The median of a bucket without its i-th value. */
static double without(const struct bucket *b, size_t i)
{
	size_t n = b->count - 1, upper = n / 2, lower = n % 2 ? upper : upper - 1;

	upper += upper >= i;
	lower += lower >= i;
	return (b->values[lower] + b->values[upper]) / 2;
}

static double noise_of(const struct compare_rule *rule, const struct bucket buckets[HOURS])
{
	double distances[HOURS * COMPARE_DAYS_MAX], d;
	size_t n = 0;

	for (size_t h = 0; h < HOURS; h++)
		for (size_t i = 0; buckets[h].count >= 2 && i < buckets[h].count; i++)
			if (differ(rule, buckets[h].values[i], without(&buckets[h], i), &d))
				distances[n++] = fabs(d);
	return n > 0 ? SIGMA_OF_MAD * median(distances, n) : 0;
}

struct seen {
	int64_t hour;
	double difference, now, past;
};

static int newest_first(const void *a, const void *b)
{
	int64_t x = ((const struct seen *) a)->hour, y = ((const struct seen *) b)->hour;

	return (x < y) - (x > y);
}

/* One more hour; of those that are too many the oldest goes. */
static void remember(struct seen *list, size_t *count, const struct seen *s)
{
	size_t oldest = 0;

	if (*count < NOW_MAX) {
		list[(*count)++] = *s;
		return;
	}
	for (size_t i = 1; i < *count; i++)
		if (list[i].hour < list[oldest].hour)
			oldest = i;
	if (list[oldest].hour < s->hour)
		list[oldest] = *s;
}

void compare_node(const struct compare_rule *rule, const struct compare_hour *hours, size_t count,
		  const struct compare_span *span, struct compare_node *ret)
{
	struct bucket buckets[HOURS] = { { { 0 }, 0 } };
	struct seen list[NOW_MAX];
	double differences[NOW_MAX], now[NOW_MAX], past[NOW_MAX];
	size_t n = 0, days = rule->min_days < 2 ? 2 : rule->min_days,
	       wanted = rule->min_hours < 1 ? 1 : rule->min_hours;

	ret->enough = false;
	ret->difference = ret->noise = ret->now = ret->past = 0;
	fill(rule, hours, count, span, buckets);
	for (size_t i = 0; i < count; i++) {
		const struct compare_hour *h = &hours[i];
		const struct bucket *b = &buckets[h->local % HOURS];
		struct seen s = { .hour = h->hour, .now = h->mean };

		if (!counts(rule, h) || h->hour < span->now_from || h->hour >= span->now_until || b->count < days)
			continue;
		s.past = middle(b->values, b->count);
		if (differ(rule, h->mean, s.past, &s.difference))
			remember(list, &n, &s);
	}
	qsort(list, n, sizeof(*list), newest_first);
	if (n > 2 * wanted)
		n = 2 * wanted;
	ret->hours = (unsigned) n;
	if (n == 0)
		return;
	for (size_t i = 0; i < n; i++) {
		differences[i] = list[i].difference;
		now[i] = list[i].now;
		past[i] = list[i].past;
	}
	ret->difference = median(differences, n);
	ret->now = median(now, n);
	ret->past = median(past, n);
	ret->noise = noise_of(rule, buckets);
	ret->enough = n >= wanted;
}

/* --- looks --- */

static double spent(double alpha, double t)
{
	return alpha * log(1 + (exp(1) - 1) * t);
}

double compare_level(double alpha, unsigned looks, unsigned last, unsigned look)
{
	if (look > looks || last >= look)
		return 0;
	return spent(alpha, (double) look / looks) - spent(alpha, (double) last / looks);
}

/* --- all of them --- */

/* How far into the bad. */
static double badness(const struct compare_rule *rule, double difference)
{
	switch (rule->worse) {
	case COMPARE_LOWER:
		return -difference;
	case COMPARE_BOTH:
		return fabs(difference);
	default:
		return difference;
	}
}

/* "0.25 (5.2 before)" or "+31 %". */
static void say_difference(const struct compare_rule *rule, double d, char out[static 32])
{
	if (rule->relative)
		snprintf(out, 32, "%+.3g %%", d * 100);
	else
		snprintf(out, 32, "%+.4g", d);
}

static void say_effect(const struct compare_rule *rule, char out[static 32])
{
	if (rule->relative)
		snprintf(out, 32, "%.3g %%", rule->effect * 100);
	else
		snprintf(out, 32, "%.4g", rule->effect);
}

static double believed_noise(const struct compare_rule *rule, const struct compare_node *n)
{
	double least = LEAST_NOISE * rule->effect;

	return n->noise > least ? n->noise : least;
}

static void judge_own_past(const struct compare_rule *rule, const struct compare_node *updated, size_t count,
			   bool alone, struct compare_judgement *ret)
{
	const struct compare_node *worst = NULL, *doubtful = NULL, *lacking = NULL;
	size_t worse = 0, borne = rule->borne, with_data = 0;
	char difference[32], effect[32];

	for (size_t i = 0; i < count; i++) {
		const struct compare_node *n = &updated[i];
		double bad = badness(rule, n->difference);

		if (!n->enough) {
			lacking = lacking ? lacking : n;
			continue;
		}
		with_data++;
		if (bad >= rule->effect && bad >= COMPARE_NOISES * n->noise)
			worse++;
		else if (bad >= rule->effect && !doubtful)
			doubtful = n;
		if (!worst || bad > badness(rule, worst->difference))
			worst = n;
	}
	/* A large group that nobody is left to compare with: one in some is borne, and need not have data. */
	if (alone)
		borne += count / BORNE_ONE_IN;
	ret->method = COMPARE_OWN_PAST;
	ret->difference = worst ? worst->difference : 0;
	say_effect(rule, effect);
	say_difference(rule, ret->difference, difference);
	if (worse > borne) {
		ret->verdict = COMPARE_FAIL;
		snprintf(
			ret->why, sizeof(ret->why),
			"%zu of %zu nodes are worse than their own past by %s or more, the worst %s: %.5g instead "
			"of %.5g at the same hours (%s)",
			worse, with_data, effect, worst->node, worst->now, worst->past, difference);
	} else if (lacking && (!alone || with_data * 2 < count || with_data < COMPARE_GROUP)) {
		ret->verdict = COMPARE_INCONCLUSIVE;
		snprintf(ret->why, sizeof(ret->why),
			 "%s has told %u hours that can be compared with its own past, and %u are needed",
			 lacking->node, lacking->hours, rule->min_hours);
	} else if (doubtful && worse + 1 > borne && !alone) {
		ret->verdict = COMPARE_INCONCLUSIVE;
		say_difference(rule, doubtful->difference, difference);
		snprintf(ret->why, sizeof(ret->why),
			 "%s is at %.5g instead of %.5g (%s), but it moves that much without a release as well",
			 doubtful->node, doubtful->now, doubtful->past, difference);
	} else {
		ret->verdict = COMPARE_PASS;
		snprintf(ret->why, sizeof(ret->why),
			 "none of %zu nodes is worse than its own past by %s; nearest to it is %s with %.5g "
			 "instead "
			 "of %.5g (%s)",
			 with_data, effect, worst->node, worst->now, worst->past, difference);
		if (worse > 0)
			snprintf(ret->why, sizeof(ret->why),
				 "%zu of %zu nodes are worse than their own past by %s or more, and %zu are borne",
				 worse, with_data, effect, borne);
	}
}

struct ranked {
	double value;
	bool updated;
};

static int by_rank(const void *a, const void *b)
{
	double x = ((const struct ranked *) a)->value, y = ((const struct ranked *) b)->value;

	return (x > y) - (x < y);
}

/* P(Z >= z) of the standard normal distribution. */
static double upper_tail(double z)
{
	return 0.5 * erfc(z / sqrt(2));
}

/* The chance of so large a sum of ranks of the updated (`up`), or so small a one, if there is no shift. */
static void rank_test(struct ranked *all, size_t n, size_t m, double *ret_up, double *ret_down)
{
	size_t total = n + m;
	double sum = 0, ties = 0, u, mean, deviation;

	qsort(all, total, sizeof(*all), by_rank);
	for (size_t i = 0; i < total;) {
		size_t end = i + 1;
		double rank, t;

		while (end < total && all[end].value <= all[i].value)
			end++;
		t = (double) (end - i);
		rank = (double) (i + 1 + end) / 2;
		ties += t * t * t - t;
		for (; i < end; i++)
			sum += all[i].updated ? rank : 0;
	}
	u = sum - (double) n * (double) (n + 1) / 2;
	mean = (double) n * (double) m / 2;
	deviation = sqrt((double) n * (double) m / 12 *
			 ((double) (total + 1) - ties / ((double) total * (double) (total - 1))));
	*ret_up = *ret_down = 1;
	if (deviation <= 0)
		return; /* all alike */
	*ret_up = upper_tail((u - mean - 0.5) / deviation);
	*ret_down = upper_tail((mean - u - 0.5) / deviation);
}

/* Hodges and Lehmann's shift of `a` against `b`. */
static int shift(const double *a, size_t n, const double *b, size_t m, double *ret)
{
	double *all = calloc(n * m, sizeof(*all));

	if (!all)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < m; k++)
			all[i * m + k] = a[i] - b[k];
	*ret = median(all, n * m);
	free(all);
	return 0;
}

/* The ones with enough data: their differences, and what they are ranked by. */
static size_t gather(const struct compare_rule *rule, const struct compare_node *list, size_t count, bool updated,
		     double *differences, struct ranked *ranked)
{
	size_t n = 0;

	for (size_t i = 0; i < count && n < COMPARE_NODES_MAX; i++)
		if (list[i].enough) {
			ranked[n] =
				(struct ranked){ list[i].difference / believed_noise(rule, &list[i]), updated };
			differences[n++] = list[i].difference;
		}
	return n;
}

static int judge_two_samples(const struct compare_rule *rule, const double *a, size_t n, const double *b, size_t m,
			     struct ranked *all, double level, struct compare_judgement *ret)
{
	double up, down, bad;
	char difference[32], effect[32];
	int r = shift(a, n, b, m, &ret->difference);

	if (r < 0)
		return r;
	rank_test(all, n, m, &up, &down);
	ret->method = COMPARE_TWO_SAMPLES;
	ret->p = rule->worse == COMPARE_HIGHER	? up
		 : rule->worse == COMPARE_LOWER ? down
						: fmin(1, 2 * fmin(up, down));
	bad = badness(rule, ret->difference);
	say_effect(rule, effect);
	say_difference(rule, ret->difference, difference);
	if (bad >= rule->effect && ret->p <= level)
		ret->verdict = COMPARE_FAIL;
	else
		ret->verdict = bad >= rule->effect ? COMPARE_INCONCLUSIVE : COMPARE_PASS;
	snprintf(ret->why, sizeof(ret->why),
		 "%zu updated nodes against %zu others, each against its own past at the same hours: %s, %s %s "
		 "(chance %.2g, this look condemns below %.2g)",
		 n, m, difference,
		 ret->verdict == COMPARE_FAIL	? "worse by at least"
		 : ret->verdict == COMPARE_PASS ? "not worse by"
						: "it may be chance that this is worse by",
		 effect, ret->p, level);
	return 0;
}

int compare_judge(const struct compare_rule *rule, const struct compare_node *updated, size_t updated_count,
		  const struct compare_node *others, size_t other_count, double level,
		  struct compare_judgement *ret)
{
	double a[COMPARE_NODES_MAX], b[COMPARE_NODES_MAX];
	struct ranked all[2 * COMPARE_NODES_MAX];
	size_t n = gather(rule, updated, updated_count, true, a, all);
	size_t m = gather(rule, others, other_count, false, b, all + n);

	*ret = (struct compare_judgement){ .updated = n, .others = m, .p = 1 };
	if (updated_count == 0) {
		ret->verdict = COMPARE_INCONCLUSIVE;
		snprintf(ret->why, sizeof(ret->why), "no node has the release yet");
		return 0;
	}
	if (updated_count < COMPARE_GROUP || m < COMPARE_GROUP) {
		judge_own_past(rule, updated, updated_count, updated_count >= COMPARE_GROUP, ret);
		return 0;
	}
	if (n < COMPARE_GROUP || n * 2 < (updated_count < COMPARE_NODES_MAX ? updated_count : COMPARE_NODES_MAX)) {
		ret->verdict = COMPARE_INCONCLUSIVE;
		snprintf(ret->why, sizeof(ret->why),
			 "%zu of %zu updated nodes have told %u hours that can be compared with their own past", n,
			 updated_count, rule->min_hours);
		return 0;
	}
	return judge_two_samples(rule, a, n, b, m, all, level, ret);
}
