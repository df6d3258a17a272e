/*
 * Whole fleets in memory: the real decide(), the real scheduler and documents, and everything that happens to
 * them at once: bad releases, links that fail, a controller that is away, people who pause, cancel and undo, labels
 * that change, nodes that come late, floors that rise. What must hold is asked at each swap and each step.
 */
#include "base/version.h"
#include "tests/fleet-sim/sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { HOUR = 3600, DAY = 24 * HOUR, START = 1835740800 /* a Saturday in March: clocks change */ };
enum { WORLDS = 16, NODES = 36, DAYS = 35 };

static uint64_t random_state;

static unsigned below(unsigned n)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15u; /* splitmix64 */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (unsigned) ((z ^ z >> 31) % n);
}

static bool one_in(unsigned n)
{
	return below(n) == 0;
}

/* --- what must hold --- */

struct witness {
	unsigned long long world;
	unsigned swaps, undos, steps, in_windows;
};

static void swap_is_permitted(const struct witness *w, const struct sim_swap *s)
{
	const struct sim_node *n = s->node;
	const char *version = s->release->version;

	if (!s->stage->open)
		fail_msg("world %llu: %s swaps by a closed stage", w->world, n->id);
	if (s->document->state != ROLLOUT_RUNNING && s->document->state != ROLLOUT_DONE)
		fail_msg("world %llu: %s swaps by a rollout that is not in force", w->world, n->id);
	if (s->document->kind != ROLLOUT_PATCH || !string_list_has(&s->document->overrides, "window"))
		if (!s->opening.in_window)
			fail_msg("world %llu: %s swaps outside its window", w->world, n->id);
	if (s->document->kind != ROLLOUT_PATCH || !string_list_has(&s->document->overrides, "blackout"))
		if (s->opening.in_blackout)
			fail_msg("world %llu: %s swaps in a blackout", w->world, n->id);
	for (size_t i = 0; i < n->denial_count; i++)
		if (strcmp(n->denials[i].version, version) == 0 &&
		    (n->denials[i].cause != DENIED_UNDONE || s->document->seq <= n->denials[i].seq))
			fail_msg("world %llu: %s takes %s, which it denied", w->world, n->id, version);
	if (!policy_permits(s->policy, version))
		fail_msg("world %llu: %s takes what its policy forbids", w->world, n->id);
	if (n->runs && version_compare(version, n->runs->version) < 0 && s->document->kind != ROLLOUT_DOWNGRADE)
		fail_msg("world %llu: %s goes down without permission", w->world, n->id);
}

static void undo_is_permitted(const struct witness *w, const struct sim_swap *s)
{
	if (s->document->state != ROLLOUT_HALTED && s->document->state != ROLLOUT_CANCELLED)
		fail_msg("world %llu: %s returns from what is in force", w->world, s->node->id);
	for (size_t i = 0; i < s->node->taken_count; i++)
		if (strcmp(s->node->taken[i].rollout, s->document->id) == 0 &&
		    string_list_has(&s->document->undo, s->node->taken[i].stage))
			return;
	fail_msg("world %llu: %s returns from a stage that nobody undid", w->world, s->node->id);
}

static void on_swap(void *user, const struct sim *s, const struct sim_swap *swap)
{
	struct witness *w = user;

	(void) s;
	if (swap->undo) {
		w->undos++;
		undo_is_permitted(w, swap);
		return;
	}
	w->swaps++;
	w->in_windows += swap->document->window != NULL;
	swap_is_permitted(w, swap);
}

static void on_step(void *user, const struct sim *s, const struct sim_rollout *r, enum schedule_action action,
		    size_t stage)
{
	struct witness *w = user;

	w->steps++;
	if (action != SCHEDULE_OPEN)
		return;
	for (size_t k = 0; k < r->plan.stage_count; k++)
		if (r->stages[k].open != (k < stage))
			fail_msg("world %llu: %s opens stage %zu out of its turn", w->world, r->id, stage);
	if (stage > 0 && sim_now(s) - r->stages[stage - 1].opened_at < (int64_t) r->plan.stages[stage - 1].soak_s)
		fail_msg("world %llu: %s cuts a soak short", w->world, r->id);
}

/* --- worlds --- */

static void any_plan(char *out, size_t size)
{
	static const char *const first[] = { "nodes: [n00001]", "nodes: [n00002, n00014]", "labels: {ring: early}",
					     "labels: {traffic: low}, share: 50%" };
	static const char *const second[] = { "share: 30%", "labels: {site: s03}", "nodes: [n00007, n00008]" };
	static const char *const rules[] = { "",
					     "window: Mon-Fri 22:00-04:00\n",
					     "window: Sat,Sun 00:00-24:00; 01:30-03:30\n",
					     "blackout: [\"Fri 12:00-24:00\", \"Mon 00:00-09:00\"]\n",
					     "kind: patch\nwindow: 02:00-04:00\noverrides: [window]\n",
					     "kind: patch\nblackout: [\"08:00-20:00\"]\n" };

	snprintf(
		out, size,
		"stages:\n- {name: one, %s, soak: %uh}\n- {name: two, %s, soak: %uh}\n- {name: three, all: true}\n"
		"gates: {max_failures: %u, max_node_failures: %u, silent_after: 12h, on_failure: %s}\n%s",
		first[below(ARRAY_LEN(first))], below(12), second[below(ARRAY_LEN(second))], below(6), below(3),
		below(5), one_in(3) ? "pause" : "halt", rules[below(ARRAY_LEN(rules))]);
}

static void a_person_does_something(struct sim *s)
{
	struct sim_rollout *r = sim_rollout(s, below((unsigned) sim_rollout_count(s)));

	switch (below(8)) {
	case 0:
		if (r->state == ROLLOUT_RUNNING)
			assert_int_equal(sim_set_state(s, r, ROLLOUT_PAUSED), 0);
		break;
	case 1:
	case 2:
		if (r->state == ROLLOUT_PAUSED)
			assert_int_equal(sim_set_state(s, r, ROLLOUT_RUNNING), 0);
		break;
	case 3:
		if (r->state == ROLLOUT_RUNNING && one_in(3))
			assert_int_equal(sim_set_state(s, r, ROLLOUT_CANCELLED), 0);
		break;
	case 4:
		if (r->state == ROLLOUT_HALTED || r->state == ROLLOUT_CANCELLED)
			assert_int_equal(sim_undo(s, r), 0);
		break;
	default:
		sim_skip(s, sim_node(s, below((unsigned) sim_node_count(s))), one_in(2));
		break;
	}
}

static void something_happens(struct sim *s, struct sim_release *late)
{
	char label[8];

	switch (below(7)) {
	case 6:
		/* More often a backup than a disaster. */
		assert_int_equal(one_in(4) ? sim_restore(s) : sim_backup(s), 0);
		break;
	case 0:
		sim_controller(s, false);
		break;
	case 1:
	case 2:
		sim_controller(s, true);
		break;
	case 3:
		snprintf(label, sizeof(label), "s%02u", below(SIM_SITES));
		assert_int_equal(sim_label(s, sim_node(s, below((unsigned) sim_node_count(s))),
					   one_in(2) ? "site" : "ring", one_in(2) ? label : "early"),
				 0);
		break;
	case 4:
		assert_int_equal(sim_add_node(s, one_in(2) ? late : NULL, NULL), 0);
		break;
	default:
		a_person_does_something(s);
		break;
	}
}

static void live(struct sim *s)
{
	struct sim_release *release = NULL;
	char plan[1024];

	for (unsigned day = 0; day < DAYS; day++) {
		if (day % 6 == 0) {
			any_plan(plan, sizeof(plan));
			assert_int_equal(sim_release(s,
						     one_in(2) ? SIM_FINE
							       : (enum sim_fault) below(SIM_FAULT_COUNT),
						     below(SIM_SITES), &release),
					 0);
			assert_int_equal(sim_start(s, release, plan, NULL), 0);
		}
		if (day == 13)
			assert_int_equal(sim_policy(s, one_in(2) ? "1.1.0" : NULL, one_in(2) ? "1.2.0" : NULL), 0);
		for (unsigned i = 0; i < 4; i++) {
			something_happens(s, release);
			assert_int_equal(sim_run(s, START + (int64_t) day * DAY + (int64_t) i * 6 * HOUR +
							    below(6 * HOUR)),
					 0);
		}
	}
}

static void run_worlds(bool steady)
{
	struct witness total = { 0 };

	for (unsigned long long seed = 1; seed <= WORLDS; seed++) {
		struct witness w = { .world = seed };
		const struct sim_options o = { .seed = seed,
					       .nodes = NODES,
					       .start = START,
					       .release_noise = 0.02,
					       .node_noise = 0.02,
					       .network_noise = 0.05,
					       .dead = 0.05,
					       .steady = steady,
					       .on_swap = on_swap,
					       .on_step = on_step,
					       .user = &w };
		struct sim *s;

		random_state = seed;
		assert_int_equal(sim_open(&o, &s), 0);
		live(s);
		sim_close(s);
		total.swaps += w.swaps;
		total.undos += w.undos;
		total.steps += w.steps;
		total.in_windows += w.in_windows;
	}
	/* Worlds in which little moves would prove little. */
	assert_true(total.swaps > 10 * WORLDS);
	assert_true(total.in_windows > WORLDS);
	assert_true(total.undos > WORLDS / 10);
	assert_true(total.steps > 5 * WORLDS);
}

static void test_nothing_forbidden_happens_in_any_world(void **state)
{
	(void) state;
	run_worlds(true);
}

static void test_nor_where_links_fail(void **state)
{
	(void) state;
	run_worlds(false);
}

/* Whatever was being decided, told or published when it went away for two hours: it ends as if it had been there. */
static void test_the_controller_may_be_away_at_any_moment(void **state)
{
	static const char plan[] =
		"stages:\n- {name: one, nodes: [n00001], soak: 1h}\n- {name: two, share: 40%, soak: 1h}\n"
		"- {name: three, all: true, soak: 1h}\n";

	(void) state;
	for (unsigned minute = 0; minute < 5 * 60; minute += 3) {
		struct witness w = { .world = minute };
		const struct sim_options o = { .seed = 1,
					       .nodes = 24,
					       .start = START,
					       .steady = true,
					       .on_swap = on_swap,
					       .on_step = on_step,
					       .user = &w };
		struct sim_release *release;
		struct sim_rollout *r;
		struct sim *s;

		assert_int_equal(sim_open(&o, &s), 0);
		assert_int_equal(sim_release(s, SIM_FINE, 0, &release), 0);
		assert_int_equal(sim_start(s, release, plan, &r), 0);
		assert_int_equal(sim_run(s, START + (int64_t) minute * 60), 0);
		sim_controller(s, false);
		assert_int_equal(sim_run(s, sim_now(s) + 2 * HOUR), 0);
		sim_controller(s, true);
		assert_int_equal(sim_run(s, START + 2 * DAY), 0);
		assert_int_equal(r->state, ROLLOUT_DONE);
		assert_int_equal(w.swaps, 24); /* each once */
		assert_int_equal(release->reached, 24);
		sim_close(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_forbidden_happens_in_any_world),
		cmocka_unit_test(test_nor_where_links_fail),
		cmocka_unit_test(test_the_controller_may_be_away_at_any_moment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
