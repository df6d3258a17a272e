/*
 * sim - a fleet that exists only in memory: the real decide() on each node, the real
 * scheduler and documents on the fleet side, and a clock that jumps from event to event.
 *
 *   sim_open -> sim_release, sim_start -> loop { sim_run until a time; be the operator } -> sim_close
 *
 * What a node does between two decisions (how long staging takes, whether a check fails, when
 * its link is down) is made up from the seed, by hashing seed, node and release: two fleets with
 * one seed meet the same luck, whatever their rollouts do. Nothing here is for production.
 */
#ifndef SELFRIGHT_TESTS_FLEET_SIM_SIM_H
#define SELFRIGHT_TESTS_FLEET_SIM_SIM_H

#include "base/attr.h"
#include "base/text.h"
#include "model/decide.h"
#include "model/opening.h"
#include "model/report.h"
#include "server-stub/rollout/plan.h"
#include "server-stub/rollout/schedule.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SIM_KEPT = 16, SIM_ROLLOUTS_MAX = 128, SIM_ZONES = 6, SIM_SITES = 12, SIM_WHY = 256 };

/* What is wrong with a release, if anything is. */
enum sim_fault { SIM_FINE, SIM_CRASHING, SIM_LEAKING, SIM_ONE_SITE, SIM_AT_NIGHT, SIM_FAULT_COUNT };
const char *sim_fault_name(enum sim_fault f);

struct sim_release {
	char version[24];
	enum sim_fault fault;
	unsigned site; /* SIM_ONE_SITE: there */
	unsigned watch_s, probation_s;
	size_t reached; /* nodes that ran it */
	size_t hit; /* and that it broke */
	double broken_h; /* hours of broken nodes, all together */
};

/* What ran there, and from when on. */
struct sim_life {
	const struct sim_release *runs;
	int64_t from;
};

struct sim_node {
	char id[ID_MAX + 1];
	struct labels labels;
	unsigned site, zone;
	int64_t added_at;
	/* what is true there */
	const struct sim_release *runs; /* NULL: absent */
	bool ran[SIM_ROLLOUTS_MAX]; /* by release */
	struct sim_life lives[SIM_KEPT];
	size_t life_count;
	int64_t broken_from; /* 0: it works */
	enum update_state state; /* IDLE, STAGING, PROBATION */
	int64_t state_until, fails_at; /* of probation and, after it, of the watch */
	int64_t watched_until;
	const struct sim_release *target, *before;
	const char *target_rollout, *target_stage; /* NULL: undo */
	uint64_t target_seq;
	int64_t flips_at; /* of the link */
	bool connected, dead;
	/* what it remembers */
	struct denial denials[SIM_KEPT];
	size_t denial_count;
	const char *good[SIM_KEPT], *joined[SIM_KEPT];
	size_t good_count, joined_count;
	struct taken taken[SIM_KEPT];
	size_t taken_count;
	int64_t retry_at;
	const char *retry_version;
	unsigned attempts;
	size_t publication; /* that it knows, plus one; 0: none */
	int64_t fresh_until;
	enum reason why;
	/* what it has told, as the controller's database holds it */
	struct {
		const char *version, *to, *state, *why;
		int64_t at;
	} heard;
	struct {
		const char *rollout;
		unsigned number;
	} outbox[SIM_KEPT]; /* results that wait for a link */
	size_t outbox_count;
	int64_t skipped_at; /* a person does not wait for it; 0: nobody said so */
	int64_t wakes_at;
	uint64_t wake_serial;
};

struct sim_member {
	uint64_t share;
	unsigned result; /* newest of this rollout, 0: none */
	int64_t result_at;
	bool acted;
	size_t stage; /* that stuck, if acted */
};

/* A look of a metric gate. */
struct sim_look {
	size_t stage, gate;
	struct gate_look look;
	char text[GATE_TEXT];
};

struct sim_rollout {
	char id[ID_MAX + 1];
	uint64_t seq;
	struct sim_release *release;
	struct plan plan;
	enum rollout_state state;
	int64_t started_at, state_at;
	struct schedule_stage stages[PLAN_STAGES_MAX];
	struct string_list undo;
	struct sim_member *members; /* as many as the fleet has nodes */
	struct sim_look *looks;
	size_t look_count;
	char why[SIM_WHY]; /* the last word of the scheduler */
};

struct sim;

/* What a test looks at: called for each swap, with what the node knew, and each decision of the controller. */
struct sim_swap {
	const struct sim_node *node;
	const struct rollout *document;
	const struct stage *stage;
	const struct sim_release *release;
	bool undo;
	struct opening_state opening; /* in the node's own zone, now */
	const struct policy *policy; /* that the node knows */
	int64_t now;
};
typedef void sim_on_swap(void *user, const struct sim *s, const struct sim_swap *swap);
typedef void sim_on_step(void *user, const struct sim *s, const struct sim_rollout *r, enum schedule_action action,
			 size_t stage);

struct sim_options {
	uint64_t seed;
	size_t nodes;
	int64_t start;
	bool percentage; /* the scheduler is the plain one: time, and a share of failures */
	double percent_limit; /* that share, 0.10 */
	/* per update, in the hands of nobody */
	double release_noise; /* a check fails although the release is fine */
	double node_noise; /* disk, memory, power */
	double network_noise; /* the download fails; it is tried again */
	double dead; /* share of nodes that are silent for weeks */
	bool steady; /* links never fail */
	sim_on_swap *on_swap;
	sim_on_step *on_step;
	void *user;
};

NODISCARD int sim_open(const struct sim_options *o, struct sim **ret);
void sim_close(struct sim *s);
DEFINE_FREEP(struct sim *, sim_close)

int64_t sim_now(const struct sim *s);
size_t sim_node_count(const struct sim *s);
struct sim_node *sim_node(struct sim *s, size_t i);
NODISCARD int sim_add_node(struct sim *s, const struct sim_release *runs, struct sim_node **ret);
/* A new label, told with the next report. */
NODISCARD int sim_label(struct sim *s, struct sim_node *n, const char *name, const char *value);

/* Its link, where links do not fail by themselves (`steady`). */
NODISCARD int sim_connect(struct sim *s, struct sim_node *n, bool connected);

/* Its version is 1.<count>.0. Every node starts with the first one. */
NODISCARD int sim_release(struct sim *s, enum sim_fault fault, unsigned site, struct sim_release **ret);

/* `plan` is YAML without component and version. The last one started stands first when nodes choose. */
NODISCARD int sim_start(struct sim *s, struct sim_release *release, const char *plan, struct sim_rollout **ret);
size_t sim_rollout_count(const struct sim *s);
struct sim_rollout *sim_rollout(struct sim *s, size_t i);
/* A person decides. */
NODISCARD int sim_set_state(struct sim *s, struct sim_rollout *r, enum rollout_state state);
NODISCARD int sim_undo(struct sim *s, struct sim_rollout *r); /* every stage that was open */
void sim_skip(struct sim *s, struct sim_node *n, bool skipped);
/* Nobody below this version, and nobody to one of these (both may be NULL). */
NODISCARD int sim_policy(struct sim *s, const char *floor, const char *revoked);
/* Away, nothing is heard and nothing is published; nodes go on, and tell when it is back. */
void sim_controller(struct sim *s, bool up);

/*
 * Its database and its published folder; and what `selfright repo recover` makes of it: what was decided and reported
 * since is forgotten, what is published is read, and whatever runs is paused. One backup is kept.
 */
NODISCARD int sim_backup(struct sim *s);
NODISCARD int sim_restore(struct sim *s);

/* Until `until`; afterwards sim_now() is that. */
NODISCARD int sim_run(struct sim *s, int64_t until);

/* What the scheduler was asked last for this rollout: its members are the caller's to free. */
NODISCARD int sim_members(struct sim *s, const struct sim_rollout *r, struct schedule_member **ret,
			  size_t *ret_count);
uint64_t sim_decisions(const struct sim *s); /* calls of decide() so far */
uint64_t sim_publications(const struct sim *s);
/* A number below 1 from the seed and these; the same for the same. */
double sim_luck(const struct sim *s, const char *what, const char *a, const char *b);

#endif
