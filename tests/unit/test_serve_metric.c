/* A metric gate on a controller's database: who is in a look, what is kept of it, and that it is made once. */
#include "conf/conf.h"
#include "json/build.h"
#include "json/json.h"
#include "model/catalogue.h"
#include "os/os.h"
#include "server-stub/cli/serve.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_gates.h"
#include "server-stub/ingest/db_metrics.h"
#include "server-stub/ingest/db_nodes.h"
#include "server-stub/ingest/db_reports.h"
#include "server-stub/ingest/db_rollouts.h"
#include "server-stub/rollout/metric.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { HOUR = 3600, DAY = 24 * HOUR, OPENED = 500000 * HOUR, NODES = 24, UPDATED = 2, PAST_DAYS = 8 };

static int64_t now;

static int64_t clock_of_the_test(const struct os *os)
{
	(void) os;
	return now;
}

struct bench {
	struct os os;
	struct serve serve;
	char *plan;
};

static void name_of(char out[16], size_t i)
{
	snprintf(out, 16, "n%02zu", i);
}

static void store(struct db *db, const char *node, const char *version, int64_t from, int64_t until, double factor)
{
	const struct db_series s = { node, "web", "errors", version };

	for (int64_t h = from / HOUR; h < until / HOUR; h++) {
		/* Oslo's clock is an hour ahead: its quiet hours are not those of UTC. */
		struct db_hour hour = {
			h, (10 + (double) ((h + 1) % 24)) * (1 + 0.01 * (double) (h * 7 % 5)) * factor, 20
		};

		assert_int_equal(db_metric_store(db, &s, &hour, 1), 0);
	}
}

static void report(struct db *db, const char *node, const char *version)
{
	const struct db_component c = { .component = "web", .version = version };
	static uint64_t sequence = 1;
	const struct db_report r = { .node = node,
				     .boot_id = "b",
				     .labels = "{\"zone\":\"Etc/GMT-1\"}",
				     .body = "{}",
				     .sequence = sequence++,
				     .now = now };
	char digest[65];

	snprintf(digest, sizeof(digest), "%064d", (int) sequence);
	assert_int_equal(db_report_store(db, &r, digest), 0);
	assert_int_equal(db_components_clear(db, node), 0);
	assert_int_equal(db_component_store(db, node, &c), 0);
}

static void good(struct db *db, const char *node, uint64_t number)
{
	char update[64];
	const struct db_result r = { .node = node,
				     .update = update,
				     .component = "web",
				     .to = "1.1.0",
				     .rollout = "web-1-1-0",
				     .stage = "a",
				     .name = "good",
				     .class = "none",
				     .number = number,
				     .at = now,
				     .received_at = now };

	snprintf(update, sizeof(update), "web-1-1-0/web/%d", (int) number);
	assert_int_equal(db_result_add(db, &r), 1);
	report(db, node, "1.1.0");
}

static int setup(void **state)
{
	static const char yaml[] =
		"component: web\nversion: 1.1.0\nmin_age: 0s\n"
		"stages: [{name: a, nodes: [n00, n01]}, {name: b, all: true}]\n"
		"gates: {silent_after: 7d, require: [{metric: {check: errors, effect: 20%, over: 6h}},\n"
		"  {name: other, metric: {check: nothing, effect: 20%, over: 6h}}]}\n";
	const char *const stages[] = { "a", "b" };
	struct bench *b = calloc(1, sizeof(*b));
	struct json_build *build = json_build_new();
	struct buf text = BUF_INIT(10000);
	struct conf_error e = { "" };
	struct plan p;
	char node[16];

	assert_non_null(b);
	b->os = os_posix;
	b->os.clock_real = clock_of_the_test;
	b->serve.os = &b->os;
	now = OPENED - 30 * DAY;
	assert_int_equal(db_open(":memory:", &b->serve.db), 0);
	if (plan_parse(yaml, strlen(yaml), "p.yaml", &p, &e) < 0)
		fail_msg("%s", e.text);
	plan_write(&p, json_build_root(build));
	assert_int_equal(json_build_text(build, false, &text), 0);
	b->plan = buf_take(&text);
	json_build_free(build);
	plan_done(&p);
	for (size_t i = 0; i < NODES; i++) {
		name_of(node, i);
		assert_int_equal(db_node_add(b->serve.db, node, node, node, "{}", now), 0);
	}
	now = OPENED;
	assert_int_equal(db_begin(b->serve.db), 0);
	for (size_t i = 0; i < NODES; i++) {
		name_of(node, i);
		report(b->serve.db, node, "1.0.0");
		store(b->serve.db, node, "1.0.0", OPENED - PAST_DAYS * DAY, OPENED + (i < UPDATED ? 0 : 10 * HOUR),
		      1);
	}
	assert_int_equal(db_rollout_add(b->serve.db,
					&(struct db_rollout){ .id = "web-1-1-0",
							      .component = "web",
							      .version = "1.1.0",
							      .kind = "regular",
							      .state = "running",
							      .seq = 1,
							      .state_at = now,
							      .created_at = now,
							      .plan = b->plan,
							      .release_path = "web/1.1.0/release.json",
							      .release_sha256 = "x" },
					stages, 2),
			 0);
	assert_int_equal(db_stage_open(b->serve.db, "web-1-1-0", 0, now), 0);
	assert_int_equal(db_commit(b->serve.db), 0);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	looks_done(&b->serve);
	db_close(b->serve.db);
	free(b->plan);
	free(b);
	return 0;
}

struct kept {
	int count;
	char said[24], data[4096], gate[32];
	int64_t since;
};

static int see_look(void *user, const struct db_gate_look *row)
{
	struct kept *k = user;

	if (strcmp(row->gate, "metric") != 0)
		return 0;
	k->count++;
	snprintf(k->said, sizeof(k->said), "%s", row->said);
	snprintf(k->data, sizeof(k->data), "%s", row->data ? row->data : "");
	k->since = row->since;
	return 0;
}

/* As the controller does it. */
static struct schedule_decision step(struct bench *b)
{
	struct schedule_decision d;
	struct evaluation e;
	bool news = false;

	assert_int_equal(evaluation_make(&b->serve, "web-1-1-0", ROLLOUT_RUNNING, b->plan, &e), 0);
	assert_int_equal(db_begin(b->serve.db), 0);
	assert_int_equal(gates_note(&b->serve, "web-1-1-0", &e, &news), 0);
	assert_int_equal(db_commit(b->serve.db), 0);
	d = e.decision;
	evaluation_done(&e);
	return d;
}

static struct kept kept(struct bench *b)
{
	struct kept k = { .count = 0 };

	assert_int_equal(db_gate_looks(b->serve.db, "web-1-1-0", 0, see_look, &k), 0);
	return k;
}

static void a_worse_release_is_halted_by_its_metric(void **state)
{
	struct bench *b = *state;
	struct schedule_decision d;
	struct kept k;

	good(b->serve.db, "n00", RESULT_GOOD);
	good(b->serve.db, "n01", RESULT_GOOD);
	d = step(b);
	assert_int_equal(d.action, SCHEDULE_NOTHING);
	assert_non_null(strstr(d.why, "the first look is at"));
	assert_int_equal(kept(b).count, 0);
	assert_int_equal(db_begin(b->serve.db), 0);
	store(b->serve.db, "n00", "1.1.0", OPENED, OPENED + 4 * HOUR, 1);
	store(b->serve.db, "n01", "1.1.0", OPENED, OPENED + 4 * HOUR, 1.5);
	assert_int_equal(db_commit(b->serve.db), 0);
	now = OPENED + HOUR + METRIC_LATE_S; /* too little to tell */
	assert_int_equal(step(b).action, SCHEDULE_NOTHING);
	k = kept(b);
	assert_int_equal(k.count, 1);
	assert_string_equal(k.said, "inconclusive");
	assert_int_equal(step(b).action, SCHEDULE_NOTHING); /* the same look is not made again */
	assert_int_equal(kept(b).count, 1);
	now = OPENED + 4 * HOUR + METRIC_LATE_S;
	d = step(b);
	assert_int_equal(d.action, SCHEDULE_HALT);
	assert_non_null(strstr(d.why, "n01"));
	assert_non_null(strstr(d.why, "worse than their own past"));
	k = kept(b);
	assert_string_equal(k.said, "fail");
	assert_int_equal(k.since, OPENED + 4 * HOUR);
	assert_non_null(strstr(k.data, "\"n00\"") && strstr(k.data, "\"n01\"") ? k.data : NULL);
	assert_non_null(strstr(k.data, "\"n23\"")); /* one of the others */
	assert_int_equal(step(b).action, SCHEDULE_HALT); /* by what was written down */
	assert_int_equal(kept(b).count, k.count);
}

static void a_good_one_passes_and_the_gate_without_data_waits(void **state)
{
	struct bench *b = *state;
	struct schedule_decision d;

	good(b->serve.db, "n00", RESULT_GOOD);
	good(b->serve.db, "n01", RESULT_GOOD);
	assert_int_equal(db_begin(b->serve.db), 0);
	store(b->serve.db, "n00", "1.1.0", OPENED, OPENED + 8 * HOUR, 1);
	store(b->serve.db, "n01", "1.1.0", OPENED, OPENED + 8 * HOUR, 1.05);
	assert_int_equal(db_commit(b->serve.db), 0);
	for (int hour = 1; hour <= 6; hour++) {
		now = OPENED + hour * HOUR + METRIC_LATE_S;
		assert_int_equal(step(b).action, SCHEDULE_NOTHING);
	}
	d = step(b);
	assert_int_equal(d.action, SCHEDULE_NOTHING);
	assert_non_null(strstr(d.why, "the gate 'other' cannot tell"));
	assert_int_equal(d.gates[0].answer.verdict, GATE_PASS);
	assert_string_equal(kept(b).said, "pass");
}

/* What no check proved is no data: it is waited for, and is in no look. */
static void unproven_is_no_data(void **state)
{
	struct bench *b = *state;
	struct schedule_decision d;
	struct kept k;

	good(b->serve.db, "n00", RESULT_GOOD);
	good(b->serve.db, "n01", RESULT_GOOD_UNPROVEN);
	assert_int_equal(db_begin(b->serve.db), 0);
	store(b->serve.db, "n00", "1.1.0", OPENED, OPENED + 8 * HOUR, 1);
	store(b->serve.db, "n01", "1.1.0", OPENED, OPENED + 8 * HOUR, 1);
	assert_int_equal(db_commit(b->serve.db), 0);
	now = OPENED + 6 * HOUR + METRIC_LATE_S;
	d = step(b);
	assert_int_equal(d.action, SCHEDULE_NOTHING);
	assert_non_null(strstr(d.why, "n01"));
	k = kept(b);
	assert_int_equal(k.count, 1);
	assert_non_null(strstr(k.data, "\"n00\""));
	assert_null(strstr(k.data, "\"n01\""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_worse_release_is_halted_by_its_metric, setup, teardown),
		cmocka_unit_test_setup_teardown(a_good_one_passes_and_the_gate_without_data_waits, setup,
						teardown),
		cmocka_unit_test_setup_teardown(unproven_is_no_data, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
