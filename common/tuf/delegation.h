/*
 * delegation - inside common/tuf: from a delegation to the verified file of its role.
 */
#ifndef SELFRIGHT_TUF_DELEGATION_H
#define SELFRIGHT_TUF_DELEGATION_H

#include "tuf/tuf.h"

#include "base/attr.h"

#include <stdbool.h>

struct fetcher;
struct json;
struct role_file;

/* One delegation: which role, whose keys, which paths. */
struct delegation {
	const struct json *keys; /* of the delegating role */
	const struct json *role; /* with keyids and threshold */
	char name[TUF_ROLE_NAME_MAX + 1];
	bool terminating;
};

/*
 * The file of a delegated role, verified with the keys of the role that delegates
 * on this path, also when another path has led here before. Asked for at most once
 * between two refreshes; borrowed until the next one.
 */
NODISCARD int delegation_load(struct tuf_client *c, struct fetcher *f, const struct delegation *d,
			      const struct role_file **ret);

/* The entry of `targets` that lists a path, from interpreted metadata. -ERR_NAME for a path longer than any we take. */
NODISCARD int target_from_entry(const char *path, const struct json *entry, const char *role,
				struct tuf_target *ret);

#endif
