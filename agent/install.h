/*
 * install - a bundle from a stick, applied under the rules that hold for the network.
 *
 * The bundle stands in for the repository: its metadata go through the whole TUF
 * workflow, `decide` says what this node should be, and the table of states does the
 * rest. If the metadata here are newer they are used, and the bundle only brings files.
 *
 *   install_begin(n, "/media/stick/web.tar", ...)    the engine's loop goes on
 *   while (!install_is_settled(n)) ...
 *   install_end(n)                                   n->installation says how it ended
 */
#ifndef SELFRIGHT_AGENT_INSTALL_H
#define SELFRIGHT_AGENT_INSTALL_H

#include "base/attr.h"

#include <stdbool.h>
#include <stddef.h>

struct node;

/* What `selfright-agent install` exits with beyond the codes of every command. */
enum { INSTALL_GOOD = 0, INSTALL_UNCHANGED = 1, INSTALL_UNDONE = 3, INSTALL_STUCK = 5 };

/* Open it (an absolute path) and read what it says. -EBUSY: another one is under way; others with a sentence. */
NODISCARD int install_begin(struct node *n, const char *path, char *ret_refusal, size_t size);

/* Has everything it led to come to an end, as far as it can now? */
bool install_is_settled(struct node *n);

/* Judge it, leave the signed report beside it (a stick that cannot be written is no failure), let go of it. */
void install_end(struct node *n);

#endif
