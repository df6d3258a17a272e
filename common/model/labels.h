/*
 * labels - what a node is: name=value pairs, and what a stage or freeze selects by them.
 */
#ifndef SELFRIGHT_MODEL_LABELS_H
#define SELFRIGHT_MODEL_LABELS_H

#include "base/attr.h"

#include <stdbool.h>
#include <stddef.h>

struct json;
struct json_node;

enum { LABEL_NAME_MAX = 63, LABEL_VALUE_MAX = 255, LABELS_MAX = 256 };

struct label {
	char *name, *value;
};

struct labels {
	struct label *items; /* sorted by name, unique */
	size_t count;
};

void labels_done(struct labels *l);
/*
 * Set or replace. Names [a-z0-9][a-z0-9-._/]{0,62}, values up to 255 bytes without
 * control bytes. -ERR_NAME, -ERR_TOO_LARGE (more than LABELS_MAX), -ENOMEM.
 */
NODISCARD int labels_set(struct labels *l, const char *name, const char *value);
const char *labels_get(const struct labels *l, const char *name); /* NULL: not there */
NODISCARD int labels_copy(const struct labels *from, struct labels *ret);
/* Lay `over` on `base` (inventory over the node's own). */
NODISCARD int labels_overlay(const struct labels *over, struct labels *base);
/* Does `have` hold every pair of `want`? An empty `want` matches everything. */
bool labels_match(const struct labels *want, const struct labels *have);

/* {"site":"oslo"}: -ERR_FIELD_TYPE, -ERR_FIELD_VALUE, -ENOMEM. */
NODISCARD int labels_parse(const struct json *object, struct labels *ret);
void labels_write(const struct labels *l, struct json_node *parent, const char *name);

#endif
