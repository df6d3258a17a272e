#include "zone/calendar.h"

bool calendar_is_leap(int year)
{
	return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

int calendar_days_of_month(int year, int month)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

	return days[month - 1] + (month == 2 && calendar_is_leap(year));
}

/* Eras of 400 years whose years begin in March (Hinnant, "chrono-compatible low-level date algorithms"). */
int64_t calendar_days(int year, int month, int day)
{
	int64_t y = month <= 2 ? (int64_t) year - 1 : year;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t year_of_era = y - era * 400;
	int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
	int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

	return era * 146097 + day_of_era - 719468;
}

void calendar_date(int64_t days, int *ret_year, int *ret_month, int *ret_day)
{
	int64_t z = days + 719468;
	int64_t era = (z >= 0 ? z : z - 146096) / 146097;
	int64_t day_of_era = z - era * 146097;
	int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t shifted_month = (5 * day_of_year + 2) / 153;

	*ret_day = (int) (day_of_year - (153 * shifted_month + 2) / 5 + 1);
	*ret_month = (int) (shifted_month < 10 ? shifted_month + 3 : shifted_month - 9);
	*ret_year = (int) (year_of_era + era * 400 + (*ret_month <= 2));
}

/* 1970-01-01 was a Thursday. */
int calendar_weekday(int64_t days)
{
	return (int) (((days % 7) + 7 + 3) % 7);
}
