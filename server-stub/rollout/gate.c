#include "server-stub/rollout/gate.h"
#include "server-stub/rollout/metric.h"

#include "base/err.h"
#include "conf/conf.h"
#include "json/build.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	NODES_MAX = 1000000,
	TIME_MAX_S = 90 * 86400,
	EVERY_LEAST_S = 1,
	TIMEOUT_MAX_S = 3600,
	TEXT_MAX = 8192,
	SAMPLES_MAX = 11000, /* what Prometheus gives of a series at the most */
	FAILURES_DEFAULT = 3,
};

#define METRIC_ALPHA 0.005
#define METRIC_ALPHA_MAX 0.1

static const char *const verdict_names[] = { "inconclusive", "pass", "fail" };
static const char *const policy_names[] = { "wait", "ask", "pass" };
static const char *const word_names[] = { "none", "pass", "fail", "waive" };
static const char *const take_names[] = { "avg", "last", "max", "min" };

static int find_name(const char *const *names, size_t count, const char *name)
{
	for (size_t i = 0; name && i < count; i++)
		if (strcmp(names[i], name) == 0)
			return (int) i;
	return -1;
}

const char *gate_verdict_name(enum gate_verdict v)
{
	return verdict_names[v];
}

int gate_verdict_parse(const char *name)
{
	return find_name(verdict_names, ARRAY_LEN(verdict_names), name);
}

const char *gate_policy_name(enum gate_policy p)
{
	return policy_names[p];
}

const char *gate_word_name(enum gate_word w)
{
	return word_names[w];
}

int gate_word_parse(const char *name)
{
	return find_name(word_names, ARRAY_LEN(word_names), name);
}

/* --- numbers --- */

void gate_number(char out[static 32], double value)
{
	double again = 0;

	if (!isfinite(value))
		value = 0;
	for (int digits = 6; digits <= 17; digits++) {
		snprintf(out, 32, "%.*g", digits, value);
		if (gate_parse_number(out, &again) && again >= value && again <= value)
			return;
	}
}

bool gate_parse_number(const char *text, double *ret)
{
	char *end = NULL;
	double value;

	if (!text || !text[0] || text[strspn(text, "0123456789+-.eE")] || !strpbrk(text, "0123456789"))
		return false;
	errno = 0;
	value = strtod(text, &end);
	if (*end || !isfinite(value))
		return false;
	*ret = value;
	return true;
}

/* --- members of the maps --- */

static int read_text(const struct conf *map, const char *name, bool needed, char **ret, struct conf_error *e)
{
	const struct conf *item = conf_get(map, name);
	const char *text = conf_text(item);

	if (!item && !needed)
		return 0;
	if (!text || !text[0] || strlen(text) > TEXT_MAX)
		return conf_fail(item ? item : map, e, "expected '%s' as a text of at most %d bytes", name,
				 TEXT_MAX);
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

static int read_count(const struct conf *map, const char *name, uint64_t min, uint64_t otherwise, uint64_t *ret,
		      struct conf_error *e)
{
	return conf_optional_u64(map, name, min, NODES_MAX, otherwise, ret, e);
}

static int read_span(const struct conf *map, const char *name, uint64_t min, uint64_t max, uint64_t otherwise,
		     uint64_t *ret, struct conf_error *e)
{
	int r = conf_optional_seconds(map, name, otherwise, ret, e);

	if (r == 0 && conf_get(map, name) && (*ret < min || *ret > max))
		return conf_fail(conf_get(map, name), e,
				 "expected '%s' as a time from %" PRIu64 "s to %" PRIu64 "s", name, min, max);
	return r;
}

static int read_bound(const struct conf *map, const char *name, struct gate_bound *ret, struct conf_error *e)
{
	const struct conf *item = conf_get(map, name);

	if (!item)
		return 0;
	if (!gate_parse_number(conf_text(item), &ret->value))
		return conf_fail(item, e, "expected '%s' as a number like 0.5, found '%s'", name,
				 conf_text(item) ? conf_text(item) : "");
	ret->set = true;
	return 0;
}

static void write_bound(struct json_node *o, const char *name, const struct gate_bound *b)
{
	char text[32];

	if (!b->set)
		return;
	gate_number(text, b->value);
	node_string(o, name, text);
}

static int read_server(const struct conf *map, char **ret, struct conf_error *e)
{
	int r = read_text(map, "server", true, ret, e);

	if (r == 0 && !guard_id(*ret))
		return conf_fail(conf_get(map, "server"), e,
				 "expected a server's name as gates.yaml has it ([a-z0-9-]), found '%s'", *ret);
	return r;
}

/* --- the kinds --- */

static int read_health(const struct conf *map, struct gate *g, struct conf_error *e)
{
	int r = read_count(map, "max_failing", 0, 0, &g->u.health.max_failing, e);

	if (r == 0)
		r = read_count(map, "max_degraded", 0, UINT64_MAX, &g->u.health.max_degraded, e);
	if (r == 0)
		r = read_count(map, "max_restarting", 0, UINT64_MAX, &g->u.health.max_restarting, e);
	if (r == 0)
		r = read_count(map, "restarts", 0, 2, &g->u.health.restarts, e);
	return r < 0 ? r : read_span(map, "grace", 0, TIME_MAX_S, 300, &g->u.health.grace_s, e);
}

static void write_health(const struct gate *g, struct json_node *o)
{
	node_integer(o, "max_failing", (int64_t) g->u.health.max_failing);
	if (g->u.health.max_degraded != UINT64_MAX)
		node_integer(o, "max_degraded", (int64_t) g->u.health.max_degraded);
	if (g->u.health.max_restarting != UINT64_MAX)
		node_integer(o, "max_restarting", (int64_t) g->u.health.max_restarting);
	node_integer(o, "restarts", (int64_t) g->u.health.restarts);
	node_integer(o, "grace", (int64_t) g->u.health.grace_s);
}

/* "20%" of the past, or a number in units of the metric. */
static int read_effect(const struct conf *map, struct compare_rule *rule, struct conf_error *e)
{
	const struct conf *item = conf_get(map, "effect");
	const char *text = conf_text(item);
	char digits[32];
	size_t len = text ? strlen(text) : 0;

	rule->relative = len > 1 && text[len - 1] == '%';
	len -= rule->relative;
	if (len > 0 && len < sizeof(digits)) {
		memcpy(digits, text, len);
		digits[len] = '\0';
		if (gate_parse_number(digits, &rule->effect) && rule->effect > 0) {
			if (rule->relative)
				rule->effect /= 100;
			return 0;
		}
	}
	return conf_fail(
		item ? item : map, e,
		"expected 'effect', the least difference that matters: 20%% of the past, or a number above 0 "
		"in units of the metric");
}

static int read_limit(const struct conf *map, const char *name, uint64_t min, uint64_t max, uint64_t otherwise,
		      unsigned *ret, struct conf_error *e)
{
	uint64_t n = 0;
	int r = conf_optional_u64(map, name, min, max, otherwise, &n, e);

	*ret = (unsigned) n;
	return r;
}

static int read_metric(const struct conf *map, struct gate *g, struct conf_error *e)
{
	struct compare_rule *rule = &g->u.metric.rule;
	const char *worse = NULL, *const names[] = { compare_worse_name(COMPARE_HIGHER),
						     compare_worse_name(COMPARE_LOWER),
						     compare_worse_name(COMPARE_BOTH) };
	struct gate_bound alpha = { .value = METRIC_ALPHA };
	int r = read_text(map, "check", true, &g->u.metric.check, e), k;

	if (r == 0)
		r = read_text(map, "component", false, &g->u.metric.component, e);
	if (r < 0)
		return r;
	if (!guard_id(g->u.metric.check))
		return conf_fail(conf_get(map, "check"), e,
				 "expected the name of a check of kind metric ([a-z0-9-]), found '%s'",
				 g->u.metric.check);
	if (g->u.metric.component && !guard_id(g->u.metric.component))
		return conf_fail(conf_get(map, "component"), e, "expected a component's name, found '%s'",
				 g->u.metric.component);
	r = conf_optional_text(map, "worse", names[COMPARE_HIGHER], &worse, e);
	if (r < 0)
		return r;
	k = find_name(names, ARRAY_LEN(names), worse);
	if (k < 0)
		return conf_fail(conf_get(map, "worse"), e, "expected higher, lower or both, found '%s'", worse);
	rule->worse = (enum compare_worse) k;
	r = read_effect(map, rule, e);
	if (r == 0)
		r = read_limit(map, "days", 2, METRIC_PAST_DAYS, 5, &rule->min_days, e);
	if (r == 0)
		r = read_limit(map, "hours", 1, 24, 3, &rule->min_hours, e);
	if (r == 0)
		r = read_limit(map, "borne", 0, COMPARE_NODES_MAX, 0, &rule->borne, e);
	if (r == 0)
		r = conf_optional_u64(map, "samples", 1, UINT16_MAX, 1, &rule->min_samples, e);
	if (r == 0)
		r = read_span(map, "over", 3600, 14 * 86400, 86400, &g->u.metric.over_s, e);
	if (r == 0)
		r = read_bound(map, "alpha", &alpha, e);
	if (r == 0 && (alpha.value <= 0 || alpha.value > METRIC_ALPHA_MAX))
		return conf_fail(
			conf_get(map, "alpha"), e,
			"expected 'alpha', the chance of a false alarm in a stage, above 0 and at most 0.1");
	if (r == 0 && g->u.metric.over_s < (uint64_t) rule->min_hours * 3600)
		return conf_fail(conf_get(map, "over") ? conf_get(map, "over") : map, e,
				 "expected 'over' to hold the %u hours that are needed", rule->min_hours);
	g->u.metric.alpha = alpha.value;
	return r;
}

static void write_metric(const struct gate *g, struct json_node *o)
{
	const struct compare_rule *rule = &g->u.metric.rule;
	char number[32];

	node_string(o, "check", g->u.metric.check);
	if (g->u.metric.component)
		node_string(o, "component", g->u.metric.component);
	node_string(o, "worse", compare_worse_name(rule->worse));
	gate_number(number, rule->relative ? rule->effect * 100 : rule->effect);
	node_stringf(o, "effect", "%s%s", number, rule->relative ? "%" : "");
	node_integer(o, "days", rule->min_days);
	node_integer(o, "hours", rule->min_hours);
	node_integer(o, "samples", (int64_t) rule->min_samples);
	node_integer(o, "borne", rule->borne);
	node_integer(o, "over", (int64_t) g->u.metric.over_s);
	gate_number(number, g->u.metric.alpha);
	node_string(o, "alpha", number);
}

static void done_metric(struct gate *g)
{
	free(g->u.metric.check);
	free(g->u.metric.component);
}

static int read_prometheus(const struct conf *map, struct gate *g, struct conf_error *e)
{
	const char *take = NULL;
	int r = read_server(map, &g->u.prometheus.server, e), k;

	if (r == 0)
		r = read_text(map, "query", true, &g->u.prometheus.query, e);
	if (r == 0)
		r = read_bound(map, "min", &g->u.prometheus.min, e);
	if (r == 0)
		r = read_bound(map, "max", &g->u.prometheus.max, e);
	if (r == 0)
		r = conf_optional_text(map, "take", "avg", &take, e);
	if (r < 0)
		return r;
	k = find_name(take_names, ARRAY_LEN(take_names), take);
	if (k < 0)
		return conf_fail(conf_get(map, "take"), e, "expected avg, last, max or min, found '%s'", take);
	g->u.prometheus.take = (enum gate_take) k;
	if (!g->u.prometheus.min.set && !g->u.prometheus.max.set)
		return conf_fail(map, e, "expected a bound, min or max, for the query");
	if (g->u.prometheus.min.set && g->u.prometheus.max.set &&
	    g->u.prometheus.min.value > g->u.prometheus.max.value)
		return conf_fail(map, e, "expected a min that is not above the max");
	r = read_span(map, "over", 1, TIME_MAX_S, 1800, &g->u.prometheus.over_s, e);
	if (r == 0)
		r = read_span(map, "step", 1, 86400, 60, &g->u.prometheus.step_s, e);
	if (r == 0)
		r = conf_optional_u64(map, "samples", 1, SAMPLES_MAX, 5, &g->u.prometheus.samples, e);
	if (r == 0)
		r = read_span(map, "timeout", 1, TIMEOUT_MAX_S, 30, &g->u.prometheus.timeout_s, e);
	if (r == 0 && g->u.prometheus.over_s / g->u.prometheus.step_s > SAMPLES_MAX)
		return conf_fail(map, e, "expected a step with which 'over' has at most %d samples", SAMPLES_MAX);
	if (r == 0 && g->u.prometheus.over_s / g->u.prometheus.step_s + 1 < g->u.prometheus.samples)
		return conf_fail(map, e, "expected 'over' to hold %" PRIu64 " samples with a step of %" PRIu64 "s",
				 g->u.prometheus.samples, g->u.prometheus.step_s);
	return r;
}

static void write_prometheus(const struct gate *g, struct json_node *o)
{
	node_string(o, "server", g->u.prometheus.server);
	node_string(o, "query", g->u.prometheus.query);
	write_bound(o, "min", &g->u.prometheus.min);
	write_bound(o, "max", &g->u.prometheus.max);
	node_string(o, "take", take_names[g->u.prometheus.take]);
	node_integer(o, "over", (int64_t) g->u.prometheus.over_s);
	node_integer(o, "step", (int64_t) g->u.prometheus.step_s);
	node_integer(o, "samples", (int64_t) g->u.prometheus.samples);
	node_integer(o, "timeout", (int64_t) g->u.prometheus.timeout_s);
}

static void done_prometheus(struct gate *g)
{
	free(g->u.prometheus.server);
	free(g->u.prometheus.query);
}

static bool url_is_fine(const char *url)
{
	const char *host = str_starts(url, "https://") ? url + 8 : str_starts(url, "http://") ? url + 7 : NULL;

	if (!host || !*host || *host == '/' || strchr(host, '@') || strchr(host, '#'))
		return false;
	for (const char *p = url; *p; p++)
		if ((unsigned char) *p <= ' ' || (unsigned char) *p >= 0x7f)
			return false;
	return true;
}

/* "250ms" or any time that conf knows. */
static int read_within(const struct conf *map, uint64_t *ret_ms, struct conf_error *e)
{
	const struct conf *item = conf_get(map, "within");
	const char *text = conf_text(item);
	char digits[24];
	size_t len = text ? strlen(text) : 0;
	uint64_t seconds = 0;
	int r;

	if (!item)
		return 0;
	if (len > 2 && len < sizeof(digits) && strcmp(text + len - 2, "ms") == 0) {
		snprintf(digits, sizeof(digits), "%.*s", (int) (len - 2), text);
		if (parse_u64(digits, ret_ms) < 0 || *ret_ms == 0 || *ret_ms > TIMEOUT_MAX_S * 1000)
			return conf_fail(item, e, "expected a time like 250ms or 2s, found '%s'", text);
		return 0;
	}
	r = read_span(map, "within", 1, TIMEOUT_MAX_S, 0, &seconds, e);
	*ret_ms = seconds * 1000;
	return r;
}

static int read_http(const struct conf *map, struct gate *g, struct conf_error *e)
{
	int r = read_text(map, "url", true, &g->u.http.url, e);

	if (r < 0)
		return r;
	if (!url_is_fine(g->u.http.url))
		return conf_fail(conf_get(map, "url"), e,
				 "expected a URL like https://www.example.org/health, without user or fragment");
	r = read_text(map, "body", false, &g->u.http.body, e);
	if (r == 0)
		r = read_text(map, "ca_file", false, &g->u.http.ca_file, e);
	if (r == 0 && g->u.http.ca_file && g->u.http.ca_file[0] != '/')
		return conf_fail(conf_get(map, "ca_file"), e, "expected an absolute path on the controller");
	if (r == 0)
		r = conf_optional_u64(map, "status", 100, 599, 200, &g->u.http.status, e);
	if (r == 0)
		r = read_within(map, &g->u.http.within_ms, e);
	if (r == 0)
		r = read_span(map, "timeout", 1, TIMEOUT_MAX_S, 10, &g->u.http.timeout_s, e);
	if (r == 0)
		r = conf_optional_u64(map, "successes", 1, GATE_LOOKS_KEPT, 1, &g->u.http.successes, e);
	if (r == 0)
		r = conf_optional_u64(map, "of", 1, GATE_LOOKS_KEPT, 0, &g->u.http.of, e);
	if (r == 0)
		r = conf_optional_u64(map, "failures", 1, GATE_LOOKS_KEPT, FAILURES_DEFAULT, &g->u.http.failures,
				      e);
	if (r == 0 && g->u.http.of > 0 && g->u.http.of < g->u.http.successes)
		return conf_fail(conf_get(map, "of"), e, "expected 'of' to be at least 'successes', %" PRIu64,
				 g->u.http.successes);
	if (r == 0 && g->u.http.of > 0 && conf_get(map, "failures"))
		return conf_fail(
			conf_get(map, "failures"), e,
			"expected 'failures' or 'of', not both: with 'of' it fails when successes of so many "
			"cannot be");
	return r;
}

static void write_http(const struct gate *g, struct json_node *o)
{
	node_string(o, "url", g->u.http.url);
	if (g->u.http.body)
		node_string(o, "body", g->u.http.body);
	if (g->u.http.ca_file)
		node_string(o, "ca_file", g->u.http.ca_file);
	node_integer(o, "status", (int64_t) g->u.http.status);
	if (g->u.http.within_ms)
		node_stringf(o, "within", "%" PRIu64 "ms", g->u.http.within_ms);
	node_integer(o, "timeout", (int64_t) g->u.http.timeout_s);
	node_integer(o, "successes", (int64_t) g->u.http.successes);
	if (g->u.http.of)
		node_integer(o, "of", (int64_t) g->u.http.of);
	else
		node_integer(o, "failures", (int64_t) g->u.http.failures);
}

static void done_http(struct gate *g)
{
	free(g->u.http.url);
	free(g->u.http.body);
	free(g->u.http.ca_file);
}

static int read_command(const struct conf *map, struct gate *g, struct conf_error *e)
{
	const struct conf *list = conf_get(map, "argv");

	if (conf_kind(list) != CONF_LIST || conf_count(list) == 0 || conf_count(list) > GATE_ARGS_MAX)
		return conf_fail(list ? list : map, e,
				 "expected 'argv' as a list of 1 to %d texts; there is no shell", GATE_ARGS_MAX);
	for (size_t i = 0; i < conf_count(list); i++) {
		const char *text = conf_text(conf_at(list, i));

		if (!text || strlen(text) > TEXT_MAX)
			return conf_fail(conf_at(list, i), e, "expected a text of at most %d bytes", TEXT_MAX);
		if (i == 0 && (text[0] != '/' || !guard_path(text + 1)))
			return conf_fail(conf_at(list, i), e,
					 "expected the program as an absolute path without '..', found '%s'",
					 text);
		g->u.command.argv[i] = strdup(text);
		if (!g->u.command.argv[i])
			return -ENOMEM;
	}
	return read_span(map, "timeout", 1, TIMEOUT_MAX_S, 60, &g->u.command.timeout_s, e);
}

static void write_command(const struct gate *g, struct json_node *o)
{
	struct json_node *list = node_array(o, "argv");

	for (size_t i = 0; g->u.command.argv[i]; i++)
		node_string(list, NULL, g->u.command.argv[i]);
	node_integer(o, "timeout", (int64_t) g->u.command.timeout_s);
}

static void done_command(struct gate *g)
{
	for (size_t i = 0; g->u.command.argv[i]; i++)
		free(g->u.command.argv[i]);
}

static int read_labels(const struct conf *map, struct labels *ret, struct conf_error *e)
{
	if (conf_kind(map) != CONF_MAP)
		return conf_fail(map, e, "expected labels as name: value, e.g. {severity: page}");
	for (size_t i = 0; i < conf_count(map); i++) {
		const char *name = conf_key_at(map, i);
		const char *value = conf_text(conf_get(map, name));
		size_t good = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
		int r;

		/* Prometheus' own names, which also keeps them from ending the selector that is made of them. */
		if (!name[0] || name[good] || (name[0] >= '0' && name[0] <= '9') || !value)
			return conf_fail(conf_at(map, i), e,
					 "expected a label of alerts ([a-zA-Z_][a-zA-Z0-9_]*) and its value");
		r = labels_set(ret, name, value);
		if (r == -ENOMEM)
			return r;
		if (r < 0)
			return conf_fail(conf_at(map, i), e, "expected a printable value, found '%s: %s'", name,
					 value);
	}
	return 0;
}

static int read_alerts(const struct conf *map, struct gate *g, struct conf_error *e)
{
	int r = read_server(map, &g->u.alerts.server, e);

	if (r == 0 && conf_get(map, "labels"))
		r = read_labels(conf_get(map, "labels"), &g->u.alerts.labels, e);
	if (r == 0)
		r = read_span(map, "for", 60, TIME_MAX_S, 3600, &g->u.alerts.for_s, e);
	return r < 0 ? r : read_span(map, "timeout", 1, TIMEOUT_MAX_S, 30, &g->u.alerts.timeout_s, e);
}

static void write_alerts(const struct gate *g, struct json_node *o)
{
	node_string(o, "server", g->u.alerts.server);
	if (g->u.alerts.labels.count)
		labels_write(&g->u.alerts.labels, o, "labels");
	node_integer(o, "for", (int64_t) g->u.alerts.for_s);
	node_integer(o, "timeout", (int64_t) g->u.alerts.timeout_s);
}

static void done_alerts(struct gate *g)
{
	free(g->u.alerts.server);
	labels_done(&g->u.alerts.labels);
}

static int read_question(const struct conf *list_item, struct gate *g, struct conf_error *e)
{
	return read_text(list_item, "ask", true, &g->u.person.question, e);
}

static void done_person(struct gate *g)
{
	free(g->u.person.question);
}

/* --- the table --- */

static const struct kind_row {
	const char *name;
	int (*read)(const struct conf *map, struct gate *g,
		    struct conf_error *e); /* NULL: `true` is all it takes */
	void (*write)(const struct gate *g, struct json_node *o);
	void (*done)(struct gate *g);
	bool outside, from_opening;
	uint64_t every_s; /* 0: it is not looked at in intervals */
	enum gate_policy on_inconclusive;
} kinds[] = {
	[GATE_HEALTH] = { "health", read_health, write_health, NULL, false, true, 0, GATE_WAIT },
	[GATE_METRIC] = { "metric", read_metric, write_metric, done_metric, false, true, 0, GATE_WAIT },
	[GATE_PROMETHEUS] = { "prometheus", read_prometheus, write_prometheus, done_prometheus, true, true, 60,
			      GATE_WAIT },
	[GATE_HTTP] = { "http", read_http, write_http, done_http, true, true, 60, GATE_WAIT },
	/* A test of the new version says little while only some of its nodes have it. */
	[GATE_COMMAND] = { "command", read_command, write_command, done_command, true, false, 300, GATE_WAIT },
	[GATE_ALERTS] = { "alerts", read_alerts, write_alerts, done_alerts, true, true, 60, GATE_WAIT },
	[GATE_STAFFED] = { "staffed", NULL, NULL, NULL, false, false, 0, GATE_WAIT },
	[GATE_APPROVALS] = { "approvals", NULL, NULL, NULL, false, false, 0, GATE_ASK },
	[GATE_PERSON] = { "ask", NULL, NULL, done_person, false, false, 0, GATE_ASK },
};
_Static_assert(ARRAY_LEN(kinds) == GATE_KIND_COUNT, "every kind has its row");

const char *gate_kind_name(enum gate_kind k)
{
	return kinds[k].name;
}

bool gate_looks_outside(const struct gate *g)
{
	return kinds[g->kind].outside;
}

void gate_done(struct gate *g)
{
	free(g->name);
	if (kinds[g->kind].done)
		kinds[g->kind].done(g);
	*g = (struct gate){ .name = NULL };
}

static int find_kind(const struct conf *map, enum gate_kind *ret, struct conf_error *e)
{
	size_t found = 0;

	for (size_t k = 0; k < GATE_KIND_COUNT; k++)
		if (conf_get(map, kinds[k].name)) {
			found++;
			*ret = (enum gate_kind) k;
		}
	if (found == 1)
		return 0;
	return conf_fail(map, e,
			 "expected a gate with one of health, metric, prometheus, http, command, alerts, staffed, "
			 "approvals, ask");
}

static int read_kind(const struct conf *map, struct gate *g, struct conf_error *e)
{
	const struct kind_row *row = &kinds[g->kind];
	const struct conf *own = conf_get(map, row->name);
	bool yes = false;
	int r;

	if (g->kind == GATE_PERSON)
		return read_question(map, g, e);
	if (!row->read) {
		r = conf_optional_bool(map, row->name, false, &yes, e);
		return r < 0 || yes ? r : conf_fail(own, e, "expected '%s: true'", row->name);
	}
	if (conf_kind(own) != CONF_MAP)
		return conf_fail(own, e, "expected '%s' with its settings, e.g. %s: {...}", row->name, row->name);
	r = row->read(own, g, e);
	return r < 0 ? r : conf_reject_unknown(own, e);
}

static int read_policy(const struct conf *map, struct gate *g, struct conf_error *e)
{
	const char *text = NULL;
	int r = conf_optional_text(map, "on_inconclusive", policy_names[kinds[g->kind].on_inconclusive], &text, e),
	    k;

	if (r < 0)
		return r;
	k = find_name(policy_names, ARRAY_LEN(policy_names), text);
	if (k < 0)
		return conf_fail(conf_get(map, "on_inconclusive"), e, "expected wait, ask or pass, found '%s'",
				 text);
	if (g->kind == GATE_PERSON && k != GATE_ASK)
		return conf_fail(conf_get(map, "on_inconclusive"), e,
				 "expected nothing else of a person than ask");
	g->on_inconclusive = (enum gate_policy) k;
	g->has_deadline = conf_get(map, "deadline") != NULL;
	if (g->on_inconclusive == GATE_TAKE && !g->has_deadline)
		return conf_fail(
			map, e,
			"expected a deadline: for how long on_inconclusive: pass waits for an answer first");
	return read_span(map, "deadline", 0, TIME_MAX_S, 0, &g->deadline_s, e);
}

static int read_when(const struct conf *map, struct gate *g, struct conf_error *e)
{
	const struct kind_row *row = &kinds[g->kind];
	const char *when = NULL;
	int r;

	g->from_opening = row->from_opening;
	if (!row->outside && g->kind != GATE_HEALTH) {
		if (conf_get(map, "when"))
			return conf_fail(conf_get(map, "when"), e, "expected no 'when': %s",
					 row->from_opening ? "it looks from the stage's opening on"
							   : "it is asked when its stage is proved");
		return 0;
	}
	r = conf_optional_text(map, "when", row->from_opening ? "open" : "proved", &when, e);
	if (r < 0)
		return r;
	if (strcmp(when, "open") != 0 && strcmp(when, "proved") != 0)
		return conf_fail(conf_get(map, "when"), e, "expected open or proved, found '%s'", when);
	g->from_opening = strcmp(when, "open") == 0;
	return 0;
}

int gate_read(const struct conf *map, size_t stage, struct gate *ret, struct conf_error *e)
{
	enum gate_kind kind = GATE_HEALTH;
	const char *name = NULL;
	int r;

	*ret = (struct gate){ .stage = stage };
	if (conf_kind(map) != CONF_MAP)
		return conf_fail(map, e,
				 "expected a gate, e.g. - {http: {url: https://www.example.org/}, deadline: 1h}");
	r = find_kind(map, &kind, e);
	if (r == 0)
		r = conf_optional_text(map, "name", kinds[kind].name, &name, e);
	if (r < 0)
		return r;
	ret->kind = kind;
	if (!guard_id(name))
		return conf_fail(conf_get(map, "name"), e,
				 "expected a gate's name ([a-z0-9-], at most 63), found '%s'", name);
	ret->name = strdup(name);
	if (!ret->name)
		return -ENOMEM;
	r = read_kind(map, ret, e);
	if (r == 0)
		r = read_policy(map, ret, e);
	if (r == 0)
		r = read_when(map, ret, e);
	if (r == 0 && kinds[kind].every_s == 0 && conf_get(map, "every"))
		return conf_fail(conf_get(map, "every"), e,
				 "expected no 'every': it is asked whenever something changes");
	if (r == 0 && kinds[kind].every_s > 0)
		r = read_span(map, "every", EVERY_LEAST_S, 86400, kinds[kind].every_s, &ret->every_s, e);
	return r < 0 ? r : conf_reject_unknown(map, e);
}

void gate_write(const struct gate *g, struct json_node *object)
{
	const struct kind_row *row = &kinds[g->kind];

	node_string(object, "name", g->name);
	if (g->kind == GATE_PERSON)
		node_string(object, row->name, g->u.person.question);
	else if (!row->write)
		node_bool(object, row->name, true);
	else
		row->write(g, node_object(object, row->name));
	if (row->outside || g->kind == GATE_HEALTH)
		node_string(object, "when", g->from_opening ? "open" : "proved");
	if (row->every_s > 0)
		node_integer(object, "every", (int64_t) g->every_s);
	node_string(object, "on_inconclusive", policy_names[g->on_inconclusive]);
	if (g->has_deadline)
		node_integer(object, "deadline", (int64_t) g->deadline_s);
}
