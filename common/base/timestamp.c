#include "base/timestamp.h"

#include "base/err.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Days since 1970-01-01 of a civil date; months counted from March so that the leap day comes last. */
static int64_t days_from_civil(int64_t year, int month, int day)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t era = y / 400, year_of_era = y - era * 400;
	int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static bool is_leap(int year)
{
	return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int two_digits(const char *s)
{
	return (s[0] - '0') * 10 + (s[1] - '0');
}

int timestamp_parse(const char *s, int64_t *ret_seconds)
{
	static const char form[] = "dddd-dd-ddTdd:dd:ddZ";
	static const int month_days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	int year, month, day, hour, minute, second;

	if (!s || strlen(s) != TIMESTAMP_LEN)
		return -ERR_SYNTAX;
	for (int i = 0; i < TIMESTAMP_LEN; i++)
		if (form[i] == 'd' ? s[i] < '0' || s[i] > '9' : s[i] != form[i])
			return -ERR_SYNTAX;
	year = two_digits(s) * 100 + two_digits(s + 2);
	month = two_digits(s + 5);
	day = two_digits(s + 8);
	hour = two_digits(s + 11);
	minute = two_digits(s + 14);
	second = two_digits(s + 17);
	if (year < 1970 || month < 1 || month > 12 || day < 1 ||
	    day > month_days[month - 1] + (month == 2 && is_leap(year)) || hour > 23 || minute > 59 || second > 59)
		return -ERR_SYNTAX;
	*ret_seconds = days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
	return 0;
}

void timestamp_format(char out[static TIMESTAMP_LEN + 1], int64_t seconds)
{
	const int64_t last = 253402300799; /* 9999-12-31T23:59:59Z */
	int64_t t = seconds < 0 ? 0 : seconds > last ? last : seconds;
	int64_t days = t / 86400, rest = t % 86400;
	int64_t z = days + 719468, era = z / 146097, day_of_era = z - era * 146097;
	int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t m = (5 * day_of_year + 2) / 153;
	unsigned day = (unsigned) (day_of_year - (153 * m + 2) / 5 + 1);
	unsigned month = (unsigned) (m < 10 ? m + 3 : m - 9);
	unsigned year = (unsigned) (year_of_era + era * 400 + (month <= 2));
	char text[64];

	(void) snprintf(text, sizeof(text), "%04u-%02u-%02uT%02u:%02u:%02uZ", year, month, day,
			(unsigned) (rest / 3600), (unsigned) (rest / 60 % 60), (unsigned) (rest % 60));
	memcpy(out, text, TIMESTAMP_LEN);
	out[TIMESTAMP_LEN] = '\0';
}
