#include "agent/probe/log_lines.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* --- kinds --- */

/* FNV-1a: kinds are told apart, not secured; who writes the log could as well write nothing. */
static uint64_t hash_of(const char *s, size_t len)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char) s[i]) * UINT64_C(0x100000001b3);
	return h;
}

static bool is_word_byte(char b)
{
	return isalnum((unsigned char) b) || b == '_' || (unsigned char) b >= 0x80;
}

static bool is_day_or_month(const char *word, size_t len)
{
	static const char *const names[] = { "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Jan", "Feb", "Mar",
					     "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };

	for (size_t i = 0; len == 3 && i < ARRAY_LEN(names); i++)
		if (memcmp(names[i], word, 3) == 0)
			return true;
	return false;
}

/* Numbers, and words that hold one: ids, addresses, times; and long words of hex digits only. */
static bool changes(const char *word, size_t len)
{
	bool hex = len >= 8;

	for (size_t i = 0; i < len; i++) {
		if (isdigit((unsigned char) word[i]))
			return true;
		hex = hex && isxdigit((unsigned char) word[i]);
	}
	return hex || is_day_or_month(word, len);
}

/* RFC 9562's form, whose middle parts may be letters only. */
static bool is_uuid(const char *s, size_t len)
{
	for (size_t i = 0; len >= 36 && i < 36; i++) {
		bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;

		if (hyphen ? s[i] != '-' : !isxdigit((unsigned char) s[i]))
			return false;
	}
	return len >= 36;
}

struct kind {
	char *text;
	size_t len;
};

static void put(struct kind *k, const char *s, size_t len)
{
	/* "#:#:#" and "#.#" are one thing: something that changes. */
	if (len == 1 && *s == '#') {
		size_t end = k->len;

		while (end > 0 && strchr(":.-/+,T", k->text[end - 1]))
			end--;
		if (end > 0 && k->text[end - 1] == '#') {
			k->len = end;
			return;
		}
	}
	if (len == 1 && *s == ' ' && k->len > 0 && k->text[k->len - 1] == ' ')
		return; /* "Dec  1" and "Dec 11" */
	for (size_t i = 0; i < len && k->len < LOG_LINE_MAX; i++)
		k->text[k->len++] = s[i];
}

static size_t word_length(const char *s, size_t len)
{
	size_t n = 0;

	while (n < len && is_word_byte(s[n]))
		n++;
	return n;
}

static size_t until_blank(const char *s, size_t len)
{
	size_t n = 0;

	while (n < len && s[n] != ' ' && s[n] != '\t')
		n++;
	return n;
}

uint64_t log_line_kind(const char *line, size_t len, char ret[static LOG_LINE_MAX + 1])
{
	struct kind k = { .text = ret };
	size_t i = 0;

	len = len > LOG_LINE_MAX ? LOG_LINE_MAX : len;
	while (i < len) {
		const char *s = line + i, *close;
		size_t left = len - i, n = word_length(s, left);

		if (is_uuid(s, left)) {
			n = 36;
			put(&k, "#", 1);
		} else if (n > 0) {
			put(&k, changes(s, n) ? "#" : s, changes(s, n) ? 1 : n);
		} else if (*s == '"' && (close = memchr(s + 1, '"', left - 1))) {
			n = (size_t) (close - s) + 1;
			put(&k, "\"#\"", 3);
		} else if (*s == '/' && (i == 0 || s[-1] == ' ' || s[-1] == '\t')) {
			n = until_blank(s, left);
			put(&k, "/#", 2);
		} else {
			n = 1;
			put(&k, s, 1);
		}
		i += n;
	}
	ret[k.len] = '\0';
	return hash_of(ret, k.len);
}

/* --- errors --- */

static bool holds_word(const char *line, size_t len, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; i + n <= len; i++)
		if (strncasecmp(line + i, word, n) == 0)
			return true;
	return false;
}

static bool holds_any(const char *line, size_t len, const struct string_list *words)
{
	for (size_t i = 0; i < words->count; i++)
		if (holds_word(line, len, words->items[i]))
			return true;
	return false;
}

bool log_line_is_error(const struct release_log *log, const char *line, size_t len)
{
	len = len > LOG_LINE_MAX ? LOG_LINE_MAX : len;
	return holds_any(line, len, &log->match) && !holds_any(line, len, &log->ignore);
}

static bool has(const uint64_t *hashes, size_t count, uint64_t hash)
{
	for (size_t i = 0; i < count; i++)
		if (hashes[i] == hash)
			return true;
	return false;
}

void log_kinds_learn(struct log_kinds *k, const struct release_log *log, const char *line, size_t len)
{
	char kind[LOG_LINE_MAX + 1];
	uint64_t hash;

	if (!log_line_is_error(log, line, len))
		return;
	hash = log_line_kind(line, len, kind);
	if (has(k->known, k->known_count, hash))
		return;
	if (k->known_count == LOG_KINDS_MAX)
		memmove(k->known, k->known + 1, --k->known_count * sizeof(k->known[0]));
	k->known[k->known_count++] = hash;
}

void log_kinds_add(struct log_kinds *k, const struct release_log *log, const char *line, size_t len)
{
	char kind[LOG_LINE_MAX + 1];
	uint64_t hash;

	if (!log_line_is_error(log, line, len))
		return;
	k->errors++;
	hash = log_line_kind(line, len, kind);
	if (has(k->known, k->known_count, hash) || has(k->fresh, k->fresh_count, hash))
		return;
	(void) snprintf(k->example, sizeof(k->example), "%.*s", (int) (len > 250 ? 250 : len), line);
	if (k->fresh_count < LOG_NEW_MAX)
		k->fresh[k->fresh_count++] = hash;
}

void log_kinds_end_run(struct log_kinds *k, uint64_t now_ms)
{
	if (k->run_count == LOG_RATE_MAX) {
		k->dropped_ms = k->runs[0].at_ms;
		memmove(k->runs, k->runs + 1, --k->run_count * sizeof(k->runs[0]));
	}
	k->runs[k->run_count].at_ms = now_ms;
	k->runs[k->run_count++].errors = k->errors;
	k->errors = 0;
}

double log_kinds_rate(const struct log_kinds *k, uint64_t started_ms, uint64_t now_ms)
{
	/* What a run counts lies between the run before it and itself. */
	uint64_t from = started_ms, errors = 0;

	for (size_t i = k->run_count; i-- > 0;) {
		errors += k->runs[i].errors;
		from = i > 0 ? k->runs[i - 1].at_ms : k->dropped_ms ? k->dropped_ms : started_ms;
		if (now_ms - from >= LOG_RATE_WINDOW_MS)
			break;
	}
	/* The first seconds are not made into a minute: three lines at a start are three lines. */
	if (now_ms - from < LOG_RATE_WINDOW_MS)
		return (double) errors;
	return (double) errors * LOG_RATE_WINDOW_MS / (double) (now_ms - from);
}

enum run_end log_kinds_judge(const struct log_kinds *k, const struct release_log *log, uint64_t started_ms,
			     uint64_t now_ms, struct buf *detail)
{
	double rate = log_kinds_rate(k, started_ms, now_ms);

	if (k->fresh_count > log->max_new_kinds) {
		run_say(detail, "%zu new kind%s of error line, the newest: %s", k->fresh_count,
			k->fresh_count == 1 ? "" : "s", k->example);
		return RUN_FAILED;
	}
	if (log->max_per_minute != UINT64_MAX && rate > (double) log->max_per_minute) {
		run_say(detail, "%.0f error lines in a minute, and there may be %llu", rate,
			(unsigned long long) log->max_per_minute);
		return RUN_FAILED;
	}
	run_say(detail, "%.0f error lines in a minute, %zu new kind%s", rate, k->fresh_count,
		k->fresh_count == 1 ? "" : "s");
	return RUN_HELD;
}

/* --- the journal's lines --- */

/* Digits at *s, at most 19 of them. */
static bool take_digits(const char **s, size_t *len, uint64_t *ret)
{
	size_t n = 0;

	*ret = 0;
	while (n < *len && n < 16 && isdigit((unsigned char) (*s)[n]))
		*ret = *ret * 10 + (uint64_t) ((*s)[n++] - '0');
	*s += n;
	*len -= n;
	return n > 0;
}

bool log_journal_line(const char *line, size_t len, uint64_t *ret_us, const char **ret_text, size_t *ret_len)
{
	const char *s = line;
	uint64_t seconds, micros;
	size_t left = len, host;

	if (!take_digits(&s, &left, &seconds) || seconds > UINT32_MAX || left == 0 || *s != '.')
		return false;
	s++;
	left--;
	if (!take_digits(&s, &left, &micros) || line + len - s != (ptrdiff_t) left || s - line < 8 || left == 0 ||
	    *s != ' ' || micros > 999999)
		return false;
	s++;
	left--;
	host = until_blank(s, left);
	*ret_us = seconds * 1000000 + micros;
	*ret_text = host < left ? s + host + 1 : s;
	*ret_len = host < left ? left - host - 1 : left;
	return true;
}
