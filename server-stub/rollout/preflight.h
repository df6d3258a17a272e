/*
 * preflight - may this release go where this plan sends it? Judged before anything starts.
 *
 * A pure function of documents, rules and what nodes last reported: no I/O, no clock. The same judgement
 * answers `selfright check`, and refuses `rollout start`:
 *
 *   preflight_begin -> preflight_node for each node concerned -> preflight_end -> preflight_write
 *
 * No data is not good news: what a node has not said is a warning, never a pass. What is written is bounded,
 * whatever the fleet says; the counts are whole.
 */
#ifndef SELFRIGHT_ROLLOUT_PREFLIGHT_H
#define SELFRIGHT_ROLLOUT_PREFLIGHT_H

#include "base/attr.h"
#include "base/version.h"
#include "model/release.h"
#include "model/report.h"
#include "model/rollout.h"
#include "server-stub/rollout/plan.h"
#include "server-stub/rollout/rules.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_node;

/* X(ID, "name", "what holds when it passes"). No name is one of a plan's `overrides`: both are given as --override. */
#define PREFLIGHT_ITEMS(X)                                                                                        \
	X(SIGNATURES, "signatures", "it is signed, and whoever has to approve it can")                            \
	X(VERSION, "version", "it is ahead of what runs")                                                         \
	X(FIELDS, "fields", "it says what it has to say")                                                         \
	X(DURATION, "duration", "it expects to be quick enough")                                                  \
	X(RISK, "risk", "the plan is careful enough for its risk")                                                \
	X(REQUIREMENTS, "requirements", "nodes have what it requires")                                            \
	X(RESULTS, "results", "the commands outside say that it is good")

enum preflight_item {
#define PREFLIGHT_ENUM_(id, name, sentence) PREFLIGHT_##id,
	PREFLIGHT_ITEMS(PREFLIGHT_ENUM_)
#undef PREFLIGHT_ENUM_
		PREFLIGHT_ITEM_COUNT,
};
const char *preflight_item_name(enum preflight_item item);
int preflight_item_parse(const char *name); /* -1: none */

enum preflight_outcome { PREFLIGHT_PASS, PREFLIGHT_WARN, PREFLIGHT_FAIL };
const char *preflight_outcome_name(enum preflight_outcome o);

enum {
	PREFLIGHT_FINDINGS_MAX = 64, /* of all items together; further ones are counted */
	PREFLIGHT_TEXT_MAX = 512,
	PREFLIGHT_WHATS_MAX = 64, /* different things that are missing somewhere */
	PREFLIGHT_NODES_MAX = 50, /* nodes named with what they miss */
	PREFLIGHT_NODE_MISSES_MAX = 8, /* of one node */
	PREFLIGHT_VERSIONS_MAX = 64, /* different versions that run */
};

/* A rule of the policy that applies to this kind of rollout. */
struct preflight_approver {
	const char *name;
	unsigned threshold; /* 0: nobody is named so, nobody could approve */
};

/* The newest result of a command for exactly this release. */
struct preflight_result {
	const char *name;
	bool passed;
	int64_t at;
};

struct preflight_subject {
	const char *component, *version;
	const struct release *release;
	bool says_risk; /* the document does, not the reader's default */
	const struct policy *policy; /* NULL: none is published */
	const struct rules *rules;
	const struct plan *plan; /* NULL: none yet; then nothing is said about stages */
	enum rollout_kind kind;
	const char *role; /* that signed it */
	int64_t role_expires;
	const struct preflight_approver *approvers;
	size_t approver_count;
	const struct preflight_result *results;
	size_t result_count;
	const char *plan_file; /* for "plan.yaml:9: "; NULL: the plan was no file */
	int64_t now;
};

struct preflight_finding {
	enum preflight_item item;
	enum preflight_outcome outcome;
	char text[PREFLIGHT_TEXT_MAX];
};

struct preflight_version {
	char version[VERSION_MAX + 1];
	uint64_t nodes;
};

struct preflight_what {
	char *text;
	uint64_t nodes;
	bool unknown; /* nodes have not said whether they have it */
};

struct preflight_miss {
	char node[ID_MAX + 1];
	char *texts[PREFLIGHT_NODE_MISSES_MAX];
	size_t count, more;
};

struct preflight {
	struct preflight_subject subject;
	struct string_list variables; /* the release uses or requires */
	struct preflight_finding findings[PREFLIGHT_FINDINGS_MAX];
	size_t finding_count;
	uint64_t findings_dropped;
	enum preflight_outcome outcomes[PREFLIGHT_ITEM_COUNT];
	struct preflight_version versions[PREFLIGHT_VERSIONS_MAX];
	size_t version_count;
	uint64_t nodes, silent /* never heard of */, running, above, equal, below;
	struct preflight_what whats[PREFLIGHT_WHATS_MAX];
	size_t what_count;
	uint64_t whats_dropped, missing_nodes;
	struct preflight_miss misses[PREFLIGHT_NODES_MAX];
	size_t miss_count;
};

/* `subject` is copied, what it points to borrowed until preflight_done. -ENOMEM, -ERR_FIELD_VALUE. */
NODISCARD int preflight_begin(struct preflight *p, const struct preflight_subject *subject);
/* A node that the plan selects, or without a plan one that runs the component. NULL: it has never reported. -ENOMEM. */
NODISCARD int preflight_node(struct preflight *p, const char *node, const struct report *report);
void preflight_end(struct preflight *p);
void preflight_done(struct preflight *p);

/* What whoever collected the facts found by himself. */
void preflight_find(struct preflight *p, enum preflight_item item, enum preflight_outcome outcome, const char *fmt,
		    ...) PRINTF_LIKE(4, 5);

/* The worst of all items. */
enum preflight_outcome preflight_verdict(const struct preflight *p);
/* The version most nodes run, NULL: none; *ret_nodes how many. Borrowed. */
const char *preflight_running(const struct preflight *p, uint64_t *ret_nodes);

/* Items with their findings, what runs, and who misses what. */
void preflight_write(const struct preflight *p, struct json_node *object);

#endif
