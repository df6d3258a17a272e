#include "zone/zone.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"
#include "os/os.h"
#include "zone/calendar.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
	HEADER_BYTES = 44,
	TRANSITIONS_MAX = 2000, /* as tzcode's own reader; the longest real file has some 240 */
	TYPES_MAX = 256,
	CHARS_MAX = 512,
	FILE_MAX = 64 * 1024,
	FOOTER_MAX = 128,
	ABBREVIATION_MAX = 16,
	OFFSET_MIN = -89999, /* RFC 8536, 3.2: more than -25 h, less than 26 h */
	OFFSET_MAX = 93599,
	DAY = 86400,
	LINKS_MAX = 4,
};

static const int64_t utc_min = -62135596800, utc_max = 253402300799; /* years 1 to 9999 */
static const char zone_folder[] = "/usr/share/zoneinfo";

struct type {
	int32_t offset;
	bool is_dst;
	const char *abbreviation;
};

/* When daylight saving begins or ends each year (POSIX TZ). */
enum rule_kind {
	RULE_JULIAN /* Jn: 1 to 365, without 29 February */,
	RULE_DAY /* n: 0 to 365 */,
	RULE_WEEKDAY /* Mm.w.d */
};
struct rule {
	enum rule_kind kind;
	int day; /* of the year */
	int month, week, weekday; /* weekday 0 is Sunday, as the string has it */
	int64_t time; /* seconds of local time after that day's midnight, -167 h to 167 h */
};

/* What holds after the last transition of the table. */
struct footer {
	bool present, has_dst;
	struct type standard, dst;
	char standard_name[ABBREVIATION_MAX], dst_name[ABBREVIATION_MAX];
	struct rule start, end; /* of dst */
};

struct zone {
	size_t transition_count, type_count;
	int64_t *transitions; /* ascending */
	uint8_t *transition_types;
	struct type types[TYPES_MAX];
	char chars[CHARS_MAX + 1];
	struct footer footer;
};

static int64_t floor_days(int64_t seconds)
{
	return seconds >= 0 ? seconds / DAY : -((-seconds + DAY - 1) / DAY);
}

/* --- reading: the footer ------------------------------------------------------------------------------------ */

static bool is_name_char(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* "CET" or "<+1030>" */
static int read_name(const char **at, char ret[static ABBREVIATION_MAX])
{
	const char *start = *at, *end = start;
	bool quoted = *start == '<';

	if (quoted) {
		start = ++end;
		while (is_name_char(*end) || (*end >= '0' && *end <= '9') || *end == '+' || *end == '-')
			end++;
	} else {
		while (is_name_char(*end))
			end++;
	}
	if (end - start < 3 || end - start >= ABBREVIATION_MAX || (quoted && *end != '>'))
		return -ERR_SYNTAX;
	memcpy(ret, start, (size_t) (end - start));
	ret[end - start] = '\0';
	*at = quoted ? end + 1 : end;
	return 0;
}

static int read_number(const char **at, int max, int *ret)
{
	int v = 0;

	if (**at < '0' || **at > '9')
		return -ERR_SYNTAX;
	while (**at >= '0' && **at <= '9') {
		v = v * 10 + (*(*at)++ - '0');
		if (v > max)
			return -ERR_SYNTAX;
	}
	*ret = v;
	return 0;
}

/* [+-]hh[:mm[:ss]] */
static int read_time(const char **at, int hours_max, int64_t *ret)
{
	bool negative = **at == '-';
	int parts[3] = { 0, 0, 0 };
	int r;

	if (**at == '-' || **at == '+')
		(*at)++;
	r = read_number(at, hours_max, &parts[0]);
	for (int i = 1; r == 0 && i < 3 && **at == ':'; i++) {
		(*at)++;
		r = read_number(at, 59, &parts[i]);
	}
	if (r < 0)
		return r;
	*ret = ((int64_t) parts[0] * 3600 + parts[1] * 60 + parts[2]) * (negative ? -1 : 1);
	return 0;
}

/* ",M10.5.0/3" */
static int read_rule(const char **at, struct rule *ret)
{
	int r;

	if (*(*at)++ != ',')
		return -ERR_SYNTAX;
	ret->time = 2 * 3600;
	if (**at == 'M') {
		(*at)++;
		ret->kind = RULE_WEEKDAY;
		r = read_number(at, 12, &ret->month);
		if (r == 0 && *(*at)++ != '.')
			r = -ERR_SYNTAX;
		if (r == 0)
			r = read_number(at, 5, &ret->week);
		if (r == 0 && *(*at)++ != '.')
			r = -ERR_SYNTAX;
		if (r == 0)
			r = read_number(at, 6, &ret->weekday);
		if (r == 0 && (ret->month == 0 || ret->week == 0))
			r = -ERR_SYNTAX;
	} else if (**at == 'J') {
		(*at)++;
		ret->kind = RULE_JULIAN;
		r = read_number(at, 365, &ret->day);
		if (r == 0 && ret->day == 0)
			r = -ERR_SYNTAX;
	} else {
		ret->kind = RULE_DAY;
		r = read_number(at, 365, &ret->day);
	}
	if (r < 0 || **at != '/')
		return r;
	(*at)++;
	return read_time(at, 167, &ret->time); /* beyond a day since version 3 */
}

static int set_type(struct type *type, int64_t west, bool is_dst, const char *name)
{
	if (-west < OFFSET_MIN || -west > OFFSET_MAX)
		return -ERR_SYNTAX;
	*type = (struct type){ .offset = (int32_t) -west, .is_dst = is_dst, .abbreviation = name };
	return 0;
}

/* "CET-1CEST,M3.5.0,M10.5.0/3": POSIX counts offsets to the west. */
static int parse_footer(const char *text, struct footer *ret)
{
	const char *at = text;
	int64_t west;
	int r;

	r = read_name(&at, ret->standard_name);
	if (r == 0)
		r = read_time(&at, 24, &west);
	if (r == 0)
		r = set_type(&ret->standard, west, false, ret->standard_name);
	if (r < 0)
		return r;
	ret->present = true;
	if (*at == '\0')
		return 0;

	r = read_name(&at, ret->dst_name);
	west -= 3600;
	if (r == 0 && *at != ',')
		r = read_time(&at, 24, &west);
	if (r == 0)
		r = set_type(&ret->dst, west, true, ret->dst_name);
	if (r == 0)
		r = read_rule(&at, &ret->start);
	if (r == 0)
		r = read_rule(&at, &ret->end);
	if (r < 0)
		return r;
	ret->has_dst = true;
	return *at == '\0' ? 0 : -ERR_SYNTAX;
}

/* --- reading: the file -------------------------------------------------------------------------------------- */

struct header {
	uint8_t version;
	uint32_t isut_count, isstd_count, leap_count, time_count, type_count, char_count;
};

struct bytes {
	const uint8_t *at;
	size_t left;
};

static const uint8_t *take(struct bytes *b, size_t len)
{
	const uint8_t *at = b->at;

	if (b->left < len)
		return NULL;
	b->at += len;
	b->left -= len;
	return at;
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16 | (uint32_t) p[2] << 8 | p[3];
}

static int64_t be_time(const uint8_t *p, size_t size)
{
	if (size == 4)
		return (int32_t) be32(p);
	return (int64_t) ((uint64_t) be32(p) << 32 | be32(p + 4));
}

static int read_header(struct bytes *b, struct header *ret)
{
	const uint8_t *p = take(b, HEADER_BYTES);

	if (!p || memcmp(p, "TZif", 4) != 0)
		return -ERR_SYNTAX;
	ret->version = p[4] == '\0' ? 1 : (uint8_t) (p[4] - '0');
	if (ret->version < 1 || ret->version > 4 || p[4] == '1')
		return -ERR_SYNTAX;
	ret->isut_count = be32(p + 20);
	ret->isstd_count = be32(p + 24);
	ret->leap_count = be32(p + 28);
	ret->time_count = be32(p + 32);
	ret->type_count = be32(p + 36);
	ret->char_count = be32(p + 40);
	if (ret->time_count > TRANSITIONS_MAX || ret->type_count > TYPES_MAX || ret->char_count > CHARS_MAX ||
	    ret->leap_count > TRANSITIONS_MAX)
		return -ERR_TOO_LARGE;
	if (ret->type_count == 0 || ret->char_count == 0)
		return -ERR_SYNTAX;
	if ((ret->isut_count != 0 && ret->isut_count != ret->type_count) ||
	    (ret->isstd_count != 0 && ret->isstd_count != ret->type_count))
		return -ERR_SYNTAX;
	return 0;
}

static size_t block_size(const struct header *h, size_t time_size)
{
	return h->time_count * (time_size + 1) + h->type_count * 6 + h->char_count +
	       h->leap_count * (time_size + 4) + h->isstd_count + h->isut_count;
}

static int read_transitions(const struct header *h, size_t time_size, struct bytes *b, struct zone *z)
{
	static const int64_t earliest =
		-((int64_t) 1 << 59); /* RFC 8536, 3.2: no transition before the Big Bang */
	const uint8_t *times = take(b, h->time_count * time_size), *types = take(b, h->time_count);

	if (h->time_count == 0)
		return 0;
	z->transitions = calloc(h->time_count, sizeof(*z->transitions));
	z->transition_types = calloc(h->time_count, 1);
	if (!z->transitions || !z->transition_types)
		return -ENOMEM;
	for (uint32_t i = 0; i < h->time_count; i++) {
		z->transitions[i] = be_time(times + i * time_size, time_size);
		z->transition_types[i] = types[i];
		if (types[i] >= h->type_count || z->transitions[i] < earliest ||
		    (i > 0 && z->transitions[i] <= z->transitions[i - 1]))
			return -ERR_SYNTAX;
	}
	z->transition_count = h->time_count;
	return 0;
}

static int read_types(const struct header *h, struct bytes *b, struct zone *z)
{
	const uint8_t *types = take(b, h->type_count * 6), *chars = take(b, h->char_count);

	memcpy(z->chars, chars, h->char_count); /* one more byte behind: always terminated */
	for (uint32_t i = 0; i < h->type_count; i++) {
		const uint8_t *p = types + i * 6;
		int32_t offset = (int32_t) be32(p);

		if (offset < OFFSET_MIN || offset > OFFSET_MAX || p[4] > 1 || p[5] >= h->char_count)
			return -ERR_SYNTAX;
		z->types[i] =
			(struct type){ .offset = offset, .is_dst = p[4] == 1, .abbreviation = z->chars + p[5] };
	}
	z->type_count = h->type_count;
	return 0;
}

static int read_footer(struct bytes *b, struct zone *z)
{
	char text[FOOTER_MAX + 1];
	const uint8_t *newline, *end;
	size_t len;

	newline = take(b, 1);
	if (!newline || *newline != '\n')
		return -ERR_SYNTAX;
	end = b->left ? memchr(b->at, '\n', b->left) : NULL;
	if (!end)
		return -ERR_SYNTAX;
	len = (size_t) (end - b->at);
	if (len == 0)
		return 0;
	if (len > FOOTER_MAX || memchr(b->at, '\0', len))
		return -ERR_SYNTAX;
	memcpy(text, b->at, len);
	text[len] = '\0';
	return parse_footer(text, &z->footer);
}

int zone_parse(const void *data, size_t len, struct zone **ret)
{
	struct bytes b = { .at = data, .left = len };
	CLEANUP(zone_freep)
	struct zone *z = NULL;
	struct header h;
	size_t time_size = 4;
	int r;

	if (len > FILE_MAX)
		return -ERR_TOO_LARGE;
	r = read_header(&b, &h);
	if (r < 0)
		return r;
	if (h.version >= 2) { /* the same again in 64 bits follows */
		uint8_t version = h.version;

		if (!take(&b, block_size(&h, 4)))
			return -ERR_SYNTAX;
		r = read_header(&b, &h);
		if (r < 0)
			return r;
		if (h.version != version)
			return -ERR_SYNTAX;
		time_size = 8;
	}
	if (b.left < block_size(&h, time_size))
		return -ERR_SYNTAX;
	if (h.leap_count > 0)
		return -ERR_FIELD_VALUE;

	z = calloc(1, sizeof(*z));
	if (!z)
		return -ENOMEM;
	r = read_transitions(&h, time_size, &b, z);
	if (r == 0)
		r = read_types(&h, &b, z);
	if (r < 0)
		return r;
	(void) take(&b,
		    h.isstd_count + h.isut_count); /* there, as was checked; they serve other TZ strings only */
	if (h.version >= 2) {
		r = read_footer(&b, z);
		if (r < 0)
			return r;
	}
	*ret = z;
	z = NULL;
	return 0;
}

void zone_free(struct zone *z)
{
	if (!z)
		return;
	free(z->transitions);
	free(z->transition_types);
	free(z);
}

/* --- loading by name ---------------------------------------------------------------------------------------- */

static bool is_zone_name(const char *name)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-/";

	return name && guard_path(name) && strlen(name) < 64 && name[strspn(name, allowed)] == '\0';
}

/* The path a link's target has within the folder: links are relative to where they lie. -ERR_NAME if it leaves. */
static int follow(const char *path, const char *target, char out[static 256])
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t) (slash - path) : 0;

	if (len + strlen(target) + 2 > 256)
		return -ERR_NAME;
	memcpy(out, path, len);
	out[len] = '\0';
	while (str_starts(target, "../")) {
		char *up;

		if (len == 0)
			return -ERR_NAME;
		up = strrchr(out, '/');
		len = up ? (size_t) (up - out) : 0;
		out[len] = '\0';
		target += 3;
	}
	if (len > 0)
		out[len++] = '/';
	memcpy(out + len, target, strlen(target) + 1);
	return is_zone_name(out) ? 0 : -ERR_NAME;
}

/* Open `name` below the folder; the seam follows no links, and Debian's database is full of them. */
static int open_zone(const struct os *os, int folder, const char *name)
{
	char path[256], target[256], next[256];

	memcpy(path, name, strlen(name) + 1); /* is_zone_name() bounds it */
	for (int links = 0; links <= LINKS_MAX; links++) {
		int fd = os->openat(os, folder, path, O_RDONLY | O_NONBLOCK, 0);
		ssize_t n;
		int r;

		if (fd != -ELOOP)
			return fd;
		n = os->readlinkat(os, folder, path, target, sizeof(target) - 1);
		if (n < 0)
			return (int) n;
		target[n] = '\0';
		r = follow(path, target, next);
		if (r < 0)
			return r;
		memcpy(path, next, strlen(next) + 1);
	}
	return -ELOOP;
}

static int read_all(const struct os *os, int fd, struct buf *out)
{
	struct stat st;
	int r;

	r = os->fstat(os, fd, &st);
	if (r < 0)
		return r;
	if (!S_ISREG(st.st_mode)) /* "Europe" is a folder and no zone */
		return -ENOENT;
	for (;;) {
		ssize_t n;

		r = buf_reserve(out, 4096);
		if (r < 0)
			return r;
		n = os->read(os, fd, out->data + out->len, 4096);
		if (n <= 0)
			return (int) n;
		out->len += (size_t) n;
	}
}

static int load_file(const struct os *os, int folder, const char *name, struct zone **ret)
{
	CLEANUP(buf_done)
	struct buf data = BUF_INIT(FILE_MAX + 2 * 4096);
	int fd, r;

	fd = open_zone(os, folder, name);
	if (fd < 0)
		return fd == -ENOTDIR ? -ENOENT : fd;
	r = read_all(os, fd, &data);
	(void) os->close(os, fd); /* only read from */
	return r < 0 ? r : zone_parse(data.data, data.len, ret);
}

static int new_utc(struct zone **ret)
{
	struct zone *z = calloc(1, sizeof(*z));
	int r;

	if (!z)
		return -ENOMEM;
	r = parse_footer("UTC0", &z->footer);
	if (r < 0) {
		zone_free(z);
		return r;
	}
	*ret = z;
	return 0;
}

int zone_load_from(const struct os *os, const char *folder, const char *name, struct zone **ret)
{
	int fd, r;

	if (!is_zone_name(name))
		return -ERR_NAME;
	if (str_eq(name, "UTC") || str_eq(name, "Etc/UTC")) /* a minimal system has no database */
		return new_utc(ret);
	fd = os->openat(os, AT_FDCWD, folder, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd == -ENOENT ? -ENOPKG : fd;
	r = load_file(os, fd, name, ret);
	(void) os->close(os, fd); /* only read from */
	return r;
}

int zone_load(const struct os *os, const char *name, struct zone **ret)
{
	return zone_load_from(os, zone_folder, name, ret);
}

/* --- the edition of the database --- */

bool zone_is_edition(const char *name)
{
	size_t digits = strspn(name, "0123456789"), letters = strspn(name + digits, "abcdefghijklmnopqrstuvwxyz");

	return digits == 4 && letters >= 1 && letters <= 2 && name[digits + letters] == '\0';
}

/* Editions are numbered through the year; one a month is more than there ever were. */
static int64_t published_at(const char *edition)
{
	int year =
		(edition[0] - '0') * 1000 + (edition[1] - '0') * 100 + (edition[2] - '0') * 10 + edition[3] - '0';
	int month = edition[5] ? 12 : edition[4] - 'a' + 1;

	return calendar_days(year, month > 12 ? 12 : month, 1) * DAY;
}

/* The first word after `before` in the first bytes of a file. */
static int read_word(const struct os *os, int dirfd, const char *file, const char *before,
		     char ret[static ZONE_EDITION_SIZE])
{
	char text[64];
	size_t skip = strlen(before), len;
	ssize_t n;
	int fd = os->openat(os, dirfd, file, O_RDONLY, 0);

	if (fd < 0)
		return fd;
	n = os->pread(os, fd, text, sizeof(text) - 1, 0);
	(void) os->close(os, fd); /* only read from */
	if (n < 0)
		return (int) n;
	text[n] = '\0';
	len = strncmp(text, before, skip) == 0 ? strcspn(text + skip, " \t\r\n") : 0;
	if (len == 0 || len >= ZONE_EDITION_SIZE)
		return -ERR_SYNTAX;
	memcpy(ret, text + skip, len);
	ret[len] = '\0';
	return zone_is_edition(ret) ? 0 : -ERR_SYNTAX;
}

int zone_edition_from(const struct os *os, const char *folder, char ret_name[static ZONE_EDITION_SIZE],
		      int64_t *ret_published)
{
	char name[ZONE_EDITION_SIZE];
	int fd = os->openat(os, AT_FDCWD, folder, O_RDONLY | O_DIRECTORY, 0);
	int r;

	if (fd < 0)
		return fd;
	/* Distributions install the sources as one file; others, and the makers' own Makefile, a +VERSION. */
	r = read_word(os, fd, "tzdata.zi", "# version ", name);
	if (r == -ENOENT)
		r = read_word(os, fd, "+VERSION", "", name);
	(void) os->close(os, fd); /* only read from */
	if (r < 0)
		return r;
	memcpy(ret_name, name, sizeof(name));
	*ret_published = published_at(name);
	return 0;
}

int zone_edition(const struct os *os, char ret_name[static ZONE_EDITION_SIZE], int64_t *ret_published)
{
	return zone_edition_from(os, zone_folder, ret_name, ret_published);
}

/* --- looking up --------------------------------------------------------------------------------------------- */

/* A stretch of time over which the offset does not change: [start, end). */
struct segment {
	int64_t start, end;
	const struct type *type;
};

static int64_t day_of_rule(const struct rule *rule, int year)
{
	int64_t first;

	switch (rule->kind) {
	case RULE_DAY:
		return calendar_days(year, 1, 1) + rule->day;
	case RULE_JULIAN:
		return calendar_days(year, 1, 1) + rule->day - 1 + (calendar_is_leap(year) && rule->day >= 60);
	case RULE_WEEKDAY:
		break;
	}
	first = calendar_days(year, rule->month, 1);
	/* The string's Sunday is 0, ours 6. */
	first += (rule->weekday + 6 - calendar_weekday(first) + 7) % 7;
	first += (rule->week - 1) * 7;
	if (first >= calendar_days(year, rule->month, 1) +
			     calendar_days_of_month(year, rule->month)) /* week 5: the last one */
		first -= 7;
	return first;
}

/* What the footer says of the time around `utc`. */
static struct segment footer_segment(const struct footer *f, int64_t utc)
{
	struct segment s = { INT64_MIN, INT64_MAX, &f->standard };
	int now, month, day;

	if (!f->has_dst)
		return s;
	calendar_date(floor_days(utc), &now, &month, &day);
	/* Rules reach a week beyond their year, offsets a day: two years around hold the neighbours of any moment. */
	for (int year = now - 2; year <= now + 2; year++) {
		int64_t start = day_of_rule(&f->start, year) * DAY + f->start.time - f->standard.offset;
		int64_t end = day_of_rule(&f->end, year) * DAY + f->end.time - f->dst.offset;

		if (end <= utc && end > s.start) {
			s.start = end;
			s.type = &f->standard;
		}
		/* On a tie with an end daylight saving goes on: that is how a footer says «all year». */
		if (start <= utc && start >= s.start) {
			s.start = start;
			s.type = &f->dst;
		}
		if (end > utc && end < s.end)
			s.end = end;
		if (start > utc && start < s.end)
			s.end = start;
	}
	return s;
}

static struct segment segment_at(const struct zone *z, int64_t utc)
{
	size_t low = 0, high = z->transition_count;
	struct segment s;

	while (low < high) { /* the first transition after utc */
		size_t middle = low + (high - low) / 2;

		if (z->transitions[middle] <= utc)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == z->transition_count && z->footer.present) {
		s = footer_segment(&z->footer, utc);
		if (low > 0 && s.start < z->transitions[low - 1])
			s.start = z->transitions[low - 1];
		return s;
	}
	s.start = low > 0 ? z->transitions[low - 1] : INT64_MIN;
	s.end = low < z->transition_count ? z->transitions[low] : INT64_MAX;
	s.type = &z->types[low > 0 ? z->transition_types[low - 1] : 0];
	return s;
}

int zone_local(const struct zone *z, int64_t utc, struct zone_time *ret)
{
	int64_t local, days, seconds;
	struct segment s;

	if (utc < utc_min || utc > utc_max)
		return -ERR_FIELD_VALUE;
	s = segment_at(z, utc);
	local = utc + s.type->offset;
	days = floor_days(local);
	seconds = local - days * DAY;
	calendar_date(days, &ret->year, &ret->month, &ret->day);
	ret->hour = (int) (seconds / 3600);
	ret->minute = (int) (seconds / 60 % 60);
	ret->second = (int) (seconds % 60);
	ret->weekday = calendar_weekday(days);
	ret->offset = s.type->offset;
	ret->is_dst = s.type->is_dst;
	ret->abbreviation = s.type->abbreviation;
	return 0;
}

static bool is_date_and_time(const struct zone_time *t)
{
	if (t->year < 1 || t->year > 9999 || t->month < 1 || t->month > 12 || t->day < 1 ||
	    t->day > calendar_days_of_month(t->year, t->month))
		return false;
	if (t->hour == 24)
		return t->minute == 0 && t->second == 0;
	return t->hour >= 0 && t->hour < 24 && t->minute >= 0 && t->minute < 60 && t->second >= 0 &&
	       t->second < 60;
}

int zone_utc(const struct zone *z, const struct zone_time *local, struct zone_moment *ret)
{
	struct zone_moment exact = { 0, false, false }, later = { 0, true, false };
	bool found_exact = false, found_later = false;
	int64_t reading, last;
	struct segment s;

	if (!is_date_and_time(local))
		return -ERR_FIELD_VALUE;
	reading = calendar_days(local->year, local->month, local->day) * DAY + local->hour * 3600 +
		  local->minute * 60 + local->second;
	last = reading - OFFSET_MIN;
	s = segment_at(z, reading - OFFSET_MAX);
	for (;;) {
		int64_t utc = reading - s.type->offset;

		if (utc >= s.start && utc < s.end) {
			if (found_exact)
				exact.repeated = true;
			else
				exact.utc = utc;
			found_exact = true;
		} else if (utc < s.start && !found_later) {
			later.utc = s.start;
			found_later = true;
		}
		if (s.end > last)
			break;
		s = segment_at(z, s.end);
	}
	/* One of both: the first segment begins before the reading, the last one ends after it. */
	*ret = found_exact ? exact : later;
	return 0;
}
