#include "tuf/keyring.h"

#include "tuf/tuf.h"

#include "base/err.h"
#include "crypto/digest.h"
#include "crypto/key.h"
#include "json/build.h"
#include "json/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_BYTES_MAX = 16 * 1024, SIGNATURE_BYTES_MAX = 1024 };

struct key {
	char id[SHA256_HEX + 1];
	struct public_key *key;
	uint8_t identity[SHA256_BYTES]; /* of the key itself: the same key under two ids counts once */
};

struct tuf_keyring {
	struct key *keys;
	size_t count;
	unsigned threshold;
};

void tuf_keyring_free(struct tuf_keyring *k)
{
	if (!k)
		return;
	for (size_t i = 0; i < k->count; i++)
		public_key_free(k->keys[i].key);
	free(k->keys);
	free(k);
}

unsigned tuf_keyring_threshold(const struct tuf_keyring *k)
{
	return k->threshold;
}

/* The canonical form of the key's members that carry meaning, whatever else stands beside them. */
static int canonical_core(const struct json *key, struct buf *out)
{
	int r;

	r = buf_add_str(out, "{\"keytype\":");
	if (r >= 0)
		r = json_canonical(json_get(key, "keytype"), out);
	if (r >= 0)
		r = buf_add_str(out, ",\"keyval\":{\"public\":");
	if (r >= 0)
		r = json_canonical(json_get(json_get(key, "keyval"), "public"), out);
	if (r >= 0)
		r = buf_add_str(out, "},\"scheme\":");
	if (r >= 0)
		r = json_canonical(json_get(key, "scheme"), out);
	if (r >= 0)
		r = buf_add_str(out, "}");
	return r;
}

static int check_id(const struct json *key, const char *id, bool foreign)
{
	CLEANUP(buf_done)
	struct buf canonical = BUF_INIT(KEY_BYTES_MAX);
	char hex[SHA256_HEX + 1];
	int r;

	r = json_canonical(key, &canonical);
	if (r < 0)
		return r;
	r = sha256_hex(canonical.data, canonical.len, hex);
	if (r < 0)
		return r;
	if (str_eq(hex, id))
		return 0;
	if (!foreign)
		return -ERR_KEYID;

	buf_clear(&canonical);
	r = canonical_core(key, &canonical);
	if (r < 0)
		return r;
	r = sha256_hex(canonical.data, canonical.len, hex);
	if (r < 0)
		return r;
	return str_eq(hex, id) ? 0 : -ERR_KEYID;
}

static int check_key(const struct json *key, const char *id, bool foreign)
{
	const struct json *value;
	const char *text;
	int r;

	if (!json_is(key, JSON_OBJECT))
		return -ERR_FIELD_TYPE;
	r = json_need_string(key, "keytype", &text);
	if (r < 0)
		return r;
	r = json_need_string(key, "scheme", &text);
	if (r < 0)
		return r;
	r = json_need(key, "keyval", JSON_OBJECT, &value);
	if (r < 0)
		return r;
	r = json_need_string(value, "public", &text);
	if (r < 0)
		return r;
	return check_id(key, id, foreign);
}

int keyring_check_keys(const struct json *keys, bool foreign)
{
	int r;

	if (!json_is(keys, JSON_OBJECT))
		return -ERR_FIELD_TYPE;
	if (json_count(keys) > KEYRING_KEYS_MAX)
		return -ERR_TOO_LARGE;
	for (size_t i = 0; i < json_count(keys); i++) {
		r = check_key(json_at(keys, i), json_name_at(keys, i), foreign);
		if (r < 0)
			return r;
	}
	return 0;
}

int keyring_check_role(const struct json *role)
{
	const struct json *ids;
	uint64_t threshold;
	int r;

	if (!json_is(role, JSON_OBJECT))
		return -ERR_FIELD_TYPE;
	r = json_need(role, "keyids", JSON_ARRAY, &ids);
	if (r < 0)
		return r;
	if (json_count(ids) > KEYRING_KEYS_MAX)
		return -ERR_TOO_LARGE;
	for (size_t i = 0; i < json_count(ids); i++) {
		const char *id = json_string(json_at(ids, i));

		if (!id)
			return -ERR_FIELD_TYPE;
		for (size_t k = 0; k < i; k++)
			if (str_eq(id, json_string(json_at(ids, k))))
				return -ERR_DUPLICATE_NAME;
	}
	return json_need_u64(role, "threshold", 1, KEYRING_KEYS_MAX, &threshold);
}

/* A key that cannot be used is left out: its scheme may be one that a newer program takes. */
static int add_key(struct tuf_keyring *ring, const char *id, const struct json *key)
{
	struct key *slot = &ring->keys[ring->count];
	const char *type = json_string(json_get(key, "keytype"));
	const char *scheme = json_string(json_get(key, "scheme"));
	const char *text = json_string(json_get(json_get(key, "keyval"), "public"));
	int r;

	if (!type || !scheme || !text || strlen(id) != SHA256_HEX)
		return 0;
	r = public_key_load(type, scheme, text, &slot->key);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		return 0;
	r = public_key_identity(slot->key, slot->identity);
	if (r < 0) {
		public_key_free(slot->key);
		slot->key = NULL;
		return r == -ENOMEM ? r : 0;
	}
	memcpy(slot->id, id, SHA256_HEX + 1);
	ring->count++;
	return 0;
}

static int ring_new(size_t room, uint64_t threshold, struct tuf_keyring **ret)
{
	struct tuf_keyring *ring = calloc(1, sizeof(*ring));

	if (!ring)
		return -ENOMEM;
	ring->keys = calloc(room ? room : 1, sizeof(*ring->keys));
	if (!ring->keys) {
		free(ring);
		return -ENOMEM;
	}
	ring->threshold = (unsigned) threshold;
	*ret = ring;
	return 0;
}

int keyring_of_role(const struct json *keys, const struct json *role, struct tuf_keyring **ret)
{
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	const struct json *ids = json_get(role, "keyids");
	uint64_t threshold;
	int r;

	r = json_need_u64(role, "threshold", 1, KEYRING_KEYS_MAX, &threshold);
	if (r < 0)
		return r;
	r = ring_new(json_count(ids), threshold, &ring);
	if (r < 0)
		return r;
	for (size_t i = 0; i < json_count(ids); i++) {
		const char *id = json_string(json_at(ids, i));

		r = id ? add_key(ring, id, json_get(keys, id)) : -ERR_FIELD_TYPE;
		if (r < 0)
			return r;
	}
	*ret = ring;
	ring = NULL;
	return 0;
}

int tuf_keyring_load(const struct json *object, struct tuf_keyring **ret)
{
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	const struct json *keys;
	uint64_t threshold;
	int r;

	if (!json_is(object, JSON_OBJECT))
		return -ERR_FIELD_TYPE;
	r = json_need(object, "keys", JSON_OBJECT, &keys);
	if (r < 0)
		return r;
	r = keyring_check_keys(keys, false);
	if (r < 0)
		return r;
	if (json_get(object, "keyids")) {
		r = keyring_check_role(object);
		return r < 0 ? r : keyring_of_role(keys, object, ret);
	}

	r = json_need_u64(object, "threshold", 1, KEYRING_KEYS_MAX, &threshold);
	if (r < 0)
		return r;
	r = ring_new(json_count(keys), threshold, &ring);
	if (r < 0)
		return r;
	for (size_t i = 0; i < json_count(keys); i++) {
		r = add_key(ring, json_name_at(keys, i), json_at(keys, i));
		if (r < 0)
			return r;
	}
	*ret = ring;
	ring = NULL;
	return 0;
}

int tuf_key_describe(const char *public_pem, struct buf *ret_json, char ret_keyid[static SHA256_HEX + 1])
{
	CLEANUP(public_key_freep)
	struct public_key *key = NULL;
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf canonical = BUF_INIT(KEY_BYTES_MAX);
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(KEY_BYTES_MAX);
	struct json_node *o = json_build_root(b);
	char id[SHA256_HEX + 1];
	int r;

	r = public_key_load("ecdsa", "ecdsa-sha2-nistp256", public_pem, &key);
	if (r < 0)
		return r;
	node_string(o, "keytype", "ecdsa");
	node_string(node_object(o, "keyval"), "public", public_pem);
	node_string(o, "scheme", "ecdsa-sha2-nistp256");
	r = json_build_canonical(b, &canonical);
	if (r < 0)
		return r;
	r = sha256_hex(canonical.data, canonical.len, id);
	if (r < 0)
		return r;
	r = json_build_text(b, false, &text);
	if (r < 0)
		return r;
	r = buf_add(ret_json, text.data, text.len);
	if (r < 0)
		return r;
	memcpy(ret_keyid, id, sizeof(id));
	return 0;
}

int tuf_keyring_single(const char *public_pem, struct tuf_keyring **ret)
{
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(KEY_BYTES_MAX);
	int r;

	r = ring_new(1, 1, &ring);
	if (r < 0)
		return r;
	r = tuf_key_describe(public_pem, &text, ring->keys[0].id);
	if (r < 0)
		return r;
	r = public_key_load("ecdsa", "ecdsa-sha2-nistp256", public_pem, &ring->keys[0].key);
	if (r < 0)
		return r;
	ring->count = 1;
	r = public_key_identity(ring->keys[0].key, ring->keys[0].identity);
	if (r < 0)
		return r;
	*ret = ring;
	ring = NULL;
	return 0;
}

static const struct key *find_key(const struct tuf_keyring *k, const char *id)
{
	for (size_t i = 0; i < k->count; i++)
		if (strcmp(k->keys[i].id, id) == 0)
			return &k->keys[i];
	return NULL;
}

/* An odd signature is one that does not verify; only a lack of memory is told apart. */
static int signature_holds(const struct key *key, const char *hex, const void *message, size_t len)
{
	CLEANUP(buf_done)
	struct buf sig = BUF_INIT(SIGNATURE_BYTES_MAX);
	int r;

	r = hex_decode_buf(&sig, hex);
	if (r < 0 || sig.len == 0)
		return r == -ENOMEM ? r : 0;
	r = public_key_verify(key->key, message, len, sig.data, sig.len);
	return r == -ENOMEM ? r : r == 0;
}

static bool key_is_new(const struct key *const *seen, size_t count, const struct key *key)
{
	for (size_t i = 0; i < count; i++)
		if (memcmp(seen[i]->identity, key->identity, SHA256_BYTES) == 0)
			return false;
	return true;
}

static int refuse_doubled_ids(const struct json *signatures)
{
	for (size_t i = 0; i < json_count(signatures); i++) {
		const char *id = json_string(json_get(json_at(signatures, i), "keyid"));

		for (size_t k = 0; id && k < i; k++)
			if (str_eq(id, json_string(json_get(json_at(signatures, k), "keyid"))))
				return -ERR_SYNTAX;
	}
	return 0;
}

int tuf_keyring_count(const struct tuf_keyring *k, const struct json *signatures, const void *message, size_t len,
		      unsigned *ret_valid)
{
	const struct key *seen[KEYRING_SIGNATURES_MAX];
	size_t valid = 0;
	int r;

	if (!json_is(signatures, JSON_ARRAY))
		return -ERR_SYNTAX;
	if (json_count(signatures) > KEYRING_SIGNATURES_MAX)
		return -ERR_TOO_LARGE;
	r = refuse_doubled_ids(signatures);
	if (r < 0)
		return r;

	for (size_t i = 0; i < json_count(signatures); i++) {
		const char *id = json_string(json_get(json_at(signatures, i), "keyid"));
		const char *hex = json_string(json_get(json_at(signatures, i), "sig"));
		const struct key *key = id ? find_key(k, id) : NULL;

		if (!key || !hex || !key_is_new(seen, valid, key))
			continue;
		r = signature_holds(key, hex, message, len);
		if (r < 0)
			return r;
		if (r > 0)
			seen[valid++] = key;
	}
	*ret_valid = (unsigned) valid;
	return 0;
}

int keyring_verify(const struct tuf_keyring *k, const struct json *document)
{
	CLEANUP(buf_done)
	struct buf canonical = BUF_INIT(json_limits_default.max_bytes);
	const struct json *signed_part, *signatures;
	unsigned valid = 0;
	int r;

	r = json_need(document, "signed", JSON_OBJECT, &signed_part);
	if (r < 0)
		return r;
	r = json_need(document, "signatures", JSON_ARRAY, &signatures);
	if (r < 0)
		return r;
	r = json_canonical(signed_part, &canonical);
	if (r < 0)
		return r;
	r = tuf_keyring_count(k, signatures, canonical.data, canonical.len, &valid);
	if (r < 0)
		return r;
	return valid >= k->threshold ? 0 : -ERR_THRESHOLD;
}
