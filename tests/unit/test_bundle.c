/* common/fetch/bundle.h: a tar and a folder say the same, and what is no bundle is refused. */
#include "base/err.h"
#include "base/text.h"
#include "fetch/bundle.h"
#include "os/durable.h"
#include "support/fault_loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { BLOCK = 512 };

static const char timestamp[] = "metadata/timestamp.json";
static const char hex64[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

static int memory(void)
{
	int fd = memfd_create("bundle", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void expect(struct bundle *b, const char *name, const char *content)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(1024 * 1024);
	uint64_t offset = 0, size = 0;
	char chunk[64] = "";
	int fd = -1;

	assert_int_equal(fetcher_get(bundle_fetcher(b), name, 1024 * 1024, &bytes), 0);
	assert_int_equal(bytes.len, strlen(content));
	assert_string_equal(buf_str(&bytes), content);
	assert_int_equal(bundle_find(b, name, &fd, &offset, &size), 0);
	assert_int_equal(size, strlen(content));
	assert_int_equal(pread(fd, chunk, (size_t) size, (off_t) offset), (ssize_t) size);
	assert_memory_equal(chunk, content, (size_t) size);
	close(fd);
	if (size > 0)
		assert_int_equal(fetcher_get(bundle_fetcher(b), name, size - 1, &bytes), -ERR_TOO_LARGE);
}

static void expect_missing(struct bundle *b, const char *name)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(1024);

	assert_int_equal(fetcher_get(bundle_fetcher(b), name, 1024, &bytes), -ENOENT);
	assert_int_equal(bytes.len, 0);
}

static void what_was_added_is_found(void **state)
{
	CLEANUP(bundle_closep)
	struct bundle *b = NULL;
	char deep[1100] = "targets/", split[256], file[] = "content";
	int fd = memory(), in = memory();

	(void) state;
	/* 150 bytes of folders and a name of 90: the prefix of ustar; 1,000 in one part: pax. */
	(void) snprintf(split, sizeof(split), "targets/%0150d/%s.%020d", 7, hex64, 8);
	for (size_t i = strlen(deep); i < 1000; i++)
		deep[i] = i % 240 ? 'x' : '/';
	assert_int_equal(write(in, file, strlen(file)), (ssize_t) strlen(file));
	assert_int_equal(bundle_add(&os_posix, fd, timestamp, "{}", 2), 0);
	assert_int_equal(bundle_add(&os_posix, fd, split, "split", 5), 0);
	assert_int_equal(bundle_add(&os_posix, fd, deep, "deep", 4), 0);
	assert_int_equal(bundle_add(&os_posix, fd, "targets/empty", "", 0), 0);
	assert_int_equal(bundle_add_file(&os_posix, fd, "targets/file", in, strlen(file)), 0);
	assert_int_equal(bundle_add_file(&os_posix, fd, "targets/short", in, 100), -ERR_LENGTH);
	assert_int_equal(ftruncate(fd, lseek(fd, 0, SEEK_CUR) - BLOCK - (off_t) strlen(file)), 0);
	assert_int_equal(lseek(fd, 0, SEEK_END) % BLOCK, 0);
	assert_int_equal(bundle_add(&os_posix, fd, "elsewhere/x", "x", 1), -ERR_NAME);
	assert_int_equal(bundle_add(&os_posix, fd, "targets/../x", "x", 1), -ERR_NAME);
	assert_int_equal(bundle_end(&os_posix, fd), 0);
	assert_int_equal(bundle_open(&os_posix, fd, &b), 0);
	expect(b, timestamp, "{}");
	expect(b, split, "split");
	expect(b, deep, "deep");
	expect(b, "targets/empty", "");
	expect(b, "targets/file", "content");
	expect_missing(b, "targets/short");
	expect_missing(b, "metadata/1.root.json");
	expect_missing(b, "../etc/passwd");
	close(in);
}

static void a_folder_is_one_too(void **state)
{
	CLEANUP(bundle_closep)
	struct bundle *b = NULL;
	char path[256], name[300];
	int fd;

	(void) state;
	temp_folder(path, sizeof(path));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(dir_make_path(&os_posix, fd, "targets/web", 0755), 0);
	assert_int_equal(dir_make_path(&os_posix, fd, "metadata", 0755), 0);
	assert_int_equal(durable_write_file(&os_posix, fd, "targets/web/a", "a", 1, 0644), 0);
	(void) snprintf(name, sizeof(name), "%s/targets/web/a", path);
	assert_int_equal(symlinkat(name, fd, "targets/link"), 0);
	assert_int_equal(symlinkat("web", fd, "targets/way"), 0);
	assert_int_equal(mkfifoat(fd, "targets/pipe", 0644), 0);
	assert_int_equal(bundle_open(&os_posix, fd, &b), 0);
	expect(b, "targets/web/a", "a");
	expect_missing(b, "targets/link");
	expect_missing(b, "targets/way/a");
	expect_missing(b, "targets/pipe");
	expect_missing(b, "targets/web");
	expect_missing(b, timestamp);
	temp_folder_remove(path);
}

/* --- what is no bundle --- */

static int open_bytes(const void *bytes, size_t len)
{
	CLEANUP(bundle_closep)
	struct bundle *b = NULL;
	int fd = memory(), r;

	assert_int_equal(write(fd, bytes, len), (ssize_t) len);
	r = bundle_open(&os_posix, fd, &b);
	if (r < 0)
		close(fd);
	return r;
}

static size_t make(uint8_t *out, size_t size)
{
	int fd = memory();
	ssize_t len;

	assert_int_equal(bundle_add(&os_posix, fd, timestamp, "{}", 2), 0);
	assert_int_equal(bundle_add(&os_posix, fd, "targets/web", "tree", 4), 0);
	assert_int_equal(bundle_end(&os_posix, fd), 0);
	len = pread(fd, out, size, 0);
	assert_true(len > 0);
	close(fd);
	return (size_t) len;
}

/* Set a field and make the sum fit again. */
static void forge(uint8_t *header, size_t offset, const void *data, size_t len)
{
	unsigned sum = 0;
	char text[8];

	memcpy(header + offset, data, len);
	memset(header + 148, ' ', 8);
	for (size_t i = 0; i < BLOCK; i++)
		sum += header[i];
	(void) snprintf(text, sizeof(text), "%06o", sum);
	memcpy(header + 148, text, 7);
}

static void a_cut_or_damaged_one_is_refused(void **state)
{
	uint8_t whole[8 * BLOCK], bad[8 * BLOCK];
	size_t len = make(whole, sizeof(whole));

	(void) state;
	assert_int_equal(open_bytes(whole, len), 0);
	for (size_t cut = 0; cut < 4 * BLOCK; cut++) {
		/* Whole members and no end are what some writers leave; everything else is half a file. */
		bool fine = cut == 2 * BLOCK || (cut >= BLOCK + 2 && cut < 2 * BLOCK) || cut >= 3 * BLOCK + 4;

		assert_int_equal(open_bytes(whole, cut), fine ? 0 : -ERR_ARCHIVE);
	}
	for (size_t i = 0; i < BLOCK; i++) {
		memcpy(bad, whole, len);
		bad[i] ^= 1;
		assert_int_equal(open_bytes(bad, len), i >= 154 && i < 156 ? open_bytes(bad, len) : -ERR_ARCHIVE);
	}
	memset(bad, 'x', sizeof(bad));
	assert_int_equal(open_bytes(bad, sizeof(bad)), -ERR_ARCHIVE);
	assert_int_equal(open_bytes("", 0), -ERR_ARCHIVE);
}

static void only_files_below_its_two_folders_exist(void **state)
{
	static const char *const names[] = { "/etc/passwd", "../targets/web", "targets/../../x", "etc/passwd",
					     "targets//x" };
	static const char types[] = "12345678";
	uint8_t whole[8 * BLOCK], bad[8 * BLOCK];
	size_t len = make(whole, sizeof(whole));

	(void) state;
	for (size_t i = 0; i < sizeof(types) - 1; i++) {
		CLEANUP(bundle_closep)
		struct bundle *b = NULL;
		int fd = memory();

		memcpy(bad, whole, len);
		forge(bad, 156, &types[i], 1);
		assert_int_equal(write(fd, bad, len), (ssize_t) len);
		assert_int_equal(bundle_open(&os_posix, fd, &b), 0);
		expect_missing(b, timestamp);
		expect(b, "targets/web", "tree");
	}
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		CLEANUP(bundle_closep)
		struct bundle *b = NULL;
		int fd = memory();
		char field[100] = "";

		memcpy(bad, whole, len);
		memcpy(field, names[i], strlen(names[i]));
		forge(bad, 0, field, sizeof(field));
		assert_int_equal(write(fd, bad, len), (ssize_t) len);
		assert_int_equal(bundle_open(&os_posix, fd, &b), 0);
		expect_missing(b, names[i]);
		expect_missing(b, timestamp);
	}
}

static void odd_headers_are_refused(void **state)
{
	static const char *const records[] = { "",
					       "5",
					       "9999 path=x\n",
					       "5 p=\n5",
					       "11 path=ab\n",
					       "12 path=abc",
					       "-1 a=b\n",
					       "0 a=b\n",
					       "3 a\n",
					       "x",
					       "99999999999999999999 a=b\n" };
	uint8_t whole[8 * BLOCK], bad[8 * BLOCK];
	size_t len = make(whole, sizeof(whole));

	(void) state;
	/* A size beyond the file, beyond any file, and none at all. */
	memcpy(bad, whole, len);
	forge(bad, 124, "77777777777", 12);
	assert_int_equal(open_bytes(bad, len), -ERR_ARCHIVE);
	forge(bad, 124, "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12);
	assert_int_equal(open_bytes(bad, len), -ERR_ARCHIVE);
	forge(bad, 124, "\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12);
	assert_int_equal(open_bytes(bad, len), -ERR_ARCHIVE);
	forge(bad, 124, "eleven\0\0\0\0\0", 12);
	assert_int_equal(open_bytes(bad, len), -ERR_ARCHIVE);
	/* The same name twice: which one would count? */
	memcpy(bad, whole, len);
	memcpy(bad + 2 * BLOCK, whole, 2 * BLOCK);
	assert_int_equal(open_bytes(bad, len), -ERR_DUPLICATE_NAME);
	for (size_t i = 0; i < ARRAY_LEN(records); i++) {
		char size[12];
		int r;

		memcpy(bad, whole, len);
		forge(bad, 156, "x", 1);
		(void) snprintf(size, sizeof(size), "%011o", (unsigned) strlen(records[i]));
		forge(bad, 124, size, 12);
		memset(bad + BLOCK, 0, BLOCK);
		memcpy(bad + BLOCK, records[i], strlen(records[i]));
		r = open_bytes(bad, len);
		assert_true(r == (i == 0 || i == 4 ? 0 : -ERR_ARCHIVE));
	}
}

static int open_and_read(struct fault_case *c)
{
	CLEANUP(bundle_closep)
	struct bundle *b = NULL;
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(1024);
	int fd = c->os->openat(c->os, c->dirfd, "bundle", O_RDONLY, 0);
	int r;

	if (fd < 0)
		return fd;
	r = bundle_open(c->os, fd, &b);
	if (r < 0) {
		(void) c->os->close(c->os, fd);
		return r;
	}
	return fetcher_get(bundle_fetcher(b), "targets/web", 1024, &bytes);
}

static int put_bundle(struct fault_case *c)
{
	uint8_t whole[8 * BLOCK];
	size_t len = make(whole, sizeof(whole));

	return durable_write_file(c->os, c->dirfd, "bundle", whole, len, 0644);
}

/* A stick of a terabyte that holds headers and nothing else: of `type`, each with a name of its own. */
static char endless_type;
static uint64_t endless_reads;

static ssize_t endless_pread(const struct os *os, int fd, void *data, size_t len, uint64_t offset)
{
	char *h = data;
	unsigned sum = 0;

	(void) os;
	(void) fd;
	assert_int_equal(len, BLOCK);
	endless_reads++;
	memset(h, 0, BLOCK);
	(void) snprintf(h, 100, "%090llu", (unsigned long long) offset);
	memcpy(h + 100, "0000644", 8);
	memcpy(h + 124, "00000000000", 12);
	h[156] = endless_type;
	memcpy(h + 257, "ustar\00000", 8);
	(void) snprintf(h + 345, 155, "targets/%0140d", 7);
	memset(h + 148, ' ', 8);
	for (size_t i = 0; i < BLOCK; i++)
		sum += (unsigned char) h[i];
	(void) snprintf(h + 148, 8, "%06o", sum);
	return BLOCK;
}

static int endless_fstat(const struct os *os, int fd, struct stat *ret)
{
	(void) os;
	(void) fd;
	*ret = (struct stat){ .st_mode = S_IFREG, .st_size = (off_t) 1 << 40 };
	return 0;
}

static void a_stick_without_an_end_has_one(void **state)
{
	struct os os = os_posix;
	struct bundle *b = NULL;
	int fd = memory();

	(void) state;
	os.pread = endless_pread;
	os.fstat = endless_fstat;
	endless_type = '5'; /* folders, which are passed over */
	endless_reads = 0;
	assert_int_equal(bundle_open(&os, fd, &b), -ERR_TOO_LARGE);
	assert_int_equal(endless_reads, BUNDLE_ENTRIES_MAX);
	endless_type = '0'; /* files of ours with long names: before there are too many of them */
	endless_reads = 0;
	assert_int_equal(bundle_open(&os, fd, &b), -ERR_TOO_LARGE);
	assert_true(endless_reads < BUNDLE_MEMBERS_MAX && endless_reads * 240 > BUNDLE_NAMES_MAX);
	close(fd);
}

static void failed_or_whole(struct fault_case *c, int r)
{
	assert_true(c->injected ? r <= 0 : r == 0);
}

FAULT_TEST(a_stick_that_fails){
	.name = "a stick that fails", .prep = put_bundle, .body = open_and_read, .check = failed_or_whole
};

static void no_failure_of_the_stick_is_more_than_an_error(void **state)
{
	(void) state;
	fault_test_run(&a_stick_that_fails);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_added_is_found),
		cmocka_unit_test(a_folder_is_one_too),
		cmocka_unit_test(a_cut_or_damaged_one_is_refused),
		cmocka_unit_test(only_files_below_its_two_folders_exist),
		cmocka_unit_test(odd_headers_are_refused),
		cmocka_unit_test(a_stick_without_an_end_has_one),
		cmocka_unit_test(no_failure_of_the_stick_is_more_than_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
