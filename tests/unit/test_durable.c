/* Each sentence of os/durable.h, with every call failing and the power cut at every change. */
#include "base/err.h"
#include "os/durable.h"
#include "support/fault_loop.h"
#include "support/folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const struct os *os; /* os_quick() */

static void assert_content(int fd, const char *name, const char *content)
{
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(4096);

	assert_int_equal(file_read(os, fd, name, 4096, &b), 0);
	assert_string_equal(buf_str(&b), content);
}

static void assert_names(int fd, const char *const *names, size_t count)
{
	CLEANUP(name_list_done)
	struct name_list list = { NULL, 0 };

	assert_int_equal(dir_list(os, fd, ".", &list), 0);
	assert_int_equal(list.count, count);
	for (size_t i = 0; i < count; i++)
		assert_string_equal(list.names[i], names[i]);
}

static void test_a_written_file_has_its_bytes_and_its_mode(void **state)
{
	int fd = folder_fd(state);
	mode_t old = umask(077);
	struct stat st;

	assert_int_equal(durable_write_file(os, fd, "a", "one", 3, 0644), 0);
	(void) umask(old);
	assert_content(fd, "a", "one");
	assert_int_equal(fstatat(fd, "a", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_int_equal(durable_write_file(os, fd, "a", "", 0, 0600), 0);
	assert_content(fd, "a", "");
	assert_names(fd, (const char *const[]){ "a" }, 1);
}

static void test_names_stay_below_the_folder(void **state)
{
	static const char *const bad[] = { "", "..", "../x", "/tmp/x", "a/../b", "a//b", "a/" };
	int fd = folder_fd(state);

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		int r = durable_write_file(os, fd, bad[i], "x", 1, 0644);

		if (r >= 0)
			fail_msg("'%s' was written", bad[i]);
	}
	assert_int_equal(dir_make_path(os, fd, "../x", 0755), -ERR_NAME);
	assert_int_equal(dir_open(os, fd, "/etc"), -ERR_NAME);
	assert_int_equal(dir_open(os, fd, "a/.."), -ERR_NAME);
}

static void test_links_are_not_followed(void **state)
{
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(4096);
	int fd = folder_fd(state);

	assert_int_equal(durable_mkdir(os, fd, "real", 0755), 0);
	assert_int_equal(symlinkat("real", fd, "link"), 0);
	assert_int_equal(durable_write_file(os, fd, "real/f", "x", 1, 0644), 0);
	assert_int_equal(symlinkat("f", fd, "real/g"), 0);
	assert_int_equal(dir_open(os, fd, "link"), -ENOTDIR);
	assert_int_equal(durable_write_file(os, fd, "link/f", "y", 1, 0644), -ENOTDIR);
	assert_int_equal(file_read(os, fd, "link/f", 10, &b), -ENOTDIR);
	assert_int_equal(file_read(os, fd, "real/g", 10, &b), -ELOOP);
	assert_int_equal(b.len, 0);
	/* A link in the place of the file is replaced, not written through. */
	assert_int_equal(durable_write_file(os, fd, "real/g", "new", 3, 0644), 0);
	assert_content(fd, "real/f", "x");
	assert_content(fd, "real/g", "new");
}

static void test_an_operators_path_may_hold_links(void **state)
{
	struct folder *f = *state;
	char path[512];
	int fd;

	assert_int_equal(durable_mkdir(os, f->fd, "real", 0755), 0);
	assert_int_equal(symlinkat("real", f->fd, "link"), 0);
	(void) snprintf(path, sizeof(path), "%s/link/file", f->path);
	assert_int_equal(durable_write_file(os, AT_FDCWD, path, "x", 1, 0644), 0);
	assert_content(f->fd, "real/file", "x");
	(void) snprintf(path, sizeof(path), "%s/link", f->path);
	fd = dir_open(os, AT_FDCWD, path);
	assert_true(fd >= 0);
	(void) close(fd);
}

static void test_read_limits(void **state)
{
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(100), small = BUF_INIT(2);
	int fd = folder_fd(state);

	assert_int_equal(durable_write_file(os, fd, "f", "12345", 5, 0644), 0);
	assert_int_equal(buf_add_str(&b, "0"), 0);
	assert_int_equal(file_read(os, fd, "f", 4, &b), -ERR_TOO_LARGE);
	assert_string_equal(buf_str(&b), "0");
	assert_int_equal(file_read(os, fd, "f", 5, &b), 0);
	assert_string_equal(buf_str(&b), "012345");
	assert_int_equal(file_read(os, fd, "f", 100, &small), -ERR_TOO_LARGE);
	assert_int_equal(small.len, 0);
	assert_int_equal(file_read(os, fd, "none", 5, &b), -ENOENT);
	assert_int_equal(file_read(os, fd, ".", 5, &b), -EISDIR);
	assert_int_equal(mkfifoat(fd, "fifo", 0600), 0);
	assert_int_equal(file_read(os, fd, "fifo", 5, &b), -EINVAL);
}

static void test_an_existing_folder_is_fine_and_a_file_is_not(void **state)
{
	int fd = folder_fd(state);
	struct stat st;

	assert_int_equal(durable_mkdir(os, fd, "d", 0700), 0);
	assert_int_equal(durable_mkdir(os, fd, "d", 0755), 0);
	assert_int_equal(fstatat(fd, "d", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(durable_write_file(os, fd, "f", "", 0, 0644), 0);
	assert_int_equal(durable_mkdir(os, fd, "f", 0755), -ENOTDIR);
	assert_int_equal(dir_make_path(os, fd, "d/e/f", 0755), 0);
	assert_int_equal(dir_make_path(os, fd, "d/e/f/g", 0755), 0);
	assert_int_equal(fstatat(fd, "d/e/f/g", &st, 0), 0);
	assert_int_equal(dir_make_path(os, fd, "f/g", 0755), -ENOTDIR);
}

static void test_names_are_listed_bytewise(void **state)
{
	int fd = folder_fd(state);

	for (const char *const *n = (const char *const[]){ "b", "B", "a", "\xc3\xa4", ".x", NULL }; *n; n++)
		assert_int_equal(durable_mkdir(os, fd, *n, 0755), 0);
	assert_names(fd, (const char *const[]){ ".x", "B", "a", "b", "\xc3\xa4" }, 5);
}

static void test_a_tree_is_removed_without_following_links(void **state)
{
	int fd = folder_fd(state);

	assert_int_equal(dir_make_path(os, fd, "t/a/b", 0755), 0);
	assert_int_equal(durable_mkdir(os, fd, "keep", 0755), 0);
	assert_int_equal(durable_write_file(os, fd, "keep/f", "x", 1, 0644), 0);
	assert_int_equal(symlinkat("../../keep", fd, "t/a/link"), 0);
	assert_int_equal(durable_write_file(os, fd, "t/a/b/f", "x", 1, 0444), 0);
	assert_int_equal(fchmodat(fd, "t/a/b", 0500, 0), 0);
	assert_int_equal(tree_remove(os, fd, "t"), 0);
	assert_int_equal(tree_remove(os, fd, "t"), 0);
	assert_int_equal(symlinkat("keep", fd, "l"), 0);
	assert_int_equal(tree_remove(os, fd, "l"), 0);
	assert_names(fd, (const char *const[]){ "keep" }, 1);
	assert_content(fd, "keep/f", "x");
}

static void test_a_very_deep_tree_is_removed(void **state)
{
	int fd = folder_fd(state), at = dup(fd);

	assert_true(at >= 0);
	for (int i = 0; i < 1500; i++) {
		int next;

		/* Also a name the removal would choose itself. */
		assert_int_equal(mkdirat(at, i == 0 ? "t" : "d", 0755), 0);
		if (i == 1) {
			assert_int_equal(mkdirat(at, ".deep-0", 0755), 0);
			assert_int_equal(mkdirat(at, ".deep-0/x", 0755), 0);
		}
		next = openat(at, i == 0 ? "t" : "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		(void) close(at);
		at = next;
		assert_true(at >= 0);
	}
	(void) close(at);
	assert_int_equal(tree_remove(os, fd, "t"), 0);
	assert_names(fd, NULL, 0);
}

/* --- faults and power cuts ----------------------------------------------------------------------------- */

static int prep_old_file(struct fault_case *c)
{
	return durable_write_file(c->os, c->dirfd, "f", "old", 3, 0644);
}

static int write_new_file(struct fault_case *c)
{
	return durable_write_file(c->os, c->dirfd, "f", "the new content", 15, 0644);
}

static void file_is_old_or_new(struct fault_case *c, int r)
{
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(100);
	bool is_new;

	assert_int_equal(file_read(os, c->dirfd, "f", 100, &b), 0);
	is_new = strcmp(buf_str(&b), "the new content") == 0;
	assert_true(is_new || strcmp(buf_str(&b), "old") == 0);
	if (r == 0)
		assert_true(is_new);
	else
		assert_true(c->injected);
}

FAULT_TEST(a_file_is_old_or_new){
	.name = "a_file_is_old_or_new",
	.prep = prep_old_file,
	.body = write_new_file,
	.check = file_is_old_or_new,
};

static int prep_old_link(struct fault_case *c)
{
	return durable_link_replace(c->os, c->dirfd, "generations/1", "current");
}

static int replace_link(struct fault_case *c)
{
	return durable_link_replace(c->os, c->dirfd, "generations/2", "current");
}

static void link_is_old_or_new(struct fault_case *c, int r)
{
	char target[100] = "";

	assert_true(readlinkat(c->dirfd, "current", target, sizeof(target) - 1) > 0);
	if (r == 0)
		assert_string_equal(target, "generations/2");
	else
		assert_true(strcmp(target, "generations/1") == 0 || strcmp(target, "generations/2") == 0);
}

FAULT_TEST(a_link_is_never_missing){
	.name = "a_link_is_never_missing",
	.prep = prep_old_link,
	.body = replace_link,
	.check = link_is_old_or_new,
};

static int make_folder(struct fault_case *c)
{
	return durable_mkdir(c->os, c->dirfd, "d", 0755);
}

static void folder_is_there(struct fault_case *c, int r)
{
	struct stat st;

	if (r == 0) {
		assert_int_equal(fstatat(c->dirfd, "d", &st, 0), 0);
		assert_true(S_ISDIR(st.st_mode));
	}
}

FAULT_TEST(a_folder_that_was_made_stays){
	.name = "a_folder_that_was_made_stays",
	.body = make_folder,
	.check = folder_is_there,
};

static int prep_tree(struct fault_case *c)
{
	int r = dir_make_path(c->os, c->dirfd, "t/a/b", 0755);

	return r < 0 ? r : durable_write_file(c->os, c->dirfd, "t/a/f", "x", 1, 0644);
}

static int remove_tree(struct fault_case *c)
{
	return tree_remove(c->os, c->dirfd, "t");
}

static void removal_can_go_on(struct fault_case *c, int r)
{
	struct stat st;

	(void) r; /* removals are not synced: after a power cut all may still be there */
	assert_int_equal(tree_remove(os, c->dirfd, "t"), 0);
	assert_int_equal(fstatat(c->dirfd, "t", &st, AT_SYMLINK_NOFOLLOW), -1);
}

FAULT_TEST(a_removal_can_go_on){
	.name = "a_removal_can_go_on",
	.prep = prep_tree,
	.body = remove_tree,
	.check = removal_can_go_on,
};

static void test_faults(void **state)
{
	(void) state;
	fault_test_run(&a_file_is_old_or_new);
	fault_test_run(&a_link_is_never_missing);
	fault_test_run(&a_folder_that_was_made_stays);
	fault_test_run(&a_removal_can_go_on);
}

static void test_crashes(void **state)
{
	(void) state;
	crash_test_run(&a_file_is_old_or_new, 12);
	crash_test_run(&a_link_is_never_missing, 12);
	crash_test_run(&a_folder_that_was_made_stays, 6);
	crash_test_run(&a_removal_can_go_on, 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_written_file_has_its_bytes_and_its_mode, folder_setup,
						folder_teardown),
		cmocka_unit_test_setup_teardown(test_names_stay_below_the_folder, folder_setup, folder_teardown),
		cmocka_unit_test_setup_teardown(test_links_are_not_followed, folder_setup, folder_teardown),
		cmocka_unit_test_setup_teardown(test_an_operators_path_may_hold_links, folder_setup,
						folder_teardown),
		cmocka_unit_test_setup_teardown(test_read_limits, folder_setup, folder_teardown),
		cmocka_unit_test_setup_teardown(test_an_existing_folder_is_fine_and_a_file_is_not, folder_setup,
						folder_teardown),
		cmocka_unit_test_setup_teardown(test_names_are_listed_bytewise, folder_setup, folder_teardown),
		cmocka_unit_test_setup_teardown(test_a_tree_is_removed_without_following_links, folder_setup,
						folder_teardown),
		cmocka_unit_test_setup_teardown(test_a_very_deep_tree_is_removed, folder_setup, folder_teardown),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_crashes),
	};

	os = os_quick();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
