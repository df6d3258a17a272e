/*
 * A new agent writes only what its predecessor reads until it is good (DESIGN.md section 8): all
 * that this one may write while its own update is not judged, given to the reader of 0.1.0.
 */
#include "agent/store/journal.h"
#include "agent/store/state.h"
#include "base/err.h"
#include "os/durable.h"
#include "os/process.h"
#include "support/fault_loop.h"
#include "support/folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

static char reader[PATH_MAX];

static void write_journal(void **state, const void *text, size_t len)
{
	CLEANUP(journal_closep)
	struct journal *j = NULL;

	assert_int_equal(journal_open(os_quick(), folder_fd(state), "journal", false, &j), 0);
	assert_int_equal(journal_append(j, text, len), 0);
}

/* What 0.1.0 says of it; its exit code. */
static int read_it(void **state, struct buf *said)
{
	const struct folder *f = *state;
	char path[300];
	const char *argv[] = { reader, path, NULL };
	int status = 0;

	(void) snprintf(path, sizeof(path), "%s/journal", f->path);
	buf_clear(said);
	assert_int_equal(process_run(&(struct process_options){ .argv = argv,
								.stdin_fd = -1,
								.stdout_fd = -1,
								.stderr_fd = -1 },
				     60000, &status, said),
			 0);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* A node in the middle of its agent's update, with something in every place that can hold something. */
static void fill(struct node_state *s)
{
	struct node_update *u = &s->update;
	struct node_component *c = NULL;
	struct node_result result = { .seq = 3, .number = 205, .at = 1, .duration_ms = 2, .pause_ms = 3 };
	struct node_order order = { .result = 100, .at = 5 };

	assert_int_equal(state_component_add(s, "web", &c), 0);
	STATE_SET(c->version, "1.0.0");
	component_good_add(c, "1.0.0");
	assert_int_equal(state_component_add(s, "agent", &c), 0);
	STATE_SET(c->version, "0.2.0");
	for (int i = 0; i < NODE_DENIED_COUNT; i++) {
		char version[STATE_VERSION_SIZE];

		(void) snprintf(version, sizeof(version), "0.0.%d", i);
		component_deny(c, version, (enum node_denial_cause) i, 7);
	}
	STATE_SET(s->boot_id, "1b4e28ba-2fa1-11d2-883f-0016d3cca427");
	STATE_SET(s->hold_reason, "a trade fair");
	STATE_SET(result.update, "r1/agent/1");
	STATE_SET(result.component, "agent");
	STATE_SET(result.detail, "100 %\nsure");
	assert_int_equal(state_result_add(s, &result), 0);
	STATE_SET(order.id, "once");
	state_order_add(s, &order);
	assert_non_null(state_retry_add(s, "agent", "0.2.0"));
	STATE_SET(u->id, "r2/agent/1");
	STATE_SET(u->source, "r2");
	STATE_SET(u->component, "agent");
	STATE_SET(u->from, "0.1.5");
	STATE_SET(u->to, "0.2.0");
	STATE_SET(u->rollout, "r2");
	STATE_SET(u->stage, "all");
	STATE_SET(u->detail, "a sentence");
	u->target_generation = 4;
	u->fallback_generation = 5;
	u->handover_ms = 300000;
	u->probation_ms = 30000;
	u->result = 205;
	u->link_before = true;
}

static void assert_reads(void **state, const struct node_state *s)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(STATE_BYTES_MAX), said = BUF_INIT(4096);
	char expected[256];

	assert_int_equal(state_encode(s, &text), 0);
	write_journal(state, text.data, text.len);
	if (read_it(state, &said) != 0)
		fail_msg("0.1.0 cannot read state=%s cause=%s: %s", node_update_state_name(s->update.state),
			 node_cause_name(s->update.cause), buf_str(&said));
	(void) snprintf(expected, sizeof(expected), "update r2/agent/1 agent %s\n",
			node_update_state_name(s->update.state));
	assert_non_null(strstr(buf_str(&said), expected));
	assert_non_null(strstr(buf_str(&said), "component agent 0.2.0\ncomponent web 1.0.0\n"));
}

static void every_state_and_cause_of_it(void **state)
{
	struct node_state *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	state_init(s);
	fill(s);
	for (int i = 1; i < NODE_UPDATE_STATE_COUNT; i++)
		for (int k = 1; k < NODE_CAUSE_COUNT; k++) {
			s->update.state = (enum node_update_state) i;
			s->update.cause = (enum node_cause) k;
			assert_reads(state, s);
		}
	state_done(s);
	free(s);
}

/* Else the test above could not fail. */
static void what_it_cannot_read_it_refuses(void **state)
{
	static const char *const texts[] = {
		"format 2\n",
		"format 1\nupdate r2/agent/1\ncomponent agent\nstate teleporting\nend\n",
		"format 1\nupdate r2/agent/1\ncomponent agent\nstate probation\ncause whim\nend\n",
	};
	CLEANUP(buf_done)
	struct buf said = BUF_INIT(4096);

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		write_journal(state, texts[i], strlen(texts[i]));
		assert_int_equal(read_it(state, &said), 1);
	}
	write_journal(state, "format 1\nfuture 7\n", 18);
	assert_int_equal(read_it(state, &said), 0);
	assert_string_equal(buf_str(&said), "idle\n");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_state_and_cause_of_it, folder_setup, folder_teardown),
		cmocka_unit_test_setup_teardown(what_it_cannot_read_it_refuses, folder_setup, folder_teardown),
	};
	char self[PATH_MAX];

	(void) argc;
	assert_non_null(realpath(argv[0], self));
	(void) snprintf(reader, sizeof(reader), "%.3800s/reader_0_1_0", dirname(self));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
