/*
 * bundle - what a node without a network needs of the published folder, as one tar.
 *
 * All roots, the current metadata of every role, the documents every node reads, and of
 * the releases that were chosen the manifest and its files. Which of that a node may take
 * stays for it to decide: a bundle carries, it allows nothing.
 */
#ifndef SELFRIGHT_REPO_BUNDLE_H
#define SELFRIGHT_REPO_BUNDLE_H

#include "base/attr.h"
#include "base/text.h"
#include "base/version.h"

#include <stddef.h>
#include <stdint.h>

struct json;
struct repo;

enum { BUNDLE_RELEASES_MAX = 256 };

struct repo_bundle_release {
	char component[ID_MAX + 1];
	char version[VERSION_MAX + 1];
};

struct repo_bundle {
	/* --- asked for --- */
	const char *const *components; /* only these; none: all */
	size_t component_count;
	const char *const
		*versions; /* of those components, whatever the rollouts say; none: what rollouts in force name */
	size_t version_count;
	const char *const *nodes; /* orders and labels of these alone; none: of all */
	size_t node_count;
	const struct json *instead; /* {role: bytes} to go in the place of what is published; NULL: none */
	/* --- what came of it --- */
	struct repo_bundle_release releases[BUNDLE_RELEASES_MAX];
	size_t release_count;
	size_t files;
	uint64_t bytes; /* of the tar */
	int64_t expires; /* the first of timestamp, snapshot, rollouts and support to */
};

/*
 * Write it to `fd`, synced. Every file is checked against what its role signed on the way.
 * -ERR_STALE_STATE: what is published is no longer what `instead` was signed for.
 * -ENOENT: a release was asked for that is not published, or a file is missing; repo_error() names it.
 */
NODISCARD int repo_write_bundle(struct repo *r, struct repo_bundle *b, int fd);

#endif
