/* The folder of trusted files: whatever fails or stops between any two of them, the next refresh goes on. */
#include "support/fault_loop.h"
#include "support/tuf_repo.h"

#include "base/err.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* The system's own clock is used here, so nothing may expire in its time. */
enum { FAR = INT32_MAX };
static const int64_t far_away = (int64_t) FAR * 3; /* year 2174 */

static struct tuf_repo *before, *after, *plain; /* plain: newer than before, under the same root, without a team */

static struct tuf_repo *make(bool newer)
{
	struct tuf_repo *r = repo_new();
	struct repo_role *team = repo_delegate(r, "targets", "team", KEYS(1, 5), "[\"team/*\"]");
	struct repo_role *root = repo_role(r, "root");

	r->hashes = true;
	repo_target(team, "team/file", newer ? "new" : "old");
	for (struct repo_role *role = r->roles; role; role = role->next) {
		role->expires = far_away;
		if (newer && role != root)
			role->version = 5;
	}
	repo_sign_all(r, true);
	if (newer) {
		/* the timestamp's key changes too: what lies in the folder is dropped on the way */
		root->top[1] = KEYS(1, 9);
		repo_role(r, "timestamp")->signers = KEYS(1, 9);
		repo_bump(r, "root");
		repo_role(r, "timestamp")->extra = "\"x-issued\":\"2026-11-20T00:00:00Z\"";
		repo_bump(r, "timestamp");
	}
	return r;
}

static int group_setup(void **state)
{
	(void) state;
	before = make(false);
	plain = repo_new();
	for (struct repo_role *role = plain->roles; role; role = role->next) {
		role->expires = far_away;
		role->version = 2;
	}
	repo_role(plain, "root")->version = 1;
	repo_role(plain, "timestamp")->extra = "\"x-issued\":\"2026-11-20T00:00:00Z\"";
	/* a role once listed stays listed */
	(void) repo_delegate(plain, "targets", "team", KEYS(1, 5), "[\"team/*\"]");
	repo_sign_all(plain, true);
	after = make(true);
	return 0;
}

static int group_teardown(void **state)
{
	(void) state;
	repo_free(before);
	repo_free(after);
	repo_free(plain);
	return 0;
}

/* Open, take the first root if there is none, refresh, and read the team's file. */
static int go(const struct os *os, int dirfd, struct tuf_repo *r)
{
	const struct tuf_options o = {
		.os = os,
		.dirfd = dirfd,
		.limits = tuf_limits_default,
		.hold_time_floor = true,
	};
	CLEANUP(tuf_client_closep)
	struct tuf_client *c = NULL;
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(4096);
	const struct buf *root = &repo_file(before, "1.root.json")->bytes;
	int result;

	result = tuf_client_open(&o, &c);
	if (result < 0)
		return result;
	if (!tuf_client_has_root(c)) {
		result = tuf_client_init(c, root->data, root->len);
		if (result < 0)
			return result;
	}
	result = tuf_client_refresh(c, &r->fetcher, NULL);
	if (result < 0 || r == plain)
		return result;
	result = tuf_client_read(c, &r->fetcher, "team/file", 4096, &bytes, NULL);
	if (result >= 0)
		assert_string_equal(buf_str(&bytes), r == after ? "new" : "old");
	return result;
}

static void expect_final(int dirfd)
{
	static const char *const names[] = { "lock",	  "root.json",	"snapshot.json", "targets.json",
					     "team.json", "time-floor", "timestamp.json" };
	const struct repo_client k = { .dirfd = dirfd };
	struct name_list list = { 0 };

	assert_int_equal(repo_stored_version(&k, "root.json"), 2);
	assert_int_equal(repo_stored_version(&k, "timestamp.json"), 6);
	assert_int_equal(repo_stored_version(&k, "snapshot.json"), 5);
	assert_int_equal(repo_stored_version(&k, "targets.json"), 5);
	assert_int_equal(repo_stored_version(&k, "team.json"), 5);
	assert_int_equal(dir_list(&os_posix, dirfd, ".", &list), 0);
	assert_int_equal(list.count, ARRAY_LEN(names)); /* nothing half-written stays */
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_string_equal(list.names[i], names[i]);
	name_list_done(&list);
}

/* As a refresh leaves it; copied, because verifying it in each of many rounds takes long. */
static int start_with_the_old(struct fault_case *c)
{
	static const char *const names[][2] = { { "root.json", "1.root.json" },
						{ "timestamp.json", "timestamp.json" },
						{ "snapshot.json", "1.snapshot.json" },
						{ "targets.json", "1.targets.json" },
						{ "team.json", "1.team.json" } };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const struct buf *bytes = &repo_file(before, names[i][1])->bytes;
		int r = durable_write_file(c->os, c->dirfd, names[i][0], bytes->data, bytes->len, 0644);

		if (r < 0)
			return r;
	}
	return 0;
}

static int go_to_the_new(struct fault_case *c)
{
	return go(c->os, c->dirfd, after);
}

static void what_is_there_is_trusted_and_goes_on(struct fault_case *c, int r)
{
	const struct repo_client k = { .dirfd = c->dirfd };

	if (!c->injected)
		assert_int_equal(r, 0);
	/* the trusted root never goes back, and never goes away */
	assert_true(repo_stored_version(&k, "root.json") >= 1);
	assert_int_equal(go(&os_posix, c->dirfd, after), 0);
	expect_final(c->dirfd);
}

static int go_to_the_plain(struct fault_case *c)
{
	return go(c->os, c->dirfd, plain);
}

static void what_is_there_is_trusted_and_the_next_refresh_works(struct fault_case *c, int r)
{
	const struct repo_client k = { .dirfd = c->dirfd };

	if (!c->injected)
		assert_int_equal(r, 0);
	assert_int_equal(repo_stored_version(&k, "root.json"), 1);
	assert_int_equal(go(&os_posix, c->dirfd, plain), 0);
	assert_int_equal(repo_stored_version(&k, "timestamp.json"), 2);
	assert_int_equal(repo_stored_version(&k, "snapshot.json"), 2);
	assert_int_equal(repo_stored_version(&k, "targets.json"), 2);
}

/* Fewer files than below, because each of some hundred rounds verifies them all. */
FAULT_TEST(a_refresh_in_which_a_call_fails){
	.name = "a refresh in which a call fails",
	.prep = start_with_the_old,
	.body = go_to_the_plain,
	.check = what_is_there_is_trusted_and_the_next_refresh_works,
};

FAULT_TEST(a_refresh_that_stops_anywhere){
	.name = "a refresh that stops anywhere",
	.prep = start_with_the_old,
	.body = go_to_the_new,
	.check = what_is_there_is_trusted_and_goes_on,
};

static void a_first_start_goes_on(struct fault_case *c, int r)
{
	if (!c->injected)
		assert_int_equal(r, 0);
	assert_int_equal(go(&os_posix, c->dirfd, after), 0);
	expect_final(c->dirfd);
}

FAULT_TEST(a_first_start_that_stops_anywhere){
	.name = "a first start that stops anywhere",
	.body = go_to_the_new,
	.check = a_first_start_goes_on,
};

static void test_the_old_and_the_new_state_are_whole(void **state)
{
	char path[256];
	int dirfd;

	(void) state;
	temp_folder(path, sizeof(path));
	dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dirfd >= 0);
	assert_int_equal(go(&os_posix, dirfd, before), 0);
	assert_int_equal(go(&os_posix, dirfd, after), 0);
	expect_final(dirfd);
	assert_int_equal(close(dirfd), 0);
	temp_folder_remove(path);
}

static void test_any_call_fails_during_a_refresh(void **state)
{
	(void) state;
	fault_test_run(&a_refresh_in_which_a_call_fails);
}

static void test_power_is_cut_at_any_point_of_a_refresh(void **state)
{
	(void) state;
	crash_test_run(&a_refresh_that_stops_anywhere, 2);
}

static void test_power_is_cut_at_any_point_of_a_first_start(void **state)
{
	(void) state;
	crash_test_run(&a_first_start_that_stops_anywhere, 2);
}

/* --- what lies in the folder is outside data --- */

static void test_files_of_the_folder_that_are_something_else(void **state)
{
	static const char *const names[] = { "timestamp.json", "snapshot.json", "targets.json", "team.json",
					     "time-floor" };
	static const char *const contents[] = { "", "{}", "[", "{\"signed\":{},\"signatures\":[]}", "\0\0\0" };
	char path[256];
	int dirfd;

	(void) state;
	temp_folder(path, sizeof(path));
	dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dirfd >= 0);
	assert_int_equal(go(&os_posix, dirfd, after), 0);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		for (size_t k = 0; k < ARRAY_LEN(contents); k++) {
			assert_int_equal(durable_write_file(&os_posix, dirfd, names[i], contents[k],
							    k == 4 ? 3 : strlen(contents[k]), 0644),
					 0);
			assert_int_equal(go(&os_posix, dirfd, after), 0);
		}
		/* a link is not followed, a folder is no file: the floor apart, they are replaced or refused */
		assert_int_equal(unlinkat(dirfd, names[i], 0), 0);
		assert_int_equal(symlinkat("root.json", dirfd, names[i]), 0);
		assert_int_equal(go(&os_posix, dirfd, after), 0);
		/* another role's file, well signed */
		assert_int_equal(unlinkat(dirfd, names[i], 0) == 0 || errno == ENOENT, 1);
		assert_int_equal(linkat(dirfd, "root.json", dirfd, names[i], 0), 0);
		assert_int_equal(go(&os_posix, dirfd, after), 0);
		assert_int_equal(unlinkat(dirfd, names[i], 0) == 0 || errno == ENOENT, 1);
		assert_int_equal(go(&os_posix, dirfd, after), 0);
	}
	assert_int_equal(close(dirfd), 0);
	temp_folder_remove(path);
}

static void test_what_a_power_cut_left_is_swept(void **state)
{
	char path[256];
	int dirfd;

	(void) state;
	temp_folder(path, sizeof(path));
	dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dirfd >= 0);
	assert_int_equal(durable_write_file(&os_posix, dirfd, ".root.json.0123456789abcdef.pending", "{", 1, 0600),
			 0);
	assert_int_equal(go(&os_posix, dirfd, after), 0);
	expect_final(dirfd);
	assert_int_equal(close(dirfd), 0);
	temp_folder_remove(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_old_and_the_new_state_are_whole),
		cmocka_unit_test(test_any_call_fails_during_a_refresh),
		cmocka_unit_test(test_power_is_cut_at_any_point_of_a_refresh),
		cmocka_unit_test(test_power_is_cut_at_any_point_of_a_first_start),
		cmocka_unit_test(test_files_of_the_folder_that_are_something_else),
		cmocka_unit_test(test_what_a_power_cut_left_is_swept),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
