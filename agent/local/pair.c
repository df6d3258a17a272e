#include "agent/local/pair.h"

#include "base/err.h"
#include "base/text.h"
#include "crypto/certificate.h"
#include "crypto/key.h"
#include "os/durable.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

enum { PAIR_FILE_MAX = 64 * 1024, KEY_MODE = 0600, CERTIFICATE_MODE = 0644 };

static int load_key(const struct os *os, int dirfd, const char *name, struct private_key **ret)
{
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(PAIR_FILE_MAX);
	int r = file_read(os, dirfd, name, PAIR_FILE_MAX, &pem);

	if (r == 0)
		r = private_key_load(pem.data, pem.len, NULL, ret);
	if (pem.data)
		explicit_bzero(pem.data, pem.len);
	return r;
}

/* 1: the certificate is there and for this key; 0: it is not; negative: it cannot be told. */
static int fits(const struct os *os, int dirfd, const char *certificate, const char *key_name,
		struct certificate_info *ret)
{
	CLEANUP(private_key_freep)
	struct private_key *key = NULL;
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(PAIR_FILE_MAX);
	struct certificate_info info;
	int r = file_read(os, dirfd, certificate, PAIR_FILE_MAX, &pem);

	if (r == 0)
		r = load_key(os, dirfd, key_name, &key);
	if (r == 0)
		r = certificate_fits(buf_str(&pem), key);
	if (r == 0)
		r = certificate_read(buf_str(&pem), &info);
	if (r == -ENOENT || r == -ERR_KEY || r == -ERR_SYNTAX || r == -ERR_NAME || r == -ERR_TOO_LARGE)
		return 0; /* whatever it is, it is no pair */
	if (r < 0)
		return r;
	if (ret)
		*ret = info;
	return 1;
}

static int is_there(const struct os *os, int dirfd, const char *name)
{
	struct stat st;
	int r = os->fstatat(os, dirfd, name, &st);

	return r == 0 ? 1 : r == -ENOENT ? 0 : r;
}

/* rename and fsync of the folder: after 0 it is so after any power cut. */
static int rename_durably(const struct os *os, int dirfd, const char *from, const char *to)
{
	int r = os->renameat(os, dirfd, from, dirfd, to);

	return r < 0 ? r : dir_sync(os, dirfd, ".");
}

static int give(const struct os *os, int dirfd, const char *name, const struct pair_owner *owner)
{
	int r = owner->gives ? os->fchownat(os, dirfd, name, owner->uid, owner->gid) : 0;

	return r == -ENOENT ? 0 : r;
}

int pair_settle(const struct os *os, int dirfd, const struct pair_owner *owner)
{
	int r = fits(os, dirfd, PAIR_CERTIFICATE, PAIR_KEY, NULL);

	/* Between the two renames of pair_promote() the certificate in force is the one of the next key. */
	if (r == 0)
		r = fits(os, dirfd, PAIR_CERTIFICATE, PAIR_NEXT_KEY, NULL);
	else if (r > 0)
		r = 0;
	if (r > 0)
		r = rename_durably(os, dirfd, PAIR_NEXT_KEY, PAIR_KEY);
	if (r == 0)
		r = give(os, dirfd, PAIR_KEY, owner);
	if (r == 0)
		r = give(os, dirfd, PAIR_NEXT_KEY, owner);
	return r;
}

int pair_look(const struct os *os, int dirfd, struct pair_state *ret)
{
	struct pair_state s = { .enrolled = false };
	struct certificate_info info = { .not_before = 0 };
	int r = fits(os, dirfd, PAIR_CERTIFICATE, PAIR_KEY, &info);

	if (r < 0)
		return r;
	s.enrolled = r > 0;
	s.not_before = info.not_before;
	s.not_after = info.not_after;
	r = fits(os, dirfd, PAIR_NEXT_CERTIFICATE, PAIR_NEXT_KEY, NULL);
	if (r < 0)
		return r;
	s.next = r > 0;
	r = is_there(os, dirfd, PAIR_SECRET);
	if (r < 0)
		return r;
	s.secret = r > 0;
	*ret = s;
	return 0;
}

int pair_key(const struct os *os, int dirfd, struct private_key **ret)
{
	return load_key(os, dirfd, PAIR_KEY, ret);
}

static int make_next_key(const struct os *os, int dirfd, struct private_key **ret)
{
	CLEANUP(private_key_freep)
	struct private_key *key = NULL;
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(PAIR_FILE_MAX);
	int r = private_key_generate(&key);

	if (r == 0)
		r = private_key_save(key, NULL, &pem);
	/* On the disk before it is asked a certificate for: what is issued for it can always be used. */
	if (r == 0)
		r = durable_write_file(os, dirfd, PAIR_NEXT_KEY, pem.data, pem.len, KEY_MODE);
	if (pem.data)
		explicit_bzero(pem.data, pem.len);
	if (r < 0)
		return r;
	*ret = key;
	key = NULL;
	return 0;
}

int pair_next_key(const struct os *os, int dirfd, const struct pair_owner *owner, struct private_key **ret)
{
	struct private_key *key = NULL;
	int r = load_key(os, dirfd, PAIR_NEXT_KEY, &key);

	if (r == -ENOENT || r == -ERR_KEY || r == -ERR_TOO_LARGE)
		r = make_next_key(os, dirfd, &key);
	if (r == 0)
		r = give(os, dirfd, PAIR_NEXT_KEY, owner);
	if (r < 0) {
		private_key_free(key);
		return r;
	}
	*ret = key;
	return 0;
}

static int put(const struct os *os, int dirfd, const char *node, const char *certificate, const char *key_name,
	       const char *name)
{
	CLEANUP(private_key_freep)
	struct private_key *key = NULL;
	struct certificate_info info;
	int r = load_key(os, dirfd, key_name, &key);

	if (r == 0)
		r = certificate_fits(certificate, key);
	if (r == 0)
		r = certificate_read(certificate, &info);
	if (r < 0)
		return r;
	if (!str_eq(info.common_name, node))
		return -ERR_KEY;
	return durable_write_file(os, dirfd, name, certificate, strlen(certificate), CERTIFICATE_MODE);
}

int pair_put_first(const struct os *os, int dirfd, const char *node, const char *certificate)
{
	int r = put(os, dirfd, node, certificate, PAIR_KEY, PAIR_CERTIFICATE);

	if (r < 0)
		return r;
	/* Only now: the secret is what a lost certificate would be asked for with. */
	r = os->unlinkat(os, dirfd, PAIR_SECRET, 0);
	if (r < 0 && r != -ENOENT)
		return r;
	return dir_sync(os, dirfd, ".");
}

int pair_put_next(const struct os *os, int dirfd, const char *node, const char *certificate)
{
	return put(os, dirfd, node, certificate, PAIR_NEXT_KEY, PAIR_NEXT_CERTIFICATE);
}

int pair_promote(const struct os *os, int dirfd)
{
	int r = fits(os, dirfd, PAIR_NEXT_CERTIFICATE, PAIR_NEXT_KEY, NULL);

	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	/* The certificate first: pair_settle() knows by it which key it belongs to. */
	r = rename_durably(os, dirfd, PAIR_NEXT_CERTIFICATE, PAIR_CERTIFICATE);
	return r < 0 ? r : rename_durably(os, dirfd, PAIR_NEXT_KEY, PAIR_KEY);
}

int pair_drop_next(const struct os *os, int dirfd)
{
	static const char *const names[] = { PAIR_NEXT_CERTIFICATE, PAIR_NEXT_KEY };
	bool removed = false;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		int r = os->unlinkat(os, dirfd, names[i], 0);

		if (r < 0 && r != -ENOENT)
			return r;
		removed |= r == 0;
	}
	return removed ? dir_sync(os, dirfd, ".") : 0;
}

int pair_secret(const struct os *os, int dirfd, struct buf *ret)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(PAIR_FILE_MAX);
	int r = file_read(os, dirfd, PAIR_SECRET, PAIR_FILE_MAX, &text);

	if (r == 0)
		r = buf_add(ret, text.data, text.len - (text.len > 0 && text.data[text.len - 1] == '\n'));
	if (text.data)
		explicit_bzero(text.data, text.len);
	return r;
}
