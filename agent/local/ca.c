#include "agent/local/ca.h"

#include "base/err.h"
#include "base/text.h"
#include "crypto/certificate.h"
#include "os/durable.h"
#include "tuf/tuf.h"

#include <errno.h>
#include <string.h>

enum { CA_MODE = 0644 };

static int write_if(const struct certificate_bundle *b, const struct certificate_bundle *except,
		    const struct tuf_ca *retired, struct buf *out, bool *ret_left_out)
{
	for (size_t i = 0; i < b->count; i++) {
		const struct bundled_certificate *c = &b->items[i];
		int r;

		if (except && certificate_bundle_find(except, c->sha256))
			continue;
		if (retired && tuf_ca_is_retired(retired, c->sha256)) {
			*ret_left_out = true;
			continue;
		}
		r = certificate_bundle_write(c, out);
		if (r < 0)
			return r;
	}
	return 0;
}

int ca_compose(const char *present, const struct tuf_ca *said, struct ca_change *ret)
{
	CLEANUP(certificate_bundle_done)
	struct certificate_bundle have = { .count = 0 };
	struct ca_change c = { .grows = false };
	bool unused = false;
	int r = certificate_bundle_read(present, &have);

	buf_init(&c.grown, CA_FILE_MAX);
	buf_init(&c.final, CA_FILE_MAX);
	for (size_t i = 0; r == 0 && i < said->trusted.count; i++)
		c.grows = c.grows || !certificate_bundle_find(&have, said->trusted.items[i].sha256);
	if (r == 0)
		r = write_if(&have, NULL, NULL, &c.grown, &unused);
	if (r == 0)
		r = write_if(&said->trusted, &have, NULL, &c.grown, &unused);
	if (r == 0)
		r = write_if(&have, NULL, said, &c.final, &c.drops);
	if (r == 0)
		r = write_if(&said->trusted, &have, NULL, &c.final, &unused);
	if (r < 0) {
		ca_change_done(&c);
		return r;
	}
	*ret = c;
	return 0;
}

void ca_change_done(struct ca_change *c)
{
	if (!c)
		return;
	buf_done(&c->grown);
	buf_done(&c->final);
}

int ca_read(const struct os *os, int dirfd, struct buf *ret)
{
	return file_read(os, dirfd, CA_FILE, CA_FILE_MAX, ret);
}

int ca_issuer_of(const struct os *os, int dirfd, const char *certificate, char ret_sha256[static SHA256_HEX + 1])
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(CA_FILE_MAX), own = BUF_INIT(CA_FILE_MAX);
	CLEANUP(certificate_bundle_done)
	struct certificate_bundle have = { .count = 0 };
	int r = file_read(os, dirfd, certificate, own.max, &own);

	if (r == 0)
		r = ca_read(os, dirfd, &text);
	if (r == 0)
		r = certificate_bundle_read(buf_str(&text), &have);
	if (r < 0)
		return r;
	for (size_t i = 0; i < have.count; i++)
		if (certificate_is_of(buf_str(&own), have.items[i].pem) == 0) {
			memcpy(ret_sha256, have.items[i].sha256, SHA256_HEX + 1);
			return 0;
		}
	return -ERR_SIGNATURE;
}

/* What is in force is kept under the other name first; the rename within the last write is the moment of change. */
static int replace(const struct os *os, int dirfd, const struct buf *text)
{
	CLEANUP(buf_done)
	struct buf before = BUF_INIT(CA_FILE_MAX);
	int r = ca_read(os, dirfd, &before);

	if (r == 0)
		r = durable_write_file(os, dirfd, CA_BEFORE_FILE, before.data, before.len, CA_MODE);
	if (r < 0 && r != -ENOENT)
		return r;
	return durable_write_file(os, dirfd, CA_FILE, text->data, text->len, CA_MODE);
}

int ca_grow(const struct os *os, int dirfd, const struct buf *text)
{
	return replace(os, dirfd, text);
}

int ca_offer(const struct os *os, int dirfd, const struct buf *text)
{
	return durable_write_file(os, dirfd, CA_NEXT_FILE, text->data, text->len, CA_MODE);
}

int ca_promote(const struct os *os, int dirfd)
{
	CLEANUP(buf_done)
	struct buf next = BUF_INIT(CA_FILE_MAX);
	int r = file_read(os, dirfd, CA_NEXT_FILE, CA_FILE_MAX, &next);

	return r < 0 ? r : replace(os, dirfd, &next);
}

int ca_withdraw(const struct os *os, int dirfd)
{
	int r = os->unlinkat(os, dirfd, CA_NEXT_FILE, 0);

	return r == 0 ? dir_sync(os, dirfd, ".") : r == -ENOENT ? 0 : r;
}
