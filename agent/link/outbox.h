/*
 * outbox - the report and the events that the controller has not acknowledged yet, kept
 * across restarts and power loss.
 *
 * There is one report, the newest: it carries everything that is not acknowledged,
 * so a newer one replaces it in place. It leaves only when the engine has verified
 * the controller's signed ack for its sequence; a broker's PUBACK deletes nothing.
 *
 * Events queue in order, with a cap: the oldest go first, counted. One leaves when the
 * controller has acknowledged a report that went out behind it on the same connection;
 * what a connection did not see acknowledged is sent again on the next one. Each has a
 * number that rises for ever within its queue, so that the controller shows it once.
 */
#ifndef SELFRIGHT_AGENT_LINK_OUTBOX_H
#define SELFRIGHT_AGENT_LINK_OUTBOX_H

#include "base/attr.h"
#include "base/buf.h"
#include "os/os.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	OUTBOX_REPORT_MAX = 256 * 1024,
	OUTBOX_EVENTS_MAX = 256,
	OUTBOX_EVENT_BYTES_MAX = 6144,
	OUTBOX_QUEUE_NAME = 16,
};

struct outbox_event {
	uint64_t number;
	bool sent; /* handed over on this connection */
	uint64_t covered_by; /* the report behind it on this connection; 0: none yet */
	size_t len;
	uint8_t *data;
};

struct outbox {
	const struct os *os;
	int dirfd; /* borrowed */
	uint64_t sequence; /* of the report that waits; 0: none */
	struct buf report;
	struct outbox_event *events; /* oldest first */
	size_t event_count;
	uint64_t dropped; /* events in all that made room for others */
	uint64_t last_number;
	bool torn; /* an append failed: the file ends in part of a record */
	char queue[OUTBOX_QUEUE_NAME + 1]; /* made at random with the folder: numbers rise within it */
};

/* Load what the last run left. A damaged file is dropped: the engine signs its state anew at every start. */
NODISCARD int outbox_open(const struct os *os, int dirfd, struct outbox *ret);
void outbox_close(struct outbox *o);

/* Keep this report instead of the last one; durable on return (rename and fsync of the folder). */
NODISCARD int outbox_put(struct outbox *o, uint64_t sequence, const void *report, size_t len);

/* Acknowledged up to `sequence`: delete the report if it is not newer. */
NODISCARD int outbox_acked(struct outbox *o, uint64_t sequence);

/*
 * Queue an event under the next number, which begins above `base`; durable on return (fsync of the
 * file, of the folder when the file is new). On a failure it is queued in memory all the same.
 */
NODISCARD int outbox_add_event(struct outbox *o, uint64_t base, const void *event, size_t len);

/* The first that was not sent on this connection, NULL: none. Borrowed until the next change. */
struct outbox_event *outbox_unsent(struct outbox *o);

/* The report went out on this connection: its ack covers the events that were sent before it. */
void outbox_report_sent(struct outbox *o);

/* What this connection did not see acknowledged goes out again on the next. */
void outbox_connection_lost(struct outbox *o);

/* A number that rises with every call, across restarts: ties a will to its birth. */
NODISCARD int outbox_next_counter(struct outbox *o, uint64_t *ret);

#endif
