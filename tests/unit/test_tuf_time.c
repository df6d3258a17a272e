/* The time floor (DESIGN.md section 4 "Time") and the clock. */
#include "support/tuf_repo.h"

#include "base/err.h"
#include "base/timestamp.h"
#include "os/durable.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BUILT = REPO_NOW - 100 * REPO_DAY };

struct fixture {
	struct tuf_repo *r;
	struct repo_client k;
	char extra[64];
};

static void issue(struct fixture *f, int64_t issued, int64_t expires)
{
	struct repo_role *timestamp = repo_role(f->r, "timestamp");
	char text[TIMESTAMP_LEN + 1];

	timestamp_format(text, issued);
	(void) snprintf(f->extra, sizeof(f->extra), "\"x-issued\":\"%s\"", text);
	timestamp->extra = f->extra;
	timestamp->expires = expires;
	repo_bump(f->r, "timestamp");
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	repo_clock = REPO_NOW;
	repo_clock_ms = 1000;
	f->r = repo_new();
	repo_client_new(&f->k, f->r);
	f->k.options.hold_time_floor = true;
	f->k.options.build_time = BUILT;
	f->k.options.clock_synchronised = true;
	repo_client_reopen(&f->k);
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

static void synchronised(struct fixture *f, bool yes)
{
	f->k.options.clock_synchronised = yes;
	tuf_client_set_synchronised(f->k.c, yes);
}

static struct tuf_state state_of(struct fixture *f)
{
	struct tuf_state s;

	tuf_client_state(f->k.c, &s);
	return s;
}

static void test_the_build_time_is_the_first_floor(void **state)
{
	struct fixture *f = *state;

	repo_clock = 0; /* no battery, 1970 */
	assert_int_equal(tuf_client_now(f->k.c), BUILT);
	repo_clock = REPO_NOW;
	assert_int_equal(tuf_client_now(f->k.c), REPO_NOW);
}

static void test_the_floor_is_the_newest_accepted_x_issued(void **state)
{
	struct fixture *f = *state;

	issue(f, REPO_NOW - REPO_DAY, REPO_NOW + 2 * REPO_DAY);
	assert_int_equal(refresh(f), 0);
	assert_int_equal(state_of(f).issued, REPO_NOW - REPO_DAY);
	synchronised(f, false);
	repo_clock = 0;
	assert_int_equal(tuf_client_now(f->k.c), REPO_NOW - REPO_DAY);
	repo_client_reopen(&f->k);
	assert_int_equal(tuf_client_now(f->k.c), REPO_NOW - REPO_DAY);
	/* and it does expire what a clock of 1970 would not */
	repo_role(f->r, "targets")->expires = REPO_NOW - 2 * REPO_DAY;
	repo_bump(f->r, "targets");
	assert_int_equal(refresh(f), -ERR_EXPIRED);
}

static void test_the_local_clock_never_enters_the_floor(void **state)
{
	struct fixture *f = *state;

	synchronised(f, false);
	issue(f, REPO_NOW - REPO_DAY, REPO_NOW + 200 * REPO_DAY);
	repo_clock = REPO_NOW + 20 * REPO_DAY; /* ahead, but nothing has expired by it */
	assert_int_equal(refresh(f), 0);
	repo_clock = REPO_NOW;
	assert_int_equal(tuf_client_now(f->k.c), REPO_NOW);
	assert_int_equal(refresh(f), 0);
}

static void test_x_issued_beyond_its_own_expiry_is_refused(void **state)
{
	struct fixture *f = *state;

	issue(f, REPO_NOW + 2 * REPO_DAY, REPO_NOW + REPO_DAY);
	synchronised(f, false);
	assert_int_equal(refresh(f), -ERR_FIELD_VALUE);
	assert_int_equal(repo_stored_version(&f->k, "timestamp.json"), 0);
	assert_int_equal(tuf_client_now(f->k.c), REPO_NOW);
}

static void test_x_issued_ahead_of_a_synchronised_clock_is_refused(void **state)
{
	struct fixture *f = *state;

	issue(f, REPO_NOW + REPO_DAY + 1, REPO_NOW + 9 * REPO_DAY);
	assert_int_equal(refresh(f), -ERR_FIELD_VALUE);
	issue(f, REPO_NOW + REPO_DAY, REPO_NOW + 9 * REPO_DAY);
	assert_int_equal(refresh(f), 0);
	assert_int_equal(tuf_client_now(f->k.c), REPO_NOW + REPO_DAY);
}

static void test_x_issued_that_is_no_time_is_refused(void **state)
{
	struct fixture *f = *state;
	static const char *const odd[] = { "\"x-issued\":7", "\"x-issued\":\"yesterday\"",
					   "\"x-issued\":\"2027-01-15T08:00:00+00:00\"" };

	for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
		repo_role(f->r, "timestamp")->extra = odd[i];
		repo_bump(f->r, "timestamp");
		assert_true(refresh(f) == -ERR_FIELD_TYPE || refresh(f) == -ERR_FIELD_VALUE);
	}
}

static void test_a_poisoned_floor_is_healed_by_a_new_root(void **state)
{
	struct fixture *f = *state;
	struct repo_role *root = repo_role(f->r, "root");

	/* a stolen timestamp key, a clock nobody vouches for: the floor jumps behind the root's expiry */
	synchronised(f, false);
	repo_clock = 0;
	issue(f, REPO_NOW + 400 * REPO_DAY, REPO_NOW + 999 * REPO_DAY);
	repo_role(f->r, "snapshot")->expires = REPO_NOW + 999 * REPO_DAY;
	repo_role(f->r, "targets")->expires = REPO_NOW + 999 * REPO_DAY;
	repo_bump(f->r, "targets");
	assert_int_equal(refresh(f), 0);
	assert_int_equal(tuf_client_now(f->k.c), REPO_NOW + 400 * REPO_DAY);
	assert_int_equal(refresh(f), -ERR_EXPIRED);
	assert_non_null(strstr(tuf_client_error(f->k.c), "root.json"));
	/* the new root lists another timestamp key: the floor is not its, so it is not expired by it */
	root->top[1] = KEYS(1, 31);
	repo_role(f->r, "timestamp")->signers = KEYS(1, 31);
	repo_role(f->r, "timestamp")->version = 1;
	repo_bump(f->r, "root");
	issue(f, REPO_NOW, REPO_NOW + 3 * REPO_DAY);
	repo_clock = REPO_NOW + 1;
	assert_int_equal(refresh(f), 0);
	assert_int_equal(tuf_client_now(f->k.c), REPO_NOW + 1);
	repo_clock = 0;
	repo_client_reopen(&f->k);
	assert_int_equal(tuf_client_now(f->k.c), REPO_NOW);
}

static void test_adding_a_timestamp_key_drops_the_floor_too(void **state)
{
	struct fixture *f = *state;

	issue(f, REPO_NOW, REPO_NOW + 3 * REPO_DAY);
	assert_int_equal(refresh(f), 0);
	repo_role(f->r, "root")->top[1] = KEYS(1, 1, 31);
	repo_bump(f->r, "root");
	synchronised(f, false);
	repo_clock = 0;
	assert_int_equal(refresh(f), 0);
	assert_int_equal(tuf_client_now(f->k.c), BUILT);
	/* the same keys in another order are the same */
	issue(f, REPO_NOW, REPO_NOW + 3 * REPO_DAY);
	assert_int_equal(refresh(f), 0);
	repo_role(f->r, "root")->top[1] = KEYS(1, 31, 1);
	repo_bump(f->r, "root");
	assert_int_equal(refresh(f), 0);
	assert_int_equal(tuf_client_now(f->k.c), REPO_NOW);
}

static void test_a_clock_ahead_does_not_expire_a_newer_timestamp(void **state)
{
	struct fixture *f = *state;

	issue(f, REPO_NOW, REPO_NOW + 3 * REPO_DAY);
	assert_int_equal(refresh(f), 0);
	/* the clock jumps ten years; it is not synchronised */
	synchronised(f, false);
	repo_clock = REPO_NOW + 3650 * (int64_t) REPO_DAY;
	assert_int_equal(refresh(f), -ERR_EXPIRED); /* nothing newer yet: it may be a freeze */
	assert_false(state_of(f).clock_ahead);
	issue(f, REPO_NOW + REPO_DAY / 4, REPO_NOW + 4 * REPO_DAY);
	assert_int_equal(refresh(f), 0);
	assert_true(state_of(f).clock_ahead);
	assert_false(state_of(f).stale);
	assert_int_equal(tuf_client_now(f->k.c), REPO_NOW + REPO_DAY / 4);
	/* floor plus monotonic time decides from now on: it does expire in the end */
	repo_clock_ms += 3 * (uint64_t) REPO_DAY * 1000;
	assert_int_equal(refresh(f), 0);
	assert_int_equal(tuf_client_now(f->k.c), REPO_NOW + REPO_DAY / 4 + 3 * REPO_DAY);
	repo_clock_ms += (uint64_t) REPO_DAY * 1000;
	assert_int_equal(refresh(f), -ERR_EXPIRED);
	assert_true(state_of(f).stale);
	/* somebody sets the clock */
	issue(f, REPO_NOW + 4 * REPO_DAY, REPO_NOW + 9 * REPO_DAY);
	repo_clock = REPO_NOW + 5 * REPO_DAY;
	synchronised(f, true);
	assert_false(state_of(f).clock_ahead);
	assert_int_equal(refresh(f), 0);
	assert_int_equal(tuf_client_now(f->k.c), REPO_NOW + 5 * REPO_DAY);
}

static void test_a_synchronised_clock_expires_what_has_expired(void **state)
{
	struct fixture *f = *state;

	issue(f, REPO_NOW, REPO_NOW + 3 * REPO_DAY);
	repo_clock = REPO_NOW + 3650 * (int64_t) REPO_DAY;
	assert_int_equal(refresh(f), -ERR_EXPIRED);
	assert_false(state_of(f).clock_ahead);
}

static void test_a_newer_timestamp_below_the_floor_is_expired_for_any_clock(void **state)
{
	struct fixture *f = *state;

	issue(f, REPO_NOW, REPO_NOW + 3 * REPO_DAY);
	assert_int_equal(refresh(f), 0);
	synchronised(f, false);
	repo_clock = REPO_NOW + 3650 * (int64_t) REPO_DAY;
	issue(f, REPO_NOW - 5 * REPO_DAY, REPO_NOW - REPO_DAY); /* newer by version, long expired */
	assert_int_equal(refresh(f), -ERR_EXPIRED);
	assert_false(state_of(f).clock_ahead);
}

static void test_a_damaged_floor_file_is_no_floor(void **state)
{
	struct fixture *f = *state;
	static const char *const bytes[] = {
		"",
		"{",
		"{}",
		"[]",
		"{\"issued\":7,\"timestamp_keyids\":\"\"}",
		"{\"issued\":\"soon\",\"timestamp_keyids\":\"\"}",
		"{\"issued\":\"9999-12-31T23:59:59Z\",\"timestamp_keyids\":\"x\\n\"}"
	};

	issue(f, REPO_NOW, REPO_NOW + 3 * REPO_DAY);
	assert_int_equal(refresh(f), 0);
	for (size_t i = 0; i < ARRAY_LEN(bytes); i++) {
		assert_int_equal(durable_write_file(&os_posix, f->k.dirfd, "time-floor", bytes[i],
						    strlen(bytes[i]), 0644),
				 0);
		repo_client_reopen(&f->k);
		repo_clock = 0;
		assert_int_equal(tuf_client_now(f->k.c), BUILT);
		repo_clock = REPO_NOW;
		assert_int_equal(refresh(f), 0);
	}
}

static void test_without_the_floor_x_issued_means_nothing(void **state)
{
	struct fixture *f = *state;
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(4096);

	f->k.options.hold_time_floor = false;
	repo_client_reopen(&f->k);
	issue(f, REPO_NOW + 20 * REPO_DAY, REPO_NOW + REPO_DAY);
	assert_int_equal(refresh(f), 0);
	assert_int_equal(tuf_client_now(f->k.c), REPO_NOW);
	assert_true(file_read(&os_posix, f->k.dirfd, "time-floor", 4096, &bytes) < 0);
}

static void test_now_is_fixed_at_the_start_of_a_refresh(void **state)
{
	struct fixture *f = *state;

	issue(f, REPO_NOW, REPO_NOW + 3 * REPO_DAY);
	assert_int_equal(refresh(f), 0);
	assert_int_equal(state_of(f).now, REPO_NOW);
	repo_clock = REPO_NOW + 2 * REPO_DAY;
	assert_int_equal(state_of(f).now, REPO_NOW);
	assert_false(state_of(f).stale);
	repo_clock = REPO_NOW + 3 * REPO_DAY;
	assert_true(state_of(f).stale);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_the_build_time_is_the_first_floor),
		T(test_the_floor_is_the_newest_accepted_x_issued),
		T(test_the_local_clock_never_enters_the_floor),
		T(test_x_issued_beyond_its_own_expiry_is_refused),
		T(test_x_issued_ahead_of_a_synchronised_clock_is_refused),
		T(test_x_issued_that_is_no_time_is_refused),
		T(test_a_poisoned_floor_is_healed_by_a_new_root),
		T(test_adding_a_timestamp_key_drops_the_floor_too),
		T(test_a_clock_ahead_does_not_expire_a_newer_timestamp),
		T(test_a_synchronised_clock_expires_what_has_expired),
		T(test_a_newer_timestamp_below_the_floor_is_expired_for_any_clock),
		T(test_a_damaged_floor_file_is_no_floor),
		T(test_without_the_floor_x_issued_means_nothing),
		T(test_now_is_fixed_at_the_start_of_a_refresh),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
