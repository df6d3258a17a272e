/*
 * canary - does the broker still keep what it was given to keep?
 *
 * What is retained is only a cache, but one that nodes hear first; a broker that failed over, or whose
 * administrator swept it, may have lost it behind a connection that stands. Now and then one retained
 * message is asked for again; if it does not come, in 30 s or before the next question would be due, all
 * are published anew. A broker that keeps nothing at all is asked ever more seldom. No clock and no I/O
 * of its own.
 */
#ifndef SELFRIGHT_CLI_CANARY_H
#define SELFRIGHT_CLI_CANARY_H

#include <stdbool.h>
#include <stdint.h>

enum { CANARY_EVERY_MS = 5 * 60 * 1000, CANARY_ANSWER_MS = 30 * 1000, CANARY_SELDOM_MS = 6 * 3600 * 1000 };

struct canary {
	uint64_t at_ms; /* the next step; 0: not on duty */
	uint64_t period_ms; /* how often it is asked while it keeps; 0: CANARY_EVERY_MS */
	uint64_t every_ms; /* how often now */
	bool asked;
};

/* Everything was published: on duty from now on. */
void canary_start(struct canary *c, uint64_t now);
/* No connection: nothing is known. */
void canary_stop(struct canary *c);
/* The retained message came. */
void canary_heard(struct canary *c, uint64_t now);

enum canary_step { CANARY_NOTHING, CANARY_ASK, CANARY_LOST };
/* What is due. After CANARY_LOST it is off duty until canary_start(). */
enum canary_step canary_step(struct canary *c, uint64_t now);

#endif
