/*
 * db_gates - what the gates of one stage saw, were told and answered (rollout/gate.h). Read db.h first.
 */
#ifndef SELFRIGHT_INGEST_DB_GATES_H
#define SELFRIGHT_INGEST_DB_GATES_H

#include "base/attr.h"

#include <stddef.h>
#include <stdint.h>

struct db;

struct db_gate_look {
	const char *rollout, *gate, *said, *low, *high; /* low, high: decimal */
	const char *text, *data; /* data: JSON; NULL: none */
	size_t position; /* of the stage */
	uint64_t samples;
	int64_t at, since;
};
/* The newest `keep` of a gate in its stage stay. */
NODISCARD int db_gate_look_add(struct db *db, const struct db_gate_look *l, unsigned keep);
/* Of one stage: by gate, oldest first. */
NODISCARD int db_gate_looks(struct db *db, const char *rollout, size_t position,
			    int (*each)(void *user, const struct db_gate_look *row), void *user);

struct db_gate {
	const char *gate;
	int64_t due_at, asked_at; /* 0: not yet */
	const char *word, *word_by, *word_reason; /* of a person; NULL: none */
	int64_t word_at;
};
/* It is asked from then on, and a person is; 0: not known. What was there first stays. */
NODISCARD int db_gate_due(struct db *db, const char *rollout, size_t position, const char *gate, int64_t due_at,
			  int64_t asked_at);
/* The last word of a person counts. */
NODISCARD int db_gate_word(struct db *db, const char *rollout, size_t position, const char *gate, const char *word,
			   const char *by, const char *reason, int64_t now);
NODISCARD int db_gates(struct db *db, const char *rollout, size_t position,
		       int (*each)(void *user, const struct db_gate *row), void *user);

/* What a gate answered, whenever that changed, with what it judged; these stay as long as the rollout does. */
struct db_gate_answer {
	const char *rollout, *gate, *verdict, *text, *data; /* data: JSON; NULL: none */
	size_t position;
	int64_t at;
};
/* 1: it is news; 0: it said so before. */
NODISCARD int db_gate_answered(struct db *db, const struct db_gate_answer *a);
NODISCARD int db_gate_answers(struct db *db, const char *rollout, int64_t until,
			      int (*each)(void *user, const struct db_gate_answer *row), void *user);

#endif
