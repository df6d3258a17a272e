#include "agent/probe/probe.h"
#include "agent/probe/run.h"
#include "base/err.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct head {
	int status;
	bool chunked;
	bool has_length;
	uint64_t length;
	const char *body;
	size_t body_len;
};

/* -1: no HTTP; 0: not all there yet; 1: *ret is filled. */
static int read_status(const char *s, size_t len)
{
	static const char start[] = "HTTP/1.";
	size_t n = len < sizeof(start) - 1 ? len : sizeof(start) - 1;

	if (memcmp(s, start, n) != 0)
		return -1;
	if (len < 13)
		return memchr(s, '\n', len) ? -1 : 0;
	if (s[8] != ' ' || strspn(s + 9, "0123456789") != 3)
		return -1;
	return 1;
}

static const char *value_of(const char *line, const char *name)
{
	size_t n = strlen(name);

	if (strncasecmp(line, name, n) != 0 || line[n] != ':')
		return NULL;
	line += n + 1;
	return line + strspn(line, " \t");
}

/* The header lines from `s` up to `end`, where the empty line stands. */
static void read_headers(const char *s, const char *end, struct head *ret)
{
	while (s < end) {
		const char *length = value_of(s, "Content-Length"), *coding = value_of(s, "Transfer-Encoding");

		if (length) {
			ret->length = strtoull(length, NULL, 10);
			ret->has_length = true;
		}
		if (coding && strncasecmp(coding, "chunked", strlen("chunked")) == 0)
			ret->chunked = true;
		s = memchr(s, '\n', (size_t) (end - s)); /* there may be NUL bytes in between */
		s = s ? s + 1 : end;
	}
}

static int read_head(const char *s, size_t len, struct head *ret)
{
	const char *end;
	int r;

	for (;;) {
		*ret = (struct head){ .status = 0 };
		r = len == 0 ? 0 : read_status(s, len);
		if (r <= 0)
			return r;
		end = memmem(s, len, "\r\n\r\n", 4);
		if (!end)
			return 0;
		ret->status = atoi(s + 9);
		read_headers((const char *) memchr(s, '\n', len) + 1, end, ret);
		ret->body = end + 4;
		ret->body_len = len - (size_t) (ret->body - s);
		if (ret->status >= 200)
			return 1;
		s = ret->body; /* 1xx: the answer proper follows */
		len = ret->body_len;
	}
}

/* What has come of a chunked body, put together; *ret_all: the last chunk is there. */
static void join_chunks(const char *s, size_t len, struct buf *out, bool *ret_all)
{
	*ret_all = false;
	while (len > 0) {
		const char *newline = memchr(s, '\n', len);
		unsigned long long wide;
		size_t size;
		char *behind;

		if (!newline)
			return;
		wide = strtoull(s, &behind, 16);
		if (behind == s || wide > out->max || wide == 0) {
			*ret_all = true; /* the end, or no chunk at all: nothing more to look at */
			return;
		}
		size = (size_t) wide;
		len -= (size_t) (newline + 1 - s);
		s = newline + 1;
		if (buf_add(out, s, size < len ? size : len) < 0)
			return;
		if (len < size + 2)
			return;
		s += size + 2;
		len -= size + 2;
	}
}

static bool is_complete(const struct head *head, bool ended)
{
	return ended || (!head->chunked && head->has_length && head->body_len >= head->length);
}

static enum run_end judge_body(const struct head *head, bool ended, const char *expect_body, struct buf *detail)
{
	CLEANUP(buf_done)
	struct buf body = BUF_INIT(PROBE_BODY_MAX + 16 * 1024);
	bool all = is_complete(head, ended);

	if (head->chunked)
		join_chunks(head->body, head->body_len, &body, &all);
	else if (buf_add(&body, head->body, head->body_len < body.max ? head->body_len : body.max) < 0)
		return RUN_UNDER_WAY; /* perhaps there is memory when more comes; the timeout ends it */
	if (strlen(expect_body) == 0 ||
	    (body.len > 0 && memmem(body.data, body.len, expect_body, strlen(expect_body)))) {
		run_say(detail, "HTTP %d, with the expected body", head->status);
		return RUN_HELD;
	}
	if (!all && !ended)
		return RUN_UNDER_WAY;
	run_say(detail, "HTTP %d, but the body does not hold \"%.100s\": %.200s", head->status, expect_body,
		buf_str(&body));
	return RUN_FAILED;
}

enum run_end http_judge(const struct buf *answer, bool ended, const struct http_expect *expect, struct buf *detail)
{
	struct head head;
	int r = read_head(buf_str(answer), answer->len, &head);

	if (r == 0 && !ended)
		return RUN_UNDER_WAY;
	if (r == 0) {
		run_say(detail, answer->len == 0 ? "the connection was closed without an answer"
						 : "the answer ended in its head");
		return RUN_FAILED;
	}
	if (r < 0) {
		run_say(detail, "the answer is not HTTP: %.100s", buf_str(answer));
		return RUN_FAILED;
	}
	if (!check_status_is_expected(expect->status, (unsigned) head.status)) {
		run_say(detail, "HTTP %d: %.300s", head.status, head.body);
		return RUN_FAILED;
	}
	if (expect->body)
		return judge_body(&head, ended, expect->body, detail);
	/* Servers close behind their answer, as they were asked to; only a length tells earlier. */
	if (expect->whole && !is_complete(&head, ended))
		return RUN_UNDER_WAY;
	run_say(detail, "HTTP %d", head.status);
	return RUN_HELD;
}

int http_body(const struct buf *answer, struct buf *ret)
{
	struct head head;
	bool all = false;

	if (read_head(buf_str(answer), answer->len, &head) <= 0)
		return -ERR_SYNTAX;
	if (!head.chunked && head.has_length && head.length < head.body_len)
		head.body_len = (size_t) head.length;
	if (!head.chunked)
		return head.has_length && head.body_len < head.length ? -ERR_LENGTH
								      : buf_add(ret, head.body, head.body_len);
	join_chunks(head.body, head.body_len, ret, &all);
	return all ? 0 : -ERR_LENGTH;
}
