/*
 * db_reports - what nodes tell, stored once: reports, the components in them, results of updates; and who
 * spoke without being known. Used by ingest, which has verified what it stores; results are read by all.
 * Read db.h first.
 */
#ifndef SELFRIGHT_INGEST_DB_REPORTS_H
#define SELFRIGHT_INGEST_DB_REPORTS_H

#include "base/attr.h"

#include <stdbool.h>
#include <stdint.h>

struct db;
struct db_component; /* db_nodes.h */

struct db_report {
	const char *node, *boot_id, *labels, *body;
	uint64_t sequence;
	int64_t now;
	const char *under_way, *under_way_to, *under_way_state, *under_way_update;
	uint64_t bytes_done, bytes_total, timestamp;
	const char *failing; /* a check that fails, NULL: none */
	const char *degraded; /* one that failed before its update already; NULL: none */
};
struct db_seen {
	uint64_t highest; /* sequence stored, 0: none */
	char boot_id[40]; /* that brought it */
	bool boot_known; /* this boot has reported before */
	bool sequence_seen; /* this very sequence is remembered, ... */
	bool same; /* ... with the same digest ... */
	bool same_boot; /* ... and from the same boot */
};
NODISCARD int db_report_seen(struct db *db, const char *node, const char *boot_id, uint64_t sequence,
			     const char *digest_hex, struct db_seen *ret);
NODISCARD int db_report_store(struct db *db, const struct db_report *r, const char *digest_hex);
NODISCARD int db_component_store(struct db *db, const char *node, const struct db_component *c);
NODISCARD int db_components_clear(struct db *db, const char *node);

struct db_result {
	const char *node, *update, *component;
	const char *from, *to, *rollout, *stage, *release_sha256, *name, *class, *detail,
		*log_tail; /* may be NULL */
	uint64_t seq, number, duration_ms, pause_ms;
	int64_t at, received_at;
};
/* 1: new; 0: this update id has its result already (the first one stays). */
NODISCARD int db_result_add(struct db *db, const struct db_result *r);
/* By node, by rollout, or both; NULL: any. Oldest first. */
NODISCARD int db_results(struct db *db, const char *node, const char *rollout,
			 int (*each)(void *user, const struct db_result *row), void *user);

/* Somebody unknown or unverified spoke: shown, never counted; the newest thousand are kept. */
struct db_stranger {
	const char *name, *reason;
	uint64_t count;
	int64_t at;
};
NODISCARD int db_stranger(struct db *db, const char *name, const char *reason, int64_t now);
NODISCARD int db_strangers(struct db *db, int (*each)(void *user, const struct db_stranger *row), void *user);

#endif
