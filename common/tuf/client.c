#include "tuf/client.h"

#include "tuf/keyring.h"

#include "base/err.h"
#include "json/json.h"
#include "os/os.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLOCK_TOLERANCE = 24 * 60 * 60 }; /* of x-issued against a synchronised clock */

const struct tuf_limits tuf_limits_default = {
	.root = 512 * 1024,
	.timestamp = 16 * 1024,
	.snapshot = 2 * 1024 * 1024,
	.targets = 5 * 1024 * 1024,
	.root_steps = 256,
	.roles_visited = 32,
};

int client_fail(struct tuf_client *c, int r, const char *file, const char *what)
{
	(void) snprintf(c->error, sizeof(c->error), "%s: %s", file, what ? what : err_text(r)); /* cut to fit */
	return r;
}

const char *tuf_client_error(const struct tuf_client *c)
{
	return c->error;
}

int client_file_name(const char *role, uint64_t version, struct buf *ret)
{
	int r = 0;

	if (version > 0)
		r = buf_addf(ret, "%llu.", (unsigned long long) version);
	return r < 0 ? r : tuf_file_name(role, ".json", ret);
}

/* For the error text of a role's file; a name we cannot spell out is no reason to lose the error itself. */
static int fail_role(struct tuf_client *c, int r, const char *role, uint64_t version, const char *what)
{
	CLEANUP(buf_done)
	struct buf name = BUF_INIT(NAME_MAX);

	if (client_file_name(role, version, &name) < 0)
		return client_fail(c, r, role_is_top_level(role) ? role : "a delegated role", what);
	return client_fail(c, r, buf_str(&name), what);
}

bool tuf_client_is_consistent(const struct tuf_client *c)
{
	return c->root && json_bool(json_get(c->root->body, "consistent_snapshot"), false);
}

void client_drop_roles(struct tuf_client *c)
{
	while (c->roles) {
		struct role_file *next = c->roles->next;

		metadata_free(c->roles->metadata);
		free(c->roles);
		c->roles = next;
	}
}

/* --- what is in the folder --- */

static uint64_t limit_of(const struct tuf_client *c, enum role_type type)
{
	switch (type) {
	case ROLE_ROOT:
		return c->options.limits.root;
	case ROLE_TIMESTAMP:
		return c->options.limits.timestamp;
	case ROLE_SNAPSHOT:
		return c->options.limits.snapshot;
	case ROLE_TARGETS:
		break;
	}
	return c->options.limits.targets;
}

/*
 * A moment without memory or descriptors says nothing about what is trusted. Taken for "there is none", an older root,
 * older versions and an earlier time would be believed again, and stored in the place of the newer ones.
 */
static bool is_shortage(int r)
{
	return r < 0 && err_class(r) == ERR_CLASS_RETRY;
}

static int load_root(struct tuf_client *c)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(SIZE_MAX - 1);
	int r;

	r = tuf_store_load(&c->store, role_type_name(ROLE_ROOT), c->options.limits.root, &bytes);
	if (r == -ENOENT)
		return client_fail(c, -ERR_UNTRUSTED, "root.json", NULL);
	if (r >= 0)
		r = metadata_accept_root(bytes.data, bytes.len, c->options.foreign_keyids, &c->root);
	return r < 0 ? client_fail(c, r, "root.json", NULL) : 0;
}

/*
 * A file of the folder is as good as one from outside: it counts if the current
 * root's keys signed it, which also drops what was trusted under keys that are gone
 * (recovery from a fast-forward attack), even after a crash in between. The file
 * itself stays until a newer one takes its place: it shows what was last trusted.
 */
static int load_role(struct tuf_client *c, enum role_type type, struct metadata **trusted)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(SIZE_MAX - 1);
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	int r;

	metadata_free(*trusted);
	*trusted = NULL;
	r = metadata_ring(c->root, type, &ring);
	if (r < 0)
		return r;
	r = tuf_store_load(&c->store, role_type_name(type), limit_of(c, type), &bytes);
	if (r >= 0)
		r = metadata_accept(type, bytes.data, bytes.len, ring, c->options.foreign_keyids, trusted);
	return is_shortage(r) ? r : 0;
}

static int load_trusted(struct tuf_client *c)
{
	int r;

	r = load_role(c, ROLE_TIMESTAMP, &c->timestamp);
	if (r >= 0)
		r = load_role(c, ROLE_SNAPSHOT, &c->snapshot);
	if (r >= 0)
		r = load_role(c, ROLE_TARGETS, &c->targets);
	c->whole = r >= 0 && c->timestamp && c->snapshot && c->targets &&
		   entry_is(metadata_entry(c->timestamp, role_type_name(ROLE_SNAPSHOT)), c->snapshot) &&
		   entry_is(metadata_entry(c->snapshot, role_type_name(ROLE_TARGETS)), c->targets);
	c->reload = r < 0;
	return r;
}

static int load_floor(struct tuf_client *c)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(SIZE_MAX - 1);
	int r;

	if (!c->options.hold_time_floor)
		return 0;
	r = tuf_store_load_floor(&c->store, &bytes);
	if (is_shortage(r))
		return r;
	if (r >= 0)
		time_floor_load(&c->floor, &bytes);
	return 0;
}

/* --- time --- */

static int64_t floor_now(const struct tuf_client *c)
{
	return c->options.hold_time_floor ? time_floor_value(&c->floor, c->root, c->options.build_time)
					  : INT64_MIN;
}

static int64_t judge_now(const struct tuf_client *c, int64_t clock)
{
	const struct os *os = c->options.os;

	return time_floor_now(&c->floor, floor_now(c), clock, os->clock_boot_ms(os));
}

int64_t tuf_client_now(const struct tuf_client *c)
{
	return judge_now(c, c->options.os->clock_real(c->options.os));
}

int64_t tuf_client_floor(const struct tuf_client *c)
{
	return floor_now(c);
}

void tuf_client_set_synchronised(struct tuf_client *c, bool synchronised)
{
	c->options.clock_synchronised = synchronised;
	if (synchronised)
		c->floor.clock_ahead = false;
}

bool client_expired(const struct tuf_client *c, const struct metadata *m)
{
	return m->expires <= c->now;
}

bool client_expired_online(const struct tuf_client *c, const struct metadata *m)
{
	/* Subtracted, so that no sum overflows: an expiry may be any time, `now` is one of ours. */
	return m->expires <= c->now - (int64_t) c->grace_s;
}

void tuf_client_set_grace(struct tuf_client *c, uint64_t seconds)
{
	c->grace_s = seconds > INT32_MAX ? INT32_MAX : seconds;
}

/* --- life --- */

int tuf_client_open(const struct tuf_options *o, struct tuf_client **ret)
{
	CLEANUP(tuf_client_closep)
	struct tuf_client *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->options = *o;
	c->store.lock = -1;
	time_floor_init(&c->floor);
	if (!c->options.prefix)
		c->options.prefix = "";
	if (!c->options.targets_prefix)
		c->options.targets_prefix = "";
	r = tuf_store_open(&c->store, o->os, o->dirfd);
	if (r < 0)
		return r;
	r = load_floor(c);
	if (r < 0)
		return r;
	r = load_root(c);
	if (is_shortage(r))
		return r;
	c->root_error = r;
	if (r >= 0) {
		r = load_trusted(c);
		if (r < 0)
			return r;
	}
	c->clock = o->os->clock_real(o->os);
	c->now = judge_now(c, c->clock);
	*ret = c;
	c = NULL;
	return 0;
}

void tuf_client_close(struct tuf_client *c)
{
	if (!c)
		return;
	client_drop_roles(c);
	metadata_free(c->root);
	metadata_free(c->timestamp);
	metadata_free(c->snapshot);
	metadata_free(c->targets);
	time_floor_done(&c->floor);
	tuf_store_close(&c->store);
	free(c);
}

/* The new root is stored and trusted: what its keys did not sign is trusted no longer. */
static int take_root(struct tuf_client *c, struct metadata **root)
{
	int r;

	r = tuf_store_save(&c->store, role_type_name(ROLE_ROOT), (*root)->bytes.data, (*root)->bytes.len);
	if (r < 0)
		return r;
	metadata_free(c->root);
	c->root = *root;
	*root = NULL;
	c->root_error = 0;
	return 0;
}

int tuf_client_init(struct tuf_client *c, const void *bytes, size_t len)
{
	CLEANUP(metadata_freep)
	struct metadata *root = NULL;
	int r;

	c->error[0] = '\0';
	if (len > c->options.limits.root)
		return client_fail(c, -ERR_TOO_LARGE, "root.json", NULL);
	r = metadata_accept_root(bytes, len, c->options.foreign_keyids, &root);
	if (r >= 0)
		r = take_root(c, &root);
	if (r < 0)
		return client_fail(c, r, "root.json", NULL);
	client_drop_roles(c);
	return load_trusted(c);
}

bool tuf_client_has_root(const struct tuf_client *c)
{
	return c->root != NULL;
}

/* --- the workflow of section 5 of the specification --- */

int client_fetch(struct tuf_client *c, struct fetcher *f, const char *role, uint64_t version,
		 const struct json *entry, uint64_t limit, struct buf *ret)
{
	CLEANUP(buf_done)
	struct buf name = BUF_INIT(NAME_MAX + strlen(c->options.prefix));
	uint64_t max = entry ? entry_length(entry, limit) : limit;
	int r;

	r = buf_add_str(&name, c->options.prefix);
	if (r >= 0)
		r = client_file_name(role, version, &name);
	if (r < 0)
		return fail_role(c, r, role, version, NULL);
	if (max > limit)
		return fail_role(c, -ERR_TOO_LARGE, role, version, NULL);
	r = fetcher_get(f, buf_str(&name), max, ret);
	if (r < 0)
		return fail_role(c, r, role, version, r == -ENOENT ? "not there" : NULL);
	if (ret->len > max)
		return fail_role(c, -ERR_TOO_LARGE, role, version, NULL); /* the fetcher's promise, checked */
	if (entry) {
		r = entry_check_bytes(entry, ret->data, ret->len);
		if (r < 0)
			return fail_role(c, r, role, version, NULL);
	}
	return 0;
}

/* Version N+1 is signed by the thresholds of N and of its own, and is exactly N+1. */
static int accept_next_root(struct tuf_client *c, const struct buf *bytes, struct metadata **ret)
{
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	CLEANUP(metadata_freep)
	struct metadata *root = NULL;
	int r;

	r = metadata_accept_root(bytes->data, bytes->len, c->options.foreign_keyids, &root);
	if (r < 0)
		return r;
	r = metadata_ring(c->root, ROLE_ROOT, &ring);
	if (r < 0)
		return r;
	r = metadata_verify(root, ring);
	if (r < 0)
		return r;
	if (root->version < c->root->version + 1)
		return -ERR_ROLLBACK;
	if (root->version > c->root->version + 1)
		return -ERR_VERSION;
	*ret = root;
	root = NULL;
	return 0;
}

/* Roots N+1, N+2, ... as long as there are any. How far it came is stored and trusted, whatever ended it. */
static int follow_roots(struct tuf_client *c, struct fetcher *f, bool *ret_changed)
{
	for (unsigned i = 0; i < c->options.limits.root_steps; i++) {
		CLEANUP(buf_done)
		struct buf bytes = BUF_INIT((size_t) c->options.limits.root);
		CLEANUP(metadata_freep)
		struct metadata *root = NULL;
		uint64_t next = c->root->version + 1;
		int r;

		r = client_fetch(c, f, role_type_name(ROLE_ROOT), next, NULL, c->options.limits.root, &bytes);
		if (r == -ENOENT) {
			c->error[0] = '\0';
			return 0;
		}
		if (r < 0)
			return r;
		r = accept_next_root(c, &bytes, &root);
		if (r >= 0)
			r = take_root(c, &root);
		if (r < 0)
			return fail_role(c, r, role_type_name(ROLE_ROOT), next, NULL);
		*ret_changed = true;
	}
	return 0;
}

/*
 * What the new root's keys did not sign is trusted no longer, also where the chain was cut off behind it: else who
 * carries it could keep a revoked key's word in force by spoiling the root after the one that revokes it.
 */
static int update_root(struct tuf_client *c, struct fetcher *f)
{
	bool changed = false;
	int r = follow_roots(c, f, &changed), loaded = changed || c->reload ? load_trusted(c) : 0;

	return r < 0 ? r : loaded;
}

/*
 * A clock that may be wrong has expired the root, but the floor has not: the new
 * timestamp will tell whether the clock runs ahead, so the verdict waits for it.
 */
static bool root_may_wait(const struct tuf_client *c)
{
	return c->options.hold_time_floor && !c->options.clock_synchronised && !c->floor.clock_ahead &&
	       c->root->expires > floor_now(c);
}

static int check_issued(const struct tuf_client *c, const struct metadata *m)
{
	if (!c->options.hold_time_floor || m->issued == 0)
		return 0;
	if (m->issued > m->expires)
		return -ERR_FIELD_VALUE;
	if (c->options.clock_synchronised && m->issued > c->clock + CLOCK_TOLERANCE)
		return -ERR_FIELD_VALUE;
	return 0;
}

/*
 * A newer timestamp that only an unsynchronised clock expires says that the clock
 * is ahead; from here on floor plus monotonic time decides. Nothing is decided
 * by that for a timestamp that is expired by the floor too.
 */
static void judge_clock(struct tuf_client *c, const struct metadata *m)
{
	const struct os *os = c->options.os;
	int64_t floor = floor_now(c);

	if (!c->options.hold_time_floor || c->options.clock_synchronised || c->floor.clock_ahead ||
	    !client_expired(c, m))
		return;
	if (m->issued > floor)
		floor = m->issued;
	if (m->issued == 0 || m->expires <= floor)
		return;
	c->floor.clock_ahead = true;
	c->floor.ahead_base = floor;
	c->floor.ahead_ms = os->clock_boot_ms(os);
	c->now = judge_now(c, c->clock);
}

/* The floor first: a crash in between leaves the floor of a timestamp that was accepted. */
static int save_timestamp(struct tuf_client *c, struct metadata **m)
{
	int r;

	if (c->options.hold_time_floor && (*m)->issued > 0) {
		CLEANUP(buf_done)
		struct buf text = BUF_INIT(SIZE_MAX - 1);

		r = time_floor_raise(&c->floor, c->root, (*m)->issued);
		if (r < 0)
			return r;
		if (r > 0) {
			r = time_floor_save(&c->floor, &text);
			if (r >= 0)
				r = tuf_store_save_floor(&c->store, text.data, text.len);
			if (r < 0)
				return r;
		}
	}
	r = tuf_store_save(&c->store, role_type_name(ROLE_TIMESTAMP), (*m)->bytes.data, (*m)->bytes.len);
	if (r < 0)
		return r;
	metadata_free(c->timestamp);
	c->timestamp = *m;
	*m = NULL;
	c->whole = false; /* until the files it names are here */
	return 0;
}

static int check_newer_timestamp(struct tuf_client *c, const struct metadata *m)
{
	const char *snapshot = role_type_name(ROLE_SNAPSHOT);

	if (c->timestamp &&
	    entry_version(metadata_entry(m, snapshot)) < entry_version(metadata_entry(c->timestamp, snapshot)))
		return -ERR_ROLLBACK;
	return check_issued(c, m);
}

static int update_timestamp(struct tuf_client *c, struct fetcher *f, bool *changed)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT((size_t) c->options.limits.timestamp);
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	CLEANUP(metadata_freep)
	struct metadata *m = NULL;
	const char *role = role_type_name(ROLE_TIMESTAMP);
	bool root_expired = client_expired(c, c->root), newer;
	int r;

	if (root_expired && !root_may_wait(c))
		return fail_role(c, -ERR_EXPIRED, role_type_name(ROLE_ROOT), c->root->version, NULL);
	r = client_fetch(c, f, role, 0, NULL, c->options.limits.timestamp, &bytes);
	if (r < 0)
		return r;
	r = metadata_ring(c->root, ROLE_TIMESTAMP, &ring);
	if (r >= 0)
		r = metadata_accept(ROLE_TIMESTAMP, bytes.data, bytes.len, ring, c->options.foreign_keyids, &m);
	if (r < 0)
		return fail_role(c, r, role, 0, NULL);

	if (c->timestamp && m->version < c->timestamp->version)
		return fail_role(c, -ERR_ROLLBACK, role, 0, NULL);
	newer = !c->timestamp || m->version > c->timestamp->version;
	if (newer) {
		r = check_newer_timestamp(c, m);
		if (r < 0)
			return fail_role(c, r, role, 0, NULL);
		judge_clock(c, m);
	}
	if (root_expired && client_expired(c, c->root))
		return fail_role(c, -ERR_EXPIRED, role_type_name(ROLE_ROOT), c->root->version, NULL);
	/* Equal is no news, but the one we have may have expired since: a replay must not freeze us. */
	if (client_expired_online(c, newer ? m : c->timestamp))
		return fail_role(c, -ERR_EXPIRED, role, 0, NULL);
	if (!newer)
		return 0;
	r = save_timestamp(c, &m);
	if (r < 0)
		return fail_role(c, r, role, 0, NULL);
	*changed = true;
	return 0;
}

/* Nothing the trusted snapshot lists, expired or not, may go back or go away. */
static int check_snapshot_rollback(const struct metadata *old, const struct metadata *new)
{
	const struct json *before = json_get(old->body, "meta"), *after = json_get(new->body, "meta");

	for (size_t i = 0; i < json_count(before); i++) {
		const struct json *entry = json_get(after, json_name_at(before, i));

		if (!entry || entry_version(entry) < entry_version(json_at(before, i)))
			return -ERR_ROLLBACK;
	}
	return 0;
}

static bool has_expired(const struct tuf_client *c, enum role_type type, const struct metadata *m)
{
	return type == ROLE_SNAPSHOT ? client_expired_online(c, m) : client_expired(c, m);
}

/* Snapshot by the timestamp's entry, targets by the snapshot's: the same steps but for one check. */
static int update_announced(struct tuf_client *c, struct fetcher *f, enum role_type type, const struct json *entry,
			    struct metadata **trusted)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT((size_t) limit_of(c, type));
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	CLEANUP(metadata_freep)
	struct metadata *m = NULL;
	const char *role = role_type_name(type);
	uint64_t version = entry_version(entry), shown = tuf_client_is_consistent(c) ? version : 0;
	int r;

	if (*trusted && entry_is(entry, *trusted))
		return has_expired(c, type, *trusted) ? fail_role(c, -ERR_EXPIRED, role, version, NULL) : 0;
	r = client_fetch(c, f, role, shown, entry, limit_of(c, type), &bytes);
	if (r < 0)
		return r;
	r = metadata_ring(c->root, type, &ring);
	if (r >= 0)
		r = metadata_accept(type, bytes.data, bytes.len, ring, c->options.foreign_keyids, &m);
	if (r >= 0 && m->version != version)
		r = -ERR_VERSION;
	if (r >= 0 && type == ROLE_SNAPSHOT && *trusted)
		r = check_snapshot_rollback(*trusted, m);
	if (r >= 0 && has_expired(c, type, m))
		r = -ERR_EXPIRED;
	if (r >= 0)
		r = tuf_store_save(&c->store, role, m->bytes.data, m->bytes.len);
	if (r < 0)
		return fail_role(c, r, role, shown, NULL);
	metadata_free(*trusted);
	*trusted = m;
	m = NULL;
	return 0;
}

int tuf_client_refresh(struct tuf_client *c, struct fetcher *f, bool *ret_changed)
{
	const struct os *os = c->options.os;
	bool changed = false;
	int r;

	c->error[0] = '\0';
	if (!c->root)
		return client_fail(c, c->root_error, "root.json", NULL);
	client_drop_roles(c);
	c->clock = os->clock_real(os);
	r = update_root(c, f);
	if (r < 0)
		return r;
	/* The clock is that of the start; the floor is that of the root we have now. */
	if (!time_floor_is_of(&c->floor, c->root))
		c->floor.clock_ahead = false;
	c->now = judge_now(c, c->clock);
	r = update_timestamp(c, f, &changed);
	if (r < 0)
		return r;
	r = update_announced(c, f, ROLE_SNAPSHOT, metadata_entry(c->timestamp, role_type_name(ROLE_SNAPSHOT)),
			     &c->snapshot);
	if (r < 0)
		return r;
	r = update_announced(c, f, ROLE_TARGETS, metadata_entry(c->snapshot, role_type_name(ROLE_TARGETS)),
			     &c->targets);
	if (r < 0)
		return r;
	c->whole = true;
	if (ret_changed)
		*ret_changed = changed;
	return 0;
}

/* --- questions --- */

void tuf_client_state(struct tuf_client *c, struct tuf_state *ret)
{
	int64_t now = tuf_client_now(c);

	*ret = (struct tuf_state){ .now = c->now, .stale = true, .clock_ahead = c->floor.clock_ahead };
	if (c->root) {
		ret->root = c->root->version;
		ret->root_expires = c->root->expires;
	}
	if (c->timestamp) {
		ret->timestamp = c->timestamp->version;
		ret->timestamp_expires = c->timestamp->expires;
		ret->issued = c->timestamp->issued;
		ret->stale = c->timestamp->expires <= now - (int64_t) c->grace_s;
	}
	if (c->snapshot)
		ret->snapshot = c->snapshot->version;
	if (c->targets)
		ret->targets = c->targets->version;
}

int tuf_client_bytes(struct tuf_client *c, const char *role, struct buf *ret)
{
	const struct {
		enum role_type type;
		const struct metadata *metadata;
	} top[] = {
		{ ROLE_ROOT, c->root },
		{ ROLE_TIMESTAMP, c->timestamp },
		{ ROLE_SNAPSHOT, c->snapshot },
		{ ROLE_TARGETS, c->targets },
	};

	for (size_t i = 0; i < ARRAY_LEN(top); i++)
		if (top[i].metadata && str_eq(role, role_type_name(top[i].type)))
			return buf_add(ret, top[i].metadata->bytes.data, top[i].metadata->bytes.len);
	for (const struct role_file *file = c->roles; file; file = file->next)
		if (file->stored && str_eq(role, file->name))
			return buf_add(ret, file->metadata->bytes.data, file->metadata->bytes.len);
	return -ENOENT;
}

const struct json *tuf_client_targets_signed(const struct tuf_client *c)
{
	return c->targets ? c->targets->body : NULL;
}
