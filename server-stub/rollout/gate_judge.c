/* What a gate answers: pure, like schedule(), which asks it. */
#include "base/timestamp.h"
#include "server-stub/rollout/gate.h"
#include "server-stub/rollout/metric.h"
#include "server-stub/rollout/schedule.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { STALE_LOOKS = 3, STALE_LEAST_S = 60 };

static void say(struct gate_answer *a, enum gate_verdict verdict, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void say(struct gate_answer *a, enum gate_verdict verdict, const char *fmt, ...)
{
	va_list ap;

	a->verdict = verdict;
	va_start(ap, fmt);
	(void) vsnprintf(a->text, sizeof(a->text), fmt, ap); /* a long text is cut */
	va_end(ap);
}

static void say_more(struct gate_answer *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void say_more(struct gate_answer *a, const char *fmt, ...)
{
	size_t len = strlen(a->text);
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(a->text + len, sizeof(a->text) - len, fmt, ap); /* the same */
	va_end(ap);
}

static void wake(struct gate_answer *a, int64_t when, int64_t now)
{
	if (when > now && (a->wake_at == 0 || when < a->wake_at))
		a->wake_at = when;
}

static const char *plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

/* --- looks from outside --- */

/* What counts was seen with this stage open; what was seen before says nothing about it. */
static size_t first_look(const struct gate_question *q)
{
	size_t i = 0;

	while (q->facts && i < q->facts->look_count && q->facts->looks[i].at < q->opened_at)
		i++;
	return i;
}

/* The newest look, if there is one that is not too old to tell; else a says so. */
static const struct gate_look *newest_look(const struct gate_question *q, struct gate_answer *a)
{
	int64_t stale = (int64_t) (STALE_LOOKS * q->gate->every_s + STALE_LEAST_S);
	const struct gate_look *last;
	char stamp[TIMESTAMP_LEN + 1];

	if (!q->facts || first_look(q) == q->facts->look_count) {
		say(a, GATE_INCONCLUSIVE, "nothing was seen yet");
		return NULL;
	}
	last = &q->facts->looks[q->facts->look_count - 1];
	if (q->now - last->at > stale) {
		timestamp_format(stamp, last->at);
		say(a, GATE_INCONCLUSIVE, "nothing was seen since %s", stamp);
		return NULL;
	}
	wake(a, last->at + stale + 1, q->now);
	return last;
}

static void judge_prometheus(const struct gate_question *q, struct gate_answer *a)
{
	const struct gate_look *look = newest_look(q, a);
	const struct gate_bound *min = &q->gate->u.prometheus.min, *max = &q->gate->u.prometheus.max;
	char low[32], high[32], bound[32];

	if (!look)
		return;
	if (look->samples < q->gate->u.prometheus.samples || !isfinite(look->low) || !isfinite(look->high)) {
		say(a, GATE_INCONCLUSIVE, "%s; %" PRIu64 " sample%s of %" PRIu64 " that are asked for",
		    look->text ? look->text : "", look->samples, plural(look->samples),
		    q->gate->u.prometheus.samples);
		return;
	}
	gate_number(low, look->low);
	gate_number(high, look->high);
	if (max->set && look->high > max->value) {
		gate_number(bound, max->value);
		say(a, GATE_FAIL, "%s is above %s (%s)", high, bound, look->text ? look->text : "");
	} else if (min->set && look->low < min->value) {
		gate_number(bound, min->value);
		say(a, GATE_FAIL, "%s is below %s (%s)", low, bound, look->text ? look->text : "");
	} else {
		say(a, GATE_PASS, "%s%s%s is within bounds (%s)", low, strcmp(low, high) == 0 ? "" : " to ",
		    strcmp(low, high) == 0 ? "" : high, look->text ? look->text : "");
	}
}

/* Looks alone decide: metric.h made them, each from what was reported until then. */
static void judge_metric(const struct gate_question *q, struct gate_answer *a)
{
	size_t first = first_look(q), count = q->facts ? q->facts->look_count - first : 0;
	const struct gate_look *looks = count > 0 ? q->facts->looks + first : NULL, *last;
	int64_t next = metric_look_next(q->gate, looks, count, q->opened_at);
	char stamp[TIMESTAMP_LEN + 1] = "";

	if (next > 0) {
		timestamp_format(stamp, next);
		/* One that is due already is made with the next question. */
		wake(a, next > q->now ? next : q->now + 60, q->now);
	}
	if (count == 0) {
		say(a, GATE_INCONCLUSIVE, "the first look is at %s", stamp);
		return;
	}
	last = &looks[count - 1];
	for (size_t i = 0; i < count; i++)
		if (looks[i].said == GATE_FAIL)
			last = &looks[i];
	/* A look before the last one may condemn; it cannot acquit. */
	say(a, last->said == GATE_PASS && next > 0 ? GATE_INCONCLUSIVE : last->said, "%s",
	    last->text ? last->text : "");
	if (a->verdict == GATE_INCONCLUSIVE && next > 0)
		say_more(a, "; the next look is at %s", stamp);
}

static void judge_http(const struct gate_question *q, struct gate_answer *a)
{
	const struct gate_look *look = newest_look(q, a);
	uint64_t need = q->gate->u.http.successes, of = q->gate->u.http.of, good = 0, seen = 0, row = 0;
	enum gate_verdict newest;

	if (!look)
		return;
	newest = look->said;
	for (size_t i = q->facts->look_count; i > first_look(q) && (of == 0 || seen < of); i--, seen++) {
		if (of == 0 && q->facts->looks[i - 1].said != newest)
			break;
		row++;
		good += q->facts->looks[i - 1].said == GATE_PASS;
	}
	if (of > 0) {
		uint64_t bad = 0;

		for (size_t i = q->facts->look_count - (size_t) seen; i < q->facts->look_count; i++)
			bad += q->facts->looks[i].said == GATE_FAIL;
		say(a,
		    good >= need      ? GATE_PASS
		    : bad > of - need ? GATE_FAIL
				      : GATE_INCONCLUSIVE,
		    "%" PRIu64 " of the last %" PRIu64 " looks were good, %" PRIu64 " of %" PRIu64
		    " are asked for; %s",
		    good, seen, need, of, look->text ? look->text : "");
		return;
	}
	if (newest == GATE_PASS)
		say(a, good >= need ? GATE_PASS : GATE_INCONCLUSIVE,
		    "good %" PRIu64 " time%s in a row, %" PRIu64 " asked for; %s", good, plural(good), need,
		    look->text ? look->text : "");
	else if (newest == GATE_FAIL)
		say(a, row >= q->gate->u.http.failures ? GATE_FAIL : GATE_INCONCLUSIVE,
		    "bad %" PRIu64 " time%s in a row, %" PRIu64 " would stop it; %s", row, plural(row),
		    q->gate->u.http.failures, look->text ? look->text : "");
	else
		say(a, GATE_INCONCLUSIVE, "%s", look->text ? look->text : "it could not be looked at");
}

static void judge_command(const struct gate_question *q, struct gate_answer *a)
{
	const struct gate_look *look = newest_look(q, a);

	if (look)
		say(a, look->said, "%s", look->text ? look->text : "");
}

static void judge_alerts(const struct gate_question *q, struct gate_answer *a)
{
	const struct gate_look *look = newest_look(q, a);
	int64_t quiet_since, need = (int64_t) q->gate->u.alerts.for_s;
	char stamp[TIMESTAMP_LEN + 1];

	if (!look)
		return;
	if (look->said == GATE_INCONCLUSIVE) {
		say(a, GATE_INCONCLUSIVE, "%s", look->text ? look->text : "the alerts are not known");
		return;
	}
	/* high: alerts that began since the opening; low: that were there before. */
	if (look->high > 0) {
		say(a, GATE_FAIL, "%s", look->text ? look->text : "alerts are firing");
		return;
	}
	if (look->low > 0) {
		say(a, GATE_INCONCLUSIVE, "%s: from before the stage opened, but not quiet",
		    look->text ? look->text : "alerts are firing");
		return;
	}
	quiet_since = look->since > q->opened_at ? look->since : q->opened_at;
	timestamp_format(stamp, quiet_since);
	if (look->at - quiet_since >= need)
		say(a, GATE_PASS, "no alert from %s on", stamp);
	else
		say(a, GATE_INCONCLUSIVE, "no alert from %s on, and %" PRId64 "s of it are asked for", stamp,
		    need);
}

/* --- inside --- */

struct health_count {
	uint64_t nodes, silent, failing, soon, degraded, restarting;
	const struct schedule_member *one_silent, *one_failing, *one_degraded, *one_restarting;
	int64_t next; /* when one that begins to fail counts */
};

/* Of one with the same name first: the list's order decides nothing. */
static void name(const struct schedule_member **one, const struct schedule_member *m)
{
	if (!*one || strcmp(m->node, (*one)->node) < 0)
		*one = m;
}

static struct health_count count_health(const struct gate_question *q)
{
	struct health_count c = { 0 };

	for (size_t i = 0; i < q->member_count; i++) {
		const struct schedule_member *m = &q->members[i];

		if (m->stage != q->stage || m->state != MEMBER_GOOD)
			continue;
		c.nodes++;
		if (m->silent) {
			c.silent++;
			name(&c.one_silent, m);
		}
		if (m->failing) {
			int64_t counts = m->failing_at + (int64_t) q->gate->u.health.grace_s;

			c.failing += counts <= q->now;
			c.soon += counts > q->now;
			if (counts > q->now && (c.next == 0 || counts < c.next))
				c.next = counts;
			name(&c.one_failing, m);
		}
		if (m->degraded) {
			c.degraded++;
			name(&c.one_degraded, m);
		}
		if (m->restarts > q->gate->u.health.restarts) {
			c.restarting++;
			name(&c.one_restarting, m);
		}
	}
	return c;
}

static void judge_health(const struct gate_question *q, struct gate_answer *a)
{
	struct health_count c = count_health(q);

	if (c.failing > q->gate->u.health.max_failing) {
		say(a, GATE_FAIL,
		    "%" PRIu64 " of %" PRIu64 " nodes fail a check, %" PRIu64 " are borne: %s fails %s", c.failing,
		    c.nodes, q->gate->u.health.max_failing, c.one_failing->node, c.one_failing->failing);
	} else if (c.restarting > q->gate->u.health.max_restarting) {
		say(a, GATE_FAIL,
		    "%" PRIu64 " of %" PRIu64 " nodes restart again and again, %" PRIu64
		    " are borne: %s did %" PRIu64 " times since its stage opened",
		    c.restarting, c.nodes, q->gate->u.health.max_restarting, c.one_restarting->node,
		    c.one_restarting->restarts);
	} else if (c.degraded > q->gate->u.health.max_degraded) {
		say(a, GATE_FAIL,
		    "%" PRIu64 " of %" PRIu64 " nodes are degraded, %" PRIu64
		    " are borne: %s has the check %s not passing",
		    c.degraded, c.nodes, q->gate->u.health.max_degraded, c.one_degraded->node,
		    c.one_degraded->degraded);
	} else if (c.failing + c.soon > q->gate->u.health.max_failing) {
		say(a, GATE_INCONCLUSIVE, "%s begins to fail %s", c.one_failing->node, c.one_failing->failing);
		wake(a, c.next, q->now);
	} else if (c.nodes == 0) {
		say(a, GATE_INCONCLUSIVE, "no node of the stage runs it proved");
	} else if (c.silent > 0) {
		say(a, GATE_INCONCLUSIVE, "%" PRIu64 " of %" PRIu64 " nodes are silent, as %s", c.silent, c.nodes,
		    c.one_silent->node);
	} else {
		say(a, GATE_PASS,
		    "%" PRIu64 " node%s, %" PRIu64 " with a failing check, %" PRIu64 " degraded, %" PRIu64
		    " restarting",
		    c.nodes, plural(c.nodes), c.failing, c.degraded, c.restarting);
	}
}

static bool on_duty(const struct gate_question *q)
{
	return q->patch || !q->duty->known || (q->duty->from <= q->now && q->now < q->duty->until);
}

static void say_next_duty(const struct gate_question *q, struct gate_answer *a, const char *what)
{
	char stamp[TIMESTAMP_LEN + 1];

	/* Behind the end of what is known there is nothing to say of it: the next look knows more. */
	if (q->duty->from <= q->now) {
		say_more(a, "nobody is on duty in the hours that the calendar has");
		return;
	}
	timestamp_format(stamp, q->duty->from);
	say_more(a, "%s from %s on, in staffed hours", what, stamp);
	wake(a, q->duty->from, q->now);
}

static void judge_staffed(const struct gate_question *q, struct gate_answer *a)
{
	if (on_duty(q)) {
		say(a, GATE_PASS, "%s",
		    q->patch	     ? "a patch does not wait for staffed hours"
		    : q->duty->known ? "somebody is on duty"
				     : "there is no calendar: it is always staffed");
		if (q->duty->known && !q->patch)
			wake(a, q->duty->until, q->now);
		return;
	}
	say(a, GATE_INCONCLUSIVE, "%s", "");
	say_next_duty(q, a, "it goes on");
}

static void judge_approvals(const struct gate_question *q, struct gate_answer *a)
{
	const struct gate_look *last =
		q->facts && q->facts->look_count ? &q->facts->looks[q->facts->look_count - 1] : NULL;

	say(a, last ? last->said : GATE_INCONCLUSIVE, "%s",
	    last && last->text ? last->text : "what the policies ask for is not known");
	/* A signature that is not there is no verdict on the release. */
	if (a->verdict == GATE_FAIL)
		a->verdict = GATE_INCONCLUSIVE;
}

static void judge_person(const struct gate_question *q, struct gate_answer *a)
{
	say(a, GATE_INCONCLUSIVE, "%s", q->gate->u.person.question);
}

static void (*const judges[])(const struct gate_question *q, struct gate_answer *a) = {
	[GATE_HEALTH] = judge_health,	[GATE_METRIC] = judge_metric,	    [GATE_PROMETHEUS] = judge_prometheus,
	[GATE_HTTP] = judge_http,	[GATE_COMMAND] = judge_command,	    [GATE_ALERTS] = judge_alerts,
	[GATE_STAFFED] = judge_staffed, [GATE_APPROVALS] = judge_approvals, [GATE_PERSON] = judge_person,
};
_Static_assert(ARRAY_LEN(judges) == GATE_KIND_COUNT, "every kind has its judge");

/* --- what it means --- */

/* true: a person has spoken, and that is the answer. */
static bool take_word(const struct gate_question *q, struct gate_answer *a)
{
	enum gate_word word = q->facts ? q->facts->word : GATE_NO_WORD;
	const char *by = q->facts && q->facts->word_by ? q->facts->word_by : "somebody";
	const char *why = q->facts && q->facts->word_reason ? q->facts->word_reason : "";

	if (word == GATE_SAYS_FAIL) {
		say(a, GATE_FAIL, "%s says no: %s", by, why);
		a->step = GATE_STOPS;
		return true;
	}
	if (word == GATE_SAYS_WAIVE) {
		say_more(a, "; waived by %s: %s", by, why);
		a->step = GATE_GOES_ON;
		return true;
	}
	/* "Pass" answers what is inconclusive; it does not overrule what failed. */
	if (word == GATE_SAYS_PASS && a->verdict == GATE_INCONCLUSIVE) {
		if (q->gate->kind == GATE_PERSON)
			say(a, GATE_PASS, "%s says yes: %s", by, why);
		else
			say_more(a, "; %s says to go on: %s", by, why);
		a->step = GATE_GOES_ON;
		return true;
	}
	return false;
}

/* Inconclusive, and it must hold now. */
static void apply_policy(const struct gate_question *q, struct gate_answer *a)
{
	const struct gate *g = q->gate;
	int64_t since = q->facts && q->facts->due_at ? q->facts->due_at : q->now;
	int64_t asked = q->facts ? q->facts->asked_at : 0;

	a->step = GATE_WAITS;
	if (g->on_inconclusive == GATE_ASK) {
		if (asked == 0 && !on_duty(q)) {
			say_more(a, "; ");
			say_next_duty(q, a, "a person is asked");
			return;
		}
		a->asks = asked == 0;
		say_more(a, "; a person is asked");
		/* Who could not be asked is not late with the answer. */
		since = asked ? asked : q->now;
	}
	if (!g->has_deadline)
		return;
	/* Nobody looked, and nobody could answer, while the controller was away. */
	since = since > q->listens_since ? since : q->listens_since;
	if (q->now - since < (int64_t) g->deadline_s) {
		wake(a, since + (int64_t) g->deadline_s, q->now);
		return;
	}
	if (g->on_inconclusive == GATE_TAKE) {
		say_more(a, "; it goes on without, as its deadline has passed");
		a->step = GATE_GOES_ON;
	} else {
		say_more(a, "; its deadline has passed");
		a->step = GATE_PAUSES;
		a->asks = false;
	}
}

void gate_judge(const struct gate_question *q, struct gate_answer *ret)
{
	*ret = (struct gate_answer){ .verdict = GATE_INCONCLUSIVE, .step = GATE_WAITS };
	judges[q->gate->kind](q, ret);
	if (take_word(q, ret))
		return;
	if (ret->verdict == GATE_FAIL)
		ret->step = GATE_STOPS;
	else if (ret->verdict == GATE_PASS)
		ret->step = GATE_GOES_ON;
	else if (q->due)
		apply_policy(q, ret);
}
