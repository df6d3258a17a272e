#include "base/version.h"

#include <string.h>

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* A number without leading zeros at *s; moves *s behind it. */
static bool take_number(const char **s)
{
	const char *p = *s;

	while (is_digit(*p))
		p++;
	if (p == *s || (**s == '0' && p != *s + 1))
		return false;
	*s = p;
	return true;
}

static bool pre_is_valid(const char *s)
{
	for (;;) {
		const char *start = s;
		bool digits = true;

		for (; *s && *s != '.'; s++) {
			if (!is_digit(*s))
				digits = false;
			if (!is_digit(*s) && !(*s >= 'a' && *s <= 'z') && !(*s >= 'A' && *s <= 'Z') && *s != '-')
				return false;
		}
		if (s == start || (digits && *start == '0' && s != start + 1))
			return false;
		if (!*s)
			return true;
		s++;
	}
}

bool version_is_valid(const char *s)
{
	const char *tilde;

	if (!s || strlen(s) > VERSION_MAX)
		return false;
	tilde = strchr(s, '~');
	if (tilde && (!take_number(&s) || s++ != tilde))
		return false;
	for (int i = 0; i < 3; i++)
		if ((i > 0 && *s++ != '.') || !take_number(&s))
			return false;
	return *s == '\0' || (*s == '-' && pre_is_valid(s + 1));
}

/* Two runs of digits without leading zeros: the longer is larger. */
static int compare_digits(const char *a, size_t a_len, const char *b, size_t b_len)
{
	if (a_len != b_len)
		return a_len < b_len ? -1 : 1;
	return memcmp(a, b, a_len);
}

static size_t digits_len(const char *s)
{
	size_t n = 0;

	while (is_digit(s[n]))
		n++;
	return n;
}

static int compare_numbers(const char **a, const char **b)
{
	size_t a_len = digits_len(*a), b_len = digits_len(*b);
	int c = compare_digits(*a, a_len, *b, b_len);

	*a += a_len;
	*b += b_len;
	return c;
}

static int compare_part(const char *a, size_t a_len, const char *b, size_t b_len)
{
	bool a_number = digits_len(a) >= a_len, b_number = digits_len(b) >= b_len;
	int c;

	if (a_number && b_number)
		return compare_digits(a, a_len, b, b_len);
	if (a_number != b_number)
		return a_number ? -1 : 1; /* semver 11.4.3: numeric identifiers are lower */
	c = memcmp(a, b, a_len < b_len ? a_len : b_len);
	if (c != 0)
		return c;
	return a_len == b_len ? 0 : a_len < b_len ? -1 : 1;
}

static int compare_pre(const char *a, const char *b)
{
	while (*a && *b) {
		size_t a_len = strcspn(a, "."), b_len = strcspn(b, ".");
		int c = compare_part(a, a_len, b, b_len);

		if (c != 0)
			return c;
		a += a_len + (a[a_len] == '.');
		b += b_len + (b[b_len] == '.');
	}
	return (*a != '\0') - (*b != '\0');
}

int version_compare(const char *a, const char *b)
{
	const char *a_tilde = strchr(a, '~'), *b_tilde = strchr(b, '~');
	const char *a_epoch = a_tilde ? a : "0", *b_epoch = b_tilde ? b : "0";
	int c = compare_numbers(&a_epoch, &b_epoch);

	if (c != 0)
		return c;
	a = a_tilde ? a_tilde + 1 : a;
	b = b_tilde ? b_tilde + 1 : b;
	for (int i = 0; i < 3; i++) {
		c = compare_numbers(&a, &b);
		if (c != 0)
			return c;
		a += *a == '.';
		b += *b == '.';
	}
	if (*a == '-' && *b == '-')
		return compare_pre(a + 1, b + 1);
	return (*b == '-') - (*a == '-'); /* a pre-release is lower than the release */
}

/* The next comparison of a range: *op and the version's text; moves *range. False at a malformed one. */
static bool take_comparison(const char **range, char op[3], char version[VERSION_MAX + 1])
{
	const char *p = *range;
	size_t n = strspn(p, "<>=");

	if (n > 2)
		return false;
	memcpy(op, p, n);
	op[n] = '\0';
	p += n;
	n = strcspn(p, " ");
	if (n == 0 || n > VERSION_MAX)
		return false;
	memcpy(version, p, n);
	version[n] = '\0';
	*range = p + n + strspn(p + n, " ");
	return version_is_valid(version) &&
	       (op[0] == '\0' || strcmp(op, "=") == 0 || strcmp(op, "<") == 0 || strcmp(op, ">") == 0 ||
		strcmp(op, "<=") == 0 || strcmp(op, ">=") == 0);
}

bool version_range_is_valid(const char *range)
{
	char op[3], bound[VERSION_MAX + 1];

	if (!range || !*range)
		return false;
	if (strcmp(range, "*") == 0)
		return true;
	while (*range)
		if (!take_comparison(&range, op, bound))
			return false;
	return true;
}

bool version_in_range(const char *version, const char *range)
{
	char op[3], bound[VERSION_MAX + 1];

	if (!version_range_is_valid(range) || !version_is_valid(version))
		return false;
	if (strcmp(range, "*") == 0)
		return true;
	while (*range && take_comparison(&range, op, bound)) {
		int c = version_compare(version, bound);
		bool holds = (op[0] == '<' && c < 0) || (op[0] == '>' && c > 0) ||
			     (c == 0 && (op[0] == '\0' || op[0] == '=' || op[1] == '='));

		if (!holds)
			return false;
	}
	return true;
}
