#include "agent/local/control.h"

#include "base/err.h"
#include "base/log.h"
#include "base/text.h"
#include "json/build.h"
#include "json/json.h"
#include "os/frame.h"
#include "os/unixsock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Those who may only ask get half of the places: they never keep those out who may act. */
enum { STRANGERS_MAX = CONTROL_CLIENTS_MAX / 2 };

struct client {
	bool used, allowed, closing; /* closing: once the answer is written */
	struct control_peer peer;
	uint64_t number; /* in the order they came */
	struct frame_conn conn;
	struct json *waiting; /* a request that has to wait */
	uint32_t waiting_id;
};

struct control {
	int fd;
	char *path;
	control_changes *changes;
	control_handler *handler;
	void *user;
	uint64_t number;
	struct client clients[CONTROL_CLIENTS_MAX];
};

int control_open(const char *path, control_changes *changes, control_handler *handler, void *user,
		 struct control **ret)
{
	struct control *c = calloc(1, sizeof(*c));
	int fd;

	if (!c)
		return -ENOMEM;
	c->path = strdup(path);
	if (!c->path) {
		free(c);
		return -ENOMEM;
	}
	/* Anybody may ask what the state is; who may change it is judged per request by the peer's user. */
	fd = unixsock_listen(path, 0666);
	if (fd < 0) {
		free(c->path);
		free(c);
		return fd;
	}
	c->fd = fd;
	c->changes = changes;
	c->handler = handler;
	c->user = user;
	*ret = c;
	return 0;
}

static void client_drop(struct client *k)
{
	if (!k->used)
		return;
	frame_conn_done(&k->conn);
	json_free(k->waiting);
	*k = (struct client){ 0 };
}

void control_close(struct control *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
		client_drop(&c->clients[i]);
	close(c->fd);
	(void) unlink(c->path); /* a socket that stays is replaced by the next start */
	free(c->path);
	free(c);
}

size_t control_prepare(struct control *c, struct pollfd *fds)
{
	size_t n = 0;
	bool room = false;

	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		struct client *k = &c->clients[i];

		room = room || !k->used || !k->allowed;
		if (!k->used)
			continue;
		fds[n++] = (struct pollfd){
			.fd = k->conn.fd,
			.events = (short) (POLLIN | (frame_wants_write(&k->conn) ? POLLOUT : 0)),
		};
	}
	/* While all places are taken by those who may act, the others wait in the socket's queue. */
	if (room)
		fds[n++] = (struct pollfd){ .fd = c->fd, .events = POLLIN };
	return n;
}

static void answer(struct control *c, struct client *k, const struct json *request, uint32_t id)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(CONTROL_MAX_BYTES);

	c->handler(c->user, &k->peer, request, &text);
	if (text.len == 0)
		control_refuse(&text, CONTROL_ERROR, "the agent has no answer");
	if (frame_send(&k->conn, CONTROL_ANSWER, id, text.data, text.len) < 0)
		k->closing = true;
}

static void refuse(struct client *k, uint32_t id, enum control_code code, const char *sentence)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(4096);

	control_refuse(&text, code, "%s", sentence);
	if (frame_send(&k->conn, CONTROL_ANSWER, id, text.data, text.len) < 0)
		k->closing = true;
}

static void take_request(struct control *c, struct client *k, const struct frame *f, bool reading_only)
{
	struct json_limits limits = json_limits_default;
	CLEANUP(json_freep)
	struct json *request = NULL;
	const char *command = NULL;

	limits.max_bytes = CONTROL_MAX_BYTES;
	limits.max_values = 10000;
	if (f->type != CONTROL_REQUEST || json_parse(f->data, f->len, &limits, &request) < 0 ||
	    json_need_string(request, "command", &command) < 0) {
		refuse(k, f->id, CONTROL_USAGE, "not a request of this agent's control socket");
		return;
	}
	if (c->changes(command) && !k->allowed) {
		refuse(k, f->id, CONTROL_REFUSED, "only root and the agent's own user may do this");
		return;
	}
	if (c->changes(command) && reading_only) {
		if (k->waiting) {
			refuse(k, f->id, CONTROL_ERROR, "one request at a time");
			return;
		}
		k->waiting = request;
		k->waiting_id = f->id;
		request = NULL;
		return;
	}
	answer(c, k, request, f->id);
}

/* A free place; for whom there is none, that of the stranger who has been here longest. NULL: all may act. */
static struct client *place_for(struct control *c, bool allowed)
{
	struct client *oldest = NULL, *free_place = NULL;
	size_t strangers = 0;

	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		struct client *k = &c->clients[i];

		if (!k->used)
			free_place = k;
		if (!k->used || k->allowed)
			continue;
		strangers++;
		if (!oldest || k->number < oldest->number)
			oldest = k;
	}
	if (free_place && (allowed || strangers < STRANGERS_MAX))
		return free_place;
	if (oldest)
		client_drop(oldest);
	return oldest;
}

static void accept_clients(struct control *c)
{
	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		struct client *k;
		uid_t uid = (uid_t) -1;
		pid_t pid = 0;
		bool allowed;
		int fd = unixsock_accept(c->fd, &uid, &pid);

		if (fd < 0)
			return;
		allowed = uid == 0 || uid == geteuid();
		k = place_for(c, allowed);
		if (!k) {
			close(fd);
			return;
		}
		*k = (struct client){
			.used = true,
			.allowed = allowed,
			.number = ++c->number,
			.peer = { .uid = uid, .pid = pid, .may_change = allowed },
		};
		frame_conn_init(&k->conn, fd, CONTROL_MAX_BYTES);
	}
}

static void client_step(struct control *c, struct client *k, short revents, bool reading_only)
{
	struct frame f;
	int r = revents ? frame_pump(&k->conn, revents) : 0;

	if (r < 0 && r != -ERR_PEER_GONE) {
		client_drop(k);
		return;
	}
	while (!k->closing) {
		int n = frame_next(&k->conn, &f);

		if (n < 0)
			k->closing = true;
		if (n <= 0)
			break;
		take_request(c, k, &f, reading_only);
	}
	if (k->waiting && !reading_only) {
		answer(c, k, k->waiting, k->waiting_id);
		json_free(k->waiting);
		k->waiting = NULL;
	}
	if (frame_wants_write(&k->conn) && frame_pump(&k->conn, POLLOUT) < 0)
		k->closing = true;
	if (r < 0 || k->closing)
		client_drop(k);
}

void control_step(struct control *c, const struct pollfd *fds, size_t count, bool reading_only)
{
	bool more = false;

	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		struct client *k = &c->clients[i];
		short revents = 0;

		if (!k->used)
			continue;
		for (size_t n = 0; n < count; n++)
			if (fds[n].fd == k->conn.fd)
				revents = fds[n].revents;
		if (revents || (k->waiting && !reading_only))
			client_step(c, k, revents, reading_only);
	}
	for (size_t n = 0; n < count; n++)
		more = more || (fds[n].fd == c->fd && fds[n].revents);
	if (more)
		accept_clients(c);
}

void control_refuse(struct buf *answer_text, enum control_code code, const char *fmt, ...)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b);
	char sentence[1024];
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(sentence, sizeof(sentence), fmt, ap); /* a longer one is cut */
	va_end(ap);
	node_bool(o, "ok", false);
	node_integer(o, "code", code);
	node_string(o, "error", sentence);
	buf_clear(answer_text);
	if (json_build_text(b, false, answer_text) < 0)
		log_warning("control-answer-failed", "out of memory");
}

int control_call(const char *path, const void *request, size_t len, uint64_t deadline_ms, struct json **ret)
{
	struct frame_conn conn;
	struct frame f;
	int fd = unixsock_connect(path);
	int r;

	if (fd < 0)
		return fd;
	frame_conn_init(&conn, fd, CONTROL_MAX_BYTES);
	r = frame_send(&conn, CONTROL_REQUEST, 1, request, len);
	if (r == 0)
		r = frame_exchange(&conn, deadline_ms, &f);
	if (r == 0 && (f.type != CONTROL_ANSWER || f.id != 1))
		r = -ERR_PROTOCOL;
	if (r == 0)
		r = json_parse(f.data, f.len, &json_limits_default, ret);
	frame_conn_done(&conn);
	return r;
}
