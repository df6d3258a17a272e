/*
 * process - start programs of our own and others', and end them with all they started.
 */
#ifndef SELFRIGHT_OS_PROCESS_H
#define SELFRIGHT_OS_PROCESS_H

#include "base/attr.h"
#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct pollfd;
struct process;
struct timespec;

enum { PROCESS_FDS_MAX = 4 };

struct process_options {
	const char *const *argv; /* argv[0] is an absolute path, or a name looked up in PATH */
	const char *const *env; /* NULL: a small clean environment (PATH, LANG=C, TZ kept) */
	const char *directory; /* NULL: "/" */
	const char *user; /* NULL: stay who we are; else setgroups, setgid, setuid to it */
	bool new_session; /* setsid and forget: it outlives us (services) */
	bool die_with_parent; /* PR_SET_PDEATHSIG SIGTERM */
	bool killed_with_parent; /* the same with SIGKILL: also one that hangs is gone then */
	int stdin_fd, stdout_fd, stderr_fd; /* -1: /dev/null; 0 means 0 */
	struct {
		int from, to;
	} fds[PROCESS_FDS_MAX]; /* descriptors the child gets */
	int fd_count;
	uint64_t memory_max; /* RLIMIT_AS in bytes (confine_memory), 0: none */
	bool no_new_privs;
	/*
	 * Of a service: called here when it has its number and before its program runs, so that the number can be kept.
	 * It runs once this has returned; who dies in it leaves no process behind that nobody knows. NULL: none.
	 */
	void (*keep)(void *user, const struct process *service);
	void *keep_user;
};

struct process {
	pid_t pid; /* 0: none */
	pid_t group; /* its process group, = pid */
};

/*
 * Everything the child needs is done before exec; a failure to exec comes back here as -errno.
 * The child has default signal actions, umask 022, no other descriptors, and a process group of
 * its own. Not root and another user asked for: -EPERM; an unknown user: -EINVAL. A service
 * (new_session) is nobody's child here: process_poll answers -ECHILD, process_start_time knows it.
 */
NODISCARD int process_start(const struct process_options *o, struct process *ret);

/* Reap without waiting: 1 and *ret_status (as waitpid) if it has ended, 0 if it runs, -ECHILD. */
NODISCARD int process_poll(struct process *p, int *ret_status);

/* Signal the whole group. Missing is fine. */
void process_kill(const struct process *p, int sig);

/* SIGTERM to the group, SIGKILL after `grace_ms`, reap. Blocks that long at most. */
void process_end(struct process *p, unsigned grace_ms);

/*
 * Run to the end: 0 and the status; output (both streams) up to ret_output's limit, the tail
 * kept (NULL: the streams of `o`). What it left running in its group is killed. -ERR_DEADLINE
 * after `deadline_ms`: ended, its output so far is there. Not for new_session.
 */
NODISCARD int process_run(const struct process_options *o, uint64_t deadline_ms, int *ret_status,
			  struct buf *ret_output);

/* "exited 1", "killed by SIGSEGV": for people. Static or `out`. */
const char *process_status_text(int status, char *out, size_t size);

/* When `pid` started, in clock ticks since boot, to recognise it again after a restart. -ESRCH. */
NODISCARD int process_start_time(pid_t pid, uint64_t *ret_ticks);

/*
 * ppoll(2) with every signal let through; `timeout` NULL: for ever. Signals that wait are heard also where a descriptor is
 * ready at once: Linux answers then without them, and who always has something to read would never be told to end. -1 and
 * errno, as ppoll.
 */
int process_ppoll(struct pollfd *fds, size_t count, const struct timespec *timeout);

/*
 * A descriptor that means this process whatever becomes of its number, readable when it has
 * ended. -ESRCH; -ENOSYS before Linux 5.3.
 */
NODISCARD int process_open(pid_t pid);

/* Signal the process behind a descriptor of process_open. -ESRCH: it has ended. */
NODISCARD int process_signal(int pidfd, int sig);

/*
 * SIGKILL to what a process of a group of its own left behind when it ended; never to a
 * stranger who has its number now.
 */
void process_kill_left(int pidfd, pid_t group);

/* Could we become this user: does it exist, and are we root? */
bool process_user_exists(const char *user);

/* -ENOENT: there is no such user. Any other error says nothing about that: the look itself failed. */
NODISCARD int process_find_user(const char *user, uid_t *ret_uid, gid_t *ret_gid);

#endif
