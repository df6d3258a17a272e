/*
 * os_crash - a system that forgets what was not synced.
 *
 *   os_crash_new("/tmp/x", &c)            all that is in the folder now is on the disk
 *   os_crash_arm(c, 7)                    the machine dies at the seventh change
 *   r = journal_append(... os_crash_os(c) ...)
 *   os_crash_restore(c, seed, "/tmp/y")   /tmp/y holds what the disk held
 *
 * Calls go to the real folder, and are recorded. What survives a power cut is
 * harsher than most file systems: bytes of a file only after fsync of it (or
 * syncfs), else each write is lost, torn, left as zeros, or there, whatever came
 * before and after it; names only after fsync of their folder, else any subset of
 * creations, renames, links and removals, each of them whole. A file's fsync
 * makes no name durable. Modes need the fsync too; owners are not recorded.
 *
 * Changes are counted: openat that creates or truncates, write, pwrite,
 * ftruncate, fsync, syncfs, renameat, linkat, symlinkat, unlinkat, mkdirat,
 * fchmod, fchown. From the armed one on every call fails with EIO: nobody runs
 * after a power cut. After a mere kill the real folder is what is left.
 */
#ifndef SELFRIGHT_SUPPORT_OS_CRASH_H
#define SELFRIGHT_SUPPORT_OS_CRASH_H

#include "base/attr.h"
#include "os/os.h"

#include <stdbool.h>

struct os_crash;

/* Watch the folder at `root`, an absolute path. */
NODISCARD int os_crash_new(const char *root, struct os_crash **ret);
void os_crash_free(struct os_crash *c);

const struct os *os_crash_os(struct os_crash *c);

/* Die at change `at`, from 1; 0: never. */
void os_crash_arm(struct os_crash *c, unsigned at);
bool os_crash_happened(const struct os_crash *c);
unsigned os_crash_changes(const struct os_crash *c);

/*
 * Write what survives into the empty folder `root`: seed 0 loses all that was not synced,
 * seed 1 loses nothing, others choose by chance.
 */
NODISCARD int os_crash_restore(struct os_crash *c, unsigned seed, const char *root);

#endif
