#include "tuf/tuf.h"

#include "tuf/keyring.h"

#include "base/err.h"
#include "crypto/key.h"
#include "json/build.h"
#include "json/json.h"

#include <errno.h>
#include <stdlib.h>

enum { PEM_MAX = 8 * 1024, SIGNATURE_MAX = 1024 };

int tuf_envelope_open(const void *bytes, size_t len, const struct tuf_keyring *k, struct json **ret)
{
	CLEANUP(json_freep)
	struct json *document = NULL;
	int r;

	r = json_parse(bytes, len, &json_limits_default, &document);
	if (r < 0)
		return r;
	r = keyring_verify(k, document);
	if (r < 0)
		return r;
	*ret = document;
	document = NULL;
	return 0;
}

static int add_signature(struct json_node *signatures, const struct private_key *key, const struct buf *message)
{
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(PEM_MAX);
	CLEANUP(buf_done)
	struct buf described = BUF_INIT(PEM_MAX);
	CLEANUP(buf_done)
	struct buf sig = BUF_INIT(SIGNATURE_MAX);
	struct json_node *entry;
	char keyid[SHA256_HEX + 1], hex[2 * SIGNATURE_MAX + 1];
	int r;

	r = private_key_public_pem(key, &pem);
	if (r < 0)
		return r;
	r = tuf_key_describe(buf_str(&pem), &described, keyid);
	if (r < 0)
		return r;
	r = private_key_sign(key, message->data, message->len, &sig);
	if (r < 0)
		return r;
	hex_encode(hex, sig.data, sig.len);
	entry = node_object(signatures, NULL);
	node_string(entry, "keyid", keyid);
	node_string(entry, "sig", hex);
	return 0;
}

int tuf_envelope_sign(const struct json *signed_object, const struct private_key *const *keys, size_t key_count,
		      struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf canonical = BUF_INIT(json_limits_default.max_bytes);
	struct json_node *signatures;
	int r;

	if (!json_is(signed_object, JSON_OBJECT))
		return -ERR_FIELD_TYPE;
	r = json_canonical(signed_object, &canonical);
	if (r < 0)
		return r;
	signatures = node_array(json_build_root(b), "signatures");
	for (size_t i = 0; i < key_count; i++) {
		r = add_signature(signatures, keys[i], &canonical);
		if (r < 0)
			return r;
	}
	node_copy(json_build_root(b), "signed", signed_object);
	return json_build_text(b, false, out);
}
