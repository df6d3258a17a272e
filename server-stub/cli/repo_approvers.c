#include "base/err.h"
#include "base/text.h"
#include "json/build.h"
#include "json/json.h"
#include "os/os.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/cmd_repo.h"
#include "server-stub/cli/publisher.h"

#include <stdio.h>
#include <string.h>

/* Approvers beyond the teams stand in targets, so that adding one is as hard as delegating a component. */

enum { PUBLIC_MAX = 16 * 1024 };

static const char *passphrase_file, *output;
static struct cli_values given;
static uint64_t key_count = 1, threshold = 1;

static int collect_keys(struct publisher *p, const char *approver, struct key_files *keys)
{
	int r = CLI_OK;

	for (size_t i = 0; i < given.count; i++) {
		CLEANUP(buf_done)
		struct buf pem = BUF_INIT(PUBLIC_MAX);

		r = cli_read_file(p->cli, given.items[i], PUBLIC_MAX, &pem);
		if (r != CLI_OK)
			return r;
		r = key_files_add_public(keys, buf_str(&pem));
		if (r < 0)
			return cli_fail_error(p->cli, r, "%s is no public P-256 key (selfright key show FILE)",
					      given.items[i]);
	}
	while (given.count == 0 && keys->count < key_count) {
		char name[OFFLINE_NAME_MAX + 1];
		unsigned n;

		r = key_files_next(&os_posix, p->keys, approver, &n);
		if (r >= 0) {
			(void) snprintf(name, sizeof(name), "%.*s-%u", ID_MAX, approver, n);
			r = key_files_create(&os_posix, p->keys, name, publisher_passphrase(p), keys);
		}
		if (r < 0)
			return cli_fail_error(p->cli, r, "a key of %s in %s", approver, p->keys);
		cli_say(p->cli, "made %s/%s.pem", p->keys, name);
	}
	return CLI_OK;
}

static int change(const struct cli *c, bool add)
{
	CLEANUP(key_files_done)
	struct key_files keys = { .count = 0 };
	CLEANUP(json_freep)
	struct json *metadata = NULL, *body = NULL;
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(64 * 1024);
	struct json_node *list;
	const char *approver = c->args[0];
	struct publisher p;
	int r = publisher_open(c, passphrase_file, &p);

	if (r == CLI_OK && add)
		r = collect_keys(&p, approver, &keys);
	if (r == CLI_OK && add && (threshold < 1 || threshold > keys.count))
		r = cli_fail(c, CLI_USAGE, "a threshold of %llu with %zu keys: nobody could approve",
			     (unsigned long long) threshold, keys.count);
	if (r == CLI_OK)
		r = publisher_body(&p, "targets", &metadata);
	if (r == CLI_OK) {
		r = offline_set_approver(json_get(metadata, "signed"), approver, add ? &keys : NULL,
					 (unsigned) threshold, os_posix.clock_real(&os_posix), &body);
		if (r < 0)
			r = r == -ERR_NOT_LISTED ? cli_fail(c, CLI_REFUSED, "no approver is named %s", approver)
						 : cli_fail_error(c, r, "the approver %s", approver);
	}
	if (r == CLI_OK)
		r = publisher_sign_and_publish(&p, "targets", body, NULL, output);
	publisher_close(&p);
	if (r != CLI_OK)
		return r;
	node_string(json_build_root(b), "approver", approver);
	node_integer(json_build_root(b), "threshold", add ? (int64_t) threshold : 0);
	list = node_array(json_build_root(b), "keys");
	for (size_t i = 0; i < keys.count; i++)
		node_string(list, NULL, keys.items[i].keyid);
	if (c->json && json_build_text(b, false, &text) >= 0)
		cli_print_json(buf_str(&text));
	if (add)
		cli_say(c,
			"%s approves with %llu of %zu keys now.\nNext: selfright component policy NAME --approval "
			"%s",
			approver, (unsigned long long) threshold, keys.count, approver);
	else
		cli_say(c, "%s approves nothing any more; rollouts that policies want approved by it now wait.",
			approver);
	return CLI_OK;
}

static int start(const struct cli_command *command, int argc, char **argv, bool add)
{
	struct cli c;
	int r = cli_parse(command, argc, argv, &c);

	if (r >= 0)
		return r;
	if (!guard_id(c.args[0]) || str_eq(c.args[0], "team"))
		return cli_fail(&c, CLI_USAGE, "'%s' is no approver's name: [a-z0-9][a-z0-9-]*, and not 'team'",
				c.args[0]);
	return change(&c, add);
}

static int add_approver(int argc, char **argv)
{
	static const struct cli_option options[] = {
		{ .name = "key",
		  .value = "FILE",
		  .help = "a public key made elsewhere; may be repeated (without: keys are made here)",
		  .values = &given },
		{ .name = "keys", .value = "N", .help = "how many keys to make here (1)", .number = &key_count },
		{ .name = "threshold",
		  .value = "N",
		  .help = "how many of them must sign an approval (1)",
		  .number = &threshold },
		{ .name = "passphrase-file",
		  .value = "FILE",
		  .help = "opens and encrypts key files",
		  .text = &passphrase_file },
		{ .name = "output",
		  .value = "FILE",
		  .help = "where a signing request goes if keys of targets are missing (-o)",
		  .text = &output },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "repo approvers add NAME [--key FILE]... [--threshold N]",
		.summary = "name an approver (qa, security, change-board), or give it other keys",
		.details = "targets is signed anew. Which rollouts need it is said by each component's policy.",
		.example = "selfright repo approvers add qa --key qa-1.pub --dir fleet",
		.options = options,
		.min_args = 1,
		.max_args = 1,
	};

	return start(&command, argc, argv, true);
}

static int remove_approver(int argc, char **argv)
{
	static const struct cli_option options[] = {
		{ .name = "passphrase-file",
		  .value = "FILE",
		  .help = "opens key files",
		  .text = &passphrase_file },
		{ .name = "output",
		  .value = "FILE",
		  .help = "where a signing request goes if keys of targets are missing (-o)",
		  .text = &output },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "repo approvers remove NAME",
		.summary = "no approvals by NAME any more",
		.example = "selfright repo approvers remove change-board --dir fleet",
		.options = options,
		.min_args = 1,
		.max_args = 1,
	};

	return start(&command, argc, argv, false);
}

static int list_approvers(int argc, char **argv)
{
	static const struct cli_command command = {
		.usage = "repo approvers list",
		.summary = "who may approve besides the teams",
		.example = "selfright repo approvers list --dir fleet",
		.max_args = 0,
	};
	CLEANUP(json_freep)
	struct json *metadata = NULL;
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(1024 * 1024);
	const struct json *approvers;
	struct publisher p;
	struct cli c;
	int r = cli_parse(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	r = publisher_open(&c, NULL, &p);
	if (r == CLI_OK)
		r = publisher_body(&p, "targets", &metadata);
	publisher_close(&p);
	if (r != CLI_OK)
		return r;
	approvers = json_get(json_get(json_get(metadata, "signed"), "x-selfright"), "approvers");
	if (approvers)
		node_copy(json_build_root(b), "approvers", approvers);
	else
		node_object(json_build_root(b), "approvers");
	if (c.json && json_build_text(b, false, &text) >= 0)
		cli_print_json(buf_str(&text));
	if (json_count(approvers) == 0)
		cli_say(&c, "none; name one with: selfright repo approvers add NAME");
	for (size_t i = 0; i < json_count(approvers); i++) {
		const struct json *keys = json_get(json_at(approvers, i), "keys");
		int64_t needed = 0;

		(void) json_integer(json_get(json_at(approvers, i), "threshold"), &needed); /* only shown */
		cli_say(&c, "%s: %lld of %zu keys", json_name_at(approvers, i), (long long) needed,
			json_count(keys));
		for (size_t k = 0; k < json_count(keys); k++)
			cli_say(&c, "  %s", json_name_at(keys, k));
	}
	return CLI_OK;
}

int cmd_repo_approvers(int argc, char **argv)
{
	static const struct cli_sub subs[] = {
		{ "add", "name an approver, or give it other keys", add_approver },
		{ "remove", "no approvals by it any more", remove_approver },
		{ "list", "who may approve besides the teams", list_approvers },
		{ 0 },
	};

	return cli_dispatch("repo approvers", "Approvers are people beyond the teams whose word a policy may ask.",
			    subs, argc, argv);
}
