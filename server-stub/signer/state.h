/*
 * state - what the signer signed last, kept across power loss: versions that may
 * never be given out again, the last snapshot's listing, the lock's counter.
 */
#ifndef SELFRIGHT_SIGNER_STATE_H
#define SELFRIGHT_SIGNER_STATE_H

#include "base/attr.h"
#include "base/text.h"
#include "os/os.h"
#include "server-stub/signer/roles.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json;

struct signer_record {
	uint64_t version; /* 0: never signed */
	uint64_t length; /* of the metadata file */
	char sha256[SHA256_HEX + 1]; /* of the metadata file; "" if only the version is known */
	int64_t expires;
};

struct signer_listed {
	char *file; /* "team-web.json" */
	uint64_t version;
};

struct signer_listing {
	struct signer_listed *items;
	size_t count;
};

struct signer_state {
	uint64_t counter; /* of the lock in the published folder */
	struct signer_record roles[SIGNER_ROLE_COUNT];
	/*
	 * What the newest snapshot that was seen published lists: no later one may list less. A snapshot becomes that
	 * only when its timestamp is found in the published folder, because until then no reader had it, and an
	 * interrupted publication must be free to be replaced by another one.
	 */
	struct signer_listing listed, pending;
	uint64_t
		named_snapshot; /* the version the last timestamp names; `pending` counts once it is the last snapshot's */
};

/* 0; -ENOENT if there is none; -ERR_STALE_STATE if what is there cannot be read as one. */
NODISCARD int signer_state_load(const struct os *os, int dirfd, struct signer_state *ret);
/* Durable before it returns. */
NODISCARD int signer_state_save(const struct os *os, int dirfd, const struct signer_state *s);
void signer_state_done(struct signer_state *s);

/* The version a listing has for a file; 0: none. */
uint64_t signer_listing_version(const struct signer_listing *l, const char *file);

/* Replace the listing by the `meta` object of a snapshot, or, with `merge`, raise it to that. -ENOMEM, -ERR_FIELD_*. */
NODISCARD int signer_listing_set(struct signer_listing *l, const struct json *meta, bool merge);

/* A copy; the caller's. */
NODISCARD int signer_listing_copy(const struct signer_listing *from, struct signer_listing *ret);
void signer_listing_done(struct signer_listing *l);

/* The last timestamp was seen published: what it names binds from now on. */
void signer_state_confirm(struct signer_state *s);

#endif
