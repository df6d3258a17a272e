/*
 * staffed - when somebody is on duty: the calendar of the people a rollout may ask, as they write it:
 *
 *   zone: Europe/Oslo
 *   hours: Mon-Fri 08:00-17:00; Sat 10:00-14:00     # zone/window.h
 *   holidays: [2026-12-25, 2027-01-01]              # nobody, all day, by that zone's clock
 *   teams:                                          # others; it is staffed while one of them is there
 *     - {name: singapore, zone: Asia/Singapore, hours: Mon-Fri 09:00-18:00}
 *
 * Complaints name file and line, and what was expected.
 */
#ifndef SELFRIGHT_ROLLOUT_STAFFED_H
#define SELFRIGHT_ROLLOUT_STAFFED_H

#include "base/attr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conf;
struct conf_error;
struct os;
struct staffed;

/* Zones come from /usr/share/zoneinfo. -ERR_CONFIG, -ENOMEM. */
NODISCARD int staffed_read(const struct os *os, const struct conf *root, struct staffed **ret,
			   struct conf_error *e);
NODISCARD int staffed_parse(const struct os *os, const void *text, size_t len, const char *file,
			    struct staffed **ret, struct conf_error *e);
void staffed_free(struct staffed *s);
DEFINE_FREEP(struct staffed *, staffed_free)

/*
 * The next span from `utc` on in which somebody is on duty: *ret_from is `utc` itself if somebody is now. -ENOENT:
 * none begins within 60 days.
 */
NODISCARD int staffed_next(const struct staffed *s, int64_t utc, int64_t *ret_from, int64_t *ret_until);

#endif
