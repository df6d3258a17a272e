#include "agent/enrol.h"

#include "agent/link/protocol.h"
#include "agent/local/ca.h"
#include "agent/phase/node.h"
#include "agent/update.h"
#include "base/err.h"
#include "base/log.h"
#include "base/timestamp.h"
#include "crypto/csr.h"
#include "crypto/key.h"
#include "json/build.h"
#include "json/json.h"
#include "model/enrolment.h"
#include "tuf/tuf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	ANSWER_MS = 150 * 1000, /* a request nobody answered is sent again; sooner for short lives */
	ANSWER_MIN_MS = 15 * 1000,
	TRIAL_MS = 90 * 1000, /* how long the broker may take to accept the next pair */
	BUSY_MS = 5000,
	TRIALS_MAX = 3, /* then another is asked for */
	SPACING_S = 3600, /* between two renewals, whatever the clock says; less for short lives */
	KEY_PEM_MAX = 8 * 1024,
};

static void tell(struct enrol *e, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void tell(struct enrol *e, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(e->node->enrolment, sizeof(e->node->enrolment), fmt, ap); /* a longer one is cut */
	va_end(ap);
}

/* A disk that refuses is said once for each way in which it does. */
static void complain(struct enrol *e, int r, const char *what)
{
	if (r != e->said)
		log_error("certificate-not-kept", "%s: %s", what, err_text(r));
	e->said = r;
	tell(e, "%s: %s", what, err_text(r));
}

static int look(struct enrol *e)
{
	struct node *n = e->node;
	int r = pair_look(n->os, e->dirfd, &e->pair);

	n->certificate_changed = true;
	n->certificate_until = r == 0 && e->pair.enrolled ? e->pair.not_after : 0;
	return r;
}

static int name_key(struct node *n)
{
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(KEY_PEM_MAX), described = BUF_INIT(KEY_PEM_MAX);
	int r = private_key_public_pem(n->identity, &pem);

	return r < 0 ? r : tuf_key_describe(buf_str(&pem), &described, n->identity_fingerprint);
}

int enrol_open(struct enrol *e, struct node *n, const struct pair_owner *owner)
{
	int r;

	*e = (struct enrol){
		.node = n,
		.dirfd = -1,
		.owner = *owner,
		.waits = { .base_ms = 2000, .cap_ms = 5 * 60 * 1000 },
		.refusals = { .base_ms = 10 * 1000, .cap_ms = 3600 * 1000 },
		.trial_backoff = { .base_ms = 10 * 60 * 1000, .cap_ms = 6 * 3600 * 1000 },
	};
	if (!n->identity)
		return 0; /* an image that is filled: its own agent enrols */
	e->dirfd = n->os->openat(n->os, AT_FDCWD, n->config->dir, O_RDONLY | O_DIRECTORY, 0);
	if (e->dirfd < 0)
		return e->dirfd;
	r = name_key(n);
	if (r == 0 && !n->alone)
		r = pair_settle(n->os, e->dirfd, &e->owner);
	return r < 0 ? r : look(e);
}

void enrol_close(struct enrol *e)
{
	if (e->node && e->dirfd >= 0)
		(void) e->node->os->close(e->node->os, e->dirfd); /* every write was synced on its own */
	e->dirfd = -1;
}

/* FNV-1a: the same thousandth for the same node, always. */
static int64_t thousandth_of(const char *node)
{
	uint32_t hash = 2166136261u;

	for (const char *p = node; *p; p++)
		hash = (hash ^ (uint8_t) *p) * 16777619u;
	return (int64_t) (hash % 1000);
}

int64_t enrol_due(const char *node, int64_t not_before, int64_t not_after)
{
	int64_t life = not_after - not_before;

	return life <= 0 ? not_before : not_before + life / 3 * 2 + life / 12 * thousandth_of(node) / 1000;
}

/*
 * Another CA issues by now, and ours is going: the certificate is renewed before its time, not by all nodes at once.
 * Returns how long to wait for that.
 */
static int64_t other_issuer_in(struct enrol *e)
{
	const struct node *n = e->node;
	int64_t life = e->pair.not_after - e->pair.not_before,
		spread = life / 12 < SPACING_S ? life / 12 : SPACING_S;
	uint64_t now = node_now_ms(n);

	if (!n->ca_issuing[0] || n->certificate_changed || str_eq(n->ca_issuing, n->ca_issuer)) {
		e->other_issuer_ms = 0;
		return INT64_MAX;
	}
	if (e->other_issuer_ms == 0)
		e->other_issuer_ms = now + (uint64_t) (spread * thousandth_of(n->config->node)) + 1;
	return e->other_issuer_ms > now ? (int64_t) ((e->other_issuer_ms - now) / 1000) + 1 : 0;
}

bool enrol_waits(const struct enrol *e)
{
	return e->dirfd >= 0 && !e->pair.enrolled && e->pair.secret;
}

bool enrol_tries_next(struct enrol *e)
{
	e->tried = e->trying;
	e->asked_id = 0; /* what the last link was asked went with it: asked again, not waited for */
	return e->trying;
}

void enrol_refused(struct enrol *e)
{
	if (e->tried)
		e->refused = true;
	else
		e->old_refused = true;
}

/* Between two renewals, and for a broker that is away. One that ends before it begins, or at once, is no reason to ask all the time. */
static uint64_t spacing_ms(const struct enrol *e)
{
	int64_t life = e->pair.not_after - e->pair.not_before,
		spacing = life / 6 < SPACING_S ? life / 6 : SPACING_S;

	return (uint64_t) (life <= 0 ? SPACING_S : spacing < 1 ? 1 : spacing) * 1000;
}

/* A carrier may lose an answer, and a certificate of minutes may be over before the next request. */
static uint64_t answer_ms(const struct enrol *e)
{
	uint64_t spacing = spacing_ms(e);

	return !e->pair.enrolled || spacing >= ANSWER_MS ? ANSWER_MS
	       : spacing < ANSWER_MIN_MS		 ? ANSWER_MIN_MS
							 : spacing;
}

/* --- asking --- */

static int sign(struct node *n, const struct enrolment *request, const struct private_key *key, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ENROLMENT_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *signed_object = NULL;
	const struct private_key *keys[] = { n->identity, key };
	int r;

	enrolment_write(request, json_build_root(b));
	r = json_build_text(b, false, &text);
	if (r == 0)
		r = json_parse(text.data, text.len, &json_limits_default, &signed_object);
	if (text.data)
		explicit_bzero(text.data, text.len);
	return r < 0 ? r : tuf_envelope_sign(signed_object, keys, ARRAY_LEN(keys), out);
}

static int make_request(struct enrol *e, const struct private_key *key, struct buf *out)
{
	CLEANUP(buf_done)
	struct buf identity = BUF_INIT(KEY_PEM_MAX), csr = BUF_INIT(CSR_PEM_MAX), secret = BUF_INIT(256);
	struct node *n = e->node;
	struct enrolment request = { .fleet = "" };
	int r = private_key_public_pem(n->identity, &identity);

	if (r == 0)
		r = csr_make(key, n->config->node, &csr);
	/* One that a power cut left behind is used up; a node is known by its identity. */
	if (r == 0 && e->pair.secret && !e->pair.enrolled)
		r = pair_secret(n->os, e->dirfd, &secret);
	if (r == 0) {
		(void) snprintf(request.fleet, sizeof(request.fleet), "%s", n->config->fleet);
		(void) snprintf(request.node, sizeof(request.node), "%s", n->config->node);
		(void) snprintf(request.secret, sizeof(request.secret), "%s", buf_str(&secret));
		request.sequence = n->state->report_sequence;
		request.identity = (char *) (uintptr_t) buf_str(&identity); /* only read */
		request.request = (char *) (uintptr_t) buf_str(&csr);
		r = sign(n, &request, key, out);
		explicit_bzero(request.secret, sizeof(request.secret));
	}
	if (secret.data)
		explicit_bzero(secret.data, secret.len);
	return r;
}

static int ask(struct enrol *e, bool next)
{
	CLEANUP(private_key_freep)
	struct private_key *key = NULL;
	CLEANUP(buf_done)
	struct buf envelope = BUF_INIT(2 * ENROLMENT_MAX_BYTES);
	struct node *n = e->node;
	int r = next ? pair_next_key(n->os, e->dirfd, &e->owner, &key) : pair_key(n->os, e->dirfd, &key);

	if (r == 0)
		r = make_request(e, key, &envelope);
	if (r < 0)
		return r;
	e->last_id += e->last_id == UINT32_MAX ? 2 : 1;
	e->asked_id = e->last_id;
	e->asked_next = next;
	e->asked_ms = node_now_ms(n);
	node_link_send(n, LINK_ENROL, e->asked_id, envelope.data, envelope.len);
	if (envelope.data)
		explicit_bzero(envelope.data, envelope.len); /* it may hold the secret */
	return 0;
}

static uint64_t later(struct enrol *e, struct backoff *b)
{
	uint64_t random = 0;

	if (e->node->os->random(e->node->os, &random, sizeof(random)) < 0)
		random = UINT64_MAX; /* the longest wait */
	return node_now_ms(e->node) + b->base_ms / 2 + backoff_next_ms(b, random);
}

/* Without an answer it is the road's fault, and asked again soon; who refuses is asked seldom. */
static void ask_again(struct enrol *e, struct backoff *b, const char *why)
{
	struct node *n = e->node;

	e->ask_at_ms = later(e, b);
	if (!e->pair.enrolled)
		tell(e, "not enrolled yet: %s", why);
	else
		tell(e, "the certificate is not renewed yet: %s", why);
	log_warning("enrolment-waits", "key=%.16s %s", n->identity_fingerprint, n->enrolment);
}

/* --- answers --- */

static void take_first(struct enrol *e, const char *certificate)
{
	struct node *n = e->node;
	int r = pair_put_first(n->os, e->dirfd, n->config->node, certificate);

	if (r == 0)
		r = look(e);
	if (r < 0) {
		complain(e, r, "the certificate cannot be kept");
		e->ask_at_ms = later(e, &e->waits);
		return;
	}
	e->said = 0;
	n->enrolment[0] = '\0';
	n->link_restart_wanted = true; /* with it */
	n->report_wanted = n->refresh_wanted = true;
	log_notice("enrolled", "node=%s key=%.16s", n->config->node, n->identity_fingerprint);
}

static void take_next(struct enrol *e, const char *certificate)
{
	struct node *n = e->node;
	int r = pair_put_next(n->os, e->dirfd, n->config->node, certificate);

	if (r == 0)
		r = look(e);
	if (r < 0) {
		complain(e, r, "the renewed certificate cannot be kept");
		e->ask_at_ms = later(e, &e->waits);
		return;
	}
	e->said = 0;
	n->enrolment[0] = '\0';
	e->trials = 0;
	e->try_at_ms = 0;
	e->refused = false; /* of the one before */
	log_notice("certificate-issued", "a renewed certificate is here; %s before it counts",
		   n->config->broker.host ? "the broker has to take it"
					  : "a CA that is trusted must have issued it");
}

static void take_answer(struct enrol *e, const struct enrolment_answer *a)
{
	switch (a->state) {
	case ENROLMENT_ISSUED:
		backoff_reset(&e->waits);
		backoff_reset(&e->refusals);
		if (e->asked_next)
			take_next(e, a->certificate);
		else
			take_first(e, a->certificate);
		break;
	case ENROLMENT_WAITING:
		ask_again(e, &e->waits, a->reason);
		break;
	case ENROLMENT_REFUSED:
		ask_again(e, &e->refusals, a->reason);
		break;
	}
}

static void printable(char *text)
{
	for (char *p = text; *p; p++)
		if (*p < 0x20 || *p > 0x7e)
			*p = '?';
}

void enrol_take(struct enrol *e, uint32_t id, const uint8_t *data, size_t len)
{
	static const struct json_limits limits = { 64 * 1024, 4, 64 };
	CLEANUP(json_freep)
	struct json *doc = NULL;
	CLEANUP(enrolment_answer_done)
	struct enrolment_answer a = { .certificate = NULL };
	unsigned status;
	char words[400];
	int r;

	if (id != e->asked_id || id == 0 || len < 2)
		return; /* of a request nobody waits for any more */
	e->asked_id = 0;
	status = (unsigned) data[0] << 8 | data[1];
	if (status == 200 || status == 202 || status == 403) {
		r = json_parse(data + 2, len - 2, &limits, &doc);
		if (r == 0)
			r = enrolment_answer_parse(doc, &a, NULL);
		if (r == 0) {
			printable(a.reason);
			take_answer(e, &a);
			return;
		}
	}
	if (status == 0)
		(void) snprintf(words, sizeof(words), "nobody answered: %.*s",
				(int) (len - 2 < 380 ? len - 2 : 380), (const char *) data + 2);
	else if (status == 429 || status == 503)
		(void) snprintf(words, sizeof(words), "the controller has no time for it now (%u)", status);
	else
		(void) snprintf(words, sizeof(words),
				"the server at this address answered %u, as no controller does", status);
	printable(words);
	ask_again(e, &e->waits, words);
}

/* --- the next pair proves itself --- */

static void promote(struct enrol *e, const char *proof)
{
	struct node *n = e->node;
	char until[TIMESTAMP_LEN + 1];
	int r = pair_promote(n->os, e->dirfd);

	/* After the first rename it is in force, whatever became of the second: settling finishes it. */
	if (r < 0 && pair_settle(n->os, e->dirfd, &e->owner) == 0 && look(e) == 0 && !e->pair.next)
		r = 0;
	if (r == 0)
		r = look(e);
	if (r < 0) {
		complain(e, r, "the renewed certificate cannot take the old one's place");
		e->trial_ends_ms = node_now_ms(n) + TRIAL_MS;
		return;
	}
	e->said = 0;
	e->trying = e->tried = e->old_refused = false;
	e->trials = 0;
	backoff_reset(&e->trial_backoff);
	/* A clock that is wrong would ask again at once, and for ever. */
	e->ask_at_ms = node_now_ms(n) + spacing_ms(e);
	timestamp_format(until, e->pair.not_after);
	log_notice("certificate-renewed", "%s; it is valid until %s", proof, until);
}

/* No trial any more, and the pair is forgotten if it has had enough of them: another is asked for. */
static void put_off(struct enrol *e)
{
	struct node *n = e->node;

	e->try_at_ms = later(e, &e->trial_backoff);
	if (++e->trials < TRIALS_MAX)
		return;
	if (pair_drop_next(n->os, e->dirfd) < 0)
		return; /* it stays, and is tried again */
	e->trials = 0;
	(void) !look(e); /* dropped it is gone; what cannot be read is looked at again */
	e->pair.next = false;
}

static void give_up_trial(struct enrol *e)
{
	struct node *n = e->node;

	e->trying = e->tried = false;
	n->link_restart_wanted = true; /* with the old one, which was kept */
	log_warning("certificate-not-taken",
		    "no connection with the renewed certificate; the one before is used: %s", n->link_reason);
	tell(e, "the broker has not taken the renewed certificate yet: %.180s", n->link_reason);
	put_off(e);
}

/*
 * Nobody who asks for it is reached: there is no broker, or a firewall keeps this node from it for so long, while HTTPS
 * gets through. One that refused the pair was reached.
 */
static bool is_without_broker(const struct enrol *e)
{
	const struct node *n = e->node;

	return !n->config->broker.host ||
	       (e->cut_since_ms > 0 && node_now_ms(n) - e->cut_since_ms >= spacing_ms(e) && !e->refused &&
		n->polled_ms > e->cut_since_ms && n->refresh_error == 0);
}

/* The one that issues as targets say, or, where they name none, one of ca.crt. A box that opens TLS is neither, as a rule. */
static bool is_of_ours(const struct enrol *e)
{
	const struct node *n = e->node;
	char issuer[SHA256_HEX + 1];

	return ca_issuer_of(n->os, e->dirfd, PAIR_NEXT_CERTIFICATE, issuer) == 0 &&
	       (!n->ca_issuing[0] || str_eq(issuer, n->ca_issuing));
}

static uint64_t step_unproven(struct enrol *e)
{
	struct node *n = e->node;

	if (is_of_ours(e)) {
		promote(e, n->config->broker.host
				   ? "no broker is reached from here, and the CA of the fleet issued it"
				   : "the CA of the fleet issued it");
		if (e->pair.next) /* the disk refused */
			e->try_at_ms = later(e, &e->waits);
		else if (n->config->broker.host)
			n->link_restart_wanted = true; /* with it, for when a broker is reached */
		return node_now_ms(n);
	}
	/* The controller may be ahead of what this node knows of CAs: it will hear, and ask again. */
	tell(e, "the certificate is not renewed yet: what came is not of the CA that issues as targets say");
	log_warning("certificate-not-taken", "%s", n->enrolment);
	e->trials = TRIALS_MAX;
	put_off(e);
	e->ask_at_ms = e->try_at_ms;
	return node_now_ms(n);
}

static uint64_t step_trial(struct enrol *e)
{
	struct node *n = e->node;
	uint64_t now = node_now_ms(n);
	bool useless = !e->pair.enrolled || e->old_refused || e->pair.not_after <= node_now(n);

	if (e->trying) {
		if (e->tried && n->link_connected)
			promote(e, "the broker took it");
		else if (e->refused || now >= e->trial_ends_ms)
			give_up_trial(e);
		return e->trying ? e->trial_ends_ms : now;
	}
	/* While the road is cut nothing can be learnt; an update's own proof by the link is not disturbed. */
	if (now < e->try_at_ms)
		return e->try_at_ms;
	if (update_is_active(n) || n->ca_trying)
		return now + BUSY_MS;
	if (is_without_broker(e))
		return step_unproven(e);
	if (!n->link_connected && !useless)
		return now + BUSY_MS;
	e->trying = true;
	e->refused = false;
	e->trial_ends_ms = now + TRIAL_MS;
	n->link_restart_wanted = true;
	return e->trial_ends_ms;
}

/* --- what is due --- */

static uint64_t step_asking(struct enrol *e, bool next)
{
	uint64_t now = node_now_ms(e->node);
	int r;

	if (e->asked_id && now < e->asked_ms + answer_ms(e))
		return e->asked_ms + answer_ms(e);
	if (now < e->ask_at_ms)
		return e->ask_at_ms;
	r = ask(e, next);
	if (r == 0)
		return now + answer_ms(e);
	complain(e, r, "a certificate cannot be asked for");
	e->ask_at_ms = later(e, &e->waits);
	return e->ask_at_ms;
}

uint64_t enrol_step(struct enrol *e)
{
	struct node *n = e->node;
	uint64_t now = node_now_ms(n);
	int64_t left, other;

	if (e->dirfd < 0 || n->alone || !n->link)
		return UINT64_MAX;
	if (n->link_connected)
		e->cut_since_ms = 0;
	else if (e->cut_since_ms == 0)
		e->cut_since_ms = now;
	if (e->pair.next)
		return step_trial(e);
	if (!e->pair.enrolled)
		return step_asking(e, false);
	left = enrol_due(n->config->node, e->pair.not_before, e->pair.not_after) - node_now(n);
	other = other_issuer_in(e);
	if (other < left)
		left = other;
	if (left <= 0)
		return step_asking(e, true);
	return now + (left < SPACING_S ? (uint64_t) left * 1000 : (uint64_t) SPACING_S * 1000);
}
