/*
 * pair - the transport key with its certificate, and the pair that is to follow it.
 *
 * In the folder of agent.yaml: transport.key and transport.crt are in force; transport-next.key and
 * transport-next.crt wait until a broker has taken them; enrolment.secret is there until the first certificate is.
 *
 *   pair_settle     at start, before anything reads the pair
 *   pair_next_key   -> request -> pair_put_next -> (the broker takes it) -> pair_promote
 *
 * After a power cut at any moment, pair_settle() finds a pair in force that belongs together: the old one until
 * pair_promote() has begun to rename, the proven new one from then on. A predecessor of this agent reads the same
 * two names. Everything is durable on return (durable.h).
 */
#ifndef SELFRIGHT_LOCAL_PAIR_H
#define SELFRIGHT_LOCAL_PAIR_H

#include "base/attr.h"
#include "base/buf.h"
#include "os/os.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PAIR_KEY "transport.key"
#define PAIR_CERTIFICATE "transport.crt"
#define PAIR_NEXT_KEY "transport-next.key"
#define PAIR_NEXT_CERTIFICATE "transport-next.crt"
#define PAIR_SECRET "enrolment.secret"

struct private_key;

struct pair_owner {
	bool gives; /* the keys are given to: */
	uid_t uid;
	gid_t gid;
};

struct pair_state {
	bool enrolled; /* there is a certificate that fits its key */
	int64_t not_before, not_after; /* of it */
	bool next; /* the next pair is whole */
	bool secret; /* there is one to enrol with */
};

/* Finish what a power cut interrupted; what belongs to nothing is removed. */
NODISCARD int pair_settle(const struct os *os, int dirfd, const struct pair_owner *owner);

/* What there is. A certificate that cannot be read counts as none. */
NODISCARD int pair_look(const struct os *os, int dirfd, struct pair_state *ret);

/* The key in force. */
NODISCARD int pair_key(const struct os *os, int dirfd, struct private_key **ret);

/* The key of the next pair, made if there is none: the same until the pair is promoted or dropped. */
NODISCARD int pair_next_key(const struct os *os, int dirfd, const struct pair_owner *owner,
			    struct private_key **ret);

/* The first certificate, for the key in force; the secret is removed. -ERR_KEY: it is not for this key, or not for `node`. */
NODISCARD int pair_put_first(const struct os *os, int dirfd, const char *node, const char *certificate);
/* The certificate for the next key. -ERR_KEY as above. */
NODISCARD int pair_put_next(const struct os *os, int dirfd, const char *node, const char *certificate);

/* The next pair is in force from now on. */
NODISCARD int pair_promote(const struct os *os, int dirfd);
/* Forget the next pair. */
NODISCARD int pair_drop_next(const struct os *os, int dirfd);

/* The secret without its line's end; -ENOENT. */
NODISCARD int pair_secret(const struct os *os, int dirfd, struct buf *ret);

#endif
