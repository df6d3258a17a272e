/*
 * db_events - the timeline, which only grows. Read db.h first.
 */
#ifndef SELFRIGHT_INGEST_DB_EVENTS_H
#define SELFRIGHT_INGEST_DB_EVENTS_H

#include "base/attr.h"

#include <stddef.h>
#include <stdint.h>

struct db;

struct db_event {
	int64_t id, at;
	const char *kind, *node, *component, *text, *detail; /* node, component, detail (JSON) may be NULL */
};
NODISCARD int db_event_add(struct db *db, const struct db_event *e);
/* Those after `id`, oldest first, at most `limit`. */
NODISCARD int db_events_after(struct db *db, int64_t id, size_t limit,
			      int (*each)(void *user, const struct db_event *row), void *user);
int64_t db_last_event(const struct db *db);

#endif
