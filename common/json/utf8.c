#include "json/utf8.h"

#include "base/attr.h"

#include <stdint.h>

static bool between(unsigned char c, unsigned low, unsigned high)
{
	return c >= low && c <= high;
}

/* Table 3-7 of the Unicode standard: only the second byte has bounds that depend on the first. */
size_t utf8_length(const char *s, size_t left)
{
	static const struct {
		uint8_t first_low, first_high, second_low, second_high, length;
	} rows[] = {
		{ 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
		{ 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 }, { 0xf0, 0xf0, 0x90, 0xbf, 4 },
		{ 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};
	const unsigned char *p = (const unsigned char *) s;

	if (left == 0)
		return 0;
	if (p[0] < 0x80)
		return 1;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (!between(p[0], rows[i].first_low, rows[i].first_high))
			continue;
		if (left < rows[i].length || !between(p[1], rows[i].second_low, rows[i].second_high))
			return 0;
		for (size_t k = 2; k < rows[i].length; k++)
			if (!between(p[k], 0x80, 0xbf))
				return 0;
		return rows[i].length;
	}
	return 0;
}

bool utf8_is_valid(const char *s, size_t len)
{
	for (size_t i = 0; i < len;) {
		size_t n = utf8_length(s + i, len - i);

		if (n == 0)
			return false;
		i += n;
	}
	return true;
}

size_t utf8_whole(const char *s, size_t len)
{
	size_t tail = 0, needs;
	unsigned char lead;

	while (tail < 3 && tail < len && between((unsigned char) s[len - 1 - tail], 0x80, 0xbf))
		tail++;
	if (tail == len)
		return len;
	lead = (unsigned char) s[len - 1 - tail];
	needs = between(lead, 0xc2, 0xdf) ? 1 : between(lead, 0xe0, 0xef) ? 2 : between(lead, 0xf0, 0xf4) ? 3 : 0;
	return tail < needs ? len - tail - 1 : len;
}
