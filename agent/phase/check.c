/*
 * check - may it run here, before a byte of it is fetched.
 *
 * The signed releases of the update and of what it would go back to are read, and held against what this
 * node can do and allows, and against the room it has.
 */
#include "agent/phase/dependants.h"
#include "agent/phase/fit.h"
#include "agent/phase/manifest.h"
#include "agent/phase/node.h"
#include "agent/phase/outcome.h"
#include "agent/phase/phase.h"
#include "agent/phase/room.h"
#include "agent/store/seal.h"
#include "base/err.h"
#include "json/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

	if (n->state->update.cause != NODE_CAUSE_ROLLOUT && node_has_version(n, p->component, p->to)) {
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
	return r == 0 ? fit_check(n, p) : r;
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
		r = room_check(n);
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
