/*
 * manifest - the verified release.json of each stored version, kept beside the store.
 *
 * So services start, checks run and a way back is known without a network.
 */
#ifndef SELFRIGHT_PHASE_MANIFEST_H
#define SELFRIGHT_PHASE_MANIFEST_H

#include "base/attr.h"

#include <stddef.h>

struct node;
struct release;

/*
 * The manifest of a version that is in the store, kept beside it, strictly read
 * again. -ENOENT: none is kept.
 */
NODISCARD int manifest_load(struct node *n, const char *component, const char *version, struct release *ret);
/* Keep the verified bytes; durable on return. */
NODISCARD int manifest_keep(struct node *n, const char *component, const char *version, const void *bytes,
			    size_t len);
/* Drop those whose tree is gone. */
void manifest_collect(struct node *n);

#endif
