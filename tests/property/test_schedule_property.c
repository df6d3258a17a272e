/*
 * schedule() on rollouts made at random, and what must hold whatever nodes did: stages in order, nothing opens
 * unproved, failures stop it, bad news never speeds it up, the order of the list decides nothing, and time alone
 * changes the answer only when it said so. A failure names its seed.
 */
#include "base/attr.h"
#include "server-stub/rollout/schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SEEDS = 20000, STAGES = 4, MEMBERS = 10, NOW = 1800000000, DAY = 86400 };

static uint64_t random_state;

static unsigned below(unsigned n)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15u; /* splitmix64 */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (unsigned) ((z ^ z >> 31) % n);
}

struct scene {
	struct plan plan;
	struct plan_stage plan_stages[STAGES];
	char plan_names[STAGES][24];
	struct schedule_stage stages[STAGES];
	struct schedule_member members[MEMBERS];
	char names[MEMBERS][8];
	struct schedule_input in;
};

static void any_member(struct scene *s, size_t i)
{
	struct schedule_member *m = &s->members[i];

	snprintf(s->names[i], sizeof(s->names[i]), "n%zu", i);
	*m = (struct schedule_member){ .node = s->names[i], .stage = below((unsigned) s->plan.stage_count) };
	/* Mostly good, or nothing would ever open. */
	m->state = below(10) < 7 ? MEMBER_GOOD : (enum member_state) below(MEMBER_STATE_COUNT);
	m->silent = below(8) == 0;
	m->since = m->state == MEMBER_GOOD ? NOW - below(2 * DAY) : 0;
	m->added_at = NOW - (below(6) == 0 ? below(2 * DAY) : 30 * DAY);
}

static void any_scene(struct scene *s, uint64_t seed)
{
	size_t open;

	random_state = seed;
	*s = (struct scene){ 0 };
	s->plan.stage_count = 1 + below(STAGES);
	s->plan.stages = s->plan_stages;
	s->plan.component = s->plan.version = s->plan_names[0];
	s->plan.max_failures = below(3);
	s->plan.max_node_failures = below(3);
	s->plan.silent_after_s = 3600;
	s->plan.min_age_s = below(2) ? 0 : DAY;
	s->plan.on_failure = below(2) ? PLAN_HALT : PLAN_PAUSE;
	s->plan.on_node_failure = below(4) ? PLAN_PAUSE : PLAN_HALT;
	open = below((unsigned) s->plan.stage_count + 1);
	for (size_t k = 0; k < s->plan.stage_count; k++) {
		snprintf(s->plan_names[k], sizeof(s->plan_names[k]), "s%zu", k);
		s->plan_stages[k] = (struct plan_stage){ .name = s->plan_names[k],
							 .share = SHARE_ALL,
							 .soak_s = below(3) * 6 * 3600 };
		s->stages[k].open = k < open;
		s->stages[k].opened_at = k < open ? NOW - 3 * DAY + (int64_t) k * 3600 : 0;
	}
	s->in = (struct schedule_input){ .plan = &s->plan,
					 .state = below(8) ? ROLLOUT_RUNNING
							   : (enum rollout_state) below(ROLLOUT_STATE_COUNT),
					 .stages = s->stages,
					 .members = s->members,
					 .member_count = below(MEMBERS + 1),
					 .now = NOW };
	for (size_t i = 0; i < s->in.member_count; i++) {
		any_member(s, i);
		s->stages[s->members[i].stage].selected++;
	}
	/* Labels overlap: a stage may select those of earlier ones alone. */
	for (size_t k = 1; k < s->plan.stage_count; k++)
		if (s->stages[k].selected == 0 && below(2))
			s->stages[k].selected = s->stages[k - 1].selected;
}

static struct schedule_decision ask(const struct scene *s)
{
	struct schedule_decision d;

	schedule(&s->in, &d);
	return d;
}

static size_t count_of(const struct scene *s, enum member_state a, enum member_state b)
{
	size_t n = 0;

	for (size_t i = 0; i < s->in.member_count; i++)
		n += s->members[i].state == a || s->members[i].state == b;
	return n;
}

static bool too_many_failures(const struct scene *s)
{
	return count_of(s, MEMBER_FAILED, MEMBER_LOST) > s->plan.max_failures ||
	       count_of(s, MEMBER_FAILED_NODE, MEMBER_FAILED_NODE) > s->plan.max_node_failures;
}

/* Written from DESIGN.md section 10, not from schedule.c: is there proof for every node of the stage? */
static const char *missing_proof(const struct scene *s, size_t stage)
{
	size_t good = 0, own = 0;

	if (s->stages[stage].selected == 0)
		return "a stage that selects nobody was passed";
	for (size_t i = 0; i < s->in.member_count; i++) {
		const struct schedule_member *m = &s->members[i];

		if (m->stage != stage)
			continue;
		own++;
		switch (m->state) {
		case MEMBER_GOOD:
			if (NOW - m->added_at < (int64_t) s->plan.min_age_s)
				return "a node that is too new counted";
			if (NOW - m->since < (int64_t) s->plan.stages[stage].soak_s)
				return "the soak was cut short";
			good++;
			break;
		case MEMBER_EXCUSED:
		case MEMBER_SKIPPED:
		case MEMBER_FAILED:
		case MEMBER_FAILED_NODE:
		case MEMBER_LOST:
			break; /* within what is borne */
		default:
			return "a node without a verdict was passed";
		}
	}
	return own > 0 && good == 0 ? "no data was taken for success" : NULL;
}

static const char *stages_open_in_order_and_proved(struct scene *s, const struct schedule_decision *d)
{
	const char *found;

	if (d->action != SCHEDULE_OPEN && d->action != SCHEDULE_DONE)
		return NULL;
	for (size_t k = 0; k < s->plan.stage_count; k++) {
		bool before = d->action == SCHEDULE_DONE || k < d->stage;

		if (before && !s->stages[k].open)
			return "a stage was passed over";
		if (!before && s->stages[k].open)
			return "an open stage is opened again";
		found = before ? missing_proof(s, k) : NULL;
		if (found)
			return found;
	}
	return NULL;
}

static const char *failures_stop_it_whatever_else_holds(struct scene *s, const struct schedule_decision *d)
{
	bool stopped = d->action == SCHEDULE_HALT || d->action == SCHEDULE_PAUSE;

	if (s->in.state != ROLLOUT_RUNNING)
		return d->action == SCHEDULE_NOTHING ? NULL : "what does not run was moved";
	if (stopped != too_many_failures(s))
		return stopped ? "stopped for nothing" : "went on over failures";
	if (stopped &&
	    (d->action == SCHEDULE_PAUSE) != ((count_of(s, MEMBER_FAILED, MEMBER_LOST) > s->plan.max_failures
						       ? s->plan.on_failure
						       : s->plan.on_node_failure) == PLAN_PAUSE))
		return "not as the plan says";
	return stopped && !d->why[0] ? "stopped without a word" : NULL;
}

static const char *it_always_says_why(struct scene *s, const struct schedule_decision *d)
{
	(void) s;
	return d->why[0] ? NULL : "no reason";
}

/* Worse news of one node, and it does not go further than before. */
static const char *bad_news_never_opens(struct scene *s, const struct schedule_decision *d)
{
	static const enum member_state worse[] = { MEMBER_WAITING,     MEMBER_UNDER_WAY,  MEMBER_UNPROVEN,
						   MEMBER_FAILED,      MEMBER_LOST,	  MEMBER_BLOCKED,
						   MEMBER_FAILED_NODE, MEMBER_QUARANTINED };

	if (d->action == SCHEDULE_OPEN || d->action == SCHEDULE_DONE)
		return NULL;
	for (size_t i = 0; i < s->in.member_count; i++) {
		struct schedule_member was = s->members[i];
		struct schedule_decision again;

		if (was.state != MEMBER_GOOD)
			continue;
		for (size_t k = 0; k < ARRAY_LEN(worse); k++) {
			s->members[i].state = worse[k];
			s->members[i].since = 0;
			again = ask(s);
			s->members[i] = was;
			if (again.action != SCHEDULE_OPEN && again.action != SCHEDULE_DONE)
				continue;
			/* A failure that is borne is a verdict: nobody waits for that node's soak or age any more. */
			if (worse[k] == MEMBER_FAILED || worse[k] == MEMBER_LOST || worse[k] == MEMBER_FAILED_NODE)
				continue;
			return "worse news opened a stage";
		}
	}
	return NULL;
}

static const char *the_order_of_nodes_decides_nothing(struct scene *s, const struct schedule_decision *d)
{
	struct schedule_decision again;

	for (size_t i = s->in.member_count; i > 1; i--) {
		size_t k = below((unsigned) i);
		struct schedule_member swap = s->members[i - 1];

		s->members[i - 1] = s->members[k];
		s->members[k] = swap;
	}
	again = ask(s);
	return again.action == d->action && again.wake_at == d->wake_at &&
			       (again.stage == d->stage || d->action == SCHEDULE_HALT ||
				d->action == SCHEDULE_PAUSE)
		       ? NULL
		       : "another order, another answer";
}

/* Before wake_at nothing happens by time alone; without one, never. */
static const char *time_acts_when_it_said_so(struct scene *s, const struct schedule_decision *d)
{
	static const int64_t later[] = { 60, 3600, 7 * 3600, DAY, 3 * DAY, 40 * DAY };

	if (d->action != SCHEDULE_NOTHING)
		return NULL;
	if (d->wake_at && d->wake_at <= NOW)
		return "it would wake in the past";
	for (size_t i = 0; i < ARRAY_LEN(later); i++) {
		struct schedule_decision again;

		s->in.now = NOW + later[i];
		again = ask(s);
		s->in.now = NOW;
		if (again.action != SCHEDULE_NOTHING && (d->wake_at == 0 || NOW + later[i] < d->wake_at))
			return "it acted before the time it named";
	}
	return NULL;
}

static const char *asked_twice_it_says_the_same(struct scene *s, const struct schedule_decision *d)
{
	struct schedule_decision again = ask(s);

	return again.action == d->action && again.stage == d->stage && again.wake_at == d->wake_at &&
			       strcmp(again.why, d->why) == 0
		       ? NULL
		       : "two answers";
}

typedef const char *property(struct scene *s, const struct schedule_decision *d);

static void check(property *holds)
{
	unsigned opened = 0, stopped = 0, waited = 0, done = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct scene s;
		struct schedule_decision d;
		const char *found;

		any_scene(&s, seed);
		d = ask(&s);
		opened += d.action == SCHEDULE_OPEN;
		stopped += d.action == SCHEDULE_HALT || d.action == SCHEDULE_PAUSE;
		waited += d.action == SCHEDULE_NOTHING;
		done += d.action == SCHEDULE_DONE;
		found = holds(&s, &d);
		if (found)
			fail_msg("seed %llu: %s (action %d, stage %zu: %s)", (unsigned long long) seed, found,
				 (int) d.action, d.stage, d.why);
	}
	/* Scenes in which one of these hardly happens would prove little. */
	assert_true(opened > SEEDS / 50);
	assert_true(stopped > SEEDS / 50);
	assert_true(waited > SEEDS / 50);
	assert_true(done > SEEDS / 500);
}

#define PROPERTY(name)                                                                                            \
	static void test_##name(void **state)                                                                     \
	{                                                                                                         \
		(void) state;                                                                                     \
		check(name);                                                                                      \
	}

PROPERTY(stages_open_in_order_and_proved)
PROPERTY(failures_stop_it_whatever_else_holds)
PROPERTY(it_always_says_why)
PROPERTY(bad_news_never_opens)
PROPERTY(the_order_of_nodes_decides_nothing)
PROPERTY(time_acts_when_it_said_so)
PROPERTY(asked_twice_it_says_the_same)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stages_open_in_order_and_proved),
		cmocka_unit_test(test_failures_stop_it_whatever_else_holds),
		cmocka_unit_test(test_it_always_says_why),
		cmocka_unit_test(test_bad_news_never_opens),
		cmocka_unit_test(test_the_order_of_nodes_decides_nothing),
		cmocka_unit_test(test_time_acts_when_it_said_so),
		cmocka_unit_test(test_asked_twice_it_says_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
