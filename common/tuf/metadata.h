/*
 * metadata - inside common/tuf: one role's file, from received bytes to verified meaning.
 *
 * Verify first, interpret after: metadata_read() takes the bytes apart only as far
 * as the envelope, metadata_verify() checks it against a ring, metadata_interpret()
 * then checks every member that is used. Root chooses its own keys, so its reader
 * faces hostile keys and roles by definition.
 */
#ifndef SELFRIGHT_TUF_METADATA_H
#define SELFRIGHT_TUF_METADATA_H

#include "base/attr.h"
#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json;
struct tuf_keyring;

enum role_type { ROLE_ROOT, ROLE_TIMESTAMP, ROLE_SNAPSHOT, ROLE_TARGETS };

struct metadata {
	struct buf bytes; /* exactly as received */
	struct json *document;
	const struct json *body; /* `signed`, in document */
	enum role_type type;
	uint64_t version;
	int64_t expires;
	int64_t issued; /* x-issued of a timestamp, 0 if it has none */
};

/* "root", "timestamp", "snapshot", "targets": what _type says, and the names of the top-level roles. */
const char *role_type_name(enum role_type type);
bool role_is_top_level(const char *name);

/* Parse the envelope; bytes are copied. -ERR_SYNTAX and the other errors of json_parse, -ERR_FIELD_*. */
NODISCARD int metadata_read(enum role_type type, const void *bytes, size_t len, struct metadata **ret);
void metadata_free(struct metadata *m);
DEFINE_FREEP(struct metadata *, metadata_free)

NODISCARD int metadata_verify(const struct metadata *m, const struct tuf_keyring *ring);

/* Check _type, spec_version, version, expires and what the role's type has; fills the numbers. `foreign`: see keyring.h. */
NODISCARD int metadata_interpret(struct metadata *m, bool foreign);

/* read, verify, interpret. */
NODISCARD int metadata_accept(enum role_type type, const void *bytes, size_t len, const struct tuf_keyring *ring,
			      bool foreign, struct metadata **ret);

/* A first root: interpreted, then verified against itself. */
NODISCARD int metadata_accept_root(const void *bytes, size_t len, bool foreign, struct metadata **ret);

/* The ring a root has for a top-level role. The root must be interpreted. */
NODISCARD int metadata_ring(const struct metadata *root, enum role_type type, struct tuf_keyring **ret);

/* The entry of `role` in a snapshot's or timestamp's `meta`; NULL if it is not listed. */
const struct json *metadata_entry(const struct metadata *m, const char *role);

uint64_t entry_version(const struct json *entry);

/* The length of an entry if it gives one, else `otherwise`. */
uint64_t entry_length(const struct json *entry, uint64_t otherwise);

/* Do these bytes have the length and hashes the entry gives, if it gives any? 0, -ERR_LENGTH, -ERR_DIGEST. */
NODISCARD int entry_check_bytes(const struct json *entry, const void *bytes, size_t len);

/* Is this exactly the file the entry speaks of: version, length, hashes? */
bool entry_is(const struct json *entry, const struct metadata *m);

#endif
