#include "agent/phase/node.h"

#include "agent/link/protocol.h"
#include "agent/local/inhibit.h"
#include "agent/local/service.h"
#include "agent/probe/probe.h"
#include "agent/store/agents.h"
#include "agent/store/collect.h"
#include "agent/store/seal.h"
#include "base/err.h"
#include "base/log.h"
#include "base/timestamp.h"
#include "conf/conf.h"
#include "json/build.h"
#include "json/json.h"
#include "model/dependants.h"
#include "os/durable.h"
#include "os/process.h"
#include "zone/zone.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOTE_PREFIX "note-"

enum { EVENT_MAX = 4096, HISTORY_LINE_MAX = 6000, NOTES_WAITING_MAX = 8, PLAN_LATEST_MS = 3600 * 1000 };

uint64_t node_now_ms(const struct node *n)
{
	return n->os->clock_boot_ms(n->os);
}

int64_t node_now(const struct node *n)
{
	return n->tuf ? tuf_client_now(n->tuf) : n->os->clock_real(n->os);
}

bool node_is_fresh(const struct node *n)
{
	struct tuf_state t = { 0 };

	if (!n->tuf)
		return false;
	tuf_client_state(n->tuf, &t);
	return t.timestamp > 0 && !t.stale;
}

void node_plan_at(struct node *n, int64_t at)
{
	int64_t now = node_now(n);
	uint64_t in = at > now ? (uint64_t) (at - now) * 1000 + 50 : 50;

	if (in > PLAN_LATEST_MS)
		in = PLAN_LATEST_MS;
	if (node_now_ms(n) + in < n->plan_ms)
		n->plan_ms = node_now_ms(n) + in;
}

int node_save(struct node *n)
{
	int r = store_save(n->store, n->state);

	if (r < 0)
		log_error("state-not-saved", "the journal could not be written: %s", err_text(r));
	return r;
}

int node_nonce(struct node *n, char ret[static NONCE_HEX + 1])
{
	uint8_t bytes[NONCE_HEX / 2];
	int r = n->os->random(n->os, bytes, sizeof(bytes));

	if (r < 0)
		return r;
	hex_encode(ret, bytes, sizeof(bytes));
	return 0;
}

void node_link_send(struct node *n, unsigned type, uint32_t id, const void *data, size_t len)
{
	int r;

	if (!n->link)
		return;
	r = frame_send(n->link, (uint16_t) type, id, data, len);
	if (r < 0)
		log_warning("link-send", "a frame for the link was dropped: type=%u reason=%s", type, err_text(r));
}

char *node_current_root(const struct node *n, const char *component)
{
	char *path = NULL;

	return asprintf(&path, "%s/current/%s", n->config->root, component) < 0 ? NULL : path;
}

char *node_version_root(const struct node *n, const char *component, const char *version)
{
	char *path = NULL;

	return asprintf(&path, "%s/store/%s/%s", n->config->root, component, version) < 0 ? NULL : path;
}

bool node_has_version(const struct node *n, const char *component, const char *version)
{
	uint8_t digest[SHA256_BYTES];

	return seal_digest(n->os, n->dirs->store, component, version, digest) == 0;
}

/* --- documents --- */

void documents_done(struct documents *d)
{
	index_done(&d->index);
	for (size_t i = 0; i < d->rollout_count; i++) {
		rollout_done(&d->rollouts[i].rollout);
		free(d->rollouts[i].trouble);
	}
	free(d->rollouts);
	orders_done(&d->orders);
	for (size_t i = 0; i < d->policy_count; i++)
		policy_done(&d->policies[i].policy);
	free(d->policies);
	labels_done(&d->labels);
	zone_free(d->zone);
	*d = (struct documents){ 0 };
}

const struct known_policy *documents_policy(const struct documents *d, const char *component)
{
	for (size_t i = 0; i < d->policy_count; i++)
		if (str_eq(d->policies[i].component, component))
			return &d->policies[i];
	return NULL;
}

struct known_rollout *documents_rollout(const struct documents *d, const char *id)
{
	for (size_t i = 0; id && i < d->rollout_count; i++)
		if (str_eq(d->rollouts[i].rollout.id, id))
			return &d->rollouts[i];
	return NULL;
}

/* --- manifests of versions in the store --- */

static int manifest_open_dir(struct node *n, const char *component)
{
	int r;

	if (!guard_id(component))
		return -ERR_NAME;
	r = durable_mkdir(n->os, n->manifests_fd, component, 0755);
	return r < 0 ? r : dir_open(n->os, n->manifests_fd, component);
}

static int parse_manifest(const void *bytes, size_t len, struct release *ret)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	int r = json_parse(bytes, len, &json_limits_default, &doc);

	return r < 0 ? r : release_parse(doc, ret, NULL);
}

int manifest_load(struct node *n, const char *component, const char *version, struct release *ret)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(RELEASE_MAX_BYTES);
	char name[VERSION_MAX + 8];
	int fd, r;

	if (!version_is_valid(version))
		return -ENOENT;
	fd = manifest_open_dir(n, component);
	if (fd < 0)
		return fd;
	(void) snprintf(name, sizeof(name), "%s.json", version);
	r = file_read(n->os, fd, name, RELEASE_MAX_BYTES, &bytes);
	(void) n->os->close(n->os, fd); /* read only */
	return r < 0 ? r : parse_manifest(bytes.data, bytes.len, ret);
}

int manifest_keep(struct node *n, const char *component, const char *version, const void *bytes, size_t len)
{
	char name[VERSION_MAX + 8];
	int fd, r;

	if (!version_is_valid(version))
		return -ERR_NAME;
	fd = manifest_open_dir(n, component);
	if (fd < 0)
		return fd;
	(void) snprintf(name, sizeof(name), "%s.json", version);
	r = durable_write_file(n->os, fd, name, bytes, len, 0644);
	(void) n->os->close(n->os, fd); /* the write was synced on its own */
	return r;
}

/* Its tree is not there yet. */
static bool is_wanted(struct node *n, const char *component, const char *version)
{
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		if (str_eq(p.component, component) && str_eq(p.to, version))
			return true;
	}
	return false;
}

static void manifest_collect_component(struct node *n, const char *component)
{
	struct name_list names = { 0 };
	int fd = manifest_open_dir(n, component);

	if (fd < 0)
		return;
	if (dir_list(n->os, fd, ".", &names) < 0)
		names.count = 0;
	for (size_t i = 0; i < names.count; i++) {
		char version[VERSION_MAX + 1];
		size_t len = strlen(names.names[i]);
		uint8_t digest[SHA256_BYTES];

		/* What a power cut left of manifest_keep(): whoever wakes up writes it anew. */
		if (names.names[i][0] == '.' && len > 8 && str_eq(names.names[i] + len - 8, ".pending"))
			(void) n->os->unlinkat(n->os, fd, names.names[i], 0); /* tried again the next time */
		if (len <= 5 || len - 5 > VERSION_MAX || strcmp(names.names[i] + len - 5, ".json") != 0)
			continue;
		(void) snprintf(version, sizeof(version), "%.*s", (int) (len - 5), names.names[i]);
		if (is_wanted(n, component, version))
			continue;
		if (seal_digest(n->os, n->dirs->store, component, version, digest) == -ENOENT)
			(void) n->os->unlinkat(n->os, fd, names.names[i], 0); /* one that stays costs a few KiB */
	}
	name_list_done(&names);
	(void) n->os->close(n->os, fd); /* what stays is removed the next time */
}

void manifest_collect(struct node *n)
{
	struct name_list names = { 0 };

	if (dir_list(n->os, n->manifests_fd, ".", &names) < 0)
		return;
	for (size_t i = 0; i < names.count; i++)
		manifest_collect_component(n, names.names[i]);
	name_list_done(&names);
}

/* --- decide --- */

static bool is_busy_state(enum node_update_state s)
{
	return s == NODE_STOPPING || s == NODE_SWAPPING || s == NODE_REBOOTING || s == NODE_PROBATION ||
	       s == NODE_ROLLING_BACK;
}

bool node_is_busy(const struct node *n)
{
	return state_has_update(n->state) && is_busy_state(n->state->update.state);
}

static size_t list_inhibitors(const struct node *n, struct inhibitor *out, size_t max)
{
	return n->inhibitors ? inhibitors_list(n->inhibitors, out, max) : 0;
}

void node_explain_inhibitor(const struct node *n, char *out, size_t size)
{
	struct inhibitor list[INHIBIT_LIST_MAX];
	size_t count = list_inhibitors(n, list, ARRAY_LEN(list));
	char since[TIMESTAMP_LEN + 16] = "", at[TIMESTAMP_LEN + 1], more[32] = "";

	out[0] = '\0';
	if (count == 0)
		return;
	if (list[0].since > 0) {
		timestamp_format(at, list[0].since);
		(void) snprintf(since, sizeof(since), ", since %s", at);
	}
	if (count > 1)
		(void) snprintf(more, sizeof(more), "; and %zu more", count - 1);
	(void) snprintf(out, size, "%s (%s%s)%s", list[0].why[0] ? list[0].why : "no reason given", list[0].who,
			since, more);
}

static struct local_facts local_facts_of(const struct node *n, const char *component, int64_t now)
{
	const struct node_update *u = &n->state->update;
	bool busy = node_is_busy(n) && !update_concerns(n, component);
	struct inhibitor first;

	return (struct local_facts){
		.node = n->config->node,
		.labels = n->docs.loaded ? &n->docs.labels : &n->config->labels,
		.now = now,
		.fresh = node_is_fresh(n),
		/* Somebody stands before it with a stick: that may be what frees it. */
		.stuck = n->state->stuck && !n->bundle,
		.busy = busy ? u->component : NULL,
		.inhibited = list_inhibitors(n, &first, 1) > 0,
		.held = n->state->hold_until > now,
		.held_until = n->state->hold_until,
		.hold_reason = n->state->hold_reason,
		.max_swaps_per_day = n->config->max_swaps_per_day,
	};
}

/* What the component should be if it were alone, and `without` (NULL: none) were not there. */
static struct decision decide_without(struct node *n, const char *component, const struct known_rollout *without)
{
	size_t count = 0;
	static const struct node_component none = { .name = "" };
	const struct node_component *c = state_component(n->state, component);
	const struct known_policy *policy = documents_policy(&n->docs, component);
	struct denial denials[STATE_DENIALS_MAX];
	struct taken taken[STATE_TAKEN_MAX];
	const char *good[STATE_GOOD_MAX], *joined[STATE_JOINED_MAX];
	struct rollout_facts *rollouts;
	struct component_facts facts;
	struct local_facts local;
	struct decision d;
	int64_t now = node_now(n);
	uint64_t now_ms = node_now_ms(n);
	const struct node_deferral *deferral = state_deferral(n->state, component, now);

	if (!c)
		c = &none;
	for (size_t i = 0; i < c->denial_count; i++)
		denials[i] = (struct denial){ .version = c->denials[i].version,
					      .cause = (enum denial_cause) c->denials[i].cause,
					      .seq = c->denials[i].seq };
	for (size_t i = 0; i < c->taken_count; i++)
		taken[i] = (struct taken){ .rollout = c->taken[i].rollout,
					   .stage = c->taken[i].stage,
					   .seq = c->taken[i].seq,
					   .version = c->taken[i].version,
					   .previous = c->taken[i].previous };
	for (size_t i = 0; i < c->good_count; i++)
		good[i] = c->good[i];
	for (size_t i = 0; i < c->joined_count; i++)
		joined[i] = c->joined[i];
	facts = (struct component_facts){
		.component = component,
		.version = c->version[0] ? c->version : NULL,
		.denials = denials,
		.denial_count = c->denial_count,
		.good = good,
		.good_count = c->good_count,
		.taken = taken,
		.taken_count = c->taken_count,
		.joined = joined,
		.joined_count = c->joined_count,
		.swaps_today = (unsigned) component_swaps_today(c, now),
		.policy = policy && policy->present ? &policy->policy : NULL,
	};
	local = local_facts_of(n, component, now);
	rollouts = calloc(n->docs.rollout_count + 1, sizeof(*rollouts));
	if (!rollouts)
		return (struct decision){ .kind = DECIDE_STAY, .reason = REASON_RETRY };
	for (size_t i = 0; i < n->docs.rollout_count; i++) {
		const struct known_rollout *k = &n->docs.rollouts[i];
		struct opening_state opening = opening_judge(&k->opening, n->docs.zone, now);

		if (k == without)
			continue;
		rollouts[count] = (struct rollout_facts){
			.rollout = &k->rollout,
			.share = k->share,
			.in_window = opening.in_window,
			.in_blackout = opening.in_blackout,
			.window_opens = opening.opens,
			.spread_passed = now_ms >= turn_spread_ends(k),
			.notice_passed = now_ms >= turn_notice_ends(k),
			.deferred_until = deferral ? deferral_end(&k->rollout, deferral->until) : 0,
			.lease_missing = k->rollout.disruption.label && now_ms < n->lease_again_ms,
		};
		rollouts[count].deferred = rollouts[count].deferred_until > now;
		memcpy(rollouts[count].approved, k->approved, sizeof(k->approved));
		count++;
	}
	d = decide(&local, &facts, rollouts, count, n->docs.loaded ? &n->docs.index : NULL,
		   n->docs.loaded ? &n->docs.orders : NULL);
	free(rollouts);
	return d;
}

static const struct known_rollout *known_of(const struct node *n, const struct rollout *r)
{
	for (size_t i = 0; i < n->docs.rollout_count; i++)
		if (&n->docs.rollouts[i].rollout == r)
			return &n->docs.rollouts[i];
	return NULL;
}

/*
 * A release that cannot be reached from here in one step is reached by another one in between, if a
 * rollout offers it: then that one first.
 */
static struct decision decide_alone(struct node *n, const char *component)
{
	const struct node_component *c = state_component(n->state, component);
	struct decision d = decide_without(n, component, NULL), step;
	const struct known_rollout *k = d.cause == CAUSE_ROLLOUT ? known_of(n, d.rollout) : NULL;

	if (!k || !c || !c->version[0] || !str_eq(k->needs_component, component) || d.kind == DECIDE_STAY ||
	    version_compare(c->version, k->needs_from) >= 0)
		return d;
	step = decide_without(n, component, k);
	if (step.kind == DECIDE_STAY || step.cause != CAUSE_ROLLOUT ||
	    version_compare(step.version, k->needs_from) < 0 || version_compare(step.version, d.version) >= 0)
		return d;
	return step;
}

/* As long as one of a rollout's components may not go, for whatever reason, the others wait with it. */
static void wait_for_others(struct node *n, const char *component, struct decision *d)
{
	const struct rollout *r = d->rollout;

	for (size_t i = 0; i <= r->with_count; i++) {
		const struct release_ref *ref = i == 0 ? &r->release : &r->with[i - 1];
		const struct node_component *c = state_component(n->state, ref->component);
		struct decision other;

		if (str_eq(ref->component, component))
			continue;
		other = decide_alone(n, ref->component);
		decide_together(d, &other, ref, c && c->version[0] ? c->version : NULL);
	}
}

struct decision node_decide(struct node *n, const char *component)
{
	struct decision d = decide_alone(n, component);

	if (d.cause == CAUSE_ROLLOUT && d.kind == DECIDE_TARGET && d.rollout->with_count > 0)
		wait_for_others(n, component, &d);
	return d;
}

void node_explain_withheld(const struct node *n, const struct rollout *r, char *out, size_t size)
{
	const char *component = NULL;

	for (size_t i = 0; r && !component && i <= r->with_count; i++) {
		const struct release_ref *ref = i == 0 ? &r->release : &r->with[i - 1];
		const struct known_policy *p = documents_policy(&n->docs, ref->component);

		if (p && p->withheld)
			component = ref->component;
	}
	for (size_t i = 0; r && !component && i < n->docs.rollout_count; i++)
		if (n->docs.rollouts[i].withheld && str_eq(n->docs.rollouts[i].rollout.id, r->id))
			component = r->component;
	if (component)
		(void) snprintf(out, size, "what the team of %s signed cannot be fetched: %s", component,
				n->refresh_text[0] ? n->refresh_text : "it is asked for again");
}

void node_explain_window(const struct node *n, const struct rollout *r, char *out, size_t size)
{
	const struct known_rollout *k = NULL;
	struct opening_state s;
	char when[TIMESTAMP_LEN + 80] = "", at[TIMESTAMP_LEN + 1];

	for (size_t i = 0; !k && i < n->docs.rollout_count; i++)
		if (r && str_eq(n->docs.rollouts[i].rollout.id, r->id))
			k = &n->docs.rollouts[i];
	if (!k)
		return;
	if (!n->docs.zone && opening_needs_zone(&k->opening)) {
		(void) snprintf(out, size, "the zone '%s' of the label `zone` cannot be used here: %s",
				n->docs.zone_name,
				n->docs.zone_error == -ENOPKG	? "there is no zone database (install tzdata)"
				: n->docs.zone_error == -ENOENT ? "no such zone"
								: err_text(n->docs.zone_error));
		return;
	}
	s = opening_judge(&k->opening, n->docs.zone, node_now(n));
	if (s.opens > 0) {
		timestamp_format(at, s.opens);
		(void) snprintf(when, sizeof(when), "; it may go on at %s", at);
	}
	if (node_zone_is_stale(n))
		(void) snprintf(when + strlen(when), sizeof(when) - strlen(when), " (by old zone data, %s)",
				n->docs.zone_edition);
	if (s.in_blackout)
		(void) snprintf(out, size, "a blackout of the rollout, in the zone %s%s", n->docs.zone_name, when);
	else
		(void) snprintf(out, size, "outside the window %s in the zone %s%s",
				k->opening.has_window ? json_string(k->rollout.window) : "", n->docs.zone_name,
				when);
}

static void clean_sentence(char *text);

bool node_zone_is_stale(const struct node *n)
{
	int64_t month = 30 * 86400 + 10 * 3600; /* a twelfth of a year */

	/* UTC needs no tables. */
	return n->config->zone_data_months > 0 && n->docs.zone_edition[0] && !str_eq(n->docs.zone_name, "UTC") &&
	       node_now(n) - n->docs.zone_published > (int64_t) n->config->zone_data_months * month;
}

static void see_drop(struct node *n, size_t i)
{
	memmove(&n->seen[i], &n->seen[i + 1], (n->seen_count - i - 1) * sizeof(n->seen[0]));
	n->seen_count--;
}

void node_see_set(struct node *n, const char *component, const struct probe_set *set)
{
	size_t count = set ? probe_set_count(set) : 0;

	for (size_t i = n->seen_count; count > 0 && i-- > 0;)
		if (str_eq(n->seen[i].component, component))
			see_drop(n, i);
	for (size_t i = 0; i < count && i < ARRAY_LEN(n->seen); i++) {
		const struct probe_status *p = probe_set_at(set, i);
		struct seen_check *seen;

		if (n->seen_count == ARRAY_LEN(n->seen))
			see_drop(n, 0); /* the one seen longest ago */
		seen = &n->seen[n->seen_count++];
		*seen = (struct seen_check){ .runs = p->runs,
					     .failures = p->failures,
					     .at = n->os->clock_real(n->os) };
		STATE_SET(seen->component, component);
		STATE_SET(seen->name, p->check->name);
		STATE_SET(seen->kind, check_kind_name(p->check->kind));
		STATE_SET(seen->state, probe_state_name(p->state));
		STATE_SET(seen->detail, p->detail);
		clean_sentence(seen->detail);
	}
}

void node_see_checks(struct node *n)
{
	const struct node_update *u = &n->state->update;

	/* What is seen before the swap is of the old version, and is not kept. */
	if (u->state != NODE_PROBATION && u->state != NODE_WATCH)
		return;
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part part = update_part(n, i);

		node_see_set(n, part.component, part.checks->set);
	}
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

static int add_once(struct string_list *l, const char *s)
{
	return string_list_has(l, s) ? 0 : string_list_add(l, s);
}

int node_components(struct node *n, struct string_list *ret)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n->state->component_count; i++)
		r = add_once(ret, n->state->components[i]->name);
	for (size_t i = 0; r == 0 && i < n->docs.rollout_count; i++) {
		const struct rollout *rollout = &n->docs.rollouts[i].rollout;

		r = add_once(ret, rollout->component);
		for (size_t k = 0; r == 0 && k < rollout->with_count; k++)
			r = add_once(ret, rollout->with[k].component);
	}
	for (size_t i = 0; r == 0 && i < n->docs.orders.rollback_count; i++)
		r = add_once(ret, n->docs.orders.rollbacks[i].component);
	for (size_t i = 0; r == 0 && i < n->docs.orders.pin_count; i++)
		r = add_once(ret, n->docs.orders.pins[i].component);
	if (r == 0 && ret->count > 1)
		qsort(ret->items, ret->count, sizeof(*ret->items), compare_names);
	return r;
}

/* --- the update under way --- */

bool update_is_active(const struct node *n)
{
	return state_has_update(n->state);
}

enum update_state update_state(const struct node *n)
{
	return update_is_active(n) ? (enum update_state) n->state->update.state : STATE_IDLE;
}

size_t update_part_count(const struct node *n)
{
	return update_is_active(n) ? 1 + n->state->update.with_count : 0;
}

struct part update_part(struct node *n, size_t i)
{
	struct node_update *u = &n->state->update;
	struct attempt *a = &n->attempt;
	struct node_with *w = i > 0 ? &u->with[i - 1] : NULL;
	struct attempt_with *m = i > 0 ? &a->with[i - 1] : NULL;

	return (struct part){
		.component = w ? w->component : u->component,
		.from = w ? w->from : u->from,
		.to = w ? w->to : u->to,
		.release_path = w ? w->release_path : u->release_path,
		.release_sha256 = w ? w->release_sha256 : u->release_sha256,
		.digest = w ? w->digest : u->digest,
		.release = m ? &m->release : &a->release,
		.old = m ? &m->old : &a->old,
		.has_release = m ? &m->has_release : &a->has_release,
		.has_old = m ? &m->has_old : &a->has_old,
		.checks = &a->checks[i],
	};
}

bool update_concerns(const struct node *n, const char *component)
{
	const struct node_update *u = &n->state->update;

	for (size_t i = 0; update_is_active(n) && i < u->with_count; i++)
		if (str_eq(u->with[i].component, component))
			return true;
	return update_is_active(n) && str_eq(u->component, component);
}

void update_blame(struct node *n, const char *component)
{
	STATE_SET(n->state->update.blamed, component);
}

/* What the checks see, and who they are. */
static int begin_context(struct node *n, const struct part *p)
{
	struct part_checks *k = p->checks;
	struct command_context c = { .config = n->config, .component = p->component, .version = p->to };
	struct conf_error error = { "" };
	int r;

	k->root = node_version_root(n, p->component, p->to);
	if (!k->root)
		return -ENOMEM;
	if (asprintf(&k->data, "%s/data/%s", n->config->root, p->component) < 0) {
		k->data = NULL;
		return -ENOMEM;
	}
	r = config_program(n->config, "selfright-probe", &k->helper, &error);
	if (r < 0) {
		log_warning("no-helper", "checks that need it will fail: %s", error.text);
		k->helper = NULL;
	}
	c.root = k->root;
	r = command_environment(&c, &k->environment);
	if (r < 0)
		return r;
	k->context = (struct probe_context){
		.variables = { .vars = &n->config->vars, .node_id = n->config->node, .root = k->root },
		.root = k->root,
		.env = (const char *const *) k->environment.env,
		.user = n->as_root ? config_component_user(n->config, p->component) : NULL,
		.helper = k->helper,
		.data = k->data,
		.since_at = n->state->update.swapped_at,
		.late = n->os->clock_real(n->os) - n->state->update.swapped_at > 60,
	};
	return 0;
}

int part_checks_begin(struct node *n, const struct part *p, enum probe_mode mode)
{
	const struct node_update *u = &n->state->update;
	int r;

	part_checks_done(p->checks);
	r = begin_context(n, p);
	if (r == 0)
		r = probe_set_new(p->release, &p->checks->context, mode, node_now_ms(n), &p->checks->set);
	if (r < 0 || mode == PROBE_BASELINE)
		return r;
	for (size_t i = 0; i < u->baseline_count; i++) {
		const struct node_baseline *b = &u->baseline[i];

		if (!str_eq(b->component, p->component))
			continue;
		if (!b->passed)
			probe_set_was_failing(p->checks->set, b->check);
		probe_set_before(p->checks->set, b->check, b->value);
	}
	for (size_t i = 0; !u->link_before && i < p->release->check_count; i++)
		if (p->release->checks[i].kind == CHECK_LINK)
			probe_set_was_failing(p->checks->set, p->release->checks[i].name);
	return 0;
}

void part_checks_done(struct part_checks *c)
{
	probe_set_free(c->set);
	command_line_done(&c->environment);
	free(c->root);
	free(c->data);
	free(c->helper);
	*c = (struct part_checks){ .set = NULL };
}

/* --- who needs whom --- */

struct needs {
	struct release releases[STATE_COMPONENTS_MAX];
	struct installed list[STATE_COMPONENTS_MAX];
	size_t count;
};

static void needs_free(struct needs *s)
{
	for (size_t i = 0; s && i < s->count; i++)
		release_done(&s->releases[i]);
	free(s);
}
DEFINE_FREEP(struct needs *, needs_free)

/* What runs and what that needs. One whose manifest is not here needs nothing we know of. */
static int needs_load(struct node *n, struct needs **ret)
{
	struct needs *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	for (size_t i = 0; i < n->state->component_count; i++) {
		const struct node_component *c = n->state->components[i];
		struct release *rel = &s->releases[s->count];

		if (!c->version[0])
			continue;
		if (manifest_load(n, c->name, c->version, rel) < 0)
			*rel = (struct release){ 0 };
		s->list[s->count++] = (struct installed){ .component = c->name,
							  .version = c->version,
							  .previous = c->previous,
							  .requires = rel->requires_components,
							  .requires_count = rel->requires_component_count };
	}
	*ret = s;
	return 0;
}

static size_t moves_of(struct node *n, bool back, struct component_move moves[static PARTS_MAX])
{
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		moves[i] = (struct component_move){ p.component, back ? p.from : p.to };
	}
	return update_part_count(n);
}

int update_add_dependants(struct node *n, bool back)
{
	CLEANUP(needs_freep)
	struct needs *s = NULL;
	struct node_update *u = &n->state->update;
	struct component_move moves[PARTS_MAX];
	size_t own = moves_of(n, back, moves), count;
	int r = needs_load(n, &s);

	if (r < 0)
		return r;
	count = dependants_add(s->list, s->count, moves, own, PARTS_MAX);
	for (size_t i = own; i < count; i++) {
		struct node_component *c = state_component(n->state, moves[i].component);
		struct node_with *w;

		if (!c || str_eq(c->name, AGENTS_COMPONENT))
			continue;
		w = &u->with[u->with_count++];
		*w = (struct node_with){ .component = "" };
		c->attempts++;
		STATE_SET(w->component, c->name);
		STATE_SET(w->from, back ? moves[i].to : c->version);
		STATE_SET(w->to, back ? c->version : moves[i].to);
		log_notice("dependant-goes-along", "update=%s component=%s from=%s to=%s", u->id, c->name,
			   c->version, moves[i].to[0] ? moves[i].to : "absent");
	}
	return 0;
}

int update_check_dependants(struct node *n)
{
	CLEANUP(needs_freep)
	struct needs *s = NULL;
	struct component_move moves[PARTS_MAX];
	size_t count = moves_of(n, false, moves);
	int r = needs_load(n, &s);

	if (r < 0)
		return update_fail(n, r, "what the others need could not be read: %s", err_text(r));
	for (size_t i = 0; i < s->count; i++) {
		const struct installed *one = &s->list[i];
		const struct release_requirement *q =
			update_concerns(n, one->component)
				? NULL
				: requirement_broken(s->list, s->count, one, moves, count);

		for (size_t k = 0; q && k < count; k++)
			if (str_eq(moves[k].component, q->component))
				return update_fail_as(n, RESULT_REQUIREMENT_MISSING, -ERR_REFUSED,
						      "%s %s, which runs here, needs %s %s; it would be %s",
						      one->component, one->version, q->component, q->range,
						      moves[k].to[0] ? moves[k].to : "absent");
	}
	return 0;
}

static bool overlaps(const struct data_set *set, const struct data_item *item)
{
	size_t len = strlen(item->path);

	for (size_t i = 0; i < set->item_count; i++) {
		const char *other = set->items[i].path;
		size_t n = strlen(other) < len ? strlen(other) : len;

		if (str_eq(set->items[i].component, item->component) && strncmp(other, item->path, n) == 0 &&
		    (other[n] == '\0' || other[n] == '/') && (item->path[n] == '\0' || item->path[n] == '/'))
			return true;
	}
	return false;
}

bool update_data(struct node *n, struct data_set *ret, char name[static DATA_NAME_SIZE])
{
	const struct node_update *u = &n->state->update;

	*ret = (struct data_set){ .at = node_now(n) };
	/* What is put back with the swap must come again if that fails, whatever it was declared as. */
	if (u->data_from[0]) {
		free(n->attempt.data_text);
		n->attempt.data_text = NULL;
		if (data_items_of(n->os, n->dirs, u->data_from, ret, &n->attempt.data_text) < 0)
			ret->item_count = 0; /* the swap will not find it either, and says so */
		for (size_t i = 0; i < ret->item_count; i++)
			ret->items[i].restore = true;
	}
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		if (!*p.has_release || (p.release->data_count == 0 && !(i == 0 && u->data_from[0])))
			continue;
		for (size_t k = 0; k < p.release->data_count && ret->item_count < DATA_ITEMS_MAX; k++) {
			const struct data_item item = { .component = p.component,
							.path = p.release->data[k].path,
							.restore = p.release->data[k].restore_on_rollback };

			if (!overlaps(ret, &item))
				ret->items[ret->item_count++] = item;
		}
		ret->moves[ret->move_count].component = p.component;
		ret->moves[ret->move_count].from = p.from;
		ret->moves[ret->move_count++].to = p.to;
	}
	(void) snprintf(name, DATA_NAME_SIZE, "%s-%llu", u->component, (unsigned long long) u->attempt);
	return ret->item_count > 0;
}

int update_measure_data(struct node *n, struct data_size *ret)
{
	struct data_set set;
	char name[DATA_NAME_SIZE];
	int r;

	*ret = (struct data_size){ 0 };
	if (!update_data(n, &set, name))
		return 0;
	r = data_measure(n->os, n->dirs, &set, ret);
	if (r == -EXDEV)
		return update_fail_as(
			n, RESULT_NOT_ALLOWED, r,
			"data[] reaches into another file system, from which it could not be put back");
	if (r < 0)
		return update_fail(n, r, "the data of %s that is to be copied could not be looked at: %s",
				   set.items[0].component, err_text(r));
	/* What the version before cannot read is rewritten: then the copy shares nothing for long. */
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		if (*p.has_release && !p.release->data_compatible_back)
			return 0;
	}
	if (data_can_share(n->os, n->dirs))
		ret->bytes = 0;
	return 0;
}

void node_collect_data(struct node *n)
{
	const char *claimed[] = { n->state->update.data_saved, n->state->update.data_from };
	size_t removed = 0;
	int r = data_collect(n->os, n->dirs, node_now(n), claimed, ARRAY_LEN(claimed), &removed);

	if (r < 0)
		log_warning("collect-failed", "old copies of data stay until the next time: %s", err_text(r));
	else if (removed > 0)
		log_info("collected", "copies_of_data=%zu", removed);
}

/* Does what was downloaded still serve somebody: an update that is not unpacked yet, or one that is tried again? */
static bool spool_is_wanted(const struct node *n)
{
	const struct node_update *u = &n->state->update;

	return n->state->retry_count > 0 || u->state == NODE_PLANNED || u->state == NODE_STAGING;
}

void node_collect_spool(struct node *n)
{
	struct name_list names = { 0 };
	int r;

	if (spool_is_wanted(n))
		return;
	r = dir_list(n->os, n->dirs->spool, ".", &names);
	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = tree_remove(n->os, n->dirs->spool, names.names[i]);
	name_list_done(&names);
	if (r < 0)
		log_warning("spool-not-cleaned", "old downloads take up space until the next time: %s",
			    err_text(r));
}

void node_collect(struct node *n, uint64_t generation)
{
	struct collect_options o = {
		.keep_versions = n->config->keep_versions,
		.generations = &generation,
		.generation_count = generation ? 1 : 0,
	};
	struct generation_entry running = { .component = AGENTS_COMPONENT };
	struct collect_result done = { 0 };
	int r;

	/* We may have been started from a version that nothing else keeps. */
	STATE_SET(running.version, n->supervisor.running);
	o.claimed = &running;
	o.claimed_count = running.version[0] ? 1 : 0;
	r = collect(n->store, &o, &done);
	if (r < 0)
		log_warning("collect-failed", "old versions stay until the next time: %s", err_text(r));
	else if (done.versions + done.generations > 0)
		log_info("collected", "versions=%zu generations=%zu", done.versions, done.generations);
	manifest_collect(n);
	node_collect_data(n);
	node_collect_spool(n);
}

/* What programs print may be anything; a report is clean UTF-8. */
static void clean_text(char *text)
{
	for (unsigned char *p = (unsigned char *) text; *p; p++)
		if ((*p < 0x20 && *p != '\n' && *p != '\t') || *p >= 0x7f)
			*p = '?';
}

/* One line, without a blank at its end. */
static void clean_sentence(char *text)
{
	size_t len;

	clean_text(text);
	for (char *p = text; *p; p++)
		if (*p == '\n' || *p == '\t')
			*p = ' ';
	for (len = strlen(text); len > 0 && text[len - 1] == ' '; len--)
		text[len - 1] = '\0';
}

static int fail(struct node *n, enum result number, int r, const char *fmt, va_list ap) PRINTF_LIKE(4, 0);
static int fail(struct node *n, enum result number, int r, const char *fmt, va_list ap)
{
	struct node_update *u = &n->state->update;
	char sentence[STATE_DETAIL_SIZE], quoted[2 * STATE_DETAIL_SIZE];

	(void) vsnprintf(sentence, sizeof(sentence), fmt, ap); /* a longer one is cut */
	clean_sentence(sentence);
	/* The first failure is the reason; what goes wrong while cleaning up after it is not. */
	if (u->result == 0) {
		u->result = number;
		STATE_SET(u->detail, sentence);
	}
	log_warning("update-failed", "update=%s state=%s number=%d error=%s detail=%s", u->id,
		    node_update_state_name(u->state), number, err_name(r),
		    log_quote(quoted, sizeof(quoted), sentence));
	return r;
}

int update_fail(struct node *n, int r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	r = fail(n, catalogue_from_error(r), r, fmt, ap);
	va_end(ap);
	return r;
}

int update_fail_as(struct node *n, enum result number, int r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	r = fail(n, number, r, fmt, ap);
	va_end(ap);
	return r;
}

/*
 * An end that was interrupted before the state was saved is run again, and its lines are there
 * already: no other update was in between, so they are the newest.
 */
static bool is_in_history(struct node *n, const struct node_result *r)
{
	CLEANUP(buf_done)
	struct buf lines = BUF_INIT((ROLLOUT_WITH_MAX + 1) * (STORE_HISTORY_LINE_MAX + 1));
	char *line, *rest = NULL;

	if (store_history_read(n->store, ROLLOUT_WITH_MAX + 1, &lines) < 0 || lines.len == 0)
		return false;
	for (line = strtok_r((char *) lines.data, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		CLEANUP(json_freep)
		struct json *entry = NULL;

		if (json_parse(line, strlen(line), &json_limits_default, &entry) == 0 &&
		    str_eq(json_string(json_get(entry, "update")), r->update) &&
		    str_eq(json_string(json_get(entry, "component")), r->component))
			return true;
	}
	return false;
}

static bool is_by_order(const struct node *n)
{
	return n->state->update.cause == NODE_CAUSE_ORDER_ROLLBACK ||
	       n->state->update.cause == NODE_CAUSE_ORDER_PIN;
}

static void add_history(struct node *n, const struct node_result *r, const struct catalogue_row *row)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf line = BUF_INIT(HISTORY_LINE_MAX);
	struct json_node *o = json_build_root(b);
	char at[TIMESTAMP_LEN + 1];
	int e;

	if (is_in_history(n, r))
		return;
	timestamp_format(at, r->at);
	node_string(o, "at", at);
	node_string(o, "component", r->component);
	node_string(o, "from", r->from[0] ? r->from : NULL);
	node_string(o, "to", r->to[0] ? r->to : NULL);
	node_string(o, "name", row ? row->name : "unknown");
	node_string(o, "class", result_class_name(r->network ? CLASS_NETWORK : row ? row->class : CLASS_NONE));
	node_string(o, "detail", r->detail);
	node_string(o, "rollout", r->rollout[0] ? r->rollout : NULL);
	node_string(o, "stage", r->stage[0] ? r->stage : NULL);
	/* An order's update is named by it. */
	node_string(o, "order", is_by_order(n) ? n->state->update.source : NULL);
	node_string(o, "update", r->update);
	node_integer(o, "duration_ms", (int64_t) r->duration_ms);
	node_integer(o, "pause_ms", (int64_t) r->pause_ms);
	e = json_build_text(b, false, &line);
	if (e == 0)
		e = store_history_append(n->store, buf_str(&line));
	if (e < 0)
		log_warning("history-not-written", "update=%s reason=%s", r->update, err_text(e));
}

/* For whoever waits for an installation from a bundle. */
static void count_ending(struct node *n, const struct node_result *result, const struct catalogue_row *row)
{
	struct installation *i = &n->installation;
	size_t len = strlen(i->sentence);

	if (!n->bundle)
		return;
	switch (n->state->update.state) {
	case NODE_GOOD:
		i->good++;
		break;
	case NODE_ROLLED_BACK:
		i->undone++;
		break;
	default:
		i->failed++;
		break;
	}
	(void) snprintf(i->sentence + len, sizeof(i->sentence) - len, "%s%s %s -> %s: %s (%s)", len ? "; " : "",
			result->component, result->from[0] ? result->from : "absent",
			result->to[0] ? result->to : "absent", row ? row->name : "unknown",
			result->detail); /* what does not fit is in the history */
}

static bool has_result(const struct node *n, const char *update)
{
	for (size_t i = 0; i < n->state->result_count; i++)
		if (str_eq(n->state->results[i]->update, update))
			return true;
	return false;
}

/* One component's; run again after a failure it adds nothing twice. */
static int end_part(struct node *n, const struct part *p, const char *update, enum result number,
		    const char *detail)
{
	const struct catalogue_row *row = catalogue_find(number);
	struct node_update *u = &n->state->update;
	struct node_result *result = calloc(1, sizeof(*result));
	char quoted[1200];
	uint64_t now_ms = node_now_ms(n);
	int r;

	if (!result)
		return -ENOMEM;
	STATE_SET(result->update, update);
	STATE_SET(result->component, p->component);
	STATE_SET(result->from, p->from);
	STATE_SET(result->to, p->to);
	STATE_SET(result->rollout, u->rollout);
	STATE_SET(result->stage, u->stage);
	result->seq = u->seq;
	STATE_SET(result->release_sha256, p->release_sha256);
	result->number = number;
	STATE_SET(result->detail, detail && detail[0] ? detail : row ? row->sentence : "");
	STATE_SET(result->log_tail, buf_str(&n->attempt.log_tail));
	clean_sentence(result->detail);
	clean_text(result->log_tail);
	result->at = n->os->clock_real(n->os);
	result->duration_ms = now_ms > n->attempt.started_ms ? now_ms - n->attempt.started_ms : 0;
	result->pause_ms = u->pause_ms;
	result->network = u->network && number == RESULT_GOOD_UNPROVEN;
	r = state_result_add(n->state, result);
	if (r > 0)
		log_warning("result-dropped",
			    "more results wait for the controller than are kept; the oldest is gone");
	if (r >= 0) {
		add_history(n, result, row);
		log_notice("update-ended",
			   "update=%s component=%s from=%s to=%s result=%s class=%s ms=%llu detail=%s", update,
			   p->component, p->from[0] ? p->from : "absent", p->to[0] ? p->to : "absent",
			   row ? row->name : "unknown", result_class_name(row ? row->class : CLASS_NONE),
			   (unsigned long long) result->duration_ms,
			   log_quote(quoted, sizeof(quoted), result->detail));
	}
	if (r >= 0)
		count_ending(n, result, row);
	free(result);
	return r < 0 ? r : 0;
}

/* What an order came to is kept beside it: it is said as long as the order is listed. */
static void end_order(struct node *n, enum result number, const char *detail)
{
	const struct node_update *u = &n->state->update;
	const struct catalogue_row *row = catalogue_find(number);
	struct node_order done = { .result = number, .at = n->os->clock_real(n->os) };

	if (!is_by_order(n))
		return;
	STATE_SET(done.id, u->source);
	STATE_SET(done.component, u->component);
	STATE_SET(done.detail, detail && detail[0] ? detail : row ? row->sentence : "");
	clean_sentence(done.detail);
	state_order_add(n->state, &done);
}

int update_end(struct node *n, enum result number, const char *detail)
{
	const struct node_update *u = &n->state->update;
	int r = 0;

	n->report_wanted = true;
	for (size_t i = 0; r == 0 && i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);
		const struct node_component *c = state_component(n->state, p.component);
		char id[STATE_UPDATE_SIZE];

		if (i == 0)
			(void) snprintf(id, sizeof(id), "%s", u->id);
		else
			(void) snprintf(id, sizeof(id), "%s/%s/%llu", u->source, p.component,
					(unsigned long long) (c ? c->attempts : u->attempt));
		if (!has_result(n, id))
			r = end_part(n, &p, id, number, detail);
	}
	if (r == 0)
		end_order(n, number, detail);
	return r;
}

/* FNV-1a: only to tell sentences apart that were told already. */
static uint32_t hash_text(uint32_t hash, const char *text)
{
	for (const char *p = text ? text : ""; *p; p++)
		hash = (hash ^ (uint8_t) *p) * 16777619u;
	return (hash ^ 0xff) * 16777619u;
}

static size_t waiting_notes(const struct node *n)
{
	size_t count = 0;

	for (size_t i = 0; i < n->state->result_count; i++)
		count += str_starts(n->state->results[i]->update, NOTE_PREFIX);
	return count;
}

int update_note(struct node *n, enum result number, const char *component, const char *rollout, const char *detail)
{
	const char *about = component && guard_id(component) ? component : "agent";
	uint32_t hash = hash_text(hash_text(hash_text(2166136261u, about), rollout), detail);
	struct node_result *result;
	int r;

	for (size_t i = 0; i < NOTED_MAX; i++)
		if (n->noted[i] == hash)
			return 0;
	/* What any carrier can cause must not push out what happened here and is not acknowledged yet. */
	if (!component && waiting_notes(n) >= NOTES_WAITING_MAX)
		return 0;
	result = calloc(1, sizeof(*result));
	if (!result)
		return -ENOMEM;
	/* Not the rollout's own id: an update of it may get this very number. */
	(void) snprintf(result->update, sizeof(result->update), NOTE_PREFIX "%08x/%s/%llu", hash, about,
			(unsigned long long) n->state->report_sequence + 1);
	STATE_SET(result->component, about);
	STATE_SET(result->rollout, rollout);
	STATE_SET(result->detail, detail);
	clean_sentence(result->detail);
	result->number = number;
	result->at = n->os->clock_real(n->os);
	r = state_result_add(n->state, result);
	free(result);
	if (r < 0)
		return r;
	memmove(n->noted, n->noted + 1, sizeof(n->noted) - sizeof(n->noted[0]));
	n->noted[NOTED_MAX - 1] = hash;
	n->report_wanted = true;
	return 0;
}

static int load_part(struct node *n, const struct part *p)
{
	int r;

	if (!*p->has_release && p->to[0]) {
		r = manifest_load(n, p->component, p->to, p->release);
		if (r < 0)
			return r;
		*p->has_release = true;
	}
	if (!*p->has_old && p->from[0]) {
		r = manifest_load(n, p->component, p->from, p->old);
		if (r < 0)
			return r;
		*p->has_old = true;
	}
	return 0;
}

int attempt_load(struct node *n)
{
	int failed = 0;

	/* One that is missing does not keep the others from being read. */
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);
		int r = load_part(n, &p);

		if (r < 0 && failed == 0)
			failed = r;
	}
	return failed;
}

void attempt_init(struct attempt *a)
{
	*a = (struct attempt){
		.stage_fd = -1,
		.stage_line = BUF_INIT(4096),
		.command = COMMAND_INIT,
		.witness = COMMAND_INIT,
		.log_tail = BUF_INIT(STATE_LOG_TAIL_SIZE - 1),
		.wake_ms = UINT64_MAX,
	};
}

void attempt_done(struct attempt *a)
{
	if (a->has_release)
		release_done(&a->release);
	if (a->has_old)
		release_done(&a->old);
	if (a->stage.pid)
		process_end(&a->stage, 0);
	if (a->stage_fd >= 0)
		close(a->stage_fd);
	buf_done(&a->stage_line);
	command_done(&a->command);
	data_save_free(a->data);
	free(a->data_text);
	for (size_t i = 0; i < ARRAY_LEN(a->with); i++) {
		if (a->with[i].has_release)
			release_done(&a->with[i].release);
		if (a->with[i].has_old)
			release_done(&a->with[i].old);
	}
	for (size_t i = 0; i < ARRAY_LEN(a->checks); i++)
		part_checks_done(&a->checks[i]);
	command_done(&a->witness);
	buf_done(&a->log_tail);
	attempt_init(a);
}

void update_event(struct node *n)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(EVENT_MAX);
	const struct node_update *u = &n->state->update;
	struct event e = { .at = n->os->clock_real(n->os) };

	(void) snprintf(e.node, sizeof(e.node), "%s", n->config->node);
	(void) snprintf(e.update, sizeof(e.update), "%s", u->id);
	(void) snprintf(e.component, sizeof(e.component), "%s", u->component);
	(void) snprintf(e.state, sizeof(e.state), "%s", node_update_state_name(u->state));
	(void) snprintf(e.version, sizeof(e.version), "%s", u->to);
	(void) snprintf(e.detail, sizeof(e.detail), "%.*s", (int) sizeof(e.detail) - 1, u->detail);
	e.bytes_done = n->attempt.bytes_done;
	e.bytes_total = n->attempt.bytes_total;
	event_write(&e, json_build_root(b));
	if (json_build_text(b, false, &text) == 0)
		node_link_send(n, LINK_EVENT, 0, text.data, text.len);
}

static bool is_empty(struct node *n, const char *component)
{
	struct name_list names = { 0 };
	bool empty = dir_list(n->os, n->dirs->data, component, &names) == 0 && names.count == 0;

	name_list_done(&names);
	return empty;
}

static int make_data_dir(struct node *n, const char *component)
{
	const char *user = config_component_user(n->config, component);
	struct stat st;
	uid_t uid;
	gid_t gid;
	int r = n->os->fstatat(n->os, n->dirs->data, component, &st);

	if (r < 0 && r != -ENOENT)
		return r;
	/* What a component keeps there is its own, whatever the owner became; an empty one of ours was not given away. */
	if (r == 0 && (!n->as_root || !S_ISDIR(st.st_mode) || st.st_uid != 0 || !is_empty(n, component)))
		return 0;
	if (r < 0)
		r = durable_mkdir(n->os, n->dirs->data, component, 0750);
	if (r < 0 || !n->as_root)
		return r;
	r = process_find_user(user, &uid, &gid);
	if (r < 0)
		return r == -ENOENT ? -ERR_CONFIG : r;
	return n->os->fchownat(n->os, n->dirs->data, component, uid, gid);
}

int node_prepare_component(struct node *n, const char *component)
{
	return make_data_dir(n, component);
}

int hook_begin(struct node *n, const struct release *release, const struct release_command *hook, const char *root)
{
	struct command_context c = {
		.config = n->config,
		.component = release->component,
		.version = release->version,
		.root = root,
	};
	struct command_line line = { 0 };
	int r = make_data_dir(n, release->component);

	if (r < 0)
		return r;
	r = command_expand(&c, hook, &line);
	if (r < 0)
		return r;
	command_done(&n->attempt.command);
	r = command_start(&line, hook->timeout_s, node_now_ms(n), &n->attempt.command);
	command_line_done(&line);
	return r;
}
