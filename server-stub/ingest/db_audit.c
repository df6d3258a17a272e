#include "server-stub/ingest/db_audit.h"

#include "base/buf.h"
#include "base/err.h"
#include "crypto/digest.h"
#include "server-stub/ingest/sql.h"

#include <string.h>

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

	r = sql_query(db, "SELECT hash FROM audit ORDER BY id DESC LIMIT 1", sql_add_text, &before, "");
	if (r < 0)
		return r;
	by = by ? by : "";
	detail = detail ? detail : "";
	r = chain(buf_str(&before), at, by, action, detail, hash);
	if (r < 0)
		return r;
	return sql_change(db, "INSERT INTO audit (at, by, action, detail, hash) VALUES (?1, ?2, ?3, ?4, ?5)", NULL,
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
	r = chain(c->before, sqlite3_column_int64(row, 0), sql_text(row, 1), sql_text(row, 2), sql_text(row, 3),
		  hash);
	if (r < 0)
		return r;
	if (strcmp(hash, sql_text(row, 4)) != 0)
		return -ERR_DIGEST;
	memcpy(c->before, hash, sizeof(hash));
	return 0;
}

int db_audit_verify(struct db *db, uint64_t *ret_entries)
{
	struct audit_check c = { 0 };
	int r = sql_query(db, "SELECT at, by, action, detail, hash FROM audit ORDER BY id", check_entry, &c, "");

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
		.by = sql_text(row, 2),
		.action = sql_text(row, 3),
		.detail = sql_text(row, 4),
		.hash = sql_text(row, 5),
	};

	return e->each(e->user, &a);
}

int db_audit_after(struct db *db, int64_t id, size_t limit,
		   int (*each)(void *user, const struct db_audit_entry *row), void *user)
{
	struct each_audit e = { each, user };
	int r = sql_query(db,
			  "SELECT id, at, by, action, detail, hash FROM audit WHERE id > ?1 ORDER BY id LIMIT ?2",
			  give_audit, &e, "ii", id, (int64_t) limit);

	return r > 0 ? 0 : r;
}
