/*
 * log_lines - which lines of a log are errors, and of which kind.
 *
 * Two lines are of one kind if they differ only in what changes from case to case:
 * numbers, ids, addresses, times, paths, and what stands in double quotes. So
 *   [error] 1234#0: *17 connect() failed (111: Connection refused), client: 10.0.0.7
 * is one kind however often and from wherever it comes.
 */
#ifndef SELFRIGHT_AGENT_PROBE_LOG_LINES_H
#define SELFRIGHT_AGENT_PROBE_LOG_LINES_H

#include "agent/probe/run.h"
#include "base/attr.h"
#include "base/buf.h"
#include "model/release.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	LOG_LINE_MAX = 2048, /* of a longer line the rest is not looked at */
	LOG_KINDS_MAX = 512, /* known ones; then the oldest goes */
	LOG_NEW_MAX = 64, /* new ones that are told apart; more are counted together */
	LOG_RATE_MAX = 64, /* runs that are remembered for the rate */
	LOG_RATE_WINDOW_MS = 60 * 1000,
};

/* The kind as text, at most LOG_LINE_MAX bytes, and its hash. */
uint64_t log_line_kind(const char *line, size_t len, char ret[static LOG_LINE_MAX + 1]);
/* Does it hold one of `match`, in any case, and none of `ignore`? */
bool log_line_is_error(const struct release_log *log, const char *line, size_t len);

struct log_kinds {
	uint64_t known[LOG_KINDS_MAX], fresh[LOG_NEW_MAX];
	size_t known_count, fresh_count;
	char example[256]; /* the newest line of a new kind */
	struct {
		uint64_t at_ms, errors;
	} runs[LOG_RATE_MAX];
	size_t run_count;
	uint64_t dropped_ms; /* when the run before the first of them was; 0: there was none */
	uint64_t errors; /* of this run so far */
};

/* A line that stood there before the swap. */
void log_kinds_learn(struct log_kinds *k, const struct release_log *log, const char *line, size_t len);
/* A line since. */
void log_kinds_add(struct log_kinds *k, const struct release_log *log, const char *line, size_t len);
/* The run is over. `started_ms`: when the first one began. */
void log_kinds_end_run(struct log_kinds *k, uint64_t now_ms);
/* How many error lines a minute, over the last minute, or over the time there is. */
double log_kinds_rate(const struct log_kinds *k, uint64_t started_ms, uint64_t now_ms);
enum run_end log_kinds_judge(const struct log_kinds *k, const struct release_log *log, uint64_t started_ms,
			     uint64_t now_ms, struct buf *detail);

/*
 * A line of `journalctl -o short-unix`: its time in microseconds, and the text behind the
 * host. False: it has no time of its own (a line that goes on).
 */
bool log_journal_line(const char *line, size_t len, uint64_t *ret_us, const char **ret_text, size_t *ret_len);

#endif
