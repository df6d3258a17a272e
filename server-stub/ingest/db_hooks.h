/*
 * db_hooks - who outside is told what happens: each hook's place in the timeline. Read db.h first.
 */
#ifndef SELFRIGHT_INGEST_DB_HOOKS_H
#define SELFRIGHT_INGEST_DB_HOOKS_H

#include "base/attr.h"

#include <stdint.h>

struct db;

struct db_hook {
	const char *name;
	int64_t event; /* told up to this one */
	uint64_t sent, left_out,
		failures; /* events told, events never told; messages in a row that were not taken */
	int64_t sent_at, failing_since; /* 0: never, not now */
	const char *error; /* of the newest failure; "": it works */
};
/* Durable, like every change: after 0 what was told is not told again by a start. */
NODISCARD int db_hook_set(struct db *db, const struct db_hook *h);
NODISCARD int db_hook_remove(struct db *db, const char *name);
NODISCARD int db_hooks(struct db *db, int (*each)(void *user, const struct db_hook *row), void *user);

#endif
