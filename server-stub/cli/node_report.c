/*
 * selfright node report - what came back on a stick: the signed reports of nodes without a network.
 */
#include "base/err.h"
#include "json/build.h"
#include "json/json.h"
#include "model/report.h"
#include "os/durable.h"
#include "os/os.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/cmd_node.h"
#include "server-stub/cli/fleet.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { REPORTS_MAX = 10000 };

#define REPORTS_FOLDER "selfright-reports"

struct importing {
	const struct cli *c;
	struct json_node *list; /* of the answer */
	unsigned taken, refused;
};

static void note(struct importing *im, const char *file, const char *node, const char *verdict, const char *text)
{
	struct json_node *o = node_object(im->list, NULL);

	node_string(o, "file", file);
	node_string(o, "node", node);
	node_string(o, "verdict", verdict);
	node_string(o, "text", text);
	cli_say(im->c, "%s: %s%s%s", file, node ? node : "", node ? ": " : "", text);
}

/* CLI_OK whatever the server says of this one report; else the exit code, said. */
static int import_bytes(struct importing *im, const char *file, const struct buf *bytes)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	CLEANUP(json_freep)
	struct json *answer = NULL;
	const char *node = NULL;
	char path[ID_MAX + 32];
	int r;

	if (json_parse(bytes->data, bytes->len, &json_limits_default, &doc) == 0)
		node = json_string(json_get(json_get(doc, "signed"), "node"));
	if (!guard_id(node)) {
		im->refused++;
		note(im, file, NULL, "malformed", "it is no report of a node");
		return CLI_OK;
	}
	snprintf(path, sizeof(path), "/v1/nodes/%s/report", node);
	r = cli_call_json(im->c, "POST", path, buf_str(bytes), &answer);
	if (r != CLI_OK)
		return r;
	if (json_bool(json_get(answer, "taken"), false))
		im->taken++;
	else
		im->refused++;
	note(im, file, node, fleet_text(answer, "verdict"), fleet_text(answer, "text"));
	return CLI_OK;
}

/* Of a stick that anybody may have written to: plain files of a report's size, no links. */
static int import_file(struct importing *im, int dirfd, const char *name, const char *shown)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(REPORT_MAX_BYTES);
	int r = file_read(&os_posix, dirfd, name, REPORT_MAX_BYTES, &bytes);

	if (r < 0 || (bytes.len > 0 && memchr(bytes.data, '\0', bytes.len))) {
		im->refused++;
		note(im, shown, NULL, "unreadable", r < 0 ? err_text(r) : "it is no report of a node");
		return CLI_OK;
	}
	return import_bytes(im, shown, &bytes);
}

static int import_folder(struct importing *im, int dirfd)
{
	struct name_list names = { 0 };
	int r = dir_list(&os_posix, dirfd, ".", &names), code = CLI_OK;
	size_t count = 0;

	if (r < 0)
		return cli_fail_error(im->c, r, "the folder");
	for (size_t i = 0; code == CLI_OK && i < names.count && count < REPORTS_MAX; i++) {
		size_t len = strlen(names.names[i]);

		if (names.names[i][0] == '.' || len <= 5 || strcmp(names.names[i] + len - 5, ".json") != 0)
			continue;
		count++;
		code = import_file(im, dirfd, names.names[i], names.names[i]);
	}
	name_list_done(&names);
	if (code == CLI_OK && count == 0)
		return cli_fail(im->c, CLI_REFUSED,
				"there is no report in it (*.json, or in the folder " REPORTS_FOLDER ")");
	return code;
}

static int import_path(struct importing *im, const char *path)
{
	int dirfd = dir_open(&os_posix, AT_FDCWD, path), below, r;

	if (dirfd == -ENOTDIR)
		return import_file(im, AT_FDCWD, path, path);
	if (dirfd < 0)
		return cli_fail_error(im->c, dirfd, "%s", path);
	below = dir_open(&os_posix, dirfd, REPORTS_FOLDER); /* the stick itself */
	r = import_folder(im, below >= 0 ? below : dirfd);
	if (below >= 0)
		(void) close(below); /* only looked up in */
	(void) close(dirfd); /* as above */
	return r;
}

int cmd_node_report(int argc, char **argv)
{
	static const char *from;
	static const struct cli_option options[] = {
		{ .name = "import",
		  .value = "PATH",
		  .help = "a report, a folder of them, or the stick that has the folder " REPORTS_FOLDER,
		  .text = &from },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "node report --import PATH",
		.summary = "take in the signed reports that a stick brought back from nodes without a network",
		.details = "A report counts only if its node signed it. One that is known already changes "
			   "nothing, and what it\n"
			   "says is not counted again when the node tells it by itself later.",
		.example = "selfright node report --import /media/stick",
		.options = options,
	};
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(CLI_ANSWER_MAX);
	struct importing im = { .list = node_array(json_build_root(b), "reports") };
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	if (!from || !*from)
		return cli_fail(&c, CLI_USAGE, "from where? --import PATH");
	im.c = &c;
	r = import_path(&im, from);
	if (r != CLI_OK)
		return r;
	node_integer(json_build_root(b), "taken", im.taken);
	node_integer(json_build_root(b), "refused", im.refused);
	if (json_build_text(b, false, &text) < 0)
		return cli_fail_error(&c, -ENOMEM, "the answer");
	if (c.json)
		cli_print_json(buf_str(&text));
	return im.refused > 0 ? CLI_REFUSED : CLI_OK;
}
