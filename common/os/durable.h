/*
 * durable - files and links that are there after a power cut, or are as before.
 *
 * Each function says which sync makes its promise. All are relative to a
 * directory descriptor and follow no links. A name may be a guard_path() of
 * several parts, whose folders must exist; with AT_FDCWD it may be any path of
 * the operator's, whose folders (not the last part) may then be links.
 * Temporary names are ".NAME.RANDOM.pending" in the same folder; one that a
 * crash left behind may be removed by whoever owns the folder.
 */
#ifndef SELFRIGHT_OS_DURABLE_H
#define SELFRIGHT_OS_DURABLE_H

#include "base/attr.h"
#include "base/buf.h"
#include "os/os.h"

/*
 * Let `name` hold exactly these bytes: written to a temporary name, fsync of the
 * file, rename, fsync of the directory. A reader sees old or new, never part;
 * after 0 the new is there after any crash. -errno; on failure the old stays
 * (after a failed last fsync it may be either).
 */
NODISCARD int durable_write_file(const struct os *os, int dirfd, const char *name, const void *data, size_t len,
				 mode_t mode);

/*
 * Let `name` point to `target` in one step: symlink under a temporary name,
 * rename, fsync of the directory. On failure the link is whole but may be either.
 */
NODISCARD int durable_link_replace(const struct os *os, int dirfd, const char *target, const char *name);

/* mkdir (an existing directory is fine), fsync of the parent. Returns 0. */
NODISCARD int durable_mkdir(const struct os *os, int dirfd, const char *name, mode_t mode);

/* mkdir of every part of a guard_path()ed path; existing parts are fine. Not synced. */
NODISCARD int dir_make_path(const struct os *os, int dirfd, const char *path, mode_t mode);

/* Open a directory below dirfd, no part of which may be a link. Returns a descriptor. */
NODISCARD int dir_open(const struct os *os, int dirfd, const char *path);

/*
 * All of a regular file, at most `max` bytes (-ERR_TOO_LARGE), appended to `ret`,
 * which stays as it was on failure. -ENOENT; -EISDIR, -EINVAL for what is no file, -ELOOP for a link.
 */
NODISCARD int file_read(const struct os *os, int dirfd, const char *name, size_t max, struct buf *ret);

/* write until all is written. */
NODISCARD int file_write_all(const struct os *os, int fd, const void *data, size_t len);

/* Remove a file or a whole tree, never crossing a link or a mount; missing is fine. Not synced. */
NODISCARD int tree_remove(const struct os *os, int dirfd, const char *name);

/* The names in a directory without "." and "..", sorted bytewise. */
struct name_list {
	char **names;
	size_t count;
};
NODISCARD int dir_list(const struct os *os, int dirfd, const char *path, struct name_list *ret);
void name_list_done(struct name_list *list);

/* fsync of a directory by name below dirfd ("." for itself). */
NODISCARD int dir_sync(const struct os *os, int dirfd, const char *path);

#endif
