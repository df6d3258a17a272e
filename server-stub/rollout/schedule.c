#include "server-stub/rollout/schedule.h"

#include "base/text.h"
#include "base/timestamp.h"
#include "model/catalogue.h"
#include "model/decide.h"
#include "model/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct state_row {
	const char *name, *sentence;
};
static const struct state_row states[] = {
#define MEMBER_ROW_(id, name, sentence) [MEMBER_##id] = { name, sentence },
	MEMBER_STATES(MEMBER_ROW_)
#undef MEMBER_ROW_
};
_Static_assert(ARRAY_LEN(states) == MEMBER_STATE_COUNT, "every state has its row");

const char *member_state_name(enum member_state s)
{
	return states[s].name;
}

const char *member_state_sentence(enum member_state s)
{
	return states[s].sentence;
}

/* Reasons that time and patience do not end. */
static bool reason_blocks(const char *why)
{
	static const enum reason blocking[] = { REASON_DENIED,	      REASON_LOWER, REASON_FLOOR,
						REASON_ORDER_REFUSED, REASON_STUCK, REASON_SUPPORT_ROLLBACK,
						REASON_DEADLINE };

	for (size_t i = 0; why && i < ARRAY_LEN(blocking); i++)
		if (strcmp(why, reason_name(blocking[i])) == 0)
			return true;
	return false;
}

/* Between the moment services are touched and the verdict. */
static bool in_the_middle(const char *state)
{
	int s = state ? update_state_parse(state) : -1;

	return s == STATE_STOPPING || s == STATE_SWAPPING || s == STATE_REBOOTING || s == STATE_PROBATION ||
	       s == STATE_ROLLING_BACK || s == STATE_STUCK;
}

/* What a result says; WAITING where it says nothing lasting. */
static enum member_state result_state(uint64_t number)
{
	const struct catalogue_row *row = number <= INT32_MAX ? catalogue_find((int) number) : NULL;

	if (number == 0 || number == RESULT_SUPERSEDED || number == RESULT_WITHDRAWN ||
	    number == RESULT_ROLLED_BACK)
		return MEMBER_WAITING;
	if (number == RESULT_GOOD)
		return MEMBER_GOOD;
	if (number == RESULT_GOOD_UNPROVEN)
		return MEMBER_UNPROVEN;
	if (number == RESULT_BELOW_FLOOR || (row && row->class == CLASS_RELEASE))
		return MEMBER_FAILED;
	return MEMBER_FAILED_NODE; /* also numbers of a newer agent: not good, and not known to be the release */
}

struct member_verdict member_judge(const struct member_facts *f)
{
	struct member_verdict v = { MEMBER_WAITING, false, 0 };
	int64_t heard = f->reported_at > f->opened_at ? f->reported_at : f->opened_at;
	bool under_way = f->under_way_to && str_eq(f->under_way_to, f->target), lost;

	v.silent = f->opened_at > 0 && f->now - heard > (int64_t) f->silent_after_s;
	if (f->quarantined) {
		v.state = MEMBER_QUARANTINED;
		return v;
	}
	if (f->excused) {
		v.state = MEMBER_EXCUSED;
		return v;
	}
	v.state = result_state(f->result);
	lost = under_way && v.silent && in_the_middle(f->under_way_state);
	/* It excuses what was known by then; a failure by the release that comes after it is news like any other. */
	if (f->skipped_at && !(v.state == MEMBER_FAILED && f->result_at > f->skipped_at) &&
	    !(lost && f->reported_at > f->skipped_at)) {
		v.state = MEMBER_SKIPPED;
		return v;
	}
	if (v.state == MEMBER_GOOD) {
		v.since = f->result_at;
		return v;
	}
	if (v.state == MEMBER_FAILED || v.state == MEMBER_UNPROVEN)
		return v;
	if (under_way) {
		v.state = lost ? MEMBER_LOST : MEMBER_UNDER_WAY;
		return v;
	}
	if (v.state == MEMBER_FAILED_NODE)
		return v;
	/* It runs the version already: an earlier rollout, or a hand, brought it there. */
	if (f->version && str_eq(f->version, f->target)) {
		v.state = MEMBER_GOOD;
		v.since = f->opened_at;
		return v;
	}
	if (reason_blocks(f->why))
		v.state = MEMBER_BLOCKED;
	return v;
}

/* What is worse for a rollout stands. */
static unsigned badness(enum member_state s)
{
	static const enum member_state order[] = { MEMBER_GOOD,	       MEMBER_UNPROVEN,	  MEMBER_WAITING,
						   MEMBER_UNDER_WAY,   MEMBER_BLOCKED,	  MEMBER_EXCUSED,
						   MEMBER_FAILED_NODE, MEMBER_LOST,	  MEMBER_FAILED,
						   MEMBER_SKIPPED,     MEMBER_QUARANTINED };
	unsigned i = 0;

	_Static_assert(ARRAY_LEN(order) == MEMBER_STATE_COUNT, "every state has its place");
	while (order[i] != s)
		i++;
	return i;
}

struct member_verdict member_judge_with(struct member_verdict main, bool told, const struct member_facts *f,
					bool *ret_other)
{
	struct member_verdict v = member_judge(f);
	bool worse = badness(v.state) > badness(main.state);

	/* What became of the update was said once; a component that moved on since does not take that back. */
	if (told && f->result == 0 && (v.state == MEMBER_WAITING || v.state == MEMBER_BLOCKED))
		worse = false;
	if (ret_other)
		*ret_other = worse;
	if (worse)
		main.state = v.state;
	if (main.state == MEMBER_GOOD && v.state == MEMBER_GOOD && v.since > main.since)
		main.since = v.since;
	return main;
}

static bool counts_as_release_failure(enum member_state s)
{
	return s == MEMBER_FAILED || s == MEMBER_LOST;
}

/* More failures than are borne? Then *ret says so. */
static bool over_the_limit(const struct schedule_input *in, struct schedule_decision *ret)
{
	const struct schedule_member *release = NULL, *node = NULL, *m;
	uint64_t release_count = 0, node_count = 0;

	for (size_t i = 0; i < in->member_count; i++) {
		m = &in->members[i];
		if (counts_as_release_failure(m->state)) {
			release = release ? release : m;
			release_count++;
		} else if (m->state == MEMBER_FAILED_NODE) {
			node = node ? node : m;
			node_count++;
		}
	}
	if (release_count > in->plan->max_failures)
		m = release;
	else if (node_count > in->plan->max_node_failures)
		m = node;
	else
		return false;
	ret->action = in->plan->on_failure == PLAN_PAUSE ? SCHEDULE_PAUSE : SCHEDULE_HALT;
	ret->stage = m->stage;
	snprintf(ret->why, sizeof(ret->why), "%" PRIu64 " of %zu nodes failed, %" PRIu64 " are borne: %s %s%s%s",
		 m == release ? release_count : node_count, in->member_count,
		 m == release ? in->plan->max_failures : in->plan->max_node_failures, m->node,
		 states[m->state].sentence, m->detail ? ": " : "", m->detail ? m->detail : "");
	return true;
}

static void wait_until(struct schedule_decision *ret, int64_t when)
{
	if (when > 0 && (ret->wake_at == 0 || when < ret->wake_at))
		ret->wake_at = when;
}

/* Has every node of stage `k` proved the release? If not, *ret says what is waited for. */
static bool stage_is_proved(const struct schedule_input *in, size_t k, struct schedule_decision *ret)
{
	const struct plan_stage *stage = &in->plan->stages[k];
	const struct schedule_member *pending = NULL, *young = NULL;
	size_t own = 0, good = 0, waiting = 0;
	int64_t last_good = in->stages[k].opened_at;
	char stamp[TIMESTAMP_LEN + 1];

	for (size_t i = 0; i < in->member_count; i++) {
		const struct schedule_member *m = &in->members[i];

		if (m->stage != k)
			continue;
		own++;
		if (m->state == MEMBER_GOOD && in->now - m->added_at >= (int64_t) in->plan->min_age_s) {
			good++;
			if (m->since > last_good)
				last_good = m->since;
		} else if (m->state == MEMBER_GOOD) {
			young = young && young->added_at <= m->added_at ? young : m;
			waiting++;
		} else if (m->state != MEMBER_EXCUSED && m->state != MEMBER_SKIPPED && m->state != MEMBER_FAILED &&
			   m->state != MEMBER_LOST && m->state != MEMBER_FAILED_NODE) {
			/* One that blocks for good is named before one that only takes its time. */
			if (!pending || (pending->state < MEMBER_BLOCKED && m->state >= MEMBER_BLOCKED))
				pending = m;
			waiting++;
		}
	}
	ret->stage = k;
	if (in->stages[k].selected == 0) {
		snprintf(ret->why, sizeof(ret->why), "stage '%s' selects no node that is known here", stage->name);
		return false;
	}
	if (pending) {
		snprintf(ret->why, sizeof(ret->why), "stage '%s' waits for %zu of %zu nodes: %s %s%s%s%s",
			 stage->name, waiting, own, pending->node, states[pending->state].sentence,
			 pending->silent ? " and has been silent for longer than allowed" : "",
			 pending->detail ? ": " : "", pending->detail ? pending->detail : "");
		return false;
	}
	if (young) {
		timestamp_format(stamp, young->added_at + (int64_t) in->plan->min_age_s);
		snprintf(ret->why, sizeof(ret->why),
			 "stage '%s' waits for %zu of %zu nodes: %s is too new to count before %s", stage->name,
			 waiting, own, young->node, stamp);
		wait_until(ret, young->added_at + (int64_t) in->plan->min_age_s);
		return false;
	}
	if (own > 0 && good == 0) {
		snprintf(ret->why, sizeof(ret->why),
			 "stage '%s' has no node that proved the release, and no data is no success", stage->name);
		return false;
	}
	if (in->now - last_good < (int64_t) stage->soak_s) {
		timestamp_format(stamp, last_good + (int64_t) stage->soak_s);
		snprintf(ret->why, sizeof(ret->why), "stage '%s' soaks until %s", stage->name, stamp);
		wait_until(ret, last_good + (int64_t) stage->soak_s);
		return false;
	}
	return true;
}

void schedule(const struct schedule_input *in, struct schedule_decision *ret)
{
	*ret = (struct schedule_decision){ .action = SCHEDULE_NOTHING };
	if (in->state != ROLLOUT_RUNNING) {
		snprintf(ret->why, sizeof(ret->why), "the rollout is %s", rollout_state_name(in->state));
		return;
	}
	if (over_the_limit(in, ret))
		return;
	for (size_t k = 0; k < in->plan->stage_count; k++) {
		if (!in->stages[k].open) {
			ret->action = SCHEDULE_OPEN;
			ret->stage = k;
			ret->wake_at = 0;
			snprintf(ret->why, sizeof(ret->why),
				 k == 0 ? "the first stage" : "every stage before is proved");
			return;
		}
		if (!stage_is_proved(in, k, ret))
			return;
	}
	ret->action = SCHEDULE_DONE;
	ret->stage = in->plan->stage_count ? in->plan->stage_count - 1 : 0;
	snprintf(ret->why, sizeof(ret->why), "every stage is proved");
}
