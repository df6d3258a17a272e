/*
 * inhibit - what on this node asks that no update begins: locks and files.
 *
 * A lock is taken through the control socket for a process and ends with it, as
 * systemd-inhibit's does; it is noted below `run`/inhibit, so that a restarted agent
 * knows it again. Any other file in that folder, which belongs to the agent's user, is an
 * inhibitor as long as it is there; its first line says why. Names that begin with '.'
 * are passed over.
 */
#ifndef SELFRIGHT_LOCAL_INHIBIT_H
#define SELFRIGHT_LOCAL_INHIBIT_H

#include "base/attr.h"
#include "os/os.h"

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct inhibitors;

enum {
	INHIBIT_LOCKS_MAX = 16,
	INHIBIT_LIST_MAX = 32,
	INHIBIT_WHY_MAX = 200,
	INHIBIT_FDS_MAX = INHIBIT_LOCKS_MAX + 1
};

struct inhibitor {
	char who[80]; /* "pid 4711 of www-data", "the file backup" */
	char why[INHIBIT_WHY_MAX + 1]; /* printable; "": not said */
	int64_t since; /* seconds since 1970; 0: unknown */
};

/* The folder is made below `run`. `boot_id` tells locks of this boot from older ones. */
NODISCARD int inhibitors_open(const struct os *os, const char *run, const char *boot_id, struct inhibitors **ret);
void inhibitors_close(struct inhibitors *i);

/*
 * A lock for this process; its own earlier one is replaced. -ESRCH: there is no such
 * process (here); -ERR_TOO_LARGE: INHIBIT_LOCKS_MAX are held already.
 */
NODISCARD int inhibitors_take(struct inhibitors *i, pid_t pid, uid_t uid, const char *why);
/* -ENOENT: it holds none. */
NODISCARD int inhibitors_release(struct inhibitors *i, pid_t pid);

/* All that are held at this moment, at most `max`; looks at the folder and the processes. */
size_t inhibitors_list(struct inhibitors *i, struct inhibitor *out, size_t max);

/* Descriptors that turn readable when one comes or goes; at most INHIBIT_FDS_MAX. */
size_t inhibitors_prepare(const struct inhibitors *i, struct pollfd *fds);
/* Has one come or gone since the last call? */
bool inhibitors_changed(struct inhibitors *i);

#endif
