#include "base/log.h"

#include "base/text.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 4096 };

static struct {
	log_sink *sink;
	void *user;
	enum log_level max;
	const char *program;
} state = { NULL, NULL, LOG_LEVEL_INFO, NULL };

enum { EVENTS_MAX = 64, EVENT_BYTES = 32, LINE_COST = 60 * 1000 };

/* What one event may still say: LINE_COST a line, `per_minute` comes back each millisecond. */
struct allowance {
	char event[EVENT_BYTES];
	uint64_t left, at_ms;
	unsigned left_out;
};

static struct {
	pthread_mutex_t lock;
	unsigned burst, per_minute;
	struct allowance events[EVENTS_MAX];
} limit = { .lock = PTHREAD_MUTEX_INITIALIZER };

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

void log_limit(unsigned burst, unsigned per_minute)
{
	(void) pthread_mutex_lock(&limit.lock); /* cannot fail, here and below: it is never locked twice */
	memset(limit.events, 0, sizeof(limit.events));
	limit.burst = burst;
	limit.per_minute = per_minute;
	(void) pthread_mutex_unlock(&limit.lock);
}

static uint64_t monotonic_ms(void)
{
	struct timespec t;

	(void) clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail */
	return (uint64_t) t.tv_sec * 1000 + (uint64_t) t.tv_nsec / 1000000;
}

/* The events of a program are few; were they more than fit, the last ones would share. */
static struct allowance *allowance_of(const char *event)
{
	struct allowance *a = limit.events;

	while (a < &limit.events[EVENTS_MAX - 1] && a->event[0] && strncmp(a->event, event, EVENT_BYTES - 1) != 0)
		a++;
	if (!a->event[0]) {
		(void) snprintf(a->event, sizeof(a->event), "%s",
				event); /* a longer one is cut, as it is compared */
		a->left = (uint64_t) limit.burst * LINE_COST;
		a->at_ms = monotonic_ms();
	}
	return a;
}

/* May it say one more line, and how many were left out before it? */
static bool may_speak(const char *event, unsigned *ret_left_out)
{
	bool may = true;

	(void) pthread_mutex_lock(&limit.lock);
	if (limit.burst > 0) {
		struct allowance *a = allowance_of(event);
		const uint64_t now = monotonic_ms(), most = (uint64_t) limit.burst * LINE_COST;

		a->left += (now - a->at_ms) * limit.per_minute;
		a->at_ms = now;
		if (a->left > most)
			a->left = most;
		may = a->left >= LINE_COST;
		if (may) {
			a->left -= LINE_COST;
			*ret_left_out = a->left_out;
			a->left_out = 0;
		} else {
			a->left_out++;
		}
	}
	(void) pthread_mutex_unlock(&limit.lock);
	return may;
}

void log_write(enum log_level level, const char *event, const char *fmt, ...)
{
	char text[LINE_MAX_BYTES], before[64] = "";
	unsigned left_out = 0;
	size_t len;
	va_list ap;

	if (level > state.max || !may_speak(event, &left_out))
		return;
	if (left_out > 0)
		(void) snprintf(before, sizeof(before), " (and %u more like it, left out)", left_out);
	len = strlen(before);
	va_start(ap, fmt);
	(void) vsnprintf(text, sizeof(text) - len, fmt, ap); /* a longer line is cut */
	va_end(ap);
	text_tame(text, ""); /* one event is one line, whoever wrote the words in it */
	memcpy(text + strlen(text), before, len + 1);
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
