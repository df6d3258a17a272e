#include "base/err.h"
#include "base/text.h"
#include "base/version.h"
#include "crypto/digest.h"
#include "crypto/key.h"
#include "json/build.h"
#include "json/json.h"
#include "model/decide.h"
#include "model/labels.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/cmd_node.h"
#include "server-stub/cli/fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 256, PEM_MAX = 64 * 1024, JOIN_MAX = 16 * 1024 * 1024, NAME_BYTES = 512 };

static const char *reason;

static int need_reason(const struct cli *c)
{
	if (reason && *reason)
		return -1;
	return cli_fail(c, CLI_USAGE, "say why with --reason TEXT: the node keeps it, and others read it later");
}

/* --- add --- */

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

static int cmd_node_add(int argc, char **argv)
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
		r = need_reason(&c);
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

/* --- list, show, why --- */

static void labels_text(const struct json *labels, char *out, size_t size)
{
	size_t n = 0;

	out[0] = '\0';
	for (size_t i = 0; i < json_count(labels) && n < size; i++)
		n += (size_t) snprintf(out + n, size - n, "%s%s=%s", n ? " " : "", json_name_at(labels, i),
				       json_string(json_at(labels, i)) ? json_string(json_at(labels, i)) : "");
}

static void components_text(const struct json *components, char *out, size_t size)
{
	size_t n = 0;

	out[0] = '\0';
	for (size_t i = 0; i < json_count(components) && n < size; i++) {
		const struct json *o = json_at(components, i);

		n += (size_t) snprintf(out + n, size - n, "%s%s %s", n ? ", " : "", fleet_text(o, "component"),
				       *fleet_text(o, "version") ? fleet_text(o, "version") : "absent");
	}
}

static void orders_text(const struct json *orders, char *out, size_t size)
{
	size_t n = 0;

	out[0] = '\0';
	for (size_t i = 0; i < json_count(orders) && n < size; i++) {
		const struct json *o = json_at(orders, i);

		n += (size_t) snprintf(out + n, size - n, "%s%s%s%s%s%s", n ? ", " : "", fleet_text(o, "kind"),
				       *fleet_text(o, "component") ? " of " : "", fleet_text(o, "component"),
				       *fleet_text(o, "to") ? " to " : "", fleet_text(o, "to"));
	}
}

/* Of a node that is not online: nobody heard of it since the controller started, or never. */
static const char *presence_of(const struct json *node)
{
	if (*fleet_text(node, "presence_at"))
		return "offline";
	return *fleet_text(node, "reported") ? "unknown" : "not joined";
}

/* Names that are no nodes yet, and keys that a person has to look at. */
static void say_enrolments(const struct cli *c, const struct json *list)
{
	for (size_t i = 0; i < json_count(list); i++) {
		const struct json *o = json_at(list, i);
		const char *node = fleet_text(o, "node"), *state = fleet_text(o, "state");
		int64_t refused = 0;

		if (strcmp(state, "waiting") == 0)
			cli_say(c,
				"%squarantined%s: a new key %.16s asks to be %s; selfright node release %s "
				"--reason TEXT",
				cli_colour(c, CLI_RED), cli_colour(c, CLI_PLAIN), fleet_text(o, "fingerprint"),
				node, node);
		else if (strcmp(state, "open") == 0)
			cli_say(c, "%snot enrolled yet%s: %s (its secret is valid until %s)",
				cli_colour(c, CLI_YELLOW), cli_colour(c, CLI_PLAIN), node,
				fleet_text(o, "expires"));
		else if (strcmp(state, "expired") == 0)
			cli_say(c,
				"%snot enrolled%s: %s (its secret has expired; selfright node add %s makes "
				"another)",
				cli_colour(c, CLI_YELLOW), cli_colour(c, CLI_PLAIN), node, node);
		if (json_integer(json_get(o, "refused"), &refused) && refused > 0)
			cli_say(c, "%ssecret used twice%s: another key came with the secret of %s, %lld times",
				cli_colour(c, CLI_RED), cli_colour(c, CLI_PLAIN), node, (long long) refused);
	}
}

/* Who is left behind, by whom, and until when. */
static int list_held(const struct cli *c)
{
	static const char *const headings[] = { "node", "component", "runs", "waits for", "why", "until", "by" };
	CLEANUP(json_freep)
	struct json *answer = NULL;
	const struct json *list;
	struct cli_table *t;
	int r = fleet_send(c, "GET", "/v1/held", NULL, &answer);

	if (r != CLI_OK || c->json)
		return r;
	list = json_get(answer, "held");
	if (json_count(list) == 0) {
		cli_say(c, "no node is left behind");
		return CLI_OK;
	}
	t = cli_table_new(headings, ARRAY_LEN(headings));
	for (size_t i = 0; i < json_count(list); i++) {
		const struct json *o = json_at(list, i), *order = json_get(o, "order");

		cli_table_cell(t, CLI_BOLD, "%s", fleet_text(o, "node"));
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_text(o, "component"));
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_text(o, "version"));
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_text(o, "wants"));
		cli_table_cell(t, CLI_YELLOW, "%s: %s", fleet_text(o, "why"),
			       order ? fleet_text(order, "reason") : fleet_text(o, "detail"));
		cli_table_cell(t, CLI_PLAIN, "%s", order ? fleet_text(order, "until") : "");
		cli_table_cell(t, CLI_DIM, "%s", order ? fleet_text(order, "by") : "");
	}
	cli_table_print(c, t);
	return CLI_OK;
}

static int cmd_node_list(int argc, char **argv)
{
	static bool held_only;
	static const struct cli_option options[] = {
		{ .name = "held",
		  .help = "only those that a hold, an order, a deferral or a denial leaves behind, and whose it "
			  "is",
		  .flag = &held_only },
		{ 0 },
	};
	static const char *const headings[] = { "node", "link", "reported", "components", "labels", "orders" };
	static const struct cli_command command = {
		.usage = "node list [--held]",
		.summary = "all nodes: connected or not, what they run, what support ordered",
		.example = "selfright node list",
		.options = options,
	};
	CLEANUP(json_freep)
	struct json *answer = NULL;
	const struct json *list;
	struct cli_table *t;
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	if (held_only)
		return list_held(&c);
	r = fleet_send(&c, "GET", "/v1/nodes", NULL, &answer);
	if (r != CLI_OK || c.json)
		return r;
	list = json_get(answer, "nodes");
	t = cli_table_new(headings, json_count(list) ? ARRAY_LEN(headings) : 0);
	for (size_t i = 0; i < json_count(list); i++) {
		const struct json *o = json_at(list, i);
		bool online = json_bool(json_get(o, "online"), false),
		     held = json_bool(json_get(o, "quarantined"), false);
		char labels[300], components[400], orders[300], ago[60];

		labels_text(json_get(o, "labels"), labels, sizeof(labels));
		components_text(json_get(o, "components"), components, sizeof(components));
		orders_text(json_get(o, "orders"), orders, sizeof(orders));
		cli_table_cell(t, CLI_BOLD, "%s", fleet_text(o, "node"));
		cli_table_cell(t,
			       held	? CLI_RED
			       : online ? CLI_GREEN
					: CLI_YELLOW,
			       "%s",
			       held					    ? "quarantined"
			       : json_bool(json_get(o, "held_back"), false) ? "held back"
			       : online					    ? "online"
									    : presence_of(o));
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_ago(o, "reported", ago, sizeof(ago)));
		cli_table_cell(t, CLI_PLAIN, "%s", components);
		cli_table_cell(t, CLI_DIM, "%s", labels);
		cli_table_cell(t, CLI_YELLOW, "%s", orders);
	}
	cli_table_print(&c, t);
	if (json_count(list) == 0)
		cli_say(&c, "no nodes yet; selfright node add NAME makes the file that joins one");
	say_enrolments(&c, json_get(answer, "enrolments"));
	list = json_get(answer, "strangers");
	for (size_t i = 0; i < json_count(list); i++)
		cli_say(&c, "%snot counted%s: %s: %s", cli_colour(&c, CLI_YELLOW), cli_colour(&c, CLI_PLAIN),
			fleet_text(json_at(list, i), "name"), fleet_text(json_at(list, i), "reason"));
	return CLI_OK;
}

static int get_node(const struct cli *c, const char *node, struct json **ret)
{
	char path[PATH_BYTES];
	int r = fleet_check_id(c, "node", node);

	if (r >= 0)
		return r;
	snprintf(path, sizeof(path), "/v1/nodes/%s", node);
	return fleet_send(c, "GET", path, NULL, ret);
}

/* What the node said became of an order; NULL: nothing yet. */
static const struct json *outcome_of(const struct json *node, const char *id)
{
	const struct json *list = json_get(node, "order_results");

	for (size_t i = 0; i < json_count(list); i++)
		if (strcmp(fleet_text(json_at(list, i), "id"), id) == 0)
			return json_at(list, i);
	return NULL;
}

static void say_orders(const struct cli *c, const struct json *node)
{
	const struct json *orders = json_get(node, "orders"), *outcome;

	for (size_t i = 0; i < json_count(orders); i++) {
		const struct json *o = json_at(orders, i);

		cli_say(c, "  order%s: %s%s%s%s%s%s%s%s%s (%s, by %s)",
			json_bool(json_get(o, "unconfirmed"), false) ? ", not confirmed" : "",
			fleet_text(o, "kind"), *fleet_text(o, "component") ? " " : "", fleet_text(o, "component"),
			*fleet_text(o, "from") ? " from " : "", fleet_text(o, "from"),
			*fleet_text(o, "to") ? " to " : "", fleet_text(o, "to"),
			*fleet_text(o, "until") ? " until " : "", fleet_text(o, "until"),
			*fleet_text(o, "reason") ? fleet_text(o, "reason") : "no reason given",
			fleet_text(o, "by"));
		outcome = outcome_of(node, fleet_text(o, "id"));
		if (outcome)
			cli_say(c, "    the node: %s: %s", fleet_text(outcome, "name"),
				fleet_text(outcome, "detail"));
	}
}

static void say_components(const struct cli *c, const struct json *node)
{
	static const char *const headings[] = { "component", "runs", "before", "denies", "why" };
	const struct json *list = json_get(node, "components");
	struct cli_table *t;

	if (json_count(list) == 0)
		return;
	t = cli_table_new(headings, ARRAY_LEN(headings));
	for (size_t i = 0; i < json_count(list); i++) {
		const struct json *o = json_at(list, i), *denied = json_get(o, "denied");
		char denies[200] = "";
		size_t n = 0;

		for (size_t k = 0; k < json_count(denied) && n < sizeof(denies); k++)
			n += (size_t) snprintf(denies + n, sizeof(denies) - n, "%s%s (%s)", n ? ", " : "",
					       fleet_text(json_at(denied, k), "version"),
					       fleet_text(json_at(denied, k), "cause"));
		cli_table_cell(t, CLI_BOLD, "  %s", fleet_text(o, "component"));
		cli_table_cell(t, CLI_PLAIN, "%s",
			       *fleet_text(o, "version") ? fleet_text(o, "version") : "absent");
		cli_table_cell(t, CLI_PLAIN, "%s", *fleet_text(o, "previous") ? fleet_text(o, "previous") : "-");
		cli_table_cell(t, CLI_YELLOW, "%s", *denies ? denies : "-");
		cli_table_cell(t, CLI_DIM, "%s",
			       *fleet_text(o, "why_detail") ? fleet_text(o, "why_detail") : fleet_text(o, "why"));
	}
	cli_table_print(c, t);
}

static void say_results(const struct cli *c, const struct json *node)
{
	static const char *const headings[] = { "when", "component", "from", "to", "result", "detail" };
	const struct json *list = json_get(node, "results");
	size_t count = json_count(list), first = count > 10 ? count - 10 : 0;
	struct cli_table *t;

	if (count == 0)
		return;
	cli_say(c, "%snewest results%s", cli_colour(c, CLI_BOLD), cli_colour(c, CLI_PLAIN));
	t = cli_table_new(headings, ARRAY_LEN(headings));
	for (size_t i = first; i < count; i++) {
		const struct json *o = json_at(list, i);
		bool good = strcmp(fleet_text(o, "name"), "good") == 0,
		     none = strcmp(fleet_text(o, "class"), "none") == 0;

		cli_table_cell(t, CLI_PLAIN, "  %s", fleet_text(o, "at"));
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_text(o, "component"));
		cli_table_cell(t, CLI_PLAIN, "%s", *fleet_text(o, "from") ? fleet_text(o, "from") : "-");
		cli_table_cell(t, CLI_PLAIN, "%s", *fleet_text(o, "to") ? fleet_text(o, "to") : "-");
		cli_table_cell(t, good ? CLI_GREEN : none ? CLI_PLAIN : CLI_RED, "%s", fleet_text(o, "name"));
		cli_table_cell(t, CLI_DIM, "%s", fleet_text(o, "detail"));
	}
	cli_table_print(c, t);
}

static int cmd_node_show(int argc, char **argv)
{
	static const struct cli_command command = {
		.usage = "node show NAME",
		.summary = "everything known about one node: components, orders, checks, newest results",
		.example = "selfright node show oslo-1",
		.min_args = 1,
		.max_args = 1,
	};
	CLEANUP(json_freep)
	struct json *n = NULL;
	char labels[300], ago[60];
	const struct json *way;
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	r = get_node(&c, c.args[0], &n);
	if (r != CLI_OK || c.json)
		return r;
	labels_text(json_get(n, "labels"), labels, sizeof(labels));
	cli_say(&c, "node %s%s%s: %s, reported %s, agent %s", cli_colour(&c, CLI_BOLD), c.args[0],
		cli_colour(&c, CLI_PLAIN), json_bool(json_get(n, "online"), false) ? "online" : presence_of(n),
		fleet_ago(n, "reported", ago, sizeof(ago)),
		*fleet_text(n, "agent") ? fleet_text(n, "agent") : "unknown");
	cli_say(&c, "  labels: %s", *labels ? labels : "none");
	if (json_bool(json_get(n, "held_back"), false))
		cli_say(&c,
			"  %sheld back%s: it reports, but has had no new metadata for hours; something between "
			"here and "
			"it keeps old files, or its metadata does not verify (selfright-agent status says why)",
			cli_colour(&c, CLI_YELLOW), cli_colour(&c, CLI_PLAIN));
	if (json_bool(json_get(n, "quarantined"), false))
		cli_say(&c, "  %squarantined%s: %s; after looking into it: selfright node trust %s --reason TEXT",
			cli_colour(&c, CLI_RED), cli_colour(&c, CLI_PLAIN), fleet_text(n, "quarantine_reason"),
			c.args[0]);
	say_orders(&c, n);
	if (json_get(n, "place"))
		cli_say(&c, "  may be down by leave since %s, for %s (%s %s)",
			fleet_text(json_get(n, "place"), "granted"), fleet_text(json_get(n, "place"), "rollout"),
			fleet_text(json_get(n, "place"), "label"), fleet_text(json_get(n, "place"), "value"));
	way = json_get(n, "under_way");
	if (way && *fleet_text(way, "state"))
		cli_say(&c, "  now: %s to %s, %s", fleet_text(way, "component"), fleet_text(way, "to"),
			fleet_text(way, "state"));
	say_components(&c, n);
	say_results(&c, n);
	return CLI_OK;
}

/* What would change it, from the catalogue of reasons. */
static const char *change_for(const char *why)
{
	for (int i = 0; i < REASON_COUNT; i++)
		if (strcmp(reason_name((enum reason) i), why) == 0)
			return reason_change((enum reason) i);
	return "";
}

static int cmd_node_why(int argc, char **argv)
{
	static const struct cli_command command = {
		.usage = "node why NAME",
		.summary = "why a node does not update, component by component, in its own words",
		.example = "selfright node why oslo-1",
		.min_args = 1,
		.max_args = 1,
	};
	CLEANUP(json_freep)
	struct json *n = NULL;
	const struct json *list;
	char ago[60];
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	r = get_node(&c, c.args[0], &n);
	if (r != CLI_OK || c.json)
		return r;
	cli_say(&c, "%s, as it said %s:", c.args[0], fleet_ago(n, "reported", ago, sizeof(ago)));
	if (!json_bool(json_get(n, "online"), false))
		cli_say(&c, "  it is not connected now: what was decided since reaches it with its next poll");
	list = json_get(n, "components");
	for (size_t i = 0; i < json_count(list); i++) {
		const struct json *o = json_at(list, i);
		const char *why = fleet_text(o, "why"), *change = change_for(why);

		cli_say(&c, "  %s %s%s%s: %s%s%s", fleet_text(o, "component"),
			*fleet_text(o, "version") ? fleet_text(o, "version") : "absent",
			*fleet_text(o, "wants") ? ", wants " : "", fleet_text(o, "wants"),
			*fleet_text(o, "why_detail") ? fleet_text(o, "why_detail")
			: *why			     ? why
						     : "says nothing",
			*change ? "; what changes it: " : "", change);
	}
	if (json_count(list) == 0)
		cli_say(&c, "  it has not reported any component yet");
	say_orders(&c, n);
	return CLI_OK;
}

/* --- orders --- */

/* Wait until the node itself says that it runs `to` (or cannot). */
static int follow(const struct cli *c, const char *node, const char *component, const char *to)
{
	char path[PATH_BYTES], before[24] = "";

	snprintf(path, sizeof(path), "/v1/nodes/%s", node);
	for (int i = 0; i < 600; i++) {
		CLEANUP(json_freep)
		struct json *n = NULL;
		const struct json *list, *way;
		int r = cli_call_json(c, "GET", path, NULL, &n);

		if (r != CLI_OK)
			return r;
		way = json_get(n, "under_way");
		if (*fleet_text(way, "state") && strcmp(before, fleet_text(way, "state")) != 0) {
			snprintf(before, sizeof(before), "%s", fleet_text(way, "state"));
			cli_say(c, "  %s %s: %s", fleet_text(way, "component"),
				*fleet_text(way, "to") ? fleet_text(way, "to") : "absent", before);
		}
		list = json_get(n, "components");
		for (size_t k = 0; k < json_count(list); k++) {
			const struct json *o = json_at(list, k);

			if (strcmp(fleet_text(o, "component"), component) != 0)
				continue;
			if (strcmp(fleet_text(o, "version"), to) == 0 && !*fleet_text(way, "state")) {
				cli_say(c, "%s runs %s %s", node, component, to);
				return CLI_OK;
			}
			if (strcmp(fleet_text(o, "why"), reason_name(REASON_ORDER_REFUSED)) == 0)
				return cli_fail(c, CLI_REFUSED, "%s refuses: %s", node,
						fleet_text(o, "why_detail"));
		}
		(void) usleep(500000);
	}
	return cli_fail(c, CLI_REFUSED,
			"%s has not done it within five minutes; the order stands, see: selfright node why %s",
			node, node);
}

static int cmd_node_rollback(int argc, char **argv)
{
	static const char *to, *from;
	static bool withdraw, wait, force, restore_data;
	static const struct cli_option options[] = {
		{ .name = "to", .value = "VERSION", .help = "a version that was good on this node", .text = &to },
		{ .name = "from",
		  .value = "VERSION",
		  .help = "the version to leave and deny (default: what it reports)",
		  .text = &from },
		{ .name = "reason",
		  .value = "TEXT",
		  .help = "why, for the people who read it later",
		  .text = &reason },
		{ .name = "follow", .help = "wait until the node says it is there", .flag = &wait },
		{ .name = "restore-data",
		  .help = "put back the data that was copied before VERSION was left, where the node allows it",
		  .flag = &restore_data },
		{ .name = "force",
		  .help = "send it although the node's reports do not show that VERSION was good there",
		  .flag = &force },
		{ .name = "withdraw",
		  .help = "end it: the node may take rollouts again (but not the version it left)",
		  .flag = &withdraw },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "node rollback NAME COMPONENT --to VERSION --reason TEXT | NAME COMPONENT --withdraw",
		.summary = "force one node back to an earlier version, and keep it there",
		.details = "It acts within a second on a connected node. Nothing else on the node changes, and "
			   "rollouts of\n"
			   "the component pass it by until the order is withdrawn.",
		.example = "selfright node rollback oslo-1 web --to 1.1.0 --reason 'ticket 4711'",
		.options = options,
		.min_args = 2,
		.max_args = 2,
	};
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *answer = NULL;
	char path[PATH_BYTES];
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	if (r < 0)
		r = fleet_check_id(&c, "node", c.args[0]);
	if (r < 0)
		r = fleet_check_id(&c, "component", c.args[1]);
	if (r >= 0)
		return r;
	snprintf(path, sizeof(path), "/v1/nodes/%s/rollback", c.args[0]);
	node_string(json_build_root(b), "component", c.args[1]);
	if (withdraw) {
		r = fleet_send(&c, "DELETE", path, b, &answer);
		if (r == CLI_OK) {
			cli_say(&c, "%s may take rollouts of %s again; the version it left stays denied there",
				c.args[0], c.args[1]);
			fleet_say_published(&c, answer);
		}
		return r;
	}
	if (!to || !version_is_valid(to) || (from && !version_is_valid(from)))
		return cli_fail(
			&c, CLI_USAGE,
			"--to VERSION is needed, e.g. --to 1.1.0; selfright node show %s lists what was good",
			c.args[0]);
	r = need_reason(&c);
	if (r >= 0)
		return r;
	node_string(json_build_root(b), "to", to);
	if (force)
		node_bool(json_build_root(b), "force", true);
	if (restore_data)
		node_bool(json_build_root(b), "restore_data", true);
	if (from)
		node_string(json_build_root(b), "from", from);
	node_string(json_build_root(b), "reason", reason);
	r = fleet_send(&c, "POST", path, b, &answer);
	if (r != CLI_OK)
		return r;
	cli_say(&c,
		"%s is ordered back from %s %s to %s and stays there; end it with: selfright node rollback %s %s "
		"--withdraw%s",
		c.args[0], c.args[1], fleet_text(answer, "from"), to, c.args[0], c.args[1],
		json_bool(json_get(answer, "pin_withdrawn"), false) ? " (the pin of it is withdrawn)" : "");
	fleet_say_published(&c, answer);
	return wait ? follow(&c, c.args[0], c.args[1], to) : CLI_OK;
}

static int cmd_node_pin(int argc, char **argv)
{
	static const char *version;
	static bool withdraw, wait, force;
	static const struct cli_option options[] = {
		{ .name = "version",
		  .value = "VERSION",
		  .help = "one that was good on this node (default: what it runs)",
		  .text = &version },
		{ .name = "reason",
		  .value = "TEXT",
		  .help = "why, for the people who read it later",
		  .text = &reason },
		{ .name = "follow", .help = "wait until the node says it is there", .flag = &wait },
		{ .name = "force",
		  .help = "send it although the node's reports do not show that VERSION was good there",
		  .flag = &force },
		{ .name = "withdraw", .help = "end it: the node follows rollouts again", .flag = &withdraw },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "node pin NAME COMPONENT [--version VERSION] --reason TEXT | NAME COMPONENT --withdraw",
		.summary = "keep one component of a node at a version, and deny nothing",
		.details =
			"Rollouts of the component pass it by until the pin is withdrawn. Unlike a rollback it "
			"says nothing\nagainst what the node ran before; unlike a hold it concerns one component "
			"and does not end by itself.",
		.example = "selfright node pin oslo-1 web --reason 'certified for 1.1.0 until the audit'",
		.options = options,
		.min_args = 2,
		.max_args = 2,
	};
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *answer = NULL;
	char path[PATH_BYTES];
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	if (r < 0)
		r = fleet_check_id(&c, "node", c.args[0]);
	if (r < 0)
		r = fleet_check_id(&c, "component", c.args[1]);
	if (r >= 0)
		return r;
	snprintf(path, sizeof(path), "/v1/nodes/%s/pin", c.args[0]);
	node_string(json_build_root(b), "component", c.args[1]);
	if (!withdraw) {
		if (version && !version_is_valid(version))
			return cli_fail(&c, CLI_USAGE, "--version is a version, e.g. --version 1.1.0");
		r = need_reason(&c);
		if (r >= 0)
			return r;
		node_string(json_build_root(b), "version", version);
		node_string(json_build_root(b), "reason", reason);
		if (force)
			node_bool(json_build_root(b), "force", true);
	}
	r = fleet_send(&c, withdraw ? "DELETE" : "POST", path, b, &answer);
	if (r != CLI_OK)
		return r;
	if (withdraw)
		cli_say(&c, "%s follows rollouts of %s again", c.args[0], c.args[1]);
	else
		cli_say(&c, "%s keeps %s %s; end it with: selfright node pin %s %s --withdraw", c.args[0],
			c.args[1], fleet_text(answer, "to"), c.args[0], c.args[1]);
	fleet_say_published(&c, answer);
	return wait && !withdraw ? follow(&c, c.args[0], c.args[1], fleet_text(answer, "to")) : CLI_OK;
}

static int cmd_node_hold(int argc, char **argv)
{
	static uint64_t span;
	static bool withdraw;
	static const struct cli_option options[] = {
		{ .name = "for", .value = "TIME", .help = "2d, 12h ... at most 90d", .seconds = &span },
		{ .name = "reason",
		  .value = "TEXT",
		  .help = "why, for the people who read it later",
		  .text = &reason },
		{ .name = "withdraw", .help = "end it now", .flag = &withdraw },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "node hold NAME --for TIME --reason TEXT | NAME --withdraw",
		.summary = "no rollouts on one node for a while, patches and downgrades included",
		.details = "Its own fallback, undo of a rollout, and orders of support to this node go on. At "
			   "most 90 days;\nit ends by itself.",
		.example = "selfright node hold oslo-1 --for 2d --reason 'acceptance test by the customer'",
		.options = options,
		.min_args = 1,
		.max_args = 1,
	};
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *answer = NULL;
	char path[PATH_BYTES], until[21];
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	if (r < 0)
		r = fleet_check_id(&c, "node", c.args[0]);
	if (r >= 0)
		return r;
	snprintf(path, sizeof(path), "/v1/nodes/%s/hold", c.args[0]);
	if (!withdraw) {
		r = need_reason(&c);
		if (r >= 0)
			return r;
		if (span == 0)
			return cli_fail(&c, CLI_USAGE, "say how long with --for, e.g. --for 2d");
		fleet_after(span, until);
		node_string(json_build_root(b), "until", until);
		node_string(json_build_root(b), "reason", reason);
	}
	r = fleet_send(&c, withdraw ? "DELETE" : "POST", path, b, &answer);
	if (r != CLI_OK)
		return r;
	if (withdraw)
		cli_say(&c, "%s is no longer held", c.args[0]);
	else
		cli_say(&c, "%s is held until %s", c.args[0], until);
	fleet_say_published(&c, answer);
	return CLI_OK;
}

static int cmd_node_retry(int argc, char **argv)
{
	static const struct cli_option options[] = {
		{ .name = "reason",
		  .value = "TEXT",
		  .help = "why, for the people who read it later",
		  .text = &reason },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "node retry NAME COMPONENT --reason TEXT",
		.summary = "let a node try again what it denies after a failure",
		.example = "selfright node retry oslo-1 web --reason 'the disk was full'",
		.options = options,
		.min_args = 2,
		.max_args = 2,
	};
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *answer = NULL;
	char path[PATH_BYTES];
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	if (r < 0)
		r = fleet_check_id(&c, "node", c.args[0]);
	if (r < 0)
		r = fleet_check_id(&c, "component", c.args[1]);
	if (r >= 0)
		return r;
	if (!reason || !*reason)
		return cli_fail(&c, CLI_USAGE, "say why with --reason TEXT: it is what others read later");
	snprintf(path, sizeof(path), "/v1/nodes/%s/retry", c.args[0]);
	node_string(json_build_root(b), "component", c.args[1]);
	node_string(json_build_root(b), "reason", reason);
	r = fleet_send(&c, "POST", path, b, &answer);
	if (r != CLI_OK)
		return r;
	cli_say(&c, "%s may try %s again", c.args[0], c.args[1]);
	fleet_say_published(&c, answer);
	return CLI_OK;
}

static int cmd_node_trust(int argc, char **argv)
{
	static const struct cli_option options[] = {
		{ .name = "reason", .value = "TEXT", .help = "what was found", .text = &reason },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "node trust NAME --reason TEXT",
		.summary = "end the quarantine of a node whose key turned up twice",
		.example =
			"selfright node trust oslo-1 --reason 'restored from backup, the old disk is destroyed'",
		.options = options,
		.min_args = 1,
		.max_args = 1,
	};
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	char path[PATH_BYTES];
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	if (r < 0)
		r = fleet_check_id(&c, "node", c.args[0]);
	if (r < 0)
		r = need_reason(&c);
	if (r >= 0)
		return r;
	snprintf(path, sizeof(path), "/v1/nodes/%s/trust", c.args[0]);
	node_string(json_build_root(b), "reason", reason);
	r = fleet_send(&c, "POST", path, b, NULL);
	if (r == CLI_OK)
		cli_say(&c, "%s is trusted again", c.args[0]);
	return r;
}

static int cmd_node_release(int argc, char **argv)
{
	static bool refuse;
	static const struct cli_option options[] = {
		{ .name = "reason", .value = "TEXT", .help = "how you know the machine", .text = &reason },
		{ .name = "refuse", .help = "never: its secret is worth nothing any more", .flag = &refuse },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "node release NAME --reason TEXT [--refuse]",
		.summary = "let the new key that asks to be a known node take its place",
		.details =
			"Compare the fingerprint that node list shows with the one selfright-agent status shows "
			"on the "
			"machine.\nThe old key counts for nothing afterwards, the node counts as added now, and "
			"orders to it stay.",
		.example = "selfright node release oslo-1 --reason 'new mainboard, ticket 4711'",
		.options = options,
		.min_args = 1,
		.max_args = 1,
	};
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	char path[PATH_BYTES];
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	if (r < 0)
		r = fleet_check_id(&c, "node", c.args[0]);
	if (r < 0)
		r = need_reason(&c);
	if (r >= 0)
		return r;
	snprintf(path, sizeof(path), "/v1/nodes/%s/release", c.args[0]);
	node_string(json_build_root(b), "reason", reason);
	if (refuse)
		node_bool(json_build_root(b), "refuse", true);
	r = fleet_send(&c, "POST", path, b, NULL);
	if (r == CLI_OK)
		cli_say(&c, refuse ? "no key gets in with the secret of %s" : "the new key is %s now", c.args[0]);
	return r;
}

static int list_unconfirmed(const struct cli *c)
{
	static const char *const headings[] = { "order", "node", "what", "issued", "by", "reason" };
	CLEANUP(json_freep)
	struct json *answer = NULL;
	const struct json *list;
	struct cli_table *t;
	int r = fleet_send(c, "GET", "/v1/orders", NULL, &answer);

	if (r != CLI_OK || c->json)
		return r;
	list = json_get(answer, "unconfirmed");
	if (json_count(list) == 0) {
		cli_say(c, "no order waits for confirmation");
		return CLI_OK;
	}
	t = cli_table_new(headings, ARRAY_LEN(headings));
	for (size_t i = 0; i < json_count(list); i++) {
		const struct json *o = json_at(list, i);

		cli_table_cell(t, CLI_BOLD, "%s", fleet_text(o, "id"));
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_text(o, "node"));
		cli_table_cell(t, CLI_PLAIN, "%s %s%s%s%s%s", fleet_text(o, "kind"), fleet_text(o, "component"),
			       *fleet_text(o, "to") ? " to " : "", fleet_text(o, "to"),
			       *fleet_text(o, "until") ? " until " : "", fleet_text(o, "until"));
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_text(o, "issued"));
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_text(o, "by"));
		cli_table_cell(t, CLI_DIM, "%s", fleet_text(o, "reason"));
	}
	cli_table_print(c, t);
	return CLI_OK;
}

static int cmd_node_confirm(int argc, char **argv)
{
	static bool withdraw;
	static const struct cli_option options[] = {
		{ .name = "withdraw", .help = "it is over: withdraw it instead", .flag = &withdraw },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "node confirm [ORDER] [--withdraw]",
		.summary =
			"let an order of a restored backup be in force again; without ORDER list those that wait",
		.details =
			"After selfright repo recover nobody knows which orders were withdrawn since the backup, "
			"so each is\nwithheld until a person confirms it.",
		.example = "selfright node confirm hold-1f3c5a7e9b2d4c60",
		.options = options,
		.max_args = 1,
	};
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *answer = NULL;
	char path[PATH_BYTES];
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	if (c.arg_count == 0)
		return list_unconfirmed(&c);
	r = fleet_check_id(&c, "order", c.args[0]);
	if (r >= 0)
		return r;
	snprintf(path, sizeof(path), "/v1/orders/%s/%s", c.args[0], withdraw ? "withdraw" : "confirm");
	r = fleet_send(&c, "POST", path, b, &answer);
	if (r != CLI_OK)
		return r;
	cli_say(&c, "the order %s to %s is %s", c.args[0], fleet_text(answer, "node"),
		withdraw ? "withdrawn" : "in force");
	fleet_say_published(&c, answer);
	return CLI_OK;
}

static int cmd_node_release_lease(int argc, char **argv)
{
	static const struct cli_option options[] = {
		{ .name = "reason", .value = "TEXT", .help = "how you know", .text = &reason },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "node release-lease NAME --reason TEXT",
		.summary = "free the place of a node that was allowed to be down and never said how it ended",
		.details =
			"Under a disruption limit a node keeps its place until its own signed report says how the "
			"update ended.\nOne that died in the middle keeps it for good, and others of its group "
			"wait; a person who has seen it\nmay free it. A silent node still counts as down.",
		.example = "selfright node release-lease oslo-1 --reason 'it was scrapped, ticket 4711'",
		.options = options,
		.min_args = 1,
		.max_args = 1,
	};
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	char path[PATH_BYTES];
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	if (r < 0)
		r = fleet_check_id(&c, "node", c.args[0]);
	if (r < 0)
		r = need_reason(&c);
	if (r >= 0)
		return r;
	snprintf(path, sizeof(path), "/v1/nodes/%s/lease", c.args[0]);
	node_string(json_build_root(b), "reason", reason);
	r = fleet_send(&c, "DELETE", path, b, NULL);
	if (r == CLI_OK)
		cli_say(&c, "the place of %s is free", c.args[0]);
	return r;
}

static int cmd_node_remove(int argc, char **argv)
{
	static const struct cli_option options[] = {
		{ .name = "reason",
		  .value = "TEXT",
		  .help = "why, for the people who read it later",
		  .text = &reason },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "node remove NAME --reason TEXT",
		.summary = "take a node out of the fleet: its reports and its certificate no longer count",
		.details =
			"Its orders are withdrawn, no rollout waits for it, and the broker lets it neither read "
			"nor write. What\n"
			"it runs goes on running. The timeline keeps what happened. A lost join file needs no "
			"removal: selfright\n"
			"node add NAME --replace --reason TEXT.",
		.example = "selfright node remove oslo-1 --reason 'added by mistake'",
		.options = options,
		.min_args = 1,
		.max_args = 1,
	};
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *answer = NULL;
	char path[PATH_BYTES];
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	if (r < 0)
		r = fleet_check_id(&c, "node", c.args[0]);
	if (r < 0)
		r = need_reason(&c);
	if (r >= 0)
		return r;
	snprintf(path, sizeof(path), "/v1/nodes/%s", c.args[0]);
	node_string(json_build_root(b), "reason", reason);
	r = fleet_send(&c, "DELETE", path, b, &answer);
	if (r != CLI_OK)
		return r;
	cli_say(&c, "%s is no longer in the fleet", c.args[0]);
	if (json_bool(json_get(answer, "external_broker"), false))
		cli_say(&c,
			"the broker is not ours: deny %s there as well, its certificate is valid until it expires",
			c.args[0]);
	fleet_say_published(&c, answer);
	return CLI_OK;
}

int cmd_node(int argc, char **argv)
{
	static const struct cli_sub subs[] = {
		{ "add", "make the file that joins an appliance", cmd_node_add },
		{ "list", "all nodes", cmd_node_list },
		{ "show", "one node in full", cmd_node_show },
		{ "why", "why a node does not update", cmd_node_why },
		{ "rollback", "force a node back to an earlier version", cmd_node_rollback },
		{ "pin", "keep a node's component at a version", cmd_node_pin },
		{ "hold", "no rollouts on a node for a while", cmd_node_hold },
		{ "retry", "let a node try again what it denies", cmd_node_retry },
		{ "report", "take in the reports that a stick brought back", cmd_node_report },
		{ "collect", "files of a node, such as logs", cmd_node_collect },
		{ "confirm", "orders of a restored backup, one by one", cmd_node_confirm },
		{ "trust", "end a node's quarantine", cmd_node_trust },
		{ "release", "let a new key take a known node's place", cmd_node_release },
		{ "release-lease", "say that a node is not down any more", cmd_node_release_lease },
		{ "remove", "take a node out of the fleet", cmd_node_remove },
		{ 0 },
	};

	return cli_dispatch("node", "the managed hosts", subs, argc, argv);
}
