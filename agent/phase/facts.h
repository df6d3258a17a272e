/*
 * facts - what `decide` (model/decide.h) is told of this node, and its answer.
 */
#ifndef SELFRIGHT_PHASE_FACTS_H
#define SELFRIGHT_PHASE_FACTS_H

#include "base/attr.h"
#include "model/decide.h"

struct node;
struct string_list;

/* The facts of `decide` for a component, and its answer. Strings live until documents or state change. */
struct decision node_decide(struct node *n, const char *component);

/* Every component that is installed, named by a rollout or by an order, sorted; string_list_done() it. */
NODISCARD int node_components(struct node *n, struct string_list *ret);

#endif
