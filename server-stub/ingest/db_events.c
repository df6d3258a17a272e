#include "server-stub/ingest/db_events.h"

#include "server-stub/ingest/sql.h"

int db_event_add(struct db *db, const struct db_event *e)
{
	int r = sql_change(
		db, "INSERT INTO events (at, kind, node, component, text, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
		NULL, "isssss", e->at, e->kind, e->node, e->component, e->text, e->detail);

	if (r == 0)
		db->last_event = sqlite3_last_insert_rowid(db->handle);
	return r;
}

int64_t db_last_event(const struct db *db)
{
	return db->last_event;
}

struct each_event {
	int (*each)(void *user, const struct db_event *row);
	void *user;
};

static int give_event(void *context, sqlite3_stmt *row)
{
	struct each_event *e = context;
	struct db_event ev = {
		.id = sqlite3_column_int64(row, 0),
		.at = sqlite3_column_int64(row, 1),
		.kind = sql_text(row, 2),
		.node = sql_text(row, 3),
		.component = sql_text(row, 4),
		.text = sql_text(row, 5),
		.detail = sql_text(row, 6),
	};

	return e->each(e->user, &ev);
}

int db_events_after(struct db *db, int64_t id, size_t limit, int (*each)(void *user, const struct db_event *row),
		    void *user)
{
	struct each_event e = { each, user };
	int r = sql_query(
		db,
		"SELECT id, at, kind, node, component, text, detail FROM events WHERE id > ?1 ORDER BY id "
		"LIMIT ?2",
		give_event, &e, "ii", id, (int64_t) limit);

	return r > 0 ? 0 : r;
}
