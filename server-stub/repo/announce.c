#include "base/err.h"
#include "json/build.h"
#include "json/json.h"
#include "os/durable.h"
#include "pack/pack.h"
#include "server-stub/repo/folder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	INFLATED_MAX = 1024 * 1024,
	ANNOUNCEMENT_MAX = 64 * 1024, /* what a broker carries (DESIGN.md section 7) */
};

void change_list_done(struct change_list *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->items[i].file);
	free(l->items);
	*l = (struct change_list){ 0 };
}

int change_list_add(struct change_list *l, const char *file, enum change_order order)
{
	struct change *items;
	char *copy;
	size_t at;

	for (size_t i = 0; i < l->count; i++)
		if (str_eq(l->items[i].file, file))
			return 0;
	items = realloc(l->items, (l->count + 1) * sizeof(*items));
	if (!items)
		return -ENOMEM;
	l->items = items;
	copy = strdup(file);
	if (!copy)
		return -ENOMEM;
	for (at = l->count; at > 0 && items[at - 1].order > order; at--)
		items[at] = items[at - 1];
	items[at] = (struct change){ copy, order };
	l->count++;
	return 0;
}

enum change_order change_order_of_role(const char *role)
{
	return str_eq(role, "root")	  ? CHANGE_ROOT
	       : str_eq(role, "targets")  ? CHANGE_TARGETS
	       : str_eq(role, "rollouts") ? CHANGE_ROLLOUTS
	       : str_eq(role, "support")  ? CHANGE_PRIVATE
					  : CHANGE_TEAM;
}

enum change_order change_order_of_target(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (str_starts(path, "nodes/"))
		return CHANGE_PRIVATE;
	if (str_eq(path, "rollouts/index.json"))
		return CHANGE_INDEX;
	if (str_starts(path, "rollouts/") || str_starts(path, "inventory/"))
		return CHANGE_DOCUMENT;
	return slash && str_eq(slash, "/policy.json") ? CHANGE_POLICY : CHANGE_MANIFEST;
}

/* Bytes of the text inside a JSON document, escapes included. */
static size_t escaped_length(const struct buf *b)
{
	size_t n = 2;

	for (size_t i = 0; i < b->len; i++)
		n += b->data[i] == '"' || b->data[i] == '\\' ? 2 : b->data[i] < 0x20 ? 6 : 1;
	return n;
}

struct announcement {
	struct repo *repo;
	struct json_node *files;
	size_t inflated; /* of what is in it */
	size_t count;
};

/* Add the file if there is room; what does not fit is fetched by those who need it. */
static int add_bytes(struct announcement *a, const char *file, const struct buf *bytes)
{
	size_t more = escaped_length(bytes) + strlen(file) + 8;

	if (a->inflated + more > INFLATED_MAX - 64 || memchr(buf_str(bytes), 0, bytes->len))
		return 0;
	a->inflated += more;
	a->count++;
	node_string(a->files, file, buf_str(bytes));
	return 0;
}

static int add_file(struct announcement *a, const char *file)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(INFLATED_MAX);
	int e = file_read(a->repo->os, a->repo->repofd, file, INFLATED_MAX, &bytes);

	if (e == -ERR_TOO_LARGE ||
	    e == -ENOENT) /* an artifact, or collected since: to be fetched, or not needed */
		return 0;
	if (e < 0)
		return repo_fail(a->repo, e, "%s: %s", file, err_text(e));
	return add_bytes(a, file, &bytes);
}

static int add_role(struct announcement *a, const char *role)
{
	CLEANUP(buf_done)
	struct buf file = BUF_INIT(512);
	const struct role_file *f = role_set_get(&a->repo->roles, role);
	int e;

	if (!f)
		return 0;
	e = role_file_path(role, f->version, &file);
	return e < 0 ? e : add_bytes(a, buf_str(&file), &f->bytes);
}

/* The node's orders, and the role that lists them. */
static int add_node(struct announcement *a, const char *node)
{
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(256), file = BUF_INIT(512);
	const struct role_file *support = role_set_get(&a->repo->roles, "support");
	const char *sha256;
	int e;

	if (!guard_id(node))
		return repo_fail(a->repo, -ERR_NAME, "a node id is needed for an announcement");
	e = buf_addf(&path, "nodes/%s.json", node);
	if (e < 0 || !support)
		return e;
	sha256 = json_string(
		json_get(json_get(json_get(json_get(support->body, "targets"), buf_str(&path)), "hashes"),
			 "sha256"));
	e = add_role(a, "support");
	if (e >= 0 && sha256) {
		e = target_file_path(buf_str(&path), sha256, &file);
		if (e >= 0)
			e = add_file(a, buf_str(&file));
	}
	return e;
}

/* With at most `most` of the changed files. */
static int announce(struct repo *r, const char *node, size_t most, struct buf *ret_gzip, size_t *ret_added)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(INFLATED_MAX);
	struct announcement a = { .repo = r };
	bool node_done = !node;
	int e;

	node_integer(json_build_root(b), "format", 1);
	a.files = node_object(json_build_root(b), "files");
	e = add_role(&a, "timestamp");
	if (e >= 0)
		e = add_role(&a, "snapshot");
	for (size_t i = 0; e >= 0 && i < r->changes.count && i < most; i++) {
		const struct change *c = &r->changes.items[i];

		if (c->order == CHANGE_PRIVATE)
			continue;
		if (!node_done && c->order >= CHANGE_TEAM) {
			e = add_node(&a, node);
			node_done = true;
		}
		if (e >= 0)
			e = add_file(&a, c->file);
	}
	if (e >= 0 && !node_done)
		e = add_node(&a, node);
	if (e >= 0)
		e = json_build_text(b, false, &text);
	if (e >= 0)
		e = gzip_compress(text.data, text.len, ret_gzip);
	*ret_added = a.count;
	return e;
}

int repo_announcement(struct repo *r, const char *node, struct buf *ret_gzip)
{
	size_t most = r->changes.count, added;

	for (;;) {
		CLEANUP(buf_done)
		struct buf gzip = BUF_INIT(2 * INFLATED_MAX);
		int e = announce(r, node, most, &gzip, &added);

		if (e < 0)
			return e;
		if (gzip.len <= ANNOUNCEMENT_MAX || most == 0) {
			if (gzip.len > ANNOUNCEMENT_MAX && node)
				return repo_announcement(r, NULL,
							 ret_gzip); /* orders too large to push are fetched */
			return buf_add(ret_gzip, gzip.data, gzip.len);
		}
		most /= 2;
	}
}
