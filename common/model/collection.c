#include "model/collection.h"

#include "base/err.h"
#include "base/timestamp.h"
#include "json/build.h"
#include "json/json.h"

#include <stdio.h>
#include <string.h>

static const struct json_limits limits = { PUT_HEAD_MAX * 2, 2, 32 };

static const char *const state_words[] = {
	[PUT_MORE] = "more", [PUT_DONE] = "done", [PUT_REFUSED] = "refused", [PUT_BUSY] = "busy"
};

static int take_id(const struct json *o, const char *name, char ret[static ID_MAX + 1])
{
	const char *id = json_string(json_get(o, name));

	if (!guard_id(id))
		return -ERR_FIELD_VALUE;
	memcpy(ret, id, strlen(id) + 1); /* guard_id: at most ID_MAX */
	return 0;
}

static int take_sha256(const struct json *o, char ret[static SHA256_HEX + 1])
{
	const char *hex = json_string(json_get(o, "sha256"));
	uint8_t digest[SHA256_BYTES];

	if (!hex || hex_decode(digest, sizeof(digest), hex, false) < 0)
		return -ERR_FIELD_VALUE;
	memcpy(ret, hex, SHA256_HEX + 1);
	return 0;
}

static int need_type(const struct json *o, const char *type)
{
	return str_eq(json_string(json_get(o, "_type")), type) ? 0 : -ERR_FIELD_VALUE;
}

/* --- the signed ones --- */

void collection_write(const struct collection *c, struct json_node *object)
{
	char stamp[TIMESTAMP_LEN + 1];

	timestamp_format(stamp, c->at);
	node_string(object, "_type", "selfright-collection");
	node_integer(object, "format", 1);
	node_string(object, "fleet", c->fleet);
	node_string(object, "node", c->node);
	node_string(object, "order", c->order);
	node_string(object, "set", c->set);
	node_integer(object, "length", (int64_t) c->length);
	node_integer(object, "files", (int64_t) c->files);
	node_string(object, "sha256", c->sha256);
	node_string(object, "at", stamp);
}

int collection_parse(const struct json *object, struct collection *ret)
{
	struct collection c = { .length = 0 };
	const char *at = json_string(json_get(object, "at"));
	uint64_t format = 0;
	int r = need_type(object, "selfright-collection");

	if (r == 0)
		r = json_need_u64(object, "format", 1, 1, &format);
	if (r == 0)
		r = json_need_u64(object, "length", 1, COLLECTION_MAX_BYTES, &c.length);
	if (r == 0)
		r = json_need_u64(object, "files", 0, INT32_MAX, &c.files);
	if (r == 0)
		r = take_id(object, "fleet", c.fleet);
	if (r == 0)
		r = take_id(object, "node", c.node);
	if (r == 0)
		r = take_id(object, "order", c.order);
	if (r == 0)
		r = take_id(object, "set", c.set);
	if (r == 0)
		r = take_sha256(object, c.sha256);
	if (r == 0 && (!at || timestamp_parse(at, &c.at) < 0))
		r = -ERR_FIELD_VALUE;
	if (r == 0)
		*ret = c;
	return r;
}

void receipt_write(const struct receipt *r, struct json_node *object)
{
	node_string(object, "_type", "selfright-receipt");
	node_integer(object, "format", 1);
	node_string(object, "fleet", r->fleet);
	node_string(object, "node", r->node);
	node_string(object, "order", r->order);
	node_string(object, "sha256", r->sha256);
}

int receipt_parse(const struct json *object, struct receipt *ret)
{
	struct receipt c = { .fleet = "" };
	uint64_t format = 0;
	int r = need_type(object, "selfright-receipt");

	if (r == 0)
		r = json_need_u64(object, "format", 1, 1, &format);
	if (r == 0)
		r = take_id(object, "fleet", c.fleet);
	if (r == 0)
		r = take_id(object, "node", c.node);
	if (r == 0)
		r = take_id(object, "order", c.order);
	if (r == 0)
		r = take_sha256(object, c.sha256);
	if (r == 0)
		*ret = c;
	return r;
}

/* --- on the way --- */

/* The line's object; *ret_data points behind it. */
static int open_line(const void *message, size_t len, size_t max, struct json **ret, const uint8_t **ret_data,
		     size_t *ret_len)
{
	const uint8_t *bytes = message, *newline = len > 0 ? memchr(bytes, '\n', len < max ? len : max) : NULL;
	uint64_t format = 0;
	int r;

	if (!newline)
		return -ERR_SYNTAX;
	r = json_parse(bytes, (size_t) (newline - bytes), &limits, ret);
	if (r == 0)
		r = json_need_u64(*ret, "format", 1, 1, &format);
	*ret_data = newline + 1;
	*ret_len = len - (size_t) (newline + 1 - bytes);
	return r;
}

int put_write(const struct put *p, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *root = json_build_root(b);
	int r;

	node_integer(root, "format", 1);
	node_string(root, "order", p->order);
	node_string(root, "sha256", p->sha256);
	if (!p->opens)
		node_integer(root, "index", (int64_t) p->index);
	r = json_build_text(b, false, out);
	if (r == 0)
		r = buf_add_byte(out, '\n');
	return r < 0 ? r : buf_add(out, p->data, p->len);
}

int put_parse(const void *message, size_t len, struct put *ret)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct put p = { .len = 0 };
	int r;

	if (len > PUT_MESSAGE_MAX)
		return -ERR_TOO_LARGE;
	r = open_line(message, len, PUT_HEAD_MAX, &doc, &p.data, &p.len);
	if (r == 0)
		r = take_id(doc, "order", p.order);
	if (r == 0)
		r = take_sha256(doc, p.sha256);
	if (r < 0)
		return r;
	p.opens = !json_get(doc, "index");
	if (!p.opens)
		r = json_need_u64(doc, "index", 0, put_blocks(COLLECTION_MAX_BYTES) - 1, &p.index);
	if (r == 0 && (p.len == 0 || (p.opens && p.len > COLLECTION_STATEMENT_MAX)))
		r = -ERR_LENGTH;
	if (r == 0)
		*ret = p;
	return r;
}

int put_answer_write(const struct put_answer *a, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *root = json_build_root(b);
	int r;

	node_integer(root, "format", 1);
	node_string(root, "put", a->order);
	node_string(root, "sha256", a->sha256);
	node_string(root, "state", state_words[a->state]);
	if (a->state == PUT_MORE)
		node_integer(root, "next", (int64_t) a->next);
	if (a->state == PUT_REFUSED)
		node_string(root, "reason", a->reason);
	r = json_build_text(b, false, out);
	if (r == 0)
		r = buf_add_byte(out, '\n');
	return r == 0 && a->state == PUT_DONE ? buf_add(out, a->receipt, a->len) : r;
}

static int take_state(const struct json *doc, enum put_state *ret)
{
	const char *word = json_string(json_get(doc, "state"));

	for (size_t i = 0; word && i < ARRAY_LEN(state_words); i++) {
		if (str_eq(word, state_words[i])) {
			*ret = (enum put_state) i;
			return 0;
		}
	}
	return -ERR_FIELD_VALUE;
}

int put_answer_parse(const void *message, size_t len, struct put_answer *ret)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct put_answer a = { .len = 0 };
	const char *reason;
	int r;

	if (len > PUT_ANSWER_MAX)
		return -ERR_TOO_LARGE;
	r = open_line(message, len, 1024, &doc, &a.receipt, &a.len);
	if (r == 0)
		r = take_id(doc, "put", a.order);
	if (r == 0)
		r = take_sha256(doc, a.sha256);
	if (r == 0)
		r = take_state(doc, &a.state);
	if (r == 0 && a.state == PUT_MORE)
		r = json_need_u64(doc, "next", 0, put_blocks(COLLECTION_MAX_BYTES), &a.next);
	if (r < 0)
		return r;
	reason = json_string(json_get(doc, "reason"));
	if (a.state == PUT_REFUSED && reason)
		(void) snprintf(a.reason, sizeof(a.reason), "%s", reason); /* for people: cut */
	if (a.state == PUT_DONE ? a.len == 0 : a.len != 0)
		return -ERR_LENGTH;
	*ret = a;
	return 0;
}

uint64_t put_blocks(uint64_t length)
{
	return (length + PUT_BLOCK_BYTES - 1) / PUT_BLOCK_BYTES;
}

size_t put_block_length(uint64_t length, uint64_t index)
{
	uint64_t start = index * PUT_BLOCK_BYTES;

	if (start >= length)
		return 0;
	return length - start < PUT_BLOCK_BYTES ? (size_t) (length - start) : PUT_BLOCK_BYTES;
}
