/*
 * db_nodes - who is a node, and what its newest report says of it and of its components.
 * Read db.h first.
 */
#ifndef SELFRIGHT_INGEST_DB_NODES_H
#define SELFRIGHT_INGEST_DB_NODES_H

#include "base/attr.h"
#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct db;

struct db_node {
	const char *node;
	const char *identity_public; /* PEM */
	const char *transport_public; /* PEM */
	const char *labels; /* JSON object: as reported, before that as registered */
	int64_t added_at;
	bool quarantined;
	const char *quarantine_reason; /* NULL: not */
	bool online; /* display only */
	int64_t presence_at;
	uint64_t returns; /* of db_births */
	int64_t returned_at, returns_told_at;
	uint64_t sequence; /* of the newest report stored; 0: none yet */
	const char *boot_id; /* of that report; NULL: none */
	int64_t reported_at; /* when it came; 0: never */
	const char *report; /* its `signed` object; NULL: none */
	const char *under_way; /* component of the update under way, NULL: none */
	const char *under_way_to, *under_way_state;
	uint64_t bytes_done, bytes_total;
	uint64_t timestamp; /* version of the one it trusts, as it says; 0: none */
};
/* -EEXIST if it is there with another identity or transport key; 0 and nothing changed with the same. */
NODISCARD int db_node_add(struct db *db, const char *node, const char *identity_public,
			  const char *transport_public, const char *labels, int64_t now);
/*
 * Forget the node and all that was known of it but the timeline and the audit trail; its name is remembered as
 * removed until it is added again. -ENOENT. Within a transaction.
 */
NODISCARD int db_node_remove(struct db *db, const char *node, int64_t now);
/* Names that were removed, whose certificates are still out there. */
NODISCARD int db_removed(struct db *db, int (*each)(void *user, const char *node), void *user);
/* One node (-ENOENT), or with NULL all of them, by name. */
NODISCARD int db_nodes(struct db *db, const char *node, int (*each)(void *user, const struct db_node *row),
		       void *user);
/* The same by slices: those behind `node` ("": from the first), at most `limit`. Returns how many there were. */
NODISCARD int db_nodes_after(struct db *db, const char *node, size_t limit,
			     int (*each)(void *user, const struct db_node *row), void *user);
/* How many there are, without a look at their reports; silent: none of them came since. */
struct db_node_counts {
	uint64_t nodes, online, quarantined, silent;
};
NODISCARD int db_node_count(struct db *db, int64_t silent_since, struct db_node_counts *ret);
NODISCARD int db_node_identity(struct db *db, const char *node, struct buf *ret_pem); /* -ENOENT */
/* The newest certificate made for it; -ENOENT: none is kept. */
NODISCARD int db_node_certificate(struct db *db, const char *node, struct buf *ret_pem);
/* It has one, for this transport key. -ENOENT: no such node. */
NODISCARD int db_node_certify(struct db *db, const char *node, const char *transport_public,
			      const char *certificate);
/*
 * Another machine takes the node's place: what its reports said is forgotten, and it counts as added now; orders to
 * it stay. -ENOENT. Within a transaction.
 */
NODISCARD int db_node_rekey(struct db *db, const char *node, const char *identity_public,
			    const char *transport_public, int64_t now);
NODISCARD int db_node_quarantine(struct db *db, const char *node, const char *reason);
/* Trust it again: the next report is taken whatever its sequence. */
NODISCARD int db_node_trust(struct db *db, const char *node);
/* `counter` is its connection's, 0 if it tells none: who left an older one than the last birth is still here. */
NODISCARD int db_node_presence(struct db *db, const char *node, bool online, int64_t counter, int64_t now);

/* Which processes of a node came to the broker, and how often one came back that another had followed. */
enum { DB_BIRTHS_KEPT = 4, DB_BIRTH_MAX = 36 };
struct db_births {
	char keys[DB_BIRTHS_KEPT][DB_BIRTH_MAX + 1]; /* the newest first; "": none */
	uint64_t returns; /* since returns_since */
	int64_t returns_since, returned_at, told_at; /* 0: never */
};
NODISCARD int db_node_births(struct db *db, const char *node, struct db_births *ret); /* -ENOENT */
NODISCARD int db_node_births_set(struct db *db, const char *node, const struct db_births *b);
/* It spoke on a connection of its own: online, if that was not known. Costs nothing otherwise. */
NODISCARD int db_node_heard(struct db *db, const char *node, int64_t now);
/* Nobody is known to be online, or off: what a controller that starts knows. */
NODISCARD int db_presence_forget(struct db *db);
/* Live news between reports, unsigned: display only. */
NODISCARD int db_node_progress(struct db *db, const char *node, const char *component, const char *to,
			       const char *state, uint64_t bytes_done, uint64_t bytes_total);
/*
 * An event with this number of its node's queue: is it news, or one that came before (a node sends again what it
 * did not see acknowledged)? And has the node dropped more of them than was known? A queue with another name is a
 * node that begins anew.
 */
NODISCARD int db_node_event(struct db *db, const char *node, const char *queue, uint64_t number, uint64_t dropped,
			    bool *ret_news, bool *ret_more_dropped);

/* The components of the newest report of one node. */
struct db_component {
	const char *component, *version; /* version NULL: absent */
	const char *previous, *rollout, *stage, *why, *why_detail, *wants; /* each may be NULL */
	bool denies; /* some version */
};
NODISCARD int db_components(struct db *db, const char *node,
			    int (*each)(void *user, const struct db_component *row), void *user);

#endif
