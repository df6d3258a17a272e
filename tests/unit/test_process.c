/* Each sentence of os/process.h. */
#include "base/err.h"
#include "os/confine.h"
#include "os/process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define ARGV(...)                                                                                                 \
	(const char *const[])                                                                                     \
	{                                                                                                         \
		__VA_ARGS__, NULL                                                                                 \
	}
#define OPTIONS(...)                                                                                              \
	{                                                                                                         \
		.argv = ARGV(__VA_ARGS__), .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1                       \
	}
#define SHELL(script) OPTIONS("/bin/sh", "-c", script)

static void pause_ms(long ms)
{
	(void) nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 }, NULL);
}

static int wait_for(struct process *p)
{
	int status = -1;

	for (int i = 0; i < 1000; i++) {
		int r = process_poll(p, &status);

		assert_true(r >= 0);
		if (r == 1)
			return status;
		pause_ms(5);
	}
	fail_msg("it did not end");
	return status;
}

/* Run a script and give what it wrote. */
static const char *output_of(struct process_options *o, struct buf *b)
{
	int status = -1;

	buf_clear(b);
	assert_int_equal(process_run(o, 10000, &status, b), 0);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	return buf_str(b);
}

static void test_its_status_comes_back(void **state)
{
	struct process_options good = SHELL("exit 0"), bad = SHELL("exit 7"), killed = SHELL("kill -9 $$");
	struct process p;
	char text[64];
	int status;

	(void) state;
	assert_int_equal(process_start(&good, &p), 0);
	assert_int_equal(p.pid, p.group);
	assert_string_equal(process_status_text(wait_for(&p), text, sizeof(text)), "exited 0");
	assert_int_equal(process_poll(&p, &status), -ECHILD);
	assert_int_equal(process_run(&bad, 5000, &status, NULL), 0);
	assert_string_equal(process_status_text(status, text, sizeof(text)), "exited 7");
	assert_int_equal(process_run(&killed, 5000, &status, NULL), 0);
	assert_string_equal(process_status_text(status, text, sizeof(text)), "killed by SIGKILL");
}

static void test_a_failure_to_exec_comes_back(void **state)
{
	struct process_options none = OPTIONS("/no/such/program"), unknown = OPTIONS("no-such-program-anywhere"),
			       folder = OPTIONS("/tmp"), empty = OPTIONS(""), away = SHELL("exit 0");
	struct process p = { 77, 77 };

	(void) state;
	assert_int_equal(process_start(&none, &p), -ENOENT);
	assert_int_equal(process_start(&unknown, &p), -ENOENT);
	assert_int_equal(process_start(&folder, &p), -EACCES);
	assert_int_equal(process_start(&empty, &p), -ENOENT);
	away.directory = "/no/such/folder";
	assert_int_equal(process_start(&away, &p), -ENOENT);
	none.new_session = true;
	assert_int_equal(process_start(&none, &p), -ENOENT);
	none.argv = NULL;
	assert_int_equal(process_start(&none, &p), -EINVAL);
	assert_int_equal(p.pid, 77); /* untouched on failure */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* and nobody left to reap */
}

static void test_the_environment_is_small_and_clean(void **state)
{
	struct process_options o = OPTIONS("env");
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(65536);

	(void) state;
	assert_int_equal(setenv("SELFRIGHT_SECRET", "x", 1), 0);
	assert_int_equal(setenv("TZ", "UTC", 1), 0);
	(void) output_of(&o, &b);
	assert_non_null(strstr(buf_str(&b), "PATH="));
	assert_non_null(strstr(buf_str(&b), "LANG=C\n"));
	assert_non_null(strstr(buf_str(&b), "TZ=UTC\n"));
	assert_null(strstr(buf_str(&b), "SECRET"));
	o.env = ARGV("ONLY=this", "PATH=/usr/bin:/bin");
	assert_string_equal(output_of(&o, &b), "ONLY=this\nPATH=/usr/bin:/bin\n");
	/* The name is looked up in the path the program will have. */
	o.env = ARGV("PATH=/no/such/folder");
	assert_int_equal(process_start(&o, &(struct process){ 0, 0 }), -ENOENT);
	(void) unsetenv("SELFRIGHT_SECRET");
	(void) unsetenv("TZ");
}

static void test_the_folder_and_the_umask(void **state)
{
	struct process_options o = SHELL("pwd; umask");
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(4096);
	mode_t old = umask(077);

	(void) state;
	assert_string_equal(output_of(&o, &b), "/\n0022\n");
	o.directory = "/usr";
	assert_string_equal(output_of(&o, &b), "/usr\n0022\n");
	(void) umask(old);
}

static void test_no_other_descriptor_is_inherited(void **state)
{
	struct process_options o = OPTIONS("ls", "/proc/self/fd"); /* and the one it lists with */
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(4096);
	int leak = open("/dev/null", O_RDONLY), high = dup2(leak, 150); /* not close-on-exec */

	(void) state;
	assert_true(leak >= 0 && high == 150);
	assert_string_equal(output_of(&o, &b), "0\n1\n2\n3\n");
	(void) close(leak);
	(void) close(high);
}

static void test_descriptors_are_handed_over_in_any_order(void **state)
{
	struct process_options o = SHELL("cat <&3; cat <&4; cat <&9; exec ls /proc/self/fd");
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(4096);
	int a[2], c[2], d[2];

	(void) state;
	assert_int_equal(pipe2(a, O_CLOEXEC), 0);
	assert_int_equal(pipe2(c, O_CLOEXEC), 0);
	assert_int_equal(pipe2(d, O_CLOEXEC), 0);
	assert_int_equal(write(a[1], "a", 1) + write(c[1], "c", 1) + write(d[1], "d", 1), 3);
	(void) close(a[1]);
	(void) close(c[1]);
	(void) close(d[1]);
	/* Each other's numbers, as far as they are. */
	o.fd_count = 3;
	o.fds[0].from = a[0];
	o.fds[0].to = 4;
	o.fds[1].from = c[0];
	o.fds[1].to = 3;
	o.fds[2].from = d[0];
	o.fds[2].to = 9;
	assert_string_equal(output_of(&o, &b), "cad0\n1\n2\n3\n4\n5\n9\n");
	(void) close(a[0]);
	(void) close(c[0]);
	(void) close(d[0]);
	o.fds[0].to = 1;
	assert_int_equal(process_start(&o, &(struct process){ 0, 0 }), -EINVAL);
	o.fd_count = PROCESS_FDS_MAX + 1;
	assert_int_equal(process_start(&o, &(struct process){ 0, 0 }), -EINVAL);
}

static void test_signals_are_as_a_program_expects_them(void **state)
{
	struct process_options o = SHELL("grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status");
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(4096);
	sigset_t set, old;

	(void) state;
	(void) sigemptyset(&set);
	(void) sigaddset(&set, SIGUSR1);
	(void) sigprocmask(SIG_BLOCK, &set, &old);
	(void) signal(SIGPIPE, SIG_IGN);
	(void) output_of(&o, &b);
	assert_non_null(strstr(buf_str(&b), "SigBlk:\t0000000000000000"));
	assert_non_null(strstr(buf_str(&b), "SigIgn:\t0000000000000000"));
	(void) signal(SIGPIPE, SIG_DFL);
	(void) sigprocmask(SIG_SETMASK, &old, NULL);
}

static void test_the_tail_of_much_output_is_kept(void **state)
{
	struct process_options o =
		SHELL("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; echo err >&2");
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(100);
	int status;

	(void) state;
	assert_int_equal(process_run(&o, 20000, &status, &b), 0);
	assert_int_equal(b.len, 100);
	assert_non_null(strstr(buf_str(&b), "line 2999\nerr\n"));
}

static bool is_running(pid_t pid)
{
	uint64_t ticks;

	return process_start_time(pid, &ticks) == 0;
}

static pid_t number_in(const char *path)
{
	char text[32] = "";
	int fd;

	for (int i = 0; i < 400; i++) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			ssize_t n = read(fd, text, sizeof(text) - 1);

			(void) close(fd);
			if (n > 0 && text[n - 1] == '\n')
				return (pid_t) atoi(text);
		}
		pause_ms(5);
	}
	fail_msg("%s was not written", path);
	return 0;
}

static void test_a_deadline_ends_all_that_was_started(void **state)
{
	char path[] = "/tmp/selfright-process-XXXXXX", script[200];
	int fd = mkstemp(path), status;
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(4096);
	pid_t grandchild;

	(void) state;
	(void) close(fd);
	(void) snprintf(script, sizeof(script), "echo before; sleep 100 & echo $! >%s; wait", path);
	struct process_options o = SHELL(script);
	/* Long enough for a shell on a busy machine to say what it says. */
	assert_int_equal(process_run(&o, 3000, &status, &b), -ERR_DEADLINE);
	assert_string_equal(buf_str(&b), "before\n");
	grandchild = number_in(path);
	assert_false(is_running(grandchild));
	/* Also what it left behind when it ended in time. */
	assert_int_equal(truncate(path, 0), 0);
	(void) snprintf(script, sizeof(script), "sleep 100 & echo $! >%s", path);
	o.argv = ARGV("/bin/sh", "-c", script);
	assert_int_equal(process_run(&o, 60000, &status, &b), 0);
	grandchild = number_in(path);
	for (int i = 0; i < 12000 && is_running(grandchild); i++)
		pause_ms(5);
	assert_false(is_running(grandchild));
	(void) unlink(path);
}

static void test_end_is_polite_first(void **state)
{
	struct process_options polite = SHELL("trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done"),
			       deaf = SHELL("trap '' TERM; echo up; while :; do sleep 0.05; done");
	struct process p;
	int fds[2];
	char c;

	(void) state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	polite.stdout_fd = deaf.stdout_fd = fds[1];
	assert_int_equal(process_start(&polite, &p), 0);
	assert_int_equal(read(fds[0], &c, 1), 1);
	process_end(&p, 5000);
	assert_int_equal(p.pid, 0);
	while (read(fds[0], &c, 1) == 1 && c != '\n')
		;
	assert_int_equal(process_start(&deaf, &p), 0);
	assert_int_equal(read(fds[0], &c, 1), 1);
	process_end(&p, 100);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	process_end(&p, 100); /* nothing is fine */
	process_kill(&p, SIGKILL);
	(void) close(fds[0]);
	(void) close(fds[1]);
}

static void test_a_service_is_nobodys_child(void **state)
{
	struct process_options o = SHELL("exec sleep 100");
	uint64_t started, again;
	struct process p;
	int status;

	(void) state;
	o.new_session = true;
	assert_int_equal(process_run(&o, 100, &status, NULL), -EINVAL);
	assert_int_equal(process_start(&o, &p), 0);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(process_poll(&p, &status), -ECHILD);
	assert_int_equal(getsid(p.pid), p.pid);
	assert_int_equal(process_start_time(p.pid, &started), 0);
	assert_int_equal(process_start_time(p.pid, &again), 0);
	assert_int_equal(started, again);
	pid_t pid = p.pid;
	process_end(&p, 2000);
	assert_false(is_running(pid));
	assert_int_equal(process_start_time(pid, &started), -ESRCH);
	assert_int_equal(process_start_time(-1, &started), -ESRCH);
}

static void test_it_dies_with_its_parent(void **state)
{
	pid_t parent, child;
	int fds[2];

	(void) state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	parent = fork();
	if (parent == 0) {
		struct process_options o = OPTIONS("sleep", "100");
		struct process p = { 0, 0 };

		o.die_with_parent = true;
		if (process_start(&o, &p) < 0 || write(fds[1], &p.pid, sizeof(p.pid)) < 0)
			_exit(1);
		(void) pause();
		_exit(0);
	}
	assert_int_equal(read(fds[0], &child, sizeof(child)), sizeof(child));
	assert_true(is_running(child));
	assert_int_equal(kill(parent, SIGKILL), 0);
	assert_int_equal(waitpid(parent, NULL, 0), parent);
	for (int i = 0; i < 12000 && is_running(child); i++)
		pause_ms(5);
	assert_false(is_running(child));
	(void) close(fds[0]);
	(void) close(fds[1]);
}

static void test_rights_are_taken(void **state)
{
	struct process_options o = SHELL("grep NoNewPrivs /proc/self/status; ulimit -v");
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(4096);

	(void) state;
	o.no_new_privs = true;
	o.memory_max = 512 * 1024 * 1024;
	assert_string_equal(output_of(&o, &b),
			    confine_memory(1) > 0 ? "NoNewPrivs:\t1\n524288\n" : "NoNewPrivs:\t1\nunlimited\n");
}

static void test_another_user(void **state)
{
	struct process_options o = SHELL("id -u; id -g; id -G");
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(4096);
	const struct passwd *nobody = getpwnam("nobody");
	char expected[100];
	uid_t uid = 0;
	gid_t gid = 0;

	(void) state;
	o.user = "no-such-user";
	assert_int_equal(process_start(&o, &(struct process){ 0, 0 }), -EINVAL);
	assert_false(process_user_exists("no-such-user"));
	assert_false(process_user_exists(NULL));
	assert_int_equal(process_find_user("no-such-user", &uid, &gid), -ENOENT);
	if (!nobody)
		skip();
	assert_int_equal(process_find_user("nobody", &uid, &gid), 0);
	assert_int_equal(uid, nobody->pw_uid);
	assert_int_equal(gid, nobody->pw_gid);
	o.user = "nobody";
	if (geteuid() != 0) {
		o.user = "root";
		assert_int_equal(process_start(&o, &(struct process){ 0, 0 }), -EPERM);
		skip();
	}
	assert_true(process_user_exists("nobody"));
	(void) snprintf(expected, sizeof(expected), "%u\n%u\n%u\n", nobody->pw_uid, nobody->pw_gid,
			nobody->pw_gid);
	assert_string_equal(output_of(&o, &b), expected);
	/* With the death signal, which a change of user would clear, and no way back. */
	o.argv = ARGV("/bin/sh", "-c", "id -u; cat /etc/shadow 2>/dev/null && exit 1; exit 0");
	o.die_with_parent = true;
	(void) output_of(&o, &b);
}

static void test_status_texts(void **state)
{
	char text[64];

	(void) state;
	assert_string_equal(process_status_text(0, text, sizeof(text)), "exited 0");
	assert_string_equal(process_status_text(1 << 8, text, sizeof(text)), "exited 1");
	assert_string_equal(process_status_text(SIGSEGV, text, sizeof(text)), "killed by SIGSEGV");
	assert_string_equal(process_status_text(40, text, sizeof(text)), "killed by signal 40");
}

static void test_a_descriptor_means_one_process(void **state)
{
	struct process_options o = {
		.argv = ARGV("/bin/sleep", "1000"), .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1
	};
	struct process p;
	struct pollfd f = { .events = POLLIN };

	(void) state;
	assert_int_equal(process_start(&o, &p), 0);
	f.fd = process_open(p.pid);
	assert_true(f.fd >= 0);
	assert_int_equal(poll(&f, 1, 0), 0);
	assert_int_equal(process_signal(f.fd, SIGTERM), 0);
	assert_int_equal(poll(&f, 1, 10000), 1);
	process_end(&p, 0);
	/* Whoever has the number now is not meant. */
	assert_int_equal(process_signal(f.fd, SIGTERM), -ESRCH);
	close(f.fd);
	assert_true(process_open(0x3fffffff) < 0);
}

/* What a leader left behind is ended; a stranger that leads a group of the number is not. */
static void test_what_is_left_behind_is_ended(void **state)
{
	struct process_options o = { .argv = ARGV("/bin/sh", "-c", "sleep 1000 & echo $!"),
				     .new_session = true,
				     .stdin_fd = -1,
				     .stderr_fd = -1 };
	struct process p, stranger;
	char text[32] = "";
	int fds[2], fd, left;

	(void) state;
	assert_int_equal(pipe(fds), 0);
	o.stdout_fd = fds[1];
	assert_int_equal(process_start(&o, &p), 0);
	close(fds[1]);
	fd = process_open(p.pid);
	assert_true(read(fds[0], text, sizeof(text) - 1) > 0);
	left = atoi(text);
	for (int i = 0; i < 6000 && kill(p.pid, 0) == 0; i++)
		pause_ms(10);
	assert_int_equal(kill(left, 0), 0);
	process_kill_left(fd, p.group);
	assert_int_equal(read(fds[0], text, 1), 0); /* nobody holds the pipe any more */
	if (fd >= 0)
		close(fd);
	close(fds[0]);

	o = (struct process_options){
		.argv = ARGV("/bin/sleep", "1000"), .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1
	};
	assert_int_equal(process_start(&o, &stranger), 0);
	process_kill_left(-1, stranger.group);
	pause_ms(50);
	assert_int_equal(waitpid(stranger.pid, NULL, WNOHANG), 0);
	process_end(&stranger, 0);
}

struct keeper {
	int fd; /* its number is told here */
	bool die, ends; /* the keeper does; the service does, by itself */
	pid_t pid;
};

static void keep(void *user, const struct process *service)
{
	struct keeper *k = user;
	uint64_t ticks;

	if (k->ends)
		return;
	usleep(50 * 1000); /* were it not held, it would have run by then */
	assert_int_equal(process_start_time(service->pid, &ticks), 0);
	assert_int_equal(access("/proc/self/cwd/ran", F_OK), -1);
	k->pid = service->pid;
	if (k->die) {
		(void) !write(k->fd, &k->pid, sizeof(k->pid));
		_exit(0);
	}
}

/* A service runs once it is kept; who dies before leaves none. */
static void test_a_service_waits_until_it_is_kept(void **state)
{
	char dir[] = "/tmp/selfright-keep-XXXXXX", ran[64];
	struct keeper keeper = { .fd = -1 };
	struct process_options o = SHELL("echo > ran; exec sleep 1000");
	struct process service = { 0, 0 };
	uint64_t ticks = 0, again = 0;
	int fds[2], status;
	pid_t agent, pid = 0;

	(void) state;
	assert_non_null(mkdtemp(dir));
	(void) snprintf(ran, sizeof(ran), "%s/ran", dir);
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(pipe(fds), 0);
	o.directory = dir;
	o.new_session = true;
	o.keep = keep;
	o.keep_user = &keeper;
	agent = fork();
	assert_true(agent >= 0);
	if (agent == 0) {
		keeper = (struct keeper){ .fd = fds[1], .die = true };
		(void) !process_start(&o, &service);
		_exit(1); /* not reached */
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &pid, sizeof(pid)), sizeof(pid));
	assert_int_equal(waitpid(agent, &status, 0), agent);
	assert_int_equal(status, 0);
	for (int i = 0; i < 6000 && process_start_time(pid, &ticks) == 0; i++)
		usleep(10000);
	assert_int_equal(process_start_time(pid, &ticks), -ESRCH);
	assert_int_equal(access(ran, F_OK), -1);

	assert_int_equal(process_start(&o, &service), 0);
	assert_int_equal(service.pid, keeper.pid);
	assert_int_equal(process_start_time(service.pid, &ticks), 0);
	for (int i = 0; i < 6000 && access(ran, F_OK) < 0; i++)
		usleep(10000);
	assert_int_equal(access(ran, F_OK), 0);
	assert_int_equal(process_start_time(service.pid, &again), 0);
	assert_int_equal(again, ticks); /* by which it is known again is the same before and after */
	process_kill(&service, SIGKILL);
	/* What cannot be started is told with its reason all the same. */
	assert_int_equal(unlink(ran), 0);
	keeper.ends = true;
	o.directory = "/no/such/folder";
	assert_int_equal(process_start(&o, &service), -ENOENT);
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(rmdir(dir), 0);
	close(fds[0]);
}

static volatile sig_atomic_t heard;

static void hear(int sig)
{
	heard = sig;
}

/* A signal that came while something is ready to be read is heard by the time it is taken. */
static void test_what_is_ready_hides_no_signal(void **state)
{
	struct sigaction action = { .sa_handler = hear }, before;
	const struct timespec none = { 0, 0 };
	sigset_t set, mask;
	int fds[2];

	(void) state;
	assert_int_equal(pipe(fds), 0);
	struct pollfd p = { .fd = fds[0], .events = POLLIN };
	assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	assert_int_equal(sigprocmask(SIG_BLOCK, &set, &mask), 0);
	for (int ready = 0; ready <= 1; ready++) {
		heard = 0;
		assert_int_equal(raise(SIGUSR1), 0);
		assert_int_equal(heard, 0);
		assert_int_equal(process_ppoll(&p, 1, NULL), ready ? 1 : -1);
		assert_int_equal(heard, SIGUSR1);
		assert_int_equal(write(fds[1], "x", 1), 1);
	}
	assert_int_equal(sigprocmask(SIG_BLOCK, NULL, &set), 0);
	assert_true(sigismember(&set, SIGUSR1));
	assert_int_equal(read(fds[0], &set, 2), 2);
	assert_int_equal(process_ppoll(&p, 1, &none), 0);
	assert_int_equal(sigprocmask(SIG_SETMASK, &mask, NULL), 0);
	assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_its_status_comes_back),
		cmocka_unit_test(test_a_failure_to_exec_comes_back),
		cmocka_unit_test(test_the_environment_is_small_and_clean),
		cmocka_unit_test(test_the_folder_and_the_umask),
		cmocka_unit_test(test_no_other_descriptor_is_inherited),
		cmocka_unit_test(test_descriptors_are_handed_over_in_any_order),
		cmocka_unit_test(test_signals_are_as_a_program_expects_them),
		cmocka_unit_test(test_the_tail_of_much_output_is_kept),
		cmocka_unit_test(test_a_deadline_ends_all_that_was_started),
		cmocka_unit_test(test_end_is_polite_first),
		cmocka_unit_test(test_a_service_is_nobodys_child),
		cmocka_unit_test(test_it_dies_with_its_parent),
		cmocka_unit_test(test_rights_are_taken),
		cmocka_unit_test(test_another_user),
		cmocka_unit_test(test_status_texts),
		cmocka_unit_test(test_a_descriptor_means_one_process),
		cmocka_unit_test(test_what_is_left_behind_is_ended),
		cmocka_unit_test(test_a_service_waits_until_it_is_kept),
		cmocka_unit_test(test_what_is_ready_hides_no_signal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
