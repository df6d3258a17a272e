#include "server-stub/web/web.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "base/text.h"
#include "json/build.h"
#include "os/durable.h"
#include "os/unixsock.h"
#include "server-stub/web/file.h"
#include "server-stub/web/internal.h"
#include "server-stub/web/upload.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	DEFAULT_CONNECTIONS = 1000,
	DEFAULT_PER_ADDRESS = 200,
	DEFAULT_IDLE_S = 60,
	DEFAULT_REQUEST_S = 30,
	MEMORY_PER_CONNECTION = 32 * 1024,
	SWALLOWED_MAX = 8 * 1024 * 1024, /* of a body that is too large, to be able to say so */
	BACKLOG = 512,
	ERROR_TEXT = 1024,
};

#define DEFAULT_UPLOAD (UINT64_C(8) * 1024 * 1024 * 1024)

/* One client's connection; kept to end those that only pretend to send a request. */
struct connection {
	struct connection *next, *previous;
	int fd;
	uint64_t since_ms; /* of the head or body we wait for */
	bool answering; /* the request is whole, or an upload: no deadline of ours */
};

struct listener {
	struct web *web;
	struct MHD_Daemon *daemon;
	enum web_origin origin;
	int epoll_fd;
	unsigned connections;
	int spare_fd; /* the socket of a daemon that is not (daemon NULL) */
};

struct web {
	struct web_options options;
	struct listener listeners[WEB_LISTENERS_MAX];
	size_t listener_count;
	struct connection *connections;
	struct web_request *waiting;
	struct web_stats stats;
	char *unix_path;
};

static uint64_t now_ms(const struct web *w)
{
	return w->options.os->clock_boot_ms(w->options.os);
}

/* --- routes --- */

static bool match(const char *pattern, const char *path, struct web_request *rq)
{
	rq->arg_count = 0;
	while (*pattern && *path) {
		if (strcmp(pattern, "**") == 0) {
			if (rq->arg_count == WEB_ARGS_MAX || *path == '\0')
				return false;
			rq->args[rq->arg_count] = strdup(path);
			return rq->args[rq->arg_count] ? (rq->arg_count++, true) : false;
		}
		if (*pattern == '*') {
			size_t len = strcspn(path, "/");

			if (len == 0 || rq->arg_count == WEB_ARGS_MAX)
				return false;
			rq->args[rq->arg_count] = strndup(path, len);
			if (!rq->args[rq->arg_count])
				return false;
			rq->arg_count++;
			pattern++;
			path += len;
		} else if (*pattern++ != *path++) {
			return false;
		}
	}
	return !*pattern && !*path;
}

static void drop_args(struct web_request *rq)
{
	for (size_t i = 0; i < rq->arg_count; i++) {
		free(rq->args[i]);
		rq->args[i] = NULL;
	}
	rq->arg_count = 0;
}

/* The route, or NULL and the status that says why not. */
static const struct web_route *find_route(struct web_request *rq, const char *method, const char *path,
					  unsigned *ret_status)
{
	bool other_method = false;

	for (const struct web_route *route = rq->web->options.routes; route->method; route++) {
		if (!(route->origins & (unsigned) rq->origin) || !match(route->pattern, path, rq)) {
			drop_args(rq);
			continue;
		}
		if (strcmp(route->method, method) == 0 || (rq->head && strcmp(route->method, "GET") == 0))
			return route;
		drop_args(rq);
		other_method = true;
	}
	*ret_status = other_method ? MHD_HTTP_METHOD_NOT_ALLOWED : MHD_HTTP_NOT_FOUND;
	return NULL;
}

/* --- requests --- */

static struct connection *connection_of(struct MHD_Connection *mhd)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info ? info->socket_context : NULL;
}

static void request_free(struct web_request *rq)
{
	if (!rq)
		return;
	for (struct web_request **p = &rq->web->waiting; *p; p = &(*p)->next_waiting)
		if (*p == rq) {
			*p = rq->next_waiting;
			break;
		}
	drop_args(rq);
	upload_abort(&rq->upload);
	buf_done(&rq->body);
	if (rq->note && rq->note_done)
		rq->note_done(rq->note);
	free(rq->note);
	free(rq);
}

void web_send(struct web_request *rq, unsigned status, struct MHD_Response *response)
{
	if (rq->replied) {
		if (response)
			MHD_destroy_response(response);
		return;
	}
	rq->replied = true;
	if (status >= 400)
		rq->web->stats.failures++;
	if (!response) {
		rq->refused = true; /* out of memory: the connection is cut */
		return;
	}
	if (MHD_queue_response(rq->mhd, status, response) != MHD_YES)
		rq->refused = true;
	MHD_destroy_response(response);
}

/* For a browser: only our own script and style, no frames around us, nothing told to others. */
static void forbid(struct MHD_Response *response)
{
	static const char policy[] =
		"default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
		"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

	(void) MHD_add_response_header(response, "Content-Security-Policy", policy);
	(void) MHD_add_response_header(response, "X-Frame-Options", "DENY");
	(void) MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
	(void) MHD_add_response_header(response, "Cross-Origin-Resource-Policy", "same-origin");
}

void web_reply(struct web_request *rq, unsigned status, const char *content_type, const void *body, size_t len)
{
	struct MHD_Response *response =
		MHD_create_response_from_buffer(len, (void *) (uintptr_t) body, MHD_RESPMEM_MUST_COPY);

	if (response) {
		/* A header that cannot be added only makes the answer less convenient. */
		(void) MHD_add_response_header(response, "Content-Type", content_type);
		(void) MHD_add_response_header(response, "Cache-Control", "no-store");
		(void) MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
		if (rq->origin == WEB_LOCAL)
			forbid(response);
	}
	web_send(rq, status, response);
}

void web_fail(struct web_request *rq, unsigned status, const char *fmt, ...)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(8 * ERROR_TEXT);
	char sentence[ERROR_TEXT];
	va_list args;

	va_start(args, fmt);
	vsnprintf(sentence, sizeof(sentence), fmt, args);
	va_end(args);
	node_string(json_build_root(b), "error", sentence);
	if (json_build_text(b, false, &text) < 0) {
		static const char plain[] = "{\"error\":\"the request failed\"}";

		web_reply(rq, status, "application/json", plain, sizeof(plain) - 1);
		return;
	}
	web_reply(rq, status, "application/json", text.data, text.len);
}

enum web_origin web_origin(const struct web_request *rq)
{
	return rq->origin;
}

const char *web_arg(const struct web_request *rq, size_t index)
{
	return index < rq->arg_count ? rq->args[index] : NULL;
}

const char *web_query(struct web_request *rq, const char *name)
{
	return MHD_lookup_connection_value(rq->mhd, MHD_GET_ARGUMENT_KIND, name);
}

const char *web_header(struct web_request *rq, const char *name)
{
	return MHD_lookup_connection_value(rq->mhd, MHD_HEADER_KIND, name);
}

const void *web_body(const struct web_request *rq, size_t *ret_len)
{
	*ret_len = rq->body.len;
	return buf_str(&rq->body);
}

bool web_is_head(const struct web_request *rq)
{
	return rq->head;
}

void *web_note(struct web_request *rq, size_t size, void (*done)(void *note))
{
	if (!rq->note) {
		rq->note = calloc(1, size);
		rq->note_done = done;
	}
	return rq->note;
}

void web_file(struct web_request *rq, int dirfd, const char *path)
{
	file_answer(rq, rq->web->options.os, dirfd, path);
}

bool web_wait(struct web_request *rq, uint64_t timeout_ms)
{
	uint64_t now = now_ms(rq->web);

	if (rq->wait_until_ms == 0)
		rq->wait_until_ms = now + timeout_ms;
	if (now >= rq->wait_until_ms)
		return false;
	rq->suspend = true;
	return true;
}

/* The route's limit against what the client announces. */
static bool announced_too_large(struct web_request *rq, uint64_t limit)
{
	const char *length = MHD_lookup_connection_value(rq->mhd, MHD_HEADER_KIND, "Content-Length");
	uint64_t v;

	return length && (parse_u64(length, &v) < 0 || v > limit);
}

static uint64_t body_limit(const struct web_request *rq)
{
	return rq->route->flags & WEB_UPLOAD ? rq->web->options.max_upload : rq->route->max_body;
}

/* "localhost" or "127.0.0.1", with any port: the one we have may be forwarded from another. */
static bool is_local_name(const char *host)
{
	size_t len = host ? strcspn(host, ":") : 0;

	if (!host || (host[len] == ':' && strspn(host + len + 1, "0123456789") != strlen(host + len + 1)))
		return false;
	return (len == 9 && strncmp(host, "localhost", len) == 0) ||
	       (len == 9 && strncmp(host, "127.0.0.1", len) == 0);
}

/* Everything that can be said after the head. False: an answer is queued. */
static bool begin_request(struct web_request *rq, const char *method, const char *path)
{
	unsigned status = 0;

	if (rq->origin == WEB_LOCAL && !is_local_name(web_header(rq, "Host"))) {
		web_fail(rq, MHD_HTTP_FORBIDDEN, "this page is only for localhost and 127.0.0.1");
		return false;
	}
	if (strcmp(path, "/") != 0 && (path[0] != '/' || !guard_path(path + 1))) {
		web_fail(rq, MHD_HTTP_BAD_REQUEST, "this path is not allowed");
		return false;
	}
	rq->route = find_route(rq, method, path, &status);
	if (!rq->route) {
		if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
			web_fail(rq, status, "this path does not take %s", method);
		else
			web_fail(rq, status, "there is nothing at this path");
		return false;
	}
	/* Closed at once, the client would hear of a reset, not of the limit: what is not far too much is read first. */
	if (announced_too_large(rq, body_limit(rq) + SWALLOWED_MAX)) {
		web_fail(rq, MHD_HTTP_CONTENT_TOO_LARGE, "the body is larger than allowed here");
		return false;
	}
	if (announced_too_large(rq, body_limit(rq))) {
		rq->failed = -ERR_TOO_LARGE;
		return true;
	}
	if (rq->route->flags & WEB_UPLOAD) {
		int r = upload_begin(&rq->upload, rq->web->options.os, rq->web->options.upload_dir,
				     web_arg(rq, 0));

		if (r == -ERR_NAME) {
			web_fail(rq, MHD_HTTP_BAD_REQUEST, "an upload is named by its SHA-256 in lower-case hex");
			return false;
		}
		if (r < 0) {
			web_fail(rq, MHD_HTTP_INTERNAL_SERVER_ERROR, "the upload cannot be kept: %s", err_text(r));
			return false;
		}
	}
	buf_init(&rq->body, rq->route->max_body);
	return true;
}

/* False: enough, the connection is to be cut. */
static bool take_body(struct web_request *rq, const char *data, size_t len)
{
	int r;

	rq->received += len;
	if (rq->failed != 0 || rq->received > body_limit(rq)) {
		if (rq->failed == 0)
			rq->failed = -ERR_TOO_LARGE;
		return rq->received <= body_limit(rq) + SWALLOWED_MAX;
	}
	r = rq->route->flags & WEB_UPLOAD ? upload_add(&rq->upload, data, len) : buf_add(&rq->body, data, len);
	if (r < 0)
		rq->failed = r;
	return true;
}

static void run_handler(struct web_request *rq)
{
	const struct web_options *o = &rq->web->options;

	if (o->before)
		o->before(o->user, rq->route);
	rq->route->handler(o->user, rq);
}

static void finish_upload(struct web_request *rq)
{
	int r = upload_end(&rq->upload);

	if (r == -ERR_DIGEST)
		web_fail(rq, MHD_HTTP_UNPROCESSABLE_CONTENT, "the bytes do not have the SHA-256 in the path");
	else if (r < 0)
		web_fail(rq, MHD_HTTP_INTERNAL_SERVER_ERROR, "the upload cannot be kept: %s", err_text(r));
	else
		run_handler(rq);
}

static void finish_body(struct web_request *rq)
{
	if (rq->failed == -ERR_TOO_LARGE)
		web_fail(rq, MHD_HTTP_CONTENT_TOO_LARGE, "the body is larger than allowed here");
	else if (rq->failed < 0)
		web_fail(rq,
			 rq->failed == -ENOSPC ? MHD_HTTP_INSUFFICIENT_STORAGE : MHD_HTTP_INTERNAL_SERVER_ERROR,
			 "the body cannot be kept: %s", err_text(rq->failed));
	else if (rq->route->flags & WEB_UPLOAD)
		finish_upload(rq);
	else
		run_handler(rq);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
				  const char *version, const char *upload_data, size_t *upload_data_size,
				  void **con_cls)
{
	struct listener *listener = cls;
	struct web *w = listener->web;
	struct connection *connection = connection_of(mhd);
	struct web_request *rq = *con_cls;

	(void) version;
	if (!rq) {
		rq = calloc(1, sizeof(*rq));
		if (!rq)
			return MHD_NO;
		rq->web = w;
		rq->mhd = mhd;
		rq->origin = listener->origin;
		rq->head = strcmp(method, "HEAD") == 0;
		*con_cls = rq;
		w->stats.requests++;
		if (connection) {
			connection->since_ms = now_ms(w);
			connection->answering = false;
		}
		if (!begin_request(rq, method, url)) {
			if (connection)
				connection->answering = true;
			return rq->refused ? MHD_NO : MHD_YES;
		}
		if (connection && (rq->route->flags & WEB_UPLOAD))
			connection->answering = true;
		return MHD_YES;
	}
	if (rq->replied)
		return MHD_NO;
	if (*upload_data_size > 0) {
		bool more = take_body(rq, upload_data, *upload_data_size);

		*upload_data_size = 0;
		return more ? MHD_YES : MHD_NO;
	}
	if (connection)
		connection->answering = true;
	rq->suspend = false;
	if (!rq->body_done) {
		rq->body_done = true;
		finish_body(rq);
	} else {
		run_handler(rq);
	}
	if (rq->refused)
		return MHD_NO;
	if (!rq->replied && rq->suspend) {
		MHD_suspend_connection(mhd);
		rq->next_waiting = w->waiting;
		w->waiting = rq;
		return MHD_YES;
	}
	if (!rq->replied)
		web_fail(rq, MHD_HTTP_INTERNAL_SERVER_ERROR, "no answer was made");
	return rq->refused ? MHD_NO : MHD_YES;
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
			 enum MHD_RequestTerminationCode code)
{
	struct listener *listener = cls;
	struct connection *connection = connection_of(mhd);

	if (code != MHD_REQUEST_TERMINATED_COMPLETED_OK && *con_cls)
		listener->web->stats.failures++;
	request_free(*con_cls);
	*con_cls = NULL;
	if (connection) {
		connection->since_ms = now_ms(listener->web);
		connection->answering = false;
	}
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context,
			  enum MHD_ConnectionNotificationCode code)
{
	struct listener *listener = cls;
	struct web *w = listener->web;
	struct connection *c = *socket_context;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		const union MHD_ConnectionInfo *info =
			MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);

		listener->connections++;
		c = calloc(1, sizeof(*c));
		if (!c || !info) {
			free(c);
			return; /* only without our deadline; the library's idle limit still holds */
		}
		c->fd = info->connect_fd;
		c->since_ms = now_ms(w);
		c->next = w->connections;
		if (c->next)
			c->next->previous = c;
		w->connections = c;
		*socket_context = c;
		return;
	}
	listener->connections--;
	if (!c)
		return;
	if (c->next)
		c->next->previous = c->previous;
	if (c->previous)
		c->previous->next = c->next;
	else
		w->connections = c->next;
	free(c);
	*socket_context = NULL;
}

__attribute__((format(printf, 2, 0))) static void quiet(void *cls, const char *fmt, va_list args)
{
	char text[ERROR_TEXT], quoted[ERROR_TEXT];
	size_t len;

	(void) cls;
	vsnprintf(text, sizeof(text), fmt, args);
	len = strlen(text);
	while (len > 0 && text[len - 1] == '\n')
		text[--len] = '\0';
	log_debug("web-library", "%s", log_quote(quoted, sizeof(quoted), text));
}

/* --- life --- */

int web_open(const struct web_options *o, struct web **ret)
{
	struct web *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->options = *o;
	if (!w->options.max_connections)
		w->options.max_connections = DEFAULT_CONNECTIONS;
	if (!w->options.max_per_address)
		w->options.max_per_address = DEFAULT_PER_ADDRESS;
	if (!w->options.idle_s)
		w->options.idle_s = DEFAULT_IDLE_S;
	if (!w->options.request_s)
		w->options.request_s = DEFAULT_REQUEST_S;
	if (!w->options.max_upload)
		w->options.max_upload = DEFAULT_UPLOAD;
	*ret = w;
	return 0;
}

static void resume_all(struct web *w)
{
	while (w->waiting) {
		struct web_request *rq = w->waiting;

		w->waiting = rq->next_waiting;
		rq->next_waiting = NULL;
		MHD_resume_connection(rq->mhd);
	}
}

/* Nobody waits any more: the library ends the process that stops it while a connection is suspended. */
static void wait_no_more(struct web *w)
{
	for (struct web_request *rq = w->waiting; rq; rq = rq->next_waiting)
		rq->wait_until_ms = 1;
	resume_all(w);
}

void web_close(struct web *w)
{
	if (!w)
		return;
	wait_no_more(w);
	for (size_t i = 0; i < w->listener_count; i++)
		if (w->listeners[i].daemon)
			MHD_stop_daemon(w->listeners[i].daemon);
		else if (w->listeners[i].spare_fd >= 0)
			close(w->listeners[i].spare_fd);
	if (w->unix_path)
		(void) unlink(w->unix_path); /* a stale socket is replaced at the next start anyway */
	free(w->unix_path);
	free(w);
}

/* In this place of the list; its pointer is the daemon's. `fd` is ours from here on. */
static int listen_with(struct web *w, size_t at, int fd, enum web_origin origin, const char *key_pem,
		       const char *cert_pem)
{
	struct listener *l;
	const union MHD_DaemonInfo *info;
	struct MHD_OptionItem tls[] = {
		{ MHD_OPTION_HTTPS_MEM_KEY, 0, (void *) (uintptr_t) key_pem },
		{ MHD_OPTION_HTTPS_MEM_CERT, 0, (void *) (uintptr_t) cert_pem },
		{ MHD_OPTION_HTTPS_PRIORITIES, 0,
		  (void *) (uintptr_t) "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2" },
		{ MHD_OPTION_END, 0, NULL },
	};
	struct MHD_OptionItem none[] = { { MHD_OPTION_END, 0, NULL } };
	bool secure = origin == WEB_TLS;

	if (at == WEB_LISTENERS_MAX) {
		close(fd);
		return -EINVAL;
	}
	l = &w->listeners[at];
	*l = (struct listener){ .web = w, .origin = origin };
	/* The log option first: it is to hear about problems with those behind it. */
	l->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
					     (secure ? MHD_USE_TLS : 0),
				     0, NULL, NULL, on_request, l, MHD_OPTION_EXTERNAL_LOGGER, quiet, NULL,
				     MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed, l,
				     MHD_OPTION_NOTIFY_CONNECTION, on_connection, l, MHD_OPTION_CONNECTION_LIMIT,
				     w->options.max_connections, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
				     secure ? w->options.max_per_address : 0u, MHD_OPTION_CONNECTION_TIMEOUT,
				     w->options.idle_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
				     (size_t) MEMORY_PER_CONNECTION, MHD_OPTION_ARRAY, secure ? tls : none,
				     MHD_OPTION_END);
	if (!l->daemon) {
		close(fd);
		return secure ? -ERR_TLS : -EIO;
	}
	info = MHD_get_daemon_info(l->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	if (!info) {
		MHD_stop_daemon(l->daemon);
		return -EIO;
	}
	l->epoll_fd = info->epoll_fd;
	if (at == w->listener_count)
		w->listener_count++;
	return 0;
}

int web_listen_unix(struct web *w, const char *path)
{
	int fd, r;

	w->unix_path = strdup(path);
	if (!w->unix_path)
		return -ENOMEM;
	fd = unixsock_listen(path, 0600);
	if (fd < 0)
		return fd;
	r = listen_with(w, w->listener_count, fd, WEB_UNIX, NULL, NULL);
	return r;
}

static int listen_at(struct web *w, const char *address, unsigned port, enum web_origin origin,
		     const char *key_pem, const char *cert_pem, unsigned *ret_port)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} a = { 0 };
	socklen_t len;
	int fd, one = 1, r;

	if (port > 65535)
		return -EINVAL;
	if (inet_pton(AF_INET, address, &a.v4.sin_addr) == 1) {
		a.v4.sin_family = AF_INET;
		a.v4.sin_port = htons((uint16_t) port);
		len = sizeof(a.v4);
	} else if (inet_pton(AF_INET6, address, &a.v6.sin6_addr) == 1) {
		a.v6.sin6_family = AF_INET6;
		a.v6.sin6_port = htons((uint16_t) port);
		len = sizeof(a.v6);
	} else {
		return -EINVAL;
	}
	fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	(void) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)); /* only quicker restarts */
	if (bind(fd, &a.any, len) < 0 || listen(fd, BACKLOG) < 0 || getsockname(fd, &a.any, &len) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	r = listen_with(w, w->listener_count, fd, origin, key_pem, cert_pem);
	if (r == 0)
		*ret_port = ntohs(a.any.sa_family == AF_INET ? a.v4.sin_port : a.v6.sin6_port);
	return r;
}

int web_listen_tls(struct web *w, const char *address, unsigned port, const char *key_pem, const char *cert_pem,
		   unsigned *ret_port)
{
	return listen_at(w, address, port, WEB_TLS, key_pem, cert_pem, ret_port);
}

int web_renew_tls(struct web *w, const char *key_pem, const char *cert_pem)
{
	const size_t count = w->listener_count;

	for (size_t i = 0; i < count; i++) {
		struct listener *l = &w->listeners[i];
		MHD_socket fd = l->spare_fd;
		int spare, r;

		if (l->origin != WEB_TLS)
			continue;
		spare = l->daemon ? -1 : l->spare_fd;
		wait_no_more(w);
		/* Who knocks meanwhile waits in the socket's queue: it is the same socket before and after. */
		if (l->daemon) {
			(void) MHD_run(l->daemon); /* they are answered, as far as they read */
			fd = MHD_quiesce_daemon(l->daemon);
			if (fd == MHD_INVALID_SOCKET)
				return -EIO;
			wait_no_more(w); /* what was read only now began to: those ask again */
			MHD_stop_daemon(l->daemon);
			l->daemon = NULL;
			spare = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		} else {
			fd = fcntl(spare, F_DUPFD_CLOEXEC, 0);
		}
		r = fd < 0 ? -errno : listen_with(w, i, fd, WEB_TLS, key_pem, cert_pem);
		if (r == 0 && spare >= 0)
			close(spare);
		else
			l->spare_fd = spare;
		return r;
	}
	return -ENOENT;
}

int web_listen_local(struct web *w, unsigned port, unsigned *ret_port)
{
	return listen_at(w, "127.0.0.1", port, WEB_LOCAL, NULL, NULL, ret_port);
}

static void shorten(int *timeout_ms, uint64_t ms)
{
	if (ms > INT32_MAX)
		ms = INT32_MAX;
	if (*timeout_ms < 0 || ms < (uint64_t) *timeout_ms)
		*timeout_ms = (int) ms;
}

size_t web_poll_prepare(struct web *w, struct pollfd ret[static WEB_LISTENERS_MAX], int *timeout_ms)
{
	uint64_t now = now_ms(w);

	for (size_t i = 0; i < w->listener_count; i++) {
		MHD_UNSIGNED_LONG_LONG ms;

		ret[i] = (struct pollfd){ .fd = -1 };
		if (!w->listeners[i].daemon)
			continue;
		ret[i] = (struct pollfd){ .fd = w->listeners[i].epoll_fd, .events = POLLIN };
		if (MHD_get_timeout(w->listeners[i].daemon, &ms) == MHD_YES)
			shorten(timeout_ms, ms);
	}
	for (const struct web_request *rq = w->waiting; rq; rq = rq->next_waiting)
		shorten(timeout_ms, rq->wait_until_ms > now ? rq->wait_until_ms - now : 0);
	if (w->connections)
		shorten(timeout_ms, 1000);
	return w->listener_count;
}

static void cut_off_slow(struct web *w)
{
	uint64_t now = now_ms(w), limit = w->options.request_s * UINT64_C(1000);

	for (struct connection *c = w->connections; c; c = c->next)
		if (!c->answering && now - c->since_ms > limit) {
			/* The library then reads the end of the connection and cleans up. */
			(void) shutdown(c->fd, SHUT_RDWR);
			c->answering = true;
		}
}

void web_poll_done(struct web *w)
{
	uint64_t now = now_ms(w);

	for (const struct web_request *rq = w->waiting; rq; rq = rq->next_waiting)
		if (rq->wait_until_ms <= now) {
			resume_all(w);
			break;
		}
	cut_off_slow(w);
	for (size_t i = 0; i < w->listener_count; i++)
		if (w->listeners[i].daemon)
			(void) MHD_run(
				w->listeners[i].daemon); /* says no only for daemons that run by themselves */
}

void web_wake(struct web *w)
{
	resume_all(w);
}

void web_stats(const struct web *w, struct web_stats *ret)
{
	*ret = w->stats;
	for (size_t i = 0; i < w->listener_count; i++)
		ret->connections += w->listeners[i].connections;
	for (const struct web_request *rq = w->waiting; rq; rq = rq->next_waiting)
		ret->waiting++;
}
