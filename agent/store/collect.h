/*
 * collect - what nobody needs any more is removed; what might be needed stays.
 */
#ifndef SELFRIGHT_STORE_COLLECT_H
#define SELFRIGHT_STORE_COLLECT_H

#include "base/attr.h"
#include "agent/store/generation.h"
#include "agent/store/store.h"

#include <stddef.h>
#include <stdint.h>

struct collect_options {
	size_t keep_versions; /* per component, those that must stay among them; 0: only those */
	const uint64_t
		*generations; /* kept besides the current one: target and fallback of the update under way */
	size_t generation_count;
	const struct generation_entry *claimed; /* versions under way: their tree and their .partial stay */
	size_t claimed_count;
};

struct collect_result {
	size_t generations, versions, leftovers;
};

/*
 * Remove generations other than the current one and those listed; versions beyond the
 * newest sealed `keep_versions` of their component that no remaining generation names and nobody
 * claims; `.partial` and `.pending` that nobody claims, records without a tree. If `current`
 * cannot be read, nothing is removed: -ERR_TREE. Failures to remove end it; a
 * later run goes on. `ret` may be NULL.
 */
NODISCARD int collect(const struct store *s, const struct collect_options *o, struct collect_result *ret);

#endif
