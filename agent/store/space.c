#include "agent/store/space.h"

#include "base/err.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

enum { DEPTH_MAX = 512 }; /* no path of a tree of ours has more parts; a descriptor each */

struct walk {
	const struct os *os;
	dev_t device;
	struct space used;
};

static int add_folder(struct walk *w, int fd, unsigned depth);

static int add_entry(struct walk *w, int dirfd, const char *name, unsigned depth)
{
	struct stat st;
	int fd, r = w->os->fstatat(w->os, dirfd, name, &st);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (st.st_dev != w->device)
		return 0;
	/* Shared by as many names as it has: each brings its part. */
	w->used.bytes +=
		(uint64_t) st.st_blocks * 512 / (S_ISDIR(st.st_mode) || st.st_nlink == 0 ? 1 : st.st_nlink);
	w->used.files++;
	if (!S_ISDIR(st.st_mode))
		return 0;
	/* Below it is a component's own data: who makes it endless, or exchanges it, holds up only what is his. */
	if (depth >= DEPTH_MAX)
		return 0;
	fd = w->os->openat(w->os, dirfd, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? 0 : fd;
	r = add_folder(w, fd, depth + 1);
	(void) w->os->close(w->os, fd); /* a folder opened for reading */
	return r;
}

static int add_folder(struct walk *w, int fd, unsigned depth)
{
	CLEANUP(name_list_done)
	struct name_list names = { NULL, 0 };
	int r = dir_list(w->os, fd, ".", &names);

	if (r == -ERR_TOO_LARGE)
		return 0; /* more than a million names in one folder are nobody's but a component's */
	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = add_entry(w, fd, names.names[i], depth);
	return r;
}

int space_used(const struct os *os, int dirfd, struct space *ret)
{
	struct walk w = { .os = os };
	struct stat st;
	int r = os->fstat(os, dirfd, &st);

	if (r < 0)
		return r;
	w.device = st.st_dev;
	r = add_folder(&w, dirfd, 0);
	if (r == 0)
		*ret = w.used;
	return r;
}
