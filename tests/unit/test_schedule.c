/* The schedule as a table, and what must hold for any fleet. */
#include "model/catalogue.h"
#include "model/decide.h"
#include "conf/conf.h"
#include "server-stub/rollout/replay.h"
#include "server-stub/rollout/schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { NOW = 1000000, OPENED = NOW - 100, MEMBERS_MAX = 12 };

/* --- one node's facts --- */

static struct member_facts facts(void)
{
	return (struct member_facts){ .target = "1.1.0",
				      .version = "1.0.0",
				      .reported_at = NOW - 10,
				      .opened_at = OPENED,
				      .now = NOW,
				      .silent_after_s = 60 };
}

static void results_decide_what_a_node_is(void **state)
{
	static const struct {
		uint64_t number;
		enum member_state state;
	} rows[] = {
		{ 0, MEMBER_WAITING },
		{ RESULT_GOOD, MEMBER_GOOD },
		{ RESULT_GOOD_UNPROVEN, MEMBER_UNPROVEN },
		{ RESULT_REGRESSED, MEMBER_FAILED },
		{ RESULT_CHECK_FAILED, MEMBER_FAILED },
		{ RESULT_SERVICE_FAILED, MEMBER_FAILED },
		{ RESULT_LINK_LOST, MEMBER_FAILED },
		{ RESULT_BELOW_FLOOR, MEMBER_FAILED },
		{ RESULT_NO_SPACE, MEMBER_FAILED_NODE },
		{ RESULT_DOWNLOAD_FAILED, MEMBER_FAILED_NODE },
		{ RESULT_ARTIFACT_DIGEST, MEMBER_FAILED_NODE },
		{ RESULT_SUPERSEDED, MEMBER_WAITING },
		{ RESULT_WITHDRAWN, MEMBER_WAITING },
		{ RESULT_ROLLED_BACK, MEMBER_WAITING },
		{ 4711, MEMBER_FAILED_NODE },
		{ UINT64_MAX, MEMBER_FAILED_NODE },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct member_facts f = facts();

		f.result = rows[i].number;
		if (member_judge(&f).state != rows[i].state)
			fail_msg("result %llu is %s", (unsigned long long) rows[i].number,
				 member_state_name(member_judge(&f).state));
	}
}

static void every_number_of_the_catalogue_is_judged(void **state)
{
	const struct catalogue_row *row;

	(void) state;
	for (size_t i = 0; (row = catalogue_at(i)) != NULL; i++) {
		struct member_facts f = facts();
		enum member_state s;

		f.result = (uint64_t) row->number;
		s = member_judge(&f).state;
		if (row->class == CLASS_RELEASE)
			assert_int_equal(s, MEMBER_FAILED);
		if (row->class == CLASS_NODE || row->class == CLASS_NETWORK || row->class == CLASS_REJECTED)
			assert_int_equal(s, MEMBER_FAILED_NODE);
		if (s == MEMBER_GOOD)
			assert_int_equal(row->number, RESULT_GOOD);
	}
}

static void what_is_under_way_and_already_there(void **state)
{
	struct member_facts f = facts();

	(void) state;
	f.under_way_to = "1.1.0";
	f.under_way_state = "staging";
	assert_int_equal(member_judge(&f).state, MEMBER_UNDER_WAY);
	/* In probation the version is there already, and proves nothing. */
	f.version = "1.1.0";
	f.under_way_state = "probation";
	assert_int_equal(member_judge(&f).state, MEMBER_UNDER_WAY);
	/* A retry after a failure of its own. */
	f.result = RESULT_NO_SPACE;
	assert_int_equal(member_judge(&f).state, MEMBER_UNDER_WAY);

	f = facts();
	f.version = "1.1.0";
	assert_int_equal(member_judge(&f).state, MEMBER_GOOD);
	assert_int_equal(member_judge(&f).since, OPENED);
	f.result = RESULT_GOOD_UNPROVEN;
	assert_int_equal(member_judge(&f).state, MEMBER_UNPROVEN);
	f.result = RESULT_CHECK_FAILED;
	assert_int_equal(member_judge(&f).state, MEMBER_FAILED);
	f = facts();
	f.version = NULL;
	assert_int_equal(member_judge(&f).state, MEMBER_WAITING);
}

static void silence_counts_from_the_opening(void **state)
{
	struct member_facts f = facts();

	(void) state;
	f.reported_at = NOW - 1000;
	assert_true(member_judge(&f).silent);
	f.opened_at = NOW - 60;
	assert_false(member_judge(&f).silent);
	f.opened_at = 0; /* not open: nobody is waited for */
	assert_false(member_judge(&f).silent);

	/* Silent in the middle of the update is a failure; before it, only silence. */
	f = facts();
	f.reported_at = NOW - 61;
	f.under_way_to = "1.1.0";
	f.under_way_state = "probation";
	assert_int_equal(member_judge(&f).state, MEMBER_LOST);
	f.under_way_state = "staging";
	assert_int_equal(member_judge(&f).state, MEMBER_UNDER_WAY);
	assert_true(member_judge(&f).silent);
	f.under_way_state = "no such state";
	assert_int_equal(member_judge(&f).state, MEMBER_UNDER_WAY);
}

static void what_nobody_listened_to_is_no_silence(void **state)
{
	struct member_facts f = facts();

	(void) state;
	/* The controller was away when this node was in the middle, and is back. */
	f.reported_at = NOW - 100000;
	f.opened_at = NOW - 200000;
	f.under_way_to = "1.1.0";
	f.under_way_state = "probation";
	assert_int_equal(member_judge(&f).state, MEMBER_LOST);
	f.listens_since = NOW - 60;
	assert_int_equal(member_judge(&f).state, MEMBER_UNDER_WAY);
	assert_false(member_judge(&f).silent);
	f.listens_since = NOW - 61;
	assert_int_equal(member_judge(&f).state, MEMBER_LOST);
	/* Who starts again and again learns of it all the same: what waited is told within minutes. */
	f.silent_after_s = 86400;
	f.listens_since = NOW - SCHEDULE_CATCH_UP_S;
	assert_int_equal(member_judge(&f).state, MEMBER_UNDER_WAY);
	f.listens_since--;
	assert_int_equal(member_judge(&f).state, MEMBER_LOST);
	/* A node that spoke since is silent from then on. */
	f.reported_at = NOW - 86400;
	assert_int_equal(member_judge(&f).state, MEMBER_UNDER_WAY);
	assert_int_equal(member_silent_at(&f), NOW);
}

static void orders_quarantine_and_refusals(void **state)
{
	struct member_facts f = facts();

	(void) state;
	f.result = RESULT_GOOD;
	f.excused = true;
	assert_int_equal(member_judge(&f).state, MEMBER_EXCUSED);
	f.quarantined = true;
	assert_int_equal(member_judge(&f).state, MEMBER_QUARANTINED);
	f = facts();
	f.why = reason_name(REASON_DENIED);
	assert_int_equal(member_judge(&f).state, MEMBER_BLOCKED);
	f.why = reason_name(REASON_WINDOW);
	assert_int_equal(member_judge(&f).state, MEMBER_WAITING);
}

static void a_skip_excuses_what_was_known_and_no_later_failure(void **state)
{
	struct member_facts f = facts();

	(void) state;
	f.skipped_at = NOW - 20;
	assert_int_equal(member_judge(&f).state, MEMBER_SKIPPED);
	f.result = RESULT_CHECK_FAILED;
	f.result_at = NOW - 20;
	assert_int_equal(member_judge(&f).state, MEMBER_SKIPPED);
	f.result_at = NOW - 19;
	assert_int_equal(member_judge(&f).state, MEMBER_FAILED);
	f.result = RESULT_NO_SPACE;
	assert_int_equal(member_judge(&f).state, MEMBER_SKIPPED);
	f.result = RESULT_GOOD;
	assert_int_equal(member_judge(&f).state, MEMBER_SKIPPED);
	/* Lost before it was skipped, and lost by what it began after that. */
	f = facts();
	f.under_way_to = "1.1.0";
	f.under_way_state = "probation";
	f.reported_at = NOW - 61;
	f.skipped_at = NOW - 61;
	assert_int_equal(member_judge(&f).state, MEMBER_SKIPPED);
	f.skipped_at = NOW - 62;
	assert_int_equal(member_judge(&f).state, MEMBER_LOST);
	f.quarantined = true;
	assert_int_equal(member_judge(&f).state, MEMBER_QUARANTINED);
}

static enum member_state together(enum member_state main, bool told, const struct member_facts *f, bool *ret_other)
{
	return member_judge_with((struct member_verdict){ main, false, 5 }, told, f, ret_other).state;
}

static void what_is_swapped_together_is_judged_together(void **state)
{
	struct member_facts f = facts();
	bool other = false;

	(void) state;
	/* The other one is not there yet. */
	assert_int_equal(together(MEMBER_GOOD, false, &f, &other), MEMBER_WAITING);
	assert_true(other);
	/* The common update was good, and it went on since, by a rollout of its own. */
	assert_int_equal(together(MEMBER_GOOD, true, &f, &other), MEMBER_GOOD);
	assert_false(other);
	f.why = reason_name(REASON_DENIED);
	assert_int_equal(together(MEMBER_GOOD, true, &f, &other), MEMBER_GOOD);
	assert_int_equal(together(MEMBER_WAITING, false, &f, &other), MEMBER_BLOCKED);
	/* It alone regressed in its watch. */
	f.result = RESULT_REGRESSED;
	assert_int_equal(together(MEMBER_GOOD, true, &f, &other), MEMBER_FAILED);
	assert_true(other);
	assert_int_equal(together(MEMBER_FAILED, true, &f, &other), MEMBER_FAILED);
	assert_false(other);
	/* Both run it already: good since the later one is. */
	f = facts();
	f.version = f.target;
	assert_int_equal(together(MEMBER_GOOD, false, &f, &other), MEMBER_GOOD);
	assert_int_equal(
		member_judge_with((struct member_verdict){ MEMBER_GOOD, false, 5 }, false, &f, NULL).since,
		OPENED);
	/* What support keeps away is not waited for; nobody's word is better than the main one's. */
	f.excused = true;
	assert_int_equal(together(MEMBER_WAITING, false, &f, &other), MEMBER_EXCUSED);
	assert_int_equal(together(MEMBER_QUARANTINED, true, &f, &other), MEMBER_QUARANTINED);
}

/* --- the schedule --- */

/*
 * A row: the state of the rollout; per stage '+' open or '-' closed; per node its stage and state,
 * e.g. "0G 1W": G good, U unproven, F failed, N failed by itself, L lost, W waiting, Y under way,
 * B blocked, E excused, K skipped, Q quarantined, y good but too young, s good and still soaking.
 */
struct row {
	enum rollout_state state;
	const char *open, *nodes;
	uint64_t max_failures, max_node_failures;
	enum schedule_action action;
	size_t stage;
	const char *why; /* part of it */
};

struct fixture {
	struct plan plan;
	struct plan_stage plan_stages[4];
	struct schedule_stage stages[4];
	struct schedule_member members[MEMBERS_MAX];
	char names[MEMBERS_MAX][8];
	struct schedule_input in;
};

static void build(struct fixture *f, const struct row *row)
{
	static char *const stage_names[] = { (char *) (uintptr_t) "one", (char *) (uintptr_t) "two",
					     (char *) (uintptr_t) "three", (char *) (uintptr_t) "four" };
	static const char letters[] = "WYGUFNLBEKQ";
	static const enum member_state states[] = { MEMBER_WAITING,  MEMBER_UNDER_WAY,	MEMBER_GOOD,
						    MEMBER_UNPROVEN, MEMBER_FAILED,	MEMBER_FAILED_NODE,
						    MEMBER_LOST,     MEMBER_BLOCKED,	MEMBER_EXCUSED,
						    MEMBER_SKIPPED,  MEMBER_QUARANTINED };
	size_t stages = strlen(row->open);

	*f = (struct fixture){ 0 };
	f->plan = (struct plan){ .stages = f->plan_stages,
				 .stage_count = stages,
				 .max_failures = row->max_failures,
				 .max_node_failures = row->max_node_failures,
				 .min_age_s = 3600 };
	for (size_t k = 0; k < stages; k++) {
		f->plan_stages[k] = (struct plan_stage){ .name = stage_names[k], .soak_s = 50 };
		f->stages[k].open = row->open[k] == '+';
		f->stages[k].opened_at = f->stages[k].open ? OPENED : 0;
	}
	f->in = (struct schedule_input){
		.plan = &f->plan, .state = row->state, .stages = f->stages, .members = f->members, .now = NOW
	};
	for (const char *p = row->nodes; *p; p += p[2] ? 3 : 2) {
		struct schedule_member *m = &f->members[f->in.member_count];
		const char *letter = strchr(letters, p[1]);

		snprintf(f->names[f->in.member_count], sizeof(f->names[0]), "n%zu", f->in.member_count + 1);
		*m = (struct schedule_member){ .node = f->names[f->in.member_count],
					       .stage = (size_t) (p[0] - '0'),
					       .state = letter ? states[letter - letters] : MEMBER_GOOD,
					       .since = NOW - 50,
					       .added_at = NOW - 7200 };
		if (p[1] == 'y')
			m->added_at = NOW - 3599;
		if (p[1] == 's')
			m->since = NOW - 49;
		f->in.member_count++;
		/* A stage selects its own nodes and those of the stages before. */
		for (size_t k = m->stage; k < stages; k++)
			f->stages[k].selected++;
	}
}

static const struct row table[] = {
	/* opening in order */
	{ ROLLOUT_RUNNING, "--", "0W 1W", 0, 10, SCHEDULE_OPEN, 0, "first" },
	{ ROLLOUT_RUNNING, "+-", "0W 1W", 0, 10, SCHEDULE_NOTHING, 0, "n1 has not started" },
	{ ROLLOUT_RUNNING, "+-", "0Y 1W", 0, 10, SCHEDULE_NOTHING, 0, "n1 is under way" },
	{ ROLLOUT_RUNNING, "+-", "0G 1W", 0, 10, SCHEDULE_OPEN, 1, "proved" },
	{ ROLLOUT_RUNNING, "+--", "0G 1W 2W", 0, 10, SCHEDULE_OPEN, 1, "proved" },
	{ ROLLOUT_RUNNING, "++-", "0G 1G 2W", 0, 10, SCHEDULE_OPEN, 2, "proved" },
	{ ROLLOUT_RUNNING, "++-", "0W 1G 2W", 0, 10, SCHEDULE_NOTHING, 0, "'one' waits for 1 of 1" },
	{ ROLLOUT_RUNNING, "++", "0G 1G", 0, 10, SCHEDULE_DONE, 1, "proved" },
	{ ROLLOUT_RUNNING, "++", "0G 1G 1W", 0, 10, SCHEDULE_NOTHING, 1, "n3 has not started" },
	{ ROLLOUT_RUNNING, "+-", "0G 0K 1W", 0, 10, SCHEDULE_OPEN, 1, "proved" },
	{ ROLLOUT_RUNNING, "+-", "0K 1W", 0, 10, SCHEDULE_NOTHING, 0, "no data is no success" },
	/* soak and age */
	{ ROLLOUT_RUNNING, "+-", "0s 1W", 0, 10, SCHEDULE_NOTHING, 0, "soaks until" },
	{ ROLLOUT_RUNNING, "+-", "0G 0s 1W", 0, 10, SCHEDULE_NOTHING, 0, "soaks until" },
	{ ROLLOUT_RUNNING, "+-", "0y 1W", 0, 10, SCHEDULE_NOTHING, 0, "too new to count" },
	{ ROLLOUT_RUNNING, "+-", "0G 0y 1W", 0, 10, SCHEDULE_NOTHING, 0, "too new to count" },
	{ ROLLOUT_RUNNING, "++", "0s 1G", 0, 10, SCHEDULE_NOTHING, 0, "soaks until" },
	/* no data is no good news */
	{ ROLLOUT_RUNNING, "+-", "1W", 0, 10, SCHEDULE_NOTHING, 0, "selects no node" },
	{ ROLLOUT_RUNNING, "+", "", 0, 10, SCHEDULE_NOTHING, 0, "selects no node" },
	{ ROLLOUT_RUNNING, "+-", "0U 1W", 0, 10, SCHEDULE_NOTHING, 0, "no check proved it" },
	{ ROLLOUT_RUNNING, "+-", "0G 0U 1W", 0, 10, SCHEDULE_NOTHING, 0, "n2 runs it" },
	{ ROLLOUT_RUNNING, "+-", "0Q 1W", 0, 10, SCHEDULE_NOTHING, 0, "quarantine" },
	{ ROLLOUT_RUNNING, "+-", "0W 0B 1W", 0, 10, SCHEDULE_NOTHING, 0, "n2 will not take it" },
	{ ROLLOUT_RUNNING, "+-", "0E 1W", 0, 10, SCHEDULE_NOTHING, 0, "no node that proved" },
	{ ROLLOUT_RUNNING, "+-", "0G 0E 1W", 0, 10, SCHEDULE_OPEN, 1, "proved" },
	{ ROLLOUT_RUNNING, "++", "0G 1E", 0, 10, SCHEDULE_NOTHING, 1, "no node that proved" },
	/* a last stage whose nodes all went before */
	{ ROLLOUT_RUNNING, "++", "0G", 0, 10, SCHEDULE_DONE, 1, "proved" },
	/* failures */
	{ ROLLOUT_RUNNING, "+-", "0F 1W", 0, 10, SCHEDULE_HALT, 0, "1 of 2 nodes failed, 0 are borne: n1" },
	{ ROLLOUT_RUNNING, "+-", "0G 0F 1W", 0, 10, SCHEDULE_HALT, 0, "n2" },
	{ ROLLOUT_RUNNING, "+-", "0L 1W", 0, 10, SCHEDULE_HALT, 0, "silent" },
	{ ROLLOUT_RUNNING, "+-", "0G 0F 1W", 1, 10, SCHEDULE_OPEN, 1, "proved" },
	{ ROLLOUT_RUNNING, "+-", "0F 1W", 1, 10, SCHEDULE_NOTHING, 0, "no node that proved" },
	{ ROLLOUT_RUNNING, "+-", "0F 0L 0G 1W", 1, 10, SCHEDULE_HALT, 0, "2 of 4" },
	{ ROLLOUT_RUNNING, "++", "0G 1F", 0, 10, SCHEDULE_HALT, 1, "n2" },
	{ ROLLOUT_RUNNING, "+-", "0N 1W", 0, 0, SCHEDULE_HALT, 0, "by itself" },
	{ ROLLOUT_RUNNING, "+-", "0N 1W", 0, 1, SCHEDULE_NOTHING, 0, "no node that proved" },
	{ ROLLOUT_RUNNING, "+-", "0N 0G 1W", 0, 1, SCHEDULE_OPEN, 1, "proved" },
	{ ROLLOUT_RUNNING, "+-", "0N 0N 0G 1W", 0, 1, SCHEDULE_HALT, 0, "2 of 4" },
	/* only a running rollout does anything */
	{ ROLLOUT_PAUSED, "+-", "0G 1W", 0, 10, SCHEDULE_NOTHING, 0, "paused" },
	{ ROLLOUT_HALTED, "+-", "0G 1W", 0, 10, SCHEDULE_NOTHING, 0, "halted" },
	{ ROLLOUT_HALTED, "--", "0W", 0, 10, SCHEDULE_NOTHING, 0, "halted" },
	{ ROLLOUT_CANCELLED, "--", "0W", 0, 10, SCHEDULE_NOTHING, 0, "cancelled" },
	{ ROLLOUT_DONE, "++", "0F 1G", 0, 10, SCHEDULE_NOTHING, 0, "done" },
};

static void the_table_holds(void **state)
{
	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct schedule_decision d;
		struct fixture f;

		build(&f, &table[i]);
		schedule(&f.in, &d);
		if (d.action != table[i].action || d.stage != table[i].stage || !strstr(d.why, table[i].why))
			fail_msg("row %zu (%s %s): action %d stage %zu '%s'", i, table[i].open, table[i].nodes,
				 (int) d.action, d.stage, d.why);
	}
}

static void a_failure_may_pause_instead(void **state)
{
	struct schedule_decision d;
	struct fixture f;

	(void) state;
	build(&f, &(struct row){ ROLLOUT_RUNNING, "+-", "0F 1W", 0, 10, SCHEDULE_PAUSE, 0, "" });
	f.plan.on_failure = PLAN_PAUSE;
	schedule(&f.in, &d);
	assert_int_equal(d.action, SCHEDULE_PAUSE);
}

static void a_stage_with_a_zone_waits_for_its_night(void **state)
{
	static char zone[] = "Asia/Tokyo";
	struct schedule_decision d;
	struct fixture f;

	(void) state;
	build(&f, &(struct row){ ROLLOUT_RUNNING, "+-", "0G 1W", 0, 10, 0, 0, "" });
	f.plan_stages[1].zone = zone;
	f.stages[1].opens_at = NOW + 1;
	schedule(&f.in, &d);
	assert_int_equal(d.action, SCHEDULE_NOTHING);
	assert_int_equal(d.stage, 1);
	assert_int_equal(d.wake_at, NOW + 1);
	assert_non_null(strstr(d.why, "'two' opens in the window of Asia/Tokyo, at 1970-01-12T13:46:41Z"));
	f.in.now++;
	schedule(&f.in, &d);
	assert_int_equal(d.action, SCHEDULE_OPEN);
	f.stages[1].opens_at = -1;
	schedule(&f.in, &d);
	assert_int_equal(d.action, SCHEDULE_NOTHING);
	assert_non_null(strstr(d.why, "no time for that is known"));
	/* What is open is not closed again by the day. */
	f.stages[1].open = true;
	schedule(&f.in, &d);
	assert_int_equal(d.action, SCHEDULE_NOTHING);
	assert_non_null(strstr(d.why, "n2 has not started"));
}

static void only_what_failed_by_the_release_returns_by_itself(void **state)
{
	static const struct {
		const char *nodes;
		enum plan_undo undo;
		uint32_t bits;
	} rows[] = {
		{ "0G 1F 2W", PLAN_UNDO_ASK, 0 },	   { "0G 1F 2W", PLAN_UNDO_FAILED_STAGE, 2 },
		{ "0F 1F 2W", PLAN_UNDO_FAILED_STAGE, 3 }, { "0G 1L 2W", PLAN_UNDO_FAILED_STAGE, 0 },
		{ "0G 1N 2W", PLAN_UNDO_FAILED_STAGE, 0 }, { "0G 1N 1F 2W", PLAN_UNDO_FAILED_STAGE, 2 },
		{ "0L 1F 2W", PLAN_UNDO_FAILED_STAGE, 2 },
	};
	struct schedule_decision d;
	struct fixture f;

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		build(&f, &(struct row){ ROLLOUT_RUNNING, "++-", rows[i].nodes, 0, 0, 0, 0, "" });
		f.plan.undo = rows[i].undo;
		schedule(&f.in, &d);
		assert_int_equal(d.action, SCHEDULE_HALT);
		assert_int_equal(d.undo, rows[i].bits);
	}
	/* Borne: nothing is halted, and nothing returns. */
	build(&f, &(struct row){ ROLLOUT_RUNNING, "++-", "0G 1F 1G 2W", 1, 0, 0, 0, "" });
	f.plan.undo = PLAN_UNDO_FAILED_STAGE;
	schedule(&f.in, &d);
	assert_int_equal(d.action, SCHEDULE_OPEN);
	assert_int_equal(d.undo, 0);
}

static void hours_without_a_listener_are_no_soak(void **state)
{
	struct schedule_decision d;
	struct fixture f;

	(void) state;
	build(&f, &(struct row){ ROLLOUT_RUNNING, "++-", "0G 1G 2W", 0, 10, 0, 0, "" });
	f.in.listens_since = NOW - 49;
	schedule(&f.in, &d);
	assert_int_equal(d.action, SCHEDULE_NOTHING);
	assert_int_equal(d.stage, 1);
	assert_non_null(strstr(d.why, "soaks until"));
	assert_non_null(strstr(d.why, "listens again"));
	assert_int_equal(d.wake_at, NOW + 1);
	f.in.now = d.wake_at;
	schedule(&f.in, &d);
	assert_int_equal(d.action, SCHEDULE_OPEN);
	/* Of a long soak what was not heard must have come in. */
	f.in.now = NOW;
	f.in.listens_since = NOW - 10;
	f.plan_stages[1].soak_s = 86400;
	f.stages[1].opened_at = f.members[1].since = NOW - 86400;
	schedule(&f.in, &d);
	assert_int_equal(d.wake_at, NOW - 10 + SCHEDULE_CATCH_UP_S);
	/* And where it would have gone on anyway, nothing changes. */
	f.members[1].since = NOW - 100;
	schedule(&f.in, &d);
	assert_int_equal(d.wake_at, NOW - 100 + 86400);
	assert_null(strstr(d.why, "listens again"));
	f.plan_stages[1].soak_s = 0;
	schedule(&f.in, &d);
	assert_int_equal(d.action, SCHEDULE_OPEN);
}

static void hours_that_a_clock_jumped_over_are_no_soak(void **state)
{
	struct schedule_decision d;
	struct fixture f;

	(void) state;
	/* Ahead: it seems to have soaked. */
	build(&f, &(struct row){ ROLLOUT_RUNNING, "++-", "0G 1G 2W", 0, 10, 0, 0, "" });
	f.in.clock_set_at = NOW - 20;
	schedule(&f.in, &d);
	assert_int_equal(d.action, SCHEDULE_NOTHING);
	assert_int_equal(d.stage, 1);
	assert_non_null(strstr(d.why, "clock of the controller was set"));
	assert_int_equal(d.wake_at, NOW + 30);
	/* What became good since counts from then. */
	f.members[1].since = NOW - 10;
	schedule(&f.in, &d);
	assert_int_equal(d.wake_at, NOW + 40);
	/* Back: it was proved in days that are still to come, in an earlier stage too. */
	f.members[0].since = NOW + 100000;
	f.members[1].since = NOW + 100000;
	schedule(&f.in, &d);
	assert_int_equal(d.wake_at, NOW + 30);
	f.in.now = NOW + 30;
	schedule(&f.in, &d);
	assert_int_equal(d.action, SCHEDULE_OPEN);
	/* Where nothing soaks there is nothing to begin again. */
	build(&f, &(struct row){ ROLLOUT_RUNNING, "+-", "0G 1W", 0, 10, 0, 0, "" });
	f.plan_stages[0].soak_s = 0;
	f.in.clock_set_at = NOW - 1;
	schedule(&f.in, &d);
	assert_int_equal(d.action, SCHEDULE_OPEN);
}

static void waiting_for_time_says_until_when(void **state)
{
	struct schedule_decision d;
	struct fixture f;

	(void) state;
	build(&f, &(struct row){ ROLLOUT_RUNNING, "+-", "0s 1W", 0, 10, 0, 0, "" });
	schedule(&f.in, &d);
	assert_int_equal(d.wake_at, NOW + 1);
	f.in.now = d.wake_at;
	schedule(&f.in, &d);
	assert_int_equal(d.action, SCHEDULE_OPEN);
	build(&f, &(struct row){ ROLLOUT_RUNNING, "+-", "0y 1W", 0, 10, 0, 0, "" });
	schedule(&f.in, &d);
	assert_int_equal(d.wake_at, NOW + 1);
	f.in.now = d.wake_at;
	schedule(&f.in, &d);
	assert_int_equal(d.action, SCHEDULE_OPEN);
}

/* A small generator: the same rounds each time. */
static uint32_t random_state;
static unsigned dice(unsigned sides)
{
	random_state = random_state * 1664525u + 1013904223u;
	return (random_state >> 8) % sides;
}

static void no_fleet_breaks_the_rules(void **state)
{
	static const char letters[] = "WYGUFNLBEQys";

	(void) state;
	random_state = 4711;
	for (int round = 0; round < 50000; round++) {
		char open[5] = "", nodes[3 * MEMBERS_MAX + 1] = "";
		size_t stages = 1 + dice(4), opened = dice((unsigned) stages + 1), members = dice(MEMBERS_MAX),
		       failed = 0;
		struct row row = {
			(enum rollout_state) dice(ROLLOUT_STATE_COUNT), open, nodes, dice(3), dice(3), 0, 0, ""
		};
		struct schedule_decision d, again;
		struct fixture f;

		for (size_t k = 0; k < stages; k++)
			open[k] = k < opened ? '+' : '-';
		for (size_t i = 0; i < members; i++)
			snprintf(nodes + 3 * i, 4, "%u%c ", dice((unsigned) stages),
				 letters[dice(sizeof(letters) - 1)]);
		if (members)
			nodes[3 * members - 1] = '\0';
		build(&f, &row);
		schedule(&f.in, &d);
		schedule(&f.in, &again);
		assert_memory_equal(&d, &again, sizeof(d));
		for (size_t i = 0; i < f.in.member_count; i++)
			failed += f.members[i].state == MEMBER_FAILED || f.members[i].state == MEMBER_LOST;

		/* Only a running rollout acts. */
		if (row.state != ROLLOUT_RUNNING)
			assert_int_equal(d.action, SCHEDULE_NOTHING);
		/* Never on with failures over the limit; always a halt then. */
		if (row.state == ROLLOUT_RUNNING && failed > row.max_failures)
			assert_int_equal(d.action, SCHEDULE_HALT);
		if (d.action == SCHEDULE_NOTHING)
			assert_true(d.why[0] != '\0');
		if (d.action != SCHEDULE_OPEN && d.action != SCHEDULE_DONE)
			continue;
		/* In order: what opens is the first closed one, and done means all are open. */
		if (d.action == SCHEDULE_OPEN)
			assert_int_equal(d.stage, opened);
		else
			assert_int_equal(opened, stages);
		/* Everybody before it proved the release, is borne, or excused; and of each stage with nodes somebody proved it. */
		for (size_t k = 0; k < (d.action == SCHEDULE_DONE ? stages : d.stage); k++) {
			size_t own = 0, good = 0;

			assert_true(f.stages[k].selected > 0);
			for (size_t i = 0; i < f.in.member_count; i++) {
				const struct schedule_member *m = &f.members[i];

				if (m->stage != k)
					continue;
				own++;
				good += m->state == MEMBER_GOOD;
				assert_true(m->state == MEMBER_GOOD || m->state == MEMBER_FAILED ||
					    m->state == MEMBER_LOST || m->state == MEMBER_FAILED_NODE ||
					    m->state == MEMBER_EXCUSED);
				if (m->state == MEMBER_GOOD) {
					assert_true(NOW - m->added_at >= 3600);
					assert_true(NOW - m->since >= 50);
				}
			}
			assert_true(own == 0 || good > 0);
		}
	}
}

static void a_decision_is_made_again_from_what_was_kept(void **state)
{
	static const char text[] =
		"component: web\nversion: 1.1.0\nstages: [{name: a, nodes: [n1, n2], soak: 1h}, "
		"{name: b, all: true}]\nmin_age: 0s\n";
	static const char *const broken[] = {
		"",
		"{}",
		"[]",
		"{\"state\":\"running\",\"now\":1,\"stages\":[],\"members\":[]}",
		("{\"state\":\"running\",\"now\":1,\"stages\":[[true,1,1],[false,0,1]],"
		 "\"members\":[[\"n1\",9,\"good\",false,1,1,\"\"]]}"),
	};
	struct schedule_stage stages[] = { { .open = true, .opened_at = 1000, .selected = 2 },
					   { .selected = 3, .opens_at = 7 } };
	struct schedule_member members[] = {
		{ .node = "n1", .stage = 0, .state = MEMBER_GOOD, .since = 1500, .added_at = 1 },
		{ .node = "n2",
		  .stage = 0,
		  .state = MEMBER_GOOD,
		  .since = 2000,
		  .added_at = 1,
		  .detail = "it \"says\" so" },
		{ .node = "n3", .stage = 1, .state = MEMBER_WAITING, .silent = true, .added_at = 7 },
	};
	struct conf_error e = { "" };
	struct schedule_decision first, second;
	struct buf kept = BUF_INIT(10000);
	struct replay past;
	struct plan plan;

	(void) state;
	assert_int_equal(plan_parse(text, strlen(text), "p", &plan, &e), 0);
	struct schedule_input in = { .plan = &plan,
				     .state = ROLLOUT_RUNNING,
				     .stages = stages,
				     .members = members,
				     .member_count = 3,
				     .now = 3000,
				     .listens_since = 2999,
				     .clock_set_at = 900 };
	schedule(&in, &first);
	assert_int_equal(replay_write(&in, &kept), 0);
	assert_int_equal(replay_read(kept.data, kept.len, &plan, &past), 0);
	schedule(&past.input, &second);
	assert_int_equal(second.action, first.action);
	assert_string_equal(second.why, first.why);
	assert_int_equal(second.wake_at, first.wake_at);
	assert_string_equal(past.members[1].detail, "it \"says\" so");
	assert_true(past.members[2].silent);
	assert_int_equal(past.stages[1].opens_at, 7);
	assert_int_equal(past.input.listens_since, 2999);
	assert_int_equal(past.input.clock_set_at, 900);
	assert_null(past.members[0].detail);
	/* Later, while nothing else happened: the soak is over. */
	assert_int_equal(first.action, SCHEDULE_NOTHING);
	past.input.now = 2000 + 3600;
	schedule(&past.input, &second);
	assert_int_equal(second.action, SCHEDULE_OPEN);
	assert_int_equal(second.stage, 1);
	replay_done(&past);
	replay_done(&past);
	for (size_t i = 0; i < ARRAY_LEN(broken); i++)
		assert_true(replay_read(broken[i], strlen(broken[i]), &plan, &past) < 0);
	buf_done(&kept);
	plan_done(&plan);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_decision_is_made_again_from_what_was_kept),
		cmocka_unit_test(results_decide_what_a_node_is),
		cmocka_unit_test(every_number_of_the_catalogue_is_judged),
		cmocka_unit_test(what_is_under_way_and_already_there),
		cmocka_unit_test(silence_counts_from_the_opening),
		cmocka_unit_test(orders_quarantine_and_refusals),
		cmocka_unit_test(a_skip_excuses_what_was_known_and_no_later_failure),
		cmocka_unit_test(what_is_swapped_together_is_judged_together),
		cmocka_unit_test(the_table_holds),
		cmocka_unit_test(a_failure_may_pause_instead),
		cmocka_unit_test(a_stage_with_a_zone_waits_for_its_night),
		cmocka_unit_test(only_what_failed_by_the_release_returns_by_itself),
		cmocka_unit_test(what_nobody_listened_to_is_no_silence),
		cmocka_unit_test(hours_without_a_listener_are_no_soak),
		cmocka_unit_test(hours_that_a_clock_jumped_over_are_no_soak),
		cmocka_unit_test(waiting_for_time_says_until_when),
		cmocka_unit_test(no_fleet_breaks_the_rules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
