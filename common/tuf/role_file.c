#include "tuf/delegation.h"

#include "tuf/client.h"
#include "tuf/keyring.h"

#include "base/err.h"
#include "base/text.h"
#include "json/json.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static int role_file_of(struct tuf_client *c, const char *name, struct role_file **ret)
{
	struct role_file *file;
	size_t size = strlen(name) + 1;

	for (file = c->roles; file; file = file->next)
		if (strcmp(file->name, name) == 0) {
			*ret = file;
			return 0;
		}
	file = calloc(1, sizeof(*file) + size);
	if (!file)
		return -ENOMEM;
	memcpy(file->name, name, size);
	file->next = c->roles;
	c->roles = file;
	*ret = file;
	return 0;
}

/* The folder's copy, if it is the file the snapshot speaks of and these keys signed it. */
static int load_local(struct tuf_client *c, struct role_file *file, const struct delegation *d,
		      const struct json *entry, const struct tuf_keyring *ring)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(SIZE_MAX - 1);
	CLEANUP(metadata_freep)
	struct metadata *m = NULL;
	int r;

	r = tuf_store_load(&c->store, file->name, c->options.limits.targets, &bytes);
	if (r >= 0)
		r = metadata_accept(ROLE_TARGETS, bytes.data, bytes.len, ring, c->options.foreign_keyids, &m);
	if (r == -ENOMEM)
		return r;
	if (r < 0 || !entry_is(entry, m))
		return 0; /* not what we look for: fetch it */
	file->metadata = m;
	m = NULL;
	file->verified_by = d->role;
	file->stored = true;
	return 0;
}

static int fetch_role(struct tuf_client *c, struct fetcher *f, struct role_file *file, const struct json *entry)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT((size_t) c->options.limits.targets);
	int r;

	r = client_fetch(c, f, file->name, tuf_client_is_consistent(c) ? entry_version(entry) : 0, entry,
			 c->options.limits.targets, &bytes);
	return r < 0 ? r : metadata_read(ROLE_TARGETS, bytes.data, bytes.len, &file->metadata);
}

static int fail_delegated(struct tuf_client *c, int r, const char *role)
{
	CLEANUP(buf_done)
	struct buf name = BUF_INIT(NAME_MAX);

	if (c->error[0] != '\0')
		return r; /* client_fetch() has said more */
	return client_fail(c, r, tuf_file_name(role, ".json", &name) < 0 ? "a delegated role" : buf_str(&name),
			   NULL);
}

/* What every path to this file must find: signed by these keys, of the announced version. */
static int check_role(const struct tuf_client *c, struct role_file *file, const struct delegation *d,
		      const struct json *entry, const struct tuf_keyring *ring)
{
	int r;

	if (file->verified_by == d->role)
		return 0;
	file->verified_by = NULL;
	r = metadata_verify(file->metadata, ring);
	if (r < 0)
		return r;
	r = metadata_interpret(file->metadata, c->options.foreign_keyids);
	if (r < 0)
		return r;
	if (file->metadata->version != entry_version(entry))
		return -ERR_VERSION;
	file->verified_by = d->role;
	return 0;
}

/* Signed by the controller's own keys for days, not by a team for a year (DESIGN.md section 4). */
static bool is_online(const char *role)
{
	return str_eq(role, "rollouts") || str_eq(role, "support");
}

int delegation_load(struct tuf_client *c, struct fetcher *f, const struct delegation *d,
		    const struct role_file **ret)
{
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	const struct json *entry = metadata_entry(c->snapshot, d->name);
	struct role_file *file;
	int r;

	if (!entry)
		return client_fail(c, -ERR_FIELD_MISSING, "snapshot.json", "does not list a delegated role");
	r = keyring_of_role(d->keys, d->role, &ring);
	if (r < 0)
		return r;
	r = role_file_of(c, d->name, &file);
	if (r < 0)
		return r;
	if (!file->metadata && file->failure == 0) {
		r = load_local(c, file, d, entry, ring);
		if (r < 0)
			return r;
		if (!file->metadata)
			file->failure = fetch_role(c, f, file, entry);
	}
	r = file->failure < 0 ? file->failure : check_role(c, file, d, entry, ring);
	if (r >= 0 &&
	    (is_online(d->name) ? client_expired_online(c, file->metadata) : client_expired(c, file->metadata)))
		r = -ERR_EXPIRED;
	if (r < 0)
		return fail_delegated(c, r, d->name);
	if (!file->stored) {
		r = tuf_store_save(&c->store, d->name, file->metadata->bytes.data, file->metadata->bytes.len);
		if (r < 0)
			return fail_delegated(c, r, d->name);
		file->stored = true;
	}
	*ret = file;
	return 0;
}
