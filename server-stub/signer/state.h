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

struct signer_state {
	uint64_t counter; /* of the lock in the published folder */
	struct signer_record roles[SIGNER_ROLE_COUNT];
	struct signer_listed *listed; /* by the last snapshot */
	size_t listed_count;
};

/* 0; -ENOENT if there is none; -ERR_STALE_STATE if what is there cannot be read as one. */
NODISCARD int signer_state_load(const struct os *os, int dirfd, struct signer_state *ret);
/* Durable before it returns. */
NODISCARD int signer_state_save(const struct os *os, int dirfd, const struct signer_state *s);
void signer_state_done(struct signer_state *s);

/* The version the last snapshot lists for a file; 0: none. */
uint64_t signer_state_listed(const struct signer_state *s, const char *file);

/* Replace the listing by (or, with `merge`, raise it to) the `meta` object of a snapshot. -ENOMEM, -ERR_FIELD_*. */
NODISCARD int signer_state_list(struct signer_state *s, const struct json *meta, int merge);

#endif
