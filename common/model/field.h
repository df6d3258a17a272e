/*
 * field - reading the members of a document from outside, one line per field.
 *
 * The first thing that is wrong sticks, with the field's name in words; all later
 * reads then do nothing, so a parser reads as a list and checks once at the end:
 *
 *   struct field_error error = { 0 };
 *   struct fields f = fields_of(doc, &error);
 *   field_format(&f, 1, known_names);
 *   out.id = field_text(&f, "id", &rule_id, true);
 *   for (size_t i = 0; i < fields_count(&f, "stages", 1, MAX); i++) {
 *           struct fields s = field_element(&f, "stages", i);
 *           ...
 *   }
 *   return field_error_take(&error, ret_error);
 */
#ifndef SELFRIGHT_MODEL_FIELD_H
#define SELFRIGHT_MODEL_FIELD_H

#include "base/attr.h"
#include "base/text.h"
#include "json/json.h"
#include "model/labels.h"
#include "model/release.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

enum { FIELD_WHERE_MAX = 192, FIELD_SECONDS_MAX = 366 * 24 * 3600 };

static inline void text_freep(char **text)
{
	free(*text);
}

struct field_error {
	int r; /* 0: nothing wrong so far */
	char *sentence; /* NULL if there was no memory for it */
};

struct fields {
	const struct json *object; /* NULL: the object is absent, every field of it too */
	struct field_error *error;
	char where[FIELD_WHERE_MAX]; /* "checks[2].httpGet." */
};

/* What a text must look like. */
struct text_rule {
	size_t max;
	bool (*guard)(const char *); /* NULL: any */
	const char *what; /* "an id": it must be ... */
};
extern const struct text_rule rule_id, rule_version, rule_range, rule_path, rule_line, rule_word, rule_text,
	rule_hex, rule_sha256;

/* Not an object: -ERR_FIELD_TYPE. */
struct fields fields_of(const struct json *document, struct field_error *error);
bool field_ok(const struct fields *f);

/* Record what is wrong with `name` (NULL: the object itself), unless something already was. */
void field_fail(struct fields *f, int r, const char *name, const char *fmt, ...) PRINTF_LIKE(4, 5);

/* 0, or what went wrong; the sentence goes to *ret_error (NULL: dropped). */
NODISCARD int field_error_take(struct field_error *error, char **ret_error);

/* `format` must be `format` and every name in `must[]` one of `known` (NULL-terminated), else -ERR_AGENT_TOO_OLD. */
void field_format(struct fields *f, uint64_t format, const char *const *known);
/* `_type` must be this. */
void field_type(struct fields *f, const char *type);

bool field_has(const struct fields *f, const char *name);

/* A copy the caller owns; NULL when it is missing (an error if `required`) or anything is wrong. */
char *field_text(struct fields *f, const char *name, const struct text_rule *rule, bool required);
/* The same, with a value for when it is missing. */
char *field_text_or(struct fields *f, const char *name, const struct text_rule *rule, const char *otherwise);
/* strdup that records -ENOMEM; NULL after any error. */
char *field_strdup(struct fields *f, const char *s);
/* As field_text, into the caller's array; "" when missing. */
void field_text_into(struct fields *f, const char *name, const struct text_rule *rule, bool required, char *out,
		     size_t size);
uint64_t field_u64(struct fields *f, const char *name, uint64_t min, uint64_t max, uint64_t otherwise);
uint64_t field_need_u64(struct fields *f, const char *name, uint64_t min, uint64_t max);
bool field_bool(struct fields *f, const char *name, bool otherwise);
/* RFC 3339; 0 when missing and not required. */
int64_t field_time(struct fields *f, const char *name, bool required);
void field_digest(struct fields *f, const char *name, uint8_t out[static SHA256_BYTES]);
/* One of the words, by its index; `otherwise` when missing, an error if that is negative. */
int field_choice(struct fields *f, const char *name, const char *const *words, size_t count, int otherwise);
void field_text_list(struct fields *f, const char *name, const struct text_rule *rule, size_t min, size_t max,
		     struct string_list *ret);
void field_labels(struct fields *f, const char *name, struct labels *ret);
/* A copy of the value as it is; NULL when missing. */
struct json *field_copy(struct fields *f, const char *name, enum json_type type);

struct fields field_object(struct fields *f, const char *name, bool required);
/* Elements of an array of objects; 0 when missing (an error if `min` is not 0) or anything is wrong. */
size_t fields_count(struct fields *f, const char *name, size_t min, size_t max);
struct fields field_element(struct fields *f, const char *name, size_t index);

/* calloc that records -ENOMEM; NULL for no elements as well. */
void *field_alloc(struct fields *f, size_t count, size_t size);

#endif
