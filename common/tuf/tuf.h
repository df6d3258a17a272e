/*
 * tuf - The Update Framework's client (specification 1.0.34, section 5) and its store.
 *
 * The store is a folder of trusted files under their unversioned names
 * (root.json, timestamp.json, snapshot.json, targets.json, <role>.json, names
 * percent-encoded), bytes exactly as received, each written durably and each
 * verified again at every load: local files are outside data too. A crash between
 * any two files leaves a store from which the next refresh goes on.
 *
 *   tuf_client_open -> [tuf_client_init with the first root] -> tuf_client_refresh
 *   -> tuf_client_find / tuf_client_read per file
 *
 * One client per folder (a lock file says so: -EBUSY). Files are asked for under
 * `prefix` + the name in the repository, e.g. "metadata/" + "3.root.json"; each at
 * most once between two refreshes.
 */
#ifndef SELFRIGHT_TUF_TUF_H
#define SELFRIGHT_TUF_TUF_H

#include "base/attr.h"
#include "base/buf.h"
#include "crypto/certificate.h"
#include "base/fetcher.h"
#include "base/text.h"
#include "os/os.h"

#include <stdbool.h>
#include <stdint.h>

struct json;
struct tuf_client;
struct tuf_keyring;

enum { TUF_ROLE_NAME_MAX = 255, TUF_PATH_MAX = 1024 };

struct tuf_limits {
	uint64_t root, timestamp, snapshot, targets; /* bytes */
	unsigned root_steps; /* new roots per refresh */
	unsigned roles_visited; /* in one search */
};
extern const struct tuf_limits tuf_limits_default;

struct tuf_options {
	const struct os *os;
	int dirfd; /* borrowed */
	const char *prefix; /* borrowed; "metadata/" for a node, "" for `selfright tuf` */
	const char *targets_prefix;
	struct tuf_limits limits;
	bool hold_time_floor; /* DESIGN.md section 4 "Time": x-issued and a stored floor; off for foreign repositories */
	int64_t build_time; /* lower end of the floor */
	bool clock_synchronised; /* as far as the caller knows */
	/*
	 * The specification's key id is the hash of the whole key. Other implementations
	 * also leave members out that they do not know; set this to take those ids as well
	 * (they are recomputed all the same). Off for a node: our own ids are strict.
	 */
	bool foreign_keyids;
};

/*
 * Lock the folder and load what is trusted in it, each file verified again; a file
 * that does not verify counts as missing. A broken root.json makes no failure here:
 * there is no trusted root then, and tuf_client_error() says why. Without memory or
 * descriptors nothing is known of what is trusted, and -ENOMEM or -EMFILE is returned.
 */
NODISCARD int tuf_client_open(const struct tuf_options *o, struct tuf_client **ret);
void tuf_client_close(struct tuf_client *c);
DEFINE_FREEP(struct tuf_client *, tuf_client_close)

/* Take `bytes` as trusted root (checked against itself; its expiry does not matter here). -ERR_THRESHOLD, ... */
NODISCARD int tuf_client_init(struct tuf_client *c, const void *bytes, size_t len);

/* The caller learnt whether its clock is synchronised now. */
void tuf_client_set_synchronised(struct tuf_client *c, bool synchronised);

/*
 * Let timestamp, snapshot and the online roles `rollouts` and `support` count for so many seconds beyond
 * their expiry: what a node without a network takes from a stick, as its own configuration says. Root, targets
 * and teams get no grace. Holds until it is set to 0 again.
 */
void tuf_client_set_grace(struct tuf_client *c, uint64_t seconds);

/* Is there a trusted root? */
bool tuf_client_has_root(const struct tuf_client *c);

/*
 * Root, timestamp, snapshot, top-level targets. 0: all trusted and unexpired, also
 * when nothing was new; *ret_changed (may be NULL): a newer timestamp. Whatever the
 * failure, the next call starts from what was trusted by then. -ERR_UNTRUSTED:
 * no root; -ERR_EXPIRED: also for a cached timestamp that has expired since;
 * -ENOENT: a file the trusted metadata names is not there.
 */
NODISCARD int tuf_client_refresh(struct tuf_client *c, struct fetcher *f, bool *ret_changed);

/* What the last failure was about: "3.snapshot.json: fewer valid signatures than the threshold". Never NULL. */
const char *tuf_client_error(const struct tuf_client *c);

struct tuf_target {
	char path[TUF_PATH_MAX + 1];
	uint64_t length;
	uint8_t sha256[SHA256_BYTES];
	bool has_sha256, has_sha512;
	uint8_t sha512[64];
	char role[TUF_ROLE_NAME_MAX + 1]; /* that lists it */
	const struct json *custom; /* borrowed until the next refresh; may be NULL */
};

/*
 * Depth-first search from targets through delegations (pre-order, terminating,
 * paths, path_hash_prefixes, succinct bins), fetching roles as needed.
 * -ERR_NOT_LISTED: every role that might list it was verified, and none does. A role
 * that could not be had or verified ends the search with its error (-ERR_NETWORK,
 * -ERR_THRESHOLD, -ERR_EXPIRED, ...; -ERR_FIELD_MISSING if the snapshot does not list
 * it, -ERR_TOO_LARGE beyond limits.roles_visited): what stands behind it must not take its place.
 * -ERR_UNTRUSTED before a whole refresh (this run's or an earlier one's in the folder),
 * -ERR_EXPIRED if what the last refresh left has expired by its time.
 */
NODISCARD int tuf_client_find(struct tuf_client *c, struct fetcher *f, const char *path, struct tuf_target *ret);

/* Find it, fetch it ("targets/<dir>/<sha256>.<name>" with consistent snapshots) and check length and hashes: bytes appended. */
NODISCARD int tuf_client_read(struct tuf_client *c, struct fetcher *f, const char *path, uint64_t max,
			      struct buf *ret, struct tuf_target *ret_target);

/* Does the trusted root say that names carry versions and hashes? */
bool tuf_client_is_consistent(const struct tuf_client *c);

/* Are these the bytes of a target? 0, -ERR_LENGTH, -ERR_DIGEST. */
NODISCARD int tuf_target_check(const struct tuf_target *t, const void *bytes, size_t len);

/* The repository's file name for a target: targets_prefix + path with the hash in its name. */
NODISCARD int tuf_target_file(const struct tuf_target *t, const char *targets_prefix, bool consistent,
			      struct buf *ret);

/*
 * Every path that a role delegated by top-level targets (or "targets" itself) lists
 * and was given; others it lists are passed over. The callback returns 0 to go on,
 * anything else is returned here. -ERR_NOT_LISTED: no such role.
 */
NODISCARD int tuf_client_each_target(struct tuf_client *c, struct fetcher *f, const char *role,
				     int (*each)(void *user, const struct tuf_target *t), void *user);

/* Trusted versions and the timestamp, for reports; 0 = none. */
struct tuf_state {
	uint64_t root, timestamp, snapshot, targets;
	int64_t timestamp_expires, root_expires;
	int64_t issued; /* x-issued of the trusted timestamp, 0 if none */
	int64_t now; /* what expiry was judged by at the last refresh */
	bool stale; /* the trusted timestamp has expired by now, and the grace with it */
	bool clock_ahead; /* the clock would have expired a newer timestamp; floor plus monotonic time decides */
};
void tuf_client_state(struct tuf_client *c, struct tuf_state *ret);

/* The trusted bytes of a role's file ("timestamp", "root", ...); -ENOENT. Appended. */
NODISCARD int tuf_client_bytes(struct tuf_client *c, const char *role, struct buf *ret);

/* The `signed` object of trusted top-level targets (for x-selfright); borrowed until the next refresh; NULL if none. */
const struct json *tuf_client_targets_signed(const struct tuf_client *c);

/* Now, as DESIGN.md section 4 defines it: the later of clock and floor. */
int64_t tuf_client_now(const struct tuf_client *c);
/* The floor alone: it is not earlier than that. */
int64_t tuf_client_floor(const struct tuf_client *c);

/* --- signed envelopes, {"signed": ..., "signatures": [...]}, for reports, acks, grants, approvals --- */

/* Keys with a threshold, from an object {"keys": {id: key}, "threshold": n} or a role of `keys` + `keyids`. Key ids are recomputed. */
NODISCARD int tuf_keyring_load(const struct json *object, struct tuf_keyring **ret);
/* One key, threshold 1, from a PEM (P-256). */
NODISCARD int tuf_keyring_single(const char *public_pem, struct tuf_keyring **ret);
void tuf_keyring_free(struct tuf_keyring *k);
DEFINE_FREEP(struct tuf_keyring *, tuf_keyring_free)

/* How many distinct keys of the ring signed these bytes; `signatures` is the array. Never fails on odd signatures; a doubled keyid is -ERR_SYNTAX. */
NODISCARD int tuf_keyring_count(const struct tuf_keyring *k, const struct json *signatures, const void *message,
				size_t len, unsigned *ret_valid);
unsigned tuf_keyring_threshold(const struct tuf_keyring *k);

/* Parse an envelope strictly and check it against the ring's threshold; the document (with "signed") is the caller's. */
NODISCARD int tuf_envelope_open(const void *bytes, size_t len, const struct tuf_keyring *k, struct json **ret);

/* The TUF key object of a P-256 public PEM: {"keytype":"ecdsa","keyval":{"public":PEM},"scheme":"ecdsa-sha2-nistp256"} and its id. */
NODISCARD int tuf_key_describe(const char *public_pem, struct buf *ret_json,
			       char ret_keyid[static SHA256_HEX + 1]);

struct private_key;
/* Sign `signed_object` (canonical form) with the keys; the whole envelope as JSON text on one line appended. */
NODISCARD int tuf_envelope_sign(const struct json *signed_object, const struct private_key *const *keys,
				size_t key_count, struct buf *out);

/* --- who may sign what besides metadata (DESIGN.md section 4) --- */

/* Approvers `x_selfright` (the member of targets) names, e.g. "qa". -ERR_NOT_LISTED. */
NODISCARD int tuf_approvers_load(const struct json *x_selfright, const char *approver, struct tuf_keyring **ret);

/* The keys that top-level targets gives a delegated role, e.g. a team's as approvers. -ERR_NOT_LISTED, -ERR_UNTRUSTED. */
NODISCARD int tuf_team_keyring(const struct tuf_client *c, const char *role, struct tuf_keyring **ret);

/* The keys that sign acknowledgements and grants. -ERR_NOT_LISTED, -ERR_UNTRUSTED. */
NODISCARD int tuf_control_keyring(const struct tuf_client *c, struct tuf_keyring **ret);

/*
 * Whose certificates the fleet's servers show and its broker takes, as `ca` of x-selfright in targets says:
 * {"trusted":[PEM of one CA, ...; the first issues],"retired":[SHA-256 of those that count no more]}.
 */
enum { TUF_CA_TRUSTED_MAX = 8, TUF_CA_RETIRED_MAX = 64 };
struct tuf_ca {
	struct certificate_bundle trusted;
	char retired[TUF_CA_RETIRED_MAX][SHA256_HEX + 1];
	size_t retired_count;
};
/* -ERR_NOT_LISTED: nothing is said of it; -ERR_FIELD_*, -ERR_SYNTAX: nonsense is. `x_selfright` may be NULL. */
NODISCARD int tuf_ca_load(const struct json *x_selfright, struct tuf_ca *ret);
void tuf_ca_done(struct tuf_ca *c);
bool tuf_ca_is_retired(const struct tuf_ca *c, const char *sha256);

/*
 * A name of the repository as a name of one file: all but unreserved characters
 * percent-encoded, then `suffix`. Different names stay different; one too long for
 * a file system is cut and ends in its hash. -ERR_NAME for an empty one.
 */
NODISCARD int tuf_file_name(const char *name, const char *suffix, struct buf *ret);

#endif
