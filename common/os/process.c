#include "os/process.h"

#include "base/err.h"
#include "base/text.h"
#include "os/confine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum {
	/* Where descriptors wait while 0, 1, 2 and the wanted numbers are filled. */
	FD_HIGH = 200,
	GROUPS_LIMIT = 256,
	TICK_MS = 20,
	END_GRACE_MS = 500,
};

/* What the child says over the close-on-exec pipe; each fits in one atomic write. */
struct message {
	enum { MESSAGE_PID, MESSAGE_ERROR } kind;
	int value;
};

/* Everything the child needs, computed before fork: between fork and exec it allocates and looks up nothing. */
struct plan {
	const struct process_options *o;
	char program[PATH_MAX];
	char *const *argv;
	char *const *env;
	char env_path[PATH_MAX], env_lang[16], env_zone[256]; /* of the clean environment */
	char *clean_env[4];
	bool switch_user;
	uid_t uid;
	gid_t gid;
	gid_t groups[GROUPS_LIMIT];
	int group_count;
	pid_t parent;
	int report; /* write end of the pipe */
	int gate, gate_parent; /* a byte lets the service go on, the end of it ends it; -1: it does not wait */
	int targets[3 + PROCESS_FDS_MAX], sources[3 + PROCESS_FDS_MAX];
	int target_count;
};

static const char *environment_value(const char *const *env, const char *name)
{
	size_t n = strlen(name);

	for (; env && *env; env++)
		if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
			return *env + n + 1;
	return NULL;
}

static int plan_environment(struct plan *p)
{
	const char *path = getenv("PATH"), *zone = getenv("TZ");
	int n, count = 0;

	if (p->o->env) {
		p->env = (char *const *) (uintptr_t) p->o->env; /* execve's prototype lacks the const it keeps */
		return 0;
	}
	n = snprintf(p->env_path, sizeof(p->env_path), "PATH=%s", path && *path ? path : DEFAULT_PATH);
	if (n < 0 || (size_t) n >= sizeof(p->env_path))
		return -ENAMETOOLONG;
	p->clean_env[count++] = p->env_path;
	(void) snprintf(p->env_lang, sizeof(p->env_lang), "LANG=C");
	p->clean_env[count++] = p->env_lang;
	if (zone) {
		n = snprintf(p->env_zone, sizeof(p->env_zone), "TZ=%s", zone);
		if (n > 0 && (size_t) n < sizeof(p->env_zone))
			p->clean_env[count++] = p->env_zone;
	}
	p->clean_env[count] = NULL;
	p->env = p->clean_env;
	return 0;
}

static int plan_program(struct plan *p)
{
	const char *name = p->o->argv[0], *path;
	size_t len = strlen(name);
	int r = -ENOENT;

	if (len == 0 || len >= sizeof(p->program))
		return len == 0 ? -ENOENT : -ENAMETOOLONG;
	if (strchr(name, '/')) {
		memcpy(p->program, name, len + 1);
		return 0;
	}
	path = environment_value((const char *const *) p->env, "PATH");
	if (!path || !*path)
		path = DEFAULT_PATH;
	for (;;) {
		size_t n = strcspn(path, ":");
		struct stat st;

		/* No empty part: the working directory is no place to look for programs. */
		if (n > 0 && n + 1 + len < sizeof(p->program)) {
			memcpy(p->program, path, n);
			p->program[n] = '/';
			memcpy(p->program + n + 1, name, len + 1);
			if (stat(p->program, &st) == 0 && S_ISREG(st.st_mode)) {
				if (access(p->program, X_OK) == 0)
					return 0;
				r = -EACCES;
			}
		}
		if (path[n] == '\0')
			return r;
		path += n + 1;
	}
}

static int find_user(const char *user, struct passwd *entry, char *text, size_t size)
{
	struct passwd *found = NULL;
	int r;

	do
		r = getpwnam_r(user, entry, text, size, &found);
	while (r == EINTR);
	if (r == 0 && found)
		return 0;
	return r == 0 || r == ESRCH ? -ENOENT : -r;
}

static int plan_user(struct plan *p)
{
	struct passwd entry;
	char text[4096];
	int r;

	if (!p->o->user)
		return 0;
	r = find_user(p->o->user, &entry, text, sizeof(text));
	if (r < 0)
		return r == -ENOENT ? -EINVAL : r;
	if (geteuid() != 0)
		return entry.pw_uid == geteuid() ? 0 : -EPERM; /* who we are already */
	p->uid = entry.pw_uid;
	p->gid = entry.pw_gid;
	p->group_count = GROUPS_LIMIT;
	if (getgrouplist(entry.pw_name, entry.pw_gid, p->groups, &p->group_count) < 0)
		p->group_count = GROUPS_LIMIT; /* in more groups than we carry: the first ones */
	p->switch_user = true;
	return 0;
}

static int plan_descriptors(struct plan *p)
{
	const struct process_options *o = p->o;
	const int standard[3] = { o->stdin_fd, o->stdout_fd, o->stderr_fd };

	if (o->fd_count < 0 || o->fd_count > PROCESS_FDS_MAX)
		return -EINVAL;
	for (int i = 0; i < 3; i++) {
		p->targets[i] = i;
		p->sources[i] = standard[i];
	}
	p->target_count = 3;
	for (int i = 0; i < o->fd_count; i++) {
		if (o->fds[i].from < 0 || o->fds[i].to < 3 || o->fds[i].to >= FD_HIGH)
			return -EINVAL;
		p->targets[p->target_count] = o->fds[i].to;
		p->sources[p->target_count++] = o->fds[i].from;
	}
	return 0;
}

static void child_say(const struct plan *p, int kind, int value)
{
	struct message m = { .kind = kind, .value = value };

	(void) !write(p->report, &m, sizeof(m)); /* the parent is gone: nobody to tell */
}

static int child_descriptors(const struct plan *p)
{
	int high[3 + PROCESS_FDS_MAX], null_fd = -1, last = 2;
	bool wanted[FD_HIGH] = { false };

	/* First all out of the way: a wanted number may be another one's source. */
	for (int i = 0; i < p->target_count; i++) {
		int from = p->sources[i];

		if (from < 0 && null_fd < 0) {
			null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
			if (null_fd < 0)
				return -errno;
		}
		high[i] = fcntl(from < 0 ? null_fd : from, F_DUPFD_CLOEXEC, FD_HIGH);
		if (high[i] < 0)
			return -errno;
	}
	for (int i = 0; i < p->target_count; i++) {
		if (dup2(high[i], p->targets[i]) < 0) /* clears close-on-exec */
			return -errno;
		wanted[p->targets[i]] = true;
		if (p->targets[i] > last)
			last = p->targets[i];
	}
	for (int fd = 3; fd < last; fd++)
		if (!wanted[fd])
			(void) fcntl(fd, F_SETFD, FD_CLOEXEC); /* EBADF: not open */
	if (syscall(SYS_close_range, (unsigned) last + 1, ~0U, 1U << 2 /* CLOSE_RANGE_CLOEXEC */) < 0) {
		struct rlimit limit; /* before Linux 5.11 */

		if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
			return -errno;
		for (int fd = last + 1; (rlim_t) fd < limit.rlim_cur && fd < 65536; fd++)
			(void) fcntl(fd, F_SETFD, FD_CLOEXEC); /* EBADF: not open */
	}
	return 0;
}

static void child_signals(void)
{
	struct sigaction action;
	sigset_t none;

	memset(&action, 0, sizeof(action));
	action.sa_handler = SIG_DFL;
	for (int sig = 1; sig < NSIG; sig++)
		(void) sigaction(sig, &action, NULL); /* EINVAL for those nobody may catch */
	(void) sigemptyset(&none);
	(void) sigprocmask(SIG_SETMASK, &none, NULL);
}

static int child_rights(const struct plan *p)
{
	uint64_t memory = confine_memory(p->o->memory_max);

	if (memory > 0) {
		struct rlimit limit = { memory, memory };

		if (setrlimit(RLIMIT_AS, &limit) < 0)
			return -errno;
	}
	if (p->switch_user && (setgroups((size_t) p->group_count, p->groups) < 0 ||
			       setresgid(p->gid, p->gid, p->gid) < 0 || setresuid(p->uid, p->uid, p->uid) < 0))
		return -errno;
	if (p->o->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	/* After the change of user, which clears it. */
	if ((p->o->die_with_parent || p->o->killed_with_parent) && !p->o->new_session) {
		if (prctl(PR_SET_PDEATHSIG, p->o->killed_with_parent ? SIGKILL : SIGTERM) < 0)
			return -errno;
		if (getppid() != p->parent)
			return -ERR_PEER_GONE; /* it died before we asked */
	}
	return 0;
}

/* Once whoever starts it knows it for good; if he is gone, so are we. */
static int child_is_kept(const struct plan *p)
{
	char byte;
	ssize_t n;

	if (p->gate < 0)
		return 0;
	do
		n = read(p->gate, &byte, 1);
	while (n < 0 && errno == EINTR);
	return n == 1 ? 0 : -ERR_PEER_GONE;
}

/* Out of the range that is filled with what the child gets. */
static int child_move_up(int *fd)
{
	int high = fcntl(*fd, F_DUPFD_CLOEXEC, FD_HIGH);

	if (high < 0)
		return -errno;
	(void) close(*fd); /* of a pipe or socket */
	*fd = high;
	return 0;
}

static _Noreturn void child_exec(const struct plan *p)
{
	int r;

	child_signals();
	(void) umask(022);
	r = child_descriptors(p);
	if (r == 0)
		r = child_rights(p);
	if (r == 0 && chdir(p->o->directory ? p->o->directory : "/") < 0)
		r = -errno;
	if (r == 0)
		r = child_is_kept(p);
	if (r == 0) {
		(void) execve(p->program, p->argv, p->env);
		r = -errno;
	}
	child_say(p, MESSAGE_ERROR, r);
	_exit(127);
}

static _Noreturn void child_start(struct plan *p)
{
	int r = child_move_up(&p->report);
	pid_t pid;

	if (r == 0 && p->gate >= 0) {
		(void) close(p->gate_parent); /* else its end would never come */
		r = child_move_up(&p->gate);
	}
	if (r < 0) {
		child_say(p, MESSAGE_ERROR, r);
		_exit(127);
	}
	if (!p->o->new_session) {
		(void) setpgid(0, 0); /* the parent does the same: whoever is first */
		child_exec(p);
	}
	/* A second fork, so that the service is not our child and needs no reaping by us. */
	pid = fork();
	if (pid < 0)
		child_say(p, MESSAGE_ERROR, -errno);
	else if (pid > 0)
		child_say(p, MESSAGE_PID, (int) pid);
	if (pid != 0)
		_exit(0);
	(void) setsid(); /* cannot fail: we lead no group */
	child_exec(p);
}

static void let_go_on(const struct plan *p, pid_t pid)
{
	const struct process service = { .pid = pid, .group = pid };

	if (p->gate_parent < 0)
		return;
	p->o->keep(p->o->keep_user, &service);
	(void) send(p->gate_parent, "", 1, MSG_NOSIGNAL); /* EPIPE: it has ended, and says why */
}

/* What the child said until the pipe closed, by exec or by its end. */
static int hear(const struct plan *p, int fd, pid_t *pid)
{
	struct message m;
	int r = 0;

	for (;;) {
		ssize_t n = read(fd, &m, sizeof(m));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return r;
		if (n != sizeof(m))
			return -EIO;
		if (m.kind == MESSAGE_PID) {
			*pid = (pid_t) m.value;
			let_go_on(p, *pid);
		} else {
			r = m.value;
		}
	}
}

static void reap(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static int plan_make(struct plan *p, const struct process_options *o)
{
	int r;

	if (!o->argv || !o->argv[0])
		return -EINVAL;
	p->o = o;
	p->argv = (char *const *) (uintptr_t) o->argv; /* execve's prototype lacks the const it keeps */
	p->parent = getpid();
	r = plan_environment(p);
	if (r == 0)
		r = plan_program(p);
	if (r == 0)
		r = plan_user(p);
	if (r == 0)
		r = plan_descriptors(p);
	return r;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		(void) close(fd); /* a pipe or a socket */
}

/* The pipe it says by what went wrong, and where it waits to be kept. */
static int plan_talk(struct plan *p, int *ret_hear)
{
	int report[2], gate[2] = { -1, -1 }, r;

	if (pipe2(report, O_CLOEXEC) < 0)
		return -errno;
	if (p->o->keep && p->o->new_session && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, gate) < 0) {
		r = -errno;
		close_fd(report[0]);
		close_fd(report[1]);
		return r;
	}
	*ret_hear = report[0];
	p->report = report[1];
	p->gate_parent = gate[0];
	p->gate = gate[1];
	return 0;
}

int process_start(const struct process_options *o, struct process *ret)
{
	struct plan p = { .switch_user = false };
	sigset_t all, before;
	int from_child = -1, r;
	pid_t child, service = 0;

	r = plan_make(&p, o);
	if (r == 0)
		r = plan_talk(&p, &from_child);
	if (r < 0)
		return r;
	/* No handler of ours may run in the child before it has dropped them. */
	(void) sigfillset(&all);
	(void) sigprocmask(SIG_SETMASK, &all, &before);
	child = fork();
	if (child == 0)
		child_start(&p);
	r = child < 0 ? -errno : 0;
	(void) sigprocmask(SIG_SETMASK, &before, NULL);
	close_fd(p.report);
	close_fd(p.gate);
	if (r == 0 && !o->new_session)
		(void) setpgid(child, child); /* EACCES: it has called exec already, and done it itself */
	if (r == 0) {
		r = hear(&p, from_child, &service);
		if (r < 0 || o->new_session)
			reap(child);
		if (r == 0 && o->new_session && service <= 0)
			r = -ERR_CHILD;
	}
	close_fd(from_child);
	close_fd(p.gate_parent);
	if (r < 0)
		return r;
	child = o->new_session ? service : child;
	*ret = (struct process){ .pid = child, .group = child };
	return 0;
}

int process_poll(struct process *p, int *ret_status)
{
	int status;
	pid_t r;

	if (p->pid <= 0)
		return -ECHILD;
	do
		r = waitpid(p->pid, &status, WNOHANG);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	if (r == 0)
		return 0;
	p->pid = 0;
	*ret_status = status;
	return 1;
}

void process_kill(const struct process *p, int sig)
{
	/* Never 0 or 1: that would be our own group, or everybody. */
	if (p->group > 1)
		(void) kill(-p->group, sig); /* ESRCH: gone already */
}

/* Fields of /proc/<pid>/stat: state, process group, start time. */
static int read_stat(const char *pid, char *ret_state, long *ret_group, unsigned long long *ret_start)
{
	char path[64], text[1024];
	const char *p;
	ssize_t n;
	int fd, r;

	(void) snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	n = read(fd, text, sizeof(text) - 1);
	r = n < 0 ? -errno : 0; /* ESRCH: it has ended since */
	(void) close(fd); /* opened for reading */
	if (n <= 0)
		return n < 0 ? r : -ESRCH;
	text[n] = '\0';
	p = strrchr(text, ')'); /* the name before it may hold anything */
	if (!p || sscanf(p + 1, " %c %*d %ld %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
			 ret_state, ret_group, ret_start) != 3)
		return -ESRCH;
	return 0;
}

/* Is anybody of the group still running? One that is dead but not reaped by its parent does not count. */
static bool group_is_alive(pid_t group)
{
	bool alive = false;
	DIR *dir;

	if (group <= 1 || (kill(-group, 0) < 0 && errno == ESRCH))
		return false;
	dir = opendir("/proc");
	if (!dir)
		return true;
	for (const struct dirent *e; !alive && (e = readdir(dir)) != NULL;) {
		unsigned long long start;
		char state;
		long of;

		if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && read_stat(e->d_name, &state, &of, &start) == 0)
			alive = of == (long) group && state != 'Z' && state != 'X';
	}
	(void) closedir(dir); /* opened for reading */
	return alive;
}

static uint64_t now_ms(void)
{
	struct timespec t = { 0, 0 };

	(void) clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail for this clock */
	return (uint64_t) t.tv_sec * 1000 + (uint64_t) t.tv_nsec / 1000000;
}

static void pause_ms(unsigned ms)
{
	struct timespec t = { .tv_sec = 0, .tv_nsec = (long) ms * 1000000 };

	(void) nanosleep(&t, NULL); /* a signal may cut it short: the callers look again */
}

/* Wait until the group is empty and its leader reaped, if it is ours. */
static bool wait_gone(struct process *p, uint64_t ms, int *status)
{
	uint64_t end = now_ms() + ms;

	for (;;) {
		/* Reaped now or before, or a service, which was never ours to reap. */
		if (process_poll(p, status) != 0 && !group_is_alive(p->group))
			return true;
		if (now_ms() >= end)
			return false;
		pause_ms(TICK_MS);
	}
}

void process_end(struct process *p, unsigned grace_ms)
{
	int status;

	if (p->group > 1) {
		process_kill(p, SIGTERM);
		if (!wait_gone(p, grace_ms, &status)) {
			process_kill(p, SIGKILL);
			(void) wait_gone(p, 2000, &status); /* a process in uninterruptible sleep: we go on */
		}
	}
	*p = (struct process){ .pid = 0, .group = 0 };
}

/* Keep the newest bytes only. */
static int keep_tail(struct buf *b, const char *data, size_t len)
{
	if (len > b->max) {
		data += len - b->max;
		len = b->max;
	}
	if (b->len + len > b->max)
		buf_consume(b, b->len + len - b->max);
	return buf_add(b, data, len);
}

/* Take what is in the pipe now. 1 at its end. */
static int drain(int fd, struct buf *output)
{
	char chunk[4096];

	for (;;) {
		ssize_t n = read(fd, chunk, sizeof(chunk));
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		if (n == 0)
			return 1;
		r = keep_tail(output, chunk, (size_t) n);
		if (r < 0)
			return r;
	}
}

static int run_started(struct process *p, int output_fd, uint64_t deadline_ms, int *ret_status, struct buf *output)
{
	uint64_t start = now_ms();
	int r, ended, status = 0;

	for (;;) {
		/* Asked before draining: what it wrote before its end is in the pipe then. */
		ended = process_poll(p, &status);
		r = output_fd >= 0 ? drain(output_fd, output) : 1;
		if (r < 0)
			return r;
		if (ended != 0)
			break;
		if (now_ms() - start >= deadline_ms)
			return -ERR_DEADLINE;
		if (r == 1) {
			pause_ms(TICK_MS / 4);
		} else {
			struct pollfd wait = { .fd = output_fd, .events = POLLIN };

			(void) poll(&wait, 1,
				    TICK_MS); /* its end closes the pipe, unless a child of its own holds it */
		}
	}
	if (ended < 0)
		return ended;
	*ret_status = status;
	return 0;
}

int process_run(const struct process_options *o, uint64_t deadline_ms, int *ret_status, struct buf *ret_output)
{
	struct process_options run = *o;
	struct process p = { 0, 0 };
	int fds[2] = { -1, -1 }, r;

	if (o->new_session)
		return -EINVAL;
	if (ret_output) {
		if (pipe2(fds, O_CLOEXEC) < 0)
			return -errno;
		if (fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0) {
			r = -errno;
			goto out;
		}
		run.stdout_fd = run.stderr_fd = fds[1];
	}
	r = process_start(&run, &p);
	if (fds[1] >= 0)
		(void) close(fds[1]); /* a pipe; the child has its own */
	fds[1] = -1;
	if (r < 0)
		goto out;
	r = run_started(&p, fds[0], deadline_ms, ret_status, ret_output);
	if (r == -ERR_DEADLINE || p.pid > 0)
		process_end(&p, END_GRACE_MS);
	else
		process_kill(&p, SIGKILL); /* what it left behind */
out:
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0)
			(void) close(fds[i]); /* a pipe */
	return r;
}

const char *process_status_text(int status, char *out, size_t size)
{
	if (WIFEXITED(status)) {
		(void) snprintf(out, size, "exited %d", WEXITSTATUS(status));
	} else if (WIFSIGNALED(status)) {
		const char *name = sigabbrev_np(WTERMSIG(status));

		if (name)
			(void) snprintf(out, size, "killed by SIG%s", name);
		else
			(void) snprintf(out, size, "killed by signal %d", WTERMSIG(status));
	} else {
		(void) snprintf(out, size, "status 0x%x", (unsigned) status);
	}
	return out;
}

int process_start_time(pid_t pid, uint64_t *ret_ticks)
{
	unsigned long long start;
	char text[24], state;
	long group;
	int r;

	if (pid <= 0)
		return -ESRCH;
	(void) snprintf(text, sizeof(text), "%ld", (long) pid);
	r = read_stat(text, &state, &group, &start);
	if (r < 0)
		return r;
	if (state == 'Z' || state == 'X')
		return -ESRCH; /* dead, only not reaped */
	*ret_ticks = start;
	return 0;
}

int process_find_user(const char *user, uid_t *ret_uid, gid_t *ret_gid)
{
	struct passwd entry;
	char text[4096];
	int r = find_user(user, &entry, text, sizeof(text));

	if (r < 0)
		return r;
	*ret_uid = entry.pw_uid;
	*ret_gid = entry.pw_gid;
	return 0;
}

bool process_user_exists(const char *user)
{
	struct passwd entry;
	char text[4096];

	return user && geteuid() == 0 && find_user(user, &entry, text, sizeof(text)) == 0;
}

int process_ppoll(struct pollfd *fds, size_t count, const struct timespec *timeout)
{
	sigset_t none, before;
	int r;

	(void) sigemptyset(&none);
	r = ppoll(fds, count, timeout, &none);
	if (r > 0) {
		(void) sigprocmask(SIG_SETMASK, &none, &before);
		(void) sigprocmask(SIG_SETMASK, &before, NULL);
	}
	return r;
}

int process_open(pid_t pid)
{
	long fd = syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? -errno : (int) fd;
}

int process_signal(int pidfd, int sig)
{
	return syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) < 0 ? -errno : 0;
}

void process_kill_left(int pidfd, pid_t group)
{
	enum { WHOLE_GROUP = 1 << 2 }; /* PIDFD_SIGNAL_PROCESS_GROUP, since Linux 6.9 */
	uint64_t ticks;

	if (pidfd >= 0 &&
	    (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, WHOLE_GROUP) == 0 || errno == ESRCH))
		return;
	/* A number is given anew only when no group has it: whoever leads one by it now is a stranger. */
	if (group > 1 && process_start_time(group, &ticks) < 0)
		(void) kill(-group, SIGKILL); /* ESRCH: nothing was left */
}
