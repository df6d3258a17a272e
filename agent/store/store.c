#include "agent/store/store.h"

#include "agent/store/journal.h"
#include "agent/store/state.h"
#include "base/err.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define JOURNAL "journal"
#define HISTORY "history"
#define HISTORY_OLD "history.1"

enum { HISTORY_FILE_MAX = 512 * 1024, HISTORY_MODE = 0640, ROOT_MODE = 0755 };

struct store {
	const struct os *os;
	char *root;
	struct store_dirs dirs;
	struct journal *journal; /* NULL: none, only looking */
	bool read_only;
};

/* The folders below the root, and where store_dirs keeps each. */
static const struct {
	const char *name;
	mode_t mode;
	size_t offset;
} folders[] = {
	{ "trust", 0700, offsetof(struct store_dirs, trust) },
	{ "store", 0755, offsetof(struct store_dirs, store) },
	{ "generations", 0755, offsetof(struct store_dirs, generations) },
	{ "data", 0755, offsetof(struct store_dirs, data) },
	{ "spool", 0700, offsetof(struct store_dirs, spool) },
	{ "outbox", 0700, offsetof(struct store_dirs, outbox) },
	{ "saved", 0700, offsetof(struct store_dirs, saved) },
};

static int *dir_slot(struct store_dirs *d, size_t offset)
{
	return (int *) (void *) ((char *) d + offset);
}

void store_free(struct store *s)
{
	if (!s)
		return;
	journal_close(s->journal);
	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		int fd = *dir_slot(&s->dirs, folders[i].offset);

		if (fd >= 0)
			(void) s->os->close(s->os, fd); /* a folder opened for reading */
	}
	if (s->dirs.root >= 0)
		(void) s->os->close(s->os, s->dirs.root); /* also lets go of the lock */
	free(s->root);
	free(s);
}

static int store_new(const struct os *os, const char *root, bool read_only, struct store **ret)
{
	CLEANUP(store_freep)
	struct store *s = NULL;

	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	*s = (struct store){ .os = os, .read_only = read_only };
	s->dirs = (struct store_dirs){ -1, -1, -1, -1, -1, -1, -1, -1 };
	s->root = strdup(root);
	if (!s->root)
		return -ENOMEM;
	*ret = s;
	s = NULL;
	return 0;
}

/* The root folder, made with its parents if it is missing. */
static int make_root(const struct os *os, const char *root)
{
	char path[4096];
	size_t len = strlen(root);
	int fd, r;

	while (len > 1 && root[len - 1] == '/')
		len--;
	if (len == 0 || len >= sizeof(path))
		return len == 0 ? -ERR_NAME : -ENAMETOOLONG;
	memcpy(path, root, len);
	path[len] = '\0';
	fd = dir_open(os, AT_FDCWD, path);
	if (fd != -ENOENT)
		return fd;
	for (size_t i = 1; i <= len; i++) {
		char c = path[i];

		if (c != '/' && c != '\0')
			continue;
		path[i] = '\0';
		fd = dir_open(os, AT_FDCWD, path);
		if (fd >= 0)
			(void) os->close(os, fd); /* it was only to see whether it is there */
		r = fd == -ENOENT ? durable_mkdir(os, AT_FDCWD, path, ROOT_MODE) : fd < 0 ? fd : 0;
		path[i] = c;
		if (r < 0)
			return r;
	}
	return dir_open(os, AT_FDCWD, path);
}

static int open_folders(struct store *s)
{
	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		int *slot = dir_slot(&s->dirs, folders[i].offset), r;

		*slot = dir_open(s->os, s->dirs.root, folders[i].name);
		if (*slot == -ENOENT && !s->read_only) {
			r = durable_mkdir(s->os, s->dirs.root, folders[i].name, folders[i].mode);
			if (r < 0)
				return r;
			*slot = dir_open(s->os, s->dirs.root, folders[i].name);
		}
		if (*slot < 0 && !(s->read_only && *slot == -ENOENT)) {
			r = *slot;
			*slot = -1;
			return r;
		}
		if (*slot < 0)
			*slot = -1;
	}
	return 0;
}

static int lock(const struct store *s)
{
	int r;

	/* On the folder itself, so that there is no file to forget; the kernel lets go when we end, however. */
	do
		r = flock(s->dirs.root, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
	while (r == -EINTR);
	return r == -EWOULDBLOCK ? -EBUSY : r;
}

int store_open(const struct os *os, const char *root, struct store **ret)
{
	CLEANUP(store_freep)
	struct store *s = NULL;
	int r;

	r = store_new(os, root, false, &s);
	if (r < 0)
		return r;
	s->dirs.root = make_root(os, root);
	if (s->dirs.root < 0)
		return s->dirs.root;
	r = lock(s);
	if (r == 0)
		r = open_folders(s);
	if (r == 0)
		r = journal_open(os, s->dirs.root, JOURNAL, false, &s->journal);
	if (r < 0)
		return r;
	*ret = s;
	s = NULL;
	return 0;
}

int store_inspect(const struct os *os, const char *root, struct store **ret)
{
	CLEANUP(store_freep)
	struct store *s = NULL;
	int r;

	r = store_new(os, root, true, &s);
	if (r < 0)
		return r;
	s->dirs.root = dir_open(os, AT_FDCWD, root);
	if (s->dirs.root < 0)
		return s->dirs.root;
	r = open_folders(s);
	if (r == 0)
		r = journal_open(os, s->dirs.root, JOURNAL, true, &s->journal);
	if (r < 0 && r != -ENOENT)
		return r;
	*ret = s;
	s = NULL;
	return 0;
}

const struct store_dirs *store_dirs(const struct store *s)
{
	return &s->dirs;
}

const struct os *store_os(const struct store *s)
{
	return s->os;
}

const char *store_root(const struct store *s)
{
	return s->root;
}

int store_load(struct store *s, struct node_state *ret)
{
	const void *last;
	size_t len;
	int r;

	last = s->journal ? journal_last(s->journal, &len) : NULL;
	if (!last) {
		state_init(ret);
		return 1;
	}
	r = state_decode(last, len, ret);
	return r < 0 && r != -ERR_AGENT_TOO_OLD && r != -ENOMEM ? -ERR_JOURNAL : r;
}

int store_save(struct store *s, const struct node_state *state)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(STATE_BYTES_MAX);
	int r;

	if (s->read_only)
		return -EROFS;
	r = state_encode(state, &text);
	return r < 0 ? r : journal_append(s->journal, text.data, text.len);
}

int store_reset_journal(const struct os *os, const char *root)
{
	char name[64];
	struct stat st;
	int fd, r;

	fd = dir_open(os, AT_FDCWD, root);
	if (fd < 0)
		return fd;
	r = os->fstatat(os, fd, JOURNAL, &st);
	for (unsigned n = 1; r == 0; n++) {
		(void) snprintf(name, sizeof(name), JOURNAL ".broken-%u", n); /* always fits */
		r = os->fstatat(os, fd, name, &st);
		if (r != -ENOENT)
			continue;
		r = os->renameat(os, fd, JOURNAL, fd, name);
		if (r == 0)
			r = os->fsync(os, fd);
		break;
	}
	(void) os->close(os, fd); /* a folder opened for reading */
	return r == -ENOENT ? 0 : r;
}

static int history_rotate(struct store *s, uint64_t more)
{
	struct stat st;
	int r;

	r = s->os->fstatat(s->os, s->dirs.root, HISTORY, &st);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (S_ISREG(st.st_mode) && (uint64_t) st.st_size + more <= HISTORY_FILE_MAX)
		return 0;
	return s->os->renameat(s->os, s->dirs.root, HISTORY, s->dirs.root, HISTORY_OLD);
}

int store_history_append(struct store *s, const char *line)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(STORE_HISTORY_LINE_MAX + 2);
	size_t len = strlen(line);
	char last = '\n';
	struct stat st;
	int fd, r;

	if (s->read_only)
		return -EROFS;
	if (len > STORE_HISTORY_LINE_MAX)
		return -ERR_TOO_LARGE;
	if (memchr(line, '\n', len))
		return -ERR_SYNTAX;
	r = history_rotate(s, len + 1);
	if (r < 0)
		return r;
	fd = s->os->openat(s->os, s->dirs.root, HISTORY, O_RDWR | O_CREAT | O_APPEND, HISTORY_MODE);
	if (fd < 0)
		return fd;
	r = s->os->fstat(s->os, fd, &st);
	/* A line that was torn must not swallow this one. */
	if (r == 0 && st.st_size > 0 && s->os->pread(s->os, fd, &last, 1, (uint64_t) st.st_size - 1) != 1)
		r = -EIO;
	if (r == 0 && last != '\n')
		r = buf_add_byte(&text, '\n');
	if (r == 0)
		r = buf_add(&text, line, len);
	if (r == 0)
		r = buf_add_byte(&text, '\n');
	if (r == 0)
		r = file_write_all(s->os, fd, text.data, text.len);
	if (r == 0)
		r = s->os->fsync(s->os, fd);
	(void) s->os->close(s->os, fd); /* synced above, or failed already */
	if (r == 0 && st.st_size == 0)
		r = s->os->fsync(s->os, s->dirs.root); /* the file is new */
	return r;
}

/* Drop all but the newest `count` lines; a torn one at the end is dropped too. */
static void keep_lines(struct buf *text, size_t count)
{
	size_t lines = 0;

	while (text->len > 0 && text->data[text->len - 1] != '\n')
		text->data[--text->len] = '\0';
	for (size_t i = text->len; i-- > 0;)
		if (text->data[i] == '\n' && lines++ == count) {
			buf_consume(text, i + 1);
			return;
		}
}

int store_history_read(struct store *s, size_t count, struct buf *out)
{
	static const char *const files[] = { HISTORY_OLD, HISTORY };
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(STORE_HISTORY_MAX);

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		int r = file_read(s->os, s->dirs.root, files[i], HISTORY_FILE_MAX + STORE_HISTORY_LINE_MAX, &text);

		if (r < 0 && r != -ENOENT)
			return r;
		if (i == 0 && text.len > 0 && text.data[text.len - 1] != '\n' &&
		    (r = buf_add_byte(&text, '\n')) < 0)
			return r;
	}
	if (count == 0)
		return 0;
	keep_lines(&text, count);
	return text.len > 0 ? buf_add(out, text.data, text.len) : 0;
}
