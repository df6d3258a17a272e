/*
 * A new rollout: resolved, checked, stored and opened; or only told, for a dry run.
 */
#include "base/err.h"
#include "base/log.h"
#include "base/version.h"
#include "conf/conf.h"
#include "json/build.h"
#include "json/json.h"
#include "model/release.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/cli/serve_handlers.h"
#include "server-stub/cli/serve_rollouts.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_rollouts.h"
#include "server-stub/repo/advice.h"
#include "server-stub/repo/repo.h"
#include "server-stub/rollout/preflight.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { ID_TAIL = 8 /* of an id that is made here, for its number */ };

struct conflict {
	const struct plan *plan;
	bool replaces; /* whoever starts it says so: then nothing stands beside it */
	char id[ID_MAX + 1];
	struct string_list preempted; /* regular ones that a patch goes before */
};

/* An unfinished rollout of one of the same components. */
static int find_conflict(void *user, const struct db_rollout *row)
{
	struct conflict *c = user;
	struct plan other = { 0 };
	struct conf_error error;
	bool conflicts;

	if (strcmp(row->state, "running") != 0 && strcmp(row->state, "paused") != 0)
		return 0;
	conflicts = plan_concerns(c->plan, row->component);
	if (!conflicts && plan_parse(row->plan, strlen(row->plan), "plan", &other, &error) == 0) {
		for (size_t i = 0; i < other.with_count; i++)
			conflicts = conflicts || plan_concerns(c->plan, other.with[i].component);
		plan_done(&other);
	}
	if (!conflicts)
		return 0;
	if (!c->replaces && c->plan->kind == ROLLOUT_PATCH && strcmp(row->kind, "regular") == 0)
		return string_list_add(&c->preempted, row->id);
	snprintf(c->id, sizeof(c->id), "%s", row->id);
	return 1;
}

/* "web-1-1-0", cut to leave room for a number. */
static void name_rollout(const struct plan *p, unsigned attempt, char out[static ID_MAX + 1])
{
	char text[ID_MAX + VERSION_MAX + 2];
	size_t n = 0;

	snprintf(text, sizeof(text), "%s-%s", p->component, p->version);
	for (const char *c = text; *c && n < ID_MAX - ID_TAIL; c++) {
		if (*c >= 'A' && *c <= 'Z')
			out[n++] = (char) (*c - 'A' + 'a');
		else if ((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9'))
			out[n++] = *c;
		else
			out[n++] = '-';
	}
	out[n] = '\0';
	if (attempt > 1)
		snprintf(out + n, ID_TAIL, "-%u", attempt % 1000000);
}

static int ignore_rollout(void *user, const struct db_rollout *row)
{
	(void) user;
	(void) row;
	return 0;
}

/* The id asked for, or the first free one made of component and version. */
static int choose_id(struct serve *s, const struct plan *p, const char *wish, char out[static ID_MAX + 1])
{
	int r = -EEXIST;

	if (wish) {
		if (!guard_id(wish) || strcmp(wish, "index") == 0)
			return -ERR_NAME;
		snprintf(out, ID_MAX + 1, "%s", wish);
		r = db_rollouts(s->db, out, ignore_rollout, NULL);
		return r == -ENOENT ? 0 : r == 0 ? -EEXIST : r;
	}
	for (unsigned attempt = 1; attempt < 10000; attempt++) {
		name_rollout(p, attempt, out);
		r = db_rollouts(s->db, out, ignore_rollout, NULL);
		if (r == -ENOENT)
			return 0;
		if (r < 0)
			return r;
	}
	return -EEXIST;
}

/* Is every node that is named known? Otherwise a complaint was sent. */
static bool nodes_are_known(struct serve *s, struct web_request *rq, const struct plan *p)
{
	for (size_t k = 0; k < p->stage_count; k++)
		for (size_t i = 0; i < p->stages[k].nodes.count; i++) {
			const char *node = p->stages[k].nodes.items[i], *absence;
			int r = node_exists(s, node);

			if (r == -ENOENT) {
				absence = node_absence(s, node);
				web_fail(rq, 422, "stage '%s' names the node '%s', which %s", p->stages[k].name,
					 node, absence ? absence : "is not in this fleet");
				return false;
			}
			if (r < 0) {
				fail_database(s, rq, r);
				return false;
			}
		}
	return true;
}

struct new_rollout {
	struct plan plan;
	char id[ID_MAX + 1], path[ID_MAX + VERSION_MAX + 32], sha256[SHA256_HEX + 1], replaces[ID_MAX + 1];
	struct buf plan_text;
	const char *plan_json, *by, *plan_file, *override_reason;
	struct check_answer check;
	struct string_list preempted; /* rollouts that stop while this patch runs */
};

/* A patch goes before it: it stands until a person resumes or cancels it, and both say why. */
static int preempt(struct serve *s, const struct new_rollout *n, const char *id)
{
	char text[600], overrides[200] = "";
	size_t len = 0;
	int r;

	for (size_t i = 0; i < n->plan.limits.overrides.count && len < sizeof(overrides); i++)
		len += (size_t) snprintf(overrides + len, sizeof(overrides) - len, "%s%s", i ? ", " : "",
					 n->plan.limits.overrides.items[i]);
	snprintf(text, sizeof(text), "the patch %s goes before it%s%s", n->id, len ? ", and overrides " : "",
		 overrides);
	r = db_rollout_set_state(s->db, id, "paused", text, n->by, serve_now(s));
	snprintf(text, sizeof(text), "rollout %s is paused: the patch %s goes before it%s%s", id, n->id,
		 len ? ", and overrides " : "", overrides);
	return r < 0 ? r
		     : serve_record(s, "rollout-stopped", NULL, n->plan.component, text, n->by, "pre-empt", text);
}

static int store_rollout(struct serve *s, struct new_rollout *n, uint64_t *ret_seq)
{
	const char *names[PLAN_STAGES_MAX];
	char text[400];
	struct db_rollout row;
	uint64_t floor;
	int r;

	r = documents_published_seq(s, &floor);
	if (r == 0)
		r = db_begin(s->db);
	if (r == 0)
		r = db_next_seq(s->db, floor, ret_seq);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n->plan.stage_count; i++)
		names[i] = n->plan.stages[i].name;
	if (n->replaces[0]) {
		snprintf(text, sizeof(text), "replaced by %s", n->id);
		r = db_rollout_set_state(s->db, n->replaces, "cancelled", text, n->by, serve_now(s));
		if (r == 0)
			r = serve_record(s, "rollout-stopped", NULL, n->plan.component, text, n->by, "cancel",
					 n->replaces);
	}
	for (size_t i = 0; r == 0 && i < n->preempted.count; i++)
		r = preempt(s, n, n->preempted.items[i]);
	row = (struct db_rollout){ .id = n->id,
				   .component = n->plan.component,
				   .version = n->plan.version,
				   .kind = rollout_kind_name(n->plan.kind),
				   .state = "running",
				   .seq = *ret_seq,
				   .by = n->by,
				   .created_at = serve_now(s),
				   .plan = n->plan_json,
				   .release_path = n->path,
				   .release_sha256 = n->sha256 };
	if (r == 0)
		r = db_rollout_add(s->db, &row, names, n->plan.stage_count);
	snprintf(text, sizeof(text), "rollout %s of %s %s starts", n->id, n->plan.component, n->plan.version);
	if (r == 0)
		r = serve_record(s, "rollout-started", NULL, n->plan.component, text, n->by, "rollout-start",
				 n->id);
	for (size_t i = 0; r == 0 && i < n->check.overridden.count; i++) {
		char what[ID_MAX + 1200];

		snprintf(what, sizeof(what), "%s: %s: %s", n->id, n->check.overridden.items[i],
			 n->override_reason);
		r = serve_record(s, "preflight-overridden", NULL, n->plan.component, what, n->by, "override",
				 what);
	}
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	return r;
}

/* Everything a new rollout needs is there; otherwise a complaint was sent. */
static bool prepare_rollout(struct serve *s, struct web_request *rq, const struct json *doc, struct new_rollout *n)
{
	uint8_t sha256[SHA256_BYTES];
	struct conflict conflict = { .plan = &n->plan, .replaces = json_bool(json_get(doc, "replace"), false) };
	const char *wish = json_string(json_get(doc, "id"));
	uint64_t length;
	int r;

	snprintf(n->path, sizeof(n->path), "%s/%s/release.json", n->plan.component, n->plan.version);
	r = repo_target_info(s->repo, n->path, &length, sha256);
	if (r == -ENOENT) {
		web_fail(rq, 422,
			 "%s %s is not published; publish it first: selfright publish FOLDER --version %s",
			 n->plan.component, n->plan.version, n->plan.version);
		return false;
	}
	if (r < 0) {
		web_fail(rq, 500, "%s", repo_error(s->repo));
		return false;
	}
	hex_encode(n->sha256, sha256, sizeof(sha256));
	for (size_t i = 0; i < n->plan.with_count; i++) {
		const struct plan_with *w = &n->plan.with[i];
		char path[sizeof(n->path)];

		snprintf(path, sizeof(path), "%s/%s/release.json", w->component, w->version);
		r = repo_target_info(s->repo, path, &length, sha256);
		if (r == 0)
			continue;
		if (r == -ENOENT)
			web_fail(rq, 422, "%s %s is not published, so it cannot be swapped together with %s",
				 w->component, w->version, n->plan.component);
		else
			web_fail(rq, 500, "%s", repo_error(s->repo));
		return false;
	}
	if (!nodes_are_known(s, rq, &n->plan))
		return false;
	r = choose_id(s, &n->plan, wish, n->id);
	if (r == -EEXIST || r == -ERR_NAME) {
		web_fail(rq, r == -EEXIST ? 409 : 400,
			 r == -EEXIST
				 ? "the rollout id '%s' is taken; choose another or leave it out"
				 : "'%s' is no id for a rollout: lower-case letters, digits and '-', at most 63",
			 wish ? wish : "");
		return false;
	}
	if (r == 0)
		r = db_rollouts(s->db, NULL, find_conflict, &conflict);
	n->preempted = conflict.preempted;
	if (r < 0) {
		fail_database(s, rq, r);
		return false;
	}
	if (conflict.id[0] && !json_bool(json_get(doc, "replace"), false) &&
	    !json_bool(json_get(doc, "dry_run"), false)) {
		web_fail(rq, 409,
			 "the rollout '%s' of %s is not finished; cancel it, or start this one in its place with "
			 "--replace",
			 conflict.id, n->plan.component);
		return false;
	}
	snprintf(n->replaces, sizeof(n->replaces), "%s", conflict.id);
	return true;
}

/* What whoever starts it should know before he wonders why nothing happens. */
static int write_warnings(struct serve *s, struct json_node *o, const struct new_rollout *n, bool would_conflict,
			  const struct evaluation *e)
{
	CLEANUP(buf_done)
	struct buf release = BUF_INIT(RELEASE_MAX_BYTES);
	struct json_node *list = node_array(o, "warnings");
	struct string_list advice = { 0 };
	size_t young = 0;
	char span[40];
	int r;

	for (size_t i = 0; i < n->preempted.count; i++)
		node_stringf(list, NULL,
			     "the rollout '%s' of %s is not finished; the patch goes before it, and it is paused",
			     n->preempted.items[i], n->plan.component);
	if (would_conflict)
		node_stringf(list, NULL,
			     "the rollout '%s' of %s is not finished; this one starts only in its place, with "
			     "--replace, or after it",
			     n->replaces, n->plan.component);
	r = repo_read_target(s->repo, n->path, &release);
	if (r == 0)
		r = release_advice_text(release.data, release.len, &advice);
	for (size_t i = 0; r == 0 && i < advice.count; i++)
		node_string(list, NULL, advice.items[i]);
	string_list_done(&advice);
	for (size_t k = 0; k < e->plan.stage_count; k++)
		if (e->stages[k].selected == 0)
			node_stringf(list, NULL,
				     "stage '%s' selects no node that is known here: the next one waits for it",
				     e->plan.stages[k].name);
	for (size_t i = 0; i < e->count; i++)
		young += e->members[i].selected && member_is_young(s, e, &e->members[i]);
	if (young > 0)
		node_stringf(
			list, NULL,
			"%zu of the nodes %s added less than %s ago (min_age) and cannot prove a stage before",
			young, young == 1 ? "was" : "were",
			cli_span(span, sizeof(span), (int64_t) e->plan.min_age_s));
	return r;
}

/* What is stored is what was understood, and chosen. */
static bool resolve_rollout(struct serve *s, struct web_request *rq, struct new_rollout *n)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	int r;

	if (!looks_possible(s, rq, &n->plan) || !plan_resolve(s, rq, n->id, &n->plan))
		return false;
	plan_write(&n->plan, json_build_root(b));
	r = json_build_text(b, false, &n->plan_text);
	n->plan_json = buf_str(&n->plan_text);
	if (r < 0)
		web_fail(rq, 500, "%s", err_text(r));
	return r == 0;
}

/* What a request holds while others come between the slices of its check. */
struct starting {
	struct json *doc;
	struct new_rollout n;
	struct evaluation would_be;
	bool has_evaluation;
	struct check *check;
};

static void starting_done(void *note)
{
	struct starting *w = note;

	check_free(w->check);
	if (w->has_evaluation)
		evaluation_done(&w->would_be);
	string_list_done(&w->n.preempted);
	buf_done(&w->n.plan_text);
	check_answer_done(&w->n.check);
	plan_done(&w->n.plan);
	json_free(w->doc);
}

/* Begin to ask whether it may go there. False: a complaint was sent. */
static bool begin_check(struct serve *s, struct web_request *rq, struct starting *w)
{
	struct new_rollout *n = &w->n;
	struct check_request q = { .component = n->plan.component,
				   .version = n->plan.version,
				   .plan = &n->plan,
				   .kind = n->plan.kind,
				   .evaluation = &w->would_be,
				   .plan_file = n->plan_file,
				   .overrides = json_get(w->doc, "preflight_override") };
	int r;

	for (size_t i = 0; i < json_count(q.overrides); i++)
		if (preflight_item_parse(json_string(json_at(q.overrides, i))) < 0) {
			web_fail(rq, 400, "'preflight_override' names what preflight does not know");
			return false;
		}
	if (json_count(q.overrides) > 0) {
		n->override_reason = text_field(rq, w->doc, "override_reason");
		if (!n->override_reason)
			return false;
	}
	r = evaluation_make(s, n->id, ROLLOUT_RUNNING, n->plan_json, &w->would_be);
	if (r < 0) {
		fail_database(s, rq, r);
		return false;
	}
	w->has_evaluation = true;
	r = check_begin(s, &q, &w->check);
	if (r < 0)
		check_fail(s, rq, w->check, r);
	return r == 0;
}

/* May it go there? Otherwise a complaint was sent, but for a dry run, which only says so. */
static bool passes_preflight(struct serve *s, struct web_request *rq, struct starting *w, struct json_node *o)
{
	struct new_rollout *n = &w->n;
	int r = check_finish(w->check, o, &n->check);

	if (r < 0) {
		check_fail(s, rq, w->check, r);
		return false;
	}
	if (!n->check.failed || json_bool(json_get(w->doc, "dry_run"), false))
		return true;
	web_fail(rq, 422,
		 "%s %s is not ready: %s. selfright check says more; --override ITEM --reason TEXT starts it all "
		 "the "
		 "same",
		 n->plan.component, n->plan.version, buf_str(&n->check.reasons));
	return false;
}

/* Others were answered while it was checked: does what was found before still hold? Otherwise a complaint was sent. */
static bool still_stands(struct serve *s, struct web_request *rq, struct starting *w)
{
	char id[ID_MAX + 1];

	snprintf(id, sizeof(id), "%s", w->n.id);
	string_list_done(&w->n.preempted);
	if (!prepare_rollout(s, rq, w->doc, &w->n))
		return false;
	if (strcmp(id, w->n.id) == 0)
		return true;
	web_fail(rq, 409,
		 "another rollout was started as '%s' while this one was checked; look at it, and start again",
		 id);
	return false;
}

static void start_rollout(struct serve *s, struct web_request *rq, struct starting *w)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b);
	struct new_rollout *n = &w->n;
	bool dry_run = json_bool(json_get(w->doc, "dry_run"), false);
	struct evaluation e;
	uint64_t seq = 0;
	int r;

	if (!still_stands(s, rq, w) || !passes_preflight(s, rq, w, node_object(o, "preflight")))
		return;
	r = dry_run ? 0 : store_rollout(s, n, &seq);
	if (r < 0) {
		fail_database(s, rq, r);
		return;
	}
	if (!dry_run)
		control_tick(s); /* opens the first stage and publishes */
	r = evaluation_make(s, n->id, ROLLOUT_RUNNING, n->plan_json, &e);
	if (r < 0) {
		fail_database(s, rq, r);
		return;
	}
	node_string(o, "id", n->id);
	if (!dry_run)
		node_integer(o, "seq", (int64_t) seq);
	node_bool(o, "dry_run", dry_run);
	node_string(o, "component", n->plan.component);
	node_string(o, "version", n->plan.version);
	evaluation_write(s, o, &e);
	if (dry_run)
		plan_preview(s, o, &e);
	r = write_warnings(s, o, n, dry_run && n->replaces[0] && !json_bool(json_get(w->doc, "replace"), false),
			   &e);
	if (r < 0)
		log_warning("release-advice", "the release of rollout %s could not be looked at: %s", n->id,
			    err_text(r));
	evaluation_done(&e);
	if (dry_run) {
		answer(rq, 200, b);
		return;
	}
	log_notice("rollout-started", "rollout=%s seq=%" PRIu64 " component=%s version=%s", n->id, seq,
		   n->plan.component, n->plan.version);
	publish_and_answer(s, rq, 201, b);
}

/* False: a complaint was sent. */
static bool begin(struct serve *s, struct web_request *rq, struct starting *w)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(SERVE_BODY_MAX);
	struct conf_error error = { "" };
	struct new_rollout *n = &w->n;
	int r;

	w->doc = body_of(rq);
	if (!w->doc || !trust_is_there(s, rq))
		return false;
	if (!json_is(json_get(w->doc, "plan"), JSON_OBJECT)) {
		web_fail(rq, 400, "'plan' is needed, an object with component, version and stages");
		return false;
	}
	r = json_text(json_get(w->doc, "plan"), &text);
	if (r == 0)
		r = plan_parse(text.data, text.len, "plan", &n->plan, &error);
	if (r < 0) {
		web_fail(rq, 422, "%s", error.text[0] ? error.text : err_text(r));
		return false;
	}
	n->by = by_of(w->doc);
	n->plan_file = check_lines(w->doc, &n->plan);
	return prepare_rollout(s, rq, w->doc, n) && resolve_rollout(s, rq, n) && begin_check(s, rq, w);
}

void rollout_post(void *user, struct web_request *rq)
{
	struct serve *s = user;
	struct starting *w = web_note(rq, sizeof(*w), starting_done);
	int r;

	if (!w) {
		web_fail(rq, 503, "%s", err_text(-ENOMEM));
		return;
	}
	if (!w->check) {
		w->n = (struct new_rollout){ .plan_text = BUF_INIT(SERVE_BODY_MAX), .check = CHECK_ANSWER_INIT };
		if (!begin(s, rq, w))
			return;
	}
	r = check_look(w->check, rq);
	if (r < 0)
		check_fail(s, rq, w->check, r);
	else if (r == 0)
		start_rollout(s, rq, w);
}
