#include "base/err.h"
#include "base/timestamp.h"
#include "json/build.h"
#include "json/json.h"
#include "os/durable.h"
#include "os/os.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/fleet.h"
#include "server-stub/repo/bundle.h"
#include "server-stub/repo/repo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int print(const struct cli *c, const struct repo_bundle *b, const char *file)
{
	CLEANUP(json_build_freep)
	struct json_build *builder = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(256 * 1024);
	struct json_node *o = json_build_root(builder), *releases;
	char expires[TIMESTAMP_LEN + 1];
	int r;

	timestamp_format(expires, b->expires);
	node_string(o, "file", file);
	node_integer(o, "bytes", (int64_t) b->bytes);
	node_integer(o, "files", (int64_t) b->files);
	node_string(o, "expires", expires);
	releases = node_array(o, "releases");
	for (size_t i = 0; i < b->release_count; i++) {
		struct json_node *release = node_object(releases, NULL);

		node_string(release, "component", b->releases[i].component);
		node_string(release, "version", b->releases[i].version);
		cli_say(c, "  %s %s", b->releases[i].component, b->releases[i].version);
	}
	if (b->release_count == 0)
		cli_say(c, "  no release: nodes take orders and freezes from it, and nothing else");
	cli_say(c, "%s: %zu files, %llu bytes; nodes take it until %s, and longer by their own offline_grace",
		file, b->files, (unsigned long long) b->bytes, expires);
	cli_say(c, "on the node: selfright-agent install %s", file);
	if (!c->json)
		return CLI_OK;
	r = json_build_text(builder, false, &text);
	if (r < 0)
		return cli_fail_error(c, r, "the answer");
	cli_print_json(buf_str(&text));
	return CLI_OK;
}

/* Under a name of its own until it is whole: half a bundle must not look like one. */
static int write_file(const struct cli *c, struct repo *repo, struct repo_bundle *b, const char *file)
{
	char pending[PATH_MAX], folder[PATH_MAX];
	char *slash;
	int fd, r;

	if ((size_t) snprintf(pending, sizeof(pending), "%s.pending", file) >= sizeof(pending))
		return cli_fail(c, CLI_FAILED, "%s is too long a path", file);
	(void) unlink(pending); /* of an earlier one that was stopped */
	fd = open(pending, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return cli_fail_error(c, -errno, "%s", pending);
	r = repo_write_bundle(repo, b, fd);
	(void) close(fd); /* synced, or thrown away */
	if (r == 0 && rename(pending, file) < 0)
		r = -errno;
	if (r < 0) {
		(void) unlink(pending); /* nothing more to do about it */
		return cli_fail(c, CLI_FAILED, "%s", repo_error(repo)[0] ? repo_error(repo) : err_text(r));
	}
	(void) snprintf(folder, sizeof(folder), "%s", file);
	slash = strrchr(folder, '/');
	if (slash)
		slash[slash == folder] = '\0';
	/* The file is synced; this makes its name so. */
	r = dir_sync(&os_posix, AT_FDCWD, slash ? folder : ".");
	return r < 0 ? cli_fail_error(c, r, "%s", folder) : CLI_OK;
}

static int check_values(const struct cli *c, const struct repo_bundle *b)
{
	for (size_t i = 0; i < b->component_count; i++) {
		int r = fleet_check_id(c, "component", b->components[i]);

		if (r >= 0)
			return r;
	}
	for (size_t i = 0; i < b->node_count; i++) {
		int r = fleet_check_id(c, "node", b->nodes[i]);

		if (r >= 0)
			return r;
	}
	for (size_t i = 0; i < b->version_count; i++)
		if (!version_is_valid(b->versions[i]))
			return cli_fail(c, CLI_USAGE, "'%s' is no version", b->versions[i]);
	if (b->version_count > 0 && b->component_count == 0)
		return cli_fail(c, CLI_USAGE, "--version needs --component: whose version?");
	return -1;
}

/* Signed by the running server's signer, which may refuse. */
static int ask_for_life(const struct cli *c, uint64_t life_s, struct json **ret)
{
	char body[64];

	(void) snprintf(body, sizeof(body), "{\"valid\":%llu}", (unsigned long long) life_s);
	return cli_call_json(c, "POST", "/v1/bundle", body, ret);
}

int cmd_bundle(int argc, char **argv)
{
	static const char *output;
	static uint64_t valid;
	static struct cli_values components, versions, nodes;
	static const struct cli_option options[] = {
		{ .name = "output", .value = "FILE", .help = "the tar to write", .text = &output },
		{ .name = "component",
		  .value = "NAME",
		  .help = "releases of this component only (repeat for more)",
		  .values = &components },
		{ .name = "version",
		  .value = "V",
		  .help = "these versions of the components, not those that the rollouts in force name",
		  .values = &versions },
		{ .name = "node",
		  .value = "NODE",
		  .help = "orders and labels of these nodes only (repeat for more)",
		  .values = &nodes },
		{ .name = "valid",
		  .value = "TIME",
		  .help = "sign it for so long, e.g. 90d, if the signer's bundle-life allows it",
		  .seconds = &valid },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "bundle -o FILE [--component NAME] [--version V] [--node NODE] [--valid TIME]",
		.summary = "what nodes without a network need, in one file for a USB stick",
		.details =
			"A bundle allows nothing by itself: a node takes from it what the rollouts and orders in "
			"it open to the node. It brings back signed reports in the folder selfright-reports.",
		.example = "selfright bundle -o /media/stick/demo.tar --component web",
		.options = options,
	};
	CLEANUP(json_freep)
	struct json *signed_for = NULL;
	struct repo *repo = NULL;
	struct repo_bundle b = { .release_count = 0 };
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	if (!output || !*output)
		return cli_fail(&c, CLI_USAGE, "where to? -o FILE");
	b.components = components.items;
	b.component_count = components.count;
	b.versions = versions.items;
	b.version_count = versions.count;
	b.nodes = nodes.items;
	b.node_count = nodes.count;
	r = check_values(&c, &b);
	if (r >= 0)
		return r;
	if (valid > 0) {
		r = ask_for_life(&c, valid, &signed_for);
		if (r != CLI_OK)
			return r;
		b.instead = json_get(signed_for, "files");
	}
	r = repo_open(&os_posix, c.dir, NULL, &repo);
	if (r < 0)
		return cli_fail_error(&c, r, "the repository in %s cannot be read", c.dir);
	r = write_file(&c, repo, &b, output);
	repo_close(repo);
	return r == CLI_OK ? print(&c, &b, output) : r;
}
