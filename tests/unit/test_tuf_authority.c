/*
 * What each stolen key can do in a fleet's repository, what it cannot, and how that
 * is healed: the table in common/tuf/README.md, as far as metadata decides it.
 */
#include "support/tuf_repo.h"

#include "base/err.h"
#include "json/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Keys by number. 0 root, 1 timestamp, 2 snapshot, 3 targets, as repo_new() has them. */
enum { WEB_1 = 5, WEB_2, WEB_3, WAF_1, ROLLOUTS, SUPPORT, INVENTORY, CONTROL, QA, NODE, NEW_KEY };

struct fixture {
	struct tuf_repo *r;
	struct repo_client k;
	struct buf extra;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct repo_role *targets;

	if (!f)
		return -1;
	repo_clock = REPO_NOW;
	f->r = repo_new();
	targets = repo_role(f->r, "targets");
	repo_target(repo_delegate(f->r, "targets", "team-web", KEYS(2, WEB_1, WEB_2, WEB_3),
				  "[\"web/policy.json\",\"web/*/release.json\"]"),
		    "web/1.0.0/release.json", "web 1.0.0");
	repo_target(repo_delegate(f->r, "targets", "team-waf", KEYS(1, WAF_1),
				  "[\"waf/policy.json\",\"waf/*/release.json\"]"),
		    "waf/1.0.0/release.json", "waf 1.0.0");
	repo_target(repo_delegate(f->r, "targets", "rollouts", KEYS(1, ROLLOUTS), "[\"rollouts/*\"]"),
		    "rollouts/index.json", "index");
	repo_target(repo_delegate(f->r, "targets", "support", KEYS(1, SUPPORT), "[\"nodes/*\"]"), "nodes/n1.json",
		    "order");
	repo_target(repo_delegate(f->r, "targets", "inventory", KEYS(1, INVENTORY), "[\"inventory/*\"]"),
		    "inventory/n1.json", "labels");
	repo_role(f->r, "team-web")->signers = KEYS(2, WEB_1, WEB_3);
	for (size_t i = 0; i < targets->delegation_count; i++)
		targets->delegations[i].terminating = true;
	buf_init(&f->extra, 1 << 16);
	assert_int_equal(buf_addf(&f->extra,
				  "\"x-selfright\":{\"control\":{\"keys\":{\"%s\":%s},\"threshold\":1},"
				  "\"approvers\":{\"qa\":{\"keys\":{\"%s\":%s},\"threshold\":1}}}",
				  repo_keyid(CONTROL), repo_key_json(CONTROL), repo_keyid(QA), repo_key_json(QA)),
			 0);
	targets->extra = buf_str(&f->extra);
	repo_sign_all(f->r, false);
	repo_client_new(&f->k, f->r);
	assert_int_equal(tuf_client_refresh(f->k.c, &f->r->fetcher, NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	repo_client_free(&f->k);
	repo_free(f->r);
	buf_done(&f->extra);
	free(f);
	return 0;
}

static int refresh(struct fixture *f)
{
	return tuf_client_refresh(f->k.c, &f->r->fetcher, NULL);
}

/* The content of a target, or the error; a file that is read is the one `want` says. */
static int get(struct fixture *f, const char *path, const char *want)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(4096);
	int r = tuf_client_read(f->k.c, &f->r->fetcher, path, 4096, &bytes, NULL);

	if (r >= 0)
		assert_string_equal(buf_str(&bytes), want);
	return r;
}

static void everything_is_as_it_was(struct fixture *f)
{
	assert_int_equal(get(f, "web/1.0.0/release.json", "web 1.0.0"), 0);
	assert_int_equal(get(f, "waf/1.0.0/release.json", "waf 1.0.0"), 0);
	assert_int_equal(get(f, "rollouts/index.json", "index"), 0);
	assert_int_equal(get(f, "nodes/n1.json", "order"), 0);
	assert_int_equal(get(f, "inventory/n1.json", "labels"), 0);
}

/* A role signs files of others besides its own: its own count, the others do not. */
static void role_cannot_reach(struct fixture *f, const char *name, const char *own)
{
	static const char *const paths[] = { "web/policy.json",	       "web/9.9.9/release.json",
					     "waf/policy.json",	       "rollouts/index.json",
					     "rollouts/evil.json",     "nodes/n2.json",
					     "inventory/n2.json",      "evil",
					     "rollouts/deep/evil.json" };
	struct repo_role *role = repo_role(f->r, name);

	for (size_t i = 0; i < ARRAY_LEN(paths); i++)
		if (strcmp(paths[i], own) != 0)
			repo_target(role, paths[i], "evil");
	repo_target(role, own, "mine");
	repo_bump(f->r, name);
	assert_int_equal(refresh(f), 0);
	assert_int_equal(get(f, own, "mine"), 0);
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		const char *dir = strchr(own, '/');
		bool same_folder = strncmp(paths[i], own, (size_t) (dir - own) + 1) == 0;

		if (strcmp(paths[i], "rollouts/index.json") == 0 && !same_folder)
			assert_int_equal(get(f, paths[i], "index"), 0);
		else if (!same_folder || strcmp(paths[i], "rollouts/deep/evil.json") == 0)
			assert_int_equal(get(f, paths[i], ""), -ERR_NOT_LISTED);
	}
	/* its key signs no other role's file either */
	repo_role(f->r, "team-waf")->signers = repo_role(f->r, name)->signers;
	repo_bump(f->r, "team-waf");
	assert_int_equal(refresh(f), 0);
	if (strcmp(name, "team-waf") != 0)
		assert_int_equal(get(f, "waf/1.0.0/release.json", ""), -ERR_THRESHOLD);
}

static void test_a_fleet_repository_is_read(void **state)
{
	everything_is_as_it_was(*state);
}

static void test_stolen_timestamp_key(void **state)
{
	struct fixture *f = *state;

	/* it can say again what was said: a freeze until the snapshot expires; it cannot go back */
	repo_bump(f->r, "targets");
	assert_int_equal(refresh(f), 0);
	repo_role(f->r, "snapshot")->version = 1;
	repo_bump(f->r, "timestamp");
	assert_int_equal(refresh(f), -ERR_ROLLBACK);
	/* nor name a snapshot that it signed itself */
	repo_role(f->r, "snapshot")->version = 2;
	repo_role(f->r, "snapshot")->signers = KEYS(1, 1);
	repo_bump(f->r, "snapshot");
	assert_int_equal(refresh(f), -ERR_THRESHOLD);
	/* healed by a root with another key, also from a version nobody reaches */
	repo_role(f->r, "snapshot")->signers = KEYS(1, 2);
	repo_role(f->r, "timestamp")->version = 99999999;
	repo_bump(f->r, "snapshot");
	assert_int_equal(refresh(f), 0);
	repo_role(f->r, "root")->top[1] = KEYS(1, NEW_KEY);
	repo_role(f->r, "timestamp")->signers = KEYS(1, NEW_KEY);
	repo_role(f->r, "timestamp")->version = 7;
	repo_bump(f->r, "root");
	repo_bump(f->r, "targets");
	assert_int_equal(refresh(f), 0);
	assert_int_equal(repo_stored_version(&f->k, "timestamp.json"), 8);
	everything_is_as_it_was(f);
}

static void test_stolen_snapshot_and_timestamp_keys(void **state)
{
	struct fixture *f = *state;

	/* together they choose among what the roles really signed, but never below what is trusted */
	repo_bump(f->r, "rollouts");
	assert_int_equal(refresh(f), 0);
	repo_role(f->r, "rollouts")->version = 1;
	repo_bump(f->r, "snapshot");
	assert_int_equal(refresh(f), -ERR_ROLLBACK);
	/* a new document of any role they cannot make */
	repo_role(f->r, "rollouts")->version = 2;
	repo_role(f->r, "rollouts")->signers = KEYS(1, 1, 2);
	repo_target(repo_role(f->r, "rollouts"), "rollouts/index.json", "evil");
	repo_bump(f->r, "rollouts");
	assert_int_equal(refresh(f), 0);
	assert_int_equal(get(f, "rollouts/index.json", ""), -ERR_THRESHOLD);
	/* healed by a root with other keys for both */
	repo_role(f->r, "root")->top[1] = KEYS(1, NEW_KEY);
	repo_role(f->r, "root")->top[2] = KEYS(1, NEW_KEY + 1);
	repo_role(f->r, "timestamp")->signers = KEYS(1, NEW_KEY);
	repo_role(f->r, "snapshot")->signers = KEYS(1, NEW_KEY + 1);
	repo_role(f->r, "rollouts")->signers = KEYS(1, ROLLOUTS);
	repo_target(repo_role(f->r, "rollouts"), "rollouts/index.json", "index");
	repo_role(f->r, "rollouts")->version = 1;
	repo_bump(f->r, "root");
	repo_bump(f->r, "rollouts");
	assert_int_equal(refresh(f), 0);
	everything_is_as_it_was(f);
}

static void test_stolen_rollouts_key(void **state)
{
	role_cannot_reach(*state, "rollouts", "rollouts/more.json");
}

static void test_stolen_support_key(void **state)
{
	role_cannot_reach(*state, "support", "nodes/n1.json");
}

static void test_stolen_inventory_key(void **state)
{
	role_cannot_reach(*state, "inventory", "inventory/n1.json");
}

static void test_team_at_threshold(void **state)
{
	role_cannot_reach(*state, "team-waf", "waf/1.1.0/release.json");
}

static void test_one_team_key_below_threshold(void **state)
{
	struct fixture *f = *state;
	struct repo_role *web = repo_role(f->r, "team-web");

	for (unsigned key = WEB_1; key <= WEB_3; key++) {
		web->signers = KEYS(2, key);
		repo_target(web, "web/9.9.9/release.json", "evil");
		repo_bump(f->r, "team-web");
		assert_int_equal(refresh(f), 0);
		assert_int_equal(get(f, "web/9.9.9/release.json", ""), -ERR_THRESHOLD);
		assert_int_equal(get(f, "waf/1.0.0/release.json", "waf 1.0.0"), 0); /* others go on */
	}
	/* healed: targets names another key, the team signs anew */
	repo_delegation(f->r, "targets", "team-web")->keys = KEYS(2, WEB_1, WEB_2, NEW_KEY);
	web->signers = KEYS(2, WEB_1, NEW_KEY);
	web->target_count = 1;
	repo_sign(f->r, "team-web");
	web->version++;
	repo_sign(f->r, "team-web");
	repo_bump(f->r, "targets");
	assert_int_equal(refresh(f), 0);
	everything_is_as_it_was(f);
	web->signers = KEYS(2, WEB_1, WEB_3); /* the one that is gone */
	repo_bump(f->r, "team-web");
	assert_int_equal(refresh(f), 0);
	assert_int_equal(get(f, "web/1.0.0/release.json", ""), -ERR_THRESHOLD);
}

/* --- keys that sign no metadata --- */

static int opens(const struct tuf_keyring *ring, unsigned key)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(4096);
	CLEANUP(json_freep)
	struct json *j = NULL;
	struct repo_keys keys = { { key }, 1, 1 };

	repo_envelope("{\"_type\":\"selfright-ack\",\"node\":\"n1\"}", &keys, &text);
	return tuf_envelope_open(text.data, text.len, ring, &j);
}

static void no_metadata_by(struct fixture *f, unsigned key)
{
	static const char *const roles[] = { "timestamp", "snapshot", "targets" };
	static const char *const delegated[] = { "rollouts", "support", "inventory", "team-waf" };
	static const char *const paths[] = { "rollouts/index.json", "nodes/n1.json", "inventory/n1.json",
					     "waf/1.0.0/release.json" };

	for (size_t i = 0; i < ARRAY_LEN(delegated); i++) {
		struct repo_role *role = repo_role(f->r, delegated[i]);
		struct repo_keys right = role->signers;

		role->signers = (struct repo_keys){ { key }, 1, 1 };
		repo_bump(f->r, delegated[i]);
		assert_int_equal(refresh(f), 0);
		assert_int_equal(get(f, paths[i], ""), -ERR_THRESHOLD);
		role->signers = right;
		repo_bump(f->r, delegated[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
		struct repo_role *role = repo_role(f->r, roles[i]);
		struct repo_keys right = role->signers;

		role->signers = (struct repo_keys){ { key }, 1, 1 };
		repo_bump(f->r, roles[i]);
		assert_int_equal(refresh(f), -ERR_THRESHOLD);
		role->signers = right;
		repo_bump(f->r, roles[i]);
		assert_int_equal(refresh(f), 0);
	}
	everything_is_as_it_was(f);
}

static void test_stolen_control_key(void **state)
{
	struct fixture *f = *state;
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *control = NULL;
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *healed = NULL;
	char *text;

	assert_int_equal(tuf_control_keyring(f->k.c, &control), 0);
	assert_int_equal(opens(control, CONTROL), 0);
	assert_int_equal(opens(control, ROLLOUTS), -ERR_THRESHOLD);
	no_metadata_by(f, CONTROL);
	/* healed: targets names another key */
	text = buf_take(&f->extra);
	assert_non_null(text);
	assert_int_equal(buf_addf(&f->extra,
				  "\"x-selfright\":{\"control\":{\"keys\":{\"%s\":%s},\"threshold\":1}}",
				  repo_keyid(NEW_KEY), repo_key_json(NEW_KEY)),
			 0);
	free(text);
	repo_role(f->r, "targets")->extra = buf_str(&f->extra);
	repo_bump(f->r, "targets");
	assert_int_equal(refresh(f), 0);
	assert_int_equal(tuf_control_keyring(f->k.c, &healed), 0);
	assert_int_equal(opens(healed, CONTROL), -ERR_THRESHOLD);
	assert_int_equal(opens(healed, NEW_KEY), 0);
}

static void test_stolen_node_identity(void **state)
{
	struct fixture *f = *state;
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *control = NULL;
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *node = NULL;

	assert_int_equal(tuf_control_keyring(f->k.c, &control), 0);
	assert_int_equal(tuf_keyring_single(repo_key_pem(NODE), &node), 0);
	assert_int_equal(opens(node, NODE), 0);
	assert_int_equal(opens(control, NODE), -ERR_THRESHOLD);
	no_metadata_by(f, NODE);
}

static void test_stolen_approver_key(void **state)
{
	struct fixture *f = *state;
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *qa = NULL;
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *none = NULL;
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *team = NULL;
	const struct json *x = json_get(tuf_client_targets_signed(f->k.c), "x-selfright");

	assert_int_equal(tuf_approvers_load(x, "qa", &qa), 0);
	assert_int_equal(tuf_approvers_load(x, "security", &none), -ERR_NOT_LISTED);
	assert_int_equal(tuf_approvers_load(NULL, "qa", &none), -ERR_NOT_LISTED);
	assert_int_equal(opens(qa, QA), 0);
	assert_int_equal(opens(qa, WEB_1), -ERR_THRESHOLD);
	assert_int_equal(tuf_team_keyring(f->k.c, "team-web", &team), 0);
	assert_int_equal(tuf_keyring_threshold(team), 2);
	assert_int_equal(opens(team, WEB_1), -ERR_THRESHOLD); /* one of two */
	assert_int_equal(tuf_team_keyring(f->k.c, "team-none", &none), -ERR_NOT_LISTED);
	no_metadata_by(f, QA);
}

/* --- carriers: broker, web server, proxy, USB stick --- */

static void test_stolen_carrier(void **state)
{
	struct fixture *f = *state;
	struct repo_client late;

	/* it may keep things back, and that is all: what was trusted stays, until it expires */
	repo_client_new(&late, f->r);
	assert_int_equal(tuf_client_refresh(late.c, &f->r->fetcher, NULL), 0);
	f->r->failing = "timestamp.json";
	f->r->failure = -ERR_NETWORK;
	assert_int_equal(refresh(f), -ERR_NETWORK);
	everything_is_as_it_was(f);
	f->r->failing = NULL;
	repo_clock = REPO_NOW + 31 * REPO_DAY;
	assert_int_equal(refresh(f), -ERR_EXPIRED); /* the old timestamp again: silence is not consent */
	assert_int_equal(get(f, "rollouts/index.json", ""), -ERR_EXPIRED);
	repo_client_free(&late);
	/* another carrier heals it */
	for (struct repo_role *role = f->r->roles; role; role = role->next)
		role->expires = REPO_NOW + 365 * REPO_DAY;
	for (struct repo_role *role = f->r->roles; role; role = role->next)
		if (strcmp(role->name, "root") != 0)
			role->version++;
	repo_sign_all(f->r, false);
	assert_int_equal(refresh(f), 0);
	everything_is_as_it_was(f);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_a_fleet_repository_is_read),
		T(test_stolen_timestamp_key),
		T(test_stolen_snapshot_and_timestamp_keys),
		T(test_stolen_rollouts_key),
		T(test_stolen_support_key),
		T(test_stolen_inventory_key),
		T(test_team_at_threshold),
		T(test_one_team_key_below_threshold),
		T(test_stolen_control_key),
		T(test_stolen_node_identity),
		T(test_stolen_approver_key),
		T(test_stolen_carrier),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
