/*
 * version - [N~]MAJOR.MINOR.PATCH[-pre] in semver's order (semver.org 2.0.0,
 * section 11), an epoch N before it, no build metadata (DESIGN.md section 12).
 */
#ifndef SELFRIGHT_BASE_VERSION_H
#define SELFRIGHT_BASE_VERSION_H

#include <stdbool.h>

enum { VERSION_MAX = 64 };

/* Is `s` a version, at most VERSION_MAX bytes? */
bool version_is_valid(const char *s);

/* <0, 0, >0 for two valid versions; numeric parts of any length compare as numbers. */
int version_compare(const char *a, const char *b);

/*
 * Is `version` within `range`: comparisons joined by blanks, all of which must
 * hold, e.g. ">=1.2.0 <2.0.0", "=1.4.0", "*"? An invalid range holds nothing.
 */
bool version_in_range(const char *version, const char *range);
bool version_range_is_valid(const char *range);

#endif
