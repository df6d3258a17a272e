/*
 * outbox - the report that the controller has not acknowledged yet, kept across
 * restarts and power loss.
 *
 * There is one report, the newest: it carries everything that is not acknowledged,
 * so a newer one replaces it in place. It leaves only when the engine has verified
 * the controller's signed ack for its sequence; a broker's PUBACK deletes nothing.
 */
#ifndef SELFRIGHT_AGENT_LINK_OUTBOX_H
#define SELFRIGHT_AGENT_LINK_OUTBOX_H

#include "base/attr.h"
#include "base/buf.h"
#include "os/os.h"

#include <stdbool.h>
#include <stdint.h>

enum { OUTBOX_REPORT_MAX = 256 * 1024 };

struct outbox {
	const struct os *os;
	int dirfd; /* borrowed */
	uint64_t sequence; /* of the report that waits; 0: none */
	struct buf report;
};

/* Load what the last run left. A damaged file is dropped: the engine signs its state anew at every start. */
NODISCARD int outbox_open(const struct os *os, int dirfd, struct outbox *ret);
void outbox_close(struct outbox *o);

/* Keep this report instead of the last one; durable on return (rename and fsync of the folder). */
NODISCARD int outbox_put(struct outbox *o, uint64_t sequence, const void *report, size_t len);

/* Acknowledged up to `sequence`: delete the report if it is not newer. */
NODISCARD int outbox_acked(struct outbox *o, uint64_t sequence);

/* A number that rises with every call, across restarts: ties a will to its birth. */
NODISCARD int outbox_next_counter(struct outbox *o, uint64_t *ret);

#endif
