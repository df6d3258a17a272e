/*
 * selfright notify: who outside is told what happens, and whether they hear it.
 */
#include "json/build.h"
#include "json/json.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/fleet.h"

#include <string.h>
#include <unistd.h>

enum { WAIT_MS = 45000, LOOK_MS = 200 };

static const struct json *find_hook(const struct json *answer, const char *name)
{
	const struct json *list = json_get(answer, "hooks");

	for (size_t i = 0; i < json_count(list); i++)
		if (strcmp(fleet_text(json_at(list, i), "name"), name) == 0)
			return json_at(list, i);
	return NULL;
}

static int64_t number_of(const struct json *o, const char *name)
{
	int64_t n = 0;

	(void) json_integer(json_get(o, name), &n); /* 0 where there is none */
	return n;
}

static int cmd_notify_list(int argc, char **argv)
{
	static const struct cli_command command = {
		.usage = "notify list",
		.summary = "the hooks of notify.yaml, what was told, and what does not get through",
		.example = "selfright notify list",
	};
	static const char *const headings[] = { "hook", "state", "events told", "last", "left out", "why" };
	CLEANUP(json_freep)
	struct json *answer = NULL;
	const struct json *list;
	struct cli_table *t;
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	r = fleet_send(&c, "GET", "/v1/notify", NULL, &answer);
	if (r != CLI_OK || c.json)
		return r;
	if (*fleet_text(answer, "error"))
		return cli_fail(&c, CLI_FAILED, "nobody is told anything: %s", fleet_text(answer, "error"));
	list = json_get(answer, "hooks");
	if (json_count(list) == 0) {
		cli_say(&c, "nobody outside is told anything; man selfright-notify.yaml says how");
		return CLI_OK;
	}
	t = cli_table_new(headings, ARRAY_LEN(headings));
	for (size_t i = 0; i < json_count(list); i++) {
		const struct json *o = json_at(list, i);
		bool failing = number_of(o, "failures") > 0;
		char ago[60];

		cli_table_cell(t, CLI_BOLD, "%s", fleet_text(o, "name"));
		cli_table_cell(t, failing ? CLI_RED : CLI_GREEN, "%s%s", failing ? "fails since " : "works",
			       failing ? fleet_text(o, "failing_since") : "");
		cli_table_cell(t, CLI_PLAIN, "%lld", (long long) number_of(o, "sent"));
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_ago(o, "sent_at", ago, sizeof(ago)));
		cli_table_cell(t, CLI_PLAIN, "%lld", (long long) number_of(o, "left_out"));
		cli_table_cell(t, CLI_DIM, "%s", fleet_text(o, "error"));
	}
	cli_table_print(&c, t);
	return CLI_OK;
}

/* Until the server took it, or said why not. */
static int follow(const struct cli *c, const char *name, const struct json *test)
{
	for (int waited = 0; waited < WAIT_MS; waited += LOOK_MS) {
		CLEANUP(json_freep)
		struct json *answer = NULL;
		const struct json *hook;
		int r = cli_call_json(c, "GET", "/v1/notify", NULL, &answer);

		if (r != CLI_OK)
			return r;
		hook = find_hook(answer, name);
		if (!hook)
			return cli_fail(c, CLI_REFUSED, "notify.yaml has no hook '%s' any more", name);
		if (number_of(hook, "event") >= number_of(test, "event")) {
			cli_say(c, "%s took it", name);
			return CLI_OK;
		}
		if (number_of(hook, "attempts") > number_of(test, "attempts") && number_of(hook, "failures") > 0)
			return cli_fail(c, CLI_REFUSED, "%s did not take it: %s", name, fleet_text(hook, "error"));
		(void) usleep(LOOK_MS * 1000);
	}
	return cli_fail(c, CLI_REFUSED, "%s has not taken it in %d seconds; selfright notify list says more", name,
			WAIT_MS / 1000);
}

static int cmd_notify_test(int argc, char **argv)
{
	static const struct cli_command command = {
		.usage = "notify test HOOK",
		.summary = "send a message to a hook of notify.yaml, and say whether its server took it",
		.details = "It comes behind what the hook was not told yet, by the same road as every message.",
		.example = "selfright notify test chat",
		.min_args = 1,
		.max_args = 1,
	};
	CLEANUP(change_done)
	struct change x = { 0 };
	int r = change_open(&command, argc, argv, "hook", NULL, &x);

	if (r >= 0)
		return r;
	r = change_send(&x, "POST", "/v1/notify/%s/test", x.c.args[0]);
	return r == CLI_OK ? follow(&x.c, x.c.args[0], x.answer) : r;
}

int cmd_notify(int argc, char **argv)
{
	static const struct cli_sub subs[] = {
		{ "list", "who is told, and what does not get through", cmd_notify_list },
		{ "test", "send a message to one of them", cmd_notify_test },
		{ 0 },
	};

	return cli_dispatch("notify", "Who outside is told what happens.", subs, argc, argv);
}
