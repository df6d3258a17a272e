/*
 * verify - what the trusted metadata says, as documents one can decide by.
 *
 * Every document is a TUF target; here they are read, held against each other
 * (DESIGN.md section 4 "Agreement") and against the approvals the policies ask for.
 * Either all of it becomes the new truth or the last one stays.
 */
#include "agent/phase/node.h"
#include "agent/phase/outcome.h"
#include "agent/phase/phase.h"
#include "agent/phase/turn.h"
#include "agent/store/agents.h"
#include "base/err.h"
#include "base/log.h"
#include "crypto/digest.h"
#include "json/build.h"
#include "json/json.h"
#include "model/approval.h"
#include "os/durable.h"
#include "zone/zone.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DOCUMENTS_MAX = 256, KEYS_BYTES_MAX = 1024 * 1024 };

struct reading {
	struct node *n;
	struct documents docs;
	struct string_list used; /* names in documents/ */
	bool authentic; /* the document read last is what its role signed, or signed to be too large */
	char error[512];
	int withheld; /* why a file of some team is not here; 0: all are */
	char withheld_text[512];
};

static int fail(struct reading *v, int r, const char *fmt, ...) PRINTF_LIKE(3, 4);
static int fail(struct reading *v, int r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(v->error, sizeof(v->error), fmt, ap); /* a longer sentence is cut */
	va_end(ap);
	return r;
}

/* --- reading --- */

static void keep(struct reading *v, const char *hex, const struct buf *bytes)
{
	struct node *n = v->n;
	int fd;

	(void) !string_list_add(&v->used, hex); /* a forgotten name is fetched again some day */
	fd = n->os->openat(n->os, n->documents_fd, hex, O_WRONLY | O_CREAT | O_EXCL, 0644);
	if (fd < 0)
		return; /* it is there, or there is no room: a cache, not a promise */
	if (file_write_all(n->os, fd, bytes->data, bytes->len) < 0)
		(void) n->os->unlinkat(n->os, n->documents_fd, hex, 0); /* half a file fails its digest */
	(void) n->os->close(n->os, fd); /* whatever reached the disk is verified again when read */
}

/* Said by a team's own metadata, not by the road it came on: bytes that are not the signed ones are the road's. */
static bool is_its_signers(int r)
{
	return r == -ERR_EXPIRED || (err_class(r) == ERR_CLASS_PERMANENT && r <= -ERR_SYNTAX && r != -ERR_DIGEST &&
				     r != -ERR_LENGTH && r != -ERR_TOO_LARGE && r != -ERR_PROTOCOL);
}

/* Of the road, or of bytes it garbled: another time, or another road, may bring what is signed. */
static bool is_the_roads(int r)
{
	return r == -ENOENT || (r <= -ERR_SYNTAX && !is_its_signers(r));
}

/* One team's file that does not come holds up that team, and nobody else: the others, and orders, go on. */
static void withhold(struct reading *v, const char *component, int r)
{
	if (v->withheld == 0) {
		v->withheld = r;
		(void) snprintf(v->withheld_text, sizeof(v->withheld_text), "%s", v->error);
	}
	log_warning("withheld", "component=%s error=%s detail=%s", component, err_name(r), v->error);
}

/* The target's bytes as a parsed document. -ERR_NOT_LISTED: there is none. */
static int read_document(struct reading *v, const char *path, uint64_t max, struct json **ret,
			 struct tuf_target *ret_target)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT((size_t) max);
	struct json_limits limits = json_limits_default;
	struct tuf_target t = { 0 };
	char hex[SHA256_HEX + 1];
	int r;

	v->authentic = false;
	r = tuf_client_find(v->n->tuf, &v->n->fetcher, path, &t);
	if (r == -ERR_NOT_LISTED)
		return r;
	if (r < 0)
		return fail(v, r, "%s", tuf_client_error(v->n->tuf));
	v->authentic = t.length > max;
	hex_encode(hex, t.sha256, SHA256_BYTES);
	r = tuf_client_read(v->n->tuf, &v->n->fetcher, path, max, &bytes, &t);
	if (r < 0 && v->n->os->unlinkat(v->n->os, v->n->documents_fd, hex, 0) == 0) {
		/* Our own copy was damaged; the origin has another. */
		buf_clear(&bytes);
		r = tuf_client_read(v->n->tuf, &v->n->fetcher, path, max, &bytes, &t);
	}
	if (r < 0)
		return fail(v, r, "%s: %s", path, err_text(r));
	v->authentic = true;
	limits.max_bytes = (size_t) max;
	r = json_parse(bytes.data, bytes.len, &limits, ret);
	if (r < 0)
		return fail(v, r, "%s is malformed: %s", path, err_text(r));
	keep(v, hex, &bytes);
	if (ret_target)
		*ret_target = t;
	return 0;
}

static int read_index(struct reading *v)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	char *error = NULL;
	int r = read_document(v, "rollouts/index.json", INDEX_MAX_BYTES, &doc, NULL);

	if (r == -ERR_NOT_LISTED)
		return 0; /* a young fleet */
	if (r < 0)
		return r;
	r = index_parse(doc, &v->docs.index, &error);
	if (r < 0)
		r = fail(v, r, "rollouts/index.json: %s", error ? error : err_text(r));
	free(error);
	return r;
}

static int read_orders(struct reading *v)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	char path[ID_MAX + 32];
	char *error = NULL;
	int r;

	(void) snprintf(path, sizeof(path), "nodes/%s.json", v->n->config->node);
	r = read_document(v, path, ORDER_MAX_BYTES, &doc, NULL);
	if (r == -ERR_NOT_LISTED)
		return 0;
	if (r < 0)
		return r;
	r = orders_parse(doc, v->n->config->node, &v->docs.orders, &error);
	if (r < 0)
		r = fail(v, r, "%s: %s", path, error ? error : err_text(r));
	free(error);
	return r;
}

static int read_labels(struct reading *v)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct labels inventory = { 0 };
	char path[ID_MAX + 32];
	char *error = NULL;
	int r = labels_copy(&v->n->config->labels, &v->docs.labels);

	if (r < 0)
		return r;
	(void) snprintf(path, sizeof(path), "inventory/%s.json", v->n->config->node);
	r = read_document(v, path, ORDER_MAX_BYTES, &doc, NULL);
	if (r == -ERR_NOT_LISTED)
		return 0;
	if (r < 0)
		return r;
	r = inventory_parse(doc, &inventory, &error);
	if (r < 0)
		r = fail(v, r, "%s: %s", path, error ? error : err_text(r));
	else
		r = labels_overlay(&inventory, &v->docs.labels);
	labels_done(&inventory);
	free(error);
	return r;
}

/* Windows are read in the node's own time. A zone that is not known here keeps them closed, nothing else. */
static void load_zone(struct reading *v)
{
	struct documents *d = &v->docs;
	const char *name = labels_get(&d->labels, "zone");

	if (!name || strlen(name) >= sizeof(d->zone_name))
		name = name ? "too long" : "UTC";
	(void) snprintf(d->zone_name, sizeof(d->zone_name), "%s", name);
	d->zone_error = zone_load(v->n->os, name, &d->zone);
	if (zone_edition(v->n->os, d->zone_edition, &d->zone_published) < 0)
		d->zone_edition[0] = '\0';
	if (d->zone_error == 0)
		return;
	d->zone = NULL;
	if (!v->n->docs.loaded || !str_eq(v->n->docs.zone_name, name))
		log_warning("zone-unknown", "rollouts with a window wait: zone=%s reason=%s", name,
			    err_text(d->zone_error));
}

/* Once per edition: windows may open at the wrong hour where a country changed its rules since. */
static void tell_zone(struct node *n)
{
	if (!node_zone_is_stale(n) || str_eq(n->zone_told, n->docs.zone_edition))
		return;
	STATE_SET(n->zone_told, n->docs.zone_edition);
	log_warning("zone-data-old",
		    "windows are read by it all the same; update tzdata: zone=%s edition=%s months=%u",
		    n->docs.zone_name, n->docs.zone_edition, n->config->zone_data_months);
}

/* --- rollouts --- */

static int set_trouble(struct known_rollout *k, int r, const char *fmt, ...) PRINTF_LIKE(3, 4);
static int set_trouble(struct known_rollout *k, int r, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (k->error)
		return 0; /* the first reason is enough */
	va_start(ap, fmt);
	n = vasprintf(&k->trouble, fmt, ap);
	va_end(ap);
	if (n < 0) {
		k->trouble = NULL;
		return -ENOMEM;
	}
	k->error = r;
	log_warning("rollout-refused", "rollout=%s error=%s detail=%s", k->rollout.id, err_name(r), k->trouble);
	return 0;
}

static bool entry_agrees(const struct index_entry *e, const struct rollout *r)
{
	if (!str_eq(e->id, r->id) || e->seq != r->seq || !string_list_has(&e->components, r->component))
		return false;
	for (size_t i = 0; i < r->with_count; i++)
		if (!string_list_has(&e->components, r->with[i].component))
			return false;
	return e->components.count == 1 + r->with_count;
}

/* What its team signed was checked when it was there. */
static bool was_the_same(const struct node *n, const struct known_rollout *k, const char *component,
			 const struct release_ref *ref)
{
	for (size_t i = 0; i < n->docs.rollout_count; i++) {
		const struct known_rollout *before = &n->docs.rollouts[i];
		const struct release_ref *had = rollout_release(&before->rollout, component);

		if (before->error == 0 && !before->withheld && had && str_eq(before->rollout.id, k->rollout.id) &&
		    str_eq(had->path, ref->path) && memcmp(had->sha256, ref->sha256, SHA256_BYTES) == 0)
			return true;
	}
	return false;
}

/* Does the release belong to the component, and is it the one its team signed? */
static int check_release(struct reading *v, struct known_rollout *k, const char *component,
			 const struct release_ref *ref)
{
	struct tuf_target t = { 0 };
	char path[2 * VERSION_MAX + ID_MAX + 32];
	int r;

	(void) snprintf(path, sizeof(path), "%s/%s/release.json", component, ref->version);
	if (!str_eq(ref->path, path) || (ref->component && !str_eq(ref->component, component)))
		return set_trouble(k, -ERR_DISAGREE, "rollout %s is for %s but names %s", k->rollout.id, component,
				   ref->path);
	r = tuf_client_find(v->n->tuf, &v->n->fetcher, path, &t);
	if (r == -ERR_NOT_LISTED)
		return set_trouble(k, r, "%s is listed by no trusted team", path);
	if (is_its_signers(r) || r == -ERR_DIGEST || r == -ERR_LENGTH)
		return set_trouble(k, r, "%s", tuf_client_error(v->n->tuf));
	if (is_the_roads(r)) {
		(void) fail(v, r, "%s", tuf_client_error(v->n->tuf));
		withhold(v, component, r);
		k->withheld = k->withheld || !was_the_same(v->n, k, component, ref);
		return 0;
	}
	if (r < 0)
		return fail(v, r, "%s", tuf_client_error(v->n->tuf));
	if (!t.has_sha256 || memcmp(t.sha256, ref->sha256, SHA256_BYTES) != 0)
		return set_trouble(k, -ERR_DISAGREE, "rollout %s names another %s than its team signed",
				   k->rollout.id, path);
	return 0;
}

static int check_releases(struct reading *v, struct known_rollout *k)
{
	int r = check_release(v, k, k->rollout.component, &k->rollout.release);

	for (size_t i = 0; r == 0 && i < k->rollout.with_count; i++)
		r = check_release(v, k, k->rollout.with[i].component, &k->rollout.with[i]);
	return r;
}

/* What this agent cannot judge it must not pass over in silence. */
static int check_understood(struct known_rollout *k)
{
	char error[160] = "";
	int r;

	if (k->rollout.with_count > STATE_WITH_MAX)
		return set_trouble(k, -ERR_AGENT_TOO_OLD, "rollout %s swaps more than %d components together",
				   k->rollout.id, PARTS_MAX);
	/* What would judge the others is what is exchanged. */
	for (size_t i = 0; i < k->rollout.with_count; i++)
		if (str_eq(k->rollout.component, "agent") || str_eq(k->rollout.with[i].component, "agent"))
			return set_trouble(k, -ERR_REFUSED,
					   "rollout %s swaps the agent together with others; it is updated alone",
					   k->rollout.id);
	r = opening_parse(k->rollout.window, k->rollout.blackout, &k->opening, error, sizeof(error));
	if (r < 0)
		return set_trouble(k, r, "rollout %s: %s", k->rollout.id, error);
	if (k->rollout.stage_count > STAGES_MAX)
		return set_trouble(k, -ERR_AGENT_TOO_OLD, "rollout %s has more than %d stages", k->rollout.id,
				   STAGES_MAX);
	return 0;
}

static int make_share(struct node *n, struct known_rollout *k)
{
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(2 * ID_MAX + 2);
	uint8_t digest[SHA256_BYTES];
	int r = buf_add(&b, k->rollout.id, strlen(k->rollout.id) + 1);

	if (r == 0)
		r = buf_add_str(&b, n->config->node);
	if (r == 0)
		r = sha256_of(b.data, b.len, digest);
	if (r == 0)
		k->share = share_of_digest(digest);
	return r;
}

/* What this node has done about a rollout already does not begin again with every refresh. */
static void remember(const struct node *n, struct known_rollout *k)
{
	turn_notice(n, k);
	for (size_t i = 0; i < n->docs.rollout_count; i++) {
		const struct known_rollout *before = &n->docs.rollouts[i];

		if (!str_eq(before->rollout.id, k->rollout.id))
			continue;
		k->notice_ms = before->notice_ms;
		k->spread_ms = before->spread_ms;
		k->spread_stage = before->spread_stage;
		k->notified = before->notified;
		memcpy(k->needs_component, before->needs_component, sizeof(k->needs_component));
		memcpy(k->needs_from, before->needs_from, sizeof(k->needs_from));
	}
}

static int read_rollout(struct reading *v, const struct index_entry *e)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct known_rollout *k = &v->docs.rollouts[v->docs.rollout_count];
	struct tuf_target t = { 0 };
	char path[ID_MAX + 32];
	char *error = NULL;
	int r;

	(void) snprintf(path, sizeof(path), "rollouts/%s.json", e->id);
	if (!str_eq(e->path, path))
		return fail(v, -ERR_DISAGREE, "rollouts/index.json names %s for rollout %s", e->path, e->id);
	r = read_document(v, path, ROLLOUT_MAX_BYTES, &doc, &t);
	if (r < 0)
		return r == -ERR_NOT_LISTED ? fail(v, r, "%s is in the index but not listed", path) : r;
	r = rollout_parse(doc, &k->rollout, &error);
	if (r < 0) {
		/* One bad document must not keep the others from this node. */
		log_warning("rollout-refused", "rollout=%s error=%s detail=%s", e->id, err_name(r),
			    error ? error : err_text(r));
		r = update_note(v->n, catalogue_from_error(r), e->components.count ? e->components.items[0] : NULL,
				e->id, error ? error : err_text(r));
		free(error);
		return r;
	}
	v->docs.rollout_count++;
	hex_encode(k->sha256, t.sha256, SHA256_BYTES);
	remember(v->n, k);
	if (!entry_agrees(e, &k->rollout))
		r = set_trouble(k, -ERR_DISAGREE, "rollouts/index.json and %s disagree", path);
	if (r == 0)
		r = check_understood(k);
	if (r == 0)
		r = check_releases(v, k);
	return r < 0 ? r : make_share(v->n, k);
}

static int read_rollouts(struct reading *v)
{
	v->docs.rollouts = calloc(v->docs.index.entry_count + 1, sizeof(*v->docs.rollouts));
	if (!v->docs.rollouts)
		return -ENOMEM;
	for (size_t i = 0; i < v->docs.index.entry_count; i++) {
		int r = read_rollout(v, &v->docs.index.entries[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

/* --- policies and approvals --- */

static int read_policy(struct reading *v, const char *component)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct known_policy *p, *longer;
	struct tuf_target t = { 0 };
	char path[ID_MAX + 32];
	char *error = NULL;
	int r;

	if (documents_policy(&v->docs, component))
		return 0;
	longer = realloc(v->docs.policies, (v->docs.policy_count + 1) * sizeof(*longer));
	if (!longer)
		return -ENOMEM;
	v->docs.policies = longer;
	p = &longer[v->docs.policy_count++];
	*p = (struct known_policy){ 0 };
	(void) snprintf(p->component, sizeof(p->component), "%s", component);
	(void) snprintf(path, sizeof(path), "%s/policy.json", component);
	r = read_document(v, path, POLICY_MAX_BYTES, &doc, &t);
	if (r == -ERR_NOT_LISTED)
		return 0;
	if (r < 0 && (v->authentic || is_its_signers(r)) && r != -ENOMEM) {
		/* Its rollouts are in the same trouble; other teams', and orders, are not. */
		p->broken = true;
		log_warning("policy-refused", "component=%s error=%s detail=%s", component, err_name(r), v->error);
		return update_note(v->n, catalogue_from_error(r), component, NULL, v->error);
	}
	if (is_the_roads(r)) {
		p->broken = p->withheld = true;
		withhold(v, component, r);
		return 0;
	}
	if (r < 0)
		return r;
	(void) snprintf(p->role, sizeof(p->role), "%s", t.role);
	r = policy_parse(doc, &p->policy, &error);
	if (r == -ENOMEM) {
		free(error);
		return r;
	}
	if (r < 0) {
		log_warning("policy-refused", "component=%s error=%s detail=%s", component, err_name(r),
			    error ? error : err_text(r));
		p->broken = true;
		r = update_note(v->n, catalogue_from_error(r), component, NULL, error ? error : err_text(r));
	} else {
		p->present = true;
	}
	free(error);
	return r;
}

static int read_policies(struct reading *v)
{
	/* The agent's also where it came as a package: it says which roots are lost. */
	int r = read_policy(v, AGENTS_COMPONENT);

	for (size_t i = 0; r == 0 && i < v->docs.rollout_count; i++) {
		const struct rollout *rollout = &v->docs.rollouts[i].rollout;

		r = read_policy(v, rollout->component);
		for (size_t k = 0; r == 0 && k < rollout->with_count; k++)
			r = read_policy(v, rollout->with[k].component);
	}
	for (size_t i = 0; r == 0 && i < v->n->state->component_count; i++)
		r = read_policy(v, v->n->state->components[i]->name);
	for (size_t i = 0; r == 0 && i < v->docs.orders.rollback_count; i++)
		r = read_policy(v, v->docs.orders.rollbacks[i].component);
	return r;
}

/* The ring of an approver: the role that lists the policy, or one that targets name. -ENOENT: nobody of that name. */
static int approver_ring(struct node *n, const struct known_policy *p, const char *approver,
			 struct tuf_keyring **ret)
{
	const struct json *targets = tuf_client_targets_signed(n->tuf);
	const struct json *delegations = json_get(targets, "delegations"), *roles = json_get(delegations, "roles");
	const struct json *named = json_get(json_get(json_get(targets, "x-selfright"), "approvers"), approver);

	if (!str_eq(approver, "team"))
		return named ? tuf_keyring_load(named, ret) : -ENOENT;
	for (size_t i = 0; i < json_count(roles); i++) {
		const struct json *role = json_at(roles, i);
		CLEANUP(json_build_freep)
		struct json_build *b = NULL;
		CLEANUP(buf_done)
		struct buf text = BUF_INIT(KEYS_BYTES_MAX);
		CLEANUP(json_freep)
		struct json *object = NULL;
		int r;

		if (!str_eq(json_string(json_get(role, "name")), p->role))
			continue;
		b = json_build_new();
		node_copy(json_build_root(b), "keys", json_get(delegations, "keys"));
		node_copy(json_build_root(b), "keyids", json_get(role, "keyids"));
		node_copy(json_build_root(b), "threshold", json_get(role, "threshold"));
		r = json_build_text(b, false, &text);
		if (r == 0)
			r = json_parse(text.data, text.len, &json_limits_default, &object);
		return r < 0 ? r : tuf_keyring_load(object, ret);
	}
	return -ENOENT;
}

/* Has this approver signed this stage, in one statement that still holds? */
static int approver_signed(struct reading *v, const struct known_policy *p, const struct approval_rule *rule,
			   const struct rollout *rollout, const struct stage *stage, bool *ret)
{
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	int r = approver_ring(v->n, p, rule->approver, &ring);

	*ret = false;
	if (r == -ENOMEM)
		return r;
	if (r < 0) {
		log_warning("approver-unknown", "component=%s approver=%s reason=%s", p->component, rule->approver,
			    err_text(r));
		return 0;
	}
	for (size_t i = 0; !*ret && i < json_count(stage->approvals) && i < APPROVALS_MAX; i++) {
		CLEANUP(buf_done)
		struct buf statement = BUF_INIT(APPROVAL_STATEMENT_MAX);
		const struct json *entry = json_at(stage->approvals, i);
		struct approval a = { 0 };
		unsigned valid = 0;

		if (approval_parse(entry, &a, NULL) < 0)
			continue;
		if (a.expires > node_now(v->n)) {
			r = approval_statement(v->n->config->fleet, rollout, stage, a.expires, &statement);
			if (r == 0 && tuf_keyring_count(ring, json_get(entry, "signatures"), statement.data,
							statement.len, &valid) == 0)
				*ret = valid >= tuf_keyring_threshold(ring);
		}
		approval_done(&a);
		if (r == -ENOMEM)
			return r;
	}
	return 0;
}

/* Does this component's own policy have all it asks for, of rollouts of this kind? */
static int judge_component(struct reading *v, const struct known_rollout *k, const char *component,
			   enum rollout_kind kind, size_t index, bool *ret)
{
	const struct known_policy *p = documents_policy(&v->docs, component);
	const struct approval_rule *rule = NULL;
	int r = 0;

	*ret = !(p && p->broken);
	while (r == 0 && *ret && p && p->present &&
	       (rule = approval_rule_next(&p->policy, kind, &v->n->config->labels, rule)))
		r = approver_signed(v, p, rule, &k->rollout, &k->rollout.stages[index], ret);
	return r;
}

static int judge_components(struct reading *v, const struct known_rollout *k, enum rollout_kind kind, size_t index,
			    bool *ret)
{
	int r = judge_component(v, k, k->rollout.component, kind, index, ret);

	for (size_t i = 0; r == 0 && *ret && i < k->rollout.with_count; i++)
		r = judge_component(v, k, k->rollout.with[i].component, kind, index, ret);
	return r;
}

static int judge_stage(struct reading *v, struct known_rollout *k, size_t index)
{
	bool approved = true, up = true;
	int r;

	if (k->error < 0) {
		k->approved[index] = true; /* refused by name once it is this node's turn, not waited for */
		return 0;
	}
	if (k->withheld)
		return 0; /* waited for */
	r = judge_components(v, k, k->rollout.kind, index, &approved);
	if (r == 0 && approved && k->rollout.kind == ROLLOUT_DOWNGRADE)
		r = judge_components(v, k, ROLLOUT_REGULAR, index, &up);
	if (r < 0)
		return r;
	k->approved[index] = approved;
	k->up_unapproved[index] = !up;
	return 0;
}

static int judge_approvals(struct reading *v)
{
	for (size_t i = 0; i < v->docs.rollout_count; i++) {
		struct known_rollout *k = &v->docs.rollouts[i];

		for (size_t s = 0; s < k->rollout.stage_count && s < STAGES_MAX; s++) {
			int r = judge_stage(v, k, s);

			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* --- all of it --- */

static void prune(struct reading *v)
{
	struct node *n = v->n;
	struct name_list names = { 0 };

	if (dir_list(n->os, n->documents_fd, ".", &names) < 0)
		return;
	for (size_t i = 0; names.count > DOCUMENTS_MAX && i < names.count; i++)
		if (!string_list_has(&v->used, names.names[i]))
			(void) n->os->unlinkat(n->os, n->documents_fd, names.names[i],
					       0); /* tried again next time */
	name_list_done(&names);
}

/* What a policy forbade it forbids until another one can be read. */
static void keep_policies(struct documents *old, struct documents *docs)
{
	for (size_t i = 0; i < docs->policy_count; i++) {
		struct known_policy *p = &docs->policies[i];

		for (size_t k = 0; p->broken && !p->present && k < old->policy_count; k++) {
			struct known_policy *before = &old->policies[k];

			if (!before->present || !str_eq(before->component, p->component))
				continue;
			p->policy = before->policy;
			p->present = true;
			before->policy = (struct policy){ 0 };
			before->present = false;
		}
	}
}

static void policy_file(const char *component, char out[static ID_MAX + 16])
{
	(void) snprintf(out, ID_MAX + 16, "policy-%s.json", component); /* ids are short */
}

/*
 * Also across a restart. Only rename and fsync of durable_write_file() stand behind it, and only where it says something
 * new; what cannot be written is in force all the same until the next start.
 */
static void write_policy(struct reading *v, const struct known_policy *p, const char *name)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(2 * POLICY_MAX_BYTES), before = BUF_INIT(2 * POLICY_MAX_BYTES);
	struct node *n = v->n;
	int r;

	policy_write(&p->policy, json_build_root(b));
	r = json_build_text(b, false, &text);
	if (r == 0 && file_read(n->os, n->documents_fd, name, before.max, &before) == 0 &&
	    before.len == text.len && memcmp(before.data, text.data, text.len) == 0)
		return;
	if (r == 0)
		r = durable_write_file(n->os, n->documents_fd, name, text.data, text.len, 0644);
	if (r < 0)
		log_warning("policy-not-kept",
			    "after a restart it is not known until it is fetched: component=%s error=%s",
			    p->component, err_name(r));
}

static int recall_policy(struct reading *v, struct known_policy *p, const char *name)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(2 * POLICY_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	int r = file_read(v->n->os, v->n->documents_fd, name, text.max, &text);

	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = json_parse(text.data, text.len, &json_limits_default, &doc);
	if (r == 0)
		r = policy_parse(doc, &p->policy, NULL);
	p->present = r == 0;
	if (r < 0 && err_class(r) != ERR_CLASS_RETRY) {
		log_warning("policy-lost", "what was known of it cannot be read: component=%s error=%s",
			    p->component, err_name(r));
		return 0;
	}
	return r;
}

/* Else a carrier who keeps a team's file away would lift its floor with the next restart. */
static int remember_policies(struct reading *v)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < v->docs.policy_count; i++) {
		struct known_policy *p = &v->docs.policies[i];
		const struct known_policy *before = documents_policy(&v->n->docs, p->component);
		char name[ID_MAX + 16];

		policy_file(p->component, name);
		if (p->present && !p->broken)
			write_policy(v, p, name);
		else if (p->broken && !(before && before->present))
			r = recall_policy(v, p, name);
		else if (!p->broken)
			(void) v->n->os->unlinkat(v->n->os, v->n->documents_fd, name, 0); /* its team has none */
		(void) !string_list_add(&v->used, name); /* without memory it may be pruned, and is written anew */
	}
	return r;
}

static int read_all(struct reading *v)
{
	int r = read_index(v);

	if (r == 0)
		r = read_orders(v);
	if (r == 0)
		r = read_labels(v);
	if (r == 0)
		load_zone(v);
	if (r == 0)
		r = read_rollouts(v);
	if (r == 0)
		r = read_policies(v);
	for (size_t i = 0; r == 0 && i < v->docs.rollout_count; i++)
		turn_spread(v->n, &v->docs.labels, &v->docs.rollouts[i]);
	return r < 0 ? r : judge_approvals(v);
}

int phase_verify(struct node *n)
{
	struct reading v = { .n = n };
	char quoted[600];
	int r = read_all(&v);

	if (r == 0)
		r = remember_policies(&v);
	if (r < 0) {
		log_warning("documents-refused", "the last verified ones stay in force: error=%s detail=%s",
			    err_name(r), log_quote(quoted, sizeof(quoted), v.error[0] ? v.error : err_text(r)));
		(void) snprintf(n->refresh_text, sizeof(n->refresh_text), "%s",
				v.error[0] ? v.error : err_text(r));
		n->refresh_error = r;
		documents_done(&v.docs);
	} else {
		keep_policies(&n->docs, &v.docs);
		documents_done(&n->docs);
		n->docs = v.docs;
		n->docs.loaded = true;
		tell_zone(n);
		prune(&v);
		/* All the same it is asked for again, and said. */
		if (v.withheld < 0) {
			n->refresh_error = v.withheld;
			(void) snprintf(n->refresh_text, sizeof(n->refresh_text), "%s", v.withheld_text);
		}
	}
	string_list_done(&v.used);
	n->replan = true;
	return r;
}
