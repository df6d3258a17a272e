/*
 * window - weekly windows of local time, "Mon-Fri 22:00-04:00".
 *
 * Pure: text, a zone and a moment in, an answer out. Entries are separated by ';'. An
 * entry is days and a span: days are Mon Tue Wed Thu Fri Sat Sun, ranges of them
 * (Fri-Mon goes over the weekend) and lists with ','; left out, it is every day. The
 * span is HH:MM-HH:MM; the second time may be 24:00, and if it is not after the first
 * one it belongs to the next day. The days are those on which a span begins.
 *
 * Where the clock jumps, a window opens at the first moment at which the clock reads
 * its first time or later, and closes at the first moment at which it reads its second
 * time or later. So at a repeated hour it opens once, at the first reading, and closes
 * once, at the first reading: "22:00-02:30" is not longer on that night than it says.
 * A span whose second time is past the hour is an hour longer. A skipped time is the
 * moment of the jump: "02:30-04:00" opens at 03:00, and a span that lies in the skipped
 * hour as a whole does not open on that day.
 */
#ifndef SELFRIGHT_ZONE_WINDOW_H
#define SELFRIGHT_ZONE_WINDOW_H

#include "base/attr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct zone;

enum { WINDOWS_MAX = 16 };

struct window {
	uint8_t days; /* bit ZONE_MONDAY ... ZONE_SUNDAY: it begins on these */
	int16_t from, to; /* minutes after midnight; to above 24 * 60: on the next day */
};

struct windows {
	size_t count;
	struct window items[WINDOWS_MAX];
};

/* -ERR_SYNTAX; -ERR_TOO_LARGE with more than WINDOWS_MAX entries. */
NODISCARD int windows_parse(const char *text, struct windows *ret);

/* Is one of the windows open at `utc`? */
bool windows_contain(const struct windows *w, const struct zone *z, int64_t utc);

/*
 * The first moment from `utc` on at which one is open (`utc` itself, if one is), and in
 * *ret_closes, unless NULL, when that one closes (the last one, if several are open
 * then). -ENOENT if none opens within the next 60 days or there is none.
 */
NODISCARD int windows_next(const struct windows *w, const struct zone *z, int64_t utc, int64_t *ret_opens,
			   int64_t *ret_closes);

#endif
