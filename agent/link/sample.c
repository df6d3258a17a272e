#include "agent/link/sample.h"

#include "base/err.h"
#include "base/text.h"
#include "crypto/digest.h"
#include "json/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
	FILE_MAX = 4 * 1024 * 1024,
	ROLES_MAX = 64, /* looked at, of all there are, */
	RELEASES_MAX = 8, /* and of each, from its end */
	HEX_LEN = 64,
};

static const struct json_limits limits = { FILE_MAX, 32, 100000 };

/* The roles that name no releases. */
static bool is_of_a_team(const char *file)
{
	static const char *const others[] = { "targets.json", "rollouts.json", "support.json", "inventory.json" };
	size_t len = strlen(file);

	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		if (strcmp(file, others[i]) == 0)
			return false;
	return len > 5 && strcmp(file + len - 5, ".json") == 0;
}

/* `entry` is what names the file; a hash is not always there. */
static int get(struct fetcher *f, const struct json *entry, struct sample *s, struct json **ret)
{
	const char *wanted = json_string(json_get(json_get(entry, "hashes"), "sha256"));
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(FILE_MAX);
	char hex[SHA256_HEX + 1];
	int r;

	if (!guard_path(s->name))
		return -ERR_NAME;
	r = fetcher_get(f, s->name, FILE_MAX, &text);
	if (r == 0)
		r = sha256_hex(text.data, text.len, hex);
	if (r < 0)
		return r;
	if (wanted && strcmp(hex, wanted) != 0)
		return -ERR_DIGEST;
	return json_parse(text.data, text.len, &limits, ret);
}

static int get_role(struct fetcher *f, const struct json *entry, const char *file, struct sample *s,
		    struct json **ret)
{
	int64_t version;

	(void) snprintf(s->name, sizeof(s->name), "metadata/%.200s", file); /* so far, if it has no version */
	if (!json_integer(json_get(entry, "version"), &version) || version < 1)
		return -ERR_SYNTAX;
	(void) snprintf(s->name, sizeof(s->name), "metadata/%" PRId64 ".%.200s", version, file);
	return get(f, entry, s, ret);
}

/* "targets/<dir>/<sha256>.<base>" */
static int name_target(const char *path, const char *sha256, struct sample *s)
{
	const char *slash = strrchr(path, '/');

	if (!slash || !sha256 || strlen(sha256) != HEX_LEN || strlen(path) > 1000)
		return -ERR_SYNTAX;
	(void) snprintf(s->name, sizeof(s->name), "targets/%.*s/%s.%s", (int) (slash - path), path, sha256,
			slash + 1);
	return 0;
}

static int find_artifact(const struct json *release, struct sample *s)
{
	const struct json *artifact = json_at(json_get(release, "artifacts"), 0);
	const char *path = json_string(json_get(artifact, "path"));
	int64_t length;
	int r;

	if (!artifact)
		return -ENODATA;
	if (!path || !json_integer(json_get(artifact, "length"), &length) || length < 0)
		return -ERR_SYNTAX;
	s->length = (uint64_t) length;
	r = name_target(path, json_string(json_get(artifact, "sha256")), s);
	return r == 0 && !guard_path(s->name) ? -ERR_NAME : r;
}

static int find_in_role(struct fetcher *f, const struct json *role, struct sample *s)
{
	static const char tail[] = "/release.json";
	const struct json *targets = json_get(json_get(role, "signed"), "targets");

	size_t looked = 0;

	for (size_t i = json_count(targets); i > 0 && looked < RELEASES_MAX; i--) {
		const char *path = json_name_at(targets, i - 1);
		const struct json *entry = json_at(targets, i - 1);
		CLEANUP(json_freep)
		struct json *release = NULL;
		size_t len = path ? strlen(path) : 0;
		int r;

		if (len < sizeof(tail) || strcmp(path + len - (sizeof(tail) - 1), tail) != 0)
			continue;
		looked++;
		r = name_target(path, json_string(json_get(json_get(entry, "hashes"), "sha256")), s);
		if (r == 0)
			r = get(f, entry, s, &release);
		if (r == 0)
			r = find_artifact(release, s);
		if (r != -ENODATA)
			return r;
	}
	return -ENODATA;
}

int sample_find(struct fetcher *f, const void *timestamp, size_t len, struct sample *ret)
{
	CLEANUP(json_freep)
	struct json *stamp = NULL;
	CLEANUP(json_freep)
	struct json *snapshot = NULL;
	const struct json *meta;
	size_t looked = 0;
	int r;

	(void) snprintf(ret->name, sizeof(ret->name), "metadata/timestamp.json");
	r = json_parse(timestamp, len, &limits, &stamp);
	if (r < 0)
		return r;
	r = get_role(f, json_get(json_get(json_get(stamp, "signed"), "meta"), "snapshot.json"), "snapshot.json",
		     ret, &snapshot);
	if (r < 0)
		return r;
	meta = json_get(json_get(snapshot, "signed"), "meta");
	for (size_t i = 0; i < json_count(meta) && looked < ROLES_MAX; i++) {
		CLEANUP(json_freep)
		struct json *role = NULL;
		const char *file = json_name_at(meta, i);

		if (!file || !is_of_a_team(file))
			continue;
		looked++;
		r = get_role(f, json_at(meta, i), file, ret, &role);
		if (r == 0)
			r = find_in_role(f, role, ret);
		if (r != -ENODATA)
			return r;
	}
	return -ENODATA;
}
