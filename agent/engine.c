#include "agent/engine.h"

#include "agent/console.h"
#include "agent/install.h"
#include "agent/phase/facts.h"
#include "agent/phase/manifest.h"
#include "agent/phase/outcome.h"
#include "agent/rehearse.h"
#include "agent/anchors.h"
#include "agent/enrol.h"
#include "agent/link/protocol.h"
#include "agent/local/asking.h"
#include "agent/local/control.h"
#include "agent/local/inhibit.h"
#include "agent/local/service.h"
#include "agent/metrics.h"
#include "agent/phase/node.h"
#include "agent/phase/phase.h"
#include "agent/phase/self.h"
#include "agent/phase/measures.h"
#include "agent/phase/watches.h"
#include "agent/probe/probe.h"
#include "agent/store/agents.h"
#include "agent/store/collect.h"
#include "agent/store/generation.h"
#include "agent/store/recover.h"
#include "agent/trial.h"
#include "agent/update.h"
#include "base/backoff.h"
#include "base/err.h"
#include "base/log.h"
#include "base/program.h"
#include "conf/conf.h"
#include "crypto/key.h"
#include "json/json.h"
#include "fetch/bundle.h"
#include "os/durable.h"
#include "os/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

enum {
	FDS_MAX = 1 + CONTROL_FDS_MAX + SERVICES_FDS_MAX + INHIBIT_FDS_MAX + 2 +
		  (PARTS_MAX + WATCHES_MAX + MEASURES_MAX) * PROBE_FDS_PER_CHECK * RELEASE_CHECKS_MAX,
	INBOX_MAX = 64,
	INBOX_BYTES_MAX = 4 * 1024 * 1024,
	FIRST_POLL_JITTER_MS = 300,
	PUSH_SPACING_MS = 300,
	LOG_BURST = 300, /* lines of one event at once, */
	LOG_PER_MINUTE = 60, /* and then */
	REPORT_SPACING_MS = 100,
	REPORT_AGAIN_MS = 5000,
	IDENTITY_MAX = 16 * 1024,
	ROOT_MAX = 512 * 1024,
	LINK_MEMORY_MAX = 512 * 1024 * 1024,
	LINK_STABLE_MS = 60 * 1000,
	REASONS_SPACING_MS = 2 * 1000, /* how often a changed reason alone is worth a report */
	LEFT_MS = 5 * 1000, /* how long a link may take to leave */
	COLLECT_DATA_MS = 3600 * 1000,
};

struct message {
	uint16_t type;
	struct buf bytes;
};

struct engine {
	struct node node;
	struct config config;
	struct node_state *state;
	struct control *control;

	struct frame_conn link_conn;
	struct process link;
	uint64_t link_started_ms, link_start_at_ms; /* start it then; UINT64_MAX: it runs */
	struct backoff link_backoff;
	int64_t floor_told; /* the time floor the link knows */
	struct enrol enrol;
	struct anchors anchors;
	struct pair_owner pair_owner; /* the link's user */

	struct message inbox[INBOX_MAX];
	size_t inbox_count, inbox_bytes;

	uint64_t poll_at_ms, push_at_ms;
	unsigned push_failures;
	bool report_failed; /* the last one could not be noted or signed */
	uint32_t reasons; /* what the last report said of why and wants, as a hash */
	uint64_t reasons_at_ms; /* looked at again from then on */
	bool reasons_due; /* something happened since they were looked at */
	uint64_t metrics_at_ms; /* the textfile is written again then */
	int metrics_error; /* why the last one was not; told when it changes */
	uint64_t collect_at_ms; /* old copies of data */
	struct backoff poll_backoff;
	struct rehearsal rehearsal;
	char start_failure[512]; /* why it could not start; "": it could */
	const struct engine_install *install; /* this run is for a bundle alone; NULL: it is the agent */
};

static volatile sig_atomic_t stop_signal;

static void on_signal(int sig)
{
	stop_signal = sig;
}

static uint64_t random_u64(const struct os *os)
{
	uint64_t value = 0;

	return os->random(os, &value, sizeof(value)) < 0 ? 0 : value;
}

/* --- the link process --- */

static void link_close(struct engine *e)
{
	struct node *n = &e->node;

	if (n->link)
		frame_conn_done(&e->link_conn);
	n->link = NULL;
	n->link_connected = false;
	(void) snprintf(n->link_reason, sizeof(n->link_reason), "the link process is not running");
}

static void link_end(struct engine *e)
{
	link_close(e);
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
						 e->config.poll.without_broker_s * 1000, random_u64(n->os));
}

static void link_lost(struct engine *e, const char *why)
{
	uint64_t now = node_now_ms(&e->node), wait;

	push_is_lost(e);
	link_end(e);
	gather_link_lost(&e->node);
	trial_link_lost(&e->node);
	if (now - e->link_started_ms > LINK_STABLE_MS)
		backoff_reset(&e->link_backoff);
	wait = backoff_next_ms(&e->link_backoff, random_u64(e->node.os));
	log_warning("link-lost", "it is started again in %llu ms: %s", (unsigned long long) wait, why);
	e->link_start_at_ms = now + wait;
}

/* Address sanitizer reserves terabytes of address space that are never used. */
static uint64_t link_memory_max(void)
{
#if defined(__SANITIZE_ADDRESS__)
	return 0;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
	return 0;
#else
	return LINK_MEMORY_MAX;
#endif
#else
	return LINK_MEMORY_MAX;
#endif
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
			.memory_max = link_memory_max(),
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
						      e->config.poll.without_broker_s * 1000, random_u64(n->os));
	} else if (!connected) {
		push_is_lost(e);
	}
	n->link_connected = connected;
}

static void enqueue(struct engine *e, const struct frame *f)
{
	struct message *m;

	if (e->inbox_count >= INBOX_MAX || e->inbox_bytes + f->len > INBOX_BYTES_MAX) {
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
		e->poll_at_ms = asking_when_missed(e->poll_at_ms, node_now_ms(n), n->polled_ms, random_u64(n->os));
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

static void pump_link(struct engine *e, short revents)
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

static void empty_inbox(struct engine *e)
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

/* --- one turn of the loop --- */

static size_t prepare(struct engine *e, struct pollfd *fds, size_t *ret_control, size_t *ret_control_count,
		      int *timeout_ms)
{
	struct node *n = &e->node;
	size_t count = 0;

	/* The link's place is always the first; a negative descriptor is passed over by poll. */
	fds[count++] = (struct pollfd){
		.fd = n->link ? e->link_conn.fd : -1,
		.events = (short) (POLLIN | (n->link && frame_wants_write(&e->link_conn) ? POLLOUT : 0)),
	};
	*ret_control = count;
	*ret_control_count = control_prepare(e->control, fds + count);
	count += *ret_control_count;
	count += services_prepare(n->services, fds + count, SERVICES_FDS_MAX);
	count += inhibitors_prepare(n->inhibitors, fds + count);
	if (n->attempt.stage_fd >= 0)
		fds[count++] = (struct pollfd){ .fd = n->attempt.stage_fd, .events = POLLIN };
	if (n->attempt.command.fd >= 0)
		fds[count++] = (struct pollfd){ .fd = n->attempt.command.fd, .events = POLLIN };
	for (size_t i = 0; i < PARTS_MAX; i++)
		if (n->attempt.checks[i].set)
			count += probe_set_prepare(n->attempt.checks[i].set, fds + count, FDS_MAX - count,
						   node_now_ms(n), timeout_ms);
	count += watches_prepare(n, fds + count, FDS_MAX - count, timeout_ms);
	count += measures_prepare(n, fds + count, FDS_MAX - count, timeout_ms);
	return count;
}

/* What is watched beside the update under way. */
static uint64_t follow_watches(struct node *n)
{
	char why[STATE_DETAIL_SIZE];
	uint64_t next = watches_step(n);
	const char *failed = watches_failed(n, why, sizeof(why));

	if (failed)
		update_regress(n, failed, why);
	return next;
}

/* Wait for something and take in what came; with `nested` nothing but the console's readers sees an effect. */
static void turn(struct engine *e, int timeout_ms, bool nested)
{
	struct node *n = &e->node;
	struct pollfd fds[FDS_MAX];
	size_t control = 0, control_count = 0, count;
	sigset_t none;
	struct timespec t;

	count = prepare(e, fds, &control, &control_count, &timeout_ms);
	t = (struct timespec){ .tv_sec = timeout_ms / 1000, .tv_nsec = (long) (timeout_ms % 1000) * 1000000 };
	sigemptyset(&none);
	if (ppoll(fds, count, timeout_ms < 0 ? NULL : &t, &none) < 0) {
		static const struct timespec pause = { .tv_nsec = 20 * 1000 * 1000 };

		/* A kernel that lacks memory even for this must not cost a whole processor as well. */
		if (errno != EINTR)
			(void) nanosleep(&pause, NULL); /* cut short it is only tried sooner */
		for (size_t i = 0; i < count; i++)
			fds[i].revents = 0;
	}
	if (n->link && (fds[0].revents || frame_wants_write(&e->link_conn)))
		pump_link(e, fds[0].revents);
	control_step(e->control, fds + control, control_count, nested);
	if (nested) {
		(void) services_step(n->services, node_now_ms(n)); /* the next turn asks again */
		for (size_t i = 0; i < PARTS_MAX; i++)
			if (n->attempt.checks[i].set)
				probe_set_step(n->attempt.checks[i].set, node_now_ms(n));
	}
}

/* While a phase waits for a file. */
static void pump(struct node *n, int timeout_ms)
{
	struct engine *e = n->engine;

	n->stopping = stop_signal != 0;
	if (stop_signal) {
		/* The fetch ends as if the link had gone: what follows a stop is a start. */
		link_close(e);
		return;
	}
	turn(e, timeout_ms, true);
}

/* --- refreshing --- */

static uint64_t poll_interval_ms(const struct engine *e)
{
	uint64_t s = e->node.link_connected && e->config.broker.host ? e->config.poll.with_broker_s
								     : e->config.poll.without_broker_s;

	/* A tenth around it, so that a fleet started together does not ask together for ever. */
	return s * 900 + random_u64(e->node.os) % (s * 200 + 1);
}

static void set_clock(struct node *n)
{
	struct timex t = { .modes = 0 };

	tuf_client_set_synchronised(n->tuf, adjtimex(&t) != TIME_ERROR);
}

/* Certificates are judged by it: a link whose clock is in 1970 learns the time from what was signed. */
static void tell_floor(struct engine *e)
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

static void refresh(struct engine *e, bool pushed)
{
	struct node *n = &e->node;
	bool again = !n->docs.loaded || n->refresh_error < 0, without;
	int r;

	set_clock(n);
	r = phase_receive(n, pushed);
	tell_floor(e);
	/* With no road at a start, what was trusted before still holds. */
	without = r < 0 && !n->docs.loaded && tuf_client_targets_signed(n->tuf);
	if (r > 0 || (r == 0 && again) || without)
		r = phase_verify(n) < 0 || n->refresh_error < 0 ? -ERR_REFUSED : r;
	if (self_replace_root(n))
		n->refresh_wanted = true; /* from the other one's repository, at once */
	if (pushed) {
		e->push_failures = r < 0 ? e->push_failures + (e->push_failures < 6) : 0;
		e->push_at_ms = node_now_ms(n) + ((uint64_t) PUSH_SPACING_MS << e->push_failures);
		if (r >= 0)
			return;
		n->refresh_wanted = n->refresh_wanted || e->push_failures == 1;
		return;
	}
	if (r < 0) {
		uint64_t wait = backoff_next_ms(&e->poll_backoff, random_u64(n->os)) + 500;

		e->poll_at_ms = node_now_ms(n) + wait;
		return;
	}
	backoff_reset(&e->poll_backoff);
	e->poll_at_ms = node_now_ms(n) + poll_interval_ms(e);
}

static void refresh_if_due(struct engine *e)
{
	struct node *n = &e->node;
	uint64_t now = node_now_ms(n);

	/* What the node is to run is not for a machine that is not the node yet; a stick is another matter. */
	if (enrol_waits(&e->enrol))
		return;
	if (n->push_wanted && now >= e->push_at_ms && n->link) {
		n->push_wanted = false;
		refresh(e, true);
	}
	if ((n->refresh_wanted || now >= e->poll_at_ms) && n->link) {
		n->refresh_wanted = false;
		refresh(e, false);
	}
}

/* What the network's refusals mean for the report: metadata that is expired or by the wrong keys is said, a cut cable is not. */
static void tell_refusal(struct node *n)
{
	struct tuf_state trust = { 0 };
	enum result number;

	tuf_client_state(n->tuf, &trust);
	if (trust.clock_ahead &&
	    update_note(
		    n, RESULT_CLOCK_AHEAD, NULL, NULL,
		    "the clock here would have expired a newer signed time; that time goes on counting instead") <
		    0)
		log_error("clock-not-noted", "the clock runs ahead");
	if (n->refresh_error >= 0)
		return;
	number = catalogue_from_error(n->refresh_error);
	if (number != RESULT_METADATA_STALE && (number < RESULT_SIGNATURE_INVALID || number >= RESULT_SUPERSEDED))
		return;
	if (update_note(n, number, NULL, NULL, n->refresh_text) < 0)
		log_error("refusal-not-noted", "%s", n->refresh_text);
}

static void earlier(uint64_t *at, uint64_t other)
{
	if (other < *at)
		*at = other;
}

/* When the next report goes out, as long as there is a link to carry it. */
static uint64_t report_due(const struct engine *e)
{
	const struct node *n = &e->node;
	uint64_t spacing = e->report_failed ? REPORT_AGAIN_MS : REPORT_SPACING_MS;

	return n->reported_ms + (n->report_wanted ? spacing : e->config.report_s * 1000);
}

static uint32_t add_hash(uint32_t hash, const char *text)
{
	do
		hash = (hash ^ (uint8_t) *text) * 16777619u;
	while (*text++);
	return hash;
}

/* Why each component is what it is, and what it wants: what a report says of them. */
static uint32_t hash_reasons(struct node *n)
{
	struct string_list names = { 0 };
	uint32_t hash = 2166136261u;

	if (node_components(n, &names) == 0)
		for (size_t i = 0; i < names.count; i++) {
			struct decision d = node_decide(n, names.items[i]);

			hash = add_hash(hash, names.items[i]);
			hash = add_hash(hash, reason_name(d.reason));
			hash = add_hash(hash, d.kind != DECIDE_STAY && d.version ? d.version : "");
		}
	string_list_done(&names);
	return hash;
}

/*
 * A reason that changed is news to those who ask why a rollout does not move. While an
 * update is between its stop and its verdict the others are merely busy: its result brings
 * a report anyway.
 */
static void follow_reasons(struct engine *e)
{
	struct node *n = &e->node;
	uint64_t now = node_now_ms(n);

	if (node_is_busy(n))
		return;
	if (now < e->reasons_at_ms) {
		e->reasons_due = true;
		return;
	}
	e->reasons_due = false;
	e->reasons_at_ms = now + REASONS_SPACING_MS;
	if (hash_reasons(n) != e->reasons)
		n->report_wanted = true;
}

/*
 * The one client id of this node is free only once the link has left: it says that another
 * agent follows, and goes without its will.
 */
static void leave_for_another(struct engine *e)
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
	link_close(e);
	while (e->link.pid && process_poll(&e->link, &status) == 0 && node_now_ms(n) < end) {
		static const struct timespec pause = { .tv_nsec = 20 * 1000 * 1000 };

		(void) nanosleep(&pause, NULL); /* cut short it is only looked at sooner */
	}
}

/* The same answer that `status` gets, for node_exporter's textfile collector. */
static int write_metrics(struct engine *e)
{
	static const struct control_peer self = { .may_change = false };
	CLEANUP(buf_done)
	struct buf answer = BUF_INIT(CONTROL_MAX_BYTES), text = BUF_INIT(METRICS_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *request = NULL, *status = NULL;
	struct json_limits limits = json_limits_default;
	static const char ask[] = "{\"command\":\"status\"}";
	int r = json_parse(ask, sizeof(ask) - 1, &limits, &request);

	limits.max_bytes = CONTROL_MAX_BYTES;
	limits.max_values = 100000;
	if (r == 0) {
		console_answer(&e->node, &self, request, &answer);
		r = json_parse(answer.data, answer.len, &limits, &status);
	}
	if (r == 0)
		r = metrics_of_status(status, &text);
	return r < 0 ? r : metrics_write(e->node.os, e->config.metrics_file, &text);
}

static void write_metrics_if_due(struct engine *e)
{
	uint64_t now = node_now_ms(&e->node);
	int r;

	if (!e->config.metrics_file || now < e->metrics_at_ms)
		return;
	e->metrics_at_ms = now + e->config.metrics_every_s * 1000;
	r = write_metrics(e);
	if (r < 0 && r != e->metrics_error)
		log_warning("metrics-not-written", "file=%s reason=%s", e->config.metrics_file, err_text(r));
	e->metrics_error = r;
}

static int timeout_until(struct engine *e, uint64_t services_at, uint64_t enrol_at)
{
	struct node *n = &e->node;
	uint64_t now = node_now_ms(n), at = now + 60 * 1000;

	earlier(&at, services_at);
	earlier(&at, enrol_at);
	if (!n->alone)
		earlier(&at, e->link_start_at_ms);
	if (n->bundle && install_is_settled(n))
		return 0;
	if (n->link && !enrol_waits(&e->enrol)) {
		earlier(&at, n->refresh_wanted ? now : e->poll_at_ms);
		if (n->push_wanted)
			earlier(&at, e->push_at_ms);
	}
	if (update_is_active(n))
		earlier(&at, n->attempt.wake_ms);
	else
		earlier(&at, n->replan ? now : n->plan_ms);
	if (n->link)
		earlier(&at, report_due(e));
	/* They are not looked at while it is busy: a time that has passed would keep the loop awake until then. */
	if (e->reasons_due && !node_is_busy(n))
		earlier(&at, e->reasons_at_ms);
	return at <= now ? 0 : (int) (at - now);
}

static void report_if_due(struct engine *e)
{
	struct node *n = &e->node;

	if (!n->link || node_now_ms(n) < report_due(e))
		return;
	e->report_failed = phase_report(n) < 0;
	if (e->report_failed)
		n->report_wanted = true;
	else
		e->reasons = hash_reasons(n);
}

static void loop(struct engine *e)
{
	struct node *n = &e->node;

	while (!stop_signal && !n->handover_wanted) {
		uint64_t services_at, ours_at;

		if (n->bundle && install_is_settled(n)) {
			install_end(n);
			if (n->alone)
				return;
		}
		services_at = services_step(n->services, node_now_ms(n));
		earlier(&services_at, follow_watches(n));
		earlier(&services_at, phase_gather(n));
		earlier(&services_at, measures_step(n));
		int status = 0;

		if (e->link.pid && process_poll(&e->link, &status) != 0) {
			e->link = (struct process){ 0 };
			link_lost(e, "it ended");
		}
		if (n->link_restart_wanted) {
			n->link_restart_wanted = false;
			link_end(e);
			e->link_start_at_ms = 0;
		}
		if (!n->link && !n->alone && node_now_ms(n) >= e->link_start_at_ms)
			link_start(e);
		if (inhibitors_changed(n->inhibitors)) {
			n->replan = true;
			e->reasons_due = true;
		}
		update_step(n);
		if (n->handover_wanted)
			break;
		write_metrics_if_due(e);
		follow_reasons(e);
		report_if_due(e);
		ours_at = enrol_step(&e->enrol);
		earlier(&ours_at, anchors_step(&e->anchors, e->enrol.trying));
		turn(e, timeout_until(e, services_at, ours_at), false);
		empty_inbox(e);
		update_step(n);
		refresh_if_due(e);
		tell_refusal(n);
		if (!update_is_active(n) && !n->replan && !n->push_wanted && n->prefetched_count > 0)
			receive_forget(n);
		if (!update_is_active(n) && node_now_ms(n) >= e->collect_at_ms) {
			node_collect_data(n);
			e->collect_at_ms = node_now_ms(n) + COLLECT_DATA_MS;
		}
	}
}

/* --- starting --- */

/* Said in the log, and to whoever started it for an installation. `e` NULL: there was no memory for it. */
static int fail(struct engine *e, int r, const char *what, const char *detail)
{
	log_error("start-failed", "%s: %s", what, detail ? detail : err_text(r));
	if (e)
		(void) snprintf(e->start_failure, sizeof(e->start_failure), "%s: %s", what,
				detail ? detail : err_text(r)); /* cut */
	return r;
}

static int open_below(struct node *n, const char *name)
{
	int r = durable_mkdir(n->os, n->dirs->root, name, 0755);

	return r < 0 ? r : dir_open(n->os, n->dirs->root, name);
}

static int user_ids(const char *user, uid_t *uid, gid_t *gid)
{
	int r = process_find_user(user, uid, gid);

	return r == -ENOENT ? -ERR_CONFIG : r;
}

/* As root each process owns what it writes, and nothing else. */
static int give_away(struct engine *e)
{
	struct node *n = &e->node;
	uid_t uid = 0;
	gid_t gid = 0;
	int fd, r;

	n->stage_uid = (uid_t) -1;
	n->stage_gid = (gid_t) -1;
	if (!n->as_root)
		return 0;
	r = user_ids(e->config.users.stage, &n->stage_uid, &n->stage_gid);
	if (r == 0)
		r = n->os->fchown(n->os, n->dirs->spool, n->stage_uid, n->stage_gid);
	if (n->image)
		return r; /* the ids of its users are its own: its agent gives the rest away */
	if (r == 0)
		r = user_ids(e->config.users.link, &uid, &gid);
	if (r == 0)
		r = n->os->fchown(n->os, n->dirs->outbox, uid, gid);
	if (r < 0)
		return r;
	fd = n->os->openat(n->os, AT_FDCWD, e->config.dir, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	e->pair_owner = (struct pair_owner){ true, uid, gid };
	r = n->os->fchownat(n->os, fd, "transport.key", uid, gid);
	(void) n->os->close(n->os, fd); /* read only */
	return r == -ENOENT ? 0 : r;
}

static int load_identity(struct engine *e)
{
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(IDENTITY_MAX);
	struct node *n = &e->node;
	struct stat st;
	int fd = n->os->openat(n->os, AT_FDCWD, e->config.dir, O_RDONLY | O_DIRECTORY, 0);
	int r;

	if (fd < 0)
		return fd;
	r = n->os->fstatat(n->os, fd, "identity.key", &st);
	if (r == 0 && (st.st_mode & 077))
		r = -EACCES;
	if (r == 0)
		r = file_read(n->os, fd, "identity.key", IDENTITY_MAX, &pem);
	(void) n->os->close(n->os, fd); /* read only */
	if (r == 0)
		r = private_key_load(pem.data, pem.len, NULL, &n->identity);
	if (pem.data)
		explicit_bzero(pem.data, pem.len);
	return r;
}

/*
 * A child that an agent killed a moment ago was just starting holds its locks until it
 * is the program it is to become; a second agent holds them for good.
 */
static bool wait_for_lock(unsigned *tries)
{
	static const struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 };

	if (stop_signal || (*tries)++ >= 40)
		return false;
	(void) nanosleep(&pause, NULL); /* cut short it is only tried sooner */
	return true;
}

static int open_trust(struct engine *e)
{
	CLEANUP(buf_done)
	struct buf root = BUF_INIT(ROOT_MAX);
	struct node *n = &e->node;
	struct timex t = { .modes = 0 };
	struct tuf_options o = {
		.os = n->os,
		.dirfd = n->dirs->trust,
		.prefix = "metadata/",
		.targets_prefix = "targets/",
		.limits = tuf_limits_default,
		.hold_time_floor = true,
		.build_time = ENGINE_BUILD_TIME,
		.clock_synchronised = adjtimex(&t) != TIME_ERROR,
	};
	unsigned tries = 0;
	int fd, r;

	do
		r = tuf_client_open(&o, &n->tuf);
	while (r == -EBUSY && wait_for_lock(&tries));
	if (r < 0 || tuf_client_has_root(n->tuf))
		return r;
	fd = n->os->openat(n->os, AT_FDCWD, e->config.dir, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	r = file_read(n->os, fd, "root.json", ROOT_MAX, &root);
	(void) n->os->close(n->os, fd); /* read only */
	return r < 0 ? r : tuf_client_init(n->tuf, root.data, root.len);
}

/* Without it nothing from outside can be believed: where it comes from is said, not only that it is not there. */
static int fail_trust(struct engine *e, int r)
{
	char path[PATH_MAX];

	(void) snprintf(path, sizeof(path), "%s/root.json", e->config.dir); /* for people: may be cut */
	if (!e->node.tuf)
		return fail(e, r, "the trusted metadata", NULL);
	if (r == -ENOENT)
		return fail(e, r, path,
			    "it is missing, and with it what this node trusts; `selfright-agent join FILE` writes "
			    "it from the "
			    "fleet's join file");
	if (r <= -ERR_BASE_)
		return fail(e, r, path,
			    "it is no root that its own keys signed; compare it with the fleet's (its SHA-256 "
			    "stands in the "
			    "join file)");
	return fail(e, r, path, NULL);
}

/* The link says what runs; the journal may be a step behind (recover, or a crash between the two). */
static void reconcile(struct node *n)
{
	struct generation g = { .count = 0 };
	uint64_t number = 0;

	if (update_is_active(n) && node_update_is_swapped(&n->state->update))
		return; /* its phase looks for itself */
	if (generation_current(n->os, n->dirs->root, &number) < 0 ||
	    generation_read(n->os, n->dirs->generations, number, &g) < 0)
		return;
	for (size_t i = 0; i < n->state->component_count; i++) {
		struct node_component *c = n->state->components[i];
		const char *version = generation_version(&g, c->name);

		if (str_eq(version, c->version))
			continue;
		log_warning("version-reconciled", "component=%s journal=%s link=%s", c->name,
			    c->version[0] ? c->version : "absent", version[0] ? version : "absent");
		STATE_SET(c->version, version);
	}
}

static void collect_leftovers(struct node *n)
{
	const struct node_update *u = &n->state->update;
	uint64_t kept[] = { u->target_generation, u->fallback_generation };
	struct generation_entry claimed[2 * PARTS_MAX + 1];
	struct collect_options o = { .keep_versions = n->config->keep_versions };
	int r;

	if (update_is_active(n)) {
		o.generations = kept;
		o.generation_count = ARRAY_LEN(kept);
	}
	o.claimed = claimed;
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		(void) snprintf(claimed[2 * i].component, sizeof(claimed[0].component), "%s", p.component);
		(void) snprintf(claimed[2 * i].version, sizeof(claimed[0].version), "%s", p.to);
		(void) snprintf(claimed[2 * i + 1].component, sizeof(claimed[0].component), "%s", p.component);
		(void) snprintf(claimed[2 * i + 1].version, sizeof(claimed[0].version), "%s", p.from);
		o.claimed_count += 2;
	}
	if (n->supervisor.running[0]) {
		struct generation_entry *own = &claimed[o.claimed_count++];

		(void) snprintf(own->component, sizeof(own->component), "%s", AGENTS_COMPONENT);
		(void) snprintf(own->version, sizeof(own->version), "%s", n->supervisor.running);
	}
	r = collect(n->store, &o, NULL);
	if (r < 0)
		log_warning("collect-failed", "leftovers stay until the next time: %s", err_text(r));
	manifest_collect(n);
	node_collect_spool(n);
}

/* Bring up what is installed. What an update is in the middle of is that update's. */
static void start_services(struct node *n)
{
	const struct node_update *u = &n->state->update;

	for (size_t i = 0; i < n->state->component_count; i++) {
		const struct node_component *c = n->state->components[i];
		struct command_context context = { .config = n->config,
						   .component = c->name,
						   .version = c->version };
		struct release release = { 0 };
		char *root;
		int r;

		if (update_concerns(n, c->name) &&
		    (u->state == NODE_SWAPPING || u->state == NODE_ROLLING_BACK || u->state == NODE_STOPPING))
			continue;
		if (c->version[0] == '\0') {
			services_stop(n->services, c->name, false);
			continue;
		}
		/* Also here: a factory image came without the folders that belong to this system's users. */
		r = node_prepare_component(n, c->name);
		if (r < 0)
			log_error("data-folder", "component=%s reason=%s", c->name, err_text(r));
		r = manifest_load(n, c->name, c->version, &release);
		root = node_current_root(n, c->name);
		context.root = root;
		if (r == 0)
			r = root ? services_apply(n->services, &context, &release) : -ENOMEM;
		if (r < 0)
			log_error("services-not-started", "component=%s version=%s reason=%s", c->name, c->version,
				  err_text(r));
		release_done(&release);
		free(root);
	}
}

static int open_state(struct engine *e)
{
	struct node *n = &e->node;
	unsigned tries = 0;
	int r;

	do
		r = store_open(n->os, e->config.root, &n->store);
	while (r == -EBUSY && wait_for_lock(&tries));
	if (r == -EBUSY)
		return fail(e, r, e->config.root, "another agent runs on this folder");
	if (r < 0)
		return fail(e, r, e->config.root,
			    r == -ERR_JOURNAL ? "the journal is damaged (selfright-recover sets it aside)" : NULL);
	n->dirs = store_dirs(n->store);
	e->state = calloc(1, sizeof(*e->state));
	if (!e->state)
		return fail(e, -ENOMEM, e->config.root, NULL);
	state_init(e->state);
	n->state = e->state;
	r = store_load(n->store, e->state);
	if (r < 0)
		return fail(e, r, e->config.root, "the saved state cannot be read");
	n->documents_fd = open_below(n, "documents");
	n->manifests_fd = open_below(n, "manifests");
	if (n->documents_fd < 0 || n->manifests_fd < 0)
		return fail(e, n->documents_fd < 0 ? n->documents_fd : n->manifests_fd, e->config.root, NULL);
	r = recover_boot_id(n->os, n->boot_id);
	return r < 0 ? fail(e, r, "the kernel's boot id", NULL) : 0;
}

static int open_run(struct engine *e)
{
	struct node *n = &e->node;
	char *path;
	int r;

	if (mkdir(e->config.run, 0755) < 0 && errno != EEXIST) {
		r = -errno;
		return fail(e, r, e->config.run, NULL);
	}
	r = services_open(n->os, e->config.run, n->boot_id, &n->services);
	if (r < 0)
		return fail(e, r, e->config.run, NULL);
	r = inhibitors_open(n->os, e->config.run, n->boot_id, &n->inhibitors);
	if (r < 0)
		return fail(e, r, e->config.run, NULL);
	path = config_socket_path(&e->config);
	r = path ? control_open(path, console_changes, console_answer, n, &e->control) : -ENOMEM;
	if (r < 0)
		r = fail(e, r, path ? path : e->config.run, NULL);
	free(path);
	return r;
}

/* Without them nothing would ever work here: said once, and not tried for ever. */
static int check_programs(const struct config *c, bool alone, struct conf_error *ret_error)
{
	static const char *const names[] = { "selfright-link", "selfright-stage", "selfright-log",
					     "selfright-probe" };
	int r = 0;

	for (size_t i = alone ? 1 : 0; r == 0 && i < ARRAY_LEN(names); i++) {
		char *path = NULL;

		r = config_program(c, names[i], &path, ret_error);
		free(path);
	}
	return r;
}

static int replace_text(char **text, const char *with)
{
	char *copy = strdup(with);

	if (!copy)
		return -ENOMEM;
	free(*text);
	*text = copy;
	return 0;
}

/* Another root than the configuration's, or the whole system below another folder. */
static int move_root(struct engine *e)
{
	const struct engine_install *o = e->install;
	char *path = NULL;
	int r = 0;

	if (!o || !o->root)
		return 0;
	if (asprintf(&path, "%s%s", o->root, o->image ? e->config.root : "") < 0)
		return -ENOMEM;
	r = replace_text(&e->config.root, path);
	free(path);
	if (r == 0 && o->run)
		r = replace_text(&e->config.run, o->run);
	if (!o->image || r < 0)
		return r;
	/* Its programs are not for this machine, and its users are not this machine's. */
	free(e->config.programs);
	e->config.programs = NULL;
	return process_user_exists(e->config.users.stage) ? 0 : replace_text(&e->config.users.stage, "nobody");
}

static int start(struct engine *e, const char *config_dir)
{
	struct node *n = &e->node;
	struct conf_error error = { "" };
	int r = config_load(config_dir, &e->config, &error);

	if (r < 0)
		return fail(e, r, "configuration", error.text);
	n->config = &e->config;
	supervisor_open(&n->supervisor, e->config.root);
	n->as_root = geteuid() == 0;
	r = move_root(e);
	if (r < 0)
		return fail(e, r, "configuration", NULL);
	r = n->as_root && !n->image ? config_check_users(&e->config, &error) : 0;
	if (r < 0)
		return fail(e, r, "configuration", error.text);
	r = check_programs(&e->config, n->alone, &error);
	if (r < 0)
		return fail(e, r, "programs", error.text);
	r = open_state(e);
	if (r < 0)
		return r;
	r = give_away(e);
	if (r < 0)
		return fail(e, r, "giving the processes' folders to their users", NULL);
	r = load_identity(e);
	if (r == -ENOENT && n->alone)
		r = 0; /* a factory image gets its identity later; what happens now is reported then */
	if (r < 0)
		return fail(e, r, "identity.key", r == -EACCES ? "others may read it (chmod 600)" : NULL);
	r = open_trust(e);
	if (r < 0)
		return fail_trust(e, r);
	r = enrol_open(&e->enrol, n, &e->pair_owner);
	if (r < 0)
		return fail(e, r, "the transport key and its certificate", NULL);
	anchors_open(&e->anchors, n);
	r = open_run(e);
	if (r < 0)
		return r;
	reconcile(n);
	collect_leftovers(n);
	r = update_resume(n);
	if (r < 0)
		return fail(e, r, e->config.root, "the journal could not be written");
	if (!n->image)
		start_services(n);
	STATE_SET(n->state->boot_id, n->boot_id);
	self_tell_difference(n);
	r = node_save(n);
	if (r == 0)
		supervisor_ready(&n->supervisor);
	return r;
}

static void handle_signals(void)
{
	struct sigaction a = { .sa_handler = on_signal };
	sigset_t set;

	stop_signal = 0;
	sigemptyset(&a.sa_mask);
	(void) sigaction(SIGTERM, &a, NULL); /* cannot fail with these arguments */
	(void) sigaction(SIGINT, &a, NULL);
	a.sa_handler = SIG_IGN;
	(void) sigaction(SIGPIPE, &a, NULL);
	/* Delivered only while we wait, so that none falls between a look at the flag and the wait. */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	(void) sigprocmask(SIG_BLOCK, &set, NULL);
}

static void engine_done(struct engine *e)
{
	struct node *n = &e->node;

	link_end(e);
	enrol_close(&e->enrol);
	anchors_close(&e->anchors);
	supervisor_close(&n->supervisor);
	control_close(e->control);
	attempt_done(&n->attempt);
	watches_free(n);
	trial_done(n);
	measures_free(n);
	services_close(n->services);
	inhibitors_close(n->inhibitors);
	gather_close(n);
	receive_done(n);
	documents_done(&n->docs);
	tuf_client_close(n->tuf);
	private_key_free(n->identity);
	if (n->documents_fd >= 0)
		close(n->documents_fd);
	if (n->manifests_fd >= 0)
		close(n->manifests_fd);
	if (e->state)
		state_done(e->state);
	free(e->state);
	store_free(n->store);
	for (size_t i = 0; i < e->inbox_count; i++)
		buf_done(&e->inbox[i].bytes);
	config_done(&e->config);
	free(e);
}

static void entered(struct node *n, enum update_state s)
{
	rehearse_enter(n->rehearsal, s);
}

static struct engine *engine_new(void)
{
	struct engine *e = calloc(1, sizeof(*e));
	struct node *n;

	if (!e)
		return NULL;
	n = &e->node;
	rehearse_init(&e->rehearsal);
	n->os = &e->rehearsal.os;
	n->rehearsal = &e->rehearsal;
	n->entered = entered;
	n->engine = e;
	n->pump = pump;
	n->documents_fd = n->manifests_fd = n->supervisor.fd = -1;
	e->enrol.dirfd = e->anchors.dirfd = -1;
	n->replan = true;
	n->plan_ms = UINT64_MAX;
	e->link_backoff = (struct backoff){ .base_ms = 1000, .cap_ms = 60 * 1000 };
	e->poll_backoff = (struct backoff){ .base_ms = 2000, .cap_ms = 5 * 60 * 1000 };
	attempt_init(&n->attempt);
	receive_init(n);
	return e;
}

int engine_main(const char *config_dir)
{
	struct engine *e = engine_new();
	struct node *n;
	int r;

	if (!e)
		return fail(e, -ENOMEM, "starting", NULL);
	n = &e->node;
	handle_signals();
	r = start(e, config_dir);
	if (r == 0) {
		e->poll_at_ms = node_now_ms(n) + random_u64(n->os) % FIRST_POLL_JITTER_MS;
		/* A broker may send what is worth a line as often as it likes. */
		log_limit(LOG_BURST, LOG_PER_MINUTE);
		log_notice("started", "node=%s fleet=%s version=%s root=%s", e->config.node, e->config.fleet,
			   program_version, e->config.root);
		loop(e);
		if (n->handover_wanted)
			leave_for_another(e);
		log_notice("stopped", "signal=%d%s", (int) stop_signal,
			   n->handover_wanted ? " another agent follows" : "");
		r = n->handover_wanted && !stop_signal ? 1 : 0;
	}
	engine_done(e);
	return r;
}

static void report_install(const struct node *n, struct engine_installed *ret)
{
	const struct installation *i = &n->installation;

	ret->code = i->over ? i->code : INSTALL_UNCHANGED;
	(void) snprintf(ret->sentence, sizeof(ret->sentence), "%s",
			i->over ? i->sentence : "interrupted; the same command goes on where this one stopped");
}

int engine_install(const struct engine_install *o, struct engine_installed *ret)
{
	struct engine *e = engine_new();
	struct node *n;
	char refusal[INSTALL_SENTENCE_SIZE] = "";
	int r;

	*ret = (struct engine_installed){ .code = INSTALL_UNCHANGED,
					  .sentence =
						  "nothing has changed: it could not be begun; the log says why" };
	if (!e)
		return fail(e, -ENOMEM, "starting", NULL);
	n = &e->node;
	e->install = o;
	n->alone = true;
	n->image = o->image;
	e->poll_at_ms = UINT64_MAX;
	handle_signals();
	r = start(e, o->config_dir);
	if (r < 0 && e->start_failure[0])
		(void) snprintf(ret->sentence, sizeof(ret->sentence), "nothing has changed: %s", e->start_failure);
	if (r == 0) {
		r = install_begin(n, o->bundle, refusal, sizeof(refusal));
		if (r < 0)
			(void) snprintf(ret->sentence, sizeof(ret->sentence), "nothing has changed: %.1100s",
					refusal);
	}
	if (r == 0 && o->repair_component) {
		r = stage_repair(n, o->repair_component, o->repair_version, refusal, sizeof(refusal));
		ret->code = r < 0 ? INSTALL_UNCHANGED : INSTALL_GOOD;
		(void) snprintf(ret->sentence, sizeof(ret->sentence), "%.1100s", refusal);
	} else if (r == 0) {
		loop(e);
		report_install(n, ret);
	}
	bundle_close(n->bundle);
	n->bundle = NULL;
	engine_done(e);
	return r;
}
