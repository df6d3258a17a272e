/*
 * common/fetch/relay.h and resolve.h: the road to the broker without a network; system/roads has the
 * real proxies.
 */
#include "fetch/relay.h"

#include "base/err.h"
#include "fetch/tls.h"
#include "os/durable.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
	char path[64];
	int dirfd;
	int listener;
	unsigned port;
};

static int set_up(void **state)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct fixture *f = calloc(1, sizeof(*f));
	socklen_t len = sizeof(a);

	assert_non_null(f);
	strncpy(f->path, "/tmp/relay.XXXXXX", sizeof(f->path) - 1);
	assert_non_null(mkdtemp(f->path));
	f->dirfd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(f->listener, (struct sockaddr *) &a, sizeof(a)), 0);
	assert_int_equal(listen(f->listener, 4), 0);
	assert_int_equal(getsockname(f->listener, (struct sockaddr *) &a, &len), 0);
	f->port = ntohs(a.sin_port);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	close(f->listener);
	assert_int_equal(tree_remove(&os_posix, AT_FDCWD, f->path), 0);
	close(f->dirfd);
	free(f);
	return 0;
}

/* --- resolvers of all kinds --- */

static int lookup_loopback(const char *host, struct resolve_list *ret)
{
	(void) host;
	strcpy(ret->items[0], "127.0.0.1");
	ret->count = 1;
	return 0;
}

static int lookup_hangs(const char *host, struct resolve_list *ret)
{
	(void) host;
	(void) ret;
	sleep(3600);
	return -ERR_NETWORK;
}

static int lookup_unknown(const char *host, struct resolve_list *ret)
{
	(void) host;
	(void) ret;
	return -ENOENT;
}

static int lookup_slow(const char *host, struct resolve_list *ret)
{
	usleep(400 * 1000);
	return lookup_loopback(host, ret);
}

static struct resolver *new_resolver(struct fixture *f, int (*lookup)(const char *host, struct resolve_list *ret))
{
	const struct resolver_options o = { .os = &os_posix, .dirfd = f->dirfd, .lookup = lookup };
	struct resolver *r = NULL;

	assert_int_equal(resolver_new(&o, &r), 0);
	return r;
}

static void an_address_stands_for_itself(void **state)
{
	struct resolver *r = new_resolver(*state, lookup_hangs);
	struct resolve_list list;

	assert_int_equal(resolver_find(r, "192.0.2.7", 10, &list), 0);
	assert_string_equal(list.items[0], "192.0.2.7");
	assert_int_equal(resolver_find(r, "2001:db8::1", 10, &list), 0);
	assert_string_equal(list.items[0], "2001:db8::1");
	resolver_free(r);
}

static void a_resolver_that_hangs_is_left_behind(void **state)
{
	struct resolver *r = new_resolver(*state, lookup_hangs);
	struct resolve_list list;

	assert_int_equal(resolver_find(r, "broker.test", 30, &list), -ERR_DEADLINE);
	assert_int_equal(resolver_find(r, "broker.test", 30, &list), -ERR_DEADLINE);
	assert_int_equal(resolver_find(r, "other.test", 30, &list), -ERR_DEADLINE);
	resolver_free(r);
}

static void the_last_good_addresses_outlive_the_process(void **state)
{
	struct fixture *f = *state;
	struct resolver *r = new_resolver(f, lookup_loopback);
	struct resolve_list list;

	assert_int_equal(resolver_find(r, "broker.test", 5000, &list), 0);
	assert_true(list.fresh && !list.late);
	resolver_keep(r, "broker.test", "127.0.0.1", &list);
	resolver_free(r);

	r = new_resolver(f, lookup_hangs);
	assert_int_equal(resolver_find(r, "broker.test", 30, &list), 0);
	assert_true(list.late && !list.fresh);
	assert_string_equal(list.items[0], "127.0.0.1");
	resolver_free(r);

	/* "No such name" may be the word of a resolver that was taken over: the kept one is tried. */
	r = new_resolver(f, lookup_unknown);
	assert_int_equal(resolver_find(r, "broker.test", 5000, &list), 0);
	assert_false(list.fresh || list.late);
	assert_int_equal(resolver_find(r, "other.test", 5000, &list), -ENOENT);
	resolver_free(r);
}

static void the_newest_hosts_are_kept_and_the_file_is_written_only_for_news(void **state)
{
	struct fixture *f = *state;
	struct resolver *r = new_resolver(f, lookup_loopback);
	struct resolve_list list = { .count = 0 };
	char host[32];

	for (int i = 0; i < RESOLVE_HOSTS_MAX + 3; i++) {
		snprintf(host, sizeof(host), "h%d.test", i);
		resolver_keep(r, host, "192.0.2.1", &list);
	}
	assert_int_equal(unlinkat(f->dirfd, "addresses", 0), 0);
	resolver_keep(r, host, "192.0.2.1", &list); /* nothing new */
	assert_int_equal(faccessat(f->dirfd, "addresses", F_OK, 0), -1);
	resolver_keep(r, "h9.test", "192.0.2.9", &list);
	resolver_keep(r, "not a host", "192.0.2.9", &list);
	resolver_keep(r, "h1.test", "no address", &list);
	resolver_free(r);
	r = new_resolver(f, lookup_unknown);
	assert_int_equal(resolver_find(r, "h9.test", 5000, &list), 0);
	assert_string_equal(list.items[0], "192.0.2.9");
	assert_int_equal(resolver_find(r, "h0.test", 5000, &list), -ENOENT);
	resolver_free(r);
}

static void lines_that_are_none_are_passed_over(void **state)
{
	static const char text[] = "broker.test 192.0.2.1 nonsense 2001:db8::1\n\n  \nalone\n../x 192.0.2.1\n"
				   "last.test 192.0.2.2";
	struct resolve_kept kept;

	(void) state;
	resolve_kept_parse(text, &kept);
	assert_int_equal(kept.count, 2);
	assert_string_equal(kept.hosts[0].host, "broker.test");
	assert_int_equal(kept.hosts[0].list.count, 2);
	assert_string_equal(kept.hosts[0].list.items[1], "2001:db8::1");
	assert_string_equal(kept.hosts[1].list.items[0], "192.0.2.2");
}

/* --- the relay --- */

static struct relay *start(struct fixture *f, const char *host, const char *proxy,
			   int (*lookup)(const char *host, struct resolve_list *ret))
{
	const struct relay_options o = { .os = &os_posix,
					 .dirfd = f->dirfd,
					 .host = host,
					 .port = f->port,
					 .proxy = proxy,
					 .resolve_ms = 300,
					 .connect_ms = 2000,
					 .lookup = lookup };
	struct relay *r = NULL;

	assert_int_equal(relay_start(&o, &r), 0);
	return r;
}

static int enter(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strncpy(a.sun_path, path, sizeof(a.sun_path) - 1);
	assert_int_equal(connect(fd, (struct sockaddr *) &a, sizeof(a)), 0);
	return fd;
}

static void bytes_pass_both_ways_and_an_end_is_an_end(void **state)
{
	struct fixture *f = *state;
	struct relay *r = start(f, "broker.test", NULL, lookup_loopback);
	struct relay_state s;
	int client = enter(relay_path(r)), broker;
	char got[16] = "";

	assert_int_equal(write(client, "ping", 4), 4);
	broker = accept(f->listener, NULL, NULL);
	assert_true(broker >= 0);
	assert_int_equal(read(broker, got, sizeof(got)), 4);
	assert_memory_equal(got, "ping", 4);
	assert_int_equal(write(broker, "pong!", 5), 5);
	assert_int_equal(read(client, got, sizeof(got)), 5);
	assert_memory_equal(got, "pong!", 5);
	relay_state(r, &s);
	assert_int_equal(s.step, RELAY_UP);
	assert_string_equal(s.address, "127.0.0.1");
	/* What was said before the end still arrives. */
	assert_int_equal(write(broker, "bye", 3), 3);
	close(broker);
	assert_int_equal(read(client, got, sizeof(got)), 3);
	assert_int_equal(read(client, got, sizeof(got)), 0);
	relay_state(r, &s);
	assert_int_equal(s.step, RELAY_ENDED);
	assert_string_equal(s.reason, "the other side closed the connection");
	close(client);
	/* And the next one is served. */
	client = enter(relay_path(r));
	broker = accept(f->listener, NULL, NULL);
	assert_int_equal(write(broker, "again", 5), 5);
	assert_int_equal(read(client, got, sizeof(got)), 5);
	close(client);
	assert_int_equal(read(broker, got, sizeof(got)), 0);
	close(broker);
	relay_stop(r);
	r = start(f, "broker.test", NULL, lookup_loopback); /* takes the place of what the last one left */
	relay_stop(r);
}

/* One that was given up must not hold up the next until its broker takes the rest. */
static void a_broker_that_takes_nothing_does_not_keep_the_next_waiting(void **state)
{
	struct fixture *f = *state;
	struct relay *r = start(f, "broker.test", NULL, lookup_loopback);
	int client = enter(relay_path(r)), broker = accept(f->listener, NULL, NULL), next;
	struct pollfd p = { .fd = f->listener, .events = POLLIN };
	static char much[4096];
	char got[16] = "";

	assert_int_equal(fcntl(client, F_SETFL, O_NONBLOCK), 0);
	for (int refused = 0; refused < 50;) {
		if (write(client, much, sizeof(much)) > 0)
			refused = 0;
		else if (++refused)
			usleep(10 * 1000);
	}
	close(client);
	client = enter(relay_path(r));
	assert_int_equal(poll(&p, 1, 20 * 1000), 1);
	next = accept(f->listener, NULL, NULL);
	assert_int_equal(write(next, "hello", 5), 5);
	assert_int_equal(read(client, got, sizeof(got)), 5);
	close(client);
	close(next);
	close(broker);
	relay_stop(r);
}

static int keeps(struct fixture *f, const char *text)
{
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(4096);
	int r = file_read(&os_posix, f->dirfd, "addresses", b.max, &b);

	return text ? r == 0 && strcmp(buf_str(&b), text) == 0 : r == -ENOENT;
}

static void only_the_address_of_a_proven_broker_is_kept(void **state)
{
	struct fixture *f = *state;
	struct relay *r = start(f, "broker.test", NULL, lookup_loopback);
	char got[16] = "";

	for (int proven = 0; proven < 2; proven++) {
		int client = enter(relay_path(r)), broker;

		assert_int_equal(write(client, "who?", 4), 4);
		broker = accept(f->listener, NULL, NULL);
		assert_int_equal(read(broker, got, sizeof(got)), 4);
		assert_int_equal(write(broker, "I", 1), 1);
		assert_int_equal(read(client, got, sizeof(got)), 1);
		if (proven)
			relay_proved(r);
		assert_int_equal(write(client, "well", 4), 4);
		assert_int_equal(read(broker, got, sizeof(got)), 4);
		close(client);
		assert_int_equal(read(broker, got, sizeof(got)), 0); /* it is done with this one */
		close(broker);
		assert_true(keeps(f, proven ? "broker.test 127.0.0.1\n" : NULL));
	}
	/* What was said of an earlier connection is no word about the next one. */
	relay_proved(r);
	assert_int_equal(unlinkat(f->dirfd, "addresses", 0), 0);
	{
		int client = enter(relay_path(r)), broker = accept(f->listener, NULL, NULL);

		assert_int_equal(write(client, "who?", 4), 4);
		assert_int_equal(read(broker, got, sizeof(got)), 4);
		close(client);
		assert_int_equal(read(broker, got, sizeof(got)), 0);
		close(broker);
	}
	relay_stop(r);
	assert_true(keeps(f, NULL));
}

static void much_passes_through_small_buffers(void **state)
{
	struct fixture *f = *state;
	struct relay *r = start(f, "127.0.0.1", NULL, NULL);
	int client = enter(relay_path(r)), broker = accept(f->listener, NULL, NULL), status = 0;
	enum { MUCH = 8 * 1024 * 1024 };
	static char out[65536], in[65536];
	size_t sent = 0, got = 0;
	pid_t child = fork();

	if (child == 0) { /* the other side: everything comes back */
		for (size_t back = 0; back < MUCH;) {
			ssize_t n = read(broker, in, sizeof(in));

			if (n <= 0 || write(broker, in, (size_t) n) != n)
				_exit(1);
			back += (size_t) n;
		}
		_exit(0);
	}
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (char) (i * 31 >> 3);
	assert_int_equal(fcntl(client, F_SETFL, O_NONBLOCK), 0);
	while (got < MUCH) {
		ssize_t n = sent < MUCH ? write(client, out,
						sizeof(out) - sent % sizeof(out) > MUCH - sent
							? MUCH - sent
							: sizeof(out) - sent % sizeof(out))
					: 0;

		if (n > 0)
			sent += (size_t) n;
		n = read(client, in, sizeof(in));
		if (n > 0)
			got += (size_t) n;
		else if (n == 0 || errno != EAGAIN)
			fail();
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	close(client);
	close(broker);
	relay_stop(r);
}

static void await_failure(struct relay *r, struct relay_state *s)
{
	for (int i = 0; i < 3000; i++) {
		relay_state(r, s);
		if (s->failed)
			return;
		usleep(10 * 1000);
	}
	fail_msg("no failure was told");
}

static void why_there_is_no_road_is_told(void **state)
{
	struct fixture *f = *state;
	struct relay *r = start(f, "broker.test", NULL, lookup_hangs);
	struct relay_state s;
	int client = enter(relay_path(r));
	char byte;

	await_failure(r, &s);
	assert_int_equal(s.step, RELAY_RESOLVE);
	assert_string_equal(
		s.reason,
		"the resolver did not answer for broker.test in 300 ms, and no earlier address is known");
	assert_int_equal(read(client, &byte, 1), 0);
	close(client);
	relay_stop(r);

	r = start(f, "broker.test", NULL, lookup_unknown);
	client = enter(relay_path(r));
	await_failure(r, &s);
	assert_string_equal(s.reason, "the name broker.test does not resolve, and no earlier address is known");
	close(client);
	relay_stop(r);

	close(f->listener);
	f->listener = -1;
	r = start(f, "broker.test", NULL, lookup_loopback);
	client = enter(relay_path(r));
	await_failure(r, &s);
	assert_int_equal(s.step, RELAY_DIAL);
	assert_non_null(strstr(s.reason, "broker.test:"));
	close(client);
	relay_stop(r);
}

static void a_slow_resolver_is_waited_for(void **state)
{
	struct fixture *f = *state;
	const struct relay_options o = { .os = &os_posix,
					 .dirfd = f->dirfd,
					 .host = "broker.test",
					 .port = f->port,
					 .resolve_ms = 20000,
					 .lookup = lookup_slow };
	struct relay *r = NULL;
	int client, broker;

	assert_int_equal(relay_start(&o, &r), 0);
	client = enter(relay_path(r));
	broker = accept(f->listener, NULL, NULL);
	assert_true(broker >= 0);
	close(broker);
	close(client);
	relay_stop(r);
}

/* Of a connection of this process to that port, from the outside. */
static int socket_to(unsigned port)
{
	for (int fd = 3; fd < 1024; fd++) {
		struct sockaddr_in a;
		socklen_t len = sizeof(a);

		if (getpeername(fd, (struct sockaddr *) &a, &len) == 0 && len == sizeof(a) &&
		    a.sin_family == AF_INET && ntohs(a.sin_port) == port)
			return fd;
	}
	return -1;
}

static void what_is_not_acknowledged_ends_the_connection(void **state)
{
	struct fixture *f = *state;
	struct relay_options o = { .os = &os_posix, .dirfd = f->dirfd, .host = "127.0.0.1", .port = f->port };

	for (int i = 0; i < 2; i++) {
		struct relay *r = NULL;
		int client, broker, fd, on = 0;
		unsigned silence = 0;
		socklen_t len = sizeof(silence), len_on = sizeof(on);

		o.silence_ms = i == 0 ? 0 : 7000;
		assert_int_equal(relay_start(&o, &r), 0);
		client = enter(relay_path(r));
		broker = accept(f->listener, NULL, NULL);
		fd = socket_to(f->port);
		assert_true(fd >= 0);
		assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silence, &len), 0);
		assert_int_equal(silence, i == 0 ? 90000 : 7000);
		assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, &len_on), 0);
		assert_int_equal(on, 1);
		close(broker);
		close(client);
		relay_stop(r);
	}
}

static int lookup_both(const char *host, struct resolve_list *ret)
{
	(void) host;
	strcpy(ret->items[0], "::1");
	strcpy(ret->items[1], "127.0.0.1");
	ret->count = 2;
	return 0;
}

/*
 * Where IPv6 swallows what is sent, IPv4 is tried beside it and not after it: with an hour for
 * the connect this test would never end otherwise.
 */
static void a_broken_address_family_costs_nothing(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_in6 a = { .sin6_family = AF_INET6,
				  .sin6_addr = IN6ADDR_LOOPBACK_INIT,
				  .sin6_port = htons((uint16_t) f->port) };
	const struct relay_options o = { .os = &os_posix,
					 .dirfd = f->dirfd,
					 .host = "broker.test",
					 .port = f->port,
					 .connect_ms = 3600 * 1000,
					 .lookup = lookup_both };
	int hole = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), crowd[8], client, broker;
	struct relay_state s;
	struct relay *r = NULL;

	if (hole < 0 || bind(hole, (struct sockaddr *) &a, sizeof(a)) < 0)
		skip(); /* no IPv6 here */
	/* Nobody accepts, and the queue is full: the kernel drops every further SYN. */
	assert_int_equal(listen(hole, 0), 0);
	for (int i = 0; i < 8; i++) {
		crowd[i] = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		(void) connect(crowd[i], (struct sockaddr *) &a, sizeof(a)); /* in progress, or lost */
	}
	assert_int_equal(relay_start(&o, &r), 0);
	client = enter(relay_path(r));
	broker = accept(f->listener, NULL, NULL);
	assert_true(broker >= 0);
	do
		relay_state(r, &s);
	while (s.step != RELAY_UP && !s.failed && usleep(10000) == 0);
	assert_int_equal(s.step, RELAY_UP);
	assert_string_equal(s.address, "127.0.0.1");
	close(broker);
	close(client);
	relay_stop(r);
	for (int i = 0; i < 8; i++)
		close(crowd[i]);
	close(hole);
}

/* Answer one CONNECT with `answer`; what was asked goes to `request`. */
static void play_proxy(int listener, const char *answer, char *request, size_t size)
{
	int fd = accept(listener, NULL, NULL);
	size_t len = 0;
	ssize_t n;

	assert_true(fd >= 0);
	request[0] = '\0';
	while (!strstr(request, "\r\n\r\n") && len < size - 1 &&
	       (n = read(fd, request + len, size - 1 - len)) > 0) {
		len += (size_t) n;
		request[len] = '\0';
	}
	assert_int_equal(write(fd, answer, strlen(answer)), (ssize_t) strlen(answer));
	close(fd);
}

static void a_proxys_refusal_is_told_with_its_number(void **state)
{
	struct fixture *f = *state;
	char proxy[64], request[2048];
	struct relay_state s;
	struct relay *r;
	int client;

	snprintf(proxy, sizeof(proxy), "http://joe:secret@127.0.0.1:%u", f->port);
	r = start(f, "broker.test", proxy, lookup_hangs); /* the proxy resolves, not we */
	client = enter(relay_path(r));
	play_proxy(f->listener, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
		   request, sizeof(request));
	assert_int_equal(strncmp(request, "CONNECT broker.test:", 20), 0);
	await_failure(r, &s);
	assert_int_equal(s.proxy_status, 403);
	assert_non_null(strstr(s.reason, "answered 403 to CONNECT broker.test:"));
	assert_null(strstr(s.reason, "secret"));
	close(client);
	relay_stop(r);
}

static void another_process_is_turned_away(void **state)
{
	struct fixture *f = *state;
	struct relay *r = start(f, "127.0.0.1", NULL, NULL);
	char path[128];
	int status = 0;
	pid_t child;

	snprintf(path, sizeof(path), "%s/relay.sock", f->path);
	child = fork();
	if (child == 0) {
		char byte;
		int fd = enter(path);

		_exit(read(fd, &byte, 1) == 0 ? 0 : 1); /* closed, and nobody was dialled */
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(fcntl(f->listener, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(accept(f->listener, NULL, NULL), -1);
	relay_stop(r);
}

static void a_stop_does_not_wait_for_a_resolver(void **state)
{
	struct fixture *f = *state;
	const struct relay_options o = { .os = &os_posix,
					 .dirfd = f->dirfd,
					 .host = "broker.test",
					 .port = f->port,
					 .resolve_ms = 3600 * 1000,
					 .lookup = lookup_hangs };
	struct relay *r = NULL;
	int client;

	assert_int_equal(relay_start(&o, &r), 0);
	client = enter(relay_path(r));
	usleep(50 * 1000);
	relay_stop(r); /* else this test never ends */
	close(client);
}

/* --- the time by which certificates are judged --- */

static int64_t clock_now;

static int64_t set_clock(const struct os *os)
{
	(void) os;
	return clock_now;
}

static void certificates_are_judged_at_the_later_of_floor_and_clock(void **state)
{
	struct os os = os_posix;
	struct tls_clock c;

	(void) state;
	os.clock_real = set_clock;
	clock_now = 5;
	tls_clock_init(&c, &os, 1000);
	assert_int_equal(tls_clock_now(&c), 1000);
	assert_true(tls_clock_is_a_guess(&c));
	clock_now = 2000;
	assert_int_equal(tls_clock_now(&c), 2000);
	assert_true(tls_clock_is_a_guess(&c)); /* nobody set it */
	c.synchronised = true;
	assert_false(tls_clock_is_a_guess(&c));
	tls_clock_raise(&c, 3000);
	tls_clock_raise(&c, 10); /* never back */
	assert_int_equal(tls_clock_now(&c), 3000);
	assert_true(tls_clock_is_a_guess(&c)); /* set, but wrong */
}

static void files_that_cannot_be_used_are_named(void **state)
{
	struct tls *t = NULL;
	void *ctx = NULL;

	(void) state;
	assert_int_equal(tls_new(&(struct tls_options){ .host = "broker.test", .ca_file = "/nowhere/ca.crt" }, &t),
			 0);
	assert_int_equal(tls_context(t, &ctx), -ERR_CONFIG);
	assert_non_null(strstr(tls_reason(t), "the CA file /nowhere/ca.crt cannot be used"));
	tls_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_address_stands_for_itself, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_resolver_that_hangs_is_left_behind, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_last_good_addresses_outlive_the_process, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_newest_hosts_are_kept_and_the_file_is_written_only_for_news,
						set_up, tear_down),
		cmocka_unit_test(lines_that_are_none_are_passed_over),
		cmocka_unit_test_setup_teardown(bytes_pass_both_ways_and_an_end_is_an_end, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_broker_that_takes_nothing_does_not_keep_the_next_waiting, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(only_the_address_of_a_proven_broker_is_kept, set_up, tear_down),
		cmocka_unit_test_setup_teardown(much_passes_through_small_buffers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(why_there_is_no_road_is_told, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_slow_resolver_is_waited_for, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_proxys_refusal_is_told_with_its_number, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_not_acknowledged_ends_the_connection, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_broken_address_family_costs_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(another_process_is_turned_away, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_stop_does_not_wait_for_a_resolver, set_up, tear_down),
		cmocka_unit_test(certificates_are_judged_at_the_later_of_floor_and_clock),
		cmocka_unit_test(files_that_cannot_be_used_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
