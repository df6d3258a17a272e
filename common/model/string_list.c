#include "model/release.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void string_list_done(struct string_list *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->count; i++)
		free(l->items[i]);
	free(l->items);
	*l = (struct string_list){ 0 };
}

int string_list_add(struct string_list *l, const char *s)
{
	char *copy = strdup(s);
	char **items;

	if (!copy)
		return -ENOMEM;
	items = reallocarray(l->items, l->count + 1, sizeof(*items));
	if (!items) {
		free(copy);
		return -ENOMEM;
	}
	items[l->count++] = copy;
	l->items = items;
	return 0;
}

bool string_list_has(const struct string_list *l, const char *s)
{
	for (size_t i = 0; i < l->count; i++)
		if (strcmp(l->items[i], s) == 0)
			return true;
	return false;
}
