/* Each sentence of agent/store/seal.h and collect.h. */
#include "agent/store/collect.h"
#include "agent/store/seal.h"
#include "base/err.h"
#include "os/durable.h"
#include "support/fault_loop.h"
#include "support/folder.h"
#include "tree/tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

static const struct os *os; /* os_quick() */

enum { STAGE_UID = 65534 };

static uid_t stage(void)
{
	return geteuid() == 0 ? STAGE_UID : geteuid();
}

/* What a stage process leaves: owned by its user as root, modes by its umask. */
static int put_file(const struct os *with, int dirfd, const char *name, const char *text, mode_t mode)
{
	int fd = with->openat(with, dirfd, name, O_WRONLY | O_CREAT | O_EXCL, 0600), r;

	if (fd < 0)
		return fd;
	r = file_write_all(with, fd, text, strlen(text));
	if (r == 0)
		r = with->fchmod(with, fd, mode);
	if (r == 0 && geteuid() == 0)
		r = with->fchown(with, fd, STAGE_UID, STAGE_UID);
	(void) with->close(with, fd);
	return r;
}

static int put_tree(const struct os *with, int fd, const char *content)
{
	int r = put_file(with, fd, "run", content, 0775);

	if (r == 0)
		r = with->mkdirat(with, fd, "etc", 0777);
	if (r == 0 && geteuid() == 0)
		r = with->fchownat(with, fd, "etc", STAGE_UID, STAGE_UID);
	if (r == 0)
		r = put_file(with, fd, "etc/conf", "port 80\n", 0600);
	if (r == 0)
		r = with->symlinkat(with, "etc/conf", fd, "conf");
	if (r == 0 && geteuid() == 0)
		r = with->fchownat(with, fd, "conf", STAGE_UID, STAGE_UID);
	return r;
}

/* The signed digest of that tree: as its publisher would list it. */
static void digest_of(const char *content, uint8_t ret[static SHA256_BYTES])
{
	char path[256];
	struct tree t = { .entries = NULL, .count = 0 };
	int fd;

	temp_folder(path, sizeof(path));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(put_tree(os, fd, content), 0);
	assert_int_equal(tree_scan(os, fd, (uid_t) -1, NULL, NULL, &t, NULL), 0);
	assert_int_equal(tree_digest(&t, ret), 0);
	tree_done(&t);
	(void) close(fd);
	temp_folder_remove(path);
}

static int begun(int store, const char *version)
{
	int fd = seal_begin(os, store, "web", version, stage(), stage());

	assert_true(fd >= 0);
	return fd;
}

static void sealed(int store, const char *version, const char *content)
{
	uint8_t digest[SHA256_BYTES];
	int fd = begun(store, version);

	digest_of(content, digest);
	assert_int_equal(put_tree(os, fd, content), 0);
	(void) close(fd);
	assert_int_equal(seal_commit(os, store, "web", version, digest, NULL), 0);
}

static void test_a_sealed_tree_is_ours_and_verifies(void **state)
{
	int store = folder_fd(state);
	uint8_t digest[SHA256_BYTES], recorded[SHA256_BYTES];
	struct stat st;

	assert_int_equal(seal_check_identity(os, store, "web", "1.0.0"), -ENOENT);
	assert_int_equal(seal_digest(os, store, "web", "1.0.0", recorded), -ENOENT);
	sealed(store, "1.0.0", "#!/bin/sh\n");
	digest_of("#!/bin/sh\n", digest);
	assert_int_equal(seal_digest(os, store, "web", "1.0.0", recorded), 0);
	assert_memory_equal(digest, recorded, SHA256_BYTES);
	assert_int_equal(seal_check_identity(os, store, "web", "1.0.0"), 0);
	assert_int_equal(seal_verify(os, store, "web", "1.0.0", NULL, NULL), 0);
	assert_int_equal(seal_verify(os, store, "web", "1.0.0", digest, NULL), 0);
	assert_int_equal(seal_is_sound(os, store, "web", "1.0.0"), 0);
	for (const char *const *p = (const char *const[]){ "web/1.0.0", "web/1.0.0/run", "web/1.0.0/etc",
							   "web/1.0.0/etc/conf", "web/1.0.0/conf", NULL };
	     *p; p++) {
		assert_int_equal(fstatat(store, *p, &st, AT_SYMLINK_NOFOLLOW), 0);
		assert_int_equal(st.st_uid, geteuid());
		if (!S_ISLNK(st.st_mode))
			assert_int_equal(st.st_mode & 07777, strcmp(*p, "web/1.0.0/etc/conf") == 0 ? 0644 : 0755);
	}
	assert_int_equal(fstatat(store, "web/1.0.0.partial", &st, AT_SYMLINK_NOFOLLOW), -1);
}

static void test_sealing_again_is_fine(void **state)
{
	int store = folder_fd(state), fd;
	uint8_t digest[SHA256_BYTES];
	struct stat st;

	sealed(store, "1.0.0", "a");
	digest_of("a", digest);
	assert_int_equal(seal_commit(os, store, "web", "1.0.0", digest, NULL), 0);
	fd = begun(store, "1.0.0");
	(void) close(fd);
	assert_int_equal(seal_commit(os, store, "web", "1.0.0", digest, NULL), 0);
	assert_int_equal(fstatat(store, "web/1.0.0.partial", &st, 0), -1);
	digest[0] ^= 1;
	assert_int_equal(seal_commit(os, store, "web", "1.0.0", digest, NULL), -ERR_TREE);
	assert_int_equal(seal_verify(os, store, "web", "1.0.0", NULL, NULL), 0);
}

static void test_another_tree_than_the_signed_one_is_refused(void **state)
{
	int store = folder_fd(state), fd = begun(store, "1.0.0");
	uint8_t digest[SHA256_BYTES];
	struct stat st;

	digest_of("signed", digest);
	assert_int_equal(put_tree(os, fd, "another"), 0);
	(void) close(fd);
	assert_int_equal(seal_commit(os, store, "web", "1.0.0", digest, NULL), -ERR_TREE);
	assert_int_equal(fstatat(store, "web/1.0.0", &st, 0), -1);
	assert_int_equal(fstatat(store, "web/1.0.0.partial", &st, 0), 0);
	assert_int_equal(seal_abort(os, store, "web", "1.0.0"), 0);
	assert_int_equal(seal_abort(os, store, "web", "1.0.0"), 0);
	assert_int_equal(fstatat(store, "web/1.0.0.partial", &st, 0), -1);
	assert_int_equal(seal_commit(os, store, "web", "1.0.0", digest, NULL), -ENOENT);
	assert_int_equal(seal_commit(os, store, "none", "1.0.0", digest, NULL), -ENOENT);
}

static void assert_refused(int store, int expected, const char *expected_offender)
{
	uint8_t digest[SHA256_BYTES];
	char *offender = NULL;

	digest_of("a", digest);
	assert_int_equal(seal_commit(os, store, "web", "1.0.0", digest, &offender), expected);
	assert_non_null(offender);
	assert_string_equal(offender, expected_offender);
	free(offender);
	assert_int_equal(seal_abort(os, store, "web", "1.0.0"), 0);
}

static void test_entries_a_tree_may_not_hold(void **state)
{
	int store = folder_fd(state), fd;

	fd = begun(store, "1.0.0");
	assert_int_equal(mkfifoat(fd, "fifo", 0644), 0);
	(void) close(fd);
	assert_refused(store, -ERR_ARCHIVE_ENTRY, "fifo");

	fd = begun(store, "1.0.0");
	assert_int_equal(mkdirat(fd, "d", 0755), 0);
	assert_int_equal(symlinkat("../../../../etc/passwd", fd, "d/out"), 0);
	(void) close(fd);
	assert_refused(store, -ERR_ARCHIVE_ENTRY, "d/out");
}

static void test_somebody_elses_file_is_not_taken(void **state)
{
	int store = folder_fd(state), fd, r;
	struct stat st;

	if (geteuid() != 0)
		skip();
	/* A link of the stage user's to a file of root's: never chowned, never made readable. */
	assert_int_equal(durable_write_file(os, store, "secret", "x", 1, 0600), 0);
	fd = begun(store, "1.0.0");
	assert_int_equal(linkat(store, "secret", fd, "mine", 0), 0);
	(void) close(fd);
	assert_refused(store, -ERR_ARCHIVE_ENTRY, "mine");
	assert_int_equal(fstatat(store, "secret", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	/* And a third user's file. */
	assert_int_equal(fchownat(store, "secret", 1, 1, 0), 0);
	fd = begun(store, "1.0.0");
	r = linkat(store, "secret", fd, "theirs", 0);
	assert_int_equal(r, 0);
	(void) close(fd);
	assert_refused(store, -ERR_ARCHIVE_ENTRY, "theirs");
	assert_int_equal(fstatat(store, "secret", &st, 0), 0);
	assert_int_equal(st.st_uid, 1);
}

static void test_a_file_still_open_for_writing_is_refused(void **state)
{
	int store = folder_fd(state), fd = begun(store, "1.0.0"), writer, probe;

	assert_int_equal(put_file(os, fd, "open", "x", 0644), 0);
	writer = openat(fd, "open", O_WRONLY | O_CLOEXEC);
	assert_true(writer >= 0);
	probe = openat(fd, "open", O_RDONLY | O_CLOEXEC);
	if (fcntl(probe, F_SETLEASE, F_RDLCK) == 0 || errno != EAGAIN) {
		(void) close(probe);
		(void) close(writer);
		(void) close(fd);
		skip(); /* this file system has no leases */
	}
	(void) close(probe);
	(void) close(fd);
	assert_refused(store, -EBUSY, "open");
	(void) close(writer);
}

static void test_a_partial_that_is_a_link_is_refused(void **state)
{
	int store = folder_fd(state);
	uint8_t digest[SHA256_BYTES];
	struct stat st;

	digest_of("a", digest);
	assert_int_equal(dir_make_path(os, store, "elsewhere", 0700), 0);
	assert_int_equal(durable_mkdir(os, store, "web", 0755), 0);
	assert_int_equal(symlinkat("../elsewhere", store, "web/1.0.0.partial"), 0);
	assert_int_equal(seal_commit(os, store, "web", "1.0.0", digest, NULL), -ERR_ARCHIVE_ENTRY);
	assert_int_equal(fstatat(store, "elsewhere", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
}

static void test_names_are_guarded(void **state)
{
	static const char *const bad[][2] = {
		{ "..", "1.0.0" }, { "web", "../x" }, { "web", "1.0" }, { "", "1.0.0" }
	};
	uint8_t digest[SHA256_BYTES] = { 0 };
	int store = folder_fd(state);

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(seal_begin(os, store, bad[i][0], bad[i][1], stage(), stage()), -ERR_NAME);
		assert_int_equal(seal_commit(os, store, bad[i][0], bad[i][1], digest, NULL), -ERR_NAME);
		assert_int_equal(seal_abort(os, store, bad[i][0], bad[i][1]), -ERR_NAME);
		assert_int_equal(seal_check_identity(os, store, bad[i][0], bad[i][1]), -ERR_NAME);
		assert_int_equal(seal_remove(os, store, bad[i][0], bad[i][1]), -ERR_NAME);
	}
}

static void test_begin_removes_what_an_earlier_attempt_left(void **state)
{
	int store = folder_fd(state), fd = begun(store, "1.0.0");
	CLEANUP(name_list_done)
	struct name_list names = { NULL, 0 };
	struct stat st;

	assert_int_equal(put_tree(os, fd, "old"), 0);
	(void) close(fd);
	fd = begun(store, "1.0.0");
	assert_int_equal(dir_list(os, fd, ".", &names), 0);
	assert_int_equal(names.count, 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_uid, stage());
	assert_int_equal(st.st_mode & 07777, 0700);
	(void) close(fd);
}

static void overwrite(int store, const char *path, const char *text)
{
	int fd = openat(store, path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t) strlen(text));
	(void) close(fd);
}

static void test_damage_is_found_and_named(void **state)
{
	int store = folder_fd(state);
	char *offender = NULL;

	sealed(store, "1.0.0", "good");
	overwrite(store, "web/1.0.0/run", "evil");
	/* The quick look cannot see it: that is what the whole one is for. */
	assert_int_equal(seal_check_identity(os, store, "web", "1.0.0"), 0);
	assert_int_equal(seal_is_sound(os, store, "web", "1.0.0"), 0);
	/* The look at each file can, before a way back is taken. */
	assert_int_equal(seal_is_intact(os, store, "web", "1.0.0"), -ERR_TREE);
	assert_int_equal(seal_verify(os, store, "web", "1.0.0", NULL, &offender), -ERR_TREE);
	assert_non_null(offender);
	assert_string_equal(offender, "run");
	free(offender);
	offender = NULL;
	overwrite(store, "web/1.0.0/run", "good");
	assert_int_equal(seal_verify(os, store, "web", "1.0.0", NULL, NULL), 0);
	/* Written again with what was signed: other times, the same tree. */
	assert_int_equal(seal_is_intact(os, store, "web", "1.0.0"), 0);
	assert_int_equal(unlinkat(store, "web/1.0.0/etc/conf", 0), 0);
	assert_int_equal(seal_is_intact(os, store, "web", "1.0.0"), -ERR_TREE);
	assert_int_equal(seal_verify(os, store, "web", "1.0.0", NULL, &offender), -ERR_TREE);
	assert_string_equal(offender, "etc/conf");
	free(offender);
	offender = NULL;
	overwrite(store, "web/1.0.0.seal", "selfright-seal 1\n");
	assert_int_equal(seal_check_identity(os, store, "web", "1.0.0"), -ERR_TREE);
	assert_int_equal(seal_is_sound(os, store, "web", "1.0.0"), -ERR_TREE);
}

static void test_another_folder_in_its_place_is_seen(void **state)
{
	int store = folder_fd(state);

	sealed(store, "1.0.0", "good");
	sealed(store, "2.0.0", "bad");
	assert_int_equal(renameat(store, "web/1.0.0", store, "web/old"), 0);
	assert_int_equal(renameat(store, "web/2.0.0", store, "web/1.0.0"), 0);
	assert_int_equal(seal_check_identity(os, store, "web", "1.0.0"), -ERR_TREE);
	assert_int_equal(seal_is_sound(os, store, "web", "1.0.0"), -ERR_TREE);
	assert_int_equal(seal_check_identity(os, store, "web", "2.0.0"), -ENOENT);
}

static void test_a_restored_copy_is_sound(void **state)
{
	int store = folder_fd(state), fd;

	sealed(store, "1.0.0", "good");
	assert_int_equal(tree_remove(os, store, "web/1.0.0"), 0);
	assert_int_equal(mkdirat(store, "spacer", 0755), 0); /* takes the inode that was set free */
	assert_int_equal(mkdirat(store, "web/1.0.0", 0755), 0);
	fd = openat(store, "web/1.0.0", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(put_tree(os, fd, "good"), 0);
	for (const char *const *p = (const char *const[]){ "run", "etc", "etc/conf", "conf", NULL }; *p; p++)
		assert_int_equal(fchownat(fd, *p, geteuid(), getegid(), AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(fchmodat(fd, "run", 0755, 0), 0);
	assert_int_equal(fchmodat(fd, "etc", 0755, 0), 0);
	assert_int_equal(fchmodat(fd, "etc/conf", 0644, 0), 0);
	(void) close(fd);
	assert_int_equal(seal_is_sound(os, store, "web", "1.0.0"), 0);
}

static void test_a_difference_of_modes_is_seen(void **state)
{
	int store = folder_fd(state);

	sealed(store, "1.0.0", "good");
	assert_int_equal(fchmodat(store, "web/1.0.0/run", 0644, 0), 0);
	assert_int_equal(seal_verify(os, store, "web", "1.0.0", NULL, NULL), -ERR_TREE);
	assert_int_equal(fchmodat(store, "web/1.0.0", 0777, 0), 0);
	assert_int_equal(seal_check_identity(os, store, "web", "1.0.0"), -ERR_TREE);
}

static void test_removal(void **state)
{
	int store = folder_fd(state);
	CLEANUP(name_list_done)
	struct name_list names = { NULL, 0 };

	sealed(store, "1.0.0", "a");
	assert_int_equal(seal_remove(os, store, "web", "1.0.0"), 0);
	assert_int_equal(seal_remove(os, store, "web", "1.0.0"), 0);
	assert_int_equal(seal_remove(os, store, "none", "1.0.0"), 0);
	assert_int_equal(dir_list(os, store, "web", &names), 0);
	assert_int_equal(names.count, 0);
}

/* --- collect ----------------------------------------------------------------------------------------- */

static bool there(const struct folder *f, const char *path)
{
	struct stat st;

	return fstatat(f->fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Sealed at the second `at`, so that their order is known. */
static void sealed_at(const struct store *s, const char *version, long at)
{
	const struct timespec times[2] = { { .tv_sec = at }, { .tv_sec = at } };
	char record[100];

	sealed(store_dirs(s)->store, version, version);
	(void) snprintf(record, sizeof(record), "web/%s.seal", version);
	assert_int_equal(utimensat(store_dirs(s)->store, record, times, 0), 0);
}

static void generation(const struct store *s, uint64_t n, const char *version)
{
	struct generation g = { .count = 1, .entries = { { "web", "" } } };

	(void) snprintf(g.entries[0].version, sizeof(g.entries[0].version), "%s", version);
	assert_int_equal(generation_create(os, store_dirs(s)->generations, n, &g), 0);
}

static void test_collect(void **state)
{
	const struct folder *f = *state;
	CLEANUP(store_freep)
	struct store *s = NULL;
	const uint64_t kept[] = { 3 };
	const struct generation_entry claimed[] = { { "web", "7.0.0" } };
	struct collect_options o = { .keep_versions = 3,
				     .generations = kept,
				     .generation_count = 1,
				     .claimed = claimed,
				     .claimed_count = 1 };
	struct collect_result result;
	int fd;

	assert_int_equal(store_open(os, f->path, &s), 0);
	sealed_at(s, "1.0.0", 1000); /* the fallback: old, and needed */
	sealed_at(s, "2.0.0", 2000);
	sealed_at(s, "9.0.0", 3000); /* a higher number, sealed earlier than the next */
	sealed_at(s, "4.0.0", 4000);
	sealed_at(s, "5.0.0", 5000); /* current */
	generation(s, 1, "2.0.0");
	generation(s, 2, "5.0.0");
	generation(s, 3, "1.0.0");
	assert_int_equal(generation_switch(os, store_dirs(s)->root, 2), 0);
	fd = seal_begin(os, store_dirs(s)->store, "web", "6.0.0", (uid_t) -1, 0);
	(void) close(fd);
	fd = seal_begin(os, store_dirs(s)->store, "web", "7.0.0", (uid_t) -1, 0);
	(void) close(fd);
	assert_int_equal(durable_write_file(os, f->fd, "store/web/8.0.0.seal", "x", 1, 0600), 0);
	assert_int_equal(durable_write_file(os, f->fd, ".journal.00.pending", "x", 1, 0600), 0);
	assert_int_equal(dir_make_path(os, f->fd, "generations/4.partial", 0755), 0);
	assert_int_equal(collect(s, &o, &result), 0);

	assert_true(there(f, "generations/2") && there(f, "generations/3"));
	assert_false(there(f, "generations/1"));
	assert_true(there(f, "store/web/1.0.0") && there(f, "store/web/5.0.0"));
	assert_true(there(f, "store/web/4.0.0")); /* the third one: sealed last of the rest */
	assert_false(there(f, "store/web/2.0.0") || there(f, "store/web/9.0.0"));
	assert_false(there(f, "store/web/9.0.0.seal"));
	assert_true(there(f, "store/web/7.0.0.partial"));
	assert_false(there(f, "store/web/6.0.0.partial") || there(f, "store/web/8.0.0.seal"));
	assert_false(there(f, ".journal.00.pending") || there(f, "generations/4.partial"));
	assert_int_equal(result.generations, 1);
	assert_int_equal(result.versions, 2);
	assert_int_equal(result.leftovers, 4);
	assert_int_equal(collect(s, &o, &result), 0);
	assert_int_equal(result.generations + result.versions + result.leftovers, 0);
}

static void test_without_a_readable_current_nothing_is_removed(void **state)
{
	const struct folder *f = *state;
	CLEANUP(store_freep)
	struct store *s = NULL;
	struct collect_options o = { .keep_versions = 0 };

	assert_int_equal(store_open(os, f->path, &s), 0);
	sealed_at(s, "1.0.0", 1000);
	generation(s, 1, "1.0.0");
	assert_int_equal(symlinkat("generations/9", f->fd, "current"), 0);
	assert_int_equal(collect(s, &o, NULL), -ERR_TREE);
	assert_int_equal(unlinkat(f->fd, "current", 0), 0);
	assert_int_equal(symlinkat("/somewhere", f->fd, "current"), 0);
	assert_int_equal(collect(s, &o, NULL), -ERR_TREE);
	assert_true(there(f, "generations/1") && there(f, "store/web/1.0.0"));
}

/* --- faults and power cuts ----------------------------------------------------------------------------- */

/* That of the tree sealed here, computed once. */
static const uint8_t *content_digest(void)
{
	static uint8_t digest[SHA256_BYTES];
	static bool known;

	if (!known)
		digest_of("content", digest);
	known = true;
	return digest;
}

static int stage_and_seal(struct fault_case *c)
{
	const uint8_t *digest = content_digest();
	int fd, r;

	fd = seal_begin(c->os, c->dirfd, "web", "1.0.0", stage(), stage());
	if (fd < 0)
		return fd;
	r = put_tree(c->os, fd, "content");
	(void) c->os->close(c->os, fd);
	return r < 0 ? r : seal_commit(c->os, c->dirfd, "web", "1.0.0", digest, NULL);
}

static void sealed_or_not_there(struct fault_case *c, int r)
{
	const uint8_t *digest = content_digest();
	uint8_t recorded[SHA256_BYTES];
	struct stat st;
	bool is_there = fstatat(c->dirfd, "web/1.0.0", &st, AT_SYMLINK_NOFOLLOW) == 0;

	if (is_there) {
		/* The copy of a disk has other inodes and, in parts, modes nobody synced for the links' owner. */
		assert_int_equal(seal_is_sound(os, c->dirfd, "web", "1.0.0"), 0);
		assert_int_equal(seal_verify(os, c->dirfd, "web", "1.0.0", digest, NULL), 0);
		assert_int_equal(seal_digest(os, c->dirfd, "web", "1.0.0", recorded), 0);
		assert_memory_equal(digest, recorded, SHA256_BYTES);
	}
	if (r == 0)
		assert_true(is_there);
	/* And the same again succeeds. */
	c->os = os;
	assert_int_equal(stage_and_seal(c), 0);
	assert_int_equal(seal_verify(os, c->dirfd, "web", "1.0.0", digest, NULL), 0);
	assert_int_equal(fstatat(c->dirfd, "web/1.0.0.partial", &st, AT_SYMLINK_NOFOLLOW), -1);
}

FAULT_TEST(a_sealed_tree_is_whole){
	.name = "a_sealed_tree_is_whole",
	.body = stage_and_seal,
	.check = sealed_or_not_there,
};

/* Sealed, then damaged; a whole one lies beside it. */
static int damage_and_stage(struct fault_case *c)
{
	int r = stage_and_seal(c), fd;

	if (r < 0)
		return r;
	overwrite(c->dirfd, "web/1.0.0/run", "damaged");
	fd = seal_begin(c->os, c->dirfd, "web", "1.0.0", stage(), stage());
	if (fd < 0)
		return fd;
	r = put_tree(c->os, fd, "content");
	(void) c->os->close(c->os, fd);
	return r;
}

static int replace_it(struct fault_case *c)
{
	return seal_replace(c->os, c->dirfd, "web", "1.0.0", content_digest(), NULL);
}

/* The damaged one or the mended one, and after a success the mended one alone; the same again mends it. */
static void mended_or_as_before(struct fault_case *c, int r)
{
	const uint8_t *digest = content_digest();
	struct stat st;
	int fd;

	assert_int_equal(fstatat(c->dirfd, "web/1.0.0", &st, AT_SYMLINK_NOFOLLOW), 0);
	if (r == 0) {
		assert_int_equal(seal_verify(os, c->dirfd, "web", "1.0.0", digest, NULL), 0);
		assert_int_equal(seal_is_intact(os, c->dirfd, "web", "1.0.0"), 0);
		/* That the damaged one went away was never promised to the disk: a start removes it. */
		if (!c->injected)
			assert_int_equal(fstatat(c->dirfd, "web/1.0.0.partial", &st, AT_SYMLINK_NOFOLLOW), -1);
	}
	c->os = os;
	fd = seal_begin(os, c->dirfd, "web", "1.0.0", stage(), stage());
	assert_true(fd >= 0);
	assert_int_equal(put_tree(os, fd, "content"), 0);
	close(fd);
	assert_int_equal(replace_it(c), 0);
	assert_int_equal(seal_verify(os, c->dirfd, "web", "1.0.0", digest, NULL), 0);
	assert_int_equal(fstatat(c->dirfd, "web/1.0.0.partial", &st, AT_SYMLINK_NOFOLLOW), -1);
}

FAULT_TEST(a_damaged_tree_is_replaced){
	.name = "a_damaged_tree_is_replaced",
	.prep = damage_and_stage,
	.body = replace_it,
	.check = mended_or_as_before,
};

static int remove_it(struct fault_case *c)
{
	return seal_remove(c->os, c->dirfd, "web", "1.0.0");
}

static void whole_or_gone(struct fault_case *c, int r)
{
	struct stat st;
	bool is_there = fstatat(c->dirfd, "web/1.0.0", &st, AT_SYMLINK_NOFOLLOW) == 0;

	if (is_there)
		assert_int_equal(seal_verify(os, c->dirfd, "web", "1.0.0", NULL, NULL), 0);
	if (r == 0)
		assert_false(is_there);
	assert_int_equal(seal_remove(os, c->dirfd, "web", "1.0.0"), 0);
}

FAULT_TEST(a_removed_tree_is_whole_or_gone){
	.name = "a_removed_tree_is_whole_or_gone",
	.prep = stage_and_seal,
	.body = remove_it,
	.check = whole_or_gone,
};

static void test_faults(void **state)
{
	(void) state;
	fault_test_run(&a_sealed_tree_is_whole);
	fault_test_run(&a_removed_tree_is_whole_or_gone);
	fault_test_run(&a_damaged_tree_is_replaced);
}

static void test_crashes(void **state)
{
	(void) state;
	crash_test_run(&a_sealed_tree_is_whole, 6);
	crash_test_run(&a_removed_tree_is_whole_or_gone, 8);
	crash_test_run(&a_damaged_tree_is_replaced, 8);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, folder_setup, folder_teardown)
	const struct CMUnitTest tests[] = {
		T(test_a_sealed_tree_is_ours_and_verifies),
		T(test_sealing_again_is_fine),
		T(test_another_tree_than_the_signed_one_is_refused),
		T(test_entries_a_tree_may_not_hold),
		T(test_somebody_elses_file_is_not_taken),
		T(test_a_file_still_open_for_writing_is_refused),
		T(test_a_partial_that_is_a_link_is_refused),
		T(test_names_are_guarded),
		T(test_begin_removes_what_an_earlier_attempt_left),
		T(test_damage_is_found_and_named),
		T(test_another_folder_in_its_place_is_seen),
		T(test_a_restored_copy_is_sound),
		T(test_a_difference_of_modes_is_seen),
		T(test_removal),
		T(test_collect),
		T(test_without_a_readable_current_nothing_is_removed),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_crashes),
	};

	os = os_quick();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
