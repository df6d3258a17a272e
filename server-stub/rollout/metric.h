/*
 * metric - the metric gate: when it looks, and what a look sees. compare.h has the arithmetic.
 *
 *   require:
 *     - metric:
 *         check: errors               # a check of kind metric; what nodes report of it is compared
 *         component: web              # default: the rollout's
 *         worse: higher               # lower, both
 *         effect: 20%                 # of the node's own past; without %: in units of the metric
 *         days: 5                     # of past, for an hour of the day
 *         hours: 3                    # with the release
 *         samples: 1                  # behind an hour's mean
 *         borne: 0                    # nodes that may be worse than their own past
 *         over: 24h                   # its looks are spread over so long, from the stage's opening
 *         alpha: 0.005                # chance that a stage of a release that changes nothing is stopped by the test
 *
 * There are COMPARE_LOOKS looks, or fewer so that they are an hour apart, each at the complete hours before it and made
 * a while later, when reports have come. Each may spend what the spending function grants until then less what
 * earlier looks spent; one that had no data to test spends nothing. After the last one it goes on hour by hour while it
 * cannot tell, for data that is late: what has not been spent is all there is for that.
 * A look is written down with what it saw, and gate_judge() goes by looks alone: every answer can be made again.
 */
#ifndef SELFRIGHT_ROLLOUT_METRIC_H
#define SELFRIGHT_ROLLOUT_METRIC_H

#include "base/attr.h"
#include "base/buf.h"
#include "server-stub/rollout/compare.h"
#include "server-stub/rollout/gate.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { METRIC_PAST_DAYS = 14, METRIC_LATE_S = 20 * 60 };

struct metric_due {
	int64_t until; /* what is looked at ends before this */
	double level; /* what it may spend */
};
/* Is a look due that has not been made? `made`: those of this stage, oldest first. */
bool metric_look_due(const struct gate *g, const struct gate_look *made, size_t count, int64_t opened_at,
		     int64_t now, struct metric_due *ret);
/* When the next one can be made; 0: there is none any more. */
int64_t metric_look_next(const struct gate *g, const struct gate_look *made, size_t count, int64_t opened_at);

/* One hour of one node, whatever ran there. */
struct metric_hour {
	int64_t hour; /* since 1970 */
	unsigned local; /* hour of the day there */
	double mean;
	uint64_t samples;
	bool target; /* of the release's version */
};
/*
 * What a node that has the release, or one that has not, shows before `until`. The past of one that has it ends with
 * the first hour of the release since the rollout started, which itself belongs to both and to neither; that of another
 * one ends with the start of the rollout. ret->node stays. -ENOMEM.
 */
NODISCARD int metric_see(const struct gate *g, const struct metric_hour *hours, size_t count, bool updated,
			 int64_t started_at, int64_t until, struct compare_node *ret);

/* The look, its sentence in `text`, and for the record every node in it as JSON, appended. -ENOMEM. */
NODISCARD int metric_look(const struct gate *g, const struct metric_due *due, const struct compare_node *updated,
			  size_t updated_count, const struct compare_node *others, size_t other_count, int64_t now,
			  struct gate_look *ret, char text[static GATE_TEXT], struct buf *data);

/* Which of `count` nodes are looked at, where that is more than COMPARE_NODES_MAX: evenly, the same each time. */
bool metric_picks(size_t index, size_t count);

#endif
