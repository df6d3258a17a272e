/*
 * sql - how the files of this folder speak to SQLite; no header outside of it includes this.
 *
 * A statement is a literal of the file that runs it, prepared once and kept. `types` has a letter for
 * each parameter: s text or NULL, i int64_t, u uint64_t, b bool, h the hours of a day (SQL_DAY_BYTES).
 */
#ifndef SELFRIGHT_INGEST_SQL_H
#define SELFRIGHT_INGEST_SQL_H

#include "base/attr.h"
#include "base/text.h"
#include "server-stub/ingest/db_budget.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SQL_STATEMENTS_MAX = 112, SQL_ERROR_BYTES = 256, SQL_DAY_BYTES = 144 };

enum { DB_TOUCHED_MAX = 64, DB_BUDGET_PLACES = 16 * 1024 };

struct sql_cached {
	const char *sql; /* the address of the literal: each call site has one */
	sqlite3_stmt *stmt;
};

struct db {
	sqlite3 *handle;
	struct sql_cached cache[SQL_STATEMENTS_MAX];
	size_t cache_count;
	uint64_t generation;
	char touched[DB_TOUCHED_MAX][ID_MAX + 1];
	size_t touched_count;
	bool touched_all;
	int64_t last_event;
	bool in_transaction, in_batch;
	char error[SQL_ERROR_BYTES];
	int64_t budget_minute;
	uint16_t spent[DB_BUDGET_COUNT][DB_BUDGET_PLACES];
};

/* What a code of SQLite is here; its words are in db_error() from then on. */
NODISCARD int sql_failed(struct db *db, int code);

typedef int sql_row(void *context, sqlite3_stmt *row);

/* Returns how many rows there were (0 or more), the callback's answer if it stopped, or a negative error. */
NODISCARD int sql_query(struct db *db, const char *sql, sql_row *each, void *context, const char *types, ...);

/* A statement that changes something: *ret_changes (may be NULL) rows. To roll back may fail, so not NODISCARD. */
int sql_change(struct db *db, const char *sql, unsigned *ret_changes, const char *types, ...);

/* -ENOENT where such a change changed nothing. */
NODISCARD int sql_changed_one(int r, unsigned changes);

/* Rows of one column: to an int64_t; to the end of a struct buf. */
int sql_read_number(void *context, sqlite3_stmt *row);
int sql_add_text(void *context, sqlite3_stmt *row);

/* NULL where it is NULL; borrowed until the row goes. */
const char *sql_text(sqlite3_stmt *row, int column);
/* Below 0 counts as 0. */
uint64_t sql_number(sqlite3_stmt *row, int column);

/* Bring the schema up to date. */
NODISCARD int db_migrate(struct db *db);

/*
 * Something changed that can matter to rollouts of this component (NULL: of any), of those that the node has, of
 * the rollout's own, of those that an order for this component (NULL: for the node) keeps it from.
 */
void db_touch(struct db *db, const char *component);
void db_touch_components(struct db *db, const char *node);
void db_touch_rollout(struct db *db, const char *id);
void db_touch_order(struct db *db, const char *node, const char *component);

#endif
