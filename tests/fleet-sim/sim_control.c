#include "tests/fleet-sim/internal.h"

#include "base/buf.h"
#include "base/err.h"
#include "conf/conf.h"
#include "json/json.h"
#include "model/catalogue.h"
#include "server-stub/rollout/documents.h"
#include "server-stub/rollout/rebuild.h"
#include "zone/zone.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	LOOK_AGAIN_S = 300, /* news is looked at together */
	LOOK_EVERY_S = 3600, /* time alone makes nodes silent */
	ANNOUNCED_S = 5,
	PLAN_MAX_BYTES = 64 * 1024,
};

/* --- publication --- */

/* The document as nodes would read it: written, and parsed from its bytes. */
static int make_document(struct sim *s, const struct sim_rollout *r, struct sim_document **ret)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ROLLOUT_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *json = NULL;
	bool open[PLAN_STAGES_MAX];
	int64_t opened_at[PLAN_STAGES_MAX];
	char path[64], error_text[200], *error = NULL;
	struct sim_document *d, **list;
	int e;

	for (size_t i = 0; i < r->plan.stage_count; i++) {
		open[i] = r->stages[i].open;
		opened_at[i] = r->stages[i].opened_at;
	}
	snprintf(path, sizeof(path), "web/%s/release.json", r->release->version);
	e = document_rollout(&(struct document_rollout){ .id = r->id,
							 .seq = r->seq,
							 .state = r->state,
							 .plan = &r->plan,
							 .open = open,
							 .opened_at = opened_at,
							 .release_path = path,
							 .undo = &r->undo },
			     &text);
	if (e == 0)
		e = json_parse(text.data, text.len, &json_limits_default, &json);
	if (e < 0)
		return e;
	list = reallocarray(s->documents, s->document_count + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	s->documents = list;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	e = rollout_parse(json, &d->rollout, &error);
	free(error);
	if (e == 0)
		e = opening_parse(d->rollout.window, d->rollout.blackout, &d->opening, error_text,
				  sizeof(error_text));
	if (e < 0) {
		rollout_done(&d->rollout);
		free(d);
		return e;
	}
	d->of = r;
	s->documents[s->document_count++] = d;
	*ret = d;
	return 0;
}

/* Nobody is known to run any more what the undo takes back. */
static bool undo_settled(const struct sim *s, const struct sim_rollout *r)
{
	for (size_t i = 0; i < s->node_count; i++)
		if (r->members[i].acted && s->nodes[i]->heard.version &&
		    strcmp(s->nodes[i]->heard.version, r->release->version) == 0)
			return false;
	return true;
}

static int publish(struct sim *s)
{
	struct sim_publication *list = reallocarray(s->publications, s->publication_count + 1, sizeof(*list)), *p;
	struct index_candidate all[SIM_ROLLOUTS_MAX];
	int r = 0;

	if (!list)
		return -ENOMEM;
	s->publications = list;
	p = &list[s->publication_count];
	*p = (struct sim_publication){ .policy = s->policies[s->policy_count - 1] };
	p->documents = calloc(s->rollout_count + 1, sizeof(*p->documents));
	if (!p->documents)
		return -ENOMEM;
	s->publication_count++;
	for (size_t i = 0; i < s->rollout_count; i++) {
		const struct sim_rollout *ro = s->rollouts[i];

		all[i] = (struct index_candidate){ .component = "web",
						   .seq = ro->seq,
						   .state = ro->state,
						   .covers_all = plan_covers_all(&ro->plan),
						   .undoes = ro->undo.count > 0,
						   .undo_settled = undo_settled(s, ro),
						   .state_at = ro->state_at };
	}
	for (size_t i = 0; r == 0 && i < s->rollout_count; i++)
		if (index_lists(&all[i], all, s->rollout_count, s->now))
			r = make_document(s, s->rollouts[i], &p->documents[p->count++]);
	s->publish_due = false;
	for (size_t i = 0; r == 0 && i < s->node_count; i++) {
		int64_t at =
			s->now + 1 + (int64_t) (sim_luck(s, "announced", s->nodes[i]->id, NULL) * ANNOUNCED_S);

		if (s->nodes[i]->connected && s->nodes[i]->wakes_at > at)
			r = sim_wake_at(s, i, at);
	}
	return r;
}

/* --- what is known of each node --- */

static size_t stage_of(const struct sim_rollout *r, const struct sim_node *n, const struct sim_member *m)
{
	if (m->acted)
		return m->stage;
	for (size_t k = 0; k < r->plan.stage_count; k++)
		if (plan_stage_selects(&r->plan.stages[k], n->id, &n->labels, m->share))
			return k;
	return PLAN_STAGES_MAX;
}

int sim_members(struct sim *s, const struct sim_rollout *r, struct schedule_member **ret, size_t *ret_count)
{
	struct schedule_member *list = calloc(s->node_count ? s->node_count : 1, sizeof(*list));
	size_t count = 0;

	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < s->node_count; i++) {
		const struct sim_node *n = s->nodes[i];
		struct sim_member *m = &r->members[i];
		size_t stage = stage_of(r, n, m);
		struct member_facts facts;
		struct member_verdict v;

		if (stage == PLAN_STAGES_MAX)
			continue;
		if (!m->acted && r->stages[stage].open &&
		    (m->result || (n->heard.to && strcmp(n->heard.to, r->release->version) == 0))) {
			m->acted = true;
			m->stage = stage;
		}
		facts = (struct member_facts){
			.skipped_at = n->skipped_at,
			.target = r->release->version,
			.version = n->heard.version,
			.under_way_to = n->heard.to,
			.under_way_state = n->heard.state,
			.why = n->heard.why,
			.result = m->result,
			.result_at = m->result_at,
			.reported_at = n->heard.at,
			.opened_at = r->stages[stage].open ? r->stages[stage].opened_at : 0,
			.now = s->now,
			.silent_after_s = r->plan.silent_after_s,
		};
		v = member_judge(&facts);
		list[count++] = (struct schedule_member){ .node = n->id,
							  .stage = stage,
							  .state = v.state,
							  .silent = v.silent,
							  .since = v.since,
							  .added_at = n->added_at };
	}
	*ret = list;
	*ret_count = count;
	return 0;
}

/*
 * A rollout by percentage, as most systems have it: the next group opens by the clock, unless more than a share
 * of the nodes of the groups that are open failed, whatever they failed by.
 */
static void by_percentage(const struct sim *s, const struct schedule_input *in, struct schedule_decision *d)
{
	size_t asked = 0, failures = 0, k = 0;

	*d = (struct schedule_decision){ .action = SCHEDULE_NOTHING };
	for (size_t i = 0; i < in->member_count; i++) {
		asked += in->stages[in->members[i].stage].open;
		failures += in->members[i].state == MEMBER_FAILED || in->members[i].state == MEMBER_FAILED_NODE;
	}
	if ((double) failures > s->options.percent_limit * (double) asked) {
		d->action = SCHEDULE_HALT;
		snprintf(d->why, sizeof(d->why), "%zu of %zu nodes failed", failures, asked);
		return;
	}
	while (k < in->plan->stage_count && in->stages[k].open)
		k++;
	d->stage = k;
	if (k > 0) {
		d->wake_at = in->stages[k - 1].opened_at + (int64_t) in->plan->stages[k - 1].soak_s;
		if (in->now < d->wake_at) {
			snprintf(d->why, sizeof(d->why), "its time has not come");
			return;
		}
	}
	d->action = k == in->plan->stage_count ? SCHEDULE_DONE : SCHEDULE_OPEN;
}

/* How many nodes a stage selects, also those of earlier ones. */
static void count_selected(const struct sim *s, struct sim_rollout *r)
{
	for (size_t k = 0; k < r->plan.stage_count; k++) {
		r->stages[k].selected = 0;
		for (size_t i = 0; i < s->node_count; i++)
			r->stages[k].selected += plan_stage_selects(&r->plan.stages[k], s->nodes[i]->id,
								    &s->nodes[i]->labels, r->members[i].share);
	}
}

/* As serve_control.c does it: the next stage's window, in its zone. */
static void find_opening(const struct sim *s, struct sim_rollout *r)
{
	struct rollout doc = { .id = NULL };
	struct opening opening;
	char error[200];
	size_t k = 0;

	while (k < r->plan.stage_count && r->stages[k].open)
		k++;
	if (k == r->plan.stage_count || !r->plan.stages[k].zone)
		return;
	r->stages[k].opens_at = -1;
	if (limits_document(&r->plan.limits, &doc) == 0 &&
	    opening_parse(doc.window, doc.blackout, &opening, error, sizeof(error)) == 0)
		r->stages[k].opens_at = opening_judge(&opening, sim_zone(s, r->plan.stages[k].zone), s->now).opens;
	rollout_done(&doc);
}

/* 1: something was done, ask again; 0: nothing. */
static int step(struct sim *s, struct sim_rollout *r, int64_t *wake_at)
{
	struct schedule_input in = { .plan = &r->plan, .state = r->state, .stages = r->stages, .now = s->now };
	struct schedule_decision d;
	struct schedule_member *members;
	int e;

	count_selected(s, r);
	find_opening(s, r);
	e = sim_members(s, r, &members, &in.member_count);
	if (e < 0)
		return e;
	in.members = members;
	if (s->options.percentage) {
		by_percentage(s, &in, &d);
	} else {
		e = sim_look_at_metrics(s, r, &s->gates);
		in.gates = s->gates.facts;
		in.gate_count = s->gates.count;
		if (e == 0)
			schedule(&in, &d);
	}
	free(members);
	if (e < 0)
		return e;
	snprintf(r->why, sizeof(r->why), "%.*s", SIM_WHY - 1, d.why);
	if (d.wake_at && (*wake_at == 0 || d.wake_at < *wake_at))
		*wake_at = d.wake_at;
	if (d.action == SCHEDULE_NOTHING)
		return 0;
	if (s->options.on_step)
		s->options.on_step(s->options.user, s, r, d.action, d.stage);
	s->publish_due = true;
	for (size_t k = 0; k < r->plan.stage_count; k++)
		if (d.undo & UINT32_C(1) << k) {
			e = string_list_add(&r->undo, r->plan.stages[k].name);
			if (e < 0)
				return e;
		}
	if (d.action == SCHEDULE_OPEN) {
		r->stages[d.stage].open = true;
		r->stages[d.stage].opened_at = s->now;
		return 1;
	}
	r->state = d.action == SCHEDULE_DONE   ? ROLLOUT_DONE
		   : d.action == SCHEDULE_HALT ? ROLLOUT_HALTED
					       : ROLLOUT_PAUSED;
	r->state_at = s->now;
	return 0;
}

int64_t sim_control_due(const struct sim *s)
{
	int64_t due = s->look_at ? s->look_at : INT64_MAX;

	if (!s->up)
		return INT64_MAX;
	if (s->publish_due)
		return s->now;
	if (s->dirty && s->looked_at + LOOK_AGAIN_S < due)
		due = s->looked_at + LOOK_AGAIN_S;
	return due;
}

int sim_control(struct sim *s)
{
	bool running = false;
	int r = 0;

	s->looked_at = s->now;
	s->look_at = 0;
	s->dirty = false;
	for (size_t i = 0; i < s->rollout_count; i++) {
		for (size_t k = 0; r >= 0 && s->rollouts[i]->state == ROLLOUT_RUNNING && k <= PLAN_STAGES_MAX;
		     k++) {
			r = step(s, s->rollouts[i], &s->look_at);
			if (r <= 0)
				break;
		}
		if (r < 0)
			return r;
		running = running || s->rollouts[i]->state == ROLLOUT_RUNNING;
	}
	if (running && (s->look_at == 0 || s->look_at > s->now + LOOK_EVERY_S))
		s->look_at = s->now + LOOK_EVERY_S;
	if (s->look_at && s->look_at <= s->now)
		s->look_at = s->now + 1;
	return s->publish_due ? publish(s) : 0;
}

/* --- what people do --- */

size_t sim_rollout_count(const struct sim *s)
{
	return s->rollout_count;
}

struct sim_rollout *sim_rollout(struct sim *s, size_t i)
{
	return s->rollouts[i];
}

struct sim_rollout *sim_rollout_named(struct sim *s, const char *id)
{
	for (size_t i = s->rollout_count; i > 0; i--)
		if (strcmp(s->rollouts[i - 1]->id, id) == 0)
			return s->rollouts[i - 1];
	return NULL;
}

/* Stages by count, preference or zone become what they are for this fleet, now, as in serve_plan.c. */
static int resolve(const struct sim *s, struct sim_rollout *ro)
{
	struct plan_candidate *list = calloc(s->node_count + 1, sizeof(*list));
	struct plan_zone zones[SIM_ZONES];
	struct zone_time local;
	size_t stage;
	int r = list ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < s->node_count; i++)
		list[i] = (struct plan_candidate){ .node = s->nodes[i]->id,
						   .labels = &s->nodes[i]->labels,
						   .able = s->nodes[i]->connected,
						   .share = ro->members[i].share };
	if (r == 0)
		r = plan_choose(&ro->plan, list, s->node_count, &stage);
	for (size_t i = 0; r == 0 && i < SIM_ZONES; i++) {
		r = zone_local(s->zones[i], s->now, &local);
		zones[i] = (struct plan_zone){ sim_zone_name(i), local.offset };
	}
	if (r == 0)
		r = plan_split_zones(&ro->plan, list, s->node_count, zones, SIM_ZONES, &stage);
	free(list);
	return r;
}

int sim_start(struct sim *s, struct sim_release *release, const char *plan, struct sim_rollout **ret)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(PLAN_MAX_BYTES);
	struct sim_rollout **list = reallocarray(s->rollouts, s->rollout_count + 1, sizeof(*list)), *ro;
	struct conf_error error;
	int r;

	if (!list)
		return -ENOMEM;
	s->rollouts = list;
	if (s->rollout_count == SIM_ROLLOUTS_MAX)
		return -ERR_TOO_LARGE;
	ro = calloc(1, sizeof(*ro));
	if (!ro)
		return -ENOMEM;
	r = buf_addf(&text, "component: web\nversion: %s\n%s", release->version, plan);
	if (r == 0)
		r = plan_parse(text.data, text.len, "plan", &ro->plan, &error);
	if (r < 0) {
		free(ro);
		return r;
	}
	s->rollouts[s->rollout_count++] = ro;
	ro->seq = ++s->seq;
	snprintf(ro->id, sizeof(ro->id), "r%" PRIu64, ro->seq);
	ro->release = release;
	ro->state = ROLLOUT_RUNNING;
	ro->started_at = ro->state_at = s->now;
	ro->members = calloc(s->node_count ? s->node_count : 1, sizeof(*ro->members));
	if (!ro->members)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < s->node_count; i++)
		r = plan_share(ro->id, s->nodes[i]->id, &ro->members[i].share);
	if (r == 0)
		r = resolve(s, ro);
	s->publish_due = true;
	if (ret)
		*ret = ro;
	return r;
}

int sim_set_state(struct sim *s, struct sim_rollout *r, enum rollout_state state)
{
	r->state = state;
	r->state_at = s->now;
	s->publish_due = true;
	return 0;
}

int sim_undo(struct sim *s, struct sim_rollout *r)
{
	int e = 0;

	for (size_t k = 0; e == 0 && k < r->plan.stage_count; k++)
		if (r->stages[k].open && !string_list_has(&r->undo, r->plan.stages[k].name))
			e = string_list_add(&r->undo, r->plan.stages[k].name);
	r->state_at = s->now;
	s->publish_due = true;
	return e;
}

void sim_skip(struct sim *s, struct sim_node *n, bool skipped)
{
	n->skipped_at = skipped ? s->now : 0;
	s->dirty = true;
}

int sim_policy(struct sim *s, const char *floor, const char *revoked)
{
	struct policy **list = reallocarray(s->policies, s->policy_count + 1, sizeof(*list)), *p;
	int r = 0;

	if (!list)
		return -ENOMEM;
	s->policies = list;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	s->policies[s->policy_count++] = p;
	if (floor) {
		p->security_floor = strdup(floor);
		if (!p->security_floor)
			return -ENOMEM;
	}
	if (revoked)
		r = string_list_add(&p->revoked, revoked);
	s->publish_due = true;
	return r;
}

void sim_controller(struct sim *s, bool up)
{
	bool back = up && !s->up;

	s->up = up;
	if (!back)
		return;
	/* What was decided may not have been published, and what was told was not acknowledged. */
	s->publish_due = true;
	for (size_t i = 0; i < s->node_count; i++)
		sim_node_tell(s, i);
}

/* --- a restored backup --- */

static void forget_backup(struct sim_saved *b)
{
	for (size_t i = 0; i < b->rollout_count; i++)
		free(b->rollouts[i].members);
	free(b->rollouts);
	*b = (struct sim_saved){ 0 };
}

int sim_backup(struct sim *s)
{
	struct sim_saved *b = &s->saved;

	forget_backup(b);
	b->rollouts = calloc(s->rollout_count + 1, sizeof(*b->rollouts));
	if (!b->rollouts)
		return -ENOMEM;
	b->node_count = s->node_count;
	for (size_t i = 0; i < s->rollout_count; i++) {
		const struct sim_rollout *r = s->rollouts[i];
		struct sim_kept *k = &b->rollouts[b->rollout_count++];

		k->state = r->state;
		k->state_at = r->state_at;
		memcpy(k->stages, r->stages, sizeof(k->stages));
		k->members = calloc(s->node_count + 1, sizeof(*k->members));
		if (!k->members)
			return -ENOMEM;
		memcpy(k->members, r->members, s->node_count * sizeof(*k->members));
	}
	return 0;
}

static const struct sim_document *published(const struct sim *s, const struct sim_rollout *r)
{
	const struct sim_publication *p = s->publication_count ? &s->publications[s->publication_count - 1] : NULL;

	for (size_t i = 0; p && i < p->count; i++)
		if (p->documents[i]->of == r)
			return p->documents[i];
	return NULL;
}

/* As serve_restore.c does it. What the backup does not know and nobody published is nothing that was ever heard of. */
static void restore_rollout(struct sim *s, struct sim_rollout *r, const struct sim_kept *kept)
{
	const struct sim_document *d = published(s, r);
	enum rollout_state known = kept ? kept->state : ROLLOUT_RUNNING;

	for (size_t i = 0; i < s->node_count; i++) {
		uint64_t share = r->members[i].share;

		r->members[i] =
			kept && i < s->saved.node_count ? kept->members[i] : (struct sim_member){ .share = share };
	}
	memset(r->stages, 0, sizeof(r->stages));
	if (kept)
		memcpy(r->stages, kept->stages, sizeof(r->stages));
	r->state = kept ? rebuild_state(known, d ? d->rollout.state : known) : ROLLOUT_CANCELLED;
	if (!kept && d)
		r->state = rebuild_state(ROLLOUT_RUNNING, d->rollout.state);
	r->state_at = s->now;
	for (size_t k = 0; d && k < d->rollout.stage_count; k++)
		if (d->rollout.stages[k].open && !r->stages[k].open) {
			r->stages[k].open = true;
			r->stages[k].opened_at = d->rollout.stages[k].opened_at;
		}
}

int sim_restore(struct sim *s)
{
	if (!s->saved.rollouts)
		return 0;
	for (size_t i = 0; i < s->rollout_count; i++)
		restore_rollout(s, s->rollouts[i], i < s->saved.rollout_count ? &s->saved.rollouts[i] : NULL);
	s->seq += 1000;
	s->up = true;
	s->publish_due = true;
	/* Nodes hear of the new metadata and tell how things are; results that were acknowledged are not told again. */
	for (size_t i = 0; i < s->node_count; i++)
		sim_node_tell(s, i);
	return 0;
}

void sim_control_done(struct sim *s)
{
	forget_backup(&s->saved);
	for (size_t i = 0; i < s->rollout_count; i++) {
		plan_done(&s->rollouts[i]->plan);
		string_list_done(&s->rollouts[i]->undo);
		free(s->rollouts[i]->members);
		free(s->rollouts[i]->looks);
		free(s->rollouts[i]);
	}
	for (size_t i = 0; i < s->document_count; i++) {
		rollout_done(&s->documents[i]->rollout);
		free(s->documents[i]);
	}
	for (size_t i = 0; i < s->publication_count; i++)
		free(s->publications[i].documents);
	for (size_t i = 0; i < s->policy_count; i++) {
		policy_done(s->policies[i]);
		free(s->policies[i]);
	}
	free(s->rollouts);
	free(s->documents);
	free(s->publications);
	free(s->policies);
}
