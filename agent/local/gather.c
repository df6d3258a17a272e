#include "agent/local/gather.h"

#include "base/err.h"
#include "base/timestamp.h"
#include "crypto/digest.h"
#include "fetch/bundle.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_BYTES = 4096, MANIFEST_MAX = 4 * 1024 * 1024 };

struct file {
	char *path; /* absolute */
	uint64_t size, taken; /* the last `taken` bytes of it */
	int64_t mtime;
};

struct gathering {
	const struct os *os;
	int dirfd, fd; /* fd: the tar */
	struct file files[GATHER_FILES_MAX];
	size_t count, at; /* at: the file that is copied */
	uint64_t skipped; /* patterns had more */
	int source; /* of files[at]; -1: not open */
	bool opened;
	uint64_t done; /* of files[at], then of the tar that is hashed */
	struct sha256 *hash;
	uint64_t length;
	char hex[SHA256_HEX + 1];
	uint8_t chunk[64 * 1024];
};

/* "/var/log/app/" and "*.log" */
static int split(const char *pattern, char folder[static PATH_BYTES], const char **ret_name)
{
	const char *slash = strrchr(pattern, '/');
	size_t len = slash ? (size_t) (slash - pattern) : 0;

	if (!slash || len >= PATH_BYTES)
		return -ERR_NAME;
	memcpy(folder, pattern, len);
	folder[len] = '\0';
	if (len == 0)
		memcpy(folder, "/", 2);
	*ret_name = slash + 1;
	return 0;
}

static bool is_known(const struct gathering *g, const char *path)
{
	for (size_t i = 0; i < g->count; i++)
		if (str_eq(g->files[i].path, path))
			return true;
	return false;
}

static int add_file(struct gathering *g, int dirfd, const char *folder, const char *name)
{
	struct stat st;
	char *path = NULL;

	/* What goes away while we look, and what is no plain file, is none of the set's. */
	if (g->os->fstatat(g->os, dirfd, name, &st) < 0 || !S_ISREG(st.st_mode))
		return 0;
	if (asprintf(&path, "%s/%s", str_eq(folder, "/") ? "" : folder, name) < 0)
		return -ENOMEM;
	if (!guard_path(path + 1) || is_known(g, path)) {
		free(path);
		return 0;
	}
	if (g->count == GATHER_FILES_MAX) {
		g->skipped++;
		free(path);
		return 0;
	}
	g->files[g->count++] =
		(struct file){ .path = path, .size = (uint64_t) st.st_size, .mtime = st.st_mtim.tv_sec };
	return 0;
}

static int add_pattern(struct gathering *g, const char *pattern)
{
	char folder[PATH_BYTES];
	struct name_list names = { 0 };
	const char *wanted = NULL;
	int dirfd, r = split(pattern, folder, &wanted);

	if (r < 0)
		return r;
	dirfd = dir_open(g->os, AT_FDCWD, folder);
	if (dirfd < 0)
		return dirfd == -ENOENT || dirfd == -ENOTDIR ? 0 : dirfd;
	r = dir_list(g->os, dirfd, ".", &names);
	for (size_t i = 0; r == 0 && i < names.count; i++)
		if (fnmatch(wanted, names.names[i], FNM_PERIOD) == 0)
			r = add_file(g, dirfd, folder, names.names[i]);
	name_list_done(&names);
	(void) g->os->close(g->os, dirfd); /* only looked up in */
	return r;
}

static int compare(const void *a, const void *b)
{
	const struct file *x = a, *y = b;

	if (x->mtime != y->mtime)
		return x->mtime < y->mtime ? 1 : -1;
	return strcmp(x->path, y->path);
}

/* The newest first, until the limit. */
static void share_out(struct gathering *g, uint64_t max)
{
	qsort(g->files, g->count, sizeof(g->files[0]), compare);
	for (size_t i = 0; i < g->count; i++) {
		g->files[i].taken = g->files[i].size < max ? g->files[i].size : max;
		max -= g->files[i].taken;
	}
}

static int write_manifest(struct gathering *g, const struct config_set *set)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(MANIFEST_MAX);
	char stamp[TIMESTAMP_LEN + 1];
	int r = buf_addf(&text,
			 "set %s, at most %" PRIu64
			 " bytes; the columns: bytes taken (the last ones), of, changed, path\n",
			 set->name, set->max_bytes);

	for (size_t i = 0; r == 0 && i < g->count; i++) {
		timestamp_format(stamp, g->files[i].mtime);
		r = buf_addf(&text, "%" PRIu64 " %" PRIu64 " %s %s\n", g->files[i].taken, g->files[i].size, stamp,
			     g->files[i].path);
	}
	if (r == 0 && g->skipped > 0)
		r = buf_addf(&text, "%" PRIu64 " more files are not here: at most %d are taken\n", g->skipped,
			     (int) GATHER_FILES_MAX);
	if (r == 0)
		r = tar_begin_file(g->os, g->fd, "manifest.txt", text.len);
	if (r == 0)
		r = file_write_all(g->os, g->fd, text.data, text.len);
	return r < 0 ? r : tar_end_file(g->os, g->fd, text.len);
}

int gathering_begin(const struct os *os, const struct config_set *set, int dirfd, const char *name,
		    struct gathering **ret)
{
	CLEANUP(gathering_freep)
	struct gathering *g = calloc(1, sizeof(*g));
	int r = 0;

	if (!g)
		return -ENOMEM;
	g->os = os;
	g->dirfd = dirfd;
	g->fd = g->source = -1;
	for (size_t i = 0; r == 0 && i < set->files.count; i++)
		r = add_pattern(g, set->files.items[i]);
	if (r == 0 && g->count == 0)
		r = -ENOENT;
	if (r < 0)
		return r;
	share_out(g, set->max_bytes);
	g->fd = os->openat(os, dirfd, name, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (g->fd < 0)
		return g->fd;
	r = write_manifest(g, set);
	if (r < 0)
		return r;
	*ret = g;
	g = NULL;
	return 0;
}

/* Opened by its folder: an operator's own path may hold links, the file itself may not be one. */
static int open_source(struct gathering *g)
{
	struct file *f = &g->files[g->at];
	char folder[PATH_BYTES];
	const char *name = NULL;
	struct stat st;
	int dirfd, r = split(f->path, folder, &name);

	if (r < 0)
		return r;
	dirfd = dir_open(g->os, AT_FDCWD, folder);
	if (dirfd >= 0) {
		g->source = g->os->openat(g->os, dirfd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
		(void) g->os->close(g->os, dirfd); /* only looked up in */
	}
	/* Rotated away since, or replaced: an empty place in the tar says so. */
	if (g->source >= 0 && (g->os->fstat(g->os, g->source, &st) < 0 || !S_ISREG(st.st_mode))) {
		(void) g->os->close(g->os, g->source); /* only looked at */
		g->source = -1;
	}
	if (g->source < 0)
		f->taken = 0;
	g->opened = true;
	g->done = 0;
	return tar_begin_file(g->os, g->fd, f->path + 1, f->taken);
}

static int copy_some(struct gathering *g, size_t budget)
{
	const struct file *f = &g->files[g->at];

	while (budget > 0 && g->done < f->taken) {
		uint64_t left = f->taken - g->done;
		size_t want = left < sizeof(g->chunk) ? (size_t) left : sizeof(g->chunk);
		ssize_t n = g->os->pread(g->os, g->source, g->chunk, want, f->size - f->taken + g->done);
		int r;

		if (n < 0)
			return (int) n;
		if (n == 0) { /* it shrank */
			memset(g->chunk, 0, want);
			n = (ssize_t) want;
		}
		r = file_write_all(g->os, g->fd, g->chunk, (size_t) n);
		if (r < 0)
			return r;
		g->done += (uint64_t) n;
		budget -= (size_t) n < budget ? (size_t) n : budget;
	}
	return 0;
}

static int step_file(struct gathering *g)
{
	const struct file *f = &g->files[g->at];
	int r = g->opened ? 0 : open_source(g);

	if (r == 0)
		r = copy_some(g, GATHER_STEP_BYTES);
	if (r < 0 || g->done < f->taken)
		return r;
	r = tar_end_file(g->os, g->fd, f->taken);
	if (g->source >= 0)
		(void) g->os->close(g->os, g->source); /* only read */
	g->source = -1;
	g->opened = false;
	g->done = 0;
	g->at++;
	return r;
}

static int step_hash(struct gathering *g)
{
	uint8_t digest[SHA256_BYTES];
	int r = 0;

	if (!g->hash) {
		r = bundle_end(g->os, g->fd);
		if (r == 0)
			r = sha256_new(&g->hash);
	}
	for (size_t budget = GATHER_STEP_BYTES; r == 0 && budget > 0; budget -= sizeof(g->chunk)) {
		ssize_t n = g->os->pread(g->os, g->fd, g->chunk, sizeof(g->chunk), g->done);

		if (n < 0)
			return (int) n;
		if (n == 0) {
			r = sha256_end(g->hash, digest);
			hex_encode(g->hex, digest, sizeof(digest));
			g->length = g->done;
			return r < 0 ? r : 1;
		}
		r = sha256_add(g->hash, g->chunk, (size_t) n);
		g->done += (uint64_t) n;
	}
	return r;
}

int gathering_step(struct gathering *g)
{
	return g->at < g->count ? step_file(g) : step_hash(g);
}

void gathering_result(const struct gathering *g, uint64_t *ret_length, char ret_sha256[static SHA256_HEX + 1],
		      uint64_t *ret_files)
{
	*ret_length = g->length;
	memcpy(ret_sha256, g->hex, SHA256_HEX + 1);
	*ret_files = g->count;
}

int gathering_fd(const struct gathering *g)
{
	return g->fd;
}

void gathering_free(struct gathering *g)
{
	if (!g)
		return;
	for (size_t i = 0; i < g->count; i++)
		free(g->files[i].path);
	sha256_free(g->hash);
	if (g->source >= 0)
		(void) g->os->close(g->os, g->source); /* only read */
	if (g->fd >= 0)
		(void) g->os->close(g->os, g->fd); /* who needs it durable has synced it */
	free(g);
}
