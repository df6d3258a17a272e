/*
 * What earlier versions wrote stays readable (tests/compat/<version>/, each made once by tests/compat/make):
 * metadata, announcements, every document, the approval, the artifact, and the node's own journal. And the
 * other way round: what a node of that version looks for to update itself is still called by the same name.
 */
#include "agent/store/state.h"
#include "agent/store/store.h"
#include "base/err.h"
#include "json/json.h"
#include "model/approval.h"
#include "model/release.h"
#include "model/rollout.h"
#include "os/durable.h"
#include "os/os.h"
#include "pack/pack.h"
#include "support/fault_loop.h"
#include "tree/tree.h"
#include "tuf/tuf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { SETS_MAX = 64, FILE_MAX = 4 * 1024 * 1024 };

static char sets[SETS_MAX][64]; /* names of folders, one per version */
static size_t set_count;
static int64_t made; /* when the set was: metadata expires, readability does not */

static int64_t clock_then(const struct os *os)
{
	(void) os;
	return made;
}

struct set {
	struct fetcher fetcher;
	struct os os;
	struct tuf_client *tuf;
	struct json *facts;
	char folder[1024], work[256];
	int trust;
};

static int read_at(const char *folder, const char *name, struct buf *out)
{
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(4096);

	assert_int_equal(buf_addf(&path, "%s/%s", folder, name), 0);
	return file_read(&os_posix, AT_FDCWD, buf_str(&path), FILE_MAX, out);
}

static int get(struct fetcher *f, const char *name, uint64_t max, struct buf *ret)
{
	struct set *s = (struct set *) ((char *) f - offsetof(struct set, fetcher));
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(4096);

	(void) max;
	assert_int_equal(buf_addf(&path, "repo/%s", name), 0);
	return read_at(s->folder, buf_str(&path), ret);
}

static const char *fact(const struct set *s, const char *name)
{
	const char *text = json_string(json_get(s->facts, name));

	assert_non_null(text);
	return text;
}

/* The set of the version, with a client that starts from its first root and has refreshed once. */
static void set_open(struct set *s, const char *version)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(FILE_MAX), root = BUF_INIT(FILE_MAX);
	struct tuf_options o = { .os = &s->os,
				 .prefix = "metadata/",
				 .targets_prefix = "targets/",
				 .limits = tuf_limits_default,
				 .hold_time_floor = true };

	*s = (struct set){ .fetcher = { .get = get }, .os = os_posix };
	s->os.clock_real = clock_then;
	(void) snprintf(s->folder, sizeof(s->folder), TESTS_DIR "/compat/%s", version);
	assert_int_equal(read_at(s->folder, "facts.json", &text), 0);
	assert_int_equal(json_parse(text.data, text.len, &json_limits_default, &s->facts), 0);
	assert_true(json_integer(json_get(s->facts, "made"), &made));
	temp_folder(s->work, sizeof(s->work));
	s->trust = open(s->work, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(s->trust >= 0);
	o.dirfd = s->trust;
	assert_int_equal(read_at(s->folder, "root.json", &root), 0);
	assert_int_equal(tuf_client_open(&o, &s->tuf), 0);
	assert_int_equal(tuf_client_init(s->tuf, root.data, root.len), 0);
	if (tuf_client_refresh(s->tuf, &s->fetcher, NULL) < 0)
		fail_msg("%s: %s", version, tuf_client_error(s->tuf));
}

static void set_close(struct set *s)
{
	tuf_client_close(s->tuf);
	json_free(s->facts);
	close(s->trust);
	temp_folder_remove(s->work);
}

static struct json *document(struct set *s, const char *format, const char *a, const char *b, struct tuf_target *t)
{
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(1024), bytes = BUF_INIT(FILE_MAX);
	struct json *doc = NULL;

	assert_int_equal(buf_add_str(&path, ""), 0);
	for (const char *p = format; *p; p++)
		assert_int_equal(*p == '%' ? buf_add_str(&path, p == strchr(format, '%') ? a : b)
					   : buf_add(&path, p, 1),
				 0);
	if (tuf_client_read(s->tuf, &s->fetcher, buf_str(&path), FILE_MAX, &bytes, t) < 0)
		fail_msg("%s: %s", buf_str(&path), tuf_client_error(s->tuf));
	assert_int_equal(json_parse(bytes.data, bytes.len, &json_limits_default, &doc), 0);
	return doc;
}

static void each_set(void (*check)(struct set *s))
{
	assert_true(set_count > 0); /* the first release's set at least */
	for (size_t i = 0; i < set_count; i++) {
		struct set s;

		set_open(&s, sets[i]);
		check(&s);
		set_close(&s);
	}
}

/* --- documents --- */

static void check_rollouts(struct set *s)
{
	CLEANUP(json_freep)
	struct json *index_doc = document(s, "rollouts/index.json", NULL, NULL, NULL);
	CLEANUP(json_freep)
	struct json *doc = document(s, "rollouts/%.json", fact(s, "rollout"), NULL, NULL);
	const char *newest = json_string(json_at(json_get(s->facts, "versions"), 1));
	struct rollout_index index;
	struct rollout r;
	bool listed = false;

	assert_int_equal(index_parse(index_doc, &index, NULL), 0);
	for (size_t i = 0; i < index.entry_count; i++)
		listed = listed || str_eq(index.entries[i].id, fact(s, "rollout"));
	assert_true(listed);
	index_done(&index);
	assert_int_equal(rollout_parse(doc, &r, NULL), 0);
	assert_string_equal(r.id, fact(s, "rollout"));
	assert_string_equal(r.component, fact(s, "component"));
	assert_string_equal(r.release.version, newest);
	assert_int_equal(r.state, ROLLOUT_DONE);
	assert_int_equal(r.stage_count, 1);
	assert_true(r.stages[0].open);
	rollout_done(&r);
}

static void test_rollouts(void **state)
{
	(void) state;
	each_set(check_rollouts);
}

/* The bytes an approver signed then are the bytes we rebuild now. */
static void check_approval(struct set *s)
{
	CLEANUP(json_freep)
	struct json *doc = document(s, "rollouts/%.json", fact(s, "rollout"), NULL, NULL);
	CLEANUP(buf_done)
	struct buf statement = BUF_INIT(APPROVAL_STATEMENT_MAX);
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	const struct json *entry;
	struct approval a;
	struct rollout r;
	unsigned valid = 0;

	assert_int_equal(rollout_parse(doc, &r, NULL), 0);
	entry = json_at(r.stages[0].approvals, 0);
	assert_int_equal(approval_parse(entry, &a, NULL), 0);
	assert_true(a.expires > made);
	assert_int_equal(approval_statement(fact(s, "fleet"), &r, &r.stages[0], a.expires, &statement), 0);
	assert_int_equal(tuf_approvers_load(json_get(tuf_client_targets_signed(s->tuf), "x-selfright"),
					    fact(s, "approver"), &ring),
			 0);
	assert_int_equal(tuf_keyring_count(ring, json_get(entry, "signatures"), statement.data, statement.len,
					   &valid),
			 0);
	assert_int_equal(valid, 1);
	approval_done(&a);
	rollout_done(&r);
}

static void test_approval(void **state)
{
	(void) state;
	each_set(check_approval);
}

static void check_policy(struct set *s)
{
	CLEANUP(json_freep)
	struct json *doc = document(s, "%/policy.json", fact(s, "component"), NULL, NULL);
	struct policy p;

	assert_int_equal(policy_parse(doc, &p, NULL), 0);
	assert_string_equal(p.security_floor, "1.0.0");
	assert_false(policy_permits(&p, "1.0.9"));
	assert_int_equal(p.approval_count, 1);
	assert_string_equal(p.approvals[0].approver, fact(s, "approver"));
	assert_string_equal(p.approvals[0].exempt_label, "channel=canary");
	policy_done(&p);
}

static void test_policy(void **state)
{
	(void) state;
	each_set(check_policy);
}

static void check_orders(struct set *s)
{
	CLEANUP(json_freep)
	struct json *doc = document(s, "nodes/%.json", fact(s, "node"), NULL, NULL);
	struct node_orders o;

	assert_int_equal(orders_parse(doc, fact(s, "node"), &o, NULL), 0);
	assert_int_equal(o.rollback_count, 1);
	assert_string_equal(o.rollbacks[0].id, fact(s, "order"));
	assert_string_equal(o.rollbacks[0].from, "1.1.0");
	assert_string_equal(o.rollbacks[0].to, "1.0.0");
	assert_true(o.hold.until > made);
	orders_done(&o);
}

static void test_orders(void **state)
{
	(void) state;
	each_set(check_orders);
}

static void check_control(struct set *s)
{
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;

	/* who may acknowledge: without it no link check holds, and no update ends good */
	assert_int_equal(tuf_control_keyring(s->tuf, &ring), 0);
	assert_int_equal(tuf_keyring_threshold(ring), 1);
}

static void test_control_keys(void **state)
{
	(void) state;
	each_set(check_control);
}

/* --- a release and its bytes --- */

static void unpack(struct set *s, const struct release *release)
{
	const struct release_artifact *a = &release->artifacts[0];
	struct tuf_target t = { .has_sha256 = true };
	CLEANUP(buf_done)
	struct buf file = BUF_INIT(2048), path = BUF_INIT(4096);
	const struct pack_limits limits = { release->installed_size, release->files };
	struct tree tree = { 0 };
	uint8_t digest[SHA256_BYTES];
	char out[256];
	int fd, folder;

	(void) snprintf(t.path, sizeof(t.path), "%s", a->path);
	memcpy(t.sha256, a->sha256, SHA256_BYTES);
	assert_int_equal(tuf_target_file(&t, "targets/", true, &file), 0);
	assert_int_equal(buf_addf(&path, "%s/repo/%s", s->folder, buf_str(&file)), 0);
	fd = open(buf_str(&path), O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	temp_folder(out, sizeof(out));
	folder = open(out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(folder >= 0);
	assert_true(pack_media_parse(a->media) >= 0);
	assert_int_equal(pack_extract(&os_posix, fd, (enum pack_media) pack_media_parse(a->media), folder, &limits,
				      NULL),
			 0);
	assert_int_equal(tree_scan(&os_posix, folder, (uid_t) -1, NULL, NULL, &tree, NULL), 0);
	assert_int_equal(tree_digest(&tree, digest), 0);
	assert_memory_equal(digest, release->tree_digest, sizeof(digest));
	tree_done(&tree);
	close(folder);
	close(fd);
	temp_folder_remove(out);
}

static void check_releases(struct set *s)
{
	const struct json *versions = json_get(s->facts, "versions");

	for (size_t i = 0; i < json_count(versions); i++) {
		struct tuf_target t;
		CLEANUP(json_freep)
		struct json *doc = document(s, "%/%/release.json", fact(s, "component"),
					    json_string(json_at(versions, i)), &t);
		struct release release;

		assert_int_equal(release_parse(doc, &release, NULL), 0);
		assert_int_equal(release_agrees(&release, t.path), 0);
		assert_string_equal(t.role, "team-web");
		assert_int_equal(release.check_count, 1);
		assert_int_equal(release.artifact_count, 1);
		unpack(s, &release);
		release_done(&release);
	}
}

static void test_releases_and_their_artifacts(void **state)
{
	(void) state;
	each_set(check_releases);
}

/* --- announcements --- */

/* Everything a node needs after a publication comes from the announcement, byte by byte as it is published. */
static void check_announcement(struct set *s)
{
	static const char *const names[] = { "announce.gz", "order.gz" };

	for (size_t k = 0; k < ARRAY_LEN(names); k++) {
		CLEANUP(buf_done)
		struct buf packed = BUF_INIT(FILE_MAX), text = BUF_INIT(FILE_MAX);
		CLEANUP(json_freep)
		struct json *doc = NULL;
		const struct json *files;
		uint64_t format = 0;
		bool timestamp = false;

		assert_int_equal(read_at(s->folder, names[k], &packed), 0);
		assert_int_equal(gzip_expand(packed.data, packed.len, &text), 0);
		assert_int_equal(json_parse(text.data, text.len, &json_limits_default, &doc), 0);
		assert_int_equal(json_need_u64(doc, "format", 1, 1, &format), 0);
		files = json_get(doc, "files");
		assert_true(json_count(files) >= 3);
		for (size_t i = 0; i < json_count(files); i++) {
			CLEANUP(buf_done)
			struct buf published = BUF_INIT(FILE_MAX);
			const char *name = json_name_at(files, i), *bytes = json_string(json_at(files, i));
			bool is_timestamp = str_eq(name, "metadata/timestamp.json");

			timestamp = timestamp || is_timestamp;
			/* An order's announcement may be older than the last publication. */
			if (get(&s->fetcher, name, FILE_MAX, &published) == 0 && !is_timestamp)
				assert_string_equal(buf_str(&published), bytes);
		}
		assert_true(timestamp);
	}
}

static void test_announcements(void **state)
{
	(void) state;
	each_set(check_announcement);
}

/* --- on the node --- */

static void check_state(struct set *s)
{
	CLEANUP(buf_done)
	struct buf journal = BUF_INIT(FILE_MAX);
	CLEANUP(store_freep)
	struct store *store = NULL;
	struct node_state state;
	const struct node_component *c;
	char root[256];
	int fd;

	assert_int_equal(read_at(s->folder, "node/journal", &journal), 0);
	temp_folder(root, sizeof(root));
	fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(durable_write_file(&os_posix, fd, "journal", journal.data, journal.len, 0600), 0);
	close(fd);
	assert_int_equal(store_open(&os_posix, root, &store), 0);
	assert_int_equal(store_load(store, &state), 0);
	c = state_component(&state, fact(s, "component"));
	assert_non_null(c);
	assert_string_equal(c->version, "1.0.0");
	assert_non_null(component_denial(c, "1.1.0"));
	assert_true(state.report_sequence > 0);
	state_done(&state);
	temp_folder_remove(root);
}

static void test_a_nodes_journal(void **state)
{
	(void) state;
	each_set(check_state);
}

static int find_sets(void **state)
{
	DIR *dir = opendir(TESTS_DIR "/compat");
	const struct dirent *e;

	(void) state;
	while (dir && (e = readdir(dir)) != NULL)
		if (e->d_name[0] >= '0' && e->d_name[0] <= '9' && set_count < SETS_MAX)
			(void) snprintf(sets[set_count++], sizeof(sets[0]), "%.63s", e->d_name);
	if (dir)
		closedir(dir);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rollouts),      cmocka_unit_test(test_approval),
		cmocka_unit_test(test_policy),	      cmocka_unit_test(test_orders),
		cmocka_unit_test(test_control_keys),  cmocka_unit_test(test_releases_and_their_artifacts),
		cmocka_unit_test(test_announcements), cmocka_unit_test(test_a_nodes_journal),
	};

	return cmocka_run_group_tests(tests, find_sets, NULL);
}
