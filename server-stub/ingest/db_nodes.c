#include "server-stub/ingest/db_nodes.h"

#include "server-stub/ingest/sql.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct same_keys {
	const char *identity, *transport;
	bool same;
};

static int compare_keys(void *context, sqlite3_stmt *row)
{
	struct same_keys *k = context;

	k->same = str_eq(sql_text(row, 0), k->identity) && str_eq(sql_text(row, 1), k->transport);
	return 0;
}

int db_node_add(struct db *db, const char *node, const char *identity_public, const char *transport_public,
		const char *labels, int64_t now)
{
	struct same_keys keys = { identity_public, transport_public, false };
	int r;

	r = sql_query(db, "SELECT identity_public, transport_public FROM nodes WHERE node = ?1", compare_keys,
		      &keys, "s", node);
	if (r < 0)
		return r;
	if (r > 0)
		return keys.same ? 0 : -EEXIST;
	db_touch(db, NULL);
	r = sql_change(db, "DELETE FROM removed WHERE node = ?1", NULL, "s", node);
	if (r < 0)
		return r;
	return sql_change(db,
			  "INSERT INTO nodes (node, identity_public, transport_public, labels, added_at)"
			  " VALUES (?1, ?2, ?3, ?4, ?5)",
			  NULL, "ssssi", node, identity_public, transport_public, labels, now);
}

/* What is stored of a node, a table a statement. */
static int change_each(struct db *db, const char *const *statements, size_t count, const char *node)
{
	int r = 0;

	db_touch(db, NULL);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = sql_change(db, statements[i], NULL, "s", node);
	return r;
}

int db_node_remove(struct db *db, const char *node, int64_t now)
{
	static const char *const statements[] = {
		"DELETE FROM components WHERE node = ?1",
		"DELETE FROM seen WHERE node = ?1",
		"DELETE FROM boots WHERE node = ?1",
		"DELETE FROM results WHERE node = ?1",
		"DELETE FROM members WHERE node = ?1",
		"DELETE FROM orders WHERE node = ?1",
		"DELETE FROM places WHERE node = ?1",
		"DELETE FROM skips WHERE node = ?1",
		"DELETE FROM enrolments WHERE node = ?1",
		"DELETE FROM metric_days WHERE series IN (SELECT id FROM series WHERE node = ?1)",
		"DELETE FROM series WHERE node = ?1",
	};
	unsigned changes = 0;
	int r;

	r = change_each(db, statements, ARRAY_LEN(statements), node);
	if (r == 0)
		r = sql_change(db, "DELETE FROM nodes WHERE node = ?1", &changes, "s", node);
	if (r < 0)
		return r;
	if (changes == 0)
		return -ENOENT;
	return sql_change(db, "INSERT OR REPLACE INTO removed (node, at) VALUES (?1, ?2)", NULL, "si", node, now);
}

struct each_removed {
	int (*each)(void *user, const char *node);
	void *user;
};

static int give_removed(void *context, sqlite3_stmt *row)
{
	struct each_removed *e = context;

	return e->each(e->user, sql_text(row, 0));
}

int db_removed(struct db *db, int (*each)(void *user, const char *node), void *user)
{
	struct each_removed e = { each, user };
	int r = sql_query(db, "SELECT node FROM removed ORDER BY node", give_removed, &e, "");

	return r > 0 ? 0 : r;
}

struct each_node {
	int (*each)(void *user, const struct db_node *row);
	void *user;
};

static int give_node(void *context, sqlite3_stmt *row)
{
	struct each_node *e = context;
	struct db_node n = {
		.node = sql_text(row, 0),
		.identity_public = sql_text(row, 1),
		.transport_public = sql_text(row, 2),
		.labels = sql_text(row, 3),
		.added_at = sqlite3_column_int64(row, 4),
		.quarantined = sql_text(row, 5) != NULL,
		.quarantine_reason = sql_text(row, 5),
		.online = sqlite3_column_int(row, 6) != 0,
		.presence_at = sqlite3_column_int64(row, 7),
		.sequence = sql_number(row, 8),
		.boot_id = sql_text(row, 9),
		.reported_at = sqlite3_column_int64(row, 10),
		.report = sql_text(row, 11),
		.under_way = sql_text(row, 12),
		.under_way_to = sql_text(row, 13),
		.under_way_state = sql_text(row, 14),
		.bytes_done = sql_number(row, 15),
		.bytes_total = sql_number(row, 16),
		.timestamp = sql_number(row, 17),
		.returns = sql_number(row, 18),
		.returned_at = sqlite3_column_int64(row, 19),
		.returns_told_at = sqlite3_column_int64(row, 20),
	};

	return e->each(e->user, &n);
}

#define NODE_COLUMNS                                                                                              \
	"SELECT node, identity_public, transport_public, labels, added_at, quarantine, online, presence_at,"      \
	" sequence, boot_id, reported_at, report, way_component, way_to, way_state, bytes_done, bytes_total,"     \
	" timestamp, returns, returned_at, returns_told_at FROM nodes"

int db_nodes(struct db *db, const char *node, int (*each)(void *user, const struct db_node *row), void *user)
{
	struct each_node e = { each, user };
	int r = sql_query(db, NODE_COLUMNS " WHERE ?1 IS NULL OR node = ?1 ORDER BY node", give_node, &e, "s",
			  node);

	if (r == 0 && node)
		return -ENOENT;
	return r > 0 ? 0 : r;
}

int db_nodes_after(struct db *db, const char *node, size_t limit,
		   int (*each)(void *user, const struct db_node *row), void *user)
{
	struct each_node e = { each, user };

	return sql_query(db, NODE_COLUMNS " WHERE node > ?1 ORDER BY node LIMIT ?2", give_node, &e, "si", node,
			 (int64_t) limit);
}

static int read_counts(void *context, sqlite3_stmt *row)
{
	*(struct db_node_counts *) context = (struct db_node_counts){
		.nodes = sql_number(row, 0),
		.online = sql_number(row, 1),
		.quarantined = sql_number(row, 2),
		.silent = sql_number(row, 3),
	};
	return 0;
}

int db_node_count(struct db *db, int64_t silent_since, struct db_node_counts *ret)
{
	int r = sql_query(db,
			  "SELECT count(*), total(online != 0), total(quarantine IS NOT NULL),"
			  " total(reported_at = 0 OR reported_at < ?1) FROM nodes",
			  read_counts, ret, "i", silent_since);

	return r > 0 ? 0 : r;
}

int db_node_identity(struct db *db, const char *node, struct buf *ret_pem)
{
	int r = sql_query(db, "SELECT identity_public FROM nodes WHERE node = ?1", sql_add_text, ret_pem, "s",
			  node);

	if (r == 0)
		return -ENOENT;
	return r > 0 ? 0 : r;
}

int db_node_certificate(struct db *db, const char *node, struct buf *ret_pem)
{
	int r = sql_query(db, "SELECT certificate FROM nodes WHERE node = ?1 AND certificate IS NOT NULL",
			  sql_add_text, ret_pem, "s", node);

	if (r == 0)
		return -ENOENT;
	return r > 0 ? 0 : r;
}

int db_node_quarantine(struct db *db, const char *node, const char *reason)
{
	unsigned changes = 0;
	int r = sql_change(db, "UPDATE nodes SET quarantine = ?2 WHERE node = ?1", &changes, "ss", node, reason);

	db_touch(db, NULL);
	return sql_changed_one(r, changes);
}

int db_node_trust(struct db *db, const char *node)
{
	unsigned changes = 0;
	int r;

	db_touch(db, NULL);
	r = sql_change(db, "UPDATE nodes SET quarantine = NULL, sequence = 0, boot_id = NULL WHERE node = ?1",
		       &changes, "s", node);
	r = sql_changed_one(r, changes);
	if (r < 0)
		return r;
	r = sql_change(db, "DELETE FROM seen WHERE node = ?1", NULL, "s", node);
	if (r < 0)
		return r;
	return sql_change(db, "DELETE FROM boots WHERE node = ?1", NULL, "s", node);
}

int db_node_certify(struct db *db, const char *node, const char *transport_public, const char *certificate)
{
	unsigned changes = 0;
	int r = sql_change(db, "UPDATE nodes SET transport_public = ?2, certificate = ?3 WHERE node = ?1",
			   &changes, "sss", node, transport_public, certificate);

	return sql_changed_one(r, changes);
}

int db_node_rekey(struct db *db, const char *node, const char *identity_public, const char *transport_public,
		  int64_t now)
{
	static const char *const statements[] = {
		"DELETE FROM components WHERE node = ?1", "DELETE FROM seen WHERE node = ?1",
		"DELETE FROM boots WHERE node = ?1",	  "DELETE FROM results WHERE node = ?1",
		"DELETE FROM members WHERE node = ?1",	  "DELETE FROM places WHERE node = ?1",
	};
	unsigned changes = 0;
	int r;

	r = change_each(db, statements, ARRAY_LEN(statements), node);
	if (r == 0)
		r = sql_change(
			db,
			"UPDATE nodes SET identity_public = ?2, transport_public = ?3, added_at = ?4,"
			" certificate = NULL, quarantine = NULL, sequence = 0, boot_id = NULL, reported_at = 0,"
			" report = NULL, way_component = NULL, way_to = NULL, way_state = NULL, way_update = NULL,"
			" bytes_done = 0, bytes_total = 0, timestamp = 0, signed_component = NULL, signed_to = "
			"NULL,"
			" signed_state = NULL, signed_update = NULL, failing = NULL, failing_at = 0, degraded = "
			"NULL, event_queue = NULL,"
			" event_number = 0, event_dropped = 0, presence_counter = 0, births = '', returns = 0,"
			" returns_since = 0, returned_at = 0, returns_told_at = 0 WHERE node = ?1",
			&changes, "sssi", node, identity_public, transport_public, now);
	return sql_changed_one(r, changes);
}

int db_node_presence(struct db *db, const char *node, bool online, int64_t counter, int64_t now)
{
	unsigned changes = 0;
	int r = sql_change(
		db,
		"UPDATE nodes SET online = CASE WHEN ?2 OR ?4 = 0 OR ?4 >= presence_counter THEN ?2 ELSE "
		"online END,"
		" presence_counter = CASE WHEN ?2 THEN ?4 ELSE presence_counter END, presence_at = ?3"
		" WHERE node = ?1",
		&changes, "sbii", node, online, now, counter);

	return sql_changed_one(r, changes);
}

static int read_births(void *user, sqlite3_stmt *row)
{
	struct db_births *b = user;
	const char *text = sql_text(row, 0);

	*b = (struct db_births){ .returns = sql_number(row, 1),
				 .returns_since = sqlite3_column_int64(row, 2),
				 .returned_at = sqlite3_column_int64(row, 3),
				 .told_at = sqlite3_column_int64(row, 4) };
	for (size_t i = 0; text && *text && i < DB_BIRTHS_KEPT; i++) {
		size_t len = strcspn(text, " ");

		if (len <= DB_BIRTH_MAX)
			memcpy(b->keys[i], text, len);
		text += len + (text[len] == ' ');
	}
	return 0;
}

int db_node_births(struct db *db, const char *node, struct db_births *ret)
{
	int r = sql_query(
		db,
		"SELECT births, returns, returns_since, returned_at, returns_told_at FROM nodes WHERE node = ?1",
		read_births, ret, "s", node);

	return r < 0 ? r : r == 0 ? -ENOENT : 0;
}

int db_node_births_set(struct db *db, const char *node, const struct db_births *b)
{
	char text[DB_BIRTHS_KEPT * (DB_BIRTH_MAX + 1) + 1] = "";
	unsigned changes = 0;
	int r;

	for (size_t i = 0, n = 0; i < DB_BIRTHS_KEPT && b->keys[i][0]; i++)
		n += (size_t) snprintf(text + n, sizeof(text) - n, "%s%s", i ? " " : "", b->keys[i]);
	r = sql_change(db,
		       "UPDATE nodes SET births = ?2, returns = ?3, returns_since = ?4, returned_at = ?5,"
		       " returns_told_at = ?6 WHERE node = ?1",
		       &changes, "ssuiii", node, text, b->returns, b->returns_since, b->returned_at, b->told_at);
	return sql_changed_one(r, changes);
}

int db_node_heard(struct db *db, const char *node, int64_t now)
{
	return sql_change(db, "UPDATE nodes SET online = 1, presence_at = ?2 WHERE node = ?1 AND online = 0", NULL,
			  "si", node, now);
}

int db_presence_forget(struct db *db)
{
	return sql_change(db, "UPDATE nodes SET online = 0, presence_at = 0", NULL, "");
}

int db_node_progress(struct db *db, const char *node, const char *component, const char *to, const char *state,
		     uint64_t bytes_done, uint64_t bytes_total)
{
	unsigned changes = 0;
	int r = sql_change(db,
			   "UPDATE nodes SET way_component = ?2, way_to = ?3, way_state = ?4, bytes_done = ?5, "
			   "bytes_total = ?6"
			   " WHERE node = ?1",
			   &changes, "ssssuu", node, component, to, state, bytes_done, bytes_total);

	return sql_changed_one(r, changes);
}

int db_node_event(struct db *db, const char *node, const char *queue, uint64_t number, uint64_t dropped,
		  bool *ret_news, bool *ret_more_dropped)
{
	unsigned news = 0, more = 0;
	int r = sql_change(
		db,
		"UPDATE nodes SET event_dropped = CASE WHEN event_queue IS ?2 THEN event_dropped ELSE 0 END,"
		" event_queue = ?2, event_number = ?3"
		" WHERE node = ?1 AND (event_queue IS NOT ?2 OR event_number < ?3)",
		&news, "ssu", node, queue, number);

	if (r == 0 && news > 0)
		r = sql_change(db, "UPDATE nodes SET event_dropped = ?2 WHERE node = ?1 AND event_dropped < ?2",
			       &more, "su", node, dropped);
	if (r < 0)
		return r;
	*ret_news = news > 0;
	*ret_more_dropped = more > 0;
	return 0;
}

struct each_component {
	int (*each)(void *user, const struct db_component *row);
	void *user;
};

static int give_component(void *context, sqlite3_stmt *row)
{
	struct each_component *e = context;
	struct db_component c = {
		.component = sql_text(row, 0),
		.version = sql_text(row, 1),
		.previous = sql_text(row, 2),
		.rollout = sql_text(row, 3),
		.stage = sql_text(row, 4),
		.why = sql_text(row, 5),
		.why_detail = sql_text(row, 6),
		.wants = sql_text(row, 7),
		.denies = sqlite3_column_int(row, 8) != 0,
	};

	return e->each(e->user, &c);
}

int db_components(struct db *db, const char *node, int (*each)(void *user, const struct db_component *row),
		  void *user)
{
	struct each_component e = { each, user };
	int r = sql_query(
		db,
		"SELECT component, version, previous, rollout, stage, why, why_detail, wants, denies FROM "
		"components"
		" WHERE node = ?1 ORDER BY component",
		give_component, &e, "s", node);

	return r > 0 ? 0 : r;
}
