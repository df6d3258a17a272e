/* Each sentence of zone/zone.h; zones.txt is what another implementation says (make_zones.py). */
#include "base/err.h"
#include "base/text.h"
#include "os/durable.h"
#include "os/os.h"
#include "zone/calendar.h"
#include "zone/zone.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define ZONEINFO TESTS_DIR "/unit/data/zoneinfo/"

static struct zone *loaded(const char *folder, const char *name)
{
	struct zone *z = NULL;
	int r = zone_load_from(&os_posix, folder, name, &z);

	if (r < 0)
		fail_msg("%s/%s: %s", folder, name, err_name(r));
	return z;
}

static void check_local(const struct zone *z, const char *zone, const char *line)
{
	struct zone_time t, e;
	char abbreviation[16];
	long long utc;
	int is_dst;

	assert_int_equal(sscanf(line, "L %lld %d %d %d %d %d %d %d %d %d %15s", &utc, &e.year, &e.month, &e.day,
				&e.hour, &e.minute, &e.second, &e.weekday, &e.offset, &is_dst, abbreviation),
			 11);
	assert_int_equal(zone_local(z, utc, &t), 0);
	if (t.year != e.year || t.month != e.month || t.day != e.day || t.hour != e.hour || t.minute != e.minute ||
	    t.second != e.second || t.weekday != e.weekday || t.offset != e.offset || t.is_dst != (is_dst == 1) ||
	    strcmp(t.abbreviation, abbreviation) != 0)
		fail_msg("%s: %s, not %d-%d-%d %d:%d:%d %d %d %d %s", zone, line, t.year, t.month, t.day, t.hour,
			 t.minute, t.second, t.weekday, t.offset, t.is_dst, t.abbreviation);
}

static void check_moment(const struct zone *z, const char *zone, const char *line)
{
	struct zone_time t = { .year = 0 };
	struct zone_moment m;
	int skipped, repeated;
	long long utc;

	assert_int_equal(sscanf(line, "U %d %d %d %d %d %d %lld %d %d", &t.year, &t.month, &t.day, &t.hour,
				&t.minute, &t.second, &utc, &skipped, &repeated),
			 9);
	assert_int_equal(zone_utc(z, &t, &m), 0);
	if (m.utc != utc || m.skipped != (skipped == 1) || m.repeated != (repeated == 1))
		fail_msg("%s: %s, not %lld %d %d", zone, line, (long long) m.utc, m.skipped, m.repeated);
}

static void check_vectors(const char *folder)
{
	CLEANUP(zone_freep)
	struct zone *z = NULL;
	size_t locals = 0, moments = 0;
	char line[256], name[64] = "";
	FILE *f;

	f = fopen(TESTS_DIR "/unit/data/zones.txt", "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		if (line[0] == 'Z') {
			assert_int_equal(sscanf(line, "Z %63s", name), 1);
			zone_free(z);
			z = loaded(folder, name);
		} else if (line[0] == 'L') {
			check_local(z, name, line);
			locals++;
		} else {
			check_moment(z, name, line);
			moments++;
		}
	}
	(void) fclose(f);
	assert_true(locals > 1500 && moments > 4000);
}

static void test_transitions_of_the_table(void **state)
{
	(void) state;
	check_vectors(ZONEINFO "fat");
}

static void test_rules_of_the_footer(void **state)
{
	(void) state;
	check_vectors(ZONEINFO "slim");
}

static void test_names_are_guarded(void **state)
{
	static const char *const bad[] = {
		"",	      "/etc/passwd",	"../../../etc/passwd", "Europe/../Berlin", "Europe//Berlin",
		"./UTC",      "Europe/Ber lin", "Europe/Berlin\n",     "Europe\\Berlin",   "UTC;",
		"Caf\xc3\xa9"
	};
	char longest[80];
	struct zone *z = NULL;

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(zone_load_from(&os_posix, ZONEINFO "fat", bad[i], &z), -ERR_NAME);
	assert_int_equal(zone_load_from(&os_posix, ZONEINFO "fat", NULL, &z), -ERR_NAME);
	memset(longest, 'a', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(zone_load_from(&os_posix, ZONEINFO "fat", longest, &z), -ERR_NAME);
	assert_int_equal(zone_load_from(&os_posix, ZONEINFO "fat", "Europe/Atlantis", &z), -ENOENT);
	assert_int_equal(zone_load_from(&os_posix, ZONEINFO "fat", "Europe", &z), -ENOENT);
	assert_int_equal(zone_load_from(&os_posix, ZONEINFO "fat", "Europe/Berlin/x", &z), -ENOENT);
	assert_int_equal(zone_load_from(&os_posix, ZONEINFO "none", "Europe/Berlin", &z), -ENOPKG);
	assert_null(z);
	zone_free(NULL);
}

static void test_utc_needs_no_database(void **state)
{
	static const char *const names[] = { "UTC", "Etc/UTC" };
	struct zone_time t;

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		CLEANUP(zone_freep)
		struct zone *z = loaded(ZONEINFO "none", names[i]);

		assert_int_equal(zone_local(z, 951782399, &t), 0);
		assert_int_equal(t.year, 2000);
		assert_int_equal(t.month, 2);
		assert_int_equal(t.day, 28);
		assert_int_equal(t.hour * 3600 + t.minute * 60 + t.second, 86399);
		assert_int_equal(t.weekday, ZONE_MONDAY);
		assert_int_equal(t.offset, 0);
		assert_false(t.is_dst);
		assert_string_equal(t.abbreviation, "UTC");
	}
}

static void copy_file(const char *from, const char *to)
{
	char data[8192];
	size_t n;
	FILE *f = fopen(from, "re");

	assert_non_null(f);
	n = fread(data, 1, sizeof(data), f);
	(void) fclose(f);
	f = fopen(to, "we");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
}

/* Debian's database links names to each other; a link may not lead out of it. */
static void test_links_within_are_followed(void **state)
{
	static const struct {
		const char *name, *target;
		int result;
	} links[] = {
		{ "Europe/Same", "Berlin", 0 },
		{ "Up", "Europe/Berlin", 0 },
		{ "US/Other", "../Europe/Same", 0 },
		{ "US/Out", "../../x", -ERR_NAME },
		{ "Absolute", "/etc/localtime", -ERR_NAME },
		{ "Up2", "../Europe/Berlin", -ERR_NAME },
		{ "Loop", "Loop", -ELOOP },
		{ "Dangling", "Nowhere", -ENOENT },
		{ "US/Dots", "./Other", -ERR_NAME },
	};
	char dir[] = "/tmp/zone.XXXXXX", path[128];

	(void) state;
	assert_non_null(mkdtemp(dir));
	(void) snprintf(path, sizeof(path), "%s/Europe", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	(void) snprintf(path, sizeof(path), "%s/US", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	(void) snprintf(path, sizeof(path), "%s/Europe/Berlin", dir);
	copy_file(ZONEINFO "fat/Europe/Berlin", path);
	for (size_t i = 0; i < ARRAY_LEN(links); i++) {
		(void) snprintf(path, sizeof(path), "%s/%s", dir, links[i].name);
		assert_int_equal(symlink(links[i].target, path), 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(links); i++) {
		CLEANUP(zone_freep)
		struct zone *z = NULL;
		int r = zone_load_from(&os_posix, dir, links[i].name, &z);

		if (r != links[i].result)
			fail_msg("%s: %s", links[i].name, err_name(r));
	}
	for (size_t i = 0; i < ARRAY_LEN(links); i++) {
		(void) snprintf(path, sizeof(path), "%s/%s", dir, links[i].name);
		assert_int_equal(unlink(path), 0);
	}
	(void) snprintf(path, sizeof(path), "%s/Europe/Berlin", dir);
	assert_int_equal(unlink(path), 0);
	(void) snprintf(path, sizeof(path), "%s/Europe", dir);
	assert_int_equal(rmdir(path), 0);
	(void) snprintf(path, sizeof(path), "%s/US", dir);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

static void test_the_systems_own_database(void **state)
{
	CLEANUP(zone_freep)
	struct zone *z = NULL;
	struct zone_time t;
	int r;

	(void) state;
	r = zone_load(&os_posix, "US/Eastern", &z);
	if (r == -ENOPKG || r == -ENOENT)
		skip(); /* no tzdata here, or without the old names */
	assert_int_equal(r, 0);
	assert_int_equal(zone_local(z, 1782000000, &t), 0); /* 2026-06-21 */
	assert_string_equal(t.abbreviation, "EDT");
	assert_int_equal(t.offset, -4 * 3600);
	assert_true(t.is_dst);
}

/* --- hand-made files --- */

static void put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t) (v >> 24);
	p[1] = (uint8_t) (v >> 16);
	p[2] = (uint8_t) (v >> 8);
	p[3] = (uint8_t) v;
}

static void add_header(struct buf *b, char version, const uint32_t counts[static 6])
{
	uint8_t header[44] = { 'T', 'Z', 'i', 'f', (uint8_t) version };

	for (size_t i = 0; i < 6; i++)
		put32(header + 20 + 4 * i, counts[i]);
	assert_int_equal(buf_add(b, header, sizeof(header)), 0);
}

static void add_type(struct buf *b, int32_t offset, uint8_t is_dst, uint8_t chars)
{
	uint8_t type[6] = { 0, 0, 0, 0, is_dst, chars };

	put32(type, (uint32_t) offset);
	assert_int_equal(buf_add(b, type, sizeof(type)), 0);
}

static void add_time64(struct buf *b, int64_t v)
{
	uint8_t bytes[8];

	put32(bytes, (uint32_t) ((uint64_t) v >> 32));
	put32(bytes + 4, (uint32_t) v);
	assert_int_equal(buf_add(b, bytes, sizeof(bytes)), 0);
}

/* isutcnt, isstdcnt, leapcnt, timecnt, typecnt, charcnt */
static const uint32_t minimal[6] = { 0, 0, 0, 0, 1, 4 };

/* A file of one type and the footer. */
static void make_footer_file(struct buf *b, char version, const char *footer)
{
	buf_clear(b);
	for (int i = 0; i < 2; i++) {
		add_header(b, version, minimal);
		add_type(b, 3600, 0, 0);
		assert_int_equal(buf_add(b, "ABC", 4), 0);
	}
	assert_int_equal(buf_addf(b, "\n%s\n", footer), 0);
}

static int parse_footer_file(char version, const char *footer, struct zone **ret)
{
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(4096);

	make_footer_file(&b, version, footer);
	return zone_parse(b.data, b.len, ret);
}

static void test_footers_that_are_none(void **state)
{
	static const char *const bad[] = {
		"C-1",
		"CE1",
		"CET",
		"CET-",
		"CET-25",
		"CET-1:60",
		"CET-1:00:60",
		"<CET-1",
		"<>-1",
		"<a>-1",
		"<a b>-1",
		"CET-1CEST",
		"CET-1CEST,M3.5.0",
		"CET-1CEST,M3.5.0,",
		"CET-1CEST,M3.5.0,M10.5.0x",
		"CET-1CEST,M0.5.0,M10.5.0",
		"CET-1CEST,M13.5.0,M10.5.0",
		"CET-1CEST,M3.0.0,M10.5.0",
		"CET-1CEST,M3.6.0,M10.5.0",
		"CET-1CEST,M3.5.7,M10.5.0",
		"CET-1CEST,M3.5,M10.5.0",
		"CET-1CEST,J0,J100",
		"CET-1CEST,J366,J100",
		"CET-1CEST,366,100",
		"CET-1CEST,M3.5.0/168,M10.5.0",
		"CET-1CEST,M3.5.0/-168,M10.5.0",
		"CET-1CEST,M3.5.0/,M10.5.0",
		"CET-99999999999999999999",
		"CETCETCETCETCETCETCETCETCETCET-1",
		"CET-1 ",
		":Europe/Berlin",
	};
	struct zone *z = NULL;

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (parse_footer_file('2', bad[i], &z) != -ERR_SYNTAX)
			fail_msg("%s was taken", bad[i]);
	}
	assert_null(z);
}

static void test_every_version_is_read(void **state)
{
	CLEANUP(zone_freep)
	struct zone *first = NULL;
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(4096);
	struct zone_time t;
	struct zone *z = NULL;

	(void) state;
	add_header(&b, '\0', minimal);
	add_type(&b, -3600, 1, 1);
	assert_int_equal(buf_add(&b, "ABC", 4), 0);
	assert_int_equal(zone_parse(b.data, b.len, &first), 0);
	assert_int_equal(zone_local(first, 0, &t), 0);
	assert_int_equal(t.year, 1969);
	assert_int_equal(t.hour, 23);
	assert_int_equal(t.weekday, ZONE_WEDNESDAY);
	assert_true(t.is_dst);
	assert_string_equal(t.abbreviation, "BC");
	for (char version = '2'; version <= '4'; version++) {
		assert_int_equal(parse_footer_file(version, "", &z), 0);
		assert_int_equal(zone_local(z, 0, &t), 0);
		assert_string_equal(t.abbreviation, "ABC");
		zone_free(z);
		z = NULL;
		assert_int_equal(parse_footer_file(version, "<-0130>1:30:15", &z), 0);
		assert_int_equal(zone_local(z, 0, &t), 0);
		assert_string_equal(t.abbreviation, "-0130");
		assert_int_equal(t.offset, -5415);
		zone_free(z);
		z = NULL;
	}
	assert_int_equal(parse_footer_file('1', "", &z), -ERR_SYNTAX);
	assert_int_equal(parse_footer_file('5', "", &z), -ERR_SYNTAX);
	assert_int_equal(parse_footer_file('\0' + 1, "", &z), -ERR_SYNTAX);
}

/* RFC 8536, 3.3.1: daylight saving all year has an end that meets the next start. */
static void test_daylight_saving_all_year(void **state)
{
	CLEANUP(zone_freep)
	struct zone *z = NULL;
	struct zone_time t;

	(void) state;
	assert_int_equal(parse_footer_file('3', "EST5EDT,0/0,J365/25", &z), 0);
	for (int64_t utc = 1767225600 - 3 * 86400; utc < 1767225600 + 3 * 86400;
	     utc += 1800) { /* around 2026-01-01 */
		assert_int_equal(zone_local(z, utc, &t), 0);
		assert_string_equal(t.abbreviation, "EDT");
		assert_int_equal(t.offset, -4 * 3600);
	}
}

static void test_days_of_the_year_and_long_hours(void **state)
{
	static const struct {
		const char *footer;
		int month, day, hour; /* standard local time at which it begins in 2024, a leap year */
	} rows[] = {
		{ "AAA0BBB,J60,J300", 3, 1, 2 },	   { "AAA0BBB,60,300", 3, 1, 2 },
		{ "AAA0BBB,59/0,300", 2, 29, 0 },	   { "AAA0BBB,J59,J300", 2, 28, 2 },
		{ "AAA0BBB,M3.1.0/-2,M10.5.0", 3, 2, 22 }, { "AAA0BBB,M3.4.4/50,M10.5.0", 3, 30, 2 },
		{ "AAA0BBB,M2.5.4,M10.5.0", 2, 29, 2 },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		CLEANUP(zone_freep)
		struct zone *z = NULL;
		int64_t utc = calendar_days(2024, rows[i].month, rows[i].day) * 86400 + rows[i].hour * 3600;
		struct zone_time before, after;

		assert_int_equal(parse_footer_file('3', rows[i].footer, &z), 0);
		assert_int_equal(zone_local(z, utc - 1, &before), 0);
		assert_int_equal(zone_local(z, utc, &after), 0);
		assert_string_equal(before.abbreviation, "AAA");
		assert_string_equal(after.abbreviation, "BBB");
		assert_int_equal(after.offset, 3600);
	}
}

static void test_broken_files(void **state)
{
	static const char *const names[] = { "fat/Europe/Berlin", "slim/Europe/Berlin", "slim/America/Nuuk" };

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char path[256], data[8192];
		size_t len;
		FILE *f;

		(void) snprintf(path, sizeof(path), ZONEINFO "%s", names[i]);
		f = fopen(path, "re");
		assert_non_null(f);
		len = fread(data, 1, sizeof(data), f);
		(void) fclose(f);
		for (size_t cut = 0; cut < len; cut++) {
			/* A copy of exactly this size, so that a read beyond it is seen. */
			char *exact = malloc(cut ? cut : 1);
			struct zone *z = NULL;

			assert_non_null(exact);
			memcpy(exact, data, cut);
			assert_int_equal(zone_parse(exact, cut, &z), -ERR_SYNTAX);
			free(exact);
		}
	}
}

static void expect_parse(const struct buf *b, int result)
{
	CLEANUP(zone_freep)
	struct zone *z = NULL;

	assert_int_equal(zone_parse(b->data, b->len, &z), result);
}

static void test_hostile_files(void **state)
{
	static const struct {
		uint32_t counts[6];
		int result;
	} headers[] = {
		{ { 0, 0, 0, 0, 0, 4 }, -ERR_SYNTAX },
		{ { 0, 0, 0, 0, 1, 0 }, -ERR_SYNTAX },
		{ { 2, 0, 0, 0, 1, 4 }, -ERR_SYNTAX },
		{ { 0, 2, 0, 0, 1, 4 }, -ERR_SYNTAX },
		{ { 0, 0, 0, 2001, 1, 4 }, -ERR_TOO_LARGE },
		{ { 0, 0, 0, 0, 257, 4 }, -ERR_TOO_LARGE },
		{ { 0, 0, 0, 0, 1, 513 }, -ERR_TOO_LARGE },
		{ { 0, 0, 0, UINT32_MAX, 1, 4 }, -ERR_TOO_LARGE },
		{ { 0, 0, UINT32_MAX, 0, 1, 4 }, -ERR_TOO_LARGE },
		{ { 0, 0, 0, 2000, 1, 4 }, -ERR_SYNTAX },
	};
	static const int32_t bad_offsets[] = { INT32_MIN, -90000, 93600, INT32_MAX };
	static const int64_t times[][3] = { { 5, 5, 6 }, { 6, 5, 7 }, { INT64_MIN, 1, 2 }, { 1, 2, -3 } };
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(100000);

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
		buf_clear(&b);
		add_header(&b, '\0', headers[i].counts);
		add_type(&b, 0, 0, 0);
		assert_int_equal(buf_add(&b, "ABC", 4), 0);
		expect_parse(&b, headers[i].result);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad_offsets); i++) {
		buf_clear(&b);
		add_header(&b, '\0', minimal);
		add_type(&b, bad_offsets[i], 0, 0);
		assert_int_equal(buf_add(&b, "ABC", 4), 0);
		expect_parse(&b, -ERR_SYNTAX);
	}
	for (unsigned i = 0; i < 2; i++) {
		buf_clear(&b);
		add_header(&b, '\0', minimal);
		add_type(&b, 0, i == 0 ? 2 : 0,
			 i == 1 ? 4 : 0); /* no truth value; an abbreviation beyond the last */
		assert_int_equal(buf_add(&b, "ABC", 4), 0);
		expect_parse(&b, -ERR_SYNTAX);
	}
	for (size_t i = 0; i < ARRAY_LEN(times); i++) {
		buf_clear(&b);
		add_header(&b, '2', minimal);
		add_type(&b, 0, 0, 0);
		assert_int_equal(buf_add(&b, "ABC", 4), 0);
		add_header(&b, '2', (const uint32_t[6]){ 0, 0, 0, 3, 1, 4 });
		for (size_t k = 0; k < 3; k++)
			add_time64(&b, times[i][k]);
		assert_int_equal(buf_add(&b, "\0\0\0", 3), 0);
		add_type(&b, 0, 0, 0);
		assert_int_equal(buf_add(&b, "ABC\0\n\n", 6), 0);
		expect_parse(&b, -ERR_SYNTAX);
	}
	/* A transition to a type that is not there. */
	buf_clear(&b);
	add_header(&b, '\0', (const uint32_t[6]){ 0, 0, 0, 1, 1, 4 });
	assert_int_equal(buf_add(&b, "\0\0\0\0\1", 5), 0);
	add_type(&b, 0, 0, 0);
	assert_int_equal(buf_add(&b, "ABC", 4), 0);
	expect_parse(&b, -ERR_SYNTAX);
	/* Leap seconds. */
	buf_clear(&b);
	add_header(&b, '\0', (const uint32_t[6]){ 0, 0, 1, 0, 1, 4 });
	add_type(&b, 0, 0, 0);
	assert_int_equal(buf_add(&b, "ABC\0\0\0\0\0\0\0\0\1", 12), 0);
	expect_parse(&b, -ERR_FIELD_VALUE);
	/* An abbreviation without its NUL is still a string. */
	buf_clear(&b);
	add_header(&b, '\0', minimal);
	add_type(&b, 0, 0, 0);
	assert_int_equal(buf_add(&b, "ABCD", 4), 0);
	expect_parse(&b, 0);
	/* The two blocks disagree on the version. */
	make_footer_file(&b, '2', "");
	b.data[4] = '3';
	expect_parse(&b, -ERR_SYNTAX);
	/* More than any zone has. */
	buf_clear(&b);
	while (b.len <= 65536)
		assert_int_equal(buf_add(&b, "TZif", 4), 0);
	expect_parse(&b, -ERR_TOO_LARGE);
	/* A footer with a NUL, one without an end, one that is too long. */
	make_footer_file(&b, '2', "CET-1");
	b.data[b.len - 3] = '\0';
	expect_parse(&b, -ERR_SYNTAX);
	make_footer_file(&b, '2', "CET-1");
	b.len--;
	expect_parse(&b, -ERR_SYNTAX);
	assert_int_equal(buf_addf(&b, "%0200d\n", 0), 0);
	expect_parse(&b, -ERR_SYNTAX);
}

static void test_dates_that_are_none(void **state)
{
	static const struct zone_time bad[] = {
		{ .year = 2026, .month = 2, .day = 29 },
		{ .year = 2026, .month = 13, .day = 1 },
		{ .year = 2026, .month = 0, .day = 1 },
		{ .year = 2026, .month = 1, .day = 0 },
		{ .year = 2026, .month = 4, .day = 31 },
		{ .year = 0, .month = 1, .day = 1 },
		{ .year = 10000, .month = 1, .day = 1 },
		{ .year = 2026, .month = 1, .day = 1, .hour = 25 },
		{ .year = 2026, .month = 1, .day = 1, .hour = 24, .minute = 1 },
		{ .year = 2026, .month = 1, .day = 1, .hour = -1 },
		{ .year = 2026, .month = 1, .day = 1, .minute = 60 },
		{ .year = 2026, .month = 1, .day = 1, .second = 60 },
	};
	CLEANUP(zone_freep)
	struct zone *z = loaded(ZONEINFO "fat", "Europe/Berlin");
	struct zone_moment m = { .utc = 7 }, midnight;
	struct zone_time t;

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(zone_utc(z, &bad[i], &m), -ERR_FIELD_VALUE);
	assert_int_equal(m.utc, 7);
	assert_int_equal(zone_utc(z, &(struct zone_time){ .year = 2024, .month = 2, .day = 29, .hour = 24 }, &m),
			 0);
	assert_int_equal(zone_utc(z, &(struct zone_time){ .year = 2024, .month = 3, .day = 1 }, &midnight), 0);
	assert_int_equal(m.utc, midnight.utc);
	assert_int_equal(zone_local(z, INT64_MAX, &t), -ERR_FIELD_VALUE);
	assert_int_equal(zone_local(z, INT64_MIN, &t), -ERR_FIELD_VALUE);
	assert_int_equal(zone_local(z, 253402300799, &t), 0);
	assert_int_equal(zone_local(z, 253402300800, &t), -ERR_FIELD_VALUE);
	assert_int_equal(zone_local(z, -62135596800, &t), 0);
	assert_int_equal(zone_local(z, -62135596801, &t), -ERR_FIELD_VALUE);
}

static void test_the_calendar(void **state)
{
	int64_t days = calendar_days(1, 1, 1);

	(void) state;
	assert_int_equal(calendar_days(1970, 1, 1), 0);
	assert_int_equal(calendar_days(2000, 3, 1), 11017);
	assert_int_equal(calendar_weekday(0), ZONE_THURSDAY);
	for (int year = 1; year <= 2500; year++)
		for (int month = 1; month <= 12; month++)
			for (int day = 1; day <= calendar_days_of_month(year, month); day++, days++) {
				int y, m, d;

				assert_true(calendar_days(year, month, day) == days);
				calendar_date(days, &y, &m, &d);
				assert_true(y == year && m == month && d == day);
			}
}

/* --- the edition of the database --- */

static void expect_edition(const char *zi, const char *version, int expected, const char *name, int64_t published)
{
	char dir[] = "/tmp/selfright-edition-XXXXXX", path[64], found[ZONE_EDITION_SIZE] = "before";
	int64_t at = 7;
	FILE *f;
	int r;

	assert_non_null(mkdtemp(dir));
	for (int i = 0; i < 2; i++) {
		const char *text = i == 0 ? zi : version;

		if (!text)
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, i == 0 ? "tzdata.zi" : "+VERSION");
		f = fopen(path, "w");
		assert_non_null(f);
		fputs(text, f);
		assert_int_equal(fclose(f), 0);
	}
	r = zone_edition_from(&os_posix, dir, found, &at);
	if (r != expected)
		fail_msg("%s: %d", zi ? zi : version ? version : "nothing", r);
	assert_string_equal(found, r == 0 ? name : "before"); /* untouched on failure */
	assert_int_equal(at, r == 0 ? published : 7);
	assert_int_equal(tree_remove(&os_posix, AT_FDCWD, dir), 0);
}

static void test_the_edition_of_the_database(void **state)
{
	const int64_t year_2025 = 1735689600, february = year_2025 + 31 * 86400;
	int64_t at = 0;
	char name[ZONE_EDITION_SIZE];

	(void) state;
	expect_edition("# version 2025b\n# This zic input\n", NULL, 0, "2025b", february);
	expect_edition("# version 2025a-dirty\n", NULL, -ERR_SYNTAX, NULL, 0);
	expect_edition(NULL, "2025a\n", 0, "2025a", year_2025);
	expect_edition("# version 2025b", "2024a\n", 0, "2025b", february);
	expect_edition(NULL, "2025z", 0, "2025z", 1764547200); /* December: there is no later month */
	expect_edition(NULL, "2025zb", 0, "2025zb", 1764547200);
	expect_edition(NULL, NULL, -ENOENT, NULL, 0);
	expect_edition("", NULL, -ERR_SYNTAX, NULL, 0);
	expect_edition("# version \n", NULL, -ERR_SYNTAX, NULL, 0);
	expect_edition("# version 2025b2025b2025b2025b\n", NULL, -ERR_SYNTAX, NULL, 0);
	expect_edition("Z Africa/Abidjan -0:16:8 - LMT 1912\n", "2025b\n", -ERR_SYNTAX, NULL, 0);
	expect_edition(NULL, "unknown\n", -ERR_SYNTAX, NULL, 0);
	assert_int_equal(zone_edition_from(&os_posix, "/no/such/folder", name, &at), -ENOENT);
	assert_true(zone_is_edition("2025b") && zone_is_edition("1996zz"));
	assert_false(zone_is_edition("") || zone_is_edition("2025") || zone_is_edition("25b") ||
		     zone_is_edition("2025B") || zone_is_edition("2025b ") || zone_is_edition("2025abc"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_transitions_of_the_table),
		cmocka_unit_test(test_rules_of_the_footer),
		cmocka_unit_test(test_names_are_guarded),
		cmocka_unit_test(test_utc_needs_no_database),
		cmocka_unit_test(test_links_within_are_followed),
		cmocka_unit_test(test_the_systems_own_database),
		cmocka_unit_test(test_footers_that_are_none),
		cmocka_unit_test(test_every_version_is_read),
		cmocka_unit_test(test_daylight_saving_all_year),
		cmocka_unit_test(test_days_of_the_year_and_long_hours),
		cmocka_unit_test(test_broken_files),
		cmocka_unit_test(test_hostile_files),
		cmocka_unit_test(test_dates_that_are_none),
		cmocka_unit_test(test_the_calendar),
		cmocka_unit_test(test_the_edition_of_the_database),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
