#include "os/durable.h"

#include "base/err.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	NAME_BYTES = 255,
	/* Deeper folders are moved up before they are removed, so that no tree exhausts stack or descriptors. */
	REMOVE_DEPTH = 64,
	LIST_MAX = 1100000,
};

/* Where a name lives: the descriptor of its folder, ours to close if `owned`. */
struct place {
	int dirfd;
	bool owned;
	const char *name;
};

static int parts_open(const struct os *os, int dirfd, const char *path)
{
	char part[NAME_BYTES + 1];
	int fd = dirfd;

	for (;;) {
		size_t n = strcspn(path, "/");
		int next;

		memcpy(part, path, n); /* guard_path: at most 255 */
		part[n] = '\0';
		next = os->openat(os, fd, part, O_RDONLY | O_DIRECTORY, 0);
		if (fd != dirfd)
			(void) os->close(os, fd); /* opened for reading: nothing can be lost */
		if (next < 0 || path[n] == '\0')
			return next;
		fd = next;
		path += n + 1;
	}
}

int dir_open(const struct os *os, int dirfd, const char *path)
{
	char text[4096];
	int n;

	if (strcmp(path, ".") == 0)
		return os->openat(os, dirfd, ".", O_RDONLY | O_DIRECTORY, 0);
	if (dirfd != AT_FDCWD)
		return guard_path(path) ? parts_open(os, dirfd, path) : -ERR_NAME;
	/* An operator's own path may hold links, also in the last part, which "/." makes an inner one. */
	n = snprintf(text, sizeof(text), "%s/.", path);
	if (n < 0 || (size_t) n >= sizeof(text))
		return -ENAMETOOLONG;
	return os->openat(os, AT_FDCWD, text, O_RDONLY | O_DIRECTORY, 0);
}

static int place_open(const struct os *os, int dirfd, const char *path, struct place *ret)
{
	const char *slash = strrchr(path, '/');
	char parent[4096];
	int fd;

	if (!slash) {
		*ret = (struct place){ .dirfd = dirfd, .owned = false, .name = path };
		return *path && strlen(path) <= NAME_BYTES ? 0 : -ERR_NAME;
	}
	if (!slash[1] || strlen(slash + 1) > NAME_BYTES || (size_t) (slash - path) >= sizeof(parent))
		return -ERR_NAME;
	memcpy(parent, path, (size_t) (slash - path));
	parent[slash - path] = '\0';
	fd = dir_open(os, dirfd, parent);
	if (fd < 0)
		return fd;
	*ret = (struct place){ .dirfd = fd, .owned = true, .name = slash + 1 };
	return 0;
}

static void place_close(const struct os *os, struct place *p)
{
	if (p->owned)
		(void) os->close(os, p->dirfd); /* a folder opened for reading */
	p->owned = false;
}

/* fsync the folder of a place, also when it is the working directory. */
static int place_sync(const struct os *os, const struct place *p)
{
	return p->dirfd == AT_FDCWD ? dir_sync(os, AT_FDCWD, ".") : os->fsync(os, p->dirfd);
}

/* A name nobody uses, which says what it is: ".NAME.RANDOM.pending". */
static int pending_name(const struct os *os, const char *name, char ret[static NAME_BYTES + 1])
{
	uint8_t random[8];
	char hex[2 * sizeof(random) + 1];
	int r;

	r = os->random(os, random, sizeof(random));
	if (r < 0)
		return r;
	hex_encode(hex, random, sizeof(random));
	(void) snprintf(ret, NAME_BYTES + 1, ".%.200s.%s.pending", name, hex); /* always fits */
	return 0;
}

int file_write_all(const struct os *os, int fd, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len > 0) {
		ssize_t n = os->write(os, fd, p, len);

		if (n < 0)
			return (int) n;
		if (n == 0)
			return -EIO; /* no regular file does this; never spin */
		p += n;
		len -= (size_t) n;
	}
	return 0;
}

static int write_new(const struct os *os, int dirfd, const char *name, const void *data, size_t len, mode_t mode)
{
	int fd, r, closed;

	fd = os->openat(os, dirfd, name, O_WRONLY | O_CREAT | O_EXCL, mode & 0700);
	if (fd < 0)
		return fd;
	r = file_write_all(os, fd, data, len);
	if (r == 0)
		r = os->fchmod(os, fd, mode); /* exactly this one, whatever the umask */
	if (r == 0)
		r = os->fsync(os, fd);
	closed = os->close(os, fd);
	return r < 0 ? r : closed;
}

int durable_write_file(const struct os *os, int dirfd, const char *name, const void *data, size_t len, mode_t mode)
{
	char pending[NAME_BYTES + 1];
	struct place p;
	int r;

	r = place_open(os, dirfd, name, &p);
	if (r < 0)
		return r;
	r = pending_name(os, p.name, pending);
	if (r < 0)
		goto out;
	r = write_new(os, p.dirfd, pending, data, len, mode);
	if (r == 0)
		r = os->renameat(os, p.dirfd, pending, p.dirfd, p.name);
	if (r < 0) {
		(void) os->unlinkat(os, p.dirfd, pending, 0); /* the clean-up at start removes what we cannot */
		goto out;
	}
	r = place_sync(os, &p);
out:
	place_close(os, &p);
	return r;
}

int durable_link_replace(const struct os *os, int dirfd, const char *target, const char *name)
{
	char pending[NAME_BYTES + 1];
	struct place p;
	int r;

	r = place_open(os, dirfd, name, &p);
	if (r < 0)
		return r;
	r = pending_name(os, p.name, pending);
	if (r < 0)
		goto out;
	r = os->symlinkat(os, target, p.dirfd, pending);
	if (r < 0)
		goto out;
	r = os->renameat(os, p.dirfd, pending, p.dirfd, p.name);
	if (r < 0) {
		(void) os->unlinkat(os, p.dirfd, pending, 0); /* the clean-up at start removes what we cannot */
		goto out;
	}
	r = place_sync(os, &p);
out:
	place_close(os, &p);
	return r;
}

/* 1: made, 0: was a directory already. */
static int make_dir(const struct os *os, int dirfd, const char *name, mode_t mode)
{
	struct stat st;
	int fd, r;

	r = os->mkdirat(os, dirfd, name, mode);
	if (r == -EEXIST) {
		r = os->fstatat(os, dirfd, name, &st);
		if (r < 0)
			return r;
		return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
	}
	if (r < 0)
		return r;
	fd = os->openat(os, dirfd, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	r = os->fchmod(os, fd, mode); /* exactly this one, whatever the umask */
	(void) os->close(os, fd); /* opened for reading */
	return r < 0 ? r : 1;
}

int durable_mkdir(const struct os *os, int dirfd, const char *name, mode_t mode)
{
	struct place p;
	int r;

	r = place_open(os, dirfd, name, &p);
	if (r < 0)
		return r;
	r = make_dir(os, p.dirfd, p.name, mode);
	if (r >= 0)
		r = place_sync(os, &p); /* also an existing one: whoever made it may not have come that far */
	place_close(os, &p);
	return r;
}

int dir_make_path(const struct os *os, int dirfd, const char *path, mode_t mode)
{
	char part[NAME_BYTES + 1];
	int fd = dirfd, r = 0;

	if (!guard_path(path))
		return -ERR_NAME;
	for (;;) {
		size_t n = strcspn(path, "/");
		int next = -1;

		memcpy(part, path, n);
		part[n] = '\0';
		r = make_dir(os, fd, part, mode);
		if (r >= 0 && path[n] == '/') {
			next = os->openat(os, fd, part, O_RDONLY | O_DIRECTORY, 0);
			r = next < 0 ? next : 0;
		}
		if (fd != dirfd)
			(void) os->close(os, fd); /* opened for reading */
		if (r < 0 || path[n] == '\0')
			return r < 0 ? r : 0;
		fd = next;
		path += n + 1;
	}
}

static int read_all(const struct os *os, int fd, size_t max, struct buf *ret)
{
	size_t start = ret->len;
	struct stat st;
	int r;

	r = os->fstat(os, fd, &st);
	if (r < 0)
		return r;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	if ((uint64_t) st.st_size > max)
		return -ERR_TOO_LARGE;
	for (;;) {
		uint8_t chunk[16384];
		ssize_t n = os->read(os, fd, chunk, sizeof(chunk));

		if (n < 0)
			return (int) n;
		if (n == 0)
			return 0;
		if ((size_t) n > max - (ret->len - start))
			return -ERR_TOO_LARGE; /* it grew while we read */
		r = buf_add(ret, chunk, (size_t) n);
		if (r < 0)
			return r;
	}
}

int file_read(const struct os *os, int dirfd, const char *name, size_t max, struct buf *ret)
{
	size_t start = ret->len;
	struct place p;
	int fd, r;

	r = place_open(os, dirfd, name, &p);
	if (r < 0)
		return r;
	/* Non-blocking: opening a fifo somebody put there must not wait for a writer. */
	fd = os->openat(os, p.dirfd, p.name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	place_close(os, &p);
	if (fd < 0)
		return fd;
	r = read_all(os, fd, max, ret);
	(void) os->close(os, fd); /* opened for reading */
	if (r < 0 && ret->data) {
		ret->len = start;
		ret->data[start] = '\0';
	}
	return r;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

static int list_add(struct name_list *list, size_t *capacity, const char *name)
{
	if (list->count >= LIST_MAX)
		return -ERR_TOO_LARGE;
	if (list->count == *capacity) {
		size_t more = *capacity ? *capacity * 2 : 32;
		char **names = reallocarray(list->names, more, sizeof(*names));

		if (!names)
			return -ENOMEM;
		list->names = names;
		*capacity = more;
	}
	list->names[list->count] = strdup(name);
	if (!list->names[list->count])
		return -ENOMEM;
	list->count++;
	return 0;
}

/* Takes `fd`. */
static int list_fd(const struct os *os, int fd, struct name_list *ret)
{
	struct name_list list = { NULL, 0 };
	size_t capacity = 0;
	int r = 0;
	DIR *dir;

	dir = fdopendir(fd);
	if (!dir) {
		r = -errno;
		(void) os->close(os, fd); /* opened for reading */
		return r;
	}
	for (;;) {
		const struct dirent *entry;

		errno = 0;
		entry = readdir(dir);
		if (!entry) {
			r = -errno;
			break;
		}
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		r = list_add(&list, &capacity, entry->d_name);
		if (r < 0)
			break;
	}
	(void) closedir(dir); /* opened for reading */
	if (r < 0) {
		name_list_done(&list);
		return r;
	}
	if (list.count > 0)
		qsort(list.names, list.count, sizeof(*list.names), compare_names);
	*ret = list;
	return 0;
}

int dir_list(const struct os *os, int dirfd, const char *path, struct name_list *ret)
{
	int fd = dir_open(os, dirfd, path);

	return fd < 0 ? fd : list_fd(os, fd, ret);
}

void name_list_done(struct name_list *list)
{
	if (!list)
		return;
	for (size_t i = 0; i < list->count; i++)
		free(list->names[i]);
	free(list->names);
	*list = (struct name_list){ NULL, 0 };
}

int dir_sync(const struct os *os, int dirfd, const char *path)
{
	int fd, r;

	fd = dir_open(os, dirfd, path);
	if (fd < 0)
		return fd;
	r = os->fsync(os, fd);
	(void) os->close(os, fd); /* opened for reading */
	return r;
}

struct removal {
	const struct os *os;
	int top; /* the folder being removed: deep folders are moved into it */
	dev_t device;
	unsigned moved;
};

static int remove_entry(struct removal *m, int dirfd, const char *name, unsigned depth);

static int remove_content(struct removal *m, int fd, const struct stat *st, unsigned depth)
{
	CLEANUP(name_list_done)
	struct name_list names = { NULL, 0 };
	int r;

	if ((st->st_mode & 0700) != 0700) {
		r = m->os->fchmod(m->os, fd, 0700); /* our own folder without write permission for us */
		if (r < 0)
			return r;
	}
	r = dir_list(m->os, fd, ".", &names);
	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = remove_entry(m, fd, names.names[i], depth);
	return r;
}

static int remove_dir(struct removal *m, int dirfd, const char *name, unsigned depth)
{
	const struct os *os = m->os;
	char moved[NAME_BYTES + 1];
	struct stat st;
	int fd, r;

	if (depth >= REMOVE_DEPTH) {
		do { /* a hostile tree may hold such names already */
			(void) snprintf(moved, sizeof(moved), ".deep-%u", m->moved++); /* always fits */
			r = os->renameat(os, dirfd, name, m->top, moved);
		} while ((r == -ENOTEMPTY || r == -EEXIST || r == -ENOTDIR) && m->moved < LIST_MAX);
		return r;
	}
	fd = os->openat(os, dirfd, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	r = os->fstat(os, fd, &st);
	if (r == 0 && st.st_dev != m->device)
		r = -EXDEV;
	if (r == 0)
		r = remove_content(m, fd, &st, depth + 1);
	(void) os->close(os, fd); /* opened for reading */
	if (r < 0)
		return r;
	r = os->unlinkat(os, dirfd, name, AT_REMOVEDIR);
	return r == -ENOENT ? 0 : r;
}

static int remove_entry(struct removal *m, int dirfd, const char *name, unsigned depth)
{
	struct stat st;
	int r;

	r = m->os->fstatat(m->os, dirfd, name, &st);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (S_ISDIR(st.st_mode))
		return remove_dir(m, dirfd, name, depth);
	r = m->os->unlinkat(m->os, dirfd, name, 0);
	return r == -ENOENT ? 0 : r;
}

static int remove_top(const struct os *os, int dirfd, const char *name, const struct stat *st)
{
	struct removal m = { .os = os, .top = -1, .device = st->st_dev, .moved = 0 };
	struct stat opened;
	unsigned moved;
	int r;

	m.top = os->openat(os, dirfd, name, O_RDONLY | O_DIRECTORY, 0);
	if (m.top < 0)
		return m.top == -ENOENT ? 0 : m.top;
	r = os->fstat(os, m.top, &opened);
	if (r == 0 && (opened.st_dev != st->st_dev || opened.st_ino != st->st_ino))
		r = -EBUSY; /* exchanged under our hands */
	/* Another round for what was moved up; each takes REMOVE_DEPTH levels off. */
	while (r == 0) {
		moved = m.moved;
		r = remove_content(&m, m.top, &opened, 0);
		if (m.moved == moved)
			break;
	}
	(void) os->close(os, m.top); /* opened for reading */
	if (r < 0)
		return r;
	r = os->unlinkat(os, dirfd, name, AT_REMOVEDIR);
	return r == -ENOENT ? 0 : r;
}

int tree_remove(const struct os *os, int dirfd, const char *name)
{
	struct stat st, parent;
	struct place p;
	int r;

	r = place_open(os, dirfd, name, &p);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = os->fstatat(os, p.dirfd, p.name, &st);
	if (r == 0 && !S_ISDIR(st.st_mode))
		r = os->unlinkat(os, p.dirfd, p.name, 0);
	else if (r == 0) {
		r = os->fstatat(os, p.dirfd, ".", &parent);
		if (r == 0 && parent.st_dev != st.st_dev)
			r = -EXDEV;
		if (r == 0)
			r = remove_top(os, p.dirfd, p.name, &st);
	}
	place_close(os, &p);
	return r == -ENOENT ? 0 : r;
}
