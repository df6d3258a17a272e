#include "tests/fleet-sim/internal.h"

#include "model/catalogue.h"
#include "zone/zone.h"

#include <stdio.h>
#include <string.h>

enum {
	TELL_EVERY_S = 6 * 3600, /* a report at least so often */
	FRESH_S = 72 * 3600,
	STAGING_MIN_S = 60,
	STAGING_MAX_S = 300,
	LOCAL_S = 5, /* from a copy that is there */
	NOTICED_S = 30, /* until checks that fail are believed */
	NODE_RETRY_S = 6 * 3600,
	NETWORK_RETRY_S = 600,
};

static void forget_oldest(void *list, size_t *count, size_t size)
{
	if (*count == SIM_KEPT) {
		memmove(list, (char *) list + size, (SIM_KEPT - 1) * size);
		*count = SIM_KEPT - 1;
	}
}

static void deny(struct sim_node *n, const char *version, enum denial_cause cause, uint64_t seq)
{
	forget_oldest(n->denials, &n->denial_count, sizeof(*n->denials));
	n->denials[n->denial_count++] = (struct denial){ version, cause, seq };
}

static void remember_good(struct sim_node *n, const char *version)
{
	for (size_t i = 0; i < n->good_count; i++)
		if (strcmp(n->good[i], version) == 0)
			return;
	forget_oldest(n->good, &n->good_count, sizeof(*n->good));
	n->good[n->good_count++] = version;
}

static void result(struct sim_node *n, const char *rollout, unsigned number)
{
	forget_oldest(n->outbox, &n->outbox_count, sizeof(*n->outbox));
	n->outbox[n->outbox_count].rollout = rollout;
	n->outbox[n->outbox_count++].number = number;
}

/* --- luck --- */

static double luck(const struct sim *s, const char *what, const struct sim_node *n, const char *version)
{
	return sim_luck(s, what, n->id, version);
}

/* How long the link stays as it is: weeks up, hours down; for dead ones the other way round. */
static int64_t link_lasts(const struct sim *s, const struct sim_node *n)
{
	char when[32];
	double u;

	snprintf(when, sizeof(when), "%lld", (long long) s->now);
	u = luck(s, "link", n, when);
	if (n->connected)
		return (int64_t) ((n->dead ? 60 : 40) * u * 86400) + 3600;
	return (int64_t) ((n->dead ? 40 * 24 : 6) * u * 3600) + 60;
}

void sim_node_start(struct sim *s, size_t i)
{
	struct sim_node *n = s->nodes[i];

	n->flips_at = s->options.steady ? INT64_MAX : s->now + link_lasts(s, n);
	n->fresh_until = s->now + FRESH_S;
}

/* The next moment at which it is between one and four o'clock there. */
static int64_t next_night(const struct sim *s, const struct sim_node *n, int64_t from)
{
	struct zone_time local;

	for (int64_t t = from; t < from + 2 * 86400; t += 900)
		if (zone_local(s->zones[n->zone], t, &local) == 0 && local.hour >= 1 && local.hour < 4)
			return t;
	return 0;
}

double sim_leak_lasts_s(const struct sim *s, const struct sim_node *n, const struct sim_release *r)
{
	return (6 + 34 * luck(s, "hit", n, r->version)) * 3600;
}

/* When this release breaks this node that took it just now; 0: never. */
static int64_t breaks_at(const struct sim *s, const struct sim_node *n, const struct sim_release *r)
{
	double u = luck(s, "hit", n, r->version);

	if (luck(s, "noise", n, r->version) < s->options.release_noise)
		return s->now + 1 + (int64_t) (u * r->probation_s * 0.8);
	switch (r->fault) {
	case SIM_CRASHING:
		return u < 0.95 ? s->now + 1 + (int64_t) (u * 60) : 0;
	case SIM_LEAKING:
		return s->now + (int64_t) sim_leak_lasts_s(s, n, r);
	case SIM_ONE_SITE:
		return n->site == r->site ? s->now + 1 + (int64_t) (u * 60) : 0;
	case SIM_AT_NIGHT:
		return u < 0.9 ? next_night(s, n, s->now + 60) : 0;
	default:
		return 0;
	}
}

/* --- what happens there --- */

static size_t release_index(const struct sim *s, const struct sim_release *r)
{
	size_t i = 0;

	while (s->releases[i] != r)
		i++;
	return i;
}

static void now_runs(struct sim *s, struct sim_node *n, const struct sim_release *r)
{
	if (n->broken_from)
		s->releases[release_index(s, n->runs)]->broken_h += (double) (s->now - n->broken_from) / 3600;
	n->broken_from = 0;
	n->fails_at = n->watched_until = 0;
	n->runs = r;
	forget_oldest(n->lives, &n->life_count, sizeof(*n->lives));
	n->lives[n->life_count++] = (struct sim_life){ r, s->now };
	if (r && !n->ran[release_index(s, r)]) {
		n->ran[release_index(s, r)] = true;
		s->releases[release_index(s, r)]->reached++;
	}
}

static void falls_back(struct sim *s, struct sim_node *n, unsigned number)
{
	deny(n, n->runs->version, DENIED_UNFIT, n->target_seq);
	result(n, n->target_rollout, number);
	now_runs(s, n, n->before);
	n->state = STATE_IDLE;
}

static void breaks(struct sim *s, struct sim_node *n)
{
	s->releases[release_index(s, n->runs)]->hit++;
	n->broken_from = n->fails_at;
	n->fails_at = 0;
}

/* Probation and watch: what fails in them is undone here, later nobody notices. */
static void pass_time(struct sim *s, struct sim_node *n)
{
	bool broke = n->fails_at && s->now >= n->fails_at;

	if (broke) {
		bool noticed = n->state == STATE_PROBATION || n->fails_at <= n->watched_until;

		breaks(s, n);
		if (noticed)
			falls_back(s, n, n->state == STATE_PROBATION ? RESULT_CHECK_FAILED : RESULT_REGRESSED);
		return;
	}
	if (n->state == STATE_PROBATION && s->now >= n->state_until) {
		remember_good(n, n->runs->version);
		result(n, n->target_rollout, RESULT_GOOD);
		n->watched_until = s->now + n->runs->watch_s;
		n->state = STATE_IDLE;
	}
}

static const struct sim_release *release_named(const struct sim *s, const char *version)
{
	for (size_t i = 0; i < s->release_count; i++)
		if (strcmp(s->releases[i]->version, version) == 0)
			return s->releases[i];
	return NULL;
}

static const struct sim_document *document_of(const struct sim_publication *p, const struct rollout *r)
{
	for (size_t i = 0; i < p->count; i++)
		if (&p->documents[i]->rollout == r)
			return p->documents[i];
	return NULL;
}

/* When this node's turn comes, counted from the opening of its stage as the document says it. */
static int64_t spread_end(const struct sim *s, const struct sim_node *n, const struct sim_document *d, size_t i)
{
	uint64_t share = d->of->members[i].share;

	(void) s;
	for (size_t k = 0; k < d->rollout.stage_count; k++) {
		const struct stage *stage = &d->rollout.stages[k];

		if (stage->open && stage_selects(stage, n->id, &n->labels, share))
			return stage->opened_at + (int64_t) (d->rollout.spread_s * share / SHARE_ALL);
	}
	return 0;
}

static struct decision node_decides(struct sim *s, size_t i, const struct sim_publication *p)
{
	static const struct rollout_index no_freezes;
	struct sim_node *n = s->nodes[i];
	struct rollout_facts facts[SIM_ROLLOUTS_MAX];
	const struct local_facts local = { .node = n->id,
					   .labels = &n->labels,
					   .now = s->now,
					   .fresh = s->now < n->fresh_until,
					   .max_swaps_per_day = 6 };
	const struct component_facts component = {
		.component = "web",
		.version = n->runs ? n->runs->version : NULL,
		.denials = n->denials,
		.denial_count = n->denial_count,
		.good = n->good,
		.good_count = n->good_count,
		.taken = n->taken,
		.taken_count = n->taken_count,
		.joined = n->joined,
		.joined_count = n->joined_count,
		.retry_version = n->retry_version,
		.retry_at = n->retry_at,
		.policy = p->policy,
	};

	for (size_t k = 0; k < p->count; k++) {
		const struct sim_document *d = p->documents[k];
		const struct opening_state opening = opening_judge(&d->opening, s->zones[n->zone], s->now);

		facts[k] = (struct rollout_facts){ .rollout = &d->rollout,
						   .share = d->of->members[i].share,
						   .in_window = opening.in_window,
						   .in_blackout = opening.in_blackout,
						   .window_opens = opening.opens,
						   .spread_passed = spread_end(s, n, d, i) <= s->now,
						   .notice_passed = true };
		for (size_t j = 0; j < d->rollout.stage_count; j++)
			facts[k].approved[j] = true;
	}
	s->decisions++;
	return decide(&local, &component, facts, p->count, &no_freezes, NULL);
}

static void observe(struct sim *s, size_t i, const struct sim_publication *p, const struct decision *d)
{
	struct sim_node *n = s->nodes[i];
	const struct sim_document *doc = document_of(p, d->rollout);
	const struct sim_swap swap = { .node = n,
				       .document = d->rollout,
				       .stage = d->stage,
				       .release = n->target,
				       .undo = d->cause == CAUSE_UNDO,
				       .opening = opening_judge(&doc->opening, s->zones[n->zone], s->now),
				       .policy = p->policy,
				       .now = s->now };

	if (s->options.on_swap)
		s->options.on_swap(s->options.user, s, &swap);
}

static void swaps(struct sim *s, struct sim_node *n)
{
	int64_t fails;

	forget_oldest(n->taken, &n->taken_count, sizeof(*n->taken));
	n->taken[n->taken_count++] = (struct taken){ .rollout = n->target_rollout,
						     .stage = n->target_stage,
						     .seq = n->target_seq,
						     .version = n->target->version,
						     .previous = n->runs ? n->runs->version : "" };
	forget_oldest(n->joined, &n->joined_count, sizeof(*n->joined));
	n->joined[n->joined_count++] = n->target_rollout;
	n->before = n->runs;
	fails = breaks_at(s, n, n->target);
	now_runs(s, n, n->target);
	n->state = STATE_PROBATION;
	n->state_until = s->now + n->target->probation_s;
	n->fails_at = fails;
	n->attempts = 0;
	n->retry_version = NULL;
}

static void returns(struct sim *s, struct sim_node *n, const struct decision *d)
{
	const struct sim_release *to = d->version[0] ? release_named(s, d->version) : NULL;

	deny(n, n->runs->version, DENIED_UNDONE, d->rollout->seq);
	result(n, d->rollout->id, RESULT_ROLLED_BACK);
	now_runs(s, n, to);
	n->state = STATE_IDLE;
}

/* What stops it before the swap, if anything does this time. */
static unsigned staging_fails(struct sim *s, struct sim_node *n)
{
	char attempt[48];

	snprintf(attempt, sizeof(attempt), "%s/%u", n->target->version, n->attempts);
	if (luck(s, "node", n, attempt) < s->options.node_noise)
		return RESULT_NO_SPACE;
	if (!n->connected || luck(s, "network", n, attempt) < s->options.network_noise)
		return RESULT_DOWNLOAD_FAILED;
	return 0;
}

static void stages_end(struct sim *s, size_t i, const struct sim_publication *p, const struct decision *d)
{
	struct sim_node *n = s->nodes[i];
	unsigned number = staging_fails(s, n);

	n->state = STATE_IDLE;
	if (d->kind != DECIDE_TARGET || d->cause != CAUSE_ROLLOUT || strcmp(d->version, n->target->version) != 0)
		return; /* withdrawn meanwhile: what was staged is thrown away */
	if (number) {
		n->attempts++;
		n->retry_version = n->target->version;
		n->retry_at = s->now + (number == RESULT_NO_SPACE ? NODE_RETRY_S : NETWORK_RETRY_S);
		result(n, d->rollout->id, number);
		return;
	}
	observe(s, i, p, d);
	swaps(s, n);
}

static void begin(struct sim *s, struct sim_node *n, const struct decision *d)
{
	n->target = release_named(s, d->version);
	n->target_rollout = sim_rollout_named(s, d->rollout->id)->id;
	n->target_stage = d->stage->name;
	n->target_seq = d->rollout->seq;
	n->state = STATE_STAGING;
	n->state_until = s->now + STAGING_MIN_S +
			 (int64_t) (luck(s, "staging", n, d->version) * (STAGING_MAX_S - STAGING_MIN_S));
}

void sim_node_tell(struct sim *s, size_t i)
{
	struct sim_node *n = s->nodes[i];

	if (!n->connected || !s->up)
		return;
	n->heard.version = n->runs ? n->runs->version : NULL;
	n->heard.to = n->state == STATE_IDLE ? NULL : n->target->version;
	n->heard.state = n->state == STATE_IDLE ? NULL : update_state_name(n->state);
	n->heard.why = reason_name(n->why);
	n->heard.at = s->now;
	for (size_t k = 0; k < n->outbox_count; k++) {
		struct sim_rollout *r = sim_rollout_named(s, n->outbox[k].rollout);

		r->members[i].result = n->outbox[k].number;
		r->members[i].result_at = s->now;
	}
	n->outbox_count = 0;
	s->dirty = true;
}

static void sooner(int64_t *at, int64_t candidate)
{
	if (candidate > 0 && candidate < *at)
		*at = candidate;
}

int sim_node_wake(struct sim *s, size_t i)
{
	struct sim_node *n = s->nodes[i];
	const enum update_state before = n->state;
	const enum reason why = n->why;
	const struct sim_release *ran = n->runs;
	bool met = false;
	int64_t next = s->now + TELL_EVERY_S;

	if (s->now >= n->flips_at) {
		n->connected = !n->connected;
		n->flips_at = s->now + link_lasts(s, n);
		met = n->connected;
	}
	pass_time(s, n);
	if (n->connected && s->up) {
		n->publication = s->publication_count;
		n->fresh_until = s->now + FRESH_S;
	}
	if (n->publication &&
	    (n->state == STATE_IDLE || (n->state == STATE_STAGING && s->now >= n->state_until))) {
		const struct sim_publication *p = &s->publications[n->publication - 1];
		struct decision d = node_decides(s, i, p);

		if (n->state == STATE_STAGING) {
			stages_end(s, i, p, &d);
			if (n->state == STATE_IDLE)
				d = node_decides(s, i, p);
		}
		n->why = d.kind == DECIDE_TARGET ? REASON_NONE : d.reason;
		if (n->state == STATE_IDLE && d.kind == DECIDE_TARGET && d.cause == CAUSE_UNDO) {
			n->target = d.version[0] ? release_named(s, d.version) : NULL;
			observe(s, i, p, &d);
			returns(s, n, &d);
			sooner(&next, s->now + LOCAL_S);
		} else if (n->state == STATE_IDLE && d.kind == DECIDE_TARGET) {
			begin(s, n, &d);
		} else if (d.kind == DECIDE_WAIT && d.reason == REASON_SPREAD) {
			sooner(&next, spread_end(s, n, document_of(p, d.rollout), i));
		} else if (d.kind == DECIDE_WAIT && d.until > s->now) {
			sooner(&next, d.until);
		}
	}
	if (met || n->state != before || n->why != why || n->runs != ran || n->outbox_count ||
	    s->now >= n->heard.at + TELL_EVERY_S)
		sim_node_tell(s, i);
	sooner(&next, n->flips_at);
	if (n->state != STATE_IDLE)
		sooner(&next, n->state_until);
	if (n->fails_at)
		sooner(&next, n->fails_at > s->now ? n->fails_at + NOTICED_S : s->now + NOTICED_S);
	if (next <= s->now)
		next = s->now + 1;
	return sim_wake_at(s, i, next);
}
