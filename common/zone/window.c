#include "zone/window.h"

#include "base/err.h"
#include "zone/calendar.h"
#include "zone/zone.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

enum {
	MINUTES_OF_DAY = 24 * 60,
	EVERY_DAY = 0x7f,
	SEARCH_DAYS = 60, /* a window in a skipped hour waits a week, one before a skipped day two */
	TEXT_MAX = 1024,
};

/* --- reading ------------------------------------------------------------------------------------------------ */

static void skip_blanks(const char **at)
{
	while (**at == ' ' || **at == '\t')
		(*at)++;
}

static bool take(const char **at, char c)
{
	skip_blanks(at);
	if (**at != c)
		return false;
	(*at)++;
	return true;
}

static int read_day(const char **at, int *ret)
{
	static const char *const names[] = { "mon", "tue", "wed", "thu", "fri", "sat", "sun" };

	skip_blanks(at);
	for (int i = 0; i < 7; i++) {
		if (strncasecmp(*at, names[i], 3) == 0) {
			*at += 3;
			*ret = i;
			return 0;
		}
	}
	return -ERR_SYNTAX;
}

/* "Mon-Fri,Sun" */
static int read_days(const char **at, uint8_t *ret)
{
	uint8_t days = 0;

	do {
		int first, last, r;

		r = read_day(at, &first);
		if (r < 0)
			return r;
		last = first;
		if (take(at, '-')) {
			r = read_day(at, &last);
			if (r < 0)
				return r;
		}
		for (int day = first;; day = (day + 1) % 7) {
			days = (uint8_t) (days | 1u << day);
			if (day == last)
				break;
		}
	} while (take(at, ','));
	*ret = days;
	return 0;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* "HH:MM" as minutes */
static int read_clock(const char **at, int *ret)
{
	const char *p;
	int hour, minute;

	skip_blanks(at);
	p = *at;
	if (!is_digit(p[0]) || !is_digit(p[1]) || p[2] != ':' || !is_digit(p[3]) || !is_digit(p[4]) ||
	    is_digit(p[5]))
		return -ERR_SYNTAX;
	hour = (p[0] - '0') * 10 + (p[1] - '0');
	minute = (p[3] - '0') * 10 + (p[4] - '0');
	if (minute > 59 || hour * 60 + minute > MINUTES_OF_DAY)
		return -ERR_SYNTAX;
	*at += 5;
	*ret = hour * 60 + minute;
	return 0;
}

static int read_window(const char **at, struct window *ret)
{
	uint8_t days = EVERY_DAY;
	int from, to, r;

	skip_blanks(at);
	if (!is_digit(**at)) {
		r = read_days(at, &days);
		if (r < 0)
			return r;
		if (**at != ' ' && **at != '\t' && !is_digit(**at))
			return -ERR_SYNTAX;
	}
	r = read_clock(at, &from);
	if (r < 0)
		return r;
	if (!take(at, '-'))
		return -ERR_SYNTAX;
	r = read_clock(at, &to);
	if (r < 0)
		return r;
	if (from == MINUTES_OF_DAY || from == to) /* empty, or a whole day? "00:00-24:00" says it */
		return -ERR_SYNTAX;
	if (to < from)
		to += MINUTES_OF_DAY;
	*ret = (struct window){ .days = days, .from = (int16_t) from, .to = (int16_t) to };
	return 0;
}

int windows_parse(const char *text, struct windows *ret)
{
	struct windows w = { .count = 0 };
	const char *at = text;

	if (strnlen(text, TEXT_MAX + 1) > TEXT_MAX)
		return -ERR_TOO_LARGE;
	do {
		int r;

		skip_blanks(&at);
		if (*at == '\0' && w.count > 0) /* a ';' at the end is fine */
			break;
		if (w.count == WINDOWS_MAX)
			return -ERR_TOO_LARGE;
		r = read_window(&at, &w.items[w.count]);
		if (r < 0)
			return r;
		w.count++;
	} while (take(&at, ';'));
	if (*at != '\0')
		return -ERR_SYNTAX;
	*ret = w;
	return 0;
}

/* --- asking ------------------------------------------------------------------------------------------------- */

/* A day is one on the wall, as calendar_days() counts them: a date, not a moment. */
static int moment_of(const struct zone *z, int64_t day, int minutes, int64_t *ret)
{
	struct zone_time t = { .hour = minutes / 60, .minute = minutes % 60 };
	struct zone_moment m;
	int r;

	calendar_date(day, &t.year, &t.month, &t.day);
	r = zone_utc(z, &t, &m);
	if (r < 0)
		return r;
	*ret = m.utc;
	return 0;
}

/* When the window that begins on that day opens and closes; false if it does not. */
static bool span_of(const struct window *w, const struct zone *z, int64_t day, int64_t *ret_opens,
		    int64_t *ret_closes)
{
	bool tomorrow = w->to > MINUTES_OF_DAY;

	if (!(w->days >> calendar_weekday(day) & 1))
		return false;
	if (moment_of(z, day, w->from, ret_opens) < 0 ||
	    moment_of(z, day + tomorrow, w->to - (tomorrow ? MINUTES_OF_DAY : 0), ret_closes) < 0)
		return false;
	return *ret_closes > *ret_opens;
}

int windows_next(const struct windows *w, const struct zone *z, int64_t utc, int64_t *ret_opens,
		 int64_t *ret_closes)
{
	int64_t best_opens = INT64_MAX, best_closes = 0;
	struct zone_time local;
	int64_t today;
	int r;

	r = zone_local(z, utc, &local);
	if (r < 0)
		return r;
	today = calendar_days(local.year, local.month, local.day);
	/* What began two days ago may still be open: a span crosses midnight, and a day can be there twice. */
	for (int i = -2; i <= SEARCH_DAYS; i++) {
		bool found = best_opens != INT64_MAX;

		for (size_t k = 0; k < w->count; k++) {
			int64_t opens, closes;

			if (!span_of(&w->items[k], z, today + i, &opens, &closes) || closes <= utc)
				continue;
			if (opens < utc)
				opens = utc;
			if (opens < best_opens || (opens == best_opens && closes > best_closes)) {
				best_opens = opens;
				best_closes = closes;
			}
		}
		if (found && i > 0) /* one day more was looked at: a jump can bring its spans forward */
			break;
	}
	if (best_opens == INT64_MAX)
		return -ENOENT;
	*ret_opens = best_opens;
	if (ret_closes)
		*ret_closes = best_closes;
	return 0;
}

bool windows_contain(const struct windows *w, const struct zone *z, int64_t utc)
{
	int64_t opens;

	return windows_next(w, z, utc, &opens, NULL) == 0 && opens == utc;
}
