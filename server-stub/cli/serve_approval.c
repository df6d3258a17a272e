/*
 * Approvals at the controller: it collects signatures and shows what is missing. It can neither make one
 * nor do without: every node counts them again against its own trusted keys (DESIGN.md section 4 "Approval").
 */
#include "base/err.h"
#include "base/log.h"
#include "base/timestamp.h"
#include "json/build.h"
#include "json/json.h"
#include "model/approval.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_handlers.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_rollouts.h"
#include "server-stub/repo/repo.h"
#include "server-stub/repo/role_file.h"
#include "tuf/tuf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { APPROVAL_LIFE_MAX_S = 366 * 86400, SHORT_KEYID = 12 };

/* --- stored ones as the stages of the document --- */

struct grouping {
	struct json_build *b;
	struct json_node **lists, **signatures; /* by stage; the second is of the newest expiry */
	int64_t *expires;
	size_t count;
};

static int group(void *user, const struct db_approval *row)
{
	struct grouping *g = user;
	struct json_node *o;
	char stamp[TIMESTAMP_LEN + 1];

	if (row->position >= g->count)
		return 0;
	if (g->expires[row->position] != row->expires) {
		o = node_object(g->lists[row->position], NULL);
		timestamp_format(stamp, row->expires);
		node_string(o, "expires", stamp);
		g->signatures[row->position] = node_array(o, "signatures");
		g->expires[row->position] = row->expires;
	}
	o = node_object(g->signatures[row->position], NULL);
	node_string(o, "keyid", row->keyid);
	node_string(o, "sig", row->sig);
	return 0;
}

int approvals_gather(struct serve *s, const char *id, size_t stage_count, struct json **ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ROLLOUT_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *whole = NULL;
	struct json_node *lists[PLAN_STAGES_MAX], *signatures[PLAN_STAGES_MAX] = { NULL }, *stages;
	int64_t expires[PLAN_STAGES_MAX] = { 0 };
	struct grouping g = { b, lists, signatures, expires, stage_count };
	int r;

	if (stage_count > PLAN_STAGES_MAX)
		return -ERR_TOO_LARGE;
	stages = node_array(json_build_root(b), "stages");
	for (size_t i = 0; i < stage_count; i++)
		lists[i] = node_array(stages, NULL);
	r = db_approvals(s->db, id, serve_now(s), group, &g);
	if (r == 0)
		r = json_build_text(b, false, &text);
	if (r == 0)
		r = json_parse(text.data, text.len, &json_limits_default, &whole);
	for (size_t i = 0; r == 0 && i < stage_count; i++) {
		const struct json *list = json_at(json_get(whole, "stages"), i);

		if (json_count(list) > 0)
			r = json_copy(list, &ret[i]);
	}
	return r;
}

/* --- what is asked and what is there --- */

/* Of one of the rollout's components: each one's own policy must be met. */
struct judged_policy {
	const char *component; /* of the rollout */
	struct policy policy;
};

struct judged {
	struct json *targets; /* metadata */
	struct rollout rollout; /* as published */
	struct judged_policy policies[1 + ROLLOUT_WITH_MAX]; /* of those components that have one */
	size_t policy_count;
	bool has_rollout;
};

static void judged_done(struct judged *j)
{
	json_free(j->targets);
	if (j->has_rollout)
		rollout_done(&j->rollout);
	for (size_t i = 0; i < j->policy_count; i++)
		policy_done(&j->policies[i].policy);
}

static int read_json(struct serve *s, const char *path, size_t max, struct json **ret)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(max);
	int r = repo_read_target(s->repo, path, &text);

	return r < 0 ? r : json_parse(text.data, text.len, &json_limits_default, ret);
}

/* Without a policy nothing is asked. */
static int load_policy(struct serve *s, struct judged *j, const char *component)
{
	CLEANUP(json_freep)
	struct json *policy = NULL;
	char path[ID_MAX + 32];
	int r;

	snprintf(path, sizeof(path), "%s/policy.json", component);
	r = read_json(s, path, POLICY_MAX_BYTES, &policy);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = policy_parse(policy, &j->policies[j->policy_count].policy, NULL);
	if (r < 0)
		return r;
	j->policies[j->policy_count++].component = component;
	return 0;
}

/* -ENOENT: the rollout is not published (any more). */
static int judged_load(struct serve *s, const char *id, struct judged *j)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ROLE_FILE_MAX);
	CLEANUP(json_freep)
	struct json *rollout = NULL;
	char path[ID_MAX + 32];
	int r;

	if (!s->repo)
		return -ERR_PEER_GONE;
	snprintf(path, sizeof(path), "rollouts/%s.json", id);
	r = read_json(s, path, ROLLOUT_MAX_BYTES, &rollout);
	if (r == 0)
		r = rollout_parse(rollout, &j->rollout, NULL);
	if (r < 0)
		return r;
	j->has_rollout = true;
	r = load_policy(s, j, j->rollout.component);
	for (size_t i = 0; r == 0 && i < j->rollout.with_count; i++)
		r = load_policy(s, j, j->rollout.with[i].component);
	if (r < 0 || j->policy_count == 0)
		return r;
	r = repo_read_role(s->repo, "targets", &text);
	return r < 0 ? r : json_parse(text.data, text.len, &json_limits_default, &j->targets);
}

const char *approvals_team(const struct json *targets, const char *component)
{
	const struct json *roles = json_get(json_get(json_get(targets, "signed"), "delegations"), "roles");
	char path[ID_MAX + 32];

	snprintf(path, sizeof(path), "%s/policy.json", component);
	for (size_t i = 0; i < json_count(roles); i++) {
		const struct json *paths = json_get(json_at(roles, i), "paths");

		for (size_t k = 0; k < json_count(paths); k++)
			if (str_eq(json_string(json_at(paths, k)), path))
				return json_string(json_get(json_at(roles, i), "name"));
	}
	return NULL;
}

int approvals_keys(const struct json *targets, const char *component, const char *approver,
		   struct tuf_keyring **ret)
{
	const struct json *body = json_get(targets, "signed");
	const char *team;

	if (!str_eq(approver, "team"))
		return tuf_approvers_load(json_get(body, "x-selfright"), approver, ret);
	team = approvals_team(targets, component);
	return team ? role_keyring(body, team, ret) : -ERR_NOT_LISTED;
}

/* The most distinct keys of the ring under one statement that still holds. */
static int count_best(struct serve *s, const struct judged *j, const struct stage *stage,
		      const struct tuf_keyring *ring, unsigned *ret, int64_t *ret_expires)
{
	for (size_t i = 0; i < json_count(stage->approvals); i++) {
		CLEANUP(buf_done)
		struct buf statement = BUF_INIT(APPROVAL_STATEMENT_MAX);
		const struct json *entry = json_at(stage->approvals, i);
		struct approval a;
		int64_t expires;
		unsigned valid = 0;
		int r;

		if (approval_parse(entry, &a, NULL) < 0)
			continue;
		expires = a.expires;
		approval_done(&a);
		if (expires <= serve_now(s))
			continue;
		r = approval_statement(s->fleet, &j->rollout, stage, expires, &statement);
		if (r < 0)
			return r;
		if (tuf_keyring_count(ring, json_get(entry, "signatures"), statement.data, statement.len, &valid) <
			    0 ||
		    valid < *ret || valid == 0)
			continue;
		*ret = valid;
		*ret_expires = expires;
	}
	return 0;
}

static int show_rule(struct serve *s, const struct judged *j, const char *component,
		     const struct approval_rule *rule, struct json_node *list)
{
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	int r = approvals_keys(j->targets, component, rule->approver, &ring);

	if (r < 0 && r != -ERR_NOT_LISTED)
		return r;
	for (size_t k = 0; k < j->rollout.stage_count; k++) {
		struct json_node *o = node_object(list, NULL);
		char stamp[TIMESTAMP_LEN + 1];
		int64_t expires = 0;
		unsigned valid = 0;

		node_string(o, "stage", j->rollout.stages[k].name);
		node_string(o, "component", component);
		node_string(o, "approver", rule->approver);
		node_string(o, "exempt_label", rule->exempt_label);
		r = ring ? count_best(s, j, &j->rollout.stages[k], ring, &valid, &expires) : 0;
		if (r < 0)
			return r;
		node_bool(o, "known", ring != NULL);
		node_integer(o, "threshold", ring ? tuf_keyring_threshold(ring) : 0);
		node_integer(o, "valid", valid);
		node_bool(o, "met", ring && valid >= tuf_keyring_threshold(ring));
		timestamp_format(stamp, expires);
		node_string(o, "expires", expires ? stamp : NULL);
	}
	return 0;
}

int approvals_show(struct serve *s, const char *id, struct json_node *list)
{
	const struct labels nobody = { 0 };
	struct judged j = { 0 };
	int r = judged_load(s, id, &j);

	for (size_t i = 0; r == 0 && i < j.policy_count; i++) {
		const struct judged_policy *p = &j.policies[i];
		const struct approval_rule *rule = NULL;

		while (r == 0 && (rule = approval_rule_next(&p->policy, j.rollout.kind, &nobody, rule)) != NULL)
			r = show_rule(s, &j, p->component, rule, list);
	}
	judged_done(&j);
	return r == -ENOENT || r == -ERR_PEER_GONE ? 0 : r;
}

/* --- taking one --- */

static const struct stage *find_stage(const struct rollout *rollout, const char *name, size_t *ret)
{
	for (size_t i = 0; i < rollout->stage_count; i++)
		if (str_eq(rollout->stages[i].name, name)) {
			*ret = i;
			return &rollout->stages[i];
		}
	return NULL;
}

/* Whose signature is it, among those the policy asks? NULL: nobody's, or it does not hold. */
static const char *signer_of(const struct judged *j, const struct json *signature, const struct buf *statement)
{
	const struct labels nobody = { 0 };
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(64 * 1024);
	CLEANUP(json_freep)
	struct json *alone = NULL;

	node_copy(node_array(json_build_root(b), "signatures"), NULL, signature);
	if (json_build_text(b, false, &text) < 0 ||
	    json_parse(text.data, text.len, &json_limits_default, &alone) < 0)
		return NULL;
	for (size_t i = 0; i < j->policy_count; i++) {
		const struct judged_policy *p = &j->policies[i];
		const struct approval_rule *rule = NULL;

		while ((rule = approval_rule_next(&p->policy, j->rollout.kind, &nobody, rule)) != NULL) {
			CLEANUP(tuf_keyring_freep)
			struct tuf_keyring *ring = NULL;
			unsigned valid = 0;

			if (approvals_keys(j->targets, p->component, rule->approver, &ring) == 0 &&
			    tuf_keyring_count(ring, json_get(alone, "signatures"), statement->data, statement->len,
					      &valid) == 0 &&
			    valid > 0)
				return rule->approver;
		}
	}
	return NULL;
}

static int store(struct serve *s, const struct judged *j, const struct stage *stage, const struct db_approval *row,
		 const char *approver)
{
	char text[400];
	int r = db_begin(s->db);

	if (r == 0)
		r = db_approval_add(s->db, row);
	if (r > 0) {
		snprintf(text, sizeof(text), "stage %s of rollout %s is approved by %s (key %.*s)", stage->name,
			 row->rollout, approver, SHORT_KEYID, row->keyid);
		r = serve_record(s, "approved", NULL, j->rollout.component, text, row->by, "approve",
				 row->rollout);
	}
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	return r;
}

/* 0, or a complaint was sent. */
static int take(struct serve *s, struct web_request *rq, const struct judged *j, const struct json *doc,
		const struct approval *a)
{
	CLEANUP(buf_done)
	struct buf statement = BUF_INIT(APPROVAL_STATEMENT_MAX);
	const struct json *signatures = json_get(doc, "signatures");
	const char *by = json_string(json_get(doc, "by"));
	struct db_approval row = { .rollout = j->rollout.id,
				   .expires = a->expires,
				   .at = serve_now(s),
				   .by = by && *by && strlen(by) <= 100 ? by : "unknown" };
	const struct stage *stage = find_stage(&j->rollout, json_string(json_get(doc, "stage")), &row.position);
	bool asked = false;
	int r;

	if (!stage) {
		web_fail(rq, 422, "the rollout '%s' has no such stage", j->rollout.id);
		return -EINVAL;
	}
	if (a->expires <= serve_now(s) || a->expires > serve_now(s) + APPROVAL_LIFE_MAX_S) {
		web_fail(rq, 422, "an approval expires between now and a year from now");
		return -EINVAL;
	}
	for (size_t i = 0; i < j->policy_count; i++)
		asked = asked || policy_asks_approval(&j->policies[i].policy, j->rollout.kind);
	if (!asked) {
		web_fail(rq, 422, "the policy of %s asks for no approval of a %s rollout", j->rollout.component,
			 rollout_kind_name(j->rollout.kind));
		return -EINVAL;
	}
	r = approval_statement(s->fleet, &j->rollout, stage, a->expires, &statement);
	for (size_t i = 0; r == 0 && i < a->signature_count; i++) {
		const char *approver = signer_of(j, json_at(signatures, i), &statement);

		if (!approver) {
			web_fail(rq, 422,
				 "key %.*s is no approver's that the policy of %s asks for, or it signed "
				 "something else",
				 SHORT_KEYID, a->signatures[i].keyid, j->rollout.component);
			return -EINVAL;
		}
		row.keyid = a->signatures[i].keyid;
		row.sig = a->signatures[i].sig;
		r = store(s, j, stage, &row, approver);
	}
	if (r < 0) {
		log_error("approval-failed", "%s: %s", err_text(r), db_error(s->db));
		web_fail(rq, 500, "the approval could not be stored: %s", err_text(r));
	}
	return r;
}

void approvals_post(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(SERVE_TEXT_MAX);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct serve *s = user;
	struct judged j = { 0 };
	struct approval a = { 0 };
	const char *id = web_arg(rq, 0);
	char *error = NULL;
	size_t len;
	const void *body = web_body(rq, &len);
	int r;

	if (!guard_id(id) || json_parse(body, len, &json_limits_default, &doc) < 0) {
		web_fail(rq, 400, "the path names a rollout, the body is a JSON object");
		return;
	}
	r = approval_parse(doc, &a, &error);
	if (r < 0) {
		web_fail(rq, 400, "%s", error ? error : err_text(r));
		free(error);
		return;
	}
	r = judged_load(s, id, &j);
	if (r < 0)
		web_fail(rq, r == -ENOENT ? 404 : 503,
			 r == -ENOENT ? "the rollout '%s' is not published"
				      : "the rollout '%s' cannot be read now",
			 id);
	else
		r = take(s, rq, &j, doc, &a);
	judged_done(&j);
	approval_done(&a);
	if (r < 0)
		return;
	r = control_publish_now(s);
	node_string(json_build_root(b), "id", id);
	node_bool(json_build_root(b), "published", r == 0);
	if (r < 0)
		node_string(json_build_root(b), "publish_error",
			    s->repo ? repo_error(s->repo) : "the signer is away");
	r = approvals_show(s, id, node_array(json_build_root(b), "approvals"));
	if (r == 0)
		r = json_build_text(b, false, &text);
	if (r < 0)
		web_fail(rq, 500, "%s", err_text(r));
	else
		web_reply(rq, 200, "application/json", text.data, text.len);
}
