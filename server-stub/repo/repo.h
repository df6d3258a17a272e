/*
 * repo - the published folder: metadata/ and targets/ as nodes read them
 * (DESIGN.md section 12), always whole: files with versioned names first, each
 * durable, timestamp.json last, by rename.
 */
#ifndef SELFRIGHT_REPO_REPO_H
#define SELFRIGHT_REPO_REPO_H

#include "base/attr.h"
#include "base/buf.h"
#include "base/text.h"
#include "os/os.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct repo;
struct signer_client;
struct json;

/* Open DIR/repo with a connection to the signer (borrowed; NULL: read only). Loads and verifies what is published. */
NODISCARD int repo_open(const struct os *os, const char *dir, struct signer_client *signer, struct repo **ret);
void repo_close(struct repo *r);

/* The reason of the last failure, in words for a person; never NULL. */
const char *repo_error(const struct repo *r);

const char *repo_fleet(const struct repo *r);

struct repo_document {
	const char *path; /* target path, e.g. "rollouts/index.json" */
	const void *data;
	size_t len;
};

/*
 * Replace what an online role (rollouts, support, inventory) lists: `set` is written
 * and listed, `removed` is no longer listed. The role, snapshot and timestamp are
 * signed by the signer and published in one go.
 */
NODISCARD int repo_update_online(struct repo *r, const char *role, const struct repo_document *set,
				 size_t set_count, const char *const *removed, size_t removed_count);

/*
 * Accept offline-signed metadata of `role` (root, targets, team-*): verified as a
 * client would (threshold, version exactly one up for root and higher for others, expiry, delegation paths), every
 * new target's file must be in the uploads or published already with the right length and hash; then published with a new snapshot and timestamp.
 */
NODISCARD int repo_publish_role(struct repo *r, const char *role, const void *metadata, size_t len);

/*
 * The same for several roles in one publication: a first root with its targets, a team's role together with
 * the targets that change its keys. A root's successor must be signed by both roots' keys.
 */
struct repo_role {
	const char *name;
	const void *metadata;
	size_t len;
};
NODISCARD int repo_publish_roles(struct repo *r, const struct repo_role *roles, size_t count);

/* Sign all online roles, snapshot and timestamp anew whatever their age: after recover, and when their keys changed. */
NODISCARD int repo_renew(struct repo *r);

/*
 * What is published, signed for `life_s` seconds instead of the usual time, for a bundle that travels without a network:
 * each role the signer holds, snapshot and timestamp, in that order. It is published nowhere; what is, is signed anew with
 * higher versions before this returns. -ERR_REFUSED: the signer does not allow it.
 */
NODISCARD int repo_sign_bundle(struct repo *r, uint64_t life_s,
			       int (*each)(void *user, const char *role, const void *bytes, size_t len),
			       void *user);

/* What is known of each role, for people. Callback per role, top-level ones first; `threshold` keys of `keys` sign it. */
struct repo_role_info {
	const char *name;
	uint64_t version;
	int64_t expires, issued;
	uint64_t life_s; /* from signing to expiry, as far as known, else the default of its kind */
	unsigned threshold, keys;
	bool online;
};
void repo_each_role(struct repo *r, void (*each)(void *user, const struct repo_role_info *info), void *user);

/* Where uploads wait: a folder the web server writes `<sha256>` files into. Not durable until published. */
const char *repo_upload_dir(const struct repo *r);

/* Sign timestamp (and what else is past half of its re-sign interval) anew if due; call often. *ret_published: something was. */
NODISCARD int repo_tick(struct repo *r, int64_t now, bool *ret_published);

/* The trusted document at a target path, appended; -ENOENT. */
NODISCARD int repo_read_target(struct repo *r, const char *path, struct buf *ret);
/* What is listed for it: length, hash, the role. -ENOENT. */
NODISCARD int repo_target_info(struct repo *r, const char *path, uint64_t *ret_length,
			       uint8_t ret_sha256[static SHA256_BYTES]);
/* Current metadata of a role ("root", "timestamp", "team-web"), bytes as published, appended; -ENOENT. */
NODISCARD int repo_read_role(struct repo *r, const char *role, struct buf *ret);

/*
 * The announcement (gzip JSON, DESIGN.md section 12) of the latest publication:
 * timestamp, snapshot, and what it changed, in the order named there; with `node`
 * that node's own orders as well (NULL: for all). Appended.
 */
NODISCARD int repo_announcement(struct repo *r, const char *node, struct buf *ret_gzip);

/* PEM of the CA that signs nodes' and server certificates. Appended. */
NODISCARD int repo_ca_pem(struct repo *r, struct buf *ret);

#endif
