/* Any bytes as lines of a log, of a file's and of the journal's. */
#include "agent/probe/log_lines.h"
#include "agent/probe/probe.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds)
{
	if (!holds)
		abort();
}

static void take_line(struct log_kinds *k, const struct release_log *log, const char *line, size_t len)
{
	char kind[LOG_LINE_MAX + 1], again[LOG_LINE_MAX + 1];
	uint64_t hash = log_line_kind(line, len, kind), us = 0;
	const char *text = NULL;
	size_t text_len = 0;

	expect(strlen(kind) <= LOG_LINE_MAX);
	expect(log_line_kind(line, len, again) == hash);
	if (log_journal_line(line, len, &us, &text, &text_len))
		expect(text >= line && text + text_len <= line + len);
	if (hash & 1)
		log_kinds_learn(k, log, line, len);
	else
		log_kinds_add(k, log, line, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char error[] = "error", empty[] = "a";
	char *match[] = { error }, *ignore[] = { empty };
	struct release_log log = {
		.match = { match, 1 }, .ignore = { ignore, size % 2 }, .max_new_kinds = 3, .max_per_minute = 10
	};
	struct log_kinds *k = calloc(1, sizeof(*k));
	CLEANUP(buf_done)
	struct buf detail = BUF_INIT(PROBE_DETAIL_MAX);
	const char *line = (const char *) data;
	uint64_t now = 0;

	if (!k)
		return 0;
	while (size > 0) {
		const char *newline = memchr(line, '\n', size);
		size_t n = newline ? (size_t) (newline - line) : size;

		take_line(k, &log, line, n);
		if (n % 7 == 0)
			log_kinds_end_run(k, now += n * 100);
		n += newline ? 1 : 0;
		line += n;
		size -= n;
	}
	expect(k->known_count <= LOG_KINDS_MAX && k->fresh_count <= LOG_NEW_MAX && k->run_count <= LOG_RATE_MAX);
	expect(log_kinds_rate(k, 0, now) >= 0);
	expect(log_kinds_judge(k, &log, 0, now, &detail) != RUN_UNDER_WAY && detail.len > 0);
	free(k);
	return 0;
}
