/* When a metric gate looks, what a look may spend, what it sees, and what its looks mean. */
#include "base/text.h"
#include "conf/conf.h"
#include "server-stub/rollout/metric.h"
#include "server-stub/rollout/plan.h"
#include "server-stub/rollout/replay.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { HOUR = 3600, OPENED = 500000 * HOUR + 1800, DAYS = 10, NODES = 30 };

struct scene {
	struct plan plan;
	const struct gate *gate;
	struct gate_look made[GATE_LOOKS_KEPT];
	size_t count;
};

static void set_scene(struct scene *s, const char *settings)
{
	char text[1024];
	struct conf_error e = { "" };

	*s = (struct scene){ .count = 0 };
	snprintf(text, sizeof(text),
		 "component: web\nversion: 1.1.0\nmin_age: 0s\nstages: [{name: a, nodes: [n1]}, {name: b, all: "
		 "true}]\n"
		 "gates: {require: [{metric: {check: errors, effect: 20%%%s}}]}\n",
		 settings);
	if (plan_parse(text, strlen(text), "p.yaml", &s->plan, &e) < 0)
		fail_msg("%s", e.text);
	s->gate = &s->plan.gates[0];
}

/* A look as metric_look() writes it down; `p` above 1: there was no test. */
static void make(struct scene *s, int64_t until, enum gate_verdict said, double p)
{
	assert_true(s->count < GATE_LOOKS_KEPT);
	s->made[s->count++] = (struct gate_look){ .at = until + METRIC_LATE_S,
						  .said = said,
						  .high = p,
						  .samples = 10,
						  .since = until,
						  .text = "so it was" };
}

static bool due(const struct scene *s, int64_t now, struct metric_due *ret)
{
	return metric_look_due(s->gate, s->made, s->count, OPENED, now, ret);
}

static void looks_are_equally_spaced_and_a_while_late(void **state)
{
	struct scene s;
	struct metric_due d = { .until = 0 };

	(void) state;
	set_scene(&s, ", over: 24h");
	for (int k = 1; k <= COMPARE_LOOKS; k++) {
		int64_t end = OPENED + k * 4 * HOUR;

		assert_int_equal(metric_look_next(s.gate, s.made, s.count, OPENED), end + METRIC_LATE_S);
		assert_false(due(&s, end + METRIC_LATE_S - 1, &d));
		assert_true(due(&s, end + METRIC_LATE_S, &d));
		assert_int_equal(d.until, end);
		/* Asked again before it was written down, it is the same one. */
		assert_true(due(&s, end + METRIC_LATE_S + 600, &d));
		assert_int_equal(d.until, end);
		make(&s, end, GATE_PASS, 0.5);
		assert_false(due(&s, end + METRIC_LATE_S + 600, &d));
	}
	/* It passed with its last one: there is nothing more to look at. */
	assert_int_equal(metric_look_next(s.gate, s.made, s.count, OPENED), 0);
	assert_false(due(&s, OPENED + 1000 * HOUR, &d));
	plan_done(&s.plan);
}

static void a_short_gate_has_fewer_looks(void **state)
{
	struct scene s;
	struct metric_due d = { .until = 0 };

	(void) state;
	set_scene(&s, ", over: 3h");
	assert_int_equal(metric_look_next(s.gate, NULL, 0, OPENED), OPENED + HOUR + METRIC_LATE_S);
	/* A controller that was away makes the newest of them alone, with what the others might have spent. */
	assert_true(due(&s, OPENED + 2 * HOUR + METRIC_LATE_S, &d));
	assert_int_equal(d.until, OPENED + 2 * HOUR);
	assert_true(fabs(d.level - compare_level(0.005, 3, 0, 2)) < 1e-12);
	plan_done(&s.plan);
}

static void no_more_is_spent_than_there_is(void **state)
{
	struct scene s;
	struct metric_due d = { .until = 0 };
	double spent = 0;

	(void) state;
	set_scene(&s, ", over: 24h, alpha: 0.01");
	for (int hour = 0; hour < 80; hour++) {
		if (!due(&s, OPENED + hour * HOUR + METRIC_LATE_S, &d))
			continue;
		/* The first ones have no data; then there are tests, and none of them can tell. */
		if (d.until < OPENED + 10 * HOUR) {
			make(&s, d.until, GATE_INCONCLUSIVE, 2);
			continue;
		}
		spent += d.level;
		make(&s, d.until, GATE_INCONCLUSIVE, 0.3);
		if (s.count >= GATE_LOOKS_KEPT)
			break;
	}
	assert_true(s.count > 40); /* hour by hour after the last one */
	assert_true(fabs(spent - 0.01) < 1e-9);
	/* The oldest are not kept for ever: what they spent is not given again. */
	while (s.count < GATE_LOOKS_KEPT)
		make(&s, s.made[s.count - 1].since + HOUR, GATE_INCONCLUSIVE, 2);
	for (size_t i = 0; i < s.count; i++)
		s.made[i].high = 2;
	assert_true(due(&s, s.made[s.count - 1].since + HOUR + METRIC_LATE_S, &d));
	assert_true(d.level <= 0);
	plan_done(&s.plan);
}

static void looks_of_an_earlier_opening_are_none(void **state)
{
	struct scene s;
	struct metric_due d = { .until = 0 };

	(void) state;
	set_scene(&s, ", over: 24h");
	make(&s, OPENED - 10 * HOUR, GATE_FAIL, 0.0001);
	assert_true(due(&s, OPENED + 4 * HOUR + METRIC_LATE_S, &d));
	assert_true(fabs(d.level - compare_level(0.005, COMPARE_LOOKS, 0, 1)) < 1e-12);
	plan_done(&s.plan);
}

/* --- what a look sees --- */

static size_t hours_of(struct metric_hour *out, int64_t updated_at, int64_t until, double factor)
{
	size_t n = 0;

	for (int64_t h = OPENED / HOUR - DAYS * 24; h < until / HOUR; h++) {
		bool target = updated_at > 0 && h >= updated_at / HOUR;

		out[n++] = (struct metric_hour){ .hour = h,
						 .local = (unsigned) (h % 24),
						 .mean = (100 + (double) (h % 24)) *
							 (1 + 0.01 * (double) (h * 7 % 5)) * (target ? factor : 1),
						 .samples = 12,
						 .target = target };
	}
	return n;
}

static struct compare_node see(const struct scene *s, bool updated, int64_t updated_at, int64_t until,
			       double factor)
{
	static struct metric_hour hours[24 * (DAYS + 4)];
	size_t n = hours_of(hours, updated_at, OPENED + 48 * HOUR, factor);
	struct compare_node c = { .node = "n1" };

	assert_int_equal(metric_see(s->gate, hours, n, updated, OPENED, until, &c), 0);
	return c;
}

static void the_past_of_a_node_ends_with_the_release(void **state)
{
	struct scene s;
	struct compare_node c;

	(void) state;
	set_scene(&s, ", hours: 3");
	c = see(&s, true, OPENED + 10 * HOUR, OPENED + 20 * HOUR, 2);
	assert_true(c.enough);
	assert_true(fabs(c.difference - 1) < 0.1);
	assert_int_equal(c.hours, 6);
	/* Nothing after the end of the look is seen, and the hour of the swap belongs to two versions. */
	c = see(&s, true, OPENED + 10 * HOUR, OPENED + 13 * HOUR, 2);
	assert_int_equal(c.hours, 2);
	assert_false(c.enough);
	assert_int_equal(see(&s, true, OPENED + 10 * HOUR, OPENED + 10 * HOUR, 2).hours, 0);
	/* One that says it has the release, and has told nothing of it. */
	assert_int_equal(see(&s, true, 0, OPENED + 20 * HOUR, 2).hours, 0);
	/* One without it: the same hours, against what was before the rollout. */
	c = see(&s, false, 0, OPENED + 20 * HOUR, 2);
	assert_true(c.enough);
	assert_true(fabs(c.difference) < 0.05);
	assert_true(c.noise < 0.05);
	/* It took the release meanwhile: those hours are not of a node without it. */
	c = see(&s, false, OPENED + 10 * HOUR, OPENED + 40 * HOUR, 2);
	assert_true(fabs(c.difference) < 0.05);
	plan_done(&s.plan);
}

static void an_even_share_of_a_large_fleet_is_picked(void **state)
{
	size_t counts[] = { 1, COMPARE_NODES_MAX, COMPARE_NODES_MAX + 1, 1000, 10000 };

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
		size_t picked = 0, half = 0;

		for (size_t k = 0; k < counts[i]; k++) {
			picked += metric_picks(k, counts[i]);
			half += k < counts[i] / 2 && metric_picks(k, counts[i]);
		}
		assert_int_equal(picked, counts[i] < COMPARE_NODES_MAX ? counts[i] : COMPARE_NODES_MAX);
		assert_true(half <= picked / 2 + 1 && half + 1 >= picked / 2);
	}
}

static void a_look_is_written_down(void **state)
{
	struct compare_node updated[NODES], others[NODES];
	struct metric_due d = { OPENED + 4 * HOUR, 0.001 };
	struct buf data = BUF_INIT(100000);
	struct gate_look l = { .at = 0 };
	char text[GATE_TEXT];
	struct scene s;

	(void) state;
	set_scene(&s, "");
	for (size_t i = 0; i < NODES; i++) {
		double spread = 0.02 * (double) (i % 5);

		updated[i] = (struct compare_node){ "u", true, 0.4 + spread, 0.03, 140, 100, 6 };
		others[i] = (struct compare_node){ "o", true, spread, 0.03, 100, 100, 6 };
	}
	assert_int_equal(metric_look(s.gate, &d, updated, NODES, others, NODES, OPENED + 5 * HOUR, &l, text,
				     &data),
			 0);
	assert_int_equal(l.said, GATE_FAIL);
	assert_int_equal(l.since, d.until);
	assert_int_equal(l.at, OPENED + 5 * HOUR);
	assert_int_equal(l.samples, NODES);
	assert_true(l.high < 0.001 && fabs(l.low - 0.4) < 0.01);
	assert_non_null(strstr(text, "30 updated nodes against 30 others"));
	assert_non_null(strstr(buf_str(&data), "[\"u\",true,6,\"140\",\"100\",\"0.4\",\"0.03\"]"));
	buf_clear(&data);
	/* By their own past: no test was made, nothing is spent. */
	assert_int_equal(metric_look(s.gate, &d, updated, 2, others, NODES, 1, &l, text, &data), 0);
	assert_int_equal(l.said, GATE_FAIL);
	assert_true(l.high > 1);
	buf_done(&data);
	plan_done(&s.plan);
}

/* --- what looks mean --- */

static struct schedule_input input_of(struct scene *s, struct schedule_stage stages[2], struct schedule_member *m,
				      struct gate_facts *f, int64_t now)
{
	stages[0] = (struct schedule_stage){ .open = true, .opened_at = OPENED, .selected = 1 };
	stages[1] = (struct schedule_stage){ .selected = 2 };
	*m = (struct schedule_member){ .node = "n1", .state = MEMBER_GOOD, .since = OPENED, .added_at = 1 };
	*f = (struct gate_facts){ .looks = s->made, .look_count = s->count };
	return (struct schedule_input){ .plan = &s->plan,
					.state = ROLLOUT_RUNNING,
					.stages = stages,
					.members = m,
					.member_count = 1,
					.now = now,
					.gates = f,
					.gate_count = 1 };
}

/* Asked, and asked again from what is kept of the question. */
static struct schedule_decision decide_twice(struct scene *s, int64_t now)
{
	struct schedule_stage stages[2];
	struct schedule_member member;
	struct gate_facts facts;
	struct schedule_input in = input_of(s, stages, &member, &facts, now);
	struct schedule_decision d, again;
	struct buf text = BUF_INIT(100000);
	struct replay past;

	schedule(&in, &d);
	assert_int_equal(replay_write(&in, &text), 0);
	assert_int_equal(replay_read(text.data, text.len, &s->plan, &past), 0);
	schedule(&past.input, &again);
	assert_int_equal(again.action, d.action);
	assert_string_equal(again.why, d.why);
	assert_int_equal(again.wake_at, d.wake_at);
	replay_done(&past);
	buf_done(&text);
	return d;
}

static void a_look_may_condemn_at_once_and_acquit_at_the_end(void **state)
{
	struct scene s;
	struct schedule_decision d;

	(void) state;
	set_scene(&s, ", over: 24h");
	d = decide_twice(&s, OPENED + HOUR);
	assert_int_equal(d.action, SCHEDULE_NOTHING);
	assert_non_null(strstr(d.why, "the first look is at"));
	assert_int_equal(d.wake_at, OPENED + 4 * HOUR + METRIC_LATE_S);
	for (int k = 1; k < COMPARE_LOOKS; k++) {
		make(&s, OPENED + k * 4 * HOUR, k == 2 ? GATE_INCONCLUSIVE : GATE_PASS, 0.5);
		d = decide_twice(&s, OPENED + (k * 4 + 1) * HOUR);
		assert_int_equal(d.action, SCHEDULE_NOTHING);
		assert_non_null(strstr(d.why, "the next look is at"));
	}
	make(&s, OPENED + 24 * HOUR, GATE_PASS, 0.5);
	d = decide_twice(&s, OPENED + 25 * HOUR);
	assert_int_equal(d.action, SCHEDULE_OPEN);
	assert_int_equal(d.stage, 1);
	/* One that failed stands, whatever comes after it. */
	s.made[1].said = GATE_FAIL;
	d = decide_twice(&s, OPENED + 25 * HOUR);
	assert_int_equal(d.action, SCHEDULE_HALT);
	assert_non_null(strstr(d.why, "the gate 'metric' fails: so it was"));
	s.count = 2; /* and it did not wait for the end */
	assert_int_equal(decide_twice(&s, OPENED + 9 * HOUR).action, SCHEDULE_HALT);
	plan_done(&s.plan);
}

static void no_data_never_passes(void **state)
{
	struct scene s;
	struct schedule_decision d;

	(void) state;
	set_scene(&s, ", over: 3h");
	for (int k = 1; k < 40; k++) {
		make(&s, OPENED + k * HOUR, GATE_INCONCLUSIVE, 2);
		d = decide_twice(&s, OPENED + (k + 1) * HOUR);
		assert_int_equal(d.action, SCHEDULE_NOTHING);
		assert_non_null(strstr(d.why, "cannot tell"));
	}
	/* Late data: it goes on as soon as one look after the last can tell. */
	make(&s, OPENED + 40 * HOUR, GATE_PASS, 0.5);
	assert_int_equal(decide_twice(&s, OPENED + 41 * HOUR).action, SCHEDULE_OPEN);
	plan_done(&s.plan);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(looks_are_equally_spaced_and_a_while_late),
		cmocka_unit_test(a_short_gate_has_fewer_looks),
		cmocka_unit_test(no_more_is_spent_than_there_is),
		cmocka_unit_test(looks_of_an_earlier_opening_are_none),
		cmocka_unit_test(the_past_of_a_node_ends_with_the_release),
		cmocka_unit_test(an_even_share_of_a_large_fleet_is_picked),
		cmocka_unit_test(a_look_is_written_down),
		cmocka_unit_test(a_look_may_condemn_at_once_and_acquit_at_the_end),
		cmocka_unit_test(no_data_never_passes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
