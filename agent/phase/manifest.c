#include "agent/phase/manifest.h"

#include "agent/phase/node.h"
#include "agent/store/seal.h"
#include "base/err.h"
#include "json/json.h"
#include "os/durable.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int manifest_open_dir(struct node *n, const char *component)
{
	int r;

	if (!guard_id(component))
		return -ERR_NAME;
	r = durable_mkdir(n->os, n->manifests_fd, component, 0755);
	return r < 0 ? r : dir_open(n->os, n->manifests_fd, component);
}

static int parse_manifest(const void *bytes, size_t len, struct release *ret)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	int r = json_parse(bytes, len, &json_limits_default, &doc);

	return r < 0 ? r : release_parse(doc, ret, NULL);
}

int manifest_load(struct node *n, const char *component, const char *version, struct release *ret)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(RELEASE_MAX_BYTES);
	char name[VERSION_MAX + 8];
	int fd, r;

	if (!version_is_valid(version))
		return -ENOENT;
	fd = manifest_open_dir(n, component);
	if (fd < 0)
		return fd;
	(void) snprintf(name, sizeof(name), "%s.json", version);
	r = file_read(n->os, fd, name, RELEASE_MAX_BYTES, &bytes);
	(void) n->os->close(n->os, fd); /* read only */
	return r < 0 ? r : parse_manifest(bytes.data, bytes.len, ret);
}

int manifest_keep(struct node *n, const char *component, const char *version, const void *bytes, size_t len)
{
	char name[VERSION_MAX + 8];
	int fd, r;

	if (!version_is_valid(version))
		return -ERR_NAME;
	fd = manifest_open_dir(n, component);
	if (fd < 0)
		return fd;
	(void) snprintf(name, sizeof(name), "%s.json", version);
	r = durable_write_file(n->os, fd, name, bytes, len, 0644);
	(void) n->os->close(n->os, fd); /* the write was synced on its own */
	return r;
}

/* Its tree is not there yet. */
static bool is_wanted(struct node *n, const char *component, const char *version)
{
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		if (str_eq(p.component, component) && str_eq(p.to, version))
			return true;
	}
	return false;
}

static void manifest_collect_component(struct node *n, const char *component)
{
	struct name_list names = { 0 };
	int fd = manifest_open_dir(n, component);

	if (fd < 0)
		return;
	if (dir_list(n->os, fd, ".", &names) < 0)
		names.count = 0;
	for (size_t i = 0; i < names.count; i++) {
		char version[VERSION_MAX + 1];
		size_t len = strlen(names.names[i]);
		uint8_t digest[SHA256_BYTES];

		/* What a power cut left of manifest_keep(): whoever wakes up writes it anew. */
		if (names.names[i][0] == '.' && len > 8 && str_eq(names.names[i] + len - 8, ".pending"))
			(void) n->os->unlinkat(n->os, fd, names.names[i], 0); /* tried again the next time */
		if (len <= 5 || len - 5 > VERSION_MAX || strcmp(names.names[i] + len - 5, ".json") != 0)
			continue;
		(void) snprintf(version, sizeof(version), "%.*s", (int) (len - 5), names.names[i]);
		if (is_wanted(n, component, version))
			continue;
		if (seal_digest(n->os, n->dirs->store, component, version, digest) == -ENOENT)
			(void) n->os->unlinkat(n->os, fd, names.names[i], 0); /* one that stays costs a few KiB */
	}
	name_list_done(&names);
	(void) n->os->close(n->os, fd); /* what stays is removed the next time */
}

void manifest_collect(struct node *n)
{
	struct name_list names = { 0 };

	if (dir_list(n->os, n->manifests_fd, ".", &names) < 0)
		return;
	for (size_t i = 0; i < names.count; i++)
		manifest_collect_component(n, names.names[i]);
	name_list_done(&names);
}
