/*
 * os - the seam: every operation that matters for durability, processes and time.
 *
 * Mechanisms take a `const struct os *` and reach the system only through it, so
 * that tests can make any call fail (tests/support/os_fault.c) or forget what was
 * not synced (tests/support/os_crash.c). All operations return 0 (or a count or a
 * descriptor) or a negative errno; EINTR is retried inside. Descriptors are
 * close-on-exec from birth. Paths are relative to a directory descriptor; no
 * operation follows a link in the last part unless it says so.
 */
#ifndef SELFRIGHT_OS_OS_H
#define SELFRIGHT_OS_OS_H

#include "base/attr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct stat;
struct statvfs;
struct timespec;

struct os {
	/* Like openat(2), with O_CLOEXEC | O_NOFOLLOW added. Returns a descriptor. */
	int (*openat)(const struct os *os, int dirfd, const char *path, int flags, mode_t mode);
	int (*close)(const struct os *os, int fd);
	ssize_t (*read)(const struct os *os, int fd, void *data, size_t len);
	ssize_t (*write)(const struct os *os, int fd, const void *data, size_t len);
	ssize_t (*pread)(const struct os *os, int fd, void *data, size_t len, uint64_t offset);
	ssize_t (*pwrite)(const struct os *os, int fd, const void *data, size_t len, uint64_t offset);
	int (*ftruncate)(const struct os *os, int fd, uint64_t size);
	int (*fsync)(const struct os *os, int fd);
	int (*syncfs)(const struct os *os, int fd);
	int (*renameat)(const struct os *os, int old_dirfd, const char *old_path, int new_dirfd,
			const char *new_path);
	/* Both names keep existing, each with what the other had, in one step. -EINVAL, -ENOSYS: not on this file system. */
	int (*exchangeat)(const struct os *os, int dirfd, const char *path, int other_dirfd,
			  const char *other_path);
	int (*linkat)(const struct os *os, int old_dirfd, const char *old_path, int new_dirfd,
		      const char *new_path);
	int (*symlinkat)(const struct os *os, const char *target, int dirfd, const char *path);
	int (*unlinkat)(const struct os *os, int dirfd, const char *path, int flags);
	int (*mkdirat)(const struct os *os, int dirfd, const char *path, mode_t mode);
	int (*fstatat)(const struct os *os, int dirfd, const char *path, struct stat *ret); /* never follows */
	int (*fstat)(const struct os *os, int fd, struct stat *ret);
	ssize_t (*readlinkat)(const struct os *os, int dirfd, const char *path, char *ret, size_t size);
	int (*fchmod)(const struct os *os, int fd, mode_t mode);
	int (*fchown)(const struct os *os, int fd, uid_t uid, gid_t gid);
	int (*fchownat)(const struct os *os, int dirfd, const char *path, uid_t uid, gid_t gid);
	/* Times of last access and change of a file or folder, as futimens(2). */
	int (*futimens)(const struct os *os, int fd, const struct timespec times[2]);
	/* Let the empty file `fd` share the bytes of `from_fd` (FICLONE); any error: copy them instead. */
	int (*clone)(const struct os *os, int fd, int from_fd);
	int (*fstatvfs)(const struct os *os, int fd, struct statvfs *ret);
	int64_t (*clock_real)(const struct os *os); /* seconds since 1970 */
	uint64_t (*clock_boot_ms)(const struct os *os); /* CLOCK_BOOTTIME: counts through suspend */
	int (*random)(const struct os *os, void *data, size_t len);
	void *state; /* of the implementation */
};

/* The real one. */
extern const struct os os_posix;

#endif
