#include "agent/local/service_log.h"

#include "agent/local/config.h"
#include "base/err.h"
#include "base/log.h"
#include "conf/conf.h"
#include "os/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_SIZE = 2 * ID_MAX + 16, AGAIN_MS = 1000, SETTLE_ROUND_MS = 5, SETTLE_ROUNDS = 60 };

static void file_name(const struct service_log_place *p, const char *suffix, char out[static NAME_SIZE])
{
	(void) snprintf(out, NAME_SIZE, "%s.%s", p->name, suffix);
}

static bool has_ended(const struct service_log *l)
{
	struct pollfd f = { .fd = l->pidfd, .events = POLLIN };

	return l->pidfd < 0 || poll(&f, 1, 0) > 0; /* a look that fails says nothing */
}

static int open_reader(const struct service_log_place *p)
{
	char name[NAME_SIZE];
	struct stat st;
	int fd;

	file_name(p, "out", name);
	/* Without waiting for a writer; then to wait for what it writes. */
	fd = p->os->openat(p->os, p->dirfd, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd;
	if (p->os->fstat(p->os, fd, &st) < 0 || !S_ISFIFO(st.st_mode) || fcntl(fd, F_SETFL, 0) < 0) {
		(void) p->os->close(p->os, fd); /* nothing was done with it */
		return -EINVAL;
	}
	return fd;
}

static int open_file(const struct service_log_place *p)
{
	char name[NAME_SIZE];

	file_name(p, "log", name);
	return p->os->openat(p->os, p->dirfd, name, O_RDWR | O_CREAT | O_NOFOLLOW, 0640);
}

static int start(const struct service_log_place *p, struct service_log *l)
{
	struct conf_error error = { "" };
	struct process process = { 0 };
	const char *argv[] = { NULL, NULL, NULL };
	char max[24], *program = NULL;
	int reader, file, r;

	r = config_program(p->config, "selfright-log", &program, &error);
	if (r < 0)
		return r;
	reader = open_reader(p);
	file = reader < 0 ? reader : open_file(p);
	if (file < 0) {
		if (reader >= 0)
			(void) p->os->close(p->os, reader); /* nothing was read */
		free(program);
		return file;
	}
	(void) snprintf(max, sizeof(max), "%d", SERVICE_LOG_MAX_BYTES);
	argv[0] = program;
	argv[1] = max;
	r = process_start(
		&(struct process_options){
			.argv = argv,
			.user = geteuid() == 0 ? p->config->users.link : NULL,
			.new_session = true,
			.stdin_fd = reader,
			.stdout_fd = -1,
			.stderr_fd = -1,
			.fds = { { file, 3 } },
			.fd_count = 1,
			.no_new_privs = true,
		},
		&process);
	(void) p->os->close(p->os, reader); /* the logger has its own */
	(void) p->os->close(p->os, file); /* the same */
	free(program);
	if (r < 0)
		return r;
	l->pid = process.pid;
	l->pidfd = process_open(process.pid);
	if (process_start_time(process.pid, &l->start) < 0)
		l->start = 0; /* a later run of the agent will start another */
	return 0;
}

int service_log_begin(const struct service_log_place *p, struct service_log *l)
{
	char name[NAME_SIZE];
	uid_t uid;
	gid_t gid;
	int fd, r;

	service_log_done(l);
	file_name(p, "out", name);
	/* Whoever holds the old one still shares nothing with the new. */
	r = p->os->unlinkat(p->os, p->dirfd, name, 0);
	if (r < 0 && r != -ENOENT)
		return r;
	if (mkfifoat(p->dirfd, name, 0600) < 0)
		return -errno;
	if (p->service_user && geteuid() == 0 && process_find_user(p->service_user, &uid, &gid) == 0)
		(void) p->os->fchownat(p->os, p->dirfd, name, uid, gid); /* else it only writes */
	fd = p->os->openat(p->os, p->dirfd, name, O_RDWR | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd;
	r = start(p, l);
	if (r < 0) {
		(void) p->os->close(p->os, fd); /* nothing was written */
		return r;
	}
	return fd;
}

void service_log_adopt(struct service_log *l, pid_t pid, uint64_t start_ticks)
{
	uint64_t ticks = 0;
	int fd = pid > 1 ? process_open(pid) : -1;

	service_log_done(l);
	if (fd < 0)
		return;
	if (process_start_time(pid, &ticks) < 0 || ticks != start_ticks) {
		close(fd);
		return;
	}
	l->pid = pid;
	l->start = start_ticks;
	l->pidfd = fd;
}

/* Does the service, or what it started, hold the pipe still? It reads there too, so it can be opened for writing. */
static bool is_held(const struct service_log_place *p)
{
	char name[NAME_SIZE];
	int fd;

	file_name(p, "out", name);
	fd = p->os->openat(p->os, p->dirfd, name, O_WRONLY | O_NONBLOCK | O_NOFOLLOW, 0);
	if (fd < 0)
		return false;
	(void) p->os->close(p->os, fd); /* nothing was written */
	return true;
}

bool service_log_revive(const struct service_log_place *p, struct service_log *l, uint64_t now_ms)
{
	uint64_t again_ms = l->again_ms;
	int r;

	if (!has_ended(l))
		return false;
	service_log_done(l);
	l->again_ms = again_ms;
	if (now_ms < again_ms)
		return false;
	if (!is_held(p)) {
		/* It prints elsewhere, or was started by an agent that had no pipes. */
		l->again_ms = UINT64_MAX;
		return false;
	}
	r = start(p, l);
	l->again_ms = now_ms + AGAIN_MS;
	if (r < 0) {
		log_warning("service-log", "output waits in the pipe: service=%s reason=%s", p->name, err_text(r));
	} else {
		log_notice("service-log-again", "service=%s pid=%d", p->name, (int) l->pid);
	}
	return r == 0;
}

void service_log_settle(const struct service_log_place *p, const struct service_log *l)
{
	struct pollfd f = { .fd = l->pidfd, .events = POLLIN };
	int reader = l->pidfd < 0 ? -1 : open_reader(p), empty = 0;

	/* Two looks at an empty pipe: what the logger took before the first it has written by the second. */
	for (int i = 0; reader >= 0 && i < SETTLE_ROUNDS && empty < 2; i++) {
		int waiting = 0;

		if (poll(&f, 1, SETTLE_ROUND_MS) != 0)
			break; /* it has ended: all is written */
		empty = ioctl(reader, FIONREAD, &waiting) == 0 && waiting == 0 ? empty + 1 : 0;
	}
	if (reader >= 0)
		(void) p->os->close(p->os, reader); /* nothing was read */
}

void service_log_done(struct service_log *l)
{
	if (l->pidfd >= 0)
		close(l->pidfd);
	*l = (struct service_log) SERVICE_LOG_INIT;
}
