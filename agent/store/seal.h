/*
 * seal - from a folder the stage user filled to a tree of ours nobody changes.
 *
 *   fd = seal_begin(os, store_fd, "web", "1.1.0", uid, gid);   fd of store/web/1.1.0.partial
 *   ... the stage process unpacks into fd, and is gone with all its children ...
 *   r = seal_commit(os, store_fd, "web", "1.1.0", digest, &offender);
 *   or seal_abort(os, store_fd, "web", "1.1.0");                   after commit it does nothing
 *
 * Commit takes every folder away from the stage user before it lists it, refuses
 * what is no file, folder or link, takes ownership (as root), gives folders and
 * executable files 0755 and other files 0644, hashes, compares with the signed tree digest,
 * syncs, writes the record store/web/1.1.0.seal, and renames. The record holds the
 * digest, the tree's own inode, and per file inode, size, mtime, ctime and digest.
 */
#ifndef SELFRIGHT_STORE_SEAL_H
#define SELFRIGHT_STORE_SEAL_H

#include "base/attr.h"
#include "base/text.h"
#include "os/os.h"

#include <stdint.h>
#include <sys/types.h>

/*
 * An empty folder store/<component>/<version>.partial for the stage user (uid (uid_t) -1:
 * stays ours); what an earlier attempt left there is removed. Returns its descriptor.
 * -ERR_NAME for a component or version that is none.
 */
NODISCARD int seal_begin(const struct os *os, int store_fd, const char *component, const char *version, uid_t uid,
			 gid_t gid);

/*
 * Seal it. 0 also when it was sealed before with this digest (a partial one is removed then).
 * -ERR_TREE: it is not the signed tree, or another one is sealed under this version;
 * -ERR_ARCHIVE_ENTRY: an entry a tree may not hold; -EBUSY: a file is still open for writing
 * somewhere; -ENOENT: neither partial nor sealed. *ret_offender (NULL is fine; free it) names the entry, if one is to
 * blame. On failure the partial folder stays for seal_abort.
 */
NODISCARD int seal_commit(const struct os *os, int store_fd, const char *component, const char *version,
			  const uint8_t digest[static SHA256_BYTES], char **ret_offender);

/* Remove the partial folder; a sealed tree stays. */
NODISCARD int seal_abort(const struct os *os, int store_fd, const char *component, const char *version);

/* The digest recorded at sealing. -ENOENT: not sealed; -ERR_TREE: the record is malformed. */
NODISCARD int seal_digest(const struct os *os, int store_fd, const char *component, const char *version,
			  uint8_t ret[static SHA256_BYTES]);

/*
 * The quick look: tree and record are there, and the tree's folder is the one that was
 * sealed, still ours. -ENOENT, -ERR_TREE.
 */
NODISCARD int seal_check_identity(const struct os *os, int store_fd, const char *component, const char *version);

/*
 * Hash the whole tree again. `digest` NULL: against the recorded one. -ERR_TREE, -ERR_ARCHIVE_ENTRY,
 * -ENOENT. *ret_offender as above; the first file whose content differs from the record.
 */
NODISCARD int seal_verify(const struct os *os, int store_fd, const char *component, const char *version,
			  const uint8_t *digest, char **ret_offender);

/* The quick look, and the whole one where that fails though the tree is there (a restored backup has other inodes). */
NODISCARD int seal_is_sound(const struct os *os, int store_fd, const char *component, const char *version);

/*
 * The same, and every file is the one that was sealed, by inode, size and times; where one is not, the
 * whole tree is hashed. Costs a look at each file: asked before a way back is taken.
 */
NODISCARD int seal_is_intact(const struct os *os, int store_fd, const char *component, const char *version);

/*
 * Put the partial folder in the place of a sealed tree that was damaged: verified and synced, then exchanged in one
 * step, then the record. Killed or cut in between, the version is the damaged or the mended tree; what is left over
 * is a partial one. Errors and *ret_offender as seal_commit.
 */
NODISCARD int seal_replace(const struct os *os, int store_fd, const char *component, const char *version,
			   const uint8_t digest[static SHA256_BYTES], char **ret_offender);

/* Remove a sealed tree and its record, first by renaming it to .partial. Missing is fine. */
NODISCARD int seal_remove(const struct os *os, int store_fd, const char *component, const char *version);

#endif
