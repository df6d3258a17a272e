/*
 * agent/link/blobs.h and common/model/blob.h: files in blocks from a peer that loses, doubles, reorders and lies.
 * agent/link/trial.h: whether they come at all.
 */
#include "agent/link/blobs.h"

#include "agent/link/trial.h"

#include "base/err.h"
#include "base/text.h"
#include "crypto/digest.h"
#include "json/json.h"
#include "model/blob.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { QUEUE_MAX = 256, FILE_BYTES = 40 * BLOB_BLOCK_BYTES + 777 };

struct fixture {
	char path[64];
	int dirfd;
	struct os os;
	struct blobs *blobs;
	uint8_t *content;
	size_t length; /* of what the peer serves */
	bool exists, busy;
	unsigned drop_every, requests, blocks, widest;
	bool twice, backwards;
	struct buf queue[QUEUE_MAX]; /* messages on their way here */
	size_t queued;
	/* what came of it */
	bool over;
	int error;
	struct buf fetched;
	uint64_t bytes;
	struct trial trial;
	bool tried;
	char asked_for[BLOB_NAME_MAX + 1];
	char name[256];
};

static uint64_t now = 1000;

static uint64_t test_clock(const struct os *os)
{
	(void) os;
	return now;
}

static void send(struct fixture *f, const struct blob_block *b)
{
	f->blocks++;
	if (f->drop_every && f->blocks % f->drop_every == 0)
		return;
	for (int i = 0; i < 1 + f->twice; i++) {
		assert_true(f->queued < QUEUE_MAX);
		buf_init(&f->queue[f->queued], BLOB_MESSAGE_MAX);
		assert_int_equal(blob_block_write(b, &f->queue[f->queued++]), 0);
	}
}

/* The controller's side. */
static int ask(void *user, const void *request, size_t len)
{
	struct fixture *f = user;
	struct blob_request q;
	struct blob_block b = { .status = BLOB_OK };
	unsigned wide = 0;

	assert_int_equal(blob_request_parse(request, len, &q), 0);
	f->requests++;
	memcpy(f->asked_for, q.name, sizeof(f->asked_for));
	memcpy(b.id, q.id, sizeof(b.id));
	b.length = f->length;
	if (f->busy || !f->exists) {
		b.status = f->busy ? BLOB_BUSY : BLOB_NOT_FOUND;
		b.length = 0;
		send(f, &b);
		return 0;
	}
	for (unsigned i = 0; i < BLOB_WINDOW; i++) {
		uint64_t offset = (q.first + i) * BLOB_BLOCK_BYTES;

		if (!(q.wanted & 1u << i))
			continue;
		assert_true(offset < f->length || f->length == 0); /* it never asks behind the end */
		b.index = q.first + i;
		b.data = f->content + offset;
		b.len = f->length - offset < BLOB_BLOCK_BYTES ? (size_t) (f->length - offset) : BLOB_BLOCK_BYTES;
		send(f, &b);
		wide++;
	}
	f->widest = wide > f->widest ? wide : f->widest;
	return 0;
}

static void on_fetched(void *user, uint32_t id, int error, const void *data, size_t len)
{
	struct fixture *f = user;

	assert_int_equal(id, 5);
	f->over = true;
	f->error = error;
	buf_clear(&f->fetched);
	if (len > 0)
		assert_int_equal(buf_add(&f->fetched, data, len), 0);
}

static void on_saved(void *user, uint32_t id, bool over, int error, uint64_t bytes)
{
	struct fixture *f = user;

	assert_int_equal(id, 6);
	f->over = over;
	f->error = error;
	f->bytes = bytes;
}

static void on_looked(void *user, uint32_t id, int error, uint64_t ms)
{
	struct fixture *f = user;

	assert_int_equal(id, 7);
	f->tried = trial_go_on(&f->trial, f->blobs, error, ms);
	f->over = f->over || f->tried;
}

static void open_blobs(struct fixture *f)
{
	const struct blobs_options o = { .os = &f->os,
					 .dirfd = f->dirfd,
					 .ask = ask,
					 .fetched = on_fetched,
					 .saved = on_saved,
					 .looked = on_looked,
					 .user = f };

	assert_int_equal(blobs_new(&o, &f->blobs), 0);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char hex[SHA256_HEX + 1];

	strncpy(f->path, "/tmp/blobs.XXXXXX", sizeof(f->path) - 1);
	assert_non_null(mkdtemp(f->path));
	f->dirfd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->os = os_posix;
	f->os.clock_boot_ms = test_clock;
	f->length = FILE_BYTES;
	f->exists = true;
	f->content = malloc(FILE_BYTES);
	for (size_t i = 0; i < FILE_BYTES; i++)
		f->content[i] = (uint8_t) (i * 2654435761u >> 13);
	buf_init(&f->fetched, FILE_BYTES + 1);
	assert_int_equal(sha256_hex(f->content, FILE_BYTES, hex), 0);
	snprintf(f->name, sizeof(f->name), "targets/web/1.0.0/%s.web.tar.zst", hex);
	open_blobs(f);
	*state = f;
	return 0;
}

static void drop_queue(struct fixture *f)
{
	for (size_t i = 0; i < f->queued; i++)
		buf_done(&f->queue[i]);
	f->queued = 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	blobs_free(f->blobs);
	drop_queue(f);
	buf_done(&f->fetched);
	free(f->content);
	assert_int_equal(tree_remove(&os_posix, AT_FDCWD, f->path), 0);
	close(f->dirfd);
	free(f);
	return 0;
}

/* Deliver what is queued, let time pass where nothing is, until it is over or `rounds` are. */
static void run(struct fixture *f, unsigned rounds)
{
	while (!f->over && rounds-- > 0) {
		size_t count = f->queued;

		if (count == 0)
			now = blobs_next_ms(f->blobs) == UINT64_MAX ? now + 1 : blobs_next_ms(f->blobs);
		for (size_t i = 0; i < count; i++) {
			struct buf *m = &f->queue[f->backwards ? count - 1 - i : i];

			blobs_take(f->blobs, m->data, m->len);
		}
		for (size_t i = 0; i < count; i++)
			buf_done(&f->queue[i]);
		memmove(f->queue, f->queue + count, (f->queued - count) * sizeof(f->queue[0]));
		f->queued -= count;
		blobs_step(f->blobs, true);
	}
}

static void fetch(struct fixture *f, size_t length, uint64_t max)
{
	f->length = length;
	f->over = false;
	assert_int_equal(blobs_fetch(f->blobs, 5, "metadata/timestamp.json", max), 0);
	run(f, 1000);
	assert_true(f->over);
}

static void files_of_every_length_arrive(void **state)
{
	static const size_t lengths[] = { 0,
					  1,
					  BLOB_BLOCK_BYTES - 1,
					  BLOB_BLOCK_BYTES,
					  BLOB_BLOCK_BYTES + 1,
					  2 * BLOB_BLOCK_BYTES,
					  17 * BLOB_BLOCK_BYTES,
					  FILE_BYTES };
	struct fixture *f = *state;

	for (unsigned mode = 0; mode < 4; mode++) {
		f->twice = mode & 1;
		f->backwards = mode & 2;
		for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
			fetch(f, lengths[i], FILE_BYTES);
			assert_int_equal(f->error, 0);
			assert_int_equal(f->fetched.len, lengths[i]);
			if (lengths[i] > 0)
				assert_memory_equal(f->fetched.data, f->content, lengths[i]);
		}
	}
	assert_true(f->widest > 8 && f->widest <= BLOB_WINDOW); /* quick answers widen the window */
}

static void what_is_lost_is_asked_for_again(void **state)
{
	struct fixture *f = *state;

	for (unsigned every = 2; every < 12; every++) {
		f->drop_every = every;
		fetch(f, FILE_BYTES, FILE_BYTES);
		assert_int_equal(f->error, 0);
		assert_memory_equal(f->fetched.data, f->content, FILE_BYTES);
	}
}

static void answers_that_are_none_end_it(void **state)
{
	struct fixture *f = *state;

	fetch(f, FILE_BYTES, 1000);
	assert_int_equal(f->error, -ERR_TOO_LARGE);
	drop_queue(f);
	f->exists = false;
	fetch(f, 10, 1000);
	assert_int_equal(f->error, -ENOENT);
	f->exists = true;
	f->drop_every = 1; /* nothing comes at all */
	fetch(f, 10, 1000);
	assert_int_equal(f->error, -ERR_DEADLINE);
	f->drop_every = 0;
	/* Without a connection it waits, and not for ever. */
	f->over = false;
	assert_int_equal(blobs_fetch(f->blobs, 5, "metadata/timestamp.json", 1000), 0);
	drop_queue(f);
	for (int i = 0; i < 10 && !f->over; i++) {
		blobs_step(f->blobs, false);
		now = blobs_next_ms(f->blobs) == UINT64_MAX ? now : blobs_next_ms(f->blobs);
	}
	assert_true(f->over);
	assert_int_equal(f->error, -ERR_NETWORK);
}

static void a_busy_controller_is_waited_for(void **state)
{
	struct fixture *f = *state;

	f->busy = true;
	f->over = false;
	f->length = 10;
	assert_int_equal(blobs_fetch(f->blobs, 5, "metadata/timestamp.json", 1000), 0);
	run(f, 3);
	assert_false(f->over);
	f->busy = false;
	run(f, 10);
	assert_true(f->over && f->error == 0);
}

static void check_file(struct fixture *f)
{
	CLEANUP(buf_done)
	struct buf file = BUF_INIT(FILE_BYTES + 1);
	char path[SHA256_HEX + 32];

	snprintf(path, sizeof(path), "blobs/%.64s.part", strrchr(f->name, '/') + 1);
	assert_int_equal(file_read(&os_posix, f->dirfd, path, FILE_BYTES + 1, &file), 0);
	assert_int_equal(file.len, FILE_BYTES);
	assert_memory_equal(file.data, f->content, FILE_BYTES);
}

static void an_artifact_goes_on_after_a_restart(void **state)
{
	struct fixture *f = *state;
	unsigned before;

	assert_int_equal(blobs_save(f->blobs, 6, f->name, FILE_BYTES), 0);
	run(f, 4);
	assert_false(f->over);
	assert_true(f->bytes > 0);
	/* The process is killed in the middle. */
	blobs_free(f->blobs);
	drop_queue(f);
	before = f->blocks;
	open_blobs(f);
	assert_int_equal(blobs_save(f->blobs, 6, f->name, FILE_BYTES), 0);
	run(f, 1000);
	assert_true(f->over && f->error == 0);
	assert_int_equal(f->bytes, FILE_BYTES);
	assert_true(f->blocks - before < 41); /* what was here was not asked for again */
	check_file(f);
}

static void a_ceiling_is_kept(void **state)
{
	struct fixture *f = *state;
	uint64_t begin = now, half;

	blobs_set_rate(f->blobs,
		       2 * BLOB_BLOCK_BYTES); /* two blocks a second: 41 take 20 seconds, by the fixture's clock */
	assert_int_equal(blobs_save(f->blobs, 6, f->name, FILE_BYTES), 0);
	run(f, 20);
	assert_false(f->over);
	half = now - begin;
	assert_true(f->bytes * 1000 <= (half + 1000) * 2 * BLOB_BLOCK_BYTES);
	run(f, 1000);
	assert_true(f->over && f->error == 0);
	assert_true(now - begin >= 19000 && now - begin <= 22000);
	assert_true(f->widest <= 2); /* no burst */
	check_file(f);
	/* A lower one than a block a second is a pause between blocks; none lets the window grow again. */
	begin = now;
	blobs_set_rate(f->blobs, BLOB_BLOCK_BYTES / 4);
	f->over = false;
	assert_int_equal(tree_remove(&os_posix, f->dirfd, "blobs"), 0);
	assert_int_equal(blobs_save(f->blobs, 6, f->name, FILE_BYTES), 0);
	run(f, 5);
	assert_true(now - begin >= 4000 && f->bytes <= (now - begin) * BLOB_BLOCK_BYTES / 4000 + BLOB_BLOCK_BYTES);
	blobs_set_rate(f->blobs, 0);
	run(f, 1000);
	assert_true(f->over && f->error == 0 && f->widest > 8);
	check_file(f);
}

static void the_pace_changes_in_the_middle(void **state)
{
	struct fixture *f = *state;
	uint64_t begin = now, bytes;

	blobs_set_rate(f->blobs, 2 * BLOB_BLOCK_BYTES);
	assert_int_equal(blobs_save(f->blobs, 6, f->name, FILE_BYTES), 0);
	run(f, 20);
	assert_false(f->over);
	/* The busy hours begin: what was asked for already may still come, and nothing more than that. */
	blobs_set_rate(f->blobs, BLOB_BLOCK_BYTES / 8);
	begin = now;
	bytes = f->bytes;
	run(f, 20);
	assert_false(f->over);
	assert_true(now - begin >= 8000);
	assert_true((f->bytes - bytes) * 1000 <= (now - begin) * (BLOB_BLOCK_BYTES / 8) + 3000 * BLOB_BLOCK_BYTES);
	/* And end. */
	blobs_set_rate(f->blobs, 0);
	begin = now;
	run(f, 1000);
	assert_true(f->over && f->error == 0);
	assert_true(now - begin < 2000); /* nor is the pause waited out that the slower one made */
	check_file(f);
}

static void what_is_small_has_no_ceiling(void **state)
{
	struct fixture *f = *state;
	uint64_t begin = now;

	blobs_set_rate(f->blobs, 1);
	fetch(f, FILE_BYTES, FILE_BYTES);
	assert_int_equal(f->error, 0);
	assert_true(now - begin < 1000);
}

static void a_lost_connection_costs_a_window(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(blobs_save(f->blobs, 6, f->name, FILE_BYTES), 0);
	run(f, 3);
	drop_queue(f); /* all that was under way */
	blobs_step(f->blobs, false);
	now += 5000;
	blobs_connected(f->blobs);
	run(f, 1000);
	assert_true(f->over && f->error == 0);
	check_file(f);
}

static void a_map_that_lies_begins_anew(void **state)
{
	static const char *const maps[] = { "", "x", "-1\n", "41\n", "999999999999999999999\n", "3\n" };
	struct fixture *f = *state;
	char path[SHA256_HEX + 32];

	for (size_t i = 0; i < ARRAY_LEN(maps); i++) {
		f->over = false;
		assert_int_equal(dir_make_path(&os_posix, f->dirfd, "blobs", 0700), 0);
		snprintf(path, sizeof(path), "blobs/%.64s.part", strrchr(f->name, '/') + 1);
		assert_int_equal(durable_write_file(&os_posix, f->dirfd, path, "short", 5, 0600), 0);
		snprintf(path, sizeof(path), "blobs/%.64s.map", strrchr(f->name, '/') + 1);
		assert_int_equal(durable_write_file(&os_posix, f->dirfd, path, maps[i], strlen(maps[i]), 0600), 0);
		assert_int_equal(blobs_save(f->blobs, 6, f->name, FILE_BYTES), 0);
		run(f, 1000);
		assert_true(f->over && f->error == 0);
		check_file(f);
	}
}

static void another_artifact_takes_the_place_and_a_wrong_length_is_refused(void **state)
{
	struct fixture *f = *state;
	struct name_list names = { 0 };
	char other[] = "targets/web/0000000000000000000000000000000000000000000000000000000000000000.x";

	assert_int_equal(blobs_save(f->blobs, 6, "targets/web/no-digest", 10), -ERR_NAME);
	assert_int_equal(blobs_save(f->blobs, 6, f->name, FILE_BYTES), 0);
	run(f, 2);
	drop_queue(f);
	assert_int_equal(blobs_save(f->blobs, 6, other, FILE_BYTES + 1), 0);
	run(f, 1000);
	assert_true(f->over);
	assert_int_equal(f->error, -ERR_LENGTH);
	assert_int_equal(dir_list(&os_posix, f->dirfd, "blobs", &names), 0);
	for (size_t i = 0; i < names.count; i++)
		assert_int_equal(strncmp(names.names[i], "0000", 4), 0);
	name_list_done(&names);
}

/* --- bytes --- */

static void requests_outside_the_repository_are_none(void **state)
{
	static const char *const bad[] = {
		"",
		"{}",
		"[]",
		"{\"format\":2,\"id\":\"0011223344556677\",\"name\":\"metadata/x\",\"first\":0,\"wanted\":1}",
		"{\"format\":1,\"id\":\"0011223344556677\",\"name\":\"metadata/../x\",\"first\":0,\"wanted\":1}",
		"{\"format\":1,\"id\":\"0011223344556677\",\"name\":\"/etc/passwd\",\"first\":0,\"wanted\":1}",
		"{\"format\":1,\"id\":\"0011223344556677\",\"name\":\"signer/key\",\"first\":0,\"wanted\":1}",
		"{\"format\":1,\"id\":\"00112233445566zz\",\"name\":\"metadata/x\",\"first\":0,\"wanted\":1}",
		"{\"format\":1,\"id\":\"0011223344556677\",\"name\":\"metadata/x\",\"first\":-1,\"wanted\":1}",
		"{\"format\":1,\"id\":\"0011223344556677\",\"name\":\"metadata/x\",\"first\":0,\"wanted\":0}",
		"{\"format\":1,\"id\":\"0011223344556677\",\"name\":\"metadata/x\",\"first\":0,\"wanted\":65536}",
	};
	struct blob_request q;

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_true(blob_request_parse(bad[i], strlen(bad[i]), &q) < 0);
}

static void blocks_that_do_not_fit_their_file_are_none(void **state)
{
	static const char *const bad[] = {
		"",
		"\n",
		"{\"format\":1}\n",
		"{\"format\":1,\"id\":\"0011223344556677\",\"status\":\"ok\",\"length\":3,\"index\":0}abc",
		"{\"format\":1,\"id\":\"0011223344556677\",\"status\":\"ok\",\"length\":3,\"index\":0}\nab",
		"{\"format\":1,\"id\":\"0011223344556677\",\"status\":\"ok\",\"length\":3,\"index\":0}\nabcd",
		"{\"format\":1,\"id\":\"0011223344556677\",\"status\":\"ok\",\"length\":3,\"index\":1}\nabc",
		"{\"format\":1,\"id\":\"0011223344556677\",\"status\":\"ok\",\"length\":3,\"index\":1}\n",
		"{\"format\":1,\"id\":\"0011223344556677\",\"status\":\"maybe\",\"length\":3,\"index\":0}\nabc",
		"{\"format\":1,\"id\":\"0011223344556677\",\"status\":\"busy\",\"length\":3,\"index\":0}\nabc",
	};
	static const char good[] = "{\"format\":1,\"id\":\"0011223344556677\",\"status\":\"ok\",\"length\":3,"
				   "\"index\":0,\"new\":1}\nabc";
	struct blob_block b;

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_true(blob_block_parse(bad[i], strlen(bad[i]), &b) < 0);
	assert_int_equal(blob_block_parse(good, sizeof(good) - 1, &b), 0);
	assert_int_equal(b.len, 3);
}

static void try_it(struct fixture *f, const char *artifact)
{
	f->over = f->tried = false;
	assert_int_equal(trial_begin(&f->trial, f->blobs, 7, artifact), 0);
	run(f, 100);
	assert_true(f->tried);
}

static void a_connection_is_tried_with_two_files(void **state)
{
	struct fixture *f = *state;

	try_it(f, f->name);
	assert_string_equal(f->asked_for, f->name);
	assert_int_equal(f->requests, 2);
	assert_int_equal(f->blocks, 2); /* the first one of each */
	assert_int_equal(f->trial.count, 2);
	assert_int_equal(f->trial.files[0].error, 0);
	assert_int_equal(f->trial.files[1].error, 0);
	assert_int_equal(blobs_next_ms(f->blobs), UINT64_MAX);
	try_it(f, "");
	assert_string_equal(f->asked_for, "metadata/timestamp.json");
	assert_int_equal(f->trial.count, 1);
}

static void who_does_not_answer_is_asked_twice_and_no_more(void **state)
{
	struct fixture *f = *state;
	uint64_t begin = now;

	f->drop_every = 1;
	try_it(f, f->name);
	assert_int_equal(f->requests, 2);
	assert_int_equal(now - begin, BLOBS_LOOK_MS);
	assert_int_equal(f->trial.count, 1); /* the artifact would cost as long and tell nothing new */
	assert_int_equal(f->trial.files[0].error, -ERR_DEADLINE);
	assert_int_equal(f->trial.files[0].ms, BLOBS_LOOK_MS);
	f->drop_every = 0;
	f->exists = false;
	try_it(f, f->name);
	assert_int_equal(f->trial.files[0].error, -ENOENT);
	f->busy = true;
	try_it(f, f->name);
	assert_int_equal(f->trial.files[0].error, -ERR_DEADLINE);
}

static void a_lost_connection_ends_a_trial_at_once(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(trial_begin(&f->trial, f->blobs, 7, f->name), 0);
	drop_queue(f);
	blobs_step(f->blobs, false);
	assert_true(f->tried);
	assert_int_equal(f->trial.files[0].error, -ERR_NETWORK);
}

static void a_trial_is_in_nobodys_way(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(blobs_save(f->blobs, 6, f->name, FILE_BYTES), 0);
	assert_int_equal(trial_begin(&f->trial, f->blobs, 7, f->name), 0);
	while (!f->tried)
		run(f, 1);
	f->over = false;
	run(f, 1000);
	assert_true(f->over && f->error == 0);
	check_file(f);
}

static void what_came_of_a_trial_is_told(void **state)
{
	struct fixture *f = *state;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(8192);
	CLEANUP(json_freep)
	struct json *told = NULL;
	const struct json *second;
	int64_t n = 0;

	try_it(f, f->name);
	f->trial.files[1].error = -ENOENT;
	assert_int_equal(trial_text(&f->trial,
				    &(struct trial_link){ .connected = true,
							  .for_ms = 61999,
							  .heard_ms = 2000,
							  .words = "MQTT 5 \x1b[31m" },
				    &text),
			 0);
	assert_int_equal(json_parse(text.data, text.len, &json_limits_default, &told), 0);
	assert_true(json_bool(json_get(told, "connected"), false));
	assert_false(json_bool(json_get(told, "retained"), true));
	assert_true(json_integer(json_get(told, "for_s"), &n) && n == 61);
	assert_true(json_integer(json_get(told, "heard_s"), &n) && n == 2);
	assert_int_equal(json_count(json_get(told, "files")), 2);
	second = json_at(json_get(told, "files"), 1);
	assert_string_equal(json_string(json_get(second, "name")), f->name);
	assert_true(json_integer(json_get(second, "error"), &n) && n == ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(files_of_every_length_arrive, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_lost_is_asked_for_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(answers_that_are_none_end_it, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_busy_controller_is_waited_for, set_up, tear_down),
		cmocka_unit_test_setup_teardown(an_artifact_goes_on_after_a_restart, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_ceiling_is_kept, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_connection_is_tried_with_two_files, set_up, tear_down),
		cmocka_unit_test_setup_teardown(who_does_not_answer_is_asked_twice_and_no_more, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_lost_connection_ends_a_trial_at_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_trial_is_in_nobodys_way, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_came_of_a_trial_is_told, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_pace_changes_in_the_middle, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_small_has_no_ceiling, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_lost_connection_costs_a_window, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_map_that_lies_begins_anew, set_up, tear_down),
		cmocka_unit_test_setup_teardown(another_artifact_takes_the_place_and_a_wrong_length_is_refused,
						set_up, tear_down),
		cmocka_unit_test(requests_outside_the_repository_are_none),
		cmocka_unit_test(blocks_that_do_not_fit_their_file_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
