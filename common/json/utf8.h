/*
 * utf8 - is this clean UTF-8 (RFC 3629)?
 */
#ifndef SELFRIGHT_JSON_UTF8_H
#define SELFRIGHT_JSON_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the well-formed character at `s` (`left` bytes are there), 0 if it is none: overlong, surrogate, cut. */
size_t utf8_length(const char *s, size_t left);

bool utf8_is_valid(const char *s, size_t len);

/* `len` without the beginning of a character at the end whose rest was cut off (by a buffer that was full). */
size_t utf8_whole(const char *s, size_t len);

#endif
