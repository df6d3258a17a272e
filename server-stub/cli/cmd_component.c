#include "server-stub/cli/cli.h"

#include "base/err.h"
#include "base/text.h"
#include "json/build.h"
#include "json/json.h"
#include "model/release.h"
#include "os/durable.h"
#include "os/os.h"
#include "os/process.h"
#include "server-stub/cli/component_policy.h"
#include "server-stub/cli/publisher.h"
#include "server-stub/repo/component.h"
#include "server-stub/repo/repo.h"
#include "server-stub/repo/role_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { UNIT_MAX = 64 * 1024 };

/* --- init --- */

/* What the service manager runs for the unit. */
static int read_unit(const struct cli *c, const char *unit, struct buf *ret)
{
	const char *argv[] = { "systemctl", "cat", "--no-pager", unit, NULL };
	const struct process_options options = { .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1 };
	int status = 0, r = process_run(&options, 10000, &status, ret);

	if (r == -ENOENT)
		return cli_fail(c, CLI_FAILED,
				"there is no systemctl here, so %s cannot be read; run this on the appliance, or "
				"leave out --service and describe the service in component.yaml",
				unit);
	if (r < 0)
		return cli_fail_error(c, r, "systemctl cat %s", unit);
	if (status != 0)
		return cli_fail(c, CLI_FAILED, "systemctl knows no %s: %s", unit, buf_str(ret));
	return CLI_OK;
}

/* "nginx.service" -> "nginx"; the folder's own name otherwise. */
static int default_name(const struct cli *c, const char *folder, const char *unit, char ret[static ID_MAX + 1])
{
	char path[PATH_MAX];
	const char *from = unit, *slash;
	size_t len;

	if (!unit) {
		if (!realpath(folder, path))
			return cli_fail_error(c, -errno, "%s", folder);
		slash = strrchr(path, '/');
		from = slash ? slash + 1 : path;
	}
	len = strcspn(from, ".@");
	(void) snprintf(ret, ID_MAX + 1, "%.*s", (int) (len > ID_MAX ? ID_MAX : len), from);
	return guard_id(ret)
		       ? CLI_OK
		       : cli_fail(c, CLI_USAGE, "a component's name is [a-z0-9][a-z0-9-]*: give it with --name");
}

static int write_new(const struct cli *c, int dirfd, const char *folder, const char *file, const struct buf *text)
{
	int r, fd = os_posix.openat(&os_posix, dirfd, file, O_WRONLY | O_CREAT | O_EXCL, 0644);

	if (fd == -EEXIST)
		return cli_fail(c, CLI_REFUSED, "%s/%s is there already; it is not overwritten", folder, file);
	if (fd < 0)
		return cli_fail_error(c, fd, "%s/%s", folder, file);
	r = file_write_all(&os_posix, fd, text->data, text->len);
	if (os_posix.close(&os_posix, fd) < 0 && r >= 0)
		r = -EIO;
	return r < 0 ? cli_fail_error(c, r, "%s/%s", folder, file) : CLI_OK;
}

static int init(int argc, char **argv)
{
	static const char *unit, *name, *team;
	static const struct cli_option options[] = {
		{ .name = "service",
		  .value = "UNIT",
		  .help = "a unit of systemd that runs here already",
		  .text = &unit },
		{ .name = "name",
		  .value = "NAME",
		  .help = "the component's name (default: the unit's or the folder's)",
		  .text = &name },
		{ .name = "team",
		  .value = "TEAM",
		  .help = "whose keys sign it (default: the component's name)",
		  .text = &team },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "component init DIR [--service UNIT] [--name NAME] [--team TEAM]",
		.summary = "make component.yaml and tree/, from scratch or of a service that runs already",
		.details = "With --service the unit's text is put into the tree, so that the first version is "
			   "what runs now;\n"
			   "nothing is restarted. Put the files that are to be updated into tree/ and let the "
			   "unit use them below\n"
			   "/var/lib/selfright/current/NAME.",
		.example = "selfright component init web --service nginx.service --team web",
		.options = options,
		.min_args = 1,
		.max_args = 1,
	};
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(16 * 1024), shown = BUF_INIT(UNIT_MAX), file = BUF_INIT(512);
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf answer = BUF_INIT(16 * 1024);
	char own[ID_MAX + 1];
	struct cli c;
	int dirfd, r = cli_parse(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	if (unit) {
		r = read_unit(&c, unit, &shown);
		if (r != CLI_OK)
			return r;
	}
	r = os_posix.mkdirat(&os_posix, AT_FDCWD, c.args[0], 0755);
	if (r < 0 && r != -EEXIST)
		return cli_fail_error(&c, r, "%s cannot be made", c.args[0]);
	r = name ? CLI_OK : default_name(&c, c.args[0], unit, own);
	if (r != CLI_OK)
		return r;
	if (name && !guard_id(name))
		return cli_fail(&c, CLI_USAGE, "'%s' is no component's name: [a-z0-9][a-z0-9-]*, at most %d", name,
				ID_MAX);
	if (team && !guard_id(team))
		return cli_fail(&c, CLI_USAGE, "'%s' is no team's name: [a-z0-9][a-z0-9-]*", team);
	name = name ? name : own;
	dirfd = dir_open(&os_posix, AT_FDCWD, c.args[0]);
	if (dirfd < 0)
		return cli_fail_error(&c, dirfd, "%s", c.args[0]);
	r = component_template(name, team ? team : name, unit, &text);
	r = r < 0 ? cli_fail_error(&c, r, "component.yaml")
		  : write_new(&c, dirfd, c.args[0], "component.yaml", &text);
	if (r == CLI_OK) {
		r = durable_mkdir(&os_posix, dirfd, "tree", 0755);
		r = r < 0 ? cli_fail_error(&c, r, "%s/tree", c.args[0]) : CLI_OK;
	}
	if (r == CLI_OK && unit) {
		r = buf_addf(&file, "tree/%s", unit);
		r = r < 0 ? cli_fail_error(&c, r, "%s", unit)
			  : write_new(&c, dirfd, c.args[0], buf_str(&file), &shown);
	}
	(void) os_posix.close(&os_posix, dirfd); /* a folder */
	if (r != CLI_OK)
		return r;
	node_string(json_build_root(b), "component", name);
	node_string(json_build_root(b), "team", team ? team : name);
	node_string(json_build_root(b), "folder", c.args[0]);
	if (c.json && json_build_text(b, false, &answer) >= 0)
		cli_print_json(buf_str(&answer));
	cli_say(&c, "%s/component.yaml and %s/tree are there.", c.args[0], c.args[0]);
	cli_say(&c,
		"Next: put the files into %s/tree, then\n  selfright component add %s --team %s\n  selfright "
		"publish %s --version 1.0.0",
		c.args[0], name, team ? team : name, c.args[0]);
	return CLI_OK;
}

/* --- add --- */

static const char *team, *owner, *on_call, *passphrase_file, *request;
static uint64_t key_count = 1, threshold = 1;
static bool demo_single_key;

/* The agent is root on every node: DESIGN.md section 4. Nodes refuse a release that one key signs. */
enum { AGENT_THRESHOLD = 2 };

/* The team's role: found published, or new with keys made here. */
static int team_keys(struct publisher *p, const char *role, bool published, struct key_files *ret)
{
	int r = publisher_keys(p, role, ret);

	if (r != CLI_OK || published)
		return r;
	while (ret->count < key_count) {
		char name[2 * ID_MAX];
		unsigned n;

		r = key_files_next(&os_posix, p->keys, role, &n);
		if (r < 0)
			return cli_fail_error(p->cli, r, "%s", p->keys);
		(void) snprintf(name, sizeof(name), "%s-%u", role, n);
		r = key_files_create(&os_posix, p->keys, name, publisher_passphrase(p), ret);
		if (r < 0)
			return cli_fail_error(p->cli, r, "%s/%s.pem", p->keys, name);
	}
	return CLI_OK;
}

static int delegate(struct publisher *p, const char *component, const char *role, const struct key_files *keys)
{
	CLEANUP(buf_done)
	struct buf policy = BUF_INIT(256), releases = BUF_INIT(256);
	CLEANUP(json_freep)
	struct json *metadata = NULL, *body = NULL;
	const char *paths[2];
	struct offline_role delegation = {
		.name = role, .keys = keys, .threshold = (unsigned) threshold, .paths = paths, .path_count = 2
	};
	int r = publisher_body(p, "targets", &metadata);

	if (r != CLI_OK)
		return r;
	r = buf_addf(&policy, "%s/policy.json", component);
	if (r >= 0)
		r = buf_addf(&releases, "%s/*/release.json", component);
	paths[0] = buf_str(&policy);
	paths[1] = buf_str(&releases);
	if (r >= 0)
		r = offline_delegate(json_get(metadata, "signed"), &delegation, os_posix.clock_real(&os_posix),
				     &body);
	if (r == -EEXIST) {
		const char *whose = role_of_path(json_get(metadata, "signed"), paths[0]);

		return cli_fail(p->cli, CLI_REFUSED, "component %s belongs to a team already: %s", component,
				whose ? whose : "none that can be read");
	}
	if (r < 0)
		return cli_fail_error(p->cli, r, "the delegation to %s", role);
	return publisher_sign_and_publish(p, "targets", body, NULL, request);
}

static int build_policy(const struct cli *c, struct buf *ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b);
	int r;

	node_integer(o, "format", 1);
	node_string(o, "owner", owner ? owner : team);
	if (on_call)
		node_string(o, "on_call", on_call);
	node_array(o, "approvals");
	r = json_build_text(b, true, ret);
	return r < 0 ? cli_fail_error(c, r, "policy.json") : CLI_OK;
}

static int publish_policy(struct publisher *p, const char *component, const char *role, bool published)
{
	CLEANUP(buf_done)
	struct buf policy = BUF_INIT(RELEASE_MAX_BYTES), path = BUF_INIT(256);
	CLEANUP(json_freep)
	struct json *metadata = NULL, *first = NULL, *body = NULL;
	int64_t now = os_posix.clock_real(&os_posix);
	char sha256[SHA256_HEX + 1];
	int r = build_policy(p->cli, &policy);

	if (r == CLI_OK)
		r = publisher_upload(p, policy.data, policy.len, sha256);
	if (r == CLI_OK && published)
		r = publisher_body(p, role, &metadata);
	if (r != CLI_OK)
		return r;
	r = published ? 0 : offline_first_listing(now, &first);
	if (r >= 0)
		r = buf_addf(&path, "%s/policy.json", component);
	if (r >= 0)
		r = offline_list(published ? json_get(metadata, "signed") : first, buf_str(&path), policy.len,
				 sha256, now, &body);
	return r < 0 ? cli_fail_error(p->cli, r, "role %s", role)
		     : publisher_sign_and_publish(p, role, body, NULL, NULL);
}

static int add_component(struct publisher *p, const char *component)
{
	CLEANUP(key_files_done)
	struct key_files keys = { .count = 0 };
	CLEANUP(json_freep)
	struct json *targets = NULL;
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(ROLE_FILE_MAX), answer = BUF_INIT(64 * 1024);
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *list;
	const struct json *unused, *known;
	char role[ID_MAX + 1];
	bool delegated, published;
	int r;

	if (snprintf(role, sizeof(role), "team-%s", team) >= (int) sizeof(role))
		return cli_fail(p->cli, CLI_USAGE, "the team's name is too long");
	r = publisher_body(p, "targets", &targets);
	if (r != CLI_OK)
		return r;
	known = role_find(json_get(targets, "signed"), role, &unused);
	delegated = known != NULL;
	if (str_eq(component, "agent") && !demo_single_key) {
		uint64_t have = threshold;

		if (known && json_need_u64(known, "threshold", 1, 1024, &have) < 0)
			have = 0;
		if (have < AGENT_THRESHOLD)
			return cli_fail(
				p->cli, CLI_REFUSED,
				"whoever signs the agent has every node, so at least 2 keys must sign for %s: "
				"--keys 2 --threshold 2 (for a demo: --demo-single-key, and "
				"demo_single_key_agent in the nodes' agent.yaml)",
				role);
	}
	published = repo_read_role(p->repo, role, &bytes) >= 0;
	r = team_keys(p, role, delegated, &keys);
	if (r == CLI_OK)
		r = delegate(p, component, role, &keys);
	if (r == CLI_OK)
		r = publish_policy(p, component, role, published);
	if (r != CLI_OK)
		return r;
	node_string(json_build_root(b), "component", component);
	node_string(json_build_root(b), "role", role);
	list = node_array(json_build_root(b), "keys");
	for (size_t i = 0; i < keys.count; i++)
		node_string(list, NULL, keys.items[i].name);
	if (p->cli->json && json_build_text(b, false, &answer) >= 0)
		cli_print_json(buf_str(&answer));
	cli_say(p->cli, "Component %s belongs to %s; its keys are in %s.", component, role, p->keys);
	cli_say(p->cli, "Next: selfright publish FOLDER --version 1.0.0");
	return CLI_OK;
}

static int add(int argc, char **argv)
{
	static const struct cli_option options[] = {
		{ .name = "team",
		  .value = "TEAM",
		  .help = "whose keys sign its releases (role team-TEAM; made if new)",
		  .text = &team },
		{ .name = "keys", .value = "N", .help = "keys of a new team (1)", .number = &key_count },
		{ .name = "threshold",
		  .value = "N",
		  .help = "how many of them must sign (1)",
		  .number = &threshold },
		{ .name = "demo-single-key",
		  .help = "let one key sign the component `agent`, for a demo",
		  .flag = &demo_single_key },
		{ .name = "owner",
		  .value = "TEXT",
		  .help = "who owns it, for the policy (the team)",
		  .text = &owner },
		{ .name = "on-call", .value = "TEXT", .help = "whom to call", .text = &on_call },
		{ .name = "passphrase-file",
		  .value = "FILE",
		  .help = "opens and encrypts key files",
		  .text = &passphrase_file },
		{ .name = "request",
		  .value = "FILE",
		  .help = "where a signing request goes if the keys of targets are not here",
		  .text = &request },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "component add NAME --team TEAM [--keys N --threshold N]",
		.summary = "delegate a component to a team: its keys, its policy",
		.details = "targets is signed with the keys in DIR/keys; the team's role then lists "
			   "NAME/policy.json.",
		.example = "selfright component add web --team web --dir fleet",
		.options = options,
		.min_args = 1,
		.max_args = 1,
	};
	static const char *const reserved[] = { "rollouts", "nodes", "inventory" };
	struct publisher p;
	struct cli c;
	int r = cli_parse(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	if (!guard_id(c.args[0]))
		return cli_fail(&c, CLI_USAGE, "'%s' is no component's name: [a-z0-9][a-z0-9-]*, at most %d",
				c.args[0], ID_MAX);
	for (size_t i = 0; i < ARRAY_LEN(reserved); i++)
		if (str_eq(c.args[0], reserved[i]))
			return cli_fail(&c, CLI_USAGE, "%s is a reserved name", c.args[0]);
	if (!team || !guard_id(team))
		return cli_fail(&c, CLI_USAGE, "which team? --team TEAM, [a-z0-9][a-z0-9-]*");
	if (key_count < 1 || key_count > 16 || threshold < 1 || threshold > key_count)
		return cli_fail(&c, CLI_USAGE, "1 to 16 keys, and a threshold from 1 to their number");
	r = publisher_open(&c, passphrase_file, &p);
	if (r == CLI_OK)
		r = add_component(&p, c.args[0]);
	publisher_close(&p);
	return r;
}

int cmd_component(int argc, char **argv)
{
	static const struct cli_sub subs[] = {
		{ "init", "make component.yaml and tree/, from scratch or of a running service", init },
		{ "policy", "approvals, floor, revoked versions: what its team asks", component_policy },
		{ "add", "give a component to a team: keys, delegation, policy", add },
		{ 0 },
	};

	return cli_dispatch("component", "A component is a unit that is released and updated on its own.", subs,
			    argc, argv);
}
