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

static int load_ca(const struct os *os, int dirfd, struct signer_keys *k)
{
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(KEY_FILE_MAX);
	int r;

	r = file_read(os, dirfd, "ca.crt", KEY_FILE_MAX, &pem);
	if (r == -ENOENT)
		return 0;
	if (r >= 0)
		r = load_key(os, dirfd, "ca.key", &k->ca_key);
	if (r < 0)
		return r;
	k->ca_pem = buf_take(&pem);
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
		(void) snprintf(ret_file, 256, "ca.key or ca.crt");
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
