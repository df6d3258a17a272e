/*
 * What a release must bring before it may go anywhere: the documents, the rules in DIR/preflight.yaml, and what
 * nodes last reported, given to the judgement of rollout/preflight.h; and what commands outside said of a release.
 */
#include "base/err.h"
#include "base/log.h"
#include "base/version.h"
#include "conf/conf.h"
#include "json/build.h"
#include "json/json.h"
#include "model/approval.h"
#include "model/release.h"
#include "model/report.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/cli/serve_handlers.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_evidence.h"
#include "server-stub/ingest/db_nodes.h"
#include "server-stub/ingest/db_rollouts.h"
#include "server-stub/repo/repo.h"
#include "server-stub/repo/role_file.h"
#include "server-stub/rollout/preflight.h"
#include "tuf/tuf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EVIDENCE_KEPT = 10, EVIDENCE_MAX = 32, OUTPUT_MAX = 4096, STATUS_MAX = 100, REASONS_MAX = 900 };

/* A slice is some 25 ms without optimisation; who is still not done after the wait is finished in one go. */
enum { SLICE_NODES = 200, CHECK_WAIT_MS = 60000 };

/* One release and all it is judged by. */
struct checked {
	const char *component, *version;
	char path[ID_MAX + VERSION_MAX + 32], sha256[SHA256_HEX + 1], role[ID_MAX + 1];
	int64_t role_expires;
	struct json *document, *targets;
	struct release release;
	struct policy policy;
	bool has_release, has_policy;
	bool unpublished; /* then nothing else of it is there */
	struct rules rules;
	struct preflight_approver approvers[POLICY_APPROVALS_MAX];
	size_t approver_count;
	struct preflight_result results[RULES_COMMANDS_MAX];
	size_t result_count;
	struct preflight preflight;
};

static void checked_done(struct checked *c)
{
	preflight_done(&c->preflight);
	rules_done(&c->rules);
	if (c->has_release)
		release_done(&c->release);
	if (c->has_policy)
		policy_done(&c->policy);
	json_free(c->document);
	json_free(c->targets);
}

static int read_json(struct serve *s, const char *path, size_t max, struct json **ret)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(max);
	int r = repo_read_target(s->repo, path, &text);

	return r < 0 ? r : json_parse(text.data, text.len, &json_limits_default, ret);
}

/* -ENOENT: it is not published. */
static int load_release(struct serve *s, struct checked *c)
{
	uint8_t digest[SHA256_BYTES];
	uint64_t length;
	int r;

	snprintf(c->path, sizeof(c->path), "%s/%s/release.json", c->component, c->version);
	r = repo_target_info(s->repo, c->path, &length, digest);
	if (r < 0)
		return r;
	hex_encode(c->sha256, digest, sizeof(digest));
	r = read_json(s, c->path, RELEASE_MAX_BYTES, &c->document);
	if (r == 0)
		r = release_parse(c->document, &c->release, NULL);
	c->has_release = r == 0;
	return r;
}

static int load_policy(struct serve *s, struct checked *c)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	char path[ID_MAX + 32];
	int r;

	snprintf(path, sizeof(path), "%s/policy.json", c->component);
	r = read_json(s, path, POLICY_MAX_BYTES, &doc);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = policy_parse(doc, &c->policy, NULL);
	c->has_policy = r == 0;
	return r;
}

static int load_role(struct serve *s, struct checked *c)
{
	CLEANUP(buf_done)
	struct buf targets = BUF_INIT(ROLE_FILE_MAX), bytes = BUF_INIT(ROLE_FILE_MAX);
	CLEANUP(role_file_freep)
	struct role_file *f = NULL;
	const char *role;
	int r = repo_read_role(s->repo, "targets", &targets);

	if (r == 0)
		r = json_parse(targets.data, targets.len, &json_limits_default, &c->targets);
	if (r < 0)
		return r;
	role = approvals_team(c->targets, c->component);
	if (!role)
		return -ERR_NOT_LISTED;
	snprintf(c->role, sizeof(c->role), "%s", role);
	r = repo_read_role(s->repo, c->role, &bytes);
	if (r == 0)
		r = role_file_parse(c->role, bytes.data, bytes.len, &f);
	if (r == 0)
		c->role_expires = f->expires;
	return r;
}

/* Who has to approve it, and how many signatures that makes. */
static int load_approvers(struct checked *c, enum rollout_kind kind)
{
	const struct labels nobody = { 0 };
	const struct approval_rule *rule = NULL;

	while (c->has_policy && (rule = approval_rule_next(&c->policy, kind, &nobody, rule)) != NULL) {
		CLEANUP(tuf_keyring_freep)
		struct tuf_keyring *ring = NULL;
		int r = approvals_keys(c->targets, c->component, rule->approver, &ring);

		if (r < 0 && r != -ERR_NOT_LISTED)
			return r;
		if (c->approver_count == ARRAY_LEN(c->approvers))
			return -ERR_TOO_LARGE;
		c->approvers[c->approver_count++] =
			(struct preflight_approver){ rule->approver, ring ? tuf_keyring_threshold(ring) : 0 };
	}
	return 0;
}

/* Rows come by name, the newest last. */
static int take_result(void *user, const struct db_evidence *row)
{
	struct checked *c = user;

	for (size_t i = 0; i < c->rules.command_count; i++) {
		size_t k = 0;

		if (strcmp(c->rules.commands[i].name, row->name) != 0)
			continue;
		while (k < c->result_count && strcmp(c->results[k].name, row->name) != 0)
			k++;
		c->results[k] = (struct preflight_result){ c->rules.commands[i].name,
							   strcmp(row->outcome, "pass") == 0, row->at };
		if (k == c->result_count)
			c->result_count++;
	}
	return 0;
}

/* --- the nodes --- */

/* A judgement under way. */
struct check {
	struct serve *serve;
	struct check_request request; /* what it points to is the caller's */
	struct checked *releases[1 + PLAN_WITH_MAX]; /* the main one first */
	size_t count;
	char after[ID_MAX + 1]; /* nodes up to this one were looked at */
	bool looked;
	char error[512];
};

static int compare_member(const void *key, const void *member)
{
	return strcmp(key, ((const struct evaluated_member *) member)->node);
}

static bool has_component(const struct report *report, const char *component)
{
	for (size_t i = 0; i < report->component_count; i++)
		if (strcmp(report->components[i].component, component) == 0)
			return report->components[i].version != NULL;
	return false;
}

/* Its report is read once for all releases. */
static int look_at_node(void *user, const struct db_node *row)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct check *k = user;
	const struct evaluation *e = k->request.evaluation;
	struct report report = { 0 };
	const struct evaluated_member *m;
	bool told = false;
	int r = 0;

	snprintf(k->after, sizeof(k->after), "%s", row->node);
	if (row->quarantined)
		return 0;
	if (e) {
		m = bsearch(row->node, e->members, e->count, sizeof(*e->members), compare_member);
		if (!m || !m->selected)
			return 0;
	}
	if (row->report && json_parse(row->report, strlen(row->report), &json_limits_default, &doc) == 0)
		told = report_parse(doc, &report, NULL) == 0;
	for (size_t i = 0; r == 0 && i < k->count; i++) {
		struct checked *c = k->releases[i];

		if (!c->unpublished && (e || (told && has_component(&report, c->component))))
			r = preflight_node(&c->preflight, row->node, told ? &report : NULL);
	}
	if (told)
		report_done(&report);
	return r;
}

/* --- the judgement --- */

static void write_unpublished(const struct checked *c, struct json_node *o)
{
	struct json_node *item, *finding;

	node_string(o, "component", c->component);
	node_string(o, "version", c->version);
	node_string(o, "verdict", "fail");
	item = node_object(node_array(o, "items"), NULL);
	node_string(item, "item", preflight_item_name(PREFLIGHT_SIGNATURES));
	node_string(item, "outcome", "fail");
	finding = node_object(node_array(item, "findings"), NULL);
	node_string(finding, "outcome", "fail");
	node_stringf(finding, "text",
		     "%s %s is not published: no role that is trusted lists %s, or too few of its keys signed",
		     c->component, c->version, c->path);
}

static int load(struct serve *s, struct checked *c, enum rollout_kind kind, struct conf_error *e)
{
	int r = rules_load(s->options.dir, c->component, &c->rules, e);

	if (r == 0)
		r = load_release(s, c);
	if (r == 0)
		r = load_policy(s, c);
	if (r == 0)
		r = load_role(s, c);
	if (r == 0)
		r = load_approvers(c, kind);
	return r < 0 ? r : db_evidence(s->db, c->component, c->version, c->sha256, take_result, c);
}

static int begin_release(struct serve *s, struct checked *c, const struct check_request *q)
{
	const struct preflight_subject subject = {
		.component = c->component,
		.version = c->version,
		.release = &c->release,
		.says_risk = json_get(c->document, "risk") != NULL,
		.policy = c->has_policy ? &c->policy : NULL,
		.rules = &c->rules,
		.plan = q->plan,
		.kind = q->kind,
		.role = c->role,
		.role_expires = c->role_expires,
		.approvers = c->approvers,
		.approver_count = c->approver_count,
		.results = c->results,
		.result_count = c->result_count,
		.plan_file = q->plan_file,
		.now = serve_now(s),
	};

	return preflight_begin(&c->preflight, &subject);
}

/* A started rollout: whose signature is still missing for a stage. */
static int add_missing_approvals(struct serve *s, struct checked *c, const char *rollout)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(SERVE_TEXT_MAX);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const struct json *list;
	int r = approvals_show(s, rollout, node_array(json_build_root(b), "approvals"));

	if (r == 0)
		r = json_build_text(b, false, &text);
	if (r == 0)
		r = json_parse(text.data, text.len, &json_limits_default, &doc);
	list = json_get(doc, "approvals");
	for (size_t i = 0; i < json_count(list); i++) {
		const struct json *o = json_at(list, i);
		int64_t valid = 0, threshold = 0;

		if (json_bool(json_get(o, "met"), false) ||
		    !str_eq(json_string(json_get(o, "component")), c->component))
			continue;
		(void) json_integer(json_get(o, "valid"), &valid); /* written above */
		(void) json_integer(json_get(o, "threshold"), &threshold); /* the same */
		preflight_find(&c->preflight, PREFLIGHT_SIGNATURES, PREFLIGHT_FAIL,
			       "stage %s has %lld of %lld signatures of %s", json_string(json_get(o, "stage")),
			       (long long) valid, (long long) threshold, json_string(json_get(o, "approver")));
	}
	return r;
}

static bool is_overridden(const struct check_request *q, const char *item)
{
	for (size_t i = 0; i < json_count(q->overrides); i++)
		if (str_eq(json_string(json_at(q->overrides, i)), item))
			return true;
	return false;
}

/* What stops it goes to `a`, without what somebody answers for. */
static int weigh(const struct checked *c, const struct check_request *q, struct check_answer *a)
{
	int r = 0;

	for (int i = 0; r == 0 && i < PREFLIGHT_ITEM_COUNT; i++) {
		const char *name = preflight_item_name((enum preflight_item) i);

		if (c->preflight.outcomes[i] != PREFLIGHT_FAIL)
			continue;
		if (is_overridden(q, name)) {
			if (!string_list_has(&a->overridden, name))
				r = string_list_add(&a->overridden, name);
			continue;
		}
		a->failed = true;
		for (size_t k = 0; r == 0 && k < c->preflight.finding_count; k++) {
			const struct preflight_finding *f = &c->preflight.findings[k];

			if (f->item != (enum preflight_item) i || f->outcome != PREFLIGHT_FAIL)
				continue;
			if (a->reasons.len + strlen(f->text) + strlen(name) > REASONS_MAX)
				break; /* check says the rest */
			r = buf_addf(&a->reasons, "%s%s: %s", a->reasons.len ? "; " : "", name, f->text);
		}
	}
	return r;
}

static int add_release(struct check *k, const char *component, const char *version)
{
	struct checked *c = calloc(1, sizeof(*c)); /* its findings are too many for the stack */
	struct conf_error e = { "" };
	int r;

	if (!c)
		return -ENOMEM;
	k->releases[k->count++] = c;
	c->component = component;
	c->version = version;
	r = load(k->serve, c, k->request.kind, &e);
	if (e.text[0])
		snprintf(k->error, sizeof(k->error), "%s", e.text);
	c->unpublished = r == -ENOENT || r == -ERR_NOT_LISTED;
	return c->unpublished ? 0 : r < 0 ? r : begin_release(k->serve, c, &k->request);
}

int check_begin(struct serve *s, const struct check_request *q, struct check **ret)
{
	struct check *k = calloc(1, sizeof(*k));
	int r;

	if (!k)
		return -ENOMEM;
	*ret = k;
	k->serve = s;
	k->request = *q;
	r = add_release(k, q->component, q->version);
	for (size_t i = 0; r == 0 && q->plan && i < q->plan->with_count; i++)
		r = add_release(k, q->plan->with[i].component, q->plan->with[i].version);
	return r;
}

int check_look(struct check *k, struct web_request *rq)
{
	while (!k->looked) {
		int r = db_nodes_after(k->serve->db, k->after, SLICE_NODES, look_at_node, k);

		if (r < 0)
			return r;
		k->looked = r < SLICE_NODES;
		/* Others come first; where nobody can wait (the controller ends) the rest is looked at now. */
		if (!k->looked && web_wait(rq, CHECK_WAIT_MS)) {
			k->serve->goes_on = true;
			return 1;
		}
	}
	return 0;
}

static int finish_release(struct check *k, struct checked *c, struct json_node *o, struct check_answer *a)
{
	int r = 0;

	if (c->unpublished) {
		write_unpublished(c, o);
		a->failed = true;
		return buf_addf(&a->reasons, "%s%s %s is not published", a->reasons.len ? "; " : "", c->component,
				c->version);
	}
	preflight_end(&c->preflight);
	if (k->request.rollout)
		r = add_missing_approvals(k->serve, c, k->request.rollout);
	if (r < 0)
		return r;
	a->warned |= preflight_verdict(&c->preflight) == PREFLIGHT_WARN;
	preflight_write(&c->preflight, o);
	node_string(o, "release_sha256", c->sha256);
	return weigh(c, &k->request, a);
}

int check_finish(struct check *k, struct json_node *o, struct check_answer *a)
{
	struct json_node *list = node_array(o, "releases"), *overridden;
	int r = 0;

	for (size_t i = 0; r == 0 && i < k->count; i++)
		r = finish_release(k, k->releases[i], node_object(list, NULL), a);
	node_string(o, "verdict", a->failed ? "fail" : a->warned ? "warn" : "pass");
	overridden = node_array(o, "overridden");
	for (size_t i = 0; i < a->overridden.count; i++)
		node_string(overridden, NULL, a->overridden.items[i]);
	return r;
}

void check_free(struct check *k)
{
	for (size_t i = 0; k && i < k->count; i++) {
		checked_done(k->releases[i]);
		free(k->releases[i]);
	}
	free(k);
}

void check_answer_done(struct check_answer *a)
{
	buf_done(&a->reasons);
	string_list_done(&a->overridden);
}

void check_fail(struct serve *s, struct web_request *rq, const struct check *k, int r)
{
	if (k && k->error[0])
		web_fail(rq, 422, "%s", k->error);
	else if (r == -ERR_DATABASE || r == -ENOSPC || r == -EIO)
		fail_database(s, rq, r);
	else
		web_fail(rq, 500, "it cannot be checked: %s", err_text(r));
}

const char *check_lines(const struct json *doc, struct plan *p)
{
	const struct json *lines = json_get(doc, "plan_lines");
	const char *file = json_string(json_get(doc, "plan_file"));
	int64_t line;
	bool usable = file && *file && strlen(file) <= 100;

	for (const char *c = file; usable && *c; c++)
		usable = (unsigned char) *c >= 0x20 && *c != 0x7f;
	p->stages_line = 0;
	for (size_t i = 0; i <= p->stage_count; i++) {
		unsigned *to = i < p->stage_count ? &p->stages[i].line : &p->stages_line;

		*to = json_integer(json_at(lines, i), &line) && line > 0 && line < INT32_MAX ? (unsigned) line : 0;
	}
	return usable ? file : NULL;
}

/* --- POST /v1/check --- */

struct found {
	char *plan, component[ID_MAX + 1], version[VERSION_MAX + 1];
	enum rollout_state state;
};

static int find(void *user, const struct db_rollout *row)
{
	struct found *f = user;
	int state = rollout_state_parse(row->state);

	if (state < 0)
		return -ERR_DATABASE;
	f->state = (enum rollout_state) state;
	f->plan = strdup(row->plan);
	return f->plan ? 0 : -ENOMEM;
}

/* What a request holds while others come between its slices. */
struct asked {
	struct json *doc;
	struct evaluation evaluation;
	bool has_evaluation;
	struct check *check;
};

static void asked_done(void *note)
{
	struct asked *w = note;

	check_free(w->check);
	if (w->has_evaluation)
		evaluation_done(&w->evaluation);
	json_free(w->doc);
}

/* False: a complaint was sent. */
static bool begin_rollout(struct serve *s, struct web_request *rq, struct asked *w, const char *id)
{
	struct found f = { 0 };
	int r = guard_id(id) ? db_rollouts(s->db, id, find, &f) : -ENOENT;

	if (r == -ENOENT) {
		web_fail(rq, 404, "there is no rollout '%s'; selfright rollout list shows all", id);
		return false;
	}
	if (r == 0)
		r = evaluation_make(s, id, f.state, f.plan, &w->evaluation);
	free(f.plan);
	if (r < 0) {
		fail_database(s, rq, r);
		return false;
	}
	w->has_evaluation = true;
	r = check_begin(s,
			&(struct check_request){ .component = w->evaluation.plan.component,
						 .version = w->evaluation.plan.version,
						 .plan = &w->evaluation.plan,
						 .kind = w->evaluation.plan.kind,
						 .evaluation = &w->evaluation,
						 .rollout = id },
			&w->check);
	if (r < 0)
		check_fail(s, rq, w->check, r);
	return r == 0;
}

/* The same for a release alone. */
static bool begin_alone(struct serve *s, struct web_request *rq, struct asked *w)
{
	const char *component = json_string(json_get(w->doc, "component")),
		   *version = json_string(json_get(w->doc, "version"));
	bool down = json_bool(json_get(w->doc, "downgrade"), false);
	int r;

	if (!guard_id(component) || !version || !version_is_valid(version)) {
		web_fail(rq, 400, "'component' and 'version' are needed, or 'rollout'");
		return false;
	}
	r = check_begin(s,
			&(struct check_request){ .component = component,
						 .version = version,
						 .kind = down ? ROLLOUT_DOWNGRADE : ROLLOUT_REGULAR },
			&w->check);
	if (r < 0)
		check_fail(s, rq, w->check, r);
	return r == 0;
}

static bool begin(struct serve *s, struct web_request *rq, struct asked *w)
{
	const char *id;

	w->doc = body_of(rq);
	if (!w->doc || !trust_is_there(s, rq))
		return false;
	if (!json_get(w->doc, "rollout"))
		return begin_alone(s, rq, w);
	id = json_string(json_get(w->doc, "rollout"));
	return begin_rollout(s, rq, w, id ? id : "");
}

void check_post(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct check_answer a = CHECK_ANSWER_INIT;
	struct serve *s = user;
	struct asked *w = web_note(rq, sizeof(*w), asked_done);
	int r;

	if (!w) {
		web_fail(rq, 503, "%s", err_text(-ENOMEM));
		return;
	}
	if (!w->check && !begin(s, rq, w))
		return;
	r = check_look(w->check, rq);
	if (r > 0)
		return;
	if (r == 0)
		r = check_finish(w->check, json_build_root(b), &a);
	if (r < 0)
		check_fail(s, rq, w->check, r);
	else
		answer(rq, 200, b);
	check_answer_done(&a);
}

/* --- the release record --- */

static int write_evidence(void *user, const struct db_evidence *row)
{
	struct json_node *o = node_object(user, NULL);
	int r;

	node_string(o, "name", row->name);
	node_string(o, "outcome", row->outcome);
	node_string(o, "status", row->status);
	r = node_json(o, "command", row->command);
	node_string(o, "output", row->output);
	node_integer(o, "duration_ms", (int64_t) row->duration_ms);
	node_time(o, "at", row->at);
	node_string(o, "by", row->by);
	return r;
}

struct uses {
	struct json_node *list;
	const char *component, *version, *sha256;
};

static int write_use(void *user, const struct db_rollout *row)
{
	struct uses *u = user;
	struct json_node *o;

	if (strcmp(row->component, u->component) != 0 || strcmp(row->version, u->version) != 0)
		return 0;
	o = node_object(u->list, NULL);
	node_string(o, "rollout", row->id);
	node_string(o, "kind", row->kind);
	node_string(o, "state", row->state);
	node_string(o, "by", row->by);
	node_time(o, "created", row->created_at);
	return 0;
}

/* A published release named by the path's two parts; false: a complaint was sent. */
static bool release_of(struct serve *s, struct web_request *rq, struct checked *c)
{
	int r;

	c->component = id_arg(rq, 0, "component");
	c->version = web_arg(rq, 1);
	if (!c->component)
		return false;
	if (!version_is_valid(c->version)) {
		web_fail(rq, 400, "this is no version, e.g. 1.2.0");
		return false;
	}
	if (!trust_is_there(s, rq))
		return false;
	r = load_release(s, c);
	if (r == -ENOENT)
		web_fail(rq, 404, "%s %s is not published", c->component, c->version);
	else if (r < 0)
		web_fail(rq, 500, "%s %s: %s", c->component, c->version, err_text(r));
	return r == 0;
}

static void show_release(struct serve *s, struct web_request *rq, struct checked *c)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b);
	struct uses u = { NULL, c->component, c->version, c->sha256 };
	int r;

	node_string(o, "component", c->component);
	node_string(o, "version", c->version);
	node_string(o, "release_sha256", c->sha256);
	node_copy(o, "release", c->document);
	r = load_policy(s, c);
	if (r == 0) {
		node_string(o, "owner", c->has_policy ? c->policy.owner : NULL);
		node_string(o, "on_call", c->has_policy ? c->policy.on_call : NULL);
		r = db_evidence(s->db, c->component, c->version, c->sha256, write_evidence,
				node_array(o, "evidence"));
	}
	u.list = node_array(o, "rollouts");
	if (r == 0)
		r = db_rollouts(s->db, NULL, write_use, &u);
	if (r < 0)
		web_fail(rq, 500, "%s %s: %s", c->component, c->version, err_text(r));
	else
		answer(rq, 200, b);
}

void release_get(void *user, struct web_request *rq)
{
	struct checked *c = calloc(1, sizeof(*c));

	if (!c) {
		web_fail(rq, 503, "%s", err_text(-ENOMEM));
		return;
	}
	if (release_of(user, rq, c))
		show_release(user, rq, c);
	checked_done(c);
	free(c);
}

/* One result as it came, with everything in it bounded and cleaned. */
static int store_one(struct serve *s, const struct checked *c, const struct json *o, const char *by)
{
	CLEANUP(buf_done)
	struct buf command = BUF_INIT(256 * 1024), output = BUF_INIT(2 * OUTPUT_MAX),
		   status = BUF_INIT(2 * STATUS_MAX);
	const char *name = json_string(json_get(o, "name")), *outcome = json_string(json_get(o, "outcome")),
		   *said = json_string(json_get(o, "output")), *ended = json_string(json_get(o, "status"));
	uint64_t duration_ms = 0;
	char text[300];
	int r;

	if (!guard_id(name) || !json_is(json_get(o, "command"), JSON_ARRAY) ||
	    (!str_eq(outcome, "pass") && !str_eq(outcome, "fail") && !str_eq(outcome, "error")))
		return -ERR_FIELD_VALUE;
	r = json_optional_u64(o, "duration_ms", 0, UINT64_C(86400000), &duration_ms);
	if (r == 0)
		r = json_text(json_get(o, "command"), &command);
	if (r == 0)
		r = printable_tail(said ? said : "", said ? strlen(said) : 0, OUTPUT_MAX, &output);
	if (r == 0)
		r = printable_tail(ended ? ended : "", ended ? strlen(ended) : 0, STATUS_MAX, &status);
	if (r < 0)
		return r;
	r = db_evidence_add(s->db,
			    &(struct db_evidence){ .component = c->component,
						   .version = c->version,
						   .release_sha256 = c->sha256,
						   .name = name,
						   .outcome = outcome,
						   .status = buf_str(&status),
						   .command = buf_str(&command),
						   .output = buf_str(&output),
						   .by = by,
						   .duration_ms = duration_ms,
						   .at = serve_now(s) },
			    EVIDENCE_KEPT);
	snprintf(text, sizeof(text), "%s of %s %s: %s", name, c->component, c->version, outcome);
	return r < 0 ? r : serve_record(s, "evidence", NULL, c->component, text, by, "evidence", text);
}

static void store_evidence(struct serve *s, struct web_request *rq, const struct checked *c,
			   const struct json *doc)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	const struct json *list = json_get(doc, "evidence");
	int r;

	if (!str_eq(json_string(json_get(doc, "release_sha256")), c->sha256)) {
		web_fail(rq, 409, "these results are of another release than the published %s %s (%.12s)",
			 c->component, c->version, c->sha256);
		return;
	}
	if (json_count(list) == 0 || json_count(list) > EVIDENCE_MAX) {
		web_fail(rq, 400, "'evidence' is a list of 1 to %d results", EVIDENCE_MAX);
		return;
	}
	/* All of them or none; what is answered for is on the disk (db.h: synchronous=FULL). */
	r = db_begin(s->db);
	for (size_t i = 0; r == 0 && i < json_count(list); i++)
		r = store_one(s, c, json_at(list, i), by_of(doc));
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	if (r == -ERR_FIELD_VALUE || r == -ERR_FIELD_TYPE || r == -ERR_TOO_LARGE) {
		web_fail(rq, 400, "a result has a name, a command and an outcome: pass, fail or error");
	} else if (r < 0) {
		fail_database(s, rq, r);
	} else {
		node_integer(json_build_root(b), "stored", (int64_t) json_count(list));
		answer(rq, 201, b);
	}
}

void evidence_post(void *user, struct web_request *rq)
{
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct checked *c = doc ? calloc(1, sizeof(*c)) : NULL;

	if (!doc)
		return;
	if (!c) {
		web_fail(rq, 503, "%s", err_text(-ENOMEM));
		return;
	}
	if (release_of(user, rq, c))
		store_evidence(user, rq, c, doc);
	checked_done(c);
	free(c);
}
