#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 4096 };

static struct {
	log_sink *sink;
	void *user;
	enum log_level max;
	const char *program;
} state = { NULL, NULL, LOG_LEVEL_INFO, NULL };

static const char *const level_names[] = {
	[LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARNING] = "warning", [LOG_LEVEL_NOTICE] = "notice",
	[LOG_LEVEL_INFO] = "info",   [LOG_LEVEL_DEBUG] = "debug",
};

void log_set(log_sink *sink, void *user, enum log_level max)
{
	state.sink = sink;
	state.user = user;
	state.max = max;
}

void log_set_program(const char *name)
{
	state.program = name;
}

static void to_stderr(enum log_level level, const char *event, const char *text)
{
	char line[LINE_MAX_BYTES + 128], stamp[32];
	time_t now = time(NULL);
	struct tm tm;
	int n;

	if (!gmtime_r(&now, &tm) || strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		stamp[0] = '\0';
	n = snprintf(line, sizeof(line), "%s %s%s%s %s: %s\n", stamp, state.program ? state.program : "",
		     state.program ? " " : "", level_names[level], event, text);
	if (n < 0)
		return;
	if ((size_t) n >= sizeof(line)) {
		n = sizeof(line) - 1;
		line[n - 1] = '\n';
	}
	/* One write per line, so that lines of several processes do not mix; nobody to tell if it fails. */
	(void) !write(STDERR_FILENO, line, (size_t) n);
}

void log_write(enum log_level level, const char *event, const char *fmt, ...)
{
	char text[LINE_MAX_BYTES];
	va_list ap;

	if (level > state.max)
		return;
	va_start(ap, fmt);
	(void) vsnprintf(text, sizeof(text), fmt, ap); /* a longer line is cut */
	va_end(ap);
	if (state.sink)
		state.sink(state.user, level, event, text);
	else
		to_stderr(level, event, text);
}

const char *log_quote(char *out, size_t size, const char *text)
{
	size_t n = 0;

	if (size < 8)
		return "";
	out[n++] = '"';
	for (const unsigned char *p = (const unsigned char *) (text ? text : ""); *p && n + 8 < size; p++) {
		if (*p == '"' || *p == '\\') {
			out[n++] = '\\';
			out[n++] = (char) *p;
		} else if (*p < 0x20 || *p == 0x7f) {
			n += (size_t) snprintf(out + n, size - n, "\\x%02x", *p);
		} else {
			out[n++] = (char) *p;
		}
	}
	out[n++] = '"';
	out[n] = '\0';
	return out;
}
