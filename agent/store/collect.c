#include "agent/store/collect.h"

#include "agent/store/seal.h"
#include "base/err.h"
#include "base/text.h"
#include "base/version.h"
#include "os/durable.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct collection {
	const struct os *os;
	const struct store_dirs *dirs;
	const struct collect_options *o;
	struct generation *kept; /* the content of every generation that stays */
	size_t kept_count;
	struct collect_result result;
};

/* One sealed version and when it was sealed. */
struct sealed {
	const char *version;
	int64_t at;
	bool needed;
};

static bool ends_with(const char *name, const char *suffix)
{
	size_t n = strlen(name), m = strlen(suffix);

	return n > m && strcmp(name + n - m, suffix) == 0;
}

/* NAME without a suffix it ends with, in `out`. */
static bool cut_suffix(const char *name, const char *suffix, char *out, size_t size)
{
	if (!ends_with(name, suffix) || strlen(name) - strlen(suffix) >= size)
		return false;
	(void) snprintf(out, size, "%.*s", (int) (strlen(name) - strlen(suffix)), name);
	return true;
}

static bool is_claimed(const struct collection *c, const char *component, const char *version)
{
	for (size_t i = 0; i < c->o->claimed_count; i++)
		if (strcmp(c->o->claimed[i].component, component) == 0 &&
		    strcmp(c->o->claimed[i].version, version) == 0)
			return true;
	return false;
}

static bool is_named(const struct collection *c, const char *component, const char *version)
{
	for (size_t i = 0; i < c->kept_count; i++)
		if (strcmp(generation_version(&c->kept[i], component), version) == 0)
			return true;
	return false;
}

static bool number_is_kept(const struct collect_options *o, uint64_t n, uint64_t current)
{
	bool kept = n == current;

	for (size_t i = 0; i < o->generation_count; i++)
		kept = kept || o->generations[i] == n;
	return kept;
}

/* What must stay is read before anything is removed: a generation that cannot be read ends the run. */
static int read_kept(struct collection *c, const uint64_t *numbers, size_t count, uint64_t current)
{
	c->kept = calloc(count + 1, sizeof(*c->kept));
	if (!c->kept)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		int r;

		if (!number_is_kept(c->o, numbers[i], current))
			continue;
		r = generation_read(c->os, c->dirs->generations, numbers[i], &c->kept[c->kept_count]);
		if (r < 0)
			return r;
		c->kept_count++;
	}
	return 0;
}

static int collect_generations(struct collection *c, const uint64_t *numbers, size_t count, uint64_t current)
{
	CLEANUP(name_list_done)
	struct name_list names = { NULL, 0 };
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i++) {
		if (number_is_kept(c->o, numbers[i], current))
			continue;
		r = generation_remove(c->os, c->dirs->generations, numbers[i]);
		c->result.generations += r == 0;
	}
	if (r == 0)
		r = dir_list(c->os, c->dirs->generations, ".", &names);
	for (size_t i = 0; i < names.count && r == 0; i++) {
		if (!ends_with(names.names[i], ".partial"))
			continue;
		r = tree_remove(c->os, c->dirs->generations, names.names[i]);
		c->result.leftovers += r == 0;
	}
	return r;
}

/* Newest first; the same moment: the higher version first. */
static int compare_sealed(const void *a, const void *b)
{
	const struct sealed *x = a, *y = b;

	if (x->at != y->at)
		return x->at < y->at ? 1 : -1;
	return version_compare(y->version, x->version);
}

static int remove_beyond(struct collection *c, const char *component, struct sealed *list, size_t count)
{
	size_t stay = 0;
	int r = 0;

	qsort(list, count, sizeof(*list), compare_sealed);
	for (size_t i = 0; i < count; i++)
		stay += list[i].needed;
	for (size_t i = 0; i < count && r == 0; i++) {
		if (list[i].needed)
			continue;
		if (stay < c->o->keep_versions) {
			stay++;
			continue;
		}
		r = seal_remove(c->os, c->dirs->store, component, list[i].version);
		c->result.versions += r == 0;
	}
	return r;
}

static int remove_leftover(struct collection *c, int fd, const char *component, const char *name)
{
	char version[VERSION_MAX + 1];
	struct stat st;
	int r;

	if (cut_suffix(name, ".partial", version, sizeof(version))) {
		if (is_claimed(c, component, version))
			return 0;
	} else if (cut_suffix(name, ".seal", version, sizeof(version))) {
		r = c->os->fstatat(c->os, fd, version, &st);
		if (r != -ENOENT || is_claimed(c, component, version))
			return r == -ENOENT ? 0 : r;
	} else if (!ends_with(name, ".pending")) {
		return 0; /* not ours: nothing we make is left under such a name */
	}
	r = tree_remove(c->os, fd, name);
	c->result.leftovers += r == 0;
	return r;
}

static int collect_component(struct collection *c, int fd, const char *component)
{
	CLEANUP(name_list_done)
	struct name_list names = { NULL, 0 };
	struct sealed *list = NULL;
	size_t count = 0;
	int r;

	r = dir_list(c->os, fd, ".", &names);
	if (r == 0 && names.count > 0) {
		list = calloc(names.count, sizeof(*list));
		r = list ? 0 : -ENOMEM;
	}
	for (size_t i = 0; i < names.count && r == 0; i++) {
		const char *name = names.names[i];
		char record[VERSION_MAX + 16];
		struct stat st;

		if (!version_is_valid(name)) {
			r = remove_leftover(c, fd, component, name);
			continue;
		}
		(void) snprintf(record, sizeof(record), "%s.seal",
				name); /* a version is at most VERSION_MAX bytes */
		r = c->os->fstatat(c->os, fd, record, &st);
		if (r < 0 && r != -ENOENT)
			break;
		/* Without its record it is the first to go. */
		list[count++] = (struct sealed){
			.version = name,
			.at = r == 0 ? (int64_t) st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec : -1,
			.needed = is_named(c, component, name) || is_claimed(c, component, name),
		};
		r = 0;
	}
	if (r == 0 && count > 0)
		r = remove_beyond(c, component, list, count);
	free(list);
	return r;
}

static int collect_store(struct collection *c)
{
	CLEANUP(name_list_done)
	struct name_list names = { NULL, 0 };
	int r;

	r = dir_list(c->os, c->dirs->store, ".", &names);
	for (size_t i = 0; i < names.count && r == 0; i++) {
		int fd;

		if (!guard_id(names.names[i]))
			continue;
		fd = dir_open(c->os, c->dirs->store, names.names[i]);
		if (fd < 0)
			return fd;
		r = collect_component(c, fd, names.names[i]);
		(void) c->os->close(c->os, fd); /* a folder opened for reading */
	}
	return r;
}

static int collect_pending(struct collection *c)
{
	const int fds[] = { c->dirs->root, c->dirs->trust };
	int r = 0;

	for (size_t k = 0; k < ARRAY_LEN(fds); k++) {
		CLEANUP(name_list_done)
		struct name_list names = { NULL, 0 };

		r = dir_list(c->os, fds[k], ".", &names);
		for (size_t i = 0; i < names.count && r == 0; i++) {
			if (names.names[i][0] != '.' || !ends_with(names.names[i], ".pending"))
				continue;
			r = tree_remove(c->os, fds[k], names.names[i]);
			c->result.leftovers += r == 0;
		}
		if (r < 0)
			return r;
	}
	return r;
}

static bool holds(const uint64_t *numbers, size_t count, uint64_t n)
{
	for (size_t i = 0; i < count; i++)
		if (numbers[i] == n)
			return true;
	return false;
}

int collect(const struct store *s, const struct collect_options *o, struct collect_result *ret)
{
	struct collection c = { .os = store_os(s), .dirs = store_dirs(s), .o = o };
	uint64_t current = 0, *numbers = NULL;
	size_t count = 0;
	int r;

	r = generation_current(c.os, c.dirs->root, &current);
	if (r < 0 && r != -ENOENT)
		return r;
	r = generation_list(c.os, c.dirs->generations, &numbers, &count);
	if (r < 0)
		return r;
	/* A link to nowhere is for recover to mend: until then everything may be needed. */
	if (current > 0 && !holds(numbers, count, current))
		r = -ERR_TREE;
	if (r == 0)
		r = read_kept(&c, numbers, count, current);
	if (r == 0)
		r = collect_generations(&c, numbers, count, current);
	if (r == 0)
		r = collect_store(&c);
	if (r == 0)
		r = collect_pending(&c);
	free(numbers);
	free(c.kept);
	if (ret)
		*ret = c.result;
	return r;
}
