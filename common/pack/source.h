/*
 * source - an artifact's bytes as libarchive asks for them.
 *
 * zstd is decoded here: libarchive's own filter takes windows of 128 MiB, this one
 * takes the 8 MiB of the format, and bounds what comes out. Everything is read by
 * position, so the descriptor's own offset neither matters nor moves.
 */
#ifndef SELFRIGHT_PACK_SOURCE_H
#define SELFRIGHT_PACK_SOURCE_H

#include "base/attr.h"
#include "os/os.h"

#include <stdbool.h>
#include <stdint.h>

struct archive;
struct ZSTD_DCtx_s;

struct source {
	const struct os *os;
	int fd;
	uint64_t offset, size;
	uint8_t *in, *out; /* `out` and what follows for zstd only */
	struct ZSTD_DCtx_s *zstd;
	size_t in_at, in_len;
	bool in_frame; /* the input may not end here */
	uint64_t produced, produced_max;
	int error; /* why a callback failed: 0 or negative */
};

/* `produced_max`: most bytes that zstd may give; it is not looked at for others. */
NODISCARD int source_init(struct source *s, const struct os *os, int fd, bool is_zstd, uint64_t produced_max);
void source_done(struct source *s);

/* Let `a` read from `s`. libarchive's result. */
NODISCARD int source_open(struct source *s, struct archive *a);

#endif
