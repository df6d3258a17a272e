/* Any bytes as an application's word about itself. */
#include "agent/probe/probe.h"
#include "agent/probe/status.h"
#include "model/report.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds)
{
	if (!holds)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(1 << 20), message = BUF_INIT(512), detail = BUF_INIT(PROBE_DETAIL_MAX),
		   clean = BUF_INIT(1024);
	enum status_word word = STATUS_WORD_COUNT;
	enum run_end end;
	int r;

	/* As the judge gets it: with a terminator behind. */
	if (buf_add(&text, data, size) < 0)
		return 0;
	r = status_read(buf_str(&text), size, &word, &message);
	expect(r < 0 ? word == STATUS_WORD_COUNT : word < STATUS_WORD_COUNT);
	/* What people and reports read is clean. */
	expect(printable_tail(buf_str(&message), message.len, 1024, &clean) == 0 && clean.len == message.len &&
	       strcmp(buf_str(&clean), buf_str(&message)) == 0);
	end = status_judge(buf_str(&text), size, false, &detail);
	expect(detail.len > 0 && end != RUN_UNDER_WAY && (r >= 0 || end == RUN_FAILED));
	return 0;
}
