/* What the controller keeps of trust: approvers' signatures, named approvers, and which nodes hear nothing new. */
#include "base/err.h"
#include "json/json.h"
#include "os/os.h"
#include "server-stub/cli/serve.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_rollouts.h"
#include "server-stub/repo/offline.h"
#include "support/fault_loop.h"
#include "tuf/tuf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { NOW = 1800000000 };

struct seen {
	char text[512];
};

static int note(void *user, const struct db_approval *row)
{
	struct seen *s = user;
	size_t n = strlen(s->text);

	(void) snprintf(s->text + n, sizeof(s->text) - n, "%zu:%lld:%s:%s ", row->position,
			(long long) (row->expires - NOW), row->keyid, row->sig);
	return 0;
}

static int add(struct db *db, size_t position, int64_t expires, const char *keyid)
{
	return db_approval_add(db, &(struct db_approval){ .rollout = "r1",
							  .position = position,
							  .expires = expires,
							  .keyid = keyid,
							  .sig = "s",
							  .at = NOW,
							  .by = "anna" });
}

static void approvals_are_kept_by_stage_and_expiry(void **state)
{
	CLEANUP(db_closep)
	struct db *db = NULL;
	const struct db_rollout rollout = { .id = "r1",
					    .component = "web",
					    .version = "1.0.0",
					    .kind = "regular",
					    .state = "running",
					    .seq = 1,
					    .plan = "{}",
					    .release_path = "p",
					    .release_sha256 = "s" };
	static const char *const stages[] = { "one", "two" };
	struct seen seen = { "" }, later = { "" }, other = { "" };
	uint64_t before;

	(void) state;
	assert_int_equal(db_open(":memory:", &db), 0);
	assert_int_equal(db_begin(db), 0);
	assert_int_equal(db_rollout_add(db, &rollout, stages, 2), 0);
	assert_int_equal(db_commit(db), 0);
	before = db_generation(db);
	assert_int_equal(add(db, 1, NOW + 100, "b"), 1);
	assert_true(db_generation(db) > before); /* it is published */
	assert_int_equal(add(db, 1, NOW + 100, "a"), 1);
	assert_int_equal(add(db, 1, NOW + 100, "a"), 0); /* once per key and statement */
	assert_int_equal(add(db, 0, NOW + 50, "a"), 1);
	assert_int_equal(db_approvals(db, "r1", NOW, note, &seen), 0);
	assert_string_equal(seen.text, "0:50:a:s 1:100:a:s 1:100:b:s ");
	assert_int_equal(db_approvals(db, "r1", NOW + 50, note, &later), 0);
	assert_string_equal(later.text, "1:100:a:s 1:100:b:s "); /* expired ones are not published */
	assert_int_equal(db_approvals(db, "r2", NOW, note, &other), 0);
	assert_string_equal(other.text, "");
}

/* --- approvers in targets --- */

static struct json *parse(const char *text)
{
	struct json *j = NULL;

	assert_int_equal(json_parse(text, strlen(text), &json_limits_default, &j), 0);
	return j;
}

static int count_keys(const struct json *targets, const char *approver)
{
	return (int) json_count(
		json_get(json_get(json_get(json_get(targets, "x-selfright"), "approvers"), approver), "keys"));
}

static void an_approver_is_named_changed_and_taken_away(void **state)
{
	CLEANUP(json_freep)
	struct json *targets =
			    parse("{\"_type\":\"targets\",\"spec_version\":\"1.0.34\",\"version\":4,\"expires\":"
				  "\"2027-01-01T00:00:00Z\",\"targets\":{},\"x-other\":1,\"x-selfright\":{"
				  "\"control\":{\"keys\":{},\"threshold\":1},\"more\":2,\"approvers\":{\"old\":{"
				  "\"keys\":{},\"threshold\":1}}}}"),
		    *with = NULL, *changed = NULL, *without = NULL, *none = NULL;
	CLEANUP(key_files_done)
	struct key_files keys = { .count = 0 };
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	char folder[256];
	int64_t version = 0;

	(void) state;
	temp_folder(folder, sizeof(folder));
	assert_int_equal(key_files_create(&os_posix, folder, "qa-1", NULL, &keys), 0);
	assert_int_equal(key_files_create(&os_posix, folder, "qa-2", NULL, &keys), 0);
	assert_int_equal(offline_set_approver(targets, "qa", &keys, 3, NOW, &none), -ERR_FIELD_VALUE);
	assert_int_equal(offline_set_approver(targets, "qa", &keys, 0, NOW, &none), -ERR_FIELD_VALUE);
	assert_int_equal(offline_set_approver(targets, "qa", NULL, 0, NOW, &none), -ERR_NOT_LISTED);
	assert_int_equal(offline_set_approver(targets, "qa", &keys, 2, NOW, &with), 0);
	assert_int_equal(tuf_approvers_load(json_get(with, "x-selfright"), "qa", &ring), 0);
	assert_int_equal(tuf_keyring_threshold(ring), 2);
	assert_true(json_integer(json_get(with, "version"), &version));
	assert_int_equal(version, 5);
	/* all else stays, what we do not know as well */
	assert_non_null(json_get(with, "x-other"));
	assert_non_null(json_get(json_get(with, "x-selfright"), "control"));
	assert_non_null(json_get(json_get(with, "x-selfright"), "more"));
	assert_non_null(json_get(json_get(json_get(with, "x-selfright"), "approvers"), "old"));
	keys.count--;
	assert_int_equal(offline_set_approver(with, "qa", &keys, 1, NOW, &changed), 0);
	assert_int_equal(count_keys(changed, "qa"), 1);
	assert_int_equal(offline_set_approver(changed, "qa", NULL, 0, NOW, &without), 0);
	assert_null(json_get(json_get(json_get(without, "x-selfright"), "approvers"), "qa"));
	assert_non_null(json_get(json_get(json_get(without, "x-selfright"), "approvers"), "old"));
	keys.count++;
	temp_folder_remove(folder);
}

/* --- nodes that lag --- */

static void a_node_that_reports_but_hears_nothing_is_held_back(void **state)
{
	(void) state;
	assert_false(restore_held_back(0, NOW)); /* it never said */
	assert_false(restore_held_back(NOW, 0)); /* it never reported */
	assert_false(restore_held_back(NOW, NOW));
	assert_false(restore_held_back(NOW - 12 * 3600, NOW)); /* one signing and one poll may lie between */
	assert_true(restore_held_back(NOW - 14 * 3600, NOW));
	assert_false(restore_held_back((uint64_t) INT64_MAX, NOW)); /* a lie of the other sort */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(approvals_are_kept_by_stage_and_expiry),
		cmocka_unit_test(an_approver_is_named_changed_and_taken_away),
		cmocka_unit_test(a_node_that_reports_but_hears_nothing_is_held_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
