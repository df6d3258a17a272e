#include "agent/engine_parts.h"

#include "agent/link/protocol.h"
#include "agent/local/asking.h"
#include "agent/phase/phase.h"
#include "agent/trial.h"
#include "base/err.h"
#include "base/log.h"
#include "conf/conf.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	INBOX_BYTES_MAX = 4 * 1024 * 1024,
	LINK_MEMORY_MAX = 512 * 1024 * 1024,
	LINK_STABLE_MS = 60 * 1000,
	LEFT_MS = 5 * 1000, /* how long a link may take to leave */
};

/* --- the process --- */

void engine_link_close(struct engine *e)
{
	struct node *n = &e->node;

	if (n->link)
		frame_conn_done(&e->link_conn);
	n->link = NULL;
	n->link_connected = false;
	(void) snprintf(n->link_reason, sizeof(n->link_reason), "the link process is not running");
}

void engine_link_end(struct engine *e)
{
	engine_link_close(e);
	/* The end of its socket tells it to leave in good order; the signal says it again. */
	if (e->link.pid)
		process_end(&e->link, LEFT_MS);
	e->link = (struct process){ 0 };
}

/* Also when the link itself is gone: the next one may find no broker. */
static void push_is_lost(struct engine *e)
{
	struct node *n = &e->node;

	if (n->link_connected)
		e->poll_at_ms = asking_when_lost(e->poll_at_ms, node_now_ms(n),
						 e->config.poll.without_broker_s * 1000, engine_random(e));
}

static void link_lost(struct engine *e, const char *why)
{
	uint64_t now = node_now_ms(&e->node), wait;

	push_is_lost(e);
	engine_link_end(e);
	gather_link_lost(&e->node);
	trial_link_lost(&e->node);
	if (now - e->link_started_ms > LINK_STABLE_MS)
		backoff_reset(&e->link_backoff);
	wait = backoff_next_ms(&e->link_backoff, engine_random(e));
	log_warning("link-lost", "it is started again in %llu ms: %s", (unsigned long long) wait, why);
	e->link_start_at_ms = now + wait;
}

static int link_spawn(struct engine *e, struct conf_error *ret_error)
{
	struct node *n = &e->node;
	char floor[24];
	const char *argv[] = { NULL, "--config-dir", e->config.dir, "--time-floor", floor, NULL, NULL, NULL };
	struct road_environment environment = { .count = 0 };
	char *program = NULL;
	int sv[2], r;

	r = config_program(&e->config, "selfright-link", &program, ret_error);
	if (r < 0)
		return r;
	argv[0] = program;
	if (enrol_tries_next(&e->enrol))
		argv[5] = "--next-pair";
	if (anchors_tries_next(&e->anchors))
		argv[argv[5] ? 6 : 5] = "--next-ca";
	e->floor_told = tuf_client_floor(n->tuf);
	(void) snprintf(floor, sizeof(floor), "%" PRId64, e->floor_told); /* always fits */
	r = config_road_environment(&e->config, &environment);
	if (r == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		r = -errno;
	if (r < 0) {
		road_environment_done(&environment);
		free(program);
		return r;
	}
	r = process_start(
		&(struct process_options){
			.argv = argv,
			.env = (const char *const *) environment.items,
			.user = n->as_root ? e->config.users.link : NULL,
			.die_with_parent = true,
			.stdin_fd = -1,
			.stdout_fd = STDERR_FILENO,
			.stderr_fd = STDERR_FILENO,
			.fds = { { sv[1], LINK_FD } },
			.fd_count = 1,
			.memory_max = LINK_MEMORY_MAX,
			.no_new_privs = true,
		},
		&e->link);
	close(sv[1]);
	road_environment_done(&environment);
	free(program);
	if (r < 0) {
		close(sv[0]);
		return r;
	}
	frame_conn_init(&e->link_conn, sv[0], LINK_FRAME_MAX);
	n->link = &e->link_conn;
	(void) snprintf(n->link_reason, sizeof(n->link_reason), "starting");
	return 0;
}

static void link_start(struct engine *e)
{
	struct conf_error error = { "" };
	int r = link_spawn(e, &error);

	e->link_started_ms = node_now_ms(&e->node);
	if (r < 0) {
		link_lost(e, error.text[0] ? error.text : err_text(r));
		return;
	}
	e->link_start_at_ms = UINT64_MAX;
	e->node.report_wanted = true; /* whatever the last link had not sent */
	log_info("link-started", "pid=%d", (int) e->link.pid);
}

void engine_link_step(struct engine *e)
{
	struct node *n = &e->node;
	int status = 0;

	if (e->link.pid && process_poll(&e->link, &status) != 0) {
		e->link = (struct process){ 0 };
		link_lost(e, "it ended");
	}
	if (n->link_restart_wanted) {
		n->link_restart_wanted = false;
		engine_link_end(e);
		e->link_start_at_ms = 0;
	}
	if (!n->link && !n->alone && node_now_ms(n) >= e->link_start_at_ms)
		link_start(e);
}

/* Certificates are judged by it: a link whose clock is in 1970 learns the time from what was signed. */
void engine_link_tell_floor(struct engine *e)
{
	int64_t floor = tuf_client_floor(e->node.tuf);
	uint8_t bytes[8];

	if (!e->node.link || floor <= e->floor_told)
		return;
	e->floor_told = floor;
	for (int i = 0; i < 8; i++)
		bytes[i] = (uint8_t) ((uint64_t) floor >> (56 - 8 * i));
	node_link_send(&e->node, LINK_FLOOR, 0, bytes, sizeof(bytes));
}

/*
 * The one client id of this node is free only once the link has left: it says that another
 * agent follows, and goes without its will.
 */
void engine_link_leave(struct engine *e)
{
	struct node *n = &e->node;
	uint64_t end = node_now_ms(n) + LEFT_MS;
	int status;

	if (!n->link)
		return;
	node_link_send(n, LINK_LEAVE, 0, NULL, 0);
	while (n->link && frame_wants_write(&e->link_conn) && node_now_ms(n) < end) {
		struct pollfd p = { .fd = e->link_conn.fd, .events = POLLOUT };

		if (poll(&p, 1, (int) LEFT_MS / 10) > 0 && frame_pump(&e->link_conn, POLLOUT) < 0)
			break;
	}
	engine_link_close(e);
	while (e->link.pid && process_poll(&e->link, &status) == 0 && node_now_ms(n) < end) {
		static const struct timespec pause = { .tv_nsec = 20 * 1000 * 1000 };

		(void) nanosleep(&pause, NULL); /* cut short it is only looked at sooner */
	}
}

/* The same answer that `status` gets, for node_exporter's textfile collector. */
/* --- frames --- */

static int32_t error_at(const uint8_t *p)
{
	uint32_t v = (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16 | (uint32_t) p[2] << 8 | p[3];
	int32_t r;

	memcpy(&r, &v, sizeof(r));
	return r;
}

static void keep_words(char *out, size_t size, const uint8_t *words, size_t len)
{
	if (len >= size)
		len = size - 1;
	if (len > 0)
		memcpy(out, words, len);
	out[len] = '\0';
	for (char *p = out; *p; p++)
		if (*p < 0x20 || *p > 0x7e)
			*p = '?';
}

static void take_fetched(struct node *n, const struct frame *f)
{
	int r;

	if (f->id != n->fetch_id || n->fetch_answered || f->len < 4)
		return; /* an answer nobody waits for any more */
	buf_clear(&n->fetch_bytes);
	n->fetch_error = error_at(f->data);
	n->fetch_words[0] = '\0';
	if (n->fetch_error == 0) {
		r = buf_add(&n->fetch_bytes, f->data + 4, f->len - 4);
		n->fetch_error = r;
	} else {
		keep_words(n->fetch_words, sizeof(n->fetch_words), f->data + 4, f->len - 4);
	}
	n->fetch_answered = true;
}

static void take_saved(struct node *n, const struct frame *f)
{
	struct attempt *t = &n->attempt;
	uint64_t bytes = 0;

	if (f->id != t->save_id || f->id == 0 || f->len < 13)
		return; /* of something nobody wants any more */
	for (int i = 0; i < 8; i++)
		bytes = bytes << 8 | f->data[5 + i];
	t->save_error = error_at(f->data + 1);
	t->save_over = f->data[0] == 1;
	if (t->save_error == 0)
		t->bytes_done = bytes;
	if (t->save_over)
		t->wake_ms = node_now_ms(n);
}

static void take_state(struct engine *e, const struct frame *f)
{
	struct node *n = &e->node;
	bool connected = f->len > 0 && f->data[0] == 1;

	keep_words(n->link_reason, sizeof(n->link_reason), f->len > 0 ? f->data + 1 : NULL,
		   f->len > 0 ? f->len - 1 : 0);
	if (f->len > 0 && f->data[0] == 2)
		enrol_refused(&e->enrol);
	if (connected && !n->link_connected) {
		n->report_wanted = true; /* both sides may have moved on meanwhile */
		e->poll_at_ms = asking_when_connected(e->poll_at_ms, node_now_ms(n), n->polled_ms,
						      e->config.poll.without_broker_s * 1000, engine_random(e));
	} else if (!connected) {
		push_is_lost(e);
	}
	n->link_connected = connected;
}

static void enqueue(struct engine *e, const struct frame *f)
{
	struct message *m;

	if (e->inbox_count >= ENGINE_INBOX_MAX || e->inbox_bytes + f->len > INBOX_BYTES_MAX) {
		log_warning("inbox-full", "a message of the link was dropped: type=%u", f->type);
		return;
	}
	m = &e->inbox[e->inbox_count];
	m->type = f->type;
	buf_init(&m->bytes, f->len);
	if (f->len > 0 && buf_add(&m->bytes, f->data, f->len) < 0)
		return;
	e->inbox_count++;
	e->inbox_bytes += f->len;
}

static void on_frame(struct engine *e, const struct frame *f)
{
	struct node *n = &e->node;

	switch (f->type) {
	case LINK_FETCHED:
		take_fetched(n, f);
		break;
	case LINK_STATE:
		take_state(e, f);
		break;
	case LINK_ENROLLED:
		enrol_take(&e->enrol, f->id, f->data, f->len);
		break;
	case LINK_SAVED:
		take_saved(n, f);
		break;
	case LINK_TRIED:
		trial_take(n, f);
		break;
	case LINK_ANNOUNCE:
		receive_announcement(n, f->data, f->len);
		break;
	case LINK_TIMESTAMP:
		receive_timestamp(n, f->data, f->len);
		break;
	case LINK_MISSED:
		e->poll_at_ms = asking_when_missed(e->poll_at_ms, node_now_ms(n), n->polled_ms, engine_random(e));
		break;
	case LINK_PUT_WANT:
		gather_block(n, f->id, f->data, f->len);
		break;
	case LINK_ACK:
	case LINK_GRANT:
	case LINK_RECEIPT:
		enqueue(e, f); /* these change the state, which others may be in the middle of */
		break;
	default:
		log_warning("link-frame", "a frame of an unknown kind: type=%u", f->type);
		break;
	}
}

static void pump(struct engine *e, short revents)
{
	struct frame f;
	int r = frame_pump(&e->link_conn, revents);

	while (e->node.link) {
		int got = frame_next(&e->link_conn, &f);

		if (got < 0)
			r = got;
		if (got <= 0)
			break;
		on_frame(e, &f);
	}
	if (r < 0)
		link_lost(e, err_text(r));
}

void engine_link_obey(struct engine *e)
{
	for (size_t i = 0; i < e->inbox_count; i++) {
		struct message *m = &e->inbox[i];

		if (m->type == LINK_ACK)
			report_acknowledge(&e->node, m->bytes.data, m->bytes.len);
		else if (m->type == LINK_RECEIPT)
			gather_receipt(&e->node, m->bytes.data, m->bytes.len);
		else
			report_grant(&e->node, m->bytes.data, m->bytes.len);
		buf_done(&m->bytes);
	}
	e->inbox_count = e->inbox_bytes = 0;
}

struct pollfd engine_link_prepare(const struct engine *e)
{
	const struct node *n = &e->node;

	return (struct pollfd){
		.fd = n->link ? e->link_conn.fd : -1,
		.events = (short) (POLLIN | (n->link && frame_wants_write(&e->link_conn) ? POLLOUT : 0)),
	};
}

void engine_link_turn(struct engine *e, short revents)
{
	if (e->node.link && (revents || frame_wants_write(&e->link_conn)))
		pump(e, revents);
}
