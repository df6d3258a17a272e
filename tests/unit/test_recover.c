/* selfright-recover: what it finds after any boot, as a function with faults and as a program. */
#include "agent/store/data.h"
#include "agent/store/generation.h"
#include "agent/store/recover.h"
#include "agent/store/seal.h"
#include "agent/store/state.h"
#include "agent/store/store.h"
#include "base/err.h"
#include "os/durable.h"
#include "os/process.h"
#include "support/fault_loop.h"
#include "tree/tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const struct os *os; /* os_quick() */
static char program[PATH_MAX];

struct folder {
	char path[256];
};

static int setup(void **state)
{
	struct folder *f = calloc(1, sizeof(*f));

	temp_folder(f->path, sizeof(f->path));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct folder *f = *state;

	temp_folder_remove(f->path);
	free(f);
	return 0;
}

static const char *path_of(void **state)
{
	return ((struct folder *) *state)->path;
}

static void put_version(const struct store *s, const char *version)
{
	int fd = seal_begin(os, store_dirs(s)->store, "web", version, (uid_t) -1, 0);
	struct tree t = { .entries = NULL, .count = 0 };
	uint8_t digest[SHA256_BYTES];

	assert_true(fd >= 0);
	assert_int_equal(durable_write_file(os, fd, "version", version, strlen(version), 0644), 0);
	assert_int_equal(tree_scan(os, fd, (uid_t) -1, NULL, NULL, &t, NULL), 0);
	assert_int_equal(tree_digest(&t, digest), 0);
	tree_done(&t);
	(void) close(fd);
	assert_int_equal(seal_commit(os, store_dirs(s)->store, "web", version, digest, NULL), 0);
}

static void put_generation(const struct store *s, uint64_t n, const char *version)
{
	struct generation g = { .count = version ? 1 : 0, .entries = { { "web", "" } } };

	if (version)
		(void) snprintf(g.entries[0].version, sizeof(g.entries[0].version), "%s", version);
	assert_int_equal(generation_create(os, store_dirs(s)->generations, n, &g), 0);
}

/*
 * A node that ran web 1.0.0 (generation 1) and takes 1.1.0 (generation 2), with
 * generation 3, equal to 1, to fall back to.
 */
static void put_node(const char *path, enum node_update_state at, uint64_t current)
{
	CLEANUP(store_freep)
	struct store *s = NULL;
	struct node_state *st = calloc(1, sizeof(*st));
	struct node_component *c = NULL;

	assert_int_equal(store_open(os, path, &s), 0);
	put_version(s, "1.0.0");
	put_version(s, "1.1.0");
	put_generation(s, 1, "1.0.0");
	put_generation(s, 2, "1.1.0");
	put_generation(s, 3, "1.0.0");
	if (current > 0)
		assert_int_equal(generation_switch(os, store_dirs(s)->root, current), 0);
	assert_int_equal(state_component_add(st, "web", &c), 0);
	STATE_SET(c->version, "1.0.0");
	if (at != NODE_IDLE) {
		STATE_SET(st->update.id, "r1/web/1");
		STATE_SET(st->update.component, "web");
		STATE_SET(st->update.from, "1.0.0");
		STATE_SET(st->update.to, "1.1.0");
		st->update.state = at;
		st->update.target_generation = 2;
		st->update.fallback_generation = 3;
	}
	assert_int_equal(store_save(s, st), 0);
	state_done(st);
	free(st);
}

static int run(const char *path, const char *boot, struct recover_result *result)
{
	const struct recover_options o = { .root = path, .boot_id = boot };

	return recover_run(os, &o, result);
}

static uint64_t current_of(const char *path)
{
	uint64_t n = 0;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (generation_current(os, fd, &n) < 0)
		n = 0;
	(void) close(fd);
	return n;
}

/* The update as the journal has it now. */
static struct node_update update_of(const char *path)
{
	CLEANUP(store_freep)
	struct store *s = NULL;
	struct node_state *st = calloc(1, sizeof(*st));
	struct node_update u;

	assert_int_equal(store_inspect(os, path, &s), 0);
	assert_int_equal(store_load(s, st), 0);
	u = st->update;
	state_done(st);
	free(st);
	return u;
}

static void test_nothing_to_do(void **state)
{
	const char *path = path_of(state);
	struct recover_result result;

	assert_int_equal(run(path, "b1", &result), 0);
	assert_int_equal(result.outcome, RECOVER_NOTHING);
	put_node(path, NODE_IDLE, 1);
	assert_int_equal(run(path, "b1", &result), 0);
	assert_int_equal(result.outcome, RECOVER_NOTHING);
	assert_int_equal(current_of(path), 1);
}

static void test_states_before_the_swap_change_nothing(void **state)
{
	static const enum node_update_state states[] = { NODE_PLANNED, NODE_STAGING,  NODE_STAGED,
							 NODE_WAITING, NODE_STOPPING, NODE_FAILED };
	struct recover_result result;

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(states); i++) {
		char path[256];

		temp_folder(path, sizeof(path));
		put_node(path, states[i], 1);
		for (int boot = 0; boot < 6; boot++) {
			char id[16];

			(void) snprintf(id, sizeof(id), "b%d", boot);
			assert_int_equal(run(path, id, &result), 0);
			assert_int_equal(result.outcome, RECOVER_NOTHING);
		}
		assert_int_equal(current_of(path), 1);
		assert_int_equal(update_of(path).state, states[i]);
		temp_folder_remove(path);
	}
}

static void test_a_swap_that_did_not_happen(void **state)
{
	const char *path = path_of(state);
	struct recover_result result;

	put_node(path, NODE_SWAPPING, 1);
	for (int boot = 0; boot < 6; boot++) {
		char id[16];

		(void) snprintf(id, sizeof(id), "b%d", boot);
		assert_int_equal(run(path, id, &result), 0);
	}
	assert_int_equal(result.outcome, RECOVER_NOTHING);
	assert_int_equal(current_of(path), 1);
	assert_int_equal(update_of(path).boots, 0);
}

static void boots_are_counted(enum node_update_state at)
{
	struct recover_result result;
	struct node_update u;
	char path[256];

	temp_folder(path, sizeof(path));
	put_node(path, at, 2);
	for (int boot = 1; boot <= RECOVER_BOOT_ATTEMPTS; boot++) {
		char id[16];

		(void) snprintf(id, sizeof(id), "b%d", boot);
		assert_int_equal(run(path, id, &result), 0);
		assert_int_equal(run(path, id, &result), 0); /* the same boot counts once */
		assert_int_equal(result.outcome, RECOVER_NOTHING);
		assert_int_equal(update_of(path).boots, boot);
		assert_int_equal(current_of(path), 2);
	}
	assert_int_equal(run(path, "b-last", &result), 0);
	assert_int_equal(result.outcome, RECOVER_FELL_BACK);
	assert_int_equal(current_of(path), 3);
	u = update_of(path);
	assert_int_equal(u.state, NODE_ROLLED_BACK);
	assert_true(u.recovered);
	assert_int_equal(u.result, RECOVER_RESULT_INTERRUPTED);
	assert_true(u.detail[0] != '\0');
	assert_int_equal(run(path, "b-after", &result), 0);
	assert_int_equal(result.outcome, RECOVER_NOTHING);
	assert_int_equal(current_of(path), 3);
	temp_folder_remove(path);
}

static void test_boots_within_the_probation_are_counted(void **state)
{
	(void) state;
	boots_are_counted(NODE_PROBATION);
	boots_are_counted(NODE_SWAPPING);
	boots_are_counted(NODE_REBOOTING);
}

static void test_the_limit_is_the_updates(void **state)
{
	const char *path = path_of(state);
	struct recover_result result;

	put_node(path, NODE_PROBATION, 2);
	{
		CLEANUP(store_freep)
		struct store *s = NULL;
		struct node_state *st = calloc(1, sizeof(*st));

		assert_int_equal(store_open(os, path, &s), 0);
		assert_int_equal(store_load(s, st), 0);
		st->update.boot_attempts = 1;
		assert_int_equal(store_save(s, st), 0);
		state_done(st);
		free(st);
	}
	assert_int_equal(run(path, "b1", &result), 0);
	assert_int_equal(result.outcome, RECOVER_NOTHING);
	assert_int_equal(run(path, "b2", &result), 0);
	assert_int_equal(result.outcome, RECOVER_FELL_BACK);
}

static void test_an_interrupted_rollback_is_finished(void **state)
{
	const char *path = path_of(state);
	struct recover_result result;

	put_node(path, NODE_ROLLING_BACK, 2);
	assert_int_equal(run(path, "b1", &result), 0);
	assert_int_equal(result.outcome, RECOVER_FELL_BACK);
	assert_int_equal(current_of(path), 3);
	assert_int_equal(run(path, "b2", &result), 0);
	assert_int_equal(result.outcome, RECOVER_NOTHING);
}

static void test_a_new_version_that_is_not_whole_is_left_at_once(void **state)
{
	const char *path = path_of(state);
	struct recover_result result;
	char tree[512];

	put_node(path, NODE_PROBATION, 2);
	(void) snprintf(tree, sizeof(tree), "%s/store/web/1.1.0", path);
	assert_int_equal(tree_remove(os, AT_FDCWD, tree), 0);
	assert_int_equal(run(path, "b1", &result), 0);
	assert_int_equal(result.outcome, RECOVER_FELL_BACK);
	assert_int_equal(current_of(path), 3);
}

static void test_a_damaged_fallback_is_not_taken(void **state)
{
	const char *path = path_of(state);
	struct recover_result result;
	char tree[512];

	put_node(path, NODE_ROLLING_BACK, 2);
	(void) snprintf(tree, sizeof(tree), "%s/store/web/1.0.0", path);
	assert_int_equal(tree_remove(os, AT_FDCWD, tree), 0);
	assert_int_equal(run(path, "b1", &result), -ERR_TREE);
	assert_non_null(strstr(result.sentence, "damaged"));
	assert_int_equal(current_of(path), 2);
	assert_int_equal(update_of(path).result, RECOVER_RESULT_FALLBACK_DAMAGED);
}

static void break_journal(const char *path)
{
	char name[512];

	(void) snprintf(name, sizeof(name), "%s/journal", path);
	assert_int_equal(durable_write_file(os, AT_FDCWD, name, "garbage", 7, 0600), 0);
}

static void test_a_broken_journal(void **state)
{
	const char *path = path_of(state);
	struct recover_result result;
	char name[512];

	put_node(path, NODE_PROBATION, 2);
	break_journal(path);
	assert_int_equal(run(path, "b1", &result), 0);
	assert_int_equal(result.outcome, RECOVER_NOTHING); /* 2 is complete */
	assert_int_equal(current_of(path), 2);
	(void) snprintf(name, sizeof(name), "%s/store/web/1.1.0", path);
	assert_int_equal(tree_remove(os, AT_FDCWD, name), 0);
	assert_int_equal(run(path, "b1", &result), 0);
	assert_int_equal(result.outcome, RECOVER_FELL_BACK); /* the newest complete one */
	assert_int_equal(current_of(path), 3);
	(void) snprintf(name, sizeof(name), "%s/current", path);
	assert_int_equal(unlink(name), 0);
	assert_int_equal(run(path, "b1", &result), 0);
	assert_int_equal(current_of(path), 3);
	(void) snprintf(name, sizeof(name), "%s/store/web/1.0.0", path);
	assert_int_equal(tree_remove(os, AT_FDCWD, name), 0);
	assert_int_equal(run(path, "b1", &result), -ERR_TREE);
}

static void test_a_first_install_is_not_decided_here(void **state)
{
	const char *path = path_of(state);
	struct recover_result result;

	/* Nothing was ever current; the target is made, its swap has not come. */
	{
		CLEANUP(store_freep)
		struct store *s = NULL;
		struct node_state *st = calloc(1, sizeof(*st));

		assert_int_equal(store_open(os, path, &s), 0);
		put_version(s, "1.0.0");
		put_generation(s, 1, NULL);
		put_generation(s, 2, "1.0.0");
		STATE_SET(st->update.id, "r1/web/1");
		st->update.state = NODE_STOPPING;
		st->update.target_generation = 2;
		st->update.fallback_generation = 1;
		assert_int_equal(store_save(s, st), 0);
		state_done(st);
		free(st);
	}
	assert_int_equal(run(path, "b1", &result), 0);
	assert_int_equal(result.outcome, RECOVER_NOTHING);
	assert_int_equal(current_of(path), 0);
}

static void test_the_agent_runs(void **state)
{
	const char *path = path_of(state);
	CLEANUP(store_freep)
	struct store *s = NULL;
	struct recover_result result;

	assert_int_equal(store_open(os, path, &s), 0);
	assert_int_equal(run(path, "b1", &result), -EBUSY);
	assert_non_null(strstr(result.sentence, "runs already"));
}

static void test_a_dry_run_changes_nothing(void **state)
{
	const char *path = path_of(state);
	const struct recover_options o = { .root = path, .boot_id = "b1", .dry_run = true };
	struct recover_result result;

	put_node(path, NODE_ROLLING_BACK, 2);
	assert_int_equal(recover_run(os, &o, &result), 0);
	assert_int_equal(result.outcome, RECOVER_FELL_BACK);
	assert_int_equal(current_of(path), 2);
	assert_int_equal(update_of(path).state, NODE_ROLLING_BACK);
}

static void test_the_boot_id(void **state)
{
	char id[37];

	(void) state;
	assert_int_equal(recover_boot_id(&os_posix, id), 0);
	assert_int_equal(strlen(id), 36);
}

/* --- faults and power cuts ----------------------------------------------------------------------------- */

static int prep_rolling_back(struct fault_case *c)
{
	put_node(c->path, NODE_ROLLING_BACK, 2);
	return 0;
}

static int recover(struct fault_case *c)
{
	const struct recover_options o = { .root = c->path, .boot_id = "b1" };
	struct recover_result result;

	return recover_run(c->os, &o, &result);
}

static void complete_and_recoverable(struct fault_case *c, int r)
{
	uint64_t n = current_of(c->path);
	struct recover_result result;

	assert_true(n == 2 || n == 3);
	if (r == 0)
		assert_int_equal(n, 3);
	/* The next boot gets there. */
	assert_int_equal(run(c->path, "b2", &result), 0);
	assert_int_equal(current_of(c->path), 3);
}

FAULT_TEST(recovery_is_never_worse){
	.name = "recovery_is_never_worse",
	.prep = prep_rolling_back,
	.body = recover,
	.check = complete_and_recoverable,
};

static void test_faults_and_crashes(void **state)
{
	(void) state;
	fault_test_run(&recovery_is_never_worse);
	crash_test_run(&recovery_is_never_worse, 4);
}

/* --- data from before the swap ------------------------------------------------------------------------- */

static void put_data(const struct store *s, const char *text)
{
	assert_int_equal(dir_make_path(os, store_dirs(s)->data, "web", 0755), 0);
	assert_int_equal(durable_write_file(os, store_dirs(s)->data, "web/db", text, strlen(text), 0640), 0);
}

/* Its data was copied before the swap and has been changed since. */
static void put_node_with_data(const char *path, enum node_update_state at, uint64_t current)
{
	const struct data_set set = { .at = 1,
				      .moves = { { "web", "1.0.0", "1.1.0" } },
				      .move_count = 1,
				      .items = { { .component = "web", .path = "db", .restore = true } },
				      .item_count = 1 };
	CLEANUP(store_freep)
	struct store *s = NULL;
	CLEANUP(data_save_freep)
	struct data_save *save = NULL;
	struct node_state *st = calloc(1, sizeof(*st));

	put_node(path, at, current);
	assert_int_equal(store_open(os, path, &s), 0);
	put_data(s, "old");
	assert_int_equal(data_save_begin(os, store_dirs(s), "web-1", &set, &save), 0);
	assert_int_equal(data_save_step(save, UINT64_MAX), 1);
	assert_int_equal(data_save_commit(save), 0);
	put_data(s, "new");
	assert_int_equal(store_load(s, st), 0);
	STATE_SET(st->update.data_saved, "web-1");
	assert_int_equal(store_save(s, st), 0);
	state_done(st);
	free(st);
}

static void expect_data(const char *path, const char *text)
{
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(64);
	char name[320];

	(void) snprintf(name, sizeof(name), "%s/data/web/db", path);
	assert_int_equal(file_read(os, AT_FDCWD, name, 64, &b), 0);
	assert_string_equal(buf_str(&b), text);
}

static void test_the_data_comes_back_with_the_version(void **state)
{
	const char *path = path_of(state);
	struct recover_result result;

	put_node_with_data(path, NODE_PROBATION, 2);
	for (int boot = 1; boot <= RECOVER_BOOT_ATTEMPTS; boot++) {
		char id[16];

		(void) snprintf(id, sizeof(id), "b%d", boot);
		assert_int_equal(run(path, id, &result), 0);
		expect_data(path, "new");
	}
	assert_int_equal(run(path, "b-last", &result), 0);
	assert_int_equal(result.outcome, RECOVER_FELL_BACK);
	assert_int_equal(current_of(path), 3);
	expect_data(path, "old");
}

/* The agent could not put back data, or swap the link, for want of something; the boot brings it back. */
static void test_a_way_back_that_had_failed_is_finished(void **state)
{
	const char *path = path_of(state);
	struct recover_result result;

	put_node_with_data(path, NODE_STUCK, 2);
	assert_int_equal(run(path, "b1", &result), 0);
	assert_int_equal(result.outcome, RECOVER_FELL_BACK);
	assert_int_equal(current_of(path), 3);
	expect_data(path, "old");
	assert_int_equal(update_of(path).state, NODE_ROLLED_BACK);
	assert_int_equal(run(path, "b2", &result), 0);
	assert_int_equal(result.outcome, RECOVER_NOTHING);
}

static void test_a_stuck_node_keeps_what_it_has(void **state)
{
	const char *path = path_of(state);
	struct recover_result result;
	char tree[512];

	put_node(path, NODE_STUCK, 2);
	(void) snprintf(tree, sizeof(tree), "%s/store/web/1.0.0", path);
	assert_int_equal(tree_remove(os, AT_FDCWD, tree), 0);
	assert_int_equal(run(path, "b1", &result), 0);
	assert_int_equal(result.outcome, RECOVER_NOTHING);
	assert_non_null(strstr(result.sentence, "damaged"));
	assert_int_equal(current_of(path), 2);
	assert_int_equal(update_of(path).state, NODE_STUCK);
}

static void test_a_stuck_node_whose_way_back_was_taken_stays(void **state)
{
	const char *path = path_of(state);
	struct recover_result result;

	put_node(path, NODE_STUCK, 3);
	assert_int_equal(run(path, "b1", &result), 0);
	assert_int_equal(result.outcome, RECOVER_NOTHING);
	assert_int_equal(current_of(path), 3);
	assert_int_equal(update_of(path).state, NODE_STUCK);
}

static void test_a_copy_that_is_gone_holds_nothing_up(void **state)
{
	const char *path = path_of(state);
	struct recover_result result;
	char name[320];

	put_node_with_data(path, NODE_ROLLING_BACK, 2);
	(void) snprintf(name, sizeof(name), "%s/saved/web-1", path);
	assert_int_equal(tree_remove(os, AT_FDCWD, name), 0);
	assert_int_equal(run(path, "b1", &result), 0);
	assert_int_equal(current_of(path), 3);
	expect_data(path, "new");
}

static int prep_data(struct fault_case *c)
{
	put_node_with_data(c->path, NODE_ROLLING_BACK, 2);
	return 0;
}

/* Never the old version with the new one's data. */
static void together(struct fault_case *c, int r)
{
	struct recover_result result;

	if (r == 0)
		assert_int_equal(current_of(c->path), 3);
	if (current_of(c->path) == 3)
		expect_data(c->path, "old");
	assert_int_equal(run(c->path, "b2", &result), 0);
	assert_int_equal(current_of(c->path), 3);
	expect_data(c->path, "old");
}

FAULT_TEST(data_and_version_go_back_together){
	.name = "data_and_version_go_back_together",
	.prep = prep_data,
	.body = recover,
	.check = together,
};

static void test_data_with_faults_and_crashes(void **state)
{
	(void) state;
	fault_test_run(&data_and_version_go_back_together);
	crash_test_run(&data_and_version_go_back_together, 4);
}

/* --- the program ----------------------------------------------------------------------------------------- */

static int program_run(const char *const *argv, struct buf *output)
{
	const struct process_options o = { .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1 };
	int status = 0;

	buf_clear(output);
	assert_int_equal(process_run(&o, 20000, &status, output), 0);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_the_program(void **state)
{
	const char *path = path_of(state);
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(8192);

	if (access(program, X_OK) < 0)
		skip();
	assert_int_equal(program_run((const char *const[]){ program, "--help", NULL }, &out), 0);
	assert_non_null(strstr(buf_str(&out), "example:"));
	assert_int_equal(program_run((const char *const[]){ program, "--bogus", NULL }, &out), 2);
	assert_int_equal(program_run((const char *const[]){ program, "--boot-id", "", NULL }, &out), 2);
	assert_int_equal(program_run((const char *const[]){ program, "--root", path, NULL }, &out), 0);
	put_node(path, NODE_ROLLING_BACK, 2);
	assert_int_equal(program_run((const char *const[]){ program, "--root", path, "--dry-run", NULL }, &out),
			 3);
	assert_int_equal(current_of(path), 2);
	assert_int_equal(program_run((const char *const[]){ program, "--root", path, NULL }, &out), 3);
	assert_non_null(strstr(buf_str(&out), "generation 3 is current again"));
	assert_int_equal(current_of(path), 3);
	assert_int_equal(program_run((const char *const[]){ program, "--root", path, NULL }, &out), 0);
	assert_int_equal(program_run((const char *const[]){ program, "--root", "/proc/none", NULL }, &out), 1);
	assert_non_null(strstr(buf_str(&out), "/proc/none does not exist"));
	assert_int_equal(
		program_run((const char *const[]){ program, "--root", "/proc/none", "--if-present", NULL }, &out),
		0);
}

int main(int argc, char **argv)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_nothing_to_do),
		T(test_states_before_the_swap_change_nothing),
		T(test_a_swap_that_did_not_happen),
		T(test_boots_within_the_probation_are_counted),
		T(test_the_limit_is_the_updates),
		T(test_an_interrupted_rollback_is_finished),
		T(test_a_new_version_that_is_not_whole_is_left_at_once),
		T(test_a_damaged_fallback_is_not_taken),
		T(test_a_broken_journal),
		T(test_a_first_install_is_not_decided_here),
		T(test_the_agent_runs),
		T(test_a_dry_run_changes_nothing),
		T(test_the_boot_id),
		T(test_the_data_comes_back_with_the_version),
		T(test_a_way_back_that_had_failed_is_finished),
		T(test_a_stuck_node_keeps_what_it_has),
		T(test_a_stuck_node_whose_way_back_was_taken_stays),
		T(test_a_copy_that_is_gone_holds_nothing_up),
		T(test_data_with_faults_and_crashes),
		T(test_faults_and_crashes),
		T(test_the_program),
	};
	char self[PATH_MAX - 64];
	ssize_t n;

	(void) argc;
	(void) argv;
	os = os_quick();
	/* Built beside us: <build>/tests/test_recover and <build>/bin/selfright-recover. */
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n > 0) {
		self[n] = '\0';
		(void) snprintf(program, sizeof(program), "%s/../bin/selfright-recover", dirname(self));
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
