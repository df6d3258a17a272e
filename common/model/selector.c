#include "model/selector.h"

#include "base/err.h"

#include <string.h>

/* Where the text is read and the copy written; the copy is never longer. */
struct cursor {
	const char *in;
	char *out;
};

static void skip_blanks(struct cursor *c)
{
	c->in += strspn(c->in, " \t");
}

static bool is_name_start(char b)
{
	return (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || b == '_';
}

/* [a-zA-Z_][a-zA-Z0-9_]*, in names of metrics also ':'. */
static const char *take_name(struct cursor *c, bool colons)
{
	const char *name = c->out;

	if (!is_name_start(*c->in) && !(colons && *c->in == ':'))
		return NULL;
	while (is_name_start(*c->in) || (*c->in >= '0' && *c->in <= '9') || (colons && *c->in == ':'))
		*c->out++ = *c->in++;
	*c->out++ = '\0';
	return name;
}

static const char *take_value(struct cursor *c)
{
	const char *value = c->out;

	if (*c->in != '"')
		return NULL;
	for (c->in++; *c->in != '"'; c->in++) {
		if (*c->in == '\\') {
			c->in++;
			/* Only what a quoted text needs; a pattern's own backslash is written twice, as Prometheus wants it. */
			if (*c->in != '\\' && *c->in != '"' && *c->in != 'n')
				return NULL;
			*c->out++ = *c->in == 'n' ? '\n' : *c->in;
			continue;
		}
		if (*c->in == '\0')
			return NULL;
		*c->out++ = *c->in;
	}
	c->in++;
	*c->out++ = '\0';
	return value;
}

static int take_operator(struct cursor *c, enum selector_operator *ret)
{
	static const char *const words[] = { [SELECTOR_MATCHES] = "=~",
					     [SELECTOR_MATCHES_NOT] = "!~",
					     [SELECTOR_IS_NOT] = "!=",
					     [SELECTOR_IS] = "=" };
	static const enum selector_operator longest_first[] = { SELECTOR_MATCHES, SELECTOR_MATCHES_NOT,
								SELECTOR_IS_NOT, SELECTOR_IS };

	for (size_t i = 0; i < ARRAY_LEN(longest_first); i++) {
		const char *word = words[longest_first[i]];

		if (strncmp(c->in, word, strlen(word)) != 0)
			continue;
		c->in += strlen(word);
		*ret = longest_first[i];
		return 0;
	}
	return -ERR_SYNTAX;
}

/* Nothing that a regular expression would read otherwise than we do. */
static bool pattern_is_fine(const char *p)
{
	for (; *p; p++) {
		if (*p == '\\') {
			if (*++p == '\0')
				return false;
			continue;
		}
		if (*p == '.' && (p[1] == '*' || p[1] == '+')) {
			p++;
			continue;
		}
		if (strchr("*+?^$()[]{}", *p))
			return false;
	}
	return true;
}

static int take_condition(struct cursor *c, struct selector *s)
{
	int r;

	if (s->count == SELECTOR_LABELS_MAX)
		return -ERR_TOO_LARGE;
	skip_blanks(c);
	s->labels[s->count].label = take_name(c, false);
	if (!s->labels[s->count].label)
		return -ERR_SYNTAX;
	skip_blanks(c);
	r = take_operator(c, &s->labels[s->count].operator);
	if (r < 0)
		return r;
	skip_blanks(c);
	s->labels[s->count].value = take_value(c);
	if (!s->labels[s->count].value)
		return -ERR_SYNTAX;
	if (s->labels[s->count].operator>= SELECTOR_MATCHES && !pattern_is_fine(s->labels[s->count].value))
		return -ERR_SYNTAX;
	s->count++;
	skip_blanks(c);
	return 0;
}

int selector_parse(const char *text, struct selector *ret)
{
	struct cursor c = { .in = text, .out = ret->text };
	int r;

	*ret = (struct selector){ .count = 0 };
	/* Each name and value loses more bytes than its terminator takes, but for a name alone. */
	if (strlen(text) >= SELECTOR_MAX_BYTES)
		return -ERR_TOO_LARGE;
	skip_blanks(&c);
	ret->name = take_name(&c, true);
	if (!ret->name || strlen(ret->name) > SELECTOR_NAME_MAX)
		return -ERR_SYNTAX;
	/* The byte behind a name is read after the terminator is written: they are different arrays. */
	skip_blanks(&c);
	if (*c.in == '{') {
		c.in++;
		skip_blanks(&c);
		while (*c.in != '}') {
			r = take_condition(&c, ret);
			if (r < 0)
				return r;
			if (*c.in == ',')
				c.in++;
			else if (*c.in != '}')
				return -ERR_SYNTAX;
			skip_blanks(&c);
		}
		c.in++;
	}
	skip_blanks(&c);
	return *c.in == '\0' ? 0 : -ERR_SYNTAX;
}

/* --- matching --- */

/*
 * One alternative, from `p` up to `end`. As glob matching: only the last run has to be
 * tried again, so it costs at most the product of the two lengths.
 */
static bool alternative_matches(const char *p, const char *end, const char *text)
{
	const char *run = NULL, *from = NULL;

	for (;;) {
		if (p < end && *p == '.' && p + 1 < end && (p[1] == '*' || p[1] == '+')) {
			if (p[1] == '+' && *text == '\0')
				goto again;
			from = text + (p[1] == '+');
			text = from;
			p += 2;
			run = p;
			continue;
		}
		if (p == end && *text == '\0')
			return true;
		if (p < end && *text != '\0') {
			bool any = *p == '.';
			const char *b = *p == '\\' && p + 1 < end ? p + 1 : p;

			if (any || *b == *text) {
				p = b + 1;
				text++;
				continue;
			}
		}
	again:
		if (!run || *from == '\0')
			return false;
		text = ++from;
		p = run;
	}
}

bool selector_pattern_matches(const char *pattern, const char *text)
{
	const char *start = pattern;

	for (const char *p = pattern;; p++) {
		if (*p == '\\' && p[1] != '\0') {
			p++;
			continue;
		}
		if (*p != '|' && *p != '\0')
			continue;
		if (alternative_matches(start, p, text))
			return true;
		if (*p == '\0')
			return false;
		start = p + 1;
	}
}

bool selector_matches(const struct selector *s, const char *name,
		      const char *(*value_of)(const void *user, const char *label), const void *user)
{
	if (strcmp(s->name, name) != 0)
		return false;
	for (size_t i = 0; i < s->count; i++) {
		const char *value = value_of(user, s->labels[i].label), *wanted = s->labels[i].value;
		bool holds = true;

		value = value ? value : "";
		switch (s->labels[i].operator) {
		case SELECTOR_IS:
			holds = strcmp(value, wanted) == 0;
			break;
		case SELECTOR_IS_NOT:
			holds = strcmp(value, wanted) != 0;
			break;
		case SELECTOR_MATCHES:
			holds = selector_pattern_matches(wanted, value);
			break;
		case SELECTOR_MATCHES_NOT:
			holds = !selector_pattern_matches(wanted, value);
			break;
		}
		if (!holds)
			return false;
	}
	return true;
}
