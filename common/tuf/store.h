/*
 * store - inside common/tuf: the folder of trusted files, and its lock.
 *
 * Each file is replaced durably and on its own; no file is ever trusted because it
 * lies here. The time floor is a file of ours beside them, named so that it can
 * never be a role's.
 */
#ifndef SELFRIGHT_TUF_STORE_H
#define SELFRIGHT_TUF_STORE_H

#include "base/attr.h"
#include "base/buf.h"

#include <stddef.h>
#include <stdint.h>

struct os;

struct tuf_store {
	const struct os *os;
	int dirfd; /* borrowed */
	int lock; /* -1: none */
};

/* Take the lock; -EBUSY if somebody has it. */
NODISCARD int tuf_store_open(struct tuf_store *s, const struct os *os, int dirfd);
void tuf_store_close(struct tuf_store *s);

/* The bytes of a role's file, at most `max`, appended. -ENOENT. */
NODISCARD int tuf_store_load(const struct tuf_store *s, const char *role, uint64_t max, struct buf *ret);

/* Durable when it returns 0. */
NODISCARD int tuf_store_save(const struct tuf_store *s, const char *role, const void *bytes, size_t len);

/* The same for the time floor. */
NODISCARD int tuf_store_load_floor(const struct tuf_store *s, struct buf *ret);
NODISCARD int tuf_store_save_floor(const struct tuf_store *s, const void *bytes, size_t len);

#endif
