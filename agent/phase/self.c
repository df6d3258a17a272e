#include "agent/phase/self.h"

#include "agent/phase/node.h"
#include "agent/phase/outcome.h"
#include "agent/store/agents.h"
#include "base/err.h"
#include "base/log.h"
#include "base/program.h"
#include "base/timestamp.h"
#include "base/version.h"
#include "crypto/digest.h"
#include "json/json.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#ifndef SELFRIGHT_DATADIR
#define SELFRIGHT_DATADIR "/usr/share"
#endif
#define PACKAGED_ROOT SELFRIGHT_DATADIR "/selfright/root.json"

enum { THRESHOLD = 2, ASK_AGAIN_MS = 10 * 1000, ROOT_MAX = 512 * 1024 };

bool self_is_updated(const struct node *n)
{
	return update_is_active(n) && str_eq(n->state->update.component, AGENTS_COMPONENT);
}

bool self_runs(const struct node *n, const char *version)
{
	return str_eq(n->supervisor.running, version);
}

void self_hand_over(struct node *n)
{
	n->handover_wanted = true;
}

/* DESIGN.md section 4: whoever signs the agent can do all that root can. */
static int check_signers(struct node *n, const char *path)
{
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	struct tuf_target t = { 0 };
	int r;

	if (n->config->demo_single_key_agent)
		return 0;
	r = tuf_client_find(n->tuf, &n->fetcher, path, &t);
	if (r == 0)
		r = tuf_team_keyring(n->tuf, t.role, &ring);
	if (r < 0)
		return update_fail(n, r, "who signs %s could not be found out: %s", path, err_text(r));
	if (tuf_keyring_threshold(ring) >= THRESHOLD)
		return 0;
	return update_fail_as(n, RESULT_NOT_ALLOWED, -ERR_REFUSED,
			      "one key is enough to sign as '%s'; an agent takes the place of this one only when "
			      "at least %d keys must sign (selfright repo rotate)",
			      t.role, THRESHOLD);
}

int self_check(struct node *n, const struct release *rel)
{
	struct node_update *u = &n->state->update;
	const struct node_component *c;

	if (u->with_count > 0)
		return update_fail_as(
			n, RESULT_NOT_ALLOWED, -ERR_REFUSED,
			"the agent is not swapped together with others: its hand-over is not theirs");
	if (!supervisor_is_there(&n->supervisor) && !n->image)
		return update_fail_as(n, RESULT_REQUIREMENT_MISSING, -ERR_REFUSED,
				      "this agent was not started by `selfright-recover --start`, so nobody could "
				      "start it again");
	if (n->supervisor.packaged[0] && version_compare(n->supervisor.packaged, rel->version) > 0)
		return update_fail_as(n, RESULT_REQUIREMENT_MISSING, -ERR_REFUSED,
				      "the packaged agent here is %s, which would be started instead of %s",
				      n->supervisor.packaged, rel->version);
	if (rel->service_count > 0 || rel->data_count > 0)
		return update_fail_as(
			n, RESULT_NOT_ALLOWED, -ERR_REFUSED,
			"a release of the agent has neither services nor data[]: the agent itself is what "
			"runs, and its journal is not copied");
	u->handover_ms = n->config->handover_s * 1000;
	/* What was good here before was signed well enough then; what comes from a stick is looked at like the rest. */
	c = state_component(n->state, AGENTS_COMPONENT);
	return c && component_was_good(c, rel->version) ? 0 : check_signers(n, u->release_path);
}

bool self_wake(struct node *n, bool target_is_current)
{
	struct node_update *u = &n->state->update;
	const struct supervisor *s = &n->supervisor;
	bool failed = str_eq(s->failed_update, u->id);

	if (n->image)
		return true; /* nothing of it runs here */
	if (supervisor_is_there(s) && !failed && (!target_is_current || self_runs(n, u->to)))
		return true;
	if (u->result)
		return false; /* it is known already */
	if (failed && s->failed_how[0]) {
		u->result = RESULT_AGENT_FAILED;
		(void) snprintf(u->detail, sizeof(u->detail), "agent %s was given up: %s",
				u->to[0] ? u->to : "(packaged)", s->failed_how);
	} else if (failed) {
		u->result = RESULT_INTERRUPTED;
		(void) snprintf(u->detail, sizeof(u->detail),
				"agent %s was cut off each time before it could say that it works",
				u->to[0] ? u->to : "(packaged)");
	} else {
		u->result = RESULT_INTERRUPTED;
		(void) snprintf(u->detail, sizeof(u->detail),
				"another agent than %s was started in the middle of it",
				u->to[0] ? u->to : "the packaged one");
	}
	log_warning("agent-given-up", "update=%s detail=%s", u->id, u->detail);
	return false;
}

/* --- the root it carries --- */

struct carried {
	char sha256[SHA256_HEX + 1];
	int64_t expires;
};

static int describe(const struct buf *bytes, struct carried *ret)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const char *expires;
	int r = sha256_hex(bytes->data, bytes->len, ret->sha256);

	if (r == 0)
		r = json_parse(bytes->data, bytes->len, &json_limits_default, &doc);
	if (r < 0)
		return r;
	expires = json_string(json_get(json_get(doc, "signed"), "expires"));
	return expires ? timestamp_parse(expires, &ret->expires) : -ERR_FIELD_MISSING;
}

/* What the installed release carries; without one the package's, which is root's like everything it installs. */
static int read_carried(const struct node *n, struct buf *ret)
{
	const struct node_component *c = state_component(n->state, AGENTS_COMPONENT);
	char path[2 * STATE_VERSION_SIZE];
	struct stat st;

	if (c && c->version[0]) {
		(void) snprintf(path, sizeof(path), "agent/%s/root.json", c->version);
		return file_read(n->os, n->dirs->store, path, ROOT_MAX, ret);
	}
	if (lstat(PACKAGED_ROOT, &st) < 0 || st.st_uid != 0 || (st.st_mode & (S_IWGRP | S_IWOTH)))
		return -ENOENT;
	return file_read(n->os, AT_FDCWD, PACKAGED_ROOT, ROOT_MAX, ret);
}

static bool is_lost(const struct node *n, const char *sha256)
{
	const struct known_policy *p = documents_policy(&n->docs, AGENTS_COMPONENT);

	return p && p->present && string_list_has(&p->policy.lost_roots, sha256);
}

bool self_replace_root(struct node *n)
{
	CLEANUP(buf_done)
	struct buf trusted = BUF_INIT(ROOT_MAX), bytes = BUF_INIT(ROOT_MAX);
	struct carried old = { .expires = 0 }, new = { .expires = 0 };
	int64_t now = node_now(n);
	bool lost;
	int r;

	/* One on trial is not believed yet, whoever signed it. */
	if (self_is_updated(n) || tuf_client_bytes(n->tuf, "root", &trusted) < 0 || describe(&trusted, &old) < 0)
		return false;
	lost = is_lost(n, old.sha256);
	if (!lost && old.expires > now)
		return false;
	if (read_carried(n, &bytes) < 0 || describe(&bytes, &new) < 0)
		return false;
	/*
	 * Never back: a root of the same line that was left behind, with keys revoked since, expires before the
	 * one that is trusted now.
	 */
	if (str_eq(new.sha256, old.sha256) || new.expires <= now || new.expires <= old.expires ||
	    is_lost(n, new.sha256))
		return false;
	r = tuf_client_init(n->tuf, bytes.data, bytes.len);
	if (r < 0) {
		log_error("root-not-replaced", "the root that the agent carries cannot be used: %s",
			  tuf_client_error(n->tuf));
		return false;
	}
	log_notice("trust-replaced", "reason=%s root=%s; the agent's release carried it",
		   lost ? "lost" : "expired", new.sha256);
	n->refresh_error = 0;
	n->report_wanted = true;
	return true;
}

void self_tell_difference(struct node *n)
{
	const struct node_component *c = state_component(n->state, AGENTS_COMPONENT);
	const struct supervisor *s = &n->supervisor;
	char sentence[200];
	int r;

	if (!c || !c->version[0] || self_is_updated(n) || self_runs(n, c->version) || !supervisor_is_there(s))
		return;
	if (!s->running[0] && s->packaged[0] && version_compare(s->packaged, c->version) > 0)
		return; /* a newer package was installed: that is who should run */
	(void) snprintf(sentence, sizeof(sentence), "agent %s does not start here; %s%s runs instead", c->version,
			s->running[0] ? "" : "the packaged ", s->running[0] ? s->running : program_version);
	log_warning("agent-not-current", "%s", sentence);
	r = update_note(n, RESULT_AGENT_FAILED, AGENTS_COMPONENT, NULL, sentence);
	if (r < 0)
		log_warning("note-lost", "reason=%s", err_text(r));
}

int self_ask_controller(struct node *n)
{
	struct attempt *a = &n->attempt;
	uint64_t now = node_now_ms(n);

	if (a->nonce[0] && n->acked_ms >= a->nonce_ms && str_eq(n->acked_nonce, a->nonce))
		return 1;
	if (a->nonce[0] && now - a->nonce_ms < ASK_AGAIN_MS)
		return 0;
	if (!a->nonce[0] && node_nonce(n, a->nonce) < 0) {
		a->nonce[0] = '\0';
		return 0;
	}
	a->nonce_ms = now;
	n->report_wanted = true;
	return 0;
}
