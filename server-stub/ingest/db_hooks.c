#include "server-stub/ingest/db_hooks.h"

#include "server-stub/ingest/sql.h"

int db_hook_set(struct db *db, const struct db_hook *h)
{
	return sql_change(
		db,
		"INSERT INTO hooks (name, event, sent, left_out, failures, sent_at, failing_since, error)"
		" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (name) DO UPDATE SET event = ?2, sent = ?3,"
		" left_out = ?4, failures = ?5, sent_at = ?6, failing_since = ?7, error = ?8",
		NULL, "siuuuiis", h->name, h->event, h->sent, h->left_out, h->failures, h->sent_at,
		h->failing_since, h->error);
}

int db_hook_remove(struct db *db, const char *name)
{
	return sql_change(db, "DELETE FROM hooks WHERE name = ?1", NULL, "s", name);
}

struct each_hook {
	int (*each)(void *user, const struct db_hook *row);
	void *user;
};

static int give_hook(void *context, sqlite3_stmt *row)
{
	struct each_hook *e = context;
	struct db_hook h = {
		.name = sql_text(row, 0),
		.event = sqlite3_column_int64(row, 1),
		.sent = (uint64_t) sqlite3_column_int64(row, 2),
		.left_out = (uint64_t) sqlite3_column_int64(row, 3),
		.failures = (uint64_t) sqlite3_column_int64(row, 4),
		.sent_at = sqlite3_column_int64(row, 5),
		.failing_since = sqlite3_column_int64(row, 6),
		.error = sql_text(row, 7),
	};

	return e->each(e->user, &h);
}

int db_hooks(struct db *db, int (*each)(void *user, const struct db_hook *row), void *user)
{
	struct each_hook e = { each, user };
	int r = sql_query(db,
			  "SELECT name, event, sent, left_out, failures, sent_at, failing_since, error FROM hooks"
			  " ORDER BY name",
			  give_hook, &e, "");

	return r > 0 ? 0 : r;
}
