/* command.h and service.h: clean environments, deadlines, and services that are kept, known again and stopped. */
#include "agent/local/command.h"
#include "agent/local/config.h"
#include "agent/local/service.h"
#include "base/err.h"
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
#include <sys/stat.h>
#include <unistd.h>
/* cmocka wants the four above */
#include <cmocka.h>

#define BOOT_ID "11111111-2222-3333-4444-555555555555"

static char dir[64];
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
	config = (struct config){ .root = dir, .run = dir };
	snprintf(config.node, sizeof(config.node), "n1");
	config.users.component =
		strdup("root"); /* who runs tests as root may; an ordinary user's agent changes nobody */
	assert_int_equal(labels_set(&config.vars, "port", "80 80"), 0);
	assert_int_equal(services_open(&os_posix, dir, BOOT_ID, &services), 0);
	return 0;
}

static void step_until(int wanted, const char *component)
{
	for (int i = 0; i < 400; i++) {
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
	for (int i = 0; i < 300 && services_count(services) > 0; i++) {
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
	int pid;

	(void) state;
	script("run", "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 0.05; done\n");
	declare(&r, "bin/run");
	assert_int_equal(apply("1.0.0", &r), 0);
	step_until(1, "web");
	pid = status().pid;
	services_stop(services, "web", false);
	step_until(1, "web"); /* killed after its second */
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
