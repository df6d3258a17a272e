#include "agent/engine_parts.h"

#include "agent/console.h"
#include "agent/install.h"
#include "agent/link/protocol.h"
#include "agent/local/inhibit.h"
#include "agent/local/service.h"
#include "agent/metrics.h"
#include "agent/phase/facts.h"
#include "agent/phase/measures.h"
#include "agent/phase/outcome.h"
#include "agent/phase/phase.h"
#include "agent/phase/self.h"
#include "agent/phase/watches.h"
#include "agent/probe/probe.h"
#include "agent/trial.h"
#include "agent/update.h"
#include "base/err.h"
#include "base/log.h"
#include "base/program.h"
#include "crypto/key.h"
#include "fetch/bundle.h"
#include "json/json.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

enum {
	FDS_MAX = 1 + CONTROL_FDS_MAX + SERVICES_FDS_MAX + INHIBIT_FDS_MAX + 2 +
		  (PARTS_MAX + WATCHES_MAX + MEASURES_MAX) * PROBE_FDS_PER_CHECK * RELEASE_CHECKS_MAX,
	FIRST_POLL_JITTER_MS = 300,
	PUSH_SPACING_MS = 300,
	LOG_BURST = 300, /* lines of one event at once, */
	LOG_PER_MINUTE = 60, /* and then */
	REPORT_SPACING_MS = 100,
	REPORT_AGAIN_MS = 5000,
	REASONS_SPACING_MS = 2 * 1000, /* how often a changed reason alone is worth a report */
	COLLECT_DATA_MS = 3600 * 1000,
};

static volatile sig_atomic_t stop_signal;

static void on_signal(int sig)
{
	stop_signal = sig;
}

uint64_t engine_random(const struct engine *e)
{
	const struct os *os = e->node.os;
	uint64_t value = 0;

	return os->random(os, &value, sizeof(value)) < 0 ? 0 : value;
}

bool engine_is_told_to_stop(void)
{
	return stop_signal != 0;
}

/* --- one turn of the loop --- */

static size_t prepare(struct engine *e, struct pollfd *fds, size_t *ret_control, size_t *ret_control_count,
		      int *timeout_ms)
{
	struct node *n = &e->node;
	size_t count = 0;

	/* The link's place is always the first; a negative descriptor is passed over by poll. */
	fds[count++] = engine_link_prepare(e);
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
	struct timespec t;

	count = prepare(e, fds, &control, &control_count, &timeout_ms);
	t = (struct timespec){ .tv_sec = timeout_ms / 1000, .tv_nsec = (long) (timeout_ms % 1000) * 1000000 };
	if (process_ppoll(fds, count, timeout_ms < 0 ? NULL : &t) < 0) {
		static const struct timespec pause = { .tv_nsec = 20 * 1000 * 1000 };

		/* A kernel that lacks memory even for this must not cost a whole processor as well. */
		if (errno != EINTR)
			(void) nanosleep(&pause, NULL); /* cut short it is only tried sooner */
		for (size_t i = 0; i < count; i++)
			fds[i].revents = 0;
	}
	engine_link_turn(e, fds[0].revents);
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
		engine_link_close(e);
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
	return s * 900 + engine_random(e) % (s * 200 + 1);
}

static void set_clock(struct node *n)
{
	struct timex t = { .modes = 0 };

	tuf_client_set_synchronised(n->tuf, adjtimex(&t) != TIME_ERROR);
}

/* Not that nothing came, but what: it does not verify, or leads back. A road may be in the wrong hands, and another not. */
static bool came_wrong(int r)
{
	return r <= -ERR_BASE_ && r != -ERR_NETWORK && r != -ERR_TLS && r != -ERR_HTTP_STATUS &&
	       r != -ERR_DEADLINE && r != -ERR_PEER_GONE;
}

static void refresh(struct engine *e, bool pushed)
{
	struct node *n = &e->node;
	bool again = !n->docs.loaded || n->refresh_error < 0, without;
	int r;

	set_clock(n);
	r = phase_receive(n, pushed);
	engine_link_tell_floor(e);
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
		uint64_t wait = backoff_next_ms(&e->poll_backoff, engine_random(e)) + 500;

		if (n->link && came_wrong(r))
			node_link_send(n, LINK_DOUBT, 0, NULL, 0);

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
		engine_link_step(e);
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
		engine_link_obey(e);
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

	engine_link_end(e);
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
		return engine_fail_start(e, -ENOMEM, "starting", NULL);
	n = &e->node;
	handle_signals();
	r = engine_start(e, config_dir);
	if (r == 0) {
		e->poll_at_ms = node_now_ms(n) + engine_random(e) % FIRST_POLL_JITTER_MS;
		/* A broker may send what is worth a line as often as it likes. */
		log_limit(LOG_BURST, LOG_PER_MINUTE);
		log_notice("started", "node=%s fleet=%s version=%s root=%s", e->config.node, e->config.fleet,
			   program_version, e->config.root);
		loop(e);
		if (n->handover_wanted)
			engine_link_leave(e);
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
		return engine_fail_start(e, -ENOMEM, "starting", NULL);
	n = &e->node;
	e->install = o;
	n->alone = true;
	n->image = o->image;
	e->poll_at_ms = UINT64_MAX;
	handle_signals();
	r = engine_start(e, o->config_dir);
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
