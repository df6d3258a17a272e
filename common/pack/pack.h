/*
 * pack - folders into artifacts and back: libarchive, zstd, zlib (here only).
 *
 * A full artifact is a tar in independent zstd frames with a seek table (zstd
 * seekable format: contrib/seekable_format in zstd), window at most 8 MiB; every
 * tool reads it as .tar.zst. As input gzip, xz, plain tar and zip are taken too.
 */
#ifndef SELFRIGHT_PACK_PACK_H
#define SELFRIGHT_PACK_PACK_H

#include "base/attr.h"
#include "base/buf.h"
#include "base/text.h"
#include "os/os.h"

#include <stdint.h>

struct tree;

enum pack_media { PACK_TAR_ZSTD, PACK_TAR_GZIP, PACK_TAR_XZ, PACK_TAR, PACK_ZIP };

/* "application/x-tar+zstd", "...+gzip", "...+xz", "application/x-tar", "application/zip"; -1 if none of them. */
const char *pack_media_name(enum pack_media media);
int pack_media_parse(const char *name);

/*
 * Write `t` (a tree_scan() of dirfd) to out_fd as PACK_TAR_ZSTD. Reproducible:
 * owner 0/0, mtime 0, sorted. Returns the artifact's length and SHA-256.
 */
NODISCARD int pack_create(const struct os *os, int dirfd, const struct tree *t, int level, int out_fd,
			  uint64_t *ret_length, uint8_t ret_sha256[static SHA256_BYTES]);

struct pack_limits {
	uint64_t max_bytes; /* unpacked, from the signed installed_size */
	uint64_t max_files; /* from the signed count */
};

/*
 * Unpack a verified artifact into the empty folder at dirfd, never through a link:
 * entries in any order, missing folders made 0755. Refused with -ERR_ARCHIVE_ENTRY
 * and the entry's name in *ret_offender (NULL is fine; free it): absolute names, "..", devices,
 * fifos, setuid/setgid/sticky, world-writable, links that leave the tree, names
 * twice, hard links to anything but an earlier file of the archive (they become
 * files). -ERR_TOO_LARGE over the limits, -ERR_ARCHIVE for damage.
 * One syncfs by the caller makes it durable.
 */
NODISCARD int pack_extract(const struct os *os, int in_fd, enum pack_media media, int dirfd,
			   const struct pack_limits *limits, char **ret_offender);

/*
 * The listing of an artifact as pack_create() writes it, every file's digest included, without unpacking it: what a
 * tree_scan() of the unpacked folder would say. `ret` is the caller's (tree_done) only after 0. Errors as above.
 */
NODISCARD int pack_list(const struct os *os, int in_fd, const struct pack_limits *limits, struct tree *ret);

/* A whole gzip member each way, for announcements; `out`'s limit bounds a bomb (-ERR_TOO_LARGE). */
NODISCARD int gzip_compress(const void *data, size_t len, struct buf *out);
NODISCARD int gzip_expand(const void *data, size_t len, struct buf *out);

#endif
