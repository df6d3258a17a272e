/*
 * selector - which series of a metric: Prometheus' own words, as a release writes them.
 *
 *   http_requests_total{code=~"5..",method!="GET"}
 *
 * Operators are = != =~ !~; a missing label is "". What =~ takes is a part of its
 * regular expressions that always ends soon: alternatives separated by |, in which
 * '.' is any byte, ".*" and ".+" any run of bytes, and a backslash takes the next byte
 * as itself. It must match the whole value. Brackets, braces, ^, $, ? and other stars
 * are refused rather than misread.
 */
#ifndef SELFRIGHT_MODEL_SELECTOR_H
#define SELFRIGHT_MODEL_SELECTOR_H

#include "base/attr.h"

#include <stdbool.h>
#include <stddef.h>

enum { SELECTOR_MAX_BYTES = 1024, SELECTOR_LABELS_MAX = 16, SELECTOR_NAME_MAX = 200 };

enum selector_operator { SELECTOR_IS, SELECTOR_IS_NOT, SELECTOR_MATCHES, SELECTOR_MATCHES_NOT };

struct selector {
	char text[SELECTOR_MAX_BYTES + 1]; /* names and values, each terminated */
	const char *name; /* of the metric */
	struct {
		const char *label, *value;
		enum selector_operator operator;
	} labels[SELECTOR_LABELS_MAX];
	size_t count;
};

/* -ERR_SYNTAX, -ERR_TOO_LARGE. The result points into itself: it must not be copied. */
NODISCARD int selector_parse(const char *text, struct selector *ret);

/* Do all conditions hold? `value_of` gives the value of a label, NULL if there is none. */
bool selector_matches(const struct selector *s, const char *name,
		      const char *(*value_of)(const void *user, const char *label), const void *user);

/* For tests: does the whole text match, as =~ does? */
bool selector_pattern_matches(const char *pattern, const char *text);

#endif
