/*
 * supervise - keep an agent running: the one that works (agents.h).
 *
 * `selfright-recover --start` is this. It stays the agent's parent, so that the agent
 * can be replaced by another version of itself, and an agent that dies, hangs or cannot
 * even be started is followed by one that works. The two talk over a socket that the
 * agent inherits, one word per line: the agent says "ready" and "confirm", and hears
 * "confirmed" once that is durable. What it must know comes in its environment:
 *
 *   SELFRIGHT_SUPERVISOR_FD   the socket
 *   SELFRIGHT_PACKAGED_AGENT  the packaged agent's version; "": there is none
 *   SELFRIGHT_FAILED_UPDATE   the update whose new agent was given up; "": none
 *   SELFRIGHT_FAILED_HOW      how it ended; "": it was cut off each time, and nobody saw by what
 *
 * The agent dies with its supervisor, and a supervisor that is started again finds all
 * it must know on disk.
 */
#ifndef SELFRIGHT_STORE_SUPERVISE_H
#define SELFRIGHT_STORE_SUPERVISE_H

#include "base/attr.h"
#include "os/os.h"

struct supervise_options {
	const char *root;
	const char *agent; /* the packaged program, an absolute path */
	const char *version; /* of it: the package's own */
	const char *config_dir; /* handed on */
};

enum {
	SUPERVISE_FD = 3,
	SUPERVISE_HANDOVER = 10 /* the agent's exit code when another one is to follow at once */
};

/* Until SIGTERM or SIGINT, which are handed on. 0, or a negative error when there is no agent at all. */
NODISCARD int supervise(const struct os *os, const struct supervise_options *o);

#endif
