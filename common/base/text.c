#include "base/text.h"

#include "base/err.h"

#include <string.h>

enum { NEAREST_MAX = 64 /* longer words are nothing a person mistyped */ };

void hex_encode(char *out, const uint8_t *data, size_t len)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		out[2 * i] = digits[data[i] >> 4];
		out[2 * i + 1] = digits[data[i] & 15];
	}
	out[2 * len] = '\0';
}

static int hex_digit(char c, bool any_case)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (any_case && c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int hex_decode(uint8_t *out, size_t len, const char *hex, bool any_case)
{
	if (strlen(hex) != 2 * len)
		return -ERR_SYNTAX;
	for (size_t i = 0; i < len; i++) {
		int high = hex_digit(hex[2 * i], any_case), low = hex_digit(hex[2 * i + 1], any_case);

		if (high < 0 || low < 0)
			return -ERR_SYNTAX;
		out[i] = (uint8_t) (high << 4 | low);
	}
	return 0;
}

int hex_decode_buf(struct buf *out, const char *hex)
{
	size_t len = strlen(hex);
	int r;

	if (len % 2 != 0)
		return -ERR_SYNTAX;
	r = buf_reserve(out, len / 2);
	if (r < 0)
		return r;
	for (size_t i = 0; i < len; i++)
		if (hex_digit(hex[i], true) < 0)
			return -ERR_SYNTAX;
	for (size_t i = 0; i < len; i += 2)
		out->data[out->len++] = (uint8_t) (hex_digit(hex[i], true) << 4 | hex_digit(hex[i + 1], true));
	out->data[out->len] = '\0';
	return 0;
}

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int base64_encode(struct buf *out, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i += 3) {
		uint32_t v = (uint32_t) data[i] << 16;
		char four[4];
		int r;

		if (i + 1 < len)
			v |= (uint32_t) data[i + 1] << 8;
		if (i + 2 < len)
			v |= data[i + 2];
		four[0] = base64_digits[v >> 18];
		four[1] = base64_digits[v >> 12 & 63];
		four[2] = i + 1 < len ? base64_digits[v >> 6 & 63] : '=';
		four[3] = i + 2 < len ? base64_digits[v & 63] : '=';
		r = buf_add(out, four, 4);
		if (r < 0)
			return r;
	}
	return 0;
}

int base64_decode(struct buf *out, const char *text, size_t len)
{
	size_t start = out->len;

	if (len % 4 != 0)
		return -ERR_SYNTAX;
	for (size_t i = 0; i < len; i += 4) {
		uint32_t v = 0;
		int pad = 0, r;
		uint8_t three[3];

		for (int k = 0; k < 4; k++) {
			char c = text[i + (size_t) k];
			const char *p = c ? strchr(base64_digits, c) : NULL;

			v <<= 6;
			if (c == '=' && k >= 2 && i + 4 == len)
				pad++;
			else if (p && pad == 0)
				v |= (uint32_t) (p - base64_digits);
			else
				goto bad;
		}
		three[0] = (uint8_t) (v >> 16);
		three[1] = (uint8_t) (v >> 8);
		three[2] = (uint8_t) v;
		r = buf_add(out, three, (size_t) (3 - pad));
		if (r < 0) {
			out->len = start;
			return r;
		}
	}
	return 0;
bad:
	out->len = start;
	return -ERR_SYNTAX;
}

bool guard_id(const char *s)
{
	size_t n = 0;

	if (!s)
		return false;
	for (; s[n]; n++)
		if (n >= ID_MAX ||
		    !((s[n] >= 'a' && s[n] <= 'z') || (s[n] >= '0' && s[n] <= '9') || (s[n] == '-' && n > 0)))
			return false;
	return n > 0;
}

static bool part_is_fine(const char *part, size_t len)
{
	return len > 0 && len <= 255 && !(len == 1 && part[0] == '.') &&
	       !(len == 2 && part[0] == '.' && part[1] == '.');
}

bool guard_path(const char *s)
{
	const char *part = s;
	size_t n = 0;

	if (!s)
		return false;
	for (;; n++) {
		unsigned char c = (unsigned char) s[n];

		if (n > 1024 || (c != '\0' && (c < 0x20 || c == 0x7f || c == '\\')))
			return false;
		if (c == '/' || c == '\0') {
			if (!part_is_fine(part, (size_t) (s + n - part)))
				return false;
			if (c == '\0')
				return true;
			part = s + n + 1;
		}
	}
}

/* U+202A to U+202E, U+2066 to U+2069: what follows is shown in another order. */
static bool turns_the_line(const unsigned char *p)
{
	return p[0] == 0xe2 &&
	       ((p[1] == 0x80 && p[2] >= 0xaa && p[2] <= 0xae) || (p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9));
}

/* How many bytes of the character at `p` a reader must not obey; 0: it is shown. */
static size_t untamed(const unsigned char *p, const char *kept)
{
	if (p[0] < 0x20 || p[0] == 0x7f)
		return strchr(kept, p[0]) ? 0 : 1;
	if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f)
		return 2;
	return turns_the_line(p) ? 3 : 0;
}

void text_tame(char *text, const char *kept)
{
	const unsigned char *p = (const unsigned char *) text;
	unsigned follow = 0; /* bytes of the character under way */

	while (*p) {
		size_t n = follow > 0 && (*p & 0xc0) == 0x80 ? 0 : untamed(p, kept);

		if (follow == 0 && (*p & 0xc0) == 0x80)
			n = 1;
		if (n > 0) {
			*text++ = '?';
			p += n;
			follow = 0;
			continue;
		}
		if ((*p & 0xc0) == 0x80)
			follow--;
		else
			follow = *p >= 0xf5 ? 0 : *p >= 0xf0 ? 3 : *p >= 0xe0 ? 2 : *p >= 0xc2 ? 1 : 0;
		*text++ = (char) *p++;
	}
	*text = '\0';
}

bool glob_match(const char *pattern, const char *text)
{
	const char *star = NULL, *mark = NULL;

	/* One star is remembered at a time; a later one takes over, so the work is at most length times length. */
	for (;;) {
		if (*pattern == '*') {
			star = ++pattern;
			mark = text;
		} else if (*text && (*pattern == *text || (*pattern == '?' && *text != '/'))) {
			pattern++;
			text++;
		} else if (!*text && !*pattern) {
			return true;
		} else if (star && *mark && *mark != '/') {
			text = ++mark;
			pattern = star;
		} else {
			return false;
		}
	}
}

bool str_eq(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

bool str_starts(const char *s, const char *prefix)
{
	return s && strncmp(s, prefix, strlen(prefix)) == 0;
}

int parse_u64(const char *s, uint64_t *ret)
{
	uint64_t v = 0;

	if (!s || !*s)
		return -ERR_NUMBER;
	for (; *s; s++) {
		unsigned digit;

		if (*s < '0' || *s > '9')
			return -ERR_NUMBER;
		digit = (unsigned) (*s - '0');
		if (v > (UINT64_MAX - digit) / 10)
			return -ERR_NUMBER;
		v = v * 10 + digit;
	}
	*ret = v;
	return 0;
}

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Insertions, deletions, replacements and swaps of neighbours that make `a` of `b`. */
static size_t distance(const char *a, const char *b)
{
	size_t rows[3][NEAREST_MAX + 1];
	size_t *before = rows[0], *last = rows[1], *now = rows[2];
	size_t a_len = strlen(a), b_len = strlen(b);

	if (a_len > NEAREST_MAX || b_len > NEAREST_MAX)
		return SIZE_MAX;
	for (size_t k = 0; k <= b_len; k++)
		last[k] = before[k] = k;
	for (size_t i = 1; i <= a_len; i++) {
		size_t *spare = before;

		now[0] = i;
		for (size_t k = 1; k <= b_len; k++) {
			now[k] = smaller(smaller(last[k], now[k - 1]) + 1, last[k - 1] + (a[i - 1] != b[k - 1]));
			if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1])
				now[k] = smaller(now[k], before[k - 2] + 1);
		}
		before = last;
		last = now;
		now = spare;
	}
	return last[b_len];
}

const char *text_nearest(const char *word, const char *const *names, size_t count)
{
	size_t best = 1 + strlen(word) / 4;
	const char *found = NULL;

	for (size_t i = 0; i < count; i++) {
		size_t d = distance(word, names[i]);

		if (d < best || (d == best && !found)) {
			best = d;
			found = names[i];
		}
	}
	return found;
}
