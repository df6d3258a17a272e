/*
 * offline - metadata of the roles whose keys are key files: root, targets, teams, inventory.
 *
 * Key files lie in one folder as <role>-<n>.pem (0600, encrypted if made with a
 * passphrase) with <role>-<n>.pub beside them. A change is a new body: the current
 * one with a version one up, a new expiry, and what was changed; it is signed
 * here, or carried elsewhere as a signing request and merged when it comes back.
 */
#ifndef SELFRIGHT_REPO_OFFLINE_H
#define SELFRIGHT_REPO_OFFLINE_H

#include "base/attr.h"
#include "base/buf.h"
#include "crypto/certificate.h"
#include "base/text.h"
#include "os/os.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json;
struct private_key;

enum {
	OFFLINE_KEYS_MAX = 64,
	OFFLINE_NAME_MAX = ID_MAX + 8,
	OFFLINE_ROOT_LIFE = 2 * 365 * 86400,
	OFFLINE_TARGETS_LIFE = 365 * 86400,
};

struct key_file {
	char name[OFFLINE_NAME_MAX + 1]; /* "root-1"; "" for one that came as a public key only */
	struct private_key *key; /* NULL: only the public part is here */
	char *public_pem;
	char keyid[SHA256_HEX + 1];
};

struct key_files {
	struct key_file items[OFFLINE_KEYS_MAX];
	size_t count;
};
void key_files_done(struct key_files *k);

/*
 * Add every <role>-<n>.pem of the folder (not there: none). -ERR_PASSPHRASE and the
 * like with the file's name in ret_file.
 */
NODISCARD int key_files_load(const struct os *os, const char *folder, const char *role, const char *passphrase,
			     struct key_files *ret, char ret_file[static 256]);
/* Add one public key. */
NODISCARD int key_files_add_public(struct key_files *k, const char *pem);
/* A new key <name>.pem and <name>.pub in the folder, added to `ret`. -EEXIST: never overwritten. */
NODISCARD int key_files_create(const struct os *os, const char *folder, const char *name, const char *passphrase,
			       struct key_files *ret);
/* The lowest n for which neither <role>-<n>.pem nor .pub nor a retired one is there. */
NODISCARD int key_files_next(const struct os *os, const char *folder, const char *role, unsigned *ret);
const struct key_file *key_files_find(const struct key_files *k, const char *keyid);

/* --- bodies; each *ret is the caller's --- */

struct offline_role {
	const char *name;
	const struct key_files *keys;
	unsigned threshold;
	const char *const *paths; /* of delegated roles */
	size_t path_count;
};

/* A first root over the four top-level roles. */
NODISCARD int offline_first_root(const struct offline_role roles[static 4], int64_t now, struct json **ret);

/* First targets with these delegations and the control role's keys. */
NODISCARD int offline_first_targets(const struct offline_role *delegated, size_t count,
				    const struct key_files *control, int64_t now, struct json **ret);

/* A first delegated role that lists nothing. */
NODISCARD int offline_first_listing(int64_t now, struct json **ret);

/* The same again with a later expiry. */
NODISCARD int offline_renew(const struct json *body, int64_t now, struct json **ret);

/*
 * Give `role` these keys and threshold: a top-level role in a root body; a delegated one, or "control", in a
 * targets body. Keys nobody uses any more are dropped. -ERR_NOT_LISTED.
 */
NODISCARD int offline_set_keys(const struct json *body, const char *role, const struct key_files *keys,
			       unsigned threshold, int64_t now, struct json **ret);

/* Name `approver` in a targets body, with these keys; `keys` NULL: no more (-ERR_NOT_LISTED if there is none). */
NODISCARD int offline_set_approver(const struct json *body, const char *approver, const struct key_files *keys,
				   unsigned threshold, int64_t now, struct json **ret);

/*
 * Say in a targets body whose certificates count (tuf_ca_load): `trusted` is PEM, the first one issues; `retired` is the SHA-256
 * of one that does from now on no more (NULL: none), beside those that were retired before. -ERR_FIELD_*: nodes would refuse it.
 */
NODISCARD int offline_set_ca(const struct json *body, const struct certificate_bundle *trusted,
			     const char *retired, int64_t now, struct json **ret);

/* Delegate to `role`: new with its keys, or, if it is there already, its paths added. -EEXIST if another role has a path. */
NODISCARD int offline_delegate(const struct json *targets, const struct offline_role *role, int64_t now,
			       struct json **ret);

/* List a file; replaces what was listed under that path. */
NODISCARD int offline_list(const struct json *body, const char *path, uint64_t length, const char *sha256,
			   int64_t now, struct json **ret);

/* --- signatures --- */

/* The metadata file of `body`, signed by those of the keys that are here; `before`: signatures to keep (NULL: none). */
NODISCARD int offline_sign(const struct json *body, const struct key_files *keys, const struct json *before,
			   struct buf *out);

/* How many of a role's keys (of its delegator's body) signed a metadata file, and how many it needs. */
NODISCARD int offline_count(const struct json *metadata, const struct json *delegator, const char *role,
			    unsigned *ret_valid, unsigned *ret_threshold);

/* A signing request: {"format","type":"selfright-signing-request","fleet","role","signed","signatures"}. */
NODISCARD int offline_request(const char *fleet, const char *role, const struct json *metadata, struct buf *out);
/* Back; *ret_role is borrowed from *ret. -ERR_FIELD_*, -ERR_DISAGREE for another fleet's. */
NODISCARD int offline_request_parse(const void *text, size_t len, const char *fleet, struct json **ret,
				    const char **ret_role);
/* The signatures of `more` added to those of `into`, which must be of the same `signed`: a metadata file. -ERR_DISAGREE. */
NODISCARD int offline_merge(const struct json *into, const struct json *more, struct buf *out);

#endif
