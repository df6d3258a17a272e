#include "server-stub/ingest/db.h"

#include "base/err.h"
#include "crypto/digest.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { STATEMENTS_MAX = 112, SCHEMA_VERSION = 15, SEEN_KEPT = 256, STRANGERS_KEPT = 1000, ERROR_BYTES = 256 };

/* A day of a metric: for each hour its mean, as a 32 bit float, and how many samples, both little-endian. */
enum { DAY_HOURS = 24, HOUR_BYTES = 6, DAY_BYTES = DAY_HOURS * HOUR_BYTES };

enum { TOUCHED_MAX = 64, BUDGET_PLACES = 16 * 1024, LABEL_PATH_MAX = 300 };

struct cached {
	const char *sql; /* the address of the literal: each call site has one */
	sqlite3_stmt *stmt;
};

struct db {
	sqlite3 *handle;
	struct cached cache[STATEMENTS_MAX];
	size_t cache_count;
	uint64_t generation;
	char touched[TOUCHED_MAX][ID_MAX + 1];
	size_t touched_count;
	bool touched_all;
	int64_t last_event;
	bool in_transaction, in_batch;
	char error[ERROR_BYTES];
	int64_t budget_minute;
	uint16_t spent[DB_BUDGET_COUNT][BUDGET_PLACES];
};

/* One entry per schema version; the text that leads there from the one before. */
static const char *const migrations[] = {
	"CREATE TABLE nodes (node TEXT PRIMARY KEY, identity_public TEXT NOT NULL, transport_public TEXT NOT NULL,"
	" labels TEXT NOT NULL, added_at INTEGER NOT NULL, quarantine TEXT, online INTEGER NOT NULL DEFAULT 0,"
	" presence_at INTEGER NOT NULL DEFAULT 0, sequence INTEGER NOT NULL DEFAULT 0, boot_id TEXT,"
	" reported_at INTEGER NOT NULL DEFAULT 0, report TEXT, way_component TEXT, way_to TEXT, way_state TEXT,"
	" way_update TEXT, bytes_done INTEGER NOT NULL DEFAULT 0, bytes_total INTEGER NOT NULL DEFAULT 0) STRICT;"
	"CREATE TABLE components (node TEXT NOT NULL REFERENCES nodes, component TEXT NOT NULL, version TEXT,"
	" previous TEXT, rollout TEXT, stage TEXT, why TEXT, why_detail TEXT, wants TEXT, denies INTEGER NOT NULL,"
	" PRIMARY KEY (node, component)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE seen (node TEXT NOT NULL REFERENCES nodes, sequence INTEGER NOT NULL, digest TEXT NOT NULL,"
	" boot_id TEXT NOT NULL, PRIMARY KEY (node, sequence)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE boots (node TEXT NOT NULL REFERENCES nodes, boot_id TEXT NOT NULL, first_at INTEGER NOT "
	"NULL,"
	" PRIMARY KEY (node, boot_id)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE strangers (name TEXT PRIMARY KEY, reason TEXT NOT NULL, count INTEGER NOT NULL,"
	" at INTEGER NOT NULL) STRICT;"
	"CREATE TABLE results (id INTEGER PRIMARY KEY, node TEXT NOT NULL REFERENCES nodes, update_id TEXT NOT "
	"NULL,"
	" component TEXT NOT NULL, from_version TEXT, to_version TEXT, rollout TEXT, stage TEXT, seq INTEGER NOT "
	"NULL,"
	" release_sha256 TEXT, number INTEGER NOT NULL, name TEXT, class TEXT, detail TEXT, log_tail TEXT,"
	" at INTEGER NOT NULL, received_at INTEGER NOT NULL, duration_ms INTEGER NOT NULL, pause_ms INTEGER NOT "
	"NULL,"
	" UNIQUE (node, update_id)) STRICT;"
	"CREATE INDEX results_of_rollout ON results (rollout, node, component, id);"
	"CREATE TABLE rollouts (id TEXT PRIMARY KEY, seq INTEGER NOT NULL UNIQUE, component TEXT NOT NULL,"
	" version TEXT NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL, reason TEXT, by TEXT, state_at INTEGER "
	"NOT NULL,"
	" created_at INTEGER NOT NULL, plan TEXT NOT NULL, release_path TEXT NOT NULL, release_sha256 TEXT NOT "
	"NULL,"
	" undo TEXT NOT NULL DEFAULT '[]', note TEXT NOT NULL DEFAULT '') STRICT;"
	"CREATE TABLE stages (rollout TEXT NOT NULL REFERENCES rollouts, position INTEGER NOT NULL, name TEXT NOT "
	"NULL,"
	" open INTEGER NOT NULL DEFAULT 0, opened_at INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (rollout, position)) "
	"STRICT,"
	" WITHOUT ROWID;"
	"CREATE TABLE members (rollout TEXT NOT NULL REFERENCES rollouts, node TEXT NOT NULL REFERENCES nodes,"
	" position INTEGER NOT NULL, acted INTEGER NOT NULL, PRIMARY KEY (rollout, node)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE orders (id TEXT PRIMARY KEY, node TEXT NOT NULL REFERENCES nodes, kind TEXT NOT NULL, "
	"component TEXT,"
	" from_version TEXT, to_version TEXT, reason TEXT, by TEXT, issued INTEGER NOT NULL, until INTEGER NOT "
	"NULL,"
	" withdrawn_at INTEGER NOT NULL DEFAULT 0, withdrawn_by TEXT) STRICT;"
	"CREATE INDEX orders_of_node ON orders (node, withdrawn_at);"
	"CREATE TABLE freezes (id TEXT PRIMARY KEY, labels TEXT NOT NULL, components TEXT NOT NULL, reason TEXT "
	"NOT NULL,"
	" by TEXT, at INTEGER NOT NULL, until INTEGER NOT NULL, lifted_at INTEGER NOT NULL DEFAULT 0) STRICT;"
	"CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, kind TEXT NOT NULL, node "
	"TEXT,"
	" component TEXT, text TEXT NOT NULL, detail TEXT) STRICT;"
	"CREATE TABLE audit (id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, by TEXT NOT NULL,"
	" action TEXT NOT NULL, detail TEXT NOT NULL, hash TEXT NOT NULL) STRICT;"
	"CREATE TRIGGER events_stay BEFORE UPDATE ON events BEGIN SELECT raise(ABORT, 'events only grow'); END;"
	"CREATE TRIGGER events_kept BEFORE DELETE ON events BEGIN SELECT raise(ABORT, 'events only grow'); END;"
	"CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN SELECT raise(ABORT, 'the audit only grows'); END;"
	"CREATE TRIGGER audit_kept BEFORE DELETE ON audit BEGIN SELECT raise(ABORT, 'the audit only grows'); END;"
	"CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;",
	"CREATE TABLE approvals (rollout TEXT NOT NULL REFERENCES rollouts, position INTEGER NOT NULL,"
	" expires INTEGER NOT NULL, keyid TEXT NOT NULL, sig TEXT NOT NULL, at INTEGER NOT NULL, by TEXT,"
	" PRIMARY KEY (rollout, position, expires, keyid)) STRICT, WITHOUT ROWID;"
	"ALTER TABLE nodes ADD COLUMN timestamp INTEGER NOT NULL DEFAULT 0;"
	/* What a signed report said is under way; way_* also follow events, which anybody on the road can make up. */
	"ALTER TABLE nodes ADD COLUMN signed_component TEXT; ALTER TABLE nodes ADD COLUMN signed_to TEXT;"
	"ALTER TABLE nodes ADD COLUMN signed_state TEXT;",
	"CREATE TABLE removed (node TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT;",
	"CREATE TABLE places (node TEXT PRIMARY KEY REFERENCES nodes, update_id TEXT NOT NULL, rollout TEXT NOT "
	"NULL,"
	" label TEXT NOT NULL, value TEXT NOT NULL, sequence INTEGER NOT NULL, granted_at INTEGER NOT NULL) "
	"STRICT;"
	"ALTER TABLE nodes ADD COLUMN signed_update TEXT; ALTER TABLE nodes ADD COLUMN failing TEXT;",
	"ALTER TABLE orders ADD COLUMN unconfirmed INTEGER NOT NULL DEFAULT 0;",
	"ALTER TABLE nodes ADD COLUMN event_queue TEXT;"
	"ALTER TABLE nodes ADD COLUMN event_number INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE nodes ADD COLUMN event_dropped INTEGER NOT NULL DEFAULT 0;",
	"ALTER TABLE orders ADD COLUMN restore_data INTEGER NOT NULL DEFAULT 0;",
	"CREATE TABLE decisions (id INTEGER PRIMARY KEY, rollout TEXT NOT NULL REFERENCES rollouts, at INTEGER "
	"NOT NULL,"
	" action TEXT NOT NULL, why TEXT NOT NULL, input TEXT NOT NULL) STRICT;"
	"CREATE INDEX decisions_of_rollout ON decisions (rollout, at, id);",
	"CREATE TABLE skips (rollout TEXT NOT NULL REFERENCES rollouts, node TEXT NOT NULL REFERENCES nodes,"
	" at INTEGER NOT NULL, reason TEXT NOT NULL, by TEXT NOT NULL, PRIMARY KEY (rollout, node)) STRICT, "
	"WITHOUT ROWID;",
	/* What the gates of a stage saw, answered and were told. */
	"CREATE TABLE gate_looks (id INTEGER PRIMARY KEY, rollout TEXT NOT NULL REFERENCES rollouts,"
	" position INTEGER NOT NULL, gate TEXT NOT NULL, at INTEGER NOT NULL, said TEXT NOT NULL, low TEXT NOT "
	"NULL,"
	" high TEXT NOT NULL, samples INTEGER NOT NULL, since INTEGER NOT NULL, text TEXT NOT NULL, data TEXT) "
	"STRICT;"
	"CREATE INDEX looks_of_gate ON gate_looks (rollout, position, gate, id);"
	"CREATE TABLE gates (rollout TEXT NOT NULL REFERENCES rollouts, position INTEGER NOT NULL, gate TEXT NOT "
	"NULL,"
	" due_at INTEGER NOT NULL DEFAULT 0, asked_at INTEGER NOT NULL DEFAULT 0, word TEXT, word_at INTEGER NOT "
	"NULL"
	" DEFAULT 0, word_by TEXT, word_reason TEXT, PRIMARY KEY (rollout, position, gate)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE gate_answers (id INTEGER PRIMARY KEY, rollout TEXT NOT NULL REFERENCES rollouts,"
	" position INTEGER NOT NULL, gate TEXT NOT NULL, at INTEGER NOT NULL, verdict TEXT NOT NULL, text TEXT "
	"NOT NULL,"
	" data TEXT) STRICT;"
	"CREATE INDEX answers_of_gate ON gate_answers (rollout, position, gate, id);"
	"ALTER TABLE nodes ADD COLUMN failing_at INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE nodes ADD COLUMN degraded TEXT;",
	"ALTER TABLE nodes ADD COLUMN presence_counter INTEGER NOT NULL DEFAULT 0;",
	"CREATE TABLE enrolments (node TEXT PRIMARY KEY, secret TEXT NOT NULL, labels TEXT NOT NULL, by TEXT,"
	" issued_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, used_at INTEGER NOT NULL DEFAULT 0,"
	" identity_public TEXT, transport_public TEXT, waiting INTEGER NOT NULL DEFAULT 0,"
	" refused INTEGER NOT NULL DEFAULT 0) STRICT;"
	"ALTER TABLE nodes ADD COLUMN certificate TEXT;",
	"CREATE TABLE evidence (id INTEGER PRIMARY KEY, component TEXT NOT NULL, version TEXT NOT NULL,"
	" release_sha256 TEXT NOT NULL, name TEXT NOT NULL, outcome TEXT NOT NULL, status TEXT NOT NULL,"
	" command TEXT NOT NULL, output TEXT NOT NULL, by TEXT, duration_ms INTEGER NOT NULL, at INTEGER NOT NULL)"
	" STRICT;"
	"CREATE INDEX evidence_of_release ON evidence (component, version, release_sha256, name, id);",
	"CREATE TABLE series (id INTEGER PRIMARY KEY, node TEXT NOT NULL REFERENCES nodes, component TEXT NOT "
	"NULL,"
	" name TEXT NOT NULL, version TEXT NOT NULL, UNIQUE (node, component, name, version)) STRICT;"
	"CREATE TABLE metric_days (series INTEGER NOT NULL REFERENCES series, day INTEGER NOT NULL, hours BLOB "
	"NOT "
	"NULL,"
	" PRIMARY KEY (series, day)) STRICT, WITHOUT ROWID;",
	"CREATE TABLE hooks (name TEXT PRIMARY KEY, event INTEGER NOT NULL, sent INTEGER NOT NULL, left_out "
	"INTEGER NOT "
	"NULL, failures INTEGER NOT NULL, sent_at INTEGER NOT NULL, failing_since INTEGER NOT NULL, error TEXT "
	"NOT NULL)"
	" STRICT;",
};
_Static_assert(ARRAY_LEN(migrations) == SCHEMA_VERSION, "every schema version has its migration");

static int failed(struct db *db, int code)
{
	const char *text = db->handle ? sqlite3_errmsg(db->handle) : sqlite3_errstr(code);
	size_t len = strlen(text);

	if (len >= sizeof(db->error))
		len = sizeof(db->error) - 1;
	memcpy(db->error, text, len);
	db->error[len] = '\0';
	switch (code & 0xff) {
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_IOERR:
		return -EIO;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_CONSTRAINT:
		return -EEXIST;
	default:
		return -ERR_DATABASE;
	}
}

const char *db_error(const struct db *db)
{
	return db->error[0] ? db->error : "no error";
}

uint64_t db_generation(const struct db *db)
{
	return db->generation;
}

/* `component` NULL: any of them. */
static void touch(struct db *db, const char *component)
{
	db->generation++;
	if (!component || db->touched_count == TOUCHED_MAX) {
		db->touched_all = true;
		return;
	}
	for (size_t i = 0; i < db->touched_count; i++)
		if (strcmp(db->touched[i], component) == 0)
			return;
	if (strlen(component) > ID_MAX)
		db->touched_all = true;
	else
		memcpy(db->touched[db->touched_count++], component, strlen(component) + 1);
}

bool db_touched(const struct db *db, const char *component)
{
	for (size_t i = 0; !db->touched_all && i < db->touched_count; i++)
		if (strcmp(db->touched[i], component) == 0)
			return true;
	return db->touched_all;
}

void db_untouch(struct db *db)
{
	db->touched_all = false;
	db->touched_count = 0;
}

/* A statement ready to bind. One that is in use by a caller further up gets a twin of its own. */
static int statement(struct db *db, const char *sql, sqlite3_stmt **ret, bool *ret_cached)
{
	int code;

	for (size_t i = 0; i < db->cache_count; i++)
		if (db->cache[i].sql == sql && !sqlite3_stmt_busy(db->cache[i].stmt)) {
			*ret = db->cache[i].stmt;
			*ret_cached = true;
			return 0;
		}
	code = sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL);
	if (code != SQLITE_OK)
		return failed(db, code);
	*ret_cached = db->cache_count < STATEMENTS_MAX;
	if (*ret_cached)
		db->cache[db->cache_count++] = (struct cached){ sql, *ret };
	return 0;
}

static void release(sqlite3_stmt *stmt, bool cached)
{
	if (cached) {
		sqlite3_reset(stmt);
		sqlite3_clear_bindings(stmt);
	} else {
		sqlite3_finalize(stmt);
	}
}

/* One letter per parameter: s text or NULL, i int64_t, u uint64_t, b bool, h the hours of a day. */
static int bind(sqlite3_stmt *stmt, const char *types, va_list args)
{
	for (int i = 1; *types; types++, i++) {
		const char *text;
		uint64_t number;
		int code;

		switch (*types) {
		case 's':
			text = va_arg(args, const char *);
			code = text ? sqlite3_bind_text(stmt, i, text, -1, SQLITE_TRANSIENT)
				    : sqlite3_bind_null(stmt, i);
			break;
		case 'u':
			number = va_arg(args, uint64_t);
			code = number > INT64_MAX ? SQLITE_RANGE : sqlite3_bind_int64(stmt, i, (int64_t) number);
			break;
		case 'h':
			code = sqlite3_bind_blob(stmt, i, va_arg(args, const uint8_t *), DAY_BYTES,
						 SQLITE_TRANSIENT);
			break;
		case 'b':
			code = sqlite3_bind_int(stmt, i, va_arg(args, int));
			break;
		default:
			code = sqlite3_bind_int64(stmt, i, va_arg(args, int64_t));
			break;
		}
		if (code != SQLITE_OK)
			return code;
	}
	return SQLITE_OK;
}

typedef int row_function(void *context, sqlite3_stmt *row);

/* Returns how many rows there were (0 or more), the callback's answer if it stopped, or a negative error. */
static int query_v(struct db *db, const char *sql, row_function *each, void *context, const char *types,
		   va_list args)
{
	sqlite3_stmt *stmt = NULL;
	bool cached = false;
	int r, code, rows = 0;

	r = statement(db, sql, &stmt, &cached);
	if (r < 0)
		return r;
	code = bind(stmt, types, args);
	if (code != SQLITE_OK) {
		r = failed(db, code);
		release(stmt, cached);
		return r;
	}
	r = 0;
	while ((code = sqlite3_step(stmt)) == SQLITE_ROW) {
		rows++;
		if (each) {
			r = each(context, stmt);
			if (r != 0)
				break;
		}
	}
	if (r == 0 && code != SQLITE_DONE)
		r = failed(db, code);
	release(stmt, cached);
	return r != 0 ? r : rows;
}

static int query(struct db *db, const char *sql, row_function *each, void *context, const char *types, ...)
{
	va_list args;
	int r;

	va_start(args, types);
	r = query_v(db, sql, each, context, types, args);
	va_end(args);
	return r;
}

/* A statement that changes something: *ret_changes (may be NULL) rows. */
static int change(struct db *db, const char *sql, unsigned *ret_changes, const char *types, ...)
{
	va_list args;
	int r;

	va_start(args, types);
	r = query_v(db, sql, NULL, NULL, types, args);
	va_end(args);
	if (r < 0)
		return r;
	if (ret_changes)
		*ret_changes = (unsigned) sqlite3_changes(db->handle);
	return 0;
}

static int read_number(void *context, sqlite3_stmt *row)
{
	*(int64_t *) context = sqlite3_column_int64(row, 0);
	return 0;
}

static const char *text_at(sqlite3_stmt *row, int column)
{
	return (const char *) sqlite3_column_text(row, column);
}

static uint64_t number_at(sqlite3_stmt *row, int column)
{
	int64_t v = sqlite3_column_int64(row, column);

	return v < 0 ? 0 : (uint64_t) v;
}

static int migrate(struct db *db)
{
	int64_t version = 0;
	int r, code;

	r = query(db, "PRAGMA user_version", read_number, &version, "");
	if (r < 0)
		return r;
	if (version > SCHEMA_VERSION)
		return -ERR_AGENT_TOO_OLD;
	for (int64_t v = version < 0 ? 0 : version; v < SCHEMA_VERSION; v++) {
		char pragma[64];

		sqlite3_snprintf((int) sizeof(pragma), pragma, "PRAGMA user_version = %lld", (long long) v + 1);
		code = sqlite3_exec(db->handle, "BEGIN IMMEDIATE", NULL, NULL, NULL);
		if (code == SQLITE_OK)
			code = sqlite3_exec(db->handle, migrations[v], NULL, NULL, NULL);
		if (code == SQLITE_OK)
			code = sqlite3_exec(db->handle, pragma, NULL, NULL, NULL);
		if (code == SQLITE_OK)
			code = sqlite3_exec(db->handle, "COMMIT", NULL, NULL, NULL);
		if (code != SQLITE_OK) {
			r = failed(db, code);
			(void) sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL,
					    NULL); /* it may have ended already */
			return r;
		}
	}
	return 0;
}

int db_open(const char *path, struct db **ret)
{
	CLEANUP(db_closep)
	struct db *db = calloc(1, sizeof(*db));
	int r, code;

	if (!db)
		return -ENOMEM;
	code = sqlite3_open_v2(path, &db->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
			       NULL);
	if (code != SQLITE_OK)
		return failed(db, code);
	(void) sqlite3_busy_timeout(db->handle, 5000);
	(void) sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL); /* a second lock, fine without */
	code = sqlite3_exec(db->handle,
			    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
			    "PRAGMA trusted_schema = OFF; PRAGMA journal_size_limit = 16777216",
			    NULL, NULL, NULL);
	if (code != SQLITE_OK)
		return failed(db, code);
	r = migrate(db);
	if (r < 0)
		return r;
	r = query(db, "SELECT coalesce(max(id), 0) FROM events", read_number, &db->last_event, "");
	if (r < 0)
		return r;
	db->touched_all = true; /* whoever opens it has seen nothing yet */
	*ret = db;
	db = NULL;
	return 0;
}

void db_close(struct db *db)
{
	if (!db)
		return;
	for (size_t i = 0; i < db->cache_count; i++)
		sqlite3_finalize(db->cache[i].stmt);
	sqlite3_close(db->handle);
	free(db);
}

/* After a failure that SQLite answered by rolling back everything, the rest of a batch must not commit by itself. */
static int batch_stands(struct db *db)
{
	return db->in_batch && sqlite3_get_autocommit(db->handle) ? -ERR_DATABASE : 0;
}

int db_begin(struct db *db)
{
	int r = batch_stands(db);

	if (r == 0)
		r = db->in_batch ? change(db, "SAVEPOINT one", NULL, "") : change(db, "BEGIN IMMEDIATE", NULL, "");
	if (r == 0)
		db->in_transaction = true;
	return r;
}

int db_commit(struct db *db)
{
	int r = db->in_batch ? change(db, "RELEASE one", NULL, "") : change(db, "COMMIT", NULL, "");

	if (r == 0)
		db->in_transaction = false;
	return r;
}

/* What was taken back may have been seen already. */
static void look_again(struct db *db)
{
	int64_t last = 0;

	touch(db, NULL);
	if (query(db, "SELECT coalesce(max(id), 0) FROM events", read_number, &last, "") >= 0)
		db->last_event = last;
}

void db_abort(struct db *db)
{
	if (!db->in_transaction)
		return;
	/* SQLite may have rolled back by itself already. */
	if (db->in_batch) {
		(void) change(db, "ROLLBACK TO one", NULL, "");
		(void) change(db, "RELEASE one", NULL, "");
	} else {
		(void) change(db, "ROLLBACK", NULL, "");
	}
	db->in_transaction = false;
	look_again(db);
}

int db_batch_begin(struct db *db)
{
	int r = change(db, "BEGIN IMMEDIATE", NULL, "");

	if (r == 0)
		db->in_batch = true;
	return r;
}

int db_batch_end(struct db *db)
{
	int r = batch_stands(db);

	if (r == 0)
		r = change(db, "COMMIT", NULL, ""); /* the one fsync of all that was acknowledged for the batch */
	db->in_batch = false;
	if (r < 0) {
		if (!sqlite3_get_autocommit(db->handle))
			(void) change(db, "ROLLBACK", NULL, ""); /* nothing more can be done with it */
		look_again(db);
	}
	return r;
}

/* --- nodes --- */

struct same_keys {
	const char *identity, *transport;
	bool same;
};

static int compare_keys(void *context, sqlite3_stmt *row)
{
	struct same_keys *k = context;

	k->same = str_eq(text_at(row, 0), k->identity) && str_eq(text_at(row, 1), k->transport);
	return 0;
}

int db_node_add(struct db *db, const char *node, const char *identity_public, const char *transport_public,
		const char *labels, int64_t now)
{
	struct same_keys keys = { identity_public, transport_public, false };
	int r;

	r = query(db, "SELECT identity_public, transport_public FROM nodes WHERE node = ?1", compare_keys, &keys,
		  "s", node);
	if (r < 0)
		return r;
	if (r > 0)
		return keys.same ? 0 : -EEXIST;
	touch(db, NULL);
	r = change(db, "DELETE FROM removed WHERE node = ?1", NULL, "s", node);
	if (r < 0)
		return r;
	return change(db,
		      "INSERT INTO nodes (node, identity_public, transport_public, labels, added_at)"
		      " VALUES (?1, ?2, ?3, ?4, ?5)",
		      NULL, "ssssi", node, identity_public, transport_public, labels, now);
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
	int r = 0;

	touch(db, NULL);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(statements); i++)
		r = change(db, statements[i], NULL, "s", node);
	if (r == 0)
		r = change(db, "DELETE FROM nodes WHERE node = ?1", &changes, "s", node);
	if (r < 0)
		return r;
	if (changes == 0)
		return -ENOENT;
	return change(db, "INSERT OR REPLACE INTO removed (node, at) VALUES (?1, ?2)", NULL, "si", node, now);
}

struct each_removed {
	int (*each)(void *user, const char *node);
	void *user;
};

static int give_removed(void *context, sqlite3_stmt *row)
{
	struct each_removed *e = context;

	return e->each(e->user, text_at(row, 0));
}

int db_removed(struct db *db, int (*each)(void *user, const char *node), void *user)
{
	struct each_removed e = { each, user };
	int r = query(db, "SELECT node FROM removed ORDER BY node", give_removed, &e, "");

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
		.node = text_at(row, 0),
		.identity_public = text_at(row, 1),
		.transport_public = text_at(row, 2),
		.labels = text_at(row, 3),
		.added_at = sqlite3_column_int64(row, 4),
		.quarantined = text_at(row, 5) != NULL,
		.quarantine_reason = text_at(row, 5),
		.online = sqlite3_column_int(row, 6) != 0,
		.presence_at = sqlite3_column_int64(row, 7),
		.sequence = number_at(row, 8),
		.boot_id = text_at(row, 9),
		.reported_at = sqlite3_column_int64(row, 10),
		.report = text_at(row, 11),
		.under_way = text_at(row, 12),
		.under_way_to = text_at(row, 13),
		.under_way_state = text_at(row, 14),
		.bytes_done = number_at(row, 15),
		.bytes_total = number_at(row, 16),
		.timestamp = number_at(row, 17),
	};

	return e->each(e->user, &n);
}

int db_nodes(struct db *db, const char *node, int (*each)(void *user, const struct db_node *row), void *user)
{
	struct each_node e = { each, user };
	int r;

	r = query(db,
		  "SELECT node, identity_public, transport_public, labels, added_at, quarantine, online, "
		  "presence_at,"
		  " sequence, boot_id, reported_at, report, way_component, way_to, way_state, bytes_done, "
		  "bytes_total, timestamp"
		  " FROM nodes WHERE ?1 IS NULL OR node = ?1 ORDER BY node",
		  give_node, &e, "s", node);
	if (r == 0 && node)
		return -ENOENT;
	return r > 0 ? 0 : r;
}

static int add_text(void *context, sqlite3_stmt *row)
{
	return buf_add_str(context, text_at(row, 0));
}

int db_node_identity(struct db *db, const char *node, struct buf *ret_pem)
{
	int r = query(db, "SELECT identity_public FROM nodes WHERE node = ?1", add_text, ret_pem, "s", node);

	if (r == 0)
		return -ENOENT;
	return r > 0 ? 0 : r;
}

int db_node_certificate(struct db *db, const char *node, struct buf *ret_pem)
{
	int r = query(db, "SELECT certificate FROM nodes WHERE node = ?1 AND certificate IS NOT NULL", add_text,
		      ret_pem, "s", node);

	if (r == 0)
		return -ENOENT;
	return r > 0 ? 0 : r;
}

static int changed_one(int r, unsigned changes)
{
	if (r < 0)
		return r;
	return changes ? 0 : -ENOENT;
}

int db_node_quarantine(struct db *db, const char *node, const char *reason)
{
	unsigned changes = 0;
	int r = change(db, "UPDATE nodes SET quarantine = ?2 WHERE node = ?1", &changes, "ss", node, reason);

	touch(db, NULL);
	return changed_one(r, changes);
}

int db_node_trust(struct db *db, const char *node)
{
	unsigned changes = 0;
	int r;

	touch(db, NULL);
	r = change(db, "UPDATE nodes SET quarantine = NULL, sequence = 0, boot_id = NULL WHERE node = ?1",
		   &changes, "s", node);
	r = changed_one(r, changes);
	if (r < 0)
		return r;
	r = change(db, "DELETE FROM seen WHERE node = ?1", NULL, "s", node);
	if (r < 0)
		return r;
	return change(db, "DELETE FROM boots WHERE node = ?1", NULL, "s", node);
}

int db_node_certify(struct db *db, const char *node, const char *transport_public, const char *certificate)
{
	unsigned changes = 0;
	int r = change(db, "UPDATE nodes SET transport_public = ?2, certificate = ?3 WHERE node = ?1", &changes,
		       "sss", node, transport_public, certificate);

	return changed_one(r, changes);
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
	int r = 0;

	touch(db, NULL);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(statements); i++)
		r = change(db, statements[i], NULL, "s", node);
	if (r == 0)
		r = change(
			db,
			"UPDATE nodes SET identity_public = ?2, transport_public = ?3, added_at = ?4,"
			" certificate = NULL, quarantine = NULL, sequence = 0, boot_id = NULL, reported_at = 0,"
			" report = NULL, way_component = NULL, way_to = NULL, way_state = NULL, way_update = NULL,"
			" bytes_done = 0, bytes_total = 0, timestamp = 0, signed_component = NULL, signed_to = "
			"NULL,"
			" signed_state = NULL, signed_update = NULL, failing = NULL, failing_at = 0, degraded = "
			"NULL, event_queue = NULL,"
			" event_number = 0, event_dropped = 0, presence_counter = 0 WHERE node = ?1",
			&changes, "sssi", node, identity_public, transport_public, now);
	return changed_one(r, changes);
}

int db_node_presence(struct db *db, const char *node, bool online, int64_t counter, int64_t now)
{
	unsigned changes = 0;
	int r = change(db,
		       "UPDATE nodes SET online = CASE WHEN ?2 OR ?4 = 0 OR ?4 >= presence_counter THEN ?2 ELSE "
		       "online END,"
		       " presence_counter = CASE WHEN ?2 THEN ?4 ELSE presence_counter END, presence_at = ?3"
		       " WHERE node = ?1",
		       &changes, "sbii", node, online, now, counter);

	return changed_one(r, changes);
}

int db_node_heard(struct db *db, const char *node, int64_t now)
{
	return change(db, "UPDATE nodes SET online = 1, presence_at = ?2 WHERE node = ?1 AND online = 0", NULL,
		      "si", node, now);
}

int db_presence_forget(struct db *db)
{
	return change(db, "UPDATE nodes SET online = 0, presence_at = 0", NULL, "");
}

int db_node_progress(struct db *db, const char *node, const char *component, const char *to, const char *state,
		     uint64_t bytes_done, uint64_t bytes_total)
{
	unsigned changes = 0;
	int r = change(db,
		       "UPDATE nodes SET way_component = ?2, way_to = ?3, way_state = ?4, bytes_done = ?5, "
		       "bytes_total = ?6"
		       " WHERE node = ?1",
		       &changes, "ssssuu", node, component, to, state, bytes_done, bytes_total);

	return changed_one(r, changes);
}

int db_node_event(struct db *db, const char *node, const char *queue, uint64_t number, uint64_t dropped,
		  bool *ret_news, bool *ret_more_dropped)
{
	unsigned news = 0, more = 0;
	int r = change(
		db,
		"UPDATE nodes SET event_dropped = CASE WHEN event_queue IS ?2 THEN event_dropped ELSE 0 END,"
		" event_queue = ?2, event_number = ?3"
		" WHERE node = ?1 AND (event_queue IS NOT ?2 OR event_number < ?3)",
		&news, "ssu", node, queue, number);

	if (r == 0 && news > 0)
		r = change(db, "UPDATE nodes SET event_dropped = ?2 WHERE node = ?1 AND event_dropped < ?2", &more,
			   "su", node, dropped);
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
		.component = text_at(row, 0),
		.version = text_at(row, 1),
		.previous = text_at(row, 2),
		.rollout = text_at(row, 3),
		.stage = text_at(row, 4),
		.why = text_at(row, 5),
		.why_detail = text_at(row, 6),
		.wants = text_at(row, 7),
		.denies = sqlite3_column_int(row, 8) != 0,
	};

	return e->each(e->user, &c);
}

int db_components(struct db *db, const char *node, int (*each)(void *user, const struct db_component *row),
		  void *user)
{
	struct each_component e = { each, user };
	int r = query(db,
		      "SELECT component, version, previous, rollout, stage, why, why_detail, wants, denies FROM "
		      "components"
		      " WHERE node = ?1 ORDER BY component",
		      give_component, &e, "s", node);

	return r > 0 ? 0 : r;
}

/* --- reports --- */

struct seen_row {
	struct db_seen *ret;
	const char *digest, *boot_id;
};

static int read_highest(void *context, sqlite3_stmt *row)
{
	struct seen_row *s = context;
	const char *boot = text_at(row, 1);

	s->ret->highest = number_at(row, 0);
	if (boot && strlen(boot) < sizeof(s->ret->boot_id))
		memcpy(s->ret->boot_id, boot, strlen(boot) + 1);
	return 0;
}

static int read_seen(void *context, sqlite3_stmt *row)
{
	struct seen_row *s = context;

	s->ret->sequence_seen = true;
	s->ret->same = str_eq(text_at(row, 0), s->digest);
	s->ret->same_boot = str_eq(text_at(row, 1), s->boot_id);
	return 0;
}

int db_report_seen(struct db *db, const char *node, const char *boot_id, uint64_t sequence, const char *digest_hex,
		   struct db_seen *ret)
{
	struct seen_row context = { ret, digest_hex, boot_id };
	int64_t known = 0;
	int r;

	*ret = (struct db_seen){ 0 };
	r = query(db, "SELECT sequence, boot_id FROM nodes WHERE node = ?1", read_highest, &context, "s", node);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	r = query(db, "SELECT count(*) FROM boots WHERE node = ?1 AND boot_id = ?2", read_number, &known, "ss",
		  node, boot_id);
	if (r < 0)
		return r;
	ret->boot_known = known > 0;
	r = query(db, "SELECT digest, boot_id FROM seen WHERE node = ?1 AND sequence = ?2", read_seen, &context,
		  "su", node, sequence);
	return r < 0 ? r : 0;
}

static int touch_row(void *context, sqlite3_stmt *row)
{
	touch(context, text_at(row, 0));
	return 0;
}

/* Labels decide who belongs to which stage of any rollout. */
static void touch_labels(struct db *db, const struct db_report *r)
{
	int same = query(db, "SELECT 1 FROM nodes WHERE node = ?1 AND labels = ?2", NULL, NULL, "ss", r->node,
			 r->labels);

	db->generation++;
	if (same <= 0)
		touch(db, NULL);
}

static void touch_components(struct db *db, const char *node)
{
	if (query(db, "SELECT component FROM components WHERE node = ?1", touch_row, db, "s", node) < 0)
		touch(db, NULL);
}

static void touch_rollout(struct db *db, const char *id)
{
	if (query(db, "SELECT component FROM rollouts WHERE id = ?1", touch_row, db, "s", id) < 0)
		touch(db, NULL);
}

/* A hold keeps the node from every rollout of what it has. */
static void touch_order(struct db *db, const char *node, const char *component)
{
	db->generation++;
	if (component)
		touch(db, component);
	else
		touch_components(db, node);
}

int db_report_store(struct db *db, const struct db_report *r, const char *digest_hex)
{
	unsigned changes = 0;
	int e;

	touch_labels(db, r);
	e = change(db,
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
	e = changed_one(e, changes);
	if (e < 0)
		return e;
	e = change(db, "INSERT OR REPLACE INTO seen (node, sequence, digest, boot_id) VALUES (?1, ?2, ?3, ?4)",
		   NULL, "suss", r->node, r->sequence, digest_hex, r->boot_id);
	if (e < 0)
		return e;
	e = change(db,
		   "DELETE FROM seen WHERE node = ?1 AND sequence <= (SELECT sequence FROM seen WHERE node = ?1"
		   " ORDER BY sequence DESC LIMIT 1 OFFSET ?2)",
		   NULL, "si", r->node, (int64_t) SEEN_KEPT);
	if (e < 0)
		return e;
	e = change(db, "INSERT OR IGNORE INTO boots (node, boot_id, first_at) VALUES (?1, ?2, ?3)", NULL, "ssi",
		   r->node, r->boot_id, r->now);
	if (e < 0)
		return e;
	/* Made after the node asked, and the update it asked for is not under way: it has ended, or never began. */
	return change(db,
		      "DELETE FROM places WHERE node = ?1 AND sequence > 0 AND sequence < ?2"
		      " AND (?3 IS NULL OR update_id != ?3)",
		      NULL, "sus", r->node, r->sequence, r->under_way_update);
}

int db_components_clear(struct db *db, const char *node)
{
	touch_components(db, node);
	return change(db, "DELETE FROM components WHERE node = ?1", NULL, "s", node);
}

int db_component_store(struct db *db, const char *node, const struct db_component *c)
{
	touch(db, c->component);
	return change(db,
		      "INSERT OR REPLACE INTO components (node, component, version, previous, rollout, stage, why,"
		      " why_detail, wants, denies) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
		      NULL, "sssssssssb", node, c->component, c->version, c->previous, c->rollout, c->stage,
		      c->why, c->why_detail, c->wants, c->denies);
}

bool db_budget(struct db *db, enum db_budget kind, const char *name, int64_t now)
{
	static const uint16_t per_minute[DB_BUDGET_COUNT] = {
		[DB_BUDGET_STRANGERS] = 300, /* each is a write to the disk that anybody can cause */
		[DB_BUDGET_EVENTS] = 240, /* an update has about ten */
		[DB_BUDGET_REPORTS] = 600, /* agents leave 100 ms between two */
		[DB_BUDGET_AGAIN] = 60, /* the same report: its acknowledgement was lost */
		[DB_BUDGET_LEASES] = 60, /* agents wait for seconds between two */
		[DB_BUDGET_FILES] = 6000, /* windows of a megabyte at most */
		[DB_BUDGET_ENROLMENTS] = 60, /* a node that waits asks every few seconds at most */
		[DB_BUDGET_CERTIFICATES] =
			6, /* for other keys of one node, which renews in weeks, at worst each hour */
		[DB_BUDGET_ENROLMENTS_OF_ALL] = 3000, /* those without a claim; the others count by name */
		[DB_BUDGET_PUTS] = 6000, /* blocks of a collection, 64 KiB each */
	};
	uint32_t hash = 2166136261u; /* FNV-1a */
	uint16_t *spent;

	if (now / 60 != db->budget_minute) {
		db->budget_minute = now / 60;
		memset(db->spent, 0, sizeof(db->spent));
	}
	for (const char *p = name; *p; p++)
		hash = (hash ^ (uint8_t) *p) * 16777619u;
	spent = &db->spent[kind][hash % BUDGET_PLACES];
	if (*spent >= per_minute[kind])
		return false;
	(*spent)++;
	return true;
}

int db_stranger(struct db *db, const char *name, const char *reason, int64_t now)
{
	int r = change(
		db,
		"INSERT INTO strangers (name, reason, count, at) VALUES (?1, ?2, 1, ?3)"
		" ON CONFLICT (name) DO UPDATE SET reason = excluded.reason, count = count + 1, at = excluded.at",
		NULL, "ssi", name, reason, now);

	if (r < 0)
		return r;
	return change(db,
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
	struct db_stranger s = { text_at(row, 0), text_at(row, 1), number_at(row, 2),
				 sqlite3_column_int64(row, 3) };

	return e->each(e->user, &s);
}

int db_strangers(struct db *db, int (*each)(void *user, const struct db_stranger *row), void *user)
{
	struct each_stranger e = { each, user };
	int r = query(db, "SELECT name, reason, count, at FROM strangers ORDER BY name", give_stranger, &e, "");

	return r > 0 ? 0 : r;
}

/* --- enrolment --- */

int db_enrolment_put(struct db *db, const struct db_enrolment *e)
{
	return change(db,
		      "INSERT OR REPLACE INTO enrolments (node, secret, labels, by, issued_at, expires_at)"
		      " VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
		      NULL, "ssssii", e->node, e->secret_sha256, e->labels, e->by, e->issued_at, e->expires_at);
}

struct each_enrolment {
	int (*each)(void *user, const struct db_enrolment *row);
	void *user;
};

static int give_enrolment(void *context, sqlite3_stmt *row)
{
	struct each_enrolment *e = context;
	const struct db_enrolment d = {
		.node = text_at(row, 0),
		.secret_sha256 = text_at(row, 1),
		.labels = text_at(row, 2),
		.by = text_at(row, 3),
		.issued_at = sqlite3_column_int64(row, 4),
		.expires_at = sqlite3_column_int64(row, 5),
		.used_at = sqlite3_column_int64(row, 6),
		.identity_public = text_at(row, 7),
		.transport_public = text_at(row, 8),
		.waiting = sqlite3_column_int(row, 9) != 0,
		.refused = number_at(row, 10),
	};

	return e->each(e->user, &d);
}

int db_enrolments(struct db *db, const char *node, int (*each)(void *user, const struct db_enrolment *row),
		  void *user)
{
	struct each_enrolment e = { each, user };
	int r = query(
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
	int r = change(
		db,
		"UPDATE enrolments SET used_at = ?5, identity_public = ?2, transport_public = ?3, waiting = ?4"
		" WHERE node = ?1 AND used_at = 0",
		&changes, "sssbi", node, identity_public, transport_public, waiting, now);

	return changed_one(r, changes);
}

int db_enrolment_release(struct db *db, const char *node)
{
	unsigned changes = 0;
	int r = change(db, "UPDATE enrolments SET waiting = 0 WHERE node = ?1 AND waiting = 1", &changes, "s",
		       node);

	return changed_one(r, changes);
}

int db_enrolment_refused(struct db *db, const char *node)
{
	return change(db, "UPDATE enrolments SET refused = refused + 1 WHERE node = ?1", NULL, "s", node);
}

int db_enrolment_drop(struct db *db, const char *node)
{
	unsigned changes = 0;
	int r = change(db, "DELETE FROM enrolments WHERE node = ?1", &changes, "s", node);

	return changed_one(r, changes);
}

/* --- results --- */

int db_result_add(struct db *db, const struct db_result *r)
{
	unsigned changes = 0;
	int e;

	e = change(
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
	touch(db, r->component);
	/* However it ended, it is over: whoever waits for the place may have it. */
	e = change(db, "DELETE FROM places WHERE node = ?1 AND update_id = ?2", NULL, "ss", r->node, r->update);
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
		.node = text_at(row, 0),
		.update = text_at(row, 1),
		.component = text_at(row, 2),
		.from = text_at(row, 3),
		.to = text_at(row, 4),
		.rollout = text_at(row, 5),
		.stage = text_at(row, 6),
		.seq = number_at(row, 7),
		.release_sha256 = text_at(row, 8),
		.number = number_at(row, 9),
		.name = text_at(row, 10),
		.class = text_at(row, 11),
		.detail = text_at(row, 12),
		.log_tail = text_at(row, 13),
		.at = sqlite3_column_int64(row, 14),
		.received_at = sqlite3_column_int64(row, 15),
		.duration_ms = number_at(row, 16),
		.pause_ms = number_at(row, 17),
	};

	return e->each(e->user, &r);
}

int db_results(struct db *db, const char *node, const char *rollout,
	       int (*each)(void *user, const struct db_result *row), void *user)
{
	struct each_result e = { each, user };
	int r = query(
		db,
		"SELECT node, update_id, component, from_version, to_version, rollout, stage, seq, release_sha256,"
		" number, name, class, detail, log_tail, at, received_at, duration_ms, pause_ms FROM results"
		" WHERE (?1 IS NULL OR node = ?1) AND (?2 IS NULL OR rollout = ?2) ORDER BY id",
		give_result, &e, "ss", node, rollout);

	return r > 0 ? 0 : r;
}

/* --- rollouts --- */

int db_next_seq(struct db *db, uint64_t floor, uint64_t *ret)
{
	int64_t highest = 0;
	int r;

	r = query(db,
		  "SELECT max(coalesce((SELECT value FROM counters WHERE name = 'seq'), 0),"
		  " coalesce((SELECT max(seq) FROM rollouts), 0))",
		  read_number, &highest, "");
	if (r < 0)
		return r;
	if (floor > INT64_MAX / 2)
		return -ERR_NUMBER;
	if ((int64_t) floor > highest)
		highest = (int64_t) floor;
	highest++;
	r = change(db,
		   "INSERT INTO counters (name, value) VALUES ('seq', ?1)"
		   " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
		   NULL, "i", highest);
	if (r < 0)
		return r;
	*ret = (uint64_t) highest;
	return 0;
}

int db_rollout_add(struct db *db, const struct db_rollout *r, const char *const *stages, size_t stage_count)
{
	int e;

	touch(db, r->component);
	e = change(db,
		   "INSERT INTO rollouts (id, seq, component, version, kind, state, reason, by, state_at, "
		   "created_at, plan,"
		   " release_path, release_sha256) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?10, ?11, ?12)",
		   NULL, "sussssssisss", r->id, r->seq, r->component, r->version, r->kind, r->state, r->reason,
		   r->by, r->created_at, r->plan, r->release_path, r->release_sha256);
	for (size_t i = 0; e == 0 && i < stage_count; i++)
		e = change(db, "INSERT INTO stages (rollout, position, name) VALUES (?1, ?2, ?3)", NULL, "sis",
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
		.id = text_at(row, 0),
		.component = text_at(row, 1),
		.version = text_at(row, 2),
		.kind = text_at(row, 3),
		.state = text_at(row, 4),
		.seq = number_at(row, 5),
		.reason = text_at(row, 6),
		.by = text_at(row, 7),
		.state_at = sqlite3_column_int64(row, 8),
		.created_at = sqlite3_column_int64(row, 9),
		.plan = text_at(row, 10),
		.release_path = text_at(row, 11),
		.release_sha256 = text_at(row, 12),
		.undo = text_at(row, 13),
		.note = text_at(row, 14),
	};

	return e->each(e->user, &r);
}

int db_rollouts(struct db *db, const char *id, int (*each)(void *user, const struct db_rollout *row), void *user)
{
	struct each_rollout e = { each, user };
	int r = query(db,
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
	int r = change(
		db, "UPDATE rollouts SET state = ?2, reason = ?3, by = ?4, state_at = ?5, note = '' WHERE id = ?1",
		&changes, "ssssi", id, state, reason, by, now);

	touch_rollout(db, id);
	return changed_one(r, changes);
}

int db_rollout_set_undo(struct db *db, const char *id, const char *undo)
{
	unsigned changes = 0;
	int r = change(db, "UPDATE rollouts SET undo = ?2 WHERE id = ?1", &changes, "ss", id, undo);

	touch_rollout(db, id);
	return changed_one(r, changes);
}

int db_rollout_set_note(struct db *db, const char *id, const char *note)
{
	unsigned changes = 0;
	int r = change(db, "UPDATE rollouts SET note = ?2 WHERE id = ?1", &changes, "ss", id, note);

	return changed_one(r, changes);
}

struct each_stage {
	int (*each)(void *user, const struct db_stage *row);
	void *user;
};

static int give_stage(void *context, sqlite3_stmt *row)
{
	struct each_stage *e = context;
	struct db_stage s = { text_at(row, 0), sqlite3_column_int(row, 1) != 0, sqlite3_column_int64(row, 2) };

	return e->each(e->user, &s);
}

int db_stages(struct db *db, const char *rollout, int (*each)(void *user, const struct db_stage *row), void *user)
{
	struct each_stage e = { each, user };
	int r = query(db, "SELECT name, open, opened_at FROM stages WHERE rollout = ?1 ORDER BY position",
		      give_stage, &e, "s", rollout);

	return r > 0 ? 0 : r;
}

int db_decision_add(struct db *db, const struct db_decision *d, unsigned keep)
{
	int r = change(db, "INSERT INTO decisions (rollout, at, action, why, input) VALUES (?1, ?2, ?3, ?4, ?5)",
		       NULL, "sisss", d->rollout, d->at, d->action, d->why, d->input);

	if (r < 0)
		return r;
	return change(
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
		.rollout = text_at(row, 0),
		.at = sqlite3_column_int64(row, 1),
		.action = text_at(row, 2),
		.why = text_at(row, 3),
		.input = text_at(row, 4),
	};

	return e->each(e->user, &d);
}

int db_decision_at(struct db *db, const char *rollout, int64_t at,
		   int (*each)(void *user, const struct db_decision *row), void *user)
{
	struct each_decision e = { each, user };
	int r = query(db,
		      "SELECT rollout, at, action, why, input FROM decisions WHERE rollout = ?1 AND at <= ?2"
		      " ORDER BY at DESC, id DESC LIMIT 1",
		      give_decision, &e, "si", rollout, at);

	return r == 0 ? -ENOENT : r > 0 ? 0 : r;
}

int db_stage_open(struct db *db, const char *rollout, size_t position, int64_t now)
{
	unsigned changes = 0;
	int r = change(
		db, "UPDATE stages SET open = 1, opened_at = ?3 WHERE rollout = ?1 AND position = ?2 AND open = 0",
		&changes, "sii", rollout, (int64_t) position, now);

	touch_rollout(db, rollout);
	return changed_one(r, changes);
}

int db_approval_add(struct db *db, const struct db_approval *a)
{
	unsigned changes = 0;
	int r = change(db,
		       "INSERT INTO approvals (rollout, position, expires, keyid, sig, at, by)"
		       " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
		       &changes, "siissis", a->rollout, (int64_t) a->position, a->expires, a->keyid, a->sig, a->at,
		       a->by);

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
				 .keyid = text_at(row, 2),
				 .sig = text_at(row, 3),
				 .at = sqlite3_column_int64(row, 4),
				 .by = text_at(row, 5) };

	return e->each(e->user, &a);
}

int db_approvals(struct db *db, const char *rollout, int64_t now,
		 int (*each)(void *user, const struct db_approval *row), void *user)
{
	struct each_approval e = { each, user, rollout };
	int r = query(
		db,
		"SELECT position, expires, keyid, sig, at, by FROM approvals WHERE rollout = ?1 AND expires > ?2"
		" ORDER BY position, expires, keyid",
		give_approval, &e, "si", rollout, now);

	return r > 0 ? 0 : r;
}

int db_member_put(struct db *db, const char *rollout, const char *node, size_t position, bool acted)
{
	return change(db,
		      "INSERT INTO members (rollout, node, position, acted) VALUES (?1, ?2, ?3, ?4)"
		      " ON CONFLICT (rollout, node) DO UPDATE SET acted = max(acted, excluded.acted),"
		      " position = CASE WHEN acted THEN position ELSE excluded.position END",
		      NULL, "ssib", rollout, node, (int64_t) position, acted);
}

int db_member_drop(struct db *db, const char *rollout, const char *node)
{
	return change(db, "DELETE FROM members WHERE rollout = ?1 AND node = ?2 AND NOT acted", NULL, "ss",
		      rollout, node);
}

int db_skip(struct db *db, const char *rollout, const char *node, const char *reason, const char *by, int64_t now)
{
	touch(db, NULL);
	return change(db,
		      "INSERT OR REPLACE INTO skips (rollout, node, at, reason, by) VALUES (?1, ?2, ?3, ?4, ?5)",
		      NULL, "ssiss", rollout, node, now, reason, by);
}

int db_skip_withdraw(struct db *db, const char *rollout, const char *node, unsigned *ret_count)
{
	touch(db, NULL);
	return change(db, "DELETE FROM skips WHERE rollout = ?1 AND node = ?2", ret_count, "ss", rollout, node);
}

struct each_member {
	int (*each)(void *user, const struct db_member *row);
	void *user;
};

static int give_member(void *context, sqlite3_stmt *row)
{
	struct each_member *e = context;
	struct db_member m = {
		.node = text_at(row, 0),
		.labels = text_at(row, 1),
		.is_member = sqlite3_column_type(row, 2) != SQLITE_NULL,
		.position = (size_t) number_at(row, 2),
		.acted = sqlite3_column_int(row, 3) != 0,
		.added_at = sqlite3_column_int64(row, 4),
		.reported_at = sqlite3_column_int64(row, 5),
		.quarantined = text_at(row, 6) != NULL,
		.online = sqlite3_column_int(row, 7) != 0,
		.version = text_at(row, 8),
		.component_rollout = text_at(row, 9),
		.why = text_at(row, 10),
		.why_detail = text_at(row, 11),
		.wants = text_at(row, 12),
		.under_way_to = text_at(row, 13),
		.under_way_state = text_at(row, 14),
		.bytes_done = number_at(row, 15),
		.bytes_total = number_at(row, 16),
		.result_number = number_at(row, 17),
		.result_name = text_at(row, 18),
		.result_class = text_at(row, 19),
		.result_detail = text_at(row, 20),
		.result_at = sqlite3_column_int64(row, 21),
		.order_kind = text_at(row, 22),
		.order_reason = text_at(row, 23),
		.shown_state = text_at(row, 24),
		.skipped_at = sqlite3_column_int64(row, 25),
		.skip_reason = text_at(row, 26),
		.skip_by = text_at(row, 27),
		.failing = text_at(row, 28),
		.failing_at = sqlite3_column_int64(row, 29),
		.degraded = text_at(row, 30),
		.restarts = number_at(row, 31),
	};

	return e->each(e->user, &m);
}

int db_members(struct db *db, const char *rollout, const char *component, int64_t now,
	       int (*each)(void *user, const struct db_member *row), void *user)
{
	struct each_member e = { each, user };
	int r = query(
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

/* --- gates --- */

int db_gate_look_add(struct db *db, const struct db_gate_look *l, unsigned keep)
{
	int r = change(
		db,
		"INSERT INTO gate_looks (rollout, position, gate, at, said, low, high, samples, since, text, data)"
		" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
		NULL, "sisisssuiss", l->rollout, (int64_t) l->position, l->gate, l->at, l->said, l->low, l->high,
		l->samples, l->since, l->text, l->data);

	touch_rollout(db, l->rollout);
	if (r < 0)
		return r;
	return change(db,
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
		.gate = text_at(row, 0),
		.at = sqlite3_column_int64(row, 1),
		.said = text_at(row, 2),
		.low = text_at(row, 3),
		.high = text_at(row, 4),
		.samples = number_at(row, 5),
		.since = sqlite3_column_int64(row, 6),
		.text = text_at(row, 7),
		.data = text_at(row, 8),
	};

	return e->each(e->user, &l);
}

int db_gate_looks(struct db *db, const char *rollout, size_t position,
		  int (*each)(void *user, const struct db_gate_look *row), void *user)
{
	struct each_gate_look e = { each, user, rollout, position };
	int r = query(db,
		      "SELECT gate, at, said, low, high, samples, since, text, data FROM gate_looks"
		      " WHERE rollout = ?1 AND position = ?2 ORDER BY gate, id",
		      give_gate_look, &e, "si", rollout, (int64_t) position);

	return r > 0 ? 0 : r;
}

int db_gate_due(struct db *db, const char *rollout, size_t position, const char *gate, int64_t due_at,
		int64_t asked_at)
{
	return change(db,
		      "INSERT INTO gates (rollout, position, gate, due_at, asked_at) VALUES (?1, ?2, ?3, ?4, ?5)"
		      " ON CONFLICT (rollout, position, gate) DO UPDATE SET"
		      " due_at = CASE WHEN due_at = 0 THEN excluded.due_at ELSE due_at END,"
		      " asked_at = CASE WHEN asked_at = 0 THEN excluded.asked_at ELSE asked_at END",
		      NULL, "sisii", rollout, (int64_t) position, gate, due_at, asked_at);
}

int db_gate_word(struct db *db, const char *rollout, size_t position, const char *gate, const char *word,
		 const char *by, const char *reason, int64_t now)
{
	int r = change(
		db,
		"INSERT INTO gates (rollout, position, gate, word, word_by, word_reason, word_at)"
		" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
		" ON CONFLICT (rollout, position, gate) DO UPDATE SET word = excluded.word,"
		" word_by = excluded.word_by, word_reason = excluded.word_reason, word_at = excluded.word_at",
		NULL, "sissssi", rollout, (int64_t) position, gate, word, by, reason, now);

	touch_rollout(db, rollout);
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
		.gate = text_at(row, 0),
		.due_at = sqlite3_column_int64(row, 1),
		.asked_at = sqlite3_column_int64(row, 2),
		.word = text_at(row, 3),
		.word_at = sqlite3_column_int64(row, 4),
		.word_by = text_at(row, 5),
		.word_reason = text_at(row, 6),
	};

	return e->each(e->user, &g);
}

int db_gates(struct db *db, const char *rollout, size_t position,
	     int (*each)(void *user, const struct db_gate *row), void *user)
{
	struct each_gate e = { each, user };
	int r = query(db,
		      "SELECT gate, due_at, asked_at, word, word_at, word_by, word_reason FROM gates"
		      " WHERE rollout = ?1 AND position = ?2 ORDER BY gate",
		      give_gate, &e, "si", rollout, (int64_t) position);

	return r > 0 ? 0 : r;
}

int db_gate_answered(struct db *db, const struct db_gate_answer *a)
{
	unsigned changes = 0;
	/* One that says what the last one said is no news; the sentence may differ in its numbers. */
	int r = change(db,
		       "INSERT INTO gate_answers (rollout, position, gate, at, verdict, text, data)"
		       " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE ?5 IS NOT (SELECT verdict FROM gate_answers"
		       " WHERE rollout = ?1 AND position = ?2 AND gate = ?3 ORDER BY id DESC LIMIT 1)",
		       &changes, "sisisss", a->rollout, (int64_t) a->position, a->gate, a->at, a->verdict, a->text,
		       a->data);

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
		.position = (size_t) number_at(row, 0),
		.gate = text_at(row, 1),
		.at = sqlite3_column_int64(row, 2),
		.verdict = text_at(row, 3),
		.text = text_at(row, 4),
		.data = text_at(row, 5),
	};

	return e->each(e->user, &a);
}

int db_gate_answers(struct db *db, const char *rollout, int64_t until,
		    int (*each)(void *user, const struct db_gate_answer *row), void *user)
{
	struct each_gate_answer e = { each, user, rollout };
	int r = query(
		db,
		"SELECT position, gate, at, verdict, text, data FROM gate_answers WHERE rollout = ?1 AND at <= ?2"
		" ORDER BY id",
		give_gate_answer, &e, "si", rollout, until);

	return r > 0 ? 0 : r;
}

/* --- metrics --- */

static void put_hour(uint8_t *at, float mean, uint64_t samples)
{
	uint32_t bits;
	unsigned n = samples > UINT16_MAX ? UINT16_MAX : (unsigned) samples;

	_Static_assert(sizeof(bits) == sizeof(mean), "a float has 32 bits");
	memcpy(&bits, &mean, sizeof(bits));
	for (unsigned i = 0; i < 4; i++)
		at[i] = (uint8_t) (bits >> 8 * i);
	at[4] = (uint8_t) n;
	at[5] = (uint8_t) (n >> 8);
}

static float get_hour(const uint8_t *at, uint64_t *ret_samples)
{
	uint32_t bits = 0;
	float mean;

	for (unsigned i = 0; i < 4; i++)
		bits |= (uint32_t) at[i] << 8 * i;
	memcpy(&mean, &bits, sizeof(mean));
	*ret_samples = (uint64_t) (at[4] | at[5] << 8);
	return mean;
}

static int read_day(void *context, sqlite3_stmt *row)
{
	if (sqlite3_column_bytes(row, 0) == DAY_BYTES)
		memcpy(context, sqlite3_column_blob(row, 0), DAY_BYTES);
	return 0;
}

/* Its number; 0: the node has too many already. */
static int series_id(struct db *db, const struct db_series *s, int64_t *ret)
{
	int64_t count = 0;
	int r = query(db,
		      "SELECT id FROM series WHERE node = ?1 AND component = ?2 AND name = ?3 AND version = ?4",
		      read_number, ret, "ssss", s->node, s->component, s->name, s->version);

	if (r != 0)
		return r < 0 ? r : 0;
	r = query(db, "SELECT count(*) FROM series WHERE node = ?1", read_number, &count, "s", s->node);
	if (r < 0 || count >= DB_SERIES_MAX)
		return r < 0 ? r : 0;
	r = change(db, "INSERT INTO series (node, component, name, version) VALUES (?1, ?2, ?3, ?4)", NULL, "ssss",
		   s->node, s->component, s->name, s->version);
	if (r == 0)
		*ret = sqlite3_last_insert_rowid(db->handle);
	return r;
}

/* When a day begins, what is too old goes, and series that have nothing left. */
static int forget_days(struct db *db, const struct db_series *s, int64_t day)
{
	int r = change(db,
		       "DELETE FROM metric_days WHERE day <= ?2 AND series IN (SELECT id FROM series WHERE node = "
		       "?1)",
		       NULL, "si", s->node, day - DB_METRIC_DAYS);

	if (r < 0)
		return r;
	return change(db,
		      "DELETE FROM series WHERE node = ?1 AND NOT EXISTS"
		      " (SELECT 1 FROM metric_days WHERE series = series.id)",
		      NULL, "s", s->node);
}

int db_metric_store(struct db *db, const struct db_series *s, const struct db_hour *hours, size_t count)
{
	int64_t id = 0;
	int r = series_id(db, s, &id);

	if (r < 0 || id == 0)
		return r;
	for (size_t i = 0; i < count;) {
		int64_t day = hours[i].hour / DAY_HOURS;
		uint8_t bytes[DAY_BYTES] = { 0 };
		bool news = false;
		int found = query(db, "SELECT hours FROM metric_days WHERE series = ?1 AND day = ?2", read_day,
				  bytes, "ii", id, day);

		if (found < 0)
			return found;
		for (; i < count && hours[i].hour / DAY_HOURS == day; i++) {
			uint8_t *at = bytes + hours[i].hour % DAY_HOURS * HOUR_BYTES;
			uint64_t had;

			(void) get_hour(at, &had);
			/* An agent that was started anew has less of the hour than it told before. */
			if (hours[i].samples <= had || !(fabs(hours[i].mean) <= (double) FLT_MAX))
				continue;
			put_hour(at, (float) hours[i].mean, hours[i].samples);
			news = true;
		}
		if (news)
			r = change(db,
				   "INSERT INTO metric_days (series, day, hours) VALUES (?1, ?2, ?3)"
				   " ON CONFLICT (series, day) DO UPDATE SET hours = excluded.hours",
				   NULL, "iih", id, day, bytes);
		if (r == 0 && news && found == 0)
			r = forget_days(db, s, day);
		if (r < 0)
			return r;
	}
	return 0;
}

struct each_hour {
	int (*each)(void *user, const char *version, const struct db_hour *row);
	void *user;
	int64_t from;
};

static int give_hours(void *context, sqlite3_stmt *row)
{
	struct each_hour *e = context;
	const uint8_t *bytes = sqlite3_column_blob(row, 2);
	int r = 0;

	if (!bytes || sqlite3_column_bytes(row, 2) != DAY_BYTES)
		return 0;
	for (int64_t i = 0; r == 0 && i < DAY_HOURS; i++) {
		struct db_hour h = { .hour = sqlite3_column_int64(row, 1) * DAY_HOURS + i };

		h.mean = (double) get_hour(bytes + i * HOUR_BYTES, &h.samples);
		if (h.samples > 0 && h.hour >= e->from)
			r = e->each(e->user, text_at(row, 0), &h);
	}
	return r;
}

int db_metrics(struct db *db, const char *node, const char *component, const char *name, int64_t from,
	       int (*each)(void *user, const char *version, const struct db_hour *row), void *user)
{
	struct each_hour e = { each, user, from };
	int r = query(
		db,
		"SELECT s.version, d.day, d.hours FROM series s JOIN metric_days d ON d.series = s.id"
		" WHERE s.node = ?1 AND s.component = ?2 AND s.name = ?3 AND d.day >= ?4 ORDER BY d.day, s.id",
		give_hours, &e, "sssi", node, component, name, from / DAY_HOURS);

	return r > 0 ? 0 : r;
}

/* --- places --- */

int db_place_put(struct db *db, const struct db_place *p)
{
	return change(
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
		.node = text_at(row, 0),
		.update = text_at(row, 1),
		.rollout = text_at(row, 2),
		.label = text_at(row, 3),
		.value = text_at(row, 4),
		.sequence = number_at(row, 5),
		.granted_at = sqlite3_column_int64(row, 6),
	};

	return e->each(e->user, &p);
}

int db_places(struct db *db, const char *node, int (*each)(void *user, const struct db_place *row), void *user)
{
	struct each_place e = { each, user };
	int r = query(db,
		      "SELECT node, update_id, rollout, label, value, sequence, granted_at FROM places"
		      " WHERE ?1 IS NULL OR node = ?1 ORDER BY node",
		      give_place, &e, "s", node);

	return r > 0 ? 0 : r;
}

int db_place_free(struct db *db, const char *node, unsigned *ret_count)
{
	return change(db, "DELETE FROM places WHERE node = ?1", ret_count, "s", node);
}

int db_update_ended(struct db *db, const char *node, const char *update, uint64_t sequence, bool *ret)
{
	int64_t ended = 0;
	int r = query(db,
		      "SELECT EXISTS (SELECT 1 FROM results WHERE node = ?1 AND update_id = ?2)"
		      " OR EXISTS (SELECT 1 FROM nodes WHERE node = ?1 AND ?3 > 0 AND sequence > ?3"
		      " AND coalesce(signed_update, '') != ?2)",
		      read_number, &ended, "ssu", node, update, sequence);

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
	const struct db_down d = { .node = text_at(row, 0), .reason = text_at(row, 1) };

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
	r = query(db,
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

/* --- orders and freezes --- */

int db_order_add(struct db *db, const struct db_order *o)
{
	touch_order(db, o->node, o->component);
	return change(db,
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
		.id = text_at(row, 0),
		.node = text_at(row, 1),
		.kind = text_at(row, 2),
		.component = text_at(row, 3),
		.from = text_at(row, 4),
		.to = text_at(row, 5),
		.reason = text_at(row, 6),
		.by = text_at(row, 7),
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
	int r = query(
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
	touch_order(db, node, component);
	return change(db,
		      "UPDATE orders SET withdrawn_at = ?4, withdrawn_by = ?5 WHERE node = ?1 AND kind = ?2"
		      " AND (?3 IS NULL OR component = ?3) AND withdrawn_at = 0 AND (until = 0 OR until > ?4)",
		      ret_count, "sssis", node, kind, component, now, by);
}

int db_orders_unconfirm(struct db *db, int64_t now)
{
	touch(db, NULL);
	return change(db, "UPDATE orders SET unconfirmed = 1 WHERE withdrawn_at = 0 AND (until = 0 OR until > ?1)",
		      NULL, "i", now);
}

int db_order_confirm(struct db *db, const char *id, int64_t now, unsigned *ret_count)
{
	touch(db, NULL);
	return change(db,
		      "UPDATE orders SET unconfirmed = 0 WHERE id = ?1 AND unconfirmed = 1 AND withdrawn_at = 0"
		      " AND (until = 0 OR until > ?2)",
		      ret_count, "si", id, now);
}

int db_order_withdraw_one(struct db *db, const char *id, const char *by, int64_t now, unsigned *ret_count)
{
	touch(db, NULL);
	return change(db,
		      "UPDATE orders SET withdrawn_at = ?3, withdrawn_by = ?2 WHERE id = ?1 AND withdrawn_at = 0"
		      " AND (until = 0 OR until > ?3)",
		      ret_count, "ssi", id, by, now);
}

int db_freeze_add(struct db *db, const struct db_freeze *f)
{
	db->generation++; /* nodes ask it, no rollout does */
	return change(db,
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
		.id = text_at(row, 0),
		.labels = text_at(row, 1),
		.components = text_at(row, 2),
		.reason = text_at(row, 3),
		.by = text_at(row, 4),
		.at = sqlite3_column_int64(row, 5),
		.until = sqlite3_column_int64(row, 6),
		.lifted_at = sqlite3_column_int64(row, 7),
	};

	return e->each(e->user, &f);
}

int db_freezes(struct db *db, int64_t now, int (*each)(void *user, const struct db_freeze *row), void *user)
{
	struct each_freeze e = { each, user };
	int r = query(db,
		      "SELECT id, labels, components, reason, by, at, until, lifted_at FROM freezes"
		      " WHERE ?1 = 0 OR (lifted_at = 0 AND (until = 0 OR until > ?1)) ORDER BY at, rowid",
		      give_freeze, &e, "i", now);

	return r > 0 ? 0 : r;
}

int db_next_end(struct db *db, int64_t after, int64_t *ret)
{
	*ret = 0;
	return query(db,
		     "SELECT coalesce(min(until), 0) FROM (SELECT until FROM orders WHERE withdrawn_at = 0 AND "
		     "until > ?1"
		     " UNION ALL SELECT until FROM freezes WHERE lifted_at = 0 AND until > ?1)",
		     read_number, ret, "i", after) < 0
		       ? -ERR_DATABASE
		       : 0;
}

int db_freeze_lift(struct db *db, const char *id, int64_t now, unsigned *ret_count)
{
	db->generation++; /* as above */
	return change(db,
		      "UPDATE freezes SET lifted_at = ?2 WHERE (?1 IS NULL OR id = ?1) AND lifted_at = 0"
		      " AND (until = 0 OR until > ?2)",
		      ret_count, "si", id, now);
}

/* --- the timeline and the audit trail --- */

int db_event_add(struct db *db, const struct db_event *e)
{
	int r = change(
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
		.kind = text_at(row, 2),
		.node = text_at(row, 3),
		.component = text_at(row, 4),
		.text = text_at(row, 5),
		.detail = text_at(row, 6),
	};

	return e->each(e->user, &ev);
}

int db_events_after(struct db *db, int64_t id, size_t limit, int (*each)(void *user, const struct db_event *row),
		    void *user)
{
	struct each_event e = { each, user };
	int r = query(db,
		      "SELECT id, at, kind, node, component, text, detail FROM events WHERE id > ?1 ORDER BY id "
		      "LIMIT ?2",
		      give_event, &e, "ii", id, (int64_t) limit);

	return r > 0 ? 0 : r;
}

/* --- hooks --- */

int db_hook_set(struct db *db, const struct db_hook *h)
{
	return change(
		db,
		"INSERT INTO hooks (name, event, sent, left_out, failures, sent_at, failing_since, error)"
		" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (name) DO UPDATE SET event = ?2, sent = ?3,"
		" left_out = ?4, failures = ?5, sent_at = ?6, failing_since = ?7, error = ?8",
		NULL, "siuuuiis", h->name, h->event, h->sent, h->left_out, h->failures, h->sent_at,
		h->failing_since, h->error);
}

int db_hook_remove(struct db *db, const char *name)
{
	return change(db, "DELETE FROM hooks WHERE name = ?1", NULL, "s", name);
}

struct each_hook {
	int (*each)(void *user, const struct db_hook *row);
	void *user;
};

static int give_hook(void *context, sqlite3_stmt *row)
{
	struct each_hook *e = context;
	struct db_hook h = {
		.name = text_at(row, 0),
		.event = sqlite3_column_int64(row, 1),
		.sent = (uint64_t) sqlite3_column_int64(row, 2),
		.left_out = (uint64_t) sqlite3_column_int64(row, 3),
		.failures = (uint64_t) sqlite3_column_int64(row, 4),
		.sent_at = sqlite3_column_int64(row, 5),
		.failing_since = sqlite3_column_int64(row, 6),
		.error = text_at(row, 7),
	};

	return e->each(e->user, &h);
}

int db_hooks(struct db *db, int (*each)(void *user, const struct db_hook *row), void *user)
{
	struct each_hook e = { each, user };
	int r = query(db,
		      "SELECT name, event, sent, left_out, failures, sent_at, failing_since, error FROM hooks"
		      " ORDER BY name",
		      give_hook, &e, "");

	return r > 0 ? 0 : r;
}

/* --- evidence --- */

int db_evidence_add(struct db *db, const struct db_evidence *row, unsigned keep)
{
	int r = change(db,
		       "INSERT INTO evidence (component, version, release_sha256, name, outcome, status, command,"
		       " output, by, duration_ms, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
		       NULL, "sssssssssui", row->component, row->version, row->release_sha256, row->name,
		       row->outcome, row->status, row->command, row->output, row->by, row->duration_ms, row->at);

	return r < 0 ? r
		     : change(db,
			      "DELETE FROM evidence WHERE component = ?1 AND version = ?2 AND release_sha256 = ?3 "
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
		.component = text_at(row, 0),
		.version = text_at(row, 1),
		.release_sha256 = text_at(row, 2),
		.name = text_at(row, 3),
		.outcome = text_at(row, 4),
		.status = text_at(row, 5),
		.command = text_at(row, 6),
		.output = text_at(row, 7),
		.by = text_at(row, 8),
		.duration_ms = number_at(row, 9),
		.at = sqlite3_column_int64(row, 10),
	};

	return e->each(e->user, &v);
}

int db_evidence(struct db *db, const char *component, const char *version, const char *release_sha256,
		int (*each)(void *user, const struct db_evidence *row), void *user)
{
	struct each_evidence e = { each, user };
	int r = query(
		db,
		"SELECT component, version, release_sha256, name, outcome, status, command, output, by,"
		" duration_ms, at FROM evidence WHERE component = ?1 AND version = ?2 AND release_sha256 = ?3"
		" ORDER BY name, id",
		give_evidence, &e, "sss", component, version, release_sha256);

	return r > 0 ? 0 : r;
}

/* SHA-256 over the hash before and each field with its length, so that no two entries give the same bytes. */
static int chain(const char *before, int64_t at, const char *by, const char *action, const char *detail,
		 char ret[static SHA256_HEX + 1])
{
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(1024 * 1024);
	int r = buf_addf(&b, "%s %lld %zu:%s %zu:%s %zu:%s", before, (long long) at, strlen(by), by,
			 strlen(action), action, strlen(detail), detail);

	return r < 0 ? r : sha256_hex(b.data, b.len, ret);
}

int db_audit(struct db *db, int64_t at, const char *by, const char *action, const char *detail)
{
	CLEANUP(buf_done)
	struct buf before = BUF_INIT(SHA256_HEX);
	char hash[SHA256_HEX + 1];
	int r;

	r = query(db, "SELECT hash FROM audit ORDER BY id DESC LIMIT 1", add_text, &before, "");
	if (r < 0)
		return r;
	by = by ? by : "";
	detail = detail ? detail : "";
	r = chain(buf_str(&before), at, by, action, detail, hash);
	if (r < 0)
		return r;
	return change(db, "INSERT INTO audit (at, by, action, detail, hash) VALUES (?1, ?2, ?3, ?4, ?5)", NULL,
		      "issss", at, by, action, detail, hash);
}

struct audit_check {
	char before[SHA256_HEX + 1];
	uint64_t entries;
};

static int check_entry(void *context, sqlite3_stmt *row)
{
	struct audit_check *c = context;
	char hash[SHA256_HEX + 1];
	int r;

	c->entries++;
	r = chain(c->before, sqlite3_column_int64(row, 0), text_at(row, 1), text_at(row, 2), text_at(row, 3),
		  hash);
	if (r < 0)
		return r;
	if (strcmp(hash, text_at(row, 4)) != 0)
		return -ERR_DIGEST;
	memcpy(c->before, hash, sizeof(hash));
	return 0;
}

int db_audit_verify(struct db *db, uint64_t *ret_entries)
{
	struct audit_check c = { 0 };
	int r = query(db, "SELECT at, by, action, detail, hash FROM audit ORDER BY id", check_entry, &c, "");

	*ret_entries = c.entries;
	return r > 0 ? 0 : r;
}

struct each_audit {
	int (*each)(void *user, const struct db_audit_entry *row);
	void *user;
};

static int give_audit(void *context, sqlite3_stmt *row)
{
	struct each_audit *e = context;
	struct db_audit_entry a = {
		.id = sqlite3_column_int64(row, 0),
		.at = sqlite3_column_int64(row, 1),
		.by = text_at(row, 2),
		.action = text_at(row, 3),
		.detail = text_at(row, 4),
		.hash = text_at(row, 5),
	};

	return e->each(e->user, &a);
}

int db_audit_after(struct db *db, int64_t id, size_t limit,
		   int (*each)(void *user, const struct db_audit_entry *row), void *user)
{
	struct each_audit e = { each, user };
	int r = query(db, "SELECT id, at, by, action, detail, hash FROM audit WHERE id > ?1 ORDER BY id LIMIT ?2",
		      give_audit, &e, "ii", id, (int64_t) limit);

	return r > 0 ? 0 : r;
}
