/*
 * collection - files that support asked a node for (an order `collect`), on their way to the controller.
 *
 * The node gathers a set that its own configuration defines into one tar and signs what it
 * is: the statement (_type selfright-collection). It goes by `put` messages, over MQTT or as bodies of
 * POST /v1/node/<id>/put: first the statement, then blocks in order. Each is answered by the number
 * of the block that is wanted next, so everything may be lost, doubled and reordered, and a transfer goes on where
 * it was after a restart of either side. What ends it is a receipt, signed by `control`.
 */
#ifndef SELFRIGHT_MODEL_COLLECTION_H
#define SELFRIGHT_MODEL_COLLECTION_H

#include "base/attr.h"
#include "base/buf.h"
#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json;
struct json_node;

enum {
	COLLECTION_MAX_BYTES = 64 * 1024 * 1024,
	COLLECTION_STATEMENT_MAX = 16 * 1024, /* its envelope */
	PUT_BLOCK_BYTES = 64 * 1024,
	PUT_HEAD_MAX = 512,
	PUT_MESSAGE_MAX =
		PUT_HEAD_MAX + PUT_BLOCK_BYTES + 1024, /* a block that does not compress grows a little */
	PUT_ANSWER_MAX = 1024 + COLLECTION_STATEMENT_MAX,
	PUT_REASON_MAX = 200,
};

struct collection {
	char fleet[ID_MAX + 1], node[ID_MAX + 1], order[ID_MAX + 1], set[ID_MAX + 1];
	uint64_t length, files;
	char sha256[SHA256_HEX + 1];
	int64_t at;
};
void collection_write(const struct collection *c, struct json_node *object);
/* Strict: ids, lower-case hex, a length of at most COLLECTION_MAX_BYTES. */
NODISCARD int collection_parse(const struct json *object, struct collection *ret);

/* _type selfright-receipt: "I hold these bytes." */
struct receipt {
	char fleet[ID_MAX + 1], node[ID_MAX + 1], order[ID_MAX + 1], sha256[SHA256_HEX + 1];
};
void receipt_write(const struct receipt *r, struct json_node *object);
NODISCARD int receipt_parse(const struct json *object, struct receipt *ret);

/* A line of JSON, then the data: the statement's envelope, or one block, compressed as one gzip member. */
struct put {
	char order[ID_MAX + 1], sha256[SHA256_HEX + 1];
	bool opens; /* the data is the statement */
	uint64_t index; /* of the block */
	const uint8_t *data; /* borrowed from the message */
	size_t len;
};
NODISCARD int put_write(const struct put *p, struct buf *out);
NODISCARD int put_parse(const void *message, size_t len, struct put *ret);

enum put_state { PUT_MORE, PUT_DONE, PUT_REFUSED, PUT_BUSY };

/* A line of JSON, then with PUT_DONE the receipt's envelope. */
struct put_answer {
	char order[ID_MAX + 1], sha256[SHA256_HEX + 1];
	enum put_state state;
	uint64_t next; /* PUT_MORE: all blocks before it are there */
	char reason[PUT_REASON_MAX + 1]; /* PUT_REFUSED: in words */
	const uint8_t *receipt; /* borrowed from the message */
	size_t len;
};
NODISCARD int put_answer_write(const struct put_answer *a, struct buf *out);
NODISCARD int put_answer_parse(const void *message, size_t len, struct put_answer *ret);

/* How many blocks a collection has, and how long one is. */
uint64_t put_blocks(uint64_t length);
size_t put_block_length(uint64_t length, uint64_t index);

#endif
