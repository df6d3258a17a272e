/*
 * bundle - the repository's tree without a network: a folder, or a tar of one.
 *
 *   r = bundle_open(&os_posix, fd, &b);          takes the descriptor over
 *   r = fetcher_get(bundle_fetcher(b), "metadata/timestamp.json", max, &bytes);
 *   r = bundle_find(b, "targets/web/1.1.0/SHA256.web.tar.zst", &fd, &offset, &size);
 *
 * A stick is a carrier like any other: nothing it holds is believed here. A tar is
 * read once for the names in it (ustar, with the long names of GNU tar and pax), never
 * unpacked. Only regular files below metadata/ and targets/ exist; everything else in it
 * is passed over.
 */
#ifndef SELFRIGHT_FETCH_BUNDLE_H
#define SELFRIGHT_FETCH_BUNDLE_H

#include "base/attr.h"
#include "base/fetcher.h"
#include "os/os.h"

#include <stddef.h>
#include <stdint.h>

/* Of ours, of all there are, and of the names of ours together: a stick can be made to hold anything. */
enum { BUNDLE_MEMBERS_MAX = 200000, BUNDLE_ENTRIES_MAX = 400000, BUNDLE_NAMES_MAX = 16 * 1024 * 1024 };

struct bundle;

/*
 * `fd` is a folder's, or a file's that can be sought; it is the bundle's on success.
 * -ERR_ARCHIVE: neither a folder nor a whole tar; -ERR_DUPLICATE_NAME: a name twice;
 * -ERR_TOO_LARGE: more than BUNDLE_MEMBERS_MAX files, BUNDLE_ENTRIES_MAX entries, or BUNDLE_NAMES_MAX bytes of names.
 */
NODISCARD int bundle_open(const struct os *os, int fd, struct bundle **ret);
void bundle_close(struct bundle *b);
DEFINE_FREEP(struct bundle *, bundle_close)

/* Lives as long as the bundle. Its errors: -ENOENT, -ERR_TOO_LARGE, those of the disk. */
struct fetcher *bundle_fetcher(struct bundle *b);

/* Where the bytes of a file are: a descriptor of the caller's own, from `offset` on. -ENOENT, -ERR_NAME. */
NODISCARD int bundle_find(const struct bundle *b, const char *name, int *ret_fd, uint64_t *ret_offset,
			  uint64_t *ret_size);

/* --- making one: files one after the other, then the end; nothing is synced --- */

NODISCARD int bundle_add(const struct os *os, int out, const char *name, const void *data, size_t len);
/* `size` bytes of `in` from its beginning. -ERR_LENGTH: it is shorter. */
NODISCARD int bundle_add_file(const struct os *os, int out, const char *name, int in, uint64_t size);
/*
 * For a tar that is no bundle (collected files): any name that passes guard_path(), then `size` bytes of the caller's to
 * `out`, then what fills them up. bundle_end() ends it as well.
 */
NODISCARD int tar_begin_file(const struct os *os, int out, const char *name, uint64_t size);
NODISCARD int tar_end_file(const struct os *os, int out, uint64_t size);
NODISCARD int bundle_end(const struct os *os, int out);

#endif
