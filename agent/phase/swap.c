/*
 * swap - the one moment of change, and the services around it.
 */
#include "agent/local/service.h"
#include "agent/phase/node.h"
#include "agent/phase/outcome.h"
#include "agent/phase/phase.h"
#include "agent/phase/room.h"
#include "agent/store/data.h"
#include "agent/store/generation.h"
#include "base/err.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STOP_DEADLINE_MS = 5 * 60 * 1000, START_DEADLINE_MS = 5 * 60 * 1000, LOOK_MS = 100, COPY_MS = 50 };

enum stop_step { STOP_BEGIN, STOP_WAIT, STOP_COPY };

static bool asks_to_stop(const struct release *rel)
{
	for (size_t i = 0; i < rel->service_count; i++)
		if (rel->services[i].stop_before_swap)
			return true;
	return false;
}

/* Does its data change hands, so that nothing of it may run? */
static bool stops_all(const struct node *n, const struct part *p)
{
	const struct node_update *u = &n->state->update;

	return (*p->has_release && p->release->data_count > 0) ||
	       (u->data_from[0] && str_eq(p->component, u->component));
}

static bool must_stop(const struct node *n, const struct part *p)
{
	return stops_all(n, p) || (*p->has_old && asks_to_stop(p->old));
}

static int stop_begin(struct node *n, bool copy)
{
	struct attempt *a = &n->attempt;
	struct node_update *u = &n->state->update;
	struct data_set set;
	char name[DATA_NAME_SIZE];
	int r = copy ? room_check_copy(n) : 0;

	if (r < 0)
		return r;
	/* Noted before the first signal: whoever wakes up here starts them again. */
	u->services_stopped = true;
	if (copy && update_data(n, &set, name))
		STATE_SET(u->data_saved, name);
	r = node_save(n);
	if (r < 0)
		return update_fail(n, r, "the journal could not be written: %s", err_text(r));
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		/* Where data is copied everything stops. */
		if (*p.has_release && *p.has_old && !stops_all(n, &p))
			node_keep_services(n, p.old, p.release);
		services_stop(n->services, p.component, !stops_all(n, &p));
	}
	a->stopped_ms = node_now_ms(n);
	return 0;
}

static int stop_wait(struct node *n)
{
	struct attempt *a = &n->attempt;
	uint64_t now = node_now_ms(n);

	(void) services_step(n->services, now);
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		/* A service that fails now is on its way out anyway. */
		if (services_settled(n->services, p.component, NULL) != 0)
			continue;
		if (now - a->entered_ms > STOP_DEADLINE_MS)
			return update_fail_as(n, RESULT_SERVICE_MANAGER, -ERR_DEADLINE,
					      "the services of %s %s do not stop", p.component, p.from);
		a->wake_ms = now + LOOK_MS;
		return PHASE_AGAIN;
	}
	return PHASE_DONE;
}

/* A little at a time: the console is answered meanwhile. */
static int stop_copy(struct node *n)
{
	struct attempt *a = &n->attempt;
	struct data_set set;
	char name[DATA_NAME_SIZE];
	int r = 0;

	if (!a->data && !update_data(n, &set, name))
		return PHASE_DONE;
	if (!a->data)
		r = data_save_begin(n->os, n->dirs, name, &set, &a->data);
	if (r == 0)
		r = data_save_step(a->data, node_now_ms(n) + COPY_MS);
	if (r == 0) {
		a->wake_ms = node_now_ms(n) + 1;
		return PHASE_AGAIN;
	}
	if (r > 0)
		r = data_save_commit(a->data);
	if (r < 0)
		return update_fail(n, r, "the data could not be copied before the swap: %s", err_text(r));
	data_save_free(a->data);
	a->data = NULL;
	log_notice("data-saved", "update=%s name=%s", n->state->update.id, n->state->update.data_saved);
	return PHASE_DONE;
}

int phase_stop(struct node *n)
{
	struct attempt *a = &n->attempt;
	struct data_set set;
	char name[DATA_NAME_SIZE];
	bool copy = update_data(n, &set, name), stop = false;
	int r;

	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		stop = stop || must_stop(n, &p);
	}
	if (!stop)
		return PHASE_DONE;
	if (a->step == STOP_BEGIN) {
		r = stop_begin(n, copy);
		if (r < 0)
			return r;
		a->step = STOP_WAIT;
	}
	if (a->step == STOP_WAIT) {
		r = stop_wait(n);
		if (r != PHASE_DONE)
			return r;
		a->step = STOP_COPY;
	}
	return copy ? stop_copy(n) : PHASE_DONE;
}

static int apply_services(struct node *n, const struct part *p)
{
	struct command_context c = { .config = n->config, .component = p->component, .version = p->to };
	char *root;
	int r;

	if (n->image)
		return 0; /* they start where it boots */
	if (p->to[0] == '\0') {
		services_stop(n->services, p->component, false);
		return 0;
	}
	r = node_prepare_component(n, p->component);
	if (r < 0)
		return r;
	root = node_current_root(n, p->component);
	if (!root)
		return -ENOMEM;
	c.root = root;
	if (*p->has_old)
		node_keep_services(n, p->old, p->release);
	r = services_apply(n->services, &c, p->release);
	free(root);
	return r;
}

static int apply_all_services(struct node *n)
{
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);
		int r = apply_services(n, &p);

		if (r < 0)
			update_blame(n, p.component);
		if (r == -ERR_REFUSED)
			return update_fail_as(n, RESULT_NOT_ALLOWED, r,
					      "a service of %s asks for what components.d does not allow",
					      p.component);
		if (r < 0)
			return update_fail_as(n, catalogue_blame(RESULT_SERVICE_FAILED, r), r,
					      "the services of %s could not be prepared: %s", p.component,
					      err_text(r));
	}
	return 0;
}

/* Idempotent: where the link points already, only the services are brought in line. */
static int change(struct node *n)
{
	struct node_update *u = &n->state->update;
	uint64_t number = 0, now = node_now_ms(n);
	bool settled = true;
	int r = generation_current(n->os, n->dirs->root, &number);

	if (n->attempt.stopped_ms == 0)
		n->attempt.stopped_ms = now;
	if (r < 0 && r != -ENOENT)
		return update_fail(n, r, "the link to the current generation is not ours: %s", err_text(r));
	if (r < 0 || number != u->target_generation) {
		/* Before the link, as on the way back: where the link is, the data is. */
		r = u->data_from[0] ? data_restore(n->os, n->dirs, u->data_from, true) : 0;
		if (r < 0)
			return update_fail(n, r, "the data of %s that was asked for could not be put back: %s",
					   u->to, err_text(r));
		r = generation_switch(n->os, n->dirs->root, u->target_generation);
		if (r < 0)
			return update_fail(n, r, "the link could not be swapped: %s", err_text(r));
	}
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		log_notice("swapped", "update=%s component=%s from=%s to=%s generation=%llu", u->id, p.component,
			   p.from[0] ? p.from : "absent", p.to[0] ? p.to : "absent",
			   (unsigned long long) u->target_generation);
	}
	u->swapped_at = n->os->clock_real(n->os);
	u->swapped_boot_ms = now;
	r = apply_all_services(n);
	/* Where nothing had to stop, nothing was away. */
	for (size_t i = 0; i < update_part_count(n); i++)
		settled = settled && services_settled(n->services, update_part(n, i).component, NULL) == 1;
	if (r == 0 && !u->services_stopped && settled)
		n->attempt.stopped_ms = 0;
	return r;
}

/* What waits for an old process that not even SIGKILL ends (one in the kernel's hands) is not the release's fault. */
static int late(struct node *n)
{
	const char *name = "";

	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		if (services_are_leaving(n->services, p.component, &name))
			return update_fail_as(n, RESULT_SERVICE_MANAGER, -ERR_DEADLINE,
					      "the service %s of %s %s does not end", name, p.component, p.from);
	}
	return update_fail_as(n, RESULT_SERVICE_FAILED, -ERR_DEADLINE, "the services did not start in time");
}

static int start_services(struct node *n)
{
	struct attempt *a = &n->attempt;
	struct node_update *u = &n->state->update;
	const char *name = "";
	uint64_t now = node_now_ms(n);
	int r;

	(void) services_step(n->services, now);
	r = 1;
	for (size_t i = 0; r == 1 && i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		r = services_settled(n->services, p.component, &name);
		if (r == 1)
			continue;
		update_blame(n, p.component);
		if (r < 0)
			services_log_tail(n->services, p.component, &a->log_tail);
	}
	if (r == -ERR_UNIT)
		return update_fail_as(n, RESULT_SERVICE_MANAGER, r,
				      "the unit of the service %s could not be started: nobody here starts units",
				      name);
	if (r < 0)
		return update_fail_as(n, catalogue_blame(RESULT_SERVICE_FAILED, r), r,
				      "the service %s did not start", name);
	if (r == 0 && now - a->entered_ms > START_DEADLINE_MS)
		return late(n);
	if (r == 0) {
		a->wake_ms = now + LOOK_MS;
		return PHASE_AGAIN;
	}
	u->pause_ms = a->stopped_ms ? now - a->stopped_ms : 0;
	return PHASE_DONE;
}

static int run_hook(struct node *n, const struct part *p)
{
	struct attempt *a = &n->attempt;
	const struct release_command *hook = &p->release->hooks.after_swap;
	char text[64], *root;
	int r;

	if (!*p->has_release || hook->argv.count == 0 || n->image)
		return PHASE_DONE;
	update_blame(n, p->component);
	if (a->command.process.pid == 0) {
		root = node_current_root(n, p->component);
		r = root ? hook_begin(n, p->release, hook, root) : -ENOMEM;
		free(root);
		if (r < 0)
			return update_fail_as(n, catalogue_blame(RESULT_HOOK_FAILED, r), r,
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

/* One after the other: a hook may count on those before it. */
static int run_hooks(struct node *n)
{
	struct attempt *a = &n->attempt;

	for (; a->part < update_part_count(n); a->part++) {
		const struct part p = update_part(n, a->part);
		int r = run_hook(n, &p);

		if (r != PHASE_DONE)
			return r;
	}
	return PHASE_DONE;
}

enum swap_step { SWAP_CHANGE, SWAP_SERVICES, SWAP_HOOK };

/* Each component is what it became, in the same record that says probation begins. */
static int note_version(struct node *n, const struct part *p)
{
	const struct node_update *u = &n->state->update;
	struct node_component *c = NULL;
	int r = state_component_add(n->state, p->component, &c);

	if (r < 0)
		return update_fail(n, r, "the component could not be noted: %s", err_text(r));
	STATE_SET(c->version, p->to);
	STATE_SET(c->previous, p->from);
	STATE_SET(c->rollout, u->cause == NODE_CAUSE_ROLLOUT ? u->rollout : "");
	STATE_SET(c->stage, u->cause == NODE_CAUSE_ROLLOUT ? u->stage : "");
	c->seq = u->cause == NODE_CAUSE_ROLLOUT ? u->seq : 0;
	STATE_SET(c->release_path, p->release_path);
	STATE_SET(c->release_sha256, p->release_sha256);
	n->report_wanted = true;
	return PHASE_DONE;
}

static int note_versions(struct node *n)
{
	int r = PHASE_DONE;

	for (size_t i = 0; r == PHASE_DONE && i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		r = note_version(n, &p);
	}
	n->state->update.blamed[0] = '\0'; /* what fails from now on is somebody's anew */
	return r;
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
	r = run_hooks(n);
	return r == PHASE_DONE ? note_versions(n) : r;
}

/* Only module kinds reboot; the row is there so that a journal of theirs has a meaning. */
int phase_reboot(struct node *n)
{
	if (str_eq(n->state->boot_id, n->boot_id) && !n->attempt.resumed)
		return PHASE_AGAIN;
	return PHASE_DONE;
}
