#include "agent/link/outbox.h"

#include "base/err.h"
#include "base/text.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
	HEADER_MAX = 96,
	EVENTS_FILE_MAX = OUTBOX_EVENTS_MAX * (OUTBOX_EVENT_BYTES_MAX + HEADER_MAX),
	ROOM = OUTBOX_EVENTS_MAX /
	       4, /* how many make room at once, so that a full queue is not written whole each time */
};

/* The file `report`: the sequence in decimal, a newline, the signed report. */

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

/*
 * The file `events`: records one behind the other, "NUMBER DROPPED LENGTH SUM\n", the event, "\n".
 * The sum finds what a power cut tore: from the first record that is none, nothing is taken.
 */

static uint32_t sum_of(const uint8_t *data, size_t len)
{
	uint32_t sum = 2166136261u;

	for (size_t i = 0; i < len; i++)
		sum = (sum ^ data[i]) * 16777619u;
	return sum;
}

static int add_record(struct buf *out, const struct outbox_event *e, uint64_t dropped)
{
	int r = buf_addf(out, "%" PRIu64 " %" PRIu64 " %zu %08" PRIx32 "\n", e->number, dropped, e->len,
			 sum_of(e->data, e->len));

	if (r == 0)
		r = buf_add(out, e->data, e->len);
	return r == 0 ? buf_add_byte(out, '\n') : r;
}

static int push_event(struct outbox *o, uint64_t number, const void *data, size_t len)
{
	struct outbox_event *e;
	uint8_t *copy;

	if (!o->events) {
		o->events = calloc(OUTBOX_EVENTS_MAX, sizeof(*o->events));
		if (!o->events)
			return -ENOMEM;
	}
	copy = malloc(len + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, data, len);
	copy[len] = '\0';
	e = &o->events[o->event_count++];
	*e = (struct outbox_event){ .number = number, .len = len, .data = copy };
	o->last_number = number;
	return 0;
}

static void drop_oldest(struct outbox *o, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(o->events[i].data);
	o->event_count -= count;
	memmove(o->events, o->events + count, o->event_count * sizeof(*o->events));
}

static bool take_number(const char **p, const char *end, uint64_t *ret)
{
	char digits[24];
	size_t n = 0;

	while (*p < end && n < sizeof(digits) - 1 && **p >= '0' && **p <= '9')
		digits[n++] = *(*p)++;
	digits[n] = '\0';
	if (*p >= end || **p != ' ' || parse_u64(digits, ret) < 0)
		return false;
	(*p)++;
	return true;
}

/* One record at *p; false at the end or at what is none. */
static bool take_record(struct outbox *o, const char **p, const char *end)
{
	uint64_t number, dropped, len;
	const char *at = *p;
	uint8_t sum[4];
	char hex[9];

	if (!take_number(&at, end, &number) || !take_number(&at, end, &dropped) || !take_number(&at, end, &len) ||
	    end - at < 9 || at[8] != '\n')
		return false;
	(void) snprintf(hex, sizeof(hex), "%.8s", at); /* exactly eight */
	at += 9;
	if (hex_decode(sum, sizeof(sum), hex, false) < 0 || len > OUTBOX_EVENT_BYTES_MAX ||
	    (uint64_t) (end - at) < len + 1 || at[len] != '\n' || number <= o->last_number ||
	    o->event_count >= OUTBOX_EVENTS_MAX)
		return false;
	if (sum_of((const uint8_t *) at, (size_t) len) !=
	    ((uint32_t) sum[0] << 24 | (uint32_t) sum[1] << 16 | (uint32_t) sum[2] << 8 | sum[3]))
		return false;
	if (push_event(o, number, at, (size_t) len) < 0)
		return false;
	o->dropped = dropped;
	*p = at + len + 1;
	return true;
}

/* The whole queue anew: durable_write_file leaves the old file or this one. */
static int write_events(struct outbox *o)
{
	CLEANUP(buf_done)
	struct buf file = BUF_INIT(EVENTS_FILE_MAX);
	int r = 0;

	for (size_t i = 0; r == 0 && i < o->event_count; i++)
		r = add_record(&file, &o->events[i], o->dropped);
	return r < 0 ? r : durable_write_file(o->os, o->dirfd, "events", file.data, file.len, 0600);
}

static int load_events(struct outbox *o)
{
	CLEANUP(buf_done)
	struct buf file = BUF_INIT(EVENTS_FILE_MAX);
	int r = file_read(o->os, o->dirfd, "events", file.max, &file);
	const char *p = buf_str(&file), *end = p + file.len;

	if (r == -ENOENT || r == -ERR_TOO_LARGE)
		return r == -ENOENT ? 0 : write_events(o); /* too large is none of ours */
	if (r < 0)
		return r;
	while (take_record(o, &p, end))
		;
	/* A torn tail must go before anything is appended behind it. */
	return p == end ? 0 : write_events(o);
}

static int load_queue_name(struct outbox *o)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(64);
	uint8_t bytes[OUTBOX_QUEUE_NAME / 2];
	int r = file_read(o->os, o->dirfd, "queue", text.max, &text);

	if (r == 0 && text.len == OUTBOX_QUEUE_NAME &&
	    hex_decode(bytes, sizeof(bytes), buf_str(&text), false) == 0) {
		memcpy(o->queue, text.data, OUTBOX_QUEUE_NAME + 1);
		return 0;
	}
	if (r < 0 && r != -ENOENT && r != -ERR_TOO_LARGE)
		return r;
	r = o->os->random(o->os, bytes, sizeof(bytes));
	if (r < 0)
		return r;
	hex_encode(o->queue, bytes, sizeof(bytes));
	return durable_write_file(o->os, o->dirfd, "queue", o->queue, OUTBOX_QUEUE_NAME, 0600);
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
	r = load_queue_name(&o);
	if (r == 0)
		r = load_events(&o);
	if (r == -ENOMEM || r == -EIO) {
		outbox_close(&o);
		return r;
	}
	/* Another failure (a full disk) costs what events are kept for, not the link. */
	*ret = o;
	return 0;
}

void outbox_close(struct outbox *o)
{
	if (o->event_count > 0)
		drop_oldest(o, o->event_count);
	free(o->events);
	o->events = NULL;
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

/* Append the newest event. The folder is synced when the file is new, else its name is there already. */
static int append_event(struct outbox *o)
{
	CLEANUP(buf_done)
	struct buf record = BUF_INIT(OUTBOX_EVENT_BYTES_MAX + HEADER_MAX);
	struct stat st;
	bool is_new = o->os->fstatat(o->os, o->dirfd, "events", &st) < 0;
	int fd, r = add_record(&record, &o->events[o->event_count - 1], o->dropped);

	if (r < 0)
		return r;
	fd = o->os->openat(o->os, o->dirfd, "events", O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (fd < 0)
		return fd;
	r = file_write_all(o->os, fd, record.data, record.len);
	if (r == 0)
		r = o->os->fsync(o->os, fd);
	(void) o->os->close(o->os, fd); /* synced, or reported as failed */
	return r == 0 && is_new ? dir_sync(o->os, o->dirfd, ".") : r;
}

int outbox_add_event(struct outbox *o, uint64_t base, const void *event, size_t len)
{
	bool full = o->event_count >= OUTBOX_EVENTS_MAX;
	int r;

	if (len > OUTBOX_EVENT_BYTES_MAX)
		return -ERR_TOO_LARGE;
	if (full) {
		drop_oldest(o, ROOM);
		o->dropped += ROOM;
	}
	r = push_event(o, (o->last_number > base ? o->last_number : base) + 1, event, len);
	if (r < 0)
		return r;
	if (full || o->torn) {
		r = write_events(o);
		o->torn = r < 0;
		return r;
	}
	r = append_event(o);
	o->torn = r < 0; /* part of it may be there: the next time all is written anew */
	return r;
}

struct outbox_event *outbox_unsent(struct outbox *o)
{
	for (size_t i = 0; i < o->event_count; i++)
		if (!o->events[i].sent)
			return &o->events[i];
	return NULL;
}

void outbox_report_sent(struct outbox *o)
{
	for (size_t i = 0; i < o->event_count; i++)
		if (o->events[i].sent && o->events[i].covered_by == 0)
			o->events[i].covered_by = o->sequence;
}

void outbox_connection_lost(struct outbox *o)
{
	for (size_t i = 0; i < o->event_count; i++) {
		o->events[i].sent = false;
		o->events[i].covered_by = 0;
	}
}

/* Sent in order and covered in order: those at the front. If the disk fails they are sent once more, and known by number. */
static int forget_covered(struct outbox *o, uint64_t sequence)
{
	size_t count = 0;

	while (count < o->event_count && o->events[count].covered_by != 0 &&
	       o->events[count].covered_by <= sequence)
		count++;
	if (count == 0)
		return 0;
	drop_oldest(o, count);
	return write_events(o);
}

int outbox_acked(struct outbox *o, uint64_t sequence)
{
	int r = forget_covered(o, sequence);

	if (r < 0)
		return r;

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
