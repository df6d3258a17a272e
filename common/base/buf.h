/*
 * buf - bytes that grow up to a limit set at birth.
 *
 * CLEANUP(buf_done) struct buf b = BUF_INIT(64 * 1024);
 *
 * Always NUL-terminated behind `len`, so text can be read as a C string; data is
 * NULL only while nothing was ever added. A failed call leaves the content as it was.
 */
#ifndef SELFRIGHT_BASE_BUF_H
#define SELFRIGHT_BASE_BUF_H

#include "base/attr.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
	uint8_t *data;
	size_t len;
	size_t capacity;
	size_t max; /* most bytes it may hold, without the NUL */
};

#define BUF_INIT(limit)                                                                                           \
	{                                                                                                         \
		NULL, 0, 0, (limit)                                                                               \
	}

void buf_init(struct buf *b, size_t max);

/* Free the content; the buffer is empty and usable again. */
void buf_done(struct buf *b);

/* -ERR_TOO_LARGE beyond max, -ENOMEM. */
NODISCARD int buf_add(struct buf *b, const void *data, size_t len);
NODISCARD int buf_add_str(struct buf *b, const char *s);
NODISCARD int buf_add_byte(struct buf *b, uint8_t byte);
NODISCARD int buf_addf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* All that comes from a descriptor until its end. -errno; what came before it is there. */
NODISCARD int buf_read(struct buf *b, int fd);

/* Room for `len` more bytes; write them at data + len, then add to len. */
NODISCARD int buf_reserve(struct buf *b, size_t len);

/* Drop the first `len` bytes. */
void buf_consume(struct buf *b, size_t len);

/* Empty it, keep the memory. */
void buf_clear(struct buf *b);

/* The content as a C string, "" when nothing was added. Borrowed until the next change. */
const char *buf_str(const struct buf *b);

/* Hand the memory to the caller (free it); the buffer is empty. NULL if nothing was ever added. */
char *buf_take(struct buf *b);

#endif
