#include "agent/trust.h"

#include "agent/local/config.h"
#include "agent/local/control.h"
#include "agent/phase/node.h"
#include "base/err.h"
#include "base/log.h"
#include "base/timestamp.h"
#include "conf/conf.h"
#include "crypto/digest.h"
#include "json/build.h"
#include "json/json.h"
#include "os/durable.h"
#include "tuf/tuf.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX = 8 * 1024 * 1024, CALL_MS = 30 * 1000 };

struct ask {
	const char *config_dir, *sha256;
	bool json;
	struct config config;
	int fd; /* the trust folder */
};

static int complain(const struct ask *a, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
static int complain(const struct ask *a, int code, const char *fmt, ...)
{
	char sentence[1024];
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(sentence, sizeof(sentence), fmt, ap); /* a longer one is cut */
	va_end(ap);
	if (a->json) {
		CLEANUP(buf_done)
		struct buf text = BUF_INIT(8192);

		control_refuse(&text, code, "%s", sentence);
		puts(buf_str(&text));
	} else {
		fprintf(stderr, "selfright-agent: %s\n", sentence);
	}
	return code;
}

/* --- what a root says of itself; the bytes are verified by the client --- */

static void describe_root(const void *bytes, size_t len, struct json_node *o)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const struct json *body, *ids;
	struct json_node *keyids;
	char hex[SHA256_HEX + 1];
	int64_t version = 0;

	if (json_parse(bytes, len, &json_limits_default, &doc) < 0 || sha256_hex(bytes, len, hex) < 0)
		return;
	body = json_get(doc, "signed");
	(void) json_integer(json_get(body, "version"), &version); /* only shown */
	node_integer(o, "version", version);
	node_string(o, "sha256", hex);
	node_string(o, "expires", json_string(json_get(body, "expires")));
	ids = json_get(json_get(json_get(body, "roles"), "root"), "keyids");
	keyids = node_array(o, "keyids");
	for (size_t i = 0; i < json_count(ids); i++)
		node_string(keyids, NULL, json_string(json_at(ids, i)));
}

/* --- show, export --- */

static bool is_metadata(const char *name)
{
	size_t len = strlen(name);

	return len > 5 && str_eq(name + len - 5, ".json") && name[0] != '.';
}

static void show_file(const char *name, const struct buf *bytes, struct json_node *list)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct json_node *o = node_object(list, NULL);
	const struct json *body;
	char hex[SHA256_HEX + 1];
	int64_t version = 0;

	node_string(o, "file", name);
	if (sha256_hex(bytes->data, bytes->len, hex) == 0)
		node_string(o, "sha256", hex);
	if (json_parse(bytes->data, bytes->len, &json_limits_default, &doc) < 0)
		return;
	body = json_get(doc, "signed");
	if (json_integer(json_get(body, "version"), &version))
		node_integer(o, "version", version);
	node_string(o, "expires", json_string(json_get(body, "expires")));
	node_string(o, "issued", json_string(json_get(body, "x-issued")));
}

static int print(const struct ask *a, struct json_build *b)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(FILE_MAX);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const struct json *files;

	if (json_build_text(b, true, &text) < 0 || json_parse(text.data, text.len, &json_limits_default, &doc) < 0)
		return complain(a, CONTROL_ERROR, "the answer could not be composed");
	if (a->json) {
		puts(buf_str(&text));
		return CONTROL_OK;
	}
	files = json_get(doc, "files");
	for (size_t i = 0; i < json_count(files); i++) {
		const struct json *f = json_at(files, i);
		const char *expires = json_string(json_get(f, "expires")),
			   *hex = json_string(json_get(f, "sha256"));
		int64_t version = 0;

		(void) json_integer(json_get(f, "version"), &version); /* only shown */
		printf("%-24s version %-12" PRId64 " until %s  sha256 %s\n", json_string(json_get(f, "file")),
		       version, expires ? expires : "?", hex ? hex : "?");
	}
	return CONTROL_OK;
}

/* Each file was written by one rename: read one by one they are whole, whatever the agent does meanwhile. */
static int each_file(const struct ask *a, int to, struct json_node *list)
{
	CLEANUP(name_list_done)
	struct name_list names = { 0 };
	int r = dir_list(&os_posix, a->fd, ".", &names);

	for (size_t i = 0; r >= 0 && i < names.count; i++) {
		CLEANUP(buf_done)
		struct buf bytes = BUF_INIT(FILE_MAX);

		if (!is_metadata(names.names[i]))
			continue;
		r = file_read(&os_posix, a->fd, names.names[i], FILE_MAX, &bytes);
		if (r < 0)
			break;
		show_file(names.names[i], &bytes, list);
		if (to >= 0)
			r = durable_write_file(&os_posix, to, names.names[i], bytes.data, bytes.len, 0644);
	}
	return r;
}

static int show(struct ask *a, const char *none)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	int r;

	(void) none;
	node_bool(json_build_root(b), "ok", true);
	r = each_file(a, -1, node_array(json_build_root(b), "files"));
	return r < 0 ? complain(a, CONTROL_ERROR, "%s/trust: %s", a->config.root, err_text(r)) : print(a, b);
}

static int export(struct ask *a, const char *folder)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	int to, r = os_posix.mkdirat(&os_posix, AT_FDCWD, folder, 0755);

	if (r < 0 && r != -EEXIST)
		return complain(a, CONTROL_ERROR, "%s: %s", folder, err_text(r));
	to = dir_open(&os_posix, AT_FDCWD, folder);
	if (to < 0)
		return complain(a, CONTROL_ERROR, "%s: %s", folder, err_text(to));
	node_bool(json_build_root(b), "ok", true);
	r = each_file(a, to, node_array(json_build_root(b), "files"));
	(void) os_posix.close(&os_posix, to); /* each file in it is durable */
	if (r < 0)
		return complain(a, CONTROL_ERROR, "%s: %s", folder, err_text(r));
	r = print(a, b);
	if (r == CONTROL_OK && !a->json)
		printf("copied to %s; on the fleet side: selfright repo recover --from %s\n", folder, folder);
	return r;
}

/* --- replace --- */

static int refuse_code(int r)
{
	return r == -ERR_THRESHOLD || r == -ERR_SIGNATURE || r == -ERR_DIGEST || r == -ERR_SYNTAX ||
			       r == -ERR_FIELD_MISSING || r == -ERR_FIELD_VALUE || r == -ERR_TOO_LARGE
		       ? CONTROL_REFUSED
		       : CONTROL_ERROR;
}

void trust_answer_replace(struct node *n, const char *root, const char *sha256, struct buf *answer,
			  struct json_node *o)
{
	char hex[SHA256_HEX + 1];
	int r;

	if (!root || !sha256 || sha256_hex(root, strlen(root), hex) < 0 || !str_eq(hex, sha256)) {
		control_refuse(answer, CONTROL_REFUSED, "this is not the root of that SHA-256");
		return;
	}
	r = tuf_client_init(n->tuf, root, strlen(root));
	if (r < 0) {
		control_refuse(answer, refuse_code(r), "%s", tuf_client_error(n->tuf));
		return;
	}
	log_notice("trust-replaced", "root=%s; what its keys did not sign is trusted no longer", hex);
	n->refresh_wanted = true;
	n->refresh_error = 0;
	n->report_wanted = true;
	describe_root(root, strlen(root), o);
}

static int ask_agent(struct ask *a, const struct buf *root)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf request = BUF_INIT(CONTROL_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *answer = NULL;
	char *path = config_socket_path(&a->config);
	const char *sentence;
	int64_t code = CONTROL_ERROR;
	int r;

	node_string(json_build_root(b), "command", "trust-replace");
	node_string(json_build_root(b), "root", buf_str(root));
	node_string(json_build_root(b), "sha256", a->sha256);
	r = path ? json_build_text(b, false, &request) : -ENOMEM;
	if (r == 0)
		r = control_call(path, request.data, request.len, CALL_MS, &answer);
	free(path);
	if (r < 0)
		return complain(a, CONTROL_ERROR, "the agent that holds %s/trust does not answer: %s",
				a->config.root, err_text(r));
	if (json_bool(json_get(answer, "ok"), false))
		return CONTROL_OK;
	sentence = json_string(json_get(answer, "error"));
	if (!json_integer(json_get(answer, "code"), &code) || code <= 0 || code > 255)
		code = CONTROL_ERROR;
	return complain(a, (int) code, "%s", sentence ? sentence : "refused without a reason");
}

/* The agent does it if it runs; else the folder is ours for the moment. */
static int take_root(struct ask *a, const struct buf *root)
{
	const struct tuf_options o = { .os = &os_posix,
				       .dirfd = a->fd,
				       .prefix = "metadata/",
				       .targets_prefix = "targets/",
				       .limits = tuf_limits_default };
	struct tuf_client *client = NULL;
	int code, r = tuf_client_open(&o, &client);

	if (r == -EBUSY)
		return ask_agent(a, root);
	if (r < 0)
		return complain(a, CONTROL_ERROR, "%s/trust: %s", a->config.root, err_text(r));
	r = tuf_client_init(client, root->data, root->len);
	code = r < 0 ? complain(a, refuse_code(r), "%s", tuf_client_error(client)) : CONTROL_OK;
	tuf_client_close(client);
	return code;
}

static int replace(struct ask *a, const char *file)
{
	CLEANUP(buf_done)
	struct buf root = BUF_INIT(FILE_MAX), text = BUF_INIT(64 * 1024);
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	char hex[SHA256_HEX + 1];
	int r = file_read(&os_posix, AT_FDCWD, file, FILE_MAX, &root);

	if (r < 0)
		return complain(a, CONTROL_ERROR, "%s: %s", file, err_text(r));
	if (!a->sha256)
		return complain(
			a, CONTROL_USAGE,
			"say which root it must be, as the fleet team told you by another road: --sha256 HEX");
	r = sha256_hex(root.data, root.len, hex);
	if (r < 0)
		return complain(a, CONTROL_ERROR, "%s: %s", file, err_text(r));
	if (!str_eq(hex, a->sha256))
		return complain(a, CONTROL_REFUSED, "%s has the SHA-256 %s, not the one you gave: do not use it",
				file, hex);
	r = take_root(a, &root);
	if (r != CONTROL_OK)
		return r;
	node_bool(json_build_root(b), "ok", true);
	describe_root(root.data, root.len, json_build_root(b));
	if (!a->json)
		printf("this node starts from %s now; what its keys did not sign is trusted no longer\n", file);
	else if (json_build_text(b, true, &text) == 0)
		puts(buf_str(&text));
	return CONTROL_OK;
}

/* --- the command --- */

static const struct {
	const char *name, *operand;
	int (*run)(struct ask *a, const char *operand);
} verbs[] = {
	{ "show", NULL, show },
	{ "export", "DIR", export },
	{ "replace", "ROOT", replace },
};

static void print_help(FILE *out)
{
	fputs("Usage: selfright-agent trust show [--config-dir DIR] [--json]\n"
	      "       selfright-agent trust export DIR [--config-dir DIR] [--json]\n"
	      "       selfright-agent trust replace ROOT --sha256 HEX [--config-dir DIR] [--json]\n\n"
	      "show     which metadata this node trusts: versions, expiry, hashes\n"
	      "export   copy it, for `selfright repo recover --from DIR` on the fleet side\n"
	      "replace  start from another root because the keys of the present one are lost or stolen; HEX is "
	      "the\n"
	      "         file's SHA-256, which you have from the fleet team by a road that the file did not "
	      "take\n\n"
	      "Example: selfright-agent trust export /media/stick/trust\n"
	      "Exit codes: 0 done, 1 error, 2 wrong usage, 4 refused.\n",
	      out);
}

static int run(struct ask *a, size_t verb, const char *operand)
{
	struct conf_error error;
	char path[4096];
	int code, r = config_load(a->config_dir, &a->config, &error);

	if (r < 0)
		return complain(a, CONTROL_ERROR, "%s", error.text);
	(void) snprintf(path, sizeof(path), "%s/trust", a->config.root);
	a->fd = dir_open(&os_posix, AT_FDCWD, path);
	code = a->fd < 0 ? complain(a, CONTROL_ERROR, "%s: %s", path, err_text(a->fd))
			 : verbs[verb].run(a, operand);
	if (a->fd >= 0)
		(void) os_posix.close(&os_posix, a->fd); /* a folder */
	config_done(&a->config);
	return code;
}

int trust_main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "config-dir", required_argument, NULL, 'c' },
		{ "sha256", required_argument, NULL, 's' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct ask a = { .config_dir = CONFIG_DIR_DEFAULT, .fd = -1 };
	int o;

	opterr = 0; /* what is wrong is said below, as everything else is */
	while ((o = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (o) {
		case 'c':
			a.config_dir = optarg;
			break;
		case 's':
			a.sha256 = optarg;
			break;
		case 'j':
			a.json = true;
			break;
		case 'h':
			print_help(stdout);
			return CONTROL_OK;
		default:
			return complain(&a, CONTROL_USAGE,
					"trust does not understand %s (see selfright-agent trust --help)",
					argv[optind - 1]);
		}
	}
	for (size_t i = 0; optind < argc && i < ARRAY_LEN(verbs); i++) {
		if (!str_eq(argv[optind], verbs[i].name))
			continue;
		if (argc - optind != (verbs[i].operand ? 2 : 1))
			return complain(&a, CONTROL_USAGE, "trust %s takes %s", verbs[i].name,
					verbs[i].operand ? verbs[i].operand : "no argument");
		return run(&a, i, argv[optind + 1]);
	}
	print_help(stderr);
	return CONTROL_USAGE;
}
