#include "server-stub/ingest/db_orders.h"

#include "base/err.h"
#include "server-stub/ingest/sql.h"

int db_order_add(struct db *db, const struct db_order *o)
{
	db_touch_order(db, o->node, o->component);
	return sql_change(db,
			  "INSERT INTO orders (id, node, kind, component, from_version, to_version, reason, by, "
			  "issued, until, unconfirmed, restore_data)"
			  " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
			  NULL, "ssssssssiibb", o->id, o->node, o->kind, o->component, o->from, o->to, o->reason,
			  o->by, o->issued, o->until, o->unconfirmed, o->restore_data);
}

struct each_order {
	int (*each)(void *user, const struct db_order *row);
	void *user;
};

static int give_order(void *context, sqlite3_stmt *row)
{
	struct each_order *e = context;
	struct db_order o = {
		.id = sql_text(row, 0),
		.node = sql_text(row, 1),
		.kind = sql_text(row, 2),
		.component = sql_text(row, 3),
		.from = sql_text(row, 4),
		.to = sql_text(row, 5),
		.reason = sql_text(row, 6),
		.by = sql_text(row, 7),
		.issued = sqlite3_column_int64(row, 8),
		.until = sqlite3_column_int64(row, 9),
		.withdrawn_at = sqlite3_column_int64(row, 10),
		.unconfirmed = sqlite3_column_int(row, 11) != 0,
		.restore_data = sqlite3_column_int(row, 12) != 0,
	};

	return e->each(e->user, &o);
}

int db_orders(struct db *db, const char *node, int64_t now, int (*each)(void *user, const struct db_order *row),
	      void *user)
{
	struct each_order e = { each, user };
	int r = sql_query(
		db,
		"SELECT id, node, kind, component, from_version, to_version, reason, by, issued, until, "
		"withdrawn_at, unconfirmed, restore_data"
		" FROM orders WHERE (?1 IS NULL OR node = ?1)"
		" AND (?2 = 0 OR (withdrawn_at = 0 AND (until = 0 OR until > ?2))) ORDER BY node, issued, rowid",
		give_order, &e, "si", node, now);

	return r > 0 ? 0 : r;
}

int db_order_withdraw(struct db *db, const char *node, const char *kind, const char *component, const char *by,
		      int64_t now, unsigned *ret_count)
{
	db_touch_order(db, node, component);
	return sql_change(db,
			  "UPDATE orders SET withdrawn_at = ?4, withdrawn_by = ?5 WHERE node = ?1 AND kind = ?2"
			  " AND (?3 IS NULL OR component = ?3) AND withdrawn_at = 0 AND (until = 0 OR until > ?4)",
			  ret_count, "sssis", node, kind, component, now, by);
}

int db_orders_unconfirm(struct db *db, int64_t now)
{
	db_touch(db, NULL);
	return sql_change(db,
			  "UPDATE orders SET unconfirmed = 1 WHERE withdrawn_at = 0 AND (until = 0 OR until > ?1)",
			  NULL, "i", now);
}

int db_order_confirm(struct db *db, const char *id, int64_t now, unsigned *ret_count)
{
	db_touch(db, NULL);
	return sql_change(
		db,
		"UPDATE orders SET unconfirmed = 0 WHERE id = ?1 AND unconfirmed = 1 AND withdrawn_at = 0"
		" AND (until = 0 OR until > ?2)",
		ret_count, "si", id, now);
}

int db_order_withdraw_one(struct db *db, const char *id, const char *by, int64_t now, unsigned *ret_count)
{
	db_touch(db, NULL);
	return sql_change(
		db,
		"UPDATE orders SET withdrawn_at = ?3, withdrawn_by = ?2 WHERE id = ?1 AND withdrawn_at = 0"
		" AND (until = 0 OR until > ?3)",
		ret_count, "ssi", id, by, now);
}

int db_freeze_add(struct db *db, const struct db_freeze *f)
{
	db->generation++; /* nodes ask it, no rollout does */
	return sql_change(
		db,
		"INSERT INTO freezes (id, labels, components, reason, by, at, until) VALUES (?1, ?2, ?3, "
		"?4, ?5, ?6, ?7)",
		NULL, "sssssii", f->id, f->labels, f->components, f->reason, f->by, f->at, f->until);
}

struct each_freeze {
	int (*each)(void *user, const struct db_freeze *row);
	void *user;
};

static int give_freeze(void *context, sqlite3_stmt *row)
{
	struct each_freeze *e = context;
	struct db_freeze f = {
		.id = sql_text(row, 0),
		.labels = sql_text(row, 1),
		.components = sql_text(row, 2),
		.reason = sql_text(row, 3),
		.by = sql_text(row, 4),
		.at = sqlite3_column_int64(row, 5),
		.until = sqlite3_column_int64(row, 6),
		.lifted_at = sqlite3_column_int64(row, 7),
	};

	return e->each(e->user, &f);
}

int db_freezes(struct db *db, int64_t now, int (*each)(void *user, const struct db_freeze *row), void *user)
{
	struct each_freeze e = { each, user };
	int r = sql_query(db,
			  "SELECT id, labels, components, reason, by, at, until, lifted_at FROM freezes"
			  " WHERE ?1 = 0 OR (lifted_at = 0 AND (until = 0 OR until > ?1)) ORDER BY at, rowid",
			  give_freeze, &e, "i", now);

	return r > 0 ? 0 : r;
}

int db_next_end(struct db *db, int64_t after, int64_t *ret)
{
	*ret = 0;
	return sql_query(
		       db,
		       "SELECT coalesce(min(until), 0) FROM (SELECT until FROM orders WHERE withdrawn_at = 0 AND "
		       "until > ?1"
		       " UNION ALL SELECT until FROM freezes WHERE lifted_at = 0 AND until > ?1)",
		       sql_read_number, ret, "i", after) < 0
		       ? -ERR_DATABASE
		       : 0;
}

int db_freeze_lift(struct db *db, const char *id, int64_t now, unsigned *ret_count)
{
	db->generation++; /* as above */
	return sql_change(db,
			  "UPDATE freezes SET lifted_at = ?2 WHERE (?1 IS NULL OR id = ?1) AND lifted_at = 0"
			  " AND (until = 0 OR until > ?2)",
			  ret_count, "si", id, now);
}
