#include "mqtt/mqtt.h"

#include "base/backoff.h"
#include "base/err.h"
#include "base/log.h"

#include <errno.h>
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
	PACKETS_AT_ONCE = 64,
	CONNECT_TIMEOUT_MS = 10 * 1000, /* TCP; the kernel alone would try for 133 s (MQTT.md 1.3) */
	CONNACK_TIMEOUT_MS = 30 * 1000,
	SUBACK_TIMEOUT_MS = 30 * 1000,
	STABLE_MS = 60 * 1000, /* a connection this old proves the road */
	AFTER_STABLE_MS =
		30 * 1000, /* spread of the first try after it ends: a broker's restart must not be a storm */
	RETRY_BASE_MS = 1000,
	RETRY_CAP_MS = 5 * 60 * 1000,
	RETRY_CAP_REFUSED_MS = 60 * 60 * 1000,
	RETRY_BASE_BUSY_MS = 10 * 1000,
	SEND_MAXIMUM = 100,
	KEEPALIVE_S = 60,
	KEEPALIVE_MIN_S = 30,
	KEEPALIVE_MAX_S = 240,
	KEEPALIVE_PROVEN = 10, /* so many intervals without a loss prove one */
	SILENT_LOSSES = 2, /* in a row prove that it is too long */
	CEILING_MS = 24 * 60 * 60 * 1000, /* what was too long is not tried again for a day */
	WILL_MAX = 1024,
	NAMED_MAX = 64, /* publications whose topic is known when their answer comes */
	TOPIC_SHOWN = 120,
	PACKET_SLACK = 64 * 1024, /* TLS's own bytes around a packet */
};

/* What kind of failure ended a connection, and so how soon the next is worth a try. */
enum failure { FAILURE_NETWORK, FAILURE_REFUSED, FAILURE_BUSY };

enum phase {
	PHASE_WAITING, /* until retry_at */
	PHASE_TCP, /* the connect is under way; the library must not be called before it ends */
	PHASE_CONNACK,
	PHASE_SUBACK,
	PHASE_UP,
};

struct mqtt {
	struct mqtt_options o;
	char *strings[12]; /* copies behind the options */
	size_t string_count;
	char **filters;
	void *will;
	struct mosquitto *mosq;
	enum phase phase;
	uint64_t deadline_ms, retry_at_ms, up_since_ms, misc_at_ms;
	uint64_t heard_ms, sent_ms; /* the last bytes in, the last packet out */
	unsigned awaited_subacks;
	int protocol;
	bool over; /* a callback said that this connection is over */
	enum failure failure;
	struct backoff backoff;
	unsigned keepalive_s, silent_losses;
	unsigned interval_s; /* the keepalive of this connection: the broker may want a shorter one */
	bool pings_late; /* it wanted a longer one, which the library obeys */
	uint64_t completed_bytes; /* read from the broker when the last packet was complete */
	uint64_t ceiling_until_ms; /* the keepalive does not grow before then */
	struct {
		int mid;
		char topic[TOPIC_SHOWN];
	} named[NAMED_MAX]; /* the last ones, by their number */
	struct mqtt_stats stats;
};

static uint64_t now_ms(const struct mqtt *m)
{
	return m->o.os->clock_boot_ms(m->o.os);
}

static uint64_t random_u64(const struct mqtt *m)
{
	uint64_t v = 0;

	/* Without randomness the delay is its upper end: slower, never a storm of retries. */
	if (m->o.os->random(m->o.os, &v, sizeof(v)) < 0)
		v = UINT64_MAX;
	return v;
}

static void set_reason(struct mqtt *m, const char *reason)
{
	(void) snprintf(m->stats.last_reason, sizeof(m->stats.last_reason), "%s", reason);
}

/* What has been read over TLS. Without it the broker is our own, on loopback. */
static uint64_t bytes_read(const struct mqtt *m)
{
	SSL *ssl = mosquitto_ssl_get(m->mosq);

	return ssl && SSL_get_rbio(ssl) ? BIO_number_read(SSL_get_rbio(ssl)) : 0;
}

/* --- callbacks: they run inside mosquitto_loop_*, so they only note what happened --- */

/* The codes of 3.1.1 are small numbers; those of MQTT 5 begin at 128. */
static enum failure failure_of(int rc)
{
	switch (rc) {
	case MQTT_RC_NOT_AUTHORIZED:
	case MQTT_RC_BANNED:
	case MQTT_RC_BAD_USERNAME_OR_PASSWORD:
	case MQTT_RC_CLIENTID_NOT_VALID:
	case MQTT_RC_BAD_AUTHENTICATION_METHOD:
	case MQTT_RC_SESSION_TAKEN_OVER:
	case MQTT_RC_USE_ANOTHER_SERVER:
	case MQTT_RC_SERVER_MOVED:
	case CONNACK_REFUSED_IDENTIFIER_REJECTED:
	case CONNACK_REFUSED_NOT_AUTHORIZED:
	case CONNACK_REFUSED_BAD_USERNAME_PASSWORD:
		return FAILURE_REFUSED;
	case MQTT_RC_SERVER_BUSY:
	case MQTT_RC_SERVER_UNAVAILABLE:
	case MQTT_RC_QUOTA_EXCEEDED:
	case MQTT_RC_CONNECTION_RATE_EXCEEDED:
	case CONNACK_REFUSED_SERVER_UNAVAILABLE:
		return FAILURE_BUSY;
	default:
		return FAILURE_NETWORK;
	}
}

static void explain_code(struct mqtt *m, const char *what, int rc, const mosquitto_property *props)
{
	const char *words = m->protocol == MQTT_PROTOCOL_V5 || rc > 5 ? mosquitto_reason_string(rc)
								      : mosquitto_connack_string(rc);
	char *more = NULL;

	/* Its own words, or where it would have us go: said to people, since only the configured broker is ours. */
	if (!mosquitto_property_read_string(props, MQTT_PROP_SERVER_REFERENCE, &more, false))
		(void) mosquitto_property_read_string(props, MQTT_PROP_REASON_STRING, &more, false);
	(void) snprintf(m->stats.last_reason, sizeof(m->stats.last_reason), "%s: %s%s%.100s%s", what, words,
			more ? " (" : "", more ? more : "", more ? ")" : "");
	free(more);
}

static void on_connect(struct mosquitto *mosq, void *user, int rc, int flags, const mosquitto_property *props)
{
	struct mqtt *m = user;

	(void) flags;
	m->completed_bytes = bytes_read(m);
	if (rc == 0) {
		uint16_t wanted = 0;

		/* The library takes it over: if it is shorter, ours would ping too late; else the library does. */
		if (mosquitto_property_read_int16(props, MQTT_PROP_SERVER_KEEP_ALIVE, &wanted, false)) {
			m->pings_late = wanted == 0 || wanted > m->interval_s;
			if (!m->pings_late)
				m->interval_s = wanted;
		}
		m->phase = PHASE_SUBACK;
		m->deadline_ms = now_ms(m) + SUBACK_TIMEOUT_MS;
		m->awaited_subacks = 0;
		for (size_t i = 0; i < m->o.subscription_count; i++) {
			if (mosquitto_subscribe_v5(mosq, NULL, m->o.subscriptions[i], 1, 0, NULL) !=
			    MOSQ_ERR_SUCCESS) {
				set_reason(m, "the subscription could not be sent");
				m->over = true;
				return;
			}
			m->awaited_subacks++;
		}
		return;
	}
	if (m->protocol == MQTT_PROTOCOL_V5 &&
	    (rc == MQTT_RC_UNSUPPORTED_PROTOCOL_VERSION || rc == CONNACK_REFUSED_PROTOCOL_VERSION))
		m->protocol = MQTT_PROTOCOL_V311;
	else
		m->failure = failure_of(rc);
	explain_code(m, "the broker refused", rc, props);
	m->over = true;
}

static void on_disconnect(struct mosquitto *mosq, void *user, int rc, const mosquitto_property *props)
{
	struct mqtt *m = user;

	(void) mosq;
	if (rc >= 128)
		m->failure = failure_of(rc);
	if (rc == MQTT_RC_SESSION_TAKEN_OVER)
		set_reason(m, "another client took over this id: is this node's image cloned?");
	else if (rc >= 128)
		explain_code(m, "the broker ended the connection", rc, props);
	else if (rc == MOSQ_ERR_KEEPALIVE)
		set_reason(m, "nothing was heard from the broker: a firewall that forgets connections?");
	m->over = true;
}

static void on_subscribe(struct mosquitto *mosq, void *user, int mid, int count, const int *granted,
			 const mosquitto_property *props)
{
	struct mqtt *m = user;

	(void) mosq;
	(void) mid;
	(void) props;
	m->completed_bytes = bytes_read(m);
	for (int i = 0; i < count; i++) {
		if (granted[i] >= 128) {
			(void) snprintf(m->stats.last_reason, sizeof(m->stats.last_reason),
					"a subscription was refused: %s", mosquitto_reason_string(granted[i]));
			m->failure = FAILURE_REFUSED;
			m->over = true;
			return;
		}
	}
	if (m->awaited_subacks > 0)
		m->awaited_subacks--;
}

static void on_message(struct mosquitto *mosq, void *user, const struct mosquitto_message *message,
		       const mosquitto_property *props)
{
	struct mqtt *m = user;

	(void) mosq;
	(void) props;
	m->stats.messages_in++;
	m->completed_bytes = bytes_read(m);
	if (m->o.on_message)
		m->o.on_message(m->o.user, message->topic, message->payload, (size_t) message->payloadlen,
				message->retain);
}

/* A refused message is lost as one on the way would be, and is sent again; only people can mend what refuses it. */
static void on_publish(struct mosquitto *mosq, void *user, int mid, int rc, const mosquitto_property *props)
{
	struct mqtt *m = user;
	const char *topic = m->named[mid % NAMED_MAX].mid == mid ? m->named[mid % NAMED_MAX].topic : "?";

	(void) mosq;
	(void) props;
	m->completed_bytes = bytes_read(m);
	if (rc >= 128)
		log_warning("mqtt-refused", "the broker refused a message: topic=%s reason='%s'", topic,
			    mosquitto_reason_string(rc));
}

/* --- making and ending a connection --- */

/* What this connection taught about how long the road stays open in silence. */
static void adapt_keepalive(struct mqtt *m, uint64_t now)
{
	const uint64_t interval_ms = (uint64_t) m->interval_s * 1000;

	if (m->o.keepalive_s > 0 || m->phase != PHASE_UP)
		return;
	if (now - m->heard_ms >= interval_ms) {
		if (++m->silent_losses < SILENT_LOSSES)
			return;
		m->silent_losses = 0;
		m->keepalive_s = m->keepalive_s / 2 < KEEPALIVE_MIN_S ? KEEPALIVE_MIN_S : m->keepalive_s / 2;
		m->ceiling_until_ms = now + CEILING_MS;
	} else if (now - m->up_since_ms >= interval_ms * KEEPALIVE_PROVEN) {
		m->silent_losses = 0;
		if (now >= m->ceiling_until_ms)
			m->keepalive_s =
				m->keepalive_s * 2 > KEEPALIVE_MAX_S ? KEEPALIVE_MAX_S : m->keepalive_s * 2;
	}
}

static uint64_t next_delay_ms(struct mqtt *m, bool was_stable)
{
	struct backoff *b = &m->backoff;
	struct backoff next;
	uint64_t delay;

	if (was_stable)
		backoff_reset(b);
	if (was_stable && m->failure == FAILURE_NETWORK)
		return random_u64(m) % (m->o.after_stable_ms + 1);
	next = *b;
	if (m->failure == FAILURE_REFUSED)
		next.cap_ms = m->o.refused_cap_ms;
	else if (m->failure == FAILURE_BUSY && next.base_ms < RETRY_BASE_BUSY_MS)
		next.base_ms = RETRY_BASE_BUSY_MS < next.cap_ms ? RETRY_BASE_BUSY_MS : next.cap_ms;
	delay = backoff_next_ms(&next, random_u64(m));
	b->failures = next.failures;
	return delay;
}

static void end_connection(struct mqtt *m)
{
	uint64_t now = now_ms(m);
	bool was_up = m->phase == PHASE_UP;

	adapt_keepalive(m, now);
	mosquitto_destroy(m->mosq);
	m->mosq = NULL;
	m->retry_at_ms = now + next_delay_ms(m, was_up && now - m->up_since_ms >= STABLE_MS);
	m->phase = PHASE_WAITING;
	m->over = false;
	m->failure = FAILURE_NETWORK;
	if (was_up)
		m->protocol = MQTT_PROTOCOL_V5; /* the broker may have been replaced or updated */
	m->stats.failures++;
	m->stats.keepalive_s = m->keepalive_s;
	if (m->o.on_state)
		m->o.on_state(m->o.user, false, m->stats.last_reason);
}

static void end_with(struct mqtt *m, const char *reason)
{
	set_reason(m, reason);
	end_connection(m);
}

/* Connect properties live in the library only after a call that takes them; see begin_connection(). */
static mosquitto_property *connect_properties(const struct mqtt *m)
{
	mosquitto_property *props = NULL;

	if (m->protocol != MQTT_PROTOCOL_V5)
		return NULL;
	if (mosquitto_property_add_int32(&props, MQTT_PROP_SESSION_EXPIRY_INTERVAL, m->o.session_expiry_s) ||
	    mosquitto_property_add_int32(&props, MQTT_PROP_MAXIMUM_PACKET_SIZE, m->o.max_packet)) {
		mosquitto_property_free_all(&props);
		return NULL;
	}
	return props;
}

static int set_will(struct mqtt *m)
{
	CLEANUP(buf_done)
	struct buf made = BUF_INIT(WILL_MAX);
	mosquitto_property *props = NULL;
	int rc;

	if (!m->o.will_topic)
		return MOSQ_ERR_SUCCESS;
	if (m->o.make_will && m->o.make_will(m->o.user, &made) < 0)
		return MOSQ_ERR_NOMEM;
	if (m->protocol == MQTT_PROTOCOL_V5 && m->o.will_delay_s > 0) {
		rc = mosquitto_property_add_int32(&props, MQTT_PROP_WILL_DELAY_INTERVAL, m->o.will_delay_s);
		if (rc != MOSQ_ERR_SUCCESS)
			return rc;
	}
	rc = mosquitto_will_set_v5(m->mosq, m->o.will_topic, (int) (m->o.make_will ? made.len : m->o.will_len),
				   m->o.make_will ? made.data : m->will, 1, true, props);
	if (rc != MOSQ_ERR_SUCCESS)
		mosquitto_property_free_all(&props); /* on success they belong to the library */
	return rc;
}

/* The caller's own judgement; the library adds nothing to it and takes nothing away. */
static int set_own_tls(struct mqtt *m)
{
	void *ctx = NULL;
	int rc;

	if (m->o.make_tls(m->o.user, &ctx) < 0)
		return MOSQ_ERR_TLS;
	rc = mosquitto_int_option(m->mosq, MOSQ_OPT_SSL_CTX_WITH_DEFAULTS, 0);
	if (rc == MOSQ_ERR_SUCCESS)
		rc = mosquitto_void_option(m->mosq, MOSQ_OPT_SSL_CTX, ctx);
	m->o.free_tls(ctx);
	return rc;
}

/* A fresh client for every attempt: certificates are read again, nothing of the last connection lingers. */
static int make_client(struct mqtt *m)
{
	int rc;

	m->mosq = mosquitto_new(m->o.client_id,
				m->protocol == MQTT_PROTOCOL_V5 ? m->o.session_expiry_s == 0 : false, m);
	if (!m->mosq)
		return MOSQ_ERR_NOMEM;
	rc = mosquitto_int_option(m->mosq, MOSQ_OPT_PROTOCOL_VERSION, m->protocol);
	if (rc == MOSQ_ERR_SUCCESS)
		rc = mosquitto_int_option(m->mosq, MOSQ_OPT_SEND_MAXIMUM, SEND_MAXIMUM);
	if (rc == MOSQ_ERR_SUCCESS)
		rc = mosquitto_int_option(m->mosq, MOSQ_OPT_TCP_NODELAY, 1);
	if (rc == MOSQ_ERR_SUCCESS && m->o.username)
		rc = mosquitto_username_pw_set(m->mosq, m->o.username, m->o.password);
	if (rc == MOSQ_ERR_SUCCESS && m->o.make_tls)
		rc = set_own_tls(m);
	else if (rc == MOSQ_ERR_SUCCESS && m->o.ca_file) {
		rc = mosquitto_tls_set(m->mosq, m->o.ca_file, NULL, m->o.cert_file, m->o.key_file, NULL);
		if (rc == MOSQ_ERR_SUCCESS)
			rc = mosquitto_tls_opts_set(m->mosq, 1, "tlsv1.2", NULL);
	}
	if (rc == MOSQ_ERR_SUCCESS)
		rc = set_will(m);
	mosquitto_connect_v5_callback_set(m->mosq, on_connect);
	mosquitto_disconnect_v5_callback_set(m->mosq, on_disconnect);
	mosquitto_subscribe_v5_callback_set(m->mosq, on_subscribe);
	mosquitto_message_v5_callback_set(m->mosq, on_message);
	mosquitto_publish_v5_callback_set(m->mosq, on_publish);
	return rc;
}

/* What road and TLS have to say about a failure, before the library's own few words. */
static bool explained(struct mqtt *m)
{
	char words[sizeof(m->stats.last_reason)] = "";
	bool refused = false;

	if (!m->o.explain)
		return false;
	m->o.explain(m->o.user, words, sizeof(words), &refused);
	if (!words[0])
		return false;
	set_reason(m, words);
	if (refused)
		m->failure = FAILURE_REFUSED;
	return true;
}

/* Straight to the broker. The library must not be called again before the TCP connect has ended. */
static int connect_straight(struct mqtt *m, const mosquitto_property *props)
{
	/*
	 * The asynchronous connect takes no MQTT 5 properties. A synchronous one to a port where nobody
	 * listens fails at once and leaves them stored (MQTT.md 1.2).
	 */
	if (props) {
		(void) mosquitto_connect_bind_v5(m->mosq, "127.0.0.1", 1, (int) m->keepalive_s, NULL, props);
		m->over = false;
	}
	m->phase = PHASE_TCP;
	m->deadline_ms = now_ms(m) + CONNECT_TIMEOUT_MS;
	return mosquitto_connect_bind_async(m->mosq, m->o.host, (int) m->o.port, (int) m->keepalive_s, NULL);
}

/* Into the relay's socket, which takes it at once: what is slow happens behind it. Port 0 says that it is a path. */
static int connect_by_road(struct mqtt *m, const mosquitto_property *props)
{
	set_reason(m, "");
	m->phase = PHASE_CONNACK;
	m->deadline_ms = now_ms(m) + CONNACK_TIMEOUT_MS;
	m->misc_at_ms = 0;
	return mosquitto_connect_bind_v5(m->mosq, m->o.road_path, 0, (int) m->keepalive_s, NULL, props);
}

static void begin_connection(struct mqtt *m)
{
	mosquitto_property *props;
	int rc = make_client(m);

	m->heard_ms = m->sent_ms = now_ms(m);
	m->interval_s = m->keepalive_s;
	m->pings_late = false;
	m->completed_bytes = 0;
	if (rc != MOSQ_ERR_SUCCESS) {
		m->failure = rc != MOSQ_ERR_NOMEM ? FAILURE_REFUSED : FAILURE_NETWORK;
		if (explained(m))
			end_connection(m);
		else
			end_with(m, rc == MOSQ_ERR_INVAL || rc == MOSQ_ERR_TLS
					    ? "the certificate or key cannot be read"
					    : mosquitto_strerror(rc));
		return;
	}
	props = connect_properties(m);
	rc = m->o.road_path ? connect_by_road(m, props) : connect_straight(m, props);
	mosquitto_property_free_all(&props);
	if (rc == MOSQ_ERR_TLS && explained(m)) {
		end_connection(m); /* the road was quick: the handshake ended within this very call */
		return;
	}
	if (rc != MOSQ_ERR_SUCCESS) {
		end_with(m, rc == MOSQ_ERR_ERRNO ? err_text(-errno)
			    : rc == MOSQ_ERR_EAI ? "the broker's name does not resolve"
			    : rc == MOSQ_ERR_TLS ? "TLS could not be set up: is the certificate readable?"
						 : mosquitto_strerror(rc));
		return;
	}
	m->over = false;
}

/* --- the loop --- */

/*
 * What has left the socket and waits inside TLS: several packets in one record. The library stops
 * reading where errno happens to be EAGAIN, which any call behind a callback may leave, and no poll
 * would show what is left.
 */
static bool tls_has_more(const struct mqtt *m)
{
	SSL *ssl = mosquitto_ssl_get(m->mosq);

	return ssl && SSL_pending(ssl) > 0;
}

void mqtt_poll_prepare(struct mqtt *m, struct pollfd *ret_poll, int *timeout_ms)
{
	uint64_t now = now_ms(m), at;

	*ret_poll = (struct pollfd){ .fd = -1 };
	switch (m->phase) {
	case PHASE_WAITING:
		at = m->retry_at_ms;
		break;
	case PHASE_TCP:
		ret_poll->fd = mosquitto_socket(m->mosq);
		ret_poll->events = POLLOUT;
		at = m->deadline_ms;
		break;
	case PHASE_CONNACK:
	case PHASE_SUBACK:
	case PHASE_UP:
	default:
		ret_poll->fd = mosquitto_socket(m->mosq);
		ret_poll->events = (short) (POLLIN | (mosquitto_want_write(m->mosq) ? POLLOUT : 0));
		at = tls_has_more(m) ? now : m->misc_at_ms;
		break;
	}
	if (at <= now)
		*timeout_ms = 0;
	else if (*timeout_ms < 0 || at - now < (uint64_t) *timeout_ms)
		*timeout_ms = (int) (at - now);
}

/*
 * A broker that knows no MQTT 5 may hang up without a word. The two versions take turns until
 * one gets an answer.
 */
static void change_version(struct mqtt *m, int rc)
{
	if (m->phase == PHASE_CONNACK && rc == MOSQ_ERR_CONN_LOST)
		m->protocol = m->protocol == MQTT_PROTOCOL_V5 ? MQTT_PROTOCOL_V311 : MQTT_PROTOCOL_V5;
}

/* The reason of a failed loop call: the callback's own words are better when it had any. */
static void end_after(struct mqtt *m, int rc)
{
	if (m->stats.last_reason[0] == '\0' && !explained(m)) {
		change_version(m, rc);
		if (rc == MOSQ_ERR_TLS) {
			m->failure = FAILURE_REFUSED;
			set_reason(m, "TLS: the broker's certificate is not from our CA, or ours was refused");
		} else {
			/* The library asks for as much memory as a packet says it has bytes. */
			set_reason(
				m,
				rc == MOSQ_ERR_NOMEM
					? "no memory for what the broker sent: a packet larger than was asked for?"
				: rc == MOSQ_ERR_CONN_LOST || rc == MOSQ_ERR_NO_CONN ? "the connection was lost"
				: rc == MOSQ_ERR_ERRNO				     ? err_text(-errno)
										     : mosquitto_strerror(rc));
		}
	}
	end_connection(m);
}

static bool tcp_is_through(struct mqtt *m, short revents)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (!(revents & (POLLOUT | POLLERR | POLLHUP))) {
		if (now_ms(m) >= m->deadline_ms)
			end_with(m, "no answer to the TCP connect: a firewall?");
		return false;
	}
	if (getsockopt(mosquitto_socket(m->mosq), SOL_SOCKET, SO_ERROR, &error, &len) < 0 || error != 0) {
		end_with(m, err_text(-(error ? error : errno)));
		return false;
	}
	m->phase = PHASE_CONNACK;
	m->deadline_ms = now_ms(m) + CONNACK_TIMEOUT_MS;
	set_reason(m, "");
	return true;
}

/*
 * What forgets connections on the way does not know what the broker allows. To subscribe once more to what is subscribed
 * to is always permitted and always answered; nothing retained is sent for it.
 */
static void ask_for_life(struct mqtt *m)
{
	if (m->o.subscription_count > 0)
		(void) mosquitto_subscribe_v5(m->mosq, NULL, m->o.subscriptions[0], 1,
					      MQTT_SUB_OPT_SEND_RETAIN_NEVER, NULL); /* silence ends it else */
}

/*
 * The library sends its ping once a keepalive has passed since the last packet, to the
 * second; waking up just then, and not before, is all an idle node does.
 */
static void plan_misc(struct mqtt *m)
{
	const uint64_t interval_ms = (uint64_t) m->interval_s * 1000 + 1000;
	uint64_t now = now_ms(m), at = m->sent_ms + interval_ms;

	if (m->phase != PHASE_UP) {
		m->misc_at_ms = now + 1000;
		return;
	}
	if (at <= now) { /* it was sent just now */
		if (m->pings_late)
			ask_for_life(m);
		m->sent_ms = now;
		at = now + interval_ms;
	}
	m->misc_at_ms = at;
}

static void after_loop(struct mqtt *m)
{
	uint64_t now = now_ms(m);

	if (m->phase == PHASE_SUBACK && m->awaited_subacks == 0) {
		m->phase = PHASE_UP;
		m->up_since_ms = m->sent_ms = now;
		plan_misc(m);
		m->stats.connects++;
		set_reason(m, "");
		if (m->o.on_state)
			m->o.on_state(m->o.user, true, m->protocol == MQTT_PROTOCOL_V5 ? "MQTT 5" : "MQTT 3.1.1");
	} else if ((m->phase == PHASE_CONNACK || m->phase == PHASE_SUBACK) && now >= m->deadline_ms) {
		end_with(m, m->phase == PHASE_CONNACK ? "connected, but no answer: is this an MQTT broker?"
						      : "the broker does not answer subscriptions");
	} else if (m->phase == PHASE_UP && now - m->heard_ms > (uint64_t) m->interval_s * 2000 + 5000) {
		/* The library's own watch stands still while the machine is suspended; this clock does not. */
		end_with(m, "nothing was heard from the broker: a firewall that forgets connections?");
	} else if (m->phase == PHASE_UP && m->backoff.failures > 0 && now - m->up_since_ms >= STABLE_MS) {
		backoff_reset(&m->backoff);
	}
}

/*
 * The library does not notice that the other side is gone while the TLS handshake has not
 * ended, and spins until the keepalive (MQTT.md 1.1, mosquitto#2594). We look for it.
 */
static bool is_hung_up(const struct mqtt *m)
{
	char byte;
	ssize_t n;

	if (m->phase != PHASE_CONNACK)
		return false;
	n = recv(mosquitto_socket(m->mosq), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

static bool more_has_come(const struct mqtt *m)
{
	struct pollfd p = { .fd = mosquitto_socket(m->mosq), .events = POLLIN };

	if (tls_has_more(m))
		return true;
	return p.fd >= 0 && poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
}

/* The library reads a packet at a time; what came together is handed over together, so that it can be stored so. */
static int read_packets(struct mqtt *m)
{
	int rc = mosquitto_loop_read(m->mosq, 1);

	for (int i = 1;
	     i < PACKETS_AT_ONCE && rc == MOSQ_ERR_SUCCESS && !m->over && m->phase == PHASE_UP && more_has_come(m);
	     i++)
		rc = mosquitto_loop_read(m->mosq, 1);
	return rc;
}

/* The library would take a packet of 256 MB, whatever was asked for. */
static bool packet_is_too_large(const struct mqtt *m)
{
	return bytes_read(m) - m->completed_bytes > 2 * (uint64_t) m->o.max_packet + PACKET_SLACK;
}

void mqtt_poll_done(struct mqtt *m, short revents)
{
	int rc = MOSQ_ERR_SUCCESS;

	if (m->phase == PHASE_WAITING) {
		if (now_ms(m) >= m->retry_at_ms)
			begin_connection(m);
		return;
	}
	if (m->phase == PHASE_TCP && !tcp_is_through(m, revents))
		return;
	if (revents & (POLLIN | POLLHUP | POLLERR) || tls_has_more(m)) {
		m->heard_ms = now_ms(m);
		rc = is_hung_up(m) ? MOSQ_ERR_CONN_LOST : read_packets(m);
	}
	if (rc == MOSQ_ERR_SUCCESS && !m->over && (revents & POLLOUT || mosquitto_want_write(m->mosq)))
		rc = mosquitto_loop_write(m->mosq, 1);
	if (rc == MOSQ_ERR_SUCCESS && !m->over && now_ms(m) >= m->misc_at_ms) {
		rc = mosquitto_loop_misc(m->mosq);
		plan_misc(m);
	}
	if (rc == MOSQ_ERR_SUCCESS && !m->over && packet_is_too_large(m)) {
		set_reason(m, "the broker sends a packet larger than was asked for");
		m->over = true;
	}
	if (rc != MOSQ_ERR_SUCCESS || m->over || mosquitto_socket(m->mosq) < 0)
		end_after(m, rc != MOSQ_ERR_SUCCESS ? rc : MOSQ_ERR_CONN_LOST);
	else
		after_loop(m);
}

bool mqtt_is_connected(const struct mqtt *m)
{
	return m->phase == PHASE_UP;
}

int mqtt_publish(struct mqtt *m, const char *topic, const void *payload, size_t len, int qos, bool retain)
{
	int rc, mid = 0;

	if (m->phase != PHASE_UP || m->over)
		return -ENOTCONN;
	if (len > MQTT_MAX_PAYLOAD)
		return -ERR_TOO_LARGE;
	rc = mosquitto_publish_v5(m->mosq, &mid, topic, (int) len, payload, qos, retain, NULL);
	switch (rc) {
	case MOSQ_ERR_SUCCESS:
		m->named[mid % NAMED_MAX].mid = mid;
		(void) snprintf(m->named[mid % NAMED_MAX].topic, TOPIC_SHOWN, "%s",
				topic); /* a longer one is cut */
		m->stats.messages_out++;
		m->sent_ms = now_ms(m);
		return 0;
	case MOSQ_ERR_NOMEM:
		return -ENOMEM;
	case MOSQ_ERR_PAYLOAD_SIZE:
	case MOSQ_ERR_OVERSIZE_PACKET:
		return -ERR_TOO_LARGE;
	case MOSQ_ERR_NO_CONN:
	case MOSQ_ERR_CONN_LOST:
		return -ENOTCONN;
	default:
		return -ERR_NETWORK;
	}
}

int mqtt_ask_retained(struct mqtt *m, const char *filter)
{
	if (m->phase != PHASE_UP || m->over)
		return -ENOTCONN;
	m->sent_ms = now_ms(m);
	/* Subscribed to already: the subscription is replaced by itself, and what is retained comes once more. */
	switch (mosquitto_subscribe_v5(m->mosq, NULL, filter, 1, 0, NULL)) {
	case MOSQ_ERR_SUCCESS:
		return 0;
	case MOSQ_ERR_NOMEM:
		return -ENOMEM;
	default:
		return -ENOTCONN;
	}
}

void mqtt_retry_now(struct mqtt *m)
{
	if (m->phase == PHASE_WAITING)
		m->retry_at_ms = now_ms(m);
}

void mqtt_stats(const struct mqtt *m, struct mqtt_stats *ret)
{
	*ret = m->stats;
	ret->heard_ms = m->heard_ms;
}

/* --- birth and end --- */

static const char *keep(struct mqtt *m, const char *s, int *r)
{
	char *copy;

	if (!s || *r < 0)
		return NULL;
	copy = strdup(s);
	if (!copy)
		*r = -ENOMEM;
	else
		m->strings[m->string_count++] = copy;
	return copy;
}

static int copy_options(struct mqtt *m, const struct mqtt_options *o)
{
	int r = 0;

	m->o = *o;
	m->o.host = keep(m, o->host, &r);
	m->o.client_id = keep(m, o->client_id, &r);
	m->o.ca_file = keep(m, o->ca_file, &r);
	m->o.cert_file = keep(m, o->cert_file, &r);
	m->o.key_file = keep(m, o->key_file, &r);
	m->o.username = keep(m, o->username, &r);
	m->o.password = keep(m, o->password, &r);
	m->o.will_topic = keep(m, o->will_topic, &r);
	m->o.road_path = keep(m, o->road_path, &r);
	m->o.retry_base_ms = o->retry_base_ms ? o->retry_base_ms : RETRY_BASE_MS;
	m->o.retry_cap_ms = o->retry_cap_ms ? o->retry_cap_ms : RETRY_CAP_MS;
	m->o.refused_cap_ms = o->refused_cap_ms ? o->refused_cap_ms
			      : o->retry_cap_ms ? o->retry_cap_ms
						: RETRY_CAP_REFUSED_MS;
	m->o.after_stable_ms = o->after_stable_ms ? o->after_stable_ms : AFTER_STABLE_MS;
	if (m->o.after_stable_ms > m->o.retry_cap_ms)
		m->o.after_stable_ms = m->o.retry_cap_ms;
	m->keepalive_s = m->stats.keepalive_s = o->keepalive_s ? o->keepalive_s : KEEPALIVE_S;
	m->o.max_packet = o->max_packet ? o->max_packet : 262144;
	m->o.subscription_count = 0;
	if (r < 0)
		return r;
	if (o->will_len > 0) {
		m->will = malloc(o->will_len);
		if (!m->will)
			return -ENOMEM;
		memcpy(m->will, o->will_payload, o->will_len);
	}
	m->filters = calloc(o->subscription_count + 1, sizeof(*m->filters));
	if (!m->filters)
		return -ENOMEM;
	for (; m->o.subscription_count < o->subscription_count; m->o.subscription_count++) {
		char **slot = &m->filters[m->o.subscription_count];

		*slot = strdup(o->subscriptions[m->o.subscription_count]);
		if (!*slot)
			return -ENOMEM;
	}
	m->o.subscriptions = (const char *const *) m->filters;
	return 0;
}

static void free_all(struct mqtt *m)
{
	for (size_t i = 0; i < m->string_count; i++)
		free(m->strings[i]);
	for (size_t i = 0; m->filters && i < m->o.subscription_count; i++)
		free(m->filters[i]);
	free(m->filters);
	free(m->will);
	free(m);
	(void) mosquitto_lib_cleanup(); /* counted by the library; nothing to do about a failure */
}

int mqtt_open(const struct mqtt_options *o, struct mqtt **ret)
{
	struct mqtt *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	if (mosquitto_lib_init() != MOSQ_ERR_SUCCESS) {
		free(m);
		return -ENOMEM;
	}
	r = copy_options(m, o);
	if (r < 0) {
		free_all(m);
		return r;
	}
	m->protocol = MQTT_PROTOCOL_V5;
	m->backoff.base_ms = m->o.retry_base_ms;
	m->backoff.cap_ms = m->o.retry_cap_ms;
	m->phase = PHASE_WAITING;
	m->retry_at_ms = now_ms(m);
	*ret = m;
	return 0;
}

void mqtt_close(struct mqtt *m)
{
	if (!m)
		return;
	if (m->mosq && m->phase == PHASE_UP) {
		m->o.on_state = NULL;
		m->o.on_message = NULL;
		(void) mosquitto_disconnect_v5(m->mosq, 0, NULL); /* a lost one publishes the will instead */
		for (int i = 0; i < 20 && mosquitto_want_write(m->mosq); i++)
			if (mosquitto_loop_write(m->mosq, 1) != MOSQ_ERR_SUCCESS)
				break;
	}
	mosquitto_destroy(m->mosq);
	free_all(m);
}
