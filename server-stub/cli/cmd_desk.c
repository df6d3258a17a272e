/*
 * The desk's page for one person: a small web server on this machine that shows what the controller tells over its
 * control socket, and passes a few orders on. It may do what its user may do with `selfright`, so it gives
 * itself a key at its start that only its own address carries; a browser's other pages do not have it.
 */
#include "base/err.h"
#include "base/text.h"
#include "json/build.h"
#include "json/json.h"
#include "os/os.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/fleet.h"
#include "server-stub/web/page.h"
#include "server-stub/web/web.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DESK_PORT = 8460, KEY_BYTES = 16, BODY_MAX = 8 * 1024, CALL_MS = 20 * 1000, PATH_BYTES = 512 };

struct desk {
	const struct cli *cli;
	char key[2 * KEY_BYTES + 1];
};

/* --- the page --- */

static void get_page(void *user, struct web_request *rq)
{
	const char *name = web_arg(rq, 0);

	(void) user;
	for (const struct page_file *f = page_files; f->path; f++)
		if (strcmp(f->path + 1, name ? name : "") == 0) {
			web_reply(rq, 200, f->media, f->data, f->len);
			return;
		}
	web_fail(rq, 404, "there is nothing at this path");
}

/* --- passed on to the controller --- */

/* Every byte is compared, so that the time tells nothing. */
static bool has_key(const struct desk *d, struct web_request *rq)
{
	static const char word[] = "Bearer ";
	const char *given = web_header(rq, "Authorization");
	unsigned char other = 0;

	if (given && strncmp(given, word, sizeof(word) - 1) == 0 &&
	    strlen(given) == sizeof(word) - 1 + 2 * KEY_BYTES) {
		given += sizeof(word) - 1;
		for (size_t i = 0; i < 2 * KEY_BYTES; i++)
			other |= (unsigned char) (given[i] ^ d->key[i]);
		if (other == 0)
			return true;
	}
	web_fail(rq, 401, "the key is missing or old: open the address that `selfright desk` printed");
	return false;
}

static void pass(struct desk *d, struct web_request *rq, const char *method, const char *path, const char *body)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(CLI_ANSWER_MAX);
	long status = 0;
	int r = cli_request(d->cli, method, path, body, CALL_MS, &status, &text);

	if (r < 0)
		web_fail(rq, 502, "the controller does not answer (%s); start it with: selfright serve --dir %s",
			 err_text(r), d->cli->dir);
	else
		web_reply(rq, (unsigned) status, "application/json", text.data, text.len);
}

/* A number, or a time as the controller writes them: nothing that means something in a URL. */
static bool is_plain(const char *value)
{
	return value[0] && strlen(value) <= 32 && value[strspn(value, "0123456789TZ:-")] == '\0';
}

static void get_api(void *user, struct web_request *rq)
{
	static const char *const words[] = { "after", "at" };
	struct desk *d = user;
	const char *what = web_arg(rq, 0);
	char path[PATH_BYTES];
	size_t n;

	if (!has_key(d, rq))
		return;
	n = (size_t) snprintf(path, sizeof(path), "/v1/%s", what);
	for (size_t i = 0; i < ARRAY_LEN(words) && n < sizeof(path); i++) {
		const char *value = web_query(rq, words[i]);

		if (value && !is_plain(value)) {
			web_fail(rq, 400, "?%s= is a number or a time", words[i]);
			return;
		}
		if (value)
			n += (size_t) snprintf(path + n, sizeof(path) - n, "%c%s=%s",
					       strchr(path, '?') ? '&' : '?', words[i], value);
	}
	if (n >= sizeof(path))
		web_fail(rq, 414, "this path is too long");
	else
		pass(d, rq, "GET", path, NULL);
}

/* {"reason"}; who gives the order is who started the desk. */
static void post_verb(void *user, struct web_request *rq)
{
	static const char *const verbs[] = { "pause", "resume", "halt" };
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(2 * BODY_MAX);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct desk *d = user;
	char path[PATH_BYTES];
	const void *body;
	const char *reason;
	bool known = false;
	size_t len;

	if (!has_key(d, rq))
		return;
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		known = known || strcmp(verbs[i], web_arg(rq, 1)) == 0;
	body = web_body(rq, &len);
	if (json_parse(body, len, &json_limits_default, &doc) < 0)
		doc = NULL;
	reason = json_string(json_get(doc, "reason"));
	if (!known || !reason || !*reason) {
		web_fail(rq, 400,
			 known ? "say why in 'reason'"
			       : "from here a rollout is paused, resumed or halted; for the rest "
				 "there is `selfright rollout`");
		return;
	}
	node_string(json_build_root(b), "reason", reason);
	node_string(json_build_root(b), "by", fleet_by());
	if (json_build_text(b, false, &text) < 0)
		web_fail(rq, 400, "the reason cannot be passed on");
	else if ((size_t) snprintf(path, sizeof(path), "/v1/rollouts/%s/%s", web_arg(rq, 0), web_arg(rq, 1)) >=
		 sizeof(path))
		web_fail(rq, 414, "this path is too long");
	else
		pass(d, rq, "POST", path, buf_str(&text));
}

static void get_one(void *user, struct web_request *rq, const char *of, const char *tail)
{
	struct desk *d = user;
	char path[PATH_BYTES];

	if (!has_key(d, rq))
		return;
	if (!guard_id(web_arg(rq, 0)))
		web_fail(rq, 400, "'%s' is no id", web_arg(rq, 0));
	else if ((size_t) snprintf(path, sizeof(path), "/v1/%s/%s%s", of, web_arg(rq, 0), tail) >= sizeof(path))
		web_fail(rq, 414, "this path is too long");
	else
		pass(d, rq, "GET", path, NULL);
}

static void get_node(void *user, struct web_request *rq)
{
	get_one(user, rq, "nodes", "");
}

static void get_rollout(void *user, struct web_request *rq)
{
	get_one(user, rq, "rollouts", "");
}

static void get_explain(void *user, struct web_request *rq)
{
	get_one(user, rq, "rollouts", "/explain");
}

static void get_list(void *user, struct web_request *rq)
{
	static const char *const lists[] = { "status", "nodes", "rollouts", "freeze", "events", "audit" };

	for (size_t i = 0; i < ARRAY_LEN(lists); i++)
		if (strcmp(lists[i], web_arg(rq, 0)) == 0) {
			get_api(user, rq);
			return;
		}
	web_fail(rq, 404, "there is nothing at this path");
}

static const struct web_route routes[] = {
	{ "GET", "/", WEB_LOCAL, 0, get_page, 0 },
	{ "GET", "/api/*", WEB_LOCAL, 0, get_list, 0 },
	{ "GET", "/api/nodes/*", WEB_LOCAL, 0, get_node, 0 },
	{ "GET", "/api/rollouts/*", WEB_LOCAL, 0, get_rollout, 0 },
	{ "GET", "/api/rollouts/*/explain", WEB_LOCAL, 0, get_explain, 0 },
	{ "POST", "/api/rollouts/*/*", WEB_LOCAL, BODY_MAX, post_verb, 0 },
	{ "GET", "/*", WEB_LOCAL, 0, get_page, 0 },
	{ 0 },
};

/* --- life --- */

static int run(struct desk *d, uint64_t port)
{
	const struct web_options o = { .os = &os_posix, .routes = routes, .user = d, .max_connections = 64 };
	CLEANUP(web_closep)
	struct web *w = NULL;
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(4096);
	char url[128];
	unsigned at = 0;
	int stop_fd = -1, r = web_open(&o, &w);

	if (r == 0)
		r = web_listen_local(w, (unsigned) port, &at);
	if (r == -EADDRINUSE)
		return cli_fail(d->cli, CLI_FAILED,
				"port %" PRIu64 " is taken: another desk, perhaps; --port 0 takes "
				"a free one",
				port);
	if (r == 0)
		r = cli_watch_stop(&stop_fd);
	if (r < 0)
		return cli_fail_error(d->cli, r, "the page cannot be served");
	snprintf(url, sizeof(url), "http://127.0.0.1:%u/#key=%s", at, d->key);
	cli_say(d->cli, "%s%s%s", cli_colour(d->cli, CLI_BOLD), url, cli_colour(d->cli, CLI_PLAIN));
	cli_say(d->cli,
		"The address holds the key to it: whoever has it may halt rollouts. Ctrl-C ends it. From "
		"elsewhere:\n  ssh -L %u:127.0.0.1:%u HOST",
		at, at);
	node_string(json_build_root(b), "url", url);
	node_integer(json_build_root(b), "port", at);
	if (d->cli->json && json_build_text(b, false, &text) == 0)
		cli_print_json(buf_str(&text));
	(void) fflush(stdout); /* whoever waits for the address reads a pipe */
	for (;;) {
		struct pollfd fds[WEB_LISTENERS_MAX + 1];
		int timeout = -1;
		size_t n = web_poll_prepare(w, fds, &timeout);

		fds[n] = (struct pollfd){ .fd = stop_fd, .events = POLLIN };
		if (poll(fds, (nfds_t) n + 1, timeout) < 0 && errno != EINTR)
			return cli_fail_error(d->cli, -errno, "the page cannot be served");
		if (fds[n].revents)
			return CLI_OK;
		web_poll_done(w);
	}
}

int cmd_desk(int argc, char **argv)
{
	static uint64_t port = DESK_PORT;
	static const struct cli_option options[] = {
		{ .name = "port",
		  .value = "N",
		  .help = "on 127.0.0.1 (default 8460; 0: a free one)",
		  .number = &port },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "desk [--port N]",
		.summary = "the fleet on a web page: rollouts, nodes, timeline, audit log",
		.details = "The page is for one person on this machine, who may use the control socket: it "
			   "listens on "
			   "127.0.0.1 only\nand asks for the key in the address it prints, new with every start. "
			   "It pauses, "
			   "resumes and halts\nrollouts with a reason; everything else is shown only.",
		.example = "selfright desk --dir fleet",
		.options = options,
	};
	uint8_t bytes[KEY_BYTES];
	struct desk d = { .cli = NULL };
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	if (port > 65535)
		return cli_fail(&c, CLI_USAGE, "--port is a number up to 65535");
	r = os_posix.random(&os_posix, bytes, sizeof(bytes));
	if (r < 0)
		return cli_fail_error(&c, r, "the page's key");
	hex_encode(d.key, bytes, sizeof(bytes));
	d.cli = &c;
	return run(&d, port);
}
