#include "model/report.h"

#include <string.h>

/*
 * How many bytes the well-formed UTF-8 character at `s` has (Unicode table 3-7); 0: it is none, or one of the control
 * characters U+0080 to U+009F, which terminals obey.
 */
static size_t utf8_len(const unsigned char *s, size_t len)
{
	static const struct {
		unsigned char first_min, first_max, second_min, second_max;
		size_t len;
	} rows[] = {
		{ 0xc2, 0xc2, 0xa0, 0xbf, 2 }, { 0xc3, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 },
		{ 0xe1, 0xec, 0x80, 0xbf, 3 }, { 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 },
		{ 0xf0, 0xf0, 0x90, 0xbf, 4 }, { 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (s[0] < rows[i].first_min || s[0] > rows[i].first_max)
			continue;
		if (len < rows[i].len || s[1] < rows[i].second_min || s[1] > rows[i].second_max)
			return 0;
		for (size_t k = 2; k < rows[i].len; k++)
			if ((s[k] & 0xc0) != 0x80)
				return 0;
		return rows[i].len;
	}
	return 0;
}

int printable_tail(const char *text, size_t len, size_t max, struct buf *out)
{
	const unsigned char *s = (const unsigned char *) text;
	size_t start = out->len, i = len > max ? len - max : 0;
	int r = 0;

	/* What is cut in the middle of a character begins with the next. */
	for (int k = 0; k < 3 && i > 0 && i < len && (s[i] & 0xc0) == 0x80; k++)
		i++;
	while (i < len && r == 0) {
		size_t n = utf8_len(s + i, len - i);

		if (n > 0)
			r = buf_add(out, s + i, n);
		else if (s[i] == '\n' || s[i] == '\t' || (s[i] >= 0x20 && s[i] < 0x7f))
			r = buf_add_byte(out, s[i]);
		else
			r = buf_add_byte(out, '?');
		i += n > 0 ? n : 1;
	}
	if (r < 0 && out->data) {
		out->len = start;
		out->data[start] = '\0';
	}
	return r;
}
