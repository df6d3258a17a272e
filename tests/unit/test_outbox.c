/* agent/link/outbox.h, sentence by sentence. */
#include "agent/link/outbox.h"
#include "base/err.h"
#include "os/durable.h"
#include "support/os_crash.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
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

/* --- events --- */

static void add(struct fixture *f, const char *text)
{
	assert_int_equal(outbox_add_event(&f->outbox, 100, text, strlen(text)), 0);
}

static void events_queue_in_order_and_survive(void **state)
{
	struct fixture *f = *state;
	char queue[OUTBOX_QUEUE_NAME + 1];

	add(f, "one");
	add(f, "two\nlines");
	assert_int_equal(f->outbox.events[0].number, 101);
	memcpy(queue, f->outbox.queue, sizeof(queue));
	reopen(f);
	assert_string_equal(f->outbox.queue, queue);
	assert_int_equal(f->outbox.event_count, 2);
	assert_string_equal((char *) f->outbox.events[1].data, "two\nlines");
	assert_int_equal(f->outbox.events[1].number, 102);
	/* The next process numbers higher, whatever its base. */
	assert_int_equal(outbox_add_event(&f->outbox, 3, "three", 5), 0);
	assert_int_equal(f->outbox.events[2].number, 103);
	assert_int_equal(outbox_add_event(&f->outbox, 5000, "four", 4), 0);
	assert_int_equal(f->outbox.events[3].number, 5001);
}

static void send_all(struct fixture *f)
{
	struct outbox_event *e;

	while ((e = outbox_unsent(&f->outbox)))
		e->sent = true;
}

static void an_event_leaves_with_the_ack_of_a_report_behind_it(void **state)
{
	struct fixture *f = *state;

	add(f, "one");
	send_all(f);
	assert_int_equal(outbox_put(&f->outbox, 7, "r", 1), 0);
	outbox_report_sent(&f->outbox);
	add(f, "two"); /* not sent before that report */
	assert_int_equal(outbox_acked(&f->outbox, 6), 0); /* an older one says nothing of it */
	assert_int_equal(f->outbox.event_count, 2);
	assert_int_equal(outbox_acked(&f->outbox, 7), 0);
	assert_int_equal(f->outbox.event_count, 1);
	assert_string_equal((char *) f->outbox.events[0].data, "two");
	reopen(f);
	assert_int_equal(f->outbox.event_count, 1);
	assert_string_equal((char *) outbox_unsent(&f->outbox)->data, "two");
}

static void what_a_connection_did_not_see_acknowledged_goes_out_again(void **state)
{
	struct fixture *f = *state;

	add(f, "one");
	send_all(f);
	assert_int_equal(outbox_put(&f->outbox, 7, "r", 1), 0);
	outbox_report_sent(&f->outbox);
	outbox_connection_lost(&f->outbox);
	/* The report may have come through by another road; the event did not. */
	assert_int_equal(outbox_acked(&f->outbox, 7), 0);
	assert_int_equal(f->outbox.event_count, 1);
	assert_non_null(outbox_unsent(&f->outbox));
}

static void a_full_queue_drops_the_oldest_and_counts(void **state)
{
	struct fixture *f = *state;
	char line[32];

	for (int i = 0; i < OUTBOX_EVENTS_MAX + 10; i++) {
		snprintf(line, sizeof(line), "event %d", i);
		add(f, line);
	}
	assert_int_equal(f->outbox.dropped, OUTBOX_EVENTS_MAX / 4);
	assert_int_equal(f->outbox.event_count, OUTBOX_EVENTS_MAX + 10 - OUTBOX_EVENTS_MAX / 4);
	reopen(f);
	assert_int_equal(f->outbox.dropped, OUTBOX_EVENTS_MAX / 4);
	assert_string_equal((char *) f->outbox.events[0].data, "event 64");
	assert_int_equal(outbox_add_event(&f->outbox, 0, line, OUTBOX_EVENT_BYTES_MAX + 1), -ERR_TOO_LARGE);
}

static void a_torn_tail_is_dropped_and_appended_behind(void **state)
{
	struct fixture *f = *state;
	struct buf file = BUF_INIT(4096);
	static const char *const tails[] = { "103 0 5 ", "103 0 5 00000000\nthree\n", "\0\0\0",
					     "102 0 1 e40c292c\na\n", "103 0 99999999999999999999 00000000\n" };

	add(f, "one");
	add(f, "two");
	assert_int_equal(file_read(&os_posix, f->dirfd, "events", 4096, &file), 0);
	for (size_t cut = 0; cut <= file.len; cut++) {
		assert_int_equal(durable_write_file(&os_posix, f->dirfd, "events", file.data, cut, 0600), 0);
		reopen(f);
		assert_int_equal(f->outbox.event_count, cut == file.len ? 2 : cut > file.len / 2 - 1 ? 1 : 0);
	}
	for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
		struct buf torn = BUF_INIT(4096);

		assert_int_equal(buf_add(&torn, file.data, file.len), 0);
		assert_int_equal(buf_add(&torn, tails[i], strlen(tails[i]) + 1), 0);
		assert_int_equal(durable_write_file(&os_posix, f->dirfd, "events", torn.data, torn.len, 0600), 0);
		buf_done(&torn);
		reopen(f);
		assert_int_equal(f->outbox.event_count, 2);
		add(f, "behind");
		reopen(f);
		assert_int_equal(f->outbox.event_count, 3);
	}
	buf_done(&file);
}

/* After a power cut at any change: what was promised is there, nothing else, and it goes on. */
static void events_survive_a_power_cut_anywhere(void **state)
{
	unsigned changes = 1;

	(void) state;
	for (unsigned at = 1; at <= changes; at++) {
		for (unsigned seed = 0; seed < 4; seed++) {
			char from[] = "/tmp/outbox-a.XXXXXX", to[] = "/tmp/outbox-b.XXXXXX";
			struct outbox o = { .os = NULL };
			struct os_crash *crash = NULL;
			unsigned promised = 0, acked = 0;
			int dirfd;

			assert_non_null(mkdtemp(from));
			assert_non_null(mkdtemp(to));
			assert_int_equal(os_crash_new(from, &crash), 0);
			dirfd = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			os_crash_arm(crash, at);
			if (outbox_open(os_crash_os(crash), dirfd, &o) == 0) {
				promised += outbox_add_event(&o, 0, "one", 3) == 0;
				promised += promised == 1 && outbox_add_event(&o, 0, "two", 3) == 0;
				if (promised == 2 && outbox_put(&o, 5, "r", 1) == 0) {
					o.events[0].sent = true;
					outbox_report_sent(&o);
					acked = 1; /* from here on the first may be gone */
					if (outbox_acked(&o, 5) == 0)
						promised += outbox_add_event(&o, 0, "three", 5) == 0;
				}
				outbox_close(&o);
			}
			if (!os_crash_happened(crash) && at == changes)
				changes = at; /* the last one ran through */
			else if (at == changes)
				changes++;
			close(dirfd);
			assert_int_equal(os_crash_restore(crash, seed, to), 0);
			dirfd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			assert_int_equal(outbox_open(&os_posix, dirfd, &o), 0);
			assert_true(o.event_count + acked >= promised);
			assert_true(o.event_count <= 3);
			for (size_t i = 1; i < o.event_count; i++)
				assert_true(o.events[i].number > o.events[i - 1].number);
			assert_int_equal(outbox_add_event(&o, 0, "later", 5), 0);
			outbox_close(&o);
			close(dirfd);
			os_crash_free(crash);
			assert_int_equal(tree_remove(&os_posix, AT_FDCWD, from), 0);
			assert_int_equal(tree_remove(&os_posix, AT_FDCWD, to), 0);
		}
		assert_true(at < 200);
	}
	assert_true(changes > 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(events_queue_in_order_and_survive, set_up, tear_down),
		cmocka_unit_test_setup_teardown(an_event_leaves_with_the_ack_of_a_report_behind_it, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(what_a_connection_did_not_see_acknowledged_goes_out_again, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_full_queue_drops_the_oldest_and_counts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_torn_tail_is_dropped_and_appended_behind, set_up, tear_down),
		cmocka_unit_test(events_survive_a_power_cut_anywhere),
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
