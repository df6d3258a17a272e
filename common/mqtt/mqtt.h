/*
 * mqtt - libmosquitto driven by the caller's own poll loop (its threads die
 * silently: MQTT.md 1.3), MQTT 5, QoS 1 and 0, never 2.
 *
 *   mqtt_open -> loop { mqtt_poll_prepare -> poll -> mqtt_poll_done }
 *
 * Connects and reconnects by itself with full jitter, per class of failure: base 1 s and
 * cap 5 min for the network, cap 1 h for "not authorised", a bad certificate or a cloned
 * id, base 10 s for a broker that says it is busy; the counter falls back after 60 s of a
 * stable connection. A supervisor clock outside the library, which counts through suspend:
 * no CONNACK in 30 s, or nothing heard in twice the keepalive, closes the connection.
 *
 * MQTT 3.1.1 follows where MQTT 5 was refused, or hung up on without a word (RabbitMQ
 * before 3.13); after a connection that was up MQTT 5 is tried first again.
 *
 * A broker that names a shorter keepalive of its own gets that one; one that names a longer one is asked for a sign of
 * life as often as the road needs it. The keepalive, if none is given, starts at 60 s, doubles up to 240 s where
 * connections hold, and halves down to 30 s after two losses in silence in a row.
 */
#ifndef SELFRIGHT_MQTT_MQTT_H
#define SELFRIGHT_MQTT_MQTT_H

#include "base/attr.h"
#include "base/buf.h"
#include "os/os.h"

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mqtt;

struct mqtt_options {
	const struct os *os;
	const char *host; /* a name or an address */
	unsigned port;
	const char *client_id;
	const char *ca_file, *cert_file,
		*key_file; /* NULL ca_file: no TLS (loopback listener of the controller only) */
	const char *username, *password; /* may be NULL */
	unsigned keepalive_s; /* 0: adaptive */
	uint32_t session_expiry_s; /* MQTT 5 session expiry */
	uint32_t
		max_packet; /* asked of the broker, bytes, and a TLS connection with more than twice that ends; 0: 262144 */
	const char *will_topic; /* may be NULL */
	const void *will_payload;
	size_t will_len;
	uint32_t will_delay_s;
	const char *const *subscriptions; /* exact topics or filters, QoS 1, at every connect */
	size_t subscription_count;
	uint64_t retry_base_ms, retry_cap_ms; /* 0: 1000, 300000 */
	uint64_t refused_cap_ms; /* 0: retry_cap_ms if that is given, else an hour */
	uint64_t after_stable_ms; /* spread of the first try after a stable connection; 0: 30000 */
	/*
	 * A road of the caller's instead of host:port (fetch/relay.h): the path of a Unix socket that
	 * leads to the broker. NULL: straight there, for brokers on loopback, since names would block.
	 */
	const char *road_path;
	/*
	 * TLS judged by the caller, instead of ca_file: a fresh SSL_CTX for this attempt, given back
	 * with free_tls once the library has its own reference; a negative error fails the attempt.
	 */
	int (*make_tls)(void *user, void **ret_ssl_ctx);
	void (*free_tls)(void *ssl_ctx);
	/* A connection failed or ended: what road and TLS have to say, "" if nothing; and is it one to retry slowly? */
	void (*explain)(void *user, char *out, size_t size, bool *ret_refused);
	/* Before each attempt: this will instead of will_payload, tied to the birth by what is in it. */
	int (*make_will)(void *user, struct buf *ret);
	/* Called from mqtt_poll_done only. */
	void (*on_state)(void *user, bool connected, const char *reason); /* connected: after all SUBACKs */
	void (*on_message)(void *user, const char *topic, const void *payload, size_t len, bool retained);
	void *user;
};

NODISCARD int mqtt_open(const struct mqtt_options *o, struct mqtt **ret);
/* Leave with a DISCONNECT (no will) if connected, and free. */
void mqtt_close(struct mqtt *m);

/* Fill *ret_poll (fd -1 if there is none now) and shorten *timeout_ms to when it wants to be called next. */
void mqtt_poll_prepare(struct mqtt *m, struct pollfd *ret_poll, int *timeout_ms);
/* Do what is due; `revents` of that descriptor. */
void mqtt_poll_done(struct mqtt *m, short revents);

bool mqtt_is_connected(const struct mqtt *m);

/* Hand a message to the connection: -ENOTCONN while there is none (nothing is queued then). */
NODISCARD int mqtt_publish(struct mqtt *m, const char *topic, const void *payload, size_t len, int qos,
			   bool retain);

/* Have what is retained under one of the subscriptions sent again, to on_message. -ENOTCONN. */
NODISCARD int mqtt_ask_retained(struct mqtt *m, const char *filter);

/* Give up the current wait and connect now (a network came up, the user asked). */
void mqtt_retry_now(struct mqtt *m);

struct mqtt_stats {
	uint64_t connects, failures, messages_in, messages_out;
	unsigned keepalive_s; /* of this or the next connection */
	uint64_t heard_ms; /* by the boot clock: the last bytes of this or the last connection; 0: none */
	char last_reason[256]; /* in words */
};
void mqtt_stats(const struct mqtt *m, struct mqtt_stats *ret);

#endif
