/*
 * status - the application's own word about itself, from a file or a command.
 *
 * One of the words starting, ready (or ok), degraded, stopping, failed,
 *   - as the first word of the first line, the rest of it in words for people;
 *   - as "status" of a JSON object, "message" for people; or
 *   - as lines of sd_notify(3): READY=1, STOPPING=1, RELOADING=1, ERRNO=N, with STATUS=...
 */
#ifndef SELFRIGHT_AGENT_PROBE_STATUS_H
#define SELFRIGHT_AGENT_PROBE_STATUS_H

#include "agent/probe/run.h"
#include "base/attr.h"
#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>

enum { STATUS_TEXT_MAX = 16 * 1024 };

enum status_word {
	STATUS_STARTING,
	STATUS_READY,
	STATUS_DEGRADED,
	STATUS_STOPPING,
	STATUS_FAILED,
	STATUS_WORD_COUNT
};
const char *status_word_name(enum status_word w);

/* The word; its message in `message` (clean text, may stay empty). -ERR_SYNTAX: none of them. */
NODISCARD int status_read(const char *text, size_t len, enum status_word *ret, struct buf *message);

/* What it means: starting and stopping are inconclusive, degraded fails unless accepted. */
enum run_end status_judge(const char *text, size_t len, bool accept_degraded, struct buf *detail);

#endif
