/* Each attack the specification names (section 1.5), against the workflow of section 5. */
#include "support/tuf_repo.h"

#include "base/err.h"
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
	repo_target(repo_role(f->r, "targets"), "file.txt", "content");
	repo_sign_all(f->r, false);
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

static int refresh(struct fixture *f)
{
	return tuf_client_refresh(f->k.c, &f->r->fetcher, NULL);
}

static int read_file(struct fixture *f, const char *path, const char *want)
{
	CLEANUP(buf_done)
	struct buf got = BUF_INIT(1 << 20);
	int r = tuf_client_read(f->k.c, &f->r->fetcher, path, 1 << 20, &got, NULL);

	if (r >= 0)
		assert_string_equal(buf_str(&got), want);
	else
		assert_int_equal(got.len, 0);
	return r;
}

static void stored(const struct fixture *f, uint64_t root, uint64_t timestamp, uint64_t snapshot, uint64_t targets)
{
	assert_int_equal(repo_stored_version(&f->k, "root.json"), root);
	assert_int_equal(repo_stored_version(&f->k, "timestamp.json"), timestamp);
	assert_int_equal(repo_stored_version(&f->k, "snapshot.json"), snapshot);
	assert_int_equal(repo_stored_version(&f->k, "targets.json"), targets);
}

/* --- how it should be --- */

static void test_first_and_unchanged_refresh_ask_for_nothing_twice(void **state)
{
	struct fixture *f = *state;
	bool changed = false;

	assert_int_equal(tuf_client_refresh(f->k.c, &f->r->fetcher, &changed), 0);
	assert_true(changed);
	assert_string_equal(buf_str(&f->r->log), "2.root.json\ntimestamp.json\n1.snapshot.json\n1.targets.json\n");
	stored(f, 1, 1, 1, 1);

	repo_clear_log(f->r);
	changed = true;
	assert_int_equal(tuf_client_refresh(f->k.c, &f->r->fetcher, &changed), 0);
	assert_false(changed);
	assert_string_equal(buf_str(&f->r->log), "2.root.json\ntimestamp.json\n");

	repo_client_reopen(&f->k);
	repo_clear_log(f->r);
	assert_int_equal(refresh(f), 0);
	assert_string_equal(buf_str(&f->r->log), "2.root.json\ntimestamp.json\n");
	assert_int_equal(read_file(f, "file.txt", "content"), 0);
}

static void test_files_are_stored_exactly_as_received(void **state)
{
	struct fixture *f = *state;
	static const char *const names[][2] = { { "root.json", "1.root.json" },
						{ "timestamp.json", "timestamp.json" },
						{ "snapshot.json", "1.snapshot.json" },
						{ "targets.json", "1.targets.json" } };

	assert_int_equal(refresh(f), 0);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		CLEANUP(buf_done)
		struct buf bytes = BUF_INIT(1 << 20);
		const struct buf *sent = &repo_file(f->r, names[i][1])->bytes;

		assert_int_equal(file_read(&os_posix, f->k.dirfd, names[i][0], 1 << 20, &bytes), 0);
		assert_int_equal(bytes.len, sent->len);
		assert_memory_equal(bytes.data, sent->data, sent->len);
	}
}

static void test_without_consistent_snapshots_names_carry_no_versions(void **state)
{
	struct fixture *f = *state;

	repo_role(f->r, "root")->consistent = false;
	repo_bump(f->r, "root");
	assert_int_equal(refresh(f), 0);
	assert_int_equal(read_file(f, "file.txt", "content"), 0);
	assert_string_equal(buf_str(&f->r->log),
			    "2.root.json\n3.root.json\ntimestamp.json\nsnapshot.json\ntargets.json\nfile.txt\n");
}

static void test_unknown_members_are_signed_and_ignored(void **state)
{
	struct fixture *f = *state;

	repo_role(f->r, "root")->extra = "\"x-foreign\":{\"b\":[1,2,{}],\"a\":\"\\u00e4\\n\"}";
	repo_role(f->r, "timestamp")->extra = "\"x-more\":null";
	repo_bump(f->r, "root");
	repo_bump(f->r, "targets");
	assert_int_equal(refresh(f), 0);
	stored(f, 2, 2, 2, 2);
}

/* --- arbitrary software: nothing counts that the right keys did not sign --- */

static void test_arbitrary_software(void **state)
{
	struct fixture *f = *state;
	static const char *const roles[] = { "timestamp", "snapshot", "targets" };

	for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
		struct repo_role *role = repo_role(f->r, roles[i]);
		struct repo_keys right = role->signers;

		role->signers = KEYS(1, 20); /* the attacker's */
		repo_bump(f->r, roles[i]);
		assert_int_equal(refresh(f), -ERR_THRESHOLD);
		role->signers = KEYS(0);
		role->signers.count = 0;
		repo_sign_all(f->r, false);
		assert_int_equal(refresh(f), -ERR_THRESHOLD);
		role->signers = right;
		repo_bump(f->r, roles[i]);
		assert_int_equal(refresh(f), 0);
	}
	repo_put(f->r, "2.root.json", repo_file(f->r, "1.root.json")->bytes.data,
		 repo_file(f->r, "1.root.json")->bytes.len);
	assert_int_equal(refresh(f), -ERR_ROLLBACK);
}

static void test_arbitrary_software_in_the_target_itself(void **state)
{
	struct fixture *f = *state;
	struct repo_file *target;
	CLEANUP(buf_done)
	struct buf name = BUF_INIT(4096);
	struct tuf_target t;

	assert_int_equal(refresh(f), 0);
	assert_int_equal(tuf_client_find(f->k.c, &f->r->fetcher, "file.txt", &t), 0);
	assert_int_equal(tuf_target_file(&t, "", true, &name), 0);
	target = repo_file(f->r, buf_str(&name));
	assert_non_null(target);
	repo_put(f->r, target->name, "Content", 7);
	assert_int_equal(read_file(f, "file.txt", ""), -ERR_DIGEST);
	repo_put(f->r, target->name, "conten", 6);
	assert_int_equal(read_file(f, "file.txt", ""), -ERR_LENGTH);
	repo_put(f->r, target->name, "content", 7);
	assert_int_equal(read_file(f, "file.txt", "content"), 0);
}

/* --- rollback --- */

static void test_rollback_of_root(void **state)
{
	struct fixture *f = *state;

	repo_bump(f->r, "root");
	assert_int_equal(refresh(f), 0);
	/* version 3's name, version 2's or 4's content */
	repo_put(f->r, "3.root.json", repo_file(f->r, "2.root.json")->bytes.data,
		 repo_file(f->r, "2.root.json")->bytes.len);
	assert_int_equal(refresh(f), -ERR_ROLLBACK);
	repo_role(f->r, "root")->version = 4;
	repo_sign(f->r, "root");
	repo_put(f->r, "3.root.json", repo_file(f->r, "4.root.json")->bytes.data,
		 repo_file(f->r, "4.root.json")->bytes.len);
	assert_int_equal(refresh(f), -ERR_VERSION);
	stored(f, 2, 1, 1, 1);
}

static void test_rollback_of_timestamp(void **state)
{
	struct fixture *f = *state;

	repo_bump(f->r, "timestamp");
	assert_int_equal(refresh(f), 0);
	repo_role(f->r, "timestamp")->version = 1;
	repo_sign(f->r, "timestamp");
	assert_int_equal(refresh(f), -ERR_ROLLBACK);
	assert_non_null(strstr(tuf_client_error(f->k.c), "timestamp.json"));
	repo_client_reopen(&f->k);
	assert_int_equal(refresh(f), -ERR_ROLLBACK);
	stored(f, 1, 2, 1, 1);
}

static void test_rollback_of_snapshot(void **state)
{
	struct fixture *f = *state;

	for (int hashes = 0; hashes < 2; hashes++) {
		f->r->hashes = hashes;
		repo_bump(f->r, "snapshot");
		assert_int_equal(refresh(f), 0);
		repo_role(f->r, "snapshot")->version--;
		repo_bump(f->r, "timestamp"); /* says the older version */
		assert_int_equal(refresh(f), -ERR_ROLLBACK);
		assert_string_equal(strrchr(tuf_client_error(f->k.c), ':') + 2, err_text(-ERR_ROLLBACK));
		repo_role(f->r, "snapshot")->version++;
		repo_bump(f->r, "snapshot");
		assert_int_equal(refresh(f), 0);
	}
}

static void test_rollback_of_targets(void **state)
{
	struct fixture *f = *state;

	for (int hashes = 0; hashes < 2; hashes++) {
		f->r->hashes = hashes;
		repo_bump(f->r, "targets");
		repo_bump(f->r, "targets");
		assert_int_equal(refresh(f), 0);
		repo_role(f->r, "targets")->version--;
		repo_bump(f->r, "snapshot");
		assert_int_equal(refresh(f), -ERR_ROLLBACK);
		assert_non_null(strstr(tuf_client_error(f->k.c), "snapshot.json"));
		/* the trusted snapshot protects us also after it has expired */
		repo_client_reopen(&f->k);
		repo_clock = REPO_NOW + 40 * REPO_DAY;
		repo_role(f->r, "timestamp")->expires = REPO_NOW + 90 * REPO_DAY;
		repo_role(f->r, "snapshot")->expires = REPO_NOW + 90 * REPO_DAY;
		repo_role(f->r, "targets")->expires = REPO_NOW + 90 * REPO_DAY;
		repo_bump(f->r, "snapshot");
		assert_int_equal(refresh(f), -ERR_ROLLBACK);
		repo_role(f->r, "targets")->version += 2;
		repo_sign(f->r, "targets");
		repo_bump(f->r, "snapshot");
		assert_int_equal(refresh(f), 0);
		repo_clock = REPO_NOW;
	}
}

static void test_rollback_by_leaving_a_role_out(void **state)
{
	struct fixture *f = *state;
	struct repo_role *team;

	team = repo_delegate(f->r, "targets", "team", KEYS(1, 5), "[\"team/*\"]");
	repo_sign(f->r, "team");
	repo_bump(f->r, "targets");
	assert_int_equal(refresh(f), 0);
	/* the same repository without the role */
	for (struct repo_role **at = &f->r->roles; *at; at = &(*at)->next)
		if (*at == team) {
			*at = team->next;
			break;
		}
	repo_role(f->r, "targets")->delegation_count = 0;
	repo_bump(f->r, "targets");
	assert_int_equal(refresh(f), -ERR_ROLLBACK);
	free(team);
}

static void test_rollback_check_of_equal_timestamp_keeps_the_first(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(refresh(f), 0);
	repo_role(f->r, "snapshot")->version = 100;
	repo_sign(f->r, "timestamp"); /* other content, same version */
	assert_int_equal(refresh(f), 0);
	stored(f, 1, 1, 1, 1);
	repo_client_reopen(&f->k);
	assert_int_equal(refresh(f), 0);
	stored(f, 1, 1, 1, 1);
}

/* --- fast-forward: a new root drops what was trusted under the old keys --- */

static void test_fast_forward_recovery_of_timestamp(void **state)
{
	struct fixture *f = *state;

	repo_role(f->r, "timestamp")->version = 99999;
	repo_sign(f->r, "timestamp");
	assert_int_equal(refresh(f), 0);
	repo_role(f->r, "root")->top[1] = KEYS(1, 21);
	repo_role(f->r, "timestamp")->signers = KEYS(1, 21);
	repo_role(f->r, "timestamp")->version = 2;
	repo_bump(f->r, "root");
	repo_sign(f->r, "timestamp");
	assert_int_equal(refresh(f), 0);
	stored(f, 2, 2, 1, 1);
}

static void test_fast_forward_recovery_of_snapshot(void **state)
{
	struct fixture *f = *state;

	repo_role(f->r, "snapshot")->version = 99999;
	repo_sign(f->r, "snapshot");
	repo_bump(f->r, "timestamp");
	assert_int_equal(refresh(f), 0);
	repo_role(f->r, "root")->top[1] = KEYS(1, 21);
	repo_role(f->r, "root")->top[2] = KEYS(1, 22);
	repo_role(f->r, "timestamp")->signers = KEYS(1, 21);
	repo_role(f->r, "snapshot")->signers = KEYS(1, 22);
	repo_role(f->r, "snapshot")->version = 1;
	repo_bump(f->r, "root");
	repo_bump(f->r, "snapshot");
	assert_int_equal(refresh(f), 0);
	stored(f, 2, 3, 2, 1);
}

static void test_fast_forward_recovery_of_targets(void **state)
{
	struct fixture *f = *state;

	repo_role(f->r, "targets")->version = 99999;
	repo_sign_all(f->r, false);
	repo_bump(f->r, "snapshot");
	assert_int_equal(refresh(f), 0);
	repo_role(f->r, "root")->top[2] = KEYS(1, 22);
	repo_role(f->r, "snapshot")->signers = KEYS(1, 22);
	repo_role(f->r, "targets")->version = 1;
	repo_bump(f->r, "root");
	repo_bump(f->r, "targets");
	assert_int_equal(refresh(f), 0);
	assert_int_equal(repo_stored_version(&f->k, "targets.json"), 2);
}

/* The root that revokes a key comes through, the one behind it does not: in the client that runs, as after a restart. */
static void test_revoked_keys_are_not_kept_by_spoiling_the_next_root(void **state)
{
	static const char *const how[] = { "{}", NULL };
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(how); i++) {
		struct tuf_state s = { 0 };

		repo_client_free(&f->k);
		repo_free(f->r);
		f->r = repo_new();
		repo_target(repo_role(f->r, "targets"), "file.txt", "content");
		repo_sign_all(f->r, false);
		repo_client_new(&f->k, f->r);
		assert_int_equal(refresh(f), 0);
		assert_int_equal(read_file(f, "file.txt", "content"), 0);
		repo_role(f->r, "root")->top[3] = KEYS(1, 23); /* targets' key was stolen */
		repo_bump(f->r, "root");
		if (how[i]) {
			repo_put(f->r, "3.root.json", how[i], strlen(how[i]));
		} else {
			f->r->failing = "3.root.json";
			f->r->failure = -ERR_NETWORK;
		}
		assert_true(refresh(f) < 0);
		assert_non_null(strstr(tuf_client_error(f->k.c), "3.root.json"));
		tuf_client_state(f->k.c, &s);
		assert_int_equal(s.root, 2);
		assert_int_equal(s.targets, 0);
		assert_int_equal(read_file(f, "file.txt", "content"), -ERR_UNTRUSTED);
		/* Once the chain is whole again, and the new key has signed, all is well. */
		repo_remove(f->r, "3.root.json");
		f->r->failing = NULL;
		repo_role(f->r, "targets")->signers = KEYS(1, 23);
		repo_bump(f->r, "targets");
		assert_int_equal(refresh(f), 0);
		assert_int_equal(read_file(f, "file.txt", "content"), 0);
	}
}

static void test_fast_forward_recovery_survives_a_crash_behind_the_root(void **state)
{
	struct fixture *f = *state;

	repo_role(f->r, "timestamp")->version = 99999;
	repo_sign(f->r, "timestamp");
	assert_int_equal(refresh(f), 0);
	repo_role(f->r, "root")->top[1] = KEYS(1, 21);
	repo_role(f->r, "timestamp")->signers = KEYS(1, 21);
	repo_role(f->r, "timestamp")->version = 2;
	repo_bump(f->r, "root");
	repo_sign(f->r, "timestamp");
	/* the new root is stored, then everything stops: the folder still holds version 99999 */
	assert_int_equal(durable_write_file(&os_posix, f->k.dirfd, "root.json",
					    repo_file(f->r, "2.root.json")->bytes.data,
					    repo_file(f->r, "2.root.json")->bytes.len, 0644),
			 0);
	repo_client_reopen(&f->k);
	assert_int_equal(refresh(f), 0);
	stored(f, 2, 2, 1, 1);
}

/* --- indefinite freeze --- */

static void test_indefinite_freeze_by_replaying_the_cached_timestamp(void **state)
{
	struct fixture *f = *state;
	struct tuf_state s;

	assert_int_equal(refresh(f), 0);
	repo_clock = REPO_NOW + 30 * REPO_DAY; /* expiry equal to now is expired */
	assert_int_equal(refresh(f), -ERR_EXPIRED);
	assert_string_equal(tuf_client_error(f->k.c), "timestamp.json: expired");
	tuf_client_state(f->k.c, &s);
	assert_true(s.stale);
	assert_int_equal(read_file(f, "file.txt", ""), -ERR_EXPIRED);
	repo_clock = REPO_NOW + 30 * REPO_DAY - 1;
	assert_int_equal(refresh(f), 0);
}

static void test_indefinite_freeze_by_expired_files(void **state)
{
	struct fixture *f = *state;
	static const char *const roles[] = { "timestamp", "snapshot", "targets" };

	assert_int_equal(refresh(f), 0);
	for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
		struct repo_role *role = repo_role(f->r, roles[i]);
		char file[32];
		uint64_t before;

		(void) snprintf(file, sizeof(file), "%s.json", roles[i]);
		before = repo_stored_version(&f->k, file);
		role->expires = REPO_NOW - 1;
		repo_bump(f->r, roles[i]);
		assert_int_equal(refresh(f), -ERR_EXPIRED);
		assert_int_equal(repo_stored_version(&f->k, file), before);
		role->expires = REPO_NOW + 30 * REPO_DAY;
		repo_bump(f->r, roles[i]);
		assert_int_equal(refresh(f), 0);
	}
}

static void test_indefinite_freeze_by_an_expired_root_which_is_stored_first(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(refresh(f), 0);
	repo_role(f->r, "root")->expires = REPO_NOW - REPO_DAY;
	repo_bump(f->r, "root");
	repo_bump(f->r, "targets");
	repo_clear_log(f->r);
	assert_int_equal(refresh(f), -ERR_EXPIRED);
	assert_string_equal(buf_str(&f->r->log), "2.root.json\n3.root.json\n");
	stored(f, 2, 1, 1, 1);
	/* an expired root on the way to a good one is no hindrance */
	repo_role(f->r, "root")->expires = REPO_NOW + REPO_DAY;
	repo_bump(f->r, "root");
	assert_int_equal(refresh(f), 0);
	stored(f, 3, 2, 2, 2);
}

static void test_expired_local_files_still_lead_to_newer_ones(void **state)
{
	struct fixture *f = *state;

	repo_role(f->r, "timestamp")->expires = REPO_NOW + 7 * REPO_DAY;
	repo_sign(f->r, "timestamp");
	assert_int_equal(refresh(f), 0);
	repo_role(f->r, "timestamp")->expires = REPO_NOW + 21 * REPO_DAY;
	repo_bump(f->r, "targets");
	repo_clock = REPO_NOW + 18 * REPO_DAY;
	repo_client_reopen(&f->k);
	assert_int_equal(refresh(f), 0);
	stored(f, 1, 2, 2, 2);
}

/* --- endless data --- */

static void test_endless_data(void **state)
{
	struct fixture *f = *state;
	static const char *const names[] = { "2.root.json", "timestamp.json", "1.snapshot.json",
					     "1.targets.json" };

	for (int rude = 0; rude < 2; rude++)
		for (size_t i = 0; i < ARRAY_LEN(names); i++) {
			f->r->endless = names[i];
			f->r->rude = rude;
			repo_client_free(&f->k);
			repo_client_new(&f->k, f->r);
			assert_int_equal(refresh(f), -ERR_TOO_LARGE);
		}
	f->r->endless = NULL;
	f->r->rude = false;
	assert_int_equal(refresh(f), 0);
	f->r->endless = "0.file.txt"; /* not the name: the target is read to its signed length */
	assert_int_equal(read_file(f, "file.txt", "content"), 0);
}

static void test_endless_data_in_a_target(void **state)
{
	struct fixture *f = *state;
	CLEANUP(buf_done)
	struct buf name = BUF_INIT(4096);
	CLEANUP(buf_done)
	struct buf small = BUF_INIT(3);
	struct tuf_target t;

	assert_int_equal(refresh(f), 0);
	assert_int_equal(tuf_client_find(f->k.c, &f->r->fetcher, "file.txt", &t), 0);
	assert_int_equal(tuf_target_file(&t, "", true, &name), 0);
	f->r->endless = buf_str(&name);
	assert_int_equal(read_file(f, "file.txt", ""), -ERR_TOO_LARGE);
	f->r->rude = true;
	assert_int_equal(read_file(f, "file.txt", ""), -ERR_LENGTH);
	f->r->endless = NULL;
	f->r->rude = false;
	/* a target larger than the caller takes is not even asked for */
	repo_clear_log(f->r);
	assert_int_equal(tuf_client_read(f->k.c, &f->r->fetcher, "file.txt", 3, &small, NULL), -ERR_TOO_LARGE);
	assert_int_equal(f->r->requests, 0);
}

static void test_limits_of_every_role_come_from_the_options(void **state)
{
	struct fixture *f = *state;

	f->k.options.limits.snapshot = 100;
	repo_client_reopen(&f->k);
	assert_int_equal(refresh(f), -ERR_TOO_LARGE);
	/* a length announced beyond the limit is refused before the request */
	f->r->hashes = true;
	repo_bump(f->r, "timestamp");
	repo_clear_log(f->r);
	assert_int_equal(refresh(f), -ERR_TOO_LARGE);
	assert_string_equal(buf_str(&f->r->log), "2.root.json\ntimestamp.json\n");
	f->k.options.limits = tuf_limits_default;
	f->k.options.limits.root_steps = 2;
	repo_client_reopen(&f->k);
	repo_bump(f->r, "root");
	repo_bump(f->r, "root");
	repo_bump(f->r, "root");
	assert_int_equal(refresh(f), 0);
	assert_int_equal(repo_stored_version(&f->k, "root.json"), 3);
	assert_int_equal(refresh(f), 0);
	assert_int_equal(repo_stored_version(&f->k, "root.json"), 4);
}

/* --- slow retrieval: the carrier's deadline ends the refresh, and nothing is wedged --- */

static void test_slow_retrieval(void **state)
{
	struct fixture *f = *state;
	static const char *const names[] = { "2.root.json", "timestamp.json", "1.snapshot.json",
					     "1.targets.json" };

	f->r->failure = -ERR_DEADLINE;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		f->r->failing = names[i];
		assert_int_equal(refresh(f), -ERR_DEADLINE);
		assert_non_null(strstr(tuf_client_error(f->k.c), names[i]));
	}
	f->r->failing = NULL;
	assert_int_equal(refresh(f), 0);
}

/* --- extraneous dependencies: a role lists files outside the paths it was given --- */

static int collect(void *user, const struct tuf_target *t)
{
	return buf_addf(user, "%s ", t->path);
}

static void test_extraneous_dependencies(void **state)
{
	struct fixture *f = *state;
	CLEANUP(buf_done)
	struct buf names = BUF_INIT(4096);
	struct repo_role *team;

	team = repo_delegate(f->r, "targets", "team", KEYS(1, 5), "[\"team/*\"]");
	repo_target(team, "team/one", "1");
	repo_target(team, "other/two", "2");
	repo_sign(f->r, "team");
	repo_bump(f->r, "targets");
	assert_int_equal(refresh(f), 0);
	assert_int_equal(read_file(f, "team/one", "1"), 0);
	assert_int_equal(read_file(f, "other/two", ""), -ERR_NOT_LISTED);
	assert_int_equal(tuf_client_each_target(f->k.c, &f->r->fetcher, "team", collect, &names), 0);
	assert_string_equal(buf_str(&names), "team/one ");
	assert_int_equal(tuf_client_each_target(f->k.c, &f->r->fetcher, "nobody", collect, &names),
			 -ERR_NOT_LISTED);
}

/* --- mix and match --- */

static void test_mix_and_match_of_snapshot(void **state)
{
	struct fixture *f = *state;

	for (int hashes = 0; hashes < 2; hashes++) {
		struct repo_role *snapshot = repo_role(f->r, "snapshot");
		char name[64];

		f->r->hashes = hashes;
		repo_bump(f->r, "snapshot");
		(void) snprintf(name, sizeof(name), "%d.snapshot.json", (int) snapshot->version);
		if (hashes) {
			/* another one of the same version, signed by the right key */
			snapshot->extra = "\"x-other\":1";
			repo_sign(f->r, "snapshot");
			snapshot->extra = NULL;
			assert_int_equal(refresh(f), -ERR_TOO_LARGE);
			repo_sign(f->r, "snapshot");
			repo_bump(f->r, "timestamp");
		} else {
			/* another version under the announced name */
			repo_put(f->r, name, repo_file(f->r, "1.snapshot.json")->bytes.data,
				 repo_file(f->r, "1.snapshot.json")->bytes.len);
			assert_int_equal(refresh(f), -ERR_VERSION);
			repo_sign(f->r, "snapshot");
		}
		assert_int_equal(refresh(f), 0);
	}
}

static void test_mix_and_match_of_targets(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(refresh(f), 0);
	repo_bump(f->r, "targets");
	repo_put(f->r, "2.targets.json", repo_file(f->r, "1.targets.json")->bytes.data,
		 repo_file(f->r, "1.targets.json")->bytes.len);
	assert_int_equal(refresh(f), -ERR_VERSION);
	stored(f, 1, 2, 2, 1);
	/* what is here is not of one moment: nothing can be read */
	assert_int_equal(read_file(f, "file.txt", ""), -ERR_UNTRUSTED);
	repo_sign(f->r, "targets");
	assert_int_equal(refresh(f), 0);
	assert_int_equal(read_file(f, "file.txt", "content"), 0);
}

static void test_mix_and_match_of_hashes(void **state)
{
	struct fixture *f = *state;
	struct repo_role *targets = repo_role(f->r, "targets");

	f->r->hashes = true;
	repo_bump(f->r, "targets");
	assert_int_equal(refresh(f), 0);
	repo_bump(f->r, "targets");
	repo_target(targets, "file.txt", "CONTENT"); /* of the same length */
	repo_sign(f->r, "targets");
	assert_true(refresh(f) == -ERR_DIGEST || refresh(f) == -ERR_LENGTH || refresh(f) == -ERR_TOO_LARGE);
	assert_int_equal(repo_stored_version(&f->k, "targets.json"), 2);
}

/* --- wrong software: the right keys, but another role's file --- */

static void test_wrong_software(void **state)
{
	struct fixture *f = *state;
	struct repo_role *targets = repo_role(f->r, "targets");

	/* one key for all roles: only _type tells them apart */
	repo_role(f->r, "root")->top[1] = KEYS(1, 3);
	repo_role(f->r, "root")->top[2] = KEYS(1, 3);
	repo_role(f->r, "timestamp")->signers = KEYS(1, 3);
	repo_role(f->r, "snapshot")->signers = KEYS(1, 3);
	repo_bump(f->r, "root");
	repo_bump(f->r, "targets");
	repo_put(f->r, "timestamp.json", repo_file(f->r, "2.snapshot.json")->bytes.data,
		 repo_file(f->r, "2.snapshot.json")->bytes.len);
	assert_int_equal(refresh(f), -ERR_FIELD_VALUE);
	repo_sign(f->r, "timestamp");
	repo_put(f->r, "2.snapshot.json", repo_file(f->r, "2.targets.json")->bytes.data,
		 repo_file(f->r, "2.targets.json")->bytes.len);
	assert_int_equal(refresh(f), -ERR_FIELD_VALUE);
	repo_sign(f->r, "snapshot");
	assert_int_equal(refresh(f), 0);
	assert_int_equal(read_file(f, "file.txt", "content"), 0);
	/* a file that is listed under another name only */
	repo_target(targets, "other.txt", "other");
	assert_int_equal(read_file(f, "other.txt", ""), -ERR_NOT_LISTED);
}

/* --- malicious mirrors: withhold, fail, mix; the next mirror heals it --- */

static void test_malicious_mirrors(void **state)
{
	struct fixture *f = *state;
	static const int failures[] = { -ERR_NETWORK, -ERR_HTTP_STATUS, -ERR_TLS, -ERR_PEER_GONE, -ENOENT };
	static const char *const names[] = { "timestamp.json", "2.snapshot.json", "2.targets.json" };
	char before[512];

	assert_int_equal(refresh(f), 0);
	repo_bump(f->r, "targets");
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		for (size_t k = 0; k < ARRAY_LEN(failures); k++) {
			f->r->failing = names[i];
			f->r->failure = failures[k];
			repo_clear_log(f->r);
			assert_int_equal(refresh(f), failures[k]);
			assert_int_equal(repo_file(f->r, names[i])->requests, 1);
			(void) snprintf(before, sizeof(before), "%s", tuf_client_error(f->k.c));
			assert_non_null(strstr(before, names[i]));
		}
	f->r->failing = NULL;
	assert_int_equal(refresh(f), 0);
	stored(f, 1, 2, 2, 2);
}

static void test_malicious_mirror_that_hides_new_roots_freezes_no_longer_than_the_root_lives(void **state)
{
	struct fixture *f = *state;

	repo_bump(f->r, "root");
	f->r->failing = "2.root.json";
	f->r->failure = -ENOENT;
	assert_int_equal(refresh(f), 0);
	repo_clock = REPO_NOW + 366 * REPO_DAY;
	assert_int_equal(refresh(f), -ERR_EXPIRED);
	assert_non_null(strstr(tuf_client_error(f->k.c), "root.json"));
}

/* --- key compromise below the threshold --- */

static void test_key_compromise_below_threshold(void **state)
{
	struct fixture *f = *state;
	struct repo_role *root = repo_role(f->r, "root"), *targets = repo_role(f->r, "targets");

	root->top[0] = KEYS(2, 0, 10, 11);
	root->top[3] = KEYS(2, 3, 12);
	root->signers = KEYS(2, 0, 10);
	targets->signers = KEYS(2, 3, 12);
	repo_bump(f->r, "root");
	repo_bump(f->r, "targets");
	assert_int_equal(refresh(f), 0);
	/* one of targets' two keys is not enough, neither alone nor beside a stranger's */
	targets->signers = KEYS(2, 12);
	repo_bump(f->r, "targets");
	assert_int_equal(refresh(f), -ERR_THRESHOLD);
	targets->signers = KEYS(2, 12, 30);
	repo_bump(f->r, "targets");
	assert_int_equal(refresh(f), -ERR_THRESHOLD);
	/* one of root's three is not, and the stolen one goes with the next root */
	root->signers = KEYS(2, 11);
	repo_bump(f->r, "root");
	assert_int_equal(refresh(f), -ERR_THRESHOLD);
	root->top[0] = KEYS(2, 0, 10, 13);
	root->signers = KEYS(2, 0, 10);
	repo_sign(f->r, "root");
	targets->signers = KEYS(2, 3, 12);
	repo_bump(f->r, "targets");
	assert_int_equal(refresh(f), 0);
	root->signers = KEYS(2, 0, 11);
	repo_bump(f->r, "root");
	assert_int_equal(refresh(f), -ERR_THRESHOLD);
}

/* --- root rotation --- */

static void test_root_needs_the_old_and_the_new_threshold(void **state)
{
	struct fixture *f = *state;
	struct repo_role *root = repo_role(f->r, "root");

	root->top[0] = KEYS(1, 40);
	root->signers = KEYS(1, 40); /* new only */
	repo_bump(f->r, "root");
	assert_int_equal(refresh(f), -ERR_THRESHOLD);
	root->signers = KEYS(1, 0); /* old only */
	repo_sign(f->r, "root");
	assert_int_equal(refresh(f), -ERR_THRESHOLD);
	stored(f, 1, 0, 0, 0);
	root->signers = KEYS(1, 41, 40, 0, 42); /* both, and strangers */
	repo_sign(f->r, "root");
	root->signers = KEYS(1, 40);
	repo_bump(f->r, "root");
	assert_int_equal(refresh(f), 0);
	stored(f, 3, 1, 1, 1);
}

static void test_root_threshold_may_rise_and_fall(void **state)
{
	struct fixture *f = *state;
	struct repo_role *root = repo_role(f->r, "root");

	root->top[0] = KEYS(3, 0, 40, 41, 42, 43);
	root->signers = KEYS(3, 0, 41); /* two of three */
	repo_bump(f->r, "root");
	assert_int_equal(refresh(f), -ERR_THRESHOLD);
	root->signers = KEYS(3, 0, 41, 43);
	repo_sign(f->r, "root");
	assert_int_equal(refresh(f), 0);
	root->top[0].threshold = 1;
	root->signers = KEYS(1, 40); /* the new threshold, not the old one */
	repo_bump(f->r, "root");
	assert_int_equal(refresh(f), -ERR_THRESHOLD);
	root->signers = KEYS(1, 40, 41, 42);
	repo_sign(f->r, "root");
	assert_int_equal(refresh(f), 0);
	root->signers = KEYS(1, 43);
	repo_bump(f->r, "root");
	assert_int_equal(refresh(f), 0);
	assert_int_equal(repo_stored_version(&f->k, "root.json"), 4);
}

static void test_root_with_a_threshold_beyond_its_keys_can_be_repaired(void **state)
{
	struct fixture *f = *state;
	struct repo_role *root = repo_role(f->r, "root");

	root->top[2].threshold = 3;
	repo_bump(f->r, "root");
	assert_int_equal(refresh(f), -ERR_THRESHOLD);
	assert_int_equal(repo_stored_version(&f->k, "root.json"), 2);
	root->top[2] = KEYS(3, 2, 50, 51, 52);
	repo_role(f->r, "snapshot")->signers = KEYS(3, 2, 50, 52);
	repo_bump(f->r, "root");
	repo_bump(f->r, "snapshot");
	assert_int_equal(refresh(f), 0);
}

static void test_first_root_is_checked_before_any_request(void **state)
{
	struct fixture *f = *state;
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(1 << 20);
	const struct buf *root = &repo_file(f->r, "1.root.json")->bytes;

	assert_int_equal(buf_add(&bytes, root->data, root->len), 0);
	bytes.data[bytes.len / 2] ^= 1;
	assert_true(tuf_client_init(f->k.c, bytes.data, bytes.len) < 0);
	assert_true(tuf_client_has_root(f->k.c)); /* the good one stays */
	/* a broken file in the folder is no root */
	assert_int_equal(durable_write_file(&os_posix, f->k.dirfd, "root.json", bytes.data, bytes.len, 0644), 0);
	repo_client_reopen(&f->k);
	assert_false(tuf_client_has_root(f->k.c));
	assert_true(refresh(f) < 0);
	assert_non_null(strstr(tuf_client_error(f->k.c), "root.json"));
	assert_int_equal(f->r->requests, 0);
	assert_int_equal(tuf_client_init(f->k.c, root->data, root->len), 0);
	assert_int_equal(refresh(f), 0);
}

static const char *unreadable; /* opening it fails once the counter is down */
static int unreadable_after;

static int open_fails(const struct os *os, int dirfd, const char *path, int flags, mode_t mode)
{
	if (unreadable && strcmp(path, unreadable) == 0 && unreadable_after-- <= 0)
		return -EMFILE;
	return os_posix.openat(os, dirfd, path, flags, mode);
}

/* Else whoever starts it would anchor it anew at the root it came with, and an old timestamp would be news. */
static void test_without_descriptors_nothing_trusted_is_forgotten(void **state)
{
	static const char *const files[] = { "root.json", "timestamp.json", "snapshot.json", "targets.json" };
	struct fixture *f = *state;

	assert_int_equal(refresh(f), 0);
	repo_bump(f->r, "root");
	repo_bump(f->r, "targets");
	assert_int_equal(refresh(f), 0);
	stored(f, 2, 2, 2, 2);
	f->k.os.openat = open_fails;
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		struct tuf_client *c = NULL;

		tuf_client_close(f->k.c);
		f->k.c = NULL;
		unreadable = files[i];
		unreadable_after = 0;
		assert_int_equal(tuf_client_open(&f->k.options, &c), -EMFILE);
		assert_null(c);
		unreadable = NULL;
		repo_client_reopen(&f->k);
		assert_true(tuf_client_has_root(f->k.c));
	}
	stored(f, 2, 2, 2, 2);
	/* In the middle of a refresh, behind a new root: the next one does not take an older timestamp either. */
	repo_bump(f->r, "root");
	unreadable = "timestamp.json";
	unreadable_after = 0;
	assert_int_equal(refresh(f), -EMFILE);
	unreadable = NULL;
	repo_role(f->r, "timestamp")->version = 1;
	repo_sign(f->r, "timestamp");
	assert_int_equal(refresh(f), -ERR_ROLLBACK);
	stored(f, 3, 2, 2, 2);
	f->k.os.openat = os_posix.openat;
}

static void test_one_client_per_folder(void **state)
{
	struct fixture *f = *state;
	struct tuf_client *second = NULL;

	assert_int_equal(tuf_client_open(&f->k.options, &second), -EBUSY);
	assert_null(second);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_first_and_unchanged_refresh_ask_for_nothing_twice),
		T(test_files_are_stored_exactly_as_received),
		T(test_without_consistent_snapshots_names_carry_no_versions),
		T(test_unknown_members_are_signed_and_ignored),
		T(test_arbitrary_software),
		T(test_arbitrary_software_in_the_target_itself),
		T(test_rollback_of_root),
		T(test_rollback_of_timestamp),
		T(test_rollback_of_snapshot),
		T(test_rollback_of_targets),
		T(test_rollback_by_leaving_a_role_out),
		T(test_rollback_check_of_equal_timestamp_keeps_the_first),
		T(test_fast_forward_recovery_of_timestamp),
		T(test_fast_forward_recovery_of_snapshot),
		T(test_fast_forward_recovery_of_targets),
		T(test_revoked_keys_are_not_kept_by_spoiling_the_next_root),
		T(test_fast_forward_recovery_survives_a_crash_behind_the_root),
		T(test_indefinite_freeze_by_replaying_the_cached_timestamp),
		T(test_indefinite_freeze_by_expired_files),
		T(test_indefinite_freeze_by_an_expired_root_which_is_stored_first),
		T(test_expired_local_files_still_lead_to_newer_ones),
		T(test_endless_data),
		T(test_endless_data_in_a_target),
		T(test_limits_of_every_role_come_from_the_options),
		T(test_slow_retrieval),
		T(test_extraneous_dependencies),
		T(test_mix_and_match_of_snapshot),
		T(test_mix_and_match_of_targets),
		T(test_mix_and_match_of_hashes),
		T(test_wrong_software),
		T(test_malicious_mirrors),
		T(test_malicious_mirror_that_hides_new_roots_freezes_no_longer_than_the_root_lives),
		T(test_key_compromise_below_threshold),
		T(test_root_needs_the_old_and_the_new_threshold),
		T(test_root_threshold_may_rise_and_fall),
		T(test_root_with_a_threshold_beyond_its_keys_can_be_repaired),
		T(test_first_root_is_checked_before_any_request),
		T(test_without_descriptors_nothing_trusted_is_forgotten),
		T(test_one_client_per_folder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
