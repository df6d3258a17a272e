#include "agent/probe/status.h"

#include "base/err.h"
#include "model/report.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const words[] = { [STATUS_STARTING] = "starting",
				     [STATUS_READY] = "ready",
				     [STATUS_DEGRADED] = "degraded",
				     [STATUS_STOPPING] = "stopping",
				     [STATUS_FAILED] = "failed" };
_Static_assert(ARRAY_LEN(words) == STATUS_WORD_COUNT, "every word has its text");

const char *status_word_name(enum status_word w)
{
	return (unsigned) w < STATUS_WORD_COUNT ? words[w] : "unknown";
}

static bool word_of(const char *s, size_t len, enum status_word *ret)
{
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (strlen(words[i]) == len && strncasecmp(words[i], s, len) == 0) {
			*ret = (enum status_word) i;
			return true;
		}
	*ret = STATUS_READY;
	return len == 2 && strncasecmp(s, "ok", 2) == 0;
}

static void set_message(struct buf *message, const char *s, size_t len)
{
	buf_clear(message);
	(void) !printable_tail(s, len, 400, message); /* without memory there are no words */
}

/*
 * Applications write JSON of their own taste, with fractions, long numbers and whatever
 * they like beside the two members we read. So this looks for those two at the top
 * level and passes over the rest; what is no JSON at all ends it.
 */
struct scan {
	const char *at, *end;
};

static void pass_blanks(struct scan *s)
{
	while (s->at < s->end && *s->at && strchr(" \t\r\n", *s->at))
		s->at++;
}

/* A string, without its escapes: good enough for words and names. False: it has no end. */
static bool pass_string(struct scan *s, struct buf *ret)
{
	buf_clear(ret);
	if (s->at == s->end || *s->at != '"')
		return false;
	for (s->at++; s->at < s->end && *s->at != '"'; s->at++) {
		char byte = *s->at;

		if (byte == '\\') {
			if (++s->at == s->end)
				return false;
			byte = strchr("\"\\/", *s->at) && *s->at ? *s->at : *s->at == 'n' ? '\n' : '?';
		}
		if (ret->len < ret->max && buf_add_byte(ret, (uint8_t) byte) < 0)
			return false;
	}
	if (s->at == s->end)
		return false;
	s->at++;
	return true;
}

/* Anything up to the ',' or '}' that ends it at this level. */
static bool pass_value(struct scan *s, struct buf *scratch)
{
	size_t depth = 0;

	while (s->at < s->end) {
		if (*s->at == '"') {
			if (!pass_string(s, scratch))
				return false;
			continue;
		}
		if (depth == 0 && (*s->at == ',' || *s->at == '}'))
			return true;
		if (*s->at == '{' || *s->at == '[')
			depth++;
		if ((*s->at == '}' || *s->at == ']') && depth-- == 0)
			return false;
		s->at++;
	}
	return false;
}

/* One member; *ret_known if it was the status. */
static bool pass_member(struct scan *s, struct buf *name, struct buf *value, enum status_word *ret,
			bool *ret_known, struct buf *message)
{
	bool text;

	pass_blanks(s);
	if (!pass_string(s, name))
		return false;
	pass_blanks(s);
	if (s->at == s->end || *s->at++ != ':')
		return false;
	pass_blanks(s);
	text = s->at < s->end && *s->at == '"';
	if (text ? !pass_string(s, value) : !pass_value(s, value))
		return false;
	pass_blanks(s);
	if (text && strcmp(buf_str(name), "status") == 0)
		*ret_known = word_of(buf_str(value), value->len, ret);
	if (text && strcmp(buf_str(name), "message") == 0)
		set_message(message, buf_str(value), value->len);
	return true;
}

static int read_json(const char *text, size_t len, enum status_word *ret, struct buf *message)
{
	CLEANUP(buf_done)
	struct buf name = BUF_INIT(64), value = BUF_INIT(1024);
	struct scan s = { .at = text + 1, .end = text + len };
	bool known = false;

	do {
		if (!pass_member(&s, &name, &value, ret, &known, message) || s.at == s.end)
			return -ERR_SYNTAX;
	} while (*s.at++ == ',');
	return known && s.at[-1] == '}' ? 0 : -ERR_SYNTAX;
}

/* sd_notify's lines: what goes wrong outweighs what went well. */
static bool read_notify(const char *text, size_t len, enum status_word *ret, struct buf *message)
{
	bool found = false;

	*ret = STATUS_STARTING;
	while (len > 0) {
		const char *newline = memchr(text, '\n', len);
		size_t n = newline ? (size_t) (newline - text) : len;

		if (n >= 7 && memcmp(text, "READY=1", 7) == 0) {
			found = true;
			if (*ret == STATUS_STARTING)
				*ret = STATUS_READY;
		} else if ((n >= 10 && memcmp(text, "STOPPING=1", 10) == 0) ||
			   (n >= 11 && memcmp(text, "RELOADING=1", 11) == 0)) {
			found = true;
			if (*ret != STATUS_FAILED)
				*ret = text[0] == 'S' ? STATUS_STOPPING : STATUS_STARTING;
		} else if (n >= 7 && memcmp(text, "ERRNO=", 6) == 0) {
			found = true;
			*ret = STATUS_FAILED;
		} else if (n >= 7 && memcmp(text, "STATUS=", 7) == 0) {
			found = true;
			set_message(message, text + 7, n - 7);
		}
		n += newline ? 1 : 0;
		text += n;
		len -= n;
	}
	return found;
}

int status_read(const char *text, size_t len, enum status_word *ret, struct buf *message)
{
	enum status_word word = STATUS_FAILED;
	const char *newline;
	size_t n, line;

	while (len > 0 && strchr(" \t\r\n", *text) && *text) {
		text++;
		len--;
	}
	if (len == 0 || len > STATUS_TEXT_MAX || memchr(text, 0, len))
		return -ERR_SYNTAX;
	if (*text == '{') {
		int r = read_json(text, len, &word, message);

		if (r == 0)
			*ret = word;
		return r;
	}
	newline = memchr(text, '\n', len);
	line = newline ? (size_t) (newline - text) : len;
	for (n = 0; n < line && !strchr(" \t\r:,", text[n]);)
		n++;
	if (!word_of(text, n, &word)) {
		if (!read_notify(text, len, &word, message))
			return -ERR_SYNTAX;
		*ret = word;
		return 0;
	}
	while (n < line && text[n] && strchr(" \t\r:,", text[n]))
		n++;
	set_message(message, text + n, line - n);
	*ret = word;
	return 0;
}

enum run_end status_judge(const char *text, size_t len, bool accept_degraded, struct buf *detail)
{
	CLEANUP(buf_done)
	struct buf message = BUF_INIT(512);
	enum status_word word;
	int r = status_read(text, len, &word, &message);

	if (r < 0) {
		run_say(detail, "it says none of starting, ready, degraded, stopping and failed: %.100s",
			len > 0 ? text : "(nothing)");
		return RUN_FAILED;
	}
	run_say(detail, "it says %s%s%s", status_word_name(word), message.len > 0 ? ": " : "", buf_str(&message));
	switch (word) {
	case STATUS_READY:
		return RUN_HELD;
	case STATUS_DEGRADED:
		return accept_degraded ? RUN_HELD : RUN_FAILED;
	case STATUS_STARTING:
	case STATUS_STOPPING:
		return RUN_INCONCLUSIVE;
	case STATUS_FAILED:
	case STATUS_WORD_COUNT:
		break;
	}
	return RUN_FAILED;
}
