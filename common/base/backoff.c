#include "base/backoff.h"

uint64_t backoff_next_ms(struct backoff *b, uint64_t random)
{
	uint64_t limit = b->base_ms;

	for (unsigned i = 0; i < b->failures && limit < b->cap_ms; i++)
		limit = limit > b->cap_ms / 2 ? b->cap_ms : limit * 2;
	if (limit > b->cap_ms)
		limit = b->cap_ms;
	if (b->failures < 64)
		b->failures++;
	return limit == UINT64_MAX ? random : random % (limit + 1);
}

void backoff_reset(struct backoff *b)
{
	b->failures = 0;
}
