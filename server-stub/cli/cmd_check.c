/*
 * selfright check - is a release ready to go where a plan sends it? For CI: one exit code, one JSON document.
 *
 * The controller judges what it knows (rollout/preflight.h); what looks at artifacts or runs programs of others is
 * done here, on the machine of whoever asks, and handed to the controller as evidence.
 */
#include "base/err.h"
#include "base/text.h"
#include "base/version.h"
#include "conf/conf.h"
#include "json/build.h"
#include "json/json.h"
#include "model/release.h"
#include "model/report.h"
#include "os/durable.h"
#include "os/os.h"
#include "os/process.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/fleet.h"
#include "server-stub/cli/publisher.h"
#include "server-stub/repo/difference.h"
#include "server-stub/repo/offline.h"
#include "server-stub/repo/repo.h"
#include "server-stub/repo/role_file.h"
#include "server-stub/rollout/plan.h"
#include "server-stub/rollout/rules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OUTPUT_READ_MAX = 64 * 1024, OUTPUT_KEPT = 4096, PATH_BYTES = 256, SHOWN_NODES = 20, SHOWN_FILES = 20 };

static const char *plan_path, *rollout, *request, *id;
static bool downgrade, no_commands, strict;

struct check {
	const struct cli *cli;
	const char *component, *version;
	struct json *answer; /* the controller's */
	const struct json *judged; /* in it: "verdict", "releases" */
	struct json_build *evidence; /* {"release_sha256","evidence":[...]} of commands run now; NULL: none */
	struct json_build *difference; /* NULL: not known, ... */
	char unknown[512]; /* ... and why */
};

static void check_done(struct check *k)
{
	json_free(k->answer);
	json_build_free(k->evidence);
	json_build_free(k->difference);
}

/* --- commands outside --- */

/* A small environment, and what the rule passes on. `texts` owns what was made. */
static int environment_of(const struct rule_command *command, struct string_list *texts)
{
	static const char *const always[] = { "PATH", "TZ" };
	int r = string_list_add(texts, "LANG=C");

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(always) + command->environment.count; i++) {
		CLEANUP(buf_done)
		struct buf text = BUF_INIT(128 * 1024);
		const char *name =
			i < ARRAY_LEN(always) ? always[i] : command->environment.items[i - ARRAY_LEN(always)];
		const char *value = getenv(name);

		if (!value)
			continue;
		r = buf_addf(&text, "%s=%s", name, value);
		if (r == 0)
			r = string_list_add(texts, buf_str(&text));
	}
	return r;
}

static int arguments_of(const struct rule_command *command, const struct rule_words *words,
			struct string_list *texts)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < command->argv.count; i++) {
		CLEANUP(buf_done)
		struct buf text = BUF_INIT(16 * 1024);

		r = rule_argument(command->argv.items[i], words, &text);
		if (r == 0)
			r = string_list_add(texts, buf_str(&text));
	}
	return r;
}

/* The pointers, with a NULL behind them; the strings stay the list's. */
static void pointers_of(const struct string_list *texts, const char **ret)
{
	for (size_t i = 0; i < texts->count; i++)
		ret[i] = texts->items[i];
	ret[texts->count] = NULL;
}

static int write_result(struct json_node *o, const struct rule_command *command, const struct string_list *argv,
			const char *outcome, const char *status, uint64_t duration_ms, const struct buf *output)
{
	CLEANUP(buf_done)
	struct buf kept = BUF_INIT(2 * OUTPUT_KEPT);
	struct json_node *list;
	int r = printable_tail(buf_str(output), output->len, OUTPUT_KEPT, &kept);

	node_string(o, "name", command->name);
	node_string(o, "outcome", outcome);
	node_string(o, "status", status);
	/* As the rule says it: what is filled in is in the release's name, what is secret in no argument. */
	list = node_array(o, "command");
	for (size_t i = 0; i < argv->count; i++)
		node_string(list, NULL, argv->items[i]);
	node_string(o, "output", buf_str(&kept));
	node_integer(o, "duration_ms", (int64_t) duration_ms);
	return r;
}

/* Never a shell, never without an end: its group is killed with it, its output kept as a tail. */
static int run_command(const struct check *k, const struct rule_command *command, const struct rule_words *words,
		       struct json_node *list)
{
	struct string_list argv = { 0 }, environment = { 0 };
	const char *arguments[RULES_ARGV_MAX + 1], *variables[RULES_ENVIRONMENT_MAX + 4];
	struct process_options options = { .argv = arguments,
					   .env = variables,
					   .killed_with_parent = true,
					   .stdin_fd = -1,
					   .no_new_privs = true };
	CLEANUP(buf_done)
	struct buf output = BUF_INIT(OUTPUT_READ_MAX);
	char text[100];
	const char *outcome = "error", *status = text;
	uint64_t began = os_posix.clock_boot_ms(&os_posix);
	int code = 0, r = arguments_of(command, words, &argv);

	if (r == 0)
		r = environment_of(command, &environment);
	if (r == 0) {
		pointers_of(&argv, arguments);
		pointers_of(&environment, variables);
		cli_say(k->cli, "%s ...", command->name);
		r = process_run(&options, command->timeout_s * 1000, &code, &output);
		if (r == -ERR_DEADLINE) {
			(void) snprintf(text, sizeof(text), "did not end within %llu s",
					(unsigned long long) command->timeout_s);
		} else if (r < 0) {
			(void) snprintf(text, sizeof(text), "cannot be run: %s", err_text(r));
		} else {
			status = process_status_text(code, text, sizeof(text));
			outcome = WIFEXITED(code) && WEXITSTATUS(code) == 0 ? "pass"
				  : WIFEXITED(code)			    ? "fail"
									    : "error";
		}
		r = write_result(node_object(list, NULL), command, &argv, outcome, status,
				 os_posix.clock_boot_ms(&os_posix) - began, &output);
	}
	string_list_done(&argv);
	string_list_done(&environment);
	return r;
}

/* What is published under this version: its hash, or "" if nothing is. */
static int release_hash(const struct check *k, char ret[static SHA256_HEX + 1])
{
	struct repo *repo = NULL;
	uint8_t digest[SHA256_BYTES];
	char path[PATH_BYTES];
	uint64_t length;
	int r;

	ret[0] = '\0';
	snprintf(path, sizeof(path), "%s/%s/release.json", k->component, k->version);
	r = repo_open(&os_posix, k->cli->dir, NULL, &repo);
	if (r < 0)
		return cli_fail_error(k->cli, r, "the repository in %s cannot be read", k->cli->dir);
	if (repo_target_info(repo, path, &length, digest) == 0)
		hex_encode(ret, digest, sizeof(digest));
	repo_close(repo);
	return CLI_OK;
}

static int run_commands(struct check *k)
{
	struct rules rules = { 0 };
	struct conf_error e = { "" };
	char sha256[SHA256_HEX + 1], path[PATH_BYTES];
	const struct rule_words words = { k->component, k->version, sha256 };
	const struct cli quiet = { .dir = k->cli->dir }; /* its answer is none of ours */
	struct json_node *list;
	int r = rules_load(k->cli->dir, k->component, &rules, &e);

	if (r < 0)
		return cli_fail(k->cli, CLI_FAILED, "%s", e.text[0] ? e.text : err_text(r));
	if (rules.command_count == 0)
		return CLI_OK;
	r = release_hash(k, sha256);
	if (r != CLI_OK || !sha256[0]) {
		rules_done(&rules);
		return r; /* there is nothing their results could be attached to; the judgement says so */
	}
	k->evidence = json_build_new();
	list = node_array(json_build_root(k->evidence), "evidence");
	node_string(json_build_root(k->evidence), "release_sha256", sha256);
	for (size_t i = 0; r == 0 && i < rules.command_count; i++)
		r = run_command(k, &rules.commands[i], &words, list);
	rules_done(&rules);
	if (r < 0)
		return cli_fail_error(k->cli, r, "the commands of " RULES_FILE);
	snprintf(path, sizeof(path), "/v1/releases/%s/%s/evidence", k->component, k->version);
	return fleet_send(&quiet, "POST", path, k->evidence, NULL);
}

/* --- the judgement --- */

static int ask(struct check *k, const char *path, struct json_build *b)
{
	CLEANUP(buf_done)
	struct buf body = BUF_INIT(2 * 1024 * 1024);
	int r;

	node_string(json_build_root(b), "by", fleet_by());
	r = json_build_text(b, false, &body);
	if (r < 0)
		return cli_fail_error(k->cli, r, "the request");
	return cli_call_json(k->cli, "POST", path, buf_str(&body), &k->answer);
}

static int judge_plan(struct check *k)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct conf_error e = { "" };
	struct plan plan;
	int r = plan_load(plan_path, &plan, &e);

	if (r < 0)
		return cli_fail(k->cli, CLI_USAGE, "%s", e.text[0] ? e.text : err_text(r));
	if (!str_eq(plan.component, k->component) || !str_eq(plan.version, k->version))
		r = cli_fail(k->cli, CLI_USAGE, "%s is a plan for %s %s, not for %s %s", plan_path, plan.component,
			     plan.version, k->component, k->version);
	if (r == 0 && downgrade)
		plan.kind = ROLLOUT_DOWNGRADE;
	if (r == 0) {
		plan_write(&plan, node_object(json_build_root(b), "plan"));
		fleet_plan_lines(&plan, plan_path, json_build_root(b));
		node_string(json_build_root(b), "id", id);
		node_bool(json_build_root(b), "dry_run", true);
		r = ask(k, "/v1/rollouts", b);
		/* A plan that cannot be started at all has failed. */
		r = r == CLI_REFUSED ? CLI_FAILED : r;
		k->judged = json_get(k->answer, "preflight");
	}
	plan_done(&plan);
	return r;
}

static int judge(struct check *k)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	int r;

	if (plan_path)
		return judge_plan(k);
	if (rollout) {
		node_string(json_build_root(b), "rollout", rollout);
	} else {
		node_string(json_build_root(b), "component", k->component);
		node_string(json_build_root(b), "version", k->version);
		node_bool(json_build_root(b), "downgrade", downgrade);
	}
	r = ask(k, "/v1/check", b);
	k->judged = k->answer;
	return r;
}

/* --- the difference to what runs --- */

static int load_side(struct repo *repo, int dirfd, const char *component, const char *version,
		     struct release *ret_release, struct tree *ret_tree)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(RELEASE_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	char path[PATH_BYTES];
	int r;

	snprintf(path, sizeof(path), "%s/%s/release.json", component, version);
	r = repo_read_target(repo, path, &text);
	if (r == 0)
		r = json_parse(text.data, text.len, &json_limits_default, &doc);
	if (r == 0)
		r = release_parse(doc, ret_release, NULL);
	if (r < 0)
		return r;
	r = difference_list(&os_posix, dirfd, ret_release, ret_tree);
	if (r < 0)
		release_done(ret_release);
	return r;
}

static int compare(struct check *k, struct repo *repo, int dirfd, const char *running)
{
	struct release before, after;
	struct tree old = { 0 }, new = { 0 };
	int r = load_side(repo, dirfd, k->component, running, &before, &old);

	if (r < 0) {
		snprintf(k->unknown, sizeof(k->unknown), "what runs, %s, cannot be looked at: %s", running,
			 err_text(r));
		return r;
	}
	r = load_side(repo, dirfd, k->component, k->version, &after, &new);
	if (r < 0) {
		snprintf(k->unknown, sizeof(k->unknown), "%s cannot be looked at: %s", k->version, err_text(r));
	} else {
		k->difference = json_build_new();
		r = difference_write(&(struct difference_side){ &before, &old },
				     &(struct difference_side){ &after, &new }, json_build_root(k->difference));
		tree_done(&new);
		release_done(&after);
	}
	tree_done(&old);
	release_done(&before);
	return r;
}

static void find_difference(struct check *k)
{
	const struct json *first = json_at(json_get(k->judged, "releases"), 0);
	const char *running = json_string(json_get(json_get(first, "running"), "version"));
	struct repo *repo = NULL;
	char path[PATH_MAX];
	int dirfd, r;

	if (!json_get(first, "release_sha256")) {
		snprintf(k->unknown, sizeof(k->unknown), "it is not published");
		return;
	}
	if (!running || !version_is_valid(running)) {
		snprintf(k->unknown, sizeof(k->unknown), "no node that it would go to runs a version of it");
		return;
	}
	snprintf(path, sizeof(path), "%s/repo", k->cli->dir);
	dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = dirfd < 0 ? -errno : repo_open(&os_posix, k->cli->dir, NULL, &repo);
	if (r == 0)
		r = compare(k, repo, dirfd, running);
	else
		snprintf(k->unknown, sizeof(k->unknown), "the repository cannot be read: %s", err_text(r));
	(void) r; /* said in `unknown`; a difference that is not known stops nothing */
	repo_close(repo);
	if (dirfd >= 0)
		(void) close(dirfd); /* only read */
}

/* --- what is said --- */

static enum cli_colour colour_of(const char *outcome)
{
	return str_eq(outcome, "pass") ? CLI_GREEN : str_eq(outcome, "warn") ? CLI_YELLOW : CLI_RED;
}

static long long number(const struct json *o, const char *name)
{
	int64_t n = 0;

	(void) json_integer(json_get(o, name), &n); /* 0 if it is not there */
	return (long long) n;
}

static void say_release(const struct cli *c, const struct json *o)
{
	static const char *const headings[] = { "check", "", "what" };
	const struct json *items = json_get(o, "items"), *nodes = json_get(o, "nodes");
	struct cli_table *t = cli_table_new(headings, ARRAY_LEN(headings));

	for (size_t i = 0; i < json_count(items); i++) {
		const struct json *item = json_at(items, i), *findings = json_get(item, "findings");

		for (size_t k = 0; k < json_count(findings) || k == 0; k++) {
			const struct json *f = json_at(findings, k);
			const char *outcome = fleet_text(f ? f : item, "outcome");

			cli_table_cell(t, CLI_PLAIN, "%s", k == 0 ? fleet_text(item, "item") : "");
			cli_table_cell(t, colour_of(outcome), "%s", outcome);
			cli_table_cell(t, CLI_PLAIN, "%s", fleet_text(f ? f : item, f ? "text" : "means"));
		}
	}
	cli_table_print(c, t);
	nodes = json_get(nodes, "list");
	for (size_t i = 0; i < json_count(nodes) && i < SHOWN_NODES; i++) {
		const struct json *texts = json_get(json_at(nodes, i), "missing");
		CLEANUP(buf_done)
		struct buf line = BUF_INIT(8192), clean = BUF_INIT(16384);

		for (size_t k = 0; k < json_count(texts); k++)
			if (buf_addf(&line, "%s%s", k ? ", " : "", json_string(json_at(texts, k))) < 0)
				break; /* --json has the rest */
		if (printable_tail(buf_str(&line), line.len, 8192, &clean) == 0)
			cli_say(c, "  %s lacks %s", fleet_text(json_at(nodes, i), "node"), buf_str(&clean));
	}
	if (json_count(nodes) > SHOWN_NODES || number(json_get(o, "nodes"), "more") > 0)
		cli_say(c, "  and %lld more nodes",
			(long long) (json_count(nodes) > SHOWN_NODES ? json_count(nodes) - SHOWN_NODES : 0) +
				number(json_get(o, "nodes"), "more"));
}

static void say_names(const struct cli *c, const char *what, const struct json *list)
{
	for (size_t i = 0; i < json_count(list); i++)
		cli_say(c, "  check %s: %s", what, json_string(json_at(list, i)));
}

static void say_difference(const struct cli *c, const struct json *d, const char *unknown)
{
	const struct json *files = json_get(d, "files"), *bytes = json_get(d, "bytes"),
			  *download = json_get(d, "download"), *checks = json_get(d, "checks"), *list;
	static const char *const headings[] = { "", "before", "after", "file" };
	struct cli_table *t;

	if (!d) {
		cli_say(c, "difference: not known: %s", unknown);
		return;
	}
	cli_say(c,
		"difference %s to %s: %lld files added, %lld removed, %lld changed, %lld the same; %lld bytes "
		"installed "
		"instead of %lld, %lld written",
		fleet_text(d, "from"), fleet_text(d, "to"), number(files, "added"), number(files, "removed"),
		number(files, "changed"), number(files, "same"), number(bytes, "after"), number(bytes, "before"),
		number(bytes, "written"));
	if (json_get(download, "delta"))
		cli_say(c, "download: %lld bytes as a delta, %lld without", number(download, "delta"),
			number(download, "full"));
	else
		cli_say(c, "download: at most %lld bytes", number(download, "full"));
	say_names(c, "added", json_get(checks, "added"));
	say_names(c, "removed", json_get(checks, "removed"));
	say_names(c, "changed", json_get(checks, "changed"));
	list = json_get(files, "list");
	if (json_count(list) == 0)
		return;
	t = cli_table_new(headings, ARRAY_LEN(headings));
	for (size_t i = 0; i < json_count(list) && i < SHOWN_FILES; i++) {
		const struct json *o = json_at(list, i);

		cli_table_cell(t, CLI_PLAIN, "  %s", fleet_text(o, "change"));
		cli_table_cell(t, CLI_PLAIN, "%lld", number(o, "before"));
		cli_table_cell(t, CLI_PLAIN, "%lld", number(o, "after"));
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_text(o, "path"));
	}
	cli_table_print(c, t);
	if (json_count(list) > SHOWN_FILES)
		cli_say(c, "  ... (--json shows more)");
}

static int say(struct check *k)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(CLI_ANSWER_MAX), part = BUF_INIT(CLI_ANSWER_MAX);
	CLEANUP(json_freep)
	struct json *difference = NULL;
	CLEANUP(json_freep)
	struct json *evidence = NULL;
	struct json_node *o = json_build_root(b);
	const struct json *releases = json_get(k->judged, "releases");
	const char *verdict = fleet_text(k->judged, "verdict");
	int r = 0;

	if (k->difference) {
		r = json_build_text(k->difference, false, &part);
		if (r == 0)
			r = json_parse(part.data, part.len, &json_limits_default, &difference);
	}
	buf_clear(&part);
	if (r == 0 && k->evidence) {
		r = json_build_text(k->evidence, false, &part);
		if (r == 0)
			r = json_parse(part.data, part.len, &json_limits_default, &evidence);
	}
	node_string(o, "component", k->component);
	node_string(o, "version", k->version);
	node_string(o, "verdict", verdict);
	node_bool(o, "strict", strict);
	node_copy(o, "releases", releases);
	if (evidence)
		node_copy(o, "commands", json_get(evidence, "evidence"));
	if (difference)
		node_copy(o, "difference", difference);
	else
		node_string(o, "difference_unknown", k->unknown);
	if (r == 0)
		r = json_build_text(b, false, &text);
	if (r < 0)
		return cli_fail_error(k->cli, r, "the answer");
	if (k->cli->json)
		cli_print_json(buf_str(&text));
	for (size_t i = 0; i < json_count(releases) && !k->cli->json; i++) {
		const struct json *one = json_at(releases, i);
		const char *outcome = fleet_text(one, "verdict");

		cli_say(k->cli, "%s%s %s%s: %s%s%s", cli_colour(k->cli, CLI_BOLD), fleet_text(one, "component"),
			fleet_text(one, "version"), cli_colour(k->cli, CLI_PLAIN),
			cli_colour(k->cli, colour_of(outcome)), outcome, cli_colour(k->cli, CLI_PLAIN));
		say_release(k->cli, one);
	}
	if (!k->cli->json)
		say_difference(k->cli, difference, k->unknown);
	if (str_eq(verdict, "pass") || (str_eq(verdict, "warn") && !strict))
		return CLI_OK;
	return CLI_FAILED;
}

/* --- a signing request: who has not signed yet --- */

static int say_request(const struct cli *c, const char *role, const char *path, bool complete, bool listed,
		       const char *missing, const struct json *unsigned_keys)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(64 * 1024);
	struct json_node *o = json_build_root(b);

	node_string(o, "verdict", complete && listed ? "pass" : "fail");
	node_string(o, "role", role);
	node_bool(o, "complete", complete);
	node_string(o, "missing", complete ? NULL : missing);
	node_bool(o, "lists_release", listed);
	node_copy(o, "keys_that_did_not_sign", unsigned_keys);
	if (c->json && json_build_text(b, false, &text) == 0)
		cli_print_json(buf_str(&text));
	if (!listed)
		cli_say(c, "%sfail%s: the request of %s does not list %s", cli_colour(c, CLI_RED),
			cli_colour(c, CLI_PLAIN), role, path);
	if (complete)
		cli_say(c, "%s has the signatures it needs: selfright repo merge publishes it", role);
	else
		cli_say(c, "%sfail%s: %s has %s", cli_colour(c, CLI_RED), cli_colour(c, CLI_PLAIN), role, missing);
	for (size_t i = 0; i < json_count(unsigned_keys) && !complete; i++)
		cli_say(c, "  key %.12s has not signed", json_string(json_at(unsigned_keys, i)));
	return complete && listed ? CLI_OK : CLI_FAILED;
}

static int unsigned_keys_of(struct publisher *p, const char *role, const struct json *metadata, struct json **ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(64 * 1024);
	CLEANUP(json_freep)
	struct json *delegator = NULL;
	const struct json *keys, *keyids, *signatures = json_get(metadata, "signatures");
	struct json_node *list = node_array(json_build_root(b), "keys");
	int r = publisher_body(p, role_is_top(role) ? "root" : "targets", &delegator);

	if (r != CLI_OK)
		return r;
	keyids = json_get(role_find(json_get(delegator, "signed"), role, &keys), "keyids");
	for (size_t i = 0; i < json_count(keyids); i++) {
		const char *keyid = json_string(json_at(keyids, i));
		bool there = false;

		for (size_t k = 0; k < json_count(signatures); k++)
			there |= str_eq(json_string(json_get(json_at(signatures, k), "keyid")), keyid);
		if (!there)
			node_string(list, NULL, keyid);
	}
	r = json_build_text(b, false, &text);
	if (r == 0)
		r = json_parse(text.data, text.len, &json_limits_default, ret);
	return r < 0 ? cli_fail_error(p->cli, r, "the keys of %s", role) : CLI_OK;
}

static int check_request_file(const struct cli *c)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(2 * ROLE_FILE_MAX), missing = BUF_INIT(1024);
	CLEANUP(json_freep)
	struct json *metadata = NULL;
	CLEANUP(json_freep)
	struct json *unsigned_keys = NULL;
	struct publisher p = { .cli = NULL };
	const char *role = NULL;
	char path[PATH_BYTES];
	bool complete = false;
	int r = cli_read_file(c, request, 2 * ROLE_FILE_MAX, &text);

	if (r == CLI_OK)
		r = publisher_open(c, NULL, &p);
	if (r == CLI_OK) {
		int f = offline_request_parse(text.data, text.len, p.fleet, &metadata, &role);

		r = f < 0 ? cli_fail_error(c, f, "%s is no signing request of this fleet", request) : CLI_OK;
	}
	if (r == CLI_OK)
		r = publisher_is_complete(&p, role, metadata, &complete, &missing);
	if (r == CLI_OK)
		r = unsigned_keys_of(&p, role, metadata, &unsigned_keys);
	snprintf(path, sizeof(path), "%s/%s/release.json", c->args[0], c->args[1]);
	if (r == CLI_OK)
		r = say_request(c, role, path, complete,
				json_get(json_get(json_get(metadata, "signed"), "targets"), path) != NULL,
				buf_str(&missing), json_get(unsigned_keys, "keys"));
	publisher_close(&p);
	return r;
}

int cmd_check(int argc, char **argv)
{
	static const struct cli_option options[] = {
		{ .name = "plan",
		  .value = "PLAN.yaml",
		  .help = "judge the nodes and stages of this plan too",
		  .text = &plan_path },
		{ .name = "id", .value = "ID", .help = "the rollout's id, which shares depend on", .text = &id },
		{ .name = "rollout",
		  .value = "ID",
		  .help = "one that has started: whose approval is missing",
		  .text = &rollout },
		{ .name = "request",
		  .value = "FILE",
		  .help = "a signing request that is not published yet: who has not signed",
		  .text = &request },
		{ .name = "downgrade", .help = "going back to it is meant", .flag = &downgrade },
		{ .name = "no-commands",
		  .help = "run no commands outside; judge the results that are there",
		  .flag = &no_commands },
		{ .name = "strict", .help = "warnings fail", .flag = &strict },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "check COMPONENT VERSION [--plan PLAN.yaml | --rollout ID | --request FILE]",
		.summary = "is this release ready to go? for CI, with an exit code and JSON",
		.details =
			"Signatures, versions, fields, risk, what nodes have, and the difference to what runs; "
			"preflight.yaml in the\n"
			"fleet's folder says what is asked, and which commands are run, their results kept with "
			"the "
			"release.\n"
			"0: it passes, perhaps with warnings (with --strict these fail too); 1: something fails.",
		.example = "selfright check web 1.2.0 --plan plan.yaml --json",
		.options = options,
		.min_args = 2,
		.max_args = 2,
	};
	struct check k = { 0 };
	struct cli c;
	int r = fleet_open(&command, argc, argv, "component", NULL, &c);

	if (r < 0 && rollout)
		r = fleet_check_id(&c, "rollout", rollout);
	if (r >= 0)
		return r;
	if (!version_is_valid(c.args[1]))
		return cli_fail(&c, CLI_USAGE, "'%s' is no version, e.g. 1.2.0", c.args[1]);
	if ((plan_path != NULL) + (rollout != NULL) + (request != NULL) > 1)
		return cli_fail(&c, CLI_USAGE, "give one of --plan, --rollout and --request");
	if (request)
		return check_request_file(&c);
	k = (struct check){ .cli = &c, .component = c.args[0], .version = c.args[1] };
	r = no_commands ? CLI_OK : run_commands(&k);
	if (r == CLI_OK)
		r = judge(&k);
	if (r == CLI_OK) {
		find_difference(&k);
		r = say(&k);
	}
	check_done(&k);
	return r;
}
