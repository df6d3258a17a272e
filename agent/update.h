/*
 * update - the table of states (DESIGN.md section 8) and the walk through it.
 *
 *   idle -> planned -> staging -> staged -> waiting -> stopping -> swapping -> [rebooting]
 *        -> probation -> good -> (watch) -> idle
 *
 * One row per state. A transition is in the journal before the next phase starts;
 * a restart finds it there and the row says how to go on.
 */
#ifndef SELFRIGHT_AGENT_UPDATE_H
#define SELFRIGHT_AGENT_UPDATE_H

#include "base/attr.h"
#include "model/report.h"

#include <stdbool.h>
#include <stdint.h>

struct node;

/* What a restarted agent does with an update it finds in this state. */
enum wake_up {
	WAKE_IDLE, /* there is none */
	WAKE_PLAN, /* nothing has changed yet: plan it anew, under the same id */
	WAKE_AGAIN, /* run the state again from its beginning */
	WAKE_LOOK, /* look at what the link says, then run it again */
};

struct state_row {
	int (*run)(struct node *n); /* NULL: nothing to do here, go on */
	enum update_state success, failure;
	bool swapped; /* the point of no return is behind us */
	bool announce; /* worth a report of its own when entered */
	enum wake_up wake;
	uint64_t deadline_ms; /* 0: none; passing it is a failure */
};

/* Never NULL for a state of the enum. */
const struct state_row *update_row(enum update_state s);

/* Take up what the journal holds after a start. Does not run it yet. */
NODISCARD int update_resume(struct node *n);

/* Go as far as it goes without waiting; then attempt.wake_ms and plan_ms say when to come again. */
void update_step(struct node *n);

/*
 * A component that is watched beside others fails its checks: it goes back alone to what it was before, with those
 * that need it as it is, by a generation composed of the current one. Between another update's stop and
 * its verdict nothing happens: say it again.
 */
void update_regress(struct node *n, const char *component, const char *why);

/*
 * Somebody at the console wants `component` back on `to` (NULL: the newest that was
 * good before), `data` as it was copied when that was left: who stands there needs no leave of components.d, and
 * where no copy is kept nothing begins. In a probation data comes back as the release declared it.
 * 0 and the update runs; negative with the reason in `ret_refusal`.
 */
NODISCARD int update_rollback(struct node *n, const char *component, const char *to, bool data, const char *reason,
			      char *ret_refusal, size_t size);

#endif
