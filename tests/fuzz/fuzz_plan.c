/* Plans from anybody: a plan that is read is written and read again as the same. */
#include "base/err.h"
#include "conf/conf.h"
#include "json/build.h"
#include "server-stub/rollout/plan.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_text(const struct plan *p, struct buf *out)
{
	struct json_build *b = json_build_new();

	plan_write(p, json_build_root(b));
	if (json_build_text(b, false, out) < 0)
		abort();
	json_build_free(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf first = BUF_INIT(64 * 1024 * 1024), second = BUF_INIT(64 * 1024 * 1024);
	struct conf_error e = { "" };
	struct plan p, q;
	int r = plan_parse(data, size, "plan", &p, &e);

	if (r == -ERR_CONFIG && !e.text[0])
		abort();
	if (r < 0)
		return 0;
	write_text(&p, &first);
	if (plan_parse(first.data, first.len, "again", &q, &e) < 0)
		abort();
	write_text(&q, &second);
	if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0)
		abort();
	plan_done(&p);
	plan_done(&q);
	buf_done(&first);
	buf_done(&second);
	return 0;
}
