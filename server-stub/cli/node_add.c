/*
 * selfright node add: the one file that joins an appliance.
 */
#include "crypto/digest.h"
#include "crypto/key.h"
#include "json/build.h"
#include "json/json.h"
#include "model/labels.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/cmd_node.h"
#include "server-stub/cli/fleet.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PEM_MAX = 64 * 1024, JOIN_MAX = 16 * 1024 * 1024, NAME_BYTES = 512 };

static const char *reason;

struct keys {
	struct buf identity, identity_public, transport, transport_public;
};

static void keys_done(struct keys *k)
{
	struct buf *all[] = { &k->identity, &k->identity_public, &k->transport, &k->transport_public };

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		if (all[i]->data)
			explicit_bzero(all[i]->data, all[i]->len);
		buf_done(all[i]);
	}
}

static int make_pair(struct buf *secret, struct buf *public_pem)
{
	CLEANUP(private_key_freep)
	struct private_key *key = NULL;
	int r;

	buf_init(secret, PEM_MAX);
	buf_init(public_pem, PEM_MAX);
	r = private_key_generate(&key);
	if (r == 0)
		r = private_key_save(key, NULL, secret);
	if (r == 0)
		r = private_key_public_pem(key, public_pem);
	return r;
}

/* The one file that joins the node: format 1 with keys, format 2 with the secret they are exchanged for. */
static int write_join(const struct keys *k, const struct json *answer, const struct labels *labels,
		      const struct labels *vars, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b);
	const char *root = fleet_text(answer, "root");
	char sha256[SHA256_HEX + 1];
	int r = sha256_hex(root, strlen(root), sha256);

	if (r < 0)
		return r;
	node_integer(o, "format", k ? 1 : 2);
	node_string(o, "fleet", fleet_text(answer, "fleet"));
	node_string(o, "node", fleet_text(answer, "node"));
	node_string(o, "root", root);
	node_string(o, "root_sha256", sha256);
	node_copy(o, "urls", json_get(answer, "urls"));
	if (json_get(answer, "broker"))
		node_copy(o, "broker", json_get(answer, "broker"));
	node_string(o, "ca", fleet_text(answer, "ca"));
	if (k) {
		node_string(o, "identity_key", buf_str(&k->identity));
		node_string(o, "transport_key", buf_str(&k->transport));
		node_string(o, "transport_crt", fleet_text(answer, "transport_crt"));
	} else {
		node_string(o, "secret", fleet_text(answer, "secret"));
		node_string(o, "secret_expires", fleet_text(answer, "secret_expires"));
	}
	labels_write(labels, o, "labels");
	labels_write(vars, o, "vars");
	return json_build_text(b, true, out);
}

/* What is asked of serve. `keys` NULL: a secret, with which the node makes its own. */
struct adding {
	const char *node, *path;
	struct labels labels, vars;
	const struct keys *keys;
	bool replace;
	uint64_t secret_life;
};

/* Register the public halves, if there are any. The private ones never leave this machine but in the join file. */
static int register_node(const struct cli *c, const struct adding *a, struct json **ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(PEM_MAX);
	struct json_node *o = json_build_root(b);
	int r;

	node_string(o, "node", a->node);
	if (a->keys) {
		node_string(o, "identity_public", buf_str(&a->keys->identity_public));
		node_string(o, "transport_public", buf_str(&a->keys->transport_public));
	} else if (a->secret_life) {
		node_integer(o, "secret_life", (int64_t) a->secret_life);
	}
	labels_write(&a->labels, o, "labels");
	if (a->replace) {
		node_bool(o, "replace", true);
		node_string(o, "reason", reason);
	}
	node_string(o, "by", fleet_by());
	r = json_build_text(b, false, &text);
	if (r < 0)
		return cli_fail_error(c, r, "the request");
	return cli_call_json(c, "POST", "/v1/nodes", buf_str(&text), ret);
}

static void say_added(const struct cli *c, const struct adding *a, const struct json *answer)
{
	const char *bold = cli_colour(c, CLI_BOLD), *plain = cli_colour(c, CLI_PLAIN);

	if (a->keys)
		cli_say(c, "node %s%s%s added; its keys and addresses are in %s (keep it secret, use it once)",
			bold, a->node, plain, a->path);
	else
		cli_say(c, "node %s%s%s may enrol until %s with the secret in %s (it works once)", bold, a->node,
			plain, fleet_text(answer, "secret_expires"), a->path);
	cli_say(c, "on the appliance: selfright-agent join %s   (it says how to start the agent)", a->path);
	if (json_bool(json_get(answer, "replaces"), false))
		cli_say(c, "its new key then waits for a person: selfright node release %s --reason TEXT",
			a->node);
}

static int write_answer(const struct cli *c, const struct adding *a, const struct json *answer)
{
	CLEANUP(buf_done)
	struct buf join = BUF_INIT(JOIN_MAX);
	int r = write_join(a->keys, answer, &a->labels, &a->vars, &join);

	r = r < 0 ? cli_fail_error(c, r, "the join file") : cli_write_file(c, a->path, join.data, join.len, 0600);
	if (join.data)
		explicit_bzero(join.data, join.len);
	return r;
}

static int add_node(const struct cli *c, const struct adding *a)
{
	CLEANUP(json_freep)
	struct json *answer = NULL;
	bool file = strcmp(a->path, "-") != 0;
	int r;

	/* The place first: once the node is registered these keys must not be lost. */
	if (file) {
		r = cli_write_file(c, a->path, "", 0, 0600);
		if (r != CLI_OK)
			return r;
	}
	r = register_node(c, a, &answer);
	if (r == CLI_OK)
		r = write_answer(c, a, answer);
	if (r != CLI_OK && file)
		(void) unlink(a->path); /* an empty file helps nobody */
	if (r != CLI_OK || !file)
		return r;
	if (c->json) {
		CLEANUP(json_build_freep)
		struct json_build *b = json_build_new();
		CLEANUP(buf_done)
		struct buf text = BUF_INIT(PEM_MAX);

		node_string(json_build_root(b), "node", a->node);
		node_string(json_build_root(b), "join_file", a->path);
		if (!a->keys)
			node_string(json_build_root(b), "secret_expires", fleet_text(answer, "secret_expires"));
		if (json_build_text(b, false, &text) == 0)
			cli_print_json(buf_str(&text));
	}
	say_added(c, a, answer);
	return CLI_OK;
}

static int add_with_keys(const struct cli *c, struct adding *a)
{
	CLEANUP(keys_done)
	struct keys keys = { 0 };
	int r = make_pair(&keys.identity, &keys.identity_public);

	if (r == 0)
		r = make_pair(&keys.transport, &keys.transport_public);
	if (r < 0)
		return cli_fail_error(c, r, "the node's keys");
	a->keys = &keys;
	r = add_node(c, a);
	a->keys = NULL;
	return r;
}

int cmd_node_add(int argc, char **argv)
{
	static const char *output;
	static uint64_t secret_life;
	static struct cli_values label_values, var_values;
	static bool force, replace, with_keys;
	static const struct cli_option options[] = {
		{ .name = "output",
		  .value = "FILE",
		  .help = "the join file (-o; default NAME.join)",
		  .text = &output },
		{ .name = "label",
		  .value = "NAME=VALUE",
		  .help = "what the node is: site, zone, role ... (repeat)",
		  .values = &label_values },
		{ .name = "var",
		  .value = "NAME=VALUE",
		  .help = "what releases use as ${vars.NAME} (repeat)",
		  .values = &var_values },
		{ .name = "force", .help = "overwrite FILE", .flag = &force },
		{ .name = "secret-life",
		  .value = "TIME",
		  .help = "how long the secret may be used, e.g. 2h (default 7d, at most 90d)",
		  .seconds = &secret_life },
		{ .name = "with-keys",
		  .help = "keys and certificate in FILE instead of a secret: for a node that starts without a "
			  "network",
		  .flag = &with_keys },
		{ .name = "replace",
		  .help = "new keys for a node of this name: its join file or machine is lost",
		  .flag = &replace },
		{ .name = "reason", .value = "TEXT", .help = "why it is replaced", .text = &reason },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "node add NAME [--label NAME=VALUE]... [--var NAME=VALUE]... [-o FILE] [--replace "
			 "--reason TEXT]",
		.summary = "make the one file that joins an appliance to the fleet",
		.details = "The file holds addresses, the trusted root and a secret that one key uses up; the "
			   "node makes its "
			   "keys\nitself. With --replace the old key stays in force until a person releases the "
			   "new one "
			   "(node release);\nwith --with-keys too, it is replaced at once.",
		.example = "selfright node add oslo-1 --label site=oslo --var port=8080 -o oslo-1.join",
		.options = options,
		.min_args = 1,
		.max_args = 1,
	};
	struct adding a = { .replace = false };
	char path[NAME_BYTES];
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	a.replace = replace;
	if (r < 0)
		r = fleet_check_id(&c, "node", c.args[0]);
	if (r < 0 && replace)
		r = fleet_need_reason(&c, reason);
	a.secret_life = secret_life;
	if (r < 0 && secret_life && with_keys)
		r = cli_fail(&c, CLI_USAGE, "--secret-life is about secrets; with --with-keys there is none");
	if (r < 0)
		r = fleet_labels(&c, "label", &label_values, &a.labels);
	if (r < 0)
		r = fleet_labels(&c, "var", &var_values, &a.vars);
	if (r < 0) {
		snprintf(path, sizeof(path), "%s.join", c.args[0]);
		a.node = c.args[0];
		a.path = output ? output : path;
		if (!force && strcmp(a.path, "-") != 0 && access(a.path, F_OK) == 0)
			r = cli_fail(&c, CLI_FAILED, "%s is there already; remove it, or give --force", a.path);
		else
			r = with_keys ? add_with_keys(&c, &a) : add_node(&c, &a);
	}
	labels_done(&a.labels);
	labels_done(&a.vars);
	return r;
}
