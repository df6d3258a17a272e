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

#define T(f) cmocka_unit_test_setup_teardown(f, folder_setup, folder_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(files_and_folders_count),
		T(a_second_name_takes_nothing),
		T(links_are_not_followed),
		T(a_hole_takes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
