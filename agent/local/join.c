#include "agent/local/join.h"

#include "agent/local/ca.h"
#include "agent/local/config.h"
#include "agent/local/pair.h"
#include "base/err.h"
#include "crypto/certificate.h"
#include "crypto/digest.h"
#include "crypto/key.h"
#include "json/json.h"
#include "model/enrolment.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FILE_MAX = 64 * 1024, URLS_MAX = 16, KEY_MAX = 4096, FORMAT_KEYS = 1, FORMAT_SECRET = 2 };

/* The file after every check; strings belong to the parsed document. With a secret there are no keys in it. */
struct join {
	const char *fleet, *node, *root, *ca, *identity_key, *transport_key, *transport_crt;
	const char *secret;
	const struct json *urls;
	const char *broker_host;
	uint64_t broker_port;
	struct labels labels, vars;
};

static int fail(struct join_error *e, int r, const char *fmt, ...) PRINTF_LIKE(3, 4);
static int fail(struct join_error *e, int r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(e->text, sizeof(e->text), fmt, ap); /* a longer sentence is cut */
	va_end(ap);
	return r;
}

static int need(const struct json *doc, const char *name, const char **ret, struct join_error *e)
{
	int r = json_need_string(doc, name, ret);

	return r < 0 ? fail(e, r, "the join file's '%s': %s", name, err_text(r)) : 0;
}

static int need_id(const struct json *doc, const char *name, const char **ret, struct join_error *e)
{
	int r = need(doc, name, ret, e);

	if (r < 0)
		return r;
	return guard_id(*ret) ? 0 : fail(e, -ERR_NAME, "the join file's '%s' is no name of [a-z0-9-]", name);
}

static int need_pem(const struct json *doc, const char *name, const char **ret, struct join_error *e)
{
	int r = need(doc, name, ret, e);

	if (r < 0)
		return r;
	if (!str_starts(*ret, "-----BEGIN "))
		return fail(e, -ERR_KEY, "the join file's '%s' is no PEM", name);
	return 0;
}

/* The root travels with its digest so that a cut or re-typed file is noticed before it becomes the anchor of trust. */
static int check_root(const struct json *doc, struct join *j, struct join_error *e)
{
	CLEANUP(json_freep)
	struct json *root = NULL;
	char hex[SHA256_HEX + 1];
	const char *wanted = NULL;
	int r = need(doc, "root", &j->root, e);

	if (r < 0)
		return r;
	r = need(doc, "root_sha256", &wanted, e);
	if (r < 0)
		return r;
	r = sha256_hex(j->root, strlen(j->root), hex);
	if (r < 0)
		return fail(e, r, "the join file's root: %s", err_text(r));
	if (!str_eq(hex, wanted))
		return fail(e, -ERR_DIGEST, "the join file's root has SHA-256 %s, not %.64s as it says", hex,
			    wanted);
	r = json_parse(j->root, strlen(j->root), &json_limits_default, &root);
	if (r < 0)
		return fail(e, r, "the join file's root is no JSON: %s", err_text(r));
	return 0;
}

static int check_urls(const struct json *doc, struct join *j, struct join_error *e)
{
	int r = json_need(doc, "urls", JSON_ARRAY, &j->urls);

	if (r < 0)
		return fail(e, r, "the join file's 'urls': %s", err_text(r));
	if (json_count(j->urls) > URLS_MAX)
		return fail(e, -ERR_TOO_LARGE, "the join file names more than %d addresses", URLS_MAX);
	for (size_t i = 0; i < json_count(j->urls); i++) {
		const char *url = json_string(json_at(j->urls, i));

		if (!url || !str_starts(url, "https://"))
			return fail(e, -ERR_FIELD_VALUE, "the join file's addresses must begin with https://");
	}
	return 0;
}

static int check_broker(const struct json *doc, struct join *j, struct join_error *e)
{
	const struct json *broker = json_get(doc, "broker");
	int r;

	if (!broker || json_is(broker, JSON_NULL))
		return 0;
	r = json_need_string(broker, "host", &j->broker_host);
	if (r == 0)
		r = json_need_u64(broker, "port", 1, 65535, &j->broker_port);
	return r < 0 ? fail(e, r, "the join file's 'broker': %s", err_text(r)) : 0;
}

static int check_labels(const struct json *doc, const char *name, struct labels *ret, struct join_error *e)
{
	const struct json *object = json_get(doc, name);
	int r;

	if (!object)
		return 0;
	r = labels_parse(object, ret);
	return r < 0 ? fail(e, r, "the join file's '%s': %s", name, err_text(r)) : 0;
}

static int check_secret(const struct json *doc, struct join *j, struct join_error *e)
{
	uint8_t bytes[ENROLMENT_SECRET_BYTES];
	int r = need(doc, "secret", &j->secret, e);

	if (r < 0)
		return r;
	if (hex_decode(bytes, sizeof(bytes), j->secret, false) < 0)
		return fail(e, -ERR_FIELD_VALUE, "the join file's 'secret' is not %d hex digits",
			    2 * ENROLMENT_SECRET_BYTES);
	if (json_count(j->urls) == 0)
		return fail(e, -ERR_FIELD_VALUE, "the join file names no address to enrol at");
	return 0;
}

static int check_keys(const struct json *doc, struct join *j, struct join_error *e)
{
	int r = need_pem(doc, "identity_key", &j->identity_key, e);

	if (r < 0)
		return r;
	r = need_pem(doc, "transport_key", &j->transport_key, e);
	if (r < 0)
		return r;
	return need_pem(doc, "transport_crt", &j->transport_crt, e);
}

/* One that the link could not read would be found out when the installer has left. */
static int check_ca(const struct json *doc, struct join *j, struct join_error *e)
{
	CLEANUP(certificate_bundle_done)
	struct certificate_bundle b = { .count = 0 };
	int r = need_pem(doc, "ca", &j->ca, e);

	if (r < 0)
		return r;
	r = strlen(j->ca) >= CA_FILE_MAX ? -ERR_TOO_LARGE : certificate_bundle_read(j->ca, &b);
	if (r == 0 && b.count == 0)
		r = -ERR_KEY;
	return r < 0 ? fail(e, r, "the join file's 'ca' is no list of certificates in PEM: %s", err_text(r)) : 0;
}

static int check(const struct json *doc, struct join *j, struct join_error *e)
{
	uint64_t format = 0;
	int r = json_need_u64(doc, "format", FORMAT_KEYS, FORMAT_SECRET, &format);

	if (r < 0)
		return fail(e, r, "this is no join file, or one for a newer agent");
	r = need_id(doc, "fleet", &j->fleet, e);
	if (r < 0)
		return r;
	r = need_id(doc, "node", &j->node, e);
	if (r < 0)
		return r;
	r = check_root(doc, j, e);
	if (r < 0)
		return r;
	r = check_urls(doc, j, e);
	if (r < 0)
		return r;
	r = check_broker(doc, j, e);
	if (r < 0)
		return r;
	r = check_ca(doc, j, e);
	if (r < 0)
		return r;
	r = format == FORMAT_SECRET ? check_secret(doc, j, e) : check_keys(doc, j, e);
	if (r < 0)
		return r;
	r = check_labels(doc, "labels", &j->labels, e);
	if (r < 0)
		return r;
	return check_labels(doc, "vars", &j->vars, e);
}

/* Double quotes with the escapes YAML shares with JSON; control bytes have no place in any of these values. */
static int add_quoted(struct buf *b, const char *text)
{
	int r = buf_add_byte(b, '"');

	for (const unsigned char *p = (const unsigned char *) text; r == 0 && *p; p++) {
		if (*p < 0x20 || *p == 0x7f)
			return -ERR_FIELD_VALUE;
		if (*p == '"' || *p == '\\')
			r = buf_add_byte(b, '\\');
		if (r == 0)
			r = buf_add_byte(b, *p);
	}
	return r < 0 ? r : buf_add_byte(b, '"');
}

static int add_pair(struct buf *b, const char *indent, const char *key, const char *value)
{
	int r = buf_addf(b, "%s%s: ", indent, key);

	if (r == 0)
		r = add_quoted(b, value);
	return r < 0 ? r : buf_add_byte(b, '\n');
}

static int add_labels(struct buf *b, const char *indent, const struct labels *l)
{
	for (size_t i = 0; i < l->count; i++) {
		int r = add_pair(b, indent, l->items[i].name, l->items[i].value);

		if (r < 0)
			return r;
	}
	return 0;
}

static int write_yaml(const struct join_options *o, const struct join *j, struct buf *b)
{
	int r = buf_add_str(b, "# Written by `selfright-agent join`; yours to change.\n");

	if (r == 0)
		r = add_pair(b, "", "fleet", j->fleet);
	if (r == 0)
		r = add_pair(b, "", "node", j->node);
	if (r == 0 && o->root)
		r = add_pair(b, "", "root", o->root);
	if (r == 0 && o->run)
		r = add_pair(b, "", "run", o->run);
	if (r == 0 && json_count(j->urls) > 0)
		r = buf_add_str(b, "urls:\n");
	for (size_t i = 0; r == 0 && i < json_count(j->urls); i++) {
		r = buf_add_str(b, "  - ");
		if (r == 0)
			r = add_quoted(b, json_string(json_at(j->urls, i)));
		if (r == 0)
			r = buf_add_byte(b, '\n');
	}
	if (r == 0 && j->broker_host) {
		r = buf_add_str(b, "broker:\n");
		if (r == 0)
			r = add_pair(b, "  ", "host", j->broker_host);
		if (r == 0)
			r = buf_addf(b, "  port: %u\n", (unsigned) j->broker_port);
	}
	if (r == 0 && j->labels.count > 0) {
		r = buf_add_str(b, "labels:\n");
		if (r == 0)
			r = add_labels(b, "  ", &j->labels);
	}
	return r;
}

static int put(const struct join_options *o, int dirfd, const char *name, const char *text, mode_t mode,
	       struct join_error *e)
{
	int r = durable_write_file(o->os, dirfd, name, text, strlen(text), mode);

	return r < 0 ? fail(e, r, "%s/%s: %s", o->config_dir, name, err_text(r)) : 0;
}

static int put_vars(const struct join_options *o, int dirfd, const struct join *j, struct join_error *e)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(FILE_MAX);
	int sub, r;

	if (j->vars.count == 0)
		return 0;
	r = buf_add_str(&text, "# Written by `selfright-agent join`; files with later names win.\n");
	if (r == 0)
		r = add_labels(&text, "", &j->vars);
	if (r < 0)
		return fail(e, r, "the join file's 'vars': %s", err_text(r));
	sub = dir_open(o->os, dirfd, "vars.d");
	if (sub < 0)
		return fail(e, sub, "%s/vars.d: %s", o->config_dir, err_text(sub));
	r = put(o, sub, "00-join.yaml", buf_str(&text), 0644, e);
	(void) o->os->close(o->os, sub); /* nothing was written through it */
	return r;
}

/* A key of its own, made here: it leaves this machine never. */
static int put_new_key(const struct join_options *o, int dirfd, const char *name, struct join_error *e)
{
	CLEANUP(private_key_freep)
	struct private_key *key = NULL;
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(KEY_MAX);
	int r = private_key_generate(&key);

	if (r == 0)
		r = private_key_save(key, NULL, &pem);
	if (r < 0)
		return fail(e, r, "a key cannot be made: %s", err_text(r));
	r = put(o, dirfd, name, buf_str(&pem), 0600, e);
	explicit_bzero(pem.data, pem.len);
	return r;
}

static int remove_old(const struct join_options *o, int dirfd, const char *name, struct join_error *e)
{
	int r = o->os->unlinkat(o->os, dirfd, name, 0);

	return r == 0 || r == -ENOENT ? 0 : fail(e, r, "%s/%s: %s", o->config_dir, name, err_text(r));
}

/* The identity last, as with keys from the file: without it the folder is not joined, and the secret unused. */
static int put_secret(const struct join_options *o, int dirfd, const struct join *j, struct join_error *e)
{
	CLEANUP(buf_done)
	struct buf secret = BUF_INIT(KEY_MAX);
	int r = remove_old(o, dirfd, PAIR_CERTIFICATE, e); /* of another identity, with --force */

	if (r == 0)
		r = put_new_key(o, dirfd, PAIR_KEY, e);
	if (r < 0)
		return r;
	r = buf_addf(&secret, "%s\n", j->secret);
	if (r == 0)
		r = put(o, dirfd, PAIR_SECRET, buf_str(&secret), 0600, e);
	if (secret.data)
		explicit_bzero(secret.data, secret.len);
	return r < 0 ? r : put_new_key(o, dirfd, "identity.key", e);
}

static int put_keys(const struct join_options *o, int dirfd, const struct join *j, struct join_error *e)
{
	int r = remove_old(o, dirfd, PAIR_SECRET, e);

	if (r == 0)
		r = put(o, dirfd, PAIR_CERTIFICATE, j->transport_crt, 0644, e);
	if (r < 0)
		return r;
	/* The agent gives it to the link's user when it starts as root. */
	r = put(o, dirfd, PAIR_KEY, j->transport_key, 0600, e);
	return r < 0 ? r : put(o, dirfd, "identity.key", j->identity_key, 0600, e);
}

static int write_all(const struct join_options *o, int dirfd, const struct join *j, struct join_error *e)
{
	static const char *const folders[] = { "components.d", "vars.d" };
	CLEANUP(buf_done)
	struct buf yaml = BUF_INIT(FILE_MAX);
	int r = write_yaml(o, j, &yaml);

	if (r < 0)
		return fail(e, r, "the join file holds text that cannot be written: %s", err_text(r));
	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		r = durable_mkdir(o->os, dirfd, folders[i], 0755);
		if (r < 0)
			return fail(e, r, "%s/%s: %s", o->config_dir, folders[i], err_text(r));
	}
	r = put_vars(o, dirfd, j, e);
	if (r < 0)
		return r;
	r = put(o, dirfd, "root.json", j->root, 0644, e);
	if (r < 0)
		return r;
	r = put(o, dirfd, CA_FILE, j->ca, 0644, e);
	if (r < 0)
		return r;
	r = put(o, dirfd, "agent.yaml", buf_str(&yaml), 0644, e);
	if (r < 0)
		return r;
	r = pair_drop_next(o->os, dirfd); /* of an identity that is replaced */
	if (r < 0)
		return fail(e, r, "%s: %s", o->config_dir, err_text(r));
	return j->secret ? put_secret(o, dirfd, j, e) : put_keys(o, dirfd, j, e);
}

static int open_config_dir(const struct join_options *o, struct join_error *e)
{
	int fd;

	/* Only the last part is made: a mistyped path should not grow a tree. */
	if (mkdir(o->config_dir, 0755) < 0 && errno != EEXIST) {
		int r = -errno;

		return fail(e, r, "%s: %s", o->config_dir, err_text(r));
	}
	fd = o->os->openat(o->os, AT_FDCWD, o->config_dir, O_RDONLY | O_DIRECTORY, 0);
	return fd < 0 ? fail(e, fd, "%s: %s", o->config_dir, err_text(fd)) : fd;
}

int join_apply(const struct join_options *o, const void *file, size_t len, struct join_error *ret_error)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct json_limits limits = json_limits_default;
	struct join j = { 0 };
	struct stat st;
	int dirfd, r;

	limits.max_bytes = JOIN_MAX_BYTES;
	r = json_parse(file, len, &limits, &doc);
	if (r < 0)
		return fail(ret_error, r, "the join file is no JSON document: %s", err_text(r));
	r = check(doc, &j, ret_error);
	if (r < 0)
		goto out;
	dirfd = open_config_dir(o, ret_error);
	if (dirfd < 0) {
		r = dirfd;
		goto out;
	}
	r = o->os->fstatat(o->os, dirfd, "identity.key", &st);
	if (r == 0 && !o->force)
		r = fail(ret_error, -EEXIST, "%s holds an identity already (--force replaces it)", o->config_dir);
	else if (r == 0 || r == -ENOENT)
		r = write_all(o, dirfd, &j, ret_error);
	else
		r = fail(ret_error, r, "%s/identity.key: %s", o->config_dir, err_text(r));
	(void) o->os->close(o->os, dirfd); /* every write was synced on its own */
out:
	labels_done(&j.labels);
	labels_done(&j.vars);
	return r;
}
