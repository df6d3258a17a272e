#include "server-stub/ingest/db.h"

#include "base/err.h"
#include "server-stub/ingest/sql.h"

#include <errno.h>
#include <stdlib.h>

const char *db_error(const struct db *db)
{
	return db->error[0] ? db->error : "no error";
}

int db_open(const char *path, struct db **ret)
{
	CLEANUP(db_closep)
	struct db *db = calloc(1, sizeof(*db));
	int r, code;

	if (!db)
		return -ENOMEM;
	code = sqlite3_open_v2(path, &db->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
			       NULL);
	if (code != SQLITE_OK)
		return sql_failed(db, code);
	(void) sqlite3_busy_timeout(db->handle, 5000);
	(void) sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL); /* a second lock, fine without */
	code = sqlite3_exec(db->handle,
			    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
			    "PRAGMA trusted_schema = OFF; PRAGMA journal_size_limit = 16777216",
			    NULL, NULL, NULL);
	if (code != SQLITE_OK)
		return sql_failed(db, code);
	r = db_migrate(db);
	if (r < 0)
		return r;
	r = sql_query(db, "SELECT coalesce(max(id), 0) FROM events", sql_read_number, &db->last_event, "");
	if (r < 0)
		return r;
	db->touched_all = true; /* whoever opens it has seen nothing yet */
	*ret = db;
	db = NULL;
	return 0;
}

void db_close(struct db *db)
{
	if (!db)
		return;
	for (size_t i = 0; i < db->cache_count; i++)
		sqlite3_finalize(db->cache[i].stmt);
	sqlite3_close(db->handle);
	free(db);
}

/* After a failure that SQLite answered by rolling back everything, the rest of a batch must not commit by itself. */
static int batch_stands(struct db *db)
{
	return db->in_batch && sqlite3_get_autocommit(db->handle) ? -ERR_DATABASE : 0;
}

int db_begin(struct db *db)
{
	int r = batch_stands(db);

	if (r == 0)
		r = db->in_batch ? sql_change(db, "SAVEPOINT one", NULL, "")
				 : sql_change(db, "BEGIN IMMEDIATE", NULL, "");
	if (r == 0)
		db->in_transaction = true;
	return r;
}

int db_commit(struct db *db)
{
	int r = db->in_batch ? sql_change(db, "RELEASE one", NULL, "") : sql_change(db, "COMMIT", NULL, "");

	if (r == 0)
		db->in_transaction = false;
	return r;
}

/* What was taken back may have been seen already. */
static void look_again(struct db *db)
{
	int64_t last = 0;

	db_touch(db, NULL);
	if (sql_query(db, "SELECT coalesce(max(id), 0) FROM events", sql_read_number, &last, "") >= 0)
		db->last_event = last;
}

void db_abort(struct db *db)
{
	if (!db->in_transaction)
		return;
	/* SQLite may have rolled back by itself already. */
	if (db->in_batch) {
		(void) sql_change(db, "ROLLBACK TO one", NULL, "");
		(void) sql_change(db, "RELEASE one", NULL, "");
	} else {
		(void) sql_change(db, "ROLLBACK", NULL, "");
	}
	db->in_transaction = false;
	look_again(db);
}

int db_batch_begin(struct db *db)
{
	int r = sql_change(db, "BEGIN IMMEDIATE", NULL, "");

	if (r == 0)
		db->in_batch = true;
	return r;
}

int db_batch_end(struct db *db)
{
	int r = batch_stands(db);

	if (r == 0)
		r = sql_change(db, "COMMIT", NULL,
			       ""); /* the one fsync of all that was acknowledged for the batch */
	db->in_batch = false;
	if (r < 0) {
		if (!sqlite3_get_autocommit(db->handle))
			(void) sql_change(db, "ROLLBACK", NULL, ""); /* nothing more can be done with it */
		look_again(db);
	}
	return r;
}

int db_counter(struct db *db, const char *name, int64_t *ret)
{
	int r;

	*ret = 0;
	r = sql_query(db, "SELECT value FROM counters WHERE name = ?1", sql_read_number, ret, "s", name);
	return r > 0 ? 0 : r;
}

int db_counter_set(struct db *db, const char *name, int64_t value)
{
	return sql_change(db,
			  "INSERT INTO counters (name, value) VALUES (?1, ?2)"
			  " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
			  NULL, "si", name, value);
}
