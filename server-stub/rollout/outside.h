/*
 * outside - what is asked of Prometheus and Alertmanager for a gate, and what their answers mean.
 *
 * Pure: text in, a look (gate.h) out. Answers are hostile until read: they have limits, a broken one is an error, and
 * one that says less than it should is inconclusive. Whoever asks keeps `text` and `data` for as long as the look.
 */
#ifndef SELFRIGHT_ROLLOUT_OUTSIDE_H
#define SELFRIGHT_ROLLOUT_OUTSIDE_H

#include "base/attr.h"
#include "base/buf.h"
#include "server-stub/rollout/gate.h"

#include <stddef.h>
#include <stdint.h>

enum { OUTSIDE_ANSWER_MAX = 4 * 1024 * 1024, OUTSIDE_SERIES_SHOWN = 16 };

/* A path with its query: api/v1/query_range?... ; appended. */
NODISCARD int outside_range_path(const char *query, int64_t start, int64_t end, uint64_t step_s, struct buf *out);
/* Alerts in force, of these labels, as Prometheus keeps them in a series. */
NODISCARD int outside_alerts_query(const struct labels *labels, struct buf *out);
/* api/v2/alerts?... ; appended. */
NODISCARD int outside_alertmanager_path(const struct labels *labels, struct buf *out);

/*
 * The answer to query_range: extremes over all series of what `take` makes of one, and the fewest samples of a
 * series. NaN and infinities are no samples. -ERR_SYNTAX and the like: not such an answer; *ret is inconclusive then
 * and says so, as it does when the server refused. `text`: of GATE_TEXT; `data`: JSON, appended.
 */
NODISCARD int outside_read_range(const void *answer, size_t len, enum gate_take take, struct gate_look *ret,
				 char text[static GATE_TEXT], struct buf *data);

/*
 * The answers to outside_alerts_query over [start, end], and to a query that has a sample whenever the server was
 * watching: without it, an empty answer would look like quiet. `opened_at`: alerts that began by then are old ones.
 */
NODISCARD int outside_read_alerts(const void *alerts, size_t alerts_len, const void *watching, size_t watching_len,
				  int64_t start, int64_t end, uint64_t step_s, int64_t opened_at,
				  struct gate_look *ret, char text[static GATE_TEXT], struct buf *data);
#define OUTSIDE_WATCHING_QUERY "count(up)"

/* Alertmanager knows alerts of now only: quiet goes back to `since`, the last look's, as long as nobody looked away. */
NODISCARD int outside_read_alertmanager(const void *answer, size_t len, const struct labels *labels, int64_t now,
					int64_t since, int64_t opened_at, struct gate_look *ret,
					char text[static GATE_TEXT], struct buf *data);

#endif
