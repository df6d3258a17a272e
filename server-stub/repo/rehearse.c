#include "base/err.h"
#include "base/fetcher.h"
#include "base/timestamp.h"
#include "crypto/key.h"
#include "json/build.h"
#include "json/json.h"
#include "os/durable.h"
#include "server-stub/repo/folder.h"
#include "tuf/tuf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The stage: a repository in memory. Root, snapshot and timestamp are ours; targets and below are what is judged. */
struct stage {
	struct fetcher fetcher;
	const struct role_set *roles;
	struct buf root, snapshot, timestamp;
};

static int stage_get(struct fetcher *fetcher, const char *name, uint64_t max, struct buf *ret)
{
	struct stage *s = (struct stage *) fetcher; /* its first member */
	const struct buf *found = str_eq(name, "metadata/timestamp.json")    ? &s->timestamp
				  : str_eq(name, "metadata/1.snapshot.json") ? &s->snapshot
									     : NULL;

	for (size_t i = 0; !found && i < s->roles->count; i++) {
		const struct role_file *f = s->roles->items[i];
		CLEANUP(buf_done)
		struct buf path = BUF_INIT(512);

		if (role_is_top(f->name) && !str_eq(f->name, "targets"))
			continue;
		if (role_file_path(f->name, f->version, &path) >= 0 && str_eq(buf_str(&path), name))
			found = &f->bytes;
	}
	if (!found)
		return -ENOENT;
	if (found->len > max)
		return -ERR_TOO_LARGE;
	return buf_add(ret, found->data, found->len);
}

static int nothing_to_sync(const struct os *os, int fd)
{
	(void) os;
	(void) fd;
	return 0;
}

static void write_common(struct repo *r, struct json_node *o, const char *type)
{
	char text[TIMESTAMP_LEN + 1];

	node_string(o, "_type", type);
	node_string(o, "spec_version", "1.0.34");
	node_integer(o, "version", 1);
	timestamp_format(text, r->os->clock_real(r->os) + 3600);
	node_string(o, "expires", text);
}

static int sign(struct repo *r, struct json_build *b, struct buf *out)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ROLE_FILE_MAX);
	CLEANUP(json_freep)
	struct json *body = NULL;
	const struct private_key *keys[] = { r->rehearsal_key };
	int e = json_build_text(b, false, &text);

	if (e >= 0)
		e = json_parse(text.data, text.len, &json_limits_default, &body);
	return e < 0 ? e : tuf_envelope_sign(body, keys, 1, out);
}

static void write_own_role(struct json_node *roles, const char *name, const char *keyid)
{
	struct json_node *role = node_object(roles, name);

	node_string(node_array(role, "keyids"), NULL, keyid);
	node_integer(role, "threshold", 1);
}

static int build_root(struct repo *r, const struct json *root, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(4096), described = BUF_INIT(8192);
	CLEANUP(json_freep)
	struct json *own = NULL;
	struct json_node *o = json_build_root(b), *keys, *roles;
	const struct json *theirs = json_get(root, "keys"),
			  *targets = json_get(json_get(root, "roles"), "targets");
	char keyid[SHA256_HEX + 1];
	int e;

	e = private_key_public_pem(r->rehearsal_key, &pem);
	if (e >= 0)
		e = tuf_key_describe(buf_str(&pem), &described, keyid);
	if (e >= 0)
		e = json_parse(described.data, described.len, &json_limits_default, &own);
	if (e < 0)
		return e;
	write_common(r, o, "root");
	node_bool(o, "consistent_snapshot", true);
	keys = node_object(o, "keys");
	for (size_t i = 0; i < json_count(theirs); i++)
		node_copy(keys, json_name_at(theirs, i), json_at(theirs, i));
	node_copy(keys, keyid, own);
	roles = node_object(o, "roles");
	write_own_role(roles, "root", keyid);
	write_own_role(roles, "snapshot", keyid);
	write_own_role(roles, "timestamp", keyid);
	node_copy(roles, "targets", targets);
	return sign(r, b, out);
}

static int build_snapshot(struct repo *r, const struct role_set *roles, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b), *meta;

	write_common(r, o, "snapshot");
	meta = node_object(o, "meta");
	for (size_t i = 0; i < roles->count; i++) {
		const struct role_file *f = roles->items[i];
		char file[ID_MAX + 8];

		if (role_is_top(f->name) && !str_eq(f->name, "targets"))
			continue;
		(void) snprintf(file, sizeof(file), "%s.json", f->name);
		node_integer(node_object(meta, file), "version", (int64_t) f->version);
	}
	return sign(r, b, out);
}

static int build_timestamp(struct repo *r, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b);

	write_common(r, o, "timestamp");
	node_integer(node_object(node_object(o, "meta"), "snapshot.json"), "version", 1);
	return sign(r, b, out);
}

static int ignore_target(void *user, const struct tuf_target *t)
{
	(void) user;
	(void) t;
	return 0;
}

/* Every path a role lists must be found by a search from the top, and in this role: what is listed in vain is a mistake. */
static int find_all(struct repo *r, struct tuf_client *client, struct stage *stage, const struct role_file *f)
{
	const struct json *targets = json_get(f->body, "targets");

	for (size_t i = 0; i < json_count(targets); i++) {
		struct tuf_target found;
		int e = tuf_client_find(client, &stage->fetcher, json_name_at(targets, i), &found);

		if (e >= 0 && !str_eq(found.role, f->name))
			e = -ERR_DISAGREE;
		if (e == -ENOMEM)
			return e;
		if (e < 0)
			return repo_fail(r, e, "role %s may not list %s, or another role comes before it (%s)",
					 f->name, json_name_at(targets, i), err_text(e));
	}
	return 0;
}

static int walk_role(struct repo *r, struct tuf_client *client, struct stage *stage, const struct role_file *f,
		     bool is_changed, bool is_delegated)
{
	int e;

	if (!is_delegated) {
		if (is_changed)
			return repo_fail(r, -ERR_NOT_LISTED, "targets do not delegate to %s", f->name);
		return 0;
	}
	if (!is_changed && f->expires <= r->os->clock_real(r->os))
		return 0; /* expired by itself: no reason to stop others */
	e = tuf_client_each_target(client, &stage->fetcher, f->name, ignore_target, NULL);
	if (e == -ENOMEM)
		return e;
	if (e < 0)
		return repo_fail(r, e, "a client would refuse %s: %s%s", f->name, tuf_client_error(client),
				 is_changed ? "" : " (sign it again in the same publication)");
	return is_changed ? find_all(r, client, stage, f) : 0;
}

static int play(struct repo *r, struct stage *stage, int dirfd, const struct role_set *changed)
{
	struct os os = *r->os; /* outlives the client, which is declared after it */
	CLEANUP(tuf_client_closep)
	struct tuf_client *client = NULL;
	const struct tuf_options options = {
		.os = &os,
		.dirfd = dirfd,
		.prefix = "metadata/",
		.targets_prefix = "targets/",
		.limits = tuf_limits_default,
		.clock_synchronised = true,
	};
	const struct json *targets = role_set_get(stage->roles, "targets")->body, *keys;
	int e;

	/* A copy that nobody needs after a crash: syncing it would only cost time. */
	os.fsync = nothing_to_sync;
	os.syncfs = nothing_to_sync;
	e = tuf_client_open(&options, &client);
	if (e < 0)
		return repo_fail(r, e, "the rehearsal cannot start: %s", err_text(e));
	e = tuf_client_init(client, stage->root.data, stage->root.len);
	if (e >= 0)
		e = tuf_client_refresh(client, &stage->fetcher, NULL);
	if (e < 0)
		return repo_fail(r, e, "a client would refuse it: %s", tuf_client_error(client));
	for (size_t i = 0; e >= 0 && i < stage->roles->count; i++) {
		const struct role_file *f = stage->roles->items[i];

		if (!role_is_top(f->name))
			e = walk_role(r, client, stage, f, role_set_get(changed, f->name) != NULL,
				      role_find(targets, f->name, &keys) != NULL);
	}
	return e;
}

int repo_rehearse(struct repo *r, const struct role_set *roles, const struct role_set *changed)
{
	struct stage stage = {
		.fetcher = { .get = stage_get },
		.roles = roles,
		.root = BUF_INIT(ROLE_FILE_MAX),
		.snapshot = BUF_INIT(ROLE_FILE_MAX),
		.timestamp = BUF_INIT(ROLE_FILE_MAX),
	};
	char name[64];
	uint64_t random;
	int e = 0, fd = -1;

	if (!r->rehearsal_key)
		e = private_key_generate(&r->rehearsal_key);
	if (e >= 0)
		e = r->os->random(r->os, &random, sizeof(random));
	if (e < 0)
		return repo_fail(r, e, "the rehearsal cannot start: %s", err_text(e));
	(void) snprintf(name, sizeof(name), "serve/rehearsal-%016llx", (unsigned long long) random);
	e = build_root(r, role_set_get(roles, "root")->body, &stage.root);
	if (e >= 0)
		e = build_snapshot(r, roles, &stage.snapshot);
	if (e >= 0)
		e = build_timestamp(r, &stage.timestamp);
	if (e >= 0)
		e = r->os->mkdirat(r->os, r->dirfd, name, 0700);
	if (e >= 0) {
		fd = dir_open(r->os, r->dirfd, name);
		e = fd < 0 ? fd : 0;
	}
	if (e < 0)
		e = repo_fail(r, e, "the rehearsal cannot start: %s", err_text(e));
	else
		e = play(r, &stage, fd, changed);
	if (fd >= 0)
		(void) r->os->close(r->os, fd); /* a folder */
	(void) !tree_remove(r->os, r->dirfd, name); /* left behind it is only in the way: collected later */
	buf_done(&stage.root);
	buf_done(&stage.snapshot);
	buf_done(&stage.timestamp);
	return e;
}
