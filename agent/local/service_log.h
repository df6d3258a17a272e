/*
 * service_log - what a service prints, in a file that cannot grow beyond its cap.
 *
 * The service writes into a named pipe; a small process of its own, selfright-log, moves
 * that into "<name>.log" and keeps the newer half when the file is full. Both outlive the
 * agent. The service holds the pipe open in both directions, so that it neither ends nor
 * fails when its logger is gone for a moment: the agent starts another one on the same
 * pipe. A logger ends when nobody holds the pipe any more.
 *
 * The choice: a file the service writes itself can only be cut from time to time, and
 * exceeds any cap in between; a pipe read by the agent blocks the services while the agent
 * is away.
 */
#ifndef SELFRIGHT_LOCAL_SERVICE_LOG_H
#define SELFRIGHT_LOCAL_SERVICE_LOG_H

#include "base/attr.h"
#include "os/os.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct config;

enum { SERVICE_LOG_MAX_BYTES = 4 * 1024 * 1024 };

struct service_log {
	pid_t pid; /* 0: none known */
	uint64_t start; /* when it started, in ticks */
	int pidfd; /* -1: none */
	uint64_t again_ms; /* not to be started before */
};
#define SERVICE_LOG_INIT                                                                                          \
	{                                                                                                         \
		.pidfd = -1                                                                                       \
	}

/* Where, and by whom. `name` is "<component>.<service>". */
struct service_log_place {
	const struct os *os;
	int dirfd;
	const char *name;
	const struct config *config;
	const char *service_user; /* may open the pipe by its name (/dev/stderr); NULL: ours */
};

/*
 * A new pipe with a logger on it, instead of any before. Returns the descriptor for the
 * service's output; the logger ends when it and its copies are closed.
 */
NODISCARD int service_log_begin(const struct service_log_place *p, struct service_log *l);

/* Take up the logger a former run of the agent started. */
void service_log_adopt(struct service_log *l, pid_t pid, uint64_t start);

/* If the logger has ended, start another on the same pipe. Returns true if one was started. */
bool service_log_revive(const struct service_log_place *p, struct service_log *l, uint64_t now_ms);

/* Wait, a fraction of a second at most, until what was printed is in the file. */
void service_log_settle(const struct service_log_place *p, const struct service_log *l);

/* Let go of it; the logger goes on as long as somebody prints. */
void service_log_done(struct service_log *l);

#endif
