/*
 * Looks outside for gates: programs of their own (selfright-gate), a few at a time, each with a deadline, whose
 * answers are stored when they come. The loop waits for none of them. And what is read for them beside the plan:
 * DIR/gates.yaml and DIR/calendar.yaml, again whenever they change.
 */
#include "base/err.h"
#include "base/log.h"
#include "conf/conf.h"
#include "json/build.h"
#include "json/json.h"
#include "os/durable.h"
#include "server-stub/cli/helper.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/cli/watched_file.h"
#include "server-stub/ingest/db.h"
#include "server-stub/rollout/sources.h"
#include "server-stub/rollout/staffed.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum {
	JOBS_MAX = 8,
	ANSWER_MAX = 512 * 1024,
	QUESTION_MAX = 256 * 1024,
	GRACE_MS = 5000, /* beyond a look's own deadlines */
	FILE_MAX = 1024 * 1024,
};

struct job {
	struct helper helper;
	char rollout[ID_MAX + 1], gate[ID_MAX + 1];
	size_t position;
};

struct looker {
	struct job jobs[JOBS_MAX];
	struct watched_file sources_file, calendar_file;
	struct gate_sources sources;
	struct staffed *calendar;
};

static struct looker *looker_of(struct serve *s)
{
	if (!s->looker)
		s->looker = calloc(1, sizeof(*s->looker));
	return s->looker;
}

/* --- the files --- */

static int file_path(const struct serve *s, const char *name, char ret[static PATH_MAX])
{
	return snprintf(ret, PATH_MAX, "%s/%s", s->options.dir, name) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* What cannot be read allows nothing, and nobody is on duty: a gate waits then and says so. */
static void read_files(struct serve *s, struct looker *l)
{
	CLEANUP(conf_file_freep)
	struct conf_file *f = NULL;
	struct conf_error e = { "" };
	char path[PATH_MAX];
	int r;

	if (watched_file_changed(&l->sources_file, s->options.dir, "gates.yaml")) {
		sources_done(&l->sources);
		r = l->sources_file.there ? file_path(s, "gates.yaml", path) : 0;
		if (r == 0 && l->sources_file.there)
			r = conf_load(path, &f, &e);
		if (r == 0 && f)
			r = sources_read(conf_root(f), &l->sources, &e);
		l->sources_file.broken = r < 0;
		if (r < 0)
			log_error("gates-file", "nothing of it is used: %s", e.text[0] ? e.text : err_text(r));
	}
	if (watched_file_changed(&l->calendar_file, s->options.dir, "calendar.yaml")) {
		conf_file_free(f);
		f = NULL;
		staffed_free(l->calendar);
		l->calendar = NULL;
		r = l->calendar_file.there ? file_path(s, "calendar.yaml", path) : 0;
		if (r == 0 && l->calendar_file.there)
			r = conf_load(path, &f, &e);
		if (r == 0 && f)
			r = staffed_read(s->os, conf_root(f), &l->calendar, &e);
		l->calendar_file.broken = r < 0;
		if (r < 0)
			log_error("calendar-file", "nobody is on duty by it: %s",
				  e.text[0] ? e.text : err_text(r));
	}
}

void looks_duty(struct serve *s, struct gate_duty *ret)
{
	struct looker *l = looker_of(s);

	*ret = (struct gate_duty){ .known = true };
	if (!l)
		return;
	read_files(s, l);
	ret->known = l->calendar_file.there;
	if (l->calendar && staffed_next(l->calendar, serve_now(s), &ret->from, &ret->until) < 0)
		ret->from = ret->until = 0;
}

bool looks_possible(struct serve *s, struct web_request *rq, const struct plan *p)
{
	struct looker *l = looker_of(s);
	char why[512];

	if (!l) {
		web_fail(rq, 500, "%s", err_text(-ENOMEM));
		return false;
	}
	read_files(s, l);
	for (size_t i = 0; i < p->gate_count; i++) {
		if (l->sources_file.broken && gate_looks_outside(&p->gates[i]) && p->gates[i].kind != GATE_HTTP) {
			web_fail(rq, 422, "gates.yaml cannot be read; the log of serve says why");
			return false;
		}
		if (!sources_allow(&l->sources, &p->gates[i], why, sizeof(why))) {
			web_fail(rq, 422, "%s", why);
			return false;
		}
	}
	return true;
}

/* --- one look --- */

static struct job *find_job(struct looker *l, const char *rollout, size_t position, const char *gate)
{
	for (size_t i = 0; i < JOBS_MAX; i++)
		if (l->jobs[i].helper.busy && l->jobs[i].position == position &&
		    strcmp(l->jobs[i].rollout, rollout) == 0 && strcmp(l->jobs[i].gate, gate) == 0)
			return &l->jobs[i];
	return NULL;
}

static struct job *free_job(struct looker *l)
{
	for (size_t i = 0; i < JOBS_MAX; i++)
		if (!l->jobs[i].helper.busy)
			return &l->jobs[i];
	return NULL;
}

static void store_failure(struct serve *s, const char *rollout, size_t position, const char *gate, const char *why)
{
	const struct gate_look l = { .at = serve_now(s), .said = GATE_INCONCLUSIVE, .text = why };
	int r = gates_keep_look(s, rollout, position, gate, &l);

	log_warning("gate-look", "rollout=%s gate=%s: %s", rollout, gate, why);
	if (r < 0)
		log_error("gate-look", "it could not be stored: %s (%s)", err_text(r), db_error(s->db));
}

static void write_server(struct json_node *o, const struct gate_server *server)
{
	if (!server)
		return;
	o = node_object(o, "server");
	node_string(o, "kind", server->is_alertmanager ? "alertmanager" : "prometheus");
	node_string(o, "url", server->url);
	if (server->ca_file)
		node_string(o, "ca_file", server->ca_file);
	if (server->token_file)
		node_string(o, "token_file", server->token_file);
}

/* How far back an Alertmanager was quiet, if nobody looked away since the last look. */
static int64_t quiet_since(const struct gate *g, const struct gate_facts *f, int64_t now)
{
	const struct gate_look *last = f->look_count ? &f->looks[f->look_count - 1] : NULL;

	return last && last->said == GATE_PASS && now - last->at <= (int64_t) (3 * g->every_s + 60) ? last->since
												    : 0;
}

static int write_question(struct serve *s, struct looker *l, const char *id, const struct evaluation *e,
			  size_t position, const struct gate *g, const struct gate_facts *f, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b), *env;

	gate_write(g, node_object(o, "gate"));
	if (g->kind == GATE_PROMETHEUS || g->kind == GATE_ALERTS)
		write_server(o, sources_server(&l->sources, g->kind == GATE_ALERTS ? g->u.alerts.server
										   : g->u.prometheus.server));
	node_integer(o, "now", serve_now(s));
	node_integer(o, "opened_at", e->stages[position].opened_at);
	node_integer(o, "since", quiet_since(g, f, serve_now(s)));
	if (l->sources.user)
		node_string(o, "user", l->sources.user);
	if (l->sources.proxy)
		node_string(o, "proxy", l->sources.proxy);
	env = node_object(o, "environment");
	node_string(env, "ROLLOUT", id);
	node_string(env, "STAGE", e->plan.stages[position].name);
	node_string(env, "COMPONENT", e->plan.component);
	node_string(env, "VERSION", e->plan.version);
	node_string(env, "GATE", g->name);
	return json_build_text(b, false, out);
}

static uint64_t timeout_of(const struct gate *g)
{
	switch (g->kind) {
	case GATE_PROMETHEUS:
		return g->u.prometheus.timeout_s;
	case GATE_HTTP:
		return g->u.http.timeout_s;
	case GATE_COMMAND:
		return g->u.command.timeout_s;
	case GATE_ALERTS:
		return 2 * g->u.alerts.timeout_s; /* two questions */
	default:
		return 0;
	}
}

static void start_look(struct serve *s, struct looker *l, struct job *job, const char *id,
		       const struct evaluation *e, size_t position, const struct gate *g,
		       const struct gate_facts *f)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(QUESTION_MAX);
	char why[512];
	int r;

	/* The file may have changed since the rollout was started. */
	if (!sources_allow(&l->sources, g, why, sizeof(why))) {
		store_failure(s, id, position, g->name, why);
		return;
	}
	r = write_question(s, l, id, e, position, g, f, &text);
	if (r == 0)
		r = helper_start("selfright-gate", &text, ANSWER_MAX,
				 serve_now_ms(s) + timeout_of(g) * 1000 + GRACE_MS, &job->helper);
	if (r < 0) {
		snprintf(why, sizeof(why), "the program that looks does not start: %s", err_text(r));
		store_failure(s, id, position, g->name, why);
		return;
	}
	snprintf(job->rollout, sizeof(job->rollout), "%s", id);
	snprintf(job->gate, sizeof(job->gate), "%s", g->name);
	job->position = position;
}

int64_t looks_begin(struct serve *s, const char *id, const struct evaluation *e, size_t position,
		    const struct gate_facts *facts, size_t count)
{
	struct looker *l = looker_of(s);
	int64_t now = serve_now(s), next = INT64_MAX;

	if (!l)
		return now + 1;
	read_files(s, l);
	for (size_t i = 0; i < count; i++) {
		const struct gate *g = &e->plan.gates[facts[i].gate];
		const struct schedule_gate *asked = &e->decision.gates[facts[i].gate];
		const struct gate_look *last =
			facts[i].look_count ? &facts[i].looks[facts[i].look_count - 1] : NULL;
		int64_t due = last ? last->at + (int64_t) g->every_s : now;
		struct job *job;

		if (!gate_looks_outside(g) || !(g->from_opening || asked->due) ||
		    find_job(l, id, position, g->name))
			continue;
		/* A clock that was set back must not keep us from looking. */
		if (last && last->at > now)
			due = now;
		if (due > now) {
			next = due < next ? due : next;
			continue;
		}
		job = free_job(l);
		if (job)
			start_look(s, l, job, id, e, position, g, &facts[i]);
		next = job ? next : now + 1;
	}
	return next;
}

/* --- answers --- */

static int read_answer(const struct buf *answer, struct gate_look *look, struct json **ret_doc)
{
	int64_t samples = 0;
	int said, r = json_parse(answer->data, answer->len, &json_limits_default, ret_doc);

	if (r < 0)
		return r;
	said = gate_verdict_parse(json_string(json_get(*ret_doc, "said")));
	look->text = json_string(json_get(*ret_doc, "text"));
	if (said < 0 || !look->text || !gate_parse_number(json_string(json_get(*ret_doc, "low")), &look->low) ||
	    !gate_parse_number(json_string(json_get(*ret_doc, "high")), &look->high) ||
	    !json_integer(json_get(*ret_doc, "samples"), &samples) || samples < 0 ||
	    !json_integer(json_get(*ret_doc, "since"), &look->since))
		return -ERR_FIELD_VALUE;
	look->said = (enum gate_verdict) said;
	look->samples = (uint64_t) samples;
	return 0;
}

static void take_answer(struct serve *s, struct job *job, int status)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	CLEANUP(buf_done)
	struct buf data = BUF_INIT(ANSWER_MAX);
	struct gate_look look = { .at = serve_now(s) };
	char words[64], why[160];
	int r;

	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		snprintf(why, sizeof(why), "the program that looks %s",
			 process_status_text(status, words, sizeof(words)));
		store_failure(s, job->rollout, job->position, job->gate, why);
		return;
	}
	r = read_answer(&job->helper.answer, &look, &doc);
	if (r < 0) {
		store_failure(s, job->rollout, job->position, job->gate, "the program that looks gave no answer");
		return;
	}
	if (json_get(doc, "data") && json_text(json_get(doc, "data"), &data) < 0)
		buf_clear(&data); /* the numbers are what is judged */
	look.data = data.len ? buf_str(&data) : NULL;
	r = gates_keep_look(s, job->rollout, job->position, job->gate, &look);
	if (r < 0)
		log_error("gate-look", "rollout=%s gate=%s could not be stored: %s (%s)", job->rollout, job->gate,
			  err_text(r), db_error(s->db));
}

void looks_tick(struct serve *s)
{
	for (size_t i = 0; s->looker && i < JOBS_MAX; i++) {
		struct job *job = &s->looker->jobs[i];
		int status = 0, ended;

		if (!job->helper.busy)
			continue;
		ended = helper_poll(&job->helper, serve_now_ms(s), &status);
		if (ended == 0)
			continue;
		if (ended > 0)
			take_answer(s, job, status);
		else
			store_failure(s, job->rollout, job->position, job->gate, "the program that looks is lost");
		helper_done(&job->helper);
	}
}

void looks_shorten(const struct serve *s, int *timeout_ms)
{
	for (size_t i = 0; s->looker && i < JOBS_MAX; i++)
		if (s->looker->jobs[i].helper.busy && *timeout_ms > HELPER_BUSY_MS)
			*timeout_ms = HELPER_BUSY_MS;
}

void looks_done(struct serve *s)
{
	if (!s->looker)
		return;
	for (size_t i = 0; i < JOBS_MAX; i++)
		helper_done(&s->looker->jobs[i].helper);
	sources_done(&s->looker->sources);
	staffed_free(s->looker->calendar);
	free(s->looker);
	s->looker = NULL;
}
