/*
 * blobs - files over the one MQTT connection (model/blob.h), for nodes that reach nothing else.
 *
 * Two at a time: a small one into memory (metadata, documents) and an artifact into the
 * file blobs/<sha256>.part below the outbox, which goes on where it was after a lost
 * connection or a restart. The window grows while it comes back within a second and
 * shrinks when it takes longer, so that an order waits about that long behind data.
 * Nothing here is believed: who wanted the file verifies it.
 */
#ifndef SELFRIGHT_AGENT_LINK_BLOBS_H
#define SELFRIGHT_AGENT_LINK_BLOBS_H

#include "base/attr.h"
#include "base/buf.h"
#include "os/os.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	BLOBS_SILENCE_MS = 10 * 1000,
	BLOBS_TRIES = 6,
	BLOBS_LOOK_MS = 12 * 1000 /* long enough to be asked for twice */
};

struct blobs;

struct blobs_options {
	const struct os *os;
	int dirfd; /* the outbox; borrowed */
	/* Publish a request; an error is that of a lost connection. */
	int (*ask)(void *user, const void *request, size_t len);
	/* The end of a transfer into memory: its bytes, or a negative error. */
	void (*fetched)(void *user, uint32_t id, int error, const void *data, size_t len);
	/* An artifact moved on (`over` false), or ended: it is in its file, or a negative error. */
	void (*saved)(void *user, uint32_t id, bool over, int error, uint64_t bytes);
	/* The end of a look: 0, or a negative error, and after how long. NULL where nobody looks. */
	void (*looked)(void *user, uint32_t id, int error, uint64_t ms);
	void *user;
};

NODISCARD int blobs_new(const struct blobs_options *o, struct blobs **ret);
void blobs_free(struct blobs *b);

/* Fetch `name`, at most `max` bytes, into memory; one under way is given up without a word: nobody waits for it. */
NODISCARD int blobs_fetch(struct blobs *b, uint32_t id, const char *name, uint64_t max);
/*
 * Save the artifact `name` of `length` bytes, whose base name begins with the SHA-256 in hex; another one
 * under way is given up, and what is left of earlier ones is removed. -ERR_NAME.
 */
NODISCARD int blobs_save(struct blobs *b, uint32_t id, const char *name, uint64_t length);
/* Ask for the first block of `name`, beside what else is under way, and drop it: somebody wants to know whether it comes. */
NODISCARD int blobs_look(struct blobs *b, uint32_t id, const char *name);
/* Give up what is being saved; what is there stays for the next time. */
void blobs_stop(struct blobs *b);
/* The ceiling of what is saved, from the next request on; 0: none. Files into memory are small and have none. */
void blobs_set_rate(struct blobs *b, uint64_t bytes_per_second);

/* A message on the topic `blob`. */
void blobs_take(struct blobs *b, const void *message, size_t len);
/* The connection stands (again): what was under way is asked for once more. */
void blobs_connected(struct blobs *b);
/* Ask again for what did not come, give up what never does. */
void blobs_step(struct blobs *b, bool connected);
/* When blobs_step wants to be called next, UINT64_MAX: not at all. */
uint64_t blobs_next_ms(const struct blobs *b);

#endif
