/* supervise.h with the real selfright-recover --start and programs that stand in for the agent; supervisor.h's paths. */
#include "agent/local/supervisor.h"
#include "agent/store/agents.h"
#include "agent/store/supervise.h"
#include "base/err.h"
#include "os/durable.h"
#include "os/process.h"
#include "support/fault_loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

_Static_assert((int) SUPERVISE_HANDOVER == (int) SUPERVISOR_HANDOVER, "both ends know the same exit code");
_Static_assert((int) AGENTS_HOW_SIZE == (int) SUPERVISOR_HOW_SIZE, "what one says the other can hold");

static char program[PATH_MAX];

struct fixture {
	char path[256], root[300], agent[300];
	struct process process;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	temp_folder(f->path, sizeof(f->path));
	(void) snprintf(f->root, sizeof(f->root), "%s/root", f->path);
	(void) snprintf(f->agent, sizeof(f->agent), "%s/agent", f->path);
	assert_int_equal(mkdir(f->root, 0755), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	process_end(&f->process, 30 * 1000);
	temp_folder_remove(f->path);
	free(f);
	return 0;
}

/* A shell script that stands in for the packaged agent; its working folder is the fixture's. */
static void put_agent(const struct fixture *f, const char *text)
{
	char script[2048];
	int n = snprintf(script, sizeof(script), "#!/bin/sh\ncd %s\n%s\n", f->path, text);

	assert_int_equal(durable_write_file(os_quick(), AT_FDCWD, f->agent, script, (size_t) n, 0755), 0);
}

static void start(struct fixture *f)
{
	const char *argv[] = { program,	 "--start",	 "--root", f->root, "--agent",
			       f->agent, "--config-dir", "/etc/x", NULL };

	assert_int_equal(process_start(&(struct process_options){ .argv = argv,
								  .stdin_fd = -1,
								  .stdout_fd = -1,
								  .stderr_fd = STDERR_FILENO },
				       &f->process),
			 0);
}

static void read_text(const struct fixture *f, const char *name, char *out, size_t size)
{
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(8192);
	char path[600];

	(void) snprintf(path, sizeof(path), "%s/%s", f->path, name);
	if (file_read(os_quick(), AT_FDCWD, path, 8192, &b) < 0)
		buf_clear(&b);
	(void) snprintf(out, size, "%s", buf_str(&b));
}

static void pause_a_little(void)
{
	static const struct timespec t = { .tv_nsec = 20 * 1000 * 1000 };

	(void) nanosleep(&t, NULL);
}

/* Wait until the file says it; the bound is only there so that a broken build ends. */
static void until_it_says(const struct fixture *f, const char *name, const char *what)
{
	char text[8192] = "";

	for (int i = 0; i < 3000; i++) {
		read_text(f, name, text, sizeof(text));
		if (strstr(text, what))
			return;
		pause_a_little();
	}
	fail_msg("%s never said '%s', but '%s'", name, what, text);
}

static int ended(struct fixture *f)
{
	int status = 0;

	for (int i = 0; i < 3000; i++) {
		if (process_poll(&f->process, &status) != 0)
			return status;
		pause_a_little();
	}
	fail_msg("it did not end");
	return 0;
}

static void the_agent_hears_what_it_must_know(void **state)
{
	struct fixture *f = *state;

	put_agent(f, "echo \"$* fd=$SELFRIGHT_SUPERVISOR_FD failed=$SELFRIGHT_FAILED_UPDATE\" >said\n"
		     "[ -S /proc/self/fd/3 ] && echo socket >>said; [ -n \"$SELFRIGHT_PACKAGED_AGENT\" ] && echo "
		     "packaged >>said\n"
		     "exec sleep 1000");
	start(f);
	until_it_says(f, "said", "packaged");
	until_it_says(f, "said", "run --config-dir /etc/x fd=3 failed=\nsocket\n");
	process_kill(&f->process, SIGTERM);
	assert_int_equal(ended(f), 0);
}

static void one_that_ends_is_started_again(void **state)
{
	struct fixture *f = *state;

	put_agent(f, "echo started >>said; [ $(wc -l <said) -ge 3 ] && exec sleep 1000; exit 1");
	start(f);
	until_it_says(f, "said", "started\nstarted\nstarted\n");
	until_it_says(f, "root/agents", "known packaged unproven 3");
}

static void ready_and_confirm_are_noted_before_the_answer(void **state)
{
	struct fixture *f = *state;

	put_agent(f, "exec python3 -c '\nimport socket, shutil, time\n"
		     "s = socket.socket(fileno=3)\ns.sendall(b\"ready\\nnonsense\\nconf\")\ntime.sleep(0.05)\n"
		     "s.sendall(b\"irm\\n\")\nanswer = s.recv(100)\nshutil.copy(\"root/agents\", \"noted\")\n"
		     "open(\"said\", \"wb\").write(answer)\ntime.sleep(1000)'");
	start(f);
	until_it_says(f, "said", "confirmed\n");
	until_it_says(f, "noted", "known packaged proven 0");
}

static void it_dies_with_its_supervisor(void **state)
{
	struct fixture *f = *state;
	char text[64], path[96];
	struct stat st;
	uint64_t ticks;

	put_agent(f, "trap '' TERM\necho $$ >pid\nwhile :; do sleep 1; done");
	start(f);
	until_it_says(f, "pid", "\n");
	read_text(f, "pid", text, sizeof(text));
	(void) snprintf(path, sizeof(path), "/proc/%d", atoi(text));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(kill(f->process.pid, SIGKILL), 0);
	(void) ended(f);
	/* Gone, or a zombie of whoever reaps here. */
	for (int i = 0; i < 3000 && process_start_time(atoi(text), &ticks) == 0; i++) {
		char line[256] = "", name[128];
		FILE *stat_file;

		(void) snprintf(name, sizeof(name), "%s/stat", path);
		stat_file = fopen(name, "r");
		if (stat_file) {
			(void) !fgets(line, sizeof(line), stat_file);
			(void) fclose(stat_file);
		}
		if (strstr(line, ") Z "))
			return;
		pause_a_little();
	}
	assert_true(process_start_time(atoi(text), &ticks) < 0);
}

static void without_any_agent_it_says_so(void **state)
{
	struct fixture *f = *state;
	int status;

	start(f);
	status = ended(f);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
}

static void which_version_a_path_is(void **state)
{
	static const struct {
		const char *path, *version;
	} cases[] = {
		{ "/var/lib/s/store/agent/0.2.0/bin/selfright-agent", "0.2.0" },
		{ "/var/lib/s/store/agent/0.2.0-rc.1/bin/x", "0.2.0-rc.1" },
		{ "/usr/bin/selfright-agent", NULL },
		{ "/var/lib/s/store/agent/0.2.0/libexec/selfright/selfright-link", NULL },
		{ "/var/lib/s/store/agent/nonsense/bin/selfright-agent", NULL },
		{ "/var/lib/s/store/agent/", NULL },
		{ "/var/lib/s/store/web/0.2.0/bin/selfright-agent", NULL },
		{ "/var/lib/s2/store/agent/0.2.0/bin/selfright-agent", NULL },
	};
	char version[VERSION_MAX + 1];

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		version[0] = '\0';
		assert_int_equal(supervisor_version_of(cases[i].path, "/var/lib/s", version, sizeof(version)),
				 cases[i].version != NULL);
		assert_string_equal(version, cases[i].version ? cases[i].version : "");
	}
}

static void without_a_supervisor_there_is_none(void **state)
{
	struct supervisor s;

	(void) state;
	(void) unsetenv("SELFRIGHT_SUPERVISOR_FD");
	supervisor_open(&s, "/var/lib/selfright");
	assert_false(supervisor_is_there(&s));
	assert_string_equal(s.running, "");
	assert_int_equal(supervisor_confirm(&s), -ERR_PEER_GONE);
	/* A number that is no socket of ours is not believed, and stays open. */
	assert_int_equal(setenv("SELFRIGHT_SUPERVISOR_FD", "2x", 1), 0);
	supervisor_open(&s, "/var/lib/selfright");
	assert_false(supervisor_is_there(&s));
	assert_null(getenv("SELFRIGHT_SUPERVISOR_FD"));
	supervisor_close(&s);
}

#define SUPERVISED(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		SUPERVISED(the_agent_hears_what_it_must_know),
		SUPERVISED(one_that_ends_is_started_again),
		SUPERVISED(ready_and_confirm_are_noted_before_the_answer),
		SUPERVISED(it_dies_with_its_supervisor),
		SUPERVISED(without_any_agent_it_says_so),
		cmocka_unit_test(which_version_a_path_is),
		cmocka_unit_test(without_a_supervisor_there_is_none),
	};
	char self[PATH_MAX];

	(void) argc;
	/* Built beside: tests/test_supervise and bin/selfright-recover. */
	assert_non_null(realpath(argv[0], self));
	(void) snprintf(program, sizeof(program), "%.3800s/../bin/selfright-recover", dirname(self));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
