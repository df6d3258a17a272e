/*
 * tree - the listing of a folder and its digest (DESIGN.md section 12).
 *
 * Records sorted bytewise by path, each
 *   type(f|d|l) SP mode(4 octal digits) SP size SP sha256-or-"-" SP path NUL target NUL
 * Directories have size 0 and no digest, links the length of their target and no
 * digest. The tree's own folder has no record. Tree digest = SHA-256 of the listing.
 */
#ifndef SELFRIGHT_TREE_TREE_H
#define SELFRIGHT_TREE_TREE_H

#include "base/attr.h"
#include "base/buf.h"
#include "base/text.h"
#include "os/os.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TREE_FILES_MAX = 1000000, TREE_LISTING_MAX = 256 * 1024 * 1024 };

struct tree_entry {
	char type; /* 'f', 'd', 'l' */
	unsigned mode;
	uint64_t size;
	uint8_t sha256[SHA256_BYTES]; /* 'f' only */
	char *path;
	char *target; /* 'l' only, else NULL */
};

struct tree {
	struct tree_entry *entries; /* sorted by path */
	size_t count, capacity;
	uint64_t total_bytes; /* of files */
	uint64_t files;
};

void tree_done(struct tree *t);

/* Append a copy of `e`. Call tree_sort() after the last. */
NODISCARD int tree_add(struct tree *t, const struct tree_entry *e);
void tree_sort(struct tree *t);

/* A way to know a file's digest without reading it (sealing of shared files); 0 = known, 1 = hash it. NULL: hash all. */
typedef int tree_known_digest(void *user, const char *path, int fd, uint8_t ret[static SHA256_BYTES]);

/*
 * List the folder at dirfd, reading every file, following no links. What a tree
 * may not hold is -ERR_ARCHIVE_ENTRY: devices, sockets, fifos, setuid, setgid or
 * sticky modes, world-writable files, extended attributes other than none,
 * links that leave the tree. With an `owner` everything must be his and modes are
 * listed as they are (a sealed tree); with (uid_t) -1 any owner will do and modes
 * are listed as unpacking will set them: 0755 for folders and what anyone may
 * execute, else 0644 (a tree to be published). *ret_offender (NULL is fine; free it) names the entry.
 */
NODISCARD int tree_scan(const struct os *os, int dirfd, uid_t owner, tree_known_digest *known, void *user,
			struct tree *ret, char **ret_offender);

/* The listing's bytes. */
NODISCARD int tree_listing(const struct tree *t, struct buf *out);
/* Strictly back: sorted, unique, guard_path()ed names, allowed modes, every entry's folder listed before it. */
NODISCARD int tree_parse(const void *listing, size_t len, struct tree *ret);

NODISCARD int tree_digest(const struct tree *t, uint8_t ret[static SHA256_BYTES]);

/* May a tree hold this entry? Modes: files 0444-0755 without setuid and world write; directories 0755 or stricter; links 0777. */
bool tree_entry_is_allowed(const struct tree_entry *e);
/* Does a link at `path` with `target` stay inside the tree? Absolute targets do not, nor ".." behind a name. */
bool tree_link_stays_inside(const char *path, const char *target);

#endif
