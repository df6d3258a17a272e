/*
 * selfright rollout start and plan: a plan, from a file or from options, handed to the controller.
 */
#include "base/err.h"
#include "base/text.h"
#include "conf/conf.h"
#include "json/build.h"
#include "json/json.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/cmd_rollout.h"
#include "server-stub/cli/fleet.h"
#include "server-stub/rollout/plan.h"
#include "server-stub/rollout/preflight.h"

#include <stdio.h>
#include <string.h>

enum { PLAN_MAX = 1024 * 1024 };

static int add_stage(struct json_node *stages, const struct cli *c, const char *text)
{
	CLEANUP(buf_done)
	struct buf copy = BUF_INIT(PLAN_MAX);
	struct json_node *stage = node_object(stages, NULL), *nodes = NULL, *labels = NULL, *prefer = NULL;
	char *rest, *item, *equals, *save = NULL;
	int r = buf_add_str(&copy, text);

	if (r < 0)
		return cli_fail_error(c, r, "--stage");
	rest = (char *) copy.data;
	equals = rest ? strchr(rest, '=') : NULL;
	if (!equals)
		return cli_fail(
			c, CLI_USAGE,
			"--stage takes NAME=all or NAME=nodes:n1,n2,soak:1h or NAME=labels:site=oslo,share:25%%");
	*equals = '\0';
	node_string(stage, "name", rest);
	/* A word without a colon goes on with the list before it. */
	enum { NONE, NODES, LABELS, PREFER } list = NONE;
	for (item = strtok_r(equals + 1, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
		char *value = strchr(item, ':');

		if (strcmp(item, "all") == 0 || strcmp(item, "by_zone") == 0) {
			node_bool(stage, item, true);
			list = NONE;
			continue;
		}
		if (str_starts(item, "nodes:")) {
			list = NODES;
			item = value + 1;
		} else if (str_starts(item, "labels:")) {
			list = LABELS;
			item = value + 1;
		} else if (str_starts(item, "prefer:")) {
			list = PREFER;
			item = value + 1;
		} else if (str_starts(item, "share:") || str_starts(item, "soak:") || str_starts(item, "count:") ||
			   str_starts(item, "first_zone:")) {
			*value = '\0';
			node_string(stage, item, value + 1);
			list = NONE;
			continue;
		}
		equals = strchr(item, '=');
		if (list == NODES) {
			nodes = nodes ? nodes : node_array(stage, "nodes");
			node_string(nodes, NULL, item);
		} else if (list == LABELS && equals) {
			*equals = '\0';
			labels = labels ? labels : node_object(stage, "labels");
			node_string(labels, item, equals + 1);
		} else if (list == PREFER && equals) {
			*equals = '\0';
			prefer = prefer ? prefer : node_object(stage, "prefer");
			node_string(prefer, item, equals + 1);
		} else {
			return cli_fail(
				c, CLI_USAGE,
				"--stage %s: '%s' is none of all, nodes:, labels:NAME=VALUE, share:25%%, count:5, "
				"prefer:NAME=VALUE, soak:1h, by_zone, first_zone:ZONE",
				text, item);
		}
	}
	return -1;
}

struct start_options {
	const char *id, *component, *version, *kind, *max_failures, *max_node_failures, *silent_after, *on_failure,
		*min_age, *window, *notice, *spread, *disruption, *deadline, *profile;
	const char *reason;
	struct cli_values stages, with, blackouts, overrides;
	bool dry_run, replace;
};

/* A blackout is a window's text, or two moments with a '/' between them, as ISO 8601 writes an interval. */
static void add_blackout(struct json_node *list, const char *text)
{
	const char *slash = strchr(text, '/');
	struct json_node *o;

	if (!slash) {
		node_string(list, NULL, text);
		return;
	}
	o = node_object(list, NULL);
	node_stringf(o, "from", "%.*s", (int) (slash - text), text);
	node_string(o, "until", slash + 1);
}

/* -1: go on; else the exit code, after a complaint. */
static int add_limits(struct json_node *root, const struct cli *c, const struct start_options *o)
{
	struct json_node *list;
	const char *equals;

	if (o->window)
		node_string(root, "window", o->window);
	list = o->blackouts.count ? node_array(root, "blackout") : NULL;
	for (size_t i = 0; i < o->blackouts.count; i++)
		add_blackout(list, o->blackouts.items[i]);
	if (o->notice)
		node_string(root, "notice", o->notice);
	if (o->spread)
		node_string(root, "spread", o->spread);
	if (o->deadline)
		node_string(root, "deadline", o->deadline);
	list = NULL;
	for (size_t i = 0; i < o->overrides.count; i++) {
		if (preflight_item_parse(o->overrides.items[i]) >= 0)
			continue; /* not what nodes pass over: add_preflight_overrides */
		list = list ? list : node_array(root, "overrides");
		node_string(list, NULL, o->overrides.items[i]);
	}
	if (o->disruption) {
		equals = strrchr(o->disruption, '=');
		if (!equals)
			return cli_fail(c, CLI_USAGE, "--disruption takes LABEL=N, e.g. site=1; found '%s'",
					o->disruption);
		list = node_object(root, "disruption");
		node_stringf(list, "label", "%.*s", (int) (equals - o->disruption), o->disruption);
		node_string(list, "maximum", equals + 1);
	}
	return -1;
}

/* A plan written as options: the same document, read by the same code. */
static int plan_from_options(const struct cli *c, const struct start_options *o, struct plan *ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(PLAN_MAX);
	struct json_node *root = json_build_root(b), *stages, *gates;
	struct conf_error e = { "" };
	int r;

	if (!o->component || !o->version || (o->stages.count == 0 && !o->profile))
		return cli_fail(
			c, CLI_USAGE,
			"give a plan file, or --component, --version and --stage or --profile; see selfright "
			"rollout start --help");
	node_string(root, "component", o->component);
	node_string(root, "version", o->version);
	if (o->with.count > 0) {
		struct json_node *with = node_object(root, "with");

		for (size_t i = 0; i < o->with.count; i++) {
			const char *equals = strchr(o->with.items[i], '=');
			char name[ID_MAX + 1];

			if (!equals || (size_t) (equals - o->with.items[i]) >= sizeof(name))
				return cli_fail(c, CLI_USAGE, "--with takes COMPONENT=VERSION; found '%s'",
						o->with.items[i]);
			snprintf(name, sizeof(name), "%.*s", (int) (equals - o->with.items[i]), o->with.items[i]);
			node_string(with, name, equals + 1);
		}
	}
	if (o->kind)
		node_string(root, "kind", o->kind);
	if (o->profile)
		node_string(root, "profile", o->profile);
	stages = o->stages.count ? node_array(root, "stages") : NULL;
	for (size_t i = 0; i < o->stages.count; i++) {
		r = add_stage(stages, c, o->stages.items[i]);
		if (r >= 0)
			return r;
	}
	gates = node_object(root, "gates");
	node_string(gates, "max_failures", o->max_failures);
	node_string(gates, "max_node_failures", o->max_node_failures);
	node_string(gates, "silent_after", o->silent_after);
	node_string(gates, "on_failure", o->on_failure);
	/* A profile brings its own. */
	if (o->min_age || !o->profile)
		node_string(root, "min_age", o->min_age ? o->min_age : "0");
	r = add_limits(root, c, o);
	if (r >= 0)
		return r;
	r = json_build_text(b, false, &text);
	if (r == 0)
		r = plan_parse(text.data, text.len, "options", ret, &e);
	if (r < 0)
		return cli_fail(c, CLI_USAGE, "%s", e.text[0] ? e.text : err_text(r));
	return -1;
}

static int plan_from_file(const struct cli *c, const char *path, struct plan *ret)
{
	struct conf_error e = { "" };
	int r = plan_load(path, ret, &e);

	if (r < 0)
		return cli_fail(c, CLI_USAGE, "%s%s%s", e.text[0] ? "" : path, e.text[0] ? "" : ": ",
				e.text[0] ? e.text : err_text(r));
	return -1;
}

/* What preflight holds against it and somebody answers for; -1: go on, else the exit code. */
static int add_preflight_overrides(struct json_node *root, const struct cli *c, const struct start_options *o,
				   bool is_file)
{
	struct json_node *list = NULL;

	for (size_t i = 0; i < o->overrides.count; i++) {
		if (preflight_item_parse(o->overrides.items[i]) < 0) {
			if (is_file)
				return cli_fail(c, CLI_USAGE,
						"'%s' is nothing that preflight judges; what nodes may pass over "
						"stands in the plan (overrides:)",
						o->overrides.items[i]);
			continue;
		}
		list = list ? list : node_array(root, "preflight_override");
		node_string(list, NULL, o->overrides.items[i]);
	}
	if (list && (!o->reason || !*o->reason))
		return cli_fail(c, CLI_USAGE, "say why with --reason TEXT: the audit log keeps it");
	if (list)
		node_string(root, "override_reason", o->reason);
	return -1;
}

/* What preflight found, one line each; passes are not worth one. */
static void say_preflight(const struct cli *c, const struct json *preflight)
{
	const struct json *releases = json_get(preflight, "releases");

	for (size_t i = 0; i < json_count(releases); i++) {
		const struct json *items = json_get(json_at(releases, i), "items");

		for (size_t k = 0; k < json_count(items); k++) {
			const struct json *findings = json_get(json_at(items, k), "findings");

			for (size_t f = 0; f < json_count(findings); f++) {
				const char *outcome = fleet_text(json_at(findings, f), "outcome");

				cli_say(c, "%s%s%s: %s of %s: %s",
					cli_colour(c, strcmp(outcome, "fail") == 0 ? CLI_RED : CLI_YELLOW),
					outcome, cli_colour(c, CLI_PLAIN), fleet_text(json_at(items, k), "item"),
					fleet_text(json_at(releases, i), "component"),
					fleet_text(json_at(findings, f), "text"));
			}
		}
	}
}

static void say_planned_gates(const struct cli *c, const struct json *gates)
{
	for (size_t i = 0; i < json_count(gates); i++) {
		const struct json *g = json_at(gates, i);
		const char *stage = fleet_text(g, "stage"), *question = fleet_text(g, "question");
		const char *kind = fleet_text(g, "kind"), *name = fleet_text(g, "name");
		int64_t deadline = 0;
		bool has_deadline = json_integer(json_get(g, "deadline"), &deadline);
		char span[40];

		cli_say(c, "at the end of %s%s: the gate %s%s%s%s%s%s; if it cannot tell: %s%s%s",
			*stage ? "stage " : "every stage", stage, name, strcmp(kind, name) == 0 ? "" : " (",
			strcmp(kind, name) == 0 ? "" : kind, strcmp(kind, name) == 0 ? "" : ")",
			*question ? ": " : "", question, fleet_text(g, "on_inconclusive"),
			has_deadline ? ", for " : "", has_deadline ? cli_span(span, sizeof(span), deadline) : "");
	}
}

/* Before anything starts: when at the earliest, by which gates, and whose approval. */
static void say_preview(const struct cli *c, const struct json *answer)
{
	const struct json *earliest = json_get(answer, "earliest"), *asks = json_get(answer, "asks");

	for (size_t i = 0; i < json_count(earliest); i++)
		cli_say(c, "stage %s opens at %s at the earliest", fleet_text(json_at(earliest, i), "stage"),
			fleet_text(json_at(earliest, i), "opens"));
	say_planned_gates(c, json_get(answer, "gates"));
	for (size_t i = 0; i < json_count(asks); i++) {
		const struct json *o = json_at(asks, i);
		const char *exempt = fleet_text(o, "exempt_label");

		cli_say(c, "the policy of %s asks for the approval of %s in every stage%s%s",
			fleet_text(o, "component"), fleet_text(o, "approver"),
			*exempt ? ", but not on nodes labelled " : "", exempt);
	}
	if (json_count(asks) == 0)
		cli_say(c, "nobody's approval is asked for");
}

static int start_or_preview(int argc, char **argv, bool preview)
{
	/* The options form is for people at a desk; a plan file has the careful default of a day. */
	static struct start_options o = {
		.max_failures = "0", .max_node_failures = "10", .silent_after = "30m", .on_failure = "halt"
	};
	static const struct cli_option options[] = {
		{ .name = "component", .value = "NAME", .help = "what", .text = &o.component },
		{ .name = "version", .value = "VERSION", .help = "which published release", .text = &o.version },
		{ .name = "with",
		  .value = "COMPONENT=VERSION",
		  .help = "swap this one in the same rename, or none of them",
		  .values = &o.with },
		{ .name = "stage",
		  .value = "NAME=WHO",
		  .help = "in order: NAME=all, NAME=nodes:n1,n2,soak:1h, NAME=labels:site=oslo,share:25%",
		  .values = &o.stages },
		{ .name = "profile",
		  .value = "NAME",
		  .help = "weekly, train, patch or downgrade, instead of stages",
		  .text = &o.profile },
		{ .name = "id",
		  .value = "ID",
		  .help = "its id (default: made of component and version)",
		  .text = &o.id },
		{ .name = "kind", .value = "KIND", .help = "regular, patch or downgrade", .text = &o.kind },
		{ .name = "max-failures",
		  .value = "N",
		  .help = "nodes the release may fail on (0)",
		  .text = &o.max_failures },
		{ .name = "max-node-failures",
		  .value = "N",
		  .help = "nodes that may fail by themselves (10)",
		  .text = &o.max_node_failures },
		{ .name = "silent-after",
		  .value = "TIME",
		  .help = "no report for so long is silence (30m)",
		  .text = &o.silent_after },
		{ .name = "on-failure", .value = "WHAT", .help = "halt or pause", .text = &o.on_failure },
		{ .name = "min-age",
		  .value = "TIME",
		  .help = "nodes added later than this do not count (0; plan files: 24h)",
		  .text = &o.min_age },
		{ .name = "window",
		  .value = "TEXT",
		  .help = "swap only then, in each node's own time: 'Mon-Fri 22:00-04:00'",
		  .text = &o.window },
		{ .name = "blackout",
		  .value = "TEXT|FROM/UNTIL",
		  .help = "never then: 'Fri 12:00-24:00', or two times in UTC",
		  .values = &o.blackouts },
		{ .name = "notice",
		  .value = "TIME",
		  .help = "announce it on the node so long before the swap",
		  .text = &o.notice },
		{ .name = "spread",
		  .value = "TIME",
		  .help = "spread the starts over this time",
		  .text = &o.spread },
		{ .name = "disruption",
		  .value = "LABEL=N",
		  .help = "at most N nodes down of those with one value of LABEL: site=1",
		  .text = &o.disruption },
		{ .name = "override",
		  .value = "WHAT",
		  .help = "what a patch passes: window, blackout, notice, spread, deferral; or what check judges, "
			  "with --reason",
		  .values = &o.overrides },
		{ .name = "reason",
		  .value = "TEXT",
		  .help = "why a check that fails is overridden",
		  .text = &o.reason },
		{ .name = "deadline",
		  .value = "WHEN",
		  .help = "nobody begins after it (UTC)",
		  .text = &o.deadline },
		{ .name = "replace",
		  .help = "cancel an unfinished rollout of the component first",
		  .flag = &o.replace },
		{ .name = "dry-run",
		  .help = "show which nodes each stage selects and what they run; start nothing",
		  .flag = &o.dry_run },
		{ 0 },
	};
	static const struct cli_command previewing = {
		.usage = "rollout plan PLAN.yaml | --component NAME --version VERSION --stage NAME=WHO...",
		.summary = "what rollout start would do: which nodes, when at the earliest, whose approval",
		.details = "Nothing starts. With the same --id, rollout start chooses the same nodes for the same "
			   "fleet.",
		.example = "selfright rollout plan --component web --version 1.1.0 --profile weekly",
		.options = options,
		.max_args = 1,
	};
	static const struct cli_command command = {
		.usage = "rollout start PLAN.yaml | --component NAME --version VERSION --stage NAME=WHO...",
		.summary = "bring a published release to the fleet, stage by stage",
		.example = "selfright rollout start --component web --version 1.1.0 --stage "
			   "canary=nodes:n1,soak:1h --stage rest=all",
		.options = options,
		.max_args = 1,
	};
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *answer = NULL;
	const struct json *warnings;
	struct plan plan = { 0 };
	struct cli c;
	int r = cli_open(preview ? &previewing : &command, argc, argv, &c);

	if (r >= 0)
		return r;
	o.dry_run = o.dry_run || preview;
	if (c.arg_count == 1 && (o.component || o.version || o.stages.count || o.profile))
		return cli_fail(&c, CLI_USAGE, "give a plan file or options, not both");
	r = c.arg_count == 1 ? plan_from_file(&c, c.args[0], &plan) : plan_from_options(&c, &o, &plan);
	if (r >= 0)
		return r;
	plan_write(&plan, node_object(json_build_root(b), "plan"));
	if (c.arg_count == 1)
		fleet_plan_lines(&plan, c.args[0], json_build_root(b));
	plan_done(&plan);
	r = add_preflight_overrides(json_build_root(b), &c, &o, c.arg_count == 1);
	if (r >= 0)
		return r;
	if (o.id)
		node_string(json_build_root(b), "id", o.id);
	node_bool(json_build_root(b), "dry_run", o.dry_run);
	node_bool(json_build_root(b), "replace", o.replace);
	r = fleet_send(&c, "POST", "/v1/rollouts", b, &answer);
	if (r != CLI_OK)
		return r;
	cli_say(&c, "rollout %s%s%s of %s %s%s", cli_colour(&c, CLI_BOLD), fleet_text(answer, "id"),
		cli_colour(&c, CLI_PLAIN), fleet_text(answer, "component"), fleet_text(answer, "version"),
		o.dry_run ? " would be this (nothing was started):" : " is started");
	warnings = json_get(answer, "warnings");
	for (size_t i = 0; i < json_count(warnings); i++)
		cli_say(&c, "%swarning%s: %s", cli_colour(&c, CLI_YELLOW), cli_colour(&c, CLI_PLAIN),
			json_string(json_at(warnings, i)));
	say_preflight(&c, json_get(answer, "preflight"));
	if (o.dry_run) {
		rollout_say_stages(&c, answer);
		say_preview(&c, answer);
	} else
		cli_say(&c, "follow it: selfright rollout show %s, or selfright watch", fleet_text(answer, "id"));
	fleet_say_published(&c, answer);
	return CLI_OK;
}

int cmd_rollout_start(int argc, char **argv)
{
	return start_or_preview(argc, argv, false);
}

int cmd_rollout_plan(int argc, char **argv)
{
	return start_or_preview(argc, argv, true);
}
