/* The search through delegations: order, patterns, bins, caps, and whose keys count. */
#include "support/tuf_repo.h"

#include "base/err.h"
#include "crypto/digest.h"
#include "json/json.h"
#include "os/durable.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
	struct tuf_repo *r;
	struct repo_client k;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	repo_clock = REPO_NOW;
	f->r = repo_new();
	repo_client_new(&f->k, f->r);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	repo_client_free(&f->k);
	repo_free(f->r);
	free(f);
	return 0;
}

/* Sign all that was built, refresh, forget the requests for it. */
static void publish(struct fixture *f)
{
	for (struct repo_role *role = f->r->roles; role; role = role->next)
		if (strcmp(role->name, "root") != 0 && role->version > 1)
			role->version++;
	repo_role(f->r, "targets")->version++;
	repo_role(f->r, "snapshot")->version++;
	repo_role(f->r, "timestamp")->version++;
	repo_sign_all(f->r, false);
	assert_int_equal(tuf_client_refresh(f->k.c, &f->r->fetcher, NULL), 0);
	repo_clear_log(f->r);
}

static int find(struct fixture *f, const char *path)
{
	struct tuf_target t;

	return tuf_client_find(f->k.c, &f->r->fetcher, path, &t);
}

static void expect_role(struct fixture *f, const char *path, const char *role)
{
	struct tuf_target t;

	assert_int_equal(tuf_client_find(f->k.c, &f->r->fetcher, path, &t), 0);
	assert_string_equal(t.role, role);
	assert_string_equal(t.path, path);
}

/* --- order --- */

struct edge {
	const char *from, *to;
	bool terminating;
	const char *paths; /* NULL: "*" */
};

struct graph {
	const char *name;
	struct edge edges[8];
	const char *visited;
};

static const struct graph graphs[] = {
	{ "one", { { "targets", "A", false, NULL } }, "A" },
	{ "two beside each other", { { "targets", "A", false, NULL }, { "targets", "B", false, NULL } }, "AB" },
	{ "pre-order",
	  { { "targets", "A", false, NULL },
	    { "targets", "B", false, NULL },
	    { "A", "C", false, NULL },
	    { "A", "D", false, NULL } },
	  "ACDB" },
	{ "depth first",
	  { { "targets", "A", false, NULL },
	    { "targets", "B", false, NULL },
	    { "A", "C", false, NULL },
	    { "C", "D", false, NULL } },
	  "ACDB" },
	{ "terminating ends everything behind it",
	  { { "targets", "A", false, NULL },
	    { "targets", "B", false, NULL },
	    { "A", "C", true, NULL },
	    { "A", "D", false, NULL } },
	  "AC" },
	{ "but not what is below it",
	  { { "targets", "A", false, NULL },
	    { "targets", "B", false, NULL },
	    { "A", "C", true, NULL },
	    { "C", "D", false, NULL } },
	  "ACD" },
	{ "a terminating role that does not match ends nothing",
	  { { "targets", "A", true, "[\"*.py\"]" }, { "targets", "B", false, NULL } },
	  "B" },
	{ "a branch that does not match is left out with all below it",
	  { { "targets", "A", false, "[\"*.py\"]" }, { "targets", "B", false, NULL }, { "A", "C", false, NULL } },
	  "B" },
	{ "also deeper",
	  { { "targets", "A", false, NULL },
	    { "targets", "B", false, NULL },
	    { "A", "C", false, "[\"*.py\"]" },
	    { "C", "D", false, NULL } },
	  "AB" },
	{ "a cycle",
	  { { "targets", "A", false, NULL },
	    { "targets", "B", false, NULL },
	    { "B", "C", false, NULL },
	    { "C", "D", false, NULL },
	    { "D", "B", false, NULL } },
	  "ABCD" },
	{ "a role delegating to itself", { { "targets", "A", false, NULL }, { "A", "A", false, NULL } }, "A" },
	{ "two parents: the first path counts",
	  { { "targets", "A", false, NULL },
	    { "targets", "B", false, NULL },
	    { "B", "C", false, NULL },
	    { "A", "C", false, NULL } },
	  "ACB" },
	{ "two parents with different paths",
	  { { "targets", "A", false, NULL },
	    { "targets", "B", false, NULL },
	    { "B", "C", false, NULL },
	    { "A", "C", false, "[\"*.py\"]" } },
	  "ABC" },
	{ "no paths at all", { { "targets", "A", false, "[]" } }, "" },
};

static void run_graph(const struct graph *g)
{
	CLEANUP(buf_done)
	struct buf want = BUF_INIT(4096);
	void *state = NULL;
	struct fixture *f;

	assert_int_equal(setup(&state), 0);
	f = state;
	for (size_t i = 0; i < ARRAY_LEN(g->edges) && g->edges[i].from; i++) {
		const struct edge *e = &g->edges[i];

		/* one key for all, so that only the order is tested */
		(void) repo_delegate(f->r, e->from, e->to, KEYS(1, 5), e->paths ? e->paths : "[\"*\"]");
		repo_delegation(f->r, e->from, e->to)->terminating = e->terminating;
	}
	publish(f);
	assert_int_equal(find(f, "missing"), -ERR_NOT_LISTED);
	for (const char *p = g->visited; *p; p++)
		assert_int_equal(buf_addf(&want, "1.%c.json\n", *p), 0);
	if (strcmp(buf_str(&f->r->log), buf_str(&want)) != 0)
		print_error("graph: %s\n", g->name);
	assert_string_equal(buf_str(&f->r->log), buf_str(&want));
	/* nothing is asked for twice in a run, whatever is looked for */
	assert_int_equal(find(f, "missing"), -ERR_NOT_LISTED);
	assert_string_equal(buf_str(&f->r->log), buf_str(&want));
	/* nor in the next one */
	repo_client_reopen(&f->k);
	assert_int_equal(tuf_client_refresh(f->k.c, &f->r->fetcher, NULL), 0);
	repo_clear_log(f->r);
	assert_int_equal(find(f, "missing"), -ERR_NOT_LISTED);
	assert_string_equal(buf_str(&f->r->log), "");
	assert_int_equal(teardown(&state), 0);
}

static void test_order_of_the_search(void **state)
{
	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(graphs); i++)
		run_graph(&graphs[i]);
}

static void test_first_in_order_wins(void **state)
{
	struct fixture *f = *state;

	repo_target(repo_delegate(f->r, "targets", "A", KEYS(1, 5), "[\"x/*\"]"), "x/1", "from A");
	repo_target(repo_delegate(f->r, "targets", "B", KEYS(1, 6), "[\"*/*\"]"), "x/1", "from B");
	repo_target(repo_role(f->r, "B"), "y/1", "y");
	publish(f);
	expect_role(f, "x/1", "A");
	expect_role(f, "y/1", "B");
	repo_target(repo_role(f->r, "targets"), "x/1", "from targets");
	publish(f);
	expect_role(f, "x/1", "targets");
}

/* --- paths --- */

static void test_patterns_at_every_hop(void **state)
{
	struct fixture *f = *state;

	repo_target(repo_delegate(f->r, "targets", "A", KEYS(1, 5), "[\"*.doc\",\"*.md\"]"), "README.md", "a");
	(void) repo_delegate(f->r, "targets", "B", KEYS(1, 6), "[\"releases/*/*\"]");
	repo_target(repo_delegate(f->r, "B", "C", KEYS(1, 7), "[\"releases/x/*\"]"), "releases/x/v1", "x");
	repo_target(repo_delegate(f->r, "B", "D", KEYS(1, 8), "[\"releases/y/v?.zip\"]"), "releases/y/v1.zip",
		    "y");
	repo_target(repo_role(f->r, "D"), "releases/z/v1.zip", "not given");
	repo_target(repo_role(f->r, "D"), "releases/y/v11.zip", "? is one character");
	repo_target(repo_role(f->r, "C"), "releases/x/deep/v1", "* does not cross /");
	publish(f);
	expect_role(f, "README.md", "A");
	expect_role(f, "releases/x/v1", "C");
	expect_role(f, "releases/y/v1.zip", "D");
	assert_int_equal(find(f, "releases/z/v1.zip"), -ERR_NOT_LISTED);
	assert_int_equal(find(f, "releases/y/v11.zip"), -ERR_NOT_LISTED);
	assert_int_equal(find(f, "releases/x/deep/v1"), -ERR_NOT_LISTED);
	assert_int_equal(find(f, "dir/README.md"), -ERR_NOT_LISTED);
}

static void test_path_hash_prefixes(void **state)
{
	struct fixture *f = *state;
	char hex[SHA256_HEX + 1], mine[64], other[64];
	struct repo_delegation *d;

	assert_int_equal(sha256_hex("some/file", 9, hex), 0);
	(void) snprintf(mine, sizeof(mine), "[\"ffffffff\",\"%.5s\"]", hex);
	(void) snprintf(other, sizeof(other), "[\"%.4s%c\"]", hex, hex[4] == '0' ? '1' : '0');
	repo_target(repo_delegate(f->r, "targets", "other", KEYS(1, 6), NULL), "some/file", "no");
	repo_delegation(f->r, "targets", "other")->prefixes = other;
	repo_target(repo_delegate(f->r, "targets", "mine", KEYS(1, 5), NULL), "some/file", "yes");
	d = repo_delegation(f->r, "targets", "mine");
	d->prefixes = mine;
	publish(f);
	expect_role(f, "some/file", "mine");
	assert_string_equal(buf_str(&f->r->log), "1.mine.json\n");
}

static void test_succinct_bins(void **state)
{
	struct fixture *f = *state;
	static const struct {
		const char *succinct;
		unsigned bits, digits;
	} cases[] = {
		{ "\"bit_length\":1,\"name_prefix\":\"bin\"", 1, 1 },
		{ "\"bit_length\":4,\"name_prefix\":\"bin\"", 4, 1 },
		{ "\"bit_length\":5,\"name_prefix\":\"bin\"", 5, 2 },
		{ "\"bit_length\":32,\"name_prefix\":\"bin\"", 32, 8 },
	};
	struct repo_role *targets = repo_role(f->r, "targets");

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		static const char path[] = "file7.txt";
		uint8_t digest[SHA256_BYTES];
		struct repo_role *bin;
		uint32_t leading;
		char name[32], log[64];

		assert_int_equal(sha256_of(path, strlen(path), digest), 0);
		leading = (uint32_t) digest[0] << 24 | (uint32_t) digest[1] << 16 | (uint32_t) digest[2] << 8 |
			  digest[3];
		(void) snprintf(name, sizeof(name), "bin-%0*x", (int) cases[i].digits,
				leading >> (32 - cases[i].bits));
		targets->succinct = cases[i].succinct;
		targets->succinct_keys = KEYS(1, 5);
		/* made by a delegation that is then taken back: a role of this name with this file */
		bin = repo_delegate(f->r, "targets", name, KEYS(1, 5), NULL);
		targets->delegation_count = 0;
		repo_target(bin, path, "binned");
		publish(f);
		expect_role(f, path, name);
		(void) snprintf(log, sizeof(log), "1.%s.json\n", name);
		assert_string_equal(buf_str(&f->r->log), log);
	}
}

static void test_succinct_bin_signed_by_others_is_refused(void **state)
{
	struct fixture *f = *state;
	struct repo_role *targets = repo_role(f->r, "targets"), *bin[2];

	targets->succinct = "\"bit_length\":1,\"name_prefix\":\"b\"";
	targets->succinct_keys = KEYS(1, 5);
	for (int i = 0; i < 2; i++) {
		bin[i] = repo_delegate(f->r, "targets", i ? "b-1" : "b-0", KEYS(1, 6), NULL);
		repo_target(bin[i], "file", "x");
	}
	targets->delegation_count = 0;
	publish(f);
	assert_int_equal(find(f, "file"), -ERR_THRESHOLD);
}

/* --- whose keys --- */

static void test_role_with_two_parents_is_verified_with_the_keys_of_the_path(void **state)
{
	struct fixture *f = *state;
	struct repo_role *c;

	(void) repo_delegate(f->r, "targets", "A", KEYS(1, 5), "[\"a/*\",\"both/*\"]");
	(void) repo_delegate(f->r, "targets", "B", KEYS(1, 6), "[\"b/*\",\"both/*\"]");
	c = repo_delegate(f->r, "A", "C", KEYS(1, 7), "[\"*/*\"]");
	(void) repo_delegate(f->r, "B", "C", KEYS(1, 8), "[\"*/*\"]"); /* other keys for the same role */
	repo_target(c, "a/file", "a");
	repo_target(c, "b/file", "b");
	publish(f);
	/* signed by the key A names: good by way of A, never by way of B, in whatever order */
	expect_role(f, "a/file", "C");
	assert_int_equal(find(f, "b/file"), -ERR_THRESHOLD);
	expect_role(f, "a/file", "C");
	assert_int_equal(repo_file(f->r, "1.C.json")->requests, 1);

	repo_client_reopen(&f->k); /* the folder's copy is no better */
	assert_int_equal(tuf_client_refresh(f->k.c, &f->r->fetcher, NULL), 0);
	expect_role(f, "a/file", "C");
	assert_int_equal(find(f, "b/file"), -ERR_THRESHOLD);
	repo_client_reopen(&f->k);
	assert_int_equal(tuf_client_refresh(f->k.c, &f->r->fetcher, NULL), 0);
	assert_int_equal(find(f, "b/file"), -ERR_THRESHOLD);
	expect_role(f, "a/file", "C");

	c->signers = KEYS(1, 7, 8);
	c->version = 2;
	publish(f);
	expect_role(f, "b/file", "C");
	expect_role(f, "a/file", "C");
}

static void test_delegated_thresholds(void **state)
{
	struct fixture *f = *state;
	struct repo_role *team = repo_delegate(f->r, "targets", "team", KEYS(2, 5, 6, 7), "[\"team/*\"]");

	repo_target(team, "team/file", "x");
	team->signers = KEYS(1, 6);
	publish(f);
	assert_int_equal(find(f, "team/file"), -ERR_THRESHOLD);
	assert_int_equal(repo_stored_version(&f->k, "team.json"), 0);
	team->signers = KEYS(1, 6, 3, 2); /* strangers do not help */
	team->version = 2;
	publish(f);
	assert_int_equal(find(f, "team/file"), -ERR_THRESHOLD);
	team->signers = KEYS(1, 7, 5);
	publish(f);
	expect_role(f, "team/file", "team");
	assert_int_equal(repo_stored_version(&f->k, "team.json"), 4);
}

static void test_rotated_delegated_keys(void **state)
{
	struct fixture *f = *state;
	struct repo_role *team = repo_delegate(f->r, "targets", "team", KEYS(1, 5), "[\"team/*\"]");

	repo_target(team, "team/file", "x");
	publish(f);
	expect_role(f, "team/file", "team");
	repo_delegation(f->r, "targets", "team")->keys = KEYS(1, 6);
	publish(f); /* the role's file is the old one, under the old key */
	assert_int_equal(find(f, "team/file"), -ERR_THRESHOLD);
	team->signers = KEYS(1, 6);
	team->version = 2;
	publish(f);
	expect_role(f, "team/file", "team");
}

/* --- failures end the search --- */

static void test_a_role_that_cannot_be_had_ends_the_search(void **state)
{
	struct fixture *f = *state;

	(void) repo_delegate(f->r, "targets", "A", KEYS(1, 5), "[\"*\"]");
	repo_target(repo_delegate(f->r, "targets", "B", KEYS(1, 6), "[\"*\"]"), "file", "from the second");
	publish(f);
	f->r->failing = "1.A.json";
	f->r->failure = -ERR_NETWORK;
	assert_int_equal(find(f, "file"), -ERR_NETWORK);
	assert_string_equal(buf_str(&f->r->log), "1.A.json\n");
	assert_non_null(strstr(tuf_client_error(f->k.c), "1.A.json"));
	/* asked for once between two refreshes */
	f->r->failing = NULL;
	assert_int_equal(find(f, "file"), -ERR_NETWORK);
	assert_string_equal(buf_str(&f->r->log), "1.A.json\n");
	assert_int_equal(tuf_client_refresh(f->k.c, &f->r->fetcher, NULL), 0);
	expect_role(f, "file", "B");
}

static void test_a_role_the_snapshot_does_not_list_ends_the_search(void **state)
{
	struct fixture *f = *state;

	(void) repo_delegate(f->r, "targets", "A", KEYS(1, 5), "[\"*\"]");
	repo_role(f->r, "snapshot")->signed_override = "{\"_type\":\"snapshot\",\"spec_version\":\"1.0.34\","
						       "\"version\":2,\"expires\":\"2027-02-01T00:00:00Z\","
						       "\"meta\":{\"targets.json\":{\"version\":2}}}";
	publish(f);
	assert_int_equal(find(f, "file"), -ERR_FIELD_MISSING);
	assert_string_equal(tuf_client_error(f->k.c), "snapshot.json: does not list a delegated role");
	assert_string_equal(buf_str(&f->r->log), "");
}

static void test_versions_and_hashes_of_delegated_roles(void **state)
{
	struct fixture *f = *state;
	struct repo_role *team = repo_delegate(f->r, "targets", "team", KEYS(1, 5), "[\"*\"]");

	for (int hashes = 0; hashes < 2; hashes++) {
		char old[32], name[32];
		int r;

		f->r->hashes = hashes;
		repo_target(team, "file", "x");
		publish(f);
		expect_role(f, "file", "team");
		(void) snprintf(old, sizeof(old), "%d.team.json", (int) team->version);
		team->version++;
		publish(f);
		(void) snprintf(name, sizeof(name), "%d.team.json", (int) team->version);
		repo_put(f->r, name, repo_file(f->r, old)->bytes.data, repo_file(f->r, old)->bytes.len);
		r = find(f, "file");
		/* signatures differ in length, so with hashes the length may tell before the digest */
		assert_true(hashes ? r == -ERR_DIGEST || r == -ERR_LENGTH || r == -ERR_TOO_LARGE
				   : r == -ERR_VERSION);
		team->version++;
		publish(f);
		expect_role(f, "file", "team");
	}
}

static void test_cap_on_roles_visited(void **state)
{
	struct fixture *f = *state;
	char last[16] = "targets";

	for (unsigned i = 0; i < 6; i++) {
		char name[16];

		(void) snprintf(name, sizeof(name), "r%u", i);
		(void) repo_delegate(f->r, last, name, KEYS(1, 5), "[\"*\"]");
		memcpy(last, name, sizeof(last));
	}
	repo_target(repo_role(f->r, "r5"), "deep", "x");
	f->k.options.limits.roles_visited = 6; /* targets and r0 to r4 */
	repo_client_reopen(&f->k);
	publish(f);
	assert_int_equal(find(f, "deep"), -ERR_TOO_LARGE);
	assert_null(strstr(buf_str(&f->r->log), "r5"));
	f->k.options.limits.roles_visited = 7;
	repo_client_reopen(&f->k);
	publish(f);
	expect_role(f, "deep", "r5");
}

/* --- expiry --- */

static void test_expired_delegated_role(void **state)
{
	struct fixture *f = *state;
	struct repo_role *team = repo_delegate(f->r, "targets", "team", KEYS(1, 5), "[\"*\"]");

	repo_target(team, "one", "1");
	team->expires = REPO_NOW;
	publish(f);
	assert_int_equal(find(f, "one"), -ERR_EXPIRED);
	assert_int_equal(repo_stored_version(&f->k, "team.json"), 0);
	team->expires = REPO_NOW + 7 * REPO_DAY;
	team->version = 2;
	publish(f);
	expect_role(f, "one", "team");
	/* a trusted one does not stay good */
	repo_clock = REPO_NOW + 18 * REPO_DAY;
	assert_int_equal(tuf_client_refresh(f->k.c, &f->r->fetcher, NULL), 0);
	assert_int_equal(find(f, "one"), -ERR_EXPIRED);
	/* a newer version heals it */
	team->expires = REPO_NOW + 21 * REPO_DAY;
	publish(f);
	expect_role(f, "one", "team");
}

/* --- names --- */

static void test_unusual_role_names(void **state)
{
	struct fixture *f = *state;
	static const struct {
		const char *role, *file;
	} names[] = {
		{ "?", "%3F.json" },
		{ "#", "%23.json" },
		{ "/delegated", "%2Fdelegated.json" },
		{ "../delegated", "..%2Fdelegated.json" },
		{ ".", "..json" },
		{ "a b%2F~_-", "a%20b%252F~_-.json" },
		{ "lock", "lock.json" },
		{ "r\303\266le", "r%C3%B6le.json" },
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char paths[16], path[16], name[64];

		(void) snprintf(paths, sizeof(paths), "[\"%zu\"]", i);
		(void) snprintf(path, sizeof(path), "%zu", i);
		repo_target(repo_delegate(f->r, "targets", names[i].role, KEYS(1, 5), paths), path, "x");
		publish(f);
		expect_role(f, path, names[i].role);
		(void) snprintf(name, sizeof(name), "1.%s\n", names[i].file);
		assert_string_equal(buf_str(&f->r->log), name);
		assert_int_equal(repo_stored_version(&f->k, names[i].file), 1);
	}
}

static void test_long_names_stay_apart(void **state)
{
	CLEANUP(buf_done)
	struct buf one = BUF_INIT(4096);
	CLEANUP(buf_done)
	struct buf two = BUF_INIT(4096);
	char a[600], b[600];

	(void) state;
	memset(a, '/', sizeof(a));
	a[sizeof(a) - 1] = '\0';
	memcpy(b, a, sizeof(b));
	b[sizeof(b) - 2] = '.';
	assert_int_equal(tuf_file_name(a, ".json", &one), 0);
	assert_int_equal(tuf_file_name(b, ".json", &two), 0);
	assert_true(one.len <= 255 && two.len <= 255);
	assert_string_not_equal(buf_str(&one), buf_str(&two));
	buf_clear(&one);
	assert_int_equal(tuf_file_name("", ".json", &one), -ERR_NAME);
	assert_int_equal(tuf_file_name("..", "", &one), 0);
	assert_string_equal(buf_str(&one), "%2E%2E");
	buf_clear(&one);
	assert_int_equal(tuf_file_name("a/b", "", &one), 0);
	buf_clear(&two);
	assert_int_equal(tuf_file_name("a%2Fb", "", &two), 0);
	assert_string_equal(buf_str(&one), "a%2Fb");
	assert_string_equal(buf_str(&two), "a%252Fb");
}

/* --- delegations that are refused as a whole --- */

static int refused(struct fixture *f)
{
	int r;

	repo_bump(f->r, "targets");
	r = tuf_client_refresh(f->k.c, &f->r->fetcher, NULL);
	repo_role(f->r, "targets")->delegation_count = 0;
	return r;
}

static void test_delegations_that_are_malformed(void **state)
{
	struct fixture *f = *state;
	static const char *const top[] = { "root", "timestamp", "snapshot", "targets" };
	struct repo_role *targets = repo_role(f->r, "targets");
	struct repo_delegation *d = targets->delegations;

	for (size_t i = 0; i < ARRAY_LEN(top); i++) {
		targets->delegation_count = 1;
		*d = (struct repo_delegation){ .keys = KEYS(1, 5), .paths = "[\"*\"]" };
		(void) snprintf(d->name, sizeof(d->name), "%s", top[i]);
		assert_int_equal(refused(f), -ERR_NAME);
	}
	targets->delegation_count = 1;
	*d = (struct repo_delegation){ .name = "", .keys = KEYS(1, 5), .paths = "[\"*\"]" };
	assert_int_equal(refused(f), -ERR_NAME);
	targets->delegation_count = 1;
	*d = (struct repo_delegation){ .name = "A", .keys = KEYS(1, 5), .paths = "[]", .prefixes = "[\"00\"]" };
	assert_int_equal(refused(f), -ERR_FIELD_VALUE);
	targets->delegation_count = 1;
	*d = (struct repo_delegation){ .name = "A", .keys = KEYS(1, 5) };
	assert_int_equal(refused(f), -ERR_FIELD_MISSING);
	targets->delegation_count = 1;
	*d = (struct repo_delegation){ .name = "A", .keys = KEYS(1, 5), .paths = "[1]" };
	assert_int_equal(refused(f), -ERR_FIELD_TYPE);
	targets->delegation_count = 1;
	*d = (struct repo_delegation){ .name = "A", .keys = KEYS(0, 5), .paths = "[]" };
	assert_int_equal(refused(f), -ERR_FIELD_VALUE);
	targets->delegation_count = 1;
	*d = (struct repo_delegation){ .name = "A", .keys = KEYS(1, 5, 5), .paths = "[]" };
	assert_int_equal(refused(f), -ERR_DUPLICATE_NAME);
	targets->delegation_count = 2;
	d[0] = d[1] = (struct repo_delegation){ .name = "A", .keys = KEYS(1, 5), .paths = "[]" };
	assert_int_equal(refused(f), -ERR_DUPLICATE_NAME);
	targets->succinct_keys = KEYS(1, 5);
	targets->succinct = "\"bit_length\":0,\"name_prefix\":\"b\"";
	assert_int_equal(refused(f), -ERR_FIELD_VALUE);
	targets->succinct = "\"bit_length\":33,\"name_prefix\":\"b\"";
	assert_int_equal(refused(f), -ERR_FIELD_VALUE);
	targets->succinct = "\"bit_length\":8,\"name_prefix\":\"\"";
	assert_int_equal(refused(f), -ERR_NAME);
	targets->succinct = "\"bit_length\":8";
	assert_int_equal(refused(f), -ERR_FIELD_MISSING);
	targets->succinct = NULL;
	assert_int_equal(refused(f), 0);
}

static void test_delegated_file_of_the_folder_is_checked_like_any_other(void **state)
{
	struct fixture *f = *state;

	repo_target(repo_delegate(f->r, "targets", "team", KEYS(1, 5), "[\"*\"]"), "file", "x");
	publish(f);
	expect_role(f, "file", "team");
	/* somebody replaces it: it is fetched again, and the good one comes back */
	assert_int_equal(durable_write_file(&os_posix, f->k.dirfd, "team.json", "{}", 2, 0644), 0);
	repo_client_reopen(&f->k);
	assert_int_equal(tuf_client_refresh(f->k.c, &f->r->fetcher, NULL), 0);
	repo_clear_log(f->r);
	expect_role(f, "file", "team");
	assert_string_equal(buf_str(&f->r->log), "1.team.json\n");
	assert_int_equal(repo_stored_version(&f->k, "team.json"), 1);
}

/* --- what a target says --- */

static void test_a_target_as_it_is_listed(void **state)
{
	struct fixture *f = *state;
	struct repo_role *targets = repo_role(f->r, "targets");
	CLEANUP(buf_done)
	struct buf name = BUF_INIT(4096);
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(4096);
	struct tuf_target t;
	int64_t answer = 0;
	uint8_t digest[SHA256_BYTES];

	repo_target(targets, "dir/file", "hello")->custom = "{\"answer\":42}";
	publish(f);
	assert_int_equal(tuf_client_read(f->k.c, &f->r->fetcher, "dir/file", 100, &bytes, &t), 0);
	assert_string_equal(buf_str(&bytes), "hello");
	assert_int_equal(t.length, 5);
	assert_true(t.has_sha256 && !t.has_sha512);
	assert_int_equal(sha256_of("hello", 5, digest), 0);
	assert_memory_equal(t.sha256, digest, sizeof(digest));
	assert_true(json_integer(json_get(t.custom, "answer"), &answer));
	assert_int_equal(answer, 42);
	assert_int_equal(tuf_target_file(&t, "targets/", true, &name), 0);
	assert_string_equal(buf_str(&name),
			    "targets/dir/2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824.file");
	buf_clear(&name);
	assert_int_equal(tuf_target_file(&t, "targets/", false, &name), 0);
	assert_string_equal(buf_str(&name), "targets/dir/file");
	assert_int_equal(tuf_target_check(&t, "hellO", 5), -ERR_DIGEST);
	assert_int_equal(tuf_target_check(&t, "hello!", 6), -ERR_LENGTH);
}

static void test_a_target_with_sha512_only(void **state)
{
	struct fixture *f = *state;
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(4096);
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(4096);
	uint8_t digest[64];
	char hex[129], name[160];

	assert_int_equal(sha512_of("hello", 5, digest), 0);
	hex_encode(hex, digest, sizeof(digest));
	assert_int_equal(
		buf_addf(&text,
			 "{\"_type\":\"targets\",\"spec_version\":\"1.0\",\"version\":2,\"expires\":"
			 "\"2027-02-01T00:00:00Z\",\"targets\":{\"f\":{\"length\":5,\"hashes\":{\"sha512\":\"%s\","
			 "\"blake\":\"?\"}}}}",
			 hex),
		0);
	(void) snprintf(name, sizeof(name), "%s.f", hex);
	repo_put(f->r, name, "hello", 5);
	repo_role(f->r, "targets")->signed_override = buf_str(&text);
	publish(f);
	assert_int_equal(tuf_client_read(f->k.c, &f->r->fetcher, "f", 100, &bytes, NULL), 0);
	repo_put(f->r, name, "hellO", 5);
	assert_int_equal(tuf_client_read(f->k.c, &f->r->fetcher, "f", 100, &bytes, NULL), -ERR_DIGEST);
}

static void test_paths_that_cannot_be_asked_for(void **state)
{
	struct fixture *f = *state;
	char path[TUF_PATH_MAX + 2];

	publish(f);
	memset(path, 'a', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(find(f, path), -ERR_NAME);
	assert_int_equal(find(f, ""), -ERR_NAME);
	path[TUF_PATH_MAX] = '\0';
	assert_int_equal(find(f, path), -ERR_NOT_LISTED);
}

static void test_search_before_a_refresh(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(find(f, "file"), -ERR_UNTRUSTED);
	assert_string_equal(buf_str(&f->r->log), "");
	repo_target(repo_role(f->r, "targets"), "file", "x");
	publish(f);
	repo_client_reopen(&f->k); /* what the folder holds is a whole set */
	expect_role(f, "file", "targets");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_of_the_search),
		T(test_first_in_order_wins),
		T(test_patterns_at_every_hop),
		T(test_path_hash_prefixes),
		T(test_succinct_bins),
		T(test_succinct_bin_signed_by_others_is_refused),
		T(test_role_with_two_parents_is_verified_with_the_keys_of_the_path),
		T(test_delegated_thresholds),
		T(test_rotated_delegated_keys),
		T(test_a_role_that_cannot_be_had_ends_the_search),
		T(test_a_role_the_snapshot_does_not_list_ends_the_search),
		T(test_versions_and_hashes_of_delegated_roles),
		T(test_cap_on_roles_visited),
		T(test_expired_delegated_role),
		T(test_unusual_role_names),
		cmocka_unit_test(test_long_names_stay_apart),
		T(test_delegations_that_are_malformed),
		T(test_delegated_file_of_the_folder_is_checked_like_any_other),
		T(test_a_target_as_it_is_listed),
		T(test_a_target_with_sha512_only),
		T(test_paths_that_cannot_be_asked_for),
		T(test_search_before_a_refresh),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
