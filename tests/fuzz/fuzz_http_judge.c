/* Any bytes as a server's answer, as they come in. */
#include "agent/probe/probe.h"
#include "agent/probe/run.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds)
{
	if (!holds)
		abort();
}

static void judge(const uint8_t *data, size_t size, const char *expect_body)
{
	CLEANUP(buf_done)
	struct buf answer = BUF_INIT(1 << 20), detail = BUF_INIT(PROBE_DETAIL_MAX), body = BUF_INIT(1 << 20);
	const struct http_expect expected = { .body = expect_body, .whole = !expect_body };

	/* In two pieces: a half answer may be enough, and the whole one must end. */
	if (buf_add(&answer, data, size / 2) < 0)
		return;
	(void) http_judge(&answer, false, &expected, &detail);
	if (buf_add(&answer, data + size / 2, size - size / 2) < 0)
		return;
	expect(http_judge(&answer, true, &expected, &detail) != RUN_UNDER_WAY);
	expect(detail.len > 0);
	if (http_body(&answer, &body) == 0)
		expect(body.len <= size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	judge(data, size, NULL);
	judge(data, size, "ok");
	return 0;
}
