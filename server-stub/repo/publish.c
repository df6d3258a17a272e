#include "base/err.h"
#include "base/log.h"
#include "base/timestamp.h"
#include "base/version.h"
#include "crypto/digest.h"
#include "json/build.h"
#include "json/json.h"
#include "model/release.h"
#include "os/durable.h"
#include "server-stub/repo/folder.h"
#include "server-stub/signer/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
	TIMESTAMP_RENEW_S = 6 * 3600,
	COLLECT_EVERY_S = 86400,
	/* A version far above the last one would leave the role without versions: no honest key does that. */
	VERSION_JUMP_MAX = 1000000,
	CHUNK = 64 * 1024,
};

/* A file to come from the uploads. */
struct incoming {
	char sha256[SHA256_HEX + 1];
	char *file; /* repository file name */
};

/* One publication: what is new, checked before anything is signed, signed before anything is written. */
struct publication {
	struct repo *repo;
	struct role_set fresh;
	struct role_set view; /* what is published once it is done; items borrowed from `fresh` and the repo */
	struct incoming *incoming;
	size_t incoming_count;
	struct change_list changes;
	uint64_t life_s; /* of what is signed; 0: the usual one */
	/* Documents of online roles, borrowed. */
	const struct repo_document *documents;
	size_t document_count;
};

static void publication_done(struct publication *p)
{
	role_set_done(&p->fresh);
	free(p->view.items);
	for (size_t i = 0; i < p->incoming_count; i++)
		free(p->incoming[i].file);
	free(p->incoming);
	change_list_done(&p->changes);
	*p = (struct publication){ 0 };
}

/* What would be published: the repo's roles with the fresh ones laid over. */
static int publication_view(struct publication *p)
{
	const struct role_set *have = &p->repo->roles;
	struct role_file **items = calloc(have->count + p->fresh.count + 1, sizeof(struct role_file *));
	size_t count = 0;

	if (!items)
		return -ENOMEM;
	for (size_t i = 0; i < have->count; i++)
		if (!role_set_get(&p->fresh, have->items[i]->name))
			items[count++] = have->items[i];
	for (size_t i = 0; i < p->fresh.count; i++)
		items[count++] = p->fresh.items[i];
	free(p->view.items);
	p->view = (struct role_set){ items, count };
	return 0;
}

static int publication_take(struct publication *p, const char *name, const void *bytes, size_t len)
{
	CLEANUP(role_file_freep)
	struct role_file *f = NULL;
	CLEANUP(buf_done)
	struct buf file = BUF_INIT(512);
	int e = role_file_parse(name, bytes, len, &f);

	if (e < 0)
		return repo_fail(p->repo, e, "%s is no metadata of that role: %s", name, err_text(e));
	e = role_file_path(name, f->version, &file);
	if (e >= 0 && !str_eq(name, "timestamp") && !str_eq(name, "snapshot"))
		e = change_list_add(&p->changes, buf_str(&file), change_order_of_role(name));
	if (e >= 0)
		e = role_set_put(&p->fresh, f);
	if (e < 0)
		return e;
	f = NULL;
	return publication_view(p);
}

static int no_signer(struct repo *r)
{
	return r->signer ? 0 : repo_fail(r, -EROFS, "this repository was opened for reading only");
}

/* --- signing --- */

static int sign_body(struct publication *p, const char *role, struct json_build *b)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ROLE_FILE_MAX), metadata = BUF_INIT(ROLE_FILE_MAX);
	CLEANUP(json_freep)
	struct json *body = NULL;
	struct repo *r = p->repo;
	const struct role_file *delegator;
	int e;

	e = json_build_text(b, false, &text);
	if (e >= 0)
		e = json_parse(text.data, text.len, &json_limits_default, &body);
	if (e < 0)
		return repo_fail(r, e, "the body of %s cannot be written: %s", role, err_text(e));
	e = signer_sign_role_for(r->signer, role, body, p->life_s, &metadata);
	if (e < 0)
		return repo_fail(r, e, "%s", signer_error(r->signer));
	e = publication_take(p, role, metadata.data, metadata.len);
	if (e < 0)
		return e;
	delegator = role_set_get(&p->view, role_is_top(role) ? "root" : "targets");
	e = delegator ? role_file_check(role_set_get(&p->fresh, role), delegator->body) : -ERR_UNTRUSTED;
	if (e < 0)
		return repo_fail(r, e, "the signer's key for %s is not the one %s names: %s", role,
				 role_is_top(role) ? "root" : "targets", err_text(e));
	return 0;
}

static void write_meta(struct json_node *meta, const struct role_file *f)
{
	char file[ID_MAX + 8];
	struct json_node *o;

	(void) snprintf(file, sizeof(file), "%s.json", f->name); /* a role name is at most ID_MAX */
	o = node_object(meta, file);
	node_integer(o, "version", (int64_t) f->version);
	node_integer(o, "length", (int64_t) f->bytes.len);
	node_string(node_object(o, "hashes"), "sha256", f->sha256);
}

static int sign_snapshot_and_timestamp(struct publication *p)
{
	CLEANUP(json_build_freep)
	struct json_build *snapshot = json_build_new();
	CLEANUP(json_build_freep)
	struct json_build *timestamp = json_build_new();
	struct json_node *meta = node_object(json_build_root(snapshot), "meta");
	int e;

	for (size_t i = 0; i < p->view.count; i++)
		if (!role_is_top(p->view.items[i]->name) || str_eq(p->view.items[i]->name, "targets"))
			write_meta(meta, p->view.items[i]);
	e = sign_body(p, "snapshot", snapshot);
	if (e < 0)
		return e;
	write_meta(node_object(json_build_root(timestamp), "meta"), role_set_get(&p->fresh, "snapshot"));
	return sign_body(p, "timestamp", timestamp);
}

/* --- writing --- */

/* Make the folder of a repository file, each part durable. */
static int make_folder(struct repo *r, const char *file)
{
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(2048);
	struct stat st;
	const char *slash = strrchr(file, '/');
	int e = slash ? buf_add(&path, file, (size_t) (slash - file)) : 0;

	if (e < 0 || !slash || r->os->fstatat(r->os, r->repofd, buf_str(&path), &st) == 0)
		return e;
	for (const char *part = strchr(file, '/'); e >= 0 && part; part = strchr(part + 1, '/')) {
		buf_clear(&path);
		e = buf_add(&path, file, (size_t) (part - file));
		if (e >= 0)
			e = durable_mkdir(r->os, r->repofd, buf_str(&path), 0755);
	}
	return e;
}

static int write_file(struct repo *r, const char *file, const void *data, size_t len)
{
	int e = make_folder(r, file);

	if (e >= 0)
		e = durable_write_file(r->os, r->repofd, file, data, len, 0644);
	return e < 0 ? repo_fail(r, e, "%s cannot be written: %s", file, err_text(e)) : 0;
}

static int copy_upload(struct repo *r, int from, const char *file)
{
	CLEANUP(buf_done)
	struct buf pending = BUF_INIT(2048);
	uint64_t offset = 0, random;
	int fd, e;

	e = r->os->random(r->os, &random, sizeof(random));
	if (e >= 0)
		e = buf_addf(&pending, "%s.%016llx.pending", file, (unsigned long long) random);
	if (e < 0)
		return e;
	fd = r->os->openat(r->os, r->repofd, buf_str(&pending), O_WRONLY | O_CREAT | O_EXCL, 0644);
	if (fd < 0)
		return fd;
	for (;;) {
		uint8_t chunk[CHUNK];
		ssize_t n = r->os->pread(r->os, from, chunk, sizeof(chunk), offset);

		e = n < 0 ? (int) n : file_write_all(r->os, fd, chunk, (size_t) n);
		if (e < 0 || n == 0)
			break;
		offset += (uint64_t) n;
	}
	if (e >= 0)
		e = r->os->fsync(r->os, fd);
	(void) r->os->close(r->os, fd); /* synced above */
	if (e >= 0)
		e = r->os->renameat(r->os, r->repofd, buf_str(&pending), r->repofd, file);
	if (e < 0)
		(void) r->os->unlinkat(r->os, r->repofd, buf_str(&pending), 0); /* collected later if it stays */
	return e;
}

static int sync_folder_of(struct repo *r, const char *file)
{
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(2048);
	int e = buf_add(&path, file,
			(size_t) (strrchr(file, '/') - file)); /* every repository file lies in a folder */

	return e < 0 ? e : dir_sync(r->os, r->repofd, buf_str(&path));
}

/* Put an upload into its place: linked where both are on one file system, else copied. */
static int place_upload(struct repo *r, const struct incoming *in)
{
	CLEANUP(buf_done)
	struct buf upload = BUF_INIT(256);
	int e, fd = -1;

	e = buf_addf(&upload, "serve/uploads/%s", in->sha256);
	if (e >= 0)
		e = make_folder(r, in->file);
	if (e >= 0) {
		fd = r->os->openat(r->os, r->dirfd, buf_str(&upload), O_RDONLY, 0);
		e = fd < 0 ? fd : 0;
	}
	if (e >= 0)
		e = r->os->fsync(r->os, fd);
	if (e >= 0)
		e = r->os->fchmod(r->os, fd, 0644);
	if (e >= 0) {
		e = r->os->linkat(r->os, r->dirfd, buf_str(&upload), r->repofd, in->file);
		if (e == -EEXIST)
			e = 0; /* it was judged by its content already */
		else if (e < 0)
			e = copy_upload(r, fd, in->file);
	}
	if (fd >= 0)
		(void) r->os->close(r->os, fd); /* opened for reading */
	if (e >= 0)
		e = sync_folder_of(r, in->file);
	return e < 0 ? repo_fail(r, e, "%s cannot be put in place: %s", in->file, err_text(e)) : 0;
}

static int write_role(struct repo *r, const struct role_file *f)
{
	CLEANUP(buf_done)
	struct buf file = BUF_INIT(512);
	int e = role_file_path(f->name, f->version, &file);

	return e < 0 ? e : write_file(r, buf_str(&file), f->bytes.data, f->bytes.len);
}

/* Documents and uploads, roles, root, and the timestamp last: until its rename nothing has changed for a reader. */
static int write_everything(struct publication *p)
{
	struct repo *r = p->repo;
	int e = 0;

	for (size_t i = 0; e >= 0 && i < p->incoming_count; i++)
		e = place_upload(r, &p->incoming[i]);
	for (size_t i = 0; e >= 0 && i < p->document_count; i++) {
		CLEANUP(buf_done)
		struct buf file = BUF_INIT(2048);
		char sha256[SHA256_HEX + 1];

		e = sha256_hex(p->documents[i].data, p->documents[i].len, sha256);
		if (e >= 0)
			e = target_file_path(p->documents[i].path, sha256, &file);
		if (e >= 0)
			e = write_file(r, buf_str(&file), p->documents[i].data, p->documents[i].len);
	}
	for (size_t i = 0; e >= 0 && i < p->fresh.count; i++)
		if (!str_eq(p->fresh.items[i]->name, "root") && !str_eq(p->fresh.items[i]->name, "timestamp"))
			e = write_role(r, p->fresh.items[i]);
	if (e >= 0 && role_set_get(&p->fresh, "root"))
		e = write_role(r, role_set_get(&p->fresh, "root"));
	if (e >= 0)
		e = write_role(r, role_set_get(&p->fresh, "timestamp"));
	return e;
}

static int finish(struct publication *p)
{
	struct repo *r = p->repo;
	const struct role_file *timestamp;
	int e;

	e = sign_snapshot_and_timestamp(p);
	if (e >= 0)
		e = write_everything(p);
	if (e < 0)
		return e;
	for (size_t i = 0; i < p->incoming_count; i++) {
		CLEANUP(buf_done)
		struct buf upload = BUF_INIT(256);

		/* What stays behind costs space only, and is removed with the old uploads. */
		if (buf_addf(&upload, "serve/uploads/%s", p->incoming[i].sha256) >= 0)
			(void) r->os->unlinkat(r->os, r->dirfd, buf_str(&upload), 0);
	}
	while (p->fresh.count > 0) {
		e = role_set_put(&r->roles, p->fresh.items[p->fresh.count - 1]);
		if (e < 0)
			break;
		p->fresh.count--;
	}
	if (e < 0) /* published, but not in memory: read it back next time */
		role_set_done(&r->roles);
	change_list_done(&r->changes);
	r->changes = p->changes;
	p->changes = (struct change_list){ 0 };
	r->unfinished = false;
	timestamp = role_set_get(&r->roles, "timestamp");
	log_notice("published", "timestamp=%llu files=%zu",
		   (unsigned long long) (timestamp ? timestamp->version : 0), r->changes.count);
	return e;
}

/* Take the lock and look at what is there now. */
static int begin(struct publication *p, struct repo *r)
{
	int e;

	*p = (struct publication){ .repo = r };
	e = no_signer(r);
	if (e < 0)
		return e;
	e = repo_lock(r);
	if (e < 0)
		return e;
	e = repo_follow(r, NULL);
	if (e >= 0)
		e = publication_view(p);
	if (e < 0)
		repo_unlock(r);
	return e;
}

static int end(struct publication *p, int e)
{
	repo_unlock(p->repo);
	publication_done(p);
	return e;
}

/* --- online roles --- */

static bool is_removed(const char *path, const char *const *removed, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (str_eq(path, removed[i]))
			return true;
	return false;
}

/* Sign the role with what it lists now, less `removed`, plus `set`. */
static int sign_listing(struct publication *p, const char *role, const struct repo_document *set, size_t set_count,
			const char *const *removed, size_t removed_count)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *targets = node_object(json_build_root(b), "targets");
	const struct role_file *have = role_set_get(&p->repo->roles, role);
	const struct json *listed = have ? json_get(have->body, "targets") : NULL;

	for (size_t i = 0; i < json_count(listed); i++)
		if (!is_removed(json_name_at(listed, i), removed, removed_count))
			node_copy(targets, json_name_at(listed, i), json_at(listed, i));
	for (size_t i = 0; i < set_count; i++) {
		CLEANUP(buf_done)
		struct buf file = BUF_INIT(2048);
		struct json_node *o;
		char sha256[SHA256_HEX + 1];
		int e;

		if (!guard_path(set[i].path))
			return repo_fail(p->repo, -ERR_NAME, "a document's path is not allowed");
		e = sha256_hex(set[i].data, set[i].len, sha256);
		if (e >= 0)
			e = target_file_path(set[i].path, sha256, &file);
		if (e >= 0)
			e = change_list_add(&p->changes, buf_str(&file), change_order_of_target(set[i].path));
		if (e < 0)
			return e;
		o = node_object(targets, set[i].path);
		node_integer(o, "length", (int64_t) set[i].len);
		node_string(node_object(o, "hashes"), "sha256", sha256);
	}
	return sign_body(p, role, b);
}

int repo_update_online(struct repo *r, const char *role, const struct repo_document *set, size_t set_count,
		       const char *const *removed, size_t removed_count)
{
	struct publication p;
	int e;

	if (!role_is_online(role) || role_is_top(role))
		return repo_fail(r, -ERR_REFUSED,
				 "%s is no online role with documents (rollouts, support, inventory)", role);
	e = begin(&p, r);
	if (e < 0)
		return e;
	p.documents = set;
	p.document_count = set_count;
	e = sign_listing(&p, role, set, set_count, removed, removed_count);
	if (e >= 0)
		e = finish(&p);
	return end(&p, e);
}

/* Roles whose keys the signer holds, of those that lists are signed for. */
static int signer_holds(struct repo *r, const char *role, bool *ret)
{
	CLEANUP(json_freep)
	struct json *status = NULL;
	int e = signer_status(r->signer, &status);

	if (e < 0)
		return repo_fail(r, e, "%s", signer_error(r->signer));
	*ret = json_get(json_get(status, "roles"), role) != NULL;
	return 0;
}

static bool is_due(const struct role_file *f, int64_t now)
{
	/* A day before half of its life, when `repo status` begins to warn. */
	return f && f->expires - now < 14 * 86400 / 2 + 86400;
}

static const char *const listing_roles[] = { "rollouts", "support", "inventory" };

static int sign_due(struct publication *p, bool all, int64_t now, unsigned *ret_signed)
{
	for (size_t i = 0; i < ARRAY_LEN(listing_roles); i++) {
		const struct role_file *f = role_set_get(&p->repo->roles, listing_roles[i]);
		bool holds = false;
		int e;

		if (!f || (!all && !is_due(f, now)))
			continue;
		e = signer_holds(p->repo, listing_roles[i], &holds);
		if (e >= 0 && holds) {
			e = sign_listing(p, listing_roles[i], NULL, 0, NULL, 0);
			(*ret_signed)++;
		}
		if (e < 0)
			return e;
	}
	return 0;
}

static int renew(struct repo *r, bool all, int64_t now)
{
	struct publication p;
	unsigned count = 0;
	int e = begin(&p, r);

	if (e < 0)
		return e;
	if (!role_set_get(&r->roles, "targets")) {
		e = repo_fail(r, -ERR_UNTRUSTED, "nothing is published here yet");
		return end(&p, e);
	}
	e = sign_due(&p, all, now, &count);
	if (e >= 0)
		e = finish(&p);
	return end(&p, e);
}

int repo_renew(struct repo *r)
{
	return renew(r, true, r->os->clock_real(r->os));
}

static int sign_bundle(struct repo *r, uint64_t life_s,
		       int (*each)(void *user, const char *role, const void *bytes, size_t len), void *user)
{
	struct publication p;
	unsigned count = 0;
	int e = begin(&p, r);

	if (e < 0)
		return e;
	p.life_s = life_s;
	e = role_set_get(&r->roles, "targets") ? sign_due(&p, true, r->os->clock_real(r->os), &count)
					       : repo_fail(r, -ERR_UNTRUSTED, "nothing is published here yet");
	if (e >= 0)
		e = publication_view(&p);
	if (e >= 0)
		e = sign_snapshot_and_timestamp(&p);
	for (size_t i = 0; e >= 0 && i < p.fresh.count; i++)
		e = each(user, p.fresh.items[i]->name, p.fresh.items[i]->bytes.data, p.fresh.items[i]->bytes.len);
	return end(&p, e); /* it is published nowhere */
}

int repo_sign_bundle(struct repo *r, uint64_t life_s,
		     int (*each)(void *user, const char *role, const void *bytes, size_t len), void *user)
{
	int e = sign_bundle(r, life_s, each, user);

	/* Higher versions for everybody else, so that who took the bundle is not ahead of them. */
	return e < 0 ? e : repo_renew(r);
}

int repo_tick(struct repo *r, int64_t now, bool *ret_published)
{
	const struct role_file *timestamp;
	bool due, followed = false;
	int e;

	e = no_signer(r);
	if (e >= 0)
		e = repo_follow(r, &followed);
	if (e < 0)
		return e;
	*ret_published = followed;
	timestamp = role_set_get(&r->roles, "timestamp");
	if (!timestamp && !role_set_get(&r->roles, "targets"))
		return 0; /* before the first publication */
	due = r->unfinished || is_due(role_set_get(&r->roles, "snapshot"), now) ||
	      timestamp->expires - now <= 72 * 3600 - TIMESTAMP_RENEW_S;
	for (size_t i = 0; !due && i < ARRAY_LEN(listing_roles); i++)
		if (is_due(role_set_get(&r->roles, listing_roles[i]), now)) {
			e = signer_holds(r, listing_roles[i], &due);
			if (e < 0)
				return e;
		}
	if (now - r->collected >= COLLECT_EVERY_S) {
		r->collected = now;
		e = repo_collect(r, now);
		if (e < 0)
			log_warning("repo-collect", "superseded files stay: %s", repo_error(r));
	}
	if (!due)
		return 0;
	e = renew(r, false, now);
	if (e >= 0)
		*ret_published = true;
	return e;
}

/* --- roles signed elsewhere --- */

/* Length and digest of a file; -ENOENT. */
static int measure(struct repo *r, int dirfd, const char *name, uint64_t *ret_length,
		   char ret_sha256[static SHA256_HEX + 1])
{
	CLEANUP(sha256_freep)
	struct sha256 *h = NULL;
	uint8_t digest[SHA256_BYTES];
	uint64_t offset = 0;
	struct stat st;
	int fd, e;

	fd = r->os->openat(r->os, dirfd, name, O_RDONLY | O_NONBLOCK, 0);
	if (fd < 0)
		return fd;
	e = r->os->fstat(r->os, fd, &st);
	if (e >= 0 && !S_ISREG(st.st_mode))
		e = -EINVAL;
	if (e >= 0)
		e = sha256_new(&h);
	while (e >= 0) {
		uint8_t chunk[CHUNK];
		ssize_t n = r->os->pread(r->os, fd, chunk, sizeof(chunk), offset);

		e = n < 0 ? (int) n : sha256_add(h, chunk, (size_t) n);
		if (n <= 0)
			break;
		offset += (uint64_t) n;
	}
	(void) r->os->close(r->os, fd); /* opened for reading */
	if (e >= 0)
		e = sha256_end(h, digest);
	if (e < 0)
		return e;
	hex_encode(ret_sha256, digest, sizeof(digest));
	*ret_length = offset;
	return 0;
}

/* The file a path and hash name: published already, or waiting in the uploads and then taken along. */
static int need_file(struct publication *p, const char *path, const char *sha256, uint64_t length)
{
	CLEANUP(buf_done)
	struct buf file = BUF_INIT(2048), upload = BUF_INIT(256);
	struct repo *r = p->repo;
	struct incoming *incoming;
	char have[SHA256_HEX + 1];
	uint64_t have_length;
	int e;

	e = target_file_path(path, sha256, &file);
	if (e >= 0)
		e = buf_addf(&upload, "serve/uploads/%s", sha256);
	if (e < 0)
		return e;
	e = measure(r, r->repofd, buf_str(&file), &have_length, have);
	if (e >= 0 && have_length == length && str_eq(have, sha256))
		return 0;
	if (e < 0 && e != -ENOENT)
		return repo_fail(r, e, "%s: %s", buf_str(&file), err_text(e));
	if (e >= 0) { /* damaged where it lies: replaced by a good upload */
		log_warning("repo-damaged", "file=%s", buf_str(&file));
		e = r->os->unlinkat(r->os, r->repofd, buf_str(&file), 0);
		if (e < 0)
			return repo_fail(r, e, "%s is damaged and cannot be replaced: %s", buf_str(&file),
					 err_text(e));
	}
	e = measure(r, r->dirfd, buf_str(&upload), &have_length, have);
	if (e == -ENOENT)
		return repo_fail(r, e, "%s (sha256 %s) was not uploaded", path, sha256);
	if (e >= 0 && have_length != length)
		e = -ERR_LENGTH;
	if (e >= 0 && !str_eq(have, sha256))
		e = -ERR_DIGEST;
	if (e < 0)
		return repo_fail(r, e, "the upload for %s: %s", path, err_text(e));
	incoming = realloc(p->incoming, (p->incoming_count + 1) * sizeof(*incoming));
	if (!incoming)
		return -ENOMEM;
	p->incoming = incoming;
	(void) snprintf(incoming[p->incoming_count].sha256, sizeof(incoming->sha256), "%s", sha256);
	incoming[p->incoming_count].file = buf_take(&file);
	p->incoming_count++;
	return 0;
}

/* The bytes of a document that is to be published, from its place or the uploads. */
static int read_incoming(struct repo *r, const char *path, const char *sha256, size_t max, struct buf *ret)
{
	CLEANUP(buf_done)
	struct buf file = BUF_INIT(2048), upload = BUF_INIT(256);
	int e = target_file_path(path, sha256, &file);

	if (e >= 0)
		e = buf_addf(&upload, "serve/uploads/%s", sha256);
	if (e >= 0)
		e = file_read(r->os, r->repofd, buf_str(&file), max, ret);
	if (e == -ENOENT)
		e = file_read(r->os, r->dirfd, buf_str(&upload), max, ret);
	return e < 0 ? repo_fail(r, e, "%s: %s", path, err_text(e)) : 0;
}

/* Was the path ever published with another hash? Its file says so even if no role lists it any more. */
static int check_never_changed(struct publication *p, const char *path, const char *sha256)
{
	CLEANUP(name_list_done)
	struct name_list names = { 0 };
	CLEANUP(buf_done)
	struct buf folder = BUF_INIT(2048);
	const char *slash = strrchr(path, '/');
	struct repo *r = p->repo;
	int e = buf_addf(&folder, "targets/%.*s", (int) (slash - path), path);

	if (e >= 0)
		e = dir_list(r->os, r->repofd, buf_str(&folder), &names);
	if (e == -ENOENT)
		return 0;
	for (size_t i = 0; e >= 0 && i < names.count; i++) {
		const char *dot = strchr(names.names[i], '.');

		if (dot == names.names[i] + SHA256_HEX && str_eq(dot + 1, slash + 1) &&
		    strncmp(names.names[i], sha256, SHA256_HEX) != 0)
			return repo_fail(r, -EEXIST,
					 "%s is published already with other content; a published version never "
					 "changes: take a new version number",
					 path);
	}
	return e;
}

static int check_release(struct publication *p, const char *path, const char *sha256)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(RELEASE_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct release release = { 0 };
	struct repo *r = p->repo;
	char *field = NULL;
	int e;

	e = check_never_changed(p, path, sha256);
	if (e >= 0)
		e = read_incoming(r, path, sha256, RELEASE_MAX_BYTES, &text);
	if (e < 0)
		return e;
	e = json_parse(text.data, text.len, &json_limits_default, &doc);
	if (e >= 0)
		e = release_parse(doc, &release, &field);
	if (e < 0) {
		e = repo_fail(r, e, "%s: %s%s%s", path, err_text(e), field ? ": " : "", field ? field : "");
		free(field);
		return e;
	}
	e = release_agrees(&release, path);
	if (e < 0)
		e = repo_fail(r, e, "%s: %s", path, err_text(e));
	for (size_t i = 0; e >= 0 && i < release.artifact_count; i++) {
		char digest[SHA256_HEX + 1];

		hex_encode(digest, release.artifacts[i].sha256, SHA256_BYTES);
		e = need_file(p, release.artifacts[i].path, digest, release.artifacts[i].length);
	}
	release_done(&release);
	return e;
}

static int check_policy(struct publication *p, const char *path, const char *sha256)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(RELEASE_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct policy policy = { 0 };
	char *field = NULL;
	int e = read_incoming(p->repo, path, sha256, RELEASE_MAX_BYTES, &text);

	if (e < 0)
		return e;
	e = json_parse(text.data, text.len, &json_limits_default, &doc);
	if (e >= 0)
		e = policy_parse(doc, &policy, &field);
	if (e < 0)
		e = repo_fail(p->repo, e, "%s: %s%s%s", path, err_text(e), field ? ": " : "", field ? field : "");
	else
		policy_done(&policy);
	free(field);
	return e;
}

/* "<component>/policy.json" or "<component>/<version>/release.json", and nothing else, stands in a team's role. */
static int check_team_target(struct publication *p, const char *path, const char *sha256)
{
	const char *first = strchr(path, '/'), *second = first ? strchr(first + 1, '/') : NULL;
	char component[ID_MAX + 1], version[VERSION_MAX + 1];

	if (first && (size_t) (first - path) <= ID_MAX) {
		memcpy(component, path, (size_t) (first - path));
		component[first - path] = '\0';
		if (guard_id(component) && str_eq(first, "/policy.json"))
			return check_policy(p, path, sha256);
		if (guard_id(component) && second && str_eq(second, "/release.json") &&
		    (size_t) (second - first - 1) <= VERSION_MAX) {
			memcpy(version, first + 1, (size_t) (second - first - 1));
			version[second - first - 1] = '\0';
			if (version_is_valid(version))
				return check_release(p, path, sha256);
		}
	}
	return repo_fail(p->repo, -ERR_NAME,
			 "%s is neither <component>/policy.json nor <component>/<version>/release.json", path);
}

static int check_targets(struct publication *p, const struct role_file *f)
{
	const struct role_file *before = role_set_get(&p->repo->roles, f->name);
	const struct json *targets = json_get(f->body, "targets");
	const struct json *old = before ? json_get(before->body, "targets") : NULL;
	int e = 0;

	if (!json_is(targets, JSON_OBJECT))
		return repo_fail(p->repo, -ERR_FIELD_MISSING, "%s lists no targets", f->name);
	for (size_t i = 0; e >= 0 && i < json_count(targets); i++) {
		CLEANUP(buf_done)
		struct buf file = BUF_INIT(2048);
		const char *path = json_name_at(targets, i);
		const char *sha256 = json_string(json_get(json_get(json_at(targets, i), "hashes"), "sha256"));
		const char *was = json_string(json_get(json_get(json_get(old, path), "hashes"), "sha256"));
		uint8_t digest[SHA256_BYTES];
		uint64_t length;

		if (!guard_path(path) || !sha256 || hex_decode(digest, sizeof(digest), sha256, false) < 0 ||
		    json_need_u64(json_at(targets, i), "length", 0, UINT64_MAX >> 11, &length) < 0)
			return repo_fail(p->repo, -ERR_FIELD_VALUE,
					 "%s: an entry needs a path, a length and a SHA-256", f->name);
		if (str_eq(sha256, was))
			continue;
		e = need_file(p, path, sha256, length);
		if (e >= 0 && str_starts(f->name, "team-"))
			e = check_team_target(p, path, sha256);
		if (e >= 0)
			e = target_file_path(path, sha256, &file);
		if (e >= 0)
			e = change_list_add(&p->changes, buf_str(&file), change_order_of_target(path));
	}
	return e;
}

static int check_version(struct publication *p, const struct role_file *f)
{
	const struct role_file *before = role_set_get(&p->repo->roles, f->name);
	uint64_t last = before ? before->version : 0;
	int64_t now = p->repo->os->clock_real(p->repo->os);
	uint64_t most = last > (uint64_t) now ? last : (uint64_t) now;

	if (f->version <= last)
		return repo_fail(p->repo, -ERR_ROLLBACK, "%s has version %llu, but %llu is published", f->name,
				 (unsigned long long) f->version, (unsigned long long) last);
	if (f->version > most + VERSION_JUMP_MAX)
		return repo_fail(p->repo, -ERR_VERSION, "%s jumps to version %llu: no role needs that", f->name,
				 (unsigned long long) f->version);
	if (f->expires <= now)
		return repo_fail(p->repo, -ERR_EXPIRED, "%s has expired already", f->name);
	return 0;
}

static int check_root(struct publication *p, const struct role_file *f)
{
	const struct role_file *before = role_set_get(&p->repo->roles, "root");
	struct repo *r = p->repo;
	int e;

	if (f->version != (before ? before->version + 1 : 1))
		return repo_fail(r, -ERR_VERSION, "root has version %llu; the next one is %llu",
				 (unsigned long long) f->version,
				 (unsigned long long) (before ? before->version + 1 : 1));
	if (f->expires <= r->os->clock_real(r->os))
		return repo_fail(r, -ERR_EXPIRED, "root has expired already");
	if (!json_bool(json_get(f->body, "consistent_snapshot"), false))
		return repo_fail(r, -ERR_FIELD_VALUE, "root must switch consistent_snapshot on");
	e = role_file_check(f, f->body);
	if (e < 0)
		return repo_fail(r, e, "root is not signed by its own keys: %s", err_text(e));
	e = before ? role_file_check(f, before->body) : 0;
	return e < 0 ? repo_fail(r, e, "root is not signed by the keys of root %llu: %s",
				 (unsigned long long) before->version, err_text(e))
		     : 0;
}

static int check_fresh(struct publication *p)
{
	struct repo *r = p->repo;
	int e = 0;

	if (!role_set_get(&p->view, "root") || !role_set_get(&p->view, "targets"))
		return repo_fail(r, -ERR_UNTRUSTED, "the first publication needs root and targets together");
	for (size_t i = 0; e >= 0 && i < p->fresh.count; i++) {
		const struct role_file *f = p->fresh.items[i];
		const bool top = role_is_top(f->name);

		if (str_eq(f->name, "root")) {
			e = check_root(p, f);
			continue;
		}
		if (role_is_online(f->name) && !str_eq(f->name, "inventory"))
			return repo_fail(r, -ERR_REFUSED, "role %s is signed by the signer only", f->name);
		e = check_version(p, f);
		if (e >= 0)
			e = role_file_check(f, role_set_get(&p->view, top ? "root" : "targets")->body);
		if (e < 0 && !r->error[0])
			e = repo_fail(r, e, "%s: %s", f->name, err_text(e));
		if (e >= 0)
			e = check_targets(p, f);
	}
	/* With new keys the published targets must still verify. */
	if (e >= 0 && role_set_get(&p->fresh, "root") && !role_set_get(&p->fresh, "targets")) {
		e = role_file_check(role_set_get(&p->view, "targets"), role_set_get(&p->view, "root")->body);
		if (e < 0)
			e = repo_fail(
				r, e,
				"the published targets do not verify under the new root: publish both together");
	}
	return e < 0 ? e : repo_rehearse(r, &p->view, &p->fresh);
}

int repo_publish_roles(struct repo *r, const struct repo_role *roles, size_t count)
{
	struct publication p;
	int e;

	r->error[0] = '\0';
	e = begin(&p, r);
	if (e < 0)
		return e;
	for (size_t i = 0; e >= 0 && i < count; i++)
		e = publication_take(&p, roles[i].name, roles[i].metadata, roles[i].len);
	if (e >= 0)
		e = check_fresh(&p);
	if (e >= 0)
		e = finish(&p);
	if (e < 0 && !r->error[0])
		e = repo_fail(r, e, "%s", err_text(e));
	return end(&p, e);
}

int repo_publish_role(struct repo *r, const char *role, const void *metadata, size_t len)
{
	return repo_publish_roles(r, &(struct repo_role){ role, metadata, len }, 1);
}
