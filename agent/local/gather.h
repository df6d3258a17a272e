/*
 * gather - a set of files that local configuration defines (collect.d), into one tar.
 *
 *   gathering_begin -> gathering_step until it answers 1 -> gathering_result -> gathering_free
 *
 * A step reads or writes about a mebibyte, so the caller's loop goes on. Of each pattern the regular files are taken,
 * no links; the newest first, and of what is larger than what is left of the set's limit the end, where a log's news is.
 * The first entry, manifest.txt, says what was taken of what. Nothing is synced.
 */
#ifndef SELFRIGHT_LOCAL_GATHER_H
#define SELFRIGHT_LOCAL_GATHER_H

#include "agent/local/config.h"
#include "base/attr.h"
#include "base/text.h"
#include "os/os.h"

#include <stdint.h>

enum { GATHER_FILES_MAX = 1000, GATHER_STEP_BYTES = 1024 * 1024 };

struct gathering;

/*
 * Into the new file `name` below dirfd (borrowed until the end). `set` is borrowed only in the call. -ENOENT: no
 * pattern has a file here; -EEXIST.
 */
NODISCARD int gathering_begin(const struct os *os, const struct config_set *set, int dirfd, const char *name,
			      struct gathering **ret);
/* 0: call again; 1: it is whole. A file that shrinks meanwhile is filled up with zeros, one that grows keeps its size. */
NODISCARD int gathering_step(struct gathering *g);
/* After 1: the tar's length and SHA-256, and how many files are in it. */
void gathering_result(const struct gathering *g, uint64_t *ret_length, char ret_sha256[static SHA256_HEX + 1],
		      uint64_t *ret_files);
/* Its file, which the caller may sync. */
int gathering_fd(const struct gathering *g);
/* The file stays; NULL is fine. */
void gathering_free(struct gathering *g);
DEFINE_FREEP(struct gathering *, gathering_free)

#endif
