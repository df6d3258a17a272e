/* Each sentence of db.h. */
#include "base/err.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_audit.h"
#include "server-stub/ingest/db_events.h"
#include "server-stub/ingest/db_evidence.h"
#include "server-stub/ingest/db_gates.h"
#include "server-stub/ingest/db_hooks.h"
#include "server-stub/ingest/db_members.h"
#include "server-stub/ingest/db_metrics.h"
#include "server-stub/ingest/db_nodes.h"
#include "server-stub/ingest/db_orders.h"
#include "server-stub/ingest/db_places.h"
#include "server-stub/ingest/db_reports.h"
#include "server-stub/ingest/db_rollouts.h"
#include "support/fault_loop.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static int setup(void **state)
{
	struct db *db = NULL;

	assert_int_equal(db_open(":memory:", &db), 0);
	*state = db;
	return 0;
}

static int teardown(void **state)
{
	db_close(*state);
	return 0;
}

static void add_nodes(struct db *db)
{
	assert_int_equal(db_node_add(db, "n1", "ID1", "TR1", "{\"site\":\"oslo\"}", 100), 0);
	assert_int_equal(db_node_add(db, "n2", "ID2", "TR2", "{}", 200), 0);
}

static int count_node(void *user, const struct db_node *row)
{
	(void) row;
	(*(int *) user)++;
	return 0;
}

static int note_name(void *user, const char *node)
{
	(void) snprintf(user, 64, "%s", node);
	return 0;
}

static int count_at(const char *path)
{
	struct db *other;
	int n = 0;

	assert_int_equal(db_open(path, &other), 0);
	assert_int_equal(db_nodes(other, NULL, count_node, &n), 0);
	db_close(other);
	return n;
}

static void a_batch_is_there_when_it_has_ended(void **state)
{
	char path[] = "/tmp/test-db-batch-XXXXXX";
	struct db *db;
	int n = 0, fd = mkstemp(path);

	(void) state;
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(db_open(path, &db), 0);
	assert_int_equal(db_batch_begin(db), 0);
	assert_int_equal(db_begin(db), 0);
	assert_int_equal(db_node_add(db, "n1", "ID1", "TR1", "{}", 100), 0);
	assert_int_equal(db_commit(db), 0);
	db_abort(db); /* after a commit: nothing */
	/* An abort takes its own back, and leaves the batch. */
	assert_int_equal(db_begin(db), 0);
	assert_int_equal(db_node_add(db, "n2", "ID2", "TR2", "{}", 100), 0);
	db_abort(db);
	assert_int_equal(db_node_add(db, "n3", "ID3", "TR3", "{}", 100), 0); /* by itself, in it all the same */
	assert_int_equal(db_nodes(db, NULL, count_node, &n), 0);
	assert_int_equal(n, 2); /* can be read here at once, */
	assert_int_equal(count_at(path), 0); /* and is nowhere else before its end */
	assert_int_equal(db_batch_end(db), 0);
	assert_int_equal(count_at(path), 2);
	/* And again, and without a batch. */
	assert_int_equal(db_begin(db), 0);
	assert_int_equal(db_node_add(db, "n4", "ID4", "TR4", "{}", 100), 0);
	assert_int_equal(db_commit(db), 0);
	assert_int_equal(count_at(path), 3);
	/* A batch that the process does not live to end was never there. */
	assert_int_equal(db_batch_begin(db), 0);
	assert_int_equal(db_node_add(db, "n5", "ID5", "TR5", "{}", 100), 0);
	db_close(db);
	assert_int_equal(count_at(path), 3);
	assert_int_equal(unlink(path), 0);
}

static void a_batch_that_fails_leaves_nothing(void **state)
{
	char path[] = "/tmp/test-db-full-XXXXXX", label[4096];
	struct rlimit whole, little;
	struct db *db;
	int n = 0, fd = mkstemp(path);
	int64_t last;
	uint64_t generation;

	(void) state;
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(db_open(path, &db), 0);
	assert_int_equal(db_node_add(db, "first", "ID", "TR", "{}", 100), 0);
	last = db_last_event(db);
	memset(label, 'x', sizeof(label) - 1);
	label[sizeof(label) - 1] = 0;
	assert_int_equal(db_batch_begin(db), 0);
	for (int i = 0; i < 50; i++) {
		char name[16];

		(void) snprintf(name, sizeof(name), "n%d", i);
		assert_int_equal(db_begin(db), 0);
		assert_int_equal(db_event_add(db, &(struct db_event){ .at = 1, .kind = "x", .text = "x" }), 0);
		assert_int_equal(db_node_add(db, name, "ID", "TR", label, 100), 0);
		assert_int_equal(db_commit(db), 0);
	}
	assert_true(db_last_event(db) > last);
	generation = db_generation(db);
	/* The file may not grow: as on a full disk. */
	(void) signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &whole), 0);
	little = whole;
	little.rlim_cur = 8192;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
	n = db_batch_end(db);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &whole), 0);
	assert_true(n < 0);
	assert_true(db_last_event(db) == last);
	assert_true(db_generation(db) > generation); /* whoever saw it looks again */
	n = 0;
	assert_int_equal(db_nodes(db, NULL, count_node, &n), 0);
	assert_int_equal(n, 1);
	/* And the next ones are as good as any. */
	assert_int_equal(db_node_add(db, "next", "ID", "TR", "{}", 100), 0);
	assert_int_equal(count_at(path), 2);
	db_close(db);
	assert_int_equal(unlink(path), 0);
}

static void a_removed_node_is_forgotten_but_its_name(void **state)
{
	struct db *db = *state;
	const struct db_component web = { .component = "web", .version = "1.0.0" };
	const struct db_order hold = { .id = "h", .node = "n1", .kind = "hold", .issued = 1, .until = 1000 };
	const struct db_result good = { .node = "n1", .update = "u", .component = "web", .to = "1.0.0" };
	char name[64] = "";
	int n = 0;

	add_nodes(db);
	assert_int_equal(db_component_store(db, "n1", &web), 0);
	assert_int_equal(db_order_add(db, &hold), 0);
	assert_int_equal(db_result_add(db, &good), 1);
	assert_int_equal(db_node_remove(db, "n3", 500), -ENOENT);
	assert_int_equal(db_node_remove(db, "n1", 500), 0);
	assert_int_equal(db_node_remove(db, "n1", 500), -ENOENT);
	assert_int_equal(db_nodes(db, NULL, count_node, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(db_removed(db, note_name, name), 0);
	assert_string_equal(name, "n1");
	/* Back with other keys, it starts from nothing. */
	assert_int_equal(db_node_add(db, "n1", "NEW", "NEW", "{}", 600), 0);
	name[0] = '\0';
	assert_int_equal(db_removed(db, note_name, name), 0);
	assert_string_equal(name, "");
	assert_int_equal(db_result_add(db, &good), 1);
}

static int join_down(void *user, const struct db_down *row)
{
	struct buf *b = user;

	return buf_addf(b, "%s %s;", row->node, row->reason);
}

static void expect_down(struct db *db, const char *label, const char *value, const char *except,
			const char *expected)
{
	struct buf b = BUF_INIT(1000);

	assert_int_equal(db_down(db, label, value, except, 500, join_down, &b), 0);
	assert_string_equal(buf_str(&b), expected);
	buf_done(&b);
}

static struct db_report report_of(const char *node, uint64_t sequence, int64_t now, const char *state,
				  const char *update)
{
	return (struct db_report){ .node = node,
				   .boot_id = "b",
				   .labels = "{\"site\":\"oslo\"}",
				   .body = "{}",
				   .sequence = sequence,
				   .now = now,
				   .under_way = state ? "web" : NULL,
				   .under_way_to = state ? "1.1.0" : NULL,
				   .under_way_state = state,
				   .under_way_update = update };
}

static void who_is_down_is_told_by_group(void **state)
{
	struct db *db = *state;
	struct db_report r;

	add_nodes(db);
	assert_int_equal(db_node_add(db, "n3", "ID3", "TR3", "{\"site\":\"oslo\"}", 100), 0);
	assert_int_equal(db_node_add(db, "n4", "ID4", "TR4", "{\"a.b/c-d\":\"x\"}", 100), 0);
	expect_down(db, "site", "oslo", "n1", "n3 has never reported;");
	expect_down(db, "site", "", "none", "n2 has never reported;n4 has never reported;");
	expect_down(db, "a.b/c-d", "x", "none", "n4 has never reported;");
	expect_down(db, "site", "lima", "none", "");
	r = report_of("n3", 1, 1000, NULL, NULL);
	assert_int_equal(db_report_store(db, &r, "d"), 0);
	expect_down(db, "site", "oslo", "n1", "");
	r = report_of("n3", 2, 1000, "staging", "u");
	assert_int_equal(db_report_store(db, &r, "d"), 0);
	expect_down(db, "site", "oslo", "n1", "");
	r = report_of("n3", 3, 1000, "probation", "u");
	assert_int_equal(db_report_store(db, &r, "d"), 0);
	expect_down(db, "site", "oslo", "n1", "n3 is in the middle of an update;");
	r = report_of("n3", 4, 1000, "stuck", "u");
	assert_int_equal(db_report_store(db, &r, "d"), 0);
	expect_down(db, "site", "oslo", "n1", "n3 is stuck;");
	r = report_of("n3", 5, 1000, NULL, NULL);
	r.failing = "http";
	assert_int_equal(db_report_store(db, &r, "d"), 0);
	expect_down(db, "site", "oslo", "n1", "n3 fails the check http;");
	r = report_of("n3", 6, 499, NULL, NULL);
	assert_int_equal(db_report_store(db, &r, "d"), 0);
	expect_down(db, "site", "oslo", "n1", "n3 is silent;");
	r = report_of("n3", 7, 1000, NULL, NULL);
	assert_int_equal(db_report_store(db, &r, "d"), 0);
	assert_int_equal(db_node_quarantine(db, "n3", "two of them"), 0);
	expect_down(db, "site", "oslo", "n1", "n3 is in quarantine;");
}

static int count_place(void *user, const struct db_place *row)
{
	(void) row;
	(*(int *) user)++;
	return 0;
}

static int places(struct db *db, const char *node)
{
	int n = 0;

	assert_int_equal(db_places(db, node, count_place, &n), 0);
	return n;
}

static bool has_ended(struct db *db, const char *update, uint64_t sequence)
{
	bool ended = false;

	assert_int_equal(db_update_ended(db, "n1", update, sequence, &ended), 0);
	return ended;
}

static void a_place_ends_by_what_the_node_signed(void **state)
{
	struct db *db = *state;
	struct db_place p = {
		.node = "n1", .update = "r/web/1", .rollout = "r", .label = "site", .value = "oslo", .sequence = 5
	};
	const struct db_result other = { .node = "n1", .update = "r/web/0", .component = "web", .to = "1.0.0" };
	const struct db_result good = { .node = "n1", .update = "r/web/1", .component = "web", .to = "1.0.0" };
	struct db_report r;
	unsigned count = 0;

	add_nodes(db);
	assert_int_equal(db_place_put(db, &p), 0);
	assert_int_equal(db_place_put(db, &p), 0);
	assert_int_equal(places(db, "n1"), 1);
	assert_int_equal(places(db, "n2"), 0);
	/* A report from before it asked, brought late, says nothing of what came after. */
	r = report_of("n1", 5, 1000, NULL, NULL);
	assert_int_equal(db_report_store(db, &r, "d"), 0);
	assert_int_equal(places(db, NULL), 1);
	assert_false(has_ended(db, "r/web/1", 5));
	/* While the update is under way it stays, whatever its state, and after the end of another one too. */
	r = report_of("n1", 6, 1000, "waiting", "r/web/1");
	assert_int_equal(db_report_store(db, &r, "d"), 0);
	r = report_of("n1", 7, 1000, "probation", "r/web/1");
	assert_int_equal(db_report_store(db, &r, "d"), 0);
	assert_int_equal(db_result_add(db, &other), 1);
	assert_int_equal(places(db, NULL), 1);
	assert_false(has_ended(db, "r/web/1", 5));
	assert_int_equal(db_result_add(db, &good), 1);
	assert_int_equal(places(db, NULL), 0);
	assert_true(has_ended(db, "r/web/1", 5));
	assert_true(has_ended(db, "r/web/1", 0));
	/* Put aside without a result: the next report shows it. */
	p.update = "r/web/2";
	p.sequence = 7;
	assert_int_equal(db_place_put(db, &p), 0);
	r = report_of("n1", 8, 1000, NULL, NULL);
	assert_int_equal(db_report_store(db, &r, "d"), 0);
	assert_int_equal(places(db, NULL), 0);
	assert_true(has_ended(db, "r/web/2", 7));
	assert_false(has_ended(db, "r/web/2", 8));
	/* An agent that does not say when it asked: only a result, or a person. */
	p.update = "r/web/3";
	p.sequence = 0;
	assert_int_equal(db_place_put(db, &p), 0);
	r = report_of("n1", 9, 1000, NULL, NULL);
	assert_int_equal(db_report_store(db, &r, "d"), 0);
	assert_int_equal(places(db, NULL), 1);
	expect_down(db, "site", "oslo", "n2", "n1 is being updated;");
	assert_int_equal(db_place_free(db, "n1", &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(places(db, NULL), 0);
	assert_int_equal(db_place_put(db, &p), 0);
	assert_int_equal(db_node_remove(db, "n1", 2000), 0);
	assert_int_equal(places(db, NULL), 0);
}

static int count_unconfirmed(void *user, const struct db_order *row)
{
	*(int *) user += row->unconfirmed;
	return 0;
}

static int unconfirmed(struct db *db, int64_t now)
{
	int n = 0;

	assert_int_equal(db_orders(db, NULL, now, count_unconfirmed, &n), 0);
	return n;
}

static void orders_of_a_backup_wait_for_a_person(void **state)
{
	struct db *db = *state;
	const struct db_order hold = { .id = "h", .node = "n1", .kind = "hold", .issued = 1, .until = 1000 };
	const struct db_order old = { .id = "old", .node = "n1", .kind = "hold", .issued = 1, .until = 400 };
	const struct db_order back = {
		.id = "b", .node = "n2", .kind = "rollback", .component = "web", .issued = 1
	};
	unsigned count = 0;

	add_nodes(db);
	assert_int_equal(db_order_add(db, &hold), 0);
	assert_int_equal(db_order_add(db, &old), 0);
	assert_int_equal(db_order_add(db, &back), 0);
	assert_int_equal(unconfirmed(db, 500), 0);
	assert_int_equal(db_orders_unconfirm(db, 500), 0);
	assert_int_equal(unconfirmed(db, 500), 2);
	assert_int_equal(unconfirmed(db, 0), 2);
	assert_int_equal(db_order_confirm(db, "h", 500, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(db_order_confirm(db, "h", 500, &count), 0);
	assert_int_equal(count, 0);
	assert_int_equal(db_order_confirm(db, "old", 500, &count), 0);
	assert_int_equal(count, 0);
	assert_int_equal(unconfirmed(db, 500), 1);
	assert_int_equal(db_order_withdraw_one(db, "b", "ann", 500, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(db_order_withdraw_one(db, "b", "ann", 500, &count), 0);
	assert_int_equal(count, 0);
	assert_int_equal(unconfirmed(db, 500), 0);
}

static int count_online(void *user, const struct db_node *row)
{
	*(int *) user += row->online || row->presence_at != 0;
	return 0;
}

static void presence_is_forgotten(void **state)
{
	struct db *db = *state;
	int n = 0;

	add_nodes(db);
	assert_int_equal(db_node_presence(db, "n1", true, 1, 300), 0);
	assert_int_equal(db_node_presence(db, "n2", false, 1, 300), 0);
	assert_int_equal(db_presence_forget(db), 0);
	assert_int_equal(db_nodes(db, NULL, count_online, &n), 0);
	assert_int_equal(n, 0);
}

static void nodes_are_counted_without_their_reports(void **state)
{
	struct db *db = *state;
	struct db_node_counts c = { 0 };
	struct db_report r;

	assert_int_equal(db_node_count(db, 0, &c), 0);
	assert_int_equal(c.nodes + c.online + c.quarantined + c.silent, 0);
	add_nodes(db);
	assert_int_equal(db_node_add(db, "n3", "ID3", "TR3", "{}", 200), 0);
	r = report_of("n1", 1, 1000, NULL, NULL);
	assert_int_equal(db_report_store(db, &r, "d"), 0);
	r = report_of("n2", 1, 2000, NULL, NULL);
	assert_int_equal(db_report_store(db, &r, "d"), 0);
	assert_int_equal(db_node_presence(db, "n1", true, 1, 2000), 0);
	assert_int_equal(db_node_quarantine(db, "n2", "two machines"), 0);
	assert_int_equal(db_node_count(db, 1000, &c), 0);
	assert_int_equal(c.nodes, 3);
	assert_int_equal(c.online, 1);
	assert_int_equal(c.quarantined, 1);
	assert_int_equal(c.silent, 1); /* n3, which never reported */
	assert_int_equal(db_node_count(db, 1001, &c), 0);
	assert_int_equal(c.silent, 2);
}

static int join_node(void *user, const struct db_node *row)
{
	return buf_addf(user, "%s ", row->node);
}

static void nodes_come_in_slices(void **state)
{
	struct db *db = *state;
	struct buf b = BUF_INIT(100);

	add_nodes(db);
	assert_int_equal(db_node_add(db, "n3", "ID3", "TR3", "{}", 200), 0);
	assert_int_equal(db_nodes_after(db, "", 2, join_node, &b), 2);
	assert_int_equal(db_nodes_after(db, "n2", 2, join_node, &b), 1);
	assert_int_equal(db_nodes_after(db, "n3", 2, join_node, &b), 0);
	assert_string_equal(buf_str(&b), "n1 n2 n3 ");
	/* The last one seen may be gone. */
	assert_int_equal(db_node_remove(db, "n2", 300), 0);
	assert_int_equal(db_nodes_after(db, "n2", 2, join_node, &b), 1);
	assert_string_equal(buf_str(&b), "n1 n2 n3 n3 ");
	buf_done(&b);
}

static void nodes_keep_their_keys(void **state)
{
	struct db *db = *state;
	struct buf pem = BUF_INIT(1000);
	int n = 0;

	add_nodes(db);
	assert_int_equal(db_node_add(db, "n1", "ID1", "TR1", "{}", 300), 0);
	assert_int_equal(db_node_add(db, "n1", "OTHER", "TR1", "{}", 300), -EEXIST);
	assert_int_equal(db_node_add(db, "n1", "ID1", "OTHER", "{}", 300), -EEXIST);
	assert_int_equal(db_node_identity(db, "n1", &pem), 0);
	assert_string_equal(buf_str(&pem), "ID1");
	assert_int_equal(db_node_identity(db, "n3", &pem), -ENOENT);
	assert_int_equal(db_nodes(db, NULL, count_node, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(db_nodes(db, "n3", count_node, &n), -ENOENT);
	/* Text is text, never SQL. */
	assert_int_equal(db_nodes(db, "n1' OR '1'='1", count_node, &n), -ENOENT);
	buf_done(&pem);
}

static int stop_positive(void *user, const struct db_node *row)
{
	(void) row;
	(*(int *) user)++;
	return 1;
}

static int stop_negative(void *user, const struct db_node *row)
{
	(void) user;
	(void) row;
	return -ENOSYS;
}

static int nested(void *user, const struct db_node *row)
{
	int n = 0;

	(void) row;
	return db_nodes(user, NULL, count_node, &n);
}

static void callbacks_stop_and_nest(void **state)
{
	struct db *db = *state;
	int n = 0;

	add_nodes(db);
	assert_int_equal(db_nodes(db, NULL, stop_positive, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(db_nodes(db, NULL, stop_negative, NULL), -ENOSYS);
	assert_int_equal(db_nodes(db, NULL, nested, db), 0);
	assert_int_equal(db_nodes(db, NULL, count_node, &n), 0);
	assert_int_equal(n, 3);
}

static struct db_result result(const char *node, const char *update, uint64_t number)
{
	return (struct db_result){ .node = node,
				   .update = update,
				   .component = "web",
				   .rollout = "r1",
				   .name = "x",
				   .class = "none",
				   .number = number,
				   .received_at = 500 };
}

static int last_number(void *user, const struct db_result *row)
{
	*(uint64_t *) user = row->number;
	return 0;
}

static void a_result_is_stored_once(void **state)
{
	struct db *db = *state;
	struct db_result r = result("n1", "r1/web/1", 100), again = result("n1", "r1/web/1", 200);
	uint64_t number = 0, before;

	add_nodes(db);
	assert_int_equal(db_result_add(db, &r), 1);
	before = db_generation(db);
	assert_int_equal(db_result_add(db, &again), 0);
	assert_int_equal(db_generation(db), before);
	assert_int_equal(db_results(db, "n1", NULL, last_number, &number), 0);
	assert_int_equal(number, 100);
	/* The same id of another node is another update. */
	r = result("n2", "r1/web/1", 101);
	assert_int_equal(db_result_add(db, &r), 1);
	r = result("n3", "r1/web/1", 101);
	assert_true(db_result_add(db, &r) < 0);
	assert_true(strlen(db_error(db)) > 0);
	r = result("n1", "r1/web/2", UINT64_MAX);
	assert_true(db_result_add(db, &r) < 0);
}

static void add_rollout(struct db *db, const char *id, uint64_t seq)
{
	static const char *const stages[] = { "canary", "rest" };
	const struct db_rollout r = { .id = id,
				      .component = "web",
				      .version = "1.1.0",
				      .kind = "regular",
				      .state = "running",
				      .seq = seq,
				      .created_at = 100,
				      .plan = "{}",
				      .release_path = "p",
				      .release_sha256 = "h" };

	assert_int_equal(db_rollout_add(db, &r, stages, 2), 0);
}

static void seq_rises_and_never_goes_back(void **state)
{
	struct db *db = *state;
	uint64_t a, b;

	assert_int_equal(db_next_seq(db, 0, &a), 0);
	assert_int_equal(a, 1);
	assert_int_equal(db_next_seq(db, 0, &b), 0);
	assert_int_equal(b, 2);
	assert_int_equal(db_next_seq(db, 41, &b), 0);
	assert_int_equal(b, 42);
	add_rollout(db, "r9", 90);
	assert_int_equal(db_next_seq(db, 0, &b), 0);
	assert_int_equal(b, 91);
	assert_true(db_next_seq(db, UINT64_MAX, &b) < 0);
	/* An aborted one may be given again, for nobody saw it. */
	assert_int_equal(db_begin(db), 0);
	assert_int_equal(db_next_seq(db, 0, &b), 0);
	db_abort(db);
	assert_int_equal(db_next_seq(db, 0, &b), 0);
	assert_int_equal(b, 92);
}

static int read_stage(void *user, const struct db_stage *row)
{
	char *text = user;

	snprintf(text + strlen(text), 64, "%s:%d:%lld ", row->name, row->open, (long long) row->opened_at);
	return 0;
}

static int read_state(void *user, const struct db_rollout *row)
{
	snprintf(user, 200, "%s %s %s %s %s", row->id, row->state, row->reason ? row->reason : "-", row->undo,
		 row->note);
	return 0;
}

static void numbers_are_kept_by_name(void **state)
{
	struct db *db = *state;
	int64_t n = 7;
	uint64_t seq = 0;

	assert_int_equal(db_counter(db, "clock-set", &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(db_counter_set(db, "clock-set", 1764000000), 0);
	assert_int_equal(db_counter_set(db, "clock-set", 1764000001), 0);
	assert_int_equal(db_next_seq(db, 0, &seq), 0);
	assert_int_equal(seq, 1);
	assert_int_equal(db_counter(db, "clock-set", &n), 0);
	assert_int_equal(n, 1764000001);
	assert_int_equal(db_counter(db, "seq", &n), 0);
	assert_int_equal(n, 1);
}

static void rollouts_have_stages_and_a_state(void **state)
{
	struct db *db = *state;
	char text[200] = "";

	add_rollout(db, "r1", 1);
	assert_int_equal(db_stage_open(db, "r1", 0, 150), 0);
	assert_int_equal(db_stage_open(db, "r1", 0, 999), -ENOENT);
	assert_int_equal(db_stage_open(db, "r1", 7, 999), -ENOENT);
	assert_int_equal(db_stages(db, "r1", read_stage, text), 0);
	assert_string_equal(text, "canary:1:150 rest:0:0 ");
	assert_int_equal(db_rollout_set_note(db, "r1", "waits"), 0);
	assert_int_equal(db_rollouts(db, "r1", read_state, text), 0);
	assert_string_equal(text, "r1 running - [] waits");
	assert_int_equal(db_rollout_set_state(db, "r1", "halted", "bad", "kim", 200), 0);
	assert_int_equal(db_rollout_set_undo(db, "r1", "[\"canary\"]"), 0);
	assert_int_equal(db_rollouts(db, "r1", read_state, text), 0);
	assert_string_equal(text, "r1 halted bad [\"canary\"] ");
	assert_int_equal(db_rollout_set_state(db, "r2", "halted", "bad", "kim", 200), -ENOENT);
	assert_int_equal(db_rollouts(db, "r2", read_state, text), -ENOENT);
}

struct members {
	char text[600];
};

static int read_member(void *user, const struct db_member *row)
{
	struct members *m = user;

	snprintf(m->text + strlen(m->text), 120, "%s:%s%zu%s v=%s r=%llu o=%s; ", row->node,
		 row->is_member ? "m" : "-", row->position, row->acted ? "a" : "",
		 row->version ? row->version : "-", (unsigned long long) row->result_number,
		 row->order_kind ? row->order_kind : "-");
	return 0;
}

static void members_bring_all_that_is_known(void **state)
{
	struct db *db = *state;
	struct members m = { "" };
	struct db_result r = result("n1", "r1/web/1", 200);
	const struct db_component web = { .component = "web", .version = "1.0.0" };
	struct db_order o = {
		.id = "o1", .node = "n2", .kind = "rollback", .component = "web", .to = "1", .issued = 1
	};
	unsigned count;

	add_nodes(db);
	add_rollout(db, "r1", 1);
	assert_int_equal(db_member_put(db, "r1", "n1", 0, false), 0);
	assert_int_equal(db_component_store(db, "n1", &web), 0);
	assert_int_equal(db_result_add(db, &r), 1);
	r = result("n1", "r1/web/2", 100);
	assert_int_equal(db_result_add(db, &r), 1);
	r = result("n1", "r2/web/1", 300);
	r.rollout = "r2";
	assert_int_equal(db_result_add(db, &r), 1);
	assert_int_equal(db_order_add(db, &o), 0);
	assert_int_equal(db_members(db, "r1", "web", 1000, read_member, &m), 0);
	assert_string_equal(m.text, "n1:m0 v=1.0.0 r=100 o=-; n2:-0 v=- r=0 o=rollback; ");

	/* Another component's order does not matter; a hold does, until it ends or is withdrawn. */
	m.text[0] = '\0';
	assert_int_equal(db_members(db, "r1", "dns", 1000, read_member, &m), 0);
	assert_non_null(strstr(m.text, "n2:-0 v=- r=0 o=-;"));
	o = (struct db_order){ .id = "o2", .node = "n1", .kind = "hold", .issued = 1, .until = 1500 };
	assert_int_equal(db_order_add(db, &o), 0);
	m.text[0] = '\0';
	assert_int_equal(db_members(db, "r1", "dns", 1000, read_member, &m), 0);
	assert_non_null(strstr(m.text, "n1:m0 v=- r=0 o=hold;"));
	m.text[0] = '\0';
	assert_int_equal(db_members(db, "r1", "dns", 1500, read_member, &m), 0);
	assert_null(strstr(m.text, "hold"));
	assert_int_equal(db_order_withdraw(db, "n2", "rollback", "web", "kim", 1000, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(db_order_withdraw(db, "n2", "rollback", "web", "kim", 1000, &count), 0);
	assert_int_equal(count, 0);
}

static int read_skip(void *user, const struct db_member *row)
{
	struct members *m = user;

	if (row->skipped_at)
		snprintf(m->text + strlen(m->text), 120, "%s %lld %s %s; ", row->node, (long long) row->skipped_at,
			 row->skip_reason, row->skip_by);
	return 0;
}

static void a_skip_is_of_one_rollout_and_can_be_taken_back(void **state)
{
	struct db *db = *state;
	struct members m = { "" };
	uint64_t before;
	unsigned count;

	add_nodes(db);
	add_rollout(db, "r1", 1);
	add_rollout(db, "r2", 2);
	before = db_generation(db);
	assert_int_equal(db_skip(db, "r1", "n2", "off", "kim", 700), 0);
	assert_true(db_generation(db) > before);
	assert_int_equal(db_skip(db, "r1", "n2", "still off", "jo", 800), 0);
	assert_int_equal(db_members(db, "r1", "web", 1000, read_skip, &m), 0);
	assert_string_equal(m.text, "n2 800 still off jo; ");
	m.text[0] = '\0';
	assert_int_equal(db_members(db, "r2", "web", 1000, read_skip, &m), 0);
	assert_string_equal(m.text, "");
	assert_int_equal(db_skip_withdraw(db, "r1", "n2", &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(db_skip_withdraw(db, "r1", "n2", &count), 0);
	assert_int_equal(count, 0);
	assert_int_equal(db_members(db, "r1", "web", 1000, read_skip, &m), 0);
	assert_string_equal(m.text, "");
	/* A node that is removed leaves nothing behind that would keep it. */
	assert_int_equal(db_skip(db, "r1", "n2", "off", "kim", 900), 0);
	assert_int_equal(db_begin(db), 0);
	assert_int_equal(db_node_remove(db, "n2", 950), 0);
	assert_int_equal(db_commit(db), 0);
}

static void membership_that_was_acted_on_sticks(void **state)
{
	struct db *db = *state;
	struct members m = { "" };

	add_nodes(db);
	add_rollout(db, "r1", 1);
	assert_int_equal(db_member_put(db, "r1", "n1", 1, false), 0);
	assert_int_equal(db_member_put(db, "r1", "n1", 0, true), 0);
	assert_int_equal(db_member_put(db, "r1", "n1", 1, false), 0);
	assert_int_equal(db_member_drop(db, "r1", "n1"), 0);
	assert_int_equal(db_member_put(db, "r1", "n2", 1, false), 0);
	assert_int_equal(db_member_drop(db, "r1", "n2"), 0);
	assert_int_equal(db_members(db, "r1", "web", 1, read_member, &m), 0);
	assert_string_equal(m.text, "n1:m0a v=- r=0 o=-; n2:-0 v=- r=0 o=-; ");
}

static int read_freeze(void *user, const struct db_freeze *row)
{
	snprintf(user, 100, "%s", row->id);
	return 0;
}

static void freezes_end_by_time_or_hand(void **state)
{
	struct db *db = *state;
	struct db_freeze f = {
		.id = "f1", .labels = "{}", .components = "[]", .reason = "x", .at = 10, .until = 100
	};
	char id[100] = "";
	unsigned count;

	assert_int_equal(db_freeze_add(db, &f), 0);
	assert_int_equal(db_freezes(db, 99, read_freeze, id), 0);
	assert_string_equal(id, "f1");
	id[0] = '\0';
	assert_int_equal(db_freezes(db, 100, read_freeze, id), 0);
	assert_string_equal(id, "");
	f.id = "f2";
	f.until = 0;
	assert_int_equal(db_freeze_add(db, &f), 0);
	assert_int_equal(db_freeze_lift(db, NULL, 1000, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(db_freezes(db, 1000, read_freeze, id), 0);
	assert_string_equal(id, "");
}

static int read_event(void *user, const struct db_event *row)
{
	snprintf((char *) user + strlen(user), 100, "%lld:%s ", (long long) row->id, row->text);
	return 0;
}

static void events_are_numbered_and_only_grow(void **state)
{
	struct db *db = *state;
	struct db_event e = { .at = 1, .kind = "k", .text = "one" };
	char text[300] = "";

	assert_int_equal(db_last_event(db), 0);
	assert_int_equal(db_event_add(db, &e), 0);
	e.text = "two";
	assert_int_equal(db_event_add(db, &e), 0);
	assert_int_equal(db_last_event(db), 2);
	assert_int_equal(db_events_after(db, 0, 10, read_event, text), 0);
	assert_string_equal(text, "1:one 2:two ");
	text[0] = '\0';
	assert_int_equal(db_events_after(db, 1, 10, read_event, text), 0);
	assert_string_equal(text, "2:two ");
	text[0] = '\0';
	assert_int_equal(db_events_after(db, 0, 1, read_event, text), 0);
	assert_string_equal(text, "1:one ");
	/* What is taken back with its transaction is not the last event. */
	assert_int_equal(db_begin(db), 0);
	assert_int_equal(db_event_add(db, &e), 0);
	db_abort(db);
	assert_int_equal(db_last_event(db), 2);
}

/* Somebody with another SQLite at the file. */
static int tamper(const char *path, const char *sql)
{
	sqlite3 *h = NULL;
	int r;

	assert_int_equal(sqlite3_open(path, &h), SQLITE_OK);
	r = sqlite3_exec(h, sql, NULL, NULL, NULL);
	sqlite3_close(h);
	return r;
}

static void the_audit_trail_notices_changes(void **state)
{
	char dir[256], path[300];
	struct db *db = NULL;
	uint64_t entries;

	(void) state;
	temp_folder(dir, sizeof(dir));
	snprintf(path, sizeof(path), "%s/x.db", dir);
	assert_int_equal(db_open(path, &db), 0);
	assert_int_equal(db_audit(db, 1, "kim", "halt", "r1"), 0);
	assert_int_equal(db_audit(db, 2, "kim", "undo", "r1"), 0);
	assert_int_equal(db_audit(db, 3, NULL, "start", NULL), 0);
	assert_int_equal(db_audit_verify(db, &entries), 0);
	assert_int_equal(entries, 3);
	assert_int_equal(tamper(path, "UPDATE audit SET by = 'robin' WHERE id = 2"), SQLITE_CONSTRAINT);
	assert_int_equal(tamper(path, "DELETE FROM audit WHERE id = 2"), SQLITE_CONSTRAINT);
	assert_int_equal(tamper(path, "DELETE FROM events"), SQLITE_OK); /* there are none */
	/* One that drops the trigger first is found by the chain. */
	assert_int_equal(tamper(path, "DROP TRIGGER audit_stays; UPDATE audit SET by = 'robin' WHERE id = 2"),
			 SQLITE_OK);
	assert_int_equal(db_audit_verify(db, &entries), -ERR_DIGEST);
	assert_int_equal(entries, 2);
	db_close(db);
	temp_folder_remove(dir);
}

static void what_was_committed_is_there_after_a_kill(void **state)
{
	char dir[256], path[300];
	struct db *db = NULL;
	int n = 0, status;
	pid_t child;

	(void) state;
	temp_folder(dir, sizeof(dir));
	snprintf(path, sizeof(path), "%s/x.db", dir);
	child = fork();
	if (child == 0) {
		if (db_open(path, &db) < 0 || db_begin(db) < 0 || db_node_add(db, "n1", "a", "b", "{}", 1) < 0 ||
		    db_commit(db) < 0 || db_begin(db) < 0 || db_node_add(db, "n2", "a", "b", "{}", 1) < 0)
			_exit(1);
		raise(SIGKILL);
	}
	waitpid(child, &status, 0);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(db_open(path, &db), 0);
	assert_int_equal(db_nodes(db, NULL, count_node, &n), 0);
	assert_int_equal(n, 1);
	db_close(db);
	temp_folder_remove(dir);
}

static void a_newer_schema_and_a_broken_file_are_refused(void **state)
{
	char dir[256], path[300];
	struct db *db = NULL;
	FILE *f;

	(void) state;
	temp_folder(dir, sizeof(dir));
	snprintf(path, sizeof(path), "%s/x.db", dir);
	assert_int_equal(db_open(path, &db), 0);
	db_close(db);
	assert_int_equal(db_open(path, &db), 0);
	db_close(db);
	db = NULL;
	assert_int_equal(tamper(path, "PRAGMA user_version = 99"), SQLITE_OK);
	assert_int_equal(db_open(path, &db), -ERR_AGENT_TOO_OLD);
	assert_null(db);
	snprintf(path, sizeof(path), "%s/y.db", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs("this is no database, this is no database, this is no database", f);
	fclose(f);
	assert_true(db_open(path, &db) < 0);
	assert_true(db_open("/nowhere/at/all.db", &db) < 0);
	assert_null(db);
	temp_folder_remove(dir);
}

static int count_stranger(void *user, const struct db_stranger *row)
{
	(void) row;
	(*(int *) user)++;
	return 0;
}

static void strangers_are_bounded(void **state)
{
	struct db *db = *state;
	char name[32];
	int n = 0;

	for (int i = 0; i < 1100; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		assert_int_equal(db_stranger(db, name, "who", i), 0);
	}
	assert_int_equal(db_stranger(db, "s1099", "again", 5), 0);
	assert_int_equal(db_strangers(db, count_stranger, &n), 0);
	assert_int_equal(n, 1000);
}

struct said {
	int count;
	char names[20][16];
	char outputs[20][16];
};

static int note_evidence(void *user, const struct db_evidence *row)
{
	struct said *s = user;

	assert_true(s->count < 20);
	(void) snprintf(s->names[s->count], sizeof(s->names[0]), "%s", row->name);
	(void) snprintf(s->outputs[s->count++], sizeof(s->outputs[0]), "%s", row->output);
	return 0;
}

static void evidence_belongs_to_one_release(void **state)
{
	struct db_evidence row = { "web", "1.0.0", "aa", "tests", "pass", "exited 0", "[]", "", "me", 5, 100 };
	struct db *db = *state;
	struct said said = { 0 };
	char output[16];

	for (int i = 0; i < 5; i++) {
		(void) snprintf(output, sizeof(output), "%d", i);
		row.output = output;
		assert_int_equal(db_evidence_add(db, &row, 3), 0);
	}
	row.name = "scan";
	assert_int_equal(db_evidence_add(db, &row, 3), 0);
	row.release_sha256 = "bb";
	assert_int_equal(db_evidence_add(db, &row, 3), 0);
	assert_int_equal(db_evidence(db, "web", "1.0.0", "aa", note_evidence, &said), 0);
	assert_int_equal(said.count, 4); /* the newest three of one name, and one of another */
	assert_string_equal(said.names[0], "scan");
	assert_string_equal(said.outputs[1], "2");
	assert_string_equal(said.outputs[3], "4");
	said.count = 0;
	assert_int_equal(db_evidence(db, "web", "1.1.0", "aa", note_evidence, &said), 0);
	assert_int_equal(said.count, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* --- gates --- */

struct gate_rows {
	int count;
	char text[400];
};

static int note_look(void *user, const struct db_gate_look *row)
{
	struct gate_rows *g = user;

	g->count++;
	snprintf(g->text + strlen(g->text), sizeof(g->text) - strlen(g->text), "%s %lld %s %s %s %s;", row->gate,
		 (long long) row->at, row->said, row->high, row->text, row->data ? row->data : "-");
	return 0;
}

static int note_gate(void *user, const struct db_gate *row)
{
	struct gate_rows *g = user;

	g->count++;
	snprintf(g->text + strlen(g->text), sizeof(g->text) - strlen(g->text), "%s %lld %lld %s %s;", row->gate,
		 (long long) row->due_at, (long long) row->asked_at, row->word ? row->word : "-",
		 row->word_by ? row->word_by : "-");
	return 0;
}

static int note_gate_answer(void *user, const struct db_gate_answer *row)
{
	struct gate_rows *g = user;

	g->count++;
	snprintf(g->text + strlen(g->text), sizeof(g->text) - strlen(g->text), "%zu %s %lld %s;", row->position,
		 row->gate, (long long) row->at, row->verdict);
	return 0;
}

static void gates_are_remembered(void **state)
{
	static const char *const stages[] = { "one", "all" };
	struct db *db = *state;
	struct gate_rows g = { 0 };
	struct db_rollout r = { .id = "r1",
				.seq = 1,
				.component = "web",
				.version = "1.1.0",
				.kind = "regular",
				.state = "running",
				.plan = "{}",
				.release_path = "p",
				.release_sha256 = "00",
				.undo = "[]",
				.note = "" };
	struct db_gate_look l = { .rollout = "r1",
				  .gate = "door",
				  .said = "pass",
				  .low = "0",
				  .high = "1.5",
				  .text = "seen",
				  .position = 1 };
	struct db_gate_answer a = {
		.rollout = "r1", .gate = "door", .verdict = "pass", .text = "x", .position = 1
	};
	uint64_t generation;

	assert_int_equal(db_rollout_add(db, &r, stages, 2), 0);
	/* The newest looks of a gate in its stage stay; each is news for the rollout. */
	generation = db_generation(db);
	for (l.at = 1; l.at <= 5; l.at++)
		assert_int_equal(db_gate_look_add(db, &l, 3), 0);
	assert_true(db_generation(db) > generation);
	assert_true(db_touched(db, "web"));
	l.gate = "board";
	l.data = "{}";
	assert_int_equal(db_gate_look_add(db, &l, 3), 0);
	l.position = 0;
	assert_int_equal(db_gate_look_add(db, &l, 3), 0);
	assert_int_equal(db_gate_looks(db, "r1", 1, note_look, &g), 0);
	assert_string_equal(
		g.text,
		"board 6 pass 1.5 seen {};door 3 pass 1.5 seen -;door 4 pass 1.5 seen -;door 5 pass 1.5 seen -;");
	/* What was there first stays. */
	g = (struct gate_rows){ 0 };
	assert_int_equal(db_gate_due(db, "r1", 1, "door", 100, 0), 0);
	assert_int_equal(db_gate_due(db, "r1", 1, "door", 200, 300), 0);
	assert_int_equal(db_gate_due(db, "r1", 1, "door", 400, 500), 0);
	/* The last word counts, and stands beside the rest. */
	assert_int_equal(db_gate_word(db, "r1", 1, "door", "pass", "kim", "fine", 600), 0);
	assert_int_equal(db_gate_word(db, "r1", 1, "door", "waive", "lee", "really", 601), 0);
	assert_int_equal(db_gate_word(db, "r1", 1, "silent", "waive", "lee", "gone", 602), 0);
	assert_int_equal(db_gates(db, "r1", 1, note_gate, &g), 0);
	assert_string_equal(g.text, "door 100 300 waive lee;silent 0 0 waive lee;");
	/* An answer that says the same is no news. */
	g = (struct gate_rows){ 0 };
	a.at = 1;
	assert_int_equal(db_gate_answered(db, &a), 1);
	a.at = 2;
	assert_int_equal(db_gate_answered(db, &a), 0);
	a.verdict = "fail";
	assert_int_equal(db_gate_answered(db, &a), 1);
	a.at = 3;
	a.verdict = "pass";
	assert_int_equal(db_gate_answered(db, &a), 1);
	assert_int_equal(db_gate_answers(db, "r1", 2, note_gate_answer, &g), 0);
	assert_string_equal(g.text, "1 door 1 pass;1 door 2 fail;");
	/* Of a rollout that is not there nothing is kept. */
	l.rollout = "r2";
	assert_true(db_gate_look_add(db, &l, 3) < 0);
}

/* --- metrics --- */

struct hours_seen {
	int count;
	int64_t first, last;
	double sum;
	uint64_t samples;
	char version[16];
};

static int see_hour(void *user, const char *version, const struct db_hour *row)
{
	struct hours_seen *s = user;

	if (s->count++ == 0)
		s->first = row->hour;
	assert_true(row->hour >= s->last);
	s->last = row->hour;
	s->sum += row->mean;
	s->samples += row->samples;
	(void) snprintf(s->version, sizeof(s->version), "%s", version);
	return 0;
}

static struct hours_seen hours_of(struct db *db, const char *node, const char *name, int64_t from)
{
	struct hours_seen s = { .count = 0 };

	assert_int_equal(db_metrics(db, node, "web", name, from, see_hour, &s), 0);
	return s;
}

static void store_hours(struct db *db, const char *node, const char *name, const char *version, int64_t from,
			unsigned count, double mean, uint64_t samples)
{
	const struct db_series s = { node, "web", name, version };
	struct db_hour hours[12];

	assert_true(count <= sizeof(hours) / sizeof(hours[0]));
	for (unsigned i = 0; i < count; i++)
		hours[i] = (struct db_hour){ from + i, mean, samples };
	assert_int_equal(db_metric_store(db, &s, hours, count), 0);
}

static void metrics_are_kept_by_the_hour(void **state)
{
	struct db *db = *state;
	struct hours_seen s;

	add_nodes(db);
	store_hours(db, "n1", "errors", "1.0.0", 1000 * 24 - 3, 8, 0.25, 12); /* over midnight */
	s = hours_of(db, "n1", "errors", 0);
	assert_int_equal(s.count, 8);
	assert_int_equal(s.first, 1000 * 24 - 3);
	assert_int_equal(s.last, 1000 * 24 + 4);
	assert_true(s.sum > 1.999 && s.sum < 2.001);
	assert_int_equal(s.samples, 96);
	assert_string_equal(s.version, "1.0.0");
	assert_int_equal(hours_of(db, "n1", "errors", 1000 * 24 + 2).count, 3);
	/* Told again, and by an agent that was started anew: nothing changes. With more behind it: it does. */
	store_hours(db, "n1", "errors", "1.0.0", 1000 * 24, 1, 9, 12);
	store_hours(db, "n1", "errors", "1.0.0", 1000 * 24, 1, 9, 3);
	assert_true(hours_of(db, "n1", "errors", 0).sum < 2.001);
	store_hours(db, "n1", "errors", "1.0.0", 1000 * 24, 1, 1.25, 13);
	s = hours_of(db, "n1", "errors", 0);
	assert_int_equal(s.count, 8);
	assert_true(s.sum > 2.999 && s.sum < 3.001);
	/* Others have nothing to do with it. */
	store_hours(db, "n2", "errors", "1.0.0", 1000 * 24, 1, 7, 1);
	store_hours(db, "n1", "memory", "1.0.0", 1000 * 24, 1, 7, 1);
	assert_int_equal(hours_of(db, "n1", "errors", 0).count, 8);
	/* The hour of a swap has two versions. */
	store_hours(db, "n1", "errors", "1.1.0", 1000 * 24 + 4, 2, 0, 1);
	assert_int_equal(hours_of(db, "n1", "errors", 0).count, 10);
	/* Out of range, as a float or at all: no value. */
	store_hours(db, "n1", "large", "1.0.0", 5, 1, 1e300, 1);
	assert_int_equal(hours_of(db, "n1", "large", 0).count, 0);
	store_hours(db, "n1", "many", "1.0.0", 5, 1, -1e30, UINT64_MAX);
	assert_int_equal(hours_of(db, "n1", "many", 0).samples, UINT16_MAX);
	assert_int_equal(db_begin(db), 0);
	assert_int_equal(db_node_remove(db, "n1", 1), 0);
	assert_int_equal(db_commit(db), 0);
	assert_int_equal(hours_of(db, "n1", "errors", 0).count, 0);
	assert_int_equal(hours_of(db, "n2", "errors", 0).count, 1);
}

static void metrics_are_forgotten_and_bounded(void **state)
{
	struct db *db = *state;
	char version[24];

	add_nodes(db);
	for (int64_t day = 0; day < 60; day++) {
		snprintf(version, sizeof(version), "1.%d.0", (int) day / 7);
		store_hours(db, "n1", "errors", version, day * 24, 12, 1, 1);
		assert_true(hours_of(db, "n1", "errors", 0).count <= 12 * DB_METRIC_DAYS);
	}
	assert_int_equal(hours_of(db, "n1", "errors", 0).count, 12 * DB_METRIC_DAYS);
	assert_int_equal(hours_of(db, "n1", "errors", 0).first, (60 - DB_METRIC_DAYS) * 24);
	/* A node that makes names up fills its own places alone. */
	for (int i = 0; i < 2 * DB_SERIES_MAX; i++) {
		snprintf(version, sizeof(version), "2.%d.0", i);
		store_hours(db, "n1", "made-up", version, 60 * 24, 1, 1, 1);
	}
	assert_true(hours_of(db, "n1", "made-up", 0).count < DB_SERIES_MAX);
	store_hours(db, "n2", "errors", "1.0.0", 60 * 24, 1, 1, 1);
	assert_int_equal(hours_of(db, "n2", "errors", 0).count, 1);
}

/* METRIC_NODES=N (10) in the environment: so many, and what it costs is printed. */
static void a_month_of_metrics_has_its_size(void **state)
{
	enum { METRICS = 4, DAYS = 30, BYTES_OF_A_DAY = 260 };
	const char *wanted = getenv("METRIC_NODES");
	int nodes = wanted && atoi(wanted) > 0 ? atoi(wanted) : 10;
	char path[] = "/tmp/selfright-db-XXXXXX", node[16], name[16], version[16];
	int fd = mkstemp(path);
	struct timespec begin, end;
	struct stat st;
	struct db *db;

	(void) state;
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(db_open(path, &db), 0);
	for (int i = 0; i < nodes; i++) {
		snprintf(node, sizeof(node), "n%05d", i);
		assert_int_equal(db_node_add(db, node, node, node, "{}", 1), 0);
	}
	for (int day = 0; day < DAYS; day++) {
		clock_gettime(CLOCK_MONOTONIC, &begin);
		assert_int_equal(db_begin(db), 0);
		snprintf(version, sizeof(version), "1.%d.0", day / 7); /* a release a week */
		for (int i = 0; i < nodes; i++)
			for (int m = 0; m < METRICS; m++) {
				snprintf(node, sizeof(node), "n%05d", i);
				snprintf(name, sizeof(name), "metric-%d", m);
				store_hours(db, node, name, version, day * 24, 12, 0.1 * m, 12);
				store_hours(db, node, name, version, day * 24 + 12, 12, 0.1 * m, 12);
			}
		assert_int_equal(db_commit(db), 0);
		clock_gettime(CLOCK_MONOTONIC, &end);
	}
	db_close(db);
	assert_int_equal(stat(path, &st), 0);
	if (wanted)
		print_message("%d nodes, %d metrics, %d days: %.1f MB; the last day's %d hours stored in %.2f s\n",
			      nodes, METRICS, DB_METRIC_DAYS, (double) st.st_size / 1e6, nodes * METRICS * 24,
			      (double) (end.tv_sec - begin.tv_sec) + (double) (end.tv_nsec - begin.tv_nsec) / 1e9);
	assert_true(st.st_size < 512 * 1024 + (off_t) nodes * METRICS * (DB_METRIC_DAYS + 1) * BYTES_OF_A_DAY);
	assert_int_equal(unlink(path), 0);
}

static int note_hook(void *user, const struct db_hook *row)
{
	char *out = user;
	size_t len = strlen(out);

	(void) snprintf(out + len, 400 - len, "%s %lld %llu/%llu/%llu %lld %lld '%s';", row->name,
			(long long) row->event, (unsigned long long) row->sent, (unsigned long long) row->left_out,
			(unsigned long long) row->failures, (long long) row->sent_at,
			(long long) row->failing_since, row->error);
	return 0;
}

static void hooks_have_their_place(void **state)
{
	struct db *db = *state;
	char out[400] = "";

	assert_int_equal(db_hook_set(db, &(struct db_hook){ .name = "siem", .event = 1, .error = "" }), 0);
	assert_int_equal(db_hook_set(db, &(struct db_hook){ .name = "chat", .event = 2, .error = "" }), 0);
	assert_int_equal(db_hook_set(db, &(struct db_hook){ .name = "chat",
							    .event = 9,
							    .sent = 3,
							    .left_out = 2,
							    .failures = 1,
							    .sent_at = 100,
							    .failing_since = 200,
							    .error = "it's away" }),
			 0);
	assert_int_equal(db_hooks(db, note_hook, out), 0);
	assert_string_equal(out, "chat 9 3/2/1 100 200 'it's away';siem 1 0/0/0 0 0 '';");
	assert_int_equal(db_hook_remove(db, "chat"), 0);
	assert_int_equal(db_hook_remove(db, "nobody"), 0);
	out[0] = '\0';
	assert_int_equal(db_hooks(db, note_hook, out), 0);
	assert_string_equal(out, "siem 1 0/0/0 0 0 '';");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(nodes_keep_their_keys),
		T(nodes_are_counted_without_their_reports),
		T(nodes_come_in_slices),
		T(a_removed_node_is_forgotten_but_its_name),
		T(presence_is_forgotten),
		cmocka_unit_test(a_batch_is_there_when_it_has_ended),
		cmocka_unit_test(a_batch_that_fails_leaves_nothing),
		T(who_is_down_is_told_by_group),
		T(a_place_ends_by_what_the_node_signed),
		T(orders_of_a_backup_wait_for_a_person),
		T(gates_are_remembered),
		T(callbacks_stop_and_nest),
		T(a_result_is_stored_once),
		T(seq_rises_and_never_goes_back),
		T(numbers_are_kept_by_name),
		T(rollouts_have_stages_and_a_state),
		T(members_bring_all_that_is_known),
		T(a_skip_is_of_one_rollout_and_can_be_taken_back),
		T(membership_that_was_acted_on_sticks),
		T(evidence_belongs_to_one_release),
		T(freezes_end_by_time_or_hand),
		T(events_are_numbered_and_only_grow),
		cmocka_unit_test(the_audit_trail_notices_changes),
		cmocka_unit_test(what_was_committed_is_there_after_a_kill),
		cmocka_unit_test(a_newer_schema_and_a_broken_file_are_refused),
		T(strangers_are_bounded),
		cmocka_unit_test_setup_teardown(hooks_have_their_place, setup, teardown),
		cmocka_unit_test_setup_teardown(metrics_are_kept_by_the_hour, setup, teardown),
		cmocka_unit_test_setup_teardown(metrics_are_forgotten_and_bounded, setup, teardown),
		cmocka_unit_test(a_month_of_metrics_has_its_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
