/*
 * wait - is it time.
 *
 * What is staged is held against `decide` once more right before the swap, with the freshest word there is; then
 * leave to start, the release's own preflight, how things are before, and at last what the swap will rename.
 */
#include "agent/phase/baseline.h"
#include "agent/phase/facts.h"
#include "agent/phase/lease.h"
#include "agent/phase/node.h"
#include "agent/phase/outcome.h"
#include "agent/phase/phase.h"
#include "agent/phase/self.h"
#include "agent/phase/turn.h"
#include "agent/store/generation.h"
#include "base/err.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	RECENT_POLL_MS = 5000, /* a poll this young is "right before the swap" */
	REFRESH_WAIT_MS = 90 * 1000,
};

enum wait_step {
	WAIT_DECIDE,
	WAIT_REFRESH,
	WAIT_AGAIN,
	WAIT_LEASE,
	WAIT_PREFLIGHT,
	WAIT_PROGRAM,
	WAIT_CONTROLLER,
	WAIT_BASELINE,
	WAIT_DRAIN,
	WAIT_PREPARE,
	WAIT_NOTIFY, /* beside the way to the swap: told, and put aside again */
};

static int next_step(struct node *n, unsigned step)
{
	n->attempt.step = step;
	n->attempt.wake_ms = node_now_ms(n); /* go on at once */
	return PHASE_AGAIN;
}

/* What took its time is over: on to the next step. */
static int then(struct node *n, int r, unsigned step)
{
	return r == PHASE_DONE ? next_step(n, step) : r;
}

/* 1: go; 0: put aside until something changes; negative: no more. */
static int still_wanted(struct node *n)
{
	struct node_update *u = &n->state->update;
	struct decision d;

	if (u->cause == NODE_CAUSE_LOCAL)
		return 1;
	d = node_decide(n, u->component);
	if (d.kind != DECIDE_STAY && str_eq(d.version, u->to) && (enum node_cause) d.cause == u->cause &&
	    (!d.rollout || str_eq(d.rollout->id, u->rollout))) {
		if (d.kind == DECIDE_TARGET)
			return 1;
		/* It was approved when it began: what is missing now has expired or is asked for since. */
		if (d.reason == REASON_NOT_APPROVED)
			return update_fail_as(n, RESULT_NOT_APPROVED, -ERR_REFUSED, "%s",
					      reason_sentence(d.reason));
		STATE_SET(u->waiting_for, reason_name(d.reason));
		if (d.until > 0)
			node_plan_at(n, d.until);
		log_info("update-waits", "update=%s reason=%s", u->id, reason_name(d.reason));
		return 0;
	}
	if (d.kind == DECIDE_TARGET)
		return update_fail_as(n, RESULT_SUPERSEDED, -ECANCELED, "%s %s is wanted now", u->component,
				      d.version[0] ? d.version : "absent");
	return update_fail_as(n, d.reason == REASON_FLOOR ? RESULT_REVOKED : RESULT_WITHDRAWN, -ECANCELED,
			      "it is not wanted any more: %s", reason_sentence(d.reason));
}

static int wait_refresh(struct node *n)
{
	struct attempt *a = &n->attempt;
	const struct node_update *u = &n->state->update;
	uint64_t now = node_now_ms(n);

	/* An order that is verified needs no fresher word, and the way back to safety waits for nothing. */
	if (u->cause != NODE_CAUSE_ROLLOUT)
		return next_step(n, WAIT_AGAIN);
	/* A stick is brought to where there is no road: what it said is the freshest there is. */
	if (n->bundle && !n->link_connected)
		return next_step(n, WAIT_AGAIN);
	if (n->polled_ms > 0 && now - n->polled_ms < RECENT_POLL_MS)
		return next_step(n, WAIT_AGAIN);
	if (a->refresh_asked_ms == 0) {
		a->refresh_asked_ms = now;
		n->refresh_wanted = true;
	}
	if (n->polled_ms >= a->refresh_asked_ms)
		return next_step(n, WAIT_AGAIN);
	if (now - a->refresh_asked_ms > REFRESH_WAIT_MS)
		return next_step(n, WAIT_AGAIN); /* no road; decide says whether what we have is fresh enough */
	a->wake_ms = now + 1000;
	return PHASE_AGAIN;
}

/*
 * A check whose program did not come with the release fails before the swap and after it, which would excuse it. That
 * the rest is there the swap shows, which goes back if it is not.
 */
static int judge_checks(struct node *n, const struct part *p)
{
	char *root = node_version_root(n, p->component, p->to), *path = NULL;
	int r = root ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < p->release->check_count; i++) {
		const struct release_check *check = &p->release->checks[i];
		const char *file = release_command_file(&check->exec);

		if (!check->required || !file)
			continue;
		if (asprintf(&path, "%s/%s", root, file) < 0) {
			r = -ENOMEM;
			break;
		}
		if (access(path, F_OK) < 0 && (errno == ENOENT || errno == ENOTDIR))
			r = update_fail_as(n, RESULT_REQUIREMENT_MISSING, -ENOENT,
					   "the check %s runs %s, which is not in the tree of %s %s", check->name,
					   file, p->component, p->to);
		free(path);
	}
	free(root);
	return r;
}

static int wait_again(struct node *n)
{
	int r = 0;

	n->attempt.refresh_asked_ms = 0;
	for (size_t i = 0; r == 0 && n->state->update.cause == NODE_CAUSE_ROLLOUT && i < update_part_count(n);
	     i++) {
		const struct part p = update_part(n, i);

		r = *p.has_release ? judge_checks(n, &p) : 0;
	}
	return r < 0 ? r : next_step(n, WAIT_LEASE);
}

static int wait_hook(struct node *n, const struct part *p, const struct release_command *hook, enum result number,
		     const char *name)
{
	struct attempt *a = &n->attempt;
	char *root;
	int r;

	if (!*p->has_release || hook->argv.count == 0 || n->image)
		return PHASE_DONE;
	if (a->command.process.pid == 0) {
		root = node_version_root(n, p->component, p->to);
		r = root ? hook_begin(n, p->release, hook, root) : -ENOMEM;
		free(root);
		if (r < 0)
			return update_fail_as(n, number, r, "the hook %s could not be started: %s", name,
					      err_text(r));
	}
	r = command_step(&a->command, node_now_ms(n));
	if (r == 0) {
		a->wake_ms = node_now_ms(n) + 50;
		return PHASE_AGAIN;
	}
	if (r < 0) {
		char text[64];

		tail_add(&a->log_tail, a->command.output.data, a->command.output.len);
		r = update_fail_as(n, number, r, "the hook %s %s", name,
				   r == -ERR_DEADLINE
					   ? "took too long"
					   : process_status_text(a->command.status, text, sizeof(text)));
	}
	command_done(&a->command);
	return r < 0 ? r : PHASE_DONE;
}

/* The same hook of one part after the other, then on to the next step. */
static int wait_hooks(struct node *n, bool preflight, unsigned next)
{
	struct attempt *a = &n->attempt;

	for (; a->part < update_part_count(n); a->part++) {
		const struct part p = update_part(n, a->part);
		int r = preflight ? wait_hook(n, &p, &p.release->hooks.preflight, RESULT_PREFLIGHT_FAILED,
					      "preflight")
				  : wait_hook(n, &p, &p.release->hooks.before_swap, RESULT_HOOK_FAILED,
					      "before_swap");

		if (r != PHASE_DONE)
			return r;
	}
	a->part = 0;
	return next_step(n, next);
}

/*
 * A new agent must at least be a program for this machine, with all it needs here, and the
 * version it is released as: that is seen before anything changes.
 */
static int wait_program(struct node *n)
{
	static char program[] = "bin/selfright-agent", option[] = "--version";
	static char *items[] = { program, option };
	const struct release_command command = { .argv = { .items = items, .count = 2 }, .timeout_s = 20 };
	struct attempt *a = &n->attempt;
	const struct node_update *u = &n->state->update;
	char expected[VERSION_MAX + 32];
	int r;

	if (!self_is_updated(n) || u->to[0] == '\0' || n->image)
		return next_step(n, WAIT_CONTROLLER);
	if (a->command.process.pid == 0) {
		char *root = node_version_root(n, u->component, u->to);

		r = root ? hook_begin(n, &a->release, &command, root) : -ENOMEM;
		free(root);
		if (r < 0)
			return update_fail_as(n, RESULT_PREFLIGHT_FAILED, r,
					      "the agent %s is no program that can be started here: %s", u->to,
					      err_text(r));
	}
	r = command_step(&a->command, node_now_ms(n));
	if (r == 0) {
		a->wake_ms = node_now_ms(n) + 50;
		return PHASE_AGAIN;
	}
	(void) snprintf(expected, sizeof(expected), "selfright-agent %s\n", u->to);
	if (r > 0 && !str_eq(buf_str(&a->command.output), expected))
		r = -ERR_DISAGREE;
	if (r < 0) {
		tail_add(&a->log_tail, a->command.output.data, a->command.output.len);
		r = update_fail_as(n, RESULT_PREFLIGHT_FAILED, r,
				   "the agent %s, asked for its version, does not say that it is this one", u->to);
	}
	command_done(&a->command);
	return r < 0 ? r : next_step(n, WAIT_CONTROLLER);
}

static bool must_notify(struct node *n)
{
	const struct attempt *a = &n->attempt;
	const struct known_rollout *k = documents_rollout(&n->docs, n->state->update.rollout);

	return k && !k->notified && a->has_release && a->release.hooks.notify.argv.count > 0 &&
	       str_eq(n->state->update.waiting_for, reason_name(REASON_NOTICE));
}

/* People hear that something is coming. That nobody could be told holds nothing up. */
static int wait_notify(struct node *n)
{
	struct attempt *a = &n->attempt;
	const struct node_update *u = &n->state->update;
	struct known_rollout *k = documents_rollout(&n->docs, u->rollout);
	char text[64];
	int r = 0;

	if (a->command.process.pid == 0) {
		char *root = node_version_root(n, u->component, u->to);

		r = root ? hook_begin(n, &a->release, &a->release.hooks.notify, root) : -ENOMEM;
		free(root);
	}
	if (r == 0)
		r = command_step(&a->command, node_now_ms(n));
	if (r == 0) {
		a->wake_ms = node_now_ms(n) + 50;
		return PHASE_AGAIN;
	}
	if (r < 0)
		log_warning("notify-failed", "update=%s error=%s detail=%s", u->id, err_name(r),
			    a->command.process.pid && r != -ERR_DEADLINE
				    ? process_status_text(a->command.status, text, sizeof(text))
				    : err_text(r));
	else
		log_notice("notified", "update=%s version=%s", u->id, u->to);
	command_done(&a->command);
	if (k) {
		k->notified = true;
		r = turn_remember(n, k);
		if (r < 0)
			log_warning("notice-not-kept", "after a restart people are told again: %s", err_text(r));
	}
	return PHASE_DROP;
}

/* Both generations are there before anything is stopped: from here on only renames. */
static int wait_prepare(struct node *n)
{
	struct node_update *u = &n->state->update;
	struct generation_entry changes[PARTS_MAX];
	struct generation now = { .count = 0 }, target;
	uint64_t number = 0;
	int r;

	/* Leave to start ends; what came between was slow. */
	if (lease_is_needed(n) && node_now_ms(n) >= n->attempt.lease_until_ms)
		return lease_put_aside(n, "the leave to start ran out during the preparations");
	r = generation_current(n->os, n->dirs->root, &number);
	if (r == 0)
		r = generation_read(n->os, n->dirs->generations, number, &now);
	if (r < 0 && r != -ENOENT)
		return update_fail(n, r, "the current generation could not be read: %s", err_text(r));
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		(void) snprintf(changes[i].component, sizeof(changes[i].component), "%s", p.component);
		(void) snprintf(changes[i].version, sizeof(changes[i].version), "%s", p.to);
	}
	r = generation_compose(&now, changes, update_part_count(n), &target);
	if (r < 0)
		return update_fail(n, r, "the new generation could not be composed: %s", err_text(r));
	u->target_generation = n->state->generation + 1;
	u->fallback_generation = n->state->generation + 2;
	n->state->generation += 2;
	r = node_save(n);
	if (r == 0)
		r = generation_create(n->os, n->dirs->generations, u->target_generation, &target);
	if (r == 0)
		r = generation_create(n->os, n->dirs->generations, u->fallback_generation, &now);
	if (r < 0)
		return update_fail(n, r, "the generations could not be prepared: %s", err_text(r));
	return PHASE_DONE;
}

int phase_wait(struct node *n)
{
	struct attempt *a = &n->attempt;
	int r;

	if (a->step > WAIT_REFRESH && a->step < WAIT_PREPARE && n->state->update.cause != NODE_CAUSE_LOCAL) {
		/* News may come at any time before the swap. */
		r = still_wanted(n);
		if (r <= 0)
			return r < 0 ? r : PHASE_DROP;
	}
	switch ((enum wait_step) a->step) {
	case WAIT_DECIDE:
		r = still_wanted(n);
		if (r == 0 && must_notify(n))
			return next_step(n, WAIT_NOTIFY);
		if (r <= 0)
			return r < 0 ? r : PHASE_DROP;
		return next_step(n, WAIT_REFRESH);
	case WAIT_REFRESH:
		return wait_refresh(n);
	case WAIT_AGAIN:
		return wait_again(n);
	case WAIT_LEASE:
		return then(n, lease_step(n), WAIT_PREFLIGHT);
	case WAIT_PREFLIGHT:
		return wait_hooks(n, true, WAIT_PROGRAM);
	case WAIT_PROGRAM:
		return wait_program(n);
	case WAIT_CONTROLLER:
		return then(n, baseline_controller(n), WAIT_BASELINE);
	case WAIT_BASELINE:
		return then(n, baseline_step(n), WAIT_DRAIN);
	case WAIT_DRAIN:
		return wait_hooks(n, false, WAIT_PREPARE);
	case WAIT_PREPARE:
		return wait_prepare(n);
	case WAIT_NOTIFY:
		return wait_notify(n);
	}
	return update_fail_as(n, RESULT_INTERNAL, -EINVAL, "a step of waiting that does not exist");
}
