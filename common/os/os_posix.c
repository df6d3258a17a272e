#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

/* Evaluate a system call until it was not interrupted; -errno on failure. */
#define RETRY(call)                                                                                               \
	({                                                                                                        \
		__typeof__(call) r_;                                                                              \
		do                                                                                                \
			r_ = (call);                                                                              \
		while (r_ < 0 && errno == EINTR);                                                                 \
		r_ < 0 ? (__typeof__(call)) -errno : r_;                                                          \
	})

static int posix_openat(const struct os *os, int dirfd, const char *path, int flags, mode_t mode)
{
	(void) os;
	return RETRY(openat(dirfd, path, flags | O_CLOEXEC | O_NOFOLLOW, mode));
}

static int posix_close(const struct os *os, int fd)
{
	(void) os;
	/* Linux has released the descriptor even when it says EINTR: closing again could hit somebody else's. */
	return close(fd) < 0 && errno != EINTR ? -errno : 0;
}

static ssize_t posix_read(const struct os *os, int fd, void *data, size_t len)
{
	(void) os;
	return RETRY(read(fd, data, len));
}

static ssize_t posix_write(const struct os *os, int fd, const void *data, size_t len)
{
	(void) os;
	return RETRY(write(fd, data, len));
}

static ssize_t posix_pread(const struct os *os, int fd, void *data, size_t len, uint64_t offset)
{
	(void) os;
	return RETRY(pread(fd, data, len, (off_t) offset));
}

static ssize_t posix_pwrite(const struct os *os, int fd, const void *data, size_t len, uint64_t offset)
{
	(void) os;
	return RETRY(pwrite(fd, data, len, (off_t) offset));
}

static int posix_ftruncate(const struct os *os, int fd, uint64_t size)
{
	(void) os;
	return RETRY(ftruncate(fd, (off_t) size));
}

static int posix_fsync(const struct os *os, int fd)
{
	(void) os;
	return RETRY(fsync(fd));
}

static int posix_syncfs(const struct os *os, int fd)
{
	(void) os;
	return RETRY(syncfs(fd));
}

static int posix_renameat(const struct os *os, int old_dirfd, const char *old_path, int new_dirfd,
			  const char *new_path)
{
	(void) os;
	return RETRY(renameat(old_dirfd, old_path, new_dirfd, new_path));
}

static int posix_exchangeat(const struct os *os, int dirfd, const char *path, int other_dirfd,
			    const char *other_path)
{
	(void) os;
	return RETRY(renameat2(dirfd, path, other_dirfd, other_path, RENAME_EXCHANGE));
}

static int posix_linkat(const struct os *os, int old_dirfd, const char *old_path, int new_dirfd,
			const char *new_path)
{
	(void) os;
	return RETRY(linkat(old_dirfd, old_path, new_dirfd, new_path, 0));
}

static int posix_symlinkat(const struct os *os, const char *target, int dirfd, const char *path)
{
	(void) os;
	return RETRY(symlinkat(target, dirfd, path));
}

static int posix_unlinkat(const struct os *os, int dirfd, const char *path, int flags)
{
	(void) os;
	return RETRY(unlinkat(dirfd, path, flags));
}

static int posix_mkdirat(const struct os *os, int dirfd, const char *path, mode_t mode)
{
	(void) os;
	return RETRY(mkdirat(dirfd, path, mode));
}

static int posix_fstatat(const struct os *os, int dirfd, const char *path, struct stat *ret)
{
	(void) os;
	return RETRY(fstatat(dirfd, path, ret, AT_SYMLINK_NOFOLLOW));
}

static int posix_fstat(const struct os *os, int fd, struct stat *ret)
{
	(void) os;
	return RETRY(fstat(fd, ret));
}

static ssize_t posix_readlinkat(const struct os *os, int dirfd, const char *path, char *ret, size_t size)
{
	(void) os;
	return RETRY(readlinkat(dirfd, path, ret, size));
}

static int posix_fchmod(const struct os *os, int fd, mode_t mode)
{
	(void) os;
	return RETRY(fchmod(fd, mode));
}

static int posix_fchown(const struct os *os, int fd, uid_t uid, gid_t gid)
{
	(void) os;
	return RETRY(fchown(fd, uid, gid));
}

static int posix_fchownat(const struct os *os, int dirfd, const char *path, uid_t uid, gid_t gid)
{
	(void) os;
	return RETRY(fchownat(dirfd, path, uid, gid, AT_SYMLINK_NOFOLLOW));
}

static int posix_futimens(const struct os *os, int fd, const struct timespec times[2])
{
	(void) os;
	return RETRY(futimens(fd, times));
}

static int posix_clone(const struct os *os, int fd, int from_fd)
{
	(void) os;
	return RETRY(ioctl(fd, FICLONE, from_fd));
}

static int posix_fstatvfs(const struct os *os, int fd, struct statvfs *ret)
{
	(void) os;
	return RETRY(fstatvfs(fd, ret));
}

static int64_t posix_clock_real(const struct os *os)
{
	struct timespec t = { 0, 0 };

	(void) os;
	(void) clock_gettime(CLOCK_REALTIME, &t); /* cannot fail for this clock */
	return (int64_t) t.tv_sec;
}

static uint64_t posix_clock_boot_ms(const struct os *os)
{
	struct timespec t = { 0, 0 };

	(void) os;
	(void) clock_gettime(CLOCK_BOOTTIME, &t); /* cannot fail for this clock */
	return (uint64_t) t.tv_sec * 1000 + (uint64_t) t.tv_nsec / 1000000;
}

static int posix_random(const struct os *os, void *data, size_t len)
{
	uint8_t *p = data;

	(void) os;
	while (len > 0) {
		ssize_t n = RETRY(getrandom(p, len, 0));

		if (n < 0)
			return (int) n;
		p += n;
		len -= (size_t) n;
	}
	return 0;
}

const struct os os_posix = {
	.openat = posix_openat,
	.close = posix_close,
	.read = posix_read,
	.write = posix_write,
	.pread = posix_pread,
	.pwrite = posix_pwrite,
	.ftruncate = posix_ftruncate,
	.fsync = posix_fsync,
	.syncfs = posix_syncfs,
	.renameat = posix_renameat,
	.exchangeat = posix_exchangeat,
	.linkat = posix_linkat,
	.symlinkat = posix_symlinkat,
	.unlinkat = posix_unlinkat,
	.mkdirat = posix_mkdirat,
	.fstatat = posix_fstatat,
	.fstat = posix_fstat,
	.readlinkat = posix_readlinkat,
	.fchmod = posix_fchmod,
	.fchown = posix_fchown,
	.fchownat = posix_fchownat,
	.futimens = posix_futimens,
	.clone = posix_clone,
	.fstatvfs = posix_fstatvfs,
	.clock_real = posix_clock_real,
	.clock_boot_ms = posix_clock_boot_ms,
	.random = posix_random,
	.state = NULL,
};
