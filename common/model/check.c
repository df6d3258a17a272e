#include "model/check.h"

#include "base/err.h"
#include "json/build.h"
#include "json/json.h"
#include "model/selector.h"
#include "model/variables.h"
#include "model/write.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* What looks like an error when a release does not say. */
static const char *const default_match[] = { "error", "fatal",	   "panic",	"crit",	   "alert",
					     "emerg", "exception", "traceback", "segfault" };

static const char *const check_kind_names[CHECK_KIND_COUNT] = {
	[CHECK_EXEC] = "exec", [CHECK_HTTP_GET] = "httpGet", [CHECK_TCP_SOCKET] = "tcpSocket",
	[CHECK_UNIT] = "unit", [CHECK_METRIC] = "metric",    [CHECK_LOG] = "log",
	[CHECK_LINK] = "link", [CHECK_STATUS] = "status",
};

const char *check_kind_name(enum check_kind kind)
{
	return (unsigned) kind < CHECK_KIND_COUNT ? check_kind_names[kind] : "unknown";
}

/* --- expected statuses --- */

/* "200-299,404": the next range, or -1. */
static int next_range(const char **s, unsigned *from, unsigned *to)
{
	unsigned *ends[] = { from, to };

	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		if (strspn(*s, "0123456789") != 3)
			return -1;
		*ends[i] = (unsigned) strtoul(*s, NULL, 10);
		*s += 3;
		if (i == 0 && **s != '-') {
			*to = *from;
			break;
		}
		if (i == 0)
			(*s)++;
	}
	if (*from < 100 || *to > 599 || *from > *to)
		return -1;
	if (**s == ',' && (*s)[1] != '\0')
		(*s)++;
	else if (**s != '\0')
		return -1;
	return 0;
}

static bool is_status_list(const char *s)
{
	unsigned from, to;

	if (!*s)
		return false;
	while (*s)
		if (next_range(&s, &from, &to) < 0)
			return false;
	return true;
}

bool check_status_is_expected(const char *ranges, unsigned status)
{
	unsigned from, to;

	if (!ranges)
		return status >= 200 && status <= 399;
	while (*ranges && next_range(&ranges, &from, &to) == 0)
		if (status >= from && status <= to)
			return true;
	return false;
}

/* --- the guards --- */

static bool is_port(const char *s)
{
	uint64_t port;

	return strstr(s, "${") ? variables_are_fine(s) : parse_u64(s, &port) == 0 && port >= 1 && port <= 65535;
}

static bool is_url_path(const char *s)
{
	if (s[0] != '/' && !str_starts(s, "${"))
		return false;
	for (const char *p = s; *p; p++)
		if ((unsigned char) *p <= 0x20 || (unsigned char) *p >= 0x7f)
			return false;
	return variables_are_fine(s);
}

static bool is_host(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:-_${}");

	return n > 0 && s[n] == '\0' && variables_are_fine(s);
}

/* A path, relative or absolute, that stays where it points to. */
static bool is_file(const char *s)
{
	char plain[1025];
	size_t n = 0;

	if (!variables_are_fine(s) || strlen(s) >= sizeof(plain))
		return false;
	/* What a variable brings is looked at when it is known; here a letter stands for it. */
	for (const char *p = s[0] == '/' ? s + 1 : s; *p;) {
		if (p[0] == '$' && p[1] == '{') {
			p = strchr(p, '}') + 1;
			plain[n++] = 'v';
		} else {
			plain[n++] = *p++;
		}
	}
	plain[n] = '\0';
	return guard_path(plain);
}

/* RFC 9110 5.6.2; what we say ourselves is not for a release to say. */
static bool is_header_name(const char *s)
{
	static const char *const ours[] = { "Connection", "Content-Length", "Transfer-Encoding", "Upgrade", "TE" };
	size_t n = strspn(s, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");

	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		if (strcasecmp(ours[i], s) == 0)
			return false;
	return n > 0 && s[n] == '\0';
}

static bool is_header_value(const char *s)
{
	for (const char *p = s; *p; p++)
		if ((unsigned char) *p < 0x20 || (unsigned char) *p >= 0x7f)
			return false;
	return variables_are_fine(s);
}

static bool is_selector(const char *s)
{
	struct selector selector;

	return selector_parse(s, &selector) == 0;
}

/* Digits, at most one point, no sign and no exponent: the same number for everybody who reads it. */
static bool is_decimal(const char *s)
{
	size_t whole = strspn(s, "0123456789");

	if (whole == 0 || whole > 15)
		return false;
	if (s[whole] == '\0')
		return true;
	return s[whole] == '.' && s[whole + 1] != '\0' && strlen(s + whole + 1) <= 9 &&
	       strspn(s + whole + 1, "0123456789") == strlen(s + whole + 1);
}

/* The same, and below zero as well: a temperature may be. */
static bool is_bound(const char *s)
{
	return is_decimal(s[0] == '-' ? s + 1 : s);
}

static bool is_needle(const char *s)
{
	for (const char *p = s; *p; p++)
		if ((unsigned char) *p < 0x20 || (unsigned char) *p == 0x7f)
			return false;
	return *s != '\0';
}

#define WITH_VARIABLES "without ${...} other than ${vars.NAME}, ${node.id} and ${root}"

static const struct text_rule rule_port = { 128, is_port, "a port from 1 to 65535, or a variable" };
static const struct text_rule rule_url_path = { 2048, is_url_path,
						"a path that starts with '/' and has no blanks" };
static const struct text_rule rule_host = { 255, is_host, "an address or a name" };
static const struct text_rule rule_body = { 4096, variables_are_fine, WITH_VARIABLES };
static const struct text_rule rule_file = { 1024, is_file, "a path without \"..\"" };
static const struct text_rule rule_status = { 128, is_status_list, "statuses, as 200-299,404" };
static const struct text_rule rule_header = { 64, is_header_name,
					      "the name of a header (and none that says where a message ends)" };
static const struct text_rule rule_header_value = { 1024, is_header_value, "one line of ASCII" };
static const struct text_rule rule_selector = { SELECTOR_MAX_BYTES, is_selector,
						"a selector, as http_requests_total{code=~\"5..\"}" };
static const struct text_rule rule_decimal = { 32, is_decimal, "a decimal number, as 0.05" };
static const struct text_rule rule_bound = { 32, is_bound, "a decimal number, as 0.05" };
static const struct text_rule rule_needle = { 256, is_needle, "one line of text" };

/* --- reading --- */

/* Kubernetes takes a port as a number or a string. */
static char *parse_port(struct fields *f, const char *name, bool required)
{
	char text[24];

	if (!json_is(json_get(f->object, name), JSON_INTEGER))
		return field_text(f, name, &rule_port, required);
	(void) snprintf(text, sizeof(text), "%llu",
			(unsigned long long) field_need_u64(f, name, 1, 65535)); /* 20 digits at most */
	return field_strdup(f, text);
}

/* The one kind the check has, or -1. */
static int parse_kind(struct fields *f)
{
	static const char *const others[] = { "name",
					      "initialDelaySeconds",
					      "periodSeconds",
					      "timeoutSeconds",
					      "successThreshold",
					      "failureThreshold",
					      "deadlineSeconds",
					      "after",
					      "required",
					      "must_fix" };
	int kind = -1;
	bool newer = false;

	if (!field_ok(f))
		return -1;
	for (int k = 0; k < CHECK_KIND_COUNT; k++) {
		if (!field_has(f, check_kind_names[k]))
			continue;
		if (kind >= 0) {
			field_fail(f, -ERR_FIELD_VALUE, NULL, "has two kinds, %s and %s", check_kind_names[kind],
				   check_kind_names[k]);
			return -1;
		}
		kind = k;
	}
	for (size_t i = 0; kind < 0 && i < json_count(f->object); i++) {
		size_t k = 0;

		while (k < ARRAY_LEN(others) && strcmp(others[k], json_name_at(f->object, i)) != 0)
			k++;
		newer = newer || k == ARRAY_LEN(others);
	}
	if (kind < 0)
		field_fail(f, newer ? -ERR_AGENT_TOO_OLD : -ERR_FIELD_MISSING, NULL,
			   "has no kind this agent knows (exec, httpGet, tcpSocket, unit, metric, log, link, "
			   "status)");
	return kind;
}

static void parse_headers(struct fields *body, struct release_http *ret)
{
	size_t n = fields_count(body, "httpHeaders", 0, CHECK_HEADERS_MAX);

	ret->headers = field_alloc(body, n, sizeof(*ret->headers));
	for (size_t i = 0; i < n && field_ok(body); i++) {
		struct fields h = field_element(body, "httpHeaders", i);
		struct release_header *header = &ret->headers[ret->header_count++];

		header->name = field_text(&h, "name", &rule_header, true);
		header->value = field_text(&h, "value", &rule_header_value, true);
	}
}

static void parse_http(struct fields *body, struct release_http *ret)
{
	static const char *const schemes[] = { "http", "https" };
	bool tls = field_choice(body, "scheme", schemes, ARRAY_LEN(schemes), 0) == 1;

	ret->scheme = field_strdup(body, schemes[tls]);
	ret->unix_socket = field_text(body, "unixSocket", &rule_file, false);
	ret->host = field_text_or(body, "host", &rule_host, ret->unix_socket ? "localhost" : "127.0.0.1");
	ret->port = parse_port(body, "port", !ret->unix_socket);
	ret->path = field_text_or(body, "path", &rule_url_path, "/");
	parse_headers(body, ret);
	ret->expect_status = field_text(body, "expectStatus", &rule_status, false);
	ret->expect_body = field_text(body, "expectBody", &rule_body, false);
	ret->ca = field_text(body, "ca", &rule_file, false);
	ret->server_name = field_text(body, "serverName", &rule_host, false);
	ret->insecure_skip_verify = field_bool(body, "insecureSkipVerify", false);
	if (!tls && (ret->ca || ret->server_name || ret->insecure_skip_verify))
		field_fail(body, -ERR_FIELD_VALUE, NULL,
			   "names ca, serverName or insecureSkipVerify, which need scheme https");
	if (ret->insecure_skip_verify && (ret->ca || ret->server_name))
		field_fail(body, -ERR_FIELD_VALUE, NULL,
			   "has insecureSkipVerify, which verifies neither ca nor serverName");
}

static void parse_metric(struct fields *body, struct release_check *ret)
{
	struct release_metric *m = &ret->metric;

	m->file = field_text(body, "file", &rule_file, false);
	if (!m->file)
		parse_http(body, &ret->http);
	m->select = field_text(body, "select", &rule_selector, true);
	m->of = field_text(body, "of", &rule_selector, false);
	m->rate = field_bool(body, "rate", false);
	m->absent_is_zero = field_bool(body, "absentIsZero", false);
	m->min = field_text(body, "min", &rule_bound, false);
	m->max = field_text(body, "max", &rule_bound, false);
	m->min_of_before = field_text(body, "minOfBefore", &rule_decimal, false);
	m->max_of_before = field_text(body, "maxOfBefore", &rule_decimal, false);
	m->min_samples = field_u64(body, "minSamples", 1, 1000 * 1000, 1);
	m->before_s = field_u64(body, "beforeSeconds", 1, 3600, 60);
	if (field_ok(body) && !m->min && !m->max && !m->min_of_before && !m->max_of_before)
		field_fail(body, -ERR_FIELD_MISSING, NULL, "needs one of min, max, minOfBefore and maxOfBefore");
	if (m->rate && m->of)
		field_fail(body, -ERR_FIELD_VALUE, NULL,
			   "has rate and of; with of, increases are compared already");
}

static void default_words(struct fields *f, struct string_list *ret)
{
	for (size_t i = 0; field_ok(f) && i < ARRAY_LEN(default_match); i++)
		if (string_list_add(ret, default_match[i]) < 0)
			field_fail(f, -ENOMEM, "match", "finds no memory");
}

static void parse_log(struct fields *body, struct release_log *ret)
{
	ret->unit = field_text(body, "unit", &rule_unit, false);
	ret->file = field_text(body, "file", &rule_file, false);
	if (field_ok(body) && (ret->unit != NULL) == (ret->file != NULL))
		field_fail(body, -ERR_FIELD_VALUE, NULL, "needs exactly one of unit and file");
	field_text_list(body, "match", &rule_needle, 0, CHECK_WORDS_MAX, &ret->match);
	if (ret->match.count == 0)
		default_words(body, &ret->match);
	field_text_list(body, "ignore", &rule_needle, 0, CHECK_WORDS_MAX, &ret->ignore);
	ret->max_per_minute = field_u64(body, "maxPerMinute", 0, 1000 * 1000, UINT64_MAX);
	/* Who bounds nothing wants to hear of what is new. */
	ret->max_new_kinds =
		field_u64(body, "maxNewKinds", 0, 1000, ret->max_per_minute == UINT64_MAX ? 0 : UINT64_MAX);
}

static void parse_status(struct fields *body, struct release_check *ret)
{
	ret->status.file = field_text(body, "file", &rule_file, false);
	ret->status.accept_degraded = field_bool(body, "acceptDegraded", false);
	if (!ret->status.file)
		command_fields_parse(body, true, &ret->exec);
	else if (field_has(body, "command"))
		field_fail(body, -ERR_FIELD_VALUE, NULL, "needs exactly one of file and command");
}

static void parse_body(struct fields *f, struct release_check *ret)
{
	struct fields body = { .error = f->error };

	if (ret->kind == CHECK_UNIT) {
		ret->unit = field_text(f, "unit", &rule_unit, true);
		return;
	}
	body = field_object(f, check_kind_names[ret->kind], true);
	switch (ret->kind) {
	case CHECK_EXEC:
		command_fields_parse(&body, true, &ret->exec);
		break;
	case CHECK_HTTP_GET:
		parse_http(&body, &ret->http);
		break;
	case CHECK_TCP_SOCKET:
		ret->tcp.host = field_text_or(&body, "host", &rule_host, "127.0.0.1");
		ret->tcp.port = parse_port(&body, "port", true);
		break;
	case CHECK_METRIC:
		parse_metric(&body, ret);
		break;
	case CHECK_LOG:
		parse_log(&body, &ret->log);
		break;
	case CHECK_STATUS:
		parse_status(&body, ret);
		break;
	case CHECK_UNIT:
	case CHECK_LINK:
	case CHECK_KIND_COUNT:
		break; /* nothing more to say */
	}
}

void check_parse(struct fields *f, struct release_check *ret)
{
	int kind = parse_kind(f);

	ret->name = field_text(f, "name", &rule_id, true);
	if (kind < 0)
		return;
	ret->kind = (enum check_kind) kind;
	parse_body(f, ret);
	field_text_list(f, "after", &rule_id, 0, RELEASE_CHECKS_MAX, &ret->after);
	ret->deadline_s = field_u64(f, "deadlineSeconds", 0, 24 * 3600, 300);
	ret->initial_delay_s = field_u64(f, "initialDelaySeconds", 0, 24 * 3600, 0);
	ret->period_s = field_u64(f, "periodSeconds", 1, 3600, 10);
	ret->timeout_s = field_u64(f, "timeoutSeconds", 1, 3600, 1);
	ret->success_threshold = field_u64(f, "successThreshold", 1, 100, 1);
	ret->failure_threshold = field_u64(f, "failureThreshold", 1, 100, 3);
	ret->required = field_bool(f, "required", true);
	ret->must_fix = field_bool(f, "must_fix", false);
}

/* --- releasing --- */

static void http_done(struct release_http *h)
{
	free(h->scheme);
	free(h->host);
	free(h->port);
	free(h->path);
	free(h->unix_socket);
	for (size_t i = 0; i < h->header_count; i++) {
		free(h->headers[i].name);
		free(h->headers[i].value);
	}
	free(h->headers);
	free(h->expect_status);
	free(h->expect_body);
	free(h->ca);
	free(h->server_name);
}

void check_done(struct release_check *c)
{
	free(c->name);
	release_command_done(&c->exec);
	http_done(&c->http);
	free(c->tcp.host);
	free(c->tcp.port);
	free(c->unit);
	free(c->metric.file);
	free(c->metric.select);
	free(c->metric.of);
	free(c->metric.min);
	free(c->metric.max);
	free(c->metric.min_of_before);
	free(c->metric.max_of_before);
	free(c->log.unit);
	free(c->log.file);
	string_list_done(&c->log.match);
	string_list_done(&c->log.ignore);
	free(c->status.file);
	string_list_done(&c->after);
}

/* --- writing --- */

static void write_http(const struct release_http *h, struct json_node *body)
{
	struct json_node *headers;

	write_text(body, "scheme", h->scheme);
	write_text(body, "host", h->host);
	write_text(body, "port", h->port);
	write_text(body, "path", h->path);
	write_text(body, "unixSocket", h->unix_socket);
	if (h->header_count > 0) {
		headers = node_array(body, "httpHeaders");
		for (size_t i = 0; i < h->header_count; i++) {
			struct json_node *o = node_object(headers, NULL);

			node_string(o, "name", h->headers[i].name);
			node_string(o, "value", h->headers[i].value);
		}
	}
	write_text(body, "expectStatus", h->expect_status);
	write_text(body, "expectBody", h->expect_body);
	write_text(body, "ca", h->ca);
	write_text(body, "serverName", h->server_name);
	if (h->insecure_skip_verify)
		node_bool(body, "insecureSkipVerify", true);
}

static void write_metric(const struct release_check *c, struct json_node *body)
{
	const struct release_metric *m = &c->metric;

	write_text(body, "file", m->file);
	if (!m->file)
		write_http(&c->http, body);
	write_text(body, "select", m->select);
	write_text(body, "of", m->of);
	node_bool(body, "rate", m->rate);
	node_bool(body, "absentIsZero", m->absent_is_zero);
	write_text(body, "min", m->min);
	write_text(body, "max", m->max);
	write_text(body, "minOfBefore", m->min_of_before);
	write_text(body, "maxOfBefore", m->max_of_before);
	write_u64(body, "minSamples", m->min_samples);
	write_u64(body, "beforeSeconds", m->before_s);
}

static void write_log(const struct release_log *l, struct json_node *body)
{
	write_text(body, "unit", l->unit);
	write_text(body, "file", l->file);
	write_list(body, "match", &l->match);
	write_list(body, "ignore", &l->ignore);
	if (l->max_per_minute != UINT64_MAX)
		write_u64(body, "maxPerMinute", l->max_per_minute);
	if (l->max_new_kinds != UINT64_MAX)
		write_u64(body, "maxNewKinds", l->max_new_kinds);
}

static void write_body(const struct release_check *c, struct json_node *o)
{
	struct json_node *body;

	if (c->kind == CHECK_UNIT) {
		node_string(o, "unit", c->unit);
		return;
	}
	body = node_object(o, check_kind_name(c->kind));
	switch (c->kind) {
	case CHECK_EXEC:
		command_fields_write(body, &c->exec);
		break;
	case CHECK_HTTP_GET:
		write_http(&c->http, body);
		break;
	case CHECK_TCP_SOCKET:
		write_text(body, "host", c->tcp.host);
		write_text(body, "port", c->tcp.port);
		break;
	case CHECK_METRIC:
		write_metric(c, body);
		break;
	case CHECK_LOG:
		write_log(&c->log, body);
		break;
	case CHECK_STATUS:
		write_text(body, "file", c->status.file);
		node_bool(body, "acceptDegraded", c->status.accept_degraded);
		if (!c->status.file)
			command_fields_write(body, &c->exec);
		break;
	case CHECK_UNIT:
	case CHECK_LINK:
	case CHECK_KIND_COUNT:
		break;
	}
}

void check_write(const struct release_check *c, struct json_node *o)
{
	node_string(o, "name", c->name);
	write_body(c, o);
	if (c->after.count > 0)
		write_list(o, "after", &c->after);
	write_u64(o, "deadlineSeconds", c->deadline_s);
	write_u64(o, "initialDelaySeconds", c->initial_delay_s);
	write_u64(o, "periodSeconds", c->period_s);
	write_u64(o, "timeoutSeconds", c->timeout_s);
	write_u64(o, "successThreshold", c->success_threshold);
	write_u64(o, "failureThreshold", c->failure_threshold);
	node_bool(o, "required", c->required);
	node_bool(o, "must_fix", c->must_fix);
}
