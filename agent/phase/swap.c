/*
 * swap - the one moment of change, and the services around it.
 */
#include "agent/local/service.h"
#include "agent/phase/node.h"
#include "agent/phase/phase.h"
#include "agent/store/generation.h"
#include "base/err.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STOP_DEADLINE_MS = 5 * 60 * 1000, START_DEADLINE_MS = 5 * 60 * 1000, LOOK_MS = 100 };

static bool asks_to_stop(const struct release *rel)
{
	for (size_t i = 0; i < rel->service_count; i++)
		if (rel->services[i].stop_before_swap)
			return true;
	return false;
}

int phase_stop(struct node *n)
{
	struct attempt *a = &n->attempt;
	struct node_update *u = &n->state->update;
	uint64_t now = node_now_ms(n);
	int r;

	if (!a->has_old || !asks_to_stop(&a->old))
		return PHASE_DONE;
	if (a->step == 0) {
		/* Noted before the first signal: whoever wakes up here starts them again. */
		u->services_stopped = true;
		r = node_save(n);
		if (r < 0)
			return update_fail(n, r, "the journal could not be written: %s", err_text(r));
		services_stop(n->services, u->component, true);
		a->stopped_ms = now;
		a->step = 1;
	}
	(void) services_step(n->services, now);
	/* A service that fails now is on its way out anyway. */
	if (services_settled(n->services, u->component, NULL) != 0)
		return PHASE_DONE;
	if (now - a->entered_ms > STOP_DEADLINE_MS)
		return update_fail_as(n, RESULT_SERVICE_MANAGER, -ERR_DEADLINE,
				      "the services of %s %s do not stop", u->component, u->from);
	a->wake_ms = now + LOOK_MS;
	return PHASE_AGAIN;
}

static int apply_services(struct node *n)
{
	struct attempt *a = &n->attempt;
	const struct node_update *u = &n->state->update;
	struct command_context c = { .config = n->config, .component = u->component, .version = u->to };
	char *root;
	int r;

	if (u->to[0] == '\0') {
		services_stop(n->services, u->component, false);
		return 0;
	}
	r = node_prepare_component(n, u->component);
	if (r < 0)
		return r;
	root = node_current_root(n, u->component);
	if (!root)
		return -ENOMEM;
	c.root = root;
	r = services_apply(n->services, &c, &a->release);
	free(root);
	return r;
}

/* Idempotent: where the link points already, only the services are brought in line. */
static int change(struct node *n)
{
	struct node_update *u = &n->state->update;
	uint64_t number = 0, now = node_now_ms(n);
	int r = generation_current(n->os, n->dirs->root, &number);

	if (n->attempt.stopped_ms == 0)
		n->attempt.stopped_ms = now;
	if (r < 0 && r != -ENOENT)
		return update_fail(n, r, "the link to the current generation is not ours: %s", err_text(r));
	if (r < 0 || number != u->target_generation) {
		r = generation_switch(n->os, n->dirs->root, u->target_generation);
		if (r < 0)
			return update_fail(n, r, "the link could not be swapped: %s", err_text(r));
	}
	log_notice("swapped", "update=%s component=%s from=%s to=%s generation=%llu", u->id, u->component,
		   u->from[0] ? u->from : "absent", u->to[0] ? u->to : "absent",
		   (unsigned long long) u->target_generation);
	u->swapped_at = n->os->clock_real(n->os);
	u->swapped_boot_ms = now;
	r = apply_services(n);
	if (r == -ERR_REFUSED)
		return update_fail_as(n, RESULT_NOT_ALLOWED, r,
				      "a service asks for what components.d does not allow");
	return r < 0 ? update_fail_as(n, RESULT_SERVICE_FAILED, r, "the services could not be prepared: %s",
				      err_text(r))
		     : 0;
}

static int start_services(struct node *n)
{
	struct attempt *a = &n->attempt;
	struct node_update *u = &n->state->update;
	const char *name = "";
	uint64_t now = node_now_ms(n);
	int r;

	(void) services_step(n->services, now);
	r = services_settled(n->services, u->component, &name);
	if (r < 0) {
		services_log_tail(n->services, u->component, &a->log_tail);
		return update_fail_as(n, RESULT_SERVICE_FAILED, r, "the service %s did not start", name);
	}
	if (r == 0 && now - a->entered_ms > START_DEADLINE_MS)
		return update_fail_as(n, RESULT_SERVICE_FAILED, -ERR_DEADLINE,
				      "the services did not start in time");
	if (r == 0) {
		a->wake_ms = now + LOOK_MS;
		return PHASE_AGAIN;
	}
	u->pause_ms = now - a->stopped_ms;
	return PHASE_DONE;
}

static int run_hook(struct node *n)
{
	struct attempt *a = &n->attempt;
	const struct node_update *u = &n->state->update;
	const struct release_command *hook = &a->release.hooks.after_swap;
	char text[64], *root;
	int r;

	if (!a->has_release || hook->argv.count == 0)
		return PHASE_DONE;
	if (a->command.process.pid == 0) {
		root = node_current_root(n, u->component);
		r = root ? hook_begin(n, &a->release, hook, root) : -ENOMEM;
		free(root);
		if (r < 0)
			return update_fail_as(n, RESULT_HOOK_FAILED, r,
					      "the hook after_swap could not be started: %s", err_text(r));
	}
	r = command_step(&a->command, node_now_ms(n));
	if (r == 0) {
		a->wake_ms = node_now_ms(n) + LOOK_MS;
		return PHASE_AGAIN;
	}
	if (r < 0) {
		tail_add(&a->log_tail, a->command.output.data, a->command.output.len);
		r = update_fail_as(n, RESULT_HOOK_FAILED, r, "the hook after_swap %s",
				   r == -ERR_DEADLINE
					   ? "took too long"
					   : process_status_text(a->command.status, text, sizeof(text)));
	}
	command_done(&a->command);
	return r < 0 ? r : PHASE_DONE;
}

enum swap_step { SWAP_CHANGE, SWAP_SERVICES, SWAP_HOOK };

/* The component is what it became, in the same record that says probation begins. */
static int note_version(struct node *n)
{
	const struct node_update *u = &n->state->update;
	struct node_component *c = NULL;
	int r = state_component_add(n->state, u->component, &c);

	if (r < 0)
		return update_fail(n, r, "the component could not be noted: %s", err_text(r));
	STATE_SET(c->version, u->to);
	STATE_SET(c->previous, u->from);
	STATE_SET(c->rollout, u->cause == NODE_CAUSE_ROLLOUT ? u->rollout : "");
	STATE_SET(c->stage, u->cause == NODE_CAUSE_ROLLOUT ? u->stage : "");
	c->seq = u->cause == NODE_CAUSE_ROLLOUT ? u->seq : 0;
	STATE_SET(c->release_path, u->release_path);
	STATE_SET(c->release_sha256, u->release_sha256);
	n->report_wanted = true;
	return PHASE_DONE;
}

int phase_swap(struct node *n)
{
	struct attempt *a = &n->attempt;
	int r;

	if (a->step == SWAP_CHANGE) {
		r = change(n);
		if (r < 0)
			return r;
		a->step = SWAP_SERVICES;
	}
	if (a->step == SWAP_SERVICES) {
		r = start_services(n);
		if (r != PHASE_DONE)
			return r;
		a->step = SWAP_HOOK;
	}
	r = run_hook(n);
	return r == PHASE_DONE ? note_version(n) : r;
}

/* Only module kinds reboot; the row is there so that a journal of theirs has a meaning. */
int phase_reboot(struct node *n)
{
	if (str_eq(n->state->boot_id, n->boot_id) && !n->attempt.resumed)
		return PHASE_AGAIN;
	return PHASE_DONE;
}
