/*
 * Every kind of check, with every outcome, in every phase. Programs, servers, files and
 * the helper are real; time is the test's own and goes on only while nothing is under way,
 * so that a timeout of an hour costs nothing and a slow machine changes nothing.
 */
#include "agent/probe/probe.h"
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
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* What the application is like. Nothing: it says neither yes nor no. */
enum world { GOOD, BAD, NOTHING, HANGS, WORLDS };
static const char *const world_names[] = { "good", "bad", "says nothing", "hangs" };

struct fixture {
	char folder[64];
	struct release release;
	struct labels vars;
	struct probe_context context;
	struct probe_set *set;
	uint64_t now_ms;
	enum world world;
	pid_t servers[2];
	uint16_t port;
};

/* --- the world --- */

static void put(struct fixture *f, const char *name, const char *text, mode_t mode)
{
	char path[160], temporary[180];
	FILE *out;

	(void) snprintf(path, sizeof(path), "%s/%s", f->folder, name);
	(void) snprintf(temporary, sizeof(temporary), "%s.new", path);
	out = fopen(temporary, "we");
	assert_non_null(out);
	assert_true(fputs(text, out) >= 0);
	assert_int_equal(fclose(out), 0);
	assert_int_equal(chmod(temporary, mode), 0);
	assert_int_equal(rename(temporary, path), 0);
}

static void append(struct fixture *f, const char *name, const char *text)
{
	char path[160];
	FILE *out;

	(void) snprintf(path, sizeof(path), "%s/%s", f->folder, name);
	out = fopen(path, "ae");
	assert_non_null(out);
	assert_true(fputs(text, out) >= 0);
	assert_int_equal(fclose(out), 0);
}

static void drop(struct fixture *f, const char *name)
{
	char path[160];

	(void) snprintf(path, sizeof(path), "%s/%s", f->folder, name);
	(void) unlink(path);
}

/* The server asks this file what to be. */
static char world_now(const char *folder)
{
	char path[160], byte = 'g';
	int fd;

	(void) snprintf(path, sizeof(path), "%s/world", folder);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		(void) !read(fd, &byte, 1);
		(void) close(fd);
	}
	return byte;
}

static void answer(int client, char world)
{
	static const char good[] = "HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\nerrors 1\nqueries 10\n",
			  bad[] = "HTTP/1.1 500 No\r\n\r\nbroken inside",
			  none[] = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nunrelated 1";
	const char *text = world == 'g' ? good : world == 'b' ? bad : none;
	char byte;

	if (world == 'h') {
		while (recv(client, &byte, 1, 0) > 0) /* until nobody waits any more */
			;
		return;
	}
	(void) !send(client, text, strlen(text), MSG_NOSIGNAL);
}

static pid_t serve(int fd, const char *folder)
{
	pid_t pid;

	assert_int_equal(listen(fd, 64), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid > 0) {
		(void) close(fd);
		return pid;
	}
	(void) alarm(3600); /* should the test die before it ends us */
	for (;;) {
		char request[2048];
		int client = accept(fd, NULL, NULL);

		if (client < 0)
			_exit(1);
		if (fork() == 0) { /* one that hangs must not hold up the others */
			(void) alarm(3600);
			(void) !recv(client, request, sizeof(request), 0);
			answer(client, world_now(folder));
			_exit(0);
		}
		(void) close(client);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
}

static void begin_servers(struct fixture *f)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_un u = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *) &a, sizeof(a)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *) &a, &len), 0);
	f->port = ntohs(a.sin_port);
	f->servers[0] = serve(fd, f->folder);
	(void) snprintf(u.sun_path, sizeof(u.sun_path), "%s/sock", f->folder);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *) &u, sizeof(u)), 0);
	f->servers[1] = serve(fd, f->folder);
}

static void become(struct fixture *f, enum world world)
{
	static const char *const words[] = { "g", "b", "n", "h" },
				 *const status[] = { "ready", "failed: no licence", "starting", "" },
				 *const metrics[] = { "errors 1\n", "errors 99\n", "unrelated 1\n", "" };

	f->world = world;
	put(f, "world", words[world], 0644);
	put(f, "status", status[world], 0644);
	put(f, "metrics", metrics[world], 0644);
	if (world == BAD)
		append(f, "log", "2026-11-28 error: a thing that was never seen before\n");
	if (world == NOTHING) {
		drop(f, "log");
		drop(f, "status");
		drop(f, "metrics");
	} else if (world == GOOD) {
		append(f, "log", "2026-11-28 error 17: a thing that is always said\n");
	}
	/* What journalctl prints: times, and the same lines. */
	put(f, "journal",
	    world == BAD ? "1700000001.000001 h a[1]: error 4: old\n1700000009.000001 h a[1]: error: new\n"
			 : "1700000001.000001 h a[1]: error 4: old\n",
	    0644);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	static char helper[] = BIN_DIR "/selfright-probe", systemctl[160], journalctl[160];

	assert_non_null(f);
	(void) snprintf(f->folder, sizeof(f->folder), "/tmp/matrixXXXXXX");
	assert_non_null(mkdtemp(f->folder));
	assert_int_equal(access(helper, X_OK), 0);
	put(f, "script",
	    "#!/bin/sh\n"
	    "case $(cat \"$(dirname \"$0\")/world\") in\n"
	    "b) echo broken; exit 1;;\n"
	    "h) sleep 100000;;\n"
	    "n) echo starting;;\n"
	    "*) echo ready;;\n"
	    "esac\n",
	    0755);
	put(f, "journalctl",
	    "#!/bin/sh\n"
	    "[ \"$(cat \"$(dirname \"$0\")/world\")\" = h ] && sleep 100000\n"
	    "cat \"$(dirname \"$0\")/journal\"\n",
	    0755);
	(void) snprintf(systemctl, sizeof(systemctl), "%s/script", f->folder);
	(void) snprintf(journalctl, sizeof(journalctl), "%s/journalctl", f->folder);
	f->context = (struct probe_context){ .variables = { .vars = &f->vars, .node_id = "n1", .root = f->folder },
					     .root = f->folder,
					     .data = f->folder,
					     .helper = helper,
					     .systemctl = systemctl,
					     .journalctl = journalctl };
	f->now_ms = 1000 * 1000;
	become(f, GOOD);
	begin_servers(f);
	*state = f;
	return 0;
}

static void end_set(struct fixture *f)
{
	probe_set_free(f->set);
	f->set = NULL;
	release_done(&f->release);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	static const char *const names[] = { "world",  "status", "metrics", "log",	 "log.1",
					     "script", "sock",	 "journal", "journalctl" };

	end_set(f);
	for (size_t i = 0; i < ARRAY_LEN(f->servers); i++) {
		assert_int_equal(kill(f->servers[i], SIGKILL), 0);
		assert_int_equal(waitpid(f->servers[i], NULL, 0), f->servers[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		drop(f, names[i]);
	assert_int_equal(rmdir(f->folder), 0);
	free(f);
	return 0;
}

/* --- a set, and time --- */

static void set_with(struct fixture *f, enum probe_mode mode, const char *checks)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(64 * 1024);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	char *error = NULL;

	end_set(f);
	assert_int_equal(
		buf_addf(&text,
			 "{\"format\":1,\"component\":\"web\",\"version\":\"1.1.0\",\"artifacts\":[{\"path\":"
			 "\"web/1.1.0/web.tar.zst\",\"length\":1,\"sha256\":\"%064d\",\"media\":\"x\"}],\"tree\":{"
			 "\"digest\":\"%064d\",\"installed_size\":1,\"files\":1},\"checks\":[%s]}",
			 0, 0, checks),
		0);
	assert_int_equal(json_parse(text.data, text.len, &json_limits_default, &doc), 0);
	if (release_parse(doc, &f->release, &error) < 0)
		fail_msg("%s: %s", checks, error);
	assert_int_equal(probe_set_new(&f->release, &f->context, mode, f->now_ms, &f->set), 0);
}

/* What is under way is waited for as long as it takes; only where the world hangs does time go on beside it. */
static void turn(struct fixture *f)
{
	struct pollfd fds[64];
	int timeout_ms = 1000, ready;
	size_t n = probe_set_prepare(f->set, fds, ARRAY_LEN(fds), f->now_ms, &timeout_ms);

	ready = n > 0 ? poll(fds, (nfds_t) n, f->world == HANGS ? 15 : 60000) : 0;
	if (n > 0 && ready == 0 && f->world != HANGS)
		fail_msg("something that should answer does not");
	if (ready == 0)
		f->now_ms += (uint64_t) (timeout_ms > 0 ? timeout_ms : 1);
	probe_set_step(f->set, f->now_ms);
}

static void run_baseline(struct fixture *f)
{
	for (int i = 0; !probe_set_done(f->set); i++) {
		assert_true(i < 100000);
		turn(f);
	}
}

static enum probe_verdict run_until(struct fixture *f, uint64_t probation_ms, const struct probe_status **why)
{
	enum probe_verdict v;

	for (int i = 0; (v = probe_set_verdict(f->set, f->now_ms, probation_ms, why)) == PROBE_IN_PROGRESS; i++) {
		assert_true(i < 100000);
		turn(f);
	}
	return v;
}

/* --- the matrix --- */

struct kind {
	const char *name, *body; /* body: %d is the port */
	const char *says[WORLDS]; /* what the detail holds */
	bool silent; /* it can say neither yes nor no */
	bool no_hang; /* nothing of it can hang */
	bool fresh_only; /* what is bad already before the swap is not seen there: it is compared with itself */
};

static const struct kind kinds[] = {
	{ .name = "exec",
	  .body = "\"exec\":{\"command\":[\"%s/script\"]}",
	  .says = { "ready", "broken", "starting", "no answer within" } },
	{ .name = "httpGet",
	  .body = "\"httpGet\":{\"port\":%d,\"expectStatus\":\"200-299\"}",
	  .says = { "HTTP 200", "HTTP 500: broken", "HTTP 200", "no answer within" } },
	{ .name = "httpGet over a Unix socket",
	  .body = "\"httpGet\":{\"unixSocket\":\"sock\"}",
	  .says = { "HTTP 200", "HTTP 500: broken", "HTTP 200", "" } },
	{ .name = "httpGet of a body",
	  .body = "\"httpGet\":{\"port\":%d,\"expectBody\":\"errors\"}",
	  .says = { "expected body", "HTTP 500", "does not hold", "no answer" } },
	{ .name = "tcpSocket",
	  .body = "\"tcpSocket\":{\"port\":%d}",
	  .says = { "connected", "connected", "connected", "connected" },
	  .no_hang = true },
	{ .name = "unit",
	  .body = "\"unit\":\"a.service\"",
	  .says = { "ready", "broken", "starting", "no answer" } },
	{ .name = "metric over HTTP",
	  .body = "\"metric\":{\"port\":%d,\"select\":\"errors\",\"max\":\"5\"}",
	  .says = { "errors is 1", "HTTP 500", "no series matches", "no answer" },
	  .silent = true },
	{ .name = "metric from a file",
	  .body = "\"metric\":{\"file\":\"metrics\",\"select\":\"errors\",\"max\":\"5\"}",
	  .says = { "errors is 1", "must be at most 5", "is not there", "" },
	  .silent = true,
	  .no_hang = true },
	{ .name = "log from a file",
	  .body = "\"log\":{\"file\":\"log\"}",
	  .says = { "0 new kinds", "never seen before", "is not there", "" },
	  .silent = true,
	  .no_hang = true,
	  .fresh_only = true },
	{ .name = "log of a unit",
	  .body = "\"log\":{\"unit\":\"a.service\"}",
	  .says = { "0 new kinds", "error: new", "0 new kinds", "no answer" },
	  .fresh_only = true },
	{ .name = "status from a file",
	  .body = "\"status\":{\"file\":\"status\"}",
	  .says = { "it says ready", "no licence", "is not there", "" },
	  .silent = true,
	  .no_hang = true },
	{ .name = "status by a command",
	  .body = "\"status\":{\"command\":[\"%s/script\"]}",
	  .says = { "it says ready", "broken", "it says starting", "no answer" },
	  .silent = true },
};

static void make_check(const struct fixture *f, const struct kind *k, const char *more, char *out, size_t size)
{
	char body[256];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the table's texts take a port or a folder */
	if (strstr(k->body, "%s"))
		(void) snprintf(body, sizeof(body), k->body, f->folder);
	else
		(void) snprintf(body, sizeof(body), k->body, f->port);
#pragma GCC diagnostic pop
	(void) snprintf(out, size,
			"{\"name\":\"c\",%s,\"failureThreshold\":2,\"periodSeconds\":6,\"timeoutSeconds\":3%s}",
			body, more);
}

/* exec and the others without a third answer take "nothing" for an answer. */
static bool holds(const struct kind *k, enum world w)
{
	if (strcmp(k->name, "tcpSocket") == 0)
		return true;
	if (w == NOTHING)
		return !k->silent && strcmp(k->name, "httpGet of a body") != 0;
	return w == GOOD;
}

static bool is_silent(const struct kind *k, enum world w)
{
	return k->silent && w == NOTHING;
}

/* Learn what there is, so that a log has a "before"; its value is what the journal would keep. */
static void learn(struct fixture *f, const char *check, char value[static PROBE_VALUE_MAX])
{
	drop(f, "log");
	become(f, GOOD);
	set_with(f, PROBE_BASELINE, check);
	run_baseline(f);
	(void) snprintf(value, PROBE_VALUE_MAX, "%s", probe_set_value(f->set, 0));
}

static void expect_detail(const struct fixture *f, const struct kind *k, enum world w, const char *phase)
{
	if (!strstr(probe_set_at(f->set, 0)->detail, k->says[w]))
		fail_msg("%s, %s, %s: \"%s\" does not hold \"%s\"", k->name, world_names[w], phase,
			 probe_set_at(f->set, 0)->detail, k->says[w]);
}

static void check_baseline(struct fixture *f, const struct kind *k, enum world w)
{
	enum probe_state expected = is_silent(k, w) ? PROBE_PENDING : holds(k, w) ? PROBE_PASSING : PROBE_FAILING;
	char check[512];

	if (k->fresh_only && w == BAD)
		expected = PROBE_PASSING;
	make_check(f, k, "", check, sizeof(check));
	become(f, w);
	set_with(f, PROBE_BASELINE, check);
	run_baseline(f);
	if (probe_set_at(f->set, 0)->state != expected)
		fail_msg("%s, %s, before: %s, %s", k->name, world_names[w],
			 probe_state_name(probe_set_at(f->set, 0)->state), probe_set_at(f->set, 0)->detail);
	if (!k->fresh_only || w != BAD)
		expect_detail(f, k, w, "before");
}

static void check_after(struct fixture *f, const struct kind *k, enum world w, enum probe_mode mode,
			bool failed_before, bool must_fix)
{
	char check[512], value[PROBE_VALUE_MAX];
	const struct probe_status *why;
	enum probe_verdict v, expected = PROBE_PASSED;
	bool blamed = !failed_before || must_fix;

	make_check(f, k, must_fix ? ",\"must_fix\":true,\"deadlineSeconds\":12" : ",\"deadlineSeconds\":12", check,
		   sizeof(check));
	learn(f, check, value);
	become(f, w);
	set_with(f, mode, check);
	probe_set_before(f->set, "c", value);
	if (failed_before)
		probe_set_was_failing(f->set, "c");
	v = run_until(f, 10 * 1000, &why);
	if (is_silent(k, w))
		expected = PROBE_UNPROVEN;
	else if (!holds(k, w))
		expected = blamed ? PROBE_FAILED : PROBE_UNPROVEN;
	if (v != expected)
		fail_msg("%s, %s, %s: verdict %d instead of %d: %s", k->name, world_names[w],
			 mode == PROBE_WATCH ? "watch" : "probation", (int) v, (int) expected,
			 probe_set_at(f->set, 0)->detail);
	if (v == PROBE_FAILED)
		assert_int_equal(probe_set_at(f->set, 0)->failed_in_a_row, 2);
	expect_detail(f, k, w, mode == PROBE_WATCH ? "watch" : "probation");
}

static void test_every_kind_outcome_and_phase(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		for (enum world w = GOOD; w < WORLDS; w++) {
			if (w == HANGS && kinds[i].no_hang)
				continue;
			check_baseline(*state, &kinds[i], w);
			check_after(*state, &kinds[i], w, PROBE_PROBATION, false, false);
			check_after(*state, &kinds[i], w, PROBE_PROBATION, true, false);
			check_after(*state, &kinds[i], w, PROBE_PROBATION, true, true);
			check_after(*state, &kinds[i], w, PROBE_WATCH, false, false);
		}
}

/* --- before and after --- */

static void test_a_metric_is_bounded_by_its_own_earlier_value(void **state)
{
	struct fixture *f = *state;
	static const char check[] =
		"{\"name\":\"c\",\"metric\":{\"file\":\"metrics\",\"select\":\"bad\",\"of\":\"all\","
		"\"maxOfBefore\":\"2\",\"minSamples\":100,\"beforeSeconds\":60},\"periodSeconds\":1,"
		"\"failureThreshold\":1,\"deadlineSeconds\":30}";
	char value[PROBE_VALUE_MAX], text[64];
	const struct probe_status *why;
	int all = 0, bad = 0;

	/* Before: five of a hundred. Each look sees 40 more. */
	put(f, "metrics", "bad 0\nall 0\n", 0644);
	set_with(f, PROBE_BASELINE, check);
	while (!probe_set_done(f->set)) {
		uint64_t runs = probe_set_at(f->set, 0)->runs;

		turn(f);
		if (probe_set_at(f->set, 0)->runs == runs)
			continue;
		(void) snprintf(text, sizeof(text), "bad %d\nall %d\n", bad += 2, all += 40);
		put(f, "metrics", text, 0644);
	}
	(void) snprintf(value, sizeof(value), "%s", probe_set_value(f->set, 0));
	assert_string_equal(value, "0.05");
	assert_int_equal(probe_set_at(f->set, 0)->runs, 4);

	/* After: twice as bad is borne, more is not; and until a hundred came nobody says anything. */
	for (int worse = 0; worse < 2; worse++) {
		all = bad = 0;
		put(f, "metrics", "bad 0\nall 0\n", 0644);
		set_with(f, PROBE_PROBATION, check);
		probe_set_before(f->set, "c", value);
		while (probe_set_at(f->set, 0)->runs < 4) {
			uint64_t runs = probe_set_at(f->set, 0)->runs;

			turn(f);
			if (probe_set_at(f->set, 0)->runs == runs)
				continue;
			if (runs < 3)
				assert_int_equal(probe_set_at(f->set, 0)->state, PROBE_PENDING);
			(void) snprintf(text, sizeof(text), "bad %d\nall %d\n", bad += worse ? 5 : 4, all += 40);
			put(f, "metrics", text, 0644);
		}
		assert_int_equal(probe_set_verdict(f->set, f->now_ms, 1000, &why),
				 worse ? PROBE_FAILED : PROBE_PASSED);
		assert_non_null(strstr(probe_set_at(f->set, 0)->detail, "before the swap"));
	}

	/* Nobody comes: it waits until its deadline, and then nothing is proven. */
	put(f, "metrics", "bad 0\nall 0\n", 0644);
	set_with(f, PROBE_PROBATION, check);
	probe_set_before(f->set, "c", value);
	{
		uint64_t began = f->now_ms;

		assert_int_equal(run_until(f, 1000, &why), PROBE_UNPROVEN);
		assert_true(f->now_ms >= began + 30 * 1000);
		assert_ptr_equal(why, probe_set_at(f->set, 0));
		assert_non_null(strstr(why->detail, "100 are needed"));
	}
}

/* A counter that stands still before the swap, and a noisy log, are what they were. */
static void test_what_was_noisy_before_is_not_blamed(void **state)
{
	struct fixture *f = *state;
	static const char check[] =
		"{\"name\":\"c\",\"log\":{\"file\":\"log\",\"maxPerMinute\":3},\"periodSeconds\":1,"
		"\"failureThreshold\":1}";
	char value[PROBE_VALUE_MAX];
	const struct probe_status *why;

	set_with(f, PROBE_BASELINE, check);
	for (int i = 0; !probe_set_done(f->set); i++) {
		assert_true(i < 10000);
		turn(f);
		append(f, "log", "error: again\nerror: again\nerror: again\nerror: again\n");
	}
	(void) snprintf(value, sizeof(value), "%s", probe_set_value(f->set, 0));
	if (probe_set_at(f->set, 0)->state != PROBE_FAILING || probe_set_at(f->set, 0)->runs != 2)
		fail_msg("%llu: %s", (unsigned long long) probe_set_at(f->set, 0)->runs,
			 probe_set_at(f->set, 0)->detail);
	set_with(f, PROBE_PROBATION, check);
	probe_set_was_failing(f->set, "c");
	probe_set_before(f->set, "c", value);
	append(f, "log", "error: again\nerror: again\nerror: again\nerror: again\n");
	assert_int_equal(run_until(f, 1000, &why), PROBE_UNPROVEN);
}

/* An agent that was started again reads what came since the swap once more: for the kinds, not for the rate. */
static void test_a_restart_makes_no_minute_of_an_hour(void **state)
{
	struct fixture *f = *state;
	static const char check[] = "{\"name\":\"c\",\"log\":{\"file\":\"log\",\"maxPerMinute\":3,"
				    "\"maxNewKinds\":9},\"periodSeconds\":1}";
	char value[PROBE_VALUE_MAX];

	learn(f, check, value);
	for (int i = 0; i < 20; i++)
		append(f, "log", "error: as often as once in three minutes\n");
	f->context.late = true;
	set_with(f, PROBE_PROBATION, check);
	probe_set_before(f->set, "c", value);
	while (probe_set_at(f->set, 0)->runs < 1)
		turn(f);
	assert_int_equal(probe_set_at(f->set, 0)->state, PROBE_PASSING);
	assert_string_equal(probe_set_at(f->set, 0)->detail, "0 error lines in a minute, 1 new kind");
	f->context.late = false; /* right after the swap they count */
	set_with(f, PROBE_PROBATION, check);
	probe_set_before(f->set, "c", value);
	while (probe_set_at(f->set, 0)->runs < 1)
		turn(f);
	assert_int_equal(probe_set_at(f->set, 0)->failures, 1);
}

static void test_a_log_is_followed_over_its_rotation(void **state)
{
	struct fixture *f = *state;
	static const char check[] =
		"{\"name\":\"c\",\"log\":{\"file\":\"log\",\"maxNewKinds\":9},\"periodSeconds\":1}";
	char value[PROBE_VALUE_MAX], from[160], to[160];

	learn(f, check, value);
	append(f, "log", "error: one\nerror: tw");
	set_with(f, PROBE_PROBATION, check);
	probe_set_before(f->set, "c", value);
	while (probe_set_at(f->set, 0)->runs < 1)
		turn(f);
	assert_non_null(strstr(probe_set_at(f->set, 0)->detail, "1 new kind"));
	append(f, "log", "o\nerror: three\n"); /* the line that was half there is one line */
	(void) snprintf(from, sizeof(from), "%s/log", f->folder);
	(void) snprintf(to, sizeof(to), "%s/log.1", f->folder);
	assert_int_equal(rename(from, to), 0);
	append(f, "log", "error: four\n");
	while (probe_set_at(f->set, 0)->runs < 2)
		turn(f);
	assert_non_null(strstr(probe_set_at(f->set, 0)->detail, "4 error lines"));
	assert_non_null(strstr(probe_set_at(f->set, 0)->detail, "4 new kinds"));
	/* Emptied in place: it begins anew. */
	put(f, "log", "", 0644);
	append(f, "log", "error: five\n");
	while (probe_set_at(f->set, 0)->runs < 3)
		turn(f);
	assert_non_null(strstr(probe_set_at(f->set, 0)->detail, "5 new kinds"));
}

static void test_a_status_from_before_the_swap_says_nothing(void **state)
{
	struct fixture *f = *state;
	static const char check[] = "{\"name\":\"c\",\"status\":{\"file\":\"status\"},\"periodSeconds\":1,"
				    "\"deadlineSeconds\":5}";
	const struct probe_status *why;

	f->context.since_at = (int64_t) time(NULL) + 3600; /* the file is older than that */
	set_with(f, PROBE_BASELINE, check);
	run_baseline(f);
	assert_int_equal(probe_set_at(f->set, 0)->state, PROBE_PASSING);
	set_with(f, PROBE_PROBATION, check);
	assert_int_equal(run_until(f, 1000, &why), PROBE_UNPROVEN);
	assert_string_equal(why->detail, "the file has not been written since the swap");
	f->context.since_at = (int64_t) time(NULL) - 3600;
	set_with(f, PROBE_PROBATION, check);
	assert_int_equal(run_until(f, 1000, &why), PROBE_PASSED);
}

/* --- order --- */

#define TWO_CHECKS                                                                                                \
	"{\"name\":\"first\",\"exec\":{\"command\":[\"${root}/"                                                   \
	"script\"]},\"periodSeconds\":1,\"failureThreshold\":2},"                                                 \
	"{\"name\":\"second\",\"exec\":{\"command\":[\"true\"]},\"after\":[\"first\"],\"periodSeconds\":1,"       \
	"\"deadlineSeconds\":10}"

static void test_in_declared_order_where_they_depend(void **state)
{
	struct fixture *f = *state;
	const struct probe_status *why;

	become(f, BAD);
	set_with(f, PROBE_BASELINE, TWO_CHECKS);
	run_baseline(f);
	assert_int_equal(probe_set_at(f->set, 1)->state, PROBE_FAILING);
	assert_string_equal(probe_set_at(f->set, 1)->detail, "not run: first does not hold");

	/* Neither was good before: neither is blamed, and nothing is proven. */
	set_with(f, PROBE_PROBATION, TWO_CHECKS);
	probe_set_was_failing(f->set, "first");
	probe_set_was_failing(f->set, "second");
	assert_int_equal(run_until(f, 2000, &why), PROBE_UNPROVEN);
	assert_int_equal(probe_set_at(f->set, 1)->runs, 0);

	become(f, GOOD);
	set_with(f, PROBE_PROBATION, TWO_CHECKS);
	while (probe_set_at(f->set, 0)->runs == 0) {
		assert_int_equal(probe_set_at(f->set, 1)->runs, 0);
		turn(f);
	}
	assert_int_equal(run_until(f, 2000, &why), PROBE_PASSED);
	assert_true(probe_set_at(f->set, 1)->runs > 0);
}

static void test_what_it_comes_after_must_stand_above_it(void **state)
{
	struct fixture *f = *state;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(64 * 1024);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	char *error = NULL;

	assert_int_equal(
		buf_addf(&text,
			 "{\"format\":1,\"component\":\"web\",\"version\":\"1.1.0\",\"artifacts\":[{\"path\":"
			 "\"web/1.1.0/w\",\"length\":1,\"sha256\":\"%064d\",\"media\":\"x\"}],\"tree\":{"
			 "\"digest\":\"%064d\",\"installed_size\":1,\"files\":1},\"checks\":["
			 "{\"name\":\"a\",\"after\":[\"b\"],\"link\":{}},{\"name\":\"b\",\"link\":{}}]}",
			 0, 0),
		0);
	assert_int_equal(json_parse(text.data, text.len, &json_limits_default, &doc), 0);
	assert_int_equal(release_parse(doc, &f->release, &error), -ERR_FIELD_VALUE);
	assert_non_null(strstr(error, "checks[0].after: must name checks that stand above"));
	free(error);
}

/* --- flapping, for a long time --- */

static unsigned flap(struct fixture *f, enum probe_mode mode, unsigned runs, unsigned bad_of, unsigned out_of,
		     enum probe_verdict *ret)
{
	const struct probe_status *why;
	unsigned run = 0;

	become(f, GOOD);
	set_with(f, mode,
		 "{\"name\":\"c\",\"metric\":{\"file\":\"metrics\",\"select\":\"errors\",\"max\":\"5\"},"
		 "\"periodSeconds\":1}");
	*ret = PROBE_IN_PROGRESS;
	for (; run < runs && *ret != PROBE_FAILED; run++) {
		uint64_t before = probe_set_at(f->set, 0)->runs;

		put(f, "metrics", run % out_of < bad_of && run > 0 ? "errors 99\n" : "errors 1\n", 0644);
		while (probe_set_at(f->set, 0)->runs == before)
			turn(f);
		*ret = probe_set_verdict(f->set, f->now_ms, UINT32_MAX, &why);
	}
	return run;
}

/* A hundred runs that fail now and then are borne; those that fail half the time are not, though never three in a row. */
static void test_a_soak_with_a_flapping_check(void **state)
{
	struct fixture *f = *state;
	const char *more = getenv("SOAK_RUNS"); /* tests/nightly */
	unsigned runs = more ? (unsigned) strtoul(more, NULL, 10) : 100;
	enum probe_verdict v;

	(void) flap(f, PROBE_PROBATION, runs, 1, 4, &v);
	assert_int_equal(v, PROBE_IN_PROGRESS);
	(void) flap(f, PROBE_WATCH, runs, 1, 10, &v);
	assert_int_equal(v, PROBE_IN_PROGRESS);
	assert_true(flap(f, PROBE_PROBATION, 200, 1, 2, &v) < 40);
	assert_int_equal(v, PROBE_FAILED);
	assert_non_null(strstr(probe_set_at(f->set, 0)->detail, "it flaps: "));
	assert_true(flap(f, PROBE_WATCH, 200, 2, 4, &v) < 60);
	assert_int_equal(v, PROBE_FAILED);
}

/* --- the slower pace of a watch --- */

static void test_a_watch_is_slow_until_something_fails(void **state)
{
	struct fixture *f = *state;
	uint64_t began, runs;

	set_with(f, PROBE_WATCH,
		 "{\"name\":\"c\",\"exec\":{\"command\":[\"${root}/"
		 "script\"]},\"periodSeconds\":10,\"failureThreshold\":3}");
	while (probe_set_at(f->set, 0)->runs < 1)
		turn(f);
	began = f->now_ms;
	while (probe_set_at(f->set, 0)->runs < 11)
		turn(f);
	assert_true(f->now_ms - began >= 10 * 60 * 1000); /* six times slower than in probation */
	become(f, BAD);
	runs = probe_set_at(f->set, 0)->runs;
	while (probe_set_at(f->set, 0)->runs == runs)
		turn(f);
	began = f->now_ms;
	while (probe_set_at(f->set, 0)->state != PROBE_FAILING)
		turn(f);
	assert_true(f->now_ms - began <= 21 * 1000); /* the two further runs at the check's own pace */
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_every_kind_outcome_and_phase),	     T(test_a_metric_is_bounded_by_its_own_earlier_value),
		T(test_what_was_noisy_before_is_not_blamed), T(test_a_restart_makes_no_minute_of_an_hour),
		T(test_a_log_is_followed_over_its_rotation), T(test_a_status_from_before_the_swap_says_nothing),
		T(test_in_declared_order_where_they_depend), T(test_what_it_comes_after_must_stand_above_it),
		T(test_a_soak_with_a_flapping_check),	     T(test_a_watch_is_slow_until_something_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
