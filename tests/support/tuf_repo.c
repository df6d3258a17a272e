#include "support/tuf_repo.h"

#include "base/err.h"
#include "base/timestamp.h"
#include "crypto/digest.h"
#include "crypto/key.h"
#include "json/json.h"
#include "os/durable.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_MAX = 16 * 1024 * 1024, POOL = 64 };

/* A test that cannot be prepared cannot pass: no error is worth returning here. */
#define MUST(expression)                                                                                          \
	do {                                                                                                      \
		int must_ = (int) (expression);                                                                   \
		if (must_ < 0) {                                                                                  \
			(void) fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #expression,                \
				       err_text(must_));                                                          \
			abort();                                                                                  \
		}                                                                                                 \
	} while (0)

static const char *const top_names[] = { "root", "timestamp", "snapshot", "targets" };

int64_t repo_clock = REPO_NOW;
uint64_t repo_clock_ms = 1000;

/* --- keys --- */

static struct pool_key {
	struct private_key *key;
	struct buf pem, json;
	char id[SHA256_HEX + 1];
} pool[POOL];

static void pool_free(void)
{
	for (size_t i = 0; i < POOL; i++) {
		private_key_free(pool[i].key);
		buf_done(&pool[i].pem);
		buf_done(&pool[i].json);
	}
}

static struct pool_key *pool_key(unsigned id)
{
	static bool registered;
	struct pool_key *k = &pool[id];

	assert(id < POOL);
	if (!registered)
		registered = atexit(pool_free) == 0;
	if (!k->key) {
		MUST(private_key_generate(&k->key));
		buf_init(&k->pem, 4096);
		buf_init(&k->json, 4096);
		MUST(private_key_public_pem(k->key, &k->pem));
		MUST(tuf_key_describe(buf_str(&k->pem), &k->json, k->id));
	}
	return k;
}

const struct private_key *repo_key(unsigned id)
{
	return pool_key(id)->key;
}

const char *repo_keyid(unsigned id)
{
	return pool_key(id)->id;
}

const char *repo_key_json(unsigned id)
{
	return buf_str(&pool_key(id)->json);
}

const char *repo_key_pem(unsigned id)
{
	return buf_str(&pool_key(id)->pem);
}

/* --- files --- */

struct repo_file *repo_file(struct tuf_repo *r, const char *name)
{
	for (struct repo_file *f = r->files; f; f = f->next)
		if (strcmp(f->name, name) == 0)
			return f;
	return NULL;
}

void repo_put(struct tuf_repo *r, const char *name, const void *bytes, size_t len)
{
	struct repo_file *f = repo_file(r, name);

	if (!f) {
		f = calloc(1, sizeof(*f) + strlen(name) + 1);
		if (!f)
			abort();
		memcpy(f->name, name, strlen(name) + 1);
		buf_init(&f->bytes, FILE_MAX);
		f->next = r->files;
		r->files = f;
	}
	buf_clear(&f->bytes);
	MUST(buf_add(&f->bytes, bytes, len));
}

void repo_remove(struct tuf_repo *r, const char *name)
{
	for (struct repo_file **f = &r->files; *f; f = &(*f)->next)
		if (strcmp((*f)->name, name) == 0) {
			struct repo_file *gone = *f;

			*f = gone->next;
			buf_done(&gone->bytes);
			free(gone);
			return;
		}
}

void repo_clear_log(struct tuf_repo *r)
{
	buf_clear(&r->log);
	r->requests = 0;
	for (struct repo_file *f = r->files; f; f = f->next)
		f->requests = 0;
}

static int serve(struct fetcher *fetcher, const char *name, uint64_t max, struct buf *ret)
{
	struct tuf_repo *r = (struct tuf_repo *) fetcher;
	struct repo_file *f = repo_file(r, name);
	static const char zeroes[4096];

	r->requests++;
	MUST(buf_addf(&r->log, "%s\n", name));
	if (f)
		f->requests++;
	if (r->failing && strcmp(r->failing, name) == 0)
		return r->failure;
	if (r->endless && strcmp(r->endless, name) == 0) {
		if (!r->rude)
			return -ERR_TOO_LARGE;
		ret->max = FILE_MAX;
		while (ret->len <= max)
			MUST(buf_add(ret, zeroes, sizeof(zeroes)));
		return 0;
	}
	if (!f)
		return -ENOENT;
	if (f->bytes.len > max && !r->rude)
		return -ERR_TOO_LARGE;
	if (r->rude)
		ret->max = FILE_MAX;
	return buf_add(ret, f->bytes.data, f->bytes.len);
}

/* --- roles --- */

struct repo_role *repo_role(struct tuf_repo *r, const char *name)
{
	for (struct repo_role *role = r->roles; role; role = role->next)
		if (strcmp(role->name, name) == 0)
			return role;
	return NULL;
}

static struct repo_role *add_role(struct tuf_repo *r, const char *name, struct repo_keys signers)
{
	struct repo_role *role = calloc(1, sizeof(*role)), **end = &r->roles;

	if (!role)
		abort();
	(void) snprintf(role->name, sizeof(role->name), "%s", name);
	role->version = 1;
	role->expires = REPO_NOW + 30 * REPO_DAY;
	role->signers = signers;
	while (*end)
		end = &(*end)->next;
	*end = role;
	return role;
}

struct repo_role *repo_delegate(struct tuf_repo *r, const char *parent, const char *name, struct repo_keys keys,
				const char *paths)
{
	struct repo_role *from = repo_role(r, parent), *role = repo_role(r, name);
	struct repo_delegation *d;

	assert(from && from->delegation_count < REPO_DELEGATIONS);
	d = &from->delegations[from->delegation_count++];
	(void) snprintf(d->name, sizeof(d->name), "%s", name);
	d->keys = keys;
	d->paths = paths;
	return role ? role : add_role(r, name, keys);
}

struct repo_delegation *repo_delegation(struct tuf_repo *r, const char *parent, const char *name)
{
	struct repo_role *from = repo_role(r, parent);

	for (size_t i = 0; from && i < from->delegation_count; i++)
		if (strcmp(from->delegations[i].name, name) == 0)
			return &from->delegations[i];
	return NULL;
}

struct repo_target *repo_target(struct repo_role *role, const char *path, const char *data)
{
	struct repo_target *t = NULL;

	for (size_t i = 0; i < role->target_count; i++)
		if (strcmp(role->targets[i].path, path) == 0)
			t = &role->targets[i];
	if (!t) {
		assert(role->target_count < REPO_TARGETS);
		t = &role->targets[role->target_count++];
	}
	(void) snprintf(t->path, sizeof(t->path), "%s", path);
	(void) snprintf(t->data, sizeof(t->data), "%s", data);
	return t;
}

static void add_keys(struct buf *out, const struct repo_keys *const *sets, size_t count)
{
	bool seen[POOL] = { false }, first = true;

	MUST(buf_add_str(out, "{"));
	for (size_t s = 0; s < count; s++)
		for (size_t i = 0; i < sets[s]->count; i++) {
			unsigned id = sets[s]->ids[i];

			if (seen[id])
				continue;
			seen[id] = true;
			MUST(buf_addf(out, "%s\"%s\":%s", first ? "" : ",", repo_keyid(id), repo_key_json(id)));
			first = false;
		}
	MUST(buf_add_str(out, "}"));
}

static void add_role_keys(struct buf *out, const struct repo_keys *keys)
{
	MUST(buf_add_str(out, "\"keyids\":["));
	for (size_t i = 0; i < keys->count; i++)
		MUST(buf_addf(out, "%s\"%s\"", i ? "," : "", repo_keyid(keys->ids[i])));
	MUST(buf_addf(out, "],\"threshold\":%u", keys->threshold));
}

static void body_of_root(const struct repo_role *role, struct buf *out)
{
	const struct repo_keys *sets[] = { &role->top[0], &role->top[1], &role->top[2], &role->top[3] };

	MUST(buf_addf(out, "\"consistent_snapshot\":%s,\"keys\":", role->consistent ? "true" : "false"));
	if (role->keys_override)
		MUST(buf_add_str(out, role->keys_override));
	else
		add_keys(out, sets, ARRAY_LEN(sets));
	MUST(buf_add_str(out, ",\"roles\":{"));
	for (size_t i = 0; i < ARRAY_LEN(top_names); i++) {
		MUST(buf_addf(out, "%s\"%s\":{", i ? "," : "", top_names[i]));
		add_role_keys(out, &role->top[i]);
		MUST(buf_add_str(out, "}"));
	}
	MUST(buf_add_str(out, "}"));
}

static bool is_top(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(top_names); i++)
		if (strcmp(name, top_names[i]) == 0)
			return true;
	return false;
}

static void add_meta(struct tuf_repo *r, struct buf *out, const char *name, uint64_t version)
{
	char hex[SHA256_HEX + 1];
	CLEANUP(buf_done)
	struct buf file = BUF_INIT(1024);

	MUST(buf_addf(out, "\"%s.json\":{\"version\":%llu", name, (unsigned long long) version));
	MUST(buf_addf(&file, "%llu.", (unsigned long long) version));
	MUST(tuf_file_name(name, ".json", &file));
	if (r->hashes && repo_file(r, buf_str(&file))) {
		const struct buf *bytes = &repo_file(r, buf_str(&file))->bytes;

		MUST(sha256_hex(bytes->data, bytes->len, hex));
		MUST(buf_addf(out, ",\"length\":%zu,\"hashes\":{\"sha256\":\"%s\"}", bytes->len, hex));
	}
	MUST(buf_add_str(out, "}"));
}

static void body_of_targets(struct tuf_repo *r, const struct repo_role *role, struct buf *out)
{
	MUST(buf_add_str(out, "\"targets\":{"));
	for (size_t i = 0; i < role->target_count; i++) {
		const struct repo_target *t = &role->targets[i];
		const char *slash = strrchr(t->path, '/');
		int folder = slash ? (int) (slash - t->path) + 1 : 0;
		char hex[SHA256_HEX + 1];
		CLEANUP(buf_done)
		struct buf name = BUF_INIT(4096);

		MUST(sha256_hex(t->data, strlen(t->data), hex));
		MUST(buf_addf(out, "%s\"%s\":{\"hashes\":{\"sha256\":\"%s\"},\"length\":%zu", i ? "," : "",
			      t->path, hex, strlen(t->data)));
		if (t->custom)
			MUST(buf_addf(out, ",\"custom\":%s", t->custom));
		MUST(buf_add_str(out, "}"));
		MUST(buf_addf(&name, "%.*s%s.%s", folder, t->path, hex, t->path + folder));
		repo_put(r, buf_str(&name), t->data, strlen(t->data));
		repo_put(r, t->path, t->data, strlen(t->data));
	}
	MUST(buf_add_str(out, "}"));
	if (role->delegation_count == 0 && !role->succinct)
		return;

	const struct repo_keys *sets[REPO_DELEGATIONS + 1];

	for (size_t i = 0; i < role->delegation_count; i++)
		sets[i] = &role->delegations[i].keys;
	sets[role->delegation_count] = &role->succinct_keys;
	MUST(buf_add_str(out, ",\"delegations\":{\"keys\":"));
	if (role->keys_override)
		MUST(buf_add_str(out, role->keys_override));
	else
		add_keys(out, sets, role->delegation_count + 1);
	if (role->succinct) {
		MUST(buf_addf(out, ",\"succinct_roles\":{%s,", role->succinct));
		add_role_keys(out, &role->succinct_keys);
		MUST(buf_add_str(out, "}}"));
		return;
	}
	MUST(buf_add_str(out, ",\"roles\":["));
	for (size_t i = 0; i < role->delegation_count; i++) {
		const struct repo_delegation *d = &role->delegations[i];

		MUST(buf_addf(out, "%s{\"name\":\"%s\",\"terminating\":%s,", i ? "," : "", d->name,
			      d->terminating ? "true" : "false"));
		if (d->paths)
			MUST(buf_addf(out, "\"paths\":%s,", d->paths));
		if (d->prefixes)
			MUST(buf_addf(out, "\"path_hash_prefixes\":%s,", d->prefixes));
		add_role_keys(out, &d->keys);
		MUST(buf_add_str(out, "}"));
	}
	MUST(buf_add_str(out, "]}"));
}

void repo_envelope(const char *signed_text, const struct repo_keys *signers, struct buf *out)
{
	CLEANUP(json_freep)
	struct json *j = NULL;
	CLEANUP(buf_done)
	struct buf canonical = BUF_INIT(FILE_MAX);

	MUST(json_parse(signed_text, strlen(signed_text), &json_limits_default, &j));
	MUST(json_canonical(j, &canonical));
	MUST(buf_add_str(out, "{\"signatures\":["));
	for (size_t i = 0; i < signers->count; i++) {
		CLEANUP(buf_done)
		struct buf sig = BUF_INIT(256);
		char hex[513];

		MUST(private_key_sign(repo_key(signers->ids[i]), canonical.data, canonical.len, &sig));
		hex_encode(hex, sig.data, sig.len);
		MUST(buf_addf(out, "%s{\"keyid\":\"%s\",\"sig\":\"%s\"}", i ? "," : "",
			      repo_keyid(signers->ids[i]), hex));
	}
	MUST(buf_addf(out, "],\"signed\":%s}", signed_text));
}

void repo_sign(struct tuf_repo *r, const char *name)
{
	struct repo_role *role = repo_role(r, name);
	CLEANUP(buf_done)
	struct buf body = BUF_INIT(FILE_MAX);
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(FILE_MAX);
	CLEANUP(buf_done)
	struct buf file = BUF_INIT(1024);
	char expires[TIMESTAMP_LEN + 1];

	assert(role);
	timestamp_format(expires, role->expires);
	MUST(buf_addf(&body, "{\"_type\":\"%s\",\"spec_version\":\"1.0.34\",\"version\":%llu,\"expires\":\"%s\",",
		      is_top(name) ? name : "targets", (unsigned long long) role->version, expires));
	if (role->extra)
		MUST(buf_addf(&body, "%s,", role->extra));
	if (strcmp(name, "root") == 0) {
		body_of_root(role, &body);
	} else if (strcmp(name, "timestamp") == 0) {
		MUST(buf_add_str(&body, "\"meta\":{"));
		add_meta(r, &body, "snapshot", repo_role(r, "snapshot")->version);
		MUST(buf_add_str(&body, "}"));
	} else if (strcmp(name, "snapshot") == 0) {
		MUST(buf_add_str(&body, "\"meta\":{"));
		add_meta(r, &body, "targets", repo_role(r, "targets")->version);
		for (const struct repo_role *o = r->roles; o; o = o->next)
			if (!is_top(o->name)) {
				MUST(buf_add_str(&body, ","));
				add_meta(r, &body, o->name, o->version);
			}
		MUST(buf_add_str(&body, "}"));
	} else {
		body_of_targets(r, role, &body);
	}
	MUST(buf_add_str(&body, "}"));
	repo_envelope(role->signed_override ? role->signed_override : buf_str(&body), &role->signers, &text);

	MUST(tuf_file_name(name, ".json", &file));
	if (strcmp(name, "root") != 0)
		repo_put(r, buf_str(&file), text.data, text.len);
	buf_clear(&file);
	MUST(buf_addf(&file, "%llu.", (unsigned long long) role->version));
	MUST(tuf_file_name(name, ".json", &file));
	if (strcmp(name, "timestamp") != 0)
		repo_put(r, buf_str(&file), text.data, text.len);
}

void repo_sign_all(struct tuf_repo *r, bool root)
{
	for (const struct repo_role *role = r->roles; role; role = role->next)
		if (!is_top(role->name))
			repo_sign(r, role->name);
	repo_sign(r, "targets");
	repo_sign(r, "snapshot");
	repo_sign(r, "timestamp");
	if (root)
		repo_sign(r, "root");
}

void repo_bump(struct tuf_repo *r, const char *name)
{
	repo_role(r, name)->version++;
	repo_sign(r, name);
	if (strcmp(name, "root") == 0 || strcmp(name, "timestamp") == 0)
		return;
	if (strcmp(name, "snapshot") != 0) {
		repo_bump(r, "snapshot");
		return;
	}
	repo_bump(r, "timestamp");
}

struct tuf_repo *repo_new(void)
{
	struct tuf_repo *r = calloc(1, sizeof(*r));
	struct repo_role *root;

	if (!r)
		abort();
	r->fetcher.get = serve;
	buf_init(&r->log, FILE_MAX);
	root = add_role(r, "root", KEYS(1, 0));
	root->consistent = true;
	root->expires = REPO_NOW + 365 * REPO_DAY;
	for (unsigned i = 0; i < 4; i++)
		root->top[i] = KEYS(1, i);
	(void) add_role(r, "timestamp", KEYS(1, 1));
	(void) add_role(r, "snapshot", KEYS(1, 2));
	(void) add_role(r, "targets", KEYS(1, 3));
	repo_sign_all(r, true);
	return r;
}

void repo_free(struct tuf_repo *r)
{
	while (r->roles) {
		struct repo_role *next = r->roles->next;

		free(r->roles);
		r->roles = next;
	}
	while (r->files)
		repo_remove(r, r->files->name);
	buf_done(&r->log);
	free(r);
}

/* --- the client --- */

static int64_t clock_real(const struct os *os)
{
	(void) os;
	return repo_clock;
}

static uint64_t clock_boot_ms(const struct os *os)
{
	(void) os;
	return repo_clock_ms;
}

void repo_client_new(struct repo_client *k, struct tuf_repo *r)
{
	const char *base = getenv("TMPDIR");
	const struct repo_file *root = repo_file(r, "1.root.json");

	*k = (struct repo_client){ .os = os_posix };
	k->os.clock_real = clock_real;
	k->os.clock_boot_ms = clock_boot_ms;
	(void) snprintf(k->dir, sizeof(k->dir), "%s/tuf-XXXXXX", base && strlen(base) < 40 ? base : "/tmp");
	if (!mkdtemp(k->dir))
		abort();
	k->dirfd = open(k->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert(k->dirfd >= 0);
	k->options = (struct tuf_options){
		.os = &k->os, .dirfd = k->dirfd, .prefix = "", .targets_prefix = "", .limits = tuf_limits_default
	};
	MUST(tuf_client_open(&k->options, &k->c));
	MUST(tuf_client_init(k->c, root->bytes.data, root->bytes.len));
}

void repo_client_reopen(struct repo_client *k)
{
	tuf_client_close(k->c);
	k->c = NULL;
	MUST(tuf_client_open(&k->options, &k->c));
}

void repo_client_free(struct repo_client *k)
{
	tuf_client_close(k->c);
	k->c = NULL;
	MUST(close(k->dirfd));
	MUST(tree_remove(&os_posix, AT_FDCWD, k->dir));
}

uint64_t repo_stored_version(const struct repo_client *k, const char *file)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(FILE_MAX);
	CLEANUP(json_freep)
	struct json *j = NULL;
	int64_t version = 0;
	int r = file_read(&os_posix, k->dirfd, file, FILE_MAX, &bytes);

	if (r == -ENOENT)
		return 0;
	MUST(r);
	MUST(json_parse(bytes.data, bytes.len, &json_limits_default, &j));
	(void) json_integer(json_get(json_get(j, "signed"), "version"), &version); /* stays 0 */
	return (uint64_t) version;
}
