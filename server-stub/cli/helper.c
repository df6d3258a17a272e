#include "server-stub/cli/helper.h"

#include "server-stub/cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

/* A descriptor from which the text is read; in memory, so that nobody waits for the reader. */
static int text_fd(const struct buf *text)
{
	int fd = memfd_create("question", MFD_CLOEXEC), r = fd < 0 ? -errno : 0;
	size_t done = 0;

	while (r == 0 && done < text->len) {
		ssize_t n = write(fd, text->data + done, text->len - done);

		if (n > 0)
			done += (size_t) n;
		else if (errno != EINTR)
			r = n < 0 ? -errno : -EIO;
	}
	if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
		r = -errno;
	if (r < 0 && fd >= 0)
		(void) close(fd); /* only memory */
	return r < 0 ? r : fd;
}

static int start(const char *name, int question, struct helper *h)
{
	CLEANUP(buf_done)
	struct buf program = BUF_INIT(PATH_MAX);
	const char *argv[] = { NULL, NULL };
	struct process_options o = {
		.argv = argv, .killed_with_parent = true, .stdin_fd = question, .stderr_fd = STDERR_FILENO
	};
	int pipe_fds[2], r = cli_program(name, &program);

	if (r < 0)
		return r;
	argv[0] = buf_str(&program);
	if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	o.stdout_fd = pipe_fds[1];
	r = process_start(&o, &h->process);
	(void) close(pipe_fds[1]); /* the child has its own */
	if (r < 0)
		(void) close(pipe_fds[0]); /* nothing was written to it */
	else
		h->fd = pipe_fds[0];
	return r;
}

int helper_start(const char *program, const struct buf *question, size_t answer_max, uint64_t end_ms,
		 struct helper *ret)
{
	struct helper h = { .busy = true, .end_ms = end_ms };
	int fd = text_fd(question), r;

	if (fd < 0)
		return fd;
	r = start(program, fd, &h);
	(void) close(fd); /* the child has its own */
	if (r < 0)
		return r;
	buf_init(&h.answer, answer_max);
	*ret = h;
	return 0;
}

/* What it has said so far; more than it may say is as good as nothing. */
static void hear(struct helper *h)
{
	char chunk[16 * 1024];
	ssize_t n;

	while ((n = read(h->fd, chunk, sizeof(chunk))) > 0)
		if (buf_add(&h->answer, chunk, (size_t) n) < 0) {
			process_kill(&h->process, SIGKILL);
			return;
		}
}

int helper_poll(struct helper *h, uint64_t now_ms, int *ret_status)
{
	int ended;

	hear(h);
	ended = process_poll(&h->process, ret_status);
	if (ended == 0) {
		/* Its own deadlines have failed it; it is reaped in a later round. */
		if (now_ms > h->end_ms)
			process_kill(&h->process, SIGKILL);
		return 0;
	}
	hear(h);
	return ended;
}

void helper_done(struct helper *h)
{
	if (!h->busy)
		return;
	if (h->process.pid > 0) /* not reaped yet */
		process_end(&h->process, 0);
	(void) close(h->fd); /* read only */
	buf_done(&h->answer);
	*h = (struct helper){ .busy = false };
}
