/*
 * Any bytes as a zone file, and any text as windows in it: the local time of a moment
 * leads back to that moment or to the first of its kind, and what opens next is open then.
 */
#include "zone/window.h"
#include "zone/zone.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds)
{
	if (!holds)
		abort();
}

static void check_moment(const struct zone *z, int64_t utc)
{
	struct zone_time t, first;
	struct zone_moment m;

	if (zone_local(z, utc, &t) < 0)
		return;
	expect(t.month >= 1 && t.month <= 12 && t.day >= 1 && t.day <= 31 && t.hour >= 0 && t.hour < 24);
	expect(t.weekday >= ZONE_MONDAY && t.weekday <= ZONE_SUNDAY && strlen(t.abbreviation) <= 512);
	if (zone_utc(z, &t, &m) < 0) /* the last hours of 9999 are in 10000 somewhere */
		return;
	expect(!m.skipped);
	expect(m.utc == utc || (m.utc < utc && m.repeated));
	if (zone_local(z, m.utc, &first) < 0)
		return;
	expect(first.day == t.day && first.hour == t.hour && first.minute == t.minute && first.second == t.second);
}

static void check_windows(const struct zone *z, const struct windows *w, int64_t utc)
{
	int64_t opens, closes;

	if (windows_next(w, z, utc, &opens, &closes) < 0) {
		expect(!windows_contain(w, z, utc));
		return;
	}
	expect(opens >= utc && closes > opens);
	expect(windows_contain(w, z, utc) == (opens == utc));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int64_t moments[] = { 0,	       1325239200,   1774746000,  1792886400,
					   4102444800, 253402300799, -62135596800 };
	CLEANUP(zone_freep)
	struct zone *z = NULL;
	struct windows w = { .count = 0 };
	size_t text_size;
	char text[256];

	/* Up to the first byte 0x1f: the windows; behind it: the file. */
	const uint8_t *split = size ? memchr(data, 0x1f, size < sizeof(text) ? size : sizeof(text)) : NULL;

	if (!split)
		return 0;
	text_size = (size_t) (split - data);
	memcpy(text, data, text_size);
	text[text_size] = '\0';
	if (windows_parse(text, &w) < 0)
		w.count = 0;
	if (zone_parse(split + 1, size - text_size - 1, &z) < 0)
		return 0;
	for (size_t i = 0; i < sizeof(moments) / sizeof(moments[0]); i++) {
		check_moment(z, moments[i]);
		check_windows(z, &w, moments[i]);
	}
	/* Moments out of the input, to come near its own transitions. */
	for (size_t i = text_size + 1; i + 8 <= size && i < text_size + 600; i += 4) {
		int64_t utc = 0;

		for (size_t k = 0; k < 8; k++)
			utc = (int64_t) ((uint64_t) utc << 8 | data[i + k]);
		check_moment(z, utc);
		check_moment(z, utc / 1000);
		check_moment(z, (int32_t) utc);
		check_windows(z, &w, (int32_t) utc);
	}
	return 0;
}
