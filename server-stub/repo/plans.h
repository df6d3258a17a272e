/*
 * plans - the plan of each rollout in force, kept beside what is published.
 *
 * Nodes need no plan: its soaks, gates and limits are the controller's. But a controller that lost its database has
 * the published folder alone. So the document of a rollout names the SHA-256 of its plan, under the signature of the
 * role `rollouts`, and the plan lies in plans/<id>.json. Whoever may change the folder can take a plan away, and cannot
 * put another in its place. It is for the folder's owner and group: what a gate asks is nobody else's business.
 */
#ifndef SELFRIGHT_REPO_PLANS_H
#define SELFRIGHT_REPO_PLANS_H

#include "base/attr.h"
#include "base/buf.h"
#include "crypto/digest.h"
#include "os/os.h"

#include <stdbool.h>
#include <stddef.h>

enum { PLAN_FILE_MAX = 512 * 1024 };

/*
 * Keep it, if it is not there already; *ret_sha256 is what its document is to name. The file is fsynced before it has
 * its name and `plans` after it, so after 0 the plan is there after any crash, and the document may be published.
 */
NODISCARD int plans_keep(const struct os *os, int repofd, const char *id, const void *plan, size_t len,
			 char ret_sha256[static SHA256_HEX + 1]);

/* The one with this hash, appended to `ret`. -ENOENT; -ERR_DIGEST: another one lies there. */
NODISCARD int plans_read(const struct os *os, int repofd, const char *id, const char *sha256, struct buf *ret);

/* Remove all but those that `is_wanted`. Not synced: one that a crash brings back is named by nothing. */
NODISCARD int plans_sweep(const struct os *os, int repofd, bool (*is_wanted)(const void *user, const char *id),
			  const void *user);

#endif
