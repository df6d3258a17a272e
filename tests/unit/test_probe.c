/*
 * The checks' runner against real servers and programs. Time is the test's own: it
 * runs SPEED times as fast as the wall clock, so that a timeout of 1 s costs 100 ms.
 */
#include "agent/probe/probe.h"
#include "agent/probe/run.h"
#include "base/err.h"
#include "json/json.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { SPEED = 10 };

static uint64_t now_ms(void)
{
	struct timespec t;

	assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &t), 0);
	return ((uint64_t) t.tv_sec * 1000 + (uint64_t) t.tv_nsec / 1000000) * SPEED;
}

/* --- servers --- */

enum manner {
	ANSWER_200,
	ANSWER_503,
	ANSWER_302,
	ANSWER_NOTHING,
	ANSWER_CLOSE,
	ANSWER_GARBAGE,
	ANSWER_CHUNKED,
	ANSWER_HEAD_WITHOUT_END,
	ANSWER_BODY_WITHOUT_END,
	ANSWER_FLAPPING,
	ANSWER_BYTEWISE,
	ANSWER_CONTINUE,
	ANSWER_NUL
};

struct server {
	pid_t pid;
	uint16_t port;
};

static void say(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		text += n;
		len -= (size_t) n;
	}
}

static void say_forever(int fd, const char *text)
{
	while (send(fd, text, strlen(text), MSG_NOSIGNAL) > 0)
		;
}

static const char ok_answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nhealthy";
static const char bad_answer[] = "HTTP/1.1 503 Sorry\r\n\r\nbroken inside";

static void answer(int fd, enum manner manner, unsigned count)
{
	static const char garbage[] = "SSH-2.0-OpenSSH_9.2p1 Debian\r\n";
	static const char moved[] = "HTTP/1.1 302 Found\r\nLocation: http://example.invalid/\r\n\r\n";
	static const char chunked[] =
		"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhea\r\n4;x=y\r\nlthy\r\n0\r\n\r\n";
	static const char with_continue[] = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhealthy";
	static const char with_nul[] = "HTTP/1.1 200\0\0\0\r\n\0Content-Length: 1\r\n\r\n\0";

	switch (manner) {
	case ANSWER_200:
		say(fd, ok_answer, strlen(ok_answer));
		break;
	case ANSWER_503:
		say(fd, bad_answer, strlen(bad_answer));
		break;
	case ANSWER_302:
		say(fd, moved, strlen(moved));
		break;
	case ANSWER_NOTHING:
		(void) pause();
		break;
	case ANSWER_CLOSE:
		break;
	case ANSWER_GARBAGE:
		say(fd, garbage, strlen(garbage));
		break;
	case ANSWER_CHUNKED:
		say(fd, chunked, strlen(chunked));
		break;
	case ANSWER_HEAD_WITHOUT_END:
		say(fd, "HTTP/1.1 200 OK\r\n", 17);
		say_forever(fd, "X-More: yes\r\n");
		break;
	case ANSWER_BODY_WITHOUT_END:
		say(fd, "HTTP/1.1 200 OK\r\n\r\n", 19);
		say_forever(fd, "lorem ipsum ");
		break;
	case ANSWER_FLAPPING:
		answer(fd, count % 2 == 0 ? ANSWER_200 : ANSWER_503, 0);
		break;
	case ANSWER_BYTEWISE:
		for (size_t i = 0; i < strlen(ok_answer); i++) {
			say(fd, ok_answer + i, 1);
			(void) usleep(200);
		}
		break;
	case ANSWER_CONTINUE:
		say(fd, with_continue, strlen(with_continue));
		break;
	case ANSWER_NUL:
		say(fd, with_nul, sizeof(with_nul));
		break;
	}
}

static int bound_socket(uint16_t *ret_port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *) &a, sizeof(a)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *) &a, &len), 0);
	*ret_port = ntohs(a.sin_port);
	return fd;
}

static struct server serve(enum manner manner)
{
	struct server s;
	int fd = bound_socket(&s.port);

	assert_int_equal(listen(fd, 16), 0);
	s.pid = fork();
	assert_true(s.pid >= 0);
	if (s.pid == 0) {
		(void) alarm(60); /* should the test die before it ends us */
		for (unsigned count = 0;; count++) {
			int client = accept(fd, NULL, NULL);
			char request[2048];

			if (client < 0)
				_exit(1);
			(void) !recv(client, request, sizeof(request), 0);
			answer(client, manner, count);
			(void) shutdown(client, SHUT_WR);
			/* Until the other side hangs up, so that closing does not reset what it still reads. */
			while (recv(client, request, sizeof(request), 0) > 0)
				;
			(void) close(client);
		}
	}
	(void) close(fd);
	return s;
}

static void server_end(struct server *s)
{
	assert_int_equal(kill(s->pid, SIGKILL), 0);
	assert_int_equal(waitpid(s->pid, NULL, 0), s->pid);
}

/* --- releases and sets --- */

struct fixture {
	char folder[64];
	struct release release;
	struct labels vars;
	struct probe_context context;
	struct probe_set *set;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const char *tmp = getenv("TMPDIR");

	assert_non_null(f);
	(void) snprintf(f->folder, sizeof(f->folder), "%s/probeXXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
	assert_non_null(mkdtemp(f->folder));
	assert_int_equal(labels_set(&f->vars, "word", "from vars"), 0);
	f->context = (struct probe_context){ .variables = { .vars = &f->vars, .node_id = "n1", .root = f->folder },
					     .root = f->folder };
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[128];

	probe_set_free(f->set);
	release_done(&f->release);
	labels_done(&f->vars);
	(void) snprintf(command, sizeof(command), "%s/pids", f->folder);
	(void) unlink(command);
	(void) snprintf(command, sizeof(command), "%s/bin/check", f->folder);
	(void) unlink(command);
	(void) snprintf(command, sizeof(command), "%s/bin", f->folder);
	(void) rmdir(command);
	assert_int_equal(rmdir(f->folder), 0);
	free(f);
	return 0;
}

static void release_with(struct fixture *f, const char *checks)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(64 * 1024);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	char *error = NULL;

	assert_int_equal(
		buf_addf(&text,
			 "{\"format\":1,\"component\":\"web\",\"version\":\"1.1.0\",\"artifacts\":[{\"path\":"
			 "\"web/1.1.0/web.tar.zst\",\"length\":1,\"sha256\":\"%064d\",\"media\":\"x\"}],\"tree\":{"
			 "\"digest\":\"%064d\",\"installed_size\":1,\"files\":1},\"checks\":[%s]}",
			 0, 0, checks),
		0);
	assert_int_equal(json_parse(text.data, text.len, &json_limits_default, &doc), 0);
	if (release_parse(doc, &f->release, &error) < 0)
		fail_msg("%s", error);
}

static void set_with(struct fixture *f, enum probe_mode mode, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void set_with(struct fixture *f, enum probe_mode mode, const char *fmt, ...)
{
	char checks[16 * 1024];
	va_list ap;

	va_start(ap, fmt);
	assert_true(vsnprintf(checks, sizeof(checks), fmt, ap) < (int) sizeof(checks));
	va_end(ap);
	release_with(f, checks);
	assert_int_equal(probe_set_new(&f->release, &f->context, mode, now_ms(), &f->set), 0);
}

static void wait_and_step(struct probe_set *set)
{
	struct pollfd fds[16];
	int timeout_ms = 1000;
	size_t n = probe_set_prepare(set, fds, 16, now_ms(), &timeout_ms);

	assert_true(poll(fds, (nfds_t) n, timeout_ms / SPEED) >= 0);
	probe_set_step(set, now_ms());
}

static void run_baseline(struct probe_set *set)
{
	for (uint64_t start = now_ms(); !probe_set_done(set);) {
		assert_true(now_ms() < start + 600 * 1000);
		wait_and_step(set);
	}
}

static enum probe_verdict run_probation(struct probe_set *set, uint64_t probation_ms,
					const struct probe_status **why)
{
	uint64_t start = now_ms();
	enum probe_verdict v;

	while ((v = probe_set_verdict(set, now_ms(), probation_ms, why)) == PROBE_IN_PROGRESS) {
		assert_true(now_ms() < start + 600 * 1000);
		wait_and_step(set);
	}
	return v;
}

static const struct probe_status *first(struct fixture *f)
{
	return probe_set_at(f->set, 0);
}

#define assert_contains(text, part)                                                                               \
	do {                                                                                                      \
		if (!strstr(text, part))                                                                          \
			fail_msg("\"%s\" does not hold \"%s\"", text, part);                                      \
	} while (0)

/* --- a matrix: kind and outcome, in both phases --- */

struct row {
	const char *name, *check; /* %d: the port */
	enum manner manner;
	bool holds;
	const char *detail;
};

/* Where a deadline is not what is tested it is far away: the machine may be busy. */
#define PATIENT ",\"timeoutSeconds\":100,\"failureThreshold\":1,\"periodSeconds\":1}"
#define SHORT ",\"failureThreshold\":1,\"periodSeconds\":1}"
#define HTTP(more) "{\"name\":\"c\",\"httpGet\":{\"port\":%d" more "}" PATIENT
#define SILENT "{\"name\":\"c\",\"httpGet\":{\"port\":%d}" SHORT
#define TCP "{\"name\":\"c\",\"tcpSocket\":{\"port\":%d}" PATIENT
#define PROGRAM(script) "{\"name\":\"c\",\"exec\":{\"command\":[\"sh\",\"-c\",\"" script "\"]}"
#define EXEC(script) PROGRAM(script) PATIENT
#define HANGS(script, seconds) PROGRAM(script) ",\"timeoutSeconds\":" seconds SHORT

static const struct row rows[] = {
	{ "200 holds", HTTP(""), ANSWER_200, true, "HTTP 200" },
	{ "localhost is an address", HTTP(",\"host\":\"localhost\""), ANSWER_200, true, "HTTP 200" },
	{ "503 does not", HTTP(""), ANSWER_503, false, "HTTP 503: broken inside" },
	{ "a redirection holds and is not followed", HTTP(""), ANSWER_302, true, "HTTP 302" },
	{ "a silent server times out", SILENT, ANSWER_NOTHING, false, "no answer within 1 s" },
	{ "a server that hangs up", HTTP(""), ANSWER_CLOSE, false, "closed without an answer" },
	{ "what is no HTTP", HTTP(""), ANSWER_GARBAGE, false, "not HTTP: SSH-2.0" },
	{ "a head without end", HTTP(""), ANSWER_HEAD_WITHOUT_END, false, "the answer ended in its head" },
	{ "a body without end does not matter", HTTP(""), ANSWER_BODY_WITHOUT_END, true, "HTTP 200" },
	{ "an expected word in a body without end", HTTP(",\"expectBody\":\"nowhere\""), ANSWER_BODY_WITHOUT_END,
	  false, "does not hold" },
	{ "the expected body", HTTP(",\"expectBody\":\"healthy\""), ANSWER_200, true, "with the expected body" },
	{ "another body", HTTP(",\"expectBody\":\"sick\""), ANSWER_200, false, "does not hold \"sick\"" },
	{ "the expected body over two chunks", HTTP(",\"expectBody\":\"healthy\""), ANSWER_CHUNKED, true,
	  "expected" },
	{ "another body in chunks", HTTP(",\"expectBody\":\"unhealthy\""), ANSWER_CHUNKED, false,
	  "does not hold" },
	{ "an answer byte by byte", HTTP(",\"expectBody\":\"healthy\""), ANSWER_BYTEWISE, true, "expected" },
	{ "an answer after 100", HTTP(",\"expectBody\":\"healthy\""), ANSWER_CONTINUE, true, "expected" },
	{ "NUL bytes in the head", HTTP(",\"expectBody\":\"healthy\""), ANSWER_NUL, false, "" },
	{ "a port that listens", TCP, ANSWER_200, true, "connected" },
	{ "a program that exits 0", EXEC("echo fine"), ANSWER_200, true, "fine" },
	{ "a program that says nothing", EXEC("exit 0"), ANSWER_200, true, "exited 0" },
	{ "a program that exits 3", EXEC("echo bad >&2; exit 3"), ANSWER_200, false, "exited 3\nbad" },
	{ "a program that is killed", EXEC("kill -SEGV $$"), ANSWER_200, false, "killed by" },
	{ "a program that hangs", HANGS("echo begun; sleep 1000", "10"), ANSWER_200, false,
	  "no answer within 10 s\nbegun" },
	{ "a program that is not there",
	  "{\"name\":\"c\",\"exec\":{\"command\":[\"bin/none\"]},\"failureThreshold\":1}", ANSWER_200, false,
	  "cannot start" },
};

static void check_row(struct fixture *f, const struct row *row, enum probe_mode mode)
{
	struct server s = serve(row->manner);
	const struct probe_status *why;
	char check[512];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the table's texts take one number at most */
	(void) snprintf(check, sizeof(check), row->check, s.port);
#pragma GCC diagnostic pop
	set_with(f, mode, "%s", check);
	if (mode == PROBE_BASELINE) {
		run_baseline(f->set);
		if ((first(f)->state == PROBE_PASSING) != row->holds)
			fail_msg("%s: %s", row->name, first(f)->detail);
		assert_int_equal(first(f)->runs, 1);
	} else {
		if ((run_probation(f->set, 0, &why) == PROBE_PASSED) != row->holds)
			fail_msg("%s: %s", row->name, first(f)->detail);
	}
	if (!strstr(first(f)->detail, row->detail))
		fail_msg("%s: \"%s\" does not hold \"%s\"", row->name, first(f)->detail, row->detail);
	server_end(&s);
	probe_set_free(f->set);
	f->set = NULL;
	release_done(&f->release);
}

static void test_every_kind_and_outcome_in_both_phases(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		check_row(*state, &rows[i], PROBE_BASELINE);
		check_row(*state, &rows[i], PROBE_PROBATION);
	}
}

static void test_a_closed_port_is_refused(void **state)
{
	struct fixture *f = *state;
	uint16_t port;
	int fd = bound_socket(&port); /* bound, but nobody listens */

	set_with(f, PROBE_BASELINE,
		 "{\"name\":\"a\",\"tcpSocket\":{\"port\":%d}},"
		 "{\"name\":\"b\",\"httpGet\":{\"port\":%d,\"host\":\"localhost\"}}",
		 port, port);
	run_baseline(f->set);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(probe_set_at(f->set, i)->state, PROBE_FAILING);
		assert_contains(probe_set_at(f->set, i)->detail, "cannot connect");
	}
	(void) close(fd);
}

/* --- programs --- */

static bool is_gone(pid_t pid)
{
	char path[64], line[256] = "";
	FILE *file;
	bool gone;

	(void) snprintf(path, sizeof(path), "/proc/%d/stat", (int) pid);
	file = fopen(path, "re");
	if (!file)
		return true;
	/* Waiting for a parent that never reaps is as gone as it gets. */
	gone = !fgets(line, sizeof(line), file) || strstr(line, ") Z ") || strstr(line, ") X ");
	(void) fclose(file);
	return gone;
}

static void assert_all_gone(struct fixture *f, size_t expected)
{
	char path[128];
	FILE *file;
	int pid;
	size_t n = 0;

	(void) snprintf(path, sizeof(path), "%s/pids", f->folder);
	file = fopen(path, "re");
	assert_non_null(file);
	while (fscanf(file, "%d", &pid) == 1) {
		for (int i = 0; i < 200 && !is_gone(pid); i++)
			(void) usleep(10 * 1000);
		assert_true(is_gone(pid));
		n++;
	}
	(void) fclose(file);
	assert_int_equal(n, expected);
}

#define FAMILY                                                                                                    \
	"sleep 1000 & echo $! >> ${root}/pids; (sleep 1000 & echo $! >> ${root}/pids; wait) & echo $$ >> "        \
	"${root}/pids"

static void test_a_hanging_program_dies_with_all_it_started(void **state)
{
	struct fixture *f = *state;

	set_with(f, PROBE_BASELINE, "%s", HANGS(FAMILY "; wait", "20"));
	run_baseline(f->set);
	assert_int_equal(first(f)->state, PROBE_FAILING);
	probe_set_free(f->set);
	f->set = NULL;
	assert_all_gone(f, 3);
}

static void test_what_a_good_program_leaves_behind_dies_too(void **state)
{
	struct fixture *f = *state;

	set_with(f, PROBE_BASELINE, "%s", EXEC(FAMILY "; sleep 0.05; exit 0"));
	run_baseline(f->set);
	assert_int_equal(first(f)->state, PROBE_PASSING);
	assert_all_gone(f, 3);
}

/* Whether it was the release's fault is the caller's to say: by the reason, not by the words. */
static void test_why_a_program_was_not_started_is_kept(void **state)
{
	struct fixture *f = *state;

	set_with(f, PROBE_BASELINE, "%s",
		 "{\"name\":\"c\",\"exec\":{\"command\":[\"bin/none\"]},\"failureThreshold\":1}");
	run_baseline(f->set);
	assert_int_equal(first(f)->state, PROBE_FAILING);
	assert_int_equal(first(f)->error, -ENOENT);
	probe_set_free(f->set);
	f->set = NULL;
	release_done(&f->release);
	set_with(f, PROBE_BASELINE, "%s", EXEC("exit 3"));
	run_baseline(f->set);
	assert_int_equal(first(f)->error, 0);
}

/* What the node cannot ask before the swap says nothing of how things were: neither that they failed nor that they held. */
static void test_what_cannot_be_asked_before_the_swap_has_no_before(void **state)
{
	static const char check[] = "{\"name\":\"c\",\"exec\":{\"command\":[\"/bin/sh\",\"-c\",\"exit 0\"]},"
				    "\"periodSeconds\":1,\"failureThreshold\":1}";
	struct fixture *f = *state;
	struct rlimit all, none;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &all), 0);
	none = all;
	none.rlim_cur = 3;
	set_with(f, PROBE_BASELINE, check);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	run_baseline(f->set);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &all), 0);
	assert_int_equal(first(f)->state, PROBE_PENDING);
	assert_int_equal(first(f)->runs, 0);
	assert_int_equal(first(f)->error, -EMFILE);
	probe_set_free(f->set);
	f->set = NULL;
	release_done(&f->release);
	/* A moment later it can. */
	set_with(f, PROBE_BASELINE, check);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	probe_set_step(f->set, now_ms());
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &all), 0);
	assert_false(probe_set_done(f->set));
	run_baseline(f->set);
	assert_int_equal(first(f)->state, PROBE_PASSING);
	assert_int_equal(first(f)->error, 0);
}

static void test_freeing_a_set_ends_what_runs(void **state)
{
	struct fixture *f = *state;

	set_with(f, PROBE_PROBATION,
		 "{\"name\":\"c\",\"exec\":{\"command\":[\"sh\",\"-c\",\"" FAMILY "; wait\"]},"
		 "\"timeoutSeconds\":600}");
	for (int i = 0; i < 20; i++) {
		probe_set_step(f->set, now_ms());
		(void) usleep(10 * 1000);
	}
	assert_int_equal(first(f)->runs, 0);
	probe_set_free(f->set);
	f->set = NULL;
	assert_all_gone(f, 3);
}

static void test_of_a_huge_output_the_tail_is_kept(void **state)
{
	struct fixture *f = *state;

	set_with(f, PROBE_BASELINE,
		 "{\"name\":\"c\",\"exec\":{\"command\":[\"sh\",\"-c\",\"head -c 3000000 /dev/zero | tr "
		 "'\\\\0' x; echo; echo the-end; exit 1\"]},\"timeoutSeconds\":100}");
	run_baseline(f->set);
	assert_int_equal(first(f)->state, PROBE_FAILING);
	assert_true(strlen(first(f)->detail) <= PROBE_DETAIL_MAX);
	assert_true(strlen(first(f)->detail) > PROBE_DETAIL_MAX - 64);
	assert_contains(first(f)->detail, "exited 1");
	assert_contains(first(f)->detail, "the-end\n");
}

static void test_a_program_that_never_stops_talking_is_ended(void **state)
{
	struct fixture *f = *state;

	set_with(f, PROBE_BASELINE, "%s", HANGS("exec yes", "1"));
	run_baseline(f->set);
	assert_int_equal(first(f)->state, PROBE_FAILING);
	assert_contains(first(f)->detail, "no answer within 1 s");
}

static void test_output_is_made_clean_text(void **state)
{
	struct fixture *f = *state;

	set_with(f, PROBE_BASELINE, "%s", EXEC("printf 'a\\\\033b\\\\377c\\\\001\\\\tok\\\\n'"));
	run_baseline(f->set);
	assert_string_equal(first(f)->detail, "a?b?c?\tok\n");
}

static void test_programs_come_from_the_root_with_variables_and_environment(void **state)
{
	struct fixture *f = *state;
	const char *env[] = { "PATH=/usr/bin:/bin", "SELFRIGHT_COMPONENT=web", NULL };
	static const char script[] = "#!/bin/sh\necho \"$1|$2|$SELFRIGHT_COMPONENT|$(pwd)\"\n";
	char path[128], expected[256];
	int fd;

	(void) snprintf(path, sizeof(path), "%s/bin", f->folder);
	assert_int_equal(mkdir(path, 0700), 0);
	(void) snprintf(path, sizeof(path), "%s/bin/check", f->folder);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, script, strlen(script)), strlen(script));
	assert_int_equal(close(fd), 0);
	f->context.env = env;
	set_with(f, PROBE_BASELINE,
		 "{\"name\":\"c\",\"exec\":{\"command\":[\"bin/check\",\"${vars.word}\",\"${node.id}; exit 1\"]},"
		 "\"timeoutSeconds\":100}");
	run_baseline(f->set);
	(void) snprintf(expected, sizeof(expected), "from vars|n1; exit 1|web|%s\n", f->folder);
	assert_string_equal(first(f)->detail, expected);
}

static void test_units(void **state)
{
	struct fixture *f = *state;
	static const struct {
		const char *systemctl, *detail;
		enum probe_state state;
	} cases[] = {
		{ "/bin/true", "exited 0", PROBE_PASSING },
		{ "/bin/false", "exited 1", PROBE_FAILING },
		{ "/bin/echo", "is-active nginx.service", PROBE_PASSING },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		f->context.systemctl = cases[i].systemctl;
		set_with(f, PROBE_BASELINE, "{\"name\":\"c\",\"unit\":\"nginx.service\",\"timeoutSeconds\":100}");
		run_baseline(f->set);
		assert_int_equal(first(f)->state, cases[i].state);
		assert_contains(first(f)->detail, cases[i].detail);
		probe_set_free(f->set);
		f->set = NULL;
		release_done(&f->release);
	}
	if (access("/run/systemd/system", F_OK) == 0)
		return; /* a real systemd answers for itself */
	f->context.systemctl = NULL;
	set_with(f, PROBE_BASELINE, "{\"name\":\"c\",\"unit\":\"nginx.service\"}");
	run_baseline(f->set);
	assert_int_equal(first(f)->state, PROBE_FAILING);
	assert_string_equal(first(f)->detail, "systemd does not run here");
}

/* --- thresholds and time: exact, on a clock of the test's own --- */

/* Let the run that is due happen at `at`, on a check that answers at once. */
static void step_at(struct probe_set *set, uint64_t at)
{
	uint64_t runs = probe_set_at(set, 0)->runs;

	for (int i = 0; i < 15000 && probe_set_at(set, 0)->runs == runs; i++) {
		probe_set_step(set, at);
		(void) usleep(2000);
	}
}

static void touch(struct fixture *f, bool good)
{
	char path[128];
	int fd;

	(void) snprintf(path, sizeof(path), "%s/pids", f->folder);
	(void) unlink(path);
	if (!good)
		return;
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	(void) close(fd);
}

#define FILE_CHECK(more) "{\"name\":\"c\",\"exec\":{\"command\":[\"test\",\"-e\",\"${root}/pids\"]}" more "}"

static void at_zero(struct fixture *f, const char *check)
{
	release_with(f, check);
	assert_int_equal(probe_set_new(&f->release, &f->context, PROBE_PROBATION, 0, &f->set), 0);
}

static void test_delay_and_period(void **state)
{
	struct fixture *f = *state;
	struct pollfd fds[4];
	int timeout_ms = -1;

	at_zero(f, FILE_CHECK(",\"initialDelaySeconds\":5,\"periodSeconds\":7"));
	probe_set_step(f->set, 4999);
	assert_int_equal(probe_set_prepare(f->set, fds, 4, 4999, &timeout_ms), 0);
	assert_int_equal(timeout_ms, 1);
	step_at(f->set, 5000);
	assert_int_equal(first(f)->runs, 1);
	timeout_ms = -1;
	assert_int_equal(probe_set_prepare(f->set, fds, 4, 5000, &timeout_ms), 0);
	assert_int_equal(timeout_ms, 7000);
	timeout_ms = 100;
	(void) probe_set_prepare(f->set, fds, 4, 5000, &timeout_ms);
	assert_int_equal(timeout_ms, 100); /* lowered only */
	step_at(f->set, 12000);
	assert_int_equal(first(f)->runs, 2);
}

static void test_thresholds(void **state)
{
	struct fixture *f = *state;
	const struct probe_status *why;

	at_zero(f, FILE_CHECK(",\"periodSeconds\":1,\"successThreshold\":2,\"failureThreshold\":3"));
	touch(f, true);
	step_at(f->set, 0);
	assert_int_equal(first(f)->state, PROBE_PENDING);
	step_at(f->set, 1000);
	assert_int_equal(first(f)->state, PROBE_PASSING);
	assert_int_equal(first(f)->changed_ms, 1000);
	touch(f, false);
	step_at(f->set, 2000);
	step_at(f->set, 3000);
	assert_int_equal(first(f)->state, PROBE_PASSING); /* two of three */
	assert_int_equal(probe_set_verdict(f->set, 3000, 1000, &why), PROBE_IN_PROGRESS);
	assert_ptr_equal(why, first(f));
	touch(f, true);
	step_at(f->set, 4000); /* one success begins the count anew */
	touch(f, false);
	step_at(f->set, 5000);
	step_at(f->set, 6000);
	assert_int_equal(first(f)->state, PROBE_PASSING);
	step_at(f->set, 7000);
	assert_int_equal(first(f)->state, PROBE_FAILING);
	assert_int_equal(probe_set_verdict(f->set, 7000, 100000, &why), PROBE_FAILED);
	assert_ptr_equal(why, first(f));
	assert_int_equal(first(f)->failures, 5);
}

static void test_good_only_after_the_whole_probation(void **state)
{
	struct fixture *f = *state;
	const struct probe_status *why;

	at_zero(f, FILE_CHECK(",\"periodSeconds\":10"));
	touch(f, true);
	step_at(f->set, 0);
	assert_int_equal(probe_set_verdict(f->set, 59999, 60000, &why), PROBE_IN_PROGRESS);
	assert_null(why);
	assert_int_equal(probe_set_verdict(f->set, 60000, 60000, &why), PROBE_PASSED);
}

static void test_a_check_that_has_no_answer_yet_is_waited_for(void **state)
{
	struct fixture *f = *state;
	const struct probe_status *why;

	at_zero(f, FILE_CHECK(",\"initialDelaySeconds\":90"));
	probe_set_step(f->set, 60000);
	assert_int_equal(probe_set_verdict(f->set, 60000, 60000, &why), PROBE_IN_PROGRESS);
	assert_ptr_equal(why, first(f));
	touch(f, true);
	step_at(f->set, 90000);
	assert_int_equal(probe_set_verdict(f->set, 90000, 60000, &why), PROBE_PASSED);
}

static void test_what_failed_before_the_swap_is_not_blamed(void **state)
{
	struct fixture *f = *state;
	const struct probe_status *why;

	at_zero(f, FILE_CHECK(",\"failureThreshold\":1,\"periodSeconds\":1"));
	probe_set_was_failing(f->set, "c");
	probe_set_was_failing(f->set, "of-another-release");
	step_at(f->set, 0);
	assert_int_equal(first(f)->state, PROBE_NOT_BLAMED);
	assert_int_equal(probe_set_verdict(f->set, 9000, 10000, &why), PROBE_IN_PROGRESS);
	assert_int_equal(probe_set_verdict(f->set, 10000, 10000, &why), PROBE_UNPROVEN);
	touch(f, true); /* should it hold now, it proves something after all */
	step_at(f->set, 10000);
	assert_int_equal(probe_set_verdict(f->set, 10000, 10000, &why), PROBE_PASSED);
}

/* A busy moment before the swap must not excuse a release: only what keeps failing counts as failing before. */
static void test_one_failure_before_the_swap_excuses_nothing(void **state)
{
	struct fixture *f = *state;

	release_with(f, FILE_CHECK(",\"failureThreshold\":3,\"periodSeconds\":10"));
	assert_int_equal(probe_set_new(&f->release, &f->context, PROBE_BASELINE, 0, &f->set), 0);
	touch(f, false);
	step_at(f->set, 0);
	assert_int_equal(first(f)->failures, 1);
	assert_false(probe_set_done(f->set));
	touch(f, true);
	step_at(f->set, 2000);
	assert_true(probe_set_done(f->set));
	assert_int_equal(first(f)->state, PROBE_PASSING);
	probe_set_free(f->set);
	f->set = NULL;

	assert_int_equal(probe_set_new(&f->release, &f->context, PROBE_BASELINE, 0, &f->set), 0);
	touch(f, false);
	for (uint64_t at = 0; at <= 4000; at += 2000) {
		assert_false(probe_set_done(f->set));
		step_at(f->set, at);
	}
	assert_true(probe_set_done(f->set));
	assert_int_equal(first(f)->state, PROBE_FAILING);
	assert_true(probe_set_baseline_ms(f->set) >= 4000);
}

static void test_must_fix_is_blamed_all_the_same(void **state)
{
	struct fixture *f = *state;
	const struct probe_status *why;

	at_zero(f, FILE_CHECK(",\"failureThreshold\":1,\"must_fix\":true"));
	probe_set_was_failing(f->set, "c");
	step_at(f->set, 0);
	assert_int_equal(probe_set_verdict(f->set, 0, 10000, &why), PROBE_FAILED);
}

static void test_what_is_not_required_only_tells(void **state)
{
	struct fixture *f = *state;
	const struct probe_status *why;

	at_zero(f, FILE_CHECK(",\"failureThreshold\":1,\"required\":false"));
	step_at(f->set, 0);
	assert_int_equal(first(f)->state, PROBE_FAILING);
	assert_int_equal(probe_set_verdict(f->set, 1000, 1000, &why), PROBE_UNPROVEN);
}

static void test_no_checks_prove_nothing(void **state)
{
	struct fixture *f = *state;
	const struct probe_status *why;
	struct pollfd fds[1];
	int timeout_ms = -1;

	at_zero(f, "");
	probe_set_step(f->set, 0);
	assert_int_equal(probe_set_count(f->set), 0);
	assert_null(probe_set_at(f->set, 0));
	assert_true(probe_set_done(f->set));
	assert_int_equal(probe_set_prepare(f->set, fds, 1, 0, &timeout_ms), 0);
	assert_int_equal(timeout_ms, -1);
	assert_int_equal(probe_set_verdict(f->set, 999, 1000, &why), PROBE_IN_PROGRESS);
	assert_int_equal(probe_set_verdict(f->set, 1000, 1000, &why), PROBE_UNPROVEN);
}

static void test_a_flapping_service_below_its_threshold_may_pass(void **state)
{
	struct fixture *f = *state;
	struct server s = serve(ANSWER_FLAPPING);
	const struct probe_status *why;

	set_with(f, PROBE_PROBATION,
		 "{\"name\":\"c\",\"httpGet\":{\"port\":%d},\"periodSeconds\":1,"
		 "\"failureThreshold\":2,\"timeoutSeconds\":100}",
		 s.port);
	assert_int_equal(run_probation(f->set, 4500, &why), PROBE_PASSED);
	assert_true(first(f)->failures >= 1);
	assert_int_equal(first(f)->failed_in_a_row, 0); /* it did not end on a failure */
	server_end(&s);
}

static void test_one_hanging_check_does_not_hold_up_the_others(void **state)
{
	struct fixture *f = *state;
	struct server hangs = serve(ANSWER_NOTHING), fine = serve(ANSWER_200);

	set_with(f, PROBE_BASELINE,
		 "{\"name\":\"hangs\",\"httpGet\":{\"port\":%d},\"timeoutSeconds\":10,\"failureThreshold\":1},"
		 "{\"name\":\"sleeps\",\"exec\":{\"command\":[\"sleep\",\"1000\"]},\"timeoutSeconds\":10,"
		 "\"failureThreshold\":1},"
		 "{\"name\":\"fine\",\"httpGet\":{\"port\":%d},\"timeoutSeconds\":100}",
		 hangs.port, fine.port);
	while (probe_set_at(f->set, 2)->state != PROBE_PASSING)
		wait_and_step(f->set);
	/* It had not to wait for either of them. */
	assert_int_equal(probe_set_at(f->set, 0)->runs + probe_set_at(f->set, 1)->runs, 0);
	run_baseline(f->set);
	assert_int_equal(probe_set_at(f->set, 0)->state, PROBE_FAILING);
	assert_int_equal(probe_set_at(f->set, 1)->state, PROBE_FAILING);
	server_end(&hangs);
	server_end(&fine);
}

/* --- the link --- */

#define LINK "{\"name\":\"link\",\"link\":{}}"

static void test_the_link_is_what_the_caller_says(void **state)
{
	struct fixture *f = *state;
	const struct probe_status *why;

	at_zero(f, FILE_CHECK("") "," LINK);
	touch(f, true);
	step_at(f->set, 0);
	assert_true(probe_set_wants_link(f->set));
	assert_int_equal(probe_set_verdict(f->set, 1000, 1000, &why), PROBE_ONLY_LINK);
	assert_string_equal(why->check->name, "link");
	probe_set_link_result(f->set, false, "no route");
	assert_string_equal(probe_set_at(f->set, 1)->detail, "no route");
	assert_int_equal(probe_set_verdict(f->set, 2000, 1000, &why), PROBE_ONLY_LINK);
	probe_set_link_result(f->set, true, NULL);
	assert_false(probe_set_wants_link(f->set));
	assert_int_equal(probe_set_verdict(f->set, 2000, 1000, &why), PROBE_PASSED);
}

static void test_the_link_alone_proves_nothing(void **state)
{
	struct fixture *f = *state;
	const struct probe_status *why;

	at_zero(f, LINK);
	probe_set_link_result(f->set, true, "answered");
	assert_int_equal(probe_set_verdict(f->set, 1000, 1000, &why), PROBE_UNPROVEN);
}

static void test_a_link_that_was_down_before_is_skipped(void **state)
{
	struct fixture *f = *state;
	const struct probe_status *why;

	at_zero(f, FILE_CHECK("") "," LINK);
	touch(f, true);
	probe_set_was_failing(f->set, "link");
	step_at(f->set, 0);
	assert_false(probe_set_wants_link(f->set));
	probe_set_link_result(f->set, false, NULL);
	assert_int_equal(probe_set_at(f->set, 1)->state, PROBE_NOT_BLAMED);
	assert_int_equal(probe_set_verdict(f->set, 1000, 1000, &why), PROBE_PASSED);
}

static void test_in_a_baseline_a_silent_link_does_not_hold(void **state)
{
	struct fixture *f = *state;
	struct pollfd fds[1];
	int timeout_ms = -1;

	release_with(f, LINK);
	assert_int_equal(probe_set_new(&f->release, &f->context, PROBE_BASELINE, 0, &f->set), 0);
	probe_set_step(f->set, 999);
	assert_false(probe_set_done(f->set));
	(void) probe_set_prepare(f->set, fds, 1, 999, &timeout_ms);
	assert_int_equal(timeout_ms, 1);
	probe_set_step(f->set, 1000);
	assert_true(probe_set_done(f->set));
	assert_int_equal(first(f)->state, PROBE_FAILING);
}

/* --- what cannot be run is refused --- */

static void test_what_this_agent_cannot_do_says_so(void **state)
{
	struct fixture *f = *state;
	static const char *const checks[] = {
		"{\"name\":\"c\",\"tcpSocket\":{\"host\":\"db.local\",\"port\":80}}",
	};

	for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
		const char *why = NULL;

		release_with(f, checks[i]);
		assert_false(probe_supported(&f->release.checks[0], &why));
		assert_non_null(why);
		assert_int_equal(probe_set_new(&f->release, &f->context, PROBE_BASELINE, 0, &f->set),
				 -ERR_AGENT_TOO_OLD);
		assert_null(f->set);
		release_done(&f->release);
	}
}

static void test_variables_that_do_not_fit(void **state)
{
	struct fixture *f = *state;
	static const struct {
		const char *check;
		int error;
	} cases[] = {
		{ "{\"name\":\"c\",\"exec\":{\"command\":[\"a\",\"${vars.none}\"]}}", -ERR_FIELD_MISSING },
		{ "{\"name\":\"c\",\"httpGet\":{\"port\":\"${vars.word}\"}}", -ERR_FIELD_VALUE },
		{ "{\"name\":\"c\",\"tcpSocket\":{\"host\":\"${vars.word}\",\"port\":1}}", -ERR_FIELD_VALUE },
		{ "{\"name\":\"c\",\"httpGet\":{\"path\":\"/${vars.word}\",\"port\":1}}", -ERR_FIELD_VALUE },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		release_with(f, cases[i].check);
		assert_int_equal(probe_set_new(&f->release, &f->context, PROBE_BASELINE, 0, &f->set),
				 cases[i].error);
		release_done(&f->release);
	}
}

static void test_names(void **state)
{
	(void) state;
	assert_string_equal(probe_state_name(PROBE_PENDING), "pending");
	assert_string_equal(probe_state_name(PROBE_NOT_BLAMED), "not-blamed");
	assert_string_equal(probe_state_name(PROBE_STATE_COUNT), "unknown");
}

static void test_addresses(void **state)
{
	struct run_address a[RUN_ADDRESSES_MAX];

	(void) state;
	assert_int_equal(run_resolve("127.0.0.1", 80, a), 1);
	assert_int_equal(run_resolve("::1", 80, a), 1);
	assert_int_equal(run_resolve("[::1]", 80, a), 1);
	assert_int_equal(run_resolve("localhost", 80, a), 2);
	assert_int_equal(run_resolve("example.com", 80, a), 0);
	assert_int_equal(run_resolve("127.1", 80, a), 0);
	assert_int_equal(run_resolve("", 80, a), 0);
	assert_int_equal(run_resolve("[]", 80, a), 0);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_every_kind_and_outcome_in_both_phases),
		T(test_a_closed_port_is_refused),
		T(test_a_hanging_program_dies_with_all_it_started),
		T(test_what_a_good_program_leaves_behind_dies_too),
		T(test_why_a_program_was_not_started_is_kept),
		T(test_what_cannot_be_asked_before_the_swap_has_no_before),
		T(test_freeing_a_set_ends_what_runs),
		T(test_of_a_huge_output_the_tail_is_kept),
		T(test_a_program_that_never_stops_talking_is_ended),
		T(test_output_is_made_clean_text),
		T(test_programs_come_from_the_root_with_variables_and_environment),
		T(test_units),
		T(test_delay_and_period),
		T(test_thresholds),
		T(test_good_only_after_the_whole_probation),
		T(test_a_check_that_has_no_answer_yet_is_waited_for),
		T(test_what_failed_before_the_swap_is_not_blamed),
		T(test_one_failure_before_the_swap_excuses_nothing),
		T(test_must_fix_is_blamed_all_the_same),
		T(test_what_is_not_required_only_tells),
		T(test_no_checks_prove_nothing),
		T(test_a_flapping_service_below_its_threshold_may_pass),
		T(test_one_hanging_check_does_not_hold_up_the_others),
		T(test_the_link_is_what_the_caller_says),
		T(test_the_link_alone_proves_nothing),
		T(test_a_link_that_was_down_before_is_skipped),
		T(test_in_a_baseline_a_silent_link_does_not_hold),
		T(test_what_this_agent_cannot_do_says_so),
		T(test_variables_that_do_not_fit),
		T(test_names),
		T(test_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
