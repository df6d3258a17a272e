/*
 * signer - the one place on the fleet side that holds online role keys
 * (DESIGN.md section 4). This is its logic; main_signer.c gives it a socket.
 *
 * It signs only what the role may say, only with versions above everything it
 * ever signed or found published, only while nothing newer than its own memory is
 * known, and only so often; what it signs is in its state before the signature
 * leaves, and in its log.
 *
 * For a bundle that travels without a network it signs for longer than usual, if the administrator allows it:
 * DIR/signer/bundle-life says how long at most, as "90d".
 *
 * The folder: DIR/signer/<role>-<n>.pem (all keys of a role sign: during a
 * rotation the old and the new one), control-<n>.pem, CAs (keys.h), state,
 * signer.log, lock. DIR/repo is only read.
 */
#ifndef SELFRIGHT_SIGNER_SIGNER_H
#define SELFRIGHT_SIGNER_SIGNER_H

#include "base/attr.h"
#include "base/buf.h"
#include "os/os.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct signer;

/* The frames on its socket: requests are JSON objects; an answer carries the request's id. */
enum signer_message {
	SIGNER_SIGN_ROLE = 1, /* {"role","body","life"?: seconds, for a bundle} -> metadata */
	SIGNER_SIGN_CONTROL, /* {"document"} -> envelope */
	SIGNER_CERTIFY_NODE, /* {"node","public","life"} -> PEM */
	SIGNER_CERTIFY_SERVER, /* {"public","names"} -> PEM */
	SIGNER_STATUS, /* {} -> JSON */
	SIGNER_PROVE, /* {"role","metadata"} -> {} */
	SIGNER_RECOVER, /* {"files","at_least"} -> JSON */
	SIGNER_RELOAD, /* {} -> {} */
	SIGNER_CA, /* {"do":"begin"} or {"do":"switch"|"retire","sha256"} -> {} */
	SIGNER_OK = 100,
	SIGNER_ERROR, /* {"code","sentence"} */
};

enum {
	SIGNER_MAX_BYTES = 8 * 1024 * 1024,
	SIGNER_TIMESTAMP_LIFE = 72 * 3600,
	SIGNER_TIMESTAMP_RENEW = 6 * 3600,
	SIGNER_ROLE_LIFE = 14 * 86400,
	SIGNER_BUNDLE_LIFE_MAX = 366 * 86400,
	SIGNER_NODE_CERTIFICATE_LIFE = 90 * 86400, /* at most, and when no other is asked for */
	SIGNER_NODE_CERTIFICATE_LIFE_MIN = 10,
	SIGNER_SERVER_CERTIFICATE_LIFE = 365 * 86400,
	SIGNER_CA_LIFE = 10 * 365 * 86400,
	SIGNER_CERTIFICATE_BACKDATE = 86400, /* nodes without a battery clock start in the past */
};

struct signer_options {
	const struct os *os;
	const char *dir;
	uint64_t roles_per_minute, control_per_minute; /* 0: 600, 60000 */
};

/* -EBUSY: another signer holds the folder. What is stale is no error here: requests then say so. */
NODISCARD int signer_open(const struct signer_options *o, struct signer **ret);
void signer_close(struct signer *s);
DEFINE_FREEP(struct signer *, signer_close)

/* Answer one request of the local user `uid`: 0 with the payload of SIGNER_OK appended, or the error SIGNER_ERROR carries. */
NODISCARD int signer_handle(struct signer *s, uid_t uid, uint16_t type, const void *data, size_t len,
			    struct buf *ret);

/* The sentence about the last failure; never NULL. */
const char *signer_reason(const struct signer *s);

/* Open the log again under its name (after a rotation of the log file). */
NODISCARD int signer_reopen_log(struct signer *s);

#endif
