/* What a folder takes: what space.h promises. */
#include "agent/store/space.h"
#include "base/err.h"
#include "support/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct space used(int fd)
{
	struct space s = { 0, 0 };

	assert_int_equal(space_used(&os_posix, fd, &s), 0);
	return s;
}

static void put(int fd, const char *name, size_t len)
{
	static const char block[4096] = { [0] = 1 };
	int f = openat(fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	assert_true(f >= 0);
	for (size_t i = 0; i < len; i += sizeof(block))
		assert_int_equal(write(f, block, sizeof(block)), sizeof(block));
	(void) fsync(f);
	(void) close(f);
}

static void files_and_folders_count(void **state)
{
	int fd = folder_fd(state);
	struct space before, after;

	assert_int_equal(mkdirat(fd, "a", 0755), 0);
	assert_int_equal(mkdirat(fd, "a/b", 0755), 0);
	before = used(fd);
	assert_int_equal(before.files, 2);
	put(fd, "a/b/file", 1024 * 1024);
	after = used(fd);
	assert_int_equal(after.files, 3);
	assert_true(after.bytes >= before.bytes + 1024 * 1024 && after.bytes < before.bytes + 1280 * 1024);
}

static void a_second_name_takes_nothing(void **state)
{
	int fd = folder_fd(state);
	struct space before, after;

	put(fd, "file", 1024 * 1024);
	before = used(fd);
	assert_int_equal(linkat(fd, "file", fd, "again", 0), 0);
	after = used(fd);
	assert_true(after.bytes < before.bytes + 64 * 1024);
}

static void links_are_not_followed(void **state)
{
	int fd = folder_fd(state);

	assert_int_equal(symlinkat("/", fd, "everything"), 0);
	assert_int_equal(used(fd).files, 1);
}

static void a_hole_takes_nothing(void **state)
{
	int fd = folder_fd(state), f = openat(fd, "sparse", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	assert_int_equal(ftruncate(f, 1 << 30), 0);
	(void) close(f);
	assert_true(used(fd).bytes < 1024 * 1024);
}

/* A component may do so with its data: the others' updates are measured all the same. */
static void what_is_too_deep_is_left_out(void **state)
{
	int fd = folder_fd(state), at = dup(fd);
	uint64_t all;

	put(fd, "file", 1024 * 1024);
	for (int i = 0; i < 600; i++) {
		int next;

		assert_int_equal(mkdirat(at, "d", 0755), 0);
		next = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		(void) close(at);
		at = next;
	}
	put(at, "too-deep", 4096);
	(void) close(at);
	all = used(fd).files;
	assert_true(all > 500 && all < 601);
	assert_true(used(fd).bytes >= 1024 * 1024);
}

/* As a component's user could: a folder that is none any more when it is opened. */
static int exchange(const struct os *os, int dirfd, const char *path, int flags, mode_t mode)
{
	if (strcmp(path, "exchanged") == 0) {
		assert_int_equal(unlinkat(dirfd, path, AT_REMOVEDIR), 0);
		assert_int_equal(symlinkat("/", dirfd, path), 0);
	}
	return os_posix.openat(os, dirfd, path, flags, mode);
}

static void what_is_exchanged_is_left_out(void **state)
{
	struct os os = os_posix;
	struct space s = { 0, 0 };
	int fd = folder_fd(state);

	os.openat = exchange;
	assert_int_equal(mkdirat(fd, "exchanged", 0755), 0);
	put(fd, "file", 1024 * 1024);
	assert_int_equal(space_used(&os, fd, &s), 0);
	assert_int_equal(s.files, 2);
}

#define T(f) cmocka_unit_test_setup_teardown(f, folder_setup, folder_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(files_and_folders_count), T(a_second_name_takes_nothing),  T(links_are_not_followed),
		T(a_hole_takes_nothing),    T(what_is_too_deep_is_left_out), T(what_is_exchanged_is_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
