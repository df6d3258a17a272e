/*
 * report - the truth, signed, until the controller has signed that it knows it.
 */
#include "agent/link/protocol.h"
#include "agent/phase/facts.h"
#include "agent/phase/measures.h"
#include "agent/phase/node.h"
#include "agent/phase/phase.h"
#include "agent/phase/why.h"
#include "agent/probe/probe.h"
#include "agent/store/generation.h"
#include "base/err.h"
#include "base/log.h"
#include "base/program.h"
#include "crypto/key.h"
#include "json/build.h"
#include "json/json.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

enum { ANSWER_MAX = 64 * 1024, LEASE_MAX_S = 3600 };

/* --- composing; the report borrows nothing that outlives it --- */

static char *text_of(const char *s)
{
	return s && s[0] ? strdup(s) : NULL;
}

static int add_component(struct node *n, const char *name, struct report_component *out)
{
	const struct node_component *c = state_component(n->state, name);
	const struct why w = node_why(n, name);

	out->component = strdup(name);
	if (c) {
		out->version = text_of(c->version);
		out->previous = text_of(c->previous);
		out->rollout = text_of(c->rollout);
		out->stage = text_of(c->stage);
		out->seq = c->seq;
		out->denied = calloc(c->denial_count + 1, sizeof(*out->denied));
		for (size_t i = 0; out->denied && i < c->denial_count; i++) {
			struct report_denial *x = &out->denied[out->denied_count++];

			x->version = strdup(c->denials[i].version);
			x->cause = strdup(node_denial_cause_name(c->denials[i].cause));
			x->seq = c->denials[i].seq;
		}
	}
	if (w.d.kind != DECIDE_STAY && w.d.version)
		out->wants = text_of(w.d.version);
	out->why = strdup(reason_name(w.reason));
	out->why_detail = strdup(w.detail[0] ? w.detail : reason_sentence(w.reason));
	return out->component && out->why && out->why_detail ? 0 : -ENOMEM;
}

static int add_components(struct node *n, struct report *out)
{
	struct string_list names = { 0 };
	int r = node_components(n, &names);

	out->components = calloc(names.count + 1, sizeof(*out->components));
	if (r == 0 && !out->components)
		r = -ENOMEM;
	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = add_component(n, names.items[i], &out->components[out->component_count++]);
	string_list_done(&names);
	return r;
}

static int add_result(const struct node_result *s, struct report_result *out)
{
	const struct catalogue_row *row = catalogue_find((int) s->number);

	out->update = strdup(s->update);
	out->component = strdup(s->component);
	out->from = text_of(s->from);
	out->to = text_of(s->to);
	out->rollout = text_of(s->rollout);
	out->stage = text_of(s->stage);
	out->seq = s->seq;
	out->release_sha256 = text_of(s->release_sha256);
	out->number = s->number;
	out->name = strdup(row ? row->name : "unknown");
	out->class = strdup(result_class_name(s->network ? CLASS_NETWORK : row ? row->class : CLASS_NODE));
	out->detail = strdup(s->detail);
	out->log_tail = text_of(s->log_tail);
	out->at = s->at;
	out->duration_ms = s->duration_ms;
	out->pause_ms = s->pause_ms;
	out->sequence = s->sequence;
	return out->update && out->component && out->name && out->class && out->detail ? 0 : -ENOMEM;
}

static int add_results(struct node *n, struct report *out)
{
	int r = 0;

	out->results = calloc(n->state->result_count + 1, sizeof(*out->results));
	if (!out->results)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < n->state->result_count; i++)
		r = add_result(n->state->results[i], &out->results[out->result_count++]);
	return r;
}

static int add_part_checks(const struct part *part, struct report *out)
{
	for (size_t i = 0;
	     part->checks->set && i < probe_set_count(part->checks->set) && out->check_count < REPORT_CHECKS_MAX;
	     i++) {
		const struct probe_status *p = probe_set_at(part->checks->set, i);
		struct report_check *c = &out->checks[out->check_count++];

		c->component = strdup(part->component);
		c->name = strdup(p->check->name);
		c->kind = strdup(check_kind_name(p->check->kind));
		c->state = strdup(probe_state_name(p->state));
		/* What a check's program prints may be anything; the state says enough here. */
		c->detail = strdup("");
		if (!c->component || !c->name || !c->kind || !c->state || !c->detail)
			return -ENOMEM;
	}
	return 0;
}

static int add_checks(struct node *n, struct report *out)
{
	int r = 0;

	out->checks = calloc(REPORT_CHECKS_MAX, sizeof(*out->checks));
	if (!out->checks)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < update_part_count(n); i++) {
		const struct part part = update_part(n, i);

		r = add_part_checks(&part, out);
	}
	return r;
}

static int add_order(struct node *n, const char *id, struct report *out)
{
	const struct node_order *done = id ? state_order(n->state, id) : NULL;
	const struct catalogue_row *row = done ? catalogue_find((int) done->result) : NULL;
	struct report_order *o;

	if (!done || out->order_count == REPORT_ORDERS_MAX)
		return 0;
	o = &out->orders[out->order_count++];
	o->id = strdup(done->id);
	o->component = text_of(done->component);
	o->number = done->result;
	o->name = strdup(row ? row->name : "unknown");
	o->detail = strdup(done->detail);
	o->at = done->at;
	return o->id && o->name && o->detail ? 0 : -ENOMEM;
}

/* The outcome of every order that is listed and was carried out or refused; the stored one, however often it comes. */
static int add_orders(struct node *n, struct report *out)
{
	const struct node_orders *orders = &n->docs.orders;
	int r = 0;

	if (!n->docs.loaded)
		return 0;
	out->orders = calloc(REPORT_ORDERS_MAX, sizeof(*out->orders));
	if (!out->orders)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < orders->rollback_count; i++)
		r = add_order(n, orders->rollbacks[i].id, out);
	for (size_t i = 0; r == 0 && i < orders->pin_count; i++)
		r = add_order(n, orders->pins[i].id, out);
	for (size_t i = 0; r == 0 && i < orders->retry_count; i++)
		r = add_order(n, orders->retries[i].id, out);
	for (size_t i = 0; r == 0 && i < orders->collect_count; i++)
		r = add_order(n, orders->collects[i].id, out);
	return r;
}

static void add_progress(struct node *n, struct report *out)
{
	const struct node_update *u = &n->state->update;

	if (!update_is_active(n))
		return;
	out->progress.update = text_of(u->id);
	out->progress.component = text_of(u->component);
	out->progress.to = text_of(u->to);
	out->progress.state = text_of(node_update_state_name(u->state));
	out->progress.bytes_done = n->attempt.bytes_done;
	out->progress.bytes_total = n->attempt.bytes_total;
}

static int add_metadata(struct node *n, struct report *out)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(64 * 1024);
	struct tuf_state t = { 0 };
	int r;

	tuf_client_state(n->tuf, &t);
	out->root_version = t.root;
	out->timestamp_version = t.timestamp;
	out->snapshot_version = t.snapshot;
	out->targets_version = t.targets;
	r = tuf_client_bytes(n->tuf, "timestamp", &bytes);
	if (r < 0)
		return r == -ENOMEM ? r : 0; /* none is trusted yet */
	return json_parse(bytes.data, bytes.len, &json_limits_default, &out->timestamp);
}

/* Names that go into any document as they are; others cannot be asked for by a release either. */
static bool is_plain_name(const char *s)
{
	size_t len = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

	return len > 0 && len <= ID_MAX && !s[len] && s[0] != '.';
}

/* Files for releases lie in secrets.d beside vars.d. Their names tell who lacks one; nobody reads them here. */
static int add_secrets(struct node *n, struct report_means *out)
{
	CLEANUP(name_list_done)
	struct name_list names = { 0 };
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(4096);
	int r = buf_addf(&path, "%s/secrets.d", n->config->dir);

	if (r == 0)
		r = dir_list(n->os, AT_FDCWD, buf_str(&path), &names);
	if (r < 0 && r != -ENOENT)
		return r == -ENOMEM ? r : 0; /* not told, so nobody takes it for missing */
	r = 0;
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		if (out->secrets.count == REPORT_SECRETS_MAX)
			return 0; /* too many: not told either */
		if (is_plain_name(names.names[i]))
			r = string_list_add(&out->secrets, names.names[i]);
	}
	out->secrets_folder = r == 0 ? strdup(buf_str(&path)) : NULL;
	return r == 0 && !out->secrets_folder ? -ENOMEM : r;
}

static int add_means(struct node *n, struct report_means *out)
{
	struct statvfs v;
	int r = 0;

	out->told = true;
	out->zone_data = text_of(n->docs.zone_edition);
	if (n->os->fstatvfs(n->os, n->dirs->store, &v) == 0)
		out->free_bytes = (uint64_t) v.f_bavail * v.f_frsize;
	for (size_t i = 0; r == 0 && i < n->config->vars.count; i++)
		r = string_list_add(&out->vars, n->config->vars.items[i].name);
	return r < 0 ? r : add_secrets(n, out);
}

static int add_ca(struct node *n, struct report_ca *out)
{
	int r = 0;

	out->told = n->ca_trusted.count > 0 && n->ca_trusted.count <= REPORT_CA_MAX;
	for (size_t i = 0; r == 0 && out->told && i < n->ca_trusted.count; i++)
		r = string_list_add(&out->trusted, n->ca_trusted.items[i]);
	if (out->told)
		out->issuer = text_of(n->ca_issuer);
	return r;
}

static int compose(struct node *n, struct report *out)
{
	uint64_t generation = 0;
	int r;

	out->fleet = strdup(n->config->fleet);
	out->node = strdup(n->config->node);
	out->boot_id = strdup(n->boot_id);
	out->agent = strdup(program_version);
	if (!out->fleet || !out->node || !out->boot_id || !out->agent)
		return -ENOMEM;
	out->sequence = n->state->report_sequence;
	out->at = n->os->clock_real(n->os);
	if (generation_current(n->os, n->dirs->root, &generation) == 0)
		out->generation = generation;
	r = labels_copy(n->docs.loaded ? &n->docs.labels : &n->config->labels, &out->labels);
	if (r == 0)
		r = labels_copy(&n->config->labels, &out->own_labels);
	if (r == 0)
		r = add_metadata(n, out);
	if (r == 0)
		r = add_components(n, out);
	if (r == 0)
		r = add_results(n, out);
	if (r == 0)
		r = add_checks(n, out);
	if (r == 0)
		r = measures_report(n, out);
	if (r == 0)
		r = add_orders(n, out);
	if (r == 0)
		r = add_means(n, &out->means);
	if (r == 0)
		r = add_ca(n, &out->ca);
	add_progress(n, out);
	out->nonce = text_of(n->report_nonce);
	return r;
}

/*
 * A report that is too large is refused everywhere, for ever: first the logs go, the
 * oldest first, then what the node's console still tells. Every result stays, for the
 * answer acknowledges them all.
 */
enum { SHORTER_OLD_LOGS = 1, SHORTER_LOGS, SHORTER_ALL, LOGS_KEPT = 4, HOURS_KEPT = 2 };

static void forget(char **text)
{
	free(*text);
	*text = NULL;
}

/* All but the newest. */
static void forget_hours(struct report_metric *m, size_t kept)
{
	if (m->hour_count <= kept)
		return;
	memmove(m->hours, m->hours + (m->hour_count - kept), kept * sizeof(*m->hours));
	m->hour_count = kept;
}

static void shorten(struct report *r, int how)
{
	for (size_t i = 0; i < r->result_count; i++)
		if (how >= SHORTER_LOGS || (how >= SHORTER_OLD_LOGS && i + LOGS_KEPT < r->result_count))
			forget(&r->results[i].log_tail);
	if (how >= SHORTER_ALL) {
		string_list_done(&r->means.vars);
		string_list_done(&r->means.secrets);
		forget(&r->means.secrets_folder);
		r->means.told = false;
	}
	for (size_t i = 0; how >= SHORTER_LOGS && i < r->metric_count; i++)
		forget_hours(&r->metrics[i], how >= SHORTER_ALL ? 0 : HOURS_KEPT);
	for (size_t i = 0; how >= SHORTER_ALL && i < r->component_count; i++) {
		struct report_component *c = &r->components[i];

		forget(&c->why_detail);
		while (c->denied_count > 0) {
			struct report_denial *d = &c->denied[--c->denied_count];

			forget(&d->version);
			forget(&d->cause);
		}
	}
	for (size_t i = 0; how >= SHORTER_ALL && i < r->order_count; i++)
		forget(&r->orders[i].detail);
}

int report_sign(struct node *n, struct json_build *b, struct buf *envelope)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(REPORT_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *signed_object = NULL;
	const struct private_key *keys[] = { n->identity };
	int r = json_build_text(b, false, &text);

	if (r == 0)
		r = json_parse(text.data, text.len, &json_limits_default, &signed_object);
	return r < 0 ? r : tuf_envelope_sign(signed_object, keys, 1, envelope);
}

static int write_and_sign(struct node *n, int how, struct buf *envelope)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct report report = { 0 };
	int r = compose(n, &report);

	if (r == 0) {
		shorten(&report, how);
		r = report_write(&report, json_build_root(b));
	}
	report_done(&report);
	if (r == 0)
		r = report_sign(n, b, envelope);
	return r == 0 && envelope->len > REPORT_MAX_BYTES ? -ERR_TOO_LARGE : r;
}

static int make_envelope(struct node *n, struct buf *envelope)
{
	int r = -ERR_TOO_LARGE;

	for (int how = 0; r == -ERR_TOO_LARGE && how <= SHORTER_ALL; how++) {
		buf_clear(envelope);
		r = write_and_sign(n, how, envelope);
	}
	return r;
}

static int send_report(struct node *n)
{
	CLEANUP(buf_done)
	struct buf envelope = BUF_INIT(2 * REPORT_MAX_BYTES), frame = BUF_INIT(2 * REPORT_MAX_BYTES + 8);
	uint8_t head[8];
	int r = make_envelope(n, &envelope);

	for (size_t i = 0; i < sizeof(head); i++)
		head[i] = (uint8_t) (n->state->report_sequence >> (8 * (7 - i)));
	if (r == 0)
		r = buf_add(&frame, head, sizeof(head));
	if (r == 0)
		r = buf_add(&frame, envelope.data, envelope.len);
	if (r == 0)
		node_link_send(n, LINK_REPORT, 0, frame.data, frame.len);
	return r;
}

/* The number is spent before it is shown: after a crash the next one is higher still. */
static int spend_sequence(struct node *n)
{
	n->state->report_sequence++;
	for (size_t i = 0; i < n->state->result_count; i++)
		if (n->state->results[i]->sequence == 0)
			n->state->results[i]->sequence = n->state->report_sequence;
	return node_save(n);
}

int phase_report_file(struct node *n, int dirfd)
{
	CLEANUP(buf_done)
	struct buf envelope = BUF_INIT(2 * REPORT_MAX_BYTES);
	char name[ID_MAX + 8];
	int r = n->identity ? spend_sequence(n) : -ERR_KEY;

	if (r == 0)
		r = make_envelope(n, &envelope);
	if (r < 0)
		return r;
	(void) snprintf(name, sizeof(name), "%s.json", n->config->node);
	/* Its fsyncs let the stick be pulled; whether it arrives or not, the node tells again by itself. */
	return durable_write_file(n->os, dirfd, name, envelope.data, envelope.len, 0644);
}

int phase_report(struct node *n)
{
	int r;

	n->report_wanted = false;
	n->reported_ms = node_now_ms(n);
	r = spend_sequence(n);
	if (r < 0)
		return r;
	(void) snprintf(n->report_nonce, sizeof(n->report_nonce), "%s", n->attempt.nonce);
	r = send_report(n);
	if (r < 0)
		log_error("report-not-sent", "sequence=%llu reason=%s",
			  (unsigned long long) n->state->report_sequence, err_text(r));
	return r;
}

/* --- signed answers --- */

int report_open_answer(struct node *n, const void *bytes, size_t len, struct json **ret)
{
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	const struct json *control =
		json_get(json_get(tuf_client_targets_signed(n->tuf), "x-selfright"), "control");
	int r;

	if (!control)
		return -ERR_UNTRUSTED;
	if (len > ANSWER_MAX)
		return -ERR_TOO_LARGE;
	r = tuf_keyring_load(control, &ring);
	return r < 0 ? r : tuf_envelope_open(bytes, len, ring, ret);
}

void report_acknowledge(struct node *n, const void *bytes, size_t len)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct ack a;
	uint8_t frame[8];
	size_t dropped;
	int r = report_open_answer(n, bytes, len, &doc);

	if (r == 0)
		r = ack_parse(json_get(doc, "signed"), &a);
	if (r == -ERR_UNTRUSTED)
		return; /* nobody's word counts before the first refresh; it is said again */
	if (r < 0) {
		log_warning("ack-refused", "an acknowledgement was not the controller's: %s", err_text(r));
		return;
	}
	if (!str_eq(a.fleet, n->config->fleet) || !str_eq(a.node, n->config->node) ||
	    !str_eq(a.boot_id, n->boot_id) || a.sequence > n->state->report_sequence) {
		log_debug("ack-ignored", "an acknowledgement for another time or node");
		return;
	}
	/* An old one, said again, is no sign of life. */
	if (a.sequence > n->acked_sequence) {
		n->acked_sequence = a.sequence;
		n->acked_ms = node_now_ms(n);
		(void) snprintf(n->acked_nonce, sizeof(n->acked_nonce), "%s", a.nonce);
	}
	dropped = state_results_acknowledge(n->state, a.sequence);
	if (dropped > 0 && node_save(n) < 0)
		return; /* they are reported again, with the sequence they had */
	for (size_t i = 0; i < sizeof(frame); i++)
		frame[i] = (uint8_t) (a.sequence >> (8 * (7 - i)));
	node_link_send(n, LINK_ACKED, 0, frame, sizeof(frame));
}

/* --- leases --- */

void report_ask_lease(struct node *n)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf envelope = BUF_INIT(ANSWER_MAX);
	struct attempt *a = &n->attempt;
	struct lease lease = { .sequence = n->state->report_sequence };
	int r = node_nonce(n, a->lease_nonce);

	a->lease_granted = false;
	a->lease_refusal[0] = '\0';
	(void) snprintf(lease.fleet, sizeof(lease.fleet), "%s", n->config->fleet);
	(void) snprintf(lease.node, sizeof(lease.node), "%s", n->config->node);
	(void) snprintf(lease.nonce, sizeof(lease.nonce), "%s", a->lease_nonce);
	(void) snprintf(lease.update, sizeof(lease.update), "%s", n->state->update.id);
	(void) snprintf(lease.rollout, sizeof(lease.rollout), "%s", n->state->update.rollout);
	lease_write(&lease, json_build_root(b));
	if (r == 0)
		r = report_sign(n, b, &envelope);
	if (r == 0)
		node_link_send(n, LINK_LEASE, 0, envelope.data, envelope.len);
	else
		log_error("lease-not-asked", "update=%s reason=%s", n->state->update.id, err_text(r));
}

void report_grant(struct node *n, const void *bytes, size_t len)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct attempt *a = &n->attempt;
	struct grant g;
	int r = report_open_answer(n, bytes, len, &doc);

	if (r == 0)
		r = grant_parse(json_get(doc, "signed"), &g);
	if (r < 0) {
		log_warning("grant-refused", "a grant was not the controller's: %s", err_text(r));
		return;
	}
	if (!str_eq(g.fleet, n->config->fleet) || !str_eq(g.node, n->config->node) || !a->lease_nonce[0] ||
	    !str_eq(g.nonce, a->lease_nonce) || !str_eq(g.update, n->state->update.id))
		return; /* an answer to another question */
	a->lease_granted = g.granted;
	if (g.granted)
		a->lease_until_ms =
			node_now_ms(n) + (g.start_within_s > LEASE_MAX_S ? LEASE_MAX_S : g.start_within_s) * 1000;
	else
		(void) snprintf(a->lease_refusal, sizeof(a->lease_refusal), "%s",
				g.reason[0] ? g.reason : "refused");
}
