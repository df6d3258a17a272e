/*
 * control - the local socket: the agent answers, the command asks.
 *
 * One frame (os/frame.h) with a JSON object each way: {"command":"status", ...}
 * answered by {"ok":true, ...} or {"ok":false,"error":"...","code":N}. Everybody on
 * the node may read; what changes something is taken from root and the agent's own
 * user only. The answer to a changing command may come later: the agent first ends
 * what it is in the middle of.
 */
#ifndef SELFRIGHT_LOCAL_CONTROL_H
#define SELFRIGHT_LOCAL_CONTROL_H

#include "base/attr.h"
#include "base/buf.h"

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct json;
struct control;

enum { CONTROL_MAX_BYTES = 1024 * 1024, CONTROL_CLIENTS_MAX = 16, CONTROL_FDS_MAX = CONTROL_CLIENTS_MAX + 1 };
enum control_frame { CONTROL_REQUEST = 1, CONTROL_ANSWER = 2 };

/* Exit codes of selfright-agent, and `code` in a refusal. */
enum control_code {
	CONTROL_OK = 0,
	CONTROL_ERROR = 1,
	CONTROL_USAGE = 2,
	CONTROL_NOT_RUNNING = 3,
	CONTROL_REFUSED = 4,
};

/* Who asks. */
struct control_peer {
	uid_t uid;
	pid_t pid; /* 0: of another process namespace */
	bool may_change; /* root or the agent's own user */
};

/* Answer `request` in JSON text into `answer`. Never fails: a refusal is an answer. */
typedef void control_handler(void *user, const struct control_peer *peer, const struct json *request,
			     struct buf *answer);
/* Does this command change something? */
typedef bool control_changes(const char *command);

/* Listen at `path`. The socket is removed by control_close(). */
NODISCARD int control_open(const char *path, control_changes *changes, control_handler *handler, void *user,
			   struct control **ret);
void control_close(struct control *c);

/* Fill in descriptors, at most CONTROL_FDS_MAX; returns how many. */
size_t control_prepare(struct control *c, struct pollfd *fds);

/* Do what is due. With `reading_only` requests that change something wait for the next call without it. */
void control_step(struct control *c, const struct pollfd *fds, size_t count, bool reading_only);

/* A refusal as an answer. */
void control_refuse(struct buf *answer, enum control_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The command's side: ask and wait. -ENOENT or -ECONNREFUSED: nobody listens; -ERR_DEADLINE. *ret is the caller's. */
NODISCARD int control_call(const char *path, const void *request, size_t len, uint64_t deadline_ms,
			   struct json **ret);

#endif
