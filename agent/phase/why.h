/*
 * why - the one reason why a component is what it is, and the words around it, for the
 * console and for the report alike. The reason is decide()'s.
 */
#ifndef SELFRIGHT_PHASE_WHY_H
#define SELFRIGHT_PHASE_WHY_H

#include "model/decide.h"

#include <stdint.h>

struct node;

/* The answer of node_decide() with the waiting between attempts, until when, and a sentence for people; `detail` may be "". */
struct why {
	struct decision d;
	enum reason reason;
	int64_t until; /* 0: unknown */
	char detail[640];
};
struct why node_why(struct node *n, const char *component);

#endif
