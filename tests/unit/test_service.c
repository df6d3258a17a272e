/* command.h and service.h: clean environments, deadlines, and services that are kept, known again and stopped. */
#include "agent/local/command.h"
#include "agent/local/config.h"
#include "agent/local/service.h"
#include "base/err.h"
#include "base/log.h"
#include "os/durable.h"
#include "os/process.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka wants the four above */
#include <cmocka.h>

#define BOOT_ID "11111111-2222-3333-4444-555555555555"

static char dir[64], programs[512];
static struct config config;
static struct services *services;

static uint64_t now_ms(void)
{
	return os_posix.clock_boot_ms(&os_posix);
}

static void script(const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/bin/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, 0755), 0);
}

static int setup(void **state)
{
	char path[128];

	(void) state;
	snprintf(dir, sizeof(dir), "/tmp/selfright-service-XXXXXX");
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chmod(dir, 0755), 0);
	snprintf(path, sizeof(path), "%s/bin", dir);
	assert_int_equal(mkdir(path, 0755), 0);
	config = (struct config){ .root = dir, .run = dir, .programs = programs };
	assert_true(readlink("/proc/self/exe", programs, sizeof(programs) - 16) > 0);
	strrchr(programs, '/')[0] = '\0';
	strcat(programs, "/../bin"); /* where selfright-log is built */
	snprintf(config.node, sizeof(config.node), "n1");
	config.users.component =
		strdup("root"); /* who runs tests as root may; an ordinary user's agent changes nobody */
	assert_int_equal(labels_set(&config.vars, "port", "80 80"), 0);
	assert_int_equal(services_open(&os_posix, dir, BOOT_ID, &services), 0);
	return 0;
}

static void step_until(int wanted, const char *component)
{
	for (int i = 0; i < 12000; i++) {
		(void) services_step(services, now_ms());
		if (services_settled(services, component, NULL) == wanted)
			return;
		usleep(10000);
	}
	fail_msg("it never came to %d: %d", wanted, services_settled(services, component, NULL));
}

static int teardown(void **state)
{
	(void) state;
	services_stop(services, "web", false);
	for (int i = 0; i < 12000 && services_count(services) > 0; i++) {
		(void) services_step(services, now_ms());
		usleep(10000);
	}
	services_close(services);
	labels_done(&config.vars);
	free(config.users.component);
	assert_int_equal(tree_remove(&os_posix, AT_FDCWD, dir), 0);
	return 0;
}

static struct command_context context(const char *version)
{
	return (struct command_context){ .config = &config, .component = "web", .version = version, .root = dir };
}

static void argv_of(struct release_command *c, const char *first, const char *second)
{
	assert_int_equal(string_list_add(&c->argv, first), 0);
	if (second)
		assert_int_equal(string_list_add(&c->argv, second), 0);
}

static int run(const char *first, const char *second, uint64_t timeout_s, struct command *c)
{
	struct release_command command = { .user = NULL };
	struct command_context k = context("1.0.0");
	struct command_line line = { 0 };
	int r;

	argv_of(&command, first, second);
	r = command_expand(&k, &command, &line);
	if (r == 0)
		r = command_start(&line, timeout_s, now_ms(), c);
	string_list_done(&command.argv);
	command_line_done(&line);
	while (r == 0) {
		r = command_step(c, now_ms());
		usleep(5000);
	}
	return r;
}

static void test_command_environment(void **state)
{
	struct command c = COMMAND_INIT;

	(void) state;
	script("show", "#!/bin/sh\nexport -p; pwd; echo \"arg=$1\"\n");
	setenv("SECRET", "leaks", 1);
	assert_int_equal(run("bin/show", "a ${vars.port} ${node.id};$(id)", 10, &c), 1);
	assert_non_null(strstr(buf_str(&c.output), "SELFRIGHT_COMPONENT='web'"));
	assert_non_null(strstr(buf_str(&c.output), "SELFRIGHT_VERSION='1.0.0'"));
	assert_non_null(strstr(buf_str(&c.output), "SELFRIGHT_NODE='n1'"));
	assert_non_null(strstr(buf_str(&c.output), "/data/web'"));
	assert_non_null(
		strstr(buf_str(&c.output), "arg=a 80 80 n1;$(id)\n")); /* one argument, and no shell saw it */
	assert_non_null(strstr(buf_str(&c.output), dir)); /* the working folder */
	assert_null(strstr(buf_str(&c.output), "SECRET"));
	command_done(&c);
	command_done(&c); /* twice is fine */
}

static void test_command_ends(void **state)
{
	struct command c = COMMAND_INIT;
	char text[64];

	(void) state;
	script("fail", "#!/bin/sh\necho why >&2; exit 3\n");
	assert_int_equal(run("bin/fail", NULL, 10, &c), -ERR_CHILD);
	assert_string_equal(buf_str(&c.output), "why\n");
	assert_string_equal(process_status_text(c.status, text, sizeof(text)), "exited 3");
	command_done(&c);
	script("hang", "#!/bin/sh\nsleep 100 & wait\n");
	assert_int_equal(run("bin/hang", NULL, 1, &c), -ERR_DEADLINE);
	command_done(&c);
	script("talk", "#!/bin/sh\ni=0; while [ $i -lt 3000 ]; do echo \"line $i\"; i=$((i+1)); done\n");
	assert_int_equal(run("bin/talk", NULL, 10, &c), 1);
	assert_true(c.output.len <= COMMAND_TAIL_MAX);
	assert_non_null(strstr(buf_str(&c.output), "line 2999\n")); /* the newest bytes are kept */
	command_done(&c);
	assert_true(run("bin/nothing-here", NULL, 1, &c) < 0);
}

static void test_command_refusals(void **state)
{
	struct release_command command = { .user = NULL };
	struct command_context k = context("1.0.0");
	struct command_line line = { 0 };

	(void) state;
	assert_int_equal(command_expand(&k, &command, &line), -ERR_FIELD_MISSING);
	argv_of(&command, "bin/x", "${vars.nowhere}");
	assert_int_equal(command_expand(&k, &command, &line), -ERR_FIELD_MISSING);
	command.user = strdup("somebody-else");
	assert_int_equal(command_expand(&k, &command, &line), -ERR_REFUSED);
	free(command.user);
	string_list_done(&command.argv);
}

static void tail_of(const char *text, const char *expected)
{
	struct buf b = BUF_INIT(8);

	assert_int_equal(buf_add_str(&b, "1234567"), 0);
	tail_add(&b, text, strlen(text));
	assert_string_equal(buf_str(&b), expected);
	buf_done(&b);
}

static void test_tail(void **state)
{
	(void) state;
	tail_of("8", "12345678");
	tail_of("89", "23456789");
	tail_of("abcdefghij", "cdefghij");
	tail_of("", "1234567");
}

/* --- services --- */

static struct release_service *declare(struct release *r, const char *program)
{
	r->services = calloc(1, sizeof(*r->services));
	assert_non_null(r->services);
	r->service_count = 1;
	r->services[0].name = strdup("app");
	r->services[0].stop_signal = strdup("SIGTERM");
	r->services[0].stop_timeout_s = 1;
	argv_of(&r->services[0].start, program, NULL);
	return &r->services[0];
}

static int apply(const char *version, struct release *r)
{
	struct command_context k = context(version);

	return services_apply(services, &k, r);
}

static struct service_status status(void)
{
	struct service_status s = { .name = NULL };

	assert_true(services_at(services, 0, &s));
	return s;
}

/* Whoever adopted it may take its time to reap it. */
static bool is_gone(int pid)
{
	char path[64], text[256] = "";
	const char *state_letter;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	if (!f)
		return true;
	(void) !fgets(text, sizeof(text), f);
	fclose(f);
	state_letter = strrchr(text, ')');
	return state_letter && state_letter[1] == ' ' && state_letter[2] == 'Z';
}

static void test_service_life(void **state)
{
	struct release r = { .version = NULL };
	int first, second;

	(void) state;
	script("run", "#!/bin/sh\nexec sleep 1000\n");
	declare(&r, "bin/run");
	assert_int_equal(apply("1.0.0", &r), 0);
	step_until(1, "web");
	assert_string_equal(status().state, "running");
	first = status().pid;
	/* what runs under this version already is not touched */
	assert_int_equal(apply("1.0.0", &r), 0);
	step_until(1, "web");
	assert_int_equal(status().pid, first);
	/* another version is another process */
	assert_int_equal(apply("1.1.0", &r), 0);
	assert_int_equal(services_settled(services, "web", NULL), 0);
	step_until(1, "web");
	second = status().pid;
	assert_int_not_equal(second, first);
	assert_true(is_gone(first));
	/* it is known again by a later run of the agent, and by its start time */
	services_close(services);
	assert_int_equal(services_open(&os_posix, dir, BOOT_ID, &services), 0);
	assert_int_equal(services_count(services), 1);
	assert_int_equal(apply("1.1.0", &r), 0);
	step_until(1, "web");
	assert_int_equal(status().pid, second);
	/* and of an older boot it is not */
	services_stop(services, "web", false);
	step_until(1, "web");
	assert_int_equal(services_count(services), 0);
	assert_true(is_gone(second));
	release_done(&r);
}

static void test_service_record_of_another_boot(void **state)
{
	struct release r = { .version = NULL };
	int pid;

	(void) state;
	script("run", "#!/bin/sh\nexec sleep 1000\n");
	declare(&r, "bin/run");
	assert_int_equal(apply("1.0.0", &r), 0);
	step_until(1, "web");
	pid = status().pid;
	services_close(services);
	assert_int_equal(services_open(&os_posix, dir, "other-boot", &services), 0);
	assert_int_equal(services_count(services), 0); /* whatever has that number now is not ours */
	assert_int_equal(kill(pid, 0), 0);
	services_close(services);
	assert_int_equal(services_open(&os_posix, dir, BOOT_ID, &services), 0);
	assert_int_equal(services_count(services), 1);
	release_done(&r);
}

static void test_service_that_does_not_start(void **state)
{
	CLEANUP(buf_done)
	struct buf tail = BUF_INIT(4096);
	struct release r = { .version = NULL };
	const char *name = "";

	(void) state;
	script("run", "#!/bin/sh\necho unknown directive >&2\nexit 1\n");
	declare(&r, "bin/run");
	assert_int_equal(apply("1.0.0", &r), 0);
	step_until(-ERR_CHILD, "web");
	assert_int_equal(services_settled(services, "web", &name), -ERR_CHILD);
	assert_string_equal(name, "app");
	assert_string_equal(status().state, "failing");
	services_log_tail(services, "web", &tail);
	assert_non_null(strstr(buf_str(&tail), "unknown directive"));
	assert_int_equal(services_settled(services, "other", NULL), 1); /* nobody else's matter */
	/* another version gets a chance of its own */
	script("run", "#!/bin/sh\nexec sleep 1000\n");
	assert_int_equal(apply("1.0.1", &r), 0);
	step_until(1, "web");
	release_done(&r);
}

static void test_service_that_does_not_stop(void **state)
{
	struct release r = { .version = NULL };
	const char *name = "";
	int pid;

	(void) state;
	script("run", "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 0.05; done\n");
	declare(&r, "bin/run");
	assert_int_equal(apply("1.0.0", &r), 0);
	step_until(1, "web");
	pid = status().pid;
	assert_false(services_are_leaving(services, "web", NULL));
	services_stop(services, "web", false);
	(void) services_step(services, now_ms());
	/* Until it is gone nobody else can be blamed for what waits. */
	assert_true(services_are_leaving(services, "web", &name));
	assert_string_equal(name, "app");
	assert_false(services_are_leaving(services, "other", NULL));
	step_until(1, "web"); /* killed after its second */
	assert_false(services_are_leaving(services, "web", NULL));
	assert_int_equal(services_count(services), 0);
	assert_true(is_gone(pid));
	release_done(&r);
}

static void test_service_reload(void **state)
{
	struct release r = { .version = NULL };
	int pid;

	(void) state;
	script("run", "#!/bin/sh\nexec sleep 1000\n");
	script("reload", "#!/bin/sh\nexit 0\n");
	argv_of(&declare(&r, "bin/run")->reload, "bin/reload", NULL);
	assert_int_equal(apply("1.0.0", &r), 0);
	step_until(1, "web");
	pid = status().pid;
	assert_int_equal(apply("1.1.0", &r), 0);
	step_until(1, "web");
	assert_int_equal(status().pid, pid);
	script("reload", "#!/bin/sh\nexit 1\n");
	assert_int_equal(apply("1.2.0", &r), 0);
	step_until(-ERR_CHILD, "web");
	release_done(&r);
}

static void test_service_stop_before_swap(void **state)
{
	struct release r = { .version = NULL };

	(void) state;
	script("run", "#!/bin/sh\nexec sleep 1000\n");
	declare(&r, "bin/run");
	assert_int_equal(apply("1.0.0", &r), 0);
	step_until(1, "web");
	services_stop(services, "web", true); /* it did not ask for it */
	step_until(1, "web");
	assert_int_equal(services_count(services), 1);
	r.services[0].stop_before_swap = true;
	assert_int_equal(apply("1.0.0", &r), 0);
	services_stop(services, "web", true);
	step_until(1, "web");
	assert_int_equal(services_count(services), 0);
	release_done(&r);
}

static void test_service_refusals(void **state)
{
	struct release r = { .version = NULL };

	(void) state;
	declare(&r, "${vars.nowhere}");
	assert_int_equal(apply("1.0.0", &r), -ERR_FIELD_MISSING);
	assert_int_equal(services_count(services), 0); /* before anything is done */
	r.services[0].unit = strdup("ssh.service");
	assert_int_equal(apply("1.0.0", &r), -ERR_REFUSED);
	assert_int_equal(services_count(services), 0);
	release_done(&r);
}

/* A unit may be a link into the current tree: its file is read again before it is started by it, once a version. */
static void test_the_files_of_units_are_read_again(void **state)
{
	struct release r = { .version = NULL };
	char path[512], before[400], log[128], text[256] = "";
	FILE *f;

	(void) state;
	snprintf(log, sizeof(log), "%s/calls", dir);
	snprintf(path, sizeof(path), "#!/bin/sh\necho \"$*\" >>%s\n", log);
	script("systemctl", path);
	snprintf(before, sizeof(before), "%s", getenv("PATH"));
	snprintf(path, sizeof(path), "%s/bin:%s", dir, before);
	assert_int_equal(setenv("PATH", path, 1), 0);
	assert_int_equal(string_list_add(&config.otherwise.units, "app.service"), 0);
	declare(&r, "/bin/true");
	string_list_done(&r.services[0].start.argv);
	r.services[0].unit = strdup("app.service");
	assert_int_equal(apply("1.0.0", &r), 0);
	step_until(1, "web");
	assert_int_equal(apply("1.1.0", &r), 0);
	step_until(1, "web");
	services_stop(services, "web", false);
	for (int i = 0; i < 12000 && services_count(services) > 0; i++) {
		(void) services_step(services, now_ms());
		usleep(10000);
	}
	f = fopen(log, "r");
	assert_non_null(f);
	assert_true(fread(text, 1, sizeof(text) - 1, f) > 0);
	assert_int_equal(fclose(f), 0);
	assert_string_equal(
		text, "daemon-reload\nstart app.service\ndaemon-reload\nrestart app.service\nstop app.service\n");
	assert_int_equal(setenv("PATH", before, 1), 0);
	string_list_done(&config.otherwise.units);
	release_done(&r);
}

/* --- order --- */

/* "+a" when a is started, "-a" when it is gone. */
static char events[512];

static void note(void *user, enum log_level level, const char *event, const char *text)
{
	const char *name = strstr(text, "service=");
	size_t len = strlen(events);
	bool up = strcmp(event, "service-started") == 0;

	(void) user, (void) level;
	if (name && (up || strcmp(event, "service-stopped") == 0))
		(void) snprintf(events + len, sizeof(events) - len, "%c%.*s ", up ? '+' : '-',
				(int) strcspn(name + 8, " "), name + 8);
}

static int setup_noting(void **state)
{
	events[0] = '\0';
	log_set(note, NULL, LOG_LEVEL_INFO);
	return setup(state);
}

static int teardown_noting(void **state)
{
	int r = teardown(state);

	log_set(NULL, NULL, LOG_LEVEL_INFO);
	return r;
}

static void noting(const char *name)
{
	script(name, "#!/bin/sh\nexec sleep 1000\n");
}

static struct release_service *declare_more(struct release *r, const char *name)
{
	struct release_service *v;
	char program[32];

	if (!r->services)
		r->services = calloc(4, sizeof(*r->services));
	assert_non_null(r->services);
	v = &r->services[r->service_count++];
	v->name = strdup(name);
	v->stop_signal = strdup("SIGTERM");
	v->stop_timeout_s = 10;
	snprintf(program, sizeof(program), "bin/%s", name);
	argv_of(&v->start, program, NULL);
	return v;
}

static void expect_events(const char *expected)
{
	assert_string_equal(events, expected);
	events[0] = '\0';
}

static void test_services_start_in_order_and_stop_in_the_other(void **state)
{
	struct release r = { .version = NULL };

	(void) state;
	noting("a");
	noting("b");
	noting("c");
	(void) declare_more(&r, "c");
	(void) declare_more(&r, "a");
	(void) declare_more(&r, "b");
	assert_int_equal(apply("1.0.0", &r), 0);
	step_until(1, "web");
	expect_events("+c +a +b ");
	services_stop(services, "web", false);
	step_until(1, "web");
	expect_events("-b -a -c ");
	assert_int_equal(services_count(services), 0);
	release_done(&r);
}

static void test_all_stop_before_the_first_starts_anew(void **state)
{
	struct release r = { .version = NULL };

	(void) state;
	noting("a");
	noting("b");
	(void) declare_more(&r, "a");
	(void) declare_more(&r, "b");
	assert_int_equal(apply("1.0.0", &r), 0);
	step_until(1, "web");
	expect_events("+a +b ");
	assert_int_equal(apply("1.1.0", &r), 0);
	step_until(1, "web");
	expect_events("-b -a +a +b ");
	services_stop(services, "web", false);
	step_until(1, "web");
	release_done(&r);
}

static void test_what_does_not_start_holds_up_nobody_for_ever(void **state)
{
	struct release r = { .version = NULL };
	struct service_status s;

	(void) state;
	script("a", "#!/bin/sh\nexit 1\n");
	noting("b");
	(void) declare_more(&r, "a");
	(void) declare_more(&r, "b");
	assert_int_equal(apply("1.0.0", &r), 0);
	step_until(-ERR_CHILD, "web");
	assert_non_null(strstr(events, "+a "));
	for (int i = 0; i < 12000 && !strstr(events, "+b "); i++) {
		(void) services_step(services, now_ms());
		usleep(10000);
	}
	assert_true(services_at(services, 1, &s));
	assert_string_equal(s.state, "running");
	release_done(&r);
}

static void test_a_service_that_is_the_same_is_kept(void **state)
{
	struct release r = { .version = NULL };
	struct service_status before, after;

	(void) state;
	noting("a");
	noting("b");
	(void) declare_more(&r, "a");
	(void) declare_more(&r, "b");
	r.services[0].stop_before_swap = r.services[1].stop_before_swap = true;
	services_keep(services, "web", "a", "1.1.0"); /* nothing runs: nothing to keep */
	assert_int_equal(apply("1.0.0", &r), 0);
	step_until(1, "web");
	expect_events("+a +b ");
	assert_true(services_at(services, 0, &before));
	services_keep(services, "web", "a", "1.1.0");
	services_stop(services, "web", true);
	step_until(1, "web");
	expect_events("-b ");
	assert_int_equal(apply("1.1.0", &r), 0);
	step_until(1, "web");
	expect_events("+b ");
	assert_true(services_at(services, 0, &after));
	assert_int_equal(before.pid, after.pid);
	/* A later run of the agent knows it by the new version. */
	services_close(services);
	assert_int_equal(services_open(&os_posix, dir, BOOT_ID, &services), 0);
	assert_int_equal(apply("1.1.0", &r), 0);
	step_until(1, "web");
	assert_true(services_at(services, 0, &after));
	assert_int_equal(before.pid, after.pid);
	release_done(&r);
}

/* --- what they print --- */

static off_t log_size(void)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s/services/web.app.log", dir);
	return stat(path, &st) == 0 ? st.st_size : -1;
}

static bool tail_has(const char *text)
{
	CLEANUP(buf_done)
	struct buf tail = BUF_INIT(4096);

	services_log_tail(services, "web", &tail);
	return strstr(buf_str(&tail), text) != NULL;
}

static void until_tail_has(const char *text)
{
	for (int i = 0; i < 6000; i++) {
		(void) services_step(services, now_ms());
		if (tail_has(text))
			return;
		usleep(10000);
	}
	fail_msg("it never printed %s", text);
}

/* No descriptor is left for a moment: nothing is concluded, and it starts once there is one. */
static void test_a_shortage_is_no_word_against_the_version(void **state)
{
	struct release r = { .version = NULL };
	struct rlimit before, none;

	(void) state;
	script("run", "#!/bin/sh\nexec sleep 1000\n");
	declare(&r, "bin/run");
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = (struct rlimit){ .rlim_cur = 3, .rlim_max = before.rlim_max };
	assert_int_equal(apply("1.0.0", &r), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	for (int i = 0; i < 3; i++)
		(void) services_step(services, now_ms());
	assert_int_equal(services_settled(services, "web", NULL), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	step_until(1, "web");
	release_done(&r);
}

static void test_output_never_exceeds_its_cap(void **state)
{
	struct release r = { .version = NULL };
	off_t largest = 0;

	(void) state;
	script("run",
	       "#!/bin/sh\ni=0\nwhile [ $i -lt 30 ]; do head -c 524288 /dev/zero | tr '\\0' x; echo; i=$((i+1)); "
	       "done\necho the last line\nexec sleep 1000\n");
	declare(&r, "bin/run");
	assert_int_equal(apply("1.0.0", &r), 0);
	for (int i = 0; i < 120000 && (i % 200 || !tail_has("the last line")); i++) {
		(void) services_step(services, now_ms());
		if (log_size() > largest)
			largest = log_size();
		usleep(1000);
	}
	assert_true(tail_has("the last line"));
	if (log_size() > largest)
		largest = log_size();
	assert_true(largest > 1024 * 1024 && largest <= 4 * 1024 * 1024);
	release_done(&r);
}

static pid_t logger_pid(void)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(4096);
	char path[128];
	const char *p;

	snprintf(path, sizeof(path), "%s/services/web.app.json", dir);
	assert_int_equal(file_read(&os_posix, AT_FDCWD, path, 4096, &text), 0);
	p = strstr(buf_str(&text), "\"log_pid\":");
	assert_non_null(p);
	return atoi(p + 10);
}

static void test_a_logger_that_dies_is_replaced_and_nothing_is_lost(void **state)
{
	struct release r = { .version = NULL };
	int pid;
	pid_t logger;

	(void) state;
	/* Says a number whenever the file `say` names another one. */
	script("run", "#!/bin/sh\necho one\nwhile :; do [ -e say ] && cat say && rm say; sleep 0.02; done\n");
	declare(&r, "bin/run");
	assert_int_equal(apply("1.0.0", &r), 0);
	step_until(1, "web");
	until_tail_has("one");
	pid = status().pid;
	logger = logger_pid();
	/* It outlives the agent, whose next run knows it. */
	services_close(services);
	assert_int_equal(kill(logger, 0), 0);
	assert_int_equal(services_open(&os_posix, dir, BOOT_ID, &services), 0);
	assert_int_equal(apply("1.0.0", &r), 0);
	step_until(1, "web");
	assert_int_equal(logger_pid(), logger);
	/* Killed while nobody looks: what is printed meanwhile waits. Until it is gone its read(2) may still take something along. */
	assert_int_equal(kill(logger, SIGKILL), 0);
	for (int i = 0; i < 12000 && !is_gone(logger); i++)
		usleep(10000);
	assert_true(is_gone(logger));
	{
		char path[128];
		FILE *f;

		snprintf(path, sizeof(path), "%s/say.new", dir);
		f = fopen(path, "w");
		assert_non_null(f);
		fputs("two\n", f);
		fclose(f);
		{
			char final[128];

			snprintf(final, sizeof(final), "%s/say", dir);
			assert_int_equal(rename(path, final), 0);
			for (int i = 0; i < 6000 && access(final, F_OK) == 0; i++)
				usleep(10000);
		}
	}
	until_tail_has("one\ntwo\n");
	assert_int_not_equal(logger_pid(), logger);
	assert_int_equal(status().pid, pid);
	release_done(&r);
}

static void test_a_service_that_prints_elsewhere_needs_no_logger(void **state)
{
	struct release r = { .version = NULL };
	pid_t logger;

	(void) state;
	script("run", "#!/bin/sh\nexec sleep 1000 >/dev/null 2>&1\n");
	declare(&r, "bin/run");
	assert_int_equal(apply("1.0.0", &r), 0);
	step_until(1, "web");
	logger = logger_pid();
	for (int i = 0; i < 12000 && !is_gone(logger); i++) {
		(void) services_step(services, now_ms());
		usleep(10000);
	}
	assert_true(is_gone(logger));
	(void) services_step(services, now_ms());
	assert_int_equal(services_step(services, now_ms()), UINT64_MAX); /* nothing to wake up for */
	assert_int_equal(logger_pid(), logger);
	release_done(&r);
}

static void test_a_service_of_0_1_0_is_known_again(void **state)
{
	struct release r = { .version = NULL };
	char path[128], text[512];
	uint64_t ticks = 0;
	FILE *f;
	pid_t pid;

	(void) state;
	script("run", "#!/bin/sh\nexec sleep 1000\n");
	declare(&r, "bin/run");
	pid = fork();
	if (pid == 0) {
		setsid();
		execl("/bin/sleep", "sleep", "1000", NULL);
		_exit(127);
	}
	while (process_start_time(pid, &ticks) < 0)
		usleep(1000);
	/* The record as 0.1.0 wrote it: no logger, and no pipe beside it. */
	snprintf(path, sizeof(path), "%s/services/web.app.json", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	snprintf(text, sizeof(text),
		 "{\"boot_id\":\"" BOOT_ID
		 "\",\"component\":\"web\",\"name\":\"app\",\"version\":\"1.0.0\",\"pid\":%d,"
		 "\"start\":%llu,\"stop_signal\":15,\"stop_timeout\":10}",
		 (int) pid, (unsigned long long) ticks);
	fputs(text, f);
	fclose(f);
	services_close(services);
	assert_int_equal(services_open(&os_posix, dir, BOOT_ID, &services), 0);
	assert_int_equal(apply("1.0.0", &r), 0);
	step_until(1, "web");
	assert_int_equal(status().pid, pid);
	assert_int_equal(services_step(services, now_ms()), UINT64_MAX);
	services_stop(services, "web", false);
	for (int i = 0; i < 12000 && services_count(services) > 0; i++) {
		(void) services_step(services, now_ms());
		usleep(10000);
	}
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	release_done(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_command_environment, setup, teardown),
		cmocka_unit_test_setup_teardown(test_command_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_command_refusals, setup, teardown),
		cmocka_unit_test(test_tail),
		cmocka_unit_test_setup_teardown(test_service_life, setup, teardown),
		cmocka_unit_test_setup_teardown(test_service_record_of_another_boot, setup, teardown),
		cmocka_unit_test_setup_teardown(test_service_that_does_not_start, setup, teardown),
		cmocka_unit_test_setup_teardown(test_service_that_does_not_stop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_service_reload, setup, teardown),
		cmocka_unit_test_setup_teardown(test_service_stop_before_swap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_service_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_files_of_units_are_read_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_services_start_in_order_and_stop_in_the_other, setup_noting,
						teardown_noting),
		cmocka_unit_test_setup_teardown(test_all_stop_before_the_first_starts_anew, setup_noting,
						teardown_noting),
		cmocka_unit_test_setup_teardown(test_what_does_not_start_holds_up_nobody_for_ever, setup_noting,
						teardown_noting),
		cmocka_unit_test_setup_teardown(test_a_service_that_is_the_same_is_kept, setup_noting,
						teardown_noting),
		cmocka_unit_test_setup_teardown(test_a_shortage_is_no_word_against_the_version, setup, teardown),
		cmocka_unit_test_setup_teardown(test_output_never_exceeds_its_cap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_logger_that_dies_is_replaced_and_nothing_is_lost, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_service_that_prints_elsewhere_needs_no_logger, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_service_of_0_1_0_is_known_again, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
