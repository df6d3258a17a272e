#include "base/err.h"
#include "base/log.h"
#include "base/text.h"
#include "base/timestamp.h"
#include "json/build.h"
#include "json/json.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/fleet.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PATH_BYTES = 128, WAIT_S = 55, SHOWN_AT_FIRST = 20, LINE_BYTES = 1200 };

static enum cli_colour colour_of(const char *kind, const char *text)
{
	if (strcmp(kind, "good") == 0 || strcmp(kind, "rollout-done") == 0 || strcmp(kind, "joined") == 0)
		return CLI_GREEN;
	if (strcmp(kind, "result") == 0 || strcmp(kind, "rollout-stopped") == 0 || strcmp(kind, "quarantine") == 0)
		return CLI_RED;
	if (strcmp(kind, "order") == 0 || strcmp(kind, "freeze") == 0 || strcmp(kind, "rollout-changed") == 0)
		return CLI_YELLOW;
	if (strcmp(kind, "state") == 0)
		return strstr(text, "roll") || strstr(text, "stuck") || strstr(text, "failed") ? CLI_YELLOW
											       : CLI_DIM;
	return CLI_BOLD;
}

/* The reader's own time of day: a timeline is read on the spot. */
static void local_time(const char *stamp, char *out, size_t size)
{
	int64_t at;
	struct tm tm;
	time_t t;

	snprintf(out, size, "%s", stamp);
	if (timestamp_parse(stamp, &at) < 0)
		return;
	t = (time_t) at;
	if (localtime_r(&t, &tm))
		(void) strftime(out, size, "%H:%M:%S", &tm); /* fits by the caller's size */
}

/*
 * The steps of an update that last a moment, or that the result says again: with
 * --all only, so that five nodes can be followed by eye.
 */
static bool is_fleeting(const struct json *e)
{
	static const char *const states[] = { "planned", "staged", "waiting", "stopping",   "swapping",
					      "good",	 "watch",  "failed",  "rolled-back" };
	const char *text = fleet_text(e, "text"), *state = strchr(text, ' ');
	size_t len;

	if (strcmp(fleet_text(e, "kind"), "state") != 0 || !state)
		return false;
	state++;
	len = strcspn(state, ": ");
	for (size_t i = 0; i < ARRAY_LEN(states); i++)
		if (strlen(states[i]) == len && strncmp(states[i], state, len) == 0)
			return true;
	return false;
}

static void say_event(const struct cli *c, const struct json *e)
{
	char when[24], text[LINE_BYTES];
	const char *kind = fleet_text(e, "kind");

	local_time(fleet_text(e, "at"), when, sizeof(when));
	/* Nodes write part of these lines: nothing of theirs may steer a terminal. */
	(void) snprintf(text, sizeof(text), "%s", fleet_text(e, "text")); /* cut to fit */
	text_tame(text, "");
	printf("%s%s%s  %-12s %-12s %s%s%s\n", cli_colour(c, CLI_DIM), when, cli_colour(c, CLI_PLAIN),
	       *fleet_text(e, "node") ? fleet_text(e, "node") : "-",
	       *fleet_text(e, "component") ? fleet_text(e, "component") : "-",
	       cli_colour(c, colour_of(kind, text)), text, cli_colour(c, CLI_PLAIN));
}

static int print_event(const struct cli *c, const struct json *e, bool all)
{
	CLEANUP(buf_done)
	struct buf line = BUF_INIT(1024 * 1024);
	int r;

	if (!c->json) {
		if (all || !is_fleeting(e))
			say_event(c, e);
		return 0;
	}
	r = json_text(e, &line);
	if (r == 0)
		cli_print_json(buf_str(&line));
	return r;
}

/* Print what came after *after, and move it. Negative, or 0. */
static int print_events(const struct cli *c, const struct json *answer, int64_t since, bool all, uint64_t *after)
{
	const struct json *list = json_get(answer, "events");

	for (size_t i = 0; i < json_count(list); i++) {
		const struct json *e = json_at(list, i);
		int64_t id = 0, at = 0;
		int r;

		if (!json_integer(json_get(e, "id"), &id) || id < 0)
			return -ERR_PROTOCOL;
		if ((uint64_t) id > *after)
			*after = (uint64_t) id;
		if (since > 0 && (timestamp_parse(fleet_text(e, "at"), &at) < 0 || at < since))
			continue;
		r = print_event(c, e, all);
		if (r < 0)
			return r;
	}
	fflush(stdout);
	return ferror(stdout) ? -ERR_PEER_GONE : 0;
}

/* Where to begin: a little before the end, or at the very start when a time is asked for. */
static int first_event(const struct cli *c, bool from_start, uint64_t *ret)
{
	CLEANUP(json_freep)
	struct json *status = NULL;
	int64_t last = 0;
	int r = cli_call_json(c, "GET", "/v1/status", NULL, &status);

	if (r != CLI_OK)
		return r;
	(void) json_integer(json_get(status, "last_event"), &last); /* an older server starts at the beginning */
	*ret = from_start || last < SHOWN_AT_FIRST ? 0 : (uint64_t) last - SHOWN_AT_FIRST;
	return CLI_OK;
}

static int watch(const struct cli *c, uint64_t after, int64_t since, bool all, bool once)
{
	bool away = false;

	for (;;) {
		CLEANUP(buf_done)
		struct buf text = BUF_INIT(CLI_ANSWER_MAX);
		CLEANUP(json_freep)
		struct json *answer = NULL;
		char path[PATH_BYTES];
		long status = 0;
		uint64_t before = after;
		int r;

		snprintf(path, sizeof(path), "/v1/events?after=%" PRIu64 "&wait=%d", after, once ? 0 : WAIT_S);
		r = cli_request(c, "GET", path, NULL, (WAIT_S + 20) * 1000, &status, &text);
		if (r < 0 || status != 200) {
			if (once)
				return cli_fail(c, CLI_FAILED, "the server does not answer");
			if (!away)
				fprintf(stderr, "selfright: the server is away; waiting for it\n");
			away = true;
			sleep(1);
			continue;
		}
		away = false;
		r = json_parse(text.data, text.len, &json_limits_default, &answer);
		if (r == 0)
			r = print_events(c, answer, since, all, &after);
		if (r == -ERR_PEER_GONE)
			return CLI_OK;
		if (r < 0)
			return cli_fail_error(c, r, "the server's answer");
		if (once && after == before)
			return CLI_OK;
	}
}

int cmd_watch(int argc, char **argv)
{
	static const char *since_text;
	static bool once, all;
	static const struct cli_option options[] = {
		{ .name = "since",
		  .value = "TIME",
		  .help = "from 2h ago, or 2026-11-21T08:00:00Z on (default: the newest lines)",
		  .text = &since_text },
		{ .name = "all",
		  .help = "also the steps that last a moment (--json always has them)",
		  .flag = &all },
		{ .name = "once", .help = "print what there is and end", .flag = &once },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "watch [--since TIME] [--all] [--once]",
		.summary = "the live timeline: what every node and every rollout does, one line each",
		.example = "selfright watch --since 1h",
		.options = options,
	};
	uint64_t after = 0, span;
	int64_t since = 0;
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	if (since_text && timestamp_parse(since_text, &since) < 0) {
		if (cli_parse_seconds(since_text, &span) < 0)
			return cli_fail(&c, CLI_USAGE,
					"--since takes 2h, 3d, or a time like 2026-11-21T08:00:00Z");
		since = (int64_t) time(NULL) - (int64_t) span;
	}
	r = first_event(&c, since_text != NULL, &after);
	if (r != CLI_OK)
		return r;
	return watch(&c, after, since, all, once);
}
