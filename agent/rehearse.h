/*
 * rehearse - make one step of the next update fail, on a real node, to see what comes of it.
 *
 *   rehearse_init(&r, &n->os)                the node's system goes through it from now on
 *   rehearse_arm(&r, "swapping:kill")        once; gone with the process
 *   rehearse_enter(&r, STATE_SWAPPING)       as the table of states enters a state
 *
 * Faults: kill, the agent kills itself as the step begins; ENOSPC, EIO, EMFILE, ENOMEM, every
 * call that changes a file fails with it until the step ends.
 */
#ifndef SELFRIGHT_AGENT_REHEARSE_H
#define SELFRIGHT_AGENT_REHEARSE_H

#include "base/attr.h"
#include "model/report.h"
#include "os/os.h"

#include <stdbool.h>

struct rehearsal {
	struct os os; /* hand this out instead of the system */
	bool armed, active;
	enum update_state step;
	int error; /* 0: kill */
};

void rehearse_init(struct rehearsal *r);
/* "STEP:FAULT". -ERR_NAME: no such step, or no such fault. */
NODISCARD int rehearse_arm(struct rehearsal *r, const char *text);
void rehearse_enter(struct rehearsal *r, enum update_state s);

#endif
