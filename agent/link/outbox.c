#include "agent/link/outbox.h"

#include "base/err.h"
#include "base/text.h"
#include "os/durable.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The file: the sequence in decimal, a newline, the signed report. */

static int load_report(struct outbox *o)
{
	CLEANUP(buf_done)
	struct buf file = BUF_INIT(OUTBOX_REPORT_MAX + 32);
	char *newline;
	uint64_t sequence;
	size_t head;
	int r;

	r = file_read(o->os, o->dirfd, "report", file.max, &file);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	newline = file.len > 0 ? memchr(file.data, '\n', file.len) : NULL;
	if (!newline)
		return -ERR_SYNTAX;
	*newline = '\0';
	r = parse_u64((const char *) file.data, &sequence);
	if (r < 0)
		return r;
	head = (size_t) ((uint8_t *) newline - file.data) + 1;
	r = buf_add(&o->report, file.data + head, file.len - head);
	if (r < 0)
		return r;
	o->sequence = sequence;
	return 0;
}

int outbox_open(const struct os *os, int dirfd, struct outbox *ret)
{
	struct outbox o = { .os = os, .dirfd = dirfd, .report = BUF_INIT(OUTBOX_REPORT_MAX) };
	int r = load_report(&o);

	if (r == -ENOMEM || r == -EIO) {
		buf_done(&o.report);
		return r;
	}
	if (r < 0)
		buf_clear(&o.report); /* damaged: dropped, see the header */
	*ret = o;
	return 0;
}

void outbox_close(struct outbox *o)
{
	buf_done(&o->report);
	o->sequence = 0;
}

int outbox_put(struct outbox *o, uint64_t sequence, const void *report, size_t len)
{
	CLEANUP(buf_done)
	struct buf file = BUF_INIT(OUTBOX_REPORT_MAX + 32);
	int r;

	if (len > OUTBOX_REPORT_MAX)
		return -ERR_TOO_LARGE;
	r = buf_addf(&file, "%" PRIu64 "\n", sequence);
	if (r < 0)
		return r;
	r = buf_add(&file, report, len);
	if (r < 0)
		return r;
	r = durable_write_file(o->os, o->dirfd, "report", file.data, file.len, 0600);
	if (r < 0)
		return r;
	buf_clear(&o->report);
	r = buf_add(&o->report, report, len);
	if (r < 0) {
		o->sequence = 0;
		return r;
	}
	o->sequence = sequence;
	return 0;
}

int outbox_acked(struct outbox *o, uint64_t sequence)
{
	int r;

	if (o->sequence == 0 || o->sequence > sequence)
		return 0;
	r = o->os->unlinkat(o->os, o->dirfd, "report", 0);
	if (r < 0 && r != -ENOENT)
		return r;
	o->sequence = 0;
	buf_clear(&o->report);
	/* Without this sync the report might return after a power cut and be sent once more: harmless, so not fatal. */
	return dir_sync(o->os, o->dirfd, ".");
}

int outbox_next_counter(struct outbox *o, uint64_t *ret)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(32);
	uint64_t counter = 0;
	char line[32];
	int n, r;

	r = file_read(o->os, o->dirfd, "counter", text.max, &text);
	if (r == 0) {
		text.len = strcspn(buf_str(&text), "\n");
		if (text.data)
			text.data[text.len] = '\0';
		if (parse_u64(buf_str(&text), &counter) < 0)
			counter = 0; /* damaged: display only, start over */
	} else if (r != -ENOENT && r != -ERR_TOO_LARGE) {
		return r;
	}
	counter++;
	n = snprintf(line, sizeof(line), "%" PRIu64 "\n", counter);
	r = durable_write_file(o->os, o->dirfd, "counter", line, (size_t) n, 0600);
	if (r < 0)
		return r;
	*ret = counter;
	return 0;
}
