#include "agent/update.h"

#include "agent/local/service.h"
#include "agent/phase/again.h"
#include "agent/phase/dependants.h"
#include "agent/phase/facts.h"
#include "agent/phase/node.h"
#include "agent/phase/obey.h"
#include "agent/phase/outcome.h"
#include "agent/phase/phase.h"
#include "agent/phase/self.h"
#include "agent/probe/probe.h"
#include "agent/store/generation.h"
#include "agent/store/seal.h"
#include "base/err.h"
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MINUTE = 60 * 1000, HOUR = 60 * MINUTE, STEPS_MAX = 64, MEND_AGAIN_MS = 10 * MINUTE, BOOT_ATTEMPTS = 3 };

#define ROW(state_, ...) [STATE_##state_] = { __VA_ARGS__ }
static const struct state_row rows[] = {
	ROW(IDLE, .run = phase_plan, .success = STATE_PLANNED, .failure = STATE_IDLE, .wake = WAKE_IDLE),
	ROW(PLANNED, .run = phase_check, .success = STATE_STAGING, .failure = STATE_FAILED, .wake = WAKE_PLAN),
	ROW(STAGING, .run = phase_stage, .success = STATE_STAGED, .failure = STATE_FAILED, .announce = true,
	    .wake = WAKE_PLAN),
	ROW(STAGED, .success = STATE_WAITING, .failure = STATE_FAILED, .wake = WAKE_PLAN),
	ROW(WAITING, .run = phase_wait, .success = STATE_STOPPING, .failure = STATE_FAILED, .wake = WAKE_PLAN),
	ROW(STOPPING, .run = phase_stop, .success = STATE_SWAPPING, .failure = STATE_FAILED, .wake = WAKE_AGAIN,
	    .deadline_ms = HOUR),
	ROW(SWAPPING, .run = phase_swap, .success = STATE_PROBATION, .failure = STATE_ROLLING_BACK,
	    .swapped = true, .wake = WAKE_AGAIN, .deadline_ms = 30 * MINUTE),
	ROW(REBOOTING, .run = phase_reboot, .success = STATE_PROBATION, .failure = STATE_ROLLING_BACK,
	    .swapped = true, .wake = WAKE_AGAIN, .deadline_ms = HOUR),
	ROW(PROBATION, .run = phase_health, .success = STATE_GOOD, .failure = STATE_ROLLING_BACK, .swapped = true,
	    .announce = true, .wake = WAKE_LOOK),
	ROW(GOOD, .run = phase_commit, .success = STATE_WATCH, .failure = STATE_GOOD, .swapped = true,
	    .wake = WAKE_AGAIN),
	ROW(WATCH, .run = phase_watch, .success = STATE_IDLE, .failure = STATE_ROLLING_BACK, .swapped = true,
	    .wake = WAKE_AGAIN),
	ROW(FAILED, .run = phase_discard, .success = STATE_IDLE, .failure = STATE_FAILED, .wake = WAKE_AGAIN),
	ROW(ROLLING_BACK, .run = phase_rollback, .success = STATE_ROLLED_BACK, .failure = STATE_STUCK,
	    .swapped = true, .announce = true, .wake = WAKE_AGAIN),
	ROW(ROLLED_BACK, .run = phase_rolled_back, .success = STATE_IDLE, .failure = STATE_ROLLED_BACK,
	    .swapped = true, .wake = WAKE_AGAIN),
	ROW(STUCK, .run = phase_stuck, .success = STATE_ROLLING_BACK, .failure = STATE_STUCK, .swapped = true,
	    .announce = true, .wake = WAKE_AGAIN),
};
_Static_assert(ARRAY_LEN(rows) == STATE_COUNT, "the last state has a row");
_Static_assert((int) NODE_UPDATE_STATE_COUNT == (int) STATE_COUNT, "journal and report know the same states");

const struct state_row *update_row(enum update_state s)
{
	return &rows[s];
}

/* Until here nothing has changed, and the update can be put aside. */
static bool is_before_stopping(enum update_state s)
{
	return s == STATE_PLANNED || s == STATE_STAGING || s == STATE_STAGED || s == STATE_WAITING;
}

/* --- transitions --- */

static void enter_idle(struct node *n)
{
	state_update_clear(n->state);
	attempt_done(&n->attempt);
	if (n->entered)
		n->entered(n, STATE_IDLE);
	/* If it is not saved the end is run again after a restart, which gives the same. */
	(void) !node_save(n);
	n->replan = true;
}

/* What one state started the next does not inherit. */
static void leave(struct node *n)
{
	struct attempt *a = &n->attempt;

	command_done(&a->command);
	data_save_free(a->data);
	a->data = NULL;
	for (size_t i = 0; i < ARRAY_LEN(a->checks); i++)
		part_checks_done(&a->checks[i]);
	command_done(&a->witness);
	a->witness_done = false;
	a->part = 0;
	a->nonce[0] = '\0';
	a->nonce_ms = a->asked_ms = a->trouble_ms = 0;
	a->refresh_asked_ms = 0;
	a->step = 0;
	a->resumed = false;
	a->entered_ms = a->wake_ms = node_now_ms(n);
}

static int enter(struct node *n, enum update_state next)
{
	struct node_update *u = &n->state->update;
	enum node_update_state before = u->state;
	int r;

	node_see_checks(n);
	if (next == STATE_IDLE || (next == STATE_WATCH && u->watch_ms == 0)) {
		enter_idle(n);
		return 0;
	}
	leave(n);
	u->state = (enum node_update_state) next;
	r = node_save(n);
	if (n->entered)
		n->entered(n, next);
	/* What stops services or swaps must be in the journal first; the way back never waits for a full disk. */
	if (r < 0 && (next == STATE_STOPPING || next == STATE_SWAPPING)) {
		u->state = before;
		return update_fail(n, r, "the journal could not be written: %s", err_text(r));
	}
	log_notice("update-state", "update=%s component=%s from=%s to=%s state=%s", u->id, u->component,
		   u->from[0] ? u->from : "absent", u->to[0] ? u->to : "absent", update_state_name(next));
	update_event(n);
	if (rows[next].announce)
		n->report_wanted = true;
	return 0;
}

/* --- waking up --- */

/* A restart of the agent is not a boot. Where recover has counted this boot already, it is counted. */
static void count_boot(struct node *n)
{
	struct node_update *u = &n->state->update;
	uint64_t allowed = u->boot_attempts ? u->boot_attempts : BOOT_ATTEMPTS;

	if (str_eq(n->state->boot_id, n->boot_id))
		return;
	if (!str_eq(u->recover_boot_id, n->boot_id)) {
		u->boots++;
		STATE_SET(u->recover_boot_id, n->boot_id);
	}
	if (u->boots <= allowed)
		return;
	u->state = NODE_ROLLING_BACK;
	u->result = RESULT_INTERRUPTED;
	STATE_SET(u->detail, "the node was started too often during its probation");
}

static void wake_swapped(struct node *n)
{
	struct node_update *u = &n->state->update;
	uint64_t current = 0;

	if (u->recovered) {
		/* Done already, without us; what is left is to say so. */
		u->state = NODE_ROLLING_BACK;
		if (u->result == 0)
			u->result = RESULT_INTERRUPTED;
		return;
	}
	if (generation_current(n->os, n->dirs->root, &current) < 0)
		current = 0;
	/* Whatever ran meanwhile may have written: what is put back must be what there was when it was stopped. */
	if (u->state == NODE_SWAPPING && u->data_saved[0] && !u->data_from[0] && current != u->target_generation) {
		u->state = NODE_STOPPING;
		return;
	}
	if (self_is_updated(n) && u->state != NODE_GOOD && u->state != NODE_WATCH &&
	    u->state != NODE_ROLLING_BACK && u->state != NODE_ROLLED_BACK && u->state != NODE_STUCK &&
	    !self_wake(n, current == u->target_generation)) {
		u->state = NODE_ROLLING_BACK;
		return;
	}
	if (update_row(update_state(n))->wake == WAKE_LOOK && current > 0 && current == u->fallback_generation) {
		/* The way back was begun and could not be noted. */
		u->state = NODE_ROLLING_BACK;
		return;
	}
	if (u->state == NODE_PROBATION || u->state == NODE_REBOOTING)
		count_boot(n);
}

int update_resume(struct node *n)
{
	struct node_update *u = &n->state->update;
	enum update_state found;
	int r;

	if (!update_is_active(n))
		return 0;
	found = update_state(n);
	if (update_row(found)->wake == WAKE_PLAN)
		u->state = NODE_PLANNED;
	else if (update_row(found)->swapped)
		wake_swapped(n);
	r = attempt_load(n);
	/* Before the swap the manifest is read anew; after it the way back needs only the old one. */
	if (r < 0 && update_row(found)->swapped)
		log_warning("manifest-missing", "update=%s reason=%s", u->id, err_text(r));
	leave(n);
	n->attempt.resumed = true;
	n->attempt.started_ms = node_now_ms(n);
	log_notice("update-resumed", "update=%s component=%s found=%s state=%s", u->id, u->component,
		   update_state_name(found), update_state_name(update_state(n)));
	return node_save(n);
}

/* --- orders that do not wait --- */

static bool is_urgent(struct node *n, const char *component)
{
	const struct node_update *u = &n->state->update;
	struct decision d = node_decide(n, component);

	if (d.kind != DECIDE_TARGET)
		return false;
	/* A stuck node takes from a stick whatever it is offered: somebody stands before it to free it. */
	if (d.cause != CAUSE_ORDER_ROLLBACK && d.cause != CAUSE_ORDER_PIN &&
	    !(u->state == NODE_STUCK && n->bundle))
		return false;
	if (str_eq(u->component, component) && str_eq(u->to, d.version) && u->cause == (enum node_cause) d.cause)
		return false; /* it is under way */
	return again_in_ms(n, state_retry(n->state, component, d.version)) == 0;
}

static bool urgent_waits(struct node *n)
{
	struct string_list components = { 0 };
	bool urgent = false;

	if (node_components(n, &components) == 0)
		for (size_t i = 0; !urgent && i < components.count; i++)
			urgent = is_urgent(n, components.items[i]);
	string_list_done(&components);
	return urgent;
}

static void put_aside(struct node *n)
{
	const struct node_update *u = &n->state->update;
	int r;

	log_notice("update-put-aside", "update=%s state=%s", u->id, update_state_name(update_state(n)));
	if (n->attempt.stage.pid)
		process_end(&n->attempt.stage, 0);
	for (size_t i = 0; is_before_stopping(update_state(n)) && i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		r = p.to[0] ? seal_abort(n->os, n->dirs->store, p.component, p.to) : 0;
		if (r < 0)
			log_warning("partial-stays",
				    "it is removed at the next start: component=%s version=%s reason=%s",
				    p.component, p.to, err_text(r));
	}
	enter_idle(n);
}

/* --- the walk --- */

/* --- stuck --- */

/*
 * What it could not go back to is fetched again as soon as there is a road or a stick: a damaged
 * version is signed as ever. True: it is whole again, and the way back can be tried.
 */
static bool mend_fallback(struct node *n)
{
	char words[400] = "";
	bool mended = false;

	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		if (!p.from[0] || seal_is_intact(n->os, n->dirs->store, p.component, p.from) == 0)
			continue;
		if (stage_repair(n, p.component, p.from, words, sizeof(words)) < 0) {
			log_warning("fallback-not-repaired", "component=%s version=%s reason=%s", p.component,
				    p.from, words);
			return false;
		}
		mended = true;
	}
	return mended;
}

/* 1: the way back is tried again now; 0: not yet. A retry from the desk is heard here too: nobody has to log in. */
static int leave_stuck(struct node *n)
{
	uint64_t now = node_now_ms(n);
	bool asked = n->docs.loaded && obey_once(n) > 0;

	if (!asked && now < n->mend_ms)
		return 0;
	if (!n->bundle && !n->link_connected && !asked)
		return 0;
	n->mend_ms = now + MEND_AGAIN_MS;
	return mend_fallback(n) || asked;
}

/* 1: there is more to do at once; 0: wait. */
static int step_once(struct node *n)
{
	enum update_state s = update_state(n);
	const struct state_row *row = update_row(s);
	uint64_t now = node_now_ms(n);
	int r;

	if (s == STATE_IDLE && !n->replan && now < n->plan_ms)
		return 0;
	if ((is_before_stopping(s) || s == STATE_STUCK) && n->replan) {
		n->replan = false;
		if (urgent_waits(n)) {
			put_aside(n);
			return 1;
		}
	}
	/* Without documents nobody knows whether it is still wanted: the first refresh will say. */
	if (is_before_stopping(s) && !n->docs.loaded && n->state->update.cause != NODE_CAUSE_LOCAL) {
		n->attempt.wake_ms = now + 1000;
		return 0;
	}
	r = row->run ? row->run(n) : PHASE_DONE;
	if (s == STATE_STUCK && r == PHASE_AGAIN && leave_stuck(n))
		r = PHASE_DONE;
	if (r == PHASE_AGAIN && s != STATE_IDLE && row->deadline_ms &&
	    now - n->attempt.entered_ms > row->deadline_ms)
		r = update_fail_as(n, RESULT_INTERNAL, -ERR_DEADLINE, "%s took longer than it may",
				   update_state_name(s));
	if (r == PHASE_AGAIN)
		return s != STATE_IDLE && n->attempt.wake_ms <= now;
	if (r == PHASE_DROP) {
		put_aside(n);
		return 1;
	}
	if (r < 0 && row->failure == s) {
		/* An end that could not be noted: it stays the end, and is noted later. */
		n->attempt.wake_ms = now + 5000;
		return 0;
	}
	if (enter(n, r < 0 ? row->failure : row->success) < 0)
		(void) !enter(n, STATE_FAILED); /* that transition is allowed to be noted later */
	return 1;
}

void update_step(struct node *n)
{
	/* A bound, so that whatever decides in circles does not keep us from the console. */
	for (int i = 0; i < STEPS_MAX; i++)
		if (step_once(n) == 0)
			return;
	n->attempt.wake_ms = node_now_ms(n) + 1000;
}

/* --- a regression of what is watched beside others --- */

/* As the current generation but for those who go back, under a number that the journal has counted. */
static int compose_back(struct node *n, uint64_t *ret)
{
	struct generation_entry changes[PARTS_MAX];
	struct generation now;
	uint64_t number = 0;
	int r = generation_current(n->os, n->dirs->root, &number);

	if (r == 0)
		r = generation_read(n->os, n->dirs->generations, number, &now);
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		(void) snprintf(changes[i].component, sizeof(changes[i].component), "%s", p.component);
		(void) snprintf(changes[i].version, sizeof(changes[i].version), "%s", p.from);
	}
	if (r == 0)
		r = generation_compose(&now, changes, update_part_count(n), &now);
	if (r == 0)
		r = generation_create(n->os, n->dirs->generations, n->state->generation, &now);
	if (r == 0)
		*ret = n->state->generation;
	return r;
}

static int begin_regression(struct node *n, struct node_component *c, const char *why)
{
	struct node_update *u = &n->state->update;
	int r;

	/* The number first: a generation that a crash leaves behind is nobody's. */
	n->state->generation++;
	r = node_save(n);
	if (r < 0)
		return r;
	c->attempts++;
	u->attempt = c->attempts;
	STATE_SET(u->source, c->rollout[0] ? c->rollout : "watch");
	STATE_SET(u->component, c->name);
	(void) snprintf(u->id, sizeof(u->id), "%s/%s/%llu", u->source, c->name, (unsigned long long) u->attempt);
	u->cause = NODE_CAUSE_WATCH;
	u->state = NODE_IDLE;
	STATE_SET(u->from, c->previous);
	STATE_SET(u->to, c->version);
	STATE_SET(u->rollout, c->rollout);
	STATE_SET(u->stage, c->stage);
	u->seq = c->seq;
	STATE_SET(u->release_path, c->release_path);
	STATE_SET(u->release_sha256, c->release_sha256);
	u->started_at = n->os->clock_real(n->os);
	u->result = RESULT_REGRESSED;
	STATE_SET(u->detail, why);
	n->attempt.started_ms = node_now_ms(n);
	r = update_add_dependants(n, true);
	if (r == 0)
		r = compose_back(n, &u->fallback_generation);
	return r;
}

void update_regress(struct node *n, const char *component, const char *why)
{
	struct node_component *c = state_component(n->state, component);
	enum update_state s = update_state(n);
	int r;

	if (!c || (s != STATE_IDLE && !is_before_stopping(s) && s != STATE_WATCH))
		return; /* it is told again when the other one has its verdict */
	if (s != STATE_IDLE)
		put_aside(n);
	c->watch_until = 0;
	r = begin_regression(n, c, why);
	if (r < 0) {
		log_error("regression-stays", "it could not be undone: component=%s version=%s reason=%s", c->name,
			  c->version, err_text(r));
		enter_idle(n);
		return;
	}
	r = attempt_load(n);
	if (r < 0)
		log_warning("manifest-missing", "update=%s reason=%s", n->state->update.id, err_text(r));
	log_warning("regressed", "update=%s component=%s version=%s detail=%s", n->state->update.id, c->name,
		    c->version, why);
	(void) !enter(n, STATE_ROLLING_BACK); /* getting back does not wait for a full disk */
}

/* --- the console --- */

static const char *last_good(const struct node_component *c)
{
	for (size_t i = c->good_count; i-- > 0;)
		if (!str_eq(c->good[i], c->version) && !component_denial(c, c->good[i]))
			return c->good[i];
	return NULL;
}

static int refuse(char *out, size_t size, int r, const char *fmt, ...) PRINTF_LIKE(4, 5);
static int refuse(char *out, size_t size, int r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(out, size, fmt, ap); /* a longer sentence is cut */
	va_end(ap);
	return r;
}

static int begin_local(struct node *n, struct node_component *c, const char *to, const char *save,
		       const char *reason)
{
	struct node_update *u = &n->state->update;

	state_update_clear(n->state);
	c->attempts++;
	u->attempt = c->attempts;
	STATE_SET(u->source, "local");
	STATE_SET(u->component, c->name);
	(void) snprintf(u->id, sizeof(u->id), "local/%s/%llu", c->name, (unsigned long long) u->attempt);
	u->cause = NODE_CAUSE_LOCAL;
	STATE_SET(u->from, c->version);
	STATE_SET(u->to, to);
	u->deny_from = true;
	STATE_SET(u->data_from, save);
	u->started_at = n->os->clock_real(n->os);
	(void) snprintf(u->detail, sizeof(u->detail), "at the console: %.480s", reason);
	n->attempt.started_ms = node_now_ms(n);
	if (update_add_dependants(n, false) < 0)
		log_warning("dependants-stay", "what needs %s could not be read", c->name);
	return enter(n, STATE_PLANNED);
}

int update_rollback(struct node *n, const char *component, const char *to, bool data, const char *reason,
		    char *ret_refusal, size_t size)
{
	struct node_update *u = &n->state->update;
	struct node_component *c = state_component(n->state, component);
	enum update_state s = update_state(n);
	uint8_t digest[SHA256_BYTES];
	char save[DATA_NAME_SIZE] = "";

	if (!c || !c->version[0])
		return refuse(ret_refusal, size, -ENOENT, "%s is not installed here", component);
	if (!to)
		to = s == STATE_PROBATION && str_eq(u->component, component) ? u->from : last_good(c);
	if (!to)
		return refuse(ret_refusal, size, -ENOENT, "no other version of %s was good here", component);
	if (str_eq(to, c->version))
		return refuse(ret_refusal, size, -EALREADY, "%s runs %s already", component, to);
	if (s == STATE_PROBATION && str_eq(u->component, component) && str_eq(to, u->from)) {
		u->deny_from = true;
		(void) update_fail_as(n, RESULT_ROLLED_BACK, -ECANCELED, "at the console: %.400s", reason);
		return enter(n, STATE_ROLLING_BACK);
	}
	if (s != STATE_IDLE && s != STATE_WATCH && s != STATE_STUCK && !is_before_stopping(s))
		return refuse(ret_refusal, size, -EBUSY, "%s is %s; try again when it has its verdict",
			      u->component, update_state_name(s));
	if (!component_was_good(c, to))
		return refuse(ret_refusal, size, -ERR_REFUSED, "%s %s was never good here", component, to);
	if (seal_digest(n->os, n->dirs->store, component, to, digest) < 0)
		return refuse(ret_refusal, size, -ENOENT, "%s %s is not kept here any more", component, to);
	if (data && data_find(n->os, n->dirs, component, to, save) < 0)
		return refuse(
			ret_refusal, size, -ENOENT,
			"no copy of the data of %s %s is kept here; without --restore-data it goes back and the "
			"data stays as it is",
			component, to);
	if (s != STATE_IDLE)
		put_aside(n);
	return begin_local(n, c, to, save, reason);
}
