/*
 * keys - the signer's private keys, by role; they never leave this process.
 */
#ifndef SELFRIGHT_SIGNER_KEYS_H
#define SELFRIGHT_SIGNER_KEYS_H

#include "base/attr.h"
#include "base/buf.h"
#include "base/text.h"
#include "crypto/certificate.h"
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
	struct private_key *ca_key; /* of the CA that issues; NULL: this signer certifies nobody */
	char *ca_pem; /* its certificate */
	char *ca_bundle; /* all CAs that are here, the one that issues first */
	char ca_newest[SHA256_HEX +
		       1]; /* the one made last: where another one issues, it is the one that is coming */
};

/*
 * The CAs in the folder: ca.crt with ca.key is the first, ca-<n>.crt with ca-<n>.key the n-th. "ca-issuing" holds the
 * SHA-256 of the one that issues: written in one step, so that a rotation has one moment of change; without it the lowest does.
 * One that is retired has another name (retired-ca-<n>.crt), under which nothing loads it.
 */
enum { SIGNER_CAS_MAX = 8, SIGNER_CA_NUMBER_MAX = 999 };
#define SIGNER_CA_ISSUING "ca-issuing"
/* "ca.crt", "ca-2.key" */
void signer_ca_file(char out[static 32], unsigned number, const char *ending);
/* The number of the CA with this certificate, and the lowest free one; 0: it is not here. */
NODISCARD int signer_ca_number(const struct os *os, int dirfd, const char *sha256, unsigned *ret_number,
			       unsigned *ret_free);
/* 0: its key is here, and fits its certificate. */
NODISCARD int signer_ca_is_whole(const struct os *os, int dirfd, unsigned number);

/* All of <role>-<n>.pem, control-<n>.pem and the CAs in dirfd; *ret_file names the one that failed. */
NODISCARD int signer_keys_load(const struct os *os, int dirfd, struct signer_keys *ret, char ret_file[static 256]);
void signer_keys_done(struct signer_keys *k);

/* Is this metadata signed by a key of the ring? 0 and its parsed document (the caller's), or -ERR_THRESHOLD, -ERR_SYNTAX ... */
NODISCARD int signer_ring_open(const struct signer_ring *ring, const void *metadata, size_t len,
			       struct json **ret);

/* The ring's public keys as an array of PEMs named `name`. */
void signer_ring_write(const struct signer_ring *ring, struct json_node *parent, const char *name);

#endif
