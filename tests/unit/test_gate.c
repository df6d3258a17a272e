/* Gates: what a plan may say of them, what each kind answers, what that means for the rollout, and all of it again. */
#include "base/err.h"
#include "conf/conf.h"
#include "json/build.h"
#include "json/json.h"
#include "server-stub/rollout/documents.h"
#include "server-stub/rollout/replay.h"
#include "server-stub/rollout/schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { OPENED = 1000000, NOW = OPENED + 7200 };

#define HEAD                                                                                                      \
	"component: web\nversion: 1.1.0\nmin_age: 0s\nstages: [{name: one, nodes: [n1]}, {name: all, all: "       \
	"true}]\n"

/* A plan with one gate of every stage: the lines of a map. */
static struct plan plan_with(const char *gate)
{
	char text[4096];
	struct conf_error e = { "" };
	struct plan p;
	int r;

	snprintf(text, sizeof(text), "%sgates: {require: [%s]}\n", HEAD, gate);
	r = plan_parse(text, strlen(text), "p.yaml", &p, &e);
	if (r < 0)
		fail_msg("%s: %s", gate, e.text);
	return p;
}

/* --- plans --- */

static void every_kind_is_read_and_written_as_the_same(void **state)
{
	static const char *const gates[] = {
		"{health: {max_failing: 1, max_degraded: 2, max_restarting: 3, restarts: 4, grace: 5m}, when: "
		"proved}",
		"{health: {}}",
		"{metric: {check: errors, component: web, worse: both, effect: 12.5%, days: 3, hours: 2, samples: "
		"50, "
		"borne: 1, over: 12h, alpha: 0.01}, on_inconclusive: ask, deadline: 1d}",
		"{name: rss, metric: {check: memory, effect: 1.5e6}}",
		"{prometheus: {server: main, query: 'sum(rate(e[5m])) > 0', max: 0.1, min: -1e3, take: last, "
		"over: 1h, "
		"step: 30s, samples: 20, timeout: 5s}, every: 30s}",
		"{name: door, http: {url: 'https://example.org/x?y=1', body: ok, status: 204, within: 250ms, "
		"timeout: "
		"3s, successes: 8, of: 10, ca_file: /etc/ca.pem}, on_inconclusive: pass, deadline: 1h}",
		"{http: {url: 'http://[::1]:8080/', within: 2s, failures: 5}, on_inconclusive: ask, deadline: 0}",
		"{command: {argv: [/bin/true, a b, ''], timeout: 1m}, when: open, every: 10m}",
		"{alerts: {server: main, labels: {severity: page, team: 'a\"b'}, for: 4h}}",
		"{staffed: true}",
		"{approvals: true, on_inconclusive: wait}",
		"{ask: 'does the change board agree?', deadline: 2d}",
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(gates); i++) {
		struct plan p = plan_with(gates[i]), q;
		struct buf first = BUF_INIT(10000), second = BUF_INIT(10000);
		struct json_build *b = json_build_new(), *c = json_build_new();
		struct conf_error e = { "" };

		assert_int_equal(p.gate_count, 1);
		plan_write(&p, json_build_root(b));
		assert_int_equal(json_build_text(b, false, &first), 0);
		if (plan_parse(first.data, first.len, "again", &q, &e) < 0)
			fail_msg("%s: %s", gates[i], e.text);
		plan_write(&q, json_build_root(c));
		assert_int_equal(json_build_text(c, false, &second), 0);
		assert_string_equal(buf_str(&first), buf_str(&second));
		assert_int_equal(q.gates[0].kind, p.gates[0].kind);
		json_build_free(b);
		json_build_free(c);
		buf_done(&first);
		buf_done(&second);
		plan_done(&p);
		plan_done(&q);
	}
}

static void what_a_gate_says_stands_in_the_plan(void **state)
{
	static const char text[] = HEAD "gates:\n  max_failure_share: 5%\n  max_node_failure_share: 20%\n"
					"  max_node_failures: 7\n  max_silent: 2\n  max_silent_share: 1%\n"
					"  silent_deadline: 6h\n  on_node_failure: halt\n  require:\n"
					"    - http: {url: 'https://example.org/', within: 250ms}\n"
					"      every: 30s\n      on_inconclusive: pass\n      deadline: 90m\n"
					"    - {staffed: true}\n";
	struct conf_error e = { "" };
	struct plan p;

	(void) state;
	if (plan_parse(text, strlen(text), "p.yaml", &p, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(p.max_failures, 1000000); /* the share alone */
	assert_int_equal(p.max_failure_share, 500);
	assert_int_equal(p.max_node_failures, 7);
	assert_int_equal(p.max_node_failure_share, 2000);
	assert_int_equal(p.max_silent, 2);
	assert_int_equal(p.max_silent_share, 100);
	assert_int_equal(p.silent_deadline_s, 6 * 3600);
	assert_int_equal(p.on_failure, PLAN_HALT);
	assert_int_equal(p.on_node_failure, PLAN_HALT);
	assert_int_equal(p.gate_count, 2);
	assert_string_equal(p.gates[0].name, "http");
	assert_int_equal(p.gates[0].u.http.within_ms, 250);
	assert_int_equal(p.gates[0].every_s, 30);
	assert_int_equal(p.gates[0].on_inconclusive, GATE_TAKE);
	assert_int_equal(p.gates[0].deadline_s, 5400);
	assert_true(p.gates[0].from_opening);
	assert_int_equal(p.gates[1].stage, GATE_EVERY_STAGE);
	plan_done(&p);
}

static void a_bad_gate_is_named_with_its_line(void **state)
{
	static const struct {
		const char *gate, *where, *expected;
	} rows[] = {
		{ "{}", "p.yaml:5:", "expected a gate with one of health, metric, prometheus" },
		{ "{staffed: true, approvals: true}", "p.yaml:5:", "expected a gate with one of" },
		{ "nothing", "p.yaml:5:", "expected a gate, e.g." },
		{ "{metric: {check: errors}}", "p.yaml:5:", "expected 'effect'" },
		{ "{metric: {effect: 20%}}", "p.yaml:5:", "expected 'check'" },
		{ "{metric: {check: A b, effect: 20%}}", "p.yaml:5:", "a check of kind metric" },
		{ "{metric: {check: errors, effect: 0%}}", "p.yaml:5:", "a number above 0" },
		{ "{metric: {check: errors, effect: -3}}", "p.yaml:5:", "a number above 0" },
		{ "{metric: {check: errors, effect: nan}}", "p.yaml:5:", "a number above 0" },
		{ "{metric: {check: errors, effect: '%'}}", "p.yaml:5:", "a number above 0" },
		{ "{metric: {check: errors, effect: 20%, worse: bigger}}", "p.yaml:5:", "higher, lower or both" },
		{ "{metric: {check: errors, effect: 20%, days: 1}}", "p.yaml:5:", "days" },
		{ "{metric: {check: errors, effect: 20%, days: 15}}", "p.yaml:5:", "days" },
		{ "{metric: {check: errors, effect: 20%, over: 30m}}", "p.yaml:5:", "over" },
		{ "{metric: {check: errors, effect: 20%, over: 2h}}", "p.yaml:5:", "the 3 hours" },
		{ "{metric: {check: errors, effect: 20%, alpha: 0.5}}", "p.yaml:5:", "at most 0.1" },
		{ "{metric: {check: errors, effect: 20%, alpha: 0}}", "p.yaml:5:", "above 0" },
		{ "{metric: {check: errors, effect: 20%, component: other}}",
		  "p.yaml:", "brings no release of 'other'" },
		{ "{metric: {check: errors, effect: 20%}, when: open}", "p.yaml:5:", "no 'when'" },
		{ "{metric: {check: errors, effect: 20%}, every: 1m}", "p.yaml:5:", "no 'every'" },
		{ "{metric: {check: errors, effect: 20%, efect: 1}}", "p.yaml:5:", "efect" },
		{ "{staffed: maybe}", "p.yaml:5:", "staffed" },
		{ "{staffed: false}", "p.yaml:5:", "expected 'staffed: true'" },
		{ "{staffed: true, when: open}", "p.yaml:5:", "no 'when'" },
		{ "{staffed: true, every: 1m}", "p.yaml:5:", "no 'every'" },
		{ "{name: soak, staffed: true}", "p.yaml:5:", "another name than 'soak'" },
		{ "{name: A b, staffed: true}", "p.yaml:5:", "a gate's name" },
		{ "{staffed: true}, {staffed: true}", "p.yaml:5:", "is used twice" },
		{ "{http: {url: 'https://example.org/'}, evry: 1m}", "p.yaml:5:", "evry" },
		{ "{http: {url: 'ftp://example.org/'}}", "p.yaml:5:", "expected a URL" },
		{ "{http: {url: 'https://a:b@example.org/'}}", "p.yaml:5:", "without user" },
		{ "{http: {url: 'https:///x'}}", "p.yaml:5:", "expected a URL" },
		{ "{http: {url: 'https://example.org/ x'}}", "p.yaml:5:", "expected a URL" },
		{ "{http: {url: 'https://example.org/', successes: 5, of: 4}}",
		  "p.yaml:5:", "at least 'successes'" },
		{ "{http: {url: 'https://example.org/', of: 4, failures: 1}}", "p.yaml:5:", "not both" },
		{ "{http: {url: 'https://example.org/', of: 61}}", "p.yaml:5:", "of" },
		{ "{http: {url: 'https://example.org/', within: 0ms}}", "p.yaml:5:", "like 250ms" },
		{ "{http: {url: 'https://example.org/', ca_file: x.pem}}", "p.yaml:5:", "absolute path" },
		{ "{http: {url: 'https://example.org/', status: 99}}", "p.yaml:5:", "status" },
		{ "{http: [x]}", "p.yaml:5:", "with its settings" },
		{ "{prometheus: {server: main, query: up}}", "p.yaml:5:", "expected a bound" },
		{ "{prometheus: {server: main, query: up, max: nan}}", "p.yaml:5:", "as a number" },
		{ "{prometheus: {server: main, query: up, max: 0x10}}", "p.yaml:5:", "as a number" },
		{ "{prometheus: {server: main, query: up, max: 1, min: 2}}", "p.yaml:5:", "not above the max" },
		{ "{prometheus: {server: main, query: up, max: 1, over: 1m, samples: 5}}",
		  "p.yaml:5:", "to hold 5" },
		{ "{prometheus: {server: main, query: up, max: 1, over: 90d, step: 1s}}", "p.yaml:5:", "11000" },
		{ "{prometheus: {server: 'http://x', query: up, max: 1}}", "p.yaml:5:", "a server's name" },
		{ "{prometheus: {server: main, max: 1}}", "p.yaml:5:", "'query'" },
		{ "{prometheus: {server: main, query: up, max: 1, take: median}}", "p.yaml:5:", "avg, last" },
		{ "{command: {argv: smoke}}", "p.yaml:5:", "there is no shell" },
		{ "{command: {argv: []}}", "p.yaml:5:", "list of 1 to 32" },
		{ "{command: {argv: [smoke]}}", "p.yaml:5:", "absolute path" },
		{ "{command: {argv: [/usr/../smoke]}}", "p.yaml:5:", "absolute path" },
		{ "{alerts: {server: main, labels: {'a\"': x}}}", "p.yaml:5:", "a label of alerts" },
		{ "{alerts: {server: main, for: 1s}}", "p.yaml:5:", "'for' as a time" },
		{ "{ask: ''}", "p.yaml:5:", "'ask' as a text" },
		{ "{ask: well, on_inconclusive: pass, deadline: 1h}", "p.yaml:5:", "than ask" },
		{ "{health: {}, on_inconclusive: pass}", "p.yaml:5:", "expected a deadline" },
		{ "{health: {}, on_inconclusive: hope}", "p.yaml:5:", "wait, ask or pass" },
		{ "{health: {}, deadline: 91d}", "p.yaml:5:", "deadline" },
		{ "{health: {max_failing: -1}}", "p.yaml:5:", "max_failing" },
		{ "{health: {}, when: never}", "p.yaml:5:", "open or proved" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct conf_error e = { "" };
		struct plan p;
		char text[2048];

		snprintf(text, sizeof(text), "%sgates: {require: [%s]}\n", HEAD, rows[i].gate);
		if (plan_parse(text, strlen(text), "p.yaml", &p, &e) != -ERR_CONFIG)
			fail_msg("%s was taken", rows[i].gate);
		if (!strstr(e.text, rows[i].where) || !strstr(e.text, rows[i].expected))
			fail_msg("%s: %s", rows[i].gate, e.text);
	}
}

static void a_stage_has_gates_of_its_own(void **state)
{
	static const char text[] =
		"component: web\nversion: 1.1.0\nstages:\n"
		"  - {name: one, nodes: [n1], gates: [{ask: go on?}]}\n  - {name: all, all: true}\n";
	static const char twice[] =
		"component: web\nversion: 1.1.0\ngates: {require: [{ask: a}]}\nstages:\n"
		"  - {name: one, nodes: [n1], gates: [{ask: go on?}]}\n  - {name: all, all: true}\n";
	struct conf_error e = { "" };
	struct plan p;

	(void) state;
	assert_int_equal(plan_parse(text, strlen(text), "p", &p, &e), 0);
	assert_int_equal(p.gate_count, 1);
	assert_int_equal(p.gates[0].stage, 0);
	plan_done(&p);
	assert_int_equal(plan_parse(twice, strlen(twice), "p", &p, &e), -ERR_CONFIG);
	assert_non_null(strstr(e.text, "is used twice"));
}

static void nodes_read_nothing_of_it(void **state)
{
	struct plan p = plan_with("{name: door, http: {url: 'https://example.org/'}}, {ask: well?}");
	const bool open[2] = { true, false };
	const struct document_rollout in = { .id = "r1",
					     .seq = 1,
					     .state = ROLLOUT_RUNNING,
					     .plan = &p,
					     .open = open,
					     .release_path = "web/1.1.0/release.json" };
	struct buf text = BUF_INIT(100000);

	(void) state;
	assert_int_equal(document_rollout(&in, &text), 0);
	assert_non_null(strstr(buf_str(&text), "\"stages\""));
	assert_null(strstr(buf_str(&text), "gates"));
	assert_null(strstr(buf_str(&text), "example.org"));
	assert_null(strstr(buf_str(&text), "well"));
	assert_null(strstr(buf_str(&text), "failures"));
	buf_done(&text);
	plan_done(&p);
}

/* --- answers --- */

struct scene {
	struct plan plan;
	struct gate_look looks[GATE_LOOKS_KEPT];
	struct gate_facts facts;
	struct gate_duty duty;
	struct schedule_member members[3];
	struct gate_question q;
};

static void set_scene(struct scene *s, const char *gate)
{
	*s = (struct scene){ .plan = plan_with(gate) };
	s->facts = (struct gate_facts){ .looks = s->looks, .due_at = NOW - 600 };
	for (size_t i = 0; i < 3; i++)
		s->members[i] = (struct schedule_member){ .node = i == 0   ? "n1"
								  : i == 1 ? "n2"
									   : "n3",
							  .state = MEMBER_GOOD,
							  .since = NOW - 600 };
	s->q = (struct gate_question){ .gate = &s->plan.gates[0],
				       .facts = &s->facts,
				       .duty = &s->duty,
				       .members = s->members,
				       .member_count = 3,
				       .opened_at = OPENED,
				       .now = NOW,
				       .due = true };
}

static struct gate_look *look(struct scene *s, enum gate_verdict said)
{
	struct gate_look *l = &s->looks[s->facts.look_count++];

	/* Looks are a minute apart, the last one now. */
	for (size_t i = 0; i + 1 < s->facts.look_count; i++)
		s->looks[i].at -= 60;
	*l = (struct gate_look){ .at = NOW, .said = said, .text = "so it was" };
	return l;
}

static struct gate_answer answer(const struct scene *s)
{
	struct gate_answer a;

	gate_judge(&s->q, &a);
	assert_true(a.text[0] != '\0');
	assert_true(a.wake_at == 0 || a.wake_at > s->q.now);
	return a;
}

static void expect(const struct scene *s, enum gate_verdict verdict, enum gate_step step, const char *part)
{
	struct gate_answer a = answer(s);

	if (a.verdict != verdict || a.step != step || !strstr(a.text, part))
		fail_msg("%s, step %d: %s", gate_verdict_name(a.verdict), (int) a.step, a.text);
}

static void without_data_nothing_passes(void **state)
{
	static const char *const gates[] = {
		"{health: {}}",
		"{prometheus: {server: main, query: up, max: 1}}",
		"{http: {url: 'https://example.org/'}}",
		"{command: {argv: [/bin/true]}}",
		"{alerts: {server: main}}",
		"{approvals: true}",
		"{ask: well?}",
		"{metric: {check: errors, effect: 20%}}",
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(gates); i++) {
		struct scene s;

		set_scene(&s, gates[i]);
		s.q.facts = NULL;
		s.q.member_count = 0;
		expect(&s, GATE_INCONCLUSIVE, GATE_WAITS, "");
		/* Looks from before the stage opened are none. */
		s.q.facts = &s.facts;
		look(&s, GATE_PASS)->samples = 100;
		s.looks[0].at = OPENED - 1;
		s.looks[0].since = 1;
		if (i != 5) /* approvals are looked up with each question */
			expect(&s, GATE_INCONCLUSIVE, GATE_WAITS, "");
		/* Nor are those that nobody followed up. */
		s.looks[0].at = OPENED;
		if (i > 0 && i < 5)
			expect(&s, GATE_INCONCLUSIVE, GATE_WAITS, "nothing was seen since");
		plan_done(&s.plan);
	}
}

static void bounds_hold_for_what_prometheus_says(void **state)
{
	static const struct {
		double low, high;
		uint64_t samples;
		enum gate_verdict verdict;
		const char *part;
	} rows[] = {
		{ 0.2, 0.4, 30, GATE_PASS, "0.2 to 0.4 is within" },
		{ 0.5, 0.5, 30, GATE_PASS, "0.5 is within" },
		{ 0.2, 0.51, 30, GATE_FAIL, "0.51 is above 0.5" },
		{ 0.09, 0.2, 30, GATE_FAIL, "0.09 is below 0.1" },
		{ 0.2, 0.4, 4, GATE_INCONCLUSIVE, "4 samples of 5" },
		{ 9, 9, 0, GATE_INCONCLUSIVE, "0 samples" },
		{ NAN, NAN, 30, GATE_INCONCLUSIVE, "" },
		{ 0, INFINITY, 30, GATE_INCONCLUSIVE, "" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct scene s;
		struct gate_look *l;

		set_scene(&s, "{prometheus: {server: main, query: up, min: 0.1, max: 0.5}}");
		look(&s, GATE_INCONCLUSIVE);
		l = look(&s, GATE_INCONCLUSIVE);
		l->low = rows[i].low;
		l->high = rows[i].high;
		l->samples = rows[i].samples;
		expect(&s, rows[i].verdict,
		       rows[i].verdict == GATE_PASS   ? GATE_GOES_ON
		       : rows[i].verdict == GATE_FAIL ? GATE_STOPS
						      : GATE_WAITS,
		       rows[i].part);
		/* It stops also before the stage is proved. */
		s.q.due = false;
		if (rows[i].verdict == GATE_FAIL)
			expect(&s, GATE_FAIL, GATE_STOPS, "");
		plan_done(&s.plan);
	}
}

/* '+' good, '-' bad, '?' could not be looked. */
static void looks(struct scene *s, const char *text)
{
	for (; *text; text++)
		look(s, *text == '+' ? GATE_PASS : *text == '-' ? GATE_FAIL : GATE_INCONCLUSIVE);
}

static void successes_in_a_row_or_of_so_many(void **state)
{
	static const struct {
		const char *gate, *looks;
		enum gate_verdict verdict;
	} rows[] = {
		{ "successes: 1", "+", GATE_PASS },
		{ "successes: 1", "-", GATE_INCONCLUSIVE },
		{ "successes: 1", "--", GATE_INCONCLUSIVE },
		{ "successes: 1", "---", GATE_FAIL },
		{ "successes: 1", "---+", GATE_PASS },
		{ "successes: 3", "++", GATE_INCONCLUSIVE },
		{ "successes: 3", "+++", GATE_PASS },
		{ "successes: 3", "+++-", GATE_INCONCLUSIVE },
		{ "successes: 3", "+-++", GATE_INCONCLUSIVE },
		{ "successes: 3", "++?+", GATE_INCONCLUSIVE },
		{ "successes: 1", "--?-", GATE_INCONCLUSIVE },
		{ "successes: 1", "?", GATE_INCONCLUSIVE },
		{ "failures: 1", "+-", GATE_FAIL },
		{ "successes: 3, of: 5", "+++", GATE_PASS },
		{ "successes: 3, of: 5", "+-+-+", GATE_PASS },
		{ "successes: 3, of: 5", "+-+-", GATE_INCONCLUSIVE },
		{ "successes: 3, of: 5", "+---", GATE_FAIL },
		{ "successes: 3, of: 5", "---+++", GATE_PASS },
		{ "successes: 3, of: 5", "+++---", GATE_FAIL },
		{ "successes: 3, of: 5",
		  "++?"
		  "?-",
		  GATE_INCONCLUSIVE },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct scene s;
		char gate[200];

		snprintf(gate, sizeof(gate), "{http: {url: 'https://example.org/', %s}}", rows[i].gate);
		set_scene(&s, gate);
		looks(&s, rows[i].looks);
		if (answer(&s).verdict != rows[i].verdict)
			fail_msg("%s %s: %s", rows[i].gate, rows[i].looks, answer(&s).text);
		plan_done(&s.plan);
	}
}

static void a_command_says_what_it_says(void **state)
{
	struct scene s;

	(void) state;
	set_scene(&s, "{command: {argv: [/bin/true]}}");
	looks(&s, "-?");
	expect(&s, GATE_INCONCLUSIVE, GATE_WAITS, "so it was");
	looks(&s, "+");
	expect(&s, GATE_PASS, GATE_GOES_ON, "so it was");
	looks(&s, "-");
	expect(&s, GATE_FAIL, GATE_STOPS, "so it was");
	plan_done(&s.plan);
}

static void quiet_is_only_what_was_watched(void **state)
{
	struct scene s;
	struct gate_look *l;

	(void) state;
	set_scene(&s, "{alerts: {server: main, for: 1h}}");
	l = look(&s, GATE_PASS);
	l->since = NOW - 3600;
	expect(&s, GATE_PASS, GATE_GOES_ON, "no alert from");
	l->since = NOW - 3599;
	expect(&s, GATE_INCONCLUSIVE, GATE_WAITS, "3600s of it");
	/* What was quiet before the stage opened says nothing. */
	l->since = OPENED - 100000;
	s.q.opened_at = NOW - 3599;
	expect(&s, GATE_INCONCLUSIVE, GATE_WAITS, "3600s of it");
	l->low = 2;
	expect(&s, GATE_INCONCLUSIVE, GATE_WAITS, "from before");
	l->high = 1;
	expect(&s, GATE_FAIL, GATE_STOPS, "so it was");
	l->said = GATE_INCONCLUSIVE;
	expect(&s, GATE_INCONCLUSIVE, GATE_WAITS, "so it was");
	plan_done(&s.plan);
}

static void health_counts_nodes(void **state)
{
	struct scene s;

	(void) state;
	set_scene(&s, "{health: {max_failing: 0, max_degraded: 0, max_restarting: 1, restarts: 2, grace: 10m}}");
	expect(&s, GATE_PASS, GATE_GOES_ON, "3 nodes");
	s.members[1].failing = "self-test";
	s.members[1].failing_at = NOW - 60;
	expect(&s, GATE_INCONCLUSIVE, GATE_WAITS, "n2 begins to fail self-test");
	assert_int_equal(answer(&s).wake_at, NOW - 60 + 600);
	s.q.now = NOW + 540;
	expect(&s, GATE_FAIL, GATE_STOPS, "n2 fails self-test");
	s.q.now = NOW;
	s.members[1].failing = NULL;
	s.members[2].degraded = "disk";
	expect(&s, GATE_FAIL, GATE_STOPS, "n3 has the check disk");
	s.members[2].degraded = NULL;
	s.members[0].restarts = 3;
	expect(&s, GATE_PASS, GATE_GOES_ON, "1 restarting");
	s.members[1].restarts = 4;
	expect(&s, GATE_FAIL, GATE_STOPS, "restart again and again");
	s.members[1].restarts = 2;
	s.members[0].silent = true;
	expect(&s, GATE_INCONCLUSIVE, GATE_WAITS, "silent, as n1");
	/* Those of other stages, and those that did not take it, are not asked. */
	s.members[0].stage = 1;
	expect(&s, GATE_PASS, GATE_GOES_ON, "2 nodes");
	s.members[1].state = s.members[2].state = MEMBER_WAITING;
	expect(&s, GATE_INCONCLUSIVE, GATE_WAITS, "no node");
	plan_done(&s.plan);
}

static void persons_are_asked_in_their_hours(void **state)
{
	struct scene s;

	(void) state;
	set_scene(&s, "{ask: go on?, deadline: 1h}");
	expect(&s, GATE_INCONCLUSIVE, GATE_WAITS, "go on?; a person is asked");
	assert_true(answer(&s).asks);
	/* Nobody is there: it is asked when somebody comes, and the deadline runs from then. */
	s.duty = (struct gate_duty){ true, NOW + 10000, NOW + 20000 };
	s.facts.due_at = OPENED;
	expect(&s, GATE_INCONCLUSIVE, GATE_WAITS, "in staffed hours");
	assert_false(answer(&s).asks);
	assert_int_equal(answer(&s).wake_at, NOW + 10000);
	s.q.now = NOW + 10000;
	assert_true(answer(&s).asks);
	s.facts.asked_at = NOW + 10000;
	s.q.now = NOW + 13599;
	expect(&s, GATE_INCONCLUSIVE, GATE_WAITS, "asked");
	assert_false(answer(&s).asks);
	assert_int_equal(answer(&s).wake_at, NOW + 13600);
	s.q.now = NOW + 13600;
	expect(&s, GATE_INCONCLUSIVE, GATE_PAUSES, "deadline");
	/* A patch does not wait for anybody's morning. */
	s.facts.asked_at = 0;
	s.q.now = NOW;
	s.q.patch = true;
	assert_true(answer(&s).asks);
	/* Not before its turn. */
	s.q.due = false;
	assert_false(answer(&s).asks);
	plan_done(&s.plan);
}

static void the_word_of_a_person_counts(void **state)
{
	struct scene s;

	(void) state;
	set_scene(&s, "{ask: go on?}");
	s.facts.word_by = "kim";
	s.facts.word_reason = "looks fine";
	s.facts.word = GATE_SAYS_PASS;
	expect(&s, GATE_PASS, GATE_GOES_ON, "kim says yes: looks fine");
	s.facts.word = GATE_SAYS_FAIL;
	expect(&s, GATE_FAIL, GATE_STOPS, "kim says no");
	plan_done(&s.plan);
	/* "Pass" helps where there is no data, and not against data; to waive a gate is a word of its own. */
	set_scene(&s, "{http: {url: 'https://example.org/', failures: 1}, on_inconclusive: ask}");
	s.facts.word = GATE_SAYS_PASS;
	expect(&s, GATE_INCONCLUSIVE, GATE_GOES_ON, "says to go on");
	looks(&s, "-");
	expect(&s, GATE_FAIL, GATE_STOPS, "");
	s.facts.word = GATE_SAYS_WAIVE;
	expect(&s, GATE_FAIL, GATE_GOES_ON, "waived by");
	plan_done(&s.plan);
}

static void staffed_is_a_gate_too(void **state)
{
	struct scene s;

	(void) state;
	set_scene(&s, "{staffed: true}");
	expect(&s, GATE_PASS, GATE_GOES_ON, "no calendar");
	s.duty = (struct gate_duty){ true, NOW - 10, NOW + 10 };
	expect(&s, GATE_PASS, GATE_GOES_ON, "on duty");
	s.q.now = NOW + 10; /* the hours end */
	expect(&s, GATE_INCONCLUSIVE, GATE_WAITS, "nobody is on duty");
	s.duty = (struct gate_duty){ true, NOW + 60, NOW + 100 };
	expect(&s, GATE_INCONCLUSIVE, GATE_WAITS, "staffed hours");
	assert_int_equal(answer(&s).wake_at, NOW + 60);
	s.q.patch = true;
	expect(&s, GATE_PASS, GATE_GOES_ON, "patch");
	plan_done(&s.plan);
}

static void on_inconclusive_has_a_deadline(void **state)
{
	struct scene s;

	(void) state;
	set_scene(&s, "{http: {url: 'https://example.org/'}, on_inconclusive: wait, deadline: 11m}");
	expect(&s, GATE_INCONCLUSIVE, GATE_WAITS, "nothing was seen");
	assert_int_equal(answer(&s).wake_at, NOW - 600 + 660);
	s.q.now = NOW + 60;
	expect(&s, GATE_INCONCLUSIVE, GATE_PAUSES, "deadline");
	s.q.due = false; /* before it is due there is none */
	expect(&s, GATE_INCONCLUSIVE, GATE_WAITS, "");
	plan_done(&s.plan);
	set_scene(&s, "{http: {url: 'https://example.org/'}, on_inconclusive: pass, deadline: 11m}");
	expect(&s, GATE_INCONCLUSIVE, GATE_WAITS, "nothing was seen");
	s.q.now = NOW + 60;
	/* It runs while somebody listens: what nobody looked at for a night was not looked at in vain. */
	s.q.listens_since = NOW;
	expect(&s, GATE_INCONCLUSIVE, GATE_WAITS, "nothing was seen");
	assert_int_equal(answer(&s).wake_at, NOW + 660);
	s.q.listens_since = NOW - 600;
	expect(&s, GATE_INCONCLUSIVE, GATE_GOES_ON, "without");
	plan_done(&s.plan);
}

/* --- in the schedule --- */

struct fleet {
	struct plan plan;
	struct schedule_stage stages[2];
	struct schedule_member members[4];
	struct gate_look looks[8];
	struct gate_facts facts[2];
	struct schedule_input in;
};

static void set_fleet(struct fleet *f, const char *gates)
{
	*f = (struct fleet){ .plan = plan_with(gates),
			     .stages = { { .open = true, .opened_at = OPENED, .selected = 1 }, { .selected = 4 } },
			     .members = {
				     { .node = "n1", .state = MEMBER_GOOD, .since = OPENED + 60, .heard_at = NOW },
				     { .node = "n2", .stage = 1, .state = MEMBER_WAITING } } };
	for (size_t i = 0; i < f->plan.gate_count && i < 2; i++)
		f->facts[i] = (struct gate_facts){ .gate = i, .looks = f->looks + 4 * i };
	f->in = (struct schedule_input){ .plan = &f->plan,
					 .state = ROLLOUT_RUNNING,
					 .stages = f->stages,
					 .members = f->members,
					 .member_count = 2,
					 .now = NOW,
					 .gates = f->facts,
					 .gate_count = f->plan.gate_count };
}

static void see(struct fleet *f, size_t gate, enum gate_verdict said)
{
	f->looks[4 * gate + f->facts[gate].look_count++] =
		(struct gate_look){ .at = NOW - 1, .said = said, .text = "seen" };
}

static struct schedule_decision decide_for(const struct fleet *f)
{
	struct schedule_decision d, again;
	struct buf kept = BUF_INIT(100000);
	struct replay past;

	schedule(&f->in, &d);
	/* Every decision here is made again from what would be kept of it. */
	assert_int_equal(replay_write(&f->in, &kept), 0);
	assert_int_equal(replay_read(kept.data, kept.len, &f->plan, &past), 0);
	schedule(&past.input, &again);
	assert_int_equal(again.action, d.action);
	assert_string_equal(again.why, d.why);
	assert_int_equal(again.wake_at, d.wake_at);
	for (size_t i = 0; i < f->plan.gate_count; i++)
		assert_string_equal(again.gates[i].answer.text, d.gates[i].answer.text);
	replay_done(&past);
	buf_done(&kept);
	return d;
}

static void a_stage_opens_when_its_gates_hold(void **state)
{
	struct fleet f;
	struct schedule_decision d;

	(void) state;
	set_fleet(&f, "{http: {url: 'https://example.org/'}}, {ask: go on?}");
	d = decide_for(&f);
	assert_int_equal(d.action, SCHEDULE_NOTHING);
	assert_non_null(strstr(d.why, "the gate 'http' cannot tell: nothing was seen yet"));
	assert_true(d.gates[0].due);
	assert_false(d.gates[1].asked); /* a person is asked last */
	see(&f, 0, GATE_PASS);
	d = decide_for(&f);
	assert_int_equal(d.action, SCHEDULE_NOTHING);
	assert_non_null(strstr(d.why, "go on?"));
	assert_true(d.gates[1].answer.asks);
	f.facts[1].word = GATE_SAYS_PASS;
	f.facts[1].word_by = "kim";
	f.facts[1].word_reason = "fine";
	d = decide_for(&f);
	assert_int_equal(d.action, SCHEDULE_OPEN);
	assert_int_equal(d.stage, 1);
	assert_int_equal(d.built_in[BUILT_IN_NODES].answer.verdict, GATE_PASS);
	assert_int_equal(d.built_in[BUILT_IN_SOAK].answer.verdict, GATE_PASS);
	plan_done(&f.plan);
}

static void a_failing_gate_halts_at_once(void **state)
{
	struct fleet f;
	struct schedule_decision d;

	(void) state;
	set_fleet(&f, "{http: {url: 'https://example.org/', failures: 1}}, {command: {argv: [/bin/true]}}");
	f.members[0].state = MEMBER_UNDER_WAY;
	see(&f, 0, GATE_FAIL);
	d = decide_for(&f);
	assert_int_equal(d.action, SCHEDULE_HALT);
	assert_non_null(strstr(d.why, "the gate 'http' fails"));
	f.plan.on_failure = PLAN_PAUSE;
	assert_int_equal(decide_for(&f).action, SCHEDULE_PAUSE);
	/* One that is asked only of a proved stage is not asked yet. */
	f.facts[0].look_count = 0;
	see(&f, 0, GATE_PASS);
	see(&f, 1, GATE_FAIL);
	assert_int_equal(decide_for(&f).action, SCHEDULE_NOTHING);
	f.members[0].state = MEMBER_GOOD;
	assert_int_equal(decide_for(&f).action, SCHEDULE_PAUSE);
	plan_done(&f.plan);
}

static void the_last_stage_has_gates_too(void **state)
{
	struct fleet f;

	(void) state;
	set_fleet(&f, "{ask: done?}");
	f.stages[1].open = true;
	f.stages[1].opened_at = OPENED;
	f.members[1].state = MEMBER_GOOD;
	f.members[1].since = OPENED;
	assert_int_equal(decide_for(&f).action, SCHEDULE_NOTHING);
	f.facts[0].word = GATE_SAYS_PASS;
	assert_int_equal(decide_for(&f).action, SCHEDULE_DONE);
	f.facts[0].word = GATE_SAYS_FAIL;
	assert_int_equal(decide_for(&f).action, SCHEDULE_HALT);
	plan_done(&f.plan);
}

static void failures_count_by_class_and_share(void **state)
{
	struct fleet f;

	(void) state;
	set_fleet(&f, "");
	f.plan.max_failures = 100;
	f.plan.max_failure_share = 3400;
	f.plan.max_node_failures = 100;
	f.plan.max_node_failure_share = 6700;
	for (size_t i = 0; i < 4; i++)
		f.members[i] = (struct schedule_member){ .node = "n", .stage = i > 2, .state = MEMBER_GOOD };
	f.in.member_count = 4;
	f.members[0].state = MEMBER_FAILED; /* one of three of the stage */
	assert_int_equal(decide_for(&f).action, SCHEDULE_OPEN);
	f.plan.max_failure_share = 3333;
	assert_int_equal(decide_for(&f).action, SCHEDULE_HALT);
	assert_non_null(strstr(decide_for(&f).why, "1 of 3 nodes of stage 'one' failed, 33.33% are borne"));
	/* What fails by itself condemns nothing, but in such numbers the stage does not go on. */
	f.plan.max_failure_share = 0;
	f.members[0].state = f.members[1].state = MEMBER_FAILED_NODE;
	assert_int_equal(decide_for(&f).action, SCHEDULE_OPEN);
	f.plan.max_node_failure_share = 6600;
	assert_int_equal(decide_for(&f).action, SCHEDULE_PAUSE);
	f.plan.on_node_failure = PLAN_HALT;
	assert_int_equal(decide_for(&f).action, SCHEDULE_HALT);
	f.in.waived = 1u << BUILT_IN_NODE_FAILURES;
	assert_int_equal(decide_for(&f).action, SCHEDULE_OPEN);
	assert_int_equal(decide_for(&f).built_in[BUILT_IN_NODE_FAILURES].answer.verdict, GATE_FAIL);
	plan_done(&f.plan);
}

static void silent_nodes_are_left_behind_within_a_limit(void **state)
{
	struct fleet f;
	struct schedule_decision d;

	(void) state;
	set_fleet(&f, "");
	f.plan.silent_after_s = 1800;
	f.members[0] = (struct schedule_member){ .node = "n1", .state = MEMBER_GOOD, .since = OPENED };
	for (size_t i = 1; i < 4; i++)
		f.members[i] = (struct schedule_member){ .node = i == 1	  ? "n2"
								 : i == 2 ? "n3"
									  : "n4",
							 .state = MEMBER_WAITING,
							 .silent = true,
							 .heard_at = OPENED + 10 * (int64_t) i };
	f.in.member_count = 3;
	assert_int_equal(decide_for(&f).action, SCHEDULE_NOTHING);
	f.plan.max_silent = 2;
	assert_int_equal(decide_for(&f).action, SCHEDULE_OPEN);
	f.in.member_count = 4;
	assert_int_equal(decide_for(&f).action, SCHEDULE_NOTHING);
	f.plan.max_silent_share = 7500;
	assert_int_equal(decide_for(&f).action, SCHEDULE_OPEN);
	/* One that was heard and does nothing is waited for. */
	f.members[3].silent = false;
	assert_int_equal(decide_for(&f).action, SCHEDULE_NOTHING);
	f.members[3].silent = true;
	/* Too many for too long: a person looks. */
	f.plan.max_silent_share = 0;
	f.plan.silent_deadline_s = 5411;
	d = decide_for(&f);
	assert_int_equal(d.action, SCHEDULE_NOTHING);
	assert_int_equal(d.wake_at, OPENED + 10 + 1800 + 5411);
	f.in.now = d.wake_at;
	d = decide_for(&f);
	assert_int_equal(d.action, SCHEDULE_PAUSE);
	assert_non_null(strstr(d.why, "n2 was not heard"));
	f.in.waived = 1u << BUILT_IN_SILENT; /* they are left behind */
	assert_int_equal(decide_for(&f).action, SCHEDULE_OPEN);
	plan_done(&f.plan);
}

static void numbers_are_short_and_the_same(void **state)
{
	static const double values[] = { 0, 0.1, -0.25, 1e300, 1.0 / 3, 123456789.123456789, 1e-300 };

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		char text[32];
		double again = 7;

		gate_number(text, values[i]);
		assert_true(gate_parse_number(text, &again));
		assert_true(again >= values[i] && again <= values[i]);
	}
	for (int i = 0; i < 3; i++) {
		char text[32];

		gate_number(text, i == 0 ? NAN : i == 1 ? INFINITY : -INFINITY);
		assert_string_equal(text, "0"); /* what is none cannot be read again */
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind_is_read_and_written_as_the_same),
		cmocka_unit_test(what_a_gate_says_stands_in_the_plan),
		cmocka_unit_test(a_bad_gate_is_named_with_its_line),
		cmocka_unit_test(a_stage_has_gates_of_its_own),
		cmocka_unit_test(nodes_read_nothing_of_it),
		cmocka_unit_test(without_data_nothing_passes),
		cmocka_unit_test(bounds_hold_for_what_prometheus_says),
		cmocka_unit_test(successes_in_a_row_or_of_so_many),
		cmocka_unit_test(a_command_says_what_it_says),
		cmocka_unit_test(quiet_is_only_what_was_watched),
		cmocka_unit_test(health_counts_nodes),
		cmocka_unit_test(persons_are_asked_in_their_hours),
		cmocka_unit_test(the_word_of_a_person_counts),
		cmocka_unit_test(staffed_is_a_gate_too),
		cmocka_unit_test(on_inconclusive_has_a_deadline),
		cmocka_unit_test(a_stage_opens_when_its_gates_hold),
		cmocka_unit_test(a_failing_gate_halts_at_once),
		cmocka_unit_test(the_last_stage_has_gates_too),
		cmocka_unit_test(failures_count_by_class_and_share),
		cmocka_unit_test(silent_nodes_are_left_behind_within_a_limit),
		cmocka_unit_test(numbers_are_short_and_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
