/*
 * client - inside common/tuf: what the workflow (client.c) and the search (search.c) share.
 */
#ifndef SELFRIGHT_TUF_CLIENT_H
#define SELFRIGHT_TUF_CLIENT_H

#include "tuf/metadata.h"
#include "tuf/store.h"
#include "tuf/timefloor.h"
#include "tuf/tuf.h"

/* A delegated role's file, as far as this client has it since the last refresh. */
struct role_file {
	struct role_file *next;
	struct metadata *metadata; /* not trusted by itself: verified on each path that leads here */
	/*
	 * The delegation under which it was verified last: the same keys on the same
	 * bytes need no second look, any other delegation does. Compared, never read.
	 */
	const struct json *verified_by;
	int failure; /* of the one request for it since the last refresh */
	bool stored; /* verified on some path, and the folder holds these bytes */
	char name[];
};

struct tuf_client {
	struct tuf_options options;
	struct tuf_store store;
	struct metadata *root, *timestamp, *snapshot, *targets; /* trusted; NULL: none */
	bool whole; /* the three files that hang on root name each other, in version and hashes */
	bool reload; /* the folder could not be read for a moment: what is trusted in it is not known */
	struct role_file *roles;
	struct time_floor floor;
	int64_t clock; /* read once at the start of a refresh */
	int64_t now; /* what expiry is judged by */
	uint64_t grace_s; /* of what is signed online */
	int root_error; /* why there is no root, if its file was broken */
	char error[512];
};

/* Note what went wrong with which file, once, and return `r`. */
int client_fail(struct tuf_client *c, int r, const char *file, const char *what);

/*
 * Fetch the file of `role` in `version` (0: without one) and check it against the
 * `meta` entry that announces it. Appended to `ret`.
 */
NODISCARD int client_fetch(struct tuf_client *c, struct fetcher *f, const char *role, uint64_t version,
			   const struct json *entry, uint64_t limit, struct buf *ret);

/* The name of a role's file for people and requests: "3.snapshot.json", percent-encoded. */
NODISCARD int client_file_name(const char *role, uint64_t version, struct buf *ret);

/* By the time the last refresh judged with; expiry equal to now is expired. */
bool client_expired(const struct tuf_client *c, const struct metadata *m);

/* The same for what is signed online and may have a grace. */
bool client_expired_online(const struct tuf_client *c, const struct metadata *m);

/* The entry of a role that top-level targets delegates to by name; NULL. */
const struct json *client_delegation(const struct tuf_client *c, const char *role);

/* Forget the delegated roles' files in memory. */
void client_drop_roles(struct tuf_client *c);

#endif
