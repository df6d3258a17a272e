/*
 * schedule() with gates at random: nothing opens past a gate that fails or that waits, more approvals never close what
 * was open, a failure stops whatever else holds, time acts when it said so, and every decision is made again from what
 * is kept of it. A failure names its seed.
 */
#include "base/attr.h"
#include "conf/conf.h"
#include "server-stub/rollout/replay.h"
#include "server-stub/rollout/schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SEEDS = 6000, GATES = 4, LOOKS = 6, MEMBERS = 4, NOW = 1800000000, HOUR = 3600, DAY = 86400 };

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
	struct schedule_stage stages[2];
	struct schedule_member members[MEMBERS];
	struct gate_facts facts[GATES];
	struct gate_look looks[GATES][LOOKS];
	struct schedule_input in;
};

static const char *const policies[] = { "",
					", on_inconclusive: wait",
					", on_inconclusive: wait, deadline: 2h",
					", on_inconclusive: ask",
					", on_inconclusive: ask, deadline: 2h",
					", on_inconclusive: pass, deadline: 2h",
					", on_inconclusive: pass, deadline: 0" };

static void add_gate(char *text, size_t size, unsigned i)
{
	static const char *const kinds[] = {
		"prometheus: {server: main, query: q, max: 0.5, samples: 2}",
		"http: {url: 'https://example.org/', successes: 2, failures: 2}",
		"http: {url: 'https://example.org/', successes: 2, of: 4}",
		"command: {argv: [/bin/true]}",
		"alerts: {server: main, for: 1h}",
		"health: {max_degraded: 0, max_restarting: 0}",
		"staffed: true",
		"approvals: true",
		"ask: well?",
	};
	unsigned kind = below(ARRAY_LEN(kinds));
	const char *policy = policies[below(ARRAY_LEN(policies))];

	snprintf(text + strlen(text), size - strlen(text), "%s{name: g%u, %s%s}", i ? ", " : "", i, kinds[kind],
		 strstr(kinds[kind], "ask:") ? (below(2) ? ", deadline: 2h" : "") : policy);
}

static void any_facts(struct scene *s, size_t i)
{
	struct gate_facts *f = &s->facts[i];
	int64_t at = NOW - 30;

	*f = (struct gate_facts){ .gate = i, .looks = s->looks[i], .look_count = below(LOOKS + 1) };
	f->due_at = below(3) ? NOW - (int64_t) below(4 * HOUR) : 0;
	f->asked_at = below(3) ? 0 : NOW - (int64_t) below(4 * HOUR);
	for (size_t k = f->look_count; k > 0; k--, at -= 60)
		s->looks[i][k - 1] =
			(struct gate_look){ .at = below(9) ? at : NOW - DAY,
					    .said = below(3) ? GATE_PASS : (enum gate_verdict) below(3),
					    .low = below(5) ? 0 : 1,
					    .high = below(5) ? 0 : 1,
					    .samples = below(9) ? 5 : 0,
					    .since = NOW - (int64_t) below(3 * HOUR),
					    .text = "as it was" };
	if (below(4) == 0) {
		f->word = (enum gate_word) below(4);
		f->word_at = NOW - 5;
		f->word_by = "kim";
		f->word_reason = "looked at it";
	}
}

static void any_scene(struct scene *s, uint64_t seed)
{
	char text[4096] =
		"component: web\nversion: 1.1.0\nmin_age: 0s\nstages: [{name: one, nodes: [a]}, {name: all, all: "
		"true}]\n";
	struct conf_error e = { "" };
	unsigned gates;

	random_state = seed;
	*s = (struct scene){ .stages = { { .open = true, .opened_at = NOW - DAY, .selected = MEMBERS },
					 { .selected = MEMBERS } } };
	gates = 1 + below(GATES);
	snprintf(text + strlen(text), sizeof(text) - strlen(text),
		 "kind: %s\ngates:\n  on_failure: %s\n  require: [", below(5) ? "regular" : "patch",
		 below(2) ? "halt" : "pause");
	for (unsigned i = 0; i < gates; i++)
		add_gate(text, sizeof(text), i);
	strcat(text, "]\n");
	if (plan_parse(text, strlen(text), "p", &s->plan, &e) < 0)
		fail_msg("%s: %s", text, e.text);
	for (size_t i = 0; i < MEMBERS; i++) {
		struct schedule_member *m = &s->members[i];

		*m = (struct schedule_member){ .node = i == 0	? "a"
						       : i == 1 ? "b"
						       : i == 2 ? "c"
								: "d",
					       .state = below(12) ? MEMBER_GOOD : MEMBER_UNDER_WAY,
					       .since = NOW - 2 * HOUR,
					       .heard_at = NOW - 60,
					       .restarts = below(20) ? 0 : 5 };
		if (below(15) == 0) {
			m->failing = "disk";
			m->failing_at = NOW - (int64_t) below(600);
		}
		if (below(20) == 0)
			m->degraded = "net";
		m->silent = below(20) == 0;
	}
	for (size_t i = 0; i < s->plan.gate_count; i++)
		any_facts(s, i);
	s->in = (struct schedule_input){ .plan = &s->plan,
					 .state = ROLLOUT_RUNNING,
					 .stages = s->stages,
					 .members = s->members,
					 .member_count = MEMBERS,
					 .now = NOW,
					 .gates = s->facts,
					 .gate_count = s->plan.gate_count };
	if (below(3) == 0) {
		s->in.duty.known = true;
		s->in.duty.from = below(2) ? NOW - HOUR : NOW + HOUR;
		s->in.duty.until = s->in.duty.from + 2 * HOUR;
	}
}

static struct schedule_decision ask(const struct scene *s)
{
	struct schedule_decision d;

	schedule(&s->in, &d);
	return d;
}

static bool went_on(const struct schedule_decision *d)
{
	return d->action == SCHEDULE_OPEN || d->action == SCHEDULE_DONE;
}

/* From the text of gate.h, not from the code: may the rollout go past this gate? */
static bool may_pass(const struct scene *s, size_t i, const struct schedule_decision *d)
{
	const struct gate_facts *f = &s->facts[i];
	const struct gate *g = &s->plan.gates[i];
	enum gate_verdict v = d->gates[i].answer.verdict;

	if (f->word == GATE_SAYS_WAIVE)
		return true;
	if (f->word == GATE_SAYS_FAIL || v == GATE_FAIL)
		return false;
	if (v == GATE_PASS || f->word == GATE_SAYS_PASS)
		return true;
	return g->on_inconclusive == GATE_TAKE && NOW - (f->due_at ? f->due_at : NOW) >= (int64_t) g->deadline_s;
}

static const char *no_stage_opens_past_a_gate(struct scene *s, const struct schedule_decision *d)
{
	for (size_t i = 0; went_on(d) && i < s->plan.gate_count; i++) {
		if (!d->gates[i].asked || !d->gates[i].due)
			return "a gate was not asked";
		if (!may_pass(s, i, d))
			return "it went past a gate that does not hold";
	}
	return NULL;
}

static const char *a_failing_gate_stops_it(struct scene *s, const struct schedule_decision *d)
{
	bool fails = false;

	for (size_t i = 0; i < s->plan.gate_count; i++)
		fails = fails || (d->gates[i].asked && d->gates[i].answer.verdict == GATE_FAIL &&
				  s->facts[i].word != GATE_SAYS_WAIVE);
	if (fails && d->action != (s->plan.on_failure == PLAN_PAUSE ? SCHEDULE_PAUSE : SCHEDULE_HALT))
		return "a gate failed, and it was not stopped as the plan says";
	return d->action == SCHEDULE_HALT && !fails ? "halted for nothing" : NULL;
}

/* An approval more, or a word more that says yes: what went on still does, and nothing is stopped by it. */
static const char *more_approvals_never_hold_it_up(struct scene *s, const struct schedule_decision *d)
{
	for (size_t i = 0; i < s->plan.gate_count; i++) {
		struct gate_facts was = s->facts[i];
		struct gate_look last = { .at = NOW };
		struct schedule_decision again;

		if (s->plan.gates[i].kind == GATE_APPROVALS) {
			if (was.look_count == 0)
				s->facts[i].look_count = 1;
			last = s->looks[i][s->facts[i].look_count - 1];
			s->looks[i][s->facts[i].look_count - 1].at = NOW;
			s->looks[i][s->facts[i].look_count - 1].said = GATE_PASS;
			s->looks[i][s->facts[i].look_count - 1].text = "all there";
		} else if (was.word == GATE_NO_WORD) {
			s->facts[i].word = GATE_SAYS_PASS;
		}
		again = ask(s);
		if (s->plan.gates[i].kind == GATE_APPROVALS)
			s->looks[i][s->facts[i].look_count - 1] = last;
		s->facts[i] = was;
		if (went_on(d) && !went_on(&again))
			return "an approval more held it up";
		/* What is asked later may have failed all along. */
		if (d->action == SCHEDULE_NOTHING && again.action == SCHEDULE_HALT &&
		    again.gates[i].answer.verdict == GATE_FAIL)
			return "an approval more stopped it";
	}
	return NULL;
}

static const char *it_is_made_again_from_what_is_kept(struct scene *s, const struct schedule_decision *d)
{
	struct schedule_decision again;
	struct buf kept = BUF_INIT(1024 * 1024);
	struct replay past;
	const char *found = NULL;

	if (replay_write(&s->in, &kept) < 0 || replay_read(kept.data, kept.len, &s->plan, &past) < 0)
		return "it could not be kept";
	schedule(&past.input, &again);
	if (again.action != d->action || again.stage != d->stage || again.wake_at != d->wake_at ||
	    strcmp(again.why, d->why) != 0)
		found = "another decision";
	for (size_t i = 0; !found && i < s->plan.gate_count; i++)
		if (again.gates[i].asked != d->gates[i].asked ||
		    again.gates[i].answer.verdict != d->gates[i].answer.verdict ||
		    again.gates[i].answer.step != d->gates[i].answer.step ||
		    strcmp(again.gates[i].answer.text, d->gates[i].answer.text) != 0)
			found = "another answer";
	replay_done(&past);
	buf_done(&kept);
	return found;
}

/* Before wake_at nothing happens by time alone; without one, never. */
static const char *time_acts_when_it_said_so(struct scene *s, const struct schedule_decision *d)
{
	static const int64_t later[] = { 1, 60, 240, 300, HOUR, 2 * HOUR, 3 * HOUR, DAY, 40 * DAY };

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
			/* Due for the first time it has no time of its own yet: the controller writes it down. */
			for (size_t k = 0; k < s->plan.gate_count; k++)
				if (d->gates[k].asked && (s->facts[k].due_at || !d->gates[k].due) &&
				    !d->gates[k].answer.asks)
					return "it acted before the time it named";
	}
	return NULL;
}

typedef const char *property(struct scene *s, const struct schedule_decision *d);

static void check(property *holds)
{
	unsigned opened = 0, stopped = 0, waited = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct scene s;
		struct schedule_decision d;
		const char *found;

		any_scene(&s, seed);
		d = ask(&s);
		opened += went_on(&d);
		stopped += d.action == SCHEDULE_HALT || d.action == SCHEDULE_PAUSE;
		waited += d.action == SCHEDULE_NOTHING;
		found = holds(&s, &d);
		if (found)
			fail_msg("seed %llu: %s (action %d: %s)", (unsigned long long) seed, found, (int) d.action,
				 d.why);
		plan_done(&s.plan);
	}
	/* Scenes in which one of these hardly happens would prove little. */
	assert_true(opened > SEEDS / 50);
	assert_true(stopped > SEEDS / 20);
	assert_true(waited > SEEDS / 20);
}

#define PROPERTY(name)                                                                                            \
	static void test_##name(void **state)                                                                     \
	{                                                                                                         \
		(void) state;                                                                                     \
		check(name);                                                                                      \
	}

PROPERTY(no_stage_opens_past_a_gate)
PROPERTY(a_failing_gate_stops_it)
PROPERTY(more_approvals_never_hold_it_up)
PROPERTY(it_is_made_again_from_what_is_kept)
PROPERTY(time_acts_when_it_said_so)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_stage_opens_past_a_gate),
		cmocka_unit_test(test_a_failing_gate_stops_it),
		cmocka_unit_test(test_more_approvals_never_hold_it_up),
		cmocka_unit_test(test_it_is_made_again_from_what_is_kept),
		cmocka_unit_test(test_time_acts_when_it_said_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
