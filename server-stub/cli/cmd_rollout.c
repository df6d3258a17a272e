/*
 * selfright rollout: its commands, and what a person does to one that was started.
 */
#include "json/build.h"
#include "json/json.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/cmd_rollout.h"
#include "server-stub/cli/fleet.h"

static const char *reason;
static bool undo_anyway;
static struct cli_values undo_stages;

/* `stages`: of an undo, those named; else NULL. */
static int change(const struct cli_command *command, const char *verb, const struct cli_values *stages, int argc,
		  char **argv)
{
	CLEANUP(change_done)
	struct change x = { 0 };
	int r = change_open(command, argc, argv, "rollout", NULL, &x);

	if (r < 0)
		r = change_need_reason(&x, reason);
	if (r >= 0)
		return r;
	if (undo_anyway)
		node_bool(x.request, "yes", true);
	if (stages && stages->count) {
		struct json_node *list = node_array(x.request, "stages");

		for (size_t i = 0; i < stages->count; i++)
			node_string(list, NULL, stages->items[i]);
	}
	r = change_send(&x, "POST", "/v1/rollouts/%s/%s", x.c.args[0], verb);
	if (r != CLI_OK)
		return r;
	cli_say(&x.c, "rollout %s is %s", fleet_text(x.answer, "id"), fleet_text(x.answer, "now"));
	fleet_say_published(&x.c, x.answer);
	return CLI_OK;
}

static const struct cli_option verb_options[] = {
	FLEET_REASON_OPTION(reason),
	{ 0 },
};

#define VERB(name, what, sample)                                                                                  \
	static int cmd_##name(int argc, char **argv)                                                              \
	{                                                                                                         \
		static const struct cli_command command = {                                                       \
			.usage = "rollout " #name " ID --reason TEXT",                                            \
			.summary = what,                                                                          \
			.example = "selfright rollout " #name " web-1-1-0 --reason " sample,                      \
			.options = verb_options,                                                                  \
			.min_args = 1,                                                                            \
			.max_args = 1,                                                                            \
		};                                                                                                \
                                                                                                                  \
		return change(&command, #name, NULL, argc, argv);                                                 \
	}

VERB(pause, "nobody starts the swap until it is resumed; who is in probation finishes",
     "'a second look at the canary'")
VERB(resume, "go on with a paused rollout", "'looks fine'")
VERB(halt, "stop it for good: nodes that have not swapped stay as they are", "'checkout is slow'")
VERB(cancel, "take it out of force; nodes keep what they have", "'superseded'")

static int cmd_undo(int argc, char **argv)
{
	static const struct cli_option options[] = {
		FLEET_REASON_OPTION(reason),
		{ .name = "stage",
		  .value = "NAME",
		  .help = "only the nodes of this stage (repeat; default: all that opened)",
		  .values = &undo_stages },
		{ .name = "yes",
		  .help = "also where nodes had no version before and are left without the component",
		  .flag = &undo_anyway },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "rollout undo ID --reason TEXT [--stage NAME]... [--yes]",
		.summary = "nodes that took the release return to the version they had, from their own copy",
		.example = "selfright rollout undo web-1-1-0 --reason 'memory grows' --stage canary",
		.options = options,
		.min_args = 1,
		.max_args = 1,
	};

	return change(&command, "undo", &undo_stages, argc, argv);
}

static int cmd_skip(int argc, char **argv)
{
	static bool withdraw;
	static const struct cli_option options[] = {
		FLEET_REASON_OPTION(reason),
		{ .name = "withdraw", .help = "wait for it again", .flag = &withdraw },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "rollout skip ID NODE --reason TEXT [--withdraw]",
		.summary = "do not wait for this node: what is known of it by now counts for nothing",
		.details = "The node still takes the release when it can (to keep it away: selfright node hold), "
			   "and a failure by\nthe release that it reports later counts like any other.",
		.example = "selfright rollout skip web-1-1-0 oslo-7 --reason 'switched off, the site is being "
			   "rebuilt'",
		.options = options,
		.min_args = 2,
		.max_args = 2,
	};
	CLEANUP(change_done)
	struct change x = { 0 };
	int r = change_open(&command, argc, argv, "rollout", "node", &x);

	if (r >= 0)
		return r;
	r = change_need_reason(&x, reason);
	if (r >= 0)
		return r;
	node_string(x.request, "node", x.c.args[1]);
	node_bool(x.request, "withdraw", withdraw);
	r = change_send(&x, "POST", "/v1/rollouts/%s/skip", x.c.args[0]);
	if (r != CLI_OK)
		return r;
	cli_say(&x.c, "%s is %s by rollout %s", x.c.args[1], fleet_text(x.answer, "now"), x.c.args[0]);
	fleet_say_published(&x.c, x.answer);
	return CLI_OK;
}

static int cmd_answer(int argc, char **argv)
{
	static const char *gate, *stage;
	static bool pass, fail, waive;
	static const struct cli_option options[] = {
		{ .name = "gate", .value = "NAME", .help = "which one; rollout explain shows all", .text = &gate },
		{ .name = "stage",
		  .value = "NAME",
		  .help = "of this stage (default: the one open last)",
		  .text = &stage },
		{ .name = "pass", .help = "go on, where the gate cannot tell", .flag = &pass },
		{ .name = "fail", .help = "stop the rollout", .flag = &fail },
		{ .name = "waive", .help = "go on whatever the gate says, in this stage", .flag = &waive },
		FLEET_REASON_OPTION(reason),
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "rollout answer ID --gate NAME --pass|--fail|--waive --reason TEXT",
		.summary = "what a person says about a gate of the stage that is open last",
		.details = "Who and why stand in the audit trail. node-failures and silent, which every stage "
			   "has, can "
			   "be\nwaived too.",
		.example = "selfright rollout answer web-1-1-0 --gate ask --pass --reason 'the board agrees'",
		.options = options,
		.min_args = 1,
		.max_args = 1,
	};
	CLEANUP(change_done)
	struct change x = { 0 };
	int r = change_open(&command, argc, argv, "rollout", NULL, &x);

	if (r >= 0)
		return r;
	if (!gate || pass + fail + waive != 1)
		return cli_fail(&x.c, CLI_USAGE, "say which --gate NAME, and one of --pass, --fail and --waive");
	r = change_need_reason(&x, reason);
	if (r >= 0)
		return r;
	node_string(x.request, "gate", gate);
	if (stage)
		node_string(x.request, "stage", stage);
	node_string(x.request, "answer", pass ? "pass" : fail ? "fail" : "waive");
	r = change_send(&x, "POST", "/v1/rollouts/%s/answer", x.c.args[0]);
	if (r != CLI_OK)
		return r;
	cli_say(&x.c, "gate %s of stage %s: %s", fleet_text(x.answer, "gate"), fleet_text(x.answer, "stage"),
		fleet_text(x.answer, "answer"));
	return CLI_OK;
}

int cmd_rollout(int argc, char **argv)
{
	static const struct cli_sub subs[] = {
		{ "plan", "what a rollout would do, before it starts", cmd_rollout_plan },
		{ "start", "bring a published release to the fleet, stage by stage", cmd_rollout_start },
		{ "show", "stages, nodes, and why the next stage is not open", cmd_rollout_show },
		{ "explain", "why it did what it did, or waits, now or then", cmd_rollout_explain },
		{ "answer", "say what a gate cannot", cmd_answer },
		{ "list", "all rollouts", cmd_rollout_list },
		{ "pause", "nobody starts the swap until it is resumed", cmd_pause },
		{ "resume", "go on", cmd_resume },
		{ "halt", "stop it for good", cmd_halt },
		{ "cancel", "take it out of force", cmd_cancel },
		{ "undo", "return nodes to the version they had", cmd_undo },
		{ "skip", "do not wait for one node", cmd_skip },
		{ 0 },
	};

	return cli_dispatch("rollout", "how releases reach the fleet", subs, argc, argv);
}
