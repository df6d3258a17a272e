/*
 * replay - what the scheduler judged, written down, so that any past decision can be made again.
 *
 * schedule() is a pure function: with its plan and what was written here, schedule(read(write(in))) says what it said
 * then, and with a later `now` what it would have said while nothing else happened. What was written before there
 * were gates is read as it was.
 */
#ifndef SELFRIGHT_ROLLOUT_REPLAY_H
#define SELFRIGHT_ROLLOUT_REPLAY_H

#include "base/attr.h"
#include "base/buf.h"
#include "server-stub/rollout/schedule.h"

struct json;

/* Everything of `in` but the plan, as JSON text; appended. */
NODISCARD int replay_write(const struct schedule_input *in, struct buf *out);

struct replay {
	struct json *doc; /* the members' strings are its */
	struct schedule_stage stages[PLAN_STAGES_MAX];
	struct schedule_member *members;
	struct gate_facts gates[GATES_MAX];
	struct gate_look *looks; /* of all gates */
	struct schedule_input input;
};
/* -ERR_FIELD_*, -ERR_SYNTAX: not what replay_write writes, or of another plan. `ret` is the caller's after 0. */
NODISCARD int replay_read(const void *text, size_t len, const struct plan *plan, struct replay *ret);
void replay_done(struct replay *r);

#endif
