#include "server-stub/signer/signer.h"

#include "base/err.h"
#include "base/log.h"
#include "base/text.h"
#include "base/timestamp.h"
#include "crypto/certificate.h"
#include "crypto/digest.h"
#include "crypto/key.h"
#include "json/build.h"
#include "json/json.h"
#include "os/durable.h"
#include "server-stub/signer/keys.h"
#include "server-stub/signer/roles.h"
#include "server-stub/signer/state.h"
#include "tuf/tuf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

enum {
	TARGETS_MAX = 1000000,
	SNAPSHOT_ROLES_MAX = 2048, /* far below what nodes read of a snapshot */
	VERSION_JUMP_MAX = 100000000, /* three years of seconds beyond the last one, or 1970: no role needs that */
	CERTIFICATE_NAMES_MAX = 32,
	CONTROL_MAX = 64 * 1024,
	LOCK_MAX = 4096,
};

static const uint64_t version_max = (UINT64_C(1) << 53) - 1;

/* At most `per_minute` in any minute, a minute's worth at once. */
struct bucket {
	uint64_t per_minute, tokens_ms, last_ms; /* one token is 60000 tokens_ms */
};

struct signer {
	const struct os *os;
	int dirfd, repofd, lockfd, logfd; /* repofd: -1 until there is a published folder */
	char dir[3072];
	struct signer_keys keys;
	struct signer_state state;
	struct bucket role_rate, control_rate,
		certificate_rate; /* nodes that ask for certificates keep no role from being signed */
	bool stale; /* until recover */
	char stale_reason[512];
	char reason[768];
};

static int fail(struct signer *s, int r, const char *fmt, ...) PRINTF_LIKE(3, 4);

static int fail(struct signer *s, int r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(s->reason, sizeof(s->reason), fmt, ap); /* cut to fit */
	va_end(ap);
	return r;
}

const char *signer_reason(const struct signer *s)
{
	return s->reason[0] ? s->reason : "no failure yet";
}

/* --- rates --- */

static void bucket_init(struct bucket *b, uint64_t per_minute, uint64_t now_ms)
{
	*b = (struct bucket){ per_minute, per_minute * 60000, now_ms };
}

static bool bucket_take(struct bucket *b, uint64_t now_ms)
{
	uint64_t full = b->per_minute * 60000, passed = now_ms > b->last_ms ? now_ms - b->last_ms : 0;

	b->last_ms = now_ms;
	b->tokens_ms = passed >= 60000 || full - b->tokens_ms <= passed * b->per_minute
			       ? full
			       : b->tokens_ms + passed * b->per_minute;
	if (b->tokens_ms < 60000)
		return false;
	b->tokens_ms -= 60000;
	return true;
}

/* --- the log --- */

int signer_reopen_log(struct signer *s)
{
	int fd = s->os->openat(s->os, s->dirfd, "signer.log", O_WRONLY | O_APPEND | O_CREAT, 0600);

	if (fd < 0)
		return fail(s, fd, "the log of signatures cannot be opened: %s", err_text(fd));
	if (s->logfd >= 0)
		(void) s->os->close(s->os, s->logfd); /* every line in it was checked when written */
	s->logfd = fd;
	return 0;
}

/* A signature that is not in the log does not leave. Role signatures and certificates are synced; control ones are many. */
static int log_signature(struct signer *s, uid_t uid, const char *role, const char *detail, uint64_t version,
			 const char *sha256, bool sync)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf line = BUF_INIT(8192);
	struct json_node *o = json_build_root(b);
	char now[TIMESTAMP_LEN + 1];
	int r;

	timestamp_format(now, s->os->clock_real(s->os));
	node_string(o, "time", now);
	node_string(o, "role", role);
	if (detail)
		node_string(o, "detail", detail);
	if (version > 0)
		node_integer(o, "version", (int64_t) version);
	node_string(o, "sha256", sha256);
	node_integer(o, "uid", (int64_t) uid);
	r = json_build_text(b, false, &line);
	if (r >= 0)
		r = buf_add_byte(&line, '\n');
	if (r >= 0)
		r = file_write_all(s->os, s->logfd, line.data, line.len);
	if (r >= 0 && sync)
		r = s->os->fsync(s->os, s->logfd);
	if (r < 0)
		return fail(s, r, "the signature could not be logged, so it was not given out: %s", err_text(r));
	return 0;
}

/* --- is what we remember the newest there is? --- */

static int go_stale(struct signer *s, const char *fmt, ...) PRINTF_LIKE(2, 3);

static int go_stale(struct signer *s, const char *fmt, ...)
{
	char what[400];
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	(void) snprintf(s->stale_reason, sizeof(s->stale_reason),
			"%s: nothing is signed until `selfright repo recover` has been run", what);
	if (!s->stale)
		log_error("signer-stale", "%s", s->stale_reason);
	s->stale = true;
	return fail(s, -ERR_STALE_STATE, "%s", s->stale_reason);
}

static int open_repo(struct signer *s)
{
	char path[sizeof(s->dir) + 16];
	int fd;

	if (s->repofd >= 0)
		return 0;
	(void) snprintf(path, sizeof(path), "%s/repo/.", s->dir);
	fd = s->os->openat(s->os, AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
	if (fd == -ENOENT)
		return 0; /* before the first publication */
	if (fd < 0)
		return fail(s, fd, "the published folder cannot be opened: %s", err_text(fd));
	s->repofd = fd;
	return 0;
}

static int read_published(struct signer *s, const char *file, size_t max, struct buf *ret)
{
	CLEANUP(buf_done)
	struct buf name = BUF_INIT(1024);
	int r = open_repo(s);

	if (r < 0)
		return r;
	if (s->repofd < 0)
		return -ENOENT;
	r = buf_addf(&name, "%s", file);
	return r < 0 ? r : file_read(s->os, s->repofd, buf_str(&name), max, ret);
}

/* The counter of the lock file in the published folder; 0 if there is none. */
static int read_lock(struct signer *s, uint64_t *ret)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(LOCK_MAX);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	int r = read_published(s, "signer.lock", LOCK_MAX, &text);

	*ret = 0;
	if (r == -ENOENT)
		return 0;
	if (r >= 0)
		r = json_parse(text.data, text.len, &json_limits_default, &doc);
	if (r >= 0)
		r = json_need_u64(doc, "counter", 0, version_max - 1, ret);
	if (r < 0)
		return fail(s, r, "signer.lock in the published folder cannot be read: %s", err_text(r));
	return 0;
}

static uint64_t document_version(const struct json *doc)
{
	uint64_t version = 0;

	/* 0 for anything else: the caller compares with what is at least 1 */
	(void) !json_need_u64(json_get(doc, "signed"), "version", 1, version_max, &version);
	return version;
}

/* Refuse to go on if the published folder holds a newer timestamp than we signed, or another signer took over. */
static int check_published(struct signer *s)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(SIGNER_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const struct signer_record *mine = &s->state.roles[SIGNER_TIMESTAMP];
	char sha256[SHA256_HEX + 1];
	uint64_t counter, version;
	int r;

	r = read_lock(s, &counter);
	if (r < 0)
		return r;
	if (counter > s->state.counter)
		return go_stale(s, "another signer took over this repository (lock %llu, ours %llu)",
				(unsigned long long) counter, (unsigned long long) s->state.counter);
	r = read_published(s, "metadata/timestamp.json", SIGNER_MAX_BYTES, &text);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return fail(s, r, "the published timestamp cannot be read: %s", err_text(r));
	r = sha256_hex(text.data, text.len, sha256);
	if (r < 0)
		return fail(s, r, "no digest of the published timestamp: %s", err_text(r));
	if (str_eq(sha256, mine->sha256)) {
		signer_state_confirm(&s->state);
		return 0;
	}
	r = json_parse(text.data, text.len, &json_limits_default, &doc);
	if (r == -ENOMEM)
		return r;
	version = document_version(doc);
	if (version > mine->version)
		return go_stale(s, "the published timestamp has version %llu, the newest signed here is %llu",
				(unsigned long long) version, (unsigned long long) mine->version);
	return 0;
}

static int check_ready(struct signer *s)
{
	if (s->stale)
		return fail(s, -ERR_STALE_STATE, "%s", s->stale_reason);
	return check_published(s);
}

/* What only a start asks: is there a memory at all, and is it younger than a timestamp's life? */
static int check_start(struct signer *s, int state_result)
{
	const struct signer_record *mine = &s->state.roles[SIGNER_TIMESTAMP];
	int r;

	if (state_result == -ERR_STALE_STATE) {
		(void) go_stale(s, "the signer's state file is damaged");
		return 0;
	}
	if (mine->version > 0 && mine->expires <= s->os->clock_real(s->os)) {
		(void) go_stale(s, "the newest timestamp signed here has expired while the signer was away");
		return 0;
	}
	r = check_published(s);
	return r == -ERR_STALE_STATE ? 0 : r;
}

/* --- open and close --- */

static int open_folder(struct signer *s)
{
	char path[sizeof(s->dir) + 16];

	(void) snprintf(path, sizeof(path), "%s/signer/.", s->dir);
	s->dirfd = s->os->openat(s->os, AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
	if (s->dirfd < 0)
		return fail(s, s->dirfd, "%s/signer cannot be opened (`selfright repo init` makes it): %s", s->dir,
			    err_text(s->dirfd));
	s->lockfd = s->os->openat(s->os, s->dirfd, "lock", O_RDWR | O_CREAT, 0600);
	if (s->lockfd < 0)
		return fail(s, s->lockfd, "the lock file cannot be opened: %s", err_text(s->lockfd));
	if (flock(s->lockfd, LOCK_EX | LOCK_NB) < 0)
		return fail(s, errno == EWOULDBLOCK ? -EBUSY : -errno, "another signer holds %s/signer", s->dir);
	return signer_reopen_log(s);
}

static int load_keys(struct signer *s)
{
	struct signer_keys keys;
	char file[256];
	int r = signer_keys_load(s->os, s->dirfd, &keys, file);

	if (r < 0)
		return fail(s, r, "%s in %s/signer cannot be used: %s", file, s->dir, err_text(r));
	signer_keys_done(&s->keys);
	s->keys = keys;
	return 0;
}

static int start(struct signer *s)
{
	uint64_t counter;
	int r, state_result;

	r = open_folder(s);
	if (r >= 0)
		r = load_keys(s);
	if (r < 0)
		return r;
	state_result = signer_state_load(s->os, s->dirfd, &s->state);
	if (state_result < 0 && state_result != -ENOENT && state_result != -ERR_STALE_STATE)
		return fail(s, state_result, "the state cannot be read: %s", err_text(state_result));
	r = read_lock(s, &counter);
	if (r < 0)
		return r;
	if (counter > s->state.counter)
		s->state.counter = counter;
	s->state.counter++;
	r = check_start(s, state_result);
	if (r >= 0 && state_result != -ERR_STALE_STATE) /* a damaged file stays as it is until recover */
		r = signer_state_save(s->os, s->dirfd, &s->state);
	return r;
}

int signer_open(const struct signer_options *o, struct signer **ret)
{
	struct signer *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->os = o->os;
	s->dirfd = s->repofd = s->lockfd = s->logfd = -1;
	bucket_init(&s->role_rate, o->roles_per_minute ? o->roles_per_minute : 600, s->os->clock_boot_ms(s->os));
	bucket_init(&s->certificate_rate, o->roles_per_minute ? o->roles_per_minute : 600,
		    s->os->clock_boot_ms(s->os));
	bucket_init(&s->control_rate, o->control_per_minute ? o->control_per_minute : 60000,
		    s->os->clock_boot_ms(s->os));
	r = strlen(o->dir) < sizeof(s->dir) ? 0 : -ENAMETOOLONG;
	(void) snprintf(s->dir, sizeof(s->dir), "%s", o->dir);
	if (r >= 0)
		r = start(s);
	if (r < 0) {
		/* Who starts us waits for one that holds the folder, and says so once. */
		if (r == -EBUSY)
			log_notice("signer-open", "%s", s->reason[0] ? s->reason : err_text(r));
		else
			log_error("signer-open", "%s", s->reason[0] ? s->reason : err_text(r));
		signer_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

void signer_close(struct signer *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < 4; i++) {
		int fd = (int[]){ s->logfd, s->lockfd, s->repofd, s->dirfd }[i];

		if (fd >= 0)
			(void) s->os->close(s->os, fd); /* nothing is waiting to be written */
	}
	signer_keys_done(&s->keys);
	signer_state_done(&s->state);
	free(s);
}

/* --- signing a role --- */

static int copy_hashes(struct signer *s, const struct json *entry, struct json_node *o, const char *name)
{
	const struct json *hashes;
	uint8_t digest[SHA256_BYTES];
	const char *sha256;
	uint64_t length;
	int r;

	r = json_need_u64(entry, "length", 0, version_max, &length);
	if (r >= 0)
		r = json_need(entry, "hashes", JSON_OBJECT, &hashes);
	if (r >= 0)
		r = json_need_string(hashes, "sha256", &sha256);
	if (r >= 0)
		r = hex_decode(digest, sizeof(digest), sha256, false);
	if (r >= 0 && json_count(hashes) != 1)
		r = -ERR_FIELD_VALUE;
	if (r < 0)
		return fail(s, r, "the entry of %s needs a length and one SHA-256: %s", name, err_text(r));
	node_integer(o, "length", (int64_t) length);
	node_string(node_object(o, "hashes"), "sha256", sha256);
	return 0;
}

static int build_targets(struct signer *s, const struct signer_rule *rule, const struct json *body,
			 struct json_node *signed_object)
{
	const struct json *targets;
	struct json_node *out = node_object(signed_object, "targets");
	int r = json_need(body, "targets", JSON_OBJECT, &targets);

	if (r < 0 || json_count(body) != 1)
		return fail(s, -ERR_REFUSED, "role %s says its targets and nothing else", rule->name);
	if (json_count(targets) > TARGETS_MAX)
		return fail(s, -ERR_REFUSED, "role %s lists too many files", rule->name);
	for (size_t i = 0; i < json_count(targets); i++) {
		const char *path = json_name_at(targets, i);
		const struct json *entry = json_at(targets, i);
		char shown[128];

		if (!signer_rule_permits(rule, path))
			return fail(s, -ERR_REFUSED, "role %s may list %s<id>.json, not %s", rule->name,
				    rule->folder, log_quote(shown, sizeof(shown), path));
		if (json_count(entry) != 2)
			return fail(s, -ERR_REFUSED, "the entry of %s holds more than length and hashes", path);
		r = copy_hashes(s, entry, node_object(out, path), path);
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * What a snapshot has said once no later one takes back: a captured controller must not use up a role's versions, nor
 * fill the snapshot until nodes take none any more. Either would be healed by a new root alone. Those of the roles that
 * sign here are known, whatever a recovery lifted them to.
 */
static int check_growth(struct signer *s, const char *file, uint64_t version, uint64_t before)
{
	int64_t now = s->os->clock_real(s->os);
	uint64_t most = now > 0 && (uint64_t) now > before ? (uint64_t) now : before;

	if (version > most + VERSION_JUMP_MAX)
		return fail(s, -ERR_REFUSED, "%s would jump from version %llu to %llu: no role needs that", file,
			    (unsigned long long) before, (unsigned long long) version);
	return 0;
}

/* A role of ours may stand in a snapshot only as we signed it: the last version, or, after an interrupted publication, one before. */
static int check_entry(struct signer *s, const char *file, const struct json *entry, uint64_t version,
		       uint64_t before)
{
	char name[256];
	const char *sha256 = json_string(json_get(json_get(entry, "hashes"), "sha256"));
	size_t len = strlen(file);
	int role;

	if (len <= 5 || len >= sizeof(name) || !str_eq(file + len - 5, ".json"))
		return fail(s, -ERR_REFUSED, "a snapshot lists <role>.json");
	memcpy(name, file, len - 5);
	name[len - 5] = '\0';
	if (!guard_id(name))
		return fail(s, -ERR_REFUSED, "a snapshot lists <role>.json");
	if (str_eq(name, "root") || str_eq(name, "snapshot") || str_eq(name, "timestamp"))
		return fail(s, -ERR_REFUSED, "a snapshot does not list %s", file);
	role = signer_role_find(name);
	if (role < 0 || s->keys.rings[role].count == 0)
		return check_growth(s, file, version, before);
	if (version > s->state.roles[role].version ||
	    (version == s->state.roles[role].version && s->state.roles[role].sha256[0] &&
	     !str_eq(sha256, s->state.roles[role].sha256)))
		return fail(s, -ERR_REFUSED, "%s version %llu was not signed here (the newest is %llu)", file,
			    (unsigned long long) version, (unsigned long long) s->state.roles[role].version);
	return 0;
}

static int build_snapshot(struct signer *s, const struct json *body, struct json_node *signed_object)
{
	const struct json *meta;
	struct json_node *out = node_object(signed_object, "meta");
	int r = json_need(body, "meta", JSON_OBJECT, &meta);

	if (r < 0 || json_count(body) != 1 || !json_get(meta, "targets.json"))
		return fail(s, -ERR_REFUSED,
			    "a snapshot lists metadata files, targets.json among them, and nothing else");
	if (json_count(meta) > SNAPSHOT_ROLES_MAX)
		return fail(s, -ERR_REFUSED, "a snapshot lists at most %d metadata files", SNAPSHOT_ROLES_MAX);
	for (size_t i = 0; i < s->state.listed.count; i++)
		if (!json_get(meta, s->state.listed.items[i].file))
			return fail(s, -ERR_REFUSED, "the snapshot would drop %s", s->state.listed.items[i].file);
	for (size_t i = 0; i < json_count(meta); i++) {
		const char *file = json_name_at(meta, i);
		const struct json *entry = json_at(meta, i);
		struct json_node *o = node_object(out, file);
		uint64_t version, before = signer_listing_version(&s->state.listed, file);

		r = json_need_u64(entry, "version", 1, version_max, &version);
		if (r < 0 || json_count(entry) != 3)
			return fail(s, -ERR_REFUSED, "the entry of %s holds version, length and hashes", file);
		if (version < before)
			return fail(s, -ERR_REFUSED, "the snapshot would lower %s from version %llu to %llu", file,
				    (unsigned long long) before, (unsigned long long) version);
		r = check_entry(s, file, entry, version, before);
		if (r < 0)
			return r;
		node_integer(o, "version", (int64_t) version);
		r = copy_hashes(s, entry, o, file);
		if (r < 0)
			return r;
	}
	return 0;
}

static int build_timestamp(struct signer *s, const struct json *body, struct json_node *signed_object)
{
	const struct signer_record *snapshot = &s->state.roles[SIGNER_SNAPSHOT];
	const struct json *meta = json_get(body, "meta"), *entry = json_get(meta, "snapshot.json");
	const char *sha256 = json_string(json_get(json_get(entry, "hashes"), "sha256"));
	struct json_node *o = node_object(node_object(signed_object, "meta"), "snapshot.json");
	uint64_t version = 0, length = 0;
	int r;

	r = json_need_u64(entry, "version", 1, version_max, &version);
	if (r >= 0)
		r = json_need_u64(entry, "length", 0, version_max, &length);
	if (r < 0 || json_count(body) != 1 || json_count(meta) != 1 || json_count(entry) != 3)
		return fail(s, -ERR_REFUSED, "a timestamp names snapshot.json with version, length and hashes");
	if (snapshot->version == 0 || version != snapshot->version || length != snapshot->length ||
	    !str_eq(sha256, snapshot->sha256))
		return fail(s, -ERR_REFUSED, "a timestamp is only given of the snapshot signed here last");
	node_integer(o, "version", (int64_t) version);
	return copy_hashes(s, entry, o, "snapshot.json");
}

/* The members every role has. Returns the version they name. */
static uint64_t write_common(struct signer *s, int role, uint64_t life_s, struct json_node *o,
			     int64_t *ret_expires)
{
	int64_t now = s->os->clock_real(s->os);
	uint64_t version = s->state.roles[role].version + 1;
	char text[TIMESTAMP_LEN + 1];

	if (now > 0 && version < (uint64_t) now)
		version = (uint64_t) now;
	*ret_expires = now + (life_s > 0 ? (int64_t) life_s : signer_rules[role].life_s);
	node_string(o, "_type", signer_rules[role].type);
	node_string(o, "spec_version", "1.0.34");
	node_integer(o, "version", (int64_t) version);
	timestamp_format(text, *ret_expires);
	node_string(o, "expires", text);
	timestamp_format(text, now);
	node_string(o, "x-issued", text);
	return version;
}

static int build_body(struct signer *s, int role, const struct json *body, struct json_node *o)
{
	switch (role) {
	case SIGNER_SNAPSHOT:
		return build_snapshot(s, body, o);
	case SIGNER_TIMESTAMP:
		return build_timestamp(s, body, o);
	default:
		return build_targets(s, &signer_rules[role], body, o);
	}
}

/* Sign `signed_object` with every key of the ring: the envelope in `out`, the digest of the signed bytes in `sha256`. */
static int sign_with(struct signer *s, const struct signer_ring *ring, const struct json *signed_object,
		     struct buf *out, char sha256[static SHA256_HEX + 1])
{
	CLEANUP(buf_done)
	struct buf canonical = BUF_INIT(SIGNER_MAX_BYTES);
	int r;

	r = json_canonical(signed_object, &canonical);
	if (r >= 0)
		r = sha256_hex(canonical.data, canonical.len, sha256);
	if (r >= 0)
		r = tuf_envelope_sign(signed_object, (const struct private_key *const *) ring->keys, ring->count,
				      out);
	return r < 0 ? fail(s, r, "signing failed: %s", err_text(r)) : 0;
}

/* "90d", "36h" or seconds; 0 if the file is not there: then nothing is signed for longer than usual. */
static int read_bundle_life(struct signer *s, uint64_t *ret)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(32);
	uint64_t unit = 1, number = 0;
	int r = file_read(s->os, s->dirfd, "bundle-life", text.max, &text);
	char *end;

	*ret = 0;
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return fail(s, r, "bundle-life in the signer's folder cannot be read: %s", err_text(r));
	end = (char *) text.data + strcspn(buf_str(&text), "dh\n");
	if (text.len > 0 && *end) {
		unit = *end == 'd' ? 86400 : *end == 'h' ? 3600 : 1;
		*end = '\0';
	}
	if (parse_u64(buf_str(&text), &number) < 0 || number < 1 || number > SIGNER_BUNDLE_LIFE_MAX / unit)
		return fail(s, -ERR_CONFIG, "bundle-life in the signer's folder is a time like 90d, at most 366d");
	*ret = number * unit;
	return 0;
}

/* May it be signed for that long? Looked up each time: an administrator who takes the file away means now. */
static int check_life(struct signer *s, const struct json *request, uint64_t *ret)
{
	uint64_t allowed = 0;
	int r;

	*ret = 0;
	if (!json_get(request, "life"))
		return 0;
	r = json_need_u64(request, "life", 1, SIGNER_BUNDLE_LIFE_MAX, ret);
	if (r < 0)
		return fail(s, r, "a life is a number of seconds, at most 366 days");
	r = read_bundle_life(s, &allowed);
	if (r < 0)
		return r;
	if (allowed == 0)
		return fail(s, -ERR_REFUSED,
			    "this signer signs no longer than usual: an administrator allows it by "
			    "DIR/signer/bundle-life, "
			    "such as 90d");
	if (*ret > allowed)
		return fail(s, -ERR_REFUSED, "this signer signs for %llu hours at most (DIR/signer/bundle-life)",
			    (unsigned long long) (allowed / 3600));
	return 0;
}

/* Let the state know what is about to leave; on failure it is as before. */
static int remember(struct signer *s, int role, uint64_t version, int64_t expires,
		    const struct json *signed_object, const struct buf *metadata)
{
	struct signer_record before = s->state.roles[role], *record = &s->state.roles[role];
	int r;

	record->version = version;
	record->length = metadata->len;
	record->expires = expires;
	r = sha256_hex(metadata->data, metadata->len, record->sha256);
	if (r >= 0 && role == SIGNER_SNAPSHOT)
		r = signer_listing_set(&s->state.pending, json_get(signed_object, "meta"), false);
	if (role == SIGNER_TIMESTAMP)
		s->state.named_snapshot = s->state.roles[SIGNER_SNAPSHOT].version;
	if (r >= 0)
		r = signer_state_save(s->os, s->dirfd, &s->state);
	if (r < 0) {
		*record = before;
		record->version = version; /* it may have reached the disk: never give it out again */
		return fail(s, r, "the state could not be kept, so nothing was signed: %s", err_text(r));
	}
	return 0;
}

static int sign_role(struct signer *s, uid_t uid, const struct json *request, struct buf *ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(SIGNER_MAX_BYTES), metadata = BUF_INIT(SIGNER_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *signed_object = NULL;
	const char *name = json_string(json_get(request, "role"));
	const struct json *body = json_get(request, "body");
	int role = signer_role_find(name), r;
	char sha256[SHA256_HEX + 1], shown[128];
	uint64_t version, life_s;
	int64_t expires;

	if (role < 0)
		return fail(s, -ERR_REFUSED, "%s is no online role", log_quote(shown, sizeof(shown), name));
	if (s->keys.rings[role].count == 0)
		return fail(s, -ERR_REFUSED, "no key of role %s is online here", name);
	r = check_ready(s);
	if (r == 0)
		r = check_life(s, request, &life_s);
	if (r < 0)
		return r;
	if (!bucket_take(&s->role_rate, s->os->clock_boot_ms(s->os)))
		return fail(s, -ERR_RATE, "more than %llu role signatures a minute",
			    (unsigned long long) s->role_rate.per_minute);
	version = write_common(s, role, life_s, json_build_root(b), &expires);
	if (version > version_max)
		return fail(s, -ERR_REFUSED, "role %s has no versions left", name);
	r = build_body(s, role, body, json_build_root(b));
	if (r < 0)
		return r;
	r = json_build_text(b, false, &text);
	if (r >= 0)
		r = json_parse(text.data, text.len, &json_limits_default, &signed_object);
	if (r < 0)
		return fail(s, r, "the metadata of %s cannot be written: %s", name, err_text(r));
	r = sign_with(s, &s->keys.rings[role], signed_object, &metadata, sha256);
	if (r >= 0)
		r = remember(s, role, version, expires, signed_object, &metadata);
	if (r >= 0)
		r = log_signature(s, uid, name, life_s > 0 ? "for a bundle" : NULL, version, sha256, true);
	if (r >= 0)
		r = buf_add(ret, metadata.data, metadata.len);
	return r;
}

static int sign_control(struct signer *s, uid_t uid, const struct json *request, struct buf *ret)
{
	CLEANUP(buf_done)
	struct buf envelope = BUF_INIT(CONTROL_MAX);
	const struct json *document = json_get(request, "document");
	const char *type = json_string(json_get(document, "_type"));
	char sha256[SHA256_HEX + 1], shown[128];
	int r;

	if (!str_eq(type, "selfright-ack") && !str_eq(type, "selfright-grant") &&
	    !str_eq(type, "selfright-receipt"))
		return fail(s, -ERR_REFUSED, "control signs selfright-ack, -grant and -receipt, not %s",
			    log_quote(shown, sizeof(shown), type));
	if (s->keys.rings[SIGNER_CONTROL].count == 0)
		return fail(s, -ERR_REFUSED, "no control key is online here");
	if (!bucket_take(&s->control_rate, s->os->clock_boot_ms(s->os)))
		return fail(s, -ERR_RATE, "more than %llu control signatures a minute",
			    (unsigned long long) s->control_rate.per_minute);
	r = sign_with(s, &s->keys.rings[SIGNER_CONTROL], document, &envelope, sha256);
	if (r >= 0)
		r = log_signature(s, uid, "control", type, 0, sha256, false);
	if (r >= 0)
		r = buf_add(ret, envelope.data, envelope.len);
	return r;
}

/* --- certificates --- */

static int certify(struct signer *s, uid_t uid, const struct certificate_request *request, const char *what,
		   struct buf *ret)
{
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(64 * 1024);
	char sha256[SHA256_HEX + 1];
	int r;

	if (!s->keys.ca_key)
		return fail(s, -ERR_REFUSED, "this signer holds no CA (ca.key, ca.crt)");
	if (!request->public_pem)
		return fail(s, -ERR_FIELD_MISSING, "the holder's public key is missing");
	if (!bucket_take(&s->certificate_rate, s->os->clock_boot_ms(s->os)))
		return fail(s, -ERR_RATE, "more than %llu certificates a minute",
			    (unsigned long long) s->certificate_rate.per_minute);
	r = certificate_issue(request, s->keys.ca_key, s->keys.ca_pem, &pem);
	if (r >= 0)
		r = sha256_hex(pem.data, pem.len, sha256);
	if (r < 0)
		return fail(s, r, "no certificate for %s: %s", request->common_name, err_text(r));
	r = log_signature(s, uid, what, request->common_name, 0, sha256, true);
	return r < 0 ? r : buf_add(ret, pem.data, pem.len);
}

static int certify_node(struct signer *s, uid_t uid, const struct json *request, struct buf *ret)
{
	const char *node = json_string(json_get(request, "node"));
	int64_t now = s->os->clock_real(s->os), backdate;
	uint64_t life = SIGNER_NODE_CERTIFICATE_LIFE;
	char shown[128];

	if (!guard_id(node))
		return fail(s, -ERR_NAME, "%s is no node id", log_quote(shown, sizeof(shown), node));
	if (json_optional_u64(request, "life", SIGNER_NODE_CERTIFICATE_LIFE_MIN, SIGNER_NODE_CERTIFICATE_LIFE,
			      &life) < 0)
		return fail(s, -ERR_REFUSED, "a node's certificate lives for %d seconds to %d days",
			    SIGNER_NODE_CERTIFICATE_LIFE_MIN, SIGNER_NODE_CERTIFICATE_LIFE / 86400);
	/* A short one must not have most of its life behind it. */
	backdate = life / 3 < SIGNER_CERTIFICATE_BACKDATE ? (int64_t) life / 3 : SIGNER_CERTIFICATE_BACKDATE;
	return certify(s, uid,
		       &(struct certificate_request){ .common_name = node,
						      .public_pem = json_string(json_get(request, "public")),
						      .client = true,
						      .not_before = now - backdate,
						      .not_after = now + (int64_t) life },
		       "ca-node", ret);
}

/* "DNS:host.example" or "IP:..." of plain characters. */
static bool certificate_name_is_fine(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:-_*";

	if (!str_starts(name, "DNS:") && !str_starts(name, "IP:"))
		return false;
	name = strchr(name, ':') + 1;
	return *name && strlen(name) <= 253 && name[strspn(name, allowed)] == '\0';
}

static int certify_server(struct signer *s, uid_t uid, const struct json *request, struct buf *ret)
{
	const struct json *names = json_get(request, "names");
	const char *list[CERTIFICATE_NAMES_MAX];
	size_t count = json_count(names);
	int64_t now = s->os->clock_real(s->os);
	char shown[128];

	if (count == 0 || count > CERTIFICATE_NAMES_MAX)
		return fail(s, -ERR_REFUSED, "a server certificate needs 1 to %d names", CERTIFICATE_NAMES_MAX);
	for (size_t i = 0; i < count; i++) {
		list[i] = json_string(json_at(names, i));
		if (!list[i] || !certificate_name_is_fine(list[i]))
			return fail(s, -ERR_NAME, "%s is no DNS:name or IP:address",
				    log_quote(shown, sizeof(shown), list[i]));
	}
	/* The blank keeps the name from ever being a node's id. */
	return certify(s, uid,
		       &(struct certificate_request){ .common_name = "selfright server",
						      .public_pem = json_string(json_get(request, "public")),
						      .names = list,
						      .name_count = count,
						      .server = true,
						      .not_before = now - SIGNER_CERTIFICATE_BACKDATE,
						      .not_after = now + SIGNER_SERVER_CERTIFICATE_LIFE },
		       "ca-server", ret);
}

/* --- another CA --- */

/* "demo selfright CA 2": people see in any certificate's issuer which one it is of. */
static void name_ca(const char *before, unsigned number, char out[static 64])
{
	int len = (int) strlen(before);

	while (len > 0 && before[len - 1] >= '0' && before[len - 1] <= '9')
		len--;
	if (len == 0 || before[len - 1] != ' ')
		len = (int) strlen(before);
	else
		len--;
	(void) snprintf(out, 64, "%.*s %u", len > 58 ? 58 : len, before, number);
}

/* The key is durable before its certificate is: what is found by its certificate can sign. */
static int write_ca(struct signer *s, unsigned number, const struct buf *key, const struct buf *certificate)
{
	char file[32];
	int r;

	signer_ca_file(file, number, "key");
	r = durable_write_file(s->os, s->dirfd, file, key->data, key->len, 0600);
	signer_ca_file(file, number, "crt");
	if (r >= 0)
		r = durable_write_file(s->os, s->dirfd, file, certificate->data, certificate->len, 0644);
	return r < 0 ? fail(s, r, "%s cannot be written: %s", file, err_text(r)) : 0;
}

static int make_ca(struct signer *s, uid_t uid)
{
	CLEANUP(private_key_freep)
	struct private_key *key = NULL;
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(16 * 1024), public = BUF_INIT(16 * 1024), certificate = BUF_INIT(16 * 1024);
	struct certificate_info before;
	int64_t now = s->os->clock_real(s->os);
	char name[64], sha256[SHA256_HEX + 1];
	struct certificate_request request = { .common_name = name,
					       .is_ca = true,
					       .not_before = now - SIGNER_CERTIFICATE_BACKDATE,
					       .not_after = now + SIGNER_CA_LIFE };
	unsigned unused, number = 0;
	int r = certificate_read(s->keys.ca_pem, &before);

	if (r >= 0)
		r = signer_ca_number(s->os, s->dirfd, "", &unused, &number);
	if (r >= 0 && number > SIGNER_CA_NUMBER_MAX)
		r = -ERR_TOO_LARGE;
	if (r >= 0)
		r = private_key_generate(&key);
	if (r >= 0)
		r = private_key_public_pem(key, &public);
	if (r < 0)
		return fail(s, r, "no new CA: %s", err_text(r));
	name_ca(before.common_name, number, name);
	request.public_pem = buf_str(&public);
	r = certificate_issue(&request, key, NULL, &certificate);
	if (r >= 0)
		r = private_key_save(key, NULL, &pem);
	if (r >= 0)
		r = sha256_hex(certificate.data, certificate.len, sha256);
	if (r >= 0)
		r = log_signature(s, uid, "ca-new", name, 0, sha256, true);
	if (r >= 0)
		r = write_ca(s, number, &pem, &certificate);
	if (pem.data)
		explicit_bzero(pem.data, pem.len);
	return r < 0 && !s->reason[0] ? fail(s, r, "no new CA: %s", err_text(r)) : r;
}

/* Only one that can: without its key a signer could neither issue nor start. */
static int can_issue(struct signer *s, unsigned number)
{
	char file[32];
	int r = signer_ca_is_whole(s->os, s->dirfd, number);

	signer_ca_file(file, number, "key");
	return r < 0 ? fail(s, r, "%s does not fit its certificate, or is not here: %s", file, err_text(r)) : 0;
}

static int switch_ca(struct signer *s, uid_t uid, const char *sha256, unsigned number)
{
	char line[SHA256_HEX + 2];
	int r = can_issue(s, number);

	if (r >= 0)
		r = log_signature(s, uid, "ca-switch", NULL, number, sha256, true);
	(void) snprintf(line, sizeof(line), "%s\n", sha256);
	if (r >= 0)
		r = durable_write_file(s->os, s->dirfd, SIGNER_CA_ISSUING, line, strlen(line), 0644);
	return r < 0 && !s->reason[0] ? fail(s, r, SIGNER_CA_ISSUING " cannot be written: %s", err_text(r)) : r;
}

/*
 * Both are kept under a name that nothing loads, the key first: as long as the certificate is here the CA is listed, and
 * what was interrupted is found and finished by the same request. Each rename is synced, so the order holds after any cut.
 */
static int retire_ca(struct signer *s, uid_t uid, const char *sha256, unsigned number)
{
	static const char *const endings[] = { "key", "crt" };
	int r = log_signature(s, uid, "ca-retire", NULL, number, sha256, true);

	for (size_t i = 0; r >= 0 && i < ARRAY_LEN(endings); i++) {
		char from[32], to[48];

		signer_ca_file(from, number, endings[i]);
		(void) snprintf(to, sizeof(to), "retired-%s", from);
		r = s->os->renameat(s->os, s->dirfd, from, s->dirfd, to);
		if (r == -ENOENT && i == 0)
			r = 0; /* an earlier request came as far */
		if (r >= 0)
			r = dir_sync(s->os, s->dirfd, ".");
		if (r < 0)
			return fail(s, r, "%s cannot be put away: %s", from, err_text(r));
	}
	return r;
}

static int change_ca(struct signer *s, uid_t uid, const struct json *request, struct buf *ret)
{
	const char *what = json_string(json_get(request, "do")),
		   *sha256 = json_string(json_get(request, "sha256"));
	CLEANUP(certificate_bundle_done)
	struct certificate_bundle have = { .count = 0 };
	char shown[128];
	unsigned number = 0, unused;
	int r;

	if (!s->keys.ca_pem)
		return fail(s, -ERR_REFUSED, "this signer holds no CA (ca.key, ca.crt)");
	if (!bucket_take(&s->role_rate, s->os->clock_boot_ms(s->os)))
		return fail(s, -ERR_RATE, "more than %llu role signatures a minute",
			    (unsigned long long) s->role_rate.per_minute);
	/* The folder says how far an earlier request came that failed half-way: without this another CA would be made beside its. */
	r = load_keys(s);
	if (r < 0)
		return r;
	r = certificate_bundle_read(s->keys.ca_bundle, &have);
	if (r >= 0 && !str_eq(what, "begin"))
		r = sha256 ? signer_ca_number(s->os, s->dirfd, sha256, &number, &unused) : -ERR_FIELD_MISSING;
	if (r < 0)
		return fail(s, r, "the CAs in the folder: %s", err_text(r));
	if (!str_eq(what, "begin") && number == 0)
		return fail(s, -ERR_REFUSED, "no CA with the SHA-256 %s is here",
			    log_quote(shown, sizeof(shown), sha256));
	if (str_eq(what, "begin"))
		r = have.count > 1 ? 0 : make_ca(s, uid); /* one that waits is not made twice */
	else if (str_eq(what, "switch"))
		r = switch_ca(s, uid, sha256, number);
	else if (str_eq(what, "retire"))
		r = str_eq(have.items[0].sha256, sha256)
			    ? fail(s, -ERR_REFUSED, "this CA issues certificates: switch to another one first")
			    : retire_ca(s, uid, sha256, number);
	else
		r = fail(s, -ERR_REFUSED, "a CA is begun, switched to or retired");
	if (r >= 0)
		r = load_keys(s);
	return r < 0 ? r : buf_add_str(ret, "{}");
}

/* --- status --- */

static int status(struct signer *s, struct buf *ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b), *roles;
	char text[TIMESTAMP_LEN + 1];
	int r = check_ready(s);

	if (r < 0 && r != -ERR_STALE_STATE)
		return r;
	node_string(o, "state", r < 0 ? "stale" : "ready");
	if (r < 0)
		node_string(o, "reason", s->stale_reason);
	node_integer(o, "counter", (int64_t) s->state.counter);
	roles = node_object(o, "roles");
	for (int i = 0; i < SIGNER_ROLE_COUNT; i++) {
		struct json_node *role;

		if (s->keys.rings[i].count == 0)
			continue;
		role = node_object(roles, signer_rules[i].name);
		node_integer(role, "version", (int64_t) s->state.roles[i].version);
		timestamp_format(text, s->state.roles[i].expires);
		node_string(role, "expires", text);
		signer_ring_write(&s->keys.rings[i], role, "keys");
	}
	signer_ring_write(&s->keys.rings[SIGNER_CONTROL], o, "control");
	if (s->keys.ca_pem) {
		node_string(o, "ca", s->keys.ca_bundle);
		node_string(o, "ca_newest", s->keys.ca_newest);
	}
	return json_build_text(b, false, ret);
}

/* --- after a restored backup --- */

static int prove(struct signer *s, const struct json *request, struct buf *ret)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const char *name = json_string(json_get(request, "role"));
	const char *metadata = json_string(json_get(request, "metadata"));
	int role = signer_role_find(name), r;

	if (role < 0 || !metadata)
		return fail(s, -ERR_REFUSED, "a proof needs an online role and its metadata");
	r = signer_ring_open(&s->keys.rings[role], metadata, strlen(metadata), &doc);
	if (r == -ENOMEM)
		return r;
	if (r >= 0 && str_eq(json_string(json_get(json_get(doc, "signed"), "_type")), signer_rules[role].type) &&
	    document_version(doc) > s->state.roles[role].version)
		return go_stale(s,
				"metadata of role %s with our own signature has version %llu, the newest known "
				"here is %llu",
				name, (unsigned long long) document_version(doc),
				(unsigned long long) s->state.roles[role].version);
	return buf_add_str(ret, "{}");
}

struct recovery {
	struct signer *s;
	struct signer_state state; /* what will be adopted */
	struct json_node *ignored;
	uint64_t published_snapshot; /* that the published timestamp names; 0: every snapshot counts as seen */
};

/* A snapshot in the published folder that no timestamp names was left there by an interrupted publication. */
static bool seen_by_readers(const struct recovery *a, uint64_t version)
{
	return a->published_snapshot == 0 || version == a->published_snapshot;
}

/* Take the version of one metadata file if it carries our signature; else say why not. */
static int adopt(struct recovery *a, const char *file, int role, const void *metadata, size_t len)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct signer_record *record = &a->state.roles[role];
	const struct json *signed_object;
	uint64_t version;
	int64_t expires = 0;
	int r = signer_ring_open(&a->s->keys.rings[role], metadata, len, &doc);

	if (r == -ENOMEM)
		return r;
	signed_object = json_get(doc, "signed");
	version = document_version(doc);
	if (r < 0 || version == 0 ||
	    !str_eq(json_string(json_get(signed_object, "_type")), signer_rules[role].type)) {
		node_stringf(a->ignored, file, "not signed by a key of role %s here", signer_rules[role].name);
		return 0;
	}
	/* What any reader may have seen listed stays listed. */
	if (role == SIGNER_SNAPSHOT && seen_by_readers(a, version)) {
		r = signer_listing_set(&a->state.listed, json_get(signed_object, "meta"), true);
		if (r < 0)
			return r;
	}
	if (version <= record->version)
		return 0;
	if (timestamp_parse(json_string(json_get(signed_object, "expires")), &expires) < 0)
		expires = 0;
	*record = (struct signer_record){ .version = version, .length = len, .expires = expires };
	return sha256_hex(metadata, len, record->sha256);
}

/* The role a repository or store file name is for: "metadata/12.rollouts.json", "rollouts.json", "timestamp.json". */
static int role_of_file(const char *file)
{
	const char *slash = strrchr(file, '/'), *name = slash ? slash + 1 : file;
	size_t digits = strspn(name, "0123456789");
	char role[64];
	size_t len;

	if (digits > 0 && name[digits] == '.')
		name += digits + 1;
	len = strlen(name);
	if (len <= 5 || len >= sizeof(role) || !str_eq(name + len - 5, ".json"))
		return -1;
	memcpy(role, name, len - 5);
	role[len - 5] = '\0';
	return signer_role_find(role);
}

static int adopt_published(struct recovery *a)
{
	CLEANUP(name_list_done)
	struct name_list files = { 0 };
	int r = open_repo(a->s);

	if (r < 0 || a->s->repofd < 0)
		return r;
	r = dir_list(a->s->os, a->s->repofd, "metadata", &files);
	if (r == -ENOENT)
		return 0;
	for (size_t i = 0; r >= 0 && i < files.count; i++) {
		CLEANUP(buf_done)
		struct buf text = BUF_INIT(SIGNER_MAX_BYTES), name = BUF_INIT(1024);
		int role = role_of_file(files.names[i]);

		if (role < 0)
			continue;
		/* A role whose keys are offline (inventory, as a rule) is none of ours. */
		if (a->s->keys.rings[role].count == 0)
			continue;
		r = buf_addf(&name, "metadata/%s", files.names[i]);
		if (r >= 0)
			r = file_read(a->s->os, a->s->repofd, buf_str(&name), SIGNER_MAX_BYTES, &text);
		if (r >= 0)
			r = adopt(a, buf_str(&name), role, text.data, text.len);
	}
	return r;
}

static int adopt_given(struct recovery *a, const struct json *files, const struct json *at_least)
{
	int r = 0;

	a->published_snapshot = 0;
	for (size_t i = 0; r >= 0 && i < json_count(files); i++) {
		const char *name = json_name_at(files, i), *text = json_string(json_at(files, i));
		int role = role_of_file(name);

		if (role < 0 || !text)
			node_string(a->ignored, name, "no metadata of an online role");
		else
			r = adopt(a, name, role, text, strlen(text));
	}
	for (size_t i = 0; r >= 0 && i < json_count(at_least); i++) {
		int role = signer_role_find(json_name_at(at_least, i));
		int64_t version = 0;

		if (role < 0 || !json_integer(json_at(at_least, i), &version) || version < 1 ||
		    (uint64_t) version >= version_max)
			return fail(a->s, -ERR_FIELD_VALUE,
				    "a version to start above needs an online role and a number");
		if ((uint64_t) version > a->state.roles[role].version)
			a->state.roles[role] = (struct signer_record){ .version = (uint64_t) version };
	}
	return r;
}

/* A copy with listings of its own, so that a failed recovery leaves the state alone. */
static int state_copy(const struct signer_state *from, struct signer_state *ret)
{
	struct signer_state s = *from;
	int r;

	s.listed = s.pending = (struct signer_listing){ 0 };
	r = signer_listing_copy(&from->listed, &s.listed);
	if (r >= 0)
		r = signer_listing_copy(&from->pending, &s.pending);
	if (r < 0) {
		signer_state_done(&s);
		return r;
	}
	*ret = s;
	return 0;
}

static int recover(struct signer *s, uid_t uid, const struct json *request, struct buf *ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b), *adopted = node_object(o, "adopted");
	struct recovery a = { .s = s, .ignored = node_object(o, "ignored") };
	static const char none[] = "";
	char sha256[SHA256_HEX + 1];
	uint64_t counter;
	int r;

	r = state_copy(&s->state, &a.state);
	if (r < 0)
		return r;
	r = read_lock(s, &counter);
	if (r >= 0)
		r = adopt_published(&a);
	if (r >= 0)
		r = adopt_given(&a, json_get(request, "files"), json_get(request, "at_least"));
	if (r < 0)
		goto out;
	if (counter > a.state.counter)
		a.state.counter = counter;
	a.state.counter++;
	r = sha256_hex(none, 0, sha256);
	if (r >= 0)
		r = log_signature(s, uid, "recover", NULL, a.state.counter, sha256, true);
	if (r >= 0)
		r = signer_state_save(s->os, s->dirfd, &a.state);
	if (r < 0)
		goto out;
	for (int i = 0; i < SIGNER_ROLE_COUNT; i++) {
		struct json_node *role;

		if (a.state.roles[i].version == s->state.roles[i].version)
			continue;
		role = node_object(adopted, signer_rules[i].name);
		node_integer(role, "from", (int64_t) s->state.roles[i].version);
		node_integer(role, "to", (int64_t) a.state.roles[i].version);
	}
	node_integer(o, "counter", (int64_t) a.state.counter);
	signer_state_done(&s->state);
	s->state = a.state;
	a.state = (struct signer_state){ 0 };
	s->stale = false;
	log_notice("signer-recovered", "counter=%llu", (unsigned long long) s->state.counter);
	r = check_published(s); /* a newer timestamp that is not signed by a key here still stops us */
	if (r == -ERR_STALE_STATE)
		r = fail(s, r,
			 "%s (the published timestamp is not signed by a key this signer holds: put the newer "
			 "keys back, or rotate them)",
			 s->stale_reason);
	if (r >= 0)
		r = json_build_text(b, false, ret);
out:
	signer_state_done(&a.state);
	return r;
}

/* --- requests --- */

int signer_handle(struct signer *s, uid_t uid, uint16_t type, const void *data, size_t len, struct buf *ret)
{
	CLEANUP(json_freep)
	struct json *request = NULL;
	int r;

	s->reason[0] = '\0';
	r = json_parse(data, len, &json_limits_default, &request);
	if (r >= 0 && !json_is(request, JSON_OBJECT))
		r = -ERR_FIELD_TYPE;
	if (r < 0)
		return fail(s, r, "the request is no JSON object: %s", err_text(r));
	switch (type) {
	case SIGNER_SIGN_ROLE:
		r = sign_role(s, uid, request, ret);
		break;
	case SIGNER_SIGN_CONTROL:
		r = sign_control(s, uid, request, ret);
		break;
	case SIGNER_CERTIFY_NODE:
		r = certify_node(s, uid, request, ret);
		break;
	case SIGNER_CERTIFY_SERVER:
		r = certify_server(s, uid, request, ret);
		break;
	case SIGNER_STATUS:
		r = status(s, ret);
		break;
	case SIGNER_PROVE:
		r = prove(s, request, ret);
		break;
	case SIGNER_RECOVER:
		r = recover(s, uid, request, ret);
		break;
	case SIGNER_CA:
		r = change_ca(s, uid, request, ret);
		break;
	case SIGNER_RELOAD:
		r = load_keys(s);
		if (r >= 0)
			r = buf_add_str(ret, "{}");
		break;
	default:
		r = fail(s, -ERR_PROTOCOL, "unknown request %u", type);
	}
	if (r < 0) {
		if (!s->reason[0])
			(void) fail(s, r, "%s", err_text(r));
		log_warning("signer-refused", "type=%u uid=%u reason=%s", type, (unsigned) uid, s->reason);
	}
	return r;
}
