/*
 * file - answers made of a file: ranges, strong ETags, caching.
 */
#ifndef SELFRIGHT_WEB_FILE_H
#define SELFRIGHT_WEB_FILE_H

#include "base/attr.h"
#include "os/os.h"

#include <stdbool.h>
#include <stdint.h>

struct web_request;

void file_answer(struct web_request *rq, const struct os *os, int dirfd, const char *path);

enum range_verdict {
	RANGE_WHOLE, /* no range, or one we do not serve (several, other units): the whole file */
	RANGE_PART,
	RANGE_OUTSIDE, /* 416 */
};
/* "bytes=0-9", "bytes=10-", "bytes=-5" of a file of `size` bytes. */
enum range_verdict range_parse(const char *text, uint64_t size, uint64_t *ret_first, uint64_t *ret_length);

/* Is the name bound to its content: "<sha256>.x" or "<number>.<role>.json"? Then it never changes. */
bool file_name_is_immutable(const char *name);

#endif
