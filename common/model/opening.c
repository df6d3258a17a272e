#include "model/opening.h"

#include "base/err.h"
#include "base/text.h"
#include "base/timestamp.h"
#include "json/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS_MAX = 128 };

static int fail(char *error, size_t size, int r, const char *fmt, ...) PRINTF_LIKE(4, 5);
static int fail(char *error, size_t size, int r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(error, size, fmt, ap); /* a longer sentence is cut */
	va_end(ap);
	return r;
}

static int parse_windows(const char *text, const char *where, struct windows *ret, char *error, size_t size)
{
	int r = windows_parse(text, ret);

	if (r == -ERR_TOO_LARGE)
		return fail(error, size, r, "%s: more than %d windows", where, WINDOWS_MAX);
	return r < 0 ? fail(error, size, -ERR_FIELD_VALUE, "%s: must be windows such as 'Mon-Fri 22:00-04:00'",
			    where)
		     : 0;
}

static int parse_moment(const struct json *o, const char *name, size_t at, int64_t *ret, char *error, size_t size)
{
	const struct json *member = json_get(o, name);

	if (!member)
		return fail(error, size, -ERR_FIELD_MISSING, "blackout[%zu]: %s is missing", at, name);
	if (!json_string(member))
		return fail(error, size, -ERR_FIELD_TYPE, "blackout[%zu].%s: must be a time", at, name);
	if (timestamp_parse(json_string(member), ret) < 0)
		return fail(error, size, -ERR_FIELD_VALUE, "blackout[%zu].%s: must be a time such as %s", at, name,
			    "2026-12-24T00:00:00Z");
	return 0;
}

static int parse_blackout(const struct json *j, size_t at, struct blackout *ret, char *error, size_t size)
{
	char where[32];
	int r;

	if (json_string(j)) {
		(void) snprintf(where, sizeof(where), "blackout[%zu]", at);
		ret->weekly = true;
		return parse_windows(json_string(j), where, &ret->windows, error, size);
	}
	if (!json_is(j, JSON_OBJECT))
		return fail(error, size, -ERR_FIELD_TYPE, "blackout[%zu]: must be a text or from and until", at);
	r = parse_moment(j, "from", at, &ret->from, error, size);
	if (r == 0)
		r = parse_moment(j, "until", at, &ret->until, error, size);
	if (r == 0 && ret->until <= ret->from)
		r = fail(error, size, -ERR_FIELD_VALUE, "blackout[%zu]: until must be after from", at);
	return r;
}

int opening_parse(const struct json *window, const struct json *blackout, struct opening *ret, char *error,
		  size_t size)
{
	struct opening o = { .has_window = window != NULL };
	int r = 0;

	if (window && !json_string(window))
		return fail(error, size, -ERR_FIELD_TYPE, "window: must be a text");
	if (window)
		r = parse_windows(json_string(window), "window", &o.window, error, size);
	if (r == 0 && blackout && !json_is(blackout, JSON_ARRAY))
		r = fail(error, size, -ERR_FIELD_TYPE, "blackout: must be an array");
	if (r == 0 && json_count(blackout) > BLACKOUTS_MAX)
		r = fail(error, size, -ERR_TOO_LARGE, "blackout: more than %d", BLACKOUTS_MAX);
	for (size_t i = 0; r == 0 && i < json_count(blackout); i++)
		r = parse_blackout(json_at(blackout, i), i, &o.blackouts[o.blackout_count++], error, size);
	if (r < 0)
		return r;
	*ret = o;
	return 0;
}

bool opening_needs_zone(const struct opening *o)
{
	bool needs = o->has_window;

	for (size_t i = 0; !needs && i < o->blackout_count; i++)
		needs = o->blackouts[i].weekly;
	return needs;
}

/* Is there a blackout at `at`? Its end in *ret_end, 0 if nobody knows. */
static bool is_blackout(const struct opening *o, const struct zone *z, int64_t at, int64_t *ret_end)
{
	for (size_t i = 0; i < o->blackout_count; i++) {
		const struct blackout *b = &o->blackouts[i];
		int64_t opens = 0;

		*ret_end = 0;
		if (!b->weekly && at >= b->from && at < b->until) {
			*ret_end = b->until;
			return true;
		}
		if (!b->weekly)
			continue;
		if (!z)
			return true;
		if (!windows_contain(&b->windows, z, at))
			continue;
		if (windows_next(&b->windows, z, at, &opens, ret_end) < 0)
			*ret_end = 0;
		return true;
	}
	return false;
}

/* From `at` on: over each blackout, into the next window, and round again. */
static int64_t next_opening(const struct opening *o, const struct zone *z, int64_t at)
{
	for (int i = 0; i < STEPS_MAX; i++) {
		int64_t next = 0;

		if (is_blackout(o, z, at, &next)) {
			if (next <= at)
				return 0;
		} else if (!o->has_window || (z && windows_contain(&o->window, z, at))) {
			return at;
		} else if (!z || windows_next(&o->window, z, at, &next, NULL) < 0 || next <= at) {
			return 0;
		}
		at = next;
	}
	return 0;
}

struct opening_state opening_judge(const struct opening *o, const struct zone *z, int64_t now)
{
	int64_t end = 0;

	return (struct opening_state){
		.in_window = !o->has_window || (z && windows_contain(&o->window, z, now)),
		.in_blackout = is_blackout(o, z, now, &end),
		.opens = next_opening(o, z, now),
	};
}
