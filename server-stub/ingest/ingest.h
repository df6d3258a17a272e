/*
 * ingest - what nodes say, judged and stored (DESIGN.md section 5 "Report").
 *
 * A report counts only if it is signed by the identity key its node was enrolled
 * with. Only a higher sequence is stored. One that is known already is a
 * duplicate and acknowledged again. A lower one of a boot that is known here is
 * an old message that a carrier brought late, and changes nothing; a lower one
 * of an unknown boot, or another text under a number that was used, means that
 * two machines (or a restored copy) hold one key: the node is quarantined, and
 * nothing it says counts or is acknowledged until a person trusts it again.
 *
 * Hostile bytes are a verdict, never an error; a negative return is our own failure.
 */
#ifndef SELFRIGHT_INGEST_INGEST_H
#define SELFRIGHT_INGEST_INGEST_H

#include "base/attr.h"
#include "model/collection.h"
#include "model/report.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct db;

enum ingest_verdict {
	INGEST_STORED, /* news, stored with its results */
	INGEST_DUPLICATE, /* known; acknowledged again */
	INGEST_OLD, /* late or replayed; nothing happens */
	INGEST_QUARANTINED, /* shown, not counted, not acknowledged */
	INGEST_UNKNOWN, /* no such node */
	INGEST_UNSIGNED, /* not signed by this node's key, or for another node or fleet */
	INGEST_MALFORMED, /* signed, but not a report */
	INGEST_VERDICT_COUNT,
};
const char *ingest_verdict_name(enum ingest_verdict v);

struct ingest_outcome {
	enum ingest_verdict verdict;
	bool acknowledge;
	struct ack ack; /* to be signed by `control` and sent back, if acknowledge */
	unsigned news; /* results that were not known before */
	uint64_t
		timestamp; /* version of the timestamp that a signed report carries, whatever the verdict; 0: none */
	char text[256]; /* the verdict in words */
};

/* An envelope that arrived as a report of `node` (by its topic or path); one transaction of its own. */
NODISCARD int ingest_report(struct db *db, const char *fleet, const char *node, const void *bytes, size_t len,
			    int64_t now, struct ingest_outcome *ret);

/*
 * A request for a place (selfright-lease) that arrived as one of `node`: *ret_refusal is NULL if the node's identity
 * key signed it, it is for this node and fleet, and it is not about an update that has ended; else a sentence.
 */
NODISCARD int ingest_lease(struct db *db, const char *fleet, const char *node, const void *bytes, size_t len,
			   int64_t now, struct lease *ret, const char **ret_refusal);

/*
 * The statement of a collection that arrived as one of `node`: *ret_refusal is NULL if the node's identity key signed
 * it and it is for this node and fleet; else a sentence. Whether anybody asked for it is the caller's to look at.
 */
NODISCARD int ingest_collection(struct db *db, const char *fleet, const char *node, const void *bytes, size_t len,
				struct collection *ret, const char **ret_refusal);

/*
 * Live news between reports (selfright-event) and presence: unsigned, for the desk only. 0 also for
 * what is ignored; *ret_shown (may be NULL): it became a line of the timeline.
 */
NODISCARD int ingest_event(struct db *db, const char *node, const void *bytes, size_t len, int64_t now,
			   bool *ret_shown);
/*
 * A process that another one followed never speaks again on one machine: a birth of an earlier one is another machine with
 * the same identity. At the third within a day the timeline says so (kind two-machines), once a day at most. Like
 * all presence it is unsigned: people are told, and nothing follows from it by itself.
 */
enum { INGEST_RETURNS_TOLD = 3, INGEST_RETURNS_WINDOW_S = 24 * 3600 };
/* Is that so now, by what db_node says? */
bool ingest_two_machines(int64_t returned_at, int64_t told_at, int64_t now);
NODISCARD int ingest_presence(struct db *db, const char *node, const void *bytes, size_t len, int64_t now);

#endif
