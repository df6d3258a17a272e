#include "crypto/certificate.h"

#include "base/err.h"
#include "base/text.h"
#include "base/timestamp.h"
#include "crypto/internal.h"

#include <mbedtls/asn1write.h>
#include <mbedtls/base64.h>
#include <mbedtls/oid.h>
#include <mbedtls/x509_crt.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	COMMON_NAME_MAX = 64, /* ub-common-name of RFC 5280 */
	NAMES_MAX = 32,
	EXTENSION_MAX = 9 * 1024, /* NAMES_MAX names of 253 bytes with their headers */
	CERTIFICATE_DER_MAX = 12 * 1024,
	SERIAL_BYTES = 16,
	GENERAL_NAME_DNS = MBEDTLS_ASN1_CONTEXT_SPECIFIC | 2,
	GENERAL_NAME_IP = MBEDTLS_ASN1_CONTEXT_SPECIFIC | 7,
};

/* Everything certificate_issue() takes hold of. */
struct issuing {
	mbedtls_x509write_cert out;
	mbedtls_pk_context holder;
	mbedtls_x509_crt ca;
};

static void issuing_done(struct issuing *i)
{
	mbedtls_x509write_crt_free(&i->out);
	mbedtls_pk_free(&i->holder);
	mbedtls_x509_crt_free(&i->ca);
}

static int parse_certificate(const char *pem, mbedtls_x509_crt *ret)
{
	size_t len = strnlen(pem, PEM_TEXT_MAX);
	int r;

	if (len == PEM_TEXT_MAX || !strstr(pem, "-----BEGIN CERTIFICATE-----"))
		return -ERR_SYNTAX;
	r = mbedtls_x509_crt_parse(ret, (const unsigned char *) pem, len + 1);
	if (r > 0) /* so many of several could not be read */
		return -ERR_SYNTAX;
	return r == 0 ? 0 : crypto_error(r, ERR_SYNTAX);
}

static bool is_name_text(const char *s, size_t max)
{
	size_t len = s ? strnlen(s, max + 1) : 0;

	if (len == 0 || len > max)
		return false;
	for (size_t i = 0; i < len; i++)
		if (s[i] < 0x20 || s[i] > 0x7e)
			return false;
	return true;
}

static bool is_host_name(const char *s)
{
	return is_name_text(s, 253) &&
	       s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_*")] == '\0';
}

/* Straight into the list: a string form ("CN=...") would have to be escaped first. */
static int add_to_name(mbedtls_asn1_named_data **list, const mbedtls_asn1_buf *oid, const mbedtls_asn1_buf *value)
{
	mbedtls_asn1_named_data *part;

	part = mbedtls_asn1_store_named_data(list, (const char *) oid->p, oid->len, value->p, value->len);
	if (!part)
		return -ENOMEM;
	part->val.tag = value->tag;
	return 0;
}

static int set_name(mbedtls_asn1_named_data **list, const char *common_name)
{
	static unsigned char cn[] = MBEDTLS_OID_AT_CN;
	unsigned char text[COMMON_NAME_MAX + 1];
	mbedtls_asn1_buf oid = { .p = cn, .len = sizeof(cn) - 1 };
	mbedtls_asn1_buf value = { .tag = MBEDTLS_ASN1_UTF8_STRING, .p = text };

	if (!is_name_text(common_name, COMMON_NAME_MAX))
		return -ERR_NAME;
	value.len = strlen(common_name);
	memcpy(text, common_name, value.len + 1);
	return add_to_name(list, &oid, &value);
}

/* The same parts with the same string types: GnuTLS compares issuer and subject byte by byte. */
static int copy_name(const mbedtls_x509_name *from, mbedtls_asn1_named_data **to)
{
	int r = 0;

	if (!from->oid.p) /* an empty name: nobody could be found by it */
		return -ERR_NAME;
	for (; from && r == 0; from = from->next)
		r = add_to_name(to, &from->oid, &from->val);
	return r;
}

static int set_serial(struct issuing *i)
{
	unsigned char serial[SERIAL_BYTES];
	int r = crypto_random(NULL, serial, sizeof(serial));

	if (r != 0)
		return -EIO;
	serial[0] = (unsigned char) ((serial[0] & 0x3f) | 0x40); /* positive, and always of this length */
#if MBEDTLS_VERSION_NUMBER >= 0x03040000
	r = mbedtls_x509write_crt_set_serial_raw(&i->out, serial, sizeof(serial));
#else
	mbedtls_mpi number;

	mbedtls_mpi_init(&number);
	r = mbedtls_mpi_read_binary(&number, serial, sizeof(serial));
	if (r == 0)
		r = mbedtls_x509write_crt_set_serial(&i->out, &number);
	mbedtls_mpi_free(&number);
#endif
	return r == 0 ? 0 : crypto_error(r, ERR_FIELD_VALUE);
}

/* "YYYYMMDDHHMMSS", by our own calendar: time_t ends in 2038 on 32-bit machines. */
static int format_time(int64_t seconds, char out[static 16])
{
	static const unsigned char digits[] = { 0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18 };
	char text[TIMESTAMP_LEN + 1];
	int64_t back = 0;

	timestamp_format(text, seconds);
	if (timestamp_parse(text, &back) < 0 || back != seconds)
		return -ERR_FIELD_VALUE; /* before 1970 or after 9999 */
	for (size_t i = 0; i < sizeof(digits); i++)
		out[i] = text[digits[i]];
	out[sizeof(digits)] = '\0';
	return 0;
}

static int set_validity(struct issuing *i, int64_t not_before, int64_t not_after)
{
	char from[16], to[16];
	int r;

	if (not_before >= not_after)
		return -ERR_FIELD_VALUE;
	r = format_time(not_before, from);
	if (r < 0)
		return r;
	r = format_time(not_after, to);
	if (r < 0)
		return r;
	r = mbedtls_x509write_crt_set_validity(&i->out, from, to);
	return r == 0 ? 0 : crypto_error(r, ERR_FIELD_VALUE);
}

/*
 * Extensions by hand where 2.28 has no helper. asn1write goes from the end of the
 * buffer to its front; each step answers the bytes it wrote, or an error.
 */
struct writer {
	unsigned char bytes[EXTENSION_MAX];
	unsigned char *at;
	int error;
};

static size_t written(const struct writer *w)
{
	return (size_t) (w->bytes + sizeof(w->bytes) - w->at);
}

static void writer_init(struct writer *w)
{
	w->at = w->bytes + sizeof(w->bytes);
	w->error = 0;
}

/* Put length and tag before the `len` bytes written last. */
static void write_header(struct writer *w, size_t len, unsigned char tag)
{
	if (w->error == 0)
		w->error = mbedtls_asn1_write_len(&w->at, w->bytes, len);
	if (w->error >= 0)
		w->error = mbedtls_asn1_write_tag(&w->at, w->bytes, tag);
	if (w->error > 0)
		w->error = 0;
}

static void write_primitive(struct writer *w, const void *data, size_t len, unsigned char tag)
{
	if (w->error == 0)
		w->error = mbedtls_asn1_write_raw_buffer(&w->at, w->bytes, data, len);
	if (w->error > 0)
		w->error = 0;
	write_header(w, len, tag);
}

static int write_extension(struct issuing *i, struct writer *w, const char *oid, size_t oid_len, bool critical)
{
	int r;

	write_header(w, written(w), MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE);
	if (w->error < 0)
		return -ERR_TOO_LARGE;
	r = mbedtls_x509write_crt_set_extension(&i->out, oid, oid_len, critical, w->at, written(w));
	return r == 0 ? 0 : crypto_error(r, ERR_FIELD_VALUE);
}

static int write_alternative_name(struct writer *w, const char *name)
{
	unsigned char address[16];

	if (name && str_starts(name, "DNS:")) {
		if (!is_host_name(name + 4))
			return -ERR_NAME;
		write_primitive(w, name + 4, strlen(name + 4), GENERAL_NAME_DNS);
	} else if (name && str_starts(name, "IP:")) {
		if (inet_pton(AF_INET, name + 3, address) == 1)
			write_primitive(w, address, 4, GENERAL_NAME_IP);
		else if (inet_pton(AF_INET6, name + 3, address) == 1)
			write_primitive(w, address, 16, GENERAL_NAME_IP);
		else
			return -ERR_NAME;
	} else {
		return -ERR_NAME;
	}
	return 0;
}

static int set_alternative_names(struct issuing *i, const struct certificate_request *request)
{
	struct writer w;

	if (request->name_count == 0)
		return 0;
	if (request->name_count > NAMES_MAX)
		return -ERR_TOO_LARGE;
	writer_init(&w);
	for (size_t n = request->name_count; n-- > 0;) {
		int r = write_alternative_name(&w, request->names[n]);

		if (r < 0)
			return r;
	}
	return write_extension(i, &w, MBEDTLS_OID_SUBJECT_ALT_NAME, MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_ALT_NAME),
			       false);
}

static int set_extended_usage(struct issuing *i, bool server, bool client)
{
	struct writer w;

	if (!server && !client)
		return 0;
	writer_init(&w);
	if (client)
		write_primitive(&w, MBEDTLS_OID_CLIENT_AUTH, MBEDTLS_OID_SIZE(MBEDTLS_OID_CLIENT_AUTH),
				MBEDTLS_ASN1_OID);
	if (server)
		write_primitive(&w, MBEDTLS_OID_SERVER_AUTH, MBEDTLS_OID_SIZE(MBEDTLS_OID_SERVER_AUTH),
				MBEDTLS_ASN1_OID);
	return write_extension(i, &w, MBEDTLS_OID_EXTENDED_KEY_USAGE,
			       MBEDTLS_OID_SIZE(MBEDTLS_OID_EXTENDED_KEY_USAGE), false);
}

/* Critical, as RFC 5280 wants it of a CA and 2.28's own helper does not do. A CA of ours signs no other CA. */
static int set_basic_constraints(struct issuing *i, bool is_ca)
{
	static const unsigned char yes = 0xff, no_more = 0;
	struct writer w;

	writer_init(&w);
	if (is_ca) {
		write_primitive(&w, &no_more, 1, MBEDTLS_ASN1_INTEGER);
		write_primitive(&w, &yes, 1, MBEDTLS_ASN1_BOOLEAN);
	}
	return write_extension(i, &w, MBEDTLS_OID_BASIC_CONSTRAINTS,
			       MBEDTLS_OID_SIZE(MBEDTLS_OID_BASIC_CONSTRAINTS), true);
}

static int set_extensions(struct issuing *i, const struct certificate_request *request)
{
	unsigned usage = request->is_ca ? MBEDTLS_X509_KU_KEY_CERT_SIGN | MBEDTLS_X509_KU_CRL_SIGN
					: MBEDTLS_X509_KU_DIGITAL_SIGNATURE;
	int r;

	r = set_basic_constraints(i, request->is_ca);
	if (r < 0)
		return r;
	r = set_alternative_names(i, request);
	if (r < 0)
		return r;
	r = set_extended_usage(i, request->server, request->client);
	if (r < 0)
		return r;
	r = mbedtls_x509write_crt_set_key_usage(&i->out, usage);
	if (r == 0)
		r = mbedtls_x509write_crt_set_subject_key_identifier(&i->out);
	if (r == 0)
		r = mbedtls_x509write_crt_set_authority_key_identifier(&i->out);
	return r == 0 ? 0 : crypto_error(r, ERR_FIELD_VALUE);
}

/* A CA whose name has several parts of one kind cannot be copied by 2.28: better no certificate than a useless one. */
static int check_issuer(const struct issuing *i, const char *pem)
{
	mbedtls_x509_crt made;
	int r;

	mbedtls_x509_crt_init(&made);
	r = parse_certificate(pem, &made);
	if (r == 0 && (made.issuer_raw.len != i->ca.subject_raw.len ||
		       memcmp(made.issuer_raw.p, i->ca.subject_raw.p, made.issuer_raw.len) != 0))
		r = -ERR_NAME;
	mbedtls_x509_crt_free(&made);
	return r;
}

int certificate_issue(const struct certificate_request *request, const struct private_key *ca_key,
		      const char *ca_pem, struct buf *out)
{
	CLEANUP(issuing_done)
	struct issuing i;
	unsigned char pem[CERTIFICATE_DER_MAX * 4 / 3 + 256];
	int r;

	mbedtls_x509write_crt_init(&i.out);
	mbedtls_pk_init(&i.holder);
	mbedtls_x509_crt_init(&i.ca);

	r = crypto_public_pem_parse(request->public_pem, &i.holder);
	if (r < 0)
		return r;
	if (!crypto_pk_has_curve(&i.holder, MBEDTLS_ECP_DP_SECP256R1))
		return -ERR_KEY;
	r = set_name(&i.out.MBEDTLS_PRIVATE(subject), request->common_name);
	if (r < 0)
		return r;
	if (ca_pem) {
		r = parse_certificate(ca_pem, &i.ca);
		if (r == 0 && !crypto_pk_is_pair(&i.ca.pk, &ca_key->pk))
			r = -ERR_KEY;
		if (r == 0)
			r = copy_name(&i.ca.subject, &i.out.MBEDTLS_PRIVATE(issuer));
	} else {
		r = crypto_pk_is_pair(&i.holder, &ca_key->pk) ? 0 : -ERR_KEY;
		if (r == 0)
			r = set_name(&i.out.MBEDTLS_PRIVATE(issuer), request->common_name);
	}
	if (r < 0)
		return r;

	mbedtls_x509write_crt_set_version(&i.out, MBEDTLS_X509_CRT_VERSION_3);
	mbedtls_x509write_crt_set_md_alg(&i.out, MBEDTLS_MD_SHA256);
	mbedtls_x509write_crt_set_subject_key(&i.out, &i.holder);
	mbedtls_x509write_crt_set_issuer_key(&i.out, (mbedtls_pk_context *) (uintptr_t) &ca_key->pk);
	r = set_serial(&i);
	if (r < 0)
		return r;
	r = set_validity(&i, request->not_before, request->not_after);
	if (r < 0)
		return r;
	r = set_extensions(&i, request);
	if (r < 0)
		return r;

	r = mbedtls_x509write_crt_pem(&i.out, pem, sizeof(pem), crypto_random, NULL);
	if (r != 0)
		return crypto_error(r, ERR_TOO_LARGE);
	if (ca_pem) {
		r = check_issuer(&i, (const char *) pem);
		if (r < 0)
			return r;
	}
	return buf_add_str(out, (const char *) pem);
}

/* 0, long expired, where the date is none: nobody is trusted by a date that cannot be read. */
static int64_t to_seconds(const mbedtls_x509_time *t)
{
	char text[64];
	int64_t seconds = 0;

	(void) snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02dZ", t->year, t->mon, t->day, t->hour,
			t->min, t->sec);
	return timestamp_parse(text, &seconds) < 0 ? 0 : seconds;
}

int certificate_read(const char *pem, struct certificate_info *ret)
{
	struct certificate_info info = { .common_name = "" };
	mbedtls_x509_crt crt;
	int r;

	mbedtls_x509_crt_init(&crt);
	r = parse_certificate(pem, &crt);
	for (const mbedtls_x509_name *n = &crt.subject; r == 0 && n; n = n->next) {
		if (n->oid.len != MBEDTLS_OID_SIZE(MBEDTLS_OID_AT_CN) ||
		    memcmp(n->oid.p, MBEDTLS_OID_AT_CN, n->oid.len) != 0)
			continue;
		/* Two names, or one with a NUL in it, would let two readers see two holders. */
		if (info.common_name[0] != '\0' || n->val.len == 0 || n->val.len >= sizeof(info.common_name) ||
		    memchr(n->val.p, '\0', n->val.len)) {
			r = -ERR_NAME;
			break;
		}
		memcpy(info.common_name, n->val.p, n->val.len);
		info.common_name[n->val.len] = '\0';
	}
	if (r == 0) {
		info.not_before = to_seconds(&crt.valid_from);
		info.not_after = to_seconds(&crt.valid_to);
		info.is_ca = crt.MBEDTLS_PRIVATE(ca_istrue) != 0;
		*ret = info;
	}
	mbedtls_x509_crt_free(&crt);
	return r;
}

int certificate_fits(const char *pem, const struct private_key *key)
{
	mbedtls_x509_crt crt;
	int r;

	mbedtls_x509_crt_init(&crt);
	r = parse_certificate(pem, &crt);
	if (r == 0 && !crypto_pk_is_pair(&crt.pk, &key->pk))
		r = -ERR_KEY;
	mbedtls_x509_crt_free(&crt);
	return r;
}

int certificate_is_of(const char *pem, const char *ca_pem)
{
	mbedtls_x509_crt crt, ca;
	uint32_t flags = 0;
	int r;

	mbedtls_x509_crt_init(&crt);
	mbedtls_x509_crt_init(&ca);
	r = parse_certificate(pem, &crt);
	if (r == 0)
		r = parse_certificate(ca_pem, &ca);
	if (r == 0) {
		r = mbedtls_x509_crt_verify(&crt, &ca, NULL, NULL, &flags, NULL, NULL);
		if (r == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED)
			r = flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED ? -ERR_SIGNATURE
								     : 0; /* dates are others' business */
		else if (r != 0)
			r = crypto_error(r, ERR_SIGNATURE);
	}
	mbedtls_x509_crt_free(&crt);
	mbedtls_x509_crt_free(&ca);
	return r;
}

/* --- bundles --- */

static const char begin_line[] = "-----BEGIN CERTIFICATE-----";
static const char end_line[] = "-----END CERTIFICATE-----";

static int digest_of(const char *base64, size_t len, char ret[static SHA256_HEX + 1])
{
	unsigned char der[CERTIFICATE_DER_MAX];
	size_t n = 0;
	int r = mbedtls_base64_decode(der, sizeof(der), &n, (const unsigned char *) base64, len);

	if (r == MBEDTLS_ERR_BASE64_BUFFER_TOO_SMALL)
		return -ERR_TOO_LARGE;
	return r != 0 || n == 0 ? -ERR_SYNTAX : sha256_hex(der, n, ret);
}

static int bundle_add(struct certificate_bundle *b, const char *begin, const char *end)
{
	struct bundled_certificate *c = &b->items[b->count];
	const char *body = begin + sizeof(begin_line) - 1;
	int r;

	if (b->count == CERTIFICATE_BUNDLE_MAX)
		return -ERR_TOO_LARGE;
	r = digest_of(body, (size_t) (end - body), c->sha256);
	if (r < 0)
		return r;
	if (certificate_bundle_find(b, c->sha256))
		return 0; /* twice is once */
	if (asprintf(&c->pem, "%.*s\n", (int) (end - begin) + (int) sizeof(end_line) - 1, begin) < 0) {
		c->pem = NULL;
		return -ENOMEM;
	}
	b->count++;
	return 0;
}

int certificate_bundle_read(const char *text, struct certificate_bundle *ret)
{
	struct certificate_bundle b = { .count = 0 };
	int r = 0;

	for (const char *begin; r == 0 && (begin = strstr(text, begin_line));) {
		const char *end = strstr(begin, end_line), *again = strstr(begin + 1, begin_line);

		/* One without an end, or with another's beginning before it, is torn. */
		r = !end || (again && again < end) ? -ERR_SYNTAX : bundle_add(&b, begin, end);
		if (r == 0)
			text = end + sizeof(end_line) - 1;
	}
	if (r < 0) {
		certificate_bundle_done(&b);
		return r;
	}
	*ret = b;
	return 0;
}

void certificate_bundle_done(struct certificate_bundle *b)
{
	if (!b)
		return;
	for (size_t i = 0; i < b->count; i++)
		free(b->items[i].pem);
	b->count = 0;
}

const struct bundled_certificate *certificate_bundle_find(const struct certificate_bundle *b, const char *sha256)
{
	for (size_t i = 0; i < b->count; i++)
		if (strcmp(b->items[i].sha256, sha256) == 0)
			return &b->items[i];
	return NULL;
}

int certificate_bundle_write(const struct bundled_certificate *c, struct buf *out)
{
	return buf_add_str(out, c->pem);
}
