/*
 * json - a strict reader for everything from outside, with a tree of its own.
 *
 * What cJSON lets pass is refused (TUF.md section 5): duplicate names at any
 * depth, numbers that are no integers within +-(2^53-1), "-0", fractions and
 * exponents, NUL and control bytes in strings or between tokens, invalid or
 * overlong UTF-8, lone surrogates, a BOM, text after the value, nesting over the
 * limit. One parse, one truth: the rest of the program sees only this tree.
 *
 * The tree is read-only and lives until json_free(); everything returned from it
 * is borrowed until then. All accessors accept NULL and answer "not there", so
 * look-ups chain: json_string(json_get(json_get(doc, "signed"), "_type")).
 */
#ifndef SELFRIGHT_JSON_JSON_H
#define SELFRIGHT_JSON_JSON_H

#include "base/attr.h"
#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json;

enum json_type { JSON_NULL, JSON_BOOL, JSON_INTEGER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json_limits {
	size_t max_bytes; /* of the text */
	unsigned max_depth; /* an object in an object is depth 2 */
	size_t max_values; /* scalars, arrays and objects together */
};

extern const struct json_limits json_limits_default; /* 8 MiB, depth 32, 1,000,000 values */

/* Parse exactly `len` bytes. -ERR_SYNTAX, _DUPLICATE_NAME, _NUMBER, _ENCODING, _TOO_LARGE, _TOO_DEEP, _TRAILING, -ENOMEM. */
NODISCARD int json_parse(const void *text, size_t len, const struct json_limits *limits, struct json **ret);
/*
 * The same for answers of other programs, which write numbers that our documents never hold: one with a fraction, an
 * exponent or beyond 2^53 is taken as a string with its text.
 */
NODISCARD int json_parse_foreign(const void *text, size_t len, const struct json_limits *limits,
				 struct json **ret);
void json_free(struct json *j);
DEFINE_FREEP(struct json *, json_free)

enum json_type json_type(const struct json *j); /* NULL answers JSON_NULL */
bool json_is(const struct json *j, enum json_type type); /* false for NULL pointers, whatever the type */

const struct json *json_get(const struct json *object, const char *name); /* NULL: not there, or no object */
size_t json_count(const struct json *container); /* members or elements; 0 for others */
const struct json *json_at(const struct json *container, size_t index);
const char *json_name_at(const struct json *object, size_t index); /* in the order of the text */

const char *json_string(const struct json *j); /* NULL if it is no string */
bool json_integer(const struct json *j, int64_t *ret); /* false if it is none */
bool json_bool(const struct json *j, bool otherwise); /* `otherwise` if it is none */

/*
 * Required members with their type: 0, -ERR_FIELD_MISSING, -ERR_FIELD_TYPE,
 * -ERR_FIELD_VALUE. `optional` variants answer 0 and leave *ret when it is missing.
 */
NODISCARD int json_need_string(const struct json *object, const char *name, const char **ret);
NODISCARD int json_need_u64(const struct json *object, const char *name, uint64_t min, uint64_t max,
			    uint64_t *ret);
NODISCARD int json_need(const struct json *object, const char *name, enum json_type type, const struct json **ret);
NODISCARD int json_optional_string(const struct json *object, const char *name, const char **ret);
NODISCARD int json_optional_u64(const struct json *object, const char *name, uint64_t min, uint64_t max,
				uint64_t *ret);
NODISCARD int json_optional_bool(const struct json *object, const char *name, bool *ret);

/*
 * OLPC canonical JSON of a value: no white space, members sorted bytewise by name,
 * only '"' and '\' escaped, everything else literal (also newlines in PEM keys).
 */
NODISCARD int json_canonical(const struct json *j, struct buf *out);

/*
 * The value as one line that every JSON reader takes. The canonical form is for
 * signatures only: with its raw control bytes it is not always JSON (RFC 8259, section 7).
 */
NODISCARD int json_text(const struct json *j, struct buf *out);

/* A deep copy that outlives its document. */
NODISCARD int json_copy(const struct json *j, struct json **ret);

#endif
