/*
 * self - what is special about the component `agent`: it is the one that runs.
 *
 * It goes the way of every component. But behind the rename not a service starts but
 * another process, by hand-over: this one leaves, its supervisor starts the other, and
 * the other's probation ends with the word to the supervisor that it works.
 */
#ifndef SELFRIGHT_PHASE_SELF_H
#define SELFRIGHT_PHASE_SELF_H

#include "base/attr.h"

#include <stdbool.h>

struct node;
struct release;

/* Is the update under way one of the agent itself? */
bool self_is_updated(const struct node *n);

/* Are we this version of the component; "": the packaged agent? */
bool self_runs(const struct node *n, const char *version);

/* May this release of the agent be taken here? Called before a byte is fetched; update_fail()ed. */
NODISCARD int self_check(struct node *n, const struct release *rel);

/* Leave at the end of this turn, so that another agent follows. */
void self_hand_over(struct node *n);

/*
 * After a start in the middle of it: true if we are the one whose turn it is; else it is
 * to be undone, and the update says why.
 */
bool self_wake(struct node *n, bool target_is_current);

/*
 * DESIGN.md section 4 "Loss": if the trusted root has expired, or the agent's policy names it as lost, start
 * from the one that the installed agent's release carries, or the package. True if that was done: refresh then.
 */
bool self_replace_root(struct node *n);

/* Where another agent runs than the one that is current: say so, to the log and in the next report. */
void self_tell_difference(struct node *n);

/* The controller's answer to a question asked now; 1: it is there, 0: not yet. */
NODISCARD int self_ask_controller(struct node *n);

#endif
