/*
 * upload - a body that becomes a file named by its SHA-256, or nothing at all.
 */
#ifndef SELFRIGHT_WEB_UPLOAD_H
#define SELFRIGHT_WEB_UPLOAD_H

#include "base/attr.h"
#include "base/text.h"
#include "os/os.h"

#include <stddef.h>

struct sha256;

struct upload {
	const struct os *os; /* NULL: none under way */
	int dirfd, fd;
	struct sha256 *hash;
	char name[SHA256_HEX + 1], part[SHA256_HEX + 32];
};

/* -ERR_NAME if `name` is no SHA-256 in lower-case hex; -ENOTDIR without a folder. */
NODISCARD int upload_begin(struct upload *u, const struct os *os, const char *dir, const char *name);
NODISCARD int upload_add(struct upload *u, const void *data, size_t len);
/* The file is there under its name, or (-ERR_DIGEST) the bytes were others and nothing is left. */
NODISCARD int upload_end(struct upload *u);
/* Drop what came so far; after upload_end it does nothing. A zeroed object is fine. */
void upload_abort(struct upload *u);

#endif
