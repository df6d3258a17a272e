/* What common/tree/tree.h promises. */
#include "tree/tree.h"

#include "base/err.h"
#include "crypto/digest.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#define EMPTY_SHA "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct folder {
	char path[64];
	int fd;
};

static int setup(void **state)
{
	struct folder *f = calloc(1, sizeof(*f));

	(void) umask(022);
	(void) snprintf(f->path, sizeof(f->path), "/tmp/selfright-tree-XXXXXX");
	if (!mkdtemp(f->path))
		return -1;
	f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = f;
	return f->fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	struct folder *f = *state;
	int r = tree_remove(&os_posix, AT_FDCWD, f->path);

	close(f->fd);
	free(f);
	return r;
}

static void put_file(int dirfd, const char *name, const char *text, mode_t mode)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void scan_ok(int dirfd, uid_t owner, struct tree *t)
{
	char *offender = NULL;

	assert_int_equal(tree_scan(&os_posix, dirfd, owner, NULL, NULL, t, &offender), 0);
	assert_null(offender);
}

static void scan_refuses_as(int dirfd, uid_t owner, const char *name, int error)
{
	struct tree t = { 0 };
	char *offender = NULL;

	assert_int_equal(tree_scan(&os_posix, dirfd, owner, NULL, NULL, &t, &offender), error);
	assert_non_null(offender);
	assert_string_equal(offender, name);
	assert_int_equal(t.count, 0);
	free(offender);
	/* and nobody has to ask for the name */
	assert_int_equal(tree_scan(&os_posix, dirfd, owner, NULL, NULL, &t, NULL), error);
}

static void scan_refuses(int dirfd, const char *name)
{
	scan_refuses_as(dirfd, (uid_t) -1, name, -ERR_ARCHIVE_ENTRY);
}

static void lists_sorted_bytewise_by_whole_path(void **state)
{
	static const char expected[] =
		"d 0755 0 - a\0\0"
		"f 0644 1 ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb a-b\0\0"
		"f 0755 0 " EMPTY_SHA " a/run\0\0"
		"l 0777 3 - a/up\0../\0"
		"f 0644 0 " EMPTY_SHA " \xc3\xa9 x\0\0";
	CLEANUP(tree_done)
	struct tree t = { 0 };
	CLEANUP(buf_done)
	struct buf listing = BUF_INIT(4096);
	struct folder *f = *state;
	uint8_t digest[SHA256_BYTES], again[SHA256_BYTES];

	assert_int_equal(mkdirat(f->fd, "a", 0755), 0);
	put_file(f->fd, "a-b", "a", 0644);
	put_file(f->fd, "a/run", "", 0755);
	put_file(f->fd, "\xc3\xa9 x", "", 0644);
	assert_int_equal(symlinkat("../", f->fd, "a/up"), 0);
	scan_ok(f->fd, (uid_t) -1, &t);
	assert_int_equal(t.count, 5);
	assert_int_equal(t.files, 3);
	assert_int_equal(t.total_bytes, 1);
	assert_int_equal(tree_listing(&t, &listing), 0);
	assert_int_equal(listing.len, sizeof(expected) - 1);
	assert_memory_equal(listing.data, expected, listing.len);
	assert_int_equal(tree_digest(&t, digest), 0);
	assert_int_equal(sha256_of(expected, sizeof(expected) - 1, again), 0);
	assert_memory_equal(digest, again, sizeof(digest));
}

static void an_empty_tree_is_the_digest_of_nothing(void **state)
{
	CLEANUP(tree_done)
	struct tree t = { 0 };
	struct folder *f = *state;
	uint8_t digest[SHA256_BYTES];
	char hex[SHA256_HEX + 1];

	scan_ok(f->fd, (uid_t) -1, &t);
	assert_int_equal(tree_digest(&t, digest), 0);
	hex_encode(hex, digest, sizeof(digest));
	assert_string_equal(hex, EMPTY_SHA);
}

static void a_long_listing_has_the_same_digest_in_pieces(void **state)
{
	CLEANUP(tree_done)
	struct tree t = { 0 };
	CLEANUP(buf_done)
	struct buf listing = BUF_INIT(TREE_LISTING_MAX);
	uint8_t whole[SHA256_BYTES], pieces[SHA256_BYTES];

	(void) state;
	for (int i = 0; i < 5000; i++) {
		char path[32];
		struct tree_entry e = { .type = 'f', .mode = 0644, .size = (uint64_t) i, .path = path };

		(void) snprintf(path, sizeof(path), "file-%06d", (i * 7919) % 5000);
		assert_int_equal(tree_add(&t, &e), 0);
	}
	tree_sort(&t);
	assert_int_equal(tree_listing(&t, &listing), 0);
	assert_int_equal(sha256_of(listing.data, listing.len, whole), 0);
	assert_int_equal(tree_digest(&t, pieces), 0);
	assert_memory_equal(whole, pieces, sizeof(whole));
}

static void publishing_lists_the_modes_that_unpacking_sets(void **state)
{
	CLEANUP(tree_done)
	struct tree t = { 0 };
	struct folder *f = *state;

	assert_int_equal(mkdirat(f->fd, "d", 0700), 0);
	put_file(f->fd, "group", "", 0664);
	put_file(f->fd, "secret", "", 0600);
	put_file(f->fd, "tool", "", 0710);
	scan_ok(f->fd, (uid_t) -1, &t);
	assert_int_equal(t.entries[0].mode, 0755);
	assert_int_equal(t.entries[1].mode, 0644);
	assert_int_equal(t.entries[2].mode, 0644);
	assert_int_equal(t.entries[3].mode, 0755);
}

static void a_sealed_tree_is_listed_as_it_is(void **state)
{
	CLEANUP(tree_done)
	struct tree t = { 0 };
	struct folder *f = *state;

	assert_int_equal(mkdirat(f->fd, "d", 0500), 0);
	put_file(f->fd, "f", "", 0444);
	scan_ok(f->fd, geteuid(), &t);
	assert_int_equal(t.entries[0].mode, 0500);
	assert_int_equal(t.entries[1].mode, 0444);
	put_file(f->fd, "group", "", 0664);
	scan_refuses_as(f->fd, geteuid(), "group", -ERR_ARCHIVE_ENTRY);
}

static void the_owner_counts_only_when_asked(void **state)
{
	CLEANUP(tree_done)
	struct tree t = { 0 };
	struct folder *f = *state;

	put_file(f->fd, "f", "", 0644);
	scan_ok(f->fd, (uid_t) -1, &t);
	scan_refuses_as(f->fd, geteuid() + 1, "f", -ERR_ARCHIVE_ENTRY);
}

static void refuses_fifos_and_sockets(void **state)
{
	struct folder *f = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd;

	assert_int_equal(mkdirat(f->fd, "d", 0755), 0);
	assert_int_equal(mkfifoat(f->fd, "d/fifo", 0644), 0);
	scan_refuses(f->fd, "d/fifo"); /* and does not wait for a writer */
	assert_int_equal(unlinkat(f->fd, "d/fifo", 0), 0);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	(void) snprintf(address.sun_path, sizeof(address.sun_path), "%s/sock", f->path);
	assert_int_equal(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
	scan_refuses(f->fd, "sock");
	close(fd);
}

static void refuses_devices(void **state)
{
	struct folder *f = *state;

	if (mknodat(f->fd, "null", S_IFCHR | 0644, makedev(1, 3)) < 0)
		skip(); /* not root */
	scan_refuses(f->fd, "null");
}

static void refuses_special_modes(void **state)
{
	static const mode_t modes[] = { 04755, 02755, 01644, 0646, 0666 };
	struct folder *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		put_file(f->fd, "f", "", modes[i]);
		scan_refuses(f->fd, "f");
		assert_int_equal(unlinkat(f->fd, "f", 0), 0);
	}
	assert_int_equal(mkdirat(f->fd, "d", 0755), 0);
	assert_int_equal(fchmodat(f->fd, "d", 01755, 0), 0);
	scan_refuses(f->fd, "d");
	assert_int_equal(fchmodat(f->fd, "d", 0777, 0), 0);
	scan_refuses(f->fd, "d");
	assert_int_equal(fchmodat(f->fd, "d", 02755, 0), 0);
	scan_refuses(f->fd, "d");
}

static void refuses_extended_attributes(void **state)
{
	struct folder *f = *state;
	char path[128];

	put_file(f->fd, "f", "", 0644);
	(void) snprintf(path, sizeof(path), "%s/f", f->path);
	if (setxattr(path, "user.note", "x", 1, 0) < 0)
		skip(); /* this file system has none */
	scan_refuses(f->fd, "f");
	assert_int_equal(removexattr(path, "user.note"), 0);
	assert_int_equal(mkdirat(f->fd, "d", 0755), 0);
	(void) snprintf(path, sizeof(path), "%s/d", f->path);
	assert_int_equal(setxattr(path, "user.note", "x", 1, 0), 0);
	scan_refuses(f->fd, "d");
}

static void refuses_links_that_leave(void **state)
{
	static const char *const targets[] = { "/etc/passwd", "..", "../x", "x/../../y", "x/../y", "a\nb" };
	struct folder *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
		assert_int_equal(symlinkat(targets[i], f->fd, "l"), 0);
		scan_refuses(f->fd, "l");
		assert_int_equal(unlinkat(f->fd, "l", 0), 0);
	}
}

static void refuses_names_that_are_no_paths(void **state)
{
	struct folder *f = *state;

	put_file(f->fd, "a\\b", "", 0644);
	scan_refuses(f->fd, "a\\b");
	assert_int_equal(unlinkat(f->fd, "a\\b", 0), 0);
	put_file(f->fd, "a\x01", "", 0644);
	scan_refuses(f->fd, "a\x01");
}

static void refuses_paths_that_are_too_long(void **state)
{
	struct folder *f = *state;
	char part[201], path[4096] = "";
	int fd = dup(f->fd), next, depth = 0;

	memset(part, 'x', 200);
	part[200] = '\0';
	for (; depth < 6; depth++) { /* 6 * 201 > 1024 */
		assert_int_equal(mkdirat(fd, part, 0755), 0);
		next = openat(fd, part, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(fd);
		fd = next;
		(void) snprintf(path + strlen(path), sizeof(path) - strlen(path), "%s%s", depth ? "/" : "", part);
	}
	close(fd);
	scan_refuses(f->fd, path);
}

static void a_deep_tree_costs_no_descriptors(void **state)
{
	CLEANUP(tree_done)
	struct tree t = { 0 };
	struct folder *f = *state;
	int fd = dup(f->fd), next;

	for (int i = 0; i < 500; i++) { /* "d/d/d...": 999 bytes */
		assert_int_equal(mkdirat(fd, "d", 0755), 0);
		next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(fd);
		fd = next;
	}
	close(fd);
	scan_ok(f->fd, (uid_t) -1, &t);
	assert_int_equal(t.count, 500);
}

static int known_as_ones(void *user, const char *path, int fd, uint8_t ret[static SHA256_BYTES])
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	if (strcmp(path, user) != 0)
		return 1;
	memset(ret, 0x11, SHA256_BYTES);
	return 0;
}

static void takes_digests_that_are_known(void **state)
{
	CLEANUP(tree_done)
	struct tree t = { 0 };
	struct folder *f = *state;
	char known[] = "known";
	uint8_t ones[SHA256_BYTES];

	memset(ones, 0x11, sizeof(ones));
	put_file(f->fd, "known", "abc", 0644);
	put_file(f->fd, "new", "", 0644);
	assert_int_equal(tree_scan(&os_posix, f->fd, (uid_t) -1, known_as_ones, known, &t, NULL), 0);
	assert_memory_equal(t.entries[0].sha256, ones, sizeof(ones));
	assert_int_equal(t.entries[0].size, 3);
	assert_memory_not_equal(t.entries[1].sha256, ones, sizeof(ones));
}

static void links_stay_inside_or_not(void **state)
{
	static const struct {
		const char *path, *target;
		bool inside;
	} rows[] = {
		{ "l", "x", true },
		{ "l", ".", true },
		{ "l", "./x//y/", true },
		{ "a/l", "..", true },
		{ "a/l", "../x", true },
		{ "a/b/l", "../../x", true },
		{ "a/b/l", "./.././../x", true },
		{ "l", "..x", true },
		{ "l", "...", true },
		{ "l", "..", false },
		{ "a/l", "../..", false },
		{ "a/b/l", "../../../x", false },
		{ "l", "/", false },
		{ "l", "/x", false },
		{ "l", "", false },
		/* a/up -> .. is fine; behind it ".." would be the folder above the tree */
		{ "a/out", "up/../../etc", false },
		{ "a/b", "x/..", false },
		{ "l", "a\x7f", false },
	};
	char long_target[1100];

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(tree_link_stays_inside(rows[i].path, rows[i].target), rows[i].inside);
	memset(long_target, 'x', sizeof(long_target));
	long_target[1025] = '\0';
	assert_false(tree_link_stays_inside("l", long_target));
	assert_false(tree_link_stays_inside("l", NULL));
}

#define F_LINE(path) "f 0644 0 " EMPTY_SHA " " path "\0\0"

static int parse(const char *text, size_t len)
{
	CLEANUP(tree_done)
	struct tree t = { 0 };

	return tree_parse(text, len, &t);
}

#define PARSE(text) parse(text, sizeof(text) - 1)

static void parses_what_it_lists(void **state)
{
	static const char listing[] = "d 0755 0 - a\0\0" F_LINE("a-") F_LINE("a/b") "l 0777 4 - a/c\0../b\0";
	CLEANUP(tree_done)
	struct tree t = { 0 };
	CLEANUP(buf_done)
	struct buf again = BUF_INIT(4096);

	(void) state;
	assert_int_equal(tree_parse(listing, sizeof(listing) - 1, &t), 0);
	assert_int_equal(t.count, 4);
	assert_int_equal(t.files, 2);
	assert_string_equal(t.entries[3].target, "../b");
	assert_int_equal(tree_listing(&t, &again), 0);
	assert_int_equal(again.len, sizeof(listing) - 1);
	assert_memory_equal(again.data, listing, again.len);
	assert_int_equal(PARSE(""), 0);
}

static void parses_strictly(void **state)
{
	(void) state;
	assert_int_equal(PARSE(F_LINE("a")), 0);
	assert_int_equal(PARSE(F_LINE("a") F_LINE("a")), -ERR_SYNTAX);
	assert_int_equal(PARSE(F_LINE("b") F_LINE("a")), -ERR_SYNTAX);
	assert_int_equal(PARSE(F_LINE("a/b")), -ERR_ARCHIVE_ENTRY);
	assert_int_equal(PARSE(F_LINE("a") F_LINE("a/b")), -ERR_ARCHIVE_ENTRY);
	assert_int_equal(PARSE(F_LINE("../a")), -ERR_ARCHIVE_ENTRY);
	assert_int_equal(PARSE(F_LINE("/a")), -ERR_ARCHIVE_ENTRY);
	assert_int_equal(PARSE(F_LINE("a//b")), -ERR_ARCHIVE_ENTRY);
	assert_int_equal(PARSE(F_LINE("")), -ERR_ARCHIVE_ENTRY);
	assert_int_equal(PARSE("f 4755 0 " EMPTY_SHA " a\0\0"), -ERR_ARCHIVE_ENTRY);
	assert_int_equal(PARSE("f 0666 0 " EMPTY_SHA " a\0\0"), -ERR_ARCHIVE_ENTRY);
	assert_int_equal(PARSE("f 0000 0 " EMPTY_SHA " a\0\0"), -ERR_ARCHIVE_ENTRY);
	assert_int_equal(PARSE("f 644 0 " EMPTY_SHA " a\0\0"), -ERR_SYNTAX);
	assert_int_equal(PARSE("f 0689 0 " EMPTY_SHA " a\0\0"), -ERR_SYNTAX);
	assert_int_equal(PARSE("f 0644 00 " EMPTY_SHA " a\0\0"), -ERR_SYNTAX);
	assert_int_equal(PARSE("f 0644 -1 " EMPTY_SHA " a\0\0"), -ERR_SYNTAX);
	assert_int_equal(PARSE("f 0644 99999999999999999999 " EMPTY_SHA " a\0\0"), -ERR_SYNTAX);
	assert_int_equal(PARSE("f 0644 0 - a\0\0"), -ERR_SYNTAX);
	assert_int_equal(PARSE("f 0644 0 E3B0C44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 a\0\0"),
			 -ERR_SYNTAX);
	assert_int_equal(PARSE("f 0644 0 " EMPTY_SHA " a\0x\0"), -ERR_SYNTAX);
	assert_int_equal(PARSE("d 0755 0 " EMPTY_SHA " a\0\0"), -ERR_SYNTAX);
	assert_int_equal(PARSE("d 0755 1 - a\0\0"), -ERR_ARCHIVE_ENTRY);
	assert_int_equal(PARSE("d 0777 0 - a\0\0"), -ERR_ARCHIVE_ENTRY);
	assert_int_equal(PARSE("l 0777 1 - a\0../x\0"), -ERR_ARCHIVE_ENTRY);
	assert_int_equal(PARSE("l 0777 4 - a\0../x\0"), -ERR_ARCHIVE_ENTRY);
	assert_int_equal(PARSE("l 0755 1 - a\0x\0"), -ERR_ARCHIVE_ENTRY);
	assert_int_equal(PARSE("l 0777 0 - a\0\0"), -ERR_ARCHIVE_ENTRY);
	assert_int_equal(PARSE("c 0644 0 - a\0\0"), -ERR_ARCHIVE_ENTRY);
	assert_int_equal(PARSE("ff 0644 0 " EMPTY_SHA " a\0\0"), -ERR_SYNTAX);
	assert_int_equal(PARSE("f  0644 0 " EMPTY_SHA " a\0\0"), -ERR_SYNTAX);
	assert_int_equal(PARSE("f 0644 0 " EMPTY_SHA " a\0"), -ERR_SYNTAX); /* cut short */
	assert_int_equal(PARSE("f 0644 0 " EMPTY_SHA " a"), -ERR_SYNTAX);
	assert_int_equal(PARSE("f 0644\0 0 " EMPTY_SHA " a\0\0"), -ERR_SYNTAX);
	assert_int_equal(PARSE("f\0 0644 0 " EMPTY_SHA " a\0\0"), -ERR_SYNTAX);
	assert_int_equal(PARSE("f"), -ERR_SYNTAX);
	assert_int_equal(PARSE("\0"), -ERR_SYNTAX);
	assert_int_equal(PARSE(F_LINE("a") "\n"), -ERR_SYNTAX);
}

static void sizes_that_do_not_add_up_are_refused(void **state)
{
	(void) state;
	assert_int_equal(PARSE("f 0644 18446744073709551615 " EMPTY_SHA " a\0\0f 0644 1 " EMPTY_SHA " b\0\0"),
			 -ERR_TOO_LARGE);
}

static void a_listing_that_does_not_fit_leaves_the_buffer(void **state)
{
	CLEANUP(tree_done)
	struct tree t = { 0 };
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(100);
	char one[] = "one", two[] = "two";
	const struct tree_entry a = { .type = 'f', .mode = 0644, .path = one },
				b = { .type = 'f', .mode = 0644, .path = two };

	(void) state;
	assert_int_equal(tree_add(&t, &a), 0);
	assert_int_equal(tree_add(&t, &b), 0);
	assert_int_equal(buf_add_str(&out, "x"), 0);
	assert_int_equal(tree_listing(&t, &out), -ERR_TOO_LARGE);
	assert_int_equal(out.len, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(lists_sorted_bytewise_by_whole_path, setup, teardown),
		cmocka_unit_test_setup_teardown(an_empty_tree_is_the_digest_of_nothing, setup, teardown),
		cmocka_unit_test(a_long_listing_has_the_same_digest_in_pieces),
		cmocka_unit_test_setup_teardown(publishing_lists_the_modes_that_unpacking_sets, setup, teardown),
		cmocka_unit_test_setup_teardown(a_sealed_tree_is_listed_as_it_is, setup, teardown),
		cmocka_unit_test_setup_teardown(the_owner_counts_only_when_asked, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_fifos_and_sockets, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_devices, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_special_modes, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_extended_attributes, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_links_that_leave, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_names_that_are_no_paths, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_paths_that_are_too_long, setup, teardown),
		cmocka_unit_test_setup_teardown(a_deep_tree_costs_no_descriptors, setup, teardown),
		cmocka_unit_test_setup_teardown(takes_digests_that_are_known, setup, teardown),
		cmocka_unit_test(links_stay_inside_or_not),
		cmocka_unit_test(parses_what_it_lists),
		cmocka_unit_test(parses_strictly),
		cmocka_unit_test(sizes_that_do_not_add_up_are_refused),
		cmocka_unit_test(a_listing_that_does_not_fit_leaves_the_buffer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
