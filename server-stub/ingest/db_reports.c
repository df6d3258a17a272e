#include "server-stub/ingest/db_reports.h"

#include "server-stub/ingest/db_nodes.h"
#include "server-stub/ingest/sql.h"

#include <errno.h>
#include <string.h>

enum { SEEN_KEPT = 256, STRANGERS_KEPT = 1000 };

struct seen_row {
	struct db_seen *ret;
	const char *digest, *boot_id;
};

static int read_highest(void *context, sqlite3_stmt *row)
{
	struct seen_row *s = context;
	const char *boot = sql_text(row, 1);

	s->ret->highest = sql_number(row, 0);
	if (boot && strlen(boot) < sizeof(s->ret->boot_id))
		memcpy(s->ret->boot_id, boot, strlen(boot) + 1);
	return 0;
}

static int read_seen(void *context, sqlite3_stmt *row)
{
	struct seen_row *s = context;

	s->ret->sequence_seen = true;
	s->ret->same = str_eq(sql_text(row, 0), s->digest);
	s->ret->same_boot = str_eq(sql_text(row, 1), s->boot_id);
	return 0;
}

int db_report_seen(struct db *db, const char *node, const char *boot_id, uint64_t sequence, const char *digest_hex,
		   struct db_seen *ret)
{
	struct seen_row context = { ret, digest_hex, boot_id };
	int64_t known = 0;
	int r;

	*ret = (struct db_seen){ 0 };
	r = sql_query(db, "SELECT sequence, boot_id FROM nodes WHERE node = ?1", read_highest, &context, "s",
		      node);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	r = sql_query(db, "SELECT count(*) FROM boots WHERE node = ?1 AND boot_id = ?2", sql_read_number, &known,
		      "ss", node, boot_id);
	if (r < 0)
		return r;
	ret->boot_known = known > 0;
	r = sql_query(db, "SELECT digest, boot_id FROM seen WHERE node = ?1 AND sequence = ?2", read_seen,
		      &context, "su", node, sequence);
	return r < 0 ? r : 0;
}

/* Labels decide who belongs to which stage of any rollout. */
static void touch_labels(struct db *db, const struct db_report *r)
{
	int same = sql_query(db, "SELECT 1 FROM nodes WHERE node = ?1 AND labels = ?2", NULL, NULL, "ss", r->node,
			     r->labels);

	db->generation++;
	if (same <= 0)
		db_touch(db, NULL);
}

int db_report_store(struct db *db, const struct db_report *r, const char *digest_hex)
{
	unsigned changes = 0;
	int e;

	touch_labels(db, r);
	e = sql_change(
		db,
		"UPDATE nodes SET sequence = ?2, boot_id = ?3, reported_at = ?4, labels = ?5, report = ?6,"
		" way_component = ?7, way_to = ?8, way_state = ?9, way_update = ?10, bytes_done = ?11, "
		"signed_component = ?7, signed_to = ?8, signed_state = ?9, signed_update = ?10, "
		"bytes_total = ?12, timestamp = ?13, degraded = ?15,"
		" failing_at = CASE WHEN ?14 IS NULL THEN 0 WHEN failing IS NULL THEN ?4 ELSE failing_at END,"
		" failing = ?14"
		" WHERE node = ?1",
		&changes, "susissssssuuuss", r->node, r->sequence, r->boot_id, r->now, r->labels, r->body,
		r->under_way, r->under_way_to, r->under_way_state, r->under_way_update, r->bytes_done,
		r->bytes_total, r->timestamp, r->failing, r->degraded);
	e = sql_changed_one(e, changes);
	if (e < 0)
		return e;
	e = sql_change(db, "INSERT OR REPLACE INTO seen (node, sequence, digest, boot_id) VALUES (?1, ?2, ?3, ?4)",
		       NULL, "suss", r->node, r->sequence, digest_hex, r->boot_id);
	if (e < 0)
		return e;
	e = sql_change(
		db,
		"DELETE FROM seen WHERE node = ?1 AND sequence <= (SELECT sequence FROM seen WHERE node = ?1"
		" ORDER BY sequence DESC LIMIT 1 OFFSET ?2)",
		NULL, "si", r->node, (int64_t) SEEN_KEPT);
	if (e < 0)
		return e;
	e = sql_change(db, "INSERT OR IGNORE INTO boots (node, boot_id, first_at) VALUES (?1, ?2, ?3)", NULL,
		       "ssi", r->node, r->boot_id, r->now);
	if (e < 0)
		return e;
	/* Made after the node asked, and the update it asked for is not under way: it has ended, or never began. */
	return sql_change(db,
			  "DELETE FROM places WHERE node = ?1 AND sequence > 0 AND sequence < ?2"
			  " AND (?3 IS NULL OR update_id != ?3)",
			  NULL, "sus", r->node, r->sequence, r->under_way_update);
}

int db_components_clear(struct db *db, const char *node)
{
	db_touch_components(db, node);
	return sql_change(db, "DELETE FROM components WHERE node = ?1", NULL, "s", node);
}

int db_component_store(struct db *db, const char *node, const struct db_component *c)
{
	db_touch(db, c->component);
	return sql_change(
		db,
		"INSERT OR REPLACE INTO components (node, component, version, previous, rollout, stage, why,"
		" why_detail, wants, denies) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
		NULL, "sssssssssb", node, c->component, c->version, c->previous, c->rollout, c->stage, c->why,
		c->why_detail, c->wants, c->denies);
}

int db_stranger(struct db *db, const char *name, const char *reason, int64_t now)
{
	int r = sql_change(
		db,
		"INSERT INTO strangers (name, reason, count, at) VALUES (?1, ?2, 1, ?3)"
		" ON CONFLICT (name) DO UPDATE SET reason = excluded.reason, count = count + 1, at = excluded.at",
		NULL, "ssi", name, reason, now);

	if (r < 0)
		return r;
	return sql_change(db,
			  "DELETE FROM strangers WHERE rowid <= (SELECT rowid FROM strangers ORDER BY rowid DESC "
			  "LIMIT 1 OFFSET ?1)",
			  NULL, "i", (int64_t) STRANGERS_KEPT);
}

struct each_stranger {
	int (*each)(void *user, const struct db_stranger *row);
	void *user;
};

static int give_stranger(void *context, sqlite3_stmt *row)
{
	struct each_stranger *e = context;
	struct db_stranger s = { sql_text(row, 0), sql_text(row, 1), sql_number(row, 2),
				 sqlite3_column_int64(row, 3) };

	return e->each(e->user, &s);
}

int db_strangers(struct db *db, int (*each)(void *user, const struct db_stranger *row), void *user)
{
	struct each_stranger e = { each, user };
	int r = sql_query(db, "SELECT name, reason, count, at FROM strangers ORDER BY name", give_stranger, &e,
			  "");

	return r > 0 ? 0 : r;
}

int db_result_add(struct db *db, const struct db_result *r)
{
	unsigned changes = 0;
	int e;

	e = sql_change(
		db,
		"INSERT OR IGNORE INTO results (node, update_id, component, from_version, to_version, rollout, "
		"stage, seq,"
		" release_sha256, number, name, class, detail, log_tail, at, received_at, duration_ms, pause_ms)"
		" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
		&changes, "sssssssusussssiiuu", r->node, r->update, r->component, r->from, r->to, r->rollout,
		r->stage, r->seq, r->release_sha256, r->number, r->name, r->class, r->detail, r->log_tail, r->at,
		r->received_at, r->duration_ms, r->pause_ms);
	if (e < 0)
		return e;
	if (changes == 0)
		return 0;
	db_touch(db, r->component);
	/* However it ended, it is over: whoever waits for the place may have it. */
	e = sql_change(db, "DELETE FROM places WHERE node = ?1 AND update_id = ?2", NULL, "ss", r->node,
		       r->update);
	return e < 0 ? e : 1;
}

struct each_result {
	int (*each)(void *user, const struct db_result *row);
	void *user;
};

static int give_result(void *context, sqlite3_stmt *row)
{
	struct each_result *e = context;
	struct db_result r = {
		.node = sql_text(row, 0),
		.update = sql_text(row, 1),
		.component = sql_text(row, 2),
		.from = sql_text(row, 3),
		.to = sql_text(row, 4),
		.rollout = sql_text(row, 5),
		.stage = sql_text(row, 6),
		.seq = sql_number(row, 7),
		.release_sha256 = sql_text(row, 8),
		.number = sql_number(row, 9),
		.name = sql_text(row, 10),
		.class = sql_text(row, 11),
		.detail = sql_text(row, 12),
		.log_tail = sql_text(row, 13),
		.at = sqlite3_column_int64(row, 14),
		.received_at = sqlite3_column_int64(row, 15),
		.duration_ms = sql_number(row, 16),
		.pause_ms = sql_number(row, 17),
	};

	return e->each(e->user, &r);
}

int db_results(struct db *db, const char *node, const char *rollout,
	       int (*each)(void *user, const struct db_result *row), void *user)
{
	struct each_result e = { each, user };
	int r = sql_query(
		db,
		"SELECT node, update_id, component, from_version, to_version, rollout, stage, seq, release_sha256,"
		" number, name, class, detail, log_tail, at, received_at, duration_ms, pause_ms FROM results"
		" WHERE (?1 IS NULL OR node = ?1) AND (?2 IS NULL OR rollout = ?2) ORDER BY id",
		give_result, &e, "ss", node, rollout);

	return r > 0 ? 0 : r;
}
