/* Key rings, key ids, thresholds, envelopes. */
#include "support/tuf_repo.h"

#include "base/err.h"
#include "crypto/digest.h"
#include "crypto/key.h"
#include "json/json.h"
#include "os/durable.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { TEXT_MAX = 1 << 20 };

static struct json *parse(const char *text)
{
	struct json *j = NULL;

	assert_int_equal(json_parse(text, strlen(text), &json_limits_default, &j), 0);
	return j;
}

/* {"keys":{ids},"threshold":t} */
static void ring_text(struct buf *out, unsigned threshold, size_t count, const unsigned *ids)
{
	assert_int_equal(buf_add_str(out, "{\"keys\":{"), 0);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(buf_addf(out, "%s\"%s\":%s", i ? "," : "", repo_keyid(ids[i]),
					  repo_key_json(ids[i])),
				 0);
	assert_int_equal(buf_addf(out, "},\"threshold\":%u}", threshold), 0);
}

static struct tuf_keyring *ring_of(const char *text, int want)
{
	CLEANUP(json_freep)
	struct json *j = parse(text);
	struct tuf_keyring *ring = NULL;

	assert_int_equal(tuf_keyring_load(j, &ring), want);
	assert_true(want < 0 ? ring == NULL : ring != NULL);
	return ring;
}

static struct tuf_keyring *ring_with(unsigned threshold, size_t count, const unsigned *ids)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(TEXT_MAX);

	ring_text(&text, threshold, count, ids);
	return ring_of(buf_str(&text), 0);
}

static void sign_hex(unsigned id, const char *message, char hex[static 300])
{
	CLEANUP(buf_done)
	struct buf sig = BUF_INIT(149);

	assert_int_equal(private_key_sign(repo_key(id), message, strlen(message), &sig), 0);
	hex_encode(hex, sig.data, sig.len);
}

static int count(const struct tuf_keyring *ring, const char *signatures, const char *message)
{
	CLEANUP(json_freep)
	struct json *j = parse(signatures);
	unsigned valid = 1234;
	int r = tuf_keyring_count(ring, j, message, strlen(message), &valid);

	return r < 0 ? r : (int) valid;
}

static void test_counts_distinct_keys_that_signed(void **state)
{
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = ring_with(2, 3, (const unsigned[]){ 0, 1, 2 });
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(TEXT_MAX);
	char a[300], b[300], stranger[300];

	(void) state;
	assert_int_equal(tuf_keyring_threshold(ring), 2);
	sign_hex(0, "hello", a);
	sign_hex(1, "hello", b);
	sign_hex(9, "hello", stranger);
	assert_int_equal(count(ring, "[]", "hello"), 0);
	assert_int_equal(buf_addf(&text,
				  "[{\"keyid\":\"%s\",\"sig\":\"%s\"},{\"keyid\":\"%s\",\"sig\":\"%s\"},"
				  "{\"keyid\":\"%s\",\"sig\":\"%s\"}]",
				  repo_keyid(0), a, repo_keyid(9), stranger, repo_keyid(1), b),
			 0);
	assert_int_equal(count(ring, buf_str(&text), "hello"), 2);
	assert_int_equal(count(ring, buf_str(&text), "hellO"), 0);
	assert_int_equal(count(ring, "{}", "hello"), -ERR_SYNTAX);
	assert_int_equal(count(ring, "7", "hello"), -ERR_SYNTAX);
}

static void test_odd_signatures_are_passed_over(void **state)
{
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = ring_with(1, 2, (const unsigned[]){ 0, 1 });
	char good[300], upper[300];
	static const char *const odd[] = {
		"7",
		"null",
		"\"text\"",
		"[]",
		"{}",
		"{\"keyid\":7,\"sig\":\"00\"}",
		"{\"sig\":\"00\"}",
		"{\"keyid\":\"%s\"}",
		"{\"keyid\":\"%s\",\"sig\":7}",
		"{\"keyid\":\"%s\",\"sig\":\"\"}",
		"{\"keyid\":\"%s\",\"sig\":\"0\"}",
		"{\"keyid\":\"%s\",\"sig\":\"zz\"}",
		"{\"keyid\":\"%s\",\"sig\":\"00\"}",
		"{\"keyid\":\"%s\",\"sig\":\"3006020100020100\"}",
		"{\"keyid\":\"\",\"sig\":\"00\"}",
	};

	(void) state;
	sign_hex(0, "m", good);
	for (size_t i = 0; i <= strlen(good); i++)
		upper[i] = (char) (good[i] >= 'a' && good[i] <= 'f' ? good[i] - 32 : good[i]);
	for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
		CLEANUP(buf_done)
		struct buf text = BUF_INIT(TEXT_MAX);
		const char *split = strstr(odd[i], "%s");
		int before = split ? (int) (split - odd[i]) : (int) strlen(odd[i]);

		assert_int_equal(buf_addf(&text, "[%.*s%s%s,{\"keyid\":\"%s\",\"sig\":\"%s\"}]", before, odd[i],
					  split ? repo_keyid(1) : "", split ? split + 2 : "", repo_keyid(0),
					  upper),
				 0);
		assert_int_equal(count(ring, buf_str(&text), "m"), 1);
	}
}

static void test_a_doubled_keyid_is_fatal(void **state)
{
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = ring_with(2, 2, (const unsigned[]){ 0, 1 });
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(TEXT_MAX);
	char a[300], b[300];

	(void) state;
	sign_hex(0, "m", a);
	sign_hex(0, "m", b); /* another signature of the same key */
	assert_int_equal(buf_addf(&text, "[{\"keyid\":\"%s\",\"sig\":\"%s\"},{\"keyid\":\"%s\",\"sig\":\"%s\"}]",
				  repo_keyid(0), a, repo_keyid(0), b),
			 0);
	assert_int_equal(count(ring, buf_str(&text), "m"), -ERR_SYNTAX);
	assert_int_equal(count(ring, "[{\"keyid\":\"x\",\"sig\":\"\"},{\"keyid\":\"x\",\"sig\":\"\"}]", "m"),
			 -ERR_SYNTAX);
}

/* The same key object with one more member has another id, and is the same key. */
static void twin(unsigned id, struct buf *json, char keyid[static SHA256_HEX + 1])
{
	CLEANUP(buf_done)
	struct buf canonical = BUF_INIT(TEXT_MAX);
	CLEANUP(json_freep)
	struct json *j = NULL;
	const char *text = repo_key_json(id);

	assert_int_equal(buf_addf(json, "{\"x-note\":\"twin\",%s", text + 1), 0);
	j = parse(buf_str(json));
	assert_int_equal(json_canonical(j, &canonical), 0);
	assert_int_equal(sha256_hex(canonical.data, canonical.len, keyid), 0);
}

static void test_the_same_key_under_two_ids_counts_once(void **state)
{
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	CLEANUP(buf_done)
	struct buf other = BUF_INIT(TEXT_MAX);
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(TEXT_MAX);
	char id[SHA256_HEX + 1], a[300], b[300];

	(void) state;
	twin(0, &other, id);
	assert_string_not_equal(id, repo_keyid(0));
	assert_int_equal(buf_addf(&text, "{\"keys\":{\"%s\":%s,\"%s\":%s},\"threshold\":2}", repo_keyid(0),
				  repo_key_json(0), id, buf_str(&other)),
			 0);
	ring = ring_of(buf_str(&text), 0);
	sign_hex(0, "m", a);
	sign_hex(0, "m", b);
	buf_clear(&text);
	assert_int_equal(buf_addf(&text, "[{\"keyid\":\"%s\",\"sig\":\"%s\"},{\"keyid\":\"%s\",\"sig\":\"%s\"}]",
				  repo_keyid(0), a, id, b),
			 0);
	assert_int_equal(count(ring, buf_str(&text), "m"), 1);
}

static void test_key_ids_are_recomputed(void **state)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(TEXT_MAX);
	CLEANUP(buf_done)
	struct buf other = BUF_INIT(TEXT_MAX);
	char id[SHA256_HEX + 1];

	(void) state;
	/* another key's id; a made-up one; the id of the key without its further member */
	assert_int_equal(buf_addf(&text, "{\"keys\":{\"%s\":%s},\"threshold\":1}", repo_keyid(1),
				  repo_key_json(0)),
			 0);
	assert_null(ring_of(buf_str(&text), -ERR_KEYID));
	buf_clear(&text);
	assert_int_equal(buf_addf(&text, "{\"keys\":{\"key-0\":%s},\"threshold\":1}", repo_key_json(0)), 0);
	assert_null(ring_of(buf_str(&text), -ERR_KEYID));
	buf_clear(&text);
	twin(0, &other, id);
	assert_int_equal(buf_addf(&text, "{\"keys\":{\"%s\":%s},\"threshold\":1}", repo_keyid(0), buf_str(&other)),
			 0);
	assert_null(ring_of(buf_str(&text), -ERR_KEYID));
}

static void test_malformed_rings_are_refused(void **state)
{
	static const struct {
		const char *text;
		int want;
	} cases[] = {
		{ "7", -ERR_FIELD_TYPE },
		{ "{}", -ERR_FIELD_MISSING },
		{ "{\"keys\":[],\"threshold\":1}", -ERR_FIELD_TYPE },
		{ "{\"keys\":{}}", -ERR_FIELD_MISSING },
		{ "{\"keys\":{},\"threshold\":0}", -ERR_FIELD_VALUE },
		{ "{\"keys\":{},\"threshold\":-1}", -ERR_FIELD_VALUE },
		{ "{\"keys\":{},\"threshold\":\"1\"}", -ERR_FIELD_TYPE },
		{ "{\"keys\":{\"a\":7},\"threshold\":1}", -ERR_FIELD_TYPE },
		{ "{\"keys\":{\"a\":{}},\"threshold\":1}", -ERR_FIELD_MISSING },
		{ "{\"keys\":{\"a\":{\"keytype\":\"e\",\"scheme\":\"e\",\"keyval\":\"\"}},\"threshold\":1}",
		  -ERR_FIELD_TYPE },
		{ "{\"keys\":{\"a\":{\"keytype\":\"e\",\"scheme\":\"e\",\"keyval\":{}}},\"threshold\":1}",
		  -ERR_FIELD_MISSING },
		{ "{\"keys\":{},\"keyids\":[\"a\",\"a\"],\"threshold\":1}", -ERR_DUPLICATE_NAME },
		{ "{\"keys\":{},\"keyids\":[7],\"threshold\":1}", -ERR_FIELD_TYPE },
		{ "{\"keys\":{},\"keyids\":{},\"threshold\":1}", -ERR_FIELD_TYPE },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_null(ring_of(cases[i].text, cases[i].want));
}

static void test_keyids_choose_among_the_keys(void **state)
{
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(TEXT_MAX);
	char a[300], b[300];

	(void) state;
	assert_int_equal(
		buf_addf(&text,
			 "{\"keys\":{\"%s\":%s,\"%s\":%s},\"keyids\":[\"%s\",\"not-there\"],\"threshold\":1}",
			 repo_keyid(0), repo_key_json(0), repo_keyid(1), repo_key_json(1), repo_keyid(1)),
		0);
	ring = ring_of(buf_str(&text), 0);
	sign_hex(0, "m", a);
	sign_hex(1, "m", b);
	buf_clear(&text);
	assert_int_equal(buf_addf(&text, "[{\"keyid\":\"%s\",\"sig\":\"%s\"}]", repo_keyid(0), a), 0);
	assert_int_equal(count(ring, buf_str(&text), "m"), 0);
	buf_clear(&text);
	assert_int_equal(buf_addf(&text, "[{\"keyid\":\"%s\",\"sig\":\"%s\"}]", repo_keyid(1), b), 0);
	assert_int_equal(count(ring, buf_str(&text), "m"), 1);
}

static void test_keys_of_schemes_we_do_not_take_count_for_nothing(void **state)
{
	static const char key[] = "{\"keytype\":\"future\",\"keyval\":{\"public\":\"x\"},\"scheme\":\"future-1\"}";
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(TEXT_MAX);
	char id[SHA256_HEX + 1], a[300];

	(void) state;
	assert_int_equal(sha256_hex(key, strlen(key), id), 0); /* it is canonical as it stands */
	assert_int_equal(buf_addf(&text, "{\"keys\":{\"%s\":%s,\"%s\":%s},\"threshold\":1}", id, key,
				  repo_keyid(0), repo_key_json(0)),
			 0);
	ring = ring_of(buf_str(&text), 0);
	sign_hex(0, "m", a);
	buf_clear(&text);
	assert_int_equal(buf_addf(&text, "[{\"keyid\":\"%s\",\"sig\":\"00\"},{\"keyid\":\"%s\",\"sig\":\"%s\"}]",
				  id, repo_keyid(0), a),
			 0);
	assert_int_equal(count(ring, buf_str(&text), "m"), 1);
}

/* --- roots of other makes --- */

struct folder {
	char dir[32];
	struct tuf_options o;
	struct tuf_client *c;
};

static void folder_open(struct folder *f, bool foreign)
{
	(void) snprintf(f->dir, sizeof(f->dir), "/tmp/tuf-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->o = (struct tuf_options){ .os = &os_posix, .limits = tuf_limits_default, .foreign_keyids = foreign };
	f->o.dirfd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(f->o.dirfd >= 0);
	assert_int_equal(tuf_client_open(&f->o, &f->c), 0);
}

static void folder_close(struct folder *f)
{
	tuf_client_close(f->c);
	assert_int_equal(close(f->o.dirfd), 0);
	assert_int_equal(tree_remove(&os_posix, AT_FDCWD, f->dir), 0);
}

static void read_vector(const char *name, struct buf *ret)
{
	char path[512];

	(void) snprintf(path, sizeof(path), "%s/unit/data/%s", TESTS_DIR, name);
	assert_int_equal(file_read(&os_posix, AT_FDCWD, path, TEXT_MAX, ret), 0);
}

static void test_a_root_signed_with_every_scheme(void **state)
{
	CLEANUP(buf_done)
	struct buf root = BUF_INIT(TEXT_MAX);
	struct folder f;
	char *sig;

	(void) state;
	read_vector("tuf_schemes_root.json", &root);
	folder_open(&f, false);
	assert_int_equal(tuf_client_init(f.c, root.data, root.len), 0); /* four of four: all schemes verify */
	/* and each of the four is needed */
	sig = (char *) root.data;
	for (int i = 0; i < 4; i++) {
		sig = strstr(sig, "\"sig\": \"");
		assert_non_null(sig);
		sig += strlen("\"sig\": \"") + 20;
		*sig = *sig == '0' ? '1' : '0';
		assert_int_equal(tuf_client_init(f.c, root.data, root.len), -ERR_THRESHOLD);
		*sig = *sig == '0' ? '1' : '0';
	}
	folder_close(&f);
}

static void test_foreign_key_ids(void **state)
{
	struct tuf_repo *r = repo_new();
	CLEANUP(buf_done)
	struct buf keys = BUF_INIT(TEXT_MAX);
	CLEANUP(buf_done)
	struct buf other = BUF_INIT(TEXT_MAX);
	struct folder strict, foreign;
	char id[SHA256_HEX + 1];
	const struct buf *root;

	(void) state;
	/* key 0 with a member that its id does not cover, as some repositories have it */
	twin(0, &other, id);
	assert_int_equal(buf_addf(&keys, "{\"%s\":%s,\"%s\":%s,\"%s\":%s,\"%s\":%s}", repo_keyid(0),
				  buf_str(&other), repo_keyid(1), repo_key_json(1), repo_keyid(2),
				  repo_key_json(2), repo_keyid(3), repo_key_json(3)),
			 0);
	repo_role(r, "root")->keys_override = buf_str(&keys);
	repo_sign(r, "root");
	root = &repo_file(r, "1.root.json")->bytes;
	folder_open(&strict, false);
	folder_open(&foreign, true);
	assert_int_equal(tuf_client_init(strict.c, root->data, root->len), -ERR_KEYID);
	assert_int_equal(tuf_client_init(foreign.c, root->data, root->len), 0);
	/* they are recomputed all the same */
	buf_clear(&keys);
	assert_int_equal(buf_addf(&keys, "{\"%s\":%s,\"%s\":%s,\"%s\":%s,\"%s\":%s}", repo_keyid(0),
				  repo_key_json(1), repo_keyid(1), repo_key_json(0), repo_keyid(2),
				  repo_key_json(2), repo_keyid(3), repo_key_json(3)),
			 0);
	repo_sign(r, "root");
	root = &repo_file(r, "1.root.json")->bytes;
	assert_int_equal(tuf_client_init(foreign.c, root->data, root->len), -ERR_KEYID);
	folder_close(&strict);
	folder_close(&foreign);
	repo_free(r);
}

/* --- envelopes --- */

static void test_envelopes_open_as_they_were_signed(void **state)
{
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *two = ring_with(2, 2, (const unsigned[]){ 0, 1 });
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *single = NULL;
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *stranger = NULL;
	CLEANUP(json_freep)
	struct json *body =
		parse("{\"node\":\"n1\",\"text\":\"line\\nquote \\\" back \\\\ \\u00e4\",\"n\":[1,-2,null]}");
	CLEANUP(json_freep)
	struct json *opened = NULL;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(TEXT_MAX);
	CLEANUP(buf_done)
	struct buf a = BUF_INIT(TEXT_MAX);
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(TEXT_MAX);
	const struct private_key *keys[] = { repo_key(0), repo_key(1) };

	(void) state;
	assert_int_equal(tuf_envelope_sign(body, keys, 2, &text), 0);
	assert_int_equal(tuf_envelope_open(text.data, text.len, two, &opened), 0);
	assert_int_equal(json_canonical(body, &a), 0);
	assert_int_equal(json_canonical(json_get(opened, "signed"), &b), 0);
	assert_string_equal(buf_str(&a), buf_str(&b));
	json_free(opened);
	opened = NULL;

	assert_int_equal(tuf_keyring_single(repo_key_pem(1), &single), 0);
	assert_int_equal(tuf_keyring_threshold(single), 1);
	assert_int_equal(tuf_envelope_open(text.data, text.len, single, &opened), 0);
	json_free(opened);
	opened = NULL;
	assert_int_equal(tuf_keyring_single(repo_key_pem(2), &stranger), 0);
	assert_int_equal(tuf_envelope_open(text.data, text.len, stranger, &opened), -ERR_THRESHOLD);

	buf_clear(&text);
	assert_int_equal(tuf_envelope_sign(body, keys, 1, &text), 0);
	assert_int_equal(tuf_envelope_open(text.data, text.len, two, &opened), -ERR_THRESHOLD);
	assert_null(opened);
}

static void test_envelopes_that_are_none(void **state)
{
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = ring_with(1, 1, (const unsigned[]){ 0 });
	static const struct {
		const char *text;
		int want;
	} cases[] = {
		{ "", -ERR_SYNTAX },
		{ "{", -ERR_SYNTAX },
		{ "{}", -ERR_FIELD_MISSING },
		{ "[]", -ERR_FIELD_MISSING },
		{ "{\"signed\":{}}", -ERR_FIELD_MISSING },
		{ "{\"signed\":[],\"signatures\":[]}", -ERR_FIELD_TYPE },
		{ "{\"signed\":{},\"signatures\":{}}", -ERR_FIELD_TYPE },
		{ "{\"signed\":{},\"signatures\":[]}", -ERR_THRESHOLD },
		{ "{\"signed\":{},\"signatures\":[],\"signatures\":[]}", -ERR_DUPLICATE_NAME },
		{ "{\"signed\":{},\"signatures\":[]} x", -ERR_TRAILING },
		{ "{\"signed\":{\"a\":1.5},\"signatures\":[]}", -ERR_NUMBER },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct json *j = NULL;

		assert_int_equal(tuf_envelope_open(cases[i].text, strlen(cases[i].text), ring, &j), cases[i].want);
		assert_null(j);
	}
}

static void test_a_key_described_is_a_key_of_a_ring(void **state)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(TEXT_MAX);
	CLEANUP(buf_done)
	struct buf json = BUF_INIT(TEXT_MAX);
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	char id[SHA256_HEX + 1] = "untouched";

	(void) state;
	assert_int_equal(tuf_key_describe("no pem", &json, id), -ERR_KEY);
	assert_string_equal(id, "untouched");
	assert_int_equal(tuf_key_describe(repo_key_pem(4), &json, id), 0);
	assert_string_equal(id, repo_keyid(4));
	assert_int_equal(buf_addf(&text, "{\"keys\":{\"%s\":%s},\"threshold\":1}", id, buf_str(&json)), 0);
	ring = ring_of(buf_str(&text), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts_distinct_keys_that_signed),
		cmocka_unit_test(test_odd_signatures_are_passed_over),
		cmocka_unit_test(test_a_doubled_keyid_is_fatal),
		cmocka_unit_test(test_the_same_key_under_two_ids_counts_once),
		cmocka_unit_test(test_key_ids_are_recomputed),
		cmocka_unit_test(test_malformed_rings_are_refused),
		cmocka_unit_test(test_keyids_choose_among_the_keys),
		cmocka_unit_test(test_keys_of_schemes_we_do_not_take_count_for_nothing),
		cmocka_unit_test(test_a_root_signed_with_every_scheme),
		cmocka_unit_test(test_foreign_key_ids),
		cmocka_unit_test(test_envelopes_open_as_they_were_signed),
		cmocka_unit_test(test_envelopes_that_are_none),
		cmocka_unit_test(test_a_key_described_is_a_key_of_a_ring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
