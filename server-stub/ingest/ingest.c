#include "server-stub/ingest/ingest.h"

#include "base/err.h"
#include "crypto/digest.h"
#include "json/build.h"
#include "json/json.h"
#include "model/catalogue.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_audit.h"
#include "server-stub/ingest/db_budget.h"
#include "server-stub/ingest/db_events.h"
#include "server-stub/ingest/db_metrics.h"
#include "server-stub/ingest/db_nodes.h"
#include "server-stub/ingest/db_places.h"
#include "server-stub/ingest/db_reports.h"
#include "tuf/tuf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	EVENT_MAX_BYTES = 16 * 1024,
	PRESENCE_MAX_BYTES = 1024,
	LEASE_MAX_BYTES = 16 * 1024,
	LINE_BYTES = 1024,
	METRIC_HOURS_LATE = 48
};

static const struct json_limits report_limits = { REPORT_MAX_BYTES, 24, 50000 };
static const struct json_limits event_limits = { EVENT_MAX_BYTES, 4, 64 };

static const char *const verdict_names[] = {
	[INGEST_STORED] = "stored",	      [INGEST_DUPLICATE] = "duplicate",	 [INGEST_OLD] = "old",
	[INGEST_QUARANTINED] = "quarantined", [INGEST_UNKNOWN] = "unknown-node", [INGEST_UNSIGNED] = "not-signed",
	[INGEST_MALFORMED] = "malformed",
};
_Static_assert(ARRAY_LEN(verdict_names) == INGEST_VERDICT_COUNT, "every verdict has its name");

const char *ingest_verdict_name(enum ingest_verdict v)
{
	return verdict_names[v];
}

static void verdict(struct ingest_outcome *o, enum ingest_verdict v, const char *text)
{
	o->verdict = v;
	snprintf(o->text, sizeof(o->text), "%s", text);
}

static int stranger(struct db *db, struct ingest_outcome *o, enum ingest_verdict v, const char *node,
		    const char *text, int64_t now)
{
	verdict(o, v, text);
	/* One budget for all: names cost nothing. */
	return db_budget(db, DB_BUDGET_STRANGERS, "", now) ? db_stranger(db, node, text, now) : 0;
}

/* A version, state or name for a sentence; "nothing" for the absent component. */
static const char *or_nothing(const char *s)
{
	return s && *s ? s : "nothing";
}

static int result_event(struct db *db, const struct report *report, const struct report_result *r, int64_t now)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf detail = BUF_INIT(REPORT_MAX_BYTES);
	const struct catalogue_row *row = r->number <= INT32_MAX ? catalogue_find((int) r->number) : NULL;
	const char *sentence = row ? row->sentence : or_nothing(r->name);
	bool more = r->detail && *r->detail && strcmp(r->detail, sentence) != 0;
	struct json_node *o = json_build_root(b);
	char text[LINE_BYTES];
	int e;

	node_integer(o, "number", (int64_t) r->number);
	node_string(o, "name", r->name);
	node_string(o, "class", r->class);
	node_string(o, "from", r->from);
	node_string(o, "to", r->to);
	node_string(o, "update", r->update);
	node_string(o, "rollout", r->rollout);
	node_string(o, "stage", r->stage);
	node_integer(o, "duration_ms", (int64_t) r->duration_ms);
	node_integer(o, "pause_ms", (int64_t) r->pause_ms);
	e = json_build_text(b, false, &detail);
	if (e < 0)
		return e;
	if (r->number == RESULT_GOOD)
		snprintf(text, sizeof(text), "%s is good (was %s)", or_nothing(r->to), or_nothing(r->from));
	else
		snprintf(text, sizeof(text), "%s: %s%s%s", or_nothing(r->to), sentence, more ? ": " : "",
			 more ? r->detail : "");
	return db_event_add(db, &(struct db_event){
					.at = now,
					.kind = r->number == RESULT_GOOD ? "good" : "result",
					.node = report->node,
					.component = r->component,
					.text = text,
					.detail = buf_str(&detail),
				});
}

static int store_results(struct db *db, const struct report *report, int64_t now, unsigned *ret_news)
{
	for (size_t i = 0; i < report->result_count; i++) {
		const struct report_result *r = &report->results[i];
		const struct db_result row = {
			.node = report->node,
			.update = r->update,
			.component = r->component,
			.from = r->from,
			.to = r->to,
			.rollout = r->rollout,
			.stage = r->stage,
			.release_sha256 = r->release_sha256,
			.name = r->name,
			.class = r->class,
			.detail = r->detail,
			.log_tail = r->log_tail,
			.seq = r->seq,
			.number = r->number,
			.at = r->at,
			.received_at = now,
			.duration_ms = r->duration_ms,
			.pause_ms = r->pause_ms,
		};
		int added = db_result_add(db, &row), e;

		if (added < 0)
			return added;
		if (added == 0)
			continue;
		(*ret_news)++;
		e = result_event(db, report, r, now);
		if (e < 0)
			return e;
	}
	return 0;
}

static int store_components(struct db *db, const struct report *report)
{
	int r = db_components_clear(db, report->node);

	for (size_t i = 0; r == 0 && i < report->component_count; i++) {
		const struct report_component *c = &report->components[i];
		const struct db_component row = {
			.component = c->component,
			.version = c->version,
			.previous = c->previous,
			.rollout = c->rollout,
			.stage = c->stage,
			.why = c->why,
			.why_detail = c->why_detail,
			.wants = c->wants,
			.denies = c->denied_count > 0,
		};

		r = db_component_store(db, report->node, &row);
	}
	return r;
}

static int labels_text(const struct labels *labels, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *j = NULL;
	CLEANUP(buf_done)
	struct buf whole = BUF_INIT(REPORT_MAX_BYTES);
	int r;

	labels_write(labels, json_build_root(b), "labels");
	r = json_build_canonical(b, &whole);
	if (r < 0)
		return r;
	r = json_parse(whole.data, whole.len, &report_limits, &j);
	if (r < 0)
		return r;
	return json_text(json_get(j, "labels"), out);
}

static const char *check_in_state(const struct report *report, const char *state)
{
	for (size_t i = 0; i < report->check_count; i++)
		if (str_eq(report->checks[i].state, state))
			return report->checks[i].name;
	return NULL;
}

/* Hours that have not come yet, or that nobody would still tell, are of a clock that is wrong. */
static int store_metrics(struct db *db, const struct report *report, int64_t now)
{
	int64_t hour = now / 3600;
	int r = 0;

	for (size_t i = 0; r == 0 && i < report->metric_count; i++) {
		const struct report_metric *m = &report->metrics[i];
		const struct db_series s = { report->node, m->component, m->name, m->version };
		struct db_hour hours[REPORT_METRIC_HOURS_MAX];
		size_t n = 0;

		for (size_t k = 0; k < m->hour_count; k++)
			if (m->hours[k].hour <= hour && m->hours[k].hour > hour - METRIC_HOURS_LATE)
				hours[n++] = (struct db_hour){ m->hours[k].hour, m->hours[k].mean,
							       m->hours[k].samples };
		if (n > 0)
			r = db_metric_store(db, &s, hours, n);
	}
	return r;
}

/* The news of a report that is signed, whole and higher than all before. */
static int store(struct db *db, const struct report *report, const char *body, const char *digest, bool first,
		 bool new_boot, bool quarantined, int64_t now, unsigned *ret_news)
{
	CLEANUP(buf_done)
	struct buf labels = BUF_INIT(REPORT_MAX_BYTES);
	struct db_report row = {
		.node = report->node,
		.boot_id = report->boot_id,
		.body = body,
		.sequence = report->sequence,
		.now = now,
		.bytes_done = report->progress.bytes_done,
		.bytes_total = report->progress.bytes_total,
		.timestamp = report->timestamp_version,
		.failing = check_in_state(report, "failing"),
		.degraded = check_in_state(report, "not-blamed"),
	};
	int r;

	r = labels_text(&report->labels, &labels);
	if (r < 0)
		return r;
	row.labels = buf_str(&labels);
	if (report->progress.update) {
		row.under_way = report->progress.component;
		row.under_way_to = report->progress.to;
		row.under_way_state = report->progress.state;
		row.under_way_update = report->progress.update;
	}
	r = db_report_store(db, &row, digest);
	if (r < 0)
		return r;
	r = store_components(db, report);
	if (r < 0 || quarantined)
		return r;
	if (first || new_boot) {
		const struct db_event e = {
			.at = now,
			.kind = first ? "joined" : "restarted",
			.node = report->node,
			.text = first ? "reported for the first time" : "reports after a restart",
		};

		r = db_event_add(db, &e);
		if (r < 0)
			return r;
	}
	r = store_metrics(db, report, now);
	return r < 0 ? r : store_results(db, report, now, ret_news);
}

struct node_state {
	bool quarantined;
};

static int read_state(void *user, const struct db_node *row)
{
	struct node_state *s = user;

	s->quarantined = row->quarantined;
	return 0;
}

static int quarantine(struct db *db, struct ingest_outcome *o, const char *node, const char *why, int64_t now)
{
	const struct db_event e = { .at = now, .kind = "quarantine", .node = node, .text = why };
	int r;

	verdict(o, INGEST_QUARANTINED, why);
	r = db_node_quarantine(db, node, why);
	if (r < 0)
		return r;
	r = db_event_add(db, &e);
	if (r < 0)
		return r;
	return db_audit(db, now, "ingest", "quarantine", node);
}

static void acknowledge(struct ingest_outcome *o, const struct report *report, uint64_t sequence, int64_t now)
{
	o->acknowledge = true;
	o->ack = (struct ack){ .sequence = sequence, .at = now };
	snprintf(o->ack.fleet, sizeof(o->ack.fleet), "%s", report->fleet);
	snprintf(o->ack.node, sizeof(o->ack.node), "%s", report->node);
	snprintf(o->ack.boot_id, sizeof(o->ack.boot_id), "%s", report->boot_id);
	snprintf(o->ack.nonce, sizeof(o->ack.nonce), "%s", report->nonce ? report->nonce : "");
}

static int judge(struct db *db, const struct report *report, const struct json *signed_part, int64_t now,
		 struct ingest_outcome *o)
{
	CLEANUP(buf_done)
	struct buf canonical = BUF_INIT(2 * REPORT_MAX_BYTES), body = BUF_INIT(8 * REPORT_MAX_BYTES);
	char digest[SHA256_HEX + 1];
	struct node_state state = { false };
	struct db_seen seen;
	int r;

	/* What was signed is the canonical form: a carrier that writes the same in another order changes nothing. */
	r = json_canonical(signed_part, &canonical);
	if (r < 0)
		return r;
	r = sha256_hex(canonical.data, canonical.len, digest);
	if (r < 0)
		return r;
	r = json_text(signed_part, &body);
	if (r < 0)
		return r;
	r = db_nodes(db, report->node, read_state, &state);
	if (r < 0)
		return r;
	r = db_report_seen(db, report->node, report->boot_id, report->sequence, digest, &seen);
	if (r < 0)
		return r;

	if (report->sequence > seen.highest) {
		r = store(db, report, buf_str(&body), digest, seen.highest == 0,
			  seen.highest != 0 && !seen.boot_known, state.quarantined, now, &o->news);
		if (r < 0)
			return r;
		if (state.quarantined) {
			verdict(o, INGEST_QUARANTINED,
				"the node is in quarantine: its reports are shown, not counted");
			return 0;
		}
		verdict(o, INGEST_STORED, "stored");
		acknowledge(o, report, report->sequence, now);
		return 0;
	}
	if (state.quarantined) {
		verdict(o, INGEST_QUARANTINED, "the node is in quarantine");
		return 0;
	}
	if (seen.sequence_seen && !seen.same && !seen.same_boot)
		return quarantine(db, o, report->node,
				  "two boots used one report number: its key is on two machines", now);
	if (report->sequence == seen.highest) {
		verdict(o, INGEST_DUPLICATE, "known already");
		/* Whoever got hold of a report can say it again and again: not each is worth a signature. */
		if (db_budget(db, DB_BUDGET_AGAIN, report->node, now))
			acknowledge(o, report, seen.highest, now);
		return 0;
	}
	if (seen.sequence_seen && !seen.same)
		return quarantine(
			db, o, report->node,
			"a second text under a report number that was used: the machine was set back to a copy",
			now);
	if (!seen.boot_known)
		return quarantine(db, o, report->node,
				  "a lower report number from a boot not seen before: a copy or a restored disk",
				  now);
	verdict(o, INGEST_OLD, "older than what is stored");
	return 0;
}

int ingest_report(struct db *db, const char *fleet, const char *node, const void *bytes, size_t len, int64_t now,
		  struct ingest_outcome *ret)
{
	CLEANUP(buf_done)
	struct buf identity = BUF_INIT(16 * 1024);
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct report report = { 0 };
	char *why = NULL;
	int r;

	*ret = (struct ingest_outcome){ .verdict = INGEST_MALFORMED };
	if (!guard_id(node)) {
		verdict(ret, INGEST_UNKNOWN, "not a node's name");
		return 0;
	}
	r = db_node_identity(db, node, &identity);
	if (r == -ENOENT)
		return stranger(db, ret, INGEST_UNKNOWN, node, "no such node in this fleet", now);
	if (r < 0)
		return r;
	if (len > REPORT_MAX_BYTES)
		return stranger(db, ret, INGEST_MALFORMED, node, "larger than a report may be", now);
	r = tuf_keyring_single(buf_str(&identity), &ring);
	if (r < 0)
		return r;
	r = tuf_envelope_open(bytes, len, ring, &doc);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		return stranger(db, ret, INGEST_UNSIGNED, node, "not signed by the node's identity key", now);

	r = report_parse(json_get(doc, "signed"), &report, &why);
	if (r == -ENOMEM)
		goto out;
	if (r < 0) {
		char text[200];

		snprintf(text, sizeof(text), "signed, but not a report: %s", why ? why : err_text(r));
		r = stranger(db, ret, INGEST_MALFORMED, node, text, now);
		goto out;
	}
	if (report.sequence == 0) {
		r = stranger(db, ret, INGEST_MALFORMED, node, "signed, but without a report number", now);
		goto out;
	}
	if (!str_eq(report.node, node) || !str_eq(report.fleet, fleet)) {
		r = stranger(db, ret, INGEST_UNSIGNED, node, "a report of another node or fleet", now);
		goto out;
	}
	if (!db_budget(db, DB_BUDGET_REPORTS, node, now)) {
		verdict(ret, INGEST_OLD, "more reports in a minute than a node has to send");
		goto out;
	}
	r = db_begin(db);
	if (r < 0)
		goto out;
	r = judge(db, &report, json_get(doc, "signed"), now, ret);
	ret->timestamp = report.timestamp_version;
	if (r == 0)
		r = db_commit(db);
	if (r < 0) {
		db_abort(db);
		*ret = (struct ingest_outcome){ .verdict = INGEST_MALFORMED };
	}
out:
	report_done(&report);
	free(why);
	return r;
}

/* 1: `ret` is what the node signed, the caller's; 0: it did not, or is none of ours; negative: our own failure. */
static int open_signed(struct db *db, const char *node, const void *bytes, size_t len, struct json **ret)
{
	CLEANUP(buf_done)
	struct buf identity = BUF_INIT(16 * 1024);
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	int r = db_node_identity(db, node, &identity);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = tuf_keyring_single(buf_str(&identity), &ring);
	if (r < 0)
		return r;
	r = tuf_envelope_open(bytes, len, ring, ret);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	return 1;
}

int ingest_lease(struct db *db, const char *fleet, const char *node, const void *bytes, size_t len, int64_t now,
		 struct lease *ret, const char **ret_refusal)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct lease lease;
	bool ended = false;
	int r;

	*ret_refusal = "no request of a node of this fleet";
	if (!guard_id(node) || len > LEASE_MAX_BYTES)
		return 0;
	if (!db_budget(db, DB_BUDGET_LEASES, node, now)) {
		*ret_refusal = "more requests in a minute than a node has to send";
		return 0;
	}
	r = open_signed(db, node, bytes, len, &doc);
	if (r <= 0)
		return r;
	r = lease_parse(json_get(doc, "signed"), &lease);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	if (!str_eq(lease.fleet, fleet) || !str_eq(lease.node, node))
		return 0;
	r = db_update_ended(db, node, lease.update, lease.sequence, &ended);
	if (r < 0)
		return r;
	*ret = lease;
	*ret_refusal = ended ? "an old request: this update has ended" : NULL;
	return 0;
}

int ingest_collection(struct db *db, const char *fleet, const char *node, const void *bytes, size_t len,
		      struct collection *ret, const char **ret_refusal)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct collection c;
	int r;

	*ret_refusal = "not signed by a node of this fleet";
	if (!guard_id(node) || len > COLLECTION_STATEMENT_MAX)
		return 0;
	r = open_signed(db, node, bytes, len, &doc);
	if (r <= 0)
		return r;
	r = collection_parse(json_get(doc, "signed"), &c);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	if (!str_eq(c.fleet, fleet) || !str_eq(c.node, node)) {
		*ret_refusal = "the statement is of another node or fleet";
		return 0;
	}
	*ret = c;
	*ret_refusal = NULL;
	return 0;
}

struct last_state {
	const struct event *event;
	bool known, same;
};

static int compare_state(void *user, const struct db_node *row)
{
	struct last_state *l = user;

	l->known = true;
	l->same = str_eq(row->under_way, l->event->component) && str_eq(row->under_way_state, l->event->state) &&
		  str_eq(row->under_way_to, l->event->version);
	return 0;
}

int ingest_event(struct db *db, const char *node, const void *bytes, size_t len, int64_t now, bool *ret_shown)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct event event;
	struct last_state last = { &event, false, false };
	char text[LINE_BYTES];
	bool more, news = true, dropped = false;
	int r;

	if (ret_shown)
		*ret_shown = false;
	if (!guard_id(node) || len > EVENT_MAX_BYTES)
		return 0;
	r = json_parse(bytes, len, &event_limits, &doc);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	if (!db_budget(db, DB_BUDGET_EVENTS, node, now))
		return 0;
	r = event_parse(doc, &event);
	if (r < 0 || strcmp(event.node, node) != 0 || !guard_id(event.component))
		return r == -ENOMEM ? r : 0;
	r = db_nodes(db, node, compare_state, &last);
	if (r == -ENOENT)
		return 0;
	if (r == 0 && event.queue[0])
		r = db_node_event(db, node, event.queue, event.number, event.dropped, &news, &dropped);
	if (r < 0 || !news)
		return r;
	if (dropped) {
		snprintf(text, sizeof(text), "%llu events in all were dropped on the node while nobody took them",
			 (unsigned long long) event.dropped);
		r = db_event_add(db,
				 &(struct db_event){ .at = now, .kind = "dropped", .node = node, .text = text });
		if (r < 0)
			return r;
	}
	r = db_node_progress(db, node, event.component, event.version, event.state, event.bytes_done,
			     event.bytes_total);
	if (r < 0 || last.same)
		return r;
	more = event.detail[0] && strcmp(event.detail, event.state) != 0;
	snprintf(text, sizeof(text), "%s %s%s%s", or_nothing(event.version), event.state, more ? ": " : "",
		 more ? event.detail : "");
	r = db_event_add(db, &(struct db_event){
				     .at = now,
				     .kind = "state",
				     .node = node,
				     .component = event.component,
				     .text = text,
			     });
	if (r == 0 && ret_shown)
		*ret_shown = true;
	return r;
}

bool ingest_two_machines(int64_t returned_at, int64_t told_at, int64_t now)
{
	return told_at > 0 && now - returned_at <= INGEST_RETURNS_WINDOW_S;
}

/* What tells one process of a node's from another: its own number, or, of an older agent, the boot. NULL: nothing that does. */
static const char *birth_key(const struct json *doc)
{
	const char *key = json_string(json_get(doc, "process"));

	if (!key)
		key = json_string(json_get(doc, "boot"));
	return key && *key && strlen(key) <= DB_BIRTH_MAX && key[strspn(key, "0123456789abcdef-")] == '\0' ? key
													   : NULL;
}

static int tell_two_machines(struct db *db, const char *node, struct db_births *b, int64_t now)
{
	static const char text[] =
		"two machines take turns as this node: a disk or an image was copied after it had joined. "
		"selfright node show says what to do";
	int r;

	b->told_at = now;
	r = db_event_add(db, &(struct db_event){ .at = now, .kind = "two-machines", .node = node, .text = text });
	return r < 0 ? r : db_audit(db, now, "ingest", "two-machines", node);
}

static int note_birth(struct db *db, const char *node, const char *key, int64_t now)
{
	struct db_births b;
	size_t at = 0;
	int r = db_node_births(db, node, &b);

	if (r < 0)
		return r;
	while (at < DB_BIRTHS_KEPT && strcmp(b.keys[at], key) != 0)
		at++;
	if (at == 0)
		return 0; /* the same, over another connection */
	if (at < DB_BIRTHS_KEPT) {
		/* The clock here may have been set back. */
		if (now - b.returns_since > INGEST_RETURNS_WINDOW_S || now < b.returns_since) {
			b.returns = 0;
			b.returns_since = now;
		}
		b.returns++;
		b.returned_at = now;
		if (b.returns == INGEST_RETURNS_TOLD)
			r = tell_two_machines(db, node, &b, now);
	}
	for (size_t i = at < DB_BIRTHS_KEPT ? at : DB_BIRTHS_KEPT - 1; i > 0; i--)
		memcpy(b.keys[i], b.keys[i - 1], sizeof(b.keys[i]));
	snprintf(b.keys[0], sizeof(b.keys[0]), "%s", key);
	return r < 0 ? r : db_node_births_set(db, node, &b);
}

int ingest_presence(struct db *db, const char *node, const void *bytes, size_t len, int64_t now)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	uint64_t counter = 0;
	bool online;
	int r;

	if (!guard_id(node) || len > PRESENCE_MAX_BYTES)
		return 0;
	r = json_parse(bytes, len, &event_limits, &doc);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	if (!db_budget(db, DB_BUDGET_EVENTS, node, now))
		return 0;
	if (json_optional_u64(doc, "counter", 0, INT64_MAX, &counter) < 0)
		counter = 0;
	online = json_bool(json_get(doc, "online"), false);
	r = db_node_presence(db, node, online, (int64_t) counter, now);
	if (r == 0 && online && birth_key(doc))
		r = note_birth(db, node, birth_key(doc), now);
	return r == -ENOENT ? 0 : r;
}
