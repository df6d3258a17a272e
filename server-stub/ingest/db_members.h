/*
 * db_members - how each node stands to one rollout, and whom a person has excused. Read db.h first.
 */
#ifndef SELFRIGHT_INGEST_DB_MEMBERS_H
#define SELFRIGHT_INGEST_DB_MEMBERS_H

#include "base/attr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct db;

/* Who is expected in which stage; `acted` never goes back to false and pins the stage. */
NODISCARD int db_member_put(struct db *db, const char *rollout, const char *node, size_t position, bool acted);
/* Forget a node that no open stage selects any more and that has not acted. */
NODISCARD int db_member_drop(struct db *db, const char *rollout, const char *node);

/* Everything known about each node for one rollout: every registered node, member or not. */
struct db_member {
	const char *node, *labels;
	bool is_member, acted;
	size_t position; /* of its stage, if is_member */
	int64_t added_at, reported_at;
	bool quarantined, online;
	const char *version; /* of the component; NULL: absent or unknown */
	const char *component_rollout; /* that brought it; NULL */
	const char *why, *why_detail, *wants;
	const char *under_way_to, *under_way_state; /* of this component as its last report says, else NULL */
	const char *shown_state; /* the same by unsigned news, for people: no gate may ask it */
	uint64_t bytes_done, bytes_total;
	uint64_t result_number; /* newest of this rollout; 0: none */
	const char *result_name, *result_class, *result_detail;
	int64_t result_at; /* when it came */
	const char *failing, *degraded; /* checks of its newest report; NULL: none */
	int64_t failing_at; /* since when some check has failed */
	uint64_t restarts; /* boots first heard of since its stage opened */
	const char *order_kind, *order_reason; /* a live rollback or pin of this component, or a hold; NULL */
	int64_t skipped_at; /* 0: not */
	const char *skip_reason, *skip_by;
};
NODISCARD int db_members(struct db *db, const char *rollout, const char *component, int64_t now,
			 int (*each)(void *user, const struct db_member *row), void *user);

/* A person says that a rollout does not wait for this node, for what is known of it by now; and takes that back. */
NODISCARD int db_skip(struct db *db, const char *rollout, const char *node, const char *reason, const char *by,
		      int64_t now);
NODISCARD int db_skip_withdraw(struct db *db, const char *rollout, const char *node, unsigned *ret_count);

#endif
