#include "agent/store/generation.h"

#include "base/err.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CURRENT "current"
#define TARGET_PREFIX "../../store/"
#define CURRENT_PREFIX "generations/"

enum {
	NUMBER_SIZE = 24,
	NAME_SIZE = NUMBER_SIZE + 16,
	TARGET_SIZE = sizeof(TARGET_PREFIX) + ID_MAX + VERSION_MAX + 2
};

static void number_name(char out[static NAME_SIZE], uint64_t n, const char *suffix)
{
	(void) snprintf(out, NAME_SIZE, "%" PRIu64 "%s", n, suffix); /* 20 digits and a short suffix */
}

/* A number written as we write it: no leading zero, not 0. */
static bool parse_number(const char *text, uint64_t *ret)
{
	return text[0] != '0' && parse_u64(text, ret) == 0 && *ret > 0;
}

const char *generation_version(const struct generation *g, const char *component)
{
	for (size_t i = 0; i < g->count; i++)
		if (strcmp(g->entries[i].component, component) == 0)
			return g->entries[i].version;
	return "";
}

bool generation_equals(const struct generation *a, const struct generation *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (strcmp(a->entries[i].component, b->entries[i].component) != 0 ||
		    strcmp(a->entries[i].version, b->entries[i].version) != 0)
			return false;
	return true;
}

static int set_entry(struct generation *g, const struct generation_entry *e)
{
	size_t at = 0;

	while (at < g->count && strcmp(g->entries[at].component, e->component) < 0)
		at++;
	if (at < g->count && strcmp(g->entries[at].component, e->component) == 0) {
		if (e->version[0]) {
			g->entries[at] = *e;
			return 0;
		}
		memmove(g->entries + at, g->entries + at + 1, (g->count - at - 1) * sizeof(*g->entries));
		g->count--;
		return 0;
	}
	if (!e->version[0])
		return 0;
	if (g->count >= GENERATION_COMPONENTS_MAX)
		return -ERR_TOO_LARGE;
	memmove(g->entries + at + 1, g->entries + at, (g->count - at) * sizeof(*g->entries));
	g->entries[at] = *e;
	g->count++;
	return 0;
}

int generation_compose(const struct generation *base, const struct generation_entry *changes, size_t count,
		       struct generation *ret)
{
	struct generation g = { .count = 0 };
	int r;

	if (base)
		g = *base;
	for (size_t i = 0; i < count; i++) {
		const struct generation_entry *e = &changes[i];

		if (!guard_id(e->component) || (e->version[0] && !version_is_valid(e->version)))
			return -ERR_NAME;
		for (size_t k = 0; k < i; k++)
			if (strcmp(changes[k].component, e->component) == 0)
				return -ERR_DUPLICATE_NAME;
		r = set_entry(&g, e);
		if (r < 0)
			return r;
	}
	*ret = g;
	return 0;
}

static int make_links(const struct os *os, int fd, const struct generation *g)
{
	for (size_t i = 0; i < g->count; i++) {
		char target[TARGET_SIZE];
		int r;

		(void) snprintf(target, sizeof(target), TARGET_PREFIX "%s/%s", g->entries[i].component,
				g->entries[i].version); /* both are bounded */
		r = os->symlinkat(os, target, fd, g->entries[i].component);
		if (r < 0)
			return r;
	}
	return os->fsync(os, fd);
}

int generation_create(const struct os *os, int generations_fd, uint64_t n, const struct generation *g)
{
	char name[NAME_SIZE], partial[NAME_SIZE];
	struct generation there;
	int fd, r;

	if (n == 0)
		return -EINVAL;
	for (size_t i = 0; i < g->count; i++)
		if (!guard_id(g->entries[i].component) || !version_is_valid(g->entries[i].version))
			return -ERR_NAME;
	number_name(name, n, "");
	number_name(partial, n, ".partial");
	r = generation_read(os, generations_fd, n, &there);
	if (r == 0)
		/* Whoever made it may not have come as far as the last sync. */
		return generation_equals(&there, g) ? os->fsync(os, generations_fd) : -EEXIST;
	if (r != -ENOENT)
		return r == -ERR_TREE ? -EEXIST : r;
	r = tree_remove(os, generations_fd, partial);
	if (r == 0)
		r = os->mkdirat(os, generations_fd, partial, 0755);
	if (r < 0)
		return r;
	fd = os->openat(os, generations_fd, partial, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	r = os->fchmod(os, fd, 0755); /* whatever the umask: applications start from here */
	if (r == 0)
		r = make_links(os, fd, g);
	(void) os->close(os, fd); /* a folder opened for reading */
	if (r == 0)
		r = os->renameat(os, generations_fd, partial, generations_fd, name);
	if (r < 0) {
		(void) !tree_remove(os, generations_fd, partial); /* collect removes it if we cannot */
		return r;
	}
	return os->fsync(os, generations_fd);
}

/* readlink with NUL; -ERR_TREE if it is no link or longer than any of ours. */
static int read_link(const struct os *os, int dirfd, const char *name, char *ret, size_t size)
{
	ssize_t n = os->readlinkat(os, dirfd, name, ret, size);

	if (n < 0)
		return n == -EINVAL ? -ERR_TREE : (int) n;
	if ((size_t) n >= size)
		return -ERR_TREE;
	ret[n] = '\0';
	return 0;
}

static int read_entry(const struct os *os, int fd, const char *name, struct generation_entry *ret)
{
	char target[TARGET_SIZE];
	const char *p = target;
	size_t len = strlen(name);
	int r;

	if (!guard_id(name))
		return -ERR_TREE;
	r = read_link(os, fd, name, target, sizeof(target));
	if (r < 0)
		return r;
	if (!str_starts(p, TARGET_PREFIX))
		return -ERR_TREE;
	p += strlen(TARGET_PREFIX);
	if (strncmp(p, name, len) != 0 || p[len] != '/' || !version_is_valid(p + len + 1))
		return -ERR_TREE;
	(void) snprintf(ret->component, sizeof(ret->component), "%s", name); /* guard_id: fits */
	(void) snprintf(ret->version, sizeof(ret->version), "%s", p + len + 1); /* version_is_valid: fits */
	return 0;
}

int generation_read(const struct os *os, int generations_fd, uint64_t n, struct generation *ret)
{
	CLEANUP(name_list_done)
	struct name_list names = { NULL, 0 };
	struct generation g = { .count = 0 };
	char name[NAME_SIZE];
	int fd, r;

	number_name(name, n, "");
	fd = os->openat(os, generations_fd, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd == -ENOTDIR || fd == -ELOOP ? -ERR_TREE : fd;
	r = dir_list(os, fd, ".", &names);
	if (r == 0 && names.count > GENERATION_COMPONENTS_MAX)
		r = -ERR_TREE;
	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = read_entry(os, fd, names.names[i], &g.entries[g.count++]);
	(void) os->close(os, fd); /* a folder opened for reading */
	if (r < 0)
		return r;
	*ret = g;
	return 0;
}

int generation_current(const struct os *os, int root_fd, uint64_t *ret)
{
	char target[sizeof(CURRENT_PREFIX) + NUMBER_SIZE];
	int r;

	r = read_link(os, root_fd, CURRENT, target, sizeof(target));
	if (r < 0)
		return r;
	if (!str_starts(target, CURRENT_PREFIX) || !parse_number(target + strlen(CURRENT_PREFIX), ret))
		return -ERR_TREE;
	return 0;
}

int generation_switch(const struct os *os, int root_fd, uint64_t n)
{
	char target[sizeof(CURRENT_PREFIX) + NAME_SIZE], name[NAME_SIZE];
	struct stat st;
	int r;

	number_name(name, n, "");
	(void) snprintf(target, sizeof(target), CURRENT_PREFIX "%s", name); /* sized for it */
	r = os->fstatat(os, root_fd, target, &st);
	if (r < 0)
		return r;
	if (!S_ISDIR(st.st_mode))
		return -ENOENT;
	return durable_link_replace(os, root_fd, target, CURRENT);
}

int generation_remove(const struct os *os, int generations_fd, uint64_t n)
{
	char name[NAME_SIZE], partial[NAME_SIZE];
	int r;

	number_name(name, n, "");
	number_name(partial, n, ".partial");
	r = tree_remove(os, generations_fd, partial);
	if (r < 0)
		return r;
	/* First out of sight: half a generation must not look like a whole one. */
	r = os->renameat(os, generations_fd, name, generations_fd, partial);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	/* Removals may reach the disk in any order; the new name first. */
	r = os->fsync(os, generations_fd);
	return r < 0 ? r : tree_remove(os, generations_fd, partial);
}

static int compare_numbers(const void *a, const void *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return (x > y) - (x < y);
}

int generation_list(const struct os *os, int generations_fd, uint64_t **ret, size_t *ret_count)
{
	CLEANUP(name_list_done)
	struct name_list names = { NULL, 0 };
	uint64_t *list;
	size_t count = 0;
	int r;

	r = dir_list(os, generations_fd, ".", &names);
	if (r < 0)
		return r;
	list = calloc(names.count + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < names.count; i++)
		if (parse_number(names.names[i], &list[count]))
			count++;
	qsort(list, count, sizeof(*list), compare_numbers);
	*ret = list;
	*ret_count = count;
	return 0;
}
