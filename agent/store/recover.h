/*
 * recover - at boot, before the managed services: a complete version is current.
 *
 * Needs no network and no agent. Finishes a rollback, counts boots within a
 * probation and falls back above the limit; with a broken or missing journal it
 * makes sure that `current` names a complete generation.
 */
#ifndef SELFRIGHT_STORE_RECOVER_H
#define SELFRIGHT_STORE_RECOVER_H

#include "base/attr.h"
#include "os/os.h"

#include <stdbool.h>

enum { RECOVER_BOOT_ATTEMPTS = 3, RECOVER_RESULT_INTERRUPTED = 303, RECOVER_RESULT_FALLBACK_DAMAGED = 305 };

enum recover_outcome {
	RECOVER_NOTHING, /* nothing was to be done, or one more boot was counted */
	RECOVER_FELL_BACK, /* `current` was changed */
};

struct recover_options {
	const char *root;
	const char *boot_id; /* of this boot: the same one is counted once */
	bool dry_run; /* say what would be done, change nothing */
};

struct recover_result {
	enum recover_outcome outcome;
	char sentence[512]; /* for people: what was found and done */
};

/*
 * -EBUSY: the agent runs already; -ERR_TREE: no complete generation is there, or the fallback
 * is damaged; other errors of the disk. `ret` is filled in any case.
 */
NODISCARD int recover_run(const struct os *os, const struct recover_options *o, struct recover_result *ret);

/* The kernel's boot id, 36 characters and NUL. */
NODISCARD int recover_boot_id(const struct os *os, char ret[static 37]);

#endif
