/* Each sentence of os/os.h, on the real system; and that the failing and forgetting ones do what they say. */
#include "base/err.h"
#include "os/durable.h"
#include "os/os.h"
#include "support/fault_loop.h"
#include "support/folder.h"
#include "support/os_crash.h"
#include "support/os_fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static const struct os *const os = &os_posix;

static void test_descriptors_are_close_on_exec_and_links_not_followed(void **state)
{
	int dir = folder_fd(state), fd = os->openat(os, dir, "f", O_RDWR | O_CREAT, 0644);
	struct stat st;
	char target[8];

	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(os->close(os, fd), 0);
	assert_int_equal(os->symlinkat(os, "f", dir, "l"), 0);
	assert_int_equal(os->openat(os, dir, "l", O_RDONLY, 0), -ELOOP);
	assert_int_equal(os->fstatat(os, dir, "l", &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(os->readlinkat(os, dir, "l", target, sizeof(target)), 1);
	assert_int_equal(os->linkat(os, dir, "l", dir, "l2"), 0); /* the link itself */
	assert_int_equal(os->fstatat(os, dir, "l2", &st), 0);
	assert_true(S_ISLNK(st.st_mode));
}

static void test_errors_are_negative_errno(void **state)
{
	int dir = folder_fd(state);
	struct stat st;
	struct statvfs vfs;
	char c;

	assert_int_equal(os->openat(os, dir, "none", O_RDONLY, 0), -ENOENT);
	assert_int_equal(os->close(os, -1), -EBADF);
	assert_int_equal(os->read(os, -1, &c, 1), -EBADF);
	assert_int_equal(os->write(os, -1, "x", 1), -EBADF);
	assert_int_equal(os->pread(os, -1, &c, 1, 0), -EBADF);
	assert_int_equal(os->pwrite(os, -1, "x", 1, 0), -EBADF);
	assert_int_equal(os->ftruncate(os, -1, 0), -EBADF);
	assert_int_equal(os->fsync(os, -1), -EBADF);
	assert_int_equal(os->syncfs(os, -1), -EBADF);
	assert_int_equal(os->renameat(os, dir, "none", dir, "x"), -ENOENT);
	assert_int_equal(os->linkat(os, dir, "none", dir, "x"), -ENOENT);
	assert_int_equal(os->symlinkat(os, "x", dir, "."), -EEXIST);
	assert_int_equal(os->unlinkat(os, dir, "none", 0), -ENOENT);
	assert_int_equal(os->mkdirat(os, dir, ".", 0755), -EEXIST);
	assert_int_equal(os->fstatat(os, dir, "none", &st), -ENOENT);
	assert_int_equal(os->fstat(os, -1, &st), -EBADF);
	assert_int_equal(os->readlinkat(os, dir, ".", &c, 1), -EINVAL);
	assert_int_equal(os->fchmod(os, -1, 0), -EBADF);
	assert_int_equal(os->fchown(os, -1, 0, 0), -EBADF);
	assert_int_equal(os->fchownat(os, dir, "none", 0, 0), -ENOENT);
	assert_int_equal(os->fstatvfs(os, -1, &vfs), -EBADF);
	assert_int_equal(os->fsync(os, dir), 0);
	assert_int_equal(os->syncfs(os, dir), 0);
	assert_int_equal(os->fstatvfs(os, dir, &vfs), 0);
}

static void nothing(int sig)
{
	(void) sig;
}

static void test_an_interrupted_read_goes_on(void **state)
{
	const struct itimerval soon = { .it_value = { .tv_usec = 30000 }, .it_interval = { .tv_usec = 30000 } },
			       never = { .it_value = { 0, 0 } };
	struct sigaction action = { .sa_handler = nothing }, old; /* without SA_RESTART */
	int fds[2];
	char c = 0;
	pid_t child;

	(void) state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(sigaction(SIGALRM, &action, &old), 0);
	child = fork();
	if (child == 0) {
		(void) nanosleep(&(struct timespec){ .tv_nsec = 200000000 }, NULL);
		_exit(write(fds[1], "x", 1) == 1 ? 0 : 1);
	}
	assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
	assert_int_equal(os->read(os, fds[0], &c, 1), 1);
	assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
	assert_int_equal(c, 'x');
	(void) sigaction(SIGALRM, &old, NULL);
	(void) close(fds[0]);
	(void) close(fds[1]);
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
}

static void test_clocks_and_chance(void **state)
{
	uint8_t a[32] = { 0 }, b[32] = { 0 };
	uint64_t first = os->clock_boot_ms(os);

	(void) state;
	assert_true(os->clock_real(os) >= time(NULL) - 2);
	assert_true(os->clock_boot_ms(os) >= first && first > 0);
	assert_int_equal(os->random(os, a, sizeof(a)), 0);
	assert_int_equal(os->random(os, b, sizeof(b)), 0);
	assert_memory_not_equal(a, b, sizeof(a));
}

/* --- the tests' own systems ------------------------------------------------------------------------------- */

static void test_the_failing_system_fails_when_told(void **state)
{
	int dir = folder_fd(state);
	struct os_fault f;

	os_fault_init(&f, os);
	os_fault_arm(&f, 2, ENOSPC, false);
	assert_int_equal(f.os.mkdirat(&f.os, dir, "a", 0755), 0);
	assert_int_equal(f.os.mkdirat(&f.os, dir, "b", 0755), -ENOSPC);
	assert_int_equal(f.os.mkdirat(&f.os, dir, "b", 0755), 0);
	assert_int_equal(f.fired, 1);
	os_fault_arm(&f, 1, EIO, true);
	assert_int_equal(f.os.mkdirat(&f.os, dir, "c", 0755), -EIO);
	assert_int_equal(f.os.mkdirat(&f.os, dir, "c", 0755), -EIO);
	assert_int_equal(f.fired, 2);
	f.short_io = true;
	os_fault_arm(&f, 0, 0, false);
	{
		int fd = f.os.openat(&f.os, dir, "f", O_RDWR | O_CREAT, 0644);
		char c[10];

		assert_int_equal(f.os.write(&f.os, fd, "0123456789", 10), 5);
		assert_int_equal(f.os.pread(&f.os, fd, c, 10, 0), 5);
		assert_int_equal(f.os.close(&f.os, fd), 0);
	}
}

/* Do `body` on a watched folder and look at the disk after a cut at its end: seed 0 keeps what was synced alone. */
static void disk_after(void **state, void (*body)(const struct os *, int), unsigned seed, char path[static 256])
{
	const struct folder *f = *state;
	struct os_crash *c = NULL;

	assert_int_equal(os_crash_new(f->path, &c), 0);
	body(os_crash_os(c), f->fd);
	temp_folder(path, 256);
	assert_int_equal(os_crash_restore(c, seed, path), 0);
	os_crash_free(c);
}

static bool has(const char *path, const char *name, const char *content)
{
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(1000);
	char whole[600];

	(void) snprintf(whole, sizeof(whole), "%s/%s", path, name);
	return file_read(os, AT_FDCWD, whole, 1000, &b) == 0 && strcmp(buf_str(&b), content) == 0;
}

static void unsynced(const struct os *with, int dir)
{
	int fd = with->openat(with, dir, "f", O_WRONLY | O_CREAT, 0644);

	assert_int_equal(with->write(with, fd, "data", 4), 4);
	(void) with->close(with, fd);
}

static void file_synced_only(const struct os *with, int dir)
{
	int fd = with->openat(with, dir, "f", O_WRONLY | O_CREAT, 0644);

	assert_int_equal(with->write(with, fd, "data", 4), 4);
	assert_int_equal(with->fsync(with, fd), 0);
	(void) with->close(with, fd);
}

static void dir_synced_only(const struct os *with, int dir)
{
	unsynced(with, dir);
	assert_int_equal(with->fsync(with, dir), 0);
}

static void both_synced(const struct os *with, int dir)
{
	file_synced_only(with, dir);
	assert_int_equal(with->fsync(with, dir), 0);
}

static void all_synced(const struct os *with, int dir)
{
	unsynced(with, dir);
	assert_int_equal(with->syncfs(with, dir), 0);
}

static void renamed_unsynced(const struct os *with, int dir)
{
	both_synced(with, dir);
	assert_int_equal(with->renameat(with, dir, "f", dir, "g"), 0);
}

static void test_the_forgetting_system_forgets(void **state)
{
	static const struct {
		void (*body)(const struct os *, int);
		const char *lost, *kept; /* content of f with seed 0 and 1; NULL: no f */
		const char *g_lost, *g_kept;
	} rows[] = {
		{ unsynced, NULL, "data", NULL, NULL },	     { file_synced_only, NULL, "data", NULL, NULL },
		{ dir_synced_only, "", "data", NULL, NULL }, { both_synced, "data", "data", NULL, NULL },
		{ all_synced, "data", "data", NULL, NULL },  { renamed_unsynced, "data", NULL, NULL, "data" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (unsigned seed = 0; seed < 2; seed++) {
			const char *f = seed == 0 ? rows[i].lost : rows[i].kept;
			const char *g = seed == 0 ? rows[i].g_lost : rows[i].g_kept;
			char path[256];
			struct stat st;
			int fd;

			disk_after(state, rows[i].body, seed, path);
			fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			if (f ? !has(path, "f", f) : fstatat(fd, "f", &st, 0) == 0)
				fail_msg("row %zu seed %u: f", i, seed);
			if (g ? !has(path, "g", g) : fstatat(fd, "g", &st, 0) == 0)
				fail_msg("row %zu seed %u: g", i, seed);
			(void) close(fd);
			temp_folder_remove(path);
			(void) unlinkat(folder_fd(state), "f", 0);
			(void) unlinkat(folder_fd(state), "g", 0);
		}
}

static void test_a_dead_machine_does_nothing_more(void **state)
{
	const struct folder *f = *state;
	struct os_crash *c = NULL;
	const struct os *with;
	struct stat st;

	assert_int_equal(os_crash_new(f->path, &c), 0);
	with = os_crash_os(c);
	os_crash_arm(c, 2);
	assert_int_equal(with->mkdirat(with, f->fd, "a", 0755), 0);
	assert_false(os_crash_happened(c));
	assert_int_equal(with->mkdirat(with, f->fd, "b", 0755), -EIO);
	assert_true(os_crash_happened(c));
	assert_int_equal(with->fstatat(with, f->fd, "a", &st), -EIO);
	assert_int_equal(fstatat(f->fd, "b", &st, 0), -1);
	os_crash_free(c);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, folder_setup, folder_teardown)
	const struct CMUnitTest tests[] = {
		T(test_descriptors_are_close_on_exec_and_links_not_followed),
		T(test_errors_are_negative_errno),
		T(test_an_interrupted_read_goes_on),
		T(test_clocks_and_chance),
		T(test_the_failing_system_fails_when_told),
		T(test_the_forgetting_system_forgets),
		T(test_a_dead_machine_does_nothing_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
