/* Any bytes as a part of a collection, as the answer to one, and as statement and receipt: what is taken fits, and means the same once written again. */
#include "json/json.h"
#include "model/collection.h"

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

static void try_put(const uint8_t *data, size_t size)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(2 * PUT_MESSAGE_MAX);
	struct put p, q;

	if (put_parse(data, size, &p) < 0)
		return;
	expect(guard_id(p.order) && p.len > 0 && p.data + p.len == data + size);
	expect(p.opens ? p.len <= COLLECTION_STATEMENT_MAX : p.index < put_blocks(COLLECTION_MAX_BYTES));
	expect(put_write(&p, &text) == 0 && put_parse(text.data, text.len, &q) == 0);
	expect(strcmp(p.order, q.order) == 0 && strcmp(p.sha256, q.sha256) == 0 && p.opens == q.opens &&
	       p.index == q.index && p.len == q.len && memcmp(p.data, q.data, p.len) == 0);
}

static void try_answer(const uint8_t *data, size_t size)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(2 * PUT_ANSWER_MAX);
	struct put_answer a, b;

	if (put_answer_parse(data, size, &a) < 0)
		return;
	expect(guard_id(a.order) && strlen(a.reason) <= PUT_REASON_MAX);
	expect((a.state == PUT_DONE) == (a.len > 0));
	if (put_answer_write(&a, &text) < 0)
		return; /* a reason cut within a character is no JSON any more */
	if (put_answer_parse(text.data, text.len, &b) == 0)
		expect(strcmp(a.order, b.order) == 0 && a.state == b.state && a.next == b.next && a.len == b.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct collection c;
	struct receipt r;

	try_put(data, size);
	try_answer(data, size);
	if (json_parse(data, size, &json_limits_default, &doc) < 0)
		return 0;
	if (collection_parse(doc, &c) == 0)
		expect(guard_id(c.node) && guard_id(c.order) && guard_id(c.set) && c.length > 0 &&
		       c.length <= COLLECTION_MAX_BYTES && strlen(c.sha256) == SHA256_HEX);
	if (receipt_parse(doc, &r) == 0)
		expect(guard_id(r.node) && guard_id(r.order) && strlen(r.sha256) == SHA256_HEX);
	return 0;
}
