#include "server-stub/signer/keys.h"

#include "base/err.h"
#include "crypto/key.h"
#include "json/build.h"
#include "json/json.h"
#include "os/durable.h"
#include "tuf/tuf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_FILE_MAX = 16 * 1024 };

static const char *ring_name(int ring)
{
	return ring == SIGNER_CONTROL ? "control" : signer_rules[ring].name;
}

/* "<role>-<n>.pem": which ring, or -1. */
static int ring_of_file(const char *file)
{
	const char *dash = strrchr(file, '-');
	size_t digits = dash ? strspn(dash + 1, "0123456789") : 0;

	if (digits == 0 || !str_eq(dash + 1 + digits, ".pem"))
		return -1;
	for (int i = 0; i < SIGNER_RING_COUNT; i++)
		if (strlen(ring_name(i)) == (size_t) (dash - file) && str_starts(file, ring_name(i)))
			return i;
	return -1;
}

static int load_key(const struct os *os, int dirfd, const char *file, struct private_key **ret)
{
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(KEY_FILE_MAX);
	int r = file_read(os, dirfd, file, KEY_FILE_MAX, &pem);

	if (r >= 0)
		r = private_key_load(pem.data, pem.len, NULL, ret);
	if (pem.data)
		explicit_bzero(pem.data, pem.len);
	return r;
}

static int ring_add(const struct os *os, int dirfd, const char *file, struct signer_ring *ring)
{
	CLEANUP(private_key_freep)
	struct private_key *key = NULL;
	CLEANUP(buf_done)
	struct buf public = BUF_INIT(KEY_FILE_MAX);
	int r;

	if (ring->count == SIGNER_KEYS_PER_ROLE)
		return -ERR_TOO_LARGE;
	r = load_key(os, dirfd, file, &key);
	if (r >= 0)
		r = private_key_public_pem(key, &public);
	if (r < 0)
		return r;
	ring->keys[ring->count] = key;
	key = NULL;
	ring->public_pem[ring->count++] = buf_take(&public);
	return 0;
}

/* --- CAs --- */

struct found_ca {
	unsigned number;
	char sha256[SHA256_HEX + 1];
	struct buf pem;
};

struct found_cas {
	struct found_ca items[SIGNER_CAS_MAX];
	size_t count;
	unsigned highest; /* of all names, retired ones too: a number is never given twice */
};

static void found_cas_done(struct found_cas *f)
{
	for (size_t i = 0; i < f->count; i++)
		buf_done(&f->items[i].pem);
	f->count = 0;
}

void signer_ca_file(char out[static 32], unsigned number, const char *ending)
{
	if (number == 1)
		(void) snprintf(out, 32, "ca.%s", ending);
	else
		(void) snprintf(out, 32, "ca-%u.%s", number, ending);
}

/* "ca.crt", "ca-12.crt" and the same behind "retired-": its number; 0: no such name. */
static unsigned number_of_ca(const char *file, bool *ret_retired)
{
	unsigned number = 0;

	*ret_retired = str_starts(file, "retired-");
	if (*ret_retired)
		file += strlen("retired-");
	if (str_eq(file, "ca.crt"))
		return 1;
	if (!str_starts(file, "ca-") || file[3] < '1' || file[3] > '9')
		return 0;
	for (file += 3; *file >= '0' && *file <= '9' && number <= SIGNER_CA_NUMBER_MAX; file++)
		number = number * 10 + (unsigned) (*file - '0');
	return str_eq(file, ".crt") && number >= 2 && number <= SIGNER_CA_NUMBER_MAX ? number : 0;
}

static int add_ca(const struct os *os, int dirfd, const char *file, unsigned number, struct found_cas *f)
{
	CLEANUP(certificate_bundle_done)
	struct certificate_bundle one = { .count = 0 };
	struct found_ca c = { .number = number };
	size_t at = f->count;
	int r;

	if (f->count == SIGNER_CAS_MAX)
		return -ERR_TOO_LARGE;
	buf_init(&c.pem, KEY_FILE_MAX);
	r = file_read(os, dirfd, file, KEY_FILE_MAX, &c.pem);
	if (r >= 0)
		r = certificate_bundle_read(buf_str(&c.pem), &one);
	if (r >= 0 && one.count != 1)
		r = -ERR_SYNTAX;
	if (r < 0) {
		buf_done(&c.pem);
		return r;
	}
	memcpy(c.sha256, one.items[0].sha256, sizeof(c.sha256));
	for (; at > 0 && f->items[at - 1].number > number; at--)
		f->items[at] = f->items[at - 1];
	f->items[at] = c;
	f->count++;
	return 0;
}

static int find_cas(const struct os *os, int dirfd, struct found_cas *ret)
{
	CLEANUP(name_list_done)
	struct name_list files = { 0 };
	struct found_cas f = { .count = 0 };
	int r = dir_list(os, dirfd, ".", &files);

	for (size_t i = 0; r >= 0 && i < files.count; i++) {
		bool retired;
		unsigned number = number_of_ca(files.names[i], &retired);

		f.highest = number > f.highest ? number : f.highest;
		if (number > 0 && !retired)
			r = add_ca(os, dirfd, files.names[i], number, &f);
	}
	if (r < 0) {
		found_cas_done(&f);
		return r;
	}
	*ret = f;
	return 0;
}

int signer_ca_number(const struct os *os, int dirfd, const char *sha256, unsigned *ret_number, unsigned *ret_free)
{
	CLEANUP(found_cas_done)
	struct found_cas f = { .count = 0 };
	int r = find_cas(os, dirfd, &f);

	if (r < 0)
		return r;
	*ret_number = 0;
	*ret_free = f.highest + 1;
	for (size_t i = 0; i < f.count; i++)
		if (str_eq(f.items[i].sha256, sha256))
			*ret_number = f.items[i].number;
	return 0;
}

int signer_ca_is_whole(const struct os *os, int dirfd, unsigned number)
{
	CLEANUP(private_key_freep)
	struct private_key *key = NULL;
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(KEY_FILE_MAX);
	char file[32];
	int r;

	signer_ca_file(file, number, "key");
	r = load_key(os, dirfd, file, &key);
	signer_ca_file(file, number, "crt");
	if (r >= 0)
		r = file_read(os, dirfd, file, KEY_FILE_MAX, &pem);
	return r < 0 ? r : certificate_fits(buf_str(&pem), key);
}

/* Which one issues, as "ca-issuing" says. A name in it that is not here is no reason to take another one silently. */
static int choose_issuing(const struct os *os, int dirfd, const struct found_cas *f, size_t *ret)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(256);
	int r = file_read(os, dirfd, SIGNER_CA_ISSUING, text.max, &text);

	*ret = 0;
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	for (size_t i = 0; i < f->count; i++)
		if (text.len > SHA256_HEX && memcmp(text.data, f->items[i].sha256, SHA256_HEX) == 0 &&
		    text.data[SHA256_HEX] == '\n') {
			*ret = i;
			return 0;
		}
	return -ERR_CONFIG;
}

static int load_ca(const struct os *os, int dirfd, struct signer_keys *k)
{
	CLEANUP(found_cas_done)
	struct found_cas f = { .count = 0 };
	CLEANUP(buf_done)
	struct buf bundle = BUF_INIT(SIGNER_CAS_MAX * KEY_FILE_MAX);
	char file[32];
	size_t issuing = 0;
	int r = find_cas(os, dirfd, &f);

	if (r < 0 || f.count == 0)
		return r;
	r = choose_issuing(os, dirfd, &f, &issuing);
	signer_ca_file(file, f.items[issuing].number, "key");
	if (r >= 0)
		r = load_key(os, dirfd, file, &k->ca_key);
	if (r >= 0)
		r = certificate_fits(buf_str(&f.items[issuing].pem), k->ca_key);
	if (r >= 0)
		r = buf_add_str(&bundle, buf_str(&f.items[issuing].pem));
	for (size_t i = 0; r >= 0 && i < f.count; i++)
		if (i != issuing)
			r = buf_add_str(&bundle, buf_str(&f.items[i].pem));
	if (r < 0)
		return r;
	k->ca_pem = buf_take(&f.items[issuing].pem);
	k->ca_bundle = buf_take(&bundle);
	memcpy(k->ca_newest, f.items[f.count - 1].sha256, sizeof(k->ca_newest));
	return 0;
}

int signer_keys_load(const struct os *os, int dirfd, struct signer_keys *ret, char ret_file[static 256])
{
	CLEANUP(name_list_done)
	struct name_list files = { 0 };
	struct signer_keys k = { 0 };
	int r;

	(void) snprintf(ret_file, 256, "the folder");
	r = dir_list(os, dirfd, ".", &files);
	for (size_t i = 0; r >= 0 && i < files.count; i++) {
		int ring = ring_of_file(files.names[i]);

		if (ring < 0)
			continue;
		(void) snprintf(ret_file, 256, "%s", files.names[i]);
		r = ring_add(os, dirfd, files.names[i], &k.rings[ring]);
	}
	if (r >= 0) {
		(void) snprintf(ret_file, 256, "a CA (ca.key, ca.crt, ca-issuing)");
		r = load_ca(os, dirfd, &k);
	}
	if (r < 0) {
		signer_keys_done(&k);
		return r;
	}
	*ret = k;
	return 0;
}

void signer_keys_done(struct signer_keys *k)
{
	for (int i = 0; i < SIGNER_RING_COUNT; i++)
		for (size_t n = 0; n < k->rings[i].count; n++) {
			private_key_free(k->rings[i].keys[n]);
			free(k->rings[i].public_pem[n]);
		}
	private_key_free(k->ca_key);
	free(k->ca_pem);
	free(k->ca_bundle);
	*k = (struct signer_keys){ 0 };
}

int signer_ring_open(const struct signer_ring *ring, const void *metadata, size_t len, struct json **ret)
{
	int r = -ERR_THRESHOLD;

	for (size_t i = 0; i < ring->count; i++) {
		CLEANUP(tuf_keyring_freep)
		struct tuf_keyring *keys = NULL;

		r = tuf_keyring_single(ring->public_pem[i], &keys);
		if (r >= 0)
			r = tuf_envelope_open(metadata, len, keys, ret);
		if (r >= 0 || r == -ENOMEM)
			return r;
	}
	return r;
}

void signer_ring_write(const struct signer_ring *ring, struct json_node *parent, const char *name)
{
	struct json_node *array = node_array(parent, name);

	for (size_t i = 0; i < ring->count; i++)
		node_string(array, NULL, ring->public_pem[i]);
}
