/*
 * decide(): DESIGN.md section 6, sentence by sentence and row by row, and every reason
 * at least once.
 */
#include "../story/decide_world.h"

#include "model/approval.h"

static bool reason_seen[REASON_COUNT];

static struct decision decided(const struct world *w)
{
	struct decision d = world_decide(w);

	reason_seen[d.reason] = true;
	return d;
}

static void expect_target(const struct world *w, enum cause cause, const char *version)
{
	struct decision d = decided(w);

	if (d.kind != DECIDE_TARGET)
		fail_msg("no target, but %s", reason_name(d.reason));
	assert_int_equal(d.cause, cause);
	assert_string_equal(d.version, version);
	assert_int_equal(d.reason, REASON_NONE);
	if (cause == CAUSE_ROLLOUT) {
		assert_non_null(d.rollout);
		assert_non_null(d.stage);
		assert_string_equal(d.release->version, version);
	}
}

static void expect_reason(const struct world *w, enum decision_kind kind, enum reason reason)
{
	struct decision d = decided(w);

	if (d.kind != kind || d.reason != reason)
		fail_msg("kind %d reason %s instead of kind %d reason %s", d.kind, reason_name(d.reason), kind,
			 reason_name(reason));
}

static void expect_stay(const struct world *w, enum reason reason)
{
	expect_reason(w, DECIDE_STAY, reason);
}

static void expect_wait(const struct world *w, enum reason reason, bool may_stage)
{
	expect_reason(w, DECIDE_WAIT, reason);
	assert_int_equal(world_decide(w).may_stage, may_stage);
}

static int setup(void **state)
{
	struct world *w = malloc(sizeof(*w));

	assert_non_null(w);
	world_init(w);
	world_installed(w, "1.0.0");
	world_good(w, "1.0.0");
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	world_done(*state);
	free(*state);
	return 0;
}

#define RUNNING ROLLOUT_REGULAR, ROLLOUT_RUNNING
#define DONE ROLLOUT_REGULAR, ROLLOUT_DONE

/* --- which rollout is followed --- */

static void test_no_rollout(void **state)
{
	struct world *w = *state;
	struct rollout_facts *f;

	expect_stay(w, REASON_NO_ROLLOUT);
	f = world_rollout_bare(w, "r1", 1, "1.1.0", RUNNING);
	world_stage(f, "canary", true)->by_nodes = true; /* nobody */
	expect_stay(w, REASON_NO_ROLLOUT);
}

static void test_running_rollout_is_followed(void **state)
{
	world_rollout(*state, "r1", 1, "1.1.0", RUNNING);
	expect_target(*state, CAUSE_ROLLOUT, "1.1.0");
}

static void test_a_component_that_is_absent_is_installed(void **state)
{
	world_installed(*state, NULL);
	world_rollout(*state, "r1", 1, "0.1.0", RUNNING);
	expect_target(*state, CAUSE_ROLLOUT, "0.1.0");
}

static void test_done_stays_in_force_for_nodes_that_appear_later(void **state)
{
	world_rollout(*state, "r1", 1, "1.1.0", DONE);
	expect_target(*state, CAUSE_ROLLOUT, "1.1.0");
}

static void test_up_to_date(void **state)
{
	world_installed(*state, "1.1.0");
	world_rollout(*state, "r1", 1, "1.1.0", DONE);
	expect_stay(*state, REASON_UP_TO_DATE);
}

static void test_highest_seq_is_followed_whatever_the_order(void **state)
{
	struct world *w = *state;

	world_rollout(w, "r2", 2, "1.2.0", DONE);
	world_rollout(w, "r3", 3, "1.1.5", RUNNING);
	world_rollout(w, "r1", 1, "1.1.0", DONE);
	expect_target(w, CAUSE_ROLLOUT, "1.1.5");
}

static void test_another_component_does_not_matter(void **state)
{
	struct world *w = *state;

	world_rollout(w, "r1", 1, "1.1.0", RUNNING);
	w->component.component = "waf";
	expect_stay(w, REASON_NO_ROLLOUT);
}

static void test_with_brings_its_release(void **state)
{
	struct world *w = *state;
	struct rollout_facts *f = world_rollout(w, "r1", 1, "1.1.0", RUNNING);
	struct rollout *r = world_document(f);

	r->with = calloc(1, sizeof(*r->with));
	r->with_count = 1;
	r->with[0] = (struct release_ref){ .component = world_copy("waf"), .version = world_copy("7.0.0") };
	w->component.component = "waf";
	expect_target(w, CAUSE_ROLLOUT, "7.0.0");
}

static void test_together_or_not_at_all(void **state)
{
	struct world *w = *state;
	struct rollout_facts *f = world_rollout(w, "r1", 1, "1.1.0", RUNNING);
	struct release_ref waf = { .component = (char[]){ "waf" }, .version = (char[]){ "7.0.0" } };
	const struct decision mine = world_decide(w);
	struct decision d = mine, other = {
		.kind = DECIDE_TARGET, .cause = CAUSE_ROLLOUT, .version = "7.0.0", .rollout = f->rollout
	};

	assert_int_equal(mine.kind, DECIDE_TARGET);
	decide_together(&d, &other, &waf, "6.0.0");
	assert_int_equal(d.kind, DECIDE_TARGET);
	/* Its own reason is that of all. */
	other.kind = DECIDE_WAIT;
	other.reason = REASON_DAILY_LIMIT;
	other.may_stage = true;
	other.until = 7;
	decide_together(&d, &other, &waf, NULL);
	assert_int_equal(d.kind, DECIDE_WAIT);
	assert_int_equal(d.reason, REASON_DAILY_LIMIT);
	assert_true(d.may_stage && d.until == 7);
	/* It stays, follows another rollout, or is ordered away. */
	d = mine;
	other = (struct decision){ .kind = DECIDE_STAY, .reason = REASON_DENIED };
	decide_together(&d, &other, &waf, "6.0.0");
	assert_int_equal(d.reason, REASON_TOGETHER);
	assert_false(d.may_stage);
	reason_seen[REASON_TOGETHER] = true;
	d = mine;
	other = (struct decision){ .kind = DECIDE_TARGET, .cause = CAUSE_ORDER_ROLLBACK, .version = "6.0.0" };
	decide_together(&d, &other, &waf, "7.0.0");
	assert_int_equal(d.reason, REASON_TOGETHER);
	/* It is there. */
	d = mine;
	other = (struct decision){ .kind = DECIDE_STAY, .reason = REASON_SUPPORT_PIN, .cause = CAUSE_ORDER_PIN };
	decide_together(&d, &other, &waf, "7.0.0");
	assert_int_equal(d.kind, DECIDE_TARGET);
}

static void test_stages(void **state)
{
	struct world *w = *state;
	struct rollout_facts *f = world_rollout_bare(w, "r1", 1, "1.1.0", RUNNING);
	struct stage *canary = world_stage(f, "canary", true), *half = world_stage(f, "half", false),
		     *rest = world_stage(f, "rest", false);

	canary->by_nodes = true;
	assert_int_equal(string_list_add(&canary->nodes, "n2"), 0);
	half->share = 5000;
	f->share = 5000; /* not below */
	expect_wait(w, REASON_STAGE_CLOSED, false);
	assert_string_equal(world_decide(w).stage->name, "rest");
	half->open = true;
	expect_wait(w, REASON_STAGE_CLOSED, false);
	f->share = 4999;
	expect_target(w, CAUSE_ROLLOUT, "1.1.0");
	assert_string_equal(world_decide(w).stage->name, "half");
	f->share = 9999;
	rest->open = true;
	expect_target(w, CAUSE_ROLLOUT, "1.1.0");
	assert_int_equal(labels_set(&rest->labels, "site", "oslo"), 0);
	expect_stay(w, REASON_NO_ROLLOUT);
	world_label(w, "site", "oslo");
	expect_target(w, CAUSE_ROLLOUT, "1.1.0");
	assert_int_equal(string_list_add(&canary->nodes, "n1"), 0);
	assert_string_equal(world_decide(w).stage->name, "canary"); /* the first that selects it */
}

static void test_a_closed_stage_does_not_hide_an_older_rollout(void **state)
{
	struct world *w = *state;

	world_rollout(w, "r1", 1, "1.1.0", DONE);
	(void) world_stage(world_rollout_bare(w, "r2", 2, "1.2.0", RUNNING), "later", false);
	expect_target(w, CAUSE_ROLLOUT, "1.1.0");
	world_installed(w, "1.1.0");
	expect_wait(w, REASON_STAGE_CLOSED, false); /* more telling than "up to date" */
	assert_string_equal(world_decide(w).version, "1.2.0");
}

static void test_membership_that_was_acted_on_sticks(void **state)
{
	struct world *w = *state;
	struct rollout_facts *f = world_rollout_bare(w, "r1", 1, "1.1.0", RUNNING);
	struct stage *s = world_stage(f, "oslo", true);

	assert_int_equal(labels_set(&s->labels, "site", "oslo"), 0);
	expect_stay(w, REASON_NO_ROLLOUT);
	w->joined[w->component.joined_count++] = "r1"; /* it was selected when it began */
	expect_target(w, CAUSE_ROLLOUT, "1.1.0");
	/* It never binds the node against others. */
	world_rollout(w, "r2", 2, "1.2.0", RUNNING);
	expect_target(w, CAUSE_ROLLOUT, "1.2.0");
}

static void test_a_member_keeps_the_stage_that_selects_it(void **state)
{
	struct world *w = *state;
	struct rollout_facts *f = world_rollout_bare(w, "r1", 1, "1.1.0", RUNNING);

	world_stage(f, "canary", true)->by_nodes = true; /* others */
	(void) world_stage(f, "rest", true);
	w->joined[w->component.joined_count++] = "r1";
	expect_target(w, CAUSE_ROLLOUT, "1.1.0");
	assert_string_equal(world_decide(w).stage->name, "rest");
}

static void test_equal_seqs_are_told_apart_by_id(void **state)
{
	for (int turn = 0; turn < 2; turn++) {
		struct world w;

		world_init(&w);
		(void) world_rollout(&w, turn ? "a" : "b", 1, turn ? "1.1.0" : "1.2.0", RUNNING);
		(void) world_rollout(&w, turn ? "b" : "a", 1, turn ? "1.2.0" : "1.1.0", RUNNING);
		expect_target(&w, CAUSE_ROLLOUT, "1.2.0");
		world_done(&w);
	}
	(void) state;
}

static void test_not_approved(void **state)
{
	struct world *w = *state;
	struct rollout_facts *f = world_rollout(w, "r2", 2, "1.2.0", RUNNING);

	f->approved[0] = false;
	expect_wait(w, REASON_NOT_APPROVED, false);
	world_rollout(w, "r1", 1, "1.1.0", DONE);
	expect_target(w, CAUSE_ROLLOUT, "1.1.0");
	f->approved[0] = true;
	expect_target(w, CAUSE_ROLLOUT, "1.2.0");
}

/* --- what is skipped --- */

static void test_denied_is_skipped(void **state)
{
	struct world *w = *state;

	world_rollout(w, "r2", 2, "1.2.0", RUNNING);
	world_denied(w, "1.2.0", DENIED_UNFIT, 2);
	expect_stay(w, REASON_DENIED);
	world_rollout(w, "r3", 3, "1.2.0", RUNNING); /* unfit is not lifted by another rollout */
	expect_stay(w, REASON_DENIED);
	world_rollout(w, "r1", 1, "1.1.0", DONE);
	expect_target(w, CAUSE_ROLLOUT, "1.1.0");
}

static void test_undone_is_lifted_by_a_higher_seq_only(void **state)
{
	struct world *w = *state;

	world_denied(w, "1.2.0", DENIED_UNDONE, 5);
	world_rollout(w, "r5", 5, "1.2.0", RUNNING);
	expect_stay(w, REASON_DENIED);
	world_rollout(w, "r6", 6, "1.2.0", RUNNING);
	expect_target(w, CAUSE_ROLLOUT, "1.2.0");
}

static void test_forced_is_not_lifted_by_rollouts(void **state)
{
	struct world *w = *state;

	world_denied(w, "1.2.0", DENIED_FORCED, 0);
	world_rollout(w, "r6", 6, "1.2.0", RUNNING);
	expect_stay(w, REASON_DENIED);
}

static void test_lower_is_skipped_without_permission(void **state)
{
	struct world *w = *state;

	world_installed(w, "2.0.0");
	world_good(w, "1.0.0");
	world_rollout(w, "r1", 1, "1.0.0", RUNNING);
	expect_stay(w, REASON_LOWER);
	world_rollout(w, "r2", 2, "1.0.0", ROLLOUT_PATCH, ROLLOUT_RUNNING);
	expect_stay(w, REASON_LOWER);
	world_rollout(w, "r3", 3, "1.0.0", ROLLOUT_DOWNGRADE, ROLLOUT_RUNNING);
	expect_target(w, CAUSE_ROLLOUT, "1.0.0");
}

static void test_downgrade_goes_to_what_was_good_or_approved(void **state)
{
	struct world *w = *state;

	world_installed(w, "2.0.0");
	world_rollout(w, "r1", 1, "1.5.0", ROLLOUT_DOWNGRADE, ROLLOUT_RUNNING);
	expect_stay(w, REASON_LOWER); /* never good here, and nobody has to approve it */
	world_good(w, "1.5.0");
	expect_target(w, CAUSE_ROLLOUT, "1.5.0");
	w->component.good_count--;
	(void) world_approval(w, "change-board");
	expect_target(w, CAUSE_ROLLOUT, "1.5.0"); /* approved by those the policy names */
	w->facts[0].approved[0] = false;
	expect_wait(w, REASON_NOT_APPROVED, false);
}

static void test_floor_and_revoked(void **state)
{
	struct world *w = *state;

	world_rollout(w, "r1", 1, "1.1.0", RUNNING);
	world_floor(w, "1.2.0");
	expect_stay(w, REASON_FLOOR);
	world_floor(w, "1.0.0");
	world_revoke(w, "1.1.0");
	expect_stay(w, REASON_FLOOR);
	world_rollout(w, "r0", 0, "1.0.5", DONE);
	expect_target(w, CAUSE_ROLLOUT, "1.0.5");
}

/* --- patches --- */

static void test_running_patch_goes_first(void **state)
{
	struct world *w = *state;

	world_rollout(w, "p1", 1, "1.0.1", ROLLOUT_PATCH, ROLLOUT_RUNNING);
	world_rollout(w, "r2", 2, "1.1.0", RUNNING);
	expect_target(w, CAUSE_ROLLOUT, "1.0.1");
}

static void test_nodes_at_the_patch_stay_while_it_runs(void **state)
{
	struct world *w = *state;

	world_rollout(w, "p1", 1, "1.0.1", ROLLOUT_PATCH, ROLLOUT_RUNNING);
	world_rollout(w, "r2", 2, "1.1.0", RUNNING);
	world_installed(w, "1.0.1");
	expect_stay(w, REASON_UP_TO_DATE);
	world_document(&w->facts[0])->state = ROLLOUT_DONE;
	expect_target(w, CAUSE_ROLLOUT, "1.1.0");
}

static void test_nodes_above_the_patch_follow_the_others(void **state)
{
	struct world *w = *state;

	world_installed(w, "1.0.5");
	world_rollout(w, "p1", 1, "1.0.1", ROLLOUT_PATCH, ROLLOUT_RUNNING);
	world_rollout(w, "r2", 2, "1.1.0", RUNNING);
	expect_target(w, CAUSE_ROLLOUT, "1.1.0");
}

static void test_the_later_of_two_patches_goes_first(void **state)
{
	struct world *w = *state;

	world_rollout(w, "p2", 2, "1.0.2", ROLLOUT_PATCH, ROLLOUT_RUNNING);
	world_rollout(w, "p1", 1, "1.0.1", ROLLOUT_PATCH, ROLLOUT_RUNNING);
	expect_target(w, CAUSE_ROLLOUT, "1.0.2");
}

/* --- paused, halted, cancelled, undo --- */

static void test_paused(void **state)
{
	struct world *w = *state;
	struct rollout_facts *f = world_rollout(w, "r2", 2, "1.2.0", ROLLOUT_REGULAR, ROLLOUT_PAUSED);

	expect_wait(w, REASON_PAUSED, true); /* nobody enters `stopping`; downloading goes on */
	assert_string_equal(world_decide(w).version, "1.2.0");
	world_freeze(w);
	expect_wait(w, REASON_PAUSED, false);
	w->index.freezes[0].until = 1; /* long over */
	f->approved[0] = false;
	expect_wait(w, REASON_NOT_APPROVED, false);
	f->approved[0] = true;
	world_rollout(w, "r1", 1, "1.1.0", DONE);
	expect_target(w, CAUSE_ROLLOUT, "1.1.0"); /* paused is not in force */
	world_installed(w, "1.2.0");
	expect_stay(w, REASON_LOWER); /* who has it keeps it */
}

static void test_halted_and_cancelled_are_ignored(void **state)
{
	struct world *w = *state;
	struct rollout_facts *f = world_rollout(w, "r2", 2, "1.2.0", ROLLOUT_REGULAR, ROLLOUT_HALTED);

	expect_stay(w, REASON_HALTED);
	world_document(f)->state = ROLLOUT_CANCELLED;
	expect_stay(w, REASON_HALTED);
	world_rollout(w, "r1", 1, "1.1.0", DONE);
	expect_target(w, CAUSE_ROLLOUT, "1.1.0");
}

static void test_undo_returns_what_its_stage_took(void **state)
{
	struct world *w = *state;
	struct rollout_facts *f = world_rollout(w, "r2", 2, "1.2.0", RUNNING);

	world_took(w, "r2", "all", 2, "1.2.0");
	world_undo(f, "all");
	expect_stay(w, REASON_UP_TO_DATE); /* running: undo means nothing */
	world_document(f)->state = ROLLOUT_HALTED;
	expect_target(w, CAUSE_UNDO, "1.0.0");
	assert_string_equal(world_decide(w).rollout->id, "r2");
	assert_string_equal(world_decide(w).stage->name, "all");
	world_document(f)->state = ROLLOUT_CANCELLED;
	expect_target(w, CAUSE_UNDO, "1.0.0");
}

static void test_undo_of_another_stage_does_not_concern(void **state)
{
	struct world *w = *state;
	struct rollout_facts *f = world_rollout(w, "r2", 2, "1.2.0", ROLLOUT_REGULAR, ROLLOUT_HALTED);

	world_took(w, "r2", "canary", 2, "1.2.0");
	world_undo(f, "all");
	expect_stay(w, REASON_HALTED);
}

/* An id used twice for two releases undoes only its own. */
static void test_undo_is_for_the_release_the_rollout_names(void **state)
{
	struct world *w = *state;
	struct rollout_facts *f = world_rollout(w, "r2", 2, "1.3.0", ROLLOUT_REGULAR, ROLLOUT_HALTED);

	world_took(w, "r2", "all", 2, "1.2.0");
	world_undo(f, "all");
	expect_stay(w, REASON_HALTED);
}

static void test_undo_of_a_first_install_is_absent(void **state)
{
	struct world *w = *state;
	struct rollout_facts *f = world_rollout(w, "r2", 2, "1.2.0", ROLLOUT_REGULAR, ROLLOUT_HALTED);

	world_installed(w, NULL);
	world_took(w, "r2", "all", 2, "1.2.0");
	world_undo(f, "all");
	expect_target(w, CAUSE_UNDO, "");
}

static void test_undo_leaves_what_came_later(void **state)
{
	struct world *w = *state;
	struct rollout_facts *f = world_rollout(w, "r2", 2, "1.2.0", ROLLOUT_REGULAR, ROLLOUT_HALTED);

	world_took(w, "r2", "all", 2, "1.2.0");
	world_took(w, "r3", "all", 3, "1.3.0");
	world_undo(f, "all");
	expect_stay(w, REASON_HALTED);
	/* And what another rollout brought again. */
	world_took(w, "r4", "all", 4, "1.2.0");
	expect_stay(w, REASON_HALTED);
}

static void test_undo_below_the_floor_waits_for_something_better(void **state)
{
	struct world *w = *state;
	struct rollout_facts *f = world_rollout(w, "r2", 2, "1.2.0", ROLLOUT_REGULAR, ROLLOUT_HALTED);

	world_took(w, "r2", "all", 2, "1.2.0");
	world_undo(f, "all");
	world_floor(w, "1.1.0");
	expect_stay(w, REASON_FLOOR);
	world_rollout(w, "r3", 3, "1.2.1", RUNNING);
	expect_target(w, CAUSE_ROLLOUT, "1.2.1");
}

static void test_undo_never_goes_to_a_denied_version(void **state)
{
	struct world *w = *state;
	struct rollout_facts *f = world_rollout(w, "r2", 2, "1.2.0", ROLLOUT_REGULAR, ROLLOUT_HALTED);

	world_took(w, "r2", "all", 2, "1.2.0");
	world_undo(f, "all");
	world_denied(w, "1.0.0", DENIED_FORCED, 0);
	expect_stay(w, REASON_DENIED);
}

/* --- support --- */

static void test_support_rollback_moves_only_who_runs_from(void **state)
{
	struct world *w = *state;

	world_installed(w, "1.1.0");
	world_order_rollback(w, "1.1.0", "1.0.0");
	expect_target(w, CAUSE_ORDER_ROLLBACK, "1.0.0");
	assert_true(world_decide(w).deny_from);
	assert_ptr_equal(world_decide(w).order, &w->orders.rollbacks[0]);
	world_installed(w, "1.2.0"); /* whatever the node runs: no rollout, and no move */
	world_rollout(w, "r9", 9, "2.0.0", RUNNING);
	expect_stay(w, REASON_SUPPORT_ROLLBACK);
	assert_true(world_decide(w).deny_from);
	world_installed(w, "1.0.0");
	expect_stay(w, REASON_SUPPORT_ROLLBACK);
}

static void test_a_refused_rollback_only_denies(void **state)
{
	struct world *w = *state;
	struct decision d;

	world_installed(w, "1.1.0");
	world_order_rollback(w, "1.1.0", "1.0.0");
	world_floor(w, "1.1.0");
	expect_stay(w, REASON_ORDER_REFUSED);
	d = world_decide(w);
	assert_true(d.order_refused);
	assert_true(d.deny_from);
	world_rollout(w, "r1", 1, "1.1.0", DONE); /* the denied one is not followed */
	expect_stay(w, REASON_ORDER_REFUSED);
	world_rollout(w, "r2", 2, "1.2.0", RUNNING); /* others are */
	expect_target(w, CAUSE_ROLLOUT, "1.2.0");
	assert_true(world_decide(w).order_refused);
}

static void test_orders_are_refused_for(void **state)
{
	struct world *w = *state;

	world_installed(w, "1.1.0");
	world_order_rollback(w, "1.1.0", "0.9.0");
	expect_stay(w, REASON_ORDER_REFUSED); /* never good here */
	world_good(w, "0.9.0");
	expect_target(w, CAUSE_ORDER_ROLLBACK, "0.9.0");
	world_revoke(w, "0.9.0");
	expect_stay(w, REASON_ORDER_REFUSED);
	string_list_done(&w->policy.revoked);
	world_denied(w, "0.9.0", DENIED_UNFIT, 0);
	expect_stay(w, REASON_ORDER_REFUSED);
}

static void test_support_pin(void **state)
{
	struct world *w = *state;

	world_good(w, "0.9.0");
	world_order_pin(w, "0.9.0");
	world_rollout(w, "r1", 1, "1.1.0", RUNNING);
	expect_target(w, CAUSE_ORDER_PIN, "0.9.0");
	world_installed(w, "0.9.0");
	expect_stay(w, REASON_SUPPORT_PIN);
	assert_false(world_decide(w).deny_from);
	world_floor(w, "1.0.0");
	expect_target(w, CAUSE_ROLLOUT, "1.1.0");
	assert_true(world_decide(w).order_refused);
}

static void test_a_rollback_goes_before_a_pin(void **state)
{
	struct world *w = *state;

	world_installed(w, "1.1.0");
	world_order_pin(w, "1.1.0");
	world_order_rollback(w, "1.1.0", "1.0.0");
	expect_target(w, CAUSE_ORDER_ROLLBACK, "1.0.0");
}

static void test_orders_for_another_component_do_not_matter(void **state)
{
	struct world *w = *state;

	world_installed(w, "1.1.0");
	world_order_rollback(w, "1.1.0", "1.0.0");
	world_order_pin(w, "1.0.0");
	w->component.component = "waf";
	expect_stay(w, REASON_NO_ROLLOUT);
	assert_false(world_decide(w).deny_from);
}

static void test_support_rollback_does_not_stop_an_undo(void **state)
{
	struct world *w = *state;
	struct rollout_facts *f = world_rollout(w, "r1", 1, "1.1.0", ROLLOUT_REGULAR, ROLLOUT_HALTED);

	world_took(w, "r1", "all", 1, "1.1.0");
	world_good(w, "1.1.0");
	world_order_rollback(w, "1.2.0", "1.1.0"); /* support keeps it at 1.1.0 ... */
	expect_stay(w, REASON_SUPPORT_ROLLBACK);
	world_undo(f, "all"); /* ... which the fleet takes back */
	expect_target(w, CAUSE_UNDO, "1.0.0");
}

static void test_forced_rollback_ends_the_probation_of_its_own_component(void **state)
{
	struct world *w = *state;

	world_installed(w, "1.1.0");
	w->local.busy = "web";
	world_order_rollback(w, "1.1.0", "1.0.0");
	expect_target(w, CAUSE_ORDER_ROLLBACK, "1.0.0");
	w->local.busy = "waf";
	expect_wait(w, REASON_BUSY, true);
}

/* --- what may stop what: the table --- */

/* Each makes one thing stop what it may. */
static void freeze_everything(struct world *w)
{
	world_freeze(w);
}

static void hold_by_support(struct world *w)
{
	w->orders.hold.until = w->local.now + 60;
}

static void hold_here(struct world *w)
{
	w->local.held = true;
}

static void go_stale(struct world *w)
{
	w->local.fresh = false;
}

static void get_stuck(struct world *w)
{
	w->local.stuck = true;
}

static void inhibit(struct world *w)
{
	w->local.inhibited = true;
}

static void be_busy(struct world *w)
{
	w->local.busy = "waf";
}

static void miss_the_lease(struct world *w)
{
	w->facts[0].lease_missing = true;
}

static void close_the_window(struct world *w)
{
	w->facts[0].in_window = false;
	w->facts[0].window_opens = w->local.now + 3600;
}

static void begin_a_blackout(struct world *w)
{
	w->facts[0].in_blackout = true;
}

static void spread_out(struct world *w)
{
	w->facts[0].spread_passed = false;
}

static void give_notice(struct world *w)
{
	w->facts[0].notice_passed = false;
}

static void defer(struct world *w)
{
	w->facts[0].deferred = true;
}

static void swap_six_times(struct world *w)
{
	w->component.swaps_today = 6;
}

static void pass_the_deadline(struct world *w)
{
	world_document(&w->facts[0])->deadline = w->local.now;
}

static void back_off(struct world *w)
{
	w->component.retry_version = "1.1.0";
	w->component.retry_at = w->local.now + 5;
}

/* The columns of the table, and for each which moves it stops: order, undo, downgrade, patch, regular. */
static const struct {
	const char *name;
	void (*make)(struct world *);
	enum reason reason;
	bool stops[5], may_stage;
	const char *override_word;
} columns[] = {
	{ "local inhibitor", inhibit, REASON_INHIBITED, { true, true, true, true, true }, true, NULL },
	{ "busy", be_busy, REASON_BUSY, { true, true, true, true, true }, true, NULL },
	{ "disruption limit", miss_the_lease, REASON_LEASE, { false, true, true, true, true }, true, NULL },
	{ "stuck", get_stuck, REASON_STUCK, { false, true, true, true, true }, false, NULL },
	{ "stale", go_stale, REASON_STALE, { false, true, true, true, true }, false, NULL },
	{ "freeze", freeze_everything, REASON_FROZEN, { false, false, true, true, true }, false, NULL },
	{ "local hold", hold_here, REASON_LOCAL_HOLD, { false, false, true, true, true }, false, NULL },
	{ "support hold", hold_by_support, REASON_SUPPORT_HOLD, { false, false, true, true, true }, false, NULL },
	{ "deadline", pass_the_deadline, REASON_DEADLINE, { false, false, true, true, true }, false, NULL },
	{ "backoff", back_off, REASON_RETRY, { false, false, true, true, true }, false, NULL },
	{ "window", close_the_window, REASON_WINDOW, { false, false, false, true, true }, true, "window" },
	{ "blackout", begin_a_blackout, REASON_WINDOW, { false, false, false, true, true }, true, "blackout" },
	{ "spread", spread_out, REASON_SPREAD, { false, false, false, true, true }, false, "spread" },
	{ "notice", give_notice, REASON_NOTICE, { false, false, false, true, true }, true, "notice" },
	{ "deferral", defer, REASON_DEFERRED, { false, false, false, true, true }, true, "deferral" },
	{ "daily limit", swap_six_times, REASON_DAILY_LIMIT, { false, false, false, false, true }, true, NULL },
};

/* The rows: each makes facts[0] or an order want 1.1.0. */
static void want_by_order(struct world *w)
{
	world_rollout(w, "r1", 1, "1.1.0", RUNNING);
	world_installed(w, "1.2.0");
	world_good(w, "1.1.0");
	world_order_rollback(w, "1.2.0", "1.1.0");
}

static void want_by_undo(struct world *w)
{
	world_undo(world_rollout(w, "r1", 1, "1.2.0", ROLLOUT_REGULAR, ROLLOUT_HALTED), "all");
	world_installed(w, "1.1.0");
	world_took(w, "r1", "all", 1, "1.2.0");
}

static void want_by_downgrade(struct world *w)
{
	world_rollout(w, "r1", 1, "1.1.0", ROLLOUT_DOWNGRADE, ROLLOUT_RUNNING);
	world_installed(w, "1.2.0");
	world_good(w, "1.1.0");
}

static void want_by_patch(struct world *w)
{
	world_rollout(w, "r1", 1, "1.1.0", ROLLOUT_PATCH, ROLLOUT_RUNNING);
}

static void want_by_regular(struct world *w)
{
	world_rollout(w, "r1", 1, "1.1.0", RUNNING);
}

static const struct {
	const char *name;
	void (*want)(struct world *);
	enum cause cause;
} table_rows[5] = {
	{ "support rollback, pin", want_by_order, CAUSE_ORDER_ROLLBACK },
	{ "undo", want_by_undo, CAUSE_UNDO },
	{ "downgrade", want_by_downgrade, CAUSE_ROLLOUT },
	{ "patch", want_by_patch, CAUSE_ROLLOUT },
	{ "regular", want_by_regular, CAUSE_ROLLOUT },
};

static void test_what_may_stop_what(void **state)
{
	(void) state;
	for (size_t row = 0; row < ARRAY_LEN(table_rows); row++)
		for (size_t column = 0; column < ARRAY_LEN(columns); column++) {
			struct world w;
			struct decision d;
			bool stops = columns[column].stops[row];

			world_init(&w);
			world_installed(&w, "1.0.0");
			table_rows[row].want(&w);
			d = decided(&w);
			if (d.kind != DECIDE_TARGET || d.cause != table_rows[row].cause)
				fail_msg("%s: %s before anything stops it", table_rows[row].name,
					 reason_name(d.reason));
			columns[column].make(&w);
			d = decided(&w);
			if ((d.kind == DECIDE_WAIT) != stops || (d.kind == DECIDE_TARGET) == stops)
				fail_msg("%s must %sstop %s", columns[column].name, stops ? "" : "not ",
					 table_rows[row].name);
			assert_string_equal(d.version, "1.1.0");
			assert_int_equal(d.cause, table_rows[row].cause);
			if (stops) {
				assert_int_equal(d.reason, columns[column].reason);
				assert_int_equal(d.may_stage, columns[column].may_stage);
			}
			world_done(&w);
		}
}

static void test_a_patch_passes_what_its_overrides_list(void **state)
{
	(void) state;
	for (size_t row = 2; row < ARRAY_LEN(table_rows); row++)
		for (size_t column = 0; column < ARRAY_LEN(columns); column++) {
			struct world w;
			struct decision d;
			bool passes =
				!columns[column].stops[row] || (row == 3 && columns[column].override_word != NULL);

			world_init(&w);
			world_installed(&w, "1.0.0");
			table_rows[row].want(&w);
			for (size_t i = 0; i < ARRAY_LEN(columns); i++)
				if (columns[i].override_word)
					world_override(&w.facts[0], columns[i].override_word);
			columns[column].make(&w);
			d = decided(&w);
			if ((d.kind == DECIDE_TARGET) != passes)
				fail_msg("%s and %s with overrides", columns[column].name, table_rows[row].name);
			world_done(&w);
		}
}

static void test_each_override_is_for_its_own(void **state)
{
	struct world *w = *state;

	want_by_patch(w);
	world_override(&w->facts[0], "window");
	close_the_window(w);
	expect_target(w, CAUSE_ROLLOUT, "1.1.0");
	begin_a_blackout(w);
	expect_wait(w, REASON_WINDOW, true);
	world_override(&w->facts[0], "blackout");
	expect_target(w, CAUSE_ROLLOUT, "1.1.0");
	spread_out(w);
	expect_wait(w, REASON_SPREAD, false);
}

static void test_what_allows_no_staging_is_named_first(void **state)
{
	(void) state;
	for (size_t a = 0; a < ARRAY_LEN(columns); a++)
		for (size_t b = 0; b < ARRAY_LEN(columns); b++) {
			struct world w;

			world_init(&w);
			world_installed(&w, "1.0.0");
			want_by_regular(&w);
			columns[a].make(&w);
			columns[b].make(&w);
			assert_int_equal(decided(&w).may_stage, columns[a].may_stage && columns[b].may_stage);
			world_done(&w);
		}
}

static void test_upwards_a_downgrade_is_bound_like_a_regular_one(void **state)
{
	struct world *w = *state;

	world_rollout(w, "r1", 1, "1.1.0", ROLLOUT_DOWNGRADE, ROLLOUT_RUNNING);
	expect_target(w, CAUSE_ROLLOUT, "1.1.0");
	close_the_window(w);
	expect_wait(w, REASON_WINDOW, true);
}

/* It is waited for: the rollout behind it leads to what the fleet goes away from. */
static void test_what_is_called_a_downgrade_needs_its_approval_upwards(void **state)
{
	struct world *w = *state;

	world_rollout(w, "r1", 1, "1.2.0", RUNNING);
	world_rollout(w, "r2", 2, "1.1.0", ROLLOUT_DOWNGRADE, ROLLOUT_RUNNING)->up_unapproved[0] = true;
	world_good(w, "1.1.0");
	expect_wait(w, REASON_NOT_APPROVED, false);
	world_installed(w, NULL);
	expect_wait(w, REASON_NOT_APPROVED, false);
	world_installed(w, "1.2.0");
	expect_target(w, CAUSE_ROLLOUT, "1.1.0");
	world_installed(w, "1.1.0");
	expect_stay(w, REASON_UP_TO_DATE);
}

static void test_until(void **state)
{
	struct world *w = *state;

	want_by_regular(w);
	close_the_window(w);
	assert_int_equal(decided(w).until, w->local.now + 3600);
	hold_by_support(w);
	assert_int_equal(decided(w).until, w->local.now + 60);
	world_freeze(w)->until = w->local.now + 30;
	assert_int_equal(decided(w).until, w->local.now + 30);
	w->local.now += 30; /* the end of a freeze is not in it */
	expect_wait(w, REASON_SUPPORT_HOLD, false);
	w->local.now += 30;
	expect_wait(w, REASON_WINDOW, true);
}

static void test_deadline_of_what_is_done_has_been_met(void **state)
{
	struct world *w = *state;

	want_by_regular(w);
	pass_the_deadline(w);
	expect_wait(w, REASON_DEADLINE, false);
	w->local.now--;
	expect_target(w, CAUSE_ROLLOUT, "1.1.0");
	w->local.now += 1000;
	world_document(&w->facts[0])->state = ROLLOUT_DONE;
	expect_target(w, CAUSE_ROLLOUT, "1.1.0");
}

static void test_backoff_is_for_what_failed(void **state)
{
	struct world *w = *state;

	want_by_regular(w);
	back_off(w);
	expect_wait(w, REASON_RETRY, false);
	assert_int_equal(world_decide(w).until, w->local.now + 5);
	w->component.retry_version = "1.0.9";
	expect_target(w, CAUSE_ROLLOUT, "1.1.0");
	w->component.retry_version = "1.1.0";
	w->local.now += 5;
	expect_target(w, CAUSE_ROLLOUT, "1.1.0");
}

static void test_a_deferral_ends_a_day_before_the_deadline(void **state)
{
	struct world *w = *state;
	struct rollout *r;
	int64_t now = w->local.now;

	want_by_regular(w);
	r = world_document(&w->facts[0]);
	assert_int_equal(deferral_end(r, now + 1000), now + 1000); /* no deadline: as long as was asked */
	r->deadline = now + 10 * DEFERRAL_MARGIN_S;
	assert_int_equal(deferral_end(r, now + 1000), now + 1000);
	assert_int_equal(deferral_end(r, r->deadline), r->deadline - DEFERRAL_MARGIN_S);
	assert_int_equal(deferral_end(r, r->deadline + 1000), r->deadline - DEFERRAL_MARGIN_S);
	r->deadline = now + DEFERRAL_MARGIN_S; /* too near to be deferred at all */
	assert_true(deferral_end(r, now + 1000) <= now);
	defer(w);
	w->facts[0].deferred_until = now + 1000;
	expect_wait(w, REASON_DEFERRED, true);
	assert_int_equal(world_decide(w).until, now + 1000);
}

static void test_a_local_hold_says_when_it_ends(void **state)
{
	struct world *w = *state;

	want_by_regular(w);
	hold_here(w);
	w->local.held_until = w->local.now + 77;
	expect_wait(w, REASON_LOCAL_HOLD, false);
	assert_int_equal(world_decide(w).until, w->local.now + 77);
}

static void test_daily_limit(void **state)
{
	struct world *w = *state;

	want_by_regular(w);
	w->component.swaps_today = 5;
	expect_target(w, CAUSE_ROLLOUT, "1.1.0");
	w->component.swaps_today = 6;
	expect_wait(w, REASON_DAILY_LIMIT, true);
	assert_int_equal(world_decide(w).until % 86400, 0);
	assert_true(world_decide(w).until > w->local.now && world_decide(w).until <= w->local.now + 86400);
	w->local.max_swaps_per_day = 0;
	expect_target(w, CAUSE_ROLLOUT, "1.1.0");
}

static void test_freeze_selectors(void **state)
{
	struct world *w = *state;
	struct freeze *f = world_freeze(w);

	world_label(w, "site", "oslo");
	assert_ptr_equal(freeze_covers(&w->index, &w->local, "web"), f);
	assert_int_equal(labels_set(&f->labels, "site", "rome"), 0);
	assert_null(freeze_covers(&w->index, &w->local, "web"));
	assert_int_equal(labels_set(&f->labels, "site", "oslo"), 0);
	assert_int_equal(string_list_add(&f->components, "waf"), 0);
	assert_null(freeze_covers(&w->index, &w->local, "web"));
	assert_ptr_equal(freeze_covers(&w->index, &w->local, "waf"), f);
	assert_int_equal(string_list_add(&f->nodes, "n2"), 0);
	assert_null(freeze_covers(&w->index, &w->local, "waf"));
	assert_int_equal(string_list_add(&f->nodes, "n1"), 0);
	assert_ptr_equal(freeze_covers(&w->index, &w->local, "waf"), f);
	f->until = w->local.now;
	assert_null(freeze_covers(&w->index, &w->local, "waf"));
	assert_null(freeze_covers(NULL, &w->local, "waf"));
}

static void test_nothing_published_at_all(void **state)
{
	struct world *w = *state;
	struct decision d;

	w->component.policy = NULL;
	d = decide(&w->local, &w->component, NULL, 0, NULL, NULL);
	assert_int_equal(d.kind, DECIDE_STAY);
	assert_int_equal(d.reason, REASON_NO_ROLLOUT);
}

/* Runs last. */
static void test_every_reason_was_given_once(void **state)
{
	(void) state;
	for (int r = 0; r < REASON_COUNT; r++)
		if (!reason_seen[r])
			fail_msg("no test gave the reason %s", reason_name((enum reason) r));
}

static void test_every_reason_has_its_words(void **state)
{
	(void) state;
	for (int a = 0; a < REASON_COUNT; a++) {
		assert_true(strlen(reason_name((enum reason) a)) > 0);
		assert_true(strlen(reason_sentence((enum reason) a)) > 0);
		assert_true(strlen(reason_change((enum reason) a)) > 0);
		for (int b = 0; b < a; b++)
			assert_string_not_equal(reason_name((enum reason) a), reason_name((enum reason) b));
	}
	assert_string_equal(reason_name(REASON_COUNT), "unknown");
	assert_string_equal(reason_sentence(REASON_COUNT), "unknown");
	assert_string_equal(reason_change(REASON_COUNT), "unknown");
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_no_rollout),
		T(test_running_rollout_is_followed),
		T(test_a_component_that_is_absent_is_installed),
		T(test_done_stays_in_force_for_nodes_that_appear_later),
		T(test_up_to_date),
		T(test_highest_seq_is_followed_whatever_the_order),
		T(test_another_component_does_not_matter),
		T(test_with_brings_its_release),
		T(test_together_or_not_at_all),
		T(test_stages),
		T(test_a_closed_stage_does_not_hide_an_older_rollout),
		T(test_membership_that_was_acted_on_sticks),
		T(test_a_member_keeps_the_stage_that_selects_it),
		T(test_equal_seqs_are_told_apart_by_id),
		T(test_not_approved),
		T(test_denied_is_skipped),
		T(test_undone_is_lifted_by_a_higher_seq_only),
		T(test_forced_is_not_lifted_by_rollouts),
		T(test_lower_is_skipped_without_permission),
		T(test_downgrade_goes_to_what_was_good_or_approved),
		T(test_floor_and_revoked),
		T(test_running_patch_goes_first),
		T(test_nodes_at_the_patch_stay_while_it_runs),
		T(test_nodes_above_the_patch_follow_the_others),
		T(test_the_later_of_two_patches_goes_first),
		T(test_paused),
		T(test_halted_and_cancelled_are_ignored),
		T(test_undo_returns_what_its_stage_took),
		T(test_undo_of_another_stage_does_not_concern),
		T(test_undo_is_for_the_release_the_rollout_names),
		T(test_undo_of_a_first_install_is_absent),
		T(test_undo_leaves_what_came_later),
		T(test_undo_below_the_floor_waits_for_something_better),
		T(test_undo_never_goes_to_a_denied_version),
		T(test_support_rollback_moves_only_who_runs_from),
		T(test_a_refused_rollback_only_denies),
		T(test_orders_are_refused_for),
		T(test_support_pin),
		T(test_a_rollback_goes_before_a_pin),
		T(test_orders_for_another_component_do_not_matter),
		T(test_support_rollback_does_not_stop_an_undo),
		T(test_forced_rollback_ends_the_probation_of_its_own_component),
		T(test_what_may_stop_what),
		T(test_a_patch_passes_what_its_overrides_list),
		T(test_each_override_is_for_its_own),
		T(test_what_allows_no_staging_is_named_first),
		T(test_upwards_a_downgrade_is_bound_like_a_regular_one),
		T(test_what_is_called_a_downgrade_needs_its_approval_upwards),
		T(test_until),
		T(test_deadline_of_what_is_done_has_been_met),
		T(test_backoff_is_for_what_failed),
		T(test_a_deferral_ends_a_day_before_the_deadline),
		T(test_a_local_hold_says_when_it_ends),
		T(test_daily_limit),
		T(test_freeze_selectors),
		T(test_nothing_published_at_all),
		T(test_every_reason_has_its_words),
		T(test_every_reason_was_given_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
