/*
 * web - HTTP for nodes (TLS) and for `selfright` (a Unix socket), by libmicrohttpd
 * (here only), driven by the caller's poll loop.
 *
 *   web_open -> web_listen_unix, web_listen_tls -> loop { web_poll_prepare -> poll -> web_poll_done }
 *
 * A request is matched against the routes (pattern parts "*" take one path part,
 * a last "**" takes the rest), its body read up to the route's limit, and handed
 * to the handler, which replies once or waits. Paths reach handlers decoded and
 * guarded: no "..", no empty parts, no control bytes. Whoever takes longer than
 * the limits for a request's head or body is cut off.
 */
#ifndef SELFRIGHT_WEB_WEB_H
#define SELFRIGHT_WEB_WEB_H

#include "base/attr.h"
#include "os/os.h"

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct web;
struct web_request;

enum web_origin { WEB_UNIX = 1, WEB_TLS = 2, WEB_ANY = 3, WEB_LOCAL = 4 };
enum { WEB_LISTENERS_MAX = 2, WEB_ARGS_MAX = 4, WEB_UPLOAD = 1 };

typedef void web_handler(void *user, struct web_request *rq);

struct web_route {
	const char *method; /* GET also answers HEAD */
	const char *pattern; /* "/v1/nodes/ * /hold" without blanks */
	unsigned origins; /* of enum web_origin */
	size_t max_body; /* 0: none allowed */
	web_handler *handler;
	unsigned flags; /* WEB_UPLOAD: the body goes to a file named by its SHA-256, the route's only "*" */
};

struct web_options {
	const struct os *os;
	const struct web_route *routes; /* borrowed; ended by a row without method */
	void *user;
	unsigned max_connections; /* per listener; 0: 1000 */
	unsigned max_per_address; /* 0: 200; Unix sockets do not count */
	unsigned idle_s; /* without a byte either way; 0: 60 */
	unsigned request_s; /* for a request's head and for its body; 0: 30 (uploads: idle_s only) */
	const char *upload_dir; /* NULL: no uploads */
	uint64_t max_upload; /* bytes; 0: 8 GiB */
	void (*before)(void *user, const struct web_route *route); /* each call of a handler; may be NULL */
};

NODISCARD int web_open(const struct web_options *o, struct web **ret);
void web_close(struct web *w);
DEFINE_FREEP(struct web *, web_close)

/* Mode 0600; a stale socket is replaced. */
NODISCARD int web_listen_unix(struct web *w, const char *path);
/* `address` an IPv4 or IPv6 address; port 0: a free one. TLS 1.2 and newer. -EADDRINUSE, -ERR_TLS for an unusable key or certificate. */
NODISCARD int web_listen_tls(struct web *w, const char *address, unsigned port, const char *key_pem,
			     const char *cert_pem, unsigned *ret_port);

/*
 * The listener by TLS begins again at the same place with another certificate: its connections end, who waits is answered
 * first. After an error nobody listens there, until it is called again. Not within a handler. -ENOENT: there is none.
 */
NODISCARD int web_renew_tls(struct web *w, const char *key_pem, const char *cert_pem);

/*
 * Plain HTTP on 127.0.0.1, for a browser on this machine. Whoever asks under another name than localhost is refused, so
 * that no web page can lead a browser here by a name of its own (DNS rebinding); answers forbid what a page of
 * text and numbers does not need (Content-Security-Policy, frames). Who may ask what is for the handlers to say.
 */
NODISCARD int web_listen_local(struct web *w, unsigned port, unsigned *ret_port);

/* Fills up to WEB_LISTENERS_MAX descriptors, returns how many, and shortens *timeout_ms. */
size_t web_poll_prepare(struct web *w, struct pollfd ret[static WEB_LISTENERS_MAX], int *timeout_ms);
void web_poll_done(struct web *w);

/* Something happened: every waiting request is handed to its handler again. */
void web_wake(struct web *w);

/* --- for handlers --- */
enum web_origin web_origin(const struct web_request *rq);
const char *web_arg(const struct web_request *rq, size_t index); /* what the pattern's stars took; NULL: fewer */
const char *web_query(struct web_request *rq, const char *name); /* NULL: not given */
const char *web_header(struct web_request *rq, const char *name); /* NULL: not there */
const void *web_body(const struct web_request *rq, size_t *ret_len);
bool web_is_head(const struct web_request *rq);

void web_reply(struct web_request *rq, unsigned status, const char *content_type, const void *body, size_t len);
/* {"error": "sentence"} */
void web_fail(struct web_request *rq, unsigned status, const char *fmt, ...) PRINTF_LIKE(3, 4);

/*
 * Answer with a regular file below dirfd (no links on the way): Range, If-Range,
 * If-None-Match with a strong ETag, 404 if it is not there. Files named by hash
 * or version may be cached for ever, others must be asked for again.
 */
void web_file(struct web_request *rq, int dirfd, const char *path);

/* Wait for web_wake, `timeout_ms` from the first call on. False: the time is over (or it cannot wait), reply now. */
bool web_wait(struct web_request *rq, uint64_t timeout_ms);

/*
 * Memory of this request, zeroed at the first call and the same while it waits. NULL: there is none. `done` (may be NULL)
 * releases what it holds, however the request ends.
 */
void *web_note(struct web_request *rq, size_t size, void (*done)(void *note));

struct web_stats {
	uint64_t requests, failures; /* failures: answered with 4xx or 5xx, or cut off */
	unsigned connections, waiting;
};
void web_stats(const struct web *w, struct web_stats *ret);

#endif
