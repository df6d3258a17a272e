#include "agent/probe/run.h"

#include "agent/probe/probe.h"
#include "base/err.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { HEADER_MAX = 16 * 1024 };

static bool resolve_v4(const char *host, uint16_t port, struct run_address *ret)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };

	if (inet_pton(AF_INET, host, &a.sin_addr) != 1)
		return false;
	memcpy(&ret->address, &a, sizeof(a));
	ret->len = sizeof(a);
	return true;
}

/* With or without the brackets that a URL wants. */
static bool resolve_v6(const char *host, uint16_t port, struct run_address *ret)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	char bare[INET6_ADDRSTRLEN];
	size_t len = strlen(host);

	if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
		host++;
		len -= 2;
	}
	if (len >= sizeof(bare))
		return false;
	memcpy(bare, host, len);
	bare[len] = '\0';
	if (inet_pton(AF_INET6, bare, &a.sin6_addr) != 1)
		return false;
	memcpy(&ret->address, &a, sizeof(a));
	ret->len = sizeof(a);
	return true;
}

size_t run_resolve(const char *host, uint16_t port, struct run_address ret[static RUN_ADDRESSES_MAX])
{
	if (strcmp(host, "localhost") == 0)
		return resolve_v4("127.0.0.1", port, &ret[0]) && resolve_v6("::1", port, &ret[1]) ? 2 : 0;
	return resolve_v4(host, port, &ret[0]) || resolve_v6(host, port, &ret[0]) ? 1 : 0;
}

void run_talk_init(struct run_talk *t)
{
	*t = (struct run_talk){ .fd = -1 };
	buf_init(&t->answer, HEADER_MAX + PROBE_BODY_MAX);
}

static void hang_up(struct run_talk *t)
{
	if (t->fd >= 0)
		(void) close(t->fd); /* nothing is left to be said */
	t->fd = -1;
}

void run_talk_done(struct run_talk *t)
{
	hang_up(t);
	buf_done(&t->answer);
}

void run_talk_start(struct run_talk *t, const struct run_address *addresses, size_t count, const char *request,
		    const struct http_expect *expect)
{
	hang_up(t);
	buf_done(&t->answer);
	buf_init(&t->answer, HEADER_MAX + (expect && expect->body_max ? expect->body_max : PROBE_BODY_MAX));
	memcpy(t->addresses, addresses, count * sizeof(*addresses));
	t->address_count = count;
	t->address_next = 0;
	t->request = request;
	t->expect = expect;
	t->sent = 0;
	t->connected = t->ended = false;
}

/* 1: connected; 0: under way; negative: this address refused. */
static int connect_step(struct run_talk *t)
{
	const struct run_address *a;
	int error = 0;
	socklen_t len = sizeof(error);
	struct pollfd fd = { .events = POLLOUT };

	if (t->fd < 0) {
		a = &t->addresses[t->address_next++];
		t->fd = socket(a->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (t->fd < 0)
			return -errno;
		if (connect(t->fd, (const struct sockaddr *) &a->address, a->len) == 0)
			return 1;
		return errno == EINPROGRESS || errno == EINTR ? 0 : -errno;
	}
	fd.fd = t->fd;
	if (poll(&fd, 1, 0) <= 0)
		return 0;
	if (getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return -errno;
	return error == 0 ? 1 : -error;
}

/* 0: as far as it goes; negative: broken. */
static int send_step(struct run_talk *t)
{
	size_t len = strlen(t->request);

	while (t->sent < len) {
		ssize_t n = send(t->fd, t->request + t->sent, len - t->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		t->sent += (size_t) n;
	}
	return 0;
}

static int receive_step(struct run_talk *t)
{
	char chunk[4096];

	while (!t->ended && t->answer.len < t->answer.max) {
		size_t room = t->answer.max - t->answer.len;
		ssize_t n = recv(t->fd, chunk, room < sizeof(chunk) ? room : sizeof(chunk), 0);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		if (n == 0)
			t->ended = true;
		r = buf_add(&t->answer, chunk, (size_t) n);
		if (r < 0)
			return r;
	}
	return 0;
}

static enum run_end connect_all(struct run_talk *t, struct buf *detail)
{
	for (;;) {
		int r = connect_step(t);

		if (r == 0)
			return RUN_UNDER_WAY;
		if (r > 0) {
			t->connected = true;
			return RUN_HELD;
		}
		hang_up(t);
		if (t->address_next >= t->address_count) {
			run_say(detail, "cannot connect: %s", err_text(r));
			return RUN_FAILED;
		}
	}
}

enum run_end run_talk_step(struct run_talk *t, struct buf *detail)
{
	enum run_end end;
	int r;

	if (!t->connected) {
		end = connect_all(t, detail);
		if (end != RUN_HELD)
			return end;
		if (!t->request) {
			run_say(detail, "connected");
			return RUN_HELD;
		}
	}
	r = send_step(t);
	if (r == 0)
		r = receive_step(t);
	/* A server may answer and reset before it has read everything: its answer counts. */
	end = http_judge(&t->answer, t->ended || r < 0 || t->answer.len >= t->answer.max, t->expect, detail);
	if (r < 0 && end == RUN_FAILED && t->answer.len == 0)
		run_say(detail, "the connection broke: %s", err_text(r));
	return end;
}
