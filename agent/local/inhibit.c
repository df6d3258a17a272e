#include "agent/local/inhibit.h"

#include "base/err.h"
#include "base/log.h"
#include "base/text.h"
#include "os/durable.h"
#include "os/process.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_PREFIX "lock-"

enum { FILE_MAX = 64 * 1024, NAME_SIZE = 64 };

struct lock {
	pid_t pid; /* 0: free */
	int fd; /* of the process */
	struct inhibitor says;
};

struct inhibitors {
	const struct os *os;
	int dirfd, notify; /* notify -1: the kernel has none left for us; looked at when asked */
	char boot_id[40];
	bool changed;
	struct lock locks[INHIBIT_LOCKS_MAX];
};

/* What people write is shown on terminals and in reports. */
static void keep_printable(char *out, size_t size, const char *text, size_t len)
{
	size_t n = 0;

	for (; n < len && n + 1 < size && text[n] && text[n] != '\n'; n++)
		out[n] = text[n] >= 0x20 && text[n] < 0x7f ? text[n] : '?';
	out[n] = '\0';
}

static void lock_name(pid_t pid, char out[static NAME_SIZE])
{
	(void) snprintf(out, NAME_SIZE, LOCK_PREFIX "%ld", (long) pid);
}

static void lock_drop(struct inhibitors *i, struct lock *k)
{
	char name[NAME_SIZE];

	lock_name(k->pid, name);
	/* A record that stays names a process that is gone, which its start time shows. */
	(void) i->os->unlinkat(i->os, i->dirfd, name, 0);
	log_notice("inhibitor-gone", "%s", k->says.who);
	close(k->fd);
	*k = (struct lock){ .pid = 0 };
	i->changed = true;
}

static bool has_ended(const struct lock *k)
{
	struct pollfd p = { .fd = k->fd, .events = POLLIN };

	return poll(&p, 1, 0) != 0;
}

static void drop_ended(struct inhibitors *i)
{
	for (size_t n = 0; n < INHIBIT_LOCKS_MAX; n++)
		if (i->locks[n].pid && has_ended(&i->locks[n]))
			lock_drop(i, &i->locks[n]);
}

static struct lock *lock_of(struct inhibitors *i, pid_t pid)
{
	for (size_t n = 0; n < INHIBIT_LOCKS_MAX; n++)
		if (i->locks[n].pid == pid)
			return &i->locks[n];
	return NULL;
}

static void lock_fill(struct lock *k, pid_t pid, int fd, uid_t uid, const char *why, int64_t since)
{
	struct passwd *pw = getpwuid(uid);

	*k = (struct lock){ .pid = pid, .fd = fd, .says = { .since = since } };
	if (pw)
		(void) snprintf(k->says.who, sizeof(k->says.who), "pid %ld of %.40s", (long) pid, pw->pw_name);
	else
		(void) snprintf(k->says.who, sizeof(k->says.who), "pid %ld of user %lu", (long) pid,
				(unsigned long) uid);
	keep_printable(k->says.why, sizeof(k->says.why), why, strlen(why));
}

/* "<boot id> <pid> <start> <uid> <since>\n<why>\n", written whole or not at all. */
static int record_write(struct inhibitors *i, const struct lock *k, uid_t uid, uint64_t ticks)
{
	char name[NAME_SIZE], text[INHIBIT_WHY_MAX + 160];
	int len;

	lock_name(k->pid, name);
	len = snprintf(text, sizeof(text), "%s %ld %llu %lu %lld\n%s\n", i->boot_id, (long) k->pid,
		       (unsigned long long) ticks, (unsigned long) uid, (long long) k->says.since, k->says.why);
	return durable_write_file(i->os, i->dirfd, name, text, (size_t) len, 0644);
}

/* 1: it is a record, and its process lives and is taken up; 0: a record of one that is gone; negative: no record. */
static int record_adopt(struct inhibitors *i, const char *name, const char *text)
{
	char boot_id[40];
	long pid = 0;
	unsigned long uid = 0;
	unsigned long long start = 0;
	long long since = 0;
	int used = 0, fd;
	uint64_t ticks = 0;
	struct lock *k;
	char expected[NAME_SIZE];

	if (sscanf(text, "%39s %9ld %20llu %10lu %19lld%n", boot_id, &pid, &start, &uid, &since, &used) != 5 ||
	    text[used] != '\n' || pid < 2)
		return -ERR_SYNTAX;
	lock_name((pid_t) pid, expected);
	if (!str_eq(expected, name))
		return -ERR_SYNTAX;
	if (!str_eq(boot_id, i->boot_id))
		return 0;
	if (lock_of(i, (pid_t) pid))
		return 1;
	/* The descriptor first: from here on it is the process looked at, or the start times differ. */
	fd = process_open((pid_t) pid);
	if (fd < 0)
		return 0;
	k = process_start_time((pid_t) pid, &ticks) == 0 && ticks == start ? lock_of(i, 0) : NULL;
	if (!k) {
		close(fd);
		return 0;
	}
	lock_fill(k, (pid_t) pid, fd, (uid_t) uid, text + used + 1, since);
	log_info("inhibitor-found", "%s", k->says.who);
	return 1;
}

static bool is_looked_at(const char *name)
{
	size_t len = strlen(name);

	return name[0] != '.' && (len < 8 || strcmp(name + len - 8, ".pending") != 0);
}

static void describe_file(struct inhibitors *i, const char *name, const char *text, size_t len,
			  struct inhibitor *out)
{
	char shown[60];
	struct stat st;

	*out = (struct inhibitor){ .since = 0 };
	keep_printable(shown, sizeof(shown), name, strlen(name));
	(void) snprintf(out->who, sizeof(out->who), "the file %s", shown);
	keep_printable(out->why, sizeof(out->why), text, len);
	if (i->os->fstatat(i->os, i->dirfd, name, &st) == 0)
		out->since = st.st_mtime;
}

/* Is there an inhibitor behind this name that is no lock? */
static bool look_at(struct inhibitors *i, const char *name, struct inhibitor *out)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(FILE_MAX);
	int r = is_looked_at(name) ? file_read(i->os, i->dirfd, name, FILE_MAX, &text) : -ENOENT;

	/* A folder or a link is nobody's word; a file that cannot be read is one that is there. */
	if (r == -ENOENT || r == -EISDIR || r == -EINVAL || r == -ELOOP)
		return false;
	if (r == 0 && str_starts(name, LOCK_PREFIX)) {
		int adopted = record_adopt(i, name, buf_str(&text));

		if (adopted == 0)
			(void) i->os->unlinkat(i->os, i->dirfd, name, 0); /* else the next look removes it */
		if (adopted >= 0)
			return false;
	}
	describe_file(i, name, r == 0 ? buf_str(&text) : "", r == 0 ? text.len : 0, out);
	return true;
}

size_t inhibitors_list(struct inhibitors *i, struct inhibitor *out, size_t max)
{
	struct name_list names = { 0 };
	size_t count = 0;

	drop_ended(i);
	if (dir_list(i->os, i->dirfd, ".", &names) == 0)
		for (size_t n = 0; n < names.count && count < max; n++)
			count += look_at(i, names.names[n], &out[count]);
	name_list_done(&names);
	for (size_t n = 0; n < INHIBIT_LOCKS_MAX && count < max; n++)
		if (i->locks[n].pid)
			out[count++] = i->locks[n].says;
	return count;
}

int inhibitors_open(const struct os *os, const char *run, const char *boot_id, struct inhibitors **ret)
{
	struct inhibitor ignored[INHIBIT_LIST_MAX];
	struct inhibitors *i;
	char *path = NULL;
	int rundir, r;

	rundir = os->openat(os, AT_FDCWD, run, O_RDONLY | O_DIRECTORY, 0);
	if (rundir < 0)
		return rundir;
	i = calloc(1, sizeof(*i));
	if (!i || asprintf(&path, "%s/inhibit", run) < 0) {
		(void) os->close(os, rundir); /* nothing was written */
		free(i);
		return -ENOMEM;
	}
	i->os = os;
	i->notify = -1;
	(void) snprintf(i->boot_id, sizeof(i->boot_id), "%s", boot_id);
	r = durable_mkdir(os, rundir, "inhibit", 0755);
	if (r == 0)
		r = i->dirfd = dir_open(os, rundir, "inhibit");
	(void) os->close(os, rundir); /* nothing was written through it */
	if (r < 0) {
		free(path);
		free(i);
		return r;
	}
	i->notify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (i->notify >= 0 &&
	    inotify_add_watch(i->notify, path,
			      IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_CLOSE_WRITE) < 0) {
		close(i->notify);
		i->notify = -1;
	}
	free(path);
	(void) inhibitors_list(i, ignored, ARRAY_LEN(ignored)); /* takes up the locks of a former run */
	*ret = i;
	return 0;
}

void inhibitors_close(struct inhibitors *i)
{
	if (!i)
		return;
	for (size_t n = 0; n < INHIBIT_LOCKS_MAX; n++)
		if (i->locks[n].pid)
			close(i->locks[n].fd);
	if (i->notify >= 0)
		close(i->notify);
	(void) i->os->close(i->os, i->dirfd); /* every write was synced on its own */
	free(i);
}

int inhibitors_take(struct inhibitors *i, pid_t pid, uid_t uid, const char *why)
{
	struct lock *k, lock;
	uint64_t ticks = 0;
	int fd, r;

	if (pid < 2)
		return -ESRCH;
	drop_ended(i);
	k = lock_of(i, pid);
	if (!k)
		k = lock_of(i, 0);
	if (!k)
		return -ERR_TOO_LARGE;
	fd = process_open(pid);
	if (fd < 0)
		return fd;
	lock_fill(&lock, pid, fd, uid, why, i->os->clock_real(i->os));
	r = process_start_time(pid, &ticks);
	if (r == 0)
		r = record_write(i, &lock, uid, ticks);
	if (r < 0) {
		close(fd);
		return r;
	}
	if (k->pid)
		close(k->fd);
	*k = lock;
	i->changed = true;
	log_notice("inhibitor-taken", "%s: %s", k->says.who, k->says.why);
	return 0;
}

int inhibitors_release(struct inhibitors *i, pid_t pid)
{
	struct lock *k = pid > 1 ? lock_of(i, pid) : NULL;

	if (!k)
		return -ENOENT;
	lock_drop(i, k);
	return 0;
}

size_t inhibitors_prepare(const struct inhibitors *i, struct pollfd *fds)
{
	size_t count = 0;

	if (i->notify >= 0)
		fds[count++] = (struct pollfd){ .fd = i->notify, .events = POLLIN };
	for (size_t n = 0; n < INHIBIT_LOCKS_MAX; n++)
		if (i->locks[n].pid)
			fds[count++] = (struct pollfd){ .fd = i->locks[n].fd, .events = POLLIN };
	return count;
}

bool inhibitors_changed(struct inhibitors *i)
{
	char events[4096];
	bool changed;

	while (i->notify >= 0 && read(i->notify, events, sizeof(events)) > 0)
		i->changed = true;
	drop_ended(i);
	changed = i->changed;
	i->changed = false;
	return changed;
}
