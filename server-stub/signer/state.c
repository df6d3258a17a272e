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
	const struct json *roles, *listed;
	uint64_t format;
	int r;

	r = json_need_u64(doc, "format", 1, 1, &format);
	if (r >= 0)
		r = json_need_u64(doc, "counter", 0, version_max, &s->counter);
	if (r >= 0)
		r = json_need(doc, "roles", JSON_OBJECT, &roles);
	if (r >= 0)
		r = json_need(doc, "listed", JSON_OBJECT, &listed);
	for (int i = 0; r >= 0 && i < SIGNER_ROLE_COUNT; i++) {
		const struct json *o = json_get(roles, signer_rules[i].name);

		if (o)
			r = read_record(o, &s->roles[i]);
	}
	if (r >= 0)
		r = signer_state_list(s, listed, 0);
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

int signer_state_save(const struct os *os, int dirfd, const struct signer_state *s)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(STATE_MAX);
	struct json_node *root = json_build_root(b), *roles, *listed;
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
	listed = node_object(root, "listed");
	for (size_t i = 0; i < s->listed_count; i++)
		node_integer(node_object(listed, s->listed[i].file), "version", (int64_t) s->listed[i].version);
	r = json_build_text(b, false, &text);
	if (r < 0)
		return r;
	return durable_write_file(os, dirfd, "state", text.data, text.len, 0600);
}

static void listed_done(struct signer_listed *listed, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(listed[i].file);
	free(listed);
}

void signer_state_done(struct signer_state *s)
{
	listed_done(s->listed, s->listed_count);
	*s = (struct signer_state){ 0 };
}

uint64_t signer_state_listed(const struct signer_state *s, const char *file)
{
	for (size_t i = 0; i < s->listed_count; i++)
		if (str_eq(s->listed[i].file, file))
			return s->listed[i].version;
	return 0;
}

static int list_put(struct signer_listed *listed, size_t *count, const char *file, uint64_t version)
{
	for (size_t i = 0; i < *count; i++)
		if (str_eq(listed[i].file, file)) {
			if (listed[i].version < version)
				listed[i].version = version;
			return 0;
		}
	listed[*count].file = strdup(file);
	if (!listed[*count].file)
		return -ENOMEM;
	listed[(*count)++].version = version;
	return 0;
}

int signer_state_list(struct signer_state *s, const struct json *meta, int merge)
{
	size_t count = 0, room = json_count(meta) + (merge ? s->listed_count : 0);
	struct signer_listed *listed = calloc(room ? room : 1, sizeof(*listed));
	int r = 0;

	if (!listed)
		return -ENOMEM;
	for (size_t i = 0; merge && r >= 0 && i < s->listed_count; i++)
		r = list_put(listed, &count, s->listed[i].file, s->listed[i].version);
	for (size_t i = 0; r >= 0 && i < json_count(meta); i++) {
		uint64_t version;

		r = json_need_u64(json_at(meta, i), "version", 1, version_max, &version);
		if (r >= 0)
			r = list_put(listed, &count, json_name_at(meta, i), version);
	}
	if (r < 0) {
		listed_done(listed, count);
		return r;
	}
	listed_done(s->listed, s->listed_count);
	s->listed = listed;
	s->listed_count = count;
	return 0;
}
