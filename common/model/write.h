/*
 * write - the few shapes our documents are made of.
 */
#ifndef SELFRIGHT_MODEL_WRITE_H
#define SELFRIGHT_MODEL_WRITE_H

#include "base/text.h"
#include "model/release.h"

#include <stddef.h>
#include <stdint.h>

struct json_node;

void write_text(struct json_node *o, const char *name, const char *value); /* NULL: left out */
void write_u64(struct json_node *o, const char *name, uint64_t value);
void write_time(struct json_node *o, const char *name, int64_t seconds);
void write_digest(struct json_node *o, const char *name, const uint8_t digest[static SHA256_BYTES]);
void write_list(struct json_node *o, const char *name, const struct string_list *l);

#endif
