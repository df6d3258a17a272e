/* What common/pack/pack.h promises; archives from hostile hands are written block by block here. */
#include "pack/pack.h"

#include "base/err.h"
#include "crypto/digest.h"
#include "os/durable.h"
#include "os/process.h"
#include "tree/tree.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <cmocka.h>

struct folder {
	char path[64];
	int fd; /* of the folder */
	int out; /* of an empty folder in it */
	struct buf tar;
};

static int setup(void **state)
{
	struct folder *f = calloc(1, sizeof(*f));

	(void) umask(022);
	buf_init(&f->tar, 64 * 1024 * 1024);
	(void) snprintf(f->path, sizeof(f->path), "/tmp/selfright-pack-XXXXXX");
	if (!mkdtemp(f->path))
		return -1;
	f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->fd < 0 || mkdirat(f->fd, "out", 0755) < 0)
		return -1;
	f->out = openat(f->fd, "out", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = f;
	return f->out < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	struct folder *f = *state;
	int r = tree_remove(&os_posix, AT_FDCWD, f->path);

	close(f->fd);
	close(f->out);
	buf_done(&f->tar);
	free(f);
	return r;
}

static void renew_out(struct folder *f)
{
	close(f->out);
	assert_int_equal(tree_remove(&os_posix, f->fd, "out"), 0);
	assert_int_equal(mkdirat(f->fd, "out", 0755), 0);
	f->out = openat(f->fd, "out", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(f->out >= 0);
}

static int memory_file(const void *data, size_t len)
{
	int fd = memfd_create("archive", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(file_write_all(&os_posix, fd, data, len), 0);
	return fd;
}

static int extract_bytes(struct folder *f, const void *data, size_t len, enum pack_media media, uint64_t max_bytes,
			 uint64_t max_files, char **ret_offender)
{
	const struct pack_limits limits = { .max_bytes = max_bytes, .max_files = max_files };
	int fd = memory_file(data, len), r;

	r = pack_extract(&os_posix, fd, media, f->out, &limits, ret_offender);
	close(fd);
	return r;
}

/* One tar record with everything under the caller's hand. `data` NULL: no content follows. */
static void tar_record(struct folder *f, char type, const char *name, unsigned mode, uint64_t size,
		       const char *target, const void *data)
{
	static const uint8_t zeros[512];
	uint8_t h[512] = { 0 };
	unsigned sum = 0;
	char text[16];

	memcpy(h, name, strnlen(name, 100));
	(void) snprintf((char *) h + 100, 8, "%07o", mode);
	(void) snprintf((char *) h + 108, 8, "%07o", 0);
	(void) snprintf((char *) h + 116, 8, "%07o", 0);
	if (size < UINT64_C(1) << 33) {
		(void) snprintf(text, sizeof(text), "%011llo", (unsigned long long) size);
		memcpy(h + 124, text, 12);
	} else {
		h[124] = 0x80;
		for (int i = 0; i < 8; i++)
			h[135 - i] = (uint8_t) (size >> (8 * i));
	}
	(void) snprintf((char *) h + 136, 12, "%011o", 0);
	memset(h + 148, ' ', 8);
	h[156] = (uint8_t) type;
	if (target)
		memcpy(h + 157, target, strnlen(target, 100));
	memcpy(h + 257,
	       "ustar\0"
	       "00",
	       8);
	for (int i = 0; i < 512; i++)
		sum += h[i];
	(void) snprintf((char *) h + 148, 8, "%06o", sum);
	assert_int_equal(buf_add(&f->tar, h, sizeof(h)), 0);
	if (data) {
		assert_int_equal(buf_add(&f->tar, data, size), 0);
		assert_int_equal(buf_add(&f->tar, zeros, (512 - size % 512) % 512), 0);
	}
}

static void tar_file(struct folder *f, const char *name, unsigned mode, const char *text)
{
	tar_record(f, '0', name, mode, strlen(text), NULL, text);
}

static void tar_end(struct folder *f)
{
	static const uint8_t zeros[1024];

	assert_int_equal(buf_add(&f->tar, zeros, sizeof(zeros)), 0);
}

static void pax_records(struct folder *f, const char *records, size_t len)
{
	tar_record(f, 'x', "pax", 0644, len, NULL, records);
}

/* "LENGTH KEY=VALUE\n", the length counting itself. */
static void pax_add(struct buf *records, const char *key, const char *value)
{
	size_t len = strlen(key) + strlen(value) + 3, digits = len + 2 < 100 ? 2 : 3;

	if (len + 1 < 10)
		digits = 1;
	assert_int_equal(buf_addf(records, "%zu %s=%s\n", len + digits, key, value), 0);
}

static void pax(struct folder *f, const char *key, const char *value)
{
	CLEANUP(buf_done)
	struct buf records = BUF_INIT(1000);

	pax_add(&records, key, value);
	pax_records(f, buf_str(&records), records.len);
}

/* A GNU sparse file, format 1.0: its map stands in front of its data, in one block here. */
static void tar_sparse(struct folder *f, const char *real_size, const char *map, const char *data)
{
	CLEANUP(buf_done)
	struct buf records = BUF_INIT(1000);
	char content[1024] = "";

	pax_add(&records, "GNU.sparse.major", "1");
	pax_add(&records, "GNU.sparse.minor", "0");
	pax_add(&records, "GNU.sparse.name", "hole");
	pax_add(&records, "GNU.sparse.realsize", real_size);
	pax_records(f, buf_str(&records), records.len);
	memcpy(content, map, strlen(map));
	memcpy(content + 512, data, strlen(data));
	tar_record(f, '0', "GNUSparseFile.0/hole", 0644, 512 + strlen(data), NULL, content);
}

static int extract_tar(struct folder *f, char **ret_offender)
{
	tar_end(f);
	return extract_bytes(f, f->tar.data, f->tar.len, PACK_TAR, 1000000, 100, ret_offender);
}

/* What was written last into f->tar is refused, by name. */
static void refuses(struct folder *f, const char *name)
{
	char *offender = NULL;

	assert_int_equal(extract_tar(f, &offender), -ERR_ARCHIVE_ENTRY);
	assert_non_null(offender);
	assert_string_equal(offender, name);
	free(offender);
	buf_clear(&f->tar);
	renew_out(f);
}

static void file_is(int dirfd, const char *path, mode_t mode, const char *text)
{
	CLEANUP(buf_done)
	struct buf content = BUF_INIT(1000000);
	struct stat st;

	assert_int_equal(fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_mode, S_IFREG | mode);
	assert_int_equal(file_read(&os_posix, dirfd, path, 1000000, &content), 0);
	assert_string_equal(buf_str(&content), text);
}

static void digest_of_folder(int dirfd, uint8_t ret[static SHA256_BYTES])
{
	CLEANUP(tree_done)
	struct tree t = { 0 };

	assert_int_equal(tree_scan(&os_posix, dirfd, (uid_t) -1, NULL, NULL, &t, NULL), 0);
	assert_int_equal(tree_digest(&t, ret), 0);
}

static void put_file(int dirfd, const char *name, const void *data, size_t len, mode_t mode)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(file_write_all(&os_posix, fd, data, len), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

/* A tree with everything a tree may hold; `big` bytes that do not compress. */
static int make_tree(struct folder *f, size_t big)
{
	char long_part[201], name[300];
	uint8_t *noise = malloc(big + 1);
	uint32_t x = 12345;
	int src, deep;

	assert_int_equal(mkdirat(f->fd, "src", 0755), 0);
	src = openat(f->fd, "src", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(src, "bin", 0755), 0);
	assert_int_equal(mkdirat(src, "empty", 0755), 0);
	put_file(src, "bin/run", "#!/bin/sh\n", 10, 0755);
	put_file(src, "bin-", "", 0, 0644);
	put_file(src, "e\xcc\x81", "decomposed", 10, 0644); /* "e" and an accent of its own: must stay two */
	put_file(src, "\xff\xfe no utf-8", "raw", 3, 0644);
	put_file(src, "block", noise, 0, 0644);
	assert_int_equal(symlinkat("bin/run", src, "link"), 0);
	assert_int_equal(symlinkat("../bin", src, "bin/self"), 0);
	for (size_t i = 0; i < big; i++) {
		x = x * 1664525 + 1013904223;
		noise[i] = (uint8_t) (x >> 24);
	}
	put_file(src, "noise", noise, big, 0644);
	put_file(src, "one-block", noise, 512 < big ? 512 : big, 0644);
	free(noise);
	/* names beyond the 100 bytes of a header, one with an accent */
	memset(long_part, 'x', 200);
	memcpy(long_part, "e\xcc\x81", 3);
	long_part[200] = '\0';
	assert_int_equal(mkdirat(src, long_part, 0755), 0);
	deep = openat(src, long_part, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	put_file(deep, long_part, "deep", 4, 0644);
	(void) snprintf(name, sizeof(name), "%s/x", long_part);
	assert_int_equal(symlinkat(long_part, deep, "link"), 0);
	close(deep);
	/* exactly 100 bytes, and one more */
	long_part[100] = '\0';
	put_file(src, long_part + 1, "99", 2, 0644);
	put_file(src, long_part, "100", 3, 0644);
	return src;
}

static void create(int src, int level, int out_fd, uint64_t *ret_length, uint8_t ret_sha256[static SHA256_BYTES])
{
	CLEANUP(tree_done)
	struct tree t = { 0 };

	assert_int_equal(tree_scan(&os_posix, src, (uid_t) -1, NULL, NULL, &t, NULL), 0);
	assert_int_equal(pack_create(&os_posix, src, &t, level, out_fd, ret_length, ret_sha256), 0);
}

static void an_artifact_unpacks_to_the_same_digest(void **state)
{
	struct folder *f = *state;
	const struct pack_limits limits = { .max_bytes = 10000000, .max_files = 20 };
	uint8_t before[SHA256_BYTES], after[SHA256_BYTES], sha256[SHA256_BYTES], again[SHA256_BYTES];
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(100000000);
	int src = make_tree(f, 3000000), fd = openat(f->fd, "a", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	uint64_t length = 0;

	create(src, 3, fd, &length, sha256);
	assert_int_equal(file_read(&os_posix, f->fd, "a", 100000000, &bytes), 0);
	assert_int_equal(bytes.len, length);
	assert_int_equal(sha256_of(bytes.data, bytes.len, again), 0);
	assert_memory_equal(sha256, again, sizeof(again));
	digest_of_folder(src, before);
	assert_int_equal(pack_extract(&os_posix, fd, PACK_TAR_ZSTD, f->out, &limits, NULL), 0);
	digest_of_folder(f->out, after);
	assert_memory_equal(before, after, sizeof(after));
	close(fd);
	close(src);
}

static void artifacts_are_reproducible(void **state)
{
	struct folder *f = *state;
	const struct timespec other_times[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
	uint8_t first[SHA256_BYTES], second[SHA256_BYTES];
	int src = make_tree(f, 100000), fd = memory_file("", 0), fd2 = memory_file("", 0);
	uint64_t length = 0, length2 = 0;

	create(src, 3, fd, &length, first);
	assert_int_equal(utimensat(src, "bin/run", other_times, 0), 0);
	assert_int_equal(fchmodat(src, "noise", 0600, 0), 0);
	create(src, 3, fd2, &length2, second);
	assert_int_equal(length, length2);
	assert_memory_equal(first, second, sizeof(first));
	close(fd);
	close(fd2);
	close(src);
}

static uint32_t le32(const uint8_t *p)
{
	return (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 | (uint32_t) p[3] << 24;
}

/* Each frame of the seek table decodes on its own to the length it says, and they cover the artifact. */
static void the_seek_table_finds_every_frame(void **state)
{
	struct folder *f = *state;
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(100000000);
	int src = make_tree(f, 3000000), fd = openat(f->fd, "a", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	uint8_t sha256[SHA256_BYTES], *content = malloc(20000000);
	uint64_t length = 0, at = 0;
	const uint8_t *footer, *table;
	uint32_t frames;

	create(src, 3, fd, &length, sha256);
	assert_int_equal(file_read(&os_posix, f->fd, "a", 100000000, &bytes), 0);
	footer = bytes.data + bytes.len - 9;
	assert_int_equal(le32(footer + 5), 0x8F92EAB1);
	assert_int_equal(footer[4], 0);
	frames = le32(footer);
	assert_true(frames >= 3); /* what is before, the big file, what is behind */
	table = footer - 8 * frames - 8;
	assert_int_equal(le32(table), 0x184D2A5E);
	assert_int_equal(le32(table + 4), 8 * frames + 9);
	for (uint32_t i = 0; i < frames; i++) {
		uint32_t packed = le32(table + 8 + 8 * i), plain = le32(table + 12 + 8 * i);
		size_t n = ZSTD_decompress(content, 20000000, bytes.data + at, packed);

		assert_false(ZSTD_isError(n));
		assert_int_equal(n, plain);
		assert_int_equal(ZSTD_findFrameCompressedSize(bytes.data + at, packed), packed);
		assert_memory_equal(content + 257, "ustar", 5); /* frames begin with a file */
		at += packed;
	}
	assert_ptr_equal(bytes.data + at, table);
	free(content);
	close(fd);
	close(src);
}

static void run_tool(const struct folder *f, const char *const *argv, struct buf *output)
{
	const struct process_options o = {
		.argv = argv, .directory = f->path, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1
	};
	int status = -1;

	assert_int_equal(process_run(&o, 20000, &status, output), 0);
	if (status != 0)
		fail_msg("%s: %s", argv[0], buf_str(output));
}

/* Other people's tools make the same tree of it. */
static void every_tool_reads_an_artifact(void **state)
{
	static const char *const unpack[] = { "zstd", "-q", "-d", "a.tar.zst", NULL };
	static const char *const list[] = { "tar", "-tf", "a.tar", NULL };
	static const char *const extract[] = { "tar", "-xf", "a.tar", "-C", "out", NULL };
	struct folder *f = *state;
	CLEANUP(buf_done)
	struct buf output = BUF_INIT(100000);
	int src = make_tree(f, 2000000), fd = openat(f->fd, "a.tar.zst", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	uint8_t sha256[SHA256_BYTES], before[SHA256_BYTES], after[SHA256_BYTES];
	uint64_t length;

	create(src, 19, fd, &length, sha256);
	run_tool(f, unpack, &output);
	run_tool(f, list, &output);
	assert_non_null(strstr(buf_str(&output), "bin/run\n"));
	run_tool(f, extract, &output);
	digest_of_folder(src, before);
	digest_of_folder(f->out, after);
	assert_memory_equal(before, after, sizeof(after));
	close(fd);
	close(src);
}

static void an_artifact_is_listed_without_unpacking(void **state)
{
	struct folder *f = *state;
	const struct pack_limits limits = { .max_bytes = 10000000, .max_files = 20 };
	const struct pack_limits few = { .max_bytes = 10000000, .max_files = 2 }, tight = { 1000, 20 };
	uint8_t scanned[SHA256_BYTES], listed[SHA256_BYTES], sha256[SHA256_BYTES];
	CLEANUP(tree_done)
	struct tree before = { 0 };
	struct tree after = { 0 };
	int src = make_tree(f, 3000000), fd = memory_file("", 0);
	uint64_t length = 0;

	create(src, 3, fd, &length, sha256);
	assert_int_equal(tree_scan(&os_posix, src, (uid_t) -1, NULL, NULL, &before, NULL), 0);
	assert_int_equal(pack_list(&os_posix, fd, &limits, &after), 0);
	assert_int_equal(tree_digest(&before, scanned), 0);
	assert_int_equal(tree_digest(&after, listed), 0);
	assert_memory_equal(scanned, listed, sizeof(scanned));
	tree_done(&after);
	assert_int_equal(pack_list(&os_posix, fd, &few, &after), -ERR_TOO_LARGE);
	assert_int_equal(pack_list(&os_posix, fd, &tight, &after), -ERR_TOO_LARGE);
	for (uint64_t cut = 0; cut < length; cut += length / 7 + 1) {
		CLEANUP(buf_done)
		struct buf bytes = BUF_INIT(100000000);
		int part;

		assert_int_equal(buf_reserve(&bytes, length), 0);
		assert_int_equal(pread(fd, bytes.data, length, 0), length);
		part = memory_file(bytes.data, cut);
		if (pack_list(&os_posix, part, &limits, &after) == 0) {
			assert_int_equal(cut, 0); /* nothing is an archive of nothing */
			tree_done(&after);
		}
		close(part);
	}
	close(fd);
	close(src);
}

static void list_refuses(struct folder *f)
{
	CLEANUP(buf_done)
	struct buf packed = BUF_INIT(1000000);
	const struct pack_limits limits = { 100000, 100 };
	struct tree t;
	int fd;

	tar_end(f);
	assert_int_equal(buf_reserve(&packed, ZSTD_compressBound(f->tar.len)), 0);
	packed.len = ZSTD_compress(packed.data, ZSTD_compressBound(f->tar.len), f->tar.data, f->tar.len, 1);
	fd = memory_file(packed.data, packed.len);
	assert_int_equal(pack_list(&os_posix, fd, &limits, &t), -ERR_ARCHIVE_ENTRY);
	close(fd);
	buf_clear(&f->tar);
}

static void what_no_tree_holds_is_not_listed(void **state)
{
	struct folder *f = *state;

	tar_file(f, "../up", 0644, "x");
	list_refuses(f);
	tar_file(f, "/etc/passwd", 0644, "x");
	list_refuses(f);
	tar_record(f, '2', "link", 0777, 0, "../../up", NULL);
	list_refuses(f);
	tar_record(f, '3', "device", 0644, 0, NULL, NULL);
	list_refuses(f);
	tar_file(f, "a", 0644, "x");
	tar_record(f, '1', "b", 0644, 0, "a", NULL);
	list_refuses(f);
}

static void a_file_changed_since_the_scan_is_found(void **state)
{
	struct folder *f = *state;
	CLEANUP(tree_done)
	struct tree t = { 0 };
	int src = make_tree(f, 1000), fd = memory_file("", 0), w;
	uint8_t sha256[SHA256_BYTES];
	uint64_t length;

	assert_int_equal(tree_scan(&os_posix, src, (uid_t) -1, NULL, NULL, &t, NULL), 0);
	w = openat(src, "noise", O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(w, "changed", 7, 10), 7);
	assert_int_equal(pack_create(&os_posix, src, &t, 3, fd, &length, sha256), -ERR_TREE);
	assert_int_equal(ftruncate(w, 2000), 0);
	assert_int_equal(pack_create(&os_posix, src, &t, 3, fd, &length, sha256), -ERR_TREE);
	assert_int_equal(ftruncate(w, 10), 0);
	assert_int_equal(pack_create(&os_posix, src, &t, 3, fd, &length, sha256), -ERR_TREE);
	assert_int_equal(pack_create(&os_posix, src, &t, 20, fd, &length, sha256), -EINVAL);
	assert_int_equal(pack_create(&os_posix, src, &t, 0, fd, &length, sha256), -EINVAL);
	close(w);
	close(fd);
	close(src);
}

static void an_empty_tree_is_an_artifact_too(void **state)
{
	struct folder *f = *state;
	const struct pack_limits none = { 0, 0 };
	struct tree t = { 0 };
	int fd = memory_file("", 0);
	uint8_t sha256[SHA256_BYTES];
	uint64_t length;

	assert_int_equal(pack_create(&os_posix, f->fd, &t, 3, fd, &length, sha256), 0);
	assert_int_equal(pack_extract(&os_posix, fd, PACK_TAR_ZSTD, f->out, &none, NULL), 0);
	close(fd);
}

/* --- input of others: what libarchive's writers make in each media type */

static void add_foreign(struct archive *a, mode_t type, const char *name, mode_t mode, const char *text)
{
	struct archive_entry *e = archive_entry_new();

	archive_entry_set_pathname(e, name);
	archive_entry_set_filetype(e, type);
	archive_entry_set_perm(e, mode);
	if (type == AE_IFLNK)
		archive_entry_set_symlink(e, text);
	if (type == AE_IFREG)
		archive_entry_set_size(e, (la_int64_t) strlen(text));
	assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
	if (type == AE_IFREG)
		assert_int_equal(archive_write_data(a, text, strlen(text)), strlen(text));
	archive_entry_free(e);
}

static struct archive *begin_foreign(enum pack_media media, uint8_t *memory, size_t size, size_t *used)
{
	static const int filters[] = {
		[PACK_TAR_ZSTD] = ARCHIVE_FILTER_ZSTD, [PACK_TAR_GZIP] = ARCHIVE_FILTER_GZIP,
		[PACK_TAR_XZ] = ARCHIVE_FILTER_XZ,     [PACK_TAR] = ARCHIVE_FILTER_NONE,
		[PACK_ZIP] = ARCHIVE_FILTER_NONE,
	};
	struct archive *a = archive_write_new();

	if (media == PACK_ZIP)
		assert_int_equal(archive_write_set_format_zip(a), ARCHIVE_OK);
	else
		assert_int_equal(archive_write_set_format_pax_restricted(a), ARCHIVE_OK);
	assert_int_equal(archive_write_add_filter(a, filters[media]), ARCHIVE_OK);
	assert_int_equal(archive_write_open_memory(a, memory, size, used), ARCHIVE_OK);
	return a;
}

enum { FOREIGN_MAX = 1000000 };

static size_t foreign_archive(enum pack_media media, uint8_t *memory)
{
	size_t used = 0;
	struct archive *a = begin_foreign(media, memory, FOREIGN_MAX, &used);

	add_foreign(a, AE_IFDIR, "./", 0755, NULL);
	add_foreign(a, AE_IFREG, "./late/run", 0775, "#!/bin/sh\n"); /* before its folder */
	add_foreign(a, AE_IFDIR, "./late/", 0755, NULL);
	add_foreign(a, AE_IFREG, "./plain", 0600, "text");
	add_foreign(a, AE_IFLNK, "./link", 0777, "late/run");
	assert_int_equal(archive_write_close(a), ARCHIVE_OK);
	assert_int_equal(archive_write_free(a), ARCHIVE_OK);
	return used;
}

static void takes_every_media_type(void **state)
{
	struct folder *f = *state;
	uint8_t *memory = malloc(FOREIGN_MAX);

	for (int media = PACK_TAR_ZSTD; media <= PACK_ZIP; media++) {
		size_t len = foreign_archive((enum pack_media) media, memory);
		char target[16] = "";

		assert_int_equal(extract_bytes(f, memory, len, (enum pack_media) media, 14, 2, NULL), 0);
		file_is(f->out, "late/run", 0755, "#!/bin/sh\n");
		file_is(f->out, "plain", 0644, "text");
		assert_int_equal(readlinkat(f->out, "link", target, sizeof(target)), 8);
		assert_memory_equal(target, "late/run", 8);
		renew_out(f);
		/* limits to the byte and to the file */
		assert_int_equal(extract_bytes(f, memory, len, (enum pack_media) media, 13, 2, NULL),
				 -ERR_TOO_LARGE);
		renew_out(f);
		assert_int_equal(extract_bytes(f, memory, len, (enum pack_media) media, 14, 1, NULL),
				 -ERR_TOO_LARGE);
		renew_out(f);
	}
	free(memory);
}

static void takes_only_the_media_type_it_was_told(void **state)
{
	struct folder *f = *state;
	uint8_t *memory = malloc(FOREIGN_MAX);

	for (int media = PACK_TAR_ZSTD; media <= PACK_ZIP; media++) {
		size_t len = foreign_archive((enum pack_media) media, memory);

		for (int told = PACK_TAR_ZSTD; told <= PACK_ZIP; told++) {
			if (told == media)
				continue;
			assert_int_equal(extract_bytes(f, memory, len, (enum pack_media) told, 1000, 10, NULL),
					 -ERR_ARCHIVE);
			renew_out(f);
		}
	}
	free(memory);
}

static void every_truncation_is_damage_or_a_smaller_tree(void **state)
{
	struct folder *f = *state;
	uint8_t *memory = malloc(FOREIGN_MAX);

	for (int media = PACK_TAR_ZSTD; media <= PACK_ZIP; media++) {
		size_t len = foreign_archive((enum pack_media) media, memory);
		size_t step = len > 400 ? len / 61 + 1 : 7;

		for (size_t cut = 0; cut < len; cut += step) {
			int r = extract_bytes(f, memory, cut, (enum pack_media) media, 1000, 10, NULL);

			/* Plain tar cut behind an entry looks whole; the tree digest tells. */
			if (r != 0 || media != PACK_TAR)
				assert_true(r == -ERR_ARCHIVE ||
					    (r == 0 && media != PACK_ZIP && cut + 600 > len) || r == 0);
			if (r == 0 && media != PACK_TAR)
				file_is(f->out, "plain", 0644, "text");
			renew_out(f);
		}
	}
	free(memory);
}

static void damage_never_passes_unseen_in_zstd(void **state)
{
	struct folder *f = *state;
	uint8_t *memory = malloc(FOREIGN_MAX);
	size_t len = foreign_archive(PACK_TAR_ZSTD, memory);

	memory[0] ^= 1;
	assert_int_equal(extract_bytes(f, memory, len, PACK_TAR_ZSTD, 1000, 10, NULL), -ERR_ARCHIVE);
	memory[0] ^= 1;
	assert_int_equal(extract_bytes(f, memory, len - 1, PACK_TAR_ZSTD, 1000, 10, NULL), -ERR_ARCHIVE);
	free(memory);
}

static void garbage_is_damage(void **state)
{
	struct folder *f = *state;
	uint8_t noise[5000];
	uint32_t x = 99;

	for (size_t i = 0; i < sizeof(noise); i++) {
		x = x * 1664525 + 1013904223;
		noise[i] = (uint8_t) (x >> 24);
	}
	for (int media = PACK_TAR_ZSTD; media <= PACK_ZIP; media++) {
		assert_int_equal(extract_bytes(f, noise, sizeof(noise), (enum pack_media) media, 1000, 10, NULL),
				 -ERR_ARCHIVE);
		assert_int_equal(extract_bytes(f, "", 0, (enum pack_media) media, 1000, 10, NULL), -ERR_ARCHIVE);
	}
}

static void windows_over_8_mib_are_refused(void **state)
{
	struct folder *f = *state;
	ZSTD_CCtx *z = ZSTD_createCCtx();
	size_t len = 9 * 1024 * 1024, n;
	uint8_t *plain = calloc(1, len), *packed = malloc(ZSTD_compressBound(len));

	(void) ZSTD_CCtx_setParameter(z, ZSTD_c_windowLog, 24);
	n = ZSTD_compress2(z, packed, ZSTD_compressBound(len), plain, len);
	assert_false(ZSTD_isError(n));
	assert_int_equal(extract_bytes(f, packed, n, PACK_TAR_ZSTD, 1000, 10, NULL), -ERR_ARCHIVE);
	ZSTD_freeCCtx(z);
	free(plain);
	free(packed);
}

/* --- entries that are not allowed */

static void refuses_names_that_leave(void **state)
{
	static const char *const names[] = { "../x", "a/../x", "/etc/x", "..",	 "a/..",
					     "a//b", "a/./b",  "a\\b",	 "a\nb", "a\x1b[2J" };
	struct folder *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		tar_file(f, names[i], 0644, "x");
		refuses(f, names[i]);
	}
	tar_record(f, '5', "../d", 0755, 0, NULL, NULL);
	refuses(f, "../d");
	tar_record(f, '2', "../l", 0777, 0, "x", NULL);
	refuses(f, "../l");
}

static void refuses_links_that_leave(void **state)
{
	static const char *const targets[] = { "/etc/passwd", "..", "../x", "a/../../x", "up/../../etc", "/" };
	struct folder *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
		tar_record(f, '2', "l", 0777, 0, targets[i], NULL);
		refuses(f, "l");
	}
	tar_record(f, '2', "l", 0777, 0, "", NULL);
	assert_true(extract_tar(f, NULL) < 0);
}

static void never_goes_through_a_link(void **state)
{
	struct folder *f = *state;

	tar_record(f, '5', "d", 0755, 0, NULL, NULL);
	tar_record(f, '2', "l", 0777, 0, "d", NULL);
	tar_file(f, "l/x", 0644, "through the link");
	refuses(f, "l/x");
	tar_record(f, '2', "l", 0777, 0, "victim", NULL);
	tar_file(f, "l", 0644, "over the link");
	refuses(f, "l");
	tar_file(f, "victim", 0644, "v");
	tar_record(f, '2', "l", 0777, 0, "victim", NULL);
	tar_record(f, '1', "copy", 0644, 0, "l", NULL);
	refuses(f, "copy");
	tar_record(f, '5', "d", 0755, 0, NULL, NULL);
	tar_record(f, '2', "l", 0777, 0, "d", NULL);
	tar_record(f, '5', "l", 0755, 0, NULL, NULL);
	refuses(f, "l");
	tar_record(f, '5', "d", 0755, 0, NULL, NULL);
	tar_record(f, '2', "d", 0777, 0, "x", NULL);
	refuses(f, "d");
}

static void hard_links_become_files(void **state)
{
	struct folder *f = *state;
	struct stat st;

	tar_file(f, "./a", 0755, "content");
	tar_record(f, '1', "b/c", 0644, 0, "./a", NULL);
	assert_int_equal(extract_tar(f, NULL), 0);
	file_is(f->out, "a", 0755, "content");
	file_is(f->out, "b/c", 0755, "content");
	assert_int_equal(fstatat(f->out, "a", &st, 0), 0);
	assert_int_equal(st.st_nlink, 1);
}

static void hard_links_count_as_files_and_bytes(void **state)
{
	struct folder *f = *state;

	tar_file(f, "a", 0644, "content");
	tar_record(f, '1', "b", 0644, 0, "a", NULL);
	tar_end(f);
	assert_int_equal(extract_bytes(f, f->tar.data, f->tar.len, PACK_TAR, 13, 2, NULL), -ERR_TOO_LARGE);
	renew_out(f);
	assert_int_equal(extract_bytes(f, f->tar.data, f->tar.len, PACK_TAR, 14, 1, NULL), -ERR_TOO_LARGE);
	renew_out(f);
	assert_int_equal(extract_bytes(f, f->tar.data, f->tar.len, PACK_TAR, 14, 2, NULL), 0);
}

static void refuses_hard_links_to_anything_else(void **state)
{
	static const char *const targets[] = { "/etc/passwd", "../out/../a", "missing", "later", "d", ".." };
	struct folder *f = *state;

	put_file(f->fd, "a", "outside", 7, 0644);
	for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
		tar_record(f, '5', "d", 0755, 0, NULL, NULL);
		tar_record(f, '1', "h", 0644, 0, targets[i], NULL);
		tar_file(f, "later", 0644, "x");
		refuses(f, "h");
	}
}

static void refuses_what_is_no_file_folder_or_link(void **state)
{
	struct folder *f = *state;

	for (const char *type = "346"; *type; type++) { /* character and block device, fifo */
		tar_record(f, *type, "special", 0644, 0, NULL, NULL);
		refuses(f, "special");
	}
}

static void refuses_special_modes(void **state)
{
	static const unsigned modes[] = { 04755, 02755, 01755, 0646, 0777, 0002 };
	struct folder *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		tar_file(f, "f", modes[i], "x");
		refuses(f, "f");
		tar_record(f, '5', "d", modes[i], 0, NULL, NULL);
		refuses(f, "d");
	}
}

static void modes_are_two_for_files_and_one_for_folders(void **state)
{
	struct folder *f = *state;
	struct stat st;

	tar_record(f, '5', "d", 0700, 0, NULL, NULL);
	tar_file(f, "group", 0664, "");
	tar_file(f, "none", 0, "");
	tar_file(f, "x", 0010, "");
	(void) umask(077); /* not even the process decides */
	assert_int_equal(extract_tar(f, NULL), 0);
	(void) umask(022);
	file_is(f->out, "group", 0644, "");
	file_is(f->out, "none", 0644, "");
	file_is(f->out, "x", 0755, "");
	assert_int_equal(fstatat(f->out, "d", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0755);
}

static void refuses_names_twice(void **state)
{
	struct folder *f = *state;

	tar_file(f, "a", 0644, "1");
	tar_file(f, "a", 0644, "2");
	refuses(f, "a");
	tar_file(f, "a", 0644, "1");
	tar_file(f, "./a", 0644, "2");
	refuses(f, "a");
	tar_record(f, '5', "d", 0755, 0, NULL, NULL);
	tar_file(f, "d/x", 0644, "1");
	tar_record(f, '5', "d/", 0755, 0, NULL, NULL);
	refuses(f, "d");
	tar_record(f, '2', "l", 0777, 0, "x", NULL);
	tar_record(f, '2', "l", 0777, 0, "y", NULL);
	refuses(f, "l");
	tar_record(f, '5', "./", 0755, 0, NULL, NULL);
	tar_record(f, '5', "./", 0755, 0, NULL, NULL);
	refuses(f, ".");
}

static void refuses_a_file_as_a_folder(void **state)
{
	struct folder *f = *state;

	tar_file(f, "a", 0644, "1");
	tar_file(f, "a/b", 0644, "2");
	refuses(f, "a/b");
	tar_file(f, "a", 0644, "1");
	tar_record(f, '5', "a", 0755, 0, NULL, NULL);
	refuses(f, "a");
	tar_file(f, "a/b", 0644, "1");
	tar_file(f, "a", 0644, "2");
	refuses(f, "a");
}

static void a_claim_of_10_gb_is_refused_before_it_is_written(void **state)
{
	struct folder *f = *state;
	struct stat st;

	tar_record(f, '0', "big", 0644, UINT64_C(10) << 30, NULL, NULL);
	assert_int_equal(extract_tar(f, NULL), -ERR_TOO_LARGE);
	assert_int_equal(fstatat(f->out, "big", &st, 0), -1);
	buf_clear(&f->tar);
	/* the same as a sparse file: 10 GB in a pax header, no data at all */
	tar_sparse(f, "10737418240", "0\n", "");
	assert_int_equal(extract_tar(f, NULL), -ERR_TOO_LARGE);
}

static void sparse_files_keep_their_holes(void **state)
{
	struct folder *f = *state;
	char text[4] = "";
	struct stat st;
	int fd;

	tar_sparse(f, "5000", "1\n1000\n3\n", "abc");
	assert_int_equal(extract_tar(f, NULL), 0);
	assert_int_equal(fstatat(f->out, "hole", &st, 0), 0);
	assert_int_equal(st.st_size, 5000);
	fd = openat(f->out, "hole", O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, text, 3, 1000), 3);
	assert_string_equal(text, "abc");
	close(fd);
}

static void sparse_maps_that_overlap_or_overflow_are_damage(void **state)
{
	static const char *const maps[] = { "2\n1000\n3\n500\n3\n", "1\n4999\n3\n",  "1\n9223372036854775807\n3\n",
					    "1\n-5\n3\n",	    "99999999999\n", "x\n" };
	struct folder *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(maps); i++) {
		tar_sparse(f, "5000", maps[i], "abcdef");
		assert_int_equal(extract_tar(f, NULL), -ERR_ARCHIVE);
		buf_clear(&f->tar);
		renew_out(f);
	}
}

static void a_bomb_stops_at_the_limit(void **state)
{
	struct folder *f = *state;
	size_t len = 50 * 1000 * 1000, used = 0;
	char *zeros = calloc(1, len);
	uint8_t *memory = malloc(len);

	for (int media = PACK_TAR_ZSTD; media <= PACK_ZIP; media++) {
		struct archive *a = begin_foreign((enum pack_media) media, memory, len, &used);
		struct archive_entry *e = archive_entry_new();
		struct stat st = { 0 };

		if (media == PACK_TAR || media == PACK_TAR_XZ) { /* not packed at all; too slow to pack */
			archive_entry_free(e);
			archive_write_free(a);
			continue;
		}
		archive_entry_set_pathname(e, "bomb");
		archive_entry_set_filetype(e, AE_IFREG);
		archive_entry_set_perm(e, 0644);
		if (media != PACK_ZIP) /* a zip says so only behind the data */
			archive_entry_set_size(e, (la_int64_t) len);
		assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
		assert_int_equal(archive_write_data(a, zeros, len), len);
		archive_entry_free(e);
		assert_int_equal(archive_write_close(a), ARCHIVE_OK);
		archive_write_free(a);
		assert_true(used < len / 100);
		assert_int_equal(extract_bytes(f, memory, used, (enum pack_media) media, 1000, 10, NULL),
				 -ERR_TOO_LARGE);
		if (fstatat(f->out, "bomb", &st, 0) == 0)
			assert_true(st.st_size <= 1000);
		renew_out(f);
	}
	free(zeros);
	free(memory);
}

static void folders_and_links_are_bounded_by_the_count_of_files(void **state)
{
	struct folder *f = *state;
	char name[32];

	for (int i = 0; i < 4200; i++) {
		(void) snprintf(name, sizeof(name), "d%d", i);
		tar_record(f, '5', name, 0755, 0, NULL, NULL);
	}
	tar_end(f);
	assert_int_equal(extract_bytes(f, f->tar.data, f->tar.len, PACK_TAR, 0, 0, NULL), -ERR_TOO_LARGE);
	renew_out(f);
	assert_int_equal(extract_bytes(f, f->tar.data, f->tar.len, PACK_TAR, 0, 100, NULL), 0);
}

static void headers_are_bounded(void **state)
{
	struct folder *f = *state;
	size_t len = 900 * 1000;
	char *comment = malloc(len), *plain;
	uint8_t *packed;
	size_t n;

	/* Thirty pax headers of 900 KB that pack to nothing, each for an empty file. */
	memset(comment, 'x', len);
	memcpy(comment, "900000 comment=", 15);
	comment[len - 1] = '\n';
	for (int i = 0; i < 30; i++) {
		char name[16];

		(void) snprintf(name, sizeof(name), "f%d", i);
		pax_records(f, comment, len);
		tar_file(f, name, 0644, "");
	}
	tar_end(f);
	assert_int_equal(extract_bytes(f, f->tar.data, f->tar.len, PACK_TAR, 0, 100, NULL), -ERR_TOO_LARGE);
	renew_out(f);
	packed = malloc(ZSTD_compressBound(f->tar.len));
	n = ZSTD_compress(packed, ZSTD_compressBound(f->tar.len), f->tar.data, f->tar.len, 1);
	assert_false(ZSTD_isError(n));
	assert_int_equal(extract_bytes(f, packed, n, PACK_TAR_ZSTD, 0, 100, NULL), -ERR_TOO_LARGE);
	renew_out(f);
	/* One that is larger than any header may be. */
	buf_clear(&f->tar);
	plain = malloc(3 * len);
	memset(plain, 'x', 3 * len);
	memcpy(plain, "2700000 comment=", 16);
	plain[3 * len - 1] = '\n';
	pax_records(f, plain, 3 * len);
	tar_file(f, "f", 0644, "");
	assert_int_equal(extract_tar(f, NULL), -ERR_ARCHIVE);
	free(plain);
	free(packed);
	free(comment);
}

static void pax_headers_are_looked_at_like_the_rest(void **state)
{
	struct folder *f = *state;

	pax(f, "path", "../bad");
	tar_file(f, "good", 0644, "x");
	refuses(f, "../bad");
	pax(f, "path", "/etc/passwd");
	tar_file(f, "good", 0644, "x");
	refuses(f, "/etc/passwd");
	pax(f, "linkpath", "/etc/passwd");
	tar_record(f, '2', "l", 0777, 0, "x", NULL);
	refuses(f, "l");
	pax(f, "linkpath", "/etc/passwd");
	tar_record(f, '1', "h", 0644, 0, "x", NULL);
	refuses(f, "h");
	pax(f, "SCHILY.xattr.security.capability", "abc");
	tar_file(f, "capable", 0755, "x");
	refuses(f, "capable");
	/* a global header for all that follow */
	tar_record(f, 'g', "global", 0644, 15, NULL, "15 path=../bad\n");
	tar_file(f, "good", 0644, "x");
	if (extract_tar(f, NULL) == 0)
		file_is(f->out, "good", 0644, "x");
	renew_out(f);
	buf_clear(&f->tar);
	/* a size that claims the next header as content */
	pax(f, "size", "600");
	tar_file(f, "swallow", 0644, "x");
	tar_file(f, "evil", 04755, "x");
	if (extract_tar(f, NULL) == 0)
		assert_int_equal(faccessat(f->out, "evil", F_OK, 0), -1);
}

static void names_keep_their_bytes(void **state)
{
	struct folder *f = *state;
	struct stat st;

	tar_file(f, "e\xcc\x81", 0644, "decomposed");
	tar_file(f, "\xff", 0644, "no utf-8");
	assert_int_equal(extract_tar(f, NULL), 0);
	assert_int_equal(fstatat(f->out, "e\xcc\x81", &st, 0), 0);
	assert_int_equal(fstatat(f->out, "\xff", &st, 0), 0);
}

static void wants_an_empty_folder(void **state)
{
	struct folder *f = *state;

	put_file(f->out, "there", "x", 1, 0644);
	tar_file(f, "a", 0644, "x");
	assert_int_equal(extract_tar(f, NULL), -ENOTEMPTY);
}

/* --- a system that fails */

static ssize_t no_space(const struct os *os, int fd, const void *data, size_t len, uint64_t offset)
{
	(void) os;
	(void) fd;
	(void) data;
	(void) len;
	(void) offset;
	return -ENOSPC;
}

static ssize_t bad_disk(const struct os *os, int fd, void *data, size_t len, uint64_t offset)
{
	(void) os;
	(void) fd;
	(void) data;
	(void) len;
	(void) offset;
	return -EIO;
}

static void failures_of_the_system_keep_their_name(void **state)
{
	struct folder *f = *state;
	const struct pack_limits limits = { 1000, 10 };
	struct os full = os_posix, broken = os_posix;
	uint8_t *memory = malloc(FOREIGN_MAX);

	full.pwrite = no_space;
	broken.pread = bad_disk;
	for (int media = PACK_TAR_ZSTD; media <= PACK_ZIP; media++) {
		size_t len = foreign_archive((enum pack_media) media, memory);
		int fd = memory_file(memory, len);
		char *offender = NULL;

		assert_int_equal(pack_extract(&full, fd, (enum pack_media) media, f->out, &limits, &offender),
				 -ENOSPC);
		assert_string_equal(offender, "late/run");
		free(offender);
		renew_out(f);
		assert_int_equal(pack_extract(&broken, fd, (enum pack_media) media, f->out, &limits, NULL), -EIO);
		close(fd);
	}
	free(memory);
}

/* --- names of media types, gzip */

static void media_names_go_both_ways(void **state)
{
	(void) state;
	for (int media = PACK_TAR_ZSTD; media <= PACK_ZIP; media++)
		assert_int_equal(pack_media_parse(pack_media_name((enum pack_media) media)), media);
	assert_int_equal(pack_media_parse("application/x-tar+bzip2"), -1);
	assert_int_equal(pack_media_parse(""), -1);
	assert_int_equal(pack_media_parse(NULL), -1);
}

static void gzip_goes_both_ways(void **state)
{
	CLEANUP(buf_done)
	struct buf packed = BUF_INIT(200000), plain = BUF_INIT(200000);
	char text[150000];

	(void) state;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char) ('a' + i % 23);
	assert_int_equal(buf_add_str(&packed, "front"), 0);
	assert_int_equal(gzip_compress(text, sizeof(text), &packed), 0);
	assert_memory_equal(packed.data, "front\x1f\x8b", 7);
	assert_int_equal(buf_add_str(&plain, "front"), 0);
	assert_int_equal(gzip_expand(packed.data + 5, packed.len - 5, &plain), 0);
	assert_int_equal(plain.len, sizeof(text) + 5);
	assert_memory_equal(plain.data + 5, text, sizeof(text));
	buf_clear(&packed);
	buf_clear(&plain);
	assert_int_equal(gzip_compress("", 0, &packed), 0);
	assert_int_equal(gzip_expand(packed.data, packed.len, &plain), 0);
	assert_int_equal(plain.len, 0);
}

static void gzip_is_bounded_to_the_byte(void **state)
{
	CLEANUP(buf_done)
	struct buf packed = BUF_INIT(200000), exact = BUF_INIT(100000), less = BUF_INIT(99999), none = BUF_INIT(0),
		   tight = BUF_INIT(50);
	char *zeros = calloc(1, 100000);

	(void) state;
	assert_int_equal(gzip_compress(zeros, 100000, &packed), 0);
	assert_int_equal(gzip_expand(packed.data, packed.len, &exact), 0);
	assert_int_equal(exact.len, 100000);
	assert_int_equal(gzip_expand(packed.data, packed.len, &less), -ERR_TOO_LARGE);
	assert_int_equal(less.len, 0);
	assert_int_equal(gzip_expand(packed.data, packed.len, &none), -ERR_TOO_LARGE);
	assert_int_equal(buf_add_str(&tight, "x"), 0);
	assert_int_equal(gzip_compress(zeros, 100000, &tight), -ERR_TOO_LARGE);
	assert_string_equal(buf_str(&tight), "x");
	free(zeros);
}

static void gzip_damage_is_seen(void **state)
{
	CLEANUP(buf_done)
	struct buf packed = BUF_INIT(2000), out = BUF_INIT(2000);

	(void) state;
	assert_int_equal(gzip_compress("hello, hello, hello", 19, &packed), 0);
	for (size_t cut = 0; cut < packed.len; cut++)
		assert_int_equal(gzip_expand(packed.data, cut, &out), -ERR_ARCHIVE);
	packed.data[packed.len - 5] ^= 1; /* the checksum */
	assert_int_equal(gzip_expand(packed.data, packed.len, &out), -ERR_ARCHIVE);
	packed.data[packed.len - 5] ^= 1;
	assert_int_equal(buf_add_byte(&packed, 0), 0); /* one member and nothing behind it */
	assert_int_equal(gzip_expand(packed.data, packed.len, &out), -ERR_ARCHIVE);
	assert_int_equal(gzip_expand("not gzip at all", 15, &out), -ERR_ARCHIVE);
	assert_int_equal(out.len, 0);
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_FOLDER(an_artifact_unpacks_to_the_same_digest),
		WITH_FOLDER(artifacts_are_reproducible),
		WITH_FOLDER(the_seek_table_finds_every_frame),
		WITH_FOLDER(every_tool_reads_an_artifact),
		WITH_FOLDER(an_artifact_is_listed_without_unpacking),
		WITH_FOLDER(what_no_tree_holds_is_not_listed),
		WITH_FOLDER(a_file_changed_since_the_scan_is_found),
		WITH_FOLDER(an_empty_tree_is_an_artifact_too),
		WITH_FOLDER(takes_every_media_type),
		WITH_FOLDER(takes_only_the_media_type_it_was_told),
		WITH_FOLDER(every_truncation_is_damage_or_a_smaller_tree),
		WITH_FOLDER(damage_never_passes_unseen_in_zstd),
		WITH_FOLDER(garbage_is_damage),
		WITH_FOLDER(windows_over_8_mib_are_refused),
		WITH_FOLDER(refuses_names_that_leave),
		WITH_FOLDER(refuses_links_that_leave),
		WITH_FOLDER(never_goes_through_a_link),
		WITH_FOLDER(hard_links_become_files),
		WITH_FOLDER(hard_links_count_as_files_and_bytes),
		WITH_FOLDER(refuses_hard_links_to_anything_else),
		WITH_FOLDER(refuses_what_is_no_file_folder_or_link),
		WITH_FOLDER(refuses_special_modes),
		WITH_FOLDER(modes_are_two_for_files_and_one_for_folders),
		WITH_FOLDER(refuses_names_twice),
		WITH_FOLDER(refuses_a_file_as_a_folder),
		WITH_FOLDER(a_claim_of_10_gb_is_refused_before_it_is_written),
		WITH_FOLDER(sparse_files_keep_their_holes),
		WITH_FOLDER(sparse_maps_that_overlap_or_overflow_are_damage),
		WITH_FOLDER(a_bomb_stops_at_the_limit),
		WITH_FOLDER(folders_and_links_are_bounded_by_the_count_of_files),
		WITH_FOLDER(headers_are_bounded),
		WITH_FOLDER(pax_headers_are_looked_at_like_the_rest),
		WITH_FOLDER(names_keep_their_bytes),
		WITH_FOLDER(wants_an_empty_folder),
		WITH_FOLDER(failures_of_the_system_keep_their_name),
		cmocka_unit_test(media_names_go_both_ways),
		cmocka_unit_test(gzip_goes_both_ways),
		cmocka_unit_test(gzip_is_bounded_to_the_byte),
		cmocka_unit_test(gzip_damage_is_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
