/*
 * calendar - Gregorian dates as days since 1970; no zones, no seconds.
 */
#ifndef SELFRIGHT_ZONE_CALENDAR_H
#define SELFRIGHT_ZONE_CALENDAR_H

#include <stdbool.h>
#include <stdint.h>

bool calendar_is_leap(int year);
int calendar_days_of_month(int year, int month);

int64_t calendar_days(int year, int month, int day);
void calendar_date(int64_t days, int *ret_year, int *ret_month, int *ret_day);

/* Monday is 0. */
int calendar_weekday(int64_t days);

#endif
