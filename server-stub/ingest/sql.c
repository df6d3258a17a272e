#include "base/buf.h"
#include "base/err.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/sql.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

int sql_failed(struct db *db, int code)
{
	const char *text = db->handle ? sqlite3_errmsg(db->handle) : sqlite3_errstr(code);
	size_t len = strlen(text);

	if (len >= sizeof(db->error))
		len = sizeof(db->error) - 1;
	memcpy(db->error, text, len);
	db->error[len] = '\0';
	switch (code & 0xff) {
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_IOERR:
		return -EIO;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_CONSTRAINT:
		return -EEXIST;
	default:
		return -ERR_DATABASE;
	}
}

/* A statement ready to bind. One that is in use by a caller further up gets a twin of its own. */
static int statement(struct db *db, const char *sql, sqlite3_stmt **ret, bool *ret_cached)
{
	int code;

	for (size_t i = 0; i < db->cache_count; i++)
		if (db->cache[i].sql == sql && !sqlite3_stmt_busy(db->cache[i].stmt)) {
			*ret = db->cache[i].stmt;
			*ret_cached = true;
			return 0;
		}
	code = sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL);
	if (code != SQLITE_OK)
		return sql_failed(db, code);
	*ret_cached = db->cache_count < SQL_STATEMENTS_MAX;
	if (*ret_cached)
		db->cache[db->cache_count++] = (struct sql_cached){ sql, *ret };
	return 0;
}

static void release(sqlite3_stmt *stmt, bool cached)
{
	if (cached) {
		sqlite3_reset(stmt);
		sqlite3_clear_bindings(stmt);
	} else {
		sqlite3_finalize(stmt);
	}
}

/* One letter per parameter: s text or NULL, i int64_t, u uint64_t, b bool, h the hours of a day. */
static int bind(sqlite3_stmt *stmt, const char *types, va_list args)
{
	for (int i = 1; *types; types++, i++) {
		const char *text;
		uint64_t number;
		int code;

		switch (*types) {
		case 's':
			text = va_arg(args, const char *);
			code = text ? sqlite3_bind_text(stmt, i, text, -1, SQLITE_TRANSIENT)
				    : sqlite3_bind_null(stmt, i);
			break;
		case 'u':
			number = va_arg(args, uint64_t);
			code = number > INT64_MAX ? SQLITE_RANGE : sqlite3_bind_int64(stmt, i, (int64_t) number);
			break;
		case 'h':
			code = sqlite3_bind_blob(stmt, i, va_arg(args, const uint8_t *), SQL_DAY_BYTES,
						 SQLITE_TRANSIENT);
			break;
		case 'b':
			code = sqlite3_bind_int(stmt, i, va_arg(args, int));
			break;
		default:
			code = sqlite3_bind_int64(stmt, i, va_arg(args, int64_t));
			break;
		}
		if (code != SQLITE_OK)
			return code;
	}
	return SQLITE_OK;
}

/* Returns how many rows there were (0 or more), the callback's answer if it stopped, or a negative error. */
static int query_v(struct db *db, const char *sql, sql_row *each, void *context, const char *types, va_list args)
{
	sqlite3_stmt *stmt = NULL;
	bool cached = false;
	int r, code, rows = 0;

	r = statement(db, sql, &stmt, &cached);
	if (r < 0)
		return r;
	code = bind(stmt, types, args);
	if (code != SQLITE_OK) {
		r = sql_failed(db, code);
		release(stmt, cached);
		return r;
	}
	r = 0;
	while ((code = sqlite3_step(stmt)) == SQLITE_ROW) {
		rows++;
		if (each) {
			r = each(context, stmt);
			if (r != 0)
				break;
		}
	}
	if (r == 0 && code != SQLITE_DONE)
		r = sql_failed(db, code);
	release(stmt, cached);
	return r != 0 ? r : rows;
}

int sql_query(struct db *db, const char *sql, sql_row *each, void *context, const char *types, ...)
{
	va_list args;
	int r;

	va_start(args, types);
	r = query_v(db, sql, each, context, types, args);
	va_end(args);
	return r;
}

/* A statement that changes something: *ret_changes (may be NULL) rows. */
int sql_change(struct db *db, const char *sql, unsigned *ret_changes, const char *types, ...)
{
	va_list args;
	int r;

	va_start(args, types);
	r = query_v(db, sql, NULL, NULL, types, args);
	va_end(args);
	if (r < 0)
		return r;
	if (ret_changes)
		*ret_changes = (unsigned) sqlite3_changes(db->handle);
	return 0;
}

int sql_read_number(void *context, sqlite3_stmt *row)
{
	*(int64_t *) context = sqlite3_column_int64(row, 0);
	return 0;
}

int sql_add_text(void *context, sqlite3_stmt *row)
{
	return buf_add_str(context, sql_text(row, 0));
}

const char *sql_text(sqlite3_stmt *row, int column)
{
	return (const char *) sqlite3_column_text(row, column);
}

uint64_t sql_number(sqlite3_stmt *row, int column)
{
	int64_t v = sqlite3_column_int64(row, column);

	return v < 0 ? 0 : (uint64_t) v;
}

int sql_changed_one(int r, unsigned changes)
{
	if (r < 0)
		return r;
	return changes ? 0 : -ENOENT;
}
