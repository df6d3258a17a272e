/*
 * unixsock - Unix stream sockets with known peers.
 */
#ifndef SELFRIGHT_OS_UNIXSOCK_H
#define SELFRIGHT_OS_UNIXSOCK_H

#include "base/attr.h"

#include <sys/types.h>

/* Listen at `path` (at most 107 bytes; a stale socket is replaced), mode as given, non-blocking. Returns a descriptor. */
NODISCARD int unixsock_listen(const char *path, mode_t mode);

/* Returns a connected descriptor; -ECONNREFUSED or -ENOENT if nobody listens. */
NODISCARD int unixsock_connect(const char *path);

/* Accept one, non-blocking, close-on-exec; the peer's user by SO_PEERCRED. -EAGAIN. Returns a descriptor. */
NODISCARD int unixsock_accept(int fd, uid_t *ret_uid, pid_t *ret_pid);

#endif
