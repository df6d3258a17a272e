/*
 * metrics - the agent's status as a Prometheus textfile (text exposition format 0.0.4).
 *
 * For node_exporter's textfile collector; names are those of selfright-agent(8) and do
 * not change their meaning.
 */
#ifndef SELFRIGHT_AGENT_METRICS_H
#define SELFRIGHT_AGENT_METRICS_H

#include "base/attr.h"
#include "base/buf.h"

struct json;
struct os;

enum { METRICS_MAX_BYTES = 1024 * 1024 };

/* The answer to "status" as metrics, appended. */
NODISCARD int metrics_of_status(const struct json *status, struct buf *out);

/*
 * Put it at `path` in one step, so that no reader sees half of it. Not synced: after a power cut
 * the next one comes within its interval, and the disk is spared.
 */
NODISCARD int metrics_write(const struct os *os, const char *path, const struct buf *text);

#endif
