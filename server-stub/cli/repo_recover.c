#include "base/err.h"
#include "base/text.h"
#include "base/timestamp.h"
#include "json/build.h"
#include "json/json.h"
#include "os/durable.h"
#include "os/os.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/cmd_repo.h"
#include "server-stub/cli/publisher.h"
#include "server-stub/repo/repo.h"
#include "server-stub/repo/role_file.h"
#include "server-stub/signer/client.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct cli_values from, at_least;

enum { ROLES_MOST = 256 };

/* Offline roles found in --from that are newer than what is published. */
struct found {
	struct role_file *files[ROLES_MOST];
	size_t count;
};

/* "snapshot.json", "12.snapshot.json" -> "snapshot"; false for anything else. */
static bool role_of_file(const char *file, char role[static ID_MAX + 1])
{
	size_t digits = strspn(file, "0123456789"), len;

	if (digits > 0 && file[digits] == '.')
		file += digits + 1;
	len = strlen(file);
	if (len <= 5 || len - 5 > ID_MAX || !str_eq(file + len - 5, ".json"))
		return false;
	memcpy(role, file, len - 5);
	role[len - 5] = '\0';
	return guard_id(role);
}

static int read_file(const struct cli *c, const char *folder, const char *file, const char *role,
		     struct json_node *online, struct found *found)
{
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(PATH_MAX), text = BUF_INIT(ROLE_FILE_MAX);
	CLEANUP(role_file_freep)
	struct role_file *f = NULL;
	int r = buf_addf(&path, "%s/%s", folder, file);

	if (r < 0)
		return cli_fail_error(c, r, "%s", folder);
	r = cli_read_file(c, buf_str(&path), ROLE_FILE_MAX, &text);
	if (r != CLI_OK)
		return r;
	if (role_is_online(role))
		node_string(online, file, buf_str(&text));
	r = role_file_parse(role, text.data, text.len, &f);
	if (r < 0) {
		cli_say(c, "%s is no metadata (%s): left out", buf_str(&path), err_text(r));
		return CLI_OK;
	}
	if (!role_is_online(role) && found->count < ROLES_MOST) {
		found->files[found->count++] = f;
		f = NULL;
	}
	return CLI_OK;
}

static int read_folder(const struct cli *c, const char *folder, struct json_node *online, struct found *found)
{
	CLEANUP(name_list_done)
	struct name_list names = { 0 };
	char role[ID_MAX + 1];
	int r = dir_list(&os_posix, AT_FDCWD, folder, &names);

	if (r < 0)
		return cli_fail_error(c, r, "%s", folder);
	r = CLI_OK;
	for (size_t i = 0; r == CLI_OK && i < names.count; i++)
		if (role_of_file(names.names[i], role))
			r = read_file(c, folder, names.names[i], role, online, found);
	return r;
}

/* "timestamp=1790000000" */
static int read_at_least(const struct cli *c, struct json_node *o)
{
	for (size_t i = 0; i < at_least.count; i++) {
		const char *equals = strchr(at_least.items[i], '=');
		char role[ID_MAX + 1];
		uint64_t n;

		if (!equals || equals - at_least.items[i] > ID_MAX || parse_u64(equals + 1, &n) < 0 ||
		    n > INT64_MAX >> 10)
			return cli_fail(c, CLI_USAGE, "'%s' is not ROLE=VERSION", at_least.items[i]);
		(void) snprintf(role, sizeof(role), "%.*s", (int) (equals - at_least.items[i]), at_least.items[i]);
		node_integer(o, role, (int64_t) n);
	}
	return CLI_OK;
}

struct version {
	const char *role;
	uint64_t version;
};

static void note_version(void *user, const struct repo_role_info *info)
{
	struct version *v = user;

	if (str_eq(info->name, v->role))
		v->version = info->version;
}

/* What is newer than published goes in with one publication, so that nothing that a newer snapshot listed is missing. */
static int publish_found(struct publisher *p, const struct found *found)
{
	struct repo_role roles[ROLES_MOST];
	size_t count = 0;
	int r;

	for (size_t i = 0; i < found->count; i++) {
		struct version v = { found->files[i]->name, 0 };

		repo_each_role(p->repo, note_version, &v);
		if (found->files[i]->version > v.version)
			roles[count++] = (struct repo_role){ found->files[i]->name, found->files[i]->bytes.data,
							     found->files[i]->bytes.len };
	}
	if (count == 0)
		return CLI_OK;
	r = repo_publish_roles(p->repo, roles, count);
	if (r >= 0) {
		cli_say(p->cli, "took %zu newer roles from there", count);
		return CLI_OK;
	}
	cli_say(p->cli, "The newer roles cannot be published as they are (%s).", repo_error(p->repo));
	for (size_t i = 0; i < count; i++)
		cli_say(p->cli, "  %s must be signed again with a version above the one found there",
			roles[i].name);
	return CLI_OK;
}

/* The server brings every rollout back paused when it finds this file. */
static int leave_flag(struct publisher *p, uint64_t counter)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(4096), path = BUF_INIT(PATH_MAX);
	char now[TIMESTAMP_LEN + 1];
	int r;

	timestamp_format(now, os_posix.clock_real(&os_posix));
	node_integer(json_build_root(b), "format", 1);
	node_string(json_build_root(b), "at", now);
	node_integer(json_build_root(b), "counter", (int64_t) counter);
	r = json_build_text(b, false, &text);
	if (r >= 0)
		r = buf_addf(&path, "%s/serve/recovered", p->cli->dir);
	if (r >= 0)
		r = durable_write_file(&os_posix, AT_FDCWD, buf_str(&path), text.data, text.len, 0600);
	return r < 0 ? cli_fail_error(p->cli, r, "%s", buf_str(&path)) : CLI_OK;
}

static int print_answer(const struct cli *c, const struct json *answer)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(1024 * 1024);
	const struct json *adopted = json_get(answer, "adopted"), *ignored = json_get(answer, "ignored");

	node_copy(json_build_root(b), "adopted", adopted);
	node_copy(json_build_root(b), "ignored", ignored);
	node_copy(json_build_root(b), "counter", json_get(answer, "counter"));
	if (c->json && json_build_text(b, false, &text) >= 0)
		cli_print_json(buf_str(&text));
	for (size_t i = 0; i < json_count(adopted); i++) {
		int64_t was = 0, is = 0;

		(void) json_integer(json_get(json_at(adopted, i), "from"), &was); /* only shown */
		(void) json_integer(json_get(json_at(adopted, i), "to"), &is); /* the same */
		cli_say(c, "  %s: version %lld -> %lld", json_name_at(adopted, i), (long long) was,
			(long long) is);
	}
	for (size_t i = 0; i < json_count(ignored); i++)
		cli_say(c, "  %s: left out, %s", json_name_at(ignored, i),
			json_string(json_at(ignored, i)) ? json_string(json_at(ignored, i)) : "?");
	return CLI_OK;
}

static int recover(struct publisher *p, const struct json *files, const struct json *floors,
		   const struct found *found)
{
	CLEANUP(json_freep)
	struct json *answer = NULL;
	uint64_t counter = 0;
	int r = publisher_own(p);

	if (r != CLI_OK)
		return r;
	/* First the flag: a server that sees the new metadata must know that it was a recovery. */
	r = leave_flag(p, 0);
	if (r != CLI_OK)
		return r;
	r = signer_recover(p->signer, files, floors, &answer);
	if (r < 0)
		return cli_fail(p->cli, CLI_FAILED, "%s", signer_error(p->signer));
	r = json_need_u64(answer, "counter", 0, UINT64_MAX >> 11, &counter);
	if (r >= 0)
		r = leave_flag(p, counter);
	if (r != CLI_OK)
		return r < 0 ? cli_fail_error(p->cli, r, "the signer's answer") : r;
	cli_say(p->cli, "The signer goes on above what was found:");
	r = print_answer(p->cli, answer);
	if (r == CLI_OK)
		r = publish_found(p, found);
	if (r != CLI_OK)
		return r;
	r = repo_renew(p->repo);
	if (r < 0)
		return cli_fail(p->cli, CLI_REFUSED,
				"%s; nodes have seen that version, so its keys must sign a higher one before "
				"anything can be published",
				repo_error(p->repo));
	cli_say(p->cli, "All online roles are signed anew. Rollouts come back paused: look at each before it is "
			"resumed (selfright rollout list).");
	return CLI_OK;
}

static int to_json(const struct cli *c, struct json_build *b, struct json **ret)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(4 * ROLE_FILE_MAX);
	const struct json_limits limits = { .max_bytes = 4 * ROLE_FILE_MAX,
					    .max_depth = 32,
					    .max_values = 1000000 };
	int r = json_build_text(b, false, &text);

	if (r >= 0)
		r = json_parse(text.data, text.len, &limits, ret);
	return r < 0 ? cli_fail_error(c, r, "the files found") : CLI_OK;
}

int cmd_repo_recover(int argc, char **argv)
{
	static const struct cli_option options[] = {
		{ .name = "from",
		  .value = "DIR",
		  .help = "metadata that a node or the broker holds (selfright-agent trust export); may be "
			  "repeated",
		  .values = &from },
		{ .name = "at-least",
		  .value = "ROLE=VERSION",
		  .help = "start an online role above this version; may be repeated",
		  .values = &at_least },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "repo recover [--from DIR]... [--at-least ROLE=VERSION]...",
		.summary = "go on after a restored backup: adopt the newest versions known, sign all online roles "
			   "anew",
		.details = "The signer signs nothing when what is published, or what a node proved, is newer than "
			   "its own memory, or\n"
			   "when it was away for longer than a timestamp lives. This lifts its versions above "
			   "everything found with its\n"
			   "own signatures, raises the lock's counter, and marks the recovery, so that rollouts "
			   "come back paused.",
		.example = "selfright repo recover --from exported-trust --dir fleet",
		.options = options,
		.max_args = 0,
	};
	CLEANUP(json_build_freep)
	struct json_build *files = json_build_new();
	CLEANUP(json_build_freep)
	struct json_build *floors = json_build_new();
	CLEANUP(json_freep)
	struct json *files_json = NULL;
	CLEANUP(json_freep)
	struct json *floors_json = NULL;
	struct found found = { .count = 0 };
	struct publisher p = { .cli = NULL };
	struct cli c;
	int r = cli_parse(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	r = read_at_least(&c, json_build_root(floors));
	for (size_t i = 0; r == CLI_OK && i < from.count; i++)
		r = read_folder(&c, from.items[i], json_build_root(files), &found);
	if (r == CLI_OK)
		r = to_json(&c, files, &files_json);
	if (r == CLI_OK)
		r = to_json(&c, floors, &floors_json);
	if (r == CLI_OK)
		r = publisher_open(&c, NULL, &p);
	if (r == CLI_OK)
		r = recover(&p, files_json, floors_json, &found);
	publisher_close(&p);
	for (size_t i = 0; i < found.count; i++)
		role_file_free(found.files[i]);
	return r;
}
