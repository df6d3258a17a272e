/*
 * zone - local time of a named place, from the system's zone database (TZif, RFC 8536).
 *
 * Pure once loaded: no environment, no process-wide zone, unlike localtime(3). All
 * versions (1 to 4) with their footer are read; files that count leap seconds
 * ("right/...") are refused, for our seconds do not. Dates are Gregorian, years 1 to 9999.
 */
#ifndef SELFRIGHT_ZONE_ZONE_H
#define SELFRIGHT_ZONE_ZONE_H

#include "base/attr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct os;
struct zone;

/*
 * Load a zone by its name ("Europe/Oslo") from /usr/share/zoneinfo; links within are
 * followed. "UTC" needs no database. -ERR_NAME: not the form of a zone's name;
 * -ENOENT: no such zone; -ENOPKG: no zone database here; else as zone_parse().
 */
NODISCARD int zone_load(const struct os *os, const char *name, struct zone **ret);
/* The same from a folder of the caller's. */
NODISCARD int zone_load_from(const struct os *os, const char *folder, const char *name, struct zone **ret);

/* The bytes of a TZif file. -ERR_SYNTAX, -ERR_TOO_LARGE, -ERR_FIELD_VALUE (leap seconds), -ENOMEM. */
NODISCARD int zone_parse(const void *data, size_t len, struct zone **ret);
void zone_free(struct zone *z);
DEFINE_FREEP(struct zone *, zone_free)

/*
 * Which edition of the database is installed ("2025b"), and the earliest moment at which it
 * can have been published: governments change their clocks at short notice, and a node
 * whose tables are old opens its windows at the wrong hour. Editions compare as texts.
 * -ENOENT: there is no database here, or it does not say; -ERR_SYNTAX.
 */
enum { ZONE_EDITION_SIZE = 16 };
NODISCARD int zone_edition(const struct os *os, char ret_name[static ZONE_EDITION_SIZE], int64_t *ret_published);
/* The same from a folder of the caller's. */
NODISCARD int zone_edition_from(const struct os *os, const char *folder, char ret_name[static ZONE_EDITION_SIZE],
				int64_t *ret_published);
/* Four digits of a year and a letter, and then perhaps one more: "2025b". */
bool zone_is_edition(const char *name);

enum { ZONE_MONDAY, ZONE_TUESDAY, ZONE_WEDNESDAY, ZONE_THURSDAY, ZONE_FRIDAY, ZONE_SATURDAY, ZONE_SUNDAY };

struct zone_time {
	int year, month, day; /* month and day from 1 */
	int hour, minute, second;
	int weekday; /* ZONE_MONDAY is 0 */
	int offset; /* seconds east of UTC */
	bool is_dst;
	const char *abbreviation; /* "CEST"; borrowed from the zone */
};

/* What the clock there reads at `utc`. -ERR_FIELD_VALUE beyond the years 1 to 9999. */
NODISCARD int zone_local(const struct zone *z, int64_t utc, struct zone_time *ret);

struct zone_moment {
	int64_t utc;
	bool skipped; /* the clock jumps over that reading: utc is the moment of the jump */
	bool repeated; /* it reads that more than once: utc is the first time */
};

/*
 * The first moment at which the clock there reads the date and time in `local` (the
 * other fields are not looked at) or, if it never does, something later. 24:00:00 is
 * the end of a day. -ERR_FIELD_VALUE if there is no such date or time of day.
 */
NODISCARD int zone_utc(const struct zone *z, const struct zone_time *local, struct zone_moment *ret);

#endif
