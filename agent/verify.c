#include "agent/verify.h"

#include "agent/store/generation.h"
#include "agent/store/seal.h"
#include "agent/store/store.h"
#include "base/err.h"
#include "json/json.h"
#include "model/release.h"
#include "os/durable.h"
#include "os/os.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct verifying {
	const struct os *os;
	const struct store_dirs *dirs;
	struct generation current;
	const char *version; /* only this one; NULL: all */
	void (*each)(void *user, const struct verified_tree *t);
	void *user;
	size_t count;
};

/* The digest its team signed, from the manifest kept beside the store. False: it is not there, or nobody's. */
static bool signed_digest(const struct verifying *v, const char *component, const char *version,
			  uint8_t ret[static SHA256_BYTES])
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(RELEASE_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct release release = { 0 };
	char name[ID_MAX + VERSION_MAX + 32];
	int r;

	(void) snprintf(name, sizeof(name), "manifests/%s/%s.json", component, version);
	r = file_read(v->os, v->dirs->root, name, RELEASE_MAX_BYTES, &bytes);
	if (r == 0)
		r = json_parse(bytes.data, bytes.len, &json_limits_default, &doc);
	if (r == 0)
		r = release_parse(doc, &release, NULL);
	if (r < 0)
		return false;
	memcpy(ret, release.tree_digest, SHA256_BYTES);
	release_done(&release);
	return true;
}

static void verify_one(struct verifying *v, const char *component, const char *version)
{
	struct verified_tree t = { .result = 0 };
	uint8_t digest[SHA256_BYTES];
	char *offender = NULL;

	(void) snprintf(t.component, sizeof(t.component), "%s", component);
	(void) snprintf(t.version, sizeof(t.version), "%s", version);
	t.current = str_eq(generation_version(&v->current, component), version);
	t.by_manifest = signed_digest(v, component, version, digest);
	t.result =
		seal_verify(v->os, v->dirs->store, component, version, t.by_manifest ? digest : NULL, &offender);
	(void) snprintf(t.offender, sizeof(t.offender), "%s", offender ? offender : ""); /* a longer path is cut */
	free(offender);
	v->count++;
	v->each(v->user, &t);
}

/* A version stands there by its tree or by its record: where one is missing, that is what is wrong. */
static bool version_of(const char *name, char out[static VERSION_MAX + 1])
{
	size_t len = strlen(name);

	if (len > 5 && strcmp(name + len - 5, ".seal") == 0)
		len -= 5;
	if (len > VERSION_MAX)
		return false;
	(void) snprintf(out, VERSION_MAX + 1, "%.*s", (int) len, name);
	return version_is_valid(out);
}

static int verify_component(struct verifying *v, const char *component)
{
	CLEANUP(name_list_done)
	struct name_list names = { NULL, 0 };
	char last[VERSION_MAX + 1] = "", version[VERSION_MAX + 1];
	int r = dir_list(v->os, v->dirs->store, component, &names);

	if (r < 0)
		return r;
	for (size_t i = 0; i < names.count; i++) {
		/* Sorted: a record follows its tree. */
		if (!version_of(names.names[i], version) || str_eq(version, last))
			continue;
		memcpy(last, version, sizeof(last));
		if (!v->version || str_eq(v->version, version))
			verify_one(v, component, version);
	}
	return 0;
}

int verify_trees(const char *root, const char *component, const char *version,
		 void (*each)(void *user, const struct verified_tree *t), void *user)
{
	CLEANUP(store_freep)
	struct store *store = NULL;
	CLEANUP(name_list_done)
	struct name_list names = { NULL, 0 };
	struct verifying v = { .os = &os_posix, .version = version, .each = each, .user = user };
	uint64_t number = 0;
	int r = store_inspect(&os_posix, root, &store);

	if (r < 0)
		return r;
	v.dirs = store_dirs(store);
	if (v.dirs->store < 0)
		return -ENOENT;
	if (generation_current(v.os, v.dirs->root, &number) < 0 ||
	    generation_read(v.os, v.dirs->generations, number, &v.current) < 0)
		v.current.count = 0; /* nothing is current, or recover has work to do */
	r = dir_list(v.os, v.dirs->store, ".", &names);
	for (size_t i = 0; r == 0 && i < names.count; i++)
		if (guard_id(names.names[i]) && (!component || str_eq(component, names.names[i])))
			r = verify_component(&v, names.names[i]);
	return r < 0 ? r : v.count ? 0 : -ENOENT;
}
