#include "server-stub/signer/client.h"

#include "base/err.h"
#include "json/build.h"
#include "json/json.h"
#include "os/frame.h"
#include "os/unixsock.h"
#include "server-stub/signer/signer.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_DEADLINE_MS = 30000 };

struct signer_client {
	struct frame_conn conn;
	uint32_t next_id;
	char error[1024];
};

int signer_connect(const char *socket_path, struct signer_client **ret)
{
	struct signer_client *c = calloc(1, sizeof(*c));
	int fd;

	if (!c)
		return -ENOMEM;
	fd = unixsock_connect(socket_path);
	if (fd < 0) {
		free(c);
		return fd;
	}
	frame_conn_init(&c->conn, fd, SIGNER_MAX_BYTES);
	*ret = c;
	return 0;
}

void signer_disconnect(struct signer_client *c)
{
	if (!c)
		return;
	frame_conn_done(&c->conn);
	free(c);
}

bool signer_is_there(const struct signer_client *c)
{
	struct pollfd p = { .fd = c->conn.fd, .events = POLLRDHUP };

	return c->conn.fd >= 0 && poll(&p, 1, 0) >= 0 && !(p.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL));
}

const char *signer_error(const struct signer_client *c)
{
	return c->error[0] ? c->error : "no failure yet";
}

static int failed(struct signer_client *c, int r)
{
	(void) snprintf(c->error, sizeof(c->error), "the signer does not answer: %s", err_text(r));
	return r;
}

/* What an error frame says: its code as our error, its sentence kept. */
static int refused(struct signer_client *c, const struct frame *f)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const char *sentence = NULL;
	uint64_t code = 0;
	int r = json_parse(f->data, f->len, &json_limits_default, &doc);

	if (r >= 0)
		r = json_need_u64(doc, "code", 1, ERR_END_ - 1, &code);
	if (r >= 0)
		r = json_need_string(doc, "sentence", &sentence);
	if (r < 0)
		return failed(c, -ERR_PROTOCOL);
	(void) snprintf(c->error, sizeof(c->error), "%s", sentence);
	return -(int) code;
}

static int ask(struct signer_client *c, uint16_t type, struct json_build *request, struct buf *ret)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(SIGNER_MAX_BYTES);
	uint32_t id = ++c->next_id;
	struct frame f;
	int r;

	c->error[0] = '\0';
	r = json_build_text(request, false, &text);
	if (r >= 0)
		r = frame_send(&c->conn, type, id, text.data, text.len);
	if (r >= 0)
		r = frame_exchange(&c->conn, ANSWER_DEADLINE_MS, &f);
	if (r < 0)
		return failed(c, r);
	if (f.id != id || (f.type != SIGNER_OK && f.type != SIGNER_ERROR))
		return failed(c, -ERR_PROTOCOL);
	if (f.type == SIGNER_ERROR)
		return refused(c, &f);
	return buf_add(ret, f.data, f.len);
}

static int ask_json(struct signer_client *c, uint16_t type, struct json_build *request, struct json **ret)
{
	CLEANUP(buf_done)
	struct buf answer = BUF_INIT(SIGNER_MAX_BYTES);
	int r = ask(c, type, request, &answer);

	return r < 0 ? r : json_parse(answer.data, answer.len, &json_limits_default, ret);
}

int signer_sign_role(struct signer_client *c, const char *role, const struct json *body, struct buf *ret)
{
	return signer_sign_role_for(c, role, body, 0, ret);
}

int signer_sign_role_for(struct signer_client *c, const char *role, const struct json *body, uint64_t life_s,
			 struct buf *ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();

	node_string(json_build_root(b), "role", role);
	node_copy(json_build_root(b), "body", body);
	if (life_s > 0)
		node_integer(json_build_root(b), "life", (int64_t) life_s);
	return ask(c, SIGNER_SIGN_ROLE, b, ret);
}

int signer_sign_control(struct signer_client *c, const struct json *document, struct buf *ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();

	node_copy(json_build_root(b), "document", document);
	return ask(c, SIGNER_SIGN_CONTROL, b, ret);
}

int signer_certify_node(struct signer_client *c, const char *node, const char *public_pem, uint64_t life_s,
			struct buf *ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();

	node_string(json_build_root(b), "node", node);
	node_string(json_build_root(b), "public", public_pem);
	if (life_s > 0)
		node_integer(json_build_root(b), "life", (int64_t) life_s);
	return ask(c, SIGNER_CERTIFY_NODE, b, ret);
}

int signer_certify_server(struct signer_client *c, const char *public_pem, const char *const *names,
			  size_t name_count, struct buf *ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *list = node_array(json_build_root(b), "names");

	node_string(json_build_root(b), "public", public_pem);
	for (size_t i = 0; i < name_count; i++)
		node_string(list, NULL, names[i]);
	return ask(c, SIGNER_CERTIFY_SERVER, b, ret);
}

int signer_status(struct signer_client *c, struct json **ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();

	return ask_json(c, SIGNER_STATUS, b, ret);
}

int signer_ca(struct signer_client *c, struct buf *ret)
{
	CLEANUP(json_freep)
	struct json *answer = NULL;
	const char *pem;
	int r = signer_status(c, &answer);

	if (r < 0)
		return r;
	pem = json_string(json_get(answer, "ca"));
	return pem ? buf_add_str(ret, pem) : -ENOENT;
}

int signer_change_ca(struct signer_client *c, const char *what, const char *sha256)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf answer = BUF_INIT(4096);

	node_string(json_build_root(b), "do", what);
	if (sha256)
		node_string(json_build_root(b), "sha256", sha256);
	return ask(c, SIGNER_CA, b, &answer);
}

int signer_prove(struct signer_client *c, const char *role, const void *metadata, size_t len)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(SIGNER_MAX_BYTES), answer = BUF_INIT(SIGNER_MAX_BYTES);
	int r = buf_add(&text, metadata, len);

	if (r < 0)
		return r;
	node_string(json_build_root(b), "role", role);
	node_string(json_build_root(b), "metadata", buf_str(&text));
	return ask(c, SIGNER_PROVE, b, &answer);
}

int signer_recover(struct signer_client *c, const struct json *files, const struct json *at_least,
		   struct json **ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();

	if (files)
		node_copy(json_build_root(b), "files", files);
	if (at_least)
		node_copy(json_build_root(b), "at_least", at_least);
	return ask_json(c, SIGNER_RECOVER, b, ret);
}

int signer_reload(struct signer_client *c)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf answer = BUF_INIT(4096);

	return ask(c, SIGNER_RELOAD, b, &answer);
}
