#include "agent/console.h"

#include "agent/install.h"
#include "agent/local/control.h"
#include "agent/local/inhibit.h"
#include "agent/local/service.h"
#include "agent/phase/facts.h"
#include "agent/phase/manifest.h"
#include "agent/phase/node.h"
#include "agent/phase/watches.h"
#include "agent/phase/phase.h"
#include "agent/phase/why.h"
#include "agent/rehearse.h"
#include "agent/probe/probe.h"
#include "agent/store/generation.h"
#include "agent/trial.h"
#include "agent/trust.h"
#include "agent/update.h"
#include "base/err.h"
#include "base/log.h"
#include "base/program.h"
#include "base/timestamp.h"
#include "json/build.h"
#include "json/json.h"
#include "zone/zone.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	RESULTS_LOOKED_AT = 64,
	RESTART_MS = 30 * 1000,
	HISTORY_LINES = 50,
	HISTORY_MAX_BYTES = CONTROL_MAX_BYTES / 2,
	LOCAL_HOLD_MAX_S = 90 * 86400
};

static void put_text(struct json_node *o, const char *name, const char *text)
{
	if (text && text[0])
		node_string(o, name, text);
	else
		node_null(o, name);
}

static void put_time(struct json_node *o, const char *name, int64_t at)
{
	char stamp[TIMESTAMP_LEN + 1];

	if (at <= 0) {
		node_null(o, name);
		return;
	}
	timestamp_format(stamp, at);
	node_string(o, name, stamp);
}

/* --- why --- */

/* Can the version before read the data of this one? Who sends it back should know. */
static void put_data(struct node *n, struct json_node *o, const struct node_component *c)
{
	struct release release = { 0 };

	if (!c || !c->version[0] || manifest_load(n, c->name, c->version, &release) < 0)
		return;
	node_bool(o, "data_compatible_back", release.data_compatible_back);
	release_done(&release);
}

static void put_why(struct node *n, struct json_node *o, const char *component)
{
	const struct node_component *c = state_component(n->state, component);
	struct why w = node_why(n, component);

	node_string(o, "component", component);
	put_text(o, "version", c ? c->version : NULL);
	put_text(o, "wants", w.d.kind == DECIDE_STAY ? NULL : w.d.version);
	put_text(o, "rollout", w.d.rollout ? w.d.rollout->id : NULL);
	node_string(o, "decision",
		    w.d.kind == DECIDE_STAY	? "stay"
		    : w.d.kind == DECIDE_TARGET ? "target"
						: "wait");
	node_string(o, "reason", reason_name(w.reason));
	node_string(o, "sentence", reason_sentence(w.reason));
	node_string(o, "change", reason_change(w.reason));
	put_text(o, "detail", w.detail);
	put_time(o, "until", w.until);
	put_data(n, o, c);
}

static void refuse_unknown(const struct string_list *names, const char *component, struct buf *answer)
{
	CLEANUP(buf_done)
	struct buf list = BUF_INIT(1024);

	for (size_t i = 0; i < names->count; i++)
		if (buf_addf(&list, "%s%s", i > 0 ? ", " : "", names->items[i]) < 0)
			break; /* the first ones are enough */
	if (names->count > 0)
		control_refuse(answer, CONTROL_ERROR, "no component %s here; there are: %s", component,
			       buf_str(&list));
	else
		control_refuse(answer, CONTROL_ERROR, "no component %s here; there are none", component);
}

static void answer_why(struct node *n, const struct json *request, struct buf *answer, struct json_node *o)
{
	const char *only = json_string(json_get(request, "component"));
	struct json_node *list = node_array(o, "components");
	struct string_list names = { 0 };
	int r = node_components(n, &names);

	if (r == 0 && only && !string_list_has(&names, only))
		refuse_unknown(&names, guard_id(only) ? only : "of that name", answer);
	else if (r == 0)
		for (size_t i = 0; i < names.count; i++)
			if (!only || str_eq(only, names.items[i]))
				put_why(n, node_object(list, NULL), names.items[i]);
	string_list_done(&names);
}

/* --- status --- */

static void put_last(struct json_node *o, const struct json *results, const char *component);

static void put_services(struct node *n, struct json_node *o, const char *component)
{
	struct json_node *list = node_array(o, "services");
	struct service_status v;

	for (size_t i = 0; services_at(n->services, i, &v); i++) {
		struct json_node *s;

		if (!str_eq(v.component, component))
			continue;
		s = node_object(list, NULL);
		node_string(s, "name", v.name);
		node_string(s, "state", v.state);
		node_integer(s, "pid", v.pid);
		node_integer(s, "restarts", v.restarts);
	}
}

static void put_component(struct node *n, struct json_node *o, const char *component, const struct json *results)
{
	const struct node_component *c = state_component(n->state, component);
	struct why w = node_why(n, component);
	struct json_node *denied;

	node_string(o, "component", component);
	put_text(o, "version", c ? c->version : NULL);
	put_text(o, "previous", c ? c->previous : NULL);
	put_text(o, "wants", w.d.kind == DECIDE_STAY ? NULL : w.d.version);
	node_string(o, "why", reason_name(w.reason));
	node_string(o, "why_detail", w.detail[0] ? w.detail : reason_sentence(w.reason));
	denied = node_array(o, "denied");
	for (size_t i = 0; c && i < c->denial_count; i++) {
		struct json_node *d = node_object(denied, NULL);

		node_string(d, "version", c->denials[i].version);
		node_string(d, "cause", node_denial_cause_name(c->denials[i].cause));
	}
	put_time(o, "until", w.until);
	put_data(n, o, c);
	put_services(n, o, component);
	put_last(o, results, component);
}

static void put_update(struct node *n, struct json_node *root)
{
	const struct node_update *u = &n->state->update;
	struct json_node *o;

	if (!update_is_active(n))
		return;
	o = node_object(root, "update");
	node_string(o, "update", u->id);
	node_string(o, "component", u->component);
	put_text(o, "from", u->from);
	put_text(o, "to", u->to);
	node_string(o, "state", node_update_state_name(u->state));
	if (u->with_count > 0) {
		struct json_node *list = node_array(o, "with");

		for (size_t i = 0; i < u->with_count; i++) {
			struct json_node *w = node_object(list, NULL);

			node_string(w, "component", u->with[i].component);
			put_text(w, "from", u->with[i].from);
			put_text(w, "to", u->with[i].to);
		}
	}
	node_integer(o, "bytes_done", (int64_t) n->attempt.bytes_done);
	node_integer(o, "bytes_total", (int64_t) n->attempt.bytes_total);
}

static void put_checks(struct node *n, struct json_node *root)
{
	struct json_node *list = node_array(root, "checks");

	node_see_checks(n);
	watches_see(n);
	for (size_t i = 0; i < n->seen_count; i++) {
		const struct seen_check *k = &n->seen[i];
		struct json_node *o = node_object(list, NULL);

		node_string(o, "component", k->component);
		node_string(o, "name", k->name);
		node_string(o, "kind", k->kind);
		node_string(o, "state", k->state);
		put_text(o, "detail", k->detail);
		node_integer(o, "runs", (int64_t) k->runs);
		node_integer(o, "failures", (int64_t) k->failures);
		put_time(o, "at", k->at);
	}
}

/* The newest lines of the history, oldest first; NULL where there is none. */
static struct json *newest_results(struct node *n)
{
	CLEANUP(buf_done)
	struct buf lines = BUF_INIT(HISTORY_MAX_BYTES), list = BUF_INIT(HISTORY_MAX_BYTES + 2 * RESULTS_LOOKED_AT);
	struct json_limits limits = json_limits_default;
	struct json *parsed = NULL;
	char *line, *rest = NULL;
	int r = 0;

	limits.max_bytes = HISTORY_MAX_BYTES + 2 * RESULTS_LOOKED_AT;
	limits.max_values = RESULTS_LOOKED_AT * 32;
	if (store_history_read(n->store, RESULTS_LOOKED_AT, &lines) < 0 || lines.len == 0)
		return NULL;
	for (line = strtok_r((char *) lines.data, "\n", &rest); r == 0 && line;
	     line = strtok_r(NULL, "\n", &rest)) {
		CLEANUP(json_freep)
		struct json *entry = NULL;

		/* A torn line is nobody's result. */
		if (json_parse(line, strlen(line), &json_limits_default, &entry) == 0)
			r = buf_addf(&list, "%s%s", list.len > 0 ? "," : "[", line);
	}
	if (r == 0 && list.len > 0)
		r = buf_add_byte(&list, ']');
	return r == 0 && list.len > 0 && json_parse(list.data, list.len, &limits, &parsed) == 0 ? parsed : NULL;
}

static void put_last(struct json_node *o, const struct json *results, const char *component)
{
	for (size_t i = json_count(results); i-- > 0;)
		if (!component || str_eq(json_string(json_get(json_at(results, i), "component")), component)) {
			node_copy(o, "last_result", json_at(results, i));
			return;
		}
}

static void put_zone(struct node *n, struct json_node *root)
{
	struct json_node *o = node_object(root, "zone");

	put_text(o, "name", n->docs.zone_name);
	put_text(o, "edition", n->docs.zone_edition);
	node_bool(o, "stale", node_zone_is_stale(n));
	if (n->docs.loaded && !n->docs.zone)
		put_text(o, "error",
			 n->docs.zone_error == -ENOPKG	 ? "there is no zone database (install tzdata)"
			 : n->docs.zone_error == -ENOENT ? "no such zone"
							 : err_text(n->docs.zone_error));
}

/* The window that a component waits for and that opens first. */
static void put_next_window(struct node *n, struct json_node *root, const struct string_list *names)
{
	struct json_node *o;
	struct zone_time t;
	const char *component = NULL;
	int64_t opens = 0;
	char text[64];

	for (size_t i = 0; i < names->count; i++) {
		struct decision d = node_decide(n, names->items[i]);

		if (d.kind == DECIDE_WAIT && d.reason == REASON_WINDOW && d.until > 0 &&
		    (!component || d.until < opens)) {
			component = names->items[i];
			opens = d.until;
		}
	}
	if (!component)
		return;
	o = node_object(root, "next_window");
	node_string(o, "component", component);
	put_time(o, "opens", opens);
	if (n->docs.zone && zone_local(n->docs.zone, opens, &t) == 0) {
		(void) snprintf(text, sizeof(text), "%04d-%02d-%02d %02d:%02d %.16s", t.year, t.month, t.day,
				t.hour, t.minute, t.abbreviation);
		node_string(o, "local", text);
	}
}

static void put_metadata(struct node *n, struct json_node *root)
{
	struct json_node *o = node_object(root, "metadata");
	struct tuf_state t = { 0 };

	tuf_client_state(n->tuf, &t);
	node_integer(o, "root", (int64_t) t.root);
	node_integer(o, "timestamp", (int64_t) t.timestamp);
	node_integer(o, "snapshot", (int64_t) t.snapshot);
	node_integer(o, "targets", (int64_t) t.targets);
	put_time(o, "expires", t.timestamp_expires);
	node_bool(o, "fresh", node_is_fresh(n));
	put_time(o, "refreshed", n->refreshed_at);
	node_integer(o, "time_floor", tuf_client_floor(n->tuf));
	put_text(o, "error", n->refresh_text);
}

static void put_inhibitors(struct node *n, struct json_node *root)
{
	struct json_node *list = node_array(root, "inhibitors");
	struct inhibitor all[INHIBIT_LIST_MAX];
	size_t count = inhibitors_list(n->inhibitors, all, ARRAY_LEN(all));

	for (size_t i = 0; i < count; i++) {
		struct json_node *o = node_object(list, NULL);

		node_string(o, "who", all[i].who);
		put_text(o, "why", all[i].why);
		put_time(o, "since", all[i].since);
	}
}

static void put_deferrals(struct node *n, struct json_node *root)
{
	struct json_node *list = node_array(root, "deferrals");

	for (size_t i = 0; i < n->state->deferral_count; i++) {
		const struct node_deferral *d = &n->state->deferrals[i];
		struct json_node *o;

		if (d->until <= node_now(n))
			continue;
		o = node_object(list, NULL);
		put_text(o, "component", d->component);
		put_time(o, "until", d->until);
		put_text(o, "reason", d->reason);
		put_text(o, "by", d->by);
	}
}

static void answer_status(struct node *n, struct json_node *o)
{
	CLEANUP(json_freep)
	struct json *results = newest_results(n);
	struct json_node *link, *trusted, *list, *hold;
	struct string_list names = { 0 };
	uint64_t generation = 0;
	char note[128];

	node_string(o, "fleet", n->config->fleet);
	node_string(o, "node", n->config->node);
	node_string(o, "agent", program_version);
	if (generation_current(n->os, n->dirs->root, &generation) == 0)
		node_integer(o, "generation", (int64_t) generation);
	node_string(o, "state", update_state_name(update_state(n)));
	node_bool(o, "stuck", n->state->stuck);
	link = node_object(o, "link");
	node_bool(link, "running", n->link != NULL);
	node_bool(link, "connected", n->link_connected);
	put_text(link, "reason", n->link_reason);
	put_text(link, "enrolment", n->enrolment);
	put_text(link, "identity", n->identity_fingerprint);
	put_time(link, "certificate_until", n->certificate_until);
	put_text(link, "certificate_issuer", n->ca_issuer);
	trusted = n->ca_trusted.count > 0 ? node_array(link, "ca") : NULL;
	for (size_t i = 0; trusted && i < n->ca_trusted.count; i++)
		node_string(trusted, NULL, n->ca_trusted.items[i]);
	put_text(link, "ca_note", n->ca_note);
	if (n->config->broker.host && config_uses_proxy(n->config, n->config->broker.host)) {
		(void) snprintf(note, sizeof(note), "MQTT goes through the proxy: %s",
				n->link_connected ? "the broker is reached"
						  : "without it the repository is polled by HTTPS");
		node_string(link, "note", note);
	}
	node_integer(link, "report", (int64_t) n->state->report_sequence);
	node_integer(link, "acknowledged", (int64_t) n->acked_sequence);
	put_metadata(n, o);
	put_update(n, o);
	if (n->state->hold_until > node_now(n)) {
		hold = node_object(o, "hold");
		put_time(hold, "until", n->state->hold_until);
		put_text(hold, "reason", n->state->hold_reason);
		put_text(hold, "by", n->state->hold_by);
	}
	put_inhibitors(n, o);
	put_deferrals(n, o);
	list = node_array(o, "components");
	if (node_components(n, &names) == 0)
		for (size_t i = 0; i < names.count; i++)
			put_component(n, node_object(list, NULL), names.items[i], results);
	put_zone(n, o);
	put_next_window(n, o, &names);
	string_list_done(&names);
	put_checks(n, o);
	put_last(o, results, NULL);
}

/* --- history --- */

/* What there is of it, first counted and then copied. */
struct wanted {
	size_t count, bytes, limit;
	struct json_node *list;
};

static void count_line(struct wanted *w, const struct json *entry, size_t len)
{
	(void) entry;
	w->count++;
	w->bytes += len;
}

static void copy_line(struct wanted *w, const struct json *entry, size_t len)
{
	if (w->count <= w->limit && w->bytes <= HISTORY_MAX_BYTES)
		node_copy(w->list, NULL, entry);
	w->count--;
	w->bytes -= len;
}

/* Of one component, or NULL: of all. A torn line is nobody's result. */
static void each_line(const struct buf *lines, const char *only,
		      void (*each)(struct wanted *w, const struct json *entry, size_t len), struct wanted *w)
{
	const char *at = (const char *) lines->data, *end = at + lines->len, *line;

	for (; at < end; at = line + 1) {
		CLEANUP(json_freep)
		struct json *entry = NULL;

		line = memchr(at, '\n', (size_t) (end - at));
		if (!line)
			line = end;
		if (json_parse(at, (size_t) (line - at), &json_limits_default, &entry) == 0 &&
		    (!only || str_eq(only, json_string(json_get(entry, "component")))))
			each(w, entry, (size_t) (line - at));
	}
}

static void answer_history(struct node *n, const struct json *request, struct json_node *o)
{
	CLEANUP(buf_done)
	struct buf lines = BUF_INIT(STORE_HISTORY_MAX);
	const char *only = json_string(json_get(request, "component"));
	struct json_node *list = node_array(o, "history");
	struct wanted all = { 0 };
	int64_t limit = HISTORY_LINES;

	if (!json_integer(json_get(request, "limit"), &limit) || limit < 1 || limit > 10000)
		limit = HISTORY_LINES;
	/* One component's lines may stand anywhere among the others'. */
	if (store_history_read(n->store, only ? 10000 : (size_t) limit, &lines) < 0 || lines.len == 0)
		return;
	/* The newest, as many as asked for and as an answer holds: those before them are passed over. */
	each_line(&lines, only, count_line, &all);
	all.list = list;
	all.limit = (size_t) limit;
	each_line(&lines, only, copy_line, &all);
}

/* --- what changes something --- */

static void answer_rollback(struct node *n, const struct json *request, struct buf *answer, struct json_node *o)
{
	const char *component = json_string(json_get(request, "component")),
		   *to = json_string(json_get(request, "to"));
	const char *reason = json_string(json_get(request, "reason"));
	char refusal[512] = "";
	int r;

	if (!component || !guard_id(component) || !reason || !reason[0] || (to && !version_is_valid(to))) {
		control_refuse(answer, CONTROL_USAGE,
			       "rollback needs a component and a reason, and `to` a version");
		return;
	}
	r = update_rollback(n, component, to, json_bool(json_get(request, "restore_data"), false), reason, refusal,
			    sizeof(refusal));
	if (r < 0) {
		control_refuse(answer, CONTROL_REFUSED, "%s", refusal[0] ? refusal : err_text(r));
		return;
	}
	log_notice("console-rollback", "component=%s update=%s", component, n->state->update.id);
	node_string(o, "update", n->state->update.id);
	if (n->state->update.state == NODE_ROLLING_BACK) {
		put_text(o, "from", n->state->update.to);
		put_text(o, "to", n->state->update.from);
	} else {
		put_text(o, "from", n->state->update.from);
		put_text(o, "to", n->state->update.to);
	}
	node_bool(o, "restores_data", n->state->update.data_from[0] || n->state->update.data_saved[0]);
}

static void user_of(const struct control_peer *peer, char *out, size_t size)
{
	const struct passwd *pw = getpwuid(peer->uid);

	if (pw)
		(void) snprintf(out, size, "%s", pw->pw_name);
	else
		(void) snprintf(out, size, "user %lu", (unsigned long) peer->uid);
}

static void answer_inhibit(struct node *n, const struct control_peer *peer, const struct json *request,
			   struct buf *answer, struct json_node *o)
{
	const char *why = json_string(json_get(request, "why"));
	char user[64], under_way[256];
	int r;

	user_of(peer, user, sizeof(user));
	if (!peer->may_change && !string_list_has(&n->config->inhibit_users, user)) {
		control_refuse(
			answer, CONTROL_REFUSED,
			"only root, the agent's own user and those of `inhibitors` in agent.yaml may do this");
		return;
	}
	if (json_bool(json_get(request, "release"), false)) {
		r = inhibitors_release(n->inhibitors, peer->pid);
		if (r < 0)
			control_refuse(answer, CONTROL_ERROR, "this process holds no inhibitor");
		return;
	}
	if (!why || !why[0]) {
		control_refuse(answer, CONTROL_USAGE, "an inhibitor needs its reason in `why`");
		return;
	}
	r = inhibitors_take(n->inhibitors, peer->pid, peer->uid, why);
	if (r == -ERR_TOO_LARGE)
		control_refuse(answer, CONTROL_REFUSED, "%d processes hold an inhibitor already",
			       INHIBIT_LOCKS_MAX);
	else if (r == -ESRCH)
		control_refuse(answer, CONTROL_REFUSED,
			       "the process cannot be seen from here (another process namespace?); put a file "
			       "into %s/inhibit instead",
			       n->config->run);
	else if (r < 0)
		control_refuse(answer, CONTROL_ERROR, "%s", err_text(r));
	if (r < 0 || !node_is_busy(n))
		return;
	/* What has begun goes on to its verdict: who needs quiet waits for it, with the lock in hand. */
	(void) snprintf(under_way, sizeof(under_way), "%s is %s", n->state->update.component,
			node_update_state_name(n->state->update.state));
	node_string(o, "under_way", under_way);
}

/* The rollouts of the component whose deadline ends the deferral sooner than was asked. */
static void put_cut(struct node *n, struct json_node *o, const struct node_deferral *d)
{
	struct json_node *list = node_array(o, "sooner");

	for (size_t i = 0; i < n->docs.rollout_count; i++) {
		const struct rollout *r = &n->docs.rollouts[i].rollout;
		int64_t end = deferral_end(r, d->until);
		struct json_node *x;

		if (end >= d->until || (d->component[0] && !rollout_release(r, d->component)))
			continue;
		x = node_object(list, NULL);
		node_string(x, "rollout", r->id);
		put_time(x, "until", end > node_now(n) ? end : node_now(n));
		put_time(x, "deadline", r->deadline);
	}
}

static void answer_defer(struct node *n, const struct control_peer *peer, const struct json *request,
			 struct buf *answer, struct json_node *o)
{
	const char *component = json_string(json_get(request, "component")),
		   *reason = json_string(json_get(request, "reason"));
	int64_t now = node_now(n), for_s = 0, until = 0;
	struct node_deferral d = { .until = 0 };
	int r;

	if (component && !guard_id(component)) {
		control_refuse(answer, CONTROL_USAGE, "that is no name of a component");
		return;
	}
	STATE_SET(d.component, component);
	if (json_bool(json_get(request, "release"), false)) {
		if (state_undefer(n->state, d.component) == 0) {
			control_refuse(answer, CONTROL_ERROR, "nothing is deferred");
			return;
		}
	} else {
		if (json_integer(json_get(request, "for_s"), &for_s))
			until = for_s > 0 && for_s <= LOCAL_HOLD_MAX_S ? now + for_s : 0;
		else
			(void) json_integer(json_get(request, "until"), &until);
		if (until <= now || until > now + LOCAL_HOLD_MAX_S) {
			control_refuse(answer, CONTROL_USAGE, "a deferral ends in the future, and within 90 days");
			return;
		}
		d.until = until;
		user_of(peer, d.by, sizeof(d.by));
		STATE_SET(d.reason, reason);
		state_defer(n->state, &d, now);
	}
	r = node_save(n);
	if (r < 0) {
		control_refuse(answer, CONTROL_ERROR, "it could not be saved: %s", err_text(r));
		return;
	}
	log_notice("console-defer", "component=%s until=%lld", d.component[0] ? d.component : "all",
		   (long long) d.until);
	n->replan = true;
	n->report_wanted = true;
	put_time(o, "until", d.until);
	if (d.until > 0)
		put_cut(n, o, &d);
}

static void answer_hold(struct node *n, const struct control_peer *peer, const struct json *request,
			struct buf *answer, struct json_node *o)
{
	const char *reason = json_string(json_get(request, "reason"));
	int64_t for_s = 0, before = n->state->hold_until;
	int r;

	if (json_bool(json_get(request, "release"), false)) {
		n->state->hold_until = n->state->hold_s = 0;
		STATE_SET(n->state->hold_reason, "");
		STATE_SET(n->state->hold_by, "");
	} else {
		if (!json_integer(json_get(request, "for_s"), &for_s) || for_s < 1 || for_s > LOCAL_HOLD_MAX_S ||
		    !reason || !reason[0]) {
			control_refuse(answer, CONTROL_USAGE,
				       "a hold needs a reason and a time of at most 90 days");
			return;
		}
		n->state->hold_until = node_now(n) + for_s;
		n->state->hold_s = for_s;
		STATE_SET(n->state->hold_reason, reason);
		user_of(peer, n->state->hold_by, sizeof(n->state->hold_by));
	}
	r = node_save(n);
	if (r < 0) {
		n->state->hold_until = before;
		control_refuse(answer, CONTROL_ERROR, "it could not be saved: %s", err_text(r));
		return;
	}
	log_notice("console-hold", "until=%lld", (long long) n->state->hold_until);
	n->replan = true;
	n->report_wanted = true;
	put_time(o, "until", n->state->hold_until);
}

static void answer_install(struct node *n, const struct json *request, struct buf *answer, struct json_node *o)
{
	const char *path = json_string(json_get(request, "bundle"));
	char refusal[INSTALL_SENTENCE_SIZE] = "";
	int r;

	if (!path || path[0] != '/') {
		control_refuse(answer, CONTROL_USAGE, "install needs the absolute path of a bundle");
		return;
	}
	r = install_begin(n, path, refusal, sizeof(refusal));
	if (r < 0)
		control_refuse(answer, r == -EBUSY ? CONTROL_REFUSED : CONTROL_ERROR, "%s", refusal);
	else
		node_string(o, "bundle", path);
}

static void answer_install_status(const struct node *n, struct json_node *o)
{
	const struct installation *i = &n->installation;

	node_bool(o, "over", i->over);
	node_bool(o, "active", n->bundle != NULL);
	node_string(o, "bundle", i->path);
	if (i->over) {
		node_integer(o, "result", i->code);
		node_string(o, "sentence", i->sentence);
	}
}

/* What runs from the damaged tree has its files open: it is started again from the mended one. */
static int restart_services(struct node *n, const char *component, const char *version)
{
	struct command_context context = { .config = n->config, .component = component, .version = version };
	struct release release = { 0 };
	uint64_t until = node_now_ms(n) + RESTART_MS;
	char *root;
	int r = manifest_load(n, component, version, &release);

	if (r < 0)
		return r;
	services_stop(n->services, component, false);
	while (services_settled(n->services, component, NULL) == 0 && node_now_ms(n) < until && !n->stopping)
		n->pump(n, 50);
	root = node_current_root(n, component);
	context.root = root;
	r = root ? services_apply(n->services, &context, &release) : -ENOMEM;
	free(root);
	release_done(&release);
	return r;
}

static void answer_repair(struct node *n, const struct json *request, struct buf *answer, struct json_node *o)
{
	const char *component = json_string(json_get(request, "component")),
		   *version = json_string(json_get(request, "version"));
	const struct node_component *c;
	enum update_state s = update_state(n);
	char words[600] = "";
	int r;

	if (!component || !guard_id(component) || !version || !version_is_valid(version)) {
		control_refuse(answer, CONTROL_USAGE, "repair needs a component and a version");
		return;
	}
	if (s != STATE_IDLE && s != STATE_WATCH && s != STATE_STUCK) {
		control_refuse(answer, CONTROL_REFUSED, "an update is %s; try again when it has its verdict",
			       update_state_name(s));
		return;
	}
	r = stage_repair(n, component, version, words, sizeof(words));
	if (r < 0) {
		control_refuse(answer, CONTROL_ERROR, "%s", words);
		return;
	}
	c = state_component(n->state, component);
	if (c && str_eq(c->version, version) && !n->image)
		r = restart_services(n, component, version);
	if (r < 0)
		log_error("service-not-restarted", "component=%s reason=%s", component, err_text(r));
	n->mend_ms = 0; /* a stuck node tries its way back at once */
	n->attempt.wake_ms = node_now_ms(n);
	node_string(o, "component", component);
	node_string(o, "version", version);
}

static void answer_rehearse(struct node *n, const struct json *request, struct buf *answer, struct json_node *o)
{
	const char *what = json_string(json_get(request, "what"));

	if (!n->config->rehearse) {
		control_refuse(answer, CONTROL_REFUSED,
			       "this node's configuration does not allow rehearsals (agent.yaml: rehearse: true)");
		return;
	}
	if (!what || rehearse_arm(n->rehearsal, what) < 0) {
		control_refuse(
			answer, CONTROL_USAGE,
			"rehearse takes STEP:FAULT, a state of an update and one of kill, ENOSPC, EIO, EMFILE, "
			"ENOMEM");
		return;
	}
	log_warning("rehearsal-armed", "what=%s", what);
	node_string(o, "what", what);
}

bool console_changes(const char *command)
{
	/* Who may inhibit is judged with the request; it changes nothing an update is in the middle of. */
	static const char *const reading[] = { "status", "why", "history", "inhibit", "install-status", "trial" };

	for (size_t i = 0; i < ARRAY_LEN(reading); i++)
		if (str_eq(command, reading[i]))
			return false;
	return true;
}

void console_answer(void *user, const struct control_peer *peer, const struct json *request, struct buf *answer)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	const char *command = json_string(json_get(request, "command"));
	struct json_node *o = json_build_root(b);
	struct node *n = user;

	node_bool(o, "ok", true);
	if (str_eq(command, "status"))
		answer_status(n, o);
	else if (str_eq(command, "why"))
		answer_why(n, request, answer, o);
	else if (str_eq(command, "history"))
		answer_history(n, request, o);
	else if (str_eq(command, "rollback"))
		answer_rollback(n, request, answer, o);
	else if (str_eq(command, "hold"))
		answer_hold(n, peer, request, answer, o);
	else if (str_eq(command, "defer"))
		answer_defer(n, peer, request, answer, o);
	else if (str_eq(command, "inhibit"))
		answer_inhibit(n, peer, request, answer, o);
	else if (str_eq(command, "repair"))
		answer_repair(n, request, answer, o);
	else if (str_eq(command, "rehearse"))
		answer_rehearse(n, request, answer, o);
	else if (str_eq(command, "install"))
		answer_install(n, request, answer, o);
	else if (str_eq(command, "install-status"))
		answer_install_status(n, o);
	else if (str_eq(command, "try"))
		trial_answer_begin(n, answer);
	else if (str_eq(command, "trial"))
		trial_answer(n, o);
	else if (str_eq(command, "trust-replace"))
		trust_answer_replace(n, json_string(json_get(request, "root")),
				     json_string(json_get(request, "sha256")), answer, o);
	else
		control_refuse(answer, CONTROL_USAGE, "this agent knows no command of that name");
	if (answer->len == 0 && json_build_text(b, false, answer) < 0)
		control_refuse(answer, CONTROL_ERROR, "the answer could not be composed");
}
