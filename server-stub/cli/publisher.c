#include "server-stub/cli/publisher.h"

#include "base/err.h"
#include "base/text.h"
#include "crypto/digest.h"
#include "fetch/fetch.h"
#include "json/build.h"
#include "json/json.h"
#include "os/durable.h"
#include "os/os.h"
#include "server-stub/repo/repo.h"
#include "server-stub/repo/role_file.h"
#include "server-stub/signer/client.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PASSPHRASE_MAX = 1024, PUBLISH_TIMEOUT_MS = 10 * 60 * 1000 };

/* The first line of the file. */
static int read_passphrase(const struct cli *c, const char *path, struct buf *ret)
{
	int r;

	if (!path || !*path)
		path = getenv("SELFRIGHT_PASSPHRASE_FILE");
	if (!path || !*path)
		return CLI_OK;
	r = cli_read_file(c, path, PASSPHRASE_MAX, ret);
	if (r != CLI_OK)
		return r;
	ret->len = strcspn(buf_str(ret), "\r\n");
	if (ret->data)
		ret->data[ret->len] = '\0';
	return ret->len > 0 ? CLI_OK : cli_fail(c, CLI_FAILED, "%s holds no passphrase", path);
}

const char *publisher_passphrase(const struct publisher *p)
{
	return p->passphrase.len > 0 ? buf_str(&p->passphrase) : NULL;
}

int publisher_open(const struct cli *c, const char *passphrase_file, struct publisher *ret)
{
	CLEANUP(buf_done)
	struct buf fleet = BUF_INIT(ID_MAX + 1);
	int r;

	*ret = (struct publisher){ .cli = c };
	buf_init(&ret->passphrase, PASSPHRASE_MAX);
	r = cli_fleet_name(c, &fleet);
	if (r >= 0)
		return r;
	(void) snprintf(ret->fleet, sizeof(ret->fleet), "%s", buf_str(&fleet));
	if ((size_t) snprintf(ret->keys, sizeof(ret->keys), "%s/keys", c->dir) >= sizeof(ret->keys))
		return cli_fail(c, CLI_FAILED, "%s is too long a path", c->dir);
	r = read_passphrase(c, passphrase_file, &ret->passphrase);
	if (r != CLI_OK)
		return r;
	ret->server = cli_server_runs(c);
	r = repo_open(&os_posix, c->dir, NULL, &ret->repo);
	return r < 0 ? cli_fail_error(c, r, "the repository in %s cannot be read", c->dir) : CLI_OK;
}

void publisher_close(struct publisher *p)
{
	repo_close(p->repo);
	signer_disconnect(p->signer);
	if (p->process.pid > 0)
		process_end(&p->process, 5000);
	if (p->passphrase.data)
		explicit_bzero(p->passphrase.data, p->passphrase.len);
	buf_done(&p->passphrase);
	*p = (struct publisher){ .cli = NULL };
}

/* One that runs already, or our own; who holds the folder without answering starts or ends just now. */
static int reach_signer(struct publisher *p, const char *socket)
{
	for (unsigned waited = 0;; waited += SIGNER_AGAIN_MS) {
		const struct timespec moment = { 0, SIGNER_AGAIN_MS * 1000 * 1000 };
		int r = signer_connect(socket, &p->signer);

		if (r != -ENOENT && r != -ECONNREFUSED)
			return r;
		r = cli_start_signer(p->cli->dir, &p->process);
		if (r >= 0)
			return signer_connect(socket, &p->signer);
		if (r != -EBUSY || waited >= SIGNER_WAIT_MS)
			return r;
		if (waited == 0)
			(void) fprintf(stderr, "selfright: another signer holds %s; waiting for it\n",
				       p->cli->dir); /* nowhere else to say it */
		(void) nanosleep(&moment, NULL); /* shorter is fine */
	}
}

int publisher_own(struct publisher *p)
{
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(PATH_MAX);
	struct repo *repo;
	int r;

	if (p->signer)
		return CLI_OK;
	r = buf_addf(&path, "%s/signer/signer.sock", p->cli->dir);
	if (r < 0)
		return cli_fail_error(p->cli, r, "%s", p->cli->dir);
	r = reach_signer(p, buf_str(&path));
	if (r == -ENOENT)
		return cli_fail(p->cli, CLI_FAILED,
				"selfright-signer is neither beside this program nor in ../libexec/selfright");
	if (r < 0)
		return cli_fail_error(p->cli, r, "the signer of %s cannot be reached", p->cli->dir);
	r = repo_open(&os_posix, p->cli->dir, p->signer, &repo);
	if (r < 0)
		return cli_fail_error(p->cli, r, "the repository in %s cannot be opened", p->cli->dir);
	repo_close(p->repo);
	p->repo = repo;
	return CLI_OK;
}

int publisher_body(struct publisher *p, const char *role, struct json **ret_metadata)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ROLE_FILE_MAX);
	int r = repo_read_role(p->repo, role, &text);

	if (r < 0)
		return cli_fail(p->cli, CLI_FAILED, "%s", repo_error(p->repo));
	r = json_parse(text.data, text.len, &json_limits_default, ret_metadata);
	return r < 0 ? cli_fail_error(p->cli, r, "the published %s", role) : CLI_OK;
}

int publisher_keys(struct publisher *p, const char *role, struct key_files *ret)
{
	char file[256];
	int r = key_files_load(&os_posix, p->keys, role, publisher_passphrase(p), ret, file);

	if (r == -ERR_PASSPHRASE)
		return cli_fail(p->cli, CLI_FAILED,
				"%s/%s is encrypted: name a file with its passphrase by --passphrase-file or "
				"SELFRIGHT_PASSPHRASE_FILE",
				p->keys, file);
	return r < 0 ? cli_fail_error(p->cli, r, "key %s", file) : CLI_OK;
}

/* --- uploads --- */

static int put(struct publisher *p, const char *sha256, const void *data, size_t len)
{
	CLEANUP(http_closep)
	struct http *http = NULL;
	CLEANUP(buf_done)
	struct buf socket = BUF_INIT(PATH_MAX), path = BUF_INIT(256), answer = BUF_INIT(64 * 1024);
	struct http_options options = { .base_url = "http://selfright/",
					.user_agent = "selfright",
					.allow_plain_http = true };
	struct http_response response = { 0 };
	int r;

	r = buf_addf(&socket, "%s/serve/control.sock", p->cli->dir);
	if (r >= 0)
		r = buf_addf(&path, "v1/upload/%s", sha256);
	options.unix_socket = buf_str(&socket);
	if (r >= 0)
		r = http_open(&options, &http);
	if (r >= 0)
		r = http_request(http, "PUT", buf_str(&path), "application/octet-stream", data, len,
				 PUBLISH_TIMEOUT_MS, &response, &answer);
	if (r < 0)
		return cli_fail_error(p->cli, r, "the upload of %s", sha256);
	if (response.status < 200 || response.status > 299)
		return cli_fail(p->cli, response.status < 500 ? CLI_REFUSED : CLI_FAILED,
				"the server did not take %s: %s", sha256, buf_str(&answer));
	return CLI_OK;
}

int publisher_upload(struct publisher *p, const void *data, size_t len, char ret_sha256[static SHA256_HEX + 1])
{
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(PATH_MAX);
	int r = sha256_hex(data, len, ret_sha256);

	if (r < 0)
		return cli_fail_error(p->cli, r, "a digest");
	if (p->server)
		return put(p, ret_sha256, data, len);
	r = publisher_own(p);
	if (r != CLI_OK)
		return r;
	r = buf_addf(&path, "%s/%s", repo_upload_dir(p->repo), ret_sha256);
	if (r >= 0)
		r = durable_write_file(&os_posix, AT_FDCWD, buf_str(&path), data, len, 0600);
	return r < 0 ? cli_fail_error(p->cli, r, "%s cannot be written", buf_str(&path)) : CLI_OK;
}

static int copy_to(int from, const char *path)
{
	uint64_t offset = 0;
	int r, fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return -errno;
	for (;;) {
		uint8_t chunk[64 * 1024];
		ssize_t n = pread(from, chunk, sizeof(chunk), (off_t) offset);

		r = n < 0 ? -errno : file_write_all(&os_posix, fd, chunk, (size_t) n);
		if (r < 0 || n == 0)
			break;
		offset += (uint64_t) n;
	}
	if (close(fd) < 0 && r >= 0)
		r = -errno;
	return r;
}

int publisher_upload_fd(struct publisher *p, int fd, uint64_t length, const char *sha256)
{
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(PATH_MAX), part = BUF_INIT(PATH_MAX);
	void *map;
	int r;

	if (p->server) {
		if (length == 0)
			return put(p, sha256, "", 0);
		map = mmap(NULL, (size_t) length, PROT_READ, MAP_SHARED, fd, 0);
		if (map == MAP_FAILED)
			return cli_fail_error(p->cli, -errno, "the artifact cannot be read");
		r = put(p, sha256, map, (size_t) length);
		(void) munmap(map, (size_t) length); /* only read */
		return r;
	}
	r = publisher_own(p);
	if (r != CLI_OK)
		return r;
	r = buf_addf(&path, "%s/%s", repo_upload_dir(p->repo), sha256);
	if (r >= 0)
		r = buf_addf(&part, "%s.part", buf_str(&path));
	if (r >= 0)
		r = copy_to(fd, buf_str(&part));
	if (r >= 0 && rename(buf_str(&part), buf_str(&path)) < 0)
		r = -errno;
	return r < 0 ? cli_fail_error(p->cli, r, "%s cannot be written", buf_str(&path)) : CLI_OK;
}

/* --- publishing --- */

int publisher_publish(struct publisher *p, const char *role, const void *metadata, size_t len)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ROLE_FILE_MAX), body = BUF_INIT(2 * ROLE_FILE_MAX);
	struct repo *fresh;
	int r;

	if (!p->server) {
		r = publisher_own(p);
		if (r != CLI_OK)
			return r;
		r = repo_publish_role(p->repo, role, metadata, len);
		return r < 0 ? cli_fail(p->cli, CLI_REFUSED, "%s", repo_error(p->repo)) : CLI_OK;
	}
	r = buf_add(&text, metadata, len);
	node_string(json_build_root(b), "role", role);
	node_string(json_build_root(b), "metadata", buf_str(&text));
	if (r >= 0)
		r = json_build_text(b, false, &body);
	if (r < 0)
		return cli_fail_error(p->cli, r, "the request");
	r = cli_call(p->cli, "POST", "/v1/publish", buf_str(&body), NULL);
	if (r != CLI_OK || p->signer)
		return r;
	r = repo_open(&os_posix, p->cli->dir, NULL, &fresh);
	if (r < 0)
		return cli_fail_error(p->cli, r, "the repository in %s cannot be read", p->cli->dir);
	repo_close(p->repo);
	p->repo = fresh;
	return CLI_OK;
}

static int count_for(struct publisher *p, const char *role, const struct json *metadata,
		     const struct json *delegator, const char *whose, bool *complete, struct buf *missing)
{
	unsigned valid = 0, threshold = 0;
	int r = offline_count(metadata, delegator, role, &valid, &threshold);

	if (r < 0)
		return cli_fail_error(p->cli, r, "role %s in %s", role, whose);
	if (valid >= threshold)
		return CLI_OK;
	*complete = false;
	r = buf_addf(missing, "%s%u of %u signatures %s asks for", missing->len > 0 ? ", " : "", valid, threshold,
		     whose);
	return r < 0 ? cli_fail_error(p->cli, r, "a list") : CLI_OK;
}

int publisher_is_complete(struct publisher *p, const char *role, const struct json *metadata, bool *ret,
			  struct buf *ret_missing)
{
	CLEANUP(json_freep)
	struct json *delegator = NULL;
	const char *by = role_is_top(role) ? "root" : "targets";
	int r = publisher_body(p, by, &delegator);

	*ret = true;
	if (r != CLI_OK)
		return r;
	r = count_for(p, role, metadata, json_get(delegator, "signed"),
		      str_eq(role, "root") ? "the published root" : by, ret, ret_missing);
	if (r == CLI_OK && str_eq(role, "root"))
		r = count_for(p, role, metadata, json_get(metadata, "signed"), "the new root", ret, ret_missing);
	return r;
}

static int write_request(struct publisher *p, const char *role, const struct json *metadata, const char *path,
			 const char *missing)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(2 * ROLE_FILE_MAX), name = BUF_INIT(PATH_MAX);
	int r = path ? buf_add_str(&name, path) : buf_addf(&name, "%s.request.json", role);

	if (r >= 0)
		r = offline_request(p->fleet, role, metadata, &text);
	if (r < 0)
		return cli_fail_error(p->cli, r, "the signing request");
	r = cli_write_file(p->cli, buf_str(&name), text.data, text.len, 0644);
	if (r != CLI_OK)
		return r;
	return cli_fail(p->cli, CLI_REFUSED,
			"%s has %s: nothing is published yet. Have %s signed where the keys are (selfright repo "
			"sign %s), then selfright repo merge %s",
			role, missing, buf_str(&name), buf_str(&name), buf_str(&name));
}

int publisher_sign_and_publish(struct publisher *p, const char *role, const struct json *body,
			       const struct key_files *more, const char *request_path)
{
	CLEANUP(key_files_done)
	struct key_files keys = { .count = 0 };
	CLEANUP(buf_done)
	struct buf first = BUF_INIT(ROLE_FILE_MAX), all = BUF_INIT(ROLE_FILE_MAX), missing = BUF_INIT(1024);
	CLEANUP(json_freep)
	struct json *metadata = NULL;
	const struct key_files none = { .count = 0 };
	bool complete;
	int r;

	r = publisher_keys(p, role, &keys);
	if (r != CLI_OK)
		return r;
	r = offline_sign(body, &keys, NULL, &first);
	if (r >= 0)
		r = json_parse(first.data, first.len, &json_limits_default, &metadata);
	if (r >= 0)
		r = offline_sign(body, more ? more : &none, json_get(metadata, "signatures"), &all);
	json_free(metadata);
	metadata = NULL;
	if (r >= 0)
		r = json_parse(all.data, all.len, &json_limits_default, &metadata);
	if (r < 0)
		return cli_fail_error(p->cli, r, "%s cannot be signed", role);
	r = publisher_is_complete(p, role, metadata, &complete, &missing);
	if (r != CLI_OK)
		return r;
	if (!complete)
		return write_request(p, role, metadata, request_path, buf_str(&missing));
	return publisher_publish(p, role, all.data, all.len);
}
