#include "server-stub/rollout/metric.h"

#include "json/build.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HOUR_S = 3600 };

/* In place of a chance, which is never above 1: there was no test. */
#define NO_TEST 2.0

static unsigned looks_of(const struct gate *g)
{
	uint64_t hours = g->u.metric.over_s / HOUR_S;

	return hours < 1 ? 1 : hours < COMPARE_LOOKS ? (unsigned) hours : COMPARE_LOOKS;
}

static int64_t over_of(const struct gate *g)
{
	return (int64_t) g->u.metric.over_s;
}

/* The number of the look that ended there; the last one's for those after it. */
static unsigned number_of(const struct gate *g, int64_t opened_at, int64_t until)
{
	unsigned looks = looks_of(g);
	int64_t n = (until - opened_at) * looks / over_of(g);

	return n < 1 ? 0 : n < looks ? (unsigned) n : looks;
}

/* Ends of looks: equally spaced, and after the last one hour by hour. The last one that is not after `t`; 0: none. */
static int64_t end_before(const struct gate *g, int64_t opened_at, int64_t t)
{
	int64_t looks = looks_of(g), over = over_of(g), since = t - opened_at, k;

	if (since >= over)
		return opened_at + over + (since - over) / HOUR_S * HOUR_S;
	k = since * looks / over;
	/* Rounded up, so that number_of() gives k again. */
	return k < 1 ? 0 : opened_at + (k * over + looks - 1) / looks;
}

static const struct gate_look *newest(const struct gate_look *made, size_t count, int64_t opened_at)
{
	return count > 0 && made[count - 1].since > opened_at ? &made[count - 1] : NULL;
}

static bool is_settled(const struct gate *g, const struct gate_look *last, int64_t opened_at)
{
	return last &&
	       (last->said == GATE_FAIL || (last->said == GATE_PASS && last->since >= opened_at + over_of(g)));
}

bool metric_look_due(const struct gate *g, const struct gate_look *made, size_t count, int64_t opened_at,
		     int64_t now, struct metric_due *ret)
{
	const struct gate_look *last = newest(made, count, opened_at);
	int64_t until = end_before(g, opened_at, now - METRIC_LATE_S);
	unsigned spent = 0;

	if (until == 0 || is_settled(g, last, opened_at) || (last && last->since >= until))
		return false;
	/* Where so many are kept that the oldest may be gone, all is taken as spent. */
	if (count >= GATE_LOOKS_KEPT)
		spent = looks_of(g);
	for (size_t i = 0; i < count && spent < looks_of(g); i++)
		if (made[i].since > opened_at && made[i].high <= 1)
			spent = number_of(g, opened_at, made[i].since);
	*ret = (struct metric_due){ until, compare_level(g->u.metric.alpha, looks_of(g), spent,
							 number_of(g, opened_at, until)) };
	return true;
}

int64_t metric_look_next(const struct gate *g, const struct gate_look *made, size_t count, int64_t opened_at)
{
	const struct gate_look *last = newest(made, count, opened_at);
	int64_t looks = looks_of(g), over = over_of(g), k;

	if (is_settled(g, last, opened_at))
		return 0;
	if (last && last->since >= opened_at + over)
		return last->since + HOUR_S + METRIC_LATE_S;
	k = last ? (int64_t) number_of(g, opened_at, last->since) + 1 : 1;
	return opened_at + (k * over + looks - 1) / looks + METRIC_LATE_S;
}

int metric_see(const struct gate *g, const struct metric_hour *hours, size_t count, bool updated,
	       int64_t started_at, int64_t until, struct compare_node *ret)
{
	struct compare_hour *list = calloc(count + 1, sizeof(*list));
	int64_t first = started_at / HOUR_S, start = first;
	struct compare_span span;
	bool has = false;
	size_t n = 0;

	if (!list)
		return -ENOMEM;
	for (size_t i = 0; updated && i < count; i++)
		if (hours[i].target && hours[i].hour >= start && (!has || hours[i].hour < first)) {
			first = hours[i].hour;
			has = true;
		}
	for (size_t i = 0; i < count; i++) {
		const struct metric_hour *h = &hours[i];

		if (h->target ? !updated || h->hour < first : updated && h->hour >= first)
			continue;
		list[n++] = (struct compare_hour){ h->hour, h->local, h->mean, h->samples };
	}
	span = (struct compare_span){ .past_from = first - METRIC_PAST_DAYS * 24,
				      .past_until = first,
				      .now_from = updated ? first + 1 : first,
				      .now_until = updated && !has ? 0 : until / HOUR_S };
	compare_node(&g->u.metric.rule, list, n, &span, ret);
	free(list);
	return 0;
}

bool metric_picks(size_t index, size_t count)
{
	if (count <= COMPARE_NODES_MAX)
		return true;
	return index * COMPARE_NODES_MAX / count != (index + 1) * COMPARE_NODES_MAX / count;
}

/* Rows, not objects: there are some hundred, and they are kept. */
static void write_nodes(struct json_node *o, const char *name, const struct compare_node *nodes, size_t count)
{
	struct json_node *list = node_array(o, name), *row;

	for (size_t i = 0; i < count; i++) {
		row = node_array(list, NULL);
		node_string(row, NULL, nodes[i].node);
		node_bool(row, NULL, nodes[i].enough);
		node_integer(row, NULL, nodes[i].hours);
		node_stringf(row, NULL, "%.6g", nodes[i].now);
		node_stringf(row, NULL, "%.6g", nodes[i].past);
		node_stringf(row, NULL, "%.6g", nodes[i].difference);
		node_stringf(row, NULL, "%.6g", nodes[i].noise);
	}
}

static int write_data(const struct metric_due *due, const struct compare_node *updated, size_t updated_count,
		      const struct compare_node *others, size_t other_count, const struct compare_judgement *j,
		      struct buf *data)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b), *list;

	node_stringf(o, "level", "%.6g", due->level);
	node_stringf(o, "chance", "%.6g", j->p);
	node_stringf(o, "difference", "%.6g", j->difference);
	list = node_array(o, "columns");
	for (const char *const *c = (const char *const[]){ "node", "enough", "hours", "now", "past", "difference",
							   "noise", NULL };
	     *c; c++)
		node_string(list, NULL, *c);
	write_nodes(o, "updated", updated, updated_count);
	write_nodes(o, "others", others, other_count);
	return json_build_text(b, false, data);
}

int metric_look(const struct gate *g, const struct metric_due *due, const struct compare_node *updated,
		size_t updated_count, const struct compare_node *others, size_t other_count, int64_t now,
		struct gate_look *ret, char text[static GATE_TEXT], struct buf *data)
{
	struct compare_judgement j;
	int r = compare_judge(&g->u.metric.rule, updated, updated_count, others, other_count, due->level, &j);

	if (r == 0)
		r = write_data(due, updated, updated_count, others, other_count, &j, data);
	if (r < 0)
		return r;
	*ret = (struct gate_look){
		.at = now,
		.said = j.verdict == COMPARE_PASS   ? GATE_PASS
			: j.verdict == COMPARE_FAIL ? GATE_FAIL
						    : GATE_INCONCLUSIVE,
		.low = j.difference,
		.high = j.method == COMPARE_TWO_SAMPLES ? j.p : NO_TEST,
		.samples = j.updated,
		.since = due->until,
	};
	snprintf(text, GATE_TEXT, "%.*s", GATE_TEXT - 1, j.why);
	return 0;
}
