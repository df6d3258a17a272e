/*
 * log - one line per event: a stable event id, a sentence, then fields.
 *
 *   log_notice("update-verified", "update=%s version=%s", id, version);
 *   -> 2026-11-21T09:30:00Z notice update-verified: update=7f3a version=1.5.0
 *
 * Levels: error somebody must act; warning it went on, but differently than
 * asked; notice a state changed; info what an operator follows; debug for
 * developers. Text from outside goes through log_quote first. Secrets and whole
 * payloads are never logged. The sink is the only mutable global besides the
 * signal flag; tests replace it.
 */
#ifndef SELFRIGHT_BASE_LOG_H
#define SELFRIGHT_BASE_LOG_H

#include "base/attr.h"

#include <stddef.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_NOTICE, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

typedef void log_sink(void *user, enum log_level level, const char *event, const char *text);

/* Send lines to `sink` (NULL: standard error) and drop those above `max`. */
void log_set(log_sink *sink, void *user, enum log_level max);

/* A prefix for standard error, e.g. "selfright-link"; borrowed for ever. */
void log_set_program(const char *name);

/*
 * Of each event id at most `burst` lines at once and `per_minute` from then on; what is left out is counted, and the next
 * line of that event says how many. 0: all of them. For processes whom others can make speak: a full disk is theirs then.
 */
void log_limit(unsigned burst, unsigned per_minute);

void log_write(enum log_level level, const char *event, const char *fmt, ...) PRINTF_LIKE(3, 4);

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...) log_write(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* `text` in double quotes, control bytes and quotes escaped, cut to fit; returns `out`. */
const char *log_quote(char *out, size_t size, const char *text);

#endif
