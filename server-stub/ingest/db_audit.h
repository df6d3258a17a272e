/*
 * db_audit - who did what, in entries that only grow. Read db.h first.
 */
#ifndef SELFRIGHT_INGEST_DB_AUDIT_H
#define SELFRIGHT_INGEST_DB_AUDIT_H

#include "base/attr.h"

#include <stddef.h>
#include <stdint.h>

struct db;

/* Each entry holds the hash of the one before: nobody changes one unseen without rewriting all that follow. */
NODISCARD int db_audit(struct db *db, int64_t at, const char *by, const char *action, const char *detail);
/* 0 and the number of entries, or -ERR_DIGEST and the first that does not fit. */
NODISCARD int db_audit_verify(struct db *db, uint64_t *ret_entries);

struct db_audit_entry {
	int64_t id, at;
	const char *by, *action, *detail, *hash;
};
NODISCARD int db_audit_after(struct db *db, int64_t id, size_t limit,
			     int (*each)(void *user, const struct db_audit_entry *row), void *user);

#endif
