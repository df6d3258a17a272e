#include "server-stub/repo/offline.h"

#include "base/err.h"
#include "base/timestamp.h"
#include "crypto/digest.h"
#include "crypto/key.h"
#include "json/build.h"
#include "json/json.h"
#include "os/durable.h"
#include "server-stub/repo/role_file.h"
#include "tuf/tuf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_FILE_MAX = 16 * 1024, NUMBER_MAX = 999 };

static const uint64_t version_max = (UINT64_C(1) << 53) - 1;

/* --- key files --- */

void key_files_done(struct key_files *k)
{
	for (size_t i = 0; i < k->count; i++) {
		private_key_free(k->items[i].key);
		free(k->items[i].public_pem);
	}
	*k = (struct key_files){ .count = 0 };
}

const struct key_file *key_files_find(const struct key_files *k, const char *keyid)
{
	for (size_t i = 0; i < k->count; i++)
		if (str_eq(k->items[i].keyid, keyid))
			return &k->items[i];
	return NULL;
}

/* Take the key (owned from here on, also on failure) under its name. */
static int add_key(struct key_files *k, const char *name, struct private_key *key, const char *pem)
{
	CLEANUP(private_key_freep)
	struct private_key *owned = key;
	CLEANUP(buf_done)
	struct buf described = BUF_INIT(KEY_FILE_MAX);
	struct key_file *f;
	int r;

	if (k->count == OFFLINE_KEYS_MAX)
		return -ERR_TOO_LARGE;
	f = &k->items[k->count];
	*f = (struct key_file){ .key = NULL };
	r = tuf_key_describe(pem, &described, f->keyid);
	if (r < 0)
		return r;
	f->public_pem = strdup(pem);
	if (!f->public_pem)
		return -ENOMEM;
	(void) snprintf(f->name, sizeof(f->name), "%s", name);
	f->key = owned;
	owned = NULL;
	k->count++;
	return 0;
}

int key_files_add_public(struct key_files *k, const char *pem)
{
	CLEANUP(public_key_freep)
	struct public_key *key = NULL;
	int r = public_key_load("ecdsa", "ecdsa-sha2-nistp256", pem, &key);

	return r < 0 ? r : add_key(k, "", NULL, pem);
}

/* Is `file` "<role>-<number><suffix>"? Returns the number, 0 if not. */
static unsigned key_number(const char *file, const char *role, const char *suffix)
{
	size_t len = strlen(role), digits;
	char number[8];
	uint64_t n;

	if (!str_starts(file, role) || file[len] != '-')
		return 0;
	digits = strspn(file + len + 1, "0123456789");
	if (digits == 0 || digits >= sizeof(number) || !str_eq(file + len + 1 + digits, suffix))
		return 0;
	memcpy(number, file + len + 1, digits);
	number[digits] = '\0';
	return parse_u64(number, &n) < 0 ? 0 : (unsigned) n;
}

static int load_key_file(const struct os *os, int dirfd, const char *file, const char *passphrase,
			 struct key_files *k)
{
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(KEY_FILE_MAX), public = BUF_INIT(KEY_FILE_MAX);
	struct private_key *key = NULL;
	char name[OFFLINE_NAME_MAX + 1];
	int r;

	r = file_read(os, dirfd, file, KEY_FILE_MAX, &pem);
	if (r >= 0)
		r = private_key_load(pem.data, pem.len, passphrase, &key);
	if (pem.data)
		explicit_bzero(pem.data, pem.len);
	if (r < 0)
		return r;
	(void) snprintf(name, sizeof(name), "%.*s", (int) (strlen(file) - 4), file); /* without ".pem" */
	r = private_key_public_pem(key, &public);
	if (r < 0) {
		private_key_free(key);
		return r;
	}
	return add_key(k, name, key, buf_str(&public));
}

int key_files_load(const struct os *os, const char *folder, const char *role, const char *passphrase,
		   struct key_files *ret, char ret_file[static 256])
{
	CLEANUP(name_list_done)
	struct name_list names = { 0 };
	int r, fd = dir_open(os, AT_FDCWD, folder);

	(void) snprintf(ret_file, 256, "%s", folder);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	r = dir_list(os, fd, ".", &names);
	for (size_t i = 0; r >= 0 && i < names.count; i++) {
		if (key_number(names.names[i], role, ".pem") == 0)
			continue;
		(void) snprintf(ret_file, 256, "%s", names.names[i]);
		r = load_key_file(os, fd, names.names[i], passphrase, ret);
	}
	(void) os->close(os, fd); /* a folder */
	return r;
}

int key_files_create(const struct os *os, const char *folder, const char *name, const char *passphrase,
		     struct key_files *ret)
{
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(KEY_FILE_MAX), public = BUF_INIT(KEY_FILE_MAX);
	CLEANUP(buf_done)
	struct buf file = BUF_INIT(512), public_file = BUF_INIT(512);
	struct private_key *key = NULL;
	int r, fd = -1, dirfd;

	if (!guard_id(name))
		return -ERR_NAME;
	dirfd = dir_open(os, AT_FDCWD, folder);
	if (dirfd < 0)
		return dirfd;
	r = buf_addf(&file, "%s.pem", name);
	if (r >= 0)
		r = buf_addf(&public_file, "%s.pub", name);
	if (r >= 0)
		r = private_key_generate(&key);
	if (r >= 0)
		r = private_key_save(key, passphrase, &pem);
	if (r >= 0)
		r = private_key_public_pem(key, &public);
	/* O_EXCL takes the name, so that no key is ever overwritten; the content then comes in one step. */
	if (r >= 0) {
		fd = os->openat(os, dirfd, buf_str(&file), O_WRONLY | O_CREAT | O_EXCL, 0600);
		r = fd < 0 ? fd : 0;
	}
	if (fd >= 0) {
		(void) os->close(os, fd); /* empty */
		r = durable_write_file(os, dirfd, buf_str(&file), pem.data, strlen(buf_str(&pem)), 0600);
	}
	if (r >= 0)
		r = durable_write_file(os, dirfd, buf_str(&public_file), public.data, strlen(buf_str(&public)),
				       0644);
	if (r < 0 && fd >= 0)
		(void) os->unlinkat(os, dirfd, buf_str(&file), 0); /* an unused key */
	(void) os->close(os, dirfd); /* a folder */
	if (pem.data)
		explicit_bzero(pem.data, pem.len);
	if (r < 0) {
		private_key_free(key);
		return r;
	}
	return add_key(ret, name, key, buf_str(&public));
}

int key_files_next(const struct os *os, const char *folder, const char *role, unsigned *ret)
{
	CLEANUP(name_list_done)
	struct name_list names = { 0 };
	unsigned most = 0;
	int r = dir_list(os, AT_FDCWD, folder, &names);

	for (size_t i = 0; r >= 0 && i < names.count; i++) {
		const char *file = str_starts(names.names[i], "retired-") ? names.names[i] + 8 : names.names[i];
		unsigned n = key_number(file, role, ".pem") + key_number(file, role, ".pub");

		most = n > most ? n : most;
	}
	if (r < 0)
		return r;
	if (most >= NUMBER_MAX)
		return -ERR_TOO_LARGE;
	*ret = most + 1;
	return 0;
}

/* --- bodies --- */

static int built(struct json_build *b, struct json **ret)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ROLE_FILE_MAX);
	int r = json_build_text(b, false, &text);

	return r < 0 ? r : json_parse(text.data, text.len, &json_limits_default, ret);
}

static void write_common(struct json_node *o, const char *type, uint64_t version, int64_t now, int64_t life)
{
	char text[TIMESTAMP_LEN + 1];

	node_string(o, "_type", type);
	node_string(o, "spec_version", "1.0.34");
	node_integer(o, "version", (int64_t) version);
	timestamp_format(text, now + life);
	node_string(o, "expires", text);
	timestamp_format(text, now);
	node_string(o, "x-issued", text);
}

static int write_key(struct json_node *keys, const struct key_file *f)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(KEY_FILE_MAX);
	CLEANUP(json_freep)
	struct json *described = NULL;
	char keyid[SHA256_HEX + 1];
	int r;

	r = tuf_key_describe(f->public_pem, &text, keyid);
	if (r >= 0)
		r = json_parse(text.data, text.len, &json_limits_default, &described);
	if (r >= 0)
		node_copy(keys, keyid, described);
	return r;
}

static int write_keys(struct json_node *keys, const struct key_files *k)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < k->count; i++)
		r = write_key(keys, &k->items[i]);
	return r;
}

static void write_keyids(struct json_node *role, const struct key_files *k, unsigned threshold)
{
	struct json_node *ids = node_array(role, "keyids");

	for (size_t i = 0; i < k->count; i++)
		node_string(ids, NULL, k->items[i].keyid);
	node_integer(role, "threshold", threshold);
}

static void write_delegation(struct json_node *roles, const struct offline_role *d)
{
	struct json_node *role = node_object(roles, NULL), *paths;

	node_string(role, "name", d->name);
	write_keyids(role, d->keys, d->threshold);
	paths = node_array(role, "paths");
	for (size_t i = 0; i < d->path_count; i++)
		node_string(paths, NULL, d->paths[i]);
	node_bool(role, "terminating", true);
}

int offline_first_root(const struct offline_role roles[static 4], int64_t now, struct json **ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b), *keys, *list;
	int r = 0;

	write_common(o, "root", 1, now, OFFLINE_ROOT_LIFE);
	node_bool(o, "consistent_snapshot", true);
	keys = node_object(o, "keys");
	list = node_object(o, "roles");
	for (size_t i = 0; r >= 0 && i < 4; i++) {
		r = write_keys(keys, roles[i].keys);
		write_keyids(node_object(list, roles[i].name), roles[i].keys, roles[i].threshold);
	}
	return r < 0 ? r : built(b, ret);
}

int offline_first_targets(const struct offline_role *delegated, size_t count, const struct key_files *control,
			  int64_t now, struct json **ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b), *delegations, *keys, *roles, *own;
	int r = 0;

	write_common(o, "targets", 1, now, OFFLINE_TARGETS_LIFE);
	node_object(o, "targets");
	delegations = node_object(o, "delegations");
	keys = node_object(delegations, "keys");
	roles = node_array(delegations, "roles");
	for (size_t i = 0; r >= 0 && i < count; i++) {
		r = write_keys(keys, delegated[i].keys);
		write_delegation(roles, &delegated[i]);
	}
	own = node_object(node_object(o, "x-selfright"), "control");
	if (r >= 0)
		r = write_keys(node_object(own, "keys"), control);
	node_integer(own, "threshold", 1);
	return r < 0 ? r : built(b, ret);
}

int offline_first_listing(int64_t now, struct json **ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();

	write_common(json_build_root(b), "targets", 1, now, OFFLINE_TARGETS_LIFE);
	node_object(json_build_root(b), "targets");
	return built(b, ret);
}

/* The next version of `body` in `o`, without the member `except` (NULL: with all). */
static int next(const struct json *body, const char *except, int64_t now, struct json_node *o)
{
	static const char *const common[] = { "_type", "spec_version", "version", "expires", "x-issued" };
	const char *type = json_string(json_get(body, "_type"));
	uint64_t version;
	int r = json_need_u64(body, "version", 1, version_max - 1, &version);

	if (r < 0)
		return r;
	write_common(o, type, version + 1, now, str_eq(type, "root") ? OFFLINE_ROOT_LIFE : OFFLINE_TARGETS_LIFE);
	for (size_t i = 0; i < json_count(body); i++) {
		const char *name = json_name_at(body, i);
		bool skip = str_eq(name, except);

		for (size_t k = 0; k < ARRAY_LEN(common); k++)
			skip = skip || str_eq(name, common[k]);
		if (!skip)
			node_copy(o, name, json_at(body, i));
	}
	return 0;
}

int offline_renew(const struct json *body, int64_t now, struct json **ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	int r = next(body, NULL, now, json_build_root(b));

	return r < 0 ? r : built(b, ret);
}

/* Does any role but `but` use this key? `roles` is root's object or the delegations' array. */
static bool key_is_used(const struct json *roles, const char *but, const char *keyid)
{
	for (size_t i = 0; i < json_count(roles); i++) {
		const struct json *role = json_at(roles, i), *ids = json_get(role, "keyids");
		const char *name =
			json_is(roles, JSON_OBJECT) ? json_name_at(roles, i) : json_string(json_get(role, "name"));

		for (size_t k = 0; !str_eq(name, but) && k < json_count(ids); k++)
			if (str_eq(json_string(json_at(ids, k)), keyid))
				return true;
	}
	return false;
}

static int copy_used_keys(struct json_node *out, const struct json *keys, const struct json *roles,
			  const char *role, const struct key_files *fresh)
{
	for (size_t i = 0; i < json_count(keys); i++)
		if (key_is_used(roles, role, json_name_at(keys, i)))
			node_copy(out, json_name_at(keys, i), json_at(keys, i));
	return write_keys(out, fresh);
}

static int set_root_keys(const struct json *body, const char *role, const struct key_files *keys,
			 unsigned threshold, int64_t now, struct json **ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b), *list;
	const struct json *roles = json_get(body, "roles");
	int r;

	if (!json_get(roles, role))
		return -ERR_NOT_LISTED;
	r = next(body, NULL, now, o);
	if (r >= 0)
		r = copy_used_keys(node_object(o, "keys"), json_get(body, "keys"), roles, role, keys);
	list = node_object(o, "roles");
	for (size_t i = 0; i < json_count(roles); i++)
		if (!str_eq(json_name_at(roles, i), role))
			node_copy(list, json_name_at(roles, i), json_at(roles, i));
	write_keyids(node_object(list, role), keys, threshold);
	return r < 0 ? r : built(b, ret);
}

/* A delegation with other keys: everything else as it was. */
static void copy_delegation(struct json_node *roles, const struct json *role, const struct key_files *keys,
			    unsigned threshold, const char *const *more_paths, size_t more_count)
{
	struct json_node *o = node_object(roles, NULL), *paths;
	const struct json *have = json_get(role, "paths");

	for (size_t i = 0; i < json_count(role); i++)
		node_copy(o, json_name_at(role, i), json_at(role, i));
	if (keys)
		write_keyids(o, keys, threshold);
	if (more_count == 0)
		return;
	paths = node_array(o, "paths");
	for (size_t i = 0; i < json_count(have); i++)
		node_copy(paths, NULL, json_at(have, i));
	for (size_t i = 0; i < more_count; i++)
		node_string(paths, NULL, more_paths[i]);
}

static int set_delegated_keys(const struct json *body, const char *role, const struct key_files *keys,
			      unsigned threshold, int64_t now, struct json **ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	const struct json *delegations = json_get(body, "delegations"), *roles = json_get(delegations, "roles"),
			  *unused;
	struct json_node *o = json_build_root(b), *out, *list;
	int r;

	if (!role_find(body, role, &unused))
		return -ERR_NOT_LISTED;
	r = next(body, "delegations", now, o);
	out = node_object(o, "delegations");
	if (r >= 0)
		r = copy_used_keys(node_object(out, "keys"), json_get(delegations, "keys"), roles, role, keys);
	list = node_array(out, "roles");
	for (size_t i = 0; i < json_count(roles); i++) {
		bool it = str_eq(json_string(json_get(json_at(roles, i), "name")), role);

		copy_delegation(list, json_at(roles, i), it ? keys : NULL, threshold, NULL, 0);
	}
	return r < 0 ? r : built(b, ret);
}

static int set_control_keys(const struct json *body, const struct key_files *keys, unsigned threshold, int64_t now,
			    struct json **ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	const struct json *ours = json_get(body, "x-selfright");
	struct json_node *o = json_build_root(b), *out, *control;
	int r = next(body, "x-selfright", now, o);

	out = node_object(o, "x-selfright");
	for (size_t i = 0; i < json_count(ours); i++)
		if (!str_eq(json_name_at(ours, i), "control"))
			node_copy(out, json_name_at(ours, i), json_at(ours, i));
	control = node_object(out, "control");
	if (r >= 0)
		r = write_keys(node_object(control, "keys"), keys);
	node_integer(control, "threshold", threshold);
	return r < 0 ? r : built(b, ret);
}

int offline_set_approver(const struct json *body, const char *approver, const struct key_files *keys,
			 unsigned threshold, int64_t now, struct json **ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	const struct json *ours = json_get(body, "x-selfright"), *before = json_get(ours, "approvers");
	struct json_node *o = json_build_root(b), *out, *approvers, *entry;
	int r;

	if (!keys && !json_get(before, approver))
		return -ERR_NOT_LISTED;
	if (keys && (threshold < 1 || threshold > keys->count))
		return -ERR_FIELD_VALUE;
	r = next(body, "x-selfright", now, o);
	out = node_object(o, "x-selfright");
	for (size_t i = 0; i < json_count(ours); i++)
		if (!str_eq(json_name_at(ours, i), "approvers"))
			node_copy(out, json_name_at(ours, i), json_at(ours, i));
	approvers = node_object(out, "approvers");
	for (size_t i = 0; i < json_count(before); i++)
		if (!str_eq(json_name_at(before, i), approver))
			node_copy(approvers, json_name_at(before, i), json_at(before, i));
	if (keys) {
		entry = node_object(approvers, approver);
		if (r >= 0)
			r = write_keys(node_object(entry, "keys"), keys);
		node_integer(entry, "threshold", threshold);
	}
	return r < 0 ? r : built(b, ret);
}

int offline_set_keys(const struct json *body, const char *role, const struct key_files *keys, unsigned threshold,
		     int64_t now, struct json **ret)
{
	if (threshold < 1 || threshold > keys->count)
		return -ERR_FIELD_VALUE;
	if (str_eq(json_string(json_get(body, "_type")), "root"))
		return set_root_keys(body, role, keys, threshold, now, ret);
	if (str_eq(role, "control"))
		return set_control_keys(body, keys, threshold, now, ret);
	return set_delegated_keys(body, role, keys, threshold, now, ret);
}

/* What nodes would not take is not signed. */
static int check_ca(const struct json *body)
{
	CLEANUP(tuf_ca_done)
	struct tuf_ca ca = { .retired_count = 0 };

	return tuf_ca_load(json_get(body, "x-selfright"), &ca);
}

int offline_set_ca(const struct json *body, const struct certificate_bundle *trusted, const char *retired,
		   int64_t now, struct json **ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *made = NULL;
	const struct json *ours = json_get(body, "x-selfright"),
			  *before = json_get(json_get(ours, "ca"), "retired");
	struct json_node *o = json_build_root(b), *out, *ca, *list;
	int r = next(body, "x-selfright", now, o);

	out = node_object(o, "x-selfright");
	for (size_t i = 0; i < json_count(ours); i++)
		if (!str_eq(json_name_at(ours, i), "ca"))
			node_copy(out, json_name_at(ours, i), json_at(ours, i));
	ca = node_object(out, "ca");
	list = node_array(ca, "trusted");
	for (size_t i = 0; i < trusted->count; i++)
		node_string(list, NULL, trusted->items[i].pem);
	list = node_array(ca, "retired");
	for (size_t i = 0; i < json_count(before); i++) {
		const char *sha256 = json_string(json_at(before, i));

		if (sha256 && !str_eq(sha256, retired) && !certificate_bundle_find(trusted, sha256))
			node_string(list, NULL, sha256);
	}
	if (retired)
		node_string(list, NULL, retired);
	if (r >= 0)
		r = built(b, &made);
	if (r >= 0)
		r = check_ca(made);
	if (r < 0)
		return r;
	*ret = made;
	made = NULL;
	return 0;
}

static bool has_path(const struct json *role, const char *path)
{
	const struct json *paths = json_get(role, "paths");

	for (size_t i = 0; i < json_count(paths); i++)
		if (str_eq(json_string(json_at(paths, i)), path))
			return true;
	return false;
}

int offline_delegate(const struct json *targets, const struct offline_role *role, int64_t now, struct json **ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	const struct json *delegations = json_get(targets, "delegations"), *roles = json_get(delegations, "roles");
	struct json_node *o = json_build_root(b), *out, *keys, *list;
	const struct json *all = json_get(delegations, "keys"), *unused,
			  *present = role_find(targets, role->name, &unused);
	int r;

	for (size_t i = 0; i < json_count(roles); i++)
		for (size_t k = 0; k < role->path_count; k++)
			if (has_path(json_at(roles, i), role->paths[k]))
				return -EEXIST;
	if (!present && (role->threshold < 1 || role->threshold > role->keys->count))
		return -ERR_FIELD_VALUE;
	r = next(targets, "delegations", now, o);
	out = node_object(o, "delegations");
	keys = node_object(out, "keys");
	for (size_t i = 0; i < json_count(all); i++)
		node_copy(keys, json_name_at(all, i), json_at(all, i));
	if (r >= 0 && !present)
		r = write_keys(keys, role->keys);
	list = node_array(out, "roles");
	for (size_t i = 0; i < json_count(roles); i++) {
		bool it = str_eq(json_string(json_get(json_at(roles, i), "name")), role->name);

		copy_delegation(list, json_at(roles, i), NULL, 0, role->paths, it ? role->path_count : 0);
	}
	if (!present)
		write_delegation(list, role);
	return r < 0 ? r : built(b, ret);
}

int offline_list(const struct json *body, const char *path, uint64_t length, const char *sha256, int64_t now,
		 struct json **ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	const struct json *targets = json_get(body, "targets");
	struct json_node *o = json_build_root(b), *out, *entry;
	int r = next(body, "targets", now, o);

	if (r < 0)
		return r;
	out = node_object(o, "targets");
	for (size_t i = 0; i < json_count(targets); i++)
		if (!str_eq(json_name_at(targets, i), path))
			node_copy(out, json_name_at(targets, i), json_at(targets, i));
	entry = node_object(out, path);
	node_integer(entry, "length", (int64_t) length);
	node_string(node_object(entry, "hashes"), "sha256", sha256);
	return built(b, ret);
}

/* --- signatures --- */

static bool has_signature(const struct json *signatures, const char *keyid)
{
	for (size_t i = 0; i < json_count(signatures); i++)
		if (str_eq(json_string(json_get(json_at(signatures, i), "keyid")), keyid))
			return true;
	return false;
}

static int write_metadata(const struct json *body, const struct json *first, const struct json *second,
			  struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *signatures = node_array(json_build_root(b), "signatures");

	for (size_t i = 0; i < json_count(first); i++)
		node_copy(signatures, NULL, json_at(first, i));
	for (size_t i = 0; i < json_count(second); i++)
		if (!has_signature(first, json_string(json_get(json_at(second, i), "keyid"))))
			node_copy(signatures, NULL, json_at(second, i));
	node_copy(json_build_root(b), "signed", body);
	return json_build_text(b, false, out);
}

int offline_sign(const struct json *body, const struct key_files *keys, const struct json *before, struct buf *out)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ROLE_FILE_MAX);
	CLEANUP(json_freep)
	struct json *fresh = NULL;
	const struct private_key *list[OFFLINE_KEYS_MAX];
	size_t count = 0;
	int r;

	for (size_t i = 0; i < keys->count; i++)
		if (keys->items[i].key)
			list[count++] = keys->items[i].key;
	r = tuf_envelope_sign(body, list, count, &text);
	if (r >= 0)
		r = json_parse(text.data, text.len, &json_limits_default, &fresh);
	return r < 0 ? r : write_metadata(body, json_get(fresh, "signatures"), before, out);
}

int offline_count(const struct json *metadata, const struct json *delegator, const char *role, unsigned *ret_valid,
		  unsigned *ret_threshold)
{
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	CLEANUP(buf_done)
	struct buf canonical = BUF_INIT(ROLE_FILE_MAX);
	int r = role_keyring(delegator, role, &ring);

	if (r >= 0)
		r = json_canonical(json_get(metadata, "signed"), &canonical);
	if (r >= 0)
		r = tuf_keyring_count(ring, json_get(metadata, "signatures"), canonical.data, canonical.len,
				      ret_valid);
	if (r >= 0)
		*ret_threshold = tuf_keyring_threshold(ring);
	return r;
}

int offline_request(const char *fleet, const char *role, const struct json *metadata, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b);

	node_integer(o, "format", 1);
	node_string(o, "type", "selfright-signing-request");
	node_string(o, "fleet", fleet);
	node_string(o, "role", role);
	node_copy(o, "signed", json_get(metadata, "signed"));
	node_copy(o, "signatures", json_get(metadata, "signatures"));
	return json_build_text(b, true, out);
}

int offline_request_parse(const void *text, size_t len, const char *fleet, struct json **ret,
			  const char **ret_role)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const struct json *unused;
	const char *type, *theirs, *role;
	uint64_t format;
	int r = json_parse(text, len, &json_limits_default, &doc);

	if (r >= 0)
		r = json_need_u64(doc, "format", 1, 1, &format);
	if (r >= 0)
		r = json_need_string(doc, "type", &type);
	if (r >= 0 && !str_eq(type, "selfright-signing-request"))
		r = -ERR_FIELD_VALUE;
	if (r >= 0)
		r = json_need_string(doc, "fleet", &theirs);
	if (r >= 0 && fleet && !str_eq(theirs, fleet))
		r = -ERR_DISAGREE;
	if (r >= 0)
		r = json_need_string(doc, "role", &role);
	if (r >= 0 && !guard_id(role))
		r = -ERR_NAME;
	if (r >= 0)
		r = json_need(doc, "signed", JSON_OBJECT, &unused);
	if (r >= 0)
		r = json_need(doc, "signatures", JSON_ARRAY, &unused);
	if (r < 0)
		return r;
	*ret_role = role;
	*ret = doc;
	doc = NULL;
	return 0;
}

int offline_merge(const struct json *into, const struct json *more, struct buf *out)
{
	CLEANUP(buf_done)
	struct buf one = BUF_INIT(ROLE_FILE_MAX), other = BUF_INIT(ROLE_FILE_MAX);
	int r = json_canonical(json_get(into, "signed"), &one);

	if (r >= 0)
		r = json_canonical(json_get(more, "signed"), &other);
	if (r < 0)
		return r;
	if (one.len != other.len || memcmp(one.data, other.data, one.len) != 0)
		return -ERR_DISAGREE;
	return write_metadata(json_get(into, "signed"), json_get(into, "signatures"), json_get(more, "signatures"),
			      out);
}
