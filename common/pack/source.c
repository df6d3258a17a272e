#include "pack/source.h"

#include "base/err.h"

#include <archive.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <zstd.h>
#include <zstd_errors.h>

enum { IN_BYTES = 128 * 1024, OUT_BYTES = 512 * 1024, WINDOW_LOG_MAX = 23 };

int source_init(struct source *s, const struct os *os, int fd, bool is_zstd, uint64_t produced_max)
{
	struct stat st;
	int r;

	*s = (struct source){ .os = os, .fd = fd, .produced_max = produced_max };
	r = os->fstat(os, fd, &st);
	if (r < 0)
		return r;
	s->size = (uint64_t) st.st_size;
	s->in = malloc(IN_BYTES);
	if (!s->in)
		return -ENOMEM;
	if (!is_zstd)
		return 0;
	s->out = malloc(OUT_BYTES);
	s->zstd = ZSTD_createDCtx();
	if (!s->out || !s->zstd)
		return -ENOMEM;
	return ZSTD_isError(ZSTD_DCtx_setParameter(s->zstd, ZSTD_d_windowLogMax, WINDOW_LOG_MAX)) ? -EINVAL : 0;
}

void source_done(struct source *s)
{
	(void) ZSTD_freeDCtx(s->zstd); /* always 0 */
	free(s->in);
	free(s->out);
	*s = (struct source){ 0 };
}

static la_ssize_t fail(struct source *s, struct archive *a, int r)
{
	s->error = r;
	archive_set_error(a, EIO, "%s", err_text(r));
	return -1;
}

/* The next input at s->in: its length, 0 at the end. */
static ssize_t read_in(struct source *s)
{
	ssize_t n = s->os->pread(s->os, s->fd, s->in, IN_BYTES, s->offset);

	if (n > 0)
		s->offset += (uint64_t) n;
	return n;
}

static la_ssize_t read_plain(struct archive *a, void *user, const void **ret)
{
	struct source *s = user;
	ssize_t n = read_in(s);

	*ret = s->in;
	return n < 0 ? fail(s, a, (int) n) : n;
}

/* Decode until there is something, or the end. */
static la_ssize_t read_zstd(struct archive *a, void *user, const void **ret)
{
	struct source *s = user;
	ZSTD_outBuffer out = { s->out, OUT_BYTES, 0 };

	*ret = s->out;
	while (out.pos == 0) {
		ZSTD_inBuffer in = { s->in, s->in_len, s->in_at };
		size_t left;

		if (in.pos == in.size) {
			ssize_t n = read_in(s);

			if (n < 0)
				return fail(s, a, (int) n);
			if (n == 0 && s->in_frame)
				return fail(s, a, -ERR_ARCHIVE);
			if (n == 0)
				return 0;
			in.size = (size_t) n;
			in.pos = 0;
		}
		left = ZSTD_decompressStream(s->zstd, &out, &in);
		if (ZSTD_isError(left))
			return fail(s, a,
				    ZSTD_getErrorCode(left) == ZSTD_error_memory_allocation ? -ENOMEM
											    : -ERR_ARCHIVE);
		s->in_frame = left != 0;
		s->in_at = in.pos;
		s->in_len = in.size;
	}
	s->produced += out.pos;
	if (s->produced > s->produced_max)
		return fail(s, a, -ERR_TOO_LARGE);
	return (la_ssize_t) out.pos;
}

static la_int64_t seek_plain(struct archive *a, void *user, la_int64_t offset, int whence)
{
	struct source *s = user;
	int64_t base = whence == SEEK_CUR ? (int64_t) s->offset : whence == SEEK_END ? (int64_t) s->size : 0, at;

	if (__builtin_add_overflow(base, offset, &at) || at < 0)
		return fail(s, a, -ERR_ARCHIVE);
	s->offset = (uint64_t) at;
	return at;
}

int source_open(struct source *s, struct archive *a)
{
	int r;

	r = archive_read_set_callback_data(a, s);
	if (r == ARCHIVE_OK)
		r = archive_read_set_read_callback(a, s->zstd ? read_zstd : read_plain);
	if (r == ARCHIVE_OK && !s->zstd)
		r = archive_read_set_seek_callback(a, seek_plain);
	return r == ARCHIVE_OK ? archive_read_open1(a) : r;
}
