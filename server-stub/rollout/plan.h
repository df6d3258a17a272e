/*
 * plan - how a release reaches the fleet, as people write it (YAML) and as it
 * travels to the controller (JSON, which is read by the same code):
 *
 *   component: web
 *   version: 1.1.0
 *   with: {waf: 2.0.0}                # swapped in the same rename, or nothing is
 *   kind: regular                     # patch, downgrade
 *   profile: weekly                   # train, patch, downgrade: stages and kind where the plan says none
 *   stages:
 *     - name: canary
 *       nodes: [n1]                   # or labels: {site: oslo}, share: 25% (cumulative), or all: true
 *       soak: 12h                     # since the last node became good
 *     - name: few
 *       count: 8                      # chosen when it starts, the same again for the same fleet
 *       prefer: {traffic: low}        # these first; with share as well
 *     - name: rest
 *       all: true
 *       by_zone: true                   # a batch for each zone, east to west, each in the window there
 *       first_zone: America/New_York    # the first of them (the most eastern one)
 *   gates:
 *     max_failures: 0                 # nodes failing by the release that are borne; the rollout is halted above
 *     max_failure_share: 5%           # the same of the nodes of each stage; alone, it replaces the number
 *     max_node_failures: 10           # nodes failing by themselves or their network; it is paused above
 *     max_node_failure_share: 20%
 *     max_silent: 0                   # nodes without a report for silent_after that are left behind, ...
 *     max_silent_share: 5%            # ... whichever is more; for others it waits,
 *     silent_deadline: 24h            # and pauses when it has waited so long
 *     silent_after: 30m
 *     on_failure: halt                # or pause
 *     on_node_failure: pause          # or halt
 *     undo: ask                       # or failed-stage: what the release broke returns by itself
 *     require: [...]                  # gate.h
 *   min_age: 24h                      # nodes added later than this count for nothing but failures
 *   window: ...                       # and the like, that nodes obey by themselves: limits.h
 *
 * Every complaint names file and line, and what was expected.
 */
#ifndef SELFRIGHT_ROLLOUT_PLAN_H
#define SELFRIGHT_ROLLOUT_PLAN_H

#include "base/attr.h"
#include "model/rollout.h"
#include "server-stub/rollout/gate.h"
#include "server-stub/rollout/limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conf;
struct conf_error;
struct json;
struct json_node;

/* PLAN_WITH_MAX: agents swap no more in one rename. */
enum { PLAN_STAGES_MAX = 32, PLAN_NODES_MAX = 10000, PLAN_WITH_MAX = 15 };

enum plan_on_failure { PLAN_HALT, PLAN_PAUSE };
/* After a halt: a person is asked, or the stages whose nodes failed by the release return at once. */
enum plan_undo { PLAN_UNDO_ASK, PLAN_UNDO_FAILED_STAGE };

struct plan_stage {
	char *name;
	struct string_list nodes; /* by_nodes */
	struct labels labels; /* else these ... */
	uint64_t share; /* ... and this share of SHARE_ALL */
	bool by_nodes;
	/* Until plan_choose() makes nodes of it: so many of those with the labels, or the share of them. */
	bool by_choice;
	uint64_t count; /* 0: the share */
	struct labels prefer; /* those with these first */
	/* It opens only while the plan's window is open in this zone; NULL: at any time. */
	char *zone;
	/* Until plan_split_zones() makes a stage for each zone of it. */
	bool by_zone;
	char *first_zone; /* NULL: the most eastern one */
	uint64_t soak_s;
	unsigned line; /* where it stands in what was read, for complaints; not written */
};

struct plan_with {
	char *component, *version;
};

struct plan {
	char *component, *version;
	struct plan_with *with; /* sorted by component */
	size_t with_count;
	enum rollout_kind kind;
	struct plan_stage *stages;
	size_t stage_count;
	unsigned stages_line; /* of the list, or of the profile; not written */
	uint64_t max_failures; /* nodes failing by the release that are borne */
	uint64_t max_node_failures; /* nodes failing by themselves or their network that are borne */
	uint64_t max_failure_share, max_node_failure_share; /* of the nodes of each stage; 0: not limited so */
	uint64_t silent_after_s;
	uint64_t max_silent, max_silent_share; /* nodes of a stage left behind; the share: 0 none */
	uint64_t silent_deadline_s; /* 0: none */
	enum plan_on_failure on_failure, on_node_failure;
	enum plan_undo undo;
	struct gate *gates;
	size_t gate_count;
	uint64_t min_age_s;
	struct plan_limits limits;
};

/* From a parsed file or text; `ret` is the caller's (plan_done) only after 0. -ERR_CONFIG, -ENOMEM. */
NODISCARD int plan_read(const struct conf *root, struct plan *ret, struct conf_error *e);

/* From JSON text (which is YAML too). */
NODISCARD int plan_parse(const void *text, size_t len, const char *file, struct plan *ret, struct conf_error *e);
NODISCARD int plan_load(const char *path, struct plan *ret, struct conf_error *e);
void plan_done(struct plan *p);

/* plan_read(write(p)) equals p. */
void plan_write(const struct plan *p, struct json_node *object);

/* SHA-256 based place of a node in a rollout, 0 .. SHARE_ALL - 1 (DESIGN.md section 12 "Share"). */
NODISCARD int plan_share(const char *rollout, const char *node, uint64_t *ret);

struct plan_candidate {
	const char *node;
	const struct labels *labels;
	bool able; /* heard of, old enough, not in quarantine: it can prove something */
	uint64_t share; /* plan_share() */
};
/*
 * Stages by count, or by share with a preference, become stages by nodes: of those with the labels that no earlier
 * stage selects, the preferred ones first, then those that can prove something, then by share. The same fleet gives the
 * same choice. -ENOENT: a stage, *ret_stage, finds nobody; -ERR_TOO_LARGE: more than a document may name.
 */
NODISCARD int plan_choose(struct plan *p, const struct plan_candidate *list, size_t count, size_t *ret_stage);

struct plan_zone {
	const char *name; /* as in the label `zone` */
	int offset; /* seconds east of UTC */
};
/*
 * Each stage `by_zone` becomes one for each zone of the list that a candidate has whom no earlier stage selects, from
 * the east to the west beginning with its first zone, and after them itself: for nodes of no zone, of one that is not
 * known, and those that appear later. -ENOENT: the first zone is none of them; -ERR_TOO_LARGE: more stages than a
 * plan may have; *ret_stage says of which.
 */
NODISCARD int plan_split_zones(struct plan *p, const struct plan_candidate *list, size_t count,
			       const struct plan_zone *zones, size_t zone_count, size_t *ret_stage);

/* Does the stage select the node? */
bool plan_stage_selects(const struct plan_stage *s, const char *node, const struct labels *labels, uint64_t share);

/* Does it bring a release of this component, as the main one or with it? */
bool plan_concerns(const struct plan *p, const char *component);

/* Does some stage select every node there is and ever will be? */
bool plan_covers_all(const struct plan *p);

#endif
