#include "base/backoff.h"

uint64_t backoff_next_ms(struct backoff *b, uint64_t random)
{
	uint64_t limit = b->base_ms;

	for (unsigned i = 0; i < b->failures && limit < b->cap_ms; i++)
		limit *= 2;
	if (limit > b->cap_ms)
		limit = b->cap_ms;
	if (b->failures < 63)
		b->failures++;
	return limit == 0 ? 0 : random % (limit + 1);
}

void backoff_reset(struct backoff *b)
{
	b->failures = 0;
}
