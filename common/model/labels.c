#include "model/labels.h"

#include "base/err.h"
#include "base/text.h"
#include "json/build.h"
#include "json/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void labels_done(struct labels *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->count; i++) {
		free(l->items[i].name);
		free(l->items[i].value);
	}
	free(l->items);
	*l = (struct labels){ 0 };
}

static bool name_is_fine(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-._/");

	return n > 0 && n <= LABEL_NAME_MAX && name[n] == '\0' && !strchr("-._/", name[0]);
}

static bool value_is_fine(const char *value)
{
	size_t n = 0;

	for (; value[n]; n++)
		if (n >= LABEL_VALUE_MAX || (unsigned char) value[n] < 0x20 || value[n] == 0x7f)
			return false;
	return true;
}

/* Where `name` is, or where it would have to be inserted. */
static size_t labels_find(const struct labels *l, const char *name, bool *ret_found)
{
	size_t low = 0, high = l->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int c = strcmp(l->items[middle].name, name);

		if (c == 0) {
			*ret_found = true;
			return middle;
		}
		if (c < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*ret_found = false;
	return low;
}

static int labels_insert(struct labels *l, size_t at, const char *name, char *value)
{
	struct label *items;
	char *copy;

	if (l->count >= LABELS_MAX)
		return -ERR_TOO_LARGE;
	copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	items = reallocarray(l->items, l->count + 1, sizeof(*items));
	if (!items) {
		free(copy);
		return -ENOMEM;
	}
	memmove(items + at + 1, items + at, (l->count - at) * sizeof(*items));
	items[at] = (struct label){ .name = copy, .value = value };
	l->items = items;
	l->count++;
	return 0;
}

int labels_set(struct labels *l, const char *name, const char *value)
{
	bool found;
	size_t at;
	char *copy;
	int r;

	if (!name || !value || !name_is_fine(name) || !value_is_fine(value))
		return -ERR_NAME;
	copy = strdup(value);
	if (!copy)
		return -ENOMEM;
	at = labels_find(l, name, &found);
	if (found) {
		free(l->items[at].value);
		l->items[at].value = copy;
		return 0;
	}
	r = labels_insert(l, at, name, copy);
	if (r < 0)
		free(copy);
	return r;
}

const char *labels_get(const struct labels *l, const char *name)
{
	bool found;
	size_t at;

	if (!l || !name)
		return NULL;
	at = labels_find(l, name, &found);
	return found ? l->items[at].value : NULL;
}

int labels_overlay(const struct labels *over, struct labels *base)
{
	for (size_t i = 0; i < over->count; i++) {
		int r = labels_set(base, over->items[i].name, over->items[i].value);

		if (r < 0)
			return r;
	}
	return 0;
}

int labels_copy(const struct labels *from, struct labels *ret)
{
	struct labels copy = { 0 };
	int r = labels_overlay(from, &copy);

	if (r < 0) {
		labels_done(&copy);
		return r;
	}
	*ret = copy;
	return 0;
}

bool labels_match(const struct labels *want, const struct labels *have)
{
	for (size_t i = 0; i < want->count; i++) {
		const char *value = labels_get(have, want->items[i].name);

		if (!value || strcmp(value, want->items[i].value) != 0)
			return false;
	}
	return true;
}

int labels_parse(const struct json *object, struct labels *ret)
{
	struct labels l = { 0 };

	if (!json_is(object, JSON_OBJECT))
		return -ERR_FIELD_TYPE;
	for (size_t i = 0; i < json_count(object); i++) {
		const char *value = json_string(json_at(object, i));
		int r = value ? labels_set(&l, json_name_at(object, i), value) : -ERR_FIELD_TYPE;

		if (r < 0) {
			labels_done(&l);
			return r == -ERR_NAME || r == -ERR_TOO_LARGE ? -ERR_FIELD_VALUE : r;
		}
	}
	*ret = l;
	return 0;
}

void labels_write(const struct labels *l, struct json_node *parent, const char *name)
{
	struct json_node *o = node_object(parent, name);

	for (size_t i = 0; i < l->count; i++)
		node_string(o, l->items[i].name, l->items[i].value);
}
