#include "agent/probe/internal.h"
#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARGS_MAX = 24, JOURNAL_LINES_MAX = 5000, LOG_READ_MAX = 1024 * 1024, LOG_TAIL_BYTES = 256 * 1024 };

/* --- what this agent can do --- */

static bool host_is_numeric(const char *host)
{
	struct run_address addresses[RUN_ADDRESSES_MAX];

	return run_resolve(host, 1, addresses) > 0;
}

bool probe_supported(const struct release_check *check, const char **ret_why)
{
	switch (check->kind) {
	case CHECK_EXEC:
	case CHECK_UNIT:
	case CHECK_LINK:
	case CHECK_HTTP_GET:
	case CHECK_METRIC:
	case CHECK_LOG:
	case CHECK_STATUS:
		return true;
	case CHECK_TCP_SOCKET:
		if (strstr(check->tcp.host, "${") || host_is_numeric(check->tcp.host))
			return true;
		*ret_why = "tcpSocket reaches numeric addresses and localhost only, no names";
		return false;
	case CHECK_KIND_COUNT:
		break;
	}
	*ret_why = "this kind of check is not known to this agent";
	return false;
}

/* --- words --- */

static int expand(const struct probe_context *c, const char *text, char **ret)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(16 * 1024);
	int r = variables_expand(&c->variables, text, &out);

	if (r < 0)
		return r;
	*ret = out.data ? buf_take(&out) : strdup("");
	return *ret ? 0 : -ENOMEM;
}

/* With a '/' inside but not before it: below the release's own tree. */
static int expand_program(const struct probe_context *c, const char *text, char **ret)
{
	char *name = NULL;
	int r = expand(c, text, &name);

	if (r < 0)
		return r;
	if (name[0] != '/' && strchr(name, '/')) {
		r = asprintf(ret, "%s/%s", c->root, name) < 0 ? -ENOMEM : 0;
		free(name);
		return r;
	}
	*ret = name;
	return 0;
}

static int prepare_exec(const struct probe_context *c, struct probe *p)
{
	const struct string_list *argv = &p->status.check->exec.argv;
	int r;

	p->argv = calloc(argv->count + 1, sizeof(*p->argv));
	if (!p->argv)
		return -ENOMEM;
	r = expand_program(c, argv->items[0], &p->argv[0]);
	for (size_t i = 1; i < argv->count && r == 0; i++)
		r = expand(c, argv->items[i], &p->argv[i]);
	return r;
}

/* Up to the NULL: copied. */
static int prepare_words(struct probe *p, const char *const *words)
{
	size_t count = 0;

	while (words[count])
		count++;
	p->argv = calloc(count + 1, sizeof(*p->argv));
	for (size_t i = 0; p->argv && i < count; i++) {
		p->argv[i] = strdup(words[i]);
		if (!p->argv[i])
			return -ENOMEM;
	}
	return p->argv ? 0 : -ENOMEM;
}

static int prepare_unit(const struct probe_context *c, struct probe *p)
{
	const char *words[] = { c->systemctl ? c->systemctl : "systemctl", "is-active", p->status.check->unit,
				NULL };

	p->road = ROAD_PROGRAM;
	return prepare_words(p, words);
}

/* Absolute, or below `folder`. What a variable brought must not lead out of it. */
static int expand_file(const struct probe_context *c, const char *text, const char *folder, char **ret)
{
	char *name = NULL;
	int r = expand(c, text, &name);

	if (r == 0 && !guard_path(name[0] == '/' ? name + 1 : name))
		r = -ERR_FIELD_VALUE;
	if (r == 0 && name[0] != '/') {
		r = !folder ? -ERR_FIELD_VALUE : asprintf(ret, "%s/%s", folder, name) < 0 ? -ENOMEM : 0;
		free(name);
		return r;
	}
	if (r == 0)
		*ret = name;
	else
		free(name);
	return r;
}

static int prepare_address(const struct probe_context *c, const char *host_text, const char *port_text,
			   struct probe *p)
{
	char *host = NULL, *port = NULL;
	uint64_t number;
	int r = expand(c, host_text, &host);

	if (r == 0)
		r = expand(c, port_text, &port);
	if (r == 0 && (parse_u64(port, &number) < 0 || number < 1 || number > 65535))
		r = -ERR_FIELD_VALUE;
	if (r == 0) {
		p->address_count = run_resolve(host, (uint16_t) number, p->addresses);
		if (p->address_count == 0)
			r = -ERR_FIELD_VALUE;
	}
	free(host);
	free(port);
	return r;
}

/* A variable must not smuggle a second line into the request. */
static bool is_one_word(const char *s)
{
	for (; *s; s++)
		if ((unsigned char) *s <= 0x20 || *s == 0x7f)
			return false;
	return true;
}

/* --- HTTP --- */

struct http_words {
	char *host, *port, *path, *unix_socket, *ca, *server_name;
};

static void http_words_done(struct http_words *w)
{
	free(w->host);
	free(w->port);
	free(w->path);
	free(w->unix_socket);
	free(w->ca);
	free(w->server_name);
}

static int expand_http(const struct probe_context *c, const struct release_http *h, struct http_words *ret)
{
	int r = expand(c, h->host, &ret->host);

	if (r == 0 && h->port)
		r = expand(c, h->port, &ret->port);
	if (r == 0)
		r = expand(c, h->path, &ret->path);
	if (r == 0 && (ret->path[0] != '/' || !is_one_word(ret->path) || !is_one_word(ret->host)))
		r = -ERR_FIELD_VALUE;
	if (r == 0 && h->unix_socket)
		r = expand_file(c, h->unix_socket, c->data, &ret->unix_socket);
	if (r == 0 && h->ca)
		r = expand_file(c, h->ca, c->root, &ret->ca);
	if (r == 0 && h->server_name)
		r = expand(c, h->server_name, &ret->server_name);
	return r;
}

/* "Name: value", each ended by `newline`. */
static int add_headers(const struct probe_context *c, const struct release_http *h, const char *newline,
		       struct buf *out)
{
	int r = 0;

	for (size_t i = 0; i < h->header_count && r == 0; i++) {
		char *value = NULL;

		r = expand(c, h->headers[i].value, &value);
		for (const char *p = value; r == 0 && *p; p++)
			if ((unsigned char) *p < 0x20 || *p == 0x7f)
				r = -ERR_FIELD_VALUE; /* a variable must not smuggle in a second header */
		if (r == 0)
			r = buf_addf(out, "%s: %s%s", h->headers[i].name, value, newline);
		free(value);
	}
	return r;
}

static bool has_header(const struct release_http *h, const char *name)
{
	for (size_t i = 0; i < h->header_count; i++)
		if (strcasecmp(h->headers[i].name, name) == 0)
			return true;
	return false;
}

static int prepare_request(const struct probe_context *c, const struct http_words *w, struct probe *p)
{
	CLEANUP(buf_done)
	struct buf request = BUF_INIT(RUN_INPUT_MAX);
	const struct release_http *h = &p->status.check->http;
	int r = buf_addf(&request, "GET %s HTTP/1.1\r\n", w->path);

	if (r == 0 && !has_header(h, "Host"))
		r = buf_addf(&request, "Host: %s:%s\r\n", w->host, w->port);
	if (r == 0 && !has_header(h, "User-Agent"))
		r = buf_add_str(&request, "User-Agent: selfright/" SELFRIGHT_VERSION "\r\n");
	if (r == 0 && !has_header(h, "Accept"))
		r = buf_add_str(&request, "Accept: */*\r\n");
	if (r == 0)
		r = add_headers(c, h, "\r\n", &request);
	if (r == 0)
		r = buf_add_str(&request, "Connection: close\r\n\r\n");
	if (r < 0)
		return r;
	p->request = buf_take(&request);
	return 0;
}

static int prepare_https(const struct probe_context *c, const struct http_words *w, struct probe *p)
{
	CLEANUP(buf_done)
	struct buf url = BUF_INIT(8192);
	const struct release_check *check = p->status.check;
	const struct release_http *h = &check->http;
	const char *words[ARGS_MAX];
	char seconds[24], bytes[24];
	size_t n = 0;
	/* Numeric addresses of the sixth version want brackets in a URL. */
	bool brackets = strchr(w->host, ':') && w->host[0] != '[';
	int r = buf_addf(&url, "%s://%s%s%s%s%s%s", h->scheme, brackets ? "[" : "", w->host, brackets ? "]" : "",
			 w->port ? ":" : "", w->port ? w->port : "", w->path);

	if (r == 0)
		r = add_headers(c, h, "\n", &p->input);
	if (r < 0)
		return r;
	(void) snprintf(seconds, sizeof(seconds), "%llu", (unsigned long long) check->timeout_s);
	(void) snprintf(bytes, sizeof(bytes), "%d",
			check->kind == CHECK_METRIC ? METRIC_TEXT_MAX : PROBE_BODY_MAX);
	words[n++] = c->helper ? c->helper : "selfright-probe";
	words[n++] = "http";
	words[n++] = buf_str(&url);
	words[n++] = "--timeout";
	words[n++] = seconds;
	words[n++] = "--max-bytes";
	words[n++] = bytes;
	if (w->unix_socket) {
		words[n++] = "--unix-socket";
		words[n++] = w->unix_socket;
	}
	if (w->ca) {
		words[n++] = "--ca";
		words[n++] = w->ca;
	}
	if (w->server_name) {
		words[n++] = "--server-name";
		words[n++] = w->server_name;
	}
	if (h->insecure_skip_verify)
		words[n++] = "--insecure";
	words[n] = NULL;
	p->road = ROAD_HELPER;
	return prepare_words(p, words);
}

static int prepare_http(const struct probe_context *c, struct probe *p)
{
	CLEANUP(http_words_done)
	struct http_words w = { 0 };
	const struct release_check *check = p->status.check;
	const struct release_http *h = &check->http;
	int r = expand_http(c, h, &w);

	if (r == 0 && h->expect_body)
		r = expand(c, h->expect_body, &p->expect_body);
	p->expect = (struct http_expect){ .status = h->expect_status,
					  .body = p->expect_body,
					  .whole = check->kind == CHECK_METRIC,
					  .body_max = check->kind == CHECK_METRIC ? METRIC_TEXT_MAX : 0 };
	if (r < 0)
		return r;
	/* What needs TLS, a resolver, or somebody's permission, is not done by root. */
	if (w.unix_socket || strcmp(h->scheme, "https") == 0 || !host_is_numeric(w.host)) {
		uint64_t number;

		if (w.port && (parse_u64(w.port, &number) < 0 || number < 1 || number > 65535))
			return -ERR_FIELD_VALUE;
		return prepare_https(c, &w, p);
	}
	p->road = ROAD_TALK;
	r = prepare_address(c, h->host, h->port, p);
	return r < 0 ? r : prepare_request(c, &w, p);
}

/* --- files, through the helper --- */

static int prepare_read(const struct probe_context *c, struct probe *p, const char *file, const char *const *more)
{
	const char *words[ARGS_MAX];
	size_t n = 0;

	words[n++] = c->helper ? c->helper : "selfright-probe";
	words[n++] = "read";
	words[n++] = file;
	for (; *more && n + 1 < ARGS_MAX; more++)
		words[n++] = *more;
	words[n] = NULL;
	p->road = ROAD_HELPER;
	return prepare_words(p, words);
}

static int prepare_file(const struct probe_context *c, struct probe *p, const char *text, size_t max)
{
	char bytes[24], *file = NULL;
	const char *const more[] = { "--max-bytes", bytes, NULL };
	int r = expand_file(c, text, c->data, &file);

	(void) snprintf(bytes, sizeof(bytes), "%zu", max);
	if (r == 0)
		r = prepare_read(c, p, file, more);
	free(file);
	return r;
}

static int prepare_metric(const struct probe_context *c, struct probe *p)
{
	const struct release_metric *m = &p->status.check->metric;
	int r;

	p->select = calloc(1, sizeof(*p->select));
	p->of = m->of ? calloc(1, sizeof(*p->of)) : NULL;
	p->window = calloc(1, sizeof(*p->window));
	if (!p->select || !p->window || (m->of && !p->of))
		return -ENOMEM;
	r = selector_parse(m->select, p->select);
	if (r == 0 && m->of)
		r = selector_parse(m->of, p->of);
	if (r < 0)
		return r;
	return m->file ? prepare_file(c, p, m->file, METRIC_TEXT_MAX) : prepare_http(c, p);
}

/* --- logs --- */

static void forget_words(struct probe *p)
{
	for (size_t k = 0; p->argv && p->argv[k]; k++)
		free(p->argv[k]);
	free(p->argv);
	p->argv = NULL;
}

static int prepare_journal(const struct probe_context *c, struct probe *p)
{
	char lines[24], since[40];
	const char *words[] = { c->journalctl ? c->journalctl : "journalctl",
				"--quiet",
				"--no-pager",
				"--output=short-unix",
				"--unit",
				p->status.check->log.unit,
				"--lines",
				lines,
				NULL,
				NULL };

	(void) snprintf(lines, sizeof(lines), "%d", JOURNAL_LINES_MAX);
	/* Whole seconds, and one to spare: what is older than the newest line seen is passed over. */
	if (p->place.known && p->kinds->run_count > 0) {
		(void) snprintf(since, sizeof(since), "--since=@%llu",
				(unsigned long long) (p->place.us / 1000000));
		words[ARRAY_LEN(words) - 2] = since;
	}
	p->road = ROAD_PROGRAM;
	return prepare_words(p, words);
}

int probe_prepare_log(const struct probe_context *c, struct probe *p)
{
	char inode[24], offset[24], bytes[24], tail[24];
	/* The first run reads the end of what stood there before as well. */
	const char *more[] = { "--max-bytes", bytes, "--tail", tail, "--inode", inode, "--offset", offset, NULL };

	forget_words(p);
	if (p->status.check->log.unit)
		return prepare_journal(c, p);
	(void) snprintf(bytes, sizeof(bytes), "%d", LOG_READ_MAX);
	(void) snprintf(tail, sizeof(tail), "%d", p->kinds->run_count == 0 ? LOG_TAIL_BYTES : 0);
	(void) snprintf(inode, sizeof(inode), "%llu", (unsigned long long) p->place.inode);
	(void) snprintf(offset, sizeof(offset), "%llu", (unsigned long long) p->place.offset);
	if (!p->place.known)
		more[4] = NULL;
	return prepare_read(c, p, p->log_file, more);
}

static int prepare_log(const struct probe_context *c, struct probe *p)
{
	const struct release_log *log = &p->status.check->log;
	int r;

	p->kinds = calloc(1, sizeof(*p->kinds));
	if (!p->kinds)
		return -ENOMEM;
	if (log->file) {
		r = expand_file(c, log->file, c->data, &p->log_file);
		if (r < 0)
			return r;
	}
	p->program.head_max = LOG_READ_MAX + LOG_TAIL_BYTES + 1024;
	return probe_prepare_log(c, p);
}

static int prepare_status(const struct probe_context *c, struct probe *p)
{
	const struct release_status *s = &p->status.check->status;

	p->program.head_max = STATUS_TEXT_MAX + 256;
	if (s->file)
		return prepare_file(c, p, s->file, STATUS_TEXT_MAX);
	p->road = ROAD_PROGRAM;
	return prepare_exec(c, p);
}

/* --- all of them --- */

int probe_prepare(const struct probe_context *c, struct probe *p)
{
	const struct release_check *check = p->status.check;
	const char *why;
	int r;

	if (!probe_supported(check, &why))
		return -ERR_AGENT_TOO_OLD;
	switch (check->kind) {
	case CHECK_EXEC:
		p->road = ROAD_PROGRAM;
		return prepare_exec(c, p);
	case CHECK_UNIT:
		return prepare_unit(c, p);
	case CHECK_HTTP_GET:
		p->program.head_max = PROBE_BODY_MAX + 1024;
		return prepare_http(c, p);
	case CHECK_TCP_SOCKET:
		p->road = ROAD_TALK;
		return prepare_address(c, check->tcp.host, check->tcp.port, p);
	case CHECK_METRIC:
		p->program.head_max = METRIC_TEXT_MAX + 1024;
		r = prepare_metric(c, p);
		return r == -ERR_SYNTAX ? -ERR_FIELD_VALUE : r;
	case CHECK_LOG:
		return prepare_log(c, p);
	case CHECK_STATUS:
		return prepare_status(c, p);
	case CHECK_LINK:
	case CHECK_KIND_COUNT:
		break;
	}
	p->road = ROAD_CALLER;
	return 0;
}

void probe_release(struct probe *p)
{
	run_program_done(&p->program);
	run_talk_done(&p->talk);
	forget_words(p);
	free(p->request);
	free(p->expect_body);
	free(p->select);
	free(p->of);
	free(p->window);
	free(p->kinds);
	free(p->log_file);
	buf_done(&p->input);
	buf_done(&p->detail);
}
