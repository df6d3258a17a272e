/*
 * Hostile metadata of each role: the first byte chooses the role, the rest is the
 * file. It is read and interpreted as if the signatures had held, its own keys are
 * loaded and tried, and targets are searched through.
 */
#include "tuf/client.h"
#include "tuf/keyring.h"
#include "tuf/metadata.h"

#include "base/err.h"
#include "json/json.h"
#include "os/os.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct carrier {
	struct fetcher fetcher;
	const uint8_t *data;
	size_t size;
};

/* Whatever is asked for, it gets the same bytes. */
static int serve(struct fetcher *f, const char *name, uint64_t max, struct buf *ret)
{
	const struct carrier *c = (const struct carrier *) f;

	(void) name;
	return c->size > max ? -ERR_TOO_LARGE : buf_add(ret, c->data, c->size);
}

static int count_target(void *user, const struct tuf_target *t)
{
	CLEANUP(buf_done)
	struct buf name = BUF_INIT(16 * 1024);

	if (tuf_target_file(t, "targets/", true, &name) < 0)
		return -EINVAL;
	return ++*(unsigned *) user > 100;
}

static void search(struct metadata *targets, const uint8_t *data, size_t size)
{
	static const char snapshot_text[] =
		"{\"signatures\":[],\"signed\":{\"_type\":\"snapshot\",\"spec_version\":\"1.0\",\"version\":1,"
		"\"expires\":\"9999-01-01T00:00:00Z\",\"meta\":{\"targets.json\":{\"version\":1},\"a.json\":"
		"{\"version\":1},\"b.json\":{\"version\":2},\"bin-0\":{\"version\":1}}}}";
	static const char *const paths[] = {
		"a", "a/b", "a/b/c.json", "\xff", "web/policy.json", "nodes/n1.json"
	};
	struct carrier carrier = { .fetcher = { .get = serve }, .data = data, .size = size };
	struct tuf_client c = { .options = { .os = &os_posix,
					     .dirfd = -1,
					     .prefix = "",
					     .targets_prefix = "",
					     .limits = tuf_limits_default,
					     .foreign_keyids = true },
				.store = { .os = &os_posix, .dirfd = -1, .lock = -1 },
				.targets = targets,
				.whole = true };
	unsigned count = 0;

	if (metadata_read(ROLE_SNAPSHOT, snapshot_text, strlen(snapshot_text), &c.snapshot) < 0 ||
	    metadata_interpret(c.snapshot, false) < 0)
		abort();
	c.root = c.timestamp = c.snapshot; /* only their expiry is looked at */
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		struct tuf_target t;

		(void) !tuf_client_find(&c, &carrier.fetcher, paths[i], &t);
	}
	(void) !tuf_client_each_target(&c, &carrier.fetcher, "targets", count_target, &count);
	(void) !tuf_client_each_target(&c, &carrier.fetcher, "a", count_target, &count);
	for (int i = 0; i < 2; i++) {
		struct tuf_keyring *ring = NULL;

		if ((i ? tuf_control_keyring(&c, &ring) : tuf_team_keyring(&c, "a", &ring)) >= 0)
			tuf_keyring_free(ring);
	}
	client_drop_roles(&c);
	metadata_free(c.snapshot);
}

static void use(struct metadata *m, const uint8_t *data, size_t size)
{
	static const char *const names[] = { "targets", "snapshot", "a", "" };

	if (m->type == ROLE_ROOT) {
		for (int type = ROLE_ROOT; type <= ROLE_TARGETS; type++) {
			CLEANUP(tuf_keyring_freep)
			struct tuf_keyring *ring = NULL;

			if (metadata_ring(m, (enum role_type) type, &ring) >= 0)
				(void) !metadata_verify(m, ring);
		}
	}
	if (m->type == ROLE_TIMESTAMP || m->type == ROLE_SNAPSHOT)
		for (size_t i = 0; i < ARRAY_LEN(names); i++) {
			const struct json *entry = metadata_entry(m, names[i]);

			if (entry && entry_length(entry, 1) > 0 && entry_version(entry) == 0)
				abort(); /* interpreted: a version is at least 1 */
			(void) !entry_check_bytes(entry, data, size);
			(void) entry_is(entry, m);
		}
	if (m->type == ROLE_TARGETS)
		search(m, data, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct metadata *m = NULL, *root = NULL;

	if (size == 0)
		return 0;
	if (metadata_read((enum role_type)(data[0] & 3), data + 1, size - 1, &m) >= 0 &&
	    metadata_interpret(m, (data[0] & 4) != 0) >= 0)
		use(m, data + 1, size - 1);
	metadata_free(m);
	if ((data[0] & 3) == ROLE_ROOT && metadata_accept_root(data + 1, size - 1, true, &root) >= 0 &&
	    root->version == 0)
		abort();
	metadata_free(root);
	return 0;
}
