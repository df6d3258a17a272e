#include "agent/store/seal.h"

#include "base/err.h"
#include "base/version.h"
#include "os/durable.h"
#include "tree/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECORD_FIRST_LINE "selfright-seal 1\n"

enum {
	DEPTH_MAX = 512, /* a guard_path() has no more parts */
	RECORD_BYTES_MAX = 512 * 1024 * 1024,
	RECORD_HEAD_MAX = 1024,
	RECORD_MODE = 0600,
	NAME_SIZE = VERSION_MAX + 16,
};

/* The names of one version within store/<component>. */
struct names {
	char tree[NAME_SIZE], partial[NAME_SIZE], record[NAME_SIZE];
};

static int make_names(const char *component, const char *version, struct names *ret)
{
	if (!guard_id(component) || !version_is_valid(version))
		return -ERR_NAME;
	(void) snprintf(ret->tree, NAME_SIZE, "%s", version); /* a version is at most VERSION_MAX bytes */
	(void) snprintf(ret->partial, NAME_SIZE, "%s.partial", version);
	(void) snprintf(ret->record, NAME_SIZE, "%s.seal", version);
	return 0;
}

/* --- the record ----------------------------------------------------------------------------------- */

struct record_head {
	uint8_t digest[SHA256_BYTES];
	uint64_t inode; /* of the tree's own folder */
};

static int64_t nanoseconds(const struct timespec *t)
{
	return (int64_t) t->tv_sec * 1000000000 + t->tv_nsec;
}

static int add_path(struct buf *out, const char *path)
{
	int r = 0;

	for (const char *p = path; *p && r == 0; p++)
		r = *p == '%' || *p == ' ' || (unsigned char) *p < 0x20
			    ? buf_addf(out, "%%%02X", (unsigned char) *p)
			    : buf_add_byte(out, (uint8_t) *p);
	return r;
}

static int write_record(const struct os *os, int component_fd, const char *name, int tree_fd,
			const char *component, const char *version, const struct tree *t,
			const uint8_t digest[static SHA256_BYTES])
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(RECORD_BYTES_MAX);
	char hex[SHA256_HEX + 1];
	struct stat st;
	int r;

	r = os->fstat(os, tree_fd, &st);
	if (r < 0)
		return r;
	hex_encode(hex, digest, SHA256_BYTES);
	r = buf_addf(&out, RECORD_FIRST_LINE "component %s\nversion %s\ndigest %s\ninode %" PRIu64 "\n", component,
		     version, hex, (uint64_t) st.st_ino);
	for (size_t i = 0; i < t->count && r == 0; i++) {
		const struct tree_entry *e = &t->entries[i];

		if (e->type != 'f')
			continue;
		r = os->fstatat(os, tree_fd, e->path, &st);
		if (r < 0)
			return r;
		hex_encode(hex, e->sha256, SHA256_BYTES);
		r = buf_addf(&out, "file %" PRIu64 " %" PRIu64 " %" PRId64 " %" PRId64 " %s ",
			     (uint64_t) st.st_ino, (uint64_t) st.st_size, nanoseconds(&st.st_mtim),
			     nanoseconds(&st.st_ctim), hex);
		if (r == 0)
			r = add_path(&out, e->path);
		if (r == 0)
			r = buf_add_byte(&out, '\n');
	}
	if (r == 0)
		r = buf_add_str(&out, "end\n");
	return r < 0 ? r : durable_write_file(os, component_fd, name, out.data, out.len, RECORD_MODE);
}

/* The value of the line `key` at *text, which moves behind it; NULL: another line. */
static char *take_value(char **text, const char *key)
{
	char *value = *text, *end;
	size_t n = strlen(key);

	if (strncmp(value, key, n) != 0 || value[n] != ' ')
		return NULL;
	end = strchr(value, '\n');
	if (!end)
		return NULL;
	*end = '\0';
	*text = end + 1;
	return value + n + 1;
}

/* The head of a record is small however many files follow. -ENOENT, -ERR_TREE. */
static int read_head(const struct os *os, int component_fd, const char *name, const char *component,
		     const char *version, struct record_head *ret)
{
	char text[RECORD_HEAD_MAX + 1], *p = text, *value;
	struct record_head head;
	ssize_t n;
	int fd;

	fd = os->openat(os, component_fd, name, O_RDONLY | O_NONBLOCK, 0);
	if (fd < 0)
		return fd == -ELOOP ? -ERR_TREE : fd;
	n = os->pread(os, fd, text, RECORD_HEAD_MAX, 0);
	(void) os->close(os, fd); /* opened for reading */
	if (n < 0)
		return n == -EISDIR ? -ERR_TREE : (int) n;
	text[n] = '\0';
	if (!str_starts(p, RECORD_FIRST_LINE))
		return -ERR_TREE;
	p += strlen(RECORD_FIRST_LINE);
	value = take_value(&p, "component");
	if (!value || strcmp(value, component) != 0)
		return -ERR_TREE;
	value = take_value(&p, "version");
	if (!value || strcmp(value, version) != 0)
		return -ERR_TREE;
	value = take_value(&p, "digest");
	if (!value || hex_decode(head.digest, SHA256_BYTES, value, false) < 0)
		return -ERR_TREE;
	value = take_value(&p, "inode");
	if (!value || parse_u64(value, &head.inode) < 0)
		return -ERR_TREE;
	*ret = head;
	return 0;
}

/* The first file that is not as the record says, to be named; NULL if the record cannot tell. */
static char *find_difference(const struct os *os, int component_fd, const char *record, const struct tree *t)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(RECORD_BYTES_MAX), path = BUF_INIT(4096);
	const char *line;
	size_t i = 0;

	if (file_read(os, component_fd, record, RECORD_BYTES_MAX, &text) < 0)
		return NULL;
	line = strstr(buf_str(&text), "\nfile ");
	for (;; i++) {
		char sha256[SHA256_HEX + 1], hex[SHA256_HEX + 1];
		int at = 0;
		size_t len;

		while (i < t->count && t->entries[i].type != 'f')
			i++;
		if (!line || strncmp(line, "\nfile ", 6) != 0)
			return i < t->count ? strdup(t->entries[i].path) : NULL; /* one more than was sealed */
		if (sscanf(line, "\nfile %*u %*u %*d %*d %64s %n", sha256, &at) != 1 || at == 0)
			return NULL;
		len = strcspn(line + at, "\n");
		buf_clear(&path);
		if (i < t->count && add_path(&path, t->entries[i].path) < 0)
			return NULL;
		if (i < t->count)
			hex_encode(hex, t->entries[i].sha256, SHA256_BYTES);
		if (i >= t->count || path.len != len || memcmp(path.data, line + at, len) != 0)
			/* Sorted alike, so that the smaller name is the one too many or missing. */
			return i < t->count && strncmp(buf_str(&path), line + at, len) < 0
				       ? strdup(t->entries[i].path)
				       : strndup(line + at, len);
		if (strcmp(hex, sha256) != 0)
			return strdup(t->entries[i].path);
		line += at + len;
	}
}

/* --- taking a tree away from the stage user ------------------------------------------------------- */

struct sealing {
	const struct os *os;
	uid_t stage, us; /* who filled the tree, who we are */
	struct buf path; /* where we are, to name an offender */
	char **offender;
};

static int refuse(struct sealing *s, int r)
{
	if (s->offender && !*s->offender)
		*s->offender = strdup(buf_str(&s->path)); /* without memory it stays unnamed */
	return r;
}

static bool owner_is_fine(const struct sealing *s, const struct stat *st)
{
	/* What is ours already was taken by a sealing that was interrupted. */
	return st->st_uid == s->stage || st->st_uid == s->us;
}

static int take_fd(const struct sealing *s, int fd, mode_t mode)
{
	/* Owner first: it is the owner who could change the mode again. */
	int r = s->us == 0 ? s->os->fchown(s->os, fd, 0, 0) : 0;

	return r < 0 ? r : s->os->fchmod(s->os, fd, mode);
}

static int take_file(struct sealing *s, int dirfd, const char *name)
{
	struct stat st;
	int fd, r;

	fd = s->os->openat(s->os, dirfd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0)
		return refuse(s, fd);
	r = s->os->fstat(s->os, fd, &st);
	if (r == 0 && (!S_ISREG(st.st_mode) || !owner_is_fine(s, &st)))
		r = -ERR_ARCHIVE_ENTRY;
	/*
	 * As root: a second name of somebody else's file would hand it to us, to be made readable. A file of
	 * the stage user's own under two names is only taken away from it.
	 */
	if (r == 0 && s->us == 0 && s->stage != s->us && st.st_nlink > 1 && st.st_uid != s->stage)
		r = -ERR_ARCHIVE_ENTRY;
	if (r == 0)
		r = take_fd(s, fd, (st.st_mode & 0111) ? 0755 : 0644);
	/* A lease for reading is refused while anybody has the file open for writing; some file systems have none. */
	if (r == 0) {
		if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0)
			(void) fcntl(fd, F_SETLEASE, F_UNLCK); /* it was only to ask */
		else if (errno == EAGAIN)
			r = -EBUSY;
	}
	(void) s->os->close(s->os, fd); /* opened for reading */
	return r < 0 ? refuse(s, r) : 0;
}

static int take_dir(struct sealing *s, int fd, unsigned depth);

static int take_entry(struct sealing *s, int dirfd, const char *name, unsigned depth)
{
	struct stat st;
	int fd, r;

	r = s->os->fstatat(s->os, dirfd, name, &st);
	if (r < 0)
		return refuse(s, r);
	if (S_ISREG(st.st_mode))
		return take_file(s, dirfd, name);
	if (S_ISLNK(st.st_mode)) {
		if (!owner_is_fine(s, &st))
			return refuse(s, -ERR_ARCHIVE_ENTRY);
		r = s->us == 0 ? s->os->fchownat(s->os, dirfd, name, 0, 0) : 0;
		return r < 0 ? refuse(s, r) : 0;
	}
	if (!S_ISDIR(st.st_mode) || depth >= DEPTH_MAX)
		return refuse(s, -ERR_ARCHIVE_ENTRY);
	fd = s->os->openat(s->os, dirfd, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return refuse(s, fd);
	r = take_dir(s, fd, depth + 1);
	(void) s->os->close(s->os, fd); /* opened for reading */
	return r;
}

/* The folder first, then what it holds: once it is ours nobody else can exchange an entry. */
static int take_dir(struct sealing *s, int fd, unsigned depth)
{
	CLEANUP(name_list_done)
	struct name_list names = { NULL, 0 };
	size_t before = s->path.len;
	struct stat st;
	int r;

	r = s->os->fstat(s->os, fd, &st);
	if (r == 0 && !owner_is_fine(s, &st))
		r = -ERR_ARCHIVE_ENTRY;
	if (r == 0)
		r = take_fd(s, fd, 0755);
	if (r == 0)
		r = dir_list(s->os, fd, ".", &names);
	if (r < 0)
		return refuse(s, r);
	for (size_t i = 0; i < names.count; i++) {
		r = buf_addf(&s->path, "%s%s", before ? "/" : "", names.names[i]);
		if (r < 0)
			return refuse(s, r == -ERR_TOO_LARGE ? -ERR_ARCHIVE_ENTRY : r);
		r = take_entry(s, fd, names.names[i], depth);
		if (r < 0)
			return r;
		s->path.len = before;
		s->path.data[before] = '\0';
	}
	return 0;
}

/* --- the three verbs ------------------------------------------------------------------------------ */

int seal_begin(const struct os *os, int store_fd, const char *component, const char *version, uid_t uid, gid_t gid)
{
	struct names names;
	int component_fd, fd, r;

	r = make_names(component, version, &names);
	if (r == 0)
		r = durable_mkdir(os, store_fd, component, 0755);
	if (r < 0)
		return r;
	component_fd = dir_open(os, store_fd, component);
	if (component_fd < 0)
		return component_fd;
	r = tree_remove(os, component_fd, names.partial);
	if (r == 0)
		r = os->mkdirat(os, component_fd, names.partial, 0700);
	fd = r < 0 ? r : os->openat(os, component_fd, names.partial, O_RDONLY | O_DIRECTORY, 0);
	(void) os->close(os, component_fd); /* a folder opened for reading */
	if (fd < 0)
		return fd;
	r = os->fchmod(os, fd, 0700);
	if (r == 0 && uid != (uid_t) -1 && uid != geteuid())
		r = os->fchown(os, fd, uid, gid);
	if (r < 0) {
		(void) os->close(os, fd); /* a folder opened for reading */
		return r;
	}
	return fd;
}

/* Is it sealed already? 1: with this digest, 0: not, -ERR_TREE: with another. */
static int sealed_already(const struct os *os, int component_fd, const struct names *names, const char *component,
			  const char *version, const uint8_t digest[static SHA256_BYTES])
{
	struct record_head head;
	struct stat st;
	int r;

	r = os->fstatat(os, component_fd, names->tree, &st);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = read_head(os, component_fd, names->record, component, version, &head);
	if (r < 0)
		return r == -ENOENT ? -ERR_TREE : r;
	if (memcmp(head.digest, digest, SHA256_BYTES) != 0)
		return -ERR_TREE;
	return 1;
}

static int scan_and_compare(const struct os *os, int fd, const uint8_t digest[static SHA256_BYTES], struct tree *t,
			    char **offender)
{
	uint8_t found[SHA256_BYTES];
	int r;

	r = tree_scan(os, fd, geteuid(), NULL, NULL, t, offender);
	if (r == 0)
		r = tree_digest(t, found);
	if (r == 0 && memcmp(found, digest, SHA256_BYTES) != 0)
		r = -ERR_TREE;
	return r;
}

/* The partial folder at `fd` into its place. */
static int seal_fd(const struct os *os, int component_fd, int fd, const struct names *names, const char *component,
		   const char *version, const uint8_t digest[static SHA256_BYTES], char **offender)
{
	struct sealing s = { .os = os, .us = geteuid(), .offender = offender };
	struct tree t = { .entries = NULL, .count = 0 };
	struct stat st;
	int r;

	r = os->fstat(os, fd, &st);
	if (r < 0)
		return r;
	s.stage = st.st_uid;
	buf_init(&s.path, 4096);
	r = take_dir(&s, fd, 0);
	buf_done(&s.path);
	if (r == 0)
		r = scan_and_compare(os, fd, digest, &t, offender);
	if (r == 0)
		r = os->syncfs(os, fd);
	if (r == 0)
		r = write_record(os, component_fd, names->record, fd, component, version, &t, digest);
	if (r == 0)
		r = os->renameat(os, component_fd, names->partial, component_fd, names->tree);
	if (r == 0)
		r = os->fsync(os, component_fd);
	tree_done(&t);
	return r;
}

int seal_commit(const struct os *os, int store_fd, const char *component, const char *version,
		const uint8_t digest[static SHA256_BYTES], char **ret_offender)
{
	struct names names;
	char *offender = NULL;
	int component_fd, fd, r;

	r = make_names(component, version, &names);
	if (r < 0)
		return r;
	component_fd = dir_open(os, store_fd, component);
	if (component_fd < 0)
		return component_fd;
	r = sealed_already(os, component_fd, &names, component, version, digest);
	if (r == 1) {
		r = tree_remove(os, component_fd, names.partial);
		if (r == 0)
			r = os->fsync(os, component_fd); /* the rename before may not have come so far */
		goto out;
	}
	if (r < 0)
		goto out;
	fd = os->openat(os, component_fd, names.partial, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0) {
		r = fd == -ELOOP || fd == -ENOTDIR ? -ERR_ARCHIVE_ENTRY : fd;
		goto out;
	}
	r = seal_fd(os, component_fd, fd, &names, component, version, digest, &offender);
	(void) os->close(os, fd); /* a folder opened for reading */
out:
	(void) os->close(os, component_fd); /* a folder opened for reading */
	if (ret_offender && r < 0)
		*ret_offender = offender;
	else
		free(offender);
	return r;
}

/* Where the file system cannot exchange, the version has no tree for a moment; it had no sound one before. */
static int change_places(const struct os *os, int component_fd, const struct names *names)
{
	char old[NAME_SIZE + 16];
	int r = os->exchangeat(os, component_fd, names->partial, component_fd, names->tree);

	if (r == -ENOENT)
		return os->renameat(os, component_fd, names->partial, component_fd, names->tree);
	if (r != -EINVAL && r != -ENOSYS)
		return r;
	(void) snprintf(old, sizeof(old), "%s.old.partial", names->tree); /* removed by whoever collects */
	r = tree_remove(os, component_fd, old);
	if (r == 0)
		r = os->renameat(os, component_fd, names->tree, component_fd, old);
	if (r == 0)
		r = os->renameat(os, component_fd, names->partial, component_fd, names->tree);
	return r < 0 ? r : tree_remove(os, component_fd, old);
}

static int replace_fd(const struct os *os, int component_fd, int fd, const struct names *names,
		      const char *component, const char *version, const uint8_t digest[static SHA256_BYTES],
		      char **offender)
{
	struct sealing s = { .os = os, .us = geteuid(), .offender = offender };
	struct tree t = { .entries = NULL, .count = 0 };
	struct stat st;
	int r;

	r = os->fstat(os, fd, &st);
	if (r < 0)
		return r;
	s.stage = st.st_uid;
	buf_init(&s.path, 4096);
	r = take_dir(&s, fd, 0);
	buf_done(&s.path);
	if (r == 0)
		r = scan_and_compare(os, fd, digest, &t, offender);
	if (r == 0)
		r = os->syncfs(os, fd); /* what takes the place is on the disk before it does */
	if (r == 0)
		r = change_places(os, component_fd, names);
	if (r == 0)
		r = os->fsync(os, component_fd); /* and its name before the record speaks of it */
	if (r == 0)
		r = write_record(os, component_fd, names->record, fd, component, version, &t, digest);
	if (r == 0)
		r = tree_remove(os, component_fd, names->partial);
	tree_done(&t);
	return r;
}

int seal_replace(const struct os *os, int store_fd, const char *component, const char *version,
		 const uint8_t digest[static SHA256_BYTES], char **ret_offender)
{
	struct names names;
	char *offender = NULL;
	int component_fd, fd, r;

	r = make_names(component, version, &names);
	if (r < 0)
		return r;
	component_fd = dir_open(os, store_fd, component);
	if (component_fd < 0)
		return component_fd;
	fd = os->openat(os, component_fd, names.partial, O_RDONLY | O_DIRECTORY, 0);
	r = fd == -ELOOP || fd == -ENOTDIR ? -ERR_ARCHIVE_ENTRY : fd;
	if (fd >= 0) {
		r = replace_fd(os, component_fd, fd, &names, component, version, digest, &offender);
		(void) os->close(os, fd); /* a folder opened for reading */
	}
	(void) os->close(os, component_fd); /* a folder opened for reading */
	if (ret_offender && r < 0)
		*ret_offender = offender;
	else
		free(offender);
	return r;
}

int seal_abort(const struct os *os, int store_fd, const char *component, const char *version)
{
	struct names names;
	int component_fd, r;

	r = make_names(component, version, &names);
	if (r < 0)
		return r;
	component_fd = dir_open(os, store_fd, component);
	if (component_fd < 0)
		return component_fd == -ENOENT ? 0 : component_fd;
	r = tree_remove(os, component_fd, names.partial);
	(void) os->close(os, component_fd); /* a folder opened for reading */
	return r;
}

/* --- looking at what is sealed -------------------------------------------------------------------- */

/* The component's folder and the head of the record; the descriptor is the caller's. */
static int open_record(const struct os *os, int store_fd, const char *component, const char *version,
		       struct names *names, struct record_head *head)
{
	int component_fd, r;

	r = make_names(component, version, names);
	if (r < 0)
		return r;
	component_fd = dir_open(os, store_fd, component);
	if (component_fd < 0)
		return component_fd;
	r = read_head(os, component_fd, names->record, component, version, head);
	if (r < 0) {
		(void) os->close(os, component_fd); /* a folder opened for reading */
		return r;
	}
	return component_fd;
}

int seal_digest(const struct os *os, int store_fd, const char *component, const char *version,
		uint8_t ret[static SHA256_BYTES])
{
	struct record_head head;
	struct names names;
	struct stat st;
	int component_fd, r;

	component_fd = open_record(os, store_fd, component, version, &names, &head);
	if (component_fd < 0)
		return component_fd;
	r = os->fstatat(os, component_fd, names.tree, &st); /* the record comes a moment before the tree */
	(void) os->close(os, component_fd); /* a folder opened for reading */
	if (r == 0)
		memcpy(ret, head.digest, SHA256_BYTES);
	return r;
}

int seal_check_identity(const struct os *os, int store_fd, const char *component, const char *version)
{
	struct record_head head;
	struct names names;
	struct stat st;
	int component_fd, r;

	component_fd = open_record(os, store_fd, component, version, &names, &head);
	if (component_fd < 0)
		return component_fd;
	r = os->fstatat(os, component_fd, names.tree, &st);
	(void) os->close(os, component_fd); /* a folder opened for reading */
	if (r < 0)
		return r;
	if (!S_ISDIR(st.st_mode) || (uint64_t) st.st_ino != head.inode || st.st_uid != geteuid() ||
	    (st.st_mode & 0022) != 0)
		return -ERR_TREE;
	return 0;
}

int seal_verify(const struct os *os, int store_fd, const char *component, const char *version,
		const uint8_t *digest, char **ret_offender)
{
	struct tree t = { .entries = NULL, .count = 0 };
	struct record_head head;
	struct names names;
	char *offender = NULL;
	int component_fd, fd, r;

	component_fd = open_record(os, store_fd, component, version, &names, &head);
	if (component_fd < 0)
		return component_fd;
	fd = os->openat(os, component_fd, names.tree, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0) {
		r = fd == -ELOOP || fd == -ENOTDIR ? -ERR_TREE : fd;
		goto out;
	}
	r = scan_and_compare(os, fd, digest ? digest : head.digest, &t, &offender);
	(void) os->close(os, fd); /* a folder opened for reading */
	if (r == -ERR_TREE && ret_offender && !offender)
		offender = find_difference(os, component_fd, names.record, &t);
out:
	tree_done(&t);
	(void) os->close(os, component_fd); /* a folder opened for reading */
	if (ret_offender && r < 0)
		*ret_offender = offender;
	else
		free(offender);
	return r;
}

int seal_is_sound(const struct os *os, int store_fd, const char *component, const char *version)
{
	int r = seal_check_identity(os, store_fd, component, version);

	return r == -ERR_TREE ? seal_verify(os, store_fd, component, version, NULL, NULL) : r;
}

/* --- every file's identity, without holding the record in memory --- */

/* "%41" back to bytes, in place. */
static void take_path(char *path)
{
	char *out = path;

	for (const char *p = path; *p; p++) {
		char digits[3] = { 0 };
		uint8_t byte;

		if (*p == '%' && p[1] && p[2]) {
			memcpy(digits, p + 1, 2);
			if (hex_decode(&byte, 1, digits, true) == 0) {
				*out++ = (char) byte;
				p += 2;
				continue;
			}
		}
		*out++ = *p;
	}
	*out = '\0';
}

/* A line "file INODE SIZE MTIME CTIME SHA256 PATH" against the file. Other lines say nothing here. */
static int check_line(const struct os *os, int tree_fd, char *line)
{
	uint64_t inode = 0, size = 0;
	int64_t mtime = 0, ctime = 0;
	struct stat st;
	int at = 0, r;

	if (!str_starts(line, "file "))
		return 0;
	if (sscanf(line, "file %" SCNu64 " %" SCNu64 " %" SCNd64 " %" SCNd64 " %*64s %n", &inode, &size, &mtime,
		   &ctime, &at) != 4 ||
	    at == 0)
		return -ERR_TREE;
	take_path(line + at);
	r = os->fstatat(os, tree_fd, line + at, &st);
	if (r < 0)
		return r == -ENOENT || r == -ENOTDIR ? -ERR_TREE : r;
	return S_ISREG(st.st_mode) && (uint64_t) st.st_ino == inode && (uint64_t) st.st_size == size &&
			       nanoseconds(&st.st_mtim) == mtime && nanoseconds(&st.st_ctim) == ctime
		       ? 0
		       : -ERR_TREE;
}

static int check_lines(const struct os *os, int record_fd, int tree_fd)
{
	char chunk[8192 + 1];
	uint64_t offset = 0;

	for (;;) {
		ssize_t len = os->pread(os, record_fd, chunk, sizeof(chunk) - 1, offset);
		char *line = chunk, *end;

		if (len < 0)
			return (int) len;
		chunk[len] = '\0';
		while ((end = strchr(line, '\n'))) {
			int r;

			*end = '\0';
			if (strcmp(line, "end") == 0)
				return 0;
			r = check_line(os, tree_fd, line);
			if (r < 0)
				return r;
			line = end + 1;
		}
		if (line == chunk)
			return -ERR_TREE; /* no end, or a line longer than any of ours */
		offset += (uint64_t) (line - chunk);
	}
}

static int check_files(const struct os *os, int store_fd, const char *component, const char *version)
{
	struct record_head head;
	struct names names;
	int component_fd, record_fd, tree_fd, r;

	component_fd = open_record(os, store_fd, component, version, &names, &head);
	if (component_fd < 0)
		return component_fd;
	record_fd = os->openat(os, component_fd, names.record, O_RDONLY | O_NONBLOCK, 0);
	tree_fd = os->openat(os, component_fd, names.tree, O_RDONLY | O_DIRECTORY, 0);
	r = record_fd < 0 ? record_fd : tree_fd < 0 ? tree_fd : check_lines(os, record_fd, tree_fd);
	if (record_fd >= 0)
		(void) os->close(os, record_fd); /* opened for reading */
	if (tree_fd >= 0)
		(void) os->close(os, tree_fd); /* a folder opened for reading */
	(void) os->close(os, component_fd); /* a folder opened for reading */
	return r;
}

int seal_is_intact(const struct os *os, int store_fd, const char *component, const char *version)
{
	int r = seal_check_identity(os, store_fd, component, version);

	if (r == 0)
		r = check_files(os, store_fd, component, version);
	return r == -ERR_TREE ? seal_verify(os, store_fd, component, version, NULL, NULL) : r;
}

int seal_remove(const struct os *os, int store_fd, const char *component, const char *version)
{
	struct names names;
	int component_fd, r;

	r = make_names(component, version, &names);
	if (r < 0)
		return r;
	component_fd = dir_open(os, store_fd, component);
	if (component_fd < 0)
		return component_fd == -ENOENT ? 0 : component_fd;
	r = tree_remove(os, component_fd, names.partial);
	/* First out of sight, and durably so: half a tree must not stand under a version's name. */
	if (r == 0)
		r = os->renameat(os, component_fd, names.tree, component_fd, names.partial);
	if (r == 0)
		r = os->fsync(os, component_fd);
	if (r == 0)
		r = tree_remove(os, component_fd, names.partial);
	if (r == 0 || r == -ENOENT)
		r = os->unlinkat(os, component_fd, names.record, 0);
	(void) os->close(os, component_fd); /* a folder opened for reading */
	return r == -ENOENT ? 0 : r;
}
