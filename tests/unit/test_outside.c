/* What is asked of Prometheus and Alertmanager, and what their answers, and those that are none, mean. */
#include "base/err.h"
#include "server-stub/rollout/outside.h"
#include "server-stub/rollout/sources.h"

#include "conf/conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MATRIX(series) "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[" series "]}}"

static void questions_are_encoded(void **state)
{
	struct buf out = BUF_INIT(4096), query = BUF_INIT(4096);
	struct labels labels = { 0 };

	(void) state;
	assert_int_equal(outside_range_path("sum(rate(e{a=\"b\"}[5m]))", 100, 200, 15, &out), 0);
	assert_string_equal(buf_str(&out), "api/v1/query_range?query=sum%28rate%28e%7Ba%3D%22b%22%7D%5B5m%5D%29%29"
					   "&start=100&end=200&step=15");
	assert_int_equal(labels_set(&labels, "severity", "pa\"ge\\"), 0);
	assert_int_equal(outside_alerts_query(&labels, &query), 0);
	assert_string_equal(buf_str(&query), "ALERTS{alertstate=\"firing\",severity=\"pa\\\"ge\\\\\"}");
	buf_clear(&out);
	assert_int_equal(outside_alertmanager_path(&labels, &out), 0);
	assert_string_equal(buf_str(&out), "api/v2/alerts?active=true&silenced=false&inhibited=false"
					   "&filter=severity%3D%22pa%5C%22ge%5C%5C%22");
	labels_done(&labels);
	buf_done(&out);
	buf_done(&query);
}

static void a_range_gives_its_extremes(void **state)
{
	static const struct {
		const char *answer;
		enum gate_take take;
		int r;
		double low, high;
		uint64_t samples;
		const char *text;
	} rows[] = {
		{ MATRIX("{\"metric\":{},\"values\":[[1,\"1\"],[2.5,\"2\"],[4,\"6\"]]}"), GATE_AVERAGE, 0, 3, 3, 3,
		  "1 series" },
		{ MATRIX("{\"metric\":{},\"values\":[[1,\"1\"],[2.5,\"2\"],[4,\"6\"]]}"), GATE_LAST, 0, 6, 6, 3,
		  "" },
		{ MATRIX("{\"metric\":{},\"values\":[[1,\"1\"],[2.5,\"2\"],[4,\"6\"]]}"), GATE_HIGHEST, 0, 6, 6, 3,
		  "" },
		{ MATRIX("{\"metric\":{},\"values\":[[1,\"1\"],[2.5,\"2\"],[4,\"6\"]]}"), GATE_LOWEST, 0, 1, 1, 3,
		  "" },
		/* The worst of several, and the fewest samples. */
		{ MATRIX("{\"metric\":{\"a\":\"1\"},\"values\":[[1,\"-1e-3\"]]},{\"metric\":{\"a\":\"2\"},"
			 "\"values\":[[1,"
			 "\"4\"],[2,\"5\"]]}"),
		  GATE_AVERAGE, 0, -0.001, 4.5, 1, "2 series" },
		/* What is no number is no sample. */
		{ MATRIX("{\"metric\":{},\"values\":[[1,\"NaN\"],[2,\"+Inf\"],[3,\"-Inf\"],[4,\"7\"]]}"),
		  GATE_HIGHEST, 0, 7, 7, 1, "" },
		{ MATRIX("{\"metric\":{},\"values\":[[1,\"NaN\"]]}"), GATE_AVERAGE, 0, 0, 0, 0, "0 samples" },
		{ MATRIX("{\"metric\":{},\"values\":[[1,2],[\"x\",\"3\"],[],7,[-1.5,\"1\"],[1,\"0x10\"],[1,\"1 "
			 "\"]]}"),
		  GATE_AVERAGE, 0, 0, 0, 0, "0 samples" },
		{ MATRIX("{\"metric\":{},\"values\":[[1,\"1e308\"],[2,\"1e308\"]]}"), GATE_AVERAGE, 0, 0, 0, 0,
		  "" },
		{ MATRIX("{\"metric\":[],\"values\":{}},null,7"), GATE_AVERAGE, 0, 0, 0, 0, "3 series" },
		{ MATRIX(""), GATE_AVERAGE, 0, 0, 0, 0, "0 series" },
		/* And what is no such answer. */
		{ "{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"parse \\u0007 error\"}",
		  GATE_AVERAGE, -ERR_FIELD_VALUE, 0, 0, 0, "refused the query: parse ? error" },
		{ "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[]}}", GATE_AVERAGE,
		  -ERR_FIELD_TYPE, 0, 0, 0, "no range" },
		{ "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":{}}}", GATE_AVERAGE,
		  -ERR_FIELD_TYPE, 0, 0, 0, "no range" },
		{ "<html>login</html>", GATE_AVERAGE, -ERR_SYNTAX, 0, 0, 0, "cannot be read" },
		{ "", GATE_AVERAGE, -ERR_SYNTAX, 0, 0, 0, "cannot be read" },
		{ "[[[[[[[[[[[[[[[[[[[[", GATE_AVERAGE, -ERR_TOO_DEEP, 0, 0, 0, "cannot be read" },
		{ "1.5", GATE_AVERAGE, -ERR_FIELD_VALUE, 0, 0, 0, "refused" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf data = BUF_INIT(100000);
		struct gate_look look;
		char text[GATE_TEXT];
		int r = outside_read_range(rows[i].answer, strlen(rows[i].answer), rows[i].take, &look, text,
					   &data);

		if (r != rows[i].r || !strstr(text, rows[i].text) || look.said != GATE_INCONCLUSIVE)
			fail_msg("row %zu: %d, %s", i, r, text);
		if (look.low < rows[i].low || look.low > rows[i].low || look.high < rows[i].high ||
		    look.high > rows[i].high || look.samples != rows[i].samples)
			fail_msg("row %zu: %g %g %llu", i, look.low, look.high, (unsigned long long) look.samples);
		buf_done(&data);
	}
}

/* ALERTS of one series that fires from..to, and count(up) from..to, a sample every 60 s. */
static void series(struct buf *out, const char *metric, int from, int to, bool first)
{
	assert_int_equal(buf_addf(out, "%s{\"metric\":{%s},\"values\":[", first ? "" : ",", metric), 0);
	for (int at = from; at <= to; at += 60)
		assert_int_equal(buf_addf(out, "%s[%d.25,\"1\"]", at == from ? "" : ",", at), 0);
	assert_int_equal(buf_add_str(out, "]}"), 0);
}

static void quiet_has_to_be_proved(void **state)
{
	enum { START = 10000, END = 13600, OPENED = 9000, LATER = 11000 };
	static const struct {
		int fires_from, fires_to, watched_from, watched_to, opened;
		enum gate_verdict said;
		double old, fresh;
		int64_t since;
		const char *text;
	} rows[] = {
		{ 0, -1, START, END, OPENED, GATE_PASS, 0, 0, START, "no alert" },
		/* Half of it was watched, or all but the end, or nothing. */
		{ 0, -1, START + 1800, END, OPENED, GATE_PASS, 0, 0, START + 1800, "no alert" },
		{ 0, -1, START, END - 600, OPENED, GATE_INCONCLUSIVE, 0, 0, 0, "watched nothing" },
		{ 0, -1, 0, -1, OPENED, GATE_INCONCLUSIVE, 0, 0, 0, "watched nothing" },
		/* It began after the opening; it was there before; it was, and has ended. */
		{ START + 600, END, START, END, OPENED, GATE_FAIL, 0, 1, START,
		  "began since the stage opened: Disk" },
		{ START + 600, START + 900, START, END, OPENED, GATE_FAIL, 0, 1, START, "began since" },
		{ START, END, START, END, OPENED, GATE_FAIL, 1, 0, START, "1 alert is firing: Disk" },
		{ START, START + 600, START, END, OPENED, GATE_PASS, 0, 0, START + 600, "no alert" },
		{ LATER, END, LATER, END, LATER, GATE_FAIL, 1, 0, LATER, "is firing" },
		/* An alert is an alert, whoever watched. */
		{ START + 600, END, 0, -1, OPENED, GATE_FAIL, 0, 1, 0, "began since" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf alerts = BUF_INIT(100000), watching = BUF_INIT(100000), data = BUF_INIT(10000);
		struct gate_look look;
		char text[GATE_TEXT];
		int64_t start = rows[i].opened > START ? rows[i].opened : START;

		assert_int_equal(
			buf_add_str(&alerts,
				    "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":["),
			0);
		assert_int_equal(
			buf_add_str(&watching,
				    "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":["),
			0);
		if (rows[i].fires_to > 0)
			series(&alerts, "\"alertname\":\"Disk\"", rows[i].fires_from, rows[i].fires_to, true);
		if (rows[i].watched_to > 0)
			series(&watching, "", rows[i].watched_from, rows[i].watched_to, true);
		assert_int_equal(buf_add_str(&alerts, "]}}"), 0);
		assert_int_equal(buf_add_str(&watching, "]}}"), 0);
		assert_int_equal(outside_read_alerts(alerts.data, alerts.len, watching.data, watching.len, start,
						     END, 60, rows[i].opened, &look, text, &data),
				 0);
		if (look.said != rows[i].said || look.since != rows[i].since || !strstr(text, rows[i].text) ||
		    look.low < rows[i].old || look.low > rows[i].old || look.high < rows[i].fresh ||
		    look.high > rows[i].fresh)
			fail_msg("row %zu: %s since %lld, %g old, %g new: %s", i, gate_verdict_name(look.said),
				 (long long) look.since, look.low, look.high, text);
		buf_done(&alerts);
		buf_done(&watching);
		buf_done(&data);
	}
}

static void alertmanager_knows_now_only(void **state)
{
	/* 2026-11-28T07:00:00Z */
	enum { OPENED = 1795849200, NOW = OPENED + 3600 };
	static const struct {
		const char *answer;
		int r;
		enum gate_verdict said;
		double old, fresh;
		int64_t since;
		const char *text;
	} rows[] = {
		{ "[]", 0, GATE_PASS, 0, 0, NOW - 500, "no alert" },
		{ "[{\"labels\":{\"alertname\":\"A\",\"severity\":\"page\"},\"startsAt\":\"2026-11-28T07:30:00."
		  "123Z\",\"status\":{"
		  "\"state\":\"active\"}}]",
		  0, GATE_FAIL, 0, 1, NOW, "began since the stage opened: A" },
		/* The same moment by another clock: half past eight is half past six. */
		{ "[{\"labels\":{\"alertname\":\"B\",\"severity\":\"page\"},\"startsAt\":\"2026-11-28T08:30:00+02:"
		  "00\",\"status\":{"
		  "\"state\":\"active\"}}]",
		  0, GATE_FAIL, 1, 0, NOW, "firing: B" },
		/* Others', and silenced ones. */
		{ "[{\"labels\":{\"severity\":\"info\"},\"startsAt\":\"2026-11-28T07:30:00Z\",\"status\":{"
		  "\"state\":\"active\"}},"
		  "{\"labels\":{\"severity\":\"page\"},\"startsAt\":\"2026-11-28T07:30:00Z\",\"status\":{"
		  "\"state\":\"suppressed\"}}]",
		  0, GATE_PASS, 0, 0, NOW - 500, "no alert" },
		{ "[{\"labels\":{\"severity\":\"page\"},\"startsAt\":\"yesterday\",\"status\":{\"state\":"
		  "\"active\"}}]",
		  -ERR_FIELD_TYPE, GATE_INCONCLUSIVE, 0, 0, 0, "cannot be read" },
		{ "[{}]", -ERR_FIELD_TYPE, GATE_INCONCLUSIVE, 0, 0, 0, "cannot be read" },
		{ "{}", -ERR_FIELD_TYPE, GATE_INCONCLUSIVE, 0, 0, 0, "no list" },
		{ "<html>", -ERR_SYNTAX, GATE_INCONCLUSIVE, 0, 0, 0, "no list" },
	};
	struct labels labels = { 0 };

	(void) state;
	assert_int_equal(labels_set(&labels, "severity", "page"), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf data = BUF_INIT(10000);
		struct gate_look look;
		char text[GATE_TEXT];
		int r = outside_read_alertmanager(rows[i].answer, strlen(rows[i].answer), &labels, NOW, NOW - 500,
						  OPENED, &look, text, &data);

		if (r != rows[i].r || look.said != rows[i].said || look.since != rows[i].since ||
		    !strstr(text, rows[i].text) || look.low < rows[i].old || look.low > rows[i].old ||
		    look.high < rows[i].fresh || look.high > rows[i].fresh)
			fail_msg("row %zu: %d %s since %lld, %g old, %g new: %s", i, r,
				 gate_verdict_name(look.said), (long long) look.since, look.low, look.high, text);
		buf_done(&data);
	}
	/* Nobody looked before, or looked away: it begins now. */
	for (int i = 0; i < 2; i++) {
		struct buf data = BUF_INIT(10000);
		struct gate_look look;
		char text[GATE_TEXT];

		assert_int_equal(outside_read_alertmanager("[]", 2, &labels, NOW, i ? NOW + 1 : 0, OPENED, &look,
							   text, &data),
				 0);
		assert_int_equal(look.since, NOW);
		buf_done(&data);
	}
	labels_done(&labels);
}

/* --- gates.yaml --- */

static void what_may_be_asked_stands_in_a_file(void **state)
{
	static const char text[] =
		"servers:\n  main: {prometheus: 'https://p.example.org:9090', ca_file: /etc/ca.pem, token_file: "
		"/etc/token}\n  pager: {alertmanager: 'http://a.example.org/am'}\n"
		"commands: {user: checks, folders: [/usr/local/lib/checks]}\nproxy: http://proxy:3128\n";
	static const struct {
		struct gate gate;
		const char *why; /* NULL: allowed */
	} rows[] = {
		{ { .kind = GATE_HTTP }, NULL },
		{ { .kind = GATE_PROMETHEUS, .u.prometheus.server = (char *) (uintptr_t) "main" }, NULL },
		{ { .kind = GATE_PROMETHEUS, .u.prometheus.server = (char *) (uintptr_t) "pager" },
		  "Alertmanager" },
		{ { .kind = GATE_PROMETHEUS, .u.prometheus.server = (char *) (uintptr_t) "other" },
		  "does not name" },
		{ { .kind = GATE_ALERTS, .u.alerts.server = (char *) (uintptr_t) "main" }, NULL },
		{ { .kind = GATE_ALERTS, .u.alerts.server = (char *) (uintptr_t) "pager" }, NULL },
		{ { .kind = GATE_COMMAND, .u.command.argv = { (char *) (uintptr_t) "/usr/local/lib/checks/a" } },
		  NULL },
		{ { .kind = GATE_COMMAND, .u.command.argv = { (char *) (uintptr_t) "/usr/local/lib/checks" } },
		  "no folder" },
		{ { .kind = GATE_COMMAND, .u.command.argv = { (char *) (uintptr_t) "/usr/local/lib/checksum/a" } },
		  "no folder" },
		{ { .kind = GATE_COMMAND, .u.command.argv = { (char *) (uintptr_t) "/bin/sh" } }, "no folder" },
	};
	struct gate_sources s, none = { .server_count = 0 };
	struct conf_error e = { "" };
	char why[300];

	(void) state;
	if (sources_parse(text, strlen(text), "gates.yaml", &s, &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal(s.user, "checks");
	assert_string_equal(sources_server(&s, "main")->token_file, "/etc/token");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct gate g = rows[i].gate;

		g.name = (char *) (uintptr_t) "g";
		if (sources_allow(&s, &g, why, sizeof(why)) != !rows[i].why ||
		    (rows[i].why && !strstr(why, rows[i].why)))
			fail_msg("row %zu: %s", i, why);
		/* Without the file nothing is allowed but what needs nothing of it. */
		assert_int_equal(sources_allow(&none, &g, why, sizeof(why)), g.kind == GATE_HTTP);
	}
	sources_done(&s);
}

static void a_bad_file_is_complained_of(void **state)
{
	static const struct {
		const char *text, *expected;
	} rows[] = {
		{ "servers: [x]\n", "servers by name" },
		{ "servers: {Main: {prometheus: 'https://x'}}\n", "expected a server" },
		{ "servers: {main: {}}\n", "one of prometheus and alertmanager" },
		{ "servers: {main: {prometheus: 'https://x', alertmanager: 'https://y'}}\n", "one of prometheus" },
		{ "servers: {main: {prometheus: x}}\n", "expected a URL" },
		{ "servers: {main: {prometheus: 'https://u:p@x'}}\n", "expected a URL" },
		{ "servers: {main: {prometheus: 'http://x', token_file: /t}}\n", "anybody on the road" },
		{ "servers: {main: {prometheus: 'https://x', token_file: t}}\n", "absolute path" },
		{ "servers: {main: {prometheus: 'https://x', tls: no}}\n", "tls" },
		{ "commands: yes\n", "expected commands" },
		{ "commands: {user: checks}\n", "folders" },
		{ "commands: {folders: [lib]}\n", "absolute path" },
		{ "commands: {folders: [/a/../b]}\n", "absolute path" },
		{ "proxy: 3128\n", "expected a URL" },
		{ "server: {}\n", "server" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct conf_error e = { "" };
		struct gate_sources s;

		if (sources_parse(rows[i].text, strlen(rows[i].text), "gates.yaml", &s, &e) != -ERR_CONFIG ||
		    !strstr(e.text, "gates.yaml:1:") || !strstr(e.text, rows[i].expected))
			fail_msg("%s: %s", rows[i].text, e.text);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(questions_are_encoded),
		cmocka_unit_test(a_range_gives_its_extremes),
		cmocka_unit_test(quiet_has_to_be_proved),
		cmocka_unit_test(alertmanager_knows_now_only),
		cmocka_unit_test(what_may_be_asked_stands_in_a_file),
		cmocka_unit_test(a_bad_file_is_complained_of),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
