/*
 * rollback - back to what was prepared before the swap; it may not fail for reasons
 * we can prevent.
 */
#include "agent/local/service.h"
#include "agent/phase/again.h"
#include "agent/phase/node.h"
#include "agent/phase/outcome.h"
#include "agent/phase/phase.h"
#include "agent/phase/self.h"
#include "agent/store/data.h"
#include "agent/store/generation.h"
#include "agent/store/seal.h"
#include "base/err.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	LOOK_MS = 100,
	START_DEADLINE_MS = 60 * 1000,
	STUCK_AGAIN_MS = 3600 * 1000,
	RETRY_MS = 300 * 1000,
	TROUBLE_AGAIN_MS = 500,
	TROUBLE_MS = 15 * 1000,
};

enum rollback_step { BACK_BEGIN, BACK_STOP, BACK_CHANGE, BACK_SERVICES, BACK_HOOK, BACK_JUDGE };

static void note_version(struct node *n, const struct part *p)
{
	struct node_component *c = state_component(n->state, p->component);
	const struct node_taken *t = NULL;

	if (!c)
		return;
	if (!str_eq(c->version, p->from)) {
		STATE_SET(c->version, p->from);
		STATE_SET(c->previous, p->to);
		STATE_SET(c->rollout, "");
		STATE_SET(c->stage, "");
		c->seq = 0;
		STATE_SET(c->release_path, "");
		STATE_SET(c->release_sha256, "");
	}
	/* The rollout that brought the old version brought it still. */
	for (size_t i = 0; i < c->taken_count; i++)
		if (str_eq(c->taken[i].version, p->from))
			t = &c->taken[i];
	if (t && p->from[0]) {
		STATE_SET(c->rollout, t->rollout);
		STATE_SET(c->stage, t->stage);
		c->seq = t->seq;
	}
	c->watch_until = 0;
	c->watch_update[0] = '\0';
}

static void note_versions(struct node *n)
{
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		note_version(n, &p);
	}
}

static int apply_services(struct node *n, const struct part *p)
{
	struct command_context c = { .config = n->config, .component = p->component, .version = p->from };
	char *root;
	int r;

	if (p->from[0] == '\0') {
		services_stop(n->services, p->component, false);
		return 0;
	}
	if (!*p->has_old) {
		/* Whatever the old one was, the new one does not run on beside the old files. */
		services_stop(n->services, p->component, false);
		return -ENOENT;
	}
	root = node_current_root(n, p->component);
	if (!root)
		return -ENOMEM;
	c.root = root;
	if (*p->has_release)
		node_keep_services(n, p->release, p->old);
	r = services_apply(n->services, &c, p->old);
	free(root);
	return r;
}

/*
 * Data goes back before the link: where the link is back already, so is the data, and what
 * the old version has written since stays.
 */
static bool has_data(const struct node *n)
{
	const struct node_update *u = &n->state->update;
	uint64_t number = 0;

	return u->data_saved[0] &&
	       (generation_current(n->os, n->dirs->root, &number) < 0 || number != u->fallback_generation);
}

static void stop_all(struct node *n)
{
	for (size_t i = 0; i < update_part_count(n); i++)
		services_stop(n->services, update_part(n, i).component, false);
}

/* PHASE_DONE once nothing runs; what does not stop in time writes into what was displaced. */
static int wait_stopped(struct node *n)
{
	struct attempt *a = &n->attempt;
	uint64_t now = node_now_ms(n);
	bool settled = true;

	(void) services_step(n->services, now);
	for (size_t i = 0; i < update_part_count(n); i++)
		settled = settled && services_settled(n->services, update_part(n, i).component, NULL) != 0;
	if (settled || now - a->entered_ms >= START_DEADLINE_MS)
		return PHASE_DONE;
	a->wake_ms = now + LOOK_MS;
	return PHASE_AGAIN;
}

/*
 * Who has no memory for a moment gets back all the same: each step can be run again, and being stuck for an
 * hour, perhaps with data that is moved already and a link that is not, is worse than waiting a little.
 */
static bool waits_out(struct node *n, int r)
{
	struct attempt *a = &n->attempt;
	uint64_t now = node_now_ms(n);

	if (r >= 0 || (err_class(r) != ERR_CLASS_RETRY && r != -EIO))
		return false;
	if (a->trouble_ms == 0) {
		a->trouble_ms = now;
		log_warning("way-back-waits", "update=%s error=%s; it is tried again for %d s",
			    n->state->update.id, err_name(r), TROUBLE_MS / 1000);
	}
	if (now - a->trouble_ms >= TROUBLE_MS)
		return false;
	a->wake_ms = now + TROUBLE_AGAIN_MS;
	return true;
}

static int put_back_data(struct node *n)
{
	struct node_update *u = &n->state->update;
	int r;

	r = data_restore(n->os, n->dirs, u->data_saved, false);
	if (r == -ENOENT) {
		/* The swap was never reached, or somebody removed it: the way back does not wait for what is gone. */
		log_error("data-gone", "the copy of the data is not there: update=%s name=%s", u->id,
			  u->data_saved);
		return PHASE_DONE;
	}
	if (waits_out(n, r))
		return PHASE_AGAIN;
	if (r < 0) {
		u->result = 0; /* this is what a person must know now */
		return update_fail_as(n, RESULT_STUCK, r,
				      "the data from before the swap could not be put back: %s", err_text(r));
	}
	log_notice("data-restored", "update=%s name=%s", u->id, u->data_saved);
	return PHASE_DONE;
}

/* Nothing is changed before all that must come back is known to be whole. */
static int check_fallback(struct node *n)
{
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);
		int r = p.from[0] ? seal_is_intact(n->os, n->dirs->store, p.component, p.from) : 0;

		if (waits_out(n, r))
			return PHASE_AGAIN;
		if (r < 0) {
			n->state->update.result = 0; /* this is what a person must know now */
			return update_fail_as(n, RESULT_FALLBACK_DAMAGED, r, "%s %s, to which it must go back: %s",
					      p.component, p.from, err_text(r));
		}
	}
	return PHASE_DONE;
}

static int change(struct node *n)
{
	struct node_update *u = &n->state->update;
	uint64_t number = 0;
	int r = check_fallback(n);

	if (r != PHASE_DONE)
		return r;
	r = generation_current(n->os, n->dirs->root, &number);
	if (r < 0 || number != u->fallback_generation)
		r = generation_switch(n->os, n->dirs->root, u->fallback_generation);
	if (waits_out(n, r))
		return PHASE_AGAIN;
	if (r < 0) {
		u->result = 0;
		return update_fail_as(n, RESULT_STUCK, r, "the link could not be swapped back: %s", err_text(r));
	}
	note_versions(n);
	n->report_wanted = true;
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		log_notice("swapped-back", "update=%s component=%s from=%s to=%s generation=%llu", u->id,
			   p.component, p.to[0] ? p.to : "absent", p.from[0] ? p.from : "absent",
			   (unsigned long long) u->fallback_generation);
		r = apply_services(n, &p);
		if (r < 0)
			log_error("service-not-restarted", "component=%s version=%s reason=%s", p.component,
				  p.from, err_text(r));
	}
	return PHASE_DONE;
}

static int start_services(struct node *n)
{
	struct attempt *a = &n->attempt;
	struct node_update *u = &n->state->update;
	struct part p = { .component = "" };
	const char *name = "";
	uint64_t now = node_now_ms(n);
	int r = 1;

	(void) services_step(n->services, now);
	for (size_t i = 0; r == 1 && i < update_part_count(n); i++) {
		p = update_part(n, i);
		r = services_settled(n->services, p.component, &name);
	}
	if (r == 0 && now - a->entered_ms < START_DEADLINE_MS) {
		a->wake_ms = now + LOOK_MS;
		return PHASE_AGAIN;
	}
	if (r == 1)
		return PHASE_DONE;
	/* A service that did not run before either is not what makes this node stuck. */
	if (!a->services_were_fine) {
		log_warning("service-failing", "as before the update: component=%s service=%s", p.component, name);
		return PHASE_DONE;
	}
	services_log_tail(n->services, p.component, &a->log_tail);
	u->result = 0;
	if (r == 0 && services_are_leaving(n->services, p.component, &name))
		return update_fail_as(n, RESULT_STUCK, -ERR_DEADLINE,
				      "%s %s is back, but a process of its service %s does not end", p.component,
				      p.from, name);
	return update_fail_as(n, RESULT_STUCK, r < 0 ? r : -ERR_DEADLINE,
			      "%s %s is back, but its service %s does not start", p.component, p.from, name);
}

static int run_hook(struct node *n, const struct part *p)
{
	struct attempt *a = &n->attempt;
	char *root;
	int r;

	if (!*p->has_release || p->release->hooks.after_rollback.argv.count == 0)
		return PHASE_DONE;
	if (a->command.process.pid == 0) {
		root = node_version_root(n, p->component, p->to);
		r = root ? hook_begin(n, p->release, &p->release->hooks.after_rollback, root) : -ENOMEM;
		free(root);
	} else {
		r = command_step(&a->command, node_now_ms(n));
	}
	if (r == 0) {
		a->wake_ms = node_now_ms(n) + LOOK_MS;
		return PHASE_AGAIN;
	}
	if (r < 0)
		log_warning("hook-failed", "update=%s hook=after_rollback component=%s reason=%s",
			    n->state->update.id, p->component, err_text(r));
	command_done(&a->command);
	return PHASE_DONE;
}

/*
 * A new agent that had no answer was at fault if this one gets one. Where nobody answers this one
 * either it is the network, and a good release is not refused for a cut cable.
 */
static int judge_link(struct node *n)
{
	struct attempt *a = &n->attempt;
	struct node_update *u = &n->state->update;
	uint64_t now = node_now_ms(n);

	if (!self_is_updated(n) || u->result != RESULT_LINK_LOST || self_ask_controller(n) > 0)
		return PHASE_DONE;
	if (!a->asked_ms)
		a->asked_ms = now;
	if (now - a->asked_ms < u->handover_ms) {
		a->wake_ms = now + LOOK_MS;
		return PHASE_AGAIN;
	}
	u->result = 0;
	(void) update_fail_as(n, RESULT_METADATA_UNREACHABLE, -ERR_NETWORK,
			      "neither the new agent nor the old one has an answer of the controller");
	return PHASE_DONE;
}

/* The one that is sent away has done what it can: the end is the other's to tell. */
static bool must_hand_over(const struct node *n)
{
	const struct node_update *u = &n->state->update;

	return self_is_updated(n) && supervisor_is_there(&n->supervisor) && !n->attempt.resumed &&
	       self_runs(n, u->to) && !self_runs(n, u->from);
}

static int run_hooks(struct node *n)
{
	struct attempt *a = &n->attempt;

	for (; a->part < update_part_count(n); a->part++) {
		const struct part p = update_part(n, a->part);

		if (run_hook(n, &p) == PHASE_AGAIN)
			return PHASE_AGAIN;
	}
	return PHASE_DONE;
}

int phase_rollback(struct node *n)
{
	struct attempt *a = &n->attempt;
	int r;

	if (a->step == BACK_BEGIN) {
		command_done(&a->command);
		if (has_data(n))
			stop_all(n);
		a->step = BACK_STOP;
	}
	if (a->step == BACK_STOP) {
		r = has_data(n) ? wait_stopped(n) : PHASE_DONE;
		if (r != PHASE_DONE)
			return r;
		r = has_data(n) ? put_back_data(n) : PHASE_DONE;
		if (r != PHASE_DONE)
			return r;
		a->step = BACK_CHANGE;
	}
	if (a->step == BACK_CHANGE) {
		r = change(n);
		if (r != PHASE_DONE)
			return r;
		a->step = BACK_SERVICES;
		if (must_hand_over(n))
			self_hand_over(n);
	}
	if (n->handover_wanted) {
		a->wake_ms = UINT64_MAX;
		return PHASE_AGAIN;
	}
	if (a->step == BACK_SERVICES) {
		r = start_services(n);
		if (r != PHASE_DONE)
			return r;
		a->step = BACK_HOOK;
	}
	if (a->step == BACK_HOOK) {
		r = run_hooks(n);
		if (r != PHASE_DONE)
			return r;
		a->step = BACK_JUDGE;
	}
	return judge_link(n);
}

/* For each part: any of them would bring the others again. */
static void note_retry(struct node *n, const struct part *p)
{
	struct node_retry *retry = state_retry_add(n->state, p->component, p->to);

	retry->failures++;
	again_note(n, retry, RETRY_MS * (retry->failures < 12 ? retry->failures : 12));
}

/* Brought by one, or watched since it was. */
static bool is_by_rollout(const struct node_update *u)
{
	return u->cause == NODE_CAUSE_ROLLOUT || (u->cause == NODE_CAUSE_WATCH && u->rollout[0]);
}

/* A way back that fails says nothing against the version it led to. */
static int judge_part(struct node *n, const struct part *p, enum result number)
{
	const struct node_update *u = &n->state->update;
	const struct catalogue_row *row = catalogue_find(number);
	const char *blamed = u->blamed[0] ? u->blamed : u->component;
	struct node_component *c = NULL;
	int r = state_component_add(n->state, p->component, &c);

	if (r < 0 || p->to[0] == '\0')
		return r;
	if (number == RESULT_ROLLED_BACK)
		component_deny(c, p->to, NODE_DENIED_FORCED, u->seq);
	else if (row && row->class == CLASS_RELEASE && is_by_rollout(u) && str_eq(p->component, blamed))
		component_deny(c, p->to, NODE_DENIED_UNFIT, u->seq);
	return 0;
}

/* The node's own way back ignores the floor, and says so: beside the end of the update, as news of its own. */
static void add_below_floor(struct node *n, const struct part *p, char *detail, size_t size)
{
	const struct known_policy *policy = documents_policy(&n->docs, p->component);
	const struct node_update *u = &n->state->update;
	size_t len = strlen(detail);
	char words[STATE_DETAIL_SIZE];

	if (!p->from[0] || !policy || !policy->present || policy_permits(&policy->policy, p->from))
		return;
	(void) snprintf(detail + len, size - len, " (%s)", catalogue_find(RESULT_BELOW_FLOOR)->sentence);
	(void) snprintf(words, sizeof(words), "%s runs %s again, which the policy does not permit", p->component,
			p->from);
	if (update_note(n, RESULT_BELOW_FLOOR, p->component, u->rollout[0] ? u->rollout : NULL, words) < 0)
		log_error("below-floor-not-noted", "update=%s", u->id); /* the detail says it too */
}

int phase_rolled_back(struct node *n)
{
	struct node_update *u = &n->state->update;
	enum result number = u->result ? (enum result) u->result : RESULT_INTERNAL;
	const struct catalogue_row *row = catalogue_find(number);
	char detail[STATE_DETAIL_SIZE];
	bool denied = number == RESULT_ROLLED_BACK || (row && row->class == CLASS_RELEASE && is_by_rollout(u));

	note_versions(n);
	(void) snprintf(detail, sizeof(detail), "%s", u->detail);
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);
		int r = judge_part(n, &p, number);

		if (r < 0)
			return r;
		add_below_floor(n, &p, detail, sizeof(detail));
		if (p.to[0] && !denied)
			note_retry(n, &p);
	}
	n->state->stuck = false;
	if (update_end(n, number, detail) < 0)
		return -ENOMEM;
	/* One that only stood in has told the end; the one it went back to is who should run. */
	if (self_is_updated(n) && supervisor_is_there(&n->supervisor) && !self_runs(n, u->from))
		self_hand_over(n);
	node_collect(n, 0);
	return PHASE_DONE;
}

/* Tell it once, try again at every start and every hour, and let orders through. */
int phase_stuck(struct node *n)
{
	struct attempt *a = &n->attempt;
	struct node_update *u = &n->state->update;
	uint64_t now = node_now_ms(n);

	if (!n->state->stuck) {
		int r;

		n->state->stuck = true;
		r = update_note(n, RESULT_STUCK, u->component, u->rollout[0] ? u->rollout : NULL, u->detail);
		if (r == 0)
			r = node_save(n);
		if (r < 0)
			log_error("stuck-not-noted", "update=%s reason=%s", u->id, err_text(r));
	}
	if (a->resumed || now - a->entered_ms >= STUCK_AGAIN_MS)
		return PHASE_DONE;
	a->wake_ms = a->entered_ms + STUCK_AGAIN_MS;
	return PHASE_AGAIN;
}
