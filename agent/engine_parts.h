/*
 * engine_parts - what the parts of the engine share, and nobody else sees.
 *
 * engine.c is the loop and its turns, engine_start.c how all of it is opened, engine_link.c the link process with the
 * frames it sends. One thread; everything here belongs to struct engine.
 */
#ifndef SELFRIGHT_AGENT_ENGINE_PARTS_H
#define SELFRIGHT_AGENT_ENGINE_PARTS_H

#include "agent/anchors.h"
#include "agent/engine.h"
#include "agent/enrol.h"
#include "agent/local/control.h"
#include "agent/phase/node.h"
#include "agent/rehearse.h"
#include "base/backoff.h"
#include "os/frame.h"
#include "os/process.h"

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ENGINE_INBOX_MAX = 64 };

struct message {
	uint16_t type;
	struct buf bytes;
};

struct engine {
	struct node node;
	struct config config;
	struct node_state *state;
	struct control *control;

	struct frame_conn link_conn;
	struct process link;
	uint64_t link_started_ms, link_start_at_ms; /* start it then; UINT64_MAX: it runs */
	struct backoff link_backoff;
	int64_t floor_told; /* the time floor the link knows */
	struct enrol enrol;
	struct anchors anchors;
	struct pair_owner pair_owner; /* the link's user */

	struct message inbox[ENGINE_INBOX_MAX];
	size_t inbox_count, inbox_bytes;

	uint64_t poll_at_ms, push_at_ms;
	unsigned push_failures;
	bool report_failed; /* the last one could not be noted or signed */
	uint32_t reasons; /* what the last report said of why and wants, as a hash */
	uint64_t reasons_at_ms; /* looked at again from then on */
	bool reasons_due; /* something happened since they were looked at */
	uint64_t metrics_at_ms; /* the textfile is written again then */
	int metrics_error; /* why the last one was not; told when it changes */
	uint64_t collect_at_ms; /* old copies of data */
	struct backoff poll_backoff;
	struct rehearsal rehearsal;
	char start_failure[512]; /* why it could not start; "": it could */
	const struct engine_install *install; /* this run is for a bundle alone; NULL: it is the agent */
};

uint64_t engine_random(const struct engine *e);

/* SIGTERM or SIGINT came. */
bool engine_is_told_to_stop(void);

/* --- engine_start.c --- */

/* Open everything and go on where the journal says. 0, or negative after a line in the log and in e->start_failure. */
NODISCARD int engine_start(struct engine *e, const char *config_dir);

/* Said in the log, and to whoever started it for an installation. `e` NULL: there was no memory for it. Returns r. */
int engine_fail_start(struct engine *e, int r, const char *what, const char *detail);

/* --- engine_link.c --- */

/* Start a link, wait for one that was lost, replace one that is to start anew: whatever is due now. */
void engine_link_step(struct engine *e);

/* Its socket, for the loop's poll. */
struct pollfd engine_link_prepare(const struct engine *e);

/* What came over it. Frames that would change what others are in the middle of wait in the inbox. */
void engine_link_turn(struct engine *e, short revents);

/* Obey what waits in the inbox. */
void engine_link_obey(struct engine *e);

/* Tell it a later time floor, by which it judges certificates. */
void engine_link_tell_floor(struct engine *e);

/* Let go of its socket: whoever waits for a file of it is told that the link is gone. */
void engine_link_close(struct engine *e);

/* The same, and its process has ended. */
void engine_link_end(struct engine *e);

/* The same, after it has said that another agent follows; within a few seconds, whatever it does. */
void engine_link_leave(struct engine *e);

#endif
