#include "server-stub/repo/difference.h"

#include "base/buf.h"
#include "base/err.h"
#include "json/build.h"
#include "model/check.h"
#include "os/os.h"
#include "pack/pack.h"
#include "server-stub/repo/role_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { CHECK_TEXT_MAX = 256 * 1024 };

struct counting {
	struct json_node *list;
	uint64_t added, removed, changed, same, written;
	size_t shown;
};

static void show(struct counting *c, const char *path, const char *change, const struct tree_entry *before,
		 const struct tree_entry *after)
{
	struct json_node *o;

	if (c->shown++ >= DIFFERENCE_SHOWN_MAX)
		return;
	o = node_object(c->list, NULL);
	node_string(o, "path", path);
	node_string(o, "change", change);
	if (before)
		node_integer(o, "before", (int64_t) before->size);
	if (after)
		node_integer(o, "after", (int64_t) after->size);
}

static bool same_entry(const struct tree_entry *a, const struct tree_entry *b)
{
	return a->type == b->type && a->mode == b->mode && a->size == b->size &&
	       (a->type != 'f' || memcmp(a->sha256, b->sha256, SHA256_BYTES) == 0) &&
	       (a->type != 'l' || strcmp(a->target, b->target) == 0);
}

/* Folders come and go with what lies in them. */
static bool counts(const struct tree_entry *e)
{
	return e->type != 'd';
}

static void compare_trees(const struct tree *before, const struct tree *after, struct counting *c)
{
	size_t i = 0, k = 0;

	while (i < before->count || k < after->count) {
		const struct tree_entry *a = i < before->count ? &before->entries[i] : NULL,
					*b = k < after->count ? &after->entries[k] : NULL;
		int order = !a ? 1 : !b ? -1 : strcmp(a->path, b->path);

		i += order <= 0;
		k += order >= 0;
		if (order < 0 && counts(a)) {
			c->removed++;
			show(c, a->path, "removed", a, NULL);
		} else if (order > 0 && counts(b)) {
			c->added++;
			c->written += b->size;
			show(c, b->path, "added", NULL, b);
		} else if (order == 0 && same_entry(a, b)) {
			c->same += counts(a);
		} else if (order == 0) {
			c->changed++;
			c->written += b->size;
			show(c, b->path, "changed", a, b);
		}
	}
}

static int check_text(const struct release_check *check, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();

	check_write(check, json_build_root(b));
	return json_build_text(b, false, out);
}

static const struct release_check *find_check(const struct release *r, const char *name)
{
	for (size_t i = 0; i < r->check_count; i++)
		if (strcmp(r->checks[i].name, name) == 0)
			return &r->checks[i];
	return NULL;
}

static int compare_checks(const struct release *before, const struct release *after, struct json_node *o)
{
	struct json_node *added = node_array(o, "added"), *removed = node_array(o, "removed"),
			 *changed = node_array(o, "changed");

	for (size_t i = 0; i < before->check_count; i++)
		if (!find_check(after, before->checks[i].name))
			node_string(removed, NULL, before->checks[i].name);
	for (size_t i = 0; i < after->check_count; i++) {
		CLEANUP(buf_done)
		struct buf a = BUF_INIT(CHECK_TEXT_MAX), b = BUF_INIT(CHECK_TEXT_MAX);
		const struct release_check *now = &after->checks[i], *then = find_check(before, now->name);
		int r;

		if (!then) {
			node_string(added, NULL, now->name);
			continue;
		}
		r = check_text(then, &a);
		if (r == 0)
			r = check_text(now, &b);
		if (r < 0)
			return r;
		if (a.len != b.len || memcmp(a.data, b.data, a.len) != 0)
			node_string(changed, NULL, now->name);
	}
	return 0;
}

static void write_download(const struct release *before, const struct release *after, struct json_node *o)
{
	for (size_t i = 0; i < after->artifact_count; i++) {
		const struct release_artifact *a = &after->artifacts[i];

		if (!a->is_delta)
			node_integer(o, "full", (int64_t) a->length);
		else if (a->from && strcmp(a->from, before->version) == 0)
			node_integer(o, "delta", (int64_t) a->length);
	}
}

int difference_write(const struct difference_side *before, const struct difference_side *after,
		     struct json_node *object)
{
	struct json_node *files = node_object(object, "files"), *bytes = node_object(object, "bytes");
	struct counting c = { .list = node_array(files, "list") };

	node_string(object, "from", before->release->version);
	node_string(object, "to", after->release->version);
	compare_trees(before->tree, after->tree, &c);
	node_integer(files, "added", (int64_t) c.added);
	node_integer(files, "removed", (int64_t) c.removed);
	node_integer(files, "changed", (int64_t) c.changed);
	node_integer(files, "same", (int64_t) c.same);
	node_integer(files, "not_shown",
		     c.shown > DIFFERENCE_SHOWN_MAX ? (int64_t) (c.shown - DIFFERENCE_SHOWN_MAX) : 0);
	node_integer(bytes, "before", (int64_t) before->release->installed_size);
	node_integer(bytes, "after", (int64_t) after->release->installed_size);
	node_integer(bytes, "written", (int64_t) c.written);
	write_download(before->release, after->release, node_object(object, "download"));
	return compare_checks(before->release, after->release, node_object(object, "checks"));
}

int difference_list(const struct os *os, int dirfd, const struct release *r, struct tree *ret)
{
	const struct pack_limits limits = { r->installed_size, r->files };
	const struct release_artifact *full = NULL;
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(4096);
	char sha256[SHA256_HEX + 1];
	uint8_t digest[SHA256_BYTES];
	int fd, f;

	for (size_t i = 0; i < r->artifact_count && !full; i++)
		if (!r->artifacts[i].is_delta &&
		    pack_media_parse(r->artifacts[i].media ? r->artifacts[i].media : "") == PACK_TAR_ZSTD)
			full = &r->artifacts[i];
	if (!full)
		return -ENOENT;
	hex_encode(sha256, full->sha256, SHA256_BYTES);
	f = target_file_path(full->path, sha256, &path);
	if (f < 0)
		return f;
	fd = os->openat(os, dirfd, buf_str(&path), O_RDONLY, 0);
	if (fd < 0)
		return fd;
	f = pack_list(os, fd, &limits, ret);
	(void) os->close(os, fd); /* only read */
	if (f < 0)
		return f;
	f = tree_digest(ret, digest);
	if (f == 0 && memcmp(digest, r->tree_digest, sizeof(digest)) != 0)
		f = -ERR_DIGEST;
	if (f < 0)
		tree_done(ret);
	return f;
}
