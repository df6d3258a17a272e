#include "base/err.h"
#include "base/text.h"
#include "crypto/certificate.h"
#include "crypto/key.h"
#include "json/build.h"
#include "json/json.h"
#include "model/rollout.h"
#include "os/durable.h"
#include "os/os.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/cmd_repo.h"
#include "server-stub/cli/publisher.h"
#include "server-stub/repo/repo.h"
#include "server-stub/repo/role_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS_MOST = 16, CA_LIFE = 10 * 365 * 86400 };

static const char *fleet, *passphrase_file;
static uint64_t root_keys = 3, root_threshold = 2, targets_keys = 2, targets_threshold = 1;
static bool online_inventory;

/* Keys made for the fleet, by what they are for. */
enum {
	KEYS_ROOT,
	KEYS_TARGETS,
	KEYS_INVENTORY,
	KEYS_ROLLOUTS,
	KEYS_SUPPORT,
	KEYS_SNAPSHOT,
	KEYS_TIMESTAMP,
	KEYS_CONTROL,
	KEYS_COUNT
};

static const char *const key_names[KEYS_COUNT] = { "root",    "targets",  "inventory", "rollouts",
						   "support", "snapshot", "timestamp", "control" };

struct init {
	const struct cli *cli;
	const char *dir;
	struct buf passphrase;
	struct key_files keys[KEYS_COUNT];
};

static int make_folders(struct init *in)
{
	static const struct {
		const char *name;
		mode_t mode;
	} folders[] = { { "keys", 0700 }, { "signer", 0700 },	     { "serve", 0700 },
			{ "repo", 0755 }, { "repo/metadata", 0755 }, { "repo/targets", 0755 } };
	int dirfd, r = os_posix.mkdirat(&os_posix, AT_FDCWD, in->dir, 0755);

	if (r < 0 && r != -EEXIST)
		return cli_fail_error(in->cli, r, "%s cannot be made", in->dir);
	dirfd = dir_open(&os_posix, AT_FDCWD, in->dir);
	if (dirfd < 0)
		return cli_fail_error(in->cli, dirfd, "%s", in->dir);
	r = 0;
	for (size_t i = 0; r >= 0 && i < ARRAY_LEN(folders); i++)
		r = durable_mkdir(&os_posix, dirfd, folders[i].name, folders[i].mode);
	(void) os_posix.close(&os_posix, dirfd); /* a folder */
	return r < 0 ? cli_fail_error(in->cli, r, "the folders below %s", in->dir) : CLI_OK;
}

static int make_keys(struct init *in, int which, uint64_t count, bool online)
{
	CLEANUP(buf_done)
	struct buf folder = BUF_INIT(PATH_MAX);
	const char *passphrase = !online && in->passphrase.len > 0 ? buf_str(&in->passphrase) : NULL;
	int r = buf_addf(&folder, "%s/%s", in->dir, online ? "signer" : "keys");

	for (uint64_t i = 1; r >= 0 && i <= count; i++) {
		char name[64];

		(void) snprintf(name, sizeof(name), "%s-%llu", key_names[which], (unsigned long long) i);
		r = key_files_create(&os_posix, buf_str(&folder), name, passphrase, &in->keys[which]);
	}
	return r < 0 ? cli_fail_error(in->cli, r, "the keys of %s", key_names[which]) : CLI_OK;
}

static int make_all_keys(struct init *in)
{
	int r = make_keys(in, KEYS_ROOT, root_keys, false);

	if (r == CLI_OK)
		r = make_keys(in, KEYS_TARGETS, targets_keys, false);
	if (r == CLI_OK)
		r = make_keys(in, KEYS_INVENTORY, 1, online_inventory);
	for (int i = KEYS_ROLLOUTS; r == CLI_OK && i < KEYS_COUNT; i++)
		r = make_keys(in, i, 1, true);
	return r;
}

static int write_below(struct init *in, const char *file, const struct buf *data, mode_t mode)
{
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(PATH_MAX);
	int r = buf_addf(&path, "%s/%s", in->dir, file);

	if (r >= 0)
		r = durable_write_file(&os_posix, AT_FDCWD, buf_str(&path), data->data, strlen(buf_str(data)),
				       mode);
	return r < 0 ? cli_fail_error(in->cli, r, "%s", buf_str(&path)) : CLI_OK;
}

static int make_ca(struct init *in)
{
	CLEANUP(private_key_freep)
	struct private_key *key = NULL;
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(16 * 1024), public = BUF_INIT(16 * 1024), certificate = BUF_INIT(16 * 1024);
	int64_t now = os_posix.clock_real(&os_posix);
	char name[ID_MAX + 32];
	struct certificate_request request = {
		.common_name = name, .is_ca = true, .not_before = now - 86400, .not_after = now + CA_LIFE
	};
	int r;

	(void) snprintf(name, sizeof(name), "%.40s selfright CA", fleet); /* X.509 takes 64 */
	r = private_key_generate(&key);
	if (r >= 0)
		r = private_key_public_pem(key, &public);
	request.public_pem = buf_str(&public);
	if (r >= 0)
		r = certificate_issue(&request, key, NULL, &certificate);
	if (r >= 0)
		r = private_key_save(key, NULL, &pem);
	if (r < 0)
		return cli_fail_error(in->cli, r, "the CA");
	r = write_below(in, "signer/ca.key", &pem, 0600);
	explicit_bzero(pem.data, pem.len);
	return r == CLI_OK ? write_below(in, "signer/ca.crt", &certificate, 0644) : r;
}

static int make_fleet_file(struct init *in)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(4096);
	int r;

	node_integer(json_build_root(b), "format", 1);
	node_string(json_build_root(b), "fleet", fleet);
	r = json_build_text(b, true, &text);
	return r < 0 ? cli_fail_error(in->cli, r, "fleet.json") : write_below(in, "fleet.json", &text, 0644);
}

/* The three bodies that offline keys sign, signed. */
static int first_metadata(struct init *in, struct buf *root, struct buf *targets, struct buf *inventory)
{
	static const char *const rollouts_path[] = { "rollouts/*" }, *const support_path[] = { "nodes/*" };
	static const char *const inventory_path[] = { "inventory/*" };
	const struct offline_role top[4] = {
		{ .name = "root", .keys = &in->keys[KEYS_ROOT], .threshold = (unsigned) root_threshold },
		{ .name = "targets", .keys = &in->keys[KEYS_TARGETS], .threshold = (unsigned) targets_threshold },
		{ .name = "snapshot", .keys = &in->keys[KEYS_SNAPSHOT], .threshold = 1 },
		{ .name = "timestamp", .keys = &in->keys[KEYS_TIMESTAMP], .threshold = 1 },
	};
	const struct offline_role delegated[] = {
		{ .name = "rollouts",
		  .keys = &in->keys[KEYS_ROLLOUTS],
		  .threshold = 1,
		  .paths = rollouts_path,
		  .path_count = 1 },
		{ .name = "support",
		  .keys = &in->keys[KEYS_SUPPORT],
		  .threshold = 1,
		  .paths = support_path,
		  .path_count = 1 },
		{ .name = "inventory",
		  .keys = &in->keys[KEYS_INVENTORY],
		  .threshold = 1,
		  .paths = inventory_path,
		  .path_count = 1 },
	};
	CLEANUP(json_freep)
	struct json *root_body = NULL;
	CLEANUP(json_freep)
	struct json *targets_body = NULL;
	CLEANUP(json_freep)
	struct json *inventory_body = NULL;
	int64_t now = os_posix.clock_real(&os_posix);
	int r = offline_first_root(top, now, &root_body);

	if (r >= 0)
		r = offline_first_targets(delegated, ARRAY_LEN(delegated), &in->keys[KEYS_CONTROL], now,
					  &targets_body);
	if (r >= 0)
		r = offline_first_listing(now, &inventory_body);
	if (r >= 0)
		r = offline_sign(root_body, &in->keys[KEYS_ROOT], NULL, root);
	if (r >= 0)
		r = offline_sign(targets_body, &in->keys[KEYS_TARGETS], NULL, targets);
	if (r >= 0 && !online_inventory)
		r = offline_sign(inventory_body, &in->keys[KEYS_INVENTORY], NULL, inventory);
	return r < 0 ? cli_fail_error(in->cli, r, "the first metadata") : CLI_OK;
}

static int first_documents(struct repo *repo)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf index = BUF_INIT(4096);
	const struct rollout_index none = { .entry_count = 0 };
	struct repo_document document = { .path = "rollouts/index.json" };
	int r;

	index_write(&none, json_build_root(b));
	r = json_build_text(b, false, &index);
	document.data = index.data;
	document.len = index.len;
	if (r >= 0)
		r = repo_update_online(repo, "rollouts", &document, 1, NULL, 0);
	if (r >= 0)
		r = repo_update_online(repo, "support", NULL, 0, NULL, 0);
	if (r >= 0 && online_inventory)
		r = repo_update_online(repo, "inventory", NULL, 0, NULL, 0);
	return r;
}

static int publish_first(struct init *in)
{
	CLEANUP(buf_done)
	struct buf root = BUF_INIT(ROLE_FILE_MAX), targets = BUF_INIT(ROLE_FILE_MAX),
		   inventory = BUF_INIT(ROLE_FILE_MAX);
	struct cli there = *in->cli;
	struct publisher p;
	int r = first_metadata(in, &root, &targets, &inventory);

	if (r != CLI_OK)
		return r;
	there.dir = in->dir;
	r = publisher_open(&there, NULL, &p);
	if (r == CLI_OK)
		r = publisher_own(&p);
	if (r == CLI_OK) {
		const struct repo_role roles[] = { { "root", root.data, root.len },
						   { "targets", targets.data, targets.len },
						   { "inventory", inventory.data, inventory.len } };

		r = repo_publish_roles(p.repo, roles, online_inventory ? 2 : 3);
		if (r >= 0)
			r = first_documents(p.repo);
		if (r < 0)
			r = cli_fail(in->cli, CLI_FAILED, "%s", repo_error(p.repo));
	}
	publisher_close(&p);
	return r;
}

static int run(struct init *in)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf answer = BUF_INIT(8192);
	int r = make_folders(in);

	if (r != CLI_OK)
		return r;
	r = make_all_keys(in);
	if (r == CLI_OK)
		r = make_ca(in);
	if (r == CLI_OK)
		r = make_fleet_file(in);
	if (r == CLI_OK)
		r = publish_first(in);
	if (r != CLI_OK)
		return cli_fail(in->cli, r, "%s is unfinished: remove it and try again", in->dir);
	node_string(json_build_root(b), "fleet", fleet);
	node_string(json_build_root(b), "dir", in->dir);
	if (in->cli->json && json_build_text(b, false, &answer) >= 0)
		cli_print_json(buf_str(&answer));
	cli_say(in->cli, "The fleet %s is in %s.", fleet, in->dir);
	cli_say(in->cli,
		"  %s/keys    offline keys: move root-*.pem apart, each to another safe place; back them up",
		in->dir);
	cli_say(in->cli, "  %s/signer  online keys, held by selfright-signer", in->dir);
	cli_say(in->cli, "  %s/repo    what nodes read", in->dir);
	cli_say(in->cli,
		"Next: selfright component init web              make web/component.yaml and web/tree\n"
		"      selfright component add web --team web --dir %s\n"
		"      selfright publish web --version 1.0.0 --dir %s\n"
		"      selfright serve --dir %s   and then: node add, rollout start",
		in->dir, in->dir, in->dir);
	return CLI_OK;
}

static int read_phrase(struct init *in)
{
	const char *path = passphrase_file ? passphrase_file : getenv("SELFRIGHT_PASSPHRASE_FILE");
	int r;

	if (!path || !*path)
		return CLI_OK;
	r = cli_read_file(in->cli, path, 1024, &in->passphrase);
	if (r != CLI_OK)
		return r;
	in->passphrase.len = strcspn(buf_str(&in->passphrase), "\r\n");
	if (in->passphrase.len == 0)
		return cli_fail(in->cli, CLI_FAILED, "%s holds no passphrase", path);
	in->passphrase.data[in->passphrase.len] = '\0';
	return CLI_OK;
}

static bool is_fleet(const char *dir)
{
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(PATH_MAX), text = BUF_INIT(1024 * 1024);

	return buf_addf(&path, "%s/keys/root-1.pem", dir) < 0 ||
	       file_read(&os_posix, AT_FDCWD, buf_str(&path), 1024 * 1024, &text) != -ENOENT;
}

int cmd_repo_init(int argc, char **argv)
{
	static const struct cli_option options[] = {
		{ .name = "fleet",
		  .value = "NAME",
		  .help = "the fleet's name, [a-z0-9][a-z0-9-]*",
		  .text = &fleet },
		{ .name = "root-keys", .value = "N", .help = "root keys to make (3)", .number = &root_keys },
		{ .name = "root-threshold",
		  .value = "N",
		  .help = "how many of them sign a root (2)",
		  .number = &root_threshold },
		{ .name = "targets-keys", .value = "N", .help = "keys of targets (2)", .number = &targets_keys },
		{ .name = "targets-threshold",
		  .value = "N",
		  .help = "how many of them sign (1)",
		  .number = &targets_threshold },
		{ .name = "online-inventory",
		  .help = "the signer keeps the inventory's key",
		  .flag = &online_inventory },
		{ .name = "passphrase-file",
		  .value = "FILE",
		  .help = "encrypt the offline keys with its first line",
		  .text = &passphrase_file },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "repo init DIR --fleet NAME [--passphrase-file FILE]",
		.summary = "make a fleet's folder: offline keys, online keys, a CA, and the first signed metadata",
		.example = "selfright repo init fleet --fleet demo",
		.options = options,
		.min_args = 0,
		.max_args = 1,
	};
	struct init in = { .passphrase = BUF_INIT(1024) };
	struct cli c;
	int r = cli_parse(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	in.cli = &c;
	in.dir = c.arg_count == 1 ? c.args[0] : c.dir;
	if (!*in.dir)
		return cli_fail(&c, CLI_USAGE, "which folder? selfright repo init DIR --fleet NAME");
	if (!fleet || !guard_id(fleet))
		return cli_fail(&c, CLI_USAGE,
				"the fleet needs a name: --fleet NAME, [a-z0-9][a-z0-9-]*, at most %d", ID_MAX);
	if (root_keys < 1 || root_keys > KEYS_MOST || root_threshold < 1 || root_threshold > root_keys ||
	    targets_keys < 1 || targets_keys > KEYS_MOST || targets_threshold < 1 ||
	    targets_threshold > targets_keys)
		return cli_fail(&c, CLI_USAGE, "1 to %d keys, and thresholds from 1 to their number", KEYS_MOST);
	if (is_fleet(in.dir))
		return cli_fail(&c, CLI_REFUSED, "%s holds a fleet already; nothing was changed", in.dir);
	r = read_phrase(&in);
	if (r == CLI_OK)
		r = run(&in);
	if (in.passphrase.data)
		explicit_bzero(in.passphrase.data, in.passphrase.len);
	buf_done(&in.passphrase);
	for (size_t i = 0; i < KEYS_COUNT; i++)
		key_files_done(&in.keys[i]);
	return r;
}
