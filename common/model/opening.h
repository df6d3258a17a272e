/*
 * opening - when a rollout may swap: its window and its blackouts, in the node's own time.
 *
 * "window" is the text of zone/window.h, "Mon-Fri 22:00-04:00; Sat,Sun 00:00-24:00".
 * "blackout" is a list whose elements are such texts, or {"from","until"} with RFC 3339
 * times in UTC, `until` being the first moment after it. A node reads texts in the zone of its label
 * `zone`, else in UTC. Pure: nothing here knows the time.
 */
#ifndef SELFRIGHT_MODEL_OPENING_H
#define SELFRIGHT_MODEL_OPENING_H

#include "base/attr.h"
#include "zone/window.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json;
struct zone;

enum { BLACKOUTS_MAX = 16 };

struct blackout {
	bool weekly; /* `windows`, else `from` and `until` */
	struct windows windows;
	int64_t from, until;
};

struct opening {
	bool has_window;
	struct windows window;
	struct blackout blackouts[BLACKOUTS_MAX];
	size_t blackout_count;
};

/*
 * Both may be NULL: then it is always open. -ERR_FIELD_TYPE, _FIELD_VALUE, _FIELD_MISSING,
 * _TOO_LARGE with a sentence in `error`; *ret is untouched then.
 */
NODISCARD int opening_parse(const struct json *window, const struct json *blackout, struct opening *ret,
			    char *error, size_t size);

/* Is there anything in it that only a zone can answer? */
bool opening_needs_zone(const struct opening *o);

struct opening_state {
	bool in_window, in_blackout;
	int64_t opens; /* the first moment from `now` on that neither stops; 0: none within the next weeks, or unknown */
};

/* `z` NULL: no zone is known, and what needs one is closed. */
struct opening_state opening_judge(const struct opening *o, const struct zone *z, int64_t now);

#endif
