/* inhibit.h: locks that end with their process and outlive the agent, files that are there or not. */
#include "agent/local/inhibit.h"
#include "base/attr.h"
#include "base/err.h"
#include "os/durable.h"
#include "os/process.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka wants the four above */
#include <cmocka.h>

#define BOOT_ID "11111111-2222-3333-4444-555555555555"
#define OTHER_BOOT "99999999-2222-3333-4444-555555555555"

static char dir[64];
static struct inhibitors *inhibitors;
static struct process sleepers[INHIBIT_LOCKS_MAX + 1];
static struct inhibitor list[INHIBIT_LIST_MAX];

static size_t held(void)
{
	return inhibitors_list(inhibitors, list, ARRAY_LEN(list));
}

static int setup(void **state)
{
	(void) state;
	snprintf(dir, sizeof(dir), "/tmp/selfright-inhibit-XXXXXX");
	assert_non_null(mkdtemp(dir));
	assert_int_equal(inhibitors_open(&os_posix, dir, BOOT_ID, &inhibitors), 0);
	memset(sleepers, 0, sizeof(sleepers));
	return 0;
}

static int teardown(void **state)
{
	(void) state;
	inhibitors_close(inhibitors);
	for (size_t i = 0; i < ARRAY_LEN(sleepers); i++)
		if (sleepers[i].pid)
			process_end(&sleepers[i], 0);
	assert_int_equal(tree_remove(&os_posix, AT_FDCWD, dir), 0);
	return 0;
}

static void reopen(const char *boot_id)
{
	inhibitors_close(inhibitors);
	inhibitors = NULL;
	assert_int_equal(inhibitors_open(&os_posix, dir, boot_id, &inhibitors), 0);
}

static pid_t sleeper(size_t i)
{
	static const char *const argv[] = { "/bin/sleep", "1000", NULL };

	assert_int_equal(process_start(&(struct process_options){ .argv = argv,
								  .stdin_fd = -1,
								  .stdout_fd = -1,
								  .stderr_fd = -1 },
				       &sleepers[i]),
			 0);
	return sleepers[i].pid;
}

static void file(const char *name, const char *text)
{
	char path[160];
	FILE *f;

	snprintf(path, sizeof(path), "%s/inhibit/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static bool exists(const char *name)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/inhibit/%s", dir, name);
	return access(path, F_OK) == 0;
}

static void test_a_lock_ends_with_its_process(void **state)
{
	pid_t pid = sleeper(0);
	struct pollfd fds[INHIBIT_FDS_MAX];
	size_t count;

	(void) state;
	assert_int_equal(held(), 0);
	assert_int_equal(inhibitors_take(inhibitors, pid, 0, "nightly\nbackup"), 0);
	assert_true(inhibitors_changed(inhibitors));
	assert_int_equal(held(), 1);
	assert_string_equal(list[0].why, "nightly");
	assert_non_null(strstr(list[0].who, "of root"));
	assert_true(list[0].since > 0);
	assert_false(inhibitors_changed(inhibitors));
	process_end(&sleepers[0], 0);
	/* Its end wakes whoever waits. */
	count = inhibitors_prepare(inhibitors, fds);
	assert_int_equal(poll(fds, count, 10000), 1);
	assert_true(inhibitors_changed(inhibitors));
	assert_int_equal(held(), 0);
}

static void test_a_lock_can_be_given_back(void **state)
{
	pid_t pid = sleeper(0);

	(void) state;
	assert_int_equal(inhibitors_release(inhibitors, pid), -ENOENT);
	assert_int_equal(inhibitors_take(inhibitors, pid, 0, "one"), 0);
	assert_int_equal(inhibitors_take(inhibitors, pid, 0, "two"), 0); /* instead of the first */
	assert_int_equal(held(), 1);
	assert_string_equal(list[0].why, "two");
	assert_int_equal(inhibitors_release(inhibitors, pid), 0);
	assert_int_equal(held(), 0);
	assert_int_equal(inhibitors_take(inhibitors, 0, 0, "nobody"), -ESRCH);
	assert_int_equal(inhibitors_take(inhibitors, 1, 0, "init"), -ESRCH);
}

static void test_locks_outlive_the_agent(void **state)
{
	pid_t lives = sleeper(0), dies = sleeper(1);
	char name[32];

	(void) state;
	assert_int_equal(inhibitors_take(inhibitors, lives, 65534, "backup"), 0);
	assert_int_equal(inhibitors_take(inhibitors, dies, 0, "export"), 0);
	process_end(&sleepers[1], 0);
	reopen(BOOT_ID);
	assert_int_equal(held(), 1);
	assert_string_equal(list[0].why, "backup");
	snprintf(name, sizeof(name), "lock-%ld", (long) dies);
	assert_false(exists(name)); /* it does not come back with whoever gets the number next */
	/* Numbers of an earlier boot mean other processes. */
	reopen(OTHER_BOOT);
	assert_int_equal(held(), 0);
	snprintf(name, sizeof(name), "lock-%ld", (long) lives);
	assert_false(exists(name));
}

static void test_a_number_that_was_given_anew_is_no_lock(void **state)
{
	pid_t pid = sleeper(0);
	uint64_t ticks = 0;
	char name[32], text[160];

	(void) state;
	assert_int_equal(process_start_time(pid, &ticks), 0);
	snprintf(name, sizeof(name), "lock-%ld", (long) pid);
	snprintf(text, sizeof(text), BOOT_ID " %ld %llu 0 1700000000\nwhy\n", (long) pid,
		 (unsigned long long) ticks + 1);
	file(name, text);
	assert_int_equal(held(), 0);
	assert_false(exists(name));
	snprintf(text, sizeof(text), BOOT_ID " %ld %llu 0 1700000000\nwhy\n", (long) pid,
		 (unsigned long long) ticks);
	file(name, text);
	assert_int_equal(held(), 1);
	assert_int_equal(list[0].since, 1700000000);
	/* Under another name it is a file like any. */
	file("lock-1", text);
	assert_int_equal(held(), 2);
}

static void test_files(void **state)
{
	char path[160];

	(void) state;
	file("export", "the month's export\nsecond line\n");
	assert_true(inhibitors_changed(inhibitors));
	assert_int_equal(held(), 1);
	assert_string_equal(list[0].who, "the file export");
	assert_string_equal(list[0].why, "the month's export");
	assert_true(list[0].since > 0);
	file("empty", "");
	assert_int_equal(held(), 2);
	/* What editors and we ourselves put there for a moment is nobody's word, nor is a folder or a link. */
	file(".hidden", "no");
	file("x.pending", "no");
	snprintf(path, sizeof(path), "%s/inhibit/folder", dir);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/inhibit/link", dir);
	assert_int_equal(symlink("export", path), 0);
	assert_int_equal(held(), 2);
	snprintf(path, sizeof(path), "%s/inhibit/export", dir);
	assert_int_equal(unlink(path), 0);
	assert_true(inhibitors_changed(inhibitors));
	assert_int_equal(held(), 1);
}

static void test_hostile_files(void **state)
{
	static const char *const records[] = {
		"",
		"lock",
		BOOT_ID,
		BOOT_ID " -1 1 0 0\nwhy\n",
		BOOT_ID " 99999999999999999999 1 0 0\nwhy\n",
		BOOT_ID " 1 1 0 0\nwhy\n",
		BOOT_ID " 7 1 0 0 extra\nwhy\n",
		"\x1b[2J\x07",
	};
	char *large = malloc(200000), path[160];

	(void) state;
	/* Damaged records hold updates off like any file: somebody put them there. */
	for (size_t i = 0; i < ARRAY_LEN(records); i++) {
		file("lock-7", records[i]);
		assert_int_equal(held(), 1);
		assert_string_equal(list[0].who, "the file lock-7");
		for (const char *p = list[0].why; *p; p++)
			assert_true(*p >= 0x20 && *p < 0x7f);
	}
	assert_non_null(large);
	memset(large, 'x', 199999);
	large[199999] = '\0';
	file("large", large);
	free(large);
	assert_int_equal(held(), 2);
	for (int i = 0; i < 2 * INHIBIT_LIST_MAX; i++) {
		snprintf(path, sizeof(path), "f%d", i);
		file(path, "many");
	}
	assert_int_equal(held(), INHIBIT_LIST_MAX);
}

static void test_locks_are_bounded(void **state)
{
	(void) state;
	for (size_t i = 0; i < INHIBIT_LOCKS_MAX; i++)
		assert_int_equal(inhibitors_take(inhibitors, sleeper(i), 0, "one of many"), 0);
	assert_int_equal(inhibitors_take(inhibitors, sleeper(INHIBIT_LOCKS_MAX), 0, "one too many"),
			 -ERR_TOO_LARGE);
	process_end(&sleepers[3], 0);
	assert_int_equal(inhibitors_take(inhibitors, sleepers[INHIBIT_LOCKS_MAX].pid, 0, "room again"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_lock_ends_with_its_process, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_lock_can_be_given_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_locks_outlive_the_agent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_number_that_was_given_anew_is_no_lock, setup, teardown),
		cmocka_unit_test_setup_teardown(test_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_locks_are_bounded, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
