/*
 * compare - does the release make a reported metric worse? The arithmetic of the metric gate.
 *
 *   compare_node(rule, hours, count, &span, &seen[i])     one node against its own past
 *   compare_judge(rule, updated, n, others, m, level, &j) all of them, at one look
 *
 * A node is compared with itself first: each hour with the median of the same hour of the day, in its own zone, of the
 * days before. What is left is its difference, and how much that wanders without any release is its noise, a robust
 * standard deviation of the same differences in the past (each day against the others). Nodes that differ in size,
 * load or daily rhythm are comparable then; nothing is assumed of how a metric is distributed.
 *
 * Below COMPARE_GROUP updated nodes, or where fewer than that many others are left, each node's own past decides: it is
 * worse if its difference is at least the declared `effect` and COMPARE_NOISES times its noise. No test of so few can tell
 * chance from a release at a level worth having (three against three never get below p = 0.05), so the effect has
 * to be declared, and what all nodes meet at once (a feast day) cannot be told from the release.
 *
 * Above, the updated nodes' differences are compared with those of nodes that do not have the release, over the same
 * hours: a difference in differences, in which whatever meets the whole fleet cancels. The test is that of Mann and
 * Whitney (Annals of Mathematical Statistics 18, 1947), with ties and a correction for continuity: it needs no normal
 * distribution, and one node that has gone wild moves it by no more than its rank, where Welch's t would lose its power.
 * Nodes are ranked by difference over noise, so that nodes of unequal noise, to which ranks are sensitive, do not
 * count for more than their share. How large the shift is, Hodges and Lehmann say (the median of all differences between
 * the groups): only one of at least `effect` condemns, so that in a large fleet a trifle that is certain does not.
 * A release that is bad on a few nodes alone hardly shifts anything: those are for the checks and limits of failures.
 *
 * Looking again and again would find something in any noise. A stage has a fixed number of looks, equally spaced; each
 * may spend a part of `alpha`, given by the spending function of Pocock's type of Lan and DeMets (Biometrika 70, 1983),
 * alpha ln(1 + (e - 1) t): alike for each look, because the early halt is what is wanted here, and ranks of eight nodes
 * never reach the minute levels with which O'Brien and Fleming's begins. Each look is tested at exactly what it may spend
 * itself. That gives away a little against boundaries that use how looks depend on each other; but nodes join
 * from look to look and hours are correlated, so that their dependence is not known, and the sum of what was spent
 * holds whatever it is. A look is a function of the hours before it: made twice it says the same and costs nothing.
 *
 * No data is inconclusive, never a pass. Pure: no clock, no I/O.
 */
#ifndef SELFRIGHT_ROLLOUT_COMPARE_H
#define SELFRIGHT_ROLLOUT_COMPARE_H

#include "base/attr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	COMPARE_GROUP = 8, /* updated nodes, and others, from which on there is a test */
	COMPARE_NOISES = 4,
	COMPARE_NODES_MAX = 128, /* of each group; more tell nothing new */
	COMPARE_DAYS_MAX = 28,
	COMPARE_LOOKS = 6,
};

enum compare_worse { COMPARE_HIGHER, COMPARE_LOWER, COMPARE_BOTH, COMPARE_WORSE_COUNT };
const char *compare_worse_name(enum compare_worse w); /* "higher", "lower", "both" */

struct compare_rule {
	enum compare_worse worse;
	double effect; /* the smallest difference that matters, > 0 */
	bool relative; /* of the node's own past: 0.2 is a fifth of it */
	unsigned min_days; /* of past for an hour of the day, at least 2 */
	unsigned min_hours; /* with the release */
	uint64_t min_samples; /* behind an hour's mean; fewer and the hour is none */
	unsigned borne; /* nodes that may be worse by their own past */
};

/* One hour of one node. */
struct compare_hour {
	int64_t hour; /* since 1970 */
	unsigned local; /* the hour of the day there, 0 to 23 */
	double mean;
	uint64_t samples;
};

/* Hours since 1970, ends exclusive. */
struct compare_span {
	int64_t past_from, past_until; /* without the release */
	int64_t now_from, now_until; /* with it; for a node without it, the time to compare with */
};

struct compare_node {
	const char *node; /* borrowed */
	bool enough; /* else the rest is what there was */
	double difference; /* the median; in units of the metric, or relative */
	double noise;
	double now, past; /* medians of the hours that were compared, for people */
	unsigned hours;
};

/*
 * Of `now`, the newest hours count, at most twice min_hours: what creeps up shows there. An hour counts when
 * min_days of the past have the same hour of the day and, if the rule is relative, their median is not 0.
 * Order of `hours` does not matter. ret->node stays as it is.
 */
void compare_node(const struct compare_rule *rule, const struct compare_hour *hours, size_t count,
		  const struct compare_span *span, struct compare_node *ret);

/* What look number `look` (1 .. looks) may spend, when look number `last` (0: none) was the last one that spent. */
double compare_level(double alpha, unsigned looks, unsigned last, unsigned look);

enum compare_verdict { COMPARE_PASS, COMPARE_FAIL, COMPARE_INCONCLUSIVE };
enum compare_method { COMPARE_NOTHING, COMPARE_OWN_PAST, COMPARE_TWO_SAMPLES };

struct compare_judgement {
	enum compare_verdict verdict;
	enum compare_method method;
	size_t updated, others; /* that had enough data */
	double difference; /* of the group, or of the worst node */
	double p; /* two samples; else 1 */
	char why[320]; /* a sentence */
};

/*
 * `updated` are all nodes that have the release and are expected to tell, `others` those without it; at most
 * COMPARE_NODES_MAX of each are looked at. -ENOMEM.
 */
NODISCARD int compare_judge(const struct compare_rule *rule, const struct compare_node *updated,
			    size_t updated_count, const struct compare_node *others, size_t other_count,
			    double level, struct compare_judgement *ret);

#endif
