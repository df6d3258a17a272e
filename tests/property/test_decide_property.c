/*
 * decide() on worlds made at random: what must hold whatever the documents say. A
 * failure names the seed of its world.
 */
#include "../story/decide_world.h"

#include "base/attr.h"
#include "base/version.h"

enum { WORLDS = 20000 };

static uint64_t random_state;

static uint64_t next_random(void)
{
	random_state += 0x9e3779b97f4a7c15u; /* splitmix64 */

	uint64_t z = random_state;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static unsigned below(unsigned n)
{
	return (unsigned) (next_random() % n);
}

static bool one_in(unsigned n)
{
	return below(n) == 0;
}

/* Few, so that documents meet. */
static const char *any_version(void)
{
	static const char *const versions[] = { "1.0.0", "1.0.1", "1.1.0", "1.2.0-rc.1", "1.2.0", "2.0.0" };

	return versions[below(ARRAY_LEN(versions))];
}

static const char *any_stage(void)
{
	static const char *const stages[] = { "canary", "half", "rest" };

	return stages[below(ARRAY_LEN(stages))];
}

static void any_stages(struct rollout_facts *f)
{
	static const char *const names[] = { "canary", "half", "rest" };
	size_t n = 1 + below(3);

	for (size_t i = 0; i < n; i++) {
		struct stage *s = world_stage(f, names[i], !one_in(4));

		f->approved[i] = !one_in(4);
		if (one_in(4)) {
			s->by_nodes = true;
			if (one_in(2))
				assert_int_equal(string_list_add(&s->nodes, "n1"), 0);
		} else {
			s->share = one_in(3) ? SHARE_ALL : below(SHARE_ALL);
		}
	}
}

static void any_rollout(struct world *w, unsigned seq)
{
	static const char *const words[] = { "window", "blackout", "spread", "notice", "deferral" };
	struct rollout_facts *f;
	char id[16];

	(void) snprintf(id, sizeof(id), "r%u", seq);
	f = world_rollout_bare(w, id, seq, any_version(), (enum rollout_kind) below(ROLLOUT_KIND_COUNT),
			       (enum rollout_state) below(ROLLOUT_STATE_COUNT));
	any_stages(f);
	f->share = below(SHARE_ALL);
	f->in_window = !one_in(5);
	f->in_blackout = one_in(8);
	f->spread_passed = !one_in(8);
	f->notice_passed = !one_in(8);
	f->deferred = one_in(8);
	f->lease_missing = one_in(8);
	while (one_in(3))
		world_undo(f, any_stage());
	while (one_in(3))
		world_override(f, words[below(ARRAY_LEN(words))]);
	if (one_in(10))
		world_document(f)->deadline = w->local.now + (one_in(2) ? 1 : -1);
}

static void any_history(struct world *w, unsigned rollouts)
{
	for (unsigned i = below(4); i > 0; i--)
		world_good(w, any_version());
	for (unsigned i = below(3); i > 0; i--)
		world_denied(w, any_version(), (enum denial_cause) below(3), below(8));
	world_installed(w, one_in(8) ? NULL : any_version());
	for (unsigned i = below(3); i > 0; i--) {
		unsigned seq = 1 + below(rollouts + 1);
		char id[16];

		(void) snprintf(id, sizeof(id), "r%u", seq);
		world_took(w, id, any_stage(), seq, any_version());
	}
	if (one_in(3))
		world_installed(w, one_in(8) ? NULL : any_version());
	w->component.swaps_today = below(8);
	if (one_in(8)) {
		w->component.retry_version = world_keep(w, any_version());
		w->component.retry_at = w->local.now + (one_in(2) ? 10 : -10);
	}
}

static void any_orders(struct world *w)
{
	if (one_in(6)) {
		const char *from = any_version(), *to = any_version();

		if (strcmp(from, to) != 0)
			world_order_rollback(w, from, to);
	}
	if (one_in(8))
		world_order_pin(w, any_version());
	if (one_in(10))
		w->orders.hold.until = w->local.now + (one_in(2) ? 10 : -10);
}

static void any_world(struct world *w, uint64_t seed)
{
	unsigned rollouts;

	random_state = seed;
	world_init(w);
	rollouts = below(6);
	for (unsigned i = 1; i <= rollouts; i++)
		any_rollout(w, i);
	any_history(w, rollouts);
	any_orders(w);
	if (one_in(5))
		world_floor(w, any_version());
	if (one_in(5))
		world_revoke(w, any_version());
	if (one_in(4))
		assert_int_equal(string_list_add(&world_approval(w, "qa")->kinds,
						 rollout_kind_name((enum rollout_kind) below(ROLLOUT_KIND_COUNT))),
				 0);
	if (one_in(10))
		world_freeze(w)->until = w->local.now + (one_in(2) ? 10 : -10);
	w->local.fresh = !one_in(8);
	w->local.stuck = one_in(10);
	w->local.held = one_in(10);
	w->local.inhibited = one_in(10);
	w->local.busy = one_in(8) ? (one_in(2) ? "web" : "waf") : NULL;
}

/* --- properties; each says what it found, or NULL --- */

static bool denies(const struct world *w, const char *version, uint64_t seq)
{
	for (size_t i = 0; i < w->component.denial_count; i++)
		if (strcmp(w->denials[i].version, version) == 0 &&
		    (w->denials[i].cause != DENIED_UNDONE || seq <= w->denials[i].seq))
			return true;
	return false;
}

static const char *never_denied(struct world *w, const struct decision *d)
{
	if (d->kind != DECIDE_TARGET || d->version[0] == '\0')
		return NULL;
	if (denies(w, d->version, d->cause == CAUSE_ROLLOUT ? d->rollout->seq : 0))
		return "a denied version is the target";
	for (size_t i = 0; i < w->orders.rollback_count; i++)
		if (strcmp(w->orders.rollbacks[i].from, d->version) == 0)
			return "what support denies is the target";
	return NULL;
}

static const char *never_below_the_floor(struct world *w, const struct decision *d)
{
	if (d->kind != DECIDE_TARGET || d->version[0] == '\0')
		return NULL;
	if (w->policy.security_floor && version_compare(d->version, w->policy.security_floor) < 0)
		return "below the floor";
	return string_list_has(&w->policy.revoked, d->version) ? "revoked" : NULL;
}

static bool goes_down(const struct world *w, const struct decision *d)
{
	return w->component.version && d->version[0] && version_compare(d->version, w->component.version) < 0;
}

static const struct rollout_facts *facts_of(const struct world *w, const struct decision *d)
{
	for (size_t i = 0; i < w->rollout_count; i++)
		if (w->facts[i].rollout == d->rollout)
			return &w->facts[i];
	return NULL;
}

static const char *never_outside_the_window(struct world *w, const struct decision *d)
{
	const struct rollout_facts *f = facts_of(w, d);
	const struct rollout *r = d->rollout;

	if (d->kind != DECIDE_TARGET || d->cause != CAUSE_ROLLOUT || goes_down(w, d))
		return NULL; /* going down is urgent and windows do not bind it */
	if (!f->in_window && !(r->kind == ROLLOUT_PATCH && string_list_has(&r->overrides, "window")))
		return "outside the window";
	if (f->in_blackout && !(r->kind == ROLLOUT_PATCH && string_list_has(&r->overrides, "blackout")))
		return "in a blackout";
	return NULL;
}

static const char *never_lower_without_permission(struct world *w, const struct decision *d)
{
	if (d->kind != DECIDE_TARGET || !goes_down(w, d) || d->cause != CAUSE_ROLLOUT)
		return NULL;
	return d->rollout->kind == ROLLOUT_DOWNGRADE ? NULL : "lower without permission";
}

static const char *only_open_and_approved_rollouts(struct world *w, const struct decision *d)
{
	const struct rollout_facts *f = facts_of(w, d);

	if (d->kind != DECIDE_TARGET || d->cause != CAUSE_ROLLOUT)
		return NULL;
	if (!d->stage->open)
		return "by a closed stage";
	if (!f->approved[d->stage - d->rollout->stages])
		return "without approval";
	return d->rollout->state == ROLLOUT_RUNNING || d->rollout->state == ROLLOUT_DONE
		       ? NULL
		       : "by what is not in force";
}

static const char *undo_only_what_was_taken(struct world *w, const struct decision *d)
{
	(void) w;
	if (d->cause != CAUSE_UNDO)
		return NULL;
	if (d->rollout->state != ROLLOUT_HALTED && d->rollout->state != ROLLOUT_CANCELLED)
		return "undo of what is in force";
	for (size_t i = 0; i < w->component.taken_count; i++)
		if (strcmp(w->taken[i].rollout, d->rollout->id) == 0 &&
		    string_list_has(&d->rollout->undo, w->taken[i].stage) &&
		    strcmp(w->taken[i].previous, d->version) == 0)
			return NULL;
	return "undo to what it never had";
}

static const char *stale_and_stuck_nodes_take_nothing(struct world *w, const struct decision *d)
{
	if (d->kind == DECIDE_TARGET && (d->cause == CAUSE_ROLLOUT || d->cause == CAUSE_UNDO) &&
	    (!w->local.fresh || w->local.stuck))
		return "stale or stuck, and yet";
	return NULL;
}

static const char *a_target_differs_from_what_is_installed(struct world *w, const struct decision *d)
{
	if (d->kind == DECIDE_STAY)
		return d->reason == REASON_NONE ? "stays without a reason" : NULL;
	if (!d->version)
		return "a move to nowhere";
	if (d->kind == DECIDE_WAIT && d->reason == REASON_NONE)
		return "waits without a reason";
	return w->component.version && strcmp(d->version, w->component.version) == 0 ? "moves to where it is"
										     : NULL;
}

static const char *an_order_that_stands_goes_first(struct world *w, const struct decision *d)
{
	for (size_t i = 0; i < w->orders.rollback_count; i++)
		if (!d->order_refused && d->cause != CAUSE_ORDER_ROLLBACK && d->cause != CAUSE_UNDO)
			return "a support rollback that stands is not obeyed";
	if (w->orders.pin_count > 0 && w->orders.rollback_count == 0 && !d->order_refused &&
	    d->cause != CAUSE_ORDER_PIN)
		return "a pin that stands is not obeyed";
	if (w->orders.rollback_count > 0 && !d->deny_from)
		return "a listed rollback does not deny";
	return NULL;
}

static bool same(const struct decision *a, const struct decision *b)
{
	return a->kind == b->kind && a->cause == b->cause && a->reason == b->reason &&
	       a->may_stage == b->may_stage && a->until == b->until && a->deny_from == b->deny_from &&
	       a->order_refused == b->order_refused && a->rollout == b->rollout && a->stage == b->stage &&
	       str_eq(a->version, b->version);
}

static const char *the_order_of_the_list_decides_nothing(struct world *w, const struct decision *d)
{
	struct decision again = world_decide(w);

	if (!same(d, &again))
		return "asked twice, two answers";
	for (size_t i = w->rollout_count; i > 1; i--) {
		size_t k = below((unsigned) i);
		struct rollout_facts swap = w->facts[i - 1];

		w->facts[i - 1] = w->facts[k];
		w->facts[k] = swap;
	}
	again = world_decide(w);
	return same(d, &again) ? NULL : "another order, another answer";
}

static const char *a_running_patch_goes_before_rollouts(struct world *w, const struct decision *d)
{
	if (d->cause != CAUSE_ROLLOUT || (d->kind != DECIDE_TARGET) ||
	    (d->rollout->kind == ROLLOUT_PATCH && d->rollout->state == ROLLOUT_RUNNING))
		return NULL;
	for (size_t i = 0; i < w->rollout_count; i++) {
		const struct rollout *r = w->facts[i].rollout;
		const char *v = r->release.version;
		bool selected = false;

		if (r->kind != ROLLOUT_PATCH || r->state != ROLLOUT_RUNNING || denies(w, v, r->seq) ||
		    !policy_permits(&w->policy, v) ||
		    (w->component.version && version_compare(v, w->component.version) < 0))
			continue;
		for (size_t k = 0; k < w->orders.rollback_count; k++)
			if (strcmp(w->orders.rollbacks[k].from, v) == 0)
				v = NULL;
		for (size_t k = 0; v && k < r->stage_count; k++)
			if (r->stages[k].open && w->facts[i].approved[k] &&
			    stage_selects(&r->stages[k], "n1", &w->labels, w->facts[i].share))
				selected = true;
		if (selected)
			return "a running patch was passed over";
	}
	return NULL;
}

/*
 * One more approval may open a way, or keep a node where the approved rollout wants it; it
 * never sends a node down unless a downgrade was what it approved.
 */
static const char *approvals_send_nobody_down(struct world *w, const struct decision *d)
{
	for (size_t i = 0; i < w->rollout_count; i++)
		for (size_t k = 0; k < w->rollouts[i].stage_count; k++) {
			struct decision more;

			if (w->facts[i].approved[k])
				continue;
			w->facts[i].approved[k] = true;
			more = world_decide(w);
			w->facts[i].approved[k] = false;
			if (more.kind == DECIDE_TARGET && goes_down(w, &more) && !same(d, &more) &&
			    w->facts[i].rollout->kind != ROLLOUT_DOWNGRADE)
				return "an approval sends it down";
		}
	return NULL;
}

typedef const char *property(struct world *w, const struct decision *d);

static void check(property *holds)
{
	unsigned targets = 0;

	for (uint64_t seed = 1; seed <= WORLDS; seed++) {
		struct world w;
		struct decision d;
		const char *found;

		any_world(&w, seed);
		d = world_decide(&w);
		targets += d.kind == DECIDE_TARGET;
		found = holds(&w, &d);
		if (found)
			fail_msg("world %llu: %s (target %s)", (unsigned long long) seed, found,
				 d.version ? d.version : "none");
		world_done(&w);
	}
	assert_true(targets > WORLDS / 20); /* worlds in which nothing moves would prove nothing */
}

#define PROPERTY(name)                                                                                            \
	static void test_##name(void **state)                                                                     \
	{                                                                                                         \
		(void) state;                                                                                     \
		check(name);                                                                                      \
	}

PROPERTY(never_denied)
PROPERTY(never_below_the_floor)
PROPERTY(never_outside_the_window)
PROPERTY(never_lower_without_permission)
PROPERTY(only_open_and_approved_rollouts)
PROPERTY(undo_only_what_was_taken)
PROPERTY(stale_and_stuck_nodes_take_nothing)
PROPERTY(a_target_differs_from_what_is_installed)
PROPERTY(an_order_that_stands_goes_first)
PROPERTY(the_order_of_the_list_decides_nothing)
PROPERTY(a_running_patch_goes_before_rollouts)
PROPERTY(approvals_send_nobody_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_never_denied),
		cmocka_unit_test(test_never_below_the_floor),
		cmocka_unit_test(test_never_outside_the_window),
		cmocka_unit_test(test_never_lower_without_permission),
		cmocka_unit_test(test_only_open_and_approved_rollouts),
		cmocka_unit_test(test_undo_only_what_was_taken),
		cmocka_unit_test(test_stale_and_stuck_nodes_take_nothing),
		cmocka_unit_test(test_a_target_differs_from_what_is_installed),
		cmocka_unit_test(test_an_order_that_stands_goes_first),
		cmocka_unit_test(test_the_order_of_the_list_decides_nothing),
		cmocka_unit_test(test_a_running_patch_goes_before_rollouts),
		cmocka_unit_test(test_approvals_send_nobody_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
