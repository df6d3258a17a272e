/*
 * trial - the link tries its own connection, because somebody asks how it is: the timestamp over it, and the
 * first block of an artifact.
 *
 * Only what the two answers tell is kept: what they hold is nobody's news. One at a time.
 */
#ifndef SELFRIGHT_AGENT_LINK_TRIAL_H
#define SELFRIGHT_AGENT_LINK_TRIAL_H

#include "agent/link/blobs.h"
#include "base/attr.h"
#include "base/buf.h"
#include "model/blob.h"

#include <stdbool.h>
#include <stdint.h>

enum { TRIAL_FILES = 2 };

/* Zeroed: none is under way. */
struct trial {
	uint32_t id; /* of whoever asked; 0: none is under way */
	size_t count, at; /* how many files are tried, and which one now */
	struct {
		char name[BLOB_NAME_MAX + 1];
		int error;
		uint64_t ms; /* how long the answer took */
	} files[TRIAL_FILES];
};

/* What is said of the connection that was tried. */
struct trial_link {
	bool connected, retained; /* retained: the broker had kept something of what is new */
	uint64_t for_ms; /* so long by now */
	uint64_t heard_ms; /* so long ago the broker's last byte came */
	const char *words; /* about the connection, or why there is none */
};

/* Begin; an empty `artifact` is not tried. An earlier one is forgotten. */
NODISCARD int trial_begin(struct trial *t, struct blobs *b, uint32_t id, const char *artifact);
/* An answer of blobs_look: true when that was the last. */
bool trial_go_on(struct trial *t, struct blobs *b, int error, uint64_t ms);
/* What came of it, as the JSON of LINK_TRIED. */
NODISCARD int trial_text(const struct trial *t, const struct trial_link *link, struct buf *out);

#endif
