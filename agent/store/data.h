/*
 * data - copies of what lives across versions, taken before a swap and put back if the
 * new version fails its probation.
 *
 *   r = data_save_begin(os, dirs, "web-7", &what, &save);   the services have stopped
 *   while ((r = data_save_step(save, until_ms)) == 0) ...   bounded steps: somebody else wants the processor too
 *   r = data_save_commit(save);                             durable, before the rename of the swap
 *   data_save_free(save);                                   without commit nothing of it stays
 *
 *   r = data_restore(os, dirs, "web-7", false);             only renames: neither space nor network is needed
 *
 * A save is <root>/saved/<name>/: `record`, and `copy-<i>` for each item that was there.
 * Restoring moves what is there now to `displaced-<i>` beside them, puts the copy in its
 * place, and renames `record` to `restored`, so that a second run does nothing. Saves and what
 * they displaced are kept for DATA_KEPT_S. Owners, modes and times are copied, extended
 * attributes are not; sockets and fifos are left out. No part of a path may be a link.
 *
 * The folders are the component's own user's, who may exchange anything while we look: a copy has owner and mode of the
 * file that was read, and its length when it was opened.
 */
#ifndef SELFRIGHT_STORE_DATA_H
#define SELFRIGHT_STORE_DATA_H

#include "agent/store/state.h"
#include "agent/store/store.h"
#include "base/attr.h"
#include "os/os.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	DATA_COMPONENTS_MAX = STATE_WITH_MAX + 1,
	DATA_ITEMS_MAX = 256,
	DATA_ENTRIES_MAX = 1000000,
	DATA_NAME_SIZE = STATE_ID_SIZE + 24,
	DATA_KEPT_S = 7 * 24 * 3600,
};

/* A file or folder data/<component>/<path>. */
struct data_item {
	const char *component, *path;
	bool restore; /* comes back by itself */
};

/* What is copied, and of which move. */
struct data_set {
	int64_t at; /* seconds since 1970 */
	struct {
		const char *component, *from, *to; /* "": absent */
	} moves[DATA_COMPONENTS_MAX];
	size_t move_count;
	struct data_item items[DATA_ITEMS_MAX];
	size_t item_count;
};

struct data_size {
	uint64_t bytes, files; /* as a copy would take them: files with holes count what they hold */
};

/*
 * What copying all of it would take. Missing items are nothing. -ERR_NAME; -ELOOP, -ENOTDIR: a part
 * of a path is a link or no folder; -EXDEV: it reaches into another file system, from which it could
 * not be put back by a rename; -ERR_TOO_LARGE, -ERR_TOO_DEEP.
 */
NODISCARD int data_measure(const struct os *os, const struct store_dirs *dirs, const struct data_set *set,
			   struct data_size *ret);

/* Can the file system of the root folder share bytes between files, so that a copy takes no space? */
bool data_can_share(const struct os *os, const struct store_dirs *dirs);

struct data_save;

/* List what is to be copied into saved/<name>; a save or a half one of that name is removed first. Errors as data_measure. */
NODISCARD int data_save_begin(const struct os *os, const struct store_dirs *dirs, const char *name,
			      const struct data_set *set, struct data_save **ret);
/* Copy until it is done (1) or the clock of the boot passes `until_ms` (0). */
NODISCARD int data_save_step(struct data_save *s, uint64_t until_ms);
/*
 * syncfs makes the copies durable, fsync of the record and of the folder the name: after 0 the save is
 * there after any crash, before it is not. */
NODISCARD int data_save_commit(struct data_save *s);
/* Release it; what was not committed is removed. NULL is fine. */
void data_save_free(struct data_save *s);
DEFINE_FREEP(struct data_save *, data_save_free)

/*
 * Put back the items that come back by themselves (`all`: every one). What was not there when it was
 * saved goes away; a link or a file that stands where a folder of the way to an item was is displaced too. Each
 * rename is made durable by fsync of both folders before the next; the last one marks the save as restored. 0 also when
 * that was done before. -ENOENT: no such save; -ERR_TREE: its record is malformed. On failure it can be run again.
 */
NODISCARD int data_restore(const struct os *os, const struct store_dirs *dirs, const char *name, bool all);

/* The newest save, not restored yet, from before a move of `component` away from `version`. -ENOENT. */
NODISCARD int data_find(const struct os *os, const struct store_dirs *dirs, const char *component,
			const char *version, char ret[static DATA_NAME_SIZE]);

/* The items of a save, to be saved themselves before it is put back; appended. Free ret_text when the set is not used any more. */
NODISCARD int data_items_of(const struct os *os, const struct store_dirs *dirs, const char *name,
			    struct data_set *ret, char **ret_text);

/* Remove a save, whole or half. Missing is fine. */
NODISCARD int data_remove(const struct os *os, const struct store_dirs *dirs, const char *name);

/*
 * Remove half saves, and those older than DATA_KEPT_S at `now`: counted from the copy, or from the first run after
 * it was restored. The claimed names stay. *ret_removed may be NULL.
 */
NODISCARD int data_collect(const struct os *os, const struct store_dirs *dirs, int64_t now,
			   const char *const *claimed, size_t claimed_count, size_t *ret_removed);

/*
 * Give up a copy before its time, for an update that would find no room: the oldest that was never put back, of
 * whose components there are newer ones. What a restore displaced is not given up, nor the claimed names.
 * 1: removed, and its name is in `ret`; 0: there is none to give up.
 */
NODISCARD int data_give_up(const struct os *os, const struct store_dirs *dirs, const char *const *claimed,
			   size_t claimed_count, char ret[static DATA_NAME_SIZE]);

#endif
