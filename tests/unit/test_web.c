/* Each sentence of web.h, and hostile clients, over real sockets. */
#include "base/err.h"
#include "crypto/certificate.h"
#include "crypto/digest.h"
#include "crypto/key.h"
#include "fetch/fetch.h"
#include "os/unixsock.h"
#include "server-stub/web/file.h"
#include "server-stub/web/web.h"
#include "support/fault_loop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { ANSWER_MAX = 4 * 1024 * 1024, BIG = 200000 };

struct site {
	char dir[256], sock[300], upload[300];
	int dirfd;
	struct web *web;
	char last_arg[300];
	int calls, before;
};

static void echo(void *user, struct web_request *rq)
{
	struct site *s = user;
	size_t len;
	const void *body = web_body(rq, &len);

	s->calls++;
	web_reply(rq, 200, "text/plain", body, len);
}

static void show_arg(void *user, struct web_request *rq)
{
	struct site *s = user;
	char text[700];
	const char *q = web_query(rq, "q");

	snprintf(s->last_arg, sizeof(s->last_arg), "%s", web_arg(rq, 0));
	snprintf(text, sizeof(text), "%s|%s|%s", web_arg(rq, 0), web_arg(rq, 1) ? web_arg(rq, 1) : "", q ? q : "");
	web_reply(rq, 200, "text/plain", text, strlen(text));
}

static void files(void *user, struct web_request *rq)
{
	struct site *s = user;

	web_file(rq, s->dirfd, web_arg(rq, 0));
}

static void uploaded(void *user, struct web_request *rq)
{
	(void) user;
	web_reply(rq, 201, "text/plain", "kept", 4);
}

static void wait_for_it(void *user, struct web_request *rq)
{
	struct site *s = user;

	if (s->calls < 1000 && web_wait(rq, 400))
		return;
	web_reply(rq, 200, "text/plain", s->calls >= 1000 ? "woken" : "late", s->calls >= 1000 ? 5 : 4);
}

static unsigned notes_released;

static void count_note(void *note)
{
	assert_int_equal(*(unsigned *) note, 2);
	notes_released++;
}

/* Counts its own calls in memory that waits with it. */
static void note_calls(void *user, struct web_request *rq)
{
	unsigned *calls = web_note(rq, sizeof(*calls), count_note);
	char text[40];

	(void) user;
	if (++*calls == 1 && web_wait(rq, 100))
		return;
	snprintf(text, sizeof(text), "call %u", *calls);
	web_reply(rq, 200, "text/plain", text, strlen(text));
}

static void before_each(void *user, const struct web_route *route)
{
	struct site *s = user;

	s->before += route->handler == note_calls;
}

static void mute(void *user, struct web_request *rq)
{
	(void) user;
	(void) rq;
}

static void tls_only(void *user, struct web_request *rq)
{
	(void) user;
	web_reply(rq, 200, "text/plain", "tls", 3);
}

static const struct web_route routes[] = {
	{ "POST", "/echo", WEB_ANY, 1000, echo, 0 },
	{ "GET", "/items/*", WEB_ANY, 0, show_arg, 0 },
	{ "GET", "/items/*/parts/*", WEB_ANY, 0, show_arg, 0 },
	{ "GET", "/files/**", WEB_ANY, 0, files, 0 },
	{ "PUT", "/upload/*", WEB_UNIX, 0, uploaded, WEB_UPLOAD },
	{ "GET", "/wait", WEB_ANY, 0, wait_for_it, 0 },
	{ "GET", "/note", WEB_ANY, 0, note_calls, 0 },
	{ "GET", "/mute", WEB_ANY, 0, mute, 0 },
	{ "GET", "/tls", WEB_TLS, 0, tls_only, 0 },
	{ "GET", "/local", WEB_LOCAL, 0, tls_only, 0 },
	{ NULL, NULL, 0, 0, NULL, 0 },
};

static void put(int dirfd, const char *name, const void *data, size_t len)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), (ssize_t) len);
	close(fd);
}

static int setup(void **state)
{
	struct site *s = calloc(1, sizeof(*s));
	struct web_options o = { .os = &os_posix,
				 .routes = routes,
				 .user = s,
				 .before = before_each,
				 .request_s = 1,
				 .max_upload = 100000 };

	signal(SIGPIPE, SIG_IGN);
	temp_folder(s->dir, sizeof(s->dir));
	snprintf(s->sock, sizeof(s->sock), "%s/web.sock", s->dir);
	snprintf(s->upload, sizeof(s->upload), "%s/up", s->dir);
	assert_int_equal(mkdir(s->upload, 0700), 0);
	s->dirfd = open(s->dir, O_RDONLY | O_DIRECTORY);
	o.upload_dir = s->upload;
	assert_int_equal(web_open(&o, &s->web), 0);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct site *s = *state;

	web_close(s->web);
	close(s->dirfd);
	temp_folder_remove(s->dir);
	free(s);
	return 0;
}

/* Serve until the child that plays the client ends; it exits 0 if it is content. */
static void serve_child(struct site *s, pid_t child, int max_ms)
{
	uint64_t end = os_posix.clock_boot_ms(&os_posix) + (uint64_t) max_ms;
	int status;

	for (;;) {
		struct pollfd fds[WEB_LISTENERS_MAX];
		int timeout = 20;
		size_t n = web_poll_prepare(s->web, fds, &timeout);

		assert_true(poll(fds, n, timeout) >= 0);
		web_poll_done(s->web);
		if (waitpid(child, &status, WNOHANG) == child)
			break;
		if (os_posix.clock_boot_ms(&os_posix) > end) {
			kill(child, SIGKILL);
			waitpid(child, &status, 0);
			fail_msg("the client did not end");
		}
	}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* Serve the request of a raw client and collect everything it gets. */
static void raw(struct site *s, const void *request, size_t len, int max_ms, char *ret, size_t size)
{
	uint64_t end = os_posix.clock_boot_ms(&os_posix) + (uint64_t) max_ms;
	int fd = unixsock_connect(s->sock);
	size_t sent = 0, got = 0;

	assert_true(fd >= 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (os_posix.clock_boot_ms(&os_posix) < end) {
		struct pollfd fds[WEB_LISTENERS_MAX];
		int timeout = 5;
		size_t n = web_poll_prepare(s->web, fds, &timeout);
		ssize_t k;

		if (sent < len) {
			k = write(fd, (const char *) request + sent, len - sent);
			if (k > 0)
				sent += (size_t) k;
			else if (errno == EPIPE || errno == ECONNRESET)
				sent = len;
		}
		(void) poll(fds, n, timeout < 5 ? timeout : 5);
		web_poll_done(s->web);
		k = read(fd, ret + got, size - 1 - got);
		if (k == 0 || (k < 0 && errno != EAGAIN))
			break;
		if (k > 0)
			got += (size_t) k;
	}
	ret[got] = '\0';
	close(fd);
}

static void ask(struct site *s, const char *request, char *ret, size_t size)
{
	raw(s, request, strlen(request), 2500, ret, size);
}

#define CLOSE "Connection: close\r\nHost: x\r\n\r\n"

static void get(struct site *s, const char *path, const char *headers, char *ret, size_t size)
{
	char request[2048];

	snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n%s" CLOSE, path, headers);
	ask(s, request, ret, size);
}

static bool says(const char *answer, const char *status)
{
	return strncmp(answer, "HTTP/1.1 ", 9) == 0 && strncmp(answer + 9, status, strlen(status)) == 0;
}

static const char *body(const char *answer)
{
	const char *end = strstr(answer, "\r\n\r\n");

	return end ? end + 4 : "";
}

static void socket_is_private_and_goes_away(void **state)
{
	struct site *s = *state;
	struct stat st;

	assert_int_equal(web_listen_unix(s->web, s->sock), 0);
	assert_int_equal(stat(s->sock, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void routes_take_arguments_and_queries(void **state)
{
	struct site *s = *state;
	char answer[4096];

	assert_int_equal(web_listen_unix(s->web, s->sock), 0);
	get(s, "/items/one?q=two%20three", "", answer, sizeof(answer));
	assert_true(says(answer, "200"));
	assert_string_equal(body(answer), "one||two three");
	get(s, "/items/a/parts/b", "", answer, sizeof(answer));
	assert_string_equal(body(answer), "a|b|");
	get(s, "/items/a/others/b", "", answer, sizeof(answer));
	assert_true(says(answer, "404"));
	assert_non_null(strstr(answer, "{\"error\":"));
	get(s, "/items", "", answer, sizeof(answer));
	assert_true(says(answer, "404"));
	get(s, "/echo", "", answer, sizeof(answer));
	assert_true(says(answer, "405"));
	get(s, "/tls", "", answer, sizeof(answer));
	assert_true(says(answer, "404"));
	get(s, "/mute", "", answer, sizeof(answer));
	assert_true(says(answer, "500"));
}

static void paths_that_leave_are_refused(void **state)
{
	static const char *const paths[] = { "/files/../web.sock",
					     "/files/%2e%2e/secret",
					     "/files/a/%2e%2e%2f%2e%2e/x",
					     "/files//etc/passwd",
					     "/files/./a",
					     "/files/a%5c..%5cb",
					     "/files/a%0ab",
					     "/files/..",
					     "//files/a",
					     "/files/%2fetc%2fpasswd" };
	struct site *s = *state;
	char answer[4096];

	assert_int_equal(web_listen_unix(s->web, s->sock), 0);
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		get(s, paths[i], "", answer, sizeof(answer));
		assert_true(says(answer, "400") || says(answer, "404"));
	}
}

static void links_and_folders_are_no_files(void **state)
{
	struct site *s = *state;
	char answer[4096];

	assert_int_equal(web_listen_unix(s->web, s->sock), 0);
	assert_int_equal(symlinkat("/etc/passwd", s->dirfd, "link"), 0);
	assert_int_equal(symlinkat("/etc", s->dirfd, "linked"), 0);
	assert_int_equal(mkfifoat(s->dirfd, "pipe", 0600), 0);
	get(s, "/files/link", "", answer, sizeof(answer));
	assert_true(says(answer, "404"));
	get(s, "/files/linked/passwd", "", answer, sizeof(answer));
	assert_true(says(answer, "404"));
	get(s, "/files/up", "", answer, sizeof(answer));
	assert_true(says(answer, "404"));
	get(s, "/files/pipe", "", answer, sizeof(answer));
	assert_true(says(answer, "404"));
	get(s, "/files/nothing", "", answer, sizeof(answer));
	assert_true(says(answer, "404"));
}

static void files_have_ranges_and_etags(void **state)
{
	static const char hash_name[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.x";
	struct site *s = *state;
	char answer[4096], path[200], headers[200];

	assert_int_equal(web_listen_unix(s->web, s->sock), 0);
	put(s->dirfd, hash_name, "0123456789", 10);
	put(s->dirfd, "timestamp.json", "{}", 2);
	put(s->dirfd, "empty", "", 0);
	snprintf(path, sizeof(path), "/files/%s", hash_name);

	get(s, path, "", answer, sizeof(answer));
	assert_true(says(answer, "200"));
	assert_string_equal(body(answer), "0123456789");
	assert_non_null(strstr(answer, "immutable"));
	assert_non_null(strstr(answer, "Accept-Ranges: bytes"));
	get(s, path, "Range: bytes=3-5\r\n", answer, sizeof(answer));
	assert_true(says(answer, "206"));
	assert_string_equal(body(answer), "345");
	assert_non_null(strstr(answer, "Content-Range: bytes 3-5/10"));
	get(s, path, "Range: bytes=7-\r\n", answer, sizeof(answer));
	assert_string_equal(body(answer), "789");
	get(s, path, "Range: bytes=-4\r\n", answer, sizeof(answer));
	assert_string_equal(body(answer), "6789");
	get(s, path, "Range: bytes=10-\r\n", answer, sizeof(answer));
	assert_true(says(answer, "416"));
	assert_non_null(strstr(answer, "bytes */10"));
	get(s, path, "Range: bytes=0-1,4-5\r\n", answer, sizeof(answer));
	assert_true(says(answer, "200"));

	snprintf(headers, sizeof(headers), "If-None-Match: \"%.64s\"\r\n", hash_name);
	get(s, path, headers, answer, sizeof(answer));
	assert_true(says(answer, "304"));
	get(s, path, "Range: bytes=3-5\r\nIf-Range: \"other\"\r\n", answer, sizeof(answer));
	assert_true(says(answer, "200"));
	snprintf(headers, sizeof(headers), "Range: bytes=3-5\r\nIf-Range: \"%.64s\"\r\n", hash_name);
	get(s, path, headers, answer, sizeof(answer));
	assert_true(says(answer, "206"));

	get(s, "/files/timestamp.json", "", answer, sizeof(answer));
	assert_non_null(strstr(answer, "no-cache"));
	assert_non_null(strstr(answer, "application/json"));
	get(s, "/files/empty", "", answer, sizeof(answer));
	assert_true(says(answer, "200"));
	get(s, "/files/empty", "Range: bytes=0-\r\n", answer, sizeof(answer));
	assert_true(says(answer, "416"));

	snprintf(headers, sizeof(headers), "HEAD /files/%s HTTP/1.1\r\n" CLOSE, hash_name);
	ask(s, headers, answer, sizeof(answer));
	assert_true(says(answer, "200"));
	assert_non_null(strstr(answer, "Content-Length: 10"));
	assert_string_equal(body(answer), "");
}

static void ranges_are_read_strictly(void **state)
{
	uint64_t first, length;

	(void) state;
	assert_int_equal(range_parse("bytes=0-0", 10, &first, &length), RANGE_PART);
	assert_int_equal(length, 1);
	assert_int_equal(range_parse("bytes=0-99999999999999999999", 10, &first, &length), RANGE_WHOLE);
	assert_int_equal(range_parse("bytes=5-18446744073709551615", 10, &first, &length), RANGE_PART);
	assert_int_equal(length, 5);
	assert_int_equal(range_parse("bytes=-0", 10, &first, &length), RANGE_OUTSIDE);
	assert_int_equal(range_parse("bytes=-99", 10, &first, &length), RANGE_PART);
	assert_int_equal(first, 0);
	assert_int_equal(length, 10);
	assert_int_equal(range_parse("bytes=5-4", 10, &first, &length), RANGE_WHOLE);
	assert_int_equal(range_parse("bytes=", 10, &first, &length), RANGE_WHOLE);
	assert_int_equal(range_parse("bytes=-", 10, &first, &length), RANGE_WHOLE);
	assert_int_equal(range_parse("bytes=a-b", 10, &first, &length), RANGE_WHOLE);
	assert_int_equal(range_parse("bytes= 1-2", 10, &first, &length), RANGE_WHOLE);
	assert_int_equal(range_parse("lines=1-2", 10, &first, &length), RANGE_WHOLE);
	assert_int_equal(range_parse(NULL, 10, &first, &length), RANGE_WHOLE);
	assert_int_equal(range_parse("bytes=0-", 0, &first, &length), RANGE_OUTSIDE);
	assert_true(file_name_is_immutable("3.root.json"));
	assert_false(file_name_is_immutable("timestamp.json"));
	assert_false(file_name_is_immutable("3.json"));
	assert_false(file_name_is_immutable("root.json"));
}

static void post(struct site *s, size_t announced, size_t len, char *ret, size_t size)
{
	char *request = malloc(len + 500);
	int n = snprintf(request, 500, "POST /echo HTTP/1.1\r\nContent-Length: %zu\r\n" CLOSE, announced);

	memset(request + n, 'x', len);
	raw(s, request, (size_t) n + len, 2500, ret, size);
	free(request);
}

static void bodies_have_a_limit(void **state)
{
	struct site *s = *state;
	char answer[4096], *request;
	size_t n;

	assert_int_equal(web_listen_unix(s->web, s->sock), 0);
	post(s, 1000, 1000, answer, sizeof(answer));
	assert_true(says(answer, "200"));
	assert_int_equal(strlen(body(answer)), 1000);
	post(s, 1001, 1001, answer, sizeof(answer));
	assert_true(says(answer, "413"));
	s->calls = 0;

	/* Without a length, in chunks: the limit holds as well. */
	request = malloc(BIG + 500);
	n = (size_t) snprintf(request, 500, "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" CLOSE "%x\r\n",
			      BIG);
	memset(request + n, 'y', BIG);
	n += BIG;
	memcpy(request + n, "\r\n0\r\n\r\n", 7);
	raw(s, request, n + 7, 2500, answer, sizeof(answer));
	free(request);
	assert_true(says(answer, "413"));
	assert_int_equal(s->calls, 0);
}

static void odd_lengths_are_refused(void **state)
{
	struct site *s = *state;
	char answer[4096];

	assert_int_equal(web_listen_unix(s->web, s->sock), 0);
	ask(s, "POST /echo HTTP/1.1\r\nContent-Length: -1\r\n" CLOSE, answer, sizeof(answer));
	assert_false(says(answer, "200"));
	ask(s, "POST /echo HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n" CLOSE, answer, sizeof(answer));
	assert_false(says(answer, "200"));
	ask(s, "nonsense\r\n\r\n", answer, sizeof(answer));
	assert_false(says(answer, "200"));
	assert_int_equal(s->calls, 0);
}

static void a_slow_client_is_cut_off(void **state)
{
	static const char head[] = "GET /items/x HTTP/1.1\r\nX: ";
	static const char half[] = "POST /echo HTTP/1.1\r\nContent-Length: 10\r\nHost: x\r\n\r\nabc";
	struct site *s = *state;
	uint64_t start = os_posix.clock_boot_ms(&os_posix), took;
	char answer[4096];

	assert_int_equal(web_listen_unix(s->web, s->sock), 0);
	raw(s, head, strlen(head), 4500, answer, sizeof(answer));
	took = os_posix.clock_boot_ms(&os_posix) - start;
	assert_true(took >= 900 && took < 4000);
	assert_string_equal(s->last_arg, "");

	/* The same in the middle of a body. */
	start = os_posix.clock_boot_ms(&os_posix);
	raw(s, half, strlen(half), 4500, answer, sizeof(answer));
	took = os_posix.clock_boot_ms(&os_posix) - start;
	assert_true(took >= 900 && took < 4000);
	assert_int_equal(s->calls, 0);
}

static void upload(struct site *s, const char *name, const void *data, size_t len, char *ret, size_t size)
{
	char *request = malloc(len + 500);
	int n = snprintf(request, 500, "PUT /upload/%s HTTP/1.1\r\nContent-Length: %zu\r\n" CLOSE, name, len);

	memcpy(request + n, data, len);
	raw(s, request, (size_t) n + len, 2500, ret, size);
	free(request);
}

static void uploads_are_kept_under_their_hash_only(void **state)
{
	struct site *s = *state;
	char data[50000], hex[SHA256_HEX + 1], wrong[SHA256_HEX + 1], answer[4096], path[500];
	struct stat st;

	assert_int_equal(web_listen_unix(s->web, s->sock), 0);
	memset(data, 'u', sizeof(data));
	assert_int_equal(sha256_hex(data, sizeof(data), hex), 0);
	upload(s, hex, data, sizeof(data), answer, sizeof(answer));
	assert_true(says(answer, "201"));
	snprintf(path, sizeof(path), "%s/%s", s->upload, hex);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, sizeof(data));

	memcpy(wrong, hex, sizeof(wrong));
	wrong[0] = wrong[0] == '0' ? '1' : '0';
	upload(s, wrong, data, sizeof(data), answer, sizeof(answer));
	assert_true(says(answer, "422"));
	snprintf(path, sizeof(path), "%s/%s", s->upload, wrong);
	assert_int_equal(stat(path, &st), -1);
	upload(s, "name", data, 10, answer, sizeof(answer));
	assert_true(says(answer, "400"));
	/* The folder holds the one good file and no part. */
	assert_int_equal(unlinkat(AT_FDCWD, s->upload, AT_REMOVEDIR), -1);
	snprintf(path, sizeof(path), "%s/%s", s->upload, hex);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(s->upload), 0);
}

static void a_large_or_broken_upload_leaves_nothing(void **state)
{
	struct site *s = *state;
	static char data[100001];
	char hex[SHA256_HEX + 1], answer[4096], request[300];
	int n;

	assert_int_equal(web_listen_unix(s->web, s->sock), 0);
	assert_int_equal(sha256_hex(data, sizeof(data), hex), 0);
	upload(s, hex, data, sizeof(data), answer, sizeof(answer));
	assert_true(says(answer, "413"));
	/* The client goes away in the middle. */
	n = snprintf(request, sizeof(request),
		     "PUT /upload/%s HTTP/1.1\r\nContent-Length: 1000\r\nHost: x\r\n\r\nabc", hex);
	raw(s, request, (size_t) n, 200, answer, sizeof(answer));
	for (int i = 0; i < 20; i++) {
		struct pollfd fds[WEB_LISTENERS_MAX];
		int timeout = 10;
		size_t k = web_poll_prepare(s->web, fds, &timeout);

		(void) poll(fds, k, timeout < 10 ? timeout : 10);
		web_poll_done(s->web);
	}
	assert_int_equal(rmdir(s->upload), 0);
}

static void poll_once(struct site *s)
{
	struct pollfd fds[WEB_LISTENERS_MAX];
	int timeout = 10;
	size_t n = web_poll_prepare(s->web, fds, &timeout);

	(void) poll(fds, n, timeout < 10 ? timeout : 10);
	web_poll_done(s->web);
}

static void waiting_requests_are_woken_or_answered_late(void **state)
{
	struct site *s = *state;
	struct web_stats stats;
	uint64_t start = os_posix.clock_boot_ms(&os_posix);
	char answer[4096];
	pid_t child;

	assert_int_equal(web_listen_unix(s->web, s->sock), 0);
	get(s, "/wait", "", answer, sizeof(answer));
	assert_string_equal(body(answer), "late");
	assert_true(os_posix.clock_boot_ms(&os_posix) - start >= 390);
	/* What a request noted waits with it, and the hook is told of each call. */
	get(s, "/note", "", answer, sizeof(answer));
	assert_string_equal(body(answer), "call 2");
	get(s, "/note", "", answer, sizeof(answer));
	assert_string_equal(body(answer), "call 2");
	assert_int_equal(s->before, 4);
	/* Each is released once, when its request has ended. */
	for (int i = 0; notes_released < 2 && i < 1000; i++)
		poll_once(s);
	assert_int_equal(notes_released, 2);

	child = fork();
	if (child == 0) {
		char got[1000];
		int fd = unixsock_connect(s->sock);
		ssize_t k;

		if (fd < 0 || write(fd, "GET /wait HTTP/1.1\r\n" CLOSE, 20 + strlen(CLOSE)) < 0)
			_exit(1);
		k = read(fd, got, sizeof(got) - 1);
		got[k > 0 ? k : 0] = '\0';
		_exit(strstr(got, "woken") ? 0 : 2);
	}
	for (int i = 0; i < 100; i++) {
		poll_once(s);
		web_stats(s->web, &stats);
		if (stats.waiting)
			break;
	}
	assert_int_equal(stats.waiting, 1);
	s->calls = 1000;
	web_wake(s->web);
	serve_child(s, child, 300);
}

static void closing_with_someone_waiting_is_fine(void **state)
{
	static const char request[] = "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n";
	struct site *s = *state;
	char answer[100];

	assert_int_equal(web_listen_unix(s->web, s->sock), 0);
	raw(s, request, strlen(request), 100, answer, sizeof(answer));
	assert_string_equal(answer, "");
}

static void tls_serves_with_our_certificate_only(void **state)
{
	static const char *const names[] = { "IP:127.0.0.1" };
	struct site *s = *state;
	struct private_key *ca_key = NULL, *key = NULL;
	struct buf ca = BUF_INIT(65536), public_pem = BUF_INIT(65536), secret = BUF_INIT(65536),
		   cert = BUF_INIT(65536);
	struct certificate_request rq = {
		.common_name = "test", .is_ca = true, .not_before = 0, .not_after = 4000000000
	};
	unsigned port = 0;
	int ready[2], go[2];
	pid_t child;

	assert_int_equal(private_key_generate(&ca_key), 0);
	assert_int_equal(private_key_generate(&key), 0);
	assert_int_equal(private_key_public_pem(ca_key, &public_pem), 0);
	rq.public_pem = buf_str(&public_pem);
	rq.not_before = 1600000000;
	assert_int_equal(certificate_issue(&rq, ca_key, NULL, &ca), 0);
	buf_done(&public_pem);
	assert_int_equal(private_key_public_pem(key, &public_pem), 0);
	assert_int_equal(private_key_save(key, NULL, &secret), 0);
	rq = (struct certificate_request){ .common_name = "serve",
					   .public_pem = buf_str(&public_pem),
					   .names = names,
					   .name_count = 1,
					   .server = true,
					   .not_before = 1600000000,
					   .not_after = 4000000000 };
	assert_int_equal(certificate_issue(&rq, ca_key, buf_str(&ca), &cert), 0);
	assert_int_equal(web_listen_tls(s->web, "127.0.0.1", 0, "not a key", buf_str(&cert), &port), -ERR_TLS);
	assert_int_equal(web_renew_tls(s->web, buf_str(&secret), buf_str(&cert)), -ENOENT);
	assert_int_equal(web_listen_tls(s->web, "nowhere", 0, buf_str(&secret), buf_str(&cert), &port), -EINVAL);
	assert_int_equal(web_listen_tls(s->web, "127.0.0.1", 0, buf_str(&secret), buf_str(&cert), &port), 0);
	assert_true(port > 0);
	/* Another certificate: at the same place, also after one that could not be used. */
	assert_int_equal(web_renew_tls(s->web, buf_str(&secret), buf_str(&cert)), 0);
	assert_int_equal(web_renew_tls(s->web, "not a key", buf_str(&cert)), -ERR_TLS);
	assert_int_equal(web_renew_tls(s->web, "not a key", buf_str(&cert)), -ERR_TLS);
	assert_int_equal(web_renew_tls(s->web, buf_str(&secret), buf_str(&cert)), 0);
	{
		char *data = calloc(1, BIG);

		put(s->dirfd, "large", data, BIG);
		free(data);
	}

	child = fork();
	if (child == 0) {
		struct http_options o = { .ca_pem = buf_str(&ca) };
		struct http_response response;
		struct buf got = BUF_INIT(ANSWER_MAX);
		struct http *h = NULL;
		char url[64];

		snprintf(url, sizeof(url), "https://127.0.0.1:%u/", port);
		o.base_url = url;
		if (http_open(&o, &h) < 0)
			_exit(1);
		if (http_request(h, "GET", "tls", NULL, NULL, 0, 60000, &response, &got) < 0 ||
		    response.status != 200)
			_exit(2);
		if (http_request(h, "POST", "echo", "text/plain", "hello", 5, 60000, &response, &got) < 0 ||
		    strcmp(buf_str(&got), "tlshello") != 0)
			_exit(3);
		buf_clear(&got);
		if (http_request(h, "GET", "files/large", NULL, NULL, 0, 60000, &response, &got) < 0 ||
		    got.len != BIG)
			_exit(4);
		if (http_request(h, "PUT", "upload/x", NULL, "x", 1, 60000, &response, &got) < 0 ||
		    response.status != 404)
			_exit(5);
		http_close(h);
		buf_done(&got);
		_exit(0);
	}
	serve_child(s, child, 120000);

	/* One that is read in the moment in which certificates change, and would wait. */
	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(go), 0);
	child = fork();
	if (child == 0) {
		struct http_options o = { .ca_pem = buf_str(&ca) };
		struct http_response response;
		struct buf got = BUF_INIT(ANSWER_MAX);
		struct http *h = NULL;
		char url[64], c;

		snprintf(url, sizeof(url), "https://127.0.0.1:%u/", port);
		o.base_url = url;
		if (http_open(&o, &h) < 0 ||
		    http_request(h, "GET", "tls", NULL, NULL, 0, 60000, &response, &got) < 0)
			_exit(1);
		if (write(ready[1], "x", 1) != 1 || read(go[0], &c, 1) != 1)
			_exit(2);
		(void) !http_request(h, "GET", "wait", NULL, NULL, 0, 60000, &response, &got); /* or is cut */
		http_close(h);
		buf_done(&got);
		_exit(0);
	}
	for (bool said = false; !said;) {
		struct pollfd fds[WEB_LISTENERS_MAX + 1];
		int timeout = 20;
		size_t n = web_poll_prepare(s->web, fds, &timeout);

		fds[n] = (struct pollfd){ .fd = ready[0], .events = POLLIN };
		assert_true(poll(fds, n + 1, timeout) >= 0);
		said = fds[n].revents != 0;
		web_poll_done(s->web);
	}
	assert_int_equal(write(go[1], "x", 1), 1);
	for (int events = 0; events == 0;) {
		struct pollfd fds[WEB_LISTENERS_MAX];
		int timeout = 20;
		size_t n = web_poll_prepare(s->web, fds, &timeout);

		events = poll(fds, n, 20);
	}
	assert_int_equal(web_renew_tls(s->web, buf_str(&secret), buf_str(&cert)), 0);
	serve_child(s, child, 120000);
	for (int i = 0; i < 2; i++) {
		close(ready[i]);
		close(go[i]);
	}
	buf_done(&ca);
	buf_done(&public_pem);
	buf_done(&secret);
	buf_done(&cert);
	private_key_free(ca_key);
	private_key_free(key);
}

/* A page of somebody else may lead a browser to our port under its own name, never under ours. */
static void local_answers_to_local_names_only(void **state)
{
	static const struct {
		const char *host;
		long status;
	} rows[] = { { "localhost", 200 },
		     { "localhost:9999", 200 },
		     { "127.0.0.1:1", 200 },
		     { "evil.example", 403 },
		     { "localhost.evil", 403 },
		     { "127.0.0.1.evil", 403 },
		     { "localhost:80@evil", 403 },
		     { "127.0.0.2", 403 },
		     { "[::1]", 403 },
		     { "localhostx", 403 },
		     { "", 403 } };
	struct site *s = *state;
	unsigned port = 0;
	pid_t child;

	assert_int_equal(web_listen_local(s->web, 70000, &port), -EINVAL);
	assert_int_equal(web_listen_local(s->web, 0, &port), 0);
	assert_true(port > 0);
	child = fork();
	if (child == 0) {
		for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
			struct sockaddr_in a = { .sin_family = AF_INET,
						 .sin_port = htons((uint16_t) port),
						 .sin_addr = { htonl(INADDR_LOOPBACK) } };
			int fd = socket(AF_INET, SOCK_STREAM, 0);
			char text[2000], want[40];
			size_t got = 0;
			ssize_t k;

			snprintf(text, sizeof(text),
				 "GET /local HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", rows[i].host);
			if (connect(fd, (struct sockaddr *) &a, sizeof(a)) < 0 ||
			    write(fd, text, strlen(text)) != (ssize_t) strlen(text))
				_exit(1);
			while ((k = read(fd, text + got, sizeof(text) - 1 - got)) > 0)
				got += (size_t) k;
			text[got] = '\0';
			close(fd);
			snprintf(want, sizeof(want), "HTTP/1.1 %ld", rows[i].status);
			if (strncmp(text, want, strlen(want)) != 0 || !strstr(text, "frame-ancestors 'none'"))
				_exit(10 + (int) i);
		}
		_exit(0);
	}
	serve_child(s, child, 20000);
}

static void many_clients_and_one_address(void **state)
{
	struct site *s = *state;
	int fds[64];
	char answer[1000];

	assert_int_equal(web_listen_unix(s->web, s->sock), 0);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		fds[i] = unixsock_connect(s->sock);
		assert_true(fds[i] >= 0);
	}
	get(s, "/items/still", "", answer, sizeof(answer));
	assert_true(says(answer, "200"));
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		close(fds[i]);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(socket_is_private_and_goes_away),
		T(routes_take_arguments_and_queries),
		T(paths_that_leave_are_refused),
		T(links_and_folders_are_no_files),
		T(files_have_ranges_and_etags),
		T(ranges_are_read_strictly),
		T(bodies_have_a_limit),
		T(odd_lengths_are_refused),
		T(a_slow_client_is_cut_off),
		T(uploads_are_kept_under_their_hash_only),
		T(a_large_or_broken_upload_leaves_nothing),
		T(waiting_requests_are_woken_or_answered_late),
		T(closing_with_someone_waiting_is_fine),
		T(tls_serves_with_our_certificate_only),
		T(local_answers_to_local_names_only),
		T(many_clients_and_one_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
