#include "os/confine.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * Landlock as the kernel documents it (Documentation/userspace-api/landlock.rst);
 * Debian 12's headers end at version 2 of its interface.
 */
enum {
	LANDLOCK_VERSION_FLAG = 1,
	RULE_PATH_BENEATH = 1,

	FS_WRITE_FILE = 1 << 1,
	FS_READ_FILE = 1 << 2,
	FS_READ_DIR = 1 << 3,
	FS_REMOVE_DIR = 1 << 4,
	FS_REMOVE_FILE = 1 << 5,
	FS_MAKE_DIR = 1 << 7,
	FS_MAKE_REG = 1 << 8,
	FS_MAKE_SYM = 1 << 12,
	FS_TRUNCATE = 1 << 14,
	FS_OF_FILES = FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE,
	FS_READ = FS_READ_FILE | FS_READ_DIR,
	FS_CHANGE = FS_WRITE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR | FS_MAKE_REG | FS_MAKE_SYM |
		    FS_TRUNCATE,

	NET_BIND_TCP = 1 << 0,
	SCOPE_ALL = 3, /* abstract Unix sockets, signals */
};

#if !defined(__has_feature)
#define __has_feature(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

/* Missing ones are no loss. */
static const char *const client_paths[] = {
	"/etc/resolv.conf",
	"/etc/hosts",
	"/etc/host.conf",
	"/etc/nsswitch.conf",
	"/etc/gai.conf",
	"/etc/services",
	"/etc/protocols",
	"/etc/ssl",
	"/usr/lib/ssl",
	"/usr/share/ca-certificates",
	"/usr/local/share/ca-certificates",
	"/etc/localtime",
	"/usr/share/zoneinfo",
	"/lib",
	"/usr/lib",
	"/lib64",
	"/etc/ld.so.cache",
	"/dev/null",
	"/dev/urandom",
	"/proc/self",
	"/run/systemd/resolve",
	"/run/resolvconf",
	"/run/NetworkManager",
};

struct ruleset_attr {
	uint64_t fs, net, scoped;
};

struct path_beneath_attr {
	uint64_t allowed;
	int32_t parent_fd;
} __attribute__((packed));

static int limit(int what, uint64_t max)
{
	struct rlimit limits = { .rlim_cur = max, .rlim_max = max }, now;

	if (getrlimit((__rlimit_resource_t) what, &now) < 0)
		return -errno;
	if (now.rlim_max < max) /* stricter already */
		limits.rlim_cur = limits.rlim_max = now.rlim_max;
	return setrlimit((__rlimit_resource_t) what, &limits) < 0 ? -errno : 0;
}

uint64_t confine_memory(uint64_t memory)
{
	return SANITIZED ? 0 : memory;
}

int confine_limits(uint64_t memory, uint64_t files)
{
	int r;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	r = limit(RLIMIT_CORE, 0);
	if (r == 0)
		r = limit(RLIMIT_NOFILE, files);
	memory = confine_memory(memory);
	if (r < 0 || memory == 0)
		return r;
	/* A thread's arena would reserve 128 MiB of address space at once. */
	(void) mallopt(M_ARENA_MAX, 1); /* only a wish */
	return limit(RLIMIT_AS, memory);
}

int confine_descriptors(unsigned first)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) /* the lowest free is this one */
			return -EBADF;
	return close_range(first, ~0U, 0) < 0 ? -errno : 0;
}

/* All rights that version `abi` of the interface knows. */
static struct ruleset_attr handled_by(long abi)
{
	struct ruleset_attr attr = { .fs = (1 << 13) - 1 };

	if (abi >= 2)
		attr.fs |= 1 << 13;
	if (abi >= 3)
		attr.fs |= FS_TRUNCATE;
	if (abi >= 4)
		attr.net = NET_BIND_TCP;
	if (abi >= 5)
		attr.fs |= 1 << 15;
	if (abi >= 6)
		attr.scoped = SCOPE_ALL;
	return attr;
}

static int allow(int ruleset, const struct ruleset_attr *attr, int fd, uint64_t rights)
{
	struct path_beneath_attr beneath = { .allowed = rights & attr->fs, .parent_fd = fd };
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		beneath.allowed &= FS_OF_FILES;
	return syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &beneath, 0) < 0 ? -errno : 0;
}

int confine_files(const int *writable, size_t writable_count, const int *readable, size_t readable_count)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_VERSION_FLAG);
	struct ruleset_attr attr;
	int ruleset, r = 0;

	/*
	 * The kernel itself knows only the first two answers to this question; the third is a container's
	 * system call filter (systemd-nspawn's, seen with 252), and no way around it is ours to find.
	 */
	if (abi < 0)
		return errno == ENOSYS || errno == EOPNOTSUPP || errno == EPERM ? 0 : -errno;
	attr = handled_by(abi);
	/* The kernel takes a longer structure than its own as long as what it does not know is 0. */
	ruleset = (int) syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (ruleset < 0)
		return -errno;
	for (size_t i = 0; r == 0 && i < writable_count; i++)
		r = allow(ruleset, &attr, writable[i], FS_READ | FS_CHANGE);
	for (size_t i = 0; r == 0 && i < readable_count; i++)
		r = allow(ruleset, &attr, readable[i], FS_READ);
	if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		r = -errno;
	(void) close(ruleset); /* in force by now, or failing */
	return r < 0 ? r : 1;
}

int confine_client(const int *writable, size_t writable_count, const int *readable, size_t readable_count)
{
	int all[ARRAY_LEN(client_paths) + CONFINE_READABLE_MAX];
	size_t of_system = 0, count;
	int r;

	assert(readable_count <= CONFINE_READABLE_MAX);
	for (size_t i = 0; i < ARRAY_LEN(client_paths); i++) {
		int fd = open(client_paths[i], O_PATH | O_CLOEXEC);

		if (fd >= 0)
			all[of_system++] = fd;
	}
	count = of_system;
	for (size_t i = 0; i < readable_count; i++)
		all[count++] = readable[i];
	r = confine_files(writable, writable_count, all, count);
	for (size_t i = 0; i < of_system; i++)
		(void) close(all[i]); /* only named a rule */
	return r;
}
