#include "server-stub/rollout/outside.h"

#include "base/err.h"
#include "base/timestamp.h"
#include "json/build.h"
#include "json/json.h"
#include "model/report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUES_MAX = 400000, DEPTH_MAX = 16, ERROR_SHOWN = 160, NAME_SHOWN = 100 };
enum { GAP_STEPS = 3 }; /* samples of one series that are farther apart have a hole between them */

static const struct json_limits limits = { OUTSIDE_ANSWER_MAX, DEPTH_MAX, VALUES_MAX };

/* --- questions --- */

static int add_encoded(struct buf *out, const char *text)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
	int r = 0;

	for (; r == 0 && *text; text++)
		r = strchr(plain, *text) ? buf_add_byte(out, (uint8_t) *text)
					 : buf_addf(out, "%%%02X", (unsigned char) *text);
	return r;
}

int outside_range_path(const char *query, int64_t start, int64_t end, uint64_t step_s, struct buf *out)
{
	int r = buf_add_str(out, "api/v1/query_range?query=");

	if (r == 0)
		r = add_encoded(out, query);
	return r < 0 ? r : buf_addf(out, "&start=%" PRId64 "&end=%" PRId64 "&step=%" PRIu64, start, end, step_s);
}

/* name="value", with the escapes of PromQL and of Alertmanager's matchers. */
static int add_matcher(struct buf *out, const char *name, const char *value)
{
	int r = buf_addf(out, "%s=\"", name);

	for (; r == 0 && *value; value++) {
		if (*value == '"' || *value == '\\')
			r = buf_add_byte(out, '\\');
		if (r == 0)
			r = buf_add_byte(out, (uint8_t) *value);
	}
	return r < 0 ? r : buf_add_byte(out, '"');
}

int outside_alerts_query(const struct labels *labels, struct buf *out)
{
	int r = buf_add_str(out, "ALERTS{alertstate=\"firing\"");

	for (size_t i = 0; r == 0 && i < labels->count; i++) {
		r = buf_add_byte(out, ',');
		if (r == 0)
			r = add_matcher(out, labels->items[i].name, labels->items[i].value);
	}
	return r < 0 ? r : buf_add_byte(out, '}');
}

int outside_alertmanager_path(const struct labels *labels, struct buf *out)
{
	int r = buf_add_str(out, "api/v2/alerts?active=true&silenced=false&inhibited=false");

	for (size_t i = 0; r == 0 && i < labels->count; i++) {
		CLEANUP(buf_done)
		struct buf matcher = BUF_INIT(4096);

		r = add_matcher(&matcher, labels->items[i].name, labels->items[i].value);
		if (r == 0)
			r = buf_add_str(out, "&filter=");
		if (r == 0)
			r = add_encoded(out, buf_str(&matcher));
	}
	return r;
}

/* --- answers --- */

/* What a stranger wrote, for people to read: printable, and not too long. */
static void show(char *out, size_t size, const char *text)
{
	CLEANUP(buf_done)
	struct buf clean = BUF_INIT(1024);
	size_t len = text ? strlen(text) : 0;

	if (printable_tail(text ? text : "", len > size - 1 ? size - 1 : len, size - 1, &clean) < 0)
		buf_clear(&clean);
	snprintf(out, size, "%s", buf_str(&clean));
	for (char *p = out; *p; p++)
		if (*p == '\n' || *p == '\t')
			*p = ' ';
}

static int inconclusive(struct gate_look *ret, char text[static GATE_TEXT], int r, const char *what)
{
	*ret = (struct gate_look){ .said = GATE_INCONCLUSIVE, .text = text };
	snprintf(text, GATE_TEXT, "%s", what);
	return r;
}

/* {"status":"success","data":{"resultType":"matrix","result":[...]}}; *ret_series is the list. */
static int read_matrix(const void *answer, size_t len, struct json **ret_doc, const struct json **ret_series,
		       char *complaint, size_t size)
{
	const struct json *data;
	int r = json_parse_foreign(answer, len, &limits, ret_doc);

	if (r < 0) {
		snprintf(complaint, size, "the answer cannot be read: %s", err_text(r));
		return r;
	}
	if (!str_eq(json_string(json_get(*ret_doc, "status")), "success")) {
		char words[ERROR_SHOWN];

		show(words, sizeof(words), json_string(json_get(*ret_doc, "error")));
		snprintf(complaint, size, "the server refused the query%s%s", words[0] ? ": " : "", words);
		return -ERR_FIELD_VALUE;
	}
	data = json_get(*ret_doc, "data");
	*ret_series = json_get(data, "result");
	if (!str_eq(json_string(json_get(data, "resultType")), "matrix") || !json_is(*ret_series, JSON_ARRAY)) {
		snprintf(complaint, size, "the answer is no range of values");
		return -ERR_FIELD_TYPE;
	}
	return 0;
}

/* [seconds, "value"]: false if it is none that can be counted. Seconds may have a fraction, which is cut. */
static bool read_sample(const struct json *pair, int64_t *ret_at, double *ret)
{
	const char *at = json_string(json_at(pair, 0)), *value = json_string(json_at(pair, 1));
	double seconds = 0;

	if (!json_integer(json_at(pair, 0), ret_at)) {
		if (!gate_parse_number(at, &seconds) || seconds < 0 || seconds > 253402300799.0)
			return false;
		*ret_at = (int64_t) seconds;
	}
	return gate_parse_number(value, ret); /* not "NaN", "+Inf" */
}

struct series {
	uint64_t samples, skipped;
	double sum, last, highest, lowest;
};

static struct series read_series(const struct json *values)
{
	struct series s = { 0 };

	for (size_t i = 0; i < json_count(values); i++) {
		int64_t at;
		double v = 0;

		if (!read_sample(json_at(values, i), &at, &v)) {
			s.skipped++;
			continue;
		}
		s.highest = s.samples == 0 || v > s.highest ? v : s.highest;
		s.lowest = s.samples == 0 || v < s.lowest ? v : s.lowest;
		s.sum += v;
		s.last = v;
		s.samples++;
	}
	return s;
}

static double taken(const struct series *s, enum gate_take take)
{
	switch (take) {
	case GATE_LAST:
		return s->last;
	case GATE_HIGHEST:
		return s->highest;
	case GATE_LOWEST:
		return s->lowest;
	case GATE_AVERAGE:
		break;
	}
	return s->sum / (double) s->samples;
}

/* {a="1",b="2"} as far as there is room. */
static void show_labels(const struct json *metric, char *out, size_t size)
{
	size_t len = 0;

	out[0] = '\0';
	for (size_t i = 0; i < json_count(metric) && len + 4 < size; i++) {
		char value[NAME_SHOWN];

		show(value, sizeof(value), json_string(json_at(metric, i)));
		len += (size_t) snprintf(out + len, size - len, "%s%s=%s", i ? "," : "", json_name_at(metric, i),
					 value);
		if (len >= size)
			return;
	}
}

static void write_series(struct json_node *list, const struct json *metric, const struct series *s, double value)
{
	char labels[NAME_SHOWN * 2], number[32];
	struct json_node *o = node_object(list, NULL);

	show_labels(metric, labels, sizeof(labels));
	/* Cut between the bytes of a character, it would be no JSON. */
	for (char *p = labels; *p; p++)
		*p = (unsigned char) *p >= 0x7f ? '?' : *p;
	node_string(o, "labels", labels);
	node_integer(o, "samples", (int64_t) s->samples);
	node_integer(o, "no_numbers", (int64_t) s->skipped);
	gate_number(number, value);
	node_string(o, "value", number);
	gate_number(number, s->lowest);
	node_string(o, "min", number);
	gate_number(number, s->highest);
	node_string(o, "max", number);
	gate_number(number, s->last);
	node_string(o, "last", number);
}

int outside_read_range(const void *answer, size_t len, enum gate_take take, struct gate_look *ret,
		       char text[static GATE_TEXT], struct buf *data)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *list = node_array(json_build_root(b), "series");
	const struct json *all = NULL;
	struct gate_look look = { .said = GATE_INCONCLUSIVE, .text = text, .samples = UINT64_MAX };
	char complaint[GATE_TEXT];
	int r = read_matrix(answer, len, &doc, &all, complaint, sizeof(complaint));

	if (r < 0)
		return inconclusive(ret, text, r, complaint);
	for (size_t i = 0; i < json_count(all); i++) {
		const struct json *one = json_at(all, i);
		struct series s = read_series(json_get(one, "values"));
		double v = s.samples ? taken(&s, take) : 0;

		/* A sum may leave what a double can hold although its values did not. */
		if (!isfinite(v))
			s.samples = 0, v = 0;
		look.samples = s.samples < look.samples ? s.samples : look.samples;
		look.low = i == 0 || v < look.low ? v : look.low;
		look.high = i == 0 || v > look.high ? v : look.high;
		if (i < OUTSIDE_SERIES_SHOWN)
			write_series(list, json_get(one, "metric"), &s, v);
	}
	if (json_count(all) == 0)
		look.samples = 0;
	node_integer(json_build_root(b), "series_count", (int64_t) json_count(all));
	snprintf(text, GATE_TEXT, "%zu series, %" PRIu64 " samples at least", json_count(all), look.samples);
	*ret = look;
	return json_build_text(b, false, data);
}

/* Since when, up to the end, is there no hole longer than a few steps? 0: not at the end. */
static int64_t watched_since(const struct json *series, int64_t end, uint64_t step_s)
{
	const struct json *values = json_get(json_at(series, 0), "values");
	int64_t since = 0, before = 0, gap = (int64_t) (GAP_STEPS * step_s);

	for (size_t i = 0; i < json_count(values); i++) {
		int64_t at = 0;
		double v = 0;

		if (!read_sample(json_at(values, i), &at, &v))
			continue;
		if (at < before)
			return 0; /* samples are in order, or it is no such answer */
		if (since == 0 || at - before > gap)
			since = at;
		before = at;
	}
	return since > 0 && end - before <= gap ? since : 0;
}

struct alerts {
	uint64_t fresh, old;
	int64_t quiet_since; /* after the last of old ones that have ended */
	char name[NAME_SHOWN];
};

/* One series of ALERTS: when did it fire? */
static void count_alert(const struct json *one, int64_t start, int64_t end, uint64_t step_s, int64_t opened_at,
			struct alerts *a)
{
	const struct json *values = json_get(one, "values");
	int64_t first = 0, before = 0, gap = (int64_t) (GAP_STEPS * step_s);
	bool again = false, fresh;

	for (size_t i = 0; i < json_count(values); i++) {
		int64_t at = 0;
		double v = 0;

		if (!read_sample(json_at(values, i), &at, &v) || at < before)
			continue;
		again = again || (first && at - before > gap);
		first = first ? first : at;
		before = at;
	}
	if (first == 0)
		return;
	/* There at the first point of the range already, and never away since: nobody can say that the update did it. */
	fresh = again || first > (start > opened_at ? start : opened_at) + (int64_t) step_s;
	a->fresh += fresh;
	if (!fresh && end - before <= gap)
		a->old++;
	else if (!fresh && before > a->quiet_since)
		a->quiet_since = before;
	if (!a->name[0] || (fresh && a->fresh == 1))
		show(a->name, sizeof(a->name), json_string(json_get(json_get(one, "metric"), "alertname")));
}

static int say_alerts(const struct alerts *a, struct gate_look *ret, char text[static GATE_TEXT], struct buf *data)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();

	ret->said = a->fresh + a->old > 0 ? GATE_FAIL : GATE_PASS;
	ret->low = (double) a->old;
	ret->high = (double) a->fresh;
	ret->text = text;
	if (a->fresh > 0)
		snprintf(text, GATE_TEXT, "%" PRIu64 " alert%s began since the stage opened: %s", a->fresh,
			 a->fresh == 1 ? "" : "s", a->name);
	else if (a->old > 0)
		snprintf(text, GATE_TEXT, "%" PRIu64 " alert%s firing: %s", a->old, a->old == 1 ? " is" : "s are",
			 a->name);
	else
		snprintf(text, GATE_TEXT, "no alert is firing");
	node_integer(json_build_root(b), "began", (int64_t) a->fresh);
	node_integer(json_build_root(b), "from_before", (int64_t) a->old);
	return json_build_text(b, false, data);
}

int outside_read_alerts(const void *alerts, size_t alerts_len, const void *watching, size_t watching_len,
			int64_t start, int64_t end, uint64_t step_s, int64_t opened_at, struct gate_look *ret,
			char text[static GATE_TEXT], struct buf *data)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	CLEANUP(json_freep)
	struct json *proof = NULL;
	const struct json *all = NULL, *watched = NULL;
	struct alerts a = { 0 };
	char complaint[GATE_TEXT];
	int64_t since;
	int r = read_matrix(alerts, alerts_len, &doc, &all, complaint, sizeof(complaint));

	if (r == 0)
		r = read_matrix(watching, watching_len, &proof, &watched, complaint, sizeof(complaint));
	if (r < 0)
		return inconclusive(ret, text, r, complaint);
	since = watched_since(watched, end, step_s);
	for (size_t i = 0; i < json_count(all); i++)
		count_alert(json_at(all, i), start, end, step_s, opened_at, &a);
	/* What fires is known whether or not all was watched; quiet is not. */
	if (since == 0 && a.fresh + a.old == 0)
		return inconclusive(ret, text, 0,
				    "no alert is known, but the server watched nothing lately either");
	*ret = (struct gate_look){ .since = since > a.quiet_since ? since : a.quiet_since };
	return say_alerts(&a, ret, text, data);
}

/* RFC 3339 with any fraction and offset, as Go writes it. */
static bool parse_moment(const char *text, int64_t *ret)
{
	char plain[TIMESTAMP_LEN + 1];
	const char *p;
	unsigned hours = 0, minutes = 0;
	char sign = 0, end = 0;

	if (!text || strlen(text) < TIMESTAMP_LEN || strlen(text) > 40)
		return false;
	snprintf(plain, sizeof(plain), "%.19sZ", text);
	if (timestamp_parse(plain, ret) < 0)
		return false;
	p = text + 19;
	if (*p == '.')
		p += 1 + strspn(p + 1, "0123456789");
	if (strcmp(p, "Z") == 0)
		return true;
	if (strlen(p) != 6 || sscanf(p, "%c%2u:%2u%c", &sign, &hours, &minutes, &end) != 3 || hours > 23 ||
	    minutes > 59 || (sign != '+' && sign != '-'))
		return false;
	*ret += (sign == '+' ? -1 : 1) * (int64_t) (hours * 3600 + minutes * 60);
	return true;
}

static bool has_labels(const struct json *alert, const struct labels *labels)
{
	for (size_t i = 0; i < labels->count; i++)
		if (!str_eq(json_string(json_get(json_get(alert, "labels"), labels->items[i].name)),
			    labels->items[i].value))
			return false;
	return true;
}

int outside_read_alertmanager(const void *answer, size_t len, const struct labels *labels, int64_t now,
			      int64_t since, int64_t opened_at, struct gate_look *ret, char text[static GATE_TEXT],
			      struct buf *data)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct alerts a = { 0 };
	int r = json_parse_foreign(answer, len, &limits, &doc);

	if (r == 0 && !json_is(doc, JSON_ARRAY))
		r = -ERR_FIELD_TYPE;
	if (r < 0)
		return inconclusive(ret, text, r, "the answer is no list of alerts");
	for (size_t i = 0; i < json_count(doc); i++) {
		const struct json *alert = json_at(doc, i);
		int64_t began = 0;

		if (!json_is(json_get(alert, "labels"), JSON_OBJECT) ||
		    !parse_moment(json_string(json_get(alert, "startsAt")), &began))
			return inconclusive(ret, text, -ERR_FIELD_TYPE,
					    "the answer has an alert that cannot be read");
		/* Both were asked for; a proxy or another version may give all of them. */
		if (!has_labels(alert, labels) ||
		    !str_eq(json_string(json_get(json_get(alert, "status"), "state")), "active"))
			continue;
		if (!a.name[0] || (began > opened_at && a.fresh == 0))
			show(a.name, sizeof(a.name),
			     json_string(json_get(json_get(alert, "labels"), "alertname")));
		a.fresh += began > opened_at;
		a.old += began <= opened_at;
	}
	*ret = (struct gate_look){ .since = a.fresh + a.old == 0 && since > 0 && since <= now ? since : now };
	return say_alerts(&a, ret, text, data);
}
