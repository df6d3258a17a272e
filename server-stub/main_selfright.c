/*
 * selfright - one command for people and CI: this table, and what each row calls.
 */
#include "base/log.h"
#include "base/text.h"
#include "server-stub/cli/cli.h"

#include <stdio.h>

struct row {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *group; /* a heading starts where it changes */
	const char *summary;
};

static const struct row rows[] = {
	{ "repo", cmd_repo, "Set up",
	  "the fleet's keys and metadata: init, status, rotation, offline signing, recovery" },
	{ "key", cmd_key, "Set up", "make and look at key files" },
	{ "serve", cmd_serve, "Set up", "run the controller: metadata, artifacts, broker, reports, rollouts" },
	{ "ca", cmd_ca, "Set up", "exchange the CA of servers and nodes for another" },
	{ "broker-config", cmd_broker_config, "Set up", "settings and access list for a broker of your own" },
	{ "node", cmd_node, "Set up", "add nodes, list them, force one back, hold it" },
	{ "component", cmd_component, "Release",
	  "make a component of a folder or a running service; give it to a team" },
	{ "pack", cmd_pack, "Release", "a folder into an artifact" },
	{ "release", cmd_release, "Release", "the signed statement's text for a version" },
	{ "publish", cmd_publish, "Release", "pack, sign and publish a version" },
	{ "check", cmd_check, "Release", "is a version ready to go where a plan sends it? for CI" },
	{ "rollout", cmd_rollout, "Roll out", "start, watch, pause, halt and undo rollouts" },
	{ "approve", cmd_approve, "Roll out", "sign that a stage of a rollout may go on" },
	{ "freeze", cmd_freeze, "Roll out", "stop regular rollouts for a while" },
	{ "bundle", cmd_bundle, "Roll out", "what nodes without a network need, on a USB stick" },
	{ "watch", cmd_watch, "Roll out", "what happens in the fleet, live" },
	{ "desk", cmd_desk, "Roll out", "the fleet on a web page" },
	{ "notify", cmd_notify, "Roll out", "tell a chat, or any webhook, what happens" },
	{ "tuf", cmd_tuf, "Look closer", "a client for any TUF repository" },
};

static int help(FILE *to)
{
	const char *group = "";

	(void) fprintf(to,
		       "Usage: selfright COMMAND ...\n\nSigned updates for appliances that right themselves.\n");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (!str_eq(rows[i].group, group))
			(void) fprintf(to, "\n%s\n", rows[i].group);
		group = rows[i].group;
		(void) fprintf(to, "  %-13s %s\n", rows[i].name, rows[i].summary);
	}
	(void) fprintf(to,
		       "\n`selfright COMMAND --help` says more, with an example. --version prints the version.\n"
		       "\nExample: selfright repo init fleet --fleet demo && selfright serve --dir fleet\n");
	return fflush(to) == 0 ? CLI_OK : CLI_FAILED;
}

int main(int argc, char **argv)
{
	const char *names[ARRAY_LEN(rows)], *meant;

	log_set_program("selfright");
	/* What a command reports on the way is for programs that stay; people get sentences. */
	log_set(NULL, NULL, argc > 1 && str_eq(argv[1], "serve") ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING);
	if (argc < 2) {
		(void) help(stderr);
		return CLI_USAGE;
	}
	if (cli_asks_for_help(argc, argv))
		return help(stdout);
	if (str_eq(argv[1], "--version") || str_eq(argv[1], "version"))
		return printf("selfright %s\n", SELFRIGHT_VERSION) < 0 ? CLI_FAILED : CLI_OK;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (str_eq(rows[i].name, argv[1]))
			return rows[i].run(argc - 1, argv + 1);
		names[i] = rows[i].name;
	}
	(void) fprintf(stderr, "selfright: there is no command %s", argv[1]);
	meant = text_nearest(argv[1], names, ARRAY_LEN(names));
	if (meant) {
		(void) fprintf(stderr, "; did you mean `selfright %s`? (selfright --help lists all)\n", meant);
		return CLI_USAGE;
	}
	(void) fprintf(stderr, "\n\n");
	(void) help(stderr);
	return CLI_USAGE;
}
