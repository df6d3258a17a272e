/*
 * report - the node's whole state as it tells it, and the controller's signed answers
 * (DESIGN.md section 5 "Report"). All are TUF envelopes in canonical JSON.
 */
#ifndef SELFRIGHT_MODEL_REPORT_H
#define SELFRIGHT_MODEL_REPORT_H

#include "base/attr.h"
#include "base/buf.h"
#include "base/text.h"
#include "model/decide.h"
#include "model/labels.h"
#include "model/release.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json;
struct json_node;

enum { REPORT_MAX_BYTES = 128 * 1024, LOG_TAIL_MAX = 4096, NONCE_HEX = 32, BOOT_ID_MAX = 36, REPORT_FORMAT = 1 };
enum {
	REPORT_COMPONENTS_MAX = 64,
	REPORT_DENIED_MAX = 64, /* of one component */
	REPORT_RESULTS_MAX = 64,
	REPORT_CHECKS_MAX = 256,
	REPORT_ORDERS_MAX = 64,
	REPORT_METRICS_MAX = 32,
	REPORT_METRIC_HOURS_MAX = 12,
	REPORT_DETAIL_MAX = 1024,
	REPORT_SECRETS_MAX = 64,
	REPORT_CA_MAX = 32,
	UPDATE_ID_MAX = 160, /* <rollout or order id>/<component>/<attempt> */
};

/* clang-format off */
/*
 * The states of DESIGN.md section 8, once for journal, report and controller.
 * X(id, "name")
 */
#define UPDATE_STATES(X)                                                                                            \
	X(IDLE, "idle") X(PLANNED, "planned") X(STAGING, "staging") X(STAGED, "staged") X(WAITING, "waiting")        \
	X(STOPPING, "stopping") X(SWAPPING, "swapping") X(REBOOTING, "rebooting") X(PROBATION, "probation")          \
	X(GOOD, "good") X(WATCH, "watch") X(FAILED, "failed") X(ROLLING_BACK, "rolling-back")                        \
	X(ROLLED_BACK, "rolled-back") X(STUCK, "stuck")
/* clang-format on */

enum update_state {
#define UPDATE_STATE_ENUM_(id, name) STATE_##id,
	UPDATE_STATES(UPDATE_STATE_ENUM_)
#undef UPDATE_STATE_ENUM_
		STATE_COUNT,
};
const char *update_state_name(enum update_state s);
int update_state_parse(const char *name); /* -1: none */

struct report_denial {
	char *version, *cause; /* "unfit" ... */
	uint64_t seq;
};
struct report_component {
	char *component, *version, *previous; /* version NULL: absent */
	struct report_denial *denied;
	size_t denied_count;
	char *rollout, *stage; /* the version came by this rollout; NULL: otherwise */
	uint64_t seq;
	char *why, *why_detail; /* reason name and a sentence */
	char *wants; /* the version it waits for, NULL: none */
};
struct report_result {
	char *update; /* <rollout or order id>/<component>/<attempt> */
	char *component, *from, *to;
	char *rollout, *stage; /* NULL for orders */
	uint64_t seq;
	char *release_sha256; /* hex or NULL */
	uint64_t number; /* of the catalogue */
	char *name, *class, *detail, *log_tail;
	int64_t at;
	uint64_t duration_ms, pause_ms;
	uint64_t sequence; /* of the report that first carried it: never replayed as news */
};
struct report_check {
	char *component, *name, *kind, *state; /* "passing", "failing", "pending", "not-blamed" */
	char *detail;
};
/* What became of an order that is listed: said with every report while it is, so that nobody has to ask twice. */
struct report_order {
	char *id, *component; /* component NULL: the whole node */
	uint64_t number; /* of the catalogue */
	char *name, *detail;
	int64_t at;
};
/*
 * What a release may require of a node beside labels and other components, so that the fleet side can say beforehand
 * who lacks it. Names alone: values never leave the node.
 */
struct report_means {
	bool told; /* older agents do not */
	struct string_list vars; /* that vars.d defines */
	char *secrets_folder; /* absolute; NULL: not said, or it holds more than a report can name */
	struct string_list secrets; /* the files in it */
	char *zone_data; /* edition of the time zone tables; NULL: not known */
	uint64_t free_bytes; /* where versions are kept */
};
/* Which CAs the node trusts for TLS, and which of them issued its own certificate: a rotation waits for the last node. */
struct report_ca {
	bool told; /* older agents do not */
	struct string_list trusted; /* SHA-256 in hex of each certificate */
	char *issuer; /* one of them; NULL: there is no certificate, or none of theirs */
};
/* The mean of one metric over one hour, and how many samples, or events it is a share of, stand behind it. */
struct report_metric_hour {
	int64_t hour; /* since 1970, UTC */
	double mean;
	uint64_t samples;
};
/* A check of kind metric of one version that ran here; hours rise. */
struct report_metric {
	char *component, *version, *name;
	struct report_metric_hour *hours;
	size_t hour_count;
};
struct report {
	char *fleet, *node, *boot_id, *agent;
	uint64_t sequence;
	int64_t at;
	uint64_t generation;
	uint64_t root_version, timestamp_version, snapshot_version, targets_version;
	struct json *timestamp; /* the trusted timestamp document, NULL: none */
	struct labels labels, own_labels;
	struct report_component *components;
	size_t component_count;
	struct { /* under way; update NULL: none */
		char *update, *component, *to, *state;
		uint64_t bytes_done, bytes_total;
	} progress;
	struct report_means means;
	struct report_ca ca;
	struct report_result *results; /* not acknowledged yet, oldest first */
	size_t result_count;
	struct report_check *checks;
	size_t check_count;
	struct report_metric *metrics;
	size_t metric_count;
	struct report_order *orders;
	size_t order_count;
	char *nonce; /* hex, when it wants a fresh answer; else NULL */
};

void report_done(struct report *r);
/*
 * The `signed` object, _type selfright-report. Details and log tails, which come from
 * programs, are cleaned and cut to their limits here; every other text must fit its
 * rule, or report_parse will refuse it. -ERR_FIELD_MISSING without fleet, node, boot id or
 * agent, -ERR_TOO_LARGE beyond the counts above.
 */
NODISCARD int report_write(const struct report *r, struct json_node *object);
NODISCARD int report_parse(const struct json *object, struct report *ret, char **ret_error);

/*
 * What a program said, for a document: control bytes but tab and newline, and what is no
 * UTF-8, become '?'; at most the last `max` bytes, cut between characters. Appended.
 */
NODISCARD int printable_tail(const char *text, size_t len, size_t max, struct buf *out);

/* _type selfright-ack: "stored up to this sequence, in answer to this nonce". */
struct ack {
	char fleet[ID_MAX + 1], node[ID_MAX + 1], boot_id[BOOT_ID_MAX + 1], nonce[NONCE_HEX + 1];
	uint64_t sequence;
	int64_t at;
};
void ack_write(const struct ack *a, struct json_node *object);
NODISCARD int ack_parse(const struct json *object, struct ack *ret);

/*
 * _type selfright-lease, signed by the node: "may I start this update?". `sequence` is the number of its last
 * report, so that every report with a higher one was made after it asked; 0: an agent that does not say.
 */
struct lease {
	char fleet[ID_MAX + 1], node[ID_MAX + 1], nonce[NONCE_HEX + 1], update[200], rollout[ID_MAX + 1];
	uint64_t sequence;
};
void lease_write(const struct lease *l, struct json_node *object);
NODISCARD int lease_parse(const struct json *object, struct lease *ret);

/* _type selfright-grant: "you may start within so many seconds". */
struct grant {
	char fleet[ID_MAX + 1], node[ID_MAX + 1], nonce[NONCE_HEX + 1], update[200];
	bool granted;
	uint64_t start_within_s;
	char reason[128]; /* when not */
};
void grant_write(const struct grant *g, struct json_node *object);
NODISCARD int grant_parse(const struct json *object, struct grant *ret);

/* _type selfright-event: one state change or progress, unsigned news for the desk; never counted by a gate. */
struct event {
	char node[ID_MAX + 1], update[200], component[ID_MAX + 1], state[24], version[72], detail[512];
	int64_t at;
	uint64_t bytes_done, bytes_total;
	/* Set by the link when it queues one: its number rises within the queue; "": it was not queued. */
	char queue[NONCE_HEX + 1];
	uint64_t number, dropped; /* `dropped` events made room for others, in all */
};
void event_write(const struct event *e, struct json_node *object);
NODISCARD int event_parse(const struct json *object, struct event *ret);

#endif
