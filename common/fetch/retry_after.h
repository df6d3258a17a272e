/*
 * retry_after - how long an answer asks to be left alone (RFC 9110, 10.2.3), and HTTP's dates.
 *
 * Whoever answers 429 or 503 says it: a server, or a proxy that is broken or worse. It is heard, and within bounds:
 * nobody makes a node deaf by it.
 */
#ifndef SELFRIGHT_FETCH_RETRY_AFTER_H
#define SELFRIGHT_FETCH_RETRY_AFTER_H

#include "base/attr.h"

#include <stdint.h>

enum { RETRY_AFTER_MAX_S = 3600 };

/*
 * Seconds, 1 to RETRY_AFTER_MAX_S; 0: `value` asks for nothing, for a moment that is over, or is none of the two forms. A date
 * is held against `date`, the same answer's Date, for our own clock may be wrong; where that is none, against `now`.
 */
uint64_t retry_after_seconds(const char *value, const char *date, int64_t now);

/* Seconds since 1970 of one of the three forms of RFC 9110, 5.6.7. -ERR_SYNTAX. */
NODISCARD int http_date_parse(const char *text, int64_t *ret_seconds);

#endif
