/*
 * space - what the node's folder takes on its disk, for the quota an operator sets.
 */
#ifndef SELFRIGHT_STORE_SPACE_H
#define SELFRIGHT_STORE_SPACE_H

#include "base/attr.h"
#include "os/os.h"

#include <stdint.h>

struct space {
	uint64_t bytes, files; /* blocks that are held, in bytes; a file under several names counts once in all */
};

/*
 * Everything below the folder, on its own file system, following no links. What goes away or is
 * exchanged meanwhile is not counted, nor what lies deeper than any tree of ours: a component may
 * keep such data, and must not hold up the others' updates by it. Errors of the disk.
 */
NODISCARD int space_used(const struct os *os, int dirfd, struct space *ret);

#endif
