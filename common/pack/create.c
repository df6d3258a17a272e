/*
 * Writing artifacts. The tar is written here rather than by libarchive: the bytes
 * of an artifact must not change with a library's version, and long names travel
 * as they are in GNU records, while libarchive reads those of pax headers through
 * Unicode normalisation, which would change the name of a file.
 */
#include "pack/pack.h"

#include "base/err.h"
#include "crypto/digest.h"
#include "os/durable.h"
#include "tree/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

enum {
	BLOCK = 512,
	CHUNK_BYTES = 256 * 1024,
	FRAME_CUT = 1024 * 1024, /* at the next file once this much is in it */
	FRAME_MAX = 16 * 1024 * 1024, /* and inside a file here */
	LEVEL_MAX = 19, /* beyond, zstd's windows grow over 8 MiB */
};

/* zstd's contrib/seekable_format/zstd_seekable_compression_format.md */
static const uint32_t SKIPPABLE_MAGIC = 0x184D2A5E, SEEKABLE_MAGIC = 0x8F92EAB1;

struct packer {
	const struct os *os;
	int out_fd;
	ZSTD_CCtx *zstd;
	struct sha256 *hash, *file_hash;
	uint8_t *frame, *packed, *chunk;
	size_t frame_len, packed_size;
	struct buf seek_table;
	uint32_t frames;
	uint64_t length;
};

static void packer_done(struct packer *p)
{
	(void) ZSTD_freeCCtx(p->zstd); /* always 0 */
	sha256_free(p->hash);
	sha256_free(p->file_hash);
	free(p->frame);
	free(p->packed);
	free(p->chunk);
	buf_done(&p->seek_table);
}

static int packer_init(struct packer *p, int level)
{
	int r;

	p->zstd = ZSTD_createCCtx();
	p->packed_size = ZSTD_compressBound(FRAME_MAX);
	p->frame = malloc(FRAME_MAX);
	p->packed = malloc(p->packed_size);
	p->chunk = malloc(CHUNK_BYTES);
	if (!p->zstd || !p->frame || !p->packed || !p->chunk)
		return -ENOMEM;
	if (level < 1 || level > LEVEL_MAX ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_compressionLevel, level)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_contentSizeFlag, 1)))
		return -EINVAL;
	buf_init(&p->seek_table, 64 * 1024 * 1024);
	r = sha256_new(&p->hash);
	return r < 0 ? r : sha256_new(&p->file_hash);
}

static int emit(struct packer *p, const void *data, size_t len)
{
	int r;

	r = sha256_add(p->hash, data, len);
	if (r < 0)
		return r;
	r = file_write_all(p->os, p->out_fd, data, len);
	if (r == 0)
		p->length += len;
	return r;
}

static int add_le32(struct buf *b, uint32_t v)
{
	uint8_t bytes[4] = { (uint8_t) v, (uint8_t) (v >> 8), (uint8_t) (v >> 16), (uint8_t) (v >> 24) };

	return buf_add(b, bytes, sizeof(bytes));
}

static int end_frame(struct packer *p)
{
	size_t n;
	int r;

	if (p->frame_len == 0)
		return 0;
	n = ZSTD_compress2(p->zstd, p->packed, p->packed_size, p->frame, p->frame_len);
	if (ZSTD_isError(n))
		return ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation ? -ENOMEM : -EINVAL;
	r = add_le32(&p->seek_table, (uint32_t) n);
	if (r == 0)
		r = add_le32(&p->seek_table, (uint32_t) p->frame_len);
	if (r < 0)
		return r;
	p->frames++;
	p->frame_len = 0;
	return emit(p, p->packed, n);
}

static int put(struct packer *p, const void *data, size_t len)
{
	const uint8_t *from = data;

	while (len > 0) {
		size_t n = FRAME_MAX - p->frame_len;
		int r;

		if (n > len)
			n = len;
		memcpy(p->frame + p->frame_len, from, n);
		p->frame_len += n;
		from += n;
		len -= n;
		r = p->frame_len == FRAME_MAX ? end_frame(p) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

static int put_padding(struct packer *p, uint64_t size)
{
	static const uint8_t zeros[BLOCK];

	return put(p, zeros, (size_t) ((BLOCK - size % BLOCK) % BLOCK));
}

struct header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, linkname[100], magic[6],
		version[2], uname[32], gname[32], devmajor[8], devminor[8], prefix[155], rest[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "a tar header is one block");

static void put_octal(char *field, size_t size, uint64_t value)
{
	for (size_t i = size - 1; i-- > 0; value >>= 3)
		field[i] = (char) ('0' + (value & 7));
	field[size - 1] = '\0';
}

/* Octal while it fits, then GNU's big-endian binary with the first bit set. */
static void put_size(char field[static 12], uint64_t value)
{
	if (value < UINT64_C(1) << 33) {
		put_octal(field, 12, value);
		return;
	}
	memset(field, 0, 12);
	for (size_t i = 11; value > 0; value >>= 8)
		field[i--] = (char) (value & 255);
	field[0] = (char) 0x80;
}

static int put_header(struct packer *p, char type, const char *name, const char *target, unsigned mode,
		      uint64_t size)
{
	struct header h = { 0 };
	unsigned sum = 0;

	memcpy(h.name, name, strnlen(name, sizeof(h.name)));
	put_octal(h.mode, sizeof(h.mode), mode);
	put_octal(h.uid, sizeof(h.uid), 0);
	put_octal(h.gid, sizeof(h.gid), 0);
	put_size(h.size, size);
	put_octal(h.mtime, sizeof(h.mtime), 0);
	h.type = type;
	if (target)
		memcpy(h.linkname, target, strnlen(target, sizeof(h.linkname)));
	memcpy(h.magic, "ustar ", 6); /* GNU's own, with " \0" behind it: the only one its long records go with */
	memcpy(h.version, " ", 2);
	memset(h.checksum, ' ', sizeof(h.checksum));
	for (size_t i = 0; i < sizeof(h); i++)
		sum += ((const uint8_t *) &h)[i];
	put_octal(h.checksum, 7, sum);
	return put(p, &h, sizeof(h));
}

/* A name that does not fit into the header, as a record of its own in front of it. */
static int put_long(struct packer *p, char type, const char *text)
{
	size_t len = strlen(text) + 1;
	int r;

	if (len <= 100)
		return 0;
	r = put_header(p, type, "././@LongLink", NULL, 0, len);
	if (r == 0)
		r = put(p, text, len);
	return r == 0 ? put_padding(p, len) : r;
}

/* The file's bytes; -ERR_TREE if they are not those that were scanned. */
static int put_content(struct packer *p, int fd, const struct tree_entry *e)
{
	uint8_t digest[SHA256_BYTES];
	uint64_t size = 0;
	int r;

	r = sha256_reset(p->file_hash);
	while (r == 0) {
		ssize_t n = p->os->read(p->os, fd, p->chunk, CHUNK_BYTES);

		if (n < 0)
			return (int) n;
		if (n == 0)
			break;
		size += (uint64_t) n;
		if (size > e->size)
			return -ERR_TREE;
		r = sha256_add(p->file_hash, p->chunk, (size_t) n);
		if (r == 0)
			r = put(p, p->chunk, (size_t) n);
	}
	if (r == 0)
		r = sha256_end(p->file_hash, digest);
	if (r < 0)
		return r;
	if (size != e->size || memcmp(digest, e->sha256, SHA256_BYTES) != 0)
		return -ERR_TREE;
	return put_padding(p, size);
}

static int open_file(const struct os *os, int dirfd, const char *path)
{
	const char *slash = strrchr(path, '/');
	char *folder;
	int parent, fd;

	if (!slash)
		return os->openat(os, dirfd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	folder = strndup(path, (size_t) (slash - path));
	if (!folder)
		return -ENOMEM;
	parent = dir_open(os, dirfd, folder);
	free(folder);
	if (parent < 0)
		return parent;
	fd = os->openat(os, parent, slash + 1, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	(void) os->close(os, parent); /* only looked up in */
	return fd;
}

static int put_file(struct packer *p, int dirfd, const struct tree_entry *e)
{
	int fd, r;

	fd = open_file(p->os, dirfd, e->path);
	if (fd < 0)
		return fd;
	r = put_header(p, '0', e->path, NULL, e->mode, e->size);
	if (r == 0)
		r = put_content(p, fd, e);
	(void) p->os->close(p->os, fd); /* only read */
	return r;
}

static int put_folder(struct packer *p, const struct tree_entry *e)
{
	char name[1026];
	int n = snprintf(name, sizeof(name), "%s/", e->path), r;

	if (n < 0 || (size_t) n >= sizeof(name))
		return -ERR_NAME;
	r = put_long(p, 'L', name);
	return r == 0 ? put_header(p, '5', name, NULL, e->mode, 0) : r;
}

static int put_entry(struct packer *p, int dirfd, const struct tree_entry *e)
{
	int r = 0;

	if (!tree_entry_is_allowed(e))
		return -ERR_ARCHIVE_ENTRY;
	if (p->frame_len >= FRAME_CUT || (e->type == 'f' && e->size >= FRAME_CUT))
		r = end_frame(p);
	if (r == 0 && e->type == 'd')
		return put_folder(p, e);
	if (r == 0 && e->type == 'l')
		r = put_long(p, 'K', e->target);
	if (r == 0)
		r = put_long(p, 'L', e->path);
	if (r < 0)
		return r;
	return e->type == 'l' ? put_header(p, '2', e->path, e->target, e->mode, 0) : put_file(p, dirfd, e);
}

static int put_seek_table(struct packer *p)
{
	CLEANUP(buf_done)
	struct buf table = BUF_INIT(p->seek_table.len + 64);
	int r;

	r = add_le32(&table, SKIPPABLE_MAGIC);
	if (r == 0)
		r = add_le32(&table, (uint32_t) p->seek_table.len + 9);
	if (r == 0)
		r = buf_add(&table, p->seek_table.data, p->seek_table.len);
	if (r == 0)
		r = add_le32(&table, p->frames);
	if (r == 0)
		r = buf_add_byte(&table, 0); /* descriptor: no checksums */
	if (r == 0)
		r = add_le32(&table, SEEKABLE_MAGIC);
	return r == 0 ? emit(p, table.data, table.len) : r;
}

int pack_create(const struct os *os, int dirfd, const struct tree *t, int level, int out_fd, uint64_t *ret_length,
		uint8_t ret_sha256[static SHA256_BYTES])
{
	static const uint8_t end[2 * BLOCK];
	CLEANUP(packer_done)
	struct packer p = { .os = os, .out_fd = out_fd };
	int r;

	r = packer_init(&p, level);
	for (size_t i = 0; r == 0 && i < t->count; i++)
		r = put_entry(&p, dirfd, &t->entries[i]);
	if (r == 0)
		r = put(&p, end, sizeof(end));
	if (r == 0)
		r = end_frame(&p);
	if (r == 0)
		r = put_seek_table(&p);
	if (r == 0)
		r = sha256_end(p.hash, ret_sha256);
	if (r == 0)
		*ret_length = p.length;
	return r;
}
