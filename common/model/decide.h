/*
 * decide - what should this component be, now, and if nothing, why not.
 *
 * A pure function of facts, documents, local policy and time (DESIGN.md section
 * 6): no I/O, no clock, no verification, no allocation that outlives the call.
 * Agent, controller, `why`, simulator and tests call this one function.
 * Approvals, windows and shares arrive as facts.
 */
#ifndef SELFRIGHT_MODEL_DECIDE_H
#define SELFRIGHT_MODEL_DECIDE_H

#include "model/labels.h"
#include "model/release.h"
#include "model/rollout.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum denial_cause { DENIED_UNFIT, DENIED_FORCED, DENIED_UNDONE };
struct denial {
	const char *version;
	enum denial_cause cause;
	uint64_t seq; /* of the rollout that brought it; for DENIED_UNDONE a higher one lifts it */
};

/* What this node remembers of rollouts it acted on, per component. */
struct taken {
	const char *rollout, *stage;
	uint64_t seq;
	const char *version, *previous; /* what it took, and what it had before ("" = absent) */
};

struct component_facts {
	const char *component;
	const char *version; /* installed; NULL: absent */
	const struct denial *denials;
	size_t denial_count;
	const char *const *good; /* versions that were good in this node's history */
	size_t good_count;
	const struct taken *taken; /* newest last */
	size_t taken_count;
	const char *const *joined; /* rollouts whose membership this node has acted on: it sticks */
	size_t joined_count;
	unsigned swaps_today; /* by rollouts */
	const char *retry_version; /* what failed before its swap ... */
	int64_t retry_at; /* ... and when it may be tried again; 0: now */
	const struct policy *policy; /* NULL: none known */
};

/* One rollout as far as it concerns this node; facts beside the document are the caller's. */
struct rollout_facts {
	const struct rollout *rollout;
	uint64_t share; /* share_of_digest(rollout id, node id) */
	/* By stage index: every approval the policies ask for is there, or this node is exempt. */
	bool approved[ROLLOUT_STAGES_MAX];
	/* The same of a downgrade, where the component would go up by it: what a regular one needs is not all there. */
	bool up_unapproved[ROLLOUT_STAGES_MAX];
	bool in_window; /* the window of the rollout, judged in the node's zone; true if it has none */
	bool in_blackout; /* the same for its blackouts */
	int64_t window_opens; /* when neither stops it, 0: unknown */
	bool spread_passed, notice_passed;
	bool deferred; /* somebody at the node asked for later, and deferral_end() has not come */
	int64_t deferred_until; /* then; 0: unknown */
	bool lease_missing; /* the disruption limit applies, a grant was asked for and is not there */
};

struct local_facts {
	const char *node;
	const struct labels *labels;
	int64_t now;
	bool fresh; /* trusted metadata unexpired */
	bool stuck;
	const char *busy; /* component of the update between stopping and good; NULL: none */
	bool inhibited; /* a workload holds an inhibitor */
	bool held; /* local hold */
	const char *hold_reason;
	int64_t held_until; /* 0: unknown */
	unsigned max_swaps_per_day; /* 6; 0: no limit */
};

enum decision_kind {
	DECIDE_STAY, /* nothing to do */
	DECIDE_TARGET, /* go to `version` */
	DECIDE_WAIT, /* wants `version`, waits for `reason` */
};

/* clang-format off */
/* X(id, "name", "sentence", "what would change it") */
#define REASONS(X)                                                                                                       \
	X(NONE, "none", "nothing to wait for", "nothing")                                                                \
	X(UP_TO_DATE, "up-to-date", "the newest version open to this node is installed", "a newer release opened to this node")                   \
	X(NO_ROLLOUT, "no-rollout", "no rollout selects this node for this component", "a rollout whose stage selects it")                        \
	X(STAGE_CLOSED, "stage-closed", "this node's stage is not open yet", "the controller opens the stage")            \
	X(NOT_APPROVED, "not-approved", "an approval the policy asks for is missing", "the approver signs")               \
	X(PAUSED, "paused", "the rollout is paused", "the fleet team resumes it")                                        \
	X(HALTED, "halted", "the rollout was halted or cancelled", "a newer rollout")                                               \
	X(FROZEN, "frozen", "a freeze covers this node", "the freeze ends or is lifted")                                 \
	X(DENIED, "denied", "this node will not take this version again", "selfright node retry by the fleet team, or selfright-agent rollback --to it") \
	X(LOWER, "lower", "the release is lower than what is installed", "a downgrade rollout")                          \
	X(FLOOR, "floor", "the version is revoked or below the security floor", "a newer release")                        \
	X(SUPPORT_ROLLBACK, "support-rollback", "support sent this component back and keeps it there", "support withdraws the order")             \
	X(SUPPORT_PIN, "support-pin", "support pinned this component", "support withdraws the pin")                       \
	X(SUPPORT_HOLD, "support-hold", "support holds this node", "the hold ends or is withdrawn")                       \
	X(ORDER_REFUSED, "order-refused", "support ordered a version that is not permitted here", "another order")        \
	X(LOCAL_HOLD, "local-hold", "somebody holds updates on this node", "selfright-agent hold --release")              \
	X(INHIBITED, "inhibited", "a workload on this node holds an inhibitor", "the workload releases it")               \
	X(STALE, "stale", "the trusted metadata has expired", "a road to the metadata")                                  \
	X(BUSY, "busy", "another component is between its swap and its verdict", "its verdict")                           \
	X(STUCK, "stuck", "a rollback failed here", "verify --repair, or an order from support")                          \
	X(WINDOW, "window", "outside the window", "the window opens")                                                    \
	X(SPREAD, "spread", "the start is spread over the fleet", "this node's turn")                                    \
	X(NOTICE, "notice", "the notice period runs", "its end")                                                         \
	X(DEFERRED, "deferred", "the customer deferred it", "the deferral or the deadline ends")                          \
	X(DAILY_LIMIT, "daily-limit", "too many swaps by rollouts today", "tomorrow")                                    \
	X(LEASE, "lease", "too many nodes of the group are down", "a grant from the controller")                         \
	X(RETRY, "retry", "the last attempt failed; waiting before the next", "the backoff ends")                         \
	X(TOGETHER, "together", "what is swapped together with it may not go yet", "the other component may go; see why it stays")    \
	X(DEADLINE, "deadline", "the rollout's deadline has passed", "a newer rollout")
/* clang-format on */

enum reason {
#define REASON_ENUM_(id, name, sentence, change) REASON_##id,
	REASONS(REASON_ENUM_)
#undef REASON_ENUM_
		REASON_COUNT,
};
const char *reason_name(enum reason r);
const char *reason_sentence(enum reason r);
const char *reason_change(enum reason r);
/* What stands before a detail that is nothing but somebody's own words, as "frozen: "; "" for reasons whose detail says it. */
const char *reason_lead(const char *name);

enum cause { CAUSE_NONE, CAUSE_ROLLOUT, CAUSE_ORDER_ROLLBACK, CAUSE_ORDER_PIN, CAUSE_UNDO };

/* Strings are borrowed from the arguments. */
struct decision {
	enum decision_kind kind;
	enum cause cause;
	const char *version; /* target; "" = absent */
	const struct rollout *rollout; /* CAUSE_ROLLOUT and CAUSE_UNDO */
	const struct stage *stage;
	const struct release_ref *release; /* CAUSE_ROLLOUT */
	const struct order_rollback *order;
	const struct order_pin *pin;
	enum reason reason; /* DECIDE_WAIT, and why it stays for DECIDE_STAY */
	int64_t until; /* when the reason may end, 0: unknown */
	bool deny_from; /* the order's `from` is to be denied (DENIED_FORCED) in any case */
	bool order_refused; /* `order` or `pin` names what is not permitted here: report it (RESULT_ORDER_REFUSED) */
	bool may_stage; /* DECIDE_WAIT: download ahead is fine (window, notice, lease, busy ...) */
};

/*
 * When a deferral that was asked for until `until` ends for this rollout: a day before its
 * deadline at the latest, so that there is a day, and with most windows an opening, left to
 * take it. After the deadline nothing is taken any more (REASON_DEADLINE).
 */
enum { DEFERRAL_MARGIN_S = 24 * 3600 };
int64_t deferral_end(const struct rollout *r, int64_t until);

/* `rollouts` in any order; `orders` NULL: none; `index` for its freezes. */
struct decision decide(const struct local_facts *local, const struct component_facts *component,
		       const struct rollout_facts *rollouts, size_t rollout_count,
		       const struct rollout_index *index, const struct node_orders *orders);

/*
 * All that a rollout swaps together or none of it: `d`, which leads to one of its releases, as it stands
 * once `other` was decided about another one of its components, `ref`, which runs `version` (NULL: absent) here.
 * What was no target stays as it is.
 */
void decide_together(struct decision *d, const struct decision *other, const struct release_ref *ref,
		     const char *version);

/* Does a freeze of the index cover this node and component now? Returns it or NULL. */
const struct freeze *freeze_covers(const struct rollout_index *index, const struct local_facts *local,
				   const char *component);

#endif
