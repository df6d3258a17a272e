/*
 * keys - the signer's private keys, by role; they never leave this process.
 */
#ifndef SELFRIGHT_SIGNER_KEYS_H
#define SELFRIGHT_SIGNER_KEYS_H

#include "base/attr.h"
#include "base/buf.h"
#include "base/text.h"
#include "os/os.h"
#include "server-stub/signer/roles.h"

#include <stddef.h>

struct json;
struct json_node;
struct private_key;

enum { SIGNER_KEYS_PER_ROLE = 4, SIGNER_CONTROL = SIGNER_ROLE_COUNT, SIGNER_RING_COUNT };

struct signer_ring {
	struct private_key *keys[SIGNER_KEYS_PER_ROLE];
	char *public_pem[SIGNER_KEYS_PER_ROLE];
	size_t count;
};

struct signer_keys {
	struct signer_ring rings[SIGNER_RING_COUNT];
	struct private_key *ca_key; /* NULL: this signer certifies nobody */
	char *ca_pem;
};

/* All of <role>-<n>.pem, control-<n>.pem, ca.key, ca.crt in dirfd; *ret_file names the one that failed. */
NODISCARD int signer_keys_load(const struct os *os, int dirfd, struct signer_keys *ret, char ret_file[static 256]);
void signer_keys_done(struct signer_keys *k);

/* Is this metadata signed by a key of the ring? 0 and its parsed document (the caller's), or -ERR_THRESHOLD, -ERR_SYNTAX ... */
NODISCARD int signer_ring_open(const struct signer_ring *ring, const void *metadata, size_t len,
			       struct json **ret);

/* The ring's public keys as an array of PEMs named `name`. */
void signer_ring_write(const struct signer_ring *ring, struct json_node *parent, const char *name);

#endif
