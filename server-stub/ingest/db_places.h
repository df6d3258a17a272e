/*
 * db_places - nodes that are, or may be, down: by leave of this controller (DESIGN.md section 5 "Grant"), or by
 * what is known of them. Read db.h first.
 */
#ifndef SELFRIGHT_INGEST_DB_PLACES_H
#define SELFRIGHT_INGEST_DB_PLACES_H

#include "base/attr.h"

#include <stdbool.h>
#include <stdint.h>

struct db;

struct db_place {
	const char *node, *update, *rollout; /* a node has one place at most */
	const char *label, *value; /* its group when it was granted */
	uint64_t sequence; /* reports above it were made after the node asked; 0: it did not say */
	int64_t granted_at;
};
/* A place for this node, instead of the one it has. */
NODISCARD int db_place_put(struct db *db, const struct db_place *p);
/* Of one node, or with NULL of all, by node. */
NODISCARD int db_places(struct db *db, const char *node, int (*each)(void *user, const struct db_place *row),
			void *user);
NODISCARD int db_place_free(struct db *db, const char *node, unsigned *ret_count);
/* Has this update of the node ended, as its signed reports say? `sequence` as in db_place. */
NODISCARD int db_update_ended(struct db *db, const char *node, const char *update, uint64_t sequence, bool *ret);

/* Who of the group counts as down, and why; the group is those whose label has the value, "" those without it. */
struct db_down {
	const char *node, *reason; /* "is silent" */
};
NODISCARD int db_down(struct db *db, const char *label, const char *value, const char *except_node,
		      int64_t heard_after, int (*each)(void *user, const struct db_down *row), void *user);

#endif
