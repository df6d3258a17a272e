#include "server-stub/ingest/db_places.h"

#include "server-stub/ingest/sql.h"

enum { LABEL_PATH_MAX = 300 };

int db_place_put(struct db *db, const struct db_place *p)
{
	return sql_change(
		db,
		"INSERT OR REPLACE INTO places (node, update_id, rollout, label, value, sequence, granted_at)"
		" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
		NULL, "sssssui", p->node, p->update, p->rollout, p->label, p->value, p->sequence, p->granted_at);
}

struct each_place {
	int (*each)(void *user, const struct db_place *row);
	void *user;
};

static int give_place(void *context, sqlite3_stmt *row)
{
	struct each_place *e = context;
	struct db_place p = {
		.node = sql_text(row, 0),
		.update = sql_text(row, 1),
		.rollout = sql_text(row, 2),
		.label = sql_text(row, 3),
		.value = sql_text(row, 4),
		.sequence = sql_number(row, 5),
		.granted_at = sqlite3_column_int64(row, 6),
	};

	return e->each(e->user, &p);
}

int db_places(struct db *db, const char *node, int (*each)(void *user, const struct db_place *row), void *user)
{
	struct each_place e = { each, user };
	int r = sql_query(db,
			  "SELECT node, update_id, rollout, label, value, sequence, granted_at FROM places"
			  " WHERE ?1 IS NULL OR node = ?1 ORDER BY node",
			  give_place, &e, "s", node);

	return r > 0 ? 0 : r;
}

int db_place_free(struct db *db, const char *node, unsigned *ret_count)
{
	return sql_change(db, "DELETE FROM places WHERE node = ?1", ret_count, "s", node);
}

int db_update_ended(struct db *db, const char *node, const char *update, uint64_t sequence, bool *ret)
{
	int64_t ended = 0;
	int r = sql_query(db,
			  "SELECT EXISTS (SELECT 1 FROM results WHERE node = ?1 AND update_id = ?2)"
			  " OR EXISTS (SELECT 1 FROM nodes WHERE node = ?1 AND ?3 > 0 AND sequence > ?3"
			  " AND coalesce(signed_update, '') != ?2)",
			  sql_read_number, &ended, "ssu", node, update, sequence);

	if (r < 0)
		return r;
	*ret = ended != 0;
	return 0;
}

struct each_down {
	int (*each)(void *user, const struct db_down *row);
	void *user;
};

static int give_down(void *context, sqlite3_stmt *row)
{
	struct each_down *e = context;
	const struct db_down d = { .node = sql_text(row, 0), .reason = sql_text(row, 1) };

	return e->each(e->user, &d);
}

int db_down(struct db *db, const char *label, const char *value, const char *except_node, int64_t heard_after,
	    int (*each)(void *user, const struct db_down *row), void *user)
{
	struct each_down e = { each, user };
	char path[LABEL_PATH_MAX];
	int r;

	/* Names of labels hold no quotes (labels.h). */
	sqlite3_snprintf((int) sizeof(path), path, "$.\"%s\"", label);
	r = sql_query(
		db,
		"SELECT n.node, CASE WHEN p.node IS NOT NULL THEN 'is being updated'"
		" WHEN n.quarantine IS NOT NULL THEN 'is in quarantine'"
		" WHEN n.reported_at = 0 THEN 'has never reported'"
		" WHEN n.reported_at < ?4 THEN 'is silent'"
		" WHEN n.signed_state IN ('stopping', 'swapping', 'rebooting', 'probation', 'rolling-back')"
		" THEN 'is in the middle of an update' WHEN n.signed_state = 'stuck' THEN 'is stuck'"
		" WHEN n.failing IS NOT NULL THEN 'fails the check ' || n.failing END AS reason"
		" FROM nodes n LEFT JOIN places p ON p.node = n.node"
		" WHERE n.node != ?1 AND coalesce(json_extract(n.labels, ?2), '') = ?3 AND reason IS NOT NULL"
		" ORDER BY n.node",
		give_down, &e, "sssi", except_node, path, value, heard_after);
	return r > 0 ? 0 : r;
}
