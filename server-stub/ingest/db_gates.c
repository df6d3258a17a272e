#include "server-stub/ingest/db_gates.h"

#include "server-stub/ingest/sql.h"

int db_gate_look_add(struct db *db, const struct db_gate_look *l, unsigned keep)
{
	int r = sql_change(
		db,
		"INSERT INTO gate_looks (rollout, position, gate, at, said, low, high, samples, since, text, data)"
		" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
		NULL, "sisisssuiss", l->rollout, (int64_t) l->position, l->gate, l->at, l->said, l->low, l->high,
		l->samples, l->since, l->text, l->data);

	db_touch_rollout(db, l->rollout);
	if (r < 0)
		return r;
	return sql_change(db,
			  "DELETE FROM gate_looks WHERE rollout = ?1 AND position = ?2 AND gate = ?3 AND id <="
			  " (SELECT id FROM gate_looks WHERE rollout = ?1 AND position = ?2 AND gate = ?3"
			  " ORDER BY id DESC LIMIT 1 OFFSET ?4)",
			  NULL, "sisi", l->rollout, (int64_t) l->position, l->gate, (int64_t) keep);
}

struct each_gate_look {
	int (*each)(void *user, const struct db_gate_look *row);
	void *user;
	const char *rollout;
	size_t position;
};

static int give_gate_look(void *context, sqlite3_stmt *row)
{
	struct each_gate_look *e = context;
	const struct db_gate_look l = {
		.rollout = e->rollout,
		.position = e->position,
		.gate = sql_text(row, 0),
		.at = sqlite3_column_int64(row, 1),
		.said = sql_text(row, 2),
		.low = sql_text(row, 3),
		.high = sql_text(row, 4),
		.samples = sql_number(row, 5),
		.since = sqlite3_column_int64(row, 6),
		.text = sql_text(row, 7),
		.data = sql_text(row, 8),
	};

	return e->each(e->user, &l);
}

int db_gate_looks(struct db *db, const char *rollout, size_t position,
		  int (*each)(void *user, const struct db_gate_look *row), void *user)
{
	struct each_gate_look e = { each, user, rollout, position };
	int r = sql_query(db,
			  "SELECT gate, at, said, low, high, samples, since, text, data FROM gate_looks"
			  " WHERE rollout = ?1 AND position = ?2 ORDER BY gate, id",
			  give_gate_look, &e, "si", rollout, (int64_t) position);

	return r > 0 ? 0 : r;
}

int db_gate_due(struct db *db, const char *rollout, size_t position, const char *gate, int64_t due_at,
		int64_t asked_at)
{
	return sql_change(
		db,
		"INSERT INTO gates (rollout, position, gate, due_at, asked_at) VALUES (?1, ?2, ?3, ?4, ?5)"
		" ON CONFLICT (rollout, position, gate) DO UPDATE SET"
		" due_at = CASE WHEN due_at = 0 THEN excluded.due_at ELSE due_at END,"
		" asked_at = CASE WHEN asked_at = 0 THEN excluded.asked_at ELSE asked_at END",
		NULL, "sisii", rollout, (int64_t) position, gate, due_at, asked_at);
}

int db_gate_word(struct db *db, const char *rollout, size_t position, const char *gate, const char *word,
		 const char *by, const char *reason, int64_t now)
{
	int r = sql_change(
		db,
		"INSERT INTO gates (rollout, position, gate, word, word_by, word_reason, word_at)"
		" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
		" ON CONFLICT (rollout, position, gate) DO UPDATE SET word = excluded.word,"
		" word_by = excluded.word_by, word_reason = excluded.word_reason, word_at = excluded.word_at",
		NULL, "sissssi", rollout, (int64_t) position, gate, word, by, reason, now);

	db_touch_rollout(db, rollout);
	return r;
}

struct each_gate {
	int (*each)(void *user, const struct db_gate *row);
	void *user;
};

static int give_gate(void *context, sqlite3_stmt *row)
{
	struct each_gate *e = context;
	const struct db_gate g = {
		.gate = sql_text(row, 0),
		.due_at = sqlite3_column_int64(row, 1),
		.asked_at = sqlite3_column_int64(row, 2),
		.word = sql_text(row, 3),
		.word_at = sqlite3_column_int64(row, 4),
		.word_by = sql_text(row, 5),
		.word_reason = sql_text(row, 6),
	};

	return e->each(e->user, &g);
}

int db_gates(struct db *db, const char *rollout, size_t position,
	     int (*each)(void *user, const struct db_gate *row), void *user)
{
	struct each_gate e = { each, user };
	int r = sql_query(db,
			  "SELECT gate, due_at, asked_at, word, word_at, word_by, word_reason FROM gates"
			  " WHERE rollout = ?1 AND position = ?2 ORDER BY gate",
			  give_gate, &e, "si", rollout, (int64_t) position);

	return r > 0 ? 0 : r;
}

int db_gate_answered(struct db *db, const struct db_gate_answer *a)
{
	unsigned changes = 0;
	/* One that says what the last one said is no news; the sentence may differ in its numbers. */
	int r = sql_change(db,
			   "INSERT INTO gate_answers (rollout, position, gate, at, verdict, text, data)"
			   " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE ?5 IS NOT (SELECT verdict FROM gate_answers"
			   " WHERE rollout = ?1 AND position = ?2 AND gate = ?3 ORDER BY id DESC LIMIT 1)",
			   &changes, "sisisss", a->rollout, (int64_t) a->position, a->gate, a->at, a->verdict,
			   a->text, a->data);

	return r < 0 ? r : changes > 0;
}

struct each_gate_answer {
	int (*each)(void *user, const struct db_gate_answer *row);
	void *user;
	const char *rollout;
};

static int give_gate_answer(void *context, sqlite3_stmt *row)
{
	const struct each_gate_answer *e = context;
	const struct db_gate_answer a = {
		.rollout = e->rollout,
		.position = (size_t) sql_number(row, 0),
		.gate = sql_text(row, 1),
		.at = sqlite3_column_int64(row, 2),
		.verdict = sql_text(row, 3),
		.text = sql_text(row, 4),
		.data = sql_text(row, 5),
	};

	return e->each(e->user, &a);
}

int db_gate_answers(struct db *db, const char *rollout, int64_t until,
		    int (*each)(void *user, const struct db_gate_answer *row), void *user)
{
	struct each_gate_answer e = { each, user, rollout };
	int r = sql_query(
		db,
		"SELECT position, gate, at, verdict, text, data FROM gate_answers WHERE rollout = ?1 AND at <= ?2"
		" ORDER BY id",
		give_gate_answer, &e, "si", rollout, until);

	return r > 0 ? 0 : r;
}
