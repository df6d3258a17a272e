/*
 * mqtt - libmosquitto driven by the caller's own poll loop (its threads die
 * silently: MQTT.md 1.3), MQTT 5, QoS 1 and 0, never 2.
 *
 *   mqtt_open -> loop { mqtt_poll_prepare -> poll -> mqtt_poll_done } 
 *
 * Connects and reconnects by itself with full jitter (base 1 s, cap 5 min; on
 * "not authorised" or a bad certificate cap 1 h; the counter falls back after 60 s
 * of a stable connection). A supervisor clock outside the library: no CONNACK in 30 s,
 * or no PINGRESP in 1.5 times the keepalive, closes the connection.
 */
#ifndef SELFRIGHT_MQTT_MQTT_H
#define SELFRIGHT_MQTT_MQTT_H

#include "base/attr.h"
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
	unsigned keepalive_s; /* 0: 60 */
	uint32_t session_expiry_s; /* MQTT 5 session expiry */
	uint32_t max_packet; /* asked of the broker, bytes; 0: 262144 */
	const char *will_topic; /* may be NULL */
	const void *will_payload;
	size_t will_len;
	uint32_t will_delay_s;
	const char *const *subscriptions; /* exact topics or filters, QoS 1, at every connect */
	size_t subscription_count;
	uint64_t retry_cap_ms; /* 0: 300000 */
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

/* Give up the current wait and connect now (a network came up, the user asked). */
void mqtt_retry_now(struct mqtt *m);

struct mqtt_stats {
	uint64_t connects, failures, messages_in, messages_out;
	char last_reason[128]; /* in words */
};
void mqtt_stats(const struct mqtt *m, struct mqtt_stats *ret);

#endif
