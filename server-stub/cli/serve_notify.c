/*
 * Who outside is told what happens: hooks of DIR/notify.yaml, each with its place in the timeline. The timeline is the
 * queue: it is on the disk already, and a hook's place moves on when its server took the message. So nothing is lost by a
 * crash (a message may come twice; events have numbers), nothing grows while a server is away, and the loop waits for
 * nobody: a program of its own (selfright-notify) sends. What is a day old is left out, and said to be.
 */
#include "base/backoff.h"
#include "base/err.h"
#include "base/log.h"
#include "conf/conf.h"
#include "json/build.h"
#include "json/json.h"
#include "server-stub/cli/helper.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/cli/serve_handlers.h"
#include "server-stub/cli/watched_file.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_events.h"
#include "server-stub/ingest/db_hooks.h"
#include "server-stub/rollout/hooks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum {
	TOLD_S = 24 * 3600, /* nobody acts on older ones */
	LOOK_MS = 1000, /* at the file */
	SPACING_MS =
		1000, /* between two messages of a hook: what chats allow; events that come meanwhile share one */
	LEFT_ALONE_MAX_S = 900, /* as long as the backoff gets */
	DEADLINE_MS = 40000, /* of the program; its own are shorter */
	SCAN_ROWS = 1000, /* of the timeline at once */
	ANSWER_MAX = 16 * 1024,
	ERROR_MAX = 512,
};

struct kept_event {
	int64_t id, at;
	char *kind, *node, *component, *text;
};

struct channel {
	char name[ID_MAX + 1];
	int64_t event; /* up to this one everything is told, or not of interest */
	uint64_t sent, left_out, failures, attempts;
	int64_t sent_at, failing_since;
	char error[ERROR_MAX];
	uint64_t left_out_now; /* passed by already, to be told with the next message */
	int64_t under_way; /* the last event of the message that is being sent */
	uint64_t left_out_under_way;
	size_t count_under_way;
	uint64_t next_ms;
	struct backoff backoff;
	struct helper helper;
};

struct notifier {
	struct watched_file file;
	char file_error[ERROR_MAX]; /* "": it can be read */
	uint64_t look_ms;
	struct hooks hooks;
	struct channel channels[HOOKS_MAX]; /* as many as hooks, in their order */
};

/* --- the places, in the database --- */

static int keep(struct serve *s, const struct channel *c)
{
	int r = db_hook_set(s->db, &(struct db_hook){ .name = c->name,
						      .event = c->event,
						      .sent = c->sent,
						      .left_out = c->left_out,
						      .failures = c->failures,
						      .sent_at = c->sent_at,
						      .failing_since = c->failing_since,
						      .error = c->error });

	if (r < 0)
		log_error("notify", "hook=%s its place is not stored: %s (%s)", c->name, err_text(r),
			  db_error(s->db));
	return r;
}

static int restore_place(void *user, const struct db_hook *row)
{
	struct notifier *n = user;

	for (size_t i = 0; i < n->hooks.count; i++) {
		struct channel *c = &n->channels[i];

		if (strcmp(c->name, row->name) != 0)
			continue;
		c->event = row->event;
		c->sent = row->sent;
		c->left_out = row->left_out;
		c->failures = row->failures;
		c->sent_at = row->sent_at;
		c->failing_since = row->failing_since;
		snprintf(c->error, sizeof(c->error), "%s", row->error);
	}
	return 0;
}

struct gone {
	const struct notifier *n;
	struct string_list names;
};

static int find_gone(void *user, const struct db_hook *row)
{
	struct gone *g = user;

	for (size_t i = 0; i < g->n->hooks.count; i++)
		if (strcmp(g->n->channels[i].name, row->name) == 0)
			return 0;
	return string_list_add(&g->names, row->name);
}

/* One that is taken out of the file and put back later begins anew. */
static int forget_gone(struct serve *s, const struct notifier *n)
{
	struct gone g = { .n = n };
	int r = db_hooks(s->db, find_gone, &g);

	for (size_t i = 0; r == 0 && i < g.names.count; i++)
		r = db_hook_remove(s->db, g.names.items[i]);
	string_list_done(&g.names);
	return r;
}

/* A new hook hears what happens from now on. */
static int find_places(struct serve *s, struct notifier *n)
{
	int r;

	for (size_t i = 0; i < n->hooks.count; i++) {
		n->channels[i] = (struct channel){ .event = -1, .backoff = { .base_ms = 5000, .cap_ms = 900000 } };
		snprintf(n->channels[i].name, sizeof(n->channels[i].name), "%s", n->hooks.items[i].name);
	}
	r = db_hooks(s->db, restore_place, n);
	if (r == 0)
		r = forget_gone(s, n);
	for (size_t i = 0; r == 0 && i < n->hooks.count; i++)
		if (n->channels[i].event < 0) {
			n->channels[i].event = db_last_event(s->db);
			r = keep(s, &n->channels[i]);
		}
	return r;
}

/* --- the file --- */

static void drop_channels(struct notifier *n)
{
	for (size_t i = 0; i < n->hooks.count; i++)
		helper_done(&n->channels[i].helper);
	hooks_done(&n->hooks);
}

static void read_file(struct serve *s, struct notifier *n)
{
	CLEANUP(conf_file_freep)
	struct conf_file *f = NULL;
	struct conf_error e = { "" };
	char path[PATH_MAX];
	int r = 0;

	if (!watched_file_changed(&n->file, s->options.dir, "notify.yaml"))
		return;
	/* A message under way is sent again: its place has not moved. */
	drop_channels(n);
	n->file_error[0] = '\0';
	if (!n->file.there)
		return;
	snprintf(path, sizeof(path), "%s/notify.yaml", s->options.dir);
	r = conf_load(path, &f, &e);
	if (r == 0)
		r = hooks_read(conf_root(f), &n->hooks, &e);
	if (r == 0)
		r = find_places(s, n);
	if (r < 0) {
		snprintf(n->file_error, sizeof(n->file_error), "%s", e.text[0] ? e.text : err_text(r));
		log_error("notify-file", "nobody is told anything: %s", n->file_error);
		hooks_done(&n->hooks);
		/* What is wrong in the file stays so until it changes; a database that failed is asked again. */
		if (!e.text[0])
			n->file = (struct watched_file){ .there = false };
		return;
	}
	log_notice("notify-file", "hooks=%zu", n->hooks.count);
}

static struct notifier *notifier_of(struct serve *s)
{
	struct notifier *n = s->notifier;

	if (!n)
		n = s->notifier = calloc(1, sizeof(*n));
	if (n && serve_now_ms(s) >= n->look_ms) {
		n->look_ms = serve_now_ms(s) + LOOK_MS;
		read_file(s, n);
	}
	return n;
}

/* --- a message --- */

struct gathering {
	const struct hook *hook;
	int64_t now, scanned;
	size_t rows;
	uint64_t left_out;
	struct kept_event events[HOOK_EVENTS_MAX];
	size_t count;
};

static void gathering_done(struct gathering *g)
{
	for (size_t i = 0; i < g->count; i++) {
		free(g->events[i].kind);
		free(g->events[i].node);
		free(g->events[i].component);
		free(g->events[i].text);
	}
}

static int copy(const char *text, char **ret)
{
	*ret = text ? strdup(text) : NULL;
	return text && !*ret ? -ENOMEM : 0;
}

static int gather(void *user, const struct db_event *row)
{
	struct gathering *g = user;
	const struct hook_event e = { .id = row->id,
				      .at = row->at,
				      .kind = row->kind,
				      .node = row->node,
				      .component = row->component,
				      .text = row->text };
	struct kept_event *k;
	int r;

	g->rows++;
	if (!hook_wants(g->hook, &e)) {
		g->scanned = row->id;
		return 0;
	}
	if (g->now - row->at > TOLD_S) {
		g->left_out++;
		g->scanned = row->id;
		return 0;
	}
	if (g->count == HOOK_EVENTS_MAX)
		return 1;
	k = &g->events[g->count++];
	*k = (struct kept_event){ .id = row->id, .at = row->at };
	r = copy(row->kind, &k->kind);
	if (r == 0)
		r = copy(row->node, &k->node);
	if (r == 0)
		r = copy(row->component, &k->component);
	if (r == 0)
		r = copy(row->text, &k->text);
	g->scanned = row->id;
	return r;
}

/* As many of the events as fit, the oldest first; *ret_count says how many. */
static int write_body(const struct serve *s, const struct gathering *g, uint64_t left_out, struct buf *ret,
		      size_t *ret_count)
{
	struct hook_event events[HOOK_EVENTS_MAX];
	size_t count = g->count;
	int r;

	for (size_t i = 0; i < count; i++)
		events[i] = (struct hook_event){ .id = g->events[i].id,
						 .at = g->events[i].at,
						 .kind = g->events[i].kind,
						 .node = g->events[i].node,
						 .component = g->events[i].component,
						 .text = g->events[i].text };
	for (;;) {
		buf_clear(ret);
		r = hook_message(g->hook, s->fleet, events, count, left_out, ret);
		if (r != -ERR_TOO_LARGE || count <= 1)
			break;
		count /= 2;
	}
	*ret_count = count;
	return r;
}

static int write_question(const struct notifier *n, const struct hook *h, const char *body, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b);

	if (h->url)
		node_string(o, "url", h->url);
	if (h->url_file)
		node_string(o, "url_file", h->url_file);
	if (h->secret_file)
		node_string(o, "secret_file", h->secret_file);
	if (h->ca_file)
		node_string(o, "ca_file", h->ca_file);
	if (n->hooks.proxy)
		node_string(o, "proxy", n->hooks.proxy);
	node_string(o, "body", body);
	return json_build_text(b, false, out);
}

/* `left_alone_s`: what its server asked for, and no longer than LEFT_ALONE_MAX_S; 0: nothing. */
static void failed(struct serve *s, struct channel *c, uint64_t left_alone_s, const char *why)
{
	uint64_t jitter = 0, wait_ms, asked_ms = left_alone_s * 1000;

	(void) s->os->random(s->os, &jitter, sizeof(jitter)); /* without it all wait equally long */
	if (c->failures == 0) {
		c->failing_since = serve_now(s);
		log_warning("notify-failed", "hook=%s: %s; it is tried again", c->name, why);
	}
	c->failures++;
	snprintf(c->error, sizeof(c->error), "%s", why);
	wait_ms = SPACING_MS + backoff_next_ms(&c->backoff, jitter);
	c->next_ms = serve_now_ms(s) + (asked_ms > wait_ms ? asked_ms : wait_ms);
	(void) keep(s, c); /* said there; what is known here is enough until the next start */
}

static void send_message(struct serve *s, const struct notifier *n, const struct hook *h, struct channel *c,
			 const struct gathering *g)
{
	CLEANUP(buf_done)
	struct buf body = BUF_INIT(HOOK_MESSAGE_MAX), question = BUF_INIT(4 * HOOK_MESSAGE_MAX);
	size_t count;
	uint64_t left_out = c->left_out_now + g->left_out;
	int r = write_body(s, g, left_out, &body, &count);

	if (r == -ERR_TOO_LARGE) { /* a single one; the others are not to wait for it */
		c->event = g->events[0].id;
		c->left_out_now = left_out + 1;
		return;
	}
	c->under_way = count < g->count ? g->events[count - 1].id : g->scanned;
	c->count_under_way = count;
	c->left_out_under_way = left_out;
	if (r == 0)
		r = write_question(n, h, buf_str(&body), &question);
	if (r == 0)
		r = helper_start("selfright-notify", &question, ANSWER_MAX, serve_now_ms(s) + DEADLINE_MS,
				 &c->helper);
	if (r < 0)
		failed(s, c, 0, err_text(r));
}

static void take_answer(struct serve *s, struct channel *c, int status)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const char *text;
	uint64_t left_alone = 0;
	char words[64], why[160];

	c->attempts++;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		snprintf(why, sizeof(why), "the program that sends %s",
			 process_status_text(status, words, sizeof(words)));
		failed(s, c, 0, why);
		return;
	}
	if (json_parse(c->helper.answer.data, c->helper.answer.len, &json_limits_default, &doc) < 0) {
		failed(s, c, 0, "the program that sends gave no answer");
		return;
	}
	if (!json_bool(json_get(doc, "taken"), false)) {
		text = json_string(json_get(doc, "text"));
		if (json_optional_u64(doc, "retry_after", 0, LEFT_ALONE_MAX_S, &left_alone) < 0)
			left_alone = LEFT_ALONE_MAX_S;
		failed(s, c, left_alone, text && *text ? text : "it was not taken");
		return;
	}
	if (c->failures > 0)
		log_notice("notify-works", "hook=%s: it works again", c->name);
	c->event = c->under_way;
	c->sent += c->count_under_way;
	c->left_out += c->left_out_under_way;
	c->left_out_now = 0;
	c->sent_at = serve_now(s);
	c->failures = 0;
	c->failing_since = 0;
	c->error[0] = '\0';
	backoff_reset(&c->backoff);
	c->next_ms = serve_now_ms(s) + SPACING_MS;
	(void) keep(s, c); /* said there; a start before the next message sends this one again */
}

static void begin(struct serve *s, const struct notifier *n, const struct hook *h, struct channel *c)
{
	struct gathering g = { .hook = h, .now = serve_now(s), .scanned = c->event };
	int r = db_events_after(s->db, c->event, SCAN_ROWS, gather, &g);

	if (r == 0 && g.count > 0) {
		send_message(s, n, h, c, &g);
	} else if (r == 0) {
		c->event = g.scanned;
		c->left_out_now += g.left_out;
		if (g.rows == SCAN_ROWS)
			r = keep(s, c);
	}
	if (r < 0)
		c->next_ms = serve_now_ms(s) + SPACING_MS;
	gathering_done(&g);
}

void notify_tick(struct serve *s)
{
	struct notifier *n = notifier_of(s);

	for (size_t i = 0; n && i < n->hooks.count; i++) {
		struct channel *c = &n->channels[i];
		int status = 0, ended;

		if (c->helper.busy) {
			ended = helper_poll(&c->helper, serve_now_ms(s), &status);
			if (ended == 0)
				continue;
			if (ended > 0)
				take_answer(s, c, status);
			else
				failed(s, c, 0, "the program that sends is lost");
			helper_done(&c->helper);
		}
		/* What is not on the disk yet may never have happened. */
		if (!s->batch && c->event < db_last_event(s->db) && serve_now_ms(s) >= c->next_ms)
			begin(s, n, &n->hooks.items[i], c);
	}
}

void notify_shorten(const struct serve *s, int *timeout_ms)
{
	const struct notifier *n = s->notifier;

	for (size_t i = 0; n && i < n->hooks.count; i++)
		if (n->channels[i].helper.busy && *timeout_ms > HELPER_BUSY_MS)
			*timeout_ms = HELPER_BUSY_MS;
}

void notify_done(struct serve *s)
{
	if (!s->notifier)
		return;
	drop_channels(s->notifier);
	free(s->notifier);
	s->notifier = NULL;
}

unsigned notify_failing(const struct serve *s)
{
	const struct notifier *n = s->notifier;
	unsigned count = n && n->file_error[0];

	for (size_t i = 0; n && i < n->hooks.count; i++)
		count += n->channels[i].failures > 0;
	return count;
}

/* --- asked by people --- */

static void write_channel(struct json_node *o, const struct channel *c)
{
	node_string(o, "name", c->name);
	node_integer(o, "event", c->event);
	node_integer(o, "sent", (int64_t) c->sent);
	node_integer(o, "left_out", (int64_t) c->left_out);
	node_time(o, "sent_at", c->sent_at);
	node_integer(o, "attempts", (int64_t) c->attempts);
	node_integer(o, "failures", (int64_t) c->failures);
	node_time(o, "failing_since", c->failing_since);
	node_string(o, "error", c->error[0] ? c->error : NULL);
}

void notify_get(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct serve *s = user;
	struct notifier *n = notifier_of(s);
	struct json_node *list = node_array(json_build_root(b), "hooks");

	node_bool(json_build_root(b), "configured", n && n->file.there);
	node_string(json_build_root(b), "error", n && n->file_error[0] ? n->file_error : NULL);
	node_integer(json_build_root(b), "last_event", db_last_event(s->db));
	for (size_t i = 0; n && i < n->hooks.count; i++)
		write_channel(node_object(list, NULL), &n->channels[i]);
	answer(rq, 200, b);
}

static struct channel *find_channel(struct notifier *n, const char *name)
{
	for (size_t i = 0; n && i < n->hooks.count; i++)
		if (strcmp(n->channels[i].name, name) == 0)
			return &n->channels[i];
	return NULL;
}

void notify_test_post(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	struct notifier *n = notifier_of(s);
	const char *name = doc ? id_arg(rq, 0, "hook") : NULL;
	struct channel *c;
	char text[300];
	int r;

	if (!name)
		return;
	c = find_channel(n, name);
	if (!c) {
		web_fail(rq, n && n->file_error[0] ? 422 : 404,
			 n && n->file_error[0] ? "%s"
					       : "notify.yaml in the fleet's folder names no hook '%s'; "
						 "selfright-notify.yaml(5) shows one",
			 n && n->file_error[0] ? n->file_error : name);
		return;
	}
	snprintf(text, sizeof(text), "a test of the hook %s, by %s", name, by_of(doc));
	r = db_begin(s->db);
	if (r == 0)
		r = serve_record(s, HOOK_TEST_KIND, NULL, name, text, by_of(doc), HOOK_TEST_KIND, name);
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	if (r < 0) {
		fail_database(s, rq, r);
		return;
	}
	c->next_ms = 0; /* somebody waits */
	node_string(json_build_root(b), "name", name);
	node_integer(json_build_root(b), "event", db_last_event(s->db));
	node_integer(json_build_root(b), "attempts", (int64_t) c->attempts);
	answer(rq, 201, b);
}
