#include "agent/phase/held.h"

#include "agent/local/config.h"
#include "base/text.h"

/* SIZE_MAX: none of ours, or one too many. */
static size_t place_of(const struct config *c, const char *url)
{
	size_t place = SIZE_MAX;

	for (size_t i = 0; i < c->mirrors.count; i++)
		if (str_eq(c->mirrors.items[i], url))
			place = place == SIZE_MAX ? i : place;
	for (size_t i = 0; i < c->urls.count; i++)
		if (str_eq(c->urls.items[i], url))
			place = place == SIZE_MAX ? c->mirrors.count + i : place;
	return place < HELD_ADDRESSES_MAX ? place : SIZE_MAX;
}

void held_note(struct held *h, const struct config *config, const char *url, uint64_t seconds, uint64_t now_ms)
{
	size_t place = place_of(config, url);

	if (place == SIZE_MAX)
		return;
	h->items[place].told_ms = now_ms;
	h->items[place].for_ms = (seconds < HELD_MAX_S ? seconds : HELD_MAX_S) * 1000;
}

uint64_t held_ms(const struct held *h, const struct config *config, const char *url, uint64_t max_s,
		 uint64_t now_ms)
{
	size_t place = place_of(config, url);
	uint64_t end;

	if (place == SIZE_MAX)
		return 0;
	end = h->items[place].told_ms +
	      (h->items[place].for_ms < max_s * 1000 ? h->items[place].for_ms : max_s * 1000);
	return end > now_ms ? end - now_ms : 0;
}

uint64_t held_all_ms(const struct held *h, const struct config *config, uint64_t max_s, uint64_t now_ms)
{
	const struct string_list *lists[] = { &config->mirrors, &config->urls };
	uint64_t least = UINT64_MAX;

	for (size_t l = 0; l < ARRAY_LEN(lists); l++)
		for (size_t i = 0; i < lists[l]->count; i++) {
			uint64_t held = held_ms(h, config, lists[l]->items[i], max_s, now_ms);

			least = held < least ? held : least;
		}
	return least == UINT64_MAX ? 0 : least;
}
