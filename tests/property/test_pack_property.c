/* Whatever the tree: packed and unpacked it has the same digest, its listing parses back, and its artifact never changes. */
#include "pack/pack.h"

#include "base/err.h"
#include "os/durable.h"
#include "tree/tree.h"

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

#include <cmocka.h>

enum { TREES = 60 };

static uint64_t seed_state;

static uint64_t next(uint64_t below)
{
	seed_state ^= seed_state << 13;
	seed_state ^= seed_state >> 7;
	seed_state ^= seed_state << 17;
	return (seed_state >> 11) % below;
}

/* Any bytes a path may hold, of any length up to `max`. */
static void random_name(char *out, size_t max)
{
	size_t len = 1 + next(next(4) == 0 ? max : 8);

	for (size_t i = 0; i < len; i++) {
		do
			out[i] = (char) (0x20 + next(0xe0));
		while (out[i] == '/' || out[i] == '\\' || out[i] == 0x7f || out[i] == '.');
	}
	out[len] = '\0';
}

static void random_file(int dirfd, const char *name)
{
	static const size_t sizes[] = { 0, 1, 511, 512, 513, 4096, 70000, 1 << 20, (1 << 20) + 1 };
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	size_t size = next(8) == 0 ? sizes[next(ARRAY_LEN(sizes))] : next(3000);
	uint8_t *data;

	if (fd < 0)
		return; /* the name is taken */
	data = malloc(size + 1);
	assert_non_null(data);
	memset(data, (int) next(256), size);
	for (size_t i = 0; i < size && next(2); i++)
		data[i] = (uint8_t) next(256);
	assert_int_equal(file_write_all(&os_posix, fd, data, size), 0);
	if (next(3) == 0)
		assert_int_equal(fchmod(fd, 0755), 0);
	free(data);
	close(fd);
}

static void random_folder(int dirfd, int depth)
{
	size_t count = next(depth == 0 ? 12 : 6);
	char name[256], target[256];

	for (size_t i = 0; i < count; i++) {
		random_name(name, 250);
		switch (next(6)) {
		case 0:
			random_name(target, 250);
			(void) symlinkat(target, dirfd, name); /* or the name is taken */
			break;
		case 1:
			if (depth < 3 && mkdirat(dirfd, name, 0755) == 0) {
				int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

				assert_true(fd >= 0);
				random_folder(fd, depth + 1);
				close(fd);
			}
			break;
		default:
			random_file(dirfd, name);
		}
	}
}

static void scan(int dirfd, struct tree *t)
{
	char *offender = NULL;
	int r = tree_scan(&os_posix, dirfd, (uid_t) -1, NULL, NULL, t, &offender);

	if (r < 0)
		fail_msg("'%s': %s", offender ? offender : "", err_text(r));
}

static void listing_parses_back(const struct tree *t)
{
	CLEANUP(buf_done)
	struct buf listing = BUF_INIT(1 << 24), again = BUF_INIT(1 << 24);
	CLEANUP(tree_done)
	struct tree parsed = { 0 };

	assert_int_equal(tree_listing(t, &listing), 0);
	assert_int_equal(tree_parse(listing.data, listing.len, &parsed), 0);
	assert_int_equal(parsed.files, t->files);
	assert_int_equal(parsed.total_bytes, t->total_bytes);
	assert_int_equal(tree_listing(&parsed, &again), 0);
	assert_int_equal(again.len, listing.len);
	assert_memory_equal(again.data, listing.data, listing.len);
}

static void artifact_keeps_the_digest(const struct tree *t, int src, int out)
{
	const struct pack_limits limits = { t->total_bytes, t->files };
	CLEANUP(tree_done)
	struct tree unpacked = { 0 };
	uint8_t first[SHA256_BYTES], second[SHA256_BYTES];
	int fd = memfd_create("artifact", MFD_CLOEXEC), fd2 = memfd_create("again", MFD_CLOEXEC);
	uint64_t length = 0, length2 = 0;
	char *offender = NULL;
	int r;

	assert_int_equal(pack_create(&os_posix, src, t, 1, fd, &length, first), 0);
	assert_int_equal(pack_create(&os_posix, src, t, 1, fd2, &length2, second), 0);
	assert_int_equal(length, length2);
	assert_memory_equal(first, second, sizeof(first));
	r = pack_extract(&os_posix, fd, PACK_TAR_ZSTD, out, &limits, &offender);
	if (r < 0)
		fail_msg("'%s': %s", offender ? offender : "", err_text(r));
	scan(out, &unpacked);
	assert_int_equal(tree_digest(t, first), 0);
	assert_int_equal(tree_digest(&unpacked, second), 0);
	assert_memory_equal(first, second, sizeof(first));
	close(fd);
	close(fd2);
}

static void packing_keeps_every_tree(void **state)
{
	(void) state;
	(void) umask(022);
	for (uint64_t i = 1; i <= TREES; i++) {
		char path[] = "/tmp/selfright-property-XXXXXX";
		CLEANUP(tree_done)
		struct tree t = { 0 };
		int dirfd, src, out;

		seed_state = i * 0x9E3779B97F4A7C15;
		assert_non_null(mkdtemp(path));
		dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_int_equal(mkdirat(dirfd, "src", 0755), 0);
		assert_int_equal(mkdirat(dirfd, "out", 0755), 0);
		src = openat(dirfd, "src", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		out = openat(dirfd, "out", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		random_folder(src, 0);
		scan(src, &t);
		listing_parses_back(&t);
		artifact_keeps_the_digest(&t, src, out);
		close(src);
		close(out);
		close(dirfd);
		assert_int_equal(tree_remove(&os_posix, AT_FDCWD, path), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(packing_keeps_every_tree) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
