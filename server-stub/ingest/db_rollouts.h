/*
 * db_rollouts - rollouts, their stages, what was decided about them and who approved. Read db.h first.
 */
#ifndef SELFRIGHT_INGEST_DB_ROLLOUTS_H
#define SELFRIGHT_INGEST_DB_ROLLOUTS_H

#include "base/attr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct db;

struct db_rollout {
	const char *id, *component, *version, *kind, *state;
	uint64_t seq;
	const char *reason, *by; /* of the state; may be NULL */
	int64_t state_at, created_at;
	const char *plan; /* JSON */
	const char *release_path, *release_sha256;
	const char *undo; /* JSON array of stage names */
	const char *note; /* why nothing happens now, or ""; display */
};
struct db_stage {
	const char *name;
	bool open;
	int64_t opened_at;
};
/* The next seq: above every one given out and above `floor`. Within a transaction. */
NODISCARD int db_next_seq(struct db *db, uint64_t floor, uint64_t *ret);
NODISCARD int db_rollout_add(struct db *db, const struct db_rollout *r, const char *const *stages,
			     size_t stage_count);
/* One (-ENOENT), or with NULL all, newest first. */
NODISCARD int db_rollouts(struct db *db, const char *id, int (*each)(void *user, const struct db_rollout *row),
			  void *user);
NODISCARD int db_rollout_set_state(struct db *db, const char *id, const char *state, const char *reason,
				   const char *by, int64_t now);
NODISCARD int db_rollout_set_undo(struct db *db, const char *id, const char *undo);
NODISCARD int db_rollout_set_note(struct db *db, const char *id, const char *note);
NODISCARD int db_stages(struct db *db, const char *rollout, int (*each)(void *user, const struct db_stage *row),
			void *user);
NODISCARD int db_stage_open(struct db *db, const char *rollout, size_t position, int64_t now);

/* What the scheduler was given and said, so that it can be asked again (rollout/replay.h). */
struct db_decision {
	const char *rollout, *action, *why, *input; /* input: JSON */
	int64_t at;
};
/* The newest `keep` of a rollout stay. */
NODISCARD int db_decision_add(struct db *db, const struct db_decision *d, unsigned keep);
/* The newest one that is not after `at`; -ENOENT. */
NODISCARD int db_decision_at(struct db *db, const char *rollout, int64_t at,
			     int (*each)(void *user, const struct db_decision *row), void *user);

/* One approver's signature for one stage (DESIGN.md section 4 "Approval"); those with one `expires` belong together. */
struct db_approval {
	const char *rollout, *keyid, *sig, *by; /* hex, hex; `by` may be NULL */
	size_t position; /* of the stage */
	int64_t expires, at;
};
/* 1: new; 0: this key has signed this already. */
NODISCARD int db_approval_add(struct db *db, const struct db_approval *a);
/* Those of a rollout that have not expired, by stage and expiry. */
NODISCARD int db_approvals(struct db *db, const char *rollout, int64_t now,
			   int (*each)(void *user, const struct db_approval *row), void *user);

#endif
