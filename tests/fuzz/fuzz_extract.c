/*
 * Archives from hostile hands; the first byte picks the media type. Whatever is
 * unpacked must be a tree that may be sealed, within its limits, and nothing may
 * appear beside it.
 */
#include "base/err.h"
#include "os/durable.h"
#include "pack/pack.h"
#include "tree/tree.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64];
static int folder_fd = -1;

static void remove_folder(void)
{
	if (tree_remove(&os_posix, AT_FDCWD, folder) < 0)
		fprintf(stderr, "%s stays behind\n", folder);
}

static void make_folder(void)
{
	(void) umask(022);
	(void) snprintf(folder, sizeof(folder), "/dev/shm/selfright-fuzz-XXXXXX");
	if (!mkdtemp(folder)) {
		(void) snprintf(folder, sizeof(folder), "/tmp/selfright-fuzz-XXXXXX");
		if (!mkdtemp(folder))
			abort();
	}
	folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder_fd < 0 || atexit(remove_folder) != 0)
		abort();
}

static void check_tree(int out, const struct pack_limits *limits)
{
	CLEANUP(tree_done)
	struct tree t = { 0 };

	if (tree_scan(&os_posix, out, geteuid(), NULL, NULL, &t, NULL) < 0 || t.files > limits->max_files ||
	    t.total_bytes > limits->max_bytes)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct pack_limits limits = { .max_bytes = 64 * 1024, .max_files = 16 };
	CLEANUP(name_list_done)
	struct name_list beside = { 0 };
	char *offender = NULL;
	int in, out;

	if (folder_fd < 0)
		make_folder();
	if (size < 1)
		return 0;
	in = memfd_create("archive", MFD_CLOEXEC);
	if (in < 0 || mkdirat(folder_fd, "out", 0755) < 0)
		abort();
	out = openat(folder_fd, "out", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (out < 0 || file_write_all(&os_posix, in, data + 1, size - 1) < 0)
		abort();
	if (pack_extract(&os_posix, in, (enum pack_media)(data[0] % (PACK_ZIP + 1)), out, &limits, &offender) == 0)
		check_tree(out, &limits);
	free(offender);
	close(in);
	close(out);
	if (dir_list(&os_posix, folder_fd, ".", &beside) < 0 || beside.count != 1)
		abort();
	if (tree_remove(&os_posix, folder_fd, "out") < 0)
		abort();
	return 0;
}
