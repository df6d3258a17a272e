/* Copies of data across a swap: what data.h promises, with every call failing and with the power cut. */
#include "agent/store/data.h"
#include "base/err.h"
#include "os/durable.h"
#include "support/fault_loop.h"

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

enum { NOW = 1800000000 };

static struct data_set one_move(void)
{
	return (struct data_set){
		.at = NOW,
		.moves = { { .component = "web", .from = "1.0.0", .to = "1.1.0" } },
		.move_count = 1,
		.items = { { .component = "web", .path = "db", .restore = true },
			   { .component = "web", .path = "new", .restore = true },
			   { .component = "web", .path = "cache/old", .restore = false } },
		.item_count = 3,
	};
}

static void put(int fd, const char *path, const char *text)
{
	assert_int_equal(durable_write_file(os_quick(), fd, path, text, strlen(text), 0640), 0);
}

/* What the old version kept. */
static void put_old(int data_fd)
{
	assert_int_equal(dir_make_path(os_quick(), data_fd, "web/db/deep", 0750), 0);
	assert_int_equal(dir_make_path(os_quick(), data_fd, "web/cache", 0755), 0);
	put(data_fd, "web/db/table", "old");
	put(data_fd, "web/db/deep/index", "old index");
	put(data_fd, "web/cache/old", "old cache");
	put(data_fd, "web/other", "not declared");
	assert_int_equal(symlinkat("table", data_fd, "web/db/link"), 0);
}

/* What the new version makes of it. */
static void change_all(int data_fd)
{
	put(data_fd, "web/db/table", "new");
	assert_int_equal(unlinkat(data_fd, "web/db/deep/index", 0), 0);
	put(data_fd, "web/db/more", "new too");
	put(data_fd, "web/new", "made by the new version");
	put(data_fd, "web/cache/old", "new cache");
	put(data_fd, "web/other", "changed");
}

static char *text_of(int fd, const char *path)
{
	struct buf b = BUF_INIT(4096);
	int r = file_read(os_quick(), fd, path, 4096, &b);

	if (r < 0) {
		buf_done(&b);
		return strdup(r == -ENOENT || r == -ENOTDIR ? "(absent)" : err_text(r));
	}
	return b.data ? buf_take(&b) : strdup("");
}

static void expect(int fd, const char *path, const char *text)
{
	char *found = text_of(fd, path);

	assert_string_equal(found, text);
	free(found);
}

static bool holds(int fd, const char *path, const char *text)
{
	char *found = text_of(fd, path);
	bool same = strcmp(found, text) == 0;

	free(found);
	return same;
}

static int save(const struct os *os, const struct store_dirs *d, const char *name, const struct data_set *set)
{
	CLEANUP(data_save_freep)
	struct data_save *s = NULL;
	int r = data_save_begin(os, d, name, set, &s);

	while (r == 0)
		r = data_save_step(s, 0); /* as little as it can at a time */
	return r < 0 ? r : data_save_commit(s);
}

struct world {
	char path[256];
	struct store_dirs d;
};

static void world_open(struct world *w)
{
	w->d = (struct store_dirs){ -1, -1, -1, -1, -1, -1, -1, -1 };
	w->d.root = open(w->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(w->d.root >= 0);
	if (mkdirat(w->d.root, "data", 0755) == 0)
		assert_int_equal(mkdirat(w->d.root, "saved", 0700), 0);
	w->d.data = openat(w->d.root, "data", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	w->d.saved = openat(w->d.root, "saved", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(w->d.data >= 0 && w->d.saved >= 0);
}

static void world_close(struct world *w)
{
	(void) close(w->d.data);
	(void) close(w->d.saved);
	(void) close(w->d.root);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	temp_folder(w->path, sizeof(w->path));
	world_open(w);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	world_close(w);
	temp_folder_remove(w->path);
	free(w);
	return 0;
}

static void test_what_was_there_comes_back(void **state)
{
	struct world *w = *state;
	const struct data_set set = one_move();
	struct stat before, after;

	put_old(w->d.data);
	assert_int_equal(fchmodat(w->d.data, "web/db/table", 0604, 0), 0);
	assert_int_equal(fstatat(w->d.data, "web/db/table", &before, 0), 0);
	assert_int_equal(save(os_quick(), &w->d, "web-1", &set), 0);
	change_all(w->d.data);
	assert_int_equal(data_restore(os_quick(), &w->d, "web-1", false), 0);
	expect(w->d.data, "web/db/table", "old");
	expect(w->d.data, "web/db/deep/index", "old index");
	expect(w->d.data, "web/db/more", "(absent)");
	expect(w->d.data, "web/new", "(absent)");
	expect(w->d.data, "web/cache/old", "new cache"); /* keep: it does not come back by itself */
	expect(w->d.data, "web/other", "changed");
	assert_int_equal(fstatat(w->d.data, "web/db/table", &after, 0), 0);
	assert_int_equal(after.st_mode, before.st_mode);
	assert_int_equal(after.st_mtim.tv_sec, before.st_mtim.tv_sec);
	assert_int_equal(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
	/* What was displaced is beside it. */
	expect(w->d.saved, "web-1/displaced-0/table", "new");
	expect(w->d.saved, "web-1/displaced-1", "made by the new version");
}

static void test_putting_back_twice_is_once(void **state)
{
	struct world *w = *state;
	const struct data_set set = one_move();

	put_old(w->d.data);
	assert_int_equal(save(os_quick(), &w->d, "web-1", &set), 0);
	change_all(w->d.data);
	assert_int_equal(data_restore(os_quick(), &w->d, "web-1", false), 0);
	put(w->d.data, "web/new", "made by the old version since");
	put(w->d.data, "web/db/table", "written since");
	assert_int_equal(data_restore(os_quick(), &w->d, "web-1", false), 0);
	expect(w->d.data, "web/new", "made by the old version since");
	expect(w->d.data, "web/db/table", "written since");
}

static void test_all_of_it_where_everybody_asked(void **state)
{
	struct world *w = *state;
	const struct data_set set = one_move();
	char name[DATA_NAME_SIZE];

	put_old(w->d.data);
	assert_int_equal(save(os_quick(), &w->d, "web-1", &set), 0);
	change_all(w->d.data);
	assert_int_equal(data_find(os_quick(), &w->d, "web", "1.0.0", name), 0);
	assert_string_equal(name, "web-1");
	assert_int_equal(data_find(os_quick(), &w->d, "web", "1.1.0", name), -ENOENT);
	assert_int_equal(data_restore(os_quick(), &w->d, name, true), 0);
	expect(w->d.data, "web/cache/old", "old cache");
	assert_int_equal(data_find(os_quick(), &w->d, "web", "1.0.0", name), -ENOENT);
}

static void test_a_folder_that_went_away_is_made_again(void **state)
{
	struct world *w = *state;
	struct data_set set = one_move();

	set.items[0].path = "cache/old";
	set.item_count = 1;
	put_old(w->d.data);
	assert_int_equal(save(os_quick(), &w->d, "web-1", &set), 0);
	assert_int_equal(tree_remove(os_quick(), w->d.data, "web/cache"), 0);
	assert_int_equal(data_restore(os_quick(), &w->d, "web-1", false), 0);
	expect(w->d.data, "web/cache/old", "old cache");
}

static void test_no_part_of_a_path_is_a_link(void **state)
{
	struct world *w = *state;
	struct data_set set = one_move();
	struct data_size size;

	put_old(w->d.data);
	assert_int_equal(symlinkat("/etc", w->d.data, "web/evil"), 0);
	set.items[0].path = "evil/passwd";
	assert_true(save(os_quick(), &w->d, "web-1", &set) < 0);
	assert_true(data_measure(os_quick(), &w->d, &set, &size) < 0);
	/* A link itself is copied as one. */
	set.items[0].path = "evil";
	assert_int_equal(save(os_quick(), &w->d, "web-1", &set), 0);
	assert_int_equal(fchmodat(w->d.saved, "web-1", 0700, 0), 0);
	{
		char target[16] = "";

		assert_int_equal(readlinkat(w->d.saved, "web-1/copy-0", target, sizeof(target) - 1), 4);
		assert_string_equal(target, "/etc");
	}
}

static void test_names_that_are_none(void **state)
{
	static const char *const names[] = { "", ".", "..", "../x", "a/b", ".hidden", "web-1/../../x" };
	static const char *const paths[] = { "", "/etc/passwd", "../web2/db", "a//b", "a/../../b", "." };
	struct world *w = *state;
	struct data_set set = one_move();

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		assert_int_equal(save(os_quick(), &w->d, names[i], &set), -ERR_NAME);
		assert_int_equal(data_restore(os_quick(), &w->d, names[i], false), -ERR_NAME);
		assert_int_equal(data_remove(os_quick(), &w->d, names[i]), -ERR_NAME);
	}
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		set.items[0].path = paths[i];
		assert_int_equal(save(os_quick(), &w->d, "web-1", &set), -ERR_NAME);
	}
	assert_int_equal(data_restore(os_quick(), &w->d, "web-9", false), -ENOENT);
}

static void test_a_record_that_is_none_changes_nothing(void **state)
{
	static const char *const records[] = {
		"",
		"selfright-data 2\nat 1\nend\n",
		"selfright-data 1\nend\n",
		"selfright-data 1\nat 1\n",
		"selfright-data 1\nat x\nend\n",
		"selfright-data 1\nat 1\nitem web restore present ../../etc\nend\n",
		"selfright-data 1\nat 1\nitem web restore present\nend\n",
		"selfright-data 1\nat 1\nitem WEB restore present db\nend\n",
		"selfright-data 1\nat 1\nitem web maybe present db\nend\n",
		"selfright-data 1\nat 1\nmove web 1.0 2.0\nend\n",
	};
	struct world *w = *state;
	const struct data_set set = one_move();

	put_old(w->d.data);
	assert_int_equal(save(os_quick(), &w->d, "web-1", &set), 0);
	change_all(w->d.data);
	for (size_t i = 0; i < ARRAY_LEN(records); i++) {
		put(w->d.saved, "web-1/record", records[i]);
		assert_int_equal(data_restore(os_quick(), &w->d, "web-1", false), -ERR_TREE);
		expect(w->d.data, "web/db/table", "new");
	}
	/* A successor's words are passed over. */
	put(w->d.saved, "web-1/record",
	    "selfright-data 1\nat 1\nquantum yes\nitem web restore present db\nend\nmore\n");
	assert_int_equal(data_restore(os_quick(), &w->d, "web-1", false), 0);
	expect(w->d.data, "web/db/table", "old");
}

static void test_holes_and_many_bytes(void **state)
{
	struct world *w = *state;
	struct data_set set = one_move();
	struct data_size size;
	struct stat st;
	char tail[4] = "";
	int fd;

	assert_int_equal(dir_make_path(os_quick(), w->d.data, "web/db", 0750), 0);
	fd = openat(w->d.data, "web/db/sparse", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(pwrite(fd, "head", 4, 0), 4);
	assert_int_equal(pwrite(fd, "tail", 4, 3 * 1024 * 1024 + 1), 4);
	assert_int_equal(ftruncate(fd, 64 * 1024 * 1024), 0);
	(void) close(fd);
	assert_int_equal(data_measure(os_quick(), &w->d, &set, &size), 0);
	assert_true(size.bytes < 1024 * 1024 && size.files == 2);
	assert_int_equal(save(os_quick(), &w->d, "web-1", &set), 0);
	assert_int_equal(fstatat(w->d.saved, "web-1/copy-0/sparse", &st, 0), 0);
	assert_int_equal(st.st_size, 64 * 1024 * 1024);
	assert_true(st.st_blocks * 512 < 1024 * 1024);
	fd = openat(w->d.saved, "web-1/copy-0/sparse", O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, tail, 4, 3 * 1024 * 1024 + 1), 4);
	assert_memory_equal(tail, "tail", 4);
	(void) close(fd);
}

static void test_sockets_and_fifos_are_left_out(void **state)
{
	struct world *w = *state;
	const struct data_set set = one_move();
	struct stat st;

	put_old(w->d.data);
	assert_int_equal(mkfifoat(w->d.data, "web/db/fifo", 0600), 0);
	assert_int_equal(save(os_quick(), &w->d, "web-1", &set), 0);
	assert_int_equal(fstatat(w->d.saved, "web-1/copy-0/fifo", &st, AT_SYMLINK_NOFOLLOW), -1);
}

/* The folder is the component's own user's: what is seen under a name need not be what is read there. */
static void test_a_file_keeps_its_own_owner_and_mode(void **state)
{
	struct world *w = *state;
	struct data_set set = one_move();
	struct data_save *s = NULL;
	struct stat st;
	int r = 0;

	set.item_count = 1;
	assert_int_equal(dir_make_path(os_quick(), w->d.data, "web/db", 0750), 0);
	put(w->d.data, "web/db/seen", "a program of root's");
	assert_int_equal(fchmodat(w->d.data, "web/db/seen", 04755, 0), 0);
	put(w->d.data, "web/read", "a program of somebody else's");
	assert_int_equal(data_save_begin(os_quick(), &w->d, "web-1", &set, &s), 0);
	assert_int_equal(renameat(w->d.data, "web/read", w->d.data, "web/db/seen"), 0);
	while (r == 0)
		r = data_save_step(s, 0);
	assert_int_equal(r, 1);
	assert_int_equal(data_save_commit(s), 0);
	data_save_free(s);
	expect(w->d.saved, "web-1/copy-0/seen", "a program of somebody else's");
	assert_int_equal(fstatat(w->d.saved, "web-1/copy-0/seen", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
}

static void append(int fd, size_t bytes)
{
	char *text = malloc(bytes);
	struct stat st;

	assert_non_null(text);
	memset(text, 'x', bytes);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(pwrite(fd, text, bytes, st.st_size), (ssize_t) bytes);
	free(text);
}

static void test_a_file_that_grows_without_end_is_copied(void **state)
{
	enum { SIZE = 400 * 1024, STEPS = 20 };
	struct world *w = *state;
	struct data_set set = one_move();
	struct data_save *s = NULL;
	struct stat st;
	int fd, r = 0;

	set.item_count = 1;
	assert_int_equal(dir_make_path(os_quick(), w->d.data, "web/db", 0750), 0);
	fd = openat(w->d.data, "web/db/log", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	append(fd, SIZE);
	assert_int_equal(data_save_begin(os_quick(), &w->d, "web-1", &set, &s), 0);
	for (int i = 0; r == 0 && i < STEPS; i++) {
		r = data_save_step(s, 0);
		append(fd, SIZE);
	}
	assert_int_equal(r, 1);
	assert_int_equal(data_save_commit(s), 0);
	data_save_free(s);
	(void) close(fd);
	assert_int_equal(fstatat(w->d.saved, "web-1/copy-0/log", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(st.st_size >= SIZE && st.st_size <= 2 * SIZE); /* as long as it was when it was opened */
}

static struct data_set one_deep_item(void)
{
	struct data_set set = one_move();

	set.items[0] = (struct data_item){ .component = "web", .path = "var/lib/db", .restore = true };
	set.item_count = 1;
	return set;
}

static void put_deep(int data_fd)
{
	assert_int_equal(dir_make_path(os_quick(), data_fd, "web/var/lib/db", 0750), 0);
	put(data_fd, "web/var/lib/db/table", "old");
}

/* The version that goes has moved its data elsewhere, and left a link. */
static void put_link_in_the_way(int data_fd)
{
	assert_int_equal(dir_make_path(os_quick(), data_fd, "web/elsewhere", 0750), 0);
	put(data_fd, "web/elsewhere/stays", "of the new version");
	assert_int_equal(tree_remove(os_quick(), data_fd, "web/var/lib"), 0);
	assert_int_equal(symlinkat("../elsewhere", data_fd, "web/var/lib"), 0);
}

static void test_what_stands_in_the_way_is_displaced(void **state)
{
	struct world *w = *state;
	const struct data_set set = one_deep_item();
	char target[32] = "";
	struct stat st;

	put_deep(w->d.data);
	assert_int_equal(save(os_quick(), &w->d, "web-1", &set), 0);
	put_link_in_the_way(w->d.data);
	assert_int_equal(data_restore(os_quick(), &w->d, "web-1", false), 0);
	expect(w->d.data, "web/var/lib/db/table", "old");
	assert_int_equal(fstatat(w->d.data, "web/var/lib", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISDIR(st.st_mode));
	expect(w->d.data, "web/elsewhere/stays", "of the new version");
	assert_int_equal(faccessat(w->d.data, "web/elsewhere/db", F_OK, 0), -1);
	assert_int_equal(readlinkat(w->d.saved, "web-1/displaced-0", target, sizeof(target) - 1), 12);
	assert_string_equal(target, "../elsewhere");

	/* A file where the first folder was; what was absent before stays so. */
	assert_int_equal(save(os_quick(), &w->d, "web-2", &set), 0);
	assert_int_equal(tree_remove(os_quick(), w->d.data, "web/var"), 0);
	put(w->d.data, "web/var", "a file");
	assert_int_equal(data_restore(os_quick(), &w->d, "web-2", false), 0);
	expect(w->d.data, "web/var/lib/db/table", "old");
	expect(w->d.saved, "web-2/displaced-0", "a file");
	assert_int_equal(tree_remove(os_quick(), w->d.data, "web/var"), 0);
	assert_int_equal(save(os_quick(), &w->d, "web-3", &set), 0);
	put(w->d.data, "web/var", "another file");
	assert_int_equal(data_restore(os_quick(), &w->d, "web-3", false), 0);
	expect(w->d.data, "web/var", "another file");
}

static void test_kept_for_seven_days(void **state)
{
	static const char *const claimed[] = { "web-1" };
	struct world *w = *state;
	const struct data_set set = one_move();
	size_t removed = 0;

	put_old(w->d.data);
	assert_int_equal(save(os_quick(), &w->d, "web-1", &set), 0);
	assert_int_equal(save(os_quick(), &w->d, "web-2", &set), 0);
	assert_int_equal(mkdirat(w->d.saved, "web-3.partial", 0700), 0);
	assert_int_equal(data_restore(os_quick(), &w->d, "web-2", false), 0);
	assert_int_equal(data_collect(os_quick(), &w->d, NOW + DATA_KEPT_S - 1, NULL, 0, &removed), 0);
	assert_int_equal(removed, 1); /* the half one */
	assert_int_equal(data_collect(os_quick(), &w->d, NOW + DATA_KEPT_S, claimed, 1, &removed), 0);
	assert_int_equal(removed, 0);
	assert_int_equal(data_collect(os_quick(), &w->d, NOW + DATA_KEPT_S, NULL, 0, &removed), 0);
	assert_int_equal(removed, 1);
	assert_int_equal(faccessat(w->d.saved, "web-1", F_OK, 0), -1);
	/* What was displaced counts from when it was. */
	assert_int_equal(data_collect(os_quick(), &w->d, NOW + 2 * DATA_KEPT_S - 2, NULL, 0, &removed), 0);
	assert_int_equal(removed, 0);
	assert_int_equal(data_collect(os_quick(), &w->d, NOW + 2 * DATA_KEPT_S, NULL, 0, &removed), 0);
	assert_int_equal(removed, 1);
	/* A clock that went back keeps everything. */
	assert_int_equal(save(os_quick(), &w->d, "web-4", &set), 0);
	assert_int_equal(data_collect(os_quick(), &w->d, 0, NULL, 0, &removed), 0);
	assert_int_equal(removed, 0);
}

/* --- faults and power cuts --- */

static struct store_dirs dirs_of(const struct fault_case *c)
{
	struct store_dirs d = { -1, -1, -1, -1, -1, -1, -1, -1 };

	d.root = c->dirfd;
	d.data = openat(c->dirfd, "data", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d.saved = openat(c->dirfd, "saved", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(d.data >= 0 && d.saved >= 0);
	return d;
}

static void dirs_close(const struct store_dirs *d)
{
	(void) close(d->data);
	(void) close(d->saved);
}

static int prep_old(struct fault_case *c)
{
	int fd;

	if (mkdirat(c->dirfd, "data", 0755) < 0 || mkdirat(c->dirfd, "saved", 0700) < 0)
		return -errno;
	fd = openat(c->dirfd, "data", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	put_old(fd);
	(void) close(fd);
	return 0;
}

static int prep_changed(struct fault_case *c)
{
	const struct data_set set = one_move();
	int r = prep_old(c);
	struct store_dirs d = dirs_of(c);

	if (r == 0)
		r = save(os_quick(), &d, "web-1", &set);
	change_all(d.data);
	dirs_close(&d);
	return r;
}

static int body_save(struct fault_case *c)
{
	const struct data_set set = one_move();
	struct store_dirs d = dirs_of(c);
	int r = save(c->os, &d, "web-1", &set);

	dirs_close(&d);
	return r;
}

/* The data is untouched; a save under its name is whole; else nothing but half ones is there. */
static void check_save(struct fault_case *c, int r)
{
	struct store_dirs d = dirs_of(c);
	struct stat st;
	bool there = fstatat(d.saved, "web-1", &st, AT_SYMLINK_NOFOLLOW) == 0;

	expect(d.data, "web/db/table", "old");
	expect(d.data, "web/db/deep/index", "old index");
	if (r == 0)
		assert_true(there);
	if (there) {
		expect(d.saved, "web-1/copy-0/table", "old");
		expect(d.saved, "web-1/copy-0/deep/index", "old index");
		expect(d.saved, "web-1/copy-2", "old cache");
		change_all(d.data);
		assert_int_equal(data_restore(os_quick(), &d, "web-1", false), 0);
		expect(d.data, "web/db/table", "old");
		expect(d.data, "web/new", "(absent)");
	}
	assert_int_equal(data_collect(os_quick(), &d, NOW, NULL, 0, NULL), 0);
	assert_int_equal(faccessat(d.saved, "web-1.partial", F_OK, 0), -1);
	dirs_close(&d);
}

FAULT_TEST(saving_is_all_or_nothing){ .name = "saving", .prep = prep_old, .body = body_save, .check = check_save };

static int body_restore(struct fault_case *c)
{
	struct store_dirs d = dirs_of(c);
	int r = data_restore(c->os, &d, "web-1", false);

	dirs_close(&d);
	return r;
}

/* Whatever came of it, nothing is lost, and another run ends it. */
static void check_restore(struct fault_case *c, int r)
{
	struct store_dirs d = dirs_of(c);

	if (r == 0)
		expect(d.data, "web/db/table", "old");
	assert_true(holds(d.data, "web/db/table", "new") || holds(d.saved, "web-1/displaced-0/table", "new"));
	assert_true(holds(d.data, "web/db/table", "old") || holds(d.saved, "web-1/copy-0/table", "old"));
	assert_int_equal(data_restore(os_quick(), &d, "web-1", false), 0);
	expect(d.data, "web/db/table", "old");
	expect(d.data, "web/db/deep/index", "old index");
	expect(d.data, "web/new", "(absent)");
	expect(d.data, "web/cache/old", "new cache");
	expect(d.saved, "web-1/displaced-0/table", "new");
	expect(d.saved, "web-1/displaced-1", "made by the new version");
	dirs_close(&d);
}

FAULT_TEST(restoring_can_be_run_again){
	.name = "restoring", .prep = prep_changed, .body = body_restore, .check = check_restore
};

static void test_saving_with_faults(void **state)
{
	(void) state;
	fault_test_run(&saving_is_all_or_nothing);
	crash_test_run(&saving_is_all_or_nothing, 6);
}

static void test_restoring_with_faults(void **state)
{
	(void) state;
	fault_test_run(&restoring_can_be_run_again);
	crash_test_run(&restoring_can_be_run_again, 8);
}

/* --- giving up --- */

static int prep_in_the_way(struct fault_case *c)
{
	const struct data_set set = one_deep_item();
	struct store_dirs d;
	int r;

	if (mkdirat(c->dirfd, "data", 0755) < 0 || mkdirat(c->dirfd, "saved", 0700) < 0)
		return -errno;
	d = dirs_of(c);
	put_deep(d.data);
	r = save(os_quick(), &d, "web-1", &set);
	put_link_in_the_way(d.data);
	dirs_close(&d);
	return r;
}

/* Whatever happened, the next run puts it back, and what was in the way is kept. */
static void check_in_the_way(struct fault_case *c, int r)
{
	struct store_dirs d = dirs_of(c);
	char target[32] = "";

	if (r == 0)
		expect(d.data, "web/var/lib/db/table", "old");
	assert_int_equal(data_restore(os_quick(), &d, "web-1", false), 0);
	expect(d.data, "web/var/lib/db/table", "old");
	expect(d.data, "web/elsewhere/stays", "of the new version");
	assert_true(readlinkat(d.saved, "web-1/displaced-0", target, sizeof(target) - 1) > 0);
	dirs_close(&d);
}

FAULT_TEST(in_the_way){ .name = "putting back behind a link",
			.prep = prep_in_the_way,
			.body = body_restore,
			.check = check_in_the_way };

static void test_clearing_the_way_with_faults(void **state)
{
	(void) state;
	fault_test_run(&in_the_way);
	crash_test_run(&in_the_way, 6);
}

static int save_at(const struct os *os, const struct store_dirs *d, const char *name, int64_t at, const char *from)
{
	struct data_set set = one_move();

	set.at = at;
	set.moves[0].from = from;
	return save(os, d, name, &set);
}

static void expect_given_up(const struct store_dirs *d, const char *name, const char *const *claimed)
{
	char given[DATA_NAME_SIZE] = "-";

	assert_int_equal(data_give_up(os_quick(), d, claimed, claimed ? 1 : 0, given), name ? 1 : 0);
	assert_string_equal(given, name ? name : "-");
}

static void test_for_want_of_room_the_oldest_that_are_not_the_last_go(void **state)
{
	static const char *const claimed[] = { "web-2" };
	struct world *w = *state;
	struct data_set other = one_move();

	put_old(w->d.data);
	expect_given_up(&w->d, NULL, NULL);
	assert_int_equal(save_at(os_quick(), &w->d, "web-1", NOW, "1.0.0"), 0);
	assert_int_equal(data_restore(os_quick(), &w->d, "web-1", false), 0); /* it displaced something */
	assert_int_equal(save_at(os_quick(), &w->d, "web-4", NOW + 4, "1.3.0"), 0);
	assert_int_equal(save_at(os_quick(), &w->d, "web-2", NOW + 2, "1.1.0"), 0);
	assert_int_equal(save_at(os_quick(), &w->d, "web-3", NOW + 3, "1.2.0"), 0);
	/* The only one of another component, though the oldest of those that may go. */
	other.at = NOW + 1;
	other.moves[other.move_count++].component = "base";
	other.moves[1].from = other.moves[1].to = "1.0.0";
	assert_int_equal(save(os_quick(), &w->d, "base-1", &other), 0);
	assert_int_equal(mkdirat(w->d.saved, "web-9.partial", 0700), 0); /* collecting is for those */
	assert_int_equal(mkdirat(w->d.saved, "web-8", 0700), 0); /* not to be read */
	expect_given_up(&w->d, "web-3", claimed);
	expect_given_up(&w->d, "web-2", NULL);
	expect_given_up(&w->d, NULL, NULL);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(faccessat(w->d.saved, (const char *[]){ "web-1", "web-4", "base-1" }[i], F_OK, 0),
				 0);
}

static int prep_three(struct fault_case *c)
{
	int r = prep_old(c);
	struct store_dirs d = dirs_of(c);

	if (r == 0)
		r = save_at(os_quick(), &d, "web-1", NOW, "1.0.0");
	if (r == 0)
		r = save_at(os_quick(), &d, "web-2", NOW + 1, "1.1.0");
	dirs_close(&d);
	return r;
}

static int body_give_up(struct fault_case *c)
{
	struct store_dirs d = dirs_of(c);
	char given[DATA_NAME_SIZE];
	int r = data_give_up(c->os, &d, NULL, 0, given);

	dirs_close(&d);
	return r == 0 ? -ENOENT : r < 0 ? r : 0; /* a record that could not be read is none to give up */
}

/* The old one is whole or out of sight; the newer one is never touched. */
static void check_give_up(struct fault_case *c, int r)
{
	struct store_dirs d = dirs_of(c);

	if (r == 0)
		assert_int_equal(faccessat(d.saved, "web-1", F_OK, 0), -1);
	if (faccessat(d.saved, "web-1", F_OK, 0) == 0)
		expect(d.saved, "web-1/copy-0/table", "old");
	expect(d.saved, "web-2/copy-0/table", "old");
	assert_int_equal(data_collect(os_quick(), &d, NOW, NULL, 0, NULL), 0);
	assert_int_equal(faccessat(d.saved, "web-1.partial", F_OK, 0), -1);
	dirs_close(&d);
}

FAULT_TEST(giving_up){ .name = "giving up", .prep = prep_three, .body = body_give_up, .check = check_give_up };

static void test_giving_up_with_faults(void **state)
{
	(void) state;
	fault_test_run(&giving_up);
	crash_test_run(&giving_up, 6);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_what_was_there_comes_back),
		T(test_putting_back_twice_is_once),
		T(test_all_of_it_where_everybody_asked),
		T(test_a_folder_that_went_away_is_made_again),
		T(test_no_part_of_a_path_is_a_link),
		T(test_names_that_are_none),
		T(test_a_record_that_is_none_changes_nothing),
		T(test_holes_and_many_bytes),
		T(test_sockets_and_fifos_are_left_out),
		T(test_a_file_keeps_its_own_owner_and_mode),
		T(test_a_file_that_grows_without_end_is_copied),
		T(test_what_stands_in_the_way_is_displaced),
		T(test_kept_for_seven_days),
		T(test_for_want_of_room_the_oldest_that_are_not_the_last_go),
		cmocka_unit_test(test_saving_with_faults),
		cmocka_unit_test(test_restoring_with_faults),
		cmocka_unit_test(test_clearing_the_way_with_faults),
		cmocka_unit_test(test_giving_up_with_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
