#include "server-stub/ingest/db_members.h"

#include "server-stub/ingest/sql.h"

int db_member_put(struct db *db, const char *rollout, const char *node, size_t position, bool acted)
{
	return sql_change(db,
			  "INSERT INTO members (rollout, node, position, acted) VALUES (?1, ?2, ?3, ?4)"
			  " ON CONFLICT (rollout, node) DO UPDATE SET acted = max(acted, excluded.acted),"
			  " position = CASE WHEN acted THEN position ELSE excluded.position END",
			  NULL, "ssib", rollout, node, (int64_t) position, acted);
}

int db_member_drop(struct db *db, const char *rollout, const char *node)
{
	return sql_change(db, "DELETE FROM members WHERE rollout = ?1 AND node = ?2 AND NOT acted", NULL, "ss",
			  rollout, node);
}

int db_skip(struct db *db, const char *rollout, const char *node, const char *reason, const char *by, int64_t now)
{
	db_touch(db, NULL);
	return sql_change(
		db, "INSERT OR REPLACE INTO skips (rollout, node, at, reason, by) VALUES (?1, ?2, ?3, ?4, ?5)",
		NULL, "ssiss", rollout, node, now, reason, by);
}

int db_skip_withdraw(struct db *db, const char *rollout, const char *node, unsigned *ret_count)
{
	db_touch(db, NULL);
	return sql_change(db, "DELETE FROM skips WHERE rollout = ?1 AND node = ?2", ret_count, "ss", rollout,
			  node);
}

struct each_member {
	int (*each)(void *user, const struct db_member *row);
	void *user;
};

static int give_member(void *context, sqlite3_stmt *row)
{
	struct each_member *e = context;
	struct db_member m = {
		.node = sql_text(row, 0),
		.labels = sql_text(row, 1),
		.is_member = sqlite3_column_type(row, 2) != SQLITE_NULL,
		.position = (size_t) sql_number(row, 2),
		.acted = sqlite3_column_int(row, 3) != 0,
		.added_at = sqlite3_column_int64(row, 4),
		.reported_at = sqlite3_column_int64(row, 5),
		.quarantined = sql_text(row, 6) != NULL,
		.online = sqlite3_column_int(row, 7) != 0,
		.version = sql_text(row, 8),
		.component_rollout = sql_text(row, 9),
		.why = sql_text(row, 10),
		.why_detail = sql_text(row, 11),
		.wants = sql_text(row, 12),
		.under_way_to = sql_text(row, 13),
		.under_way_state = sql_text(row, 14),
		.bytes_done = sql_number(row, 15),
		.bytes_total = sql_number(row, 16),
		.result_number = sql_number(row, 17),
		.result_name = sql_text(row, 18),
		.result_class = sql_text(row, 19),
		.result_detail = sql_text(row, 20),
		.result_at = sqlite3_column_int64(row, 21),
		.order_kind = sql_text(row, 22),
		.order_reason = sql_text(row, 23),
		.shown_state = sql_text(row, 24),
		.skipped_at = sqlite3_column_int64(row, 25),
		.skip_reason = sql_text(row, 26),
		.skip_by = sql_text(row, 27),
		.failing = sql_text(row, 28),
		.failing_at = sqlite3_column_int64(row, 29),
		.degraded = sql_text(row, 30),
		.restarts = sql_number(row, 31),
	};

	return e->each(e->user, &m);
}

int db_members(struct db *db, const char *rollout, const char *component, int64_t now,
	       int (*each)(void *user, const struct db_member *row), void *user)
{
	struct each_member e = { each, user };
	int r = sql_query(
		db,
		"SELECT n.node, n.labels, m.position, m.acted, n.added_at, n.reported_at, n.quarantine, n.online,"
		" c.version, c.rollout, c.why, c.why_detail, c.wants,"
		" CASE WHEN n.signed_component = ?2 THEN n.signed_to END,"
		" CASE WHEN n.signed_component = ?2 THEN n.signed_state END,"
		" CASE WHEN n.way_component = ?2 THEN n.bytes_done ELSE 0 END,"
		" CASE WHEN n.way_component = ?2 THEN n.bytes_total ELSE 0 END,"
		" r.number, r.name, r.class, r.detail, r.received_at, o.kind, o.reason,"
		" CASE WHEN n.way_component = ?2 THEN n.way_state END, s.at, s.reason, s.by,"
		" n.failing, n.failing_at, n.degraded,"
		/* Boots that were first heard of since then; the one under way at the opening was known before. */
		" CASE WHEN m.position IS NULL THEN 0 ELSE (SELECT count(*) FROM boots b WHERE b.node = n.node"
		" AND b.first_at > (SELECT opened_at FROM stages t WHERE t.rollout = ?1 AND t.position = "
		"m.position)) END"
		" FROM nodes n LEFT JOIN skips s ON s.rollout = ?1 AND s.node = n.node"
		" LEFT JOIN members m ON m.rollout = ?1 AND m.node = n.node"
		" LEFT JOIN components c ON c.node = n.node AND c.component = ?2"
		" LEFT JOIN results r ON r.id = (SELECT max(id) FROM results WHERE rollout = ?1 AND node = n.node"
		" AND component = ?2)"
		" LEFT JOIN orders o ON o.id = (SELECT id FROM orders WHERE node = n.node AND withdrawn_at = 0"
		" AND unconfirmed = 0"
		" AND (until = 0 OR until > ?3) AND (kind = 'hold' OR (kind IN ('rollback', 'pin') AND component "
		"= ?2))"
		" ORDER BY kind DESC, issued DESC LIMIT 1)"
		" ORDER BY n.node",
		give_member, &e, "ssi", rollout, component, now);

	return r > 0 ? 0 : r;
}
