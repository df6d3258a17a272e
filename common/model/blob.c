#include "model/blob.h"

#include "base/err.h"
#include "base/text.h"
#include "json/build.h"
#include "json/json.h"

#include <string.h>

static const struct json_limits limits = { BLOB_HEAD_MAX, 2, 32 };

static const char *const status_words[] = {
	[BLOB_OK] = "ok", [BLOB_NOT_FOUND] = "not-found", [BLOB_BUSY] = "busy"
};

static int take_id(const struct json *o, char ret[static BLOB_ID_HEX + 1])
{
	const char *id = json_string(json_get(o, "id"));
	uint8_t bytes[BLOB_ID_HEX / 2];

	if (!id || hex_decode(bytes, sizeof(bytes), id, false) < 0)
		return -ERR_FIELD_VALUE;
	memcpy(ret, id, BLOB_ID_HEX + 1);
	return 0;
}

int blob_request_write(const struct blob_request *q, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *root = json_build_root(b);

	node_integer(root, "format", 1);
	node_string(root, "id", q->id);
	node_string(root, "name", q->name);
	node_integer(root, "first", (int64_t) q->first);
	node_integer(root, "wanted", q->wanted);
	return json_build_text(b, false, out);
}

int blob_request_parse(const void *text, size_t len, struct blob_request *ret)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct blob_request q = { .first = 0 };
	uint64_t format = 0, wanted = 0;
	const char *name;
	int r = len <= BLOB_REQUEST_MAX ? json_parse(text, len, &limits, &doc) : -ERR_TOO_LARGE;

	if (r == 0)
		r = json_need_u64(doc, "format", 1, 1, &format);
	if (r == 0)
		r = json_need_u64(doc, "first", 0, INT64_C(1) << 40, &q.first);
	if (r == 0)
		r = json_need_u64(doc, "wanted", 1, UINT16_MAX, &wanted);
	if (r == 0)
		r = take_id(doc, q.id);
	if (r < 0)
		return r;
	name = json_string(json_get(doc, "name"));
	if (!name || strlen(name) > BLOB_NAME_MAX || !guard_path(name) ||
	    (!str_starts(name, "metadata/") && !str_starts(name, "targets/")))
		return -ERR_NAME;
	memcpy(q.name, name, strlen(name) + 1);
	q.wanted = (uint16_t) wanted;
	*ret = q;
	return 0;
}

int blob_block_write(const struct blob_block *block, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *root = json_build_root(b);
	int r;

	node_integer(root, "format", 1);
	node_string(root, "id", block->id);
	node_string(root, "status", status_words[block->status]);
	node_integer(root, "length", (int64_t) block->length);
	node_integer(root, "index", (int64_t) block->index);
	r = json_build_text(b, false, out);
	if (r == 0)
		r = buf_add_byte(out, '\n');
	return r == 0 && block->len > 0 ? buf_add(out, block->data, block->len) : r;
}

static int take_status(const struct json *o, enum blob_status *ret)
{
	const char *word = json_string(json_get(o, "status"));

	for (size_t i = 0; word && i < ARRAY_LEN(status_words); i++) {
		if (str_eq(word, status_words[i])) {
			*ret = (enum blob_status) i;
			return 0;
		}
	}
	return -ERR_FIELD_VALUE;
}

/* How long the block at this place must be. */
static uint64_t length_at(uint64_t length, uint64_t index)
{
	uint64_t start = index * BLOB_BLOCK_BYTES;

	if (start >= length)
		return 0;
	return length - start < BLOB_BLOCK_BYTES ? length - start : BLOB_BLOCK_BYTES;
}

int blob_block_parse(const void *message, size_t len, struct blob_block *ret)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct blob_block b = { .len = 0 };
	const uint8_t *newline = len > 0 ? memchr(message, '\n', len < BLOB_HEAD_MAX ? len : BLOB_HEAD_MAX) : NULL;
	uint64_t format = 0;
	int r;

	if (!newline)
		return -ERR_SYNTAX;
	r = json_parse(message, (size_t) (newline - (const uint8_t *) message), &limits, &doc);
	if (r == 0)
		r = json_need_u64(doc, "format", 1, 1, &format);
	if (r == 0)
		r = json_need_u64(doc, "length", 0, INT64_C(1) << 46, &b.length);
	if (r == 0)
		r = json_need_u64(doc, "index", 0, INT64_C(1) << 40, &b.index);
	if (r == 0)
		r = take_id(doc, b.id);
	if (r == 0)
		r = take_status(doc, &b.status);
	if (r < 0)
		return r;
	b.data = newline + 1;
	b.len = len - (size_t) (b.data - (const uint8_t *) message);
	/* An empty file is one empty block; else every place within the file has just its bytes. */
	if (b.status != BLOB_OK
		    ? b.len != 0
		    : b.len != length_at(b.length, b.index) || (b.len == 0 && (b.length > 0 || b.index > 0)))
		return -ERR_LENGTH;
	*ret = b;
	return 0;
}
