/* What sim_node.c and sim_control.c share of a fleet in memory (sim.h). */
#ifndef SELFRIGHT_TESTS_FLEET_SIM_INTERNAL_H
#define SELFRIGHT_TESTS_FLEET_SIM_INTERNAL_H

#include "tests/fleet-sim/sim.h"

struct zone;

/* One document as it was published, for as long as anybody may still go by it. */
struct sim_document {
	struct rollout rollout;
	struct opening opening;
	const struct sim_rollout *of;
};

struct sim_publication {
	struct sim_document **documents; /* in force; owned by sim.documents */
	size_t count;
	const struct policy *policy;
};

struct sim_event {
	int64_t at;
	uint64_t serial;
	size_t node;
};

/* What a controller knew of one rollout. */
struct sim_kept {
	enum rollout_state state;
	int64_t state_at;
	struct schedule_stage stages[PLAN_STAGES_MAX];
	struct sim_member *members;
};

struct sim_saved {
	struct sim_kept *rollouts;
	size_t rollout_count, node_count;
};

/* What metric gates of the stage that is open last have seen. */
struct sim_gates {
	struct gate_facts facts[GATES_MAX];
	struct gate_look looks[GATES_MAX][GATE_LOOKS_KEPT];
	size_t count;
};

struct sim {
	struct sim_options options;
	struct sim_saved saved;
	int64_t now;
	bool up;
	struct zone *zones[SIM_ZONES];
	struct sim_node **nodes;
	size_t node_count, node_capacity;
	struct sim_release **releases;
	size_t release_count;
	struct sim_rollout **rollouts;
	size_t rollout_count;
	struct sim_document **documents;
	size_t document_count;
	struct sim_publication *publications;
	size_t publication_count;
	struct policy **policies;
	size_t policy_count;
	struct sim_event *heap;
	size_t heap_count, heap_capacity;
	uint64_t serial;
	uint64_t seq, decisions;
	bool dirty; /* something was heard since the controller looked */
	bool publish_due;
	int64_t looked_at, look_at; /* 0: time alone changes nothing */
	struct sim_gates gates;
};

/* --- sim.c --- */
NODISCARD int sim_wake_at(struct sim *s, size_t node, int64_t at);
size_t sim_index(const struct sim *s, const struct sim_node *n);
const char *sim_zone_name(size_t i);
const struct zone *sim_zone(const struct sim *s, const char *name); /* NULL: none of its zones */

/* --- sim_node.c --- */
NODISCARD int sim_node_wake(struct sim *s, size_t i);
void sim_node_tell(struct sim *s, size_t i);
void sim_node_start(struct sim *s, size_t i); /* its link's first moment */

/* How long after its update a release that leaks breaks this node. */
double sim_leak_lasts_s(const struct sim *s, const struct sim_node *n, const struct sim_release *r);

/* --- sim_metric.c --- */
/* Make the looks that are due, and tell those that were made. */
NODISCARD int sim_look_at_metrics(struct sim *s, struct sim_rollout *r, struct sim_gates *ret);

/* --- sim_control.c --- */
int64_t sim_control_due(const struct sim *s); /* INT64_MAX: nothing to look at */
NODISCARD int sim_control(struct sim *s);
struct sim_rollout *sim_rollout_named(struct sim *s, const char *id);
void sim_control_done(struct sim *s);

#endif
