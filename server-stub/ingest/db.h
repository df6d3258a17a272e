/*
 * db - what the controller knows, in SQLite (here only): nodes, their newest
 * reports, results, rollouts, orders, freezes, the timeline and the audit trail.
 *
 * WAL with synchronous=FULL: what a function answered 0 for is there after a
 * power cut, or, between db_begin and db_commit, all of it or nothing. The schema
 * is brought up to date at open; a newer one is refused (-ERR_AGENT_TOO_OLD).
 * Strings in rows are borrowed for the time of the callback; a callback returns 0
 * to go on, something positive to stop, or a negative error, which the function
 * then returns.
 * Failures of SQLite are -ERR_DATABASE (-ENOSPC and -EIO where it says so) with
 * the words in db_error().
 */
#ifndef SELFRIGHT_INGEST_DB_H
#define SELFRIGHT_INGEST_DB_H

#include "base/attr.h"
#include "base/buf.h"
#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct db;

/* Open or create; `path` may be ":memory:". */
NODISCARD int db_open(const char *path, struct db **ret);
void db_close(struct db *db);
DEFINE_FREEP(struct db *, db_close)
const char *db_error(const struct db *db); /* never NULL */

/* Transactions do not nest. Abort after commit does nothing. */
NODISCARD int db_begin(struct db *db);
NODISCARD int db_commit(struct db *db);
void db_abort(struct db *db);

/*
 * A batch: one wait for the disk for many changes. What is committed in it can be read at once and is
 * durable when db_batch_end answers 0; after any other answer nothing of the batch is there. An
 * abort undoes its own transaction alone. Batches do not nest, and none begins within a transaction.
 */
NODISCARD int db_batch_begin(struct db *db);
NODISCARD int db_batch_end(struct db *db);

/* Rises with every change that can matter to a rollout or an order. */
uint64_t db_generation(const struct db *db);

/* Since db_untouch (or the open), was there a change that can matter to a rollout of this component? */
bool db_touched(const struct db *db, const char *component);
void db_untouch(struct db *db);

/* --- nodes --- */
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

/* --- reports (used by ingest) --- */
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

/*
 * What one name may cost in a minute, kept in memory: false when it is used up. Names share
 * places, so one may pay for another's; nothing that counts for a gate depends on it alone.
 */
enum db_budget {
	DB_BUDGET_STRANGERS,
	DB_BUDGET_EVENTS,
	DB_BUDGET_REPORTS,
	DB_BUDGET_AGAIN,
	DB_BUDGET_LEASES,
	DB_BUDGET_FILES,
	DB_BUDGET_ENROLMENTS,
	DB_BUDGET_CERTIFICATES,
	DB_BUDGET_ENROLMENTS_OF_ALL,
	DB_BUDGET_PUTS,
	DB_BUDGET_COUNT
};
bool db_budget(struct db *db, enum db_budget kind, const char *name, int64_t now);

/* Somebody unknown or unverified spoke: shown, never counted; the newest thousand are kept. */
struct db_stranger {
	const char *name, *reason;
	uint64_t count;
	int64_t at;
};
NODISCARD int db_stranger(struct db *db, const char *name, const char *reason, int64_t now);
NODISCARD int db_strangers(struct db *db, int (*each)(void *user, const struct db_stranger *row), void *user);

/* --- enrolment: one secret a node, and the key that used it up --- */
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

/* --- results --- */
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

/* --- what commands outside said of a release (selfright check): it stays with it --- */
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

/* --- rollouts --- */
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

/* --- gates (rollout/gate.h): what those of one stage saw, were told and answered --- */
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

/* --- metrics: hourly means that nodes report of what runs there, for the metric gate --- */
enum { DB_METRIC_DAYS = 21, DB_SERIES_MAX = 256 /* of one node */ };
struct db_series {
	const char *node, *component, *name, *version;
};
struct db_hour {
	int64_t hour; /* since 1970 */
	double mean;
	uint64_t samples; /* beyond 65535 that many */
};
/*
 * Rising hours of one series. Of an hour that is known the one with more samples stays. Days that are DB_METRIC_DAYS
 * older than a node's newest go when that begins; series beyond DB_SERIES_MAX are left out. Within a transaction.
 */
NODISCARD int db_metric_store(struct db *db, const struct db_series *s, const struct db_hour *hours, size_t count);
/* From this hour on, of every version, rising but for hours that two versions share. */
NODISCARD int db_metrics(struct db *db, const char *node, const char *component, const char *name, int64_t from,
			 int (*each)(void *user, const char *version, const struct db_hour *row), void *user);

/* --- places: nodes that are, or may be, down by leave of this controller (DESIGN.md section 5 "Grant") --- */
struct db_place {
	const char *node, *update, *rollout; /* a node has one place at most */
	const char *label, *value; /* its group when it was granted */
	uint64_t sequence; /* reports above it were made after the node asked; 0: it did not say */
	int64_t granted_at;
};
/* A place for this node, instead of the one it has. */
NODISCARD int db_place_put(struct db *db, const struct db_place *p);
/* Of one node, or with NULL of all, by node. */
NODISCARD int db_places(struct db *db, const char *node, int (*each)(void *user, const struct db_place *row),
			void *user);
NODISCARD int db_place_free(struct db *db, const char *node, unsigned *ret_count);
/* Has this update of the node ended, as its signed reports say? `sequence` as in db_place. */
NODISCARD int db_update_ended(struct db *db, const char *node, const char *update, uint64_t sequence, bool *ret);

/* Who of the group counts as down, and why; the group is those whose label has the value, "" those without it. */
struct db_down {
	const char *node, *reason; /* "is silent" */
};
NODISCARD int db_down(struct db *db, const char *label, const char *value, const char *except_node,
		      int64_t heard_after, int (*each)(void *user, const struct db_down *row), void *user);

/* --- orders to one node, and freezes --- */
struct db_order {
	const char *id, *node, *kind; /* rollback, pin, hold, retry, collect */
	const char *component, *from, *to, *reason, *by; /* may be NULL */
	int64_t issued, until; /* until 0: no end */
	int64_t withdrawn_at; /* 0: live, unless `until` has passed */
	bool restore_data; /* rollback: the copy from before comes back with the version */
	bool unconfirmed; /* of a restored backup: in force only once a person confirms it */
};
NODISCARD int db_order_add(struct db *db, const struct db_order *o);
/* Orders of one node, or with NULL of all; only those live at `now`, or with now 0 all. By node, then oldest first. */
NODISCARD int db_orders(struct db *db, const char *node, int64_t now,
			int (*each)(void *user, const struct db_order *row), void *user);
/* Withdraw every live order of that kind (and component, if not NULL); *ret_count: how many. */
NODISCARD int db_order_withdraw(struct db *db, const char *node, const char *kind, const char *component,
				const char *by, int64_t now, unsigned *ret_count);

/* After a restored backup nobody knows what was withdrawn since: every live order waits for a person. */
NODISCARD int db_orders_unconfirm(struct db *db, int64_t now);
/* *ret_count: whether there was such an order, live and not confirmed. */
NODISCARD int db_order_confirm(struct db *db, const char *id, int64_t now, unsigned *ret_count);
/* One order, whatever its kind. */
NODISCARD int db_order_withdraw_one(struct db *db, const char *id, const char *by, int64_t now,
				    unsigned *ret_count);

struct db_freeze {
	const char *id, *labels, *components; /* JSON */
	const char *reason, *by;
	int64_t at, until, lifted_at;
};
NODISCARD int db_freeze_add(struct db *db, const struct db_freeze *f);
NODISCARD int db_freezes(struct db *db, int64_t now, int (*each)(void *user, const struct db_freeze *row),
			 void *user);
/* When the first live order or freeze ends after `after`; 0: none does. */
NODISCARD int db_next_end(struct db *db, int64_t after, int64_t *ret);
/* One by id, or with NULL all that are live; *ret_count: how many. */
NODISCARD int db_freeze_lift(struct db *db, const char *id, int64_t now, unsigned *ret_count);

/* --- the timeline and the audit trail: both only grow --- */
struct db_event {
	int64_t id, at;
	const char *kind, *node, *component, *text, *detail; /* node, component, detail (JSON) may be NULL */
};
NODISCARD int db_event_add(struct db *db, const struct db_event *e);
/* Those after `id`, oldest first, at most `limit`. */
NODISCARD int db_events_after(struct db *db, int64_t id, size_t limit,
			      int (*each)(void *user, const struct db_event *row), void *user);

/* --- who outside is told: each hook's place in the timeline --- */
struct db_hook {
	const char *name;
	int64_t event; /* told up to this one */
	uint64_t sent, left_out,
		failures; /* events told, events never told; messages in a row that were not taken */
	int64_t sent_at, failing_since; /* 0: never, not now */
	const char *error; /* of the newest failure; "": it works */
};
/* Durable, like every change: after 0 what was told is not told again by a start. */
NODISCARD int db_hook_set(struct db *db, const struct db_hook *h);
NODISCARD int db_hook_remove(struct db *db, const char *name);
NODISCARD int db_hooks(struct db *db, int (*each)(void *user, const struct db_hook *row), void *user);
int64_t db_last_event(const struct db *db);

/* Each entry holds the hash of the one before: nobody changes one unseen without rewriting all that follow. */
NODISCARD int db_audit(struct db *db, int64_t at, const char *by, const char *action, const char *detail);
/* 0 and the number of entries, or -ERR_DIGEST and the first that does not fit. */
NODISCARD int db_audit_verify(struct db *db, uint64_t *ret_entries);

struct db_audit_entry {
	int64_t id, at;
	const char *by, *action, *detail, *hash;
};
NODISCARD int db_audit_after(struct db *db, int64_t id, size_t limit,
			     int (*each)(void *user, const struct db_audit_entry *row), void *user);

#endif
