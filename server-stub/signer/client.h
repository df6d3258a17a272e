/*
 * client - speak to the signer process over its Unix socket (os/frame.h with JSON payloads).
 *
 * The signer takes documents, not digests: it builds the metadata around them,
 * enforces role rules, versions and rates, signs, and logs every signature.
 * Roles: rollouts, support, inventory (if its key is online), snapshot, timestamp.
 *
 * -ERR_REFUSED: a role rule says no; -ERR_RATE: too often; -ERR_STALE_STATE: what is
 * published is newer than what the signer remembers, until signer_recover;
 * signer_error() has the sentence. -ERR_PEER_GONE: connect again.
 */
#ifndef SELFRIGHT_SIGNER_CLIENT_H
#define SELFRIGHT_SIGNER_CLIENT_H

#include "base/attr.h"
#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json;
struct signer_client;

NODISCARD int signer_connect(const char *socket_path, struct signer_client **ret);
void signer_disconnect(struct signer_client *c);
DEFINE_FREEP(struct signer_client *, signer_disconnect)

/* Is it still at the other end? Asks nothing. */
bool signer_is_there(const struct signer_client *c);

/* The signer's sentence about the last refusal; never NULL. */
const char *signer_error(const struct signer_client *c);

/*
 * Sign an online role: `body` holds what the role says beside the common members
 * ("targets" for rollouts/support/inventory, "meta" for snapshot and timestamp). The signer adds
 * _type, spec_version, version (never lower than any before), expires, x-issued. The whole metadata file appended.
 */
NODISCARD int signer_sign_role(struct signer_client *c, const char *role, const struct json *body,
			       struct buf *ret);

/*
 * The same for `life_s` seconds from now, for a bundle: -ERR_REFUSED unless the signer's bundle-life allows it. What is
 * published must be signed anew afterwards, with the usual life, so that nodes that took the bundle go on from there.
 */
NODISCARD int signer_sign_role_for(struct signer_client *c, const char *role, const struct json *body,
				   uint64_t life_s, struct buf *ret);

/* Sign a control document (selfright-ack, selfright-grant, selfright-receipt): the envelope appended. */
NODISCARD int signer_sign_control(struct signer_client *c, const struct json *document, struct buf *ret);

/* A certificate of the fleet's CA for a node's transport key (client) or for serve (server, with names). PEM appended. */
NODISCARD int signer_certify_node(struct signer_client *c, const char *node, const char *public_pem,
				  uint64_t life_s /* 0: the signer's longest */, struct buf *ret);
NODISCARD int signer_certify_server(struct signer_client *c, const char *public_pem, const char *const *names,
				    size_t name_count, struct buf *ret);

/* PEM of all CAs, the one that issues first, appended; -ENOENT if this signer holds none. */
NODISCARD int signer_ca(struct signer_client *c, struct buf *ret);

/*
 * Change them: "begin" makes another one, unless there is one already beside that which issues; "switch" lets the one with this
 * SHA-256 issue from now on; "retire" puts it away, which is refused for the one that issues. Each durable, and the same again changes nothing.
 */
NODISCARD int signer_change_ca(struct signer_client *c, const char *what, const char *sha256 /* NULL: "begin" */);

/*
 * {"state":"ready"|"stale","reason","counter","roles":{name:{"version","expires","keys":[PEM]}},"control":[PEM],
 * "ca":PEM of all, the one that issues first,"ca_newest":SHA-256 of the one made last}. The caller frees *ret.
 */
NODISCARD int signer_status(struct signer_client *c, struct json **ret);

/*
 * Metadata of an online role that somebody (a node, the broker) holds: with our own valid signature and
 * a version above ours it proves that our state is older than what is out there, and the signer stops
 * (-ERR_STALE_STATE); anything else changes nothing (0).
 */
NODISCARD int signer_prove(struct signer_client *c, const char *role, const void *metadata, size_t len);

/*
 * Go on after a restored backup: adopt the highest versions in the published folder and in `files`
 * ({"timestamp.json":"<text>",...} with our own signatures; NULL: none), never below `at_least`
 * ({"timestamp":N,...}; NULL: none), and raise the lock's counter. What changed: {"adopted":{role:{"from","to"}},
 * "ignored":{file:reason},"counter"}. The caller frees *ret.
 */
NODISCARD int signer_recover(struct signer_client *c, const struct json *files, const struct json *at_least,
			     struct json **ret);

/* Read the key files again (after a rotation put one there or took one away). */
NODISCARD int signer_reload(struct signer_client *c);

#endif
