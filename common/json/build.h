/*
 * build - documents we write, built with cJSON (whose only user this is).
 *
 * Errors stick: build without checking, and json_build_text() answers -ENOMEM (or
 * -ERR_ENCODING for text that is no UTF-8, -ERR_NUMBER beyond 2^53-1) if anything
 * on the way failed. A child belongs to its parent from the moment it is made.
 *
 *   CLEANUP(json_build_freep) struct json_build *b = json_build_new();
 *   struct json_node *o = json_build_root(b);
 *   node_string(o, "name", name);
 *   node_integer(node_object(o, "meta"), "version", 3);
 *   r = json_build_text(b, &out);
 *
 * All functions accept NULL nodes (after a failure) and NULL strings (written as null).
 */
#ifndef SELFRIGHT_JSON_BUILD_H
#define SELFRIGHT_JSON_BUILD_H

#include "base/attr.h"
#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct json;
struct json_build;
struct json_node;

struct json_build *json_build_new(void); /* NULL only when out of memory; everything below accepts that */
void json_build_free(struct json_build *b);
DEFINE_FREEP(struct json_build *, json_build_free)

struct json_node *json_build_root(struct json_build *b); /* an object */

/*
 * Into an object under `name`, or at the end of an array with name NULL. A name already there is replaced. Of a text that
 * was cut in the middle of its last character the beginning of that is left out: a sentence for people that did not
 * fit must not cost the whole document.
 */
struct json_node *node_object(struct json_node *parent, const char *name);
struct json_node *node_array(struct json_node *parent, const char *name);
void node_string(struct json_node *parent, const char *name, const char *value);
void node_stringf(struct json_node *parent, const char *name, const char *fmt, ...) PRINTF_LIKE(3, 4);
void node_integer(struct json_node *parent, const char *name, int64_t value);
void node_bool(struct json_node *parent, const char *name, bool value);
void node_null(struct json_node *parent, const char *name);
void node_copy(struct json_node *parent, const char *name, const struct json *value); /* a deep copy */

/* Plain JSON on one line, with `pretty` indented for people. */
NODISCARD int json_build_text(struct json_build *b, bool pretty, struct buf *out);

/* The OLPC canonical form, straight from what was built. */
NODISCARD int json_build_canonical(struct json_build *b, struct buf *out);

#endif
