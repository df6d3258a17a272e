#include "tests/fleet-sim/year.h"

#include <stdio.h>
#include <string.h>

enum {
	HOUR = 3600,
	DAY = 24 * HOUR,
	START = 1830470400, /* Monday 2028-01-03 00:00 UTC: a leap year */
	MORNING = 8, /* somebody is at the desk from here ... */
	EVENING = 17, /* ... to here, UTC, Monday to Friday */
};

/* The numbers of the profile `weekly` (DESIGN.md section 10): two nodes where little happens, eight, three steps. */
static const char staged_plan[] = "stages:\n"
				  "- {name: canary, nodes: [n00000, n00012], soak: 12h}\n"
				  "- {name: early, labels: {ring: early}, soak: 24h}\n"
				  "- {name: dozens, share: 4%, soak: 18h}\n"
				  "- {name: fifth, share: 20%, soak: 18h}\n"
				  "- {name: all, all: true, soak: 12h}\n"
				  "gates:\n"
				  "  max_failures: 2\n"
				  "  max_node_failures: 20\n"
				  "  silent_after: 12h\n";

/* What an application's owner knows of it: a release does not need a fifth more memory. */
static const char metric_gate[] = "  require:\n"
				  "  - {metric: {check: memory, effect: 20%, over: 12h, alpha: 0.002}, "
				  "on_inconclusive: ask, deadline: 72h}\n";

static const char percentage_plan[] = "stages:\n"
				      "- {name: p1, share: 1%, soak: 24h}\n"
				      "- {name: p10, share: 10%, soak: 24h}\n"
				      "- {name: p50, share: 50%, soak: 24h}\n"
				      "- {name: p100, share: 100%, soak: 24h}\n"
				      "gates: {max_failures: 1000000, max_node_failures: 1000000}\n";

/* One release in six is bad, each fault in its turn, in an order that has nothing to do with the seed. */
static enum sim_fault fault_of_week(unsigned week)
{
	static const enum sim_fault turn[] = { SIM_CRASHING, SIM_LEAKING, SIM_ONE_SITE, SIM_AT_NIGHT };

	return week % 6 == 3 ? turn[week / 6 % ARRAY_LEN(turn)] : SIM_FINE;
}

struct desk {
	struct sim *sim;
	struct year_result *result;
	bool undone[SIM_ROLLOUTS_MAX];
};

/* A person at the desk: skips who has been silent for too long, and takes back what was halted. */
static int work_at_the_desk(struct desk *d)
{
	for (size_t i = 0; i < sim_node_count(d->sim); i++) {
		struct sim_node *n = sim_node(d->sim, i);
		bool silent = sim_now(d->sim) - n->heard.at > 12 * HOUR;

		if (silent == (n->skipped_at != 0))
			continue;
		sim_skip(d->sim, n, silent);
		d->result->skips += silent;
	}
	for (size_t i = 0; i < sim_rollout_count(d->sim); i++) {
		struct sim_rollout *r = sim_rollout(d->sim, i);
		int e;

		if (r->state != ROLLOUT_HALTED || d->undone[i])
			continue;
		d->undone[i] = true;
		d->result->undos++;
		e = sim_undo(d->sim, r);
		if (e < 0)
			return e;
	}
	return 0;
}

static int pass_a_week(struct desk *d, int64_t monday)
{
	int r = 0;

	for (unsigned hour = 0; r == 0 && hour < 7 * 24; hour++) {
		r = sim_run(d->sim, monday + (int64_t) hour * HOUR);
		if (r == 0 && hour / 24 < 5 && hour % 24 >= MORNING && hour % 24 < EVENING)
			r = work_at_the_desk(d);
	}
	return r;
}

static void settle(struct year_result *y, const struct sim_rollout *r, double *done_s, unsigned *done)
{
	struct year_kind *k = &y->kinds[r->release->fault];
	bool halted = r->state == ROLLOUT_HALTED || r->state == ROLLOUT_PAUSED;

	k->releases++;
	k->halted += halted;
	k->held += !halted && !r->stages[r->plan.stage_count - 1].open;
	k->reached += r->release->reached;
	k->hit += r->release->hit;
	k->broken_h += r->release->broken_h;
	if (k->releases == 1 || r->release->reached < k->reached_min)
		k->reached_min = r->release->reached;
	if (r->release->reached > k->reached_max)
		k->reached_max = r->release->reached;
	y->finished += r->state == ROLLOUT_DONE;
	y->overtaken += r->state == ROLLOUT_CANCELLED;
	if (r->release->fault != SIM_FINE)
		return;
	y->false_halts += halted;
	if (r->state == ROLLOUT_DONE) {
		*done_s += (double) (r->state_at - r->started_at);
		(*done)++;
	}
}

static int make_plan(const struct year_options *o, char *out, size_t size)
{
	int n = snprintf(out, size, "%s%s%s%s%s", o->percentage ? percentage_plan : staged_plan,
			 o->percentage || o->no_metrics ? "" : metric_gate, o->window ? "window: " : "",
			 o->window ? o->window : "", o->window ? "\n" : "");

	return n > 0 && (size_t) n < size ? 0 : -1;
}

static int begin_a_week(struct desk *d, unsigned week, const char *plan)
{
	struct sim_release *release;
	size_t count = sim_rollout_count(d->sim);
	int r = 0;

	/* What is not through by now is overtaken by the next one. */
	if (count > 0 && sim_rollout(d->sim, count - 1)->state == ROLLOUT_RUNNING)
		r = sim_set_state(d->sim, sim_rollout(d->sim, count - 1), ROLLOUT_CANCELLED);
	if (r == 0)
		r = sim_release(d->sim, fault_of_week(week), 3 + week % 5, &release);
	return r < 0 ? r : sim_start(d->sim, release, plan, NULL);
}

int year_run(const struct year_options *o, struct year_result *ret)
{
	const struct sim_options options = { .seed = o->seed,
					     .nodes = o->nodes,
					     .start = START,
					     .percentage = o->percentage,
					     .percent_limit = 0.10,
					     .release_noise = 0.0005,
					     .node_noise = 0.003,
					     .network_noise = 0.01,
					     .dead = 0.005 };
	struct desk desk = { .result = ret };
	double done_s = 0;
	unsigned done = 0;
	char plan[2048];
	int r;

	*ret = (struct year_result){ 0 };
	if (make_plan(o, plan, sizeof(plan)) < 0)
		return -1;
	r = sim_open(&options, &desk.sim);
	for (unsigned week = 0; r == 0 && week < o->weeks; week++) {
		int64_t monday = START + (int64_t) week * 7 * DAY;

		r = sim_run(desk.sim, monday + 8 * HOUR);
		if (r == 0)
			r = begin_a_week(&desk, week, plan);
		if (r == 0)
			r = pass_a_week(&desk, monday);
		if (o->progress)
			o->progress(o->user, week + 1, o->weeks);
	}
	for (size_t i = 0; r == 0 && i < sim_rollout_count(desk.sim); i++)
		settle(ret, sim_rollout(desk.sim, i), &done_s, &done);
	if (r == 0) {
		ret->decisions = sim_decisions(desk.sim);
		ret->publications = sim_publications(desk.sim);
		ret->done_h = done ? done_s / done / HOUR : 0;
	}
	sim_close(desk.sim);
	return r;
}
