/*
 * store - the node's root folder: its directories, its journal, its history.
 *
 *   CLEANUP(store_freep) struct store *s = NULL;
 *   r = store_open(&os_posix, "/var/lib/selfright", &s);
 *   r = store_load(s, state);            1: there was nothing yet
 *   ... change state, r = store_save(s, state), act ...
 *
 * One process at a time writes: store_open takes a lock (-EBUSY). store_inspect
 * opens for reading alone and changes nothing.
 */
#ifndef SELFRIGHT_STORE_STORE_H
#define SELFRIGHT_STORE_STORE_H

#include "base/attr.h"
#include "base/buf.h"
#include "os/os.h"

#include <stddef.h>
#include <stdint.h>

struct node_state;
struct store;

/* The folders of DESIGN.md section 8, as descriptors that live as long as the store. Borrowed. */
struct store_dirs {
	int root, trust, store, generations, data, spool, outbox;
	int saved; /* copies of data from before swaps */
};

/*
 * Open the root folder, made with all below it if missing (0755; trust, outbox, saved 0700;
 * spool 0700), and the journal in it. A journal that cannot be read is not touched:
 * -ERR_JOURNAL, and store_reset_journal is the way out.
 */
NODISCARD int store_open(const struct os *os, const char *root, struct store **ret);
/* Only to look; missing folders are -1 in store_dirs. store_save answers -EROFS. */
NODISCARD int store_inspect(const struct os *os, const char *root, struct store **ret);
/* NULL is fine. */
void store_free(struct store *s);
DEFINE_FREEP(struct store *, store_free)

const struct store_dirs *store_dirs(const struct store *s);
const struct os *store_os(const struct store *s);
const char *store_root(const struct store *s);

/*
 * The newest saved state. 0, or 1 if none was ever saved (then `ret` is state_init()ed).
 * -ERR_JOURNAL if the newest record cannot be decoded (-ERR_AGENT_TOO_OLD: of an unknown
 * format). Release `ret` with state_done.
 */
NODISCARD int store_load(struct store *s, struct node_state *ret);

/* Make it durable before returning; after a failure the state before is the one that stands. */
NODISCARD int store_save(struct store *s, const struct node_state *state);

/* Set a broken journal aside as journal.broken-<n> and open a new one. */
NODISCARD int store_reset_journal(const struct os *os, const char *root);

/*
 * The history: lines for people and support, append-only. The newest 1 MiB is kept
 * (history, history.1). A line may hold no line feed and at most 8 KiB.
 */
enum { STORE_HISTORY_LINE_MAX = 8192, STORE_HISTORY_MAX = 3 * 512 * 1024 /* more than is ever kept */ };
NODISCARD int store_history_append(struct store *s, const char *line);

/* The newest `count` lines, oldest first, each with its line feed, appended to `out`, whose limit holds. */
NODISCARD int store_history_read(struct store *s, size_t count, struct buf *out);

#endif
