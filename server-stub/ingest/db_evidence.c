#include "server-stub/ingest/db_evidence.h"

#include "server-stub/ingest/sql.h"

int db_evidence_add(struct db *db, const struct db_evidence *row, unsigned keep)
{
	int r = sql_change(
		db,
		"INSERT INTO evidence (component, version, release_sha256, name, outcome, status, command,"
		" output, by, duration_ms, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
		NULL, "sssssssssui", row->component, row->version, row->release_sha256, row->name, row->outcome,
		row->status, row->command, row->output, row->by, row->duration_ms, row->at);

	return r < 0 ? r
		     : sql_change(db,
				  "DELETE FROM evidence WHERE component = ?1 AND version = ?2 AND release_sha256 "
				  "= ?3 "
				  "AND name = ?4 AND id NOT IN (SELECT id FROM evidence WHERE component = ?1 AND "
				  "version "
				  "= ?2 AND release_sha256 = ?3 AND name = ?4 ORDER BY id DESC LIMIT ?5)",
				  NULL, "ssssi", row->component, row->version, row->release_sha256, row->name,
				  (int64_t) keep);
}

struct each_evidence {
	int (*each)(void *user, const struct db_evidence *row);
	void *user;
};

static int give_evidence(void *context, sqlite3_stmt *row)
{
	struct each_evidence *e = context;
	struct db_evidence v = {
		.component = sql_text(row, 0),
		.version = sql_text(row, 1),
		.release_sha256 = sql_text(row, 2),
		.name = sql_text(row, 3),
		.outcome = sql_text(row, 4),
		.status = sql_text(row, 5),
		.command = sql_text(row, 6),
		.output = sql_text(row, 7),
		.by = sql_text(row, 8),
		.duration_ms = sql_number(row, 9),
		.at = sqlite3_column_int64(row, 10),
	};

	return e->each(e->user, &v);
}

int db_evidence(struct db *db, const char *component, const char *version, const char *release_sha256,
		int (*each)(void *user, const struct db_evidence *row), void *user)
{
	struct each_evidence e = { each, user };
	int r = sql_query(
		db,
		"SELECT component, version, release_sha256, name, outcome, status, command, output, by,"
		" duration_ms, at FROM evidence WHERE component = ?1 AND version = ?2 AND release_sha256 = ?3"
		" ORDER BY name, id",
		give_evidence, &e, "sss", component, version, release_sha256);

	return r > 0 ? 0 : r;
}
