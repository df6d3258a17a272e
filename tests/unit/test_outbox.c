/* agent/link/outbox.h, sentence by sentence. */
#include "agent/link/outbox.h"
#include "base/err.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
	char path[64];
	int dirfd;
	struct outbox outbox;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	strncpy(f->path, "/tmp/outbox.XXXXXX", sizeof(f->path) - 1);
	assert_non_null(mkdtemp(f->path));
	f->dirfd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(f->dirfd >= 0);
	assert_int_equal(outbox_open(&os_posix, f->dirfd, &f->outbox), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	outbox_close(&f->outbox);
	assert_int_equal(tree_remove(&os_posix, AT_FDCWD, f->path), 0);
	close(f->dirfd);
	free(f);
	return 0;
}

static void reopen(struct fixture *f)
{
	outbox_close(&f->outbox);
	assert_int_equal(outbox_open(&os_posix, f->dirfd, &f->outbox), 0);
}

static void an_empty_outbox_has_nothing_waiting(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(f->outbox.sequence, 0);
	assert_int_equal(f->outbox.report.len, 0);
}

static void a_report_survives_a_restart(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(outbox_put(&f->outbox, 7, "{\"a\":\n1}", 8), 0);
	reopen(f);
	assert_int_equal(f->outbox.sequence, 7);
	assert_int_equal(f->outbox.report.len, 8);
	assert_memory_equal(f->outbox.report.data, "{\"a\":\n1}", 8);
}

static void a_newer_report_replaces_the_last_one(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(outbox_put(&f->outbox, 7, "old", 3), 0);
	assert_int_equal(outbox_put(&f->outbox, 8, "newer", 5), 0);
	reopen(f);
	assert_int_equal(f->outbox.sequence, 8);
	assert_string_equal(buf_str(&f->outbox.report), "newer");
}

static void an_ack_deletes_only_what_is_not_newer(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(outbox_put(&f->outbox, 8, "x", 1), 0);
	assert_int_equal(outbox_acked(&f->outbox, 7), 0);
	assert_int_equal(f->outbox.sequence, 8);
	assert_int_equal(outbox_acked(&f->outbox, 8), 0);
	assert_int_equal(f->outbox.sequence, 0);
	reopen(f);
	assert_int_equal(f->outbox.sequence, 0);
	assert_int_equal(outbox_acked(&f->outbox, 9), 0);
}

static void a_damaged_file_is_dropped(void **state)
{
	static const char *const damaged[] = {
		"", "no newline", "-1\nx", "18446744073709551616\nx", "x\ny", "\n"
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(damaged) / sizeof(damaged[0]); i++) {
		assert_int_equal(durable_write_file(&os_posix, f->dirfd, "report", damaged[i], strlen(damaged[i]),
						    0600),
				 0);
		reopen(f);
		assert_int_equal(f->outbox.sequence, 0);
		assert_int_equal(f->outbox.report.len, 0);
	}
}

static void a_report_over_the_limit_is_refused(void **state)
{
	struct fixture *f = *state;
	char *large = calloc(1, OUTBOX_REPORT_MAX + 1);

	assert_non_null(large);
	assert_int_equal(outbox_put(&f->outbox, 1, "kept", 4), 0);
	assert_int_equal(outbox_put(&f->outbox, 2, large, OUTBOX_REPORT_MAX + 1), -ERR_TOO_LARGE);
	assert_int_equal(f->outbox.sequence, 1);
	free(large);
}

static void the_counter_rises_across_restarts_and_damage(void **state)
{
	struct fixture *f = *state;
	uint64_t first = 0, second = 0, third = 0;

	assert_int_equal(outbox_next_counter(&f->outbox, &first), 0);
	reopen(f);
	assert_int_equal(outbox_next_counter(&f->outbox, &second), 0);
	assert_true(second > first);
	assert_int_equal(durable_write_file(&os_posix, f->dirfd, "counter", "soon", 4, 0600), 0);
	assert_int_equal(outbox_next_counter(&f->outbox, &third), 0);
	assert_int_equal(third, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_empty_outbox_has_nothing_waiting, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_report_survives_a_restart, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_newer_report_replaces_the_last_one, set_up, tear_down),
		cmocka_unit_test_setup_teardown(an_ack_deletes_only_what_is_not_newer, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_damaged_file_is_dropped, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_report_over_the_limit_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_counter_rises_across_restarts_and_damage, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
