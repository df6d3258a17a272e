/*
 * fetch - fetchers over https and a folder (libcurl: here only).
 */
#ifndef SELFRIGHT_FETCH_FETCH_H
#define SELFRIGHT_FETCH_FETCH_H

#include "base/attr.h"
#include "base/buf.h"
#include "base/fetcher.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tls_clock;

struct http_options {
	const char *
		base_url; /* "https://host:port/" with or without the last slash; names are appended, percent-encoded */
	const char *ca_pem; /* trust only this CA (PEM text); NULL: the system's */
	const char *unix_socket; /* connect here instead (the control interface) */
	const char *proxy; /* NULL: the environment's https_proxy and no_proxy */
	const char *user_agent;
	const struct tls_clock
		*clock; /* certificates are judged by it (tls.h); borrowed; NULL: the system's clock */
	bool allow_plain_http; /* `selfright tuf` and Unix sockets only */
	unsigned connect_timeout_ms, low_speed_seconds; /* 0: 10 s, 30 s; low speed = under 100 bytes per second */
	uint64_t max_bytes_per_second; /* 0: no ceiling */
	/* Where a GET may be sent on to besides base_url's own host and port: "host" (port 443) or "host:port"; borrowed. */
	const char *const *redirect_hosts;
	size_t redirect_host_count;
	bool keep_begun; /* http_save: -EEXIST instead of starting over, and fd as it was */
	/* --- for checks of an application, which may have a certificate for another name, or none that means anything --- */
	const char *connect_to; /* "host:port" to connect to instead of the one in base_url; NULL: that one */
	bool insecure; /* verify nothing; for what is checked only, never for what is fetched */
	bool cut_body; /* the beginning of an answer that is too large is an answer */
	const char *const *headers; /* "Name: value", sent by http_request as they are; borrowed */
	size_t header_count;
};

enum { HTTP_REDIRECTS_MAX = 5 };

/*
 * A handle that keeps its connection; path as is. Strings are copied but where it says borrowed.
 *
 * Who fetches a file is sent on at most HTTP_REDIRECTS_MAX times, from https never to http, and only within base_url's
 * own host and port or to a host of redirect_hosts: elsewhere is -ERR_HTTP_STATUS, with the place in http_error(). An answer
 * to http_request() that sends on is an answer like any other.
 */
struct http;
NODISCARD int http_open(const struct http_options *o, struct http **ret);
void http_close(struct http *h);
DEFINE_FREEP(struct http *, http_close)

struct http_response {
	long status;
	char content_type[128];
	bool not_modified;
};

/* Any request; the body appended to `ret` up to its limit. 0 whatever the status; -ERR_NETWORK, _TLS, _DEADLINE, _TOO_LARGE. */
NODISCARD int http_request(struct http *h, const char *method, const char *path, const char *content_type,
			   const void *body, size_t len, uint64_t timeout_ms, struct http_response *ret_response,
			   struct buf *ret);

/* Whom it speaks to, "host[:port]" of base_url, for people. */
const char *http_host(const struct http *h);
/* The reason of the last failure in words (curl's, with the host): never NULL. */
const char *http_error(const struct http *h);
/*
 * How long the last answer, a 429 or a 503, asked to be left alone: at most RETRY_AFTER_MAX_S; 0: it did not, or there was none.
 */
uint64_t http_retry_after_s(const struct http *h);
/* Did the last request fail because a name was not known: our own resolver's fault, or the name's, but not the server's? */
bool http_unresolved(const struct http *h);
/* What a proxy on the way answered to CONNECT in the last request: 200 where it let us pass, 0 where there was none. */
long http_proxy_status(const struct http *h);

/*
 * Save `name` into fd from byte `offset` on (resume by Range with If-Range on the
 * strong ETag given back earlier, "" at first): on a server without ranges or a
 * changed file fd is truncated and it starts over. At most `length` bytes in all.
 * `progress` (may be NULL) is told the bytes present; it returns non-zero to stop (-ECANCELED).
 */
NODISCARD int http_save(struct http *h, const char *name, uint64_t length, int fd, uint64_t offset,
			char etag[static 128], int (*progress)(void *user, uint64_t bytes), void *user);

/*
 * A fetcher over `h` (borrowed): 404 is -ENOENT. With a time limit a file that is not here by then, sent on or not, is
 * -ERR_DEADLINE: whoever drips just fast enough keeps nobody waiting for hours. 0: none, as at first.
 */
struct http_fetcher {
	struct fetcher fetcher;
	struct http *http;
};
void http_fetcher_init(struct http_fetcher *f, struct http *h);
void http_limit_get(struct http *h, uint64_t ms);

/* A fetcher over a folder (a repository's folder, a bundle). */
struct folder_fetcher {
	struct fetcher fetcher;
	int dirfd; /* borrowed */
};
void folder_fetcher_init(struct folder_fetcher *f, int dirfd);

#endif
