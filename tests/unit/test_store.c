/* Each sentence of agent/store/store.h. */
#include "agent/store/state.h"
#include "agent/store/store.h"
#include "base/err.h"
#include "os/durable.h"
#include "support/fault_loop.h"

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
static struct node_state st;

struct folder {
	char path[256], root[300];
};

static int setup(void **state)
{
	struct folder *f = calloc(1, sizeof(*f));

	temp_folder(f->path, sizeof(f->path));
	(void) snprintf(f->root, sizeof(f->root), "%s/var/lib/node", f->path);
	state_init(&st);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct folder *f = *state;

	state_done(&st);
	temp_folder_remove(f->path);
	free(f);
	return 0;
}

static const char *root_of(void **state)
{
	return ((struct folder *) *state)->root;
}

static struct store *opened(const char *root)
{
	struct store *s = NULL;

	assert_int_equal(store_open(os, root, &s), 0);
	return s;
}

static void test_all_folders_are_made_with_their_modes(void **state)
{
	static const struct {
		const char *name;
		mode_t mode;
	} folders[] = { { ".", 0755 },	  { "trust", 0700 }, { "store", 0755 }, { "generations", 0755 },
			{ "data", 0755 }, { "spool", 0700 }, { "outbox", 0700 } };
	mode_t old = umask(077);
	CLEANUP(store_freep)
	struct store *s = opened(root_of(state));

	(void) umask(old);
	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		struct stat found;

		assert_int_equal(fstatat(store_dirs(s)->root, folders[i].name, &found, 0), 0);
		assert_int_equal(found.st_mode & 07777, folders[i].mode);
	}
	assert_string_equal(store_root(s), root_of(state));
}

static void test_one_process_at_a_time(void **state)
{
	CLEANUP(store_freep)
	struct store *s = opened(root_of(state)), *look = NULL;
	struct store *second = NULL;

	assert_int_equal(store_open(os, root_of(state), &second), -EBUSY);
	assert_null(second);
	assert_int_equal(store_inspect(os, root_of(state), &look), 0);
	store_free(s);
	s = opened(root_of(state));
}

static void test_what_is_saved_is_loaded(void **state)
{
	CLEANUP(store_freep)
	struct store *s = opened(root_of(state));

	assert_int_equal(store_load(s, &st), 1);
	st.report_sequence = 41;
	assert_int_equal(store_save(s, &st), 0);
	st.report_sequence = 42;
	assert_int_equal(store_save(s, &st), 0);
	store_free(s);
	s = opened(root_of(state));
	st.report_sequence = 0;
	assert_int_equal(store_load(s, &st), 0);
	assert_int_equal(st.report_sequence, 42);
}

static void test_a_state_that_cannot_be_read_is_not_saved(void **state)
{
	CLEANUP(store_freep)
	struct store *s = opened(root_of(state));
	struct node_component *c = NULL;
	static struct node_state back;

	assert_int_equal(state_component_add(&st, "web", &c), 0);
	assert_int_equal(store_save(s, &st), 0);
	STATE_SET(c->version, "not a version");
	assert_int_equal(store_save(s, &st), -ERR_FIELD_VALUE);
	assert_int_equal(store_load(s, &back), 0);
	assert_string_equal(state_component(&back, "web")->version, "");
	state_done(&back);
}

static void test_looking_changes_nothing(void **state)
{
	CLEANUP(store_freep)
	struct store *s = NULL;
	struct folder *f = *state;
	CLEANUP(name_list_done)
	struct name_list names = { NULL, 0 };

	assert_int_equal(store_inspect(os, f->root, &s), -ENOENT);
	assert_int_equal(store_inspect(os, f->path, &s), 0);
	assert_int_equal(store_dirs(s)->trust, -1);
	assert_int_equal(store_load(s, &st), 1);
	assert_int_equal(store_save(s, &st), -EROFS);
	assert_int_equal(store_history_append(s, "x"), -EROFS);
	assert_int_equal(dir_list(os, store_dirs(s)->root, ".", &names), 0);
	assert_int_equal(names.count, 0);
}

static void test_a_broken_journal_is_set_aside_on_request(void **state)
{
	const char *root = root_of(state);
	struct store *s = opened(root);
	char journal[400], broken[400];
	struct stat found;

	store_free(s);
	s = NULL;
	(void) snprintf(journal, sizeof(journal), "%s/journal", root);
	for (int i = 1; i < 3; i++) {
		assert_int_equal(durable_write_file(os, AT_FDCWD, journal, "garbage", 7, 0600), 0);
		assert_int_equal(store_open(os, root, &s), -ERR_JOURNAL);
		assert_int_equal(store_reset_journal(os, root), 0);
		(void) snprintf(broken, sizeof(broken), "%s/journal.broken-%d", root, i);
		assert_int_equal(stat(broken, &found), 0);
		assert_int_equal(found.st_size, 7);
	}
	assert_int_equal(store_reset_journal(os, root), 0); /* nothing there is fine */
	s = opened(root);
	assert_int_equal(store_load(s, &st), 1);
	store_free(s);
}

static void assert_history(struct store *s, size_t count, const char *expected)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(65536);

	assert_int_equal(store_history_read(s, count, &out), 0);
	assert_string_equal(buf_str(&out), expected);
}

static void test_history(void **state)
{
	CLEANUP(store_freep)
	struct store *s = opened(root_of(state));
	int fd;

	assert_history(s, 10, "");
	assert_int_equal(store_history_append(s, "one"), 0);
	assert_int_equal(store_history_append(s, "two"), 0);
	assert_int_equal(store_history_append(s, ""), 0);
	assert_history(s, 10, "one\ntwo\n\n");
	assert_history(s, 2, "two\n\n");
	assert_history(s, 0, "");
	assert_int_equal(store_history_append(s, "a\nb"), -ERR_SYNTAX);
	/* A torn line neither shows nor swallows the next. */
	fd = openat(store_dirs(s)->root, "history", O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_int_equal(write(fd, "torn", 4), 4);
	(void) close(fd);
	assert_history(s, 10, "one\ntwo\n\n");
	assert_int_equal(store_history_append(s, "three"), 0);
	assert_history(s, 1, "three\n");
}

static void test_history_is_bounded(void **state)
{
	CLEANUP(store_freep)
	struct store *s = opened(root_of(state));
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(4 * 1024 * 1024);
	static char line[STORE_HISTORY_LINE_MAX + 2];
	struct stat a, b;

	memset(line, 'x', STORE_HISTORY_LINE_MAX + 1);
	assert_int_equal(store_history_append(s, line), -ERR_TOO_LARGE);
	line[STORE_HISTORY_LINE_MAX] = '\0';
	for (int i = 0; i < 200; i++) {
		line[0] = (char) ('0' + i % 10);
		assert_int_equal(store_history_append(s, line), 0);
	}
	assert_int_equal(fstatat(store_dirs(s)->root, "history", &a, 0), 0);
	assert_int_equal(fstatat(store_dirs(s)->root, "history.1", &b, 0), 0);
	assert_true(a.st_size + b.st_size <= 1024 * 1024);
	assert_int_equal(store_history_read(s, 70, &out), 0); /* across both files */
	assert_int_equal(out.len, 70 * (STORE_HISTORY_LINE_MAX + 1));
	assert_int_equal(out.data[0], '0');
	assert_int_equal(out.data[69 * (STORE_HISTORY_LINE_MAX + 1)], '9');
	out.max = out.len + 100;
	assert_int_equal(store_history_read(s, 1, &out), -ERR_TOO_LARGE);
}

static int save_two(struct fault_case *c)
{
	CLEANUP(store_freep)
	struct store *s = NULL;
	static struct node_state two;
	int r = store_open(c->os, c->path, &s);

	if (r == 0) {
		two.report_sequence = 2;
		r = store_save(s, &two);
	}
	return r < 0 ? r : store_history_append(s, "second");
}

static int prep_one(struct fault_case *c)
{
	CLEANUP(store_freep)
	struct store *s = NULL;
	static struct node_state one;
	int r = store_open(c->os, c->path, &s);

	one.report_sequence = 1;
	if (r == 0)
		r = store_save(s, &one);
	return r < 0 ? r : store_history_append(s, "first");
}

static void one_or_two(struct fault_case *c, int r)
{
	CLEANUP(store_freep)
	struct store *s = opened(c->path);
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(65536);
	static struct node_state found;

	assert_int_equal(store_load(s, &found), 0);
	assert_true(found.report_sequence == 2 || (r < 0 && found.report_sequence == 1));
	state_done(&found);
	assert_int_equal(store_history_read(s, 10, &out), 0);
	if (r == 0)
		assert_string_equal(buf_str(&out), "first\nsecond\n");
	else
		assert_true(str_starts(buf_str(&out), "first\n"));
}

FAULT_TEST(the_state_is_old_or_new){
	.name = "the_state_is_old_or_new",
	.prep = prep_one,
	.body = save_two,
	.check = one_or_two,
};

static int open_new(struct fault_case *c)
{
	CLEANUP(store_freep)
	struct store *s = NULL;

	return store_open(c->os, c->path, &s);
}

static void opens_again(struct fault_case *c, int r)
{
	(void) r;
	store_free(opened(c->path));
}

FAULT_TEST(a_first_start_can_be_cut_short){
	.name = "a_first_start_can_be_cut_short",
	.body = open_new,
	.check = opens_again,
};

static void test_faults_and_crashes(void **state)
{
	(void) state;
	fault_test_run(&the_state_is_old_or_new);
	fault_test_run(&a_first_start_can_be_cut_short);
	crash_test_run(&the_state_is_old_or_new, 8);
	crash_test_run(&a_first_start_can_be_cut_short, 8);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_all_folders_are_made_with_their_modes),
		T(test_one_process_at_a_time),
		T(test_what_is_saved_is_loaded),
		T(test_a_state_that_cannot_be_read_is_not_saved),
		T(test_looking_changes_nothing),
		T(test_a_broken_journal_is_set_aside_on_request),
		T(test_history),
		T(test_history_is_bounded),
		T(test_faults_and_crashes),
	};

	os = os_quick();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
