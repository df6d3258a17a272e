/*
 * common/model/collection.h and agent/link/puts.h: a collection on its way to a controller that loses, doubles, is away and lies.
 */
#include "agent/link/puts.h"
#include "model/collection.h"

#include "base/err.h"
#include "crypto/digest.h"
#include "json/build.h"
#include "json/json.h"
#include "os/os.h"
#include "pack/pack.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LENGTH = 11 * PUT_BLOCK_BYTES + 333 };

struct fixture {
	struct os os;
	struct puts *puts;
	uint8_t *content, *arrived;
	char sha256[SHA256_HEX + 1];
	/* the controller */
	uint64_t next;
	bool busy, refuses, https_fails;
	uint32_t dice; /* what is lost follows no beat */
	unsigned lose_every, messages, statements, over_mqtt, over_https;
	uint64_t bytes, largest; /* of messages on their way out */
	bool twice;
	/* what is under way */
	struct {
		bool mqtt;
		struct buf message;
	} queue[64];
	size_t queued;
	bool wanted;
	uint64_t wanted_index;
	uint32_t wanted_id;
	bool connected, done;
};

static uint64_t now = 1000;

static uint64_t test_clock(const struct os *os)
{
	(void) os;
	return now;
}

static int queue(struct fixture *f, bool mqtt, const void *message, size_t len)
{
	assert_true(f->queued < ARRAY_LEN(f->queue));
	f->bytes += len;
	f->largest = len > f->largest ? len : f->largest;
	f->queue[f->queued].mqtt = mqtt;
	buf_init(&f->queue[f->queued].message, PUT_MESSAGE_MAX);
	assert_int_equal(buf_add(&f->queue[f->queued++].message, message, len), 0);
	return 0;
}

static int publish(void *user, const void *message, size_t len)
{
	struct fixture *f = user;

	f->over_mqtt++;
	return f->connected ? queue(f, true, message, len) : -ENOTCONN;
}

static int post(void *user, const void *message, size_t len)
{
	struct fixture *f = user;

	f->over_https++;
	return queue(f, false, message, len);
}

static void want(void *user, uint32_t id, uint64_t index)
{
	struct fixture *f = user;

	assert_false(f->wanted);
	f->wanted = true;
	f->wanted_id = id;
	f->wanted_index = index;
}

static void receipt(void *user, const void *envelope, size_t len)
{
	struct fixture *f = user;

	assert_int_equal(len, 7);
	assert_memory_equal(envelope, "receipt", 7);
	f->done = true;
}

/* What a controller in good order answers. */
static void judge(struct fixture *f, const struct put *p, struct put_answer *a)
{
	CLEANUP(buf_done)
	struct buf block = BUF_INIT(PUT_BLOCK_BYTES);

	memcpy(a->order, p->order, sizeof(a->order));
	memcpy(a->sha256, p->sha256, sizeof(a->sha256));
	if (f->busy) {
		a->state = PUT_BUSY;
		return;
	}
	if (f->refuses) {
		a->state = PUT_REFUSED;
		return;
	}
	if (p->opens) {
		f->statements++;
		assert_memory_equal(p->data, "statement", 9);
	} else if (p->index == f->next) {
		assert_int_equal(gzip_expand(p->data, p->len, &block), 0);
		assert_int_equal(block.len, put_block_length(LENGTH, p->index));
		memcpy(f->arrived + p->index * PUT_BLOCK_BYTES, block.data, block.len);
		f->next++;
	}
	a->state = f->next == put_blocks(LENGTH) ? PUT_DONE : PUT_MORE;
	a->next = f->next;
	if (a->state == PUT_DONE) {
		a->receipt = (const uint8_t *) "receipt";
		a->len = 7;
	}
}

static void deliver(struct fixture *f, bool mqtt, const struct buf *message)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(PUT_ANSWER_MAX);
	struct put_answer a = { .len = 0 };
	struct put p;

	f->messages++;
	if (!mqtt && f->https_fails) {
		puts_posted(f->puts, -ERR_NETWORK, NULL, 0);
		return;
	}
	f->dice = f->dice * 1103515245 + 12345;
	if (f->lose_every && (f->dice >> 16) % f->lose_every == 0) {
		if (!mqtt)
			puts_posted(f->puts, -ERR_DEADLINE, NULL, 0);
		return;
	}
	assert_int_equal(put_parse(message->data, message->len, &p), 0);
	judge(f, &p, &a);
	assert_int_equal(put_answer_write(&a, &text), 0);
	for (int i = 0; i < 1 + (f->twice && mqtt); i++) {
		if (mqtt)
			assert_true(puts_take(f->puts, text.data, text.len));
		else
			puts_posted(f->puts, 0, text.data, text.len);
	}
}

/* Let everything go its way, and time pass where nothing does, for so many rounds or until it is done. */
static void run(struct fixture *f, unsigned rounds)
{
	while (!f->done && rounds-- > 0) {
		if (f->wanted) {
			f->wanted = false;
			puts_block(f->puts, f->wanted_index, f->content + f->wanted_index * PUT_BLOCK_BYTES,
				   put_block_length(LENGTH, f->wanted_index));
		} else if (f->queued > 0) {
			struct buf message = f->queue[0].message;
			bool mqtt = f->queue[0].mqtt;

			memmove(f->queue, f->queue + 1, --f->queued * sizeof(f->queue[0]));
			deliver(f, mqtt, &message);
			buf_done(&message);
		} else {
			now = puts_next_ms(f->puts) == UINT64_MAX ? now + 1 : puts_next_ms(f->puts);
		}
		puts_step(f->puts, f->connected);
	}
}

static void open_puts(struct fixture *f, bool mqtt, bool https, bool mqtt_first)
{
	const struct puts_options o = { .os = &f->os,
					.mqtt = mqtt,
					.https = https,
					.mqtt_first = mqtt_first,
					.publish = publish,
					.post = post,
					.want = want,
					.receipt = receipt,
					.user = f };

	puts_free(f->puts);
	f->puts = NULL;
	f->wanted = false;
	assert_int_equal(puts_new(&o, &f->puts), 0);
	puts_step(f->puts, f->connected);
}

static void begin(struct fixture *f)
{
	assert_int_equal(puts_begin(f->puts, 7, "collect-1", f->sha256, LENGTH, "statement", 9), 0);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->os = os_posix;
	f->os.clock_boot_ms = test_clock;
	f->content = malloc(LENGTH);
	f->arrived = calloc(1, LENGTH);
	for (size_t i = 0; i < LENGTH; i++)
		f->content[i] = (uint8_t) (i % 7 ? i * 2654435761u >> 13 : 0);
	assert_int_equal(sha256_hex(f->content, LENGTH, f->sha256), 0);
	f->connected = true;
	open_puts(f, true, true, false);
	*state = f;
	return 0;
}

static void forget_queue(struct fixture *f)
{
	while (f->queued > 0)
		buf_done(&f->queue[--f->queued].message);
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	puts_free(f->puts);
	forget_queue(f);
	free(f->content);
	free(f->arrived);
	free(f);
	return 0;
}

static void check_arrived(struct fixture *f)
{
	assert_true(f->done);
	assert_int_equal(f->next, put_blocks(LENGTH));
	assert_memory_equal(f->arrived, f->content, LENGTH);
}

static void it_arrives_by_the_first_road(void **state)
{
	struct fixture *f = *state;

	begin(f);
	run(f, 1000);
	check_arrived(f);
	assert_int_equal(f->over_mqtt, 0);
	assert_int_equal(f->over_https, 1 + put_blocks(LENGTH));
	f->done = false;
	f->next = 0;
	f->twice = true;
	memset(f->arrived, 0, LENGTH);
	open_puts(f, true, true, true);
	begin(f);
	run(f, 1000);
	check_arrived(f);
	assert_int_equal(f->over_mqtt, 1 + put_blocks(LENGTH));
}

static void what_is_lost_is_sent_again(void **state)
{
	struct fixture *f = *state;

	for (int mqtt = 0; mqtt < 2; mqtt++) {
		for (unsigned every = 2; every < 9; every++) {
			f->done = false;
			f->next = 0;
			f->lose_every = every;
			open_puts(f, true, true, mqtt);
			begin(f);
			run(f, 3000);
			if (!f->done)
				fail_msg("mqtt first %d, every %u lost: %u of %u after %u messages", mqtt, every,
					 (unsigned) f->next, (unsigned) put_blocks(LENGTH), f->messages);
			check_arrived(f);
			forget_queue(f);
		}
	}
}

static void a_road_that_does_not_go_is_left(void **state)
{
	struct fixture *f = *state;

	f->https_fails = true;
	begin(f);
	run(f, 1000);
	check_arrived(f);
	assert_true(f->over_mqtt >= put_blocks(LENGTH));
	forget_queue(f);
	/* Without a broker's connection MQTT is no road, and when it comes it is. */
	f->done = false;
	f->next = 0;
	f->connected = false;
	open_puts(f, true, true, true);
	begin(f);
	run(f, 50);
	assert_false(f->done);
	f->connected = true;
	puts_connected(f->puts);
	run(f, 1000);
	check_arrived(f);
}

static void it_goes_on_after_a_restart_of_either_side(void **state)
{
	struct fixture *f = *state;
	unsigned before;

	begin(f);
	run(f, 12);
	assert_true(f->next > 2 && !f->done);
	forget_queue(f); /* the link is killed */
	before = (unsigned) f->next;
	f->over_https = 0;
	open_puts(f, true, true, false);
	begin(f);
	run(f, 6);
	assert_true(f->next > before);
	f->next = before - 1; /* the controller lost its last blocks in a power cut */
	run(f, 1000);
	check_arrived(f);
	assert_true(f->statements >= 3);
}

static void a_lost_connection_starts_with_the_statement(void **state)
{
	struct fixture *f = *state;

	open_puts(f, true, false, true);
	begin(f);
	run(f, 9);
	assert_true(f->next > 0 && !f->done);
	f->connected = false;
	forget_queue(f);
	run(f, 5);
	f->connected = true;
	puts_connected(f->puts);
	run(f, 1000);
	check_arrived(f);
	assert_true(f->statements >= 2);
}

static void a_busy_or_refusing_controller_is_asked_later(void **state)
{
	struct fixture *f = *state;
	const uint64_t before = now;

	f->busy = true;
	begin(f);
	run(f, 4);
	assert_int_equal(f->next, 0);
	f->busy = false;
	f->refuses = true;
	run(f, 4);
	f->refuses = false;
	run(f, 1000);
	check_arrived(f);
	assert_true(now - before >= PUTS_BUSY_MS);
}

static void a_receipt_nobody_believes_does_not_end_it(void **state)
{
	struct fixture *f = *state;

	begin(f);
	run(f, 1000);
	check_arrived(f);
	f->done = false; /* the engine did not believe it, so it does not say stop */
	run(f, 100);
	assert_true(f->done);
	puts_stop(f->puts);
	assert_true(puts_next_ms(f->puts) == UINT64_MAX);
}

/* --- the ceiling */

static void begin_at(struct fixture *f, bool mqtt, uint64_t rate)
{
	f->done = false;
	f->next = f->bytes = f->largest = 0;
	f->statements = f->over_mqtt = f->over_https = 0;
	open_puts(f, true, true, mqtt);
	puts_set_rate(f->puts, rate);
	begin(f);
}

/* What went out in that time is what may, and a block that was begun. */
static void check_pace(const struct fixture *f, uint64_t ms, uint64_t rate)
{
	if (f->bytes > ms * rate / 1000 + 2 * f->largest)
		fail_msg("%llu bytes in %llu ms", (unsigned long long) f->bytes, (unsigned long long) ms);
}

static void a_ceiling_holds_on_both_roads(void **state)
{
	static const uint64_t rates[] = { 1024 * 1024, 64 * 1024, 5000, 100 };
	struct fixture *f = *state;

	for (size_t i = 0; i < 2 * ARRAY_LEN(rates); i++) {
		uint64_t rate = rates[i / 2], before = now;

		begin_at(f, i % 2, rate);
		run(f, 3000);
		check_arrived(f);
		check_pace(f, now - before, rate);
		/* And it is used: half of it at least. */
		assert_true((now - before) * rate / 1000 <= 2 * f->bytes);
		/* A pause is no silence: nothing was said again, no road was left. */
		assert_int_equal(f->statements, 1);
		assert_int_equal(i % 2 ? f->over_https : f->over_mqtt, 0);
	}
}

static void the_pace_changes_in_the_middle(void **state)
{
	struct fixture *f = *state;

	for (int mqtt = 0; mqtt < 2; mqtt++) {
		uint64_t before = now, bytes;

		begin_at(f, mqtt, 20000);
		run(f, 14);
		assert_true(f->next > 1 && !f->done);
		check_pace(f, now - before, 20000);
		/* The busy hours begin: also for what waits already. */
		puts_set_rate(f->puts, 2000);
		before = now;
		bytes = f->bytes;
		run(f, 14);
		assert_false(f->done);
		f->bytes -= bytes;
		check_pace(f, now - before, 2000);
		/* And end. */
		puts_set_rate(f->puts, 0);
		puts_step(f->puts, true);
		before = now;
		run(f, 1000);
		check_arrived(f);
		assert_true(now - before < 1000);
		assert_int_equal(f->statements, 1);
	}
}

static void what_is_lost_counts_against_the_ceiling(void **state)
{
	struct fixture *f = *state;
	uint64_t before = now;

	f->lose_every = 3;
	begin_at(f, true, 20000);
	run(f, 5000);
	check_arrived(f);
	/* The statements in between are small, and not held back. */
	check_pace(f, now - before, 20000 + 1000);
	forget_queue(f);
}

static void answers_of_others_change_nothing(void **state)
{
	struct fixture *f = *state;
	char text[300];
	int n = snprintf(text, sizeof(text),
			 "{\"format\":1,\"put\":\"collect-2\",\"sha256\":\"%s\",\"state\":\"more\",\"next\":9}\n",
			 f->sha256);

	begin(f);
	assert_true(puts_take(f->puts, text, (size_t) n));
	assert_false(puts_take(f->puts, "{}\n", 3));
	assert_false(puts_take(f->puts, "\x00\xff", 2));
	run(f, 1000);
	check_arrived(f);
}

/* --- the messages */

static void hostile_messages_are_none(void **state)
{
	static const char sha[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
	static const char *const bad[] = {
		"",
		"\n",
		"{}\nx",
		"{\"format\":1,\"order\":\"collect-1\",\"sha256\":\"SHA\",\"index\":1}", /* no line */
		"{\"format\":1,\"order\":\"collect-1\",\"sha256\":\"SHA\",\"index\":1}\n", /* no data */
		"{\"format\":2,\"order\":\"collect-1\",\"sha256\":\"SHA\",\"index\":1}\nx",
		"{\"format\":1,\"order\":\"../../etc\",\"sha256\":\"SHA\",\"index\":1}\nx",
		"{\"format\":1,\"order\":\"\",\"sha256\":\"SHA\",\"index\":1}\nx",
		"{\"format\":1,\"order\":\"collect-1\",\"sha256\":\"0123\",\"index\":1}\nx",
		"{\"format\":1,\"order\":\"collect-1\",\"sha256\":\"SHA\",\"index\":-1}\nx",
		"{\"format\":1,\"order\":\"collect-1\",\"sha256\":\"SHA\",\"index\":1024}\nx",
		"{\"format\":1,\"order\":\"collect-1\",\"sha256\":\"SHA\",\"index\":\"1\"}\nx",
		"[[[[[[[[[[[[]]]]]]]]]]]]\nx",
	};
	struct put p;

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		CLEANUP(buf_done)
		struct buf text = BUF_INIT(4096);
		const char *at = strstr(bad[i], "SHA");

		assert_int_equal(at ? buf_addf(&text, "%.*s%s%s", (int) (at - bad[i]), bad[i], sha, at + 3)
				    : buf_add_str(&text, bad[i]),
				 0);
		if (put_parse(text.data, text.len, &p) == 0)
			fail_msg("taken: %s", bad[i]);
	}
}

static void a_statement_is_held_against_its_limits(void **state)
{
	static const char text[] =
		"{\"_type\":\"selfright-collection\",\"format\":1,\"fleet\":\"demo\",\"node\":\"n1\",\"order\":"
		"\"c-1\","
		"\"set\":\"logs\",\"length\":%s,\"files\":1,\"at\":\"%s\",\"future\":{},"
		"\"sha256\":\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"}";
	static const struct {
		const char *length, *at;
		bool fine;
	} rows[] = {
		{ "1", "2026-11-21T00:00:00Z", true },	       { "67108864", "2026-11-21T00:00:00Z", true },
		{ "67108865", "2026-11-21T00:00:00Z", false }, { "0", "2026-11-21T00:00:00Z", false },
		{ "-5", "2026-11-21T00:00:00Z", false },       { "1", "yesterday", false },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		CLEANUP(json_freep)
		struct json *doc = NULL;
		struct collection c;
		char line[600];
		int n = snprintf(line, sizeof(line), text, rows[i].length, rows[i].at);

		assert_int_equal(json_parse(line, (size_t) n, &json_limits_default, &doc), 0);
		assert_int_equal(collection_parse(doc, &c) == 0, rows[i].fine);
	}
}

static void blocks_add_up(void **state)
{
	static const uint64_t lengths[] = { 1,	    PUT_BLOCK_BYTES - 1, PUT_BLOCK_BYTES, PUT_BLOCK_BYTES + 1,
					    LENGTH, COLLECTION_MAX_BYTES };

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		uint64_t sum = 0;

		for (uint64_t k = 0; k < put_blocks(lengths[i]); k++)
			sum += put_block_length(lengths[i], k);
		assert_int_equal(sum, lengths[i]);
		assert_int_equal(put_block_length(lengths[i], put_blocks(lengths[i])), 0);
	}
}

#define WITH_PUTS(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_PUTS(it_arrives_by_the_first_road),
		WITH_PUTS(what_is_lost_is_sent_again),
		WITH_PUTS(a_road_that_does_not_go_is_left),
		WITH_PUTS(it_goes_on_after_a_restart_of_either_side),
		WITH_PUTS(a_lost_connection_starts_with_the_statement),
		WITH_PUTS(a_busy_or_refusing_controller_is_asked_later),
		WITH_PUTS(a_receipt_nobody_believes_does_not_end_it),
		WITH_PUTS(a_ceiling_holds_on_both_roads),
		WITH_PUTS(the_pace_changes_in_the_middle),
		WITH_PUTS(what_is_lost_counts_against_the_ceiling),
		WITH_PUTS(answers_of_others_change_nothing),
		cmocka_unit_test(hostile_messages_are_none),
		cmocka_unit_test(a_statement_is_held_against_its_limits),
		cmocka_unit_test(blocks_add_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
