/*
 * gate - what must hold before a rollout goes on from one stage to the next, or is done.
 *
 *   gates:                            # of the plan: at the end of every stage; a stage's own list: of that one alone
 *     require:
 *       - name: front-door            # default: the kind
 *         http: {url: https://www.example.org/health, body: ok, within: 2s, successes: 3}
 *         every: 1m                   # how often it is looked at
 *         when: open                  # from the stage's opening on, or once it is `proved`
 *         on_inconclusive: wait       # ask, pass
 *         deadline: 4h                # wait, ask: then the rollout is paused; pass: then it goes on without
 *       - prometheus: {server: main, query: 'sum(rate(errors[5m]))', max: 0.5, over: 30m}
 *       - alerts: {server: main, labels: {severity: page}, for: 4h}
 *       - command: {argv: [/usr/local/lib/checks/smoke, web], timeout: 1m}
 *       - health: {max_failing: 0, max_restarting: 1}
 *       - metric: {check: errors, effect: 20%}    # metric.h
 *       - approvals: true             # those that the policies ask for in the next stage are there
 *       - staffed: true               # it is a time at which somebody is on duty
 *       - ask: does the change board agree?
 *
 * A gate answers pass, fail or inconclusive. gate_judge() is a pure function of the plan, of what was observed and
 * written down before, and of time, so that every answer can be made again. Outside things (a page, Prometheus, a
 * command) are looked at by a runner of their own, and what it saw comes from the database. No data is
 * inconclusive. A failing gate stops the rollout as the plan's on_failure says, from the moment it is looked at;
 * one that is inconclusive when its stage is proved does what its on_inconclusive says. Persons are asked last,
 * in staffed hours, but for a patch at once.
 *
 * A new kind: a line in GATE_KINDS, its member in struct gate, its row in gate.c, its function in gate_judge.c.
 */
#ifndef SELFRIGHT_ROLLOUT_GATE_H
#define SELFRIGHT_ROLLOUT_GATE_H

#include "base/attr.h"
#include "model/labels.h"
#include "model/rollout.h"
#include "server-stub/rollout/compare.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conf;
struct conf_error;
struct json_node;
struct schedule_member;

/* X(id, "name"): in the order in which they are asked; persons last. */
#define GATE_KINDS(X)                                                                                             \
	X(HEALTH, "health")                                                                                       \
	X(METRIC, "metric")                                                                                       \
	X(PROMETHEUS, "prometheus")                                                                               \
	X(HTTP, "http")                                                                                           \
	X(COMMAND, "command")                                                                                     \
	X(ALERTS, "alerts")                                                                                       \
	X(STAFFED, "staffed")                                                                                     \
	X(APPROVALS, "approvals")                                                                                 \
	X(PERSON, "ask")

enum gate_kind {
#define GATE_ENUM_(id, name) GATE_##id,
	GATE_KINDS(GATE_ENUM_)
#undef GATE_ENUM_
		GATE_KIND_COUNT,
};
const char *gate_kind_name(enum gate_kind k);

/* Nothing is the inconclusive one. */
enum gate_verdict { GATE_INCONCLUSIVE, GATE_PASS, GATE_FAIL };
const char *gate_verdict_name(enum gate_verdict v);
int gate_verdict_parse(const char *name); /* -1: none */

enum gate_policy { GATE_WAIT, GATE_ASK, GATE_TAKE /* pass */ };
const char *gate_policy_name(enum gate_policy p);

enum { GATES_MAX = 32, GATE_ARGS_MAX = 32, GATE_TEXT = 320, GATE_LOOKS_KEPT = 60 };
#define GATE_EVERY_STAGE SIZE_MAX

struct gate_bound {
	bool set;
	double value;
};

enum gate_take { GATE_AVERAGE, GATE_LAST, GATE_HIGHEST, GATE_LOWEST };

struct gate {
	char *name;
	enum gate_kind kind;
	size_t stage; /* of the plan, or GATE_EVERY_STAGE */
	bool from_opening; /* else once the stage is proved */
	uint64_t every_s;
	enum gate_policy on_inconclusive;
	bool has_deadline;
	uint64_t deadline_s;
	union {
		struct {
			uint64_t max_failing, max_degraded, max_restarting; /* nodes; UINT64_MAX: not judged */
			uint64_t grace_s; /* a check that fails for no longer is not failing yet */
			uint64_t restarts; /* more since its stage opened: restarting */
		} health;
		struct {
			char *check, *component; /* component NULL: the rollout's */
			struct compare_rule rule;
			uint64_t over_s;
			double alpha;
		} metric;
		struct {
			char *server, *query; /* a name of gates.yaml; PromQL */
			struct gate_bound min, max;
			enum gate_take take; /* of the samples of one series */
			uint64_t over_s, step_s, samples, timeout_s; /* samples: at least, of every series */
		} prometheus;
		struct {
			char *url, *body, *ca_file; /* what the body holds; NULL: any. NULL: the system's CAs */
			uint64_t status, within_ms, timeout_s; /* within_ms 0: no bound */
			/* `of` 0: in a row; else of the last `of`. `failures` in a row fail it, without `of`. */
			uint64_t successes, of, failures;
		} http;
		struct {
			char *argv[GATE_ARGS_MAX + 1]; /* NULL-terminated */
			uint64_t timeout_s;
		} command;
		struct {
			char *server;
			struct labels labels; /* those of alerts that count */
			uint64_t for_s, timeout_s;
		} alerts;
		struct {
			char *question;
		} person;
	} u;
};

/* One of a list. `stage`: as in struct gate. `ret` has to be done with gate_done also after a failure. -ERR_CONFIG, -ENOMEM. */
NODISCARD int gate_read(const struct conf *map, size_t stage, struct gate *ret, struct conf_error *e);
void gate_done(struct gate *g);
/* gate_read(write(g)) equals g. */
void gate_write(const struct gate *g, struct json_node *object);

/* Has somebody outside to be looked at for it? */
bool gate_looks_outside(const struct gate *g);

/* What one look saw, as it is kept. */
struct gate_look {
	int64_t at;
	enum gate_verdict said; /* by itself: for http and commands, and what was looked up inside */
	/* prometheus: extremes over all series, and the fewest samples of one; alerts: those firing since the opening,
	   and those from before; metric: the difference, and the chance of it (above 1: no test), of so many nodes */
	double low, high;
	uint64_t samples;
	int64_t since; /* alerts: what it says holds from then on; metric: what it looked at ends there */
	const char *text; /* a sentence */
	const char *data; /* JSON for the record; NULL: none. Not judged. */
};

enum gate_word { GATE_NO_WORD, GATE_SAYS_PASS, GATE_SAYS_FAIL, GATE_SAYS_WAIVE };
const char *gate_word_name(enum gate_word w);
int gate_word_parse(const char *name);

/* What is known of one gate of the stage that is judged. */
struct gate_facts {
	size_t gate; /* in the plan's list */
	int64_t due_at; /* since when it is asked; 0: not yet */
	int64_t asked_at; /* a person; 0: not yet */
	const struct gate_look *looks; /* oldest first */
	size_t look_count;
	enum gate_word word; /* of a person */
	int64_t word_at;
	const char *word_by, *word_reason;
};

/* When somebody is on duty next, from the moment of the question on. */
struct gate_duty {
	bool known; /* there is a calendar; else always */
	int64_t from, until; /* 0, 0: not within its reach */
};

struct gate_question {
	const struct gate *gate;
	const struct gate_facts *facts; /* NULL: nothing is known */
	const struct gate_duty *duty;
	const struct schedule_member *members; /* of all stages */
	size_t member_count;
	size_t stage;
	int64_t opened_at, now;
	int64_t listens_since; /* the controller, without a gap; 0: always */
	bool due; /* its stage is proved: it must hold */
	bool patch;
};

/* What it means for the rollout. */
enum gate_step { GATE_GOES_ON, GATE_WAITS, GATE_PAUSES, GATE_STOPS /* as on_failure says */ };

struct gate_answer {
	enum gate_verdict verdict;
	enum gate_step step;
	bool asks; /* a person is to be asked now: note that in facts.asked_at */
	char text[GATE_TEXT]; /* a sentence, with what it judged */
	int64_t wake_at; /* when time alone may change it; 0: never */
};
void gate_judge(const struct gate_question *q, struct gate_answer *ret);

/* A number as short as it can be written and read again as the same; what is none is 0. */
void gate_number(char out[static 32], double value);
/* Plain decimal, as in YAML and JSON: no "inf", no hexadecimal. */
bool gate_parse_number(const char *text, double *ret);

#endif
