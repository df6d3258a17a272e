#include "tuf/client.h"
#include "tuf/delegation.h"

#include "base/err.h"
#include "base/log.h"
#include "crypto/digest.h"
#include "json/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int target_from_entry(const char *path, const struct json *entry, const char *role, struct tuf_target *ret)
{
	const char *sha256 = json_string(json_get(json_get(entry, "hashes"), "sha256"));
	const char *sha512 = json_string(json_get(json_get(entry, "hashes"), "sha512"));
	struct tuf_target t = { .custom = json_get(entry, "custom") };
	int64_t length = 0;

	if (strlen(path) > TUF_PATH_MAX)
		return -ERR_NAME;
	(void) snprintf(t.path, sizeof(t.path), "%s", path);
	(void) snprintf(t.role, sizeof(t.role), "%s", role);
	(void) json_integer(json_get(entry, "length"), &length); /* interpreted before */
	t.length = (uint64_t) length;
	t.has_sha256 = sha256 && hex_decode(t.sha256, sizeof(t.sha256), sha256, false) >= 0;
	t.has_sha512 = sha512 && hex_decode(t.sha512, sizeof(t.sha512), sha512, false) >= 0;
	if (!t.has_sha256 && !t.has_sha512)
		return -ERR_FIELD_MISSING;
	*ret = t;
	return 0;
}

int tuf_target_file(const struct tuf_target *t, const char *targets_prefix, bool consistent, struct buf *ret)
{
	CLEANUP(buf_done)
	struct buf name = BUF_INIT(8 * 1024);
	const char *slash = strrchr(t->path, '/');
	size_t folder = slash ? (size_t) (slash - t->path) + 1 : 0;
	char hex[2 * sizeof(t->sha512) + 1];
	int r;

	if (t->has_sha256)
		hex_encode(hex, t->sha256, sizeof(t->sha256));
	else
		hex_encode(hex, t->sha512, sizeof(t->sha512));
	r = buf_add_str(&name, targets_prefix ? targets_prefix : "");
	if (r >= 0)
		r = buf_add(&name, t->path, folder);
	if (r >= 0 && consistent)
		r = buf_addf(&name, "%s.", hex);
	if (r >= 0)
		r = buf_add_str(&name, t->path + folder);
	return r < 0 ? r : buf_add(ret, name.data, name.len);
}

int tuf_target_check(const struct tuf_target *t, const void *bytes, size_t len)
{
	uint8_t sha256[SHA256_BYTES], sha512[sizeof(t->sha512)];
	int r;

	if (len != t->length)
		return -ERR_LENGTH;
	if (t->has_sha256) {
		r = sha256_of(bytes, len, sha256);
		if (r < 0)
			return r;
		if (memcmp(sha256, t->sha256, sizeof(sha256)) != 0)
			return -ERR_DIGEST;
	}
	if (t->has_sha512) {
		r = sha512_of(bytes, len, sha512);
		if (r < 0)
			return r;
		if (memcmp(sha512, t->sha512, sizeof(sha512)) != 0)
			return -ERR_DIGEST;
	}
	return 0;
}

int tuf_client_read(struct tuf_client *c, struct fetcher *f, const char *path, uint64_t max, struct buf *ret,
		    struct tuf_target *ret_target)
{
	CLEANUP(buf_done)
	struct buf name = BUF_INIT(16 * 1024);
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(SIZE_MAX - 1);
	struct tuf_target t;
	char quoted[128];
	int r;

	r = tuf_client_find(c, f, path, &t);
	if (r < 0)
		return r;
	if (t.length > max || t.length > SIZE_MAX - 1)
		return client_fail(c, -ERR_TOO_LARGE, log_quote(quoted, sizeof(quoted), path), NULL);
	bytes.max = (size_t) t.length;
	r = tuf_target_file(&t, c->options.targets_prefix, tuf_client_is_consistent(c), &name);
	if (r >= 0)
		r = fetcher_get(f, buf_str(&name), t.length, &bytes);
	if (r >= 0)
		r = tuf_target_check(&t, bytes.data, bytes.len);
	if (r >= 0)
		r = buf_add(ret, bytes.data, bytes.len);
	if (r < 0)
		return client_fail(c, r, log_quote(quoted, sizeof(quoted), path),
				   r == -ENOENT ? "not there" : NULL);
	if (ret_target)
		*ret_target = t;
	return 0;
}
