#include "support/os_crash.h"

#include "base/buf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { CONTENT_MAX = 64 * 1024 * 1024, NAME_BYTES = 256 };

struct node;

struct entry {
	char name[NAME_BYTES];
	struct node *node;
};

struct entries {
	struct entry *list;
	size_t count;
};

/* A change of bytes that no fsync followed: data at an offset, or (data NULL) a new size. */
struct change {
	uint64_t offset;
	size_t len;
	uint8_t *data;
};

struct node {
	struct node *next;
	char type; /* 'f', 'd', 'l' */
	dev_t device;
	ino_t inode; /* 0: gone, its number may have been given away */
	mode_t mode, durable_mode;
	struct buf durable, live; /* 'f'; 'l': the target, in durable */
	struct change *changes;
	size_t change_count;
	struct entries durable_entries, live_entries; /* 'd' */
};

/* A change of names: `to` gets `node` (NULL: is removed), and if `from_dir` is set its name there goes away with it. */
struct name_change {
	struct node *dir, *from_dir, *node;
	char name[NAME_BYTES], from_name[NAME_BYTES];
	bool durable;
};

struct os_crash {
	struct os os;
	const struct os *below;
	struct node *nodes, *root;
	struct name_change *names;
	size_t name_count;
	unsigned changes, at;
	bool dead;
};

static struct os_crash *crash(const struct os *os)
{
	return os->state;
}

/* The tests' own memory: without it they cannot go on. */
static void *need(void *p)
{
	if (!p)
		abort();
	return p;
}

static void need_ok(int r)
{
	if (r < 0)
		abort();
}

/* --- the model ----------------------------------------------------------------------------------- */

static struct node *node_new(struct os_crash *c, char type, const struct stat *st)
{
	struct node *n = need(calloc(1, sizeof(*n)));

	for (struct node *old = c->nodes; old; old = old->next)
		if (old->inode == st->st_ino && old->device == st->st_dev)
			old->inode = 0;
	n->type = type;
	n->device = st->st_dev;
	n->inode = st->st_ino;
	n->mode = n->durable_mode = st->st_mode & 07777;
	buf_init(&n->durable, CONTENT_MAX);
	buf_init(&n->live, CONTENT_MAX);
	n->next = c->nodes;
	c->nodes = n;
	return n;
}

static struct node *node_of(const struct os_crash *c, const struct stat *st)
{
	for (struct node *n = c->nodes; n; n = n->next)
		if (n->inode != 0 && n->inode == st->st_ino && n->device == st->st_dev)
			return n;
	return NULL;
}

static struct node *node_of_fd(const struct os_crash *c, int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? NULL : node_of(c, &st);
}

static struct entry *entry_find(const struct entries *e, const char *name)
{
	for (size_t i = 0; i < e->count; i++)
		if (strcmp(e->list[i].name, name) == 0)
			return &e->list[i];
	return NULL;
}

static void entry_set(struct entries *e, const char *name, struct node *node)
{
	struct entry *found = entry_find(e, name);

	if (!node) {
		if (found)
			*found = e->list[--e->count];
		return;
	}
	if (!found) {
		e->list = need(reallocarray(e->list, e->count + 1, sizeof(*e->list)));
		found = &e->list[e->count++];
		(void) snprintf(found->name, sizeof(found->name), "%s", name);
	}
	found->node = node;
}

/* The folder a path lies in, and its last part; NULL: outside what is watched. */
static struct node *parent_of(const struct os_crash *c, int dirfd, const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	char parent[PATH_MAX];
	struct stat st;

	*ret_name = slash ? slash + 1 : path;
	(void) snprintf(parent, sizeof(parent), "%.*s", slash ? (int) (slash - path) : 1, slash ? path : ".");
	if (fstatat(dirfd, slash == path ? "/" : parent, &st, 0) < 0)
		return NULL;
	return node_of(c, &st);
}

static void apply_names(const struct name_change *m, bool durable)
{
	if (m->from_dir) {
		struct entries *from = durable ? &m->from_dir->durable_entries : &m->from_dir->live_entries;
		const struct entry *e = entry_find(from, m->from_name);

		if (e && e->node == m->node)
			entry_set(from, m->from_name, NULL);
	}
	entry_set(durable ? &m->dir->durable_entries : &m->dir->live_entries, m->name, m->node);
}

static void name_changed(struct os_crash *c, struct node *dir, const char *name, struct node *node,
			 struct node *from_dir, const char *from_name)
{
	struct name_change *m;

	c->names = need(reallocarray(c->names, c->name_count + 1, sizeof(*c->names)));
	m = &c->names[c->name_count++];
	*m = (struct name_change){ .dir = dir, .from_dir = from_dir, .node = node };
	(void) snprintf(m->name, sizeof(m->name), "%s", name);
	(void) snprintf(m->from_name, sizeof(m->from_name), "%s", from_name ? from_name : "");
	apply_names(m, false);
}

static void apply_change(struct buf *b, const struct change *ch, size_t len, bool zeros)
{
	size_t end = (size_t) ch->offset + len;

	if (!ch->data) {
		if (b->len > ch->offset)
			b->len = (size_t) ch->offset;
		end = (size_t) ch->offset;
		len = 0;
	}
	if (end > b->len) {
		need_ok(buf_reserve(b, end - b->len));
		memset(b->data + b->len, 0, end - b->len);
		b->len = end;
	}
	if (len > 0 && zeros)
		memset(b->data + ch->offset, 0, len);
	else if (len > 0)
		memcpy(b->data + ch->offset, ch->data, len);
}

static void content_changed(struct node *n, uint64_t offset, const void *data, size_t len)
{
	struct change *ch;

	if (!n || n->type != 'f')
		return;
	n->changes = need(reallocarray(n->changes, n->change_count + 1, sizeof(*n->changes)));
	ch = &n->changes[n->change_count++];
	*ch = (struct change){ .offset = offset, .len = len, .data = NULL };
	if (data) {
		ch->data = need(malloc(len + 1));
		memcpy(ch->data, data, len);
	}
	apply_change(&n->live, ch, len, false);
}

static void forget_changes(struct node *n)
{
	for (size_t i = 0; i < n->change_count; i++)
		free(n->changes[i].data);
	free(n->changes);
	n->changes = NULL;
	n->change_count = 0;
}

static void node_synced(struct os_crash *c, struct node *n)
{
	n->durable_mode = n->mode;
	if (n->type == 'f') {
		buf_clear(&n->durable);
		if (n->live.len > 0)
			need_ok(buf_add(&n->durable, n->live.data, n->live.len));
		forget_changes(n);
	}
	for (size_t i = 0; i < c->name_count; i++)
		if (!c->names[i].durable && (c->names[i].dir == n || c->names[i].from_dir == n)) {
			c->names[i].durable = true;
			apply_names(&c->names[i], true);
		}
}

static void snapshot(struct os_crash *c, struct node *dir, int fd)
{
	DIR *d = need(fdopendir(fd));

	for (const struct dirent *e; (e = readdir(d)) != NULL;) {
		struct stat st;
		struct node *n;
		char type;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		need_ok(fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW));
		type = S_ISDIR(st.st_mode) ? 'd' : S_ISLNK(st.st_mode) ? 'l' : 'f';
		n = node_new(c, type, &st);
		entry_set(&dir->durable_entries, e->d_name, n);
		entry_set(&dir->live_entries, e->d_name, n);
		if (type == 'd') {
			int sub = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

			need_ok(sub);
			snapshot(c, n, sub);
		} else if (type == 'l') {
			char target[PATH_MAX];
			ssize_t len = readlinkat(dirfd(d), e->d_name, target, sizeof(target));

			need_ok((int) len);
			need_ok(buf_add(&n->durable, target, (size_t) len));
		} else {
			int file = openat(dirfd(d), e->d_name, O_RDONLY | O_CLOEXEC);
			char chunk[8192];

			need_ok(file);
			for (ssize_t len; (len = read(file, chunk, sizeof(chunk))) > 0;) {
				need_ok(buf_add(&n->durable, chunk, (size_t) len));
				need_ok(buf_add(&n->live, chunk, (size_t) len));
			}
			(void) close(file); /* opened for reading */
		}
	}
	(void) closedir(d); /* opened for reading */
}

/* --- the operations ------------------------------------------------------------------------------- */

/* Before a change: -EIO once the machine is dead. */
static int before(struct os_crash *c)
{
	if (c->dead)
		return -EIO;
	c->changes++;
	c->dead = c->at > 0 && c->changes >= c->at;
	return c->dead ? -EIO : 0;
}

#define READ_ONLY(os, call, ...) (crash(os)->dead ? -EIO : crash(os)->below->call(crash(os)->below, __VA_ARGS__))
/* Do a change for real; `r` is what came of it, and the rest of the function records it. */
#define CHANGE(os, r, call, ...)                                                                                  \
	do {                                                                                                      \
		(r) = before(crash(os));                                                                          \
		if ((r) == 0)                                                                                     \
			(r) = crash(os)->below->call(crash(os)->below, __VA_ARGS__);                              \
		if ((r) < 0)                                                                                      \
			return (r);                                                                               \
	} while (0)

static int crash_openat(const struct os *os, int dirfd, const char *path, int flags, mode_t mode)
{
	struct os_crash *c = crash(os);
	const char *name;
	struct stat st;
	struct node *n, *dir;
	bool is_new;
	int fd;

	if (!(flags & (O_CREAT | O_TRUNC)))
		return READ_ONLY(os, openat, dirfd, path, flags, mode);
	is_new = fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0;
	CHANGE(os, fd, openat, dirfd, path, flags, mode);
	need_ok(fstat(fd, &st));
	dir = parent_of(c, dirfd, path, &name);
	if (is_new && dir) {
		n = node_new(c, 'f', &st);
		name_changed(c, dir, name, n, NULL, NULL);
	} else if (!is_new && (flags & O_TRUNC)) {
		content_changed(node_of(c, &st), 0, NULL, 0);
	}
	return fd;
}

static int crash_close(const struct os *os, int fd)
{
	/* Also when dead: the process that would have held it is gone. */
	return crash(os)->below->close(crash(os)->below, fd);
}

static ssize_t crash_read(const struct os *os, int fd, void *data, size_t len)
{
	return READ_ONLY(os, read, fd, data, len);
}

static ssize_t crash_pread(const struct os *os, int fd, void *data, size_t len, uint64_t offset)
{
	return READ_ONLY(os, pread, fd, data, len, offset);
}

static ssize_t crash_write(const struct os *os, int fd, const void *data, size_t len)
{
	off_t at = (fcntl(fd, F_GETFL) & O_APPEND) ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
	ssize_t r;

	CHANGE(os, r, write, fd, data, len);
	content_changed(node_of_fd(crash(os), fd), (uint64_t) at, data, (size_t) r);
	return r;
}

static ssize_t crash_pwrite(const struct os *os, int fd, const void *data, size_t len, uint64_t offset)
{
	ssize_t r;

	CHANGE(os, r, pwrite, fd, data, len, offset);
	content_changed(node_of_fd(crash(os), fd), offset, data, (size_t) r);
	return r;
}

static int crash_ftruncate(const struct os *os, int fd, uint64_t size)
{
	int r;

	CHANGE(os, r, ftruncate, fd, size);
	content_changed(node_of_fd(crash(os), fd), size, NULL, 0);
	return r;
}

static int crash_fsync(const struct os *os, int fd)
{
	struct node *n;
	int r;

	/* The model's disk is the only one: no need to wait for the real one. */
	r = before(crash(os));
	if (r < 0)
		return r;
	n = node_of_fd(crash(os), fd);
	if (n)
		node_synced(crash(os), n);
	return 0;
}

static int crash_syncfs(const struct os *os, int fd)
{
	int r = before(crash(os));

	(void) fd;
	if (r < 0)
		return r;
	for (struct node *n = crash(os)->nodes; n; n = n->next)
		node_synced(crash(os), n);
	return 0;
}

static int crash_renameat(const struct os *os, int old_dirfd, const char *old_path, int new_dirfd,
			  const char *new_path)
{
	struct os_crash *c = crash(os);
	const char *old_name, *new_name;
	struct node *from = parent_of(c, old_dirfd, old_path, &old_name), *to;
	const struct entry *e = from ? entry_find(&from->live_entries, old_name) : NULL;
	struct node *moved = e ? e->node : NULL;
	int r;

	to = parent_of(c, new_dirfd, new_path, &new_name);
	CHANGE(os, r, renameat, old_dirfd, old_path, new_dirfd, new_path);
	if (moved && to)
		name_changed(c, to, new_name, moved, from, old_name);
	return r;
}

/* Harsher than any file system: after a cut either half of it may stand alone. */
static int crash_exchangeat(const struct os *os, int dirfd, const char *path, int other_dirfd,
			    const char *other_path)
{
	struct os_crash *c = crash(os);
	const char *name, *other_name;
	struct node *dir = parent_of(c, dirfd, path, &name),
		    *other = parent_of(c, other_dirfd, other_path, &other_name);
	const struct entry *a = dir ? entry_find(&dir->live_entries, name) : NULL;
	const struct entry *b = other ? entry_find(&other->live_entries, other_name) : NULL;
	struct node *moved = a ? a->node : NULL, *displaced = b ? b->node : NULL;
	int r;

	CHANGE(os, r, exchangeat, dirfd, path, other_dirfd, other_path);
	if (moved && displaced) {
		name_changed(c, other, other_name, moved, NULL, NULL);
		name_changed(c, dir, name, displaced, NULL, NULL);
	}
	return r;
}

static int crash_linkat(const struct os *os, int old_dirfd, const char *old_path, int new_dirfd,
			const char *new_path)
{
	struct os_crash *c = crash(os);
	const char *name;
	struct node *dir;
	struct stat st;
	int r;

	CHANGE(os, r, linkat, old_dirfd, old_path, new_dirfd, new_path);
	dir = parent_of(c, new_dirfd, new_path, &name);
	need_ok(fstatat(new_dirfd, new_path, &st, AT_SYMLINK_NOFOLLOW));
	if (dir && node_of(c, &st))
		name_changed(c, dir, name, node_of(c, &st), NULL, NULL);
	return r;
}

static int crash_symlinkat(const struct os *os, const char *target, int dirfd, const char *path)
{
	struct os_crash *c = crash(os);
	const char *name;
	struct node *dir, *n;
	struct stat st;
	int r;

	CHANGE(os, r, symlinkat, target, dirfd, path);
	dir = parent_of(c, dirfd, path, &name);
	if (!dir)
		return r;
	need_ok(fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW));
	n = node_new(c, 'l', &st);
	need_ok(buf_add_str(&n->durable, target));
	name_changed(c, dir, name, n, NULL, NULL);
	return r;
}

static int crash_unlinkat(const struct os *os, int dirfd, const char *path, int flags)
{
	struct os_crash *c = crash(os);
	const char *name;
	struct node *dir;
	int r;

	CHANGE(os, r, unlinkat, dirfd, path, flags);
	dir = parent_of(c, dirfd, path, &name);
	if (dir)
		name_changed(c, dir, name, NULL, NULL, NULL);
	return r;
}

static int crash_mkdirat(const struct os *os, int dirfd, const char *path, mode_t mode)
{
	struct os_crash *c = crash(os);
	const char *name;
	struct node *dir;
	struct stat st;
	int r;

	CHANGE(os, r, mkdirat, dirfd, path, mode);
	dir = parent_of(c, dirfd, path, &name);
	if (!dir)
		return r;
	need_ok(fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW));
	name_changed(c, dir, name, node_new(c, 'd', &st), NULL, NULL);
	return r;
}

static int crash_fstatat(const struct os *os, int dirfd, const char *path, struct stat *ret)
{
	return READ_ONLY(os, fstatat, dirfd, path, ret);
}

static int crash_fstat(const struct os *os, int fd, struct stat *ret)
{
	return READ_ONLY(os, fstat, fd, ret);
}

static ssize_t crash_readlinkat(const struct os *os, int dirfd, const char *path, char *ret, size_t size)
{
	return READ_ONLY(os, readlinkat, dirfd, path, ret, size);
}

static int crash_fchmod(const struct os *os, int fd, mode_t mode)
{
	struct node *n;
	int r;

	CHANGE(os, r, fchmod, fd, mode);
	n = node_of_fd(crash(os), fd);
	if (n)
		n->mode = mode;
	return r;
}

static int crash_fchown(const struct os *os, int fd, uid_t uid, gid_t gid)
{
	int r;

	CHANGE(os, r, fchown, fd, uid, gid);
	return r;
}

static int crash_fchownat(const struct os *os, int dirfd, const char *path, uid_t uid, gid_t gid)
{
	int r;

	CHANGE(os, r, fchownat, dirfd, path, uid, gid);
	return r;
}

/* Times are not recorded. */
static int crash_futimens(const struct os *os, int fd, const struct timespec times[2])
{
	return READ_ONLY(os, futimens, fd, times);
}

/* This disk cannot: what copies its bytes instead is recorded. */
static int crash_clone(const struct os *os, int fd, int from_fd)
{
	(void) fd, (void) from_fd;
	return crash(os)->dead ? -EIO : -EOPNOTSUPP;
}

static int crash_fstatvfs(const struct os *os, int fd, struct statvfs *ret)
{
	return READ_ONLY(os, fstatvfs, fd, ret);
}

static int64_t crash_clock_real(const struct os *os)
{
	return crash(os)->below->clock_real(crash(os)->below);
}

static uint64_t crash_clock_boot_ms(const struct os *os)
{
	return crash(os)->below->clock_boot_ms(crash(os)->below);
}

static int crash_random(const struct os *os, void *data, size_t len)
{
	return READ_ONLY(os, random, data, len);
}

/* --- for tests ------------------------------------------------------------------------------------- */

int os_crash_new(const char *root, struct os_crash **ret)
{
	struct os_crash *c;
	struct stat st;
	int fd;

	fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	c = need(calloc(1, sizeof(*c)));
	c->below = &os_posix;
	c->os = (struct os){
		.openat = crash_openat,
		.close = crash_close,
		.read = crash_read,
		.write = crash_write,
		.pread = crash_pread,
		.pwrite = crash_pwrite,
		.ftruncate = crash_ftruncate,
		.fsync = crash_fsync,
		.syncfs = crash_syncfs,
		.renameat = crash_renameat,
		.exchangeat = crash_exchangeat,
		.linkat = crash_linkat,
		.symlinkat = crash_symlinkat,
		.unlinkat = crash_unlinkat,
		.mkdirat = crash_mkdirat,
		.fstatat = crash_fstatat,
		.fstat = crash_fstat,
		.readlinkat = crash_readlinkat,
		.fchmod = crash_fchmod,
		.fchown = crash_fchown,
		.fchownat = crash_fchownat,
		.futimens = crash_futimens,
		.clone = crash_clone,
		.fstatvfs = crash_fstatvfs,
		.clock_real = crash_clock_real,
		.clock_boot_ms = crash_clock_boot_ms,
		.random = crash_random,
		.state = c,
	};
	need_ok(fstat(fd, &st));
	c->root = node_new(c, 'd', &st);
	snapshot(c, c->root, fd);
	*ret = c;
	return 0;
}

void os_crash_free(struct os_crash *c)
{
	if (!c)
		return;
	for (struct node *n = c->nodes, *next; n; n = next) {
		next = n->next;
		forget_changes(n);
		buf_done(&n->durable);
		buf_done(&n->live);
		free(n->durable_entries.list);
		free(n->live_entries.list);
		free(n);
	}
	free(c->names);
	free(c);
}

const struct os *os_crash_os(struct os_crash *c)
{
	return &c->os;
}

void os_crash_arm(struct os_crash *c, unsigned at)
{
	c->at = at;
	c->changes = 0;
	c->dead = false;
}

bool os_crash_happened(const struct os_crash *c)
{
	return c->dead;
}

unsigned os_crash_changes(const struct os_crash *c)
{
	return c->changes;
}

/* A small generator of our own: the same seed gives the same disk everywhere. */
static unsigned choose(uint64_t *random, unsigned n)
{
	*random = *random * 6364136223846793005U + 1442695040888963407U;
	return (unsigned) (*random >> 33) % n;
}

/* What a file holds: each change that was not synced is lost, torn, zeros, or there. */
static void surviving_bytes(const struct node *n, unsigned seed, uint64_t *random, struct buf *out)
{
	if (n->durable.len > 0)
		need_ok(buf_add(out, n->durable.data, n->durable.len));
	for (size_t i = 0; i < n->change_count; i++) {
		const struct change *ch = &n->changes[i];
		unsigned fate = seed == 0 ? 0 : seed == 1 ? 3 : choose(random, 4);

		if (fate == 1)
			apply_change(out, ch, ch->len > 0 ? choose(random, (unsigned) ch->len) : 0, false);
		else if (fate > 1)
			apply_change(out, ch, ch->len, fate == 2);
	}
}

static void write_node(const struct node *n, unsigned seed, uint64_t *random, int dirfd, const char *name);

static void write_entries(const struct node *dir, unsigned seed, uint64_t *random, int fd)
{
	for (size_t i = 0; i < dir->live_entries.count; i++)
		write_node(dir->live_entries.list[i].node, seed, random, fd, dir->live_entries.list[i].name);
}

static void write_node(const struct node *n, unsigned seed, uint64_t *random, int dirfd, const char *name)
{
	mode_t mode = seed == 0 || (seed > 1 && choose(random, 2) == 0) ? n->durable_mode : n->mode;
	int fd;

	if (n->type == 'l') {
		need_ok(symlinkat(buf_str(&n->durable), dirfd, name));
		return;
	}
	if (n->type == 'd') {
		need_ok(mkdirat(dirfd, name, 0700));
		fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		need_ok(fd);
		write_entries(n, seed, random, fd);
	} else {
		CLEANUP(buf_done)
		struct buf bytes = BUF_INIT(CONTENT_MAX);

		fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		need_ok(fd);
		surviving_bytes(n, seed, random, &bytes);
		if (bytes.len > 0 && write(fd, bytes.data, bytes.len) != (ssize_t) bytes.len)
			abort();
	}
	need_ok(fchmod(fd, mode));
	(void) close(fd); /* a test's copy */
}

int os_crash_restore(struct os_crash *c, unsigned seed, const char *root)
{
	uint64_t random = seed * 2654435761U + 1;
	int fd;

	fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* The live entries become those of the disk after the cut: nobody runs any more. */
	for (struct node *n = c->nodes; n; n = n->next) {
		n->live_entries.count = 0;
		for (size_t i = 0; i < n->durable_entries.count; i++)
			entry_set(&n->live_entries, n->durable_entries.list[i].name,
				  n->durable_entries.list[i].node);
	}
	for (size_t i = 0; i < c->name_count; i++)
		if (!c->names[i].durable && seed != 0 && (seed == 1 || choose(&random, 2) == 0))
			apply_names(&c->names[i], false);
	write_entries(c->root, seed, &random, fd);
	(void) close(fd); /* a test's copy */
	c->dead = true;
	return 0;
}
