/*
 * Any byte of any signed file of a small repository flipped, dropped or doubled:
 * what differs in meaning is never accepted.
 *
 * Files whose hash stands in another one (all but root and timestamp, as our
 * repositories are made) are refused by that alone; the signatures below are tried
 * as well, with one kind of change per byte, and with all of them when
 * SELFRIGHT_TEST_LONG is set.
 */
#include "support/tuf_repo.h"

#include "base/err.h"
#include "json/json.h"
#include "os/durable.h"
#include "tuf/keyring.h"
#include "tuf/metadata.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { FILE_MAX = 1 << 20 };

enum change { FLIP_LOW, FLIP_CASE, FLIP_HIGH, DROP, DOUBLE, CHANGES };

static struct tuf_repo *repo;

static int group_setup(void **state)
{
	struct repo_role *team;

	(void) state;
	repo_clock = REPO_NOW;
	repo = repo_new();
	repo->hashes = true;
	repo_target(repo_role(repo, "targets"), "file", "x")->custom = "{\"a\":[1,true,null,\"b\\\\\"]}";
	team = repo_delegate(repo, "targets", "team", KEYS(1, 5), "[\"team/*\"]");
	repo_target(team, "team/file", "y");
	repo_sign_all(repo, true);
	repo_bump(repo, "root");
	return 0;
}

static int group_teardown(void **state)
{
	(void) state;
	repo_free(repo);
	return 0;
}

static void change(const struct buf *original, size_t at, enum change kind, struct buf *ret)
{
	static const uint8_t masks[] = { [FLIP_LOW] = 0x01, [FLIP_CASE] = 0x20, [FLIP_HIGH] = 0x80 };

	buf_clear(ret);
	assert_int_equal(buf_add(ret, original->data, at), 0);
	if (kind <= FLIP_HIGH)
		assert_int_equal(buf_add_byte(ret, original->data[at] ^ masks[kind]), 0);
	if (kind == DOUBLE) {
		assert_int_equal(buf_add_byte(ret, original->data[at]), 0);
		assert_int_equal(buf_add_byte(ret, original->data[at]), 0);
	}
	assert_int_equal(buf_add(ret, original->data + at + 1, original->len - at - 1), 0);
}

static void meaning(const void *bytes, size_t len, struct buf *ret)
{
	CLEANUP(json_freep)
	struct json *j = NULL;

	assert_int_equal(json_parse(bytes, len, &json_limits_default, &j), 0);
	assert_int_equal(json_canonical(json_get(j, "signed"), ret), 0);
}

static void expect_same_meaning(const struct buf *original, const struct buf *changed)
{
	CLEANUP(buf_done)
	struct buf a = BUF_INIT(FILE_MAX);
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(FILE_MAX);

	meaning(original->data, original->len, &a);
	meaning(changed->data, changed->len, &b);
	assert_int_equal(a.len, b.len);
	assert_memory_equal(a.data, b.data, a.len);
}

static void copy(const char *name, struct buf *ret)
{
	const struct buf *bytes = &repo_file(repo, name)->bytes;

	assert_int_equal(buf_add(ret, bytes->data, bytes->len), 0);
}

/* Through the whole client: what it asks for last is changed, so a refusal costs nothing but a look. */
static void run_client(const char *name)
{
	CLEANUP(buf_done)
	struct buf original = BUF_INIT(FILE_MAX);
	CLEANUP(buf_done)
	struct buf changed = BUF_INIT(FILE_MAX);
	struct repo_client k;
	unsigned accepted = 0;

	copy(name, &original);
	repo_client_new(&k, repo);
	for (size_t at = 0; at < original.len; at++)
		for (int kind = 0; kind < CHANGES; kind++) {
			if (kind > FLIP_LOW && kind < DROP && !getenv("SELFRIGHT_TEST_LONG"))
				continue;
			change(&original, at, (enum change) kind, &changed);
			if (changed.len == original.len && memcmp(changed.data, original.data, changed.len) == 0)
				continue;
			repo_put(repo, name, changed.data, changed.len);
			if (tuf_client_refresh(k.c, &repo->fetcher, NULL) < 0)
				continue;
			expect_same_meaning(&original, &changed);
			accepted++;
			repo_client_free(&k);
			repo_client_new(&k, repo);
		}
	repo_put(repo, name, original.data, original.len);
	assert_int_equal(tuf_client_refresh(k.c, &repo->fetcher, NULL), 0);
	repo_client_free(&k);
	print_message("%s: %u changes left the meaning as it was\n", name, accepted);
}

static void test_root(void **state)
{
	(void) state;
	run_client("2.root.json");
}

static void test_timestamp(void **state)
{
	(void) state;
	/* without a next root, so that each try starts with the timestamp */
	repo_remove(repo, "2.root.json");
	run_client("timestamp.json");
	repo_sign(repo, "root");
}

/* --- files with a hash above them --- */

static void run_hashed(const char *name, const char *lister, const char *role)
{
	CLEANUP(buf_done)
	struct buf original = BUF_INIT(FILE_MAX);
	CLEANUP(buf_done)
	struct buf changed = BUF_INIT(FILE_MAX);
	CLEANUP(metadata_freep)
	struct metadata *above = NULL;
	const struct buf *bytes = &repo_file(repo, lister)->bytes;
	const struct json *entry;

	copy(name, &original);
	assert_int_equal(metadata_read(strstr(lister, "timestamp") ? ROLE_TIMESTAMP : ROLE_SNAPSHOT, bytes->data,
				       bytes->len, &above),
			 0);
	entry = metadata_entry(above, role);
	assert_non_null(entry);
	assert_int_equal(entry_check_bytes(entry, original.data, original.len), 0);
	for (size_t at = 0; at < original.len; at++)
		for (int kind = 0; kind < CHANGES; kind++) {
			change(&original, at, (enum change) kind, &changed);
			assert_true(entry_check_bytes(entry, changed.data, changed.len) < 0);
		}
}

static void test_files_with_a_hash_above_them(void **state)
{
	(void) state;
	run_hashed("1.snapshot.json", "timestamp.json", "snapshot");
	run_hashed("1.targets.json", "1.snapshot.json", "targets");
	run_hashed("1.team.json", "1.snapshot.json", "team");
}

/* --- the signatures alone --- */

static void run_signature(const char *name, enum role_type type, const char *role)
{
	CLEANUP(buf_done)
	struct buf original = BUF_INIT(FILE_MAX);
	CLEANUP(buf_done)
	struct buf changed = BUF_INIT(FILE_MAX);
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	CLEANUP(metadata_freep)
	struct metadata *good = NULL;
	unsigned key = repo_role(repo, role)->signers.ids[0];

	copy(name, &original);
	assert_int_equal(tuf_keyring_single(repo_key_pem(key), &ring), 0);
	assert_int_equal(metadata_accept(type, original.data, original.len, ring, false, &good), 0);
	for (size_t at = 0; at < original.len; at++)
		for (int kind = 0; kind < CHANGES; kind++) {
			struct metadata *m = NULL;

			if ((size_t) kind != at % CHANGES && !getenv("SELFRIGHT_TEST_LONG"))
				continue;
			change(&original, at, (enum change) kind, &changed);
			if (metadata_accept(type, changed.data, changed.len, ring, false, &m) == 0)
				expect_same_meaning(&original, &changed);
			metadata_free(m);
		}
}

static void test_signatures(void **state)
{
	(void) state;
	run_signature("1.snapshot.json", ROLE_SNAPSHOT, "snapshot");
	run_signature("1.targets.json", ROLE_TARGETS, "targets");
	run_signature("1.team.json", ROLE_TARGETS, "team");
}

/* --- files cut short, and others in their place --- */

static void test_files_cut_short(void **state)
{
	CLEANUP(buf_done)
	struct buf original = BUF_INIT(FILE_MAX);
	struct repo_client k;

	(void) state;
	copy("timestamp.json", &original);
	repo_client_new(&k, repo);
	for (size_t len = 0; len < original.len; len++) {
		repo_put(repo, "timestamp.json", original.data, len);
		assert_true(tuf_client_refresh(k.c, &repo->fetcher, NULL) < 0);
		repo_remove(repo, "2.root.json"); /* it has been taken with the first try */
	}
	repo_put(repo, "timestamp.json", original.data, original.len);
	repo_client_free(&k);
	repo_sign(repo, "root");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_root),
		cmocka_unit_test(test_timestamp),
		cmocka_unit_test(test_files_with_a_hash_above_them),
		cmocka_unit_test(test_signatures),
		cmocka_unit_test(test_files_cut_short),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
