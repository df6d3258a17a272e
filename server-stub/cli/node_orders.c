/*
 * selfright node rollback, pin, hold, retry and confirm: orders of support to one node.
 */
#include "base/version.h"
#include "json/build.h"
#include "json/json.h"
#include "model/decide.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/cmd_node.h"
#include "server-stub/cli/fleet.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 256 };

static const char *reason;

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

int cmd_node_rollback(int argc, char **argv)
{
	static const char *to, *from;
	static bool withdraw, wait, force, restore_data;
	static const struct cli_option options[] = {
		{ .name = "to", .value = "VERSION", .help = "a version that was good on this node", .text = &to },
		{ .name = "from",
		  .value = "VERSION",
		  .help = "the version to leave and deny (default: what it reports)",
		  .text = &from },
		FLEET_REASON_OPTION(reason),
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
	CLEANUP(change_done)
	struct change x = { 0 };
	int r = change_open(&command, argc, argv, "node", "component", &x);

	if (r >= 0)
		return r;
	node_string(x.request, "component", x.c.args[1]);
	if (withdraw) {
		r = change_send(&x, "DELETE", "/v1/nodes/%s/rollback", x.c.args[0]);
		if (r == CLI_OK) {
			cli_say(&x.c,
				"%s may take rollouts of %s again; the version it left stays denied there, until: "
				"selfright node retry %s %s --reason TEXT",
				x.c.args[0], x.c.args[1], x.c.args[0], x.c.args[1]);
			fleet_say_published(&x.c, x.answer);
		}
		return r;
	}
	if (!to || !version_is_valid(to) || (from && !version_is_valid(from)))
		return cli_fail(
			&x.c, CLI_USAGE,
			"--to VERSION is needed, e.g. --to 1.1.0; selfright node show %s lists what was good",
			x.c.args[0]);
	r = change_need_reason(&x, reason);
	if (r >= 0)
		return r;
	node_string(x.request, "to", to);
	if (force)
		node_bool(x.request, "force", true);
	if (restore_data)
		node_bool(x.request, "restore_data", true);
	if (from)
		node_string(x.request, "from", from);
	r = change_send(&x, "POST", "/v1/nodes/%s/rollback", x.c.args[0]);
	if (r != CLI_OK)
		return r;
	cli_say(&x.c,
		"%s is ordered back from %s %s to %s and stays there; end it with: selfright node rollback %s %s "
		"--withdraw%s",
		x.c.args[0], x.c.args[1], fleet_text(x.answer, "from"), to, x.c.args[0], x.c.args[1],
		json_bool(json_get(x.answer, "pin_withdrawn"), false) ? " (the pin of it is withdrawn)" : "");
	fleet_say_published(&x.c, x.answer);
	return wait ? follow(&x.c, x.c.args[0], x.c.args[1], to) : CLI_OK;
}

int cmd_node_pin(int argc, char **argv)
{
	static const char *version;
	static bool withdraw, wait, force;
	static const struct cli_option options[] = {
		{ .name = "version",
		  .value = "VERSION",
		  .help = "one that was good on this node (default: what it runs)",
		  .text = &version },
		FLEET_REASON_OPTION(reason),
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
	CLEANUP(change_done)
	struct change x = { 0 };
	int r = change_open(&command, argc, argv, "node", "component", &x);

	if (r >= 0)
		return r;
	node_string(x.request, "component", x.c.args[1]);
	if (!withdraw) {
		if (version && !version_is_valid(version))
			return cli_fail(&x.c, CLI_USAGE, "--version is a version, e.g. --version 1.1.0");
		r = change_need_reason(&x, reason);
		if (r >= 0)
			return r;
		node_string(x.request, "version", version);
		if (force)
			node_bool(x.request, "force", true);
	}
	r = change_send(&x, withdraw ? "DELETE" : "POST", "/v1/nodes/%s/pin", x.c.args[0]);
	if (r != CLI_OK)
		return r;
	if (withdraw)
		cli_say(&x.c, "%s follows rollouts of %s again", x.c.args[0], x.c.args[1]);
	else
		cli_say(&x.c, "%s keeps %s %s; end it with: selfright node pin %s %s --withdraw", x.c.args[0],
			x.c.args[1], fleet_text(x.answer, "to"), x.c.args[0], x.c.args[1]);
	fleet_say_published(&x.c, x.answer);
	return wait && !withdraw ? follow(&x.c, x.c.args[0], x.c.args[1], fleet_text(x.answer, "to")) : CLI_OK;
}

int cmd_node_hold(int argc, char **argv)
{
	static uint64_t span;
	static bool withdraw;
	static const struct cli_option options[] = {
		{ .name = "for", .value = "TIME", .help = "2d, 12h ... at most 90d", .seconds = &span },
		FLEET_REASON_OPTION(reason),
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
	CLEANUP(change_done)
	struct change x = { 0 };
	char until[21];
	int r = change_open(&command, argc, argv, "node", NULL, &x);

	if (r >= 0)
		return r;
	if (!withdraw) {
		r = change_need_reason(&x, reason);
		if (r >= 0)
			return r;
		if (span == 0)
			return cli_fail(&x.c, CLI_USAGE, "say how long with --for, e.g. --for 2d");
		fleet_after(span, until);
		node_string(x.request, "until", until);
	}
	r = change_send(&x, withdraw ? "DELETE" : "POST", "/v1/nodes/%s/hold", x.c.args[0]);
	if (r != CLI_OK)
		return r;
	if (withdraw)
		cli_say(&x.c, "%s is no longer held", x.c.args[0]);
	else
		cli_say(&x.c, "%s is held until %s", x.c.args[0], until);
	fleet_say_published(&x.c, x.answer);
	return CLI_OK;
}

int cmd_node_retry(int argc, char **argv)
{
	static const struct cli_option options[] = {
		FLEET_REASON_OPTION(reason),
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
	CLEANUP(change_done)
	struct change x = { 0 };
	int r = change_open(&command, argc, argv, "node", "component", &x);

	if (r >= 0)
		return r;
	r = change_need_reason(&x, reason);
	if (r >= 0)
		return r;
	node_string(x.request, "component", x.c.args[1]);
	r = change_send(&x, "POST", "/v1/nodes/%s/retry", x.c.args[0]);
	if (r != CLI_OK)
		return r;
	cli_say(&x.c, "%s may try %s again", x.c.args[0], x.c.args[1]);
	fleet_say_published(&x.c, x.answer);
	return CLI_OK;
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

int cmd_node_confirm(int argc, char **argv)
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
	CLEANUP(change_done)
	struct change x = { 0 };
	int r = change_open(&command, argc, argv, NULL, NULL, &x);

	if (r >= 0)
		return r;
	if (x.c.arg_count == 0)
		return list_unconfirmed(&x.c);
	r = fleet_check_id(&x.c, "order", x.c.args[0]);
	if (r >= 0)
		return r;
	r = change_send(&x, "POST", "/v1/orders/%s/%s", x.c.args[0], withdraw ? "withdraw" : "confirm");
	if (r != CLI_OK)
		return r;
	cli_say(&x.c, "the order %s to %s is %s", x.c.args[0], fleet_text(x.answer, "node"),
		withdraw ? "withdrawn" : "in force");
	fleet_say_published(&x.c, x.answer);
	return CLI_OK;
}
