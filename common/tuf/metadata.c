#include "tuf/metadata.h"

#include "tuf/keyring.h"
#include "tuf/tuf.h"

#include "base/err.h"
#include "base/timestamp.h"
#include "crypto/digest.h"
#include "json/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SHA512_BYTES = 64, ROLES_MAX = 4096, HASHES_MAX = 16 };

static const uint64_t version_max = ((uint64_t) 1 << 53) - 1;

static const char *const type_names[] = {
	[ROLE_ROOT] = "root",
	[ROLE_TIMESTAMP] = "timestamp",
	[ROLE_SNAPSHOT] = "snapshot",
	[ROLE_TARGETS] = "targets",
};

const char *role_type_name(enum role_type type)
{
	return type_names[type];
}

bool role_is_top_level(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(type_names); i++)
		if (str_eq(type_names[i], name))
			return true;
	return false;
}

void metadata_free(struct metadata *m)
{
	if (!m)
		return;
	json_free(m->document);
	buf_done(&m->bytes);
	free(m);
}

int metadata_read(enum role_type type, const void *bytes, size_t len, struct metadata **ret)
{
	CLEANUP(metadata_freep)
	struct metadata *m = calloc(1, sizeof(*m));
	const struct json *signatures;
	int r;

	if (!m)
		return -ENOMEM;
	m->type = type;
	buf_init(&m->bytes, len);
	r = buf_add(&m->bytes, bytes, len);
	if (r < 0)
		return r;
	r = json_parse(m->bytes.data, m->bytes.len, &json_limits_default, &m->document);
	if (r < 0)
		return r;
	r = json_need(m->document, "signatures", JSON_ARRAY, &signatures);
	if (r < 0)
		return r;
	r = json_need(m->document, "signed", JSON_OBJECT, &m->body);
	if (r < 0)
		return r;
	*ret = m;
	m = NULL;
	return 0;
}

int metadata_verify(const struct metadata *m, const struct tuf_keyring *ring)
{
	return keyring_verify(ring, m->document);
}

/* "1.<minor>" or "1.<minor>.<patch>": only the major number decides. */
static int check_spec_version(const char *s)
{
	unsigned parts = 1;

	if (s[0] != '1' || s[1] != '.')
		return -ERR_SPEC_VERSION;
	for (size_t i = 1; s[i]; i++) {
		bool digit_follows = s[i + 1] >= '0' && s[i + 1] <= '9';

		if (s[i] == '.' ? !digit_follows || ++parts > 3 : s[i] < '0' || s[i] > '9')
			return -ERR_SPEC_VERSION;
	}
	return 0;
}

static int hash_size(const char *name)
{
	return str_eq(name, "sha256") ? SHA256_BYTES : str_eq(name, "sha512") ? SHA512_BYTES : 0;
}

/* {"sha256": hex, ...}: the two we know must be well-formed, and one of them must be there. */
static int check_hashes(const struct json *hashes)
{
	uint8_t digest[SHA512_BYTES];
	bool known = false;

	if (json_count(hashes) > HASHES_MAX)
		return -ERR_TOO_LARGE;
	for (size_t i = 0; i < json_count(hashes); i++) {
		const char *hex = json_string(json_at(hashes, i));
		int size = hash_size(json_name_at(hashes, i));

		if (!hex)
			return -ERR_FIELD_TYPE;
		if (size == 0)
			continue;
		known = true;
		if (hex_decode(digest, (size_t) size, hex, false) < 0)
			return -ERR_FIELD_VALUE;
	}
	return known ? 0 : -ERR_FIELD_VALUE;
}

static int check_entry(const struct json *entry)
{
	const struct json *hashes = json_get(entry, "hashes");
	uint64_t number;
	int r;

	if (!json_is(entry, JSON_OBJECT))
		return -ERR_FIELD_TYPE;
	r = json_need_u64(entry, "version", 1, version_max, &number);
	if (r < 0)
		return r;
	r = json_optional_u64(entry, "length", 1, version_max, &number);
	if (r < 0 || !hashes)
		return r;
	return json_is(hashes, JSON_OBJECT) ? check_hashes(hashes) : -ERR_FIELD_TYPE;
}

static int interpret_root(const struct json *body, bool foreign)
{
	const struct json *keys, *roles;
	bool consistent = false;
	int r;

	r = json_optional_bool(body, "consistent_snapshot", &consistent);
	if (r < 0)
		return r;
	r = json_need(body, "keys", JSON_OBJECT, &keys);
	if (r < 0)
		return r;
	r = keyring_check_keys(keys, foreign);
	if (r < 0)
		return r;
	r = json_need(body, "roles", JSON_OBJECT, &roles);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_LEN(type_names); i++) {
		const struct json *role;

		r = json_need(roles, type_names[i], JSON_OBJECT, &role);
		if (r < 0)
			return r;
		r = keyring_check_role(role);
		if (r < 0)
			return r;
	}
	return 0;
}

static int interpret_timestamp(struct metadata *m)
{
	const struct json *meta, *entry;
	const char *issued = NULL;
	int r;

	r = json_need(m->body, "meta", JSON_OBJECT, &meta);
	if (r < 0)
		return r;
	r = json_need(meta, "snapshot.json", JSON_OBJECT, &entry);
	if (r < 0)
		return r;
	r = check_entry(entry);
	if (r < 0)
		return r;
	r = json_optional_string(m->body, "x-issued", &issued);
	if (r < 0)
		return r;
	if (issued && timestamp_parse(issued, &m->issued) < 0)
		return -ERR_FIELD_VALUE;
	return 0;
}

static int interpret_snapshot(const struct json *body)
{
	const struct json *meta, *entry;
	int r;

	r = json_need(body, "meta", JSON_OBJECT, &meta);
	if (r < 0)
		return r;
	for (size_t i = 0; i < json_count(meta); i++) {
		r = check_entry(json_at(meta, i));
		if (r < 0)
			return r;
	}
	return json_need(meta, "targets.json", JSON_OBJECT, &entry);
}

static int check_strings(const struct json *array)
{
	if (!json_is(array, JSON_ARRAY))
		return -ERR_FIELD_TYPE;
	for (size_t i = 0; i < json_count(array); i++)
		if (!json_string(json_at(array, i)))
			return -ERR_FIELD_TYPE;
	return 0;
}

static int check_delegated_role(const struct json *roles, size_t index)
{
	const struct json *role = json_at(roles, index);
	const struct json *paths = json_get(role, "paths"), *prefixes = json_get(role, "path_hash_prefixes");
	bool terminating = false;
	const char *name;
	int r;

	r = keyring_check_role(role);
	if (r < 0)
		return r;
	r = json_need_string(role, "name", &name);
	if (r < 0)
		return r;
	if (!*name || strlen(name) > TUF_ROLE_NAME_MAX || role_is_top_level(name))
		return -ERR_NAME;
	for (size_t i = 0; i < index; i++)
		if (str_eq(name, json_string(json_get(json_at(roles, i), "name"))))
			return -ERR_DUPLICATE_NAME;
	r = json_optional_bool(role, "terminating", &terminating);
	if (r < 0)
		return r;
	if (!paths == !prefixes)
		return paths ? -ERR_FIELD_VALUE : -ERR_FIELD_MISSING;
	return check_strings(paths ? paths : prefixes);
}

static int check_succinct(const struct json *succinct)
{
	const char *prefix;
	uint64_t bits;
	int r;

	r = keyring_check_role(succinct);
	if (r < 0)
		return r;
	r = json_need_u64(succinct, "bit_length", 1, 32, &bits);
	if (r < 0)
		return r;
	r = json_need_string(succinct, "name_prefix", &prefix);
	if (r < 0)
		return r;
	return *prefix && strlen(prefix) <= TUF_ROLE_NAME_MAX - sizeof("-00000000") + 1 ? 0 : -ERR_NAME;
}

static int check_delegations(const struct json *delegations, bool foreign)
{
	const struct json *keys, *roles, *succinct;
	int r;

	if (!json_is(delegations, JSON_OBJECT))
		return -ERR_FIELD_TYPE;
	r = json_need(delegations, "keys", JSON_OBJECT, &keys);
	if (r < 0)
		return r;
	r = keyring_check_keys(keys, foreign);
	if (r < 0)
		return r;
	roles = json_get(delegations, "roles");
	succinct = json_get(delegations, "succinct_roles");
	if (!roles == !succinct)
		return roles ? -ERR_FIELD_VALUE : -ERR_FIELD_MISSING;
	if (succinct)
		return check_succinct(succinct);
	if (!json_is(roles, JSON_ARRAY))
		return -ERR_FIELD_TYPE;
	if (json_count(roles) > ROLES_MAX)
		return -ERR_TOO_LARGE;
	for (size_t i = 0; i < json_count(roles); i++) {
		r = check_delegated_role(roles, i);
		if (r < 0)
			return r;
	}
	return 0;
}

static int interpret_targets(const struct json *body, bool foreign)
{
	const struct json *targets, *delegations = json_get(body, "delegations");
	int r;

	r = json_need(body, "targets", JSON_OBJECT, &targets);
	if (r < 0)
		return r;
	for (size_t i = 0; i < json_count(targets); i++) {
		const struct json *target = json_at(targets, i), *hashes;
		uint64_t length;

		if (!json_is(target, JSON_OBJECT))
			return -ERR_FIELD_TYPE;
		r = json_need_u64(target, "length", 0, version_max, &length);
		if (r < 0)
			return r;
		r = json_need(target, "hashes", JSON_OBJECT, &hashes);
		if (r < 0)
			return r;
		r = check_hashes(hashes);
		if (r < 0)
			return r;
	}
	return delegations ? check_delegations(delegations, foreign) : 0;
}

int metadata_interpret(struct metadata *m, bool foreign)
{
	const char *type, *spec_version, *expires;
	int r;

	r = json_need_string(m->body, "_type", &type);
	if (r < 0)
		return r;
	if (!str_eq(type, type_names[m->type]))
		return -ERR_FIELD_VALUE;
	r = json_need_string(m->body, "spec_version", &spec_version);
	if (r < 0)
		return r;
	r = check_spec_version(spec_version);
	if (r < 0)
		return r;
	r = json_need_u64(m->body, "version", 1, version_max, &m->version);
	if (r < 0)
		return r;
	r = json_need_string(m->body, "expires", &expires);
	if (r < 0)
		return r;
	if (timestamp_parse(expires, &m->expires) < 0)
		return -ERR_FIELD_VALUE;

	switch (m->type) {
	case ROLE_ROOT:
		return interpret_root(m->body, foreign);
	case ROLE_TIMESTAMP:
		return interpret_timestamp(m);
	case ROLE_SNAPSHOT:
		return interpret_snapshot(m->body);
	case ROLE_TARGETS:
		break;
	}
	return interpret_targets(m->body, foreign);
}

int metadata_accept(enum role_type type, const void *bytes, size_t len, const struct tuf_keyring *ring,
		    bool foreign, struct metadata **ret)
{
	CLEANUP(metadata_freep)
	struct metadata *m = NULL;
	int r;

	r = metadata_read(type, bytes, len, &m);
	if (r < 0)
		return r;
	r = metadata_verify(m, ring);
	if (r < 0)
		return r;
	r = metadata_interpret(m, foreign);
	if (r < 0)
		return r;
	*ret = m;
	m = NULL;
	return 0;
}

int metadata_accept_root(const void *bytes, size_t len, bool foreign, struct metadata **ret)
{
	CLEANUP(metadata_freep)
	struct metadata *m = NULL;
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	int r;

	r = metadata_read(ROLE_ROOT, bytes, len, &m);
	if (r < 0)
		return r;
	r = metadata_interpret(m, foreign);
	if (r < 0)
		return r;
	r = metadata_ring(m, ROLE_ROOT, &ring);
	if (r < 0)
		return r;
	r = metadata_verify(m, ring);
	if (r < 0)
		return r;
	*ret = m;
	m = NULL;
	return 0;
}

int metadata_ring(const struct metadata *root, enum role_type type, struct tuf_keyring **ret)
{
	return keyring_of_role(json_get(root->body, "keys"),
			       json_get(json_get(root->body, "roles"), type_names[type]), ret);
}

const struct json *metadata_entry(const struct metadata *m, const char *role)
{
	char name[TUF_ROLE_NAME_MAX + sizeof(".json")];
	size_t len = strlen(role);

	if (len > TUF_ROLE_NAME_MAX)
		return NULL;
	memcpy(name, role, len);
	memcpy(name + len, ".json", sizeof(".json"));
	return json_get(json_get(m->body, "meta"), name);
}

uint64_t entry_version(const struct json *entry)
{
	int64_t version = 0;

	(void) json_integer(json_get(entry, "version"),
			    &version); /* interpreted before: it is there and positive */
	return (uint64_t) version;
}

uint64_t entry_length(const struct json *entry, uint64_t otherwise)
{
	int64_t length;

	return json_integer(json_get(entry, "length"), &length) ? (uint64_t) length : otherwise;
}

static int check_digest(const struct json *hex, size_t size, const void *bytes, size_t len)
{
	uint8_t want[SHA512_BYTES], have[SHA512_BYTES];
	int r;

	if (!hex)
		return 0;
	r = hex_decode(want, size, json_string(hex), false);
	if (r < 0)
		return r;
	r = size == SHA256_BYTES ? sha256_of(bytes, len, have) : sha512_of(bytes, len, have);
	if (r < 0)
		return r;
	return memcmp(want, have, size) == 0 ? 0 : -ERR_DIGEST;
}

int entry_check_bytes(const struct json *entry, const void *bytes, size_t len)
{
	const struct json *hashes = json_get(entry, "hashes");
	int r;

	if (entry_length(entry, len) != len)
		return -ERR_LENGTH;
	r = check_digest(json_get(hashes, "sha256"), SHA256_BYTES, bytes, len);
	return r < 0 ? r : check_digest(json_get(hashes, "sha512"), SHA512_BYTES, bytes, len);
}

bool entry_is(const struct json *entry, const struct metadata *m)
{
	return entry && m->version == entry_version(entry) &&
	       entry_check_bytes(entry, m->bytes.data, m->bytes.len) == 0;
}
