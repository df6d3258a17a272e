/* Any bytes as a state: refused, or read, written again and read as the same. */
#include "agent/store/state.h"

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
	struct buf first = BUF_INIT(STATE_BYTES_MAX), second = BUF_INIT(STATE_BYTES_MAX);
	static struct node_state s, again;

	if (state_decode(data, size, &s) < 0)
		return 0;
	expect(state_encode(&s, &first) == 0);
	expect(state_decode(first.data, first.len, &again) == 0);
	expect(state_encode(&again, &second) == 0);
	expect(first.len == second.len && memcmp(first.data, second.data, first.len) == 0);
	expect(memcmp(&s.update, &again.update, sizeof(s.update)) == 0);
	state_done(&s);
	state_done(&again);
	return 0;
}
