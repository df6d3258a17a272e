/*
 * agents - which agents this node has, which of them work, and which one to start.
 *
 * There is the packaged one, and those in the store that releases of the component
 * `agent` brought. What is known of them stands in the root folder's file "agents",
 * text like the state's: who proved itself, how often each was started in vain, and
 * how the one on trial fares. selfright-recover alone writes it, before every start
 * and when an agent says that it is ready or proven: a count is durable before the
 * start it counts, and a proof before the agent hears that it was noted.
 *
 * A broken or missing file is a node of which nothing is known yet.
 */
#ifndef SELFRIGHT_STORE_AGENTS_H
#define SELFRIGHT_STORE_AGENTS_H

#include "agent/store/state.h"
#include "base/attr.h"
#include "os/os.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AGENTS_COMPONENT "agent"

enum {
	AGENTS_KNOWN_MAX = 16,
	AGENTS_CANDIDATES_MAX = 32,
	AGENTS_TRIAL_STARTS = 3, /* of one on trial, without its proof */
	AGENTS_STARTS = 5, /* of any other in a row, without being ready */
	AGENTS_HOW_SIZE = 161,
	AGENTS_HANDOVER_MS = 5 * 60 * 1000, /* where the update says nothing */
};

struct agents_known {
	char version[STATE_VERSION_SIZE]; /* "": the packaged one */
	bool proven; /* it once confirmed itself here */
	uint64_t starts; /* since it was last ready */
};

struct agents {
	struct agents_known known[AGENTS_KNOWN_MAX]; /* oldest first */
	size_t known_count;
	char trial[STATE_UPDATE_SIZE]; /* the update whose new agent is, or was last, on trial; "": none */
	uint64_t trial_starts;
	bool trial_failed;
	char trial_how[AGENTS_HOW_SIZE]; /* how it last ended, in words; "": nobody saw it end */
};

/* Never fails for what is in the file: 1 if it was there but could not be used, 0, -ENOMEM, errors of the disk. */
NODISCARD int agents_load(const struct os *os, int root_fd, struct agents *ret);
/* The file's text, which may be anything. -ERR_SYNTAX and the like; `ret` is untouched then. */
NODISCARD int agents_parse(const void *data, size_t len, struct agents *ret);
NODISCARD int agents_write(const struct agents *a, struct buf *out);
enum { AGENTS_FILE_MAX = 8192 };
/* Durable on return of 0. */
NODISCARD int agents_save(const struct os *os, int root_fd, const struct agents *a);

/* The entry of a version, made if missing; the oldest unproven one, else the oldest, makes room. */
struct agents_known *agents_known(struct agents *a, const char *version);

/* What there is to choose from. Borrowed. */
struct agents_facts {
	const struct node_state *state; /* NULL: the journal cannot be read, or there is none */
	uint64_t generation; /* the current one; 0: none */
	char current[STATE_VERSION_SIZE]; /* of the component in it; "": absent */
	const char *packaged; /* its version; NULL: no packaged agent is there */
	char sound[AGENTS_CANDIDATES_MAX][STATE_VERSION_SIZE]; /* complete trees in the store */
	size_t sound_count;
};
/* Shortages of this moment (-ENOMEM, -EMFILE and the like) are errors; what is broken or missing is not there. */
NODISCARD int agents_look(const struct os *os, int root_fd, struct agents_facts *ret);

struct agents_choice {
	char version[STATE_VERSION_SIZE]; /* "": the packaged one */
	char update[STATE_UPDATE_SIZE]; /* whose trial it is; "": none */
	uint64_t limit_ms; /* of a trial: proven within it, or it has failed */
};

/*
 * Which one to start now. While an update of the component waits for its proof that is the
 * new one, until it was started too often or said to have failed; then the one before.
 * Else the newer of the current and the packaged one; where that does not work the other,
 * then any that was once proven. Where none works all are tried anew: what keeps every
 * agent from starting is not the agents' fault. `a` is brought up to date, not saved.
 * -ENOENT: there is no agent at all.
 */
NODISCARD int agents_choose(const struct agents_facts *f, struct agents *a, struct agents_choice *ret);

/* Count the start that is about to be made. */
void agents_started(struct agents *a, const struct agents_choice *c);
/* It ended, as `how` says; `fatal`: trying again helps nothing. */
void agents_ended(struct agents *a, const struct agents_choice *c, const char *how, bool fatal);
/* It got as far as its work. */
void agents_ready(struct agents *a, const struct agents_choice *c);
/* It proved itself; its trial is over. */
void agents_confirmed(struct agents *a, const struct agents_choice *c);

#endif
