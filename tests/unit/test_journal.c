/* Each sentence of agent/store/journal.h. */
#include "agent/store/journal.h"
#include "base/err.h"
#include "os/durable.h"
#include "support/fault_loop.h"
#include "support/folder.h"
#include "support/os_fault.h"

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

static struct journal *opened(int fd)
{
	struct journal *j = NULL;

	assert_int_equal(journal_open(os, fd, "journal", false, &j), 0);
	return j;
}

static void append(int fd, const char *text)
{
	CLEANUP(journal_closep)
	struct journal *j = opened(fd);

	assert_int_equal(journal_append(j, text, strlen(text)), 0);
}

static void assert_last(const struct journal *j, const char *text)
{
	size_t len;
	const void *last = journal_last(j, &len);

	if (!text) {
		assert_null(last);
		return;
	}
	assert_non_null(last);
	assert_int_equal(len, strlen(text));
	assert_memory_equal(last, text, len);
}

static void assert_reopened(int fd, const char *text, bool damaged)
{
	CLEANUP(journal_closep)
	struct journal *j = opened(fd);

	assert_last(j, text);
	assert_int_equal(journal_was_damaged(j), damaged);
}

/* Write over bytes of the file, or cut it. */
static void scribble(int fd, off_t at, const void *data, size_t len)
{
	int file = openat(fd, "journal", O_WRONLY | O_CLOEXEC);

	assert_true(file >= 0);
	assert_int_equal(pwrite(file, data, len, at), (ssize_t) len);
	(void) close(file);
}

static off_t size_of(int fd)
{
	struct stat st;

	assert_int_equal(fstatat(fd, "journal", &st, 0), 0);
	return st.st_size;
}

static void test_the_crc_is_castagnoli(void **state)
{
	(void) state;
	assert_int_equal(journal_crc(0, "123456789", 9), 0xe3069283U);
	assert_int_equal(journal_crc(journal_crc(0, "1234", 4), "56789", 5), 0xe3069283U);
}

static void test_a_new_journal_is_empty(void **state)
{
	assert_reopened(folder_fd(state), NULL, false);
	assert_reopened(folder_fd(state), NULL, false);
}

static void test_the_newest_record_wins(void **state)
{
	int fd = folder_fd(state);
	CLEANUP(journal_closep)
	struct journal *j = opened(fd);

	assert_int_equal(journal_append(j, "one", 3), 0);
	assert_int_equal(journal_append(j, "two", 3), 0);
	assert_last(j, "two");
	assert_reopened(fd, "two", false);
}

static void test_a_torn_tail_is_dropped_wherever_it_tears(void **state)
{
	int fd = folder_fd(state);
	off_t first, whole;

	append(fd, "first");
	first = size_of(fd);
	append(fd, "second");
	whole = size_of(fd);
	for (off_t cut = first; cut < whole; cut++) {
		CLEANUP(buf_done)
		struct buf saved = BUF_INIT(1000);
		int file;

		assert_int_equal(file_read(os, fd, "journal", 1000, &saved), 0);
		file = openat(fd, "journal", O_WRONLY | O_CLOEXEC);
		assert_int_equal(ftruncate(file, cut), 0);
		assert_reopened(fd, "first", false);
		append(fd, "third");
		assert_reopened(fd, "third", false);
		(void) close(file);
		assert_int_equal(durable_write_file(os, fd, "journal", saved.data, saved.len, 0600), 0);
	}
}

static void test_a_tail_of_zeros_is_dropped(void **state)
{
	int fd = folder_fd(state);
	char zeros[100] = "";

	append(fd, "first");
	scribble(fd, size_of(fd), zeros, sizeof(zeros));
	assert_reopened(fd, "first", false);
}

static void test_damage_in_the_middle_keeps_what_is_newer(void **state)
{
	int fd = folder_fd(state);
	off_t first;

	append(fd, "first");
	first = size_of(fd);
	append(fd, "second");
	append(fd, "third");
	scribble(fd, first + 12, "X", 1);
	assert_reopened(fd, "third", true);
	append(fd, "fourth");
	assert_reopened(fd, "fourth", false); /* written anew, without the damage */
	assert_true(size_of(fd) < 30);
}

static void test_bytes_without_a_record_are_no_journal(void **state)
{
	int fd = folder_fd(state);
	struct journal *j = NULL;

	append(fd, "first");
	scribble(fd, 12, "X", 1);
	assert_int_equal(journal_open(os, fd, "journal", false, &j), -ERR_JOURNAL);
	assert_null(j);
	assert_int_equal(durable_write_file(os, fd, "journal", "{}", 2, 0600), 0);
	assert_int_equal(journal_open(os, fd, "journal", false, &j), -ERR_JOURNAL);
	assert_int_equal(unlinkat(fd, "journal", 0), 0);
	assert_int_equal(mkdirat(fd, "journal", 0700), 0);
	assert_int_equal(journal_open(os, fd, "journal", false, &j), -ERR_JOURNAL);
	assert_int_equal(unlinkat(fd, "journal", AT_REMOVEDIR), 0);
	assert_int_equal(symlinkat("elsewhere", fd, "journal"), 0);
	assert_int_equal(journal_open(os, fd, "journal", false, &j), -ERR_JOURNAL);
}

static void test_a_record_within_a_record_is_not_one(void **state)
{
	CLEANUP(buf_done)
	struct buf inner = BUF_INIT(1000);
	int fd = folder_fd(state);

	append(fd, "inner");
	assert_int_equal(file_read(os, fd, "journal", 1000, &inner), 0);
	assert_int_equal(buf_add_str(&inner, " and more"), 0);
	append(fd, buf_str(&inner)); /* cut at the length's zeros: still holds the magic */
	{
		CLEANUP(journal_closep)
		struct journal *j = opened(fd);

		assert_int_equal(journal_append(j, inner.data, inner.len), 0);
	}
	{
		CLEANUP(journal_closep)
		struct journal *j = opened(fd);
		size_t len;

		assert_memory_equal(journal_last(j, &len), inner.data, inner.len);
		assert_int_equal(len, inner.len);
	}
}

static void test_read_only_changes_nothing(void **state)
{
	int fd = folder_fd(state);
	CLEANUP(journal_closep)
	struct journal *j = NULL;

	assert_int_equal(journal_open(os, fd, "journal", true, &j), -ENOENT);
	append(fd, "first");
	assert_int_equal(journal_open(os, fd, "journal", true, &j), 0);
	assert_last(j, "first");
	assert_int_equal(journal_append(j, "x", 1), -EROFS);
}

static void test_lengths_are_bounded(void **state)
{
	CLEANUP(journal_closep)
	struct journal *j = opened(folder_fd(state));
	char *large = calloc(1, JOURNAL_RECORD_MAX + 1);

	assert_int_equal(journal_append(j, "", 0), -EINVAL);
	assert_int_equal(journal_append(j, large, JOURNAL_RECORD_MAX + 1), -ERR_TOO_LARGE);
	assert_last(j, NULL);
	assert_int_equal(journal_append(j, large, JOURNAL_RECORD_MAX), 0);
	free(large);
}

static void test_it_stays_small(void **state)
{
	int fd = folder_fd(state);
	CLEANUP(journal_closep)
	struct journal *j = opened(fd);
	char record[4000];
	off_t most = 0;

	for (int i = 0; i < 300; i++) {
		memset(record, 'a' + i % 26, sizeof(record));
		assert_int_equal(journal_append(j, record, sizeof(record)), 0);
		most = size_of(fd) > most ? size_of(fd) : most;
	}
	assert_true(most <= JOURNAL_COMPACT_AT);
	assert_true(most > JOURNAL_COMPACT_AT / 2);
}

static void test_after_a_failed_sync_the_file_is_written_anew(void **state)
{
	int fd = folder_fd(state);
	CLEANUP(journal_closep)
	struct journal *j = NULL;
	struct os_fault f;
	struct stat before, after;

	append(fd, "first");
	os_fault_init(&f, os);
	assert_int_equal(journal_open(&f.os, fd, "journal", false, &j), 0);
	assert_int_equal(fstatat(fd, "journal", &before, 0), 0);
	os_fault_arm(&f, 2, EIO, false); /* pwrite, then fsync */
	assert_int_equal(journal_append(j, "second", 6), -EIO);
	assert_last(j, "first");
	assert_int_equal(journal_append(j, "third", 5), 0);
	assert_int_equal(fstatat(fd, "journal", &after, 0), 0);
	assert_true(before.st_ino != after.st_ino);
	assert_reopened(fd, "third", false);
}

static int prep_journal(struct fault_case *c)
{
	append(c->dirfd, "first");
	append(c->dirfd, "second");
	return 0;
}

static int append_third(struct fault_case *c)
{
	CLEANUP(journal_closep)
	struct journal *j = NULL;
	int r = journal_open(c->os, c->dirfd, "journal", false, &j);

	return r < 0 ? r : journal_append(j, "the third record", 16);
}

static void second_or_third(struct fault_case *c, int r)
{
	CLEANUP(journal_closep)
	struct journal *j = opened(c->dirfd);
	size_t len;
	const void *last = journal_last(j, &len);

	assert_non_null(last);
	assert_false(journal_was_damaged(j));
	if (len == 16)
		assert_memory_equal(last, "the third record", 16);
	else
		assert_last(j, "second");
	if (r == 0)
		assert_int_equal(len, 16);
	assert_int_equal(journal_append(j, "fourth", 6), 0);
	assert_reopened(c->dirfd, "fourth", false);
}

FAULT_TEST(an_append_is_there_or_not){
	.name = "an_append_is_there_or_not",
	.prep = prep_journal,
	.body = append_third,
	.check = second_or_third,
};

static int append_many(struct fault_case *c)
{
	CLEANUP(journal_closep)
	struct journal *j = NULL;
	char record[90000];
	int r = journal_open(c->os, c->dirfd, "journal", false, &j);

	/* Three of them are more than the file may hold: the third compacts. */
	for (int i = 0; i < 4 && r == 0; i++) {
		memset(record, 'a' + i, sizeof(record));
		r = journal_append(j, record, sizeof(record));
	}
	return r;
}

static void some_of_many(struct fault_case *c, int r)
{
	CLEANUP(journal_closep)
	struct journal *j = opened(c->dirfd);
	size_t len;
	const char *last = journal_last(j, &len);

	assert_non_null(last);
	if (len == 90000)
		for (size_t i = 1; i < len; i++)
			assert_true(last[i] == last[0]);
	else
		assert_last(j, "second");
	if (r == 0)
		assert_true(len == 90000 && last[0] == 'd');
}

FAULT_TEST(compaction_loses_nothing){
	.name = "compaction_loses_nothing",
	.prep = prep_journal,
	.body = append_many,
	.check = some_of_many,
};

static int first_record(struct fault_case *c)
{
	CLEANUP(journal_closep)
	struct journal *j = NULL;
	int r = journal_open(c->os, c->dirfd, "journal", false, &j);

	return r < 0 ? r : journal_append(j, "first", 5);
}

static void none_or_first(struct fault_case *c, int r)
{
	CLEANUP(journal_closep)
	struct journal *j = opened(c->dirfd);
	size_t len;

	if (journal_last(j, &len))
		assert_last(j, "first");
	else
		assert_true(r < 0);
}

FAULT_TEST(a_first_record_never_breaks_the_journal){
	.name = "a_first_record_never_breaks_the_journal",
	.body = first_record,
	.check = none_or_first,
};

static void test_faults(void **state)
{
	(void) state;
	fault_test_run(&an_append_is_there_or_not);
	fault_test_run(&compaction_loses_nothing);
	fault_test_run(&a_first_record_never_breaks_the_journal);
}

static void test_crashes(void **state)
{
	(void) state;
	crash_test_run(&an_append_is_there_or_not, 24);
	crash_test_run(&compaction_loses_nothing, 12);
	crash_test_run(&a_first_record_never_breaks_the_journal, 12);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_crc_is_castagnoli),
		cmocka_unit_test_setup_teardown(test_a_new_journal_is_empty, folder_setup, folder_teardown),
		cmocka_unit_test_setup_teardown(test_the_newest_record_wins, folder_setup, folder_teardown),
		cmocka_unit_test_setup_teardown(test_a_torn_tail_is_dropped_wherever_it_tears, folder_setup,
						folder_teardown),
		cmocka_unit_test_setup_teardown(test_a_tail_of_zeros_is_dropped, folder_setup, folder_teardown),
		cmocka_unit_test_setup_teardown(test_damage_in_the_middle_keeps_what_is_newer, folder_setup,
						folder_teardown),
		cmocka_unit_test_setup_teardown(test_bytes_without_a_record_are_no_journal, folder_setup,
						folder_teardown),
		cmocka_unit_test_setup_teardown(test_a_record_within_a_record_is_not_one, folder_setup,
						folder_teardown),
		cmocka_unit_test_setup_teardown(test_read_only_changes_nothing, folder_setup, folder_teardown),
		cmocka_unit_test_setup_teardown(test_lengths_are_bounded, folder_setup, folder_teardown),
		cmocka_unit_test_setup_teardown(test_it_stays_small, folder_setup, folder_teardown),
		cmocka_unit_test_setup_teardown(test_after_a_failed_sync_the_file_is_written_anew, folder_setup,
						folder_teardown),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_crashes),
	};

	os = os_quick();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
