/*
 * outcome - how an update ends, and what else is told like a result.
 *
 * The first failure of an update is its reason: it is noted with the update, and logged, where it happens. At the end
 * it becomes one result for each component, which waits in the state until the controller has acknowledged it.
 */
#ifndef SELFRIGHT_PHASE_OUTCOME_H
#define SELFRIGHT_PHASE_OUTCOME_H

#include "base/attr.h"
#include "model/catalogue.h"

struct node;

/* Record the failure: number of the catalogue, a sentence; logged once. Returns r. */
int update_fail(struct node *n, int r, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* The same under a number of one's own choice. */
int update_fail_as(struct node *n, enum result number, int r, const char *fmt, ...) PRINTF_LIKE(4, 5);

/* The end of an update as a result of each of its components for the next reports, lines of the history, and of the log. */
NODISCARD int update_end(struct node *n, enum result number, const char *detail);

/*
 * Something outside an update was refused (a malformed document, metadata by the wrong
 * keys): a result for the next reports under an id of its own, once per sentence.
 * `component` NULL: the agent itself.
 */
NODISCARD int update_note(struct node *n, enum result number, const char *component, const char *rollout,
			  const char *detail);

/* What programs and others say, as one clean line of a report: in place. */
void outcome_clean(char *text);

#endif
