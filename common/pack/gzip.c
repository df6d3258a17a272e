#include "pack/pack.h"

#include "base/err.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <zlib.h>

enum { GZIP_WINDOW = 15 + 16 /* + 16: a gzip header, and nothing but */, CHUNK_BYTES = 64 * 1024 };

static int zlib_error(int z)
{
	return z == Z_MEM_ERROR ? -ENOMEM : -ERR_ARCHIVE;
}

static void restore(struct buf *out, size_t len)
{
	out->len = len;
	if (out->data)
		out->data[len] = '\0';
}

int gzip_compress(const void *data, size_t len, struct buf *out)
{
	z_stream z = { 0 };
	size_t bound;
	int r, end;

	if (len > INT_MAX)
		return -ERR_TOO_LARGE;
	if (deflateInit2(&z, Z_BEST_COMPRESSION, Z_DEFLATED, GZIP_WINDOW, 9, Z_DEFAULT_STRATEGY) != Z_OK)
		return -ENOMEM;
	bound = deflateBound(&z, (uLong) len);
	if (bound > out->max - out->len)
		bound = out->max - out->len; /* it may still fit */
	r = buf_reserve(out, bound);
	if (r < 0)
		goto out;
	z.next_in = (Bytef *) (uintptr_t) data; /* zlib 1.2 has no const here; it only reads */
	z.avail_in = (uInt) len;
	z.next_out = out->data + out->len;
	z.avail_out = (uInt) bound;
	end = deflate(&z, Z_FINISH);
	if (end == Z_STREAM_END)
		out->len += z.total_out;
	else
		r = end == Z_OK || end == Z_BUF_ERROR ? -ERR_TOO_LARGE : zlib_error(end);
	restore(out, out->len);
out:
	(void) deflateEnd(&z); /* complains about output not taken, which is dropped on purpose */
	return r;
}

/* Inflate until the member's end. When `out` is full, one byte more tells a bomb from an exact fit. */
static int expand(z_stream *z, struct buf *out)
{
	for (;;) {
		size_t room = out->max - out->len < CHUNK_BYTES ? out->max - out->len : CHUNK_BYTES;
		Bytef spare;
		int r, end;

		r = buf_reserve(out, room);
		if (r < 0)
			return r;
		z->next_out = room > 0 ? out->data + out->len : &spare;
		z->avail_out = room > 0 ? (uInt) room : 1;
		end = inflate(z, Z_NO_FLUSH);
		if (room > 0)
			out->len += room - z->avail_out;
		else if (z->avail_out == 0)
			return -ERR_TOO_LARGE;
		if (end == Z_STREAM_END)
			return z->avail_in == 0 ? 0 : -ERR_ARCHIVE;
		if (end != Z_OK)
			return zlib_error(end); /* Z_BUF_ERROR: it ends too early */
	}
}

int gzip_expand(const void *data, size_t len, struct buf *out)
{
	size_t start = out->len;
	z_stream z = { 0 };
	int r;

	if (len > INT_MAX)
		return -ERR_TOO_LARGE;
	if (inflateInit2(&z, GZIP_WINDOW) != Z_OK)
		return -ENOMEM;
	z.next_in = (Bytef *) (uintptr_t) data; /* zlib 1.2 has no const here; it only reads */
	z.avail_in = (uInt) len;
	r = expand(&z, out);
	restore(out, r < 0 ? start : out->len);
	(void) inflateEnd(&z); /* cannot fail for a stream that was opened */
	return r;
}
