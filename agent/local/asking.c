#include "agent/local/asking.h"

enum { SPREAD_MS = 60 * 1000, MISSED_MS = 30 * 1000 };

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t asking_when_connected(uint64_t at, uint64_t now, uint64_t polled_ms, uint64_t often_ms, uint64_t random)
{
	if (polled_ms != 0 && now - polled_ms < often_ms)
		return at;
	return earlier(at, now + random % earlier(often_ms, SPREAD_MS));
}

uint64_t asking_when_missed(uint64_t at, uint64_t now, uint64_t polled_ms, uint64_t random)
{
	uint64_t from = polled_ms != 0 && now - polled_ms < MISSED_MS ? polled_ms + MISSED_MS : now;

	/* One draw for one flood: the least of many would bring a whole fleet at once. */
	return at < from + MISSED_MS ? at : from + random % MISSED_MS;
}

uint64_t asking_when_lost(uint64_t at, uint64_t now, uint64_t often_ms, uint64_t random)
{
	return earlier(at, now + often_ms - random % (often_ms / 10 + 1));
}
