/*
 * agent/local/gather.h: a set of files into one tar, with the newest first and never more than the set may hold.
 */
#include "agent/local/gather.h"

#include "base/err.h"
#include "crypto/digest.h"
#include "os/durable.h"
#include "support/os_fault.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
	char path[64];
	int dirfd, logs, out;
	struct config_set set;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strncpy(f->path, "/tmp/gather.XXXXXX", sizeof(f->path) - 1);
	assert_non_null(mkdtemp(f->path));
	f->dirfd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(f->dirfd, "logs", 0755), 0);
	assert_int_equal(mkdirat(f->dirfd, "out", 0755), 0);
	f->logs = openat(f->dirfd, "logs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->out = openat(f->dirfd, "out", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->set.name = (char *) (uintptr_t) "logs";
	f->set.max_bytes = 1024 * 1024;
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	string_list_done(&f->set.files);
	close(f->out);
	close(f->logs);
	close(f->dirfd);
	assert_int_equal(tree_remove(&os_posix, AT_FDCWD, f->path), 0);
	free(f);
	return 0;
}

static void put(struct fixture *f, const char *name, size_t size, char letter, int64_t age_s)
{
	const struct timespec times[2] = { { .tv_sec = 2000000000 - age_s }, { .tv_sec = 2000000000 - age_s } };
	char *bytes = malloc(size + 1);
	int fd = openat(f->logs, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	memset(bytes, letter, size);
	if (size > 0)
		bytes[size - 1] = '$'; /* the end is to be told from the beginning */
	assert_int_equal(file_write_all(&os_posix, fd, bytes, size), 0);
	assert_int_equal(futimens(fd, times), 0);
	close(fd);
	free(bytes);
}

static void pattern(struct fixture *f, const char *text)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/logs/%s", f->path, text);
	assert_int_equal(string_list_add(&f->set.files, path), 0);
}

/* To the end; the tar is out/a.tar. */
static int gather(struct fixture *f, const struct os *os, uint64_t *ret_files)
{
	CLEANUP(gathering_freep)
	struct gathering *g = NULL;
	CLEANUP(buf_done)
	struct buf tar = BUF_INIT(64 * 1024 * 1024);
	char said[SHA256_HEX + 1], hex[SHA256_HEX + 1];
	uint64_t length = 0;
	int r;

	(void) unlinkat(f->out, "a.tar", 0);
	r = gathering_begin(os, &f->set, f->out, "a.tar", &g);
	while (r == 0)
		r = gathering_step(g);
	if (r < 0)
		return r;
	gathering_result(g, &length, said, ret_files);
	assert_int_equal(file_read(&os_posix, f->out, "a.tar", tar.max, &tar), 0);
	assert_int_equal(length, tar.len);
	assert_int_equal(sha256_hex(tar.data, tar.len, hex), 0);
	assert_string_equal(hex, said);
	return 0;
}

/* What tar itself makes of it. */
static void listing(struct fixture *f, char *out, size_t size)
{
	char command[300];
	FILE *p;
	size_t n;

	snprintf(command, sizeof(command),
		 "tar tvf %s/out/a.tar | awk '{print $3, $6}' && tar xOf %s/out/a.tar manifest.txt", f->path,
		 f->path);
	p = popen(command, "r");
	assert_non_null(p);
	n = fread(out, 1, size - 1, p);
	out[n] = '\0';
	assert_int_equal(pclose(p), 0);
}

static void patterns_take_plain_files_only(void **state)
{
	struct fixture *f = *state;
	char text[4096];
	uint64_t files = 0;

	put(f, "a.log", 10, 'a', 3);
	put(f, "b.log", 0, 'b', 2);
	put(f, ".hidden.log", 5, 'h', 1);
	put(f, "a.txt", 5, 't', 1);
	put(f, "new\nline.log", 5, 't', 1);
	assert_int_equal(symlinkat("/etc/passwd", f->logs, "link.log"), 0);
	assert_int_equal(mkfifoat(f->logs, "fifo.log", 0600), 0);
	assert_int_equal(mkdirat(f->logs, "folder.log", 0755), 0);
	pattern(f, "*.log");
	pattern(f, "a.log"); /* twice is once */
	pattern(f, "not-there");
	assert_int_equal(string_list_add(&f->set.files, "/no/such/folder/*"), 0);
	assert_int_equal(gather(f, &os_posix, &files), 0);
	assert_int_equal(files, 2);
	listing(f, text, sizeof(text));
	assert_non_null(strstr(text, "manifest.txt"));
	assert_non_null(strstr(text, "/logs/a.log\n"));
	assert_non_null(strstr(text, "/logs/b.log\n"));
	assert_null(strstr(text, "passwd"));
	assert_null(strstr(text, "link"));
	assert_null(strstr(text, "hidden"));
	assert_null(strstr(text, "a.txt"));
}

static void the_newest_come_whole_and_of_the_rest_the_end(void **state)
{
	struct fixture *f = *state;
	char text[4096], command[300], end[8] = "";
	uint64_t files = 0;
	FILE *p;

	f->set.max_bytes = 3000;
	put(f, "old.log", 1000, 'o', 300);
	put(f, "middle.log", 5000, 'm', 200);
	put(f, "new.log", 2000, 'n', 100);
	pattern(f, "*.log");
	assert_int_equal(gather(f, &os_posix, &files), 0);
	assert_int_equal(files, 3);
	listing(f, text, sizeof(text));
	assert_non_null(strstr(text, "2000 2000 "));
	assert_non_null(strstr(text, "1000 5000 "));
	assert_non_null(strstr(text, "0 1000 "));
	snprintf(command, sizeof(command), "tar xOf %s/out/a.tar --wildcards '*middle.log' | tail -c 2", f->path);
	p = popen(command, "r");
	assert_int_equal(fread(end, 1, 2, p), 2);
	(void) pclose(p);
	assert_string_equal(end, "m$");
}

static void nothing_there_is_an_answer(void **state)
{
	struct fixture *f = *state;
	struct stat st;
	uint64_t files;

	pattern(f, "*.log");
	assert_int_equal(gather(f, &os_posix, &files), -ENOENT);
	assert_int_equal(fstatat(f->out, "a.tar", &st, 0), -1);
}

static void files_that_move_meanwhile_break_nothing(void **state)
{
	struct fixture *f = *state;
	struct gathering *g = NULL;
	char text[4096];
	int r;

	put(f, "grows.log", 100000, 'g', 1);
	put(f, "shrinks.log", 100000, 's', 2);
	put(f, "goes.log", 100000, 'x', 3);
	pattern(f, "*.log");
	assert_int_equal(gathering_begin(&os_posix, &f->set, f->out, "a.tar", &g), 0);
	put(f, "grows.log", 200000, 'G', 1);
	put(f, "shrinks.log", 50000, 'S', 2);
	assert_int_equal(unlinkat(f->logs, "goes.log", 0), 0);
	while ((r = gathering_step(g)) == 0)
		;
	assert_int_equal(r, 1);
	gathering_free(g);
	listing(f, text, sizeof(text));
	assert_non_null(strstr(text, "100000 "));
	assert_non_null(strstr(text, "/logs/shrinks.log"));
}

static void many_files_are_cut_off_and_counted(void **state)
{
	struct fixture *f = *state;
	char name[32], *text = malloc(1 << 20);
	uint64_t files = 0;

	for (int i = 0; i < GATHER_FILES_MAX + 5; i++) {
		snprintf(name, sizeof(name), "%04d.log", i);
		put(f, name, 1, 'x', i);
	}
	pattern(f, "*.log");
	assert_int_equal(gather(f, &os_posix, &files), 0);
	assert_int_equal(files, GATHER_FILES_MAX);
	listing(f, text, 1 << 20);
	assert_non_null(strstr(text, "5 more files are not here"));
	free(text);
}

/* Every call of the system fails once: an error comes back, or the tar is whole; nothing leaks (sanitizers). */
static void any_call_may_fail(void **state)
{
	struct fixture *f = *state;
	bool failed = true;

	put(f, "a.log", 100000, 'a', 3);
	put(f, "b.log", 10, 'b', 2);
	pattern(f, "*.log");
	for (unsigned at = 1; failed; at++) {
		struct os_fault fault;
		uint64_t files = 0;
		int r;

		os_fault_init(&fault, &os_posix);
		os_fault_arm(&fault, at, EIO, false);
		r = gather(f, &fault.os, &files);
		failed = fault.fired > 0;
		assert_true(r == 0 || r == -EIO || r == -ENOENT || !failed);
		if (!failed)
			assert_int_equal(files, 2);
	}
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_FOLDER(patterns_take_plain_files_only),
		WITH_FOLDER(the_newest_come_whole_and_of_the_rest_the_end),
		WITH_FOLDER(nothing_there_is_an_answer),
		WITH_FOLDER(files_that_move_meanwhile_break_nothing),
		WITH_FOLDER(many_files_are_cut_off_and_counted),
		WITH_FOLDER(any_call_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
