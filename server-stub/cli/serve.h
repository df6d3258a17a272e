/*
 * serve - the controller as one process: what its parts share (cmd_serve.c owns it).
 *
 * serve_trust   signer process, repository, publications and what is announced of them
 * serve_broker  the private mosquitto: configuration, start, supervision; the connection to it
 * serve_evaluate what a rollout is: who belongs to which stage, how each node stands, what comes next
 * serve_control the loop: what the scheduler says is done, and published
 * serve_documents what nodes read of it: rollouts, freezes, orders
 * serve_restore after a restored backup: what nodes have seen and we have not; rollouts come back paused
 * serve_approval signatures of approvers: taken, published with their stage, what is missing
 * serve_check   what must hold before one starts, and what commands outside said of a release
 * serve_plan    what a rollout would be: nodes chosen, times, approvals
 * serve_explain a past decision made again from what is kept of it
 * serve_skip    a node that a rollout does not wait for, because a person says so
 * serve_orders  orders of support to one node, and those of a restored backup, confirmed or withdrawn one by one
 * serve_gate    what the gates of a rollout know, and what they answered
 * serve_look    looks outside for them, and the calendar
 * serve_notify  tells hooks outside what happens
 * serve_held    nodes that are left behind, and by whom
 * serve_lease   disruption limits: who may be down, grants signed for it
 * serve_enrol   one-time secrets, certificates of nodes, new keys that wait for a person
 * serve_ca      the CAs: who trusts which, a rotation's steps
 * serve_reports what nodes report: stored, answered when it is on the disk
 * serve_answer  what every handler says
 * serve_api     HTTP: for nodes by TLS, for `selfright` by the Unix socket
 *
 * Behind single requests, and nothing else's business: serve_published, serve_status, serve_nodes (what is known of
 * them), serve_roster (who is one), serve_rollouts (as they are), serve_start (a new one), serve_change (halted, undone, …),
 * serve_freezes, serve_events, serve_broker_api. Their handlers stand in serve_handlers.h.
 */
#ifndef SELFRIGHT_CLI_SERVE_H
#define SELFRIGHT_CLI_SERVE_H

#include "server-stub/cli/canary.h"
#include "server-stub/cli/listening.h"
#include "base/attr.h"
#include "base/backoff.h"
#include "base/buf.h"
#include "base/text.h"
#include "os/os.h"
#include "os/process.h"
#include "server-stub/rollout/plan.h"
#include "server-stub/rollout/schedule.h"
#include "server-stub/web/web.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ack;
struct grant;
struct lease;
struct db;
struct ingest_outcome;
struct labels;
struct mqtt;
struct repo;
struct signer_client;
struct tuf_keyring;
struct db_order;
struct db_rollout;
struct gate_memory;
struct looker;
struct notifier;
struct json;
struct json_node;

enum { SERVE_BATCH_MAX = 64 /* reports that share one wait for the disk */ };
enum { SERVE_NAMES_MAX = 16, TOPIC_MAX = 256, ANNOUNCEMENT_MAX = 64 * 1024, SERVE_TEXT_MAX = 16 * 1024 * 1024 };
/* Of a request: its body as a rule, and where it is metadata. */
enum { SERVE_BODY_MAX = 1024 * 1024, SERVE_METADATA_MAX = 8 * 1024 * 1024 };

struct serve_options {
	const char *dir; /* the fleet's folder */
	const char *listen; /* address */
	unsigned http_port, broker_port; /* 0: as before, else a free one */
	bool no_signer; /* one runs on the folder already, as a user of its own; only connect to it */
	const char *broker_host; /* an external broker; NULL: a private one */
	unsigned external_port;
	const char *nodes_host; /* where nodes reach it; the same unless it says otherwise */
	unsigned nodes_port;
	uint64_t canary_s; /* how often the broker is asked whether it keeps; 0: as canary.h says */
	uint64_t certificate_life_s; /* of nodes; 0: the longest */
	uint64_t collections_max_bytes; /* of all nodes together; 0: the usual */
	const char *broker_user, *broker_password_file; /* external only; may be NULL */
	const char *names[SERVE_NAMES_MAX]; /* DNS names and addresses nodes use, besides `listen` */
	size_t name_count;
};

struct serve {
	const struct os *os;
	struct serve_options options;
	char fleet[ID_MAX + 1];
	char serve_dir[PATH_MAX], repo_dir[PATH_MAX];
	int serve_dirfd, repo_dirfd;
	struct db *db;
	struct web *web;
	unsigned https_port;

	/* serve_trust */
	struct process signer_process;
	struct signer_client *signer;
	struct repo *repo; /* NULL while the signer is away */
	bool certificate_due; /* CAs changed: the servers show another certificate, the broker takes other ones */
	uint64_t certificate_at_ms; /* then ours is made anew, long before it expires */
	uint64_t signer_retry_ms; /* when to start it again */
	struct backoff signer_backoff;

	/* serve_broker */
	struct process broker;
	struct mqtt *mqtt;
	struct relay *relay; /* the road to somebody else's broker, */
	struct tls *tls; /* and who may be at its end; NULL: the private one on loopback */
	unsigned broker_port, control_port;
	char broker_password[2 * 16 + 1];
	uint64_t broker_retry_ms, broker_since_ms, connect_again_ms;
	struct backoff broker_backoff;
	bool refill; /* what is retained has to be published again, in slices */
	char refilled[ID_MAX + 1]; /* up to this node; "": not begun */
	struct canary kept; /* is it still retained? */
	char canary[24]; /* what we said to ourselves over this connection */
	bool past_is_over; /* and heard: what was queued before is behind us */
	bool batch; /* reports were stored that are not on the disk yet, */
	uint64_t batches,
		failed_batch; /* the number of this or the last one; of one that is not on the disk and never will be */
	bool posted; /* requests wait for the end of the batch */
	bool goes_on; /* a request has done a slice of its work and waits for the next */
	struct ack *acks; /* SERVE_BATCH_MAX, and those taken are said when they are; of serve_broker */
	size_t ack_count;
	bool compared; /* what the broker kept from before this start */
	uint64_t started_ms;

	/* serve_control */
	uint64_t generation; /* of the database, when last looked at */
	bool publish_due;
	struct listening listening;
	int64_t clock_set_at; /* when it last was, also before this start; 0: never */
	int64_t wake_at; /* the first of the watched rollouts' */
	struct watched *watched; /* when each running rollout is looked at, if nothing of its component changes */
	size_t watched_count;
	int64_t publish_by; /* by then something may have ended by time alone */
	bool undo_listed; /* a published rollout takes something back: reports settle it */
	uint64_t look_again_ms, publish_retry_ms;
	struct backoff publish_backoff;
	int64_t events_told; /* last event that waiting requests were woken for */
	struct looker *looker; /* of serve_look; NULL: nothing was looked at yet */
	struct notifier *notifier; /* of serve_notify; NULL: not yet */
};

/* Where nodes reach us: the first name, else the address. */
const char *serve_public_host(const struct serve *s);
int64_t serve_now(const struct serve *s);
uint64_t serve_now_ms(const struct serve *s);
/* "<prefix>-<16 hex digits>", unique. */
NODISCARD int serve_new_id(const struct serve *s, const char *prefix, char ret[static ID_MAX + 1]);
/* A line of the timeline and an entry of the audit trail, as one step of the current transaction. */
NODISCARD int serve_record(struct serve *s, const char *kind, const char *node, const char *component,
			   const char *text, const char *by, const char *action, const char *detail);

/* --- serve_trust.c --- */
NODISCARD int trust_start(struct serve *s);
void trust_stop(struct serve *s);
/* Supervise the signer, sign anew what is due. */
void trust_tick(struct serve *s);
/* Key and certificate of serve itself: DIR/serve/tls/server.{key,crt}, ca.crt; renewed at each start. */
NODISCARD int trust_server_certificate(struct serve *s, struct buf *ret_key, struct buf *ret_cert);
/* Make it anew where CAs changed or half of its life is over: the web server and our own broker begin again with it. */
void trust_certificate_tick(struct serve *s);
/* Sign an ack or the like; the envelope appended. */
NODISCARD int trust_sign(struct serve *s, void (*write)(const void *what, struct json_node *object),
			 const void *what, struct buf *ret);
/* Publish retained what the newest publication changed; `node`: its orders, to that node alone. */
void trust_announce(struct serve *s, const char *node);
void trust_announce_timestamp(struct serve *s);
/* Everything that is retained, after the broker came back: a slice of it, until s->refill is false. */
void trust_refill(struct serve *s);

/* --- serve_files.c --- */
/* A request on node/<id>/get: its blocks, or "not found", on node/<id>/blob. */
void files_answer(struct serve *s, const char *node, const void *data, size_t len);

/* --- serve_collect.c --- */
/*
 * A part of a collection that arrived from `node`; what is to be said to it is appended, nothing if it is to begin anew by
 * itself. -ERR_SYNTAX: it is none; else our own failure.
 */
NODISCARD int collect_take(struct serve *s, const char *node, const void *data, size_t len,
			   struct buf *ret_answer);
/* The node is no longer of the fleet. */
void collect_forget(struct serve *s, const char *node);

/* --- serve_broker.c --- */
NODISCARD int broker_start(struct serve *s);
void broker_stop(struct serve *s);
void broker_tick(struct serve *s);
/* Other certificates: our own broker is started again with them; nodes come back by themselves. Nothing with another's broker. */
NODISCARD int broker_certificates_changed(struct serve *s);
/* Nodes were removed or added: our own broker reads its access list again. */
NODISCARD int broker_access_changed(struct serve *s);
/* Reports from now on share one wait for the disk, until broker_settle(). */
void broker_begin_batch(struct serve *s);
/* What was taken goes to the disk, and then its acknowledgements to the nodes. Cheap when there is nothing. */
void broker_settle(struct serve *s);
/* Connect as controller. */
NODISCARD int broker_connect(struct serve *s);
/*
 * Was what the broker kept from before this start compared with what is published here (DESIGN.md section 4)? Until
 * then nothing is signed; a broker that cannot be reached does not hold it up for long.
 */
bool broker_is_compared(struct serve *s);
/* The same at QoS 0 and not retained: blocks of files, asked for again if they are lost. */
void broker_publish_data(struct serve *s, const char *topic, const void *data, size_t len);
/* To selfright/v1/<fleet>/<topic>; what cannot be sent now is sent by refill or asked for again. */
void broker_publish(struct serve *s, const char *topic, const void *data, size_t len, bool retain);
/*
 * A TCP port on `address` that is free now, and none that the system gives to outgoing connections if there is one: it
 * has to be free at every later start as well.
 */
NODISCARD int broker_free_port(const struct os *os, const char *address, unsigned *ret);

/* --- serve_evaluate.c --- */
enum { ZONE_NAME_SIZE = 48 };
struct evaluated_member {
	struct schedule_member member;
	char node[ID_MAX + 1];
	bool selected; /* by some stage */
	bool stored; /* in the database as it is here */
	bool acted, online;
	bool told; /* the result of its update is here */
	bool runs; /* one of the releases, as it says */
	char zone[ZONE_NAME_SIZE]; /* its label; "": none */
	char version[72], detail[200], under_way[24], result[40], failing[ID_MAX + 1], degraded[ID_MAX + 1];
	int64_t reported_at;
	uint64_t bytes_done, bytes_total;
};
struct evaluation {
	struct plan plan;
	struct schedule_stage stages[PLAN_STAGES_MAX];
	struct evaluated_member *members; /* every registered node, by name */
	size_t count;
	int64_t listens_since, clock_set_at; /* as in schedule_input */
	struct gate_memory *gates; /* of the stage that is open last; NULL: none is */
	struct schedule_decision decision;
};
/* What a rollout is now; with an id that is not in the database what it would be. */
NODISCARD int evaluation_make(struct serve *s, const char *id, enum rollout_state state, const char *plan_json,
			      struct evaluation *ret);
void evaluation_done(struct evaluation *e);
/*
 * The first moment from `from` on at which a stage with a zone may open, as the plan's window and blackouts are there;
 * -1: unknown. A patch that overrides the window may at any time: `from`.
 */
int64_t evaluation_opens_at(const struct serve *s, const struct plan *p, size_t stage, int64_t from);
/* What schedule() is asked of it; borrowed from e, but for ret->members, which are the caller's (free). */
NODISCARD int evaluation_input(const struct evaluation *e, enum rollout_state state, int64_t now,
			       struct schedule_input *ret);
/* Labels as the database holds them. */
NODISCARD int serve_labels(const char *text, struct labels *ret);

/* --- serve_documents.c --- */
/* What differs from what is published is signed, published and announced. */
NODISCARD int documents_publish_rollouts(struct serve *s);
NODISCARD int documents_publish_orders(struct serve *s);
/* The same for the orders of one node, at a cost that does not grow with the fleet; they are announced to it in any case. */
NODISCARD int documents_publish_orders_of(struct serve *s, const char *node);
/* The highest seq that was ever published here. */
NODISCARD int documents_published_seq(struct serve *s, uint64_t *ret);

/* --- serve_control.c --- */
/* What is known of this host's clock from before. */
NODISCARD int control_begin(struct serve *s);
/* Look at the running rollouts and publish what changed, if anything did; cheap otherwise. */
void control_tick(struct serve *s);
void control_shorten(const struct serve *s, int *timeout_ms);
/* Something was decided: look and publish at once. 0, or why it could not be published yet (it is tried again). */
NODISCARD int control_publish_now(struct serve *s);
/* The same for the orders of one node, at a cost that does not grow with the fleet. */
NODISCARD int control_publish_orders(struct serve *s, const char *node);
void control_done(struct serve *s);

/* --- serve_restore.c --- */
/* `repo recover` was here: rollouts come back paused, orders are to be confirmed. Cheap otherwise. */
void restore_tick(struct serve *s);
/* A signed report says it trusts timestamp `version`: if that is newer than anything published here, its bytes decide. */
void restore_look(struct serve *s, const char *node, uint64_t version, const void *report, size_t len);
/* The same of what the broker kept from before this start, on `timestamp` and, compressed, on `announce`. */
void restore_look_at_timestamp(struct serve *s, const void *timestamp, size_t len);
void restore_look_at_announcement(struct serve *s, const void *gzip, size_t len);
/* Has this node heard nothing new although it reports? Metadata is signed anew every few hours. */
bool restore_held_back(uint64_t timestamp, int64_t reported_at);

/* --- serve_approval.c --- */
/* The approvals of each stage as its document holds them: ret[i] is the caller's, untouched if there is none. */
NODISCARD int approvals_gather(struct serve *s, const char *id, size_t stage_count, struct json **ret);
/* What the component's policy asks for each stage of a published rollout, and what is there. */
NODISCARD int approvals_show(struct serve *s, const char *id, struct json_node *list);
/* The role that owns a component, and the keys of an approver its policy names (-ERR_NOT_LISTED), by the metadata of targets. */
const char *approvals_team(const struct json *targets, const char *component); /* NULL: nobody; borrowed */
NODISCARD int approvals_keys(const struct json *targets, const char *component, const char *approver,
			     struct tuf_keyring **ret);

/* --- serve_check.c --- */
struct check_request {
	const char *component, *version;
	const struct plan *plan; /* NULL: the release alone, against every node that has the component */
	const struct evaluation *evaluation; /* whom the plan selects */
	enum rollout_kind kind;
	const char *rollout; /* started already: approvals count; may be NULL */
	const char *plan_file; /* for complaints; may be NULL */
	const struct json *overrides; /* names of items that may fail; may be NULL */
};
struct check_answer {
	bool failed, warned; /* failed: something does that nobody answers for */
	struct buf reasons; /* why, in words */
	struct string_list overridden; /* items that fail and were named */
};
#define CHECK_ANSWER_INIT                                                                                         \
	{                                                                                                         \
		.reasons = BUF_INIT(64 * 1024)                                                                    \
	}
/*
 * A judgement, made in slices: the reports of ten thousand nodes take seconds to read, and nobody else may wait for
 * them. What the request points to is borrowed until check_free. A node is judged by what it had reported when its slice came.
 * *ret is to be freed after an error too, which check_fail() puts into words.
 */
struct check;
NODISCARD int check_begin(struct serve *s, const struct check_request *q, struct check **ret);
/* 1: the request waits, and its handler is to ask again when it is called again; 0: every node was looked at. */
NODISCARD int check_look(struct check *k, struct web_request *rq);
/* "verdict" and "releases" into `o`. The answer is done (check_answer_done) whatever this returns. */
NODISCARD int check_finish(struct check *k, struct json_node *o, struct check_answer *a);
void check_free(struct check *k);
void check_answer_done(struct check_answer *a);
/* Complain of a negative answer; `k` may be NULL. */
void check_fail(struct serve *s, struct web_request *rq, const struct check *k, int r);
/* Lines of stages that a command read from a file, laid into the plan; the file's name or NULL. */
const char *check_lines(const struct json *doc, struct plan *p);

/* --- serve_plan.c --- */
/* Stages by count or preference become stages by nodes, for the rollout `id`; false: a complaint was sent. */
NODISCARD bool plan_resolve(struct serve *s, struct web_request *rq, const char *id, struct plan *p);
/* "earliest" by stage and "asks", whose approval the policies ask for: before anything starts. */
void plan_preview(struct serve *s, struct json_node *o, const struct evaluation *e);

/* --- serve_metric.c --- */
/* A look of a metric gate, if one is due: 1, and everything in `ret` but text and data is set; 0: none is. */
NODISCARD int metrics_look(struct serve *s, const struct evaluation *e, const struct gate *g, size_t stage,
			   const struct gate_look *made, size_t count, struct gate_look *ret,
			   char text[static GATE_TEXT], struct buf *data);

/* --- serve_gate.c --- */
/* What is known of the gates of the stage that is open last, into e->gates (gates_forget). */
NODISCARD int gates_remember(struct serve *s, const char *id, struct evaluation *e);
void gates_forget(struct gate_memory *m); /* NULL is fine */
void gates_moved(struct evaluation *e); /* the evaluation lies somewhere else now */
/* ... as schedule() takes it; borrowed from e. */
void gates_input(const struct evaluation *e, struct schedule_input *in);
/* Since when they are asked, whom they ask, what they answered. Within a transaction. */
NODISCARD int gates_note(struct serve *s, const char *id, const struct evaluation *e, bool *ret_news);
/* What was seen of a gate, kept; the oldest of many is dropped. */
NODISCARD int gates_keep_look(struct serve *s, const char *id, size_t position, const char *gate,
			      const struct gate_look *l);
/* Begin the looks outside that are due; when the next one is. */
int64_t gates_look(struct serve *s, const char *id, const struct evaluation *e);

/* --- serve_look.c --- */
/* Those of these gates that are due; when the next one is, INT64_MAX: none. */
int64_t looks_begin(struct serve *s, const char *id, const struct evaluation *e, size_t position,
		    const struct gate_facts *facts, size_t count);
/* Store what has been seen. Never waits. */
void looks_tick(struct serve *s);
void looks_shorten(const struct serve *s, int *timeout_ms);
void looks_done(struct serve *s);
/* When somebody is on duty, by DIR/calendar.yaml. */
void looks_duty(struct serve *s, struct gate_duty *ret);
/* May the plan's gates be looked at, by DIR/gates.yaml? false: a complaint was sent. */
bool looks_possible(struct serve *s, struct web_request *rq, const struct plan *p);

/* --- serve_notify.c --- */
/* Tell the hooks of DIR/notify.yaml what stands in the timeline. Never waits. */
void notify_tick(struct serve *s);
void notify_shorten(const struct serve *s, int *timeout_ms);
void notify_done(struct serve *s);
/* How many hooks do not get through; a file that cannot be read is one. */
unsigned notify_failing(const struct serve *s);

/* --- serve_orders.c --- */
/* An order as every answer shows it. */
void order_write(struct json_node *o, const struct db_order *row);

/* --- serve_lease.c --- */
/* A node asks for a place: *ret_grant is the signed answer, yes or no, unless *ret_refusal says why there is none. */
NODISCARD int lease_answer(struct serve *s, const char *node, const void *data, size_t len, struct buf *ret_grant,
			   const char **ret_refusal);
/* May it start? *ret says so, or why not; a place is taken in the transaction of the caller. */
NODISCARD int lease_judge(struct serve *s, const struct lease *asked, struct grant *ret);
/* "place" in the node's object, if it holds one. */
NODISCARD int lease_show(struct serve *s, const char *node, struct json_node *object);
/* A person says that the node is not down any more, or never was; *ret_count: whether it held a place. */
NODISCARD int lease_release(struct serve *s, const char *node, const char *reason, const char *by,
			    unsigned *ret_count);

/* --- serve_enrol.c --- */
/*
 * A node asks for a certificate, by any road, `node` from the topic (NULL: none said): the answer, appended, and its HTTP status with the
 * sentence. Negative: our own failure, or -ERR_DISAGREE for a request that is another node's.
 */
NODISCARD int enrol_take(struct serve *s, const char *node, const void *data, size_t len, const char *road,
			 struct buf *ret_answer, unsigned *ret_status, char *ret_text, size_t text_size);
/* A one-time secret for `node`, into the answer; false: a complaint was sent. */
NODISCARD bool enrol_make_secret(struct serve *s, struct web_request *rq, const struct json *doc, const char *node,
				 const char *labels, struct json_node *o);
/* Secrets that are open and keys that wait. */
NODISCARD int enrol_list(struct serve *s, struct json_node *array);

/* --- serve_reports.c --- */
/* A report that came by any road: stored, and what is to be said to it. -errno: our own failure. */
NODISCARD int report_store(struct serve *s, const char *node, const void *data, size_t len, const char *road,
			   struct ingest_outcome *ret, bool *ret_refused);
/* The signed answer, appended. */
NODISCARD int report_sign_ack(struct serve *s, const struct ack *ack, struct buf *ret);

/* --- serve_api.c --- */
extern const struct web_route serve_routes[];
/* Of struct web_options: what any other request asks or changes comes after the reports before it, and is on the disk. */
void serve_before(void *user, const struct web_route *route);

#endif
