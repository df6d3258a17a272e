#include "base/err.h"
#include "server-stub/ingest/sql.h"

enum { SCHEMA_VERSION = 16 };

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
	/* Whether two machines take turns as one node: the newest processes that were born, and how often one came back. */
	"ALTER TABLE nodes ADD COLUMN births TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE nodes ADD COLUMN returns INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE nodes ADD COLUMN returns_since INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE nodes ADD COLUMN returned_at INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE nodes ADD COLUMN returns_told_at INTEGER NOT NULL DEFAULT 0;",
};
_Static_assert(ARRAY_LEN(migrations) == SCHEMA_VERSION, "every schema version has its migration");

int db_migrate(struct db *db)
{
	int64_t version = 0;
	int r, code;

	r = sql_query(db, "PRAGMA user_version", sql_read_number, &version, "");
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
			r = sql_failed(db, code);
			(void) sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL,
					    NULL); /* it may have ended already */
			return r;
		}
	}
	return 0;
}
