#include "json/build.h"

#include "base/err.h"
#include "json/json.h"
#include "json/utf8.h"

#include <cjson/cJSON.h>

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 32 }; /* our own reader takes no more, and cJSON prints by recursion */

/*
 * An object or array under construction. cJSON finds members by walking the list,
 * so objects keep a hash table of theirs beside it: ten thousand members must
 * not cost a hundred million comparisons.
 */
struct json_node {
	struct json_build *build;
	struct json_node *next; /* in the builder's list, which owns it */
	cJSON *item;
	unsigned depth;
	cJSON **slots; /* open addressing; a power of two, at most half full */
	size_t slot_count, used;
};

struct json_build {
	int error; /* the first one sticks */
	struct json_node *root;
	struct json_node *nodes;
	cJSON *replaced; /* containers somebody may still hold a node of live here until the end */
};

static void fail(struct json_build *b, int r)
{
	if (b->error == 0)
		b->error = r;
}

static struct json_node *add_node(struct json_build *b, cJSON *item, unsigned depth)
{
	struct json_node *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	*n = (struct json_node){ .build = b, .item = item, .depth = depth, .next = b->nodes };
	b->nodes = n;
	return n;
}

struct json_build *json_build_new(void)
{
	CLEANUP(json_build_freep)
	struct json_build *b = calloc(1, sizeof(*b));
	struct json_build *done;
	cJSON *root;

	if (!b)
		return NULL;
	b->replaced = cJSON_CreateArray();
	root = cJSON_CreateObject();
	if (!b->replaced || !root) {
		cJSON_Delete(root);
		return NULL;
	}
	b->root = add_node(b, root, 1);
	if (!b->root) {
		cJSON_Delete(root);
		return NULL;
	}
	done = b;
	b = NULL;
	return done;
}

void json_build_free(struct json_build *b)
{
	struct json_node *next;

	if (!b)
		return;
	if (b->root)
		cJSON_Delete(b->root->item);
	cJSON_Delete(b->replaced);
	for (struct json_node *n = b->nodes; n; n = next) {
		next = n->next;
		free(n->slots);
		free(n);
	}
	free(b);
}

struct json_node *json_build_root(struct json_build *b)
{
	return b ? b->root : NULL;
}

/* FNV-1a: names come from our own documents, nobody gains by collisions. */
static size_t hash_name(const char *name)
{
	uint64_t h = 14695981039346656037u;

	for (const unsigned char *p = (const unsigned char *) name; *p; p++)
		h = (h ^ *p) * 1099511628211u;
	return (size_t) (h ^ h >> 32);
}

/* The slot that holds `name`, or the empty one where it goes. */
static cJSON **find_slot(struct json_node *n, const char *name)
{
	size_t i = hash_name(name) & (n->slot_count - 1);

	while (n->slots[i] && strcmp(n->slots[i]->string, name) != 0)
		i = (i + 1) & (n->slot_count - 1);
	return &n->slots[i];
}

static int grow_slots(struct json_node *n)
{
	cJSON **old = n->slots;
	size_t old_count = n->slot_count;
	cJSON **slots;

	if (2 * (n->used + 1) <= n->slot_count)
		return 0;
	slots = calloc(old_count ? old_count * 2 : 16, sizeof(cJSON *));
	if (!slots)
		return -ENOMEM;
	n->slots = slots;
	n->slot_count = old_count ? old_count * 2 : 16;
	for (size_t i = 0; i < old_count; i++)
		if (old[i])
			*find_slot(n, old[i]->string) = old[i];
	free(old);
	return 0;
}

/* Let go of a member whose name is to be written again. */
static void retire(struct json_node *parent, cJSON *item)
{
	(void) cJSON_DetachItemViaPointer(parent->item, item); /* answers `item`, which is a member */
	if (cJSON_IsObject(item) || cJSON_IsArray(item))
		(void) cJSON_AddItemToArray(parent->build->replaced, item); /* links it, allocates nothing */
	else
		cJSON_Delete(item);
}

static int add_member(struct json_node *parent, const char *name, cJSON *item)
{
	cJSON **slot, *before;
	int r;

	if (!utf8_is_valid(name, strlen(name)))
		return -ERR_ENCODING;
	r = grow_slots(parent);
	if (r < 0)
		return r;
	slot = find_slot(parent, name);
	before = *slot;
	if (!cJSON_AddItemToObject(parent->item, name, item))
		return -ENOMEM;
	*slot = item;
	if (before)
		retire(parent, before);
	else
		parent->used++;
	return 0;
}

/* Give `item` (NULL: it could not be made) to the parent; answers whether it is there now. */
static bool attach(struct json_node *parent, const char *name, cJSON *item)
{
	int r = 0;

	if (!item)
		r = -ENOMEM;
	else if (cJSON_IsObject(parent->item)) {
		assert(name);
		r = add_member(parent, name, item);
	} else {
		assert(!name);
		if (!cJSON_AddItemToArray(parent->item, item))
			r = -ENOMEM;
	}
	if (r == 0)
		return true;
	cJSON_Delete(item);
	fail(parent->build, r);
	return false;
}

static struct json_node *add_container(struct json_node *parent, const char *name, bool object)
{
	struct json_node *n;
	cJSON *item;

	if (!parent)
		return NULL;
	if (parent->depth == DEPTH_MAX) {
		fail(parent->build, -ERR_TOO_DEEP);
		return NULL;
	}
	item = object ? cJSON_CreateObject() : cJSON_CreateArray();
	if (!attach(parent, name, item))
		return NULL;
	n = add_node(parent->build, item, parent->depth + 1);
	if (!n)
		fail(parent->build, -ENOMEM);
	return n;
}

struct json_node *node_object(struct json_node *parent, const char *name)
{
	return add_container(parent, name, true);
}

struct json_node *node_array(struct json_node *parent, const char *name)
{
	return add_container(parent, name, false);
}

void node_string(struct json_node *parent, const char *name, const char *value)
{
	char *whole = NULL;
	size_t len;

	if (!parent)
		return;
	if (!value) {
		node_null(parent, name);
		return;
	}
	len = utf8_whole(value, strlen(value));
	if (!utf8_is_valid(value, len)) {
		fail(parent->build, -ERR_ENCODING);
		return;
	}
	if (value[len]) {
		whole = strndup(value, len);
		value = whole;
	}
	if (value)
		(void) attach(parent, name, cJSON_CreateString(value)); /* a failure sticks in the builder */
	else
		fail(parent->build, -ENOMEM);
	free(whole);
}

void node_stringf(struct json_node *parent, const char *name, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;
	int n;

	if (!parent)
		return;
	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0) {
		fail(parent->build, -ENOMEM);
		return;
	}
	node_string(parent, name, text);
	free(text);
}

void node_integer(struct json_node *parent, const char *name, int64_t value)
{
	static const int64_t max = ((int64_t) 1 << 53) - 1;
	char text[24];

	if (!parent)
		return;
	if (value > max || value < -max) {
		fail(parent->build, -ERR_NUMBER);
		return;
	}
	/* As raw text: cJSON keeps numbers as double and prints those from 1e15 with an exponent. */
	(void) snprintf(text, sizeof(text), "%lld", (long long) value);
	(void) attach(parent, name, cJSON_CreateRaw(text)); /* a failure sticks in the builder */
}

void node_bool(struct json_node *parent, const char *name, bool value)
{
	if (parent)
		(void) attach(parent, name, cJSON_CreateBool(value)); /* a failure sticks in the builder */
}

void node_null(struct json_node *parent, const char *name)
{
	if (parent)
		(void) attach(parent, name, cJSON_CreateNull()); /* a failure sticks in the builder */
}

/* Recursion ends: add_container() refuses to go deeper than DEPTH_MAX. */
void node_copy(struct json_node *parent, const char *name, const struct json *value)
{
	struct json_node *n;
	int64_t integer = 0;

	switch (json_type(value)) {
	case JSON_NULL:
		node_null(parent, name);
		return;
	case JSON_BOOL:
		node_bool(parent, name, json_bool(value, false));
		return;
	case JSON_INTEGER:
		(void) json_integer(value, &integer); /* it is one */
		node_integer(parent, name, integer);
		return;
	case JSON_STRING:
		node_string(parent, name, json_string(value));
		return;
	case JSON_ARRAY:
	case JSON_OBJECT:
		break;
	}
	n = add_container(parent, name, json_is(value, JSON_OBJECT));
	for (size_t i = 0; n && i < json_count(value); i++)
		node_copy(n, json_name_at(value, i), json_at(value, i));
}

int json_build_text(struct json_build *b, bool pretty, struct buf *out)
{
	char *text;
	int r;

	if (!b)
		return -ENOMEM;
	if (b->error < 0)
		return b->error;
	text = pretty ? cJSON_Print(b->root->item) : cJSON_PrintUnformatted(b->root->item);
	if (!text)
		return -ENOMEM;
	r = buf_add_str(out, text);
	cJSON_free(text);
	return r;
}

/*
 * By way of our own reader: what it would refuse is then found before it is
 * signed, and there is one canonical form, not two.
 */
int json_build_canonical(struct json_build *b, struct buf *out)
{
	static const struct json_limits limits = { SIZE_MAX, DEPTH_MAX, SIZE_MAX };
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(UINT32_MAX);
	CLEANUP(json_freep)
	struct json *j = NULL;
	int r;

	r = json_build_text(b, false, &text);
	if (r < 0)
		return r;
	r = json_parse(text.data, text.len, &limits, &j);
	if (r < 0)
		return r;
	return json_canonical(j, out);
}
