/*
 * at_call - run a program and everything it starts, and at its Nth state-changing system call kill all of it, or
 * let that call fail.
 *
 *   at_call --count -- PROGRAM ARGUMENTS...           how many there are, on standard error
 *   at_call --kill N -- PROGRAM ...                    SIGKILL to all of them before the Nth is done
 *   at_call --end N -- PROGRAM ...                     SIGKILL to the one process that makes the Nth; the others go on
 *   at_call --fail N:ERRNO [--sticky] -- PROGRAM ...   the Nth answers ERRNO (a number) and is not done; sticky: so
 *                                                      do all of the same kind after it
 *   at_call --short -- PROGRAM ...                     every write and read does half of what it is asked
 *
 * Counted are the calls that change files, folders or processes, of all processes together in the order in which they
 * come; with --fail also those that only open or read, but of programs called selfright-* alone: what a component's own
 * program makes of an error is its own affair. Exit status: the program's; 137 if it was killed here. The last
 * line on standard error is "at_call: N calls[, at NAME]". SIGTERM: whoever waits has lost patience, all are killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TRACEES_MAX = 256 };

static const struct {
	long number;
	const char *name;
	bool changes;
} calls[] = {
#define CHANGES(call)                                                                                             \
	{                                                                                                         \
		SYS_##call, #call, true                                                                           \
	}
#define READS(call)                                                                                               \
	{                                                                                                         \
		SYS_##call, #call, false                                                                          \
	}
	CHANGES(openat),    CHANGES(write),	CHANGES(pwrite64),  CHANGES(writev),	CHANGES(ftruncate),
	CHANGES(fsync),	    CHANGES(fdatasync), CHANGES(syncfs),    CHANGES(renameat2), CHANGES(linkat),
	CHANGES(symlinkat), CHANGES(unlinkat),	CHANGES(mkdirat),   CHANGES(fchmod),	CHANGES(fchown),
	CHANGES(fchownat),  CHANGES(fchmodat),	CHANGES(utimensat), CHANGES(fallocate), CHANGES(copy_file_range),
	CHANGES(sendfile),  CHANGES(execve),	CHANGES(kill),	    CHANGES(clone),
#ifdef SYS_rename
	CHANGES(rename),    CHANGES(mkdir),	CHANGES(rmdir),	    CHANGES(unlink),	CHANGES(symlink),
	CHANGES(link),	    CHANGES(chmod),	CHANGES(chown),	    CHANGES(open),	CHANGES(fork),
	CHANGES(vfork),
#endif
	CHANGES(renameat),  CHANGES(clone3),	CHANGES(sendto),    READS(read),	READS(pread64),
	READS(fstat),	    READS(newfstatat),	READS(statx),	    READS(readlinkat),	READS(getdents64),
	READS(mmap),	    READS(socket),	READS(pipe2),	    READS(dup3),	READS(fcntl),
	READS(close),	    READS(getrandom),	READS(poll),	    READS(ppoll),	READS(fstatfs),
	READS(statfs),	    READS(flock),	READS(ioctl),	    READS(access),
};

struct tracee {
	pid_t pid;
	bool known, ours; /* known: looked at since its last exec; ours: a program of Selfright's */
	long forced; /* what that call shall answer, 0: the truth */
};

static struct tracee tracees[TRACEES_MAX];
static size_t tracee_count;

static unsigned long count, at;
static int fail_errno;
static long failed_number = -1; /* sticky: this call fails from now on */
static bool killing, ending, failing, sticky, halving, counting_reads;
static volatile sig_atomic_t given_up;
static const char *hit = "";

static struct tracee *tracee_of(pid_t pid)
{
	for (size_t i = 0; i < tracee_count; i++)
		if (tracees[i].pid == pid)
			return &tracees[i];
	if (tracee_count == TRACEES_MAX) {
		fprintf(stderr, "at_call: too many processes\n");
		exit(2);
	}
	tracees[tracee_count] = (struct tracee){ .pid = pid };
	return &tracees[tracee_count++];
}

static void forget(pid_t pid)
{
	for (size_t i = 0; i < tracee_count; i++)
		if (tracees[i].pid == pid)
			tracees[i] = tracees[--tracee_count];
}

static void kill_all(void)
{
	int status;
	pid_t pid;

	for (size_t i = 0; i < tracee_count; i++)
		(void) kill(tracees[i].pid, SIGKILL); /* gone is as good */
	/* A child that was just born is ours to end before it was ours to count. */
	while ((pid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR)
		if (pid > 0 && WIFSTOPPED(status))
			(void) kill(pid, SIGKILL); /* gone is as good */
	fprintf(stderr, "at_call: %lu calls, at %s\n", count, hit);
	exit(137);
}

/* Of this call, which is about to be done: its place in the table, or -1 for what is not counted. */
static int place_of(const struct __ptrace_syscall_info *info)
{
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		if ((long) info->entry.nr != calls[i].number)
			continue;
		if (!counting_reads && !calls[i].changes)
			return -1;
		/* Opening for reading changes nothing; what is said to people is no state. */
		if (calls[i].number == SYS_openat && !counting_reads &&
		    !(info->entry.args[2] & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR)))
			return -1;
		if ((calls[i].number == SYS_write || calls[i].number == SYS_writev) && info->entry.args[0] <= 2)
			return -1;
		return (int) i;
	}
	return -1;
}

#if defined(__x86_64__)
static void skip_call(pid_t pid)
{
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) < 0)
		return;
	regs.orig_rax = (unsigned long long) -1;
	(void) ptrace(PTRACE_SETREGS, pid, NULL, &regs); /* it is gone then */
}

static void answer_call(pid_t pid, long value)
{
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) < 0)
		return;
	regs.rax = (unsigned long long) value;
	(void) ptrace(PTRACE_SETREGS, pid, NULL, &regs); /* it is gone then */
}

static void halve_call(pid_t pid)
{
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) < 0 || regs.rdx < 2)
		return;
	regs.rdx /= 2;
	(void) ptrace(PTRACE_SETREGS, pid, NULL, &regs); /* it is gone then */
}
#else
static void unsupported(void)
{
	fprintf(stderr, "at_call: only --count and --kill work on this architecture\n");
	exit(2);
}
static void skip_call(pid_t pid)
{
	(void) pid;
	unsupported();
}
static void answer_call(pid_t pid, long value)
{
	(void) pid;
	(void) value;
	unsupported();
}
static void halve_call(pid_t pid)
{
	(void) pid;
	unsupported();
}
#endif

static bool is_read_or_write(long number)
{
	return number == SYS_read || number == SYS_write || number == SYS_pread64 || number == SYS_pwrite64;
}

static bool is_ours(struct tracee *t)
{
	char link[64], path[4096];
	const char *name;
	ssize_t len;

	if (t->known)
		return t->ours;
	(void) snprintf(link, sizeof(link), "/proc/%d/exe", (int) t->pid);
	len = readlink(link, path, sizeof(path) - 1);
	path[len > 0 ? len : 0] = '\0';
	name = strrchr(path, '/');
	t->ours = name && strncmp(name, "/selfright-", 11) == 0;
	t->known = true;
	return t->ours;
}

static void on_entry(struct tracee *t, const struct __ptrace_syscall_info *info)
{
	int place = place_of(info);

	if ((long) info->entry.nr == SYS_execve)
		t->known = false; /* another program from the next call on */
	else if (counting_reads && !is_ours(t))
		return;

	if (halving && is_read_or_write((long) info->entry.nr) && info->entry.args[0] > 2)
		halve_call(t->pid);
	if (place < 0)
		return;
	count++;
	if (count == at) {
		hit = calls[place].name;
		if (killing)
			kill_all();
		if (ending) {
			(void) kill(t->pid, SIGKILL); /* all threads of it; stopped as it is it cannot be gone */
			return;
		}
		if (failing && sticky)
			failed_number = calls[place].number;
	}
	if (failing && (count == at || (count > at && calls[place].number == failed_number))) {
		/* A failing close closes nevertheless, as the kernel's does. */
		if (calls[place].number != SYS_close)
			skip_call(t->pid);
		t->forced = -fail_errno;
	}
}

static void on_stop(pid_t pid)
{
	struct tracee *t = tracee_of(pid);
	struct __ptrace_syscall_info info;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) <= 0)
		return;
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
		on_entry(t, &info);
	} else if (info.op == PTRACE_SYSCALL_INFO_EXIT && t->forced) {
		answer_call(pid, t->forced);
		t->forced = 0;
	}
}

static int follow(pid_t first)
{
	int status = 0, result = 2;
	pid_t pid;

	while ((pid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
		int sig = 0;

		if (given_up)
			kill_all();
		if (pid <= 0)
			continue;
		if (WIFEXITED(status) || WIFSIGNALED(status)) {
			forget(pid);
			if (pid != first)
				continue;
			result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
			break; /* what it leaves running is no longer ours to count */
		}
		(void) tracee_of(pid);
		if (WSTOPSIG(status) == (SIGTRAP | 0x80))
			on_stop(pid);
		else if (status >> 16 == 0 && WSTOPSIG(status) != SIGSTOP && WSTOPSIG(status) != SIGTRAP)
			sig = WSTOPSIG(status);
		(void) ptrace(PTRACE_SYSCALL, pid, NULL, (void *) (intptr_t) sig); /* it is gone then */
	}
	for (size_t i = 0; i < tracee_count; i++)
		(void) ptrace(PTRACE_DETACH, tracees[i].pid, NULL, NULL); /* running ones are let go by our exit */
	return result;
}

static void give_up(int sig)
{
	(void) sig;
	given_up = 1;
}

static _Noreturn void usage(void)
{
	fprintf(stderr,
		"usage: at_call --count | --kill N | --end N | --fail N:ERRNO [--sticky] | --short  -- PROGRAM "
		"ARGUMENTS...\n"
		"example: at_call --kill 17 -- selfright-agent install demo.tar --config-dir etc\n");
	exit(2);
}

static char **take_arguments(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--") == 0 && i + 1 < argc)
			return argv + i + 1;
		if (strcmp(argv[i], "--count") == 0) {
			at = 0;
		} else if (strcmp(argv[i], "--reads") == 0) {
			counting_reads = true;
		} else if (strcmp(argv[i], "--sticky") == 0) {
			sticky = true;
		} else if (strcmp(argv[i], "--short") == 0) {
			halving = true;
		} else if (strcmp(argv[i], "--kill") == 0 && i + 1 < argc) {
			killing = true;
			at = strtoul(argv[++i], NULL, 10);
		} else if (strcmp(argv[i], "--end") == 0 && i + 1 < argc) {
			ending = true;
			at = strtoul(argv[++i], NULL, 10);
		} else if (strcmp(argv[i], "--fail") == 0 && i + 1 < argc) {
			char *end;

			failing = counting_reads = true;
			at = strtoul(argv[++i], &end, 10);
			fail_errno = *end == ':' ? atoi(end + 1) : 0;
			if (fail_errno <= 0)
				usage();
		} else {
			usage();
		}
	}
	usage();
}

int main(int argc, char **argv)
{
	char **program = take_arguments(argc, argv);
	int status, result;
	pid_t pid = fork();

	if (pid < 0) {
		perror("at_call: fork");
		return 2;
	}
	if (pid == 0) {
		(void) ptrace(PTRACE_TRACEME, 0, NULL, NULL); /* the parent sees it if not */
		(void) raise(SIGSTOP);
		(void) execvp(program[0], program);
		perror(program[0]);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status) ||
	    ptrace(PTRACE_SETOPTIONS, pid, NULL,
		   (void *) (intptr_t) (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
					PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC)) < 0 ||
	    ptrace(PTRACE_SYSCALL, pid, NULL, NULL) < 0) {
		perror("at_call: ptrace");
		(void) kill(pid, SIGKILL);
		return 2;
	}
	(void) tracee_of(pid);
	(void) sigaction(SIGTERM, &(struct sigaction){ .sa_handler = give_up }, NULL); /* cannot fail with these */
	result = follow(pid);
	fprintf(stderr, "at_call: %lu calls%s%s\n", count, *hit ? ", at " : "", hit);
	return result;
}
