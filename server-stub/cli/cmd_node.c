/*
 * selfright node: its commands, and the small ones about who a node is.
 */
#include "json/build.h"
#include "json/json.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/cmd_node.h"
#include "server-stub/cli/fleet.h"

#include <stdio.h>

static const char *reason;

/* How these begin: a node, and why. */
static int open_node(const struct cli_command *command, int argc, char **argv, struct change *ret)
{
	int r = change_open(command, argc, argv, "node", NULL, ret);

	return r < 0 ? change_need_reason(ret, reason) : r;
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
	CLEANUP(change_done)
	struct change x = { 0 };
	int r = open_node(&command, argc, argv, &x);

	if (r >= 0)
		return r;
	r = change_send(&x, "POST", "/v1/nodes/%s/trust", x.c.args[0]);
	if (r == CLI_OK)
		cli_say(&x.c, "%s is trusted again", x.c.args[0]);
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
	CLEANUP(change_done)
	struct change x = { 0 };
	int r = open_node(&command, argc, argv, &x);

	if (r >= 0)
		return r;
	if (refuse)
		node_bool(x.request, "refuse", true);
	r = change_send(&x, "POST", "/v1/nodes/%s/release", x.c.args[0]);
	if (r == CLI_OK)
		cli_say(&x.c, refuse ? "no key gets in with the secret of %s" : "the new key is %s now",
			x.c.args[0]);
	return r;
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
	CLEANUP(change_done)
	struct change x = { 0 };
	int r = open_node(&command, argc, argv, &x);

	if (r >= 0)
		return r;
	r = change_send(&x, "DELETE", "/v1/nodes/%s/lease", x.c.args[0]);
	if (r == CLI_OK)
		cli_say(&x.c, "the place of %s is free", x.c.args[0]);
	return r;
}

static int cmd_node_remove(int argc, char **argv)
{
	static const struct cli_option options[] = {
		FLEET_REASON_OPTION(reason),
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
	CLEANUP(change_done)
	struct change x = { 0 };
	int r = open_node(&command, argc, argv, &x);

	if (r >= 0)
		return r;
	r = change_send(&x, "DELETE", "/v1/nodes/%s", x.c.args[0]);
	if (r != CLI_OK)
		return r;
	cli_say(&x.c, "%s is no longer in the fleet", x.c.args[0]);
	if (json_bool(json_get(x.answer, "external_broker"), false))
		cli_say(&x.c,
			"the broker is not ours: deny %s there as well, its certificate is valid until it expires",
			x.c.args[0]);
	fleet_say_published(&x.c, x.answer);
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
