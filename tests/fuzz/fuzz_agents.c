/* Any bytes as what is known of the agents: refused, or read, written again and read as the same text. */
#include "agent/store/agents.h"

#include <stdint.h>
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
	struct buf first = BUF_INIT(2 * AGENTS_FILE_MAX), second = BUF_INIT(2 * AGENTS_FILE_MAX);
	static struct agents a, again;

	if (agents_parse(data, size, &a) < 0)
		return 0;
	expect(agents_write(&a, &first) == 0);
	expect(first.len <= AGENTS_FILE_MAX);
	expect(agents_parse(first.data, first.len, &again) == 0);
	expect(agents_write(&again, &second) == 0);
	expect(first.len == second.len && memcmp(first.data, second.data, first.len) == 0);
	return 0;
}
