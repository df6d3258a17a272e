/*
 * schedule - what a rollout does next, and if nothing, why not.
 *
 * A pure function of plan, stages, what each node is known to have done, and
 * time: no I/O, no clock. Stages open in order. The next one opens when every
 * node of the one before proved the release good, by nodes old enough to count,
 * and the soak since the last of them has passed; no data is never good news, so
 * it waits and says for whom; then the plan's gates have to hold (gate.h). Failures
 * over a limit, and a gate that fails, halt (or pause) the rollout, whatever else
 * holds. Only a running rollout does anything.
 */
#ifndef SELFRIGHT_ROLLOUT_SCHEDULE_H
#define SELFRIGHT_ROLLOUT_SCHEDULE_H

#include "model/rollout.h"
#include "server-stub/rollout/plan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(id, "name", "sentence behind a node's name") */
#define MEMBER_STATES(X)                                                                                          \
	X(WAITING, "waiting", "has not started")                                                                  \
	X(UNDER_WAY, "under-way", "is under way")                                                                 \
	X(GOOD, "good", "is good")                                                                                \
	X(UNPROVEN, "unproven", "runs it, but no check proved it")                                                \
	X(FAILED, "failed", "failed by the release")                                                              \
	X(FAILED_NODE, "failed-node", "failed by itself or its network")                                          \
	X(LOST, "lost", "went silent in the middle of the update")                                                \
	X(BLOCKED, "blocked", "will not take it")                                                                 \
	X(EXCUSED, "excused", "is held by support and not waited for")                                            \
	X(SKIPPED, "skipped", "was skipped by a person and is not waited for")                                    \
	X(QUARANTINED, "quarantined", "is in quarantine and does not count")

enum member_state {
#define MEMBER_ENUM_(id, name, sentence) MEMBER_##id,
	MEMBER_STATES(MEMBER_ENUM_)
#undef MEMBER_ENUM_
		MEMBER_STATE_COUNT,
};
const char *member_state_name(enum member_state s);
const char *member_state_sentence(enum member_state s);

/* What is known of one node for one rollout, as the database tells it. */
struct member_facts {
	bool quarantined;
	bool excused; /* an order of support keeps it away */
	int64_t skipped_at; /* a person said then that it is not waited for; 0: nobody */
	const char *target; /* the release's version */
	const char *version; /* reported; NULL: absent or unknown */
	const char *under_way_to, *under_way_state; /* NULL: nothing under way for this component */
	const char *why; /* reason it gives for waiting; NULL */
	uint64_t result; /* catalogue number of its newest result of this rollout; 0: none */
	int64_t result_at; /* when it came */
	int64_t reported_at; /* newest report; 0: never */
	int64_t opened_at; /* of its stage */
	int64_t now;
	uint64_t silent_after_s;
	int64_t listens_since; /* as in schedule_input */
};
/*
 * A controller that comes up, or wakes, hears within this time what its nodes had to say while nobody listened: what
 * waits is sent at once, and nodes without a broker ask every 15 minutes.
 */
enum { SCHEDULE_CATCH_UP_S = 20 * 60 };
/* When a node that tells nothing begins to be silent, for a controller that listens since then. */
int64_t member_silent_at(const struct member_facts *f);
struct member_verdict {
	enum member_state state;
	bool silent; /* no report for longer than silent_after since its stage opened, and somebody listened */
	int64_t since; /* GOOD: when that became known */
};
struct member_verdict member_judge(const struct member_facts *f);
/*
 * One verdict for all that is swapped together: `main` is that of the rollout's component, `f` says what is known of
 * another one, which has a result of its own only if something happened to it alone (after the common update, whose
 * result is the main one's: `told`). *ret_other (may be NULL): the other one's stands.
 */
struct member_verdict member_judge_with(struct member_verdict main, bool told, const struct member_facts *f,
					bool *ret_other);

struct schedule_member {
	const char *node;
	size_t stage; /* the first that selects it */
	enum member_state state;
	bool silent;
	int64_t since;
	int64_t added_at;
	const char *detail; /* for the why-not sentence; may be NULL */
	int64_t heard_at; /* the later of its newest report and its stage's opening; 0: not open */
	const char *failing; /* a check that fails in its newest report, NULL: none; since when it did in all */
	int64_t failing_at;
	const char *degraded; /* one that neither passes nor fails; NULL: none */
	uint64_t restarts; /* of the node since its stage opened */
};

struct schedule_stage {
	bool open;
	int64_t opened_at;
	size_t selected; /* nodes it selects, also those of earlier stages */
	/* Of a stage with a zone: when the plan's window is open there, from now on. 0: it may open; -1: nobody knows. */
	int64_t opens_at;
};

struct schedule_input {
	const struct plan *plan;
	enum rollout_state state;
	const struct schedule_stage *stages; /* as many as the plan has */
	const struct schedule_member *members;
	size_t member_count;
	int64_t now;
	/* Since then the controller has listened without a gap, and since then its clock was not set; 0: always. */
	int64_t listens_since, clock_set_at;
	/* Of the stage that is open last; for the others nothing is asked any more. */
	const struct gate_facts *gates;
	size_t gate_count;
	struct gate_duty duty;
	unsigned waived; /* bit of enum schedule_built_in: a person bears it in this stage */
};

/* What every stage has: X(id, "name"). */
#define SCHEDULE_BUILT_IN(X)                                                                                      \
	X(FAILURES, "failures")                                                                                   \
	X(NODE_FAILURES, "node-failures")                                                                         \
	X(NODES, "nodes")                                                                                         \
	X(SILENT, "silent")                                                                                       \
	X(SOAK, "soak")
enum schedule_built_in {
#define SCHEDULE_BUILT_IN_(id, name) BUILT_IN_##id,
	SCHEDULE_BUILT_IN(SCHEDULE_BUILT_IN_)
#undef SCHEDULE_BUILT_IN_
		BUILT_IN_COUNT,
};
const char *schedule_built_in_name(enum schedule_built_in b);

/* What one gate of the stage answered. */
struct schedule_gate {
	bool asked; /* else it is not its turn yet */
	bool due; /* its stage is proved: it must hold now */
	struct gate_answer answer;
};

enum schedule_action { SCHEDULE_NOTHING, SCHEDULE_OPEN, SCHEDULE_HALT, SCHEDULE_PAUSE, SCHEDULE_DONE };

struct schedule_decision {
	enum schedule_action action;
	size_t stage; /* SCHEDULE_OPEN: which; otherwise the one it is about */
	uint32_t undo; /* SCHEDULE_HALT: bits of the stages that the plan takes back without asking */
	char why[512]; /* reason of a halt or pause; for NOTHING what it waits for */
	int64_t wake_at; /* NOTHING: when time alone may change the answer; 0: never */
	/* The answers, for the record: of the stage that is open last. */
	bool judged; /* there is such a stage: */
	size_t judged_stage;
	struct schedule_gate built_in[BUILT_IN_COUNT];
	struct schedule_gate gates[GATES_MAX]; /* by gate of the plan */
};

void schedule(const struct schedule_input *in, struct schedule_decision *ret);

#endif
