#include "base/err.h"
#include "base/text.h"
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

/*
 * One order fits every role: the role itself is signed with old and new keys and
 * published first, valid under both lists; then its delegator names the new list;
 * then the old keys are put away. At no moment does a node meet a file it cannot
 * verify.
 */

static const char *passphrase_file, *output;
static struct cli_values replaced, added;
static uint64_t threshold;
static bool no_new;

struct rotation {
	struct publisher *p;
	const char *role;
	bool online;
	char folder[PATH_MAX]; /* of its key files */
	const struct json *role_now; /* {"keyids","threshold"} or control's {"keys","threshold"} */
	struct json *delegator; /* metadata */
	struct key_files files; /* all key files of the role, new ones included */
	struct key_files next; /* what the delegator will list */
	char retired[OFFLINE_KEYS_MAX][OFFLINE_NAME_MAX + 1];
	size_t retired_count;
};

static bool is_online(const char *role)
{
	return str_eq(role, "control") || (role_is_online(role) && !str_eq(role, "inventory"));
}

static size_t id_count(const struct rotation *t)
{
	const struct json *keys = json_get(t->role_now, "keys");

	return keys ? json_count(keys) : json_count(json_get(t->role_now, "keyids"));
}

static const char *id_at(const struct rotation *t, size_t i)
{
	const struct json *keys = json_get(t->role_now, "keys");

	return keys ? json_name_at(keys, i) : json_string(json_at(json_get(t->role_now, "keyids"), i));
}

static int find_role(struct rotation *t)
{
	const struct json *keys;
	int r = publisher_body(t->p, role_is_top(t->role) ? "root" : "targets", &t->delegator);

	if (r != CLI_OK)
		return r;
	t->role_now = str_eq(t->role, "control")
			      ? json_get(json_get(json_get(t->delegator, "signed"), "x-selfright"), "control")
			      : role_find(json_get(t->delegator, "signed"), t->role, &keys);
	if (!t->role_now)
		return cli_fail(t->p->cli, CLI_FAILED, "there is no role %s (selfright repo status lists them)",
				t->role);
	return CLI_OK;
}

/* Is this key among those that go? By name (root-1), by the start of its id, or all if none was named. */
static bool goes(const char *keyid, const char *name)
{
	for (size_t i = 0; i < replaced.count; i++)
		if (str_eq(replaced.items[i], name) ||
		    (strlen(replaced.items[i]) >= 8 && str_starts(keyid, replaced.items[i])))
			return true;
	return replaced.count == 0;
}

static const char *public_text(const struct rotation *t, const char *keyid)
{
	const struct json *keys = json_get(t->role_now, "keys");

	if (!keys)
		(void) role_find(json_get(t->delegator, "signed"), t->role,
				 &keys); /* for the keys beside the role */
	return json_string(json_get(json_get(json_get(keys, keyid), "keyval"), "public"));
}

/* Sort the present keys into those that stay and those that go; returns how many go. */
static int sort_keys(struct rotation *t, size_t *ret_going)
{
	*ret_going = 0;
	for (size_t i = 0; i < id_count(t); i++) {
		const char *keyid = id_at(t, i), *text = public_text(t, keyid);
		const struct key_file *f = key_files_find(&t->files, keyid);
		int r;

		if (goes(keyid, f ? f->name : "")) {
			(*ret_going)++;
			if (f)
				(void) snprintf(t->retired[t->retired_count++], sizeof(t->retired[0]), "%s",
						f->name);
			continue;
		}
		r = text ? key_files_add_public(&t->next, text) : -ERR_FIELD_MISSING;
		if (r < 0)
			return cli_fail_error(t->p->cli, r, "key %.12s of %s cannot be kept", keyid, t->role);
	}
	if (*ret_going < replaced.count)
		return cli_fail(t->p->cli, CLI_FAILED,
				"not all of these are keys of %s: selfright key show FILE prints ids", t->role);
	return CLI_OK;
}

static int make_new(struct rotation *t, size_t count)
{
	int r = CLI_OK;

	for (size_t i = 0; r == CLI_OK && i < count; i++) {
		char name[OFFLINE_NAME_MAX + 1];
		unsigned n;
		int e = key_files_next(&os_posix, t->folder, t->role, &n);

		if (e >= 0 && snprintf(name, sizeof(name), "%s-%u", t->role, n) >= (int) sizeof(name))
			e = -ENAMETOOLONG;
		if (e >= 0)
			e = key_files_create(&os_posix, t->folder, name,
					     t->online ? NULL : publisher_passphrase(t->p), &t->files);
		if (e >= 0)
			e = key_files_add_public(&t->next, t->files.items[t->files.count - 1].public_pem);
		if (e < 0)
			r = cli_fail_error(t->p->cli, e, "a new key of %s", t->role);
		else
			cli_say(t->p->cli, "made %s/%s.pem", t->folder, name);
	}
	return r;
}

static int add_given(struct rotation *t)
{
	for (size_t i = 0; i < added.count; i++) {
		CLEANUP(buf_done)
		struct buf pem = BUF_INIT(16 * 1024);
		int r = cli_read_file(t->p->cli, added.items[i], 16 * 1024, &pem);

		if (r != CLI_OK)
			return r;
		r = key_files_add_public(&t->next, buf_str(&pem));
		if (r < 0)
			return cli_fail_error(t->p->cli, r, "%s is no public P-256 key", added.items[i]);
	}
	return CLI_OK;
}

static int choose_keys(struct rotation *t)
{
	size_t going;
	char file[256];
	int r = key_files_load(&os_posix, t->folder, t->role, t->online ? NULL : publisher_passphrase(t->p),
			       &t->files, file);

	if (r < 0)
		return cli_fail_error(t->p->cli, r, "key %s", file);
	r = sort_keys(t, &going);
	if (r == CLI_OK)
		r = add_given(t);
	if (r == CLI_OK && !no_new && added.count == 0)
		r = make_new(t, going);
	if (r != CLI_OK)
		return r;
	if (threshold == 0 && json_need_u64(t->role_now, "threshold", 1, 1024, &threshold) < 0)
		threshold = 1;
	if (t->next.count == 0 || threshold > t->next.count)
		return cli_fail(t->p->cli, CLI_REFUSED,
				"%s would have %zu keys and a threshold of %llu: nodes could verify nothing; add "
				"keys, or lower it with --threshold",
				t->role, t->next.count, (unsigned long long) threshold);
	return CLI_OK;
}

/* The role signed by old and new keys, while the delegator still names the old. */
static int sign_by_both(struct rotation *t)
{
	CLEANUP(json_freep)
	struct json *metadata = NULL, *body = NULL;
	int r;

	if (str_eq(t->role, "root"))
		return CLI_OK;
	if (t->online) {
		r = publisher_own(t->p);
		if (r != CLI_OK)
			return r;
		r = signer_reload(t->p->signer);
		if (r < 0)
			return cli_fail(t->p->cli, CLI_FAILED, "%s", signer_error(t->p->signer));
		r = repo_renew(t->p->repo);
		return r < 0 ? cli_fail(t->p->cli, CLI_FAILED, "%s", repo_error(t->p->repo)) : CLI_OK;
	}
	r = publisher_body(t->p, t->role, &metadata);
	if (r != CLI_OK)
		return r;
	r = offline_renew(json_get(metadata, "signed"), os_posix.clock_real(&os_posix), &body);
	if (r < 0)
		return cli_fail_error(t->p->cli, r, "role %s", t->role);
	return publisher_sign_and_publish(t->p, t->role, body, &t->files, output);
}

static int sign_delegator(struct rotation *t)
{
	CLEANUP(json_freep)
	struct json *metadata = NULL, *body = NULL;
	const char *by = role_is_top(t->role) ? "root" : "targets";
	int r = publisher_body(t->p, by, &metadata);

	if (r != CLI_OK)
		return r;
	r = offline_set_keys(json_get(metadata, "signed"), t->role, &t->next, (unsigned) threshold,
			     os_posix.clock_real(&os_posix), &body);
	if (r < 0)
		return cli_fail_error(t->p->cli, r, "the keys of %s", t->role);
	return publisher_sign_and_publish(t->p, by, body, str_eq(t->role, "root") ? &t->files : NULL, output);
}

/* The old key files get another name, under which nothing loads them. */
static int retire(struct rotation *t)
{
	int r = 0, dirfd = dir_open(&os_posix, AT_FDCWD, t->folder);

	if (dirfd < 0)
		return cli_fail_error(t->p->cli, dirfd, "%s", t->folder);
	for (size_t i = 0; r >= 0 && i < t->retired_count; i++) {
		char from[OFFLINE_NAME_MAX + 16], to[OFFLINE_NAME_MAX + 32];

		(void) snprintf(from, sizeof(from), "%s.pem", t->retired[i]);
		(void) snprintf(to, sizeof(to), "retired-%s.pem", t->retired[i]);
		r = os_posix.renameat(&os_posix, dirfd, from, dirfd, to);
		if (r >= 0)
			cli_say(t->p->cli, "retired %s/%s (now %s)", t->folder, from, to);
	}
	if (r >= 0)
		r = dir_sync(&os_posix, dirfd, ".");
	(void) os_posix.close(&os_posix, dirfd); /* a folder */
	if (r < 0)
		return cli_fail_error(t->p->cli, r, "an old key in %s", t->folder);
	if (!t->online)
		return CLI_OK;
	r = signer_reload(t->p->signer);
	if (r < 0)
		return cli_fail(t->p->cli, CLI_FAILED, "%s", signer_error(t->p->signer));
	r = repo_renew(t->p->repo);
	return r < 0 ? cli_fail(t->p->cli, CLI_FAILED, "%s", repo_error(t->p->repo)) : CLI_OK;
}

static void report(const struct rotation *t)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(64 * 1024);
	struct json_node *list;

	node_string(json_build_root(b), "role", t->role);
	node_integer(json_build_root(b), "threshold", (int64_t) threshold);
	list = node_array(json_build_root(b), "keys");
	for (size_t i = 0; i < t->next.count; i++)
		node_string(list, NULL, t->next.items[i].keyid);
	if (t->p->cli->json && json_build_text(b, false, &text) >= 0)
		cli_print_json(buf_str(&text));
	cli_say(t->p->cli, "%s is signed by %llu of %zu keys now.", t->role, (unsigned long long) threshold,
		t->next.count);
}

static int rotate(struct publisher *p, const char *role)
{
	struct rotation *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return cli_fail(p->cli, CLI_FAILED, "out of memory");
	t->p = p;
	t->role = role;
	t->online = is_online(role);
	(void) snprintf(t->folder, sizeof(t->folder), "%s/%s", p->cli->dir, t->online ? "signer" : "keys");
	r = find_role(t);
	if (r == CLI_OK)
		r = choose_keys(t);
	if (r == CLI_OK)
		r = sign_by_both(t);
	if (r == CLI_OK)
		r = sign_delegator(t);
	if (r == CLI_OK)
		r = retire(t);
	if (r == CLI_OK)
		report(t);
	key_files_done(&t->files);
	key_files_done(&t->next);
	json_free(t->delegator);
	free(t);
	return r;
}

int cmd_repo_rotate(int argc, char **argv)
{
	static const struct cli_option options[] = {
		{ .name = "key",
		  .value = "NAME|ID",
		  .help = "replace only this one (root-1, or the start of its id); may be repeated",
		  .values = &replaced },
		{ .name = "add",
		  .value = "FILE",
		  .help = "a public key made elsewhere, instead of new ones made here; may be repeated",
		  .values = &added },
		{ .name = "no-new", .help = "revoke without replacement", .flag = &no_new },
		{ .name = "threshold",
		  .value = "N",
		  .help = "how many keys must sign from now on (as before)",
		  .number = &threshold },
		{ .name = "passphrase-file",
		  .value = "FILE",
		  .help = "opens and encrypts key files",
		  .text = &passphrase_file },
		{ .name = "output",
		  .value = "FILE",
		  .help = "where a signing request goes if keys are missing (-o)",
		  .text = &output },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "repo rotate ROLE [--key NAME|ID]... [--add FILE]... [--no-new] [--threshold N]",
		.summary = "replace or revoke keys of any role: root, targets, snapshot, timestamp, control, "
			   "rollouts, team-...",
		.details = "The role is signed with old and new keys first, then its delegator names the new "
			   "ones, then the old key\n"
			   "files are renamed to retired-*. A new root is signed by the thresholds of the old and "
			   "the new one.",
		.example = "selfright repo rotate timestamp --dir fleet",
		.options = options,
		.min_args = 1,
		.max_args = 1,
	};
	struct publisher p;
	struct cli c;
	int r = cli_parse(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	if (!guard_id(c.args[0]))
		return cli_fail(&c, CLI_USAGE, "'%s' is no role", c.args[0]);
	if (is_online(c.args[0]) && added.count > 0)
		return cli_fail(&c, CLI_USAGE,
				"the key of an online role is made here, by the signer's folder: no --add");
	r = publisher_open(&c, passphrase_file, &p);
	if (r == CLI_OK)
		r = rotate(&p, c.args[0]);
	publisher_close(&p);
	return r;
}
