#include "pack/pack.h"

#include "base/err.h"
#include "os/durable.h"
#include "pack/source.h"
#include "tree/tree.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
	CHUNK_BYTES = 256 * 1024,
	/* Headers and padding: so much to begin with, so much per entry. A name and a link's target are 1 KiB each at most. */
	OVERHEAD_START = 4 * 1024 * 1024,
	OVERHEAD_ENTRY = 8 * 1024,
	/* The signed count is of files; folders and links are bounded by it too. */
	OTHERS_START = 4096,
	OTHERS_PER_FILE = 4,
};

struct unpacker {
	const struct os *os;
	int root;
	struct archive *archive;
	struct source source;
	uint64_t bytes_left, files_left, others_left, entries, bytes;
	void *folders; /* the folders that had an entry of their own (tsearch) */
	bool had_root;
	/* The folder of the last entry stays open: archives go folder by folder. */
	int parent_fd;
	char *parent;
	uint8_t *chunk; /* for copies */
	bool file_mode_is_exact[2]; /* 0644, 0755: what the umask leaves of them was seen to be all */
	char *name; /* of the entry at hand */
};

static void forget_parent(struct unpacker *u)
{
	if (u->parent_fd >= 0)
		(void) u->os->close(u->os, u->parent_fd); /* the caller's syncfs covers it */
	u->parent_fd = -1;
	free(u->parent);
	u->parent = NULL;
}

static void unpacker_done(struct unpacker *u)
{
	forget_parent(u);
	(void) archive_read_free(u->archive); /* nothing left to lose */
	source_done(&u->source);
	tdestroy(u->folders, free);
	free(u->chunk);
	free(u->name);
}

/* What a failed call of libarchive means. */
static int archive_error(const struct unpacker *u)
{
	if (u->source.error < 0)
		return u->source.error;
	return archive_errno(u->archive) == ENOMEM ? -ENOMEM : -ERR_ARCHIVE;
}

/* Exactly one format behind exactly one filter: nothing is guessed from the content. */
static int open_archive(struct unpacker *u, enum pack_media media)
{
	int r;

	u->archive = archive_read_new();
	if (!u->archive)
		return -ENOMEM;
	if (media == PACK_ZIP)
		r = archive_read_support_format_zip_seekable(u->archive);
	else
		r = archive_read_support_format_tar(u->archive);
	if (r == ARCHIVE_OK && media == PACK_TAR_GZIP)
		r = archive_read_append_filter(u->archive, ARCHIVE_FILTER_GZIP);
	if (r == ARCHIVE_OK && media == PACK_TAR_XZ)
		r = archive_read_append_filter(u->archive, ARCHIVE_FILTER_XZ);
	if (r == ARCHIVE_OK)
		r = source_open(&u->source, u->archive);
	return r == ARCHIVE_OK ? 0 : archive_error(u);
}

/* An entry that is in the way, or a link or file where a folder should be: the archive's fault, not the system's. */
static int entry_error(int r)
{
	return r == -EEXIST || r == -ENOTDIR || r == -ELOOP || r == -EISDIR ? -ERR_ARCHIVE_ENTRY : r;
}

static int take_other(struct unpacker *u)
{
	if (u->others_left == 0)
		return -ERR_TOO_LARGE;
	u->others_left--;
	return 0;
}

/* Open the folder `name` in `dirfd`, making it if it is missing. */
static int enter(struct unpacker *u, int dirfd, const char *name)
{
	const struct os *os = u->os;
	int fd, r;

	fd = os->openat(os, dirfd, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd != -ENOENT)
		return entry_error(fd);
	r = take_other(u);
	if (r == 0)
		r = os->mkdirat(os, dirfd, name, 0755);
	if (r < 0)
		return entry_error(r);
	fd = os->openat(os, dirfd, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return entry_error(fd);
	r = os->fchmod(os, fd, 0755); /* the umask may have taken some */
	if (r < 0) {
		(void) os->close(os, fd); /* failing anyhow */
		return r;
	}
	return fd;
}

/* A descriptor of the folder at `path`, "" for the tree's own; ours to keep for the next entry. */
static int enter_path(struct unpacker *u, const char *path, size_t len)
{
	int fd = u->root;

	if (u->parent && strlen(u->parent) == len && memcmp(u->parent, path, len) == 0)
		return u->parent_fd;
	if (len == 0)
		return u->root;
	forget_parent(u);
	for (size_t at = 0; at < len;) {
		char part[256];
		size_t n = strcspn(path + at, "/");
		int next;

		memcpy(part, path + at, n); /* guard_path(): parts of at most 255 bytes */
		part[n] = '\0';
		next = enter(u, fd, part);
		if (fd != u->root)
			(void) u->os->close(u->os, fd); /* only passed through */
		if (next < 0)
			return next;
		fd = next;
		at += n + 1;
	}
	u->parent_fd = fd;
	u->parent = strndup(path, len);
	return u->parent ? fd : -ENOMEM;
}

/* Where `path` is made: the folder, and in *ret_name the last part. */
static int enter_parent(struct unpacker *u, const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');

	*ret_name = slash ? slash + 1 : path;
	return enter_path(u, path, slash ? (size_t) (slash - path) : 0);
}

static int compare_paths(const void *a, const void *b)
{
	return strcmp(a, b);
}

static int unpack_folder(struct unpacker *u)
{
	char *copy;
	void *node;
	int fd;

	fd = enter_path(u, u->name, strlen(u->name));
	if (fd < 0)
		return fd;
	if (tfind(u->name, &u->folders, compare_paths))
		return -ERR_ARCHIVE_ENTRY;
	copy = strdup(u->name);
	node = copy ? tsearch(copy, &u->folders, compare_paths) : NULL;
	if (!node) {
		free(copy);
		return -ENOMEM;
	}
	return 0;
}

static int unpack_link(struct unpacker *u, struct archive_entry *e)
{
	const char *target = archive_entry_symlink(e), *name;
	int fd, r;

	if (!target || !tree_link_stays_inside(u->name, target))
		return -ERR_ARCHIVE_ENTRY;
	fd = enter_parent(u, u->name, &name);
	if (fd < 0)
		return fd;
	r = take_other(u);
	return r == 0 ? entry_error(u->os->symlinkat(u->os, target, fd, name)) : r;
}

/* A new file; its mode is 0644 or 0755 and nothing else. Returns a descriptor. */
static int create_file(struct unpacker *u, bool executable)
{
	const struct os *os = u->os;
	mode_t mode = executable ? 0755 : 0644;
	const char *name;
	struct stat st;
	int dirfd, fd, r;

	if (u->files_left == 0)
		return -ERR_TOO_LARGE;
	dirfd = enter_parent(u, u->name, &name);
	if (dirfd < 0)
		return dirfd;
	fd = os->openat(os, dirfd, name, O_WRONLY | O_CREAT | O_EXCL, mode);
	if (fd < 0)
		return entry_error(fd);
	u->files_left--;
	if (u->file_mode_is_exact[executable])
		return fd;
	r = os->fstat(os, fd, &st);
	if (r == 0 && (st.st_mode & 07777) == mode)
		u->file_mode_is_exact[executable] = true;
	else if (r == 0)
		r = os->fchmod(os, fd, mode);
	if (r < 0) {
		(void) os->close(os, fd); /* failing anyhow */
		return r;
	}
	return fd;
}

static int write_at(const struct os *os, int fd, const uint8_t *data, size_t len, uint64_t offset)
{
	while (len > 0) {
		ssize_t n = os->pwrite(os, fd, data, len, offset);

		if (n <= 0)
			return n < 0 ? (int) n : -EIO;
		data += n;
		len -= (size_t) n;
		offset += (uint64_t) n;
	}
	return 0;
}

/* Headers cost the sender little and us much: bound them by the entries seen. */
static int check_overhead(const struct unpacker *u)
{
	int64_t read = archive_filter_bytes(u->archive, 0);
	uint64_t allowed = u->bytes + OVERHEAD_START + u->entries * OVERHEAD_ENTRY;

	return read > 0 && (uint64_t) read > allowed ? -ERR_TOO_LARGE : 0;
}

static int write_content(struct unpacker *u, int fd, uint64_t size)
{
	uint64_t end = 0;

	for (;;) {
		const void *data;
		size_t len;
		la_int64_t offset;
		int r = archive_read_data_block(u->archive, &data, &len, &offset);

		if (r == ARCHIVE_EOF)
			break;
		if (r != ARCHIVE_OK)
			return archive_error(u);
		if (len == 0)
			continue;
		if (offset < 0 || (uint64_t) offset < end || (uint64_t) offset > size ||
		    len > size - (uint64_t) offset)
			return -ERR_ARCHIVE;
		r = write_at(u->os, fd, data, len, (uint64_t) offset);
		if (r < 0)
			return r;
		end = (uint64_t) offset + len;
	}
	return end < size ? u->os->ftruncate(u->os, fd, size) : 0; /* a hole at the end of a sparse file */
}

static int take_bytes(struct unpacker *u, uint64_t size)
{
	if (size > u->bytes_left)
		return -ERR_TOO_LARGE;
	u->bytes_left -= size;
	u->bytes += size;
	return 0;
}

static int close_written(const struct unpacker *u, int fd, int r)
{
	int closed = u->os->close(u->os, fd); /* a write may fail as late as here (quota, NFS) */

	return r < 0 ? r : closed;
}

static int unpack_file(struct unpacker *u, struct archive_entry *e)
{
	int64_t size = archive_entry_size(e);
	int fd, r;

	if (!archive_entry_size_is_set(e) || size < 0)
		return -ERR_ARCHIVE_ENTRY;
	r = take_bytes(u, (uint64_t) size);
	if (r < 0)
		return r;
	fd = create_file(u, (archive_entry_perm(e) & 0111) != 0);
	if (fd < 0)
		return fd;
	return close_written(u, fd, write_content(u, fd, (uint64_t) size));
}

/* "./" in front and "/" behind are how tar writes "tar -C dir -cf x ." */
static char *entry_name(const char *text)
{
	size_t len;

	while (text[0] == '.' && text[1] == '/')
		for (text += 2; *text == '/';)
			text++;
	len = strlen(text);
	if (len > 1 && text[len - 1] == '/')
		len--;
	return *text == '\0' ? strdup(".") : strndup(text, len);
}

static int copy_file(struct unpacker *u, int from, const struct stat *st)
{
	uint64_t offset = 0;
	int fd, r = 0;

	if (!u->chunk) {
		u->chunk = malloc(CHUNK_BYTES);
		if (!u->chunk)
			return -ENOMEM;
	}
	fd = create_file(u, (st->st_mode & 0111) != 0);
	if (fd < 0)
		return fd;
	while (r == 0) {
		ssize_t n = u->os->read(u->os, from, u->chunk, CHUNK_BYTES);

		if (n < 0)
			r = (int) n;
		if (n <= 0)
			break;
		r = write_at(u->os, fd, u->chunk, (size_t) n, offset);
		offset += (uint64_t) n;
	}
	return close_written(u, fd, r);
}

/* A hard link names an earlier file of the archive: the folder began empty, so what is there came from it. */
static int unpack_hard_link(struct unpacker *u, struct archive_entry *e)
{
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(4096);
	const char *text = archive_entry_hardlink(e), *name;
	struct stat st;
	char *target;
	int dirfd, from, r;

	if (!text || (archive_entry_size_is_set(e) && archive_entry_size(e) > 0))
		return -ERR_ARCHIVE_ENTRY;
	target = entry_name(text);
	r = target ? buf_add_str(&path, target) : -ENOMEM;
	free(target);
	if (r < 0)
		return r;
	if (!guard_path(buf_str(&path)))
		return -ERR_ARCHIVE_ENTRY;
	dirfd = enter_parent(u, buf_str(&path), &name);
	if (dirfd < 0)
		return dirfd;
	from = u->os->openat(u->os, dirfd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	if (from < 0)
		return from == -ENOENT ? -ERR_ARCHIVE_ENTRY : entry_error(from);
	r = u->os->fstat(u->os, from, &st);
	if (r == 0 && !S_ISREG(st.st_mode))
		r = -ERR_ARCHIVE_ENTRY;
	if (r == 0)
		r = take_bytes(u, (uint64_t) st.st_size);
	if (r == 0)
		r = copy_file(u, from, &st);
	(void) u->os->close(u->os, from); /* only read */
	return r;
}

/* Attributes would be lost without a word: capabilities, for one. The label of SELinux is the machine's own. */
static bool has_attributes(struct archive_entry *e)
{
	const char *name;
	const void *value;
	size_t size;

	archive_entry_xattr_reset(e);
	while (archive_entry_xattr_next(e, &name, &value, &size) == ARCHIVE_OK)
		if (!name || strcmp(name, "security.selinux") != 0)
			return true;
	return false;
}

static int unpack_entry(struct unpacker *u, struct archive_entry *e)
{
	const char *text = archive_entry_pathname(e);
	mode_t type = archive_entry_filetype(e);

	free(u->name);
	u->name = text ? entry_name(text) : NULL;
	if (text && !u->name)
		return -ENOMEM;
	if (!text)
		return -ERR_ARCHIVE_ENTRY;
	if (has_attributes(e) || (archive_entry_perm(e) & 07000) ||
	    ((archive_entry_perm(e) & 0002) && type != AE_IFLNK))
		return -ERR_ARCHIVE_ENTRY;
	if (type == AE_IFDIR && strcmp(u->name, ".") == 0 && !u->had_root) {
		u->had_root = true; /* the tree's own folder, which is there */
		return 0;
	}
	if (!guard_path(u->name))
		return -ERR_ARCHIVE_ENTRY;
	if (archive_entry_hardlink(e))
		return unpack_hard_link(u, e);
	switch (type) {
	case AE_IFREG:
		return unpack_file(u, e);
	case AE_IFDIR:
		return unpack_folder(u);
	case AE_IFLNK:
		return unpack_link(u, e);
	default:
		return -ERR_ARCHIVE_ENTRY;
	}
}

static int unpack_all(struct unpacker *u)
{
	for (;;) {
		struct archive_entry *e;
		int r = archive_read_next_header(u->archive, &e);

		if (r == ARCHIVE_EOF)
			return 0;
		if (r != ARCHIVE_OK)
			return archive_error(u);
		u->entries++;
		r = unpack_entry(u, e);
		if (r == 0)
			r = check_overhead(u);
		if (r < 0)
			return r;
	}
}

static int check_empty(const struct os *os, int dirfd)
{
	CLEANUP(name_list_done)
	struct name_list names = { 0 };
	int r = dir_list(os, dirfd, ".", &names);

	return r < 0 ? r : names.count > 0 ? -ENOTEMPTY : 0;
}

/* a + b * c, or the largest number. */
static uint64_t bounded(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t product, sum;

	if (__builtin_mul_overflow(b, c, &product) || __builtin_add_overflow(a, product, &sum))
		return UINT64_MAX;
	return sum;
}

static int unpack(struct unpacker *u, int in_fd, enum pack_media media, const struct pack_limits *limits)
{
	uint64_t entries, produced_max;
	int r;

	u->bytes_left = limits->max_bytes;
	u->files_left = limits->max_files;
	u->others_left = bounded(OTHERS_START, limits->max_files, OTHERS_PER_FILE);
	entries = bounded(u->others_left, limits->max_files, 1);
	produced_max = bounded(bounded(OVERHEAD_START, entries, OVERHEAD_ENTRY), limits->max_bytes, 1);
	r = source_init(&u->source, u->os, in_fd, media == PACK_TAR_ZSTD, produced_max);
	if (r == 0)
		r = check_empty(u->os, u->root);
	if (r == 0)
		r = open_archive(u, media);
	return r == 0 ? unpack_all(u) : r;
}

int pack_extract(const struct os *os, int in_fd, enum pack_media media, int dirfd,
		 const struct pack_limits *limits, char **ret_offender)
{
	CLEANUP(unpacker_done)
	struct unpacker u = { .os = os, .root = dirfd, .parent_fd = -1 };
	locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t) 0), before;
	int r;

	if (!utf8)
		return -ENOMEM;
	/* libarchive turns names of pax and zip into the locale's characters; in "C" it drops what is not ASCII. */
	before = uselocale(utf8);
	r = unpack(&u, in_fd, media, limits);
	(void) uselocale(before); /* it was valid a moment ago */
	freelocale(utf8);
	if (r < 0 && ret_offender) {
		*ret_offender = u.name;
		u.name = NULL;
	}
	return r;
}
