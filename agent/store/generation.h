/*
 * generation - the complete sets of component versions, and the one that is current.
 *
 * generations/<n>/<component> -> ../../store/<component>/<version>, and in the
 * root folder current -> generations/<n>. A generation is made whole under
 * "<n>.partial" and renamed; it is never changed afterwards. Absent components
 * have no link. Switching is one rename.
 */
#ifndef SELFRIGHT_STORE_GENERATION_H
#define SELFRIGHT_STORE_GENERATION_H

#include "base/attr.h"
#include "base/text.h"
#include "base/version.h"
#include "os/os.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GENERATION_COMPONENTS_MAX = 64 };

struct generation_entry {
	char component[ID_MAX + 1];
	char version[VERSION_MAX + 1]; /* "" in changes: absent */
};

struct generation {
	struct generation_entry entries[GENERATION_COMPONENTS_MAX]; /* sorted by component, none absent */
	size_t count;
};

/* The version of a component, "" if it is absent. Borrowed from `g`. */
const char *generation_version(const struct generation *g, const char *component);
bool generation_equals(const struct generation *a, const struct generation *b);

/*
 * `ret` is `base` (NULL: empty) but for the changes, of which a version "" removes. -ERR_NAME,
 * -ERR_DUPLICATE_NAME (a component twice in the changes), -ERR_TOO_LARGE. `ret` may be `base`.
 */
NODISCARD int generation_compose(const struct generation *base, const struct generation_entry *changes,
				 size_t count, struct generation *ret);

/*
 * Make generation `n` (1 or more) durable below `generations_fd`. One that is there and equal
 * is fine; -EEXIST if it is there and differs. On failure it is not there or whole.
 */
NODISCARD int generation_create(const struct os *os, int generations_fd, uint64_t n, const struct generation *g);

/* -ENOENT; -ERR_TREE if it holds anything but our links. */
NODISCARD int generation_read(const struct os *os, int generations_fd, uint64_t n, struct generation *ret);

/* Which one is current. -ENOENT: none yet; -ERR_TREE if the link is not ours. */
NODISCARD int generation_current(const struct os *os, int root_fd, uint64_t *ret);

/*
 * The moment of change: `current` names generation `n` after one rename, durable on return of 0.
 * It must be there (-ENOENT). On failure the link is whole but may be either: look.
 */
NODISCARD int generation_switch(const struct os *os, int root_fd, uint64_t n);

/* Remove one; missing is fine. That it is not current is the caller's to know. */
NODISCARD int generation_remove(const struct os *os, int generations_fd, uint64_t n);

/* All that are there, ascending; free *ret. */
NODISCARD int generation_list(const struct os *os, int generations_fd, uint64_t **ret, size_t *ret_count);

#endif
