/*
 * hours - what declared metrics were, hour by hour, for reports.
 *
 * A value goes into its hour's mean, with as much weight as there is behind it. The newest hours of each series
 * are kept, so that a node that was away for some of them still tells; a series is one metric of one version. In
 * memory only: after a restart the hour begins anew, and the controller keeps what has more behind it.
 */
#ifndef SELFRIGHT_AGENT_PROBE_HOURS_H
#define SELFRIGHT_AGENT_PROBE_HOURS_H

#include "model/report.h"

#include <stddef.h>
#include <stdint.h>

enum { HOURS_VERSION_SIZE = 96 };

struct hours_series {
	char component[ID_MAX + 1], name[ID_MAX + 1], version[HOURS_VERSION_SIZE];
	struct {
		int64_t hour; /* since 1970 */
		double sum, samples;
	} hours[REPORT_METRIC_HOURS_MAX]; /* oldest first */
	size_t count;
};

struct hours {
	struct hours_series series[REPORT_METRICS_MAX];
	size_t count;
};

/*
 * `samples` (> 0) stand behind `value`. When every series is in use, one that has nothing of this hour makes room;
 * else what is added is dropped. Values that are no numbers, and hours before the newest ones kept, are dropped too.
 */
void hours_add(struct hours *h, const char *component, const char *version, const char *name, int64_t hour,
	       double value, double samples);

#endif
