/* Reports from honest, replayed, copied and hostile nodes. */
#include "base/err.h"
#include "crypto/key.h"
#include "json/build.h"
#include "json/json.h"
#include "model/catalogue.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_events.h"
#include "server-stub/ingest/db_members.h"
#include "server-stub/ingest/db_metrics.h"
#include "server-stub/ingest/db_nodes.h"
#include "server-stub/ingest/db_reports.h"
#include "server-stub/ingest/ingest.h"
#include "tuf/tuf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { NOW = 1800000000, ENVELOPE_MAX = 1024 * 1024 };

static const char boot_a[] = "aaaaaaaa-0000-4000-8000-000000000001";
static const char boot_b[] = "bbbbbbbb-0000-4000-8000-000000000002";
static const char boot_c[] = "cccccccc-0000-4000-8000-000000000003";

struct bench {
	struct db *db;
	struct private_key *key, *other;
};

static char *text(const char *s)
{
	char *copy = strdup(s);

	assert_non_null(copy);
	return copy;
}

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct buf pem = BUF_INIT(10000);

	assert_int_equal(private_key_generate(&b->key), 0);
	assert_int_equal(private_key_generate(&b->other), 0);
	assert_int_equal(db_open(":memory:", &b->db), 0);
	assert_int_equal(private_key_public_pem(b->key, &pem), 0);
	assert_int_equal(db_node_add(b->db, "n1", buf_str(&pem), "T", "{\"site\":\"early\"}", NOW - 1000), 0);
	buf_done(&pem);
	assert_int_equal(private_key_public_pem(b->other, &pem), 0);
	assert_int_equal(db_node_add(b->db, "n2", buf_str(&pem), "T", "{}", NOW - 1000), 0);
	buf_done(&pem);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	db_close(b->db);
	private_key_free(b->key);
	private_key_free(b->other);
	free(b);
	return 0;
}

static struct report report(uint64_t sequence, const char *boot)
{
	return (struct report){ .fleet = text("demo"),
				.node = text("n1"),
				.boot_id = text(boot),
				.agent = text("0.1.0"),
				.sequence = sequence,
				.at = NOW };
}

static void add_result(struct report *r, const char *update, uint64_t number)
{
	r->results = realloc(r->results, (r->result_count + 1) * sizeof(*r->results));
	assert_non_null(r->results);
	r->results[r->result_count++] = (struct report_result){
		.update = text(update),
		.component = text("web"),
		.from = text("1.0.0"),
		.to = text("1.1.0"),
		.rollout = text("web-1-1-0"),
		.stage = text("canary"),
		.seq = 3,
		.number = number,
		.name = text(catalogue_find((int) number)->name),
		.class = text(result_class_name(catalogue_find((int) number)->class)),
		.at = NOW,
		.sequence = r->sequence,
	};
}

static void seal(struct report *r, const struct private_key *key, struct buf *out)
{
	struct json_build *b = json_build_new();
	struct buf plain = BUF_INIT(ENVELOPE_MAX);
	struct json *j = NULL;

	assert_int_equal(report_write(r, json_build_root(b)), 0);
	assert_int_equal(json_build_text(b, false, &plain), 0);
	assert_int_equal(json_parse(plain.data, plain.len, &json_limits_default, &j), 0);
	assert_int_equal(tuf_envelope_sign(j, &key, 1, out), 0);
	json_free(j);
	json_build_free(b);
	buf_done(&plain);
	report_done(r);
}

static struct ingest_outcome send_as(struct bench *b, const char *node, const struct buf *envelope)
{
	struct ingest_outcome o;

	assert_int_equal(ingest_report(b->db, "demo", node, envelope->data, envelope->len, NOW, &o), 0);
	return o;
}

static struct ingest_outcome send(struct bench *b, struct report r)
{
	struct buf e = BUF_INIT(ENVELOPE_MAX);
	struct ingest_outcome o;

	seal(&r, b->key, &e);
	o = send_as(b, "n1", &e);
	buf_done(&e);
	return o;
}

struct facts {
	bool readable;
	uint64_t sequence;
	bool quarantined;
	char labels[200], boot[40];
	unsigned results, events, strangers;
};

static int read_node(void *user, const struct db_node *row)
{
	struct facts *f = user;

	if (row->report) {
		struct json *j = NULL;

		f->readable = json_parse(row->report, strlen(row->report), &json_limits_default, &j) == 0;
		json_free(j);
	}
	f->sequence = row->sequence;
	f->quarantined = row->quarantined;
	snprintf(f->labels, sizeof(f->labels), "%s", row->labels);
	snprintf(f->boot, sizeof(f->boot), "%s", row->boot_id ? row->boot_id : "");
	return 0;
}

static int count_result(void *user, const struct db_result *row)
{
	(void) row;
	((struct facts *) user)->results++;
	return 0;
}

static int count_event(void *user, const struct db_event *row)
{
	(void) row;
	((struct facts *) user)->events++;
	return 0;
}

static int count_stranger(void *user, const struct db_stranger *row)
{
	(void) row;
	((struct facts *) user)->strangers++;
	return 0;
}

static struct facts facts(struct bench *b)
{
	struct facts f = { 0 };

	assert_int_equal(db_nodes(b->db, "n1", read_node, &f), 0);
	assert_int_equal(db_results(b->db, "n1", NULL, count_result, &f), 0);
	assert_int_equal(db_events_after(b->db, 0, 1000, count_event, &f), 0);
	assert_int_equal(db_strangers(b->db, count_stranger, &f), 0);
	return f;
}

static void a_report_is_stored_and_acknowledged(void **state)
{
	struct bench *b = *state;
	struct report r = report(5, boot_a);
	struct ingest_outcome o;

	r.nonce = text("00112233445566778899aabbccddeeff");
	assert_int_equal(labels_set(&r.labels, "site", "oslo"), 0);
	r.components = calloc(1, sizeof(*r.components));
	r.component_count = 1;
	r.components[0] = (struct report_component){ .component = text("web"), .version = text("1.0.0") };
	add_result(&r, "web-1-0-0/web/1", RESULT_GOOD);
	o = send(b, r);
	assert_int_equal(o.verdict, INGEST_STORED);
	assert_true(o.acknowledge);
	assert_int_equal(o.news, 1);
	assert_string_equal(o.ack.node, "n1");
	assert_string_equal(o.ack.fleet, "demo");
	assert_string_equal(o.ack.boot_id, boot_a);
	assert_string_equal(o.ack.nonce, "00112233445566778899aabbccddeeff");
	assert_int_equal(o.ack.sequence, 5);
	assert_int_equal(facts(b).sequence, 5);
	assert_int_equal(facts(b).results, 1);
	assert_string_equal(facts(b).labels, "{\"site\":\"oslo\"}");
	assert_int_equal(facts(b).strangers, 0);
}

static void what_is_stored_can_be_read_again(void **state)
{
	struct bench *b = *state;
	struct report r = report(5, boot_a);

	/* Log tails hold whole lines: with newlines and tabs, which the canonical form keeps as they are. */
	add_result(&r, "web-1-0-0/web/1", RESULT_CHECK_FAILED);
	r.results[0].log_tail = text("first line\nsecond\tline \\ \"quoted\"\n");
	assert_int_equal(send(b, r).verdict, INGEST_STORED);
	assert_true(facts(b).readable);
}

static void results_count_once_however_often_they_come(void **state)
{
	struct bench *b = *state;
	unsigned events;

	for (uint64_t sequence = 1; sequence <= 3; sequence++) {
		struct report r = report(sequence, boot_a);

		add_result(&r, "web-1-1-0/web/1", sequence == 3 ? RESULT_CHECK_FAILED : RESULT_GOOD);
		assert_int_equal(send(b, r).news, sequence == 1 ? 1 : 0);
		if (sequence == 1)
			events = facts(b).events;
	}
	assert_int_equal(facts(b).results, 1);
	assert_int_equal(facts(b).events, events);
}

static void a_duplicate_is_acknowledged_again(void **state)
{
	struct bench *b = *state;
	struct buf e = BUF_INIT(ENVELOPE_MAX);
	struct report r = report(7, boot_a);
	struct ingest_outcome o;

	add_result(&r, "u/web/1", RESULT_GOOD);
	seal(&r, b->key, &e);
	assert_int_equal(send_as(b, "n1", &e).verdict, INGEST_STORED);
	o = send_as(b, "n1", &e);
	assert_int_equal(o.verdict, INGEST_DUPLICATE);
	assert_true(o.acknowledge);
	assert_int_equal(o.ack.sequence, 7);
	assert_int_equal(o.news, 0);
	/* The same number with a new nonce: answered to that nonce. */
	r = report(7, boot_a);
	r.nonce = text("ffffffffffffffffffffffffffffffff");
	o = send(b, r);
	assert_int_equal(o.verdict, INGEST_DUPLICATE);
	assert_string_equal(o.ack.nonce, "ffffffffffffffffffffffffffffffff");
	assert_false(facts(b).quarantined);
	buf_done(&e);
}

static void a_late_or_replayed_report_changes_nothing(void **state)
{
	struct bench *b = *state;
	struct buf old = BUF_INIT(ENVELOPE_MAX), gap = BUF_INIT(ENVELOPE_MAX);
	struct report r = report(3, boot_a);

	add_result(&r, "late/web/1", RESULT_GOOD);
	seal(&r, b->key, &old);
	assert_int_equal(send_as(b, "n1", &old).verdict, INGEST_STORED);
	/* 4 is on its way when 5 arrives by another road, then the node restarts. */
	r = report(4, boot_a);
	add_result(&r, "gap/web/1", RESULT_CHECK_FAILED);
	seal(&r, b->key, &gap);
	assert_int_equal(send(b, report(5, boot_a)).verdict, INGEST_STORED);
	assert_int_equal(send(b, report(6, boot_b)).verdict, INGEST_STORED);
	assert_int_equal(send_as(b, "n1", &old).verdict, INGEST_OLD);
	assert_int_equal(send_as(b, "n1", &gap).verdict, INGEST_OLD);
	assert_false(send_as(b, "n1", &gap).acknowledge);
	assert_int_equal(facts(b).sequence, 6);
	assert_string_equal(facts(b).boot, boot_b);
	assert_int_equal(facts(b).results, 1);
	assert_false(facts(b).quarantined);
	buf_done(&old);
	buf_done(&gap);
}

static void the_same_text_in_another_order_is_the_same(void **state)
{
	struct bench *b = *state;
	struct buf e = BUF_INIT(ENVELOPE_MAX), other = BUF_INIT(ENVELOPE_MAX);
	struct report r = report(5, boot_a);
	const char *at;

	seal(&r, b->key, &e);
	assert_int_equal(send_as(b, "n1", &e).verdict, INGEST_STORED);
	assert_int_equal(send(b, report(6, boot_a)).verdict, INGEST_STORED);
	/* {"agent":"0.1.0",...}: one member moved behind others, with blanks. */
	at = strstr(buf_str(&e), "\"agent\":\"0.1.0\",");
	assert_non_null(at);
	assert_int_equal(buf_add(&other, e.data, (size_t) (at - buf_str(&e))), 0);
	at += strlen("\"agent\":\"0.1.0\",");
	{
		const char *end = strstr(at, ",\"generation\"");

		assert_non_null(end);
		assert_int_equal(buf_add(&other, at, (size_t) (end - at)), 0);
		assert_int_equal(buf_add_str(&other, " , \"agent\" : \"0.1.0\""), 0);
		assert_int_equal(buf_add_str(&other, end), 0);
	}
	assert_int_equal(send_as(b, "n1", &other).verdict, INGEST_OLD);
	assert_false(facts(b).quarantined);
	buf_done(&e);
	buf_done(&other);
}

static void a_copy_is_quarantined(void **state)
{
	struct bench *b = *state;
	struct ingest_outcome o;
	struct report r;

	assert_int_equal(send(b, report(5, boot_a)).verdict, INGEST_STORED);
	/* A restored disk: an earlier counter under a boot nobody has seen. */
	r = report(4, boot_c);
	add_result(&r, "copy/web/1", RESULT_GOOD);
	o = send(b, r);
	assert_int_equal(o.verdict, INGEST_QUARANTINED);
	assert_false(o.acknowledge);
	assert_true(facts(b).quarantined);
	assert_int_equal(facts(b).sequence, 5);
	assert_int_equal(facts(b).results, 0);
	/* From now on nothing it says counts, but the newest is shown. */
	r = report(9, boot_a);
	add_result(&r, "later/web/1", RESULT_GOOD);
	o = send(b, r);
	assert_int_equal(o.verdict, INGEST_QUARANTINED);
	assert_false(o.acknowledge);
	assert_int_equal(facts(b).sequence, 9);
	assert_int_equal(facts(b).results, 0);
	/* Until a person trusts it again: then whatever number it has. */
	assert_int_equal(db_node_trust(b->db, "n1"), 0);
	r = report(2, boot_c);
	add_result(&r, "after/web/1", RESULT_GOOD);
	assert_int_equal(send(b, r).verdict, INGEST_STORED);
	assert_int_equal(facts(b).results, 1);
	assert_int_equal(facts(b).sequence, 2);
}

static void one_number_for_two_texts_is_a_copy(void **state)
{
	struct bench *b = *state;
	struct report r;

	/* A machine set back to a snapshot in memory: same boot, a number used before. */
	assert_int_equal(send(b, report(5, boot_a)).verdict, INGEST_STORED);
	assert_int_equal(send(b, report(6, boot_a)).verdict, INGEST_STORED);
	r = report(5, boot_a);
	r.generation = 99;
	assert_int_equal(send(b, r).verdict, INGEST_QUARANTINED);
	assert_true(facts(b).quarantined);
}

static void the_highest_number_from_another_boot_is_a_copy(void **state)
{
	struct bench *b = *state;

	assert_int_equal(send(b, report(5, boot_a)).verdict, INGEST_STORED);
	assert_int_equal(send(b, report(5, boot_b)).verdict, INGEST_QUARANTINED);
}

static void unknown_and_unsigned_are_shown_but_never_counted(void **state)
{
	struct bench *b = *state;
	struct buf e = BUF_INIT(ENVELOPE_MAX);
	struct report r = report(5, boot_a);
	static const char *const nonsense[] = {
		"",
		"x",
		"{}",
		"[]",
		"null",
		"{\"signed\":{},\"signatures\":[]}",
		"{\"signed\":{},\"signatures\":{}}",
		"{\"signed\":1,\"signatures\":[{\"keyid\":\"x\",\"sig\":\"y\"}]}",
		"{\"signed\":{\"_type\":\"selfright-report\"},\"signatures\":[{}]}"
	};

	seal(&r, b->other, &e);
	assert_int_equal(send_as(b, "n1", &e).verdict, INGEST_UNSIGNED);
	buf_done(&e);
	r = report(5, boot_a);
	seal(&r, b->key, &e);
	assert_int_equal(send_as(b, "nobody", &e).verdict, INGEST_UNKNOWN);
	assert_int_equal(send_as(b, "../n1", &e).verdict, INGEST_UNKNOWN);
	assert_int_equal(send_as(b, "N1", &e).verdict, INGEST_UNKNOWN);
	/* Signed by n1, sent in the name of n2. */
	assert_int_equal(send_as(b, "n2", &e).verdict, INGEST_UNSIGNED);
	/* One changed byte in the signed part. */
	e.data[e.len / 2] ^= 1;
	assert_true(send_as(b, "n1", &e).verdict != INGEST_STORED);
	buf_done(&e);
	for (size_t i = 0; i < ARRAY_LEN(nonsense); i++) {
		struct ingest_outcome o;

		assert_int_equal(ingest_report(b->db, "demo", "n1", nonsense[i], strlen(nonsense[i]), NOW, &o), 0);
		assert_int_equal(o.verdict, INGEST_UNSIGNED);
		assert_false(o.acknowledge);
	}
	assert_int_equal(facts(b).sequence, 0);
	assert_true(facts(b).strangers > 0);
}

static void names_must_agree(void **state)
{
	struct bench *b = *state;
	struct buf e = BUF_INIT(ENVELOPE_MAX);
	struct report r = report(5, boot_a);

	free(r.node);
	r.node = text("n2");
	seal(&r, b->key, &e);
	assert_int_equal(send_as(b, "n1", &e).verdict, INGEST_UNSIGNED);
	buf_done(&e);
	r = report(5, boot_a);
	free(r.fleet);
	r.fleet = text("other");
	seal(&r, b->key, &e);
	assert_int_equal(send_as(b, "n1", &e).verdict, INGEST_UNSIGNED);
	buf_done(&e);
	assert_int_equal(facts(b).sequence, 0);
}

static void signed_nonsense_is_malformed(void **state)
{
	static const char *const documents[] = {
		"{\"_type\":\"selfright-report\"}",
		"{\"_type\":\"selfright-ack\",\"fleet\":\"demo\",\"node\":\"n1\"}",
		"{}",
	};
	struct bench *b = *state;
	struct ingest_outcome o;

	for (size_t i = 0; i < ARRAY_LEN(documents); i++) {
		struct buf e = BUF_INIT(ENVELOPE_MAX);
		struct json *j = NULL;
		const struct private_key *key = b->key;

		assert_int_equal(json_parse(documents[i], strlen(documents[i]), &json_limits_default, &j), 0);
		assert_int_equal(tuf_envelope_sign(j, &key, 1, &e), 0);
		o = send_as(b, "n1", &e);
		assert_int_equal(o.verdict, INGEST_MALFORMED);
		json_free(j);
		buf_done(&e);
	}
	assert_int_equal(send(b, report(0, boot_a)).verdict, INGEST_MALFORMED);
	assert_int_equal(facts(b).sequence, 0);
}

static void a_report_larger_than_allowed_is_not_read(void **state)
{
	struct bench *b = *state;
	size_t len = REPORT_MAX_BYTES + 1;
	char *data = calloc(1, len);
	struct ingest_outcome o;

	memset(data, ' ', len);
	assert_int_equal(ingest_report(b->db, "demo", "n1", data, len, NOW, &o), 0);
	assert_int_equal(o.verdict, INGEST_MALFORMED);
	free(data);
}

static void write_event(struct event *e, struct buf *out)
{
	struct json_build *b = json_build_new();

	event_write(e, json_build_root(b));
	assert_int_equal(json_build_text(b, false, out), 0);
	json_build_free(b);
}

static void events_are_shown_once_per_state(void **state)
{
	struct bench *b = *state;
	struct event e = { .node = "n1",
			   .update = "r/web/1",
			   .component = "web",
			   .state = "staging",
			   .version = "1.1.0",
			   .at = NOW };
	struct buf bytes = BUF_INIT(10000);
	bool shown = false;

	write_event(&e, &bytes);
	assert_int_equal(ingest_event(b->db, "n1", bytes.data, bytes.len, NOW, &shown), 0);
	assert_true(shown);
	assert_int_equal(ingest_event(b->db, "n1", bytes.data, bytes.len, NOW, &shown), 0);
	assert_false(shown);
	/* Progress moves without another line. */
	buf_done(&bytes);
	e.bytes_done = 5;
	e.bytes_total = 10;
	write_event(&e, &bytes);
	assert_int_equal(ingest_event(b->db, "n1", bytes.data, bytes.len, NOW, &shown), 0);
	assert_false(shown);
	/* Queued ones are news once, whatever a node sends again, and what it dropped is said once. */
	snprintf(e.queue, sizeof(e.queue), "00112233aabbccdd");
	e.number = 7;
	e.dropped = 64;
	snprintf(e.state, sizeof(e.state), "swapping");
	for (int again = 0; again < 2; again++) {
		unsigned events = facts(b).events;

		buf_clear(&bytes);
		write_event(&e, &bytes);
		assert_int_equal(ingest_event(b->db, "n1", bytes.data, bytes.len, NOW, &shown), 0);
		assert_int_equal(shown, again == 0);
		assert_int_equal(facts(b).events, events + (again == 0 ? 2 : 0));
	}
	e.number = 6;
	snprintf(e.state, sizeof(e.state), "staging");
	buf_clear(&bytes);
	write_event(&e, &bytes);
	assert_int_equal(ingest_event(b->db, "n1", bytes.data, bytes.len, NOW, &shown), 0);
	assert_false(shown);
	/* A node that was installed anew has a queue of another name, and counts from the start. */
	snprintf(e.queue, sizeof(e.queue), "ffffffffffffffff");
	e.number = 1;
	e.dropped = 0;
	buf_clear(&bytes);
	write_event(&e, &bytes);
	assert_int_equal(ingest_event(b->db, "n1", bytes.data, bytes.len, NOW, &shown), 0);
	assert_true(shown);
	/* In another's name, or of nobody: ignored. */
	assert_int_equal(ingest_event(b->db, "n2", bytes.data, bytes.len, NOW, &shown), 0);
	assert_false(shown);
	assert_int_equal(ingest_event(b->db, "n3", bytes.data, bytes.len, NOW, &shown), 0);
	assert_int_equal(ingest_event(b->db, "n1", "{", 1, NOW, &shown), 0);
	assert_int_equal(ingest_event(b->db, "n1", "{}", 2, NOW, &shown), 0);
	assert_int_equal(facts(b).events, 4);
	buf_done(&bytes);
}

static int last_text(void *user, const struct db_event *row)
{
	(void) snprintf(user, 200, "%s", row->text);
	return 0;
}

static void a_line_says_nothing_twice(void **state)
{
	struct bench *b = *state;
	struct event e = { .node = "n1",
			   .update = "r/web/1",
			   .component = "web",
			   .state = "rolled-back",
			   .detail = "rolled-back",
			   .at = NOW };
	struct buf bytes = BUF_INIT(10000);
	char line[200] = "";

	write_event(&e, &bytes);
	assert_int_equal(ingest_event(b->db, "n1", bytes.data, bytes.len, NOW, NULL), 0);
	assert_int_equal(db_events_after(b->db, 0, 1000, last_text, line), 0);
	assert_string_equal(line, "nothing rolled-back");
	buf_done(&bytes);
}

struct way {
	char signed_state[32], shown[32];
};

static int read_way(void *user, const struct db_member *row)
{
	struct way *w = user;

	if (strcmp(row->node, "n1") == 0) {
		snprintf(w->signed_state, sizeof(w->signed_state), "%s",
			 row->under_way_state ? row->under_way_state : "none");
		snprintf(w->shown, sizeof(w->shown), "%s", row->shown_state ? row->shown_state : "none");
	}
	return 0;
}

/* A broker that withholds reports and makes up events must not make a node look lost in its swap. */
static void events_are_never_asked_by_gates(void **state)
{
	struct bench *b = *state;
	struct event e = { .node = "n1",
			   .update = "r/web/1",
			   .component = "web",
			   .state = "swapping",
			   .version = "1.1.0",
			   .at = NOW };
	struct buf bytes = BUF_INIT(10000);
	struct report r = report(5, boot_a);
	struct way w = { "", "" };

	write_event(&e, &bytes);
	assert_int_equal(ingest_event(b->db, "n1", bytes.data, bytes.len, NOW, NULL), 0);
	assert_int_equal(db_members(b->db, "r", "web", NOW, read_way, &w), 0);
	assert_string_equal(w.signed_state, "none");
	assert_string_equal(w.shown, "swapping");
	buf_done(&bytes);
	r.progress.update = text("r/web/1");
	r.progress.component = text("web");
	r.progress.to = text("1.1.0");
	r.progress.state = text("staging");
	assert_int_equal(send(b, r).verdict, INGEST_STORED);
	assert_int_equal(db_members(b->db, "r", "web", NOW, read_way, &w), 0);
	assert_string_equal(w.signed_state, "staging");
	assert_string_equal(w.shown, "staging");
}

static int read_online(void *user, const struct db_node *row)
{
	*(bool *) user = row->online;
	return 0;
}

static bool online_after(struct bench *b, const char *presence)
{
	bool online = false;

	assert_int_equal(ingest_presence(b->db, "n1", presence, strlen(presence), NOW), 0);
	assert_int_equal(db_nodes(b->db, "n1", read_online, &online), 0);
	return online;
}

/* A will waits, and may come behind the birth of the next connection; what a hand-over leaves behind as well. */
static void a_will_that_comes_late_is_of_an_older_birth(void **state)
{
	struct bench *b = *state;

	assert_true(online_after(b, "{\"online\":true,\"counter\":5}"));
	assert_true(online_after(b, "{\"online\":true,\"counter\":6}"));
	assert_true(online_after(b, "{\"online\":false,\"counter\":5}"));
	assert_true(online_after(b, "{\"online\":false,\"state\":\"handing-over\",\"counter\":4}"));
	assert_false(online_after(b, "{\"online\":false,\"counter\":6}"));
	assert_false(online_after(b, "{\"online\":false,\"counter\":5}"));
	/* A node that lost its outbox begins again: a birth always counts, and its own will with it. */
	assert_true(online_after(b, "{\"online\":true,\"counter\":1}"));
	assert_false(online_after(b, "{\"online\":false,\"counter\":1}"));
	assert_true(online_after(b, "{\"online\":true,\"counter\":-3}"));
	assert_false(online_after(b, "{\"online\":false,\"counter\":\"x\"}"));
}

static void born(struct bench *b, const char *process, int64_t now)
{
	char text[200];

	snprintf(text, sizeof(text), "{\"online\":true,\"process\":\"%s\"}", process);
	assert_int_equal(ingest_presence(b->db, "n1", text, strlen(text), now), 0);
}

struct turns {
	int64_t now;
	bool two;
	uint64_t returns;
};

static int read_turns(void *user, const struct db_node *row)
{
	struct turns *t = user;

	t->two = ingest_two_machines(row->returned_at, row->returns_told_at, t->now);
	t->returns = row->returns;
	return 0;
}

static struct turns turns_at(struct bench *b, int64_t now)
{
	struct turns t = { .now = now };

	assert_int_equal(db_nodes(b->db, "n1", read_turns, &t), 0);
	return t;
}

static void two_machines_that_take_turns_are_told(void **state)
{
	enum { DAY = 24 * 3600 };
	static const char gone[] = "{\"online\":false,\"process\":\"aa\"}";
	struct bench *b = *state;

	/* One machine: it reconnects, starts again, hands over, and its wills come late. Never told, however often. */
	for (int i = 0; i < 20; i++) {
		char process[17];

		snprintf(process, sizeof(process), "%016x", i + 1);
		born(b, process, NOW + i);
		born(b, process, NOW + i);
		assert_int_equal(ingest_presence(b->db, "n1", gone, strlen(gone), NOW + i), 0);
	}
	assert_int_equal(turns_at(b, NOW + 20).returns, 0);
	assert_int_equal(facts(b).events, 0);
	/* An old message that a broker found again is no machine yet. */
	born(b, "0000000000000013", NOW + 30);
	born(b, "0000000000000014", NOW + 31);
	assert_false(turns_at(b, NOW + 31).two);
	assert_int_equal(facts(b).events, 0);
	/* One more, and they are told; once, whatever follows that day, and again the day after. */
	born(b, "0000000000000013", NOW + 32);
	assert_true(turns_at(b, NOW + 32).two);
	assert_int_equal(facts(b).events, 1);
	for (int i = 0; i < 50; i++)
		born(b, i % 2 ? "0000000000000013" : "0000000000000014", NOW + 40 + i);
	assert_int_equal(facts(b).events, 1);
	assert_int_equal(turns_at(b, NOW + 100).returns, 53);
	for (int i = 0; i < 10; i++)
		born(b, i % 2 ? "0000000000000013" : "0000000000000014", NOW + DAY + 200 + i);
	assert_int_equal(facts(b).events, 2);
	/* When it is over nobody says so any more. */
	assert_true(turns_at(b, NOW + 2 * DAY).two);
	assert_false(turns_at(b, NOW + 2 * DAY + 300).two);
	/* Three of them. */
	for (int i = 0; i < 9; i++)
		born(b, i % 3 == 0 ? "a" : i % 3 == 1 ? "b" : "c", NOW + 5 * DAY + i);
	assert_true(turns_at(b, NOW + 5 * DAY + 10).two);
	assert_int_equal(facts(b).events, 3);
}

/* Agents of 0.1.0 tell their boot alone. */
static void an_older_agent_is_told_apart_by_its_boot(void **state)
{
	static const char *const boots[] = { boot_a, boot_b, boot_a, boot_b, boot_a };
	struct bench *b = *state;
	char text[200];

	for (size_t i = 0; i < ARRAY_LEN(boots); i++) {
		snprintf(text, sizeof(text), "{\"online\":true,\"boot\":\"%s\",\"counter\":%zu}", boots[i], i);
		assert_int_equal(ingest_presence(b->db, "n1", text, strlen(text), NOW), 0);
		assert_int_equal(facts(b).events, i == 4);
	}
	assert_true(turns_at(b, NOW).two);
	/* What is no number, or longer than any, tells nothing. */
	born(b, "x y", NOW);
	born(b, "00000000000000000000000000000000000000", NOW);
	born(b, "", NOW);
	assert_int_equal(turns_at(b, NOW).returns, 3);
	/* The name is another machine's by a person's word: it begins anew. */
	assert_int_equal(db_begin(b->db), 0);
	assert_int_equal(db_node_rekey(b->db, "n1", "-", "-", NOW), 0);
	assert_int_equal(db_commit(b->db), 0);
	assert_false(turns_at(b, NOW).two);
}

static void presence_is_display_only(void **state)
{
	static const char on[] = "{\"online\":true,\"boot\":\"x\",\"counter\":1}", off[] = "{\"online\":false}";
	struct bench *b = *state;
	bool online = false;

	assert_int_equal(ingest_presence(b->db, "n1", on, strlen(on), NOW), 0);
	assert_int_equal(db_nodes(b->db, "n1", read_online, &online), 0);
	assert_true(online);
	assert_int_equal(ingest_presence(b->db, "n1", off, strlen(off), NOW), 0);
	assert_int_equal(db_nodes(b->db, "n1", read_online, &online), 0);
	assert_false(online);
	assert_int_equal(ingest_presence(b->db, "n9", on, strlen(on), NOW), 0);
	assert_int_equal(ingest_presence(b->db, "n1", "x", 1, NOW), 0);
	assert_int_equal(facts(b).events, 0);
}

/* What one node, or a stranger, can make us write is bounded by time, and others are not touched by it. */
static void nobody_fills_the_disk(void **state)
{
	struct bench *b = *state;
	struct event e = { .node = "n1", .update = "r/web/1", .component = "web", .version = "1.1.0", .at = NOW };
	struct ingest_outcome o;
	unsigned shown = 0, acknowledged = 0;

	for (int i = 0; i < 2000; i++) {
		struct buf bytes = BUF_INIT(10000);
		bool one = false;
		char name[32];

		snprintf(e.state, sizeof(e.state), "%s", i % 2 ? "staging" : "waiting");
		write_event(&e, &bytes);
		assert_int_equal(ingest_event(b->db, "n1", bytes.data, bytes.len, NOW, &one), 0);
		shown += one;
		buf_done(&bytes);
		snprintf(name, sizeof(name), "s%d", i);
		assert_int_equal(ingest_report(b->db, "demo", name, "{}", 2, NOW, &o), 0);
		assert_int_equal(o.verdict, INGEST_UNKNOWN);
	}
	assert_in_range(shown, 1, 500);
	assert_in_range(facts(b).strangers, 1, 500);
	/* The same report again and again is no reason to sign again and again. */
	for (int i = 0; i < 300; i++)
		acknowledged += send(b, report(5, boot_a)).acknowledge;
	assert_in_range(acknowledged, 2, 150);
	assert_int_equal(facts(b).sequence, 5);
	assert_true(send(b, report(6, boot_a)).acknowledge);
}

static void nobody_sends_more_than_a_node_has_to(void **state)
{
	struct bench *b = *state;
	unsigned stored = 0;

	for (unsigned i = 1; i <= 1000; i++)
		stored += send(b, report(i, boot_a)).verdict == INGEST_STORED;
	assert_in_range(stored, 300, 900);
	/* The next one after a while counts as ever. */
	assert_int_equal(facts(b).sequence, stored);
	assert_false(facts(b).quarantined);
}

static void seal_lease(const struct lease *l, const struct private_key *key, struct buf *out)
{
	struct json_build *b = json_build_new();
	struct buf plain = BUF_INIT(ENVELOPE_MAX);
	struct json *j = NULL;

	lease_write(l, json_build_root(b));
	assert_int_equal(json_build_text(b, false, &plain), 0);
	assert_int_equal(json_parse(plain.data, plain.len, &json_limits_default, &j), 0);
	assert_int_equal(tuf_envelope_sign(j, &key, 1, out), 0);
	json_free(j);
	json_build_free(b);
	buf_done(&plain);
}

/* What is said to it; NULL: it counts. */
static const char *ask(struct bench *b, const struct lease *l, const struct private_key *key, const char *node)
{
	struct buf e = BUF_INIT(ENVELOPE_MAX);
	const char *refusal = NULL;
	struct lease got;

	seal_lease(l, key, &e);
	assert_int_equal(ingest_lease(b->db, "demo", node, e.data, e.len, NOW, &got, &refusal), 0);
	if (!refusal)
		assert_string_equal(got.update, l->update);
	buf_done(&e);
	return refusal;
}

static void only_the_node_itself_asks_for_its_place(void **state)
{
	struct bench *b = *state;
	struct lease l = { .fleet = "demo",
			   .node = "n1",
			   .nonce = "00112233445566778899aabbccddeeff",
			   .update = "web-1-1-0/web/1",
			   .rollout = "web-1-1-0",
			   .sequence = 3 };
	const char *refusal;
	struct report r;
	struct lease got;

	assert_null(ask(b, &l, b->key, "n1"));
	assert_non_null(ask(b, &l, b->other, "n1"));
	assert_non_null(ask(b, &l, b->key, "n2"));
	assert_non_null(ask(b, &l, b->other, "n2"));
	assert_non_null(ask(b, &l, b->key, "n9"));
	assert_int_equal(ingest_lease(b->db, "demo", "n1", "{}", 2, NOW, &got, &refusal), 0);
	assert_non_null(refusal);
	snprintf(l.fleet, sizeof(l.fleet), "other");
	assert_non_null(ask(b, &l, b->key, "n1"));
	snprintf(l.fleet, sizeof(l.fleet), "demo");
	/* Once the update has ended, a carrier that says the request again gets nothing for it. */
	r = report(4, boot_a);
	add_result(&r, "web-1-1-0/web/1", RESULT_GOOD);
	assert_int_equal(send(b, r).verdict, INGEST_STORED);
	assert_string_equal(ask(b, &l, b->key, "n1"), "an old request: this update has ended");
	for (int i = 0; i < 100; i++)
		refusal = ask(b, &l, b->key, "n1");
	assert_string_equal(refusal, "more requests in a minute than a node has to send");
}

static void verdicts_have_names(void **state)
{
	(void) state;
	for (int v = 0; v < INGEST_VERDICT_COUNT; v++)
		assert_non_null(ingest_verdict_name((enum ingest_verdict) v));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static int count_hour(void *user, const char *version, const struct db_hour *row)
{
	int64_t *seen = user;

	assert_string_equal(version, "1.0.0");
	seen[0]++;
	seen[1] = row->hour;
	return 0;
}

static struct report with_hours(uint64_t sequence, const int64_t *hours, size_t count)
{
	struct report r = report(sequence, boot_a);

	r.metrics = calloc(1, sizeof(*r.metrics));
	assert_non_null(r.metrics);
	r.metrics[r.metric_count++] = (struct report_metric){ .component = text("web"),
							      .version = text("1.0.0"),
							      .name = text("errors"),
							      .hours = calloc(count, sizeof(*r.metrics->hours)),
							      .hour_count = count };
	assert_non_null(r.metrics->hours);
	for (size_t i = 0; i < count; i++)
		r.metrics->hours[i] = (struct report_metric_hour){ hours[i], 0.5, 10 };
	return r;
}

/* Of an hour that has not come yet nobody can know anything, and of one long past nobody tells any more. */
static void metrics_are_stored_for_hours_that_can_be(void **state)
{
	const int64_t hour = NOW / 3600;
	const int64_t hours[] = { 1, hour - 200, hour - 20, hour - 1, hour, hour + 1, hour + 5000 };
	struct bench *b = *state;
	int64_t seen[2] = { 0, 0 };

	assert_int_equal(send(b, with_hours(1, hours, sizeof(hours) / sizeof(hours[0]))).verdict, INGEST_STORED);
	assert_int_equal(db_metrics(b->db, "n1", "web", "errors", 0, count_hour, seen), 0);
	assert_int_equal(seen[0], 3);
	assert_int_equal(seen[1], hour);
	/* In quarantine nothing it says counts. */
	assert_int_equal(db_node_quarantine(b->db, "n1", "two machines"), 0);
	seen[0] = 0;
	assert_int_equal(send(b, with_hours(2, &(const int64_t){ hour - 2 }, 1)).verdict, INGEST_QUARANTINED);
	assert_int_equal(db_metrics(b->db, "n1", "web", "errors", 0, count_hour, seen), 0);
	assert_int_equal(seen[0], 3);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(a_report_is_stored_and_acknowledged),
		T(what_is_stored_can_be_read_again),
		T(results_count_once_however_often_they_come),
		T(a_duplicate_is_acknowledged_again),
		T(a_late_or_replayed_report_changes_nothing),
		T(the_same_text_in_another_order_is_the_same),
		T(a_copy_is_quarantined),
		T(one_number_for_two_texts_is_a_copy),
		T(the_highest_number_from_another_boot_is_a_copy),
		T(unknown_and_unsigned_are_shown_but_never_counted),
		T(names_must_agree),
		T(signed_nonsense_is_malformed),
		T(a_report_larger_than_allowed_is_not_read),
		T(events_are_shown_once_per_state),
		T(a_line_says_nothing_twice),
		T(events_are_never_asked_by_gates),
		T(a_will_that_comes_late_is_of_an_older_birth),
		T(two_machines_that_take_turns_are_told),
		T(an_older_agent_is_told_apart_by_its_boot),
		T(presence_is_display_only),
		T(nobody_fills_the_disk),
		T(nobody_sends_more_than_a_node_has_to),
		T(only_the_node_itself_asks_for_its_place),
		cmocka_unit_test(verdicts_have_names),
		cmocka_unit_test_setup_teardown(metrics_are_stored_for_hours_that_can_be, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
