#include "support/fault_loop.h"

#include "os/durable.h"
#include "support/os_crash.h"
#include "support/os_fault.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CALLS_LIMIT = 20000 };

static int no_sync(const struct os *os, int fd)
{
	(void) os;
	return fcntl(fd, F_GETFD) < 0 ? -errno : 0;
}

const struct os *os_quick(void)
{
	static struct os quick;

	if (!quick.openat) {
		quick = os_posix;
		quick.fsync = no_sync;
		quick.syncfs = no_sync;
	}
	return &quick;
}

/* A round that cannot be set up is no result: stop with the reason. */
static _Noreturn void broken(const char *what, int r)
{
	(void) fprintf(stderr, "fault loop: %s: %s\n", what, strerror(r < 0 ? -r : errno));
	abort();
}

/* Of one process, held as long as it lives: by that those are known whose process was killed. */
static struct {
	char path[128];
	int fd;
	pid_t pid;
} home = { .fd = -1 };

static void leave_home(void)
{
	/* A child that ends as its parent would has no home of its own. */
	if (home.pid == getpid())
		(void) rmdir(home.path); /* a folder that a failed test left is a later run's to remove */
}

/* What was left beside it by processes that were killed. */
static void remove_left(const char *base)
{
	struct dirent *e;
	DIR *d = opendir(base);

	while (d && (e = readdir(d)) != NULL) {
		char path[sizeof(home.path) + sizeof(e->d_name)];
		int fd;

		if (strncmp(e->d_name, "selfright-unit-", 15) != 0)
			continue;
		(void) snprintf(path, sizeof(path), "%s/%s", base, e->d_name);
		fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
			(void) !tree_remove(os_quick(), AT_FDCWD, path); /* another one may be at it, too */
		if (fd >= 0)
			(void) close(fd); /* a folder */
	}
	if (d)
		(void) closedir(d); /* opened for reading */
}

static void make_home(void)
{
	const char *base = getenv("TMPDIR");
	char new[sizeof(home.path)];

	/* Thousands of folders come and go: in memory, where there is such a place, it is twenty times as fast. */
	if (!base || !*base)
		base = access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp";
	if (snprintf(new, sizeof(new), "%s/selfright-new--XXXXXX", base) >= (int) sizeof(new) || !mkdtemp(new))
		broken("mkdtemp", 0);
	home.fd = open(new, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* Users that tests become pass through it. */
	if (home.fd < 0 || flock(home.fd, LOCK_EX) < 0 || fchmod(home.fd, 0711) < 0)
		broken(new, 0);
	/* By that name from when it is held on. */
	(void) snprintf(home.path, sizeof(home.path), "%s/selfright-unit-%s", base, new + strlen(new) - 6);
	if (rename(new, home.path) < 0)
		broken(new, 0);
	home.pid = getpid();
	(void) atexit(leave_home); /* else it is left to a later run */
	remove_left(base);
}

void temp_folder(char *path, size_t size)
{
	if (home.fd < 0)
		make_home();
	if (snprintf(path, size, "%s/XXXXXX", home.path) >= (int) size || !mkdtemp(path))
		broken("mkdtemp", 0);
}

void temp_folder_remove(const char *path)
{
	int r = tree_remove(os_quick(), AT_FDCWD, path);

	if (r < 0)
		broken("removing a test folder", r);
}

static unsigned open_descriptors(void)
{
	unsigned n = 0;
	DIR *d = opendir("/proc/self/fd");

	if (!d)
		broken("/proc/self/fd", 0);
	while (readdir(d))
		n++;
	(void) closedir(d); /* opened for reading */
	return n;
}

static void begin(struct fault_case *c, const struct fault_test *t)
{
	*c = (struct fault_case){ .os = os_quick() };
	temp_folder(c->path, sizeof(c->path));
	c->dirfd = open(c->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c->dirfd < 0)
		broken("open", 0);
	if (t->prep) {
		int r = t->prep(c);

		if (r < 0)
			broken("prep", r);
	}
}

static void end(struct fault_case *c)
{
	(void) close(c->dirfd); /* a test's folder */
	temp_folder_remove(c->path);
}

static int run_body(struct fault_case *c, const struct fault_test *t, const struct os *os)
{
	unsigned before = open_descriptors();
	int r;

	c->os = os;
	r = t->body(c);
	c->os = os_quick();
	if (open_descriptors() != before) {
		(void) fprintf(stderr, "%s: a descriptor was left open\n", t->name ? t->name : "fault test");
		abort();
	}
	return r;
}

/* Call `at` fails; false when the body is through before it. */
static bool fault_round(const struct fault_test *t, unsigned at, int error, bool sticky)
{
	struct fault_case c;
	struct os_fault f;
	int r;

	begin(&c, t);
	os_fault_init(&f, os_quick());
	os_fault_arm(&f, at, error, sticky);
	r = run_body(&c, t, &f.os);
	c.injected = f.fired > 0;
	t->check(&c, r);
	end(&c);
	return f.fired > 0;
}

void fault_test_run(const struct fault_test *t)
{
	static const int errors[] = { ENOSPC, EIO };
	struct fault_case c;
	struct os_fault f;

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		for (int sticky = 0; sticky < 2; sticky++)
			for (unsigned at = 1; fault_round(t, at, errors[i], sticky); at++)
				if (at > CALLS_LIMIT)
					broken("endless", -ELOOP);
	/* Reads and writes that do half of what they are asked are no failure at all. */
	begin(&c, t);
	os_fault_init(&f, os_quick());
	f.short_io = true;
	t->check(&c, run_body(&c, t, &f.os));
	end(&c);
}

/* Look at a copy of the disk. */
static void check_disk(const struct fault_test *t, struct os_crash *crash, unsigned seed, int r)
{
	struct fault_case c = { .os = os_quick(), .injected = true, .died = true };
	int e;

	temp_folder(c.path, sizeof(c.path));
	e = os_crash_restore(crash, seed, c.path);
	if (e < 0)
		broken("restore", e);
	c.dirfd = open(c.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c.dirfd < 0)
		broken("open", 0);
	t->check(&c, r);
	end(&c);
}

void crash_test_run(const struct fault_test *t, unsigned seeds)
{
	bool died = true;

	for (unsigned at = 1; died; at++) {
		struct os_crash *crash = NULL;
		struct fault_case c;
		int r;

		if (at > CALLS_LIMIT)
			broken("endless", -ELOOP);
		begin(&c, t);
		r = os_crash_new(c.path, &crash);
		if (r < 0)
			broken("os_crash_new", r);
		os_crash_arm(crash, at);
		r = run_body(&c, t, os_crash_os(crash));
		died = os_crash_happened(crash);
		/* After the body is through nothing it promised may be lost, whatever was not synced. */
		for (unsigned seed = 0; seed < seeds; seed++)
			check_disk(t, crash, seed, died ? -EIO : r);
		/* Killed only: the page cache lives on. */
		c.injected = c.died = died;
		t->check(&c, died ? -EIO : r);
		os_crash_free(crash);
		end(&c);
	}
}
