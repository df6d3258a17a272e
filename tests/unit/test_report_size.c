/* phase_report: whatever has happened, there is a report that the controller takes. */
#include "agent/link/protocol.h"
#include "agent/phase/node.h"
#include "agent/phase/phase.h"
#include "base/err.h"
#include "crypto/key.h"
#include "json/json.h"
#include "model/report.h"
#include "os/durable.h"
#include "os/frame.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
/* cmocka wants the three above */
#include <cmocka.h>

static char dir[64];
static struct node *node;
static struct config config;
static struct frame_conn ours, theirs;

static int setup(void **state)
{
	struct tuf_options o = { .os = &os_posix, .limits = tuf_limits_default };
	int sv[2];

	(void) state;
	snprintf(dir, sizeof(dir), "/tmp/selfright-report-XXXXXX");
	assert_non_null(mkdtemp(dir));
	node = calloc(1, sizeof(*node));
	assert_non_null(node);
	snprintf(config.fleet, sizeof(config.fleet), "demo");
	snprintf(config.node, sizeof(config.node), "n1");
	node->os = &os_posix;
	node->config = &config;
	node->state = calloc(1, sizeof(*node->state));
	assert_non_null(node->state);
	state_init(node->state);
	assert_int_equal(store_open(&os_posix, dir, &node->store), 0);
	node->dirs = store_dirs(node->store);
	assert_int_equal(private_key_generate(&node->identity), 0);
	o.dirfd = node->dirs->trust;
	assert_int_equal(tuf_client_open(&o, &node->tuf), 0);
	snprintf(node->boot_id, sizeof(node->boot_id), "aaaaaaaa-0000-4000-8000-000000000001");
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	frame_conn_init(&ours, sv[0], LINK_FRAME_MAX);
	frame_conn_init(&theirs, sv[1], LINK_FRAME_MAX);
	node->link = &ours;
	return 0;
}

static int teardown(void **state)
{
	(void) state;
	frame_conn_done(&ours);
	frame_conn_done(&theirs);
	tuf_client_close(node->tuf);
	private_key_free(node->identity);
	store_free(node->store);
	state_done(node->state);
	free(node->state);
	free(node);
	assert_int_equal(tree_remove(&os_posix, AT_FDCWD, dir), 0);
	return 0;
}

static void add_result(int i)
{
	struct node_result r = { .number = RESULT_PREFLIGHT_FAILED, .at = 1800000000 };

	snprintf(r.update, sizeof(r.update), "r%d/web/%d", i, i);
	STATE_SET(r.component, "web");
	STATE_SET(r.to, "1.1.0");
	memset(r.detail, 'd', sizeof(r.detail) - 1);
	/* Each line end takes two bytes. */
	memset(r.log_tail, '\n', sizeof(r.log_tail) - 1);
	r.log_tail[0] = (char) ('a' + i % 26);
	assert_true(state_result_add(node->state, &r) >= 0);
}

static void fill_components(void)
{
	for (int i = 0; i < STATE_COMPONENTS_MAX; i++) {
		struct node_component *c = NULL;
		char name[16], version[32];

		snprintf(name, sizeof(name), "c%d", i);
		assert_int_equal(state_component_add(node->state, name, &c), 0);
		for (int k = 0; k < STATE_DENIALS_MAX; k++) {
			snprintf(version, sizeof(version), "1.%d.0", k);
			component_deny(c, version, NODE_DENIED_UNFIT, 1);
		}
	}
}

/* The envelope that went to the link, parsed as the controller does it. */
static void take(struct report *ret)
{
	struct pollfd p = { .fd = theirs.fd, .events = POLLIN };
	struct json_limits limits = { REPORT_MAX_BYTES, 24, 50000 };
	struct json *doc = NULL;
	struct frame f;
	int got = 0;

	for (int i = 0; got == 0 && i < 200; i++) {
		assert_int_equal(frame_pump(&ours, POLLOUT), 0);
		if (poll(&p, 1, 10) > 0)
			assert_int_equal(frame_pump(&theirs, p.revents), 0);
		got = frame_next(&theirs, &f);
	}
	assert_int_equal(got, 1);
	assert_int_equal(f.type, LINK_REPORT);
	assert_true(f.len - 8 <= REPORT_MAX_BYTES);
	assert_int_equal(json_parse(f.data + 8, f.len - 8, &limits, &doc), 0);
	assert_int_equal(report_parse(json_get(doc, "signed"), ret, NULL), 0);
	json_free(doc);
}

static void test_small_ones_are_whole(void **state)
{
	struct report r = { 0 };

	(void) state;
	add_result(1);
	assert_int_equal(phase_report(node), 0);
	take(&r);
	assert_int_equal(r.result_count, 1);
	assert_non_null(r.results[0].log_tail);
	report_done(&r);
}

/* Away from the controller for a week, with a hook that talks much: everything is told, the old logs are not. */
static void test_many_long_logs(void **state)
{
	struct report r = { 0 };

	(void) state;
	for (int i = 0; i < STATE_RESULTS_MAX; i++)
		add_result(i);
	assert_int_equal(phase_report(node), 0);
	take(&r);
	assert_int_equal(r.result_count, STATE_RESULTS_MAX);
	assert_null(r.results[0].log_tail);
	assert_non_null(r.results[STATE_RESULTS_MAX - 1].log_tail);
	report_done(&r);
}

static void test_the_largest_there_can_be(void **state)
{
	struct report r = { 0 };

	(void) state;
	for (int i = 0; i < STATE_RESULTS_MAX; i++)
		add_result(i);
	fill_components();
	assert_int_equal(phase_report(node), 0);
	take(&r);
	assert_int_equal(r.result_count, STATE_RESULTS_MAX);
	assert_int_equal(r.component_count, STATE_COMPONENTS_MAX);
	report_done(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_small_ones_are_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_long_logs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_largest_there_can_be, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
