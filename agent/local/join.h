/*
 * join - make a node out of a join file: the one file `selfright node add` writes.
 *
 * It holds fleet, node, the first trusted root with its SHA-256, addresses, CA, labels and
 * vars, and either both keys with the certificate (format 1), or a secret that works once
 * (format 2): then the keys are made here, and the agent enrols when it runs. Everything is
 * checked before the first file is written; the identity comes last, so that a folder without
 * identity.key is not joined yet.
 */
#ifndef SELFRIGHT_LOCAL_JOIN_H
#define SELFRIGHT_LOCAL_JOIN_H

#include "base/attr.h"
#include "os/os.h"

#include <stdbool.h>
#include <stddef.h>

enum { JOIN_MAX_BYTES = 1024 * 1024 };

struct join_options {
	const struct os *os;
	const char *config_dir; /* made if missing */
	const char *root, *run; /* NULL: the defaults, not written */
	bool force; /* replace an identity that is there */
};

struct join_error {
	char text[512];
};

/* -EEXIST: an identity is there already; -ERR_CONFIG and others: *ret_error says what is wrong with the file. */
NODISCARD int join_apply(const struct join_options *o, const void *file, size_t len, struct join_error *ret_error);

#endif
