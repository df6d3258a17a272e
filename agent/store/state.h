/*
 * state - all that a node must still know after a power cut, in one value.
 *
 * The engine changes it in memory and saves it as one journal record before it
 * acts (store.h); selfright-recover reads and writes the same. Text lives in
 * fixed arrays, so that a change cannot run out of memory halfway; lists are
 * bounded and drop their oldest entry, as each one says.
 *
 * On disk it is text, one "key value" per line, the value escaped with %XX where
 * it would break a line; "component", "update" and "result" begin a block that
 * ends with "end". Unknown keys and blocks are ignored, so that a predecessor
 * reads what its successor added; an unknown format is refused.
 *
 * Words and their order are those of DESIGN.md section 8 and of model/decide.h
 * and model/report.h, which this layer may not include.
 */
#ifndef SELFRIGHT_STORE_STATE_H
#define SELFRIGHT_STORE_STATE_H

#include "base/attr.h"
#include "base/buf.h"
#include "base/text.h"
#include "base/version.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	STATE_FORMAT = 1,
	STATE_BYTES_MAX = 4 * 1024 * 1024,
	STATE_COMPONENTS_MAX = 64,
	STATE_GOOD_MAX = 32,
	STATE_DENIALS_MAX = 64,
	STATE_TAKEN_MAX = 32,
	STATE_JOINED_MAX = 32,
	STATE_ORDERS_MAX = 64,
	STATE_RESULTS_MAX = 32,
	STATE_RETRIES_MAX = 64,
	STATE_DEFERRALS_MAX = 64,
	STATE_NOTICED_MAX = 16,
	STATE_WITH_MAX = 15,
	STATE_BASELINE_MAX = 64,
	STATE_ID_SIZE = ID_MAX + 1,
	STATE_VERSION_SIZE = VERSION_MAX + 1,
	STATE_HEX_SIZE = SHA256_HEX + 1,
	STATE_UPDATE_SIZE = 200, /* "<rollout or order id>/<component>/<attempt>" */
	STATE_PATH_SIZE = 1025,
	STATE_DETAIL_SIZE = 513,
	STATE_LOG_TAIL_SIZE = 4097,
	STATE_BOOT_ID_SIZE = 37,
};

/* X(ID, "name"): in the order of model/report.h's UPDATE_STATES. */
#define NODE_UPDATE_STATES(X)                                                                                     \
	X(IDLE, "idle")                                                                                           \
	X(PLANNED, "planned")                                                                                     \
	X(STAGING, "staging")                                                                                     \
	X(STAGED, "staged")                                                                                       \
	X(WAITING, "waiting")                                                                                     \
	X(STOPPING, "stopping")                                                                                   \
	X(SWAPPING, "swapping")                                                                                   \
	X(REBOOTING, "rebooting")                                                                                 \
	X(PROBATION, "probation")                                                                                 \
	X(GOOD, "good")                                                                                           \
	X(WATCH, "watch")                                                                                         \
	X(FAILED, "failed")                                                                                       \
	X(ROLLING_BACK, "rolling-back")                                                                           \
	X(ROLLED_BACK, "rolled-back")                                                                             \
	X(STUCK, "stuck")
enum node_update_state {
#define NODE_UPDATE_STATE_ENUM_(id, name) NODE_##id,
	NODE_UPDATE_STATES(NODE_UPDATE_STATE_ENUM_)
#undef NODE_UPDATE_STATE_ENUM_
		NODE_UPDATE_STATE_COUNT,
};
const char *node_update_state_name(enum node_update_state s);

/* Why an update runs: in the order of model/decide.h's enum cause, then our own. */
enum node_cause {
	NODE_CAUSE_NONE,
	NODE_CAUSE_ROLLOUT,
	NODE_CAUSE_ORDER_ROLLBACK,
	NODE_CAUSE_ORDER_PIN,
	NODE_CAUSE_UNDO,
	NODE_CAUSE_LOCAL, /* the console: install from a bundle, rollback */
	NODE_CAUSE_WATCH, /* a check failed while the release was watched */
	NODE_CAUSE_COUNT,
};
const char *node_cause_name(enum node_cause c);

/* In the order of model/decide.h's enum denial_cause. */
enum node_denial_cause { NODE_DENIED_UNFIT, NODE_DENIED_FORCED, NODE_DENIED_UNDONE, NODE_DENIED_COUNT };
const char *node_denial_cause_name(enum node_denial_cause c);

struct node_denial {
	char version[STATE_VERSION_SIZE];
	enum node_denial_cause cause;
	uint64_t seq; /* of the rollout that brought the version */
};

struct node_taken {
	char rollout[STATE_ID_SIZE], stage[STATE_ID_SIZE];
	uint64_t seq;
	char version[STATE_VERSION_SIZE], previous[STATE_VERSION_SIZE]; /* previous "": was absent */
};

struct node_component {
	char name[STATE_ID_SIZE];
	char version[STATE_VERSION_SIZE]; /* current; "": absent */
	char previous[STATE_VERSION_SIZE]; /* before the last swap; "": absent or none */
	char rollout[STATE_ID_SIZE], stage[STATE_ID_SIZE]; /* that brought `version`; "": another way */
	uint64_t seq;
	char release_path[STATE_PATH_SIZE], release_sha256[STATE_HEX_SIZE]; /* of `version`; "": none */
	char good[STATE_GOOD_MAX][STATE_VERSION_SIZE]; /* newest last */
	size_t good_count;
	struct node_denial denials[STATE_DENIALS_MAX];
	size_t denial_count;
	struct node_taken taken[STATE_TAKEN_MAX]; /* newest last */
	size_t taken_count;
	char joined[STATE_JOINED_MAX][STATE_ID_SIZE]; /* rollouts whose membership was acted on, newest last */
	size_t joined_count;
	uint64_t attempts; /* numbers update ids; never reset */
	uint64_t swap_day, swap_count; /* days since 1970, swaps by rollouts on it */
	int64_t watch_until; /* 0: not watched */
	char watch_update[STATE_UPDATE_SIZE]; /* the good update that is being watched */
};

/* One more component that goes in the same rename. */
struct node_with {
	char component[STATE_ID_SIZE];
	char from[STATE_VERSION_SIZE], to[STATE_VERSION_SIZE]; /* "": absent */
	char release_path[STATE_PATH_SIZE], release_sha256[STATE_HEX_SIZE], digest[STATE_HEX_SIZE];
};

/* What a check said before the swap, so that nothing that failed already is blamed on the release. */
struct node_baseline {
	char component[STATE_ID_SIZE], check[STATE_ID_SIZE];
	bool passed;
	char value[40]; /* of a metric; "": none */
};

/* The update under way; id "": none. */
struct node_update {
	char id[STATE_UPDATE_SIZE];
	char source[STATE_ID_SIZE]; /* the rollout's or order's id */
	char component[STATE_ID_SIZE];
	uint64_t attempt;
	enum node_update_state state;
	enum node_cause cause;
	char from[STATE_VERSION_SIZE], to[STATE_VERSION_SIZE]; /* "": absent */
	char rollout[STATE_ID_SIZE], stage[STATE_ID_SIZE];
	uint64_t seq;
	char release_path[STATE_PATH_SIZE], release_sha256[STATE_HEX_SIZE];
	char digest[STATE_HEX_SIZE]; /* the signed tree digest */
	uint64_t target_generation; /* 0: not made yet */
	uint64_t fallback_generation; /* 0: not made yet; where recover goes back to */
	int64_t started_at, deadline; /* seconds since 1970; 0: none */
	int64_t swapped_at; /* 0: not swapped */
	uint64_t swapped_boot_ms; /* the same by CLOCK_BOOTTIME of the boot `boot_id` names */
	uint64_t probation_ms, watch_ms; /* lengths */
	uint64_t probation_done_ms; /* of it, in earlier boots */
	uint64_t pause_ms; /* how long the service was away */
	uint64_t handover_ms; /* of the agent's own update: how long the new one may take; 0: the default */
	uint64_t boots; /* within this probation */
	uint64_t boot_attempts; /* above it recover falls back; 0: the default, 3 */
	char recover_boot_id[STATE_BOOT_ID_SIZE]; /* the boot recover counted last: a second run does not count */
	bool recovered; /* recover fell back: the agent reports it and clears the update */
	bool services_stopped; /* before the swap, to be started again */
	bool link_before; /* the controller's answer was verified before the swap */
	bool network; /* what was not proven, was not because of the network */
	bool deny_from; /* the order wants `from` denied whatever the end is */
	char data_saved
		[STATE_PATH_SIZE]; /* where data[] was copied before the swap, below the root; "": nowhere */
	char data_from[STATE_PATH_SIZE]; /* an earlier copy that is put back with the swap; "": none */
	uint64_t result; /* of the catalogue; 0: none yet */
	char detail[STATE_DETAIL_SIZE]; /* one sentence */
	char waiting_for[64]; /* reason name while waiting */
	char blamed[STATE_ID_SIZE]; /* of several components the one that failed; "": the main one */
	struct node_with with[STATE_WITH_MAX];
	size_t with_count;
	struct node_baseline baseline[STATE_BASELINE_MAX];
	size_t baseline_count;
};

/* The outcome of an order that is done once, repeated on request. */
struct node_order {
	char id[STATE_ID_SIZE], component[STATE_ID_SIZE]; /* component "": the whole node */
	uint64_t result; /* of the catalogue */
	int64_t at;
	char detail[STATE_DETAIL_SIZE];
};

/* An end state the controller has not acknowledged yet. */
struct node_result {
	char update[STATE_UPDATE_SIZE];
	char component[STATE_ID_SIZE];
	char from[STATE_VERSION_SIZE], to[STATE_VERSION_SIZE];
	char rollout[STATE_ID_SIZE], stage[STATE_ID_SIZE];
	uint64_t seq;
	char release_sha256[STATE_HEX_SIZE];
	uint64_t number;
	char detail[STATE_DETAIL_SIZE], log_tail[STATE_LOG_TAIL_SIZE];
	int64_t at;
	uint64_t duration_ms, pause_ms;
	bool network; /* good, but unproven because of the network: its class */
	uint64_t sequence; /* of the report that first carried it; 0: none yet */
};

/* Backoff after failures that deny nothing. */
struct node_retry {
	char component[STATE_ID_SIZE], version[STATE_VERSION_SIZE];
	uint64_t failures;
	int64_t not_before; /* by the time of day: for people, and for the next process */
	int64_t wait_s; /* the whole pause; 0: an older agent's */
	uint64_t due_ms; /* by the boot clock, in the process that noted or looked (phase/again.h); never saved */
};

/* Somebody here asked for rollouts to come later. */
struct node_deferral {
	char component[STATE_ID_SIZE]; /* "": every component */
	int64_t until;
	char by[64], reason[201];
};

/* A notice period that runs here. */
struct node_noticed {
	char rollout[STATE_ID_SIZE];
	char boot_id[STATE_BOOT_ID_SIZE]; /* of since_ms */
	int64_t since_ms; /* when it began, since that boot */
	int64_t at; /* the same by the time of day */
	bool told; /* the hook `notify` has run */
};

struct node_state {
	uint64_t report_sequence; /* the last one used; never reset */
	uint64_t generation; /* the highest generation number ever used */
	char boot_id[STATE_BOOT_ID_SIZE]; /* of the agent's last run */
	bool stuck; /* a rollback failed (DESIGN.md section 8) */
	int64_t hold_until; /* the local hold; 0: none */
	int64_t hold_s; /* how long it is in all; 0: an older agent's */
	char hold_reason[STATE_DETAIL_SIZE], hold_by[64];
	struct node_component **components; /* sorted by name; pointers stay valid until state_done */
	size_t component_count;
	struct node_update update;
	struct node_order orders[STATE_ORDERS_MAX]; /* oldest first */
	size_t order_count;
	struct node_result *results[STATE_RESULTS_MAX]; /* oldest first */
	size_t result_count;
	struct node_retry retries[STATE_RETRIES_MAX];
	size_t retry_count;
	struct node_deferral deferrals[STATE_DEFERRALS_MAX];
	size_t deferral_count;
	struct node_noticed noticed[STATE_NOTICED_MAX]; /* oldest first */
	size_t noticed_count;
};

/* It is large (100 KiB): better in static or heap storage than on the stack. */
void state_init(struct node_state *s);
void state_done(struct node_state *s);

/*
 * The text, appended to `out`. -ERR_FIELD_VALUE if a field holds what state_decode would
 * refuse (a version that is none, an id with a blank): better not saved than not readable.
 */
NODISCARD int state_encode(const struct node_state *s, struct buf *out);

/*
 * Strictly back, bounded whatever the bytes: -ERR_SYNTAX, -ERR_FIELD_VALUE, -ERR_DUPLICATE_NAME,
 * -ERR_FIELD_MISSING (a block without its name), -ERR_TOO_LARGE (a list over its limit),
 * -ERR_AGENT_TOO_OLD (an unknown format). `ret` need not be initialised; untouched on failure.
 */
NODISCARD int state_decode(const void *data, size_t len, struct node_state *ret);

/* The component, or NULL. */
struct node_component *state_component(const struct node_state *s, const char *name);
/* The component, added (absent) if it was not there. -ERR_NAME, -ERR_TOO_LARGE, -ENOMEM. */
NODISCARD int state_component_add(struct node_state *s, const char *name, struct node_component **ret);
/* Forget one that is absent, denied nothing and joined nothing. Nothing happens if it does not exist. */
void state_component_remove(struct node_state *s, const char *name);

/* `version` was good here; it becomes the newest. The oldest of 32 is dropped. */
void component_good_add(struct node_component *c, const char *version);
bool component_was_good(const struct node_component *c, const char *version);

/* Deny, or change the cause of a denial. A full list drops its oldest `undone`, else its oldest. */
void component_deny(struct node_component *c, const char *version, enum node_denial_cause cause, uint64_t seq);
const struct node_denial *component_denial(const struct node_component *c, const char *version); /* NULL: none */
void component_undeny(struct node_component *c, const char *version); /* NULL: every version */

/* Remember what was taken; a later one of the same rollout replaces the earlier. */
void component_taken_add(struct node_component *c, const struct node_taken *t);
const struct node_taken *component_taken(const struct node_component *c, const char *rollout); /* NULL: none */
void component_joined_add(struct node_component *c, const char *rollout);
bool component_has_joined(const struct node_component *c, const char *rollout);

/* Swaps by rollouts on the day of `now`, and one more. */
uint64_t component_swaps_today(const struct node_component *c, int64_t now);
void component_swap_count(struct node_component *c, int64_t now);

/* Is an update under way? */
bool state_has_update(const struct node_state *s);
/* Forget the update under way. */
void state_update_clear(struct node_state *s);
/* Is it past the rename but without a verdict (swapping, rebooting, probation, rolling-back)? */
bool node_update_is_swapped(const struct node_update *u);

/* Remember an order's outcome; the same id replaces it, the oldest of 64 is dropped. */
void state_order_add(struct node_state *s, const struct node_order *o);
const struct node_order *state_order(const struct node_state *s, const char *id); /* NULL: not done yet */

/* Copied. The oldest of 32 is dropped: the log must say so. Returns 1 if that happened, 0, -ENOMEM. */
NODISCARD int state_result_add(struct node_state *s, const struct node_result *result);
/* Drop every result first carried by a report up to `sequence`. Returns how many. */
size_t state_results_acknowledge(struct node_state *s, uint64_t sequence);

/* The bookkeeping of one component and version ("" or NULL: absent); NULL: none. */
struct node_retry *state_retry(struct node_state *s, const char *component, const char *version);
/* The same, made if missing; the entry with the oldest not_before makes room. */
struct node_retry *state_retry_add(struct node_state *s, const char *component, const char *version);
/* Forget it; version NULL: every version of the component. */
void state_retry_clear(struct node_state *s, const char *component, const char *version);

/* What applies to the component at `now`: its own deferral, else the one for every component; NULL: none. */
const struct node_deferral *state_deferral(const struct node_state *s, const char *component, int64_t now);
/* The same component's earlier one is replaced; what has ended, then the oldest, makes room. */
void state_defer(struct node_state *s, const struct node_deferral *d, int64_t now);
/* Forget it; component "": every one. Returns how many. */
size_t state_undefer(struct node_state *s, const char *component);

/* Copy text into a fixed array, cut to fit at a whole UTF-8 character; NULL gives "". */
void state_set(char *field, size_t size, const char *text);
#define STATE_SET(field, text) state_set((field), sizeof(field), (text))

#endif
