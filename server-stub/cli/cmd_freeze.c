#include "base/text.h"
#include "base/timestamp.h"
#include "json/build.h"
#include "json/json.h"
#include "model/labels.h"
#include "os/os.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/fleet.h"

#include <stdio.h>
#include <string.h>

/* "2d" from now, or a time as it is. */
static bool read_until(const char *text, char out[static 21])
{
	uint64_t seconds;
	int64_t at;

	if (timestamp_parse(text, &at) == 0) {
		timestamp_format(out, at);
		return true;
	}
	if (cli_parse_seconds(text, &seconds) < 0)
		return false;
	fleet_after(seconds, out);
	return true;
}

static int cmd_freeze_add(int argc, char **argv)
{
	static const char *site, *component, *reason, *until;
	static struct cli_values label_values;
	static bool all;
	static const struct cli_option options[] = {
		{ .name = "all", .help = "the whole fleet", .flag = &all },
		{ .name = "site", .value = "S", .help = "nodes with the label site=S", .text = &site },
		{ .name = "label",
		  .value = "NAME=VALUE",
		  .help = "nodes with this label (repeat: all must match)",
		  .values = &label_values },
		{ .name = "component", .value = "NAME", .help = "this component only", .text = &component },
		FLEET_REASON_OPTION(reason),
		{ .name = "until",
		  .value = "TIME",
		  .help = "2d, 12h, or 2026-12-01T08:00:00Z (default: until lifted)",
		  .text = &until },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "freeze [--all | --site S | --label NAME=VALUE] [--component NAME] --reason TEXT "
			 "[--until TIME]",
		.summary = "no swaps by rollouts where it covers; getting back to safety is never frozen",
		.example = "selfright freeze --site oslo --reason 'the customer moves house' --until 2d",
		.options = options,
	};
	CLEANUP(change_done)
	struct change x = { 0 };
	struct labels labels = { 0 };
	char stamp[TIMESTAMP_LEN + 1];
	int r = change_open(&command, argc, argv, NULL, NULL, &x);

	if (r >= 0)
		return r;
	r = change_need_reason(&x, reason);
	if (r >= 0)
		return r;
	if (!all && !site && !component && label_values.count == 0)
		return cli_fail(&x.c, CLI_USAGE,
				"say what is frozen: --all, --site S, --label NAME=VALUE or --component NAME");
	if (all && (site || label_values.count))
		return cli_fail(&x.c, CLI_USAGE, "--all and --site or --label exclude each other");
	r = fleet_labels(&x.c, "label", &label_values, &labels);
	if (r < 0 && site && labels_set(&labels, "site", site) < 0)
		r = cli_fail(&x.c, CLI_USAGE, "'%s' is no label's value", site);
	if (r < 0 && component)
		r = fleet_check_id(&x.c, "component", component);
	if (r < 0 && until && !read_until(until, stamp))
		r = cli_fail(&x.c, CLI_USAGE, "--until takes 2d, 12h, or a time like 2026-12-01T08:00:00Z");
	if (r < 0) {
		labels_write(&labels, x.request, "labels");
		if (component)
			node_string(node_array(x.request, "components"), NULL, component);
		if (until)
			node_string(x.request, "until", stamp);
		r = change_send(&x, "POST", "/v1/freeze");
	}
	labels_done(&labels);
	if (r != CLI_OK)
		return r;
	cli_say(&x.c, "frozen: %s; lift it with: selfright freeze lift %s --reason TEXT",
		fleet_text(x.answer, "id"), fleet_text(x.answer, "id"));
	fleet_say_published(&x.c, x.answer);
	return CLI_OK;
}

static void say_labels(struct cli_table *t, const struct json *o)
{
	char text[300] = "";
	size_t n = 0;
	const struct json *labels = json_get(o, "labels"), *components = json_get(o, "components");

	for (size_t i = 0; i < json_count(labels) && n < sizeof(text); i++)
		n += (size_t) snprintf(text + n, sizeof(text) - n, "%s%s=%s", n ? " " : "",
				       json_name_at(labels, i), json_string(json_at(labels, i)));
	for (size_t i = 0; i < json_count(components) && n < sizeof(text); i++)
		n += (size_t) snprintf(text + n, sizeof(text) - n, "%s%s", n ? " " : "",
				       json_string(json_at(components, i)));
	cli_table_cell(t, CLI_PLAIN, "%s", n ? text : "the whole fleet");
}

static int cmd_freeze_list(int argc, char **argv)
{
	static const char *const headings[] = { "freeze", "covers", "until", "by", "reason" };
	static const struct cli_command command = {
		.usage = "freeze list",
		.summary = "the freezes in force",
		.example = "selfright freeze list",
	};
	CLEANUP(json_freep)
	struct json *answer = NULL;
	const struct json *list;
	struct cli_table *t;
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	r = fleet_send(&c, "GET", "/v1/freeze", NULL, &answer);
	if (r != CLI_OK || c.json)
		return r;
	list = json_get(answer, "freezes");
	if (json_count(list) == 0) {
		cli_say(&c, "nothing is frozen");
		return CLI_OK;
	}
	t = cli_table_new(headings, ARRAY_LEN(headings));
	for (size_t i = 0; i < json_count(list); i++) {
		const struct json *o = json_at(list, i);

		cli_table_cell(t, CLI_BOLD, "%s", fleet_text(o, "id"));
		say_labels(t, o);
		cli_table_cell(t, CLI_PLAIN, "%s", *fleet_text(o, "until") ? fleet_text(o, "until") : "lifted");
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_text(o, "by"));
		cli_table_cell(t, CLI_DIM, "%s", fleet_text(o, "reason"));
	}
	cli_table_print(&c, t);
	return CLI_OK;
}

static int cmd_freeze_lift(int argc, char **argv)
{
	static bool all;
	static const char *reason;
	static const struct cli_option options[] = {
		{ .name = "all", .help = "every freeze in force", .flag = &all },
		FLEET_REASON_OPTION(reason),
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "freeze lift ID | --all --reason TEXT",
		.summary = "end a freeze now",
		.example = "selfright freeze lift freeze-0123456789abcdef --reason 'the holidays are over'",
		.options = options,
		.max_args = 1,
	};
	CLEANUP(change_done)
	struct change x = { 0 };
	int64_t count = 0;
	int r = change_open(&command, argc, argv, NULL, NULL, &x);

	if (r >= 0)
		return r;
	if (all == (x.c.arg_count == 1))
		return cli_fail(&x.c, CLI_USAGE, "name one freeze, or --all; selfright freeze list shows them");
	r = change_need_reason(&x, reason);
	if (r >= 0)
		return r;
	if (x.c.arg_count)
		node_string(x.request, "id", x.c.args[0]);
	r = change_send(&x, "DELETE", "/v1/freeze");
	if (r != CLI_OK)
		return r;
	(void) json_integer(json_get(x.answer, "lifted"), &count);
	cli_say(&x.c, "%lld freeze%s lifted", (long long) count, count == 1 ? "" : "s");
	fleet_say_published(&x.c, x.answer);
	return CLI_OK;
}

int cmd_freeze(int argc, char **argv)
{
	static const struct cli_sub subs[] = {
		{ "add", "freeze (the word may be left out)", cmd_freeze_add },
		{ "list", "the freezes in force", cmd_freeze_list },
		{ "lift", "end one", cmd_freeze_lift },
		{ 0 },
	};

	/* `selfright freeze --all --reason ...` reads like a sentence; so it is one. */
	if (argc > 1 && argv[1][0] == '-' && strcmp(argv[1], "--help") != 0 && strcmp(argv[1], "-h") != 0)
		return cmd_freeze_add(argc, argv);
	return cli_dispatch("freeze", "no swaps by rollouts, somewhere or everywhere, for a while", subs, argc,
			    argv);
}
