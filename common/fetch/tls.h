/*
 * tls - how a TLS connection of ours is judged, for libcurl and for libmosquitto alike
 * (libssl: here only).
 *
 * Certificates are judged at the later of the time floor and the clock, so that a node
 * that wakes up in 1970 still gets its update. The floor only says that it is not
 * earlier than that: where the clock is known to be wrong, or nobody set it, a
 * certificate that seems to begin in the future proves nothing and is taken.
 *
 *   tls_new -> { tls_context -> (handshake) -> tls_reason } ... -> tls_free
 *
 * After a failed handshake tls_reason() says in words whose fault it was: something
 * that opens TLS on the way, dates against a wrong clock, a wrong name, our own
 * certificate refused.
 */
#ifndef SELFRIGHT_FETCH_TLS_H
#define SELFRIGHT_FETCH_TLS_H

#include "base/attr.h"
#include "os/os.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* The time certificates are judged by; one for all connections of a process, read by its threads. */
struct tls_clock {
	const struct os *os;
	_Atomic int64_t floor; /* seconds since 1970; 0: none known */
	_Atomic bool synchronised; /* the kernel says that somebody set the clock */
};
void tls_clock_init(struct tls_clock *c, const struct os *os, int64_t floor);
/* Never goes back. */
void tls_clock_raise(struct tls_clock *c, int64_t floor);
/* The later of the two. */
int64_t tls_clock_now(const struct tls_clock *c);
/* It is before the floor, or nobody set it. */
bool tls_clock_is_a_guess(const struct tls_clock *c);

struct tls_options {
	const struct tls_clock *clock; /* borrowed; NULL: the system's clock */
	const char *host; /* the name or address the certificate must be for; a name is sent as SNI */
	unsigned port; /* for people */
	const char *ca_file; /* trust only this */
	const char *cert_file, *key_file; /* ours; NULL: none */
	const char *alpn; /* one protocol to offer; NULL: none */
};

struct tls;
/* Strings are copied. */
NODISCARD int tls_new(const struct tls_options *o, struct tls **ret);
void tls_free(struct tls *t);
DEFINE_FREEP(struct tls *, tls_free)

/*
 * A fresh SSL_CTX for one connection, files read anew: whoever takes it holds a reference
 * of its own; ours is given back by tls_context_free(). It must not outlive `t`.
 * -ERR_CONFIG with the reason in words when a file cannot be used.
 */
NODISCARD int tls_context(struct tls *t, void **ret_ssl_ctx);
void tls_context_free(void *ssl_ctx);

/* Judge the connections of an SSL_CTX that a library filled itself (CURLOPT_SSL_CTX_FUNCTION). */
NODISCARD int tls_watch(struct tls *t, void *ssl_ctx);

/* The connections after this one are to another place: the words name it. */
NODISCARD int tls_aim(struct tls *t, const char *host, unsigned port);

/* Why the last handshake failed; "" if TLS had no say in it. Borrowed until the next one. */
const char *tls_reason(const struct tls *t);
/* Only the date of the other side's certificate was wrong. */
bool tls_failed_by_date(const struct tls *t);
/* The other side has a certificate of another CA: something opens TLS on the way, or it is not ours. */
bool tls_failed_by_issuer(const struct tls *t);

/* The other side refused our own certificate, or what we offered. */
bool tls_refused_ours(const struct tls *t);

/* What the last handshake agreed on, for people: "TLSv1.3, issuer ..., until ..., ALPN ..."; "" before one. */
const char *tls_summary(const struct tls *t);

#endif
