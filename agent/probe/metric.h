/*
 * metric - what Prometheus text says about a selector, and what that means over time.
 *
 *   metric_read(text, len, &select, &of, &sample);    one answer of the application
 *   metric_window_add(&w, now_ms, &sample);
 *   metric_window_value(&w, metric, &value);          is there enough to tell?
 *
 * Counters that start again (the application was restarted) count from 0, as with
 * Prometheus. The window is as short as `minSamples` allows: what is judged is the
 * newest that means something, however long a watch lasts.
 */
#ifndef SELFRIGHT_AGENT_PROBE_METRIC_H
#define SELFRIGHT_AGENT_PROBE_METRIC_H

#include "agent/probe/run.h"
#include "base/attr.h"
#include "base/buf.h"
#include "model/release.h"
#include "model/selector.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	METRIC_TEXT_MAX = 4 * 1024 * 1024,
	METRIC_LINE_MAX = 16 * 1024,
	METRIC_LABELS_MAX = 64,
	METRIC_POINTS_MAX = 64
};

struct metric_sample {
	double select, of; /* sums; NaN does not count */
	uint64_t select_series, of_series; /* how many series were summed */
};

/* `of` may be NULL. -ERR_SYNTAX with *ret_line (NULL: not wanted), the first line that is none; -ERR_TOO_LARGE. */
NODISCARD int metric_read(const char *text, size_t len, const struct selector *select, const struct selector *of,
			  struct metric_sample *ret, size_t *ret_line);

struct metric_point {
	uint64_t at_ms;
	double value, select, of; /* value as it was; the others: all increases so far */
};

struct metric_window {
	struct metric_point points[METRIC_POINTS_MAX];
	size_t count;
	struct metric_sample last;
	bool has_last;
};

void metric_window_add(struct metric_window *w, uint64_t at_ms, const struct metric_sample *sample);

struct metric_value {
	double value, samples; /* samples: that stand behind the value */
	bool enough;
};
struct metric_value metric_window_value(const struct metric_window *w, const struct release_metric *m);

/*
 * Does the value keep the bounds? `before` is a decimal text, "" or NULL: not known; then
 * bounds relative to it are passed over, and if there is no other the answer is inconclusive.
 */
enum run_end metric_judge(const struct release_metric *m, const struct metric_value *v, const char *before,
			  struct buf *detail);

#endif
