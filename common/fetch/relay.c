#include "fetch/relay.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	LAST_WORDS_MS = 500,
	RESOLVE_MS = 5000,
	CONNECT_MS = 10000,
	SILENCE_MS = 90 * 1000,
	SLICE_MS = 100,
	RACE_MS = 250, /* the second address family starts that much later (RFC 8305) */
	CHUNK_BYTES = 16 * 1024,
	BACKLOG = 4,
	THREAD_STACK = 512 * 1024,
	HTTP_PROXY_PORT = 1080, /* curl's, where a proxy's address names none */
	PROXY_AUTHENTICATION_REQUIRED = 407,
	UNAUTHORIZED = 401, /* tinyproxy's word for a wrong password */
};

#define SOCKET_NAME "relay.sock"

struct relay {
	const struct os *os;
	int dirfd; /* ours: the path goes through it */
	char *host, *proxy;
	unsigned port, resolve_ms, connect_ms, silence_ms;
	struct resolve_list fixed;
	struct resolver *resolver;
	char path[64];
	int listen_fd, stop_fd;
	pthread_t thread;
	pthread_mutex_t lock; /* guards what follows */
	struct relay_state state;
	bool proved; /* by what was said over the connection there is */
};

/* One direction of a connection. */
struct flow {
	uint8_t data[CHUNK_BYTES];
	size_t start, end;
	bool ended; /* nothing more comes */
};

struct passage {
	struct relay *relay;
	int client;
	CURL *curl;
	long proxy_status, offers; /* what the proxy answered to CONNECT at first; CURLAUTH_ bits */
	curl_socket_t fd;
	char hop[RESOLVE_HOST_MAX + 1]; /* dialled, */
	struct resolve_list list; /* at one of these */
	bool kept;
	struct flow up, down;
};

/* --- what is told --- */

static void set_step(struct relay *r, enum relay_step step)
{
	(void) pthread_mutex_lock(&r->lock);
	if (step == RELAY_RESOLVE) {
		r->state = (struct relay_state){ .step = step };
		r->proved = false;
	}
	r->state.step = step;
	(void) pthread_mutex_unlock(&r->lock);
}

static void set_failure(struct relay *r, enum relay_step step, long proxy_status, const char *reason)
{
	(void) pthread_mutex_lock(&r->lock);
	r->state.step = step;
	r->state.failed = true;
	r->state.proxy_status = proxy_status;
	(void) snprintf(r->state.reason, sizeof(r->state.reason), "%s", reason); /* a longer one is cut */
	(void) pthread_mutex_unlock(&r->lock);
}

void relay_state(struct relay *r, struct relay_state *ret)
{
	(void) pthread_mutex_lock(&r->lock);
	*ret = r->state;
	(void) pthread_mutex_unlock(&r->lock);
}

void relay_proved(struct relay *r)
{
	(void) pthread_mutex_lock(&r->lock);
	r->proved = r->state.step == RELAY_UP;
	(void) pthread_mutex_unlock(&r->lock);
}

/* --- where to dial --- */

/* The host and port a TCP connection is made to: the proxy's, if there is one. */
static int first_hop(const struct relay *r, char host[static RESOLVE_HOST_MAX + 1], unsigned *ret_port)
{
	CURLU *url = NULL;
	char *name = NULL, *port = NULL;
	uint64_t number = HTTP_PROXY_PORT;
	int e = -ERR_CONFIG;

	if (!r->proxy) {
		(void) snprintf(host, RESOLVE_HOST_MAX + 1, "%s", r->host); /* checked at the start */
		*ret_port = r->port;
		return 0;
	}
	url = curl_url();
	if (url && curl_url_set(url, CURLUPART_URL, r->proxy, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK &&
	    curl_url_get(url, CURLUPART_HOST, &name, 0) == CURLUE_OK && strlen(name) <= RESOLVE_HOST_MAX) {
		size_t len = strlen(name);
		bool bracketed = len > 2 && name[0] == '[';

		(void) snprintf(host, RESOLVE_HOST_MAX + 1, "%.*s", (int) (len - (bracketed ? 2 : 0)),
				name + bracketed);
		e = 0;
		if (curl_url_get(url, CURLUPART_PORT, &port, 0) == CURLUE_OK)
			e = parse_u64(port, &number);
		*ret_port = (unsigned) (number & 0xffff);
	}
	curl_free(name);
	curl_free(port);
	curl_url_cleanup(url);
	return e;
}

static bool is_over(int stop_fd, int client)
{
	struct pollfd fds[2] = { { .fd = stop_fd, .events = POLLIN }, { .fd = client, .events = 0 } };

	return poll(fds, 2, 0) > 0 && (fds[0].revents || fds[1].revents & (POLLHUP | POLLERR));
}

static int find_addresses(struct passage *p, const char *host, struct resolve_list *ret)
{
	struct relay *r = p->relay;
	char words[RESOLVE_HOST_MAX + 128];
	int e = -ERR_DEADLINE;

	if (r->fixed.count > 0 && !r->proxy) {
		*ret = r->fixed;
		ret->fresh = true;
		return 0;
	}
	/* In slices, so that a stop or a client that gave up is noticed. */
	for (unsigned waited = 0; waited < r->resolve_ms; waited += SLICE_MS) {
		e = resolver_find(r->resolver, host, SLICE_MS, ret);
		if (e == 0 ? !ret->late : e != -ERR_DEADLINE)
			break;
		if (is_over(r->stop_fd, p->client))
			return -ECANCELED;
	}
	if (e == 0)
		return 0;
	if (e == -ERR_DEADLINE)
		(void) snprintf(words, sizeof(words),
				"the resolver did not answer for %s in %u ms, and no earlier address is known",
				host, r->resolve_ms);
	else
		(void) snprintf(words, sizeof(words),
				"the name %s does not resolve, and no earlier address is known", host);
	set_failure(r, RELAY_RESOLVE, 0, words);
	return e;
}

/* "host:port:address,address" for CURLOPT_RESOLVE: libcurl asks no resolver of its own then. */
static int pin_addresses(const char *host, unsigned port, const struct resolve_list *list, struct curl_slist **ret)
{
	CLEANUP(buf_done)
	struct buf line = BUF_INIT(1024);
	int e;

	e = buf_addf(&line, "%s:%u:", host, port);
	for (size_t i = 0; e == 0 && i < list->count; i++)
		e = buf_addf(&line, strchr(list->items[i], ':') ? "%s[%s]" : "%s%s", i > 0 ? "," : "",
			     list->items[i]);
	if (e < 0)
		return e;
	*ret = curl_slist_append(NULL, buf_str(&line));
	return *ret ? 0 : -ENOMEM;
}

/* --- dialling --- */

static int on_socket(void *user, curl_socket_t fd, curlsocktype purpose)
{
	struct relay *r = user;
	const unsigned silence = r->silence_ms;
	const int on = 1, idle_s = (int) (silence / 1000) + 1;

	(void) purpose;
	/* A dead road shows within this time, not after the kernel's 15 minutes. What fails here only costs that. */
	(void) setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silence, sizeof(silence));
	(void) setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	return CURL_SOCKOPT_OK;
}

/* libcurl asks about once a second: does anybody still want this connection? */
static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	const struct passage *p = user;

	(void) a;
	(void) b;
	(void) c;
	(void) d;
	return is_over(p->relay->stop_fd, p->client);
}

#define SET(option, value)                                                                                        \
	do {                                                                                                      \
		if (code == CURLE_OK)                                                                             \
			code = curl_easy_setopt(p->curl, (option), (value));                                      \
	} while (0)

static bool has_user(const char *proxy)
{
	return strchr(proxy, '@') != NULL;
}

static CURLcode prepare(struct passage *p, const char *url, struct curl_slist *pinned, char *error)
{
	struct relay *r = p->relay;
	CURLcode code = CURLE_OK;

	SET(CURLOPT_ERRORBUFFER, error);
	SET(CURLOPT_URL, url);
	SET(CURLOPT_PROTOCOLS_STR, "http");
	SET(CURLOPT_CONNECT_ONLY, 1L);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_QUICK_EXIT, 1L); /* never wait for a resolver's thread */
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) r->connect_ms);
	SET(CURLOPT_HAPPY_EYEBALLS_TIMEOUT_MS, (long) RACE_MS);
	SET(CURLOPT_TCP_NODELAY, 1L);
	SET(CURLOPT_RESOLVE, pinned);
	SET(CURLOPT_SOCKOPTFUNCTION, on_socket);
	SET(CURLOPT_SOCKOPTDATA, r);
	SET(CURLOPT_XFERINFOFUNCTION, on_progress);
	SET(CURLOPT_XFERINFODATA, p);
	SET(CURLOPT_NOPROGRESS, 0L);
	/* Our caller knows about exceptions; the environment has no say here. */
	SET(CURLOPT_NOPROXY, "");
	SET(CURLOPT_PROXY, r->proxy ? r->proxy : "");
	if (r->proxy) {
		SET(CURLOPT_HTTPPROXYTUNNEL, 1L);
		/* Where Negotiate is offered beside it curl would look for a ticket, and never use the password. */
		SET(CURLOPT_PROXYAUTH,
		    (long) (has_user(r->proxy) ? CURLAUTH_ANY & ~CURLAUTH_NEGOTIATE : CURLAUTH_ANY));
		SET(CURLOPT_USERAGENT, "selfright/" SELFRIGHT_VERSION);
		SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	}
	return code;
}

static bool wants_ticket(const struct passage *p)
{
	return p->proxy_status == PROXY_AUTHENTICATION_REQUIRED && p->offers & CURLAUTH_NEGOTIATE &&
	       (!has_user(p->relay->proxy) ||
		!(p->offers & (long) (CURLAUTH_BASIC | CURLAUTH_DIGEST | CURLAUTH_NTLM)));
}

static void say_offers(long offers, char out[static 64])
{
	static const struct {
		unsigned long bit;
		const char *name;
	} kinds[] = { { CURLAUTH_NEGOTIATE, "Negotiate" },
		      { CURLAUTH_DIGEST, "Digest" },
		      { CURLAUTH_NTLM, "NTLM" },
		      { CURLAUTH_BASIC, "Basic" } };
	size_t len = 0;

	out[0] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if ((unsigned long) offers & kinds[i].bit)
			len += (size_t) snprintf(out + len, 64 - len, "%s%s", len > 0 ? ", " : "", kinds[i].name);
	if (len == 0)
		(void) snprintf(out, 64, "nothing we know"); /* always fits */
}

static void say_why(struct passage *p, CURLcode code, const char *hop, unsigned port, const char *error)
{
	struct relay *r = p->relay;
	char words[CURL_ERROR_SIZE + RESOLVE_HOST_MAX + 256], offers[64];
	long status = p->proxy_status;

	say_offers(p->offers, offers);
	if (r->proxy && wants_ticket(p))
		(void) snprintf(
			words, sizeof(words),
			"the proxy %s:%u answered 407: it wants a Kerberos ticket (Negotiate), and there is none "
			"that it takes%s%s; it offers %s",
			hop, port, error[0] ? ": " : "", error, offers);
	else if (r->proxy && status == PROXY_AUTHENTICATION_REQUIRED)
		(void) snprintf(words, sizeof(words),
				"the proxy %s:%u answered %ld: it wants a user and a password, or others than "
				"those of the proxy: setting; it offers %s",
				hop, port, status, offers);
	else if (r->proxy && (status == PROXY_AUTHENTICATION_REQUIRED || status == UNAUTHORIZED))
		(void) snprintf(words, sizeof(words),
				"the proxy %s:%u answered %ld: it wants a user and a password, or others than "
				"those of the proxy: setting",
				hop, port, status);
	else if (r->proxy && status >= 300)
		(void) snprintf(
			words, sizeof(words),
			"the proxy %s:%u answered %ld to CONNECT %s:%u: it must allow that address and port", hop,
			port, status, r->host, r->port);
	else if (code == CURLE_OPERATION_TIMEDOUT)
		(void) snprintf(words, sizeof(words), "no connection to %s:%u in %u ms: a firewall?", hop, port,
				r->connect_ms);
	else
		(void) snprintf(words, sizeof(words), "%s%s:%u: %s", r->proxy ? "the proxy " : "", hop, port,
				error[0] ? error : curl_easy_strerror(code));
	set_failure(r, RELAY_DIAL, status, words);
	(void) pthread_mutex_lock(&r->lock);
	r->state.wants_ticket = r->proxy && wants_ticket(p);
	(void) pthread_mutex_unlock(&r->lock);
}

static void note_success(struct passage *p, const struct resolve_list *list)
{
	struct relay *r = p->relay;
	char *address = NULL;

	(void) curl_easy_getinfo(p->curl, CURLINFO_PRIMARY_IP, &address); /* cannot fail */
	if (!address)
		return;
	p->list = *list;
	(void) pthread_mutex_lock(&r->lock);
	(void) snprintf(r->state.address, sizeof(r->state.address), "%s", address);
	r->state.kept_address = !list->fresh;
	(void) pthread_mutex_unlock(&r->lock);
}

/* What the road turned out to be: kept for times without a resolver. */
static void keep_if_proved(struct passage *p)
{
	struct relay *r = p->relay;
	bool proved;

	(void) pthread_mutex_lock(&r->lock);
	proved = r->proved;
	(void) pthread_mutex_unlock(&r->lock);
	if (!proved || p->kept)
		return;
	p->kept = true;
	resolver_keep(r->resolver, p->hop, r->state.address, &p->list); /* written by this thread alone */
}

/* With the node's own Kerberos ticket, where the proxy wants one and no user is configured. */
static CURLcode dial_with_ticket(struct passage *p, CURLcode first)
{
	CURLcode code = CURLE_OK;

	(void) curl_easy_getinfo(p->curl, CURLINFO_HTTP_CONNECTCODE, &p->proxy_status); /* cannot fail */
	(void) curl_easy_getinfo(p->curl, CURLINFO_PROXYAUTH_AVAIL, &p->offers); /* as above */
	if (first == CURLE_OK || has_user(p->relay->proxy) || !wants_ticket(p))
		return first;
	SET(CURLOPT_PROXYAUTH, (long) CURLAUTH_NEGOTIATE);
	SET(CURLOPT_PROXYUSERPWD, ":");
	return code == CURLE_OK ? curl_easy_perform(p->curl) : code;
}

static int dial_list(struct passage *p, unsigned port, const struct resolve_list *list)
{
	struct relay *r = p->relay;
	const char *hop = p->hop;
	struct curl_slist *pinned = NULL;
	char url[RESOLVE_HOST_MAX + 32], error[CURL_ERROR_SIZE] = "";
	CURLcode code;
	int e = pin_addresses(hop, port, list, &pinned);

	if (e < 0)
		return e;
	(void) snprintf(url, sizeof(url), strchr(r->host, ':') ? "http://[%s]:%u/" : "http://%s:%u/", r->host,
			r->port);
	code = prepare(p, url, pinned, error);
	if (code == CURLE_OK)
		code = curl_easy_perform(p->curl);
	if (r->proxy)
		code = dial_with_ticket(p, code);
	if (code == CURLE_OK)
		code = curl_easy_getinfo(p->curl, CURLINFO_ACTIVESOCKET, &p->fd);
	if (code == CURLE_OK && p->fd == CURL_SOCKET_BAD)
		code = CURLE_COULDNT_CONNECT;
	if (code != CURLE_OK)
		say_why(p, code, hop, port, error);
	else
		note_success(p, list);
	(void) curl_easy_setopt(p->curl, CURLOPT_ERRORBUFFER, NULL); /* it ends with this function */
	(void) curl_easy_setopt(p->curl, CURLOPT_RESOLVE, NULL);
	curl_slist_free_all(pinned);
	return code == CURLE_OK ? 0 : -ERR_NETWORK;
}

static int dial(struct passage *p)
{
	struct relay *r = p->relay;
	struct resolve_list list = { .count = 0 };
	unsigned port = 0;
	int e;

	set_step(r, RELAY_RESOLVE);
	e = first_hop(r, p->hop, &port);
	if (e < 0) {
		set_failure(r, RELAY_RESOLVE, 0, "the address of the proxy cannot be understood");
		return e;
	}
	e = find_addresses(p, p->hop, &list);
	if (e < 0)
		return e;
	set_step(r, RELAY_DIAL);
	p->curl = curl_easy_init();
	return p->curl ? dial_list(p, port, &list) : -ENOMEM;
}

/* --- passing bytes --- */

static bool flow_is_empty(const struct flow *f)
{
	return f->start == f->end;
}

static bool flow_has_room(const struct flow *f)
{
	return !f->ended && f->start == f->end;
}

static void read_client(struct passage *p)
{
	ssize_t n = read(p->client, p->up.data, CHUNK_BYTES);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	p->up.start = 0;
	p->up.end = n > 0 ? (size_t) n : 0;
	p->up.ended = n <= 0;
}

static void say_end(struct passage *p, CURLcode code)
{
	char words[160];
	long number = 0;

	(void) curl_easy_getinfo(p->curl, CURLINFO_OS_ERRNO, &number); /* cannot fail */
	if (code == CURLE_OK)
		(void) snprintf(words, sizeof(words), "the other side closed the connection");
	else if (number == ETIMEDOUT)
		(void) snprintf(words, sizeof(words), "nothing was acknowledged for %u s: the road is dead",
				p->relay->silence_ms / 1000);
	else
		(void) snprintf(words, sizeof(words), "the connection broke: %s",
				number > 0 && number < 1024 ? err_text(-(int) number) : curl_easy_strerror(code));
	set_failure(p->relay, RELAY_ENDED, 0, words);
}

static void read_broker(struct passage *p)
{
	size_t n = 0;
	CURLcode code = curl_easy_recv(p->curl, p->down.data, CHUNK_BYTES, &n);

	if (code == CURLE_AGAIN)
		return;
	p->down.start = 0;
	p->down.end = n;
	p->down.ended = code != CURLE_OK || n == 0;
	if (p->down.ended)
		say_end(p, code);
}

/* False when the connection is over. */
static bool write_client(struct passage *p)
{
	ssize_t n = send(p->client, p->down.data + p->down.start, p->down.end - p->down.start, MSG_NOSIGNAL);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	p->down.start += (size_t) n;
	return true;
}

static bool write_broker(struct passage *p)
{
	size_t n = 0;
	CURLcode code = curl_easy_send(p->curl, p->up.data + p->up.start, p->up.end - p->up.start, &n);

	if (code != CURLE_OK && code != CURLE_AGAIN) {
		say_end(p, code);
		return false;
	}
	p->up.start += n;
	return true;
}

/*
 * Both ways until one side has ended and what it said is delivered. No more is read than was passed on.
 * Proof is looked for whenever bytes have passed: what proves is followed by words of the client.
 * Told to stop, or left by its client, it still delivers what the client said last: a DISCONNECT that is lost publishes
 * the will. A broker that takes nothing does not keep the next connection waiting.
 */
static void pass(struct passage *p)
{
	const struct os *os = p->relay->os;
	uint64_t stop_at_ms = 0;
	bool left = false;

	set_step(p->relay, RELAY_UP);
	for (;;) {
		uint64_t now = os->clock_boot_ms(os);
		struct pollfd fds[3] = { { .fd = stop_at_ms ? -1 : p->relay->stop_fd, .events = POLLIN },
					 { .fd = left && !flow_is_empty(&p->up) ? -1 : p->client },
					 { .fd = p->fd } };

		if ((p->up.ended && flow_is_empty(&p->up)) || (p->down.ended && flow_is_empty(&p->down)))
			return;
		fds[1].events =
			(short) ((flow_has_room(&p->up) ? POLLIN : 0) | (flow_is_empty(&p->down) ? 0 : POLLOUT));
		fds[2].events =
			(short) ((flow_has_room(&p->down) ? POLLIN : 0) | (flow_is_empty(&p->up) ? 0 : POLLOUT));
		if (stop_at_ms && now >= stop_at_ms)
			return;
		if (poll(fds, 3, stop_at_ms ? (int) (stop_at_ms - now) : -1) < 0) {
			if (errno == EINTR)
				continue;
			return;
		}
		keep_if_proved(p);
		left = left || fds[1].revents & (POLLHUP | POLLERR);
		if ((fds[0].revents || left) && !stop_at_ms)
			stop_at_ms = now + LAST_WORDS_MS;
		if (fds[1].revents & (POLLIN | POLLHUP | POLLERR) && flow_has_room(&p->up))
			read_client(p);
		if (fds[2].revents & (POLLIN | POLLHUP | POLLERR) && flow_has_room(&p->down))
			read_broker(p);
		if (!flow_is_empty(&p->up) && !write_broker(p))
			return;
		if (!flow_is_empty(&p->down) && !write_client(p))
			return;
	}
}

/* --- the thread --- */

/* Only this process: the folder keeps others out, the kernel confirms it. */
static bool is_ours(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.pid == getpid();
}

static void serve(struct relay *r, int client)
{
	struct passage *p;

	if (!is_ours(client))
		return;
	p = calloc(1, sizeof(*p));
	if (!p) {
		set_failure(r, RELAY_DIAL, 0, err_text(-ENOMEM));
		return;
	}
	p->relay = r;
	p->client = client;
	p->fd = CURL_SOCKET_BAD;
	if (dial(p) == 0)
		pass(p);
	if (p->curl)
		curl_easy_cleanup(p->curl);
	free(p);
}

static void *work(void *user)
{
	struct relay *r = user;

	for (;;) {
		struct pollfd fds[2] = { { .fd = r->stop_fd, .events = POLLIN },
					 { .fd = r->listen_fd, .events = POLLIN } };
		int client;

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return NULL;
		if (fds[0].revents)
			return NULL;
		client = accept4(r->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (client < 0)
			continue;
		serve(r, client);
		(void) close(client); /* its bytes were passed on or are wanted by nobody */
	}
}

/* --- birth and end --- */

static int listen_here(struct relay *r)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int e;

	e = snprintf(r->path, sizeof(r->path), "/proc/self/fd/%d/" SOCKET_NAME, r->dirfd);
	if (e < 0 || (size_t) e >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, r->path, (size_t) e + 1);
	e = r->os->unlinkat(r->os, r->dirfd, SOCKET_NAME, 0);
	if (e < 0 && e != -ENOENT)
		return e;
	r->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (r->listen_fd < 0 || bind(r->listen_fd, (struct sockaddr *) &address, sizeof(address)) < 0 ||
	    listen(r->listen_fd, BACKLOG) < 0)
		return -errno;
	return 0;
}

static int start_thread(struct relay *r)
{
	pthread_attr_t attributes;
	int e;

	(void) pthread_attr_init(&attributes); /* neither can fail with these arguments */
	(void) pthread_attr_setstacksize(&attributes, THREAD_STACK);
	e = -pthread_create(&r->thread, &attributes, work, r);
	(void) pthread_attr_destroy(&attributes);
	return e;
}

static void destroy(struct relay *r)
{
	/* The name stays: by now it may be that of the process that follows this one. */
	if (r->listen_fd >= 0)
		(void) close(r->listen_fd);
	if (r->stop_fd >= 0)
		(void) close(r->stop_fd);
	if (r->dirfd >= 0)
		(void) close(r->dirfd); /* opened for lookups */
	resolver_free(r->resolver);
	(void) pthread_mutex_destroy(&r->lock); /* nobody holds it */
	free(r->host);
	if (r->proxy)
		explicit_bzero(r->proxy, strlen(r->proxy));
	free(r->proxy);
	free(r);
	curl_global_cleanup();
}

static int take_options(struct relay *r, const struct relay_options *o)
{
	const struct resolver_options resolver = { .os = o->os, .dirfd = o->dirfd, .lookup = o->lookup };

	if (!o->host || strlen(o->host) > RESOLVE_HOST_MAX || o->port == 0 || o->port > 65535)
		return -ERR_CONFIG;
	r->host = strdup(o->host);
	r->proxy = o->proxy ? strdup(o->proxy) : NULL;
	if (!r->host || (o->proxy && !r->proxy))
		return -ENOMEM;
	for (size_t i = 0; i < o->address_count && i < RESOLVE_ADDRESSES_MAX; i++)
		(void) snprintf(r->fixed.items[r->fixed.count++], RESOLVE_ADDRESS_TEXT, "%s", o->addresses[i]);
	r->port = o->port;
	r->resolve_ms = o->resolve_ms ? o->resolve_ms : RESOLVE_MS;
	r->connect_ms = o->connect_ms ? o->connect_ms : CONNECT_MS;
	r->silence_ms = o->silence_ms ? o->silence_ms : SILENCE_MS;
	r->dirfd = fcntl(o->dirfd, F_DUPFD_CLOEXEC, 3);
	if (r->dirfd < 0)
		return -errno;
	return resolver_new(&resolver, &r->resolver);
}

int relay_start(const struct relay_options *o, struct relay **ret)
{
	struct relay *r;
	int e;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) /* counts; the first call does the work */
		return -ENOMEM;
	r = calloc(1, sizeof(*r));
	if (!r) {
		curl_global_cleanup();
		return -ENOMEM;
	}
	r->os = o->os;
	r->dirfd = r->listen_fd = r->stop_fd = -1;
	(void) pthread_mutex_init(&r->lock, NULL); /* cannot fail on Linux */
	e = take_options(r, o);
	if (e == 0)
		e = listen_here(r);
	if (e == 0) {
		r->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		e = r->stop_fd < 0 ? -errno : start_thread(r);
	}
	if (e < 0) {
		destroy(r);
		return e;
	}
	*ret = r;
	return 0;
}

void relay_stop(struct relay *r)
{
	const uint64_t one = 1;

	if (!r)
		return;
	(void) !write(r->stop_fd, &one, sizeof(one)); /* an eventfd refuses only at 2^64 - 1 */
	(void) pthread_join(r->thread, NULL); /* it is ours and joinable */
	destroy(r);
}

const char *relay_path(const struct relay *r)
{
	return r->path;
}
