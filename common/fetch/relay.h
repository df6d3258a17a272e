/*
 * relay - the road to the broker: through proxies, past slow resolvers and broken
 * address families, for libmosquitto, which knows none of that.
 *
 * It listens on a socket in a folder of ours, takes connections of this very process
 * only, and each leads to the one configured broker. It dials with libcurl: directly
 * (addresses raced, IPv6 and IPv4), through an HTTP proxy by CONNECT (Basic, Digest,
 * NTLM with the user of its address, Negotiate with a ticket where there is none), or through SOCKS5 with the name resolved there. TLS passes through
 * untouched, end to end. It runs in a thread of its own with two small buffers;
 * nothing in it can hold up the loop that keeps MQTT alive.
 *
 * Not a SOCKS5 front, although libmosquitto speaks that: behind one, 2.0.11 forgets
 * its CONNECT properties (session expiry, packet limit), as seen on the wire.
 */
#ifndef SELFRIGHT_FETCH_RELAY_H
#define SELFRIGHT_FETCH_RELAY_H

#include "base/attr.h"
#include "fetch/resolve.h"
#include "os/os.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct relay;

struct relay_options {
	const struct os *os;
	int dirfd; /* a folder only we can enter: the socket `relay.sock` and `addresses` lie there; borrowed */
	const char *host; /* of the broker */
	unsigned port;
	const char *const *addresses; /* go there instead of asking a resolver; may be empty */
	size_t address_count;
	const char *proxy; /* "http://[user:password@]host[:port]" or "socks5h://..."; NULL: straight */
	unsigned resolve_ms, connect_ms; /* deadlines; 0: 5 s, 10 s */
	unsigned silence_ms; /* TCP_USER_TIMEOUT: unacknowledged for so long is dead; 0: 90 s */
	int (*lookup)(const char *host, struct resolve_list *ret); /* as in resolve.h */
};

/* Strings are copied. */
NODISCARD int relay_start(const struct relay_options *o, struct relay **ret);
/* Ends the connection there is and frees; the next start takes the socket's place. */
void relay_stop(struct relay *r);

/*
 * Who answered on the connection there is was the broker: its certificate and its words said so. Only then its address
 * is kept for times without a resolver; a captive portal, or a resolver that lies, shall not take the place of the last
 * good ones. From any thread.
 */
void relay_proved(struct relay *r);

/* Where libmosquitto connects to: a Unix socket's path, for this process. Borrowed. */
const char *relay_path(const struct relay *r);

enum relay_step { RELAY_IDLE, RELAY_RESOLVE, RELAY_DIAL, RELAY_UP, RELAY_ENDED };

struct relay_state {
	enum relay_step step; /* reached by the last connection */
	bool failed; /* there */
	char reason[256]; /* of the failure or the end, in words; "": none */
	long proxy_status; /* what the proxy answered to CONNECT; 0: nothing */
	bool wants_ticket; /* and of all it offers only Negotiate is left: a Kerberos ticket */
	char address[RESOLVE_ADDRESS_TEXT]; /* connected to; "": not */
	bool kept_address; /* the resolver was no help: from the last good ones */
};
/* A copy, at any time and from any thread. */
void relay_state(struct relay *r, struct relay_state *ret);

#endif
