#include "server-stub/repo/bundle.h"

#include "base/err.h"
#include "crypto/digest.h"
#include "fetch/bundle.h"
#include "json/json.h"
#include "model/release.h"
#include "model/rollout.h"
#include "os/durable.h"
#include "server-stub/repo/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { HASH_CHUNK = 256 * 1024 };

struct writing {
	struct repo *repo;
	struct repo_bundle *b;
	int fd;
};

static bool is_among(const char *const *list, size_t count, const char *text)
{
	for (size_t i = 0; i < count; i++)
		if (str_eq(list[i], text))
			return true;
	return count == 0;
}

static int add_bytes(struct writing *w, const char *name, const void *data, size_t len)
{
	int e = bundle_add(w->repo->os, w->fd, name, data, len);

	if (e < 0)
		return repo_fail(w->repo, e, "the bundle could not be written: %s", err_text(e));
	w->b->files++;
	return 0;
}

/* --- metadata --- */

static void note_expiry(struct writing *w, const struct role_file *f)
{
	if (role_is_online(f->name) && !str_eq(f->name, "inventory") &&
	    (w->b->expires == 0 || f->expires < w->b->expires))
		w->b->expires = f->expires;
}

static int add_role(struct writing *w, const struct role_file *f)
{
	CLEANUP(buf_done)
	struct buf name = BUF_INIT(1024);
	int e = role_file_path(f->name, f->version, &name);

	note_expiry(w, f);
	return e < 0 ? e : add_bytes(w, buf_str(&name), f->bytes.data, f->bytes.len);
}

/* A node may have slept through any number of rotations. The newest is among the roles. */
static int add_old_roots(struct writing *w)
{
	struct repo *r = w->repo;
	uint64_t newest = role_set_get(&r->roles, "root")->version;

	for (uint64_t version = 1; version < newest; version++) {
		CLEANUP(buf_done)
		struct buf name = BUF_INIT(1024), bytes = BUF_INIT(ROLE_FILE_MAX);
		int e = role_file_path("root", version, &name);

		if (e >= 0)
			e = file_read(r->os, r->repofd, buf_str(&name), ROLE_FILE_MAX, &bytes);
		if (e == -ENOENT)
			continue; /* from before this folder's time */
		if (e < 0)
			return repo_fail(r, e, "%s: %s", buf_str(&name), err_text(e));
		e = add_bytes(w, buf_str(&name), bytes.data, bytes.len);
		if (e < 0)
			return e;
	}
	return 0;
}

/* The same lists as what is published, under the keys that are published: only versions and dates differ. */
static int check_instead(struct repo *r, const struct role_file *published, const struct role_file *f)
{
	CLEANUP(buf_done)
	struct buf a = BUF_INIT(ROLE_FILE_MAX), b = BUF_INIT(ROLE_FILE_MAX);
	const struct role_file *delegator = role_set_get(&r->roles, role_is_top(f->name) ? "root" : "targets");
	const struct json *one = json_get(published->body, "targets"), *other = json_get(f->body, "targets");
	int e = delegator ? role_file_check(f, delegator->body) : -ERR_UNTRUSTED;

	if (e >= 0 && one && other) {
		e = json_canonical(one, &a);
		if (e >= 0)
			e = json_canonical(other, &b);
		if (e >= 0 && (a.len != b.len || memcmp(a.data, b.data, a.len) != 0))
			e = -ERR_STALE_STATE;
	}
	if (e == -ERR_STALE_STATE)
		return repo_fail(r, e, "what is published has changed meanwhile; make the bundle again");
	return e < 0 ? repo_fail(r, e, "%s for the bundle: %s", f->name, err_text(e)) : 0;
}

static int add_role_or_instead(struct writing *w, const struct role_file *f)
{
	CLEANUP(role_file_freep)
	struct role_file *instead = NULL;
	const char *bytes = json_string(json_get(w->b->instead, f->name));
	int e;

	if (!bytes)
		return add_role(w, f);
	e = role_file_parse(f->name, bytes, strlen(bytes), &instead);
	if (e < 0)
		return repo_fail(w->repo, e, "%s for the bundle: %s", f->name, err_text(e));
	e = check_instead(w->repo, f, instead);
	return e < 0 ? e : add_role(w, instead);
}

static int add_metadata(struct writing *w)
{
	struct repo *r = w->repo;
	int e = add_old_roots(w);

	for (size_t i = 0; e >= 0 && i < r->roles.count; i++)
		e = add_role_or_instead(w, r->roles.items[i]);
	return e;
}

/* --- documents --- */

/* "nodes/n1.json" and "inventory/n1.json" are for one node each. */
static bool is_for_another_node(const struct writing *w, const char *path)
{
	const char *slash = strchr(path, '/');
	char node[ID_MAX + 1];
	size_t len = slash ? strlen(slash + 1) : 0;

	if (!str_starts(path, "nodes/") && !str_starts(path, "inventory/"))
		return false;
	if (len <= 5 || len - 5 > ID_MAX)
		return true;
	(void) snprintf(node, sizeof(node), "%.*s", (int) (len - 5), slash + 1);
	return !is_among(w->b->nodes, w->b->node_count, node);
}

static bool is_manifest(const char *path)
{
	const char *name = strrchr(path, '/');

	return name && str_eq(name, "/release.json");
}

static int add_target(struct writing *w, const char *path, struct buf *ret_bytes)
{
	CLEANUP(buf_done)
	struct buf name = BUF_INIT(2048), bytes = BUF_INIT(ROLE_FILE_MAX);
	uint8_t digest[SHA256_BYTES];
	char hex[SHA256_HEX + 1];
	uint64_t length = 0;
	int e = repo_target_info(w->repo, path, &length, digest);

	if (e >= 0)
		e = repo_read_target(w->repo, path, &bytes);
	if (e < 0)
		return e;
	hex_encode(hex, digest, sizeof(digest));
	e = target_file_path(path, hex, &name);
	if (e >= 0)
		e = add_bytes(w, buf_str(&name), bytes.data, bytes.len);
	return e < 0 || !ret_bytes ? e : buf_add(ret_bytes, bytes.data, bytes.len);
}

/* All that nodes read without asking for a version: manifests come with their release. */
static int add_documents(struct writing *w)
{
	struct repo *r = w->repo;

	for (size_t i = 0; i < r->roles.count; i++) {
		const struct json *targets = json_get(r->roles.items[i]->body, "targets");

		for (size_t k = 0; k < json_count(targets); k++) {
			const char *path = json_name_at(targets, k);
			int e;

			if (is_manifest(path) || is_for_another_node(w, path))
				continue;
			e = add_target(w, path, NULL);
			if (e < 0)
				return e;
		}
	}
	return 0;
}

/* --- releases --- */

static int hash_file(struct repo *r, int fd, uint8_t ret[static SHA256_BYTES])
{
	CLEANUP(sha256_freep)
	struct sha256 *hash = NULL;
	uint8_t *chunk = malloc(HASH_CHUNK);
	uint64_t offset = 0;
	int e = chunk ? sha256_new(&hash) : -ENOMEM;

	while (e >= 0) {
		ssize_t n = r->os->pread(r->os, fd, chunk, HASH_CHUNK, offset);

		if (n <= 0) {
			e = (int) n;
			break;
		}
		e = sha256_add(hash, chunk, (size_t) n);
		offset += (uint64_t) n;
	}
	free(chunk);
	return e < 0 ? e : sha256_end(hash, ret);
}

/* What a node would refuse is not carried to it. */
static int check_artifact(struct repo *r, int fd, const struct release_artifact *a)
{
	uint8_t digest[SHA256_BYTES];
	struct stat st;
	int e = r->os->fstat(r->os, fd, &st);

	if (e < 0)
		return e;
	if ((uint64_t) st.st_size != a->length)
		return -ERR_LENGTH;
	e = hash_file(r, fd, digest);
	return e < 0 ? e : memcmp(digest, a->sha256, sizeof(digest)) ? -ERR_DIGEST : 0;
}

static int add_artifact(struct writing *w, const struct release_artifact *a)
{
	CLEANUP(buf_done)
	struct buf name = BUF_INIT(2048);
	struct repo *r = w->repo;
	char hex[SHA256_HEX + 1];
	int fd, e;

	hex_encode(hex, a->sha256, SHA256_BYTES);
	e = target_file_path(a->path, hex, &name);
	if (e < 0)
		return e;
	fd = r->os->openat(r->os, r->repofd, buf_str(&name), O_RDONLY, 0);
	if (fd < 0)
		return repo_fail(r, fd, "%s: %s", buf_str(&name), err_text(fd));
	e = check_artifact(r, fd, a);
	if (e >= 0)
		e = bundle_add_file(r->os, w->fd, buf_str(&name), fd, a->length);
	(void) r->os->close(r->os, fd); /* only read */
	if (e < 0)
		return repo_fail(r, e, "%s: %s", buf_str(&name), err_text(e));
	w->b->files++;
	return 0;
}

static bool has_release(const struct repo_bundle *b, const char *component, const char *version)
{
	for (size_t i = 0; i < b->release_count; i++)
		if (str_eq(b->releases[i].component, component) && str_eq(b->releases[i].version, version))
			return true;
	return false;
}

static int add_release(struct writing *w, const char *component, const char *version)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(ROLE_FILE_MAX);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct repo_bundle *b = w->b;
	struct release release = { 0 };
	char path[ID_MAX + VERSION_MAX + 32];
	int e;

	if (has_release(b, component, version))
		return 0;
	if (b->release_count == BUNDLE_RELEASES_MAX)
		return repo_fail(w->repo, -ERR_TOO_LARGE, "more than %d releases in one bundle",
				 BUNDLE_RELEASES_MAX);
	(void) snprintf(path, sizeof(path), "%s/%s/release.json", component, version);
	e = add_target(w, path, &bytes);
	if (e >= 0)
		e = json_parse(bytes.data, bytes.len, &json_limits_default, &doc);
	if (e >= 0)
		e = release_parse(doc, &release, NULL);
	for (size_t i = 0; e >= 0 && i < release.artifact_count; i++)
		e = add_artifact(w, &release.artifacts[i]);
	release_done(&release);
	if (e < 0)
		return repo_error(w->repo)[0] ? e : repo_fail(w->repo, e, "%s: %s", path, err_text(e));
	(void) snprintf(b->releases[b->release_count].component, ID_MAX + 1, "%s", component);
	(void) snprintf(b->releases[b->release_count].version, VERSION_MAX + 1, "%s", version);
	b->release_count++;
	return 0;
}

static int add_wanted(struct writing *w, const struct release_ref *ref)
{
	if (!ref->component || !ref->version || !is_among(w->b->components, w->b->component_count, ref->component))
		return 0;
	return add_release(w, ref->component, ref->version);
}

/* What the rollouts in force open, now or in a later stage. */
static int add_rolled_out(struct writing *w)
{
	const struct role_file *rollouts = role_set_get(&w->repo->roles, "rollouts");
	const struct json *targets = rollouts ? json_get(rollouts->body, "targets") : NULL;
	int e = 0;

	for (size_t i = 0; e >= 0 && i < json_count(targets); i++) {
		CLEANUP(buf_done)
		struct buf bytes = BUF_INIT(ROLE_FILE_MAX);
		CLEANUP(json_freep)
		struct json *doc = NULL;
		struct rollout rollout = { .seq = 0 };
		const char *path = json_name_at(targets, i);

		if (str_eq(path, "rollouts/index.json"))
			continue;
		e = repo_read_target(w->repo, path, &bytes);
		if (e >= 0)
			e = json_parse(bytes.data, bytes.len, &json_limits_default, &doc);
		if (e >= 0)
			e = rollout_parse(doc, &rollout, NULL);
		if (e < 0)
			return repo_fail(w->repo, e, "%s: %s", path, err_text(e));
		if (rollout.state == ROLLOUT_RUNNING || rollout.state == ROLLOUT_PAUSED ||
		    rollout.state == ROLLOUT_DONE) {
			e = add_wanted(w, &rollout.release);
			for (size_t k = 0; e >= 0 && k < rollout.with_count; k++)
				e = add_wanted(w, &rollout.with[k]);
		}
		rollout_done(&rollout);
	}
	return e;
}

static int add_releases(struct writing *w)
{
	const struct repo_bundle *b = w->b;
	int e = 0;

	if (b->version_count == 0)
		return add_rolled_out(w);
	for (size_t i = 0; e >= 0 && i < b->component_count; i++)
		for (size_t k = 0; e >= 0 && k < b->version_count; k++)
			e = add_release(w, b->components[i], b->versions[k]);
	return e;
}

int repo_write_bundle(struct repo *r, struct repo_bundle *b, int fd)
{
	struct writing w = { .repo = r, .b = b, .fd = fd };
	struct stat st;
	int e;

	r->error[0] = '\0';
	if (!role_set_get(&r->roles, "root") || !role_set_get(&r->roles, "timestamp") || r->unfinished)
		return repo_fail(r, -ERR_UNTRUSTED, "nothing whole is published yet");
	e = add_metadata(&w);
	if (e >= 0)
		e = add_documents(&w);
	if (e >= 0)
		e = add_releases(&w);
	if (e < 0)
		return e;
	e = bundle_end(r->os, fd);
	if (e >= 0)
		e = r->os->fsync(r->os, fd); /* a stick is pulled when the command says that it is done */
	if (e >= 0)
		e = r->os->fstat(r->os, fd, &st);
	if (e < 0)
		return repo_fail(r, e, "the bundle could not be written: %s", err_text(e));
	b->bytes = (uint64_t) st.st_size;
	return 0;
}
