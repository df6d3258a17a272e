/* Answers of Prometheus and Alertmanager from anybody: no crash, numbers that are numbers, data that is JSON. */
#include "base/err.h"
#include "json/json.h"
#include "server-stub/rollout/outside.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int r, const struct gate_look *l, const struct buf *kept)
{
	struct json *j = NULL;

	if (!isfinite(l->low) || !isfinite(l->high) || !l->text || strlen(l->text) >= GATE_TEXT)
		abort();
	if (r < 0 && r != -ENOMEM && l->said != GATE_INCONCLUSIVE)
		abort();
	if (r == 0 && kept->len > 0 && json_parse(kept->data, kept->len, &json_limits_default, &j) < 0)
		abort();
	json_free(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf kept = BUF_INIT(1024 * 1024);
	struct labels labels = { 0 };
	struct gate_look look;
	char text[GATE_TEXT];
	const uint8_t *half = size ? memchr(data, '\n', size) : NULL;
	size_t first = half ? (size_t) (half - data) : size;

	for (int take = GATE_AVERAGE; take <= GATE_LOWEST; take++) {
		check(outside_read_range(data, size, (enum gate_take) take, &look, text, &kept), &look, &kept);
		buf_clear(&kept);
	}
	check(outside_read_alerts(data, first, half ? half + 1 : data, half ? size - first - 1 : 0, 1000, 5000, 60,
				  900, &look, text, &kept),
	      &look, &kept);
	if (look.since < 0)
		abort();
	buf_clear(&kept);
	check(outside_read_alertmanager(data, size, &labels, 2000000000, 1000, 1795849200, &look, text, &kept),
	      &look, &kept);
	buf_done(&kept);
	return 0;
}
