/*
 * unchanged - which services a swap leaves alone: those that declare their files, where
 * declaration and files are the same on both sides. The cost is that of reading these
 * files, and nothing where staging linked them.
 */
#include "agent/local/service.h"
#include "agent/phase/node.h"
#include "base/err.h"
#include "base/log.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { DEPTH_MAX = 64, CHUNK = 32 * 1024 };

static bool same_bytes(const struct os *os, int a, int b, uint64_t size)
{
	char one[CHUNK], two[CHUNK];

	for (uint64_t at = 0; at < size;) {
		ssize_t n = os->pread(os, a, one, sizeof(one), at), m = os->pread(os, b, two, sizeof(two), at);

		if (n <= 0 || n != m || memcmp(one, two, (size_t) n) != 0)
			return false;
		at += (uint64_t) n;
	}
	return true;
}

static bool same_file(const struct os *os, int a, int b, const char *path, uint64_t size)
{
	int one = os->openat(os, a, path, O_RDONLY | O_NOFOLLOW, 0),
	    two = os->openat(os, b, path, O_RDONLY | O_NOFOLLOW, 0);
	bool same = one >= 0 && two >= 0 && same_bytes(os, one, two, size);

	if (one >= 0)
		(void) os->close(os, one); /* read only */
	if (two >= 0)
		(void) os->close(os, two); /* read only */
	return same;
}

static bool same_link(const struct os *os, int a, int b, const char *path)
{
	char one[4096], two[4096];
	ssize_t n = os->readlinkat(os, a, path, one, sizeof(one)),
		m = os->readlinkat(os, b, path, two, sizeof(two));

	return n > 0 && n == m && memcmp(one, two, (size_t) n) == 0;
}

static bool same(const struct os *os, int a, int b, const char *path, unsigned depth);

static bool same_folder(const struct os *os, int a, int b, const char *path, unsigned depth)
{
	struct name_list one = { 0 }, two = { 0 };
	bool equal = depth < DEPTH_MAX && dir_list(os, a, path, &one) == 0 && dir_list(os, b, path, &two) == 0 &&
		     one.count == two.count;

	for (size_t i = 0; equal && i < one.count; i++) {
		char below[4096];
		int n = snprintf(below, sizeof(below), "%s/%s", path, one.names[i]);

		equal = strcmp(one.names[i], two.names[i]) == 0 && n > 0 && (size_t) n < sizeof(below) &&
			same(os, a, b, below, depth + 1);
	}
	name_list_done(&one);
	name_list_done(&two);
	return equal;
}

/* Absent on both sides is the same. What cannot be read is not. */
static bool same(const struct os *os, int a, int b, const char *path, unsigned depth)
{
	struct stat one, two;
	int r = os->fstatat(os, a, path, &one), q = os->fstatat(os, b, path, &two);

	if (r < 0 || q < 0)
		return r == -ENOENT && q == -ENOENT;
	if (one.st_dev == two.st_dev && one.st_ino == two.st_ino)
		return true;
	if (one.st_mode != two.st_mode)
		return false;
	if (S_ISDIR(one.st_mode))
		return same_folder(os, a, b, path, depth);
	if (S_ISLNK(one.st_mode))
		return same_link(os, a, b, path);
	return S_ISREG(one.st_mode) && one.st_size == two.st_size &&
	       same_file(os, a, b, path, (uint64_t) one.st_size);
}

static int open_version(const struct node *n, const struct release *r)
{
	char path[ID_MAX + VERSION_MAX + 2];

	(void) snprintf(path, sizeof(path), "%s/%s", r->component, r->version);
	return dir_open(n->os, n->dirs->store, path);
}

static bool is_unchanged(const struct node *n, const struct release_service *from,
			 const struct release_service *to, int a, int b)
{
	if (to->files.count == 0 || !release_service_equal(from, to))
		return false;
	for (size_t i = 0; i < to->files.count; i++)
		if (!same(n->os, a, b, to->files.items[i], 0))
			return false;
	return true;
}

void node_keep_services(struct node *n, const struct release *from, const struct release *to)
{
	int a = open_version(n, from), b = open_version(n, to);

	for (size_t i = 0; a >= 0 && b >= 0 && i < to->service_count; i++)
		for (size_t k = 0; k < from->service_count; k++) {
			if (!str_eq(from->services[k].name, to->services[i].name) ||
			    !is_unchanged(n, &from->services[k], &to->services[i], a, b))
				continue;
			log_info("service-unchanged", "it is left alone: component=%s service=%s from=%s to=%s",
				 to->component, to->services[i].name, from->version, to->version);
			services_keep(n->services, to->component, to->services[i].name, to->version);
		}
	if (a >= 0)
		(void) n->os->close(n->os, a); /* read only */
	if (b >= 0)
		(void) n->os->close(n->os, b); /* read only */
}
