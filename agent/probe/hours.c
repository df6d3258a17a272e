#include "agent/probe/hours.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static int64_t newest(const struct hours_series *s)
{
	return s->count > 0 ? s->hours[s->count - 1].hour : 0;
}

static bool is_series(const struct hours_series *s, const char *component, const char *version, const char *name)
{
	return strcmp(s->component, component) == 0 && strcmp(s->version, version) == 0 &&
	       strcmp(s->name, name) == 0;
}

static struct hours_series *series_of(struct hours *h, const char *component, const char *version,
				      const char *name, int64_t hour)
{
	struct hours_series *s = NULL;

	for (size_t i = 0; i < h->count; i++)
		if (is_series(&h->series[i], component, version, name))
			return &h->series[i];
	if (h->count < REPORT_METRICS_MAX) {
		s = &h->series[h->count++];
	} else {
		for (size_t i = 0; i < h->count; i++)
			if (newest(&h->series[i]) < hour && (!s || newest(&h->series[i]) < newest(s)))
				s = &h->series[i];
		if (!s)
			return NULL;
	}
	*s = (struct hours_series){ .count = 0 };
	(void) snprintf(s->component, sizeof(s->component), "%s", component);
	(void) snprintf(s->version, sizeof(s->version), "%s", version);
	(void) snprintf(s->name, sizeof(s->name), "%s", name);
	return s;
}

void hours_add(struct hours *h, const char *component, const char *version, const char *name, int64_t hour,
	       double value, double samples)
{
	struct hours_series *s;
	size_t i;

	if (!isfinite(value) || !(samples > 0) || hour <= 0 || strlen(component) > ID_MAX ||
	    strlen(name) > ID_MAX || strlen(version) >= HOURS_VERSION_SIZE)
		return;
	s = series_of(h, component, version, name, hour);
	if (!s)
		return;
	for (i = s->count; i > 0 && s->hours[i - 1].hour > hour; i--)
		;
	if (i == 0 || s->hours[i - 1].hour != hour) {
		/* A clock that was set back may come between. */
		if (s->count == REPORT_METRIC_HOURS_MAX) {
			if (i == 0)
				return;
			memmove(&s->hours[0], &s->hours[1], (--s->count) * sizeof(s->hours[0]));
			i--;
		}
		memmove(&s->hours[i + 1], &s->hours[i], (s->count - i) * sizeof(s->hours[0]));
		s->count++;
		s->hours[i].hour = hour;
		s->hours[i].sum = s->hours[i].samples = 0;
		i++;
	}
	s->hours[i - 1].sum += value * samples;
	s->hours[i - 1].samples += samples;
}
