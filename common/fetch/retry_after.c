#include "fetch/retry_after.h"

#include "base/err.h"
#include "base/text.h"
#include "base/timestamp.h"

#include <stdio.h>
#include <string.h>

/* What a date's form says of each character; D is a digit, ' ' or a digit in front of it S, MMM the month. */
static const char fixed_form[] = "DD MMM DDDD DD:DD:DD GMT"; /* behind "Sun, " */
static const char old_form[] = "DD-MMM-DD DD:DD:DD GMT"; /* behind "Sunday, " */
static const char asctime_form[] = "MMM SD DD:DD:DD DDDD"; /* behind "Sun " */

static const char *const days[] = { "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday" };

static bool has_form(const char *text, const char *form)
{
	if (strlen(text) != strlen(form))
		return false;
	for (; *form; text++, form++) {
		bool digit = *text >= '0' && *text <= '9';

		if (*form == 'D' ? !digit : *form == 'S' ? !digit && *text != ' ' : *form != 'M' && *text != *form)
			return false;
	}
	return true;
}

static int number(const char *text, size_t len)
{
	int n = 0;

	for (size_t i = 0; i < len; i++)
		n = n * 10 + (text[i] == ' ' ? 0 : text[i] - '0');
	return n;
}

static int month(const char *text)
{
	static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

	for (int i = 0; i < 12; i++)
		if (memcmp(text, names + (ptrdiff_t) 3 * i, 3) == 0)
			return i + 1;
	return 0;
}

/* The calendar's rules are those of our own times. A leap second is the second before it. */
static int compose(int year, int mon, int day, const char *clock, int64_t *ret)
{
	char text[64];
	int second = number(clock + 6, 2);

	(void) snprintf(text, sizeof(text), "%04d-%02d-%02dT%.6s%02dZ", year, mon, day, clock,
			second == 60 ? 59 : second); /* always fits: what is out of range is refused below */
	return timestamp_parse(text, ret);
}

/* Behind the name of a day, whole or its first three letters; NULL: there is none. */
static const char *skip_day(const char *text, bool *ret_whole)
{
	for (size_t i = 0; i < ARRAY_LEN(days); i++) {
		size_t len = strlen(days[i]);

		*ret_whole = strncmp(text, days[i], len) == 0;
		if (*ret_whole || strncmp(text, days[i], 3) == 0)
			return text + (*ret_whole ? len : 3);
	}
	return NULL;
}

int http_date_parse(const char *text, int64_t *ret_seconds)
{
	bool whole = false;
	const char *t = skip_day(text, &whole);

	if (!t)
		return -ERR_SYNTAX;
	if (!whole && strncmp(t, ", ", 2) == 0 && has_form(t + 2, fixed_form))
		return compose(number(t + 9, 4), month(t + 5), number(t + 2, 2), t + 14, ret_seconds);
	if (whole && strncmp(t, ", ", 2) == 0 && has_form(t + 2, old_form)) {
		int year = number(t + 9, 2);

		/* A form of the nineties. Not held against our clock, which may be the one that is wrong. */
		return compose(year < 70 ? 2000 + year : 1900 + year, month(t + 5), number(t + 2, 2), t + 12,
			       ret_seconds);
	}
	if (!whole && *t == ' ' && has_form(t + 1, asctime_form))
		return compose(number(t + 17, 4), month(t + 1), number(t + 5, 2), t + 8, ret_seconds);
	return -ERR_SYNTAX;
}

static uint64_t bounded(uint64_t seconds)
{
	return seconds > RETRY_AFTER_MAX_S ? RETRY_AFTER_MAX_S : seconds;
}

uint64_t retry_after_seconds(const char *value, const char *date, int64_t now)
{
	int64_t at = 0, since = now;
	uint64_t seconds = 0;
	size_t digits = strspn(value, "0123456789");

	if (digits > 0 && !value[digits]) /* more than a number holds is as much as it may be */
		return bounded(parse_u64(value, &seconds) == 0 ? seconds : UINT64_MAX);
	if (http_date_parse(value, &at) < 0)
		return 0;
	if (date)
		(void) !http_date_parse(date, &since); /* none: our own clock must do */
	/* Unsigned: a clock may say anything. */
	return at > since ? bounded((uint64_t) at - (uint64_t) since) : 0;
}
