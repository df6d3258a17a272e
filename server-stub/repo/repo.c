#include "server-stub/repo/repo.h"

#include "base/err.h"
#include "base/log.h"
#include "crypto/digest.h"
#include "crypto/key.h"
#include "json/build.h"
#include "json/json.h"
#include "os/durable.h"
#include "server-stub/repo/folder.h"
#include "server-stub/signer/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

int repo_fail(struct repo *r, int error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(r->error, sizeof(r->error), fmt, ap); /* cut to fit */
	va_end(ap);
	return error;
}

const char *repo_error(const struct repo *r)
{
	return r->error[0] ? r->error : "no failure yet";
}

const char *repo_fleet(const struct repo *r)
{
	return r->fleet;
}

const char *repo_upload_dir(const struct repo *r)
{
	return r->uploads;
}

/* --- sets of roles --- */

void role_set_done(struct role_set *s)
{
	for (size_t i = 0; i < s->count; i++)
		role_file_free(s->items[i]);
	free(s->items);
	*s = (struct role_set){ 0 };
}

int role_set_put(struct role_set *s, struct role_file *f)
{
	struct role_file **items;

	for (size_t i = 0; i < s->count; i++)
		if (str_eq(s->items[i]->name, f->name)) {
			role_file_free(s->items[i]);
			s->items[i] = f;
			return 0;
		}
	items = realloc(s->items, (s->count + 1) * sizeof(struct role_file *));
	if (!items)
		return -ENOMEM;
	s->items = items;
	s->items[s->count++] = f;
	return 0;
}

const struct role_file *role_set_get(const struct role_set *s, const char *name)
{
	for (size_t i = 0; i < s->count; i++)
		if (str_eq(s->items[i]->name, name))
			return s->items[i];
	return NULL;
}

/* --- reading what is published --- */

/* Parse and take a file of metadata/; `entry` (NULL: none) is what names it with version, length and hash. */
static int load_role(struct repo *r, const char *name, uint64_t version, const struct json *entry,
		     struct role_set *roles)
{
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(512), bytes = BUF_INIT(ROLE_FILE_MAX);
	CLEANUP(role_file_freep)
	struct role_file *f = NULL;
	const char *sha256 = json_string(json_get(json_get(entry, "hashes"), "sha256"));
	int e;

	e = role_file_path(name, version, &path);
	if (e >= 0)
		e = file_read(r->os, r->repofd, buf_str(&path), ROLE_FILE_MAX, &bytes);
	if (e >= 0)
		e = role_file_parse(name, bytes.data, bytes.len, &f);
	if (e >= 0 && version > 0 && f->version != version)
		e = -ERR_VERSION;
	if (e >= 0 && sha256 && !str_eq(sha256, f->sha256))
		e = -ERR_DIGEST;
	if (e < 0)
		return repo_fail(r, e, "%s: %s", buf_str(&path), err_text(e));
	e = role_set_put(roles, f);
	if (e >= 0)
		f = NULL;
	return e;
}

/* Number of the newest N.root.json; 0: none. */
static int newest_root(struct repo *r, uint64_t *ret)
{
	CLEANUP(name_list_done)
	struct name_list names = { 0 };
	int e = dir_list(r->os, r->repofd, "metadata", &names);

	*ret = 0;
	if (e == -ENOENT)
		return 0;
	for (size_t i = 0; e >= 0 && i < names.count; i++) {
		size_t digits = strspn(names.names[i], "0123456789");
		char number[24];
		uint64_t n;

		if (digits == 0 || digits >= sizeof(number) || !str_eq(names.names[i] + digits, ".root.json"))
			continue;
		memcpy(number, names.names[i], digits);
		number[digits] = '\0';
		if (parse_u64(number, &n) >= 0 && n > *ret)
			*ret = n;
	}
	return e < 0 ? repo_fail(r, e, "metadata/ cannot be listed: %s", err_text(e)) : 0;
}

/* What a role that was loaded says; NULL, which every reader takes, if it was not. */
static const struct json *body_of(const struct role_set *roles, const char *name)
{
	const struct role_file *file = role_set_get(roles, name);

	return file ? file->body : NULL;
}

/* Signed as the newest root asks, or, after an interrupted rotation, as the one before did. */
static int check_top(struct repo *r, const struct role_set *roles, const char *name,
		     const struct role_file *before, bool *unfinished)
{
	const struct role_file *file = role_set_get(roles, name);
	int e = file ? role_file_check(file, body_of(roles, "root")) : -ENOENT;

	if (file && e < 0 && e != -ENOMEM && before) {
		e = role_file_check(file, before->body);
		*unfinished = true;
	}
	if (e < 0)
		return repo_fail(r, e, "the published %s is not signed as root asks: %s", name, err_text(e));
	return 0;
}

static int load_listed(struct repo *r, struct role_set *roles)
{
	const struct json *meta = json_get(body_of(roles, "snapshot"), "meta");

	for (size_t i = 0; i < json_count(meta); i++) {
		const char *file = json_name_at(meta, i);
		size_t len = strlen(file);
		char name[ID_MAX + 1];
		uint64_t version;
		int e;

		if (len <= 5 || len - 5 > ID_MAX || !str_eq(file + len - 5, ".json"))
			return repo_fail(r, -ERR_NAME, "the published snapshot lists a file that is no role's");
		memcpy(name, file, len - 5);
		name[len - 5] = '\0';
		e = json_need_u64(json_at(meta, i), "version", 1, UINT64_MAX >> 11, &version);
		if (e < 0)
			return repo_fail(r, e, "the published snapshot: %s", err_text(e));
		e = load_role(r, name, version, json_at(meta, i), roles);
		if (e < 0)
			return e;
	}
	if (!role_set_get(roles, "targets"))
		return repo_fail(r, -ERR_FIELD_MISSING, "the published snapshot does not list targets.json");
	return 0;
}

static int check_delegated(struct repo *r, const struct role_set *roles)
{
	const struct json *targets = body_of(roles, "targets");

	for (size_t i = 0; i < roles->count; i++) {
		int e;

		if (role_is_top(roles->items[i]->name))
			continue;
		e = role_file_check(roles->items[i], targets);
		/* A role that targets no longer names stays listed in snapshots for ever. */
		if (e < 0 && e != -ERR_NOT_LISTED)
			return repo_fail(r, e, "the published %s is not signed as targets ask: %s",
					 roles->items[i]->name, err_text(e));
	}
	return 0;
}

int repo_load(struct repo *r, struct role_set *ret, bool *ret_unfinished)
{
	CLEANUP(role_set_done)
	struct role_set roles = { 0 }, old = { 0 };
	const struct json *entry;
	const struct role_file *before = NULL;
	bool unfinished = false;
	uint64_t root, version;
	int e;

	e = newest_root(r, &root);
	if (e >= 0 && root > 0)
		e = load_role(r, "root", root, NULL, &roles);
	if (e >= 0 && root > 0) {
		e = role_file_check(roles.items[0], roles.items[0]->body);
		if (e < 0)
			return repo_fail(r, e, "%llu.root.json does not verify against itself: %s",
					 (unsigned long long) root, err_text(e));
	}
	if (e < 0)
		return e;
	if (root > 1 && load_role(r, "root", root - 1, NULL, &old) >= 0)
		before = old.items[0];
	e = load_role(r, "timestamp", 0, NULL, &roles);
	if (e == -ENOENT) {
		unfinished = root > 0;
		goto done;
	}
	if (e >= 0 && root == 0)
		e = repo_fail(r, -ERR_UNTRUSTED, "there is a timestamp but no root in the published folder");
	if (e >= 0)
		e = check_top(r, &roles, "timestamp", before, &unfinished);
	if (e < 0)
		return e;
	entry = json_get(json_get(body_of(&roles, "timestamp"), "meta"), "snapshot.json");
	e = json_need_u64(entry, "version", 1, UINT64_MAX >> 11, &version);
	if (e < 0)
		return repo_fail(r, e, "the published timestamp: %s", err_text(e));
	e = load_role(r, "snapshot", version, entry, &roles);
	if (e >= 0)
		e = check_top(r, &roles, "snapshot", before, &unfinished);
	if (e >= 0)
		e = load_listed(r, &roles);
	if (e >= 0)
		e = check_top(r, &roles, "targets", before, &unfinished);
	if (e >= 0)
		e = check_delegated(r, &roles);
	if (e < 0)
		return e;
done:
	*ret = roles;
	roles = (struct role_set){ 0 };
	*ret_unfinished = unfinished;
	return 0;
}

/* After a start: what a node needs that knows nothing newer than the teams' releases. */
static int changes_at_start(struct repo *r)
{
	const struct role_file *rollouts = role_set_get(&r->roles, "rollouts");
	const struct json *targets = rollouts ? json_get(rollouts->body, "targets") : NULL;
	CLEANUP(buf_done)
	struct buf file = BUF_INIT(1024);
	int e = 0;

	change_list_done(&r->changes);
	if (rollouts) {
		e = role_file_path("rollouts", rollouts->version, &file);
		if (e >= 0)
			e = change_list_add(&r->changes, buf_str(&file), CHANGE_ROLLOUTS);
	}
	for (size_t i = 0; e >= 0 && i < json_count(targets); i++) {
		const char *path = json_name_at(targets, i);
		const char *sha256 = json_string(json_get(json_get(json_at(targets, i), "hashes"), "sha256"));

		buf_clear(&file);
		e = target_file_path(path, sha256 ? sha256 : "", &file);
		if (e >= 0)
			e = change_list_add(&r->changes, buf_str(&file), change_order_of_target(path));
	}
	return e;
}

static int adopt(struct repo *r)
{
	struct role_set roles = { 0 };
	bool unfinished;
	int e = repo_load(r, &roles, &unfinished);

	if (e < 0)
		return e;
	role_set_done(&r->roles);
	r->roles = roles;
	r->unfinished = unfinished;
	return changes_at_start(r);
}

int repo_follow(struct repo *r, bool *ret_changed)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(ROLE_FILE_MAX);
	const struct role_file *timestamp = role_set_get(&r->roles, "timestamp");
	const struct role_file *root = role_set_get(&r->roles, "root");
	uint64_t newest;
	bool same;
	int e;

	if (ret_changed)
		*ret_changed = false;
	e = file_read(r->os, r->repofd, "metadata/timestamp.json", ROLE_FILE_MAX, &bytes);
	if (e < 0 && e != -ENOENT)
		return repo_fail(r, e, "metadata/timestamp.json: %s", err_text(e));
	same = timestamp ? bytes.len == timestamp->bytes.len && bytes.len > 0 &&
				   memcmp(bytes.data, timestamp->bytes.data, bytes.len) == 0
			 : bytes.len == 0;
	e = newest_root(r, &newest);
	if (e < 0)
		return e;
	if (same && newest == (root ? root->version : 0))
		return 0;
	if (ret_changed)
		*ret_changed = true;
	return adopt(r);
}

/* --- open and close --- */

static int read_fleet(struct repo *r)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(REPO_LOCK_MAX);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const char *fleet = NULL;
	uint64_t format;
	int e = file_read(r->os, r->dirfd, "fleet.json", REPO_LOCK_MAX, &text);

	if (e >= 0)
		e = json_parse(text.data, text.len, &json_limits_default, &doc);
	if (e >= 0)
		e = json_need_u64(doc, "format", 1, 1, &format);
	if (e >= 0)
		e = json_need_string(doc, "fleet", &fleet);
	if (e >= 0 && !guard_id(fleet))
		e = -ERR_NAME;
	if (e < 0)
		return repo_fail(r, e, "%s/fleet.json (made by `selfright repo init`): %s", r->dir, err_text(e));
	(void) snprintf(r->fleet, sizeof(r->fleet), "%s", fleet);
	return 0;
}

static int open_folders(struct repo *r)
{
	char path[REPO_PATH_MAX + 8];

	(void) snprintf(path, sizeof(path), "%s/.", r->dir);
	r->dirfd = r->os->openat(r->os, AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
	if (r->dirfd < 0)
		return repo_fail(r, r->dirfd, "%s cannot be opened: %s", r->dir, err_text(r->dirfd));
	if (r->signer) {
		int e = durable_mkdir(r->os, r->dirfd, "serve", 0700);

		if (e >= 0)
			e = durable_mkdir(r->os, r->dirfd, "serve/uploads", 0700);
		if (e >= 0)
			e = durable_mkdir(r->os, r->dirfd, "repo", 0755);
		if (e >= 0)
			e = durable_mkdir(r->os, r->dirfd, "repo/metadata", 0755);
		if (e >= 0)
			e = durable_mkdir(r->os, r->dirfd, "repo/targets", 0755);
		if (e < 0)
			return repo_fail(r, e, "the folders below %s cannot be made: %s", r->dir, err_text(e));
		r->lockfd = r->os->openat(r->os, r->dirfd, "serve/publish.lock", O_RDWR | O_CREAT, 0600);
		if (r->lockfd < 0)
			return repo_fail(r, r->lockfd, "serve/publish.lock: %s", err_text(r->lockfd));
	}
	r->repofd = dir_open(r->os, r->dirfd, "repo");
	if (r->repofd < 0)
		return repo_fail(r, r->repofd, "%s/repo cannot be opened: %s", r->dir, err_text(r->repofd));
	return 0;
}

int repo_lock(struct repo *r)
{
	while (flock(r->lockfd, LOCK_EX) < 0)
		if (errno != EINTR)
			return repo_fail(r, -errno, "serve/publish.lock: %s", err_text(-errno));
	return 0;
}

void repo_unlock(struct repo *r)
{
	(void) flock(r->lockfd, LOCK_UN); /* fails only for a descriptor that is not open */
}

/* The published folder says which signer it belongs to; a higher counter than ours is the signer's to judge. */
static int take_lock_counter(struct repo *r)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(REPO_LOCK_MAX), now = BUF_INIT(REPO_LOCK_MAX);
	CLEANUP(json_freep)
	struct json *status = NULL, *doc = NULL;
	uint64_t ours = 0, there = 0;
	int e;

	e = signer_status(r->signer, &status);
	if (e >= 0)
		e = json_need_u64(status, "counter", 0, UINT64_MAX >> 11, &ours);
	if (e < 0)
		return repo_fail(r, e, "%s", signer_error(r->signer));
	e = file_read(r->os, r->repofd, "signer.lock", REPO_LOCK_MAX, &now);
	if (e >= 0)
		e = json_parse(now.data, now.len, &json_limits_default, &doc);
	if (e >= 0)
		e = json_need_u64(doc, "counter", 0, UINT64_MAX >> 11, &there);
	if (e < 0 && e != -ENOENT)
		return repo_fail(r, e, "repo/signer.lock: %s", err_text(e));
	if (there >= ours)
		return 0;
	node_integer(json_build_root(b), "format", 1);
	node_integer(json_build_root(b), "counter", (int64_t) ours);
	e = json_build_text(b, false, &text);
	if (e >= 0)
		e = durable_write_file(r->os, r->repofd, "signer.lock", text.data, text.len, 0644);
	return e < 0 ? repo_fail(r, e, "repo/signer.lock: %s", err_text(e)) : 0;
}

int repo_open(const struct os *os, const char *dir, struct signer_client *signer, struct repo **ret)
{
	struct repo *r = calloc(1, sizeof(*r));
	int e;

	if (!r)
		return -ENOMEM;
	r->os = os;
	r->signer = signer;
	r->dirfd = r->repofd = r->lockfd = -1;
	e = strlen(dir) < sizeof(r->dir) ? 0 : -ENAMETOOLONG;
	(void) snprintf(r->dir, sizeof(r->dir), "%s", dir);
	(void) snprintf(r->uploads, sizeof(r->uploads), "%s/serve/uploads", dir);
	if (e >= 0)
		e = open_folders(r);
	if (e >= 0)
		e = read_fleet(r);
	if (e >= 0 && signer)
		e = take_lock_counter(r);
	if (e >= 0)
		e = adopt(r);
	if (e < 0) {
		log_error("repo-open", "%s", r->error[0] ? r->error : err_text(e));
		repo_close(r);
		return e;
	}
	*ret = r;
	return 0;
}

void repo_close(struct repo *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < 3; i++) {
		int fd = (int[]){ r->lockfd, r->repofd, r->dirfd }[i];

		if (fd >= 0)
			(void) r->os->close(r->os, fd); /* folders and a lock: nothing to write */
	}
	role_set_done(&r->roles);
	change_list_done(&r->changes);
	private_key_free(r->rehearsal_key);
	free(r);
}

/* --- what is trusted --- */

/* The role and entry that list a target path; NULL: nobody. */
static const struct json *find_target(const struct repo *r, const char *path)
{
	for (size_t i = 0; i < r->roles.count; i++) {
		const struct json *targets, *entry;

		if (str_eq(r->roles.items[i]->name, "snapshot") || str_eq(r->roles.items[i]->name, "timestamp") ||
		    str_eq(r->roles.items[i]->name, "root"))
			continue;
		targets = json_get(r->roles.items[i]->body, "targets");
		entry = json_get(targets, path);
		if (entry)
			return entry;
	}
	return NULL;
}

int repo_target_info(struct repo *r, const char *path, uint64_t *ret_length,
		     uint8_t ret_sha256[static SHA256_BYTES])
{
	const struct json *entry = find_target(r, path);
	const char *sha256 = json_string(json_get(json_get(entry, "hashes"), "sha256"));
	uint64_t length;
	int e;

	if (!entry)
		return repo_fail(r, -ENOENT, "no role lists %s", path);
	e = json_need_u64(entry, "length", 0, UINT64_MAX >> 11, &length);
	if (e >= 0)
		e = sha256 ? hex_decode(ret_sha256, SHA256_BYTES, sha256, false) : -ERR_FIELD_MISSING;
	if (e < 0)
		return repo_fail(r, e, "the entry of %s: %s", path, err_text(e));
	*ret_length = length;
	return 0;
}

int repo_read_file(struct repo *r, const char *path, const char *sha256, uint64_t length, struct buf *ret)
{
	CLEANUP(buf_done)
	struct buf file = BUF_INIT(2048), bytes = BUF_INIT(ROLE_FILE_MAX);
	char have[SHA256_HEX + 1];
	int e;

	e = target_file_path(path, sha256, &file);
	if (e >= 0)
		e = length > ROLE_FILE_MAX ? -ERR_TOO_LARGE : 0;
	if (e >= 0)
		e = file_read(r->os, r->repofd, buf_str(&file), (size_t) length, &bytes);
	if (e >= 0)
		e = sha256_hex(bytes.data ? bytes.data : (const uint8_t *) "", bytes.len, have);
	if (e >= 0 && bytes.len != length)
		e = -ERR_LENGTH;
	if (e >= 0 && !str_eq(have, sha256))
		e = -ERR_DIGEST;
	if (e >= 0)
		e = buf_add(ret, buf_str(&bytes), bytes.len);
	return e < 0 ? repo_fail(r, e, "%s: %s", buf_str(&file), err_text(e)) : 0;
}

int repo_read_target(struct repo *r, const char *path, struct buf *ret)
{
	uint8_t digest[SHA256_BYTES];
	char sha256[SHA256_HEX + 1];
	uint64_t length;
	int e = repo_target_info(r, path, &length, digest);

	if (e < 0)
		return e;
	hex_encode(sha256, digest, sizeof(digest));
	return repo_read_file(r, path, sha256, length, ret);
}

int repo_read_role(struct repo *r, const char *role, struct buf *ret)
{
	const struct role_file *f = role_set_get(&r->roles, role);

	if (!f)
		return repo_fail(r, -ENOENT, "no role %s is published", role);
	return buf_add(ret, f->bytes.data, f->bytes.len);
}

int repo_ca_pem(struct repo *r, struct buf *ret)
{
	int e;

	if (r->signer) {
		e = signer_ca(r->signer, ret);
		return e < 0 ? repo_fail(r, e, "%s",
					 e == -ENOENT ? "the signer holds no CA" : signer_error(r->signer))
			     : 0;
	}
	e = file_read(r->os, r->dirfd, "signer/ca.crt", REPO_LOCK_MAX, ret);
	return e < 0 ? repo_fail(r, e, "signer/ca.crt: %s", err_text(e)) : 0;
}

static void describe(const struct repo *r, const struct role_file *f, struct repo_role_info *ret)
{
	const struct role_file *root = role_set_get(&r->roles, "root"),
			       *targets = role_set_get(&r->roles, "targets");
	const struct role_file *delegator = role_is_top(f->name) ? root : targets;
	const struct json *keys, *role = delegator ? role_find(delegator->body, f->name, &keys) : NULL;
	uint64_t threshold = 0, year = UINT64_C(365) * 86400;

	/* A role that is no longer delegated has neither keys nor threshold. */
	(void) !json_optional_u64(role, "threshold", 1, 1024, &threshold);
	*ret = (struct repo_role_info){
		.name = f->name,
		.version = f->version,
		.expires = f->expires,
		.issued = f->issued,
		.threshold = (unsigned) threshold,
		.keys = (unsigned) json_count(json_get(role, "keyids")),
		/* The inventory's key may be either; what the signer signs lives two weeks at most. */
		.online = role_is_online(f->name) &&
			  (!str_eq(f->name, "inventory") || f->expires - f->issued <= 14 * 86400),
		.life_s = f->issued > 0 && f->expires > f->issued ? (uint64_t) (f->expires - f->issued)
			  : str_eq(f->name, "timestamp")	  ? 72 * 3600
			  : role_is_online(f->name)		  ? 14 * 86400
			  : str_eq(f->name, "root")		  ? 2 * year
								  : year,
	};
}

void repo_each_role(struct repo *r, void (*each)(void *user, const struct repo_role_info *info), void *user)
{
	static const char *const first[] = { "root", "targets", "snapshot", "timestamp" };
	struct repo_role_info info;

	for (size_t i = 0; i < ARRAY_LEN(first); i++) {
		const struct role_file *f = role_set_get(&r->roles, first[i]);

		if (f) {
			describe(r, f, &info);
			each(user, &info);
		}
	}
	for (size_t i = 0; i < r->roles.count; i++)
		if (!role_is_top(r->roles.items[i]->name)) {
			describe(r, r->roles.items[i], &info);
			each(user, &info);
		}
}
