/*
 * blob - files over MQTT in blocks: what a node asks on `get`, what comes back on `blob`.
 *
 * A node asks for up to BLOB_WINDOW blocks from `first` on, by a bitmap of those it
 * still lacks; each is answered by one message: a line of JSON, then the block's
 * bytes. Both sides may lose, double and reorder everything: a block says which
 * request, file and place it belongs to, and what it holds is verified by whoever
 * wanted the file. A window is all that is ever under way, so that an order behind
 * it waits no longer than a window takes.
 */
#ifndef SELFRIGHT_MODEL_BLOB_H
#define SELFRIGHT_MODEL_BLOB_H

#include "base/attr.h"
#include "base/buf.h"

#include <stddef.h>
#include <stdint.h>

enum {
	BLOB_BLOCK_BYTES = 64 * 1024,
	BLOB_WINDOW = 16,
	BLOB_NAME_MAX = 1024,
	BLOB_ID_HEX = 16,
	BLOB_REQUEST_MAX = 2048,
	BLOB_HEAD_MAX = 2048,
	BLOB_MESSAGE_MAX = BLOB_HEAD_MAX + BLOB_BLOCK_BYTES,
};

struct blob_request {
	char id[BLOB_ID_HEX + 1]; /* of the transfer; comes back with every block */
	char name[BLOB_NAME_MAX + 1]; /* of the repository: metadata/... or targets/... */
	uint64_t first; /* the block that bit 0 of `wanted` stands for */
	uint16_t wanted; /* bit n: block first + n */
};
NODISCARD int blob_request_write(const struct blob_request *q, struct buf *out);
/* Strict: names pass guard_path() and begin with metadata/ or targets/. */
NODISCARD int blob_request_parse(const void *text, size_t len, struct blob_request *ret);

enum blob_status { BLOB_OK, BLOB_NOT_FOUND, BLOB_BUSY };

struct blob_block {
	char id[BLOB_ID_HEX + 1];
	enum blob_status status;
	uint64_t length; /* of the whole file */
	uint64_t index; /* of this block */
	const uint8_t *data; /* borrowed from the message */
	size_t len; /* BLOB_BLOCK_BYTES, less in the last one */
};
NODISCARD int blob_block_write(const struct blob_block *b, struct buf *out);
/* Strict: index and len fit the length. */
NODISCARD int blob_block_parse(const void *message, size_t len, struct blob_block *ret);

#endif
