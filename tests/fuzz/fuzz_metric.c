/* Any bytes as a selector (the first line) and as an application's metrics (the rest). */
#include "agent/probe/metric.h"
#include "agent/probe/probe.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds)
{
	if (!holds)
		abort();
}

static void over_time(const struct metric_sample *sample)
{
	static struct metric_window w;
	const struct release_metric m = { .min_samples = 2, .rate = true };
	struct metric_value v;

	w = (struct metric_window){ .count = 0 };
	for (uint64_t i = 0; i < 2 * METRIC_POINTS_MAX; i++)
		metric_window_add(&w, i * 1000, sample);
	expect(w.count > 0 && w.count <= METRIC_POINTS_MAX);
	v = metric_window_value(&w, &m);
	expect(v.enough);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *newline = memchr(data, '\n', size);
	size_t head = newline ? (size_t) (newline - data) : size;
	char text[SELECTOR_MAX_BYTES + 8];
	struct metric_sample sample, again;
	struct selector s, any;
	size_t line = 0;

	if (head >= sizeof(text))
		return 0;
	memcpy(text, data, head);
	text[head] = '\0';
	if (selector_parse(text, &s) < 0 || !newline)
		return 0;
	/* Its name alone selects at least as much. */
	expect(selector_parse(s.name, &any) == 0);
	if (metric_read((const char *) newline + 1, size - head - 1, &s, &any, &sample, &line) < 0) {
		expect(line > 0 || size > METRIC_TEXT_MAX);
		return 0;
	}
	expect(sample.of_series >= sample.select_series);
	expect(metric_read((const char *) newline + 1, size - head - 1, &s, NULL, &again, NULL) == 0);
	expect(again.select_series == sample.select_series && again.of_series == 0);
	over_time(&sample);
	return 0;
}
