#include "fetch/bundle.h"

#include "base/err.h"
#include "base/text.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { BLOCK = 512, NAME_BYTES = 1024, LONG_MAX_BYTES = 64 * 1024, CHUNK = 256 * 1024 };

/* The header of POSIX's ustar; every field is text. */
struct header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[6],
		version[2], user[32], group[32], major[8], minor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "a header is one block");

struct member {
	char *name;
	uint64_t offset, size;
};

struct bundle {
	struct fetcher fetcher;
	const struct os *os;
	int fd;
	bool is_folder;
	struct member *members; /* sorted by name */
	size_t count, capacity, entries, name_bytes;
};

/* --- reading a tar --- */

/* What the headers before a member say about it. */
struct ahead {
	char name[NAME_BYTES + 1]; /* "": its own */
	uint64_t size;
	bool has_size;
};

static int pread_all(const struct os *os, int fd, void *data, size_t len, uint64_t offset)
{
	uint8_t *p = data;

	while (len > 0) {
		ssize_t n = os->pread(os, fd, p, len, offset);

		if (n < 0)
			return (int) n;
		if (n == 0)
			return -ERR_ARCHIVE;
		p += n;
		len -= (size_t) n;
		offset += (uint64_t) n;
	}
	return 0;
}

/* Octal digits, blanks and NULs around them; or, first bit set, a big-endian number. */
static int parse_number(const char *field, size_t len, uint64_t *ret)
{
	uint64_t n = 0;
	size_t i = 0;

	if ((unsigned char) field[0] == 0x80) {
		for (i = 1; i < len; i++) {
			if (n >> 55)
				return -ERR_ARCHIVE;
			n = n << 8 | (unsigned char) field[i];
		}
		*ret = n;
		return 0;
	}
	while (i < len && field[i] == ' ')
		i++;
	for (; i < len && field[i] >= '0' && field[i] <= '7'; i++)
		n = n << 3 | (uint64_t) (field[i] - '0'); /* at most 12 digits: 36 bits */
	for (; i < len; i++)
		if (field[i] != ' ' && field[i] != '\0')
			return -ERR_ARCHIVE;
	*ret = n;
	return 0;
}

static uint64_t checksum_of(const struct header *h)
{
	const unsigned char *p = (const unsigned char *) h;
	uint64_t sum = 0;

	for (size_t i = 0; i < BLOCK; i++)
		sum += i >= offsetof(struct header, checksum) && i < offsetof(struct header, type) ? ' ' : p[i];
	return sum;
}

static bool is_empty(const struct header *h)
{
	const char *p = (const char *) h;

	for (size_t i = 0; i < BLOCK; i++)
		if (p[i])
			return false;
	return true;
}

/* One record "LEN KEY=VALUE\n" of a pax header at *text; 0, 1 at the end, negative. */
static int take_pax_record(char **text, char *end, struct ahead *a)
{
	char *p = *text, *blank, *value, *newline;
	uint64_t len = 0;

	if (p == end)
		return 1;
	blank = memchr(p, ' ', (size_t) (end - p));
	if (!blank || blank - p > 8)
		return -ERR_ARCHIVE;
	*blank = '\0';
	if (parse_u64(p, &len) < 0 || len > (uint64_t) (end - p) || len < (uint64_t) (blank - p) + 3)
		return -ERR_ARCHIVE;
	newline = p + len - 1;
	if (*newline != '\n')
		return -ERR_ARCHIVE;
	*newline = '\0';
	value = memchr(blank + 1, '=', (size_t) (newline - blank - 1));
	if (!value)
		return -ERR_ARCHIVE;
	*value++ = '\0';
	if (str_eq(blank + 1, "path")) {
		if (strlen(value) > NAME_BYTES || strlen(value) != (size_t) (newline - value))
			return -ERR_NAME;
		(void) snprintf(a->name, sizeof(a->name), "%s", value);
	} else if (str_eq(blank + 1, "size")) {
		if (parse_u64(value, &a->size) < 0)
			return -ERR_ARCHIVE;
		a->has_size = true;
	}
	*text = newline + 1;
	return 0;
}

/* A header about the next one: 'L' a long name, 'x' pax records. */
static int read_ahead(const struct bundle *b, char type, uint64_t offset, uint64_t size, struct ahead *a)
{
	char *text, *p;
	int r;

	if (size > LONG_MAX_BYTES)
		return -ERR_TOO_LARGE;
	text = calloc(1, (size_t) size + 1);
	if (!text)
		return -ENOMEM;
	r = pread_all(b->os, b->fd, text, (size_t) size, offset);
	p = text;
	if (r == 0 && type == 'L') {
		if (strlen(text) > NAME_BYTES)
			r = -ERR_NAME;
		else
			(void) snprintf(a->name, sizeof(a->name), "%s", text);
	}
	while (r == 0 && type == 'x')
		r = take_pax_record(&p, text + size, a);
	free(text);
	return r < 0 ? r : 0;
}

static int name_of(const struct header *h, const struct ahead *a, char out[static NAME_BYTES + 1])
{
	const char *text = a->name;
	char own[sizeof(h->prefix) + sizeof(h->name) + 2];

	if (!text[0]) {
		bool ustar = memcmp(h->magic, "ustar", 5) == 0 && h->magic[5] == '\0';

		if (ustar && h->prefix[0])
			(void) snprintf(own, sizeof(own), "%.*s/%.*s", (int) sizeof(h->prefix), h->prefix,
					(int) sizeof(h->name), h->name);
		else
			(void) snprintf(own, sizeof(own), "%.*s", (int) sizeof(h->name), h->name);
		text = own;
	}
	while (str_starts(text, "./"))
		text += 2;
	return snprintf(out, NAME_BYTES + 1, "%s", text) > NAME_BYTES ? -ERR_NAME : 0;
}

static int add_member(struct bundle *b, const char *name, uint64_t offset, uint64_t size)
{
	struct member *longer;

	b->name_bytes += strlen(name) + 1;
	if (b->count >= BUNDLE_MEMBERS_MAX || b->name_bytes > BUNDLE_NAMES_MAX)
		return -ERR_TOO_LARGE;
	if (b->count == b->capacity) {
		size_t capacity = b->capacity ? 2 * b->capacity : 64;

		longer = reallocarray(b->members, capacity, sizeof(*longer));
		if (!longer)
			return -ENOMEM;
		b->members = longer;
		b->capacity = capacity;
	}
	b->members[b->count] = (struct member){ .name = strdup(name), .offset = offset, .size = size };
	if (!b->members[b->count].name)
		return -ENOMEM;
	b->count++;
	return 0;
}

static bool is_ours(const char *name)
{
	return guard_path(name) && (str_starts(name, "metadata/") || str_starts(name, "targets/"));
}

/* The header at *offset and what hangs on it; 1 at the end. */
static int read_entry(struct bundle *b, uint64_t file_size, uint64_t *offset, struct ahead *a)
{
	struct header h;
	char name[NAME_BYTES + 1];
	uint64_t sum = 0, size = 0, data = *offset + BLOCK;
	int r;

	if (*offset == file_size)
		return 1; /* some writers leave the end out */
	if (file_size - *offset < BLOCK)
		return -ERR_ARCHIVE;
	r = pread_all(b->os, b->fd, &h, sizeof(h), *offset);
	if (r < 0)
		return r;
	if (is_empty(&h))
		return 1;
	if (parse_number(h.checksum, sizeof(h.checksum), &sum) < 0 || sum != checksum_of(&h) ||
	    parse_number(h.size, sizeof(h.size), &size) < 0)
		return -ERR_ARCHIVE;
	if (a->has_size && h.type != 'x' && h.type != 'L')
		size = a->size;
	if (size > file_size - data)
		return -ERR_ARCHIVE;
	*offset = data + (size + BLOCK - 1) / BLOCK * BLOCK;
	if (*offset > file_size)
		*offset = file_size; /* the last one may end where its bytes end */
	if (h.type == 'L' || h.type == 'x')
		return read_ahead(b, h.type, data, size, a);
	r = name_of(&h, a, name);
	*a = (struct ahead){ .has_size = false };
	if (r < 0)
		return r;
	return (h.type == '0' || h.type == '\0') && is_ours(name) ? add_member(b, name, data, size) : 0;
}

static int compare_members(const void *a, const void *b)
{
	return strcmp(((const struct member *) a)->name, ((const struct member *) b)->name);
}

static int read_tar(struct bundle *b, uint64_t file_size)
{
	struct ahead a = { .has_size = false };
	uint64_t offset = 0;
	int r = 0;

	if (file_size < BLOCK)
		return -ERR_ARCHIVE;
	while (r == 0)
		r = b->entries++ < BUNDLE_ENTRIES_MAX ? read_entry(b, file_size, &offset, &a) : -ERR_TOO_LARGE;
	if (r < 0)
		return r;
	if (b->count > 0)
		qsort(b->members, b->count, sizeof(*b->members), compare_members);
	for (size_t i = 1; i < b->count; i++)
		if (str_eq(b->members[i - 1].name, b->members[i].name))
			return -ERR_DUPLICATE_NAME;
	return 0;
}

/* --- asking it --- */

/* Below the folder, no part of the name a link; what is no regular file is not there. */
static int find_in_folder(const struct bundle *b, const char *name, int *ret_fd, uint64_t *ret_size)
{
	const char *slash = strrchr(name, '/');
	char folder[NAME_BYTES + 1];
	struct stat st;
	int dirfd, fd, r;

	if (!slash || (size_t) (slash - name) > NAME_BYTES)
		return -ENOENT;
	(void) snprintf(folder, sizeof(folder), "%.*s", (int) (slash - name), name);
	dirfd = dir_open(b->os, b->fd, folder);
	if (dirfd < 0)
		return dirfd == -ENOTDIR || dirfd == -ELOOP ? -ENOENT : dirfd;
	fd = b->os->openat(b->os, dirfd, slash + 1, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	(void) b->os->close(b->os, dirfd); /* only looked up in */
	if (fd < 0)
		return fd == -ELOOP ? -ENOENT : fd;
	r = b->os->fstat(b->os, fd, &st);
	if (r == 0 && !S_ISREG(st.st_mode))
		r = -ENOENT;
	if (r < 0) {
		(void) b->os->close(b->os, fd); /* nothing of it is wanted */
		return r;
	}
	*ret_fd = fd;
	*ret_size = (uint64_t) st.st_size;
	return 0;
}

static int compare_name(const void *name, const void *member)
{
	return strcmp(name, ((const struct member *) member)->name);
}

static const struct member *find_member(const struct bundle *b, const char *name)
{
	return b->count ? bsearch(name, b->members, b->count, sizeof(*b->members), compare_name) : NULL;
}

int bundle_find(const struct bundle *b, const char *name, int *ret_fd, uint64_t *ret_offset, uint64_t *ret_size)
{
	const struct member *m;
	int fd;

	if (!is_ours(name))
		return -ERR_NAME;
	if (b->is_folder) {
		*ret_offset = 0;
		return find_in_folder(b, name, ret_fd, ret_size);
	}
	m = find_member(b, name);
	if (!m)
		return -ENOENT;
	fd = fcntl(b->fd, F_DUPFD_CLOEXEC, 0); /* always read at an offset: the shared position is nobody's */
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	*ret_offset = m->offset;
	*ret_size = m->size;
	return 0;
}

static int get(struct fetcher *f, const char *name, uint64_t max, struct buf *ret)
{
	const struct bundle *b = (const struct bundle *) ((const char *) f - offsetof(struct bundle, fetcher));
	uint64_t offset = 0, size = 0;
	int fd = -1, r = bundle_find(b, name, &fd, &offset, &size);

	if (r < 0)
		return r == -ERR_NAME ? -ENOENT : r;
	if (size > max || size > SIZE_MAX)
		r = -ERR_TOO_LARGE;
	if (r == 0)
		r = buf_reserve(ret, (size_t) size);
	if (r == 0 && size > 0)
		r = pread_all(b->os, fd, ret->data + ret->len, (size_t) size, offset);
	if (r == 0) {
		ret->len += (size_t) size;
		ret->data[ret->len] = '\0'; /* as buf_add() leaves it; the room is there */
	}
	(void) b->os->close(b->os, fd); /* only read */
	return r;
}

struct fetcher *bundle_fetcher(struct bundle *b)
{
	return &b->fetcher;
}

void bundle_close(struct bundle *b)
{
	if (!b)
		return;
	for (size_t i = 0; i < b->count; i++)
		free(b->members[i].name);
	free(b->members);
	if (b->fd >= 0)
		(void) b->os->close(b->os, b->fd); /* only read */
	free(b);
}

int bundle_open(const struct os *os, int fd, struct bundle **ret)
{
	CLEANUP(bundle_closep)
	struct bundle *b = calloc(1, sizeof(*b));
	struct stat st;
	int r;

	if (!b)
		return -ENOMEM;
	*b = (struct bundle){ .fetcher = { .get = get }, .os = os, .fd = -1 };
	r = os->fstat(os, fd, &st);
	if (r < 0)
		return r;
	b->is_folder = S_ISDIR(st.st_mode);
	if (!b->is_folder) {
		if (!S_ISREG(st.st_mode))
			return -ERR_ARCHIVE;
		b->fd = fd;
		r = read_tar(b, (uint64_t) st.st_size);
		b->fd = -1; /* the caller's until all is well */
		if (r < 0)
			return r;
	}
	b->fd = fd;
	*ret = b;
	b = NULL;
	return 0;
}

/* --- writing one --- */

static void put_octal(char *field, size_t len, uint64_t value)
{
	char digits[24];

	(void) snprintf(digits, sizeof(digits), "%0*llo", (int) len - 1, (unsigned long long) value);
	memcpy(field, digits, len); /* the caller knows that it fits */
}

static void finish_header(struct header *h, char type, uint64_t size)
{
	char sum[8];

	h->type = type;
	memcpy(h->mode, "0000644", 8);
	memcpy(h->uid, "0000000", 8);
	memcpy(h->gid, "0000000", 8);
	memcpy(h->mtime, "00000000000", 12); /* no time in it: the same content is the same bundle */
	memcpy(h->magic, "ustar", 6);
	memcpy(h->version, "00", 2);
	put_octal(h->size, sizeof(h->size), size);
	(void) snprintf(sum, sizeof(sum), "%06o", (unsigned) checksum_of(h));
	memcpy(h->checksum, sum, 7);
	h->checksum[7] = ' ';
}

/* Into the header's own fields, cut at a slash; false: too long for that. */
static bool fit_name(struct header *h, const char *name)
{
	size_t len = strlen(name);
	const char *slash;

	if (len <= sizeof(h->name)) {
		memcpy(h->name, name, len);
		return true;
	}
	slash = strchr(name + len - sizeof(h->name) - 1, '/');
	if (!slash || (size_t) (slash - name) > sizeof(h->prefix) || slash[1] == '\0')
		return false;
	memcpy(h->prefix, name, (size_t) (slash - name));
	memcpy(h->name, slash + 1, strlen(slash + 1));
	return true;
}

/* The length of a record counts its own digits. */
static int add_pax_record(struct buf *out, const char *key, const char *value)
{
	size_t body = strlen(key) + strlen(value) + 3, len = body, before = 0; /* blank, '=' and newline */
	char digits[24];

	while (len != before) {
		before = len;
		len = body + (size_t) snprintf(digits, sizeof(digits), "%zu", before);
	}
	return buf_addf(out, "%zu %s=%s\n", len, key, value);
}

static int pad(const struct os *os, int out, uint64_t size)
{
	static const uint8_t zeros[BLOCK];

	return size % BLOCK ? file_write_all(os, out, zeros, BLOCK - (size_t) (size % BLOCK)) : 0;
}

static int write_long_header(const struct os *os, int out, const char *name, uint64_t size)
{
	CLEANUP(buf_done)
	struct buf records = BUF_INIT(LONG_MAX_BYTES);
	struct header h = { .name = "pax" };
	char digits[24];
	int r = add_pax_record(&records, "path", name);

	(void) snprintf(digits, sizeof(digits), "%llu", (unsigned long long) size);
	if (r == 0)
		r = add_pax_record(&records, "size", digits);
	if (r < 0)
		return r;
	finish_header(&h, 'x', records.len);
	r = file_write_all(os, out, &h, sizeof(h));
	if (r == 0)
		r = file_write_all(os, out, records.data, records.len);
	return r < 0 ? r : pad(os, out, records.len);
}

static int write_header(const struct os *os, int out, const char *name, uint64_t size)
{
	static const uint64_t octal_max = 077777777777;
	struct header h = { .name = "" };
	int r = 0;

	if (strlen(name) > NAME_BYTES)
		return -ERR_NAME;
	if (!fit_name(&h, name) || size > octal_max) {
		r = write_long_header(os, out, name, size);
		h = (struct header){ .name = "long" };
	}
	finish_header(&h, '0', size > octal_max ? 0 : size);
	return r < 0 ? r : file_write_all(os, out, &h, sizeof(h));
}

int bundle_add(const struct os *os, int out, const char *name, const void *data, size_t len)
{
	int r = is_ours(name) ? write_header(os, out, name, len) : -ERR_NAME;

	if (r == 0 && len > 0)
		r = file_write_all(os, out, data, len);
	return r < 0 ? r : pad(os, out, len);
}

int bundle_add_file(const struct os *os, int out, const char *name, int in, uint64_t size)
{
	uint8_t *chunk = malloc(CHUNK);
	int r = !chunk ? -ENOMEM : is_ours(name) ? write_header(os, out, name, size) : -ERR_NAME;

	for (uint64_t done = 0; r == 0 && done < size;) {
		uint64_t left = size - done;
		ssize_t n = os->pread(os, in, chunk, left < CHUNK ? (size_t) left : CHUNK, done);

		if (n <= 0)
			r = n < 0 ? (int) n : -ERR_LENGTH;
		else
			r = file_write_all(os, out, chunk, (size_t) n);
		if (n > 0)
			done += (uint64_t) n;
	}
	free(chunk);
	return r < 0 ? r : pad(os, out, size);
}

int tar_begin_file(const struct os *os, int out, const char *name, uint64_t size)
{
	return guard_path(name) ? write_header(os, out, name, size) : -ERR_NAME;
}

int tar_end_file(const struct os *os, int out, uint64_t size)
{
	return pad(os, out, size);
}

int bundle_end(const struct os *os, int out)
{
	static const uint8_t zeros[2 * BLOCK];

	return file_write_all(os, out, zeros, sizeof(zeros));
}
