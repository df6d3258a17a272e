#include "server-stub/repo/role_file.h"

#include "base/err.h"
#include "base/timestamp.h"
#include "crypto/digest.h"
#include "json/build.h"
#include "json/json.h"
#include "tuf/tuf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t version_max = (UINT64_C(1) << 53) - 1;

static bool name_in(const char *name, const char *const *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (str_eq(name, list[i]))
			return true;
	return false;
}

bool role_is_top(const char *name)
{
	static const char *const top[] = { "root", "targets", "snapshot", "timestamp" };

	return name_in(name, top, ARRAY_LEN(top));
}

bool role_is_online(const char *name)
{
	static const char *const online[] = { "rollouts", "support", "inventory", "snapshot", "timestamp" };

	return name_in(name, online, ARRAY_LEN(online));
}

static int interpret(struct role_file *f)
{
	const char *type, *expires, *issued = NULL;
	int r;

	r = json_need(f->document, "signed", JSON_OBJECT, &f->body);
	if (r >= 0)
		r = json_need_string(f->body, "_type", &type);
	if (r >= 0 && !str_eq(type, role_is_top(f->name) ? f->name : "targets"))
		r = -ERR_DISAGREE;
	if (r >= 0)
		r = json_need_u64(f->body, "version", 1, version_max, &f->version);
	if (r >= 0)
		r = json_need_string(f->body, "expires", &expires);
	if (r >= 0)
		r = timestamp_parse(expires, &f->expires);
	if (r >= 0)
		r = json_optional_string(f->body, "x-issued", &issued);
	if (r >= 0 && issued)
		r = timestamp_parse(issued, &f->issued);
	return r;
}

int role_file_parse(const char *name, const void *bytes, size_t len, struct role_file **ret)
{
	CLEANUP(role_file_freep)
	struct role_file *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	if (!guard_id(name))
		return -ERR_NAME;
	(void) snprintf(f->name, sizeof(f->name), "%s", name);
	buf_init(&f->bytes, ROLE_FILE_MAX);
	r = buf_add(&f->bytes, bytes, len);
	if (r >= 0)
		r = json_parse(bytes, len, &json_limits_default, &f->document);
	if (r >= 0)
		r = interpret(f);
	if (r >= 0)
		r = sha256_hex(bytes, len, f->sha256);
	if (r < 0)
		return r;
	*ret = f;
	f = NULL;
	return 0;
}

void role_file_free(struct role_file *f)
{
	if (!f)
		return;
	buf_done(&f->bytes);
	json_free(f->document);
	free(f);
}

int role_file_path(const char *name, uint64_t version, struct buf *ret)
{
	if (str_eq(name, "timestamp"))
		return buf_add_str(ret, "metadata/timestamp.json");
	return buf_addf(ret, "metadata/%llu.%s.json", (unsigned long long) version, name);
}

int target_file_path(const char *path, const char *sha256, struct buf *ret)
{
	const char *slash = strrchr(path, '/');
	int folder = slash ? (int) (slash - path + 1) : 0;

	return buf_addf(ret, "targets/%.*s%s.%s", folder, path, sha256, path + folder);
}

const struct json *role_find(const struct json *delegator, const char *name, const struct json **ret_keys)
{
	const struct json *delegations = json_get(delegator, "delegations");
	const struct json *roles = json_get(delegations, "roles");

	if (str_eq(json_string(json_get(delegator, "_type")), "root")) {
		*ret_keys = json_get(delegator, "keys");
		return json_get(json_get(delegator, "roles"), name);
	}
	*ret_keys = json_get(delegations, "keys");
	for (size_t i = 0; i < json_count(roles); i++)
		if (str_eq(json_string(json_get(json_at(roles, i), "name")), name))
			return json_at(roles, i);
	return NULL;
}

const char *role_of_path(const struct json *targets, const char *path)
{
	const struct json *roles = json_get(json_get(targets, "delegations"), "roles");

	for (size_t i = 0; i < json_count(roles); i++) {
		const struct json *paths = json_get(json_at(roles, i), "paths");

		for (size_t k = 0; k < json_count(paths); k++)
			if (str_eq(json_string(json_at(paths, k)), path))
				return json_string(json_get(json_at(roles, i), "name"));
	}
	return NULL;
}

int role_keyring(const struct json *delegator, const char *name, struct tuf_keyring **ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ROLE_FILE_MAX);
	CLEANUP(json_freep)
	struct json *object = NULL;
	const struct json *all_keys, *role = role_find(delegator, name, &all_keys), *ids;
	struct json_node *keys = node_object(json_build_root(b), "keys");
	uint64_t threshold;
	int r;

	if (!role)
		return -ERR_NOT_LISTED;
	r = json_need(role, "keyids", JSON_ARRAY, &ids);
	if (r >= 0)
		r = json_need_u64(role, "threshold", 1, 1024, &threshold);
	if (r < 0)
		return r;
	for (size_t i = 0; i < json_count(ids); i++) {
		const char *id = json_string(json_at(ids, i));

		if (!id || !json_get(all_keys, id))
			return -ERR_KEYID;
		node_copy(keys, id, json_get(all_keys, id));
	}
	node_integer(json_build_root(b), "threshold", (int64_t) threshold);
	r = json_build_text(b, false, &text);
	if (r >= 0)
		r = json_parse(text.data, text.len, &json_limits_default, &object);
	return r < 0 ? r : tuf_keyring_load(object, ret);
}

int role_file_check(const struct role_file *f, const struct json *delegator)
{
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	CLEANUP(json_freep)
	struct json *document = NULL;
	int r = role_keyring(delegator, f->name, &ring);

	return r < 0 ? r : tuf_envelope_open(f->bytes.data, f->bytes.len, ring, &document);
}
