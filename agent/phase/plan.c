/*
 * plan - which update, may it run here, and is it time.
 *
 * `decide` answers what a component should be; this asks it, holds the release
 * against what this node can do and allows before a byte is fetched, and asks once
 * more right before the swap.
 */
#include "agent/local/service.h"
#include "agent/local/witness.h"
#include "agent/phase/node.h"
#include "agent/phase/phase.h"
#include "agent/phase/self.h"
#include "agent/probe/probe.h"
#include "agent/store/data.h"
#include "agent/store/agents.h"
#include "agent/store/generation.h"
#include "agent/store/seal.h"
#include "agent/store/space.h"
#include "base/err.h"
#include "base/log.h"
#include "base/program.h"
#include "base/version.h"
#include "json/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
	RECENT_POLL_MS = 5000, /* a poll this young is "right before the swap" */
	REFRESH_WAIT_MS = 90 * 1000,
	LEASE_WAIT_MS = 30 * 1000,
	LEASE_AGAIN_MS = 4 * 1000, /* doubled with every refusal, up to a minute */
	BASELINE_MAX_MS = 60 * 1000,
	BASELINE_MORE_MS = 10 * 1000, /* beyond what the checks may take: a busy machine */
	LEASE_MARGIN_MS = 10 * 1000, /* for what comes between the baseline and the swap */
	WITNESS_LOOK_MS = 50,
	LINK_RECENT_MS = 60 * 1000,
	PLAN_LATEST_MS = 3600 * 1000,
	FILES_MARGIN = 64,
};

/* --- what next --- */

int phase_obey(struct node *n)
{
	bool changed = false, retry = false;
	int r;

	for (size_t i = 0; n->docs.loaded && i < n->docs.orders.retry_count; i++) {
		const struct order_once *o = &n->docs.orders.retries[i];
		struct node_component *c = state_component(n->state, o->component);
		struct node_order done = { .result = RESULT_GOOD, .at = n->os->clock_real(n->os) };

		if (state_order(n->state, o->id) || o->expires <= node_now(n))
			continue;
		if (c)
			component_undeny(c, NULL);
		state_retry_clear(n->state, o->component, NULL);
		STATE_SET(done.id, o->id);
		STATE_SET(done.component, o->component);
		STATE_SET(done.detail, "denials and waiting times of the component are lifted");
		state_order_add(n->state, &done);
		log_notice("order-retry", "order=%s component=%s", o->id, o->component);
		n->report_wanted = changed = retry = true;
	}
	r = changed ? node_save(n) : 0;
	return r < 0 ? r : retry;
}

/* An order that sends a version away holds for ever after, whatever becomes of the order. */
static int deny_from(struct node *n, const char *component, const struct decision *d)
{
	struct node_component *c = NULL;
	const struct node_denial *known;
	const char *from = d->order ? d->order->from : NULL;
	int r;

	if (!d->deny_from || !from || !from[0])
		return 0;
	r = state_component_add(n->state, component, &c);
	if (r < 0)
		return r;
	known = component_denial(c, from);
	if (known && known->cause == NODE_DENIED_FORCED)
		return 0;
	component_deny(c, from, NODE_DENIED_FORCED, c->seq);
	/* What a rollout of that number was refused for is not what support asks for: it does not wait it out. */
	if (d->kind != DECIDE_STAY && d->version)
		state_retry_clear(n->state, component, d->version);
	n->report_wanted = true;
	log_notice("version-denied", "component=%s version=%s cause=forced order=%s", component, from,
		   d->order->id);
	return node_save(n);
}

/* Why an order that is refused is: what decide() asked of its version, in words. */
static const char *order_trouble(struct node *n, const char *component, const char *version, const char *from)
{
	const struct known_policy *policy = documents_policy(&n->docs, component);
	const struct node_component *c = state_component(n->state, component);

	if (policy && policy->present && !policy_permits(&policy->policy, version))
		return "it is revoked or below the security floor";
	if (c && component_denial(c, version))
		return "it is denied here";
	if (from && str_eq(from, version))
		return "the order denies it itself";
	return "it was never good here";
}

/* Support hears once that an order cannot be followed; what it denies is denied all the same. */
static int tell_refused_order(struct node *n, const char *component, const struct decision *d)
{
	const char *id = d->order ? d->order->id : d->pin ? d->pin->id : NULL;
	const char *version = d->order ? d->order->to : d->pin ? d->pin->version : NULL;
	struct node_order done = { .result = RESULT_ORDER_REFUSED, .at = n->os->clock_real(n->os) };
	const struct node_order *told = id ? state_order(n->state, id) : NULL;
	int r;

	if (!d->order_refused || !id || !version || (told && told->result == RESULT_ORDER_REFUSED))
		return 0;
	STATE_SET(done.id, id);
	STATE_SET(done.component, component);
	(void) snprintf(done.detail, sizeof(done.detail), "order %s wants %s %s: %s", id, component, version,
			order_trouble(n, component, version, d->order ? d->order->from : NULL));
	r = update_note(n, RESULT_ORDER_REFUSED, component, NULL, done.detail);
	if (r < 0)
		return r;
	log_warning("order-refused", "order=%s detail=%s", id, done.detail);
	state_order_add(n->state, &done);
	return node_save(n);
}

/* Orders before undo before rollouts; fetching ahead last. 0: nothing to do. */
static int weight_of(const struct decision *d)
{
	if (d->kind == DECIDE_STAY || !d->version)
		return 0;
	if (d->kind == DECIDE_WAIT)
		return d->may_stage && d->version[0] ? 1 : 0;
	switch (d->cause) {
	case CAUSE_ORDER_ROLLBACK:
	case CAUSE_ORDER_PIN:
		return 5;
	case CAUSE_UNDO:
		return 4;
	case CAUSE_ROLLOUT:
		return d->rollout && d->rollout->kind == ROLLOUT_PATCH ? 3 : 2;
	case CAUSE_NONE:
		break;
	}
	return 0;
}

static bool is_staged(struct node *n, const char *component, const char *version)
{
	uint8_t digest[SHA256_BYTES];

	return seal_digest(n->os, n->dirs->store, component, version, digest) == 0;
}

/* The next release of a rollout that brings several: the main one, then with[]; NULL behind the last. */
static const struct release_ref *release_at(const struct rollout *r, size_t i)
{
	return i == 0 ? &r->release : i <= r->with_count ? &r->with[i - 1] : NULL;
}

static bool is_at(const struct node *n, const struct release_ref *ref)
{
	const struct node_component *c = state_component(n->state, ref->component);

	return c && str_eq(c->version, ref->version);
}

/* It, and all that goes with it. */
static bool all_staged(struct node *n, const char *component, const struct decision *d)
{
	const struct release_ref *ref;
	bool staged = is_staged(n, component, d->version);

	for (size_t i = 0;
	     staged && d->cause == CAUSE_ROLLOUT && d->rollout && (ref = release_at(d->rollout, i)) != NULL; i++)
		staged = is_at(n, ref) || is_staged(n, ref->component, ref->version);
	return staged;
}

static void wake_at(struct node *n, int64_t at)
{
	int64_t now = node_now(n);
	uint64_t in = at > now ? (uint64_t) (at - now) * 1000 + 50 : 50;

	if (in > PLAN_LATEST_MS)
		in = PLAN_LATEST_MS;
	if (node_now_ms(n) + in < n->plan_ms)
		n->plan_ms = node_now_ms(n) + in;
}

static struct known_rollout *known_by_id(struct node *n, const char *id)
{
	for (size_t i = 0; id && i < n->docs.rollout_count; i++)
		if (str_eq(n->docs.rollouts[i].rollout.id, id))
			return &n->docs.rollouts[i];
	return NULL;
}

static void wake_for_turn(struct node *n, const struct decision *d)
{
	const struct known_rollout *k = d->rollout ? known_by_id(n, d->rollout->id) : NULL;
	uint64_t at;

	if (!k || d->kind != DECIDE_WAIT || (d->reason != REASON_NOTICE && d->reason != REASON_SPREAD))
		return;
	at = d->reason == REASON_NOTICE ? turn_notice_ends(k) : turn_spread_ends(k);
	if (at < n->plan_ms)
		n->plan_ms = at;
}

/* A period that has begun goes on after a restart. */
static int remember_notice(struct node *n, const struct decision *d)
{
	const struct known_rollout *k = d->rollout ? known_by_id(n, d->rollout->id) : NULL;

	return k && d->kind == DECIDE_WAIT && d->reason == REASON_NOTICE ? turn_remember(n, k) : 0;
}

/* What is in the store already still has to be announced here once its notice period begins. */
static bool owes_notice(struct node *n, const char *component, const struct decision *d)
{
	const struct known_rollout *k = d->rollout ? known_by_id(n, d->rollout->id) : NULL;
	struct release release = { 0 };
	bool owes;

	if (!k || k->notified || d->reason != REASON_NOTICE ||
	    manifest_load(n, component, d->version, &release) < 0)
		return false;
	owes = release.hooks.notify.argv.count > 0;
	release_done(&release);
	return owes;
}

struct choice {
	char component[ID_MAX + 1];
	struct decision d;
	int weight;
};

static int consider(struct node *n, const char *component, struct choice *best)
{
	struct decision d = node_decide(n, component);
	const struct node_retry *retry;
	int weight, r;

	r = deny_from(n, component, &d);
	if (r == 0)
		r = tell_refused_order(n, component, &d);
	if (r < 0)
		return r;
	if (d.until > 0)
		wake_at(n, d.until);
	wake_for_turn(n, &d);
	r = remember_notice(n, &d);
	if (r < 0)
		return r;
	/* What waits for a lease asks again after a while, not in a circle. */
	if (d.reason == REASON_LEASE && n->lease_again_ms < n->plan_ms)
		n->plan_ms = n->lease_again_ms;
	weight = weight_of(&d);
	if (weight <= best->weight)
		return 0;
	retry = state_retry(n->state, component, d.version);
	if (retry && retry->not_before > node_now(n)) {
		wake_at(n, retry->not_before);
		return 0;
	}
	if (weight == 1 && all_staged(n, component, &d) && !owes_notice(n, component, &d))
		return 0;
	(void) snprintf(best->component, sizeof(best->component), "%s", component);
	best->d = d;
	best->weight = weight;
	return 0;
}

static const char *source_of(const struct decision *d)
{
	if (d->cause == CAUSE_ORDER_ROLLBACK && d->order)
		return d->order->id;
	if (d->cause == CAUSE_ORDER_PIN && d->pin)
		return d->pin->id;
	return d->rollout ? d->rollout->id : "local";
}

/* An update goes by the name of its rollout's main component, as long as that has a part in it. */
static void choose_main(struct node *n, struct choice *choice)
{
	const struct rollout *r = choice->d.rollout;
	struct decision d;

	if (!r || r->with_count == 0 || (choice->d.cause != CAUSE_ROLLOUT && choice->d.cause != CAUSE_UNDO) ||
	    str_eq(choice->component, r->component))
		return;
	d = node_decide(n, r->component);
	if (d.kind != choice->d.kind || d.cause != choice->d.cause || !d.rollout || !str_eq(d.rollout->id, r->id))
		return;
	(void) snprintf(choice->component, sizeof(choice->component), "%s", r->component);
	choice->d = d;
}

static int add_with(struct node *n, const char *component, const char *to, const struct release_ref *ref)
{
	struct node_update *u = &n->state->update;
	struct node_with *w;
	struct node_component *c = NULL;
	int r = u->with_count < STATE_WITH_MAX ? state_component_add(n->state, component, &c) : -ERR_TOO_LARGE;

	if (r < 0)
		return r;
	w = &u->with[u->with_count++];
	*w = (struct node_with){ .component = "" };
	c->attempts++;
	STATE_SET(w->component, component);
	STATE_SET(w->from, c->version);
	STATE_SET(w->to, to);
	if (ref) {
		STATE_SET(w->release_path, ref->path);
		hex_encode(w->release_sha256, ref->sha256, SHA256_BYTES);
		component_joined_add(c, u->rollout);
	}
	return 0;
}

/* What the same rollout brings, or takes back, in the same rename. */
static int add_parts(struct node *n, const struct decision *d)
{
	const struct node_update *u = &n->state->update;
	const struct release_ref *ref;
	int r = 0;

	if (!d->rollout || (d->cause != CAUSE_ROLLOUT && d->cause != CAUSE_UNDO))
		return 0;
	for (size_t i = 0; r == 0 && (ref = release_at(d->rollout, i)) != NULL; i++) {
		struct decision other;

		if (str_eq(ref->component, u->component))
			continue;
		if (d->cause == CAUSE_ROLLOUT) {
			r = is_at(n, ref) ? 0 : add_with(n, ref->component, ref->version, ref);
			continue;
		}
		other = node_decide(n, ref->component);
		if (other.cause == CAUSE_UNDO && other.kind == DECIDE_TARGET && other.rollout == d->rollout)
			r = add_with(n, ref->component, other.version, NULL);
	}
	return r;
}

/* Data is put back by an order only where this node says so too. */
static void choose_data(struct node *n, const struct order_rollback *order)
{
	struct node_update *u = &n->state->update;
	char name[DATA_NAME_SIZE];

	if (!order || !order->restore_data)
		return;
	if (!config_component(n->config, u->component)->restore_data)
		STATE_SET(u->detail,
			  "the data stays as it is: components.d does not allow an order to put it back");
	else if (data_find(n->os, n->dirs, u->component, u->to, name) < 0)
		STATE_SET(u->detail, "the data stays as it is: no copy of that version's is kept here");
	else
		STATE_SET(u->data_from, name);
}

static int begin(struct node *n, const struct choice *choice)
{
	const struct decision *d = &choice->d;
	struct node_update *u = &n->state->update;
	struct node_component *c = NULL;
	int r = state_component_add(n->state, choice->component, &c);

	if (r < 0)
		return r;
	state_update_clear(n->state);
	c->attempts++;
	u->attempt = c->attempts;
	STATE_SET(u->source, source_of(d));
	STATE_SET(u->component, choice->component);
	(void) snprintf(u->id, sizeof(u->id), "%s/%s/%llu", u->source, u->component,
			(unsigned long long) u->attempt);
	u->cause = (enum node_cause) d->cause;
	STATE_SET(u->from, c->version);
	STATE_SET(u->to, d->version);
	u->started_at = n->os->clock_real(n->os);
	if (d->rollout) {
		STATE_SET(u->rollout, d->rollout->id);
		STATE_SET(u->stage, d->stage ? d->stage->name : "");
		u->seq = d->rollout->seq;
	}
	if (d->cause == CAUSE_ROLLOUT && d->release) {
		STATE_SET(u->release_path, d->release->path);
		hex_encode(u->release_sha256, d->release->sha256, SHA256_BYTES);
		component_joined_add(c, d->rollout->id);
	}
	u->deny_from = d->deny_from;
	n->attempt.started_ms = node_now_ms(n);
	if (d->cause == CAUSE_ORDER_ROLLBACK)
		choose_data(n, d->order);
	r = add_parts(n, d);
	/* A way back takes those along that came since; what brings something new breaks nobody (check). */
	if (r == 0 && d->cause != CAUSE_ROLLOUT)
		r = update_add_dependants(n, false);
	if (r < 0)
		state_update_clear(n->state);
	return r;
}

int phase_plan(struct node *n)
{
	struct string_list components = { 0 };
	struct choice best = { .weight = 0 };
	int r;

	n->replan = false;
	n->plan_ms = UINT64_MAX;
	r = phase_obey(n);
	if (r >= 0)
		r = node_components(n, &components);
	for (size_t i = 0; r == 0 && i < components.count; i++)
		r = consider(n, components.items[i], &best);
	string_list_done(&components);
	if (r == 0 && best.weight > 0) {
		choose_main(n, &best);
		r = begin(n, &best);
	}
	if (r < 0) {
		log_error("plan-failed", "error=%s detail=%s", err_name(r), err_text(r));
		n->plan_ms = node_now_ms(n) + 60 * 1000;
		return PHASE_AGAIN;
	}
	return best.weight > 0 ? PHASE_DONE : PHASE_AGAIN;
}

/* --- may it run here, before the first byte --- */

static int read_release(struct node *n, const struct part *p, struct buf *bytes)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct node_update *u = &n->state->update;
	struct tuf_target t = { 0 };
	char hex[SHA256_HEX + 1];
	char *error = NULL;
	int r;

	r = tuf_client_read(n->tuf, &n->fetcher, p->release_path, RELEASE_MAX_BYTES, bytes, &t);
	if (r == -ERR_NETWORK || r == -ERR_DEADLINE || r == -ERR_PEER_GONE || r == -ERR_HTTP_STATUS ||
	    r == -ERR_TLS || r == -ENOENT)
		return update_fail_as(n, RESULT_METADATA_UNREACHABLE, r, "%s could not be fetched: %s",
				      p->release_path, err_text(r));
	if (r == -ERR_DIGEST || r == -ERR_LENGTH)
		return update_fail_as(n, RESULT_METADATA_REJECTED, r, "%s is not the one that was signed",
				      p->release_path);
	if (r < 0)
		return update_fail(n, r, "%s: %s", p->release_path, tuf_client_error(n->tuf));
	hex_encode(hex, t.sha256, SHA256_BYTES);
	if (p->release_sha256[0] && !str_eq(p->release_sha256, hex))
		return update_fail(n, -ERR_DISAGREE, "rollout %s names another %s than its team signed",
				   u->rollout, p->release_path);
	state_set(p->release_sha256, STATE_HEX_SIZE, hex);
	r = json_parse(bytes->data, bytes->len, &json_limits_default, &doc);
	if (r < 0)
		return update_fail(n, r, "%s is malformed: %s", p->release_path, err_text(r));
	r = release_parse(doc, p->release, &error);
	if (r < 0) {
		r = update_fail(n, r, "%s: %s", p->release_path, error ? error : err_text(r));
		free(error);
		return r;
	}
	*p->has_release = true;
	r = release_agrees(p->release, p->release_path);
	if (r < 0 || !str_eq(p->release->component, p->component) || !str_eq(p->release->version, p->to))
		return update_fail(n, -ERR_DISAGREE, "%s says it is %s %s, or names a file outside its folder",
				   p->release_path, p->release->component, p->release->version);
	return 0;
}

/*
 * The version is meant to be in the store; its manifest beside it. Else the repository
 * still has it: then `bytes` are the manifest's.
 */
static int find_release(struct node *n, const struct part *p, struct buf *bytes)
{
	char path[STATE_PATH_SIZE];
	int r;

	if (n->state->update.cause != NODE_CAUSE_ROLLOUT && is_staged(n, p->component, p->to)) {
		r = manifest_load(n, p->component, p->to, p->release);
		if (r == 0) {
			*p->has_release = true;
			return 0;
		}
	}
	(void) snprintf(path, sizeof(path), "%s/%s/release.json", p->component, p->to); /* both are bounded */
	if (!p->release_path[0])
		state_set(p->release_path, STATE_PATH_SIZE, path);
	return read_release(n, p, bytes);
}

static int check_unchanged(struct node *n, const struct part *p)
{
	uint8_t digest[SHA256_BYTES];
	int r = seal_digest(n->os, n->dirs->store, p->component, p->to, digest);

	if (r == 0 && memcmp(digest, p->release->tree_digest, sizeof(digest)) != 0)
		return update_fail_as(n, RESULT_VERSION_CHANGED, -ERR_TREE,
				      "%s %s is stored here with another tree than this release signs",
				      p->component, p->to);
	return 0;
}

static int check_kind(struct node *n, const struct release *rel)
{
	if (!string_list_has(&config_component(n->config, rel->component)->kinds, rel->kind))
		return update_fail_as(n, RESULT_NOT_ALLOWED, -ERR_REFUSED,
				      "kind '%s' is not allowed for %s by components.d here", rel->kind,
				      rel->component);
	if (!str_eq(rel->kind, "tree"))
		return update_fail(n, -ERR_AGENT_TOO_OLD, "this agent knows no components of kind '%s'",
				   rel->kind);
	return 0;
}

static bool is_below(const char *path, const char *prefix)
{
	size_t len = strlen(prefix);

	while (len > 0 && prefix[len - 1] == '/')
		len--;
	return strncmp(path, prefix, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/*
 * What cannot be read by the version before must really come back with it: such a release has its data
 * copied and put back, or a preflight of its own that looked.
 */
static int check_data(struct node *n, const struct release *rel)
{
	const struct string_list *allowed = &config_component(n->config, rel->component)->data;
	bool restores = false;

	for (size_t i = 0; i < rel->data_count; i++) {
		bool fine = allowed->count == 0;

		for (size_t k = 0; !fine && k < allowed->count; k++)
			fine = is_below(rel->data[i].path, allowed->items[k]);
		if (!fine)
			return update_fail_as(n, RESULT_NOT_ALLOWED, -ERR_REFUSED,
					      "data[] names %s, which components.d does not allow for %s",
					      rel->data[i].path, rel->component);
		restores = restores || rel->data[i].restore_on_rollback;
	}
	if (!rel->data_compatible_back && !restores && rel->hooks.preflight.argv.count == 0)
		return update_fail_as(
			n, RESULT_REQUIREMENT_MISSING, -ERR_REFUSED,
			"the version before cannot read its data, and it neither has data put back on a "
			"rollback nor a preflight that looks");
	return 0;
}

/* What a component will be once this update has swapped. NULL: absent. */
static const char *version_after(struct node *n, const char *component)
{
	const struct node_component *c = state_component(n->state, component);
	const char *version = c ? c->version : "";

	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		if (str_eq(p.component, component))
			version = p.to;
	}
	return version[0] ? version : NULL;
}

/* Of the others, as they will be: those in the same rename count as what they become. */
static int check_ranges(struct node *n, const struct release *rel)
{
	for (size_t i = 0; i < rel->requires_component_count; i++) {
		const struct release_requirement *q = &rel->requires_components[i];
		const char *version = version_after(n, q->component);

		if (!version || !version_in_range(version, q->range))
			return update_fail_as(n, RESULT_REQUIREMENT_MISSING, -ERR_REFUSED,
					      "%s %s needs %s %s; here is %s", rel->component, rel->version,
					      q->component, q->range, version ? version : "none");
	}
	return 0;
}

/* It does not update from what is here: by another version in between, if a rollout offers one. */
static int step_first(struct node *n, const struct part *p)
{
	struct known_rollout *k = known_by_id(n, n->state->update.rollout);
	struct decision d;

	if (k) {
		(void) snprintf(k->needs_component, sizeof(k->needs_component), "%s", p->component);
		(void) snprintf(k->needs_from, sizeof(k->needs_from), "%s", p->release->requires_from);
		d = node_decide(n, p->component);
		if (d.kind != DECIDE_STAY && d.cause == CAUSE_ROLLOUT && !str_eq(d.version, p->to)) {
			log_notice("update-steps", "update=%s component=%s from=%s by=%s to=%s",
				   n->state->update.id, p->component, p->from, d.version, p->to);
			return PHASE_DROP;
		}
	}
	return update_fail_as(
		n, RESULT_REQUIREMENT_MISSING, -ERR_REFUSED,
		"%s %s updates directly from %s or newer; here is %s, and no rollout offers a version "
		"between",
		p->component, p->to, p->release->requires_from, p->from);
}

static int check_requirements(struct node *n, const struct part *p)
{
	const struct release *rel = p->release;
	struct stat st;
	int r;

	if (rel->requires_agent && !version_in_range(program_version, rel->requires_agent))
		return update_fail(n, -ERR_AGENT_TOO_OLD, "it needs an agent %s; this is %s", rel->requires_agent,
				   program_version);
	if (n->state->update.cause != NODE_CAUSE_ROLLOUT)
		return 0; /* it was good here before: what it needs of the others was settled then */
	for (size_t i = 0; i < rel->compatible.count; i++) {
		const char *name = rel->compatible.items[i].name;
		const char *have = labels_get(&n->docs.labels, name);

		if (!str_eq(have, rel->compatible.items[i].value))
			return update_fail_as(n, RESULT_INCOMPATIBLE, -ERR_REFUSED,
					      "it is made for nodes labelled %s=%s; this one has %s", name,
					      rel->compatible.items[i].value, have ? have : "no such label");
	}
	r = check_ranges(n, rel);
	if (r < 0)
		return r;
	for (size_t i = 0; i < rel->requires_files.count; i++)
		if (stat(rel->requires_files.items[i], &st) < 0)
			return update_fail_as(n, RESULT_REQUIREMENT_MISSING, -ERR_REFUSED,
					      "it needs the file %s, which is not here",
					      rel->requires_files.items[i]);
	if (rel->requires_zone_data && strcmp(n->docs.zone_edition, rel->requires_zone_data) < 0)
		return update_fail_as(n, RESULT_REQUIREMENT_MISSING, -ERR_REFUSED,
				      "it needs the time zone tables of %s or newer; here are %s (update tzdata)",
				      rel->requires_zone_data,
				      n->docs.zone_edition[0] ? n->docs.zone_edition : "none that say");
	return rel->requires_from && p->from[0] && version_compare(p->from, rel->requires_from) < 0
		       ? step_first(n, p)
		       : 0;
}

static int check_variables(struct node *n, const struct release *rel)
{
	struct string_list used = { 0 };
	int r = release_variables(rel, &used);

	if (r < 0)
		r = update_fail(n, r, "it uses a variable of a form this agent does not know");
	for (size_t i = 0; r == 0 && i < rel->requires_vars.count; i++)
		if (!labels_get(&n->config->vars, rel->requires_vars.items[i]))
			r = update_fail_as(n, RESULT_VARIABLE_MISSING, -ERR_FIELD_MISSING,
					   "it needs the variable '%s', which vars.d does not define",
					   rel->requires_vars.items[i]);
	for (size_t i = 0; r == 0 && i < used.count; i++)
		if (!labels_get(&n->config->vars, used.items[i]))
			r = update_fail_as(n, RESULT_VARIABLE_MISSING, -ERR_FIELD_MISSING,
					   "it uses ${vars.%s}, which vars.d does not define", used.items[i]);
	string_list_done(&used);
	return r;
}

static int check_command(struct node *n, const struct release *rel, const struct release_command *c,
			 const char *what)
{
	if (c->argv.count == 0 || config_allows_user(n->config, rel->component, c->user))
		return 0;
	return update_fail_as(n, RESULT_NOT_ALLOWED, -ERR_REFUSED,
			      "%s wants to run as '%s', which components.d does not allow for %s", what, c->user,
			      rel->component);
}

/* Lines of a unit's journal travel with reports: only of units this component may speak of. */
static int check_log_unit(struct node *n, const struct release *rel, const struct release_check *check)
{
	if (check->kind != CHECK_LOG || !check->log.unit ||
	    string_list_has(&config_component(n->config, rel->component)->units, check->log.unit))
		return 0;
	return update_fail_as(n, RESULT_NOT_ALLOWED, -ERR_REFUSED,
			      "the log of the unit %s is not allowed for %s by components.d here", check->log.unit,
			      rel->component);
}

static int check_programs(struct node *n, const struct release *rel)
{
	const struct {
		const struct release_command *command;
		const char *name;
	} hooks[] = {
		{ &rel->hooks.preflight, "the hook preflight" },
		{ &rel->hooks.before_swap, "the hook before_swap" },
		{ &rel->hooks.after_swap, "the hook after_swap" },
		{ &rel->hooks.after_rollback, "the hook after_rollback" },
		{ &rel->hooks.notify, "the hook notify" },
	};
	const char *why = NULL;
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(hooks); i++)
		r = check_command(n, rel, hooks[i].command, hooks[i].name);
	for (size_t i = 0; r == 0 && i < rel->service_count; i++) {
		const struct release_service *v = &rel->services[i];

		r = check_command(n, rel, &v->start, v->name);
		if (r == 0)
			r = check_command(n, rel, &v->reload, v->name);
		if (r == 0 && v->unit &&
		    !string_list_has(&config_component(n->config, rel->component)->units, v->unit))
			r = update_fail_as(n, RESULT_NOT_ALLOWED, -ERR_REFUSED,
					   "the unit %s is not allowed for %s by components.d here", v->unit,
					   rel->component);
	}
	for (size_t i = 0; r == 0 && i < rel->check_count; i++) {
		r = check_command(n, rel, &rel->checks[i].exec, rel->checks[i].name);
		if (r == 0)
			r = check_log_unit(n, rel, &rel->checks[i]);
		if (r == 0 && !probe_supported(&rel->checks[i], &why))
			r = update_fail(n, -ERR_AGENT_TOO_OLD, "check %s: %s", rel->checks[i].name,
					why ? why : "");
	}
	return r;
}

static const struct release_artifact *full_artifact(const struct release *rel)
{
	for (size_t i = 0; i < rel->artifact_count; i++)
		if (!rel->artifacts[i].is_delta)
			return &rel->artifacts[i];
	return NULL;
}

static uint64_t add_up(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* Of the whole folder, data and copies included; unlike the free space it needs no margin. */
static int check_quota(struct node *n, uint64_t need)
{
	struct space used;
	int r;

	if (n->config->quota_bytes == 0)
		return 0;
	r = space_used(n->os, n->dirs->root, &used);
	if (r < 0)
		return update_fail(n, r, "what %s takes could not be counted: %s", n->config->root, err_text(r));
	if (add_up(used.bytes, need) > n->config->quota_bytes)
		return update_fail_as(
			n, RESULT_NO_SPACE, -ENOSPC,
			"it needs %llu bytes; the folder takes %llu of the %llu that its quota allows",
			(unsigned long long) need, (unsigned long long) used.bytes,
			(unsigned long long) n->config->quota_bytes);
	return 0;
}

/* What the update takes until it is judged: downloads, trees and the copy of the data; what is staged is there already. */
static int check_space(struct node *n)
{
	struct data_size data;
	struct statvfs v;
	uint64_t have, need = 0, files = 0, asked = 0;
	int r;

	r = update_measure_data(n, &data);
	if (r < 0)
		return r;
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);
		const struct release_artifact *a = *p.has_release ? full_artifact(p.release) : NULL;

		if (!*p.has_release || is_staged(n, p.component, p.to))
			continue;
		if (!a)
			return update_fail(n, -ERR_AGENT_TOO_OLD,
					   "it offers only deltas, which this agent cannot apply yet");
		need = add_up(need, add_up(p.release->installed_size, a->length));
		files = add_up(files, p.release->files);
		asked = add_up(asked, p.release->requires_free_bytes);
	}
	need = add_up(need, data.bytes);
	files = add_up(files, data.files);
	if (need == 0 && files == 0)
		return 0;
	r = check_quota(n, need);
	if (r < 0)
		return r;
	r = n->os->fstatvfs(n->os, n->dirs->store, &v);
	if (r < 0)
		return update_fail(n, r, "the free space could not be read: %s", err_text(r));
	have = (uint64_t) v.f_bavail * v.f_frsize;
	if (add_up(need, SPACE_MARGIN_BYTES) > have || asked > have)
		return update_fail_as(n, RESULT_NO_SPACE, -ENOSPC,
				      "it needs %llu bytes and a margin; %llu are free",
				      (unsigned long long) (need > asked ? need : asked),
				      (unsigned long long) have);
	/* Some file systems have no fixed number of files: they say 0 of 0. */
	if (v.f_files > 0 && v.f_favail < add_up(files, FILES_MARGIN))
		return update_fail_as(n, RESULT_NO_SPACE, -ENOSPC,
				      "it needs %llu files; the file system has room for %llu",
				      (unsigned long long) files, (unsigned long long) v.f_favail);
	return 0;
}

/* What it must be able to go back to has its manifest here, or gets it back now: afterwards it is too late. */
static int check_fallback(struct node *n, const struct part *p)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(RELEASE_MAX_BYTES);
	const struct node_component *c = state_component(n->state, p->component);
	int r;

	if (p->from[0] == '\0' || *p->has_old)
		return 0;
	r = manifest_load(n, p->component, p->from, p->old);
	if (r < 0 && c && c->release_path[0] &&
	    tuf_client_read(n->tuf, &n->fetcher, c->release_path, RELEASE_MAX_BYTES, &bytes, NULL) == 0) {
		r = manifest_keep(n, p->component, p->from, bytes.data, bytes.len);
		if (r == 0)
			r = manifest_load(n, p->component, p->from, p->old);
	}
	if (r < 0)
		return update_fail_as(n, RESULT_FALLBACK_DAMAGED, r,
				      "the manifest of %s %s, to which it would go back, is not here",
				      p->component, p->from);
	*p->has_old = true;
	return 0;
}

/* One component's release, held against what this node can do and allows. */
static int check_part(struct node *n, const struct part *p, struct buf *bytes)
{
	int r = check_fallback(n, p);

	if (r < 0 || p->to[0] == '\0')
		return r; /* back to absent: nothing comes */
	if (*p->has_release) {
		release_done(p->release);
		*p->has_release = false;
	}
	r = find_release(n, p, bytes);
	if (r == 0)
		r = check_unchanged(n, p);
	if (r == 0)
		r = check_kind(n, p->release);
	if (r == 0 && str_eq(p->component, AGENTS_COMPONENT))
		r = self_check(n, p->release);
	if (r == 0)
		r = check_data(n, p->release);
	if (r == 0)
		r = check_requirements(n, p);
	if (r == 0)
		r = check_variables(n, p->release);
	return r == 0 ? check_programs(n, p->release) : r;
}

/* The lengths of an update of several are those of its most careful release. */
static void take_lengths(struct node *n, const struct release *rel)
{
	struct node_update *u = &n->state->update;
	uint64_t cap = n->config->probation_cap_s * 1000, probation_ms = rel->probation_s * 1000;

	if (cap && probation_ms > cap)
		probation_ms = cap;
	if (probation_ms > u->probation_ms)
		u->probation_ms = probation_ms;
	if (rel->watch_s * 1000 > u->watch_ms)
		u->watch_ms = rel->watch_s * 1000;
	if (u->boot_attempts == 0 || rel->boot_attempts < u->boot_attempts)
		u->boot_attempts = rel->boot_attempts;
}

static int check_rollout(struct node *n)
{
	const struct node_update *u = &n->state->update;

	for (size_t i = 0; u->cause == NODE_CAUSE_ROLLOUT && i < n->docs.rollout_count; i++) {
		const struct known_rollout *k = &n->docs.rollouts[i];

		if (str_eq(k->rollout.id, u->rollout) && k->error < 0)
			return update_fail(n, k->error, "%s", k->trouble ? k->trouble : err_text(k->error));
	}
	return 0;
}

int phase_check(struct node *n)
{
	struct buf bytes[PARTS_MAX];
	struct node_update *u = &n->state->update;
	int r = check_rollout(n);

	for (size_t i = 0; i < ARRAY_LEN(bytes); i++)
		buf_init(&bytes[i], RELEASE_MAX_BYTES);
	for (size_t i = 0; r == 0 && i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		r = check_part(n, &p, &bytes[i]);
	}
	if (r == 0 && u->cause == NODE_CAUSE_ROLLOUT)
		r = update_check_dependants(n);
	if (r == 0)
		r = check_space(n);
	/* Only now: the way back to a version of this number that is stored here must not go by a refused manifest. */
	u->probation_ms = u->watch_ms = u->boot_attempts = 0;
	for (size_t i = 0; r == 0 && i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);
		char hex[SHA256_HEX + 1];

		if (bytes[i].len > 0) {
			r = manifest_keep(n, p.component, p.to, bytes[i].data, bytes[i].len);
			if (r < 0)
				r = update_fail(n, r, "the manifest could not be kept: %s", err_text(r));
		}
		if (!*p.has_release)
			continue;
		hex_encode(hex, p.release->tree_digest, SHA256_BYTES);
		state_set(p.digest, STATE_HEX_SIZE, hex);
		take_lengths(n, p.release);
	}
	for (size_t i = 0; i < ARRAY_LEN(bytes); i++)
		buf_done(&bytes[i]);
	return r == 0 ? PHASE_DONE : r;
}

/* --- is it time --- */

enum wait_step {
	WAIT_DECIDE,
	WAIT_REFRESH,
	WAIT_AGAIN,
	WAIT_LEASE,
	WAIT_PREFLIGHT,
	WAIT_PROGRAM,
	WAIT_CONTROLLER,
	WAIT_BASELINE,
	WAIT_DRAIN,
	WAIT_PREPARE,
	WAIT_NOTIFY, /* beside the way to the swap: told, and put aside again */
};

static int next_step(struct node *n, unsigned step)
{
	n->attempt.step = step;
	n->attempt.wake_ms = node_now_ms(n); /* go on at once */
	return PHASE_AGAIN;
}

/* 1: go; 0: put aside until something changes; negative: no more. */
static int still_wanted(struct node *n)
{
	struct node_update *u = &n->state->update;
	struct decision d;

	if (u->cause == NODE_CAUSE_LOCAL)
		return 1;
	d = node_decide(n, u->component);
	if (d.kind != DECIDE_STAY && str_eq(d.version, u->to) && (enum node_cause) d.cause == u->cause &&
	    (!d.rollout || str_eq(d.rollout->id, u->rollout))) {
		if (d.kind == DECIDE_TARGET)
			return 1;
		/* It was approved when it began: what is missing now has expired or is asked for since. */
		if (d.reason == REASON_NOT_APPROVED)
			return update_fail_as(n, RESULT_NOT_APPROVED, -ERR_REFUSED, "%s",
					      reason_sentence(d.reason));
		STATE_SET(u->waiting_for, reason_name(d.reason));
		if (d.until > 0)
			wake_at(n, d.until);
		log_info("update-waits", "update=%s reason=%s", u->id, reason_name(d.reason));
		return 0;
	}
	if (d.kind == DECIDE_TARGET)
		return update_fail_as(n, RESULT_SUPERSEDED, -ECANCELED, "%s %s is wanted now", u->component,
				      d.version[0] ? d.version : "absent");
	return update_fail_as(n, d.reason == REASON_FLOOR ? RESULT_REVOKED : RESULT_WITHDRAWN, -ECANCELED,
			      "it is not wanted any more: %s", reason_sentence(d.reason));
}

static int wait_refresh(struct node *n)
{
	struct attempt *a = &n->attempt;
	const struct node_update *u = &n->state->update;
	uint64_t now = node_now_ms(n);

	/* An order that is verified needs no fresher word, and the way back to safety waits for nothing. */
	if (u->cause != NODE_CAUSE_ROLLOUT)
		return next_step(n, WAIT_AGAIN);
	/* A stick is brought to where there is no road: what it said is the freshest there is. */
	if (n->bundle && !n->link_connected)
		return next_step(n, WAIT_AGAIN);
	if (n->polled_ms > 0 && now - n->polled_ms < RECENT_POLL_MS)
		return next_step(n, WAIT_AGAIN);
	if (a->refresh_asked_ms == 0) {
		a->refresh_asked_ms = now;
		n->refresh_wanted = true;
	}
	if (n->polled_ms >= a->refresh_asked_ms)
		return next_step(n, WAIT_AGAIN);
	if (now - a->refresh_asked_ms > REFRESH_WAIT_MS)
		return next_step(n, WAIT_AGAIN); /* no road; decide says whether what we have is fresh enough */
	a->wake_ms = now + 1000;
	return PHASE_AGAIN;
}

static const struct rollout *rollout_by_id(const struct node *n, const char *id)
{
	for (size_t i = 0; i < n->docs.rollout_count; i++)
		if (str_eq(n->docs.rollouts[i].rollout.id, id))
			return &n->docs.rollouts[i].rollout;
	return NULL;
}

static bool needs_lease(const struct node *n)
{
	const struct node_update *u = &n->state->update;
	const struct rollout *rollout = rollout_by_id(n, u->rollout);

	return u->cause != NODE_CAUSE_ORDER_ROLLBACK && u->cause != NODE_CAUSE_ORDER_PIN &&
	       u->cause != NODE_CAUSE_LOCAL && rollout && rollout->disruption.label;
}

/* Asked for again soon at first, then more slowly: places are free within minutes, or somebody has to look. */
static int lease_is_missing(struct node *n, const char *why)
{
	struct node_update *u = &n->state->update;
	uint64_t delay = (uint64_t) LEASE_AGAIN_MS << (n->lease_refusals < 4 ? n->lease_refusals : 4);
	uint64_t random = 0;

	if (n->os->random(n->os, &random, sizeof(random)) == 0)
		delay += random % LEASE_AGAIN_MS; /* a whole group was refused at the same moment */
	n->lease_refusals++;
	n->lease_again_ms = node_now_ms(n) + delay;
	(void) snprintf(n->lease_refusal, sizeof(n->lease_refusal), "%s", why);
	STATE_SET(u->waiting_for, reason_name(REASON_LEASE));
	log_info("update-waits", "update=%s reason=lease detail=%s", u->id, why);
	return PHASE_DROP;
}

static int wait_lease(struct node *n)
{
	struct attempt *a = &n->attempt;
	uint64_t now = node_now_ms(n);

	if (!needs_lease(n))
		return next_step(n, WAIT_PREFLIGHT);
	/* Nobody could grant one: the person with the stick stands beside the node and knows what else is down. */
	if (n->alone)
		return next_step(n, WAIT_PREFLIGHT);
	if (a->lease_granted && now < a->lease_until_ms) {
		n->lease_refusals = 0;
		return next_step(n, WAIT_PREFLIGHT);
	}
	if (!a->lease_asked) {
		a->lease_asked = true;
		a->refresh_asked_ms = now; /* counts the wait from here */
		report_ask_lease(n);
	}
	if (!a->lease_granted && !a->lease_refusal[0] && now - a->refresh_asked_ms < LEASE_WAIT_MS) {
		a->wake_ms = a->refresh_asked_ms + LEASE_WAIT_MS;
		return PHASE_AGAIN;
	}
	return lease_is_missing(n, a->lease_refusal[0] ? a->lease_refusal : "no answer from the controller");
}

static int wait_hook(struct node *n, const struct part *p, const struct release_command *hook, enum result number,
		     const char *name)
{
	struct attempt *a = &n->attempt;
	char *root;
	int r;

	if (!*p->has_release || hook->argv.count == 0 || n->image)
		return PHASE_DONE;
	if (a->command.process.pid == 0) {
		root = node_version_root(n, p->component, p->to);
		r = root ? hook_begin(n, p->release, hook, root) : -ENOMEM;
		free(root);
		if (r < 0)
			return update_fail_as(n, number, r, "the hook %s could not be started: %s", name,
					      err_text(r));
	}
	r = command_step(&a->command, node_now_ms(n));
	if (r == 0) {
		a->wake_ms = node_now_ms(n) + 50;
		return PHASE_AGAIN;
	}
	if (r < 0) {
		char text[64];

		tail_add(&a->log_tail, a->command.output.data, a->command.output.len);
		r = update_fail_as(n, number, r, "the hook %s %s", name,
				   r == -ERR_DEADLINE
					   ? "took too long"
					   : process_status_text(a->command.status, text, sizeof(text)));
	}
	command_done(&a->command);
	return r < 0 ? r : PHASE_DONE;
}

/* The same hook of one part after the other, then on to the next step. */
static int wait_hooks(struct node *n, bool preflight, unsigned next)
{
	struct attempt *a = &n->attempt;

	for (; a->part < update_part_count(n); a->part++) {
		const struct part p = update_part(n, a->part);
		int r = preflight ? wait_hook(n, &p, &p.release->hooks.preflight, RESULT_PREFLIGHT_FAILED,
					      "preflight")
				  : wait_hook(n, &p, &p.release->hooks.before_swap, RESULT_HOOK_FAILED,
					      "before_swap");

		if (r != PHASE_DONE)
			return r;
	}
	a->part = 0;
	return next_step(n, next);
}

/*
 * A new agent must at least be a program for this machine, with all it needs here, and the
 * version it is released as: that is seen before anything changes.
 */
static int wait_program(struct node *n)
{
	static char program[] = "bin/selfright-agent", option[] = "--version";
	static char *items[] = { program, option };
	const struct release_command command = { .argv = { .items = items, .count = 2 }, .timeout_s = 20 };
	struct attempt *a = &n->attempt;
	const struct node_update *u = &n->state->update;
	char expected[VERSION_MAX + 32];
	int r;

	if (!self_is_updated(n) || u->to[0] == '\0' || n->image)
		return next_step(n, WAIT_CONTROLLER);
	if (a->command.process.pid == 0) {
		char *root = node_version_root(n, u->component, u->to);

		r = root ? hook_begin(n, &a->release, &command, root) : -ENOMEM;
		free(root);
		if (r < 0)
			return update_fail_as(n, RESULT_PREFLIGHT_FAILED, r,
					      "the agent %s is no program that can be started here: %s", u->to,
					      err_text(r));
	}
	r = command_step(&a->command, node_now_ms(n));
	if (r == 0) {
		a->wake_ms = node_now_ms(n) + 50;
		return PHASE_AGAIN;
	}
	(void) snprintf(expected, sizeof(expected), "selfright-agent %s\n", u->to);
	if (r > 0 && !str_eq(buf_str(&a->command.output), expected))
		r = -ERR_DISAGREE;
	if (r < 0) {
		tail_add(&a->log_tail, a->command.output.data, a->command.output.len);
		r = update_fail_as(n, RESULT_PREFLIGHT_FAILED, r,
				   "the agent %s, asked for its version, does not say that it is this one", u->to);
	}
	command_done(&a->command);
	return r < 0 ? r : next_step(n, WAIT_CONTROLLER);
}

/* What a new agent is held to: that it reaches whom this one reaches. */
static int wait_controller(struct node *n)
{
	struct attempt *a = &n->attempt;
	struct node_update *u = &n->state->update;
	uint64_t now = node_now_ms(n);

	if (!self_is_updated(n) || n->image)
		return next_step(n, WAIT_BASELINE);
	u->link_before = (n->acked_ms > 0 && now - n->acked_ms < LINK_RECENT_MS) || self_ask_controller(n) > 0;
	if (!u->link_before && (!a->asked_ms || now - a->asked_ms < BASELINE_MAX_MS)) {
		if (!a->asked_ms)
			a->asked_ms = now;
		a->wake_ms = now + 200;
		return PHASE_AGAIN;
	}
	a->nonce[0] = '\0';
	return next_step(n, WAIT_BASELINE);
}

static bool must_notify(struct node *n)
{
	const struct attempt *a = &n->attempt;
	const struct known_rollout *k = known_by_id(n, n->state->update.rollout);

	return k && !k->notified && a->has_release && a->release.hooks.notify.argv.count > 0 &&
	       str_eq(n->state->update.waiting_for, reason_name(REASON_NOTICE));
}

/* People hear that something is coming. That nobody could be told holds nothing up. */
static int wait_notify(struct node *n)
{
	struct attempt *a = &n->attempt;
	const struct node_update *u = &n->state->update;
	struct known_rollout *k = known_by_id(n, u->rollout);
	char text[64];
	int r = 0;

	if (a->command.process.pid == 0) {
		char *root = node_version_root(n, u->component, u->to);

		r = root ? hook_begin(n, &a->release, &a->release.hooks.notify, root) : -ENOMEM;
		free(root);
	}
	if (r == 0)
		r = command_step(&a->command, node_now_ms(n));
	if (r == 0) {
		a->wake_ms = node_now_ms(n) + 50;
		return PHASE_AGAIN;
	}
	if (r < 0)
		log_warning("notify-failed", "update=%s error=%s detail=%s", u->id, err_name(r),
			    a->command.process.pid && r != -ERR_DEADLINE
				    ? process_status_text(a->command.status, text, sizeof(text))
				    : err_text(r));
	else
		log_notice("notified", "update=%s version=%s", u->id, u->to);
	command_done(&a->command);
	if (k) {
		k->notified = true;
		r = turn_remember(n, k);
		if (r < 0)
			log_warning("notice-not-kept", "after a restart people are told again: %s", err_text(r));
	}
	return PHASE_DROP;
}

static void baseline_note(struct node *n, const struct part *p)
{
	struct node_update *u = &n->state->update;
	char quoted[300];

	for (size_t i = 0; i < probe_set_count(p->checks->set) && u->baseline_count < STATE_BASELINE_MAX; i++) {
		const struct probe_status *s = probe_set_at(p->checks->set, i);
		struct node_baseline *b = &u->baseline[u->baseline_count++];

		STATE_SET(b->component, p->component);
		STATE_SET(b->check, s->check->name);
		/* What says nothing before the swap is no failure; it is judged as if there were no "before". */
		b->passed = s->state == PROBE_PASSING || (s->state == PROBE_PENDING && s->runs > 0);
		STATE_SET(b->value, probe_set_value(p->checks->set, i));
		if (s->check->kind == CHECK_LINK)
			u->link_before = b->passed;
		if (!b->passed)
			log_info("check-failed-before",
				 "it is not blamed on the release: update=%s component=%s check=%s state=%s "
				 "detail=%s",
				 u->id, p->component, s->check->name, probe_state_name(s->state),
				 log_quote(quoted, sizeof(quoted), s->detail));
	}
}

/*
 * A node without memory or descriptors cannot ask how things were, and could not ask afterwards: a failure then would
 * be excused, or blamed, for nothing. Nothing has changed yet, and it is tried again later.
 */
static int could_be_asked(struct node *n, const struct part *p)
{
	for (size_t i = 0; i < probe_set_count(p->checks->set); i++) {
		const struct probe_status *s = probe_set_at(p->checks->set, i);

		if (s->check->required && s->runs == 0 && s->error < 0 && s->state == PROBE_PENDING)
			return update_fail_as(n, catalogue_blame(RESULT_CHECK_FAILED, s->error), s->error,
					      "the check %s cannot be asked before the swap: %.300s",
					      s->check->name, s->detail);
	}
	return 0;
}

/* Does it have checks, and a version that they may be asked of? */
static bool has_baseline(const struct part *p)
{
	return *p->has_release && p->release->check_count > 0 && p->from[0];
}

static int baseline_begin(struct node *n)
{
	struct attempt *a = &n->attempt;
	uint64_t now = node_now_ms(n);
	bool link = n->acked_ms > 0 && now - n->acked_ms < LINK_RECENT_MS;

	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);
		int r = has_baseline(&p) ? part_checks_begin(n, &p, PROBE_BASELINE) : 0;

		if (r < 0)
			return update_fail(n, r, "the checks of %s could not be prepared: %s", p.component,
					   err_text(r));
		if (p.checks->set && link)
			probe_set_link_result(p.checks->set, true, NULL);
		else if (p.checks->set && n->alone)
			probe_set_link_result(p.checks->set, false, "there is no link");
		else if (*p.has_release && p.release->check_count > 0 && !p.from[0])
			n->state->update.link_before = link; /* a first install has no before */
	}
	a->entered_ms = now;
	a->nonce[0] = '\0';
	if (!link && !n->alone && node_nonce(n, a->nonce) == 0) {
		a->nonce_ms = now;
		n->report_wanted = true;
	}
	return 0;
}

static bool asks_for_link(struct node *n)
{
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		for (size_t k = 0; *p.has_release && k < p.release->check_count; k++)
			if (p.release->checks[k].kind == CHECK_LINK)
				return true;
	}
	return false;
}

/* Who answers on the network before the swap. True: it is known, or cannot be. */
static bool witness_is_heard(struct node *n)
{
	struct attempt *a = &n->attempt;
	uint64_t now = node_now_ms(n);
	int r = 0;

	if (a->witness_done || !asks_for_link(n) || n->alone || self_is_updated(n))
		return true;
	if (a->witness.process.pid == 0)
		r = witness_start(n->config, n->as_root, now, &a->witness);
	if (r == 0)
		r = command_step(&a->witness, now);
	if (r == 0)
		return false;
	if (r < 0)
		log_warning("no-witness", "nobody looked at the network before the swap: %s", err_text(r));
	a->witness_done = true;
	return true;
}

static void witness_note(struct node *n)
{
	struct node_update *u = &n->state->update;
	struct node_baseline *b;

	if (!n->attempt.witness_done || u->baseline_count == STATE_BASELINE_MAX)
		return;
	b = &u->baseline[u->baseline_count++];
	STATE_SET(b->component, u->component);
	STATE_SET(b->check, WITNESS_BASELINE); /* no check has such a name */
	b->passed = true;
	witness_encode(witness_read(&n->attempt.witness), b->value);
	command_done(&n->attempt.witness);
}

/* What fails before the swap is not the release's fault. A first install has no before. */
static int wait_baseline(struct node *n)
{
	struct attempt *a = &n->attempt;
	uint64_t now = node_now_ms(n);
	bool any = false, begun = a->witness_done || a->witness.process.pid, done = true, heard, holds;
	uint64_t longest = 0;
	int timeout = -1, r;

	a->services_were_fine = true;
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		if (services_settled(n->services, p.component, NULL) != 1)
			a->services_were_fine = false;
		any = any || has_baseline(&p);
		begun = begun || p.checks->set;
	}
	if (n->image)
		return next_step(n, WAIT_DRAIN);
	if (!begun) {
		r = baseline_begin(n);
		if (r < 0)
			return r;
		now = node_now_ms(n); /* not before what it has just noted: the wait is a difference */
		if (!any)
			a->nonce[0] = '\0'; /* nobody waits for the answer */
	}
	heard = witness_is_heard(n);
	holds = a->nonce[0] && n->acked_ms >= a->nonce_ms && str_eq(n->acked_nonce, a->nonce);
	for (size_t i = 0; i < update_part_count(n); i++) {
		struct pollfd fds[PROBE_FDS_PER_CHECK * RELEASE_CHECKS_MAX];

		if (!a->checks[i].set)
			continue;
		if (holds)
			probe_set_link_result(a->checks[i].set, true, NULL);
		probe_set_step(a->checks[i].set, now);
		done = done && probe_set_done(a->checks[i].set);
		longest = probe_set_baseline_ms(a->checks[i].set) > longest
				  ? probe_set_baseline_ms(a->checks[i].set)
				  : longest;
		(void) probe_set_prepare(a->checks[i].set, fds, ARRAY_LEN(fds), now, &timeout);
	}
	/* What is not known when the leave to start runs out is judged without a "before". */
	if ((!done || !heard) && now - a->entered_ms < longest + BASELINE_MORE_MS &&
	    (!needs_lease(n) || now + LEASE_MARGIN_MS < a->lease_until_ms)) {
		a->wake_ms = now + (timeout < 0 || timeout > 1000 ? 1000 : (uint64_t) timeout);
		if (!heard && a->wake_ms > now + WITNESS_LOOK_MS)
			a->wake_ms = now + WITNESS_LOOK_MS;
		return PHASE_AGAIN;
	}
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		r = p.checks->set ? could_be_asked(n, &p) : 0;
		if (r < 0)
			return r;
	}
	n->state->update.baseline_count = 0;
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		if (p.checks->set)
			baseline_note(n, &p);
		part_checks_done(p.checks);
	}
	witness_note(n);
	a->nonce[0] = '\0';
	return next_step(n, WAIT_DRAIN);
}

/* Both generations are there before anything is stopped: from here on only renames. */
static int wait_prepare(struct node *n)
{
	struct node_update *u = &n->state->update;
	struct generation_entry changes[PARTS_MAX];
	struct generation now = { .count = 0 }, target;
	uint64_t number = 0;
	int r;

	/* Leave to start ends; what came between was slow. */
	if (needs_lease(n) && node_now_ms(n) >= n->attempt.lease_until_ms)
		return lease_is_missing(n, "the leave to start ran out during the preparations");
	r = generation_current(n->os, n->dirs->root, &number);
	if (r == 0)
		r = generation_read(n->os, n->dirs->generations, number, &now);
	if (r < 0 && r != -ENOENT)
		return update_fail(n, r, "the current generation could not be read: %s", err_text(r));
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		(void) snprintf(changes[i].component, sizeof(changes[i].component), "%s", p.component);
		(void) snprintf(changes[i].version, sizeof(changes[i].version), "%s", p.to);
	}
	r = generation_compose(&now, changes, update_part_count(n), &target);
	if (r < 0)
		return update_fail(n, r, "the new generation could not be composed: %s", err_text(r));
	u->target_generation = n->state->generation + 1;
	u->fallback_generation = n->state->generation + 2;
	n->state->generation += 2;
	r = node_save(n);
	if (r == 0)
		r = generation_create(n->os, n->dirs->generations, u->target_generation, &target);
	if (r == 0)
		r = generation_create(n->os, n->dirs->generations, u->fallback_generation, &now);
	if (r < 0)
		return update_fail(n, r, "the generations could not be prepared: %s", err_text(r));
	return PHASE_DONE;
}

int phase_wait(struct node *n)
{
	struct attempt *a = &n->attempt;
	int r;

	if (a->step > WAIT_REFRESH && a->step < WAIT_PREPARE && n->state->update.cause != NODE_CAUSE_LOCAL) {
		/* News may come at any time before the swap. */
		r = still_wanted(n);
		if (r <= 0)
			return r < 0 ? r : PHASE_DROP;
	}
	switch ((enum wait_step) a->step) {
	case WAIT_DECIDE:
		r = still_wanted(n);
		if (r == 0 && must_notify(n))
			return next_step(n, WAIT_NOTIFY);
		if (r <= 0)
			return r < 0 ? r : PHASE_DROP;
		return next_step(n, WAIT_REFRESH);
	case WAIT_REFRESH:
		return wait_refresh(n);
	case WAIT_AGAIN:
		a->refresh_asked_ms = 0;
		return next_step(n, WAIT_LEASE);
	case WAIT_LEASE:
		return wait_lease(n);
	case WAIT_PREFLIGHT:
		return wait_hooks(n, true, WAIT_PROGRAM);
	case WAIT_PROGRAM:
		return wait_program(n);
	case WAIT_CONTROLLER:
		return wait_controller(n);
	case WAIT_BASELINE:
		return wait_baseline(n);
	case WAIT_DRAIN:
		return wait_hooks(n, false, WAIT_PREPARE);
	case WAIT_PREPARE:
		return wait_prepare(n);
	case WAIT_NOTIFY:
		return wait_notify(n);
	}
	return update_fail_as(n, RESULT_INTERNAL, -EINVAL, "a step of waiting that does not exist");
}
