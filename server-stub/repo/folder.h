/*
 * folder - inside server-stub/repo: what repo.c, publish.c, rehearse.c and
 * announce.c share about the published folder in memory.
 */
#ifndef SELFRIGHT_REPO_FOLDER_H
#define SELFRIGHT_REPO_FOLDER_H

#include "base/attr.h"
#include "os/os.h"
#include "server-stub/repo/repo.h"
#include "server-stub/repo/role_file.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct private_key;

enum { REPO_LOCK_MAX = 4096, REPO_PATH_MAX = 3072 };

struct role_set {
	struct role_file **items;
	size_t count;
};
void role_set_done(struct role_set *s);
/* Put (owned) in the place of the one with its name. -ENOMEM: not taken. */
NODISCARD int role_set_put(struct role_set *s, struct role_file *f);
const struct role_file *role_set_get(const struct role_set *s, const char *name); /* NULL: none */

/* Where in an announcement a changed file stands. */
enum change_order {
	CHANGE_ROOT,
	CHANGE_TARGETS,
	CHANGE_ROLLOUTS,
	CHANGE_INDEX,
	CHANGE_DOCUMENT,
	CHANGE_TEAM,
	CHANGE_POLICY,
	CHANGE_MANIFEST,
	CHANGE_PRIVATE, /* orders: only in the announcement of their node */
};

struct change {
	char *file; /* repository file name */
	enum change_order order;
};
struct change_list {
	struct change *items;
	size_t count;
};
void change_list_done(struct change_list *l);
NODISCARD int change_list_add(struct change_list *l, const char *file, enum change_order order);
enum change_order change_order_of_role(const char *role);
enum change_order change_order_of_target(const char *path);

struct repo {
	const struct os *os;
	struct signer_client *signer;
	char dir[REPO_PATH_MAX];
	char uploads[REPO_PATH_MAX + 32];
	char fleet[ID_MAX + 1];
	int dirfd, repofd, lockfd;
	struct role_set
		roles; /* as published: root, timestamp, snapshot, targets, and every role the snapshot lists */
	bool unfinished; /* the published timestamp does not belong to what lies beside it: publish again */
	int64_t collected; /* when superseded files were last removed */
	struct change_list changes; /* of the latest publication */
	struct private_key *rehearsal_key;
	char error[1024];
};

int repo_fail(struct repo *r, int error, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Read what is published now into `ret`, verified as far as signatures and hashes go. */
NODISCARD int repo_load(struct repo *r, struct role_set *ret, bool *ret_unfinished);

/* Load again if another process published since. *ret_changed may be NULL. */
NODISCARD int repo_follow(struct repo *r, bool *ret_changed);

/* Only one process publishes at a time. */
NODISCARD int repo_lock(struct repo *r);
void repo_unlock(struct repo *r);

/*
 * Would a client that trusts this root accept these roles? Runs the real client on a copy whose snapshot
 * and timestamp are signed with a key of our own, so that the signer never signs what a client would refuse.
 * `changed` names the delegated roles to walk through; the others are only asked for if they verify today.
 */
NODISCARD int repo_rehearse(struct repo *r, const struct role_set *roles, const struct role_set *changed);

/* A target's bytes as published, appended; its hash is checked. */
NODISCARD int repo_read_file(struct repo *r, const char *path, const char *sha256, uint64_t length,
			     struct buf *ret);

/* Remove metadata and online documents that nobody can need any more (DESIGN.md section 12). */
NODISCARD int repo_collect(struct repo *r, int64_t now);

#endif
