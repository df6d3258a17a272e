/*
 * db - the controller's database (SQLite; here only): opening it, and transactions. What is
 * in it has a header for each subject, db_*.h.
 *
 * WAL with synchronous=FULL: what a function answered 0 for is there after a
 * power cut, or, between db_begin and db_commit, all of it or nothing. The schema
 * is brought up to date at open; a newer one is refused (-ERR_AGENT_TOO_OLD).
 * In all db_*.h: strings in rows are borrowed for the time of the callback; a callback
 * returns 0 to go on, something positive to stop, or a negative error, which the function
 * then returns. Failures of SQLite are -ERR_DATABASE (-ENOSPC and -EIO where it says so)
 * with the words in db_error().
 */
#ifndef SELFRIGHT_INGEST_DB_H
#define SELFRIGHT_INGEST_DB_H

#include "base/attr.h"

#include <stdbool.h>
#include <stdint.h>

struct db;

/* Open or create; `path` may be ":memory:". */
NODISCARD int db_open(const char *path, struct db **ret);
void db_close(struct db *db);
DEFINE_FREEP(struct db *, db_close)
const char *db_error(const struct db *db); /* never NULL */

/* Transactions do not nest. Abort after commit does nothing. */
NODISCARD int db_begin(struct db *db);
NODISCARD int db_commit(struct db *db);
void db_abort(struct db *db);

/*
 * A batch: one wait for the disk for many changes. What is committed in it can be read at once and is
 * durable when db_batch_end answers 0; after any other answer nothing of the batch is there. An
 * abort undoes its own transaction alone. Batches do not nest, and none begins within a transaction.
 */
NODISCARD int db_batch_begin(struct db *db);
NODISCARD int db_batch_end(struct db *db);

/* A number that outlives a start; 0 if it was never set. */
NODISCARD int db_counter(struct db *db, const char *name, int64_t *ret);
NODISCARD int db_counter_set(struct db *db, const char *name, int64_t value);

/* Rises with every change that can matter to a rollout or an order. */
uint64_t db_generation(const struct db *db);

/* Since db_untouch (or the open), was there a change that can matter to a rollout of this component? */
bool db_touched(const struct db *db, const char *component);
void db_untouch(struct db *db);

#endif
