#include "fetch/fetch.h"

#include "base/err.h"
#include "base/text.h"
#include "fetch/retry_after.h"
#include "fetch/tls.h"
#include "os/os.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
	CONNECT_TIMEOUT_MS = 10000,
	LOW_SPEED_BYTES = 100,
	LOW_SPEED_SECONDS = 30,
	HEADERS_MAX = 64 * 1024, /* of one answer; libcurl 7.88 bounds only single lines */
	ERROR_BODY_MAX = 64 * 1024, /* of an answer whose body nobody wants */
	URL_MAX = 8192,
	LOCATION_MAX = 2048,
	PROXY_AUTHENTICATION_REQUIRED = 407,
	UNAUTHORIZED = 401, /* tinyproxy's word for a wrong password */
	TOO_MANY_REQUESTS = 429,
	SERVICE_UNAVAILABLE = 503,
};

struct http {
	CURL *curl;
	char *base, *ca_pem, *unix_socket, *proxy, *user_agent;
	struct tls *tls; /* NULL: judged by the system's clock */
	struct curl_slist *connect_to;
	const char *const *headers;
	size_t header_count;
	const char *const *redirect_hosts;
	size_t redirect_host_count;
	bool allow_plain_http, insecure, cut_body, unresolved, keep_begun;
	unsigned connect_timeout_ms, low_speed_seconds;
	uint64_t max_bytes_per_second;
	uint64_t get_ms; /* for a whole file into memory; 0: for ever */
	long proxy_status; /* what a proxy answered to CONNECT last; 0: nothing */
	const struct tls_clock *clock; /* borrowed; NULL: the system's */
	uint64_t retry_after_s; /* what the last answer asked for; 0: nothing */
	char host[256];
	char curl_error[CURL_ERROR_SIZE];
	char error[CURL_ERROR_SIZE + 320];
};

/* One request and what comes back; `take` gets the body. */
struct transfer {
	struct http *http;
	int (*take)(struct transfer *t, const uint8_t *data, size_t len);
	int error; /* a callback's own reason, 0 or negative */
	size_t headers_len;
	long status;
	char etag[128];
	char location[LOCATION_MAX]; /* "": none, or none that can be used */
	char date[40], retry_after[40]; /* as they came; longer ones are none */
	bool refused; /* why is in http_error() already */
	bool has_range;
	uint64_t range_start;
	/* a body into memory */
	struct buf *buf;
	size_t buf_start;
	uint64_t max;
	bool wants_error_body;
	bool may_cut, cut; /* the beginning of a body is enough; there was more */
	uint64_t dropped;
	/* a body into a file */
	int fd;
	bool begun, asked_range, keep;
	uint64_t offset, length;
	char *ret_etag;
	int (*progress)(void *user, uint64_t bytes);
	void *user;
};

static PRINTF_LIKE(3, 4) int http_fail(struct http *h, int r, const char *fmt, ...)
{
	char text[CURL_ERROR_SIZE + 32];
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(text, sizeof(text), fmt, ap); /* a longer reason is cut */
	va_end(ap);
	(void) snprintf(h->error, sizeof(h->error), "%s: %s", h->host, text); /* cut likewise */
	return r;
}

static char *copy_or_null(const char *s, bool *failed)
{
	char *copy = s ? strdup(s) : NULL;

	if (s && !copy)
		*failed = true;
	return copy;
}

static bool is_plain_text(const char *s)
{
	for (; *s; s++)
		if ((unsigned char) *s <= 0x20 || *s == 0x7f)
			return false;
	return true;
}

static int check_base(const struct http_options *o)
{
	const char *url = o->base_url;
	size_t scheme;

	if (!url || strlen(url) > URL_MAX / 2 || !is_plain_text(url))
		return -ERR_CONFIG;
	if (str_starts(url, "https://"))
		scheme = strlen("https://");
	else if (o->allow_plain_http && str_starts(url, "http://"))
		scheme = strlen("http://");
	else
		return -ERR_CONFIG;
	/* No query to append to, no user whose password would stand in logs. */
	return strcspn(url + scheme, "/") > 0 && !strpbrk(url, "?#@\\") ? 0 : -ERR_CONFIG;
}

/* Who an address speaks to. */
struct origin {
	char scheme[8], host[256];
	unsigned port;
};

static int origin_of(CURLU *url, struct origin *ret)
{
	char *scheme = NULL, *host = NULL, *port = NULL;
	uint64_t number = 0;
	int r = -ERR_CONFIG;

	if (curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
	    curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
	    curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
	    parse_u64(port, &number) == 0 && strlen(scheme) < sizeof(ret->scheme) &&
	    strlen(host) < sizeof(ret->host)) {
		memcpy(ret->scheme, scheme, strlen(scheme) + 1);
		memcpy(ret->host, host, strlen(host) + 1);
		ret->port = (unsigned) number;
		r = 0;
	}
	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	return r;
}

static int base_origin(const struct http *h, struct origin *ret)
{
	CURLU *url = curl_url();
	int r = !url							    ? -ENOMEM
		: curl_url_set(url, CURLUPART_URL, h->base, 0) == CURLUE_OK ? origin_of(url, ret)
									    : -ERR_CONFIG;

	curl_url_cleanup(url);
	return r;
}

/* The judge of the certificates of an address that check_base() took. */
static int open_tls(struct http *h, const struct tls_clock *clock)
{
	struct origin origin;
	int r = base_origin(h, &origin);

	return r < 0 ? r
		     : tls_new(&(struct tls_options){ .clock = clock, .host = origin.host, .port = origin.port },
			       &h->tls);
}

int http_open(const struct http_options *o, struct http **ret)
{
	bool failed = false;
	struct http *h;
	const char *host;
	int r;

	r = check_base(o);
	if (r < 0)
		return r;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) /* counts; the first call does the work */
		return -ENOMEM;
	h = calloc(1, sizeof(*h));
	if (!h) {
		curl_global_cleanup();
		return -ENOMEM;
	}
	h->curl = curl_easy_init();
	h->base = copy_or_null(o->base_url, &failed);
	h->ca_pem = copy_or_null(o->ca_pem, &failed);
	h->unix_socket = copy_or_null(o->unix_socket, &failed);
	h->proxy = copy_or_null(o->proxy, &failed);
	h->user_agent = copy_or_null(o->user_agent ? o->user_agent : "selfright/" SELFRIGHT_VERSION, &failed);
	if (o->connect_to) {
		char text[600];

		(void) snprintf(text, sizeof(text), "::%.590s",
				o->connect_to); /* any host and port: there is one */
		h->connect_to = curl_slist_append(NULL, text);
		failed = failed || !h->connect_to;
	}
	if (failed || !h->curl) {
		http_close(h);
		return -ENOMEM;
	}
	h->insecure = o->insecure;
	h->cut_body = o->cut_body;
	h->headers = o->headers;
	h->header_count = o->header_count;
	h->redirect_hosts = o->redirect_hosts;
	h->redirect_host_count = o->redirect_host_count;
	h->allow_plain_http = o->allow_plain_http;
	h->keep_begun = o->keep_begun;
	h->connect_timeout_ms = o->connect_timeout_ms ? o->connect_timeout_ms : CONNECT_TIMEOUT_MS;
	h->low_speed_seconds = o->low_speed_seconds ? o->low_speed_seconds : LOW_SPEED_SECONDS;
	h->max_bytes_per_second = o->max_bytes_per_second;
	h->clock = o->clock;
	while (*h->base && h->base[strlen(h->base) - 1] == '/')
		h->base[strlen(h->base) - 1] = '\0';
	host = strstr(h->base, "://") + 3;
	(void) snprintf(h->host, sizeof(h->host), "%.*s", (int) strcspn(host, "/"),
			host); /* for people: may be cut */
	(void) snprintf(h->error, sizeof(h->error), "%s: no request yet", h->host); /* always fits */
	r = o->clock ? open_tls(h, o->clock) : 0;
	if (r < 0) {
		http_close(h);
		return r;
	}
	*ret = h;
	return 0;
}

void http_close(struct http *h)
{
	if (!h)
		return;
	curl_easy_cleanup(h->curl);
	tls_free(h->tls);
	free(h->base);
	free(h->ca_pem);
	free(h->unix_socket);
	free(h->proxy);
	free(h->user_agent);
	curl_slist_free_all(h->connect_to);
	free(h);
	curl_global_cleanup();
}

bool http_unresolved(const struct http *h)
{
	return h->unresolved;
}

long http_proxy_status(const struct http *h)
{
	return h->proxy_status;
}

const char *http_host(const struct http *h)
{
	return h->host;
}

const char *http_error(const struct http *h)
{
	return h->error;
}

uint64_t http_retry_after_s(const struct http *h)
{
	return h->retry_after_s;
}

/* The value of the header `name` in `line`, cut into `out`; false if it is another one. */
static bool header_value(const char *line, size_t len, const char *name, char *out, size_t size)
{
	size_t n = strlen(name);

	if (len <= n || strncasecmp(line, name, n) != 0 || line[n] != ':')
		return false;
	line += n + 1;
	len -= n + 1;
	while (len > 0 && (*line == ' ' || *line == '\t')) {
		line++;
		len--;
	}
	while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == '\n' || line[len - 1] == ' '))
		len--;
	if (len >= size)
		len = 0; /* as good as none */
	memcpy(out, line, len);
	out[len] = '\0';
	return true;
}

/* A strong tag is printable text in quotes. */
static bool etag_is_strong(const char *etag)
{
	size_t len = strlen(etag);

	return len > 2 && etag[0] == '"' && etag[len - 1] == '"' && is_plain_text(etag);
}

/* "bytes START-END/TOTAL" */
static bool parse_content_range(const char *value, uint64_t *ret_start)
{
	char number[24];
	size_t n;

	if (strncasecmp(value, "bytes ", 6) != 0)
		return false;
	value += 6;
	n = strspn(value, "0123456789");
	if (n == 0 || n >= sizeof(number) || value[n] != '-')
		return false;
	memcpy(number, value, n);
	number[n] = '\0';
	return parse_u64(number, ret_start) == 0;
}

static size_t on_header(char *data, size_t one, size_t len, void *user)
{
	struct transfer *t = user;
	char value[128];

	(void) one; /* always 1 */
	t->headers_len += len;
	if (t->headers_len > HEADERS_MAX) {
		t->error = -ERR_TOO_LARGE;
		return 0;
	}
	if (len > 5 && memcmp(data, "HTTP/", 5) == 0) { /* an interim answer may have come before */
		t->etag[0] = t->location[0] = t->date[0] = t->retry_after[0] = '\0';
		t->has_range = false;
	} else if (header_value(data, len, "Location", t->location, sizeof(t->location))) {
		if (!is_plain_text(t->location))
			t->location[0] = '\0';
	} else if (header_value(data, len, "ETag", value, sizeof(value))) {
		memcpy(t->etag, etag_is_strong(value) ? value : "", etag_is_strong(value) ? strlen(value) + 1 : 1);
	} else if (header_value(data, len, "Content-Range", value, sizeof(value))) {
		t->has_range = parse_content_range(value, &t->range_start);
	} else if (!header_value(data, len, "Date", t->date, sizeof(t->date))) {
		(void) header_value(data, len, "Retry-After", t->retry_after,
				    sizeof(t->retry_after)); /* or neither */
	}
	return len;
}

static size_t on_body(char *data, size_t one, size_t len, void *user)
{
	struct transfer *t = user;
	int r;

	(void) one; /* always 1 */
	if (len == 0)
		return 0;
	if (t->status == 0)
		(void) curl_easy_getinfo(t->http->curl, CURLINFO_RESPONSE_CODE, &t->status); /* cannot fail */
	r = t->take(t, (const uint8_t *) data, len);
	if (r < 0)
		t->error = r;
	return r < 0 || t->cut ? 0 : len; /* 0 ends the transfer */
}

static int on_progress(void *user, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
	struct transfer *t = user;

	(void) down_total;
	(void) down;
	(void) up_total;
	(void) up;
	return t->progress && t->progress(t->user, t->offset) != 0;
}

static int curl_to_err(CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	case CURLE_OPERATION_TIMEDOUT:
		return -ERR_DEADLINE;
	case CURLE_FILESIZE_EXCEEDED:
		return -ERR_TOO_LARGE;
	case CURLE_ABORTED_BY_CALLBACK:
		return -ECANCELED;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_CRL_BADFILE:
	case CURLE_SSL_ENGINE_INITFAILED:
		return -ERR_TLS;
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_URL_MALFORMAT:
	case CURLE_BAD_FUNCTION_ARGUMENT:
	case CURLE_UNKNOWN_OPTION:
	case CURLE_NOT_BUILT_IN:
		return -ERR_CONFIG;
	default:
		return -ERR_NETWORK;
	}
}

/* The first option that fails is the result: none may be missing quietly, least of all those of TLS. */
#define SET(option, value)                                                                                        \
	do {                                                                                                      \
		if (code == CURLE_OK)                                                                             \
			code = curl_easy_setopt(h->curl, (option), (value));                                      \
	} while (0)

static CURLcode on_ssl_ctx(CURL *curl, void *ssl_ctx, void *user)
{
	(void) curl;
	return tls_watch(user, ssl_ctx) < 0 ? CURLE_OUT_OF_MEMORY : CURLE_OK;
}

static CURLcode set_security(struct http *h)
{
	CURLcode code = CURLE_OK;

	if (h->tls) {
		SET(CURLOPT_SSL_CTX_FUNCTION, on_ssl_ctx);
		SET(CURLOPT_SSL_CTX_DATA, h->tls);
	}

	SET(CURLOPT_PROTOCOLS_STR, h->allow_plain_http ? "http,https" : "https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SSL_VERIFYPEER, h->insecure ? 0L : 1L);
	SET(CURLOPT_SSL_VERIFYHOST, h->insecure ? 0L : 2L);
	SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	if (h->ca_pem) {
		struct curl_blob ca = { .data = h->ca_pem, .len = strlen(h->ca_pem), .flags = CURL_BLOB_NOCOPY };

		SET(CURLOPT_CAINFO_BLOB, &ca);
		SET(CURLOPT_CAPATH, NULL); /* else the system's certificates are trusted besides */
	}
	return code;
}

static CURLcode set_road(struct http *h, uint64_t timeout_ms)
{
	CURLcode code = CURLE_OK;

	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_QUICK_EXIT, 1L); /* a resolver that hangs is left behind, not waited for */
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) h->connect_timeout_ms);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	if (timeout_ms > 0) {
		/* A deadline of its own: waiting for news (long polls) is no low speed. */
		SET(CURLOPT_TIMEOUT_MS, timeout_ms > INT32_MAX ? (long) INT32_MAX : (long) timeout_ms);
	} else {
		SET(CURLOPT_LOW_SPEED_LIMIT, (long) LOW_SPEED_BYTES);
		SET(CURLOPT_LOW_SPEED_TIME, (long) h->low_speed_seconds);
	}
	if (h->max_bytes_per_second > 0)
		SET(CURLOPT_MAX_RECV_SPEED_LARGE, (curl_off_t) (h->max_bytes_per_second & INT64_MAX));
	if (h->unix_socket) {
		SET(CURLOPT_UNIX_SOCKET_PATH, h->unix_socket);
		SET(CURLOPT_PROXY, "");
	} else if (h->proxy) {
		SET(CURLOPT_PROXY, h->proxy);
	}
	/* Where Negotiate is offered beside them, curl would look for a ticket and never use a password (perform()). */
	SET(CURLOPT_PROXYAUTH, (long) (CURLAUTH_ANY & ~CURLAUTH_NEGOTIATE));
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	if (h->connect_to)
		SET(CURLOPT_CONNECT_TO, h->connect_to);
	return code;
}

static CURLcode set_transfer(struct http *h, const char *url, struct transfer *t)
{
	CURLcode code = CURLE_OK;

	h->curl_error[0] = '\0';
	SET(CURLOPT_ERRORBUFFER, h->curl_error);
	SET(CURLOPT_URL, url);
	SET(CURLOPT_PATH_AS_IS, 1L);
	SET(CURLOPT_USERAGENT, h->user_agent);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, t);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, t);
	SET(CURLOPT_XFERINFOFUNCTION, on_progress);
	SET(CURLOPT_XFERINFODATA, t);
	SET(CURLOPT_NOPROGRESS, 0L);
	return code;
}

static int set_method(struct http *h, const char *method, const void *body, size_t len)
{
	CURLcode code = CURLE_OK;

	if (strcmp(method, "GET") == 0) {
		SET(CURLOPT_HTTPGET, 1L);
		return curl_to_err(code);
	}
	if (strcmp(method, "HEAD") == 0) {
		SET(CURLOPT_NOBODY, 1L);
		return curl_to_err(code);
	}
	SET(CURLOPT_POST, 1L);
	SET(CURLOPT_CUSTOMREQUEST, method);
	SET(CURLOPT_POSTFIELDS, body ? body : "");
	SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) len);
	return curl_to_err(code);
}

static int address_of(struct http *h, const char *path, struct buf *url)
{
	int r;

	while (*path == '/')
		path++;
	h->retry_after_s = 0; /* of an earlier request */
	r = buf_addf(url, "%s/%s", h->base, path);
	if (r < 0 || !is_plain_text(buf_str(url)))
		return http_fail(h, r < 0 ? r : -ERR_NAME, "the path cannot be asked for");
	return 0;
}

/* Forget the last request, keep the connection. */
static int prepare(struct http *h, const char *url, uint64_t timeout_ms, struct transfer *t)
{
	CURLcode code;

	curl_easy_reset(h->curl);
	code = set_security(h);
	if (code == CURLE_OK)
		code = set_road(h, timeout_ms);
	if (code == CURLE_OK)
		code = set_transfer(h, url, t);
	t->http = h;
	return code == CURLE_OK ? 0 : http_fail(h, curl_to_err(code), "%s", curl_easy_strerror(code));
}

/* With the node's own Kerberos ticket, where the proxy wants one and took no password. */
static CURLcode perform_with_ticket(struct http *h, CURLcode first)
{
	CURLcode code = CURLE_OK;
	long status = 0, offers = 0;

	(void) curl_easy_getinfo(h->curl, CURLINFO_HTTP_CONNECTCODE, &status); /* cannot fail */
	(void) curl_easy_getinfo(h->curl, CURLINFO_PROXYAUTH_AVAIL, &offers); /* as above */
	if (first == CURLE_OK || status != PROXY_AUTHENTICATION_REQUIRED || !(offers & (long) CURLAUTH_NEGOTIATE))
		return first;
	SET(CURLOPT_PROXYAUTH, (long) CURLAUTH_NEGOTIATE);
	SET(CURLOPT_PROXYUSERPWD, ":");
	return code == CURLE_OK ? curl_easy_perform(h->curl) : code;
}

/* A proxy that refuses is named with what it wants, as the relay does for MQTT (relay.c): who installs reads the same twice. */
static int fail_by_proxy(struct http *h, int r)
{
	const char *address = NULL, *host = h->base + strcspn(h->base, "/");
	long port = 0, status = h->proxy_status;

	(void) curl_easy_getinfo(h->curl, CURLINFO_PRIMARY_IP, &address); /* "" where it is not known */
	(void) curl_easy_getinfo(h->curl, CURLINFO_PRIMARY_PORT, &port); /* as above */
	host += strspn(host, "/");
	if (status == PROXY_AUTHENTICATION_REQUIRED || status == UNAUTHORIZED)
		return http_fail(h, r,
				 "the proxy %s:%ld answered %ld: it wants a user and a password, or others than "
				 "those of the proxy: setting",
				 address ? address : "", port, status);
	return http_fail(h, r,
			 "the proxy %s:%ld answered %ld to CONNECT %.*s: it must allow that address and port",
			 address ? address : "", port, status, (int) strcspn(host, "/"), host);
}

/*
 * Of 429 and 503, whose other reading nobody shares; of what sends on it would only delay that. Also where the answer was
 * broken off in its body: its head is what asks.
 */
static void note_retry_after(struct http *h, const struct transfer *t)
{
	long status = 0;

	(void) curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &status); /* cannot fail */
	if ((status == TOO_MANY_REQUESTS || status == SERVICE_UNAVAILABLE) && t->retry_after[0])
		h->retry_after_s =
			retry_after_seconds(t->retry_after, t->date,
					    h->clock ? tls_clock_now(h->clock) : os_posix.clock_real(&os_posix));
}

static int perform(struct http *h, struct transfer *t, struct curl_slist *headers)
{
	CURLcode code = CURLE_OK;
	int r;

	SET(CURLOPT_HTTPHEADER, headers);
	if (code == CURLE_OK)
		code = perform_with_ticket(h, curl_easy_perform(h->curl));
	note_retry_after(h, t);
	h->unresolved = code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_RESOLVE_PROXY;
	h->proxy_status = 0;
	(void) curl_easy_getinfo(h->curl, CURLINFO_HTTP_CONNECTCODE, &h->proxy_status); /* cannot fail */
	if (t->error < 0)
		return http_fail(h, t->error, "%s", err_text(t->error));
	r = t->cut ? 0 : curl_to_err(code);
	if (r == -ERR_TLS && h->tls && tls_reason(h->tls)[0])
		return http_fail(h, r, "%s", tls_reason(h->tls));
	if (r < 0 && h->proxy_status >= 300)
		return fail_by_proxy(h, r);
	if (r < 0)
		return http_fail(h, r, "%s", h->curl_error[0] ? h->curl_error : curl_easy_strerror(code));
	(void) curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &t->status); /* cannot fail */
	return 0;
}

static void free_headers(struct curl_slist **headers)
{
	curl_slist_free_all(*headers);
}

static NODISCARD int add_line(struct curl_slist **headers, const char *line)
{
	struct curl_slist *longer;

	for (const char *p = line; *p; p++)
		if ((unsigned char) *p < 0x20 || *p == 0x7f)
			return -ERR_NAME; /* no header behind the header */
	longer = curl_slist_append(*headers, line);
	if (!longer)
		return -ENOMEM;
	*headers = longer;
	return 0;
}

static NODISCARD int add_header(struct curl_slist **headers, const char *name, const char *value)
{
	CLEANUP(buf_done)
	struct buf line = BUF_INIT(1024);
	int r = buf_addf(&line, "%s:%s%s", name, *value ? " " : "", value);

	return r < 0 ? r : add_line(headers, buf_str(&line));
}

/* Errors' bodies are dropped, unless the caller wants to show them. */
static int take_into_buf(struct transfer *t, const uint8_t *data, size_t len)
{
	if (!t->wants_error_body && t->status != 200) {
		t->dropped += len;
		return t->dropped > ERROR_BODY_MAX ? -ERR_HTTP_STATUS : 0;
	}
	if (len > t->max || t->buf->len - t->buf_start > t->max - len) {
		if (!t->may_cut)
			return -ERR_TOO_LARGE;
		t->cut = true;
		len = (size_t) (t->max - (t->buf->len - t->buf_start));
	}
	return buf_add(t->buf, data, len);
}

static void drop_body(struct transfer *t)
{
	t->buf->len = t->buf_start;
	if (t->buf->data)
		t->buf->data[t->buf_start] = '\0';
}

int http_request(struct http *h, const char *method, const char *path, const char *content_type, const void *body,
		 size_t len, uint64_t timeout_ms, struct http_response *ret_response, struct buf *ret)
{
	CLEANUP(free_headers)
	struct curl_slist *headers = NULL;
	struct transfer t = {
		.take = take_into_buf,
		.buf = ret,
		.buf_start = ret->len,
		.max = ret->max,
		.wants_error_body = true,
		.may_cut = h->cut_body,
	};
	CLEANUP(buf_done)
	struct buf url = BUF_INIT(URL_MAX);
	struct http_response response = { 0 };
	char *type = NULL;
	int r;

	r = address_of(h, path, &url);
	if (r == 0)
		r = prepare(h, buf_str(&url), timeout_ms, &t);
	if (r == 0)
		r = set_method(h, method, body, len);
	if (r == 0)
		r = add_header(&headers, "Expect", ""); /* one round trip less */
	if (r == 0 && content_type)
		r = add_header(&headers, "Content-Type", content_type);
	for (size_t i = 0; r == 0 && i < h->header_count; i++)
		r = add_line(&headers, h->headers[i]);
	if (r == 0)
		r = perform(h, &t, headers);
	if (r < 0) {
		drop_body(&t);
		return r;
	}
	response.status = t.status;
	response.not_modified = t.status == 304;
	(void) curl_easy_getinfo(h->curl, CURLINFO_CONTENT_TYPE, &type); /* NULL if there was none */
	if (type)
		(void) snprintf(response.content_type, sizeof(response.content_type), "%s", type); /* cut */
	*ret_response = response;
	return 0;
}

/* Segments as RFC 3986 wants them: all but unreserved characters as %XX. */
static int encode_name(const char *name, struct buf *ret)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";
	int r = 0;

	for (; r == 0 && *name; name++)
		r = strchr(plain, *name) ? buf_add_byte(ret, (uint8_t) *name)
					 : buf_addf(ret, "%%%02X", (unsigned char) *name);
	return r;
}

static int status_error(struct http *h, const struct transfer *t)
{
	if (t->refused)
		return -ERR_HTTP_STATUS;
	return http_fail(h, t->status == 404 || t->status == 410 ? -ENOENT : -ERR_HTTP_STATUS, "answered %ld",
			 t->status);
}

/* --- being sent on --- */

static bool sends_on(long status)
{
	return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static PRINTF_LIKE(3, 4) int refuse(struct http *h, struct transfer *t, const char *fmt, ...)
{
	char text[CURL_ERROR_SIZE];
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(text, sizeof(text), fmt, ap); /* a longer reason is cut */
	va_end(ap);
	t->refused = true;
	return http_fail(h, -ERR_HTTP_STATUS, "%s", text);
}

/* "host", which means port 443, or "host:port". */
static bool is_listed(const struct http *h, const struct origin *to)
{
	char with_port[sizeof(to->host) + 8];

	(void) snprintf(with_port, sizeof(with_port), "%s:%u", to->host, to->port); /* always fits */
	for (size_t i = 0; i < h->redirect_host_count; i++)
		if (strcasecmp(h->redirect_hosts[i], with_port) == 0 ||
		    (to->port == 443 && strcasecmp(h->redirect_hosts[i], to->host) == 0))
			return true;
	return false;
}

/* May it send us to `to`? What comes from there is verified like all else; this keeps requests where they belong. */
static int judge_redirect(struct http *h, struct transfer *t, const struct origin *from, const struct origin *to)
{
	struct origin own;
	int r = base_origin(h, &own);

	if (r < 0)
		return http_fail(h, r, "%s", err_text(r));
	if (!str_eq(to->scheme, "https") && !(h->allow_plain_http && str_eq(to->scheme, "http")))
		return refuse(h, t, "sends on to %.8s://%.120s, which is not https", to->scheme, to->host);
	if (str_eq(from->scheme, "https") && !str_eq(to->scheme, "https"))
		return refuse(h, t, "sends on from https to http://%.120s", to->host);
	if ((str_eq(to->scheme, own.scheme) && strcasecmp(to->host, own.host) == 0 && to->port == own.port) ||
	    is_listed(h, to))
		return 0;
	return refuse(h, t, "sends on to %.120s:%u, which redirect_hosts does not list", to->host, to->port);
}

/* The address in *url becomes the one the answer names. */
static int follow(struct http *h, struct transfer *t, struct buf *url)
{
	struct origin from = { .port = 0 }, to = { .port = 0 };
	CURLU *parts = curl_url();
	char *next = NULL, *user = NULL;
	int r = parts ? 0 : -ENOMEM;

	if (r == 0 && curl_url_set(parts, CURLUPART_URL, buf_str(url), CURLU_PATH_AS_IS) != CURLUE_OK)
		r = -ERR_CONFIG;
	if (r == 0)
		r = origin_of(parts, &from);
	if (r < 0) {
		(void) http_fail(h, r, "%s", err_text(r));
	} else if (!t->location[0] || curl_url_set(parts, CURLUPART_URL, t->location,
						   CURLU_PATH_AS_IS | CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK) {
		r = refuse(h, t, "answered %ld without a place to go on to", t->status);
	} else if (curl_url_get(parts, CURLUPART_USER, &user, 0) == CURLUE_OK) {
		r = refuse(h, t, "sends on to an address with a user's name in it");
	} else if (origin_of(parts, &to) < 0) {
		r = refuse(h, t, "sends on to what is no https address");
	} else {
		r = judge_redirect(h, t, &from, &to);
	}
	if (r == 0 && (curl_url_set(parts, CURLUPART_FRAGMENT, NULL, 0) != CURLUE_OK ||
		       curl_url_get(parts, CURLUPART_URL, &next, CURLU_PATH_AS_IS) != CURLUE_OK))
		r = http_fail(h, -ENOMEM, "%s", err_text(-ENOMEM));
	if (r == 0) {
		buf_clear(url);
		r = buf_add_str(url, next);
		if (r < 0 || !is_plain_text(buf_str(url)))
			r = refuse(h, t, "sends on to an address that cannot be asked for");
	}
	if (r == 0 && h->tls)
		r = tls_aim(h->tls, to.host, to.port);
	curl_free(next);
	curl_free(user);
	curl_url_cleanup(parts);
	return r;
}

/* Beside the low speed that set_road() takes for an end. */
static int limit_time(struct http *h, uint64_t end_ms)
{
	uint64_t now = os_posix.clock_boot_ms(&os_posix), left = end_ms > now ? end_ms - now : 1;
	CURLcode code = CURLE_OK;

	if (end_ms == 0)
		return 0;
	SET(CURLOPT_TIMEOUT_MS, left > INT32_MAX ? (long) INT32_MAX : (long) left);
	return code == CURLE_OK ? 0 : http_fail(h, curl_to_err(code), "%s", curl_easy_strerror(code));
}

/* GET it, and wherever it is sent on to: `t` is that of the last answer. */
static int perform_get(struct http *h, const char *path, struct transfer *t, struct curl_slist *headers)
{
	CLEANUP(buf_done)
	struct buf url = BUF_INIT(URL_MAX);
	const uint64_t end_ms = t->buf && h->get_ms ? os_posix.clock_boot_ms(&os_posix) + h->get_ms : 0;
	struct origin own;
	int r = address_of(h, path, &url);

	if (r == 0 && h->tls) {
		r = base_origin(h, &own);
		if (r == 0)
			r = tls_aim(h->tls, own.host, own.port);
	}
	for (unsigned hops = 0; r == 0; hops++) {
		t->status = 0;
		t->headers_len = 0;
		t->dropped = 0;
		r = prepare(h, buf_str(&url), 0, t);
		if (r == 0)
			r = limit_time(h, end_ms);
		if (r == 0)
			r = perform(h, t, headers);
		if (r < 0 || !sends_on(t->status))
			break;
		r = hops < HTTP_REDIRECTS_MAX
			    ? follow(h, t, &url)
			    : refuse(h, t, "sent on more than %d times", (int) HTTP_REDIRECTS_MAX);
	}
	return r;
}

static int http_get(struct fetcher *f, const char *name, uint64_t max, struct buf *ret)
{
	struct http *h = ((struct http_fetcher *) f)->http;
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(URL_MAX);
	struct transfer t = { .take = take_into_buf, .buf = ret, .buf_start = ret->len, .max = max };
	int r;

	if (!guard_path(name))
		return http_fail(h, -ERR_NAME, "a name that cannot be asked for");
	r = encode_name(name, &path);
	if (r == 0)
		r = perform_get(h, buf_str(&path), &t, NULL);
	if (r == -ERR_HTTP_STATUS || (r == 0 && t.status != 200))
		r = status_error(h, &t);
	if (r < 0)
		drop_body(&t);
	return r;
}

void http_limit_get(struct http *h, uint64_t ms)
{
	h->get_ms = ms;
}

void http_fetcher_init(struct http_fetcher *f, struct http *h)
{
	*f = (struct http_fetcher){ .fetcher = { .get = http_get }, .http = h };
}

/* Once, before the first byte: where in the file it belongs. */
static int begin_file(struct transfer *t)
{
	int r;

	t->begun = true;
	if (t->status == 206) {
		if (!t->asked_range || !t->has_range || t->range_start != t->offset)
			return -ERR_NETWORK;
		return 0;
	}
	if (t->keep && t->asked_range)
		return -EEXIST;
	r = os_posix.ftruncate(&os_posix, t->fd, 0);
	if (r < 0)
		return r;
	t->offset = 0;
	memcpy(t->ret_etag, t->etag, sizeof(t->etag));
	return 0;
}

static int take_into_file(struct transfer *t, const uint8_t *data, size_t len)
{
	int r;

	if (t->status != 200 && t->status != 206) {
		t->dropped += len;
		return t->dropped > ERROR_BODY_MAX ? -ERR_HTTP_STATUS : 0;
	}
	r = t->begun ? 0 : begin_file(t);
	if (r < 0)
		return r;
	if (t->offset > t->length || len > t->length - t->offset)
		return -ERR_TOO_LARGE;
	while (len > 0) {
		ssize_t n = os_posix.pwrite(&os_posix, t->fd, data, len, t->offset);

		if (n <= 0)
			return n < 0 ? (int) n : -EIO;
		data += n;
		len -= (size_t) n;
		t->offset += (uint64_t) n;
	}
	return t->progress && t->progress(t->user, t->offset) != 0 ? -ECANCELED : 0;
}

static int save_once(struct http *h, const char *path, struct transfer *t)
{
	CLEANUP(free_headers)
	struct curl_slist *headers = NULL;
	char range[48];
	int r = 0;

	t->asked_range = t->offset > 0;
	if (t->asked_range) {
		(void) snprintf(range, sizeof(range), "bytes=%" PRIu64 "-", t->offset); /* always fits */
		r = add_header(&headers, "Range", range);
		if (r == 0)
			r = add_header(&headers, "If-Range", t->ret_etag);
	}
	if (r == 0)
		r = perform_get(h, path, t, headers);
	if (r == 0 && (t->status == 200 || t->status == 206) && !t->begun)
		r = begin_file(t); /* an empty body */
	return r;
}

int http_save(struct http *h, const char *name, uint64_t length, int fd, uint64_t offset, char etag[static 128],
	      int (*progress)(void *user, uint64_t bytes), void *user)
{
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(URL_MAX);
	struct transfer t;
	int r;

	if (!guard_path(name))
		return http_fail(h, -ERR_NAME, "a name that cannot be asked for");
	r = encode_name(name, &path);
	if (r < 0)
		return http_fail(h, r, "a name that cannot be asked for");
	/* What is there came from a file nobody can name any more, or is no part of this one. */
	if (!etag_is_strong(etag) || offset >= length)
		offset = 0;
	for (;;) {
		t = (struct transfer){ .take = take_into_file,
				       .fd = fd,
				       .offset = offset,
				       .length = length,
				       .keep = h->keep_begun,
				       .ret_etag = etag,
				       .progress = progress,
				       .user = user };
		r = save_once(h, buf_str(&path), &t);
		if (r < 0 || t.status != 416 || offset == 0)
			break;
		if (t.keep)
			return http_fail(h, -EEXIST, "it is another file there than the one that was begun");
		offset = 0; /* it became shorter than what we have */
	}
	if (r == -ERR_HTTP_STATUS || (r == 0 && t.status != 200 && t.status != 206))
		r = status_error(h, &t);
	return r;
}
