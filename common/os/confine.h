/*
 * confine - give up rights that a process handling outside bytes does not need.
 *
 * Call at start, before any thread, after opening what stays in use.
 */
#ifndef SELFRIGHT_OS_CONFINE_H
#define SELFRIGHT_OS_CONFINE_H

#include "base/attr.h"

#include <stddef.h>
#include <stdint.h>

/* The bound of an address space that is meant to be `memory` bytes; 0, none, in a build with a sanitizer: its shadow takes terabytes. */
uint64_t confine_memory(uint64_t memory);

/* No setuid programs, no core dumps, at most `files` descriptors and, unless 0, `memory` bytes of address space. */
NODISCARD int confine_limits(uint64_t memory, uint64_t files);

/* Close every descriptor from `first` on; missing standard ones become /dev/null. */
NODISCARD int confine_descriptors(unsigned first);

/*
 * From now on files only below `writable` folders (read and write) and `readable`
 * descriptors (read); no program can be started, no TCP port listened on, no
 * process outside signalled. Returns 1, or 0 on a kernel without Landlock and in a
 * container whose system call filter forbids it.
 */
NODISCARD int confine_files(const int *writable, size_t writable_count, const int *readable,
			    size_t readable_count);

/*
 * The same for a program that talks to the network: what the resolver, OpenSSL and libcurl read of the system stays
 * readable as well, where it is there. At most CONFINE_READABLE_MAX descriptors besides.
 */
enum { CONFINE_READABLE_MAX = 16 };
NODISCARD int confine_client(const int *writable, size_t writable_count, const int *readable,
			     size_t readable_count);

#endif
