/*
 * rollout - rollouts/index.json, rollouts/<id>.json, nodes/<id>.json, inventory/<id>.json
 * (DESIGN.md section 5).
 */
#ifndef SELFRIGHT_MODEL_ROLLOUT_H
#define SELFRIGHT_MODEL_ROLLOUT_H

#include "base/attr.h"
#include "base/text.h"
#include "model/labels.h"
#include "model/release.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json;
struct json_node;

enum { ROLLOUT_MAX_BYTES = 256 * 1024, INDEX_MAX_BYTES = 1024 * 1024, ORDER_MAX_BYTES = 64 * 1024 };
enum { SHARE_ALL = 10000 };
enum { ROLLOUT_FORMAT = 1, INDEX_FORMAT = 1, ORDER_FORMAT = 1, INVENTORY_FORMAT = 1 };
enum {
	ROLLOUT_STAGES_MAX = 32, /* as decide.h's approved[] */
	ROLLOUT_WITH_MAX = 16,
	ROLLOUT_NODES_MAX = 4096, /* of one stage */
	ROLLOUT_OVERRIDES_MAX = 16,
	INDEX_ENTRIES_MAX = 4096,
	INDEX_FREEZES_MAX = 256,
	ORDERS_MAX = 64, /* of each sort */
	HOLD_MAX_S = 90 * 24 * 3600,
};

enum rollout_kind { ROLLOUT_REGULAR, ROLLOUT_PATCH, ROLLOUT_DOWNGRADE, ROLLOUT_KIND_COUNT };
enum rollout_state {
	ROLLOUT_RUNNING,
	ROLLOUT_PAUSED,
	ROLLOUT_HALTED,
	ROLLOUT_DONE,
	ROLLOUT_CANCELLED,
	ROLLOUT_STATE_COUNT
};
const char *rollout_kind_name(enum rollout_kind k);
const char *rollout_state_name(enum rollout_state s);
int rollout_kind_parse(const char *name); /* -1: none */
int rollout_state_parse(const char *name); /* -1: none */

/* A release named by path and hash. */
struct release_ref {
	char *component, *version; /* version is taken from the path, which must agree */
	char *path;
	uint8_t sha256[SHA256_BYTES];
};

struct stage {
	char *name; /* an id, unique in the rollout */
	struct string_list nodes; /* ids; or */
	struct labels labels; /* labels that must match (empty: every node) */
	uint64_t share; /* cumulative, of SHARE_ALL; with labels only */
	bool by_nodes; /* `nodes` decides, else labels and share */
	bool open;
	int64_t opened_at; /* as the document's `opened` says; 0: it does not */
	struct json *approvals; /* the array as it was, may be NULL */
	struct json *bare; /* the stage, as it was, without `open` and `approvals`: what an approval signs */
};

struct rollout {
	char *id;
	uint64_t seq;
	char *component;
	struct release_ref release;
	struct release_ref *with;
	size_t with_count;
	enum rollout_kind kind;
	enum rollout_state state;
	struct string_list undo; /* stage names */
	struct stage *stages;
	size_t stage_count;
	struct json *window, *blackout; /* as they were, a text and an array; NULL if absent; see opening.h */
	uint64_t notice_s, spread_s;
	struct {
		char *label;
		uint64_t maximum;
	} disruption; /* label NULL: no limit */
	struct string_list overrides;
	int64_t deadline; /* 0: none */
};

NODISCARD int rollout_parse(const struct json *doc, struct rollout *ret, char **ret_error);
void rollout_done(struct rollout *r);
/* The release of this component, the main one or one of with[]; NULL: the rollout does not concern it. */
const struct release_ref *rollout_release(const struct rollout *r, const char *component);
NODISCARD int rollout_write(const struct rollout *r, struct json_node *object);

/* First 8 bytes, big-endian, of SHA-256(rollout id, 0x00, node id), modulo SHARE_ALL. `digest` is SHA-256 of those bytes, made by the caller. */
uint64_t share_of_digest(const uint8_t digest[static SHA256_BYTES]);

/* Does the stage select this node? `share` from share_of_digest for (rollout, node). */
bool stage_selects(const struct stage *s, const char *node, const struct labels *labels, uint64_t share);

struct index_entry {
	char *id, *path;
	uint64_t seq;
	struct string_list components;
};
struct freeze {
	struct labels labels; /* empty and no components: everything */
	struct string_list components, nodes;
	int64_t until; /* 0: until lifted */
	char *reason;
};
struct rollout_index {
	struct index_entry *entries;
	size_t entry_count;
	struct freeze *freezes;
	size_t freeze_count;
};
NODISCARD int index_parse(const struct json *doc, struct rollout_index *ret, char **ret_error);
void index_done(struct rollout_index *i);
void index_write(const struct rollout_index *i, struct json_node *object);

/* Orders to one node. */
struct order_rollback {
	char *id, *component, *from, *to, *reason, *by;
	int64_t issued; /* 0: not said */
	bool restore_data; /* "data": "restore"; the node's own configuration must say so too */
};
struct order_pin {
	char *id, *component, *version, *reason, *by;
};
struct order_once { /* retry, collect */
	char *id, *component, *set; /* component: retry; set: collect */
	int64_t issued, expires;
};
struct node_orders {
	char *node;
	struct order_rollback *rollbacks;
	size_t rollback_count;
	struct order_pin *pins;
	size_t pin_count;
	struct {
		int64_t until;
		char *reason, *by;
	} hold; /* until 0: none */
	struct order_once *retries, *collects;
	size_t retry_count, collect_count;
};
/* -ERR_DISAGREE if it is for another node. One rollback and one pin per component. */
NODISCARD int orders_parse(const struct json *doc, const char *node, struct node_orders *ret, char **ret_error);
void orders_done(struct node_orders *o);
void orders_write(const struct node_orders *o, struct json_node *object);

NODISCARD int inventory_parse(const struct json *doc, struct labels *ret, char **ret_error);
void inventory_write(const struct labels *labels, struct json_node *object);

#endif
