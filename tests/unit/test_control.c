/* control.h: one frame each way; what changes something waits its turn and needs the right user. */
#include "agent/local/control.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"
#include "json/json.h"
#include "os/frame.h"
#include "os/unixsock.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka wants the four above */
#include <cmocka.h>

static char dir[64], path[96];
static struct control *server;
static unsigned handled;

static bool changes(const char *command)
{
	return strcmp(command, "set") == 0;
}

static void handle(void *user, const struct control_peer *peer, const struct json *request, struct buf *answer)
{
	(void) user;
	assert_true(peer->pid > 1 && peer->pid != getpid());
	assert_int_equal(peer->may_change, peer->uid == geteuid());
	handled++;
	if (strcmp(json_string(json_get(request, "command")), "silent") == 0)
		return;
	assert_int_equal(buf_add_str(answer, "{\"ok\":true,\"said\":\"hello\"}"), 0);
}

static int setup(void **state)
{
	(void) state;
	handled = 0;
	snprintf(dir, sizeof(dir), "/tmp/selfright-control-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/agent.sock", dir);
	assert_int_equal(control_open(path, changes, handle, NULL, &server), 0);
	return 0;
}

static int teardown(void **state)
{
	(void) state;
	control_close(server);
	assert_int_equal(access(path, F_OK), -1); /* the socket goes with it */
	assert_int_equal(rmdir(dir), 0);
	return 0;
}

enum { ANSWER_MS = 30 * 1000 };

static void serve(bool reading_only, int turns)
{
	for (int i = 0; i < turns; i++) {
		struct pollfd fds[CONTROL_FDS_MAX];
		size_t n = control_prepare(server, fds);

		(void) poll(fds, n, 20);
		control_step(server, fds, n, reading_only);
	}
}

/* Ask from a process of its own; its exit status says what came back. */
static pid_t ask(const char *request, const char *expected)
{
	pid_t pid = fork();

	if (pid == 0) {
		struct json *answer = NULL;
		int r = control_call(path, request, strlen(request), ANSWER_MS, &answer);
		const char *said =
			json_string(json_get(answer, json_bool(json_get(answer, "ok"), false) ? "said" : "error"));

		_exit(r == 0 && said && strstr(said, expected) ? 0 : 1);
	}
	return pid;
}

/* Serve until it has its answer, or gives up by its own deadline. */
static void answered(bool reading_only, pid_t pid)
{
	int status = 0;
	pid_t ended;

	while ((ended = waitpid(pid, &status, WNOHANG)) == 0)
		serve(reading_only, 1);
	assert_int_equal(ended, pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_answers(void **state)
{
	pid_t pid = ask("{\"command\":\"status\"}", "hello");

	(void) state;
	answered(false, pid);
	assert_int_equal(handled, 1);
}

static void test_changes_wait(void **state)
{
	pid_t pid = ask("{\"command\":\"set\"}", "hello"), reader;

	(void) state;
	serve(true, 10);
	assert_int_equal(handled, 0);
	reader = ask("{\"command\":\"status\"}", "hello"); /* readers need not wait */
	answered(true, reader);
	assert_int_equal(handled, 1);
	answered(false, pid);
	assert_int_equal(handled, 2);
}

static void test_malformed(void **state)
{
	static const char *const requests[] = {
		"", "{", "[]", "{}", "{\"command\":7}", "{\"command\":\"a\",\"command\":\"b\"}"
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		pid_t pid = ask(requests[i], "not a request");

		answered(false, pid);
	}
	assert_int_equal(handled, 0);
}

static void test_no_answer_is_an_answer(void **state)
{
	pid_t pid = ask("{\"command\":\"silent\"}", "no answer");

	(void) state;
	answered(false, pid);
}

static void test_hostile_length(void **state)
{
	static const uint8_t huge[10] = { 0xff, 0xff, 0xff, 0xff, 0, 1, 0, 0, 0, 1 };
	char byte;
	int fd = unixsock_connect(path);

	(void) state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, huge, sizeof(huge)), sizeof(huge));
	serve(false, 10);
	assert_int_equal(read(fd, &byte, 1), 0); /* hung up on */
	close(fd);
	assert_int_equal(handled, 0);
}

static void test_more_clients_than_places(void **state)
{
	int fds[CONTROL_CLIENTS_MAX + 4];
	pid_t pid;

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		fds[i] = unixsock_connect(path);
		assert_true(fds[i] >= 0);
	}
	serve(false, 5);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		close(fds[i]);
	pid = ask("{\"command\":\"status\"}", "hello");
	answered(false, pid);
}

static void test_strangers_change_nothing(void **state)
{
	pid_t pid;

	(void) state;
	if (geteuid() != 0)
		skip(); /* only root can be somebody else */
	assert_int_equal(chmod(dir, 0755), 0);
	pid = fork();
	if (pid == 0) {
		struct json *answer = NULL;
		const char *request = "{\"command\":\"set\"}", *error;

		if (setuid(65534) < 0 || control_call(path, request, strlen(request), ANSWER_MS, &answer) < 0)
			_exit(1);
		error = json_string(json_get(answer, "error"));
		_exit(error && strstr(error, "only root") ? 0 : 2);
	}
	answered(false, pid);
	assert_int_equal(handled, 0);
}

static void test_nobody_listens(void **state)
{
	struct json *answer = NULL;

	(void) state;
	assert_int_equal(control_call("/tmp/selfright-no-such.sock", "{}", 2, 100, &answer), -ENOENT);
	/* one that never answers */
	assert_int_equal(control_call(path, "{\"command\":\"status\"}", 20, 50, &answer), -ERR_DEADLINE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changes_wait, setup, teardown),
		cmocka_unit_test_setup_teardown(test_malformed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_answer_is_an_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile_length, setup, teardown),
		cmocka_unit_test_setup_teardown(test_more_clients_than_places, setup, teardown),
		cmocka_unit_test_setup_teardown(test_strangers_change_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nobody_listens, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
