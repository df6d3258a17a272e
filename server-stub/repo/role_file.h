/*
 * role_file - one metadata file of ours in memory, as published, and the keys its delegator names.
 */
#ifndef SELFRIGHT_REPO_ROLE_FILE_H
#define SELFRIGHT_REPO_ROLE_FILE_H

#include "base/attr.h"
#include "base/buf.h"
#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json;
struct tuf_keyring;

enum { ROLE_FILE_MAX = 8 * 1024 * 1024 };

struct role_file {
	char name[ID_MAX + 1];
	uint64_t version;
	int64_t expires;
	int64_t issued; /* x-issued; 0 if it does not say */
	struct buf bytes;
	char sha256[SHA256_HEX + 1]; /* of the bytes */
	struct json *document;
	const struct json *body; /* `signed`, in document */
};

/* Read it strictly: envelope, _type as the name asks for, version, expires. Nothing is verified. */
NODISCARD int role_file_parse(const char *name, const void *bytes, size_t len, struct role_file **ret);
void role_file_free(struct role_file *f);
DEFINE_FREEP(struct role_file *, role_file_free)

/* root, targets, snapshot, timestamp? */
bool role_is_top(const char *name);
/* rollouts, support, inventory, snapshot, timestamp? */
bool role_is_online(const char *name);

/* "metadata/12.rollouts.json", "metadata/timestamp.json": appended. */
NODISCARD int role_file_path(const char *name, uint64_t version, struct buf *ret);

/* "targets/<dir>/<sha256>.<name>" for a target path: appended. */
NODISCARD int target_file_path(const char *path, const char *sha256, struct buf *ret);

/* What `delegator` (the `signed` of root or targets) says about a role: its object, and where its keys stand. NULL: nothing. */
const struct json *role_find(const struct json *delegator, const char *name, const struct json **ret_keys);

/* The delegated role that signs `path` (as it is written in its paths), by the `signed` of targets. NULL: nobody. */
const char *role_of_path(const struct json *targets, const char *path);

/* The ring of a role. -ERR_NOT_LISTED. */
NODISCARD int role_keyring(const struct json *delegator, const char *name, struct tuf_keyring **ret);

/* Signed by the threshold its delegator asks for? 0, -ERR_THRESHOLD, -ERR_NOT_LISTED ... */
NODISCARD int role_file_check(const struct role_file *f, const struct json *delegator);

#endif
