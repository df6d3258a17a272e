#include "agent/anchors.h"

#include "agent/local/ca.h"
#include "agent/local/pair.h"
#include "agent/phase/node.h"
#include "agent/update.h"
#include "base/err.h"
#include "base/log.h"
#include "crypto/certificate.h"
#include "json/json.h"
#include "tuf/tuf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum {
	TRIAL_MS = 90 * 1000,
	BUSY_MS = 5000,
	BROKER_WAIT_MS = 3600 * 1000 /* for a broker that is away, before HTTPS alone is proof enough */
};

static void complain(struct anchors *a, int r, const char *what)
{
	struct node *n = a->node;
	uint64_t random = 0;

	if (r != a->said)
		log_error("ca-not-kept", "%s: %s", what, err_text(r));
	a->said = r;
	(void) snprintf(n->ca_note, sizeof(n->ca_note), "%s: %s", what, err_text(r));
	if (n->os->random(n->os, &random, sizeof(random)) < 0)
		random = UINT64_MAX; /* the longest wait */
	a->again_at_ms = node_now_ms(n) + a->disk_backoff.base_ms + backoff_next_ms(&a->disk_backoff, random);
}

/* --- what there is, for the report --- */

/* Which of ours issued the certificate in force? Nobody known, where there is none yet. */
static void find_issuer(struct anchors *a)
{
	struct node *n = a->node;

	n->certificate_changed = false;
	if (ca_issuer_of(n->os, a->dirfd, PAIR_CERTIFICATE, n->ca_issuer) < 0)
		n->ca_issuer[0] = '\0';
}

static int look(struct anchors *a)
{
	struct node *n = a->node;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(CA_FILE_MAX);
	CLEANUP(certificate_bundle_done)
	struct certificate_bundle have = { .count = 0 };
	CLEANUP(string_list_done)
	struct string_list names = { 0 };
	struct string_list old = n->ca_trusted;
	int r = ca_read(n->os, a->dirfd, &text);

	if (r == 0)
		r = certificate_bundle_read(buf_str(&text), &have);
	for (size_t i = 0; r == 0 && i < have.count; i++)
		r = string_list_add(&names, have.items[i].sha256);
	if (r < 0)
		return r;
	n->ca_trusted = names;
	names = old; /* let go below */
	find_issuer(a);
	return 0;
}

void anchors_open(struct anchors *a, struct node *n)
{
	int r;

	*a = (struct anchors){
		.node = n,
		.dirfd = -1,
		.trial_backoff = { .base_ms = 10 * 60 * 1000, .cap_ms = 6 * 3600 * 1000 },
		.disk_backoff = { .base_ms = 2000, .cap_ms = 5 * 60 * 1000 },
	};
	if (n->alone)
		return; /* the node's own agent follows */
	a->dirfd = n->os->openat(n->os, AT_FDCWD, n->config->dir, O_RDONLY | O_DIRECTORY, 0);
	if (a->dirfd < 0) {
		log_error("ca-not-kept", "%s cannot be opened, ca.crt stays as it is: %s", n->config->dir,
			  err_text(a->dirfd));
		a->dirfd = -1;
		return;
	}
	r = ca_withdraw(n->os, a->dirfd); /* of a trial that was cut off; it is offered again */
	if (r == 0)
		r = look(a);
	/* A ca.crt that is not there, or torn, is the link's to complain of. */
	if (r < 0 && r != -ENOENT && r != -ERR_SYNTAX && r != -ERR_TOO_LARGE)
		complain(a, r, "ca.crt cannot be looked at");
}

void anchors_close(struct anchors *a)
{
	if (!a->node)
		return;
	if (a->dirfd >= 0)
		(void) a->node->os->close(a->node->os, a->dirfd); /* every write was synced on its own */
	a->dirfd = -1;
	string_list_done(&a->node->ca_trusted);
}

bool anchors_tries_next(struct anchors *a)
{
	a->tried = a->trying;
	return a->trying;
}

/* --- what is signed --- */

/* A ca.crt that is gone or torn opens no road any more: what is signed takes its place. */
static int read_present(struct anchors *a, struct buf *ret)
{
	CLEANUP(certificate_bundle_done)
	struct certificate_bundle unused = { .count = 0 };
	int r = ca_read(a->node->os, a->dirfd, ret);

	if (r == 0)
		r = certificate_bundle_read(buf_str(ret), &unused);
	if (r != -ENOENT && r != -ERR_SYNTAX && r != -ERR_TOO_LARGE)
		return r;
	log_warning("ca-damaged", "ca.crt cannot be used (%s): what targets say takes its place", err_text(r));
	buf_clear(ret);
	return 0;
}

static int follow(struct anchors *a, const struct tuf_ca *said)
{
	struct node *n = a->node;
	CLEANUP(buf_done)
	struct buf present = BUF_INIT(CA_FILE_MAX);
	CLEANUP(ca_change_done)
	struct ca_change c = { .grows = false };
	int r = read_present(a, &present);

	if (r == 0)
		r = ca_compose(buf_str(&present), said, &c);
	if (r == 0 && c.grows)
		r = ca_grow(n->os, a->dirfd, &c.grown);
	if (r == 0 && c.grows) {
		n->link_restart_wanted = n->report_wanted = true;
		log_notice("ca-trusted", "another CA is trusted from now on, as targets say: version=%llu",
			   (unsigned long long) a->targets);
	}
	if (r == 0)
		r = c.drops ? ca_offer(n->os, a->dirfd, &c.final) : ca_withdraw(n->os, a->dirfd);
	if (r < 0)
		return r;
	if (c.drops && !a->offered)
		a->offered_ms = node_now_ms(n);
	a->offered = c.drops;
	a->try_at_ms = 0;
	return look(a);
}

/* Once for each version of targets. What is said of CAs and makes no sense changes nothing here. */
static void look_at_targets(struct anchors *a)
{
	struct node *n = a->node;
	const struct json *targets = tuf_client_targets_signed(n->tuf);
	CLEANUP(tuf_ca_done)
	struct tuf_ca said = { .retired_count = 0 };
	struct tuf_state t = { 0 };
	int r;

	tuf_client_state(n->tuf, &t);
	if (!targets || (a->looked && a->targets == t.targets) || node_now_ms(n) < a->again_at_ms)
		return;
	a->targets = t.targets;
	a->looked = true;
	r = tuf_ca_load(json_get(targets, "x-selfright"), &said);
	if (r < 0) {
		if (r != -ERR_NOT_LISTED)
			log_error("ca-list-refused",
				  "what targets say of CAs makes no sense, nothing is changed: %s", err_text(r));
		return;
	}
	memcpy(n->ca_issuing, said.trusted.items[0].sha256, sizeof(n->ca_issuing));
	r = follow(a, &said);
	if (r < 0) {
		a->looked = false; /* asked again */
		complain(a, r, "the CAs that targets name cannot be kept");
		return;
	}
	a->said = 0;
	backoff_reset(&a->disk_backoff);
	if (!a->offered)
		n->ca_note[0] = '\0';
}

/* --- fewer --- */

static void promote(struct anchors *a)
{
	struct node *n = a->node;
	int r = ca_promote(n->os, a->dirfd);

	if (r == 0)
		r = look(a);
	if (r < 0) {
		complain(a, r, "the CA that is to go cannot be taken away");
		a->trial_ends_ms = node_now_ms(n) + TRIAL_MS;
		return;
	}
	a->said = 0;
	a->offered = a->trying = a->tried = n->ca_trying = false;
	backoff_reset(&a->trial_backoff);
	n->ca_note[0] = '\0';
	n->report_wanted = true;
	log_notice("ca-dropped", "the link got through without the old CA: it is no longer trusted");
}

static void give_up(struct anchors *a)
{
	struct node *n = a->node;
	const char *why = a->had_link ? n->link_reason : n->refresh_text;
	uint64_t random = 0;

	if (n->os->random(n->os, &random, sizeof(random)) < 0)
		random = UINT64_MAX; /* the longest wait */
	a->trying = a->tried = n->ca_trying = false;
	a->try_at_ms = node_now_ms(n) + a->trial_backoff.base_ms / 2 + backoff_next_ms(&a->trial_backoff, random);
	n->link_restart_wanted = true; /* with what it trusted before */
	(void) snprintf(n->ca_note, sizeof(n->ca_note),
			"the old CA is still trusted: without it nothing gets through: %.180s", why);
	log_warning("ca-still-needed", "%s", n->ca_note);
}

static bool has_proved_itself(const struct anchors *a)
{
	const struct node *n = a->node;
	bool metadata = n->polled_ms > a->trial_began_ms && n->refresh_error == 0;

	return a->tried && (!a->had_link || n->link_connected) && (!a->had_metadata || metadata);
}

static uint64_t step_trial(struct anchors *a, bool other_trial)
{
	struct node *n = a->node;
	uint64_t now = node_now_ms(n);

	if (a->trying) {
		if (has_proved_itself(a))
			promote(a);
		else if (now >= a->trial_ends_ms)
			give_up(a);
		return a->trying ? a->trial_ends_ms : now;
	}
	if (now < a->try_at_ms)
		return a->try_at_ms;
	a->had_link = n->link_connected;
	a->had_metadata = n->polled_ms != 0 && n->refresh_error == 0;
	/* While the road is cut nothing can be learnt; an update's own proof by the link is not disturbed. */
	if (other_trial || update_is_active(n) || n->link_restart_wanted || (!a->had_link && !a->had_metadata) ||
	    (n->config->broker.host && !a->had_link && now < a->offered_ms + BROKER_WAIT_MS))
		return now + BUSY_MS;
	a->trying = n->ca_trying = true;
	a->trial_began_ms = now;
	a->trial_ends_ms = now + TRIAL_MS;
	n->link_restart_wanted = n->refresh_wanted = true;
	return a->trial_ends_ms;
}

uint64_t anchors_step(struct anchors *a, bool other_trial)
{
	struct node *n = a->node;

	if (a->dirfd < 0)
		return UINT64_MAX;
	if (!update_is_active(n) && !a->trying)
		look_at_targets(a);
	if (n->certificate_changed) {
		int r = look(a);

		if (r < 0)
			complain(a, r, "ca.crt cannot be read");
		n->certificate_changed = false;
		n->report_wanted = true;
	}
	if (a->offered)
		return step_trial(a, other_trial);
	return a->looked ? UINT64_MAX : node_now_ms(n) + BUSY_MS;
}
