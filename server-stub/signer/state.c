#include "server-stub/signer/state.h"

#include "base/err.h"
#include "json/build.h"
#include "json/json.h"
#include "os/durable.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STATE_MAX = 4 * 1024 * 1024 };

static const uint64_t version_max = (UINT64_C(1) << 53) - 1;

static int read_record(const struct json *o, struct signer_record *ret)
{
	const char *sha256 = "";
	uint64_t expires = 0;
	int r;

	r = json_need_u64(o, "version", 0, version_max, &ret->version);
	if (r >= 0)
		r = json_need_u64(o, "length", 0, version_max, &ret->length);
	if (r >= 0)
		r = json_need_u64(o, "expires", 0, version_max, &expires);
	if (r >= 0)
		r = json_need_string(o, "sha256", &sha256);
	if (r < 0)
		return r;
	if (strlen(sha256) > SHA256_HEX)
		return -ERR_FIELD_VALUE;
	(void) snprintf(ret->sha256, sizeof(ret->sha256), "%s", sha256);
	ret->expires = (int64_t) expires;
	return 0;
}

static int read_state(const struct json *doc, struct signer_state *s)
{
	const struct json *roles, *listed, *pending;
	uint64_t format;
	int r;

	r = json_need_u64(doc, "format", 1, 1, &format);
	if (r >= 0)
		r = json_need_u64(doc, "counter", 0, version_max, &s->counter);
	if (r >= 0)
		r = json_need(doc, "roles", JSON_OBJECT, &roles);
	if (r >= 0)
		r = json_need(doc, "listed", JSON_OBJECT, &listed);
	if (r >= 0)
		r = json_need(doc, "pending", JSON_OBJECT, &pending);
	if (r >= 0)
		r = json_need_u64(doc, "named_snapshot", 0, version_max, &s->named_snapshot);
	for (int i = 0; r >= 0 && i < SIGNER_ROLE_COUNT; i++) {
		const struct json *o = json_get(roles, signer_rules[i].name);

		if (o)
			r = read_record(o, &s->roles[i]);
	}
	if (r >= 0)
		r = signer_listing_set(&s->listed, listed, false);
	if (r >= 0)
		r = signer_listing_set(&s->pending, pending, false);
	return r;
}

int signer_state_load(const struct os *os, int dirfd, struct signer_state *ret)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(STATE_MAX);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct signer_state s = { 0 };
	int r;

	r = file_read(os, dirfd, "state", STATE_MAX, &text);
	if (r < 0 && r != -ERR_TOO_LARGE)
		return r;
	if (r >= 0)
		r = json_parse(text.data, text.len, &json_limits_default, &doc);
	if (r >= 0)
		r = read_state(doc, &s);
	if (r < 0) {
		signer_state_done(&s);
		return r == -ENOMEM ? r : -ERR_STALE_STATE;
	}
	*ret = s;
	return 0;
}

static void write_listing(struct json_node *parent, const char *name, const struct signer_listing *l)
{
	struct json_node *o = node_object(parent, name);

	for (size_t i = 0; i < l->count; i++)
		node_integer(node_object(o, l->items[i].file), "version", (int64_t) l->items[i].version);
}

int signer_state_save(const struct os *os, int dirfd, const struct signer_state *s)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(STATE_MAX);
	struct json_node *root = json_build_root(b), *roles;
	int r;

	node_integer(root, "format", 1);
	node_integer(root, "counter", (int64_t) s->counter);
	roles = node_object(root, "roles");
	for (int i = 0; i < SIGNER_ROLE_COUNT; i++) {
		struct json_node *o = node_object(roles, signer_rules[i].name);

		node_integer(o, "version", (int64_t) s->roles[i].version);
		node_integer(o, "length", (int64_t) s->roles[i].length);
		node_integer(o, "expires", s->roles[i].expires);
		node_string(o, "sha256", s->roles[i].sha256);
	}
	node_integer(root, "named_snapshot", (int64_t) s->named_snapshot);
	write_listing(root, "listed", &s->listed);
	write_listing(root, "pending", &s->pending);
	r = json_build_text(b, false, &text);
	if (r < 0)
		return r;
	return durable_write_file(os, dirfd, "state", text.data, text.len, 0600);
}

void signer_listing_done(struct signer_listing *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->items[i].file);
	free(l->items);
	*l = (struct signer_listing){ 0 };
}

void signer_state_done(struct signer_state *s)
{
	signer_listing_done(&s->listed);
	signer_listing_done(&s->pending);
	*s = (struct signer_state){ 0 };
}

void signer_state_confirm(struct signer_state *s)
{
	if (s->pending.count == 0 || s->named_snapshot != s->roles[SIGNER_SNAPSHOT].version)
		return;
	signer_listing_done(&s->listed);
	s->listed = s->pending;
	s->pending = (struct signer_listing){ 0 };
}

uint64_t signer_listing_version(const struct signer_listing *l, const char *file)
{
	for (size_t i = 0; i < l->count; i++)
		if (str_eq(l->items[i].file, file))
			return l->items[i].version;
	return 0;
}

/* There is room for it. */
static int listing_put(struct signer_listing *l, const char *file, uint64_t version)
{
	for (size_t i = 0; i < l->count; i++)
		if (str_eq(l->items[i].file, file)) {
			if (l->items[i].version < version)
				l->items[i].version = version;
			return 0;
		}
	l->items[l->count].file = strdup(file);
	if (!l->items[l->count].file)
		return -ENOMEM;
	l->items[l->count++].version = version;
	return 0;
}

static int listing_new(size_t room, const struct signer_listing *from, struct signer_listing *ret)
{
	struct signer_listing l = { calloc(room ? room : 1, sizeof(*l.items)), 0 };
	int r = l.items ? 0 : -ENOMEM;

	for (size_t i = 0; r >= 0 && i < from->count; i++)
		r = listing_put(&l, from->items[i].file, from->items[i].version);
	if (r < 0) {
		signer_listing_done(&l);
		return r;
	}
	*ret = l;
	return 0;
}

int signer_listing_copy(const struct signer_listing *from, struct signer_listing *ret)
{
	return listing_new(from->count, from, ret);
}

int signer_listing_set(struct signer_listing *l, const struct json *meta, bool merge)
{
	const struct signer_listing none = { 0 };
	struct signer_listing fresh;
	int r = listing_new(json_count(meta) + (merge ? l->count : 0), merge ? l : &none, &fresh);

	if (r < 0)
		return r;
	for (size_t i = 0; r >= 0 && i < json_count(meta); i++) {
		uint64_t version;

		r = json_need_u64(json_at(meta, i), "version", 1, version_max, &version);
		if (r >= 0)
			r = listing_put(&fresh, json_name_at(meta, i), version);
	}
	if (r < 0) {
		signer_listing_done(&fresh);
		return r;
	}
	signer_listing_done(l);
	*l = fresh;
	return 0;
}
