#include "agent/store/journal.h"

#include "base/err.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
	HEADER = 12,
	FILE_MODE = 0600,
	/* A scan hashes no more than this, however the bytes were made. */
	SCAN_BUDGET = 64 * 1024 * 1024,
};

static const uint8_t magic[4] = { 'S', 'R', 'J', '1' };

struct journal {
	const struct os *os;
	int dirfd;
	int fd; /* -1: read only, or to be opened again */
	char *name;
	struct buf last; /* the newest payload */
	uint64_t size; /* of the file */
	bool read_only;
	bool damaged;
	bool rewrite; /* what the disk holds is not known, or holds damage: the next append starts a new file */
};

uint32_t journal_crc(uint32_t crc, const void *data, size_t len)
{
	const uint8_t *p = data;

	crc = ~crc;
	while (len-- > 0) {
		crc ^= *p++;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (0x82f63b78U & (0U - (crc & 1)));
	}
	return ~crc;
}

static uint32_t get_u32(const uint8_t *p)
{
	return (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16 | (uint32_t) p[2] << 8 | p[3];
}

static void put_u32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t) (v >> 24);
	p[1] = (uint8_t) (v >> 16);
	p[2] = (uint8_t) (v >> 8);
	p[3] = (uint8_t) v;
}

static uint32_t record_crc(const uint8_t *length, const void *payload, size_t len)
{
	return journal_crc(journal_crc(0, length, 4), payload, len);
}

/* The whole record at `p`: its payload's length, or 0. */
static size_t record_at(const uint8_t *p, size_t left, size_t *budget)
{
	size_t len;

	if (left < HEADER || memcmp(p, magic, sizeof(magic)) != 0)
		return 0;
	len = get_u32(p + 4);
	if (len == 0 || len > JOURNAL_RECORD_MAX || len > left - HEADER || len > *budget)
		return 0;
	*budget -= len;
	return record_crc(p + 4, p + HEADER, len) == get_u32(p + 8) ? len : 0;
}

void journal_scan(const uint8_t *data, size_t len, struct journal_scan *ret)
{
	size_t at = 0, budget = SCAN_BUDGET;

	*ret = (struct journal_scan){ .last = NULL, .last_len = 0, .end = 0, .damaged = false };
	while (at < len) {
		size_t n = record_at(data + at, len - at, &budget);
		const uint8_t *next;

		if (n > 0) {
			ret->damaged = ret->damaged || at != ret->end;
			ret->last = data + at + HEADER;
			ret->last_len = n;
			at += HEADER + n;
			ret->end = at;
			continue;
		}
		next = len - at > 1 ? memmem(data + at + 1, len - at - 1, magic, sizeof(magic)) : NULL;
		if (!next)
			return;
		at = (size_t) (next - data);
	}
}

static int open_file(struct journal *j)
{
	j->fd = j->os->openat(j->os, j->dirfd, j->name, O_WRONLY, 0);
	return j->fd < 0 ? j->fd : 0;
}

static void close_file(struct journal *j)
{
	if (j->fd >= 0)
		(void) j->os->close(j->os, j->fd); /* everything in it was synced when it was written */
	j->fd = -1;
}

static int load(struct journal *j)
{
	CLEANUP(buf_done)
	struct buf content = BUF_INIT(JOURNAL_FILE_MAX);
	struct journal_scan scan;
	int r;

	r = file_read(j->os, j->dirfd, j->name, JOURNAL_FILE_MAX, &content);
	if (r == -ENOENT && !j->read_only) {
		r = durable_write_file(j->os, j->dirfd, j->name, "", 0, FILE_MODE);
		if (r < 0)
			return r;
		return open_file(j);
	}
	if (r == -ERR_TOO_LARGE || r == -EISDIR || r == -EINVAL || r == -ELOOP)
		return -ERR_JOURNAL;
	if (r < 0)
		return r;
	journal_scan(content.data, content.len, &scan);
	/* The first record comes with a rename, so that no torn append can be all there is. */
	if (!scan.last && content.len > 0)
		return -ERR_JOURNAL;
	j->damaged = scan.damaged;
	j->size = content.len;
	if (scan.last) {
		r = buf_add(&j->last, scan.last, scan.last_len);
		if (r < 0)
			return r;
	}
	if (j->read_only)
		return 0;
	/* Behind a torn tail a later record would look like damage: start a new file instead of mending this one. */
	j->rewrite = scan.damaged || scan.end != content.len;
	return open_file(j);
}

int journal_open(const struct os *os, int dirfd, const char *name, bool read_only, struct journal **ret)
{
	CLEANUP(journal_closep)
	struct journal *j = NULL;
	int r;

	j = calloc(1, sizeof(*j));
	if (!j)
		return -ENOMEM;
	*j = (struct journal){ .os = os, .dirfd = dirfd, .fd = -1, .read_only = read_only };
	buf_init(&j->last, JOURNAL_RECORD_MAX);
	j->name = strdup(name);
	if (!j->name)
		return -ENOMEM;
	r = load(j);
	if (r < 0)
		return r;
	*ret = j;
	j = NULL;
	return 0;
}

/* The whole file anew with this one record. */
static int rewrite(struct journal *j, const struct buf *record)
{
	int r;

	r = durable_write_file(j->os, j->dirfd, j->name, record->data, record->len, FILE_MODE);
	if (r < 0) {
		j->rewrite = true; /* the rename may have happened */
		return r;
	}
	close_file(j);
	j->size = record->len;
	r = open_file(j);
	/* The record is durable: only the next append needs the descriptor, and can do without by rewriting. */
	j->rewrite = r < 0;
	return 0;
}

static int extend(struct journal *j, const struct buf *record)
{
	int r;

	for (size_t done = 0; done < record->len;) {
		ssize_t n = j->os->pwrite(j->os, j->fd, record->data + done, record->len - done, j->size + done);

		r = n < 0 ? (int) n : n == 0 ? -EIO : 0;
		if (r < 0)
			goto fail;
		done += (size_t) n;
	}
	r = j->os->fsync(j->os, j->fd);
	if (r < 0)
		goto fail;
	j->size += record->len;
	return 0;
fail:
	/* After a failed fsync the kernel may call lost pages clean: never build on this file again. */
	j->rewrite = true;
	(void) j->os->ftruncate(j->os, j->fd, j->size); /* so that a restart sees the state before, if it can */
	return r;
}

int journal_append(struct journal *j, const void *data, size_t len)
{
	CLEANUP(buf_done)
	struct buf record = BUF_INIT(HEADER + JOURNAL_RECORD_MAX);
	CLEANUP(buf_done)
	struct buf last = BUF_INIT(JOURNAL_RECORD_MAX);
	uint8_t header[HEADER];
	uint64_t limit;
	int r;

	if (j->read_only)
		return -EROFS;
	if (len == 0 || len > JOURNAL_RECORD_MAX)
		return len == 0 ? -EINVAL : -ERR_TOO_LARGE;
	memcpy(header, magic, sizeof(magic));
	put_u32(header + 4, (uint32_t) len);
	put_u32(header + 8, record_crc(header + 4, data, len));
	r = buf_add(&record, header, HEADER);
	if (r == 0)
		r = buf_add(&record, data, len);
	if (r == 0)
		r = buf_add(&last, data, len); /* before writing: afterwards nothing may fail */
	if (r < 0)
		return r;
	/* A large record must not make every append a compaction. */
	limit = JOURNAL_COMPACT_AT > 2 * record.len ? JOURNAL_COMPACT_AT : 2 * record.len;
	if (j->rewrite || j->fd < 0 || j->size == 0 || j->size + record.len > limit)
		r = rewrite(j, &record);
	else
		r = extend(j, &record);
	if (r < 0)
		return r;
	buf_done(&j->last);
	j->last = last;
	last = (struct buf) BUF_INIT(0);
	j->damaged = false;
	return 0;
}

const void *journal_last(const struct journal *j, size_t *ret_len)
{
	*ret_len = j->last.len;
	return j->last.len > 0 ? j->last.data : NULL;
}

bool journal_was_damaged(const struct journal *j)
{
	return j->damaged;
}

void journal_close(struct journal *j)
{
	if (!j)
		return;
	close_file(j);
	buf_done(&j->last);
	free(j->name);
	free(j);
}
