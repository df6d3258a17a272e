/*
 * What common/fetch/fetch.h promises, against a server of our own that answers
 * each connection as a test tells it, byte for byte.
 */
#include "fetch/fetch.h"
#include "os/os.h"

#include "base/err.h"
#include "base/text.h"
#include "os/durable.h"
#include "os/process.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { DRIP = 1, ENDLESS = 2, HANG = 3 };

/* What to answer on the next connection; the last row answers all further ones. */
struct answer {
	const char *text; /* sent as it is */
	int then; /* DRIP: a byte now and then; ENDLESS: bytes for ever; HANG: nothing, and no end */
};

struct server {
	pid_t pid;
	int port;
	char url[64];
	char log[64]; /* requests as received, one file */
	char folder[64];
	int dirfd;
};

static void pause_ms(int ms)
{
	(void) poll(NULL, 0, ms);
}

static void answer_one(int fd, const struct answer *a, int log_fd)
{
	char request[8192];
	size_t len = 0;

	while (len < sizeof(request) - 1) {
		ssize_t n = read(fd, request + len, sizeof(request) - 1 - len);

		if (n <= 0)
			break;
		len += (size_t) n;
		request[len] = '\0';
		if (strstr(request, "\r\n\r\n"))
			break;
	}
	if (write(log_fd, request, len) < 0 || write(fd, a->text, strlen(a->text)) < 0)
		return;
	while (a->then == DRIP && write(fd, "x", 1) == 1)
		pause_ms(100);
	while (a->then == ENDLESS && write(fd, request, len) > 0)
		;
	if (a->then == HANG)
		pause_ms(20000);
}

static void serve(int fd, const struct answer *answers, size_t count, int log_fd)
{
	for (size_t i = 0;; i += i + 1 < count) {
		int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

		if (client < 0)
			_exit(1);
		answer_one(client, &answers[i], log_fd);
		(void) shutdown(client, SHUT_WR);
		close(client);
	}
}

static void server_fork(struct server *s, int fd, const struct answer *answers, size_t count)
{
	int log_fd = openat(s->dirfd, "log", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);

	assert_true(log_fd >= 0);
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (s->pid == 0) {
		(void) prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void) signal(SIGPIPE, SIG_IGN);
		serve(fd, answers, count, log_fd);
	}
	close(fd);
	close(log_fd);
}

static void server_start(struct server *s, const struct answer *answers, size_t count)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *) &address, &size), 0);
	s->port = ntohs(address.sin_port);
	(void) snprintf(s->url, sizeof(s->url), "http://127.0.0.1:%d/", s->port);
	server_fork(s, fd, answers, count);
}

#define START(s, ...)                                                                                             \
	do {                                                                                                      \
		static const struct answer answers_[] = { __VA_ARGS__ };                                          \
		server_start((s), answers_, ARRAY_LEN(answers_));                                                 \
	} while (0)

static void server_stop(struct server *s)
{
	if (s->pid <= 0)
		return;
	(void) kill(s->pid, SIGKILL);
	(void) waitpid(s->pid, NULL, 0);
	s->pid = 0;
}

static int setup(void **state)
{
	struct server *s = calloc(1, sizeof(*s));

	/* The environment's proxy is not for these. */
	(void) unsetenv("http_proxy");
	(void) unsetenv("https_proxy");
	(void) unsetenv("all_proxy");
	(void) unsetenv("ALL_PROXY");
	(void) unsetenv("HTTPS_PROXY");
	(void) snprintf(s->folder, sizeof(s->folder), "/tmp/selfright-fetch-XXXXXX");
	if (!mkdtemp(s->folder))
		return -1;
	s->dirfd = open(s->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = s;
	return s->dirfd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	struct server *s = *state;
	int r;

	server_stop(s);
	close(s->dirfd);
	r = tree_remove(&os_posix, AT_FDCWD, s->folder);
	free(s);
	return r;
}

static struct http *client_with(const struct server *s, unsigned low_speed_seconds)
{
	const struct http_options o = { .base_url = s->url,
					.allow_plain_http = true,
					.connect_timeout_ms = 60000,
					.low_speed_seconds = low_speed_seconds };
	struct http *h = NULL;

	assert_int_equal(http_open(&o, &h), 0);
	return h;
}

static struct http *client(const struct server *s)
{
	return client_with(s, 5);
}

/* A good server on a busy machine may bring nothing for a second. */
static struct http *hasty_client(const struct server *s)
{
	return client_with(s, 1);
}

/* Has the server seen this text in a request? */
static bool was_asked(const struct server *s, const char *text)
{
	CLEANUP(buf_done)
	struct buf log = BUF_INIT(1000000);

	assert_int_equal(file_read(&os_posix, s->dirfd, "log", 1000000, &log), 0);
	return strstr(buf_str(&log), text) != NULL;
}

static int get(const struct server *s, const char *name, uint64_t max, struct buf *out)
{
	CLEANUP(http_closep)
	struct http *h = client(s);
	struct http_fetcher f;
	int r;

	http_fetcher_init(&f, h);
	r = fetcher_get(&f.fetcher, name, max, out);
	if (r < 0)
		assert_non_null(strstr(http_error(h), "127.0.0.1"));
	fetcher_close(&f.fetcher);
	return r;
}

/* --- the fetcher */

static void gets_a_file(void **state)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(100);
	struct server *s = *state;

	START(s, { "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 0 });
	assert_int_equal(buf_add_str(&out, "> "), 0);
	assert_int_equal(get(s, "metadata/1.root.json", 5, &out), 0);
	assert_string_equal(buf_str(&out), "> hello");
	assert_true(was_asked(s, "GET /metadata/1.root.json HTTP/1.1\r\n"));
}

static void names_are_percent_encoded_by_segment(void **state)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(100);
	struct server *s = *state;

	START(s, { "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0 });
	assert_int_equal(get(s, "targets/a b/100%?x#y&\xc3\xa9~.tar", 100, &out), 0);
	assert_true(was_asked(s, "GET /targets/a%20b/100%25%3Fx%23y%26%C3%A9~.tar HTTP/1.1\r\n"));
}

static void names_that_leave_are_never_asked_for(void **state)
{
	static const char *const names[] = { "../x", "/x", "a/../../x", "", "a//b", "a\nb" };
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(100);
	struct server *s = *state;

	START(s, { "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0 });
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_int_equal(get(s, names[i], 100, &out), -ERR_NAME);
	assert_false(was_asked(s, "GET"));
}

static void statuses_become_errors(void **state)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(100);
	struct server *s = *state;

	START(s, { "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot here!", 0 },
	      { "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", 0 },
	      { "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", 0 },
	      { "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", 0 },
	      { "HTTP/1.1 206 Partial\r\nContent-Length: 1\r\nContent-Range: bytes 0-0/9\r\n\r\nx", 0 },
	      { "HTTP/1.1 204 Empty\r\n\r\n", 0 });
	assert_int_equal(get(s, "x", 3, &out), -ENOENT); /* also when its page is longer than the file may be */
	assert_int_equal(get(s, "x", 100, &out), -ENOENT);
	for (int i = 0; i < 4; i++)
		assert_int_equal(get(s, "x", 100, &out), -ERR_HTTP_STATUS);
	assert_int_equal(out.len, 0);
}

static void an_answer_may_ask_to_be_left_alone(void **state)
{
	static const uint64_t wanted[] = { 120, 7, 60, 3600, 0, 0, 0, 0, 0, 0, 0 };
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(100);
	struct server *s = *state;
	struct http_fetcher f;
	struct http *h;

	START(s, { "HTTP/1.1 503 Busy\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n", 0 },
	      { "HTTP/1.1 429 Too Many\r\nretry-after:7 \r\nContent-Length: 3\r\n\r\nno!", 0 },
	      { "HTTP/1.1 503 Busy\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 "
		"08:50:37 "
		"GMT\r\nContent-Length: 0\r\n\r\n",
		0 },
	      { "HTTP/1.1 503 Busy\r\nRetry-After: 31536000\r\nContent-Length: 0\r\n\r\n", 0 },
	      { "HTTP/1.1 503 Busy\r\nRetry-After: -120\r\nContent-Length: 0\r\n\r\n", 0 },
	      { "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", 0 },
	      { "HTTP/1.1 500 Oops\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n", 0 },
	      { "HTTP/1.1 301 Moved\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n", 0 },
	      { "HTTP/1.1 404 Not Found\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n", 0 },
	      /* Of an interim answer, and of none. */
	      { "HTTP/1.1 103 Early Hints\r\nRetry-After: 120\r\n\r\nHTTP/1.1 503 Busy\r\nContent-Length: "
		"0\r\n\r\n",
		0 },
	      { "", 0 });
	h = client(s);
	http_fetcher_init(&f, h);
	assert_int_equal(http_retry_after_s(h), 0);
	for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
		assert_true(fetcher_get(&f.fetcher, "x", 100, &out) < 0);
		assert_int_equal(http_retry_after_s(h), wanted[i]);
	}
	http_close(h);
}

static void a_request_hears_it_too(void **state)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(100);
	struct server *s = *state;
	struct http_response response = { 0 };
	struct http *h;

	START(s, { "HTTP/1.1 503 Busy\r\nRetry-After: 30\r\nContent-Length: 5\r\n\r\nlater", 0 },
	      { "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0 },
	      /* Broken off in the body, which is too much: its head counts. */
	      { "HTTP/1.1 503 Busy\r\nRetry-After: 40\r\n\r\n", ENDLESS });
	h = client(s);
	assert_int_equal(http_request(h, "POST", "v1/x", "application/json", "{}", 2, 60000, &response, &out), 0);
	assert_int_equal(response.status, 503);
	assert_int_equal(http_retry_after_s(h), 30);
	assert_int_equal(http_request(h, "POST", "v1/x", "application/json", "{}", 2, 60000, &response, &out), 0);
	assert_int_equal(http_retry_after_s(h), 0);
	assert_int_equal(http_request(h, "POST", "v1/x", "application/json", "{}", 2, 60000, &response, &out),
			 -ERR_TOO_LARGE);
	assert_int_equal(http_retry_after_s(h), 40);
	http_close(h);
}

/* Of a server's `location`, then the file. */
static int get_redirected(struct server *s, const char *location, const char *const *hosts, size_t host_count,
			  char reason[static 256])
{
	char text[512];
	const struct answer answers[] = { { text, 0 },
					  { "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 0 } };
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(100);
	struct http_options o = { .allow_plain_http = true,
				  .connect_timeout_ms = 2000,
				  .low_speed_seconds = 5,
				  .redirect_hosts = hosts,
				  .redirect_host_count = host_count };
	struct http_fetcher f;
	struct http *h = NULL;
	int r;

	(void) snprintf(text, sizeof(text), "HTTP/1.1 302 Found\r\n%s%s%sContent-Length: 0\r\n\r\n",
			location ? "Location: " : "", location ? location : "", location ? "\r\n" : "");
	server_start(s, answers, ARRAY_LEN(answers));
	o.base_url = s->url;
	assert_int_equal(http_open(&o, &h), 0);
	http_fetcher_init(&f, h);
	r = fetcher_get(&f.fetcher, "x", 100, &out);
	(void) snprintf(reason, 256, "%s", http_error(h));
	if (r == 0)
		assert_string_equal(buf_str(&out), "hello");
	http_close(h);
	server_stop(s);
	return r;
}

static void a_redirect_on_the_same_host_is_followed(void **state)
{
	static const char *const locations[] = { "/else/where?with=1#part", "else/where?with=1" };
	struct server *s = *state;
	char reason[256];

	for (size_t i = 0; i < ARRAY_LEN(locations); i++) {
		assert_int_equal(get_redirected(s, locations[i], NULL, 0, reason), 0);
		assert_true(was_asked(s, "GET /x HTTP/1.1\r\n"));
		assert_true(was_asked(s, "GET /else/where?with=1 HTTP/1.1\r\n"));
	}
}

static void a_redirect_elsewhere_is_refused_in_words(void **state)
{
	static const struct {
		const char *location, *words;
	} rows[] = {
		{ NULL, "without a place" },
		{ "", "without a place" },
		{ "http://other.invalid/secret",
		  "sends on to other.invalid:80, which redirect_hosts does not list" },
		{ "https://other.invalid/secret", "sends on to other.invalid:443, which" },
		{ "//other.invalid/secret", "sends on to other.invalid:80, which" },
		{ "http://127.0.0.1:1/secret", "sends on to 127.0.0.1:1, which" },
		{ "http://127.0.0.1:1@other.invalid/secret", "a user's name" },
		{ "file:///etc/passwd", "sends on to" },
		{ "ftp://127.0.0.1/secret", "sends on to ftp://127.0.0.1, which is not https" },
		{ "javascript:alert(1)", "without a place" },
		{ "http://[::1", "without a place" },
	};
	struct server *s = *state;
	char reason[256];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int r = get_redirected(s, rows[i].location, NULL, 0, reason);

		if (r != -ERR_HTTP_STATUS || !strstr(reason, rows[i].words))
			fail_msg("%s: %d %s", rows[i].location ? rows[i].location : "none", r, reason);
		assert_false(was_asked(s, "secret"));
	}
}

static void a_redirect_to_a_listed_host_is_followed(void **state)
{
	static const char *const hosts[] = { "other.invalid", "LOCALHOST:1", "localhost:2" };
	struct server *s = *state, *other = NULL;
	char location[128], with_port[64], reason[256];
	const char *list[] = { "unused.invalid", with_port };

	assert_int_equal(get_redirected(s, "http://localhost:1/x", hosts, 1, reason), -ERR_HTTP_STATUS);
	assert_int_equal(get_redirected(s, "http://localhost:1/x", hosts, 3, reason),
			 -ERR_NETWORK); /* it went there */
	assert_int_equal(get_redirected(s, "http://other.invalid/x", hosts, 3, reason),
			 -ERR_HTTP_STATUS); /* without a port it is 443 */
	assert_int_equal(setup((void **) &other), 0);
	START(other, { "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 0 });
	(void) snprintf(with_port, sizeof(with_port), "127.0.0.1:%d", other->port);
	(void) snprintf(location, sizeof(location), "http://%s/there", with_port);
	assert_int_equal(get_redirected(s, location, list, 2, reason), 0);
	assert_true(was_asked(other, "GET /there HTTP/1.1\r\n"));
	assert_int_equal(teardown((void **) &other), 0);
}

static void redirects_in_a_circle_end(void **state)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(100), log = BUF_INIT(100000);
	struct server *s = *state;
	unsigned asked = 0;

	START(s, { "HTTP/1.1 301 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 0 });
	assert_int_equal(get(s, "x", 100, &out), -ERR_HTTP_STATUS);
	assert_int_equal(file_read(&os_posix, s->dirfd, "log", 100000, &log), 0);
	for (const char *p = buf_str(&log); (p = strstr(p, "GET /x")); p++)
		asked++;
	assert_int_equal(asked, HTTP_REDIRECTS_MAX + 1);
}

static void a_resume_goes_along_with_a_redirect(void **state)
{
	struct server *s = *state;
	char etag[128] = "\"v1\"";
	CLEANUP(http_closep)
	struct http *h = NULL;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(100);
	int fd = openat(s->dirfd, "file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	START(s,
	      { "HTTP/1.1 302 Found\r\nETag: \"page\"\r\nLocation: /there\r\nContent-Length: 4\r\n\r\npage", 0 },
	      { "HTTP/1.1 206 Partial\r\nETag: \"v1\"\r\nContent-Length: 3\r\nContent-Range: bytes "
		"2-4/5\r\n\r\nllo",
		0 });
	h = client(s);
	assert_int_equal(write(fd, "he", 2), 2);
	assert_int_equal(http_save(h, "x", 5, fd, 2, etag, NULL, NULL), 0);
	assert_int_equal(file_read(&os_posix, s->dirfd, "file", 100, &text), 0);
	assert_string_equal(buf_str(&text), "hello");
	assert_string_equal(etag, "\"v1\"");
	assert_true(was_asked(s, "GET /there HTTP/1.1\r\n"));
	assert_true(was_asked(s, "If-Range: \"v1\""));
	close(fd);
}

static void an_answer_that_sends_on_is_an_answer(void **state)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(100);
	struct server *s = *state;
	struct http_response response;
	CLEANUP(http_closep)
	struct http *h = NULL;

	START(s, { "HTTP/1.1 302 Found\r\nLocation: /secret\r\nContent-Length: 0\r\n\r\n", 0 },
	      { "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret", 0 });
	h = client(s);
	assert_int_equal(http_request(h, "POST", "x", "text/plain", "body", 4, 60000, &response, &out), 0);
	assert_int_equal(response.status, 302);
	assert_false(was_asked(s, "/secret"));
}

static void bodies_over_the_limit_are_refused(void **state)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(100), small = BUF_INIT(3);
	struct server *s = *state;

	START(s, { "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n123456", 0 },
	      { "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n123456", ENDLESS },
	      { "HTTP/1.1 200 OK\r\n\r\n", ENDLESS },
	      { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n123456\r\n0\r\n\r\n", 0 },
	      { "HTTP/1.1 404 No\r\n\r\n", ENDLESS }, { "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n123456", 0 });
	for (int i = 0; i < 4; i++)
		assert_int_equal(get(s, "x", 5, &out), -ERR_TOO_LARGE);
	assert_int_equal(out.len, 0);
	assert_int_equal(get(s, "x", 5, &out), -ENOENT);
	assert_int_equal(get(s, "x", 100, &small), -ERR_TOO_LARGE); /* the buffer's own */
	assert_int_equal(small.len, 0);
}

static void endless_headers_are_refused(void **state)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(100);
	struct server *s = *state;

	START(s, { "HTTP/1.1 200 OK\r\nX: ", ENDLESS });
	assert_true(get(s, "x", 100, &out) < 0);
}

static void short_and_broken_answers_are_the_networks(void **state)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(1000);
	struct server *s = *state;

	START(s, { "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", 0 },
	      { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n123", 0 }, { "", 0 },
	      { "HTTP/0.9 is no answer", 0 }, { "HTTP/1.1 200 OK\r\nContent-Length: -7\r\n\r\nshort", 0 },
	      { "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 8\r\n\r\nshorter", 0 });
	for (int i = 0; i < 5; i++)
		assert_int_equal(get(s, "x", 1000, &out), -ERR_NETWORK);
	assert_true(get(s, "x", 1000, &out) <= 0); /* two lengths: libcurl may take one, ours is signed */
}

static void a_drip_is_cut_off(void **state)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(100000);
	struct server *s = *state;

	START(s, { "HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n", DRIP });
	assert_int_equal(get(s, "x", 100000, &out), -ERR_DEADLINE);
	assert_int_equal(out.len, 0);
}

static void a_drip_that_is_fast_enough_ends_too(void **state)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(1000000);
	struct server *s = *state;
	struct http_options o = { .allow_plain_http = true, .low_speed_seconds = 300 };
	struct http_fetcher f;
	struct http *h = NULL;

	START(s, { "HTTP/1.1 200 OK\r\n\r\n", DRIP }, { "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 0 });
	o.base_url = s->url;
	assert_int_equal(http_open(&o, &h), 0);
	http_fetcher_init(&f, h);
	http_limit_get(h, 700);
	assert_int_equal(fetcher_get(&f.fetcher, "x", 1000000, &out), -ERR_DEADLINE);
	assert_int_equal(out.len, 0);
	http_limit_get(h, 60000);
	assert_int_equal(fetcher_get(&f.fetcher, "x", 1000000, &out), 0);
	assert_string_equal(buf_str(&out), "hello");
	http_close(h);
}

static void nobody_there_is_the_networks(void **state)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(100);
	struct server *s = *state;

	START(s, { "", 0 });
	server_stop(s);
	assert_int_equal(get(s, "x", 100, &out), -ERR_NETWORK);
}

/* --- options */

static void urls_are_looked_at(void **state)
{
	static const char *const bad[] = { "",
					   "127.0.0.1",
					   "ftp://host/",
					   "file:///etc",
					   "https://",
					   "https:///x",
					   "https://h/?q",
					   "https://u:p@h/",
					   "https://h/ x",
					   "https://h/#frag",
					   "http://host/" };
	struct http_options o = { 0 };
	struct http *h = NULL;

	(void) state;
	assert_int_equal(http_open(&o, &h), -ERR_CONFIG);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		o.base_url = bad[i];
		assert_int_equal(http_open(&o, &h), -ERR_CONFIG);
	}
	assert_null(h);
	o.base_url = "https://host:8443/path";
	assert_int_equal(http_open(&o, &h), 0);
	assert_non_null(http_error(h));
	http_close(h);
	http_close(NULL);
}

static void the_environments_proxy_and_a_given_one_are_used(void **state)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(100);
	struct server *s = *state;
	struct http_options o = { .allow_plain_http = true, .base_url = "http://selfright.invalid/base" };
	struct http_fetcher f;
	struct http *h = NULL;

	START(s, { "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes", 0 });
	o.proxy = s->url;
	assert_int_equal(http_open(&o, &h), 0);
	http_fetcher_init(&f, h);
	assert_int_equal(fetcher_get(&f.fetcher, "x", 10, &out), 0);
	assert_true(was_asked(s, "GET http://selfright.invalid/base/x HTTP/1.1\r\n"));
	http_close(h);
	o.proxy = NULL;
	assert_int_equal(setenv("http_proxy", s->url, 1), 0);
	assert_int_equal(http_open(&o, &h), 0);
	http_fetcher_init(&f, h);
	assert_int_equal(fetcher_get(&f.fetcher, "y", 10, &out), 0);
	assert_true(was_asked(s, "GET http://selfright.invalid/base/y HTTP/1.1\r\n"));
	http_close(h);
	(void) unsetenv("http_proxy");
}

static void speaks_over_a_unix_socket(void **state)
{
	static const struct answer answers[] = {
		{ "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", 0 }
	};
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(100);
	struct server *s = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct http_options o = { .base_url = "http://localhost/", .allow_plain_http = true };
	struct http_response response;
	struct http *h = NULL;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void) snprintf(address.sun_path, sizeof(address.sun_path), "%s/sock", s->folder);
	assert_int_equal(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 4), 0);
	server_fork(s, fd, answers, 1);
	assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1/", 1), 0); /* not for sockets */
	o.unix_socket = address.sun_path;
	assert_int_equal(http_open(&o, &h), 0);
	assert_int_equal(http_request(h, "PUT", "/v1/x?y=1", "text/plain", "body", 4, 60000, &response, &out), 0);
	(void) unsetenv("http_proxy");
	assert_int_equal(response.status, 201);
	assert_string_equal(response.content_type, "application/json");
	assert_false(response.not_modified);
	assert_string_equal(buf_str(&out), "{}");
	assert_true(was_asked(s, "PUT /v1/x?y=1 HTTP/1.1\r\n"));
	assert_true(was_asked(s, "Content-Type: text/plain\r\n"));
	assert_true(was_asked(s, "Content-Length: 4\r\n"));
	assert_false(was_asked(s, "Expect:"));
	http_close(h);
}

static void requests_answer_whatever_the_status(void **state)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(100), tiny = BUF_INIT(2);
	struct server *s = *state;
	struct http_response response;
	struct http *h;

	START(s, { "HTTP/1.1 409 No\r\nContent-Length: 11\r\n\r\n{\"error\":1}", 0 },
	      { "HTTP/1.1 304 Same\r\n\r\n", 0 }, { "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345", 0 },
	      { "", HANG });
	h = client(s);
	assert_int_equal(http_request(h, "POST", "v1/x", NULL, NULL, 0, 60000, &response, &out), 0);
	assert_int_equal(response.status, 409);
	assert_string_equal(buf_str(&out), "{\"error\":1}");
	assert_int_equal(http_request(h, "GET", "v1/x", NULL, NULL, 0, 60000, &response, &out), 0);
	assert_true(response.not_modified);
	assert_int_equal(http_request(h, "GET", "v1/x", NULL, NULL, 0, 60000, &response, &tiny), -ERR_TOO_LARGE);
	assert_int_equal(http_request(h, "DELETE", "v1/x", NULL, NULL, 0, 200, &response, &out), -ERR_DEADLINE);
	assert_int_equal(http_request(h, "GET", "v1/x y", NULL, NULL, 0, 200, &response, &out), -ERR_NAME);
	assert_int_equal(http_request(h, "GET", "v1\r\nX: y", NULL, NULL, 0, 200, &response, &out), -ERR_NAME);
	assert_int_equal(http_request(h, "POST", "v1/x", "a\r\nX: y", "", 0, 200, &response, &out), -ERR_NAME);
	http_close(h);
}

static void waiting_with_a_deadline_is_no_low_speed(void **state)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(100);
	struct server *s = *state;
	struct http_response response;
	uint64_t begin;
	struct http *h;

	START(s, { "", HANG });
	h = hasty_client(s); /* low speed: one second */
	begin = os_posix.clock_boot_ms(&os_posix);
	assert_int_equal(http_request(h, "GET", "v1/events?wait=2", NULL, NULL, 0, 2200, &response, &out),
			 -ERR_DEADLINE);
	assert_true(os_posix.clock_boot_ms(&os_posix) - begin >= 2000); /* a busy machine only makes it later */
	assert_non_null(strstr(http_error(h), "timed out"));
	http_close(h);
}

/* --- saving and resuming */

static int saved_file(void)
{
	int fd = memfd_create("saved", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void content_is(int fd, const char *text)
{
	char content[64] = "";
	ssize_t n = pread(fd, content, sizeof(content) - 1, 0);

	assert_true(n >= 0);
	assert_string_equal(content, text);
}

static int save(const struct server *s, int fd, uint64_t length, uint64_t offset, char etag[static 128])
{
	CLEANUP(http_closep)
	struct http *h = client(s);

	return http_save(h, "targets/x", length, fd, offset, etag, NULL, NULL);
}

static void saves_and_resumes(void **state)
{
	struct server *s = *state;
	char etag[128] = "";
	int fd = saved_file();

	START(s, { "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 10\r\n\r\n01234", 0 },
	      { "HTTP/1.1 206 Partial\r\nETag: \"v1\"\r\nContent-Range: bytes 5-9/10\r\nContent-Length: "
		"5\r\n\r\n56789",
		0 });
	assert_int_equal(save(s, fd, 10, 0, etag), -ERR_NETWORK);
	assert_string_equal(etag, "\"v1\"");
	content_is(fd, "01234");
	assert_false(was_asked(s, "Range"));
	assert_int_equal(save(s, fd, 10, 5, etag), 0);
	content_is(fd, "0123456789");
	assert_true(was_asked(s, "\r\nRange: bytes=5-\r\n"));
	assert_true(was_asked(s, "\r\nIf-Range: \"v1\"\r\n"));
	close(fd);
}

static void starts_over_on_a_server_without_ranges_or_a_changed_file(void **state)
{
	struct server *s = *state;
	char etag[128] = "\"v1\"";
	int fd = saved_file();

	START(s, { "HTTP/1.1 200 OK\r\nETag: \"v2\"\r\nContent-Length: 3\r\n\r\nnew", 0 });
	assert_int_equal(write(fd, "old bytes", 9), 9);
	assert_int_equal(save(s, fd, 10, 9, etag), 0);
	content_is(fd, "new");
	assert_string_equal(etag, "\"v2\"");
	close(fd);
}

static void starts_over_when_it_became_shorter(void **state)
{
	struct server *s = *state;
	char etag[128] = "\"v1\"";
	int fd = saved_file();

	START(s, { "HTTP/1.1 416 Range\r\nContent-Range: bytes */3\r\nContent-Length: 0\r\n\r\n", 0 },
	      { "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew", 0 });
	assert_int_equal(write(fd, "old bytes", 9), 9);
	assert_int_equal(save(s, fd, 10, 9, etag), 0);
	content_is(fd, "new");
	assert_string_equal(etag, "");
	close(fd);
}

static void without_a_strong_tag_nothing_is_resumed(void **state)
{
	static const char *const tags[] = { "", "W/\"v1\"", "v1", "\"", "\"a\r\nX: y\"" };
	struct server *s = *state;
	int fd = saved_file();

	START(s, { "HTTP/1.1 200 OK\r\nETag: W/\"v1\"\r\nContent-Length: 3\r\n\r\nnew", 0 });
	for (size_t i = 0; i < ARRAY_LEN(tags); i++) {
		char etag[128];

		(void) snprintf(etag, sizeof(etag), "%s", tags[i]);
		assert_int_equal(pwrite(fd, "old bytes", 9, 0), 9);
		assert_int_equal(save(s, fd, 10, 9, etag), 0);
		content_is(fd, "new");
		assert_string_equal(etag, "");
	}
	assert_false(was_asked(s, "Range"));
	close(fd);
}

static void another_range_than_asked_is_not_written(void **state)
{
	struct server *s = *state;
	char etag[128] = "\"v1\"";
	int fd = saved_file();

	START(s, { "HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-4/10\r\nContent-Length: 5\r\n\r\nAAAAA", 0 },
	      { "HTTP/1.1 206 Partial\r\nContent-Length: 5\r\n\r\nBBBBB", 0 },
	      { "HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-4/5\r\nContent-Length: 5\r\n\r\nCCCCC", 0 });
	assert_int_equal(write(fd, "01234", 5), 5);
	assert_int_equal(save(s, fd, 10, 5, etag), -ERR_NETWORK);
	assert_int_equal(save(s, fd, 10, 5, etag), -ERR_NETWORK);
	assert_int_equal(save(s, fd, 10, 0, etag), -ERR_NETWORK); /* nobody asked for a range */
	content_is(fd, "01234");
	close(fd);
}

static void never_more_than_the_length(void **state)
{
	struct server *s = *state;
	char etag[128] = "";
	struct stat st;
	int fd = saved_file();

	START(s, { "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n0123456789A", 0 },
	      { "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\n\r\n", ENDLESS },
	      { "HTTP/1.1 206 Partial\r\nContent-Range: bytes 5-99/100\r\nContent-Length: 95\r\n\r\n", ENDLESS });
	for (int i = 0; i < 3; i++) {
		assert_int_equal(save(s, fd, 10, i == 2 ? 5 : 0, etag), -ERR_TOO_LARGE);
		assert_int_equal(fstat(fd, &st), 0);
		assert_true(st.st_size <= 10);
		(void) snprintf(etag, sizeof(etag), "\"v1\"");
	}
	close(fd);
}

static void errors_leave_the_file(void **state)
{
	struct server *s = *state;
	char etag[128] = "\"v1\"";
	int fd = saved_file();

	START(s, { "HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\nnot here!", 0 },
	      { "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", 0 },
	      { "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 4\r\n\r\nmove", 0 });
	assert_int_equal(write(fd, "01234", 5), 5);
	assert_int_equal(save(s, fd, 10, 5, etag), -ENOENT);
	assert_int_equal(save(s, fd, 10, 5, etag), -ERR_HTTP_STATUS);
	assert_int_equal(save(s, fd, 10, 5, etag), -ERR_HTTP_STATUS);
	content_is(fd, "01234");
	assert_string_equal(etag, "\"v1\"");
	close(fd);
}

static void an_empty_file_is_a_file(void **state)
{
	struct server *s = *state;
	char etag[128] = "";
	int fd = saved_file();

	START(s, { "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0 });
	assert_int_equal(write(fd, "old", 3), 3);
	assert_int_equal(save(s, fd, 10, 0, etag), 0);
	content_is(fd, "");
	close(fd);
}

static int stop_at(void *user, uint64_t bytes)
{
	uint64_t *seen = user;

	*seen = bytes;
	return bytes >= 5;
}

static void progress_may_stop_it(void **state)
{
	struct server *s = *state;
	char etag[128] = "";
	struct http *h;
	uint64_t seen = 0;
	int fd = saved_file();

	START(s, { "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 1000\r\n\r\n01234", HANG });
	h = client(s);
	assert_int_equal(http_save(h, "x", 1000, fd, 0, etag, stop_at, &seen), -ECANCELED);
	assert_int_equal(seen, 5);
	content_is(fd, "01234");
	http_close(h);
	close(fd);
}

/* --- TLS */

static void make_certificate(const struct server *s, const char *name)
{
	char key[96], crt[96];
	const char *const argv[] = { "openssl",
				     "req",
				     "-x509",
				     "-newkey",
				     "ec",
				     "-pkeyopt",
				     "ec_paramgen_curve:P-256",
				     "-nodes",
				     "-keyout",
				     key,
				     "-out",
				     crt,
				     "-days",
				     "2",
				     "-subj",
				     "/CN=localhost",
				     "-addext",
				     "subjectAltName=IP:127.0.0.1",
				     NULL };
	const struct process_options o = { .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1 };
	CLEANUP(buf_done)
	struct buf output = BUF_INIT(4000);
	int status = -1;

	(void) snprintf(key, sizeof(key), "%s/%s.key", s->folder, name);
	(void) snprintf(crt, sizeof(crt), "%s/%s.crt", s->folder, name);
	assert_int_equal(process_run(&o, 20000, &status, &output), 0);
	assert_int_equal(status, 0);
}

static void wait_for_port(int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons((uint16_t) port),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	for (int i = 0; i < 200; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		int r = connect(fd, (struct sockaddr *) &address, sizeof(address));

		close(fd);
		if (r == 0)
			return;
		pause_ms(25);
	}
	fail_msg("openssl s_server does not listen");
}

static int free_port(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *) &address, &size), 0);
	close(fd);
	return ntohs(address.sin_port);
}

static int get_tls(const char *url, const char *ca_pem, char error[static 256])
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(100000);
	const struct http_options o = { .base_url = url, .ca_pem = ca_pem, .connect_timeout_ms = 5000 };
	struct http_fetcher f;
	struct http *h = NULL;
	int r;

	assert_int_equal(http_open(&o, &h), 0);
	http_fetcher_init(&f, h);
	r = fetcher_get(&f.fetcher, "hello.txt", 100000, &out);
	if (r == 0)
		assert_string_equal(buf_str(&out), "hello over tls");
	(void) snprintf(error, 256, "%s", http_error(h));
	http_close(h);
	return r;
}

static void trusts_the_given_ca_and_no_other(void **state)
{
	CLEANUP(buf_done)
	struct buf mine = BUF_INIT(10000), other = BUF_INIT(10000);
	struct server *s = *state;
	char key[96], crt[96], port[8], url[64], error[256];
	const char *const argv[] = { "openssl", "s_server", "-accept", port,	 "-key", key,
				     "-cert",	crt,	    "-WWW",    "-quiet", NULL };
	const struct process_options o = { .argv = argv,
					   .directory = s->folder,
					   .stdin_fd = -1,
					   .stdout_fd = -1,
					   .stderr_fd = -1,
					   .die_with_parent = true };
	struct process server = { 0 };
	int number = free_port();

	make_certificate(s, "mine");
	make_certificate(s, "other");
	assert_int_equal(durable_write_file(&os_posix, s->dirfd, "hello.txt", "hello over tls", 14, 0644), 0);
	assert_int_equal(file_read(&os_posix, s->dirfd, "mine.crt", 10000, &mine), 0);
	assert_int_equal(file_read(&os_posix, s->dirfd, "other.crt", 10000, &other), 0);
	(void) snprintf(key, sizeof(key), "%s/mine.key", s->folder);
	(void) snprintf(crt, sizeof(crt), "%s/mine.crt", s->folder);
	(void) snprintf(port, sizeof(port), "%d", number);
	assert_int_equal(process_start(&o, &server), 0);
	wait_for_port(number);
	(void) snprintf(url, sizeof(url), "https://127.0.0.1:%d/", number);
	assert_int_equal(get_tls(url, buf_str(&mine), error), 0);
	assert_int_equal(get_tls(url, buf_str(&other), error), -ERR_TLS);
	assert_non_null(strstr(error, "certificate"));
	assert_int_equal(get_tls(url, NULL, error), -ERR_TLS); /* the system's do not know it */
	assert_int_equal(get_tls(url, "no certificate", error), -ERR_TLS);
	(void) snprintf(url, sizeof(url), "https://localhost:%d/", number);
	assert_int_equal(get_tls(url, buf_str(&mine), error), -ERR_TLS); /* another name than the certificate's */
	process_end(&server, 1000);
}

/* --- folders */

static void a_folder_gives_its_files(void **state)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(100);
	struct server *s = *state;
	struct folder_fetcher f;

	folder_fetcher_init(&f, s->dirfd);
	assert_int_equal(mkdirat(s->dirfd, "metadata", 0755), 0);
	assert_int_equal(durable_write_file(&os_posix, s->dirfd, "metadata/a", "12345", 5, 0644), 0);
	assert_int_equal(fetcher_get(&f.fetcher, "metadata/a", 5, &out), 0);
	assert_string_equal(buf_str(&out), "12345");
	assert_int_equal(fetcher_get(&f.fetcher, "metadata/a", 4, &out), -ERR_TOO_LARGE);
	assert_int_equal(fetcher_get(&f.fetcher, "metadata/b", 5, &out), -ENOENT);
	assert_int_equal(fetcher_get(&f.fetcher, "nowhere/b", 5, &out), -ENOENT);
	assert_int_equal(fetcher_get(&f.fetcher, "metadata/a/b", 5, &out), -ENOENT);
	assert_string_equal(buf_str(&out), "12345");
	fetcher_close(&f.fetcher);
}

static void a_folder_is_never_left(void **state)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(10000);
	struct server *s = *state;
	struct folder_fetcher f;

	folder_fetcher_init(&f, s->dirfd);
	assert_int_equal(symlinkat("/etc/passwd", s->dirfd, "link"), 0);
	assert_int_equal(symlinkat("/etc", s->dirfd, "etc"), 0);
	assert_int_equal(mkfifoat(s->dirfd, "fifo", 0600), 0);
	assert_int_equal(fetcher_get(&f.fetcher, "../etc/passwd", 10000, &out), -ERR_NAME);
	assert_int_equal(fetcher_get(&f.fetcher, "/etc/passwd", 10000, &out), -ERR_NAME);
	assert_true(fetcher_get(&f.fetcher, "link", 10000, &out) < 0);
	assert_true(fetcher_get(&f.fetcher, "etc/passwd", 10000, &out) < 0);
	assert_true(fetcher_get(&f.fetcher, "fifo", 10000, &out) < 0); /* and does not wait */
	assert_int_equal(out.len, 0);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_SERVER(gets_a_file),
		WITH_SERVER(names_are_percent_encoded_by_segment),
		WITH_SERVER(names_that_leave_are_never_asked_for),
		WITH_SERVER(statuses_become_errors),
		WITH_SERVER(an_answer_may_ask_to_be_left_alone),
		WITH_SERVER(a_request_hears_it_too),
		WITH_SERVER(a_redirect_on_the_same_host_is_followed),
		WITH_SERVER(a_redirect_elsewhere_is_refused_in_words),
		WITH_SERVER(a_redirect_to_a_listed_host_is_followed),
		WITH_SERVER(redirects_in_a_circle_end),
		WITH_SERVER(a_resume_goes_along_with_a_redirect),
		WITH_SERVER(an_answer_that_sends_on_is_an_answer),
		WITH_SERVER(bodies_over_the_limit_are_refused),
		WITH_SERVER(endless_headers_are_refused),
		WITH_SERVER(short_and_broken_answers_are_the_networks),
		WITH_SERVER(a_drip_is_cut_off),
		WITH_SERVER(a_drip_that_is_fast_enough_ends_too),
		WITH_SERVER(nobody_there_is_the_networks),
		WITH_SERVER(urls_are_looked_at),
		WITH_SERVER(the_environments_proxy_and_a_given_one_are_used),
		WITH_SERVER(speaks_over_a_unix_socket),
		WITH_SERVER(requests_answer_whatever_the_status),
		WITH_SERVER(waiting_with_a_deadline_is_no_low_speed),
		WITH_SERVER(saves_and_resumes),
		WITH_SERVER(starts_over_on_a_server_without_ranges_or_a_changed_file),
		WITH_SERVER(starts_over_when_it_became_shorter),
		WITH_SERVER(without_a_strong_tag_nothing_is_resumed),
		WITH_SERVER(another_range_than_asked_is_not_written),
		WITH_SERVER(never_more_than_the_length),
		WITH_SERVER(errors_leave_the_file),
		WITH_SERVER(an_empty_file_is_a_file),
		WITH_SERVER(progress_may_stop_it),
		WITH_SERVER(trusts_the_given_ca_and_no_other),
		WITH_SERVER(a_folder_gives_its_files),
		WITH_SERVER(a_folder_is_never_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
