/*
 * puts - a collection on its way to the controller (model/collection.h), over MQTT or by HTTPS.
 *
 * One at a time. The bytes are the engine's: a block is wanted of it when it is to go out. Over MQTT a few are
 * under way at once, by HTTPS one; a road that fails is left for the other. Whatever is lost is asked for by the
 * controller's answer to the statement, which is said again after a silence, a lost connection or a restart of
 * either side. It ends when the engine has verified the receipt and says so.
 */
#ifndef SELFRIGHT_AGENT_LINK_PUTS_H
#define SELFRIGHT_AGENT_LINK_PUTS_H

#include "base/attr.h"
#include "os/os.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PUTS_WINDOW = 4, PUTS_SILENCE_MS = 15 * 1000, PUTS_REFUSED_MS = 10 * 60 * 1000, PUTS_BUSY_MS = 5000 };

struct puts;

struct puts_options {
	const struct os *os;
	bool mqtt, https, mqtt_first; /* the roads it may take */
	/* Send a `put` message; an error is that of a road that does not go. */
	int (*publish)(void *user, const void *message, size_t len);
	int (*post)(void *user, const void *message, size_t len); /* answered by puts_posted() */
	/* Block `index` of the engine's transfer `id` is wanted: puts_block() brings it. */
	void (*want)(void *user, uint32_t id, uint64_t index);
	/* The controller's signed word that it has it all. */
	void (*receipt)(void *user, const void *envelope, size_t len);
	void *user;
};

NODISCARD int puts_new(const struct puts_options *o, struct puts **ret);
void puts_free(struct puts *p);

/*
 * Bring it there: `length` bytes with this SHA-256 for the order, and the node's signed statement. The same again
 * changes nothing; another one takes its place.
 */
NODISCARD int puts_begin(struct puts *p, uint32_t id, const char *order, const char *sha256, uint64_t length,
			 const void *statement, size_t len);
void puts_stop(struct puts *p);
/* The ceiling of blocks on their way out, whatever the road, from the next one on; 0: none. */
void puts_set_rate(struct puts *p, uint64_t bytes_per_second);
/* What the engine answered; compressed here. */
void puts_block(struct puts *p, uint64_t index, const void *data, size_t len);
/* A message on the topic `blob`: true if it was an answer to a `put`. */
bool puts_take(struct puts *p, const void *message, size_t len);
/* The end of a post: its body, or a negative error. */
void puts_posted(struct puts *p, int error, const void *body, size_t len);
void puts_connected(struct puts *p);
void puts_step(struct puts *p, bool connected);
/* When puts_step wants to be called next, UINT64_MAX: not at all. */
uint64_t puts_next_ms(const struct puts *p);

#endif
