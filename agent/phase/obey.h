/*
 * obey - what orders say beside which version is to run: waiting that is lifted, versions that are sent away
 * for good, and the word to support where one cannot be followed.
 *
 * Each is done once, however often it is asked for: what was done is in the state, durable on return.
 */
#ifndef SELFRIGHT_PHASE_OBEY_H
#define SELFRIGHT_PHASE_OBEY_H

#include "base/attr.h"

struct decision;
struct node;

/* Orders that are done once; 1: a retry was among them. */
NODISCARD int obey_once(struct node *n);

/* An order that sends a version away holds for ever after, whatever becomes of the order. */
NODISCARD int obey_denial(struct node *n, const char *component, const struct decision *d);

/* Support hears once that an order cannot be followed; what it denies is denied all the same. */
NODISCARD int obey_refusal(struct node *n, const char *component, const struct decision *d);

#endif
