/*
 * trust - `selfright-agent trust`: look at what this node trusts, copy it for the fleet side
 * (`selfright repo recover --from`), and, with the person at the console as witness, start from
 * another root when the old one is lost (DESIGN.md section 4 "Loss").
 */
#ifndef SELFRIGHT_AGENT_TRUST_H
#define SELFRIGHT_AGENT_TRUST_H

#include "base/attr.h"

#include <stddef.h>

struct buf;
struct json_node;
struct node;

/* argv[0] is "trust". Returns the exit code. */
int trust_main(int argc, char **argv);

/* The engine's part of `trust replace`: the running client takes the root. What it is now goes into `o`, or a refusal into `answer`. */
void trust_answer_replace(struct node *n, const char *root, const char *sha256, struct buf *answer,
			  struct json_node *o);

#endif
