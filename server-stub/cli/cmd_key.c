#include "server-stub/cli/cli.h"

#include "base/err.h"
#include "base/text.h"
#include "crypto/key.h"
#include "json/build.h"
#include "os/durable.h"
#include "os/os.h"
#include "server-stub/repo/offline.h"
#include "tuf/tuf.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_FILE_MAX = 16 * 1024 };

static const char *passphrase_file, *folder;

static const struct cli_option options[] = {
	{ .name = "keys",
	  .value = "DIR",
	  .help = "the folder of the key files (DIR/keys of the fleet, else here)",
	  .text = &folder },
	{ .name = "passphrase-file",
	  .value = "FILE",
	  .help = "encrypt with, or open with, its first line (or $SELFRIGHT_PASSPHRASE_FILE)",
	  .text = &passphrase_file },
	{ 0 },
};

static int read_passphrase(const struct cli *c, struct buf *ret)
{
	const char *path = passphrase_file ? passphrase_file : getenv("SELFRIGHT_PASSPHRASE_FILE");
	int r;

	if (!path || !*path)
		return CLI_OK;
	r = cli_read_file(c, path, 1024, ret);
	if (r != CLI_OK)
		return r;
	ret->len = strcspn(buf_str(ret), "\r\n");
	if (ret->len == 0)
		return cli_fail(c, CLI_FAILED, "%s holds no passphrase", path);
	ret->data[ret->len] = '\0';
	return CLI_OK;
}

static int key_folder(const struct cli *c, struct buf *ret)
{
	int r = folder	  ? buf_add_str(ret, folder)
		: *c->dir ? buf_addf(ret, "%s/keys", c->dir)
			  : buf_add_str(ret, ".");

	return r < 0 ? cli_fail_error(c, r, "the folder of the keys") : CLI_OK;
}

static int print_key(const struct cli *c, const char *name, const char *file, const char *public_pem)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf described = BUF_INIT(KEY_FILE_MAX), text = BUF_INIT(4 * KEY_FILE_MAX);
	char keyid[SHA256_HEX + 1];
	int r = tuf_key_describe(public_pem, &described, keyid);

	node_string(json_build_root(b), "name", name);
	node_string(json_build_root(b), "keyid", keyid);
	node_string(json_build_root(b), "file", file);
	node_string(json_build_root(b), "public", public_pem);
	if (r >= 0)
		r = json_build_text(b, false, &text);
	if (r < 0)
		return cli_fail_error(c, r, "%s", file);
	if (c->json)
		cli_print_json(buf_str(&text));
	cli_say(c, "%s  %s\n%s", name, keyid, public_pem);
	return CLI_OK;
}

static int create(int argc, char **argv)
{
	static const struct cli_command command = {
		.usage = "key create NAME [--passphrase-file FILE] [--keys DIR]",
		.summary = "make a P-256 key: NAME.pem (secret, 0600) and NAME.pub",
		.details = "Keys of a role are named <role>-<number>: root-4, team-web-2. A key file is never "
			   "overwritten.",
		.example = "selfright key create root-4 --keys /media/stick --passphrase-file phrase.txt",
		.options = options,
		.min_args = 1,
		.max_args = 1,
	};
	CLEANUP(buf_done)
	struct buf passphrase = BUF_INIT(1024), path = BUF_INIT(PATH_MAX), file = BUF_INIT(PATH_MAX);
	CLEANUP(key_files_done)
	struct key_files keys = { .count = 0 };
	struct cli c;
	int r = cli_parse(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	r = read_passphrase(&c, &passphrase);
	if (r == CLI_OK)
		r = key_folder(&c, &path);
	if (r != CLI_OK)
		return r;
	r = key_files_create(&os_posix, buf_str(&path), c.args[0],
			     passphrase.len > 0 ? buf_str(&passphrase) : NULL, &keys);
	if (passphrase.data)
		explicit_bzero(passphrase.data, passphrase.len);
	if (r == -EEXIST)
		return cli_fail(&c, CLI_REFUSED, "%s/%s.pem is there already; a key is never overwritten",
				buf_str(&path), c.args[0]);
	if (r == -ERR_NAME)
		return cli_fail(&c, CLI_USAGE, "a key's name is [a-z0-9][a-z0-9-]*, as root-4 or team-web-2");
	if (r >= 0)
		r = buf_addf(&file, "%s/%s.pem", buf_str(&path), c.args[0]);
	if (r < 0)
		return cli_fail_error(&c, r, "%s/%s.pem cannot be made", buf_str(&path), c.args[0]);
	return print_key(&c, c.args[0], buf_str(&file), keys.items[0].public_pem);
}

/* The public PEM of a file that holds a private or a public key. */
static int public_of(const struct cli *c, const char *path, struct buf *ret)
{
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(KEY_FILE_MAX), passphrase = BUF_INIT(1024);
	CLEANUP(private_key_freep)
	struct private_key *key = NULL;
	int r = cli_read_file(c, path, KEY_FILE_MAX, &pem);

	if (r == CLI_OK && strstr(buf_str(&pem), "BEGIN PUBLIC KEY")) {
		r = buf_add_str(ret, buf_str(&pem));
		return r < 0 ? cli_fail_error(c, r, "%s", path) : CLI_OK;
	}
	if (r == CLI_OK)
		r = read_passphrase(c, &passphrase);
	if (r != CLI_OK)
		return r;
	r = private_key_load(pem.data, pem.len, passphrase.len > 0 ? buf_str(&passphrase) : NULL, &key);
	explicit_bzero(pem.data, pem.len);
	if (passphrase.data)
		explicit_bzero(passphrase.data, passphrase.len);
	if (r == -ERR_PASSPHRASE)
		return cli_fail(c, CLI_FAILED,
				"%s is encrypted, and this passphrase does not open it: --passphrase-file FILE "
				"(its .pub file needs none)",
				path);
	if (r >= 0)
		r = private_key_public_pem(key, ret);
	return r < 0 ? cli_fail_error(c, r, "%s", path) : CLI_OK;
}

static int show(int argc, char **argv)
{
	static const struct cli_command command = {
		.usage = "key show FILE|NAME [--passphrase-file FILE] [--keys DIR]",
		.summary = "the key id and the public part of a key file",
		.example = "selfright key show fleet/keys/root-1.pub",
		.options = options,
		.min_args = 1,
		.max_args = 1,
	};
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(PATH_MAX), public = BUF_INIT(KEY_FILE_MAX);
	const char *slash, *name;
	struct cli c;
	int r = cli_parse(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	r = CLI_OK;
	if (!strchr(c.args[0], '/') && !strchr(c.args[0], '.')) {
		r = key_folder(&c, &path);
		if (r == CLI_OK && buf_addf(&path, "/%s.pub", c.args[0]) < 0)
			r = cli_fail(&c, CLI_FAILED, "the name is too long");
	} else if (buf_add_str(&path, c.args[0]) < 0) {
		r = cli_fail(&c, CLI_FAILED, "the name is too long");
	}
	if (r == CLI_OK)
		r = public_of(&c, buf_str(&path), &public);
	if (r != CLI_OK)
		return r;
	slash = strrchr(buf_str(&path), '/');
	name = slash ? slash + 1 : buf_str(&path);
	return print_key(&c, name, buf_str(&path), buf_str(&public));
}

int cmd_key(int argc, char **argv)
{
	static const struct cli_sub subs[] = {
		{ "create", "make a key", create },
		{ "show", "the key id and public part of a key file", show },
		{ 0 },
	};

	return cli_dispatch("key", "Key files of the offline roles: P-256, encrypted if you give a passphrase.",
			    subs, argc, argv);
}
