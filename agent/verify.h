/*
 * verify - is every stored tree still the one that was signed? Read-only, with or without an agent.
 */
#ifndef SELFRIGHT_AGENT_VERIFY_H
#define SELFRIGHT_AGENT_VERIFY_H

#include "base/attr.h"
#include "base/text.h"
#include "base/version.h"

#include <stdbool.h>
#include <stddef.h>

struct verified_tree {
	char component[ID_MAX + 1], version[VERSION_MAX + 1];
	bool current; /* it is what the component runs */
	bool by_manifest; /* held against the signed digest; else against the one recorded at its sealing */
	int result; /* 0, or the error: -ERR_TREE, -ENOENT ... */
	char offender[256]; /* the entry that is to blame, "" */
};

/*
 * Hash the trees below `root`: all, or those of one component, or one version (NULL: all), each handed
 * to `each`. 0, or -ENOENT if there is none; errors of reading the folders themselves.
 */
NODISCARD int verify_trees(const char *root, const char *component, const char *version,
			   void (*each)(void *user, const struct verified_tree *t), void *user);

#endif
