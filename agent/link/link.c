#include "agent/link/link.h"

#include "agent/link/blobs.h"
#include "agent/link/courier.h"
#include "agent/link/outbox.h"
#include "agent/link/protocol.h"
#include "agent/link/puts.h"
#include "agent/link/trial.h"
#include "base/backoff.h"
#include "base/err.h"
#include "base/log.h"
#include "base/text.h"
#include "fetch/relay.h"
#include "fetch/tls.h"
#include "json/build.h"
#include "json/json.h"
#include "mqtt/mqtt.h"
#include "os/frame.h"
#include "pack/pack.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timex.h>
#include <unistd.h>

enum {
	ANNOUNCE_MAX = 1024 * 1024, /* inflated: DESIGN.md section 12 */
	MESSAGE_MAX = 1024 * 1024, /* more than a broker may send us at once */
	SMALL_MAX = 64 * 1024, /* timestamp, ack, grant */
	TOPIC_MAX = 256,
	SESSION_EXPIRY_S = 3600, /* helps over short gaps, never needed */
	WILL_DELAY_S = 90, /* a short reconnect is no outage */
	RESEND_BASE_MS = 10 * 1000,
	RESEND_CAP_MS = 15 * 60 * 1000,
	BROKER_GRACE_MS = 10 * 1000, /* how long a report waits for the broker before it goes by HTTPS */
	HINTS_AT_ONCE = 20, /* of one topic, */
	HINT_EVERY_MS = 500, /* and one each so often: the engine verifies them all */
	DOUBT_MS = 15 * 60 * 1000, /* how long a road is asked last that brought what led nowhere */
	BROKER_SILENT_MS = 30 * 1000, /* and for its acknowledgement, before it goes by both */
	POST_ID = 0,
	LEASE_ID,
	PUT_ID,
	STATE_MAX = 512,
	COUNTER_BITS = 20, /* connections of one process in presence's counter */
};

/* The topics of DESIGN.md section 7 this node reads, in the order of enum inbound. */
enum inbound { IN_ANNOUNCE, IN_TIMESTAMP, IN_NODE_ANNOUNCE, IN_ACK, IN_GRANT, IN_BLOB, IN_CERTIFICATE, IN_COUNT };

/* A topic whose messages the engine looks at: a carrier shall not keep it busy with them. */
struct hints {
	unsigned spent; /* of HINTS_AT_ONCE */
	uint64_t since_ms; /* one comes back each HINT_EVERY_MS from then on */
	struct buf newest; /* the one that waits; empty: none */
	bool missed; /* one did not reach the engine */
};

/* A fetch of the engine, on the roads it may still take. */
struct request {
	uint32_t id;
	uint64_t max;
	char name[1200];
	bool left[LINK_ROAD_COUNT];
	bool missing; /* a road said that it is not there */
	int error; /* of the last road */
	char words[256];
};

struct link {
	const struct link_options *o;
	struct frame_conn engine;
	struct outbox outbox;
	struct courier *courier;
	struct blobs *blobs; /* NULL: no broker */
	struct puts *puts;
	struct request request; /* the engine's fetch under way: it has one at a time */
	enum link_road brought_by; /* the last file */
	enum link_road doubted; /* until then it is asked after the others */
	uint64_t doubt_until_ms;
	uint64_t https_failed_ms; /* nobody answered there when it was asked last; 0: somebody did */
	struct trial trial; /* of this connection, because a person asked */
	struct mqtt *mqtt; /* NULL: no broker configured */
	struct relay *relay;
	struct tls_clock clock;
	struct tls *tls; /* that the last connection was made with; NULL: no TLS */
	struct tls *tls_in_force, *tls_next; /* the two pairs; next NULL: there is none to try */
	uint64_t counter; /* of this process, above all earlier ones */
	char process[17]; /* a number that no other has; "": there was no chance for one */
	unsigned connection; /* how many this process has begun */
	char topics[IN_COUNT][TOPIC_MAX];
	struct hints hints[IN_COUNT];
	char report_topic[TOPIC_MAX], event_topic[TOPIC_MAX], lease_topic[TOPIC_MAX], presence_topic[TOPIC_MAX];
	char get_topic[TOPIC_MAX], put_topic[TOPIC_MAX], enrol_topic[TOPIC_MAX];
	struct buf enrol_request; /* until it is answered by HTTPS or sent to the broker */
	uint32_t enrol_id; /* the broker was asked and has not answered; 0: not */
	char report_path[TOPIC_MAX], lease_path[TOPIC_MAX], put_path[TOPIC_MAX];
	char last_state[STATE_MAX]; /* of the last event: the same again is progress */
	struct backoff resend;
	uint64_t send_at_ms; /* when the waiting report goes out (again); 0: nothing waits */
	uint64_t disconnected_since_ms;
	uint64_t connected_since_ms; /* while it stands */
	char state_words[256]; /* of the last change of state */
	bool retained; /* on this connection came what the broker had kept of what is new */
	uint64_t unheard_since_ms; /* the broker took reports, and the controller acknowledged none; 0: not so */
	bool broker_answers; /* the last acknowledgement came over it, true or forged */
	bool posting;
	bool left; /* presence has said why */
};

static uint64_t now_ms(const struct link *l)
{
	return l->o->os->clock_boot_ms(l->o->os);
}

static bool connected(const struct link *l)
{
	return l->mqtt && mqtt_is_connected(l->mqtt);
}

/* --- to the engine --- */

static int tell_engine(struct link *l, enum link_frame type, uint32_t id, const void *data, size_t len)
{
	int r = frame_send(&l->engine, (uint16_t) type, id, data, len);

	/* Nothing is lost for good: the engine asks again by itself, and the outbox keeps what is not acknowledged. */
	if (r < 0)
		log_warning("link-engine-slow", "a message for the engine was dropped: type=%d reason=%s", type,
			    err_text(r));
	return r;
}

static void tell_state(struct link *l, bool up, const char *reason)
{
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(512);
	bool refused = !up && l->tls && tls_refused_ours(l->tls);

	if (buf_add_byte(&b, refused ? 2 : up) == 0 && buf_add_str(&b, reason) == 0)
		tell_engine(l, LINK_STATE, 0, b.data, b.len);
}

static void tell_fetched(struct link *l, uint32_t id, int error, const void *data, size_t len)
{
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(LINK_FRAME_MAX);
	const uint32_t e = (uint32_t) error;
	const uint8_t head[4] = { (uint8_t) (e >> 24), (uint8_t) (e >> 16), (uint8_t) (e >> 8), (uint8_t) e };

	if (buf_add(&b, head, sizeof(head)) == 0 && buf_add(&b, data, len) == 0)
		tell_engine(l, LINK_FETCHED, id, b.data, b.len);
	else
		log_warning("link-fetch-dropped", "a fetched file did not fit: bytes=%zu", len);
}

static void name_process(struct link *l)
{
	uint8_t number[(sizeof(l->process) - 1) / 2];

	if (l->o->os->random(l->o->os, number, sizeof(number)) == 0)
		hex_encode(l->process, number, sizeof(number));
}

/* --- the road --- */

static void set_clock(struct link *l)
{
	struct timex t = { .modes = 0 };

	l->clock.synchronised = adjtimex(&t) != TIME_ERROR;
}

static int make_tls(void *user, void **ret_ssl_ctx)
{
	struct link *l = user;

	set_clock(l);
	/* Once it has proved itself the engine renames it: it is in force under the other names then. */
	l->tls = l->tls_next && access(l->o->next_cert_file, F_OK) == 0 ? l->tls_next : l->tls_in_force;
	return tls_context(l->tls, ret_ssl_ctx);
}

/* TLS knows better than the road why a connection ended, the road better than the library. */
static void explain(void *user, char *out, size_t size, bool *ret_refused)
{
	struct link *l = user;
	struct relay_state road = { .step = RELAY_IDLE };
	const char *tls = l->tls ? tls_reason(l->tls) : "";

	if (l->relay)
		relay_state(l->relay, &road);
	if (tls[0]) {
		(void) snprintf(out, size, "%s", tls);
		/* A clock that is set, or a proxy that is taught, is worth an early try. */
		*ret_refused = !tls_failed_by_date(l->tls) && !tls_failed_by_issuer(l->tls);
	} else if (road.failed && (road.step != RELAY_ENDED || mqtt_is_connected(l->mqtt))) {
		/* A broker that hangs up before it answered is no news of the road: mqtt tries another version. */
		(void) snprintf(out, size, "%s", road.reason);
	}
}

/* --- what comes over MQTT --- */

static int build_presence(const struct link *l, const char *state, bool online, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *root = json_build_root(b);

	node_bool(root, "online", online);
	if (state)
		node_string(root, "state", state);
	node_string(root, "boot", l->o->boot_id);
	/* Another machine with a copy of this disk has other numbers: one that comes back is not the one that left. */
	if (l->process[0])
		node_string(root, "process", l->process);
	/* One number per connection that rises across restarts: a will that comes late belongs to an older birth. */
	node_integer(root, "counter", (int64_t) (l->counter << COUNTER_BITS | l->connection));
	return json_build_text(b, false, out);
}

static int make_will(void *user, struct buf *ret)
{
	struct link *l = user;

	l->connection = (l->connection + 1) & ((1u << COUNTER_BITS) - 1);
	return build_presence(l, NULL, false, ret);
}

static void publish_presence(struct link *l, const char *state, bool online)
{
	CLEANUP(buf_done)
	struct buf presence = BUF_INIT(1024);

	if (build_presence(l, state, online, &presence) < 0 ||
	    mqtt_publish(l->mqtt, l->presence_topic, presence.data, presence.len, 1, true) < 0)
		log_warning("link-presence", "presence could not be published; it is display only");
}

static void on_state(void *user, bool up, const char *reason)
{
	struct link *l = user;

	if (up) {
		log_notice("link-up", "connected to the broker: %s", reason);
		relay_proved(l->relay);
		publish_presence(l, NULL, true);
		l->send_at_ms = l->outbox.sequence ? now_ms(l) : 0;
		l->unheard_since_ms = 0;
		backoff_reset(&l->resend);
		blobs_connected(l->blobs);
		puts_connected(l->puts);
	} else {
		log_notice("link-down", "no connection to the broker: %s", reason);
		outbox_connection_lost(&l->outbox);
		if (l->disconnected_since_ms == 0)
			l->disconnected_since_ms = now_ms(l);
	}
	if (up)
		l->disconnected_since_ms = 0;
	else
		l->retained = false; /* what the next connection brings may come before its last SUBACK */
	l->connected_since_ms = now_ms(l);
	(void) snprintf(l->state_words, sizeof(l->state_words), "%s", reason);
	tell_state(l, up, reason);
}

static int hand_announcement(struct link *l, const void *payload, size_t len)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ANNOUNCE_MAX);
	int r = gzip_expand(payload, len, &text);

	if (r == 0)
		return tell_engine(l, LINK_ANNOUNCE, 0, text.data, text.len);
	log_warning("link-announcement", "an announcement was dropped: %s", err_text(r));
	return r == -ENOMEM ? r : 0; /* rubbish is no loss */
}

static void tell_enrolled(struct link *l, uint32_t id, long status, const void *data, size_t len)
{
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(SMALL_MAX + 2);
	const uint8_t head[2] = { (uint8_t) (status >> 8), (uint8_t) status };

	if (buf_add(&b, head, sizeof(head)) == 0 && buf_add(&b, data, len) == 0)
		tell_engine(l, LINK_ENROLLED, id, b.data, b.len);
}

/* It says itself whether it is a certificate; who did not ask gets none. */
static void take_certificate(struct link *l, const void *payload, size_t len)
{
	uint32_t id = l->enrol_id;

	l->enrol_id = 0;
	if (id != 0 && len <= SMALL_MAX)
		tell_enrolled(l, id, 200, payload, len);
}

static void hand_hint(struct link *l, enum inbound in, const void *payload, size_t len)
{
	static const enum link_frame types[IN_COUNT] = {
		[IN_ANNOUNCE] = LINK_ANNOUNCE, [IN_TIMESTAMP] = LINK_TIMESTAMP, [IN_NODE_ANNOUNCE] = LINK_ANNOUNCE,
		[IN_ACK] = LINK_ACK,	       [IN_GRANT] = LINK_GRANT,
	};

	int r = 0;

	l->broker_answers = l->broker_answers || in == IN_ACK;
	if (types[in] == LINK_ANNOUNCE)
		r = hand_announcement(l, payload, len);
	else if (len <= SMALL_MAX)
		r = tell_engine(l, types[in], 0, payload, len);
	l->hints[in].missed = l->hints[in].missed || r < 0;
}

static void give_back(struct hints *h, uint64_t now)
{
	uint64_t back = (now - h->since_ms) / HINT_EVERY_MS;

	if (back >= h->spent) {
		h->spent = 0;
		h->since_ms = now;
	} else {
		h->spent -= (unsigned) back;
		h->since_ms += back * HINT_EVERY_MS;
	}
}

/*
 * When there are too many the newest waits and takes the place of those before it. What comes last need not say most: a
 * bridge that goes round, or a session that is taken up again, repeats what was said before. So the engine is told that
 * it missed something, as often as it gets anything.
 */
static void take_hint(struct link *l, enum inbound in, const void *payload, size_t len)
{
	struct hints *h = &l->hints[in];

	give_back(h, now_ms(l));
	if (h->spent < HINTS_AT_ONCE) {
		h->spent++;
		hand_hint(l, in, payload, len);
		return;
	}
	h->missed = h->missed || h->newest.len > 0;
	buf_clear(&h->newest);
	if (buf_add(&h->newest, payload, len) < 0) {
		buf_clear(&h->newest);
		h->missed = true;
	}
}

/* An acknowledgement or a grant that got lost is asked for again by whoever waits for it. */
static void tell_missed(struct link *l, enum inbound in)
{
	bool news = in == IN_ANNOUNCE || in == IN_TIMESTAMP || in == IN_NODE_ANNOUNCE;

	l->hints[in].missed = news && tell_engine(l, LINK_MISSED, 0, NULL, 0) < 0;
}

static bool hint_waits(const struct hints *h)
{
	return h->newest.len > 0 || h->missed;
}

static void hand_waiting_hints(struct link *l)
{
	for (size_t i = 0; i < IN_COUNT; i++) {
		struct hints *h = &l->hints[i];

		if (!hint_waits(h))
			continue;
		give_back(h, now_ms(l));
		if (h->spent >= HINTS_AT_ONCE)
			continue;
		h->spent++;
		if (h->newest.len > 0)
			hand_hint(l, (enum inbound) i, h->newest.data, h->newest.len);
		buf_done(&h->newest);
		if (h->missed)
			tell_missed(l, (enum inbound) i);
	}
}

static uint64_t next_hint_ms(const struct link *l)
{
	uint64_t at = UINT64_MAX;

	for (size_t i = 0; i < IN_COUNT; i++)
		if (hint_waits(&l->hints[i]) && l->hints[i].since_ms + HINT_EVERY_MS < at)
			at = l->hints[i].since_ms + HINT_EVERY_MS;
	return at;
}

static void on_message(void *user, const char *topic, const void *payload, size_t len, bool retained)
{
	struct link *l = user;

	if (len == 0)
		return; /* a cleared topic withholds, nothing else */
	if (strcmp(topic, l->topics[IN_BLOB]) == 0) {
		if (!puts_take(l->puts, payload, len))
			blobs_take(l->blobs, payload, len);
		return;
	}
	if (strcmp(topic, l->topics[IN_CERTIFICATE]) == 0) {
		take_certificate(l, payload, len);
		return;
	}
	for (size_t i = 0; i < IN_COUNT; i++) {
		if (strcmp(topic, l->topics[i]) != 0)
			continue;
		l->retained = l->retained || (retained && (i == IN_ANNOUNCE || i == IN_TIMESTAMP));
		/* What is meant for this node alone (orders) is worth a try, whatever a server asked for before. */
		if (i == IN_NODE_ANNOUNCE && !retained)
			courier_ask_again(l->courier);
		take_hint(l, (enum inbound) i, payload, len);
		return;
	}
}

/* --- reports and events --- */

/*
 * It takes what we say, and nobody answers: a broker behind which nobody listens, an access list that swallows (3.1.1
 * does not tell), one in the wrong hands. HTTPS may know a way past it.
 */
static bool broker_is_silent(const struct link *l)
{
	return l->unheard_since_ms != 0 && now_ms(l) - l->unheard_since_ms >= BROKER_SILENT_MS;
}

static uint64_t random_bits(struct link *l)
{
	uint64_t random = 0;

	return l->o->os->random(l->o->os, &random, sizeof(random)) < 0 ? UINT64_MAX
								       : random; /* the longest delay */
}

static void schedule_resend(struct link *l)
{
	uint64_t at = now_ms(l) + RESEND_BASE_MS + backoff_next_ms(&l->resend, random_bits(l));

	if (l->unheard_since_ms != 0 && !broker_is_silent(l) && at > l->unheard_since_ms + BROKER_SILENT_MS)
		at = l->unheard_since_ms + BROKER_SILENT_MS;
	l->send_at_ms = at;
}

/* Whoever takes reports asked to be left alone: then, and not all nodes in the same moment. */
static bool wait_for_leave(struct link *l)
{
	uint64_t held = courier_held_ms(l->courier, COURIER_POSTS + POST_ID);

	if (held > 0 && connected(l))
		schedule_resend(l); /* the broker is told again meanwhile */
	else if (held > 0)
		l->send_at_ms = now_ms(l) + held + random_bits(l) % RESEND_BASE_MS;
	return held > 0;
}

static void flush_events(struct link *l)
{
	struct outbox_event *e;

	while (connected(l) && (e = outbox_unsent(&l->outbox))) {
		if (mqtt_publish(l->mqtt, l->event_topic, e->data, e->len, 1, false) < 0)
			return;
		e->sent = true;
	}
}

static void send_report(struct link *l)
{
	int r;

	if (l->outbox.sequence == 0 || l->o->waits) { /* the engine starts us again with the certificate */
		l->send_at_ms = 0;
		return;
	}
	if (connected(l)) {
		flush_events(l); /* first, so that this report's ack covers them */
		if (l->unheard_since_ms == 0)
			l->unheard_since_ms = now_ms(l);
		r = mqtt_publish(l->mqtt, l->report_topic, l->outbox.report.data, l->outbox.report.len, 1, true);
		if (r == 0)
			outbox_report_sent(&l->outbox);
		else
			log_warning("link-report", "the report was not handed to the broker: %s", err_text(r));
		/* Brokers have limits of their own; HTTPS takes it. */
		if (r != -ERR_TOO_LARGE && (!broker_is_silent(l) || l->o->url_count == 0)) {
			schedule_resend(l);
			return;
		}
		if (r == 0)
			log_info("link-unheard",
				 "no acknowledgement came over the broker: the report goes by HTTPS as well");
	} else if (l->mqtt && l->disconnected_since_ms != 0 &&
		   now_ms(l) - l->disconnected_since_ms < BROKER_GRACE_MS) {
		l->send_at_ms = l->disconnected_since_ms + BROKER_GRACE_MS;
		return;
	}
	if (!l->posting && wait_for_leave(l))
		return;
	if (!l->posting) {
		r = courier_post(l->courier, POST_ID, l->report_path, l->outbox.report.data, l->outbox.report.len);
		if (r < 0)
			log_warning("link-report", "the report could not be queued: %s", err_text(r));
		else
			l->posting = true;
	}
	schedule_resend(l);
}

/* With its queue and number, which tell the controller whether it knows it, and how many are lost. */
static int number_event(const struct link *l, const struct json *event, uint64_t number, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *root = json_build_root(b);

	for (size_t i = 0; i < json_count(event); i++)
		node_copy(root, json_name_at(event, i), json_at(event, i));
	node_string(root, "queue", l->outbox.queue);
	node_integer(root, "number", (int64_t) number);
	node_integer(root, "dropped", (int64_t) l->outbox.dropped);
	return json_build_text(b, false, out);
}

static const char *text_of(const struct json *event, const char *name)
{
	const char *text = json_string(json_get(event, name));

	return text ? text : "";
}

/* The same state of the same update: only its bytes moved on, and old progress is no news. */
static bool is_progress(struct link *l, const struct json *event)
{
	char state[STATE_MAX];

	(void) snprintf(state, sizeof(state), "%s %s %s %s", text_of(event, "component"), text_of(event, "update"),
			text_of(event, "state"), text_of(event, "version")); /* cut alike */
	if (strcmp(state, l->last_state) == 0)
		return true;
	memcpy(l->last_state, state, sizeof(state));
	return false;
}

static void queue_event(struct link *l, const uint8_t *data, size_t len)
{
	static const struct json_limits limits = { OUTBOX_EVENT_BYTES_MAX, 4, 64 };
	CLEANUP(json_freep)
	struct json *event = NULL;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(OUTBOX_EVENT_BYTES_MAX);
	const uint64_t base = l->counter << COUNTER_BITS, last = l->outbox.last_number;
	int r;

	if (!l->mqtt)
		return; /* without a broker the report says it all */
	r = json_parse(data, len, &limits, &event);
	if (r == 0 && is_progress(l, event)) {
		/* Lost with the connection, and the next one is more than 10 s away. */
		if (connected(l) && mqtt_publish(l->mqtt, l->event_topic, data, len, 0, false) < 0)
			log_debug("link-progress", "not handed to the broker");
		return;
	}
	if (r == 0)
		r = number_event(l, event, (last > base ? last : base) + 1, &text);
	if (r == 0)
		r = outbox_add_event(&l->outbox, base, text.data, text.len);
	if (r < 0)
		log_warning("link-event", "an event was not kept: %s", err_text(r));
	flush_events(l);
}

/* --- what the engine asks --- */

static bool take_u64(const struct frame *f, uint64_t *ret)
{
	uint64_t v = 0;

	if (f->len < 8)
		return false;
	for (int i = 0; i < 8; i++)
		v = v << 8 | f->data[i];
	*ret = v;
	return true;
}

static bool has_road(const struct link *l, enum link_road road)
{
	for (size_t i = 0; i < l->o->road_count; i++)
		if (l->o->roads[i] == road)
			return true;
	return false;
}

/* The next root: of all files the one that is not there as a rule. */
static bool is_root(const char *name)
{
	const char *dot = strchr(name, '.');

	return dot && str_eq(dot, ".root.json");
}

/* What is asked for to learn whether there is anything new. */
static bool asks_for_news(const char *name)
{
	return str_eq(name, "metadata/timestamp.json") || is_root(name);
}

static const char *const road_words[] = {
	[LINK_ROAD_HTTPS] = "https", [LINK_ROAD_MQTT] = "mqtt", [LINK_ROAD_FILE] = "file"
};

static int begin_road(struct link *l, enum link_road road)
{
	const struct request *q = &l->request;

	switch (road) {
	case LINK_ROAD_MQTT:
		return blobs_fetch(l->blobs, q->id, q->name, q->max);
	case LINK_ROAD_FILE:
		return courier_look(l->courier, q->id, q->name, q->max);
	default:
		return courier_get(l->courier, q->id, q->name, q->max);
	}
}

static bool is_open(const struct link *l, enum link_road road)
{
	return l->request.left[road] && (road != LINK_ROAD_MQTT || connected(l));
}

/* The next one that is left, in the configured order, one in doubt last; false: none is. */
static bool next_road(const struct link *l, enum link_road *ret)
{
	bool in_doubt = now_ms(l) < l->doubt_until_ms;

	for (size_t i = 0; i < l->o->road_count; i++) {
		if (!is_open(l, l->o->roads[i]) || (in_doubt && l->o->roads[i] == l->doubted))
			continue;
		*ret = l->o->roads[i];
		return true;
	}
	*ret = l->doubted;
	return in_doubt && is_open(l, l->doubted);
}

/* When none is left, the last one's reason is the answer. */
static void take_road(struct link *l)
{
	struct request *q = &l->request;
	enum link_road road;

	while (next_road(l, &road)) {
		int r;

		q->left[road] = false;
		r = begin_road(l, road);
		if (r == 0)
			return;
		q->error = r;
		(void) snprintf(q->words, sizeof(q->words), "%s: %s", road_words[road], err_text(r));
	}
	/* It need not be there, somebody said so, and nobody says otherwise. */
	if (q->missing && is_root(q->name))
		q->error = -ENOENT;
	tell_fetched(l, q->id, q->error, q->words, strlen(q->words));
	q->id = 0;
}

/*
 * Is "not there" the answer, or for another road to say? Of a folder beside the origin it means as little as of a
 * mirror; a broker may be in the wrong hands. Whoever serves the repository itself, under its certificate, knows of the next root:
 * for any other file somebody named, so that it is there, and the next road may bring it.
 */
static bool is_answered(const struct link *l, int error, enum link_road road)
{
	enum link_road next;

	if (error == 0 || !next_road(l, &next))
		return error == 0;
	if (error != -ENOENT || !is_root(l->request.name))
		return false;
	if (road == LINK_ROAD_HTTPS)
		return true;
	/* Where HTTPS reaches nobody each poll would wait for that; it is asked again after a while. */
	return road == LINK_ROAD_MQTT && next == LINK_ROAD_HTTPS && l->https_failed_ms != 0 &&
	       now_ms(l) - l->https_failed_ms < DOUBT_MS;
}

static void note_https(struct link *l, int error)
{
	bool answered = error == 0 || error == -ENOENT || error == -ERR_TOO_LARGE || error == -ERR_HTTP_STATUS;

	l->https_failed_ms = answered ? 0 : now_ms(l);
}

static void road_ended(struct link *l, uint32_t id, int error, const void *data, size_t len, enum link_road road)
{
	struct request *q = &l->request;
	size_t before = strlen(q->words);

	if (road == LINK_ROAD_HTTPS)
		note_https(l, error);
	if (id != q->id || id == 0)
		return; /* the engine has given up on it */
	if (is_answered(l, error, road)) {
		l->brought_by = road;
		tell_fetched(l, id, error, data, len);
		q->id = 0;
		return;
	}
	q->missing = q->missing || (error == -ENOENT && (road != LINK_ROAD_FILE || l->o->road_count == 1));
	q->error = error;
	(void) snprintf(q->words + before, sizeof(q->words) - before, "%s%s: %.*s", before > 0 ? "; " : "",
			road_words[road], len > 0 ? (int) len : (int) strlen(err_text(error)),
			len > 0 ? (const char *) data : err_text(error)); /* a longer one is cut */
	take_road(l);
}

static void doubt(struct link *l)
{
	l->doubted = l->brought_by;
	l->doubt_until_ms = now_ms(l) + DOUBT_MS;
}

static int ask_file(void *user, const void *request, size_t len)
{
	struct link *l = user;

	return mqtt_publish(l->mqtt, l->get_topic, request, len, 1, false);
}

static void on_fetched(void *user, uint32_t id, int error, const void *data, size_t len)
{
	road_ended(user, id, error, data, error == 0 ? len : 0, LINK_ROAD_MQTT);
}

static void on_saved(void *user, uint32_t id, bool over, int error, uint64_t bytes)
{
	const uint32_t e = (uint32_t) error;
	uint8_t text[13] = { over, (uint8_t) (e >> 24), (uint8_t) (e >> 16), (uint8_t) (e >> 8), (uint8_t) e };

	for (int i = 0; i < 8; i++)
		text[5 + i] = (uint8_t) (bytes >> (56 - 8 * i));
	tell_engine(user, LINK_SAVED, id, text, sizeof(text));
}

static void tell_tried(struct link *l, uint32_t id)
{
	struct mqtt_stats stats = { .heard_ms = 0 };
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(8192);

	if (l->mqtt)
		mqtt_stats(l->mqtt, &stats);
	if (trial_text(&l->trial,
		       &(struct trial_link){ .connected = connected(l),
					     .retained = l->retained,
					     .for_ms = now_ms(l) - l->connected_since_ms,
					     .heard_ms = now_ms(l) - stats.heard_ms,
					     .words = l->state_words },
		       &text) < 0)
		buf_clear(&text); /* an answer that says nothing, but one */
	tell_engine(l, LINK_TRIED, id, text.data, text.len);
	l->trial = (struct trial){ .id = 0 };
}

static void on_looked(void *user, uint32_t id, int error, uint64_t ms)
{
	struct link *l = user;

	if (id == l->trial.id && id != 0 && trial_go_on(&l->trial, l->blobs, error, ms))
		tell_tried(l, id);
}

static int do_try(struct link *l, const struct frame *f)
{
	char artifact[BLOB_NAME_MAX + 1] = "";

	if (f->id == 0 || f->len >= sizeof(artifact))
		return -ERR_PROTOCOL;
	if (f->len > 0)
		memcpy(artifact, f->data, f->len);
	if (!connected(l) || trial_begin(&l->trial, l->blobs, f->id, artifact) < 0)
		tell_tried(l, f->id);
	return 0;
}

static int do_save(struct link *l, const struct frame *f)
{
	char name[1200];
	uint64_t length;
	int r;

	if (!take_u64(f, &length) || f->len - 8 >= sizeof(name))
		return -ERR_PROTOCOL;
	memcpy(name, f->data + 8, f->len - 8);
	name[f->len - 8] = '\0';
	r = connected(l) && has_road(l, LINK_ROAD_MQTT) ? blobs_save(l->blobs, f->id, name, length) : -ENOTCONN;
	if (r < 0)
		on_saved(l, f->id, true, r, 0);
	return 0;
}

static int do_fetch(struct link *l, const struct frame *f)
{
	struct request *q = &l->request;
	uint64_t max;

	if (!take_u64(f, &max) || f->len - 8 >= sizeof(q->name) || f->id == 0)
		return -ERR_PROTOCOL;
	*q = (struct request){
		.id = f->id,
		.max = max > LINK_FRAME_MAX - 64 ? LINK_FRAME_MAX - 64 : max,
		.error = -ERR_NETWORK,
	};
	memcpy(q->name, f->data + 8, f->len - 8);
	q->left[LINK_ROAD_HTTPS] = has_road(l, LINK_ROAD_HTTPS) && l->o->url_count > 0;
	q->left[LINK_ROAD_MQTT] = has_road(l, LINK_ROAD_MQTT) && l->blobs;
	/* A copy lies where it was put: what is new is asked of those who know, if there are any. */
	q->left[LINK_ROAD_FILE] =
		has_road(l, LINK_ROAD_FILE) && (l->o->road_count == 1 || !asks_for_news(q->name));
	take_road(l);
	return 0;
}

/* --- collections --- */

static int publish_put(void *user, const void *message, size_t len)
{
	struct link *l = user;

	return mqtt_publish(l->mqtt, l->put_topic, message, len, 1, false);
}

static int post_put(void *user, const void *message, size_t len)
{
	struct link *l = user;

	return courier_post(l->courier, PUT_ID, l->put_path, message, len);
}

static void want_block(void *user, uint32_t id, uint64_t index)
{
	uint8_t text[8];

	for (int i = 0; i < 8; i++)
		text[i] = (uint8_t) (index >> (56 - 8 * i));
	tell_engine(user, LINK_PUT_WANT, id, text, sizeof(text));
}

static void on_receipt(void *user, const void *envelope, size_t len)
{
	tell_engine(user, LINK_RECEIPT, 0, envelope, len);
}

static int do_put(struct link *l, const struct frame *f)
{
	char sha256[SHA256_HEX + 1];
	const char *order, *end;
	uint64_t length;
	int r;

	if (!take_u64(f, &length) || f->len < 8 + SHA256_HEX + 2)
		return -ERR_PROTOCOL;
	memcpy(sha256, f->data + 8, SHA256_HEX);
	sha256[SHA256_HEX] = '\0';
	order = (const char *) f->data + 8 + SHA256_HEX;
	end = memchr(order, '\0', f->len - 8 - SHA256_HEX);
	if (!end)
		return -ERR_PROTOCOL;
	r = puts_begin(l->puts, f->id, order, sha256, length, end + 1,
		       f->len - (size_t) ((const uint8_t *) end + 1 - f->data));
	if (r < 0)
		log_warning("link-collection", "a collection was not taken: %s", err_text(r));
	return r == -ERR_PROTOCOL ? r : 0; /* out of memory: the engine says it again */
}

static int do_put_block(struct link *l, const struct frame *f)
{
	uint64_t index;

	if (!take_u64(f, &index))
		return -ERR_PROTOCOL;
	puts_block(l->puts, index, f->data + 8, f->len - 8);
	return 0;
}

static int do_report(struct link *l, const struct frame *f)
{
	uint64_t sequence;
	int r;

	if (!take_u64(f, &sequence) || sequence == 0)
		return -ERR_PROTOCOL;
	r = outbox_put(&l->outbox, sequence, f->data + 8, f->len - 8);
	if (r < 0)
		log_error("link-outbox", "the report could not be kept; the engine will send another: %s",
			  err_text(r));
	else
		backoff_reset(&l->resend);
	send_report(l);
	return 0;
}

static int do_acked(struct link *l, const struct frame *f)
{
	uint64_t sequence;
	int r;

	if (!take_u64(f, &sequence))
		return -ERR_PROTOCOL;
	if (!l->broker_answers && broker_is_silent(l))
		outbox_connection_lost(&l->outbox); /* what it was told was told to nobody */
	r = outbox_acked(&l->outbox, sequence);
	if (r < 0)
		log_warning("link-outbox", "an acknowledged report could not be deleted: %s", err_text(r));
	if (l->broker_answers)
		l->unheard_since_ms = 0;
	if (l->outbox.sequence == 0)
		l->send_at_ms = 0;
	return 0;
}

static void ask_lease(struct link *l, const struct frame *f)
{
	int r = -ENOTCONN;

	if (connected(l))
		r = mqtt_publish(l->mqtt, l->lease_topic, f->data, f->len, 1, false);
	if (r < 0 || (broker_is_silent(l) && l->o->url_count > 0))
		r = courier_post(l->courier, LEASE_ID, l->lease_path, f->data, f->len);
	if (r < 0)
		log_warning("link-lease", "the lease request was not handed over: %s", err_text(r));
}

static int do_rate(struct link *l, const struct frame *f)
{
	uint64_t rate;

	if (!take_u64(f, &rate))
		return -ERR_PROTOCOL;
	if (l->blobs)
		blobs_set_rate(l->blobs, rate);
	return 0;
}

static int do_put_rate(struct link *l, const struct frame *f)
{
	uint64_t rate;

	if (!take_u64(f, &rate))
		return -ERR_PROTOCOL;
	puts_set_rate(l->puts, rate);
	return 0;
}

/* Nobody answered by HTTPS. Where only the broker is reached it is asked there, as long as ours is still good. */
static void ask_broker(struct link *l, uint32_t id, const char *words)
{
	int r = -ENOTCONN;

	if (connected(l) && l->enrol_request.len > 0)
		r = mqtt_publish(l->mqtt, l->enrol_topic, l->enrol_request.data, l->enrol_request.len, 1, false);
	if (r == 0)
		l->enrol_id = id;
	else
		tell_enrolled(l, id, 0, words, strlen(words));
	buf_clear(&l->enrol_request);
}

/* HTTPS needs no certificate of ours, so it works when ours is missing or has expired. */
static void do_enrol(struct link *l, const struct frame *f)
{
	static const char none[] = "no address to ask at is configured (urls in agent.yaml)";
	int r = l->o->url_count > 0 ? courier_ask(l->courier, f->id, "v1/enrol", f->data, f->len) : -ERR_CONFIG;

	l->enrol_id = 0;
	buf_clear(&l->enrol_request);
	(void) !buf_add(&l->enrol_request, f->data, f->len); /* without it HTTPS is the only road */
	if (r < 0)
		ask_broker(l, f->id, r == -ERR_CONFIG ? none : err_text(r));
}

static int do_floor(struct link *l, const struct frame *f)
{
	uint64_t floor;

	if (!take_u64(f, &floor) || floor > INT64_MAX)
		return -ERR_PROTOCOL;
	tls_clock_raise(&l->clock, (int64_t) floor);
	return 0;
}

static int obey(struct link *l, const struct frame *f)
{
	switch (f->type) {
	case LINK_FETCH:
		return do_fetch(l, f);
	case LINK_REPORT:
		return do_report(l, f);
	case LINK_EVENT:
		queue_event(l, f->data, f->len);
		return 0;
	case LINK_LEASE:
		/* Asked again by the engine for as long as it waits: never queued. */
		ask_lease(l, f);
		return 0;
	case LINK_ENROL:
		do_enrol(l, f);
		return 0;
	case LINK_ACKED:
		return do_acked(l, f);
	case LINK_LEAVE:
		/* On one connection the broker sees it before the DISCONNECT, with which there is no will. */
		if (connected(l))
			publish_presence(l, "handing-over", false);
		l->left = true;
		return -ERR_PEER_GONE;
	case LINK_FLOOR:
		return do_floor(l, f);
	case LINK_SAVE:
		return do_save(l, f);
	case LINK_PUT:
		return do_put(l, f);
	case LINK_PUT_BLOCK:
		return do_put_block(l, f);
	case LINK_PUT_STOP:
		puts_stop(l->puts);
		return 0;
	case LINK_RATE:
		return do_rate(l, f);
	case LINK_PUT_RATE:
		return do_put_rate(l, f);
	case LINK_STOP_SAVING:
		if (l->blobs)
			blobs_stop(l->blobs);
		return 0;
	case LINK_DOUBT:
		doubt(l);
		return 0;
	case LINK_TRY:
		return do_try(l, f);
	case LINK_RETRY:
		if (l->mqtt)
			mqtt_retry_now(l->mqtt);
		return 0;
	default:
		return -ERR_PROTOCOL;
	}
}

static void take_results(struct link *l)
{
	struct courier_result result;

	while (courier_next(l->courier, &result) > 0) {
		if (result.kind == COURIER_GET || result.kind == COURIER_LOOK) {
			road_ended(l, result.id, result.error, buf_str(&result.body), result.body.len,
				   result.kind == COURIER_GET ? LINK_ROAD_HTTPS : LINK_ROAD_FILE);
		} else if (result.kind == COURIER_ASK) {
			if (result.error == 0)
				tell_enrolled(l, result.id, result.status, buf_str(&result.body), result.body.len);
			else
				ask_broker(l, result.id, buf_str(&result.body));
		} else if (result.id == LEASE_ID) {
			if (result.error == 0)
				tell_engine(l, LINK_GRANT, 0, buf_str(&result.body), result.body.len);
			else
				log_info("link-lease", "the lease request was not answered by HTTPS: %s: %s",
					 err_text(result.error), buf_str(&result.body));
		} else if (result.id == PUT_ID) {
			puts_posted(l->puts, result.error, result.body.data, result.body.len);
		} else {
			l->posting = false;
			l->broker_answers = l->broker_answers && result.error != 0;
			if (result.error == 0)
				tell_engine(l, LINK_ACK, 0, buf_str(&result.body), result.body.len);
			else
				log_info("link-post", "the report was not delivered by HTTPS: %s: %s",
					 err_text(result.error), buf_str(&result.body));
		}
		buf_done(&result.body);
	}
}

/* --- birth and end --- */

static void name_topics(struct link *l)
{
	static const char *const inbound[IN_COUNT] = {
		[IN_ANNOUNCE] = "announce",
		[IN_TIMESTAMP] = "timestamp",
		[IN_NODE_ANNOUNCE] = "node/%s/announce",
		[IN_ACK] = "node/%s/ack",
		[IN_GRANT] = "node/%s/grant",
		[IN_BLOB] = "node/%s/blob",
		[IN_CERTIFICATE] = "node/%s/certificate",
	};
	const char *fleet = l->o->fleet, *node = l->o->node;
	char base[ID_MAX + 32];

	/* Ids are at most 63 bytes: nothing here can be cut. */
	(void) snprintf(base, sizeof(base), "selfright/v1/%s", fleet);
	for (size_t i = 0; i < IN_COUNT; i++) {
		const char *tail = strchr(inbound[i], '%');

		if (tail)
			(void) snprintf(l->topics[i], TOPIC_MAX, "%s/node/%s%s", base, node, tail + 2);
		else
			(void) snprintf(l->topics[i], TOPIC_MAX, "%s/%s", base, inbound[i]);
	}
	(void) snprintf(l->report_topic, TOPIC_MAX, "%s/node/%s/report", base, node);
	(void) snprintf(l->event_topic, TOPIC_MAX, "%s/node/%s/event", base, node);
	(void) snprintf(l->lease_topic, TOPIC_MAX, "%s/node/%s/lease", base, node);
	(void) snprintf(l->get_topic, TOPIC_MAX, "%s/node/%s/get", base, node);
	(void) snprintf(l->enrol_topic, TOPIC_MAX, "%s/node/%s/enrol", base, node);
	(void) snprintf(l->presence_topic, TOPIC_MAX, "%s/node/%s/presence", base, node);
	(void) snprintf(l->put_topic, TOPIC_MAX, "%s/node/%s/put", base, node);
	(void) snprintf(l->put_path, TOPIC_MAX, "v1/node/%s/put", node);
	(void) snprintf(l->report_path, TOPIC_MAX, "v1/node/%s/report", node);
	(void) snprintf(l->lease_path, TOPIC_MAX, "v1/node/%s/lease", node);
}

static int open_road(struct link *l)
{
	const struct relay_options road = {
		.os = l->o->os,
		.dirfd = l->o->outbox_dirfd,
		.host = l->o->broker_host,
		.port = l->o->broker_port,
		.addresses = l->o->broker_addresses,
		.address_count = l->o->broker_address_count,
		.proxy = l->o->broker_proxy,
	};
	struct tls_options tls = {
		.clock = &l->clock,
		.host = l->o->broker_host,
		.port = l->o->broker_port,
		.ca_file = l->o->ca_file,
		.cert_file = l->o->cert_file,
		.key_file = l->o->key_file,
		.alpn = l->o->alpn,
	};
	int r = relay_start(&road, &l->relay);

	if (r < 0 || !l->o->ca_file)
		return r;
	r = tls_new(&tls, &l->tls_in_force);
	l->tls = l->tls_in_force;
	if (r < 0 || !l->o->next_cert_file)
		return r;
	tls.cert_file = l->o->next_cert_file;
	tls.key_file = l->o->next_key_file;
	return tls_new(&tls, &l->tls_next);
}

static int open_mqtt(struct link *l)
{
	const char *subscriptions[IN_COUNT];
	const struct blobs_options files = {
		.os = l->o->os,
		.dirfd = l->o->outbox_dirfd,
		.ask = ask_file,
		.fetched = on_fetched,
		.saved = on_saved,
		.looked = on_looked,
		.user = l,
	};
	struct mqtt_options options = {
		.os = l->o->os,
		.host = l->o->broker_host,
		.port = l->o->broker_port,
		.client_id = l->o->node,
		.keepalive_s = l->o->keepalive_s,
		.retry_base_ms = l->o->retry_base_ms,
		.retry_cap_ms = l->o->retry_cap_ms,
		.refused_cap_ms = l->o->refused_cap_ms,
		.after_stable_ms = l->o->after_stable_ms,
		.free_tls = tls_context_free,
		.explain = explain,
		.make_will = make_will,
		.session_expiry_s = SESSION_EXPIRY_S,
		.will_topic = l->presence_topic,
		.will_delay_s = WILL_DELAY_S,
		.subscriptions = subscriptions,
		.subscription_count = IN_COUNT,
		.on_state = on_state,
		.on_message = on_message,
		.user = l,
	};
	int r;

	for (size_t i = 0; i < IN_COUNT; i++)
		subscriptions[i] = l->topics[i];
	r = open_road(l);
	if (r == 0)
		r = blobs_new(&files, &l->blobs);
	if (r < 0)
		return r;
	options.road_path = relay_path(l->relay);
	options.make_tls = l->tls ? make_tls : NULL;
	l->disconnected_since_ms = now_ms(l);
	return mqtt_open(&options, &l->mqtt);
}

static int open_puts(struct link *l)
{
	bool mqtt_first = false;

	for (size_t i = 0; i < l->o->road_count && l->o->roads[i] != LINK_ROAD_HTTPS; i++)
		mqtt_first = mqtt_first || l->o->roads[i] == LINK_ROAD_MQTT;
	return puts_new(&(struct puts_options){ .os = l->o->os,
						.mqtt = has_road(l, LINK_ROAD_MQTT) && l->o->broker_host,
						.https = has_road(l, LINK_ROAD_HTTPS) && l->o->url_count > 0,
						.mqtt_first = mqtt_first,
						.publish = publish_put,
						.post = post_put,
						.want = want_block,
						.receipt = on_receipt,
						.user = l },
			&l->puts);
}

static int set_up(struct link *l)
{
	const struct courier_options courier = {
		.urls = l->o->urls,
		.url_count = l->o->url_count,
		.mirrors = l->o->mirrors,
		.mirror_count = l->o->mirror_count,
		.folders = l->o->folders,
		.folder_count = l->o->folder_count,
		.redirect_hosts = l->o->redirect_hosts,
		.redirect_host_count = l->o->redirect_host_count,
		.ca_pem = l->o->ca_pem,
		.clock = &l->clock,
		.user_agent = "selfright/" SELFRIGHT_VERSION,
		.hold_max_ms = l->o->hold_max_ms,
	};
	int r;

	name_topics(l);
	name_process(l);
	set_clock(l);
	r = outbox_open(l->o->os, l->o->outbox_dirfd, &l->outbox);
	if (r < 0)
		return r;
	r = outbox_next_counter(&l->outbox, &l->counter);
	if (r < 0)
		log_warning("link-counter", "presence has no counter, it is display only: %s", err_text(r));
	r = courier_start(&courier, &l->courier);
	if (r == 0)
		r = open_puts(l);
	if (r < 0)
		return r;
	l->send_at_ms = l->outbox.sequence ? now_ms(l) : 0;
	if (!l->o->broker_host || l->o->waits) {
		tell_state(l, false,
			   l->o->waits ? "not enrolled yet: there is no certificate" : "no broker is configured");
		return 0;
	}
	return open_mqtt(l);
}

static void tear_down(struct link *l)
{
	/* Before the DISCONNECT, with which there is no will; another agent's birth comes later and counts then. */
	if (connected(l) && !l->left)
		publish_presence(l, "stopped", false);
	mqtt_close(l->mqtt);
	blobs_free(l->blobs);
	puts_free(l->puts);
	relay_stop(l->relay);
	tls_free(l->tls_in_force);
	tls_free(l->tls_next);
	courier_stop(l->courier);
	outbox_close(&l->outbox);
	frame_conn_done(&l->engine);
	buf_done(&l->enrol_request);
	for (size_t i = 0; i < IN_COUNT; i++)
		buf_done(&l->hints[i].newest);
}

static int serve_engine(struct link *l, short revents)
{
	struct frame f;
	int r = frame_pump(&l->engine, revents);

	if (r < 0)
		return r;
	while ((r = frame_next(&l->engine, &f)) > 0) {
		r = obey(l, &f);
		if (r < 0)
			return r;
	}
	return r;
}

static void shorten(int *timeout, uint64_t at, uint64_t now)
{
	uint64_t wait = at > now ? at - now : 0;

	if (at != UINT64_MAX && (*timeout < 0 || wait < (uint64_t) *timeout))
		*timeout = (int) wait;
}

static int loop(struct link *l)
{
	while (!*l->o->stop) {
		struct pollfd fds[3] = {
			{ .fd = l->engine.fd,
			  .events = (short) (POLLIN | (frame_wants_write(&l->engine) ? POLLOUT : 0)) },
			{ .fd = courier_fd(l->courier), .events = POLLIN },
			{ .fd = -1 },
		};
		uint64_t now = now_ms(l);
		int timeout = -1, r;

		if (l->mqtt)
			mqtt_poll_prepare(l->mqtt, &fds[2], &timeout);
		if (l->blobs)
			shorten(&timeout, blobs_next_ms(l->blobs), now);
		shorten(&timeout, puts_next_ms(l->puts), now);
		shorten(&timeout, next_hint_ms(l), now);
		if (l->send_at_ms != 0) {
			uint64_t wait = l->send_at_ms > now ? l->send_at_ms - now : 0;

			if (timeout < 0 || wait < (uint64_t) timeout)
				timeout = (int) wait;
		}
		if (poll(fds, 3, timeout) < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		r = serve_engine(l, fds[0].revents);
		if (r < 0)
			return r;
		if (fds[1].revents)
			take_results(l);
		if (l->mqtt) {
			mqtt_poll_done(l->mqtt, fds[2].revents);
			flush_events(l);
			blobs_step(l->blobs, connected(l));
		}
		puts_step(l->puts, connected(l));
		hand_waiting_hints(l);
		if (l->send_at_ms != 0 && now_ms(l) >= l->send_at_ms)
			send_report(l);
	}
	return 0;
}

int link_run(const struct link_options *o)
{
	struct link l = {
		.o = o,
		.resend = { .base_ms = RESEND_BASE_MS, .cap_ms = RESEND_CAP_MS },
	};
	int r;

	buf_init(&l.enrol_request, SMALL_MAX);
	for (size_t i = 0; i < IN_COUNT; i++)
		buf_init(&l.hints[i].newest, MESSAGE_MAX);
	tls_clock_init(&l.clock, o->os, o->time_floor);
	frame_conn_init(&l.engine, o->engine_fd, LINK_FRAME_MAX);
	r = set_up(&l);
	if (r == 0)
		r = loop(&l);
	tear_down(&l);
	return r == -ERR_PEER_GONE ? 0 : r;
}
