/* agents.h: which agent is started, and what is remembered of them, over faults and power cuts. */
#include "agent/store/agents.h"
#include "agent/store/generation.h"
#include "agent/store/seal.h"
#include "agent/store/store.h"
#include "base/err.h"
#include "os/durable.h"
#include "support/fault_loop.h"
#include "support/folder.h"
#include "support/os_fault.h"
#include "tree/tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* --- choosing --- */

struct world {
	struct agents_facts f;
	struct agents a;
	struct agents_choice c;
	struct node_state state;
};

static int new_world(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->f.packaged = "0.1.0";
	*state = w;
	return 0;
}

static int free_world(void **state)
{
	free(*state);
	return 0;
}

static void in_store(struct world *w, const char *version)
{
	STATE_SET(w->f.sound[w->f.sound_count++], version);
}

static void is_current(struct world *w, const char *version)
{
	STATE_SET(w->f.current, version);
	w->f.generation = 7;
}

static void under_way(struct world *w, enum node_update_state s, const char *from, const char *to)
{
	struct node_update *u = &w->state.update;

	STATE_SET(u->id, "r9/agent/1");
	STATE_SET(u->component, "agent");
	STATE_SET(u->from, from);
	STATE_SET(u->to, to);
	u->state = s;
	u->target_generation = 7;
	u->fallback_generation = 8;
	u->probation_ms = 1000;
	u->handover_ms = 2000;
	w->f.state = &w->state;
}

static const char *chosen(struct world *w)
{
	assert_int_equal(agents_choose(&w->f, &w->a, &w->c), 0);
	return w->c.version[0] ? w->c.version : "packaged";
}

/* Start it, and let it end that way. */
static const char *start_and_end(struct world *w, const char *how, bool fatal)
{
	const char *version = chosen(w);

	agents_started(&w->a, &w->c);
	if (how)
		agents_ended(&w->a, &w->c, how, fatal);
	return version;
}

static void the_packaged_one_where_there_is_no_other(void **state)
{
	struct world *w = *state;

	assert_string_equal(chosen(w), "packaged");
	w->f.packaged = NULL;
	assert_int_equal(agents_choose(&w->f, &w->a, &w->c), -ENOENT);
}

static void the_newer_of_current_and_packaged(void **state)
{
	struct world *w = *state;

	in_store(w, "0.2.0");
	in_store(w, "0.9.0"); /* staged, or sent away: not current */
	is_current(w, "0.2.0");
	assert_string_equal(chosen(w), "0.2.0");
	w->f.packaged = "0.2.0";
	assert_string_equal(chosen(w), "0.2.0");
	w->f.packaged = "0.3.0";
	assert_string_equal(chosen(w), "packaged");
	w->f.packaged = NULL;
	assert_string_equal(chosen(w), "0.2.0");
}

static void one_whose_tree_is_gone_is_not_chosen(void **state)
{
	struct world *w = *state;

	is_current(w, "0.2.0");
	assert_string_equal(chosen(w), "packaged");
}

static void the_other_after_starts_in_vain(void **state)
{
	struct world *w = *state;

	in_store(w, "0.2.0");
	is_current(w, "0.2.0");
	for (int i = 0; i < AGENTS_STARTS; i++)
		assert_string_equal(start_and_end(w, "exited 1", false), "0.2.0");
	assert_string_equal(chosen(w), "packaged");
	/* Nothing works: it is not the agents' fault, and all are tried anew. */
	for (int i = 0; i < AGENTS_STARTS; i++)
		assert_string_equal(start_and_end(w, "exited 1", false), "packaged");
	assert_string_equal(chosen(w), "0.2.0");
}

static void being_ready_ends_the_count(void **state)
{
	struct world *w = *state;

	for (int i = 0; i < 3 * AGENTS_STARTS; i++) {
		assert_string_equal(start_and_end(w, NULL, false), "packaged");
		agents_ready(&w->a, &w->c);
		agents_ended(&w->a, &w->c, "killed by SIGSEGV", false);
		assert_int_equal(agents_known(&w->a, "")->starts, 0);
	}
}

static void what_cannot_be_started_is_not_tried_again(void **state)
{
	struct world *w = *state;

	in_store(w, "0.2.0");
	is_current(w, "0.2.0");
	assert_string_equal(start_and_end(w, "it cannot be started", true), "0.2.0");
	assert_string_equal(chosen(w), "packaged");
}

static void one_that_was_proven_where_nothing_else_is_left(void **state)
{
	struct world *w = *state;

	in_store(w, "0.2.0");
	in_store(w, "0.4.0");
	in_store(w, "0.3.0");
	agents_known(&w->a, "0.2.0")->proven = true;
	agents_known(&w->a, "0.3.0")->proven = true;
	w->f.packaged = NULL;
	assert_string_equal(chosen(w), "0.3.0");
	agents_known(&w->a, "0.3.0")->starts = AGENTS_STARTS;
	assert_string_equal(chosen(w), "0.2.0");
}

static void a_new_one_is_on_trial(void **state)
{
	static const enum node_update_state states[] = { NODE_SWAPPING, NODE_PROBATION };

	for (size_t i = 0; i < ARRAY_LEN(states); i++) {
		struct world *w = *state;

		memset(w, 0, sizeof(*w));
		w->f.packaged = "0.9.0"; /* even if newer: this is what is to be found out */
		in_store(w, "0.2.0");
		is_current(w, "0.2.0");
		under_way(w, states[i], "", "0.2.0");
		assert_string_equal(chosen(w), "0.2.0");
		assert_string_equal(w->c.update, "r9/agent/1");
		assert_int_equal(w->c.limit_ms, 1000 + 2 * 2000);
		w->state.update.handover_ms = 0; /* a predecessor did not write it */
		assert_string_equal(chosen(w), "0.2.0");
		assert_int_equal(w->c.limit_ms, 1000 + 2 * AGENTS_HANDOVER_MS);
	}
}

static void before_the_rename_the_old_one_goes_on(void **state)
{
	struct world *w = *state;

	in_store(w, "0.2.0");
	in_store(w, "0.3.0");
	is_current(w, "0.2.0");
	w->f.generation = 6;
	under_way(w, NODE_SWAPPING, "0.2.0", "0.3.0");
	assert_string_equal(chosen(w), "0.2.0");
	assert_string_equal(w->c.update, "");
}

static void three_starts_and_the_one_before_returns(void **state)
{
	struct world *w = *state;

	in_store(w, "0.2.0");
	in_store(w, "0.3.0");
	is_current(w, "0.3.0");
	under_way(w, NODE_PROBATION, "0.2.0", "0.3.0");
	for (int i = 0; i < AGENTS_TRIAL_STARTS; i++)
		assert_string_equal(start_and_end(w, "exited 7", false), "0.3.0");
	assert_true(w->a.trial_failed);
	assert_string_equal(w->a.trial_how, "exited 7");
	assert_string_equal(chosen(w), "0.2.0");
	assert_string_equal(w->c.update, "");
	/* Its own way back has begun, then it is done. */
	w->state.update.state = NODE_ROLLING_BACK;
	assert_string_equal(chosen(w), "0.2.0");
	w->f.generation = 8;
	is_current(w, "0.2.0");
	assert_string_equal(chosen(w), "0.2.0");
}

static void cut_off_three_times_nobody_knows_by_what(void **state)
{
	struct world *w = *state;

	in_store(w, "0.2.0");
	is_current(w, "0.2.0");
	under_way(w, NODE_PROBATION, "", "0.2.0");
	for (int i = 0; i < AGENTS_TRIAL_STARTS; i++)
		assert_string_equal(start_and_end(w, NULL, false), "0.2.0");
	assert_string_equal(chosen(w), "packaged");
	assert_true(w->a.trial_failed);
	assert_string_equal(w->a.trial_how, "");
}

static void a_second_attempt_is_a_new_trial(void **state)
{
	struct world *w = *state;

	in_store(w, "0.2.0");
	is_current(w, "0.2.0");
	under_way(w, NODE_PROBATION, "", "0.2.0");
	assert_string_equal(start_and_end(w, "it cannot be started", true), "0.2.0");
	assert_string_equal(chosen(w), "packaged");
	STATE_SET(w->state.update.id, "r9/agent/2");
	assert_string_equal(chosen(w), "0.2.0");
}

static void a_proven_one_is_no_trial_any_more(void **state)
{
	struct world *w = *state;

	in_store(w, "0.2.0");
	is_current(w, "0.2.0");
	under_way(w, NODE_PROBATION, "", "0.2.0");
	assert_string_equal(start_and_end(w, NULL, false), "0.2.0");
	agents_ready(&w->a, &w->c);
	assert_int_equal(w->a.trial_starts, 1); /* ready is not proven */
	agents_confirmed(&w->a, &w->c);
	assert_string_equal(w->a.trial, "");
	assert_true(agents_known(&w->a, "0.2.0")->proven);
}

static void a_downgrade_is_a_trial_like_any_other(void **state)
{
	struct world *w = *state;

	in_store(w, "0.2.0");
	in_store(w, "0.3.0");
	agents_known(&w->a, "0.2.0")->proven = agents_known(&w->a, "0.3.0")->proven = true;
	is_current(w, "0.2.0");
	under_way(w, NODE_PROBATION, "0.3.0", "0.2.0");
	assert_string_equal(start_and_end(w, "exited 1", true), "0.2.0");
	assert_string_equal(chosen(w), "0.3.0");
}

static void back_to_absent_is_the_packaged_one(void **state)
{
	struct world *w = *state;

	in_store(w, "0.2.0");
	w->f.generation = 7;
	under_way(w, NODE_PROBATION, "0.2.0", "");
	assert_string_equal(chosen(w), "packaged");
	assert_string_equal(w->c.update, "r9/agent/1");
	assert_string_equal(start_and_end(w, "exited 1", true), "packaged");
	assert_string_equal(chosen(w), "0.2.0");
}

static void another_components_update_means_nothing_here(void **state)
{
	struct world *w = *state;

	under_way(w, NODE_PROBATION, "1.0.0", "1.1.0");
	STATE_SET(w->state.update.component, "web");
	w->f.generation = 7;
	assert_string_equal(chosen(w), "packaged");
	assert_string_equal(w->c.update, "");
}

/* --- the file --- */

static struct agents example(void)
{
	struct agents a = { .trial_starts = 2, .trial_failed = true };

	agents_known(&a, "")->starts = 4;
	agents_known(&a, "0.2.0")->proven = true;
	STATE_SET(a.trial, "r9/agent/1");
	STATE_SET(a.trial_how, "killed by SIGKILL");
	return a;
}

static void assert_same(const struct agents *a, const struct agents *b)
{
	assert_int_equal(a->known_count, b->known_count);
	for (size_t i = 0; i < a->known_count; i++) {
		assert_string_equal(a->known[i].version, b->known[i].version);
		assert_int_equal(a->known[i].proven, b->known[i].proven);
		assert_int_equal(a->known[i].starts, b->known[i].starts);
	}
	assert_string_equal(a->trial, b->trial);
	assert_string_equal(a->trial_how, b->trial_how);
	assert_int_equal(a->trial_starts, b->trial_starts);
	assert_int_equal(a->trial_failed, b->trial_failed);
}

static void what_is_saved_is_read(void **state)
{
	struct agents a = example(), b;

	assert_int_equal(agents_load(os_quick(), folder_fd(state), &b), 0);
	assert_int_equal(b.known_count, 0);
	assert_int_equal(agents_save(os_quick(), folder_fd(state), &a), 0);
	assert_int_equal(agents_load(os_quick(), folder_fd(state), &b), 0);
	assert_same(&a, &b);
}

static void what_programs_say_breaks_no_line(void **state)
{
	struct agents a = example(), b;

	STATE_SET(a.trial_how, "said\nformat 9\n\x01");
	assert_int_equal(agents_save(os_quick(), folder_fd(state), &a), 0);
	assert_int_equal(agents_load(os_quick(), folder_fd(state), &b), 0);
	assert_string_equal(b.trial_how, "said?format 9??");
}

static void a_damaged_file_is_one_that_knows_nothing(void **state)
{
	static const char *const texts[] = {
		"",
		"format 2\n",
		"known 0.2.0 proven 0\n",
		"format 1\nknown\n",
		"format 1\nknown 0.2.0 proven\n",
		"format 1\nknown nonsense proven 1\n",
		"format 1\nknown ../../x proven 1\n",
		"format 1\nknown 0.2.0 proven -1\n",
		"format 1\ntrial-starts many\n",
		"format 1\nlonely\n",
		"\177ELF",
	};
	struct agents a;
	char *large;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		assert_int_equal(durable_write_file(os_quick(), folder_fd(state), "agents", texts[i],
						    strlen(texts[i]), 0644),
				 0);
		assert_int_equal(agents_load(os_quick(), folder_fd(state), &a), 1);
		assert_int_equal(a.known_count, 0);
	}
	assert_int_equal(durable_write_file(os_quick(), folder_fd(state), "agents", "format 1\nnew x\0y\n", 18,
					    0644),
			 0);
	assert_int_equal(agents_load(os_quick(), folder_fd(state), &a), 1);
	/* A successor's lines are passed over. */
	assert_int_equal(durable_write_file(os_quick(), folder_fd(state), "agents", "format 1\nnew x y\n", 17,
					    0644),
			 0);
	assert_int_equal(agents_load(os_quick(), folder_fd(state), &a), 0);
	large = malloc(100000);
	assert_non_null(large);
	memset(large, 'a', 100000);
	assert_int_equal(durable_write_file(os_quick(), folder_fd(state), "agents", large, 100000, 0644), 0);
	free(large);
	assert_int_equal(agents_load(os_quick(), folder_fd(state), &a), 1);
}

static void the_list_is_bounded(void **state)
{
	struct agents a = { .known_count = 0 };
	char version[16];

	(void) state;
	agents_known(&a, "")->starts = 1;
	agents_known(&a, "9.0.0")->proven = true;
	for (int i = 0; i < 100; i++) {
		(void) snprintf(version, sizeof(version), "1.0.%d", i);
		agents_known(&a, version)->starts = 1;
	}
	assert_int_equal(a.known_count, AGENTS_KNOWN_MAX);
	assert_int_equal(agents_known(&a, "")->starts, 1);
	assert_true(agents_known(&a, "9.0.0")->proven);
	assert_int_equal(agents_known(&a, "1.0.99")->starts, 1);
}

static int save_old(struct fault_case *c)
{
	struct agents a = example();

	return agents_save(c->os, c->dirfd, &a);
}

static int save_new(struct fault_case *c)
{
	struct agents a = example();

	a.trial_starts++;
	return agents_save(c->os, c->dirfd, &a);
}

/* The count is the old or the new one, never none; after 0 the new one. */
static void old_or_new(struct fault_case *c, int r)
{
	struct agents want = example(), a;

	assert_int_equal(agents_load(os_quick(), c->dirfd, &a), 0);
	assert_true(a.trial_starts == want.trial_starts || a.trial_starts == want.trial_starts + 1);
	if (r == 0)
		assert_int_equal(a.trial_starts, want.trial_starts + 1);
	want.trial_starts = a.trial_starts;
	assert_same(&want, &a);
}

FAULT_TEST(count_of_starts){ .name = "count of starts", .prep = save_old, .body = save_new, .check = old_or_new };

static void a_count_survives_faults_and_power_cuts(void **state)
{
	(void) state;
	fault_test_run(&count_of_starts);
	crash_test_run(&count_of_starts, 8);
}

/* A node whose current agent is 1.0.0, complete in its store. */
static int install_agent(struct fault_case *c)
{
	struct generation g = { .count = 1, .entries = { { AGENTS_COMPONENT, "1.0.0" } } };
	struct tree t = { .entries = NULL, .count = 0 };
	struct store *s = NULL;
	uint8_t digest[SHA256_BYTES];
	int fd, r = store_open(c->os, c->path, &s);

	if (r < 0)
		return r;
	fd = seal_begin(c->os, store_dirs(s)->store, AGENTS_COMPONENT, "1.0.0", (uid_t) -1, 0);
	assert_true(fd >= 0);
	assert_int_equal(durable_write_file(c->os, fd, "program", "x", 1, 0755), 0);
	assert_int_equal(tree_scan(c->os, fd, (uid_t) -1, NULL, NULL, &t, NULL), 0);
	assert_int_equal(tree_digest(&t, digest), 0);
	tree_done(&t);
	(void) close(fd);
	assert_int_equal(seal_commit(c->os, store_dirs(s)->store, AGENTS_COMPONENT, "1.0.0", digest, NULL), 0);
	assert_int_equal(generation_create(c->os, store_dirs(s)->generations, 1, &g), 0);
	r = generation_switch(c->os, store_dirs(s)->root, 1);
	store_free(s);
	return r;
}

/* Found, or an error: by no failing call an agent becomes incomplete. (One that answers EIO for good is.) */
static void a_failing_look_is_no_verdict(void **state)
{
	static const int errors[] = { ENOMEM, EMFILE, EIO };
	struct fault_case c = { .os = os_quick() };
	struct agents_facts *seen = calloc(1, sizeof(*seen));
	unsigned found = 0;

	temp_folder(c.path, sizeof(c.path));
	assert_int_equal(install_agent(&c), 0);
	c.dirfd = open(c.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(c.dirfd >= 0);
	for (unsigned i = 0; i < 2 * ARRAY_LEN(errors); i++) {
		int error = errors[i / 2];
		bool sticky = i % 2;
		struct os_fault f;
		unsigned at = 0;

		do {
			int r;

			os_fault_init(&f, os_quick());
			os_fault_arm(&f, ++at, error, sticky);
			r = agents_look(&f.os, c.dirfd, seen);
			if (r < 0 || (error == EIO && sticky))
				continue;
			found++;
			assert_int_equal(seen->sound_count, 1);
			assert_string_equal(seen->sound[0], "1.0.0");
			assert_string_equal(seen->current, "1.0.0");
			assert_int_equal(seen->generation, 1);
		} while (f.fired > 0);
	}
	assert_true(found > 0);
	free(seen);
	(void) close(c.dirfd);
	temp_folder_remove(c.path);
	(void) state;
}

#define CHOICE(test) cmocka_unit_test_setup_teardown(test, new_world, free_world)
#define FILE_TEST(test) cmocka_unit_test_setup_teardown(test, folder_setup, folder_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CHOICE(the_packaged_one_where_there_is_no_other),
		CHOICE(the_newer_of_current_and_packaged),
		CHOICE(one_whose_tree_is_gone_is_not_chosen),
		CHOICE(the_other_after_starts_in_vain),
		CHOICE(being_ready_ends_the_count),
		CHOICE(what_cannot_be_started_is_not_tried_again),
		CHOICE(one_that_was_proven_where_nothing_else_is_left),
		CHOICE(a_new_one_is_on_trial),
		CHOICE(before_the_rename_the_old_one_goes_on),
		CHOICE(three_starts_and_the_one_before_returns),
		CHOICE(cut_off_three_times_nobody_knows_by_what),
		CHOICE(a_second_attempt_is_a_new_trial),
		CHOICE(a_proven_one_is_no_trial_any_more),
		CHOICE(a_downgrade_is_a_trial_like_any_other),
		CHOICE(back_to_absent_is_the_packaged_one),
		CHOICE(another_components_update_means_nothing_here),
		FILE_TEST(what_is_saved_is_read),
		FILE_TEST(what_programs_say_breaks_no_line),
		FILE_TEST(a_damaged_file_is_one_that_knows_nothing),
		cmocka_unit_test(the_list_is_bounded),
		cmocka_unit_test(a_count_survives_faults_and_power_cuts),
		cmocka_unit_test(a_failing_look_is_no_verdict),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
