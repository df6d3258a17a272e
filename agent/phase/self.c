#include "agent/phase/self.h"

#include "agent/phase/node.h"
#include "agent/store/agents.h"
#include "base/err.h"
#include "base/log.h"
#include "base/version.h"

#include <errno.h>
#include <stdio.h>

enum { THRESHOLD = 2, ASK_AGAIN_MS = 10 * 1000 };

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
	/* What was good here before was signed well enough then. */
	return u->cause == NODE_CAUSE_ROLLOUT ? check_signers(n, u->release_path) : 0;
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
