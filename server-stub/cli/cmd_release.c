#include "server-stub/cli/cli.h"

#include "base/err.h"
#include "base/text.h"
#include "base/version.h"
#include "crypto/digest.h"
#include "json/build.h"
#include "json/json.h"
#include "model/release.h"
#include "model/report.h"
#include "os/os.h"
#include "server-stub/cli/fleet.h"
#include "server-stub/cli/publisher.h"
#include "server-stub/repo/advice.h"
#include "server-stub/repo/component.h"
#include "server-stub/repo/repo.h"
#include "server-stub/repo/role_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LEVEL_DEFAULT = 19, PATH_BYTES = 256 };

static const char *version, *changes, *risk, *output, *passphrase_file, *request;
static uint64_t level = LEVEL_DEFAULT;
static bool dry_run, check_only;

/* A release in the making. */
struct work {
	const struct cli *cli;
	struct component *component;
	int fd; /* the artifact, a file without a name */
	struct artifact artifact;
	struct buf release, release_path, artifact_path;
	struct string_list warnings; /* what it will not achieve */
};

static void work_done(struct work *w)
{
	component_free(w->component);
	if (w->fd >= 0)
		(void) close(w->fd); /* it had no name */
	string_list_done(&w->warnings);
	buf_done(&w->release);
	buf_done(&w->release_path);
	buf_done(&w->artifact_path);
}

static int load(const struct cli *c, struct work *w)
{
	struct conf_error e = { "" };
	int r;

	*w = (struct work){ .cli = c,
			    .fd = -1,
			    .release = BUF_INIT(4 * RELEASE_MAX_BYTES),
			    .release_path = BUF_INIT(512),
			    .artifact_path = BUF_INIT(512) };
	r = component_load(c->args[0], &w->component, &e);
	if (r == -ENOENT)
		return cli_fail(c, CLI_FAILED, "%s (selfright component init %s makes one)", e.text, c->args[0]);
	return r < 0 ? cli_fail(c, CLI_FAILED, "%s", e.text[0] ? e.text : err_text(r)) : CLI_OK;
}

/* A file without a name in `folder`, else in $TMPDIR or /tmp, else in memory. */
static int nameless(const char *folder)
{
	const char *const folders[] = { folder, getenv("TMPDIR"), "/tmp" };

	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		int fd = folders[i] && *folders[i] ? open(folders[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;

		if (fd >= 0)
			return fd;
	}
	return memfd_create("artifact", MFD_CLOEXEC);
}

static int pack(struct work *w)
{
	CLEANUP(buf_done)
	struct buf folder = BUF_INIT(PATH_MAX);
	struct conf_error e = { "" };
	int r;

	if (level < 1 || level > 22)
		return cli_fail(w->cli, CLI_USAGE, "zstd has levels 1 to 22");
	if (*w->cli->dir && buf_addf(&folder, "%s/serve/uploads", w->cli->dir) < 0)
		return cli_fail(w->cli, CLI_FAILED, "%s is too long a path", w->cli->dir);
	w->fd = nameless(buf_str(&folder));
	if (w->fd < 0)
		return cli_fail_error(w->cli, -errno, "no place for the artifact");
	r = component_pack(&os_posix, w->component, (int) level, w->fd, &w->artifact, &e);
	return r < 0 ? cli_fail(w->cli, CLI_FAILED, "%s", e.text) : CLI_OK;
}

static int make_release(struct work *w)
{
	const struct release_words words = { .changes = changes, .risk = risk };
	struct conf_error e = { "" };
	int r;

	if (!version)
		return cli_fail(w->cli, CLI_USAGE, "which version? --version 1.2.0");
	r = component_release(w->component, version, &w->artifact, &words, &w->release, &e);
	if (r < 0)
		return cli_fail(w->cli, CLI_FAILED, "%s", e.text[0] ? e.text : err_text(r));
	r = release_advice_text(w->release.data, w->release.len, &w->warnings);
	if (r < 0)
		return cli_fail_error(w->cli, r, "the release");
	for (size_t i = 0; i < w->warnings.count && !w->cli->json; i++)
		(void) fprintf(stderr, "selfright: warning: %s\n",
			       w->warnings.items[i]); /* nowhere else to say it */
	r = component_release_path(w->component, version, &w->release_path);
	if (r >= 0)
		r = component_artifact_path(w->component, version, &w->artifact_path);
	return r < 0 ? cli_fail_error(w->cli, r, "a path") : CLI_OK;
}

/* What was made, for programs and people. `state`: "packed", "published" ... */
static int report(const struct work *w, const char *state, const char *release_sha256)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(64 * 1024);
	struct json_node *o = json_build_root(b), *artifact, *list;
	char sha256[SHA256_HEX + 1], tree[SHA256_HEX + 1];

	hex_encode(sha256, w->artifact.sha256, SHA256_BYTES);
	hex_encode(tree, w->artifact.tree_digest, SHA256_BYTES);
	node_string(o, "state", state);
	node_string(o, "component", component_name(w->component));
	if (version)
		node_string(o, "version", version);
	if (release_sha256) {
		node_string(o, "release", buf_str(&w->release_path));
		node_string(o, "release_sha256", release_sha256);
	}
	artifact = node_object(o, "artifact");
	node_integer(artifact, "length", (int64_t) w->artifact.length);
	node_string(artifact, "sha256", sha256);
	node_string(o, "tree_digest", tree);
	node_integer(o, "installed_size", (int64_t) w->artifact.installed_size);
	node_integer(o, "files", (int64_t) w->artifact.files);
	list = node_array(o, "warnings");
	for (size_t i = 0; i < w->warnings.count; i++)
		node_string(list, NULL, w->warnings.items[i]);
	if (w->cli->json && json_build_text(b, false, &text) >= 0)
		cli_print_json(buf_str(&text));
	cli_say(w->cli, "%s%s%s %s: %llu files, %llu bytes installed, artifact %llu bytes",
		component_name(w->component), version ? " " : "", version ? version : "", state,
		(unsigned long long) w->artifact.files, (unsigned long long) w->artifact.installed_size,
		(unsigned long long) w->artifact.length);
	return CLI_OK;
}

/* --- pack --- */

static int copy_out(const struct work *w, const char *path)
{
	void *map = w->artifact.length > 0
			    ? mmap(NULL, (size_t) w->artifact.length, PROT_READ, MAP_SHARED, w->fd, 0)
			    : NULL;
	int r;

	if (map == MAP_FAILED)
		return cli_fail_error(w->cli, -errno, "the artifact");
	r = cli_write_file(w->cli, path, map, (size_t) w->artifact.length, 0644);
	if (map)
		(void) munmap(map, (size_t) w->artifact.length); /* only read */
	return r;
}

int cmd_pack(int argc, char **argv)
{
	static const struct cli_option options[] = {
		{ .name = "output",
		  .value = "FILE",
		  .help = "the artifact (-o); - is standard output",
		  .text = &output },
		{ .name = "level", .value = "N", .help = "of zstd, 1 to 22 (19)", .number = &level },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "pack FOLDER -o FILE",
		.summary = "pack a component's tree into an artifact",
		.details = "FOLDER holds component.yaml and the tree. The artifact is a .tar.zst that every tool "
			   "reads, in frames\n"
			   "from which single files can be fetched; the same tree gives the same bytes.",
		.example = "selfright pack web -o web-1.2.0.tar.zst",
		.options = options,
		.min_args = 1,
		.max_args = 1,
	};
	struct work w;
	struct cli c;
	int r = cli_parse(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	if (!output)
		return cli_fail(&c, CLI_USAGE, "where to? -o FILE");
	r = load(&c, &w);
	if (r == CLI_OK)
		r = pack(&w);
	if (r == CLI_OK)
		r = copy_out(&w, output);
	if (r == CLI_OK && !str_eq(output, "-"))
		r = report(&w, "packed", NULL);
	work_done(&w);
	return r;
}

/* --- release --- */

enum { LINES_SHOWN = 5 };

/* The last lines of what a program said, indented: it is no word of ours. */
static void say_tail(const struct cli *c, const char *text)
{
	const char *from = text + strlen(text);
	unsigned lines = 0;

	while (from > text && from[-1] == '\n')
		from--;
	while (from > text && (from[-1] != '\n' || ++lines < LINES_SHOWN))
		from--;
	while (*from) {
		size_t len = strcspn(from, "\n");

		cli_say(c, "    %.*s", (int) len, from);
		from += len + (from[len] == '\n');
	}
}

static void say_evidence(const struct cli *c, const struct json *o)
{
	char ago[60];

	cli_say(c, "  %s: %s (%s), %s by %s", fleet_text(o, "name"), fleet_text(o, "outcome"),
		fleet_text(o, "status"), fleet_ago(o, "at", ago, sizeof(ago)), fleet_text(o, "by"));
	say_tail(c, fleet_text(o, "output"));
}

/* A text of the team's, for a terminal: it must not move anybody's cursor. */
static void say_text(const struct cli *c, const char *name, const char *text)
{
	CLEANUP(buf_done)
	struct buf clean = BUF_INIT(64 * 1024);

	if (*text && printable_tail(text, strlen(text), 16 * 1024, &clean) == 0)
		cli_say(c, "  %s: %s", name, buf_str(&clean));
}

static void say_record(const struct cli *c, const struct json *answer)
{
	static const char *const words[] = { "changes", "risk", "known_issues", "post_deploy_checks" };
	const struct json *release = json_get(answer, "release"), *list;

	cli_say(c, "%s%s %s%s, release %.12s", cli_colour(c, CLI_BOLD), fleet_text(answer, "component"),
		fleet_text(answer, "version"), cli_colour(c, CLI_PLAIN), fleet_text(answer, "release_sha256"));
	say_text(c, "owner", fleet_text(answer, "owner"));
	say_text(c, "on call", fleet_text(answer, "on_call"));
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		say_text(c, words[i], fleet_text(release, words[i]));
	list = json_get(release, "checks");
	for (size_t i = 0; i < json_count(list); i++)
		cli_say(c, "  check %s", fleet_text(json_at(list, i), "name"));
	list = json_get(answer, "evidence");
	cli_say(c, "%s",
		json_count(list) ? "results:" : "no results of commands outside (selfright check runs them)");
	for (size_t i = 0; i < json_count(list); i++)
		say_evidence(c, json_at(list, i));
	list = json_get(answer, "rollouts");
	for (size_t i = 0; i < json_count(list); i++)
		cli_say(c, "rollout %s (%s): %s, begun by %s at %s", fleet_text(json_at(list, i), "rollout"),
			fleet_text(json_at(list, i), "kind"), fleet_text(json_at(list, i), "state"),
			fleet_text(json_at(list, i), "by"), fleet_text(json_at(list, i), "created"));
}

static int show(int argc, char **argv)
{
	static const struct cli_command command = {
		.usage = "release show COMPONENT VERSION",
		.summary =
			"the record of a published version: what it says, results of checks outside, its rollouts",
		.example = "selfright release show web 1.2.0 --json",
		.min_args = 2,
		.max_args = 2,
	};
	CLEANUP(json_freep)
	struct json *answer = NULL;
	char path[PATH_BYTES];
	struct cli c;
	int r = fleet_open(&command, argc, argv, "component", NULL, &c);

	if (r >= 0)
		return r;
	if (!version_is_valid(c.args[1]))
		return cli_fail(&c, CLI_USAGE, "'%s' is no version, e.g. 1.2.0", c.args[1]);
	(void) snprintf(path, sizeof(path), "/v1/releases/%s/%s", c.args[0], c.args[1]);
	r = fleet_send(&c, "GET", path, NULL, &answer);
	if (r == CLI_OK)
		say_record(&c, answer);
	return r;
}

int cmd_release(int argc, char **argv)
{
	static const struct cli_option options[] = {
		{ .name = "version", .value = "V", .help = "MAJOR.MINOR.PATCH[-pre]", .text = &version },
		{ .name = "changes",
		  .value = "TEXT",
		  .help = "what is new (component.yaml's changes otherwise)",
		  .text = &changes },
		{ .name = "risk", .value = "LEVEL", .help = "low, medium or high", .text = &risk },
		{ .name = "output",
		  .value = "FILE",
		  .help = "where release.json goes (-o); standard output otherwise",
		  .text = &output },
		{ .name = "level", .value = "N", .help = "of zstd, 1 to 22 (19)", .number = &level },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "release FOLDER --version V [--changes TEXT] [--risk LEVEL] [-o release.json]",
		.summary = "write the release document of a version, unsigned, to look at",
		.details = "`selfright publish` makes the same document, signs it and puts it with its artifact "
			   "into the repository.\n`selfright release show COMPONENT VERSION` is the record of a "
			   "published one.",
		.example = "selfright release web --version 1.2.0 -o release.json",
		.options = options,
		.min_args = 1,
		.max_args = 1,
	};
	struct work w;
	struct cli c;
	int r;

	/* A folder of that name is ./show. */
	if (argc > 1 && str_eq(argv[1], "show"))
		return show(argc - 1, argv + 1);
	r = cli_parse(&command, argc, argv, &c);
	if (r >= 0)
		return r;
	r = load(&c, &w);
	if (r == CLI_OK)
		r = pack(&w);
	if (r == CLI_OK)
		r = make_release(&w);
	if (r == CLI_OK)
		r = cli_write_file(&c, output ? output : "-", w.release.data, w.release.len, 0644);
	work_done(&w);
	return r;
}

/* --- publish --- */

/* Negative: it is new. Otherwise the exit code, after saying that it is there already. */
static int published_already(struct publisher *p, const struct work *w, const char *sha256)
{
	uint8_t digest[SHA256_BYTES];
	char there[SHA256_HEX + 1];
	uint64_t length;

	if (repo_target_info(p->repo, buf_str(&w->release_path), &length, digest) < 0)
		return -1;
	hex_encode(there, digest, sizeof(digest));
	if (str_eq(there, sha256))
		return report(w, "published already", sha256);
	return cli_fail(p->cli, CLI_REFUSED,
			"%s %s is published already with other content; a published version never changes: take a "
			"new version number",
			component_name(w->component), version);
}

static int sign_and_publish(struct publisher *p, const struct work *w, const char *role, const char *sha256)
{
	CLEANUP(json_freep)
	struct json *metadata = NULL, *body = NULL;
	int r = publisher_body(p, role, &metadata);

	if (r != CLI_OK)
		return r;
	r = offline_list(json_get(metadata, "signed"), buf_str(&w->release_path), w->release.len, sha256,
			 os_posix.clock_real(&os_posix), &body);
	return r < 0 ? cli_fail_error(p->cli, r, "role %s", role)
		     : publisher_sign_and_publish(p, role, body, NULL, request);
}

/* Negative: the team that component.yaml names has this component. Otherwise the exit code, after saying whose it is. */
static int of_its_team(struct publisher *p, const struct work *w, const char *role)
{
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(ID_MAX + 32), metadata = BUF_INIT(ROLE_FILE_MAX);
	CLEANUP(json_freep)
	struct json *targets = NULL;
	const char *name = component_name(w->component), *owner;
	int r = publisher_body(p, "targets", &targets);

	if (r != CLI_OK)
		return r;
	r = buf_addf(&path, "%s/policy.json", name);
	if (r < 0)
		return cli_fail_error(p->cli, r, "%s", name);
	owner = role_of_path(json_get(targets, "signed"), buf_str(&path));
	/* Paths may be written in other ways than ours; whoever checks signatures has the last word. */
	if (owner ? str_eq(owner, role) : repo_read_role(p->repo, role, &metadata) >= 0)
		return -1;
	if (!owner)
		return cli_fail(p->cli, CLI_REFUSED,
				"component %s belongs to no team yet: selfright component add %s --team %s", name,
				name, component_team(w->component));
	return cli_fail(p->cli, CLI_REFUSED, "component %s belongs to %s, but its component.yaml says team: %s",
			name, owner, component_team(w->component));
}

static int publish(struct publisher *p, struct work *w)
{
	char sha256[SHA256_HEX + 1], artifact[SHA256_HEX + 1], role[ID_MAX + 8];
	int r = sha256_hex(w->release.data, w->release.len, sha256);

	if (r < 0)
		return cli_fail_error(p->cli, r, "a digest");
	(void) snprintf(role, sizeof(role), "team-%s", component_team(w->component)); /* guarded when read */
	r = published_already(p, w, sha256);
	if (r >= 0)
		return r;
	r = of_its_team(p, w, role);
	if (r >= 0)
		return r;
	if (dry_run)
		return report(w, "would be published", sha256);
	hex_encode(artifact, w->artifact.sha256, SHA256_BYTES);
	r = publisher_upload_fd(p, w->fd, w->artifact.length, artifact);
	if (r == CLI_OK)
		r = publisher_upload(p, w->release.data, w->release.len, sha256);
	if (r == CLI_OK)
		r = sign_and_publish(p, w, role, sha256);
	return r == CLI_OK ? report(w, "published", sha256) : r;
}

int cmd_publish(int argc, char **argv)
{
	static const struct cli_option options[] = {
		{ .name = "version", .value = "V", .help = "MAJOR.MINOR.PATCH[-pre]", .text = &version },
		{ .name = "changes",
		  .value = "TEXT",
		  .help = "what is new (component.yaml's changes otherwise)",
		  .text = &changes },
		{ .name = "risk", .value = "LEVEL", .help = "low, medium or high", .text = &risk },
		{ .name = "level", .value = "N", .help = "of zstd, 1 to 22 (19)", .number = &level },
		{ .name = "check", .help = "only check component.yaml and the tree", .flag = &check_only },
		{ .name = "dry-run", .help = "do everything but sign and upload", .flag = &dry_run },
		{ .name = "passphrase-file",
		  .value = "FILE",
		  .help = "opens the team's key files",
		  .text = &passphrase_file },
		{ .name = "request",
		  .value = "FILE",
		  .help = "where a signing request goes if the team's keys here are too few",
		  .text = &request },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "publish FOLDER --version V [--changes TEXT] [--risk LEVEL] [--check | --dry-run]",
		.summary = "pack a component, sign the release with the team's keys, and publish it",
		.details = "Publishing opens nothing: `selfright rollout start` does. The same content under the "
			   "same version again\n"
			   "changes nothing; other content under a published version is refused.",
		.example = "selfright publish web --version 1.2.0 --changes 'faster start' --dir fleet",
		.options = options,
		.min_args = 1,
		.max_args = 1,
	};
	struct publisher p = { .cli = NULL };
	struct work w;
	struct cli c;
	int r = cli_parse(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	r = load(&c, &w);
	if (r == CLI_OK && !check_only) {
		r = cli_need_dir(&c);
		r = r < 0 ? CLI_OK : r;
	}
	if (r == CLI_OK)
		r = pack(&w);
	if (r == CLI_OK && check_only) {
		r = report(&w, "fine", NULL);
		goto out;
	}
	if (r == CLI_OK)
		r = make_release(&w);
	if (r == CLI_OK)
		r = publisher_open(&c, passphrase_file, &p);
	if (r == CLI_OK)
		r = publish(&p, &w);
out:
	publisher_close(&p);
	work_done(&w);
	return r;
}
