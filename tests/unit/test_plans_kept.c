/* What server-stub/repo/plans.h promises. */
#include "server-stub/repo/plans.h"

#include "base/err.h"
#include "base/text.h"
#include "os/durable.h"
#include "support/fault_loop.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const char plan[] = "{\"component\":\"web\",\"version\":\"1.0.0\"}", other[] = "{\"component\":\"dns\"}";
static char plan_sha256[SHA256_HEX + 1], other_sha256[SHA256_HEX + 1];

static int keep(struct fault_case *c, const char *id, const char *text, char sha256[static SHA256_HEX + 1])
{
	return plans_keep(c->os, c->dirfd, id, text, strlen(text), sha256);
}

static bool is_kept(struct fault_case *c, const char *id, const char *sha256, const char *text)
{
	CLEANUP(buf_done)
	struct buf found = BUF_INIT(PLAN_FILE_MAX);

	return plans_read(os_quick(), c->dirfd, id, sha256, &found) == 0 && strcmp(buf_str(&found), text) == 0;
}

/* --- every call fails, the power goes at every change --- */

static int prep_one(struct fault_case *c)
{
	return keep(c, "first", other, other_sha256);
}

static int body_another(struct fault_case *c)
{
	char sha256[SHA256_HEX + 1] = "";
	int r = keep(c, "second", plan, sha256);

	if (r == 0)
		memcpy(plan_sha256, sha256, sizeof(sha256));
	else
		assert_string_equal(sha256, ""); /* nothing may be named that is not there */
	return r;
}

static void check_both(struct fault_case *c, int r)
{
	assert_true(is_kept(c, "first", other_sha256, other));
	if (r == 0)
		assert_true(is_kept(c, "second", plan_sha256, plan));
}

FAULT_TEST(another){ .name = "another plan", .prep = prep_one, .body = body_another, .check = check_both };

static int body_the_first(struct fault_case *c)
{
	char sha256[SHA256_HEX + 1];

	return keep(c, "first", other, sha256);
}

static void check_the_first(struct fault_case *c, int r)
{
	if (r == 0)
		assert_true(is_kept(c, "first", other_sha256, other));
}

FAULT_TEST(the_first){ .name = "the first plan", .body = body_the_first, .check = check_the_first };

static void test_survives(void **state)
{
	(void) state;
	assert_int_equal(sha256_hex(other, strlen(other), other_sha256), 0);
	fault_test_run(&another);
	crash_test_run(&another, 8);
	fault_test_run(&the_first);
	crash_test_run(&the_first, 8);
}

/* --- what stands there --- */

struct folder {
	char path[128];
	struct fault_case c;
};

static int open_folder(void **state)
{
	struct folder *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	temp_folder(f->path, sizeof(f->path));
	f->c.os = os_quick();
	f->c.dirfd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(f->c.dirfd >= 0);
	*state = f;
	return 0;
}

static int close_folder(void **state)
{
	struct folder *f = *state;

	close(f->c.dirfd);
	temp_folder_remove(f->path);
	free(f);
	return 0;
}

static void test_another_one_is_not_taken(void **state)
{
	struct fault_case *c = &((struct folder *) *state)->c;
	CLEANUP(buf_done)
	struct buf found = BUF_INIT(PLAN_FILE_MAX);
	struct stat st;

	assert_int_equal(plans_read(c->os, c->dirfd, "web-1", plan_sha256, &found), -ENOENT);
	assert_int_equal(keep(c, "web-1", plan, plan_sha256), 0);
	assert_true(is_kept(c, "web-1", plan_sha256, plan));
	assert_int_equal(fstatat(c->dirfd, "plans/web-1.json", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(durable_write_file(c->os, c->dirfd, "plans/web-1.json", other, strlen(other), 0640), 0);
	assert_int_equal(plans_read(c->os, c->dirfd, "web-1", plan_sha256, &found), -ERR_DIGEST);
	assert_int_equal(found.len, 0);
	/* A link to elsewhere is none. */
	assert_int_equal(symlinkat("/etc/hosts", c->dirfd, "plans/web-2.json"), 0);
	assert_int_equal(plans_read(c->os, c->dirfd, "web-2", plan_sha256, &found), -ELOOP);
	/* The controller puts its own back. */
	assert_int_equal(keep(c, "web-1", plan, plan_sha256), 0);
	assert_true(is_kept(c, "web-1", plan_sha256, plan));
}

static void test_names_and_sizes(void **state)
{
	struct fault_case *c = &((struct folder *) *state)->c;
	char sha256[SHA256_HEX + 1];
	char *large = calloc(1, PLAN_FILE_MAX + 1);

	assert_non_null(large);
	assert_int_equal(keep(c, "../web", plan, sha256), -ERR_NAME);
	assert_int_equal(keep(c, "", plan, sha256), -ERR_NAME);
	assert_int_equal(plans_keep(c->os, c->dirfd, "web", large, PLAN_FILE_MAX + 1, sha256), -ERR_TOO_LARGE);
	assert_int_equal(plans_keep(c->os, c->dirfd, "web", large, PLAN_FILE_MAX, sha256), 0);
	free(large);
}

static bool is_first(const void *user, const char *id)
{
	return strcmp(id, user) == 0;
}

static void test_sweeping(void **state)
{
	struct fault_case *c = &((struct folder *) *state)->c;
	char sha256[SHA256_HEX + 1];

	assert_int_equal(plans_sweep(c->os, c->dirfd, is_first, "first"), 0); /* there is no folder yet */
	assert_int_equal(keep(c, "first", plan, sha256), 0);
	assert_int_equal(keep(c, "second", plan, sha256), 0);
	assert_int_equal(close(openat(c->dirfd, "plans/.third.json.00112233.pending", O_CREAT | O_WRONLY, 0600)),
			 0);
	assert_int_equal(close(openat(c->dirfd, "plans/README", O_CREAT | O_WRONLY, 0600)), 0);
	assert_int_equal(plans_sweep(c->os, c->dirfd, is_first, "first"), 0);
	assert_int_equal(faccessat(c->dirfd, "plans/first.json", F_OK, 0), 0);
	assert_int_equal(faccessat(c->dirfd, "plans/second.json", F_OK, 0), -1);
	assert_int_equal(faccessat(c->dirfd, "plans/.third.json.00112233.pending", F_OK, 0), -1);
	assert_int_equal(faccessat(c->dirfd, "plans/README", F_OK, 0), 0); /* somebody's own */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_survives),
		cmocka_unit_test_setup_teardown(test_another_one_is_not_taken, open_folder, close_folder),
		cmocka_unit_test_setup_teardown(test_names_and_sizes, open_folder, close_folder),
		cmocka_unit_test_setup_teardown(test_sweeping, open_folder, close_folder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
