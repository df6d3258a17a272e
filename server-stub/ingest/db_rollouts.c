#include "server-stub/ingest/db_rollouts.h"

#include "base/err.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/sql.h"

#include <errno.h>

int db_next_seq(struct db *db, uint64_t floor, uint64_t *ret)
{
	int64_t highest = 0;
	int r;

	r = sql_query(db,
		      "SELECT max(coalesce((SELECT value FROM counters WHERE name = 'seq'), 0),"
		      " coalesce((SELECT max(seq) FROM rollouts), 0))",
		      sql_read_number, &highest, "");
	if (r < 0)
		return r;
	if (floor > INT64_MAX / 2)
		return -ERR_NUMBER;
	if ((int64_t) floor > highest)
		highest = (int64_t) floor;
	highest++;
	r = db_counter_set(db, "seq", highest);
	if (r < 0)
		return r;
	*ret = (uint64_t) highest;
	return 0;
}

int db_rollout_add(struct db *db, const struct db_rollout *r, const char *const *stages, size_t stage_count)
{
	int e;

	db_touch(db, r->component);
	e = sql_change(
		db,
		"INSERT INTO rollouts (id, seq, component, version, kind, state, reason, by, state_at, "
		"created_at, plan,"
		" release_path, release_sha256) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?10, ?11, ?12)",
		NULL, "sussssssisss", r->id, r->seq, r->component, r->version, r->kind, r->state, r->reason, r->by,
		r->created_at, r->plan, r->release_path, r->release_sha256);
	for (size_t i = 0; e == 0 && i < stage_count; i++)
		e = sql_change(db, "INSERT INTO stages (rollout, position, name) VALUES (?1, ?2, ?3)", NULL, "sis",
			       r->id, (int64_t) i, stages[i]);
	return e;
}

struct each_rollout {
	int (*each)(void *user, const struct db_rollout *row);
	void *user;
};

static int give_rollout(void *context, sqlite3_stmt *row)
{
	struct each_rollout *e = context;
	struct db_rollout r = {
		.id = sql_text(row, 0),
		.component = sql_text(row, 1),
		.version = sql_text(row, 2),
		.kind = sql_text(row, 3),
		.state = sql_text(row, 4),
		.seq = sql_number(row, 5),
		.reason = sql_text(row, 6),
		.by = sql_text(row, 7),
		.state_at = sqlite3_column_int64(row, 8),
		.created_at = sqlite3_column_int64(row, 9),
		.plan = sql_text(row, 10),
		.release_path = sql_text(row, 11),
		.release_sha256 = sql_text(row, 12),
		.undo = sql_text(row, 13),
		.note = sql_text(row, 14),
	};

	return e->each(e->user, &r);
}

int db_rollouts(struct db *db, const char *id, int (*each)(void *user, const struct db_rollout *row), void *user)
{
	struct each_rollout e = { each, user };
	int r = sql_query(
		db,
		"SELECT id, component, version, kind, state, seq, reason, by, state_at, created_at, plan, "
		"release_path,"
		" release_sha256, undo, note FROM rollouts WHERE ?1 IS NULL OR id = ?1 ORDER BY seq DESC",
		give_rollout, &e, "s", id);

	if (r == 0 && id)
		return -ENOENT;
	return r > 0 ? 0 : r;
}

int db_rollout_set_state(struct db *db, const char *id, const char *state, const char *reason, const char *by,
			 int64_t now)
{
	unsigned changes = 0;
	int r = sql_change(
		db, "UPDATE rollouts SET state = ?2, reason = ?3, by = ?4, state_at = ?5, note = '' WHERE id = ?1",
		&changes, "ssssi", id, state, reason, by, now);

	db_touch_rollout(db, id);
	return sql_changed_one(r, changes);
}

int db_rollout_set_undo(struct db *db, const char *id, const char *undo)
{
	unsigned changes = 0;
	int r = sql_change(db, "UPDATE rollouts SET undo = ?2 WHERE id = ?1", &changes, "ss", id, undo);

	db_touch_rollout(db, id);
	return sql_changed_one(r, changes);
}

int db_rollout_set_note(struct db *db, const char *id, const char *note)
{
	unsigned changes = 0;
	int r = sql_change(db, "UPDATE rollouts SET note = ?2 WHERE id = ?1", &changes, "ss", id, note);

	return sql_changed_one(r, changes);
}

struct each_stage {
	int (*each)(void *user, const struct db_stage *row);
	void *user;
};

static int give_stage(void *context, sqlite3_stmt *row)
{
	struct each_stage *e = context;
	struct db_stage s = { sql_text(row, 0), sqlite3_column_int(row, 1) != 0, sqlite3_column_int64(row, 2) };

	return e->each(e->user, &s);
}

int db_stages(struct db *db, const char *rollout, int (*each)(void *user, const struct db_stage *row), void *user)
{
	struct each_stage e = { each, user };
	int r = sql_query(db, "SELECT name, open, opened_at FROM stages WHERE rollout = ?1 ORDER BY position",
			  give_stage, &e, "s", rollout);

	return r > 0 ? 0 : r;
}

int db_decision_add(struct db *db, const struct db_decision *d, unsigned keep)
{
	int r = sql_change(db,
			   "INSERT INTO decisions (rollout, at, action, why, input) VALUES (?1, ?2, ?3, ?4, ?5)",
			   NULL, "sisss", d->rollout, d->at, d->action, d->why, d->input);

	if (r < 0)
		return r;
	return sql_change(
		db,
		"DELETE FROM decisions WHERE rollout = ?1 AND id <= (SELECT id FROM decisions WHERE rollout = ?1"
		" ORDER BY id DESC LIMIT 1 OFFSET ?2)",
		NULL, "si", d->rollout, (int64_t) keep);
}

struct each_decision {
	int (*each)(void *user, const struct db_decision *row);
	void *user;
};

static int give_decision(void *context, sqlite3_stmt *row)
{
	struct each_decision *e = context;
	const struct db_decision d = {
		.rollout = sql_text(row, 0),
		.at = sqlite3_column_int64(row, 1),
		.action = sql_text(row, 2),
		.why = sql_text(row, 3),
		.input = sql_text(row, 4),
	};

	return e->each(e->user, &d);
}

int db_decision_at(struct db *db, const char *rollout, int64_t at,
		   int (*each)(void *user, const struct db_decision *row), void *user)
{
	struct each_decision e = { each, user };
	int r = sql_query(db,
			  "SELECT rollout, at, action, why, input FROM decisions WHERE rollout = ?1 AND at <= ?2"
			  " ORDER BY at DESC, id DESC LIMIT 1",
			  give_decision, &e, "si", rollout, at);

	return r == 0 ? -ENOENT : r > 0 ? 0 : r;
}

int db_stage_open(struct db *db, const char *rollout, size_t position, int64_t now)
{
	unsigned changes = 0;
	int r = sql_change(
		db, "UPDATE stages SET open = 1, opened_at = ?3 WHERE rollout = ?1 AND position = ?2 AND open = 0",
		&changes, "sii", rollout, (int64_t) position, now);

	db_touch_rollout(db, rollout);
	return sql_changed_one(r, changes);
}

int db_approval_add(struct db *db, const struct db_approval *a)
{
	unsigned changes = 0;
	int r = sql_change(db,
			   "INSERT INTO approvals (rollout, position, expires, keyid, sig, at, by)"
			   " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
			   &changes, "siissis", a->rollout, (int64_t) a->position, a->expires, a->keyid, a->sig,
			   a->at, a->by);

	db->generation++; /* of the documents alone */
	return r < 0 ? r : changes > 0;
}

struct each_approval {
	int (*each)(void *user, const struct db_approval *row);
	void *user;
	const char *rollout;
};

static int give_approval(void *context, sqlite3_stmt *row)
{
	struct each_approval *e = context;
	struct db_approval a = { .rollout = e->rollout,
				 .position = (size_t) sqlite3_column_int64(row, 0),
				 .expires = sqlite3_column_int64(row, 1),
				 .keyid = sql_text(row, 2),
				 .sig = sql_text(row, 3),
				 .at = sqlite3_column_int64(row, 4),
				 .by = sql_text(row, 5) };

	return e->each(e->user, &a);
}

int db_approvals(struct db *db, const char *rollout, int64_t now,
		 int (*each)(void *user, const struct db_approval *row), void *user)
{
	struct each_approval e = { each, user, rollout };
	int r = sql_query(
		db,
		"SELECT position, expires, keyid, sig, at, by FROM approvals WHERE rollout = ?1 AND expires > ?2"
		" ORDER BY position, expires, keyid",
		give_approval, &e, "si", rollout, now);

	return r > 0 ? 0 : r;
}
