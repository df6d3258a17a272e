/*
 * client - speak to the signer process over its Unix socket (os/frame.h with JSON payloads).
 *
 * The signer takes documents, not digests: it builds the metadata around them,
 * enforces role rules, versions and rates, signs, and logs every signature.
 */
#ifndef SELFRIGHT_SIGNER_CLIENT_H
#define SELFRIGHT_SIGNER_CLIENT_H

#include "base/attr.h"
#include "base/buf.h"

#include <stddef.h>
#include <stdint.h>

struct json;
struct signer_client;

NODISCARD int signer_connect(const char *socket_path, struct signer_client **ret);
void signer_disconnect(struct signer_client *c);

/* The signer's sentence about the last refusal; never NULL. */
const char *signer_error(const struct signer_client *c);

/*
 * Sign an online role: `body` holds what the role says beside the common members
 * ("targets" for rollouts/nodes/inventory, "meta" for snapshot and timestamp). The signer adds
 * _type, spec_version, version (never lower than any before), expires, x-issued. The whole metadata file appended.
 */
NODISCARD int signer_sign_role(struct signer_client *c, const char *role, const struct json *body, struct buf *ret);

/* Sign a control document (selfright-ack, selfright-grant): the envelope appended. */
NODISCARD int signer_sign_control(struct signer_client *c, const struct json *document, struct buf *ret);

/* A certificate of the fleet's CA for a node's transport key (client) or for serve (server, with names). PEM appended. */
NODISCARD int signer_certify_node(struct signer_client *c, const char *node, const char *public_pem, struct buf *ret);
NODISCARD int signer_certify_server(struct signer_client *c, const char *public_pem, const char *const *names,
				    size_t name_count, struct buf *ret);

#endif
