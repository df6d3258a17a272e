/*
 * selfright rollout show, list and explain: where rollouts are, and why.
 */
#include "base/timestamp.h"
#include "json/json.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/cmd_rollout.h"
#include "server-stub/cli/fleet.h"

#include <stdio.h>
#include <string.h>

enum { PATH_BYTES = 256 };

static enum cli_colour colour_of(const char *state)
{
	static const struct {
		const char *state;
		enum cli_colour colour;
	} colours[] = {
		{ "good", CLI_GREEN },	    { "done", CLI_GREEN },     { "running", CLI_BOLD },
		{ "failed", CLI_RED },	    { "lost", CLI_RED },       { "halted", CLI_RED },
		{ "failed-node", CLI_RED }, { "blocked", CLI_YELLOW }, { "unproven", CLI_YELLOW },
		{ "skipped", CLI_YELLOW },  { "paused", CLI_YELLOW },  { "quarantined", CLI_YELLOW },
		{ "under-way", CLI_BOLD },
	};

	for (size_t i = 0; i < ARRAY_LEN(colours); i++)
		if (strcmp(state, colours[i].state) == 0)
			return colours[i].colour;
	return CLI_PLAIN;
}

static void say_members(const struct cli *c, const struct json *stage)
{
	static const char *const headings[] = { "node", "state", "runs", "doing", "what" };
	const struct json *nodes = json_get(stage, "nodes");
	struct cli_table *t;

	if (json_count(nodes) == 0)
		return;
	for (size_t i = 0; i < json_count(nodes); i++) {
		const struct json *n = json_at(nodes, i);
		char ago[60];

		if (*fleet_text(n, "counts_from"))
			cli_say(c, "  %s joined %s; its success counts from %s on (min_age)",
				fleet_text(n, "node"), fleet_ago(n, "added", ago, sizeof(ago)),
				fleet_text(n, "counts_from"));
	}
	t = cli_table_new(headings, ARRAY_LEN(headings));
	for (size_t i = 0; i < json_count(nodes); i++) {
		const struct json *n = json_at(nodes, i);
		const char *state = fleet_text(n, "state");

		cli_table_cell(t, CLI_PLAIN, "  %s", fleet_text(n, "node"));
		cli_table_cell(t, colour_of(state), "%s%s", state,
			       json_bool(json_get(n, "silent"), false) ? " (silent)" : "");
		cli_table_cell(t, CLI_PLAIN, "%s", *fleet_text(n, "version") ? fleet_text(n, "version") : "-");
		cli_table_cell(t, CLI_PLAIN, "%s", *fleet_text(n, "under_way") ? fleet_text(n, "under_way") : "-");
		cli_table_cell(t, CLI_DIM, "%s", fleet_text(n, "detail"));
	}
	cli_table_print(c, t);
}

void rollout_say_stages(const struct cli *c, const struct json *answer)
{
	const struct json *stages = json_get(answer, "stages");

	for (size_t k = 0; k < json_count(stages); k++) {
		const struct json *stage = json_at(stages, k);
		char ago[60], span[40];
		int64_t soak = 0, selects = 0;
		bool open = json_bool(json_get(stage, "open"), false);

		(void) json_integer(json_get(stage, "soak"), &soak);
		(void) json_integer(json_get(stage, "selects"), &selects);
		cli_say(c, "%sstage %s%s: %s%s, selects %lld node%s, soak %s", cli_colour(c, CLI_BOLD),
			fleet_text(stage, "name"), cli_colour(c, CLI_PLAIN), open ? "opened " : "closed",
			open ? fleet_ago(stage, "opened", ago, sizeof(ago)) : "", (long long) selects,
			selects == 1 ? "" : "s", cli_span(span, sizeof(span), soak));
		say_members(c, stage);
	}
}

/* Whose approval the component's policy asks for, stage by stage. */
static void say_approvals(const struct cli *c, const struct json *answer)
{
	const struct json *list = json_get(answer, "approvals");

	for (size_t i = 0; i < json_count(list); i++) {
		const struct json *o = json_at(list, i);
		const char *exempt = fleet_text(o, "exempt_label");
		bool met = json_bool(json_get(o, "met"), false);
		bool other = strcmp(fleet_text(o, "component"), fleet_text(answer, "component")) != 0;
		int64_t valid = 0, threshold = 0;

		(void) json_integer(json_get(o, "valid"), &valid); /* only shown */
		(void) json_integer(json_get(o, "threshold"), &threshold); /* the same */
		cli_say(c, "stage %s: %s%s%s of %s%s%s%s%s%s, %lld of %lld signatures%s%s", fleet_text(o, "stage"),
			cli_colour(c, met ? CLI_GREEN : CLI_YELLOW),
			met ? "has the approval" : "needs the approval", cli_colour(c, CLI_PLAIN),
			fleet_text(o, "approver"), other ? " for " : "", other ? fleet_text(o, "component") : "",
			*exempt ? " (not on nodes labelled " : "", exempt, *exempt ? ")" : "", (long long) valid,
			(long long) threshold, met ? ", until " : "", met ? fleet_text(o, "expires") : "");
		if (!json_bool(json_get(o, "known"), true))
			cli_say(c, "  nobody is named %s: selfright repo approvers add %s --help",
				fleet_text(o, "approver"), fleet_text(o, "approver"));
	}
}

/* Nobody takes back by itself what halted: whoever looks is asked. */
static void say_undo_is_asked(const struct cli *c, const char *id, const struct json *answer)
{
	const struct json *stages = json_get(answer, "stages");
	size_t count = 0;

	for (size_t k = 0; k < json_count(stages); k++) {
		const struct json *nodes = json_get(json_at(stages, k), "nodes");

		for (size_t i = 0; i < json_count(nodes); i++)
			count += strcmp(fleet_text(json_at(nodes, i), "version"), fleet_text(answer, "version")) ==
				 0;
	}
	if (count > 0)
		cli_say(c,
			"  %zu node%s run%s it still; shall they return? selfright rollout undo %s --reason TEXT "
			"[--stage NAME]",
			count, count == 1 ? "" : "s", count == 1 ? "s" : "", id);
}

static int show_one(const struct cli *c, const char *id)
{
	CLEANUP(json_freep)
	struct json *answer = NULL;
	char path[PATH_BYTES], ago[60];
	const char *state;
	bool running;
	int r = fleet_check_id(c, "rollout", id);

	if (r >= 0)
		return r;
	snprintf(path, sizeof(path), "/v1/rollouts/%s", id);
	r = fleet_send(c, "GET", path, NULL, &answer);
	if (r != CLI_OK)
		return r;
	state = fleet_text(answer, "state");
	running = strcmp(state, "running") == 0;
	(void) fleet_ago(answer, "state_at", ago, sizeof(ago));
	if (running && strcmp(ago, "never") != 0) /* "for 12m", not "12m ago" */
		ago[strlen(ago) - strlen(" ago")] = '\0';
	cli_say(c, "rollout %s%s%s: %s %s (%s), %s%s%s %s%s", cli_colour(c, CLI_BOLD), id,
		cli_colour(c, CLI_PLAIN), fleet_text(answer, "component"), fleet_text(answer, "version"),
		fleet_text(answer, "kind"), cli_colour(c, colour_of(state)), state, cli_colour(c, CLI_PLAIN),
		running ? "for " : "", ago);
	for (size_t i = 0; i < json_count(json_get(answer, "with")); i++) {
		const struct json *w = json_at(json_get(answer, "with"), i);

		cli_say(c, "  with %s %s", fleet_text(w, "component"), fleet_text(w, "version"));
	}
	if (*fleet_text(answer, "reason"))
		cli_say(c, "  reason: %s (%s)", fleet_text(answer, "reason"), fleet_text(answer, "by"));
	if (running)
		cli_say(c, "  next: %s", fleet_text(answer, "why"));
	for (size_t i = 0; i < json_count(json_get(answer, "undo")); i++)
		cli_say(c, "  undone: stage %s", json_string(json_at(json_get(answer, "undo"), i)));
	if (strcmp(state, "halted") == 0 && json_count(json_get(answer, "undo")) == 0)
		say_undo_is_asked(c, id, answer);
	rollout_say_stages(c, answer);
	say_approvals(c, answer);
	return CLI_OK;
}

static int list_all(const struct cli *c)
{
	static const char *const headings[] = { "rollout", "component", "version", "state",
						"stages",  "since",	"why" };
	CLEANUP(json_freep)
	struct json *answer = NULL;
	struct cli_table *t;
	const struct json *list;
	int r = fleet_send(c, "GET", "/v1/rollouts", NULL, &answer);

	if (r != CLI_OK || c->json)
		return r;
	list = json_get(answer, "rollouts");
	if (json_count(list) == 0) {
		cli_say(c, "no rollouts yet; start one with: selfright rollout start --help");
		return CLI_OK;
	}
	t = cli_table_new(headings, ARRAY_LEN(headings));
	for (size_t i = 0; i < json_count(list); i++) {
		const struct json *o = json_at(list, i), *stages = json_get(o, "stages");
		const char *state = fleet_text(o, "state");
		size_t open = 0;
		char ago[60];

		for (size_t k = 0; k < json_count(stages); k++)
			open += json_bool(json_get(json_at(stages, k), "open"), false);
		cli_table_cell(t, CLI_BOLD, "%s", fleet_text(o, "id"));
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_text(o, "component"));
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_text(o, "version"));
		cli_table_cell(t, colour_of(state), "%s", state);
		cli_table_cell(t, CLI_PLAIN, "%zu of %zu open", open, json_count(stages));
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_ago(o, "state_at", ago, sizeof(ago)));
		cli_table_cell(t, CLI_DIM, "%s",
			       strcmp(state, "running") == 0 ? fleet_text(o, "why") : fleet_text(o, "reason"));
	}
	cli_table_print(c, t);
	return CLI_OK;
}

int cmd_rollout_show(int argc, char **argv)
{
	static const struct cli_command command = {
		.usage = "rollout show [ID]",
		.summary =
			"stages, every node's state, and why the next stage is not open; without ID all rollouts",
		.example = "selfright rollout show web-1-1-0",
		.max_args = 1,
	};
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	return c.arg_count ? show_one(&c, c.args[0]) : list_all(&c);
}

static enum cli_colour colour_of_verdict(const char *verdict)
{
	return strcmp(verdict, "pass") == 0 ? CLI_GREEN : strcmp(verdict, "fail") == 0 ? CLI_RED : CLI_YELLOW;
}

/* What each gate answered, and by what. */
static void say_gates(const struct cli *c, const struct json *gates)
{
	static const char *const headings[] = { "gate", "answer", "by" };
	struct cli_table *t;

	if (json_count(gates) == 0)
		return;
	t = cli_table_new(headings, ARRAY_LEN(headings));
	for (size_t i = 0; i < json_count(gates); i++) {
		const struct json *g = json_at(gates, i);
		const char *verdict = fleet_text(g, "verdict");

		cli_table_cell(t, CLI_PLAIN, "  %s", fleet_text(g, "name"));
		cli_table_cell(t, colour_of_verdict(verdict), "%s", verdict);
		cli_table_cell(t, CLI_DIM, "%s", fleet_text(g, "text"));
	}
	cli_table_print(c, t);
}

int cmd_rollout_explain(int argc, char **argv)
{
	static const char *at;
	static const struct cli_option options[] = {
		{ .name = "at", .value = "TIME", .help = "then, as 2026-11-21T18:00:00Z (now)", .text = &at },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "rollout explain ID [--at TIME]",
		.summary = "why the next stage was, or is, not open: the decision of that time, made again",
		.details = "What the scheduler was given is kept whenever it did something, and at most once a "
			   "minute "
			   "while it\nwaits; from it the same function says the same again.",
		.example = "selfright rollout explain web-1-1-0 --at 2026-11-21T18:00:00Z",
		.options = options,
		.min_args = 1,
		.max_args = 1,
	};
	static const char *const headings[] = { "node", "state", "good since", "what" };
	CLEANUP(json_freep)
	struct json *answer = NULL;
	const struct json *nodes;
	struct cli_table *t;
	char path[PATH_BYTES];
	struct cli c;
	int64_t when;
	int r = fleet_open(&command, argc, argv, "rollout", NULL, &c);

	if (r >= 0)
		return r;
	if (at && timestamp_parse(at, &when) < 0)
		return cli_fail(&c, CLI_USAGE, "--at takes a time like 2026-11-21T18:00:00Z");
	snprintf(path, sizeof(path), "/v1/rollouts/%s/explain%s%s", c.args[0], at ? "?at=" : "", at ? at : "");
	r = fleet_send(&c, "GET", path, NULL, &answer);
	if (r != CLI_OK || c.json)
		return r;
	cli_say(&c, "at %s, by what was known at %s:", fleet_text(answer, "at"), fleet_text(answer, "recorded"));
	cli_say(&c, "  %s, stage %s: %s", fleet_text(answer, "action"), fleet_text(answer, "stage"),
		fleet_text(answer, "why"));
	say_gates(&c, json_get(answer, "gates"));
	nodes = json_get(answer, "nodes");
	t = cli_table_new(headings, ARRAY_LEN(headings));
	for (size_t i = 0; i < json_count(nodes); i++) {
		const struct json *n = json_at(nodes, i);

		cli_table_cell(t, CLI_PLAIN, "  %s", fleet_text(n, "node"));
		cli_table_cell(t, colour_of(fleet_text(n, "state")), "%s%s", fleet_text(n, "state"),
			       json_bool(json_get(n, "silent"), false) ? " (silent)" : "");
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_text(n, "good_since"));
		cli_table_cell(t, CLI_DIM, "%s", fleet_text(n, "detail"));
	}
	cli_table_print(&c, t);
	return CLI_OK;
}

int cmd_rollout_list(int argc, char **argv)
{
	static const struct cli_command command = {
		.usage = "rollout list",
		.summary = "all rollouts, newest first",
		.example = "selfright rollout list",
	};
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	return r >= 0 ? r : list_all(&c);
}
