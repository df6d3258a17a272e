#include "agent/probe/run.h"

#include "agent/probe/probe.h"
#include "base/err.h"
#include "model/report.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	READ_MAX = 64 * 1024, /* per step: a program that talks without end must not hold up the engine */
	OUTPUT_MAX = 2 * PROBE_DETAIL_MAX,
};

void run_say(struct buf *detail, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(text, sizeof(text), fmt, ap); /* a cut sentence is still a sentence */
	va_end(ap);
	buf_clear(detail);
	(void) !printable_tail(text, strlen(text), detail->max, detail); /* without memory there are no words */
}

void run_program_init(struct run_program *p)
{
	*p = (struct run_program){ .output_fd = -1, .pid_fd = -1 };
	buf_init(&p->output, OUTPUT_MAX);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		(void) close(*fd); /* nothing was written through it */
	*fd = -1;
}

static int pid_fd_open(pid_t pid)
{
	/* Linux 5.3; without it the caller looks every few milliseconds. Close-on-exec by definition. */
	return (int) syscall(SYS_pidfd_open, pid, 0);
}

/* A pipe that holds all of `input` already: nothing has to be written while the program runs. -1: none. */
static int input_fd(const struct buf *input)
{
	int fds[2], r = 0;
	ssize_t n;

	if (!input || input->len == 0)
		return -1;
	if (input->len > RUN_INPUT_MAX)
		return -ERR_TOO_LARGE;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	/* Less than a pipe's 64 KiB; smaller ones exist where a user has very many. */
	n = write(fds[1], input->data, input->len);
	if (n < 0 || (size_t) n < input->len)
		r = n < 0 ? -errno : -EAGAIN;
	if (fcntl(fds[0], F_SETFL, 0) < 0 && r == 0) /* the program reads as programs do */
		r = -errno;
	(void) close(fds[1]); /* all is in it */
	if (r < 0)
		(void) close(fds[0]);
	return r < 0 ? r : fds[0];
}

int run_program_start(struct run_program *p, const struct process_options *o, const struct buf *input)
{
	struct process_options options = *o;
	int pipe_fds[2], r, stdin_fd = input_fd(input);

	if (stdin_fd < -1)
		return stdin_fd;
	if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
		r = -errno;
		close_fd(&stdin_fd);
		return r;
	}
	options.stdin_fd = stdin_fd;
	options.stdout_fd = pipe_fds[1];
	options.stderr_fd = pipe_fds[1];
	r = fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : process_start(&options, &p->process);
	(void) close(pipe_fds[1]); /* the program's end */
	close_fd(&stdin_fd);
	if (r < 0) {
		(void) close(pipe_fds[0]);
		p->process = (struct process){ 0 };
		return r;
	}
	buf_done(&p->output); /* a large head is not kept from run to run */
	buf_init(&p->output, p->head_max ? p->head_max : OUTPUT_MAX);
	p->output_fd = pipe_fds[0];
	p->pid_fd = pid_fd_open(p->process.pid);
	return 0;
}

static void keep_tail(struct buf *output, const char *data, size_t len)
{
	if (len > OUTPUT_MAX) {
		data += len - OUTPUT_MAX;
		len = OUTPUT_MAX;
	}
	if (output->len + len > OUTPUT_MAX)
		buf_consume(output, output->len + len - OUTPUT_MAX);
	(void) !buf_add(output, data, len); /* without memory the output is not told */
}

static void keep_head(struct buf *output, const char *data, size_t len)
{
	if (len > output->max - output->len)
		len = output->max - output->len;
	(void) !buf_add(output, data, len); /* whoever reads it sees that something is missing */
}

static void read_output(struct run_program *p)
{
	char chunk[4096];
	size_t total = 0;

	while (p->output_fd >= 0 && total < READ_MAX) {
		ssize_t n = read(p->output_fd, chunk, sizeof(chunk));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			close_fd(&p->output_fd);
			return;
		}
		if (p->head_max)
			keep_head(&p->output, chunk, (size_t) n);
		else
			keep_tail(&p->output, chunk, (size_t) n);
		total += (size_t) n;
	}
}

/* Has the leader ended? It stays a zombie, so its group's number is still ours. */
static bool has_ended(const struct run_program *p)
{
	siginfo_t info = { 0 };

	return waitid(P_PID, (id_t) p->process.pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid != 0;
}

void run_program_tell(const struct run_program *p, struct buf *detail)
{
	if (p->output.len == 0)
		return;
	if (detail->len > 0)
		(void) !buf_add_byte(detail, '\n'); /* without memory there are fewer words */
	(void) !printable_tail((const char *) p->output.data, p->output.len, detail->max - detail->len, detail);
}

static void tell_end(struct run_program *p, int status, struct buf *detail)
{
	char how[64];

	buf_clear(detail);
	if (!(WIFEXITED(status) && WEXITSTATUS(status) == 0) || p->output.len == 0)
		run_say(detail, "%s", process_status_text(status, how, sizeof(how)));
	run_program_tell(p, detail);
}

enum run_end run_program_step(struct run_program *p, struct buf *detail)
{
	int status = 0, r;

	if (run_program_is_idle(p))
		return RUN_FAILED;
	read_output(p);
	if (!has_ended(p))
		return RUN_UNDER_WAY;
	/* What it left behind goes with it, before the number can become somebody else's. */
	process_kill(&p->process, SIGKILL);
	r = process_poll(&p->process, &status);
	if (r == 0)
		return RUN_UNDER_WAY;
	read_output(p);
	close_fd(&p->output_fd);
	close_fd(&p->pid_fd);
	p->process = (struct process){ 0 };
	p->status = status;
	if (r < 0) {
		run_say(detail, "how it ended is not known: %s", err_text(r));
		return RUN_FAILED;
	}
	tell_end(p, status, detail);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? RUN_HELD : RUN_FAILED;
}

void run_program_kill(struct run_program *p)
{
	if (!run_program_is_idle(p))
		process_kill(&p->process, SIGKILL);
}

bool run_program_is_idle(const struct run_program *p)
{
	return p->process.pid == 0;
}

void run_program_done(struct run_program *p)
{
	if (!run_program_is_idle(p)) {
		process_kill(&p->process, SIGKILL);
		process_end(&p->process, 0);
	}
	close_fd(&p->output_fd);
	close_fd(&p->pid_fd);
	buf_done(&p->output);
}
