#include "tuf/client.h"
#include "tuf/delegation.h"

#include "base/err.h"
#include "base/log.h"
#include "crypto/digest.h"
#include "json/json.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct search {
	struct tuf_client *client;
	struct fetcher *fetcher;
	const char *path;
	uint8_t digest[SHA256_BYTES]; /* of the path, for hash prefixes and bins */
	char hex[SHA256_HEX + 1];
	const char **visited; /* names that live until the next refresh */
	size_t visited_count;
	struct tuf_target *found;
};

enum { SEARCH_GOES_ON = 0, SEARCH_ENDS = 1 }; /* found, or cut off by a terminating delegation */

/* --- which delegations a path goes to --- */

static int path_digest(const char *path, uint8_t ret[static SHA256_BYTES], char ret_hex[static SHA256_HEX + 1])
{
	int r = sha256_of(path, strlen(path), ret);

	if (r >= 0)
		hex_encode(ret_hex, ret, SHA256_BYTES);
	return r;
}

static bool role_has_path(const struct json *role, const char *path, const char *hex)
{
	const struct json *paths = json_get(role, "paths"), *prefixes = json_get(role, "path_hash_prefixes");

	for (size_t i = 0; i < json_count(paths); i++)
		if (glob_match(json_string(json_at(paths, i)), path))
			return true;
	for (size_t i = 0; i < json_count(prefixes); i++)
		if (str_starts(hex, json_string(json_at(prefixes, i))))
			return true;
	return false;
}

/* TAP 15: the bin of a path is its hash's leading bits; all bins have the same keys. */
static void bin_of(const struct json *succinct, const uint8_t digest[static SHA256_BYTES],
		   char ret[static TUF_ROLE_NAME_MAX + 1])
{
	int64_t bits = 1;
	uint32_t leading =
		(uint32_t) digest[0] << 24 | (uint32_t) digest[1] << 16 | (uint32_t) digest[2] << 8 | digest[3];

	(void) json_integer(json_get(succinct, "bit_length"), &bits); /* interpreted before: 1 to 32 */
	(void) snprintf(ret, TUF_ROLE_NAME_MAX + 1, "%s-%0*x", json_string(json_get(succinct, "name_prefix")),
			(int) ((bits + 3) / 4), leading >> (32 - bits)); /* its length was checked */
}

/* The i-th delegation of a role, or false behind the last. */
static bool delegation_at(const struct json *delegations, size_t i, const uint8_t digest[static SHA256_BYTES],
			  struct delegation *ret)
{
	const struct json *succinct = json_get(delegations, "succinct_roles");
	const struct json *role = succinct ? succinct : json_at(json_get(delegations, "roles"), i);

	if (!role || (succinct && i > 0))
		return false;
	*ret = (struct delegation){ .keys = json_get(delegations, "keys"), .role = role };
	if (succinct)
		bin_of(succinct, digest, ret->name);
	else
		(void) snprintf(ret->name, sizeof(ret->name), "%s",
				json_string(json_get(role, "name"))); /* its length was checked */
	ret->terminating = json_bool(json_get(role, "terminating"), false);
	return true;
}

/* --- the search --- */

static bool was_visited(const struct search *s, const char *name)
{
	for (size_t i = 0; i < s->visited_count; i++)
		if (strcmp(s->visited[i], name) == 0)
			return true;
	return false;
}

static int visit(struct search *s, const struct metadata *m, const char *role); /* and follow() each other */

static int follow(struct search *s, const struct delegation *d)
{
	const struct role_file *file;
	int r;

	if (was_visited(s, d->name))
		return d->terminating ? SEARCH_ENDS : SEARCH_GOES_ON;
	/* Not "not listed": absence means something to a node, and must be seen, not assumed. */
	if (s->visited_count >= s->client->options.limits.roles_visited)
		return client_fail(s->client, -ERR_TOO_LARGE, "targets.json",
				   "leads to more roles than the limit");
	r = delegation_load(s->client, s->fetcher, d, &file);
	if (r < 0)
		return r;
	r = visit(s, file->metadata, file->name);
	return r == SEARCH_GOES_ON && d->terminating ? SEARCH_ENDS : r;
}

/* Pre-order, depth first; as deep as the cap on visited roles at most. */
static int visit(struct search *s, const struct metadata *m, const char *role)
{
	const struct json *entry = json_get(json_get(m->body, "targets"), s->path);
	const struct json *delegations = json_get(m->body, "delegations");
	struct delegation d;
	int r;

	if (entry) {
		r = target_from_entry(s->path, entry, role, s->found);
		return r < 0 ? r : SEARCH_ENDS;
	}
	s->visited[s->visited_count++] = role;
	for (size_t i = 0; delegation_at(delegations, i, s->digest, &d); i++) {
		if (!json_get(delegations, "succinct_roles") && !role_has_path(d.role, s->path, s->hex))
			continue;
		r = follow(s, &d);
		if (r != SEARCH_GOES_ON)
			return r;
	}
	return SEARCH_GOES_ON;
}

/* What a search starts from: a whole set of files, none expired by the time of the last refresh. */
static int need_trusted(struct tuf_client *c)
{
	c->error[0] = '\0';
	if (!c->root)
		return client_fail(c, c->root_error, "root.json", NULL);
	if (!c->whole)
		return client_fail(c, -ERR_UNTRUSTED, "targets.json", "no complete refresh yet");
	if (client_expired(c, c->root))
		return client_fail(c, -ERR_EXPIRED, "root.json", NULL);
	if (client_expired_online(c, c->timestamp))
		return client_fail(c, -ERR_EXPIRED, "timestamp.json", NULL);
	if (client_expired_online(c, c->snapshot))
		return client_fail(c, -ERR_EXPIRED, "snapshot.json", NULL);
	if (client_expired(c, c->targets))
		return client_fail(c, -ERR_EXPIRED, "targets.json", NULL);
	return 0;
}

int tuf_client_find(struct tuf_client *c, struct fetcher *f, const char *path, struct tuf_target *ret)
{
	struct tuf_target found = { .length = 0 };
	struct search s = { .client = c, .fetcher = f, .path = path, .found = &found };
	char quoted[128];
	int r;

	r = need_trusted(c);
	if (r < 0)
		return r;
	if (!*path || strlen(path) > TUF_PATH_MAX)
		return client_fail(c, -ERR_NAME, log_quote(quoted, sizeof(quoted), path), NULL);
	r = path_digest(path, s.digest, s.hex);
	if (r < 0)
		return r;
	s.visited = calloc(c->options.limits.roles_visited + 1, sizeof(*s.visited));
	if (!s.visited)
		return -ENOMEM;
	r = visit(&s, c->targets, role_type_name(ROLE_TARGETS));
	free(s.visited);
	if (r < 0)
		return c->error[0] ? r : client_fail(c, r, log_quote(quoted, sizeof(quoted), path), NULL);
	if (!found.has_sha256 && !found.has_sha512)
		return client_fail(c, -ERR_NOT_LISTED, log_quote(quoted, sizeof(quoted), path), NULL);
	*ret = found;
	return 0;
}

/* --- whole roles --- */

const struct json *client_delegation(const struct tuf_client *c, const char *role)
{
	const struct json *roles =
		c->targets ? json_get(json_get(c->targets->body, "delegations"), "roles") : NULL;

	for (size_t i = 0; i < json_count(roles); i++)
		if (str_eq(role, json_string(json_get(json_at(roles, i), "name"))))
			return json_at(roles, i);
	return NULL;
}

static int each_of(const struct metadata *m, const struct json *delegation, const char *role,
		   int (*each)(void *user, const struct tuf_target *t), void *user)
{
	const struct json *targets = json_get(m->body, "targets");

	for (size_t i = 0; i < json_count(targets); i++) {
		const char *path = json_name_at(targets, i);
		uint8_t digest[SHA256_BYTES];
		char hex[SHA256_HEX + 1];
		struct tuf_target t;
		int r;

		r = path_digest(path, digest, hex);
		if (r < 0)
			return r;
		if (delegation && !role_has_path(delegation, path, hex))
			continue; /* signed, but not by somebody who may */
		r = target_from_entry(path, json_at(targets, i), role, &t);
		if (r == -ERR_NAME)
			continue; /* longer than any path we ask for */
		if (r >= 0)
			r = each(user, &t);
		if (r != 0)
			return r;
	}
	return 0;
}

int tuf_client_each_target(struct tuf_client *c, struct fetcher *f, const char *role,
			   int (*each)(void *user, const struct tuf_target *t), void *user)
{
	struct delegation d = { .terminating = true };
	const struct role_file *file;
	char quoted[128];
	int r;

	r = need_trusted(c);
	if (r < 0)
		return r;
	if (str_eq(role, role_type_name(ROLE_TARGETS)))
		return each_of(c->targets, NULL, role, each, user);
	d.role = client_delegation(c, role);
	if (!d.role)
		return client_fail(c, -ERR_NOT_LISTED, log_quote(quoted, sizeof(quoted), role),
				   "targets delegates to no such role");
	d.keys = json_get(json_get(c->targets->body, "delegations"), "keys");
	(void) snprintf(d.name, sizeof(d.name), "%s", role); /* as long as the name it equals */
	r = delegation_load(c, f, &d, &file);
	return r < 0 ? r : each_of(file->metadata, d.role, file->name, each, user);
}
