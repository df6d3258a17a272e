#include "server-stub/rollout/staffed.h"

#include "base/err.h"
#include "base/timestamp.h"
#include "conf/conf.h"
#include "zone/calendar.h"
#include "zone/window.h"
#include "zone/zone.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEAMS_MAX = 32, HOLIDAYS_MAX = 1000, DAY_S = 86400 };

struct team {
	struct zone *zone;
	struct windows hours;
	int64_t *holidays; /* days since 1970, of the zone's own calendar */
	size_t holiday_count;
};

struct staffed {
	struct team teams[TEAMS_MAX];
	size_t count;
};

void staffed_free(struct staffed *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->count; i++) {
		zone_free(s->teams[i].zone);
		free(s->teams[i].holidays);
	}
	free(s);
}

static int read_holidays(const struct conf *map, struct team *t, struct conf_error *e)
{
	const struct conf *list = conf_get(map, "holidays");

	if (!list)
		return 0;
	if (conf_kind(list) != CONF_LIST || conf_count(list) > HOLIDAYS_MAX)
		return conf_fail(list, e, "expected a list of at most %d days, e.g. holidays: [2026-12-25]",
				 HOLIDAYS_MAX);
	t->holidays = calloc(conf_count(list) + 1, sizeof(*t->holidays));
	if (!t->holidays)
		return -ENOMEM;
	for (size_t i = 0; i < conf_count(list); i++) {
		const char *text = conf_text(conf_at(list, i));
		char stamp[TIMESTAMP_LEN + 1];
		int64_t at = 0;

		/* The clock's own reader knows which days there are. */
		if (text && strlen(text) == 10)
			snprintf(stamp, sizeof(stamp), "%sT00:00:00Z", text);
		if (!text || strlen(text) != 10 || timestamp_parse(stamp, &at) < 0)
			return conf_fail(conf_at(list, i), e, "expected a day like 2026-12-25, found '%s'",
					 text ? text : "");
		t->holidays[t->holiday_count++] = at / DAY_S;
	}
	return 0;
}

static int read_team(const struct os *os, const struct conf *map, struct staffed *s, struct conf_error *e)
{
	struct team *t = &s->teams[s->count++];
	const char *zone, *hours;
	int r = conf_need_text(map, "zone", &zone, e);

	if (r == 0)
		r = conf_need_text(map, "hours", &hours, e);
	if (r < 0)
		return r;
	r = zone_load(os, zone, &t->zone);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		return conf_fail(conf_get(map, "zone"), e,
				 "expected a time zone's name like Europe/Oslo, found '%s'%s", zone,
				 r == -ENOPKG ? " (there is no zone database here: install tzdata)" : "");
	if (windows_parse(hours, &t->hours) < 0 || t->hours.count == 0)
		return conf_fail(conf_get(map, "hours"), e,
				 "expected hours like Mon-Fri 08:00-17:00 (several with ';'), found '%s'", hours);
	return read_holidays(map, t, e);
}

static int read_teams(const struct os *os, const struct conf *root, struct staffed *s, struct conf_error *e)
{
	const struct conf *list = conf_get(root, "teams");
	int r = 0;

	if (!list)
		return 0;
	if (conf_kind(list) != CONF_LIST || conf_count(list) == 0 || conf_count(list) > TEAMS_MAX - 1)
		return conf_fail(list, e, "expected a list of 1 to %d teams", TEAMS_MAX - 1);
	for (size_t i = 0; r == 0 && i < conf_count(list); i++) {
		const char *name = NULL;

		if (conf_kind(conf_at(list, i)) != CONF_MAP)
			return conf_fail(conf_at(list, i), e,
					 "expected a team, e.g. {zone: Asia/Tokyo, hours: Mon-Fri 09:00-18:00}");
		r = conf_optional_text(conf_at(list, i), "name", "", &name, e); /* for those who read the file */
		if (r == 0)
			r = read_team(os, conf_at(list, i), s, e);
		if (r == 0)
			r = conf_reject_unknown(conf_at(list, i), e);
	}
	return r;
}

int staffed_read(const struct os *os, const struct conf *root, struct staffed **ret, struct conf_error *e)
{
	CLEANUP(staffed_freep)
	struct staffed *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	if (conf_kind(root) != CONF_MAP)
		return conf_fail(root, e, "expected a calendar with zone and hours");
	/* A calendar of teams alone needs no hours of its own. */
	r = conf_get(root, "hours") || conf_get(root, "zone") || !conf_get(root, "teams")
		    ? read_team(os, root, s, e)
		    : 0;
	if (r == 0)
		r = read_teams(os, root, s, e);
	if (r == 0)
		r = conf_reject_unknown(root, e);
	if (r < 0)
		return r;
	*ret = s;
	s = NULL;
	return 0;
}

int staffed_parse(const struct os *os, const void *text, size_t len, const char *file, struct staffed **ret,
		  struct conf_error *e)
{
	CLEANUP(conf_file_freep)
	struct conf_file *f = NULL;
	int r = conf_parse(text, len, file, &f, e);

	return r < 0 ? r : staffed_read(os, conf_root(f), ret, e);
}

/* When a day begins there. A day whose midnight is skipped begins at the jump. */
static int day_begins(const struct zone *z, int64_t day, int64_t *ret)
{
	struct zone_time local = { 0 };
	struct zone_moment moment;
	int r;

	calendar_date(day, &local.year, &local.month, &local.day);
	r = zone_utc(z, &local, &moment);
	if (r == 0)
		*ret = moment.utc;
	return r;
}

static int local_day(const struct zone *z, int64_t utc, int64_t *ret)
{
	struct zone_time local;
	int r = zone_local(z, utc, &local);

	if (r == 0)
		*ret = calendar_days(local.year, local.month, local.day);
	return r;
}

static bool is_holiday(const struct team *t, int64_t day)
{
	for (size_t i = 0; i < t->holiday_count; i++)
		if (t->holidays[i] == day)
			return true;
	return false;
}

/* The span without the holidays it runs into. */
static int cut_at_holidays(const struct team *t, int64_t day, int64_t *until)
{
	int64_t begins = 0;
	int r = 0;

	for (int64_t next = day + 1; r == 0 && begins < *until; next++) {
		r = day_begins(t->zone, next, &begins);
		if (r == 0 && begins < *until && is_holiday(t, next))
			*until = begins;
	}
	return r;
}

static int team_next(const struct team *t, int64_t utc, int64_t *ret_from, int64_t *ret_until)
{
	int64_t at = utc;

	for (size_t tries = 0; tries <= t->holiday_count; tries++) {
		int64_t from, until, day;
		int r = windows_next(&t->hours, t->zone, at, &from, &until);

		if (r == 0)
			r = local_day(t->zone, from, &day);
		if (r < 0)
			return r;
		while (r == 0 && is_holiday(t, day))
			r = day_begins(t->zone, ++day, &at);
		if (r < 0)
			return r;
		if (at > from)
			continue; /* it was a holiday */
		r = cut_at_holidays(t, day, &until);
		if (r < 0)
			return r;
		*ret_from = from;
		*ret_until = until;
		return 0;
	}
	return -ENOENT;
}

int staffed_next(const struct staffed *s, int64_t utc, int64_t *ret_from, int64_t *ret_until)
{
	bool found = false;

	for (size_t i = 0; i < s->count; i++) {
		int64_t from, until;

		if (team_next(&s->teams[i], utc, &from, &until) < 0)
			continue; /* not within reach */
		if (!found || from < *ret_from || (from == *ret_from && until > *ret_until)) {
			*ret_from = from;
			*ret_until = until;
		}
		found = true;
	}
	return found ? 0 : -ENOENT;
}
