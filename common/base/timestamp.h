/*
 * timestamp - RFC 3339 in UTC with seconds, "2026-11-21T09:30:00Z", and nothing else.
 */
#ifndef SELFRIGHT_BASE_TIMESTAMP_H
#define SELFRIGHT_BASE_TIMESTAMP_H

#include "base/attr.h"

#include <stdint.h>

enum { TIMESTAMP_LEN = 20 };

/* Seconds since 1970 of exactly YYYY-MM-DDTHH:MM:SSZ with real calendar values, years 1970-9999. -ERR_SYNTAX. */
NODISCARD int timestamp_parse(const char *s, int64_t *ret_seconds);

/* Out-of-range seconds are clamped to 1970 or 9999. */
void timestamp_format(char out[static TIMESTAMP_LEN + 1], int64_t seconds);

#endif
