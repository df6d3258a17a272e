/*
 * db_evidence - what commands outside said of a release (selfright check): it stays with it. Read db.h first.
 */
#ifndef SELFRIGHT_INGEST_DB_EVIDENCE_H
#define SELFRIGHT_INGEST_DB_EVIDENCE_H

#include "base/attr.h"

#include <stdint.h>

struct db;

struct db_evidence {
	const char *component, *version, *release_sha256;
	const char *name; /* of the command */
	const char *outcome; /* pass, fail, error */
	const char *status; /* "exited 1" */
	const char *command; /* JSON array of its arguments */
	const char *output, *by;
	uint64_t duration_ms;
	int64_t at;
};
/* The newest `keep` of a release and name stay. */
NODISCARD int db_evidence_add(struct db *db, const struct db_evidence *row, unsigned keep);
/* Of one release, by name, the oldest first. */
NODISCARD int db_evidence(struct db *db, const char *component, const char *version, const char *release_sha256,
			  int (*each)(void *user, const struct db_evidence *row), void *user);

#endif
