/* Each sentence of os/frame.h and os/unixsock.h. */
#include "base/err.h"
#include "os/frame.h"
#include "os/unixsock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { MAX = 1000 };

struct pair {
	struct frame_conn a, b;
};

static int setup(void **state)
{
	struct pair *p = calloc(1, sizeof(*p));
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return 1;
	frame_conn_init(&p->a, fds[0], MAX);
	frame_conn_init(&p->b, fds[1], MAX);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct pair *p = *state;

	frame_conn_done(&p->a);
	frame_conn_done(&p->a);
	frame_conn_done(&p->b);
	free(p);
	return 0;
}

static void test_a_frame_arrives_whole(void **state)
{
	struct pair *p = *state;
	struct frame f;

	assert_false(frame_wants_write(&p->a));
	assert_int_equal(frame_send(&p->a, 0x1234, 0x89abcdefU, "hello", 5), 0);
	assert_int_equal(frame_send(&p->a, 2, 0, "", 0), 0);
	assert_true(frame_wants_write(&p->a));
	assert_int_equal(frame_next(&p->b, &f), 0);
	assert_int_equal(frame_pump(&p->a, POLLOUT), 0);
	assert_false(frame_wants_write(&p->a));
	assert_int_equal(frame_pump(&p->b, POLLIN), 0);
	assert_int_equal(frame_next(&p->b, &f), 1);
	assert_int_equal(f.type, 0x1234);
	assert_int_equal(f.id, 0x89abcdefU);
	assert_int_equal(f.len, 5);
	assert_memory_equal(f.data, "hello", 5);
	assert_int_equal(frame_next(&p->b, &f), 1);
	assert_int_equal(f.type, 2);
	assert_int_equal(f.len, 0);
	assert_int_equal(frame_next(&p->b, &f), 0);
}

static void test_the_bytes_on_the_wire(void **state)
{
	static const uint8_t expected[] = { 0, 0, 0, 8, 0, 3, 0, 0, 0, 7, 'h', 'i' };
	struct pair *p = *state;
	uint8_t raw[32];

	assert_int_equal(frame_send(&p->a, 3, 7, "hi", 2), 0);
	assert_int_equal(frame_pump(&p->a, 0), 0);
	assert_int_equal(read(p->b.fd, raw, sizeof(raw)), sizeof(expected));
	assert_memory_equal(raw, expected, sizeof(expected));
}

static void test_byte_by_byte(void **state)
{
	static const uint8_t wire[] = { 0, 0, 0, 8, 0, 3, 0, 0, 0, 7, 'h', 'i' };
	struct pair *p = *state;
	struct frame f;

	for (size_t i = 0; i < sizeof(wire); i++) {
		assert_int_equal(frame_next(&p->b, &f), 0);
		assert_int_equal(write(p->a.fd, wire + i, 1), 1);
		assert_int_equal(frame_pump(&p->b, POLLIN), 0);
	}
	assert_int_equal(frame_next(&p->b, &f), 1);
	assert_memory_equal(f.data, "hi", 2);
}

static void test_lengths_that_end_the_connection(void **state)
{
	static const uint8_t wires[][4] = {
		{ 0, 0, 0, 0 }, { 0, 0, 0, 5 }, { 0, 0, 3, 0xef }, { 0xff, 0xff, 0xff, 0xff }
	};
	struct pair *p = *state;
	struct frame f;

	(void) p;
	for (size_t i = 0; i < sizeof(wires) / sizeof(wires[0]); i++) {
		struct frame_conn c;
		int fds[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
		frame_conn_init(&c, fds[0], MAX);
		assert_int_equal(write(fds[1], wires[i], 4), 4);
		assert_int_equal(frame_pump(&c, POLLIN), -ERR_PROTOCOL);
		assert_int_equal(frame_next(&c, &f), -ERR_PROTOCOL);
		frame_conn_done(&c);
		(void) close(fds[1]);
	}
}

static void test_limits_of_sending(void **state)
{
	struct pair *p = *state;
	char data[MAX + 1] = "";
	struct frame f;
	int sent = 0, r;

	assert_int_equal(frame_send(&p->a, 1, 1, data, MAX + 1), -ERR_TOO_LARGE);
	while ((r = frame_send(&p->a, 1, 1, data, MAX)) == 0)
		sent++;
	assert_int_equal(r, -ENOBUFS);
	assert_int_equal(sent, 4);
	assert_int_equal(frame_pump(&p->a, POLLOUT), 0);
	assert_int_equal(frame_pump(&p->b, POLLIN), 0);
	for (int i = 0; i < sent; i++) {
		r = frame_next(&p->b, &f);
		if (r == 0) {
			assert_int_equal(frame_pump(&p->b, POLLIN), 0);
			r = frame_next(&p->b, &f);
		}
		assert_int_equal(r, 1);
		assert_int_equal(f.len, MAX);
	}
}

static void test_frames_before_the_end_are_not_lost(void **state)
{
	struct pair *p = *state;
	struct frame f;

	assert_int_equal(frame_send(&p->a, 9, 1, "last", 4), 0);
	assert_int_equal(frame_pump(&p->a, POLLOUT), 0);
	frame_conn_done(&p->a);
	p->a.fd = -1;
	/* Also when we have something to say that nobody will hear. */
	assert_int_equal(frame_send(&p->b, 1, 1, "x", 1), 0);
	assert_int_equal(frame_pump(&p->b, POLLIN | POLLHUP), 0);
	assert_int_equal(frame_next(&p->b, &f), 1);
	assert_int_equal(f.type, 9);
	assert_int_equal(frame_pump(&p->b, POLLIN | POLLHUP), -ERR_PEER_GONE);
}

static void test_a_flood_is_held_back(void **state)
{
	struct pair *p = *state;
	char data[MAX] = "";
	struct frame f;
	int taken = 0;

	for (int round = 0; round < 200; round++) {
		while (frame_send(&p->a, 1, 1, data, MAX) == 0)
			;
		assert_int_equal(frame_pump(&p->a, POLLOUT), 0);
		assert_int_equal(frame_pump(&p->b, POLLIN), 0);
		assert_true(p->b.in.len <= MAX + 10 + 65536);
		if (round % 3 == 0)
			while (frame_next(&p->b, &f) == 1)
				taken++;
	}
	assert_true(taken > 100);
}

static void test_exchange(void **state)
{
	struct pair *p = *state;
	struct frame f;

	assert_int_equal(frame_exchange(&p->a, 30, &f), -ERR_DEADLINE);
	assert_int_equal(frame_send(&p->b, 5, 6, "answer", 6), 0);
	assert_int_equal(frame_pump(&p->b, POLLOUT), 0);
	assert_int_equal(frame_send(&p->a, 4, 6, "question", 8), 0);
	assert_int_equal(frame_exchange(&p->a, 60000, &f), 0);
	assert_int_equal(f.type, 5);
	assert_memory_equal(f.data, "answer", 6);
	frame_conn_done(&p->b);
	p->b.fd = -1;
	assert_int_equal(frame_exchange(&p->a, 60000, &f), -ERR_PEER_GONE);
}

/* --- unixsock ------------------------------------------------------------------------------------------- */

static void test_sockets(void **state)
{
	char folder[] = "/tmp/selfright-sock-XXXXXX", path[200], text[] = "x";
	int fd, again, client, server;
	struct stat st;
	uid_t uid = 99;
	pid_t pid = 99;

	(void) state;
	assert_non_null(mkdtemp(folder));
	(void) snprintf(path, sizeof(path), "%s/s", folder);
	assert_int_equal(unixsock_connect(path), -ENOENT);
	fd = unixsock_listen(path, 0620);
	assert_true(fd >= 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0620);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(unixsock_accept(fd, &uid, &pid), -EAGAIN);
	assert_int_equal(unixsock_listen(path, 0600), -EADDRINUSE); /* somebody listens */
	server = unixsock_accept(fd, &uid, &pid); /* that was the look whether somebody does */
	assert_true(server >= 0);
	(void) close(server);
	client = unixsock_connect(path);
	assert_true(client >= 0);
	server = unixsock_accept(fd, &uid, &pid);
	assert_true(server >= 0);
	assert_int_equal(uid, geteuid());
	assert_int_equal(pid, getpid());
	assert_true(fcntl(server, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(server, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(write(client, text, 1), 1);
	assert_int_equal(read(server, text, 1), 1);
	(void) close(client);
	(void) close(server);
	(void) close(fd);
	assert_int_equal(unixsock_connect(path), -ECONNREFUSED);
	again = unixsock_listen(path, 0600); /* a stale one is replaced */
	assert_true(again >= 0);
	(void) close(again);
	assert_int_equal(unlink(path), 0);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	(void) close(fd);
	assert_int_equal(unixsock_listen(path, 0600), -EEXIST); /* a file is not */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(folder), 0);
}

static void test_long_paths(void **state)
{
	char path[200];

	(void) state;
	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[108] = '\0';
	assert_int_equal(unixsock_listen(path, 0600), -ENAMETOOLONG);
	assert_int_equal(unixsock_connect(path), -ENAMETOOLONG);
	path[107] = '\0';
	assert_int_equal(unixsock_connect(path), -ENOENT);
	assert_int_equal(unixsock_connect(""), -EINVAL);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_a_frame_arrives_whole),	T(test_the_bytes_on_the_wire),
		T(test_byte_by_byte),		T(test_lengths_that_end_the_connection),
		T(test_limits_of_sending),	T(test_frames_before_the_end_are_not_lost),
		T(test_a_flood_is_held_back),	T(test_exchange),
		cmocka_unit_test(test_sockets), cmocka_unit_test(test_long_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
