#include "server-stub/cli/cli.h"

#include "base/err.h"
#include "base/text.h"
#include "base/timestamp.h"
#include "json/build.h"
#include "json/json.h"
#include "os/durable.h"
#include "os/os.h"
#include "server-stub/cli/cmd_repo.h"
#include "server-stub/cli/publisher.h"
#include "server-stub/repo/offline.h"
#include "server-stub/repo/repo.h"
#include "server-stub/repo/role_file.h"
#include "server-stub/signer/client.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- status --- */

enum health { HEALTH_OK, HEALTH_HALF, HEALTH_ALARM, HEALTH_EXPIRED };

static const struct {
	const char *name;
	enum cli_colour colour;
} healths[] = {
	[HEALTH_OK] = { "ok", CLI_GREEN },
	[HEALTH_HALF] = { "half of its life is over: renew it soon", CLI_YELLOW },
	[HEALTH_ALARM] = { "expires soon: renew it now", CLI_RED },
	[HEALTH_EXPIRED] = { "EXPIRED: nodes take nothing new", CLI_RED },
};

struct listing {
	struct cli_table *table;
	struct json_node *roles;
	int64_t now;
	enum health worst;
};

static enum health judge(const struct repo_role_info *info, int64_t now)
{
	int64_t left = info->expires - now, life = (int64_t) info->life_s;

	return left <= 0	  ? HEALTH_EXPIRED
	       : left * 5 <= life ? HEALTH_ALARM
	       : left * 2 <= life ? HEALTH_HALF
				  : HEALTH_OK;
}

static void list_role(void *user, const struct repo_role_info *info)
{
	struct listing *l = user;
	enum health health = judge(info, l->now);
	struct json_node *o = node_object(l->roles, info->name);
	char expires[TIMESTAMP_LEN + 1], left[32];

	l->worst = health > l->worst ? health : l->worst;
	timestamp_format(expires, info->expires);
	node_integer(o, "version", (int64_t) info->version);
	node_string(o, "expires", expires);
	node_integer(o, "seconds_left", info->expires - l->now);
	node_integer(o, "keys", info->keys);
	node_integer(o, "threshold", info->threshold);
	node_bool(o, "online", info->online);
	node_string(o, "state", (const char *[]){ "ok", "half-life", "alarm", "expired" }[health]);
	cli_table_cell(l->table, CLI_PLAIN, "%s", info->name);
	cli_table_cell(l->table, CLI_PLAIN, "%llu", (unsigned long long) info->version);
	cli_table_cell(l->table, CLI_PLAIN, "%s", expires);
	cli_table_cell(l->table, CLI_PLAIN, "%s", cli_span(left, sizeof(left), info->expires - l->now));
	cli_table_cell(l->table, CLI_PLAIN, "%u of %u%s", info->threshold, info->keys,
		       info->online ? ", online" : "");
	cli_table_cell(l->table, healths[health].colour, "%s", healths[health].name);
}

/* What the signer says of itself; it may not run. */
static void signer_state(const struct publisher *p, struct json_node *o)
{
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(PATH_MAX);
	CLEANUP(signer_disconnectp)
	struct signer_client *signer = NULL;
	CLEANUP(json_freep)
	struct json *status = NULL;
	const char *state = "not running", *reason = NULL;

	if (buf_addf(&path, "%s/signer/signer.sock", p->cli->dir) >= 0 &&
	    signer_connect(buf_str(&path), &signer) >= 0) {
		state = "not answering";
		if (signer_status(signer, &status) >= 0) {
			state = json_string(json_get(status, "state"));
			reason = json_string(json_get(status, "reason"));
		}
	}
	node_string(o, "signer", state);
	if (reason)
		node_string(o, "signer_reason", reason);
	cli_say(p->cli, "\nsigner: %s%s%s", state ? state : "?", reason ? ": " : "", reason ? reason : "");
	cli_say(p->cli, "server: %s", p->server ? "running" : "not running");
	node_bool(o, "server", p->server);
}

/* Orders of a restored backup that wait for a person: only the controller knows them. */
static void orders_to_confirm(const struct publisher *p, struct json_node *o)
{
	CLEANUP(json_freep)
	struct json *answer = NULL;
	const struct json *list;

	if (!p->server || cli_call_json(p->cli, "GET", "/v1/orders", NULL, &answer) != CLI_OK)
		return;
	list = json_get(answer, "unconfirmed");
	node_copy(o, "orders_to_confirm", list);
	for (size_t i = 0; i < json_count(list); i++) {
		const struct json *order = json_at(list, i);

		cli_say(p->cli, "order to confirm: %s (%s of %s); selfright node confirm %s",
			json_string(json_get(order, "id")), json_string(json_get(order, "kind")),
			json_string(json_get(order, "node")), json_string(json_get(order, "id")));
	}
}

static int status_of(struct publisher *p)
{
	static const char *const headings[] = { "ROLE", "VERSION", "EXPIRES", "LEFT", "KEYS", "STATE" };
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(4 * 1024 * 1024);
	struct json_node *o = json_build_root(b);
	struct listing l = { .table = cli_table_new(headings, ARRAY_LEN(headings)),
			     .now = os_posix.clock_real(&os_posix) };
	int r;

	node_string(o, "fleet", p->fleet);
	l.roles = node_object(o, "roles");
	cli_say(p->cli, "fleet: %s\n", p->fleet);
	repo_each_role(p->repo, list_role, &l);
	cli_table_print(p->cli, l.table);
	signer_state(p, o);
	orders_to_confirm(p, o);
	r = json_build_text(b, false, &text);
	if (r < 0)
		return cli_fail_error(p->cli, r, "the status");
	if (p->cli->json)
		cli_print_json(buf_str(&text));
	return l.worst >= HEALTH_ALARM ? CLI_FAILED : CLI_OK;
}

static int status(int argc, char **argv)
{
	static const struct cli_command command = {
		.usage = "repo status",
		.summary = "every role: version, expiry, keys; warnings at half of its life, alarms at a fifth",
		.details = "Exit code 1 if a role is in alarm or expired, so that it can be watched by cron.",
		.example = "selfright repo status --dir fleet",
		.max_args = 0,
	};
	struct publisher p;
	struct cli c;
	int r = cli_parse(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	r = publisher_open(&c, NULL, &p);
	if (r == CLI_OK)
		r = status_of(&p);
	publisher_close(&p);
	return r;
}

/* --- renewal and offline signing --- */

static const char *passphrase_file, *output, *keys_folder;

static int say_done(const struct cli *c, const char *role, uint64_t role_version)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(4096);

	node_string(json_build_root(b), "role", role);
	node_integer(json_build_root(b), "version", (int64_t) role_version);
	node_string(json_build_root(b), "state", "published");
	if (c->json && json_build_text(b, false, &text) >= 0)
		cli_print_json(buf_str(&text));
	cli_say(c, "%s version %llu is published.", role, (unsigned long long) role_version);
	return CLI_OK;
}

static uint64_t version_of(const struct json *body)
{
	uint64_t role_version = 0;

	/* Only shown; 0 for what has none. */
	(void) !json_need_u64(body, "version", 1, UINT64_MAX >> 11, &role_version);
	return role_version;
}

static int refuse_online(const struct cli *c, const char *role)
{
	if (!guard_id(role))
		return cli_fail(c, CLI_USAGE, "'%s' is no role", role);
	if (role_is_online(role) && !str_eq(role, "inventory"))
		return cli_fail(c, CLI_REFUSED,
				"%s is an online role: the signer renews it by itself while the server runs",
				role);
	return CLI_OK;
}

static int next_body(struct publisher *p, const char *role, struct json **ret)
{
	CLEANUP(json_freep)
	struct json *metadata = NULL;
	int r = publisher_body(p, role, &metadata);

	if (r != CLI_OK)
		return r;
	r = offline_renew(json_get(metadata, "signed"), os_posix.clock_real(&os_posix), ret);
	return r < 0 ? cli_fail_error(p->cli, r, "role %s", role) : CLI_OK;
}

static int renew(int argc, char **argv)
{
	static const struct cli_option options[] = {
		{ .name = "passphrase-file",
		  .value = "FILE",
		  .help = "opens the key files",
		  .text = &passphrase_file },
		{ .name = "output",
		  .value = "FILE",
		  .help = "where a signing request goes if keys are missing (-o)",
		  .text = &output },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "repo renew ROLE",
		.summary = "sign an offline role again with a later expiry, and publish it",
		.example = "selfright repo renew targets --dir fleet",
		.options = options,
		.min_args = 1,
		.max_args = 1,
	};
	CLEANUP(json_freep)
	struct json *body = NULL;
	struct publisher p;
	struct cli c;
	int r = cli_parse(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	r = refuse_online(&c, c.args[0]);
	if (r != CLI_OK)
		return r;
	r = publisher_open(&c, passphrase_file, &p);
	if (r == CLI_OK)
		r = next_body(&p, c.args[0], &body);
	if (r == CLI_OK)
		r = publisher_sign_and_publish(&p, c.args[0], body, NULL, output);
	if (r == CLI_OK)
		r = say_done(&c, c.args[0], version_of(body));
	publisher_close(&p);
	return r;
}

static int write_request(struct publisher *p, const char *role, const struct json *body)
{
	CLEANUP(buf_done)
	struct buf metadata = BUF_INIT(ROLE_FILE_MAX), text = BUF_INIT(2 * ROLE_FILE_MAX),
		   name = BUF_INIT(PATH_MAX);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const struct key_files none = { .count = 0 };
	int r = offline_sign(body, &none, NULL, &metadata);

	if (r >= 0)
		r = json_parse(metadata.data, metadata.len, &json_limits_default, &doc);
	if (r >= 0)
		r = offline_request(p->fleet, role, doc, &text);
	if (r >= 0)
		r = output ? buf_add_str(&name, output) : buf_addf(&name, "%s.request.json", role);
	if (r < 0)
		return cli_fail_error(p->cli, r, "the signing request");
	r = cli_write_file(p->cli, buf_str(&name), text.data, text.len, 0644);
	if (r == CLI_OK && !str_eq(buf_str(&name), "-"))
		cli_say(p->cli, "%s is there. Sign it where the keys are: selfright repo sign %s", buf_str(&name),
			buf_str(&name));
	return r;
}

static int sign_request(int argc, char **argv)
{
	static const struct cli_option options[] = {
		{ .name = "output",
		  .value = "FILE",
		  .help = "the request (-o; ROLE.request.json)",
		  .text = &output },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "repo sign-request ROLE [-o FILE]",
		.summary = "write a request to renew an offline role, to be signed elsewhere",
		.details = "Commands that change a role (component add, publish, repo rotate) write such a "
			   "request by themselves\n"
			   "when the keys here are too few.",
		.example = "selfright repo sign-request root -o root.request.json",
		.options = options,
		.min_args = 1,
		.max_args = 1,
	};
	CLEANUP(json_freep)
	struct json *body = NULL;
	struct publisher p;
	struct cli c;
	int r = cli_parse(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	r = refuse_online(&c, c.args[0]);
	if (r != CLI_OK)
		return r;
	r = publisher_open(&c, NULL, &p);
	if (r == CLI_OK)
		r = next_body(&p, c.args[0], &body);
	if (r == CLI_OK)
		r = write_request(&p, c.args[0], body);
	publisher_close(&p);
	return r;
}

static int read_request(const struct cli *c, const char *path, const char *fleet, struct json **ret,
			const char **ret_role)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(2 * ROLE_FILE_MAX);
	int r = cli_read_file(c, path, 2 * ROLE_FILE_MAX, &text);

	if (r != CLI_OK)
		return r;
	r = offline_request_parse(text.data, text.len, fleet, ret, ret_role);
	if (r == -ERR_DISAGREE)
		return cli_fail(c, CLI_REFUSED, "%s is a request of another fleet", path);
	return r < 0 ? cli_fail_error(c, r, "%s is no signing request", path) : CLI_OK;
}

/* A person signs what they were shown: the text goes to people's eyes, whatever tool made the file. */
static void show_request(const struct cli *c, const char *role, const struct json *request)
{
	const struct json *body = json_get(request, "signed"),
			  *roles = json_get(json_get(body, "delegations"), "roles");
	const struct json *targets = json_get(body, "targets"), *top = json_get(body, "roles");
	const char *expires = json_string(json_get(body, "expires")),
		   *fleet = json_string(json_get(request, "fleet"));

	cli_say(c, "fleet %s, role %s, version %llu, expires %s", fleet, role,
		(unsigned long long) version_of(body), expires ? expires : "never");
	for (size_t i = 0; i < json_count(top); i++) {
		const struct json *ids = json_get(json_at(top, i), "keyids");
		int64_t threshold = 0;

		(void) json_integer(json_get(json_at(top, i), "threshold"), &threshold); /* only shown */
		cli_say(c, "  %s: %lld of %zu keys", json_name_at(top, i), (long long) threshold, json_count(ids));
		for (size_t k = 0; k < json_count(ids); k++)
			cli_say(c, "    %s", json_string(json_at(ids, k)) ? json_string(json_at(ids, k)) : "?");
	}
	for (size_t i = 0; i < json_count(roles); i++) {
		const char *name = json_string(json_get(json_at(roles, i), "name"));

		cli_say(c, "  delegates to %s (%zu keys)", guard_id(name) ? name : "?",
			json_count(json_get(json_at(roles, i), "keyids")));
	}
	for (size_t i = 0; i < json_count(targets); i++)
		if (guard_path(json_name_at(targets, i)))
			cli_say(c, "  lists %s", json_name_at(targets, i));
}

static int sign_here(const struct cli *c, const char *path, const char *role, const struct json *request)
{
	CLEANUP(key_files_done)
	struct key_files keys = { .count = 0 };
	CLEANUP(buf_done)
	struct buf folder = BUF_INIT(PATH_MAX), passphrase = BUF_INIT(1024);
	CLEANUP(buf_done)
	struct buf metadata = BUF_INIT(ROLE_FILE_MAX), text = BUF_INIT(2 * ROLE_FILE_MAX);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const char *phrase_path = passphrase_file ? passphrase_file : getenv("SELFRIGHT_PASSPHRASE_FILE");
	char file[256];
	int r;

	r = keys_folder ? buf_add_str(&folder, keys_folder)
	    : *c->dir	? buf_addf(&folder, "%s/keys", c->dir)
			: buf_add_str(&folder, ".");
	if (r < 0)
		return cli_fail_error(c, r, "the folder of the keys");
	if (phrase_path && *phrase_path) {
		r = cli_read_file(c, phrase_path, 1024, &passphrase);
		if (r != CLI_OK)
			return r;
		passphrase.len = strcspn(buf_str(&passphrase), "\r\n");
		if (passphrase.data)
			passphrase.data[passphrase.len] = '\0';
	}
	r = key_files_load(&os_posix, buf_str(&folder), role, passphrase.len > 0 ? buf_str(&passphrase) : NULL,
			   &keys, file);
	if (passphrase.data)
		explicit_bzero(passphrase.data, passphrase.len);
	if (r < 0)
		return cli_fail_error(c, r, "key %s", file);
	if (keys.count == 0)
		return cli_fail(c, CLI_FAILED, "there is no %s-<n>.pem in %s (--keys DIR names another folder)",
				role, buf_str(&folder));
	r = offline_sign(json_get(request, "signed"), &keys, json_get(request, "signatures"), &metadata);
	if (r >= 0)
		r = json_parse(metadata.data, metadata.len, &json_limits_default, &doc);
	if (r >= 0)
		r = offline_request(json_string(json_get(request, "fleet")), role, doc, &text);
	if (r < 0)
		return cli_fail_error(c, r, "%s cannot be signed", path);
	r = cli_write_file(c, output ? output : path, text.data, text.len, 0644);
	if (r == CLI_OK)
		cli_say(c,
			"signed with %zu keys; it now carries %zu signatures. Bring it back: selfright repo merge "
			"%s",
			keys.count, json_count(json_get(doc, "signatures")), output ? output : path);
	return r;
}

static int sign(int argc, char **argv)
{
	static const struct cli_option options[] = {
		{ .name = "keys",
		  .value = "DIR",
		  .help = "the folder with the role's key files (DIR/keys)",
		  .text = &keys_folder },
		{ .name = "passphrase-file",
		  .value = "FILE",
		  .help = "opens the key files",
		  .text = &passphrase_file },
		{ .name = "output",
		  .value = "FILE",
		  .help = "where the signed request goes (-o; in place)",
		  .text = &output },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "repo sign REQUEST [--keys DIR] [-o FILE]",
		.summary = "show a signing request and add the signatures of the keys at hand",
		.details =
			"Needs no fleet folder: only the request and the keys, as on a machine without a network.",
		.example = "selfright repo sign root.request.json --keys /media/stick",
		.options = options,
		.min_args = 1,
		.max_args = 1,
	};
	CLEANUP(json_freep)
	struct json *request = NULL;
	const char *role;
	struct cli c;
	int r = cli_parse(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	r = read_request(&c, c.args[0], NULL, &request, &role);
	if (r != CLI_OK)
		return r;
	show_request(&c, role, request);
	return sign_here(&c, c.args[0], role, request);
}

/* All requests of the arguments into one metadata document. */
static int merge_all(struct publisher *p, struct json **ret, const char **ret_role, struct buf *ret_text)
{
	const struct cli *c = p->cli;
	int r = read_request(c, c->args[0], p->fleet, ret, ret_role);

	for (int i = 0; r == CLI_OK && i < c->arg_count; i++) {
		CLEANUP(json_freep)
		struct json *more = NULL;
		CLEANUP(json_freep)
		struct json *before = NULL;
		CLEANUP(buf_done)
		struct buf request = BUF_INIT(2 * ROLE_FILE_MAX);
		const char *role;

		r = read_request(c, c->args[i], p->fleet, &more, &role);
		if (r != CLI_OK)
			return r;
		if (!str_eq(role, *ret_role))
			return cli_fail(c, CLI_REFUSED, "%s is for role %s, not %s", c->args[i], role, *ret_role);
		buf_clear(ret_text);
		r = offline_merge(*ret, more, ret_text);
		if (r == -ERR_DISAGREE)
			return cli_fail(c, CLI_REFUSED,
					"%s is another change than %s: only signatures of the same are merged",
					c->args[i], c->args[0]);
		if (r >= 0)
			r = json_parse(ret_text->data, ret_text->len, &json_limits_default, &before);
		if (r >= 0)
			r = offline_request(p->fleet, *ret_role, before, &request);
		json_free(*ret);
		*ret = NULL;
		if (r >= 0)
			r = offline_request_parse(request.data, request.len, p->fleet, ret, ret_role);
		if (r < 0)
			return cli_fail_error(c, r, "%s", c->args[i]);
		r = CLI_OK;
	}
	return r;
}

static int merge_and_publish(struct publisher *p)
{
	CLEANUP(json_freep)
	struct json *request = NULL;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ROLE_FILE_MAX), all = BUF_INIT(2 * ROLE_FILE_MAX), missing = BUF_INIT(1024);
	const char *role = NULL;
	bool complete;
	int r = merge_all(p, &request, &role, &text);

	if (r == CLI_OK)
		r = publisher_is_complete(p, role, request, &complete, &missing);
	if (r != CLI_OK)
		return r;
	if (complete) {
		r = publisher_publish(p, role, text.data, text.len);
		return r == CLI_OK ? say_done(p->cli, role, version_of(json_get(request, "signed"))) : r;
	}
	r = offline_request(p->fleet, role, request, &all);
	if (r < 0)
		return cli_fail_error(p->cli, r, "the merged request");
	r = cli_write_file(p->cli, output ? output : p->cli->args[0], all.data, all.len, 0644);
	return r != CLI_OK
		       ? r
		       : cli_fail(p->cli, CLI_REFUSED, "%s has %s: not published yet; the merged request is in %s",
				  role, buf_str(&missing), output ? output : p->cli->args[0]);
}

static int merge(int argc, char **argv)
{
	static const struct cli_option options[] = {
		{ .name = "output",
		  .value = "FILE",
		  .help = "where a still incomplete request goes (-o; the first one)",
		  .text = &output },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "repo merge REQUEST [REQUEST ...]",
		.summary = "put the signatures of requests together, and publish when they are enough",
		.example = "selfright repo merge root.request.anna.json root.request.ben.json --dir fleet",
		.options = options,
		.min_args = 1,
		.max_args = CLI_ARGS_MAX,
	};
	struct publisher p;
	struct cli c;
	int r = cli_parse(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	r = publisher_open(&c, NULL, &p);
	if (r == CLI_OK)
		r = merge_and_publish(&p);
	publisher_close(&p);
	return r;
}

int cmd_repo(int argc, char **argv)
{
	static const struct cli_sub subs[] = {
		{ "init", "make a fleet's folder: keys, CA, first metadata", cmd_repo_init },
		{ "status", "every role: version, expiry, keys", status },
		{ "renew", "sign an offline role again with a later expiry", renew },
		{ "rotate", "replace or revoke keys of any role", cmd_repo_rotate },
		{ "sign-request", "a request to be signed where the keys are", sign_request },
		{ "sign", "add signatures to a request", sign },
		{ "merge", "put signatures together and publish", merge },
		{ "approvers", "people beyond the teams whose word a policy may ask", cmd_repo_approvers },
		{ "recover", "go on after a restored backup", cmd_repo_recover },
		{ 0 },
	};

	return cli_dispatch("repo", "The fleet's keys and signed metadata.", subs, argc, argv);
}
