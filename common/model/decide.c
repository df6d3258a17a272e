#include "model/decide.h"

#include "base/attr.h"
#include "base/version.h"
#include "model/approval.h"

#include <string.h>

struct reason_row {
	const char *name, *sentence, *change;
};

static const struct reason_row reason_rows[] = {
#define REASON_ROW_(id, name, sentence, change) [REASON_##id] = { name, sentence, change },
	REASONS(REASON_ROW_)
#undef REASON_ROW_
};
_Static_assert(ARRAY_LEN(reason_rows) == REASON_COUNT, "every reason has a row");

const char *reason_name(enum reason r)
{
	return (unsigned) r < REASON_COUNT ? reason_rows[r].name : "unknown";
}

const char *reason_sentence(enum reason r)
{
	return (unsigned) r < REASON_COUNT ? reason_rows[r].sentence : "unknown";
}

const char *reason_change(enum reason r)
{
	return (unsigned) r < REASON_COUNT ? reason_rows[r].change : "unknown";
}

const char *reason_lead(const char *name)
{
	return str_eq(name, reason_name(REASON_FROZEN))	     ? "frozen: "
	       : str_eq(name, reason_name(REASON_INHIBITED)) ? "inhibited: "
							     : "";
}

/* --- what the rules below look at --- */

struct question {
	const struct local_facts *local;
	const struct component_facts *component;
	const struct rollout_index *index;
	const struct node_orders *orders;
	const char *forced; /* what a listed support rollback denies, or NULL */
};

/* One road to another version. */
struct move {
	unsigned kind; /* MOVE_* */
	const char *version;
	const struct rollout_facts *facts; /* NULL: an order */
	const struct stage *stage; /* of a rollout; NULL: another move */
};

/* The rows of "what may stop what" (DESIGN.md section 6), as bits so that a rule lists the moves it stops. */
enum {
	MOVE_ORDER = 1 << 0, /* support rollback, pin */
	MOVE_UNDO = 1 << 1,
	MOVE_DOWNGRADE = 1 << 2,
	MOVE_PATCH = 1 << 3,
	MOVE_REGULAR = 1 << 4,

	SCHEDULED = MOVE_PATCH | MOVE_REGULAR, /* a patch may override these */
	ROLLOUTS = SCHEDULED | MOVE_DOWNGRADE,
	BY_THE_FLEET = ROLLOUTS | MOVE_UNDO,
	ALL_MOVES = BY_THE_FLEET | MOVE_ORDER,
};

static bool is_installed(const struct question *q, const char *version)
{
	return q->component->version && strcmp(q->component->version, version) == 0;
}

static bool was_good(const struct question *q, const char *version)
{
	for (size_t i = 0; i < q->component->good_count; i++)
		if (strcmp(q->component->good[i], version) == 0)
			return true;
	return false;
}

/* `seq` of the rollout that names the version, 0 for orders and undo: only a later rollout lifts an undone one. */
static bool is_denied(const struct question *q, const char *version, uint64_t seq)
{
	if (q->forced && strcmp(q->forced, version) == 0)
		return true;
	for (size_t i = 0; i < q->component->denial_count; i++) {
		const struct denial *d = &q->component->denials[i];

		if (strcmp(d->version, version) == 0 && !(d->cause == DENIED_UNDONE && seq > d->seq))
			return true;
	}
	return false;
}

/* --- what may stop what --- */

static bool covers(const struct string_list *list, const char *name)
{
	return list->count == 0 || string_list_has(list, name);
}

const struct freeze *freeze_covers(const struct rollout_index *index, const struct local_facts *local,
				   const char *component)
{
	for (size_t i = 0; index && i < index->freeze_count; i++) {
		const struct freeze *f = &index->freezes[i];

		if ((f->until == 0 || f->until > local->now) && covers(&f->components, component) &&
		    covers(&f->nodes, local->node) && labels_match(&f->labels, local->labels))
			return f;
	}
	return NULL;
}

static bool stuck_stops(const struct question *q, const struct move *m, int64_t *until)
{
	(void) m, (void) until;
	return q->local->stuck;
}

static bool freeze_stops(const struct question *q, const struct move *m, int64_t *until)
{
	const struct freeze *f = freeze_covers(q->index, q->local, q->component->component);

	(void) m;
	if (f)
		*until = f->until;
	return f != NULL;
}

static bool support_hold_stops(const struct question *q, const struct move *m, int64_t *until)
{
	(void) m;
	if (!q->orders || q->orders->hold.until <= q->local->now)
		return false;
	*until = q->orders->hold.until;
	return true;
}

static bool local_hold_stops(const struct question *q, const struct move *m, int64_t *until)
{
	(void) m;
	*until = q->local->held_until;
	return q->local->held;
}

static bool staleness_stops(const struct question *q, const struct move *m, int64_t *until)
{
	(void) m, (void) until;
	return !q->local->fresh;
}

/*
 * A way back may need fewer approvals than a way ahead: whoever opens rollouts must not get by without them by calling
 * a way ahead a downgrade. It is waited for rather than passed over: the rollouts behind it lead to what is left.
 */
static bool missing_approval_stops(const struct question *q, const struct move *m, int64_t *until)
{
	(void) q, (void) until;
	return m->stage && m->facts->rollout->kind == ROLLOUT_DOWNGRADE &&
	       m->facts->up_unapproved[m->stage - m->facts->rollout->stages];
}

/* A rollout that is done is how things are: its deadline was for reaching that. */
static bool deadline_stops(const struct question *q, const struct move *m, int64_t *until)
{
	const struct rollout *r = m->facts->rollout;

	(void) until;
	return r->deadline != 0 && r->deadline <= q->local->now && r->state != ROLLOUT_DONE;
}

static bool backoff_stops(const struct question *q, const struct move *m, int64_t *until)
{
	const struct component_facts *c = q->component;

	if (!c->retry_version || strcmp(c->retry_version, m->version) != 0 || c->retry_at <= q->local->now)
		return false;
	*until = c->retry_at;
	return true;
}

static bool spread_stops(const struct question *q, const struct move *m, int64_t *until)
{
	(void) q, (void) until;
	return !m->facts->spread_passed;
}

int64_t deferral_end(const struct rollout *r, int64_t until)
{
	if (r->deadline != 0 && until > r->deadline - DEFERRAL_MARGIN_S)
		return r->deadline - DEFERRAL_MARGIN_S;
	return until;
}

static bool deferral_stops(const struct question *q, const struct move *m, int64_t *until)
{
	(void) q;
	*until = m->facts->deferred_until;
	return m->facts->deferred;
}

static bool notice_stops(const struct question *q, const struct move *m, int64_t *until)
{
	(void) q, (void) until;
	return !m->facts->notice_passed;
}

static bool window_stops(const struct question *q, const struct move *m, int64_t *until)
{
	(void) q;
	*until = m->facts->window_opens;
	return !m->facts->in_window;
}

static bool blackout_stops(const struct question *q, const struct move *m, int64_t *until)
{
	(void) q;
	*until = m->facts->window_opens;
	return m->facts->in_blackout;
}

static bool daily_limit_stops(const struct question *q, const struct move *m, int64_t *until)
{
	(void) m;
	*until = (q->local->now / 86400 + 1) * 86400; /* days are counted in UTC */
	return q->local->max_swaps_per_day > 0 && q->component->swaps_today >= q->local->max_swaps_per_day;
}

static bool lease_stops(const struct question *q, const struct move *m, int64_t *until)
{
	(void) q, (void) until;
	return m->facts->lease_missing;
}

static bool inhibitor_stops(const struct question *q, const struct move *m, int64_t *until)
{
	(void) m, (void) until;
	return q->local->inhibited;
}

/* An order or an undo ends the probation of its own component; whatever else is under way is waited for. */
static bool busy_stops(const struct question *q, const struct move *m, int64_t *until)
{
	(void) until;
	return q->local->busy &&
	       ((m->kind & ROLLOUTS) != 0 || strcmp(q->local->busy, q->component->component) != 0);
}

/*
 * The table of DESIGN.md section 6, by column: which moves a rule stops. The first
 * that stops is the reason, so those under which nothing may even be downloaded
 * stand first: when the reason allows staging, so do all behind it.
 */
struct stopper {
	enum reason reason;
	unsigned moves;
	bool may_stage;
	const char *override_word; /* what a patch lists to pass; NULL: nothing helps */
	bool (*stops)(const struct question *q, const struct move *m, int64_t *until);
};

static const struct stopper stoppers[] = {
	{ REASON_STUCK, BY_THE_FLEET, false, NULL, stuck_stops },
	{ REASON_FROZEN, ROLLOUTS, false, NULL, freeze_stops },
	{ REASON_SUPPORT_HOLD, ROLLOUTS, false, NULL, support_hold_stops },
	{ REASON_LOCAL_HOLD, ROLLOUTS, false, NULL, local_hold_stops },
	{ REASON_STALE, BY_THE_FLEET, false, NULL, staleness_stops },
	{ REASON_NOT_APPROVED, MOVE_REGULAR, false, NULL, missing_approval_stops }, /* a downgrade that goes up */
	{ REASON_DEADLINE, ROLLOUTS, false, NULL, deadline_stops },
	{ REASON_RETRY, ROLLOUTS, false, NULL, backoff_stops },
	{ REASON_SPREAD, SCHEDULED, false, "spread", spread_stops }, /* downloads are to be spread too */
	{ REASON_DEFERRED, SCHEDULED, true, "deferral", deferral_stops },
	{ REASON_NOTICE, SCHEDULED, true, "notice", notice_stops },
	{ REASON_WINDOW, SCHEDULED, true, "window", window_stops },
	{ REASON_WINDOW, SCHEDULED, true, "blackout", blackout_stops },
	{ REASON_DAILY_LIMIT, MOVE_REGULAR, true, NULL, daily_limit_stops },
	{ REASON_LEASE, BY_THE_FLEET, true, NULL, lease_stops },
	{ REASON_INHIBITED, ALL_MOVES, true, NULL, inhibitor_stops },
	{ REASON_BUSY, ALL_MOVES, true, NULL, busy_stops },
};

static bool is_overridden(const struct stopper *s, const struct move *m)
{
	return s->override_word && m->kind == MOVE_PATCH &&
	       string_list_has(&m->facts->rollout->overrides, s->override_word);
}

/* The first rule that stops the move, or NULL. */
static const struct stopper *stopper_of(const struct question *q, const struct move *m, int64_t *ret_until)
{
	for (size_t i = 0; i < ARRAY_LEN(stoppers); i++) {
		const struct stopper *s = &stoppers[i];
		int64_t until = 0;

		if ((s->moves & m->kind) != 0 && !is_overridden(s, m) && s->stops(q, m, &until)) {
			*ret_until = until;
			return s;
		}
	}
	return NULL;
}

/* Go there, or wait for what stops it. */
static void decide_move(const struct question *q, const struct move *m, enum cause cause, struct decision *d)
{
	const struct stopper *s;

	d->cause = cause;
	d->version = m->version;
	d->kind = DECIDE_TARGET;
	d->reason = REASON_NONE;
	s = stopper_of(q, m, &d->until);
	if (!s)
		return;
	d->kind = DECIDE_WAIT;
	d->reason = s->reason;
	d->may_stage = s->may_stage;
}

static void decide_stay(enum reason reason, struct decision *d)
{
	d->kind = DECIDE_STAY;
	d->reason = reason;
}

/* --- orders of support --- */

/* May an order send this component there? Neither floor nor denials yield, and only what proved itself here comes back. */
static bool order_may(const struct question *q, const char *version)
{
	return (is_installed(q, version) || was_good(q, version)) &&
	       policy_permits(q->component->policy, version) && !is_denied(q, version, 0);
}

static const struct order_rollback *rollback_of(const struct question *q)
{
	for (size_t i = 0; q->orders && i < q->orders->rollback_count; i++)
		if (strcmp(q->orders->rollbacks[i].component, q->component->component) == 0)
			return &q->orders->rollbacks[i];
	return NULL;
}

static const struct order_pin *pin_of(const struct question *q)
{
	for (size_t i = 0; q->orders && i < q->orders->pin_count; i++)
		if (strcmp(q->orders->pins[i].component, q->component->component) == 0)
			return &q->orders->pins[i];
	return NULL;
}

enum order_effect {
	ORDER_NONE, /* none listed, or refused */
	ORDER_MOVES, /* decided */
	ORDER_KEEPS, /* the component stays, whatever rollouts say */
};

static enum order_effect decide_rollback(struct question *q, struct decision *d)
{
	const struct order_rollback *o = rollback_of(q);
	struct move m = { .kind = MOVE_ORDER };

	if (!o)
		return ORDER_NONE;
	q->forced = o->from;
	d->order = o;
	d->deny_from = true;
	if (!order_may(q, o->to)) {
		d->order_refused = true;
		return ORDER_NONE;
	}
	if (!is_installed(q, o->from)) {
		decide_stay(REASON_SUPPORT_ROLLBACK, d);
		d->cause = CAUSE_ORDER_ROLLBACK;
		return ORDER_KEEPS;
	}
	m.version = o->to;
	decide_move(q, &m, CAUSE_ORDER_ROLLBACK, d);
	return ORDER_MOVES;
}

/* A pin names the version itself, so where it is met nothing else is looked at. */
static enum order_effect decide_pin(const struct question *q, struct decision *d)
{
	const struct order_pin *o = pin_of(q);
	struct move m = { .kind = MOVE_ORDER };

	if (!o)
		return ORDER_NONE;
	d->pin = o;
	if (!order_may(q, o->version)) {
		d->order_refused = true;
		return ORDER_NONE;
	}
	if (is_installed(q, o->version)) {
		decide_stay(REASON_SUPPORT_PIN, d);
		d->cause = CAUSE_ORDER_PIN;
		return ORDER_MOVES;
	}
	m.version = o->version;
	decide_move(q, &m, CAUSE_ORDER_PIN, d);
	return ORDER_MOVES;
}

/* --- undo --- */

/* The record of how the installed version came here, if a rollout brought it. */
static const struct taken *taken_now(const struct component_facts *c)
{
	for (size_t i = c->taken_count; i > 0; i--)
		if (c->version && strcmp(c->taken[i - 1].version, c->version) == 0)
			return &c->taken[i - 1];
	return NULL;
}

static bool is_ended(const struct rollout *r)
{
	return r->state == ROLLOUT_HALTED || r->state == ROLLOUT_CANCELLED;
}

static const struct stage *stage_named(const struct rollout *r, const char *name)
{
	for (size_t i = 0; i < r->stage_count; i++)
		if (strcmp(r->stages[i].name, name) == 0)
			return &r->stages[i];
	return NULL;
}

/* Must the installed version be given back because its rollout was ended with undo for the stage it came by? */
static bool must_undo(const struct taken *t, const struct rollout_facts *f, const char *component)
{
	const struct rollout *r = f->rollout;
	const struct release_ref *release = rollout_release(r, component);

	return is_ended(r) && strcmp(r->id, t->rollout) == 0 && string_list_has(&r->undo, t->stage) && release &&
	       strcmp(release->version, t->version) == 0 && strcmp(t->previous, t->version) != 0;
}

/* True if decided; *ret_reason says why an undo that is due is not permitted. */
static bool decide_undo(const struct question *q, const struct rollout_facts *rollouts, size_t count,
			struct decision *d, enum reason *ret_reason)
{
	const struct taken *t = taken_now(q->component);
	struct move m = { .kind = MOVE_UNDO };

	for (size_t i = 0; t && i < count; i++) {
		if (!must_undo(t, &rollouts[i], q->component->component))
			continue;
		if (t->previous[0] && !policy_permits(q->component->policy, t->previous)) {
			*ret_reason = REASON_FLOOR;
			return false;
		}
		if (t->previous[0] && is_denied(q, t->previous, 0)) {
			*ret_reason = REASON_DENIED;
			return false;
		}
		m.version = t->previous;
		m.facts = &rollouts[i];
		d->rollout = m.facts->rollout;
		d->stage = stage_named(m.facts->rollout, t->stage);
		decide_move(q, &m, CAUSE_UNDO, d);
		return true;
	}
	return false;
}

/* --- rollouts --- */

/* A rollout as it stands to this component: in force (REASON_NONE), or why not. */
struct candidate {
	const struct rollout_facts *facts; /* NULL: none */
	const struct release_ref *release;
	const struct stage *stage;
	enum reason reason;
};

static bool has_joined(const struct question *q, const struct rollout *r)
{
	for (size_t i = 0; i < q->component->joined_count; i++)
		if (strcmp(q->component->joined[i], r->id) == 0)
			return true;
	return false;
}

static bool selects(const struct question *q, const struct rollout_facts *f, const struct stage *s)
{
	return stage_selects(s, q->local->node, q->local->labels, f->share);
}

/* Better stages first: open and approved, open, closed. */
static int stage_rank(const struct rollout_facts *f, size_t i)
{
	if (!f->rollout->stages[i].open)
		return 1;
	return f->approved[i] ? 3 : 2;
}

/* The best stage that selects the node (`all`: any), the earlier of equals; NULL: none. */
static const struct stage *best_stage(const struct question *q, const struct rollout_facts *f, bool all,
				      int *ret_rank)
{
	const struct stage *best = NULL;

	*ret_rank = 0;
	for (size_t i = 0; i < f->rollout->stage_count && i < ARRAY_LEN(f->approved); i++) {
		if (!all && !selects(q, f, &f->rollout->stages[i]))
			continue;
		if (stage_rank(f, i) > *ret_rank) {
			*ret_rank = stage_rank(f, i);
			best = &f->rollout->stages[i];
		}
	}
	return best;
}

/* Membership that was acted on sticks: labels may change under way, the node stays with the rollout. */
static const struct stage *stage_of(const struct question *q, const struct rollout_facts *f, int *ret_rank)
{
	const struct stage *s = best_stage(q, f, false, ret_rank);

	if (*ret_rank < 2 && has_joined(q, f->rollout))
		s = best_stage(q, f, true, ret_rank);
	return s;
}

/* Down only by a downgrade, to what was good here or what the policy had approved. */
static bool may_go_to(const struct question *q, const struct rollout *r, const char *version)
{
	if (!q->component->version || version_compare(version, q->component->version) >= 0)
		return true;
	return r->kind == ROLLOUT_DOWNGRADE &&
	       (was_good(q, version) || policy_asks_approval(q->component->policy, r->kind));
}

static enum reason standing(const struct question *q, const struct rollout *r, const char *version, int rank)
{
	if (is_ended(r))
		return REASON_HALTED;
	if (is_denied(q, version, r->seq))
		return REASON_DENIED;
	if (!policy_permits(q->component->policy, version))
		return REASON_FLOOR;
	if (!may_go_to(q, r, version))
		return REASON_LOWER;
	if (rank < 2)
		return REASON_STAGE_CLOSED;
	if (rank < 3)
		return REASON_NOT_APPROVED;
	return r->state == ROLLOUT_PAUSED ? REASON_PAUSED : REASON_NONE;
}

static struct candidate candidate_of(const struct question *q, const struct rollout_facts *f)
{
	struct candidate c = { .facts = f, .release = rollout_release(f->rollout, q->component->component) };
	int rank;

	if (!c.release)
		return (struct candidate){ .facts = NULL };
	c.stage = stage_of(q, f, &rank);
	if (!c.stage)
		return (struct candidate){ .facts = NULL };
	c.reason = standing(q, f->rollout, c.release->version, rank);
	return c;
}

static bool is_running_patch(const struct rollout *r)
{
	return r->kind == ROLLOUT_PATCH && r->state == ROLLOUT_RUNNING;
}

static bool is_later(const struct rollout *a, const struct rollout *b)
{
	/* seq is unique in a fleet; should it not be, the order of the list still decides nothing. */
	return a->seq != b->seq ? a->seq > b->seq : strcmp(a->id, b->id) > 0;
}

/* Does `a` go before `b`? A running patch does, then the highest seq. */
static bool goes_before(const struct rollout *a, const struct rollout *b)
{
	if (is_running_patch(a) != is_running_patch(b))
		return is_running_patch(a);
	return is_later(a, b);
}

/* The rollout to follow: of those in force the first. */
static struct candidate candidate_to_follow(const struct question *q, const struct rollout_facts *rollouts,
					    size_t count)
{
	struct candidate best = { .facts = NULL };

	for (size_t i = 0; i < count; i++) {
		struct candidate c = candidate_of(q, &rollouts[i]);

		if (c.facts && c.reason == REASON_NONE &&
		    (!best.facts || goes_before(c.facts->rollout, best.facts->rollout)))
			best = c;
	}
	return best;
}

/* Would its opening, approval or resumption change anything here? */
static bool is_wanted(const struct question *q, const struct candidate *c)
{
	bool pending =
		c->reason == REASON_STAGE_CLOSED || c->reason == REASON_NOT_APPROVED || c->reason == REASON_PAUSED;

	return !pending || !is_installed(q, c->release->version);
}

/* The latest rollout that is not in force and later than the one that is: it explains why the node stays. */
static struct candidate candidate_to_explain(const struct question *q, const struct rollout_facts *rollouts,
					     size_t count, const struct candidate *followed)
{
	struct candidate best = { .facts = NULL };

	for (size_t i = 0; i < count; i++) {
		struct candidate c = candidate_of(q, &rollouts[i]);

		if (!c.facts || c.reason == REASON_NONE || !is_wanted(q, &c))
			continue;
		if (followed->facts && !is_later(c.facts->rollout, followed->facts->rollout))
			continue;
		if (!best.facts || is_later(c.facts->rollout, best.facts->rollout))
			best = c;
	}
	return best;
}

/* Upwards even a downgrade is bound by windows and the rest: only going back is urgent. */
static unsigned move_kind(const struct question *q, const struct candidate *c)
{
	switch (c->facts->rollout->kind) {
	case ROLLOUT_PATCH:
		return MOVE_PATCH;
	case ROLLOUT_DOWNGRADE:
		if (q->component->version && version_compare(c->release->version, q->component->version) < 0)
			return MOVE_DOWNGRADE;
		return MOVE_REGULAR;
	case ROLLOUT_REGULAR:
	case ROLLOUT_KIND_COUNT:
		break;
	}
	return MOVE_REGULAR;
}

static void decide_follow(const struct question *q, const struct candidate *c, struct decision *d)
{
	struct move m = {
		.kind = move_kind(q, c), .version = c->release->version, .facts = c->facts, .stage = c->stage
	};

	d->rollout = c->facts->rollout;
	d->stage = c->stage;
	d->release = c->release;
	decide_move(q, &m, CAUSE_ROLLOUT, d);
}

/* Nobody enters `stopping` while paused; what else would stop it still says whether it may be downloaded. */
static void decide_pending(const struct question *q, const struct candidate *c, struct decision *d)
{
	decide_follow(q, c, d);
	d->may_stage = c->reason == REASON_PAUSED && (d->kind == DECIDE_TARGET || d->may_stage);
	d->kind = DECIDE_WAIT;
	d->reason = c->reason;
	d->until = 0;
}

static void decide_explain(const struct question *q, const struct candidate *c, struct decision *d)
{
	switch (c->reason) {
	case REASON_STAGE_CLOSED:
	case REASON_NOT_APPROVED:
	case REASON_PAUSED:
		decide_pending(q, c, d);
		return;
	default:
		d->rollout = c->facts->rollout;
		d->stage = c->stage;
		decide_stay(c->reason, d);
	}
}

static void decide_rollouts(const struct question *q, const struct rollout_facts *rollouts, size_t count,
			    struct decision *d)
{
	struct candidate follow = candidate_to_follow(q, rollouts, count), explain;

	if (follow.facts && !is_installed(q, follow.release->version)) {
		decide_follow(q, &follow, d);
		return;
	}
	explain = candidate_to_explain(q, rollouts, count, &follow);
	if (explain.facts) {
		decide_explain(q, &explain, d);
		return;
	}
	decide_stay(follow.facts ? REASON_UP_TO_DATE : REASON_NO_ROLLOUT, d);
	if (follow.facts) {
		d->rollout = follow.facts->rollout;
		d->stage = follow.stage;
	}
}

struct decision decide(const struct local_facts *local, const struct component_facts *component,
		       const struct rollout_facts *rollouts, size_t rollout_count,
		       const struct rollout_index *index, const struct node_orders *orders)
{
	struct question q = { .local = local, .component = component, .index = index, .orders = orders };
	struct decision d = { .kind = DECIDE_STAY };
	enum reason undo_reason = REASON_NONE;
	enum order_effect order = decide_rollback(&q, &d);

	if (order == ORDER_NONE)
		order = decide_pin(&q, &d);
	if (order == ORDER_MOVES)
		return d;
	/* Where support only keeps the component, an undo still goes on: the table does not let it stop one. */
	if (decide_undo(&q, rollouts, rollout_count, &d, &undo_reason) || order == ORDER_KEEPS)
		return d;
	decide_rollouts(&q, rollouts, rollout_count, &d);
	if (d.kind == DECIDE_STAY && d.order_refused)
		d.reason = REASON_ORDER_REFUSED;
	else if (d.kind == DECIDE_STAY && undo_reason != REASON_NONE)
		d.reason = undo_reason;
	return d;
}

void decide_together(struct decision *d, const struct decision *other, const struct release_ref *ref,
		     const char *version)
{
	bool follows = other->cause == CAUSE_ROLLOUT && other->rollout == d->rollout;

	if (d->kind != DECIDE_TARGET || d->cause != CAUSE_ROLLOUT)
		return;
	if (follows && other->kind == DECIDE_TARGET)
		return;
	/* It is there already, unless something sends it elsewhere. */
	if (version && strcmp(version, ref->version) == 0 &&
	    (other->kind != DECIDE_TARGET || other->cause == CAUSE_ROLLOUT))
		return;
	d->kind = DECIDE_WAIT;
	d->reason = REASON_TOGETHER;
	d->until = 0;
	d->may_stage = false;
	if (follows && other->kind == DECIDE_WAIT) {
		d->reason = other->reason;
		d->until = other->until;
		d->may_stage = other->may_stage;
	}
}
