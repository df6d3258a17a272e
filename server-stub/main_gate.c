/*
 * selfright-gate - one look outside for a gate of a rollout.
 *
 * The controller talks to no stranger and waits for none: `selfright serve` starts this program for each look, with
 * the question on standard input, and reads one line of JSON. What comes from outside is read here, confined, with
 * limits and a deadline; if it ends otherwise than well, the gate is inconclusive.
 */
#include "base/err.h"
#include "base/text.h"
#include "conf/conf.h"
#include "fetch/fetch.h"
#include "json/build.h"
#include "json/json.h"
#include "model/report.h"
#include "os/confine.h"
#include "os/durable.h"
#include "os/os.h"
#include "os/process.h"
#include "server-stub/rollout/gate.h"
#include "server-stub/rollout/outside.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	STATUS_USAGE = 2,
	INPUT_MAX = 256 * 1024,
	TOKEN_MAX = 16 * 1024,
	CA_MAX = 1024 * 1024,
	PAGE_MAX = 1024 * 1024, /* of a page that is probed; the rest of it is not looked at */
	OUTPUT_MAX = 64 * 1024, /* of a command; of more, the end */
	OUTPUT_SHOWN = 2048,
	DATA_MAX = 256 * 1024,
	DESCRIPTORS_MAX = 64,
	MEMORY_MAX = 512 * 1024 * 1024, /* address space */
	ENVIRONMENT_MAX = 16,
	STEPS_OF_ALERTS = 2000,
	STEP_LEAST_S = 15,
};

static const char usage[] =
	"Usage: selfright-gate <question\n"
	"\n"
	"Look outside once for a gate of a rollout: a page, Prometheus, Alertmanager, a command. Started by\n"
	"`selfright serve`; the question is JSON on standard input, the answer a line of JSON.\n"
	"\n"
	"  --help, --version\n"
	"\n"
	"Exit codes: 0 there is an answer, also if it is that nothing is known; 1 failed; 2 wrong usage.\n"
	"\n"
	"Example: what a gate would see of a page\n"
	"  echo '{\"gate\": {\"http\": {\"url\": \"http://127.0.0.1:8080/\"}}}' | selfright-gate\n";

struct question {
	struct gate gate;
	const char *url, *ca_file, *token_file, *user, *proxy; /* NULL: none */
	bool is_alertmanager;
	int64_t now, opened_at, since;
	const struct conf *environment;
};

struct seen {
	struct gate_look look;
	char text[GATE_TEXT];
	struct buf data;
};

static void cannot_tell(struct seen *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void cannot_tell(struct seen *s, const char *fmt, ...)
{
	va_list ap;

	s->look = (struct gate_look){ .said = GATE_INCONCLUSIVE };
	va_start(ap, fmt);
	(void) vsnprintf(s->text, sizeof(s->text), fmt, ap); /* a long reason is cut */
	va_end(ap);
}

/* --- http, of all kinds --- */

/* Read what a client reads, and nothing else; no program starts, nothing is written. */
static int confine(void)
{
	int r = confine_limits(MEMORY_MAX, DESCRIPTORS_MAX);

	if (r == 0)
		r = confine_client(NULL, 0, NULL, 0);
	return r < 0 ? r : 0;
}

/* "Authorization: Bearer ..." from a file whose last newline is none of the token. */
static int read_token(const char *path, struct buf *ret)
{
	CLEANUP(buf_done)
	struct buf token = BUF_INIT(TOKEN_MAX);
	int r = file_read(&os_posix, AT_FDCWD, path, TOKEN_MAX, &token);

	while (r == 0 && token.len > 0 && strchr("\r\n \t", token.data[token.len - 1]))
		token.len--;
	if (r == 0 && token.len == 0)
		r = -ENODATA;
	return r < 0 ? r : buf_addf(ret, "Authorization: Bearer %.*s", (int) token.len, (const char *) token.data);
}

struct road {
	struct http *http;
	struct buf token, ca;
	const char *header;
};

static void road_done(struct road *w)
{
	http_close(w->http);
	buf_done(&w->token);
	buf_done(&w->ca);
}

/* 0, or s says what is wrong. */
static int open_road(const struct question *q, const char *base, const char *ca_file, bool is_page,
		     uint64_t timeout_s, struct road *w, struct seen *s)
{
	struct http_options o = {
		.base_url = base,
		.proxy = is_page && q->proxy ? q->proxy : "",
		.allow_plain_http = true,
		.connect_timeout_ms = (unsigned) (timeout_s * 1000),
		.cut_body = is_page,
	};
	int r = 0;

	if (ca_file) {
		r = file_read(&os_posix, AT_FDCWD, ca_file, CA_MAX, &w->ca);
		if (r < 0)
			cannot_tell(s, "%s: %s", ca_file, err_text(r));
		o.ca_pem = buf_str(&w->ca);
	}
	if (r == 0 && !is_page && q->token_file) {
		r = read_token(q->token_file, &w->token);
		if (r < 0)
			cannot_tell(s, "the token file %s: %s", q->token_file, err_text(r));
		w->header = buf_str(&w->token);
		o.headers = &w->header;
		o.header_count = 1;
	}
	if (r < 0)
		return r;
	r = confine();
	if (r < 0) {
		cannot_tell(s, "the process cannot be confined: %s", err_text(r));
		return r;
	}
	r = http_open(&o, &w->http);
	if (r < 0)
		cannot_tell(s, "%s cannot be asked: %s", base, err_text(r));
	return r;
}

/* --- a page --- */

static void judge_page(const struct question *q, const struct http_response *response, const struct buf *body,
		       uint64_t took_ms, struct seen *s)
{
	const char *wanted = q->gate.u.http.body;
	bool status = response->status == (long) q->gate.u.http.status;
	/* The beginning of a page of any bytes: memmem, as it may hold NUL. */
	bool holds = !wanted || (body->len > 0 && memmem(body->data, body->len, wanted, strlen(wanted)));
	bool in_time = q->gate.u.http.within_ms == 0 || took_ms <= q->gate.u.http.within_ms;

	s->look.said = status && holds && in_time ? GATE_PASS : GATE_FAIL;
	s->look.low = s->look.high = (double) took_ms;
	snprintf(s->text, sizeof(s->text), "status %ld in %" PRIu64 " ms%s%s%s", response->status, took_ms,
		 status			       ? ""
		 : response->status / 100 == 3 ? ", and redirections are not followed"
					       : ", which is not the one that is asked for",
		 holds ? "" : ", without the text that the body should hold",
		 in_time ? "" : ", which is too late");
}

static void look_at_page(const struct question *q, struct seen *s)
{
	CLEANUP(road_done)
	struct road w = { .token = BUF_INIT(2 * TOKEN_MAX), .ca = BUF_INIT(CA_MAX) };
	CLEANUP(buf_done)
	struct buf base = BUF_INIT(8192), path = BUF_INIT(8192), body = BUF_INIT(PAGE_MAX);
	const char *url = q->gate.u.http.url, *authority = strstr(url, "://") + 3; /* gate_read saw to it */
	size_t end = (size_t) (authority - url) + strcspn(authority, "/?");
	struct http_response response = { 0 };
	uint64_t start, took;
	int r = buf_add(&base, url, end);

	if (r == 0)
		r = buf_add_str(&path, url[end] ? url + end : "/");
	if (r < 0) {
		cannot_tell(s, "%s", err_text(r));
		return;
	}
	if (open_road(q, buf_str(&base), q->gate.u.http.ca_file, true, q->gate.u.http.timeout_s, &w, s) < 0)
		return;
	start = os_posix.clock_boot_ms(&os_posix);
	r = http_request(w.http, "GET", buf_str(&path), NULL, NULL, 0, q->gate.u.http.timeout_s * 1000, &response,
			 &body);
	took = os_posix.clock_boot_ms(&os_posix) - start;
	if (r == 0) {
		judge_page(q, &response, &body, took, s);
		return;
	}
	/* A name that we cannot resolve, and what we lack ourselves, is no word on the page. */
	cannot_tell(s, "%s", http_error(w.http));
	if (!http_unresolved(w.http) && (r == -ERR_NETWORK || r == -ERR_TLS || r == -ERR_DEADLINE))
		s->look.said = GATE_FAIL;
}

/* --- Prometheus and Alertmanager --- */

static int ask(struct road *w, const char *path, uint64_t timeout_s, struct buf *body, struct seen *s)
{
	struct http_response response = { 0 };
	int r = http_request(w->http, "GET", path, NULL, NULL, 0, timeout_s * 1000, &response, body);

	if (r < 0) {
		cannot_tell(s, "%s", http_error(w->http));
		return r;
	}
	/* Errors of a query come as JSON with 4xx: the reader says which. */
	if (response.status != 200 && response.status != 400 && response.status != 422) {
		cannot_tell(s, "the server answered %ld", response.status);
		return -ERR_HTTP_STATUS;
	}
	return 0;
}

static int64_t later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static void look_at_metric(const struct question *q, struct seen *s)
{
	CLEANUP(road_done)
	struct road w = { .token = BUF_INIT(2 * TOKEN_MAX), .ca = BUF_INIT(CA_MAX) };
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(64 * 1024), body = BUF_INIT(OUTSIDE_ANSWER_MAX);
	const uint64_t timeout_s = q->gate.u.prometheus.timeout_s;
	/* What was before the stage opened is no word on the release. */
	int64_t start = later(q->now - (int64_t) q->gate.u.prometheus.over_s, q->opened_at);
	int r = outside_range_path(q->gate.u.prometheus.query, start, q->now, q->gate.u.prometheus.step_s, &path);

	if (r == 0)
		r = open_road(q, q->url, q->ca_file, false, timeout_s, &w, s);
	if (r == 0)
		r = ask(&w, buf_str(&path), timeout_s, &body, s);
	if (r == 0)
		r = outside_read_range(body.data, body.len, q->gate.u.prometheus.take, &s->look, s->text,
				       &s->data);
	(void) r; /* s says it */
}

static void look_at_alerts(const struct question *q, struct seen *s)
{
	CLEANUP(road_done)
	struct road w = { .token = BUF_INIT(2 * TOKEN_MAX), .ca = BUF_INIT(CA_MAX) };
	CLEANUP(buf_done)
	struct buf query = BUF_INIT(64 * 1024), path = BUF_INIT(128 * 1024), alerts = BUF_INIT(OUTSIDE_ANSWER_MAX),
		   watching = BUF_INIT(OUTSIDE_ANSWER_MAX);
	const uint64_t timeout_s = q->gate.u.alerts.timeout_s;
	uint64_t step = q->gate.u.alerts.for_s / STEPS_OF_ALERTS;
	int64_t start;
	int r = open_road(q, q->url, q->ca_file, false, timeout_s, &w, s);

	if (r == 0 && q->is_alertmanager) {
		r = outside_alertmanager_path(&q->gate.u.alerts.labels, &path);
		if (r == 0)
			r = ask(&w, buf_str(&path), timeout_s, &alerts, s);
		if (r == 0)
			r = outside_read_alertmanager(alerts.data, alerts.len, &q->gate.u.alerts.labels, q->now,
						      q->since, q->opened_at, &s->look, s->text, &s->data);
		return;
	}
	step = step < STEP_LEAST_S ? STEP_LEAST_S : step;
	start = later(q->now - (int64_t) (q->gate.u.alerts.for_s + 2 * step), q->opened_at);
	if (r == 0)
		r = outside_alerts_query(&q->gate.u.alerts.labels, &query);
	if (r == 0)
		r = outside_range_path(buf_str(&query), start, q->now, step, &path);
	if (r == 0)
		r = ask(&w, buf_str(&path), timeout_s, &alerts, s);
	buf_clear(&path);
	if (r == 0)
		r = outside_range_path(OUTSIDE_WATCHING_QUERY, start, q->now, step, &path);
	if (r == 0)
		r = ask(&w, buf_str(&path), timeout_s, &watching, s);
	if (r == 0)
		r = outside_read_alerts(alerts.data, alerts.len, watching.data, watching.len, start, q->now, step,
					q->opened_at, &s->look, s->text, &s->data);
	(void) r; /* s says it */
}

/* --- a command --- */

/* The last line that is not empty, for people. */
static void show_last_line(const struct buf *output, char *ret, size_t size)
{
	CLEANUP(buf_done)
	struct buf clean = BUF_INIT(OUTPUT_MAX);
	const char *text, *line;
	size_t len;

	ret[0] = '\0';
	if (printable_tail(buf_str(output), output->len, OUTPUT_SHOWN, &clean) < 0)
		return;
	text = buf_str(&clean);
	len = strlen(text);
	while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' '))
		len--;
	line = memrchr(text, '\n', len);
	line = line ? line + 1 : text;
	snprintf(ret, size, ": %.*s", (int) (len - (size_t) (line - text)), line);
}

static int write_output(const struct buf *output, int status, struct buf *data)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf clean = BUF_INIT(OUTPUT_MAX);
	int r = printable_tail(buf_str(output), output->len, OUTPUT_SHOWN, &clean);

	if (r < 0)
		return r;
	node_integer(json_build_root(b), "exit", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
	node_string(json_build_root(b), "output", buf_str(&clean));
	return json_build_text(b, false, data);
}

static void run_command(const struct question *q, struct seen *s)
{
	CLEANUP(buf_done)
	struct buf output = BUF_INIT(OUTPUT_MAX);
	char settings[ENVIRONMENT_MAX][256], line[160], words[64];
	const char *env[ENVIRONMENT_MAX + 3] = { "PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C" };
	struct process_options o = { .argv = (const char *const *) q->gate.u.command.argv,
				     .env = env,
				     .user = q->user,
				     .killed_with_parent = true,
				     .stdin_fd = -1,
				     .stdout_fd = -1,
				     .stderr_fd = -1,
				     .no_new_privs = true };
	int status = 0, r;

	for (size_t i = 0; i < conf_count(q->environment) && i < ENVIRONMENT_MAX; i++) {
		snprintf(settings[i], sizeof(settings[i]), "SELFRIGHT_%s=%s", conf_key_at(q->environment, i),
			 conf_text(conf_at(q->environment, i)) ? conf_text(conf_at(q->environment, i)) : "");
		env[2 + i] = settings[i];
	}
	if (!q->user && getuid() == 0) {
		cannot_tell(s, "nothing is run as root: name a user in gates.yaml (commands: user)");
		return;
	}
	r = process_run(&o, q->gate.u.command.timeout_s * 1000, &status, &output);
	show_last_line(&output, line, sizeof(line));
	if (r == -ERR_DEADLINE) {
		cannot_tell(s, "it did not end within %" PRIu64 "s%s", q->gate.u.command.timeout_s, line);
		return;
	}
	if (r < 0) {
		cannot_tell(s, "%s cannot be run: %s", q->gate.u.command.argv[0], err_text(r));
		return;
	}
	s->look.said = !WIFEXITED(status)	  ? GATE_INCONCLUSIVE
		       : WEXITSTATUS(status) == 0 ? GATE_PASS
		       : WEXITSTATUS(status) == 1 ? GATE_FAIL
						  : GATE_INCONCLUSIVE;
	snprintf(s->text, sizeof(s->text), "it %s%s", process_status_text(status, words, sizeof(words)), line);
	if (write_output(&output, status, &s->data) < 0)
		buf_clear(&s->data); /* the sentence is what is judged */
}

/* --- question and answer --- */

static int read_number(const struct conf *map, const char *name, int64_t *ret, struct conf_error *e)
{
	uint64_t value = 0;
	int r = conf_optional_u64(map, name, 0, INT32_MAX * (uint64_t) 1000, 0, &value, e);

	*ret = (int64_t) value;
	return r;
}

static int read_question(const struct conf *root, struct question *q, struct conf_error *e)
{
	const struct conf *server = conf_get(root, "server");
	int r = gate_read(conf_get(root, "gate"), GATE_EVERY_STAGE, &q->gate, e);

	if (r == 0)
		r = read_number(root, "now", &q->now, e);
	if (r == 0)
		r = read_number(root, "opened_at", &q->opened_at, e);
	if (r == 0)
		r = read_number(root, "since", &q->since, e);
	if (r < 0)
		return r;
	if (q->now == 0)
		q->now = os_posix.clock_real(&os_posix);
	q->url = conf_text(conf_get(server, "url"));
	q->ca_file = conf_text(conf_get(server, "ca_file"));
	q->token_file = conf_text(conf_get(server, "token_file"));
	q->is_alertmanager = str_eq(conf_text(conf_get(server, "kind")), "alertmanager");
	q->user = conf_text(conf_get(root, "user"));
	q->proxy = conf_text(conf_get(root, "proxy"));
	q->environment = conf_get(root, "environment");
	if ((q->gate.kind == GATE_PROMETHEUS || q->gate.kind == GATE_ALERTS) && !q->url)
		return conf_fail(root, e, "expected a server with its url");
	return 0;
}

static int say(const struct seen *s)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *data = NULL;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(2 * DATA_MAX), words = BUF_INIT(GATE_TEXT);
	struct json_node *o = json_build_root(b);
	char low[32], high[32];
	int r = printable_tail(s->text, strlen(s->text), GATE_TEXT - 1, &words);

	gate_number(low, s->look.low);
	gate_number(high, s->look.high);
	node_string(o, "said", gate_verdict_name(s->look.said));
	node_string(o, "low", low);
	node_string(o, "high", high);
	node_integer(o, "samples", (int64_t) s->look.samples);
	node_integer(o, "since", s->look.since);
	node_string(o, "text", buf_str(&words));
	if (r == 0 && s->data.len > 0)
		r = json_parse(s->data.data, s->data.len, &json_limits_default, &data);
	if (data)
		node_copy(o, "data", data);
	if (r == 0)
		r = json_build_text(b, false, &text);
	if (r < 0) {
		fprintf(stderr, "selfright-gate: %s\n", err_text(r));
		return EXIT_FAILURE;
	}
	return printf("%s\n", buf_str(&text)) > 0 && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	CLEANUP(buf_done)
	struct buf input = BUF_INIT(INPUT_MAX);
	CLEANUP(conf_file_freep)
	struct conf_file *f = NULL;
	struct seen seen = { .data = BUF_INIT(DATA_MAX) };
	struct question q = { .url = NULL };
	struct conf_error e = { "" };
	int r;

	if (argc > 1) {
		bool help = strcmp(argv[1], "--help") == 0;

		if (strcmp(argv[1], "--version") == 0) {
			puts("selfright-gate " SELFRIGHT_VERSION);
			return EXIT_SUCCESS;
		}
		fputs(usage, help ? stdout : stderr);
		return help ? EXIT_SUCCESS : STATUS_USAGE;
	}
	r = buf_read(&input, STDIN_FILENO);
	if (r == 0)
		r = conf_parse(input.data, input.len, "question", &f, &e);
	if (r == 0)
		r = read_question(conf_root(f), &q, &e);
	if (r < 0) {
		fprintf(stderr, "selfright-gate: %s\n", e.text[0] ? e.text : err_text(r));
		gate_done(&q.gate);
		return STATUS_USAGE;
	}
	if (q.gate.kind == GATE_HTTP)
		look_at_page(&q, &seen);
	else if (q.gate.kind == GATE_PROMETHEUS)
		look_at_metric(&q, &seen);
	else if (q.gate.kind == GATE_ALERTS)
		look_at_alerts(&q, &seen);
	else if (q.gate.kind == GATE_COMMAND)
		run_command(&q, &seen);
	else
		cannot_tell(&seen, "a gate of kind %s looks at nothing outside", gate_kind_name(q.gate.kind));
	r = say(&seen);
	buf_done(&seen.data);
	gate_done(&q.gate);
	return r;
}
