#include "agent/probe/internal.h"
#include "base/err.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the helper says in front of a file's bytes. */
struct file_head {
	uint64_t inode, end, mtime; /* end: where in the file the bytes end */
	uint64_t before; /* how many of them stood there before the place that was asked for */
};

/* "INODE END MTIME BEFORE\n": how long that is, or 0 if it is none. */
static size_t read_file_head(const struct buf *answer, struct file_head *ret)
{
	const char *text = buf_str(answer), *newline = strchr(text, '\n');
	int used = 0;

	if (!newline || sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 "%n", &ret->inode, &ret->end,
			       &ret->mtime, &ret->before, &used) != 4)
		return 0;
	return text + used == newline ? (size_t) used + 1 : 0;
}

static enum run_end no_head(struct buf *detail)
{
	run_say(detail, "selfright-probe says nothing that can be read");
	return RUN_FAILED;
}

/* --- metric --- */

static enum run_end judge_sample(const struct probe_set *set, struct probe *p, const char *text, size_t len,
				 uint64_t now_ms)
{
	const struct release_metric *m = &p->status.check->metric;
	struct metric_sample sample;
	struct metric_value v;
	size_t line = 0;
	int r = metric_read(text, len, p->select, p->of, &sample, &line);
	enum run_end end;

	if (r < 0) {
		run_say(&p->detail, "line %zu is no sample: %s", line, err_text(r));
		return RUN_FAILED;
	}
	if (m->of ? sample.of_series == 0 : sample.select_series == 0 && !m->absent_is_zero) {
		run_say(&p->detail, "no series matches %s", m->of ? m->of : m->select);
		return RUN_INCONCLUSIVE;
	}
	metric_window_add(p->window, now_ms, &sample);
	v = metric_window_value(p->window, m);
	p->measured = v.enough && v.samples > 0;
	p->measured_value = v.value;
	p->measured_samples = v.samples;
	end = metric_judge(m, &v, p->before, &p->detail);
	if (set->mode != PROBE_BASELINE || !v.enough)
		return end;
	(void) snprintf(p->value, sizeof(p->value), "%.9g", v.value);
	/* Before the swap there is no "before" yet; that it has a value is what was to be found out. */
	return end == RUN_INCONCLUSIVE ? RUN_HELD : end;
}

static enum run_end judge_metric(const struct probe_set *set, struct probe *p, const struct buf *answer,
				 uint64_t now_ms)
{
	CLEANUP(buf_done)
	struct buf body = BUF_INIT(METRIC_TEXT_MAX);
	struct file_head head;
	size_t skip;
	int r;

	if (p->status.check->metric.file) {
		skip = read_file_head(answer, &head);
		if (skip == 0)
			return no_head(&p->detail);
		return judge_sample(set, p, buf_str(answer) + skip, answer->len - skip, now_ms);
	}
	if (http_judge(answer, true, &p->expect, &p->detail) != RUN_HELD)
		return RUN_FAILED;
	r = http_body(answer, &body);
	if (r < 0) {
		run_say(&p->detail, "the answer cannot be read: %s", err_text(r));
		return RUN_FAILED;
	}
	return judge_sample(set, p, buf_str(&body), body.len, now_ms);
}

/* --- log --- */

/* Once before the swap tells what kinds there are; how many come in a minute takes a second look. */
static enum run_end end_log_run(const struct probe_set *set, struct probe *p, uint64_t now_ms)
{
	const struct release_log *log = &p->status.check->log;
	bool first = p->kinds->run_count == 0;

	/* What came before this watch, or this start of the agent, began is not of its first minute. */
	if (first && (set->mode == PROBE_WATCH || set->context->late))
		p->kinds->errors = 0;
	log_kinds_end_run(p->kinds, now_ms);
	if (set->mode == PROBE_BASELINE && first && log->max_per_minute != UINT64_MAX) {
		run_say(&p->detail, "looked at once so far");
		return RUN_INCONCLUSIVE;
	}
	return log_kinds_judge(p->kinds, log, set->started_ms, now_ms, &p->detail);
}

static void take_lines(struct probe *p, const char *text, size_t len, size_t before, size_t *ret_rest)
{
	const struct release_log *log = &p->status.check->log;
	const char *start = text, *newline;

	while (len > 0 && (newline = memchr(text, '\n', len))) {
		size_t n = (size_t) (newline - text);

		if ((size_t) (text - start) < before)
			log_kinds_learn(p->kinds, log, text, n);
		else
			log_kinds_add(p->kinds, log, text, n);
		text += n + 1;
		len -= n + 1;
	}
	*ret_rest = len; /* a line that is still being written is read again */
}

static enum run_end judge_log_file(const struct probe_set *set, struct probe *p, const struct buf *answer,
				   uint64_t now_ms)
{
	struct file_head head;
	size_t skip = read_file_head(answer, &head), rest = 0;

	if (skip == 0)
		return no_head(&p->detail);
	/* Without a "before" everything that stands there is before. */
	take_lines(p, buf_str(answer) + skip, answer->len - skip, p->place.known ? (size_t) head.before : SIZE_MAX,
		   &rest);
	p->place = (struct log_place){ .known = true,
				       .inode = head.inode,
				       .offset = head.end > rest ? head.end - rest : 0 };
	return end_log_run(set, p, now_ms);
}

static enum run_end judge_journal(const struct probe_set *set, struct probe *p, const struct buf *answer,
				  uint64_t now_ms)
{
	const struct release_log *log = &p->status.check->log;
	const char *line = buf_str(answer), *newline, *text;
	uint64_t newest = p->place.us, us = 0;
	size_t len = answer->len, text_len;
	bool old = !p->place.known;

	for (; len > 0 && (newline = memchr(line, '\n', len));
	     len -= (size_t) (newline + 1 - line), line = newline + 1) {
		/* A line that goes on belongs to the entry it goes on. */
		if (log_journal_line(line, (size_t) (newline - line), &us, &text, &text_len)) {
			old = !p->place.known || us <= p->place.us;
			newest = us > newest ? us : newest;
		} else {
			text = line;
			text_len = (size_t) (newline - line);
		}
		if (!old)
			log_kinds_add(p->kinds, log, text, text_len);
		else if (p->kinds->run_count == 0)
			log_kinds_learn(p->kinds, log, text, text_len);
	}
	p->place = (struct log_place){ .known = true, .us = newest };
	return end_log_run(set, p, now_ms);
}

/* --- status --- */

static enum run_end judge_status_file(const struct probe_set *set, struct probe *p, const struct buf *answer)
{
	struct file_head head;
	size_t skip = read_file_head(answer, &head);

	if (skip == 0)
		return no_head(&p->detail);
	/* What the old version said is no word of the new one. */
	if (set->mode != PROBE_BASELINE && set->context->since_at > 0 &&
	    head.mtime < (uint64_t) set->context->since_at) {
		run_say(&p->detail, "the file has not been written since the swap");
		return RUN_INCONCLUSIVE;
	}
	return status_judge(buf_str(answer) + skip, answer->len - skip, p->status.check->status.accept_degraded,
			    &p->detail);
}

/* --- all of them --- */

enum run_end probe_judge(const struct probe_set *set, struct probe *p, const struct buf *answer, uint64_t now_ms)
{
	const struct release_check *check = p->status.check;

	switch (check->kind) {
	case CHECK_HTTP_GET:
		return http_judge(answer, true, &p->expect, &p->detail);
	case CHECK_METRIC:
		return judge_metric(set, p, answer, now_ms);
	case CHECK_LOG:
		return check->log.unit ? judge_journal(set, p, answer, now_ms)
				       : judge_log_file(set, p, answer, now_ms);
	case CHECK_STATUS:
		if (check->status.file)
			return judge_status_file(set, p, answer);
		return status_judge(buf_str(answer), answer->len, check->status.accept_degraded, &p->detail);
	case CHECK_EXEC:
	case CHECK_TCP_SOCKET:
	case CHECK_UNIT:
	case CHECK_LINK:
	case CHECK_KIND_COUNT:
		break;
	}
	return RUN_HELD; /* that it ended well is all there is to it */
}

void probe_note_value(struct probe *p)
{
	if (p->status.check->kind != CHECK_LOG || !p->place.known)
		return;
	if (p->status.check->log.unit)
		(void) snprintf(p->value, sizeof(p->value), "j%" PRIu64, p->place.us);
	else
		(void) snprintf(p->value, sizeof(p->value), "f%" PRIx64 ":%" PRIx64, p->place.inode,
				p->place.offset); /* 35 bytes at most */
}

void probe_take_value(struct probe *p, const char *value)
{
	struct log_place place = { .known = true };

	switch (p->status.check->kind) {
	case CHECK_METRIC:
		(void) snprintf(p->before, sizeof(p->before), "%s", value);
		break;
	case CHECK_LOG:
		if (p->status.check->log.unit
			    ? sscanf(value, "j%" SCNu64, &place.us) == 1
			    : sscanf(value, "f%" SCNx64 ":%" SCNx64, &place.inode, &place.offset) == 2)
			p->place = place;
		break;
	default:
		break;
	}
}
