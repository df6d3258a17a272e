/* Any bytes as a request for blocks, and as a block: what is taken fits, and means the same once written again. */
#include "base/text.h"
#include "model/blob.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds)
{
	if (!holds)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(BLOB_MESSAGE_MAX);
	struct blob_request q, q2;
	struct blob_block b, b2;

	if (blob_request_parse(data, size, &q) == 0) {
		expect(guard_path(q.name) && q.wanted != 0);
		expect(blob_request_write(&q, &text) == 0);
		expect(blob_request_parse(text.data, text.len, &q2) == 0);
		expect(strcmp(q.name, q2.name) == 0 && q.first == q2.first && q.wanted == q2.wanted);
		buf_clear(&text);
	}
	if (blob_block_parse(data, size, &b) == 0) {
		expect(b.len <= BLOB_BLOCK_BYTES && b.data + b.len == data + size);
		expect(blob_block_write(&b, &text) == 0);
		expect(blob_block_parse(text.data, text.len, &b2) == 0);
		expect(b.len == b2.len && b.index == b2.index && b.length == b2.length && b.status == b2.status);
	}
	return 0;
}
