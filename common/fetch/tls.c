#include "fetch/tls.h"

#include "base/err.h"
#include "base/timestamp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { NAME_BYTES = 160, REASON_BYTES = 512 };

struct tls {
	const struct tls_clock *clock;
	char *host, *ca_file, *cert_file, *key_file;
	unsigned port;
	unsigned char alpn[256]; /* a length byte and the name; alpn[0] 0: none */
	bool is_address;
	bool names_the_host; /* the context is ours: the library knows only the relay's socket */
	char reason[REASON_BYTES], summary[REASON_BYTES];
	bool by_date, by_issuer, refused_ours;
};

void tls_clock_init(struct tls_clock *c, const struct os *os, int64_t floor)
{
	c->os = os;
	atomic_init(&c->floor, floor);
	atomic_init(&c->synchronised, false);
}

void tls_clock_raise(struct tls_clock *c, int64_t floor)
{
	int64_t old = atomic_load(&c->floor);

	while (floor > old && !atomic_compare_exchange_weak(&c->floor, &old, floor))
		;
}

int64_t tls_clock_now(const struct tls_clock *c)
{
	int64_t floor = atomic_load(&c->floor), clock = c->os->clock_real(c->os);

	return clock > floor ? clock : floor;
}

bool tls_clock_is_a_guess(const struct tls_clock *c)
{
	return !atomic_load(&c->synchronised) || c->os->clock_real(c->os) < atomic_load(&c->floor);
}

/* --- where an SSL_CTX finds its judge --- */

/* OpenSSL gives out such numbers once per process; nothing but the number is shared. */
static int index_of_ours = -1;
static pthread_once_t index_once = PTHREAD_ONCE_INIT;

static void make_index(void)
{
	index_of_ours = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

static struct tls *of_connection(const SSL *ssl)
{
	return ssl ? SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), index_of_ours) : NULL;
}

/* --- words --- */

static void say_name(const X509_NAME *name, char out[static NAME_BYTES])
{
	BIO *bio = BIO_new(BIO_s_mem());
	int n = 0;

	if (bio && X509_NAME_print_ex(bio, name, 0, XN_FLAG_ONELINE & ~ASN1_STRFLGS_ESC_MSB) >= 0)
		n = BIO_read(bio, out, NAME_BYTES - 1); /* a longer one is cut */
	out[n > 0 ? n : 0] = '\0';
	for (char *p = out; *p; p++)
		if (*p < 0x20 || *p > 0x7e)
			*p = '?'; /* a name from outside */
	BIO_free(bio);
}

static void say_date(const ASN1_TIME *at, char out[static TIMESTAMP_LEN + 1])
{
	struct tm tm;

	if (ASN1_TIME_to_tm(at, &tm) == 1)
		timestamp_format(out, timegm(&tm));
	else
		(void) snprintf(out, TIMESTAMP_LEN + 1, "?");
}

static void say_clock(const struct tls *t, char out[static TIMESTAMP_LEN + 1])
{
	const struct os *os = t->clock ? t->clock->os : &os_posix;

	timestamp_format(out, os->clock_real(os));
}

/* The first failure is the one that names the fault; what follows it in the chain is its consequence. */
static void explain(struct tls *t, X509_STORE_CTX *store, int error)
{
	X509 *cert = X509_STORE_CTX_get_current_cert(store);
	char issuer[NAME_BYTES] = "?", subject[NAME_BYTES] = "?", from[TIMESTAMP_LEN + 1] = "?",
	     until[TIMESTAMP_LEN + 1] = "?", clock[TIMESTAMP_LEN + 1];

	if (t->reason[0])
		return;
	if (cert) {
		say_name(X509_get_issuer_name(cert), issuer);
		say_name(X509_get_subject_name(cert), subject);
		say_date(X509_get0_notBefore(cert), from);
		say_date(X509_get0_notAfter(cert), until);
	}
	say_clock(t, clock);
	switch (error) {
	case X509_V_ERR_CERT_HAS_EXPIRED:
	case X509_V_ERR_CERT_NOT_YET_VALID:
		t->by_date = true;
		(void) snprintf(
			t->reason, sizeof(t->reason),
			"TLS: the certificate of %s:%u is valid from %s to %s, and the clock here says %s: "
			"is the clock right, or was the certificate not renewed?",
			t->host, t->port, from, until, clock);
		break;
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		(void) snprintf(
			t->reason, sizeof(t->reason),
			"TLS: %s:%u shows a certificate for other names (%s): a wrong address, or something "
			"else answers there",
			t->host, t->port, subject);
		break;
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
	case X509_V_ERR_CERT_UNTRUSTED:
	case X509_V_ERR_INVALID_CA:
		t->by_issuer = true;
		(void) snprintf(
			t->reason, sizeof(t->reason),
			"TLS: the certificate of %s:%u was issued by '%s', which is not our CA: a firewall or "
			"proxy that opens TLS? ask for an exception for this address",
			t->host, t->port, issuer);
		break;
	default:
		(void) snprintf(t->reason, sizeof(t->reason), "TLS: the certificate of %s:%u: %s", t->host,
				t->port, X509_verify_cert_error_string(error));
		break;
	}
}

/* --- the two callbacks --- */

static int judge(int fine, X509_STORE_CTX *store)
{
	struct tls *t = of_connection(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
	int error;

	if (fine || !t)
		return fine;
	error = X509_STORE_CTX_get_error(store);
	/* Not before a time that is itself only a lower bound: nothing is proven. */
	if (error == X509_V_ERR_CERT_NOT_YET_VALID && t->clock && tls_clock_is_a_guess(t->clock)) {
		X509_STORE_CTX_set_error(store, X509_V_OK);
		return 1;
	}
	explain(t, store, error);
	return 0;
}

static void summarise(struct tls *t, const SSL *ssl)
{
	X509 *cert = SSL_get1_peer_certificate(ssl);
	char issuer[NAME_BYTES] = "?", until[TIMESTAMP_LEN + 1] = "?";
	const unsigned char *alpn = NULL;
	unsigned len = 0;

	if (cert) {
		say_name(X509_get_issuer_name(cert), issuer);
		say_date(X509_get0_notAfter(cert), until);
	}
	SSL_get0_alpn_selected(ssl, &alpn, &len);
	(void) snprintf(t->summary, sizeof(t->summary), "%s, issued by '%s', valid until %s, ALPN %.*s",
			SSL_get_version(ssl), issuer, until, len ? (int) len : 4,
			len ? (const char *) alpn : "none");
	X509_free(cert);
}

static void on_info(const SSL *ssl, int where, int value)
{
	struct tls *t = of_connection(ssl);

	if (!t)
		return;
	/*
	 * libmosquitto sends as SNI the name it connects to, which is our relay's socket. Here, before
	 * the first message is built, the name of the broker takes its place.
	 */
	if (where & SSL_CB_HANDSHAKE_START && t->names_the_host)
		(void) SSL_set_tlsext_host_name((SSL *) (uintptr_t) ssl, t->is_address ? NULL : t->host);
	if (where & SSL_CB_HANDSHAKE_DONE)
		summarise(t, ssl);
	/* Theirs about our certificate; ours is told by judge(). */
	if (where & SSL_CB_READ && where & SSL_CB_ALERT && value >> 8 == SSL3_AL_FATAL && !t->reason[0]) {
		t->refused_ours = true;
		(void) snprintf(t->reason, sizeof(t->reason),
				"TLS: %s:%u refused this node's certificate or offer: %s", t->host, t->port,
				SSL_alert_desc_string_long(value));
	}
}

/* --- contexts --- */

static bool is_address(const char *host)
{
	unsigned char bytes[16];

	return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}

int tls_watch(struct tls *t, void *ssl_ctx)
{
	SSL_CTX *ctx = ssl_ctx;

	t->reason[0] = '\0';
	t->by_date = t->by_issuer = t->refused_ours = false;
	(void) pthread_once(&index_once, make_index); /* cannot fail with these arguments */
	if (index_of_ours < 0 || SSL_CTX_set_ex_data(ctx, index_of_ours, t) != 1)
		return -ENOMEM;
	if (t->clock)
		X509_VERIFY_PARAM_set_time(SSL_CTX_get0_param(ctx), (time_t) tls_clock_now(t->clock));
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, judge);
	SSL_CTX_set_info_callback(ctx, on_info);
	return 0;
}

static int refuse(struct tls *t, const char *what, const char *path)
{
	const char *why = ERR_reason_error_string(ERR_peek_last_error());

	(void) snprintf(t->reason, sizeof(t->reason), "%s %s cannot be used: %s", what, path,
			why ? why : "unreadable");
	ERR_clear_error();
	return -ERR_CONFIG;
}

static int fill(struct tls *t, SSL_CTX *ctx)
{
	X509_VERIFY_PARAM *param = SSL_CTX_get0_param(ctx);
	int r;

	r = tls_watch(t, ctx);
	if (r < 0)
		return r;
	t->names_the_host = true;
	if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1)
		return -ERR_TLS;
	SSL_CTX_set_mode(ctx, SSL_MODE_AUTO_RETRY | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_RELEASE_BUFFERS);
	/* The chain, the dates and the name: all three, or there is no connection. */
	if ((t->is_address ? X509_VERIFY_PARAM_set1_ip_asc(param, t->host)
			   : X509_VERIFY_PARAM_set1_host(param, t->host, 0)) != 1)
		return -ENOMEM;
	ERR_clear_error();
	if (SSL_CTX_load_verify_locations(ctx, t->ca_file, NULL) != 1)
		return refuse(t, "the CA file", t->ca_file);
	if (t->cert_file && SSL_CTX_use_certificate_chain_file(ctx, t->cert_file) != 1)
		return refuse(t, "the certificate", t->cert_file);
	if (t->key_file && SSL_CTX_use_PrivateKey_file(ctx, t->key_file, SSL_FILETYPE_PEM) != 1)
		return refuse(t, "the key", t->key_file);
	if (t->alpn[0] && SSL_CTX_set_alpn_protos(ctx, t->alpn, t->alpn[0] + 1u) != 0)
		return -ENOMEM;
	return 0;
}

int tls_context(struct tls *t, void **ret_ssl_ctx)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	int r = ctx ? fill(t, ctx) : -ENOMEM;

	if (r < 0) {
		SSL_CTX_free(ctx);
		return r;
	}
	*ret_ssl_ctx = ctx;
	return 0;
}

void tls_context_free(void *ssl_ctx)
{
	SSL_CTX_free(ssl_ctx);
}

const char *tls_reason(const struct tls *t)
{
	return t->reason;
}

bool tls_failed_by_date(const struct tls *t)
{
	return t->by_date;
}

bool tls_refused_ours(const struct tls *t)
{
	return t->refused_ours;
}

bool tls_failed_by_issuer(const struct tls *t)
{
	return t->by_issuer;
}

const char *tls_summary(const struct tls *t)
{
	return t->summary;
}

/* --- birth and end --- */

static char *keep(const char *s, bool *failed)
{
	char *copy = s ? strdup(s) : NULL;

	if (s && !copy)
		*failed = true;
	return copy;
}

int tls_new(const struct tls_options *o, struct tls **ret)
{
	size_t len = o->alpn ? strlen(o->alpn) : 0;
	bool failed = false;
	struct tls *t;

	if (!o->host || len >= sizeof(t->alpn) - 1)
		return -ERR_CONFIG;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->clock = o->clock;
	t->port = o->port;
	t->host = keep(o->host, &failed);
	t->ca_file = keep(o->ca_file, &failed);
	t->cert_file = keep(o->cert_file, &failed);
	t->key_file = keep(o->key_file, &failed);
	if (failed) {
		tls_free(t);
		return -ENOMEM;
	}
	t->is_address = is_address(t->host);
	if (len > 0) {
		t->alpn[0] = (unsigned char) len;
		memcpy(t->alpn + 1, o->alpn, len);
	}
	*ret = t;
	return 0;
}

int tls_aim(struct tls *t, const char *host, unsigned port)
{
	char *copy = strdup(host);

	if (!copy)
		return -ENOMEM;
	free(t->host);
	t->host = copy;
	t->is_address = is_address(host);
	t->port = port;
	return 0;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	free(t->host);
	free(t->ca_file);
	free(t->cert_file);
	free(t->key_file);
	free(t);
}
