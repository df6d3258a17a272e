/*
 * text - hex, base64, and the guards every name from outside passes.
 */
#ifndef SELFRIGHT_BASE_TEXT_H
#define SELFRIGHT_BASE_TEXT_H

#include "base/attr.h"
#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHA256_BYTES = 32, SHA256_HEX = 64, ID_MAX = 63 };

/* Lower-case hex with NUL; `out` holds 2 * len + 1 bytes. */
void hex_encode(char *out, const uint8_t *data, size_t len);

/* Exactly `len` bytes from exactly 2 * len digits and a NUL; upper case only if `any_case`. -ERR_SYNTAX. */
NODISCARD int hex_decode(uint8_t *out, size_t len, const char *hex, bool any_case);

/* Any even length of hex digits, both cases, appended to `out`. */
NODISCARD int hex_decode_buf(struct buf *out, const char *hex);

NODISCARD int base64_encode(struct buf *out, const uint8_t *data, size_t len);
NODISCARD int base64_decode(struct buf *out, const char *text, size_t len);

/* [a-z0-9][a-z0-9-]{0,62}: nodes, components, rollouts, stages, orders (DESIGN.md section 12). */
bool guard_id(const char *s);

/*
 * A relative path that stays inside: no leading '/', no empty, "." or ".."
 * parts, no backslash, no control bytes, at most 1024 bytes, parts at most 255.
 */
bool guard_path(const char *s);

/* Does `text` match `pattern`, where '*' and '?' never match '/' (TUF section 4.5)? No classes, no escapes. */
bool glob_match(const char *pattern, const char *text);

bool str_eq(const char *a, const char *b); /* NULL equals only NULL */
bool str_starts(const char *s, const char *prefix);

/*
 * The one of `names` that was meant by `word`: it becomes it by a typo or two, depending on its length. NULL: none is
 * close enough. Borrowed from `names`.
 */
const char *text_nearest(const char *word, const char *const *names, size_t count);

/*
 * What a terminal, or a reader of logs, would obey instead of showing becomes '?', in place: control bytes but those in
 * `kept`, the control characters that UTF-8 writes with two bytes (U+009B begins an escape sequence too), stray bytes,
 * and the marks that turn the direction of a line. Whatever comes from outside goes through here before a person reads it.
 */
void text_tame(char *text, const char *kept);

/* strtoull for a plain decimal without sign, blanks or trailing text. -ERR_NUMBER. */
NODISCARD int parse_u64(const char *s, uint64_t *ret);

#endif
