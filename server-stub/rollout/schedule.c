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

static const char *const built_in_names[] = {
#define BUILT_IN_NAME_(id, name) [BUILT_IN_##id] = name,
	SCHEDULE_BUILT_IN(BUILT_IN_NAME_)
#undef BUILT_IN_NAME_
};
_Static_assert(ARRAY_LEN(built_in_names) == BUILT_IN_COUNT, "every one has its name");

const char *schedule_built_in_name(enum schedule_built_in b)
{
	return built_in_names[b];
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

/* What nobody listened to is no silence; but a controller that starts every hour must not hide one for ever. */
int64_t member_silent_at(const struct member_facts *f)
{
	int64_t after = (int64_t) f->silent_after_s, at, caught_up;

	at = (f->reported_at > f->opened_at ? f->reported_at : f->opened_at) + after;
	caught_up = f->listens_since == 0
			    ? at
			    : f->listens_since + (after < SCHEDULE_CATCH_UP_S ? after : SCHEDULE_CATCH_UP_S);
	return at > caught_up ? at : caught_up;
}

struct member_verdict member_judge(const struct member_facts *f)
{
	struct member_verdict v = { MEMBER_WAITING, false, 0 };
	bool under_way = f->under_way_to && str_eq(f->under_way_to, f->target), lost;

	v.silent = f->opened_at > 0 && f->now > member_silent_at(f);
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

/* Where nodes said that the release failed; one that only went silent is no proof of that. */
static uint32_t failed_stages(const struct schedule_input *in)
{
	uint32_t bits = 0;

	_Static_assert(PLAN_STAGES_MAX <= 32, "a bit for every stage");
	for (size_t i = 0; i < in->member_count; i++)
		if (in->members[i].state == MEMBER_FAILED)
			bits |= UINT32_C(1) << in->members[i].stage;
	return bits;
}

static void note(struct schedule_decision *d, enum schedule_built_in b, enum gate_verdict verdict,
		 const char *text)
{
	struct schedule_gate *g = &d->built_in[b];

	g->asked = g->due = true;
	g->answer.verdict = verdict;
	g->answer.step = verdict == GATE_PASS ? GATE_GOES_ON : verdict == GATE_FAIL ? GATE_STOPS : GATE_WAITS;
	snprintf(g->answer.text, sizeof(g->answer.text), "%s", text);
}

/* A kind of failure, and what is borne of it. */
struct bearing {
	bool release;
	uint64_t count, share; /* at most so many in all, such a share of the nodes of each stage */
};

static bool is_failure(const struct bearing *b, enum member_state s)
{
	return b->release ? counts_as_release_failure(s) : s == MEMBER_FAILED_NODE;
}

/* Are there more of them than are borne? `text` says how many there are, or which it was. */
static bool over_the_bearing(const struct schedule_input *in, const struct bearing *b, char *text, size_t size,
			     size_t *ret_stage)
{
	uint64_t own[PLAN_STAGES_MAX] = { 0 }, failed[PLAN_STAGES_MAX] = { 0 }, all = 0;
	const struct schedule_member *one = NULL;
	size_t worst = PLAN_STAGES_MAX;

	for (size_t i = 0; i < in->member_count; i++) {
		const struct schedule_member *m = &in->members[i];

		own[m->stage]++;
		if (!is_failure(b, m->state))
			continue;
		failed[m->stage]++;
		all++;
		one = one ? one : m;
	}
	for (size_t k = 0; k < in->plan->stage_count && b->share > 0 && worst == PLAN_STAGES_MAX; k++)
		if (failed[k] > 0 && failed[k] * SHARE_ALL > b->share * own[k])
			worst = k;
	for (size_t i = 0; i < in->member_count && worst != PLAN_STAGES_MAX; i++)
		if (in->members[i].stage == worst && is_failure(b, in->members[i].state)) {
			one = &in->members[i];
			break;
		}
	if (all > b->count) {
		snprintf(text, size, "%" PRIu64 " of %zu nodes failed, %" PRIu64 " are borne", all,
			 in->member_count, b->count);
	} else if (worst != PLAN_STAGES_MAX) {
		snprintf(text, size,
			 "%" PRIu64 " of %" PRIu64 " nodes of stage '%s' failed, %" PRIu64 ".%02" PRIu64
			 "%% are borne",
			 failed[worst], own[worst], in->plan->stages[worst].name, b->share / 100, b->share % 100);
	} else {
		snprintf(text, size, "%" PRIu64 " of %zu nodes", all, in->member_count);
		return false;
	}
	*ret_stage = one->stage;
	snprintf(text + strlen(text), size - strlen(text), ": %s %s%s%s", one->node, states[one->state].sentence,
		 one->detail ? ": " : "", one->detail ? one->detail : "");
	return true;
}

/* ret->why says why. */
static void stop(struct schedule_decision *ret, enum plan_on_failure how, size_t stage)
{
	ret->action = how == PLAN_PAUSE ? SCHEDULE_PAUSE : SCHEDULE_HALT;
	ret->stage = stage;
}

/*
 * More failures than are borne? Then *ret says so. Those by the release condemn it; those of nodes and their network
 * do not, but a stage in which they heap up does not go on by itself.
 */
static bool over_the_limit(const struct schedule_input *in, struct schedule_decision *ret)
{
	const struct plan *p = in->plan;
	const struct bearing release = { true, p->max_failures, p->max_failure_share },
			     node = { false, p->max_node_failures, p->max_node_failure_share };
	char text[sizeof(ret->why)] = "";
	size_t stage = 0;

	if (over_the_bearing(in, &release, text, sizeof(text), &stage)) {
		note(ret, BUILT_IN_FAILURES, GATE_FAIL, text);
		memcpy(ret->why, text, sizeof(text));
		stop(ret, p->on_failure, stage);
		if (ret->action == SCHEDULE_HALT && p->undo == PLAN_UNDO_FAILED_STAGE)
			ret->undo = failed_stages(in);
		return true;
	}
	note(ret, BUILT_IN_FAILURES, GATE_PASS, text);
	if (!over_the_bearing(in, &node, text, sizeof(text), &stage)) {
		note(ret, BUILT_IN_NODE_FAILURES, GATE_PASS, text);
		return false;
	}
	note(ret, BUILT_IN_NODE_FAILURES, GATE_FAIL, text);
	if (in->waived & 1u << BUILT_IN_NODE_FAILURES) {
		ret->built_in[BUILT_IN_NODE_FAILURES].answer.step = GATE_GOES_ON;
		return false;
	}
	memcpy(ret->why, text, sizeof(text));
	stop(ret, p->on_node_failure, stage);
	return true;
}

static void wait_until(struct schedule_decision *ret, int64_t when)
{
	if (when > 0 && (ret->wake_at == 0 || when < ret->wake_at))
		ret->wake_at = when;
}

/* It does nothing because of silence alone: time or a person may end that. */
static bool is_missing(const struct schedule_member *m)
{
	return m->silent &&
	       (m->state == MEMBER_WAITING || m->state == MEMBER_UNDER_WAY || m->state == MEMBER_BLOCKED);
}

struct silence {
	uint64_t count, borne;
	const struct schedule_member *one; /* silent for the longest */
};

static struct silence count_silence(const struct schedule_input *in, size_t k)
{
	struct silence s = { .borne = in->plan->max_silent };
	uint64_t own = 0, share;

	for (size_t i = 0; i < in->member_count; i++) {
		const struct schedule_member *m = &in->members[i];

		if (m->stage != k)
			continue;
		own++;
		if (!is_missing(m))
			continue;
		s.count++;
		if (!s.one || m->heard_at < s.one->heard_at ||
		    (m->heard_at == s.one->heard_at && strcmp(m->node, s.one->node) < 0))
			s.one = m;
	}
	share = own * in->plan->max_silent_share / SHARE_ALL;
	s.borne = share > s.borne ? share : s.borne;
	return s;
}

/* Are more nodes silent than are left behind? Then *ret says for whom it waits, and until when. */
static bool silence_holds_it(const struct schedule_input *in, size_t k, struct schedule_decision *ret)
{
	struct silence s = count_silence(in, k);
	int64_t end =
		s.one ? s.one->heard_at + (int64_t) (in->plan->silent_after_s + in->plan->silent_deadline_s) : 0;
	char text[GATE_TEXT];

	snprintf(text, sizeof(text), "%" PRIu64 " silent, %" PRIu64 " would be left behind%s%s", s.count, s.borne,
		 s.one ? ": " : "", s.one ? s.one->node : "");
	if (s.count <= s.borne) {
		note(ret, BUILT_IN_SILENT, GATE_PASS, text);
		return false;
	}
	note(ret, BUILT_IN_SILENT, GATE_INCONCLUSIVE, text);
	if (in->waived & 1u << BUILT_IN_SILENT) {
		ret->built_in[BUILT_IN_SILENT].answer.step = GATE_GOES_ON;
		return false;
	}
	if (in->plan->silent_deadline_s == 0)
		return true;
	if (in->now < end) {
		wait_until(ret, end);
		return true;
	}
	ret->built_in[BUILT_IN_SILENT].answer.step = GATE_PAUSES;
	snprintf(ret->why, sizeof(ret->why),
		 "stage '%s' waited long enough for %" PRIu64 " silent node%s: %s was not heard",
		 in->plan->stages[k].name, s.count, s.count == 1 ? "" : "s", s.one->node);
	ret->action = SCHEDULE_PAUSE;
	return true;
}

/*
 * When the soak of a stage ends that was proved at `proved`. Hours that the clock jumped over are none: the soak of the
 * stage that is open last begins again. What came in while nobody listened is heard before it ends. *ret_why: what
 * moved it, for the sentence.
 */
static int64_t soak_end(const struct schedule_input *in, size_t k, int64_t proved, const char **ret_why)
{
	int64_t soak = (int64_t) in->plan->stages[k].soak_s, set = in->clock_set_at, end, caught_up;
	bool last = k + 1 == in->plan->stage_count || !in->stages[k + 1].open;

	*ret_why = "";
	if (set > 0 && soak > 0 && (proved > in->now || (last && proved < set))) {
		*ret_why = ", as the clock of the controller was set";
		proved = set;
	}
	end = proved + soak;
	caught_up = in->listens_since + (soak < SCHEDULE_CATCH_UP_S ? soak : SCHEDULE_CATCH_UP_S);
	if (!last || in->listens_since == 0 || end >= caught_up)
		return end;
	*ret_why = ", as the controller listens again only for a short time";
	return caught_up;
}

/* Has every node of stage `k` proved the release? If not, *ret says what is waited for. */
static bool nodes_have_proved_it(const struct schedule_input *in, size_t k, struct schedule_decision *ret)
{
	const struct plan_stage *stage = &in->plan->stages[k];
	const struct schedule_member *pending = NULL, *young = NULL;
	size_t own = 0, good = 0, waiting = 0;
	bool silence = silence_holds_it(in, k, ret);
	int64_t last_good = in->stages[k].opened_at, end;
	const char *moved;
	char stamp[TIMESTAMP_LEN + 1], text[GATE_TEXT];

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
			   m->state != MEMBER_LOST && m->state != MEMBER_FAILED_NODE &&
			   (silence || !is_missing(m))) {
			/* One that blocks for good is named before one that only takes its time. */
			if (!pending || (pending->state < MEMBER_BLOCKED && m->state >= MEMBER_BLOCKED))
				pending = m;
			waiting++;
		}
	}
	ret->stage = k;
	if (ret->action == SCHEDULE_PAUSE)
		return false; /* by silence */
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
	end = soak_end(in, k, last_good, &moved);
	timestamp_format(stamp, end);
	if (in->now < end) {
		snprintf(ret->why, sizeof(ret->why), "stage '%s' soaks until %s%s", stage->name, stamp, moved);
		note(ret, BUILT_IN_SOAK, GATE_INCONCLUSIVE, ret->why);
		wait_until(ret, end);
		return false;
	}
	snprintf(text, sizeof(text), "it soaked until %s", stamp);
	note(ret, BUILT_IN_SOAK, GATE_PASS, text);
	return true;
}

static bool stage_is_proved(const struct schedule_input *in, size_t k, struct schedule_decision *ret)
{
	bool proved = nodes_have_proved_it(in, k, ret);

	if (ret->built_in[BUILT_IN_SOAK].asked)
		note(ret, BUILT_IN_NODES, GATE_PASS, "every node that counts proved the release");
	else
		note(ret, BUILT_IN_NODES, GATE_INCONCLUSIVE, ret->why);
	return proved;
}

/* --- the plan's gates --- */

/* The stage that is open last, if its gates are asked: those of earlier ones held when the next one opened. */
static bool find_last_open(const struct schedule_input *in, size_t *ret)
{
	size_t k = 0;

	while (k < in->plan->stage_count && in->stages[k].open)
		k++;
	*ret = k > 0 ? k - 1 : 0;
	return k > 0;
}

static bool gate_concerns(const struct gate *g, size_t stage)
{
	return g->stage == GATE_EVERY_STAGE || g->stage == stage;
}

static const struct gate_facts *facts_of(const struct schedule_input *in, size_t gate)
{
	for (size_t i = 0; i < in->gate_count; i++)
		if (in->gates[i].gate == gate)
			return &in->gates[i];
	return NULL;
}

static const struct gate_answer *ask(const struct schedule_input *in, size_t k, size_t gate, bool due,
				     struct schedule_decision *ret)
{
	struct schedule_gate *g = &ret->gates[gate];
	const struct gate_question q = {
		.gate = &in->plan->gates[gate],
		.facts = facts_of(in, gate),
		.duty = &in->duty,
		.members = in->members,
		.member_count = in->member_count,
		.stage = k,
		.opened_at = in->stages[k].opened_at,
		.now = in->now,
		.listens_since = in->listens_since,
		.due = due,
		.patch = in->plan->kind == ROLLOUT_PATCH,
	};

	g->asked = true;
	g->due = due;
	gate_judge(&q, &g->answer);
	wait_until(ret, g->answer.wake_at);
	return &g->answer;
}

static void say_gate(const struct schedule_input *in, size_t k, size_t gate, const struct gate_answer *a,
		     struct schedule_decision *ret)
{
	snprintf(ret->why, sizeof(ret->why), "stage '%s': the gate '%s' %s: %s", in->plan->stages[k].name,
		 in->plan->gates[gate].name,
		 a->verdict == GATE_FAIL   ? "fails"
		 : a->verdict == GATE_PASS ? "passes"
					   : "cannot tell",
		 a->text);
	ret->stage = k;
}

/* Does one fail that is looked at already? Then *ret says so. */
static bool some_gate_fails(const struct schedule_input *in, size_t k, struct schedule_decision *ret)
{
	for (size_t i = 0; i < in->plan->gate_count; i++) {
		const struct gate_answer *a;

		if (!gate_concerns(&in->plan->gates[i], k) || !in->plan->gates[i].from_opening)
			continue;
		a = ask(in, k, i, false, ret);
		if (a->step != GATE_STOPS)
			continue;
		say_gate(in, k, i, a, ret);
		stop(ret, in->plan->on_failure, k);
		return true;
	}
	return false;
}

/* It is proved. Do the gates hold as well? Kind by kind: persons are asked about what has passed everything else. */
static bool gates_hold(const struct schedule_input *in, size_t k, struct schedule_decision *ret)
{
	bool waits = false;

	for (int kind = 0; kind < GATE_KIND_COUNT; kind++)
		for (size_t i = 0; i < in->plan->gate_count; i++) {
			const struct gate *g = &in->plan->gates[i];
			const struct gate_answer *a;
			char why[sizeof(ret->why)];

			if (!gate_concerns(g, k) || g->kind != (enum gate_kind) kind ||
			    (waits && (g->kind == GATE_APPROVALS || g->kind == GATE_PERSON)))
				continue;
			memcpy(why, ret->why, sizeof(why));
			a = ask(in, k, i, true, ret);
			if (a->step == GATE_GOES_ON)
				continue;
			say_gate(in, k, i, a, ret);
			if (a->step == GATE_STOPS) {
				stop(ret, in->plan->on_failure, k);
				return false;
			}
			if (a->step == GATE_PAUSES) {
				stop(ret, PLAN_PAUSE, k);
				return false;
			}
			/* The first one that waits is the reason; a later one may still fail. */
			if (waits)
				memcpy(ret->why, why, sizeof(why));
			waits = true;
		}
	return !waits;
}

/* Is it the night there? If not, *ret says until when. */
static bool stage_may_open(const struct schedule_input *in, size_t k, struct schedule_decision *ret)
{
	const struct plan_stage *stage = &in->plan->stages[k];
	int64_t opens = in->stages[k].opens_at;
	char stamp[TIMESTAMP_LEN + 1];

	if (!stage->zone || (opens >= 0 && opens <= in->now))
		return true;
	ret->stage = k;
	if (opens < 0) {
		snprintf(ret->why, sizeof(ret->why),
			 "stage '%s' opens in the window of %s, and no time for that is known here", stage->name,
			 stage->zone);
		return false;
	}
	timestamp_format(stamp, opens);
	snprintf(ret->why, sizeof(ret->why), "stage '%s' opens in the window of %s, at %s", stage->name,
		 stage->zone, stamp);
	wait_until(ret, opens);
	return false;
}

void schedule(const struct schedule_input *in, struct schedule_decision *ret)
{
	size_t last = 0;

	*ret = (struct schedule_decision){ .action = SCHEDULE_NOTHING };
	if (in->state != ROLLOUT_RUNNING) {
		snprintf(ret->why, sizeof(ret->why), "the rollout is %s", rollout_state_name(in->state));
		return;
	}
	ret->judged = find_last_open(in, &last);
	ret->judged_stage = last;
	if (over_the_limit(in, ret) || (ret->judged && some_gate_fails(in, last, ret))) {
		ret->wake_at = 0;
		return;
	}
	for (size_t k = 0; k < in->plan->stage_count; k++) {
		if (!in->stages[k].open) {
			if (!stage_may_open(in, k, ret))
				return;
			ret->action = SCHEDULE_OPEN;
			ret->stage = k;
			ret->wake_at = 0;
			snprintf(ret->why, sizeof(ret->why),
				 k == 0 ? "the first stage" : "every stage before is proved");
			return;
		}
		ret->built_in[BUILT_IN_SOAK] = (struct schedule_gate){ .asked = false };
		if (!stage_is_proved(in, k, ret) || (k == last && !gates_hold(in, k, ret))) {
			if (ret->action != SCHEDULE_NOTHING)
				ret->wake_at = 0;
			return;
		}
	}
	ret->action = SCHEDULE_DONE;
	ret->stage = in->plan->stage_count ? in->plan->stage_count - 1 : 0;
	ret->wake_at = 0;
	snprintf(ret->why, sizeof(ret->why), "every stage is proved");
}
