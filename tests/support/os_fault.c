#include "support/os_fault.h"

static struct os_fault *fault(const struct os *os)
{
	return os->state;
}

/* Count one call: 0, or the error it has to fail with. */
static int count(struct os_fault *f)
{
	f->calls++;
	if (f->at == 0 || f->calls < f->at || (f->calls > f->at && !f->sticky))
		return 0;
	f->fired++;
	return -f->error;
}

/* Fail, or hand the call to the system below. */
#define PASS(os, call, ...)                                                                                       \
	({                                                                                                        \
		struct os_fault *f_ = fault(os);                                                                  \
		int failed_ = count(f_);                                                                          \
		failed_ < 0 ? failed_ : f_->below->call(f_->below, __VA_ARGS__);                                  \
	})

static size_t some(const struct os *os, size_t len)
{
	return fault(os)->short_io && len > 1 ? len / 2 : len;
}

static int fault_openat(const struct os *os, int dirfd, const char *path, int flags, mode_t mode)
{
	return PASS(os, openat, dirfd, path, flags, mode);
}

static int fault_close(const struct os *os, int fd)
{
	struct os_fault *f = fault(os);
	int failed = count(f), r = f->below->close(f->below, fd);

	return failed < 0 ? failed : r;
}

static ssize_t fault_read(const struct os *os, int fd, void *data, size_t len)
{
	return PASS(os, read, fd, data, some(os, len));
}

static ssize_t fault_write(const struct os *os, int fd, const void *data, size_t len)
{
	return PASS(os, write, fd, data, some(os, len));
}

static ssize_t fault_pread(const struct os *os, int fd, void *data, size_t len, uint64_t offset)
{
	return PASS(os, pread, fd, data, some(os, len), offset);
}

static ssize_t fault_pwrite(const struct os *os, int fd, const void *data, size_t len, uint64_t offset)
{
	return PASS(os, pwrite, fd, data, some(os, len), offset);
}

static int fault_ftruncate(const struct os *os, int fd, uint64_t size)
{
	return PASS(os, ftruncate, fd, size);
}

static int fault_fsync(const struct os *os, int fd)
{
	return PASS(os, fsync, fd);
}

static int fault_syncfs(const struct os *os, int fd)
{
	return PASS(os, syncfs, fd);
}

static int fault_renameat(const struct os *os, int old_dirfd, const char *old_path, int new_dirfd,
			  const char *new_path)
{
	return PASS(os, renameat, old_dirfd, old_path, new_dirfd, new_path);
}

static int fault_exchangeat(const struct os *os, int dirfd, const char *path, int other_dirfd,
			    const char *other_path)
{
	return PASS(os, exchangeat, dirfd, path, other_dirfd, other_path);
}

static int fault_linkat(const struct os *os, int old_dirfd, const char *old_path, int new_dirfd,
			const char *new_path)
{
	return PASS(os, linkat, old_dirfd, old_path, new_dirfd, new_path);
}

static int fault_symlinkat(const struct os *os, const char *target, int dirfd, const char *path)
{
	return PASS(os, symlinkat, target, dirfd, path);
}

static int fault_unlinkat(const struct os *os, int dirfd, const char *path, int flags)
{
	return PASS(os, unlinkat, dirfd, path, flags);
}

static int fault_mkdirat(const struct os *os, int dirfd, const char *path, mode_t mode)
{
	return PASS(os, mkdirat, dirfd, path, mode);
}

static int fault_fstatat(const struct os *os, int dirfd, const char *path, struct stat *ret)
{
	return PASS(os, fstatat, dirfd, path, ret);
}

static int fault_fstat(const struct os *os, int fd, struct stat *ret)
{
	return PASS(os, fstat, fd, ret);
}

static ssize_t fault_readlinkat(const struct os *os, int dirfd, const char *path, char *ret, size_t size)
{
	return PASS(os, readlinkat, dirfd, path, ret, size);
}

static int fault_fchmod(const struct os *os, int fd, mode_t mode)
{
	return PASS(os, fchmod, fd, mode);
}

static int fault_fchown(const struct os *os, int fd, uid_t uid, gid_t gid)
{
	return PASS(os, fchown, fd, uid, gid);
}

static int fault_fchownat(const struct os *os, int dirfd, const char *path, uid_t uid, gid_t gid)
{
	return PASS(os, fchownat, dirfd, path, uid, gid);
}

static int fault_futimens(const struct os *os, int fd, const struct timespec times[2])
{
	return PASS(os, futimens, fd, times);
}

static int fault_clone(const struct os *os, int fd, int from_fd)
{
	return PASS(os, clone, fd, from_fd);
}

static int fault_fstatvfs(const struct os *os, int fd, struct statvfs *ret)
{
	return PASS(os, fstatvfs, fd, ret);
}

static int64_t fault_clock_real(const struct os *os)
{
	return fault(os)->below->clock_real(fault(os)->below);
}

static uint64_t fault_clock_boot_ms(const struct os *os)
{
	return fault(os)->below->clock_boot_ms(fault(os)->below);
}

static int fault_random(const struct os *os, void *data, size_t len)
{
	return PASS(os, random, data, len);
}

void os_fault_init(struct os_fault *f, const struct os *below)
{
	*f = (struct os_fault) {
		.os = {
			.openat = fault_openat,
			.close = fault_close,
			.read = fault_read,
			.write = fault_write,
			.pread = fault_pread,
			.pwrite = fault_pwrite,
			.ftruncate = fault_ftruncate,
			.fsync = fault_fsync,
			.syncfs = fault_syncfs,
			.renameat = fault_renameat,
			.exchangeat = fault_exchangeat,
			.linkat = fault_linkat,
			.symlinkat = fault_symlinkat,
			.unlinkat = fault_unlinkat,
			.mkdirat = fault_mkdirat,
			.fstatat = fault_fstatat,
			.fstat = fault_fstat,
			.readlinkat = fault_readlinkat,
			.fchmod = fault_fchmod,
			.fchown = fault_fchown,
			.fchownat = fault_fchownat,
			.futimens = fault_futimens,
			.clone = fault_clone,
			.fstatvfs = fault_fstatvfs,
			.clock_real = fault_clock_real,
			.clock_boot_ms = fault_clock_boot_ms,
			.random = fault_random,
		},
		.below = below,
	};
	f->os.state = f;
}

void os_fault_arm(struct os_fault *f, unsigned at, int error, bool sticky)
{
	f->calls = f->fired = 0;
	f->at = at;
	f->error = error;
	f->sticky = sticky;
}
