#include "server-stub/ingest/db_enrolments.h"

#include "server-stub/ingest/sql.h"

#include <errno.h>

int db_enrolment_put(struct db *db, const struct db_enrolment *e)
{
	return sql_change(db,
			  "INSERT OR REPLACE INTO enrolments (node, secret, labels, by, issued_at, expires_at)"
			  " VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
			  NULL, "ssssii", e->node, e->secret_sha256, e->labels, e->by, e->issued_at,
			  e->expires_at);
}

struct each_enrolment {
	int (*each)(void *user, const struct db_enrolment *row);
	void *user;
};

static int give_enrolment(void *context, sqlite3_stmt *row)
{
	struct each_enrolment *e = context;
	const struct db_enrolment d = {
		.node = sql_text(row, 0),
		.secret_sha256 = sql_text(row, 1),
		.labels = sql_text(row, 2),
		.by = sql_text(row, 3),
		.issued_at = sqlite3_column_int64(row, 4),
		.expires_at = sqlite3_column_int64(row, 5),
		.used_at = sqlite3_column_int64(row, 6),
		.identity_public = sql_text(row, 7),
		.transport_public = sql_text(row, 8),
		.waiting = sqlite3_column_int(row, 9) != 0,
		.refused = sql_number(row, 10),
	};

	return e->each(e->user, &d);
}

int db_enrolments(struct db *db, const char *node, int (*each)(void *user, const struct db_enrolment *row),
		  void *user)
{
	struct each_enrolment e = { each, user };
	int r = sql_query(
		db,
		"SELECT node, secret, labels, by, issued_at, expires_at, used_at, identity_public,"
		" transport_public, waiting, refused FROM enrolments WHERE ?1 IS NULL OR node = ?1 ORDER BY node",
		give_enrolment, &e, "s", node);

	if (r == 0 && node)
		return -ENOENT;
	return r > 0 ? 0 : r;
}

int db_enrolment_use(struct db *db, const char *node, const char *identity_public, const char *transport_public,
		     bool waiting, int64_t now)
{
	unsigned changes = 0;
	int r = sql_change(
		db,
		"UPDATE enrolments SET used_at = ?5, identity_public = ?2, transport_public = ?3, waiting = ?4"
		" WHERE node = ?1 AND used_at = 0",
		&changes, "sssbi", node, identity_public, transport_public, waiting, now);

	return sql_changed_one(r, changes);
}

int db_enrolment_release(struct db *db, const char *node)
{
	unsigned changes = 0;
	int r = sql_change(db, "UPDATE enrolments SET waiting = 0 WHERE node = ?1 AND waiting = 1", &changes, "s",
			   node);

	return sql_changed_one(r, changes);
}

int db_enrolment_refused(struct db *db, const char *node)
{
	return sql_change(db, "UPDATE enrolments SET refused = refused + 1 WHERE node = ?1", NULL, "s", node);
}

int db_enrolment_drop(struct db *db, const char *node)
{
	unsigned changes = 0;
	int r = sql_change(db, "DELETE FROM enrolments WHERE node = ?1", &changes, "s", node);

	return sql_changed_one(r, changes);
}
