/*
 * db_enrolments - one secret a node, and the key that used it up (ingest/enrol.h judges). Read db.h first.
 */
#ifndef SELFRIGHT_INGEST_DB_ENROLMENTS_H
#define SELFRIGHT_INGEST_DB_ENROLMENTS_H

#include "base/attr.h"

#include <stdbool.h>
#include <stdint.h>

struct db;

struct db_enrolment {
	const char *node, *secret_sha256;
	const char *labels; /* JSON object: the node's, once it is one */
	const char *by;
	int64_t issued_at, expires_at, used_at; /* used_at 0: not yet */
	const char *identity_public, *transport_public; /* that used it up; NULL */
	bool waiting; /* that key is new for a node that is known: until a person releases it */
	uint64_t refused; /* how often another key came with it */
};
/* Instead of the one there was. */
NODISCARD int db_enrolment_put(struct db *db, const struct db_enrolment *e);
/* Of one node (-ENOENT), or with NULL all, by node. */
NODISCARD int db_enrolments(struct db *db, const char *node,
			    int (*each)(void *user, const struct db_enrolment *row), void *user);
NODISCARD int db_enrolment_use(struct db *db, const char *node, const char *identity_public,
			       const char *transport_public, bool waiting, int64_t now);
/* The key that waits is the node's now; -ENOENT: none waits. */
NODISCARD int db_enrolment_release(struct db *db, const char *node);
NODISCARD int db_enrolment_refused(struct db *db, const char *node);
/* The secret is worth nothing any more; -ENOENT. */
NODISCARD int db_enrolment_drop(struct db *db, const char *node);

#endif
