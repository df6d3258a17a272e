#include "crypto/csr.h"

#include "base/err.h"
#include "base/text.h"
#include "crypto/internal.h"
#include "crypto/key.h"

#include <mbedtls/md.h>
#include <mbedtls/oid.h>
#include <mbedtls/x509_csr.h>

#include <stdint.h>
#include <stdio.h>
#include <string.h>

int csr_make(const struct private_key *key, const char *common_name, struct buf *out)
{
	mbedtls_x509write_csr request;
	unsigned char pem[CSR_PEM_MAX];
	char subject[ID_MAX + 4];
	int r;

	if (!guard_id(common_name)) /* so that nothing in it means anything to the reader of "CN=..." */
		return -ERR_NAME;
	(void) snprintf(subject, sizeof(subject), "CN=%s", common_name); /* an id always fits */
	mbedtls_x509write_csr_init(&request);
	mbedtls_x509write_csr_set_md_alg(&request, MBEDTLS_MD_SHA256);
	mbedtls_x509write_csr_set_key(&request, (mbedtls_pk_context *) (uintptr_t) &key->pk);
	r = mbedtls_x509write_csr_set_subject_name(&request, subject);
	if (r == 0)
		r = mbedtls_x509write_csr_pem(&request, pem, sizeof(pem), crypto_random, NULL);
	mbedtls_x509write_csr_free(&request);
	if (r != 0)
		return crypto_error(r, ERR_KEY);
	return buf_add_str(out, (const char *) pem);
}

static int take_name(const mbedtls_x509_name *subject, struct csr_info *info)
{
	bool found = false;

	for (const mbedtls_x509_name *n = subject; n && n->oid.p; n = n->next) {
		if (n->oid.len != MBEDTLS_OID_SIZE(MBEDTLS_OID_AT_CN) ||
		    memcmp(n->oid.p, MBEDTLS_OID_AT_CN, n->oid.len) != 0)
			continue;
		/* Two names, or one with a NUL in it, would let two readers see two holders. */
		if (found || n->val.len == 0 || n->val.len >= sizeof(info->common_name) ||
		    memchr(n->val.p, '\0', n->val.len))
			return -ERR_NAME;
		memcpy(info->common_name, n->val.p, n->val.len);
		info->common_name[n->val.len] = '\0';
		found = true;
	}
	return found && guard_id(info->common_name) ? 0 : -ERR_NAME;
}

/* mbedTLS parses a request without looking at its signature. */
static int check_signature(mbedtls_x509_csr *request)
{
	unsigned char hash[32];
	int r;

	if (request->MBEDTLS_PRIVATE(sig_md) != MBEDTLS_MD_SHA256)
		return -ERR_SIGNATURE;
	r = mbedtls_md(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), request->cri.p, request->cri.len, hash);
	if (r == 0)
		r = mbedtls_pk_verify(&request->pk, MBEDTLS_MD_SHA256, hash, sizeof(hash),
				      request->MBEDTLS_PRIVATE(sig).p, request->MBEDTLS_PRIVATE(sig).len);
	return r == 0 ? 0 : crypto_error(r, ERR_SIGNATURE);
}

static int take(mbedtls_x509_csr *request, struct csr_info *info)
{
	int r;

	if (!crypto_pk_has_curve(&request->pk, MBEDTLS_ECP_DP_SECP256R1))
		return -ERR_KEY;
	r = take_name(&request->subject, info);
	if (r < 0)
		return r;
	r = check_signature(request);
	if (r < 0)
		return r;
	r = mbedtls_pk_write_pubkey_pem(&request->pk, (unsigned char *) info->public_pem,
					sizeof(info->public_pem));
	return r == 0 ? 0 : crypto_error(r, ERR_KEY);
}

int csr_read(const char *pem, struct csr_info *ret)
{
	struct csr_info info = { .common_name = "" };
	size_t len = strnlen(pem, CSR_PEM_MAX + 1);
	mbedtls_x509_csr request;
	int r;

	if (len > CSR_PEM_MAX)
		return -ERR_TOO_LARGE;
	/* mbedTLS would take DER as well. */
	if (!str_starts(pem, "-----BEGIN CERTIFICATE REQUEST-----"))
		return -ERR_SYNTAX;
	mbedtls_x509_csr_init(&request);
	r = mbedtls_x509_csr_parse(&request, (const unsigned char *) pem, len + 1);
	r = r == 0 ? take(&request, &info) : crypto_error(r, ERR_SYNTAX);
	mbedtls_x509_csr_free(&request);
	if (r == 0)
		*ret = info;
	return r;
}
