/*
 * tuf_repo - a TUF repository in memory, made of real P-256 keys, good or as bad as a test wants it.
 *
 *   struct tuf_repo *r = repo_new();          version 1 of everything, key 0 root, 1 timestamp, 2 snapshot, 3 targets
 *   repo_target(repo_role(r, "targets"), "file.txt", "content");
 *   repo_bump(r, "targets");                  signed anew one version higher, and what lists it: snapshot, timestamp
 *   tuf_client_refresh(c, &r->fetcher, NULL); every request is counted and logged
 *
 * Everything is plain data: change a role, then repo_sign() it. Failures abort the test.
 */
#ifndef SELFRIGHT_TESTS_TUF_REPO_H
#define SELFRIGHT_TESTS_TUF_REPO_H

#include "base/buf.h"
#include "base/fetcher.h"
#include "base/text.h"
#include "os/os.h"
#include "tuf/tuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json;
struct private_key;

enum { REPO_KEYS = 12, REPO_DELEGATIONS = 40, REPO_TARGETS = 40 };
enum { REPO_NOW = 1800000000, REPO_DAY = 24 * 60 * 60 }; /* 2027-01-15T08:00:00Z: what the tests' clock shows */

struct repo_keys {
	unsigned ids[REPO_KEYS];
	size_t count;
	unsigned threshold;
};

/* KEYS(threshold, id...) */
#define KEYS(threshold, ...)                                                                                      \
	((struct repo_keys){                                                                                      \
		{ __VA_ARGS__ }, sizeof((unsigned[]){ __VA_ARGS__ }) / sizeof(unsigned), (threshold) })

struct repo_delegation {
	char name[256];
	struct repo_keys keys;
	const char *paths; /* JSON array text, or NULL */
	const char *prefixes; /* the same for path_hash_prefixes */
	bool terminating;
};

struct repo_target {
	char path[1100];
	char data[64];
	const char *custom; /* JSON text, or NULL */
};

struct repo_role {
	struct repo_role *next;
	char name[256];
	uint64_t version;
	int64_t expires;
	struct repo_keys signers; /* whose signatures the file carries */
	const char *extra; /* further members of `signed`: "\"x-issued\":\"...\"", or NULL */
	const char *signed_override; /* the whole text of `signed` instead of what stands here */
	/* root */
	struct repo_keys top[4]; /* root, timestamp, snapshot, targets */
	bool consistent;
	const char *keys_override; /* JSON text of `keys` */
	/* targets and delegated roles */
	struct repo_delegation delegations[REPO_DELEGATIONS];
	size_t delegation_count;
	const char *succinct; /* JSON text without keyids: "\"bit_length\":8,\"name_prefix\":\"bin\"" */
	struct repo_keys succinct_keys;
	struct repo_target targets[REPO_TARGETS];
	size_t target_count;
};

struct repo_file {
	struct repo_file *next;
	struct buf bytes;
	unsigned requests;
	char name[];
};

struct tuf_repo {
	struct fetcher fetcher; /* first: the client gets its address */
	struct repo_role *roles;
	struct repo_file *files;
	bool hashes; /* length and sha256 in snapshot and timestamp */
	struct buf log; /* names asked for, one per line, in order */
	unsigned requests;
	/* misbehaviour of the carrier */
	const char *endless; /* this file never ends */
	bool rude; /* hand out more than was asked for */
	const char *failing; /* this file fails with `failure` */
	int failure;
};

struct tuf_repo *repo_new(void);
void repo_free(struct tuf_repo *r);

struct repo_role *repo_role(struct tuf_repo *r, const char *name);

/* A delegated role of version 1, signed by `keys`, and the delegation to it in `parent`; neither is signed yet. */
struct repo_role *repo_delegate(struct tuf_repo *r, const char *parent, const char *name, struct repo_keys keys,
				const char *paths);
struct repo_delegation *repo_delegation(struct tuf_repo *r, const char *parent, const char *name);

struct repo_target *repo_target(struct repo_role *role, const char *path, const char *data);

/* Sign a role's file as it stands and put it where clients ask for it (under both names of consistent and other snapshots). */
void repo_sign(struct tuf_repo *r, const char *name);

/* Sign everything as it stands: delegated roles, targets, snapshot, timestamp; root only if `root`. */
void repo_sign_all(struct tuf_repo *r, bool root);

/* One version up for this role and what lists it. */
void repo_bump(struct tuf_repo *r, const char *name);

/* The file as a client gets it; NULL if there is none. */
struct repo_file *repo_file(struct tuf_repo *r, const char *name);
void repo_put(struct tuf_repo *r, const char *name, const void *bytes, size_t len);
void repo_remove(struct tuf_repo *r, const char *name);

/* Forget what was asked for. */
void repo_clear_log(struct tuf_repo *r);

/* {"signatures":[...],"signed":<text>} by these keys, appended. */
void repo_envelope(const char *signed_text, const struct repo_keys *signers, struct buf *out);

/* The keys: generated once, by number. */
const struct private_key *repo_key(unsigned id);
const char *repo_keyid(unsigned id);
const char *repo_key_json(unsigned id); /* the key object */
const char *repo_key_pem(unsigned id);

/* --- a client in a folder of its own, with a clock the test sets --- */

struct repo_client {
	struct tuf_client *c;
	struct tuf_options options;
	struct os os;
	int dirfd;
	char dir[64];
};

extern int64_t repo_clock; /* what the client's clock shows */
extern uint64_t repo_clock_ms; /* and its monotonic one */

/* A new folder, opened, with the repository's 1.root.json as trusted root. */
void repo_client_new(struct repo_client *k, struct tuf_repo *r);
/* Close and open it again, as after a restart. */
void repo_client_reopen(struct repo_client *k);
/* Close it and remove the folder. */
void repo_client_free(struct repo_client *k);

/* The version of the file in the folder, 0 if there is none. */
uint64_t repo_stored_version(const struct repo_client *k, const char *file);

#endif
