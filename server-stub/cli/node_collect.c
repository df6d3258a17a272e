/*
 * selfright node collect - files of a node: ask for them, see what came, take them.
 */
#include "base/err.h"
#include "crypto/digest.h"
#include "json/build.h"
#include "json/json.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/cmd_node.h"
#include "server-stub/cli/fleet.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 512, WAIT_ROUNDS = 600, WAIT_US = 500 * 1000 };

static int get_list(const struct cli *c, const char *node, struct json **ret)
{
	char path[PATH_BYTES];

	snprintf(path, sizeof(path), "/v1/nodes/%s/collections", node);
	return cli_call_json(c, "GET", path, NULL, ret);
}

static const struct json *find(const struct json *answer, const char *order)
{
	const struct json *list = json_get(answer, "collections");

	for (size_t i = 0; i < json_count(list); i++)
		if (strcmp(fleet_text(json_at(list, i), "order"), order) == 0)
			return json_at(list, i);
	return NULL;
}

static int64_t number_of(const struct json *o, const char *name)
{
	int64_t n = 0;

	return json_integer(json_get(o, name), &n) ? n : 0;
}

static int list(const struct cli *c, const char *node)
{
	static const char *const headings[] = {
		"order", "set", "state", "files", "bytes", "asked", "by", "reason"
	};
	CLEANUP(json_freep)
	struct json *answer = NULL;
	const struct json *all;
	struct cli_table *t;
	char path[PATH_BYTES];
	int r;

	snprintf(path, sizeof(path), "/v1/nodes/%s/collections", node);
	r = fleet_send(c, "GET", path, NULL, &answer);
	if (r != CLI_OK || c->json)
		return r;
	all = json_get(answer, "collections");
	if (json_count(all) == 0) {
		cli_say(c, "%s was asked for no files; ask with: selfright node collect %s SET --reason TEXT",
			node, node);
		return CLI_OK;
	}
	t = cli_table_new(headings, ARRAY_LEN(headings));
	for (size_t i = 0; i < json_count(all); i++) {
		const struct json *o = json_at(all, i);
		bool arriving = json_get(o, "arrived") != NULL;

		cli_table_cell(t, CLI_BOLD, "%s", fleet_text(o, "order"));
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_text(o, "set"));
		cli_table_cell(t, CLI_PLAIN, "%s", arriving ? "arriving" : fleet_text(o, "state"));
		cli_table_cell(t, CLI_PLAIN, "%" PRId64, number_of(o, "files"));
		if (arriving)
			cli_table_cell(t, CLI_PLAIN, "%" PRId64 "/%" PRId64, number_of(o, "arrived"),
				       number_of(o, "length"));
		else
			cli_table_cell(t, CLI_PLAIN, "%" PRId64, number_of(o, "length"));
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_text(o, "issued"));
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_text(o, "by"));
		cli_table_cell(t, CLI_DIM, "%s", fleet_text(o, "reason"));
	}
	cli_table_print(c, t);
	return CLI_OK;
}

/* As the node signed it: the digest of its statement is looked at here as well. */
static int take(const struct cli *c, const char *node, const char *order, const char *output)
{
	CLEANUP(json_freep)
	struct json *answer = NULL;
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf tar = BUF_INIT(CLI_ANSWER_MAX), text = BUF_INIT(4096);
	const struct json *o;
	char path[PATH_BYTES], hex[SHA256_HEX + 1];
	int r;

	r = get_list(c, node, &answer);
	if (r != CLI_OK)
		return r;
	o = find(answer, order);
	if (!o || strcmp(fleet_text(o, "state"), "here") != 0)
		return cli_fail(c, CLI_REFUSED, "nothing of order '%s' is here%s%s", order, o ? ": it is " : "",
				o ? fleet_text(o, "state") : "");
	snprintf(path, sizeof(path), "/v1/nodes/%s/collections/%s", node, order);
	r = cli_call(c, "GET", path, NULL, &tar);
	if (r != CLI_OK)
		return r;
	r = sha256_hex(tar.data, tar.len, hex);
	if (r < 0)
		return cli_fail_error(c, r, "the tar");
	if (strcmp(hex, fleet_text(o, "sha256")) != 0)
		return cli_fail(c, CLI_FAILED,
				"the server's tar is not the one that %s signed: its disk is damaged", node);
	r = cli_write_file(c, output, tar.data, tar.len, 0600);
	if (r != CLI_OK)
		return r;
	node_string(json_build_root(b), "order", order);
	node_string(json_build_root(b), "file", output);
	node_string(json_build_root(b), "sha256", hex);
	node_integer(json_build_root(b), "length", (int64_t) tar.len);
	r = json_build_text(b, false, &text);
	if (r < 0)
		return cli_fail_error(c, r, "the answer");
	if (c->json)
		cli_print_json(buf_str(&text));
	cli_say(c, "%s: %zu bytes of the set %s, as %s signed them; see manifest.txt in it", output, tar.len,
		fleet_text(o, "set"), node);
	return CLI_OK;
}

/* What the node's report says became of the order; "" if nothing yet. */
static bool refusal_of(const struct cli *c, const char *node, const char *order, char *out, size_t size)
{
	CLEANUP(json_freep)
	struct json *n = NULL;
	const struct json *all;
	char path[PATH_BYTES];

	snprintf(path, sizeof(path), "/v1/nodes/%s", node);
	if (cli_call_json(c, "GET", path, NULL, &n) != CLI_OK)
		return false;
	all = json_get(n, "order_results");
	for (size_t i = 0; i < json_count(all); i++) {
		const struct json *o = json_at(all, i);

		if (strcmp(fleet_text(o, "id"), order) == 0 && strcmp(fleet_text(o, "name"), "good") != 0) {
			snprintf(out, size, "%s", fleet_text(o, "detail"));
			return true;
		}
	}
	return false;
}

static int wait_for(const struct cli *c, const char *node, const char *order, const char *output)
{
	char why[600];

	for (int i = 0; i < WAIT_ROUNDS; i++) {
		CLEANUP(json_freep)
		struct json *answer = NULL;
		const struct json *o;
		int r = get_list(c, node, &answer);

		if (r != CLI_OK)
			return r;
		o = find(answer, order);
		if (o && strcmp(fleet_text(o, "state"), "here") == 0) {
			cli_say(c, "%s is here: selfright node collect %s --get %s -o FILE", order, node, order);
			return output ? take(c, node, order, output) : CLI_OK;
		}
		if (refusal_of(c, node, order, why, sizeof(why)))
			return cli_fail(c, CLI_REFUSED, "%s refuses: %s", node, why);
		(void) usleep(WAIT_US);
	}
	return cli_fail(c, CLI_REFUSED,
			"it has not come within five minutes; the order stands, see: selfright node collect %s",
			node);
}

static int ask(const struct cli *c, const char *node, const char *set, const char *reason, uint64_t life,
	       bool wait, const char *output)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *answer = NULL;
	char path[PATH_BYTES];
	int r;

	snprintf(path, sizeof(path), "/v1/nodes/%s/collect", node);
	node_string(json_build_root(b), "set", set);
	node_string(json_build_root(b), "reason", reason);
	if (life > 0)
		node_integer(json_build_root(b), "expires", (int64_t) life);
	r = fleet_send(c, "POST", path, b, &answer);
	if (r != CLI_OK)
		return r;
	cli_say(c, "%s is asked for its files '%s' (%s); see: selfright node collect %s", node, set,
		fleet_text(answer, "id"), node);
	fleet_say_published(c, answer);
	return wait || output ? wait_for(c, node, fleet_text(answer, "id"), output) : CLI_OK;
}

static int withdraw_order(const struct cli *c, const char *node, const char *set)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *answer = NULL;
	char path[PATH_BYTES];
	int r;

	snprintf(path, sizeof(path), "/v1/nodes/%s/collect", node);
	node_string(json_build_root(b), "component", set);
	r = fleet_send(c, "DELETE", path, b, &answer);
	if (r != CLI_OK)
		return r;
	cli_say(c, "%s is no longer asked for '%s'", node, set);
	fleet_say_published(c, answer);
	return CLI_OK;
}

int cmd_node_collect(int argc, char **argv)
{
	static const char *reason, *order, *output;
	static uint64_t life;
	static bool wait, withdraw;
	static const struct cli_option options[] = {
		FLEET_REASON_OPTION(reason),
		{ .name = "for",
		  .value = "TIME",
		  .help = "how long the order stands: 1h ... 30d (7d)",
		  .seconds = &life },
		{ .name = "wait", .help = "until it is here, five minutes at most", .flag = &wait },
		{ .name = "get", .value = "ORDER", .help = "take what came", .text = &order },
		{ .name = "output",
		  .value = "FILE",
		  .help = "the tar to write; with SET it waits for it",
		  .text = &output },
		{ .name = "withdraw", .help = "do not ask any more", .flag = &withdraw },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "node collect NAME SET --reason TEXT [-o FILE] | NAME | NAME --get ORDER -o FILE | NAME "
			 "SET "
			 "--withdraw",
		.summary = "ask a node for a set of its files, such as logs; without SET list what was asked for",
		.details = "Which files a set is stands in the node's own collect.d; nothing else can be asked "
			   "for. The node\n"
			   "signs what it sends. Kept for 30 days, at most 20 of a node.",
		.example = "selfright node collect oslo-1 logs --reason 'ticket 4711' -o oslo-1.tar",
		.options = options,
		.min_args = 1,
		.max_args = 2,
	};
	struct cli c;
	int r = fleet_open(&command, argc, argv, "node", NULL, &c);

	if (r < 0 && c.arg_count == 2)
		r = fleet_check_id(&c, "set", c.args[1]);
	if (r < 0 && order)
		r = fleet_check_id(&c, "order", order);
	if (r >= 0)
		return r;
	if (order && c.arg_count == 1)
		return output ? take(&c, c.args[0], order, output) : cli_fail(&c, CLI_USAGE, "where to? -o FILE");
	if (c.arg_count == 1)
		return list(&c, c.args[0]);
	if (order)
		return cli_fail(&c, CLI_USAGE, "--get takes what an order brought; it needs no SET");
	if (withdraw)
		return withdraw_order(&c, c.args[0], c.args[1]);
	r = fleet_need_reason(&c, reason);
	if (r >= 0)
		return r;
	return ask(&c, c.args[0], c.args[1], reason, life, wait, output);
}
